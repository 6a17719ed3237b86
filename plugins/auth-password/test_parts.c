/* SPDX-License-Identifier: Apache-2.0 */
/* The parts by themselves: addresses, codes, delays, successors, and the pool with threads. */
#include "check.h"
#include "hash.h"
#include "pool.h"
#include "successor.h"
#include "throttle.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- a host that is as small as can be ------------------------------------------- */

struct chatd_worker {
	int32_t index;
};
struct chatd_watch {
	int fd;
	void (*fn)(void *arg, uint32_t ready);
	void *arg;
};

static void *host_alloc(size_t n)
{
	return calloc(1, n);
}
static void host_random(void *p, size_t n)
{
	randombytes_buf(p, n);
}
static int32_t host_count(void)
{
	return 2;
}
static int32_t host_index(const chatd_worker *w)
{
	return w->index;
}
static void host_timer_set(
		chatd_worker *w, struct chatd_timer *t, int64_t ms, void (*fn)(void *arg), void *arg)
{
	(void)w;
	(void)ms;
	t->fn = fn;
	t->arg = arg;
}
static void host_timer_clear(struct chatd_timer *t)
{
	t->fn = NULL;
}
static struct chatd_watch watches[2];
static chatd_watch *host_watch(
		chatd_worker *w, int fd, uint32_t mask, void (*fn)(void *arg, uint32_t ready), void *arg)
{
	(void)mask;
	watches[w->index] = (struct chatd_watch){ fd, fn, arg };
	return &watches[w->index];
}
static void host_unwatch(chatd_watch *w)
{
	w->fn = NULL;
}
static const struct chatd_host host = { .struct_size = sizeof(host),
	.mem_alloc = host_alloc,
	.mem_free = free,
	.random = host_random,
	.worker_count = host_count,
	.worker_index = host_index,
	.timer_set = host_timer_set,
	.timer_clear = host_timer_clear,
	.watch_fd = host_watch,
	.unwatch = host_unwatch };

/* ---- text ------------------------------------------------------------------------ */

TEST(addresses_are_told_from_what_is_none)
{
	UNUSED;
	char got[EMAIL_MAX + 1];
	static const char *const good[] = { "a@b.cc", "first.last+tag@sub.example.org",
		"x_y-z=1@1.example", "o'neil@example.org" };
	static const char *const bad[] = { "", "a", "@b.cc", "a@", "a@b", "a@@b.cc", "a b@c.dd",
		"a@b..cc", "a@.b.cc", "a@b.cc.", "a@-b.cc", "a@b-.cc", ".a@b.cc", "a.@b.cc", "a..b@b.cc",
		"\"a\"@b.cc", "a@[127.0.0.1]", "a\r\nBcc:x@b.cc", "a@b.cc\n", "<a@b.cc>", "a@b_c.dd",
		"\xc3\xa9@b.cc", "a,b@c.dd",
		"1234567890123456789012345678901234567890123456789012345678901234x@b.cc" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(check_email(z(good[i]), got));
		assert_string_equal(got, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_non_null(check_email(z(bad[i]), got));
	}
	assert_non_null(check_email(chatd_str_of("a\0@b.cc", 7), got));
	assert_null(check_email(z("MiXed@Example.ORG"), got));
	assert_string_equal(got, "mixed@example.org");
}

TEST(nicknames_are_trimmed_and_cannot_fake_others)
{
	UNUSED;
	char got[NICK_MAX + 1];
	assert_null(chatd_nick_take(z("  Ann Lee "), got));
	assert_string_equal(got, "Ann Lee");
	assert_null(chatd_nick_take(z("\xed\x95\x9c\xea\xb8\x80"), got));
	assert_non_null(chatd_nick_take(z("   "), got));
	assert_null(chatd_nick_take(z("A\xe2\x80\x8bn\nn"), got)); /* zero width */
	assert_string_equal(got, "Ann");
	assert_null(chatd_nick_take(z("\xef\xbc\xa1nn"), got)); /* full width */
	assert_string_equal(got, "Ann");
	assert_non_null(chatd_nick_take(z("\xe2\x80\x8b"), got));
	assert_non_null(chatd_nick_take(z("123456789012345678901234567890123"), got));
	check_nickname_of("1234567890123456789012345678901234567890@b.cc", got);
	assert_true(strlen(got) <= NICK_CHARS - 6);
	check_device(z("Fire\x1b[31mfox\xe2\x80\xae"), got);
	assert_string_equal(got, "Fire[31mfox");
}

TEST(codes_survive_being_typed)
{
	UNUSED;
	unsigned char raw[16];
	char code[CODE_LEN + 1], typed[64], back[CODE_LEN + 1];
	for (int i = 0; i < 200; i++) {
		randombytes_buf(raw, sizeof(raw));
		check_code_write(raw, code);
		snprintf(typed, sizeof(typed), " %.5s-%.9s %s ", code, code + 5, code + 14);
		for (char *c = typed; *c; c++) {
			*c = (char)(*c == '0' ? 'O' : *c >= 'a' && *c <= 'z' ? *c - 32 : *c);
		}
		assert_true(check_code_read(z(typed), back));
		assert_string_equal(back, code);
	}
	assert_false(check_code_read(z(""), back));
	assert_false(check_code_read(z("0123456789012345678901234567890"), back));
	assert_false(check_code_read(z("2222222222222222222222222\xff"), back));
}

/* ---- hashes ------------------------------------------------------------------------ */

TEST(hashes_of_other_programs_are_known)
{
	UNUSED;
	/* From the reference's world: $2a$ by Spring, $2b$ by bcrypt.js, $2y$ by PHP. */
	assert_false(hash_verify("$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", NULL,
			(struct hash_pass){ "password123", 11 }));
	assert_true(hash_verify("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", NULL,
			(struct hash_pass){ "U*U", 3 }));
	assert_true(hash_verify("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", NULL,
			(struct hash_pass){ "U*U", 3 }));
	assert_false(hash_verify("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", NULL,
			(struct hash_pass){ "U*u", 3 }));
	assert_false(hash_verify("", NULL, (struct hash_pass){ "", 0 }));
	assert_false(hash_verify("*0", NULL, (struct hash_pass){ "x", 1 }));
	assert_false(hash_verify("$1$abc$def", NULL, (struct hash_pass){ "x", 1 }));
	assert_false(hash_verify("plain", NULL, (struct hash_pass){ "plain", 5 }));
}

TEST(r27_a_seeded_hash_is_only_good_for_its_password)
{
	UNUSED;
	char made[HASH_ROOM];
	struct hash_memory memory = { 0 };
	struct hash_params p = { .kind = HASH_ARGON2ID, .memory = 8192, .passes = 1 };
	assert_int_equal(hash_make(&p, &memory, (struct hash_pass){ "password123", 11 }, made), 0);
	assert_true(hash_verify(made, NULL, (struct hash_pass){ "password123", 11 }));
	assert_false(hash_verify(made, NULL, (struct hash_pass){ "password12", 10 }));
	assert_false(hash_outdated(&p, made));
	p.passes = 2;
	assert_true(hash_outdated(&p, made));
	p.kind = HASH_BCRYPT;
	p.bcrypt_cost = 4;
	assert_true(hash_outdated(&p, made));
	assert_int_equal(hash_make(&p, &memory, (struct hash_pass){ "password123", 11 }, made), 0);
	assert_true(hash_verify(made, NULL, (struct hash_pass){ "password123", 11 }));
	assert_false(hash_outdated(&p, made));
	hash_memory_finish(&memory);
}

TEST(argon2id_is_the_same_as_libsodiums)
{
	UNUSED;
	char made[HASH_ROOM], theirs[crypto_pwhash_STRBYTES];
	const struct hash_pass pass = { "password123", 11 }, other = { "password12", 10 };
	struct hash_memory memory = { 0 };
	struct hash_params p = { .kind = HASH_ARGON2ID, .memory = 1 << 16, .passes = 2 };
	for (int round = 0; round < 3; round++) { /* memory that is used again, and grows */
		assert_int_equal(hash_make(&p, &memory, pass, made), 0);
		assert_int_equal(crypto_pwhash_str_verify(made, pass.p, pass.n), 0);
		assert_int_not_equal(crypto_pwhash_str_verify(made, other.p, other.n), 0);
		assert_int_equal(crypto_pwhash_str_alg(
								 theirs, pass.p, pass.n, 2, 1 << 14, crypto_pwhash_ALG_ARGON2ID13),
				0);
		assert_true(hash_verify(theirs, &memory, pass));
		assert_false(hash_verify(theirs, &memory, other));
		hash_memory_rest(&memory);
		p.memory <<= 1;
	}
	hash_memory_finish(&memory);
	assert_int_equal(
			crypto_pwhash_str_alg(theirs, pass.p, pass.n, 3, 1 << 14, crypto_pwhash_ALG_ARGON2I13),
			0);
	assert_true(hash_verify(theirs, NULL, pass));
	static const char *const broken[] = { "$argon2id$", "$argon2id$v=19$m=16,t=2,p=1$",
		"$argon2id$v=19$m=16,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$short",
		("$argon2id$v=19$m=9999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$"
		 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") };
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		assert_false(hash_verify(broken[i], NULL, pass));
	}
}

/* ---- delays ------------------------------------------------------------------------- */

struct guess {
	struct throttle *t;
	int64_t now;
};

/* 0: it was tried. */
static int64_t guess(struct guess *g, const char *whom, const char *peer, int outcome)
{
	struct throttle_try a;
	struct throttle_who who = {
		.what = THROTTLE_LOGIN, .whom = z(whom), .peer = z(peer), .now = g->now
	};
	throttle_prepare(g->t, &who, &a);
	int64_t wait = throttle_begin(g->t, &a, g->now);
	throttle_end(g->t, &a, g->now, outcome);
	return wait;
}

TEST(the_owner_gets_in_from_where_they_were_before)
{
	UNUSED;
	char peer[40];
	struct guess g = { throttle_create(&host, 5, 900000), 1000000 };
	assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_RIGHT), 0);
	for (int i = 0; i < 1000; i++) { /* many addresses guess at one account */
		snprintf(peer, sizeof(peer), "192.0.%d.%d", i / 200, i % 200);
		(void)guess(&g, "ann", peer, THROTTLE_WRONG);
	}
	assert_true(guess(&g, "ann", "198.51.100.1", THROTTLE_NEITHER) > 0);
	assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_RIGHT), 0);
	for (int i = 0; i < 40; i++) { /* somebody in the same house guesses at everybody */
		snprintf(peer, sizeof(peer), "user%d", i);
		(void)guess(&g, peer, "10.0.0.1", THROTTLE_WRONG);
	}
	assert_true(guess(&g, "zed", "10.0.0.1", THROTTLE_NEITHER) > 0);
	assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_RIGHT), 0);
	/* From elsewhere the owner waits a minute at most, however long it went on. */
	g.now += 60000;
	assert_int_equal(guess(&g, "ann", "198.51.100.1", THROTTLE_RIGHT), 0);
	throttle_destroy(g.t);
}

TEST(delays_double_up_to_their_longest_and_are_forgotten)
{
	UNUSED;
	struct guess g = { throttle_create(&host, 5, 900000), 1000000 };
	for (int i = 0; i < 5; i++) {
		assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG), 0);
	}
	int64_t longest = 0, sum = 0;
	for (int i = 0; i < 15; i++) {
		int64_t wait = guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG);
		assert_true(wait > 0 && wait <= 900000 && wait >= longest);
		longest = wait;
		sum += wait;
		g.now += wait;
		assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG), 0);
	}
	assert_int_equal(longest, 900000);
	assert_true(sum > 3600000); /* twenty guesses took more than an hour */
	g.now += 900000 + 3600001;
	assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG), 0);
	assert_int_equal(guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG), 0);
	throttle_destroy(g.t);
}

static int64_t begin(struct throttle *t, const struct throttle_who *who, struct throttle_try *ret)
{
	throttle_prepare(t, who, ret);
	return throttle_begin(t, ret, who->now);
}

TEST(guesses_side_by_side_are_one_at_a_time_once_there_are_delays)
{
	UNUSED;
	struct throttle *t = throttle_create(&host, 5, 900000);
	struct throttle_try a, b;
	struct throttle_who who = {
		.what = THROTTLE_LOGIN, .whom = z("ann"), .peer = z("10.0.0.1"), .now = 5000
	};
	for (int i = 0; i < 5; i++) {
		assert_int_equal(begin(t, &who, &a), 0);
		throttle_end(t, &a, 5000, THROTTLE_WRONG);
	}
	who.now = 6000;
	assert_int_equal(begin(t, &who, &a), 0);
	assert_true(begin(t, &who, &b) > 0);
	throttle_end(t, &b, 6000, THROTTLE_RIGHT); /* was never begun */
	assert_true(begin(t, &who, &b) > 0);
	throttle_end(t, &a, 6000, THROTTLE_NEITHER);
	assert_int_equal(begin(t, &who, &b), 0);
	throttle_end(t, &b, 6000, THROTTLE_NEITHER);
	throttle_destroy(t);
}

TEST(one_ipv6_network_is_one_address)
{
	UNUSED;
	char peer[60], whom[20];
	struct guess g = { throttle_create(&host, 5, 900000), 1000000 };
	for (int i = 0; i < 20; i++) {
		snprintf(peer, sizeof(peer), "2001:db8:1:2::%d", i + 1);
		snprintf(whom, sizeof(whom), "user%d", i);
		assert_int_equal(guess(&g, whom, peer, THROTTLE_WRONG), 0);
	}
	assert_true(guess(&g, "ann", "2001:db8:1:2::ffff", THROTTLE_WRONG) > 0);
	assert_int_equal(guess(&g, "ann", "2001:db8:1:3::1", THROTTLE_WRONG), 0);
	throttle_destroy(g.t);
}

TEST(the_table_is_full_and_those_who_fail_most_are_remembered)
{
	UNUSED;
	char peer[40], whom[40];
	struct guess g = { throttle_create(&host, 5, 900000), 1000000 };
	for (int i = 0; i < 12; i++) {
		g.now += 900000;
		(void)guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG);
	}
	for (int i = 0; i < 100000; i++) {
		snprintf(peer, sizeof(peer), "10.%d.%d.%d", 1 + i / 62500, i / 250 % 250, i % 250);
		snprintf(whom, sizeof(whom), "u%d", i);
		(void)guess(&g, whom, peer, THROTTLE_WRONG);
	}
	assert_true(guess(&g, "ann", "10.0.0.1", THROTTLE_WRONG) > 0);
	throttle_destroy(g.t);
}

/* ---- successors ----------------------------------------------------------------------- */

TEST(a_token_has_one_successor_for_a_while)
{
	UNUSED;
	char next[CHATD_TOKEN_MAX], old[40];
	struct successors *s = successors_create(&host, 60000);
	snprintf(next, sizeof(next), "%s", "first");
	successors_agree(s, z("old"), 1000, next);
	assert_string_equal(next, "first");
	snprintf(next, sizeof(next), "%s", "second");
	successors_agree(s, z("old"), 61000, next);
	assert_string_equal(next, "first");
	snprintf(next, sizeof(next), "%s", "other");
	successors_agree(s, z("older"), 61000, next);
	assert_string_equal(next, "other");
	snprintf(next, sizeof(next), "%s", "third");
	successors_agree(s, z("old"), 61001, next);
	assert_string_equal(next, "third");
	for (int i = 0; i < 20000; i++) {
		snprintf(old, sizeof(old), "t%d", i);
		snprintf(next, sizeof(next), "%s", old);
		successors_agree(s, z(old), 62000, next);
		assert_string_equal(next, old);
	}
	successors_destroy(s);
}

/* ---- the pool, with its threads ---------------------------------------------------------- */

struct asked {
	struct hash_job job;
	int answers;
	chatd_status rc;
	struct pool_seat *again; /* submit another one from done() */
};

static void asked_done(void *arg, chatd_status rc)
{
	struct asked *a = arg;
	a->answers++;
	a->rc = rc;
	assert_int_equal(a->job.pass[0], 0); /* wiped */
	if (a->again) {
		struct pool_seat *seat = a->again;
		a->again = NULL;
		snprintf(a->job.pass, sizeof(a->job.pass), "%s", "x");
		a->job.n = 1;
		assert_int_equal(pool_submit(seat, &a->job), 0);
	}
}

static void prepare(struct asked *a)
{
	*a = (struct asked){ .job = { .kind = JOB_MAKE, .n = 8, .done = asked_done } };
	a->job.arg = a;
	snprintf(a->job.pass, sizeof(a->job.pass), "%s", "password");
}

/* Both workers' loops, until something was done. */
static void turn(void)
{
	struct pollfd p[2] = { { .fd = watches[0].fd, .events = POLLIN },
		{ .fd = watches[1].fd, .events = POLLIN } };
	assert_true(poll(p, 2, 20000) > 0);
	for (int i = 0; i < 2; i++) {
		if (p[i].revents) {
			watches[i].fn(watches[i].arg, 1);
		}
	}
}

struct rig {
	struct hash_params params;
	struct chatd_worker w[2];
	struct pool *pool;
	struct pool_seat seat[2];
};

static void rig(struct rig *r, size_t memory, int queue)
{
	*r = (struct rig){ .params = { .kind = HASH_ARGON2ID, .memory = memory, .passes = 1 },
		.w = { { 0 }, { 1 } } };
	r->pool = pool_create(&host,
			&(struct pool_conf){
					.params = &r->params, .threads = 2, .queue = queue, .wait_ms = 2000 });
	assert_non_null(r->pool);
	assert_int_equal(pool_sit(r->pool, &r->w[0], &r->seat[0]), 0);
	assert_int_equal(pool_sit(r->pool, &r->w[1], &r->seat[1]), 0);
}

TEST(jobs_of_two_workers_come_back_each_to_its_own)
{
	UNUSED;
	struct rig r;
	static struct asked a[20];
	rig(&r, 8192, 32);
	for (int i = 0; i < 20; i++) {
		prepare(&a[i]);
		a[i].again = i < 4 ? &r.seat[i % 2] : NULL;
		assert_int_equal(pool_submit(&r.seat[i % 2], &a[i].job), 0);
	}
	while (r.seat[0].jobs || r.seat[1].jobs) {
		turn();
	}
	for (int i = 0; i < 20; i++) {
		assert_int_equal(a[i].answers, i < 4 ? 2 : 1);
		assert_int_equal(a[i].rc, 0);
		assert_true(hash_verify(a[i].job.made, NULL,
				(struct hash_pass){ i < 4 ? "x" : "password", i < 4 ? 1 : 8 }));
	}
	pool_rise(&r.seat[0]);
	pool_rise(&r.seat[1]);
	pool_destroy(r.pool);
}

TEST(g_ovl_6_the_queue_is_bounded_and_waiting_ends)
{
	UNUSED;
	struct rig r;
	static struct asked a[8];
	rig(&r, 64 << 20, 2); /* slow: what is queued stays there for the test's next lines */
	for (int i = 0; i < 5; i++) {
		prepare(&a[i]);
		chatd_status rc = pool_submit(&r.seat[0], &a[i].job);
		assert_int_equal(rc, i < 4 ? 0 : -EAGAIN);
	}
	assert_int_equal(a[4].job.pass[0], 0);
	/* The third has waited for too long: it is answered, and never computed. */
	a[2].job.timer.fn(a[2].job.timer.arg);
	assert_int_equal(a[2].answers, 1);
	assert_int_equal(a[2].rc, -EBUSY);
	prepare(&a[5]);
	assert_int_equal(pool_submit(&r.seat[1], &a[5].job), 0); /* in its place */
	pool_rise(&r.seat[0]); /* a worker stops: what is queued ends, what runs is waited for */
	assert_int_equal(a[0].answers + a[1].answers + a[3].answers, 3);
	assert_int_equal(a[0].rc, 0);
	pool_rise(&r.seat[1]);
	assert_int_equal(a[5].answers, 1);
	pool_destroy(r.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_told_from_what_is_none),
		cmocka_unit_test(nicknames_are_trimmed_and_cannot_fake_others),
		cmocka_unit_test(codes_survive_being_typed),
		cmocka_unit_test(hashes_of_other_programs_are_known),
		cmocka_unit_test(argon2id_is_the_same_as_libsodiums),
		cmocka_unit_test(r27_a_seeded_hash_is_only_good_for_its_password),
		cmocka_unit_test(the_owner_gets_in_from_where_they_were_before),
		cmocka_unit_test(delays_double_up_to_their_longest_and_are_forgotten),
		cmocka_unit_test(guesses_side_by_side_are_one_at_a_time_once_there_are_delays),
		cmocka_unit_test(one_ipv6_network_is_one_address),
		cmocka_unit_test(the_table_is_full_and_those_who_fail_most_are_remembered),
		cmocka_unit_test(a_token_has_one_successor_for_a_while),
		cmocka_unit_test(jobs_of_two_workers_come_back_each_to_its_own),
		cmocka_unit_test(g_ovl_6_the_queue_is_bounded_and_waiting_ends),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

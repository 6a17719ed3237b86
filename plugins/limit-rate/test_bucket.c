/* SPDX-License-Identifier: Apache-2.0 */
/* The bucket and its table: properties, from random arrivals. */
#include "address.h"
#include "backend.h"

#include <chatd/kit.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define MS         ((nanos)1000000)
#define SECOND     (1000 * MS)

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* ---- any window ----------------------------------------------------------------------- */

/** Over any window that begins and ends with a grant: at most depth + rate x T + 1.  Counted
 *  in the time that tokens take, so that all numbers are whole. */
struct window {
	const struct rate *r;
	nanos spent, least; /**< tokens so far, minus the time so far; the least of it */
	int any;
};

static void granted(struct window *w, nanos at, int64_t cost)
{
	nanos before = w->spent - at;
	if (!w->any || before < w->least) {
		w->least = before;
	}
	w->any = 1;
	w->spent += cost * w->r->token;
	if (w->spent - at - w->least > w->r->depth + w->r->token) {
		fail_msg("too many: %lld tokens over what a window may have",
				(long long)((w->spent - at - w->least - w->r->depth) / w->r->token));
	}
}

TEST(no_window_has_more_than_a_burst_and_what_flows_in)
{
	UNUSED;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		uint64_t s = seed * 0x9e3779b97f4a7c15u;
		int64_t burst = 1 + (int64_t)(rnd(&s) % 200);
		struct rate r = rate_of(burst, 1 + (int64_t)(rnd(&s) % 6000));
		struct window w = { .r = &r };
		_Atomic nanos full_at = 0;
		struct drawn d;
		nanos now = 1000 * SECOND;
		for (int i = 0; i < 3000; i++) {
			if (rnd(&s) % 4 == 0) { /* some come together, some after a pause */
				now += (nanos)(rnd(&s) % (uint64_t)(4 * r.token + 1));
			}
			int64_t cost = rnd(&s) % 8 ? 1 : 1 + (int64_t)(rnd(&s) % (uint64_t)burst);
			if (bucket_draw(&full_at, &r, cost, now, &d) == 0) {
				granted(&w, now, cost);
				assert_true(d.used > 0 && d.used <= r.depth + r.token);
			}
		}
	}
}

TEST(whoever_waits_as_long_as_told_gets_in)
{
	UNUSED;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		uint64_t s = seed * 0x9e3779b97f4a7c15u;
		int64_t burst = 1 + (int64_t)(rnd(&s) % 150);
		struct rate r = rate_of(burst, 1 + (int64_t)(rnd(&s) % 6000));
		_Atomic nanos full_at = 0;
		struct drawn d;
		nanos now = SECOND;
		for (int i = 0; i < 500; i++) {
			int64_t cost = 1 + (int64_t)(rnd(&s) % (uint64_t)burst);
			if (bucket_draw(&full_at, &r, cost, now, &d) == 0) {
				continue;
			}
			/* Not much earlier ... */
			assert_true(d.wait > 0 && d.wait <= cost * r.token);
			nanos early = d.wait - r.token / 2 - 1;
			struct drawn again;
			if (early > 0) {
				assert_int_equal(bucket_draw(&full_at, &r, cost, now + early, &again), -EDQUOT);
			}
			now += d.wait; /* ... and then. */
			assert_int_equal(bucket_draw(&full_at, &r, cost, now, &again), 0);
		}
	}
}

/* The figures of the table of rights, by count. */
TEST(a_hundred_at_once_and_then_as_they_flow_in)
{
	UNUSED;
	static const int per_minute[] = { 200, 500 };
	for (int k = 0; k < 2; k++) {
		struct rate r = rate_of(100, per_minute[k]);
		_Atomic nanos full_at = 0;
		struct drawn d;
		int at_once = 0, in_a_minute = 0;
		nanos begin = 5 * SECOND;
		for (int i = 0; i < 500; i++) {
			at_once += bucket_draw(&full_at, &r, 1, begin, &d) == 0;
		}
		assert_int_equal(at_once, 100);
		for (nanos t = 0; t <= 60 * SECOND; t += 10 * MS) {
			in_a_minute += bucket_draw(&full_at, &r, 1, begin + t, &d) == 0;
		}
		assert_in_range(in_a_minute, per_minute[k] - 1, per_minute[k] + 1);
	}
}

TEST(a_clock_that_steps_neither_opens_nor_closes_the_bucket)
{
	UNUSED;
	struct rate r = rate_of(10, 60);
	_Atomic nanos full_at = 0;
	struct drawn d;
	nanos now = 1000000 * SECOND;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(bucket_draw(&full_at, &r, 1, now, &d), 0);
	}
	/* A day back: it is empty, and flows on at once. */
	now -= 86400 * SECOND;
	assert_int_equal(bucket_draw(&full_at, &r, 1, now, &d), -EDQUOT);
	assert_true(d.wait <= SECOND);
	assert_int_equal(bucket_draw(&full_at, &r, 1, now + SECOND, &d), 0);
	assert_int_equal(bucket_draw(&full_at, &r, 1, now + SECOND, &d), -EDQUOT);
	/* A day on: it is full, and no more. */
	now += 2 * 86400 * SECOND;
	int n = 0;
	for (int i = 0; i < 30; i++) {
		n += bucket_draw(&full_at, &r, 1, now, &d) == 0;
	}
	assert_int_equal(n, 10);
}

TEST(a_worker_whose_clock_is_behind_costs_nobody_a_token)
{
	UNUSED;
	struct rate r = rate_of(100, 200);
	_Atomic nanos full_at = 0;
	struct drawn d;
	for (int i = 0; i < 99; i++) {
		assert_int_equal(bucket_draw(&full_at, &r, 1, 1000 * SECOND + 20 * MS, &d), 0);
	}
	assert_int_equal(bucket_draw(&full_at, &r, 1, 1000 * SECOND, &d), 0);
	assert_int_equal(bucket_draw(&full_at, &r, 1, 1000 * SECOND, &d), -EDQUOT);
	assert_int_equal(bucket_draw(&full_at, &r, 1, 1000 * SECOND + 20 * MS, &d), -EDQUOT);
}

/* ---- threads (R16) ----------------------------------------------------------------------- */

enum { THREADS = 4, DRAWS = 20000 };

struct team {
	struct rate r;
	const struct backend *backend;
	void *store;
	_Atomic nanos clock;
	atomic_int ready;
	struct {
		pthread_t thread;
		uint64_t seed;
		struct team *team;
		nanos *at;
		size_t n;
	} member[THREADS];
};

/* Each finds the bucket by its key, like a session on its worker, and moves the clock a bit. */
static void *draw_many(void *arg)
{
	struct team *t = ((struct team *const *)arg)[0];
	int me = (int)(intptr_t)((void *const *)arg)[1];
	struct drawn d;
	struct bucket *b = t->backend->hold(t->store, CHATD_LIT("auth:ann"), atomic_load(&t->clock));
	atomic_fetch_add(&t->ready, 1);
	while (atomic_load(&t->ready) < THREADS) {
	}
	for (int i = 0; i < DRAWS; i++) {
		nanos now = atomic_fetch_add(&t->clock, (nanos)(rnd(&t->member[me].seed) % 2000));
		if (t->backend->draw(b, &t->r, 1, now, &d) == 0) {
			t->member[me].at[t->member[me].n++] = now;
		}
	}
	t->backend->release(b);
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	nanos x = *(const nanos *)a, y = *(const nanos *)b;
	return x < y ? -1 : x > y;
}

static void race(struct kit *k, uint64_t seed)
{
	static nanos at[THREADS * DRAWS];
	struct team t = { .r = rate_of(100, 30000000), .backend = &memory_backend };
	void *arg[THREADS][2];
	size_t n = 0;
	t.store = memory_create(kit_host(k), 1000);
	atomic_init(&t.clock, 1000 * SECOND);
	nanos begin = 1000 * SECOND;
	for (int i = 0; i < THREADS; i++) {
		t.member[i].seed = seed * 7919 + (uint64_t)i + 1;
		t.member[i].at = calloc(DRAWS, sizeof(nanos));
		arg[i][0] = &t;
		arg[i][1] = (void *)(intptr_t)i;
		pthread_create(&t.member[i].thread, NULL, draw_many, arg[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t.member[i].thread, NULL);
		memcpy(at + n, t.member[i].at, t.member[i].n * sizeof(nanos));
		n += t.member[i].n;
		free(t.member[i].at);
	}
	qsort(at, n, sizeof(nanos), by_time);
	/* A thread may be put aside between reading the clock and drawing: sums hold exactly, and
	 * windows where the tokens are compared with the whole. */
	nanos took = atomic_load(&t.clock) - begin;
	int64_t flowed = took / t.r.token;
	assert_true((int64_t)n <= 100 + flowed + 1);
	int64_t offered = (int64_t)THREADS * DRAWS;
	int64_t least = 100 + flowed < offered ? flowed * 9 / 10 : offered / 2;
	assert_true((int64_t)n >= least); /* it never starves */
	t.backend->destroy(t.store);
}

TEST(r16_no_draw_is_lost_between_threads)
{
	UNUSED;
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	for (uint64_t seed = 1; seed <= 12; seed++) {
		race(k, seed);
	}
	kit_free(k);
}

/* With the clock at a stand, any interleaving must grant a burst and not one more. */
static void *draw_at_once(void *arg)
{
	struct team *t = ((struct team *const *)arg)[0];
	int me = (int)(intptr_t)((void *const *)arg)[1];
	struct drawn d;
	struct bucket *b = t->backend->hold(t->store, CHATD_LIT("auth:ann"), SECOND);
	atomic_fetch_add(&t->ready, 1);
	while (atomic_load(&t->ready) < THREADS) {
	}
	for (int i = 0; i < 2000; i++) {
		t->member[me].n += t->backend->draw(b, &t->r, 1, SECOND, &d) == 0;
	}
	t->backend->release(b);
	return NULL;
}

TEST(r16_at_once_means_one_burst_however_many_threads)
{
	UNUSED;
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	for (int round = 0; round < 30; round++) {
		struct team t = { .r = rate_of(1000, 500), .backend = &memory_backend };
		void *arg[THREADS][2];
		size_t n = 0;
		t.store = memory_create(kit_host(k), 1000);
		for (int i = 0; i < THREADS; i++) {
			arg[i][0] = &t;
			arg[i][1] = (void *)(intptr_t)i;
			pthread_create(&t.member[i].thread, NULL, draw_at_once, arg[i]);
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(t.member[i].thread, NULL);
			n += t.member[i].n;
		}
		assert_int_equal(n, 1000);
		t.backend->destroy(t.store);
	}
	kit_free(k);
}

/* ---- the table ----------------------------------------------------------------------------- */

static struct chatd_str key(char room[32], int i)
{
	return chatd_str_of(room, (size_t)snprintf(room, 32, "key:%d", i));
}

TEST(memory_is_bounded_and_what_is_full_is_forgotten)
{
	UNUSED;
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	const struct backend *b = &memory_backend;
	void *m = memory_create(kit_host(k), 640);
	struct rate r = rate_of(10, 60);
	struct drawn d;
	char room[32];
	struct bucket *mine = b->hold(m, CHATD_LIT("mine"), SECOND);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(b->draw(mine, &r, 1, SECOND, &d), 0);
	}
	for (int i = 0; i < 20000; i++) {
		struct bucket *other = b->hold(m, key(room, i), SECOND);
		assert_int_equal(b->draw(other, &r, 5, SECOND, &d), 0);
		b->release(other);
		assert_true(memory_count(m) <= 640 + 64 + 1);
	}
	/* Whatever made room, it was not a bucket that somebody holds. */
	assert_int_equal(b->draw(mine, &r, 1, SECOND, &d), -EDQUOT);
	assert_ptr_equal(b->hold(m, CHATD_LIT("mine"), SECOND), mine);
	b->release(mine);
	b->release(mine);
	assert_true(memory_count(m) > 300);
	for (int i = 0; i < 64; i++) {
		b->tidy(m, SECOND);
	}
	assert_true(memory_count(m) > 300); /* nothing has flowed in yet */
	for (int i = 0; i < 64; i++) {
		b->tidy(m, 20 * SECOND);
	}
	assert_int_equal(memory_count(m), 0);
	b->destroy(m);
	kit_free(k);
}

TEST(what_a_session_holds_is_never_forgotten)
{
	UNUSED;
	enum { HELD = 20 };
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	const struct backend *b = &memory_backend;
	void *m = memory_create(kit_host(k), 64);
	struct rate r = rate_of(100, 60);
	struct bucket *held[HELD];
	struct drawn d;
	char room[32];
	for (int i = 0; i < HELD; i++) { /* as full as can be */
		held[i] = b->hold(m, key(room, -1 - i), SECOND);
	}
	for (int i = 0; i < 3000; i++) {
		struct bucket *other = b->hold(m, key(room, i), SECOND);
		assert_int_equal(b->draw(other, &r, 1, SECOND, &d), 0);
		b->release(other);
	}
	for (int i = 0; i < 64; i++) {
		b->tidy(m, 1000 * SECOND);
	}
	assert_int_equal(memory_count(m), HELD);
	for (int i = 0; i < HELD; i++) {
		assert_ptr_equal(b->hold(m, key(room, -1 - i), SECOND), held[i]);
	}
	b->destroy(m);
	kit_free(k);
}

TEST(the_emptiest_buckets_stay_when_room_is_needed)
{
	UNUSED;
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	const struct backend *b = &memory_backend;
	void *m = memory_create(kit_host(k), 64);
	struct rate r = rate_of(100, 60);
	struct drawn d;
	char room[32];
	struct bucket *bad = b->hold(m, CHATD_LIT("bad"), SECOND);
	assert_int_equal(b->draw(bad, &r, 100, SECOND, &d), 0);
	b->release(bad);
	for (int i = 0; i < 5000; i++) { /* a flood of names does not make it a clean slate */
		struct bucket *other = b->hold(m, key(room, i), SECOND);
		assert_int_equal(b->draw(other, &r, 1, SECOND, &d), 0);
		b->release(other);
	}
	bad = b->hold(m, CHATD_LIT("bad"), SECOND);
	assert_int_equal(b->draw(bad, &r, 1, SECOND, &d), -EDQUOT);
	b->release(bad);
	b->destroy(m);
	kit_free(k);
}

TEST(places_are_counted_exactly)
{
	UNUSED;
	struct kit *k =
			kit_new(&(const struct chatd_plugin){ CHATD_PLUGIN_HEADER, .name = "none" }, "");
	const struct backend *b = &memory_backend;
	void *m = memory_create(kit_host(k), 64);
	struct bucket *place[4];
	for (int i = 0; i < 3; i++) {
		assert_int_equal(b->hold_one_of(m, CHATD_LIT("x"), 3, SECOND, &place[i]), 0);
	}
	assert_int_equal(b->hold_one_of(m, CHATD_LIT("x"), 3, SECOND, &place[3]), -EDQUOT);
	assert_null(place[3]);
	b->release(place[1]);
	assert_int_equal(b->hold_one_of(m, CHATD_LIT("x"), 3, SECOND, &place[3]), 0);
	b->release(NULL);
	b->destroy(m);
	kit_free(k);
}

/* ---- addresses ------------------------------------------------------------------------------ */

static const char *key_of(const char *text)
{
	static char room[ADDRESS_KEY];
	struct address a;
	if (!address_parse(chatd_str_of(text, strlen(text)), &a)) {
		return "none";
	}
	address_key(&a, room);
	return room;
}

TEST(a_key_is_an_address_or_a_network_of_64_bits)
{
	UNUSED;
	assert_string_equal(key_of("192.0.2.1"), "192.0.2.1");
	assert_string_equal(key_of("::ffff:192.0.2.1"), "192.0.2.1");
	assert_string_equal(key_of("2001:db8::1"), "2001:0db8:0000:0000::/64");
	assert_string_equal(key_of("2001:DB8:0:0:ffff::2"), "2001:0db8:0000:0000::/64");
	assert_string_equal(key_of("2001:db8:0:1::1"), "2001:0db8:0000:0001::/64");
	assert_string_equal(key_of("unix"), "none");
	assert_string_equal(key_of(""), "none");
	assert_string_equal(key_of("192.0.2.1:80"), "none");
}

static int in_net(const char *net, const char *text)
{
	struct net n;
	struct address a;
	assert_true(net_parse(net, &n));
	assert_true(address_parse(chatd_str_of(text, strlen(text)), &a));
	return net_has(&n, &a);
}

TEST(nets_have_what_they_say)
{
	UNUSED;
	struct net n;
	assert_true(in_net("127.0.0.0/8", "127.255.0.1"));
	assert_false(in_net("127.0.0.0/8", "128.0.0.1"));
	assert_true(in_net("10.1.2.0/23", "10.1.3.255"));
	assert_false(in_net("10.1.2.0/23", "10.1.4.0"));
	assert_true(in_net("::1", "::1"));
	assert_false(in_net("::1", "::2"));
	assert_true(in_net("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(in_net("2001:db8::/33", "2001:db8:8000::1"));
	assert_true(in_net("0.0.0.0/0", "203.0.113.9"));
	assert_false(in_net("0.0.0.0/0", "2001:db8::1"));
	static const char *const bad[] = { "", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/",
		"10/8", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(net_parse(bad[i], &n));
	}
}

TEST(what_is_given_back_can_be_drawn_again)
{
	UNUSED;
	const struct rate r = rate_of(10, 60);
	_Atomic nanos at;
	struct drawn d;
	atomic_init(&at, 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(bucket_draw(&at, &r, 1, 5 * SECOND, &d), 0);
	}
	bucket_give(&at, &r, 3);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(bucket_draw(&at, &r, 1, 5 * SECOND, &d), i < 3 ? 0 : -EDQUOT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_window_has_more_than_a_burst_and_what_flows_in),
		cmocka_unit_test(whoever_waits_as_long_as_told_gets_in),
		cmocka_unit_test(a_hundred_at_once_and_then_as_they_flow_in),
		cmocka_unit_test(a_clock_that_steps_neither_opens_nor_closes_the_bucket),
		cmocka_unit_test(a_worker_whose_clock_is_behind_costs_nobody_a_token),
		cmocka_unit_test(r16_no_draw_is_lost_between_threads),
		cmocka_unit_test(r16_at_once_means_one_burst_however_many_threads),
		cmocka_unit_test(memory_is_bounded_and_what_is_full_is_forgotten),
		cmocka_unit_test(what_a_session_holds_is_never_forgotten),
		cmocka_unit_test(the_emptiest_buckets_stay_when_room_is_needed),
		cmocka_unit_test(places_are_counted_exactly),
		cmocka_unit_test(a_key_is_an_address_or_a_network_of_64_bits),
		cmocka_unit_test(nets_have_what_they_say),
		cmocka_unit_test(what_is_given_back_can_be_drawn_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

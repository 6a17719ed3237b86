/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin over a Redis that answers when the test says so; the scripts themselves are tested
 * with a real one, in tests/presence. */
#include <chatd/kit.h>

#include "presence.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

enum { CLAIM = 1, WAS_SWEPT, SYNC, SWEEP, GET, NODES, LOOK, CALLS = 64, WORDS = 14 };

struct call {
	uint32_t script;
	int32_t worker;
	chatd_redis_fn *fn;
	void *arg;
	size_t n;
	char argv[WORDS][120];
};

static struct fake {
	uint32_t n_scripts;
	int32_t up;
	void (*watch)(void *arg, int32_t up);
	void *watch_arg;
	struct call calls[CALLS];
	size_t n;
	struct kit *k;
} fake;

static chatd_status f_script(void *obj, const char *text, uint32_t *ret_id)
{
	(void)obj;
	assert_non_null(text);
	*ret_id = ++fake.n_scripts;
	return 0;
}

static chatd_status f_watch(void *obj, void (*fn)(void *arg, int32_t up), void *arg)
{
	(void)obj;
	fake.watch = fn;
	fake.watch_arg = arg;
	return 0;
}

static chatd_status f_subscribe(
		void *obj, struct chatd_str channel, chatd_redis_heard *fn, void *arg)
{
	(void)obj;
	(void)channel;
	(void)fn;
	(void)arg;
	return 0;
}

static chatd_status f_call(void *obj, chatd_worker *w, const struct chatd_redis_command *c,
		chatd_redis_fn *fn, void *arg)
{
	(void)obj;
	if (!fake.up || fake.n == CALLS) {
		return -EAGAIN;
	}
	struct call *call = &fake.calls[fake.n++];
	*call = (struct call){ .script = c->script, .fn = fn, .arg = arg, .n = c->n };
	call->worker = w == kit_worker(fake.k, 0) ? 0 : 1;
	for (size_t i = 0; i < c->n && i < WORDS; i++) {
		snprintf(call->argv[i], sizeof(call->argv[i]), "%.*s", (int)c->argv[i].n, c->argv[i].p);
	}
	return 0;
}

static chatd_status f_ask(
		void *obj, const struct chatd_redis_command *c, chatd_redis_fn *fn, void *arg)
{
	const struct chatd_redis_reply items[] = { { .type = CHATD_REDIS_INTEGER, .integer = 1 },
		{ .type = CHATD_REDIS_INTEGER, .integer = 1000 },
		{ .type = CHATD_REDIS_INTEGER, .integer = 0 } };
	const struct chatd_redis_reply claimed = { .type = CHATD_REDIS_ARRAY, .items = items, .n = 3 },
								   none = { .type = CHATD_REDIS_INTEGER };
	(void)obj;
	if (!fake.up) {
		return -EAGAIN;
	}
	fn(arg, 0, c->script == CLAIM ? &claimed : &none);
	return 0;
}

static int32_t f_is_up(void *obj)
{
	(void)obj;
	return fake.up;
}

static struct chatd_str f_prefix(void *obj)
{
	(void)obj;
	return chatd_str_of("t:", 2);
}

static const struct chatd_redis fake_vt = {
	.struct_size = sizeof(fake_vt),
	.script = f_script,
	.watch = f_watch,
	.subscribe = f_subscribe,
	.call = f_call,
	.ask = f_ask,
	.is_up = f_is_up,
	.prefix = f_prefix,
};

/* ---- answering ---------------------------------------------------------------------------- */

struct answer {
	struct call call;
	chatd_status rc;
	const struct chatd_redis_reply *r;
};

static void on_worker(void *arg)
{
	struct answer *a = arg;
	a->call.fn(a->call.arg, a->rc, a->r);
}

/* The oldest call of a script; fails if there is none. */
static void answer(uint32_t script, chatd_status rc, const struct chatd_redis_reply *r)
{
	size_t i = 0;
	while (i < fake.n && fake.calls[i].script != script) {
		i++;
	}
	if (i == fake.n && kit_failing(fake.k)) {
		return;
	}
	assert_true(i < fake.n);
	struct answer a = { fake.calls[i], rc, r };
	memmove(&fake.calls[i], &fake.calls[i + 1], (--fake.n - i) * sizeof(fake.calls[0]));
	kit_on(fake.k, a.call.worker, on_worker, &a);
}

static void answer_int(uint32_t script, int64_t v)
{
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_INTEGER, .integer = v };
	answer(script, 0, &r);
}

static void answer_claim(int64_t won, int64_t second, int64_t had)
{
	const struct chatd_redis_reply items[] = { { .type = CHATD_REDIS_INTEGER, .integer = won },
		{ .type = CHATD_REDIS_INTEGER, .integer = second },
		{ .type = CHATD_REDIS_INTEGER, .integer = had } };
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = items, .n = 3 };
	answer(CLAIM, 0, &r);
}

static size_t waiting(uint32_t script)
{
	size_t n = 0;
	for (size_t i = 0; i < fake.n; i++) {
		n += fake.calls[i].script == script;
	}
	return n;
}

static const struct call *first(uint32_t script)
{
	for (size_t i = 0; i < fake.n; i++) {
		if (fake.calls[i].script == script) {
			return &fake.calls[i];
		}
	}
	fail_msg("script %u was not called", script);
	return NULL;
}

static void drop_calls(uint32_t script)
{
	while (waiting(script)) {
		answer(script, -ETIMEDOUT, NULL);
	}
}

static void set_up(void *arg)
{
	fake.up = *(int *)arg;
	if (fake.watch) { /* init() came so far */
		fake.watch(fake.watch_arg, fake.up);
	}
}

static void link_is(int up)
{
	kit_on(fake.k, 0, set_up, &up);
}

static struct kit *start(void)
{
	static const struct kit_service services[] = { { CHATD_REDIS, &fake_vt, NULL },
		{ CHATD_STORE, NULL, NULL }, { NULL, NULL, NULL } };
	static const struct kit_conf conf = { .workers = 2, .services = services };
	fake = (struct fake){ .up = 1 };
	fake.k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	return fake.k;
}

/* With a lease and an epoch. */
static struct kit *start_registered(void)
{
	struct kit *k = start();
	link_is(1);
	answer_claim(1, 1000, 0); /* the candidate; no store numbers the epochs */
	answer_claim(1, 1000, 0);
	return k;
}

static void finish(struct kit *k)
{
	while (fake.n) {
		answer(fake.calls[0].script, -ECONNRESET, NULL);
	}
	fake.up = 0;
	kit_free(k);
}

/* ---- questions ---------------------------------------------------------------------------- */

struct question {
	const char *user;
	chatd_status rc;
	int32_t online, answers;
};

static void on_online(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct question *q = arg;
	q->rc = rc;
	q->online = rc == 0 && n == 1 ? online[0] : -1;
	q->answers++;
}

static void ask_get(void *arg)
{
	struct question *q = arg;
	struct chatd_service s = kit_provided(fake.k, CHATD_PRESENCE);
	const struct chatd_presence *p = s.vt;
	struct chatd_str user = chatd_str_of(q->user, strlen(q->user));
	assert_int_equal(p->get(s.obj, kit_worker(fake.k, 1), &user, 1, on_online, q), 0);
	assert_int_equal(q->answers, 0);
}

static struct question get(const char *user)
{
	struct question q = { .user = user };
	kit_on(fake.k, 1, ask_get, &q);
	return q;
}

TEST(a_login_waits_for_its_record)
{
	UNUSED;
	struct kit *k = start_registered();
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	kit_expect_waiting(k, 1);
	const struct call *sync = first(SYNC);
	assert_string_equal(sync->argv[0], "t:connection:ann");
	assert_string_equal(sync->argv[7], "ann");
	assert_string_equal(sync->argv[8], "0");
	assert_int_equal(sync->n, 13);
	answer_int(SYNC, 1);
	assert_true(kit_is_open(c));
	finish(k);
}

TEST(a_login_goes_on_when_redis_does_not_answer)
{
	UNUSED;
	struct kit *k = start_registered();
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	answer(SYNC, -ETIMEDOUT, NULL);
	assert_true(kit_is_open(c));
	kit_advance(k, 1000); /* and it is written again */
	answer_int(SYNC, 1);
	assert_int_equal(waiting(SYNC), 0);
	link_is(0);
	c = kit_open_on(k, 0, "bob", 0);
	assert_true(kit_is_open(c));
	finish(k);
}

TEST(only_the_last_session_lingers)
{
	UNUSED;
	struct kit *k = start_registered();
	struct kit_client *a = kit_open_on(k, 0, "ann", 0);
	answer_int(SYNC, 1);
	struct kit_client *b = kit_open_on(k, 1, "ann", 0);
	assert_string_equal(first(SYNC)->argv[8], "1"); /* the coming was told */
	answer_int(SYNC, 2);
	kit_close(a);
	assert_int_equal(first(SYNC)->n, 13);
	answer_int(SYNC, 1);
	kit_close(b);
	assert_int_equal(waiting(SYNC), 0);
	kit_advance(k, 5100);
	assert_int_equal(first(SYNC)->n, 11);
	answer_int(SYNC, 0);
	finish(k);
}

TEST(own_users_are_known_without_redis)
{
	UNUSED;
	struct kit *k = start_registered();
	kit_open_on(k, 1, "ann", 0);
	answer_int(SYNC, 1);
	link_is(0);
	struct question q = get("ann");
	assert_int_equal(q.answers, 1);
	assert_int_equal(q.online, 1);
	q = get("bob");
	assert_int_equal(q.answers, 1);
	assert_true(q.rc < 0);
	finish(k);
}

TEST(who_cannot_renew_is_fenced)
{
	UNUSED;
	struct kit *k = start_registered();
	kit_open_on(k, 1, "ann", 0);
	answer_int(SYNC, 1);
	for (int i = 0; i < 16; i++) {
		kit_advance(k, 1000);
		drop_calls(CLAIM);
		drop_calls(SWEEP);
	}
	kit_expect_logged(k, "could not be renewed in time");
	struct question q = get("bob");
	assert_int_equal(q.answers, 1);
	assert_true(q.rc < 0);
	kit_advance(k, 1000);
	answer_claim(1, 1000, 0); /* a new epoch */
	assert_int_equal(waiting(SYNC), 0);
	answer_int(WAS_SWEPT, 1);
	assert_string_equal(first(SYNC)->argv[8], "0"); /* told again */
	answer_int(SYNC, 1);
	finish(k);
}

TEST(a_wiped_redis_is_written_again_without_events)
{
	UNUSED;
	struct kit *k = start_registered();
	kit_open_on(k, 1, "ann", 0);
	answer_int(SYNC, 1);
	kit_open_on(k, 1, "bob", 0);
	answer_int(SYNC, -1); /* the lease is not there */
	answer_claim(1, 1000, 0);
	answer_int(WAS_SWEPT, 0);
	assert_int_equal(waiting(SYNC), 2);
	for (int i = 0; i < 2; i++) {
		const struct call *c = first(SYNC);
		assert_string_equal(c->argv[8], strcmp(c->argv[7], "ann") == 0 ? "1" : "0");
		answer_int(SYNC, 1);
	}
	struct question q = get("carol");
	assert_true(q.answers == 1 && q.rc < 0); /* others are not back yet */
	finish(k);
}

TEST(another_holder_ends_the_server_after_a_lease)
{
	UNUSED;
	struct kit *k = start_registered();
	const struct chatd_redis_reply items[] = { { .type = CHATD_REDIS_INTEGER },
		{ .type = CHATD_REDIS_TEXT, .text = chatd_str_of("9 7 0 abc far b/1 42 9", 22) } };
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = items, .n = 2 };
	for (int i = 0; i < 22; i++) {
		kit_advance(k, 1000);
		drop_calls(SWEEP);
		while (waiting(CLAIM)) {
			answer(CLAIM, 0, &r);
		}
	}
	kit_expect_logged(k, "is held by far:42 since 1970-01-01T00:00:00Z (boot epoch 7)");
	kit_expect_logged(k, "the plugin gives up");
	finish(k);
}

/* begin() has not met it: Redis had no time to answer then. */
TEST(a_holder_that_is_no_more_is_taken_over_from_at_once)
{
	UNUSED;
	char who[WHO_MAX], text[WHO_MAX + 32];
	struct kit *k = start();
	link_is(1);
	who_am_i(who); /* the life before of this process' number */
	int n = snprintf(text, sizeof(text), "9 7 0 abc %s", who);
	const struct chatd_redis_reply items[] = { { .type = CHATD_REDIS_INTEGER },
		{ .type = CHATD_REDIS_TEXT, .text = chatd_str_of(text, (size_t)n) } };
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = items, .n = 2 };
	assert_string_equal(first(CLAIM)->argv[9], "");
	answer(CLAIM, 0, &r);
	kit_expect_logged(k, "is no more: taken over");
	assert_string_equal(first(CLAIM)->argv[9], "abc"); /* asked again at once, no second later */
	answer_claim(1, 1000, 0);
	answer_claim(1, 1000, 0);
	assert_int_equal(waiting(CLAIM), 0);
	finish(k);
}

/* ---- where users are ------------------------------------------------------------------------ */

static char heard[200];

static void on_nodes(void *arg, chatd_status rc, const struct chatd_str *nodes, size_t n)
{
	size_t at = strlen(heard);
	at += (size_t)snprintf(heard + at, sizeof(heard) - at, "%s:", (const char *)arg);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		at += (size_t)snprintf(
				heard + at, sizeof(heard) - at, "%.*s,", (int)nodes[i].n, nodes[i].p);
	}
	snprintf(heard + at, sizeof(heard) - at, "%s ", rc < 0 ? "?" : "");
}

static void ask_nodes(void *arg)
{
	struct chatd_service s = kit_provided(fake.k, CHATD_PRESENCE);
	const struct chatd_presence *p = s.vt;
	struct chatd_str user = chatd_str_of("ann", 3);
	if (!p) {
		return;
	}
	(void)p->nodes(s.obj, kit_worker(fake.k, 1), &user, 1, on_nodes, arg);
}

static void nodes_of(const char *name)
{
	char *arg = (char *)(uintptr_t)name;
	kit_on(fake.k, 1, ask_nodes, arg);
}

TEST(answers_come_in_the_order_of_the_questions)
{
	UNUSED;
	struct kit *k = start_registered();
	const struct chatd_redis_reply item = { .type = CHATD_REDIS_TEXT,
		.text = chatd_str_of("server2", 7) };
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = &item, .n = 1 };
	heard[0] = '\0';
	nodes_of("a");
	nodes_of("b");
	fake.up = 0;
	nodes_of("c"); /* fails at once, and is told last */
	fake.up = 1;
	assert_string_equal(heard, "");
	struct call a = fake.calls[0];
	memmove(&fake.calls[0], &fake.calls[1], --fake.n * sizeof(fake.calls[0]));
	while (fake.n && fake.calls[0].script != NODES) {
		answer(fake.calls[0].script, -ETIMEDOUT, NULL);
	}
	if (a.script == NODES) {
		answer(NODES, 0, &r); /* b's: out of order, as after a script that was missing */
		assert_string_equal(heard, "");
		struct answer late = { a, 0, &r };
		kit_on(k, 1, on_worker, &late);
	}
	assert_string_equal(heard, "a:server2, b:server2, c:? ");
	finish(k);
}

TEST(nil_means_that_redis_was_wiped)
{
	UNUSED;
	struct kit *k = start_registered();
	const struct chatd_redis_reply nil = { .type = CHATD_REDIS_NIL };
	heard[0] = '\0';
	nodes_of("a");
	answer(NODES, 0, &nil);
	assert_string_equal(heard, "a:? ");
	assert_int_equal(waiting(CLAIM), 1);
	finish(k);
}

/* ---- leases ------------------------------------------------------------------------------------ */

TEST(leases_are_read_like_any_input)
{
	UNUSED;
	static const char *const bad[] = { "", " ", "1", "1 2 3", "x y z i h b p s", "1 2 3 i h b",
		"1 2 3 i h b p s" };
	char who[WHO_MAX], text[WHO_MAX + 64], huge[600];
	struct lease l;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(lease_parse(chatd_str_of(bad[i], strlen(bad[i])), &l));
	}
	memset(huge, '1', sizeof(huge));
	assert_false(lease_parse(chatd_str_of(huge, sizeof(huge)), &l));
	assert_false(lease_parse(chatd_str_of("1 2 3 i h\0b 4 s", 15), &l));
	who_am_i(who);
	int n = snprintf(text, sizeof(text), "1 2 3 abc %s", who);
	assert_true(lease_parse(chatd_str_of(text, (size_t)n), &l));
	assert_int_equal(l.epoch, 2);
	assert_string_equal(l.instance, "abc");
	assert_true(lease_is_dead(&l)); /* our own process has no lease yet: it was another's life */
	l.pid = 1;
	assert_true(lease_is_dead(&l)); /* which began at another time */
	snprintf(l.boot, sizeof(l.boot), "elsewhere");
	assert_false(lease_is_dead(&l));
}

/* ---- what they say ------------------------------------------------------------------------------ */

static struct followed {
	char text[512];
	int64_t version;
} followed;

static const char *const names[] = { "unknown", "offline", "online", "away", "busy" };

static void on_change(
		void *arg, chatd_worker *w, struct chatd_str user, const struct chatd_presence_state *s)
{
	size_t n = strlen(followed.text);
	(void)arg;
	(void)w;
	followed.version = s->version;
	snprintf(followed.text + n, sizeof(followed.text) - n, "%.*s:%s@%lld/%lld%s%.*s; ", (int)user.n,
			user.p, names[s->status], (long long)s->since, (long long)s->last_seen,
			s->text.n ? " " : "", (int)s->text.n, s->text.n ? s->text.p : "");
}

static void on_known(void *arg, chatd_worker *w, int32_t known)
{
	size_t n = strlen(followed.text);
	(void)arg;
	(void)w;
	snprintf(followed.text + n, sizeof(followed.text) - n, "known=%d; ", known);
}

static const struct chatd_presence *service(void **ret_obj)
{
	struct chatd_service s = kit_provided(fake.k, CHATD_PRESENCE);
	*ret_obj = s.obj;
	return s.vt;
}

static void follow(void)
{
	void *obj;
	const struct chatd_presence *p = service(&obj);
	const struct chatd_presence_follower f = {
		.struct_size = sizeof(f), .changed = on_change, .known = on_known
	};
	followed = (struct followed){ "" };
	assert_int_equal(p->follow(obj, &f), 0);
}

struct word {
	struct kit_client *c;
	int32_t worker, answers;
	chatd_status rc;
	const char *text;
};

static void on_said(void *arg, chatd_status rc)
{
	struct word *w = arg;
	w->rc = rc;
	w->answers++;
}

static void say_on(void *arg)
{
	struct word *w = arg;
	void *obj;
	const struct chatd_presence *p = service(&obj);
	const struct chatd_presence_word word = { .struct_size = sizeof(word),
		.status = CHATD_PRESENCE_BUSY,
		.session = kit_host(fake.k)->session_sid(kit_session(w->c)),
		.user = chatd_str_of("ann", 3),
		.text = chatd_str_of(w->text, w->text ? strlen(w->text) : 0) };
	if (p->set(obj, kit_worker(fake.k, w->worker), &word, on_said, w) < 0) {
		w->answers++;
	}
}

static struct {
	char text[128];
	int32_t answers;
} looked;

static void on_states(void *arg, chatd_status rc, const struct chatd_presence_state *s, size_t n)
{
	(void)arg;
	looked.answers++;
	snprintf(looked.text, sizeof(looked.text), "%s %.*s", rc || n != 1 ? "?" : names[s->status],
			rc || n != 1 ? 0 : (int)s->text.n, rc || n != 1 || !s->text.n ? "" : s->text.p);
}

static void ask_states(void *arg)
{
	void *obj;
	const struct chatd_presence *p = service(&obj);
	struct chatd_str user = chatd_str_of(arg, strlen(arg));
	looked.text[0] = '\0';
	(void)p->look(obj, kit_worker(fake.k, 1), &user, 1, on_states, NULL);
}

static void look(const char *user)
{
	kit_on(fake.k, 1, ask_states, (char *)(uintptr_t)user);
}

TEST(a_word_is_stated_with_its_session)
{
	UNUSED;
	struct kit *k = start_registered();
	struct word a = { .c = kit_open_on(k, 1, "ann", 0), .worker = 1, .text = "at lunch" };
	answer_int(SYNC, 1);
	kit_on(k, 1, say_on, &a);
	assert_int_equal(a.answers, 0);
	assert_non_null(strstr(first(SYNC)->argv[12], " busy "));
	assert_non_null(strstr(first(SYNC)->argv[12], " at lunch"));
	answer_int(SYNC, 1);
	assert_int_equal(a.answers, 1);
	assert_int_equal(a.rc, 0);
	/* Without Redis it holds here. */
	link_is(0);
	struct word b = { .c = kit_open_on(k, 0, "ann", 0), .worker = 0 };
	kit_on(k, 0, say_on, &b);
	assert_int_equal(b.answers, 1);
	assert_int_equal(b.rc, -EAGAIN);
	look("ann");
	assert_string_equal(looked.text, "busy ");
	look("bob");
	assert_string_equal(looked.text, "unknown ");
	finish(k);
}

static struct chatd_redis_reply text_reply(const char *s)
{
	struct chatd_redis_reply r = { .type = s ? CHATD_REDIS_TEXT : CHATD_REDIS_NIL };
	r.text = chatd_str_of(s, s ? strlen(s) : 0);
	return r;
}

/* What look() makes of a record: "STATUS since lastSeen version text". */
static void expect_state(const char *const record[5], int64_t online, const char *want)
{
	struct chatd_redis_reply items[6] = { { .type = CHATD_REDIS_INTEGER, .integer = online } };
	struct chatd_presence_state s;
	char got[200];
	for (int i = 0; i < 5; i++) {
		items[i + 1] = text_reply(record[i]);
	}
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = items, .n = 6 };
	state_take(&r, &s);
	snprintf(got, sizeof(got), "%s %lld %lld %lld %.*s", names[s.status], (long long)s.since,
			(long long)s.last_seen, (long long)s.version, (int)s.text.n, s.text.n ? s.text.p : "");
	assert_string_equal(got, want);
}

TEST(records_are_read_like_any_input)
{
	UNUSED;
	static const char *const good[5] = { "busy", "at lunch", "1700", "1600", "2-3" };
	static const char *const none[5] = { NULL, NULL, NULL, NULL, NULL };
	static const char *const bad[5] = { "root", "a\nb", "-5", "99999999999999999999", "x-1" };
	static const char *const worse[5] = { "offline", "\xff\xfe", "12a", "", "99999999999999999-1" };
	static const char *const late[5] = { NULL, NULL, "253402300800000", "253402300799999", NULL };
	static const char *const turned[5] = { "away", "\xe2\x80\xaetxt.exe", "1700", "", "-" };
	expect_state(good, 1, "busy 1700 0 2097155 at lunch");
	expect_state(good, 0, "offline 1600 1600 2097155 ");
	expect_state(none, 1, "online 0 0 0 ");
	expect_state(none, 0, "offline 0 0 0 ");
	expect_state(bad, 1, "online 0 0 0 ");
	expect_state(worse, 1, "online 0 0 0 ");
	expect_state(worse, 0, "offline 0 0 0 ");
	expect_state(turned, 1, "away 1700 0 0 ");
	expect_state(late, 1, "online 0 0 0 ");
	expect_state(late, 0, "offline 253402300799999 253402300799999 0 ");
	assert_int_equal(event_version(CHATD_LIT("2-1048577")), 2 << 20);
	struct chatd_presence_state s;
	const struct chatd_redis_reply odd = { .type = CHATD_REDIS_INTEGER, .integer = 1 };
	state_take(&odd, &s);
	assert_int_equal(s.status, CHATD_PRESENCE_UNKNOWN);
	char huge[CHATD_PRESENCE_TEXT_MAX + 1];
	memset(huge, 'x', sizeof(huge));
	assert_null(text_take(chatd_str_of(huge, sizeof(huge))).p);
	assert_non_null(text_take(chatd_str_of(huge, sizeof(huge) - 1)).p);
}

/* What others have is known. */
static void settle_down(struct kit *k)
{
	kit_advance(k, 6000);
	while (waiting(CLAIM)) {
		answer_claim(1, 1000, 1);
	}
	kit_advance(k, 1000);
}

/* One entry: pairs of field and value, then NULL. */
static void log_says(const char *id, const char *const *words)
{
	struct chatd_redis_reply fields[10], entry[2], log[2];
	size_t n = 0;
	for (; words[n]; n++) {
		fields[n] = text_reply(words[n]);
	}
	entry[0] = text_reply(id);
	entry[1] = (struct chatd_redis_reply){ .type = CHATD_REDIS_ARRAY, .items = fields, .n = n };
	const struct chatd_redis_reply one = { .type = CHATD_REDIS_ARRAY, .items = entry, .n = 2 };
	log[0] = text_reply("t:events:presence");
	log[1] = (struct chatd_redis_reply){ .type = CHATD_REDIS_ARRAY, .items = &one, .n = 1 };
	const struct chatd_redis_reply outer = { .type = CHATD_REDIS_ARRAY, .items = log, .n = 2 };
	const struct chatd_redis_reply all = { .type = CHATD_REDIS_ARRAY, .items = &outer, .n = 1 };
	kit_advance(fake.k, 6000); /* it is read even if nothing calls for it */
	while (waiting(CLAIM)) {
		answer_claim(1, 1000, 1);
	}
	assert_string_equal(first(0)->argv[0], "XREAD");
	answer(0, 0, &all);
}

TEST(the_log_is_told_to_those_who_follow)
{
	UNUSED;
	struct kit *k = start_registered();
	const struct chatd_redis_reply none = { .type = CHATD_REDIS_ARRAY };
	settle_down(k);
	follow();
	kit_advance(k, 6000);
	assert_string_equal(first(0)->argv[0], "XREVRANGE");
	answer(0, 0, &none);
	log_says("1000-0", (const char *const[]){ "u", "ann", "o", "1", NULL });
	log_says("1001-0", (const char *const[]){ "u", "ann", "s", "busy", "t", "at lunch", NULL });
	log_says("1002-0", (const char *const[]){ "u", "ann", "o", "1", "s", "away", "t", "", NULL });
	log_says("1003-0", (const char *const[]){ "u", "ann", "o", "0", NULL });
	log_says("1004-0", (const char *const[]){ "u", "a b", "o", "0", NULL });
	log_says("1005-0", (const char *const[]){ "u", "ann", "z", "0", NULL });
	log_says("1006-7", (const char *const[]){ "u", "ann", "s", "king", "t", "a\nb", NULL });
	assert_string_equal(followed.text,
			"ann:online@1000/0; ann:busy@1001/0 at lunch; ann:away@1002/0; ann:offline@1003/1003; "
			"ann:online@1006/0; ");
	assert_int_equal(followed.version, (INT64_C(1006) << 20) + 7);
	finish(k);
}

TEST(who_follows_hears_when_it_is_not_known)
{
	UNUSED;
	struct kit *k = start_registered();
	settle_down(k);
	follow();
	void *obj;
	const struct chatd_presence *p = service(&obj);
	const struct chatd_presence_follower changes = { .struct_size = sizeof(changes),
		.changed = on_change }; /* and nothing else */
	assert_int_equal(p->follow(obj, &changes), 0);
	link_is(0);
	link_is(0);
	assert_string_equal(followed.text, "known=0; ");
	link_is(1);
	while (waiting(CLAIM)) {
		answer_claim(1, 1000, 1);
	}
	kit_advance(k, 3000);
	assert_string_equal(followed.text, "known=0; "); /* others write again what they have */
	kit_advance(k, 3000);
	assert_string_equal(followed.text, "known=0; known=1; ");
	finish(k);
}

static void come_ask_go(void)
{
	struct kit *k = start_registered();
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	if (waiting(SYNC)) {
		answer_int(SYNC, 1);
	}
	struct word a = { .c = c, .worker = 1, .text = "at lunch" };
	if (!kit_failing(k) && kit_is_open(c)) {
		kit_on(k, 1, say_on, &a);
		look("ann");
	}
	if (waiting(SYNC)) {
		answer_int(SYNC, 1);
	}
	if (waiting(LOOK)) {
		answer(LOOK, -ETIMEDOUT, NULL);
	}
	if (!kit_failing(k)) { /* else it may not have started */
		nodes_of("a");
	}
	if (waiting(NODES)) {
		answer(NODES, -ETIMEDOUT, NULL);
	}
	if (kit_is_open(c)) {
		kit_close(c);
	}
	kit_advance(k, 6000);
	finish(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(come_ask_go);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_login_waits_for_its_record),
		cmocka_unit_test(a_login_goes_on_when_redis_does_not_answer),
		cmocka_unit_test(only_the_last_session_lingers),
		cmocka_unit_test(own_users_are_known_without_redis),
		cmocka_unit_test(who_cannot_renew_is_fenced),
		cmocka_unit_test(a_wiped_redis_is_written_again_without_events),
		cmocka_unit_test(another_holder_ends_the_server_after_a_lease),
		cmocka_unit_test(a_holder_that_is_no_more_is_taken_over_from_at_once),
		cmocka_unit_test(answers_come_in_the_order_of_the_questions),
		cmocka_unit_test(nil_means_that_redis_was_wiped),
		cmocka_unit_test(leases_are_read_like_any_input),
		cmocka_unit_test(a_word_is_stated_with_its_session),
		cmocka_unit_test(records_are_read_like_any_input),
		cmocka_unit_test(the_log_is_told_to_those_who_follow),
		cmocka_unit_test(who_follows_hears_when_it_is_not_known),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

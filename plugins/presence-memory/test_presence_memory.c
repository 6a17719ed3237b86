/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/presence.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

/* A question, put on one worker, and what came of it. */
struct question {
	struct kit *k;
	int32_t worker;
	const char *user;
	int32_t online; /* -1: no answer */
	int32_t answers;
};

static void on_answer(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct question *q = arg;
	assert_int_equal(rc, 0);
	assert_int_equal(n, 1);
	q->online = online[0];
	q->answers++;
}

static void ask(void *arg)
{
	struct question *q = arg;
	struct chatd_service s = kit_provided(q->k, CHATD_PRESENCE);
	const struct chatd_presence *p = s.vt;
	struct chatd_str user = chatd_str_of(q->user, strlen(q->user));
	if (p && p->get(s.obj, kit_worker(q->k, q->worker), &user, 1, on_answer, q) == 0) {
		assert_int_equal(q->answers, 0); /* never inside get() */
	}
}

static void expect_online(struct kit *k, const char *user, int32_t want)
{
	for (int32_t w = 0; w < 2; w++) {
		struct question q = { .k = k, .worker = w, .user = user, .online = -1 };
		kit_on(k, w, ask, &q);
		if (!kit_failing(k)) {
			assert_int_equal(q.answers, 1);
			assert_int_equal(q.online, want);
		}
	}
}

static struct kit *start(void)
{
	static const struct kit_conf conf = { .workers = 2 };
	return kit_new_with(&chatd_plugin_under_test, "linger: 5s", &conf);
}

TEST(a_user_is_online_as_long_as_one_session_is)
{
	UNUSED;
	struct kit *k = start();
	struct kit_client *a = kit_open_on(k, 0, "ann", 0), *b = kit_open_on(k, 1, "ann", 0);
	expect_online(k, "ann", 1);
	expect_online(k, "bob", 0);
	kit_close(a);
	kit_advance(k, 60000);
	expect_online(k, "ann", 1);
	kit_close(b);
	expect_online(k, "ann", 1);
	kit_advance(k, 4999);
	expect_online(k, "ann", 1);
	kit_advance(k, 1);
	expect_online(k, "ann", 0);
	kit_free(k);
}

TEST(the_login_is_answered_after_presence_knows)
{
	UNUSED;
	struct kit *k = start();
	kit_manual(k, 1);
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	kit_expect_waiting(k, 1);
	assert_false(kit_is_open(c));
	while (kit_step(k, 0)) {
	}
	while (kit_step(k, 1)) {
	}
	assert_true(kit_is_open(c));
	kit_manual(k, 0);
	expect_online(k, "ann", 1);
	kit_free(k);
}

TEST(a_client_that_leaves_during_its_login_is_counted_out_again)
{
	UNUSED;
	struct kit *k = start();
	kit_manual(k, 1);
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	kit_close(c);
	kit_manual(k, 0);
	kit_advance(k, 5000);
	expect_online(k, "ann", 0);
	kit_free(k);
}

TEST(a_login_goes_on_when_no_call_can_be_parked)
{
	UNUSED;
	struct kit *k = start();
	kit_refuse_suspend(k, 1);
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	kit_expect_accept(k);
	expect_online(k, "ann", 1);
	kit_close(c);
	kit_advance(k, 5000);
	expect_online(k, "ann", 0);
	kit_free(k);
}

struct seen {
	char text[256];
};

static void on_event(void *arg, chatd_worker *w, struct chatd_str user, int32_t online)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);
	assert_non_null(w);
	snprintf(s->text + n, sizeof(s->text) - n, "%.*s%c ", (int)user.n, user.p, online ? '+' : '-');
}

TEST(watchers_hear_each_transition_once)
{
	UNUSED;
	struct seen seen = { "" };
	struct kit *k = start();
	struct chatd_service s = kit_provided(k, CHATD_PRESENCE);
	const struct chatd_presence *p = s.vt;
	assert_int_equal(p->watch(s.obj, on_event, &seen), 0);
	struct kit_client *a = kit_open_on(k, 0, "ann", 0), *b = kit_open_on(k, 1, "ann", 0);
	assert_string_equal(seen.text, "ann+ ");
	kit_close(a);
	kit_close(b);
	kit_advance(k, 4000);
	a = kit_open_on(k, 1, "ann", 0); /* a reload is no event */
	kit_advance(k, 10000);
	assert_string_equal(seen.text, "ann+ ");
	kit_close(a);
	kit_advance(k, 5000);
	assert_string_equal(seen.text, "ann+ ann- ");
	kit_free(k);
}

/* ---- what they say ----------------------------------------------------------------------- */

struct told {
	char text[1024];
	int64_t version;
};

static const char *const names[] = { "unknown", "offline", "online", "away", "busy" };

/* "USER:STATUS TEXT; ", and the last version. */
static void on_change(
		void *arg, chatd_worker *w, struct chatd_str user, const struct chatd_presence_state *s)
{
	struct told *t = arg;
	size_t n = strlen(t->text);
	assert_non_null(w);
	assert_true(s->version > t->version);
	assert_true(s->since > 0);
	t->version = s->version;
	snprintf(t->text + n, sizeof(t->text) - n, "%.*s:%s%s%.*s; ", (int)user.n, user.p,
			names[s->status], s->text.n ? " " : "", (int)s->text.n, s->text.n ? s->text.p : "");
}

static const struct chatd_presence *service(struct kit *k, void **ret_obj)
{
	struct chatd_service s = kit_provided(k, CHATD_PRESENCE);
	*ret_obj = s.obj;
	return s.vt;
}

static void follow(struct kit *k, struct told *t)
{
	void *obj;
	const struct chatd_presence *p = service(k, &obj);
	const struct chatd_presence_follower f = {
		.struct_size = sizeof(f), .changed = on_change, .arg = t
	};
	assert_int_equal(p->follow(obj, &f), 0);
}

struct word {
	struct kit *k;
	struct kit_client *c;
	int32_t worker, status, answers;
	const char *text;
	chatd_status rc;
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
	const struct chatd_presence *p = service(w->k, &obj);
	const struct chatd_presence_word word = { .struct_size = sizeof(word),
		.status = w->status,
		.session = kit_host(w->k)->session_sid(kit_session(w->c)),
		.user = chatd_str_of("ann", 3),
		.text = chatd_str_of(w->text, w->text ? strlen(w->text) : 0) };
	w->rc = p->set(obj, kit_worker(w->k, w->worker), &word, on_said, w);
	assert_int_equal(w->answers, 0); /* never inside set() */
}

static void say(
		struct kit *k, struct kit_client *c, int32_t worker, int32_t status, const char *text)
{
	struct word w = { .k = k, .c = c, .worker = worker, .status = status, .text = text };
	kit_on(k, worker, say_on, &w);
	if (!kit_failing(k)) {
		assert_int_equal(w.rc, 0);
		assert_int_equal(w.answers, 1);
	}
}

struct look {
	struct kit *k;
	const char *user;
	int32_t worker;
	char text[128];
	int64_t last_seen;
};

static void on_states(void *arg, chatd_status rc, const struct chatd_presence_state *s, size_t n)
{
	struct look *l = arg;
	if (rc == 0) {
		assert_int_equal(n, 1);
		snprintf(l->text, sizeof(l->text), "%s %.*s", names[s->status], (int)s->text.n,
				s->text.n ? s->text.p : "");
		l->last_seen = s->last_seen;
	}
}

static void ask_states(void *arg)
{
	struct look *l = arg;
	void *obj;
	const struct chatd_presence *p = service(l->k, &obj);
	struct chatd_str user = chatd_str_of(l->user, strlen(l->user));
	(void)p->look(obj, kit_worker(l->k, l->worker), &user, 1, on_states, l);
}

static int64_t expect_state(struct kit *k, const char *user, const char *want)
{
	struct look l = { .k = k, .user = user };
	for (l.worker = 0; l.worker < 2; l.worker++) {
		l.text[0] = '\0';
		kit_on(k, l.worker, ask_states, &l);
		if (!kit_failing(k)) {
			assert_string_equal(l.text, want);
		}
	}
	return l.last_seen;
}

TEST(the_busy_device_decides_then_the_one_that_is_online)
{
	UNUSED;
	struct told told = { "" };
	struct kit *k = start();
	follow(k, &told);
	struct kit_client *a = kit_open_on(k, 0, "ann", 0), *b = kit_open_on(k, 1, "ann", 0);
	say(k, a, 0, CHATD_PRESENCE_AWAY, "asleep"); /* the other one is online */
	expect_state(k, "ann", "online ");
	say(k, b, 1, CHATD_PRESENCE_AWAY, NULL);
	expect_state(k, "ann", "away "); /* said last */
	say(k, a, 0, CHATD_PRESENCE_AWAY, "asleep");
	expect_state(k, "ann", "away asleep");
	say(k, b, 1, CHATD_PRESENCE_BUSY, "at lunch");
	say(k, b, 1, CHATD_PRESENCE_BUSY, "at lunch");
	expect_state(k, "ann", "busy at lunch");
	say(k, a, 0, CHATD_PRESENCE_ONLINE, "hello");
	expect_state(k, "ann", "busy at lunch");
	say(k, b, 1, CHATD_PRESENCE_ONLINE, NULL);
	expect_state(k, "ann", "online hello");
	kit_close(b);
	assert_string_equal(told.text,
			"ann:online; ann:away; ann:away asleep; ann:busy at lunch; ann:online hello; ");
	kit_free(k);
}

TEST(what_a_device_said_goes_with_it)
{
	UNUSED;
	struct told told = { "" };
	struct kit *k = start();
	follow(k, &told);
	struct kit_client *a = kit_open_on(k, 1, "ann", 0), *b = kit_open_on(k, 0, "ann", 0);
	say(k, b, 0, CHATD_PRESENCE_BUSY, NULL);
	kit_close(b);
	expect_state(k, "ann", "online ");
	say(k, a, 1, CHATD_PRESENCE_AWAY, "gone");
	kit_close(a);
	kit_advance(k, 4000);
	expect_state(k, "ann", "away gone"); /* it lingers */
	a = kit_open_on(k, 1, "ann", 0);
	expect_state(k, "ann", "online ");
	kit_advance(k, 60000);
	kit_close(a);
	assert_string_equal(told.text, "ann:online; ann:busy; ann:online; ann:away gone; ann:online; ");
	kit_free(k);
}

TEST(busy_lasts_over_a_reload)
{
	UNUSED;
	struct told told = { "" };
	struct kit *k = start();
	follow(k, &told);
	struct kit_client *a = kit_open_on(k, 0, "ann", 0);
	say(k, a, 0, CHATD_PRESENCE_BUSY, NULL);
	kit_close(a);
	a = kit_open_on(k, 1, "ann", 0);
	expect_state(k, "ann", "busy ");
	say(k, a, 1, CHATD_PRESENCE_BUSY, NULL); /* the page says it again */
	kit_advance(k, 60000);
	assert_string_equal(told.text, "ann:online; ann:busy; ");
	kit_close(a);
	kit_advance(k, 1000);
	a = kit_open_on(k, 1, "ann", 0);
	kit_advance(k, 60000); /* this page does not */
	assert_string_equal(told.text, "ann:online; ann:busy; ann:online; ");
	kit_free(k);
}

TEST(the_next_device_may_say_otherwise_at_once)
{
	UNUSED;
	struct kit *k = start();
	struct kit_client *a = kit_open_on(k, 0, "ann", 0);
	say(k, a, 0, CHATD_PRESENCE_BUSY, "at lunch");
	kit_close(a);
	a = kit_open_on(k, 1, "ann", 0);
	expect_state(k, "ann", "busy at lunch");
	say(k, a, 1, CHATD_PRESENCE_ONLINE, NULL);
	expect_state(k, "ann", "online ");
	kit_free(k);
}

TEST(when_somebody_was_here_last_is_kept)
{
	UNUSED;
	struct told told = { "" };
	struct kit *k = start();
	follow(k, &told);
	assert_int_equal(expect_state(k, "ann", "offline "), 0);
	struct kit_client *a = kit_open_on(k, 1, "ann", 0);
	assert_int_equal(expect_state(k, "ann", "online "), 0);
	kit_close(a);
	kit_advance(k, 5000);
	assert_int_equal(expect_state(k, "ann", "offline "), kit_host(k)->wall_ms());
	assert_string_equal(told.text, "ann:online; ann:offline; ");
	for (int i = 0; i < 10000; i++) { /* who went first is forgotten first */
		char user[16];
		snprintf(user, sizeof(user), "u%d", i);
		kit_close(kit_open_on(k, 0, user, 0));
	}
	kit_advance(k, 5000);
	assert_int_equal(expect_state(k, "ann", "offline "), 0);
	assert_int_equal(expect_state(k, "u1", "offline "), kit_host(k)->wall_ms());
	kit_free(k);
}

TEST(last_seen_is_not_told_if_it_is_not_wanted)
{
	UNUSED;
	struct kit *k = kit_new(&chatd_plugin_under_test, "{ last_seen: false, linger: 0s }");
	struct kit_client *a = kit_open(k, "ann");
	kit_close(a);
	kit_advance(k, 1000);
	struct look l = { .k = k, .user = "ann" };
	kit_on(k, 0, ask_states, &l);
	assert_string_equal(l.text, "offline ");
	assert_int_equal(l.last_seen, 0);
	kit_free(k);
}

TEST(words_that_cannot_be_are_refused)
{
	UNUSED;
	struct kit *k = start();
	struct kit_client *a = kit_open_on(k, 0, "ann", 0);
	struct word w = { .k = k, .c = a, .status = CHATD_PRESENCE_OFFLINE };
	kit_on(k, 0, say_on, &w);
	assert_int_equal(w.rc, -EINVAL);
	assert_int_equal(w.answers, 0);
	kit_free(k);
}

static void come_ask_go(void)
{
	struct kit *k = start();
	struct kit_client *a = kit_open_on(k, 1, "ann", 0);
	if (kit_is_open(a)) {
		expect_online(k, "ann", 1);
		say(k, a, 1, CHATD_PRESENCE_BUSY, "at lunch");
		expect_state(k, "ann", "busy at lunch");
		kit_close(a);
	}
	kit_advance(k, 60000);
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(come_ask_go);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_user_is_online_as_long_as_one_session_is),
		cmocka_unit_test(the_login_is_answered_after_presence_knows),
		cmocka_unit_test(a_client_that_leaves_during_its_login_is_counted_out_again),
		cmocka_unit_test(a_login_goes_on_when_no_call_can_be_parked),
		cmocka_unit_test(watchers_hear_each_transition_once),
		cmocka_unit_test(the_busy_device_decides_then_the_one_that_is_online),
		cmocka_unit_test(what_a_device_said_goes_with_it),
		cmocka_unit_test(busy_lasts_over_a_reload),
		cmocka_unit_test(the_next_device_may_say_otherwise_at_once),
		cmocka_unit_test(when_somebody_was_here_last_is_kept),
		cmocka_unit_test(last_seen_is_not_told_if_it_is_not_wanted),
		cmocka_unit_test(words_that_cannot_be_are_refused),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

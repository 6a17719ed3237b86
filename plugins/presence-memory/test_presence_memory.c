/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/presence.h>

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

static void come_ask_go(void)
{
	struct kit *k = start();
	struct kit_client *a = kit_open_on(k, 1, "ann", 0);
	if (kit_is_open(a)) {
		expect_online(k, "ann", 1);
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
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "chat/ident.h"
#include "chat/msg.h"
#include "chat/session.h"
#include "chat_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* A hook that parks its call and hands the token to the test. */
struct parking {
	_Atomic chatd_token token;
	atomic_int cancels, calls, nexts;
	chatd_verdict give; /* by a hook that does not wait */
	struct rig *r;
};

static void on_cancel(void *arg)
{
	struct parking *p = arg;
	atomic_fetch_add(&p->cancels, 1);
}

static chatd_verdict park(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)wself;
	chatd_token t = call_suspend(c, on_cancel, p);
	atomic_fetch_add(&p->calls, 1);
	atomic_store(&p->token, t);
	return t ? CHATD_WAIT : -EBUSY;
}

static chatd_verdict next(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)c;
	(void)wself;
	atomic_fetch_add(&p->nexts, 1);
	return CHATD_NEXT;
}

static chatd_verdict give(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)c;
	(void)wself;
	return p->give;
}

/* A rig whose message_in is: park, next. */
static struct rig *parking_rig(struct parking *p, int32_t on_error, int64_t timeout_ms)
{
	struct rig *r = rig_create(1);
	memset(p, 0, sizeof(*p));
	r->timeout_ms = timeout_ms;
	p->r = r;
	rig_hook(r, chatd_hook_message_in, park, p, on_error);
	rig_hook(r, chatd_hook_message_in, next, p, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	return r;
}

TEST(an_answer_lets_the_walk_go_on_with_the_next_hook)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	assert_int_equal(p.nexts, 0);
	assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), 0);
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	assert_int_equal(p.nexts, 1);
	assert_int_equal(p.cancels, 0);
	rig_destroy(r);
}

TEST(a_late_answer_is_stale_and_touches_nobody)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "one");
	chatd_token old = p.token;
	assert_int_equal(call_resume(old, CHATD_NEXT, NULL, NULL), 0);
	assert_int_equal(call_resume(old, CHATD_REJECT, "LATE", "late"), -ESTALE);
	rig_answer(c, 2);
	rig_send(c, "/topic/x", "two"); /* in the same slot */
	assert_int_equal((old >> 32) & 0xffffff, (p.token >> 32) & 0xffffff);
	assert_int_equal(call_resume(old, CHATD_REJECT, "LATE", "late"), -ESTALE);
	assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), 0);
	rig_answer(c, 3);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	rig_destroy(r);
}

TEST(tokens_that_never_were_are_stale)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	static const chatd_token never[] = { 0, 1, UINT64_MAX, (uint64_t)1 << 56, (uint64_t)99 << 32 };
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		assert_int_equal(call_resume(never[i], CHATD_NEXT, NULL, NULL), -ESTALE);
	}
	rig_destroy(r);
}

TEST(a_rejection_carries_its_code_and_reason)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	assert_int_equal(call_resume(p.token, CHATD_REJECT, "NOT_MEMBER", "join first"), 0);
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_REJECT);
	assert_string_equal(c->err, "NOT_MEMBER");
	assert_string_equal(c->why, "join first");
	rig_send(c, "/topic/x", "hi");
	assert_int_equal(call_resume(p.token, CHATD_REJECT, NULL, NULL), 0);
	rig_answer(c, 3);
	assert_string_equal(c->err, "FORBIDDEN");
	assert_int_equal(p.nexts, 0);
	rig_destroy(r);
}

TEST(no_answer_in_time_refuses_or_goes_on_as_on_error_says)
{
	UNUSED;
	for (int32_t on_error = 0; on_error < 2; on_error++) {
		struct parking p;
		struct rig *r = parking_rig(&p, on_error, 100);
		rig_start(r);
		struct rig_client *c = rig_open(r, 0, "ann");
		rig_send(c, "/topic/x", "hi");
		rig_answer(c, 2);
		assert_int_equal(c->verdict, on_error ? CHATD_ACCEPT : CHATD_REJECT);
		assert_string_equal(c->err, on_error ? "" : "UNAVAILABLE");
		assert_int_equal(p.cancels, 1);
		assert_int_equal(p.nexts, on_error);
		assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), -ESTALE);
		rig_destroy(r);
	}
}

TEST(a_failure_refuses_or_goes_on_as_on_error_says)
{
	UNUSED;
	for (int32_t on_error = 0; on_error < 2; on_error++) {
		struct parking p = { .give = -EIO };
		struct rig *r = rig_create(1);
		rig_hook(r, chatd_hook_message_in, give, &p, on_error);
		rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
		rig_start(r);
		struct rig_client *c = rig_open(r, 0, "ann");
		rig_send(c, "/topic/x", "hi");
		rig_answer(c, 2);
		assert_int_equal(c->verdict, on_error ? CHATD_ACCEPT : CHATD_REJECT);
		assert_string_equal(c->err, on_error ? "" : "INTERNAL");
		rig_destroy(r);
	}
}

TEST(waiting_without_a_token_is_a_failure)
{
	UNUSED;
	static const chatd_verdict odd[] = { CHATD_WAIT, 77 };
	for (size_t i = 0; i < 2; i++) {
		struct parking p = { .give = odd[i] };
		struct rig *r = rig_create(1);
		rig_hook(r, chatd_hook_message_in, give, &p, 0);
		rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
		rig_start(r);
		struct rig_client *c = rig_open(r, 0, "ann");
		rig_send(c, "/topic/x", "hi");
		rig_answer(c, 2);
		assert_string_equal(c->err, "INTERNAL");
		rig_destroy(r);
	}
}

TEST(two_hooks_of_one_chain_may_wait)
{
	UNUSED;
	struct parking a = { .token = 0 }, b = { .token = 0 };
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_message_in, park, &a, 0);
	rig_hook(r, chatd_hook_message_in, park, &b, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	/* A reason that nobody asked for must not be lost memory. */
	assert_int_equal(call_resume(a.token, CHATD_NEXT, NULL, "not a reason"), 0);
	rig_settle(r);
	assert_int_equal(b.calls, 1);
	assert_int_equal(call_resume(a.token, CHATD_NEXT, NULL, NULL), -ESTALE);
	assert_int_equal(call_resume(b.token, CHATD_REJECT, "NO", "the second says no"), 0);
	rig_answer(c, 2);
	assert_string_equal(c->why, "the second says no");
	rig_destroy(r);
}

static chatd_verdict resume_first(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)wself;
	chatd_token t = call_suspend(c, on_cancel, p);
	assert_int_equal(call_resume(t, CHATD_NEXT, NULL, NULL), 0);
	/* Never inside resume(): the next hook has not run. */
	assert_int_equal(p->nexts, 0);
	return CHATD_WAIT;
}

TEST(an_answer_may_come_before_the_hook_has_returned)
{
	UNUSED;
	struct parking p = { .token = 0 };
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_message_in, resume_first, &p, 0);
	rig_hook(r, chatd_hook_message_in, next, &p, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	assert_int_equal(p.nexts, 1);
	rig_destroy(r);
}

static chatd_verdict park_then_answer(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)wself;
	p->token = call_suspend(c, on_cancel, p);
	return CHATD_NEXT;
}

TEST(a_hook_that_parked_and_then_answered_has_answered)
{
	UNUSED;
	struct parking p = { .token = 0 };
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_message_in, park_then_answer, &p, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	assert_int_equal(call_resume(p.token, CHATD_REJECT, NULL, NULL), -ESTALE);
	assert_int_equal(p.cancels, 0);
	rig_destroy(r);
}

TEST(more_parked_calls_than_places_are_refused)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	struct rig_client *c[17];
	rig_start(r);
	for (size_t i = 0; i < 17; i++) {
		c[i] = rig_open(r, 0, "ann");
		rig_send(c[i], "/topic/x", "hi");
	}
	rig_answer(c[16], 2);
	assert_string_equal(c[16]->err, "UNAVAILABLE");
	assert_string_equal(c[16]->why, "the server is busy; try again");
	rig_close(c[0]); /* gives its place back */
	rig_send(c[16], "/topic/x", "hi");
	assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), 0);
	rig_answer(c[16], 3);
	assert_int_equal(c[16]->verdict, CHATD_ACCEPT);
	rig_destroy(r);
}

TEST(a_client_that_leaves_cancels_once)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	rig_close(c);
	assert_int_equal(p.cancels, 1);
	assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), -ESTALE);
	rig_settle(r);
	assert_int_equal(c->done, 1);
	assert_int_equal(p.nexts, 0);
	rig_destroy(r);
}

TEST(an_answer_on_its_way_wins_over_the_client_that_leaves)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/topic/x", "hi");
	assert_int_equal(call_resume(p.token, CHATD_REJECT, "NO", "text to free"), 0);
	rig_close(c);
	rig_settle(r);
	assert_int_equal(p.cancels, 0);
	rig_destroy(r);
}

/* ---- cancel against resume, from another thread --------------------------------- */

struct race {
	struct parking *p;
	atomic_int go, stop, resumed;
};

static void *resumer(void *arg)
{
	struct race *x = arg;
	while (!atomic_load(&x->stop)) {
		if (atomic_exchange(&x->go, 0) &&
				call_resume(atomic_load(&x->p->token), CHATD_REJECT, "NO", "raced") == 0) {
			atomic_fetch_add(&x->resumed, 1);
		}
	}
	return NULL;
}

TEST(cancel_and_resume_exclude_each_other_across_threads)
{
	UNUSED;
	enum { ROUNDS = 300 };
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	struct race x = { .p = &p };
	pthread_t thread;
	rig_start(r);
	assert_int_equal(pthread_create(&thread, NULL, resumer, &x), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct rig_client *c = rig_open(r, 0, "ann");
		int before = atomic_load(&x.resumed) + atomic_load(&p.cancels);
		rig_send(c, "/topic/x", "hi");
		atomic_store(&x.go, 1);
		rig_close(c);
		while (atomic_load(&x.go)) {
		}
		rig_settle(r);
		int after = before;
		for (long spin = 0; spin < 10000000 && after == before; spin++) {
			after = atomic_load(&x.resumed) + atomic_load(&p.cancels);
		}
		assert_int_equal(after, before + 1);
	}
	atomic_store(&x.stop, 1);
	pthread_join(thread, NULL);
	assert_int_equal(x.resumed + p.cancels, ROUNDS);
	rig_destroy(r);
}

/* ---- call_of ------------------------------------------------------------------------ */

struct lookup {
	struct parking *p;
	chatd_worker *w;
	chatd_call *found;
};

static void look(void *arg)
{
	struct lookup *l = arg;
	l->found = call_of(l->w, l->p->token);
	if (l->found) {
		call_reply(l->found, "reply", CHATD_LIT("from call_of"));
	}
}

TEST(call_of_finds_a_parked_call_on_its_own_worker_alone)
{
	UNUSED;
	struct parking p = { .token = 0 };
	struct rig *r = rig_create(2);
	rig_hook(r, chatd_hook_message_in, park, &p, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	struct rig_client *c = rig_open(r, 1, "ann");
	rig_send(c, "/topic/x", "hi");
	struct lookup here = { .p = &p, .w = loop_worker(r->loop, 1) };
	struct lookup there = { .p = &p, .w = loop_worker(r->loop, 0) };
	rig_on(r, 0, look, &there);
	assert_null(there.found);
	rig_on(r, 1, look, &here);
	assert_non_null(here.found);
	assert_int_equal(call_resume(p.token, CHATD_NEXT, NULL, NULL), 0);
	rig_answer(c, 2);
	assert_string_equal(c->reply, "from call_of");
	rig_on(r, 1, look, &here);
	assert_null(here.found);
	rig_destroy(r);
}

/* ---- kinds of chains ------------------------------------------------------------------- */

TEST(verdicts_end_a_deciding_chain)
{
	UNUSED;
	static const struct {
		chatd_verdict give, want;
		const char *code;
	} rows[] = { { CHATD_ACCEPT, CHATD_ACCEPT, "" }, { CHATD_DROP, CHATD_DROP, "" },
		{ CHATD_REJECT, CHATD_REJECT, "FORBIDDEN" }, { CHATD_NEXT, CHATD_ACCEPT, "" } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parking p = { .give = rows[i].give };
		struct rig *r = rig_create(1);
		rig_hook(r, chatd_hook_message_in, give, &p, 0);
		rig_hook(r, chatd_hook_message_in, next, &p, 0);
		rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
		rig_start(r);
		struct rig_client *c = rig_open(r, 0, "ann");
		rig_send(c, "/topic/x", "hi");
		rig_answer(c, 2);
		assert_int_equal(c->verdict, rows[i].want);
		assert_string_equal(c->err, rows[i].code);
		assert_int_equal(p.nexts, rows[i].give == CHATD_NEXT);
		rig_destroy(r);
	}
}

TEST(a_notifying_chain_reaches_every_hook_whatever_they_say)
{
	UNUSED;
	struct parking p = { .give = CHATD_REJECT }, q = { .give = -EIO }, w = { .token = 0 };
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_session_open, give, &p, 0);
	rig_hook(r, chatd_hook_session_open, give, &q, 0);
	rig_hook(r, chatd_hook_session_open, park, &w, 0);
	rig_hook(r, chatd_hook_session_open, next, &p, 0);
	rig_start(r);
	struct rig_client *c = rig_connect(r, 0);
	rig_login(c, "rig-user", "ann");
	assert_int_equal(w.calls, 1);
	assert_int_equal(c->done, 0); /* the login is answered after session_open */
	assert_int_equal(call_resume(w.token, CHATD_REJECT, "NO", "nobody minds"), 0);
	rig_answer(c, 1);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	assert_int_equal(p.nexts, 1);
	rig_destroy(r);
}

static chatd_verdict handler(chatd_call *c, void *self, void *wself)
{
	call_reply(c, "reply", CHATD_LIT("handled"));
	return park(c, self, wself);
}

TEST(a_handler_runs_after_the_chain_and_may_wait)
{
	UNUSED;
	struct parking p = { .give = CHATD_ACCEPT }, h = { .token = 0 };
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_message_in, give, &p, 0);
	r->timeout_ms = 500;
	rig_app(r, "do", handler, &h);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	rig_send(c, "/app/do", "hi");
	assert_int_equal(call_resume(h.token, CHATD_NEXT, NULL, NULL), 0);
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	assert_string_equal(c->reply, "handled");
	rig_send(c, "/app/do", "hi"); /* nobody answers: on_error: continue is no way out here */
	rig_answer(c, 3);
	assert_string_equal(c->err, "UNAVAILABLE");
	rig_send(c, "/app/dont", "hi");
	rig_answer(c, 4);
	assert_string_equal(c->err, "NOT_FOUND");
	rig_destroy(r);
}

/* ---- logins --------------------------------------------------------------------------- */

static chatd_verdict identify_and_say(chatd_call *c, void *self, void *wself)
{
	struct parking *p = self;
	(void)wself;
	struct chatd_str user = msg_get(call_msg(c), "login");
	if (user.p) {
		(void)call_identify(c, CHATD_CRED_LOGIN, user, user, 0);
	}
	return p->give;
}

struct rest {
	struct rig *r;
	chatd_verdict verdict;
	int answers;
};

static void on_identified(void *arg, const struct chatd_outcome *o, const chatd_ident *who)
{
	struct rest *x = arg;
	x->verdict = o->verdict;
	x->answers++;
	assert_true((who != NULL) == (o->verdict == CHATD_ACCEPT));
}

static void identify(void *arg)
{
	struct rest *x = arg;
	chatd_msg *m = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	msg_set(m, "login", CHATD_LIT("ann"));
	chat_sessions_vt.identify(x->r->chat, loop_worker(x->r->loop, 0), m, on_identified, x);
	msg_unref(m);
}

TEST(a_login_that_a_hook_stops_is_none_even_if_someone_was_identified)
{
	UNUSED;
	static const chatd_verdict says[] = { CHATD_NEXT, CHATD_ACCEPT, CHATD_REJECT, CHATD_DROP,
		-EIO };
	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
		int well = says[i] == CHATD_NEXT || says[i] == CHATD_ACCEPT;
		struct parking p = { .give = says[i] };
		struct rig *r = rig_create(1);
		rig_hook(r, chatd_hook_session_auth, identify_and_say, &p, 0);
		rig_start(r);
		struct rig_client *c = rig_connect(r, 0);
		rig_login(c, "login", "ann");
		rig_answer(c, 1);
		assert_int_equal(c->verdict, well ? CHATD_ACCEPT : CHATD_REJECT);
		struct rest x = { .r = r };
		rig_on(r, 0, identify, &x);
		assert_int_equal(x.answers, 1);
		assert_int_equal(x.verdict, well ? CHATD_ACCEPT : CHATD_REJECT);
		rig_destroy(r);
	}
}

TEST(a_credential_that_nobody_verified_refuses_the_login)
{
	UNUSED;
	struct rig *r = rig_create(1);
	rig_start(r);
	struct rig_client *c = rig_connect(r, 0);
	rig_login(c, "bearer", "x");
	rig_answer(c, 1);
	assert_string_equal(c->err, "UNAUTHORIZED");
	assert_string_equal(c->why, "Access refused");
	rig_destroy(r);
}

TEST(the_end_of_the_server_ends_parked_calls)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 0, 10000);
	rig_start(r);
	rig_send(rig_open(r, 0, "ann"), "/topic/x", "hi");
	rig_destroy(r);
	assert_int_equal(p.cancels, 1);
}

struct given {
	struct rig *r;
	int answers;
	char code[32];
};

static void on_given(void *arg, const struct chatd_outcome *o)
{
	struct given *g = arg;
	g->answers++;
	snprintf(g->code, sizeof(g->code), "%s", o->code ? o->code : "");
}

static void give_in(void *arg)
{
	struct given *g = arg;
	const struct chatd_identity who = { .struct_size = sizeof(who), .user = CHATD_LIT("ann") };
	const chatd_ident *ident = chat_sessions_vt.make_ident(g->r->chat, &who);
	chatd_msg *m = msg_new(CHATD_LIT("/topic/x"), CHATD_LIT("hi"));
	chat_sessions_vt.input_as(g->r->chat, loop_worker(g->r->loop, 0), ident, m, on_given, g);
	msg_unref(m);
	ident_unref(ident);
}

/* Nobody's session ends it; whoever gave it in waits for the answer all the same. */
TEST(the_end_of_the_server_answers_what_a_program_gave_in)
{
	UNUSED;
	struct parking p;
	struct rig *r = parking_rig(&p, 1, 10000); /* on_error: continue does not let it through */
	struct given g = { .r = r };
	rig_start(r);
	rig_on(r, 0, give_in, &g);
	assert_int_equal(g.answers, 0);
	rig_destroy(r);
	assert_int_equal(p.cancels, 1);
	assert_int_equal(p.nexts, 0);
	assert_int_equal(g.answers, 1);
	assert_string_equal(g.code, "UNAVAILABLE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_lets_the_walk_go_on_with_the_next_hook),
		cmocka_unit_test(a_late_answer_is_stale_and_touches_nobody),
		cmocka_unit_test(tokens_that_never_were_are_stale),
		cmocka_unit_test(a_rejection_carries_its_code_and_reason),
		cmocka_unit_test(no_answer_in_time_refuses_or_goes_on_as_on_error_says),
		cmocka_unit_test(a_failure_refuses_or_goes_on_as_on_error_says),
		cmocka_unit_test(waiting_without_a_token_is_a_failure),
		cmocka_unit_test(two_hooks_of_one_chain_may_wait),
		cmocka_unit_test(an_answer_may_come_before_the_hook_has_returned),
		cmocka_unit_test(a_hook_that_parked_and_then_answered_has_answered),
		cmocka_unit_test(more_parked_calls_than_places_are_refused),
		cmocka_unit_test(a_client_that_leaves_cancels_once),
		cmocka_unit_test(an_answer_on_its_way_wins_over_the_client_that_leaves),
		cmocka_unit_test(cancel_and_resume_exclude_each_other_across_threads),
		cmocka_unit_test(call_of_finds_a_parked_call_on_its_own_worker_alone),
		cmocka_unit_test(verdicts_end_a_deciding_chain),
		cmocka_unit_test(a_notifying_chain_reaches_every_hook_whatever_they_say),
		cmocka_unit_test(a_handler_runs_after_the_chain_and_may_wait),
		cmocka_unit_test(a_login_that_a_hook_stops_is_none_even_if_someone_was_identified),
		cmocka_unit_test(a_credential_that_nobody_verified_refuses_the_login),
		cmocka_unit_test(the_end_of_the_server_ends_parked_calls),
		cmocka_unit_test(the_end_of_the_server_answers_what_a_program_gave_in),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

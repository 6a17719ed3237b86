/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/users.h"
#include "chat_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* Logs in as "NAME/ROLES/MILLISECONDS": what an identity plugin would find in a token. */
static chatd_verdict on_token(chatd_call *c, void *self, void *wself)
{
	struct chatd_str token = msg_get(call_msg(c), CHATD_CRED_BEARER);
	char name[32] = "", roles[32] = "";
	long long ms = 0;
	(void)self;
	(void)wself;
	if (!token.p) {
		return CHATD_NEXT;
	}
	char text[80];
	snprintf(text, sizeof(text), "%.*s", (int)token.n, token.p);
	assert_true(sscanf(text, "%31[^/]/%31[^/]/%lld", name, roles, &ms) >= 2);
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.user = str_of(name),
		.roles = str_of(roles),
		.login = CHATD_LIT("login-1"),
		.expires = ms ? wall_ms() + ms : 0 };
	return call_identify_as(c, CHATD_CRED_BEARER, &who);
}

static int may(const chatd_ident *who, const char *role)
{
	struct chatd_str roles = ident_roles(who);
	return roles.p && memmem(roles.p, roles.n, role, strlen(role)) != NULL;
}

/* /topic/staff... is for those with the role of that name. */
static chatd_verdict on_subscribe(chatd_call *c, void *self, void *wself)
{
	atomic_int *asked = self;
	struct chatd_str dest = msg_dest(call_msg(c));
	(void)wself;
	atomic_fetch_add(asked, 1);
	if (dest.n >= 12 && memcmp(dest.p, "/topic/staff", 12) == 0 && !may(call_ident(c), "staff")) {
		return call_reject(c, "FORBIDDEN", "for staff");
	}
	return CHATD_NEXT;
}

static struct rig *rig_with(int workers, atomic_int *asked)
{
	struct rig *r = rig_create(workers);
	rig_hook(r, chatd_hook_session_auth, on_token, NULL, 0);
	rig_hook(r, chatd_hook_subscribe, on_subscribe, asked, 0);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	return r;
}

static struct rig_client *enter(struct rig *r, int32_t worker, const char *token)
{
	struct rig_client *c = rig_connect(r, worker);
	rig_login(c, CHATD_CRED_BEARER, token);
	rig_answer(c, 1);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	return c;
}

/* What each_session() is given in these tests. */
struct visit_data {
	atomic_int *n;
	int32_t code;
	char roles[32];
	int64_t ms;
};

static void on_each(const void *data, chatd_session *s)
{
	struct visit_data d;
	memcpy(&d, data, sizeof(d));
	atomic_fetch_add(d.n, 1);
	if (d.code) {
		session_close(s, d.code, "go");
	} else if (d.roles[0]) {
		const struct chatd_identity next = { .struct_size = sizeof(next),
			.user = ident_user(session_ident(s)),
			.roles = str_of(d.roles),
			.expires = d.ms ? wall_ms() + d.ms : 0 };
		chatd_status rc = session_renew(s, &next);
		assert_int_equal(rc, 0);
	}
}

static void visit(struct rig *r, const char *user, const struct visit_data *d, int64_t linger_ms)
{
	const struct chatd_each each = { .struct_size = sizeof(each),
		.user = user ? str_of(user) : chatd_str_of(NULL, 0),
		.fn = on_each,
		.data = d,
		.n = sizeof(*d),
		.linger_ms = linger_ms };
	assert_int_equal(users_each(r->chat, &each), 0);
	rig_settle(r);
}

TEST(every_session_of_a_user_is_visited_and_nobody_elses)
{
	UNUSED;
	atomic_int asked = 0, n = 0;
	struct rig *r = rig_with(4, &asked);
	struct rig_client *ann[6];
	for (int32_t i = 0; i < 6; i++) {
		ann[i] = enter(r, i % 4, "ann/user");
	}
	struct rig_client *bob = enter(r, 1, "bob/user");
	struct visit_data d = { .n = &n, .code = 4401 };
	visit(r, "ann", &d, 0);
	assert_int_equal(n, 6);
	for (int i = 0; i < 6; i++) {
		rig_closed(ann[i], 4401);
	}
	visit(r, "ann", &d, 0);
	assert_int_equal(n, 6);
	assert_int_equal(bob->closed, 0);
	enter(r, 3, "cid/user");
	n = 0;
	d.code = 0;
	visit(r, NULL, &d, 0); /* everybody who is left */
	assert_int_equal(n, 2);
	rig_destroy(r);
}

TEST(hundreds_of_users_are_found_and_forgotten)
{
	UNUSED;
	enum { N = 300 };
	atomic_int asked = 0;
	struct rig *r = rig_with(1, &asked);
	struct rig_client *c[N];
	char token[32];
	for (int i = 0; i < N; i++) {
		snprintf(token, sizeof(token), "u%d/user", i);
		c[i] = enter(r, 0, token);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i += 7) {
			atomic_int n = 0;
			struct visit_data d = { .n = &n };
			snprintf(token, sizeof(token), "u%d", i);
			visit(r, token, &d, 0);
			assert_int_equal(n, round == 0);
			if (round == 0) {
				rig_close(c[i]);
			}
		}
	}
	rig_destroy(r);
}

TEST(what_lingers_finds_those_who_open_a_little_later)
{
	UNUSED;
	atomic_int asked = 0, now = 0, later = 0;
	struct rig *r = rig_with(2, &asked);
	struct visit_data at_once = { .n = &now, .code = 4403 };
	struct visit_data lingering = { .n = &later, .code = 4403 };
	visit(r, "ann", &at_once, 0);
	visit(r, "ann", &lingering, 10000);
	struct rig_client *bob = enter(r, 1, "bob/user");
	struct rig_client *ann = enter(r, 1, "ann/user");
	rig_closed(ann, 4403);
	assert_int_equal(now, 0);
	assert_int_equal(later, 1);
	assert_int_equal(bob->closed, 0);
	/* A short one is over before she comes again. */
	atomic_int brief = 0;
	struct visit_data soon = { .n = &brief };
	visit(r, "carol", &soon, 1);
	usleep(20000);
	(void)enter(r, 0, "carol/user");
	rig_settle(r);
	assert_int_equal(brief, 0);
	rig_destroy(r);
}

static void publish(void *arg)
{
	struct rig *r = arg;
	static const char *const dests[] = { "/topic/staff", "/topic/all" };
	for (int i = 0; i < 2; i++) {
		chatd_msg *m = msg_new(str_of(dests[i]), CHATD_LIT("hello"));
		assert_int_equal(dest_publish(&r->chat->workers[0], m), 0);
		msg_unref(m);
	}
}

TEST(fewer_roles_end_the_subscriptions_that_needed_them_and_no_others)
{
	UNUSED;
	atomic_int asked = 0, n = 0;
	struct rig *r = rig_with(2, &asked);
	struct rig_client *ann = enter(r, 1, "ann/staff"), *bob = enter(r, 0, "bob/staff");
	rig_subscribe(ann, "/topic/staff", CHATD_ACK_AUTO);
	rig_subscribe(ann, "/topic/all", CHATD_ACK_AUTO);
	rig_subscribe(ann, "/user/queue/errors", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/topic/staff", CHATD_ACK_AUTO);
	rig_on(r, 0, publish, r);
	rig_got(ann, 2);
	struct visit_data d = { .n = &n, .roles = "user" };
	visit(r, "ann", &d, 0);
	rig_got(ann, 3);
	assert_string_equal(ann->got[2].sub, "/user/queue/errors");
	assert_non_null(strstr(ann->got[2].body, "\"errorCode\":\"FORBIDDEN\""));
	rig_on(r, 0, publish, r);
	rig_got(ann, 4);
	rig_settle(r);
	assert_int_equal(rig_count(ann), 4);
	assert_string_equal(ann->got[3].sub, "/topic/all");
	assert_int_equal(rig_count(bob), 2);
	assert_int_equal(ann->closed, 0);
	rig_destroy(r);
}

TEST(the_hooks_are_asked_again_only_when_rights_have_changed)
{
	UNUSED;
	atomic_int asked = 0, n = 0;
	struct rig *r = rig_with(1, &asked);
	struct rig_client *ann = enter(r, 0, "ann/staff");
	rig_subscribe(ann, "/topic/staff", CHATD_ACK_AUTO);
	assert_int_equal(asked, 1);
	struct visit_data d = { .n = &n, .roles = "staff", .ms = 60000 };
	visit(r, "ann", &d, 0);
	assert_int_equal(asked, 1);
	strcpy(d.roles, "staff more");
	visit(r, "ann", &d, 0);
	assert_int_equal(asked, 2);
	rig_on(r, 0, publish, r);
	rig_got(ann, 1);
	rig_destroy(r);
}

static void renew_as_bob(void *arg)
{
	struct rig_client *c = arg;
	const struct chatd_identity bob = { .struct_size = sizeof(bob), .user = CHATD_LIT("bob") };
	assert_int_equal(session_renew(c->s, &bob), -EPERM);
	assert_true(str_eq(ident_user(session_ident(c->s)), CHATD_LIT("ann")));
}

TEST(nobody_becomes_somebody_else)
{
	UNUSED;
	atomic_int asked = 0;
	struct rig *r = rig_with(1, &asked);
	struct rig_client *ann = enter(r, 0, "ann/staff");
	rig_on(r, 0, renew_as_bob, ann);
	rig_destroy(r);
}

TEST(an_identity_that_ends_is_announced_and_closes_the_session)
{
	UNUSED;
	atomic_int asked = 0;
	struct rig *r = rig_with(1, &asked);
	struct rig_client *ann = enter(r, 0, "ann/user/800"), *bob = enter(r, 0, "bob/user/0");
	rig_subscribe(ann, "/user/queue/errors", CHATD_ACK_AUTO);
	rig_got(ann, 1);
	assert_non_null(strstr(ann->got[0].body, "\"errorCode\":\"AUTH_EXPIRING\""));
	assert_int_equal(ann->closed, 0);
	rig_closed(ann, 4401);
	assert_int_equal(rig_count(ann), 1);
	assert_int_equal(bob->closed, 0);
	rig_destroy(r);
}

TEST(one_that_is_renewed_in_time_goes_on)
{
	UNUSED;
	atomic_int asked = 0, n = 0;
	struct rig *r = rig_with(1, &asked);
	struct rig_client *ann = enter(r, 0, "ann/user/800"), *late = enter(r, 0, "late/user/900");
	rig_subscribe(ann, "/user/queue/errors", CHATD_ACK_AUTO);
	rig_got(ann, 1);
	struct visit_data d = { .n = &n, .roles = "user", .ms = 100000 };
	visit(r, "ann", &d, 0);
	rig_closed(late, 4401); /* whose end came after hers */
	rig_settle(r);
	assert_int_equal(ann->closed, 0);
	rig_destroy(r);
}

/* ---- requests ------------------------------------------------------------------- */

struct asked {
	struct rig *r;
	const chatd_ident *who;
	int n;
	chatd_verdict verdict;
	char code[32];
};

static void request_done(void *arg, const struct chatd_outcome *o)
{
	struct asked *a = arg;
	a->n++;
	a->verdict = o->verdict;
	snprintf(a->code, sizeof(a->code), "%s", o->code ? o->code : "");
}

static void ask(void *arg)
{
	struct asked *a = arg;
	chatd_msg *m = msg_new(CHATD_LIT("/api/x"), CHATD_LIT(""));
	chat_sessions_vt.request(a->r->chat, loop_worker(a->r->loop, 0), a->who, m, request_done, a);
	msg_unref(m);
}

static chatd_verdict on_request_as(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	assert_null(call_session(c));
	return may(call_ident(c), "staff") ? CHATD_NEXT : call_reject(c, "FORBIDDEN", "for staff");
}

TEST(a_request_passes_the_hooks_of_its_caller)
{
	UNUSED;
	struct rig *r = rig_create(1);
	rig_hook(r, chatd_hook_request_as, on_request_as, NULL, 0);
	rig_start(r);
	const struct chatd_identity staff = {
		.struct_size = sizeof(staff), .user = CHATD_LIT("ann"), .roles = CHATD_LIT("staff")
	};
	const chatd_ident *ann = ident_create_as(&staff);
	const chatd_ident *bob = ident_create(CHATD_LIT("bob"), CHATD_LIT("bob"), 0);
	struct asked nobody = { .r = r }, good = { .r = r, .who = ann }, bad = { .r = r, .who = bob };
	rig_on(r, 0, ask, &nobody);
	rig_on(r, 0, ask, &good);
	rig_on(r, 0, ask, &bad);
	rig_settle(r);
	assert_true(nobody.n == 1 && nobody.verdict == CHATD_ACCEPT);
	assert_true(good.n == 1 && good.verdict == CHATD_ACCEPT);
	assert_true(bad.n == 1 && bad.verdict == CHATD_REJECT);
	assert_string_equal(bad.code, "FORBIDDEN");
	ident_unref(ann);
	ident_unref(bob);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_session_of_a_user_is_visited_and_nobody_elses),
		cmocka_unit_test(hundreds_of_users_are_found_and_forgotten),
		cmocka_unit_test(what_lingers_finds_those_who_open_a_little_later),
		cmocka_unit_test(fewer_roles_end_the_subscriptions_that_needed_them_and_no_others),
		cmocka_unit_test(the_hooks_are_asked_again_only_when_rights_have_changed),
		cmocka_unit_test(nobody_becomes_somebody_else),
		cmocka_unit_test(an_identity_that_ends_is_announced_and_closes_the_session),
		cmocka_unit_test(one_that_is_renewed_in_time_goes_on),
		cmocka_unit_test(a_request_passes_the_hooks_of_its_caller),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

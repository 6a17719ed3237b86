/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/transport.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

/* In the place of all hooks of session_auth: the token "good" is .ident. */
struct fake {
	struct kit *k;
	struct kit_client *whose; /* a session with the identity that the token gives */
	const chatd_ident *ident;
	int hold;
	void (*fn)(void *arg, const struct chatd_outcome *, const chatd_ident *);
	void *arg;
	char token[64];
} fake;

static void answer(void *arg)
{
	int good = strcmp(fake.token, "good") == 0 && fake.ident;
	const struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = good ? CHATD_ACCEPT : CHATD_REJECT,
		.code = good ? NULL : "TOKEN_EXPIRED",
		.why = good ? chatd_str_of(NULL, 0) : CHATD_LIT("the access token has expired") };
	(void)arg;
	fake.fn(fake.arg, &o, good ? fake.ident : NULL);
}

static void identify(void *obj, chatd_worker *w, chatd_msg *creds,
		void (*fn)(void *arg, const struct chatd_outcome *, const chatd_ident *), void *arg)
{
	struct chatd_str t = kit_host(fake.k)->msg_get(creds, CHATD_CRED_BEARER);
	(void)obj;
	(void)w;
	fake.fn = fn;
	fake.arg = arg;
	snprintf(fake.token, sizeof(fake.token), "%.*s", (int)t.n, t.p);
	if (!fake.hold) {
		answer(NULL);
	}
}

static const struct chatd_sessions sessions_vt = { .struct_size = sizeof(sessions_vt),
	.identify = identify };

static void grab(void *arg)
{
	chatd_session *s = kit_session(fake.whose); /* NULL: there was no memory for it */
	(void)arg;
	fake.ident = s ? kit_host(fake.k)->session_ident(s) : NULL;
}

static struct kit_client *open_for(
		struct kit *k, const char *user, int64_t ms, struct chatd_str roles)
{
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.user = chatd_str_of(user, strlen(user)),
		.name = chatd_str_of(user, strlen(user)),
		.roles = roles,
		.login = CHATD_LIT("s1"),
		.expires = ms ? kit_host(k)->wall_ms() + ms : 0 };
	return kit_open_as(k, 0, &who);
}

/* The token will be @p user's, good for @p ms. */
static struct kit *start(const char *user, int64_t ms)
{
	const struct kit_service services[] = { { CHATD_SESSIONS, &sessions_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .services = services };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	fake = (struct fake){ .k = k };
	fake.whose = open_for(k, user, ms, CHATD_LIT("moderator"));
	kit_on(k, 0, grab, NULL);
	return k;
}

static struct chatd_str roles_now(struct kit *k, struct kit_client *c)
{
	static struct chatd_str roles;
	fake.whose = c;
	kit_on(k, 0, grab, NULL);
	roles = kit_host(k)->ident_roles(fake.ident);
	return roles;
}

TEST(a_newer_token_keeps_the_session_open)
{
	UNUSED;
	static const char *const bodies[] = { "{\"token\":\"good\"}", "{\"accessToken\":\"good\"}" };
	for (size_t i = 0; i < 2; i++) {
		struct kit *k = start("ann", 600000);
		struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
		kit_advance(k, 20000);
		kit_send(c, "/app/auth.refresh", bodies[i], NULL);
		kit_expect_accept(k);
		char at[32];
		snprintf(at, sizeof(at), "%lld", (long long)(kit_host(k)->wall_ms() + 580000));
		kit_expect_reply(k, "expires", at);
		kit_expect_reply(k, "expiresIn", "580");
		kit_advance(k, 20000);
		assert_true(kit_is_open(c));
		assert_int_equal(roles_now(k, c).n, strlen("moderator"));
		kit_advance(k, 570000);
		kit_expect_closed(c, 4401);
		kit_free(k);
	}
}

TEST(a_token_that_never_ends_says_no_end)
{
	UNUSED;
	struct kit *k = start("ann", 0);
	struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
	kit_send(c, "/app/auth.refresh", "{\"token\":\"good\"}", NULL);
	kit_expect_accept(k);
	kit_expect_reply(k, "expires", NULL);
	kit_advance(k, 60000);
	assert_true(kit_is_open(c));
	kit_free(k);
}

TEST(bad_ones_are_soft_errors_and_change_nothing)
{
	UNUSED;
	static const struct {
		const char *body, *code;
	} rows[] = { { "{\"token\":\"old\"}", "TOKEN_EXPIRED" }, { "{\"token\":\"\"}", "VALIDATION" },
		{ "{\"token\":7}", "VALIDATION" }, { "{}", "VALIDATION" }, { "", "VALIDATION" },
		{ "[]", "VALIDATION" }, { "{\"token\":\"good\",\"token\":\"good\"}", "VALIDATION" } };
	struct kit *k = start("ann", 600000);
	struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		kit_send(c, "/app/auth.refresh", rows[i].body, NULL);
		kit_expect_reject(k, rows[i].code, NULL);
		assert_true(kit_is_open(c));
	}
	kit_advance(k, 31000);
	kit_expect_closed(c, 4401);
	kit_free(k);
}

TEST(without_a_session_there_is_nothing_to_renew)
{
	UNUSED;
	struct kit *k = start("ann", 600000);
	kit_in_as(k, "ann", "/app/auth.refresh", "{\"token\":\"good\"}");
	kit_expect_reject(k, "FORBIDDEN", "no session");
	kit_free(k);
}

TEST(another_users_token_is_refused)
{
	UNUSED;
	struct kit *k = start("bob", 600000);
	struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
	kit_send(c, "/app/auth.refresh", "{\"token\":\"good\"}", NULL);
	kit_expect_reject(k, "OTHER_USER", "another user's");
	assert_true(kit_is_open(c));
	assert_int_equal(roles_now(k, c).n, 0);
	kit_free(k);
}

TEST(an_answer_after_the_client_left_harms_nothing)
{
	UNUSED;
	struct kit *k = start("ann", 600000);
	struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
	fake.hold = 1;
	kit_send(c, "/app/auth.refresh", "{\"token\":\"good\"}", NULL);
	kit_expect_waiting(k, 1);
	kit_close(c);
	kit_on(k, 0, answer, NULL);
	kit_free(k);
}

static void refresh_once(void)
{
	struct kit *k = start("ann", 600000);
	struct kit_client *c = open_for(k, "ann", 30000, CHATD_LIT(""));
	kit_send(c, "/app/auth.refresh", "{\"token\":\"good\"}", NULL);
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(refresh_once);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_newer_token_keeps_the_session_open),
		cmocka_unit_test(a_token_that_never_ends_says_no_end),
		cmocka_unit_test(bad_ones_are_soft_errors_and_change_nothing),
		cmocka_unit_test(without_a_session_there_is_nothing_to_renew),
		cmocka_unit_test(another_users_token_is_refused),
		cmocka_unit_test(an_answer_after_the_client_left_harms_nothing),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *start(const char *yaml)
{
	return kit_new(&chatd_plugin_under_test, yaml);
}

/* The device token of the login that was answered last. */
static const char *device(struct kit *k, char room[64])
{
	struct chatd_str d = kit_reply(k, CHATD_CRED_DEVICE);
	snprintf(room, 64, "%.*s", (int)d.n, d.p ? d.p : "");
	return room;
}

/* The value of a member of a JSON answer, as far as a test needs it. */
static const char *member(const struct kit_req *r, const char *name, char room[300])
{
	char key[40];
	snprintf(key, sizeof(key), "\"%s\":\"", name);
	struct chatd_str body = kit_http_body(r);
	const char *at = strstr(body.p, key);
	room[0] = '\0';
	if (at) {
		at += strlen(key);
		snprintf(room, 300, "%.*s", (int)strcspn(at, "\""), at);
	}
	return room;
}

TEST(a_guest_gets_an_account_and_a_device_token)
{
	UNUSED;
	char token[64];
	struct kit *k = start("");
	struct kit_client *c = kit_login(k, 0, "nickname", " Ann ", NULL);
	kit_expect_accept(k);
	assert_true(kit_is_open(c));
	assert_int_equal(strlen(device(k, token)), 43);
	kit_free(k);
}

TEST(the_device_token_finds_the_account_again)
{
	UNUSED;
	char token[64], user[300], again[300];
	struct kit *k = start("");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "{}", NULL);
	kit_expect_http(r, 200, "\"created\":true");
	member(r, "userId", user);
	snprintf(token, sizeof(token), "%s", member(r, "deviceToken", again));
	r = kit_http(k, "POST", "/api/auth/anonymous", "", "Device-Token", token, NULL);
	kit_expect_http(r, 200, "\"created\":false");
	assert_string_equal(member(r, "userId", again), user);
	kit_login(k, 0, "device-token", token, NULL);
	kit_expect_user(k, user, CHATD_ID_ANONYMOUS);
	kit_expect_reply(k, "device-token", NULL);
	kit_free(k);
}

TEST(an_unknown_device_token_gets_a_new_account)
{
	UNUSED;
	char token[64];
	struct kit *k = start("");
	kit_login(k, 0, "device-token", "0123456789012345678901234567890123456789012", NULL);
	kit_expect_accept(k);
	assert_int_equal(strlen(device(k, token)), 43);
	assert_string_not_equal(token, "0123456789012345678901234567890123456789012");
	kit_free(k);
}

TEST(credentials_that_nobody_verified_never_make_a_guest)
{
	UNUSED;
	static const char *const creds[] = { "login", "passcode", "bearer", "token" };
	struct kit *k = start("");
	for (size_t i = 0; i < sizeof(creds) / sizeof(creds[0]); i++) {
		kit_login(k, 0, creds[i], "x", NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	}
	kit_identify(k, 0, NULL); /* REST: no account in passing */
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	/* Not for a token that nobody has either: whoever guesses would push real guests out. */
	kit_identify(k, 0, "device-token", "0123456789012345678901234567890123456789012", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(the_access_token_is_a_bearer_wherever_one_is_taken)
{
	UNUSED;
	char user[300], token[300];
	struct kit *k = start("");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous",
			"{\"nickname\":\"\xef\xbc\xa1n\\u202e\\u200bn\"}", NULL);
	kit_expect_http(r, 200, "\"nickname\":\"Ann\"");
	member(r, "userId", user);
	member(r, "accessToken", token);
	kit_login(k, 0, "bearer", token, NULL);
	kit_expect_user(k, user, CHATD_ID_ANONYMOUS);
	kit_login(k, 0, "token", token, NULL);
	kit_expect_user(k, user, CHATD_ID_ANONYMOUS);
	kit_login(k, 0, "passcode", token, NULL);
	kit_expect_user(k, user, CHATD_ID_ANONYMOUS);
	kit_identify(k, 0, "bearer", token, NULL);
	kit_expect_user(k, user, CHATD_ID_ANONYMOUS);
	kit_free(k);
}

TEST(an_access_token_ends_and_cannot_be_bent)
{
	UNUSED;
	char token[300];
	struct kit *k = start("token_ttl: 1m");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	member(r, "accessToken", token);
	for (size_t i = 0; token[i]; i++) {
		char was = token[i];
		/* The last character of unpadded base64 has bits that mean nothing. */
		token[i] = was == 'A' ? 'Q' : 'A';
		kit_login(k, 0, "bearer", token, NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
		token[i] = was;
	}
	kit_advance(k, 59999);
	kit_login(k, 0, "bearer", token, NULL);
	kit_expect_accept(k);
	kit_advance(k, 1);
	kit_login(k, 0, "bearer", token, NULL);
	kit_expect_reject(k, "TOKEN_EXPIRED", "expired");
	kit_free(k);
}

TEST(a_session_by_token_ends_with_it_one_by_device_does_not)
{
	UNUSED;
	char token[300], again[300];
	struct kit *k = start("token_ttl: 1m\ndevices: 2");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	struct kit_client *c = kit_login(k, 0, "bearer", member(r, "accessToken", token), NULL);
	struct kit_client *d = kit_login(k, 0, "device-token", member(r, "deviceToken", again), NULL);
	kit_subscribe(c, "/user/queue/errors");
	kit_advance(k, 50000);
	kit_expect_delivery(c, "/user/queue/errors", "AUTH_EXPIRING");
	kit_advance(k, 10100);
	kit_expect_closed(c, 4401);
	assert_true(kit_is_open(d));
	kit_free(k);
}

static struct {
	struct kit *k;
	struct kit_client *c;
	char client[80];
} seen;

static void look(void *arg)
{
	const struct chatd_host *h = kit_host(seen.k);
	struct chatd_str s = h->ident_client(h->session_ident(kit_session(seen.c)));
	(void)arg;
	snprintf(seen.client, sizeof(seen.client), "%.*s", (int)s.n, s.p ? s.p : "");
}

TEST(an_identity_knows_its_client_identifier)
{
	UNUSED;
	char token[300], client[300];
	struct kit *k = start("");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	member(r, "clientIdentifier", client);
	seen.k = k;
	seen.c = kit_login(k, 0, "bearer", member(r, "accessToken", token), NULL);
	kit_on(k, 0, look, NULL);
	assert_string_equal(seen.client, client);
	seen.c = kit_login(k, 0, "device-token", member(r, "deviceToken", token), NULL);
	kit_on(k, 0, look, NULL);
	assert_string_equal(seen.client, client);
	kit_free(k);
}

/* ---- devices ---------------------------------------------------------------------------- */

static struct kit *start_two(const char *yaml)
{
	const struct kit_conf conf = { .workers = 2 };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

TEST(a_second_session_of_a_guest_takes_over)
{
	UNUSED;
	char token[300];
	for (int32_t w = 0; w < 2; w++) {
		struct kit *k = start_two("");
		struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
		member(r, "deviceToken", token);
		struct kit_client *first = kit_login(k, w, "device-token", token, NULL);
		kit_subscribe(first, "/user/queue/errors");
		struct kit_client *other = kit_login(k, 0, NULL); /* another guest */
		struct kit_client *second = kit_login(k, 1, "device-token", token, NULL);
		kit_run(k);
		kit_expect_delivery(first, "/user/queue/errors", "TAKEN_OVER");
		kit_expect_closed(first, 4409);
		assert_true(kit_is_open(second));
		assert_true(kit_is_open(other));
		/* and so on */
		struct kit_client *third = kit_login(k, 0, "device-token", token, NULL);
		kit_run(k);
		kit_expect_closed(second, 4409);
		assert_true(kit_is_open(third));
		kit_free(k);
	}
}

TEST(who_has_left_makes_room)
{
	UNUSED;
	char token[300];
	struct kit *k = start_two("devices: 2");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	member(r, "deviceToken", token);
	struct kit_client *a = kit_login(k, 0, "device-token", token, NULL);
	struct kit_client *b = kit_login(k, 1, "device-token", token, NULL);
	kit_close(b);
	struct kit_client *c = kit_login(k, 1, "device-token", token, NULL);
	kit_run(k);
	assert_true(kit_is_open(a) && kit_is_open(c));
	struct kit_client *d = kit_login(k, 0, "device-token", token, NULL);
	kit_run(k);
	kit_expect_closed(a, 4409);
	assert_true(kit_is_open(c) && kit_is_open(d));
	kit_free(k);
}

TEST(any_number_of_sessions_if_so_configured)
{
	UNUSED;
	char token[300];
	struct kit *k = start_two("devices: 0");
	struct kit_client *c[5];
	member(kit_http(k, "POST", "/api/auth/anonymous", "", NULL), "deviceToken", token);
	for (int i = 0; i < 5; i++) {
		c[i] = kit_login(k, i % 2, "device-token", token, NULL);
	}
	kit_run(k);
	for (int i = 0; i < 5; i++) {
		assert_true(kit_is_open(c[i]));
	}
	kit_free(k);
}

TEST(registered_users_have_as_many_as_they_like)
{
	UNUSED;
	struct kit *k = start_two("");
	struct kit_client *a = kit_open(k, "ann"), *b = kit_open_on(k, 1, "ann", 0);
	kit_run(k);
	assert_true(kit_is_open(a) && kit_is_open(b));
	struct kit_client *g = kit_open_on(k, 1, "guest", CHATD_ID_ANONYMOUS);
	struct kit_client *h = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_run(k);
	kit_expect_closed(g, 4409);
	assert_true(kit_is_open(h));
	kit_free(k);
}

/* Both have opened before worker 0 hears of either: the later one stays, whoever is heard of
 * first. */
TEST(two_at_the_same_moment_leave_one)
{
	UNUSED;
	for (int32_t w = 0; w < 2; w++) {
		struct kit *k = start_two("");
		kit_manual(k, 1);
		struct kit_client *a = kit_open_on(k, w, "guest", CHATD_ID_ANONYMOUS);
		struct kit_client *b = kit_open_on(k, !w, "guest", CHATD_ID_ANONYMOUS);
		while (kit_step(k, !w) || kit_step(k, w)) {
		}
		assert_int_equal(kit_is_open(a) + kit_is_open(b), 1);
		kit_manual(k, 0);
		kit_free(k);
	}
}

TEST(two_tokens_of_two_users_contradict_each_other)
{
	UNUSED;
	char a[300], b[300];
	struct kit *k = start("");
	member(kit_http(k, "POST", "/api/auth/anonymous", "", NULL), "accessToken", a);
	member(kit_http(k, "POST", "/api/auth/anonymous", "", NULL), "accessToken", b);
	kit_login(k, 0, "bearer", a, "token", b, NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "conflicting credentials");
	kit_login(k, 0, "bearer", a, "token", a, NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(an_answer_after_the_client_left_harms_nothing)
{
	UNUSED;
	struct kit *k = start("");
	kit_hold(k, CHATD_ACCOUNTS, 1);
	struct kit_client *c = kit_login(k, 0, NULL);
	kit_expect_waiting(k, 1);
	kit_close(c);
	kit_answer(k, CHATD_ACCOUNTS);
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	kit_http_gone(r);
	kit_answer(k, CHATD_ACCOUNTS);
	c = kit_login(k, 0, NULL);
	kit_advance(k, 7000);
	kit_expect_reject(k, "UNAVAILABLE", "did not answer in time");
	kit_answer(k, CHATD_ACCOUNTS);
	assert_false(kit_is_open(c));
	kit_free(k);
}

TEST(accounts_that_fail_refuse_the_login_and_answer_503)
{
	UNUSED;
	struct kit *k = start("");
	kit_refuse(k, CHATD_ACCOUNTS, -ENOMEM);
	kit_login(k, 0, NULL);
	kit_expect_reject(k, "UNAVAILABLE", "try again");
	kit_hold(k, CHATD_ACCOUNTS, 1);
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	kit_answer_error(k, CHATD_ACCOUNTS, -EIO);
	kit_expect_http(r, 503, "the account could not be made; try again");
	kit_free(k);
}

TEST(identify_by_client_needs_no_token)
{
	UNUSED;
	char user[300], again[300];
	struct kit *k = start("identify_by: client\ncookie: false");
	struct kit_req *r =
			kit_http(k, "POST", "/api/auth/anonymous", "", "User-Agent", "browser", NULL);
	member(r, "userId", user);
	assert_null(kit_http_header(r, "Set-Cookie").p);
	r = kit_http(k, "POST", "/api/auth/anonymous", "", "User-Agent", "browser", NULL);
	assert_string_equal(member(r, "userId", again), user);
	r = kit_http(k, "POST", "/api/auth/anonymous", "", "User-Agent", "other", NULL);
	assert_string_not_equal(member(r, "userId", again), user);
	kit_free(k);
}

TEST(the_cookie_is_secure_behind_tls_and_the_answer_not_stored)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "", NULL);
	struct chatd_str c = kit_http_header(r, "Set-Cookie");
	assert_non_null(memmem(c.p, c.n, "HttpOnly; SameSite=Lax", 22));
	assert_null(memmem(c.p, c.n, "Secure", 6));
	assert_int_equal(kit_http_header(r, "Cache-Control").n, strlen("no-store"));
	r = kit_http(k, "POST", "/api/auth/anonymous", "", "X-Forwarded-Proto", "https", NULL);
	c = kit_http_header(r, "Set-Cookie");
	assert_non_null(memmem(c.p, c.n, "; Secure", 8));
	kit_free(k);
}

TEST(a_body_that_is_no_object_is_refused)
{
	UNUSED;
	struct kit *k = start("");
	static const char *const bad[] = { "{", "[]", "\"x\"", "{\"a\":1,\"a\":2}", "{} x" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		kit_expect_http(
				kit_http(k, "POST", "/api/auth/anonymous", bad[i], NULL), 400, "VALIDATION");
	}
	kit_free(k);
}

TEST(a_nickname_of_what_cannot_be_seen_is_none)
{
	UNUSED;
	char user[300];
	struct kit *k = start("");
	struct kit_req *r = kit_http(
			k, "POST", "/api/auth/anonymous", "{\"nickname\":\"\\n\\u202e \\u200b\"}", NULL);
	char want[330];
	snprintf(want, sizeof(want), "\"nickname\":\"%s\"", member(r, "userId", user));
	kit_expect_http(r, 200, want);
	kit_free(k);
}

static void enter_both_ways(void)
{
	char token[300];
	struct kit *k = start("");
	kit_login(k, 0, NULL);
	struct kit_req *r = kit_http(k, "POST", "/api/auth/anonymous", "{}", NULL);
	if (kit_http_status(r) == 200) {
		kit_login(k, 0, "bearer", member(r, "accessToken", token), NULL);
		kit_login(k, 0, "device-token", member(r, "deviceToken", token), "nickname", "New", NULL);
		kit_expect_accept(k);
	}
	kit_advance(k, 7000);
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(enter_both_ways);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_gets_an_account_and_a_device_token),
		cmocka_unit_test(the_device_token_finds_the_account_again),
		cmocka_unit_test(an_unknown_device_token_gets_a_new_account),
		cmocka_unit_test(credentials_that_nobody_verified_never_make_a_guest),
		cmocka_unit_test(the_access_token_is_a_bearer_wherever_one_is_taken),
		cmocka_unit_test(an_access_token_ends_and_cannot_be_bent),
		cmocka_unit_test(a_session_by_token_ends_with_it_one_by_device_does_not),
		cmocka_unit_test(an_identity_knows_its_client_identifier),
		cmocka_unit_test(a_second_session_of_a_guest_takes_over),
		cmocka_unit_test(who_has_left_makes_room),
		cmocka_unit_test(any_number_of_sessions_if_so_configured),
		cmocka_unit_test(registered_users_have_as_many_as_they_like),
		cmocka_unit_test(two_at_the_same_moment_leave_one),
		cmocka_unit_test(two_tokens_of_two_users_contradict_each_other),
		cmocka_unit_test(an_answer_after_the_client_left_harms_nothing),
		cmocka_unit_test(accounts_that_fail_refuse_the_login_and_answer_503),
		cmocka_unit_test(identify_by_client_needs_no_token),
		cmocka_unit_test(the_cookie_is_secure_behind_tls_and_the_answer_not_stored),
		cmocka_unit_test(a_body_that_is_no_object_is_refused),
		cmocka_unit_test(a_nickname_of_what_cannot_be_seen_is_none),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

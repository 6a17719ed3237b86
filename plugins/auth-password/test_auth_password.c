/* SPDX-License-Identifier: Apache-2.0 */
/* The routes and CONNECT, over fakes of everything that lasts. */
#include "fakes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *start(const char *yaml)
{
	return fakes_kit(&chatd_plugin_under_test, yaml);
}

#define post(k, path, body, ...) kit_http(k, "POST", "/api/auth/" path, body, ##__VA_ARGS__, NULL)
#define ANN                      "{\"email\":\"Ann@Example.org\",\"password\":\"right horse\"}"
#define ANN_WRONG                "{\"email\":\"ann@example.org\",\"password\":\"wrong horse\"}"

static const char *member(const struct kit_req *r, const char *name, char room[500])
{
	char key[40];
	snprintf(key, sizeof(key), "\"%s\":\"", name);
	struct chatd_str body = kit_http_body(r);
	const char *at = body.p ? memmem(body.p, body.n, key, strlen(key)) : NULL;
	room[0] = '\0';
	if (at) {
		at += strlen(key);
		snprintf(room, 500, "%.*s", (int)strcspn(at, "\""), at);
	}
	return room;
}

struct pair {
	char access[500], refresh[500], user[500], login[500];
};

static struct pair pair_of(const struct kit_req *r)
{
	struct pair p;
	member(r, "accessToken", p.access);
	member(r, "refreshToken", p.refresh);
	member(r, "userId", p.user);
	member(r, "session", p.login);
	return p;
}

static struct pair log_in(struct kit *k)
{
	return pair_of(post(k, "authenticate", ANN));
}

static struct kit_req *refresh(struct kit *k, const char *token)
{
	char body[600];
	snprintf(body, sizeof(body), "{\"refreshToken\":\"%.500s\"}", token);
	return post(k, "refresh", body);
}

/* ---- registering ------------------------------------------------------------------- */

TEST(who_registers_can_log_in_and_the_password_is_nowhere)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = post(k, "register", ANN);
	kit_expect_http(r, 201, "\"success\":true");
	kit_expect_http(r, 201, "\"email\":\"ann@example.org\"");
	kit_expect_http(r, 201, "\"nickname\":\"ann\"");
	kit_expect_http(r, 201, "\"accessToken\":null,\"refreshToken\":null");
	assert_memory_equal(fake_account("ann@example.org")->hash, "$argon2id$", 10);
	r = post(k, "authenticate", ANN);
	kit_expect_http(r, 200, "\"tokenType\":\"Bearer\",\"expiresIn\":900");
	r = post(k, "login", ANN, "User-Agent", "browser");
	kit_expect_http(r, 200, "\"refreshToken\":\"refresh.");
	assert_string_equal(fake_login(pair_of(r).login)->device, "browser");
	/* What the store keeps of the refresh token is a hash. */
	assert_int_equal(strlen(fake_login(pair_of(r).login)->refresh), 64);
	kit_free(k);
}

TEST(every_fault_is_listed)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = post(
			k, "register", "{\"email\":\"ann\",\"password\":\"short\",\"nickname\":\"\\u202e\"}");
	kit_expect_http(r, 422, "\"field\":\"email\",\"code\":\"INVALID\"");
	kit_expect_http(r, 422, "\"field\":\"password\",\"code\":\"LENGTH\"");
	kit_expect_http(r, 422, "\"field\":\"nickname\",\"code\":\"INVALID\"");
	kit_expect_http(post(k, "register", "{}"), 422, "\"code\":\"REQUIRED\"");
	kit_expect_http(post(k, "register", "{"), 400, "VALIDATION");
	kit_expect_http(post(k, "register", "{\"email\":1}"), 422, "VALIDATION");
	kit_expect_http(post(k, "register", "{\"email\":\"a@b.cc\",\"password\":\"12345\\u0000678\"}"),
			400, "VALIDATION");
	kit_expect_http(post(k, "register", "{\"email\":\"a@b.cc\",\"password\":\"          \"}"), 422,
			"BLANK");
	assert_int_equal(fakes.n_accounts, 0);
	kit_free(k);
}

TEST(h142_a_password_of_128_characters_is_taken_one_of_129_is_not_and_none_is_cut)
{
	UNUSED;
	char body[2000], pass[520] = "";
	struct kit *k = start("");
	for (int i = 0; i < 128; i++) {
		memcpy(pass + 2 * i, "\xc3\xa9", 3); /* two bytes: characters are counted */
	}
	snprintf(body, sizeof(body), "{\"email\":\"a@b.cc\",\"password\":\"%s\"}", pass);
	kit_expect_http(post(k, "register", body), 201, "");
	kit_expect_http(post(k, "authenticate", body), 200, "");
	pass[strlen(pass) - 1] = '\xa8'; /* the last character alone differs */
	snprintf(body, sizeof(body), "{\"email\":\"a@b.cc\",\"password\":\"%s\"}", pass);
	kit_expect_http(post(k, "authenticate", body), 401, "INVALID_CREDENTIALS");
	snprintf(body, sizeof(body), "{\"email\":\"b@b.cc\",\"password\":\"%sx\"}", pass);
	kit_expect_http(post(k, "register", body), 422, "LENGTH");
	kit_free(k);
}

TEST(an_address_and_a_nickname_are_taken_once)
{
	UNUSED;
	struct kit *k = start("");
	kit_expect_http(post(k, "register", ANN), 201, "");
	kit_expect_http(
			post(k, "register", "{\"email\":\"ANN@EXAMPLE.ORG\",\"password\":\"12345678\"}"), 409,
			"\"code\":\"EMAIL_TAKEN\"");
	struct kit_req *r = post(
			k, "register", "{\"email\":\"b@b.cc\",\"password\":\"12345678\",\"nickname\":\"Ann\"}");
	kit_expect_http(r, 409, "\"code\":\"NICKNAME_TAKEN\"");
	kit_expect_http(r, 409, "\"success\":false");
	/* A nickname that nobody asked for gives way. */
	r = post(k, "register", "{\"email\":\"ann@b.cc\",\"password\":\"12345678\"}");
	kit_expect_http(r, 201, "\"nickname\":\"ann-");
	kit_free(k);
}

static void expect_registered(void *arg)
{
	const struct chatd_host *h = kit_host(fakes.k);
	const chatd_ident *ident = h->session_ident(kit_session(arg));
	assert_int_equal(h->ident_flags(ident), 0);
	assert_memory_equal(h->ident_name(ident).p, "ann", 3);
}

TEST(a_guest_who_registers_keeps_the_account_and_the_open_session)
{
	UNUSED;
	struct kit *k = start("");
	fakes.accounts[fakes.n_accounts++] =
			(struct fake_account){ .id = "g1", .nick = "guest", .flags = CHATD_ID_ANONYMOUS };
	struct kit_client *c = kit_open_on(k, 1, "g1", CHATD_ID_ANONYMOUS);
	struct kit_req *r =
			post(k, "register", ANN, "kit-user", "g1", "kit-flags", "1", "Device-Token", "x");
	kit_expect_http(r, 201, "\"userId\":\"g1\"");
	kit_expect_http(r, 201, "\"upgraded\":true");
	assert_int_equal(fake_account("ann@example.org")->flags, 0);
	assert_true(kit_is_open(c));
	kit_on(k, 1, expect_registered, c);
	/* Again, with what is left of the guest: it is one no more. */
	r = post(k, "register", "{\"email\":\"b@b.cc\",\"password\":\"12345678\"}", "kit-user", "g1",
			"kit-flags", "1", "Device-Token", "x");
	kit_expect_http(r, 409, "ALREADY_REGISTERED");
	kit_free(k);
}

TEST(who_has_an_account_does_not_register_another_by_its_token)
{
	UNUSED;
	struct kit *k = start("");
	kit_expect_http(post(k, "register", ANN, "kit-user", "u1", "Device-Token", "x"), 409,
			"ALREADY_REGISTERED");
	kit_expect_http(post(k, "register", ANN, "Authorization", "Bearer bad"), 401, "UNAUTHORIZED");
	/* A device token of nobody does not stand in the way. */
	kit_expect_http(post(k, "register", ANN, "Device-Token", "gone"), 201, "\"upgraded\":false");
	kit_free(k);
}

TEST(registrations_are_limited_by_address)
{
	UNUSED;
	struct kit *k = start("");
	fakes.limit_retry = 90000;
	struct kit_req *r = post(k, "register", ANN);
	kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
	assert_memory_equal(kit_http_header(r, "Retry-After").p, "90", 2);
	kit_free(k);
}

/* ---- logging in ------------------------------------------------------------------------ */

TEST(r21_h140_a_wrong_password_and_an_unknown_address_get_the_same_answer)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	fakes.accounts[fakes.n_accounts++] = (struct fake_account){
		.id = "g1", .email = "guest@example.org", .flags = CHATD_ID_ANONYMOUS
	}; /* has no password */
	static const char *const bodies[] = { ANN_WRONG,
		"{\"email\":\"nobody@example.org\",\"password\":\"wrong horse\"}",
		"{\"email\":\"guest@example.org\",\"password\":\"wrong horse\"}" };
	kit_hold_offload(k, 1);
	struct kit_req *r[3];
	for (int i = 0; i < 3; i++) {
		r[i] = post(k, "authenticate", bodies[i]);
		/* Each of them waits for a hash: none is answered without one. */
		assert_int_equal(kit_http_status(r[i]), 0);
	}
	kit_hold_offload(k, 0);
	kit_run(k);
	for (int i = 0; i < 3; i++) {
		kit_expect_http(r[i], 401, "INVALID_CREDENTIALS");
		assert_int_equal(kit_http_body(r[i]).n, kit_http_body(r[0]).n);
		assert_memory_equal(kit_http_body(r[i]).p, kit_http_body(r[0]).p, kit_http_body(r[0]).n);
	}
	kit_free(k);
}

TEST(a_hash_of_the_reference_is_verified_and_replaced)
{
	UNUSED;
	/* bcrypt of "password123", of the kind that Spring's BCryptPasswordEncoder writes. */
	static const char spring[] = "$2a$10$abcdefghijklmnopqrstuu0SYq8twpcthS10uxQ26rv0s3Obj8Ufu";
	struct kit *k = start("");
	fakes.accounts[fakes.n_accounts++] =
			(struct fake_account){ .id = "u1", .nick = "old", .email = "old@example.org" };
	snprintf(fakes.accounts[0].hash, sizeof(fakes.accounts[0].hash), "%s", spring);
	kit_expect_http(post(k, "login", "{\"email\":\"old@example.org\",\"password\":\"password12\"}"),
			401, "INVALID_CREDENTIALS");
	assert_string_equal(fakes.accounts[0].hash, spring);
	for (int i = 0; i < 2; i++) {
		kit_expect_http(
				post(k, "login", "{\"email\":\"old@example.org\",\"password\":\"password123\"}"),
				200, "accessToken");
		assert_memory_equal(fakes.accounts[0].hash, "$argon2id$", 10);
	}
	kit_free(k);
}

TEST(new_passwords_can_be_bcrypt_and_are_never_cut_at_72_bytes)
{
	UNUSED;
	char body[300], pass[80];
	struct kit *k = start("hash: bcrypt\nbcrypt_cost: 4");
	memset(pass, 'x', 73);
	pass[73] = '\0';
	snprintf(body, sizeof(body), "{\"email\":\"a@b.cc\",\"password\":\"%s\"}", pass);
	kit_expect_http(post(k, "register", body), 422, "72 bytes");
	pass[72] = '\0';
	snprintf(body, sizeof(body), "{\"email\":\"a@b.cc\",\"password\":\"%s\"}", pass);
	kit_expect_http(post(k, "register", body), 201, "");
	assert_memory_equal(fakes.accounts[0].hash, "$2b$04$", 7);
	kit_expect_http(post(k, "login", body), 200, "");
	snprintf(body, sizeof(body), "{\"email\":\"a@b.cc\",\"password\":\"%sy\"}", pass);
	kit_expect_http(post(k, "login", body), 401, "");
	kit_free(k);
}

static void change_hash(void)
{
	snprintf(fake_account("ann@example.org")->hash, sizeof(fake_account("ann@example.org")->hash),
			"%s", "$argon2id$changed");
}

TEST(a_login_that_overtakes_a_change_of_the_password_does_not_stay)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	fake_hold(1);
	struct kit_req *r = post(k, "login", ANN);
	fake_hold(0); /* the account is read; the hash is right; the login is created ... */
	fake_hold(1);
	kit_expect_http(r, 200, "accessToken");
	r = post(k, "login", ANN);
	fakes.hold = 0;
	fakes.before = NULL;
	change_hash();
	fake_hold(0);
	kit_expect_http(r, 503, "STORE_BUSY");
	assert_null(fake_login(fakes.logins[1].id));
	kit_free(k);
}

TEST(who_is_banned_or_must_confirm_the_address_does_not_get_in)
{
	UNUSED;
	struct kit *k = start("verify: required");
	post(k, "register", ANN);
	kit_expect_http(post(k, "login", ANN), 403, "EMAIL_NOT_VERIFIED");
	kit_expect_http(post(k, "login", ANN_WRONG), 401, "INVALID_CREDENTIALS");
	fakes.accounts[0].bits = CHATD_ACCOUNT_VERIFIED;
	kit_expect_http(post(k, "login", ANN), 200, "\"emailVerified\":true");
	fakes.accounts[0].banned_until = INT64_MAX;
	kit_expect_http(post(k, "login", ANN), 403, "BANNED");
	kit_free(k);
}

TEST(h141_guesses_are_slowed_down_more_and_more)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	for (int i = 0; i < 5; i++) {
		kit_expect_http(post(k, "login", ANN_WRONG), 401, "");
	}
	for (int64_t delay = 1; delay <= 8; delay *= 2) {
		char want[24];
		struct kit_req *r = post(k, "login", ANN); /* the right one must wait as well */
		kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
		int n = snprintf(want, sizeof(want), "%lld", (long long)delay);
		struct chatd_str retry = kit_http_header(r, "Retry-After");
		assert_int_equal(retry.n, n);
		assert_memory_equal(retry.p, want, (size_t)n);
		kit_advance(k, delay * 1000);
		kit_expect_http(post(k, "login", ANN_WRONG), 401, "");
	}
	kit_advance(k, 16000);
	kit_expect_http(post(k, "login", ANN), 200, ""); /* and then it is forgotten */
	kit_expect_http(post(k, "login", ANN_WRONG), 401, "");
	kit_expect_http(post(k, "login", ANN), 200, "");
	kit_free(k);
}

TEST(h141_an_unknown_address_is_slowed_down_like_a_known_one)
{
	UNUSED;
	struct kit *k = start("");
	static const char body[] = "{\"email\":\"no@example.org\",\"password\":\"wrong horse\"}";
	for (int i = 0; i < 5; i++) {
		kit_expect_http(post(k, "login", body), 401, "");
	}
	kit_expect_http(post(k, "login", body), 429, "");
	kit_free(k);
}

TEST(h178_a_full_queue_answers_busy_and_no_attempt_is_counted)
{
	UNUSED;
	struct kit *k = start("hash_queue: 2");
	post(k, "register", ANN);
	kit_hold_offload(k, 1);
	struct kit_req *a = post(k, "login", ANN), *b = post(k, "login", ANN);
	struct kit_req *busy = NULL;
	for (int i = 0; i < 30; i++) {
		busy = post(k, "login", ANN_WRONG);
		kit_expect_http(busy, 503, "BUSY");
	}
	assert_memory_equal(kit_http_header(busy, "Retry-After").p, "1", 1);
	kit_hold_offload(k, 0);
	kit_run(k);
	kit_expect_http(a, 200, "");
	kit_expect_http(b, 200, "");
	kit_expect_http(post(k, "login", ANN), 200, "");
	kit_free(k);
}

/* ---- refresh --------------------------------------------------------------------------- */

TEST(r04_refresh_rotates_and_logout_ends)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair p = log_in(k), q = pair_of(refresh(k, p.refresh));
	assert_string_not_equal(p.refresh, q.refresh);
	assert_string_not_equal(p.access, q.access);
	assert_string_equal(p.login, q.login);
	kit_expect_http(post(k, "logout", "", "kit-user", p.user, "kit-login", p.login, "Authorization",
							"Bearer x"),
			401, ""); /* the kit's identity, and a token that is nobody's */
	kit_expect_http(
			post(k, "logout", "", "kit-user", p.user, "kit-login", p.login), 200, "success");
	kit_expect_http(refresh(k, q.refresh), 401, "UNAUTHORIZED");
	/* Also by the refresh token, once the access token is over. */
	p = log_in(k);
	char body[600];
	snprintf(body, sizeof(body), "{\"refreshToken\":\"%s\"}", p.refresh);
	kit_expect_http(post(k, "logout", body), 200, "success");
	kit_expect_http(refresh(k, p.refresh), 401, "UNAUTHORIZED");
	kit_free(k);
}

TEST(h138_a_lost_answer_is_given_again_and_a_spent_token_ends_the_family)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair p = log_in(k), q = pair_of(refresh(k, p.refresh)),
				again = pair_of(refresh(k, p.refresh));
	assert_string_equal(q.refresh, again.refresh); /* the same successor */
	struct kit_client *c = kit_open_as(k, 1,
			&(struct chatd_identity){ .struct_size = sizeof(struct chatd_identity),
					.user = chatd_str_of(p.user, strlen(p.user)),
					.name = CHATD_LIT("Ann"),
					.login = chatd_str_of(p.login, strlen(p.login)) });
	struct kit_client *other = kit_open(k, p.user);
	struct pair r = pair_of(refresh(k, q.refresh)); /* the successor was used */
	kit_expect_http(refresh(k, p.refresh), 401, "REFRESH_REUSED");
	kit_expect_closed(c, 4401);
	assert_true(kit_is_open(other));
	kit_expect_http(refresh(k, r.refresh), 401, "");
	kit_free(k);
}

TEST(h138_after_the_grace_a_spent_token_is_a_stolen_one)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair p = log_in(k), q = pair_of(refresh(k, p.refresh));
	kit_advance(k, 61000);
	kit_expect_http(refresh(k, p.refresh), 401, "REFRESH_REUSED");
	kit_expect_http(refresh(k, q.refresh), 401, "");
	kit_free(k);
}

TEST(twenty_who_refresh_at_once_get_one_successor)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r[20];
	post(k, "register", ANN);
	struct pair p = log_in(k);
	fake_hold(1);
	for (int i = 0; i < 20; i++) {
		r[i] = refresh(k, p.refresh);
	}
	fake_hold(0);
	struct pair first = pair_of(r[0]);
	for (int i = 1; i < 20; i++) {
		kit_expect_http(r[i], 200, "");
		assert_string_equal(pair_of(r[i]).refresh, first.refresh);
	}
	kit_expect_http(refresh(k, first.refresh), 200, "");
	kit_free(k);
}

/* Whatever is presented in whatever order, one refresh token at most is good: of all that were
 * ever given out, no two can be exchanged one after the other into different families. */
TEST(property_at_most_one_refresh_token_of_a_family_is_good)
{
	UNUSED;
	for (unsigned seed = 1; seed <= 40; seed++) {
		struct kit *k = start("");
		static char token[40][500];
		int n = 0, ended = 0;
		unsigned x = seed * 2654435761u;
		post(k, "register", ANN);
		snprintf(token[n++], sizeof(token[0]), "%s", log_in(k).refresh);
		for (int i = 0; i < 30; i++) {
			x = x * 1664525u + 1013904223u;
			/* Mostly the newest ones, now and then any. */
			int pick = (x >> 28) < 12 ? n - 1 - (int)((x >> 24) & 1 ? n > 1 : 0)
									  : (int)((x >> 16) % (unsigned)n);
			kit_advance(k, (x >> 8 & 7) == 0 ? 61000 : 100);
			struct kit_req *r = refresh(k, token[pick]);
			if (kit_http_status(r) != 200) {
				ended = 1;
				break;
			}
			struct pair p = pair_of(r);
			if (strcmp(p.refresh, token[n - 1]) != 0) {
				/* A token that is new may only come from the one that was good. */
				assert_int_equal(pick, n - 1);
				snprintf(token[n++], sizeof(token[0]), "%s", p.refresh);
			}
		}
		for (int i = 0; ended && i < n; i++) {
			kit_expect_http(refresh(k, token[i]), 401, "");
		}
		kit_free(k);
	}
}

TEST(only_a_refresh_token_of_this_server_is_exchanged)
{
	UNUSED;
	struct kit *k = start("refresh_idle: 1h\nrefresh_lifetime: 2h");
	post(k, "register", ANN);
	struct pair p = log_in(k);
	kit_expect_http(refresh(k, p.access), 401, "UNAUTHORIZED"); /* R03 the other way round */
	kit_expect_http(refresh(k, "x"), 401, "UNAUTHORIZED");
	kit_expect_http(refresh(k, ""), 401, "UNAUTHORIZED");
	kit_expect_http(post(k, "refresh", "{}"), 422, "refreshToken is missing");
	kit_expect_http(post(k, "refresh", "{\"refreshToken\":7}"), 422, "VALIDATION");
	kit_advance(k, 3601000);
	kit_expect_http(refresh(k, p.refresh), 401, "TOKEN_EXPIRED");
	kit_free(k);
}

TEST(who_is_banned_does_not_refresh)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair p = log_in(k);
	fakes.accounts[0].banned_until = INT64_MAX;
	kit_expect_http(refresh(k, p.refresh), 403, "BANNED");
	kit_free(k);
}

/* ---- devices ------------------------------------------------------------------------------ */

TEST(devices_are_listed_and_ended_one_by_one_or_all_others)
{
	UNUSED;
	char path[600];
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair a = log_in(k), b = log_in(k), c = log_in(k);
	struct kit_req *r = kit_http(
			k, "GET", "/api/auth/sessions", "", "kit-user", a.user, "kit-login", b.login, NULL);
	kit_expect_http(r, 200, a.login);
	snprintf(path, sizeof(path), "\"id\":\"%s\",\"device\":\"\",\"created\":\"", b.login);
	kit_expect_http(r, 200, path);
	assert_non_null(strstr(kit_http_body(r).p, "\"current\":true"));
	snprintf(path, sizeof(path), "/api/auth/sessions/%s", a.login);
	kit_expect_http(
			kit_http(k, "DELETE", path, "", "kit-user", "somebody-else", NULL), 404, "NOT_FOUND");
	kit_expect_http(kit_http(k, "DELETE", path, "", "kit-user", a.user, NULL), 204, "");
	kit_expect_http(kit_http(k, "DELETE", path, "", "kit-user", a.user, NULL), 404, "NOT_FOUND");
	kit_expect_http(refresh(k, a.refresh), 401, "");
	r = kit_http(
			k, "DELETE", "/api/auth/sessions", "", "kit-user", a.user, "kit-login", b.login, NULL);
	kit_expect_http(r, 200, "{\"ended\":1}");
	kit_expect_http(refresh(k, c.refresh), 401, "");
	kit_expect_http(refresh(k, b.refresh), 200, "");
	kit_expect_http(kit_http(k, "GET", "/api/auth/sessions", "", NULL), 401, "");
	kit_free(k);
}

/* ---- password and address ------------------------------------------------------------------- */

TEST(a_new_password_ends_all_other_logins_at_once)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair a = log_in(k), b = log_in(k);
	struct chatd_identity who = { .struct_size = sizeof(who),
		.user = chatd_str_of(a.user, strlen(a.user)),
		.name = CHATD_LIT("Ann"),
		.login = chatd_str_of(a.login, strlen(a.login)) };
	struct kit_client *mine = kit_open_as(k, 0, &who);
	who.login = chatd_str_of(b.login, strlen(b.login));
	struct kit_client *other = kit_open_as(k, 1, &who);
	kit_expect_http(post(k, "password", "{\"old\":\"no\",\"new\":\"new horse\"}", "kit-user",
							a.user, "kit-login", a.login),
			401, "INVALID_CREDENTIALS");
	kit_expect_http(post(k, "password", "{\"old\":\"right horse\",\"new\":\"new\"}", "kit-user",
							a.user, "kit-login", a.login),
			422, "LENGTH");
	kit_expect_http(post(k, "password", "{\"old\":\"right horse\",\"new\":\"new horse\"}",
							"kit-user", a.user, "kit-login", a.login),
			200, "success");
	assert_true(kit_is_open(mine));
	kit_expect_closed(other, 4401);
	kit_expect_http(refresh(k, a.refresh), 200, "");
	kit_expect_http(refresh(k, b.refresh), 401, "");
	kit_expect_http(post(k, "login", ANN), 401, "");
	/* A new login does not suffer from what ended before it. */
	kit_advance(k, 5);
	struct pair c =
			pair_of(post(k, "login", "{\"email\":\"ann@example.org\",\"password\":\"new horse\"}"));
	who.login = chatd_str_of(c.login, strlen(c.login));
	assert_true(kit_is_open(kit_open_as(k, 1, &who)));
	/* One that was looked up before and comes in only now does. */
	who.login = chatd_str_of(b.login, strlen(b.login));
	kit_expect_closed(kit_open_as(k, 1, &who), 4401);
	assert_string_equal(fakes.to, "ann@example.org");
	kit_free(k);
}

TEST(another_address_needs_the_password_and_with_verify_its_code)
{
	UNUSED;
	char body[100];
	struct kit *k = start("verify: optional");
	post(k, "register", ANN);
	struct pair a = log_in(k);
	static const char wrong[] = "{\"email\":\"new@example.org\",\"password\":\"wrong horse\"}";
	static const char right[] = "{\"email\":\"new@example.org\",\"password\":\"right horse\"}";
	kit_expect_http(post(k, "email", wrong, "kit-user", a.user), 401, "INVALID_CREDENTIALS");
	kit_expect_http(post(k, "email", right, "kit-user", a.user), 202, "success");
	assert_string_equal(fakes.to, "new@example.org");
	assert_null(fake_account("new@example.org"));
	snprintf(body, sizeof(body), "{\"code\":\"%s\"}", fake_code());
	kit_expect_http(post(k, "verify", body), 200, "success");
	assert_int_equal(fake_account("new@example.org")->bits, CHATD_ACCOUNT_VERIFIED);
	assert_string_equal(fakes.to, "ann@example.org");              /* is told */
	kit_expect_http(post(k, "verify", body), 400, "INVALID_CODE"); /* spent */
	kit_free(k);
	k = start("");
	post(k, "register", ANN);
	kit_expect_http(post(k, "email", right, "kit-user", fakes.accounts[0].id), 200, "success");
	assert_non_null(fake_account("new@example.org"));
	post(k, "register", ANN);
	kit_expect_http(post(k, "email", "{\"email\":\"ann@example.org\",\"password\":\"right horse\"}",
							"kit-user", fakes.accounts[0].id),
			409, "EMAIL_TAKEN");
	kit_free(k);
}

/* ---- codes --------------------------------------------------------------------------------- */

TEST(a_code_confirms_the_address_until_it_is_over)
{
	UNUSED;
	char body[100];
	struct kit *k =
			start("verify: required\nverify_ttl: 1h\nverify_link: \"https://c.example/v/{code}\"");
	post(k, "register", ANN);
	assert_int_equal(fakes.mails, 1);
	assert_non_null(strstr(fakes.text, "https://c.example/v/"));
	snprintf(body, sizeof(body), "{\"code\":\"%s\"}", fake_code());
	kit_advance(k, 3601000);
	kit_expect_http(post(k, "verify", body), 400, "INVALID_CODE");
	kit_expect_http(post(k, "verify/resend", "{\"email\":\"ann@example.org\"}"), 202, "success");
	assert_int_equal(fakes.mails, 2);
	kit_expect_http(post(k, "verify/resend", "{\"email\":\"no@example.org\"}"), 202, "success");
	assert_int_equal(fakes.mails, 2);
	/* As it was read out on the telephone. */
	snprintf(body, sizeof(body), "{\"code\":\"%s\"}", fake_code());
	for (char *c = body + 8; *c; c++) {
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c == '-' ? ' ' : *c);
	}
	kit_expect_http(post(k, "verify", body), 200, "success");
	kit_expect_http(post(k, "login", ANN), 200, "");
	kit_free(k);
}

TEST(a_forgotten_password_is_replaced_and_all_logins_end)
{
	UNUSED;
	char body[200];
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair a = log_in(k);
	kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "success");
	snprintf(body, sizeof(body), "{\"code\":\"%s\",\"password\":\"short\"}", fake_code());
	kit_expect_http(post(k, "reset/confirm", body), 422, "VALIDATION"); /* costs no code */
	snprintf(body, sizeof(body), "{\"code\":\"%s\",\"password\":\"new horse\"}", fake_code());
	kit_expect_http(post(k, "verify", body), 400, "INVALID_CODE"); /* is for one thing only */
	kit_expect_http(post(k, "reset/confirm", body), 200, "success");
	kit_expect_http(post(k, "reset/confirm", body), 400, "INVALID_CODE");
	kit_expect_http(refresh(k, a.refresh), 401, "");
	kit_expect_http(post(k, "login", ANN), 401, "");
	kit_expect_http(post(k, "login", "{\"email\":\"ann@example.org\",\"password\":\"new horse\"}"),
			200, "");
	kit_free(k);
}

TEST(a_reset_answers_before_anybody_looks_and_says_nothing_of_accounts)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	fake_hold(1);
	struct kit_req *a = post(k, "reset", "{\"email\":\"ann@example.org\"}");
	struct kit_req *b = post(k, "reset", "{\"email\":\"no@example.org\"}");
	kit_expect_http(a, 202, "success");
	kit_expect_http(b, 202, "success");
	assert_int_equal(kit_http_body(a).n, kit_http_body(b).n);
	fake_hold(0);
	assert_int_equal(fakes.mails, 1);
	for (int i = 0; i < 10; i++) {
		kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "success");
	}
	assert_int_equal(fakes.mails, 2); /* nobody's mailbox is flooded, nor the code replaced */
	kit_advance(k, 61000);
	post(k, "reset", "{\"email\":\"ann@example.org\"}");
	assert_int_equal(fakes.mails, 3);
	kit_free(k);
}

TEST(codes_cannot_be_guessed_for_long)
{
	UNUSED;
	struct kit *k = start("");
	for (int i = 0; i < 10; i++) {
		kit_expect_http(post(k, "verify", "{\"code\":\"22222-22222-22222-22222-222222\"}"), 400,
				"INVALID_CODE");
	}
	kit_expect_http(post(k, "verify", "{\"code\":\"22222-22222-22222-22222-222222\"}"), 429,
			"RATE_LIMIT_EXCEEDED");
	kit_expect_http(
			post(k, "reset/confirm", "{\"code\":\"x\",\"password\":\"12345678\"}"), 429, "");
	kit_free(k);
}

/* ---- CONNECT ---------------------------------------------------------------------------------- */

TEST(connect_takes_the_address_or_the_user_id_and_the_password)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	snprintf(fakes.accounts[0].roles, sizeof(fakes.accounts[0].roles), "%s", "moderator");
	fakes.accounts[0].flags = CHATD_ID_MODERATOR;
	const char *id = fakes.accounts[0].id;
	kit_login(k, 0, "login", "ANN@example.org", "passcode", "right horse", NULL);
	kit_expect_user(k, id, CHATD_ID_MODERATOR);
	struct kit_client *c = kit_login(k, 1, "login", id, "passcode", "right horse", NULL);
	kit_expect_user(k, id, CHATD_ID_MODERATOR);
	static const char *const bad[][2] = { { "ann@example.org", "wrong" },
		{ "no@example.org", "right horse" }, { "nobody", "right horse" },
		{ "ann@example.org", "" } };
	for (size_t i = 0; i < 4; i++) {
		kit_login(k, 0, "login", bad[i][0], "passcode", bad[i][1], NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	}
	kit_login(k, 0, "login", "not an id", "passcode", "x", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	/* Somebody else knows them already: theirs is left alone. */
	kit_login(k, 0, "login", id, "passcode", "x", "kit-user", "zed", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	/* A new password ends a session that has no tokens, too. */
	kit_expect_http(
			post(k, "password", "{\"old\":\"right horse\",\"new\":\"new horse\"}", "kit-user", id),
			200, "");
	kit_expect_closed(c, 4401);
	fakes.accounts[0].banned_until = INT64_MAX;
	kit_login(k, 0, "login", id, "passcode", "new horse", NULL);
	kit_expect_reject(k, "BANNED", NULL);
	kit_free(k);
}

/* ---- what can go wrong -------------------------------------------------------------------------- */

TEST(a_client_that_leaves_harms_nothing)
{
	UNUSED;
	struct kit *k = start("");
	static const char *const paths[] = { "register", "login" };
	for (size_t i = 0; i < 2; i++) {
		char path[40];
		snprintf(path, sizeof(path), "/api/auth/%s", paths[i]);
		for (int at = 0; at < 3; at++) {
			kit_hold_offload(k, at == 0);
			fake_hold(at == 1);
			struct kit_req *r = kit_http(k, "POST", path, ANN, NULL);
			if (kit_http_status(r) == 0) {
				kit_http_gone(r);
			}
			kit_hold_offload(k, 0);
			kit_run(k);
			fake_hold(0);
		}
	}
	kit_hold_offload(k, 1);
	struct kit_client *c = kit_login(k, 0, "login", "ann@example.org", "passcode", "x", NULL);
	kit_close(c);
	kit_login(k, 0, "login", "ann@example.org", "passcode", "right horse", NULL);
	kit_advance(k, 8000);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_hold_offload(k, 0);
	kit_free(k);
}

TEST(a_store_that_fails_is_told_and_leaks_nothing)
{
	UNUSED;
	struct kit *k = start("");
	post(k, "register", ANN);
	struct pair a = log_in(k), b = log_in(k);
	static const struct {
		chatd_status rc;
		const char *code;
	} faults[] = { { -EAGAIN, "STORE_BUSY" }, { -ENOSPC, "STORE_FULL" }, { -EIO, "UNAVAILABLE" } };
	for (size_t i = 0; i < 3; i++) {
		fakes.fail = faults[i].rc;
		kit_expect_http(post(k, "login", ANN), 503, faults[i].code);
		fakes.refuse = faults[i].rc;
		kit_expect_http(post(k, "login", ANN), 503, faults[i].code);
		fakes.fail = faults[i].rc;
		kit_expect_http(refresh(k, a.refresh), 503, faults[i].code);
		fakes.fail = faults[i].rc;
		kit_expect_http(post(k, "logout", "", "kit-user", b.user, "kit-login", b.login), 503,
				faults[i].code);
		fakes.fail = faults[i].rc;
		kit_login(k, 0, "login", a.user, "passcode", "right horse", NULL);
		kit_expect_reject(k, faults[i].code, NULL);
		fakes.fail = faults[i].rc;
		kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "");
		fakes.refuse = faults[i].rc;
		kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "");
	}
	kit_expect_http(refresh(k, a.refresh), 200, "");
	kit_free(k);
}

TEST(what_does_not_go_together_is_complained_of)
{
	UNUSED;
	static const struct {
		const char *yaml, *want;
	} cases[] = { { "password_min: 0", "password_min" }, { "password_max: 500", "password_max" },
		{ "hash: md5", "hash" }, { "verify_link: \"https://x\"", "has no {code} in it" },
		{ "refresh_idle: 40d", "longer than refresh_lifetime" },
		{ "site: \"a\\nb\"", "a name of one line" } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, cases[i].yaml, cases[i].want);
	}
}

static void a_day(void)
{
	char body[200];
	struct kit *k = start("verify: optional");
	fakes.accounts[fakes.n_accounts++] =
			(struct fake_account){ .id = "g1", .nick = "guest", .flags = CHATD_ID_ANONYMOUS };
	kit_open_on(k, 1, "g1", CHATD_ID_ANONYMOUS);
	post(k, "register", ANN, "kit-user", "g1", "kit-flags", "1", "Device-Token", "x");
	snprintf(body, sizeof(body), "{\"code\":\"%s\"}", fake_code());
	post(k, "verify", body);
	struct pair a = log_in(k);
	refresh(k, a.refresh);
	refresh(k, a.refresh);
	post(k, "password", "{\"old\":\"right horse\",\"new\":\"new horse\"}", "kit-user", a.user);
	post(k, "email", "{\"email\":\"a@b.cc\",\"password\":\"new horse\"}", "kit-user", a.user);
	post(k, "reset", "{\"email\":\"ann@example.org\"}");
	snprintf(body, sizeof(body), "{\"code\":\"%s\",\"password\":\"third horse\"}", fake_code());
	post(k, "reset/confirm", body);
	kit_login(k, 0, "login", "ann@example.org", "passcode", "third horse", NULL);
	kit_http(k, "GET", "/api/auth/sessions", "", "kit-user", a.user, NULL);
	post(k, "logout", "", "kit-user", a.user, "kit-login", a.login);
	kit_advance(k, 8000);
	fake_hold(0);
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(a_day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_registers_can_log_in_and_the_password_is_nowhere),
		cmocka_unit_test(every_fault_is_listed),
		cmocka_unit_test(
				h142_a_password_of_128_characters_is_taken_one_of_129_is_not_and_none_is_cut),
		cmocka_unit_test(an_address_and_a_nickname_are_taken_once),
		cmocka_unit_test(a_guest_who_registers_keeps_the_account_and_the_open_session),
		cmocka_unit_test(who_has_an_account_does_not_register_another_by_its_token),
		cmocka_unit_test(registrations_are_limited_by_address),
		cmocka_unit_test(r21_h140_a_wrong_password_and_an_unknown_address_get_the_same_answer),
		cmocka_unit_test(a_hash_of_the_reference_is_verified_and_replaced),
		cmocka_unit_test(new_passwords_can_be_bcrypt_and_are_never_cut_at_72_bytes),
		cmocka_unit_test(a_login_that_overtakes_a_change_of_the_password_does_not_stay),
		cmocka_unit_test(who_is_banned_or_must_confirm_the_address_does_not_get_in),
		cmocka_unit_test(h141_guesses_are_slowed_down_more_and_more),
		cmocka_unit_test(h141_an_unknown_address_is_slowed_down_like_a_known_one),
		cmocka_unit_test(h178_a_full_queue_answers_busy_and_no_attempt_is_counted),
		cmocka_unit_test(r04_refresh_rotates_and_logout_ends),
		cmocka_unit_test(h138_a_lost_answer_is_given_again_and_a_spent_token_ends_the_family),
		cmocka_unit_test(h138_after_the_grace_a_spent_token_is_a_stolen_one),
		cmocka_unit_test(twenty_who_refresh_at_once_get_one_successor),
		cmocka_unit_test(property_at_most_one_refresh_token_of_a_family_is_good),
		cmocka_unit_test(only_a_refresh_token_of_this_server_is_exchanged),
		cmocka_unit_test(who_is_banned_does_not_refresh),
		cmocka_unit_test(devices_are_listed_and_ended_one_by_one_or_all_others),
		cmocka_unit_test(a_new_password_ends_all_other_logins_at_once),
		cmocka_unit_test(another_address_needs_the_password_and_with_verify_its_code),
		cmocka_unit_test(a_code_confirms_the_address_until_it_is_over),
		cmocka_unit_test(a_forgotten_password_is_replaced_and_all_logins_end),
		cmocka_unit_test(a_reset_answers_before_anybody_looks_and_says_nothing_of_accounts),
		cmocka_unit_test(codes_cannot_be_guessed_for_long),
		cmocka_unit_test(connect_takes_the_address_or_the_user_id_and_the_password),
		cmocka_unit_test(a_client_that_leaves_harms_nothing),
		cmocka_unit_test(a_store_that_fails_is_told_and_leaks_nothing),
		cmocka_unit_test(what_does_not_go_together_is_complained_of),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin in the kit: the ways in, the store's word, tickets, keys, configuration. */
#include "forge.h"

#include <chatd/http.h>
#include <chatd/kit.h>
#include <chatd/store.h>
#include <chatd/tokens.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define SECRET     "0123456789abcdef0123456789abcdef0123456789abcdef"
#define OLD        "old-secret-old-secret-old-secret-old-secret"
#define KEYS       "keys: [{kid: k1, key: " SECRET "}, {kid: k0, key: " OLD ", alg: HS256}]\n"

extern const struct chatd_plugin chatd_plugin_under_test;

/* ---- a store that knows logins --------------------------------------------------------- */

struct fake_store {
	struct kit *k;
	const char *login, *user, *nick, *roles; /* the one login that lives */
	uint32_t flags;
	int64_t banned_until;
	chatd_status rc;
	int asked;
} fake;

struct question {
	chatd_store_fn *fn;
	void *arg;
	int known;
};

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static void answer(void *arg)
{
	struct question *q = arg;
	const struct chatd_store_login login = {
		.struct_size = sizeof(login), .id = text(fake.login), .user = text(fake.user)
	};
	const struct chatd_account account = { .struct_size = sizeof(account),
		.id = text(fake.user),
		.nickname = text(fake.nick),
		.roles = text(fake.roles),
		.flags = fake.flags,
		.banned_until = fake.banned_until };
	struct chatd_store_answer a = { .struct_size = sizeof(a) };
	chatd_status rc = fake.rc ? fake.rc : q->known ? 0 : -ENOENT;
	if (rc == 0) {
		a.logins = &login;
		a.n_logins = 1;
		a.accounts = &account;
		a.n_accounts = 1;
	}
	q->fn(q->arg, rc, &a);
	free(q);
}

static chatd_status login_get(void *obj, chatd_worker *w, const struct chatd_store_login_key *key,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	struct question *q = calloc(1, sizeof(*q));
	q->fn = fn;
	q->arg = arg;
	q->known = fake.login && key->id.n == strlen(fake.login) &&
			memcmp(key->id.p, fake.login, key->id.n) == 0;
	fake.asked++;
	if (kit_host(fake.k)->post(w, answer, q) < 0) {
		free(q);
		return -ENOMEM;
	}
	return 0;
}

/* ---- one that nodes share: it keeps tickets --------------------------------------------- */

static struct {
	char hash[65], data[4097];
	int64_t expires;
	chatd_status rc;
	int kept; /* one at a time will do */
} shelf;

struct shelf_question {
	chatd_store_fn *fn;
	void *arg;
	int put;
	struct chatd_store_secret s;
	char hash[65], data[4097];
};

static void shelf_answer(void *arg)
{
	struct shelf_question *q = arg;
	struct chatd_store_answer a = { .struct_size = sizeof(a) };
	struct chatd_store_secret found = { .struct_size = sizeof(found), .data = text(shelf.data) };
	chatd_status rc = shelf.rc;
	if (rc == 0 && q->put) {
		memcpy(shelf.hash, q->hash, sizeof(shelf.hash));
		memcpy(shelf.data, q->data, sizeof(shelf.data));
		shelf.expires = q->s.expires;
		shelf.kept = 1;
	} else if (rc == 0) {
		rc = shelf.kept && strcmp(shelf.hash, q->hash) == 0 && shelf.expires > q->s.wall ? 0
																						 : -ENOENT;
		shelf.kept = rc == 0 ? 0 : shelf.kept;
		a.secrets = &found;
		a.n_secrets = rc == 0;
	}
	q->fn(q->arg, rc, &a);
	free(q);
}

static chatd_status shelf_ask(int put, chatd_worker *w, const struct chatd_store_secret *s,
		const struct shelf_question *from)
{
	struct shelf_question *q = calloc(1, sizeof(*q));
	*q = *from;
	q->put = put;
	q->s = *s;
	assert_int_equal(s->kind, 301);
	assert_int_equal(s->hash.n, 64);
	assert_null(s->user.p); /* one would end the user's others */
	assert_true(s->data.n <= 4096);
	memcpy(q->hash, s->hash.p, 64);
	memcpy(q->data, s->data.p ? s->data.p : "", s->data.n);
	return kit_host(fake.k)->post(w, shelf_answer, q);
}

static chatd_status secret_put(void *obj, chatd_worker *w, const struct chatd_store_secret *s,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return shelf_ask(1, w, s, &(struct shelf_question){ .fn = fn, .arg = arg });
}

static chatd_status secret_take(void *obj, chatd_worker *w, const struct chatd_store_secret *s,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return shelf_ask(0, w, s, &(struct shelf_question){ .fn = fn, .arg = arg });
}

static int32_t is_shared(void *obj)
{
	(void)obj;
	return 1;
}

static const struct chatd_store shared_vt = { .struct_size = sizeof(shared_vt),
	.login_get = login_get,
	.secret_put = secret_put,
	.secret_take = secret_take,
	.is_shared = is_shared };

static const struct chatd_store store_vt = { .struct_size = sizeof(store_vt),
	.login_get = login_get };

/* ---- set-up ------------------------------------------------------------------------------ */

static struct kit *start_with(const char *yaml, int store, int accounts)
{
	memset(&shelf, 0, sizeof(shelf));
	const struct kit_service services[] = {
		{ CHATD_STORE,
				store == 2      ? &shared_vt
						: store ? &store_vt
								: NULL,
				NULL },
		{ accounts ? NULL : CHATD_ACCOUNTS, NULL, NULL },
		{ NULL, NULL, NULL },
	};
	const struct kit_conf conf = { .workers = 2, .services = services };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	fake = (struct fake_store){ .k = k, .login = "s1", .user = "ann", .nick = "Ann" };
	return k;
}

static struct kit *start(const char *yaml)
{
	return start_with(yaml, 1, 0);
}

static long long now_s(struct kit *k)
{
	return (long long)(kit_host(k)->wall_ms() / 1000);
}

/* Our token of ann, good for ten minutes; @p more: further members or none. */
static const char *token_with(struct kit *k, const char *more)
{
	char *body = forge_room();
	snprintf(body, FORGE_MAX,
			"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":\"access\",\"exp\":%lld%s}",
			now_s(k) + 600, more);
	return forge_hmac("{\"alg\":\"HS384\",\"kid\":\"k1\"}", body, "SHA384", SECRET, strlen(SECRET));
}

static const char *token(struct kit *k)
{
	return token_with(k, ",\"sid\":\"s1\"");
}

static const char *bearer(const char *t)
{
	char *to = forge_room();
	snprintf(to, FORGE_MAX, "Bearer %s", t);
	return to;
}

static const char *ticket(struct kit *k, const char *t)
{
	struct kit_req *r =
			kit_http(k, "POST", "/api/auth/ws-ticket", "", "Authorization", bearer(t), NULL);
	kit_expect_http(r, 200, "\"expiresIn\":30");
	struct chatd_str body = kit_http_body(r);
	char *to = forge_room(), *at = NULL;
	snprintf(to, FORGE_MAX, "%.*s", (int)body.n, body.p ? body.p : "");
	at = strstr(to, "wst_");
	if (at) {
		at[strcspn(at, "\"")] = '\0';
	}
	return at ? at : "";
}

/* What a session's identity says. */
static struct seen {
	struct kit *k;
	struct kit_client *c;
	char name[80], roles[80], login[80];
	int64_t expires;
} seen;

static void look(void *arg)
{
	struct seen *s = arg;
	const struct chatd_host *h = kit_host(s->k);
	const chatd_ident *i = h->session_ident(kit_session(s->c));
	snprintf(s->name, 80, "%.*s", (int)h->ident_name(i).n, h->ident_name(i).p);
	snprintf(s->roles, 80, "%.*s", (int)h->ident_roles(i).n, h->ident_roles(i).p);
	snprintf(s->login, 80, "%.*s", (int)h->ident_login(i).n, h->ident_login(i).p);
	s->expires = h->ident_expires(i);
}

/* ---- the ways in ------------------------------------------------------------------------------ */

TEST(a_token_is_good_as_bearer_passcode_and_for_rest)
{
	UNUSED;
	struct kit *k = start(KEYS);
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	kit_login(k, 1, "passcode", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	kit_identify(k, 0, "bearer", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	assert_int_equal(fake.asked, 3);
	/* with a login it is a password, and somebody else's business */
	kit_login(k, 0, "login", "ann", "passcode", token(k), NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(the_store_is_the_truth_about_roles_and_names)
{
	UNUSED;
	struct kit *k = start(KEYS);
	const char *t = token_with(k, ",\"sid\":\"s1\",\"roles\":[\"admin\"],\"name\":\"Old\"");
	fake.roles = "moderator support";
	struct kit_client *c = kit_login(k, 0, "bearer", t, NULL);
	kit_expect_user(k, "ann", CHATD_ID_MODERATOR);
	seen = (struct seen){ .k = k, .c = c };
	kit_on(k, 0, look, &seen);
	assert_string_equal(seen.roles, "moderator support");
	assert_string_equal(seen.name, "Ann");
	assert_string_equal(seen.login, "s1");
	fake.roles = "admin";
	kit_login(k, 0, "bearer", t, NULL);
	kit_expect_user(k, "ann", CHATD_ID_ADMIN);
	kit_free(k);
}

TEST(without_a_store_the_claims_count)
{
	UNUSED;
	struct kit *k = start_with(KEYS, 0, 0);
	kit_login(k, 0, "bearer", token_with(k, ",\"sid\":\"s9\",\"roles\":\"x admin\""), NULL);
	kit_expect_user(k, "ann", CHATD_ID_ADMIN);
	kit_free(k);
}

TEST(a_login_that_has_ended_or_a_ban_refuses)
{
	UNUSED;
	struct kit *k = start(KEYS);
	fake.login = NULL;
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	fake.login = "s1";
	fake.user = "bob"; /* the login is another one's */
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	fake.user = "ann";
	fake.banned_until = INT64_MAX;
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "BANNED", "banned");
	fake.banned_until = kit_host(k)->wall_ms();
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	fake.rc = -EIO;
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "UNAVAILABLE", "try again");
	kit_free(k);
}

TEST(a_token_without_a_login_needs_an_account_where_accounts_are_kept)
{
	UNUSED;
	struct kit *k = start_with(KEYS, 1, 1);
	const struct chatd_account ann = {
		.struct_size = sizeof(ann), .id = CHATD_LIT("ann"), .nickname = CHATD_LIT("Ann")
	};
	kit_login(k, 0, "bearer", token_with(k, ""), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_account(k, &ann);
	kit_login(k, 0, "bearer", token_with(k, ",\"roles\":[\"admin\"]"), NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

TEST(the_session_ends_when_the_token_does)
{
	UNUSED;
	struct kit *k = start(KEYS);
	struct kit_client *c = kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_accept(k);
	kit_subscribe(c, "/user/queue/errors");
	kit_advance(k, 600000 - 29000); /* a minute before 600 + 30 s */
	kit_expect_delivery(c, "/user/queue/errors", "AUTH_EXPIRING");
	kit_advance(k, 29000 + 28000);
	assert_true(kit_is_open(c));
	kit_advance(k, 3000);
	kit_expect_closed(c, 4401);
	kit_login(k, 0, "bearer", token_with(k, ",\"sid\":\"s1\""), NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(tokens_of_an_old_key_still_enter)
{
	UNUSED;
	struct kit *k = start(KEYS);
	char body[256];
	snprintf(body, sizeof(body),
			"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":\"s1\",\"type\":\"access\","
			"\"exp\":%lld}",
			now_s(k) + 60);
	kit_login(k, 0, "bearer",
			forge_hmac("{\"alg\":\"HS256\",\"kid\":\"k0\"}", body, "SHA256", OLD, strlen(OLD)),
			NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

/* ---- the reference's holes, RELIABILITY 1.4 ---------------------------------------------------- */

TEST(r01_a_header_does_not_make_one_somebody_else)
{
	UNUSED;
	struct kit *k = start(KEYS);
	kit_login(k, 0, "bearer", token(k), "userId", "bob", "user", "bob", "sender", "bob", NULL);
	kit_expect_user(k, "ann", 0);
	kit_login(k, 0, "userId", "bob", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(r02_a_bad_token_or_none_opens_nothing)
{
	UNUSED;
	static const char *const creds[] = { "bearer", "passcode", "token" };
	struct kit *k = start(KEYS "url_token: legacy");
	char bad[2048];
	snprintf(bad, sizeof(bad), "%s", token(k));
	bad[strlen(bad) - 2] ^= 1;
	kit_login(k, 0, NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	for (size_t i = 0; i < 3; i++) {
		kit_login(k, 0, creds[i], bad, NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
		kit_login(k, 0, creds[i], "no-token", NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
		/* a good one beside it does not help */
		kit_login(k, 0, creds[i], bad, i ? "bearer" : "token", token(k), NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	}
	assert_int_equal(fake.asked > 0, 1);
	kit_free(k);
}

TEST(r03_a_refresh_token_is_no_access_token)
{
	UNUSED;
	struct kit *k = start(KEYS "url_token: legacy");
	struct chatd_service s = kit_provided(k, CHATD_TOKENS);
	const struct chatd_tokens *tokens = s.vt;
	const struct chatd_claims c = { .struct_size = sizeof(c),
		.type = CHATD_TOKEN_REFRESH,
		.user = CHATD_LIT("ann"),
		.login = CHATD_LIT("s1") };
	char refresh[CHATD_TOKEN_MAX], room[CHATD_TOKEN_MAX];
	struct chatd_claims got;
	assert_int_equal(tokens->issue(s.obj, &c, refresh, NULL), 0);
	assert_int_equal(tokens->verify(s.obj, CHATD_TOKEN_REFRESH, text(refresh), room, &got), 0);
	assert_int_equal(
			tokens->verify(s.obj, CHATD_TOKEN_ACCESS, text(refresh), room, &got), -EKEYREJECTED);
	assert_int_equal(
			tokens->verify(s.obj, CHATD_TOKEN_ACCESS, text("nonsense"), room, &got), -EKEYREJECTED);
	kit_login(k, 0, "bearer", refresh, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_login(k, 0, "passcode", refresh, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_login(k, 0, "token", refresh, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_identify(k, 0, "bearer", refresh, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_free(k);
}

TEST(r04_a_token_ends_with_its_login)
{
	UNUSED;
	struct kit *k = start(KEYS);
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_accept(k);
	fake.login = NULL; /* logged out */
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_identify(k, 0, "bearer", token(k), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_free(k);
}

TEST(r05_a_token_in_the_url_is_not_taken_a_ticket_is)
{
	UNUSED;
	struct kit *k = start(KEYS);
	kit_login(k, 0, "token", token(k), NULL);
	kit_expect_reject(k, "TOKEN_IN_URL", "ws-ticket");
	kit_identify(k, 0, "token", token(k), NULL);
	kit_expect_reject(k, "TOKEN_IN_URL", NULL);
	/* the request's own Authorization, beside one of the frame, is no URL */
	kit_login(k, 0, "bearer", token(k), "token", token(k), "token-via", "authorization", NULL);
	kit_expect_user(k, "ann", 0);
	kit_login(k, 0, "token", ticket(k, token(k)), NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
	k = start(KEYS "url_token: legacy");
	kit_expect_logged(k, "url_token is legacy");
	kit_login(k, 0, "token", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

/* ---- tickets ------------------------------------------------------------------------------------ */

TEST(a_ticket_is_spent_once_on_whatever_worker)
{
	UNUSED;
	struct kit *k = start(KEYS);
	for (int32_t w = 0; w < 2; w++) {
		const char *t = ticket(k, token(k));
		struct kit_client *c = kit_login(k, w, "token", t, NULL);
		kit_expect_user(k, "ann", 0);
		seen = (struct seen){ .k = k, .c = c };
		kit_on(k, w, look, &seen);
		assert_int_equal(seen.expires / 1000, now_s(k) + 630);
		kit_login(k, w, "token", t, NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
		kit_login(k, !w, "token", t, NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	}
	kit_free(k);
}

TEST(a_ticket_lives_thirty_seconds)
{
	UNUSED;
	struct kit *k = start(KEYS);
	const char *one = ticket(k, token(k)), *two = ticket(k, token(k));
	kit_advance(k, 29900);
	kit_login(k, 0, "token", one, NULL);
	kit_expect_user(k, "ann", 0);
	kit_advance(k, 200);
	kit_login(k, 0, "token", two, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_free(k);
}

TEST(a_ticket_asks_the_store_again)
{
	UNUSED;
	struct kit *k = start(KEYS);
	const char *one = ticket(k, token(k)), *two = ticket(k, token(k)), *three = ticket(k, token(k));
	fake.roles = "moderator";
	kit_login(k, 0, "token", one, NULL);
	kit_expect_user(k, "ann", CHATD_ID_MODERATOR);
	fake.login = NULL;
	kit_login(k, 0, "token", two, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	fake.login = "s1";
	fake.banned_until = INT64_MAX;
	kit_login(k, 0, "token", three, NULL);
	kit_expect_reject(k, "BANNED", NULL);
	kit_free(k);
}

TEST(a_ticket_opens_sessions_only)
{
	UNUSED;
	struct kit *k = start(KEYS);
	const char *t = ticket(k, token(k));
	kit_identify(k, 0, "token", t, NULL);
	kit_expect_reject(k, "TOKEN_IN_URL", "a ticket opens a session");
	kit_login(k, 0, "bearer", t, NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_login(k, 0, "token", t, NULL); /* not spent by any of that */
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

TEST(tickets_that_were_never_made)
{
	UNUSED;
	static const char *const bad[] = { "wst_", "wst_000_",
		"wst_999_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"wst_000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"wst_-01_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"wst_0x1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"wst_001_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
	struct kit *k = start(KEYS);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		kit_login(k, 0, "token", bad[i], NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	}
	kit_expect_http(kit_http(k, "POST", "/api/auth/ws-ticket", "", NULL), 401, "UNAUTHORIZED");
	kit_expect_http(
			kit_http(k, "POST", "/api/auth/ws-ticket", "", "Authorization", "Bearer a.b.c", NULL),
			401, "UNAUTHORIZED");
	kit_free(k);
}

TEST(one_user_has_sixteen_tickets_at_most)
{
	UNUSED;
	struct kit *k = start(KEYS);
	char first[128], second[128];
	snprintf(first, sizeof(first), "%s", ticket(k, token(k)));
	snprintf(second, sizeof(second), "%s", ticket(k, token(k)));
	for (int i = 0; i < 15; i++) {
		(void)ticket(k, token(k));
	}
	kit_login(k, 0, "token", first, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_login(k, 0, "token", second, NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

TEST(a_ticket_of_a_cluster_lies_in_the_store)
{
	UNUSED;
	struct kit *k = start_with(KEYS, 2, 0);
	const char *t = ticket(k, token(k));
	assert_non_null(strstr(t, "wst_all_"));
	assert_int_equal(shelf.kept, 1);
	assert_null(strstr(shelf.data, t + 8)); /* nobody who reads the store can use it */
	fake.roles = "moderator";               /* asked about again when it is spent */
	struct kit_client *c = kit_login(k, 1, "token", t, NULL);
	kit_expect_user(k, "ann", CHATD_ID_MODERATOR);
	seen = (struct seen){ .k = k, .c = c };
	kit_on(k, 1, look, &seen);
	assert_int_equal(seen.expires / 1000, now_s(k) + 630);
	assert_int_equal(shelf.kept, 0);
	for (int32_t w = 0; w < 2; w++) {
		kit_login(k, w, "token", t, NULL);
		kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	}
	t = ticket(k, token(k));
	fake.login = NULL;
	kit_login(k, 0, "token", t, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_free(k);
}

TEST(a_ticket_of_a_cluster_needs_its_store)
{
	UNUSED;
	struct kit *k = start_with(KEYS, 2, 0);
	const char *t = ticket(k, token(k));
	shelf.rc = -EAGAIN;
	kit_login(k, 0, "token", t, NULL);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_expect_http(
			kit_http(k, "POST", "/api/auth/ws-ticket", "", "Authorization", bearer(token(k)), NULL),
			503, "UNAVAILABLE");
	shelf.rc = 0;
	snprintf(shelf.data, sizeof(shelf.data), "{\"user\":\"a b\"}");
	kit_login(k, 0, "token", t, NULL);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_free(k);
	k = start(KEYS); /* and no other store is asked */
	kit_login(k, 0, "token", t, NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_free(k);
}

/* ---- keys and configuration ------------------------------------------------------------------------ */

TEST(a_key_is_made_at_the_first_start)
{
	UNUSED;
	struct kit *k = start("");
	char path[4200], t[CHATD_TOKEN_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "%s/jwt.key", kit_data_dir(k));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 89);
	struct chatd_service s = kit_provided(k, CHATD_TOKENS);
	const struct chatd_tokens *tokens = s.vt;
	const struct chatd_claims c = { .struct_size = sizeof(c),
		.type = CHATD_TOKEN_ACCESS,
		.user = CHATD_LIT("ann"),
		.login = CHATD_LIT("s1") };
	assert_int_equal(tokens->issue(s.obj, &c, t, NULL), 0);
	kit_login(k, 0, "bearer", t, NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

static void complains(const char *yaml, const char *part)
{
	kit_expect_complaint(&chatd_plugin_under_test, yaml, part);
}

#define ISSUER "issuers: [{issuer: a, audience: b, "

TEST(what_cannot_be_is_said_in_the_configuration)
{
	UNUSED;
	static const struct {
		const char *yaml, *part;
	} rows[] = {
		{ "keys: [{key: short}]", "5 bytes" },
		{ "keys: [{kid: 'a b', key: " SECRET "}]", "kid" },
		{ "keys: [{kid: a, key: " SECRET "}, {kid: a, key: " OLD "}]", "both called" },
		{ "keys: [{key: " SECRET ", alg: none}]", "alg" },
		{ "keys: [{key: " SECRET ", alg: RS256}]", "PEM" },
		{ "issuer: ''", "issuer" },
		{ "url_token: yes", "url_token" },
		{ ISSUER "}]", "jwks_file or jwks_url" },
		{ ISSUER "jwks_file: x, jwks_url: 'https://y'}]", "jwks_file or jwks_url" },
		{ ISSUER "jwks_url: 'http://example.org/jwks'}]", "use https" },
		{ ISSUER "jwks_url: 'http://127.0.0.1.evil.example/jwks'}]", "use https" },
		{ ISSUER "jwks_url: 'file:///etc/passwd'}]", "use https" },
		{ ISSUER "jwks_file: x, algorithms: [none]}]", "none" },
		{ ISSUER "jwks_file: x, algorithms: [EdDSA]}]", "EdDSA" },
		{ ISSUER "jwks_file: x, algorithms: []}]", "no algorithms" },
		{ ISSUER "jwks_url: 'https://y', algorithms: [HS256]}]", "jwks_file" },
		{ ISSUER "jwks_file: x, roles: [admin]}]", "THEIRS=OURS" },
		{ ISSUER "jwks_file: x, user_prefix: 'a/'}]", "user_prefix" },
		{ "issuers: [{issuer: chatd, audience: b, jwks_file: x}]", "our own" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		complains(rows[i].yaml, rows[i].part);
	}
}

TEST(keys_come_as_pem_from_the_environment)
{
	UNUSED;
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	setenv("TEST_JWT_KEY", forge_pem(ed, 1), 1);
	struct kit *k = start("keys: [{kid: e, alg: EdDSA, key: 'env:TEST_JWT_KEY'}]");
	char body[256];
	snprintf(body, sizeof(body),
			"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":\"s1\",\"type\":\"access\","
			"\"exp\":%lld}",
			now_s(k) + 60);
	kit_login(k, 0, "bearer", forge_pkey("{\"alg\":\"EdDSA\",\"kid\":\"e\"}", body, ed), NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
	setenv("TEST_JWT_KEY", forge_pem(ed, 0), 1);
	complains("keys: [{kid: e, alg: EdDSA, key: 'env:TEST_JWT_KEY'}]", "the first key signs");
	unsetenv("TEST_JWT_KEY");
	EVP_PKEY_free(ed);
}

/* ---- foreign issuers -------------------------------------------------------------------------------- */

struct idp {
	EVP_PKEY *key;
	char path[64], yaml[512];
};

static void idp_open(struct idp *p, const char *more)
{
	p->key = EVP_EC_gen("P-256");
	snprintf(p->path, sizeof(p->path), "/tmp/test-jwks-XXXXXX");
	int fd = mkstemp(p->path);
	FILE *f = fdopen(fd, "w");
	fprintf(f, "{\"keys\":[%s]}", forge_jwk(p->key, ",\"kid\":\"f1\""));
	fclose(f);
	snprintf(p->yaml, sizeof(p->yaml),
			KEYS
			"issuers: [{issuer: 'https://idp', audience: chat, algorithms: [ES256], jwks_file: %s%s}]",
			p->path, more);
}

static void idp_close(struct idp *p)
{
	unlink(p->path);
	EVP_PKEY_free(p->key);
}

static const char *idp_token(const struct idp *p, struct kit *k, const char *sub)
{
	char body[512];
	snprintf(body, sizeof(body),
			"{\"iss\":\"https://idp\",\"aud\":\"chat\",\"sub\":\"%s\",\"name\":\"Eva\",\"groups\":[\"ops\"],"
			"\"exp\":%lld}",
			sub, now_s(k) + 60);
	return forge_pkey("{\"alg\":\"ES256\",\"kid\":\"f1\"}", body, p->key);
}

TEST(a_foreign_token_makes_an_account_once_and_enters_it_again)
{
	UNUSED;
	struct idp p;
	idp_open(&p, ", roles_claim: groups, roles: [ops=moderator]");
	struct kit *k = start_with(p.yaml, 1, 1);
	for (int i = 0; i < 2; i++) {
		kit_login(k, i, "bearer", idp_token(&p, k, "eva"), NULL);
		kit_expect_user(k, "eva", CHATD_ID_MODERATOR);
	}
	kit_login(k, 0, "bearer", token(k), NULL); /* ours work beside them */
	kit_expect_user(k, "ann", 0);
	kit_free(k);
	idp_close(&p);
}

TEST(a_foreign_token_does_not_enter_an_account_that_was_here_before)
{
	UNUSED;
	struct idp p;
	const struct chatd_account bob = { .struct_size = sizeof(bob),
		.id = CHATD_LIT("bob"),
		.nickname = CHATD_LIT("Bob"),
		.client = CHATD_LIT("issuer_00000000000000000000000000000000") };
	idp_open(&p, "");
	struct kit *k = start_with(p.yaml, 1, 1);
	kit_account(k, &bob);
	kit_login(k, 0, "bearer", idp_token(&p, k, "bob"), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", "Access refused");
	kit_expect_logged(k, "user_prefix");
	kit_free(k);
	idp_close(&p);
	idp_open(&p, ", adopt: true");
	k = start_with(p.yaml, 1, 1);
	kit_account(k, &bob);
	kit_login(k, 0, "bearer", idp_token(&p, k, "bob"), NULL);
	kit_expect_user(k, "bob", 0);
	kit_free(k);
	idp_close(&p);
}

TEST(neither_side_can_speak_for_the_other)
{
	UNUSED;
	struct idp p;
	idp_open(&p, "");
	struct kit *k = start_with(p.yaml, 1, 0);
	char body[512];
	/* their key, our claims */
	snprintf(body, sizeof(body),
			"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":\"s1\",\"type\":\"access\","
			"\"exp\":%lld}",
			now_s(k) + 60);
	kit_login(k, 0, "bearer", forge_pkey("{\"alg\":\"ES256\",\"kid\":\"f1\"}", body, p.key), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_login(k, 0, "bearer", forge_pkey("{\"alg\":\"ES256\",\"kid\":\"k1\"}", body, p.key), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	/* our key, their claims */
	snprintf(body, sizeof(body),
			"{\"iss\":\"https://idp\",\"aud\":\"chat\",\"sub\":\"ann\",\"type\":\"access\",\"exp\":%lld}",
			now_s(k) + 60);
	kit_login(k, 0, "bearer",
			forge_hmac(
					"{\"alg\":\"HS384\",\"kid\":\"k1\"}", body, "SHA384", SECRET, strlen(SECRET)),
			NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_free(k);
	idp_close(&p);
}

/* Nobody listens on port 1 of this machine: the fetch fails at once. */
TEST(keys_that_cannot_be_fetched_refuse_their_tokens_and_no_others)
{
	UNUSED;
	struct idp p;
	idp_open(&p, "");
	struct kit *k = start_with(KEYS
			"jwks_min_refresh: 30s\nissuers: [{issuer: 'https://idp', audience: chat, "
			"algorithms: [ES256], jwks_url: 'http://127.0.0.1:1/jwks'}]",
			1, 0);
	kit_run(k);
	kit_expect_logged(k, "cannot be fetched");
	kit_login(k, 1, "bearer", idp_token(&p, k, "eva"), NULL);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_expect_user(k, "ann", 0);
	kit_advance(k, 31000); /* now it is asked again, and the call waits for that */
	kit_hold_offload(k, 1);
	kit_login(k, 1, "bearer", idp_token(&p, k, "eva"), NULL);
	kit_login(k, 0, "bearer", idp_token(&p, k, "eva"), NULL);
	kit_expect_waiting(k, 2);
	kit_hold_offload(k, 0);
	kit_run(k);
	kit_expect_waiting(k, 0);
	kit_expect_reject(k, "INVALID_TOKEN", NULL);
	kit_free(k);
	idp_close(&p);
}

/* ---- no memory ------------------------------------------------------------------------------------------ */

static void every_way(void)
{
	struct idp p;
	idp_open(&p, "");
	struct kit *k = start_with(p.yaml, 1, 1);
	kit_login(k, 0, "bearer", token(k), NULL);
	kit_login(k, 0, "bearer", idp_token(&p, k, "eva"), NULL);
	struct kit_req *r =
			kit_http(k, "POST", "/api/auth/ws-ticket", "", "Authorization", bearer(token(k)), NULL);
	if (kit_http_status(r) == 200) {
		char t[256];
		struct chatd_str body = kit_http_body(r);
		snprintf(t, sizeof(t), "%.*s", (int)(body.n < 73 ? body.n : 73) - 11, body.p + 11);
		t[51] = '\0';
		kit_login(k, 1, "token", t, NULL);
	}
	kit_advance(k, 7000);
	kit_free(k);
	idp_close(&p);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(every_way);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_good_as_bearer_passcode_and_for_rest),
		cmocka_unit_test(the_store_is_the_truth_about_roles_and_names),
		cmocka_unit_test(without_a_store_the_claims_count),
		cmocka_unit_test(a_login_that_has_ended_or_a_ban_refuses),
		cmocka_unit_test(a_token_without_a_login_needs_an_account_where_accounts_are_kept),
		cmocka_unit_test(the_session_ends_when_the_token_does),
		cmocka_unit_test(tokens_of_an_old_key_still_enter),
		cmocka_unit_test(r01_a_header_does_not_make_one_somebody_else),
		cmocka_unit_test(r02_a_bad_token_or_none_opens_nothing),
		cmocka_unit_test(r03_a_refresh_token_is_no_access_token),
		cmocka_unit_test(r04_a_token_ends_with_its_login),
		cmocka_unit_test(r05_a_token_in_the_url_is_not_taken_a_ticket_is),
		cmocka_unit_test(a_ticket_is_spent_once_on_whatever_worker),
		cmocka_unit_test(a_ticket_of_a_cluster_lies_in_the_store),
		cmocka_unit_test(a_ticket_of_a_cluster_needs_its_store),
		cmocka_unit_test(a_ticket_lives_thirty_seconds),
		cmocka_unit_test(a_ticket_asks_the_store_again),
		cmocka_unit_test(a_ticket_opens_sessions_only),
		cmocka_unit_test(tickets_that_were_never_made),
		cmocka_unit_test(one_user_has_sixteen_tickets_at_most),
		cmocka_unit_test(a_key_is_made_at_the_first_start),
		cmocka_unit_test(what_cannot_be_is_said_in_the_configuration),
		cmocka_unit_test(keys_come_as_pem_from_the_environment),
		cmocka_unit_test(a_foreign_token_makes_an_account_once_and_enters_it_again),
		cmocka_unit_test(a_foreign_token_does_not_enter_an_account_that_was_here_before),
		cmocka_unit_test(neither_side_can_speak_for_the_other),
		cmocka_unit_test(keys_that_cannot_be_fetched_refuse_their_tokens_and_no_others),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

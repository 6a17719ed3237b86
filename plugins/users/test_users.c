/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/audit.h>
#include <chatd/kit.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define ADMIN "2" /* CHATD_ID_ADMIN */
#define MOD   "4" /* CHATD_ID_MODERATOR */
#define GUEST "1" /* CHATD_ID_ANONYMOUS */

/* ---- a store of a few accounts, which answers by post ---------------------------------- */

struct row {
	char id[32], nick[140], email[40], password[16], roles[80], avatar[80];
	uint32_t flags, bits;
	int64_t banned;
	int there;
};
enum { ROWS = 4 };
static struct fake {
	struct kit *k;
	struct row rows[ROWS];
	char secret[65]; /* that was put */
	int64_t login_created;
	chatd_status refuse; /* at once, every call */
	int64_t sent;        /* messages to be told by sent() */
	int deleted, left;
} fake;

struct reply {
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
	struct chatd_account account[ROWS];
	struct chatd_store_login login;
	struct chatd_store_secret secret;
	struct chatd_store_message messages[64];
	char ids[64][24];
};

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static struct chatd_str some(const char *s)
{
	return s[0] ? z(s) : chatd_str_of(NULL, 0);
}

static void copy(char *to, size_t cap, struct chatd_str s)
{
	snprintf(to, cap, "%.*s", (int)s.n, s.p ? s.p : "");
}

static int same(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && (a.n == 0 || memcmp(a.p, b, a.n) == 0);
}

static struct row *row_of(struct chatd_str id)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (fake.rows[i].there && same(id, fake.rows[i].id)) {
			return &fake.rows[i];
		}
	}
	return NULL;
}

static void on_post(void *arg)
{
	struct reply *r = arg;
	r->fn(r->arg, r->rc, &r->a);
	free(r);
}

static struct reply *reply(chatd_store_fn *fn, void *arg)
{
	struct reply *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	r->fn = fn;
	r->arg = arg;
	r->a.struct_size = sizeof(r->a);
	return r;
}

static chatd_status send_reply(chatd_worker *w, struct reply *r)
{
	chatd_status rc = fake.refuse ? fake.refuse : kit_host(fake.k)->post(w, on_post, r);
	if (rc < 0) {
		free(r);
	}
	return rc;
}

static void tell_row(struct reply *r, const struct row *row)
{
	if (!row) {
		r->rc = -ENOENT;
		return;
	}
	r->account[r->a.n_accounts++] = (struct chatd_account){ .struct_size = sizeof(*r->account),
		.id = z(row->id),
		.nickname = z(row->nick),
		.flags = row->flags,
		.email = some(row->email),
		.password = some(row->password),
		.roles = some(row->roles),
		.avatar = some(row->avatar),
		.banned_until = row->banned,
		.bits = row->bits,
		.created = 1000 };
	r->a.accounts = r->account;
}

static chatd_status f_get(void *obj, chatd_worker *w, const struct chatd_store_account_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	const struct row *hit = q->by == CHATD_STORE_BY_ID ? row_of(q->key) : NULL;
	(void)obj;
	for (size_t i = 0; q->by == CHATD_STORE_BY_ROLE && i < ROWS; i++) {
		hit = fake.rows[i].there && strstr(fake.rows[i].roles, "admin") ? &fake.rows[i] : hit;
	}
	tell_row(r, hit);
	return send_reply(w, r);
}

static chatd_status f_search(void *obj, chatd_worker *w, const struct chatd_store_account_search *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	(void)obj;
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *row = &fake.rows[i];
		if (row->there && strncasecmp(row->nick, q->prefix.p, q->prefix.n) == 0 &&
				!(q->people && (row->flags & 1 || row->bits & CHATD_ACCOUNT_HIDDEN))) {
			tell_row(r, row);
		}
	}
	return send_reply(w, r);
}

static void apply(struct row *row, const struct chatd_store_account_update *q)
{
	if (q->set & CHATD_STORE_ACCOUNT_NICKNAME) {
		copy(row->nick, sizeof(row->nick), q->nickname);
	}
	if (q->set & CHATD_STORE_ACCOUNT_AVATAR) {
		copy(row->avatar, sizeof(row->avatar), q->avatar);
	}
	if (q->set & CHATD_STORE_ACCOUNT_ROLES) {
		copy(row->roles, sizeof(row->roles), q->roles);
	}
	if (q->set & CHATD_STORE_ACCOUNT_BANNED) {
		row->banned = q->banned_until;
	}
	if (q->set & CHATD_STORE_ACCOUNT_BITS) {
		row->bits = (row->bits | q->bits_on) & ~q->bits_off;
	}
}

/* The only administrator is whoever has the role: root. */
static int loses_last(const struct row *row, struct chatd_str needed)
{
	return needed.p && strstr(row->roles, "admin") != NULL;
}

static chatd_status f_update(void *obj, chatd_worker *w, const struct chatd_store_account_update *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	struct row *row = row_of(q->id);
	(void)obj;
	if (row && q->set & CHATD_STORE_ACCOUNT_NICKNAME && same(q->nickname, "Bob")) {
		r->rc = -EEXIST;
		r->a.why = CHATD_STORE_NICK_TAKEN;
	} else if (row && q->set & CHATD_STORE_ACCOUNT_ROLES && loses_last(row, q->needed)) {
		r->rc = -EACCES;
		r->a.why = CHATD_STORE_LAST;
	} else {
		if (row) {
			apply(row, q);
		}
		tell_row(r, row);
	}
	return send_reply(w, r);
}

static chatd_status f_delete(void *obj, chatd_worker *w, const struct chatd_store_account_delete *q,
		chatd_store_fn *fn, void *arg)
{
	struct row *row = row_of(q->id);
	struct reply *r = reply(fn, arg);
	(void)obj;
	r->rc = row ? 0 : -ENOENT;
	if (row && !fake.refuse) {
		row->there = 0;
		fake.deleted++;
	}
	return send_reply(w, r);
}

static chatd_status f_login(void *obj, chatd_worker *w, const struct chatd_store_login_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	(void)obj;
	r->rc = same(q->id, "l1") ? 0 : -ENOENT;
	r->login = (struct chatd_store_login){
		.struct_size = sizeof(r->login), .user = z("ann"), .created = fake.login_created
	};
	r->a.logins = &r->login;
	r->a.n_logins = 1;
	return send_reply(w, r);
}

static chatd_status f_put(void *obj, chatd_worker *w, const struct chatd_store_secret *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	copy(fake.secret, sizeof(fake.secret), q->hash);
	return send_reply(w, reply(fn, arg));
}

static chatd_status f_take(void *obj, chatd_worker *w, const struct chatd_store_secret *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	(void)obj;
	r->rc = fake.secret[0] && same(q->hash, fake.secret) ? 0 : -ENOENT;
	if (r->rc == 0) {
		fake.secret[0] = '\0';
	}
	return send_reply(w, r);
}

static chatd_status f_rooms(void *obj, chatd_worker *w, const struct chatd_store_room_list *q,
		chatd_store_fn *fn, void *arg)
{
	static const struct chatd_store_room den = {
		.struct_size = sizeof(den), .id = { "den", 3 }, .name = { "The Den", 7 }, .role = 3
	};
	struct reply *r = reply(fn, arg);
	(void)obj;
	r->a.rooms = &den;
	r->a.n_rooms = !q->after.p;
	return send_reply(w, r);
}

static chatd_status f_convs(void *obj, chatd_worker *w, const struct chatd_store_conversations *q,
		chatd_store_fn *fn, void *arg)
{
	static const struct chatd_store_conversation one = { .struct_size = sizeof(one),
		.conv = { { NULL, 0 }, { "ann", 3 }, { "bob", 3 } },
		.seq = 9,
		.pos = 5 };
	struct reply *r = reply(fn, arg);
	(void)obj;
	r->a.conversations = &one;
	r->a.n_conversations = !q->before;
	return send_reply(w, r);
}

static chatd_status f_sent(
		void *obj, chatd_worker *w, const struct chatd_store_sent *q, chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	int64_t pos = q->before ? q->before - 1 : fake.sent;
	(void)obj;
	for (int32_t i = 0; i < q->limit && i < 64 && pos > 0; i++, pos--) {
		struct chatd_store_message *m = &r->messages[r->a.n_messages++];
		snprintf(r->ids[i], sizeof(r->ids[i]), "m%lld", (long long)pos);
		*m = (struct chatd_store_message){ .struct_size = sizeof(*m),
			.id = z(r->ids[i]),
			.pos = pos,
			.seq = pos,
			.wall = 1700000000000,
			.conv = { { NULL, 0 }, z("ann"), z("bob") },
			.body = z("{\"content\":\"x\"}") };
	}
	r->a.messages = r->messages;
	return send_reply(w, r);
}

static const struct chatd_store store_vt = { .struct_size = sizeof(store_vt),
	.account_get = f_get,
	.account_search = f_search,
	.account_update = f_update,
	.account_delete = f_delete,
	.login_get = f_login,
	.secret_put = f_put,
	.secret_take = f_take,
	.room_list = f_rooms,
	.conversations = f_convs,
	.sent = f_sent };

static void on_left(void *arg)
{
	struct reply *r = arg;
	fake.left++;
	((chatd_left_fn *)(void (*)(void))r->fn)(r->arg, 0);
	free(r);
}

static chatd_status f_leave(void *obj, chatd_worker *w, struct chatd_str user,
		struct chatd_str nick, chatd_left_fn *fn, void *arg)
{
	struct reply *r = reply((chatd_store_fn *)(void (*)(void))fn, arg);
	(void)obj;
	(void)user;
	(void)nick;
	chatd_status rc = kit_host(fake.k)->post(w, on_left, r);
	if (rc < 0) {
		free(r);
	}
	return rc;
}

static const struct chatd_rooms rooms_vt = { .struct_size = sizeof(rooms_vt),
	.leave_all = f_leave };

static void fill(struct row *row, const char *id, const char *nick, const char *roles)
{
	row->there = 1;
	copy(row->id, sizeof(row->id), z(id));
	copy(row->nick, sizeof(row->nick), z(nick));
	copy(row->roles, sizeof(row->roles), z(roles));
	snprintf(row->email, sizeof(row->email), "%s@example.org", id);
}

/* ann, bob, the moderator mod and the guest g1; no administrator. */
static struct kit *fresh(const char *yaml)
{
	static const struct kit_service services[] = { { CHATD_STORE, &store_vt, NULL },
		{ CHATD_ROOMS, &rooms_vt, NULL }, { CHATD_AUDIT, NULL, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = 2, .services = services };
	fake = (struct fake){ 0 };
	fill(&fake.rows[0], "ann", "Ann", "");
	fill(&fake.rows[1], "bob", "Bob", "");
	fill(&fake.rows[2], "mod", "Moderatrix", "moderator");
	fill(&fake.rows[3], "g1", "Anonymous", "");
	fake.rows[3].flags = CHATD_ID_ANONYMOUS;
	fake.rows[3].email[0] = '\0';
	fake.k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	return fake.k;
}

static struct kit *quiet(void)
{
	return fresh("first_admin: false");
}

static struct kit_req *as(
		const char *user, const char *flags, const char *method, const char *path, const char *body)
{
	return kit_http(fake.k, method, path, body, "kit-user", user, "kit-flags", flags, "kit-login",
			"l0", "Content-Type", "application/json", NULL);
}

/* What an open session of worker 1 goes on as. */
struct seen {
	struct kit_client *c;
	uint32_t flags;
	char name[140], roles[80];
};

static void look(void *arg)
{
	struct seen *s = arg;
	const struct chatd_host *h = kit_host(fake.k);
	const chatd_ident *who = h->session_ident(kit_session(s->c));
	s->flags = h->ident_flags(who);
	copy(s->name, sizeof(s->name), h->ident_name(who));
	copy(s->roles, sizeof(s->roles), h->ident_roles(who));
}

static struct seen seen(struct kit_client *c)
{
	struct seen s = { .c = c };
	kit_on(fake.k, 1, look, &s);
	return s;
}

/* ---- profiles ---------------------------------------------------------------------------- */

static void people_are_found_and_guests_by_their_id_alone(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_req *r = as("bob", "0", "GET", "/api/users?q=an", NULL);
	kit_expect_http(r, 200,
			"{\"users\":[{\"userId\":\"ann\",\"nickname\":\"Ann\","
			"\"anonymous\":false}]}");
	r = as("bob", "0", "GET", "/api/users?q=g1", NULL);
	kit_expect_http(r, 200, "\"userId\":\"g1\",\"nickname\":\"Anonymous\",\"anonymous\":true");
	fake.rows[0].bits = CHATD_ACCOUNT_HIDDEN;
	kit_expect_http(as("bob", "0", "GET", "/api/users?q=ann", NULL), 200, "{\"users\":[]}");
	kit_expect_http(as("bob", "0", "GET", "/api/users?q=a", NULL), 422, "2 to 128");
	kit_expect_http(as("bob", "0", "GET", "/api/users", NULL), 422, "VALIDATION");
	kit_expect_http(as("bob", "0", "GET", "/api/users?q=an&limit=101", NULL), 200, "{\"users\":[");
	kit_expect_http(as("bob", "0", "GET", "/api/users?q=an&limit=0", NULL), 200, "{\"users\":[");
	kit_expect_http(as("bob", "0", "GET", "/api/users?q=an&limit=1e9", NULL), 400, "whole number");
	kit_expect_http(kit_http(k, "GET", "/api/users?q=an", NULL, NULL), 401, "UNAUTHORIZED");
	kit_free(k);
}

static void others_see_no_address_and_no_roles(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_req *r = as("bob", "0", "GET", "/api/users/mod", NULL);
	kit_expect_http(r, 200, "\"nickname\":\"Moderatrix\"");
	struct chatd_str body = kit_http_body(r);
	assert_null(memmem(body.p, body.n, "example.org", 11));
	assert_null(memmem(body.p, body.n, "roles", 5));
	kit_expect_http(as("bob", "0", "GET", "/api/users/nobody", NULL), 404, "NOT_FOUND");
	kit_expect_http(as("bob", "0", "GET", "/api/users/no.id", NULL), 404, "NOT_FOUND");
	r = as("mod", "0", "GET", "/api/users/me", NULL);
	kit_expect_http(r, 200,
			"\"email\":\"mod@example.org\",\"emailVerified\":false,"
			"\"roles\":[\"moderator\"],\"discoverable\":true");
	/* Who is in no store is what its login says. */
	kit_expect_http(as("conf", ADMIN, "GET", "/api/users/me", NULL), 200,
			"\"userId\":\"conf\",\"nickname\":\"conf\",\"anonymous\":false,\"roles\":[\"admin\"]");
	kit_free(k);
}

static void one_changes_ones_profile(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_client *ann = kit_open_on(k, 1, "ann", 0);
	struct kit_req *r = as("ann", "0", "PATCH", "/api/users/me",
			"{\"nickname\":\" Annie \",\"avatar\":\"/a.png\",\"discoverable\":false}");
	kit_expect_http(r, 200, "\"nickname\":\"Annie\",\"avatar\":\"/a.png\"");
	assert_int_equal(fake.rows[0].bits, CHATD_ACCOUNT_HIDDEN);
	/* An open session is called so from now on. */
	assert_string_equal(seen(ann).name, "Annie");
	r = as("ann", "0", "PATCH", "/api/users/me", "{\"avatar\":\"\",\"discoverable\":true}");
	kit_expect_http(r, 200, "\"discoverable\":true");
	assert_string_equal(fake.rows[0].avatar, "");
	assert_string_equal(fake.rows[0].nick, "Annie");
	r = as("ann", "0", "PATCH", "/api/users/me", "{\"nickname\":\"Bob\"}");
	kit_expect_http(r, 409, "NICKNAME_TAKEN");
	r = as("conf", "0", "PATCH", "/api/users/me", "{\"nickname\":\"X\"}");
	kit_expect_http(r, 409, "NOT_STORED");
	kit_free(k);
}

static void bad_profiles_are_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "{}", "give nickname" },
		{ "{\"nickname\":7}", "must be a string" },
		{ "{\"nickname\":\" \"}", "must not be empty" },
		{ "{\"nickname\":\"\xe2\x80\x83\"}", "must not be empty" },
		{ "{\"nickname\":\"\xe2\x80\x8b\"}", "must not be empty" },
		{ "{\"nickname\":\"\xef\xbd\x81"
		  "d\xe2\x80\xaemin\"}",
				"kept for those" },
		{ "{\"nickname\":\"123456789012345678901234567890123\"}", "32 characters" },
		{ "{\"nickname\":\"A_d-m In\"}", "kept for those" },
		{ "{\"avatar\":\"javascript:alert(1)\"}", "https://" },
		{ "{\"avatar\":\"//evil.example/x\"}", "https://" },
		{ "{\"avatar\":\"/a\\\"b\"}", "URLs" },
	};
	struct kit *k = quiet();
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		kit_expect_http(as("ann", "0", "PATCH", "/api/users/me", bad[i][0]), 422, bad[i][1]);
	}
	kit_expect_http(as("ann", "0", "PATCH", "/api/users/me", "x"), 400, "VALIDATION");
	/* Whoever runs the server may be called so; what is not named here is not changed. */
	kit_expect_http(as("mod", MOD, "PATCH", "/api/users/me",
							"{\"nickname\":\"Admin\",\"roles\":[\"admin\"],\"userId\":\"bob\"}"),
			200, "\"userId\":\"mod\",\"nickname\":\"Admin\"");
	assert_string_equal(fake.rows[2].roles, "moderator");
	fake.refuse = -EAGAIN;
	kit_expect_http(as("ann", "0", "GET", "/api/users/me", NULL), 503, "STORE_BUSY");
	kit_free(k);
}

/* ---- power --------------------------------------------------------------------------------- */

static void administrators_give_roles_and_sessions_have_them_at_once(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_client *bob = kit_open_on(k, 1, "bob", 0);
	const char *path = "/api/users/bob/roles",
			   *body = "{\"roles\":[\"moderator\",\"user\",\"ops\"]}";
	kit_expect_http(as("ann", "0", "PUT", path, body), 403, "FORBIDDEN");
	kit_expect_http(as("mod", MOD, "PUT", path, body), 403, "FORBIDDEN");
	kit_expect_http(as("root", ADMIN, "PUT", path, body), 200, "\"roles\":[\"moderator\",\"ops\"]");
	assert_int_equal(seen(bob).flags, CHATD_ID_MODERATOR);
	assert_string_equal(seen(bob).roles, "moderator ops");
	kit_expect_logged(k,
			"audit {\"action\":\"roles\",\"actor\":\"root\",\"target\":\"bob\","
			"\"roles\":\"moderator ops\",\"address\":\"192.0.2.1\","
			"\"requestId\":\"0123456789abcdef\"}");
	kit_expect_http(as("root", ADMIN, "PUT", path, "{\"roles\":[]}"), 200, "\"roles\":[]");
	assert_int_equal(seen(bob).flags, 0);
	kit_expect_http(as("root", ADMIN, "PUT", path, "{}"), 422, "roles is missing");
	kit_expect_http(as("root", ADMIN, "PUT", path, "{\"roles\":[\"Admin x\"]}"), 422, "a-z");
	kit_expect_http(as("root", ADMIN, "PUT", "/api/users/g1/roles", body), 422, "guest");
	kit_expect_http(as("root", ADMIN, "PUT", "/api/users/nobody/roles", body), 404, "NOT_FOUND");
	copy(fake.rows[1].roles, sizeof(fake.rows[1].roles), z("admin"));
	kit_expect_http(as("bob", ADMIN, "PUT", path, "{\"roles\":[]}"), 409, "LAST_ADMIN");
	kit_free(k);
}

static void moderators_ban_who_is_below_them(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_client *bob = kit_open_on(k, 1, "bob", 0);
	const char *path = "/api/users/bob/ban";
	kit_expect_http(as("ann", "0", "POST", path, "{}"), 403, "FORBIDDEN");
	kit_expect_http(as("mod", MOD, "POST", path, "{\"seconds\":0}"), 422, "seconds");
	kit_expect_http(as("mod", MOD, "POST", "/api/users/mod/ban", "{}"), 403, "themselves");
	kit_expect_http(as("mod2", MOD, "POST", "/api/users/mod/ban", "{}"), 403, "lower role");
	kit_expect_http(as("mod", MOD, "POST", "/api/users/no/ban", "{}"), 404, "NOT_FOUND");
	assert_true(kit_is_open(bob));
	kit_expect_http(
			as("mod", MOD, "POST", path, "{\"seconds\":60,\"reason\":\"<spam>\"}"), 204, NULL);
	kit_expect_closed(bob, 4403);
	assert_int_equal(fake.rows[1].banned, kit_host(k)->wall_ms() + 60000);
	kit_expect_logged(k, "\"action\":\"ban\",\"actor\":\"mod\",\"target\":\"bob\",\"until\":");
	kit_expect_logged(k, "\"reason\":\"\\u003cspam\\u003e\"");
	/* Who was just logging in is closed, too; who comes when it is over is not. */
	const struct chatd_identity late = {
		.struct_size = sizeof(late), .user = z("bob"), .name = z("Bob"), .login = z("l0")
	};
	bob = kit_open_as(k, 0, &late);
	kit_expect_closed(bob, 4403);
	kit_expect_http(as("mod", MOD, "DELETE", path, NULL), 204, NULL);
	assert_int_equal(fake.rows[1].banned, 0);
	kit_expect_logged(k, "\"action\":\"unban\"");
	bob = kit_open_as(k, 0, &late);
	assert_true(kit_is_open(bob));
	kit_expect_http(as("root", ADMIN, "POST", "/api/users/mod/ban", NULL), 204, NULL);
	assert_true(fake.rows[2].banned == INT64_MAX);
	kit_expect_logged(k, "\"until\":\"forever\"");
	kit_free(k);
}

static void who_is_banned_does_not_come_in_again(void **state)
{
	struct kit *k = quiet();
	(void)state;
	fake.rows[3].banned = kit_host(k)->wall_ms() + 60000;
	struct kit_req *r =
			kit_http(k, "GET", "/api/users/me", NULL, "kit-user", "g1", "kit-flags", GUEST, NULL);
	kit_expect_http(r, 403, "BANNED");
	kit_login(k, 1, "kit-user", "g1", "kit-flags", GUEST, NULL);
	kit_expect_reject(k, "BANNED", "banned");
	kit_login(k, 1, "kit-user", "ann", NULL);
	kit_expect_accept(k);
	kit_login(k, 1, "kit-user", "stranger", NULL);
	kit_expect_accept(k);
	kit_advance(k, 60001);
	kit_login(k, 1, "kit-user", "g1", "kit-flags", GUEST, NULL);
	kit_expect_accept(k);
	fake.refuse = -EAGAIN;
	kit_login(k, 1, "kit-user", "g1", "kit-flags", GUEST, NULL);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	r = kit_http(k, "GET", "/api/users/me", NULL, "kit-user", "ann", NULL);
	kit_expect_http(r, 503, "UNAVAILABLE");
	kit_free(k);
}

/* ---- the first administrator ------------------------------------------------------------------ */

/* The code of the file. */
static void code_of(struct kit *k, char ret[64])
{
	char path[512];
	snprintf(path, sizeof(path), "%s/admin.code", kit_data_dir(k));
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(ret, 64, f));
	fclose(f);
	ret[strcspn(ret, "\n")] = '\0';
	assert_int_equal(strlen(ret), 32);
}

static void a_code_makes_the_first_administrator_once(void **state)
{
	struct kit *k = fresh("");
	char code[64], body[128], path[512];
	(void)state;
	struct kit_client *ann = kit_open_on(k, 1, "ann", 0);
	code_of(k, code);
	kit_expect_logged(k, code);
	snprintf(body, sizeof(body), "{\"code\":\"%.16s-%s\"}", code, code + 16);
	const char *url = "/api/users/me/admin";
	kit_expect_http(as("g1", GUEST, "POST", url, body), 403, "FORBIDDEN");
	kit_expect_http(as("conf", "0", "POST", url, body), 404, "NOT_FOUND");
	kit_expect_http(as("ann", "0", "POST", url, "{}"), 422, "code is missing");
	kit_expect_http(as("ann", "0", "POST", url, "{\"code\":\"x\"}"), 403, "WRONG_CODE");
	kit_expect_http(as("ann", "0", "POST", url, "{\"code\":\"00000000000000000000000000000000\"}"),
			403, "WRONG_CODE");
	kit_expect_http(as("ann", "0", "POST", url, body), 200, "\"roles\":[\"admin\"]");
	assert_int_equal(seen(ann).flags, CHATD_ID_ADMIN);
	kit_expect_logged(k, "\"action\":\"first-admin\",\"actor\":\"ann\"");
	snprintf(path, sizeof(path), "%s/admin.code", kit_data_dir(k));
	assert_int_equal(access(path, F_OK), -1);
	kit_expect_http(as("bob", "0", "POST", url, body), 403, "WRONG_CODE");
	kit_free(k);
}

static void codes_cannot_be_tried_at_will(void **state)
{
	struct kit *k = fresh("");
	char code[64], body[128];
	(void)state;
	code_of(k, code);
	snprintf(body, sizeof(body), "{\"code\":\"%s\"}", code);
	for (int i = 0; i < 5; i++) {
		kit_expect_http(as("ann", "0", "POST", "/api/users/me/admin", "{\"code\":\"1\"}"), 403,
				"WRONG_CODE");
	}
	struct kit_req *r = as("ann", "0", "POST", "/api/users/me/admin", body);
	kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
	assert_true(same(kit_http_header(r, "Retry-After"), "60"));
	kit_advance(k, 60000);
	kit_expect_http(as("ann", "0", "POST", "/api/users/me/admin", body), 200, "admin");
	kit_free(k);
}

/* ---- leaving ------------------------------------------------------------------------------------- */

static void an_account_leaves_its_rooms_and_is_gone(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_client *ann = kit_open_on(k, 1, "ann", 0);
	kit_expect_http(as("ann", "0", "DELETE", "/api/users/me", NULL), 422, "confirm");
	kit_expect_http(
			as("ann", "0", "DELETE", "/api/users/me", "{\"confirm\":\"bob\"}"), 422, "confirm");
	assert_int_equal(fake.deleted, 0);
	kit_expect_http(as("ann", "0", "DELETE", "/api/users/me", "{\"confirm\":\"ann\"}"), 204, NULL);
	assert_int_equal(fake.left, 1);
	assert_int_equal(fake.deleted, 1);
	kit_expect_closed(ann, 4401);
	kit_expect_logged(k, "\"action\":\"delete-account\",\"actor\":\"ann\"");
	copy(fake.rows[1].roles, sizeof(fake.rows[1].roles), z("admin"));
	kit_expect_http(as("bob", ADMIN, "DELETE", "/api/users/me", "{\"confirm\":\"bob\"}"), 409,
			"LAST_ADMIN");
	assert_int_equal(fake.left, 1); /* it has left no room yet */
	kit_free(k);
}

static void who_has_a_password_needs_a_fresh_login(void **state)
{
	struct kit *k = quiet();
	const char *sure = "{\"confirm\":\"ann\"}";
	(void)state;
	copy(fake.rows[0].password, sizeof(fake.rows[0].password), z("hash"));
	kit_expect_http(as("ann", "0", "DELETE", "/api/users/me", sure), 403, "FRESH_LOGIN_NEEDED");
	fake.login_created = kit_host(k)->wall_ms() - 300001;
	struct kit_req *r = kit_http(k, "DELETE", "/api/users/me", sure, "kit-user", "ann", "kit-login",
			"l1", "Content-Type", "application/json", NULL);
	kit_expect_http(r, 403, "FRESH_LOGIN_NEEDED");
	fake.login_created = kit_host(k)->wall_ms() - 299000;
	r = kit_http(k, "DELETE", "/api/users/me", sure, "kit-user", "ann", "kit-login", "l2",
			"Content-Type", "application/json", NULL);
	kit_expect_http(r, 403, "FRESH_LOGIN_NEEDED");
	assert_int_equal(fake.deleted, 0);
	r = kit_http(k, "DELETE", "/api/users/me", sure, "kit-user", "ann", "kit-login", "l1",
			"Content-Type", "application/json", NULL);
	kit_expect_http(r, 204, NULL);
	kit_free(k);
}

static void an_export_holds_all_of_it(void **state)
{
	struct kit *k = quiet();
	(void)state;
	fake.sent = 120;
	struct kit_req *r = as("ann", "0", "GET", "/api/users/me/export", NULL);
	kit_expect_http(r, 200, "{\"profile\":{\"userId\":\"ann\"");
	kit_expect_http(
			r, 200, "\"rooms\":[\n{\"roomId\":\"den\",\"name\":\"The Den\",\"role\":\"owner\"}],");
	kit_expect_http(r, 200, "\"conversations\":[\n{\"with\":\"bob\",\"messages\":9,\"read\":0}],");
	kit_expect_http(r, 200,
			"{\"id\":\"m1\",\"with\":\"bob\",\"seq\":1,"
			"\"timestamp\":\"2023-11-14T22:13:20.000Z\",\"message\":{\"content\":\"x\"}}]}\n");
	struct chatd_str body = kit_http_body(r);
	size_t n = 0;
	for (const char *p = body.p; (p = strstr(p, "{\"id\":\"m")); p++) {
		n++;
	}
	assert_int_equal(n, 120);
	fake.refuse = -EIO;
	kit_expect_http(as("ann", "0", "GET", "/api/users/me/export", NULL), 503, "UNAVAILABLE");
	kit_free(k);
}

/* ---- in all weathers -------------------------------------------------------------------------- */

/* What was begun is finished, whether somebody waits for the answer or not. */
static void a_client_that_leaves_takes_nothing_along(void **state)
{
	struct kit *k = quiet();
	(void)state;
	struct kit_client *bob = kit_open_on(k, 1, "bob", 0);
	kit_manual(k, 1);
	struct kit_req *r = as("mod", MOD, "POST", "/api/users/bob/ban", "{}");
	kit_http_gone(r);
	kit_run(k);
	kit_expect_closed(bob, 4403);
	r = as("ann", "0", "GET", "/api/users/me/export", NULL);
	kit_http_gone(r);
	kit_run(k);
	kit_free(k);
}

static void a_day(void)
{
	struct kit *k = fresh("");
	struct kit_client *bob = kit_open_on(k, 1, "bob", 0);
	fake.sent = 3;
	as("bob", "0", "GET", "/api/users?q=g1", NULL);
	as("ann", "0", "PATCH", "/api/users/me", "{\"nickname\":\"Annie\"}");
	as("root", ADMIN, "PUT", "/api/users/bob/roles", "{\"roles\":[\"moderator\"]}");
	as("ann", "0", "POST", "/api/users/me/admin",
			"{\"code\":\"00000000000000000000000000000000\"}");
	as("ann", "0", "GET", "/api/users/me/export", NULL);
	as("root", ADMIN, "POST", "/api/users/bob/ban", "{\"reason\":\"x\"}");
	as("ann", "0", "DELETE", "/api/users/me", "{\"confirm\":\"ann\"}");
	kit_advance(k, 2000);
	kit_close(bob);
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_day);
}

static void bad_names_in_the_configuration_are_named(void **state)
{
	(void)state;
	char *said = kit_complaints(&chatd_plugin_under_test, "reserved_names: [The-Boss]");
	assert_non_null(strstr(said, "\"The-Boss\" would fit no nickname"));
	free(said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(people_are_found_and_guests_by_their_id_alone),
		cmocka_unit_test(others_see_no_address_and_no_roles),
		cmocka_unit_test(one_changes_ones_profile),
		cmocka_unit_test(bad_profiles_are_refused),
		cmocka_unit_test(administrators_give_roles_and_sessions_have_them_at_once),
		cmocka_unit_test(moderators_ban_who_is_below_them),
		cmocka_unit_test(who_is_banned_does_not_come_in_again),
		cmocka_unit_test(a_code_makes_the_first_administrator_once),
		cmocka_unit_test(codes_cannot_be_tried_at_will),
		cmocka_unit_test(an_account_leaves_its_rooms_and_is_gone),
		cmocka_unit_test(who_has_a_password_needs_a_fresh_login),
		cmocka_unit_test(an_export_holds_all_of_it),
		cmocka_unit_test(a_client_that_leaves_takes_nothing_along),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
		cmocka_unit_test(bad_names_in_the_configuration_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

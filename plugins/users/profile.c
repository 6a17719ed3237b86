/* SPDX-License-Identifier: Apache-2.0 */
/* Who somebody is: for everybody, and for oneself. */
#include "users.h"

#include <chatd-sdk/page.h>

enum { SEARCH_CHARS = 2, SEARCH_MAX = 100, SEARCH_USUAL = 20 };

void write_profile(struct chatd_json *j, const struct chatd_account *who)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "userId", who->id);
	chatd_json_member(j, "nickname", who->nickname);
	chatd_json_member(j, "avatar", who->avatar);
	chatd_json_flag(j, "anonymous", (who->flags & CHATD_ID_ANONYMOUS) != 0);
}

static void write_roles(struct chatd_json *j, struct chatd_str roles)
{
	size_t from = 0;
	chatd_json_key(j, "roles");
	chatd_json_lit(j, "[");
	for (size_t i = 0; roles.p && i <= roles.n; i++) {
		if (i == roles.n || roles.p[i] == ' ') {
			if (i > from) {
				chatd_json_next(j);
				chatd_json_quote(j, chatd_str_of(roles.p + from, i - from));
			}
			from = i + 1;
		}
	}
	chatd_json_lit(j, "]");
}

void write_own(struct ask *a, const struct chatd_account *who)
{
	struct chatd_json *j = &a->out;
	write_profile(j, who);
	chatd_json_member(j, "email", who->email);
	if (who->email.p) {
		chatd_json_flag(j, "emailVerified", (who->bits & CHATD_ACCOUNT_VERIFIED) != 0);
	}
	write_roles(j, who->roles);
	chatd_json_flag(j, "discoverable", !(who->bits & CHATD_ACCOUNT_HIDDEN));
	if (who->created) {
		chatd_json_time(j, "createdAt", who->created);
	}
	chatd_json_lit(j, "}");
}

/* ---- others ------------------------------------------------------------------------ */

static void on_profile(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	write_profile(&a->out, &s->accounts[0]);
	chatd_json_lit(&a->out, "}");
	ask_answer(a, 200);
}

void run_get(struct ask *a)
{
	if (!a->target[0]) {
		ask_refused(a, -ENOENT, NULL);
		return;
	}
	ask_account(a, text(a->target), on_profile);
}

static void end_search(struct ask *a)
{
	chatd_json_lit(&a->out, "]}");
	ask_answer(a, 200);
}

/* A guest is found by whoever knows its id. */
static void on_exact(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0 && rc != -ENOENT) {
		ask_refused(a, rc, s);
		return;
	}
	if (rc == 0 && s->accounts[0].flags & CHATD_ID_ANONYMOUS) {
		chatd_json_next(&a->out);
		write_profile(&a->out, &s->accounts[0]);
		chatd_json_lit(&a->out, "}");
	}
	end_search(a);
}

static void on_found(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	chatd_json_lit(&a->out, "{\"users\":[");
	for (size_t i = 0; i < s->n_accounts; i++) {
		chatd_json_next(&a->out);
		write_profile(&a->out, &s->accounts[i]);
		chatd_json_lit(&a->out, "}");
	}
	if (a->target[0]) {
		ask_account(a, text(a->target), on_exact);
	} else {
		end_search(a);
	}
}

void run_search(struct ask *a)
{
	struct chatd_str q = http_of(a)->req_query(a->req, "q");
	struct chatd_store_account_search r = { .struct_size = sizeof(r),
		.prefix = q,
		.limit = (int32_t)chatd_page_limit(
				http_of(a)->req_query(a->req, "limit"), SEARCH_USUAL, SEARCH_MAX),
		.people = 1 };
	if (!q.p || chatd_str_chars(q) < SEARCH_CHARS || q.n > NICK_MAX) {
		ask_problem(a, 422, "VALIDATION",
				"q must be the beginning of a nickname or user id, 2 to 128 characters");
		return;
	}
	if (!r.limit) {
		ask_problem(a, 400, "VALIDATION", CHATD_PAGE_NO_LIMIT);
		return;
	}
	chatd_str_copy(a->target, sizeof(a->target), chatd_id_ok(q) ? q : CHATD_LIT(""));
	ask_asked(a, store_of(a)->account_search(a->self->store->obj, a->w, &r, on_found, a));
}

/* ---- oneself ------------------------------------------------------------------------ */

/* Who is written in the configuration, or in somebody else's token, has no row. */
static void write_ident(struct ask *a)
{
	const struct chatd_host *h = a->self->h;
	const struct chatd_account who = { .struct_size = sizeof(who),
		.id = ask_user(a),
		.nickname = h->ident_name(a->who),
		.flags = ask_flags(a),
		.roles = ask_flags(a) & CHATD_ID_ADMIN && !h->ident_roles(a->who).n
				? CHATD_LIT("admin")
				: h->ident_roles(a->who) };
	write_own(a, &who);
}

static void on_me(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0 && rc != -ENOENT) {
		ask_refused(a, rc, s);
		return;
	}
	if (rc == 0) {
		write_own(a, &s->accounts[0]);
	} else {
		write_ident(a);
	}
	ask_answer(a, 200);
}

void run_me(struct ask *a)
{
	ask_account(a, ask_user(a), on_me);
}

static void on_patched(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc == -ENOENT) {
		ask_problem(a, 409, "NOT_STORED",
				"this user is kept in the server's configuration; the profile is changed there");
		return;
	}
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	if (a->nick[0]) {
		live_name(a, ask_user(a), s->accounts[0].nickname);
	}
	write_own(a, &s->accounts[0]);
	ask_answer(a, 200);
}

struct patch {
	struct chatd_str nickname, avatar;
	int32_t discoverable; /* -1: not said */
};
static const struct chatd_json_field patch_fields[] = {
	{ "nickname", CHATD_J_TEXT, offsetof(struct patch, nickname) },
	{ "avatar", CHATD_J_TEXT, offsetof(struct patch, avatar) },
	{ "discoverable", CHATD_J_BOOL, offsetof(struct patch, discoverable) },
	{ NULL, 0, 0 },
};

static const char *take_patch(
		struct ask *a, const struct patch *p, struct chatd_store_account_update *u)
{
	const char *fault = p->nickname.p ? chatd_nick_take(p->nickname, a->nick) : NULL;
	if (!fault && a->nick[0] && is_reserved(a->self->conf->reserved_names, a->nick) &&
			rank_of(ask_flags(a)) == 0) {
		fault = "this nickname is kept for those who run the server; choose another";
	}
	if (!fault && p->avatar.p) {
		fault = check_avatar(p->avatar);
	}
	u->set |= p->nickname.p ? (uint32_t)CHATD_STORE_ACCOUNT_NICKNAME : 0;
	u->set |= p->avatar.p ? (uint32_t)CHATD_STORE_ACCOUNT_AVATAR : 0;
	u->set |= p->discoverable >= 0 ? (uint32_t)CHATD_STORE_ACCOUNT_BITS : 0;
	u->nickname = text(a->nick);
	u->avatar = p->avatar.n ? p->avatar : chatd_str_of(NULL, 0);
	u->bits_on = p->discoverable == 0 ? CHATD_ACCOUNT_HIDDEN : 0;
	u->bits_off = p->discoverable == 1 ? CHATD_ACCOUNT_HIDDEN : 0;
	return fault || u->set ? fault : "give nickname, avatar or discoverable";
}

void run_patch(struct ask *a)
{
	struct patch p = { .discoverable = -1 };
	struct chatd_store_account_update u = { .struct_size = sizeof(u), .id = ask_user(a) };
	json_t *root;
	if (!ask_body(a, patch_fields, &p, &root)) {
		return;
	}
	const char *fault = take_patch(a, &p, &u);
	if (fault) {
		ask_problem(a, 422, "VALIDATION", fault);
	} else {
		ask_asked(a, store_of(a)->account_update(a->self->store->obj, a->w, &u, on_patched, a));
	}
	json_decref(root);
}

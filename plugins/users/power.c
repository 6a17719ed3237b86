/* SPDX-License-Identifier: Apache-2.0 */
/* What moderators and administrators of the server do to accounts. */
#include "users.h"

enum { LONGEST = 10 * 366 * 24 * 3600 }; /* s, of a ban that ends */

/* ---- roles ------------------------------------------------------------------------ */

static void on_roles(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	audit(a,
			&(struct audit){
					.action = "roles", .target = text(a->target), .roles = text(a->roles) });
	live_roles(a, text(a->target), text(a->roles));
	write_own(a, &s->accounts[0]);
	ask_answer(a, 200);
}

static void set_roles(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	if (s->accounts[0].flags & CHATD_ID_ANONYMOUS) {
		ask_problem(a, 422, "VALIDATION", "a guest can have no roles; it must register first");
		return;
	}
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.id = text(a->target),
		.set = CHATD_STORE_ACCOUNT_ROLES,
		.roles = a->roles[0] ? text(a->roles) : chatd_str_of(NULL, 0),
		.needed = CHATD_LIT("admin") };
	ask_asked(a, store_of(a)->account_update(a->self->store->obj, a->w, &u, on_roles, a));
}

void run_roles(struct ask *a)
{
	static const struct chatd_json_field fields[] = { { "roles", CHATD_J_LIST, 0 },
		{ NULL, 0, 0 } };
	json_t *list = NULL, *root;
	if (rank_of(ask_flags(a)) < 2) {
		ask_problem(a, 403, "FORBIDDEN", "only administrators of the server may do that");
		return;
	}
	if (!ask_body(a, fields, &list, &root)) {
		return;
	}
	const char *fault = check_roles(list, a->roles);
	json_decref(root);
	if (fault) {
		ask_problem(a, 422, "VALIDATION", fault);
	} else if (!a->target[0]) {
		ask_refused(a, -ENOENT, NULL);
	} else {
		ask_account(a, text(a->target), set_roles);
	}
}

/* ---- bans --------------------------------------------------------------------------- */

static void on_banned(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	audit(a,
			&(struct audit){ .action = a->until ? "ban" : "unban",
					.target = text(a->target),
					.until = a->until,
					.reason = a->reason[0] ? text(a->reason) : chatd_str_of(NULL, 0) });
	if (a->until) {
		live_ban(a, text(a->target), a->until);
	} else {
		live_unban(a, text(a->target));
	}
	ask_answer(a, 204);
}

static void set_ban(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	if (rank_of(flags_of_roles(s->accounts[0].roles)) >= rank_of(ask_flags(a))) {
		audit(a,
				&(struct audit){ .action = a->until ? "ban" : "unban",
						.target = text(a->target),
						.reason = chatd_str_of(NULL, 0),
						.code = "FORBIDDEN" });
		ask_problem(a, 403, "FORBIDDEN", "only over somebody of a lower role than yours");
		return;
	}
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.id = text(a->target),
		.set = CHATD_STORE_ACCOUNT_BANNED,
		.banned_until = a->until };
	ask_asked(a, store_of(a)->account_update(a->self->store->obj, a->w, &u, on_banned, a));
}

static int may_ban(struct ask *a)
{
	if (rank_of(ask_flags(a)) < 1) {
		ask_problem(a, 403, "FORBIDDEN", "only moderators of the server may do that");
		return 0;
	}
	if (!a->target[0] || chatd_str_same(text(a->target), ask_user(a))) {
		if (a->target[0]) {
			ask_problem(a, 403, "FORBIDDEN", "nobody can ban themselves, or lift their own ban");
		} else {
			ask_refused(a, -ENOENT, NULL);
		}
		return 0;
	}
	return 1;
}

struct ban {
	int64_t seconds; /* -1: not said */
	struct chatd_str reason;
};
static const struct chatd_json_field ban_fields[] = {
	{ "seconds", CHATD_J_INT, offsetof(struct ban, seconds) },
	{ "reason", CHATD_J_TEXT, offsetof(struct ban, reason) },
	{ NULL, 0, 0 },
};

void run_ban(struct ask *a)
{
	struct ban b = { .seconds = -1 };
	json_t *root;
	if (!may_ban(a) || !ask_body(a, ban_fields, &b, &root)) {
		return;
	}
	const char *fault = NULL;
	if (b.seconds != -1 && (b.seconds < 1 || b.seconds > LONGEST)) {
		fault = "seconds must be 1 to 316224000, or be left out: for ever";
	} else if (b.reason.n > REASON_MAX) {
		fault = "reason has at most 400 bytes";
	}
	a->until = b.seconds == -1 ? INT64_MAX : a->self->h->wall_ms() + b.seconds * 1000;
	chatd_str_copy(a->reason, sizeof(a->reason), b.reason);
	json_decref(root);
	if (fault) {
		ask_problem(a, 422, "VALIDATION", fault);
	} else {
		ask_account(a, text(a->target), set_ban);
	}
}

void run_unban(struct ask *a)
{
	if (may_ban(a)) {
		ask_account(a, text(a->target), set_ban);
	}
}

/* ---- for other plugins ---------------------------------------------------------------- */

static void run_later(void *arg)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (may_ban(a)) {
		ask_account(a, text(a->target), set_ban);
	}
}

static chatd_status svc_ban(void *obj, chatd_worker *w, const struct chatd_users_ban *b,
		chatd_users_done *fn, void *arg)
{
	struct self *self = obj;
	struct ask *a = self->h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->w = w;
	a->who = self->h->ident_ref(b->by);
	a->under_way = 1;
	a->until = b->seconds < 0 ? INT64_MAX : self->h->wall_ms() + b->seconds * 1000;
	a->done = fn;
	a->arg = arg;
	chatd_json_init(&a->out, NULL, 0);
	chatd_str_copy(a->target, sizeof(a->target), chatd_id_ok(b->user) ? b->user : CHATD_LIT(""));
	chatd_str_copy(a->reason, sizeof(a->reason), b->reason);
	chatd_str_copy(a->peer, sizeof(a->peer), b->address);
	chatd_str_copy(a->id, sizeof(a->id), b->request);
	chatd_status rc = self->h->post(w, run_later, a);
	if (rc < 0) {
		ask_free(a);
	}
	return rc;
}

chatd_status power_init(struct self *self)
{
	static const struct chatd_users vt = { .struct_size = sizeof(vt), .ban = svc_ban };
	return self->h->provide(self->ctx, CHATD_USERS, &vt, self);
}

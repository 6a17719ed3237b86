/* SPDX-License-Identifier: Apache-2.0 */
/* An account is deleted by its owner: out of the rooms, out of the store, out of the server. */
#include "users.h"

static void on_deleted(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	audit(a, &(struct audit){ .action = "delete-account", .target = ask_user(a) });
	live_close(a, ask_user(a), CLOSE_LOGGED_OUT, "account deleted");
	ask_answer(a, 204);
}

static void delete_account(struct ask *a)
{
	struct chatd_store_account_delete r = { .struct_size = sizeof(r),
		.id = ask_user(a),
		.wall = a->self->h->wall_ms(),
		.needed = CHATD_LIT("admin") };
	ask_asked(a, store_of(a)->account_delete(a->self->store->obj, a->w, &r, on_deleted, a));
}

/* Rooms that could not be told are left all the same, with the account. */
static void on_left(void *arg, chatd_status rc)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		a->self->h->log(a->self->ctx, CHATD_LOG_WARN,
				"not every room of a deleted account could be told (%d)", (int)-rc);
	}
	delete_account(a);
}

static void leave_rooms(struct ask *a)
{
	const struct chatd_service *s = a->self->rooms;
	const struct chatd_rooms *rooms = s ? s->vt : NULL;
	struct chatd_str nick = a->self->h->ident_name(a->who);
	if (rooms && CHATD_HAS(rooms, leave_all)) {
		a->under_way = 1;
		if (rooms->leave_all(s->obj, a->w, ask_user(a), nick, on_left, a) == 0) {
			return;
		}
		a->under_way = 0;
	}
	delete_account(a);
}

static void on_stepped_down(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	leave_rooms(a);
}

/* The last administrator hears that it must stay before it has left any room. */
static void step_down(struct ask *a)
{
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.id = ask_user(a),
		.set = CHATD_STORE_ACCOUNT_ROLES,
		.needed = CHATD_LIT("admin") };
	if (!has_word(text(a->roles), "admin")) {
		leave_rooms(a);
		return;
	}
	ask_asked(a, store_of(a)->account_update(a->self->store->obj, a->w, &u, on_stepped_down, a));
}

static void not_fresh(struct ask *a)
{
	ask_problem(a, 403, "FRESH_LOGIN_NEEDED",
			"log in with your password once more, and delete the account with the token of that "
			"login");
}

static void on_login(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0 && rc != -ENOENT) {
		ask_refused(a, rc, s);
	} else if (rc == -ENOENT || !chatd_str_same(s->logins[0].user, ask_user(a)) ||
			s->logins[0].created + a->self->conf->fresh_login < a->self->h->wall_ms()) {
		not_fresh(a);
	} else {
		step_down(a);
	}
}

/* A token that was stolen, or left in a browser, must not be enough: somebody who has a
 * password has just given it, to whoever checks passwords and counts the wrong ones. */
static void on_account(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	struct chatd_str login = a->self->h->ident_login(a->who);
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	chatd_str_copy(a->roles, sizeof(a->roles), s->accounts[0].roles);
	if (!s->accounts[0].password.p || (ask_flags(a) & CHATD_ID_SYSTEM)) {
		step_down(a);
		return;
	}
	if (!login.n) {
		not_fresh(a);
		return;
	}
	struct chatd_store_login_key key = {
		.struct_size = sizeof(key), .id = login, .wall = a->self->h->wall_ms()
	};
	ask_asked(a, store_of(a)->login_get(a->self->store->obj, a->w, &key, on_login, a));
}

void run_delete(struct ask *a)
{
	static const struct chatd_json_field fields[] = { { "confirm", CHATD_J_TEXT, 0 },
		{ NULL, 0, 0 } };
	struct chatd_str confirm = { NULL, 0 };
	json_t *root;
	if (!ask_body(a, fields, &confirm, &root)) {
		return;
	}
	int sure = confirm.p && chatd_str_same(confirm, ask_user(a));
	json_decref(root);
	if (!sure) {
		ask_problem(a, 422, "VALIDATION",
				"confirm must be your user id: the account and all you wrote will be gone");
		return;
	}
	ask_account(a, ask_user(a), on_account);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh, logout, and the list of devices. */
#include "auth.h"

#include <errno.h>
#include <string.h>

static const struct chatd_tokens *tokens(const struct op *op)
{
	return op->self->tokens->vt;
}

/* ---- POST /api/auth/refresh ---------------------------------------------------------- */

static void rotated(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	const struct self *self = op->self;
	if (rc == -EACCES && a->why == CHATD_STORE_REUSED) {
		/* Somebody has a token that was spent: the thief, or the owner after the thief. */
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"a spent refresh token of %s was used again; its login is ended", op->user);
		live_end(op, &(struct live_end){ .user = op->user, .login = op->id, .why = "logged out" });
	}
	if (!op_back(op)) {
		return;
	}
	if (rc == -EACCES) {
		op_problem(op, 401, "REFRESH_REUSED",
				"This refresh token was used before; the login is ended, log in again.");
	} else if (rc == -ENOENT) {
		op_problem(op, 401, "UNAUTHORIZED", "This login has ended; log in again.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_take_account(op, a);
		if (verify_may_enter(op)) {
			tokens_answer(op);
		}
	}
}

static void rotate(struct op *op, const struct chatd_claims *c)
{
	char hash[65], next[65];
	const struct self *self = op->self;
	chatd_str_copy(op->user, sizeof(op->user), c->user);
	chatd_str_copy(op->who.id, sizeof(op->who.id), c->user);
	chatd_str_copy(op->id, sizeof(op->id), c->login);
	if (tokens_refresh(op, next) < 0) {
		op_problem(op, 503, "UNAVAILABLE", "no token could be made; try again");
		return;
	}
	tokens_hash(text(op->spent), hash);
	successors_agree(self->successors, text(op->spent), self->h->now_ms(op->w), op->refresh);
	tokens_hash(text(op->refresh), next);
	struct chatd_store_login_rotate r = { .struct_size = sizeof(r),
		.id = text(op->id),
		.refresh = text(hash),
		.next = text(next),
		.wall = self->h->wall_ms(),
		.grace_ms = self->conf->refresh_grace };
	op->busy = 1;
	op_asked(op, op_store(op)->login_rotate(op_store_obj(op), op->w, &r, rotated, op));
}

void on_refresh(struct op *op)
{
	struct fields f;
	json_t *root;
	char room[CHATD_TOKEN_MAX];
	struct chatd_claims c = { .struct_size = sizeof(c) };
	if (!op_read(op, &f, &root)) {
		return;
	}
	op->spent = f.refresh.n < CHATD_TOKEN_MAX ? op->self->h->mem_alloc(CHATD_TOKEN_MAX) : NULL;
	chatd_status rc = -EKEYREJECTED;
	if (op->spent && f.refresh.p) {
		chatd_str_copy(op->spent, CHATD_TOKEN_MAX, f.refresh);
		rc = tokens(op)->verify(op->self->tokens->obj, CHATD_TOKEN_REFRESH, f.refresh, room, &c);
	}
	if (!f.refresh.p) {
		op_problem(op, 422, "VALIDATION", "refreshToken is missing");
	} else if (rc == -EKEYEXPIRED) {
		op_problem(op, 401, "TOKEN_EXPIRED", "This refresh token is over; log in again.");
	} else if (rc < 0 || !c.login.n) {
		op_problem(op, 401, "UNAUTHORIZED", "This is no refresh token of this server.");
	} else {
		rotate(op, &c);
	}
	json_decref(root);
}

/* ---- logout and devices ----------------------------------------------------------------- */

static void end_login(struct op *op, const struct live_end *what, chatd_store_fn *fn)
{
	struct chatd_store_login_end e = { .struct_size = sizeof(e),
		.user = text(what->user),
		.id = what->login ? text(what->login) : chatd_str_of(NULL, 0),
		.keep = what->keep ? text_or_none(what->keep) : chatd_str_of(NULL, 0) };
	op->busy = 1;
	op_asked(op, op_store(op)->login_end(op_store_obj(op), op->w, &e, fn, op));
}

static void logged_out(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (rc == 0) {
		live_end(op,
				&(struct live_end){ .user = op->user, .login = op->login, .why = "logged out" });
	}
	if (!op_back(op)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		op_store_failed(op, rc);
	} else {
		op_success(op, 200, "logged out");
	}
}

static void logout(struct op *op)
{
	if (op->login[0]) {
		end_login(op, &(struct live_end){ .user = op->user, .login = op->login }, logged_out);
	} else {
		op_success(op, 200, "nothing to end: these credentials are not of a login");
	}
}

/* An access token that is over cannot end its login, the refresh token can. */
static int logout_by_refresh(struct op *op, struct chatd_str refresh)
{
	char room[CHATD_TOKEN_MAX];
	struct chatd_claims c = { .struct_size = sizeof(c) };
	if (!refresh.p ||
			tokens(op)->verify(op->self->tokens->obj, CHATD_TOKEN_REFRESH, refresh, room, &c) < 0) {
		return 0;
	}
	chatd_str_copy(op->user, sizeof(op->user), c.user);
	chatd_str_copy(op->login, sizeof(op->login), c.login);
	return op->login[0] != '\0';
}

void on_logout(struct op *op)
{
	struct fields f = { 0 };
	json_t *root = NULL;
	if (op_http(op)->req_body(op->req).n && !op_read(op, &f, &root)) {
		return;
	}
	if (logout_by_refresh(op, f.refresh)) {
		logout(op);
	} else {
		op_identify(op, logout);
	}
	json_decref(root);
}

static void listed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	struct chatd_json j;
	if (!op_back(op)) {
		return;
	}
	if (rc < 0) {
		op_store_failed(op, rc);
		return;
	}
	chatd_json_init(&j, NULL, 0);
	chatd_json_lit(&j, "{");
	chatd_json_key(&j, "sessions");
	chatd_json_lit(&j, "[");
	for (size_t i = 0; i < a->n_logins; i++) {
		const struct chatd_store_login *l = &a->logins[i];
		chatd_json_next(&j);
		chatd_json_lit(&j, "{");
		chatd_json_member(&j, "id", l->id);
		chatd_json_member(&j, "device", l->device);
		chatd_json_time(&j, "created", l->created);
		chatd_json_time(&j, "used", l->used);
		chatd_json_flag(&j, "current", chatd_str_same(l->id, text(op->login)));
		chatd_json_lit(&j, "}");
	}
	chatd_json_lit(&j, "]}");
	op_json(op, 200, &j);
}

static void list(struct op *op)
{
	struct chatd_store_login_list q = { .struct_size = sizeof(q),
		.limit = 1000,
		.user = text(op->user),
		.wall = op->self->h->wall_ms() };
	op->busy = 1;
	op_asked(op, op_store(op)->login_list(op_store_obj(op), op->w, &q, listed, op));
}

void on_sessions(struct op *op)
{
	op_identify(op, list);
}

static void one_ended(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (rc == 0 && a->n > 0) {
		live_end(op, &(struct live_end){ .user = op->user, .login = op->id, .why = "logged out" });
	}
	if (!op_back(op)) {
		return;
	}
	if (rc == -ENOENT || (rc == 0 && a->n == 0)) {
		op_problem(op, 404, "NOT_FOUND", "You have no login of that id.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_json(op, 204, NULL);
	}
}

static void end_one(struct op *op)
{
	end_login(op, &(struct live_end){ .user = op->user, .login = op->id }, one_ended);
}

void on_session_end(struct op *op)
{
	struct chatd_str id = op_http(op)->req_param(op->req, "id");
	if (!chatd_id_ok(id)) {
		op_problem(op, 404, "NOT_FOUND", "You have no login of that id.");
		return;
	}
	chatd_str_copy(op->id, sizeof(op->id), id);
	op_identify(op, end_one);
}

static void others_ended(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	struct chatd_json j;
	char room[64];
	if (rc == 0) {
		live_end(
				op, &(struct live_end){ .user = op->user, .keep = op->login, .why = "logged out" });
	}
	if (!op_back(op)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		op_store_failed(op, rc);
		return;
	}
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_int(&j, "ended", rc == 0 ? a->n : 0);
	chatd_json_lit(&j, "}");
	op_json(op, 200, &j);
}

static void end_others(struct op *op)
{
	/* A guest's one session would be all that it has. */
	if (op->flags & CHATD_ID_ANONYMOUS) {
		op_problem(op, 403, "FORBIDDEN", "A guest has no logins; register first.");
		return;
	}
	end_login(op, &(struct live_end){ .user = op->user, .keep = op->login }, others_ended);
}

void on_sessions_end(struct op *op)
{
	op_identify(op, end_others);
}

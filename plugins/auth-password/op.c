/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an op, what it reads and what it answers. */
#include "auth.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct op *op_create(const struct self *self, chatd_worker *w)
{
	struct op *op = self->h->mem_alloc(sizeof(*op));
	if (op) {
		struct wself *ws = self->h->worker_self(self->ctx, w);
		op->self = self;
		op->w = w;
		op->seat = &ws->seat;
	}
	return op;
}

static void secret_free(const struct self *self, char *secret)
{
	if (secret) {
		sodium_memzero(secret, CHATD_TOKEN_MAX);
		self->h->mem_free(secret);
	}
}

void op_free(struct op *op)
{
	const struct self *self = op->self;
	guess_end(op, THROTTLE_NEITHER, NULL);
	secret_free(self, op->refresh);
	secret_free(self, op->spent);
	sodium_memzero(op, sizeof(*op));
	self->h->mem_free(op);
}

int op_back(struct op *op)
{
	op->busy = 0;
	if (op->req || op->alone || (op->token && op->self->h->call_of(op->w, op->token))) {
		return 1;
	}
	op_free(op);
	return 0;
}

void op_asked(struct op *op, chatd_status rc)
{
	if (rc < 0) {
		op->busy = 0;
		op_store_failed(op, rc);
	}
}

/* ---- answers --------------------------------------------------------------------- */

void op_problem(struct op *op, int32_t status, const char *code, const char *detail)
{
	if (op->req) {
		op_http(op)->problem(op->req, status, code, detail);
	} else if (op->token) {
		(void)op->self->h->resume(op->token, CHATD_REJECT, code, detail);
	}
	op_free(op);
}

void op_retry(struct op *op, int32_t status, const char *code, int64_t ms)
{
	char seconds[24], detail[100];
	int64_t s = (ms + 999) / 1000;
	int n = snprintf(seconds, sizeof(seconds), "%lld", (long long)s);
	snprintf(detail, sizeof(detail), "%s; try again in %s s",
			status == 429 ? "Too many attempts" : "The server is busy", seconds);
	if (op->req) {
		(void)op_http(op)->header(op->req, "Retry-After", chatd_str_of(seconds, (size_t)n));
	}
	op_problem(op, status, code, detail);
}

void op_store_failed(struct op *op, chatd_status rc)
{
	if (rc == -EAGAIN || rc == -EBUSY) {
		op_retry(op, 503, "STORE_BUSY", 1000);
	} else if (rc == -ENOSPC) {
		op_problem(op, 503, "STORE_FULL", "the server's disk is full; nothing can be changed now");
	} else {
		op_problem(op, 503, "UNAVAILABLE", "the accounts cannot be reached; try again");
	}
}

void op_fault(struct op *op, const char *field, const char *code, const char *why)
{
	if (op->n_faults < FAULTS_MAX) {
		struct fault *f = &op->faults[op->n_faults++];
		f->field = field;
		f->code = code;
		snprintf(f->text, sizeof(f->text), "%s", why);
	}
}

static void write_faults(struct op *op, struct chatd_json *j)
{
	chatd_json_key(j, "errors");
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < op->n_faults; i++) {
		chatd_json_next(j);
		chatd_json_lit(j, "{");
		chatd_json_member(j, "field", text(op->faults[i].field));
		chatd_json_member(j, "code", text(op->faults[i].code));
		chatd_json_member(j, "message", text(op->faults[i].text));
		chatd_json_lit(j, "}");
	}
	chatd_json_lit(j, "]");
}

void op_faults(struct op *op, int32_t status, const char *code, const char *detail)
{
	char room[2048];
	struct chatd_json j;
	struct chatd_str title =
			status == 409 ? CHATD_LIT("Conflict") : CHATD_LIT("Unprocessable Entity");
	if (!op->req) {
		op_problem(op, status, code, detail);
		return;
	}
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "type", CHATD_LIT("about:blank"));
	chatd_json_member(&j, "title", title);
	chatd_json_int(&j, "status", status);
	chatd_json_member(&j, "detail", text(detail));
	chatd_json_member(&j, "code", text(code));
	chatd_json_member(&j, "error", title);
	chatd_json_member(&j, "message", text(detail));
	chatd_json_flag(&j, "success", 0);
	chatd_json_member(&j, "path", op_http(op)->req_path(op->req));
	chatd_json_member(&j, "requestId", op_http(op)->req_id(op->req));
	write_faults(op, &j);
	chatd_json_lit(&j, "}");
	if (j.failed) {
		op_http(op)->problem(op->req, status, code, detail);
	} else {
		(void)op_http(op)->header(op->req, "Cache-Control", CHATD_LIT("no-store"));
		op_http(op)->respond(op->req, status, "application/problem+json", chatd_json_str(&j));
	}
	chatd_json_free(&j);
	op_free(op);
}

void op_json(struct op *op, int32_t status, struct chatd_json *j)
{
	if (!op->req) {
		/* Nobody hears it: a CONNECT has its own answer. */
	} else if (j && j->failed) {
		op_http(op)->problem(op->req, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		(void)op_http(op)->header(op->req, "Cache-Control", CHATD_LIT("no-store"));
		op_http(op)->respond(op->req, status, j ? "application/json" : NULL,
				j ? chatd_json_str(j) : CHATD_LIT(""));
	}
	if (j) {
		if (j->p) {
			sodium_memzero(j->p, j->n); /* there may be tokens in it */
		}
		chatd_json_free(j);
	}
	op_free(op);
}

void op_success(struct op *op, int32_t status, const char *message)
{
	char room[256];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_flag(&j, "success", 1);
	chatd_json_member(&j, "message", text(message));
	chatd_json_lit(&j, "}");
	op_json(op, status, &j);
}

/* ---- what is asked ---------------------------------------------------------------- */

static const struct chatd_json_field table[] = {
	{ "email", CHATD_J_TEXT, offsetof(struct fields, email) },
	{ "password", CHATD_J_TEXT, offsetof(struct fields, password) },
	{ "nickname", CHATD_J_TEXT, offsetof(struct fields, nickname) },
	{ "device", CHATD_J_TEXT, offsetof(struct fields, device) },
	{ "refreshToken", CHATD_J_TEXT, offsetof(struct fields, refresh) },
	{ "code", CHATD_J_TEXT, offsetof(struct fields, code) },
	{ "old", CHATD_J_TEXT, offsetof(struct fields, old_password) },
	{ "new", CHATD_J_TEXT, offsetof(struct fields, new_password) },
	{ NULL, 0, 0 },
};

int op_read(struct op *op, struct fields *ret, json_t **ret_root)
{
	char why[CHATD_JSON_WHY];
	*ret = (struct fields){ 0 };
	chatd_status rc = chatd_json_read(op_http(op)->req_body(op->req), table, ret, ret_root, why);
	if (rc < 0) {
		op_problem(op, rc == -EBADMSG ? 400 : 422, "VALIDATION", why);
	}
	return rc == 0;
}

static void identified(
		void *arg, chatd_status rc, const chatd_ident *ident, const char *code, const char *why)
{
	struct op *op = arg;
	const struct chatd_host *h = op->self->h;
	if (rc < 0) {
		op_problem(op, code && strcmp(code, "OVERLOADED") == 0 ? 503 : 401,
				code ? code : "UNAUTHORIZED", why ? why : "Credentials are needed.");
		return;
	}
	chatd_str_copy(op->user, sizeof(op->user), h->ident_user(ident));
	chatd_str_copy(op->login, sizeof(op->login), h->ident_login(ident));
	op->flags = h->ident_flags(ident);
	op->step(op);
}

void op_identify(struct op *op, void (*step)(struct op *))
{
	/* Not busy: if the client leaves meanwhile, nobody calls back. */
	op->step = step;
	op_http(op)->identify(op->req, identified, op);
}

void op_take_account(struct op *op, const struct chatd_store_answer *a)
{
	struct person *p = &op->who;
	*p = (struct person){ 0 };
	if (a->n_accounts == 0) {
		return;
	}
	const struct chatd_account *from = &a->accounts[0];
	p->found = 1;
	p->flags = from->flags;
	p->bits = from->bits;
	p->banned_until = from->banned_until;
	chatd_str_copy(p->id, sizeof(p->id), from->id);
	chatd_str_copy(p->nick, sizeof(p->nick), from->nickname);
	chatd_str_copy(p->email, sizeof(p->email), from->email);
	chatd_str_copy(p->hash, sizeof(p->hash), from->password);
	chatd_str_copy(p->roles, sizeof(p->roles), from->roles);
}

/* ---- a hash for a new password ------------------------------------------------------ */

static void hashed(void *arg, chatd_status rc)
{
	struct op *op = arg;
	if (!op_back(op)) {
		return;
	}
	if (rc < 0) {
		op_retry(op, 503, "BUSY", 2000);
		return;
	}
	op->step(op);
}

void op_hash(struct op *op, struct chatd_str password, void (*step)(struct op *))
{
	op->job.kind = JOB_MAKE;
	op->job.done = hashed;
	op->job.arg = op;
	if (password.p != op->job.pass) {
		op->job.n = password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), password);
	}
	op->step = step;
	op->busy = 1;
	if (pool_submit(op->seat, &op->job) < 0) {
		op->busy = 0;
		op_retry(op, 503, "BUSY", 1000);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: who calls, what they say, how they end. */
#include "users.h"

void ask_free(struct ask *a)
{
	const struct chatd_host *h = a->self->h;
	export_free(a);
	chatd_json_free(&a->out);
	h->ident_unref(a->who);
	h->mem_free(a);
}

void ask_problem(struct ask *a, int32_t status, const char *code, const char *why)
{
	if (a->req) {
		http_of(a)->problem(a->req, status, code, why);
	} else if (a->done) {
		a->done(a->arg, code, why);
	}
	ask_free(a);
}

void ask_answer(struct ask *a, int32_t status)
{
	const struct chatd_http *http = http_of(a);
	if (a->out.failed) {
		ask_problem(a, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	if (a->req) {
		(void)http->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
		http->respond(
				a->req, status, a->out.n ? "application/json" : NULL, chatd_json_str(&a->out));
	} else if (a->done) {
		a->done(a->arg, NULL, NULL);
	}
	ask_free(a);
}

void ask_refused(struct ask *a, chatd_status rc, const struct chatd_store_answer *s)
{
	int32_t why = s ? s->why : CHATD_STORE_WHY_NONE;
	if (rc == -ENOENT) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such user");
	} else if (rc == -EEXIST && why == CHATD_STORE_NICK_TAKEN) {
		ask_problem(a, 409, "NICKNAME_TAKEN", "somebody has this nickname; choose another");
	} else if (rc == -EACCES && why == CHATD_STORE_LAST) {
		ask_problem(a, 409, "LAST_ADMIN",
				"a server needs an administrator; make somebody else one first");
	} else if (rc == -EAGAIN || rc == -EBUSY) {
		ask_problem(a, 503, "STORE_BUSY", "changes cannot be stored fast enough now; try again");
	} else if (rc == -ENOSPC) {
		ask_problem(a, 503, "STORE_FULL", "the server's disk is full");
	} else if (rc == -EINVAL) {
		ask_problem(a, 422, "VALIDATION", "the store cannot keep that");
	} else {
		ask_problem(a, 503, "UNAVAILABLE", "accounts cannot be looked up now");
	}
}

void ask_asked(struct ask *a, chatd_status rc)
{
	a->under_way = rc == 0;
	if (rc < 0) {
		ask_refused(a, rc, NULL);
	}
}

struct chatd_str ask_user(const struct ask *a)
{
	return a->self->h->ident_user(a->who);
}

uint32_t ask_flags(const struct ask *a)
{
	return a->self->h->ident_flags(a->who);
}

void ask_account(struct ask *a, struct chatd_str id, chatd_store_fn *fn)
{
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = id
	};
	ask_asked(a, store_of(a)->account_get(a->self->store->obj, a->w, &key, fn, a));
}

int ask_body(struct ask *a, const struct chatd_json_field *fields, void *into, json_t **ret_root)
{
	struct chatd_str raw = http_of(a)->req_body(a->req);
	char why[CHATD_JSON_WHY];
	*ret_root = NULL;
	chatd_status rc = raw.n ? chatd_json_read(raw, fields, into, ret_root, why) : 0;
	if (rc < 0) {
		ask_problem(a, rc == -EBADMSG ? 400 : 422, "VALIDATION", why);
	}
	return rc == 0;
}

/* ---- the way in -------------------------------------------------------------------- */

static void on_gone(void *arg)
{
	struct ask *a = arg;
	a->req = NULL;
	if (!a->under_way) {
		ask_free(a);
	}
}

static void on_drained(void *arg)
{
	export_drained(arg);
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user),
	.gone = on_gone,
	.drained = on_drained,
};

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct ask *a = arg;
	if (rc < 0) {
		int banned = code && strcmp(code, "BANNED") == 0;
		int busy = rc == -ENOMEM || (code && strcmp(code, "UNAVAILABLE") == 0);
		ask_problem(a, busy ? 503 : banned ? 403 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	a->who = a->self->h->ident_ref(who);
	a->run(a);
}

static void on_request(void *arg, chatd_req *req)
{
	const struct route *r = arg;
	const struct chatd_http *http = r->self->http->vt;
	struct ask *a = r->self->h->mem_alloc(sizeof(*a));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	struct chatd_str target = http->req_param(req, "id");
	a->self = r->self;
	a->run = r->run;
	a->req = req;
	a->w = http->req_worker(req);
	chatd_json_init(&a->out, NULL, 0);
	/* What cannot be an id is an empty one, which nobody has. */
	chatd_str_copy(a->target, sizeof(a->target), chatd_id_ok(target) ? target : CHATD_LIT(""));
	chatd_str_copy(a->peer, sizeof(a->peer), http->req_peer(req));
	chatd_str_copy(a->id, sizeof(a->id), http->req_id(req));
	http->req_user(req, &req_user, a);
	http->identify(req, on_identified, a);
}

static const struct {
	uint32_t method;
	const char *path;
	ask_fn *run;
} table[] = {
	{ CHATD_GET, "/api/users", run_search },
	{ CHATD_GET, "/api/users/me", run_me },
	{ CHATD_PATCH, "/api/users/me", run_patch },
	{ CHATD_DELETE, "/api/users/me", run_delete },
	{ CHATD_GET, "/api/users/me/export", run_export },
	{ CHATD_POST, "/api/users/me/admin", run_admin },
	{ CHATD_GET, "/api/users/{id}", run_get },
	{ CHATD_PUT, "/api/users/{id}/roles", run_roles },
	{ CHATD_POST, "/api/users/{id}/ban", run_ban },
	{ CHATD_DELETE, "/api/users/{id}/ban", run_unban },
};

chatd_status routes_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	size_t n = sizeof(table) / sizeof(table[0]);
	self->routes = self->h->mem_alloc(n * sizeof(*self->routes));
	if (!self->routes) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		self->routes[i] = (struct route){ self, table[i].run };
		struct chatd_route r = { .struct_size = sizeof(r),
			.methods = table[i].method,
			.flags = CHATD_HTTP_CORS | CHATD_HTTP_JSON,
			.path = table[i].path,
			.handle = on_request,
			.arg = &self->routes[i] };
		chatd_status rc = http->route(self->http->obj, self->ctx, &r);
		if (rc < 0) {
			return self->h->fail(self->ctx, rc, "the route %s is taken", table[i].path);
		}
	}
	return 0;
}

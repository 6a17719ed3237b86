/* SPDX-License-Identifier: Apache-2.0 */
/* A call under /api/server: who calls, whether the key may, how it ends. */
#include "api.h"

#include <chatd-sdk/retry.h>
#include <errno.h>
#include <stdarg.h>

/* ---- the end ------------------------------------------------------------------------ */

void job_free(struct job *j)
{
	const struct chatd_host *h = j->self->h;
	if (j->state_free) {
		j->state_free(j);
	}
	json_decref(j->root);
	chatd_json_free(&j->out);
	h->ident_unref(j->by);
	h->ident_unref(j->who);
	chatd_open_free(h, &j->self->open, j);
}

void job_problem(struct job *j, int32_t status, const char *code, const char *why)
{
	if (j->req) {
		http_of(j)->problem(j->req, status, code, why);
	}
	job_free(j);
}

void job_problem_fmt(struct job *j, int32_t status, const char *code, const char *fmt, ...)
{
	char why[256];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	job_problem(j, status, code, why);
}

void job_answer(struct job *j, int32_t status)
{
	const struct chatd_http *http = http_of(j);
	if (j->out.failed) {
		job_problem(j, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	if (j->req) {
		(void)http->header(j->req, "Cache-Control", CHATD_LIT("no-store"));
		http->respond(
				j->req, status, j->out.n ? "application/json" : NULL, chatd_json_str(&j->out));
	}
	job_free(j);
}

void job_failed(struct job *j, chatd_status rc, const char *what)
{
	if (rc == -ENOENT) {
		job_problem_fmt(j, 404, "NOT_FOUND", "there is no such %s", what);
	} else if (rc == -EEXIST) {
		job_problem_fmt(j, 409, "EXISTS", "there is such a %s already", what);
	} else if (rc == -EDQUOT) {
		job_problem_fmt(j, 409, "TOO_MANY", "that would be one %s too many", what);
	} else if (rc == -EAGAIN || rc == -EBUSY) {
		job_problem(j, 503, "STORE_BUSY", "nothing can be stored fast enough now; try again");
	} else if (rc == -ENOSPC) {
		job_problem(j, 503, "STORE_FULL", "the server's disk is full");
	} else if (rc == -EINVAL) {
		job_problem_fmt(j, 422, "VALIDATION", "the store cannot keep such a %s", what);
	} else {
		job_problem(j, 503, "UNAVAILABLE", "the server cannot do that now; try again");
	}
}

void audit(const struct job *j, const char *action, struct chatd_str target)
{
	const struct self *self = j->self;
	struct chatd_str actor = self->h->ident_user(j->by);
	const char *key = j->key.id[0] ? j->key.id : "none";
	struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = text(action),
		.actor = actor,
		.target = target,
		.detail = text(key) };
	if (!self->audit) {
		self->h->log(self->ctx, CHATD_LOG_INFO, "audit %s of %.*s by %.*s, key %s", action,
				(int)target.n, target.p, (int)actor.n, actor.p, key);
		return;
	}
	if (j->req) {
		e.address = http_of(j)->req_peer(j->req);
		e.request = http_of(j)->req_id(j->req);
	}
	chatd_audit_note(self->audit, j->w, &e);
}

/* ---- what it says ---------------------------------------------------------------------- */

struct chatd_str job_text(const struct job *j, const char *name, const char **ret_bad)
{
	const json_t *v = json_object_get(j->root, name);
	if (v && !json_is_string(v)) {
		*ret_bad = "a string";
	}
	return chatd_json_text(v);
}

int job_may(const struct job *j, uint32_t scope)
{
	return (j->key.scopes & scope) == scope;
}

int job_back(struct job *j)
{
	j->under_way = 0;
	if (!j->req) {
		job_free(j);
		return 0;
	}
	return 1;
}

/* ---- in whose name ---------------------------------------------------------------------- */

/* Rooms and the like take a back end for an administrator; a bot is who it is. */
static void become(struct job *j)
{
	const struct self *self = j->self;
	const struct chatd_sessions *sessions = self->sessions->vt;
	char client[2 * KEY_ID + 8];
	int n = snprintf(client, sizeof(client), "as:%s", j->key.id);
	struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = j->as_flags | (j->key.bot[0] ? CHATD_ID_BOT : CHATD_ID_SYSTEM | CHATD_ID_ADMIN),
		.user = text(j->as),
		.name = text(j->nick[0] ? j->nick : j->as),
		.client = chatd_str_of(client, (size_t)n) };
	if (chatd_str_same(who.user, text(self->conf->sender))) {
		who.flags |= CHATD_ID_BOT;
	}
	if (!j->key.bot[0]) {
		who.login = who.client;
	}
	j->who = sessions->make_ident(self->sessions->obj, &who);
	if (!j->who) {
		job_problem(j, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	j->next(j);
}

static void on_account(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct job *j = arg;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, "user (as)");
		return;
	}
	if (!j->nick[0]) {
		chatd_str_copy(j->nick, sizeof(j->nick), a->nickname);
	}
	j->as_flags = a->flags & (CHATD_ID_ANONYMOUS | CHATD_ID_BOT);
	become(j);
}

void job_as(struct job *j, struct chatd_str as, void (*next)(struct job *))
{
	const struct self *self = j->self;
	const struct chatd_accounts *accounts = self->accounts ? self->accounts->vt : NULL;
	struct chatd_str server = text(self->conf->sender);
	struct chatd_str own = j->key.bot[0] ? text(j->key.bot) : server;
	int other = as.p && !chatd_str_same(as, own);
	j->next = next;
	if (other && !chatd_id_ok(as)) {
		job_problem(j, 422, "VALIDATION", "as must be the id of a user");
		return;
	}
	if (other && (j->key.bot[0] || !job_may(j, SCOPE_AS))) {
		job_problem(j, 403, "FORBIDDEN",
				"this key has not the scope \"as\", which speaking in a user's name needs");
		return;
	}
	chatd_str_copy(j->as, sizeof(j->as), other ? as : own);
	if (!accounts || chatd_str_same(text(j->as), server)) {
		become(j);
		return;
	}
	j->under_way = 1;
	if (accounts->by_id(self->accounts->obj, j->w, text(j->as), on_account, j) < 0) {
		j->under_way = 0;
		job_failed(j, -EIO, "user");
	}
}

/* ---- the beginning ------------------------------------------------------------------------ */

static void begin(struct job *j)
{
	char why[CHATD_JSON_WHY];
	struct chatd_str body = http_of(j)->req_body(j->req);
	if (body.n && !j->route->to) {
		j->root = chatd_json_parse(body, why);
		if (!j->root) {
			job_problem(j, 400, "VALIDATION", why);
			return;
		}
	}
	j->route->run(j);
}

static void on_token(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct job *j = arg;
	if (!job_back(j)) {
		return;
	}
	if (rc == -EDQUOT) {
		chatd_http_retry(http_of(j), j->req, retry_ms);
		job_problem_fmt(j, 429, "RATE_LIMIT_EXCEEDED", "this key may make %lld calls a minute",
				(long long)j->key.per_minute);
		return;
	}
	begin(j);
}

/* Each call of a batch comes here by itself. */
static void limit(struct job *j)
{
	const struct self *self = j->self;
	const struct chatd_limiter *limiter = self->limiter ? self->limiter->vt : NULL;
	char key[2 * KEY_ID + 16];
	int64_t per_minute = j->key.per_minute;
	if (!limiter || !j->key.id[0] || per_minute < 1 || j->route->run == run_batch) {
		begin(j);
		return;
	}
	snprintf(key, sizeof(key), "api:%s", j->key.id);
	const struct chatd_bucket b = { .struct_size = sizeof(b),
		.key = text(key),
		.burst = per_minute / 10 > CALLS_MAX ? per_minute / 10 : CALLS_MAX,
		.per_minute = per_minute,
		.cost = 1 };
	j->under_way = 1;
	if (limiter->take(self->limiter->obj, j->w, &b, on_token, j) < 0) {
		j->under_way = 0;
		begin(j);
	}
}

static int is_key(const struct chatd_host *h, const chatd_ident *who, struct chatd_str *ret_id)
{
	struct chatd_str client = h->ident_client(who);
	int yes = client.n > 3 && memcmp(client.p, "ck_", 3) == 0;
	*ret_id = yes ? chatd_str_of(client.p + 3, client.n - 3) : chatd_str_of(NULL, 0);
	return yes;
}

/* Who has no key can only be an administrator who makes one. */
static const char *find_key(struct job *j)
{
	const struct self *self = j->self;
	struct chatd_str id;
	if (!is_key(self->h, j->by, &id)) {
		int admin = (self->h->ident_flags(j->by) & CHATD_ID_ADMIN) != 0;
		j->key.scopes = admin ? SCOPE_KEYS : 0;
		return admin ? NULL : "this takes a key of the server, or an administrator";
	}
	const struct key *k = keys_recent(self->h->worker_self(self->ctx, j->w), id);
	if (!k) {
		return "this key was looked up just now, and is not there any more; try again";
	}
	j->key = *k;
	return NULL;
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct job *j = arg;
	j->under_way = 0;
	if (rc < 0) {
		int busy = rc == -ENOMEM || (code && strcmp(code, "UNAVAILABLE") == 0);
		job_problem(j, busy ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	j->by = j->self->h->ident_ref(who);
	const char *fault = find_key(j);
	if (fault) {
		job_problem(j, 403, "FORBIDDEN", fault);
	} else if (!job_may(j, j->route->scope)) {
		job_problem_fmt(j, 403, "FORBIDDEN", "this key has not the scope \"%s\", which %s needs",
				scope_name(j->route->scope), j->route->path);
	} else {
		limit(j);
	}
}

static void on_gone(void *arg)
{
	struct job *j = arg;
	j->req = NULL;
	if (!j->under_way) {
		job_free(j);
	}
}

static const struct chatd_req_user req_user = { .struct_size = sizeof(req_user), .gone = on_gone };

static void on_request(void *arg, chatd_req *req)
{
	const struct route_arg *a = arg;
	const struct chatd_http *http = a->self->http->vt;
	struct job *j = chatd_open_alloc(a->self->h, &a->self->open, sizeof(*j));
	if (!j) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	j->self = a->self;
	j->route = a->route;
	j->w = http->req_worker(req);
	j->req = req;
	chatd_json_init(&j->out, NULL, 0);
	http->req_user(req, &req_user, j);
	http->identify(req, on_identified, j);
}

/* ---- routes -------------------------------------------------------------------------------- */

#define ALL (CHATD_GET | CHATD_POST | CHATD_PUT | CHATD_PATCH | CHATD_DELETE)
static const struct route routes[] = {
	{ CHATD_POST, SERVER_PATH "publish", SCOPE_PUBLISH, run_publish, NULL },
	{ CHATD_POST, SERVER_PATH "broadcast", SCOPE_BROADCAST, run_broadcast, NULL },
	{ CHATD_POST, SERVER_PATH "batch", 0, run_batch, NULL },
	{ CHATD_POST, SERVER_PATH "disconnect", SCOPE_DISCONNECT, run_disconnect, NULL },
	{ CHATD_POST, SERVER_PATH "users", SCOPE_USERS, run_user_make, NULL },
	{ CHATD_DELETE, SERVER_PATH "users/{id}", SCOPE_USERS, run_user_delete, NULL },
	{ CHATD_GET, SERVER_PATH "keys", SCOPE_KEYS, run_keys_list, NULL },
	{ CHATD_POST, SERVER_PATH "keys", SCOPE_KEYS, run_keys_make, NULL },
	{ CHATD_DELETE, SERVER_PATH "keys/{id}", SCOPE_KEYS, run_keys_end, NULL },
	{ CHATD_GET, SERVER_PATH "bots", SCOPE_KEYS, run_bots_list, NULL },
	{ CHATD_POST, SERVER_PATH "bots", SCOPE_KEYS, run_bots_make, NULL },
	{ CHATD_GET, SERVER_PATH "users", SCOPE_USERS, run_forward, "/api/users" },
	{ CHATD_GET, SERVER_PATH "users/{id}", SCOPE_USERS, run_forward, "/api/users" },
	{ CHATD_PUT, SERVER_PATH "users/{id}/roles", SCOPE_USERS, run_forward, "/api/users" },
	{ CHATD_POST | CHATD_DELETE, SERVER_PATH "users/{id}/ban", SCOPE_USERS, run_forward,
			"/api/users" },
	{ ALL, SERVER_PATH "rooms/{rest*}", SCOPE_ROOMS, run_forward, "/api/chat/rooms" },
	{ CHATD_GET | CHATD_POST, SERVER_PATH "rooms", SCOPE_ROOMS, run_forward, "/api/chat/rooms" },
	{ CHATD_GET, SERVER_PATH "messages/{rest*}", SCOPE_HISTORY, run_forward, "/api/chat/messages" },
	{ CHATD_GET, SERVER_PATH "conversations", SCOPE_HISTORY, run_forward,
			"/api/chat/conversations" },
	{ CHATD_GET, SERVER_PATH "search", SCOPE_HISTORY, run_forward, "/api/chat/search" },
	{ CHATD_GET, SERVER_PATH "presence", SCOPE_PRESENCE, run_forward, "/api/chat/presence" },
};

chatd_status routes_init(struct self *self)
{
	size_t n = sizeof(routes) / sizeof(routes[0]);
	const struct chatd_http *http = self->http->vt;
	self->routes = self->h->mem_alloc(n * sizeof(*self->routes));
	if (!self->routes) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		self->routes[i] = (struct route_arg){ self, &routes[i] };
		const struct chatd_route r = { .struct_size = sizeof(r),
			.methods = routes[i].method,
			.flags = CHATD_HTTP_CORS | CHATD_HTTP_JSON,
			.path = routes[i].path,
			.max_body = routes[i].run == run_batch ? (size_t)1024 * 1024 : (size_t)256 * 1024,
			.handle = on_request,
			.arg = &self->routes[i] };
		chatd_status rc = http->route(self->http->obj, self->ctx, &r);
		if (rc < 0) {
			return self->h->fail(self->ctx, rc, "the route %s is taken", routes[i].path);
		}
	}
	return 0;
}

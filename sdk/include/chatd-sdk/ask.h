/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/ask.h
 * @brief A REST call that asks others before it is answered.
 *
 *     self->routes[0] = (struct chatd_ask_route){ .self = self, .h = h, .http = http };
 *     return chatd_ask_routes(ctx, self->routes, table, sizeof(table) / sizeof(table[0]));
 *
 * A plugin's own struct begins with a struct chatd_ask.  It is made when the request comes; who
 * calls is found out, then run() asks a store or another service, perhaps several times, and ends
 * with chatd_ask_answer() or chatd_ask_problem(), which also free it.  Where somebody will call
 * back, .under_way is 1, so that a client that leaves meanwhile does not take it along.
 *
 * Header only; a plugin that includes it links to jansson.  All of it [worker].
 */
#ifndef CHATD_SDK_ASK_H
#define CHATD_SDK_ASK_H

#ifdef __cplusplus
#error "chatd-sdk/ask.h is for C"
#endif

#include <chatd-sdk/json.h>
#include <chatd-sdk/page.h>
#include <chatd/http.h>
#include <chatd/store.h>

struct chatd_ask;

/** A route of a plugin.  Its table is constant; the copies that chatd_ask_routes() makes are in the
 *  plugin's self, which lasts until fini(). */
struct chatd_ask_route {
	uint32_t method;
	const char *path;
	void (*run)(struct chatd_ask *);
	size_t size; /**< of the plugin's own struct */
	/* Set by chatd_ask_routes(): */
	void *self;
	const struct chatd_host *h;
	const struct chatd_service *http;
	/* Optional: */
	size_t max_body; /**< 0: 64 KiB, as in http.h */
	int32_t open;    /**< 1: nobody need have logged in; .who is NULL in run() */
	/* Zero at first: */
	int32_t asks; /**< that are not answered yet, of all workers; see chatd_asks_open() */
};

struct chatd_ask {
	void *self; /**< the plugin's */
	const struct chatd_host *h;
	const struct chatd_http *http;
	const struct chatd_ask_route *route;
	chatd_worker *w;
	chatd_req *req; /**< NULL: the client has gone */
	const chatd_ident *who;
	int32_t under_way;
	struct chatd_json out; /**< the answer */
	json_t *root;          /**< the body, if the plugin keeps it here: freed with the rest */
	char peer[64], id[32]; /**< the client's address, the request's id */
	int32_t *asks;         /**< of .route */
};

static inline void chatd_ask_free(struct chatd_ask *a)
{
	__atomic_fetch_sub(a->asks, 1, __ATOMIC_RELEASE);
	chatd_json_free(&a->out);
	json_decref(a->root);
	a->h->ident_unref(a->who);
	a->h->mem_free(a);
}

static inline void chatd_ask_problem(
		struct chatd_ask *a, int32_t status, const char *code, const char *why)
{
	if (a->req) {
		a->http->problem(a->req, status, code, why);
	}
	chatd_ask_free(a);
}

/** With .out, if that holds anything. */
static inline void chatd_ask_answer(struct chatd_ask *a, int32_t status)
{
	if (a->out.failed) {
		chatd_ask_problem(a, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	if (a->req) {
		(void)a->http->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
		a->http->respond(
				a->req, status, a->out.n ? "application/json" : NULL, chatd_json_str(&a->out));
	}
	chatd_ask_free(a);
}

/** The store said no, for a reason that is none of the plugin's. */
static inline void chatd_ask_refused(struct chatd_ask *a, chatd_status rc)
{
	if (rc == -EAGAIN || rc == -EBUSY) {
		chatd_ask_problem(
				a, 503, "STORE_BUSY", "changes cannot be stored fast enough now; try again");
	} else if (rc == -ENOSPC) {
		chatd_ask_problem(a, 503, "STORE_FULL", "the server's disk is full");
	} else if (rc == -EINVAL) {
		chatd_ask_problem(a, 422, "VALIDATION", "the store cannot keep that");
	} else {
		chatd_ask_problem(a, 503, "UNAVAILABLE", "that cannot be looked up now; try again");
	}
}

/** Somebody has called back.  0: the client had gone, and with it this. */
static inline int chatd_ask_back(struct chatd_ask *a)
{
	a->under_way = 0;
	if (!a->req) {
		chatd_ask_free(a);
		return 0;
	}
	return 1;
}

/** Somebody was asked, and said @p rc: with an error at once nobody will call back, so the client is
 *  told, and @p a is freed. */
static inline void chatd_ask_asked(struct chatd_ask *a, chatd_status rc)
{
	a->under_way = rc == 0;
	if (rc < 0) {
		chatd_ask_refused(a, rc);
	}
}

static inline struct chatd_str chatd_ask_user(const struct chatd_ask *a)
{
	return a->h->ident_user(a->who);
}

/** Reads the body, an empty one as {}.  0: it was no JSON, and the answer has been given. */
static inline int chatd_ask_body(
		struct chatd_ask *a, const struct chatd_json_field *fields, void *into, json_t **ret_root)
{
	struct chatd_str raw = a->http->req_body(a->req);
	char why[CHATD_JSON_WHY];
	*ret_root = NULL;
	chatd_status rc = raw.n ? chatd_json_read(raw, fields, into, ret_root, why) : 0;
	if (rc < 0) {
		chatd_ask_problem(a, rc == -EBADMSG ? 400 : 422, "VALIDATION", why);
	}
	return rc == 0;
}

/** The limit of the query, brought into [1, max].  0: it is none, and the answer has been given. */
static inline int32_t chatd_ask_limit(struct chatd_ask *a, int32_t fallback, int32_t max)
{
	int64_t n = chatd_page_limit(a->http->req_query(a->req, "limit"), fallback, max);
	if (!n) {
		chatd_ask_problem(a, 400, "VALIDATION", CHATD_PAGE_NO_LIMIT);
	}
	return (int32_t)n;
}

static inline void chatd_ask_bad_cursor(struct chatd_ask *a)
{
	chatd_ask_problem(a, 400, "BAD_CURSOR", CHATD_PAGE_NO_CURSOR);
}

static inline void chatd_ask_gone(void *arg)
{
	struct chatd_ask *a = (struct chatd_ask *)arg;
	a->req = NULL;
	if (!a->under_way) {
		chatd_ask_free(a);
	}
}

static inline void chatd_ask_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct chatd_ask *a = (struct chatd_ask *)arg;
	if (rc < 0) {
		int banned = code && strcmp(code, "BANNED") == 0;
		int busy = rc == -ENOMEM || (code && strcmp(code, "UNAVAILABLE") == 0);
		chatd_ask_problem(a, busy ? 503 : banned ? 403 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	a->who = a->h->ident_ref(who);
	a->route->run(a);
}

static inline void chatd_ask_request(void *arg, chatd_req *req)
{
	static const struct chatd_req_user user = { .struct_size = sizeof(user),
		.gone = chatd_ask_gone };
	const struct chatd_ask_route *r = (const struct chatd_ask_route *)arg;
	const struct chatd_http *http = (const struct chatd_http *)r->http->vt;
	struct chatd_ask *a = (struct chatd_ask *)r->h->mem_alloc(r->size);
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	a->self = r->self;
	a->h = r->h;
	a->http = http;
	a->route = r;
	a->asks = &((struct chatd_ask_route *)arg)->asks;
	__atomic_fetch_add(a->asks, 1, __ATOMIC_RELAXED);
	a->req = req;
	a->w = http->req_worker(req);
	chatd_json_init(&a->out, NULL, 0);
	chatd_str_copy(a->peer, sizeof(a->peer), http->req_peer(req));
	chatd_str_copy(a->id, sizeof(a->id), http->req_id(req));
	http->req_user(req, &user, a);
	if (r->open) {
		r->run(a);
	} else {
		http->identify(req, chatd_ask_identified, a);
	}
}

/** [any] How many wait for an answer, also where the client has left: for busy(), so that a plugin
 *  with CHATD_PLUGIN_LIVE is there when it comes. */
static inline int32_t chatd_asks_open(const struct chatd_ask_route *routes, size_t n)
{
	int32_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		sum += __atomic_load_n(&routes[i].asks, __ATOMIC_ACQUIRE);
	}
	return sum;
}

/** [main] Opens the @p n routes of @p table.  @p to has room for as many, in the plugin's self: set
 *  .self, .h and .http of to[0] before; here they are copied into each, beside the row of the table.
 *  A route that is taken is reported. */
static inline chatd_status chatd_ask_routes(
		chatd_ctx *ctx, struct chatd_ask_route *to, const struct chatd_ask_route *table, size_t n)
{
	const struct chatd_ask_route with = to[0];
	const struct chatd_http *http = (const struct chatd_http *)with.http->vt;
	for (size_t i = 0; i < n; i++) {
		to[i] = table[i];
		to[i].self = with.self;
		to[i].h = with.h;
		to[i].http = with.http;
		const struct chatd_route r = { .struct_size = sizeof(r),
			.methods = table[i].method,
			.flags = CHATD_HTTP_CORS | CHATD_HTTP_JSON,
			.path = table[i].path,
			.max_body = table[i].max_body,
			.handle = chatd_ask_request,
			.arg = &to[i] };
		chatd_status rc = http->route(with.http->obj, ctx, &r);
		if (rc < 0) {
			return with.h->fail(ctx, rc, "the route %s is taken", table[i].path);
		}
	}
	return 0;
}

#endif

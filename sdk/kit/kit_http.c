/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.http/1: routes, whole requests, whole and streamed answers; no upgrades. */
#include "base/buf.h"
#include "base/str.h"
#include "chat/ident.h"
#include "chat/msg.h"
#include "kit_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PARAMS_MAX = 8 };

struct piece {
	struct piece *next;
	_Alignas(16) char data[];
};

struct chatd_req {
	struct kit *k;
};

struct kit_req {
	struct chatd_req req; /* first: the plugin's handle */
	struct kit_req *next;
	uint32_t method;
	char *path, *query, *body, *answer;
	size_t answer_n;
	chatd_msg *headers, *out;
	struct {
		char *name, *value;
	} param[PARAMS_MAX];
	size_t n_params;
	struct piece *pieces;
	const struct chatd_req_user *user;
	void *user_arg;
	int32_t status;
	int over, left;          /* answered to the end; the client has gone */
	int streams, held, came; /* the body is shown in a piece; not now; it was */
	int sized;               /* .length bytes will be the answer */
	int64_t length;
	chatd_http_identified *identified;
	void *identified_arg;
	const chatd_ident *by; /* the plugin's own call, in whose name */
	chatd_http_called *called;
	void *called_arg;
};

static struct kit_req *of(chatd_req *req)
{
	struct kit_req *r = (struct kit_req *)(void *)req;
	struct kit *k = r->req.k;
	if (r->over || r->left) {
		kit_broken(k, "a request was touched after it had ended");
	}
	if (k->here != &k->workers[0]) {
		kit_broken(k, "a request was touched on another thread than its own");
	}
	return r;
}

/* ---- matching -------------------------------------------------------------------- */

static size_t segment(const char *p)
{
	return strcspn(p, "/");
}

static void param_add(struct kit_req *r, const char *name, size_t n, struct chatd_str value)
{
	if (r->n_params < PARAMS_MAX) {
		r->param[r->n_params].name = kit_dup(chatd_str_of(name, n));
		r->param[r->n_params++].value = kit_dup(value);
	}
}

static void params_clear(struct kit_req *r)
{
	while (r->n_params) {
		r->n_params--;
		free(r->param[r->n_params].name);
		free(r->param[r->n_params].value);
	}
}

/* Segment by segment; fills the parameters on the way. */
static int fits(struct kit_req *r, const char *pattern)
{
	const char *path = r->path;
	params_clear(r);
	while (*pattern == '/' && *path == '/') {
		size_t n = segment(++pattern), m = segment(++path);
		if (n > 2 && pattern[0] == '{' && pattern[n - 2] == '*') {
			param_add(r, pattern + 1, n - 3, str_of(path));
			return 1;
		}
		if (n > 1 && pattern[0] == '{' && m > 0) {
			param_add(r, pattern + 1, n - 2, chatd_str_of(path, m));
		} else if (n != m || memcmp(pattern, path, n) != 0) {
			return 0;
		}
		pattern += n;
		path += m;
	}
	return *pattern == *path;
}

/* ---- what the plugin calls ----------------------------------------------------------- */

static chatd_status h_route(void *obj, chatd_ctx *ctx, const struct chatd_route *route)
{
	struct kit *k = obj;
	(void)ctx;
	if (!k->registering) {
		kit_broken(k, "route() is for init() only");
	}
	struct kit_route *r = kit_fault(k) ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		return -ENOMEM;
	}
	r->r = *route;
	r->path = kit_dup(str_of(route->path));
	r->next = k->routes;
	k->routes = r;
	return 0;
}

static chatd_worker *h_worker(chatd_req *req)
{
	return &of(req)->req.k->workers[0];
}

static uint32_t h_method(chatd_req *req)
{
	return of(req)->method;
}

static struct chatd_str h_path(chatd_req *req)
{
	return str_of(of(req)->path);
}

static struct chatd_str h_param(chatd_req *req, const char *name)
{
	struct kit_req *r = of(req);
	for (size_t i = 0; i < r->n_params; i++) {
		if (strcmp(r->param[i].name, name) == 0) {
			return str_of(r->param[i].value);
		}
	}
	return chatd_str_of(NULL, 0);
}

/* name=value pairs, as in a query ('&') or a Cookie header (';'). */
static struct chatd_str pair(struct chatd_str s, const char *name, char end)
{
	size_t n = strlen(name);
	while (s.n) {
		const char *stop = memchr(s.p, end, s.n);
		size_t len = stop ? (size_t)(stop - s.p) : s.n;
		if (len > n && s.p[n] == '=' && memcmp(s.p, name, n) == 0) {
			return chatd_str_of(s.p + n + 1, len - n - 1);
		}
		s = stop ? chatd_str_of(stop + 1, s.n - len - 1) : chatd_str_of(s.p, 0);
		while (s.n && *s.p == ' ') {
			s = chatd_str_of(s.p + 1, s.n - 1);
		}
	}
	return chatd_str_of(NULL, 0);
}

static struct chatd_str h_query(chatd_req *req, const char *name)
{
	return pair(str_of(of(req)->query), name, '&');
}

static struct chatd_str header_at(const chatd_msg *m, const char *name, size_t nth)
{
	struct chatd_str n, v;
	for (size_t i = 0; msg_header(m, i, &n, &v); i++) {
		if (n.n == strlen(name) && strncasecmp(n.p, name, n.n) == 0 && nth-- == 0) {
			return v;
		}
	}
	return chatd_str_of(NULL, 0);
}

static struct chatd_str h_header_at(chatd_req *req, const char *name, size_t i)
{
	return header_at(of(req)->headers, name, i);
}

static struct chatd_str h_header(chatd_req *req, const char *name)
{
	return h_header_at(req, name, 0);
}

static struct chatd_str h_cookie(chatd_req *req, const char *name)
{
	return pair(h_header(req, "Cookie"), name, ';');
}

static struct chatd_str h_body(chatd_req *req)
{
	return str_of(of(req)->body);
}

static struct chatd_str h_peer(chatd_req *req)
{
	(void)of(req);
	return CHATD_LIT("192.0.2.1");
}

static int32_t h_secure(chatd_req *req)
{
	return str_is(h_header(req, "X-Forwarded-Proto"), "https");
}

static struct chatd_str h_id(chatd_req *req)
{
	(void)of(req);
	return CHATD_LIT("0123456789abcdef");
}

static int32_t h_origin(chatd_req *req)
{
	return !h_header(req, "Origin").p;
}

static void *h_alloc(chatd_req *req, size_t n)
{
	struct kit_req *r = of(req);
	struct piece *p = kit_fault(r->req.k) ? NULL : calloc(1, sizeof(*p) + n);
	if (!p) {
		return NULL;
	}
	p->next = r->pieces;
	r->pieces = p;
	return p->data;
}

static void h_user(chatd_req *req, const struct chatd_req_user *user, void *arg)
{
	struct kit_req *r = of(req);
	r->user = user;
	r->user_arg = arg;
}

static struct chatd_str h_query_text(chatd_req *req)
{
	return str_of(of(req)->query);
}

/* ---- answers ----------------------------------------------------------------------------- */

static chatd_status h_set(chatd_req *req, const char *name, struct chatd_str value)
{
	return msg_set(of(req)->out, name, value);
}

static void add(struct kit_req *r, struct chatd_str s)
{
	char *more = realloc(r->answer, r->answer_n + s.n + 1);
	if (!more) {
		kit_broken(r->req.k, "no memory for the test itself");
		return;
	}
	if (s.n) {
		memcpy(more + r->answer_n, s.p, s.n);
	}
	r->answer = more;
	r->answer_n += s.n;
	more[r->answer_n] = '\0';
}

static void h_begin(chatd_req *req, int32_t status, const char *type)
{
	struct kit_req *r = of(req);
	if (r->status) {
		kit_broken(r->req.k, "a request was answered twice");
	}
	r->status = status;
	if (type) {
		(void)msg_set(r->out, "Content-Type", str_of(type));
	}
}

static void h_begin_sized(chatd_req *req, int32_t status, const char *type, int64_t length)
{
	struct kit_req *r = of(req);
	char digits[24];
	h_begin(req, status, type);
	snprintf(digits, sizeof(digits), "%lld", (long long)length);
	(void)msg_set(r->out, "Content-Length", str_of(digits));
	r->sized = 1;
	r->length = length;
}

static void on_drained(void *arg)
{
	struct kit_req *r = arg;
	if (!r->over && !r->left && r->user && CHATD_HAS(r->user, drained)) {
		r->user->drained(r->user_arg);
	}
}

/* Who says how long the answer will be, writes more when there is room for it. */
static size_t h_write(chatd_req *req, chatd_buf *b)
{
	struct kit_req *r = of(req);
	add(r, buf_str(b));
	if (r->sized && worker_post(&r->req.k->workers[0], on_drained, r) < 0) {
		kit_broken(r->req.k, "no memory for the test itself");
	}
	return 0;
}

static void h_end(chatd_req *req)
{
	struct kit_req *r = of(req);
	if (r->sized && r->length != (int64_t)r->answer_n) {
		kit_broken(r->req.k, "an answer of %lld bytes has %zu", (long long)r->length, r->answer_n);
	}
	r->over = 1;
	if (r->called) {
		const struct chatd_http_answer a = { .struct_size = sizeof(a),
			.status = r->status,
			.type = header_at(r->out, "Content-Type", 0),
			.body = chatd_str_of(r->answer ? r->answer : "", r->answer_n) };
		r->called(r->called_arg, 0, &a);
	}
}

/* ---- streamed bodies --------------------------------------------------------------------- */

static void show_body(void *arg)
{
	struct kit_req *r = arg;
	size_t n = strlen(r->body);
	if (!r->streams || r->held || r->came || r->over || r->left || !r->user) {
		return;
	}
	r->came = 1;
	chatd_status rc = n && CHATD_HAS(r->user, body) ? r->user->body(r->user_arg, r->body, n) : 0;
	if (rc == 0 && !r->over && !r->left && CHATD_HAS(r->user, body_end)) {
		r->user->body_end(r->user_arg);
	}
}

static void h_hold(chatd_req *req, int32_t on)
{
	struct kit_req *r = of(req);
	r->held = on;
	if (!on && worker_post(&r->req.k->workers[0], show_body, r) < 0) {
		kit_broken(r->req.k, "no memory for the test itself");
	}
}

static void h_respond(chatd_req *req, int32_t status, const char *type, struct chatd_str body)
{
	h_begin(req, status, type);
	add(of(req), body);
	h_end(req);
}

static void h_respond_buf(chatd_req *req, int32_t status, const char *type, chatd_buf *body)
{
	h_respond(req, status, type, buf_str(body));
}

static void h_problem(chatd_req *req, int32_t status, const char *code, const char *detail)
{
	char text[1024];
	snprintf(text, sizeof(text), "{\"status\":%d,\"code\":\"%s\",\"detail\":\"%s\"}", status, code,
			detail ? detail : "");
	h_respond(req, status, "application/problem+json", str_of(text));
}

static void h_abort(chatd_req *req)
{
	struct kit_req *r = of(req);
	r->status = -1;
	r->over = 1;
}

static chatd_stream *h_upgrade(chatd_req *req, const char *protocol)
{
	(void)of(req);
	(void)protocol;
	return NULL;
}

int kit_http_switch(chatd_req *req)
{
	struct kit_req *r = of(req);
	if (header_at(r->headers, "upgrade", 0).p &&
			!str_is(header_at(r->headers, "upgrade", 0), "websocket")) {
		return 0;
	}
	r->status = 101;
	r->over = 1;
	return 1;
}

/* ---- who is it --------------------------------------------------------------------------- */

static void on_identified(void *arg, const struct chatd_outcome *o, const chatd_ident *ident)
{
	struct kit_req *r = arg;
	char *why = kit_dup(o->why);
	if (!r->left) {
		int ok = o->verdict == CHATD_ACCEPT && ident;
		r->identified(r->identified_arg, ok ? 0 : -EACCES, ident, ok ? NULL : o->code, why);
	}
	free(why);
}

static void h_identify(chatd_req *req, chatd_http_identified *fn, void *arg)
{
	struct kit_req *r = of(req);
	struct kit *k = r->req.k;
	static const char *const copied[] = { "kit-user", "kit-flags", "kit-login", "kit-roles", NULL };
	if (r->by) {
		fn(arg, 0, r->by, NULL, NULL);
		return;
	}
	chatd_msg *creds = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	struct chatd_str bearer = h_header(req, "Authorization"), token = h_query(req, "token");
	r->identified = fn;
	r->identified_arg = arg;
	for (size_t i = 0; copied[i]; i++) {
		(void)msg_set(creds, copied[i], h_header(req, copied[i]));
	}
	if (bearer.n > 7 && memcmp(bearer.p, "Bearer ", 7) == 0) {
		(void)msg_set(creds, CHATD_CRED_BEARER, chatd_str_of(bearer.p + 7, bearer.n - 7));
	}
	(void)msg_set(creds, CHATD_CRED_TOKEN, token);
	k->sessions->identify(k->chat, &k->workers[0], creds, on_identified, r);
	msg_unref(creds);
}

/* ---- calls of other routes ------------------------------------------------------------------ */

static const struct kit_route *route_of(struct kit_req *r);
static struct kit_req *req_create(struct kit *k, uint32_t method, const char *path);
static uint32_t method_of(struct kit *k, const char *name);

/* The plugin's own routes are served; of others' there is but an echo of who asked for what. */
static void echo(struct kit_req *r, const char *method)
{
	char text[2048];
	struct chatd_str who = ident_user(r->by);
	snprintf(text, sizeof(text),
			"{\"called\":\"%s %s%s%s\",\"by\":\"%.*s\",\"flags\":%u,\"body\":%s}", method, r->path,
			*r->query ? "?" : "", r->query, (int)who.n, who.p, ident_flags(r->by),
			*r->body ? r->body : "null");
	h_respond(&r->req, 200, "application/json", str_of(text));
}

static chatd_status h_call(void *obj, chatd_req *outer, const struct chatd_http_call *call,
		chatd_http_called *fn, void *arg)
{
	struct kit *k = obj;
	(void)of(outer);
	if (kit_fault(k)) {
		return -ENOMEM;
	}
	char *path = kit_dup(call->path), *method = kit_dup(call->method);
	struct kit_req *r = req_create(k, method_of(k, method), path);
	r->body = kit_dup(call->body);
	r->by = ident_ref(call->ident);
	r->called = fn;
	r->called_arg = arg;
	const struct kit_route *route = route_of(r);
	if (route) {
		route->r.handle(route->r.arg, &r->req);
	} else {
		echo(r, method);
	}
	free(path);
	free(method);
	return 0;
}

const struct chatd_http kit_http_vt = { .struct_size = sizeof(kit_http_vt),
	.route = h_route,
	.req_worker = h_worker,
	.req_method = h_method,
	.req_path = h_path,
	.req_param = h_param,
	.req_query = h_query,
	.req_header = h_header,
	.req_cookie = h_cookie,
	.req_body = h_body,
	.req_peer = h_peer,
	.req_secure = h_secure,
	.req_id = h_id,
	.origin_allowed = h_origin,
	.req_alloc = h_alloc,
	.req_user = h_user,
	.identify = h_identify,
	.header = h_set,
	.respond = h_respond,
	.respond_buf = h_respond_buf,
	.problem = h_problem,
	.begin = h_begin,
	.write = h_write,
	.end = h_end,
	.abort = h_abort,
	.upgrade = h_upgrade,
	.req_header_at = h_header_at,
	.hold = h_hold,
	.begin_sized = h_begin_sized,
	.req_query_text = h_query_text,
	.call = h_call };

/* ---- the test's side ----------------------------------------------------------------------- */

static uint32_t method_of(struct kit *k, const char *name)
{
	static const char *const all[] = { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcmp(all[i], name) == 0) {
			return 1u << i;
		}
	}
	kit_broken(k, "%s is no method that a route can have", name);
	return 0;
}

static const struct kit_route *route_of(struct kit_req *r)
{
	const struct kit_route *best = NULL;
	for (const struct kit_route *t = r->req.k->routes; t; t = t->next) {
		/* Literals win over parameters: the one with fewer braces. */
		if ((t->r.methods & r->method) && fits(r, t->path) &&
				(!best || !strchr(t->path, '{') || strchr(best->path, '{'))) {
			best = t;
		}
	}
	return best && fits(r, best->path) ? best : NULL;
}

static struct kit_req *req_create(struct kit *k, uint32_t method, const char *path)
{
	struct kit_req *r = calloc(1, sizeof(*r));
	size_t n = strcspn(path, "?");
	if (!r) {
		kit_broken(k, "no memory for the test itself");
		return NULL;
	}
	r->req.k = k;
	r->method = method;
	r->path = kit_dup(chatd_str_of(path, n));
	r->query = kit_dup(str_of(path[n] ? path + n + 1 : ""));
	r->headers = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	r->out = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	r->next = k->reqs;
	k->reqs = r;
	return r;
}

struct kit_req *kit_http(struct kit *k, const char *method, const char *path, const char *body, ...)
{
	struct kit_req *r = req_create(k, method_of(k, method), path);
	const char *name;
	va_list ap;
	r->body = kit_dup(str_of(body ? body : ""));
	va_start(ap, body);
	while ((name = va_arg(ap, const char *)) != NULL) {
		(void)msg_set(r->headers, name, str_of(va_arg(ap, const char *)));
	}
	va_end(ap);
	const struct kit_route *route = k->dead ? NULL : route_of(r);
	k->routed = route;
	if (!route) {
		r->status = 404;
		r->over = 1;
		return r;
	}
	k->here = &k->workers[0];
	r->streams = (route->r.flags & CHATD_HTTP_STREAM) != 0;
	kit_step_is("the handler of", route->path);
	route->r.handle(route->r.arg, &r->req);
	show_body(r);
	k->here = NULL;
	kit_settle(k);
	return r;
}

void kit_http_gone(struct kit_req *r)
{
	struct kit *k = r->req.k;
	if (r->over || r->left) {
		return;
	}
	k->here = &k->workers[0];
	r->left = 1;
	if (r->user && CHATD_HAS(r->user, gone)) {
		r->user->gone(r->user_arg);
	}
	k->here = NULL;
	kit_settle(k);
}

int32_t kit_http_status(const struct kit_req *r)
{
	return r->over ? r->status : 0;
}

struct chatd_str kit_http_body(const struct kit_req *r)
{
	return chatd_str_of(r->answer ? r->answer : "", r->answer_n);
}

struct chatd_str kit_http_header(const struct kit_req *r, const char *name)
{
	return header_at(r->out, name, 0);
}

void kit_expect_http_at(const struct kit_req *r, int32_t status, const char *part, struct kit_at at)
{
	struct kit *k = r->req.k;
	if (kit_muted(k)) {
		return;
	}
	if (kit_http_status(r) != status || (part && !strstr(r->answer ? r->answer : "", part))) {
		kit_die(k, at.file, at.line, "the answer is %d: %s; expected %d: ...%s...",
				kit_http_status(r), r->answer ? r->answer : "", status, part ? part : "");
	}
}

void kit_http_depart(struct kit *k)
{
	for (struct kit_req *r = k->reqs; r; r = r->next) {
		kit_http_gone(r);
	}
}

void kit_http_leave(struct kit *k)
{
	for (struct kit_req *r = k->reqs; r; r = r->next) {
		if (!r->over && !r->left && !k->injected) {
			kit_broken(k, "%s was never answered", r->path);
		}
		kit_http_gone(r);
	}
}

void kit_http_finish(struct kit *k)
{
	while (k->reqs) {
		struct kit_req *r = k->reqs;
		k->reqs = r->next;
		params_clear(r);
		while (r->pieces) {
			struct piece *next = r->pieces->next;
			free(r->pieces);
			r->pieces = next;
		}
		ident_unref(r->by);
		msg_unref(r->headers);
		msg_unref(r->out);
		free(r->path);
		free(r->query);
		free(r->body);
		free(r->answer);
		free(r);
	}
	while (k->routes) {
		struct kit_route *next = k->routes->next;
		free(k->routes->path);
		free(k->routes);
		k->routes = next;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#define BODY_DEFAULT ((size_t)64 * 1024)
#define ALL_METHODS \
	(CHATD_GET | CHATD_POST | CHATD_PUT | CHATD_PATCH | CHATD_DELETE | CHATD_OPTIONS)

enum { METHOD_UNSERVED = 1u << 30 /**< known, but never allowed: TRACE, CONNECT */ };

static uint32_t method_of(struct chatd_str s)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} methods[] = {
		{ "GET", CHATD_GET },
		{ "HEAD", CHATD_HEAD },
		{ "POST", CHATD_POST },
		{ "PUT", CHATD_PUT },
		{ "PATCH", CHATD_PATCH },
		{ "DELETE", CHATD_DELETE },
		{ "OPTIONS", CHATD_OPTIONS },
		{ "TRACE", METHOD_UNSERVED },
		{ "CONNECT", METHOD_UNSERVED },
	};
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strlen(methods[i].name) == s.n && memcmp(methods[i].name, s.p, s.n) == 0)
			return methods[i].bit;
	return 0;
}

static bool refuse(chatd_req *req, int32_t status, const char *code, const char *why)
{
	answer_refusal(req, status, code, why);
	return false;
}

static bool refuse_method(chatd_req *req, uint32_t allow)
{
	answer_allow(req, allow);
	return refuse(req, 405, "METHOD_NOT_ALLOWED", "The method is not allowed here.");
}

static bool not_found(chatd_req *req)
{
	return refuse(req, 404, "NOT_FOUND", "There is nothing here.");
}

/* The checks that need no route. */
static bool judge_line(chatd_req *req)
{
	struct http_error err;
	struct chatd_str method = http_head_method(&req->head);
	if (http_head_check(&req->head, &req->info) == HTTP_WRONG) {
		answer_fatal(req, &req->head.err);
		return false;
	}
	bool connect = method.n == 7 && memcmp(method.p, "CONNECT", 7) == 0;
	req->keep = req->info.keep && !connect;
	req->body_whole = req->info.length == 0;
	req->method = method_of(method);
	req->mute = req->method == CHATD_HEAD;
	if (req->method == 0)
		return refuse(req, 501, "NOT_IMPLEMENTED", "The method is not known here.");
	if (uri_parse(http_head_target(&req->head), req->info.host, connect, &req->uri, &err) ==
			HTTP_WRONG) {
		answer_fatal(req, &err);
		return false;
	}
	if (req->uri.path.p[0] != '/' && req->method != METHOD_UNSERVED && req->method != CHATD_OPTIONS)
		return refuse(req, 400, "BAD_REQUEST", "The request target must begin with a slash.");
	return true;
}

/* Only WebSocket is ever upgraded to; in particular not h2c, which could carry
 * requests past a proxy's rules. */
static bool judge_upgrade(chatd_req *req)
{
	size_t offers;
	struct chatd_str offer = http_head_get(&req->head, "upgrade", &offers);
	if (!req->info.upgrade)
		return true;
	if (offers == 1 && http_same(offer, "websocket")) {
		req->offers_ws = req->method == CHATD_GET && req->body_whole;
		return true;
	}
	if ((req->flags & CHATD_HTTP_BARE) || req->conn->w->http->conf->ignore_upgrade)
		return true;
	req->keep = false;
	return refuse(req, 400, "BAD_UPGRADE", "The only protocol to upgrade to is websocket.");
}

static bool find_route(chatd_req *req)
{
	struct http_worker *w = req->conn->w;
	struct route_match match = { 0 };
	struct chatd_str path = req->uri.path;
	char *text = request_alloc(req, path.n);
	req->path = request_alloc(req, sizeof(*req->path));
	if (!text || !req->path)
		return refuse(req, 503, "OVERLOADED", "The server is out of memory.");
	uri_split(path, text, req->path);
	uint32_t method = req->method == CHATD_HEAD ? CHATD_GET : req->method;
	if (path.p[0] == '/')
		routes_find(w->http->routes, req->path, method, &match);
	req->route = match.route;
	req->flags = match.flags;
	owner_hold(req);
	bool bare = match.allow && (req->flags & CHATD_HTTP_BARE);
	if (req->path->bad)
		return bare ? not_found(req)
					: refuse(req, 400, "BAD_REQUEST", "The path is not properly escaped UTF-8.");
	if (!bare && !uri_query_ok(req->uri.query))
		return refuse(req, 400, "BAD_REQUEST", "The query is not properly escaped UTF-8.");
	if (w->draining && !(req->flags & ROUTE_HEALTH)) {
		answer_header(req, "Retry-After", CHATD_LIT("5"));
		return refuse(req, 503, "DRAINING", "The server is about to stop.");
	}
	if (req->method == METHOD_UNSERVED || path.p[0] != '/')
		return refuse_method(req, match.allow ? match.allow : ALL_METHODS);
	if (req->flags & CHATD_HTTP_CORS) {
		if (!policy_origin_allowed(req))
			return refuse(req, 403, "ORIGIN_NOT_ALLOWED", "This origin may not use the server.");
		policy_cors(req);
	}
	if (!judge_upgrade(req))
		return false;
	if (req->route)
		return true;
	if (match.allow == 0 || req->offers_ws)
		return not_found(req);
	if (req->method == CHATD_OPTIONS && (req->flags & CHATD_HTTP_CORS)) {
		policy_options(req, match.allow);
		return false;
	}
	return refuse_method(req, match.allow);
}

/* "application/json" alone or with charset=utf-8. */
static bool is_json(struct chatd_str type)
{
	const char *end = type.p ? memchr(type.p, ';', type.n) : NULL;
	struct chatd_str name = chatd_str_of(type.p, end ? (size_t)(end - type.p) : type.n);
	while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t'))
		name.n--;
	if (!http_same(name, "application/json"))
		return false;
	struct chatd_str rest = chatd_str_of(end, end ? type.n - (size_t)(end - type.p) : 0);
	while (rest.n > 0 && (rest.p[0] == ';' || rest.p[0] == ' ' || rest.p[0] == '\t')) {
		rest.p++;
		rest.n--;
	}
	return rest.n == 0 || http_same(rest, "charset=utf-8") || http_same(rest, "charset=\"utf-8\"");
}

static bool judge_body(chatd_req *req)
{
	struct chatd_str coding = request_header(req, "content-encoding");
	if (coding.p && !http_same(coding, "identity")) {
		answer_header(req, "Accept-Encoding", CHATD_LIT("identity"));
		return refuse(req, 415, "UNSUPPORTED_MEDIA_TYPE", "Request bodies must not be compressed.");
	}
	if (req->flags & CHATD_HTTP_JSON) {
		size_t types;
		struct chatd_str type = http_head_get(&req->head, "content-type", &types);
		if ((types > 0 || !req->body_whole) && (types > 1 || !is_json(type)))
			return refuse(req, 415, "UNSUPPORTED_MEDIA_TYPE",
					"The body must be application/json in UTF-8.");
	}
	size_t max = req->route->r.max_body ? req->route->r.max_body : BODY_DEFAULT;
	if (req->info.length > 0 && (uint64_t)req->info.length > max)
		return refuse(req, 413, "CONTENT_TOO_LARGE", "The body is too large.");
	return true;
}

/* The handler may end the request and the connection in here. */
static void hand_over(chatd_req *req)
{
	struct conn *c = req->conn;
	req->handled = true;
	if (req->body_whole) {
		c->state = CONN_BUSY;
		c->w->http->host->timer_clear(&c->timer);
	}
	struct owner_call call;
	owner_enter(req, &call);
	req->route->r.handle(req->route->r.arg, req);
	owner_leave(&call);
}

static void await_body(chatd_req *req)
{
	struct conn *c = req->conn;
	struct http *http = c->w->http;
	c->state = CONN_BODY;
	req->body_start = req->body_last = http->host->now_ms(c->w->worker);
	http_chunks_init(&req->chunks);
	if (req->info.length > 0)
		req->chunks.left = (uint64_t)req->info.length;
	conn_wait_body(c);
	if (req->info.expect)
		answer_raw(c, CHATD_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
}

void intake_head(chatd_req *req)
{
	struct conn *c = req->conn;
	c->requests++;
	if (judge_line(req) && find_route(req) && judge_body(req))
		guard_start(req);
}

static void body_ends(chatd_req *req)
{
	struct owner_call call;
	if (!req->user || !CHATD_HAS(req->user, body_end))
		return;
	owner_enter(req, &call);
	req->user->body_end(req->user_arg);
	owner_leave(&call);
}

void intake_go(chatd_req *req)
{
	struct conn *c = req->conn;
	if (!(req->flags & CHATD_HTTP_STREAM)) {
		if (req->body_whole)
			hand_over(req);
		else
			await_body(req);
		return;
	}
	struct turn *turn = c->turn;
	bool whole = req->body_whole;
	if (!whole)
		await_body(req);
	hand_over(req);
	if (whole && !turn->dead && c->req == req)
		body_ends(req);
}

static bool collect(chatd_req *req, const char *p, size_t n)
{
	if (n > req->body_cap - req->body_n) {
		size_t cap = req->body_cap ? req->body_cap : 512;
		while (cap < req->body_n + n)
			cap *= 2;
		char *body = realloc(req->body, cap);
		if (!body)
			return false;
		req->body = body;
		req->body_cap = cap;
	}
	memcpy(req->body + req->body_n, p, n);
	return true;
}

void intake_body(chatd_req *req, const char *p, size_t n)
{
	static const struct http_error too_large = { 413, "CONTENT_TOO_LARGE",
		"The body is too large." };
	static const struct http_error no_memory = { 503, "OVERLOADED",
		"The server is out of memory." };
	size_t max = req->route->r.max_body ? req->route->r.max_body : BODY_DEFAULT;
	if (n > max - req->body_n) {
		answer_fatal(req, &too_large);
		return;
	}
	if (!(req->flags & CHATD_HTTP_STREAM)) {
		if (!collect(req, p, n)) {
			answer_fatal(req, &no_memory);
			return;
		}
		req->body_n += n;
		return;
	}
	req->body_n += n;
	if (!req->refused && req->user && CHATD_HAS(req->user, body)) {
		struct conn *c = req->conn;
		struct turn *turn = c->turn;
		struct owner_call call;
		owner_enter(req, &call);
		chatd_status rc = req->user->body(req->user_arg, p, n);
		owner_leave(&call);
		if (!turn->dead && c->req == req && rc < 0)
			req->refused = true;
	}
}

void intake_body_end(chatd_req *req)
{
	req->body_whole = true;
	if (!(req->flags & CHATD_HTTP_STREAM)) {
		if ((req->flags & CHATD_HTTP_JSON) && !uri_is_utf8(req->body, req->body_n)) {
			refuse(req, 400, "BAD_ENCODING", "The body is not UTF-8.");
			return;
		}
		hand_over(req);
		return;
	}
	struct conn *c = req->conn;
	c->state = CONN_BUSY;
	c->w->http->host->timer_clear(&c->timer);
	body_ends(req);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

chatd_req *request_create(struct conn *c)
{
	chatd_req *req = calloc(1, sizeof(*req));
	if (!req)
		return NULL;
	req->conn = c;
	http_head_init(&req->head, &c->w->http->limits);
	return req;
}

void request_destroy(chatd_req *req)
{
	if (!req)
		return;
	owner_release(req);
	identify_forget(req);
	guard_forget(req);
	http_head_finish(&req->head);
	while (req->blocks) {
		struct req_block *block = req->blocks;
		req->blocks = block->next;
		free(block);
	}
	free(req->body);
	free(req->extra);
	free(req);
}

void request_gone(chatd_req *req)
{
	identify_forget(req);
	guard_forget(req);
	if (req->user && CHATD_HAS(req->user, gone))
		req->user->gone(req->user_arg);
}

void *request_alloc(chatd_req *req, size_t n)
{
	struct req_block *block = calloc(1, sizeof(*block) + n);
	if (!block)
		return NULL;
	block->next = req->blocks;
	req->blocks = block;
	return block->space;
}

struct chatd_str request_id(chatd_req *req)
{
	if (req->id[0] == '\0') {
		unsigned char bytes[8];
		req->conn->w->http->host->random(bytes, sizeof(bytes));
		for (size_t i = 0; i < sizeof(bytes); i++)
			snprintf(req->id + 2 * i, 3, "%02x", bytes[i]);
	}
	return chatd_str_of(req->id, 16);
}

struct chatd_str request_header(chatd_req *req, const char *name)
{
	return http_head_get(&req->head, name, NULL);
}

struct chatd_str request_query(chatd_req *req, const char *name)
{
	struct chatd_str raw = uri_query_get(req->uri.query, name);
	struct chatd_str none = { NULL, 0 };
	if (!raw.p)
		return none;
	char *text = request_alloc(req, raw.n + 1);
	int64_t n = text ? uri_decode(raw, true, text) : -1;
	/* Undecodable is not absent: a token that is presented must not pass for none. */
	return n < 0 ? raw : chatd_str_of(text, (size_t)n);
}

/* What is served, for whoever keeps a list of it: one line for each method. */
static void log_route(const struct http *http, const struct chatd_route *route)
{
	static const char *const names[] = { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS",
		"HEAD" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (route->methods >> i & 1)
			http->host->log(http->ctx, CHATD_LOG_DEBUG, "route %s %s", names[i], route->path);
}

static chatd_status on_route(void *obj, chatd_ctx *ctx, const struct chatd_route *route)
{
	struct http *http = obj;
	chatd_status rc = routes_add(http->routes, ctx, route);
	if (rc == -EEXIST)
		return http->host->fail(ctx, rc, "the route %s is taken by another plugin", route->path);
	if (rc == -EINVAL)
		return http->host->fail(
				ctx, rc, "the route %s is malformed", route->path ? route->path : "(none)");
	if (rc == 0)
		log_route(http, route);
	return rc;
}

static chatd_worker *req_worker(chatd_req *req)
{
	return req->conn->w->worker;
}

static uint32_t req_method(chatd_req *req)
{
	return req->method;
}

static struct chatd_str req_path(chatd_req *req)
{
	return req->uri.path;
}

/* The segments from @p at on, with their slashes. */
static struct chatd_str rest_of(chatd_req *req, size_t at)
{
	const struct uri_path *path = req->path;
	size_t n = 0;
	for (size_t i = at; i < path->n; i++)
		n += path->segment[i].n + 1;
	char *text = request_alloc(req, n + 1);
	if (!text)
		return chatd_str_of(NULL, 0);
	n = 0;
	for (size_t i = at; i < path->n; i++) {
		if (i > at)
			text[n++] = '/';
		memcpy(text + n, path->segment[i].p, path->segment[i].n);
		n += path->segment[i].n;
	}
	return chatd_str_of(text, n);
}

static struct chatd_str req_param(chatd_req *req, const char *name)
{
	const struct route *route = req->route;
	for (size_t i = 0; i < route->n_params; i++) {
		const struct route_param *param = &route->params[i];
		if (strcmp(param->name, name) == 0)
			return param->rest ? rest_of(req, param->at) : req->path->segment[param->at];
	}
	return chatd_str_of(NULL, 0);
}

static chatd_status on_ready(void *obj, const struct chatd_ready *what)
{
	struct http *http = obj;
	if (http->n_back_ends == sizeof(http->back_ends) / sizeof(http->back_ends[0]))
		return -ENOSPC;
	if (owners_of(http))
		http->back_end_of[http->n_back_ends] = owners_of(http)->beginning(http->plugins->obj);
	http->back_ends[http->n_back_ends++] = *what;
	return 0;
}

static struct chatd_str req_header_at(chatd_req *req, const char *name, size_t i)
{
	struct chatd_str key, value, none = { NULL, 0 };
	for (size_t at = 0; http_head_at(&req->head, at, &key, &value); at++)
		if (http_same(key, name) && i-- == 0)
			return value;
	return none;
}

static struct chatd_str req_cookie(chatd_req *req, const char *name)
{
	return policy_cookie(req, name);
}

static struct chatd_str req_body(chatd_req *req)
{
	return chatd_str_of(req->body ? req->body : "", req->body_n);
}

static void req_user(chatd_req *req, const struct chatd_req_user *user, void *arg)
{
	req->user = user;
	req->user_arg = arg;
}

static struct chatd_str req_query_text(chatd_req *req)
{
	return req->uri.query;
}

static void req_hold(chatd_req *req, int32_t on)
{
	conn_hold(req->conn, on != 0);
}

const struct chatd_http request_service = {
	.struct_size = sizeof(struct chatd_http),
	.route = on_route,
	.req_worker = req_worker,
	.req_method = req_method,
	.req_path = req_path,
	.req_param = req_param,
	.req_query = request_query,
	.req_header = request_header,
	.req_cookie = req_cookie,
	.req_body = req_body,
	.req_peer = policy_peer,
	.req_secure = policy_secure,
	.req_id = request_id,
	.origin_allowed = policy_origin_allowed,
	.req_alloc = request_alloc,
	.req_user = req_user,
	.identify = identify_start,
	.header = answer_header,
	.respond = answer_whole,
	.respond_buf = answer_buf,
	.problem = answer_problem,
	.begin = answer_begin,
	.write = answer_write,
	.end = answer_end,
	.abort = answer_abort,
	.upgrade = answer_upgrade,
	.req_header_at = req_header_at,
	.ready = on_ready,
	.hold = req_hold,
	.begin_sized = answer_begin_sized,
	.req_query_text = req_query_text,
	.call = inner_call,
};

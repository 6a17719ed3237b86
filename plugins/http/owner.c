/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins whose routes these are: they come and go while the server runs, and what they do is
 * counted. */
#include "engine.h"

const struct chatd_plugins *owners_of(const struct http *http)
{
	const struct chatd_plugins *plugins = http->plugins ? http->plugins->vt : NULL;
	return plugins && CHATD_HAS(plugins, leave) ? plugins : NULL;
}

/* NULL: the engine's own. */
static const chatd_ctx *owner(const chatd_req *req)
{
	return req->route ? req->route->ctx : NULL;
}

void owner_enter(const chatd_req *req, struct owner_call *call)
{
	const struct http *http = req->conn->w->http;
	const struct chatd_plugins *plugins = owner(req) ? owners_of(http) : NULL;
	*call = (struct owner_call){
		.http = http, .worker = req->conn->w->worker, .call = { .what = "a request" }
	};
	if (plugins)
		plugins->enter(http->plugins->obj, call->worker, owner(req), &call->call);
}

void owner_leave(struct owner_call *call)
{
	if (call->call.of)
		owners_of(call->http)->leave(call->http->plugins->obj, call->worker, &call->call);
}

static void hold(chatd_req *req, bool on)
{
	const struct http *http = req->conn->w->http;
	const struct chatd_plugins *plugins = owner(req) ? owners_of(http) : NULL;
	if (plugins && on != req->held) {
		req->held = on;
		plugins->hold(http->plugins->obj, req->conn->w->worker, owner(req), on ? 1 : -1);
	}
}

void owner_hold(chatd_req *req)
{
	hold(req, true);
}

void owner_release(chatd_req *req)
{
	hold(req, false);
}

void owner_failed(const chatd_req *req)
{
	const struct http *http = req->conn->w->http;
	const struct chatd_plugins *plugins = req->handled && owner(req) ? owners_of(http) : NULL;
	if (plugins)
		plugins->erred(http->plugins->obj, req->conn->w->worker, owner(req));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins think of a call of an API route: before anyone asks who it is from (limits by
 * address), and once that is known (rights, limits by user). */
#include "inner.h"

#include <stdlib.h>
#include <string.h>

/** A question under way.  It outlives the request when the client leaves. */
struct guard_wait {
	chatd_req *req; /**< NULL: nobody waits any more */
	bool inside;    /**< the answer comes inside the call that asks */
};

void guard_forget(chatd_req *req)
{
	if (req->guard)
		req->guard->req = NULL;
	req->guard = NULL;
}

static int32_t status_of(const char *code)
{
	static const struct {
		const char *code;
		int32_t status;
	} known[] = {
		{ "RATE_LIMIT_EXCEEDED", 429 },
		{ "UNAUTHORIZED", 401 },
		{ "UNAVAILABLE", 503 },
		{ "TIMEOUT", 503 },
		{ "INTERNAL", 500 },
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].code, code) == 0)
			return known[i].status;
	return 403;
}

void guard_refuse(chatd_req *req, const struct chatd_outcome *o)
{
	const struct chatd_host *host = req->conn->w->http->host;
	const char *code = o->code ? o->code : "FORBIDDEN";
	char why[256] = "This is not allowed.";
	if (o->why.p && o->why.n < sizeof(why)) {
		memcpy(why, o->why.p, o->why.n);
		why[o->why.n] = '\0';
	}
	struct chatd_str retry = { NULL, 0 };
	if (o->reply)
		retry = host->msg_get(o->reply, "retryAfterSeconds");
	if (retry.p)
		answer_header(req, "Retry-After", retry);
	answer_refusal(req, status_of(code), code, why);
}

void guard_set_text(
		const struct chatd_host *h, chatd_msg *m, const char *name, struct chatd_str value)
{
	if (value.p && uri_is_utf8(value.p, value.n))
		h->msg_set(m, name, value);
}

chatd_msg *guard_message(chatd_req *req)
{
	const struct chatd_host *h = req->conn->w->http->host;
	char *path = request_alloc(req, 3 * req->uri.path.n);
	chatd_msg *m = NULL;
	/* Hooks judge what the routes were searched for, not one of its spellings. */
	if (path)
		m = h->msg_new(chatd_str_of(path, uri_join(req->path, path)), CHATD_LIT(""));
	if (m) {
		guard_set_text(h, m, "method", http_head_method(&req->head));
		guard_set_text(h, m, CHATD_CRED_PEER, policy_peer(req));
		guard_set_text(h, m, CHATD_CRED_AGENT, request_header(req, "user-agent"));
		guard_set_text(h, m, "origin", request_header(req, "origin"));
	}
	return m;
}

/* What happens in here may end the connection under our feet, as in conn.c. */
static void go_on_late(chatd_req *req)
{
	struct conn *c = req->conn;
	struct turn turn = { false };
	c->turn = &turn;
	intake_go(req);
	if (turn.dead)
		return;
	c->turn = NULL;
	if (!c->closing && c->state != CONN_BUSY)
		conn_show_again(c);
}

static void on_guarded(void *arg, const struct chatd_outcome *o)
{
	struct guard_wait *wait = arg;
	chatd_req *req = wait->req;
	bool inside = wait->inside;
	free(wait);
	if (!req)
		return;
	req->guard = NULL;
	if (o->verdict == CHATD_REJECT || o->verdict == CHATD_DROP)
		guard_refuse(req, o);
	else if (inside)
		intake_go(req);
	else
		go_on_late(req);
}

void guard_start(chatd_req *req)
{
	struct http *http = req->conn->w->http;
	const struct chatd_sessions *sessions = http->sessions->vt;
	/* What a plugin calls was let in once, with the request that it is a part of. */
	if (!(req->flags & CHATD_HTTP_CORS) || !CHATD_HAS(sessions, request) ||
			inner_ident(req->conn->stream)) {
		intake_go(req);
		return;
	}
	struct guard_wait *wait = calloc(1, sizeof(*wait));
	chatd_msg *msg = wait ? guard_message(req) : NULL;
	if (!msg) {
		free(wait);
		answer_refusal(req, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	wait->req = req;
	wait->inside = true;
	req->guard = wait;
	req->conn->state = CONN_BUSY; /* nothing more is read until it is known */
	struct conn *c = req->conn;
	struct turn *turn = c->turn;
	sessions->request(http->sessions->obj, c->w->worker, NULL, msg, on_guarded, wait);
	http->host->msg_unref(msg);
	if (!turn->dead && c->req == req && req->guard == wait)
		wait->inside = false;
}

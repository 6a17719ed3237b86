/* SPDX-License-Identifier: Apache-2.0 */
#include "inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/** An identification under way.  It outlives the request when the client leaves. */
struct ident_wait {
	chatd_req *req; /**< NULL: nobody waits any more */
	chatd_http_identified *fn;
	void *arg;
	const struct chatd_host *host;
	const chatd_ident *who; /**< while the hooks are asked about them */
};

void identify_forget(chatd_req *req)
{
	if (req->ident)
		req->ident->req = NULL;
	req->ident = NULL;
}

static void tell(struct ident_wait *wait, const struct chatd_outcome *o, const chatd_ident *ident)
{
	struct ident_wait done = *wait;
	free(wait);
	if (!done.req)
		return;
	done.req->ident = NULL;
	struct owner_call call;
	owner_enter(done.req, &call);
	char why[256] = "The credentials were refused.";
	if (o->why.p && o->why.n < sizeof(why)) {
		memcpy(why, o->why.p, o->why.n);
		why[o->why.n] = '\0';
	}
	if (o->verdict == CHATD_ACCEPT && ident)
		done.fn(done.arg, 0, ident, NULL, NULL);
	else
		done.fn(done.arg, -EACCES, NULL, o->code ? o->code : "UNAUTHORIZED", why);
	owner_leave(&call);
}

/* The hooks know the caller now.  One that is refused is answered here, for all routes alike,
 * and the handler is told what it knows already: that nobody listens any more. */
static void judged(void *arg, const struct chatd_outcome *o)
{
	struct ident_wait *wait = arg;
	chatd_req *req = wait->req;
	const struct chatd_host *host = wait->host;
	const chatd_ident *ident = wait->who;
	if (req && (o->verdict == CHATD_REJECT || o->verdict == CHATD_DROP)) {
		free(wait);
		req->ident = NULL;
		request_gone(req);
		req->user = NULL;
		guard_refuse(req, o);
	} else {
		const struct chatd_outcome fine = { .struct_size = sizeof(fine), .verdict = CHATD_ACCEPT };
		tell(wait, &fine, ident);
	}
	host->ident_unref(ident);
}

static void identified(void *arg, const struct chatd_outcome *o, const chatd_ident *ident)
{
	struct ident_wait *wait = arg;
	struct http *http = wait->req ? wait->req->conn->w->http : NULL;
	const struct chatd_sessions *sessions = http ? http->sessions->vt : NULL;
	if (!sessions || o->verdict != CHATD_ACCEPT || !ident || !CHATD_HAS(sessions, request)) {
		tell(wait, o, ident);
		return;
	}
	chatd_msg *msg = guard_message(wait->req);
	if (!msg) {
		const struct chatd_outcome none = { .struct_size = sizeof(none),
			.verdict = CHATD_REJECT,
			.code = "OVERLOADED",
			.why = CHATD_LIT("The server is out of memory.") };
		tell(wait, &none, NULL);
		return;
	}
	wait->host = http->host;
	wait->who = http->host->ident_ref(ident);
	sessions->request(http->sessions->obj, wait->req->conn->w->worker, ident, msg, judged, wait);
	http->host->msg_unref(msg);
}

/* Browsers send Origin with all that can change something; of a plain GET they say
 * in Sec-Fetch-Site, which no page can forge, whether it comes from the site itself. */
static bool cookie_counts(chatd_req *req)
{
	if (request_header(req, "origin").p)
		return policy_origin_allowed(req) != 0;
	return http_same(request_header(req, "sec-fetch-site"), "same-origin");
}

/* "Bearer <token>": the token; .p NULL: another scheme. */
static struct chatd_str bearer_of(struct chatd_str authorization)
{
	struct chatd_str none = { NULL, 0 };
	if (authorization.n < 8 || strncasecmp(authorization.p, "Bearer ", 7) != 0)
		return none;
	struct chatd_str token = chatd_str_of(authorization.p + 7, authorization.n - 7);
	while (token.n > 0 && token.p[0] == ' ') {
		token.p++;
		token.n--;
	}
	return token.n > 0 ? token : none;
}

struct creds {
	struct chatd_str bearer, token, device;
};

/* False: there are credentials that nobody here can check. */
static bool collect(chatd_req *req, struct creds *ret)
{
	size_t count;
	struct chatd_str authorization = http_head_get(&req->head, "authorization", &count);
	ret->bearer = bearer_of(authorization);
	if (count > 1 || (count == 1 && !ret->bearer.p))
		return false;
	ret->token = request_query(req, "token");
	ret->device = request_header(req, "device-token");
	if (!ret->device.p && cookie_counts(req))
		ret->device = policy_cookie(req, "device-token");
	return true;
}

/* Who calls from within has been identified before; what may be done is asked all the same. */
static void identify_known(
		chatd_req *req, const chatd_ident *who, chatd_http_identified *fn, void *arg)
{
	const struct chatd_outcome fine = { .struct_size = sizeof(fine), .verdict = CHATD_ACCEPT };
	struct ident_wait *wait = calloc(1, sizeof(*wait));
	if (!wait) {
		fn(arg, -ENOMEM, NULL, "OVERLOADED", "The server is out of memory.");
		return;
	}
	wait->req = req;
	wait->fn = fn;
	wait->arg = arg;
	identify_forget(req);
	req->ident = wait;
	identified(wait, &fine, who);
}

void identify_start(chatd_req *req, chatd_http_identified *fn, void *arg)
{
	struct http *http = req->conn->w->http;
	const struct chatd_sessions *sessions = http->sessions->vt;
	const chatd_ident *known = inner_ident(req->conn->stream);
	struct creds creds;
	if (known) {
		identify_known(req, known, fn, arg);
		return;
	}
	if (!collect(req, &creds)) {
		fn(arg, -EACCES, NULL, "UNAUTHORIZED", "The only Authorization here is one Bearer token.");
		return;
	}
	if (!creds.bearer.p && !creds.token.p && !creds.device.p) {
		fn(arg, -EACCES, NULL, "UNAUTHORIZED", "Credentials are needed.");
		return;
	}
	struct ident_wait *wait = calloc(1, sizeof(*wait));
	chatd_msg *msg = http->host->msg_new(CHATD_LIT(""), CHATD_LIT(""));
	if (!wait || !msg) {
		free(wait);
		http->host->msg_unref(msg);
		fn(arg, -ENOMEM, NULL, "OVERLOADED", "The server is out of memory.");
		return;
	}
	wait->req = req;
	wait->fn = fn;
	wait->arg = arg;
	identify_forget(req);
	req->ident = wait;
	/* A credential is passed on as it came: what is no UTF-8 must fail, not vanish. */
	if (creds.bearer.p)
		http->host->msg_set(msg, CHATD_CRED_BEARER, creds.bearer);
	if (creds.token.p)
		http->host->msg_set(msg, CHATD_CRED_TOKEN, creds.token);
	if (creds.device.p)
		http->host->msg_set(msg, CHATD_CRED_DEVICE, creds.device);
	guard_set_text(http->host, msg, CHATD_CRED_PEER, policy_peer(req));
	guard_set_text(http->host, msg, CHATD_CRED_AGENT, request_header(req, "user-agent"));
	sessions->identify(http->sessions->obj, req->conn->w->worker, msg, identified, wait);
	http->host->msg_unref(msg);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A guard that takes its time, and two routes behind it: how the engine waits for hooks.
 *
 * The User-Agent says what the hooks answer: "early-no" is refused before its caller is known,
 * "late-no" after; both wait 30 ms unless "now" is in there too.  POST /api/slow/whole and
 * /api/slow/streamed answer who called and how many bytes came; "?who=any" does not ask. */
#include <chatd/http.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct self {
	const struct chatd_host *h;
	const struct chatd_service *http;
};

struct wait {
	const struct chatd_host *h;
	chatd_token token;
	int refuse;
};

static void on_time(void *arg)
{
	struct wait *w = arg;
	(void)w->h->resume(w->token, w->refuse ? CHATD_REJECT : CHATD_NEXT,
			w->refuse ? "RATE_LIMIT_EXCEEDED" : NULL, w->refuse ? "too much" : NULL);
	w->h->mem_free(w);
}

static chatd_verdict decide(const struct self *self, chatd_call *call, const char *no)
{
	const struct chatd_host *h = self->h;
	struct chatd_str agent = h->msg_get(h->call_msg(call), CHATD_CRED_AGENT);
	int refuse = agent.p && memmem(agent.p, agent.n, no, strlen(no)) != NULL;
	h->reply(call, "retryAfterSeconds", CHATD_LIT("7"));
	if (agent.p && memmem(agent.p, agent.n, "now", 3)) {
		return refuse ? h->reject(call, "RATE_LIMIT_EXCEEDED", "too much") : CHATD_NEXT;
	}
	struct wait *w = h->mem_alloc(sizeof(*w));
	if (!w) {
		return -ENOMEM;
	}
	w->h = h;
	w->refuse = refuse;
	w->token = h->suspend(call, NULL, NULL);
	if (!h->watch_time(h->call_worker(call), 30, 0, on_time, w)) {
		return -ENOMEM;
	}
	return CHATD_WAIT;
}

static chatd_verdict on_request(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, "early-no");
}

static chatd_verdict on_request_as(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, "late-no");
}

/* ---- the routes -------------------------------------------------------------------- */

struct ask {
	const struct self *self;
	chatd_req *req;
	char who[80];
	size_t n;
	int known, whole;
};

static void answer(struct ask *a)
{
	const struct chatd_http *http = a->self->http->vt;
	char text[160];
	if (a->known && a->whole) {
		int n = snprintf(text, sizeof(text), "%s %zu", a->who, a->n);
		http->respond(a->req, 200, "text/plain", chatd_str_of(text, (size_t)n));
	}
}

static chatd_status on_body(void *arg, const char *p, size_t n)
{
	struct ask *a = arg;
	(void)p;
	a->n += n;
	return 0;
}

static void on_body_end(void *arg)
{
	struct ask *a = arg;
	a->whole = 1;
	answer(a);
}

static void on_gone(void *arg)
{
	struct ask *a = arg;
	a->req = NULL; /* req_alloc() frees it with the request */
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *ident, const char *code, const char *why)
{
	struct ask *a = arg;
	const struct chatd_http *http = a->self->http->vt;
	if (rc < 0) {
		http->problem(a->req, 401, code, why);
		return;
	}
	struct chatd_str user = a->self->h->ident_user(ident);
	snprintf(a->who, sizeof(a->who), "%.*s", (int)user.n, user.p);
	a->known = 1;
	answer(a);
}

static const struct chatd_req_user streamed = {
	.struct_size = sizeof(streamed), .body = on_body, .body_end = on_body_end, .gone = on_gone
};
static const struct chatd_req_user collected = { .struct_size = sizeof(collected),
	.gone = on_gone };

static void begin(const struct self *self, chatd_req *req, int is_streamed)
{
	const struct chatd_http *http = self->http->vt;
	struct ask *a = http->req_alloc(req, sizeof(*a));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "no memory");
		return;
	}
	a->self = self;
	a->req = req;
	a->n = is_streamed ? 0 : http->req_body(req).n;
	a->whole = !is_streamed;
	http->req_user(req, is_streamed ? &streamed : &collected, a);
	if (http->req_query(req, "who").p) {
		snprintf(a->who, sizeof(a->who), "any");
		a->known = 1;
		answer(a);
	} else {
		http->identify(req, on_identified, a);
	}
}

static void on_whole(void *arg, chatd_req *req)
{
	begin(arg, req, 0);
}

static void on_streamed(void *arg, chatd_req *req)
{
	begin(arg, req, 1);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	self->h = h;
	self->http = h->service(ctx, CHATD_HTTP);
	const struct chatd_http *http = self->http->vt;
	struct chatd_route r = { .struct_size = sizeof(r),
		.methods = CHATD_POST,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/slow/whole",
		.max_body = 1 << 20,
		.handle = on_whole,
		.arg = self };
	chatd_status rc = http->route(self->http->obj, ctx, &r);
	r.flags |= CHATD_HTTP_STREAM;
	r.path = "/api/slow/streamed";
	r.handle = on_streamed;
	rc = rc ? rc : http->route(self->http->obj, ctx, &r);
	rc = rc ? rc : h->hook(ctx, chatd_hook_request, CHATD_ORDER_GUARD, on_request);
	return rc ? rc : h->hook(ctx, chatd_hook_request_as, CHATD_ORDER_GUARD, on_request_as);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_HTTP, NULL };

CHATD_PLUGIN = { CHATD_PLUGIN_HEADER, .name = "slow-guard", .version = "0.1",
	.summary = "a guard that takes its time", .needs = needs, .init = init, .fini = fini };

/* SPDX-License-Identifier: Apache-2.0 */
/* Has what lies with others: routes, memory in sessions, a service.  Can be turned off all the same.
 *   GET /pages/now      its version
 *   GET /pages/late     ?ms=: the same, so much later
 *   GET /pages/spin     holds the worker for 250 ms, then answers 500
 *   POST /pages/sum     streamed: how many bytes came
 *   /app/pages          the receipt says how often this session has called it: header `seen` */
#include <chatd/http.h>
#include <chatd/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef VERSION
#define VERSION "1.0"
#endif

struct self {
	const struct chatd_host *h;
	const struct chatd_http *http;
	uint32_t slot;
};

struct slot {
	int64_t calls;
	void *block;
};

struct late {
	struct self *self;
	chatd_req *req;
	struct chatd_timer timer;
};

struct sum {
	struct self *self;
	chatd_req *req;
	int64_t n;
};

static const struct chatd_host *the_host; /* drop() is told nothing else */

static void answer(struct self *self, chatd_req *req)
{
	self->http->respond(req, 200, "text/plain", CHATD_LIT(VERSION));
}

static void on_now(void *self, chatd_req *req)
{
	answer(self, req);
}

static void on_due(void *arg)
{
	struct late *l = arg;
	answer(l->self, l->req);
}

static void on_gone(void *arg)
{
	struct late *l = arg;
	l->self->h->timer_clear(&l->timer);
}

static void on_late(void *selfp, chatd_req *req)
{
	static const struct chatd_req_user user = { .struct_size = sizeof(user), .gone = on_gone };
	struct self *self = selfp;
	struct late *l = self->http->req_alloc(req, sizeof(*l));
	struct chatd_str ms = self->http->req_query(req, "ms");
	if (!l) {
		self->http->problem(req, 503, "UNAVAILABLE", "no memory");
		return;
	}
	l->self = self;
	l->req = req;
	self->http->req_user(req, &user, l);
	self->h->timer_set(
			self->http->req_worker(req), &l->timer, ms.p ? strtoll(ms.p, NULL, 10) : 0, on_due, l);
}

static void on_spin(void *selfp, chatd_req *req)
{
	struct self *self = selfp;
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	int64_t end = ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + 250;
	do {
		clock_gettime(CLOCK_MONOTONIC, &ts);
	} while (ts.tv_sec * 1000 + ts.tv_nsec / 1000000 < end);
	self->http->problem(req, 500, "INTERNAL", "as was asked for");
}

static chatd_status on_piece(void *arg, const char *p, size_t n)
{
	(void)p;
	((struct sum *)arg)->n += (int64_t)n;
	return 0;
}

static void on_whole(void *arg)
{
	struct sum *s = arg;
	char text[32];
	int n = snprintf(text, sizeof(text), "%lld", (long long)s->n);
	s->self->http->respond(s->req, 200, "text/plain", chatd_str_of(text, (size_t)n));
}

static void on_sum(void *selfp, chatd_req *req)
{
	static const struct chatd_req_user user = {
		.struct_size = sizeof(user), .body = on_piece, .body_end = on_whole
	};
	struct self *self = selfp;
	struct sum *s = self->http->req_alloc(req, sizeof(*s));
	if (!s) {
		self->http->problem(req, 503, "UNAVAILABLE", "no memory");
		return;
	}
	s->self = self;
	s->req = req;
	self->http->req_user(req, &user, s);
}

static chatd_verdict on_app(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	struct slot *slot = self->h->slot(self->h->call_session(call), self->slot);
	char text[32];
	(void)wself;
	if (!slot->block) {
		slot->block = self->h->mem_alloc(1000);
	}
	int n = snprintf(text, sizeof(text), "%lld", (long long)++slot->calls);
	(void)self->h->reply(call, "seen", chatd_str_of(text, (size_t)n));
	return CHATD_ACCEPT;
}

static void drop(void *slotp)
{
	the_host->mem_free(((struct slot *)slotp)->block);
}

static chatd_status open_routes(struct self *self, const struct chatd_service *http, chatd_ctx *ctx)
{
	static const struct {
		uint32_t methods, flags;
		const char *path;
		void (*handle)(void *, chatd_req *);
	} pages[] = { { CHATD_GET, 0, "/pages/now", on_now }, { CHATD_GET, 0, "/pages/late", on_late },
		{ CHATD_GET, 0, "/pages/spin", on_spin },
		{ CHATD_POST, CHATD_HTTP_STREAM, "/pages/sum", on_sum } };
	chatd_status rc = 0;
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]) && rc == 0; i++) {
		const struct chatd_route r = { .struct_size = sizeof(r),
			.methods = pages[i].methods,
			.flags = pages[i].flags,
			.path = pages[i].path,
			.max_body = (size_t)1 << 30,
			.handle = pages[i].handle,
			.arg = self };
		rc = self->http->route(http->obj, ctx, &r);
	}
	return rc;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *http = h->service(ctx, CHATD_HTTP);
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	*ret_self = self;
	self->h = the_host = h;
	self->http = http->vt;
	chatd_status rc = open_routes(self, http, ctx);
	rc = rc < 0 ? rc : h->session_slot(ctx, sizeof(struct slot), drop, &self->slot);
	rc = rc < 0 ? rc : h->app(ctx, "pages", on_app);
	return rc < 0 ? rc : h->provide(ctx, "test.pages/1", self, self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	memset(self, 0x5a, sizeof(*self)); /* whoever comes late finds no host */
	h->mem_free(self);
}

static const char *const provides[] = { "test.pages/1", NULL };
static const char *const needs[] = { CHATD_HTTP, NULL };

CHATD_PLUGIN = { CHATD_PLUGIN_HEADER, .flags = CHATD_PLUGIN_LIVE, .name = "pages",
	.version = VERSION, .summary = "routes, for tests", .provides = provides, .needs = needs,
	.init = init, .fini = fini };

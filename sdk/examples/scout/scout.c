/* SPDX-License-Identifier: Apache-2.0 */
/* A message with a link goes on only if another server has nothing against it: it is sent there with
 * POST, and 204 means good, 403 bad.
 *
 * chatd.fetch/1 asks, and answers later.  Numbers of all workers go to chatd.stats/1, whose sums
 * /metrics shows: what each worker counts by itself would be known to that worker alone. */
#include <chatd/fetch.h>
#include <chatd/plugin.h>
#include <chatd/stats.h>

#include <errno.h>
#include <string.h>

enum { GOOD = 204, BAD = 403 };

struct conf {
	const char *url;
};

struct self { /* read-only after init(): all workers share it */
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *fetch, *stats; /* stats: NULL if nobody counts */
	int64_t patience;                          /* for one request, in ms */
	uint32_t refused;
};

struct ask { /* belongs to the answer, which frees it */
	const struct self *self;
	chatd_worker *worker;
	chatd_token token;
};

static const struct chatd_opt opts[] = {
	{ .key = "url",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_URL, /* --check finds what fetch would refuse */
			.offset = offsetof(struct conf, url),
			.doc = "Who is asked about messages with links." },
	{ 0 },
};

static int has_link(struct chatd_str s)
{
	static const char mark[] = "://";
	for (size_t i = 0; i + sizeof(mark) - 1 <= s.n; i++) {
		if (memcmp(s.p + i, mark, sizeof(mark) - 1) == 0) {
			return 1;
		}
	}
	return 0;
}

static void count(const struct ask *a)
{
	const struct self *self = a->self;
	if (self->stats) {
		const struct chatd_stats *stats = self->stats->vt;
		stats->add(self->stats->obj, a->worker, self->refused, 1);
	}
}

/* The time is up, or the session has ended, if resume() finds nobody: that is no mistake. */
static void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *answer)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	if (rc < 0) { /* the sender hears UNAVAILABLE of a server that is away, else INTERNAL */
		h->log(a->self->ctx, CHATD_LOG_WARN, "%s was not asked: %.*s", a->self->conf->url,
				(int)answer->why.n, answer->why.p);
		(void)h->resume(a->token, rc, NULL, NULL);
	} else if (answer->status == GOOD) {
		(void)h->resume(a->token, CHATD_NEXT, NULL, NULL);
	} else if (answer->status == BAD) {
		count(a);
		(void)h->resume(a->token, CHATD_REJECT, "LINK_REFUSED", "this link is not welcome here");
	} else {
		(void)h->resume(a->token, -EPROTO, NULL, NULL);
	}
	h->mem_free(a);
}

static chatd_status ask(struct ask *a, struct chatd_str body)
{
	const struct self *self = a->self;
	const struct chatd_fetch *fetch = self->fetch->vt;
	const struct chatd_str headers[] = { CHATD_LIT("Content-Type: text/plain; charset=utf-8") };
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("POST"),
		.url = chatd_str_of(self->conf->url, strlen(self->conf->url)),
		.body = body, /* copied, as everything in here is */
		.headers = headers,
		.n_headers = 1,
		.timeout = self->patience };
	return fetch->fetch(self->fetch->obj, a->worker, &r, on_answer, a);
}

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str body = h->msg_body(h->call_msg(call));
	(void)wself;
	if (!has_link(body)) {
		return CHATD_NEXT;
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->worker = h->call_worker(call);
	a->token = h->suspend(call, NULL, NULL);
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	chatd_status rc = ask(a, body);
	if (rc < 0) {
		(void)h->resume(a->token, rc, NULL, NULL);
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

static chatd_status count_from(struct self *self)
{
	const struct chatd_stat_def def = { .struct_size = sizeof(def),
		.kind = CHATD_STAT_COUNTER,
		.name = "scout_refused",
		.help = "Messages whose links were refused." };
	if (!self->stats) {
		return 0;
	}
	const struct chatd_stats *stats = self->stats->vt;
	return stats->define(self->stats->obj, self->ctx, &def, &self->refused);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct chatd_instance mine = { .struct_size = sizeof(mine) };
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	h->instance(ctx, &mine);
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->fetch = h->service(ctx, CHATD_FETCH);
	self->stats = h->service(ctx, CHATD_STATS);
	self->patience = mine.timeout * 3 / 4; /* sooner than our own: then we say what was wrong */
	*ret_self = self;
	chatd_status rc = count_from(self);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_FETCH, NULL };
static const char *const wants[] = { CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "scout",
	.version = "0.1",
	.summary = "asks another server about links",
	.flags = CHATD_PLUGIN_ONCE, /* two would count under one name */
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};

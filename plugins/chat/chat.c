/* SPDX-License-Identifier: Apache-2.0 */
/* Chat messages to people and rooms.  Options and life; send.c has the way of a message. */
#include "chat.h"

#include "cluster.h"

static const struct chatd_opt opts[] = {
	{ .key = "max_content",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_content),
			.fallback = "8000",
			.min = 1,
			.max = 1000000,
			.doc = "Characters that the content of a message may have." },
	{ .key = "max_bytes",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_bytes),
			.fallback = "32 KiB",
			.min = 1,
			.max = 16777216,
			.doc = "Bytes that the content of a message may have." },
	{ .key = "max_encrypted",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_encrypted),
			.fallback = "48 KiB",
			.min = 1,
			.max = 16777216,
			.doc = "Bytes that the content of an end-to-end encrypted message may have: its text, a "
				   "third more, and 250 for each device that shall read it." },
	{ .key = "dedupe_window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, dedupe_window),
			.fallback = "24h",
			.max = INT64_C(366) * 86400000,
			.doc = "How long a clientId is remembered, so that it is delivered once; 0: never." },
	{ .key = "dedupe_max",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, dedupe_max),
			.fallback = "100000",
			.min = 1,
			.max = 100000000,
			.doc = "The clientIds that are remembered, about 300 bytes each; the oldest go first." },
	{ .key = "dedupe_per_user",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, dedupe_per_user),
			.fallback = "1000",
			.min = 1,
			.max = 100000000,
			.doc = "The clientIds that are remembered of one sender; the oldest go first." },
	{ .key = "resume_max",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, resume_max),
			.fallback = "1000",
			.min = 1,
			.max = 10000,
			.doc = "Messages that a subscription with `since` is given at most; needs a store." },
	{ .key = "notice_interval",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, notice_interval),
			.fallback = "2s",
			.max = 3600000,
			.doc = "Members who do not listen to a room hear on /user/queue/rooms this often at most "
				   "that something was said; 0: never. Needs a store." },
	{ .key = "sync_interval",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, sync_interval),
			.fallback = "5s",
			.min = 1000,
			.max = 3600000,
			.doc = "In a cluster: how often the store is asked for messages that other nodes wrote "
				   "and that did not come through the broker; while it is away, every second." },
	{ .key = "isolated_after",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, isolated_after),
			.fallback = "10s",
			.min = 0,
			.max = 3600000,
			.doc = "In a cluster: a node that has reached neither store nor broker nor Redis for so "
				   "long closes its clients with 1013, so that they go to another one; 0: never." },
	{ 0 },
};

/* A receipt means more when there is a store: clients are told at their login. */
static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	(void)wself;
	self->h->reply(call, "ack-level", CHATD_LIT("stored"));
	return CHATD_NEXT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.accounts = h->service(ctx, CHATD_ACCOUNTS),
		.presence = h->service(ctx, CHATD_PRESENCE),
		.http = h->service(ctx, CHATD_HTTP),
		.store = h->service(ctx, CHATD_STORE),
		.audit = h->service(ctx, CHATD_AUDIT),
		.privacy = h->service(ctx, CHATD_PRIVACY) };
	self->cluster = self->store ? h->service(ctx, CHATD_CLUSTER) : NULL;
	self->redis = self->cluster ? h->service(ctx, CHATD_REDIS) : NULL;
	*ret_self = self;
	h->random(&self->key, sizeof(self->key));
	chatd_status rc = h->app(ctx, "chat.send", on_send);
	rc = rc < 0 ? rc : h->app(ctx, "chat.sendMessage", on_send);
	if (rc == 0 && self->http && self->presence) {
		rc = status_init(self);
	}
	if (rc == 0 && self->store) {
		rc = h->hook(ctx, chatd_hook_session_open, CHATD_ORDER_STORE, on_open);
		rc = rc < 0 ? rc : log_init(self);
		rc = rc < 0 ? rc : change_init(self);
		rc = rc < 0 ? rc : notice_init(self);
		rc = rc < 0 ? rc : resume_init(self);
		rc = rc < 0 || !self->cluster ? rc : sync_init(self);
		rc = rc < 0 || !self->cluster ? rc : wire_init(self);
		rc = rc < 0 || !self->cluster ? rc : alone_init(self);
		rc = rc < 0 || !self->http ? rc : history_init(self);
	}
	return rc;
}

static void on_sweep(void *arg)
{
	struct worker *at = arg;
	dedupe_expire(at->dedupe, at->self->h->now_ms(at->w));
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct worker *at = wself;
	int64_t workers = self->h->worker_count();
	at->self = self;
	at->w = w;
	if (self->store) { /* it remembers what was sent, and for longer */
		return log_start(at);
	}
	if (self->conf->dedupe_window == 0) {
		return 0;
	}
	struct dedupe_conf conf = { .window_ms = self->conf->dedupe_window,
		.max = (self->conf->dedupe_max + workers - 1) / workers,
		.per_user = self->conf->dedupe_per_user,
		.key = self->key };
	at->dedupe = dedupe_create(&conf);
	at->sweep = at->dedupe ? self->h->watch_time(w, SWEEP_MS, 1, on_sweep, at) : NULL;
	return at->sweep ? 0 : -ENOMEM;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct worker *at = wself;
	(void)w;
	if (self->store) {
		notice_stop(at);
		log_stop(at);
		resume_stop(at);
	}
	self->h->unwatch(at->sweep);
	dedupe_destroy(at->dedupe);
	self->h->mem_free(at->known);
	at->sweep = NULL;
	at->dedupe = NULL;
	at->known = NULL;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	sync_fini(self);
	alone_fini(self);
	self->h->mem_free(self->listening);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_LOG, NULL };
static const char *const wants[] = { CHATD_ACCOUNTS, CHATD_PRESENCE, CHATD_HTTP, CHATD_STORE,
	CHATD_CLUSTER, CHATD_REDIS, CHATD_PRIVACY, CHATD_AUDIT, CHATD_STATS, CHATD_PLUGINS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "chat",
	.version = "0.1",
	.summary = "chat messages to people and rooms",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

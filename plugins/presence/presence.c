/* SPDX-License-Identifier: Apache-2.0 */
/* What people are, and who is told: options and life; see presence.h for the parts. */
#include "presence.h"

enum { TICK_MS = 1000 };

static const char *const audiences[] = { "everyone", "contacts", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "max_watched",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_watched),
			.fallback = "200",
			.min = 1,
			.max = USERS_MAX,
			.doc = "Users that one session may watch, and that one REST call may ask about." },
	{ .key = "max_watches",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_watches),
			.fallback = "1000000",
			.min = 1,
			.max = 100000000,
			.doc = "Users watched by all sessions of this server together; each costs some 300 bytes." },
	{ .key = "max_text",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_text),
			.fallback = "80",
			.max = CHATD_PRESENCE_TEXT_MAX / 4,
			.doc = "Characters of the text beside a status; 0: there are no texts." },
	{ .key = "sets_per_minute",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, sets_per_minute),
			.fallback = "20",
			.max = 6000,
			.doc = "How often a session may change its status, 10 times at once; 0: as it likes." },
	{ .key = "visible_to",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, visible_to),
			.fallback = "everyone",
			.choices = audiences,
			.doc = "Who may know what somebody is: everyone who is logged in; contacts: who has a "
				   "conversation or a room with them." },
	{ 0 },
};

void count(const struct at *at, uint32_t id, int64_t n)
{
	const struct self *self = at->self;
	if (self->stats && n) {
		const struct chatd_stats *stats = self->stats->vt;
		stats->add(self->stats->obj, at->w, id, n);
	}
}

static chatd_status define_numbers(struct self *self)
{
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	struct {
		struct chatd_stat_def def;
		uint32_t *id;
	} all[] = {
		{ { .kind = CHATD_STAT_GAUGE,
				  .name = "chatd_presence_watches",
				  .help = "Users that sessions watch, each pair counted." },
				&self->count_watches },
		{ { .kind = CHATD_STAT_COUNTER,
				  .name = "chatd_presence_told_total",
				  .help = "Changes that were told to sessions, each receiver counted." },
				&self->count_told },
		{ { .kind = CHATD_STAT_COUNTER,
				  .name = "chatd_presence_set_total",
				  .help = "Statuses that devices have set." },
				&self->count_set },
	};
	chatd_status rc = 0;
	for (size_t i = 0; stats && rc == 0 && i < sizeof(all) / sizeof(all[0]); i++) {
		all[i].def.struct_size = sizeof(all[i].def);
		rc = stats->define(self->stats->obj, self->ctx, &all[i].def, all[i].id);
	}
	return rc;
}

static chatd_status make_tables(struct self *self)
{
	self->workers = self->h->worker_count();
	self->at = self->h->mem_alloc((size_t)self->workers * sizeof(*self->at));
	self->interest = self->h->mem_alloc((size_t)self->workers * BUCKETS * sizeof(uint32_t));
	if (!self->at || !self->interest) {
		return -ENOMEM;
	}
	for (int32_t i = 0; i < self->workers; i++) {
		struct at *at = &self->at[i];
		at->self = self;
		at->knowable = 1;
		at->interest = self->interest + (size_t)i * BUCKETS;
		TAILQ_INIT(&at->order);
		LIST_INIT(&at->watchers);
	}
	return 0;
}

static chatd_status register_all(struct self *self)
{
	const struct chatd_host *h = self->h;
	const struct chatd_presence_follower f = {
		.struct_size = sizeof(f), .changed = on_changed, .known = on_known, .arg = self
	};
	chatd_status rc = h->session_slot(self->ctx, sizeof(struct watcher), watcher_drop, &self->slot);
	rc = rc < 0 ? rc : define_numbers(self);
	rc = rc < 0 ? rc : self->presence->follow(self->service->obj, &f);
	rc = rc < 0 ? rc : h->app(self->ctx, "presence.set", on_set);
	rc = rc < 0 ? rc : h->app(self->ctx, "presence.watch", on_watch);
	rc = rc < 0 ? rc : h->app(self->ctx, "presence.unwatch", on_unwatch);
	if (rc == 0 && self->conf->visible_to == VISIBLE_TO_CONTACTS) {
		rc = h->hook(self->ctx, chatd_hook_request_as, CHATD_ORDER_CHECK, on_request_as);
	}
	if (rc == 0 && self->privacy) {
		const struct chatd_privacy *privacy = self->privacy->vt;
		rc = privacy->watch(self->privacy->obj, on_blocked, self);
	}
	return rc < 0 || !self->http ? rc : rest_init(self);
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
		.service = h->service(ctx, CHATD_PRESENCE),
		.http = h->service(ctx, CHATD_HTTP),
		.stats = h->service(ctx, CHATD_STATS),
		.store = h->service(ctx, CHATD_STORE),
		.privacy = h->service(ctx, CHATD_PRIVACY) };
	*ret_self = self;
	self->presence = self->service->vt;
	if (!CHATD_HAS(self->presence, look) || !CHATD_HAS(self->presence, set) ||
			!CHATD_HAS(self->presence, follow)) {
		return h->fail(ctx, -ENOTSUP,
				"the plugin that knows who is online knows nothing more; use presence-memory or "
				"presence-redis");
	}
	if (!self->store && self->conf->visible_to == VISIBLE_TO_CONTACTS) {
		return h->fail(ctx, -ENOENT,
				"visible_to: contacts needs a store, which knows who has met whom, such as "
				"store-sqlite");
	}
	h->random(&self->key, sizeof(self->key));
	chatd_status rc = make_tables(self);
	return rc < 0 ? rc : register_all(self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	int32_t i = self->h->worker_index(w);
	struct at *at = &self->at[i];
	at->w = w;
	*(struct at **)wself = at;
	if (i != 0) {
		return 0;
	}
	self->tick = self->h->watch_time(w, TICK_MS, 1, on_tick, self);
	return self->tick ? 0 : -ENOMEM;
}

/* Who watches hears no more, and is told so. */
static void drain(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	struct at *at = *(struct at **)wself;
	(void)w;
	if (at && self->h->stopping() == CHATD_SERVES) {
		sync_known(at, 0);
	}
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->open) ||
			(self->h->stopping() == CHATD_SERVES && chatd_asks_open(&self->route, 1) > 0);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct at *at = *(struct at **)wself;
	at->dead = 1;
	self->h->timer_clear(&at->retry);
	if (self->h->worker_index(w) == 0) {
		self->h->unwatch(self->tick);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->interest);
	self->h->mem_free(self->at);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_PRESENCE, NULL };
static const char *const wants[] = { CHATD_HTTP, CHATD_STATS, CHATD_STORE, CHATD_PRIVACY, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_ONCE | CHATD_PLUGIN_LIVE,
	.name = "presence",
	.version = "0.1",
	.summary = "away, busy, a text; and tells those who watch",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct at *),
	.init = init,
	.worker_start = worker_start,
	.drain = drain,
	.busy = busy,
	.worker_stop = worker_stop,
	.fini = fini,
};

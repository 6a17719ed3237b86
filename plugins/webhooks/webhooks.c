/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: into a room, out to other servers, and those that decide.  Options and life. */
#include "webhooks.h"

#include <errno.h>

#define OPT(st_, field_, key_, type_, fallback_, doc_)                      \
	.key = (key_), .type = (type_), .offset = offsetof(struct st_, field_), \
	.fallback = (fallback_), .doc = (doc_)

static const struct chatd_opt out_opts[] = {
	{ OPT(conf_out, name, "name", CHATD_T_STRING, NULL,
			  "1 to 32 of a-z, 0-9 and -; where it stands is kept under this name."),
			.flags = CHATD_O_REQUIRED },
	{ OPT(conf_out, url, "url", CHATD_T_STRING, NULL, "Where the events are posted to."),
			.flags = CHATD_O_REQUIRED },
	{ OPT(conf_out, secret, "secret", CHATD_T_STRING, NULL,
			  "Signs the requests: whsec_BASE64, or 16 characters and more; env:NAME, file:PATH."),
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET },
	{ OPT(conf_out, old_secret, "old_secret", CHATD_T_STRING, NULL,
			  "Signs them as well, while the receiver learns the new one."),
			.flags = CHATD_O_SECRET },
	{ OPT(conf_out, events, "events", CHATD_T_STRINGS, "[message, change, room]",
			"Of message, change (edits, deletions, reactions), room (joined, left, renamed ...) "
			"and presence.") },
	{ OPT(conf_out, rooms, "rooms", CHATD_T_STRINGS, "[]", "Ids of rooms; none: every room.") },
	{ OPT(conf_out, direct, "direct", CHATD_T_BOOL, "false",
			"Direct messages too, of everybody.") },
	{ OPT(conf_out, batch, "batch", CHATD_T_INT, "100", "Events in one request, at most."),
			.min = 1, .max = 200 },
	{ OPT(conf_out, timeout, "timeout", CHATD_T_DURATION, "5s",
			  "A request without an answer has failed after this time."),
			.min = 100, .max = 30000 },
	{ .key = NULL },
};

static const char *const on_names[] = { "connect", "subscribe", "message", NULL };
static const char *const error_names[] = { "deny", "allow", NULL };

static const struct chatd_opt decider_opts[] = {
	{ OPT(conf_decider, on, "on", CHATD_T_CHOICE, NULL, "What it is asked about."),
			.flags = CHATD_O_REQUIRED, .choices = on_names },
	{ OPT(conf_decider, url, "url", CHATD_T_STRING, NULL, "Who is asked."),
			.flags = CHATD_O_REQUIRED },
	{ OPT(conf_decider, secret, "secret", CHATD_T_STRING, NULL,
			  "Signs the questions; see outgoing."),
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET },
	{ OPT(conf_decider, prefix, "prefix", CHATD_T_STRING, NULL,
			"Of subscribe and message: destinations that begin so; left out: all.") },
	{ OPT(conf_decider, on_error, "on_error", CHATD_T_CHOICE, "deny",
			  "What is decided when no answer comes in time."),
			.choices = error_names },
	{ OPT(conf_decider, timeout, "timeout", CHATD_T_DURATION, "500ms",
			  "How long an answer is waited for."),
			.min = 50, .max = 2000 },
	{ OPT(conf_decider, credentials, "credentials", CHATD_T_BOOL, "false",
			"Of connect: it gets credentials that nobody here knows, and may say whose they are.") },
	{ .key = NULL },
};

static const struct chatd_opt opts[] = {
	{ OPT(conf, outgoing, "outgoing", CHATD_T_LIST, NULL, "Servers that are told what happens."),
			.sub = out_opts, .sub_size = sizeof(struct conf_out) },
	{ OPT(conf, deciders, "deciders", CHATD_T_LIST, NULL, "Servers that are asked before."),
			.sub = decider_opts, .sub_size = sizeof(struct conf_decider) },
	{ OPT(conf, lease, "lease", CHATD_T_DURATION, "40s",
			  "In a cluster: another node goes on this long after the one that sent has died."),
			.min = 1000, .max = 600000 },
	{ OPT(conf, retry_min, "retry_min", CHATD_T_DURATION, "1s",
			  "After a failure it is tried again after this time, then twice as long, and so on."),
			.min = 50, .max = 3600000 },
	{ OPT(conf, retry_max, "retry_max", CHATD_T_DURATION, "10m", "But at least this often."),
			.min = 50, .max = 86400000 },
	{ OPT(conf, breaker, "breaker", CHATD_T_INT, "5",
			  "A decider that failed so often in a row is not asked for a while."),
			.min = 1, .max = 1000 },
	{ OPT(conf, breaker_pause, "breaker_pause", CHATD_T_DURATION, "10s", "For so long."),
			.min = 100, .max = 600000 },
	{ OPT(conf, per_room, "per_room", CHATD_T_INT, "10", "Incoming webhooks of one room."),
			.min = 1, .max = 1000 },
	{ OPT(conf, per_minute, "per_minute", CHATD_T_INT, "60",
			  "Messages that one incoming webhook takes in a minute; needs limit-rate."),
			.min = 1, .max = 100000 },
	{ OPT(conf, max_bytes, "max_bytes", CHATD_T_SIZE, "32 KiB", "Of one request that comes in."),
			.min = 1024, .max = 1024 * 1024 },
	{ .key = NULL },
};

static uint32_t event_named(const char *name)
{
	static const char *const names[] = { "message", "change", "room", "presence" };
	for (uint32_t i = 0; i < 4; i++) {
		if (strcmp(names[i], name) == 0) {
			return 1u << i;
		}
	}
	return 0;
}

static const char no_secret[] =
		"a secret is whsec_ and BASE64 of 16 bytes or more, or 16 to 192 characters of your own: "
		"echo whsec_$(openssl rand -base64 32)";

static int url_ok(const char *url)
{
	return strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0;
}

static chatd_status check_out(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf_out *o, size_t i)
{
	struct chatd_webhook_key key;
	size_t n = strlen(o[i].name);
	if (n < 1 || n > TARGET_NAME_MAX ||
			strspn(o[i].name, "abcdefghijklmnopqrstuvwxyz0123456789-") != n) {
		return h->conf_error(ctx, "outgoing",
				"\"%s\" cannot be a target's name; use 1 to 32 of a-z, 0-9 and -", o[i].name);
	}
	for (size_t k = 0; k < i; k++) {
		if (strcmp(o[k].name, o[i].name) == 0) {
			return h->conf_error(ctx, "outgoing", "two targets have the name \"%s\"", o[i].name);
		}
	}
	for (size_t k = 0; o[i].events[k]; k++) {
		if (!event_named(o[i].events[k])) {
			return h->conf_error(ctx, "outgoing",
					"target %s: there are no events \"%s\"; there are message, change, room and presence",
					o[i].name, o[i].events[k]);
		}
		if (event_named(o[i].events[k]) == EVENT_PRESENCE && !h->service(ctx, CHATD_PRESENCE)) {
			return h->conf_error(ctx, "outgoing",
					"target %s wants presence: put presence-memory or presence-redis into the "
					"configuration, or take presence out of its events",
					o[i].name);
		}
	}
	if (!url_ok(o[i].url)) {
		return h->conf_error(ctx, "outgoing", "target %s: \"%s\" is no http:// or https:// URL",
				o[i].name, o[i].url);
	}
	if (!chatd_webhook_key(&key, o[i].secret) ||
			(o[i].old_secret && !chatd_webhook_key(&key, o[i].old_secret))) {
		return h->conf_error(ctx, "outgoing", "target %s: %s", o[i].name, no_secret);
	}
	return 0;
}

/* What @p d is asked about @p other is asked about as well. */
static int asked_too(const struct conf_decider *other, const struct conf_decider *d)
{
	const char *prefix = other->prefix ? other->prefix : "";
	return other->on == d->on &&
			(d->on == ON_CONNECT ||
					strncmp(d->prefix ? d->prefix : "", prefix, strlen(prefix)) == 0);
}

/* They are asked one after the other, while the call is parked, for 5 s at most. */
static chatd_status check_sum(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf, size_t i)
{
	const struct conf_decider *d = conf->deciders.items;
	int64_t sum = 0;
	for (size_t k = 0; k < conf->deciders.n; k++) {
		sum += asked_too(&d[k], &d[i]) ? d[k].timeout : 0;
	}
	if (sum <= PARKED_MS) {
		return 0;
	}
	return h->conf_error(ctx, "deciders",
			"%s and those that are asked before and after it may take %lld ms together; give them "
			"%d at most, for nothing waits longer than 5 s",
			d[i].url, (long long)sum, PARKED_MS);
}

static chatd_status check_deciders(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const struct conf_decider *d = conf->deciders.items;
	struct chatd_webhook_key key;
	chatd_status rc = 0;
	for (size_t i = 0; i < conf->deciders.n; i++) {
		chatd_status sum = check_sum(h, ctx, conf, i);
		rc = sum < 0 ? sum : rc;
		if (!url_ok(d[i].url)) {
			rc = h->conf_error(ctx, "deciders", "\"%s\" is no http:// or https:// URL", d[i].url);
		} else if (!chatd_webhook_key(&key, d[i].secret)) {
			rc = h->conf_error(ctx, "deciders", "%s: %s", d[i].url, no_secret);
		}
	}
	return rc;
}

static chatd_status check_fetch(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	if ((!conf->outgoing.n && !conf->deciders.n) || h->service(ctx, CHATD_FETCH)) {
		return 0;
	}
	return h->conf_error(ctx, conf->outgoing.n ? "outgoing" : "deciders",
			"outgoing and deciders need the plugin fetch: put \"fetch: {}\" into the configuration");
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct conf_out *o = conf->outgoing.items;
	chatd_status rc = check_fetch(h, ctx, conf), deciders = check_deciders(h, ctx, conf);
	rc = deciders < 0 ? deciders : rc;
	for (size_t i = 0; i < conf->outgoing.n; i++) {
		chatd_status one = check_out(h, ctx, o, i);
		rc = one < 0 ? one : rc;
		if (conf->lease <= o[i].timeout) {
			rc = h->conf_error(ctx, "lease",
					"it must be longer than the timeout of target %s, or two nodes may send at a time",
					o[i].name);
		}
	}
	if (conf->retry_max < conf->retry_min) {
		rc = h->conf_error(ctx, "retry_max", "it must not be less than retry_min");
	}
	return rc;
}

/* What check() has found to be good. */
static chatd_status compile(struct self *self)
{
	const struct conf_out *o = self->conf->outgoing.items;
	const struct conf_decider *d = self->conf->deciders.items;
	const struct chatd_host *h = self->h;
	self->n_targets = self->conf->outgoing.n;
	self->n_deciders = self->conf->deciders.n;
	self->targets = h->mem_alloc((self->n_targets + 1) * sizeof(*self->targets));
	self->deciders = h->mem_alloc((self->n_deciders + 1) * sizeof(*self->deciders));
	if (!self->targets || !self->deciders || sodium_init() < 0) {
		self->n_targets = self->n_deciders = 0;
		return -ENOMEM;
	}
	for (size_t i = 0; i < self->n_targets; i++) {
		struct target *t = &self->targets[i];
		t->conf = &o[i];
		(void)chatd_webhook_key(&t->key, o[i].secret);
		(void)chatd_webhook_key(&t->old, o[i].old_secret);
		for (size_t k = 0; o[i].events[k]; k++) {
			t->events |= event_named(o[i].events[k]);
		}
	}
	for (size_t i = 0; i < self->n_deciders; i++) {
		self->deciders[i].conf = &d[i];
		(void)chatd_webhook_key(&self->deciders[i].key, d[i].secret);
	}
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->store = h->service(ctx, CHATD_STORE);
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	self->fetch = h->service(ctx, CHATD_FETCH);
	self->http = h->service(ctx, CHATD_HTTP);
	self->rooms = h->service(ctx, CHATD_ROOMS);
	self->presence = h->service(ctx, CHATD_PRESENCE);
	self->limiter = h->service(ctx, CHATD_LIMITER);
	self->audit = h->service(ctx, CHATD_AUDIT);
	const struct chatd_store *store = self->store->vt;
	self->shared = CHATD_HAS(store, is_shared) && store->is_shared(self->store->obj);
	chatd_status rc = compile(self);
	rc = rc < 0 ? rc : out_init(self);
	rc = rc < 0 ? rc : decide_init(self);
	return rc < 0 ? rc : incoming_init(self);
}

static chatd_status worker_start(void *self, chatd_worker *w, void *wself)
{
	struct worker *at = wself;
	at->self = self;
	at->w = w;
	decide_start(at);
	return out_start(at);
}

/* At the server's end they go on as long as it drains. */
static void drain(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	struct worker *at = wself;
	(void)w;
	if (at->self && self->h->stopping() == CHATD_SERVES) {
		out_drain(at);
	}
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->open) ||
			(self->h->stopping() == CHATD_SERVES && chatd_asks_open(self->routes, IN_ROUTES) > 0);
}

static void worker_stop(void *self, chatd_worker *w, void *wself)
{
	(void)self;
	(void)w;
	out_stop(wself);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	out_fini(self);
	self->h->mem_free(self->breakers);
	self->h->mem_free(self->targets);
	self->h->mem_free(self->deciders);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STORE, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_FETCH, CHATD_HTTP, CHATD_ROOMS, CHATD_PRESENCE,
	CHATD_LIMITER, CHATD_AUDIT, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_ONCE | CHATD_PLUGIN_LIVE,
	.name = "webhooks",
	.version = "0.1.0",
	.summary = "Webhooks: into rooms, out to other servers, and those that decide",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.drain = drain,
	.busy = busy,
	.worker_stop = worker_stop,
	.fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* What a back end may do over HTTP, with keys; and bots.  Options and life. */
#include "api.h"

#include <errno.h>

static const struct chatd_opt key_opts[] = {
	{ .key = "id",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf_key, id),
			.doc = "1 to 32 of a-z and 0-9; the key is ck_ID_SECRET." },
	{ .key = "secret",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET,
			.offset = offsetof(struct conf_key, secret),
			.doc = "At least 32 characters; env:NAME or file:PATH keep it out of this file." },
	{ .key = "name",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf_key, name),
			.doc = "What it is for, for people to read." },
	{ .key = "scopes",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf_key, scopes),
			.doc = "Of publish, broadcast, history, presence, rooms, users, disconnect, keys, as, "
				   "files." },
	{ .key = "per_minute",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf_key, per_minute),
			.fallback = "0",
			.max = 10000000,
			.doc = "Calls a minute; 0: as the option per_minute says." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "keys",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, keys),
			.sub = key_opts,
			.sub_size = sizeof(struct conf_key),
			.doc = "Keys that are there from the start; others are made over REST." },
	{ .key = "sender",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, sender),
			.fallback = "SYSTEM",
			.doc = "The user id that messages of the server itself come from." },
	{ .key = "recheck",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, recheck),
			.fallback = "2s",
			.min = 100,
			.max = 60000,
			.doc = "A key that is revoked on any node is refused on all after this time." },
	{ .key = "per_minute",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, per_minute),
			.fallback = "6000",
			.min = 1,
			.max = 10000000,
			.doc = "Calls a minute of a key that says nothing else; needs limit-rate." },
	{ .key = "keys_per_bot",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_keys),
			.fallback = "10",
			.min = 1,
			.max = 1000,
			.doc = "Keys that one bot may have." },
	{ 0 },
};

static chatd_status check_key(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf, size_t i)
{
	const struct conf_key *k = conf->keys.items, *c = &k[i];
	size_t n = strlen(c->id);
	if (n < 1 || n > (size_t)2 * KEY_ID ||
			strspn(c->id, "abcdefghijklmnopqrstuvwxyz0123456789") != n) {
		return h->conf_error(
				ctx, "keys", "\"%s\" cannot be a key's id; use 1 to 32 of a-z and 0-9", c->id);
	}
	if (strlen(c->secret) < 32 || strlen(c->secret) > 256) {
		return h->conf_error(ctx, "keys",
				"the secret of key %s has %zu characters; use 32 to 256: openssl rand -hex 32",
				c->id, strlen(c->secret));
	}
	for (size_t s = 0; c->scopes[s]; s++) {
		if (!scope_of(text(c->scopes[s]))) {
			return h->conf_error(ctx, "keys",
					"key %s: there is no scope \"%s\"; there are publish, broadcast, history, presence, "
					"rooms, users, disconnect, keys, as and files",
					c->id, c->scopes[s]);
		}
	}
	for (size_t other = 0; other < i; other++) {
		if (strcmp(k[other].id, c->id) == 0) {
			return h->conf_error(ctx, "keys", "two keys have the id \"%s\"", c->id);
		}
	}
	return 0;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = 0;
	if (!chatd_id_ok(text(conf->sender))) {
		rc = h->conf_error(ctx, "sender",
				"\"%s\" cannot be a user's id; use 1 to 64 letters, digits, _ and -", conf->sender);
	}
	for (size_t i = 0; i < conf->keys.n; i++) {
		chatd_status one = check_key(h, ctx, conf, i);
		rc = one < 0 ? one : rc;
	}
	return rc;
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
	self->http = h->service(ctx, CHATD_HTTP);
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	self->accounts = h->service(ctx, CHATD_ACCOUNTS);
	self->limiter = h->service(ctx, CHATD_LIMITER);
	self->cluster = h->service(ctx, CHATD_CLUSTER);
	self->audit = h->service(ctx, CHATD_AUDIT);
	const struct chatd_http *http = self->http->vt;
	if (!CHATD_HAS(http, call)) {
		return h->fail(ctx, -ENOTSUP, "the HTTP engine offers no calls from within");
	}
	chatd_status rc = keys_fixed(self);
	rc = rc < 0 ? rc : auth_init(self);
	rc = rc < 0 ? rc : people_init(self);
	return rc < 0 ? rc : routes_init(self);
}

static chatd_status worker_start(void *self, chatd_worker *w, void *wself)
{
	struct worker *at = wself;
	at->self = self;
	at->w = w;
	return auth_start(at);
}

static void drain(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	struct worker *at = wself;
	(void)w;
	if (at->self && self->h->stopping() == CHATD_SERVES) {
		auth_drain(at);
	}
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->open);
}

static void worker_stop(void *self, chatd_worker *w, void *wself)
{
	(void)self;
	(void)w;
	auth_stop(wself);
	keys_stop(wself);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->fixed);
	self->h->mem_free(self->routes);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STORE, CHATD_HTTP, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_ACCOUNTS, CHATD_LIMITER, CHATD_CLUSTER, CHATD_AUDIT,
	NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_ONCE | CHATD_PLUGIN_LIVE,
	.name = "api",
	.version = "0.1.0",
	.summary = "Calls for a back end over HTTP, keys with scopes, bots",
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

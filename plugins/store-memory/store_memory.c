/* SPDX-License-Identifier: Apache-2.0 */
/* A store that lasts as long as the process: the engine of store-sqlite in memory. */
#include "../store-sqlite/store.h"

#include <errno.h>

struct conf {
	int64_t max_messages, max_bytes;
	int64_t dedupe_window, anonymous_retention;
};

struct self {
	const struct chatd_host *h;
	struct engine *engine;
};

static const struct chatd_opt opts[] = {
	{ .key = "max_messages",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_messages),
			.fallback = "100000",
			.min = 1000,
			.max = 1000000000,
			.doc = "Messages and events that are kept in all; the oldest go first." },
	{ .key = "max_bytes",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_bytes),
			.fallback = "1 GiB",
			.min = 4 << 20,
			.max = INT64_C(1) << 40,
			.doc = "Memory for all of it; when it is used up, writes are refused." },
	{ .key = "dedupe_window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, dedupe_window),
			.fallback = "24h",
			.min = 600000,
			.max = INT64_C(366) * 86400000,
			.doc = "How long a clientId is remembered." },
	{ .key = "anonymous_retention",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, anonymous_retention),
			.fallback = "24h",
			.max = INT64_C(3660) * 86400000,
			.doc = "How long messages of anonymous senders are kept; 0: like all others." },
	{ 0 },
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	*ret_self = self;
	struct store_conf sc = { .commit_rows = 256,
		.commit_timeout = 5000,
		.dedupe_window = conf->dedupe_window,
		.anonymous_retention = conf->anonymous_retention,
		.back = { .max_bytes = conf->max_bytes },
		.max_messages = conf->max_messages };
	chatd_status rc = engine_start(h, ctx, &sc, &self->engine);
	return rc < 0 ? rc : engine_provide(self->engine);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	engine_leave(self->engine, w);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	engine_stop(self->engine);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_STORE, NULL };
static const char *const wants[] = { CHATD_CIPHER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "store-memory",
	.version = "0.1",
	.summary = "keeps messages, rooms and accounts as long as the process lasts",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.worker_stop = worker_stop,
	.fini = fini,
};

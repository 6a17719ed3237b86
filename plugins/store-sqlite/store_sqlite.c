/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite store on a disk: options and life. */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct conf {
	const char *path;
	int32_t synchronous; /* index into levels */
	int64_t commit_window, commit_rows, commit_timeout;
	int64_t dedupe_window, anonymous_retention;
	int64_t readers, min_free, read_timeout;
};

struct self {
	const struct chatd_host *h;
	struct engine *engine;
	char path[4096];
};

static const char *const levels[] = { "full", "normal", NULL };
enum { LEVEL_FULL, LEVEL_NORMAL };
#define DAYS_MS(n) (INT64_C(n) * 86400000)

static const struct chatd_opt opts[] = {
	{ .key = "path",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, path),
			.doc = "The database file; chatd.db in server.data_dir if absent." },
	{ .key = "synchronous",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, synchronous),
			.fallback = "full",
			.choices = levels,
			.doc = "full: what was acknowledged survives a loss of power; normal: a loss of power "
				   "may take what was written since the last checkpoint." },
	{ .key = "commit_window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, commit_window),
			.fallback = "2ms",
			.max = 1000,
			.doc = "Longest wait for others to share a commit; a call alone does not wait." },
	{ .key = "commit_rows",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, commit_rows),
			.fallback = "256",
			.min = 1,
			.max = 10000,
			.doc = "Calls in one commit at most." },
	{ .key = "commit_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, commit_timeout),
			.fallback = "5s",
			.min = 100,
			.max = 600000,
			.doc = "A write that takes longer is refused with STORE_BUSY." },
	{ .key = "dedupe_window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, dedupe_window),
			.fallback = "24h",
			.min = 600000,
			.max = DAYS_MS(366),
			.doc = "How long a clientId is remembered." },
	{ .key = "anonymous_retention",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, anonymous_retention),
			.fallback = "24h",
			.max = DAYS_MS(3660),
			.doc = "How long messages of anonymous senders are kept; 0: like all others." },
	{ .key = "readers",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, readers),
			.fallback = "2",
			.min = 1,
			.max = 64,
			.doc = "Threads that read, each with a connection of its own." },
	{ .key = "min_free",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, min_free),
			.fallback = "256 MiB",
			.max = INT64_C(1) << 50,
			.doc = "Below so much free space, or a twentieth of the disk if that is less, nothing "
				   "is written; 0: only when the disk is full." },
	{ .key = "read_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, read_timeout),
			.fallback = "1s",
			.min = 10,
			.max = 60000,
			.doc = "A read that takes longer is given up; the log cannot be emptied behind it." },
	{ 0 },
};

static chatd_status set_path(struct self *self, chatd_ctx *ctx, const struct conf *conf)
{
	int n = conf->path
			? snprintf(self->path, sizeof(self->path), "%s", conf->path)
			: snprintf(self->path, sizeof(self->path), "%s/chatd.db", self->h->data_dir());
	if (n < 0 || (size_t)n + 8 > sizeof(self->path)) {
		return self->h->fail(ctx, -ENAMETOOLONG, "path: is too long");
	}
	return 0;
}

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
	chatd_status rc = set_path(self, ctx, conf);
	struct store_conf sc = { .back = { .path = self->path,
									 .full_sync = conf->synchronous == LEVEL_FULL,
									 .min_free = conf->min_free },
		.commit_window = conf->commit_window,
		.commit_rows = conf->commit_rows,
		.commit_timeout = conf->commit_timeout,
		.dedupe_window = conf->dedupe_window,
		.anonymous_retention = conf->anonymous_retention,
		.readers = conf->readers,
		.read_timeout = conf->read_timeout };
	if (!sc.back.full_sync) {
		h->log(ctx, CHATD_LOG_WARN,
				"synchronous: normal: after a loss of power or a crash of the system, messages that "
				"were acknowledged since the last checkpoint may be missing");
	}
	rc = rc < 0 ? rc : engine_start(h, ctx, &sc, &self->engine);
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
	.flags = CHATD_PLUGIN_WAITS,
	.name = "store-sqlite",
	.version = "0.1",
	.summary = "keeps messages, rooms and accounts in an SQLite file",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.worker_stop = worker_stop,
	.fini = fini,
};

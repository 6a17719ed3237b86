/* SPDX-License-Identifier: Apache-2.0 */
/* The store on PostgreSQL: options and life. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct conf {
	const char *url, *password, *schema;
	int32_t synchronous; /* index into levels */
	int64_t commit_window, commit_rows, commit_timeout;
	int64_t dedupe_window, anonymous_retention;
	int64_t readers, read_timeout, start_timeout;
	const char *const *replicas;
	int64_t replica_lag;
};

struct self {
	const struct chatd_host *h;
	struct engine *engine;
	_Atomic(const char *) password;
};

static const char *const levels[] = { "on", "remote_apply", "local", "off", NULL };
enum { LEVEL_ON, LEVEL_REMOTE_APPLY, LEVEL_LOCAL, LEVEL_OFF };
#define DAYS_MS(n) (INT64_C(n) * 86400000)

static const struct chatd_opt opts[] = {
	{ .key = "url",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET,
			.offset = offsetof(struct conf, url),
			.doc = "postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full, or "
				   "host=... dbname=...; several hosts, separated by commas: the one that takes "
				   "writes is used." },
	{ .key = "password",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET | CHATD_O_LIVE,
			.offset = offsetof(struct conf, password),
			.doc = "The role's password, if it is not in url or a file of libpq's." },
	{ .key = "schema",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, schema),
			.fallback = "chatd",
			.doc = "Where the tables are: a-z, 0-9 and _, up to 48; made if it is not there." },
	{ .key = "synchronous_commit",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, synchronous),
			.fallback = "on",
			.choices = levels,
			.doc = "As PostgreSQL's: on: what was acknowledged survives a crash, and the loss of the "
				   "server if it has synchronous standbys; off: a crash may take the last moment." },
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
			.doc = "A write that takes longer, also because the database is not there, is refused "
				   "with STORE_BUSY." },
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
			.fallback = "4",
			.min = 1,
			.max = 64,
			.doc = "Threads that read, each with a connection of its own." },
	{ .key = "read_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, read_timeout),
			.fallback = "1s",
			.min = 10,
			.max = 60000,
			.doc = "A read that takes longer is given up." },
	{ .key = "start_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, start_timeout),
			.fallback = "60s",
			.max = 3600000,
			.doc = "How long the start waits for a database that is not there." },
	{ .key = "replicas",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, replicas),
			.fallback = "[]",
			.doc = "Standbys, as in url, that history, searches and lists of conversations are read "
				   "from; what they lack for a moment is not shown there." },
	{ .key = "replica_lag",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, replica_lag),
			.fallback = "1s",
			.max = 3600000,
			.doc = "A replica that is further behind is not asked." },
	{ 0 },
};

static chatd_status check_urls(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	char why[400];
	if (!url_ok(conf->url, why, sizeof(why))) {
		return h->fail(ctx, -EINVAL, "url: %s", why);
	}
	int n = 0;
	for (; conf->replicas[n]; n++) {
		if (!url_ok(conf->replicas[n], why, sizeof(why))) {
			return h->fail(ctx, -EINVAL, "replicas: number %d %s", n + 1, why);
		}
	}
	if (n > REPLICAS_MAX) {
		return h->fail(
				ctx, -EINVAL, "replicas: %d are given; up to %d are allowed", n, REPLICAS_MAX);
	}
	return 0;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const char *s = conf->schema;
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");
	if (!*s || s[n] || n > 48 || (*s >= '0' && *s <= '9') || strncmp(s, "pg_", 3) == 0) {
		return h->fail(ctx, -EINVAL,
				"schema: is \"%s\"; a-z, 0-9 and _, up to 48, beginning with a letter and not with "
				"pg_ are allowed",
				s);
	}
	return check_urls(h, ctx, conf);
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
	atomic_init(&self->password, conf->password);
	*ret_self = self;
	chatd_status rc = check(h, ctx, conf);
	struct store_conf sc = { .back = { .url = conf->url,
									 .password = &self->password,
									 .schema = conf->schema,
									 .synchronous_commit = levels[conf->synchronous],
									 .replicas = conf->replicas,
									 .replica_lag = conf->replica_lag,
									 .start_timeout = conf->start_timeout },
		.commit_window = conf->commit_window,
		.commit_rows = conf->commit_rows,
		.commit_timeout = conf->commit_timeout,
		.dedupe_window = conf->dedupe_window,
		.anonymous_retention = conf->anonymous_retention,
		.readers = conf->readers,
		.read_timeout = conf->read_timeout };
	if (conf->synchronous == LEVEL_OFF || conf->synchronous == LEVEL_LOCAL) {
		h->log(ctx, CHATD_LOG_WARN,
				"synchronous_commit: %s: messages that were acknowledged may be missing after %s",
				levels[conf->synchronous],
				conf->synchronous == LEVEL_OFF ? "a crash of the database"
											   : "the loss of its server, also with standbys");
	}
	rc = rc < 0 ? rc : engine_start(h, ctx, &sc, &self->engine);
	return rc < 0 ? rc : engine_provide(self->engine);
}

/* The connections that are there stay; the next ones take it. */
static chatd_status reload(void *selfp, const void *confp)
{
	struct self *self = selfp;
	const struct conf *conf = confp;
	atomic_store(&self->password, conf->password);
	return 0;
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
	.name = "store-postgres",
	.version = "0.1",
	.summary = "keeps messages, rooms and accounts in PostgreSQL, for any number of nodes",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.reload = reload,
	.worker_stop = worker_stop,
	.fini = fini,
};

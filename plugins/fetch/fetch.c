/* SPDX-License-Identifier: Apache-2.0 */
/* Options and life; the service itself. */
#include "fetch.h"

#include <chatd/stats.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static const struct chatd_opt opts[] = {
	{ .key = "request_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, request_timeout),
			.fallback = "5s",
			.min = 100,
			.max = 300000,
			.doc = "So long a request may take altogether, when its plugin says nothing else." },
	{ .key = "limit",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, limit),
			.fallback = "1000",
			.min = 1,
			.max = 100000,
			.doc = "Requests that may be under way on each worker; further ones are refused." },
	{ .key = "connections",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, connections),
			.fallback = "100",
			.min = 1,
			.max = 10000,
			.doc = "Connections that each worker may have open; further requests wait." },
	{ .key = "host_connections",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, host_connections),
			.fallback = "20",
			.min = 1,
			.max = 10000,
			.doc = "Of these, to one host and port." },
	{ .key = "ca_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, ca_file),
			.doc = "Certificates to trust instead of the system's, as PEM." },
	{ .key = "helper",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, helper),
			.doc = "The program that asks, instead of the chatd-fetch that was installed." },
	{ .key = "helper_socket",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, helper_socket),
			.doc = "Where helpers are started by somebody else, as another user or in another "
				   "network: a Unix socket that gives each connection a chatd-fetch of its own." },
	{ .key = "outside_hosts",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, outside_hosts),
			.fallback = "[]",
			.doc = "Hosts that may be asked for users: push.example.org, or *.example.org for all "
				   "below it; empty: any that is public." },
	{ .key = "outside_allow",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, outside_allow),
			.fallback = "[]",
			.doc = "HOST:PORT that users may have asked although it is not public, by http too." },
	{ 0 },
};

/* ---- counting ------------------------------------------------------------------------------ */

enum { ANSWERED, REFUSED, TIMED_OUT, FAILED, BUSY };

static const char *const results[RESULTS] = { "result=\"answered\"", "result=\"refused\"",
	"result=\"timeout\"", "result=\"failed\"", "result=\"busy\"" };

void count(struct wself *ws, chatd_status rc)
{
	struct self *self = ws->self;
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	int which = rc == 0        ? ANSWERED
			: rc == -EACCES    ? REFUSED
			: rc == -ETIMEDOUT ? TIMED_OUT
			: rc == -EAGAIN    ? BUSY
							   : FAILED;
	if (stats) {
		stats->add(self->stats->obj, ws->w, self->counters[which], 1);
	}
}

void count_start(struct wself *ws)
{
	struct self *self = ws->self;
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	if (stats) {
		stats->add(self->stats->obj, ws->w, self->starts, 1);
	}
}

static int64_t read_under_way(void *selfp, chatd_worker *w)
{
	const struct self *self = selfp;
	const struct wself *ws = self->h->worker_self(self->ctx, w);
	return ws->n;
}

static chatd_status define_numbers(struct self *self)
{
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	chatd_status rc = 0;
	for (int i = 0; stats && rc == 0 && i < RESULTS; i++) {
		const struct chatd_stat_def def = { .struct_size = sizeof(def),
			.kind = CHATD_STAT_COUNTER,
			.name = "chatd_fetch_requests_total",
			.labels = results[i],
			.help = "Requests to other servers, by what became of them." };
		rc = stats->define(self->stats->obj, self->ctx, &def, &self->counters[i]);
	}
	const struct chatd_stat_def starts = { .struct_size = sizeof(starts),
		.kind = CHATD_STAT_COUNTER,
		.name = "chatd_fetch_helper_starts_total",
		.help = "Processes that were started to ask other servers." };
	rc = rc < 0 || !stats ? rc : stats->define(self->stats->obj, self->ctx, &starts, &self->starts);
	const struct chatd_stat_def gauge = { .struct_size = sizeof(gauge),
		.kind = CHATD_STAT_GAUGE,
		.name = "chatd_fetch_under_way",
		.help = "Requests to other servers that are not answered yet.",
		.read = read_under_way,
		.arg = self };
	uint32_t id;
	return rc < 0 || !stats ? rc : stats->define(self->stats->obj, self->ctx, &gauge, &id);
}

/* ---- the service ---------------------------------------------------------------------------- */

static chatd_status check_url(
		void *obj, struct chatd_str url, uint32_t flags, struct chatd_str *ret_why)
{
	const struct self *self = obj;
	struct url u;
	const char *why = NULL;
	chatd_status rc = url_read(&u, url, flags, &self->rules, &why);
	url_finish(&u);
	if (rc < 0 && ret_why) {
		*ret_why = chatd_str_of(why, strlen(why));
	}
	return rc;
}

static chatd_status begin(
		struct wself *ws, const struct chatd_fetch_request *q, chatd_fetch_fn *fn, void *arg)
{
	struct url url;
	const char *why;
	if (ws->stopped) {
		return -ESHUTDOWN;
	}
	if (ws->n >= ws->self->conf->limit || keeper_is_broken(ws)) {
		return -EAGAIN;
	}
	chatd_status rc = url_read(&url, q->url, q->flags, &ws->self->rules, &why);
	url_finish(&url);
	return rc < 0 ? rc : call_start(ws, q, fn, arg);
}

static chatd_status fetch(void *obj, chatd_worker *w, const struct chatd_fetch_request *q,
		chatd_fetch_fn *fn, void *arg)
{
	const struct self *self = obj;
	struct wself *ws = self->h->worker_self(self->ctx, w);
	chatd_status rc = begin(ws, q, fn, arg);
	if (rc < 0) {
		count(ws, rc);
	}
	return rc;
}

static const struct chatd_fetch vt = {
	.struct_size = sizeof(vt),
	.fetch = fetch,
	.check = check_url,
};

/* ---- life ----------------------------------------------------------------------------------- */

static chatd_status check_helper(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const struct sockaddr_un un;
	chatd_status rc = 0;
	if (conf->helper && conf->helper_socket) {
		rc = h->conf_error(ctx, "helper_socket",
				"whoever serves it starts the helpers: take helper away, or this");
	}
	if (conf->helper && access(conf->helper, X_OK) < 0) {
		rc = h->conf_error(ctx, "helper", "\"%s\" is no program that this user can run: %s",
				conf->helper, strerror(errno));
	}
	if (conf->helper && strlen(conf->helper) >= PROGRAM_PATH) {
		rc = h->conf_error(ctx, "helper", "a path of less than %d bytes is needed", PROGRAM_PATH);
	}
	if (conf->helper_socket && strlen(conf->helper_socket) >= sizeof(un.sun_path)) {
		rc = h->conf_error(ctx, "helper_socket",
				"the path of a socket has less than %zu bytes; choose a shorter one",
				sizeof(un.sun_path));
	}
	return rc;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = check_helper(h, ctx, conf);
	for (size_t i = 0; conf->outside_hosts[i]; i++) {
		if (!url_pattern_ok(conf->outside_hosts[i])) {
			rc = h->conf_error(ctx, "outside_hosts",
					"\"%.80s\" is no host; write push.example.org, or *.example.org for all below it",
					conf->outside_hosts[i]);
		}
	}
	for (size_t i = 0; conf->outside_allow[i]; i++) {
		if (!url_allow_ok(conf->outside_allow[i])) {
			rc = h->conf_error(ctx, "outside_allow",
					"\"%.80s\" is no HOST:PORT; write 127.0.0.1:8090 or [::1]:8090",
					conf->outside_allow[i]);
		}
	}
	return rc;
}

/* The helper gets them with the rules: it may not be allowed to read the file. */
static chatd_status read_ca(struct self *self, char *to, size_t cap, size_t *ret_n)
{
	const char *path = self->conf->ca_file;
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = 0;
	*ret_n = 0;
	if (!path) {
		return 0;
	}
	while (fd >= 0 && *ret_n < cap && (n = read(fd, to + *ret_n, cap - *ret_n)) > 0) {
		*ret_n += (size_t)n;
	}
	chatd_status rc = fd < 0 || n < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	if (rc < 0) {
		return self->h->fail(
				self->ctx, rc, "ca_file: \"%s\" cannot be read: %s", path, strerror(-rc));
	}
	if (*ret_n == cap || !memmem(to, *ret_n, "-----BEGIN ", 11)) {
		return self->h->fail(self->ctx, -EINVAL,
				"ca_file: \"%s\" holds no certificates as PEM, or more than %d bytes", path,
				WIRE_CA_MAX);
	}
	return 0;
}

static chatd_status make_setup(struct self *self)
{
	const struct conf *conf = self->conf;
	const char *const *const lists[2] = { conf->outside_hosts, conf->outside_allow };
	char *ca = malloc(WIRE_CA_MAX);
	size_t n = 0;
	chatd_status rc = ca ? read_ca(self, ca, WIRE_CA_MAX, &n) : -ENOMEM;
	if (rc == 0) {
		self->setup = wire_setup_make((uint32_t)conf->connections, (uint32_t)conf->host_connections,
				lists, chatd_str_of(ca, n));
		rc = self->setup.p ? 0 : -ENOMEM;
	}
	free(ca);
	return rc;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.stats = h->service(ctx, CHATD_STATS),
		.rules = { conf->outside_hosts, conf->outside_allow } };
	*ret_self = self;
	chatd_status rc = keeper_find(self);
	rc = rc < 0 ? rc : make_setup(self);
	rc = rc < 0 ? rc : define_numbers(self);
	return rc < 0 ? rc : h->provide(ctx, CHATD_FETCH, &vt, self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	ws->self = selfp;
	ws->w = w;
	ws->fd = -1;
	TAILQ_INIT(&ws->waiting);
	TAILQ_INIT(&ws->sent);
	return 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	(void)selfp;
	(void)w;
	ws->stopped = 1;
	if (ws->self) {
		calls_end(ws, -ESHUTDOWN, "the server stops");
		keeper_stop(ws);
	}
}

/* What is under way ends by itself within its timeout. */
static int32_t busy(void *selfp)
{
	struct self *self = selfp;
	return atomic_load(&self->under_way) > 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	free((void *)(uintptr_t)self->setup.p);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_FETCH, NULL };
static const char *const wants[] = { CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "fetch",
	.version = "0.1",
	.summary = "asks other servers over HTTP: for push, webhooks and the like",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
	.busy = busy,
};

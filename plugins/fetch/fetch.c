/* SPDX-License-Identifier: Apache-2.0 */
/* Options and life; the service itself. */
#include "fetch.h"

#include <chatd/stats.h>
#include <errno.h>
#include <string.h>

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
	struct request *r = NULL;
	const char *why;
	if (ws->stopped) {
		return -ESHUTDOWN;
	}
	if (ws->n >= ws->self->conf->limit) {
		return -EAGAIN;
	}
	chatd_status rc = url_read(&url, q->url, q->flags, &ws->self->rules, &why);
	rc = rc < 0 ? rc : request_start(ws, q, &url, &r);
	url_finish(&url);
	if (rc < 0) {
		return rc;
	}
	r->fn = fn;
	r->arg = arg;
	rc = lane_add(r->lane, r);
	if (rc < 0) {
		request_free(r);
	}
	return rc;
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

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = 0;
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
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		h->mem_free(self);
		return h->fail(ctx, -ENOMEM, "libcurl cannot be set up");
	}
	*ret_self = self;
	chatd_status rc = define_numbers(self);
	return rc < 0 ? rc : h->provide(ctx, CHATD_FETCH, &vt, self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	ws->self = selfp;
	ws->w = w;
	chatd_status rc = lane_start(&ws->ours, ws);
	return rc < 0 ? rc : lane_start(&ws->outside, ws);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	(void)selfp;
	(void)w;
	ws->stopped = 1;
	if (ws->self) {
		lane_stop(&ws->ours);
		lane_stop(&ws->outside);
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
	curl_global_cleanup();
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_FETCH, NULL };
static const char *const wants[] = { CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
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

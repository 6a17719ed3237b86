/* SPDX-License-Identifier: Apache-2.0 */
/* Options, counting and life. */
#include "push.h"

#include <sodium.h>

/* What browsers name: Chrome, Firefox, Safari, Edge. */
#define SERVICES                                                                   \
	"[fcm.googleapis.com, \"*.push.services.mozilla.com\", \"*.push.apple.com\", " \
	"\"*.notify.windows.com\"]"

static const struct chatd_opt opts[] = {
	{ .key = "subject",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, subject),
			.doc = "Whom push services may turn to: mailto:ADDRESS or an https URL; some refuse "
				   "pushes without it." },
	{ .key = "vapid_key",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, vapid_key),
			.doc = "The private key (P-256, 32 bytes as base64url) that push services know this "
				   "server by; without it one is made and kept in the store." },
	{ .key = "hosts",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, hosts),
			.fallback = SERVICES,
			.doc = "Push services that browsers may name: push.example.org, or *.example.org for "
				   "all below it; empty: any that fetch lets pass." },
	{ .key = "text",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, text),
			.fallback = "true",
			.doc = "Say what was written, unless it is encrypted; else only by whom and where." },
	{ .key = "grace",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, grace),
			.fallback = "5s",
			.max = 3600000,
			.doc = "Who comes back within this time, or reads it, is not told." },
	{ .key = "recent",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, recent),
			.fallback = "1m",
			.max = 3600000,
			.doc = "What came so long before presence knew that somebody has left, and is unread, "
				   "is told then; 0s: never." },
	{ .key = "interval",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, interval),
			.fallback = "2s",
			.min = 50,
			.max = 3600000,
			.doc = "How often it is looked who of a conversation is absent, at most." },
	{ .key = "ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, ttl),
			.fallback = "24h",
			.max = INT64_C(2419200000),
			.doc = "So long a push service keeps a push for a device that is off." },
	{ .key = "queue",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, queue),
			.fallback = "10000",
			.min = 1,
			.max = 10000000,
			.doc = "Users and conversations that may wait on each node; more are not told." },
	{ .key = "concurrency",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, concurrency),
			.fallback = "100",
			.min = 1,
			.max = 1000,
			.doc = "Of these, how many are told at once." },
	{ .key = "tries",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, tries),
			.fallback = "3",
			.min = 1,
			.max = 20,
			.doc = "Attempts before a push is given up; refusals for good are not repeated." },
	{ .key = "retry",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, retry),
			.fallback = "10s",
			.min = 10,
			.max = 3600000,
			.doc = "The pause before the second attempt; it is four times as long each time, or as "
				   "the push service says." },
	{ .key = "webhook_url",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, webhook_url),
			.doc = "A gateway of your own that passes pushes on to FCM, APNs or others." },
	{ .key = "webhook_secret",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, webhook_secret),
			.doc = "Signs what goes there: 16 bytes or more." },
	{ 0 },
};

static const char *const results[RESULTS] = { "result=\"delivered\"", "result=\"gone\"",
	"result=\"refused\"", "result=\"retried\"", "result=\"given_up\"", "result=\"not_needed\"",
	"result=\"quiet\"", "result=\"full\"" };

void count(struct wself *ws, enum result which)
{
	struct self *self = ws->self;
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	if (stats) {
		stats->add(self->stats->obj, ws->w, self->counters[which], 1);
	}
}

static int64_t read_waiting(void *selfp, chatd_worker *w)
{
	struct self *self = selfp;
	return self->h->worker_index(w) == 0 ? atomic_load(&self->waiting) : 0;
}

static chatd_status define_numbers(struct self *self)
{
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	chatd_status rc = 0;
	uint32_t id;
	for (int i = 0; stats && rc == 0 && i < RESULTS; i++) {
		const struct chatd_stat_def def = {
			.struct_size = sizeof(def),
			.kind = CHATD_STAT_COUNTER,
			.name = "chatd_push_total",
			.labels = results[i],
			.help = "Pushes to subscriptions, and users who were not told, by what became of them."
		};
		rc = stats->define(self->stats->obj, self->ctx, &def, &self->counters[i]);
	}
	const struct chatd_stat_def gauge = { .struct_size = sizeof(gauge),
		.kind = CHATD_STAT_GAUGE,
		.name = "chatd_push_waiting",
		.help = "Users and conversations that wait to be told of, as far as this node knows.",
		.read = read_waiting,
		.arg = self };
	return rc < 0 || !stats ? rc : stats->define(self->stats->obj, self->ctx, &gauge, &id);
}

void job_key(const char *user, const struct place *p, char ret[JOB_KEY])
{
	snprintf(ret, JOB_KEY, "%s/%s%s", user,
			p->room[0] ? "r:" : "u:", p->room[0] ? p->room : p->with);
}

static void on_released(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)arg;
	(void)rc;
	(void)a;
}

void sub_release(const struct self *self, chatd_worker *w, const char *user, const char *id)
{
	struct chatd_store_record_key k = key_of_record(self, SPACE_SUB, id);
	k.owner = text(user);
	(void)store_of(self)->record_end(self->store->obj, w, &k, on_released, NULL);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	uint8_t scalar[SCALAR];
	struct vapid v;
	chatd_status rc = 0;
	if (conf->subject && strncmp(conf->subject, "mailto:", 7) != 0 &&
			strncmp(conf->subject, "https://", 8) != 0) {
		rc = h->conf_error(ctx, "subject",
				"\"%.80s\" is neither; write mailto:admin@example.org or https://example.org/contact",
				conf->subject);
	}
	if (conf->subject && strlen(conf->subject) > 200) {
		rc = h->conf_error(ctx, "subject", "it has more than 200 bytes");
	}
	if (conf->vapid_key) {
		if (base64_take(text(conf->vapid_key), scalar, SCALAR) < 0 || vapid_read(scalar, &v) < 0) {
			rc = h->conf_error(ctx, "vapid_key",
					"it is no private key of P-256; give its 32 bytes as base64url, as the command "
					"\"npx web-push generate-vapid-keys\" prints it");
		} else {
			vapid_finish(&v);
		}
	}
	if (!conf->webhook_url != !conf->webhook_secret) {
		rc = h->conf_error(ctx, conf->webhook_url ? "webhook_secret" : "webhook_url",
				"webhook_url and webhook_secret go together; give both or none");
	}
	if (conf->webhook_secret && strlen(conf->webhook_secret) < 16) {
		rc = h->conf_error(ctx, "webhook_secret",
				"it has less than 16 bytes; make one with openssl rand -hex 32");
	}
	return rc;
}

static chatd_status look_at_webhook(const struct self *self)
{
	const struct chatd_fetch *f = self->fetch->vt;
	struct chatd_str why = { NULL, 0 };
	const char *url = self->conf->webhook_url;
	if (url && f->check(self->fetch->obj, text(url), 0, &why) < 0) {
		return self->h->fail(
				self->ctx, -EINVAL, "webhook_url \"%.200s\": %.*s", url, (int)why.n, why.p);
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
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.store = h->service(ctx, CHATD_STORE),
		.fetch = h->service(ctx, CHATD_FETCH),
		.http = h->service(ctx, CHATD_HTTP),
		.presence = h->service(ctx, CHATD_PRESENCE),
		.log = h->service(ctx, CHATD_LOG),
		.stats = h->service(ctx, CHATD_STATS),
		.privacy = h->service(ctx, CHATD_PRIVACY) };
	*ret_self = self;
	const struct chatd_log *log = self->log->vt;
	if (sodium_init() < 0) {
		return h->fail(ctx, -EIO, "libsodium cannot be set up");
	}
	chatd_status rc = look_at_webhook(self);
	rc = rc < 0 ? rc : define_numbers(self);
	rc = rc < 0 ? rc : log->stored(self->log->obj, news_row, self);
	const struct chatd_presence *presence = self->presence->vt;
	rc = rc < 0 ? rc : presence->watch(self->presence->obj, leave_event, self);
	return rc < 0 ? rc : rest_init(self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	ws->self = selfp;
	ws->w = w;
	keys_start(ws);
	return queue_start(ws);
}

/* At the server's end pushes go on as long as it drains. */
static void drain(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	const struct self *self = selfp;
	(void)w;
	if (ws->self && self->h->stopping() == CHATD_SERVES) {
		ws->drains = 1;
		queue_drain(ws);
	}
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->open);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	(void)selfp;
	(void)w;
	if (!ws->self) {
		return;
	}
	ws->stopped = 1;
	queue_stop(ws);
	news_stop(ws);
	keys_stop(ws);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STORE, CHATD_LOG, CHATD_PRESENCE, CHATD_HTTP,
	CHATD_FETCH, NULL };
static const char *const wants[] = { CHATD_STATS, CHATD_PRIVACY, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_ONCE | CHATD_PLUGIN_LIVE,
	.name = "push",
	.version = "0.1",
	.summary = "tells who is absent that something was said: Web Push, and a webhook for gateways",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.drain = drain,
	.busy = busy,
	.worker_stop = worker_stop,
	.fini = fini,
};

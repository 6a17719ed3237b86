/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin: options, and the codec as a service. */
#include "render.h"
#include "stomp.h"
#include <errno.h>
#include <string.h>

static const struct chatd_opt opts[] = {
	{ .key = "max_frame",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct stomp_conf, max_frame),
			.fallback = "64 KiB",
			.min = 1024,
			.max = 1 << 30,
			.doc = "The largest frame that a client may send, headers included; before the login "
				   "8 KiB at most." },
	{ .key = "max_header_lines",
			.type = CHATD_T_INT,
			.offset = offsetof(struct stomp_conf, max_header_lines),
			.fallback = "64",
			.min = 8,
			.max = STOMP_HEADERS_CEILING,
			.doc = "How many headers a frame may have." },
	{ .key = "max_transaction",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct stomp_conf, max_transaction),
			.fallback = "1 MiB",
			.min = 1024,
			.max = 1 << 30,
			.doc = "What the open transactions of one connection may hold together." },
	{ .key = "heartbeat",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct stomp_conf, heartbeat),
			.fallback = "10s",
			.max = 3600000,
			.doc = "The heart-beat interval that is offered in both directions; 0 offers none." },
	{ .key = "heartbeat_min",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct stomp_conf, heartbeat_min),
			.fallback = "1s",
			.min = 100,
			.max = 3600000,
			.doc = "The shortest interval that a client gets, whatever it asks for." },
	{ .key = "connect_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct stomp_conf, connect_timeout),
			.fallback = "10s",
			.min = 100,
			.max = 3600000,
			.doc = "How long a connection may go without a complete CONNECT frame." },
	{ .key = "frame_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct stomp_conf, frame_timeout),
			.fallback = "30s",
			.min = 100,
			.max = 3600000,
			.doc = "How long a frame may take from its first octet to its last." },
	{ .key = "server_header",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct stomp_conf, server_header),
			.fallback = "chatd/0.1.0",
			.doc = "The server header of CONNECTED; empty: none." },
	{ .key = "max_strangers",
			.type = CHATD_T_INT,
			.offset = offsetof(struct stomp_conf, max_strangers),
			.fallback = "0",
			.max = 10000000,
			.doc = "Connections in total, but for this machine's own, that have not logged in; 0: any." },
	{ 0 },
};

static chatd_status stomp_check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct stomp_conf *conf = confp;
	if (conf->heartbeat && conf->heartbeat < conf->heartbeat_min) {
		return h->conf_error(ctx, "heartbeat",
				"heartbeat is shorter than heartbeat_min; make it 0 (none) or longer");
	}
	for (const char *p = conf->server_header; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			return h->conf_error(ctx, "server_header",
					"the text goes into a header: it cannot have control characters");
		}
	}
	return 0;
}

static const char *const rejections[STOMP_FAULT_COUNT] = {
	[STOMP_OK] = CHATD_REJECTION("stomp", "OTHER"),
#define CHATD_X(name, message, code, close) [STOMP_##name] = CHATD_REJECTION("stomp", code),
	STOMP_FAULT_MAP(CHATD_X)
#undef CHATD_X
};

static chatd_status stomp_init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct stomp *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return h->fail(ctx, -ENOMEM, "out of memory");
	}
	const struct chatd_service *sessions = h->service(ctx, CHATD_SESSIONS);
	*self = (struct stomp){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.sessions = sessions->vt,
		.sessions_obj = sessions->obj,
		.stats = h->service(ctx, CHATD_STATS) };
	*ret_self = self;
	self->strangers = h->mem_alloc(sizeof(*self->strangers));
	if (!self->strangers) {
		return h->fail(ctx, -ENOMEM, "out of memory");
	}
	chatd_status rc =
			chatd_stats_rejections(self->stats, ctx, rejections, STOMP_FAULT_COUNT, self->rejected);
	if (rc < 0) {
		return h->fail(ctx, rc, "its counters cannot be had");
	}
	render_init(h);
	return h->provide(ctx, CHATD_CODEC_STOMP, &stomp_codec, self);
}

static chatd_status stomp_worker_start(void *self, chatd_worker *w, void *wself)
{
	struct stomp_worker *sw = wself;
	sw->self = self;
	sw->w = w;
	return 0;
}

static void stomp_fini(void *selfp)
{
	struct stomp *self = selfp;
	self->h->mem_free(self->strangers);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_CODEC_STOMP, NULL };
static const char *const needs[] = { CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "stomp",
	.version = "0.1.0",
	.summary = "STOMP 1.0, 1.1 and 1.2 for every transport",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct stomp_conf),
	.worker_size = sizeof(struct stomp_worker),
	.check = stomp_check,
	.init = stomp_init,
	.worker_start = stomp_worker_start,
	.fini = stomp_fini,
};

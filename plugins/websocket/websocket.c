/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin: options, life, and the draining of its connections. */
#include "conn.h"
#include "endpoint.h"
#include "service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_LEN_MAX 200

static const struct chatd_opt options[] = {
	{ .key = "path",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct ws_conf, path),
			.fallback = "/ws-chat",
			.doc = "STOMP is spoken at this path and at PATH/websocket." },
	{ .key = "max_message",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct ws_conf, max_message),
			.fallback = "0",
			.doc = "Largest message of a client, all fragments together; 0: what the codec takes." },
	{ .key = "ping",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct ws_conf, ping),
			.fallback = "25s",
			.doc = "A client that is silent this long gets a ping; 0: never." },
	{ .key = "pong",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct ws_conf, pong),
			.fallback = "10s",
			.min = 100,
			.max = 3600000,
			.doc = "A client that is silent this long after a ping is cut off." },
	{ .key = "max_queue",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct ws_conf, max_queue),
			.fallback = "512 KiB",
			.doc = "A client for which more than this waits is closed (4500); 0: no limit." },
	{ .key = "stall",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct ws_conf, stall),
			.fallback = "10s",
			.doc = "A client that takes nothing of what waits for this long is cut off; 0: never." },
	{ .key = NULL },
};

static chatd_status websocket_check(const struct chatd_host *host, chatd_ctx *ctx, const void *conf)
{
	const struct ws_conf *c = conf;
	size_t n = strlen(c->path);
	if (n < 2 || n > PATH_LEN_MAX || c->path[0] != '/' || c->path[n - 1] == '/' ||
			strpbrk(c->path, "{}?#% "))
		return host->conf_error(ctx, "path",
				"\"%s\" is no path: write it like \"/ws-chat\", without a slash at the end",
				c->path);
	return 0;
}

static chatd_status websocket_init(
		const struct chatd_host *host, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct ws_plugin *plugin = calloc(1, sizeof(*plugin));
	if (!plugin)
		return host->fail(ctx, -ENOMEM, "out of memory");
	plugin->host = host;
	plugin->ctx = ctx;
	plugin->conf = conf;
	plugin->http = host->service(ctx, CHATD_HTTP);
	plugin->codec = host->service(ctx, CHATD_CODEC_STOMP);
	plugin->stats = host->service(ctx, CHATD_STATS);
	const struct chatd_codec *codec = plugin->codec->vt;
	plugin->max_message = (size_t)plugin->conf->max_message;
	if (plugin->max_message == 0)
		plugin->max_message = codec->max_frame(plugin->codec->obj);
	endpoint_use_host(host);
	*ret_self = plugin;
	chatd_status rc = chatd_stats_rejections(
			plugin->stats, ctx, conn_rejections, CONN_REJECTIONS, plugin->rejected);
	if (rc < 0)
		return host->fail(ctx, rc, "its counters cannot be had");
	rc = host->provide(ctx, CHATD_WEBSOCKET, &service_table, plugin);
	return rc ? rc : endpoint_open(plugin);
}

static void websocket_fini(void *self)
{
	free(self);
}

static chatd_status websocket_worker_start(void *self, chatd_worker *worker, void *wself)
{
	struct ws_plugin *plugin = self;
	struct ws_worker *ww = wself;
	ww->plugin = plugin;
	ww->worker = worker;
	ww->ping = plugin->host->buf_new(0, 2);
	if (!ww->ping)
		return plugin->host->fail(plugin->ctx, -ENOMEM, "out of memory");
	frame_header(plugin->host->buf_data(ww->ping), FRAME_PING, 0);
	return 0;
}

static void websocket_worker_stop(void *self, chatd_worker *worker, void *wself)
{
	const struct ws_plugin *plugin = self;
	struct ws_worker *ww = wself;
	(void)worker;
	plugin->host->timer_clear(&ww->drain_timer);
	while (ww->open)
		conn_abandon(ww->open);
	while (ww->closing)
		conn_abandon(ww->closing);
	plugin->host->buf_unref(ww->ping);
	ww->ping = NULL;
}

static void on_drain_tick(void *arg)
{
	struct ws_worker *ww = arg;
	const struct chatd_host *host = ww->plugin->host;
	for (size_t due = chatd_pace_due(&ww->pace, host->now_ms(ww->worker)); due && ww->open; due--)
		conn_drain(ww->open);
	if (ww->open)
		host->timer_set(ww->worker, &ww->drain_timer, CHATD_PACE_TICK_MS, on_drain_tick, ww);
}

static void websocket_drain(void *self, chatd_worker *worker, void *wself)
{
	const struct ws_plugin *plugin = self;
	struct ws_worker *ww = wself;
	ww->draining = 1;
	chatd_pace_begin(
			&ww->pace, ww->n_open, plugin->host->drain_spread(), plugin->host->now_ms(worker));
	on_drain_tick(ww);
}

static const char *const provides[] = { CHATD_WEBSOCKET, NULL };
static const char *const needs[] = { CHATD_HTTP, CHATD_CODEC_STOMP, NULL };
static const char *const wants[] = { CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "websocket",
	.version = "0.1.0",
	.summary = "STOMP over WebSocket, and WebSocket connections for other plugins",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = options,
	.conf_size = sizeof(struct ws_conf),
	.worker_size = sizeof(struct ws_worker),
	.check = websocket_check,
	.init = websocket_init,
	.worker_start = websocket_worker_start,
	.drain = websocket_drain,
	.worker_stop = websocket_worker_stop,
	.fini = websocket_fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin: HTTP/1.1 on the server's own streams. */
#include "engine.h"

#include <chatd/plugins.h>
#include <chatd/store.h>

#include <errno.h>
#include <stdlib.h>

#define HTTP_TLS_FLAGS CHATD_O_PATH /* the core reads the files again by itself */

static const struct chatd_opt options[] = {
#include "options.inc"
	{ .key = NULL },
};

static chatd_status on_init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct http *http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	*ret_self = http;
	static const struct engine_way way = { .accepted = conn_accepted, .tls = true };
	return engine_init(http, h, ctx, conf, &way);
}

static void on_fini(void *self)
{
	engine_finish(self);
	free(self);
}

static chatd_status on_worker_start(void *self, chatd_worker *worker, void *wself)
{
	engine_worker_start(self, worker, wself);
	return 0;
}

static void on_drain(void *self, chatd_worker *worker, void *wself)
{
	(void)self;
	(void)worker;
	conn_drain(wself);
}

static void on_worker_stop(void *self, chatd_worker *worker, void *wself)
{
	(void)self;
	(void)worker;
	engine_worker_stop(wself);
}

static const char *const provides[] = { CHATD_HTTP, NULL };
static const char *const needs[] = { CHATD_NET, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_PLUGINS, CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "http",
	.version = "0.1.0",
	.summary = "HTTP/1.1: routes for plugins, upgrades, health pages",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = options,
	.conf_size = sizeof(struct http_conf),
	.worker_size = sizeof(struct http_worker),
	.check = engine_check,
	.init = on_init,
	.worker_start = on_worker_start,
	.drain = on_drain,
	.worker_stop = on_worker_stop,
	.fini = on_fini,
};

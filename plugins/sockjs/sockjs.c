/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/sockjs.h>

#include "conn.h"
#include "internal.h"
#include "peers.h"
#include "session.h"
#include "urls.h"
#include "wsconn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BYTES   65536
#define FRAMES_PER_BODY 8

static const char *const iframe_choices[] = { "off", "same-origin", "any", NULL };

#define OPT(k, t, field, def, text)                                                               \
	{                                                                                             \
		.key = k, .type = t, .offset = offsetof(struct conf, field), .fallback = def, .doc = text \
	}
static const struct chatd_opt opts[] = {
	OPT("path", CHATD_T_STRING, path, "/ws-chat", "Where STOMP over SockJS is served."),
	OPT("cookie", CHATD_T_BOOL, cookie, "false",
			"Set a JSESSIONID cookie, for load balancers that keep clients apart by it."),
	OPT("jsonp", CHATD_T_BOOL, jsonp, "false",
			"Serve jsonp and jsonp_send too; browsers name no origin there, so none can be refused."),
	OPT("htmlfile", CHATD_T_BOOL, htmlfile, "true", "Serve htmlfile too, for old browsers."),
	{ .key = "iframe",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, iframe),
			.fallback = "same-origin",
			.choices = iframe_choices,
			.doc = "Who may embed the page for iframes: nobody (there is none), pages of the same "
				   "origin, or any." },
	OPT("script", CHATD_T_STRING, script, "/vendor/sockjs-client/sockjs.min.js",
			"URL of the client library, for the iframe page."),
	OPT("heartbeat", CHATD_T_DURATION, heartbeat, "25s",
			"A client hears something at least this often, unless STOMP heart-beats do that; 0: "
			"never."),
	OPT("disconnect_delay", CHATD_T_DURATION, disconnect_delay, "5s",
			"How long a session outlives its last receiving request."),
	OPT("stream_limit", CHATD_T_SIZE, stream_limit, "128 KiB",
			"A streamed answer ends after so many bytes, and the client asks for the next."),
	OPT("max_queue", CHATD_T_SIZE, max_queue, "512 KiB",
			"Bytes kept for a client between its requests; more than that closes it with 4500."),
	OPT("max_body", CHATD_T_SIZE, max_body, "0",
			"Largest request body or WebSocket message; 0: room for eight STOMP frames of the largest "
			"size."),
	OPT("forward", CHATD_T_BOOL, forward, "true",
			"In a cluster, pass requests that came to another node than their session's on to it; "
			"without route-rabbitmq and redis, or with false, the balancer must not send them astray."),
	{ .key = NULL },
};
#undef OPT

/** A path may hold what needs no escaping, so that it can be compared byte by byte. */
static bool is_path(const char *p)
{
	size_t n = strlen(p);
	return n > 1 && p[0] == '/' && p[n - 1] != '/' &&
			strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/") == n &&
			!strstr(p, "//");
}

static chatd_status sockjs_check(const struct chatd_host *host, chatd_ctx *ctx, const void *arg)
{
	const struct conf *conf = arg;
	chatd_status rc = 0;
	if (!is_path(conf->path))
		rc = host->conf_error(ctx, "path",
				"must begin with a slash, not end with one, and have only letters, digits and -._~");
	if (strpbrk(conf->script, "\"<>&") ||
			(conf->script[0] != '/' && strncmp(conf->script, "http", 4)))
		rc = host->conf_error(ctx, "script", "must be a URL that begins with / or http");
	if (conf->disconnect_delay < 1)
		rc = host->conf_error(ctx, "disconnect_delay", "must be more than 0");
	return rc;
}

/* ---- endpoints --------------------------------------------------------- */

static chatd_status add_routes(struct sockjs *self, struct endpoint *ep)
{
	const uint32_t any =
			CHATD_GET | CHATD_POST | CHATD_PUT | CHATD_PATCH | CHATD_DELETE | CHATD_OPTIONS;
	char *below = malloc(ep->prefix_len + sizeof("/{rest*}"));
	if (!below)
		return -ENOMEM;
	memcpy(below, ep->prefix, ep->prefix_len);
	memcpy(below + ep->prefix_len, "/{rest*}", sizeof("/{rest*}"));
	/* One route for all of it, because a 404 comes before a 405 here; and the body is
	 * streamed, because one that is too big ends its session.  The engine's own errors have no
	 * body, as the protocol's tests want it. */
	struct chatd_route route = {
		.struct_size = sizeof(route),
		.methods = any,
		.flags = CHATD_HTTP_STREAM | CHATD_HTTP_BARE,
		.path = below,
		.max_body = SIZE_MAX / 2,
		.handle = urls_handle,
		.arg = ep,
	};
	chatd_status rc = self->http->route(self->http_obj, self->ctx, &route);
	/* GET on the path of STOMP itself is the plain WebSocket's. */
	if (!rc && !ep->stomp) {
		route.path = ep->prefix;
		rc = self->http->route(self->http_obj, self->ctx, &route);
	}
	free(below);
	return rc;
}

static struct endpoint *endpoint_new(struct sockjs *self, const char *prefix)
{
	struct endpoint *ep = calloc(1, sizeof(*ep));
	if (!ep)
		return NULL;
	ep->self = self;
	ep->prefix = strdup(prefix);
	if (!ep->prefix) {
		free(ep);
		return NULL;
	}
	ep->prefix_len = strlen(prefix);
	ep->number = self->endpoint_count++;
	ep->next = self->endpoints;
	self->endpoints = ep;
	return ep;
}

static size_t body_limit(const struct sockjs *self, size_t least)
{
	size_t limit = self->conf->max_body ? (size_t)self->conf->max_body : DEFAULT_BYTES;
	return limit > least ? limit : least;
}

static chatd_status add_stomp(struct sockjs *self)
{
	struct endpoint *ep = endpoint_new(self, self->conf->path);
	if (!ep)
		return -ENOMEM;
	ep->stomp = ep->websocket = true;
	ep->cookie = self->conf->cookie;
	ep->stream_limit = (size_t)self->conf->stream_limit;
	/* The stock client puts all that waits into one body, and JSON makes a frame longer. */
	ep->max_body = self->conf->max_body ? (size_t)self->conf->max_body
										: FRAMES_PER_BODY * self->codec->max_frame(self->codec_obj);
	return add_routes(self, ep);
}

static chatd_status on_endpoint(void *obj, chatd_ctx *ctx, const struct chatd_sockjs_app *app)
{
	struct sockjs *self = obj;
	if (!app->prefix || !is_path(app->prefix) || !app->open || !app->message || !app->gone)
		return self->host->fail(ctx, -EINVAL,
				"a SockJS endpoint needs a path such as \"/echo\", and open(), message() and gone()");
	struct endpoint *ep = endpoint_new(self, app->prefix);
	if (!ep)
		return -ENOMEM;
	memcpy(&ep->app, app, app->struct_size < sizeof(*app) ? app->struct_size : sizeof(*app));
	ep->app.prefix = ep->prefix;
	ep->websocket = app->websocket;
	ep->cookie = app->cookie;
	ep->stream_limit = app->response_limit ? app->response_limit : (size_t)self->conf->stream_limit;
	ep->max_message = app->max_message ? app->max_message : DEFAULT_BYTES;
	ep->max_body = body_limit(self, ep->max_message);
	return add_routes(self, ep);
}

static const struct chatd_sockjs service = {
	.struct_size = sizeof(service),
	.endpoint = on_endpoint,
	.send = conn_service_send,
	.close = conn_service_close,
};

/* ---- life -------------------------------------------------------------- */

static void sockjs_fini(void *arg)
{
	struct sockjs *self = arg;
	for (struct endpoint *ep = self->endpoints, *next; ep; ep = next) {
		next = ep->next;
		free(ep->prefix);
		free(ep);
	}
	urls_finish(self);
	free(self);
}

static chatd_status sockjs_init(
		const struct chatd_host *host, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct sockjs *self = calloc(1, sizeof(*self));
	if (!self)
		return -ENOMEM;
	*ret_self = self;
	self->host = host;
	self->ctx = ctx;
	self->conf = conf;
	const struct chatd_service *http = host->service(ctx, CHATD_HTTP);
	const struct chatd_service *ws = host->service(ctx, CHATD_WEBSOCKET);
	const struct chatd_service *codec = host->service(ctx, CHATD_CODEC_STOMP);
	self->http = http->vt;
	self->http_obj = http->obj;
	self->ws = ws->vt;
	self->ws_obj = ws->obj;
	self->codec = codec->vt;
	self->codec_obj = codec->obj;
	host->random(self->hash_key, sizeof(self->hash_key));
	session_setup(host);
	wsconn_setup(host, self->ws);
	int rc = urls_setup(self);
	if (!rc)
		rc = add_stomp(self);
	if (!rc)
		rc = peers_setup(self);
	return rc < 0 ? rc : host->provide(ctx, CHATD_SOCKJS, &service, self);
}

static chatd_status sockjs_worker_start(void *arg, chatd_worker *w, void *wself)
{
	peers_start(arg, w, wself);
	return 0;
}

static void sockjs_drain(void *arg, chatd_worker *w, void *wself)
{
	session_drain(arg, w, wself);
}

static void sockjs_worker_stop(void *arg, chatd_worker *w, void *wself)
{
	(void)w;
	session_stop(arg, wself);
}

static const char *const provides[] = { CHATD_SOCKJS, NULL };
static const char *const wants[] = { CHATD_CLUSTER, CHATD_REDIS, CHATD_STATS, NULL };
static const char *const needs[] = { CHATD_HTTP, CHATD_WEBSOCKET, CHATD_CODEC_STOMP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "sockjs",
	.version = "0.1.0",
	.summary = "STOMP and other endpoints over SockJS, on every transport a browser may have",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker_state),
	.check = sockjs_check,
	.init = sockjs_init,
	.worker_start = sockjs_worker_start,
	.drain = sockjs_drain,
	.worker_stop = sockjs_worker_stop,
	.fini = sockjs_fini,
};

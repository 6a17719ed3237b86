/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <chatd/plugins.h>
#include <chatd/store.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPT(field_, key_, type_, fallback_, doc_)                                 \
	.key = (key_), .type = (type_), .offset = offsetof(struct http_conf, field_), \
	.fallback = (fallback_), .doc = (doc_)

static const char *const proxy_headers[] = { "auto", "x-forwarded-for", "forwarded", "x-real-ip",
	NULL };

static const struct chatd_opt options[] = {
	{ OPT(listen, "listen", CHATD_T_STRINGS, "[\"127.0.0.1:8080\"]",
			  "Addresses to serve at: \"0.0.0.0:80\", \"[::]:80\", \"unix:/path\"; port 0 is any."),
			.flags = CHATD_O_LISTEN },
	{ OPT(tls_cert, "tls_cert", CHATD_T_STRING, NULL,
			  "PEM file with the certificate chain; with it, every address speaks TLS."),
			.flags = CHATD_O_PATH },
	{ OPT(tls_key, "tls_key", CHATD_T_STRING, NULL, "PEM file with the certificate's key."),
			.flags = CHATD_O_PATH },
	{ OPT(trusted, "trusted_proxies", CHATD_T_STRINGS, "[]",
			"Addresses or CIDR blocks of proxies whose word on the client is believed.") },
	{ OPT(proxy_protocol, "proxy_protocol", CHATD_T_BOOL, "false",
			"Require a PROXY protocol header from the trusted proxies.") },
	{ OPT(proxy_header, "proxy_header", CHATD_T_CHOICE, "auto",
			  "The header in which trusted proxies name the client; auto: the first that is there."),
			.choices = proxy_headers },
	{ OPT(origins, "allowed_origins", CHATD_T_STRINGS, "[]",
			"Sites besides this one that may use the server, \"https://example.com\"; \"*\": any.") },
	{ OPT(cors, "cors", CHATD_T_BOOL, "true",
			"Send Access-Control headers, so that pages of allowed origins may call /api.") },
	{ OPT(cors_max_age_ms, "cors_max_age", CHATD_T_DURATION, "10m",
			"How long browsers may remember the answer to a preflight request.") },
	{ OPT(line, "max_request_line", CHATD_T_SIZE, "8 KiB", "Longer request lines get 414."),
			.min = 256, .max = 65536 },
	{ OPT(field, "max_header_line", CHATD_T_SIZE, "8 KiB", "Longer header lines get 431."),
			.min = 256, .max = 65536 },
	{ OPT(fields, "max_headers", CHATD_T_INT, "100", "More header lines get 431."), .min = 8,
			.max = 1000 },
	{ OPT(total, "max_header", CHATD_T_SIZE, "16 KiB",
			  "Larger headers, all lines together, get 431."),
			.min = 512, .max = 1 << 20 },
	{ OPT(header_ms, "header_timeout", CHATD_T_DURATION, "10s",
			  "Time for the whole head of a request, and for the first one to begin."),
			.min = 100, .max = 600000 },
	{ OPT(body_ms, "body_timeout", CHATD_T_DURATION, "65s",
			  "Time for a body that is slower than 1 KiB a second."),
			.min = 100, .max = 3600000 },
	{ OPT(body_idle_ms, "body_idle_timeout", CHATD_T_DURATION, "10s",
			  "Time without any octet of a body that is awaited."),
			.min = 100, .max = 3600000 },
	{ OPT(keepalive_ms, "keepalive", CHATD_T_DURATION, "15s",
			  "How long an idle connection is kept for the next request."),
			.min = 100, .max = 3600000 },
	{ OPT(write_ms, "write_timeout", CHATD_T_DURATION, "30s",
			  "Time without progress after which a client that does not read is given up."),
			.min = 100, .max = 3600000 },
	{ OPT(max_requests, "max_requests", CHATD_T_INT, "100",
			  "Requests per connection, after which it is closed."),
			.min = 1, .max = 1000000 },
	{ OPT(max_connections, "max_connections", CHATD_T_INT, "0",
			"Connections beyond this get 503, upgraded ones not counted; 0: no limit.") },
	{ OPT(ignore_upgrade, "ignore_foreign_upgrade", CHATD_T_BOOL, "false",
			"Serve requests that offer an upgrade to h2c or the like as if they did not.") },
	{ .key = NULL },
};

static chatd_status on_check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf_)
{
	const struct http_conf *conf = conf_;
	chatd_status rc = 0;
	if (!conf->listen[0])
		rc = h->conf_error(ctx, "listen", "there must be an address to listen at");
	if (!conf->tls_cert != !conf->tls_key)
		rc = h->conf_error(ctx, conf->tls_cert ? "tls_cert" : "tls_key",
				"tls_cert and tls_key must be given together");
	for (const char *const *net = conf->trusted; *net; net++)
		if (!policy_net_ok(*net))
			rc = h->conf_error(ctx, "trusted_proxies",
					"\"%s\" is no address and no block such as 10.0.0.0/8", *net);
	for (const char *const *origin = conf->origins; *origin; origin++)
		if (!policy_origin_ok(*origin))
			rc = h->conf_error(ctx, "allowed_origins",
					"\"%s\" is no origin: write https://host or https://host:port in lower "
					"case, without a path, or \"*\"",
					*origin);
	if (conf->proxy_protocol && !conf->trusted[0])
		rc = h->conf_error(
				ctx, "proxy_protocol", "it needs trusted_proxies, whose header is believed");
	return rc;
}

/* ---- health ------------------------------------------------------------- */

static void reply_json(chatd_req *req, int32_t status, const char *text)
{
	answer_header(req, "Cache-Control", CHATD_LIT("no-store"));
	answer_whole(req, status, "application/json", chatd_str_of(text, strlen(text)));
}

static void on_healthz(void *arg, chatd_req *req)
{
	(void)arg;
	reply_json(req, 200, "{\"status\":\"UP\"}");
}

/** What the store lacks to be written to; NULL: nothing. */
static const char *store_trouble(const struct http *http)
{
	const struct chatd_store *store = http->store ? http->store->vt : NULL;
	switch (store ? store->state(http->store->obj) : CHATD_STORE_OK) {
	case CHATD_STORE_OK:
		return NULL;
	case CHATD_STORE_FULL:
		return "{\"status\":\"DOWN\",\"store\":\"FULL\"}";
	case CHATD_STORE_STALLED:
		return "{\"status\":\"DOWN\",\"store\":\"STALLED\"}";
	default:
		return "{\"status\":\"DOWN\",\"store\":\"FAILED\"}";
	}
}

/* The back ends that are away, as members: ,"broker":"DOWN".  1: it can do without them. */
static int list_back_ends(const struct http *http, char *text, size_t size)
{
	int ready = 1;
	size_t n = 0;
	text[0] = '\0';
	for (size_t i = 0; i < http->n_back_ends && n < size; i++) {
		const struct chatd_ready *b = &http->back_ends[i];
		int32_t state = b->state(b->arg);
		ready &= state != CHATD_READY_NO;
		if (state != CHATD_READY_UP) {
			n += (size_t)snprintf(text + n, size - n, ",\"%s\":\"DOWN\"", b->name);
		}
	}
	return ready;
}

/** It serves, and still somebody should look. */
static void list_left_out(const struct http *http, char *text, size_t size)
{
	char names[512];
	const struct chatd_plugins *plugins = http->plugins ? http->plugins->vt : NULL;
	text[0] = '\0';
	if (plugins && plugins->left_out(http->plugins->obj, names, sizeof(names)) > 0)
		snprintf(text, size, ",\"pluginsLeftOut\":\"%s\"", names);
}

static void on_readyz(void *arg, chatd_req *req)
{
	const struct http *http = arg;
	const char *trouble = store_trouble(http);
	char members[1024], left_out[600], text[1700];
	int ready = list_back_ends(http, members, sizeof(members));
	list_left_out(http, left_out, sizeof(left_out));
	snprintf(text, sizeof(text), "{\"status\":\"%s\"%s%s}", ready ? "UP" : "DOWN", members,
			left_out);
	if (http->host->stopping() != CHATD_SERVES)
		reply_json(req, 503, "{\"status\":\"DRAINING\"}");
	else if (trouble)
		reply_json(req, 503, trouble);
	else
		reply_json(req, ready ? 200 : 503, text);
}

static void on_api_health(void *arg, chatd_req *req)
{
	const struct http *http = arg;
	char text[256];
	snprintf(text, sizeof(text), "{\"status\":\"%s\",\"serverId\":\"%s\",\"timestamp\":%lld}",
			http->host->stopping() != CHATD_SERVES ? "DRAINING" : "UP", http->host->server_id(),
			(long long)http->host->wall_ms());
	reply_json(req, 200, text);
}

static chatd_status add_health(struct http *http)
{
	static const struct {
		const char *path;
		uint32_t flags;
		void (*handle)(void *, chatd_req *);
	} pages[] = {
		{ "/healthz", ROUTE_HEALTH, on_healthz },
		{ "/readyz", ROUTE_HEALTH, on_readyz },
		{ "/api/chat/health", ROUTE_HEALTH | CHATD_HTTP_CORS, on_api_health },
	};
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		const struct chatd_route route = {
			.struct_size = sizeof(route),
			.methods = CHATD_GET,
			.flags = pages[i].flags,
			.path = pages[i].path,
			.handle = pages[i].handle,
			.arg = http,
		};
		chatd_status rc = routes_add(http->routes, &route);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- life --------------------------------------------------------------- */

static void on_fini(void *self)
{
	struct http *http = self;
	routes_destroy(http->routes);
	free(http->connections);
	free(http);
}

static chatd_status open_listeners(struct http *http)
{
	const struct http_conf *conf = http->conf;
	const struct chatd_net *net = http->net->vt;
	for (const char *const *address = conf->listen; *address; address++) {
		const struct chatd_listen listen = {
			.struct_size = sizeof(listen),
			.address = *address,
			.kind = "http",
			.tls_cert = conf->tls_cert,
			.tls_key = conf->tls_key,
			.proxy_from = conf->proxy_protocol ? conf->trusted : NULL,
			.accepted = conn_accepted,
			.arg = http,
		};
		chatd_status rc = net->listen(http->net->obj, http->ctx, &listen);
		if (rc < 0)
			return rc; /* reported by the service, with the reason */
	}
	return 0;
}

static chatd_status on_init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct http *http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	*ret_self = http;
	http->host = h;
	http->ctx = ctx;
	http->conf = conf;
	http->limits.line = (size_t)http->conf->line;
	http->limits.field = (size_t)http->conf->field;
	http->limits.fields = (size_t)http->conf->fields;
	http->limits.total = (size_t)http->conf->total;
	http->net = h->service(ctx, CHATD_NET);
	http->sessions = h->service(ctx, CHATD_SESSIONS);
	http->store = h->service(ctx, CHATD_STORE);
	http->plugins = h->service(ctx, CHATD_PLUGINS);
	http->routes = routes_create();
	http->connections = calloc(1, sizeof(*http->connections));
	if (!http->net || !http->sessions)
		return h->fail(ctx, -ENOENT, "the server offers no streams or no sessions");
	if (!http->routes || !http->connections)
		return -ENOMEM;
	chatd_status rc = add_health(http);
	if (rc == 0)
		rc = h->provide(ctx, CHATD_HTTP, &request_service, http);
	return rc == 0 ? open_listeners(http) : rc;
}

static chatd_status on_worker_start(void *self, chatd_worker *worker, void *wself)
{
	struct http_worker *w = wself;
	w->http = self;
	w->worker = worker;
	w->date_s = -1;
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
	struct http *http = self;
	struct http_worker *w = wself;
	(void)worker;
	conn_stop(w);
	http->host->buf_unref(w->crlf);
	w->crlf = NULL;
}

static const char *const provides[] = { CHATD_HTTP, NULL };
static const char *const needs[] = { CHATD_NET, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_PLUGINS, NULL };

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
	.check = on_check,
	.init = on_init,
	.worker_start = on_worker_start,
	.drain = on_drain,
	.worker_stop = on_worker_stop,
	.fini = on_fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* What every engine that is made of these parts does alike: its options' meaning, the health
 * pages, its beginning and its end. */
#include "engine.h"

#include <chatd/plugins.h>
#include <chatd/store.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const http_proxy_headers[] = { "auto", "x-forwarded-for", "forwarded", "x-real-ip",
	NULL };

chatd_status engine_check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf_)
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

/* A plugin that was turned off has no back end any more. */
static bool is_there(const struct http *http, size_t i)
{
	const struct chatd_plugins *plugins = owners_of(http);
	return !http->back_end_of[i] || !plugins ||
			plugins->takes_part(http->plugins->obj, http->back_end_of[i]);
}

/* The back ends that are away, as members: ,"broker":"DOWN".  1: it can do without them. */
static int list_back_ends(const struct http *http, char *text, size_t size)
{
	int ready = 1;
	size_t n = 0;
	text[0] = '\0';
	for (size_t i = 0; i < http->n_back_ends && n < size; i++) {
		const struct chatd_ready *b = &http->back_ends[i];
		if (!is_there(http, i))
			continue;
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
		chatd_status rc = routes_add(http->routes, NULL, &route);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- life --------------------------------------------------------------- */

void engine_finish(struct http *http)
{
	routes_destroy(http->routes);
	free(http->connections);
}

static chatd_status open_listeners(struct http *http, const struct engine_way *way)
{
	const struct http_conf *conf = http->conf;
	const struct chatd_net *net = http->net->vt;
	for (const char *const *address = conf->listen; *address; address++) {
		const struct chatd_listen listen = {
			.struct_size = sizeof(listen),
			.address = *address,
			.kind = "http",
			.tls_cert = way->tls ? conf->tls_cert : NULL,
			.tls_key = way->tls ? conf->tls_key : NULL,
			.proxy_from = conf->proxy_protocol ? conf->trusted : NULL,
			.accepted = way->accepted,
			.arg = http,
		};
		chatd_status rc = net->listen(http->net->obj, http->ctx, &listen);
		if (rc < 0)
			return rc; /* reported by the service, with the reason */
	}
	return 0;
}

/* A plugin is turned off, and its time to answer is over. */
static void on_cut(void *arg, chatd_worker *worker, const chatd_ctx *ctx)
{
	const struct http *http = arg;
	conn_cut(http->host->worker_self(http->ctx, worker), ctx);
}

chatd_status engine_init(struct http *http, const struct chatd_host *h, chatd_ctx *ctx,
		const struct http_conf *conf, const struct engine_way *way)
{
	http->host = h;
	http->ctx = ctx;
	http->conf = conf;
	http->way = way;
	http->limits.line = (size_t)http->conf->line;
	http->limits.field = (size_t)http->conf->field;
	http->limits.fields = (size_t)http->conf->fields;
	http->limits.total = (size_t)http->conf->total;
	http->net = h->service(ctx, CHATD_NET);
	http->sessions = h->service(ctx, CHATD_SESSIONS);
	http->store = h->service(ctx, CHATD_STORE);
	http->plugins = h->service(ctx, CHATD_PLUGINS);
	http->stats = h->service(ctx, CHATD_STATS);
	struct route_owners owners = { 0 };
	if (owners_of(http))
		owners = (struct route_owners){ .takes_part = owners_of(http)->takes_part,
			.stays = owners_of(http)->stays,
			.obj = http->plugins->obj };
	http->routes = routes_create(&owners);
	http->connections = calloc(1, sizeof(*http->connections));
	if (!http->net || !http->sessions)
		return h->fail(ctx, -ENOENT, "the server offers no streams or no sessions");
	if (!http->routes || !http->connections)
		return -ENOMEM;
	chatd_status rc = chatd_stats_rejections(
			http->stats, ctx, answer_rejections, ENGINE_REJECTIONS, http->rejected);
	if (rc == 0)
		rc = add_health(http);
	if (rc == 0 && owners_of(http))
		rc = owners_of(http)->on_cut(http->plugins->obj, on_cut, http);
	if (rc == 0)
		rc = h->provide(ctx, CHATD_HTTP, &request_service, http);
	return rc == 0 ? open_listeners(http, way) : rc;
}

void engine_worker_start(struct http *http, chatd_worker *worker, struct http_worker *w)
{
	w->http = http;
	w->worker = worker;
	w->date_s = -1;
}

void engine_worker_stop(struct http_worker *w)
{
	conn_stop(w);
	w->http->host->buf_unref(w->crlf);
	w->crlf = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin: options and life. */
#include "certs.h"
#include "engine_lws.h"

#include <chatd/plugins.h>
#include <chatd/store.h>

#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char named_headers[] =
		"[Access-Control-Request-Method, Device-Token, Forwarded, Idempotency-Key, Sec-Fetch-Site, "
		"Tus-Resumable, Upload-Checksum, Upload-Length, Upload-Metadata, Upload-Offset, "
		"X-Forwarded-Proto]";

#define HTTP_TLS_FLAGS (CHATD_O_PATH | CHATD_O_LIVE)

static const struct chatd_opt options[] = {
#include "../http/options.inc"
	{ .key = "http2",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct lws_conf, http2),
			.fallback = "false",
			.doc = "Offer HTTP/2 to clients that come by TLS; headers that libwebsockets does not know "
				   "are lost there." },
	{ .key = "permessage_deflate",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct lws_conf, deflate),
			.fallback = "false",
			.doc = "Compress the messages of WebSockets whose client offers it; not with TLS." },
	{ .key = "headers",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct lws_conf, headers),
			.fallback = named_headers,
			.doc = "Headers of requests that libwebsockets does not know and that plugins may ask for." },
	{ .key = NULL },
};

static chatd_status on_check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf_)
{
	const struct lws_conf *conf = conf_;
	chatd_status rc = engine_check(h, ctx, &conf->http);
	if (conf->deflate && conf->http.tls_cert)
		rc = h->conf_error(ctx, "permessage_deflate",
				"with tls_cert, libwebsockets 4.1 damages compressed messages: leave it off, or let a "
				"proxy before the server speak TLS");
	if (conf->http2 && !conf->http.tls_cert)
		rc = h->conf_error(ctx, "http2",
				"clients ask for HTTP/2 with TLS only: give tls_cert and tls_key, or leave it off");
	for (const char *const *name = conf->headers; *name; name++)
		if (!http_is_token(chatd_str_of(*name, strlen(*name))) || strlen(*name) > 64)
			rc = h->conf_error(ctx, "headers",
					"\"%s\" is no name of a header: write it like Device-Token, at most 64 letters",
					*name);
	return rc;
}

/* ---- the log ------------------------------------------------------------------------------ */

/* libwebsockets has one log for all contexts. */
static const struct chatd_host *log_host;
static chatd_ctx *log_ctx;
static atomic_llong log_at;

/* At most one line a second: what hostile clients make it say must not fill the disk. */
static void on_log(int level, const char *line)
{
	long long now = (long long)time(NULL);
	size_t n = strcspn(line, "\n");
	if (level == LLL_WARN && atomic_exchange(&log_at, now) == now)
		return;
	log_host->log(log_ctx, level == LLL_ERR ? CHATD_LOG_INFO : CHATD_LOG_DEBUG,
			"libwebsockets: %.*s", (int)n, line);
}

/* ---- life ---------------------------------------------------------------------------------- */

static chatd_status on_init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct lws_engine *engine = calloc(1, sizeof(*engine));
	static const struct engine_way way = {
		.accepted = server_accepted, .may_upgrade = exchange_may_upgrade, .single = true
	};
	if (!engine)
		return -ENOMEM;
	*ret_self = engine;
	engine->all = conf;
	engine->conf = engine->all->http;
	engine->conf.max_connections = 0; /* we count connections; there may be more requests */
	engine->links = calloc(1, sizeof(*engine->links));
	if (!engine->links)
		return -ENOMEM;
	log_host = h;
	log_ctx = ctx;
	lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
	if (engine->conf.tls_cert && !(engine->tls = certs_read(h, ctx, &engine->conf)))
		return -EBADMSG;
	return engine_init(&engine->http, h, ctx, &engine->conf, &way);
}

/* ---- another certificate -------------------------------------------------------------------- */

struct change {
	chatd_worker *worker;
	struct lws_engine *engine;
	SSL_CTX *fresh; /* a reference */
};

static void on_change(void *arg)
{
	struct change *c = arg;
	const struct chatd_host *h = c->engine->http.host;
	struct lws_worker *w = h->worker_self(c->engine->http.ctx, c->worker);
	if (!certs_take(w->tls, c->fresh))
		h->log(c->engine->http.ctx, CHATD_LOG_ERROR,
				"no memory for another certificate: a worker goes on with the old one");
	SSL_CTX_free(c->fresh);
	h->mem_free(c);
}

static int tell_worker(struct lws_engine *engine, int32_t i)
{
	const struct chatd_host *h = engine->http.host;
	struct change *c = h->mem_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct change){ h->worker_at(i), engine, engine->tls };
	SSL_CTX_up_ref(engine->tls);
	int rc = h->post(c->worker, on_change, c);
	if (rc < 0) {
		SSL_CTX_free(c->fresh);
		h->mem_free(c);
	}
	return rc;
}

static chatd_status on_reload(void *self, const void *conf_)
{
	struct lws_engine *engine = self;
	const struct lws_conf *conf = conf_;
	const struct chatd_host *h = engine->http.host;
	chatd_ctx *ctx = engine->http.ctx;
	if (!engine->tls != !conf->http.tls_cert)
		return h->fail(ctx, -EINVAL, "turning TLS on or off takes a restart");
	if (!engine->tls)
		return 0;
	SSL_CTX *fresh = certs_read(h, ctx, &conf->http);
	chatd_status rc = fresh ? certs_may_follow(h, ctx, engine->tls, fresh) : -EBADMSG;
	if (rc < 0) {
		SSL_CTX_free(fresh);
		return rc;
	}
	SSL_CTX_free(engine->tls);
	engine->tls = fresh;
	for (int32_t i = 0; i < h->worker_count(); i++) {
		rc = tell_worker(engine, i);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void on_fini(void *self)
{
	struct lws_engine *engine = self;
	engine_finish(&engine->http);
	SSL_CTX_free(engine->tls);
	free(engine->links);
	free(engine);
}

static chatd_status on_worker_start(void *self, chatd_worker *worker, void *wself)
{
	struct lws_engine *engine = self;
	struct lws_worker *w = wself;
	engine_worker_start(&engine->http, worker, &w->http);
	w->engine = engine;
	int rc = server_start(w);
	if (rc < 0)
		return engine->http.host->fail(engine->http.ctx, rc,
				"libwebsockets could not be started; is libwebsockets-evlib-uv installed?");
	return 0;
}

static void on_drain(void *self, chatd_worker *worker, void *wself)
{
	(void)self;
	(void)worker;
	server_drain(wself);
}

static void on_worker_stop(void *self, chatd_worker *worker, void *wself)
{
	struct lws_worker *w = wself;
	(void)self;
	(void)worker;
	server_stop(w);
	engine_worker_stop(&w->http);
}

static const char *const provides[] = { CHATD_HTTP, NULL };
static const char *const needs[] = { CHATD_NET, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_PLUGINS, CHATD_STATS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "http-lws",
	.version = "0.1.0",
	.summary = "HTTP/1.1 and HTTP/2 by libwebsockets: another engine in the place of http",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = options,
	.conf_size = sizeof(struct lws_conf),
	.worker_size = sizeof(struct lws_worker),
	.check = on_check,
	.init = on_init,
	.reload = on_reload,
	.worker_start = on_worker_start,
	.drain = on_drain,
	.worker_stop = on_worker_stop,
	.fini = on_fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* One context of libwebsockets for each worker, and what it calls. */
#include "engine_lws.h"

#include <errno.h>
#include <limits.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	RX_BUFFER = 2048,       /* each WebSocket has one, so it is small */
	SERVICE_BUFFER = 16384, /* one for each worker */
	HEADERS_MAX = 65535,
	FOREVER_S = 24 * 3600, /* libwebsockets' own time limits: ours are finer */
};

/* Creating contexts and destroying them touches what they share: OpenSSL, the log level. */
static pthread_mutex_t contexts = PTHREAD_MUTEX_INITIALIZER;

static bool is_stream(struct lws *wsi)
{
	return lws_get_network_wsi(wsi) != wsi;
}

/* A stream that is about to go has no connection any more, as far as libwebsockets can tell: so
 * what is known of it is found in its own data first. */
static struct link *link_of(struct lws *wsi)
{
	const chatd_stream *own = lws_get_opaque_user_data(wsi);
	if (own && own->ops)
		return ((const struct exchange *)(const void *)own)->link;
	return lws_get_opaque_user_data(own ? wsi : lws_get_network_wsi(wsi));
}

/** NULL: nothing is under way there. */
static struct exchange *exchange_of(struct lws *wsi)
{
	chatd_stream *own = lws_get_opaque_user_data(wsi);
	if (!own)
		return NULL;
	return own->ops ? (struct exchange *)(void *)own : ((struct link *)(void *)own)->x;
}

/* ---- requests -------------------------------------------------------------------- */

static struct exchange *begin(struct lws *wsi, struct chatd_str path, bool offered)
{
	struct link *l = link_of(wsi);
	struct exchange *x = l && l->state == LINK_OPEN ? exchange_create(l, wsi) : NULL;
	size_t n = 0;
	if (!x)
		return NULL;
	x->h2 = is_stream(wsi);
	char *text = head_text(x, wsi, path, &n);
	if (!text) {
		exchange_gone(x, CHATD_END_ERROR);
		return NULL;
	}
	x->offered = offered;
	if (x->h2)
		lws_set_opaque_user_data(wsi, x);
	else
		l->x = x;
	lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
	x->busy++; /* so that it is there after what it may end in */
	exchange_ask(x, text, n);
	free(text);
	x->offered = false;
	return x;
}

static int run(struct exchange *x)
{
	x->busy--;
	return exchange_run(x);
}

static int on_request(struct lws *wsi, const char *path, size_t n)
{
	struct exchange *x = exchange_of(wsi);
	if (x) /* it offered an upgrade that was not taken */
		x->busy++;
	else
		x = begin(wsi, chatd_str_of(path, n), false);
	return x ? run(x) : -1;
}

static void set_subprotocol(struct lws_worker *w, struct chatd_str name)
{
	if (name.n >= PROTOCOL_MAX)
		return;
	memcpy(w->subprotocol, name.p, name.n);
	w->subprotocol[name.n] = '\0';
}

/* libwebsockets accepts only subprotocols that it has in its table.  One of them bears the name
 * of what the server has just chosen; of what the client offers first, if it chose none. */
static void choose_subprotocol(struct exchange *x, struct lws *wsi)
{
	const struct chatd_host *h = x->w->http.http->host;
	struct chatd_str rest = chatd_str_of(h->buf_data(x->head), h->buf_len(x->head)), name, value;
	char offered[128];
	while (head_line(&rest, &name, &value))
		if (http_same(name, "sec-websocket-protocol")) {
			x->subprotocol = true;
			set_subprotocol(x->w, value);
			return;
		}
	int n = lws_hdr_copy(wsi, offered, sizeof(offered), WSI_TOKEN_PROTOCOL);
	struct chatd_str list = chatd_str_of(offered, n > 0 ? (size_t)n : 0), first;
	if (n > 0 && http_list_next(&list, &first))
		set_subprotocol(x->w, first);
}

/* libwebsockets decides here whether it upgrades.  A WebSocket that the server took goes on; of
 * all the rest the offer is made unreadable, so that it becomes a plain request: otherwise
 * h2c would be taken, and an answer that comes later could not be given. */
static int on_offer(struct lws *wsi, char *protocol)
{
	char *path = NULL;
	int n = 0;
	if (lws_http_get_uri_and_method(wsi, &path, &n) < 0)
		return -1;
	struct exchange *x = begin(wsi, chatd_str_of(path, (size_t)n), true);
	if (!x)
		return -1;
	x->busy--;
	if (x->upgraded)
		choose_subprotocol(x, wsi);
	else if (*protocol)
		*protocol = '-';
	return 0;
}

static int on_body(struct lws *wsi, const char *p, size_t n, bool end)
{
	struct exchange *x = exchange_of(wsi);
	struct link *l = link_of(wsi);
	if (!x)
		return l && l->state == LINK_LINGER ? 0 : -1;
	x->busy++;
	x->left -= (int64_t)n;
	x->body_whole = end;
	if (n > 0)
		exchange_feed(x, p, n);
	return run(x);
}

static int on_writable(struct lws *wsi)
{
	struct exchange *x = exchange_of(wsi);
	if (!x)
		return 0;
	x->busy++;
	return run(x);
}

static int on_gone(struct lws *wsi, bool freed)
{
	struct exchange *x = exchange_of(wsi);
	chatd_stream *own = lws_get_opaque_user_data(wsi);
	struct link *l = own && !own->ops ? (struct link *)(void *)own : NULL;
	if (l) {
		l->state = LINK_DEAD;
		link_unwatch(l);
	}
	if (x)
		exchange_gone(x, CHATD_END_EOF);
	if (!l)
		lws_set_opaque_user_data(wsi, NULL);
	if (!l || !freed)
		return 0;
	lws_set_opaque_user_data(wsi, NULL);
	l->wsi = NULL;
	if (l->streams == 0)
		link_free(l);
	return 0;
}

/* ---- WebSockets -------------------------------------------------------------------- */

static int on_handshake(struct lws *wsi)
{
	struct exchange *x = exchange_of(wsi);
	if (!x || !x->upgraded || !x->head)
		return -1; /* over HTTP/2, too: what is not understood is refused */
	if (!x->subprotocol)
		x->w->subprotocol[0] = '\0'; /* without a name nothing is said about it */
	return 0;
}

/* What else the plugin wants to say, beside what libwebsockets says itself. */
static int on_headers(struct lws *wsi, struct lws_process_html_args *args)
{
	static const char *const own[] = { "connection", "upgrade", "sec-websocket-accept",
		"sec-websocket-protocol" };
	struct exchange *x = exchange_of(wsi);
	struct chatd_str rest, name, value;
	if (!x || !x->head)
		return 0;
	const struct chatd_host *h = x->w->http.http->host;
	rest = chatd_str_of(h->buf_data(x->head), h->buf_len(x->head));
	while (head_line(&rest, &name, &value)) {
		bool theirs = false;
		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			theirs |= http_same(name, own[i]);
		size_t need = name.n + value.n + 4;
		if (theirs || need + 2 > (size_t)args->max_len)
			continue;
		char *p = args->p;
		memcpy(p, name.p, name.n);
		memcpy(p + name.n, ": ", 2);
		memcpy(p + name.n + 2, value.p, value.n);
		memcpy(p + need - 2, "\r\n", 2);
		args->p += need;
		args->max_len -= (int)need;
	}
	return 0;
}

static int on_established(struct lws *wsi)
{
	struct exchange *x = exchange_of(wsi);
	if (!x)
		return -1;
	x->w->http.http->host->buf_unref(x->head);
	x->head = NULL;
	x->head_out = true;
	lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
	x->busy++;
	return run(x);
}

static int feed_frame(struct lws *wsi, int opcode, bool final, struct chatd_str payload)
{
	struct exchange *x = exchange_of(wsi);
	if (!x)
		return -1;
	unsigned char *frame = (unsigned char *)x->w->scratch;
	if (payload.n > SCRATCH - FRAMES_HEADER_MAX)
		return -1; /* larger than any buffer of libwebsockets */
	size_t n = frames_header(frame, opcode, final, payload.n);
	if (payload.n > 0)
		memcpy(frame + n, payload.p, payload.n);
	x->busy++;
	exchange_feed(x, (char *)frame, n + payload.n);
	return run(x);
}

static int on_message(struct lws *wsi, const char *p, size_t n)
{
	int opcode = !lws_is_first_fragment(wsi) ? FRAMES_CONTINUATION
			: lws_frame_is_binary(wsi)       ? FRAMES_BINARY
											 : FRAMES_TEXT;
	return feed_frame(wsi, opcode, lws_is_final_fragment(wsi) != 0, chatd_str_of(p, n));
}

/* The user answers with a close frame of its own; libwebsockets must not send another. */
static int on_peer_close(struct lws *wsi, const char *p, size_t n)
{
	feed_frame(wsi, FRAMES_CLOSE, true, chatd_str_of(p, n));
	return -1;
}

/* libwebsockets has found something wrong by itself.  It sends a close frame and would wait for
 * the client's; who breaks the protocol is not waited for. */
static int on_breach(struct lws *wsi)
{
	struct exchange *x = exchange_of(wsi);
	if (x && x->upgraded && x->head_out && !x->closed)
		link_breach(x->link);
	return 0;
}

static int on_extension(struct lws *wsi)
{
	struct exchange *x = exchange_of(wsi);
	if (!x)
		return 1;
	x->framed = true;
	return 0;
}

/* ---- the callback ---------------------------------------------------------------------- */

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t n)
{
	switch (reason) {
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return on_offer(wsi, in);
	case LWS_CALLBACK_HTTP:
		return on_request(wsi, in, n);
	case LWS_CALLBACK_HTTP_BODY:
		return on_body(wsi, in, n, false);
	case LWS_CALLBACK_HTTP_BODY_COMPLETION:
		return on_body(wsi, NULL, 0, true);
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
		return on_handshake(wsi);
	case LWS_CALLBACK_ADD_HEADERS:
		return on_headers(wsi, in);
	case LWS_CALLBACK_CONFIRM_EXTENSION_OKAY:
		return on_extension(wsi);
	default:
		return 0;
	}
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	switch (reason) {
	case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
		((struct lws_worker *)lws_context_user(lws_get_context(wsi)))->tls = user;
		return 0;
	case LWS_CALLBACK_ESTABLISHED:
		return on_established(wsi);
	case LWS_CALLBACK_RECEIVE:
		return on_message(wsi, in, n);
	case LWS_CALLBACK_RECEIVE_PONG:
		return feed_frame(wsi, FRAMES_PONG, true, chatd_str_of(in, n));
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		return on_peer_close(wsi, in, n);
	case LWS_CALLBACK_HTTP_WRITEABLE:
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return on_writable(wsi);
	case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
		return on_breach(wsi);
	case LWS_CALLBACK_CLOSED:
	case LWS_CALLBACK_CLOSED_HTTP:
		return on_gone(wsi, false);
	case LWS_CALLBACK_WSI_DESTROY:
		return on_gone(wsi, true);
	default:
		return on_http(wsi, reason, in, n);
	}
}

/* ---- life -------------------------------------------------------------------------------- */

static const struct lws_extension deflate[] = {
	{ "permessage-deflate", lws_extension_callback_pm_deflate, "permessage-deflate" },
	{ NULL, NULL, NULL },
};

static int seconds(int64_t ms)
{
	int64_t s = (ms + 999) / 1000;
	return s > INT_MAX ? INT_MAX : (int)s;
}

static void fill(const struct lws_worker *w, struct lws_context_creation_info *info)
{
	const struct lws_conf *all = w->engine->all;
	const struct http_conf *conf = w->http.http->conf;
	int64_t headers = conf->line + conf->total + 1024;
	info->port = CONTEXT_PORT_NO_LISTEN_SERVER;
	info->vhost_name = "chatd";
	info->options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	info->pt_serv_buf_size = SERVICE_BUFFER;
	info->max_http_header_data = (unsigned short)(headers < HEADERS_MAX ? headers : HEADERS_MAX);
	info->timeout_secs = FOREVER_S;
	info->keepalive_timeout = FOREVER_S;
	info->timeout_secs_ah_idle = (unsigned)seconds(conf->header_ms);
	info->extensions = all->deflate ? deflate : NULL;
	if (!conf->tls_cert)
		return;
	/* No client shows a certificate, so nobody's authorities are read: that takes a second. */
	info->options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	info->ssl_cert_filepath = conf->tls_cert;
	info->ssl_private_key_filepath = conf->tls_key;
	info->ssl_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 |
			SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;
	/* It connects to nobody; what libwebsockets makes itself for that, it does not free. */
	info->provided_client_ssl_ctx = w->engine->tls;
	info->alpn = all->http2 ? "h2,http/1.1" : "http/1.1";
}

static int create(struct lws_worker *w)
{
	const struct lws_protocols protocols[] = {
		{ .name = "http",
				.callback = on_lws,
				.per_session_data_size = 1, /* without any it does not tell of its own breaches */
				.rx_buffer_size = RX_BUFFER,
				.tx_packet_size = SCRATCH },
		{ .name = w->subprotocol,
				.callback = on_lws,
				.per_session_data_size = 1, /* without any it does not tell of its own breaches */
				.rx_buffer_size = RX_BUFFER,
				.tx_packet_size = SCRATCH },
		{ .name = NULL },
	};
	struct lws_context_creation_info info = { 0 };
	void *loops[] = { &w->pump.loop };
	fill(w, &info);
	info.user = w;
	info.foreign_loops = loops;
	info.protocols = protocols;
	memcpy(w->subprotocol, "-", 2);
	w->pump.context = lws_create_context(&info);
	if (!w->pump.context)
		return -EIO;
	w->vhost = lws_create_vhost(w->pump.context, &info);
	return w->vhost ? 0 : -EBADMSG;
}

int server_start(struct lws_worker *w)
{
	const struct chatd_host *h = w->http.http->host;
	w->scratch = malloc(LWS_PRE + SCRATCH);
	if (!w->scratch)
		return -ENOMEM;
	int rc = pump_start(&w->pump, h, w->http.worker);
	if (rc < 0)
		return rc;
	w->pumping = true;
	pthread_mutex_lock(&contexts);
	rc = create(w);
	pthread_mutex_unlock(&contexts);
	pump_kick(&w->pump);
	return rc;
}

void server_stop(struct lws_worker *w)
{
	const struct chatd_host *h = w->http.http->host;
	exchange_look_after_all(w); /* last words */
	if (w->pumping) {
		pthread_mutex_lock(&contexts);
		if (!pump_stop(&w->pump))
			h->log(w->http.http->ctx, CHATD_LOG_WARN, "libwebsockets left something in its loop");
		pthread_mutex_unlock(&contexts);
	}
	w->pumping = false;
	while (w->links)
		link_free(w->links);
	h->timer_clear(&w->dirty_timer);
	h->timer_clear(&w->slow_timer);
	h->buf_unref(w->ping);
	w->ping = NULL;
	free(w->scratch);
	w->scratch = NULL;
}

void server_drain(struct lws_worker *w)
{
	conn_drain(&w->http);
	for (struct link *l = w->links, *next; l; l = next) {
		next = l->next;
		if (l->streams == 0 && l->state == LINK_OPEN)
			link_linger(l);
	}
}

void server_accepted(void *arg, chatd_worker *worker, chatd_stream *stream)
{
	struct http *http = arg;
	struct lws_worker *w = http->host->worker_self(http->ctx, worker);
	long long limit = w->engine->all->http.max_connections;
	if (limit > 0 && atomic_load_explicit(w->engine->links, memory_order_relaxed) >= limit) {
		answer_overload(&w->http, stream);
		return;
	}
	struct link *l = link_create(w, stream);
	if (!l)
		return;
	l->wsi = lws_adopt_socket_vhost(w->vhost, l->fd);
	if (!l->wsi) {
		link_free(l);
		return;
	}
	lws_set_opaque_user_data(l->wsi, l);
	pump_kick(&w->pump);
}

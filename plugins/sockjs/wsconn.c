/* SPDX-License-Identifier: Apache-2.0 */
#include "wsconn.h"

#include "conn.h"
#include "escape.h"
#include "headers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wsconn {
	struct chatd_sockjs_conn conn;
	chatd_ws *ws;            /**< NULL: no more */
	chatd_msg *creds;        /**< until login is over */
	struct chatd_timer beat; /**< framed only */
};

/* Set once at start-up, before any thread but the main one. */
static const struct chatd_host *wrap_host;
static const struct chatd_websocket *wrap_ws;

void wsconn_setup(const struct chatd_host *host, const struct chatd_websocket *ws)
{
	wrap_host = host;
	wrap_ws = ws;
}

static struct wsconn *of(void *conn)
{
	return conn;
}

static const struct sockjs *self_of(const struct wsconn *c)
{
	return c->conn.ep->self;
}

/** a["..."] with the header of a WebSocket frame; NULL: no memory. */
static chatd_buf *frame(struct chatd_str text)
{
	size_t n = escape_size(text.p, text.n, 0);
	chatd_buf *buf = wrap_host->buf_new(CHATD_WRAP_ROOM, n + 5);
	if (!buf)
		return NULL;
	char *out = wrap_host->buf_data(buf);
	memcpy(out, "a[\"", 3);
	out = escape_put(out + 3, text.p, text.n, 0);
	memcpy(out, "\"]", 2);
	return wrap_ws->wrap(buf, 0);
}

static chatd_buf *on_wrap(chatd_buf *raw, uint32_t flags)
{
	(void)flags; /* SockJS knows text only */
	chatd_buf *buf = frame(chatd_str_of(wrap_host->buf_data(raw), wrap_host->buf_len(raw)));
	wrap_host->buf_unref(raw);
	return buf;
}

static size_t on_send(void *link, chatd_buf *wrapped)
{
	struct wsconn *c = of(link);
	return c->ws ? self_of(c)->ws->send_buf(c->ws, wrapped) : 0;
}

static void on_pause(void *link, int32_t on)
{
	struct wsconn *c = of(link);
	c->conn.paused = on;
	if (!c->ws)
		return;
	if (on)
		self_of(c)->ws->pause(c->ws, 1);
	else
		conn_schedule(&c->conn);
}

static size_t on_queued(void *link)
{
	struct wsconn *c = of(link);
	return c->ws ? self_of(c)->ws->queued(c->ws) : 0;
}

static struct chatd_str on_attr(void *link, const char *name)
{
	struct wsconn *c = of(link);
	return c->creds ? self_of(c)->host->msg_get(c->creds, name) : chatd_str_of(NULL, 0);
}

static void on_beats(void *link)
{
	struct wsconn *c = of(link);
	self_of(c)->host->timer_clear(&c->beat);
	if (c->ws)
		self_of(c)->ws->beats(c->ws);
}

static void on_settled(void *link)
{
	struct wsconn *c = of(link);
	self_of(c)->host->msg_unref(c->creds);
	c->creds = NULL;
}

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer),
	.name = "sockjs-websocket",
	.wrap = on_wrap,
	.send = on_send,
	.close = conn_layer_close,
	.pause = on_pause,
	.queued = on_queued,
	.attr = on_attr,
	.beats = on_beats,
	.settled = on_settled,
};

/** The WebSocket is no more, or about to be: forget it and the reference it held. */
static void let_go(struct wsconn *c)
{
	c->ws = NULL;
	self_of(c)->host->timer_clear(&c->beat);
	conn_unref(&c->conn);
}

static void turn(chatd_sockjs_conn *conn)
{
	struct wsconn *c = of(conn);
	conn_feed(conn);
	if (c->ws && !conn->paused && !conn->inbox)
		self_of(c)->ws->pause(c->ws, 0);
}

static void destroy(chatd_sockjs_conn *conn)
{
	struct wsconn *c = of(conn);
	self_of(c)->host->msg_unref(c->creds);
	self_of(c)->host->mem_free(c);
}

static void framed_send(chatd_sockjs_conn *conn, struct chatd_str text, int32_t binary)
{
	(void)binary;
	chatd_buf *buf = frame(text);
	if (!buf) {
		conn_gone(conn, CHATD_END_ERROR);
		conn->kind->close(conn, 1011, "out of memory");
		return;
	}
	on_send(conn, buf);
	wrap_host->buf_unref(buf);
}

static void framed_close(chatd_sockjs_conn *conn, int32_t code, const char *why)
{
	struct wsconn *c = of(conn);
	if (!c->ws)
		return;
	char *goodbye = conn_goodbye(code, why);
	if (goodbye)
		self_of(c)->ws->send(c->ws, chatd_str_of(goodbye, strlen(goodbye)), 0);
	free(goodbye);
	self_of(c)->ws->close(c->ws, code, why);
	let_go(c);
}

static void raw_send(chatd_sockjs_conn *conn, struct chatd_str text, int32_t binary)
{
	struct wsconn *c = of(conn);
	if (c->ws)
		self_of(c)->ws->send(c->ws, text, binary);
}

static void raw_close(chatd_sockjs_conn *conn, int32_t code, const char *why)
{
	struct wsconn *c = of(conn);
	if (!c->ws)
		return;
	self_of(c)->ws->close(c->ws, code, why);
	let_go(c);
}

static const struct conn_kind framed_kind = {
	.layer = &layer,
	.send = framed_send,
	.close = framed_close,
	.turn = turn,
	.destroy = destroy,
};
static const struct conn_kind raw_kind = {
	.send = raw_send,
	.close = raw_close,
	.turn = turn,
	.destroy = destroy,
};

/* The protocol wants broken JSON to end the connection without a farewell. */
static void cut(struct wsconn *c)
{
	const struct sockjs *self = self_of(c);
	struct chatd_str peer = self->ws->peer(c->ws);
	self->host->log(self->ctx, CHATD_LOG_INFO,
			"%.*s sent what is no JSON array of strings on %s/.../websocket; its connection was cut",
			(int)peer.n, peer.p, c->conn.ep->prefix);
	self->ws->cut(c->ws);
	conn_gone(&c->conn, CHATD_END_ERROR);
	let_go(c);
}

static void on_framed_message(void *arg, struct chatd_str payload, int32_t binary)
{
	struct wsconn *c = arg;
	(void)binary; /* the WebSocket refuses it */
	if (!payload.n)
		return;
	struct inbox *in;
	int rc = inbox_parse(payload.p, payload.n, &in);
	if (!rc) {
		conn_take(&c->conn, in);
		return;
	}
	if (rc == -EBADMSG) {
		cut(c);
		return;
	}
	conn_gone(&c->conn, CHATD_END_ERROR);
	framed_close(&c->conn, rc == -E2BIG ? 1009 : 1011,
			rc == -E2BIG ? "too many messages in one frame" : "out of memory");
}

static void on_raw_message(void *arg, struct chatd_str payload, int32_t binary)
{
	struct wsconn *c = arg;
	if (!c->conn.over)
		c->conn.ep->app.message(c->conn.user, payload, binary);
}

static void on_gone(void *arg, int32_t why)
{
	struct wsconn *c = arg;
	c->ws = NULL;
	conn_gone(&c->conn, why);
	let_go(c);
}

static void on_drain(void *arg)
{
	struct wsconn *c = arg;
	conn_leave(&c->conn);
}

static const struct chatd_ws_user framed_user = {
	.struct_size = sizeof(framed_user),
	.message = on_framed_message,
	.gone = on_gone,
	.drain = on_drain,
};
static const struct chatd_ws_user raw_user = {
	.struct_size = sizeof(raw_user),
	.message = on_raw_message,
	.gone = on_gone,
	.drain = on_drain,
};

static void on_beat(void *arg)
{
	struct wsconn *c = arg;
	const struct sockjs *self = self_of(c);
	if (!c->ws)
		return;
	self->host->timer_set(c->conn.worker, &c->beat, self->conf->heartbeat, on_beat, c);
	self->ws->send(c->ws, CHATD_LIT("h"), 0);
}

/** "Connection: keep-alive, Upgrade" has the token "upgrade". */
static bool has_token(struct chatd_str list, const char *token)
{
	size_t n = strlen(token);
	for (size_t i = 0; list.p && i + n <= list.n; i++) {
		bool begins = i == 0 || strchr(", \t", list.p[i - 1]);
		bool ends = i + n == list.n || strchr(", \t", list.p[i + n]);
		if (begins && ends && !strncasecmp(list.p + i, token, n))
			return true;
	}
	return false;
}

/** What is not even meant as an upgrade gets the answers that SockJS clients know. */
static bool is_upgrade(const struct sockjs *self, chatd_req *req)
{
	struct chatd_str upgrade = self->http->req_header(req, "Upgrade");
	if (upgrade.n != 9 || strncasecmp(upgrade.p, "websocket", 9)) {
		headers_text(self, req, 400, "Can \"Upgrade\" only to \"WebSocket\".");
		return false;
	}
	if (!has_token(self->http->req_header(req, "Connection"), "upgrade")) {
		headers_text(self, req, 400, "\"Connection\" must be \"Upgrade\".");
		return false;
	}
	return true;
}

static void begin(struct wsconn *c, bool raw)
{
	const struct sockjs *self = self_of(c);
	conn_ref(&c->conn);
	if (!raw) {
		self->ws->send(c->ws, CHATD_LIT("o"), 0);
		if (self->conf->heartbeat)
			self->host->timer_set(c->conn.worker, &c->beat, self->conf->heartbeat, on_beat, c);
	}
	if (!conn_open(&c->conn))
		c->conn.kind->close(&c->conn, 1011, "out of memory");
	conn_unref(&c->conn);
}

void wsconn_start(const struct endpoint *ep, chatd_req *req, bool raw)
{
	const struct sockjs *self = ep->self;
	if (!is_upgrade(self, req))
		return;
	struct wsconn *c = self->host->mem_alloc(sizeof(*c));
	if (!c) {
		headers_bare(self, req, 503);
		return;
	}
	conn_init(&c->conn, raw ? &raw_kind : &framed_kind, ep, self->http->req_worker(req));
	if (ep->stomp)
		c->creds = self->ws->credentials(self->ws_obj, req);
	struct chatd_ws_accept accept = {
		.struct_size = sizeof(accept),
		.flags = raw ? 0 : CHATD_WS_TEXT_ONLY,
		.max_message = raw ? ep->max_message : ep->max_body,
		.user = raw ? &raw_user : &framed_user,
		.arg = c,
	};
	c->ws = self->ws->accept(self->ws_obj, req, &accept);
	if (!c->ws) {
		conn_unref(&c->conn);
		return;
	}
	begin(c, raw);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "conn.h"

#include "escape.h"
#include "exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_STOPPING = 1012 };

void conn_init(chatd_sockjs_conn *conn, const struct conn_kind *kind, const struct endpoint *ep,
		chatd_worker *worker)
{
	conn->kind = kind;
	conn->ep = ep;
	conn->worker = worker;
	conn->refs = 1;
}

void conn_ref(chatd_sockjs_conn *conn)
{
	conn->refs++;
}

/* The request that brought it is answered when all was taken, so that a client which
 * sends faster than it is served has to wait. */
static void inbox_done(struct inbox *in)
{
	if (in->sender) {
		exch_answer(in->sender, in->sender->transport->id == JSONP_SEND ? 200 : 204,
				in->sender->transport->id == JSONP_SEND ? "ok" : "");
		exch_unref(in->sender);
	}
	free(in);
}

static void pop(chatd_sockjs_conn *conn)
{
	struct inbox *in = conn->inbox;
	conn->inbox = in->next;
	conn->waiting -= in->bytes;
	inbox_done(in);
}

static void discard(chatd_sockjs_conn *conn)
{
	while (conn->inbox)
		pop(conn);
}

void conn_unref(chatd_sockjs_conn *conn)
{
	if (--conn->refs)
		return;
	discard(conn);
	conn->kind->destroy(conn);
}

bool conn_open(chatd_sockjs_conn *conn)
{
	const struct sockjs *self = conn->ep->self;
	if (conn->ep->stomp)
		conn->user = self->codec->open(self->codec_obj, conn->worker, conn->kind->layer, conn);
	else
		conn->user = conn->ep->app.open(conn->ep->app.arg, conn->worker, conn);
	if (!conn->user && !conn->over) {
		conn->over = true;
		return false;
	}
	return true;
}

void conn_gone(chatd_sockjs_conn *conn, int32_t why)
{
	if (conn->over)
		return;
	conn->over = true;
	if (!conn->feeding)
		discard(conn);
	if (conn->ep->stomp)
		conn->ep->self->codec->gone(conn->user, why);
	else
		conn->ep->app.gone(conn->user);
}

void conn_close(chatd_sockjs_conn *conn, int32_t code, const char *why)
{
	if (conn->over)
		return;
	conn->over = true;
	if (!conn->feeding)
		discard(conn);
	conn->kind->close(conn, code, why);
}

void conn_leave(chatd_sockjs_conn *conn)
{
	static const char why[] = "service restart";
	const struct chatd_codec *codec = conn->ep->self->codec;
	if (conn->over)
		return;
	if (conn->ep->stomp && CHATD_HAS(codec, leave)) {
		codec->leave(conn->user, CODE_STOPPING, why);
		return;
	}
	conn_gone(conn, CHATD_END_DRAIN);
	conn->kind->close(conn, CODE_STOPPING, why);
}

/** Returns how much of it was taken. */
static size_t show(chatd_sockjs_conn *conn, const char *p, size_t n)
{
	if (conn->ep->stomp)
		return n ? conn->ep->self->codec->data(conn->user, p, n) : 0;
	if (n > conn->ep->max_message) {
		conn_gone(conn, CHATD_END_ERROR);
		conn->kind->close(conn, 1009, "Message too big");
		return 0;
	}
	conn->ep->app.message(conn->user, chatd_str_of(p, n), 0);
	return n;
}

void conn_feed(chatd_sockjs_conn *conn)
{
	if (conn->feeding)
		return;
	conn_ref(conn);
	conn->feeding = true;
	while (conn->inbox && !conn->over && !conn->paused) {
		struct inbox *in = conn->inbox;
		if (in->at == in->count) {
			pop(conn);
			continue;
		}
		const struct chatd_str *item = &in->items[in->at];
		in->from += show(conn, item->p + in->from, item->n - in->from);
		if (in->from >= item->n) {
			in->at++;
			in->from = 0;
		}
	}
	conn->feeding = false;
	if (conn->over)
		discard(conn);
	conn_unref(conn);
}

void conn_take(chatd_sockjs_conn *conn, struct inbox *in)
{
	if (conn->over) {
		inbox_done(in);
		return;
	}
	struct inbox **end = &conn->inbox;
	while (*end)
		end = &(*end)->next;
	*end = in;
	conn->waiting += in->bytes;
	conn_feed(conn);
}

static void on_turn(void *arg)
{
	chatd_sockjs_conn *conn = arg;
	conn->scheduled = false;
	conn->kind->turn(conn);
	conn_unref(conn);
}

void conn_schedule(chatd_sockjs_conn *conn)
{
	if (conn->scheduled)
		return;
	conn->scheduled = true;
	conn_ref(conn);
	if (conn->ep->self->host->post(conn->worker, on_turn, conn) < 0) {
		/* No memory: whatever happens next on this connection tries again. */
		conn->scheduled = false;
		conn->refs--;
	}
}

char *conn_goodbye(int32_t code, const char *why)
{
	size_t n = strlen(why), size = escape_size(why, n, 0) + 24;
	char *text = malloc(size);
	if (!text)
		return NULL;
	int at = snprintf(text, size, "c[%d,\"", (int)code);
	char *end = escape_put(text + at, why, n, 0);
	memcpy(end, "\"]", 3);
	return text;
}

void conn_layer_close(void *link, int32_t code, const char *why)
{
	conn_close(link, code, why ? why : "");
}

void conn_service_send(chatd_sockjs_conn *conn, struct chatd_str text, int32_t binary)
{
	if (!conn->over)
		conn->kind->send(conn, text, binary);
}

void conn_service_close(chatd_sockjs_conn *conn, int32_t code, const char *why)
{
	conn_close(conn, code, why ? why : "");
}

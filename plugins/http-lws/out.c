/* SPDX-License-Identifier: Apache-2.0 */
/* From what an exchange has to send to what libwebsockets writes. */
#include "engine_lws.h"

#include <stdlib.h>
#include <string.h>

enum {
	H2_PIECE = 16 * 1024, /* the largest frame that every client takes */
	H2_HEAD = 8 * 1024,
	DIRECT = 4096, /* larger buffers are written where they are, smaller ones together */
};

/* ---- the queue --------------------------------------------------------------------------- */

static bool queue_push(struct queue *q, chatd_buf *buf, size_t skip)
{
	if (q->at + q->n == q->cap && q->at > 0) {
		memmove(q->bufs, q->bufs + q->at, q->n * sizeof(*q->bufs));
		q->at = 0;
	}
	if (q->n == q->cap) {
		size_t cap = q->cap ? 2 * q->cap : 4;
		chatd_buf **bufs = realloc(q->bufs, cap * sizeof(*bufs));
		if (!bufs)
			return false;
		q->bufs = bufs;
		q->cap = cap;
	}
	if (q->n == 0)
		q->offset = skip;
	q->bufs[q->at + q->n++] = buf;
	return true;
}

void queue_clear(const struct chatd_host *h, struct queue *q)
{
	for (size_t i = 0; i < q->n; i++)
		h->buf_unref(q->bufs[q->at + i]);
	free(q->bufs);
	*q = (struct queue){ 0 };
}

static chatd_buf *first(const struct queue *q)
{
	return q->bufs[q->at];
}

/* Takes the first off; an idle connection keeps no room for it. */
static chatd_buf *pop(struct queue *q)
{
	chatd_buf *buf = q->bufs[q->at++];
	q->offset = 0;
	if (--q->n == 0) {
		free(q->bufs);
		*q = (struct queue){ 0 };
	}
	return buf;
}

static const struct chatd_host *host_of(const struct exchange *x)
{
	return x->w->http.http->host;
}

static size_t left_of(const struct exchange *x)
{
	return host_of(x)->buf_len(first(&x->queue)) - x->queue.offset;
}

static void took(struct exchange *x, size_t n)
{
	x->queue.bytes -= n;
	x->progress = host_of(x)->now_ms(x->w->http.worker);
}

/* ---- heads --------------------------------------------------------------------------------- */

static bool begins(struct chatd_str s, const char *with)
{
	size_t n = strlen(with);
	return s.n >= n && memcmp(s.p, with, n) == 0;
}

void out_push(struct exchange *x, chatd_buf *buf, size_t skip)
{
	size_t n = host_of(x)->buf_len(buf) - skip;
	if (n == 0)
		return;
	if (queue_push(&x->queue, buf, skip)) {
		host_of(x)->buf_ref(buf);
		x->queue.bytes += n;
	} else {
		x->failed = true; /* a hole in what is sent must not be seen as a whole */
	}
}

void out_head(struct exchange *x, chatd_buf *buf)
{
	const struct chatd_host *h = host_of(x);
	struct chatd_str text = chatd_str_of(h->buf_data(buf), h->buf_len(buf));
	const char *end = memmem(text.p, text.n, "\r\n\r\n", 4);
	size_t head = end ? (size_t)(end - text.p) + 4 : text.n;
	if (begins(text, "HTTP/1.1 100 ")) {
		if (!x->h2)
			out_push(x, buf, 0);
		return;
	}
	x->head_seen = true;
	if (begins(text, "HTTP/1.1 101 ")) {
		x->upgraded = true;
		x->head = h->buf_ref(buf);
		return;
	}
	/* The parts of plugins/http have said whether the connection goes on. */
	if (memmem(text.p, head, "\r\nConnection: close\r\n", 21))
		x->keep = false;
	if (x->h2)
		x->head = h->buf_ref(buf);
	out_push(x, buf, x->h2 ? head : 0);
}

/* ---- HTTP/1.1, and WebSockets that we frame ---------------------------------------------------- */

/* As much as fits, whole buffers only: between two writes libwebsockets may send a pong. */
static size_t gather(const struct exchange *x, char *to, size_t *ret_bufs)
{
	const struct chatd_host *h = host_of(x);
	const struct queue *q = &x->queue;
	size_t n = 0, i = 0, offset = q->offset;
	for (; i < q->n; i++, offset = 0) {
		chatd_buf *buf = q->bufs[q->at + i];
		size_t len = h->buf_len(buf) - offset;
		if (len > SCRATCH - n)
			break;
		memcpy(to + n, h->buf_data(buf) + offset, len);
		n += len;
	}
	*ret_bufs = i;
	return n;
}

static int flush_raw(struct exchange *x)
{
	const struct chatd_host *h = host_of(x);
	while (x->queue.n > 0 && !lws_partial_buffered(x->wsi)) {
		size_t n = left_of(x), bufs = 1;
		char *p = h->buf_data(first(&x->queue)) + x->queue.offset;
		if (x->queue.n > 1 && n < DIRECT) {
			p = x->w->scratch + LWS_PRE;
			n = gather(x, p, &bufs);
		}
		if (lws_write(x->wsi, (unsigned char *)p, n, LWS_WRITE_RAW) < 0)
			return -1;
		took(x, n);
		while (bufs-- > 0)
			h->buf_unref(pop(&x->queue));
	}
	return 0;
}

/* ---- WebSockets that libwebsockets frames -------------------------------------------------------- */

/* One message for each callback, and its memory stays until the next: with permessage-deflate
 * libwebsockets goes on reading it after lws_write() has returned. */
static int flush_framed(struct exchange *x)
{
	const struct chatd_host *h = host_of(x);
	struct frames_out f;
	h->buf_unref(x->writing);
	x->writing = NULL;
	if (x->queue.n == 0 || lws_partial_buffered(x->wsi))
		return 0;
	const char *frame = h->buf_data(first(&x->queue)) + x->queue.offset;
	size_t n = left_of(x);
	size_t head = frames_read((const unsigned char *)frame, n, &f);
	if (head == 0 || f.n > n - head)
		return -1; /* users of a WebSocket send whole frames */
	/* Control frames are never compressed: they go out as they are. */
	bool raw = f.opcode >= FRAMES_CLOSE;
	size_t skip = raw ? 0 : head, len = raw ? head + f.n : f.n;
	enum lws_write_protocol kind = raw  ? LWS_WRITE_RAW
			: f.opcode == FRAMES_BINARY ? LWS_WRITE_BINARY
										: LWS_WRITE_TEXT;
	x->writing = h->buf_new(0, LWS_PRE + len);
	if (!x->writing)
		return -1;
	unsigned char *p = (unsigned char *)h->buf_data(x->writing) + LWS_PRE;
	memcpy(p, frame + skip, len);
	took(x, head + f.n);
	if (head + f.n == n)
		h->buf_unref(pop(&x->queue));
	else
		x->queue.offset += head + f.n;
	return lws_write(x->wsi, p, len, kind) < 0 ? -1 : 0;
}

/* ---- HTTP/2 ------------------------------------------------------------------------------------------ */

static int add_header(struct exchange *x, struct chatd_str name, struct chatd_str value,
		unsigned char **p, unsigned char *end)
{
	char key[128];
	if (http_same(name, "connection") || name.n + 2 > sizeof(key))
		return 0;
	memcpy(key, name.p, name.n);
	memcpy(key + name.n, ":", 2);
	return lws_add_http_header_by_name(x->wsi, (const unsigned char *)key,
			(const unsigned char *)value.p, (int)value.n, p, end);
}

static int write_head(struct exchange *x)
{
	unsigned char room[LWS_PRE + H2_HEAD];
	unsigned char *start = room + LWS_PRE, *p = start, *end = room + sizeof(room);
	const struct chatd_host *h = host_of(x);
	struct chatd_str rest = chatd_str_of(h->buf_data(x->head), h->buf_len(x->head)), name, value;
	unsigned status = (unsigned)strtoul(rest.p + 9, NULL, 10);
	if (lws_add_http_header_status(x->wsi, status | LWSAHH_FLAG_NO_SERVER_NAME, &p, end))
		return -1;
	while (head_line(&rest, &name, &value))
		if (add_header(x, name, value, &p, end))
			return -1;
	bool last = x->closed && x->queue.bytes == 0;
	if (lws_finalize_http_header(x->wsi, &p, end))
		return -1;
	h->buf_unref(x->head);
	x->head = NULL;
	x->head_out = true;
	x->end_out = last;
	int flags = LWS_WRITE_HTTP_HEADERS | (last ? LWS_WRITE_H2_STREAM_END : 0);
	return lws_write(x->wsi, start, (size_t)(p - start), (enum lws_write_protocol)flags) < 0 ? -1
																							 : 0;
}

/* One frame for each callback, as much as the client allows. */
static int flush_h2(struct exchange *x)
{
	const struct chatd_host *h = host_of(x);
	if (x->head)
		return write_head(x);
	if (!x->head_out || x->end_out || (x->queue.n == 0 && !x->closed))
		return 0;
	int64_t allowed = lws_get_peer_write_allowance(x->wsi);
	if (x->queue.n > 0 && allowed == 0)
		return 0;
	size_t n = x->queue.n > 0 ? left_of(x) : 0;
	size_t most = allowed > 0 && allowed < H2_PIECE ? (size_t)allowed : H2_PIECE;
	n = n < most ? n : most;
	unsigned char *p = (unsigned char *)x->w->scratch + LWS_PRE;
	if (n > 0) {
		memcpy(p, h->buf_data(first(&x->queue)) + x->queue.offset, n);
		took(x, n);
		x->queue.offset += n;
		if (left_of(x) == 0)
			h->buf_unref(pop(&x->queue));
	}
	x->end_out = x->closed && x->queue.n == 0;
	return lws_write(x->wsi, p, n, x->end_out ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0 ? -1 : 0;
}

/* ---- all of them ------------------------------------------------------------------------------------- */

bool out_direct(const struct exchange *x)
{
	return !x->h2 && !x->framed && (!x->upgraded || x->head_out) && x->link->state == LINK_OPEN;
}

bool out_empty(const struct exchange *x)
{
	if (x->queue.n > 0 || x->writing || lws_partial_buffered(x->wsi))
		return false;
	return !x->h2 || x->upgraded ? !x->head : !x->head && (x->end_out || !x->closed);
}

int out_flush(struct exchange *x)
{
	if (x->framed && x->upgraded)
		return x->head_out ? flush_framed(x) : 0;
	if (x->h2)
		return flush_h2(x);
	return !x->upgraded || x->head_out ? flush_raw(x) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

/** Pipelined bytes that may wait in the stream before reading stops. */
#define AHEAD_MAX (16 * 1024)
/** Unsent bytes above which the next pipelined request waits, and so does the end. */
#define QUEUE_MAX (64 * 1024)
/** How long a client that sends no more waits for its answer, if it still waits. */
#define HALF_MS 30000
/** A body slower than this per second, after the time limit, is given up. */
#define BODY_RATE 1024

static const struct chatd_host *host_of(const struct conn *c)
{
	return c->w->http->host;
}

static const struct http_conf *conf_of(const struct conn *c)
{
	return c->w->http->conf;
}

static void on_timer(void *arg);

static void set_timer(struct conn *c, int64_t ms)
{
	host_of(c)->timer_set(c->w->worker, &c->timer, ms, on_timer, c);
}

/* Frees all but the stream. */
static void forget(struct conn *c)
{
	host_of(c)->timer_clear(&c->timer);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	if (c->turn)
		c->turn->dead = true;
	request_destroy(c->req);
	atomic_fetch_sub_explicit(c->w->http->connections, 1, memory_order_relaxed);
	free(c);
}

void conn_end(struct conn *c, bool reset)
{
	chatd_stream *stream = c->stream;
	forget(c);
	if (reset)
		stream->ops->reset(stream);
	else
		stream->ops->close(stream);
}

static size_t take_nothing(void *arg, const char *p, size_t n)
{
	(void)arg;
	(void)p;
	(void)n;
	return 0;
}

static void miss_nothing(void *arg, int32_t why)
{
	(void)arg;
	(void)why;
}

/* The user of a stream between its upgrade and its new owner's attach(). */
static const struct chatd_stream_user nobody = {
	.struct_size = sizeof(struct chatd_stream_user),
	.data = take_nothing,
	.gone = miss_nothing,
};

chatd_stream *conn_give_away(struct conn *c)
{
	chatd_stream *stream = c->stream;
	stream->ops->attach(stream, &nobody, NULL);
	if (c->paused)
		stream->ops->pause(stream, 0);
	stream->ops->limits(stream, 0, 0);
	forget(c);
	return stream;
}

/* Has the stream show again what was left unread.  The connection may be gone after. */
static void show_again(struct conn *c)
{
	chatd_stream *stream = c->stream;
	if (!c->paused)
		stream->ops->pause(stream, 1);
	c->paused = false;
	c->unread = false;
	stream->ops->pause(stream, 0);
}

void conn_show_again(struct conn *c)
{
	if (c->paused || c->unread)
		show_again(c);
}

void conn_hold(struct conn *c, bool on)
{
	chatd_req *req = c->req;
	if (!(req->flags & CHATD_HTTP_STREAM) || on == (req->held_at != 0))
		return;
	int64_t now = host_of(c)->now_ms(c->w->worker);
	if (on) {
		req->held_at = now > 0 ? now : 1;
		return;
	}
	/* The client's time stood still. */
	req->body_start += now - req->held_at;
	req->body_last = now;
	req->held_at = 0;
	if (c->state == CONN_BODY) {
		conn_wait_body(c);
		if (!c->turn && (c->paused || c->unread))
			show_again(c);
	}
}

void conn_next(struct conn *c, bool close)
{
	request_destroy(c->req);
	c->req = NULL;
	close = close || c->w->http->way->single || (c->half && !c->unread && !c->turn);
	if (close && c->stream->ops->queued(c->stream) > QUEUE_MAX) {
		/* close() would give a slow reader less time than write_timeout does. */
		c->closing = true;
		host_of(c)->timer_clear(&c->timer);
		return;
	}
	if (close) {
		conn_end(c, false);
		return;
	}
	c->state = CONN_HEAD;
	set_timer(c, conf_of(c)->keepalive_ms);
	if (!c->turn && (c->paused || c->unread))
		show_again(c);
}

static bool begin_request(struct conn *c)
{
	if (c->stream->ops->queued(c->stream) > QUEUE_MAX)
		return false; /* on_drained() goes on */
	c->req = request_create(c);
	if (!c->req) {
		conn_end(c, true);
		return false;
	}
	c->state = CONN_HEAD;
	/* The first request's time runs since the client connected. */
	if (c->requests > 0)
		set_timer(c, conf_of(c)->header_ms);
	return true;
}

static size_t take_head(struct conn *c, const char *p, size_t n)
{
	chatd_req *req = c->req;
	size_t used = 0;
	enum http_parse rc = http_head_feed(&req->head, p, n, &used);
	if (rc == HTTP_WRONG)
		answer_fatal(req, &req->head.err);
	else if (rc == HTTP_DONE)
		intake_head(req);
	return used;
}

static size_t take_body(struct conn *c, const char *p, size_t n)
{
	chatd_req *req = c->req;
	struct turn *turn = c->turn;
	struct chatd_str piece = chatd_str_of(p, n);
	enum http_parse rc = HTTP_DATA;
	size_t used = n;
	req->body_last = host_of(c)->now_ms(c->w->worker);
	if (req->info.length < 0) {
		rc = http_chunks_feed(&req->chunks, p, n, &used, &piece);
	} else {
		if (piece.n > req->chunks.left)
			piece.n = used = (size_t)req->chunks.left;
		req->chunks.left -= piece.n;
	}
	if (rc == HTTP_WRONG) {
		answer_fatal(req, &req->chunks.err);
		return used;
	}
	if (rc == HTTP_DATA)
		intake_body(req, piece.p, piece.n);
	if (turn->dead || c->req != req)
		return used;
	if (rc == HTTP_DONE || (req->info.length > 0 && req->chunks.left == 0))
		intake_body_end(req);
	return used;
}

/* After the client's last byte.  False: nothing is left to answer, and the connection ended. */
static bool goes_on(struct conn *c)
{
	if (c->req ? c->state == CONN_BUSY : c->unread) {
		set_timer(c, HALF_MS);
		return true;
	}
	if (c->req)
		request_gone(c->req); /* the rest of it will never come */
	conn_end(c, false);
	return false;
}

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	struct turn turn = { false };
	size_t used = 0;
	if (c->closing)
		return n;
	c->turn = &turn;
	while (used < n && !c->closing) {
		if (!c->req && !begin_request(c))
			break;
		if (c->state == CONN_BUSY || c->req->held_at)
			break;
		if (c->state == CONN_HEAD)
			used += take_head(c, p + used, n - used);
		else
			used += take_body(c, p + used, n - used);
		if (turn.dead)
			return used;
	}
	if (turn.dead)
		return n;
	c->turn = NULL;
	if (c->closing)
		return n;
	c->unread = used < n;
	if (c->half && !goes_on(c))
		return n;
	/* Not paused for little, so that the departure of a client who waits is noticed. */
	bool held = c->req && c->req->held_at && c->state == CONN_BODY;
	if ((held || n - used > AHEAD_MAX) && !c->paused) {
		c->paused = true;
		c->stream->ops->pause(c->stream, 1);
	}
	return used;
}

/* A client that shuts its side down after its request waits for the answer, which may
 * come later.  Not so where the body is streamed: those answers may never end, and there a
 * client that is gone must be noticed. */
static int32_t on_half(void *arg)
{
	struct conn *c = arg;
	const chatd_req *req = c->req;
	bool waits =
			c->state == CONN_BUSY && req && !(req->flags & CHATD_HTTP_STREAM) && !req->offers_ws;
	if (!waits && (req || !c->unread))
		return 0;
	c->half = true;
	set_timer(c, HALF_MS);
	return 1;
}

static void on_gone(void *arg, int32_t why)
{
	struct conn *c = arg;
	(void)why;
	if (c->req)
		request_gone(c->req);
	forget(c);
}

static void on_drained(void *arg)
{
	struct conn *c = arg;
	chatd_req *req = c->req;
	if (c->closing)
		conn_end(c, false);
	else if (req && req->handled && req->user && CHATD_HAS(req->user, drained))
		req->user->drained(req->user_arg);
	else if (!req && !c->turn && (c->paused || c->unread))
		show_again(c);
}

static const struct chatd_stream_user stream_user = {
	.struct_size = sizeof(struct chatd_stream_user),
	.data = on_data,
	.gone = on_gone,
	.drained = on_drained,
	.half = on_half,
};

/* When the body's time is up, in ms from now; <= 0: it is. */
static int64_t body_time_left(const struct conn *c)
{
	const struct http_conf *conf = conf_of(c);
	const chatd_req *req = c->req;
	int64_t now = host_of(c)->now_ms(c->w->worker);
	int64_t idle = req->body_last + conf->body_idle_ms - now;
	/* A body that keeps up the least rate earns a second for each such piece. */
	int64_t earned = (int64_t)(req->body_n / BODY_RATE) * 1000;
	int64_t limit = earned > conf->body_ms ? earned + 5000 : conf->body_ms;
	int64_t total = req->body_start + limit - now;
	return idle < total ? idle : total;
}

static void on_timer(void *arg)
{
	static const struct http_error late_head = { 408, "REQUEST_TIMEOUT",
		"The request's head took too long." };
	static const struct http_error late_body = { 408, "REQUEST_TIMEOUT",
		"The request's body took too long." };
	struct conn *c = arg;
	chatd_req *req = c->req;
	if (!req && c->stream->ops->queued(c->stream) > 0) {
		set_timer(c, conf_of(c)->keepalive_ms); /* the last answer is not out yet */
	} else if (!req || (c->state == CONN_HEAD && req->head.n == 0)) {
		conn_end(c, false); /* nothing was asked, so nothing is answered */
	} else if (c->state == CONN_HEAD) {
		answer_fatal(req, &late_head);
	} else if (c->state == CONN_BODY && req->held_at) {
		set_timer(c, conf_of(c)->body_idle_ms); /* whoever holds it looks after it */
	} else if (c->state == CONN_BODY) {
		int64_t left = body_time_left(c);
		if (left > 0)
			set_timer(c, left);
		else
			answer_fatal(req, &late_body);
	} else if (c->half && c->stream->ops->queued(c->stream) > 0) {
		set_timer(c, HALF_MS); /* write_timeout watches over it */
	} else if (c->half) {
		request_gone(req);
		conn_end(c, true);
	}
}

void conn_wait_body(struct conn *c)
{
	set_timer(c, body_time_left(c));
}

void conn_accepted(void *arg, chatd_worker *worker, chatd_stream *stream)
{
	struct http *http = arg;
	struct http_worker *w = http->host->worker_self(http->ctx, worker);
	long long others = atomic_fetch_add_explicit(http->connections, 1, memory_order_relaxed);
	bool full = http->conf->max_connections > 0 && others >= http->conf->max_connections;
	struct conn *c = full ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		atomic_fetch_sub_explicit(http->connections, 1, memory_order_relaxed);
		answer_overload(w, stream);
		return;
	}
	c->w = w;
	c->stream = stream;
	c->next = w->conns;
	c->link = &w->conns;
	if (c->next)
		c->next->link = &c->next;
	w->conns = c;
	set_timer(c, http->conf->header_ms);
	stream->ops->limits(stream, 0, http->conf->write_ms);
	stream->ops->attach(stream, &stream_user, c);
}

void conn_drain(struct http_worker *w)
{
	w->draining = true;
	for (struct conn *c = w->conns, *next; c; c = next) {
		next = c->next;
		if (!c->req && !c->closing)
			conn_end(c, false);
	}
}

void conn_cut(struct http_worker *w, const chatd_ctx *ctx)
{
	for (struct conn *c = w->conns, *next; c; c = next) {
		next = c->next;
		if (c->req && c->req->route && c->req->route->ctx == ctx) {
			request_gone(c->req);
			conn_end(c, true);
		}
	}
}

void conn_stop(struct http_worker *w)
{
	while (w->conns) {
		struct conn *c = w->conns;
		if (c->req)
			request_gone(c->req);
		conn_end(c, false);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "conn.h"
#include "escape.h"
#include "frames.h"
#include "peers.h"

#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  malloc(n)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct session {
	struct chatd_sockjs_conn conn;
	UT_hash_handle hh;
	struct worker_state *home;
	chatd_msg *creds;         /**< of the request that made it: its owner */
	struct chatd_timer timer; /**< with a receiver: heart-beat; without: the end */
	struct exch *receiver;    /**< who waits for frames; NULL: nobody does */
	struct exch *last;        /**< who had the last frames; they may still be under way */
	chatd_buf **queue;        /**< a ring of JSON strings; NULL while empty */
	size_t queue_size, queue_from, queue_len, queue_bytes;
	char *goodbye; /**< c[...], once closed */
	bool opened;   /**< o was sent */
	bool closed;   /**< nothing new goes in; what is queued still goes out */
	bool leaving;  /**< it was asked to, because the server stops */
	bool slow;     /**< the queue was full: it ends in its next turn */
	bool beats;    /**< the user has heart-beats of its own */
	bool claimed;  /**< Redis knows that it is here */
	uint32_t round;
	int64_t renewed;
	size_t key_len;
	char key[];
};

/* Set once at start-up, before any thread but the main one. */
static const struct chatd_host *wrap_host;

void session_setup(const struct chatd_host *host)
{
	wrap_host = host;
}

static struct session *of(void *conn)
{
	return conn;
}

static const struct sockjs *self_of(const struct session *s)
{
	return s->conn.ep->self;
}

/* ---- the queue --------------------------------------------------------- */

static chatd_buf *quote(struct chatd_str text)
{
	chatd_buf *buf = wrap_host->buf_new(0, escape_size(text.p, text.n, 0) + 2);
	if (!buf)
		return NULL;
	char *out = wrap_host->buf_data(buf);
	*out = '"';
	*escape_put(out + 1, text.p, text.n, 0) = '"';
	return buf;
}

static void queue_pop(struct session *s, size_t n)
{
	for (; n; n--) {
		chatd_buf *buf = s->queue[s->queue_from];
		s->queue_bytes -= wrap_host->buf_len(buf);
		wrap_host->buf_unref(buf);
		s->queue_from = (s->queue_from + 1) % s->queue_size;
		s->queue_len--;
	}
	if (!s->queue_len) {
		free(s->queue);
		s->queue = NULL;
		s->queue_size = s->queue_from = 0;
	}
}

static bool queue_grow(struct session *s)
{
	if (s->queue_len < s->queue_size)
		return true;
	size_t size = s->queue_size ? s->queue_size * 2 : 8;
	chatd_buf **queue = malloc(size * sizeof(*queue));
	if (!queue)
		return false;
	for (size_t i = 0; i < s->queue_len; i++)
		queue[i] = s->queue[(s->queue_from + i) % s->queue_size];
	free(s->queue);
	s->queue = queue;
	s->queue_size = size;
	s->queue_from = 0;
	return true;
}

/* A single message always fits, however big: its size is the user's business. */
static size_t queue_push(struct session *s, chatd_buf *quoted)
{
	size_t n = wrap_host->buf_len(quoted);
	if (s->closed || s->slow)
		return s->queue_bytes;
	if ((s->queue_len && s->queue_bytes + n > (size_t)self_of(s)->conf->max_queue) ||
			!queue_grow(s)) {
		s->slow = true;
	} else {
		s->queue[(s->queue_from + s->queue_len++) % s->queue_size] = wrap_host->buf_ref(quoted);
		s->queue_bytes += n;
	}
	conn_schedule(&s->conn);
	return s->queue_bytes;
}

/* ---- the layer --------------------------------------------------------- */

static chatd_buf *on_wrap(chatd_buf *raw, uint32_t flags)
{
	(void)flags; /* SockJS knows text only */
	chatd_buf *buf = quote(chatd_str_of(wrap_host->buf_data(raw), wrap_host->buf_len(raw)));
	wrap_host->buf_unref(raw);
	return buf;
}

static size_t on_send(void *link, chatd_buf *wrapped)
{
	return queue_push(of(link), wrapped);
}

static void on_pause(void *link, int32_t on)
{
	chatd_sockjs_conn *conn = link;
	conn->paused = on;
	if (!on && conn->inbox)
		conn_schedule(conn);
}

static size_t on_queued(void *link)
{
	return of(link)->queue_bytes;
}

static struct chatd_str on_attr(void *link, const char *name)
{
	return wrap_host->msg_get(of(link)->creds, name);
}

static void arm(struct session *s);

static void on_beats(void *link)
{
	struct session *s = of(link);
	s->beats = true;
	arm(s);
}

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer),
	.name = "sockjs-http",
	.wrap = on_wrap,
	.send = on_send,
	.close = conn_layer_close,
	.pause = on_pause,
	.queued = on_queued,
	.attr = on_attr,
	.beats = on_beats,
};

/* ---- what goes out ----------------------------------------------------- */

static void let_receiver_go(struct session *s)
{
	exch_unref(s->last);
	s->last = s->receiver;
	s->receiver = NULL;
}

/** Gives the receiver a frame; afterwards there may be none any more. */
static void give(struct session *s, const struct chatd_str parts[], size_t n, bool last)
{
	struct exch *x = s->receiver;
	chatd_buf *buf = frames_dress(wrap_host, x->transport, x->callback, parts, n);
	if (!buf) {
		let_receiver_go(s);
		s->slow = true; /* what was meant for it is lost */
		conn_schedule(&s->conn);
		exch_answer(x, 503, "");
		return;
	}
	x->sent += wrap_host->buf_len(buf);
	last = last || x->peer || !x->transport->streams || x->sent >= x->ep->stream_limit;
	if (last)
		let_receiver_go(s);
	exch_frame(x, buf, last);
}

static void give_text(struct session *s, const char *text, bool last)
{
	struct chatd_str part = chatd_str_of(text, strlen(text));
	give(s, &part, 1, last);
}

/** As many messages as the answer still has room for, at least one. */
static void give_messages(struct session *s)
{
	struct chatd_str parts[2 * FRAMES_JOIN + 1];
	size_t n = 0, count = 0, bytes = s->receiver->sent;
	size_t limit = s->receiver->peer          ? PEERS_FRAME
			: s->receiver->transport->streams ? s->receiver->ep->stream_limit
											  : SIZE_MAX;
	while (count < s->queue_len && count < FRAMES_JOIN && (!count || bytes < limit)) {
		chatd_buf *buf = s->queue[(s->queue_from + count) % s->queue_size];
		parts[n++] = count ? CHATD_LIT(",") : CHATD_LIT("a[");
		parts[n++] = chatd_str_of(wrap_host->buf_data(buf), wrap_host->buf_len(buf));
		bytes += wrap_host->buf_len(buf) + 1;
		count++;
	}
	parts[n++] = CHATD_LIT("]");
	give(s, parts, n, false);
	queue_pop(s, count);
}

static void flush(struct session *s)
{
	if (s->receiver && !s->opened) {
		s->opened = true;
		give_text(s, "o", false);
	}
	while (s->receiver && s->queue_len)
		give_messages(s);
	if (s->receiver && s->closed)
		give_text(s, s->goodbye ? s->goodbye : "c[1011,\"\"]", true);
	arm(s);
}

/* ---- life -------------------------------------------------------------- */

static struct exch_name name_of(const struct session *s)
{
	const size_t n = sizeof(s->conn.ep->number);
	struct exch_name name = { .ep = s->conn.ep, .id = chatd_str_of(s->key + n, s->key_len - n) };
	return name;
}

static void reap(struct session *s)
{
	if (s->claimed) {
		struct exch_name name = name_of(s);
		peers_release(self_of(s), s->home, &name);
	}
	HASH_DEL(s->home->sessions, s);
	s->home = NULL;
	self_of(s)->host->timer_clear(&s->timer);
	conn_gone(&s->conn, CHATD_END_EOF);
	conn_unref(&s->conn);
}

static void on_timer(void *arg)
{
	struct session *s = arg;
	if (s->closed || !s->receiver) {
		reap(s);
		return;
	}
	give_text(s, "h", false);
	arm(s);
}

/* Once it is closed the clock runs to the end, whoever comes and goes. */
static void arm(struct session *s)
{
	const struct sockjs *self = self_of(s);
	if (s->closed || !s->home)
		return;
	int64_t ms = !s->receiver ? self->conf->disconnect_delay : s->beats ? 0 : self->conf->heartbeat;
	if (s->receiver && s->receiver->peer && (!ms || ms > PEERS_POLL_MS))
		ms = PEERS_POLL_MS;
	if (ms)
		self->host->timer_set(s->conn.worker, &s->timer, ms, on_timer, s);
	else
		self->host->timer_clear(&s->timer);
}

static void on_send_text(chatd_sockjs_conn *conn, struct chatd_str text, int32_t binary)
{
	(void)binary;
	struct session *s = of(conn);
	chatd_buf *buf = quote(text);
	if (!buf) {
		s->slow = true;
		conn_schedule(conn);
		return;
	}
	queue_push(s, buf);
	wrap_host->buf_unref(buf);
}

static void on_close(chatd_sockjs_conn *conn, int32_t code, const char *why)
{
	struct session *s = of(conn);
	const struct sockjs *self = self_of(s);
	if (s->closed)
		return;
	s->closed = true;
	s->goodbye = conn_goodbye(code, why);
	if (!s->home)
		return;
	self->host->timer_set(conn->worker, &s->timer, self->conf->disconnect_delay, on_timer, s);
	conn_schedule(conn);
}

/** Ends the session from this side: the user is told. */
static void fail(struct session *s, int32_t why, int32_t code, const char *text)
{
	conn_gone(&s->conn, why);
	on_close(&s->conn, code, text);
}

static void turn(chatd_sockjs_conn *conn)
{
	struct session *s = of(conn);
	if (s->slow && !s->closed) {
		queue_pop(s, s->queue_len);
		fail(s, CHATD_END_SLOW, 4500, "slow consumer");
	}
	conn_feed(conn);
	if (s->home)
		flush(s);
}

static void destroy(chatd_sockjs_conn *conn)
{
	struct session *s = of(conn);
	queue_pop(s, s->queue_len);
	exch_unref(s->receiver);
	exch_unref(s->last);
	wrap_host->msg_unref(s->creds);
	free(s->goodbye);
	free(s);
}

static const struct conn_kind kind = {
	.layer = &layer,
	.send = on_send_text,
	.close = on_close,
	.turn = turn,
	.destroy = destroy,
};

/* ---- requests ---------------------------------------------------------- */

static struct worker_state *state_of(const struct exch *x)
{
	const struct sockjs *self = x->ep->self;
	return self->host->worker_self(self->ctx, x->owner);
}

static struct session *find(const struct exch *x)
{
	struct session *s;
	HASH_FIND_BYHASHVALUE(hh, state_of(x)->sessions, x->key, x->key_len, x->hash, s);
	return s;
}

/* Takes as long for a near miss as for a far one. */
static bool same(struct chatd_str a, struct chatd_str b)
{
	unsigned char differ = 0;
	if (a.n != b.n || !a.p != !b.p)
		return false;
	for (size_t i = 0; i < a.n; i++)
		differ |= (unsigned char)(a.p[i] ^ b.p[i]);
	return !differ;
}

/* A session belongs to whoever made it.  A device token may come as a cookie, which
 * browsers add to some requests of a page and not to others: it counts if it is there. */
static bool is_owner(const struct session *s, const struct exch *x)
{
	if (x->peer)
		return peers_same(x, s->creds);
	static const char *const names[] = { CHATD_CRED_PEER, CHATD_CRED_BEARER, CHATD_CRED_TOKEN };
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!same(wrap_host->msg_get(s->creds, names[i]), wrap_host->msg_get(x->creds, names[i])))
			return false;
	}
	struct chatd_str mine = wrap_host->msg_get(s->creds, CHATD_CRED_DEVICE);
	struct chatd_str theirs = wrap_host->msg_get(x->creds, CHATD_CRED_DEVICE);
	return !mine.p || !theirs.p || same(mine, theirs);
}

static struct session *create(struct exch *x)
{
	struct session *s = calloc(1, sizeof(*s) + x->key_len);
	if (!s)
		return NULL;
	conn_init(&s->conn, &kind, x->ep, x->owner);
	s->creds = wrap_host->msg_ref(x->creds);
	s->key_len = x->key_len;
	memcpy(s->key, x->key, x->key_len);
	s->home = state_of(x);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->home->sessions, s->key, s->key_len, x->hash, s);
	if (!s->hh.tbl) {
		s->home = NULL;
		conn_unref(&s->conn);
		return NULL;
	}
	arm(s);
	if (!conn_open(&s->conn)) {
		reap(s);
		return NULL;
	}
	return s;
}

/** A receiver that is not the session's gets one frame of its own. */
static void refuse(struct exch *x, const char *goodbye)
{
	struct chatd_str part = chatd_str_of(goodbye, strlen(goodbye));
	chatd_buf *buf = frames_dress(wrap_host, x->transport, x->callback, &part, 1);
	if (buf)
		exch_frame(x, buf, true);
	else
		exch_answer(x, 503, "");
}

static void serve(struct session *s, struct exch *x)
{
	if (!is_owner(s, x)) {
		exch_answer(x, 404, "");
		return;
	}
	if (s->receiver && s->closed)
		flush(s);
	if (s->receiver) {
		refuse(x, "c[2010,\"Another connection still open\"]");
		return;
	}
	s->receiver = exch_ref(x);
	if (x->transport->streams)
		exch_frame(x, NULL, false);
	conn_ref(&s->conn);
	flush(s);
	if (x->peer && s->receiver == x)
		peers_held(x);
	conn_unref(&s->conn);
}

void session_receive(struct exch *x)
{
	struct session *s = find(x);
	if (s)
		serve(s, x);
	else if (x->peer)
		exch_answer(x, 404, "");
	else if (x->ep->self->peers_on)
		peers_receive(x);
	else
		session_open_here(x, false);
}

int session_open_here(struct exch *x, bool claimed)
{
	struct session *s = find(x);
	if (!s)
		s = state_of(x)->draining ? NULL : create(x);
	if (!s) {
		exch_answer(x, 503, "");
		return -1;
	}
	if (claimed && !s->claimed) {
		s->claimed = true;
		s->renewed = x->ep->self->host->now_ms(x->owner);
	}
	serve(s, x);
	return 0;
}

void sessions_renew(const struct sockjs *self, struct worker_state *state)
{
	struct session *s, *next;
	HASH_ITER(hh, state->sessions, s, next)
	{
		struct exch_name name = name_of(s);
		if (s->claimed)
			peers_renew(self, state, &name, &s->renewed, &s->round);
	}
}

void session_take(struct exch *x)
{
	struct session *s = find(x);
	struct inbox *in = x->in;
	x->in = NULL;
	if (!s && !x->peer && x->ep->self->peers_on) {
		free(in);
		peers_take(x);
		return;
	}
	if (!s || s->closed || !is_owner(s, x)) {
		free(in);
		exch_answer(x, 404, "");
		return;
	}
	/* A client sends one at a time; who sends on while nothing is taken is stopped. */
	if (s->conn.inbox && s->conn.waiting + in->bytes > 2 * x->ep->max_body) {
		free(in);
		exch_answer(x, 503, "Too much is waiting already.");
		return;
	}
	in->sender = exch_ref(x);
	conn_take(&s->conn, in);
}

void session_too_big(struct exch *x)
{
	struct session *s = find(x);
	if (s && is_owner(s, x))
		fail(s, CHATD_END_ERROR, 1009, "Message too big");
}

void session_lost(struct exch *x)
{
	struct session *s = find(x);
	if (x->forward || x->asking)
		peers_left(x);
	if (!s || (s->receiver != x && s->last != x))
		return;
	if (s->receiver == x)
		let_receiver_go(s);
	if (!s->closed) {
		queue_pop(s, s->queue_len);
		fail(s, CHATD_END_ERROR, 1002, "Connection interrupted");
	}
}

/** The next one that was not asked to leave yet; NULL: there is none. */
static struct session *remaining(const struct worker_state *state)
{
	struct session *s = state->sessions;
	while (s && (s->closed || s->leaving))
		s = s->hh.next;
	return s;
}

static void on_drain_tick(void *arg)
{
	struct worker_state *state = arg;
	const struct chatd_host *host = state->self->host;
	struct session *s = remaining(state);
	for (size_t due = chatd_pace_due(&state->pace, host->now_ms(state->worker)); due && s; due--) {
		s->leaving = true;
		conn_leave(&s->conn);
		s = remaining(state);
	}
	if (s)
		host->timer_set(
				state->worker, &state->drain_timer, CHATD_PACE_TICK_MS, on_drain_tick, state);
}

void session_drain(const struct sockjs *self, chatd_worker *w, struct worker_state *state)
{
	state->self = self;
	state->worker = w;
	state->draining = true;
	chatd_pace_begin(&state->pace, HASH_COUNT(state->sessions), self->host->drain_spread(),
			self->host->now_ms(w));
	on_drain_tick(state);
}

void session_stop(const struct sockjs *self, struct worker_state *state)
{
	state->draining = true;
	self->host->timer_clear(&state->drain_timer);
	struct session *s, *next;
	HASH_ITER(hh, state->sessions, s, next)
	{
		if (!s->closed)
			fail(s, CHATD_END_DRAIN, 1012, "service restart");
		flush(s);
		reap(s);
	}
	peers_stop(state);
}

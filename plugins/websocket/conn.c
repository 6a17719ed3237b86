/* SPDX-License-Identifier: Apache-2.0 */
#include "conn.h"

#include <stdlib.h>
#include <string.h>

enum {
	SCRATCH = 8192,      /* payload is unmasked in pieces of this size */
	MAX_EMPTY = 1024,    /* fragments without a byte in one message */
	PINGS_PER_S = 100,   /* more get one pong for many; for FLOOD_S seconds: 1008 */
	EMPTIES_PER_S = 500, /* data frames without a byte; for FLOOD_S seconds: 1008 */
	FLOOD_S = 5,
	CLOSE_WAIT_MS = 5000, /* for the peer's close frame */
	SLOW_WAIT_MS = 1000,  /* for a slow peer to read why it is closed */
	FIRST_ASSEMBLY = 16384,
	CODE_STOPPING = 1012,
	CODE_INTERNAL = 1011,
	CODE_POLICY = 1008,
	CODE_SLOW = 4500,
};

enum {
	OPEN = 0,
	CLOSING, /* our close frame is on its way, the peer's is awaited */
	SLOW,    /* closed as too slow: reset soon */
	DEAD,    /* the stream is gone or given back: only the memory is left */
};

/* A message that did not come in one piece. */
struct ws_assembly {
	size_t n, room;
	char bytes[];
};

static const struct chatd_host *host_of(const struct chatd_ws *ws)
{
	return ws->ww->plugin->host;
}

static const struct ws_conf *conf_of(const struct chatd_ws *ws)
{
	return ws->ww->plugin->conf;
}

/* ---- lists, beginning and end ---------------------------------------------- */

static void list_add(struct chatd_ws *ws, struct chatd_ws **head)
{
	ws->next = *head;
	ws->link = head;
	if (ws->next)
		ws->next->link = &ws->next;
	*head = ws;
}

static void list_remove(struct chatd_ws *ws)
{
	*ws->link = ws->next;
	if (ws->next)
		ws->next->link = ws->link;
	ws->link = NULL;
}

/* drain() takes from the head of `open`, so whatever it need not close is moved away. */
static void list_retire(struct chatd_ws *ws)
{
	if (ws->state != OPEN)
		return;
	list_remove(ws);
	list_add(ws, &ws->ww->closing);
	ws->ww->n_open--;
}

struct chatd_ws *conn_create(struct ws_worker *ww, const struct chatd_ws_accept *a)
{
	struct chatd_ws *ws = calloc(1, sizeof(*ws));
	if (!ws)
		return NULL;
	ws->ww = ww;
	ws->user = a->user;
	ws->arg = a->arg;
	size_t max = a->max_message ? a->max_message : ww->plugin->max_message;
	frame_init(&ws->decoder, max, MAX_EMPTY, (a->flags & CHATD_WS_TEXT_ONLY) != 0);
	return ws;
}

void conn_discard(struct chatd_ws *ws)
{
	if (!ws)
		return;
	free(ws->assembly);
	free(ws);
}

/* Nothing of the stream may be used any more.  on_data() still needs the struct when it
 * is what brought us here. */
static void finish(struct chatd_ws *ws)
{
	if (ws->state == OPEN)
		ws->ww->n_open--;
	ws->state = DEAD;
	ws->user = NULL;
	list_remove(ws);
	host_of(ws)->timer_clear(&ws->timer);
	if (!ws->busy)
		conn_discard(ws);
}

static void user_gone(struct chatd_ws *ws, int32_t why)
{
	const struct chatd_ws_user *user = ws->user;
	ws->user = NULL;
	if (user)
		user->gone(ws->arg, why);
}

/* ---- sending ----------------------------------------------------------------- */

static void on_timer(void *arg);

static void send_control(struct chatd_ws *ws, const char *frame, size_t n)
{
	chatd_buf *buf = host_of(ws)->buf_new(0, n);
	if (!buf)
		return;
	memcpy(host_of(ws)->buf_data(buf), frame, n);
	ws->stream->ops->send(ws->stream, buf);
	host_of(ws)->buf_unref(buf);
}

static void send_close(struct chatd_ws *ws, int32_t code, const char *why)
{
	char frame[2 + FRAME_CONTROL_MAX];
	send_control(ws, frame, frame_close(frame, frame_code_valid(code) ? code : FRAME_NO_CODE, why));
}

static void send_pong(struct chatd_ws *ws, const char *p, size_t n)
{
	char frame[2 + FRAME_CONTROL_MAX];
	size_t len = frame_header(frame, FRAME_PONG, n);
	if (n)
		memcpy(frame + len, p, n);
	send_control(ws, frame, len + n);
}

/* The last message does not count against the limit: a single one that is bigger is no
 * sign of slowness.  Nor is one loop turn's burst, which no write has had a chance at
 * yet; so the verdict is left to the timer. */
size_t conn_send_buf(struct chatd_ws *ws, chatd_buf *wrapped)
{
	if (ws->state != OPEN)
		return 0;
	size_t waiting = ws->stream->ops->send(ws->stream, wrapped);
	size_t limit = (size_t)conf_of(ws)->max_queue;
	if (limit && waiting > limit && !ws->suspect &&
			waiting - host_of(ws)->buf_len(wrapped) > limit) {
		ws->suspect = 1;
		host_of(ws)->timer_set(ws->ww->worker, &ws->timer, 0, on_timer, ws);
	}
	return waiting;
}

size_t conn_queued(const struct chatd_ws *ws)
{
	return ws->state == OPEN ? ws->stream->ops->queued(ws->stream) : 0;
}

struct chatd_str conn_peer(const struct chatd_ws *ws)
{
	return ws->stream->ops->peer(ws->stream);
}

/* ---- goodbyes ------------------------------------------------------------------ */

/* Begins the winding down: the user is out, the timer ends it. */
static void retire(struct chatd_ws *ws, uint8_t state, int64_t ms)
{
	list_retire(ws);
	ws->state = state;
	free(ws->assembly);
	ws->assembly = NULL;
	host_of(ws)->timer_set(ws->ww->worker, &ws->timer, ms, on_timer, ws);
}

void conn_close(struct chatd_ws *ws, int32_t code, const char *why)
{
	if (ws->state != OPEN)
		return;
	ws->user = NULL;
	send_close(ws, code, why);
	retire(ws, CLOSING, CLOSE_WAIT_MS);
	if (ws->paused)
		conn_pause(ws, 0); /* or the peer's close frame would not be seen */
}

void conn_cut(struct chatd_ws *ws)
{
	if (ws->state == DEAD)
		return;
	ws->stream->ops->close(ws->stream);
	finish(ws);
}

/* At most one line a second and worker: hostile clients must not fill the disk. */
static void log_end(struct chatd_ws *ws, int32_t code, const char *why)
{
	struct chatd_str peer = conn_peer(ws);
	int64_t now = host_of(ws)->now_ms(ws->ww->worker);
	ws->ww->unlogged++;
	if (ws->ww->logged_at && now - ws->ww->logged_at < 1000)
		return;
	host_of(ws)->log(ws->ww->plugin->ctx, CHATD_LOG_INFO,
			"closed %.*s with %d: %s (%zu connections since the last such line)", (int)peer.n,
			peer.p ? peer.p : "", (int)code, why, ws->ww->unlogged);
	ws->ww->logged_at = now ? now : 1;
	ws->ww->unlogged = 0;
}

const char *const conn_rejections[CONN_REJECTIONS] = {
#define CHATD_X(code) CHATD_REJECTION("websocket", #code),
	CONN_REJECTED_FOR(CHATD_X)
#undef CHATD_X
};

/* What is no fault of the peer's is not among them. */
static void count_rejection(const struct chatd_ws *ws, int32_t code)
{
	static const int32_t codes[CONN_REJECTIONS] = {
#define CHATD_X(number) number,
		CONN_REJECTED_FOR(CHATD_X)
#undef CHATD_X
	};
	const struct ws_plugin *plugin = ws->ww->plugin;
	for (size_t i = 0; i < CONN_REJECTIONS; i++) {
		if (codes[i] == code)
			chatd_stats_count(plugin->stats, ws->ww->worker, plugin->rejected[i]);
	}
}

/* The peer broke the rules: it is told which, and no answer is awaited. */
static void breach(struct chatd_ws *ws, int32_t code, const char *why)
{
	log_end(ws, code, why);
	count_rejection(ws, code);
	if (ws->state == OPEN)
		send_close(ws, code, why);
	ws->stream->ops->close(ws->stream);
	user_gone(ws, CHATD_END_ERROR);
	finish(ws);
}

static void end_slow(struct chatd_ws *ws)
{
	log_end(ws, CODE_SLOW, "slow consumer");
	count_rejection(ws, CODE_SLOW);
	send_close(ws, CODE_SLOW, "slow consumer");
	retire(ws, SLOW, SLOW_WAIT_MS);
	user_gone(ws, CHATD_END_SLOW);
}

void conn_drain(struct chatd_ws *ws)
{
	const struct chatd_ws_user *user = ws->user;
	if (user && CHATD_HAS(user, drain)) {
		list_remove(ws);
		list_add(ws, &ws->ww->closing);
		user->drain(ws->arg);
		return;
	}
	void *arg = ws->arg;
	conn_close(ws, CODE_STOPPING, "service restart");
	if (user)
		user->gone(arg, CHATD_END_DRAIN);
}

void conn_abandon(struct chatd_ws *ws)
{
	ws->stream->ops->reset(ws->stream);
	user_gone(ws, CHATD_END_DRAIN);
	finish(ws);
}

/* ---- the timer: liveness, slowness, the end of a close ----------------------------- */

static void keep_alive(struct chatd_ws *ws)
{
	const struct ws_conf *conf = conf_of(ws);
	if (conf->ping == 0 || ws->beats)
		return;
	int64_t now = host_of(ws)->now_ms(ws->ww->worker);
	if (ws->paused)
		ws->heard = now; /* its pongs wait unread: that is our doing */
	int64_t idle = now - ws->heard;
	int64_t next = conf->ping - idle;
	if (idle >= conf->ping + conf->pong && ws->pinged) {
		ws->stream->ops->reset(ws->stream);
		user_gone(ws, CHATD_END_ERROR);
		finish(ws);
		return;
	}
	if (next <= 0) {
		if (!ws->pinged)
			ws->stream->ops->send(ws->stream, ws->ww->ping);
		ws->pinged = 1;
		next = conf->ping + conf->pong - idle;
		if (next <= 0)
			next = conf->pong;
	}
	host_of(ws)->timer_set(ws->ww->worker, &ws->timer, next, on_timer, ws);
}

static void on_timer(void *arg)
{
	struct chatd_ws *ws = arg;
	if (ws->state == CLOSING) {
		conn_cut(ws);
	} else if (ws->state == SLOW) {
		ws->stream->ops->reset(ws->stream);
		finish(ws);
	} else if (ws->suspect && conn_queued(ws) > (size_t)conf_of(ws)->max_queue) {
		end_slow(ws);
	} else {
		ws->suspect = 0;
		keep_alive(ws);
	}
}

void conn_beats(struct chatd_ws *ws)
{
	ws->beats = 1;
	if (ws->state == OPEN && !ws->suspect)
		host_of(ws)->timer_clear(&ws->timer);
}

/* ---- what comes in -------------------------------------------------------------- */

/* Has it been over the limit for FLOOD_S seconds on end? */
static int flooded(struct ws_rate *rate, int64_t now_ms, unsigned limit)
{
	uint32_t window = (uint32_t)(now_ms / 1000);
	if (window != rate->window) {
		int again = window == rate->window + 1 && rate->count > limit;
		rate->strikes = again ? (uint8_t)(rate->strikes + 1) : 0;
		rate->window = window;
		rate->count = 0;
	}
	if (rate->count < UINT16_MAX)
		rate->count++;
	return rate->strikes >= FLOOD_S;
}

static int assemble(struct chatd_ws *ws, const char *p, size_t n)
{
	struct ws_assembly *a = ws->assembly;
	size_t have = a ? a->n : 0;
	if (!a || a->room - have < n) {
		size_t room = a ? a->room * 2 : FIRST_ASSEMBLY;
		if (room > ws->decoder.max_message)
			room = (size_t)ws->decoder.max_message;
		if (room < have + n)
			room = have + n;
		a = realloc(a, sizeof(*a) + room);
		if (!a)
			return 0;
		a->n = have;
		a->room = room;
		ws->assembly = a;
	}
	if (n)
		memcpy(a->bytes + have, p, n);
	a->n = have + n;
	return 1;
}

static void whole_message(struct chatd_ws *ws, const struct frame_event *ev)
{
	int32_t binary = (ev->flags & FRAME_F_BINARY) != 0;
	if (!ws->assembly && ev->flags & FRAME_F_LAST) {
		ws->user->message(ws->arg, chatd_str_of(ev->p, ev->n), binary);
		return;
	}
	if (!assemble(ws, ev->p, ev->n)) {
		breach(ws, CODE_INTERNAL, "out of memory");
		return;
	}
	if (!(ev->flags & FRAME_F_LAST))
		return;
	struct ws_assembly *a = ws->assembly;
	ws->assembly = NULL; /* the callback may end the connection */
	ws->user->message(ws->arg, chatd_str_of(a->bytes, a->n), binary);
	free(a);
}

/* Returns how many bytes of the event were not taken. */
static size_t on_piece(struct chatd_ws *ws, const struct frame_event *ev)
{
	if (ev->flags & FRAME_F_EMPTY && flooded(&ws->empties, ws->heard, EMPTIES_PER_S)) {
		breach(ws, CODE_POLICY, "empty frame flood");
		return 0;
	}
	if (!ws->user->data) {
		whole_message(ws, ev);
		return 0;
	}
	size_t taken = ws->user->data(
			ws->arg, ev->p, ev->n, ev->flags & (CHATD_WS_BINARY | CHATD_WS_FIRST | CHATD_WS_LAST));
	return ws->state == OPEN ? ev->n - taken : 0;
}

static void on_peer_close(struct chatd_ws *ws, int32_t code)
{
	if (ws->state == OPEN)
		send_close(ws, code, NULL);
	ws->stream->ops->close(ws->stream);
	user_gone(ws, CHATD_END_EOF);
	finish(ws);
}

/* Of many pings in one batch over the limit, the last is answered: RFC 6455, 5.5.3. */
struct late_pong {
	int due;
	size_t n;
	char payload[FRAME_CONTROL_MAX];
};

static void on_ping(struct chatd_ws *ws, const struct frame_event *ev, struct late_pong *late)
{
	if (flooded(&ws->pings, ws->heard, PINGS_PER_S)) {
		breach(ws, CODE_POLICY, "ping flood");
	} else if (ws->pings.count <= PINGS_PER_S) {
		send_pong(ws, ev->p, ev->n);
	} else {
		late->due = 1;
		late->n = ev->n;
		memcpy(late->payload, ev->p, ev->n);
	}
}

static size_t on_event(struct chatd_ws *ws, const struct frame_event *ev, struct late_pong *late)
{
	if (ev->kind == FRAME_EV_FAIL)
		breach(ws, ev->code, ev->why);
	else if (ev->kind == FRAME_EV_CLOSE)
		on_peer_close(ws, ev->code);
	else if (ws->state != OPEN)
		return 0; /* after our close frame only the peer's matters */
	else if (ev->kind == FRAME_EV_DATA)
		return on_piece(ws, ev);
	else if (ev->kind == FRAME_EV_PING)
		on_ping(ws, ev, late);
	return 0;
}

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct chatd_ws *ws = arg;
	char scratch[SCRATCH];
	struct late_pong late;
	size_t at = 0;

	late.due = 0;
	ws->busy = 1;
	ws->heard = host_of(ws)->now_ms(ws->ww->worker);
	ws->pinged = 0;
	while ((ws->state == OPEN && !ws->paused) || ws->state == CLOSING) {
		struct frame_event ev;
		size_t used = frame_next(&ws->decoder, p + at, n - at, scratch, sizeof(scratch), &ev);
		at += used;
		if (ev.kind == FRAME_EV_MORE && used == 0)
			break;
		size_t rest = on_event(ws, &ev, &late);
		if (rest) {
			frame_untake(&ws->decoder, &ev, rest);
			at -= rest;
		}
	}
	if (late.due && ws->state == OPEN)
		send_pong(ws, late.payload, late.n);
	ws->busy = 0;
	if (ws->state == DEAD)
		conn_discard(ws);
	else if (ws->state == OPEN || ws->state == CLOSING)
		return at;
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	struct chatd_ws *ws = arg;
	user_gone(ws, why);
	finish(ws);
}

static void on_drained(void *arg)
{
	struct chatd_ws *ws = arg;
	if (ws->user && CHATD_HAS(ws->user, drained))
		ws->user->drained(ws->arg);
}

void conn_pause(struct chatd_ws *ws, int32_t on)
{
	if (ws->state == DEAD || ws->paused == (on != 0))
		return;
	ws->paused = on != 0;
	ws->stream->ops->pause(ws->stream, on);
}

void conn_start(struct chatd_ws *ws, chatd_stream *stream)
{
	static const struct chatd_stream_user user = {
		.struct_size = sizeof(user),
		.data = on_data,
		.gone = on_gone,
		.drained = on_drained,
	};
	const struct ws_conf *conf = conf_of(ws);
	size_t max = (size_t)ws->decoder.max_message;
	/* The stream's limit is the last resort, as it ends without a close frame. */
	size_t hard = conf->max_queue ? 4 * (size_t)conf->max_queue + 2 * max : 0;

	ws->stream = stream;
	ws->heard = host_of(ws)->now_ms(ws->ww->worker);
	list_add(ws, &ws->ww->open);
	ws->ww->n_open++;
	stream->ops->limits(stream, hard, conf->stall);
	stream->ops->attach(stream, &user, ws);
	keep_alive(ws);
}

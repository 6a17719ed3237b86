/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a connection: bytes in, pauses, heart-beats, the end. */
#include "render.h"
#include "stomp.h"
#include <stdio.h>
#include <string.h>

enum {
	FRAMES_PER_TURN = 64,     /**< then other connections have their turn */
	PRE_AUTH_FRAME = 8192,    /**< largest frame before the login */
	RECEIPTS_QUEUED = 131072, /**< octets waiting over which no more frames are read */
	QUEUE_POLL_MS = 100,      /**< how often such a queue is looked at */
	HEART_MARGIN_MS = 1000,   /**< on top of two intervals */
	CODE_STOPPING = 1012,     /**< the client does right to come back */
};

static const struct chatd_host *host_of(const struct stomp_conn *c)
{
	return c->w->self->h;
}

int64_t conn_now(const struct stomp_conn *c)
{
	return host_of(c)->now_ms(c->w->w);
}

static void unref(struct stomp_conn *c)
{
	if (--c->refs == 0) {
		host_of(c)->mem_free(c);
	}
}

/* ---- the end ----------------------------------------------------------------- */

static void release(struct stomp_conn *c)
{
	const struct chatd_host *h = host_of(c);
	chatd_session *s = c->session;
	c->state = CONN_ENDED;
	conn_uncount(c);
	c->session = NULL;
	h->timer_clear(&c->timer);
	parser_done(&c->parser);
	if (s) {
		c->w->self->sessions->close(s);
	}
	commit_free(c);
	if (c->tx) {
		tx_free_all(c->tx, h);
		h->mem_free(c->tx);
		c->tx = NULL;
	}
	h->msg_unref(c->op_msg);
	c->op_msg = NULL;
	pipe_free(c);
}

static void conn_finish(struct stomp_conn *c)
{
	release(c);
	c->layer->close(c->link, c->end_code, c->end_why);
	unref(c);
}

static void on_finish(void *arg)
{
	struct stomp_conn *c = arg;
	if (c->state == CONN_ENDING) {
		conn_finish(c);
	}
	unref(c);
}

/** Finish now if nobody further down the stack will. */
static void finish_soon(struct stomp_conn *c)
{
	if (c->depth) {
		return;
	}
	c->refs++;
	if (host_of(c)->post(c->w->w, on_finish, c) < 0) {
		unref(c);
		conn_finish(c);
	}
}

void conn_end(struct stomp_conn *c, int32_t code, const char *why)
{
	if (c->state >= CONN_ENDING) {
		return;
	}
	c->state = CONN_ENDING;
	c->end_code = code;
	c->end_why = why;
	finish_soon(c);
}

/** At most one line a second and worker: who breaks the protocol must not fill disks. */
static void log_refusal(struct stomp_conn *c, const char *message, struct chatd_str detail)
{
	const struct stomp *self = c->w->self;
	int64_t now = conn_now(c);
	if (now < c->w->log_next) {
		c->w->log_held++;
		return;
	}
	char text[128];
	size_t n = detail.n < sizeof(text) - 1 ? detail.n : sizeof(text) - 1;
	for (size_t i = 0; i < n; i++) {
		char b = detail.p[i];
		text[i] = (unsigned char)b < 0x20 || b == 0x7f ? '?' : b;
	}
	text[n] = '\0';
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"a %s client is refused: %s: %s (%u more since the last)", c->layer->name, message,
			text, c->w->log_held);
	c->w->log_next = now + 1000;
	c->w->log_held = 0;
}

static void send_error(struct stomp_conn *c, const char *message, const struct refusal *r)
{
	const char *code = r->code ? r->code : stomp_fault_text(r->fault)->code;
	const struct stomp_header header[] = {
		{ CHATD_LIT("message"), chatd_str_of(message, strlen(message)) },
		{ CHATD_LIT("code"), chatd_str_of(code, strlen(code)) },
		{ CHATD_LIT("version"), r->version },
		{ CHATD_LIT("receipt-id"), r->receipt },
		{ CHATD_LIT("content-type"), CHATD_LIT("text/plain") },
	};
	struct render_frame f = { .command = "ERROR",
		.form = c->version,
		.header = header,
		.n = sizeof(header) / sizeof(header[0]),
		.with_length = 1,
		.body = r->detail };
	(void)conn_put(c, render_frame(&f));
}

void conn_refuse(struct stomp_conn *c, const struct refusal *r)
{
	if (c->state >= CONN_ENDING) {
		return;
	}
	const struct stomp_fault_text *text = stomp_fault_text(r->fault);
	log_refusal(c, text->message, r->detail);
	chatd_stats_count(c->w->self->stats, c->w->w, c->w->self->rejected[r->fault]);
	send_error(c, text->message, r);
	conn_end(c, r->close ? r->close : text->close, text->message);
}

void conn_fault(
		struct stomp_conn *c, enum stomp_fault fault, const char *detail, struct chatd_str receipt)
{
	struct refusal r = {
		.fault = fault, .detail = chatd_str_of(detail, strlen(detail)), .receipt = receipt
	};
	conn_refuse(c, &r);
}

/* ---- output -------------------------------------------------------------------- */

size_t conn_put(struct stomp_conn *c, chatd_buf *raw)
{
	chatd_buf *wrapped = raw ? c->layer->wrap(raw, 0) : NULL;
	if (!wrapped) {
		conn_end(c, 1011, "out of memory");
		return 0;
	}
	c->sent = conn_now(c);
	size_t waiting = c->layer->send(c->link, wrapped);
	host_of(c)->buf_unref(wrapped);
	return waiting;
}

static void set_pause(struct stomp_conn *c, uint8_t who, int on);

void conn_receipt(struct stomp_conn *c, struct chatd_str receipt, chatd_msg *reply)
{
	if (receipt.p && c->state == CONN_OPEN && !pipe_receipt(c, receipt, reply, 0)) {
		conn_receipt_now(c, receipt, reply);
	}
}

void conn_receipt_now(struct stomp_conn *c, struct chatd_str receipt, const chatd_msg *reply)
{
	if (!receipt.p || c->state != CONN_OPEN) {
		return;
	}
	const struct stomp_header header = { CHATD_LIT("receipt-id"), receipt };
	struct render_frame f = {
		.command = "RECEIPT", .form = c->version, .header = &header, .n = 1, .more = reply
	};
	if (conn_put(c, render_frame(&f)) > RECEIPTS_QUEUED) {
		set_pause(c, PAUSE_QUEUE, 1);
		conn_arm(c);
	}
}

static size_t on_send(void *arg, chatd_buf *wrapped)
{
	struct stomp_conn *c = arg;
	if (c->state != CONN_OPEN) { /* after its ERROR a client gets nothing more */
		return 0;
	}
	if (c->beat_out) {
		c->sent = conn_now(c);
	}
	return c->layer->send(c->link, wrapped);
}

static size_t on_queued(void *arg)
{
	struct stomp_conn *c = arg;
	return c->state < CONN_ENDING ? c->layer->queued(c->link) : 0;
}

/* ---- pauses --------------------------------------------------------------------- */

static void set_pause(struct stomp_conn *c, uint8_t who, int on)
{
	uint8_t before = c->pauses;
	c->pauses = on ? before | who : before & (uint8_t)~who;
	if (c->state >= CONN_ENDING || !before == !c->pauses) {
		return;
	}
	if (!on) {
		/* What was not read must not count as silence. */
		c->heard = conn_now(c);
		if (c->state == CONN_OPEN && c->since) {
			c->since = c->heard;
			conn_arm(c);
		}
	}
	c->layer->pause(c->link, on);
}

void conn_pause(struct stomp_conn *c, uint8_t who, int on)
{
	set_pause(c, who, on);
}

static void on_core_pause(void *arg, int32_t on)
{
	set_pause(arg, PAUSE_CORE, on);
}

static void on_turn(void *arg)
{
	struct stomp_conn *c = arg;
	set_pause(c, PAUSE_YIELD, 0);
	unref(c);
}

/** Let others have their turn.  0: there was no memory to come back. */
static int yield(struct stomp_conn *c)
{
	if (c->pauses & PAUSE_YIELD) {
		return 1;
	}
	c->refs++;
	if (host_of(c)->post(c->w->w, on_turn, c) < 0) {
		unref(c);
		return 0;
	}
	set_pause(c, PAUSE_YIELD, 1);
	return 1;
}

void conn_read_on(struct stomp_conn *c)
{
	conn_arm(c);
	(void)yield(c);
	set_pause(c, PAUSE_OP, 0);
}

/* ---- the core's answers ------------------------------------------------------------ */

static void answered(
		struct stomp_conn *c, uint8_t op, chatd_msg *frame, const struct chatd_outcome *o)
{
	if (op == OP_LOGIN) {
		login_done(c, frame, o);
	} else if (o->verdict == CHATD_REJECT) {
		c->refused |= op == OP_COMMIT;
		c->w->self->sessions->soft_error(c->session, o, frame);
	} else if (op != OP_COMMIT) {
		conn_receipt(c, host_of(c)->msg_get(frame, "receipt"), o->reply);
	}
}

void conn_done(void *arg, const struct chatd_outcome *o)
{
	struct stomp_conn *c = arg;
	uint8_t op = c->op;
	chatd_msg *frame = c->op_msg;
	c->op = OP_NONE;
	c->op_msg = NULL;
	if (c->in_op) { /* whoever called the core goes on by himself */
		answered(c, op, frame, o);
		host_of(c)->msg_unref(frame);
		return;
	}
	c->depth++;
	answered(c, op, frame, o);
	host_of(c)->msg_unref(frame);
	if (op == OP_COMMIT && c->state == CONN_OPEN) {
		commit_run(c);
	}
	conn_may_leave(c);
	c->depth--;
	if (c->state == CONN_ENDING) {
		finish_soon(c);
	} else if (c->op == OP_NONE) {
		conn_arm(c);
		set_pause(c, PAUSE_OP, 0);
	}
}

void conn_enter(struct stomp_conn *c)
{
	c->depth++;
}

void conn_leave(struct stomp_conn *c)
{
	c->depth--;
	if (c->state == CONN_ENDING && !c->depth) {
		finish_soon(c);
	}
}

/* ---- time ------------------------------------------------------------------------- */

/** A beat goes out a little early, for the wheel may be late and the client counts. */
static int64_t beat_due(const struct stomp_conn *c)
{
	return c->sent + c->beat_out - c->beat_out / 20;
}

static int64_t silence_due(const struct stomp_conn *c)
{
	return c->heard + 2 * (int64_t)c->beat_in + HEART_MARGIN_MS;
}

static int64_t first(int64_t a, int64_t b)
{
	return a && a < b ? a : b;
}

/** When the timer is needed next; 0: not at all. */
static int64_t next_due(const struct stomp_conn *c, int64_t now)
{
	const struct stomp_conf *conf = c->w->self->conf;
	int64_t due = 0;
	if (c->state == CONN_NEW) {
		return c->since + conf->connect_timeout;
	}
	if (c->state != CONN_OPEN) {
		return 0;
	}
	if (c->since && !c->pauses) {
		due = first(due, c->since + conf->frame_timeout);
	}
	if (c->beat_out) {
		due = first(due, beat_due(c));
	}
	if (c->beat_in) {
		/* While paused nothing is heard; the end of the pause counts as a sign of life. */
		due = first(due, c->pauses ? now + 2 * (int64_t)c->beat_in : silence_due(c));
	}
	if (c->pauses & PAUSE_QUEUE) {
		due = first(due, now + QUEUE_POLL_MS);
	}
	return due;
}

/** What is due at @p now is done. */
static void check_time(struct stomp_conn *c, int64_t now)
{
	const struct stomp_conf *conf = c->w->self->conf;
	const struct chatd_str none = { NULL, 0 };
	if (c->state == CONN_NEW && now >= c->since + conf->connect_timeout) {
		conn_fault(c, STOMP_CONNECT_TIMEOUT, "No CONNECT frame came in time", none);
	}
	if (c->state != CONN_OPEN) {
		return;
	}
	if ((c->pauses & PAUSE_QUEUE) && c->layer->queued(c->link) <= RECEIPTS_QUEUED / 2) {
		set_pause(c, PAUSE_QUEUE, 0);
	}
	if (c->since && !c->pauses && now >= c->since + conf->frame_timeout) {
		conn_fault(c, STOMP_INCOMPLETE, "The rest of a frame did not come in time", none);
	} else if (c->beat_in && !c->pauses && now >= silence_due(c)) {
		conn_fault(c, STOMP_HEARTBEAT, "Nothing was heard for two heart-beat intervals", none);
	} else if (c->beat_out && now >= beat_due(c)) {
		(void)conn_put(c, render_beat());
	}
}

static void on_timer(void *arg)
{
	struct stomp_conn *c = arg;
	c->timer_due = 0;
	c->refs++;
	c->depth++;
	check_time(c, conn_now(c));
	c->depth--;
	if (c->state == CONN_ENDING) {
		conn_finish(c);
	} else {
		conn_arm(c);
	}
	unref(c);
}

void conn_arm(struct stomp_conn *c)
{
	int64_t now = conn_now(c);
	int64_t due = next_due(c, now);
	/* A timer that is set for an earlier time will look again by itself. */
	if (due && (!c->timer_due || due < c->timer_due)) {
		c->timer_due = due;
		host_of(c)->timer_set(c->w->w, &c->timer, due > now ? due - now : 0, on_timer, c);
	}
}

/* ---- input ------------------------------------------------------------------------- */

static struct parser_rules rules_of(const struct stomp_conn *c)
{
	const struct stomp_conf *conf = c->w->self->conf;
	size_t max_frame = (size_t)conf->max_frame;
	if (c->state != CONN_OPEN && max_frame > PRE_AUTH_FRAME) {
		max_frame = PRE_AUTH_FRAME;
	}
	return (struct parser_rules){
		.max_frame = max_frame, .max_headers = (size_t)conf->max_header_lines, .version = c->version
	};
}

/** Parse and handle until something stands against it.  Returns the frames handled. */
static uint32_t run_frames(struct stomp_conn *c, struct chatd_str *in)
{
	struct stomp_frame *f = &c->w->frame;
	uint32_t frames = 0;
	while (in->n && !c->pauses && c->state < CONN_ENDING) {
		if (frames && frames % FRAMES_PER_TURN == 0 && yield(c)) {
			break;
		}
		struct parser_rules rules = rules_of(c);
		enum parser_result rc = parser_feed(&c->parser, &rules, in, f);
		if (rc == PARSER_FAULT) {
			conn_fault(c, f->fault, f->detail, f->receipt);
		}
		if (rc != PARSER_FRAME) {
			break;
		}
		frames++;
		frames_handle(c, f);
		parser_done(&c->parser);
		if (c->op != OP_NONE) {
			set_pause(c, PAUSE_OP, 1);
		}
	}
	return frames;
}

static size_t on_data(void *conn, const char *p, size_t n)
{
	struct stomp_conn *c = conn;
	struct chatd_str in = chatd_str_of(p, n);
	if (c->state >= CONN_ENDING) {
		return n;
	}
	/* Called out of another connection's frame: its frame is still in use. */
	if (c->w->busy) {
		(void)yield(c);
		return 0;
	}
	if (c->pauses) {
		return 0;
	}
	c->w->busy++;
	c->refs++;
	c->depth++;
	c->heard = conn_now(c);
	uint32_t frames = run_frames(c, &in);
	c->depth--;
	c->w->busy--;
	if (c->state == CONN_ENDING) {
		conn_finish(c);
	} else if (c->state == CONN_OPEN && parser_is_inside(&c->parser)) {
		if (!c->since || frames) {
			c->since = c->heard;
			conn_arm(c);
		}
	} else if (c->state == CONN_OPEN) {
		c->since = 0;
	}
	size_t taken = c->state >= CONN_ENDING ? n : n - in.n;
	unref(c);
	return taken;
}

/* ---- beginning and end, from outside -------------------------------------------------- */

void conn_uncount(struct stomp_conn *c)
{
	if (c->counted) {
		c->counted = 0;
		atomic_fetch_sub_explicit(c->w->self->strangers, 1, memory_order_relaxed);
	}
}

/* A unix socket's peer has no address. */
static int is_local(struct chatd_str peer)
{
	const char *p = peer.p ? peer.p : "";
	if (!memchr(p, '.', peer.n) && !memchr(p, ':', peer.n)) {
		return 1;
	}
	return (peer.n > 4 && memcmp(p, "127.", 4) == 0) || (peer.n == 3 && memcmp(p, "::1", 3) == 0);
}

/* Whoever never says CONNECT costs a descriptor for a while; there is a bound on that. */
static void count_stranger(struct stomp_conn *c)
{
	const struct stomp *self = c->w->self;
	int64_t most = self->conf->max_strangers;
	if (!most || is_local(c->layer->attr(c->link, CHATD_CRED_PEER))) {
		return;
	}
	c->counted = 1;
	if (atomic_fetch_add_explicit(self->strangers, 1, memory_order_relaxed) >= most) {
		conn_end(c, 4429, "Too many connections that have not logged in");
	}
}

static void *on_open(void *obj, chatd_worker *w, const struct chatd_layer *layer, void *link)
{
	const struct stomp *self = obj;
	struct stomp_conn *c = self->h->mem_alloc(sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->w = self->h->worker_self(self->ctx, w);
	c->layer = layer;
	c->link = link;
	c->refs = 1;
	c->since = c->heard = conn_now(c);
	conn_arm(c);
	count_stranger(c);
	return c;
}

static void on_gone(void *conn, int32_t why)
{
	struct stomp_conn *c = conn;
	(void)why;
	release(c);
	unref(c);
}

void conn_may_leave(struct stomp_conn *c)
{
	if ((c->pauses & PAUSE_LEAVE) && c->op == OP_NONE && !c->pipe && !c->commit) {
		conn_end(c, c->end_code, c->end_why);
	}
}

/* Whoever is about to log in has nothing to lose. */
static void on_leave(void *conn, int32_t code, const char *why)
{
	struct stomp_conn *c = conn;
	if (c->state >= CONN_ENDING) {
		return;
	}
	if (c->state != CONN_OPEN) {
		conn_end(c, code, why);
		return;
	}
	c->end_code = code;
	c->end_why = why;
	set_pause(c, PAUSE_LEAVE, 1);
	conn_may_leave(c);
}

/** The core has closed the session: it must not be told of it again. */
static void on_core_close(void *arg, int32_t code, const char *why)
{
	struct stomp_conn *c = arg;
	c->session = NULL;
	if (c->state < CONN_ENDING) {
		if (why && *why && code != CODE_STOPPING) {
			struct refusal r = {
				.fault = STOMP_INTERNAL, .detail = chatd_str_of(why, strlen(why)), .code = "CLOSED"
			};
			send_error(c, why, &r);
		}
		c->state = CONN_ENDING;
		c->end_code = code;
		c->end_why = NULL;
	}
	if (!c->depth) {
		release(c);
		c->layer->close(c->link, c->end_code, c->end_why ? c->end_why : why);
		unref(c);
	} else if (!c->end_why) {
		c->end_why = ""; /* why is gone when whoever is down the stack closes */
	}
}

static size_t max_frame(void *obj)
{
	const struct stomp *self = obj;
	return (size_t)self->conf->max_frame;
}

static const char *const protocols[] = { "v12.stomp", "v11.stomp", "v10.stomp", NULL };

const struct chatd_codec stomp_codec = {
	.struct_size = sizeof(struct chatd_codec),
	.protocols = protocols,
	.open = on_open,
	.data = on_data,
	.gone = on_gone,
	.max_frame = max_frame,
	.leave = on_leave,
};

const struct chatd_conn_ops stomp_conn_ops = {
	.struct_size = sizeof(struct chatd_conn_ops),
	.render = render_message,
	.send = on_send,
	.pause = on_core_pause,
	.close = on_core_close,
	.queued = on_queued,
	.proceed = pipe_proceed,
};

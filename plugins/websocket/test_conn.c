/* SPDX-License-Identifier: Apache-2.0 */
/* A connection between a stream and a host that are both made up: what it says when, by
 * a clock that the test turns. */
#include "conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a host: buffers, one timer, a clock ------------------------------------- */

struct chatd_buf {
	int refs;
	size_t n;
	char *p;
};

static struct world {
	int64_t now;
	struct chatd_timer *timer;
	int bufs; /* alive */
	/* the stream */
	struct chatd_stream stream;
	const struct chatd_stream_user *user;
	void *user_arg;
	char sent[65536];
	size_t n_sent, queued;
	int closed, reset, paused;
	/* the user of the connection */
	char seen[32768];
	size_t take; /* of each piece; the rest after a pause */
	int gone;    /* why, 0: not */
	struct chatd_ws *ws;
	void (*in_message)(void);
} w;

static chatd_buf *buf_new(size_t room, size_t n)
{
	(void)room;
	chatd_buf *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	b->refs = 1;
	b->n = n;
	b->p = calloc(1, n + 1);
	w.bufs++;
	return b;
}

static void buf_unref(chatd_buf *b)
{
	if (b && --b->refs == 0) {
		free(b->p);
		free(b);
		w.bufs--;
	}
}

static char *buf_data(chatd_buf *b)
{
	return b->p;
}

static size_t buf_len(const chatd_buf *b)
{
	return b->n;
}

static void timer_set(
		chatd_worker *worker, struct chatd_timer *t, int64_t ms, void (*fn)(void *), void *arg)
{
	(void)worker;
	assert_true(w.timer == NULL || w.timer == t);
	t->due = w.now + ms;
	t->fn = fn;
	t->arg = arg;
	w.timer = t;
}

static void timer_clear(struct chatd_timer *t)
{
	if (w.timer == t)
		w.timer = NULL;
}

static int64_t now_ms(chatd_worker *worker)
{
	(void)worker;
	return w.now;
}

static CHATD_PRINTF(3, 4) void log_line(chatd_ctx *ctx, int32_t level, const char *fmt, ...)
{
	(void)ctx;
	(void)level;
	(void)fmt;
}

static const struct chatd_host host = {
	.struct_size = sizeof(host),
	.log = log_line,
	.buf_new = buf_new,
	.buf_unref = buf_unref,
	.buf_data = buf_data,
	.buf_len = buf_len,
	.timer_set = timer_set,
	.timer_clear = timer_clear,
	.now_ms = now_ms,
};

/* Lets time pass, firing what comes due on the way. */
static void advance(int64_t ms)
{
	int64_t end = w.now + ms;
	while (w.timer && w.timer->due <= end) {
		struct chatd_timer *t = w.timer;
		w.timer = NULL;
		w.now = t->due > w.now ? t->due : w.now;
		t->fn(t->arg);
	}
	w.now = end;
}

/* ---- a stream: remembers ------------------------------------------------------- */

static void st_attach(chatd_stream *s, const struct chatd_stream_user *user, void *arg)
{
	(void)s;
	w.user = user;
	w.user_arg = arg;
}

static size_t st_send(chatd_stream *s, chatd_buf *b)
{
	(void)s;
	assert_false(w.closed || w.reset);
	if (w.n_sent + b->n <= sizeof(w.sent)) {
		memcpy(w.sent + w.n_sent, b->p, b->n);
		w.n_sent += b->n;
	}
	return w.queued += b->n;
}

static void st_pause(chatd_stream *s, int32_t on)
{
	(void)s;
	w.paused = on;
}

static void st_close(chatd_stream *s)
{
	(void)s;
	w.closed++;
}

static void st_reset(chatd_stream *s)
{
	(void)s;
	w.reset++;
}

static size_t st_queued(const chatd_stream *s)
{
	(void)s;
	return w.queued;
}

static void st_limits(chatd_stream *s, size_t max, int64_t stall)
{
	(void)s;
	(void)max;
	(void)stall;
}

static struct chatd_str st_peer(const chatd_stream *s)
{
	(void)s;
	return CHATD_LIT("192.0.2.1");
}

static const struct chatd_stream_ops stream_ops = {
	.struct_size = sizeof(stream_ops),
	.attach = st_attach,
	.send = st_send,
	.pause = st_pause,
	.close = st_close,
	.reset = st_reset,
	.queued = st_queued,
	.limits = st_limits,
	.peer = st_peer,
};

/* ---- users ------------------------------------------------------------------------ */

static void note(const char *p, size_t n)
{
	size_t have = strlen(w.seen);
	assert_true(have + n + 2 < sizeof(w.seen));
	memcpy(w.seen + have, p, n);
	w.seen[have + n] = 0;
}

static size_t on_piece(void *arg, const char *p, size_t n, uint32_t flags)
{
	(void)arg;
	size_t taken = n;
	if (w.take && n > w.take) {
		taken = w.take;
		conn_pause(w.ws, 1);
	}
	if (flags & CHATD_WS_FIRST && taken)
		note("[", 1);
	note(p, taken);
	if (flags & CHATD_WS_LAST && taken == n)
		note("]", 1);
	return taken;
}

static void on_message(void *arg, struct chatd_str text, int32_t binary)
{
	(void)arg;
	note(binary ? "<b:" : "<", binary ? 3 : 1);
	note(text.p, text.n > 40 ? 40 : text.n);
	note(">", 1);
	if (w.in_message)
		w.in_message();
}

static void on_gone(void *arg, int32_t why)
{
	(void)arg;
	assert_int_equal(w.gone, 0);
	w.gone = why;
}

static void on_drain(void *arg)
{
	(void)arg;
	note("drain", 5);
}

static const struct chatd_ws_user pieces = {
	.struct_size = sizeof(pieces),
	.data = on_piece,
	.gone = on_gone,
};
static const struct chatd_ws_user messages = {
	.struct_size = sizeof(messages),
	.message = on_message,
	.gone = on_gone,
	.drain = on_drain,
};

static const struct ws_conf conf = {
	.ping = 25000,
	.pong = 10000,
	.max_queue = 1000,
	.stall = 10000,
};
static struct ws_plugin plugin = { .host = &host, .conf = &conf, .max_message = 65536 };
static struct ws_worker worker;

static void begin(const struct chatd_ws_user *user, uint32_t flags)
{
	struct chatd_ws_accept a = { .struct_size = sizeof(a), .user = user, .flags = flags };
	memset(&w, 0, sizeof(w));
	memset(&worker, 0, sizeof(worker));
	w.now = 1000000;
	w.stream.ops = &stream_ops;
	worker.plugin = &plugin;
	worker.ping = buf_new(0, 2);
	memcpy(worker.ping->p, "\x89\x00", 2);
	w.ws = conn_create(&worker, &a);
	assert_non_null(w.ws);
	conn_start(w.ws, &w.stream);
}

/* Everything must have been given back, whichever way it ended. */
static void end(void)
{
	if (worker.open)
		conn_abandon(worker.open);
	if (worker.closing)
		conn_abandon(worker.closing);
	assert_null(worker.open);
	assert_null(worker.closing);
	assert_int_equal(worker.n_open, 0);
	assert_null(w.timer);
	buf_unref(worker.ping);
	assert_int_equal(w.bufs, 0);
}

static size_t give(const char *p, size_t n)
{
	return w.user->data(w.user_arg, p, n);
}

/* One masked frame with a key of zeros, so that the payload reads as it is. */
static size_t put_frame(char *out, int first, const char *payload, size_t n)
{
	size_t len = frame_header(out, 0, n);
	out[0] = (char)first;
	out[1] = (char)(out[1] | 0x80);
	memset(out + len, 0, 4);
	memcpy(out + len + 4, payload, n);
	return len + 4 + n;
}

static void give_frame(int first, const char *payload)
{
	char wire[256];
	size_t n = put_frame(wire, first, payload, strlen(payload));
	assert_int_equal(give(wire, n), n);
}

static void expect_sent(const char *bytes, size_t n)
{
	assert_int_equal(w.n_sent, n);
	assert_memory_equal(w.sent, bytes, n);
	w.n_sent = 0;
}

#define EXPECT_SENT(bytes) expect_sent(bytes, sizeof(bytes) - 1)

/* ---- tests ---------------------------------------------------------------------------- */

static void silence_is_pinged_then_cut(void **state)
{
	(void)state;
	begin(&pieces, 0);
	advance(24999);
	EXPECT_SENT("");
	advance(1);
	EXPECT_SENT("\x89\x00");
	advance(9999);
	assert_int_equal(w.gone, 0);
	advance(1);
	assert_int_equal(w.gone, CHATD_END_ERROR);
	assert_int_equal(w.reset, 1);
	end();
}

static void any_byte_counts_as_life(void **state)
{
	(void)state;
	begin(&pieces, 0);
	for (int i = 0; i < 10; i++) {
		advance(24000);
		give_frame(0x8a, "");
	}
	EXPECT_SENT("");
	advance(25000);
	EXPECT_SENT("\x89\x00");
	give_frame(0x81, "x");
	advance(24999);
	EXPECT_SENT("");
	advance(1);
	EXPECT_SENT("\x89\x00");
	assert_int_equal(w.gone, 0);
	end();
}

static void heart_beats_replace_pings(void **state)
{
	(void)state;
	begin(&pieces, 0);
	conn_beats(w.ws);
	advance(1000000);
	EXPECT_SENT("");
	assert_int_equal(w.gone, 0);
	end();
}

static void a_paused_client_is_not_dead(void **state)
{
	(void)state;
	begin(&pieces, 0);
	conn_pause(w.ws, 1);
	advance(1000000);
	assert_int_equal(w.gone, 0);
	conn_pause(w.ws, 0);
	advance(60001);
	assert_int_equal(w.gone, CHATD_END_ERROR);
	end();
}

static void what_is_not_taken_comes_again(void **state)
{
	(void)state;
	char wire[64];
	size_t n = put_frame(wire, 0x81, "abcdef", 6);
	n += put_frame(wire + n, 0x81, "gh", 2);
	begin(&pieces, 0);
	w.take = 4;
	size_t used = give(wire, n);
	assert_int_equal(used, 6 + 4);
	assert_int_equal(w.paused, 1);
	assert_int_equal(give(wire + used, n - used), 0);
	conn_pause(w.ws, 0);
	assert_int_equal(give(wire + used, n - used), n - used);
	assert_string_equal(w.seen, "[abcdef][gh]");
	end();
}

static void pause_once(void)
{
	conn_pause(w.ws, 1);
	w.in_message = NULL;
}

static void no_message_comes_while_paused(void **state)
{
	(void)state;
	char wire[64];
	size_t n = put_frame(wire, 0x81, "one", 3);
	n += put_frame(wire + n, 0x82, "two", 3);
	begin(&messages, 0);
	w.in_message = pause_once;
	size_t used = give(wire, n);
	assert_string_equal(w.seen, "<one>");
	conn_pause(w.ws, 0);
	assert_int_equal(used + give(wire + used, n - used), n);
	assert_string_equal(w.seen, "<one><b:two>");
	end();
}

static void messages_are_put_together(void **state)
{
	(void)state;
	char wire[40000], payload[30000];
	memset(payload, 'x', sizeof(payload));
	memcpy(payload, "head", 4);
	begin(&messages, 0);
	size_t n = put_frame(wire, 0x01, payload, sizeof(payload));
	assert_int_equal(give(wire, 20000), 20000);
	assert_int_equal(give(wire + 20000, n - 20000), n - 20000);
	give_frame(0x89, "between");
	give_frame(0x80, "tail");
	assert_memory_equal(w.seen, "<head", 5);
	give_frame(0x81, "");
	assert_string_equal(w.seen + strlen(w.seen) - 2, "<>");
	end();
}

static void close_now(void)
{
	conn_close(w.ws, 3000, "Go away!");
}

static void a_close_waits_for_the_peers(void **state)
{
	(void)state;
	begin(&messages, 0);
	w.in_message = close_now;
	give_frame(0x81, "x");
	EXPECT_SENT("\x88\x0a\x0b\xb8Go away!");
	give_frame(0x81, "ignored");
	give_frame(0x89, "ignored");
	assert_string_equal(w.seen, "<x>");
	assert_int_equal(w.closed, 0);
	give_frame(0x88, "\x0b\xb8");
	assert_int_equal(w.closed, 1);
	EXPECT_SENT("");
	assert_int_equal(w.gone, 0); /* who closes is not told */
	end();
}

static void a_close_does_not_wait_for_ever(void **state)
{
	(void)state;
	begin(&messages, 0);
	conn_close(w.ws, 1000, NULL);
	EXPECT_SENT("\x88\x02\x03\xe8");
	advance(4999);
	assert_int_equal(w.closed, 0);
	advance(1);
	assert_int_equal(w.closed, 1);
	end();
}

static void a_paused_connection_can_close(void **state)
{
	(void)state;
	begin(&messages, 0);
	conn_pause(w.ws, 1);
	conn_close(w.ws, 1000, NULL);
	assert_int_equal(w.paused, 0);
	give_frame(0x88, "");
	assert_int_equal(w.closed, 1);
	end();
}

static void cut_now(void)
{
	conn_cut(w.ws);
}

static void a_cut_says_nothing(void **state)
{
	(void)state;
	begin(&messages, 0);
	w.in_message = cut_now;
	give_frame(0x81, "x");
	EXPECT_SENT("");
	assert_int_equal(w.closed, 1);
	assert_int_equal(w.gone, 0);
	end();
}

static void a_peers_close_is_echoed(void **state)
{
	(void)state;
	begin(&pieces, 0);
	give_frame(0x88, "\x0f\xa0why");
	EXPECT_SENT("\x88\x02\x0f\xa0");
	assert_int_equal(w.closed, 1);
	assert_int_equal(w.gone, CHATD_END_EOF);
	end();
	begin(&pieces, 0);
	give_frame(0x88, "");
	EXPECT_SENT("\x88\x00");
	end();
}

static void a_breach_is_named(void **state)
{
	(void)state;
	begin(&pieces, 0);
	give("\x81\x05hello", 7);
	EXPECT_SENT("\x88\x19\x03\xea"
				"client frame not masked");
	assert_int_equal(w.closed, 1);
	assert_int_equal(w.gone, CHATD_END_ERROR);
	end();
}

static void binary_is_refused_where_told(void **state)
{
	(void)state;
	begin(&messages, CHATD_WS_TEXT_ONLY);
	give_frame(0x82, "x");
	EXPECT_SENT("\x88\x0b\x03\xebtext only");
	end();
}

static void pongs_are_merged_beyond_a_hundred(void **state)
{
	(void)state;
	static char wire[6 * 300 + 16];
	size_t n = 0;
	begin(&pieces, 0);
	for (int i = 0; i < 300; i++)
		n += put_frame(wire + n, 0x89, "", 0);
	n += put_frame(wire + n, 0x89, "last", 4);
	give(wire, n);
	assert_int_equal(w.n_sent, 100 * 2 + 6);
	assert_memory_equal(w.sent + 200, "\x8a\x04last", 6);
	end();
}

static void flood_of(int first, const char *expected, int per_s, int limit)
{
	begin(&pieces, 0);
	for (int s = 0; s < 5; s++) { /* as many as are allowed, for as long as you like */
		for (int i = 0; i < limit; i++)
			give_frame(first, "");
		advance(1000);
	}
	assert_int_equal(w.gone, 0);
	for (int s = 0; s < 5; s++) {
		for (int i = 0; i < per_s; i++)
			give_frame(first, "");
		advance(1000);
		assert_int_equal(w.gone, 0);
	}
	w.n_sent = 0;
	give_frame(first, "");
	assert_int_equal(w.gone, CHATD_END_ERROR);
	expect_sent(expected, strlen(expected));
	end();
}

static void floods_end_after_five_seconds(void **state)
{
	(void)state;
	flood_of(0x89, "\x88\x0c\x03\xf0ping flood", 101, 100);
	flood_of(0x81,
			"\x88\x13\x03\xf0"
			"empty frame flood",
			501, 500);
}

static size_t send_bytes(size_t n)
{
	chatd_buf *b = buf_new(0, n);
	size_t waiting = conn_send_buf(w.ws, b);
	buf_unref(b);
	return waiting;
}

static void a_long_queue_gets_a_second_look(void **state)
{
	(void)state;
	begin(&pieces, 0);
	assert_int_equal(send_bytes(5000), 5000); /* one alone may be as big as it likes */
	assert_int_equal(w.ws->suspect, 0);
	send_bytes(10);
	assert_int_equal(w.ws->suspect, 1);
	w.queued = 0; /* the turn ends, all is written */
	advance(50);
	assert_int_equal(w.gone, 0);
	assert_int_equal(w.ws->suspect, 0);
	advance(25000); /* the timer is back at its other work */
	assert_memory_equal(w.sent + w.n_sent - 2, "\x89\x00", 2);
	end();
}

static void a_slow_one_is_told_and_cut(void **state)
{
	(void)state;
	begin(&pieces, 0);
	send_bytes(600);
	send_bytes(600);
	send_bytes(600);
	w.n_sent = 0;
	advance(0);
	EXPECT_SENT("\x88\x0f\x11\x94slow consumer");
	assert_int_equal(w.gone, CHATD_END_SLOW);
	assert_int_equal(send_bytes(10), 0);
	assert_int_equal(w.reset, 0);
	advance(1000);
	assert_int_equal(w.reset, 1);
	end();
}

static void drain_asks_the_user_or_closes(void **state)
{
	(void)state;
	begin(&messages, 0);
	conn_drain(worker.open);
	assert_null(worker.open); /* its turn does not come twice */
	assert_string_equal(w.seen, "drain");
	assert_int_equal(w.gone, 0);
	conn_close(w.ws, 1012, NULL);
	end();
	begin(&pieces, 0);
	conn_drain(worker.open);
	assert_int_equal(w.gone, CHATD_END_DRAIN);
	assert_memory_equal(w.sent + 2, "\x03\xf4", 2);
	end();
}

static void the_streams_end_is_passed_on(void **state)
{
	(void)state;
	begin(&messages, 0);
	give_frame(0x01, "half a message");
	w.user->gone(w.user_arg, CHATD_END_EOF);
	assert_int_equal(w.gone, CHATD_END_EOF);
	assert_string_equal(w.seen, "");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_pinged_then_cut),
		cmocka_unit_test(any_byte_counts_as_life),
		cmocka_unit_test(heart_beats_replace_pings),
		cmocka_unit_test(a_paused_client_is_not_dead),
		cmocka_unit_test(what_is_not_taken_comes_again),
		cmocka_unit_test(no_message_comes_while_paused),
		cmocka_unit_test(messages_are_put_together),
		cmocka_unit_test(a_close_waits_for_the_peers),
		cmocka_unit_test(a_close_does_not_wait_for_ever),
		cmocka_unit_test(a_paused_connection_can_close),
		cmocka_unit_test(a_cut_says_nothing),
		cmocka_unit_test(a_peers_close_is_echoed),
		cmocka_unit_test(a_breach_is_named),
		cmocka_unit_test(binary_is_refused_where_told),
		cmocka_unit_test(pongs_are_merged_beyond_a_hundred),
		cmocka_unit_test(floods_end_after_five_seconds),
		cmocka_unit_test(a_long_queue_gets_a_second_look),
		cmocka_unit_test(a_slow_one_is_told_and_cut),
		cmocka_unit_test(drain_asks_the_user_or_closes),
		cmocka_unit_test(the_streams_end_is_passed_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

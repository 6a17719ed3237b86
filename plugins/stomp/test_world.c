/* SPDX-License-Identifier: Apache-2.0 */
#include "test_world.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct world world;

enum { POSTS = 64, TIMERS = 8, HEADERS = 64 };

static struct {
	void (*fn)(void *);
	void *arg;
} posts[POSTS];
static size_t n_posts;
static struct chatd_timer *timers[TIMERS];
static struct stomp_worker worker_state;

struct chatd_worker {
	int unused;
};
static struct chatd_worker the_worker;

struct chatd_session {
	int open;
};
static struct chatd_session the_session;

static void note(const char *fmt, ...) CHATD_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
	size_t n = strlen(world.log);
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(world.log + n, sizeof(world.log) - n, fmt, ap);
	va_end(ap);
}

/* ---- memory, messages, buffers ---------------------------------------------------- */

static void *take(size_t n)
{
	void *p = calloc(1, n ? n : 1);
	assert_non_null(p);
	world.allocs++;
	return p;
}

static void give(void *p)
{
	if (p) {
		world.allocs--;
		free(p);
	}
}

struct chatd_msg {
	int refs;
	size_t n;
	struct chatd_str dest, body, name[HEADERS], value[HEADERS];
};

static struct chatd_str dup(struct chatd_str s)
{
	char *p = take(s.n + 1);
	if (s.n) {
		memcpy(p, s.p, s.n);
	}
	return chatd_str_of(p, s.n);
}

static void drop(struct chatd_str s)
{
	union {
		const char *c;
		void *v;
	} u = { .c = s.p };
	give(u.v);
}

static chatd_msg *msg_new(struct chatd_str dest, struct chatd_str body)
{
	chatd_msg *m = take(sizeof(*m));
	m->refs = 1;
	m->dest = dup(dest);
	m->body = dup(body);
	return m;
}

chatd_msg *world_msg(const char *dest, const char *body, size_t n)
{
	return msg_new(chatd_str_of(dest, strlen(dest)), chatd_str_of(body, n));
}

static chatd_msg *msg_ref(chatd_msg *m)
{
	m->refs++;
	return m;
}

static void msg_unref(chatd_msg *m)
{
	if (!m || --m->refs) {
		return;
	}
	for (size_t i = 0; i < m->n; i++) {
		drop(m->name[i]);
		drop(m->value[i]);
	}
	drop(m->dest);
	drop(m->body);
	give(m);
}

static struct chatd_str msg_dest(const chatd_msg *m)
{
	return m->dest;
}

static struct chatd_str msg_body(const chatd_msg *m)
{
	return m->body;
}

static struct chatd_str msg_id(const chatd_msg *m)
{
	(void)m;
	return CHATD_LIT("id-1");
}

static size_t header_at(const chatd_msg *m, const char *name)
{
	size_t i = 0;
	while (i < m->n && strcmp(m->name[i].p, name) != 0) {
		i++;
	}
	return i;
}

static struct chatd_str msg_get(const chatd_msg *m, const char *name)
{
	size_t i = header_at(m, name);
	return i < m->n ? m->value[i] : chatd_str_of(NULL, 0);
}

static int32_t msg_header(
		const chatd_msg *m, size_t i, struct chatd_str *ret_name, struct chatd_str *ret_value)
{
	if (i >= m->n) {
		return 0;
	}
	*ret_name = m->name[i];
	*ret_value = m->value[i];
	return 1;
}

static chatd_status msg_set(chatd_msg *m, const char *name, struct chatd_str value)
{
	size_t i = header_at(m, name);
	if (i < m->n) {
		drop(m->name[i]);
		drop(m->value[i]);
		m->n--;
		memmove(&m->name[i], &m->name[i + 1], (m->n - i) * sizeof(m->name[0]));
		memmove(&m->value[i], &m->value[i + 1], (m->n - i) * sizeof(m->value[0]));
	}
	if (value.p) {
		assert_true(m->n < HEADERS);
		m->name[m->n] = dup(chatd_str_of(name, strlen(name)));
		m->value[m->n++] = dup(value);
	}
	return 0;
}

struct chatd_buf {
	int refs;
	size_t room, n;
	char *p;
};

static chatd_buf *buf_new(size_t room, size_t n)
{
	chatd_buf *b = take(sizeof(*b));
	b->refs = 1;
	b->room = room;
	b->n = n;
	b->p = take(n);
	return b;
}

static void buf_unref(chatd_buf *b)
{
	if (b && --b->refs == 0) {
		give(b->p);
		give(b);
	}
}

static char *buf_data(chatd_buf *b)
{
	return b->p;
}

/* ---- the host ------------------------------------------------------------------------ */

static void host_log(chatd_ctx *ctx, int32_t level, const char *fmt, ...)
{
	(void)ctx;
	(void)level;
	(void)fmt;
}

static int64_t now_ms(chatd_worker *w)
{
	(void)w;
	return world.now;
}

static chatd_status post(chatd_worker *w, void (*fn)(void *), void *arg)
{
	(void)w;
	assert_true(n_posts < POSTS);
	posts[n_posts].fn = fn;
	posts[n_posts++].arg = arg;
	return 0;
}

void world_run(void)
{
	while (n_posts) {
		void (*fn)(void *) = posts[0].fn;
		void *arg = posts[0].arg;
		n_posts--;
		memmove(&posts[0], &posts[1], n_posts * sizeof(posts[0]));
		fn(arg);
	}
}

static void timer_clear(struct chatd_timer *t)
{
	for (size_t i = 0; i < TIMERS; i++) {
		if (timers[i] == t) {
			timers[i] = NULL;
		}
	}
}

static void timer_set(
		chatd_worker *w, struct chatd_timer *t, int64_t ms, void (*fn)(void *arg), void *arg)
{
	(void)w;
	timer_clear(t);
	t->due = world.now + ms;
	t->fn = fn;
	t->arg = arg;
	for (size_t i = 0; i < TIMERS; i++) {
		if (!timers[i]) {
			timers[i] = t;
			return;
		}
	}
	fail_msg("too many timers");
}

void world_advance(int64_t ms)
{
	for (int64_t end = world.now + ms; world.now < end;) {
		world.now += 10;
		for (size_t i = 0; i < TIMERS; i++) {
			struct chatd_timer *t = timers[i];
			if (t && t->due <= world.now) {
				timers[i] = NULL;
				t->fn(t->arg);
			}
		}
		world_run();
	}
}

static void *worker_self(chatd_ctx *ctx, chatd_worker *w)
{
	(void)ctx;
	(void)w;
	return &worker_state;
}

static chatd_status provide(chatd_ctx *ctx, const char *name, const void *vt, void *obj)
{
	(void)ctx;
	assert_string_equal(name, CHATD_CODEC_STOMP);
	world.codec = vt;
	world.codec_obj = obj;
	return 0;
}

static const chatd_ident *session_ident(chatd_session *s)
{
	static const int ann;
	return s->open ? (const chatd_ident *)(const void *)&ann : NULL;
}

void world_msg_set(chatd_msg *m, const char *name, const char *value)
{
	(void)msg_set(m, name, chatd_str_of(value, strlen(value)));
}

void world_msg_drop(chatd_msg *m)
{
	msg_unref(m);
}

static struct chatd_str ident_user(const chatd_ident *id)
{
	(void)id;
	return CHATD_LIT("ann");
}

/* ---- the core -------------------------------------------------------------------------- */

static void settle(chatd_done *done, void *arg, chatd_verdict verdict, const char *code)
{
	struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = verdict,
		.code = code,
		.why = code ? CHATD_LIT("because") : chatd_str_of(NULL, 0),
		.reply = world.reply };
	done(arg, &o);
}

static void ask(chatd_done *done, void *arg)
{
	if (world.hold) {
		assert_null(world.held);
		world.held = done;
		world.held_arg = arg;
	} else {
		settle(done, arg, world.refuse ? CHATD_REJECT : CHATD_ACCEPT, world.refuse);
	}
}

void world_answer(chatd_verdict verdict, const char *code)
{
	chatd_done *done = world.held;
	assert_non_null(done);
	world.held = NULL;
	settle(done, world.held_arg, verdict, code);
	world_run();
}

void world_proceed(void)
{
	chatd_done *done = world.held;
	void *arg = world.held_arg;
	assert_non_null(done);
	world.held = NULL;
	assert_true(stomp_conn_ops.proceed(world.conn, &done, &arg));
	assert_int_equal(world.paused, 1); /* not in here: the handler has not finished */
	world.piped[world.n_piped].done = done;
	world.piped[world.n_piped++].arg = arg;
	world_run();
}

void world_answer_at(size_t i, chatd_verdict verdict, const char *code)
{
	assert_true(i < world.n_piped);
	settle(world.piped[i].done, world.piped[i].arg, verdict, code);
	world_run();
}

static chatd_session *core_open(void *obj, chatd_worker *w, const struct chatd_conn_ops *ops,
		void *conn, const struct chatd_layer *layer)
{
	(void)obj;
	(void)w;
	(void)ops;
	(void)conn;
	(void)layer;
	world.sessions++;
	the_session.open = 1;
	return &the_session;
}

static void core_set_form(chatd_session *s, uint32_t form)
{
	(void)s;
	note("form %u\n", form);
}

static void note_msg(const char *what, const chatd_msg *m)
{
	note("%s %s", what, m->dest.p);
	for (size_t i = 0; i < m->n; i++) {
		note(" %s=%s", m->name[i].p, m->value[i].p);
	}
	note(" #%s\n", m->body.p);
}

static void core_login(chatd_session *s, chatd_msg *creds, chatd_done *done, void *arg)
{
	(void)s;
	note_msg("login", creds);
	ask(done, arg);
}

static size_t sub_at(struct chatd_str id)
{
	size_t i = 0;
	while (i < 8 && (strlen(world.subs[i]) != id.n || memcmp(world.subs[i], id.p, id.n) != 0)) {
		i++;
	}
	return i;
}

static chatd_status core_subscribe(
		chatd_session *s, const struct chatd_subscribe *want, chatd_done *done, void *arg)
{
	(void)s;
	if (sub_at(want->id) < 8) {
		return -EEXIST;
	}
	size_t free_one = sub_at(chatd_str_of("", 0));
	if (free_one >= (size_t)world.max_subs) {
		return -E2BIG;
	}
	(void)snprintf(
			world.subs[free_one], sizeof(world.subs[0]), "%.*s", (int)want->id.n, want->id.p);
	note("subscribe %.*s ack %d ", (int)want->id.n, want->id.p, want->ack);
	note_msg("to", want->frame);
	ask(done, arg);
	return 0;
}

static chatd_status core_unsubscribe(chatd_session *s, struct chatd_str id)
{
	(void)s;
	size_t at = sub_at(id);
	if (at == 8) {
		return -ENOENT;
	}
	note("unsubscribe %s\n", world.subs[at]);
	world.subs[at][0] = '\0';
	return 0;
}

static struct chatd_str core_find_dest(chatd_session *s, struct chatd_str dest)
{
	(void)s;
	(void)dest;
	return chatd_str_of(world.subs[0][0] ? world.subs[0] : NULL, strlen(world.subs[0]));
}

static void core_input(chatd_session *s, chatd_msg *m, chatd_done *done, void *arg)
{
	(void)s;
	note_msg("input", m);
	if (world.go_on && stomp_conn_ops.proceed(world.conn, &done, &arg)) {
		assert_true(world.n_piped < sizeof(world.piped) / sizeof(world.piped[0]));
		world.piped[world.n_piped].done = done;
		world.piped[world.n_piped++].arg = arg;
		return;
	}
	ask(done, arg);
}

static chatd_status core_ack(
		chatd_session *s, struct chatd_str id, struct chatd_str sub, int32_t ack1_nack0)
{
	(void)s;
	note("%s %.*s of %.*s\n", ack1_nack0 ? "ack" : "nack", (int)id.n, id.p, (int)sub.n,
			sub.p ? sub.p : "");
	return id.n == 4 && memcmp(id.p, "none", 4) == 0 ? -ENOENT : 0;
}

static void core_soft_error(chatd_session *s, const struct chatd_outcome *o, const chatd_msg *frame)
{
	(void)s;
	struct chatd_str receipt = msg_get(frame, "receipt");
	note("soft error %s for %s\n", o->code, receipt.p ? receipt.p : "-");
}

static void core_close(chatd_session *s)
{
	(void)s;
	world.held = NULL;
	world.session_closes++;
}

static struct chatd_str core_id(chatd_session *s)
{
	(void)s;
	return CHATD_LIT("S1");
}

static const struct chatd_sessions sessions = {
	.struct_size = sizeof(sessions),
	.open = core_open,
	.set_form = core_set_form,
	.login = core_login,
	.subscribe = core_subscribe,
	.unsubscribe = core_unsubscribe,
	.find_dest = core_find_dest,
	.input = core_input,
	.ack = core_ack,
	.soft_error = core_soft_error,
	.close = core_close,
	.id = core_id,
};

static const struct chatd_service *service(chatd_ctx *ctx, const char *name)
{
	static const struct chatd_service s = { .vt = &sessions };
	(void)ctx;
	return strcmp(name, CHATD_SESSIONS) == 0 ? &s : NULL;
}

static int32_t stopping(void)
{
	return world.stopping;
}

static const struct chatd_host host = {
	.struct_size = sizeof(host),
	.log = host_log,
	.mem_alloc = take,
	.mem_free = give,
	.provide = provide,
	.service = service,
	.worker_self = worker_self,
	.timer_set = timer_set,
	.timer_clear = timer_clear,
	.now_ms = now_ms,
	.post = post,
	.ident_user = ident_user,
	.session_ident = session_ident,
	.msg_new = msg_new,
	.msg_ref = msg_ref,
	.msg_unref = msg_unref,
	.msg_dest = msg_dest,
	.msg_body = msg_body,
	.msg_get = msg_get,
	.msg_header = msg_header,
	.msg_set = msg_set,
	.msg_id = msg_id,
	.buf_new = buf_new,
	.buf_unref = buf_unref,
	.buf_data = buf_data,
	.stopping = stopping,
};

/* ---- the layer ----------------------------------------------------------------------------- */

static chatd_buf *wrap(chatd_buf *raw, uint32_t flags)
{
	(void)flags;
	assert_true(raw->room >= CHATD_WRAP_ROOM);
	return raw;
}

static void write_out(const chatd_buf *b)
{
	for (size_t i = 0; i < b->n && world.out_n < sizeof(world.out) - 4; i++) {
		if (b->p[i]) {
			world.out[world.out_n++] = b->p[i];
		} else {
			memcpy(world.out + world.out_n, "^@\n", 3);
			world.out_n += 3;
		}
	}
}

const char *world_show(chatd_buf *b)
{
	assert_non_null(b);
	write_out(b);
	buf_unref(b);
	return world_out();
}

static size_t layer_send(void *link, chatd_buf *b)
{
	(void)link;
	assert_int_equal(world.closed, 0);
	write_out(b);
	return world.queued;
}

static void layer_close(void *link, int32_t code, const char *why)
{
	(void)link;
	assert_int_equal(world.closed, 0);
	world.closed = code;
	(void)snprintf(world.why, sizeof(world.why), "%s", why);
	world.conn = NULL;
}

static void show(void)
{
	while (world.unread_n && world.conn && !world.paused) {
		/* In a block of its own size, so that a read beyond it is seen. */
		char *copy = malloc(world.unread_n);
		assert_non_null(copy);
		memcpy(copy, world.unread, world.unread_n);
		size_t n = world.codec->data(world.conn, copy, world.unread_n);
		free(copy);
		assert_true(n == world.unread_n || world.paused);
		world.unread_n -= n;
		memmove(world.unread, world.unread + n, world.unread_n);
	}
}

static void on_shown(void *arg)
{
	(void)arg;
	show();
}

static void layer_pause(void *link, int32_t on)
{
	(void)link;
	world.paused = on;
	world.pauses += on;
	if (!on) { /* a layer shows what was left in a later turn */
		(void)post(&the_worker, on_shown, NULL);
	}
}

static size_t layer_queued(void *link)
{
	(void)link;
	return world.queued;
}

static struct chatd_str layer_attr(void *link, const char *name)
{
	(void)link;
	const char *s = strcmp(name, "bearer") == 0 ? world.bearer
			: strcmp(name, "token") == 0        ? world.token
			: strcmp(name, "peer") == 0         ? (world.peer ? world.peer : "127.0.0.1")
												: NULL;
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static void layer_beats(void *link)
{
	(void)link;
	world.beats++;
}

static void layer_settled(void *link)
{
	(void)link;
	world.settled++;
}

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer),
	.name = "test",
	.wrap = wrap,
	.send = layer_send,
	.close = layer_close,
	.pause = layer_pause,
	.queued = layer_queued,
	.attr = layer_attr,
	.beats = layer_beats,
	.settled = layer_settled,
};

/* ---- the test's side ------------------------------------------------------------------------- */

void world_send(const char *p, size_t n)
{
	assert_true(world.unread_n + n <= sizeof(world.unread));
	memcpy(world.unread + world.unread_n, p, n);
	world.unread_n += n;
	do {
		show();
		world_run();
	} while (world.unread_n && world.conn && !world.paused);
}

const char *world_out(void)
{
	world.out[world.out_n] = '\0';
	world.out_n = 0;
	return world.out;
}

extern const struct chatd_plugin chatd_plugin_under_test;

void world_begin(void)
{
	world = (struct world){ .now = 1000000, .max_subs = 7 };
	world.conf = (struct stomp_conf){ .max_frame = 65536,
		.max_header_lines = 64,
		.max_transaction = 1 << 20,
		.heartbeat = 10000,
		.heartbeat_min = 1000,
		.connect_timeout = 10000,
		.frame_timeout = 30000,
		.server_header = "chatd/test" };
	void *self = NULL;
	the_session.open = 0;
	n_posts = 0;
	assert_int_equal(chatd_plugin_under_test.init(&host, NULL, &world.conf, &self), 0);
	assert_int_equal(chatd_plugin_under_test.worker_start(self, &the_worker, &worker_state), 0);
	world_connect();
}

void world_connect(void)
{
	world.closed = 0;
	world.paused = 0;
	world.unread_n = 0;
	world.conn = world.codec->open(world.codec_obj, &the_worker, &layer, NULL);
	assert_non_null(world.conn);
}

void world_end(void)
{
	if (world.conn) {
		world.codec->gone(world.conn, 1);
	}
	world_run();
	for (size_t i = 0; i < TIMERS; i++) {
		assert_null(timers[i]);
	}
	msg_unref(world.reply);
	chatd_plugin_under_test.fini(world.codec_obj);
	assert_int_equal(world.sessions, world.session_closes);
	assert_int_equal(world.allocs, 0);
}

void world_login(const char *lines)
{
	char frame[512];
	int n = snprintf(frame, sizeof(frame), "CONNECT\n%s\n", lines);
	world_send(frame, (size_t)n + 1);
	(void)world_out();
	world.log[0] = '\0';
}

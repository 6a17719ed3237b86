/* SPDX-License-Identifier: Apache-2.0 */
#include "chat_rig.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "chat/msg.h"
#include "chat/session.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* ---- life ------------------------------------------------------------------ */

static void on_stop(void *arg)
{
	chat_worker_finish(chat_at(arg));
}

struct rig *rig_create(int workers)
{
	static const struct chat_conf conf = {
		.max_subscriptions = 16, .max_suspended = 16, .soft_queue = 1 << 20
	};
	struct loop_conf lc = { .workers = workers };
	struct rig *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	if (!getenv("RIG_LOG")) {
		log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	}
	map_init();
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->n = workers;
	r->timeout_ms = 10000;
	r->loop = loop_create(&lc);
	assert_non_null(r->loop);
	r->chat = chat_create(&conf, r->loop);
	assert_non_null(r->chat);
	for (int32_t i = 0; i < workers; i++) {
		assert_int_equal(
				worker_on_stop(loop_worker(r->loop, i), on_stop, loop_worker(r->loop, i)), 0);
		r->chat->workers[i].wself = r->wself;
	}
	return r;
}

void rig_hook(struct rig *r, uint32_t hook, chatd_hook_fn *fn, void *self, int32_t on_error)
{
	struct chain *c = &r->chat->chains[hook];
	struct chain_hook *more = realloc(c->hooks, (c->n + 1) * sizeof(*more));
	assert_non_null(more);
	c->hooks = more;
	more[c->n++] = (struct chain_hook){ .fn = fn,
		.self = self,
		.on_error = on_error,
		.timeout_ms = r->timeout_ms,
		.order = 100,
		.who = "rig" };
}

void rig_app(struct rig *r, const char *name, chatd_hook_fn *fn, void *self)
{
	struct chat *c = r->chat;
	c->apps = realloc(c->apps, (c->n_apps + 1) * sizeof(*c->apps));
	assert_non_null(c->apps);
	c->apps[c->n_apps++] = (struct chat_app){ .name = name,
		.hook = { .fn = fn, .self = self, .timeout_ms = r->timeout_ms, .who = "rig" } };
}

void rig_prefix(struct rig *r, const char *prefix, int32_t kind, int64_t max)
{
	struct chat *c = r->chat;
	c->prefixes = realloc(c->prefixes, (c->n_prefixes + 1) * sizeof(*c->prefixes));
	assert_non_null(c->prefixes);
	c->prefixes[c->n_prefixes++] = (struct chat_prefix){ .prefix = prefix,
		.n = strlen(prefix),
		.conf = { .struct_size = sizeof(struct chatd_dest_conf),
				.kind = kind,
				.max_messages = max,
				.max_bytes = 1 << 20 },
		.who = "rig" };
}

static chatd_verdict on_auth(chatd_call *c, void *self, void *wself)
{
	struct chatd_str user = msg_get(call_msg(c), "rig-user");
	(void)self;
	(void)wself;
	return user.p ? call_identify(c, "", user, user, 0) : CHATD_NEXT;
}

void rig_start(struct rig *r)
{
	rig_hook(r, chatd_hook_session_auth, on_auth, NULL, 0);
	assert_int_equal(chat_start(r->chat), 0);
	assert_int_equal(loop_start(r->loop), 0);
}

void rig_destroy(struct rig *r)
{
	loop_stop(r->loop);
	loop_join(r->loop);
	chat_destroy(r->chat);
	loop_destroy(r->loop);
	while (r->clients) {
		struct rig_client *next = r->clients->next;
		free(r->clients->got);
		free(r->clients);
		r->clients = next;
	}
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- waiting ------------------------------------------------------------------ */

static void changed(struct rig *r)
{
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* With the lock held; 0: too long. */
static int wait_more(struct rig *r, const struct timespec *until)
{
	return pthread_cond_timedwait(&r->changed, &r->lock, until) == 0;
}

static struct timespec patience(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += RIG_PATIENCE;
	return t;
}

struct errand {
	struct rig *r;
	void (*fn)(void *arg);
	void *arg;
	int done;
};

static void on_errand(void *arg)
{
	struct errand *e = arg;
	e->fn(e->arg);
	pthread_mutex_lock(&e->r->lock);
	e->done = 1;
	changed(e->r);
}

void rig_on(struct rig *r, int32_t worker, void (*fn)(void *arg), void *arg)
{
	struct errand e = { .r = r, .fn = fn, .arg = arg };
	struct timespec until = patience();
	int in_time = 1;
	assert_int_equal(worker_post(loop_worker(r->loop, worker), on_errand, &e), 0);
	pthread_mutex_lock(&r->lock);
	while (!e.done && in_time) {
		in_time = wait_more(r, &until);
	}
	pthread_mutex_unlock(&r->lock);
	assert_true(e.done);
}

static void nothing(void *arg)
{
	(void)arg;
}

void rig_settle(struct rig *r)
{
	/* A post may beget one on another worker, that one another: four rounds are more than
	 * any operation of a destination needs. */
	for (int round = 0; round < 4; round++) {
		for (int32_t i = 0; i < r->n; i++) {
			rig_on(r, i, nothing, NULL);
		}
	}
}

void rig_answer(struct rig_client *c, int n)
{
	struct timespec until = patience();
	int in_time = 1;
	pthread_mutex_lock(&c->r->lock);
	while (c->done < n && in_time) {
		in_time = wait_more(c->r, &until);
	}
	int done = c->done;
	pthread_mutex_unlock(&c->r->lock);
	assert_int_equal(done, n);
}

void rig_got(struct rig_client *c, size_t n)
{
	struct timespec until = patience();
	int in_time = 1;
	pthread_mutex_lock(&c->r->lock);
	while (c->n_got < n && in_time) {
		in_time = wait_more(c->r, &until);
	}
	size_t have = c->n_got;
	pthread_mutex_unlock(&c->r->lock);
	assert_int_equal(have, n);
}

void rig_closed(struct rig_client *c, int code)
{
	struct timespec until = patience();
	int in_time = 1;
	pthread_mutex_lock(&c->r->lock);
	while (!c->closed && in_time) {
		in_time = wait_more(c->r, &until);
	}
	int closed = c->closed, have = c->code;
	pthread_mutex_unlock(&c->r->lock);
	assert_true(closed);
	assert_int_equal(have, code);
}

size_t rig_count(struct rig_client *c)
{
	pthread_mutex_lock(&c->r->lock);
	size_t n = c->n_got;
	pthread_mutex_unlock(&c->r->lock);
	return n;
}

/* ---- the codec's side ------------------------------------------------------------ */

static void put(char *to, size_t room, struct chatd_str s)
{
	snprintf(to, room, "%.*s", (int)s.n, s.p ? s.p : "");
}

static chatd_buf *conn_render(uint32_t form, struct chatd_str sub, struct chatd_str ack,
		const chatd_msg *msg, uint32_t *ret_flags)
{
	struct rig_got g = { .redelivered = msg_get(msg, "redelivered").p != NULL };
	chatd_buf *b = buf_new(CHATD_WRAP_ROOM, sizeof(g));
	(void)form;
	*ret_flags = 0;
	put(g.sub, sizeof(g.sub), sub);
	put(g.ack, sizeof(g.ack), ack);
	put(g.body, sizeof(g.body), msg_body(msg));
	put(g.id, sizeof(g.id), msg_id(msg));
	if (b) {
		memcpy(buf_data(b), &g, sizeof(g));
	}
	return b;
}

static size_t conn_send(void *conn, chatd_buf *b)
{
	struct rig_client *c = conn;
	pthread_mutex_lock(&c->r->lock);
	if (c->n_got == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 16;
		c->got = realloc(c->got, c->cap * sizeof(*c->got));
	}
	struct rig_got *got = &c->got[c->n_got++];
	memcpy(got, buf_data(b), sizeof(*got));
	struct chatd_str sub = chatd_str_of(got->sub, strlen(got->sub));
	changed(c->r);
	if (c->leaves) {
		c->leaves = 0;
		assert_int_equal(chat_sessions_vt.unsubscribe(c->s, sub), 0);
		assert_int_equal(chat_sessions_vt.unsubscribe(c->s, sub), -ENOENT);
	}
	return 0;
}

static void conn_close(void *conn, int32_t code, const char *why)
{
	struct rig_client *c = conn;
	(void)why;
	c->s = NULL;
	pthread_mutex_lock(&c->r->lock);
	c->closed = 1;
	c->code = code;
	changed(c->r);
}

static void conn_pause(void *conn, int32_t on)
{
	(void)conn;
	(void)on;
}

static const struct chatd_conn_ops ops = { .struct_size = sizeof(ops),
	.render = conn_render,
	.send = conn_send,
	.pause = conn_pause,
	.close = conn_close };

static chatd_buf *layer_wrap(chatd_buf *raw, uint32_t flags)
{
	(void)flags;
	return raw;
}

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer), .name = "rig", .wrap = layer_wrap
};

static void on_done(void *arg, const struct chatd_outcome *o)
{
	struct rig_client *c = arg;
	pthread_mutex_lock(&c->r->lock);
	c->done++;
	c->verdict = o->verdict;
	put(c->err, sizeof(c->err), str_of(o->code));
	put(c->why, sizeof(c->why), o->why);
	put(c->reply, sizeof(c->reply), o->reply ? msg_get(o->reply, "reply") : CHATD_LIT(""));
	changed(c->r);
}

/* ---- requests ----------------------------------------------------------------------- */

/* One request on its way to the client's worker. */
struct request {
	struct rig_client *c;
	const char *a, *b;
	int32_t number;
	int rc;
};

static void do_connect(void *arg)
{
	struct rig_client *c = arg;
	c->s = chat_sessions_vt.open(c->r->chat, c->w, &ops, c, &layer);
}

struct rig_client *rig_connect(struct rig *r, int32_t worker)
{
	struct rig_client *c = calloc(1, sizeof(*c));
	assert_non_null(c);
	c->r = r;
	c->w = loop_worker(r->loop, worker);
	c->next = r->clients;
	r->clients = c;
	rig_on(r, worker, do_connect, c);
	assert_non_null(c->s);
	return c;
}

static void do_login(void *arg)
{
	struct request *q = arg;
	chatd_msg *m = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	msg_set(m, q->a, str_of(q->b));
	chat_sessions_vt.login(q->c->s, m, on_done, q->c);
	msg_unref(m);
}

void rig_login(struct rig_client *c, const char *header, const char *value)
{
	struct request q = { .c = c, .a = header, .b = value };
	rig_on(c->r, worker_index(c->w), do_login, &q);
}

struct rig_client *rig_open(struct rig *r, int32_t worker, const char *user)
{
	struct rig_client *c = rig_connect(r, worker);
	rig_login(c, "rig-user", user);
	rig_answer(c, 1);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	return c;
}

static void do_send(void *arg)
{
	struct request *q = arg;
	chatd_msg *m = msg_new(str_of(q->a), str_of(q->b));
	if (q->c->s) {
		chat_sessions_vt.input(q->c->s, m, on_done, q->c);
	}
	msg_unref(m);
}

void rig_send(struct rig_client *c, const char *dest, const char *body)
{
	struct request q = { .c = c, .a = dest, .b = body };
	rig_on(c->r, worker_index(c->w), do_send, &q);
}

static void do_subscribe(void *arg)
{
	struct request *q = arg;
	chatd_msg *m = msg_new(str_of(q->a), CHATD_LIT(""));
	struct chatd_subscribe want = {
		.struct_size = sizeof(want), .id = str_of(q->a), .ack = q->number, .frame = m
	};
	q->rc = chat_sessions_vt.subscribe(q->c->s, &want, on_done, q->c);
	msg_unref(m);
}

void rig_subscribe(struct rig_client *c, const char *dest, int32_t ack)
{
	struct request q = { .c = c, .a = dest, .number = ack };
	pthread_mutex_lock(&c->r->lock);
	int before = c->done;
	pthread_mutex_unlock(&c->r->lock);
	rig_on(c->r, worker_index(c->w), do_subscribe, &q);
	assert_int_equal(q.rc, 0);
	rig_answer(c, before + 1);
}

void rig_subscribe_later(struct rig_client *c, const char *dest)
{
	struct request q = { .c = c, .a = dest, .number = CHATD_ACK_AUTO };
	rig_on(c->r, worker_index(c->w), do_subscribe, &q);
	assert_int_equal(q.rc, 0);
}

static void do_unsubscribe(void *arg)
{
	struct request *q = arg;
	q->rc = chat_sessions_vt.unsubscribe(q->c->s, str_of(q->a));
}

int rig_unsubscribe(struct rig_client *c, const char *dest)
{
	struct request q = { .c = c, .a = dest };
	rig_on(c->r, worker_index(c->w), do_unsubscribe, &q);
	return q.rc;
}

static void do_ack(void *arg)
{
	struct request *q = arg;
	q->rc = chat_sessions_vt.ack(q->c->s, str_of(q->a), str_of(q->b), q->number);
}

int rig_ack(struct rig_client *c, const char *id, const char *sub, int ack1_nack0)
{
	struct request q = { .c = c, .a = id, .b = sub, .number = ack1_nack0 };
	rig_on(c->r, worker_index(c->w), do_ack, &q);
	return q.rc;
}

static void do_close(void *arg)
{
	struct rig_client *c = arg;
	if (c->s) {
		chat_sessions_vt.close(c->s);
		c->s = NULL;
	}
}

void rig_close(struct rig_client *c)
{
	rig_on(c->r, worker_index(c->w), do_close, c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The connection that commands go by: deadlines, circuit, retries, scripts that went missing. */
#include "conn.h"
#include "op.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TICK_MS = 500,
	QUIET_MS = 1000,   /* then a PING */
	RESOLVE_MS = 5000, /* between two looks at who is the master */
	SOON_MS = 50,      /* the first attempt after a loss */
	SAY_AGAIN_MS = 60000,
};

/* One command that went out: replies come in this order. */
struct slot {
	struct slot *next;
	struct op *op; /* NULL: nobody asks, or not any more */
	int64_t deadline;
	int late;
};

struct link {
	struct engine *e;
	struct conn *conn;
	struct event *retry, *deadline, *tick;
	struct slot *fifo, **fifo_end;
	int up, resolving;
	size_t live; /* slots that are not late */
	int64_t heard_at, resolved_at, said_at;
	int64_t failed, tries; /* in a row */
	size_t at;             /* of the configured addresses */
	struct address master; /* as a sentinel says; .port 0: unknown */
	char said[512];
};

static void begin_later(struct link *k)
{
	uint32_t r;
	k->e->h->random(&r, sizeof(r));
	int64_t ms = k->tries++ == 0 ? SOON_MS : k->e->conf->retry;
	/* Between 0.8 and 1.2 of it, lest all nodes come at once. */
	engine_in(k->retry, ms * 4 / 5 + (int64_t)(r % (uint32_t)(ms * 2 / 5 + 1)));
}

/* Once per outage and reason, and then once a minute. */
static void complain(struct link *k, const char *why)
{
	int64_t now = engine_now();
	if (strncmp(k->said, why, sizeof(k->said) - 1) != 0 || now - k->said_at >= SAY_AGAIN_MS) {
		snprintf(k->said, sizeof(k->said), "%s", why);
		k->said_at = now;
		k->e->h->log(k->e->ctx, CHATD_LOG_WARN, "Redis is down: %s; trying again each %lld ms", why,
				(long long)k->e->conf->retry);
	}
}

/* ---- slots ---------------------------------------------------------------------------------- */

static void answer(struct link *k, struct slot *s, chatd_status rc, redisReply *raw)
{
	struct op *op = s->op;
	s->op = NULL;
	if (!op) {
		if (raw) {
			freeReplyObject(raw);
		}
		return;
	}
	if (raw) {
		op_answer(op, raw);
	} else {
		op->rc = rc;
	}
	engine_done(k->e, op);
}

/* Takes the slot out of the head of the queue. */
static void slot_drop(struct link *k, struct slot *s)
{
	k->fifo = s->next;
	if (!k->fifo) {
		k->fifo_end = &k->fifo;
	}
	k->live -= (size_t)!s->late;
	free(s);
}

static void arm(struct link *k)
{
	struct slot *s = k->fifo;
	while (s && s->late) {
		s = s->next;
	}
	if (s) {
		int64_t ms = s->deadline - engine_now();
		engine_in(k->deadline, ms > 0 ? ms : 0);
	}
}

static int push(struct link *k, struct op *op, int64_t deadline)
{
	struct slot *s = calloc(1, sizeof(*s));
	if (!s) {
		return 0;
	}
	s->op = op;
	s->deadline = deadline;
	*k->fifo_end = s;
	k->fifo_end = &s->next;
	if (k->live++ == 0) {
		arm(k);
	}
	return 1;
}

static void send_op(struct link *k, struct op *op)
{
	if (push(k, op, op->deadline)) {
		atomic_fetch_add_explicit(&k->e->counts.commands, 1, memory_order_relaxed);
		conn_send(k->conn, op->bytes, op->n);
	} else {
		op->rc = -ENOMEM;
		engine_done(k->e, op);
	}
}

static void send_plain(struct link *k, const struct chatd_str *words)
{
	if (push(k, NULL, engine_now() + k->e->conf->command_timeout)) {
		conn_say(k->conn, words);
	}
}

void link_take(struct link *k, struct op *list)
{
	while (list) {
		struct op *next = list->next;
		if (k->up) {
			send_op(k, list);
		} else {
			list->rc = -EAGAIN;
			engine_done(k->e, list);
		}
		list = next;
	}
}

/* ---- down and up ---------------------------------------------------------------------------- */

static void drop(struct link *k, const char *why)
{
	complain(k, why);
	conn_close(k->conn);
	k->conn = NULL;
	k->up = 0;
	k->failed = 0;
	engine_set_up(k->e, 0);
	while (k->fifo) {
		answer(k, k->fifo, -ECONNRESET, NULL);
		slot_drop(k, k->fifo);
	}
	if (k->e->n_addresses) {
		k->at = (k->at + 1) % k->e->n_addresses;
	}
	begin_later(k);
	engine_settle(k->e);
}

static void note_failure(struct link *k, const char *what)
{
	char why[160];
	if (++k->failed >= k->e->conf->failures && k->conn) {
		snprintf(why, sizeof(why), "%lld failures in a row, the last one: %s", (long long)k->failed,
				what);
		drop(k, why);
	}
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct link *k = arg;
	char text[64];
	int64_t now = engine_now();
	(void)fd;
	(void)what;
	snprintf(
			text, sizeof(text), "no answer within %lld ms", (long long)k->e->conf->command_timeout);
	for (struct slot *s = k->fifo; s && (s->late || s->deadline <= now);) {
		struct slot *next = s->next;
		if (!s->late) {
			s->late = 1;
			k->live--;
			answer(k, s, -ETIMEDOUT, NULL);
			note_failure(k, text);
			if (!k->conn) {
				return;
			}
		}
		s = next;
	}
	arm(k);
}

static void on_ready(void *arg)
{
	struct link *k = arg;
	const struct address *at = conn_address(k->conn);
	k->up = 1;
	k->tries = 0;
	k->failed = 0;
	k->heard_at = engine_now();
	k->said[0] = '\0';
	k->e->h->log(k->e->ctx, CHATD_LOG_INFO, "Redis is up: %s:%d%s", at->host, at->port,
			k->e->tls ? " (TLS)" : "");
	pubsub_follow(k->e->pubsub, at);
	engine_set_up(k->e, 1);
	engine_settle(k->e);
}

/* The script cache dies with the server, or by SCRIPT FLUSH. */
static void load_again(struct link *k, struct op *op)
{
	const char *text = k->e->scripts[op->script - 1].text;
	op->loaded = 1;
	send_plain(k,
			(struct chatd_str[]){ CHATD_LIT("SCRIPT"), CHATD_LIT("LOAD"),
					chatd_str_of(text, strlen(text)), { NULL, 0 } });
	send_op(k, op);
}

static void on_reply(void *arg, redisReply *r)
{
	struct link *k = arg;
	struct slot *s = k->fifo;
	char why[HOST_MAX + 160];
	k->heard_at = engine_now();
	if (!s) {
		freeReplyObject(r);
		drop(k, "it answered what nobody had asked");
		return;
	}
	int error = r->type == REDIS_REPLY_ERROR;
	if (error && conn_error_is_down(chatd_str_of(r->str, (size_t)r->len))) {
		snprintf(why, sizeof(why), "%s:%d says \"%.120s\"", conn_address(k->conn)->host,
				conn_address(k->conn)->port, r->str);
		freeReplyObject(r);
		drop(k, why);
		return;
	}
	if (!s->late) {
		k->failed = 0;
	}
	if (error && s->op && s->op->script && !s->op->loaded && strncmp(r->str, "NOSCRIPT", 8) == 0) {
		struct op *op = s->op;
		freeReplyObject(r);
		s->op = NULL;
		load_again(k, op);
	} else {
		answer(k, s, 0, r);
	}
	slot_drop(k, s);
}

static void on_lost(void *arg, const char *why)
{
	struct link *k = arg;
	k->conn = NULL;
	drop(k, why);
}

static const struct conn_user user = { on_ready, on_reply, on_lost };

static void open_at(struct link *k, const struct address *at)
{
	k->conn = conn_open(k->e, CONN_COMMANDS, at, &user, k);
	if (!k->conn) {
		drop(k, "no memory for a connection");
	}
}

void link_begin(struct link *k)
{
	if (k->e->n_sentinels == 0) {
		open_at(k, &k->e->addresses[k->at]);
	} else if (!k->resolving) {
		k->resolving = 1;
		sentinel_ask(k->e->sentinel);
	}
}

void link_resolved(struct link *k, const struct address *at, const char *why)
{
	char text[HOST_MAX + 80];
	k->resolving = 0;
	k->resolved_at = engine_now();
	if (!k->conn) {
		if (at) {
			open_at(k, at);
		} else {
			drop(k, why);
		}
	} else if (at && !address_same(at, conn_address(k->conn))) {
		snprintf(text, sizeof(text), "the master is at %s:%d now", at->host, at->port);
		drop(k, text);
	}
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct link *k = arg;
	(void)fd;
	(void)what;
	if (!k->conn) {
		link_begin(k);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct link *k = arg;
	int64_t now = engine_now();
	(void)fd;
	(void)what;
	if (k->up && k->live == 0 && now - k->heard_at >= QUIET_MS) {
		send_plain(k, (struct chatd_str[]){ CHATD_LIT("PING"), { NULL, 0 } });
	}
	/* A master that was deposed may not know it. */
	if (k->up && k->e->n_sentinels && !k->resolving && now - k->resolved_at >= RESOLVE_MS) {
		k->resolving = 1;
		sentinel_ask(k->e->sentinel);
	}
}

struct link *link_create(struct engine *e)
{
	const struct timeval tick = { 0, TICK_MS * 1000 };
	struct link *k = calloc(1, sizeof(*k));
	if (!k) {
		return NULL;
	}
	k->e = e;
	k->fifo_end = &k->fifo;
	k->retry = evtimer_new(e->base, on_retry, k);
	k->deadline = evtimer_new(e->base, on_deadline, k);
	k->tick = event_new(e->base, -1, EV_PERSIST, on_tick, k);
	if (!k->retry || !k->deadline || !k->tick || event_add(k->tick, &tick) != 0) {
		link_destroy(k);
		return NULL;
	}
	return k;
}

void link_destroy(struct link *k)
{
	if (!k) {
		return;
	}
	conn_close(k->conn);
	while (k->fifo) {
		op_destroy(k->fifo->op); /* the workers are gone */
		slot_drop(k, k->fifo);
	}
	struct event *const events[] = { k->retry, k->deadline, k->tick };
	for (size_t i = 0; i < 3; i++) {
		if (events[i]) {
			event_free(events[i]);
		}
	}
	free(k);
}

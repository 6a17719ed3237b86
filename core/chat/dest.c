/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/dest_impl.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/queue.h"
#include "chat/stats.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TELL_MS = 200 };

struct dest_table *dest_table_create(void)
{
	return calloc(1, sizeof(struct dest_table));
}

void dest_stop(struct chat_worker *cw)
{
	worker_timer_clear(&cw->dests->again);
}

static void dest_free(struct dest_table *t, struct dest *d)
{
	HASH_DEL(t->all, d);
	queue_destroy(d->queue);
	if (d->subs != &d->one) {
		free(d->subs);
	}
	free(d);
}

void dest_table_destroy(struct dest_table *t)
{
	struct dest *d, *next;
	if (!t) {
		return;
	}
	HASH_ITER(hh, t->all, d, next)
	{
		dest_free(t, d);
	}
	free(t);
}

/* ---- names ------------------------------------------------------------- */

/* A user's own destination is keyed by user and text; no client can spell the \1. */
static chatd_status name_user(struct chatd_str user, struct chatd_str dest, struct dest_key *ret)
{
	size_t n = 1 + user.n + 1 + dest.n;
	char *p = malloc(n);
	if (!p) {
		return -ENOMEM;
	}
	p[0] = '\1';
	memcpy(p + 1, user.p, user.n);
	p[1 + user.n] = '\0';
	memcpy(p + 2 + user.n, dest.p, dest.n);
	ret->key = chatd_str_of(p, n);
	ret->text = (uint32_t)(2 + user.n);
	ret->prefix = NULL;
	return 0;
}

static void name_free(struct dest_key *n)
{
	free((void *)(uintptr_t)n->key.p);
}

static int32_t home_of(const struct chat *chat, struct chatd_str key)
{
	return chat->n_workers == 1 ? 0 : (int32_t)(map_hash(key.p, key.n) % (uint64_t)chat->n_workers);
}

struct dest *dest_find(struct chat_worker *cw, struct chatd_str key)
{
	struct dest *d = NULL;
	HASH_FIND(hh, cw->dests->all, key.p, key.n, d);
	return d;
}

struct dest *dest_obtain(struct chat_worker *cw, const struct dest_key *n)
{
	struct dest *d = dest_find(cw, n->key);
	if (d) {
		return d;
	}
	d = calloc(1, sizeof(*d) + n->key.n);
	if (!d) {
		return NULL;
	}
	memcpy(d->key, n->key.p, n->key.n);
	d->len = (uint32_t)n->key.n;
	d->text = n->text;
	d->prefix = n->prefix;
	d->subs = &d->one;
	d->cap = 1;
	d->epoch = ++cw->dests->epochs;
	HASH_ADD_KEYPTR(hh, cw->dests->all, d->key, d->len, d);
	if (!MAP_ADDED(d, hh)) {
		free(d);
		return NULL;
	}
	return d;
}

static int is_queue(const struct chat_prefix *p)
{
	return p && p->conf.kind == CHATD_DEST_QUEUE;
}

int dest_is_queue(const struct dest *d)
{
	return is_queue(d->prefix);
}

struct chatd_str dest_text(const struct sub *s)
{
	return chatd_str_of(s->dest->key + s->dest->text, s->dest->len - s->dest->text);
}

void dest_drop_if_idle(struct chat_worker *cw, struct dest *d)
{
	if (d->n == 0 && d->interest == 0 && (!d->queue || queue_idle(d->queue))) {
		dest_free(cw->dests, d);
	}
}

/* ---- between workers --------------------------------------------------- */

static void op_free(struct dest_op *op)
{
	msg_unref(op->msg);
	free(op->way_back);
	free(op);
}

static void op_run(void *arg)
{
	struct dest_op *op = arg;
	op->run(op);
	op_free(op);
}

static struct dest_op *fill(
		struct dest_op *op, struct chat_worker *from, int32_t to, struct chatd_str key)
{
	if (!op) {
		return NULL;
	}
	op->to = &from->chat->workers[to];
	op->from = from->index;
	op->len = (uint32_t)key.n;
	memcpy(op->key, key.p, key.n);
	return op;
}

struct dest_op *dest_op(struct chat_worker *from, int32_t to, struct chatd_str key)
{
	return fill(calloc(1, sizeof(struct dest_op) + key.n), from, to, key);
}

chatd_status dest_op_send(struct dest_op *op, void (*run)(struct dest_op *))
{
	op->run = run;
	chatd_status rc = worker_post(op->to->w, op_run, op);
	if (rc < 0) {
		op_free(op);
	}
	return rc;
}

struct chatd_str dest_op_key(const struct dest_op *op)
{
	return chatd_str_of(op->key, op->len);
}

/* ---- publishing -------------------------------------------------------- */

static void on_fan_out(struct dest_op *op)
{
	struct dest *d = dest_find(op->to, dest_op_key(op));
	if (d) {
		dest_fan_out(op->to, d, op->msg);
	}
}

/* To other nodes, in the same order. */
static void carry(struct chat_worker *cw, struct chatd_str key, chatd_msg *msg)
{
	const struct chatd_router *r = &cw->chat->router;
	const char *end = key.n && key.p[0] == '\1' ? memchr(key.p, '\0', key.n) : NULL;
	if (end && r->publish_user) {
		struct chatd_str user = chatd_str_of(key.p + 1, (size_t)(end - key.p) - 1);
		r->publish_user(cw->chat->router_self, cw->w, user, msg);
	} else if (!end && r->publish) {
		r->publish(cw->chat->router_self, cw->w, msg);
	}
}

/* Who lacks a message must not go on as if nothing were: they come again and resume. */
static void on_lost(struct dest_op *op)
{
	struct dest *d = dest_find(op->to, dest_op_key(op));
	for (uint32_t i = 0; d && i < d->n; i++) {
		session_close(d->subs[i]->session, 4010, "insufficient state: subscribe again");
	}
}

/* 0: still no memory, and so what comes now is lost as well. */
static int tell_lost(struct chat_worker *cw, struct dest *d, int32_t worker, struct chatd_str key)
{
	struct dest_op *op = dest_op(cw, worker, key);
	if (!op || dest_op_send(op, on_lost) < 0) {
		return 0;
	}
	d->lost &= ~((uint64_t)1 << worker);
	return 1;
}

static void tell_later(struct chat_worker *cw);

static void tell_again(void *arg)
{
	struct chat_worker *cw = arg;
	struct dest *d, *next;
	int left = 0;
	HASH_ITER(hh, cw->dests->all, d, next)
	{
		struct chatd_str key = chatd_str_of(d->key, d->len);
		for (int32_t i = 0; d->lost && i < cw->chat->n_workers; i++) {
			left |= d->lost >> i & 1 && !tell_lost(cw, d, i, key);
		}
	}
	cw->dests->telling = 0;
	if (left) {
		tell_later(cw);
	}
}

static void tell_later(struct chat_worker *cw)
{
	if (!cw->dests->telling) {
		cw->dests->telling = 1;
		worker_timer_set(cw->w, &cw->dests->again, TELL_MS, tell_again, cw);
	}
}

/* Nobody knows when the next message comes: they are told at once, or as soon as that goes. */
static void note_lost(struct chat_worker *cw, struct dest *d, int32_t worker, const chatd_msg *msg)
{
	log_limited(CHATD_LOG_ERROR, "core", "memory", "no memory: a message did not reach worker %d",
			worker);
	if (msg_flags_get(msg) & CHATD_MSG_EPHEMERAL) {
		return;
	}
	d->lost |= (uint64_t)1 << worker;
	if (!tell_lost(cw, d, worker, chatd_str_of(d->key, d->len))) {
		tell_later(cw);
	}
}

int32_t dest_home(const struct chat *chat, struct chatd_str dest)
{
	return home_of(chat, dest);
}

int dest_heard(struct chat_worker *cw, struct chatd_str dest)
{
	const struct dest *d = dest_find(cw, dest);
	return d && d->interest;
}

void dest_lost(struct chat_worker *cw, struct chatd_str dest)
{
	struct dest *d = dest_find(cw, dest);
	for (int32_t i = 0; d && i < cw->chat->n_workers; i++) {
		if (d->interest >> i & 1 && !tell_lost(cw, d, i, dest)) {
			d->lost |= (uint64_t)1 << i;
			tell_later(cw);
		}
	}
}

/* At the home: this is where the order of a destination is made. */
static void publish_home(struct chat_worker *cw, struct chatd_str key, chatd_msg *msg)
{
	struct dest *d = dest_find(cw, key);
	stat_add(cw, STAT_PUBLISHED, 1);
	for (int32_t i = 0; d && i < cw->chat->n_workers; i++) {
		if (!(d->interest >> i & 1)) {
			continue;
		}
		if (i == cw->index) {
			dest_fan_out(cw, d, msg);
			continue;
		}
		if (d->lost >> i & 1 && !tell_lost(cw, d, i, key)) {
			continue;
		}
		/* Got here, so that a test can take away this memory and no other. */
		struct dest_op *op = fill(calloc(1, sizeof(*op) + key.n), cw, i, key);
		if (op) {
			op->msg = msg_ref(msg);
		}
		if (!op || dest_op_send(op, on_fan_out) < 0) {
			note_lost(cw, d, i, msg);
		}
	}
}

static void on_publish(struct dest_op *op)
{
	publish_home(op->to, dest_op_key(op), op->msg);
	if (!op->here) {
		carry(op->to, dest_op_key(op), op->msg);
	}
}

static chatd_status publish(
		struct chat_worker *cw, struct chatd_str key, chatd_msg *msg, int32_t here)
{
	int32_t home = home_of(cw->chat, key);
	/* A message_out hook that publishes is inside a fan-out: its message comes after. */
	if (home == cw->index && !cw->dests->fanning) {
		publish_home(cw, key, msg);
		if (!here) {
			carry(cw, key, msg);
		}
		return 0;
	}
	struct dest_op *op = dest_op(cw, home, key);
	if (!op) {
		return -ENOMEM;
	}
	op->msg = msg_ref(msg);
	op->here = here;
	return dest_op_send(op, on_publish);
}

static chatd_status publish_topic(struct chat_worker *cw, chatd_msg *msg, int32_t here)
{
	struct dest_name n = dest_parse(cw->chat, msg_dest(msg));
	if (n.kind != DEST_PREFIX) {
		return -EINVAL;
	}
	if (is_queue(n.prefix)) {
		/* Of a queue that all nodes share there is no part that would be this node's own. */
		return here && work_is_shared(cw->chat) ? -EINVAL : dest_enqueue(cw, msg, n.prefix, 0);
	}
	return publish(cw, msg_dest(msg), msg, here);
}

chatd_status dest_publish(struct chat_worker *cw, chatd_msg *msg)
{
	return publish_topic(cw, msg, 0);
}

chatd_status dest_publish_here(struct chat_worker *cw, chatd_msg *msg)
{
	return publish_topic(cw, msg, 1);
}

static chatd_status publish_user(
		struct chat_worker *cw, struct chatd_str user, chatd_msg *msg, int32_t here)
{
	struct dest_key n;
	if (dest_parse(cw->chat, msg_dest(msg)).kind != DEST_USER) {
		return -EINVAL;
	}
	chatd_status rc = name_user(user, msg_dest(msg), &n);
	if (rc == 0) {
		rc = publish(cw, n.key, msg, here);
		name_free(&n);
	}
	return rc;
}

chatd_status dest_publish_user(struct chat_worker *cw, struct chatd_str user, chatd_msg *msg)
{
	return publish_user(cw, user, msg, 0);
}

chatd_status dest_publish_user_here(struct chat_worker *cw, struct chatd_str user, chatd_msg *msg)
{
	return publish_user(cw, user, msg, 1);
}

/* ---- subscribing ------------------------------------------------------- */

static chatd_status attach(struct dest *d, struct sub *s)
{
	if (d->n == d->cap) {
		uint32_t cap = d->cap * 2 < 4 ? 4 : d->cap * 2;
		struct sub **more = d->subs == &d->one ? malloc(cap * sizeof(struct sub *))
											   : realloc(d->subs, cap * sizeof(struct sub *));
		if (!more) {
			return -ENOMEM;
		}
		if (d->subs == &d->one) {
			more[0] = d->one;
		}
		d->subs = more;
		d->cap = cap;
	}
	s->at = d->n;
	s->dest = d;
	d->subs[d->n++] = s;
	return 0;
}

/* Back on the subscriber's worker. */
static void on_ready(void *arg)
{
	struct dest_op *op = arg;
	struct dest *d = dest_find(op->to, dest_op_key(op));
	const struct dest_joined joined = {
		.session = op->session, .serial = op->serial, .rc = op->rc
	};
	if (d && d->epoch == op->epoch && op->settled) {
		d->known = 1;
	}
	op->ready(op->to, &joined, op->arg);
	op_free(op);
}

/* The router hears of the first worker with subscribers of a topic, and of the last. */
static void interest_set(struct chat_worker *cw, struct dest *d, int32_t worker, int32_t on)
{
	uint64_t was = d->interest, bit = (uint64_t)1 << worker;
	const struct chatd_router *r = &cw->chat->router;
	d->interest = on ? was | bit : was & ~bit;
	d->lost &= d->interest;
	d->settled &= !!d->interest;
	if (!was != !d->interest && r->interest && d->prefix && !is_queue(d->prefix)) {
		r->interest(cw->chat->router_self, cw->w, chatd_str_of(d->key, d->len), on);
	}
}

static chatd_status home_join(struct dest_op *op, struct dest *d)
{
	chatd_status rc = 0;
	interest_set(op->to, d, op->from, 1);
	if (d->queue) {
		rc = work_join(op, d);
	}
	return rc;
}

static void join_answer(struct dest_op *op)
{
	struct post *way = op->way_back;
	op->way_back = NULL;
	op->to = &op->to->chat->workers[op->from];
	if (worker_post_with(op->to->w, way, on_ready, op) < 0) {
		op_free(op);
	}
}

static int is_settled(const struct chat_worker *cw, const struct dest *d)
{
	return d->settled || !d->prefix || is_queue(d->prefix) || !cw->chat->router.settle;
}

static void on_settled(void *arg, chatd_status rc)
{
	struct dest_op *op = arg;
	struct dest *d = rc == 0 ? dest_find(op->to, dest_op_key(op)) : NULL;
	if (d && d->epoch == op->home_epoch && d->interest) {
		d->settled = 1;
	}
	op->settled = rc == 0;
	join_answer(op);
}

/* At the home, which knows of the subscriber: the router may be told to wait for. */
static void settle(struct dest_op *op, struct dest *d)
{
	const struct chatd_router *r = &op->to->chat->router;
	op->home_epoch = d->epoch;
	op->settled = is_settled(op->to, d);
	if (op->settled ||
			r->settle(op->to->chat->router_self, op->to->w, dest_op_key(op), on_settled, op) < 0) {
		join_answer(op);
	}
}

/* At the home: note the worker, then tell it. */
static void on_interest(void *arg)
{
	struct dest_op *op = arg;
	struct dest_key n = { .key = dest_op_key(op), .text = op->text, .prefix = op->prefix };
	struct dest *d =
			is_queue(op->prefix) ? work_home(op->to, n.key, op->prefix) : dest_obtain(op->to, &n);
	op->rc = d ? home_join(op, d) : -ENOMEM;
	if (op->rc == 0) {
		settle(op, d);
	} else {
		join_answer(op);
	}
}

static void on_disinterest(struct dest_op *op)
{
	struct dest *d = dest_find(op->to, dest_op_key(op));
	if (!d) {
		return;
	}
	if (d->queue) {
		work_leave(op, d);
	}
	if (op->epoch) { /* the last subscriber of that worker */
		interest_set(op->to, d, op->from, 0);
	}
	dest_drop_if_idle(op->to, d);
}

static chatd_status tell_home(struct sub *s, dest_ready *ready, void *arg)
{
	struct dest *d = s->dest;
	struct chat_worker *cw = chat_at(session_worker(s->session));
	int32_t home = home_of(cw->chat, chatd_str_of(d->key, d->len));
	int here = home == cw->index && !is_queue(d->prefix);
	if (here) {
		interest_set(cw, d, cw->index, 1);
	}
	if (!is_queue(d->prefix) && (here ? is_settled(cw, d) : d->known != 0)) {
		const struct dest_joined joined = { .session = session_sid(s->session),
			.serial = s->serial };
		ready(cw, &joined, arg);
		return 0;
	}
	struct dest_op *op = dest_op(cw, home, chatd_str_of(d->key, d->len));
	if (!op || !(op->way_back = worker_post_create())) {
		free(op);
		return -ENOMEM;
	}
	op->text = d->text;
	op->prefix = d->prefix;
	op->session = session_sid(s->session);
	op->serial = s->serial;
	op->epoch = d->epoch;
	op->ready = ready;
	op->arg = arg;
	if (here) {
		settle(op, d);
		return 0;
	}
	chatd_status rc = worker_post(op->to->w, on_interest, op);
	if (rc < 0) {
		op_free(op);
	}
	return rc;
}

static chatd_status subscribe(struct chat_worker *cw, struct sub *s, const struct dest_key *n,
		dest_ready *ready, void *arg)
{
	struct dest *d = dest_obtain(cw, n);
	if (!d) {
		return -ENOMEM;
	}
	chatd_status rc = attach(d, s);
	if (rc < 0) {
		dest_drop_if_idle(cw, d);
		return rc;
	}
	rc = tell_home(s, ready, arg);
	if (rc < 0) {
		dest_unsubscribe(s);
	}
	return rc;
}

chatd_status dest_subscribe(struct sub *s, struct chatd_str dest, dest_ready *ready, void *arg)
{
	struct chat_worker *cw = chat_at(session_worker(s->session));
	struct dest_name parsed = dest_parse(cw->chat, dest);
	struct dest_key n = { .key = dest, .prefix = parsed.prefix };
	if (parsed.kind == DEST_PREFIX) {
		return subscribe(cw, s, &n, ready, arg);
	}
	if (parsed.kind != DEST_USER) {
		return -EINVAL;
	}
	chatd_status rc = name_user(ident_user(session_ident(s->session)), dest, &n);
	if (rc == 0) {
		rc = subscribe(cw, s, &n, ready, arg);
		name_free(&n);
	}
	return rc;
}

void dest_unsubscribe(struct sub *s)
{
	struct dest *d = s->dest;
	if (!d) {
		return;
	}
	struct chat_worker *cw = chat_at(session_worker(s->session));
	struct chatd_str key = chatd_str_of(d->key, d->len);
	int32_t home = home_of(cw->chat, key);
	d->subs[s->at] = d->subs[--d->n];
	d->subs[s->at]->at = s->at;
	s->dest = NULL;
	if (d->n == 0 && home == cw->index) {
		interest_set(cw, d, cw->index, 0);
	}
	if (is_queue(d->prefix) || (d->n == 0 && home != cw->index)) {
		struct dest_op *op = dest_op(cw, home, key);
		if (op) {
			op->session = session_sid(s->session);
			op->serial = s->serial;
			op->epoch = d->n == 0; /* was it the last? */
			(void)dest_op_send(op, on_disinterest);
		}
	}
	dest_drop_if_idle(cw, d);
}

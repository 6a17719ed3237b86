/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work queues.  At its home a queue's messages are given to its consumers in turn.  They are kept
 * there; or, when a router keeps the queues, by it: then the home only has what the router gives it
 * for this node, and every message is settled with the router, by whoever is done with it.
 */
#include "base/log.h"
#include "chat/dest_impl.h"
#include "chat/queue.h"
#include "loop/worker.h"

#include <errno.h>

/* In the place of a message that a router gave; the rest is the router's handle. */
#define OF_ROUTER ((uint64_t)1 << 63)

int work_is_shared(const struct chat *chat)
{
	return CHATD_HAS(&chat->router, enqueue);
}

static void lost(const char *what)
{
	log_limited(CHATD_LOG_ERROR, "core", "memory", "no memory: %s", what);
}

/* ---- done with a message ------------------------------------------------------------ */

static void on_less(struct dest_op *op)
{
	struct dest *d = dest_find(op->to, dest_op_key(op));
	struct consumer c = { .session = op->session, .serial = op->serial };
	if (d && d->queue) {
		queue_settled(d->queue, &c);
	}
}

/* The router hears of it at once; that the consumer has one less may come later. */
static void settle_shared(struct chat_worker *cw, const struct dest_given *g, int32_t how)
{
	const struct chatd_router *r = &cw->chat->router;
	struct dest_op *op = dest_op(cw, dest_home(cw->chat, msg_dest(g->msg)), msg_dest(g->msg));
	if (op) {
		op->session = g->session;
		op->serial = g->serial;
		(void)dest_op_send(op, on_less);
	}
	r->settled(cw->chat->router_self, cw->w, g->place & ~OF_ROUTER, how);
}

static void on_give_back(struct dest_op *op);

static void give_back(struct chat_worker *cw, const struct dest_given *g)
{
	struct chatd_str key = msg_dest(g->msg);
	struct dest_op *op = dest_op(cw, dest_home(cw->chat, key), key);
	if (op) {
		op->msg = msg_ref(g->msg);
		op->place = g->place;
		op->prefix = dest_parse(cw->chat, key).prefix;
	}
	if (!op || dest_op_send(op, on_give_back) < 0) {
		lost("an unacknowledged message is lost");
	}
}

void dest_settle(struct chat_worker *cw, const struct dest_given *g, int done)
{
	if (g->place & OF_ROUTER) {
		settle_shared(cw, g, done ? CHATD_SETTLED : CHATD_SETTLED_AGAIN);
	} else if (g->place && !done) {
		give_back(cw, g);
	}
}

/* ---- to a consumer -------------------------------------------------------------------- */

static void on_deliver(struct dest_op *op)
{
	chatd_session *s = session_find(op->to->w, op->session);
	struct sub *sub = s && session_is_open(s) ? session_sub(s, op->serial) : NULL;
	const struct dest_given g = {
		.msg = op->msg, .place = op->place, .session = op->session, .serial = op->serial
	};
	if (!sub) {
		dest_settle(op->to, &g, 0);
	} else if (!dest_deliver_one(sub, op->msg, op->place)) {
		dest_settle(op->to, &g, session_is_open(s));
	}
}

/* Also on the same worker by post: a subscriber must not be written to from inside the SUBSCRIBE
 * that made it one.  Takes the reference that it is given. */
static chatd_status give(
		struct chat_worker *cw, struct dest *d, const struct dest_given *g, int32_t worker)
{
	struct dest_op *op = dest_op(cw, worker, chatd_str_of(d->key, d->len));
	if (!op) {
		msg_unref(g->msg);
		return -ENOMEM;
	}
	op->msg = g->msg;
	op->place = g->place;
	op->session = g->session;
	op->serial = g->serial;
	return dest_op_send(op, on_deliver);
}

static void pump(struct chat_worker *cw, struct dest *d)
{
	struct consumer to;
	struct dest_given g;
	while (d->queue && queue_next(d->queue, &g.msg, &g.place, &to)) {
		g.session = to.session;
		g.serial = to.serial;
		if (give(cw, d, &g, to.worker) < 0) {
			lost("a queued message is lost");
		}
	}
}

chatd_status dest_bring(struct chat_worker *cw, chatd_msg *msg, uint64_t handle)
{
	struct dest *d = dest_find(cw, msg_dest(msg));
	struct consumer to;
	if (!d || !d->queue || !queue_turn(d->queue, &to)) {
		return -ENOENT;
	}
	const struct dest_given g = {
		.msg = msg_ref(msg), .place = handle | OF_ROUTER, .session = to.session, .serial = to.serial
	};
	chatd_status rc = give(cw, d, &g, to.worker);
	if (rc < 0) {
		queue_settled(d->queue, &to);
	}
	return rc;
}

/* ---- into the queue -------------------------------------------------------------------- */

struct dest *work_home(
		struct chat_worker *cw, struct chatd_str key, const struct chat_prefix *prefix)
{
	struct dest_key n = { .key = key, .prefix = prefix };
	struct dest *d = dest_obtain(cw, &n);
	if (d && !d->queue) {
		d->queue = queue_create(prefix->conf.max_messages, prefix->conf.max_bytes);
		if (!d->queue) {
			dest_drop_if_idle(cw, d);
			return NULL;
		}
	}
	return d;
}

static chatd_status enqueue_home(struct chat_worker *cw, struct chatd_str key, chatd_msg *msg,
		const struct chat_prefix *prefix)
{
	struct dest *d = work_home(cw, key, prefix);
	if (!d) {
		return -ENOMEM;
	}
	chatd_status rc = queue_push(d->queue, msg);
	pump(cw, d);
	dest_drop_if_idle(cw, d);
	return rc;
}

static void answer(chatd_token token, chatd_status rc)
{
	if (rc == -ENOSPC) {
		(void)call_resume(token, CHATD_REJECT, "UNAVAILABLE",
				"the queue is full and nobody consumes it; try again later");
	} else if (rc < 0) {
		(void)call_resume(token, rc, NULL, NULL);
	} else {
		(void)call_resume(token, CHATD_ACCEPT, NULL, NULL);
	}
}

static void on_enqueue(struct dest_op *op)
{
	const struct chat *chat = op->to->chat;
	if (work_is_shared(chat)) {
		chat->router.enqueue(chat->router_self, op->to->w, op->msg, &op->prefix->conf, op->token);
		return;
	}
	chatd_status rc = enqueue_home(op->to, dest_op_key(op), op->msg, op->prefix);
	if (op->token) {
		answer(op->token, rc);
	}
}

chatd_status dest_enqueue(
		struct chat_worker *cw, chatd_msg *msg, const struct chat_prefix *prefix, chatd_token token)
{
	struct chatd_str key = msg_dest(msg);
	struct dest_op *op = dest_op(cw, dest_home(cw->chat, key), key);
	if (!op) {
		return -ENOMEM;
	}
	op->msg = msg_ref(msg);
	op->prefix = prefix;
	op->token = token;
	return dest_op_send(op, on_enqueue);
}

static void on_give_back(struct dest_op *op)
{
	struct dest *d = op->prefix ? work_home(op->to, dest_op_key(op), op->prefix) : NULL;
	chatd_msg *again = d ? msg_clone(op->msg) : NULL;
	if (!again || msg_set(again, "redelivered", CHATD_LIT("true")) < 0 ||
			queue_return(d->queue, again, op->place) < 0) {
		lost("an unacknowledged message is lost");
	}
	msg_unref(again);
	if (d) {
		pump(op->to, d);
		dest_drop_if_idle(op->to, d);
	}
}

/* ---- consumers --------------------------------------------------------------------------- */

static void demand(struct chat_worker *cw, const struct dest *d, int32_t on)
{
	const struct chatd_router *r = &cw->chat->router;
	if (work_is_shared(cw->chat)) {
		r->demand(cw->chat->router_self, cw->w, chatd_str_of(d->key, d->len), &d->prefix->conf, on);
	}
}

static struct consumer consumer_of(const struct dest_op *op)
{
	struct consumer c = { .worker = op->from, .session = op->session, .serial = op->serial };
	return c;
}

chatd_status work_join(const struct dest_op *op, struct dest *d)
{
	struct consumer c = consumer_of(op);
	int first = !queue_consumers(d->queue);
	chatd_status rc = queue_join(d->queue, &c);
	if (rc == 0 && first) {
		demand(op->to, d, 1);
	}
	pump(op->to, d);
	return rc;
}

void work_leave(const struct dest_op *op, struct dest *d)
{
	struct consumer c = consumer_of(op);
	int any = queue_consumers(d->queue) > 0;
	queue_leave(d->queue, &c);
	if (any && !queue_consumers(d->queue)) {
		demand(op->to, d, 0);
	}
}

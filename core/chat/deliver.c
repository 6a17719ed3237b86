/* SPDX-License-Identifier: Apache-2.0 */
/* A message to the subscribers of this worker: the hot path. */
#include "base/buf.h"
#include "base/log.h"
#include "base/str.h"
#include "chat/dest_impl.h"
#include "chat/hold.h"
#include "chat/stats.h"
#include "loop/worker.h"

/* A SUBSCRIBE may be to no more than what has a certain header `about`, or to all but that. */
static int is_unasked(const struct sub *s, const chatd_msg *msg)
{
	return s->about[0] && str_is(msg_get(msg, "about"), s->about) != s->only;
}

static void out_end(chatd_call *c, void *arg)
{
	chatd_verdict *v = arg;
	*v = call_verdict(c);
}

/* message_out, once per recipient; absent in most installations. */
static int may_have(struct sub *s, chatd_msg *msg)
{
	struct chat_worker *cw = chat_at(session_worker(s->session));
	if (!chat_has(cw, chatd_hook_message_out)) {
		return 1;
	}
	const struct chain *chain = session_chain(s->session, chatd_hook_message_out);
	chatd_verdict v = CHATD_REJECT;
	chatd_call *c = call_create(cw, s->session, session_ident(s->session), msg);
	if (c) {
		call_walk(c, chain, NULL, out_end, &v);
	}
	return v == CHATD_ACCEPT;
}

/* A frame of its own: only acknowledged deliveries carry something nobody else has. */
static int deliver_acked(struct sub *s, chatd_msg *msg, uint64_t place)
{
	char room[21];
	if (s->ack == SUB_ENDING) {
		return 0;
	}
	uint64_t number = session_pend(s->session, s, msg, place);
	chatd_buf *b = number ? wire_render(s->wire, str_decimal(number, room), msg) : NULL;
	if (!b) {
		log_limited(CHATD_LOG_ERROR, "core", "memory", "no memory to deliver; closing the session");
		session_close(s->session, 1011, "out of memory");
		return number != 0;
	}
	session_ops(s->session)->send(session_conn(s->session), b);
	buf_unref(b);
	return 1;
}

/* 1: its ACK is waited for. */
static int deliver_to(struct sub *s, chatd_msg *msg, uint64_t place)
{
	/* What stands in a queue is somebody's work, whatever it is about. */
	if (!session_is_open(s->session) || (!place && is_unasked(s, msg)) || !may_have(s, msg)) {
		return 0;
	}
	stat_add(chat_at(session_worker(s->session)), STAT_DELIVERED, 1);
	if (s->ack != CHATD_ACK_AUTO) {
		return deliver_acked(s, msg, place);
	}
	chatd_buf *b = wire_render(s->wire, chatd_str_of(NULL, 0), msg);
	if (!b) {
		session_close(s->session, 1011, "out of memory");
		return 0;
	}
	session_ops(s->session)->send(session_conn(s->session), b);
	buf_unref(b);
	return 0;
}

static int deliver(struct sub *s, chatd_msg *msg, uint64_t place)
{
	struct dest_table *dests = chat_at(session_worker(s->session))->dests;
	dests->delivering++;
	int waits = deliver_to(s, msg, place);
	dests->delivering--;
	return waits;
}

int dest_deliver_one(struct sub *s, chatd_msg *msg, uint64_t place)
{
	/* A queue has no past. */
	if (s->hold && !place && session_is_open(s->session) && hold_keep(s, msg)) {
		return 0;
	}
	return deliver(s, msg, place);
}

void dest_deliver_now(struct sub *s, chatd_msg *msg)
{
	(void)deliver(s, msg, 0);
}

static int too_slow_for(const struct sub *s, const chatd_msg *msg, int64_t limit)
{
	if (!(msg_flags_get(msg) & CHATD_MSG_EPHEMERAL)) {
		return 0;
	}
	const struct chatd_conn_ops *ops = session_ops(s->session);
	return CHATD_HAS(ops, queued) && (int64_t)ops->queued(session_conn(s->session)) > limit;
}

/* The hot path: one rendering per wire form, one reference per subscriber. */
void dest_fan_out(struct chat_worker *cw, struct dest *d, chatd_msg *msg)
{
	struct wire *touched = NULL;
	int filtered = chat_has(cw, chatd_hook_message_out);
	int64_t soft = cw->chat->conf.soft_queue, delivered = 0;
	cw->dests->fanning = 1;
	cw->dests->delivering++;
	for (uint32_t i = 0; i < d->n; i++) {
		struct sub *s = d->subs[i];
		if (!session_is_open(s->session) || is_unasked(s, msg)) {
			continue;
		}
		if (too_slow_for(s, msg, soft)) {
			stat_add(cw, STAT_SKIPPED, 1);
			continue;
		}
		if (filtered && !may_have(s, msg)) {
			continue;
		}
		if (s->hold && hold_keep(s, msg)) {
			continue;
		}
		delivered++;
		if (s->ack != CHATD_ACK_AUTO) {
			(void)deliver_acked(s, msg, 0);
			continue;
		}
		struct wire *w = s->wire;
		if (!w->buf) {
			w->buf = wire_render(w, chatd_str_of(NULL, 0), msg);
			if (!w->buf) {
				session_close(s->session, 1011, "out of memory");
				continue;
			}
			w->touched = touched;
			touched = w;
		}
		session_ops(s->session)->send(session_conn(s->session), w->buf);
	}
	cw->dests->fanning = 0;
	cw->dests->delivering--;
	stat_add(cw, STAT_DELIVERED, delivered);
	while (touched) {
		struct wire *w = touched;
		touched = w->touched;
		buf_unref(w->buf);
		w->buf = NULL;
		w->touched = NULL;
	}
}

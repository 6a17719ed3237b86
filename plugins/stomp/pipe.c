/* SPDX-License-Identifier: Apache-2.0 */
/* Messages whose order somebody else keeps: they are answered late, and still in order. */
#include "stomp.h"

#include <string.h>

enum { PIPE_MOST = 256 }; /* unanswered messages of one client; then it is not read */

/** One answer that is due: of a message under way, or of a frame that came after one. */
struct pipe_slot {
	struct pipe_slot *next;
	struct stomp_conn *c;
	chatd_msg *frame; /**< NULL: a plain receipt */
	chatd_msg *reply;
	uint8_t done, refused, leave;
	uint32_t receipt_n;
	char receipt[];
};

static const struct chatd_host *host_of(const struct stomp_conn *c)
{
	return c->w->self->h;
}

static void append(struct stomp_conn *c, struct pipe_slot *slot)
{
	if (!c->pipe) {
		c->pipe_tail = &c->pipe;
	}
	*c->pipe_tail = slot;
	c->pipe_tail = &slot->next;
	if (++c->pipe_n >= PIPE_MOST) {
		conn_pause(c, PAUSE_PIPE, 1);
	}
}

static void slot_free(struct pipe_slot *slot, const struct chatd_host *h)
{
	h->msg_unref(slot->frame);
	h->msg_unref(slot->reply);
	h->mem_free(slot);
}

void pipe_free(struct stomp_conn *c)
{
	while (c->pipe) {
		struct pipe_slot *slot = c->pipe;
		c->pipe = slot->next;
		slot_free(slot, host_of(c));
	}
	c->pipe_n = 0;
}

static struct chatd_str receipt_of(const struct pipe_slot *slot)
{
	if (slot->frame) {
		return host_of(slot->c)->msg_get(slot->frame, "receipt");
	}
	return chatd_str_of(slot->receipt_n ? slot->receipt : NULL, slot->receipt_n);
}

/** Answer what is at the front and done. */
static void advance(struct stomp_conn *c)
{
	while (c->pipe && c->pipe->done && c->state == CONN_OPEN) {
		struct pipe_slot *slot = c->pipe;
		c->pipe = slot->next;
		c->pipe_n--;
		if (!slot->refused) {
			conn_receipt_now(c, receipt_of(slot), slot->reply);
		}
		if (slot->leave) {
			conn_end(c, 1000, "");
		}
		slot_free(slot, host_of(c));
	}
	if (c->pipe_n < PIPE_MOST / 2 && !c->leaving) {
		conn_pause(c, PAUSE_PIPE, 0);
	}
}

/** The core's late answer to a message under way. */
static void on_done(void *arg, const struct chatd_outcome *o)
{
	struct pipe_slot *slot = arg;
	struct stomp_conn *c = slot->c;
	slot->done = 1;
	conn_enter(c);
	if (o->verdict == CHATD_REJECT) {
		slot->refused = 1;
		c->w->self->sessions->soft_error(c->session, o, slot->frame);
	} else if (o->reply) {
		slot->reply = host_of(c)->msg_ref(o->reply);
	}
	advance(c);
	conn_may_leave(c);
	conn_leave(c);
}

int32_t pipe_proceed(void *conn, chatd_done **ret_done, void **ret_arg)
{
	struct stomp_conn *c = conn;
	struct pipe_slot *slot = NULL;
	if (c->op == OP_SEND && c->state == CONN_OPEN) {
		slot = host_of(c)->mem_alloc(sizeof(*slot));
	}
	if (!slot) {
		return 0;
	}
	slot->c = c;
	slot->frame = c->op_msg;
	c->op_msg = NULL;
	c->op = OP_NONE;
	append(c, slot);
	if (!c->in_op) { /* a hook had parked it, and so the reading was stopped */
		conn_read_on(c);
	}
	*ret_done = on_done;
	*ret_arg = slot;
	return 1;
}

int pipe_receipt(struct stomp_conn *c, struct chatd_str receipt, chatd_msg *reply, int leave)
{
	if (!c->pipe) {
		return 0;
	}
	struct pipe_slot *slot = host_of(c)->mem_alloc(sizeof(*slot) + receipt.n);
	if (!slot) {
		conn_end(c, 1011, "out of memory");
		return 1;
	}
	slot->c = c;
	slot->done = 1;
	slot->leave = c->leaving = leave != 0;
	slot->reply = reply ? host_of(c)->msg_ref(reply) : NULL;
	slot->receipt_n = (uint32_t)receipt.n;
	if (receipt.n) {
		memcpy(slot->receipt, receipt.p, receipt.n);
	}
	append(c, slot);
	return 1;
}

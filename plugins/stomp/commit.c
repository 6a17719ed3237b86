/* SPDX-License-Identifier: Apache-2.0 */
/* COMMIT: the actions of a transaction, one after the other. */
#include "stomp.h"
#include <string.h>

void commit_free(struct stomp_conn *c)
{
	const struct chatd_host *h = c->w->self->h;
	tx_free(c->commit, h);
	h->mem_free(c->commit_receipt);
	c->commit = NULL;
	c->commit_receipt = NULL;
}

void commit_begin(struct stomp_conn *c, struct tx *tx, struct chatd_str receipt)
{
	tx_detach(c->tx, tx);
	c->commit = tx;
	c->refused = 0;
	if (receipt.p) {
		c->commit_receipt = c->w->self->h->mem_alloc(receipt.n + 1);
		if (!c->commit_receipt) {
			conn_fault(c, STOMP_INTERNAL, "Out of memory", receipt);
			return;
		}
		memcpy(c->commit_receipt, receipt.p, receipt.n);
	}
	commit_run(c);
}

static struct chatd_str receipt_of(const struct stomp_conn *c)
{
	const char *s = c->commit_receipt;
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static void run_action(struct stomp_conn *c, struct tx_action *a)
{
	const struct stomp *self = c->w->self;
	if (!a->msg) {
		if (self->sessions->ack(c->session, a->id, a->sub, a->ack1_nack0) < 0) {
			conn_fault(c, STOMP_NO_MESSAGE, "unknown ack id", receipt_of(c));
		}
		return;
	}
	/* If the message is refused, the error names the receipt that is now waited for. */
	if (self->h->msg_set(a->msg, "receipt", receipt_of(c)) < 0) {
		conn_fault(c, STOMP_INTERNAL, "Out of memory", receipt_of(c));
		return;
	}
	c->op = OP_COMMIT;
	c->op_msg = self->h->msg_ref(a->msg);
	c->in_op = 1;
	self->sessions->input(c->session, a->msg, conn_done, c);
	c->in_op = 0;
}

void commit_run(struct stomp_conn *c)
{
	const struct chatd_host *h = c->w->self->h;
	struct tx_action *a;
	while (c->state == CONN_OPEN && (a = tx_shift(c->commit))) {
		run_action(c, a);
		tx_action_free(a, h);
		if (c->op != OP_NONE) {
			return;
		}
	}
	if (!c->refused) {
		conn_receipt(c, receipt_of(c), NULL);
	}
	commit_free(c);
}

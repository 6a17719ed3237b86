/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work_queue *work_queue_find(struct work_queue *table, struct chatd_str dest)
{
	struct work_queue *q = NULL;
	HASH_FIND(hh, table, dest.p, dest.n, q);
	return q;
}

struct work_queue *work_queue_obtain(
		struct work_queue **table, struct chatd_str dest, const struct chatd_dest_conf *conf)
{
	struct work_queue *q = work_queue_find(*table, dest);
	char hex[17];
	if (q) {
		return q;
	}
	q = malloc(sizeof(*q) + dest.n);
	if (!q) {
		return NULL;
	}
	memset(q, 0, sizeof(*q));
	memcpy(q->dest, dest.p, dest.n);
	q->n = dest.n;
	q->max_messages = conf->max_messages;
	q->max_bytes = conf->max_bytes;
	wire_sha(dest, hex);
	snprintf(q->name, sizeof(q->name), "chat.wq.%s", hex);
	HASH_ADD_KEYPTR(hh, *table, q->dest, q->n, q);
	if (!q->hh.tbl) {
		free(q);
		return NULL;
	}
	return q;
}

static amqp_table_entry_t number(const char *name, int64_t value)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(name) };
	e.value.kind = AMQP_FIELD_KIND_I64;
	e.value.value.i64 = value;
	return e;
}

static int reply_code(const struct link *l)
{
	amqp_rpc_reply_t reply = amqp_get_rpc_reply(l->conn);
	if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION ||
			reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD) {
		return 0;
	}
	return ((const amqp_channel_close_t *)reply.reply.decoded)->reply_code;
}

/* Nodes that differ in the bounds, or a file that was changed: the queue and what is in it count
 * for more than its bounds. */
static int declared_otherwise(struct link *l, struct work_queue *q)
{
	l->trouble = LINK_MISSING;
	if (q->as_is) {
		q->as_is = 0; /* it was there, and is no more */
		return -1;
	}
	q->as_is = 1;
	l->r->h->log(l->r->ctx, CHATD_LOG_WARN,
			"the broker's queue %s (of %.*s) has other bounds than this node's queue_messages, "
			"queue_bytes and work_expires: it is used as it is; to have the new ones, delete it when "
			"it is empty",
			q->name, (int)(q->n < 100 ? q->n : 100), q->dest);
	return -1;
}

int work_declare(struct link *l, struct work_queue *q)
{
	amqp_table_entry_t entries[4] = { number("x-expires", l->r->conf->work_expires),
		number("x-max-length", q->max_messages), number("x-max-length-bytes", q->max_bytes),
		{ .key = amqp_cstring_bytes("x-overflow") } };
	entries[3].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[3].value.value.bytes = amqp_cstring_bytes("reject-publish");
	const amqp_table_t arguments = { .num_entries = 4, .entries = entries };
	amqp_queue_declare(
			l->conn, LINK_CHANNEL, amqp_cstring_bytes(q->name), q->as_is, 1, 0, 0, arguments);
	int code = reply_code(l);
	if (link_check(l, q->name) < 0) {
		return code == AMQP_PRECONDITION_FAILED || code == AMQP_NOT_FOUND ? declared_otherwise(l, q)
																		  : -1;
	}
	amqp_queue_bind(l->conn, LINK_CHANNEL, amqp_cstring_bytes(q->name),
			amqp_cstring_bytes("chat.exchange"), amqp_cstring_bytes(q->name), amqp_empty_table);
	if (link_check(l, q->name) < 0) {
		return -1;
	}
	q->declared_at = clock_ms();
	return 0;
}

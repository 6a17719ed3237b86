/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work queues that all nodes share: each is a durable queue of the broker, chat.wq. + hash.
 *
 * Two more connections, each with a thread of its own: one puts messages in (work_out.c), one
 * takes them out for the consumers of this node (work_in.c).  Neither connects before a work queue
 * is used.  They are apart from those for events because a queue that is full, deleted or declared
 * in another way ends a channel, and nothing else is to suffer from it.
 */
#ifndef ROUTE_RABBITMQ_WORK_H
#define ROUTE_RABBITMQ_WORK_H

#include "link.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct work_out;
struct work_in;

/* A queue, as one of the threads knows it. */
struct work_queue {
	UT_hash_handle hh, by_serial; /* the latter: work_in.c */
	char name[WIRE_RKEY];
	int64_t max_messages, max_bytes;
	int64_t declared_at; /* 0: not on this connection */
	int32_t as_is;       /* somebody has declared it in another way */
	int32_t wanted, consuming;
	uint32_t serial; /* its consumer's tag */
	int64_t retry_at;
	size_t n;
	char dest[];
};

/* In the table by its destination; made if it is not there.  NULL: no memory. */
struct work_queue *work_queue_obtain(
		struct work_queue **table, struct chatd_str dest, const struct chatd_dest_conf *);
struct work_queue *work_queue_find(struct work_queue *table, struct chatd_str dest);
/* Declares and binds it.  0; -1: the link has ended, as link_check() says. */
int work_declare(struct link *, struct work_queue *);

/* ---- work_out.c ---------------------------------------------------------------- */

struct work_out *work_out_create(struct rabbit *); /* NULL: no memory or descriptors */
int work_out_start(struct work_out *);
/* [worker] Like chatd_router.enqueue. */
void work_out_enqueue(struct work_out *, chatd_worker *, chatd_msg *,
		const struct chatd_dest_conf *, chatd_token);
void work_out_hurry(struct work_out *);
void work_out_destroy(struct work_out *); /* [main]; NULL is fine */

/* ---- work_in.c ------------------------------------------------------------------ */

struct work_in *work_in_create(struct rabbit *);
int work_in_start(struct work_in *);
void work_in_demand(
		struct work_in *, struct chatd_str dest, const struct chatd_dest_conf *, int32_t on);
void work_in_settled(struct work_in *, uint64_t handle, int32_t how); /* [any] */
void work_in_hurry(struct work_in *);
void work_in_destroy(struct work_in *);

#endif

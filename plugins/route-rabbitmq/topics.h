/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which topics this node has subscribers of, and so what its queue is to be bound to.  Pure
 * bookkeeping of one thread: it says what to bind and what to unbind, and when.
 */
#ifndef ROUTE_RABBITMQ_TOPICS_H
#define ROUTE_RABBITMQ_TOPICS_H

#include "wire.h"

#include <chatd-sdk/hash.h>

struct topics;

struct topics *topics_create(const struct chatd_hash_key *, int64_t unbind_after);
void topics_destroy(struct topics *); /* NULL is fine */
/* 0; -ENOMEM. */
chatd_status topics_set(struct topics *, struct chatd_str dest, int on, int64_t now);
int topics_has(const struct topics *, struct chatd_str dest); /* also while it lingers */
/* The next key to bind, and the place of its binding in the order of all; 0: none. */
uint64_t topics_bind(struct topics *, char ret[WIRE_RKEY]);
/* The place of the topic's binding, which may have been asked for or not; 0: it is not wanted. */
uint64_t topics_place(const struct topics *, struct chatd_str dest);
/* The next key that nobody has wanted for long enough; 0: none. */
int topics_unbind(struct topics *, int64_t now, char ret[WIRE_RKEY]);
/* The connection is new: all that is wanted is to be bound, the rest forgotten. */
void topics_reset(struct topics *);
size_t topics_count(const struct topics *);

#endif

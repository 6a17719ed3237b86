/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which deliveries of a channel are done with.  The broker is told in the order in which they
 * came: many with one frame, and what is refused by itself.
 */
#ifndef ROUTE_RABBITMQ_ACKS_H
#define ROUTE_RABBITMQ_ACKS_H

#include <stddef.h>
#include <stdint.h>

struct ack {
	uint8_t is;
	uint32_t open; /* what came in that message and is not done with */
};

struct acks {
	struct ack *state;
	size_t cap;
	uint64_t first, next; /* first <= tag < next: told nothing yet */
};

int acks_init(struct acks *, size_t cap); /* 0; -ENOMEM */
void acks_finish(struct acks *);
void acks_reset(struct acks *); /* a new channel */
/* 0: no such tag may come now. */
int acks_came(struct acks *, uint64_t tag);
/* One more thing came in that message, besides the first: each is settled. */
void acks_more(struct acks *, uint64_t tag);
void acks_settle(struct acks *, uint64_t tag, int refused);
/* 1: tell that all up to *ret_tag are done (*ret_refused 0), or that this one is refused (1);
 * 0: nothing to tell. */
int acks_next(struct acks *, uint64_t *ret_tag, int *ret_refused);

#endif

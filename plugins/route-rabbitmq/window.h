/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for the broker and what waits for its confirm, in order.  Pure bookkeeping of one
 * thread; tags are the broker's: 1, 2, 3 ... on each channel.
 */
#ifndef ROUTE_RABBITMQ_WINDOW_H
#define ROUTE_RABBITMQ_WINDOW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* One AMQP message; whoever makes one embeds this. */
struct leg {
	STAILQ_ENTRY(leg) link;
	uint64_t tag; /* while its confirm is awaited */
	int64_t sent; /* when, ms */
	uint8_t returned, confirmed, refused, tries;
};
STAILQ_HEAD(legs, leg);

struct window {
	struct legs waiting, flying;
	size_t n_waiting, n_flying;
	uint64_t last_tag;
};

void window_init(struct window *);
/* To the end of what waits. */
void window_push(struct window *, struct leg *);
/* The next one to publish, which now flies; NULL: none waits. */
struct leg *window_send(struct window *, int64_t now);
/* The one that flies with this tag; NULL: none. */
struct leg *window_find(const struct window *, uint64_t tag);
/* The broker has answered for @p tag, or for all up to it; 0: such a tag was never sent. */
int window_answer(struct window *, uint64_t tag, int multiple, int refused);
/* The oldest one that flew, once it is answered: taken out; NULL: none.  What was refused comes
 * out too; whoever wants to repeat it pushes or puts it back. */
struct leg *window_settle(struct window *);
/* In front of what waits. */
void window_put_back(struct window *, struct leg *);
/* The channel is gone: what flew waits again, in its old order, in front. */
void window_reset(struct window *);
/* When the oldest of those without an answer was sent; -1: there is none. */
int64_t window_oldest(const struct window *);
/* The broker had a reason: as if they had been sent only now. */
void window_forgive(struct window *, int64_t now);

#endif

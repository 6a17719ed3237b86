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

/* One event on its way to one routing key; whoever makes one embeds this.  Several may go in one
 * AMQP message: they have its tag in common. */
struct leg {
	STAILQ_ENTRY(leg) link;
	uint64_t tag; /* while its confirm is awaited */
	int64_t sent; /* when, ms */
	uint8_t returned, confirmed, refused, tries;
	uint8_t joined; /* it is not the first one of its message */
};
STAILQ_HEAD(legs, leg);

struct window {
	struct legs waiting, flying;
	size_t n_waiting, n_flying, n_messages; /* that fly */
	uint64_t last_tag;
};

void window_init(struct window *);
/* To the end of what waits. */
void window_push(struct window *, struct leg *);
/* The one that waits behind @p after (NULL: the first) flies now; NULL: there is none. */
struct leg *window_send(struct window *, struct leg *after, int64_t now);
/* The same, in the message that was sent last. */
struct leg *window_join(struct window *, struct leg *after, int64_t now);
/* The message with this tag comes back. */
void window_return(struct window *, uint64_t tag);
/* The broker has answered for @p tag, or for all up to it; 0: such a tag was never sent. */
int window_answer(struct window *, uint64_t tag, int multiple, int refused);
/* The oldest one that flew, once it is answered: taken out; NULL: none.  What was refused comes
 * out too; whoever wants to repeat it pushes or puts it back. */
struct leg *window_settle(struct window *);
/* In front of what waits, in their order. */
void window_put_back(struct window *, struct legs *);
/* The channel is gone: what flew waits again, in its old order, in front. */
void window_reset(struct window *);
/* When the oldest of those without an answer was sent; -1: there is none. */
int64_t window_oldest(const struct window *);
/* The broker had a reason: as if they had been sent only now. */
void window_forgive(struct window *, int64_t now);

#endif

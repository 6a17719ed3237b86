/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/queue.h
 * @brief A work queue, as its home worker keeps it: messages in order, consumers in turn.
 *
 * Pure bookkeeping, [worker]: it says who is next and keeps what nobody takes, within
 * its bounds.  Carrying messages to other workers is work.c's part.
 */
#ifndef CHAT_QUEUE_H
#define CHAT_QUEUE_H

#include "chat/msg.h"

struct queue;

struct consumer {
	int32_t worker;
	chatd_sid session;
	uint32_t serial; /**< of the subscription */
	uint32_t has;    /**< the queue's: taken by queue_turn(), and not settled */
};

struct queue *queue_create(int64_t max_messages, int64_t max_bytes); /**< NULL: no memory */
void queue_destroy(struct queue *);                                  /**< NULL is fine */
chatd_status queue_join(struct queue *, const struct consumer *);    /**< -ENOMEM */
void queue_leave(struct queue *, const struct consumer *);
/** Keep @p msg (its own reference) at the end; gives it a place.  -ENOSPC, -ENOMEM. */
chatd_status queue_push(struct queue *, chatd_msg *);
/** Keep a message again that was given out: in its old place, and past the bounds. */
chatd_status queue_return(struct queue *, chatd_msg *, uint64_t place);
/** The next message and who is to have it: 1, with the queue's reference handed over;
 *  0: no message, or nobody. */
int queue_next(struct queue *, chatd_msg **ret_msg, uint64_t *ret_place, struct consumer *ret_to);
/** Who is to have a message that is not in the queue: of those who have the fewest, the next in
 *  turn.  0: nobody. */
int queue_turn(struct queue *, struct consumer *ret_to);
void queue_settled(struct queue *, const struct consumer *); /**< has one less of these */
size_t queue_consumers(const struct queue *);
int queue_idle(const struct queue *); /**< no message, no consumer */

#endif

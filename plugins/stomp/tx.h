/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Transactions of one connection: what was begun and not yet committed or aborted.
 * Nothing of it is seen by anyone before COMMIT.  [worker]
 */
#ifndef STOMP_TX_H
#define STOMP_TX_H

#include <chatd/plugin.h>

enum {
	TX_OPEN_MAX = 16,      /**< transactions of a connection */
	TX_ACTIONS_MAX = 1024, /**< frames of a transaction */
};

/** A SEND (msg), or an ACK or NACK (msg NULL). */
struct tx_action {
	struct tx_action *next;
	chatd_msg *msg;
	int32_t ack1_nack0;
	struct chatd_str id, sub; /**< see chatd_sessions.ack */
	char text[];
};

struct tx {
	struct tx *next;
	struct tx_action *first, **last;
	size_t actions, bytes;
	struct chatd_str name;
	char text[];
};

/** All of a connection's; zeroed is none. */
struct tx_set {
	struct tx *open;
	size_t n;
	size_t bytes; /**< kept for all of them together */
};

/** -EEXIST: begun already; -E2BIG: too many; -ENOMEM. */
chatd_status tx_begin(struct tx_set *, const struct chatd_host *, struct chatd_str name);
struct tx *tx_find(struct tx_set *, struct chatd_str name); /**< NULL: none */
/** Takes its own reference.  -E2BIG: too many actions, or over @p max_bytes; -ENOMEM. */
chatd_status tx_add_send(
		struct tx_set *, struct tx *, const struct chatd_host *, chatd_msg *msg, size_t max_bytes);
/** Copies @p action's id and sub.  As tx_add_send(). */
chatd_status tx_add_ack(
		struct tx_set *, struct tx *, const struct chatd_host *, const struct tx_action *action);
/** Out of the set: the caller's now. */
void tx_detach(struct tx_set *, struct tx *);
/** The next action, the caller's now; NULL: none is left. */
struct tx_action *tx_shift(struct tx *);
void tx_action_free(struct tx_action *, const struct chatd_host *); /**< NULL is fine */
void tx_free(struct tx *, const struct chatd_host *);               /**< NULL is fine */
void tx_free_all(struct tx_set *, const struct chatd_host *);

#endif

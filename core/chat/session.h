/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/session.h
 * @brief Sessions: a logged-in client, its subscriptions, its unacknowledged deliveries.
 *
 * A session belongs to the worker that accepted its connection; all functions are
 * [worker].  It is never freed inside a call of a hook or of a codec's callback other
 * than close(): session_close() takes effect in a later step of the loop.
 */
#ifndef CHAT_SESSION_H
#define CHAT_SESSION_H

#include "chat/chat.h"
#include "chat/wire.h"

#include <chatd/plugin.h>
#include <chatd/transport.h>

struct dest;
struct sub;

enum {
	SUB_ENDING = -1
}; /**< unsubscribed from inside its own delivery: gets nothing, ends right after */

/** One subscription.  In the session's list and in its destination's array. */
struct sub {
	chatd_session *session;
	struct sub *next, **link; /**< the session's list */
	struct dest *dest;
	uint32_t at;     /**< index in the destination's array */
	uint32_t serial; /**< names it across threads, with the session */
	int32_t ack;     /**< CHATD_ACK_*, or SUB_ENDING */
	struct wire *wire;
	struct hold *hold; /**< NULL: live */
	int32_t only;      /**< 1: nothing comes but what is about that; 0: all but what is */
	char about[];      /**< "": all comes */
};

/** A delivery that waits for its ACK: the copy that a queue gets back. */
struct pending {
	struct pending *next;
	uint64_t number; /**< the ack header is its decimal text */
	uint32_t sub;    /**< serial of the subscription */
	uint64_t place;  /**< where in its queue it stood; 0: no queue, nothing to give back */
	chatd_msg *msg;
};

struct session_table *session_table_create(void);
void session_table_destroy(struct session_table *);

chatd_call **session_calls(chatd_session *);
struct sub *session_subs(chatd_session *);
struct sub *session_sub(chatd_session *, uint32_t serial); /**< NULL: ended */
/** Note a delivery that awaits its ack; returns its number. 0: no memory. */
uint64_t session_pend(chatd_session *, struct sub *, chatd_msg *, uint64_t place);
/** The delivery was acknowledged (1), or goes back to its queue (0), if it is of one. */
void session_settle(const chatd_session *, const struct pending *, int done);
const struct chatd_conn_ops *session_ops(chatd_session *);
void *session_conn(chatd_session *);
/** The table that this session's walks go along now, and its hooks of one kind. */
const struct chat_table *session_table(const chatd_session *);
const struct chain *session_chain(const chatd_session *, int hook);
int session_is_open(const chatd_session *); /**< logged in and not closing */
/** The subscription is over (unsubscribed, cut): unlink and free it, give back what it had. */
void session_end_sub(struct sub *);
void session_end_sub_later(struct sub *); /**< from inside a delivery */
/** The same when it is not the client that ends it: it may still say so, too. */
void session_cut_sub(struct sub *);
struct wire_table *session_wires(struct chat_worker *);
/** The worker ends: every session that is left. */
void session_close_all(struct chat_worker *);

/* Behind chatd_host. */
void *session_slot(chatd_session *, uint32_t slot);
/** [worker] Each one, until @p fn answers less than 0, which is the result. */
int sessions_each(struct chat_worker *, int (*fn)(chatd_session *, void *arg), void *arg);
const chatd_ident *session_ident(chatd_session *);
chatd_sid session_sid(chatd_session *);
chatd_worker *session_worker(chatd_session *);
chatd_session *session_find(chatd_worker *, chatd_sid);
chatd_status session_send(chatd_session *, chatd_msg *);
int32_t session_hears(chatd_session *, struct chatd_str dest);
void session_go_on(chatd_call *);
void session_close(chatd_session *, int32_t code, const char *why);
void session_facts(chatd_session *, struct chatd_session_facts *ret);

#endif

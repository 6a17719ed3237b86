/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/dest.h
 * @brief Destinations: who subscribes to what, and how a message gets there.
 *
 * Each destination has a key and a home worker, chosen by the key's hash.  A worker
 * knows its own subscribers; the home knows which workers have any.  A message goes to
 * the home, which gives it its place in the order, and from there once to each worker
 * that has subscribers: so all of them see one order.
 *
 * The key of "/user/queue/x" names the user as well, so a user's devices are simply the
 * subscribers of one destination, wherever they are.
 */
#ifndef CHAT_DEST_H
#define CHAT_DEST_H

#include "chat/chat.h"
#include "chat/session.h"

enum dest_kind {
	DEST_UNKNOWN,
	DEST_APP,   /**< /app/NAME: handlers */
	DEST_USER,  /**< /user/queue/NAME: one's own */
	DEST_OTHER, /**< /user/NAME/...: somebody's; never for clients */
	DEST_PREFIX /**< claimed by a plugin: topic or queue */
};

/** A destination, parsed once: rights and routing both use this, never the text. */
struct dest_name {
	enum dest_kind kind;
	const struct chat_prefix *prefix; /**< of DEST_PREFIX */
	const struct chat_app *app;       /**< of DEST_APP; NULL: no such handler */
};

struct dest_table *dest_table_create(void);
void dest_table_destroy(struct dest_table *);
void dest_stop(struct chat_worker *); /**< [worker] before its end */

/** @p dest is parsed against the frozen tables.  [any] */
struct dest_name dest_parse(const struct chat *, struct chatd_str dest);
/** The same with the handlers of a table that may not be the newest one. */
struct dest_name dest_parse_for(
		const struct chat *, const struct chat_table *, struct chatd_str dest);

/** A subscription that is being made: runs when it counts everywhere, or never will. */
struct dest_joined {
	chatd_sid session;
	uint32_t serial;
	chatd_status rc; /**< -ENOMEM: it sees nothing and is to be ended */
};
/** Once, on the session's worker; perhaps inside dest_subscribe(). */
typedef void dest_ready(struct chat_worker *, const struct dest_joined *, void *arg);

/** Add @p sub (its session, ack, wire and serial are set) to @p dest.  -ENOMEM. */
chatd_status dest_subscribe(struct sub *, struct chatd_str dest, dest_ready *ready, void *arg);
void dest_unsubscribe(struct sub *);            /**< at once; NULL-safe when it has no dest */
struct chatd_str dest_text(const struct sub *); /**< as the client wrote it */
int dest_is_queue(const struct dest *);

/** [any worker] To the subscribers of msg_dest(). */
chatd_status dest_publish(struct chat_worker *, chatd_msg *);
chatd_status dest_publish_user(struct chat_worker *, struct chatd_str user, chatd_msg *);
/** Likewise, and no other node hears of it. */
chatd_status dest_publish_here(struct chat_worker *, chatd_msg *);
chatd_status dest_publish_user_here(struct chat_worker *, struct chatd_str user, chatd_msg *);
/** To a work queue; @p token (or 0) is resumed when the queue has it, or has refused. */
chatd_status dest_enqueue(
		struct chat_worker *, chatd_msg *, const struct chat_prefix *, chatd_token token);
/** Do all nodes share the work queues?  Then a router keeps what is in them. */
int work_is_shared(const struct chat *);
/** To one subscription, past its hold. */
void dest_deliver_now(struct sub *, chatd_msg *);
/** To one subscription, whatever its destination.  1: its session waits for the ACK. */
int dest_deliver_one(struct sub *, chatd_msg *, uint64_t place);
/** A queue's message and who had it. */
struct dest_given {
	chatd_msg *msg;
	uint64_t place; /**< 0: of no queue */
	chatd_sid session;
	uint32_t serial; /**< of the subscription */
};
/** Its consumer is done with it; or it is not (0): it goes back to its place. */
void dest_settle(struct chat_worker *, const struct dest_given *, int done);
/** [home] From the router, for one consumer of this node; the reference stays the caller's.
 *  -ENOENT: there is none; -ENOMEM. */
chatd_status dest_bring(struct chat_worker *, chatd_msg *, uint64_t handle);
/** [any] Of a topic. */
int32_t dest_home(const struct chat *, struct chatd_str dest);
/** [home] Has this node subscribers? */
int dest_heard(struct chat_worker *, struct chatd_str dest);
/** [home] They lack a message: all of them are closed, to come back and resume. */
void dest_lost(struct chat_worker *, struct chatd_str dest);
/** [any] End the subscriptions of @p user to @p dest on every worker. */
chatd_status dest_cut(struct chat *, struct chatd_str user, struct chatd_str dest);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file peers.h
 * @brief Requests that a balancer sent to another node than their session's.
 *
 * Which node has a session says Redis: whoever makes one writes `sockjs:HASH` first, unless
 * somebody else has.  A node that gets a request for a session which it does not have looks
 * there, once, and passes the request on to the owner as an event of kind "sockjs.ask"; what
 * the owner has for it comes back as "sockjs.re".  No credential travels: the owner compares
 * digests.  Everything is [worker: owner] of the exchange unless said otherwise, where "owner"
 * is, on the node that was asked, the worker which would have the session.
 */
#ifndef SOCKJS_PEERS_H
#define SOCKJS_PEERS_H

#include "exchange.h"
#include "internal.h"

/** A poll that came by way of another node is answered after so long, if only by "h". */
#define PEERS_POLL_MS 10000
/** Bytes of messages that one such answer has room for. */
#define PEERS_FRAME ((size_t)256 * 1024)

/** [main] In init(), once the endpoints' options are known; see .peers_on. */
chatd_status peers_setup(struct sockjs *);
/** The session of @p x is not here: it is made here, or the request passed on. */
void peers_receive(struct exch *);
void peers_take(struct exch *);
/** The client of @p x, which was passed on or waits for Redis, has left. */
void peers_left(struct exch *);
/** A session has ended that peers_receive() had made. */
void peers_release(const struct sockjs *, struct worker_state *, const struct exch_name *);
/** Its entry in Redis is renewed, if it is time. */
void peers_renew(const struct sockjs *, struct worker_state *, const struct exch_name *,
		int64_t *at, uint32_t *round);
void peers_start(const struct sockjs *, chatd_worker *, struct worker_state *);
void peers_stop(struct worker_state *);

/** [owner's node] To the node that passed on @p x: it is held, until there is something for it. */
void peers_held(struct exch *);
void peers_answer(struct exch *, int32_t status, const char *text);
/** Takes over @p frame. */
void peers_frame(struct exch *, chatd_buf *frame);
/** Is whoever sent @p x who made the session, as far as digests tell? */
bool peers_same(const struct exch *, const chatd_msg *creds);
/** At the exchange's end. */
void peers_forget(struct exch *);

#endif

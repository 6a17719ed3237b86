/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file session.h
 * @brief Sessions over plain HTTP requests.
 *
 * A session lives on the worker that its key hashes to, and everything here is
 * [worker] of that one.  Requests reach it as exchanges (see exchange.h).
 */
#ifndef SOCKJS_SESSION_H
#define SOCKJS_SESSION_H

#include "exchange.h"
#include "internal.h"

/** [main] wrap() of the layer gets nothing but bytes, so it must know this; once. */
void session_setup(const struct chatd_host *);
/** The request waits for frames; a key that is not there yet makes a session. */
void session_receive(struct exch *);
/** The same once it is known that no other node has the session.  @p claimed: Redis says that it
 *  is here.  0: it is served; else there is no session, and the request was answered. */
int session_open_here(struct exch *, bool claimed);
/** Renews what Redis knows of the sessions here. */
void sessions_renew(const struct sockjs *, struct worker_state *);
/** The request brings messages (.in, taken over). */
void session_take(struct exch *);
/** The request brought more than is allowed: it was refused, the session ends. */
void session_too_big(struct exch *);
/** The client went away before it had what session_receive() gave it. */
void session_lost(struct exch *);
/** The server stops: every session says goodbye. */
void session_drain(const struct sockjs *, chatd_worker *, struct worker_state *);
/** Frees all of them. */
void session_stop(const struct sockjs *, struct worker_state *);

#endif

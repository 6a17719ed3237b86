/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wsconn.h
 * @brief SockJS over WebSocket, and the raw WebSocket of an endpoint.
 *
 * Such a connection is its own session: it lives and dies with its WebSocket, on
 * the worker that accepted it.
 */
#ifndef SOCKJS_WSCONN_H
#define SOCKJS_WSCONN_H

#include "internal.h"

/** [main] wrap() of a layer gets nothing but bytes, so it must know these; once. */
void wsconn_setup(const struct chatd_host *, const struct chatd_websocket *);
/** [worker] Takes over the request.  @p raw: no SockJS frames, for .app only. */
void wsconn_start(const struct endpoint *, chatd_req *, bool raw);

#endif

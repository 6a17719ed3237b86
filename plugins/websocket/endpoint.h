/* SPDX-License-Identifier: Apache-2.0 */
/** The plugin's own endpoint: a STOMP codec behind a plain WebSocket. */
#ifndef WEBSOCKET_ENDPOINT_H
#define WEBSOCKET_ENDPOINT_H

#include "conn.h"

/** [main] Registers the routes.  @p path: "/ws-chat". */
chatd_status endpoint_open(struct ws_plugin *plugin);

/** The layer that the sessions of this endpoint share; for wrap(). */
extern const struct chatd_layer endpoint_layer;

/** [main] wrap() gets no context: it is told of the host table once, before any traffic. */
void endpoint_use_host(const struct chatd_host *host);

#endif

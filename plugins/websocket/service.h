/* SPDX-License-Identifier: Apache-2.0 */
/** The service chatd.websocket/1. */
#ifndef WEBSOCKET_SERVICE_H
#define WEBSOCKET_SERVICE_H

#include "conn.h"

extern const struct chatd_websocket service_table;

/** chatd_websocket.accept() with its object's type. */
chatd_ws *service_accept(
		const struct ws_plugin *plugin, chatd_req *req, const struct chatd_ws_accept *accept);

#endif

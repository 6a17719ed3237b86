/* SPDX-License-Identifier: Apache-2.0 */
/** What an HTTP request says about its sender; see chatd_websocket.credentials(). */
#ifndef WEBSOCKET_CREDENTIALS_H
#define WEBSOCKET_CREDENTIALS_H

#include <chatd/http.h>

/** [worker] NULL: no memory.  The reference is the caller's. */
chatd_msg *credentials_of(
		const struct chatd_host *host, const struct chatd_http *http, chatd_req *req);

#endif

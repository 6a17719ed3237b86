/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file inner.h
 * @brief Calls of routes by plugins, see `call` in chatd/http.h.
 */
#ifndef HTTP_INNER_H
#define HTTP_INNER_H

#include "engine.h"

chatd_status inner_call(void *obj, chatd_req *outer, const struct chatd_http_call *,
		chatd_http_called *fn, void *arg);
/** Whose call this connection carries; NULL: it is a client's. */
const chatd_ident *inner_ident(const chatd_stream *);

#endif

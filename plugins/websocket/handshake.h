/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The opening handshake of RFC 6455, section 4.2: what a request must say before it
 * leaves HTTP, and the answers when it does not.
 */
#ifndef WEBSOCKET_HANDSHAKE_H
#define WEBSOCKET_HANDSHAKE_H

#include <chatd/http.h>

#define HANDSHAKE_ACCEPT_LEN 28

/** The bodies that SockJS clients and its test suite know. */
#define HANDSHAKE_NO_UPGRADE    "Can \"Upgrade\" only to \"WebSocket\"."
#define HANDSHAKE_NO_CONNECTION "\"Connection\" must be \"Upgrade\"."

/** Checks @p req and switches protocols.  NULL: @p req has been answered, see
 *  chatd_websocket.accept().  [worker] */
chatd_stream *handshake(
		const struct chatd_service *http, chatd_req *req, const char *const *protocols);

/* The pure parts, for tests.  [any] */

/** Is @p token, in any case, in the comma-separated list? */
int handshake_has_token(struct chatd_str list, const char *token);
/** Is it a list of one or more tokens?  Empty elements are refused. */
int handshake_token_list(struct chatd_str list);
/** Is it a list of extensions with parameters (RFC 6455, 9.1)? */
int handshake_extensions(struct chatd_str list);
/** Is it 16 bytes in base64? */
int handshake_key(struct chatd_str key);
/** What the server proves with that it has read the key; -EIO: no SHA-1. */
chatd_status handshake_accept(struct chatd_str key, char ret_accept[HANDSHAKE_ACCEPT_LEN + 1]);

#endif

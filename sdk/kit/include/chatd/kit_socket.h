/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit_socket.h
 * @brief Clients of WebSockets and SockJS for unit tests: fakes of chatd.websocket/1 and chatd.sockjs/1.
 *
 *     struct kit_socket *ann = kit_websocket(kit_http(k, "GET", "/live", "", (char *)NULL));
 *     kit_socket_send(ann, "hello");
 *     kit_expect_message(ann, "hello to you");
 *     kit_socket_leave(ann);
 *
 * Messages are whole ones; frames, pings and handshakes are not played.  A socket that the plugin
 * uses after it has closed it, or after gone(), is a failure.
 */
#ifndef CHATD_KIT_SOCKET_H
#define CHATD_KIT_SOCKET_H

#include <chatd/kit.h>
#include <chatd/sockjs.h>
#include <chatd/websocket.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kit_socket; /**< the client's end; lives until kit_free() */

/** Codes that no plugin closes with by itself. */
enum { KIT_SOCKET_CUT = 1006, KIT_SOCKET_TOO_BIG = 1009 };

/** The WebSocket that accept() made of this request; one that is over if it made none.
 *  kit_http_status() of the request is 101 then. */
struct kit_socket *kit_websocket(struct kit_req *);
/** A client comes to the endpoint of that prefix; on worker 0. */
struct kit_socket *kit_sockjs(struct kit *, const char *prefix);
/** A text message; it waits while the plugin pauses. */
void kit_socket_send(struct kit_socket *, const char *text);
void kit_socket_leave(struct kit_socket *); /**< the client goes */
int kit_socket_is_open(const struct kit_socket *);
#define kit_expect_message(s, part)       kit_expect_message_at(s, part, KIT_AT)
#define kit_expect_no_message(s)          kit_expect_no_message_at(s, KIT_AT)
#define kit_expect_socket_closed(s, code) kit_expect_socket_closed_at(s, code, KIT_AT)
/** The client's next message has @p part in it; it is taken away. */
void kit_expect_message_at(struct kit_socket *, const char *part, struct kit_at);
void kit_expect_no_message_at(struct kit_socket *, struct kit_at);
/** The plugin has closed it, with this code (KIT_SOCKET_CUT: with none). */
void kit_expect_socket_closed_at(struct kit_socket *, int32_t code, struct kit_at);

#ifdef __cplusplus
}
#endif
#endif

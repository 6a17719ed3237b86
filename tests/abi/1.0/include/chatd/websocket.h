/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/websocket.h
 * @brief WebSocket connections for plugins: RFC 6455 behind a few calls.
 *
 * Provided by the plugin "websocket".  It checks the handshake, frames, unmasks,
 * checks UTF-8, answers pings, sends its own, enforces the limits, and ends the
 * connection with the close code that the breach deserves; the user sees messages.
 *
 * A connection stays on the worker that read the request; everything is [worker],
 * callbacks too.  A connection that is idle keeps no buffer.
 */
#ifndef CHATD_WEBSOCKET_H
#define CHATD_WEBSOCKET_H

#include <chatd/http.h>
#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_WEBSOCKET "chatd.websocket/1"

typedef struct chatd_ws chatd_ws; /**< one connection */

enum {                        /* flags of data() */
	CHATD_WS_BINARY = 1 << 0, /**< of a binary message, else of a text message */
	CHATD_WS_FIRST = 1 << 1,  /**< a message begins with this piece */
	CHATD_WS_LAST = 1 << 2,   /**< it ends with this piece; @p n may be 0 */
};

enum { /* flags of chatd_ws_accept */
	/** A binary message ends the connection with 1003. */
	CHATD_WS_TEXT_ONLY = 1 << 0,
};

/** What the user of a connection is told.  Exactly one of data and message is set.
 *  The connection may be closed or paused in every callback but gone(). */
struct chatd_ws_user {
	uint32_t struct_size;
	/** A piece of a message, as it arrives, at any boundaries (also within a character;
	 *  but text is known to be good UTF-8 as far as it goes).  Returns how many bytes
	 *  were taken: fewer than @p n only after pause(ws, 1); the rest comes again, with
	 *  flags that fit it, when the pause ends. */
	size_t (*data)(void *arg, const char *p, size_t n, uint32_t flags);
	/** A whole message, at most max_message bytes.  None comes while paused. */
	void (*message)(void *arg, struct chatd_str payload, int32_t binary);
	/** It is over: the peer closed or broke the rules, was too slow, or is gone.  @p why is
	 *  a chatd_stream_end: EOF also after a closing handshake, ERROR also after a breach.
	 *  The ws must not be touched afterwards.  Not called after close() or cut(). */
	void (*gone)(void *arg, int32_t why);
	/** Optional: the server stops, and it is this connection's turn: say goodbye and
	 *  close() it.  NULL: gone() with CHATD_END_DRAIN, and the peer sees 1012. */
	void (*drain)(void *arg);
	/** Optional: all that was queued has been given to the kernel. */
	void (*drained)(void *arg);
};

struct chatd_ws_accept {
	uint32_t struct_size;
	uint32_t flags;                   /**< CHATD_WS_TEXT_ONLY */
	const char *const *protocols;     /**< subprotocols, best first, NULL-terminated; NULL: none */
	size_t max_message;               /**< a bigger message: 1009; 0: the plugin's own option */
	const struct chatd_ws_user *user; /**< must outlive the connection */
	void *arg;
};

struct chatd_websocket {
	uint32_t struct_size;
	/** Checks the handshake (version, key, Connection, Upgrade, Origin, subprotocols) and
	 *  switches protocols.  The request is over either way: with NULL it has been
	 *  answered (400, 403, 426), no callback will come and @p arg is still the caller's.
	 *  What is needed of the request must be copied before.  No callback runs in here. */
	chatd_ws *(*accept)(void *obj, chatd_req *, const struct chatd_ws_accept *);
	/** What came with the request, as headers CHATD_CRED_* of a message without
	 *  destination: peer; bearer (Authorization); token and nickname (of the query);
	 *  device-token (header, or cookie when an allowed Origin is there); user-agent.  For
	 *  every transport that begins with an HTTP request.  Yours to unref; NULL: no memory. */
	chatd_msg *(*credentials)(void *obj, chatd_req *);
	/** Puts the frame header in front of @p raw (made with CHATD_WRAP_ROOM, else it is
	 *  copied).  @p flags: CHATD_WRAP_BINARY.  Takes over the reference, gives one back;
	 *  NULL: no memory.  The result may be sent to any number of connections.  [any] */
	chatd_buf *(*wrap)(chatd_buf *raw, uint32_t flags);
	/** Queue a wrapped buffer, taking a reference.  Returns the bytes that wait. */
	size_t (*send_buf)(chatd_ws *, chatd_buf *wrapped);
	/** Queue one message of these bytes, which are copied.  Returns the bytes that wait. */
	size_t (*send)(chatd_ws *, struct chatd_str payload, int32_t binary);
	/** Flush, send a close frame, wait a moment for the peer's, end.  The user is
	 *  detached at once: no callback runs any more.  @p why is copied (at most 123 bytes). */
	void (*close)(chatd_ws *, int32_t code, const char *why);
	/** End the TCP connection without a close frame; what is queued is flushed. */
	void (*cut)(chatd_ws *);
	void (*pause)(chatd_ws *, int32_t on); /**< stop or go on reading */
	size_t (*queued)(const chatd_ws *);    /**< bytes not yet given to the kernel */
	/** The user has heart-beats of its own: no more pings from this side. */
	void (*beats)(chatd_ws *);
	struct chatd_str (*peer)(const chatd_ws *); /**< see chatd_stream_ops.peer */
};

#ifdef __cplusplus
}
#endif
#endif

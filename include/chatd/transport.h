/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/transport.h
 * @brief How bytes become sessions: byte layer, codec, session.
 *
 *   stream (tcp, TLS)  ->  layer (tcp, websocket, sockjs)  ->  codec (stomp)  ->  session
 *
 * A layer turns a stream into pieces of text and back, and knows no STOMP.  A codec
 * turns text into logins, subscriptions and messages, and knows no sockets.  The
 * core keeps sessions and shares what is rendered: a message is rendered once per
 * worker for each wire form = (codec form, subscription id, layer), and everyone who
 * has the same form gets a reference to the same buffer.
 *
 * Everything is [worker], on the session's own worker.
 */
#ifndef CHATD_TRANSPORT_H
#define CHATD_TRANSPORT_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- byte layer: what a codec uses ------------------------------------- */

enum { CHATD_WRAP_BINARY = 1 << 0 /**< the bytes are not UTF-8 text */ };

/** Room in front of rendered bytes that every layer finds enough for its framing. */
#define CHATD_WRAP_ROOM 16

/** wrap() of a layer that puts nothing around a frame, as of plain TCP: `.wrap = CHATD_WRAP_NOTHING`. */
static inline chatd_buf *chatd_wrap_nothing(chatd_buf *raw, uint32_t flags)
{
	(void)flags;
	return raw;
}
#define CHATD_WRAP_NOTHING chatd_wrap_nothing

/** One table per kind of wire framing, the same pointer for all connections that
 *  frame alike: it is part of the wire form. */
struct chatd_layer {
	uint32_t struct_size;
	const char *name; /**< "tcp", "websocket", "sockjs" */
	/** Frame @p raw (one whole codec frame, made with CHATD_WRAP_ROOM); takes over the
	 *  reference, gives one back: the same buffer, or another.  NULL: no memory. */
	chatd_buf *(*wrap)(chatd_buf *raw, uint32_t flags);
	/** Queue what wrap() gave, taking a reference.  Returns the bytes that wait. */
	size_t (*send)(void *link, chatd_buf *wrapped);
	/** Flush, say goodbye with @p code (an RFC 6455 close code) and end; the codec's
	 *  gone() is not called any more.  @p why is copied. */
	void (*close)(void *link, int32_t code, const char *why);
	void (*pause)(void *link, int32_t on);
	size_t (*queued)(void *link);
	/** What came with the connection: CHATD_CRED_* names. .p NULL: nothing. */
	struct chatd_str (*attr)(void *link, const char *name);
	/** Optional: the codec negotiated heart-beats; the layer's own may stop. */
	void (*beats)(void *link);
	/** Optional: login is over, attr() will not be asked again; the layer frees it. */
	void (*settled)(void *link);
};

/* ---- codec: what a layer uses ------------------------------------------ */

#define CHATD_CODEC_STOMP "chatd.codec.stomp/1"

struct chatd_codec {
	uint32_t struct_size;
	/** WebSocket subprotocols, best first, NULL-terminated. */
	const char *const *protocols;
	/** A connection; returns the codec's side, NULL: no memory (then close it). */
	void *(*open)(void *obj, chatd_worker *, const struct chatd_layer *, void *link);
	/** Bytes, at any boundaries.  Returns how many were taken: fewer than @p n only
	 *  after layer->pause(); the layer keeps the rest and shows it again. */
	size_t (*data)(void *conn, const char *p, size_t n);
	/** The connection is no more (@p why: see chatd_stream_end); frees conn. */
	void (*gone)(void *conn, int32_t why);
	/** [any] The largest frame that is accepted, so that layers can limit messages. */
	size_t (*max_frame)(void *obj);
	/** Optional: the server stops.  Nothing further is read; when what came before has been
	 *  answered, layer->close() follows with @p code and @p why (a literal), later or in here. */
	void (*leave)(void *conn, int32_t code, const char *why);
};

/* ---- sessions: what the core gives to codecs --------------------------- */

#define CHATD_SESSIONS "chatd.sessions/1"

/** How a request of the codec ended.  @p reply: headers set by hooks and handlers,
 *  to go with the receipt; borrowed. */
struct chatd_outcome {
	uint32_t struct_size;
	chatd_verdict verdict; /**< ACCEPT, DROP (say nothing, receipt it) or REJECT */
	const char *code;      /**< of REJECT: "FORBIDDEN" ... */
	struct chatd_str why;  /**< of REJECT */
	chatd_msg *reply;      /**< its headers are the answer's; NULL: none; ref it to keep */
};
typedef void chatd_done(void *arg, const struct chatd_outcome *);

/** What the core asks of a codec's connection. */
struct chatd_conn_ops {
	uint32_t struct_size;
	/** A MESSAGE of @p msg for subscription @p sub, as wire form @p form; unframed, made
	 *  with CHATD_WRAP_ROOM.  @p ack .p NULL: no ack header.  Sets *ret_flags to
	 *  CHATD_WRAP_*.  Depends on nothing but its arguments: the result is shared. */
	chatd_buf *(*render)(uint32_t form, struct chatd_str sub, struct chatd_str ack,
			const chatd_msg *msg, uint32_t *ret_flags);
	/** Send what render() and layer->wrap() made; takes its own reference.  Returns the
	 *  bytes that wait for the client.  May unsubscribe(): that subscription gets nothing more, and
	 *  ends once the delivery is over. */
	size_t (*send)(void *conn, chatd_buf *wrapped);
	/** On until off: give in nothing further of this session, as what it sent is still worked at. */
	void (*pause)(void *conn, int32_t on);
	/** End it: an error frame if @p why and the protocol has one (not for 1012: that the server
	 *  stops is no fault of the client's), then a close with @p
	 *  code.  The core has closed the session already; gone() must not be called. */
	void (*close)(void *conn, int32_t code, const char *why);
	size_t (*queued)(void *conn); /**< bytes that wait for the client (layer->queued) */
	/** Optional: inside input() a handler has taken over the order of the message under way
	 *  (go_on()), so the next frame may be given in.  1: its answer will come through
	 *  *ret_done with *ret_arg, in any order with others'; the codec keeps receipts in
	 *  order.  0: it cannot, and waits as ever. */
	int32_t (*proceed)(void *conn, chatd_done **ret_done, void **ret_arg);
};

enum { CHATD_ACK_AUTO, CHATD_ACK_CLIENT, CHATD_ACK_INDIVIDUAL };

struct chatd_subscribe {
	uint32_t struct_size;
	struct chatd_str id; /**< the client's name for it, unique in the session */
	int32_t ack;         /**< CHATD_ACK_* */
	chatd_msg *frame;    /**< destination and all headers, for hooks */
};

struct chatd_sessions {
	uint32_t struct_size;
	/** A client is there.  @p form, @p layer, @p link: how to render for it and where the
	 *  wrapped bytes go; form may change until login() is done (set_form).  NULL: no
	 *  memory. */
	chatd_session *(*open)(void *obj, chatd_worker *, const struct chatd_conn_ops *, void *conn,
			const struct chatd_layer *layer);
	void (*set_form)(chatd_session *, uint32_t form);
	/** Walks session_auth and session_open.  @p creds: headers CHATD_CRED_*.  done() runs
	 *  exactly once unless close() comes first, perhaps inside this call. */
	void (*login)(chatd_session *, chatd_msg *creds, chatd_done *done, void *arg);
	/** Walks subscribe, then subscribes; done() runs after the subscription counts: what
	 *  anyone publishes later reaches it.  Perhaps inside this call.  REJECT leaves the
	 *  session alone.  -EEXIST: that id is taken; -E2BIG: too many; then no done(). */
	chatd_status (*subscribe)(
			chatd_session *, const struct chatd_subscribe *, chatd_done *done, void *arg);
	/** Takes effect at once.  -ENOENT. */
	chatd_status (*unsubscribe)(chatd_session *, struct chatd_str id);
	/** 1.0 clients unsubscribe by destination: the id of the first such one; .p NULL. */
	struct chatd_str (*find_dest)(chatd_session *, struct chatd_str dest);
	/** A message came: walks message_in, then delivers.  done() as above.  While it has
	 *  not run the codec must not give in further frames of this session: it pauses. */
	void (*input)(chatd_session *, chatd_msg *, chatd_done *done, void *arg);
	/** ack 1 or nack 0 of the delivery @p id (the MESSAGE's ack header, or with @p sub
	 *  given the message-id of that subscription).  -ENOENT: no such delivery. */
	chatd_status (*ack)(
			chatd_session *, struct chatd_str id, struct chatd_str sub, int32_t ack1_nack0);
	/** A soft error: JSON to the session's own /user/queue/errors. */
	void (*soft_error)(chatd_session *, const struct chatd_outcome *, const chatd_msg *frame);
	/** The connection is no more; @p conn is not touched again after this. */
	void (*close)(chatd_session *);
	/** The session id as text: the `session` header. */
	struct chatd_str (*id)(chatd_session *);
	/** Log in without a session (REST): done()'s ident is in the outcome's place. */
	void (*identify)(void *obj, chatd_worker *, chatd_msg *creds,
			void (*fn)(void *arg, const struct chatd_outcome *, const chatd_ident *), void *arg);
	/** For HTTP engines: walks chatd_hook_request (@p ident NULL) or chatd_hook_request_as
	 *  for the call that @p msg describes; done() runs once, perhaps inside this call. */
	void (*request)(void *obj, chatd_worker *, const chatd_ident *ident, chatd_msg *msg,
			chatd_done *done, void *arg);
	/* For plugins that speak for somebody who has no session. */
	/** [any] NULL: no memory.  One reference, for the caller. */
	const chatd_ident *(*make_ident)(void *obj, const struct chatd_identity *);
	/** A message as if a session of @p ident had sent it: message_in, then its handler; in both
	 *  call_session() is NULL.  done() runs exactly once, perhaps inside this call. */
	void (*input_as)(void *obj, chatd_worker *, const chatd_ident *ident, chatd_msg *msg,
			chatd_done *done, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

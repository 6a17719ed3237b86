/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file exchange.h
 * @brief One HTTP request that deals with a session which may live elsewhere.
 *
 * The request is touched on the worker that read it (home), the session on the
 * worker its id hashes to (owner).  The exchange is the pair's only common object:
 * reference-counted across threads, each field belonging to one side.  What one
 * side tells the other goes through the worker's mailbox, in order; where home and
 * owner are the same, it is a plain call.
 */
#ifndef SOCKJS_EXCHANGE_H
#define SOCKJS_EXCHANGE_H

#include "inbox.h"
#include "internal.h"

#include <stdatomic.h>

/** Longest key: the endpoint's number, then the id. */
#define EXCHANGE_KEY_MAX (sizeof(uint16_t) + SOCKJS_ID_MAX)

struct peer;
struct forward;

/** The name of a session, as endpoint and id. */
struct exch_name {
	const struct endpoint *ep;
	struct chatd_str id;
};

struct exch {
	atomic_uint refs;
	/* Set once, then read by both sides. */
	const struct endpoint *ep;
	const struct transport *transport;
	chatd_worker *home, *owner;
	chatd_msg *creds; /**< what came with the request, see chatd_websocket.credentials */
	uint32_t hash;
	uint16_t key_len;
	char callback[SOCKJS_CALLBACK_MAX + 1];
	/* home only */
	chatd_req *req; /**< NULL once it is answered, or the client is gone */
	char *body;
	size_t body_len, body_size;
	bool begun; /**< a streamed answer has begun */
	bool form;  /**< the body is a form, its field d counts */
	/* owner only; .in and .body go there with the call */
	struct inbox *in;
	struct chatd_str text;   /**< of .body: what .in was made of */
	struct peer *peer;       /**< the node that it came to; NULL: this one */
	struct forward *forward; /**< it was passed on; NULL: it was not */
	bool asking;             /**< Redis is asked who has the session */
	bool left;               /**< and meanwhile the client has left */
	size_t sent;             /**< bytes of frames, framing included */
	char key[EXCHANGE_KEY_MAX];
};

/** The parts of a session URL, decoded. */
struct exch_target {
	const struct transport *transport;
	char id[SOCKJS_ID_MAX];
	size_t id_len;
};

/** [home] Takes over the request: it will be answered. */
void exch_start(const struct endpoint *, chatd_req *, const struct exch_target *);
/** [any] The worker where a session of that name is, on this node. */
chatd_worker *exch_owner(const struct exch_name *);
struct exch_name exch_name(const struct exch *);
/** [owner] For a request that came to another node, with @p creds; NULL: no memory. */
struct exch *exch_remote(const struct exch_name *, const struct transport *,
		struct chatd_str callback, chatd_msg *creds);
struct exch *exch_ref(struct exch *);
void exch_unref(struct exch *); /**< any thread; NULL is fine */
/** [owner] The whole answer; @p text is a literal. */
void exch_answer(struct exch *, int32_t status, const char *text);
/** [owner] A frame for one that receives; takes over @p frame, which may be NULL: begin
 *  the answer.  @p last: nothing follows.  One that polls gets exactly one. */
void exch_frame(struct exch *, chatd_buf *frame, bool last);

#endif

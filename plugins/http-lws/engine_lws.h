/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file engine_lws.h
 * @brief What the parts of this engine share.
 *
 * libwebsockets reads and writes; what a request means is decided by the parts of plugins/http,
 * which know nothing but streams.  So each request is an `exchange`: a stream in memory that
 * begins with the request as HTTP/1.x text and to which the answer is written.  After an upgrade
 * the same stream carries the WebSocket's frames.  Everything is [worker].
 */
#ifndef HTTP_LWS_ENGINE_H
#define HTTP_LWS_ENGINE_H

#include "../http/engine.h"
#include "frames.h"
#include "pump.h"

enum { PROTOCOL_MAX = 64 }; /* libwebsockets compares no longer names */

struct lws_conf {
	struct http_conf http; /* first */
	int32_t http2;
	int32_t deflate;
	const char *const *headers;
};

/** The instance. */
struct lws_engine {
	struct http http; /* first: what the parts of plugins/http know */
	struct http_conf conf;
	const struct lws_conf *all;
	atomic_llong *links;    /**< connections of all workers */
	struct ssl_ctx_st *tls; /**< holds the certificate in use; main's */
};

struct link;
struct exchange;

/** What one worker has; its wself. */
struct lws_worker {
	struct http_worker http; /* first */
	struct lws_engine *engine;
	struct pump pump;
	bool pumping; /**< pump was started */
	struct lws_vhost *vhost;
	struct ssl_ctx_st *tls; /**< libwebsockets'; NULL: no TLS */
	struct link *links;
	struct exchange *dirty; /**< to be looked after in the next turn */
	struct exchange *slow;  /**< with bytes that the client did not take yet */
	struct chatd_timer dirty_timer, slow_timer;
	/** The name of the second protocol: what the WebSocket that is being accepted speaks. */
	char subprotocol[PROTOCOL_MAX];
	chatd_buf *ping; /**< one that libwebsockets tells the answer of */
	char *scratch;   /**< LWS_PRE and SCRATCH bytes */
};

enum { SCRATCH = 64 * 1024 };

enum link_state { LINK_OPEN, LINK_LINGER, LINK_DEAD };

/** One connection; the opaque data of its lws, as an exchange is of an HTTP/2 stream's. */
struct link {
	struct chatd_stream none; /**< .ops NULL, which tells it from an exchange */
	struct lws_worker *w;
	struct lws *wsi; /**< NULL: it has gone, while streams of its are still under way */
	struct link *next, **prev;
	struct exchange *x; /**< HTTP/1.1: the one under way; HTTP/2 has many, which are not here */
	uint32_t streams;   /**< exchanges under way */
	uint32_t requests;
	int32_t fd;
	struct chatd_timer timer; /**< for the first or next request, or the end of lingering */
	chatd_watch *watch;       /**< for the client's departure */
	uint8_t state;            /**< enum link_state */
	bool tls;
	chatd_stream *stream; /**< what counts it as a connection; NULL: the server ended that */
};

/** References to buffers, in order. */
struct queue {
	chatd_buf **bufs;
	size_t n, at, cap;
	size_t offset; /**< of the first: bytes that were written, or are skipped */
	size_t bytes;  /**< that wait */
};

struct exchange {
	struct chatd_stream base; /* first */
	struct lws_worker *w;
	struct link *link;
	struct lws *wsi; /**< NULL: libwebsockets' part is over */
	const struct chatd_stream_user *user;
	void *arg;
	struct exchange *dirty_next, *slow_next;
	struct queue queue;
	chatd_buf *head;    /**< the answer's, until it is written (HTTP/2, upgrades) */
	chatd_buf *writing; /**< what libwebsockets may still point to */
	char *kept;         /**< what the user left unread */
	size_t kept_n;
	size_t max_queue;
	int64_t stall_ms, progress;
	int64_t left;  /**< of the body; below 0: nobody said */
	uint32_t busy; /**< calls of the user's that are on the stack */

	bool closed;      /**< the user is done with it */
	bool over;        /**< free it when nothing is busy */
	bool h2;          /**< HTTP/2 */
	bool keep;        /**< the connection goes on after the answer */
	bool head_seen;   /**< the answer's head came */
	bool head_out;    /**< and was written */
	bool end_out;     /**< HTTP/2: the end of the stream was written */
	bool body_whole;  /**< nothing more of the request is to come */
	bool offered;     /**< inside the callback in which an upgrade can be taken */
	bool subprotocol; /**< the server chose one */
	bool upgraded;    /**< it carries a WebSocket's frames */
	bool framed;      /**< whose output libwebsockets frames: permessage-deflate, HTTP/2 */
	bool paused, flowing;
	bool is_dirty, is_slow, show;
	bool failed; /**< there was no memory for what it should send */
	bool half;   /**< the client sends no more, and waits for the answer */
};

/* server.c: contexts and connections */
int server_start(struct lws_worker *);
void server_stop(struct lws_worker *);
void server_drain(struct lws_worker *);
/** As chatd_listen.accepted. */
void server_accepted(void *http, chatd_worker *, chatd_stream *);

/* link.c: one connection */
struct link *link_create(struct lws_worker *, chatd_stream *);
void link_free(struct link *);
/** A request begins, or has ended. */
void link_busy(struct link *);
void link_idle(struct link *);
/** The address it comes from. */
struct chatd_str link_peer(const struct link *);
/** Ends it with a reset. */
void link_kill(struct link *);
/** All was written: says goodbye, and waits a moment so that the client can read it. */
void link_linger(struct link *);
/** libwebsockets is about to send a close frame of its own: ends the connection soon. */
void link_breach(struct link *);
/** Tells the exchange when the client leaves while it waits for an answer. */
void link_watch(struct link *);
void link_unwatch(struct link *);

/* exchange.c */
extern const struct chatd_stream_ops exchange_ops;
bool exchange_may_upgrade(const chatd_stream *);
struct exchange *exchange_create(struct link *, struct lws *);
/** Shows the request to the parts of plugins/http. */
void exchange_ask(struct exchange *, const char *text, size_t n);
void exchange_feed(struct exchange *, const char *p, size_t n);
/** Inside a callback of its lws: writes, ends.  Non-zero: libwebsockets must close it. */
int exchange_run(struct exchange *);
/** Its lws has gone. */
void exchange_gone(struct exchange *, int32_t why);
/** Look after it in the next turn. */
void exchange_touch(struct exchange *);
/** ... after all of them, now. */
void exchange_look_after_all(struct lws_worker *);
/** The lws has nothing to do with it any more. */
void exchange_detach(struct exchange *);
void exchange_flow(struct exchange *);

/* out.c: from the queue to libwebsockets */
/** Takes a reference of its own, of all but the first @p skip bytes. */
void out_push(struct exchange *, chatd_buf *, size_t skip);
void queue_clear(const struct chatd_host *, struct queue *);
/** -1: the connection broke. */
int out_flush(struct exchange *);
/** All was written, and libwebsockets holds nothing back. */
bool out_empty(const struct exchange *);
/** May it be written outside the callback for it? */
bool out_direct(const struct exchange *);
/** The first buffer of an answer. */
void out_head(struct exchange *, chatd_buf *);

/* head.c */
/** The request that @p wsi has received, as HTTP/1.x text; NULL: no memory, or a malformed one.
 *  To be freed. */
char *head_text(struct exchange *, struct lws *wsi, struct chatd_str path, size_t *ret_n);
/** Takes the next line off a head; false: there are no more. */
bool head_line(struct chatd_str *rest, struct chatd_str *ret_name, struct chatd_str *ret_value);

#endif

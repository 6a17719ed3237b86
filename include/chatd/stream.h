/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/stream.h
 * @brief Byte streams: a connected socket with TLS or without, and its queue.
 *
 * A stream belongs to the worker that accepted it; every function is [worker].
 * It queues references to buffers, not bytes, and writes once per loop turn with
 * one writev(2).  It keeps nothing while idle: bytes that arrive are shown to the
 * user from a buffer that the worker's streams share, and only what the user
 * leaves unread is kept.
 *
 * Engines other than the server's own (a second HTTP engine, say) implement
 * chatd_stream_ops themselves, so a user of a stream never asks whose it is.
 */
#ifndef CHATD_STREAM_H
#define CHATD_STREAM_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chatd_stream chatd_stream;

enum chatd_stream_end {
	CHATD_END_EOF = 1,   /**< the peer closed its side; nothing more can be read */
	CHATD_END_ERROR = 2, /**< reset, TLS alert, time-out of the kernel */
	CHATD_END_SLOW = 3,  /**< the queue grew over the limit, or made no progress in time */
	CHATD_END_DRAIN = 4, /**< the server stops */
};

/** What the user of a stream is told. */
struct chatd_stream_user {
	uint32_t struct_size;
	/** Bytes are there: @p n more than were left unread, which come first again.
	 *  Returns how many were taken.  What is left is kept and shown again together
	 *  with what follows, or when pause() ends.  The stream may be closed in here. */
	size_t (*data)(void *arg, const char *p, size_t n);
	/** The peer is gone (or too slow): once, after which the stream must not be
	 *  touched.  Unread bytes were all shown to data() before, unless paused.
	 *  @p why is a chatd_stream_end.  Not called after close() or reset(). */
	void (*gone)(void *arg, int32_t why);
	/** Optional: all that was queued has been given to the kernel. */
	void (*drained)(void *arg);
	/** Optional: the peer has shut down its side and may still read (or has closed: that
	 *  shows only when something is sent).  Returns 1: it gets an answer, after which the
	 *  user calls close(); gone() follows only if the connection breaks, so the user sets
	 *  itself a time limit.  0: gone(CHATD_END_EOF) follows at once.  The stream must not be
	 *  closed in here. */
	int32_t (*half)(void *arg);
};

struct chatd_stream_ops {
	uint32_t struct_size;
	/** The stream has a new user (an upgrade).  Unread bytes are shown to it at once
	 *  after the present data() callback has returned, or in the next loop turn. */
	void (*attach)(chatd_stream *, const struct chatd_stream_user *, void *arg);
	/** Queue @p buf, taking a reference of its own.  Returns the bytes now waiting.
	 *  Never fails: without memory or over max_queue the stream ends, in a later turn. */
	size_t (*send)(chatd_stream *, chatd_buf *buf);
	/** Stop or go on reading.  Off shows what data() had left again, in a later turn. */
	void (*pause)(chatd_stream *, int32_t on);
	/** Flush, then FIN, then linger a moment so that the peer reads the end.  The
	 *  user is detached at once: no callback runs any more. */
	void (*close)(chatd_stream *);
	void (*reset)(chatd_stream *);          /**< RST now; the user is detached */
	size_t (*queued)(const chatd_stream *); /**< bytes not yet given to the kernel */
	/** Over @p max_queue bytes waiting, or @p stall_ms without progress, it ends with
	 *  CHATD_END_SLOW.  0 means no limit. */
	void (*limits)(chatd_stream *, size_t max_queue, int64_t stall_ms);
	/** The peer's numeric address ("192.0.2.1", "2001:db8::1"), without the port.
	 *  After a PROXY protocol header from a trusted peer: the address named there. */
	struct chatd_str (*peer)(const chatd_stream *);
	int32_t (*is_tls)(const chatd_stream *);
	/** Optional.  Of a unix socket's peer, as the kernel knows it: user and process at the time
	 *  of connect(2).  -ENOTSUP: it came by TCP. */
	chatd_status (*peer_cred)(const chatd_stream *, uint32_t *ret_uid, int32_t *ret_pid);
	/** Optional.  Gives the socket away, to an engine that reads and writes it by itself: *ret_fd
	 *  is the caller's.  What is left counts as one of the server's connections until reset():
	 *  attach() to it all the same, gone() says if the server ends it first.  Only inside
	 *  accepted(), before anything was read or sent, and without TLS: else -ENOTSUP. */
	chatd_status (*take_fd)(chatd_stream *, int32_t *ret_fd);
};

struct chatd_stream { /**< the beginning of every implementation's own struct */
	const struct chatd_stream_ops *ops;
};

/** The server's own streams: provided by the core to every plugin. */
#define CHATD_NET "chatd.net/1"

struct chatd_listen {
	uint32_t struct_size;
	const char *address;  /**< "0.0.0.0:8080", "[::]:8080", "127.0.0.1:0", "unix:/path" */
	const char *kind;     /**< for the ready file and the log: "http", "tcp" */
	const char *tls_cert; /**< PEM files; both or none */
	const char *tls_key;
	/** Peers ("10.0.0.0/8", "::1") whose PROXY protocol v1/v2 header is required and
	 *  believed; from others it is not understood.  NULL-terminated; NULL: none. */
	const char *const *proxy_from;
	int64_t handshake_ms; /**< for TLS and PROXY header together; 0: 5,000 */
	/** [worker] A client is there.  attach() before returning, or close() it. */
	void (*accepted)(void *arg, chatd_worker *, chatd_stream *);
	void *arg;
};

struct chatd_net {
	uint32_t struct_size;
	/** [main] In init(): open the socket (errors are reported with the option's
	 *  name in mind: -EADDRINUSE, -EACCES, -EINVAL, TLS files: -EBADMSG) and accept on
	 *  every worker once all plugins have started.  The struct is copied; its strings
	 *  must live as long as the plugin. */
	chatd_status (*listen)(void *obj, chatd_ctx *, const struct chatd_listen *);
	/** [any] Is the numeric address @p peer inside one of @p nets (see proxy_from)? */
	int32_t (*address_in)(void *obj, struct chatd_str peer, const char *const *nets);
};

#ifdef __cplusplus
}
#endif
#endif

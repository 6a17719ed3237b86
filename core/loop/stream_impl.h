/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/stream_impl.h
 * @brief What the files behind net.h share; nobody else includes it.
 *
 * Life of a stream: accepted -> (starting: PROXY header, TLS handshake) -> open, with a
 * user -> closing (flushing without a user) -> lingering (FIN sent, discarding) -> dead.
 * Any step may lead straight to dead.  A dead stream's memory lives until the end of the
 * turn, so whoever has a pointer on the stack may still look at the flags.
 *
 * Whatever must not happen inside a call of the user's (ending it, showing it bytes,
 * writing) is done later from the worker's todo list, at the end of the turn.
 */
#ifndef CHATD_LOOP_STREAM_IMPL_H
#define CHATD_LOOP_STREAM_IMPL_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/addr.h"
#include "base/buf.h"
#include "loop/net.h"
#include "loop/tls.h"
#include "loop/worker.h"

enum {
	STREAM_READ_SIZE = 64 * 1024, /**< the worker's shared buffer */
	STREAM_TLS_RECORD = 16 * 1024,
	STREAM_KEPT_MAX = 1024 * 1024, /**< a user that leaves more unread is ended */
	STREAM_IOV = 64,
	STREAM_CHUNK = 14, /**< references per queue chunk: 128 bytes with its head */
	STREAM_PEER = 46,
};

enum {
	STREAM_TODO = 1 << 0,     /**< is in the todo list */
	STREAM_DEAD = 1 << 1,     /**< freed when the todo list comes to it */
	STREAM_STARTING = 1 << 2, /**< no user yet */
	STREAM_CLOSING = 1 << 3,  /**< no user any more */
	STREAM_LINGER = 1 << 4,   /**< FIN is sent */
	STREAM_PAUSED = 1 << 5,   /**< by the user */
	STREAM_BLOCKED = 1 << 6,  /**< waits for EV_WRITE; is in the blocked list */
	STREAM_EOF = 1 << 7,      /**< the peer sends no more */
	STREAM_SLOW = 1 << 8,     /**< to be ended with CHATD_END_SLOW */
	STREAM_FAILED = 1 << 9,   /**< to be ended with CHATD_END_ERROR */
	STREAM_SHOW = 1 << 10,    /**< kept bytes are to be shown */
	STREAM_EMPTIED = 1 << 11, /**< drained() is due */
	STREAM_READ_WR = 1 << 12, /**< TLS must write before it can read on */
	STREAM_HALF = 1 << 13,    /**< after EOF: the user has still something to send */
	STREAM_TAKEN = 1 << 14,   /**< the socket is somebody else's */
	STREAM_NO_ANSWER = STREAM_DEAD | STREAM_CLOSING | STREAM_SLOW | STREAM_FAILED,
};

/** References to buffers, in order; part of a stream's queue. */
struct chunk {
	struct chunk *next;
	uint32_t head, tail;
	chatd_buf *buf[STREAM_CHUNK];
};

/** Only while a stream starts or closes: those have a deadline, open streams have none. */
struct phase {
	struct chatd_timer timer;
	size_t discarded;
};

struct stream {
	chatd_stream base;
	struct net_worker *nw;
	struct net_listener *listener;
	const struct chatd_stream_user *user; /**< NULL: starting, closing, dead */
	void *arg;
	struct stream *next, **link; /**< of all streams of the worker */
	struct stream *todo_next;
	struct stream *blocked_next, **blocked_link;
	struct event ev;
	struct chunk *first, *last; /**< the queue; NULL: empty */
	size_t offset;              /**< of the first buffer: bytes already given away */
	size_t queued, max_queue;
	int64_t stall_ms, progress; /**< progress: when the kernel last took something */
	char *kept;                 /**< what the user left unread, exactly sized */
	size_t kept_n;
	SSL *ssl;
	struct phase *phase;
	int fd;
	short events; /**< what ev waits for; 0: it is not added */
	uint16_t key_updates;
	uint16_t flags;
	uint8_t peer_n;
	char peer[STREAM_PEER];
};

struct acceptor;

/** What belongs to one worker. */
struct net_worker {
	struct net *net;
	chatd_worker *w;
	struct net_stats stats;
	struct stream *streams;
	struct stream *todo, **todo_end;
	struct stream *later, **later_end; /**< todo of the next turn */
	struct stream *blocked;
	struct chatd_timer sweep; /**< set while somebody is blocked */
	struct chunk *spare;
	size_t n_spare;
	char read[STREAM_READ_SIZE];
	char record[STREAM_TLS_RECORD];
};

/** One socket of a listener, on one worker. */
struct acceptor {
	struct net_listener *listener;
	struct net_worker *nw;
	struct event *ev; /**< NULL: not accepting */
	int fd;
	struct chatd_timer rest; /**< runs while there are too few descriptors */
};

struct net_listener {
	struct net_listener *next;
	struct net *net;
	struct chatd_listen conf;
	struct tls_server *tls; /**< NULL: plain */
	bool is_unix;
	char *unix_path; /**< to be removed at the end; the plugin and its address are gone by then */
	char bound[ADDR_TEXT];
	int32_t n;
	struct acceptor acceptors[];
};

struct net {
	struct loop *loop;
	struct net_listener *listeners;
	int fd_max; /**< a connection whose descriptor is at least this is refused */
	struct net_worker *workers[];
};

/* stream.c: life, events, reading */
extern const struct chatd_stream_ops stream_ops;
/** Owns @p fd in any case.  NULL: no memory. */
struct stream *stream_new(struct acceptor *a, int fd, const struct addr *peer);
void stream_todo(struct stream *s);
/** Registers for what the stream's state needs. */
void stream_update(struct stream *s);
void stream_set_events(struct stream *s, short events);
int stream_phase(struct stream *s, int64_t ms, void (*on_late)(void *stream));
void stream_phase_end(struct stream *s);
/** Takes a stream out of everything; @p rst: with a reset.  No callback runs. */
void stream_kill(struct stream *s, bool rst);
/** Tells the user, if there is one, and kills or (after EOF) flushes. */
void stream_end(struct stream *s, int32_t why);
/** Hands a stream that is ready to its listener's owner. */
void stream_accepted(struct stream *s);
bool stream_turn_end(void *net_worker);
void stream_stop_all(struct net_worker *nw);

/* stream_read.c */
/** Shows what can be read; at most @p max reads. */
void stream_read(struct stream *s, int max);
void stream_show_kept(struct stream *s);

/* stream_write.c */
size_t stream_send(chatd_stream *stream, chatd_buf *buf);
/** Gives the kernel what it takes; sets BLOCKED, FAILED, EMPTIED.  No callback runs. */
void stream_flush(struct stream *s);
void stream_unblock(struct stream *s);
void stream_drop_queue(struct stream *s);

/* stream_start.c */
void stream_start(struct stream *s);
void stream_start_on(struct stream *s); /**< the socket is ready */

/* stream_close.c */
void stream_close(struct stream *s);
void stream_close_flushed(struct stream *s); /**< the queue is empty: FIN, then linger */
void stream_linger_on(struct stream *s);     /**< the socket is ready */

/* listen.c */
int listen_open(struct net_listener *l, struct net_error *ret_err);
void listen_close(struct net_listener *l); /**< [main] */
int acceptor_start(struct acceptor *a);
void acceptor_stop(struct acceptor *a); /**< [worker] closes the socket */

#endif

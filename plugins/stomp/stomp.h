/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the parts of the codec share: the plugin, a worker's part of it, a connection.
 *
 * A connection belongs to its worker and is counted: its layer has one reference until
 * gone() or close(), each post under way one more.  It reads one frame after the other:
 * while a request of a frame has not been answered by the core (op), it is paused.
 *
 * Two rules keep the core's and the layers' calls from meeting freed memory: sessions
 * are closed by conn_finish() only, which never runs inside a call of the core's; and a
 * frame is not used any more once the core has been called with what it asks for.
 */
#ifndef STOMP_STOMP_H
#define STOMP_STOMP_H

#include "parser.h"
#include "tx.h"
#include <chatd/stats.h>
#include <chatd/transport.h>
#include <stdatomic.h>

struct stomp_conf {
	int64_t max_frame;
	int64_t max_header_lines;
	int64_t max_transaction;
	int64_t heartbeat;
	int64_t heartbeat_min;
	int64_t connect_timeout;
	int64_t frame_timeout;
	const char *server_header;
	int64_t max_strangers;
};

struct stomp {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct stomp_conf *conf;
	const struct chatd_sessions *sessions;
	void *sessions_obj;
	const struct chatd_service *stats;
	uint32_t rejected[STOMP_FAULT_COUNT];
	atomic_int *strangers; /**< of all workers: connections that have not logged in yet */
};

/** wself. */
struct stomp_worker {
	const struct stomp *self;
	chatd_worker *w;
	int64_t log_next; /**< no line before this time */
	uint32_t log_held;
	int32_t busy; /**< frame is in use */
	struct stomp_frame frame;
};

enum conn_state {
	CONN_NEW,    /**< waits for CONNECT */
	CONN_LOGIN,  /**< CONNECT is being decided */
	CONN_OPEN,   /**< logged in */
	CONN_ENDING, /**< the goodbye is sent, conn_finish() is due */
	CONN_ENDED,  /**< nothing is left but references */
};

enum conn_op { OP_NONE, OP_LOGIN, OP_SUBSCRIBE, OP_SEND, OP_COMMIT };

enum {                    /* who wants that nothing is read */
	PAUSE_OP = 1 << 0,    /**< op is under way */
	PAUSE_YIELD = 1 << 1, /**< others' turn */
	PAUSE_CORE = 1 << 2,  /**< chatd_conn_ops.pause */
	PAUSE_QUEUE = 1 << 3, /**< the client does not read our receipts */
	PAUSE_PIPE = 1 << 4,  /**< too many messages are unanswered */
	PAUSE_LEAVE = 1 << 5, /**< the server stops: what was read is answered, no more is read */
};

struct stomp_conn {
	struct stomp_worker *w;
	const struct chatd_layer *layer;
	void *link;
	chatd_session *session; /**< NULL before CONNECT and after the end */
	struct tx_set *tx;      /**< NULL: never had one */
	struct pipe_slot *pipe; /**< answers that are due, in the order of the frames */
	struct pipe_slot **pipe_tail;
	struct tx *commit;    /**< of OP_COMMIT: what is left of it */
	chatd_msg *op_msg;    /**< the frame of op; of OP_COMMIT: the one message at hand */
	char *commit_receipt; /**< of OP_COMMIT; NULL: none asked */
	const char *end_why;  /**< of CONN_ENDING, or of PAUSE_LEAVE; a literal */
	struct chatd_timer timer;
	int64_t timer_due; /**< 0: not set */
	int64_t since;     /**< NEW: of the connection; OPEN: of the frame not complete, 0: none */
	int64_t heard, sent;
	uint32_t beat_in, beat_out; /**< agreed intervals, ms; 0: none */
	int32_t end_code;
	struct parser parser;
	uint32_t refs;
	uint32_t pipe_n; /**< answers in pipe */
	uint32_t autos;  /**< ids made for 1.0 subscriptions that brought none */
	uint8_t state, op, version, pauses;
	uint8_t in_op;   /**< the core is being called: done() comes early */
	uint8_t depth;   /**< conn_finish() is up to a caller further down the stack */
	uint8_t refused; /**< of OP_COMMIT: a message of it was */
	uint8_t leaving; /**< DISCONNECT came: it waits for earlier answers */
	uint8_t counted; /**< among the strangers */
};

/** Why a connection ends. */
struct refusal {
	enum stomp_fault fault;
	struct chatd_str detail;  /**< the body, one line */
	struct chatd_str receipt; /**< .p NULL: none */
	const char *code;         /**< NULL: the fault's */
	int32_t close;            /**< 0: the fault's */
	struct chatd_str version; /**< of STOMP_VERSION_MISMATCH */
};

/* ---- conn.c ----------------------------------------------------------------- */

extern const struct chatd_codec stomp_codec;
extern const struct chatd_conn_ops stomp_conn_ops;

void conn_refuse(struct stomp_conn *, const struct refusal *);
/** It has logged in, or ends: no stranger any more. */
void conn_uncount(struct stomp_conn *);
void conn_fault(
		struct stomp_conn *, enum stomp_fault, const char *detail, struct chatd_str receipt);
/** Goodbye without an error. */
void conn_end(struct stomp_conn *, int32_t code, const char *why);
/** Frame and send @p raw (which is used up); NULL is no memory and ends the connection.
 *  Returns the bytes that wait. */
size_t conn_put(struct stomp_conn *, chatd_buf *raw);
void conn_receipt(struct stomp_conn *, struct chatd_str receipt, chatd_msg *reply);
/** The same at once, whatever else is due: for pipe.c. */
void conn_receipt_now(struct stomp_conn *, struct chatd_str receipt, const chatd_msg *reply);
void conn_pause(struct stomp_conn *, uint8_t who, int on);
/** If it was asked to leave, and everything is answered now: it ends. */
void conn_may_leave(struct stomp_conn *);
/** What was under way goes on elsewhere: the next frame may come, in a later turn. */
void conn_read_on(struct stomp_conn *);
/** Around the handling of an answer that the core gives at top level. */
void conn_enter(struct stomp_conn *);
void conn_leave(struct stomp_conn *);
/** The core's answer to op; see chatd_done. */
void conn_done(void *arg, const struct chatd_outcome *);
/** The timer, for what has come to be waited for. */
void conn_arm(struct stomp_conn *);
int64_t conn_now(const struct stomp_conn *);

/* ---- pipe.c ------------------------------------------------------------------ */

/** chatd_conn_ops.proceed: the message under way joins the pipe, the next may be read. */
int32_t pipe_proceed(void *conn, chatd_done **ret_done, void **ret_arg);
/** A receipt that must wait for earlier answers: 1, it will; 0: nothing is due, send it. */
int pipe_receipt(struct stomp_conn *, struct chatd_str receipt, chatd_msg *reply, int leave);
void pipe_free(struct stomp_conn *);

/* ---- frames.c, login.c, commit.c ------------------------------------------------ */

/** A frame of the client's. */
void frames_handle(struct stomp_conn *, struct stomp_frame *);

void login_begin(struct stomp_conn *, struct stomp_frame *);
void login_done(struct stomp_conn *, chatd_msg *creds, const struct chatd_outcome *);

void commit_begin(struct stomp_conn *, struct tx *, struct chatd_str receipt);
/** Go on with the actions that are left. */
void commit_run(struct stomp_conn *);
void commit_free(struct stomp_conn *);

#endif

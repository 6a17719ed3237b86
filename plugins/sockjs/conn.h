/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file conn.h
 * @brief What WebSocket connections and HTTP sessions have in common: a user (the
 * STOMP codec, or another plugin's endpoint), input that may have to wait for it,
 * and a turn of their own for what must not happen inside a callback.
 *
 * [worker] of the connection, all of it.
 */
#ifndef SOCKJS_CONN_H
#define SOCKJS_CONN_H

#include "inbox.h"
#include "internal.h"

/** One of each: framed WebSocket, raw WebSocket, HTTP session. */
struct conn_kind {
	const struct chatd_layer *layer; /**< for the codec; NULL: has none */
	void (*send)(chatd_sockjs_conn *, struct chatd_str text, int32_t binary);
	/** The user is detached already. */
	void (*close)(chatd_sockjs_conn *, int32_t code, const char *why);
	void (*turn)(chatd_sockjs_conn *); /**< see conn_schedule() */
	void (*destroy)(chatd_sockjs_conn *);
};

struct chatd_sockjs_conn {
	const struct conn_kind *kind;
	const struct endpoint *ep;
	chatd_worker *worker;
	void *user;
	struct inbox *inbox; /**< what the user has not taken yet, oldest first */
	size_t waiting;      /**< bytes of it */
	uint32_t refs;
	bool over; /**< the user is detached: it closed, or was told that all is over */
	bool paused, feeding, scheduled;
};

void conn_init(chatd_sockjs_conn *, const struct conn_kind *, const struct endpoint *,
		chatd_worker *); /**< with one reference */
void conn_ref(chatd_sockjs_conn *);
void conn_unref(chatd_sockjs_conn *);
/** Attaches the user; false: no memory. */
bool conn_open(chatd_sockjs_conn *);
/** Detaches the user and tells it; @p why is a chatd_stream_end. */
void conn_gone(chatd_sockjs_conn *, int32_t why);
/** The server stops: the codec is asked to leave when it is ready, another user is told that it
 *  is over. */
void conn_leave(chatd_sockjs_conn *);
/** The user, or a broken limit, ends the connection. */
void conn_close(chatd_sockjs_conn *, int32_t code, const char *why);
/** Takes over @p in: shows it to the user, now or as soon as it is not paused. */
void conn_take(chatd_sockjs_conn *, struct inbox *in);
/** Shows what waits. */
void conn_feed(chatd_sockjs_conn *);
/** kind->turn() will run soon, outside of whatever runs now. */
void conn_schedule(chatd_sockjs_conn *);
/** c[code,"why"]; NULL: no memory; free() it. */
char *conn_goodbye(int32_t code, const char *why);

/* Functions of the layers, and of the service. */
void conn_layer_close(void *link, int32_t code, const char *why);
void conn_service_send(chatd_sockjs_conn *, struct chatd_str text, int32_t binary);
void conn_service_close(chatd_sockjs_conn *, int32_t code, const char *why);

#endif

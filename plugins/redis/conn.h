/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file conn.h
 * @brief One connection to a Redis or a sentinel: name, TLS, login, replies.
 *
 * [thread] all of it.
 */
#ifndef REDIS_CONN_H
#define REDIS_CONN_H

#include "engine.h"

enum { CONN_COMMANDS, CONN_PUBSUB, CONN_SENTINEL };

struct conn_user {
	void (*ready)(void *arg);               /**< logged in: commands may go out */
	void (*reply)(void *arg, redisReply *); /**< takes it; conn_close() is allowed in here */
	/** It broke, @p why says how.  The connection is gone, as after conn_close(). */
	void (*lost)(void *arg, const char *why);
};

/** ready() or lost() comes within `connect_timeout`.  NULL: no memory. */
struct conn *conn_open(
		struct engine *, int32_t kind, const struct address *, const struct conn_user *, void *arg);
void conn_send(struct conn *, const char *bytes, size_t n);
/** Words of a command; .p NULL ends them. */
void conn_say(struct conn *, const struct chatd_str *words);
void conn_close(struct conn *); /**< NULL is fine; no callback comes */
const struct address *conn_address(const struct conn *);

/** 1: an answer of a Redis that cannot serve now, such as READONLY or LOADING. */
int conn_error_is_down(struct chatd_str error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/redis.h
 * @brief One connection to Redis for all plugins.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "redis".  Commands go to a thread of its own and come back to the worker that
 * asked; no worker ever waits for Redis.  Each has a deadline (`command_timeout`); after a few
 * failures the connection counts as down, and commands are refused at once until it is back.
 *
 * Redis is a cache: whoever asks it must be able to do without.
 */
#ifndef CHATD_REDIS_H
#define CHATD_REDIS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_REDIS "chatd.redis/1"

enum { /* types of a reply */
	CHATD_REDIS_NIL = 0,
	CHATD_REDIS_INTEGER = 1, /**< .integer */
	CHATD_REDIS_TEXT = 2,    /**< .text */
	CHATD_REDIS_ARRAY = 3,   /**< .items, .n */
	CHATD_REDIS_ERROR = 4,   /**< .text; only within arrays and with rc -EPROTO */
};

enum { CHATD_REDIS_HIDDEN = 33 }; /**< 32 hexadecimal digits and a NUL, see hide() */

/** Borrowed for the callback. */
struct chatd_redis_reply {
	int32_t type;
	int64_t integer;
	struct chatd_str text;
	const struct chatd_redis_reply *items;
	size_t n;
};

/** [worker] rc 0: the answer.  -EPROTO: Redis answered with an error, @p r is its text.
 *  -ETIMEDOUT, -ECONNRESET, -EAGAIN: there was no answer (the command may have been carried out
 *  all the same), and @p r is NULL.  Runs once, on the worker that asked, later. */
typedef void chatd_redis_fn(void *arg, chatd_status rc, const struct chatd_redis_reply *r);

/** [worker 0] @p payload was published there; .p NULL: from now on the channel is listened to,
 *  perhaps again, and what was published before may have been missed. */
typedef void chatd_redis_heard(void *arg, chatd_worker *, struct chatd_str payload);

struct chatd_redis_command {
	uint32_t struct_size;
	uint32_t script; /**< of script(): argv are its keys, then its arguments; 0: none */
	size_t n_keys;   /**< with a script */
	const struct chatd_str *argv; /**< copied */
	size_t n;
};

struct chatd_redis {
	uint32_t struct_size;
	/** [main] In init(): a Lua script (a literal).  Sent by its hash, loaded when it is missing. */
	chatd_status (*script)(void *obj, const char *text, uint32_t *ret_id);
	/** [main] In init(): hear on worker 0 that Redis can be asked (1), or cannot (0).  Nothing is
	 *  said before the first 1. */
	chatd_status (*watch)(void *obj, void (*fn)(void *arg, int32_t up), void *arg);
	/** [worker] Listen to a channel (its name with the prefix; copied) from now on. */
	chatd_status (*subscribe)(
			void *obj, struct chatd_str channel, chatd_redis_heard *fn, void *arg);
	/** [worker] -EAGAIN: Redis is down, or too much waits for it; then never fn. */
	chatd_status (*call)(void *obj, chatd_worker *, const struct chatd_redis_command *,
			chatd_redis_fn *fn, void *arg);
	/** [worker] In worker_start() and worker_stop() only: waits for the answer, and for a
	 *  connection that is being made, as long as their timeouts say.  fn runs in here. */
	chatd_status (*ask)(
			void *obj, const struct chatd_redis_command *, chatd_redis_fn *fn, void *arg);
	int32_t (*is_up)(void *obj); /**< [any] 1: it can be asked */
	/** [any] What every key and channel begins with; often empty. */
	struct chatd_str (*prefix)(void *obj);
	/** [any] A name for a key that is about @p text, which must not be read there: an address, an
	 *  e-mail address.  The same on all nodes, and for nothing else.  -ENOMEM. */
	chatd_status (*hide)(void *obj, struct chatd_str text, char ret[CHATD_REDIS_HIDDEN]);
};

#ifdef __cplusplus
}
#endif
#endif

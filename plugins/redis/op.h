/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file op.h
 * @brief One command on its way, and its answer on its way back.  Pure but for its memory.
 */
#ifndef REDIS_OP_H
#define REDIS_OP_H

#include <chatd/redis.h>

#include <hiredis/hiredis.h>

struct seat;
struct waiter;

enum { REPLY_ITEMS_MAX = 100000 };

struct op {
	struct op *next;
	struct seat *seat; /**< of the worker that asked; NULL: somebody waits, or nobody does */
	struct waiter *waiter;
	chatd_redis_fn *fn;
	void *arg;
	char *bytes; /**< the command as it goes out */
	size_t n;
	uint32_t script; /**< its number; 0: none */
	int loaded;      /**< the script was missing and was loaded: not again */
	int64_t deadline;
	chatd_status rc;
	struct chatd_redis_reply reply;
	redisReply *raw; /**< what reply points into */
};

/** NULL: no memory.  @p sha of the script, if it is one. */
struct op *op_create(const struct chatd_redis_command *, const char *sha);
void op_destroy(struct op *); /**< NULL is fine */
/** Takes @p raw, also on failure: .reply and .rc say what came.  -ENOMEM, -EPROTO likewise. */
void op_answer(struct op *, redisReply *raw);

/** [one thread] Reads replies of at most REPLY_ITEMS_MAX items; others are errors.  NULL: no
 *  memory. */
redisReader *op_reader(void);

#endif

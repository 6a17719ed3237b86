/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file guess.h
 * @brief The delays of throttle.h for an op: the same on all nodes, where the plugin redis is there.
 *
 * Redis counts then, in one script and by its own clock, and throttle.h remembers what it said.
 * While Redis is away each node counts by itself, a failure for as many as there are nodes, and
 * tells Redis later.
 */
#ifndef AUTH_GUESS_H
#define AUTH_GUESS_H

#include "throttle.h"

#include <chatd/redis.h>

struct op;
struct self;

struct guess {
	struct throttle_try try;
	char name[THROTTLE_KINDS][CHATD_REDIS_HIDDEN]; /**< in Redis */
	void (*judged)(struct op *, int64_t wait);
	void (*counted)(struct op *);
};

/** [main] In init(). */
chatd_status guess_init(struct self *);
/** judged() goes on, perhaps in here: 0, or so many ms must pass first.  A mail counts as a
 *  failure at once; else guess_end() comes.  The texts of @p who must live until this returns. */
void guess_begin(
		struct op *, const struct throttle_who *, void (*judged)(struct op *, int64_t wait));
/** THROTTLE_*; once for each begin that may go ahead, harmless otherwise.  counted(), if it is
 *  not NULL, goes on when all nodes know, perhaps in here; whether anybody waits for the op
 *  is for it to find out. */
void guess_end(struct op *, int outcome, void (*counted)(struct op *));

#endif

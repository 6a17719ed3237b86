/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file backend.h
 * @brief Where buckets are kept: the one interface between limits and their memory.
 *
 * Keys are text of the form "what:whom", such as "auth:USER" and "anon:CLIENT".  What several
 * nodes share is drawn in Redis, see shared.c; the bucket here then mirrors what Redis said last.
 *
 * All functions are [any].
 */
#ifndef LIMIT_RATE_BACKEND_H
#define LIMIT_RATE_BACKEND_H

#include "bucket.h"

struct bucket;

struct backend {
	/** The bucket of @p key, full if it is new.  NULL: no memory. */
	struct bucket *(*hold)(void *obj, struct chatd_str key, nanos now);
	/** The same if fewer than @p max hold it; *ret NULL and -EDQUOT: no.  -ENOMEM. */
	chatd_status (*hold_one_of)(
			void *obj, struct chatd_str key, int64_t max, nanos now, struct bucket **ret);
	void (*release)(struct bucket *); /**< NULL is fine */
	/** As bucket_draw(). */
	chatd_status (*draw)(
			struct bucket *, const struct rate *, int64_t cost, nanos now, struct drawn *ret);
	void (*give)(struct bucket *, const struct rate *, int64_t cost); /**< As bucket_give(). */
	/** As bucket_look(), bucket_raise(). */
	chatd_status (*look)(
			struct bucket *, const struct rate *, int64_t cost, nanos now, struct drawn *ret);
	void (*raise)(struct bucket *, nanos at);
	void (*keep)(struct bucket *); /**< one more holder of what is held already */
	/** Forget some of what is full and held by nobody; called a few times a second. */
	void (*tidy)(void *obj, nanos now);
	void (*destroy)(void *obj);
};

extern const struct backend memory_backend;

/** @p max: buckets beyond those that are held.  NULL: no memory.  [main] */
void *memory_create(const struct chatd_host *, int64_t max);

/** For tests. */
size_t memory_count(void *obj);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bucket.h
 * @brief A token bucket in one 64-bit word, drawn from by any number of threads.  Pure.
 *
 * The word is the time at which the bucket will be full (the generic cell rate algorithm's
 * theoretical arrival time): every token drawn moves it by the time that one token takes to
 * flow in.  The two operations of a token bucket, "refill by the time that has passed" and
 * "take, if there are enough", are then one compare-and-swap of one number, and no update can
 * be lost (R16).  A bucket that nobody has used for long needs no upkeep: a time in the past is
 * a full bucket.
 */
#ifndef LIMIT_RATE_BUCKET_H
#define LIMIT_RATE_BUCKET_H

#include <chatd/plugin.h>

#include <stdatomic.h>

/** Nanoseconds of the monotonic clock. */
typedef int64_t nanos;

enum { RATE_BURST_MAX = 1000000, RATE_MINUTE_MAX = 60000000 };

struct rate {
	nanos token; /**< in which one token flows in; 0: there is no limit */
	nanos depth; /**< in which an empty bucket becomes full */
};

struct drawn {
	nanos wait; /**< of a refusal: until it would be granted */
	nanos used; /**< of a grant: what is missing in the bucket now */
};

/** @p per_minute 0: no limit. */
struct rate rate_of(int64_t burst, int64_t per_minute);

/** 0, or -EDQUOT: there are not enough, and nothing was drawn.  @p now may differ between
 *  threads by less than a second, and may step either way: forward, the bucket is full at
 *  most; back, it is empty at most. */
chatd_status bucket_draw(
		_Atomic nanos *full_at, const struct rate *, int64_t cost, nanos now, struct drawn *ret);

/** As bucket_draw(), but nothing is drawn. */
chatd_status bucket_look(const _Atomic nanos *full_at, const struct rate *, int64_t cost, nanos now,
		struct drawn *ret);

/** Puts back what was drawn just now at this rate. */
void bucket_give(_Atomic nanos *full_at, const struct rate *, int64_t cost);

/** It is emptier than was known: full at @p at earliest. */
void bucket_raise(_Atomic nanos *full_at, nanos at);

/** One node's part of a rate: the same depth in time, of which a token takes @p nodes times as
 *  much.  So a bucket's word means the same for both. */
struct rate rate_part(const struct rate *, int64_t nodes);

#endif

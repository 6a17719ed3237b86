/* SPDX-License-Identifier: Apache-2.0 */
#include "bucket.h"

#include <errno.h>

#define SECOND     ((nanos)1000000000)
#define CLOCK_SKEW SECOND /* workers read the clock once a turn; a turn is much shorter */
#define SLACK_MAX  (SECOND / 20)

struct rate rate_of(int64_t burst, int64_t per_minute)
{
	struct rate r = { 0, 0 };
	if (per_minute > 0) {
		r.token = (60 * SECOND + per_minute - 1) / per_minute; /* never more than was promised */
		r.depth = r.token * burst;
	}
	return r;
}

/* By so much a worker's clock may be behind another's without costing anybody a token: less
 * than half of one, so that the number at once stays exact. */
static nanos slack(const struct rate *r)
{
	return r->token / 2 < SLACK_MAX ? r->token / 2 : SLACK_MAX;
}

chatd_status bucket_draw(
		_Atomic nanos *full_at, const struct rate *r, int64_t cost, nanos now, struct drawn *ret)
{
	nanos was = atomic_load_explicit(full_at, memory_order_relaxed);
	for (;;) {
		/* Further ahead than an empty bucket can be: the clock has gone back. */
		int stepped = was > now + r->depth + CLOCK_SKEW;
		nanos from = stepped ? now + r->depth : was > now ? was : now;
		nanos next = from + cost * r->token;
		nanos over = next - now - r->depth;
		if (over <= slack(r)) {
			over = 0;
		}
		/* A refusal changes nothing, unless it is to be the last one of an old time. */
		nanos write = over > 0 ? from : next;
		if ((over > 0 && !stepped) ||
				atomic_compare_exchange_weak_explicit(
						full_at, &was, write, memory_order_relaxed, memory_order_relaxed)) {
			*ret = (struct drawn){ .wait = over, .used = write - now };
			return over > 0 ? -EDQUOT : 0;
		}
	}
}

chatd_status bucket_look(const _Atomic nanos *full_at, const struct rate *r, int64_t cost,
		nanos now, struct drawn *ret)
{
	_Atomic nanos copy;
	atomic_init(&copy, atomic_load_explicit(full_at, memory_order_relaxed));
	return bucket_draw(&copy, r, cost, now, ret);
}

void bucket_give(_Atomic nanos *full_at, const struct rate *r, int64_t cost)
{
	atomic_fetch_sub_explicit(full_at, cost * r->token, memory_order_relaxed);
}

void bucket_raise(_Atomic nanos *full_at, nanos at)
{
	nanos was = atomic_load_explicit(full_at, memory_order_relaxed);
	while (was < at &&
			!atomic_compare_exchange_weak_explicit(
					full_at, &was, at, memory_order_relaxed, memory_order_relaxed)) {
	}
}

struct rate rate_part(const struct rate *r, int64_t nodes)
{
	struct rate part = { r->token * nodes, r->depth };
	if (part.depth < part.token) {
		part.depth = part.token; /* one at a time, at least */
	}
	return part;
}

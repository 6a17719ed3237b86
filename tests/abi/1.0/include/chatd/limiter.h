/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/limiter.h
 * @brief Token buckets that anybody may draw from, the same on every worker (and node).
 *
 * Provided by "limit-rate".  A bucket begins full; what nobody has drawn from until it would be
 * full again is forgotten.
 */
#ifndef CHATD_LIMITER_H
#define CHATD_LIMITER_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_LIMITER "chatd.limiter/1"

struct chatd_bucket {
	uint32_t struct_size;
	struct chatd_str key; /**< "what:whom", such as "register:203.0.113.9"; up to 200 bytes */
	int64_t burst;        /**< tokens in a full one, at least 1 */
	int64_t per_minute;   /**< tokens that flow in; at least 1 */
	int64_t cost;         /**< tokens to draw; more than burst: never granted */
};

/** [worker] rc 0: drawn.  -EDQUOT: not; @p retry_ms from now it may be.  Others: the limiter
 *  is out of order; what then is the caller's to decide. */
typedef void chatd_limiter_fn(void *arg, chatd_status rc, int64_t retry_ms);

struct chatd_limiter {
	uint32_t struct_size;
	/** [worker] fn runs once, on this worker, later, unless an error is returned at once. */
	chatd_status (*take)(void *obj, chatd_worker *, const struct chatd_bucket *,
			chatd_limiter_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

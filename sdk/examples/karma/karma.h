/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file karma.h
 * @brief The service of the plugin "karma": how many points somebody has.
 */
#ifndef KARMA_H
#define KARMA_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EXAMPLE_KARMA "example.karma/1"

/** [worker] Runs once, later, on the worker that asked.  @p rc 0: @p points. */
typedef void karma_fn(void *arg, chatd_status rc, int64_t points);

struct karma {
	uint32_t struct_size;
	/** [worker] How many points has @p user (copied)?  An error at once means: never fn. */
	chatd_status (*points)(
			void *obj, chatd_worker *, struct chatd_str user, karma_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

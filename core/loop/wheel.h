/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/wheel.h
 * @brief A hierarchical timer wheel over struct chatd_timer; no clock, no threads.
 *
 * Five levels of 64 slots with ticks of 32 ms reach 397 days; what is further away is
 * put in again when it comes up.  Setting and clearing are a few pointer moves, and bit
 * maps of the slots in use let time jump over what is empty.  A cleared timer may leave its
 * slot's bit behind: that costs one look at an empty slot.
 */
#ifndef CHATD_LOOP_WHEEL_H
#define CHATD_LOOP_WHEEL_H

#include <stdint.h>

#include <chatd/plugin.h>

enum { WHEEL_TICK_MS = 32, WHEEL_LEVELS = 5, WHEEL_SLOTS = 64 };

struct wheel {
	int64_t tick; /**< everything up to this one has run */
	uint64_t used[WHEEL_LEVELS];
	struct chatd_timer *slot[WHEEL_LEVELS][WHEEL_SLOTS];
	struct chatd_timer *running; /**< of the tick at hand, not yet called */
	/** Optional: calls fn(arg) in the place of the wheel, with @p of. */
	void (*call)(void *of, void (*fn)(void *arg), void *arg);
	void *of;
};

/** All zero but the time. */
void wheel_init(struct wheel *wh, int64_t now_ms);
/** Fires at the first wheel_run() whose time is >= @p due_ms, but never inside the
 *  wheel_run() that is now calling unless time went on meanwhile. */
void wheel_set(struct wheel *wh, struct chatd_timer *t, int64_t due_ms, int64_t now_ms);
void wheel_clear(struct chatd_timer *t);
/** Calls what is due. */
void wheel_run(struct wheel *wh, int64_t now_ms);
/** When wheel_run() should come next, in ms; INT64_MAX: there is nothing to wait for. */
int64_t wheel_next(const struct wheel *wh);

#endif

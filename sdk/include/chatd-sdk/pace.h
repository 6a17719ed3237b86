/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/pace.h
 * @brief In which batches a worker's connections are asked to leave when the server drains.
 *
 * All at once they would all come back at once, to this server's neighbours.  Header only.
 * [worker]
 *
 *     chatd_pace_begin(&w->pace, w->n_open, host->drain_spread(), host->now_ms(worker));
 *     on_tick: for (n = chatd_pace_due(&w->pace, host->now_ms(worker)); n-- && w->open;) ...
 *              if (w->open) timer_set(worker, &w->timer, CHATD_PACE_TICK_MS, on_tick, w);
 */
#ifndef CHATD_SDK_PACE_H
#define CHATD_SDK_PACE_H

#include <stddef.h>
#include <stdint.h>

enum {
	CHATD_PACE_TICK_MS = 50,
	CHATD_PACE_EACH_MS = 10, /**< slower than that it need not be: 100 a second */
};

struct chatd_pace {
	int64_t begun, spread;
	size_t total, done;
};

/** @p n connections within @p spread_ms at most. */
static inline void chatd_pace_begin(
		struct chatd_pace *p, size_t n, int64_t spread_ms, int64_t now_ms)
{
	int64_t enough = (int64_t)n * CHATD_PACE_EACH_MS;
	p->begun = now_ms;
	p->spread = spread_ms < enough ? spread_ms : enough;
	p->total = n;
	p->done = 0;
}

/** How many more are due now; at the first moment one is, in the end as many as there are. */
static inline size_t chatd_pace_due(struct chatd_pace *p, int64_t now_ms)
{
	int64_t passed = now_ms - p->begun;
	size_t target = SIZE_MAX;
	if (passed < p->spread) {
		target = (size_t)((double)p->total * (double)passed / (double)p->spread) + 1;
	}
	size_t due = target > p->done ? target - p->done : 0;
	p->done += due;
	return due;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/wheel.h"

#include <stdbool.h>
#include <string.h>

enum { BITS = 6, MASK = WHEEL_SLOTS - 1 };

/** Farther than this from the present tick a timer is parked and put in again later. */
static const int64_t horizon = ((int64_t)1 << (BITS * WHEEL_LEVELS)) - 1;

void wheel_init(struct wheel *wh, int64_t now_ms)
{
	memset(wh, 0, sizeof(*wh));
	wh->tick = now_ms / WHEEL_TICK_MS;
}

static bool is_empty(const struct wheel *wh)
{
	uint64_t all = 0;
	for (int level = 0; level < WHEEL_LEVELS; level++)
		all |= wh->used[level];
	return all == 0;
}

static void link_to(struct chatd_timer **head, struct chatd_timer *t)
{
	t->next = *head;
	if (t->next)
		t->next->link = &t->next;
	t->link = head;
	*head = t;
}

static void unlink_timer(struct chatd_timer *t)
{
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	t->next = NULL;
	t->link = NULL;
}

static void insert(struct wheel *wh, struct chatd_timer *t, int64_t earliest)
{
	int64_t at = t->due / WHEEL_TICK_MS + (t->due % WHEEL_TICK_MS > 0);
	if (at < earliest)
		at = earliest;
	if (at - wh->tick > horizon)
		at = wh->tick + horizon;
	int level = 0;
	while (at - wh->tick >= (int64_t)1 << (BITS * (level + 1)))
		level++;
	unsigned i = (unsigned)(at >> (BITS * level)) & MASK;
	link_to(&wh->slot[level][i], t);
	wh->used[level] |= (uint64_t)1 << i;
}

void wheel_set(struct wheel *wh, struct chatd_timer *t, int64_t due_ms, int64_t now_ms)
{
	wheel_clear(t);
	/* After a long rest the wheel catches up at once instead of cascading. */
	if (is_empty(wh) && !wh->running && now_ms / WHEEL_TICK_MS > wh->tick)
		wh->tick = now_ms / WHEEL_TICK_MS;
	t->due = due_ms;
	insert(wh, t, wh->tick + 1);
}

void wheel_clear(struct chatd_timer *t)
{
	if (t->link)
		unlink_timer(t);
}

/** The next tick at which a slot of @p level that is in use comes up; INT64_MAX: none. */
static int64_t next_of_level(const struct wheel *wh, int level)
{
	uint64_t used = wh->used[level];
	if (!used)
		return INT64_MAX;
	int64_t pos = (wh->tick >> (BITS * level)) + 1;
	unsigned turn = (unsigned)pos & MASK;
	if (turn)
		used = used >> turn | used << (WHEEL_SLOTS - turn);
	return (pos + __builtin_ctzll(used)) << (BITS * level);
}

static int64_t next_tick(const struct wheel *wh)
{
	int64_t next = INT64_MAX;
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		int64_t t = next_of_level(wh, level);
		if (t < next)
			next = t;
	}
	return next;
}

int64_t wheel_next(const struct wheel *wh)
{
	int64_t next = next_tick(wh);
	return next == INT64_MAX ? INT64_MAX : next * WHEEL_TICK_MS;
}

static struct chatd_timer *take_slot(struct wheel *wh, int level)
{
	unsigned i = (unsigned)(wh->tick >> (BITS * level)) & MASK;
	struct chatd_timer *list = wh->slot[level][i];
	wh->slot[level][i] = NULL;
	wh->used[level] &= ~((uint64_t)1 << i);
	return list;
}

/** Moves what the higher levels hold for the ticks that begin now one or more levels down. */
static void cascade(struct wheel *wh)
{
	for (int level = WHEEL_LEVELS - 1; level > 0; level--) {
		if (wh->tick & (((int64_t)1 << (BITS * level)) - 1))
			continue;
		struct chatd_timer *list = take_slot(wh, level);
		while (list) {
			struct chatd_timer *t = list;
			list = t->next;
			insert(wh, t, wh->tick);
		}
	}
}

static void call(struct wheel *wh, void (*fn)(void *arg), void *arg)
{
	if (wh->call)
		wh->call(wh->of, fn, arg);
	else
		fn(arg);
}

static void run_tick(struct wheel *wh, int64_t now_ms)
{
	wh->running = take_slot(wh, 0);
	if (wh->running)
		wh->running->link = &wh->running;
	while (wh->running) {
		struct chatd_timer *t = wh->running;
		unlink_timer(t);
		if (t->due > now_ms)
			insert(wh, t, wh->tick + 1); /* it was beyond the horizon */
		else
			call(wh, t->fn, t->arg); /* may free t */
	}
}

void wheel_run(struct wheel *wh, int64_t now_ms)
{
	int64_t target = now_ms / WHEEL_TICK_MS;
	while (wh->tick < target) {
		int64_t next = next_tick(wh);
		wh->tick = next < target ? next : target;
		if (next > target)
			break;
		cascade(wh);
		run_tick(wh, now_ms);
	}
}

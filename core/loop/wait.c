/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A process that was stopped, or a machine that was away, finds all its timers due at once, and unread
 * what clients have sent meanwhile.  It is read before anybody is told to have been silent. */
enum { LATE_MS = 1000, GRACE_MIN_MS = 200, GRACE_MAX_MS = 2000 };

struct chatd_watch {
	chatd_watch *next, **link; /* of the worker's watches */
	struct chatd_worker *w;
	struct event *ev; /* of a descriptor; NULL: a timer */
	struct chatd_timer timer;
	int64_t period; /* of a timer; 0: once */
	union {
		void (*fd)(void *arg, uint32_t ready);
		void (*time)(void *arg);
	} fn;
	void *arg;
};

/* ---- the one libevent timer -------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct chatd_worker *w = arg;
	int64_t at = w->timer_at;
	w->timer_at = INT64_MAX;
	/* Read again, so that no callback sees a now_ms before the time it waited for. */
	w->now = worker_clock_ms();
	if (w->grace_until > w->now)
		return;
	if (!w->grace_until && w->now - at > LATE_MS) {
		int64_t grace = (w->now - at) / 10;
		grace = grace < GRACE_MIN_MS ? GRACE_MIN_MS : grace;
		w->grace_until = w->now + (grace < GRACE_MAX_MS ? grace : GRACE_MAX_MS);
		return;
	}
	w->grace_until = 0;
	struct worker_mark mark;
	worker_enter(w, &mark, NULL, "timers");
	wheel_run(&w->wheel, w->now);
	worker_leave(w, &mark);
}

static void call_timer(void *of, void (*fn)(void *arg), void *arg)
{
	struct chatd_worker *w = of;
	if (w->loop->timer)
		w->loop->timer(w, fn, arg);
	else
		fn(arg);
}

int worker_wait_init(struct chatd_worker *w)
{
	wheel_init(&w->wheel, worker_clock_ms());
	w->wheel.call = call_timer;
	w->wheel.of = w;
	w->timer_ev = event_new(w->base, -1, 0, on_timer, w);
	return w->timer_ev ? 0 : -ENOMEM;
}

void worker_wait_arm(struct chatd_worker *w)
{
	int64_t at = wheel_next(&w->wheel);
	at = at < w->grace_until ? w->grace_until : at;
	if (at >= w->timer_at)
		return; /* an event that comes too early finds nothing due and arms anew */
	int64_t ms = at - worker_clock_ms();
	/* libevent counts from a clock of 4 ms ticks: what looks early by that waits again. */
	ms = ms > 0 ? ms + 1 : 0;
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	if (event_add(w->timer_ev, &tv) == 0)
		w->timer_at = at;
}

void worker_wait_finish(struct chatd_worker *w)
{
	while (w->watches)
		worker_unwatch(w->watches);
	if (w->timer_ev)
		event_free(w->timer_ev);
}

void worker_timer_set(struct chatd_worker *w, struct chatd_timer *timer, int64_t ms,
		void (*fn)(void *arg), void *arg)
{
	assert(!w->started || worker_is_here(w));
	/* Counted from the real time, not from the turn's: a long turn fires nothing early. */
	int64_t now = worker_clock_ms();
	timer->fn = fn;
	timer->arg = arg;
	if (ms < 0)
		ms = 0;
	int64_t due = ms > INT64_MAX / 2 - now ? INT64_MAX / 2 : now + ms;
	wheel_set(&w->wheel, timer, due, now);
}

void worker_timer_clear(struct chatd_timer *timer)
{
	wheel_clear(timer);
}

/* ---- watches ----------------------------------------------------------- */

static chatd_watch *watch_new(struct chatd_worker *w, void *arg)
{
	assert(!w->started || worker_is_here(w));
	chatd_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return NULL;
	watch->w = w;
	watch->arg = arg;
	watch->next = w->watches;
	if (watch->next)
		watch->next->link = &watch->next;
	watch->link = &w->watches;
	w->watches = watch;
	return watch;
}

static void on_fd(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	chatd_watch *watch = arg;
	struct chatd_worker *w = watch->w;
	uint32_t ready = (what & EV_READ ? 1u : 0u) | (what & EV_WRITE ? 2u : 0u);
	struct worker_mark mark;
	worker_enter(w, &mark, NULL, "a watched descriptor");
	watch->fn.fd(watch->arg, ready); /* may unwatch */
	worker_leave(w, &mark);
}

chatd_watch *worker_watch_fd(struct chatd_worker *w, int fd, uint32_t read1_write2,
		void (*fn)(void *arg, uint32_t ready), void *arg)
{
	chatd_watch *watch = watch_new(w, arg);
	if (!watch)
		return NULL;
	watch->fn.fd = fn;
	short what = (short)((read1_write2 & 1 ? EV_READ : 0) | (read1_write2 & 2 ? EV_WRITE : 0));
	watch->ev = event_new(w->base, fd, (short)(what | EV_PERSIST), on_fd, watch);
	if (!watch->ev || event_add(watch->ev, NULL) < 0) {
		worker_unwatch(watch);
		return NULL;
	}
	return watch;
}

static void on_time(void *arg)
{
	chatd_watch *watch = arg;
	if (watch->period > 0)
		worker_timer_set(watch->w, &watch->timer, watch->period, on_time, watch);
	call_timer(watch->w, watch->fn.time, watch->arg); /* may unwatch */
}

chatd_watch *worker_watch_time(
		struct chatd_worker *w, int64_t ms, int32_t repeat, void (*fn)(void *arg), void *arg)
{
	chatd_watch *watch = watch_new(w, arg);
	if (!watch)
		return NULL;
	watch->fn.time = fn;
	if (repeat)
		watch->period = ms > 0 ? ms : 1;
	worker_timer_set(w, &watch->timer, ms, on_time, watch);
	return watch;
}

void worker_unwatch(chatd_watch *watch)
{
	if (!watch)
		return;
	assert(!watch->w->started || worker_is_here(watch->w));
	wheel_clear(&watch->timer);
	if (watch->ev)
		event_free(watch->ev);
	*watch->link = watch->next;
	if (watch->next)
		watch->next->link = watch->link;
	free(watch);
}

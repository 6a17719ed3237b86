/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

enum {
	LOOK_MS = 100, /* how often the thread looks at every worker */
	FRAMES_TEXT = 2048,
	DEAF_MS = 1000, /* so long a worker has to report what holds it, when it is aborted */
};

struct watchdog {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool started, stopping;
	struct {
		int64_t since;  /* the stall that was reported last */
		int64_t report; /* and when to name it again, doubling */
		bool over;      /* it was too long at the last look */
	} seen[];
};

/** Coarse: a few nanoseconds instead of twenty, and 4 ms are near enough here. */
static int64_t coarse_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void worker_enter(
		struct chatd_worker *w, struct worker_mark *mark, const char *who, const char *what)
{
	mark->who = atomic_load_explicit(&w->here.mark.who, memory_order_relaxed);
	mark->what = atomic_load_explicit(&w->here.mark.what, memory_order_relaxed);
	mark->since = atomic_load_explicit(&w->since, memory_order_relaxed);
	atomic_store_explicit(&w->here.mark.who, who, memory_order_relaxed);
	atomic_store_explicit(&w->here.mark.what, what, memory_order_relaxed);
	atomic_store_explicit(&w->since, coarse_ms(), memory_order_release);
}

static void report(int32_t index, const struct worker_mark *m, int64_t ms, const char *tail)
{
	char reason[128]; /* a stall that goes on and its end are two things to say */
	snprintf(reason, sizeof(reason), "%s%s", m->who ? m->who : m->what, *tail ? " still" : "");
	if (m->who)
		log_limited(CHATD_LOG_WARN, "core", reason,
				"plugin \"%s\" held worker %d for %" PRId64 " ms in %s%s", m->who, (int)index, ms,
				m->what, tail);
	else
		log_limited(CHATD_LOG_WARN, "core", reason, "worker %d was held for %" PRId64 " ms in %s%s",
				(int)index, ms, m->what, tail);
}

static void report_stall(struct chatd_worker *w, int64_t since, int64_t now)
{
	struct worker_mark m = {
		atomic_load_explicit(&w->here.mark.who, memory_order_relaxed),
		atomic_load_explicit(&w->here.mark.what, memory_order_relaxed),
		since,
	};
	atomic_fetch_add_explicit(&w->stalls, 1, memory_order_relaxed);
	report(w->index, &m, now - since, "");
	if (w->loop->stalled)
		w->loop->stalled(w, m.who, now - since);
}

void worker_leave(struct chatd_worker *w, const struct worker_mark *mark)
{
	int64_t now = coarse_ms();
	int64_t since = atomic_load_explicit(&w->since, memory_order_relaxed);
	bool stalled = now - since >= w->loop->stall_warn_ms;
	if (stalled)
		report_stall(w, since, now);
	atomic_store_explicit(&w->here.mark.who, mark->who, memory_order_relaxed);
	atomic_store_explicit(&w->here.mark.what, mark->what, memory_order_relaxed);
	/* The time that an inner call took was reported with the inner one's name. */
	int64_t outer = stalled && mark->since ? now : mark->since;
	atomic_store_explicit(&w->since, outer, memory_order_release);
}

void worker_next(struct chatd_worker *w, const char *who)
{
	int64_t now = coarse_ms();
	int64_t since = atomic_load_explicit(&w->since, memory_order_relaxed);
	if (now - since >= w->loop->stall_warn_ms)
		report_stall(w, since, now);
	atomic_store_explicit(&w->here.mark.who, who, memory_order_relaxed);
	atomic_store_explicit(&w->since, now, memory_order_release);
}

/* Where it is: a plugin's code may be at work under another's name, or under none. */
static void report_frames(struct chatd_worker *w, struct worker_mark *m, int64_t ms)
{
	char frames[FRAMES_TEXT] = "";
	const char *by = w->gone ? NULL : crash_trace(w->thread, &w->here, frames, sizeof(frames));
	char tail[FRAMES_TEXT + 64];
	m->who = by ? by : m->who;
	snprintf(tail, sizeof(tail), " and has not returned%s%s", frames[0] ? "; it is at: " : "",
			frames);
	report(w->index, m, ms, tail);
}

/* Twice too long: a process that was frozen has all its workers late at the first look. */
static void abort_if_over(
		struct watchdog *d, struct chatd_worker *w, struct worker_mark *m, int64_t ms)
{
	bool again = d->seen[w->index].over;
	d->seen[w->index].over = ms >= d->loop->stall_abort_ms;
	if (!d->loop->stall_abort_ms || !d->seen[w->index].over || !again || w->gone)
		return;
	log_write(CHATD_LOG_ERROR, "core",
			"%s%s%sworker %d has been held for %" PRId64
			" ms in %s: the server is aborted, for its "
			"supervisor to start it again (server.on_stall)",
			m->who ? "plugin \"" : "", m->who ? m->who : "", m->who ? "\": " : "", (int)w->index,
			ms, m->what);
	pthread_kill(w->thread, SIGABRT);
	struct timespec nap = { .tv_sec = DEAF_MS / 1000 };
	nanosleep(&nap, NULL);
	abort();
}

static void look_at(struct watchdog *d, int32_t i, int64_t now)
{
	struct chatd_worker *w = &d->loop->workers[i];
	struct worker_mark m;
	m.since = atomic_load_explicit(&w->since, memory_order_acquire);
	m.who = atomic_load_explicit(&w->here.mark.who, memory_order_relaxed);
	m.what = atomic_load_explicit(&w->here.mark.what, memory_order_relaxed);
	int64_t limit = d->loop->stall_warn_ms;
	if (!m.since || !m.what || now - m.since < limit)
		return;
	if (atomic_load_explicit(&w->since, memory_order_acquire) != m.since)
		return; /* it has moved on: who and what may belong to the next call */
	if (d->seen[i].since != m.since) {
		d->seen[i].since = m.since;
		d->seen[i].report = limit;
		d->seen[i].over = false;
	}
	if (now - m.since >= d->seen[i].report) {
		d->seen[i].report = 2 * (now - m.since);
		report_frames(w, &m, now - m.since);
	}
	abort_if_over(d, w, &m, now - m.since);
}

static void *watchdog_main(void *arg)
{
	struct watchdog *d = arg;
	pthread_mutex_lock(&d->lock);
	while (!d->stopping) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		int rc = pthread_cond_timedwait(&d->wake, &d->lock, &until);
		if (rc != ETIMEDOUT)
			continue;
		int64_t now = coarse_ms();
		for (int32_t i = 0; i < d->loop->count; i++)
			look_at(d, i, now);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

struct watchdog *watchdog_create(struct loop *loop)
{
	struct watchdog *d = calloc(1, sizeof(*d) + (size_t)loop->count * sizeof(d->seen[0]));
	if (!d)
		return NULL;
	d->loop = loop;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->wake, &attr);
	pthread_condattr_destroy(&attr);
	return d;
}

int watchdog_start(struct watchdog *d)
{
	int rc = loop_thread(&d->thread, "chatd-watchdog", watchdog_main, d);
	d->started = rc == 0;
	return rc;
}

void watchdog_stop(struct watchdog *d)
{
	if (!d->started)
		return;
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	d->started = false;
}

void watchdog_forget(struct watchdog *d, struct chatd_worker *w)
{
	pthread_mutex_lock(&d->lock);
	w->gone = true;
	pthread_mutex_unlock(&d->lock);
}

void watchdog_destroy(struct watchdog *d)
{
	if (!d)
		return;
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/worker_impl.h
 * @brief What the files behind worker.h share; nobody else includes it.
 */
#ifndef CHATD_LOOP_WORKER_IMPL_H
#define CHATD_LOOP_WORKER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include <event2/event.h>

#include "base/crash.h"
#include "loop/wheel.h"
#include "loop/worker.h"

enum {
	WORKER_MAX = 64, /**< a destination keeps one bit for each */
	WORKER_HOOKS = 8,
};

/** One message of a mailbox.  Freed after fn(arg), so it may be the head of a larger
 *  allocation. */
struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct turn_hook {
	int order;
	bool (*fn)(void *arg);
	void *arg;
};

struct stop_hook {
	void (*fn)(void *arg);
	void *arg;
};

struct chatd_worker {
	struct loop *loop;
	int32_t index;
	bool started; /**< there is a thread to join */
	pthread_t thread;
	struct event_base *base;

	/* Mailbox: others push on a stack, the worker takes all of it and turns it round.
	 * `asleep` spares the write to the eventfd while the worker is busy anyway. */
	_Atomic(struct post *) mail;
	_Atomic int64_t backlog; /**< posts in mail and inbox, about */
	atomic_bool asleep, stopping;
	struct post *inbox, **inbox_end;
	uint64_t ran;                  /**< posts that it has run; see quiet.c */
	const struct loop_whose *mine; /**< of these alone; NULL: of everybody */
	int wake_fd;
	struct event *wake_ev;

	int64_t now; /**< 0: not read yet in this turn */
	struct wheel wheel;
	struct event *timer_ev;
	int64_t timer_at;    /**< what timer_ev is armed for; INT64_MAX: it is not */
	int64_t grace_until; /**< after a long stop: no timer runs before; 0: there was none */
	chatd_watch *watches;

	bool touched;
	size_t n_turn, n_stop;
	struct turn_hook turn[WORKER_HOOKS];
	struct stop_hook stop[WORKER_HOOKS];
	void *data[WORKER_DATA_MAX];

	/* For the eyes of the watchdog and of who reports a crash; `since` 0: at rest. */
	struct crash_here here;
	_Atomic int64_t since;
	bool gone;              /**< its thread ends; guarded by the watchdog's lock */
	_Atomic int64_t stalls; /**< calls that the watchdog found too long */
};

struct offload;
struct watchdog;

struct loop {
	int32_t count;
	int64_t stall_warn_ms, stall_abort_ms;
	void (*stalled)(struct chatd_worker *, const char *who, int64_t ms);
	void (*timer)(struct chatd_worker *, void (*fn)(void *arg), void *arg);
	struct offload *offload;
	struct watchdog *watchdog;
	pthread_mutex_t lock; /**< guards the counters below */
	pthread_cond_t changed;
	int32_t n_started;
	int32_t n_here;  /**< workers that have come to the end of the round */
	uint64_t round;  /**< of the last acts */
	bool ran, again; /**< something was run in this round; in the one before */
	bool stop_called;
	struct chatd_worker workers[];
};

/* worker.c */
int worker_init(struct chatd_worker *w, struct loop *loop, int32_t index);
void worker_finish(struct chatd_worker *w); /**< also after a failed worker_init() */
void *worker_main(void *w);
void worker_wake(struct chatd_worker *w);
/** Takes @p p unless it answers -ESHUTDOWN. */
int worker_post_node(struct chatd_worker *w, struct post *p);

/* wait.c */
int worker_wait_init(struct chatd_worker *w);
void worker_wait_finish(struct chatd_worker *w);
void worker_wait_arm(struct chatd_worker *w); /**< before the worker sleeps */

/* offload.c */
/** 1: some of its jobs wait or are being done, of those that loop_quiet() looks for. */
int offload_has(struct offload *o, const struct loop_whose *whose);
struct offload *offload_create(int threads, size_t queue);
int offload_start(struct offload *o);
void offload_stop(struct offload *o); /**< finishes what was accepted, joins the threads */
void offload_destroy(struct offload *o);

/* watchdog.c */
struct watchdog *watchdog_create(struct loop *loop);
int watchdog_start(struct watchdog *d);
void watchdog_stop(struct watchdog *d);
void watchdog_destroy(struct watchdog *d);
/** [worker] As its last act: from here on it is not asked for its frames. */
void watchdog_forget(struct watchdog *d, struct chatd_worker *w);

/* loop.c */
/** Like pthread_create(), with every signal blocked and a name; a negative errno. */
int loop_thread(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/worker.h
 * @brief Workers: N threads, each with an event loop, a mailbox and a timer wheel.
 *
 * The server's threads are made, fed and stopped here.  A worker is one thread
 * around one libevent base without locks; what another thread wants of it goes
 * through worker_post().  One turn of a worker is: wait for events, run their
 * callbacks, run a bounded batch of the mailbox, run the turn-end functions
 * (the streams' flush is one), wait again.
 *
 * Thread tags as in chatd/plugin.h: [main] before loop_start() and after
 * loop_join(), or from the thread that does both; [worker] on the worker's own
 * thread (asserted in debug builds); [any] everywhere.
 * Errors are 0 or a negative errno; nothing here logs except the watchdog.
 */
#ifndef CHATD_LOOP_WORKER_H
#define CHATD_LOOP_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <chatd/plugin.h>

struct event_base;
struct loop;
struct post;

struct loop_conf {
	int workers;           /**< 0: the number of cores this process may use */
	int offload_threads;   /**< 0: 2 */
	size_t offload_queue;  /**< jobs that may wait; 0: 1,024 */
	int64_t stall_warn_ms; /**< the watchdog complains above this; 0: 100 */
	/** The watchdog ends the process (SIGABRT) when a worker was held so long; 0: never. */
	int64_t stall_abort_ms;
	/** [worker] Optional: @p who, or the core itself (NULL), held it for @p ms, longer than
	 *  stall_warn_ms. */
	void (*stalled)(struct chatd_worker *, const char *who, int64_t ms);
	/** [worker] Optional: a timer is due: calls fn(arg), whoever's it is. */
	void (*timer)(struct chatd_worker *, void (*fn)(void *arg), void *arg);
};

/* ---- all workers ------------------------------------------------------- */

/** [main] Makes the workers, without threads yet: worker_post(), worker_set_data() and
 *  worker_on_turn_end() already work.  NULL: no memory or descriptors, see errno. */
struct loop *loop_create(const struct loop_conf *conf);
/** [main] Starts the threads.  All signals are blocked in them. */
int loop_start(struct loop *loop);
/** [any thread but a worker's] Stops the pool (jobs accepted before are finished), then
 *  every worker: what was posted before still runs, then the worker_on_stop() functions.
 *  Does not wait for the workers; a second call does nothing. */
void loop_stop(struct loop *loop);
/** [main] Waits until the threads have ended. */
void loop_join(struct loop *loop);
/** [main] After loop_join(), or without any loop_start().  NULL is fine. */
void loop_destroy(struct loop *loop);

int32_t loop_count(const struct loop *loop);                        /**< [any] */
struct chatd_worker *loop_worker(const struct loop *loop, int32_t); /**< [any] */
/** [main] Runs @p fn once on every worker, all at the same time, and waits for the last.  What
 *  @p fn posts to another worker, itself or through others, runs there after @p fn.
 *  Only between loop_start() and loop_stop(). */
int loop_run_all(struct loop *loop, void (*fn)(struct chatd_worker *, void *arg), void *arg);

/** Some of the code that posts and offloads. */
struct loop_whose {
	bool (*is)(const void *arg, const void *code); /**< [any] @p code: a function */
	const void *arg;
};
/** [main] Between loop_start() and loop_stop(): 1: nothing that was posted or offloaded with such a
 *  function was under way while it was looked, and nothing of it comes any more, if nobody but such
 *  calls makes others: no timer, no thread.  0: there was something; look again a little later. */
int loop_quiet(struct loop *loop, const struct loop_whose *whose);

/* ---- one worker -------------------------------------------------------- */

int32_t worker_index(const struct chatd_worker *w);     /**< [any] */
struct loop *worker_loop(const struct chatd_worker *w); /**< [any] */
struct chatd_worker *worker_current(void);              /**< [any] NULL: no worker's thread */
bool worker_is_here(const struct chatd_worker *w);      /**< [any] for asserts */
struct event_base *worker_base(struct chatd_worker *w); /**< [worker] for core/loop itself */

/** [any] Runs @p fn on @p w, after all that this thread posted there before, never inside
 *  this call.  -ENOMEM; -ESHUTDOWN: the worker has ended, fn will not run. */
int worker_post(struct chatd_worker *w, void (*fn)(void *arg), void *arg);
/** [any] Memory for one post, got beforehand, so that an answer cannot fail for want of it.
 *  NULL: no memory; free() it if it is not used. */
struct post *worker_post_create(void);
/** [any] As worker_post(), with that memory, which it takes.  -ESHUTDOWN. */
int worker_post_with(struct chatd_worker *w, struct post *p, void (*fn)(void *arg), void *arg);

/** [worker] Monotonic milliseconds, read once per turn. */
int64_t worker_now_ms(struct chatd_worker *w);
/** [any] Wall-clock ms since 1970. */
int64_t wall_ms(void);
/** [any] The same clock, read now. */
int64_t worker_clock_ms(void);

/** Pointers that the layers above hang on a worker.  Numbers are given here, so that
 *  nobody has to register.  [worker], or [main] before loop_start(). */
enum { WORKER_DATA_NET, WORKER_DATA_CHAT, WORKER_DATA_HOST, WORKER_DATA_TEST, WORKER_DATA_MAX };
void *worker_data(const struct chatd_worker *w, unsigned slot);
void worker_set_data(struct chatd_worker *w, unsigned slot, void *data);

/** When turn-end functions run, lowest first. */
enum { WORKER_TURN_CHAT = 10, WORKER_TURN_NET = 20 };
/** [worker], or [main] before loop_start().  @p fn runs at the end of every turn, before the
 *  worker sleeps; it returns true if it left work over, and then the next turn does not
 *  sleep.  It may make work for the others: they run again until nobody did anything
 *  (see worker_touch()). */
int worker_on_turn_end(struct chatd_worker *w, int order, bool (*fn)(void *arg), void *arg);
/** [worker] There is new work for turn-end functions: run them all once more in this turn. */
void worker_touch(struct chatd_worker *w);
/** [worker], or [main] before loop_start().  @p fn runs on the worker's thread as its last
 *  act, the latest registered first. */
int worker_on_stop(struct chatd_worker *w, void (*fn)(void *arg), void *arg);

/* ---- waiting ----------------------------------------------------------- */

/** [worker] As chatd_host.watch_fd: @p ready is what is possible, as in @p read1_write2.
 *  NULL: no memory.  Every watch ends with worker_unwatch(), also a timer that ran; what
 *  is left when the worker ends is freed then. */
chatd_watch *worker_watch_fd(struct chatd_worker *w, int fd, uint32_t read1_write2,
		void (*fn)(void *arg, uint32_t ready), void *arg);
/** [worker] As chatd_host.watch_time. */
chatd_watch *worker_watch_time(
		struct chatd_worker *w, int64_t ms, int32_t repeat, void (*fn)(void *arg), void *arg);
void worker_unwatch(chatd_watch *watch); /**< [worker] also from its own callback */

/** [worker] As chatd_host.timer_set: never early, at most 50 ms late on an idle worker.
 *  A timer may be set again or cleared, and its memory freed, in any timer's callback. */
void worker_timer_set(struct chatd_worker *w, struct chatd_timer *timer, int64_t ms,
		void (*fn)(void *arg), void *arg);
void worker_timer_clear(struct chatd_timer *timer); /**< [worker] also when not set */

/** [worker] As chatd_host.offload.  -EBUSY: the queue is full; -ESHUTDOWN: stopping. */
int worker_offload(
		struct chatd_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg);

/* ---- watchdog ---------------------------------------------------------- */

/** What a worker was at before worker_enter(). */
struct worker_mark {
	const char *who, *what;
	int64_t since;
};

/** [worker] Code of plugin @p who begins, in hook or callback @p what.  Both strings live
 *  for ever; @p who may be NULL (the core itself).  Costs a coarse clock and some stores;
 *  calls nest. */
void worker_enter(
		struct chatd_worker *w, struct worker_mark *mark, const char *who, const char *what);
/** [worker] Between worker_enter() and worker_leave(): the one before has come back, and now it is
 *  @p who, in the same chain of hooks.  Half of what leaving and entering cost. */
void worker_next(struct chatd_worker *w, const char *who);
int64_t worker_stalls(const struct chatd_worker *w); /**< [any] how often that was, ever */
int64_t worker_backlog(struct chatd_worker *w);      /**< [any] posts that wait, about */
/** [worker] Logs `plugin "x" held worker 2 for 180 ms in message_in` if it took too long. */
void worker_leave(struct chatd_worker *w, const struct worker_mark *mark);

#endif

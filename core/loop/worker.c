/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	MAIL_BATCH = 256,     /* posts per turn, so that sockets get their share */
	TURN_END_ROUNDS = 16, /* of the turn-end functions, likewise */
	BACKLOG_MAX = 16384,  /* posts; above that a worker is behind */
	HOLD_MS = 250,        /* so that writing, timers and heart-beats go on all the same */
	HOLD_NAP_NS = 200000,
};

/* The only way to ask "which worker am I on" without passing it through every call. */
static _Thread_local struct chatd_worker *current;

/* Marks a mailbox that takes nothing any more; never dereferenced. */
static struct post closed_mail;

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	uint64_t n;
	ssize_t rc = read(fd, &n, sizeof(n));
	(void)rc; /* EAGAIN: somebody read it already; the mailbox is looked at anyway */
}

int worker_init(struct chatd_worker *w, struct loop *loop, int32_t index)
{
	w->loop = loop;
	w->index = index;
	/* Not by its own thread: the watchdog's may look at it before that has come so far. */
	w->here = (struct crash_here){ .thread = "worker", .index = index };
	w->inbox_end = &w->inbox;
	w->timer_at = INT64_MAX;
	w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->wake_fd < 0)
		return -errno;
	struct event_config *conf = event_config_new();
	if (!conf)
		return -ENOMEM;
	event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(conf, EVENT_BASE_FLAG_IGNORE_ENV);
	w->base = event_base_new_with_config(conf);
	event_config_free(conf);
	if (!w->base)
		return -ENOMEM;
	w->wake_ev = event_new(w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, NULL);
	if (!w->wake_ev || event_add(w->wake_ev, NULL) < 0)
		return -ENOMEM;
	return worker_wait_init(w);
}

void worker_finish(struct chatd_worker *w)
{
	worker_wait_finish(w);
	if (w->wake_ev)
		event_free(w->wake_ev);
	if (w->base)
		event_base_free(w->base);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	struct post *p = atomic_load(&w->mail);
	while (p && p != &closed_mail) { /* only without any loop_start() */
		struct post *next = p->next;
		free(p);
		p = next;
	}
}

int32_t worker_index(const struct chatd_worker *w)
{
	return w->index;
}

struct loop *worker_loop(const struct chatd_worker *w)
{
	return w->loop;
}

struct chatd_worker *worker_current(void)
{
	return current;
}

bool worker_is_here(const struct chatd_worker *w)
{
	return w == current;
}

struct event_base *worker_base(struct chatd_worker *w)
{
	return w->base;
}

void *worker_data(const struct chatd_worker *w, unsigned slot)
{
	assert(slot < WORKER_DATA_MAX);
	return w->data[slot];
}

void worker_set_data(struct chatd_worker *w, unsigned slot, void *data)
{
	assert(slot < WORKER_DATA_MAX);
	w->data[slot] = data;
}

int64_t worker_clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t worker_stalls(const struct chatd_worker *w)
{
	return atomic_load_explicit(&w->stalls, memory_order_relaxed);
}

int64_t worker_backlog(struct chatd_worker *w)
{
	return atomic_load_explicit(&w->backlog, memory_order_relaxed);
}

int64_t worker_now_ms(struct chatd_worker *w)
{
	assert(!w->started || worker_is_here(w));
	if (!w->now)
		w->now = worker_clock_ms();
	return w->now;
}

/* ---- mailbox ----------------------------------------------------------- */

void worker_wake(struct chatd_worker *w)
{
	uint64_t one = 1;
	ssize_t rc = write(w->wake_fd, &one, sizeof(one));
	(void)rc; /* EAGAIN: 2^64 - 2 wake-ups are waiting, one more does not matter */
}

int worker_post_node(struct chatd_worker *w, struct post *p)
{
	struct post *head = atomic_load(&w->mail);
	do {
		if (head == &closed_mail)
			return -ESHUTDOWN;
		p->next = head;
	} while (!atomic_compare_exchange_weak(&w->mail, &head, p));
	atomic_fetch_add_explicit(&w->backlog, 1, memory_order_relaxed);
	/* Sequentially consistent on both sides: either the worker sees the post before it
	 * sleeps, or this thread sees that it sleeps. */
	if (atomic_load(&w->asleep) && atomic_exchange(&w->asleep, false))
		worker_wake(w);
	return 0;
}

struct post *worker_post_create(void)
{
	return malloc(sizeof(struct post));
}

int worker_post_with(struct chatd_worker *w, struct post *p, void (*fn)(void *arg), void *arg)
{
	p->fn = fn;
	p->arg = arg;
	int rc = worker_post_node(w, p);
	if (rc < 0)
		free(p);
	return rc;
}

int worker_post(struct chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	struct post *p = worker_post_create();
	return p ? worker_post_with(w, p, fn, arg) : -ENOMEM;
}

/** Appends what has come in to the inbox, oldest first. */
static void collect(struct chatd_worker *w, struct post *put_back)
{
	struct post *p = atomic_exchange(&w->mail, put_back);
	if (!p)
		return;
	struct post *oldest = NULL;
	struct post *newest = p;
	while (p) {
		struct post *next = p->next;
		p->next = oldest;
		oldest = p;
		p = next;
	}
	*w->inbox_end = oldest;
	w->inbox_end = &newest->next;
}

static void run_inbox(struct chatd_worker *w, size_t max)
{
	int64_t done = 0;
	for (size_t n = 0; n < max && w->inbox; n++) {
		struct post *p = w->inbox;
		done++;
		w->ran += !w->mine || w->mine->is(w->mine->arg, (const void *)(uintptr_t)p->fn);
		w->inbox = p->next;
		if (!w->inbox)
			w->inbox_end = &w->inbox;
		struct worker_mark mark;
		worker_enter(w, &mark, NULL, "a posted call");
		p->fn(p->arg);
		worker_leave(w, &mark);
		free(p);
	}
	if (done)
		atomic_fetch_sub_explicit(&w->backlog, done, memory_order_relaxed);
}

static void run_mail(struct chatd_worker *w, size_t max)
{
	if (atomic_load_explicit(&w->mail, memory_order_relaxed))
		collect(w, NULL);
	run_inbox(w, max);
}

/* ---- turns ------------------------------------------------------------- */

int worker_on_turn_end(struct chatd_worker *w, int order, bool (*fn)(void *arg), void *arg)
{
	assert(!w->started || worker_is_here(w));
	if (w->n_turn == WORKER_HOOKS)
		return -ENOSPC;
	size_t i = w->n_turn++;
	for (; i > 0 && w->turn[i - 1].order > order; i--)
		w->turn[i] = w->turn[i - 1];
	w->turn[i] = (struct turn_hook){ order, fn, arg };
	return 0;
}

int worker_on_stop(struct chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	assert(!w->started || worker_is_here(w));
	if (w->n_stop == WORKER_HOOKS)
		return -ENOSPC;
	w->stop[w->n_stop++] = (struct stop_hook){ fn, arg };
	return 0;
}

void worker_touch(struct chatd_worker *w)
{
	assert(!w->started || worker_is_here(w));
	w->touched = true;
}

/** True: there is work left, do not sleep. */
static bool end_turn(struct chatd_worker *w)
{
	bool more = false;
	for (int round = 0; round < TURN_END_ROUNDS; round++) {
		w->touched = false;
		more = false;
		for (size_t i = 0; i < w->n_turn; i++)
			more |= w->turn[i].fn(w->turn[i].arg);
		if (!w->touched)
			return more;
	}
	return true;
}

static bool anyone_is_behind(const struct loop *loop)
{
	for (int32_t i = 0; i < loop->count; i++)
		if (atomic_load_explicit(&loop->workers[i].backlog, memory_order_relaxed) > BACKLOG_MAX)
			return true;
	return false;
}

/** While a worker has more mail than it gets done, the others read no clients: those would
 *  only make more of it, without end.  Mail itself is always taken, so nobody waits for
 *  somebody who waits. */
static void hold_back(struct chatd_worker *w)
{
	if (!anyone_is_behind(w->loop))
		return;
	int64_t until = worker_clock_ms() + HOLD_MS;
	do {
		w->now = 0;
		run_mail(w, MAIL_BATCH);
		end_turn(w);
		if (!w->inbox && !atomic_load(&w->mail))
			nanosleep(&(struct timespec){ .tv_nsec = HOLD_NAP_NS }, NULL);
	} while (anyone_is_behind(w->loop) && worker_clock_ms() < until);
}

static void one_turn(struct chatd_worker *w, bool *busy)
{
	hold_back(w);
	*busy = *busy || w->inbox;
	if (!*busy) {
		atomic_store(&w->asleep, true);
		*busy = atomic_load(&w->mail) || atomic_load(&w->stopping);
	}
	w->now = 0;
	event_base_loop(w->base, EVLOOP_ONCE | (*busy ? EVLOOP_NONBLOCK : 0));
	atomic_store(&w->asleep, false);
	run_mail(w, MAIL_BATCH);
	*busy = end_turn(w);
	worker_wait_arm(w);
}

/** True: there was something to run. */
static bool run_to_the_end(struct chatd_worker *w)
{
	uint64_t before = w->ran;
	do {
		run_mail(w, SIZE_MAX);
		end_turn(w);
	} while (w->inbox || atomic_load(&w->mail));
	return w->ran != before;
}

/** Waits until all workers are here.  True: one of them had something to run. */
static bool meet(struct loop *loop, bool ran)
{
	pthread_mutex_lock(&loop->lock);
	uint64_t round = loop->round;
	loop->ran = loop->ran || ran;
	if (++loop->n_here == loop->n_started) {
		loop->n_here = 0;
		loop->again = loop->ran;
		loop->ran = false;
		loop->round++;
		pthread_cond_broadcast(&loop->changed);
	}
	while (loop->round == round)
		pthread_cond_wait(&loop->changed, &loop->lock);
	bool again = loop->again;
	pthread_mutex_unlock(&loop->lock);
	return again;
}

void *worker_main(void *arg)
{
	struct chatd_worker *w = arg;
	current = w;
	w->started = true;
	(void)crash_thread(&w->here); /* without memory for it a stack overflow goes unreported */
	bool busy = true;
	while (!atomic_load(&w->stopping))
		one_turn(w, &busy);
	w->now = 0;
	run_to_the_end(w);
	while (w->n_stop > 0) {
		struct stop_hook *s = &w->stop[--w->n_stop];
		s->fn(s->arg);
	}
	/* What one worker posts in its last acts, and what is posted in answer to that, still
	 * arrives: the mailboxes close only when a whole round has brought nothing. */
	meet(w->loop, true);
	while (meet(w->loop, run_to_the_end(w)))
		continue;
	collect(w, &closed_mail);
	run_inbox(w, SIZE_MAX);
	watchdog_forget(w->loop->watchdog, w);
	crash_thread_end(&w->here);
	current = NULL;
	return NULL;
}

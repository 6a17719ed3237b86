/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker_impl.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

static int cores(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return CPU_COUNT(&set);
}

static struct loop *give_up(struct loop *loop, int err)
{
	loop_destroy(loop);
	errno = err;
	return NULL;
}

struct loop *loop_create(const struct loop_conf *conf)
{
	int n = conf->workers > 0 ? conf->workers : cores();
	if (n > WORKER_MAX)
		n = WORKER_MAX;
	struct loop *loop = calloc(1, sizeof(*loop) + (size_t)n * sizeof(loop->workers[0]));
	if (!loop)
		return NULL;
	loop->stall_warn_ms = conf->stall_warn_ms > 0 ? conf->stall_warn_ms : 100;
	loop->stalled = conf->stalled;
	loop->timer = conf->timer;
	loop->stall_abort_ms = conf->stall_abort_ms;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->changed, NULL);
	for (; loop->count < n; loop->count++) {
		int rc = worker_init(&loop->workers[loop->count], loop, loop->count);
		if (rc < 0) {
			worker_finish(&loop->workers[loop->count]);
			return give_up(loop, -rc);
		}
	}
	loop->offload = offload_create(conf->offload_threads > 0 ? conf->offload_threads : 2,
			conf->offload_queue ? conf->offload_queue : 1024);
	loop->watchdog = watchdog_create(loop);
	if (!loop->offload || !loop->watchdog)
		return give_up(loop, ENOMEM);
	return loop;
}

int loop_thread(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	sigset_t all;
	sigset_t old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(*ret, name);
	return -rc;
}

int loop_start(struct loop *loop)
{
	int rc = offload_start(loop->offload);
	for (int32_t i = 0; rc == 0 && i < loop->count; i++) {
		struct chatd_worker *w = &loop->workers[i];
		/* Held until the thread is counted: a worker that stops early counts them. */
		pthread_mutex_lock(&loop->lock);
		rc = loop_thread(&w->thread, "chatd-worker", worker_main, w);
		if (rc == 0)
			loop->n_started++;
		pthread_mutex_unlock(&loop->lock);
	}
	if (rc == 0)
		rc = watchdog_start(loop->watchdog);
	if (rc < 0) {
		loop_stop(loop);
		loop_join(loop);
	}
	return rc;
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	bool again = loop->stop_called;
	loop->stop_called = true;
	pthread_mutex_unlock(&loop->lock);
	if (again)
		return;
	offload_stop(loop->offload);
	for (int32_t i = 0; i < loop->count; i++) {
		atomic_store(&loop->workers[i].stopping, true);
		worker_wake(&loop->workers[i]);
	}
}

void loop_join(struct loop *loop)
{
	for (int32_t i = 0; i < loop->n_started; i++)
		pthread_join(loop->workers[i].thread, NULL);
	for (int32_t i = 0; i < loop->n_started; i++)
		loop->workers[i].started = false;
	loop->n_started = 0;
	watchdog_stop(loop->watchdog);
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	offload_destroy(loop->offload);
	watchdog_destroy(loop->watchdog);
	for (int32_t i = 0; i < loop->count; i++)
		worker_finish(&loop->workers[i]);
	pthread_cond_destroy(&loop->changed);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int32_t loop_count(const struct loop *loop)
{
	return loop->count;
}

struct chatd_worker *loop_worker(const struct loop *loop, int32_t index)
{
	if (index < 0 || index >= loop->count)
		return NULL;
	/* The workers are as mutable as ever; only the table they stand in is not. */
	return (struct chatd_worker *)(uintptr_t)&loop->workers[index];
}

/* ---- run on all -------------------------------------------------------- */

struct everywhere {
	void (*fn)(struct chatd_worker *, void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t done;
	int32_t left;
};

static void run_here(void *arg)
{
	struct everywhere *e = arg;
	pthread_mutex_lock(&e->lock); /* until all have it in their mail */
	pthread_mutex_unlock(&e->lock);
	e->fn(worker_current(), e->arg);
	pthread_mutex_lock(&e->lock);
	if (--e->left == 0)
		pthread_cond_signal(&e->done);
	pthread_mutex_unlock(&e->lock);
}

int loop_run_all(struct loop *loop, void (*fn)(struct chatd_worker *, void *arg), void *arg)
{
	struct everywhere e = { .fn = fn, .arg = arg, .left = loop->count };
	int rc = 0;
	pthread_mutex_init(&e.lock, NULL);
	pthread_cond_init(&e.done, NULL);
	/* Nobody begins before all have it: what the first one posts to the last would be there
	 * earlier, and find a plugin's worker_start() not yet run. */
	pthread_mutex_lock(&e.lock);
	for (int32_t i = 0; i < loop->count; i++) {
		int err = worker_post(&loop->workers[i], run_here, &e);
		if (err < 0) {
			rc = err;
			e.left--;
		}
	}
	while (e.left > 0)
		pthread_cond_wait(&e.done, &e.lock);
	pthread_mutex_unlock(&e.lock);
	pthread_cond_destroy(&e.done);
	pthread_mutex_destroy(&e.lock);
	return rc;
}

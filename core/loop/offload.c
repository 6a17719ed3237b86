/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/worker_impl.h"

#include <errno.h>
#include <stdlib.h>

struct job {
	struct post done; /* first: the mailbox frees the job with it */
	struct job *next;
	struct chatd_worker *w;
	void (*work)(void *arg);
};

struct offload {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job *first, **last;
	struct job *doing;
	size_t n, max;
	bool stopping;
	int n_threads, n_started;
	pthread_t threads[];
};

struct offload *offload_create(int threads, size_t queue)
{
	struct offload *o = calloc(1, sizeof(*o) + (size_t)threads * sizeof(o->threads[0]));
	if (!o)
		return NULL;
	o->n_threads = threads;
	o->max = queue;
	o->last = &o->first;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->wake, NULL);
	return o;
}

static struct job *next_job(struct offload *o)
{
	pthread_mutex_lock(&o->lock);
	while (!o->first && !o->stopping)
		pthread_cond_wait(&o->wake, &o->lock);
	struct job *job = o->first;
	if (job) {
		o->n--;
		o->first = job->next;
		if (!o->first)
			o->last = &o->first;
		job->next = o->doing;
		o->doing = job;
	}
	pthread_mutex_unlock(&o->lock);
	return job;
}

/* Whoever looks finds it either here or in the mailbox: both under the lock. */
static void hand_back(struct offload *o, struct job *job)
{
	pthread_mutex_lock(&o->lock);
	struct job **at = &o->doing;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	/* The workers end after this pool, so this cannot fail. */
	if (worker_post_node(job->w, &job->done) < 0)
		free(job);
	pthread_mutex_unlock(&o->lock);
}

static bool any_of(const struct job *job, const struct loop_whose *whose)
{
	while (job && !whose->is(whose->arg, (const void *)(uintptr_t)job->done.fn))
		job = job->next;
	return job != NULL;
}

int offload_has(struct offload *o, const struct loop_whose *whose)
{
	pthread_mutex_lock(&o->lock);
	bool has = any_of(o->first, whose) || any_of(o->doing, whose);
	pthread_mutex_unlock(&o->lock);
	return has;
}

static void *pool_main(void *arg)
{
	struct offload *o = arg;
	struct job *job;
	struct crash_here here = { .thread = "pool", .index = -1 };
	(void)crash_thread(&here);
	while ((job = next_job(o))) {
		atomic_store_explicit(&here.mark.what, "offloaded work", memory_order_relaxed);
		job->work(job->done.arg);
		atomic_store_explicit(&here.mark.what, NULL, memory_order_relaxed);
		hand_back(o, job);
	}
	crash_thread_end(&here);
	return NULL;
}

int offload_start(struct offload *o)
{
	for (; o->n_started < o->n_threads; o->n_started++) {
		int rc = loop_thread(&o->threads[o->n_started], "chatd-offload", pool_main, o);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void offload_stop(struct offload *o)
{
	pthread_mutex_lock(&o->lock);
	o->stopping = true;
	pthread_cond_broadcast(&o->wake);
	pthread_mutex_unlock(&o->lock);
	for (; o->n_started > 0; o->n_started--)
		pthread_join(o->threads[o->n_started - 1], NULL);
}

void offload_destroy(struct offload *o)
{
	if (!o)
		return;
	while (o->first) { /* only without any loop_start() */
		struct job *job = o->first;
		o->first = job->next;
		free(job);
	}
	pthread_cond_destroy(&o->wake);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

int worker_offload(
		struct chatd_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	struct offload *o = w->loop->offload;
	struct job *job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->done.fn = done;
	job->done.arg = arg;
	job->w = w;
	job->work = work;
	pthread_mutex_lock(&o->lock);
	int rc = o->stopping ? -ESHUTDOWN : o->n >= o->max ? -EBUSY : 0;
	if (rc == 0) {
		*o->last = job;
		o->last = &job->next;
		o->n++;
		pthread_cond_signal(&o->wake);
	}
	pthread_mutex_unlock(&o->lock);
	if (rc < 0)
		free(job);
	return rc;
}

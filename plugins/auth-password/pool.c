/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <chatd-sdk/thread.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <sodium.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS_MAX = 16, REST_S = 30 };
enum { QUEUED, RUNNING, DONE };

struct slot {
	struct pool *pool;
	pthread_t thread;
	sem_t work;
	struct hash_memory memory; /* the thread's */
	struct hash_job *job;      /* written before the post, read after the wait; NULL: stop */
	int busy;                  /* guarded by the pool's lock */
};

struct pool {
	const struct chatd_host *h;
	struct pool_conf conf;
	/* Taken by workers only: see pool.h. */
	pthread_mutex_t lock;
	struct hash_job *head, **tail;
	int64_t n_queued;
	struct slot slots[SLOTS_MAX];
	int n_slots;
	/* By worker.  They live as long as the threads, which write there last of all. */
	int *fds, n_fds;
};

static void compute(const struct hash_params *p, struct hash_memory *memory, struct hash_job *job)
{
	const struct hash_pass pass = { job->pass, job->n };
	job->made[0] = '\0';
	job->rc = 0;
	if (job->kind == JOB_MAKE) {
		job->rc = hash_make(p, memory, pass, job->made);
	} else {
		job->right = hash_verify(job->have, memory, pass) && !job->dummy;
		if (job->right && hash_outdated(p, job->have) &&
				hash_make(p, memory, pass, job->made) < 0) {
			job->made[0] = '\0'; /* it is still the right one */
		}
	}
	sodium_memzero(job->pass, sizeof(job->pass));
}

/* After a while without work its memory goes back. */
static void await_work(struct slot *s)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += REST_S;
	while (sem_timedwait(&s->work, &until) != 0) {
		if (errno == ETIMEDOUT) {
			hash_memory_rest(&s->memory);
			while (sem_wait(&s->work) != 0) {
			}
			return;
		}
	}
}

static void *run(void *arg)
{
	struct slot *s = arg;
	const struct sched_param lowest = { 0 };
	/* Not allowed in some containers: then the threads are like all others. */
	(void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &lowest);
	for (;;) {
		await_work(s);
		struct hash_job *job = s->job;
		if (!job) {
			hash_memory_finish(&s->memory);
			return NULL;
		}
		const uint64_t one = 1;
		int fd = job->seat->fd;
		compute(s->pool->conf.params, &s->memory, job);
		atomic_store_explicit(&job->state, DONE, memory_order_release);
		/* The job may be gone by now; the descriptor is there until the threads are not. */
		(void)!write(fd, &one, sizeof(one));
	}
}

/* ---- the queue ------------------------------------------------------------------- */

static void give(struct slot *s, struct hash_job *job)
{
	s->busy = 1;
	s->job = job;
	job->slot = (int)(s - s->pool->slots);
	atomic_store_explicit(&job->state, RUNNING, memory_order_relaxed);
	sem_post(&s->work);
}

static struct slot *free_slot(struct pool *p)
{
	for (int i = 0; i < p->n_slots; i++) {
		if (!p->slots[i].busy) {
			return &p->slots[i];
		}
	}
	return NULL;
}

static struct hash_job *dequeue(struct pool *p)
{
	struct hash_job *job = p->head;
	if (job) {
		p->head = job->next;
		p->tail = p->head ? p->tail : &p->head;
		p->n_queued--;
	}
	return job;
}

/* 1: it was still queued. */
static int take_back(struct pool *p, struct hash_job *job)
{
	int queued;
	pthread_mutex_lock(&p->lock);
	queued = atomic_load_explicit(&job->state, memory_order_relaxed) == QUEUED;
	for (struct hash_job **l = &p->head; queued && *l; l = &(*l)->next) {
		if (*l == job) {
			*l = job->next;
			p->tail = job->next ? p->tail : l;
			p->n_queued--;
			break;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return queued;
}

static void finish(struct hash_job *job, chatd_status rc)
{
	struct hash_job **l = &job->seat->jobs;
	while (*l != job) {
		l = &(*l)->seat_next;
	}
	*l = job->seat_next;
	job->pool->h->timer_clear(&job->timer);
	sodium_memzero(job->pass, sizeof(job->pass));
	job->done(job->arg, rc);
}

static void on_too_long(void *arg)
{
	struct hash_job *job = arg;
	if (take_back(job->pool, job)) {
		finish(job, -EBUSY);
	}
}

static int is_done(struct hash_job *job)
{
	return atomic_load_explicit(&job->state, memory_order_acquire) == DONE;
}

/* Its slot is free for the next one, whosever that is. */
static void collect(struct hash_job *job)
{
	struct pool *p = job->pool;
	pthread_mutex_lock(&p->lock);
	struct slot *s = &p->slots[job->slot];
	struct hash_job *next = dequeue(p);
	s->busy = 0;
	if (next) {
		give(s, next);
	}
	pthread_mutex_unlock(&p->lock);
	finish(job, job->rc);
}

static void on_done(void *arg, uint32_t ready)
{
	struct pool_seat *seat = arg;
	uint64_t n;
	(void)ready;
	(void)!read(seat->fd, &n, sizeof(n));
	struct hash_job *job = seat->jobs;
	while (job) {
		if (is_done(job)) {
			collect(job);
			job = seat->jobs; /* done() may have submitted others */
		} else {
			job = job->seat_next;
		}
	}
}

/* ---- without threads of our own ---------------------------------------------------- */

static void offloaded(void *arg)
{
	struct hash_job *job = arg;
	compute(job->pool->conf.params, NULL, job);
}

static void offload_done(void *arg)
{
	struct hash_job *job = arg;
	pthread_mutex_lock(&job->pool->lock);
	job->pool->n_queued--;
	pthread_mutex_unlock(&job->pool->lock);
	finish(job, job->rc);
}

static chatd_status offload(struct hash_job *job)
{
	struct pool *p = job->pool;
	chatd_status rc = -EAGAIN;
	pthread_mutex_lock(&p->lock);
	if (p->n_queued < p->conf.queue) {
		rc = p->h->offload(job->seat->w, offloaded, offload_done, job);
		p->n_queued += rc == 0;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static chatd_status enqueue(struct hash_job *job)
{
	struct pool *p = job->pool;
	chatd_status rc = 0;
	pthread_mutex_lock(&p->lock);
	struct slot *s = free_slot(p);
	if (s) {
		give(s, job);
	} else if (p->n_queued < p->conf.queue) {
		*p->tail = job;
		p->tail = &job->next;
		p->n_queued++;
	} else {
		rc = -EAGAIN;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

chatd_status pool_submit(struct pool_seat *seat, struct hash_job *job)
{
	struct pool *p = seat->pool;
	job->pool = p;
	job->seat = seat;
	job->next = NULL;
	job->right = 0;
	job->timer = (struct chatd_timer){ 0 };
	atomic_init(&job->state, QUEUED);
	job->seat_next = seat->jobs;
	seat->jobs = job; /* before a thread can be done with it */
	p->h->timer_set(seat->w, &job->timer, p->conf.wait_ms, on_too_long, job);
	chatd_status rc = p->n_slots ? enqueue(job) : offload(job);
	if (p->n_slots == 0 || rc < 0) {
		p->h->timer_clear(&job->timer);
	}
	if (rc < 0) {
		seat->jobs = job->seat_next;
		sodium_memzero(job->pass, sizeof(job->pass));
	}
	return rc == -EBUSY ? -EAGAIN : rc;
}

/* ---- life -------------------------------------------------------------------------- */

chatd_status pool_sit(struct pool *p, chatd_worker *w, struct pool_seat *seat)
{
	*seat = (struct pool_seat){ .pool = p, .w = w, .fd = -1 };
	if (p->n_slots == 0) {
		return 0;
	}
	seat->fd = p->fds[p->h->worker_index(w)];
	seat->watch = p->h->watch_fd(w, seat->fd, 1, on_done, seat);
	return seat->watch ? 0 : -ENOMEM;
}

void pool_rise(struct pool_seat *seat)
{
	while (seat->jobs && seat->pool->n_slots) {
		struct hash_job *job = seat->jobs;
		if (take_back(seat->pool, job)) {
			finish(job, -ESHUTDOWN);
		} else if (is_done(job)) {
			collect(job);
		} else {
			struct pollfd wait = { .fd = seat->fd, .events = POLLIN };
			uint64_t n;
			(void)poll(&wait, 1, 50);
			(void)!read(seat->fd, &n, sizeof(n));
		}
	}
	if (seat->watch) {
		seat->pool->h->unwatch(seat->watch);
		seat->watch = NULL;
	}
}

static int start(struct slot *s)
{
	sem_init(&s->work, 0, 0);
	int rc = chatd_thread(&s->thread, "chatd-hash", run, s);
	if (rc != 0) {
		sem_destroy(&s->work);
	}
	return rc;
}

static int open_fds(struct pool *p)
{
	p->fds = p->h->mem_alloc((size_t)p->h->worker_count() * sizeof(*p->fds));
	while (p->fds && p->n_fds < p->h->worker_count()) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			return 0;
		}
		p->fds[p->n_fds++] = fd;
	}
	return p->fds != NULL;
}

struct pool *pool_create(const struct chatd_host *h, const struct pool_conf *conf)
{
	struct pool *p = h->mem_alloc(sizeof(*p));
	if (!p) {
		return NULL;
	}
	p->h = h;
	p->conf = *conf;
	p->tail = &p->head;
	pthread_mutex_init(&p->lock, NULL);
	int ok = conf->threads == 0 || open_fds(p);
	while (ok && p->n_slots < conf->threads && p->n_slots < SLOTS_MAX) {
		p->slots[p->n_slots].pool = p;
		ok = start(&p->slots[p->n_slots]) == 0;
		p->n_slots += ok;
	}
	if (!ok) {
		pool_destroy(p);
		return NULL;
	}
	return p;
}

void pool_destroy(struct pool *p)
{
	if (!p) {
		return;
	}
	for (int i = 0; i < p->n_slots; i++) {
		p->slots[i].job = NULL;
		sem_post(&p->slots[i].work);
		pthread_join(p->slots[i].thread, NULL);
		sem_destroy(&p->slots[i].work);
	}
	for (int i = 0; i < p->n_fds; i++) {
		close(p->fds[i]);
	}
	p->h->mem_free(p->fds);
	pthread_mutex_destroy(&p->lock);
	p->h->mem_free(p);
}

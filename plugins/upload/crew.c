/* SPDX-License-Identifier: Apache-2.0 */
#include "crew.h"

#include <chatd-sdk/thread.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct seat;

struct job {
	STAILQ_ENTRY(job) link;
	struct seat *seat;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};
STAILQ_HEAD(jobs, job);

/* Of one worker. */
struct seat {
	struct crew *crew;
	chatd_worker *w;
	chatd_watch *watch;
	int fd;
	int64_t n; /* [worker] asked for, and not done */
	struct jobs done;
};

struct crew {
	const struct chatd_host *h;
	pthread_mutex_t lock; /* of all lists */
	pthread_cond_t wake;
	struct jobs waiting;
	size_t n_waiting, most;
	int stopping, n_threads, n_seats;
	struct seat *seats;
	pthread_t threads[];
};

/* ---- [crew] ------------------------------------------------------------------------------ */

static struct job *next_job(struct crew *c)
{
	pthread_mutex_lock(&c->lock);
	while (STAILQ_EMPTY(&c->waiting) && !c->stopping) {
		pthread_cond_wait(&c->wake, &c->lock);
	}
	struct job *job = STAILQ_FIRST(&c->waiting);
	if (job) {
		STAILQ_REMOVE_HEAD(&c->waiting, link);
		c->n_waiting--;
	}
	pthread_mutex_unlock(&c->lock);
	return job;
}

static void *run(void *arg)
{
	struct crew *c = arg;
	struct job *job;
	while ((job = next_job(c))) {
		struct seat *seat = job->seat;
		job->work(job->arg);
		pthread_mutex_lock(&c->lock);
		STAILQ_INSERT_TAIL(&seat->done, job, link);
		pthread_mutex_unlock(&c->lock);
		const uint64_t one = 1;
		(void)!write(seat->fd, &one, sizeof(one));
	}
	return NULL;
}

/* ---- [worker] ---------------------------------------------------------------------------- */

static void collect(struct seat *seat)
{
	struct jobs done = STAILQ_HEAD_INITIALIZER(done);
	struct job *job;
	pthread_mutex_lock(&seat->crew->lock);
	STAILQ_CONCAT(&done, &seat->done);
	pthread_mutex_unlock(&seat->crew->lock);
	while ((job = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, link);
		seat->n--;
		job->done(job->arg);
		free(job);
	}
}

static void on_done(void *arg, uint32_t ready)
{
	struct seat *seat = arg;
	uint64_t n;
	(void)ready;
	(void)!read(seat->fd, &n, sizeof(n));
	collect(seat);
}

chatd_status crew_do(struct crew *c, chatd_worker *w, void (*work)(void *arg),
		void (*done)(void *arg), void *arg)
{
	if (c->n_threads == 0) {
		return c->h->offload(w, work, done, arg);
	}
	struct seat *seat = &c->seats[c->h->worker_index(w)];
	if (!seat->watch) {
		return -ESHUTDOWN;
	}
	struct job *job = calloc(1, sizeof(*job));
	chatd_status rc = 0;
	if (!job) {
		return -ENOMEM;
	}
	*job = (struct job){ .seat = seat, .work = work, .done = done, .arg = arg };
	pthread_mutex_lock(&c->lock);
	if (c->n_waiting >= c->most) {
		rc = -EBUSY;
	} else {
		STAILQ_INSERT_TAIL(&c->waiting, job, link);
		c->n_waiting++;
		seat->n++;
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	if (rc < 0) {
		free(job);
	}
	return rc;
}

/* ---- life -------------------------------------------------------------------------------- */

chatd_status crew_sit(struct crew *c, chatd_worker *w)
{
	if (c->n_threads == 0) {
		return 0;
	}
	struct seat *seat = &c->seats[c->h->worker_index(w)];
	seat->w = w;
	seat->watch = c->h->watch_fd(w, seat->fd, 1, on_done, seat);
	return seat->watch ? 0 : -ENOMEM;
}

void crew_rise(struct crew *c, chatd_worker *w)
{
	if (c->n_threads == 0) {
		return;
	}
	struct seat *seat = &c->seats[c->h->worker_index(w)];
	while (seat->n > 0) {
		struct pollfd wait = { .fd = seat->fd, .events = POLLIN };
		(void)poll(&wait, 1, -1);
		on_done(seat, 1);
	}
	c->h->unwatch(seat->watch);
	seat->watch = NULL;
}

static chatd_status start(struct crew *c, const char *name)
{
	chatd_status rc = chatd_thread(&c->threads[c->n_threads], name, run, c);
	c->n_threads += rc == 0;
	return rc;
}

static chatd_status open_seats(struct crew *c)
{
	int n = c->h->worker_count();
	c->seats = calloc((size_t)n, sizeof(*c->seats));
	while (c->seats && c->n_seats < n) {
		struct seat *seat = &c->seats[c->n_seats];
		seat->crew = c;
		seat->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		STAILQ_INIT(&seat->done);
		if (seat->fd < 0) {
			return -errno;
		}
		c->n_seats++;
	}
	return c->seats ? 0 : -ENOMEM;
}

struct crew *crew_create(const struct chatd_host *h, const char *name, int threads, size_t queue)
{
	struct crew *c = calloc(1, sizeof(*c) + (size_t)threads * sizeof(c->threads[0]));
	if (!c) {
		return NULL;
	}
	c->h = h;
	c->most = queue;
	STAILQ_INIT(&c->waiting);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	chatd_status rc = threads ? open_seats(c) : 0;
	while (rc == 0 && c->n_threads < threads) {
		rc = start(c, name);
	}
	if (rc < 0) {
		crew_destroy(c);
		errno = -rc;
		return NULL;
	}
	return c;
}

void crew_destroy(struct crew *c)
{
	if (!c) {
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->stopping = 1;
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	for (int i = 0; i < c->n_threads; i++) {
		pthread_join(c->threads[i], NULL);
	}
	for (int i = 0; i < c->n_seats; i++) {
		close(c->seats[i].fd);
	}
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c->seats);
	free(c);
}

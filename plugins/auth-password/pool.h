/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pool.h
 * @brief Threads that hash passwords, and a short queue in front of them.
 *
 * The threads run at SCHED_IDLE: they take what the workers leave.  A thread like that may be
 * put aside at any moment for as long as the machine is busy, so it must never hold a lock that
 * a worker could want, not even for a moment.  Hence it takes none: a worker gives it one job
 * by a semaphore, it gives it back by a flag in the job and an eventfd of the job's worker,
 * and it neither allocates nor posts.  The queue belongs to the workers alone.
 */
#ifndef AUTH_POOL_H
#define AUTH_POOL_H

#include "check.h"
#include "hash.h"

#include <chatd/plugin.h>

#include <stdatomic.h>

struct pool;

enum { JOB_MAKE, JOB_VERIFY };

/** Lives in its owner's struct until done() was called.  Only @p kind, @p pass, @p have and
 *  @p dummy are the owner's to set. */
struct hash_job {
	int32_t kind;
	int dummy;            /* VERIFY: whatever comes of it, it is wrong */
	char have[HASH_ROOM]; /* VERIFY */
	char made[HASH_ROOM]; /* MAKE; VERIFY: a new hash, if it was right and outdated; or "" */
	char pass[PASSWORD_BYTES + 1];
	size_t n;
	int right;
	void (*done)(void *arg, chatd_status rc); /* rc -EBUSY: it had to wait for too long */
	void *arg;

	struct pool *pool;
	struct pool_seat *seat;
	struct hash_job *seat_next; /* all of a worker's */
	struct hash_job *next;      /* queued */
	struct chatd_timer timer;
	atomic_int state;
	int slot;
	chatd_status rc;
};

/** What a worker has of its own. */
struct pool_seat {
	struct pool *pool;
	chatd_worker *w;
	chatd_watch *watch;
	int fd;
	struct hash_job *jobs;
};

struct pool_conf {
	const struct hash_params *params;
	int64_t threads; /* 0: the server's own pool, at its priority */
	int64_t queue, wait_ms;
};

/** [main] NULL: no memory or no thread. */
struct pool *pool_create(const struct chatd_host *, const struct pool_conf *);
void pool_destroy(struct pool *); /**< [main] after the workers; NULL is fine */
chatd_status pool_sit(struct pool *, chatd_worker *, struct pool_seat *); /**< [worker] */
/** [worker] Waits for what is under way; what is queued is done with -ESHUTDOWN. */
void pool_rise(struct pool_seat *);
/** [worker] done() runs once, later, on this worker, and the password is wiped before it.
 *  -EAGAIN: the queue is full; the password is wiped. */
chatd_status pool_submit(struct pool_seat *, struct hash_job *);

#endif

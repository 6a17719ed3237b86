/* SPDX-License-Identifier: Apache-2.0 */
/* The writer: takes what is queued, carries it out in one transaction, commits once.
 *
 * A group is what came while the one before was being synced.  When groups are small
 * only because their senders wait for the answers of the last one, it pays to wait a
 * moment: so the writer waits until as many are there as last time, at most
 * commit_window, and carries out meanwhile what is there.  Alone, a call waits for nobody. */
#include "store.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { SWEEP_MS = 60000, SWEEP_AGAIN_MS = 20, IDLE_MS = 250 };

static struct timespec at_ns(int64_t ns)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	ns += t.tv_nsec;
	t.tv_sec += ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

/* Waits for work, a moment; with the lock. */
static void await(struct engine *e)
{
	struct queue *q = &e->writes;
	if (q->n == 0 && !e->stopping && !back_busy(e)) {
		struct timespec end = at_ns(IDLE_MS * INT64_C(1000000));
		pthread_cond_timedwait(&q->more, &q->lock, &end);
	}
}

/* With the lock.  A backup is no part of a transaction that has begun. */
static void take(struct engine *e, struct ops *group)
{
	struct queue *q = &e->writes;
	struct op *op;
	while (e->group_n < e->conf.commit_rows && (op = STAILQ_FIRST(&q->ops))) {
		if (op->call == CALL_backup && e->group_n > 0) {
			break;
		}
		STAILQ_REMOVE_HEAD(&q->ops, link);
		STAILQ_INSERT_TAIL(group, op, link);
		op->running = 1;
		q->bytes -= op->size;
		q->n--;
		e->group_n++;
	}
}

/* With the lock. */
static void take_first(struct engine *e, struct ops *group)
{
	int64_t last = e->group_n;
	e->group_n = 0;
	e->group_want = last < e->conf.commit_rows ? last : e->conf.commit_rows;
	e->group_end = at_ns(e->conf.commit_window * 1000000);
	take(e, group);
}

/* With the lock.  Wakes for half of what is missing: what is there is carried out meanwhile. */
static void await_more(struct engine *e, int64_t missing)
{
	struct queue *q = &e->writes;
	q->wanted = (missing + 1) / 2;
	while (q->n < q->wanted && !e->stopping) {
		if (pthread_cond_timedwait(&q->more, &q->lock, &e->group_end) != 0) {
			e->group_want = 0;
			break;
		}
	}
	q->wanted = 1;
}

struct op *writer_more(struct engine *e, struct ops *group)
{
	int64_t had = e->group_n, missing = e->group_want - had;
	if (missing <= 0 || e->conf.commit_window <= 0) {
		return NULL;
	}
	pthread_mutex_lock(&e->writes.lock);
	await_more(e, missing);
	struct op *first = STAILQ_FIRST(&e->writes.ops);
	take(e, group);
	pthread_mutex_unlock(&e->writes.lock);
	return e->group_n > had ? first : NULL;
}

/* ---- one group --------------------------------------------------------------- */

int all_answered(struct engine *e, struct ops *group)
{
	struct op *op;
	int all = 1;
	pthread_mutex_lock(&e->writes.lock);
	STAILQ_FOREACH (op, group, link) {
		all &= op->answered;
	}
	all |= e->stopping && clock_ms() - STAILQ_FIRST(group)->born > e->conf.commit_timeout;
	pthread_mutex_unlock(&e->writes.lock);
	return all;
}

int is_answered(struct engine *e, const struct op *op)
{
	pthread_mutex_lock(&e->writes.lock);
	int answered = op->answered;
	pthread_mutex_unlock(&e->writes.lock);
	return answered;
}

void op_again(struct op *op)
{
	op->rc = 0;
	op->keep = 0;
	op->index_pos = 0;
	op->a = (struct chatd_store_answer){ .struct_size = sizeof(op->a) };
}

void fail_group(struct ops *group, chatd_status rc)
{
	struct op *op = NULL;
	STAILQ_FOREACH (op, group, link) {
		op_again(op);
		op->rc = rc;
	}
}

/* They keep their places, before what came meanwhile; who was answered already is done with. */
static void put_back(struct engine *e, struct ops *group)
{
	struct queue *q = &e->writes;
	struct ops late = STAILQ_HEAD_INITIALIZER(late), again = STAILQ_HEAD_INITIALIZER(again);
	struct op *op;
	pthread_mutex_lock(&q->lock);
	while ((op = STAILQ_FIRST(group))) {
		STAILQ_REMOVE_HEAD(group, link);
		if (op->answered) {
			STAILQ_INSERT_TAIL(&late, op, link);
			continue;
		}
		op_again(op);
		op->running = 0;
		q->bytes += op->size;
		q->n++;
		STAILQ_INSERT_TAIL(&again, op, link);
	}
	STAILQ_CONCAT(&again, &q->ops);
	STAILQ_CONCAT(&q->ops, &again);
	pthread_mutex_unlock(&q->lock);
	while ((op = STAILQ_FIRST(&late))) {
		STAILQ_REMOVE_HEAD(&late, link);
		op_destroy(op);
	}
}

static void finish_group(struct engine *e, struct ops *group)
{
	struct ops done = STAILQ_HEAD_INITIALIZER(done), late = STAILQ_HEAD_INITIALIZER(late);
	struct op *op;
	pthread_mutex_lock(&e->writes.lock);
	while ((op = STAILQ_FIRST(group))) {
		STAILQ_REMOVE_HEAD(group, link);
		if (op->answered) {
			STAILQ_INSERT_TAIL(&late, op, link);
		} else {
			TAILQ_REMOVE(&e->waiting, op, wait);
			STAILQ_INSERT_TAIL(&done, op, link);
		}
	}
	pthread_mutex_unlock(&e->writes.lock);
	while ((op = STAILQ_FIRST(&late))) {
		STAILQ_REMOVE_HEAD(&late, link);
		op_destroy(op);
	}
	ops_answer(e, &done);
}

/* ---- the thread ----------------------------------------------------------------- */

static void sweep_when_due(struct engine *e)
{
	int64_t now = clock_ms();
	int crowded = e->trim_at && e->db.next_pos > e->trim_at;
	if (now < e->next_sweep && !crowded) {
		return;
	}
	int64_t n = back_between(e, sweep);
	e->next_sweep = now + (n > 0 ? SWEEP_AGAIN_MS : SWEEP_MS);
}

static void run_group(struct engine *e, struct ops *group)
{
	int idle = STAILQ_EMPTY(group);
	if (!idle && commit_group(e, group)) {
		finish_group(e, group);
	} else if (!idle) {
		put_back(e, group);
	}
	back_work(e, idle);
	if (back_ready(e)) {
		sweep_when_due(e);
		reseal_when_due(e);
	}
}

/* With the lock.  1: it is time to end. */
static int at_end(struct engine *e, int ready)
{
	struct op *op = STAILQ_FIRST(&e->writes.ops);
	return e->stopping && (!op || (!ready && clock_ms() - op->born > e->conf.commit_timeout));
}

static void refuse_rest(struct engine *e)
{
	struct ops rest = STAILQ_HEAD_INITIALIZER(rest);
	STAILQ_CONCAT(&rest, &e->writes.ops);
	e->writes.n = 0;
	e->writes.bytes = 0;
	pthread_mutex_unlock(&e->writes.lock);
	fail_group(&rest, -EBUSY);
	finish_group(e, &rest);
}

void *writer_main(void *arg)
{
	struct engine *e = arg;
	pthread_mutex_lock(&e->writes.lock);
	for (;;) {
		struct ops group = STAILQ_HEAD_INITIALIZER(group);
		await(e);
		pthread_mutex_unlock(&e->writes.lock);
		int ready = back_ready(e);
		pthread_mutex_lock(&e->writes.lock);
		if (at_end(e, ready)) {
			break;
		}
		if (ready && e->writes.n > 0) {
			take_first(e, &group);
		}
		pthread_mutex_unlock(&e->writes.lock);
		run_group(e, &group);
		pthread_mutex_lock(&e->writes.lock);
	}
	refuse_rest(e);
	back_end(e);
	return NULL;
}

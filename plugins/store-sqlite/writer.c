/* SPDX-License-Identifier: Apache-2.0 */
/* The writer: takes what is queued, carries it out in one transaction, commits once.
 *
 * A group is what came while the one before was being synced.  When groups are small
 * only because their senders wait for the answers of the last one, it pays to wait a
 * moment: so the writer waits until as many are there as last time, at most
 * commit_window.  Alone, a call waits for nobody. */
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

/* Waits for work; with the lock.  0: none yet, look after the house. */
static int64_t await(struct engine *e, int64_t last)
{
	struct queue *q = &e->writes;
	if (q->n == 0 && !e->stopping && !e->backup) {
		struct timespec end = at_ns(IDLE_MS * INT64_C(1000000));
		pthread_cond_timedwait(&q->more, &q->lock, &end);
	}
	int64_t want = last < e->conf.commit_rows ? last : e->conf.commit_rows;
	if (q->n > 0 && q->n < want && e->conf.commit_window > 0) {
		struct timespec end = at_ns(e->conf.commit_window * 1000000);
		q->wanted = want;
		while (q->n < want && !e->stopping &&
				pthread_cond_timedwait(&q->more, &q->lock, &end) == 0) {
		}
		q->wanted = 1;
	}
	return q->n;
}

static int64_t take(struct engine *e, struct ops *group)
{
	struct queue *q = &e->writes;
	struct op *op;
	int64_t n = 0;
	while (n < e->conf.commit_rows && (op = STAILQ_FIRST(&q->ops))) {
		STAILQ_REMOVE_HEAD(&q->ops, link);
		STAILQ_INSERT_TAIL(group, op, link);
		op->running = 1;
		q->bytes -= op->size;
		q->n--;
		n++;
	}
	return n;
}

/* ---- one group --------------------------------------------------------------- */

/* Has the watch answered all of them? */
static int all_answered(struct engine *e, struct ops *group)
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

static chatd_status begin(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	do {
		db_clear(db);
		db_exec(db, "BEGIN IMMEDIATE", "");
	} while (db->err == -EBUSY && !all_answered(e, group));
	return db->err;
}

static int is_answered(struct engine *e, const struct op *op)
{
	pthread_mutex_lock(&e->writes.lock);
	int answered = op->answered;
	pthread_mutex_unlock(&e->writes.lock);
	return answered;
}

static void run_bare(struct db *db, struct op *op)
{
	if (db->err == 0) {
		op_run(db, op);
	}
	if (db->err == -EEXIST || db->err == -EINVAL) {
		op->rc = op->rc < 0 ? op->rc : db->err;
		db_clear(db);
	}
}

/* A call that fails leaves nothing behind (unless it says so) and the others of its group alone. */
static void run_saved(struct db *db, struct op *op)
{
	db_exec(db, "SAVEPOINT one", "");
	run_bare(db, op);
	if (op->rc < 0 && (db->err || !op->keep)) {
		op->index_pos = 0;
		db_exec(db, "ROLLBACK TO one", "");
	}
	db_exec(db, "RELEASE one", "");
}

/* Appends check everything before they write, so that they need no savepoint each; 0: one
 * failed nevertheless after it had written, and the group must be run again with savepoints. */
static int run_group(struct engine *e, struct ops *group, int saved)
{
	struct db *db = &e->db;
	struct op *op;
	STAILQ_FOREACH (op, group, link) {
		/* Who was told "busy" will send again: better not to have it twice. */
		if (is_answered(e, op)) {
			continue;
		}
		if (saved || op->call != CALL_append) {
			run_saved(db, op);
			continue;
		}
		int64_t changes = sqlite3_total_changes64(db->h);
		run_bare(db, op);
		if (db->err == 0 && op->rc < 0 && sqlite3_total_changes64(db->h) != changes) {
			return 0;
		}
	}
	return 1;
}

static void run_again(struct engine *e, struct ops *group, int64_t next_pos)
{
	struct op *op;
	STAILQ_FOREACH (op, group, link) {
		op->rc = 0;
		op->keep = 0;
		op->index_pos = 0;
		op->a = (struct chatd_store_answer){ .struct_size = sizeof(op->a) };
	}
	e->db.next_pos = next_pos;
	db_exec(&e->db, "ROLLBACK", "");
	if (e->db.err == 0 && begin(e, group) == 0) {
		run_group(e, group, 1);
	}
}

/* The index writes a segment at each savepoint, so it comes after all of them. */
static void index_group(struct db *db, struct ops *group)
{
	struct op *op;
	STAILQ_FOREACH (op, group, link) {
		if (op->index_pos) {
			words_change(db, op->index_pos, op->index_old, op->index_new);
		}
	}
}

static void fail_group(struct ops *group, chatd_status rc)
{
	struct op *op;
	STAILQ_FOREACH (op, group, link) {
		op->rc = rc;
		op->a = (struct chatd_store_answer){ .struct_size = sizeof(op->a) };
	}
}

static void commit_group(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	chatd_status rc;
	if (!health_may_write(e, &rc)) {
		fail_group(group, rc);
		return;
	}
	if (begin(e, group) == 0) {
		int64_t next_pos = db->next_pos;
		if (!run_group(e, group, 0)) {
			run_again(e, group, next_pos);
		}
		index_group(db, group);
		db_exec(db, "COMMIT", "");
	}
	if (db->err) {
		fail_group(group, db->err);
		if (!sqlite3_get_autocommit(db->h)) {
			sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
		}
		health_note(e, db);
	} else {
		atomic_store(&e->stalled, 0);
	}
}

/* Backups answer later, by themselves. */
static void part_backups(struct engine *e, struct ops *group)
{
	struct ops all = STAILQ_HEAD_INITIALIZER(all);
	struct op *op;
	STAILQ_CONCAT(&all, group);
	while ((op = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		if (op->call != CALL_backup) {
			STAILQ_INSERT_TAIL(group, op, link);
			continue;
		}
		pthread_mutex_lock(&e->writes.lock);
		int answered = op->answered;
		if (!answered) {
			TAILQ_REMOVE(&e->waiting, op, wait);
		}
		pthread_mutex_unlock(&e->writes.lock);
		if (answered) {
			op_destroy(op);
		} else {
			backup_start(e, op);
		}
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
	struct db *db = &e->db;
	int64_t now = clock_ms();
	chatd_status rc;
	int crowded = e->trim_at && db->next_pos > e->trim_at;
	if ((now < e->next_sweep && !crowded) || !health_may_write(e, &rc)) {
		return;
	}
	db_clear(db);
	db_exec(db, "BEGIN IMMEDIATE", "");
	int64_t n = sweep(db, e->h->wall_ms());
	db_exec(db, "COMMIT", "");
	e->next_sweep = now + (n ? SWEEP_AGAIN_MS : SWEEP_MS);
	if (db->err) {
		e->next_sweep = now + SWEEP_MS;
		if (!sqlite3_get_autocommit(db->h)) {
			sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
		}
		if (db->err != -EBUSY) {
			health_note(e, db);
		}
	}
}

void *writer_main(void *arg)
{
	struct engine *e = arg;
	int64_t last = 1;
	pthread_mutex_lock(&e->writes.lock);
	for (;;) {
		struct ops group = STAILQ_HEAD_INITIALIZER(group);
		if (await(e, last) > 0) {
			last = take(e, &group);
		} else if (e->stopping) {
			break;
		}
		pthread_mutex_unlock(&e->writes.lock);
		part_backups(e, &group);
		int idle = STAILQ_EMPTY(&group);
		if (!idle) {
			commit_group(e, &group);
			finish_group(e, &group);
		}
		health_try(e);
		health_checkpoint(e);
		/* A group may bring more rows than are indexed at one go: what waits stays bounded. */
		for (int more = words_due(&e->db, idle); more; more = words_due(&e->db, 0)) {
			if (words_index(e) < 0) {
				break;
			}
		}
		backup_step(e);
		sweep_when_due(e);
		pthread_mutex_lock(&e->writes.lock);
	}
	pthread_mutex_unlock(&e->writes.lock);
	backup_cancel(e, -ESHUTDOWN);
	if (e->conf.path && atomic_load(&e->state) == CHATD_STORE_OK) {
		db_clear(&e->db);
		db_exec(&e->db, "PRAGMA optimize", "");
	}
	return NULL;
}

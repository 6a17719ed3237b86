/* SPDX-License-Identifier: Apache-2.0 */
/* One group, one transaction: on SQLite. */
#include "store.h"

#include <errno.h>

const char back_stalled[] =
		"a commit takes longer than commit_timeout: senders are told STORE_BUSY; "
		"is the disk slow, or another program holding the file?";

void db_rollback(struct db *db)
{
	if (!sqlite3_get_autocommit(db->h)) {
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
	}
}

void db_recover(struct db *db)
{
	db_clear(db);
}

/* ---- a group -------------------------------------------------------------------- */

static chatd_status begin(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	do {
		db_clear(db);
		db_exec(db, "BEGIN IMMEDIATE", "");
	} while (db->err == -EBUSY && !all_answered(e, group));
	return db->err;
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

/* From @p op on.  Appends check everything before they write, so that they need no savepoint each;
 * 0: one failed nevertheless after it had written, and the group must be run again with savepoints. */
static int run_from(struct engine *e, struct op *op, int saved)
{
	struct db *db = &e->db;
	for (; op; op = STAILQ_NEXT(op, link)) {
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
	struct op *op = NULL;
	STAILQ_FOREACH (op, group, link) {
		op_again(op);
	}
	e->db.next_pos = next_pos;
	db_exec(&e->db, "ROLLBACK", "");
	if (e->db.err == 0 && begin(e, group) == 0) {
		run_from(e, STAILQ_FIRST(group), 1);
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

static void commit(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	chatd_status rc;
	if (!health_may_write(e, &rc)) {
		fail_group(group, rc);
		return;
	}
	if (begin(e, group) == 0) {
		int64_t next_pos = db->next_pos;
		struct op *op = STAILQ_FIRST(group);
		int whole = 1;
		while (whole && op) {
			whole = run_from(e, op, 0);
			op = db->err == 0 && whole ? writer_more(e, group) : NULL;
		}
		if (!whole) {
			run_again(e, group, next_pos);
		}
		index_group(db, group);
		db_exec(db, "COMMIT", "");
	}
	if (db->err) {
		fail_group(group, db->err);
		db_rollback(db);
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

int commit_group(struct engine *e, struct ops *group)
{
	part_backups(e, group);
	if (!STAILQ_EMPTY(group)) {
		commit(e, group);
	}
	return 1;
}

/* ---- beside groups ----------------------------------------------------------------- */

int64_t back_between(struct engine *e, back_work_fn *work)
{
	struct db *db = &e->db;
	chatd_status rc;
	if (!health_may_write(e, &rc)) {
		return rc;
	}
	db_clear(db);
	db_exec(db, "BEGIN IMMEDIATE", "");
	int64_t n = work(db, e->h->wall_ms());
	db_exec(db, "COMMIT", "");
	if (db->err) {
		n = db->err;
		db_rollback(db);
		if (db->err != -EBUSY) {
			health_note(e, db);
		}
	}
	return n;
}

static int64_t merge_some(struct db *db, int64_t wall)
{
	(void)wall;
	return words_merge(db, !db->e->back.forgetting);
}

int back_forget(struct engine *e)
{
	int pages = 0, done = 0;
	int64_t more = back_between(e, merge_some);
	if (more != 0) {
		e->back.forgetting = more > 0;
		return 0;
	}
	e->back.forgetting = 0;
	if (!e->conf.back.path) {
		return 1;
	}
	return sqlite3_wal_checkpoint_v2(e->db.h, NULL, SQLITE_CHECKPOINT_TRUNCATE, &pages, &done) ==
			SQLITE_OK;
}

int back_ready(struct engine *e)
{
	(void)e;
	return 1;
}

int back_busy(const struct engine *e)
{
	return e->back.backup != NULL;
}

void back_work(struct engine *e, int idle)
{
	health_try(e);
	health_checkpoint(e);
	/* A group may bring more rows than are indexed at one go: what waits stays bounded. */
	for (int more = words_due(&e->db, idle); more; more = words_due(&e->db, 0)) {
		if (words_index(e) < 0) {
			break;
		}
	}
	backup_step(e);
}

void back_end(struct engine *e)
{
	backup_cancel(e, -ESHUTDOWN);
	if (e->conf.back.path && atomic_load(&e->state) == CHATD_STORE_OK) {
		db_clear(&e->db);
		db_exec(&e->db, "PRAGMA optimize", "");
	}
}

/* It ends in time: the WAL cannot be emptied behind it.  A connection that met an I/O error is
 * not asked again. */
void read_one(struct db *db, struct op *op)
{
	struct engine *e = op->e;
	if (!db->h && db_open(db, e, 0) < 0) {
		op->rc = db->err;
		db_close(db);
		return;
	}
	db_clear(db);
	db->deadline = clock_ms() + e->conf.read_timeout;
	db_exec(db, "BEGIN", "");
	if (db->err == 0) {
		op_run(db, op);
	}
	if (db->err) {
		op->rc = db->err;
	}
	db->deadline = 0;
	db_rollback(db);
	if (db->err == -EIO) {
		e->h->log(e->ctx, CHATD_LOG_ERROR, "reading failed: %s", db->why);
		db_close(db);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One group, one transaction: on PostgreSQL.
 *
 * Every transaction that writes takes one lock first, of all nodes, so that rows get their
 * places in the order of the commits, and what the engine looks at stays as it is until it has
 * written.  Appends that follow each other go in one statement, sent along with the beginning;
 * then the commit.  Should the connection be lost while it commits, another one looks for the mark
 * that the transaction would have left. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char back_stalled[] =
		"a commit takes longer than commit_timeout: senders are told STORE_BUSY; "
		"is the database overloaded, frozen or out of reach?";

static void pause_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

/* ---- a transaction ------------------------------------------------------------------ */

/* Whoever waits longer than this has been told "busy" long ago. */
static void set_deadline(struct db *db)
{
	db->deadline = clock_ms() + db->e->conf.commit_timeout + 1000;
}

/* Of no other transaction, of whatever process. */
static void new_mark(struct db *db)
{
	const struct chatd_host *h = db->e->h;
	while (!db->mark_begin) {
		h->random(&db->mark_begin, sizeof(db->mark_begin));
		snprintf(db->mark_key, sizeof(db->mark_key), "commit of %s", h->server_id());
	}
	snprintf(db->mark, sizeof(db->mark), "%016llx-%llu", (unsigned long long)db->mark_begin,
			(unsigned long long)++db->mark_n);
}

/* Sent along with what follows. */
static void begin(struct db *db)
{
	db_clear(db);
	set_deadline(db);
	db_push(db, "BEGIN", "");
	db_push(db, "SELECT pg_advisory_xact_lock(?1)", "i", schema_lock(db));
	new_mark(db);
	db_push(db,
			"INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
			"ss", str_z(db->mark_key), str_z(db->mark));
}

/* After a failure that left the connection as it is. */
static void roll_back(struct db *db)
{
	db_clear(db);
	db->saved = 0;
	if (db->c) {
		db_exec(db, "ROLLBACK", "");
	}
}

/* It cannot be written now, but later: another holds the lock, or the server is read-only. */
static int is_passing(const struct db *db)
{
	return !db->c || db->err == -EBUSY || strcmp(db->code, "25006") == 0 ||
			strncmp(db->code, "57P", 3) == 0 || strncmp(db->code, "08", 2) == 0;
}

static void note_read_only(struct db *db)
{
	if (strcmp(db->code, "25006") == 0) {
		char why[sizeof(db->why)];
		snprintf(why, sizeof(why), "%s", db->why);
		db_hang_up(db);
		db_clear(db);
		db_note(db, -EIO, "25006", why);
	}
}

/* ---- calls ----------------------------------------------------------------------------- */

/* A call that fails leaves nothing behind (unless it says so) and the others of its group alone. */
static void run_saved(struct db *db, struct op *op)
{
	db_push(db, "SAVEPOINT one", "");
	db->saved = 1;
	if (db->err == 0) {
		op_run(db, op);
	}
	if (db->err == 0 && db->n_pending) {
		db_wait(db);
	}
	chatd_status failed = db->err;
	if (failed == -EEXIST || failed == -EINVAL || failed == -ETIMEDOUT) {
		op->rc = op->rc < 0 ? op->rc : failed;
		db_clear(db);
	}
	if (op->rc < 0 && (failed || !op->keep)) {
		op->index_pos = 0;
		db_push(db, "ROLLBACK TO SAVEPOINT one", "");
	}
	db->saved = 0;
	db_push(db, "RELEASE SAVEPOINT one", "");
}

/* Appends from @p op on, as many as follow each other; returns the one behind. */
static struct op *run_appends(struct engine *e, struct op *op)
{
	struct db *db = &e->db;
	for (; op && append_is_plain(op) && db->err == 0; op = STAILQ_NEXT(op, link)) {
		if (!is_answered(e, op)) {
			append_add(db, op);
		}
	}
	append_run(db);
	return op;
}

/* Appends check everything before they write, so that they need no savepoint each; should one
 * fail nevertheless, the group is run again with savepoints. */
static void run_group(struct engine *e, struct ops *group, int saved)
{
	struct db *db = &e->db;
	struct op *op = STAILQ_FIRST(group);
	while (op && db->err == 0) {
		if (!saved && append_is_plain(op)) {
			op = run_appends(e, op);
			continue;
		}
		/* Who was told "busy" will send again: better not to have it twice. */
		if (!is_answered(e, op)) {
			run_saved(db, op);
		}
		op = STAILQ_NEXT(op, link);
	}
	STAILQ_FOREACH (op, group, link) {
		if (op->index_pos && db->err == 0) {
			words_change(db, op->index_pos, op->index_old, op->index_new);
		}
	}
	if (db->err == 0 && db->n_pending) {
		db_wait(db);
	}
}

static void run_again(struct engine *e, struct ops *group)
{
	struct op *op = NULL;
	STAILQ_FOREACH (op, group, link) {
		op_again(op);
	}
	roll_back(&e->db);
	begin(&e->db);
	run_group(e, group, 1);
}

/* ---- in doubt ------------------------------------------------------------------------------ */

enum fate { FATE_UNKNOWN, FATE_COMMITTED, FATE_ABORTED, FATE_RUNNING };

/* Whoever has the lock knows that the transaction, should it have lived on, has ended. */
static enum fate ask_fate(struct db *db, const char *timeline)
{
	enum fate fate = FATE_RUNNING;
	/* Another server may lack what had happened there. */
	if (strcmp(db->timeline, timeline) != 0) {
		return FATE_UNKNOWN;
	}
	db_clear(db);
	set_deadline(db);
	db_push(db, "BEGIN", "");
	db_push(db, "SELECT pg_advisory_xact_lock(?1)", "i", schema_lock(db));
	db_rows *s = db_query(db, "SELECT value FROM meta WHERE key=?1", "s", str_z(db->mark_key));
	int there = db_step(db, s) && str_same(db_peek(s, 0), str_z(db->mark));
	if (db->err == 0) {
		fate = there ? FATE_COMMITTED : FATE_ABORTED;
	}
	db_done(s);
	roll_back(db);
	return fate;
}

static enum fate find_fate(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	char timeline[sizeof(db->timeline)];
	enum fate fate = FATE_RUNNING;
	memcpy(timeline, db->timeline, sizeof(timeline));
	atomic_store(&e->stalled, 1);
	while (fate == FATE_RUNNING && !all_answered(e, group)) {
		if (db_connect(db) == 0) {
			fate = ask_fate(db, timeline);
		}
		if (fate == FATE_RUNNING) {
			pause_ms(20);
		}
	}
	return fate;
}

/* The connection was lost when it was to be committed; 0: it was not. */
static int resolve(struct engine *e, struct ops *group)
{
	struct op *op;
	e->h->log(e->ctx, CHATD_LOG_WARN, "lost while a commit was under way (%s): finding out",
			e->db.why);
	enum fate fate = find_fate(e, group);
	if (fate == FATE_COMMITTED) {
		e->h->log(e->ctx, CHATD_LOG_INFO, "that commit has happened");
		return 1;
	}
	if (fate == FATE_ABORTED) {
		e->h->log(e->ctx, CHATD_LOG_INFO, "that commit has not happened: it is done again");
		return 0;
	}
	fail_group(group, -EBUSY);
	STAILQ_FOREACH (op, group, link) {
		op->a.in_doubt = 1;
	}
	return 1;
}

/* ---- a group -------------------------------------------------------------------------------- */

/* 0: nothing was written, and it may be tried again. */
static int run(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	begin(db);
	run_group(e, group, 0);
	if (db->err && !is_passing(db)) {
		run_again(e, group);
	}
	if (db->err && is_passing(db)) {
		note_read_only(db);
		roll_back(db);
		return 0;
	}
	return 1;
}

static void refuse_group(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	e->h->log(e->ctx, CHATD_LOG_ERROR, "writing failed (%s%s%s)", db->code, db->code[0] ? ": " : "",
			db->why);
	fail_group(group, db->err);
	roll_back(db);
}

int commit_group(struct engine *e, struct ops *group)
{
	struct db *db = &e->db;
	while (writer_more(e, group)) {
	}
	if (!run(e, group)) {
		return 0;
	}
	if (db->err == 0) {
		set_deadline(db);
		db_exec(db, "COMMIT", "");
		if (db->err && !db->c) {
			return resolve(e, group);
		}
	}
	if (db->err) {
		refuse_group(e, group);
	} else {
		atomic_store(&e->stalled, 0);
	}
	return 1;
}

int64_t back_between(struct engine *e, back_work_fn *work)
{
	struct db *db = &e->db;
	begin(db);
	int64_t n = work(db, e->h->wall_ms());
	db_exec(db, "COMMIT", "");
	if (db->err) {
		n = db->err;
		if (!is_passing(db)) {
			e->h->log(
					e->ctx, CHATD_LOG_ERROR, "background work failed (%s: %s)", db->code, db->why);
		}
		roll_back(db);
	}
	return n;
}

/* The server's log and its dead rows are its own: see README. */
int back_forget(struct engine *e)
{
	(void)e;
	return 1;
}

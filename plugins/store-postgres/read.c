/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: one call, one snapshot.  History may be read from a replica. */
#include "../store-sqlite/store.h"

#include <errno.h>

enum { LAG_MS = 1000, SLACK_MS = 500 };

/* Only what may be a moment behind: no replay, no top, no right that was just taken away. */
static int is_history(const struct op *op)
{
	return op->call == CALL_page || op->call == CALL_search || op->call == CALL_conversations;
}

static void run_on(struct db *db, struct op *op)
{
	op_again(op);
	db_clear(db);
	db->deadline = clock_ms() + db->e->conf.read_timeout + SLACK_MS;
	db->begin = 1;
	op_run(db, op);
	op->rc = db->err ? db->err : op->rc;
	if (db->err == -EIO && db->c) {
		op->e->h->log(op->e->ctx, CHATD_LOG_ERROR, "reading failed (%s: %s)", db->code, db->why);
	}
	if (!db->begin && db->c) {
		db_clear(db);
		db_push(db, "COMMIT", ""); /* it holds nothing; nobody waits for it */
		db_leave(db);
	}
}

/* A connection may have been lost since it was used last: a read can be done again. */
static void read_from(struct db *db, struct op *op)
{
	for (int tries = 0; tries < 2; tries++) {
		if (db_connect(db) < 0) {
			op->rc = -EIO;
			return;
		}
		run_on(db, op);
		if (db->c || op->rc == -ETIMEDOUT) {
			return;
		}
	}
}

/* How far it is behind; an idle primary makes nobody late. */
static int is_close(struct db *db)
{
	int64_t lag = 0;
	db_clear(db);
	db->deadline = clock_ms() + LAG_MS;
	db_rows *s = db_query(db,
			"SELECT CASE WHEN NOT pg_is_in_recovery() OR"
			" pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 ELSE"
			" CAST(coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 1e6) * 1000"
			" AS bigint) END",
			"");
	int there = db_step(db, s);
	lag = there ? db_i64(s, 0) : 0;
	db_done(s);
	return there && lag <= db->e->conf.back.replica_lag;
}

void read_one(struct db *db, struct op *op)
{
	struct db *replica = is_history(op) ? db->replica : NULL;
	if (replica && db_connect(replica) == 0 && is_close(replica)) {
		run_on(replica, op);
		if (replica->c && op->rc != -ETIMEDOUT && op->rc != -EIO) {
			return;
		}
	}
	read_from(db, op);
}

/* The operator's tools know how to do it while the database is in use. */
void do_backup(struct db *db, struct op *op)
{
	struct engine *e = db->e;
	e->h->log(e->ctx, CHATD_LOG_WARN,
			"a backup of this store is made with pg_dump; put into another database it has a new "
			"epoch");
	op->rc = -ENOTSUP;
}

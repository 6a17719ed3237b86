/* SPDX-License-Identifier: Apache-2.0 */
/* When the disk is full or fails: nothing more is promised until it works again. */
#include "store.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

enum { LOOK_MS = 200, RETRY_MS = 1000 };
enum { /* pages of 4 KiB; 16,384 are the 64 MiB that the log may have */
	WAL_SOON = 2000,
	WAL_NOW = 8000,
	WAL_LAST = 10000,
	PATIENCE_MS = 2000,
	PATIENCE_AGAIN_MS = 10000,
};

/* Free bytes above what must stay free: the smaller of min_free and a twentieth. */
static int64_t spare(const struct engine *e)
{
	struct statvfs v;
	if (!e->conf.back.path || e->conf.back.min_free == 0 || statvfs(e->conf.back.path, &v) < 0) {
		return 1;
	}
	int64_t twentieth = (int64_t)(v.f_blocks / 20 * v.f_frsize);
	int64_t keep = e->conf.back.min_free < twentieth ? e->conf.back.min_free : twentieth;
	return (int64_t)(v.f_bavail * v.f_frsize) - keep;
}

static void set_full(struct engine *e)
{
	if (atomic_exchange(&e->state, CHATD_STORE_FULL) != CHATD_STORE_FULL) {
		e->h->log(e->ctx, CHATD_LOG_ERROR,
				"the disk is full: reading only, senders are told STORE_FULL; free some space");
	}
}

/* Space is looked at now and then, not for every group. */
static void look(struct engine *e)
{
	int64_t now = clock_ms();
	if (now < e->back.next_look) {
		return;
	}
	e->back.next_look = now + LOOK_MS;
	int64_t free_bytes = spare(e);
	int state = atomic_load(&e->state);
	if (state == CHATD_STORE_OK && free_bytes <= 0) {
		set_full(e);
	} else if (state == CHATD_STORE_FULL && free_bytes > 0 && now >= e->back.next_try) {
		atomic_store(&e->state, CHATD_STORE_OK);
		e->h->log(e->ctx, CHATD_LOG_INFO, "there is space again: writing goes on");
	}
}

int health_may_write(struct engine *e, chatd_status *ret_rc)
{
	look(e);
	int state = atomic_load(&e->state);
	*ret_rc = state == CHATD_STORE_FULL ? -ENOSPC : -EIO;
	return state == CHATD_STORE_OK;
}

void health_note(struct engine *e, const struct db *db)
{
	if (db->err == -ENOSPC) {
		e->back.next_try = clock_ms() + RETRY_MS;
		if (e->conf.back.path) {
			set_full(e);
		}
	} else if (db->err == -EIO) {
		atomic_store(&e->state, CHATD_STORE_FAILED);
		e->back.next_try = clock_ms() + RETRY_MS;
		e->h->log(e->ctx, CHATD_LOG_ERROR,
				"writing failed (%s, code %d): reading only until the file has been checked",
				db->why, db->code);
	}
}

/* What a failed sync left in the WAL may be in memory only; it must not be built upon.  So
 * all of it goes into the database, is synced there, and the WAL starts anew. */
static chatd_status recover(struct engine *e)
{
	struct db *db = &e->db;
	db_close(db);
	chatd_status rc = db_open(db, e, 1);
	if (rc == 0) {
		int64_t bytes = db_int(db, "PRAGMA page_count") * db_int(db, "PRAGMA page_size");
		sqlite3_stmt *s = bytes > INT64_C(1) << 30 ? db_query(db, "PRAGMA quick_check(1)", "")
												   : db_query(db, "PRAGMA integrity_check(1)", "");
		struct chatd_str found = db_step(db, s) ? db_peek(s, 0) : chatd_str_of("", 0);
		if (db->err == 0 && (found.n != 2 || memcmp(found.p, "ok", 2) != 0)) {
			e->h->log(e->ctx, CHATD_LOG_ERROR, "%s is damaged: %.*s; restore a backup",
					e->conf.back.path, (int)found.n, found.p);
			db_fail(db, SQLITE_CORRUPT);
		}
		db_done(s);
		s = db_query(db, "PRAGMA wal_checkpoint(TRUNCATE)", "");
		if (db_step(db, s) && sqlite3_column_int(s, 0) != 0) {
			db_fail(db, SQLITE_BUSY);
		}
		db_done(s);
		rc = db->err ? db->err : schema_migrate(db);
	}
	return rc;
}

void health_try(struct engine *e)
{
	if (atomic_load(&e->state) == CHATD_STORE_FULL) {
		look(e);
	}
	if (atomic_load(&e->state) != CHATD_STORE_FAILED || clock_ms() < e->back.next_try ||
			!e->conf.back.path) {
		return;
	}
	backup_cancel(e, -EIO);
	if (recover(e) == 0) {
		atomic_store(&e->state, CHATD_STORE_OK);
		e->h->log(e->ctx, CHATD_LOG_INFO, "the file was checked and is whole: writing goes on");
	}
	e->back.next_try = clock_ms() + RETRY_MS;
}

/* How long the writer waits for those who still read from the log.  Programs beside may read for
 * seconds and one after the other; while the writer waits, who begins reads from the database.
 * One that never ends must not stop everything. */
static int patience(struct engine *e)
{
	int64_t most = e->conf.commit_timeout / 2;
	if (e->db.wal_pages < WAL_LAST || clock_ms() < e->back.next_patience) {
		return WRITER_BUSY_MS;
	}
	return (int)(most < PATIENCE_MS ? most : PATIENCE_MS);
}

static void note_readers(struct engine *e, int pages)
{
	e->back.next_patience = clock_ms() + PATIENCE_AGAIN_MS;
	e->h->log(e->ctx, CHATD_LOG_WARN,
			"the log has %d MiB and cannot be emptied: another program has %s open for reading; "
			"end it, or its transaction",
			pages / 256, e->conf.back.path);
}

void health_checkpoint(struct engine *e)
{
	struct db *db = &e->db;
	if (db->wal_pages < WAL_SOON || atomic_load(&e->state) == CHATD_STORE_FAILED) {
		return;
	}
	/* Passive does what it can beside readers; a large WAL waits for them. */
	int pages = 0, done = 0;
	int how = db->wal_pages < WAL_NOW ? SQLITE_CHECKPOINT_PASSIVE : SQLITE_CHECKPOINT_RESTART;
	int wait = patience(e);
	sqlite3_busy_timeout(db->h, wait);
	int code = sqlite3_wal_checkpoint_v2(db->h, NULL, how, &pages, &done);
	sqlite3_busy_timeout(db->h, WRITER_BUSY_MS);
	if ((code & 0xff) == SQLITE_BUSY && wait > WRITER_BUSY_MS) {
		note_readers(e, db->wal_pages);
	}
	if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY && (code & 0xff) != SQLITE_LOCKED) {
		db_clear(db);
		db_fail(db, code);
		health_note(e, db);
	}
	db->wal_pages = 0;
}

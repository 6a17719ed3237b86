/* SPDX-License-Identifier: Apache-2.0 */
/* The words of messages, for search, and who said which (table said).
 *
 * A commit does not wait for them: rows are indexed a while later, many at once, up to a mark
 * that is committed with them.  So after a kill nothing is indexed twice or forgotten.  What is
 * above the mark, some thousand rows at most, a search reads through itself: it puts them into
 * an index in memory that takes words apart like the one on disk.  Each sender's rows lie somewhere
 * else in an index by senders: a thousand rows at once write far fewer of its pages than each commit
 * would. */
#include "tokenizer.h"

#include <errno.h>

enum { INDEX_ROWS = 1000, INDEX_BYTES = 1 << 20 };

#define TOKENIZE "tokenize='unicode61 remove_diacritics 2'"

/* ---- the index ---------------------------------------------------------------- */

void words_change(struct db *db, int64_t pos, struct chatd_str old_text, struct chatd_str new_text)
{
	if (pos > db->indexed) {
		return; /* it will be indexed as it is then */
	}
	if (old_text.p) {
		db_exec(db, "INSERT INTO words(words, rowid, text) VALUES('delete', ?, ?)", "is", pos,
				old_text);
	}
	if (new_text.p) {
		db_exec(db, "INSERT INTO words(rowid, text) VALUES(?, ?)", "is", pos, new_text);
	}
}

void words_remove(struct db *db, int64_t pos)
{
	sqlite3_stmt *s = db_query(db,
			"SELECT text, sealed IS NOT NULL FROM msg WHERE pos=? AND text IS NOT NULL", "i", pos);
	if (db_step(db, s)) {
		if (sqlite3_column_int(s, 1) || !seals(db->e)) {
			words_change(db, pos, db_peek(s, 0), chatd_str_of(NULL, 0));
		}
		db_done(s);
	}
}

void words_remove_row(struct db *db, int64_t pos)
{
	words_remove(db, pos);
	db_exec(db, "DELETE FROM said WHERE sender=(SELECT sender FROM msg WHERE pos=?1) AND pos=?1",
			"i", pos);
}

/* Who said what is above the mark, up to @p to. */
static void index_senders(struct db *db, int64_t to)
{
	db_exec(db,
			"INSERT INTO said SELECT sender, pos FROM msg WHERE pos > ? AND pos <= ?"
			" AND sender <> '' ORDER BY sender, pos",
			"ii", db->indexed, to);
}

/* Some of the rows above the mark; returns the new mark. */
static int64_t index_some(struct db *db)
{
	int64_t mark = db->next_pos - 1, rows = 0;
	size_t bytes = 0;
	sqlite3_stmt *s = db_query(db,
			"SELECT pos, text FROM msg WHERE pos > ? AND text IS NOT NULL"
			" AND (sealed IS NOT NULL OR NOT ?) ORDER BY pos",
			"id", db->indexed, seals(db->e));
	while (db_step(db, s)) {
		int64_t pos = sqlite3_column_int64(s, 0);
		struct chatd_str text = db_peek(s, 1);
		db_exec(db, "INSERT INTO words(rowid, text) VALUES(?, ?)", "is", pos, text);
		bytes += text.n;
		if (++rows == INDEX_ROWS || bytes > INDEX_BYTES) {
			db_done(s);
			mark = pos;
			break;
		}
	}
	db->index_bytes -= bytes < db->index_bytes ? bytes : db->index_bytes;
	index_senders(db, mark);
	db_exec(db, "UPDATE meta SET value=? WHERE key='indexed'", "i", mark);
	return mark;
}

/* Not synced: what is lost of it is indexed again, and the next commit's sync covers it.
 * Outside of the transaction, where alone SQLite takes it. */
static void sync_level(struct db *db, int full)
{
	if (db->e->conf.back.path && db->e->conf.back.full_sync) {
		db_script(db, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	}
}

int words_due(const struct db *db, int idle)
{
	int64_t rows = db->next_pos - 1 - db->indexed;
	return rows > 0 && (idle || rows >= INDEX_ROWS || db->index_bytes >= INDEX_BYTES);
}

chatd_status words_index(struct engine *e)
{
	struct db *db = &e->db;
	chatd_status rc;
	if (!health_may_write(e, &rc)) {
		return rc;
	}
	db_clear(db);
	sync_level(db, 0);
	db_exec(db, "BEGIN IMMEDIATE", "");
	int64_t mark = index_some(db);
	db_exec(db, "COMMIT", "");
	if (db->err == 0) {
		db->indexed = mark;
	} else {
		if (!sqlite3_get_autocommit(db->h)) {
			sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
		}
		if (db->err != -EBUSY) {
			health_note(e, db);
		}
	}
	rc = db->err;
	db_clear(db);
	sync_level(db, 1);
	if (db->err) { /* a connection that does not sync must not acknowledge anything */
		db_clear(db);
		rc = db_fail(db, SQLITE_IOERR);
		health_note(e, db);
	}
	return rc;
}

static void index_anew(struct db *db)
{
	db_exec(db, "INSERT INTO words(words) VALUES('delete-all')", "");
	db_exec(db,
			"INSERT INTO words(rowid, text) SELECT pos, text FROM msg WHERE text IS NOT NULL"
			" AND (sealed IS NOT NULL OR NOT ?)",
			"d", seals(db->e));
	index_senders(db, db->next_pos - 1);
	db_exec(db, "UPDATE meta SET value=? WHERE key='indexed'", "i", db->next_pos - 1);
}

void words_mode(struct db *db)
{
	char was = '-'; /* of "on" and "off": the second letter tells */
	const char *now = seals(db->e) ? "on" : "off";
	sqlite3_stmt *s = db_query(db, "SELECT value FROM meta WHERE key='sealed'", "");
	if (db_step(db, s)) {
		struct chatd_str v = db_peek(s, 0);
		was = v.n > 1 ? v.p[1] : was;
	}
	db_done(s);
	if (db->err || was == now[1] || (was == '-' && !seals(db->e))) {
		return;
	}
	db_exec(db, "BEGIN IMMEDIATE", "");
	index_anew(db);
	db_exec(db,
			"INSERT INTO meta VALUES('sealed', ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
			"s", str_z(now));
	db_exec(db, "COMMIT", "");
	db->indexed = db->next_pos - 1;
}

/* FTS5 notes what is deleted and drops it when segments become one: so all of them do. */
int64_t words_merge(struct db *db, int begin)
{
	enum { PAGES = 64 };
	int64_t before = sqlite3_total_changes64(db->h);
	db_exec(db, "INSERT INTO words(words, rank) VALUES('merge', ?)", "i",
			(int64_t)(begin ? -PAGES : PAGES));
	return sqlite3_total_changes64(db->h) - before >= 2;
}

/* ---- what is not indexed yet --------------------------------------------------- */

static struct db *tail_open(struct db *db)
{
	struct db *t = db->tail ? db->tail : db->e->h->mem_alloc(sizeof(*t));
	if (t && !t->h) {
		t->e = db->e;
		if (sqlite3_open_v2(":memory:", &t->h,
					SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
							SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_MEMORY,
					NULL) != SQLITE_OK) {
			db_fail(t, SQLITE_NOMEM);
		}
		db_script(t, "CREATE VIRTUAL TABLE words USING fts5(text, content='', " TOKENIZE ")");
	}
	db->tail = t;
	return t;
}

void words_close(struct db *db)
{
	tokenizer_close(db->tokenizer);
	db->tokenizer = NULL;
	if (db->tail) {
		struct engine *e = db->e;
		db_close(db->tail);
		e->h->mem_free(db->tail);
		db->tail = NULL;
	}
}

/* Puts the rows above the mark and below @p before into the index in memory; how many. */
static int64_t tail_fill(struct db *db, struct db *t, int64_t mark, int64_t before)
{
	int64_t n = 0;
	sqlite3_stmt *s = db_query(db,
			"SELECT pos, text FROM msg WHERE pos > ? AND pos < ? AND text IS NOT NULL"
			" AND (sealed IS NOT NULL OR NOT ?)",
			"iid", mark, before, seals(db->e));
	while (db_step(db, s)) {
		if (n++ == 0) {
			db_exec(t, "INSERT INTO words(words) VALUES('delete-all')", "");
		}
		db_exec(t, "INSERT INTO words(rowid, text) VALUES(?, ?)", "is", sqlite3_column_int64(s, 0),
				db_peek(s, 1));
		if (t->err) {
			db_done(s);
			break;
		}
	}
	return n;
}

/* What this snapshot's index covers. */
static int64_t mark_of(struct db *db)
{
	return db_int(db, "SELECT value FROM meta WHERE key='indexed'");
}

int64_t words_tail(
		struct db *db, struct chatd_str words, int64_t before, words_found *found, void *arg)
{
	int64_t mark = mark_of(db);
	if (db->err || before <= mark + 1) {
		return mark;
	}
	struct db *t = tail_open(db);
	if (!t) {
		db_fail(db, SQLITE_NOMEM);
		return mark;
	}
	db_script(t, "BEGIN");
	if (tail_fill(db, t, mark, before) > 0 && t->err == 0) {
		sqlite3_stmt *s = db_query(
				t, "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC", "s", words);
		while (db_step(t, s)) {
			if (!found(arg, sqlite3_column_int64(s, 0))) {
				db_done(s);
				break;
			}
		}
	}
	if (t->err) {
		db_fail(db, t->code);
	}
	if (t->h && !sqlite3_get_autocommit(t->h)) {
		sqlite3_exec(t->h, "ROLLBACK", NULL, NULL, NULL);
	}
	db_clear(t);
	return mark;
}

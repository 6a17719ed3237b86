/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to SQLite: opened as its role asks, statements prepared once. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- failures --------------------------------------------------------------- */

static chatd_status status_of(int code)
{
	if (code == SQLITE_IOERR_NOMEM) {
		return -ENOMEM;
	}
	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_INTERRUPT:
		return -ETIMEDOUT;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_ERROR:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
	case SQLITE_MISMATCH:
		return -EINVAL;
	default:
		return -EIO;
	}
}

chatd_status db_fail(struct db *db, int code)
{
	if (db->err == 0) {
		db->err = status_of(code);
		db->code = code;
		snprintf(db->why, sizeof(db->why), "%s",
				db->h ? sqlite3_errmsg(db->h) : sqlite3_errstr(code));
	}
	return db->err;
}

void db_clear(struct db *db)
{
	db->err = 0;
	db->code = 0;
	db->why[0] = '\0';
}

/* ---- statements ----------------------------------------------------------------- */

static sqlite3_stmt *prepare(struct db *db, const char *sql)
{
	size_t at = ((uintptr_t)sql >> 3) % STMT_SLOTS;
	while (db->cache[at].sql && db->cache[at].sql != sql) {
		at = (at + 1) % STMT_SLOTS;
	}
	if (!db->cache[at].sql) {
		sqlite3_stmt *s;
		int code = sqlite3_prepare_v3(db->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL);
		if (code != SQLITE_OK) {
			db_fail(db, sqlite3_extended_errcode(db->h));
			return NULL;
		}
		db->cache[at].sql = sql;
		db->cache[at].stmt = s;
	}
	return db->cache[at].stmt;
}

static int bind_str(sqlite3_stmt *s, int i, struct chatd_str v, int blob)
{
	if (!v.p) {
		return sqlite3_bind_null(s, i);
	}
	return blob ? sqlite3_bind_blob64(s, i, v.p, v.n, SQLITE_STATIC)
				: sqlite3_bind_text64(s, i, v.p, v.n, SQLITE_STATIC, SQLITE_UTF8);
}

static sqlite3_stmt *query(struct db *db, const char *sql, const char *types, va_list ap)
{
	sqlite3_stmt *s = db->err ? NULL : prepare(db, sql);
	if (!s) {
		return NULL;
	}
	sqlite3_reset(s);
	int code = SQLITE_OK;
	for (int i = 1; types[i - 1] && code == SQLITE_OK; i++) {
		switch (types[i - 1]) {
		case 's':
			code = bind_str(s, i, va_arg(ap, struct chatd_str), 0);
			break;
		case 'b':
			code = bind_str(s, i, va_arg(ap, struct chatd_str), 1);
			break;
		case 'i':
			code = sqlite3_bind_int64(s, i, va_arg(ap, int64_t));
			break;
		default:
			code = sqlite3_bind_int(s, i, va_arg(ap, int));
			break;
		}
	}
	if (code != SQLITE_OK) {
		db_fail(db, code);
		return NULL;
	}
	return s;
}

sqlite3_stmt *db_query(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	sqlite3_stmt *s = query(db, sql, types, ap);
	va_end(ap);
	return s;
}

int db_step(struct db *db, sqlite3_stmt *s)
{
	if (!s || db->err) {
		return 0;
	}
	int code = sqlite3_step(s);
	if (code == SQLITE_ROW) {
		return 1;
	}
	if (code != SQLITE_DONE) {
		db_fail(db, sqlite3_extended_errcode(db->h));
	}
	sqlite3_reset(s);
	return 0;
}

void db_done(sqlite3_stmt *s)
{
	if (s) {
		sqlite3_reset(s);
	}
}

int64_t db_exec(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	sqlite3_stmt *s = query(db, sql, types, ap);
	va_end(ap);
	while (db_step(db, s)) {
	}
	return db->err ? 0 : sqlite3_changes64(db->h);
}

void db_push(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	sqlite3_stmt *s = query(db, sql, types, ap);
	va_end(ap);
	while (db_step(db, s)) {
	}
}

chatd_status db_script(struct db *db, const char *sql)
{
	if (db->err == 0 && sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK) {
		db_fail(db, sqlite3_extended_errcode(db->h));
	}
	return db->err;
}

int64_t db_int(struct db *db, const char *sql)
{
	sqlite3_stmt *s = db_query(db, sql, "");
	int64_t n = db_step(db, s) ? sqlite3_column_int64(s, 0) : 0;
	db_done(s);
	return n;
}

struct chatd_str db_peek(sqlite3_stmt *s, int column)
{
	if (sqlite3_column_type(s, column) == SQLITE_NULL) {
		return chatd_str_of(NULL, 0);
	}
	const char *p = sqlite3_column_blob(s, column);
	return chatd_str_of(p ? p : "", (size_t)sqlite3_column_bytes(s, column));
}

struct chatd_str db_text(struct op *op, sqlite3_stmt *s, int column)
{
	return arena_copy(&op->arena, db_peek(s, column));
}

/* ---- opening ---------------------------------------------------------------------- */

/* A read must end, or the WAL could not be emptied behind it. */
static int on_progress(void *arg)
{
	struct db *db = arg;
	return db->deadline && clock_ms() > db->deadline;
}

static int on_wal(void *arg, sqlite3 *h, const char *name, int pages)
{
	struct db *db = arg;
	(void)h;
	(void)name;
	db->wal_pages = pages;
	return SQLITE_OK;
}

/* SQLite would make the file with the process's umask, and its folder's entry of it is
 * ours to sync. */
static chatd_status make_file(struct engine *e)
{
	const char *path = e->conf.back.path;
	int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST) {
		struct stat st;
		if (stat(path, &st) < 0) {
			return -errno;
		}
		if (!S_ISREG(st.st_mode)) { /* a folder, whose mode is nothing to change */
			return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
		}
		return chmod(path, 0600) < 0 && errno != EROFS ? -errno : 0;
	}
	if (fd < 0) {
		return -errno;
	}
	close(fd);
	char folder[4096];
	snprintf(folder, sizeof(folder), "%s", path);
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	chatd_status rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

static void set_up_writer(struct db *db)
{
	const struct store_conf *conf = &db->e->conf;
	db_script(db, "PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32768");
	if (db->e->cipher) { /* what is overwritten or deleted is gone */
		db_script(db, "PRAGMA secure_delete=ON");
	}
	if (!conf->back.path) {
		char pages[64];
		snprintf(pages, sizeof(pages), "PRAGMA max_page_count=%lld",
				conf->back.max_bytes ? (long long)(conf->back.max_bytes / 4096) : 1073741823LL);
		db_script(db, pages);
		return;
	}
	/* Checkpoints run after the answers have gone, not inside a commit: see health.c. */
	db_script(db,
			"PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;"
			" PRAGMA journal_size_limit=67108864");
	db_script(db, conf->back.full_sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	if (db->err == 0) {
		sqlite3_wal_hook(db->h, on_wal, db);
		sqlite3_busy_timeout(db->h, WRITER_BUSY_MS);
	}
}

static void set_up_reader(struct db *db)
{
	db_script(db,
			"PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;"
			" PRAGMA cache_size=-8192");
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_timeout(db->h, 1000);
	sqlite3_progress_handler(db->h, 10000, on_progress, db);
}

chatd_status db_open(struct db *db, struct engine *e, int writer)
{
	memset(db, 0, sizeof(*db));
	db->e = e;
	const char *path = e->conf.back.path ? e->conf.back.path : ":memory:";
	if (writer && e->conf.back.path) {
		chatd_status rc = make_file(e);
		if (rc < 0) {
			snprintf(db->why, sizeof(db->why), "%s", strerror(-rc));
			return rc;
		}
	}
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
			(writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
	int code = sqlite3_open_v2(path, &db->h, flags, NULL);
	if (code != SQLITE_OK) {
		return db_fail(db, code);
	}
	sqlite3_limit(db->h, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (writer) {
		set_up_writer(db);
	} else {
		set_up_reader(db);
	}
	return db->err;
}

void db_close(struct db *db)
{
	for (size_t i = 0; i < STMT_SLOTS; i++) {
		sqlite3_finalize(db->cache[i].stmt);
		db->cache[i].stmt = NULL;
		db->cache[i].sql = NULL;
	}
	words_close(db);
	if (db->h) {
		sqlite3_close(db->h);
	}
	db->h = NULL;
}

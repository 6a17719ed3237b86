/* SPDX-License-Identifier: Apache-2.0 */
/* The file that is copied: of this program's schema, and nobody's else while that is done. */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	APPLICATION_ID = 0x63686174, /* of store-sqlite's files */
	FILE_SCHEMA = 12,            /* the number that the tables below are of */
};

int file_failed(struct copy *c)
{
	int code = sqlite3_errcode(c->file);
	int bad = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
	return copy_fail(bad ? EX_DATAERR : EX_IOERR, "%s cannot be read: %s%s", c->path,
			sqlite3_errmsg(c->file),
			bad ? "; is it the chatd.db of store-sqlite? If so, restore a backup" : "");
}

int64_t file_int(struct copy *c, const char *sql)
{
	sqlite3_stmt *s = NULL;
	int64_t n = 0;
	if (sqlite3_prepare_v2(c->file, sql, -1, &s, NULL) == SQLITE_OK &&
			sqlite3_step(s) == SQLITE_ROW) {
		n = sqlite3_column_int64(s, 0);
	}
	sqlite3_finalize(s);
	return n;
}

static void file_text(struct copy *c, const char *sql, char *to, size_t cap)
{
	sqlite3_stmt *s = NULL;
	to[0] = '\0';
	if (sqlite3_prepare_v2(c->file, sql, -1, &s, NULL) == SQLITE_OK &&
			sqlite3_step(s) == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(s, 0);
		snprintf(to, cap, "%s", text ? (const char *)text : "");
	}
	sqlite3_finalize(s);
}

/* The lock that a chatd which uses the file has. */
static int lock_file(struct copy *c)
{
	char path[4096];
	if (snprintf(path, sizeof(path), "%s.lock", c->path) >= (int)sizeof(path)) {
		return copy_fail(EX_USAGE, "the path of the file is too long");
	}
	c->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (c->lock_fd < 0) {
		return copy_fail(EX_IOERR, "%s: %s; run this as the account that chatd runs as", path,
				strerror(errno));
	}
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		return copy_fail(EX_UNAVAILABLE,
				"%s is in use by a chatd; stop that one first: what it writes meanwhile would be "
				"lost",
				c->path);
	}
	return 0;
}

static int check_schema(struct copy *c)
{
	char first[2];
	file_text(c, "SELECT 'x' FROM sqlite_master", first, sizeof(first));
	if (sqlite3_errcode(c->file) != SQLITE_OK && sqlite3_errcode(c->file) != SQLITE_DONE &&
			sqlite3_errcode(c->file) != SQLITE_ROW) {
		return file_failed(c);
	}
	if (file_int(c, "PRAGMA application_id") != APPLICATION_ID) {
		return copy_fail(EX_DATAERR,
				"%s is not a file of chatd's; name the chatd.db of store-sqlite, which is in "
				"data_dir",
				c->path);
	}
	int64_t version = file_int(c, "PRAGMA user_version");
	if (version != FILE_SCHEMA) {
		return copy_fail(EX_DATAERR,
				"%s: its schema is number %lld, this program copies number %d; %s", c->path,
				(long long)version, FILE_SCHEMA,
				version < FILE_SCHEMA
						? "start this version of chatd once on it, which brings it up "
						  "to date, and stop it again"
						: "run the chatd-store-copy that came with the chatd which "
						  "wrote it");
	}
	return 0;
}

/* What is not finished, a -wal beside the file, is read too; nothing is written. */
int file_open(struct copy *c)
{
	if (access(c->path, R_OK) < 0) {
		return copy_fail(
				EX_IOERR, "%s: %s; name the chatd.db of store-sqlite", c->path, strerror(errno));
	}
	int rc = lock_file(c);
	if (rc != 0) {
		return rc;
	}
	if (sqlite3_open_v2(c->path, &c->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
			SQLITE_OK) {
		return file_failed(c);
	}
	sqlite3_db_config(c->file, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_timeout(c->file, 5000);
	rc = check_schema(c);
	if (rc == 0 &&
			sqlite3_exec(c->file, "PRAGMA query_only=1; PRAGMA cache_size=-32768; BEGIN", NULL,
					NULL, NULL) != SQLITE_OK) {
		rc = file_failed(c);
	}
	if (rc == 0) {
		/* A file has one node: the one that was started last. */
		file_text(c, "SELECT id FROM node ORDER BY started DESC LIMIT 1", c->node, sizeof(c->node));
		file_text(c, "SELECT value FROM meta WHERE key='epoch'", c->epoch, sizeof(c->epoch));
		c->is_backup = file_int(c, "SELECT count(*) FROM meta WHERE key='copy'") != 0;
	}
	return rc;
}

void file_close(struct copy *c)
{
	sqlite3_close(c->file);
	if (c->lock_fd >= 0) {
		close(c->lock_fd);
	}
}

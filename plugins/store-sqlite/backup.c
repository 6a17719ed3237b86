/* SPDX-License-Identifier: Apache-2.0 */
/* Online backup: some pages between two groups, through the writer's own connection, so
 * that what is written meanwhile goes into the copy too and nothing starts over. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGES = 256 };

struct backup {
	struct op *op;
	sqlite3 *to;
	sqlite3_backup *b;
	char path[4096], part[4096]; /* it gets its name when it is whole */
};

static void finish(struct engine *e, chatd_status rc)
{
	struct backup *b = e->back.backup;
	struct ops done = STAILQ_HEAD_INITIALIZER(done);
	e->back.backup = NULL;
	if (b->b) {
		sqlite3_backup_finish(b->b);
	}
	sqlite3_close(b->to);
	if (rc < 0) {
		unlink(b->part);
	}
	b->op->rc = rc;
	STAILQ_INSERT_TAIL(&done, b->op, link);
	ops_answer(e, &done);
	free(b);
}

static chatd_status open_copy(struct engine *e, struct backup *b)
{
	int fd = open(b->part, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	close(fd);
	if (sqlite3_open_v2(b->part, &b->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
			SQLITE_OK) {
		return -EIO;
	}
	b->b = sqlite3_backup_init(b->to, "main", e->db.h, "main");
	return b->b ? 0 : -EIO;
}

void backup_start(struct engine *e, struct op *op)
{
	struct chatd_store_backup *r = op->req;
	struct ops done = STAILQ_HEAD_INITIALIZER(done);
	struct backup *b = calloc(1, sizeof(*b));
	struct stat st;
	op->rc = !b ? -ENOMEM : e->back.backup ? -EBUSY : 0;
	if (op->rc == 0 &&
			(!r->path.p || r->path.n == 0 || r->path.n + 8 > sizeof(b->path) ||
					memchr(r->path.p, 0, r->path.n))) {
		op->rc = -EINVAL;
	}
	if (op->rc < 0) {
		free(b);
		STAILQ_INSERT_TAIL(&done, op, link);
		ops_answer(e, &done);
		return;
	}
	b->op = op;
	snprintf(b->path, sizeof(b->path), "%.*s", (int)r->path.n, r->path.p);
	snprintf(b->part, sizeof(b->part), "%.*s.part", (int)r->path.n, r->path.p);
	e->back.backup = b;
	chatd_status rc = lstat(b->path, &st) == 0 ? -EEXIST : open_copy(e, b);
	if (rc < 0) {
		finish(e, rc);
	}
}

static chatd_status sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_RDONLY | O_CLOEXEC);
	chatd_status rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

/* The copy is marked, so that whoever opens it takes a new epoch. */
static chatd_status seal(struct backup *b)
{
	char folder[4096];
	struct stat st;
	if (sqlite3_exec(b->to,
				"PRAGMA journal_mode=DELETE; INSERT OR REPLACE INTO meta VALUES('copy', 1)", NULL,
				NULL, NULL) != SQLITE_OK) {
		return -EIO;
	}
	sqlite3_close(b->to);
	b->to = NULL;
	chatd_status rc = sync_path(b->part, 0);
	if (rc == 0 && stat(b->part, &st) == 0) {
		b->op->a.n = st.st_size;
	}
	snprintf(folder, sizeof(folder), "%s", b->path);
	if (rc == 0 && link(b->part, b->path) < 0) {
		rc = -errno;
	}
	if (rc == 0) {
		unlink(b->part);
		rc = sync_path(dirname(folder), O_DIRECTORY);
	}
	return rc;
}

void backup_step(struct engine *e)
{
	struct backup *b = e->back.backup;
	if (!b) {
		return;
	}
	if (atomic_load(&e->leaving)) { /* who waits for it cannot wait any longer */
		backup_cancel(e, -ESHUTDOWN);
		return;
	}
	int code = sqlite3_backup_step(b->b, PAGES);
	if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED) {
		return;
	}
	sqlite3_backup_finish(b->b);
	b->b = NULL;
	finish(e, code == SQLITE_DONE ? seal(b) : (code & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO);
}

void backup_cancel(struct engine *e, chatd_status rc)
{
	if (e->back.backup) {
		finish(e, rc);
	}
}

/* The writer takes backups out of their group. */
void do_backup(struct db *db, struct op *op)
{
	(void)db;
	op->rc = -EINVAL;
}

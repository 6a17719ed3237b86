/* SPDX-License-Identifier: Apache-2.0 */
/* The file is this server's alone, and of this program's schema. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Two servers on one file would each believe that they alone count.  A file of its own,
 * because closing a descriptor of the database would drop SQLite's locks. */
static chatd_status lock_file(struct engine *e)
{
	char path[4096];
	if (snprintf(path, sizeof(path), "%s.lock", e->conf.back.path) >= (int)sizeof(path)) {
		return e->h->fail(e->ctx, -ENAMETOOLONG, "path: is too long");
	}
	e->back.lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (e->back.lock_fd < 0) {
		return e->h->fail(e->ctx, -errno, "%s: %s", path, strerror(errno));
	}
	if (flock(e->back.lock_fd, LOCK_EX | LOCK_NB) < 0) {
		return e->h->fail(e->ctx, -EBUSY,
				"%s is in use by another chatd; stop that one, or set path: to another file",
				e->conf.back.path);
	}
	return 0;
}

/* Somebody who looks at the file with another program may hold it for a moment. */
static chatd_status open_writer(struct engine *e)
{
	int64_t end = clock_ms() + e->conf.commit_timeout;
	chatd_status rc = db_open(&e->db, e, 1);
	rc = rc < 0 ? rc : schema_migrate(&e->db);
	while (rc == -EBUSY && clock_ms() < end) {
		db_close(&e->db);
		rc = db_open(&e->db, e, 1);
		rc = rc < 0 ? rc : schema_migrate(&e->db);
	}
	if (rc < 0 && rc != -EPROTO) {
		e->h->fail(e->ctx, rc, "%s: cannot be used: %s",
				e->conf.back.path ? e->conf.back.path : "memory", e->db.why);
	}
	return rc;
}

chatd_status back_start(struct engine *e)
{
	/* Its statistics cost a lock shared by all threads at each allocation.  Too late if
	 * somebody else uses SQLite already: then it is only slower. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	e->back.lock_fd = -1;
	chatd_status rc = e->conf.back.path ? lock_file(e) : 0;
	return rc < 0 ? rc : open_writer(e);
}

void back_stop(struct engine *e)
{
	db_close(&e->db);
	if (e->back.lock_fd >= 0) {
		close(e->back.lock_fd);
	}
}

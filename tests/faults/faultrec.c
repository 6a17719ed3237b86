/* SPDX-License-Identifier: Apache-2.0 */
#include "faultrec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 4096, IOV = 1024 };

/* Both also in images.py. */
enum kind { KIND_WRITE, KIND_TRUNCATE, KIND_SYNC, KIND_UNLINK, KIND_SEND };
enum file { FILE_DB, FILE_WAL, FILE_JOURNAL, FILE_FOLDER, FILES, FILE_NONE = -1 };

struct record {
	uint32_t kind;
	uint32_t where; /* enum file; of what is sent the descriptor */
	uint32_t thread;
	uint32_t n; /* bytes that follow */
	int64_t at; /* offset, or length */
};

static char paths[FILES][PATH];
static int out = -1;

__attribute__((constructor)) static void begin(void)
{
	const char *log = getenv("FAULTREC"), *db = getenv("FAULTREC_DB");
	if (!log || !db) {
		return;
	}
	snprintf(paths[FILE_DB], PATH, "%s", db);
	snprintf(paths[FILE_WAL], PATH, "%s-wal", db);
	snprintf(paths[FILE_JOURNAL], PATH, "%s-journal", db);
	snprintf(paths[FILE_FOLDER], PATH, "%s", db);
	*strrchr(paths[FILE_FOLDER], '/') = '\0';
	out = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static enum file file_at(const char *path)
{
	for (int i = 0; i < FILES; i++) {
		if (strcmp(path, paths[i]) == 0) {
			return (enum file)i;
		}
	}
	return FILE_NONE;
}

static enum file file_of(int fd)
{
	char link[32], path[PATH];
	if (out < 0) {
		return FILE_NONE;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return file_at(path);
}

/* One call, so that records do not mix; a log with a hole in it would judge wrongly. */
static void put(enum kind kind, int where, int64_t at, const struct iovec *iov, size_t parts)
{
	struct record r = {
		.kind = kind, .where = (uint32_t)where, .thread = (uint32_t)gettid(), .at = at
	};
	struct iovec all[IOV] = { { &r, sizeof(r) } };
	int error = errno;
	if (parts > IOV - 1) {
		abort();
	}
	for (size_t i = 0; i < parts; i++) {
		all[i + 1] = iov[i];
		r.n += (uint32_t)iov[i].iov_len;
	}
	if (writev(out, all, (int)parts + 1) != (ssize_t)(sizeof(r) + r.n)) {
		abort();
	}
	errno = error;
}

void rec_write(int fd, const void *p, size_t n, int64_t at)
{
	enum file file = file_of(fd);
	if (file != FILE_NONE) {
		struct iovec iov = { (void *)(uintptr_t)p, n };
		put(KIND_WRITE, (int)file, at, &iov, 1);
	}
}

void rec_truncate(int fd, int64_t n)
{
	enum file file = file_of(fd);
	if (file != FILE_NONE) {
		put(KIND_TRUNCATE, (int)file, n, NULL, 0);
	}
}

void rec_sync(int fd)
{
	enum file file = file_of(fd);
	if (file != FILE_NONE) {
		put(KIND_SYNC, (int)file, 0, NULL, 0);
	}
}

void rec_unlink(const char *path)
{
	enum file file = out < 0 ? FILE_NONE : file_at(path);
	if (file != FILE_NONE) {
		put(KIND_UNLINK, (int)file, 0, NULL, 0);
	}
}

void rec_send(int fd, const struct iovec *iov, size_t n)
{
	if (out >= 0) {
		put(KIND_SEND, fd, 0, iov, n);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* faultpre.so: makes system calls and calloc() fail, wait, or kill, as a file of rules says.
 *
 * LD_PRELOAD=faultpre.so FAULTPRE=FILE program...; pre.py writes FILE, which is mapped and may
 * change while the program runs.  A rule names a call, a part of the path of its file or, for
 * calloc(), where the code is that calls it, from which and to which occurrence it holds, and
 * what happens then. */
#undef _FILE_OFFSET_BITS /* both names of a call are wanted, not one under the other's */
#include "faultrec.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum call {
	CALL_NONE,
	CALL_open,
	CALL_write,
	CALL_pwrite,
	CALL_fsync,
	CALL_fdatasync,
	CALL_ftruncate,
	CALL_calloc
};

enum { RULES = 16, PATH_PART = 64 };

/* Also in pre.py. */
struct rule {
	_Atomic uint32_t call; /* written last */
	int32_t error;         /* errno; 0: none */
	int32_t signal;        /* to oneself; 0: none */
	int32_t delay_ms;
	int64_t from, to, every; /* occurrences, counted from 1 */
	_Atomic int64_t seen;
	uint64_t low, high; /* of the caller; calloc() alone */
	char path[PATH_PART];
};

struct rules {
	_Atomic int64_t realtime_ns; /* added to CLOCK_REALTIME */
	struct rule rule[RULES];
};

static struct rules *rules;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAULTPRE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0) {
		return;
	}
	void *p = mmap(NULL, sizeof(*rules), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rules = p == MAP_FAILED ? NULL : p;
	close(fd);
}

#define REAL(name)                                                             \
	__extension__({                                                            \
		static _Atomic(void *) real_;                                          \
		if (!atomic_load_explicit(&real_, memory_order_relaxed)) {             \
			atomic_store(&real_, dlsym(RTLD_NEXT, #name));                     \
		}                                                                      \
		(__typeof__(&name))atomic_load_explicit(&real_, memory_order_relaxed); \
	})

static void path_of(int fd, char *ret, size_t cap)
{
	char link[32];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, ret, cap - 1);
	ret[n > 0 ? n : 0] = '\0';
}

/* errno to fail with; 0: do it. */
static int act(const struct rule *r)
{
	if (r->delay_ms) {
		struct timespec t = { r->delay_ms / 1000, r->delay_ms % 1000 * 1000000L };
		nanosleep(&t, NULL);
	}
	if (r->signal) {
		kill(getpid(), r->signal);
	}
	return r->error;
}

static int happens(struct rule *r)
{
	int64_t n = atomic_fetch_add(&r->seen, 1) + 1;
	return n >= r->from && n <= r->to && (n - r->from) % (r->every > 1 ? r->every : 1) == 0;
}

static int fault(enum call call, int fd, const char *name)
{
	char room[4096];
	int error = 0;
	for (int i = 0; rules && i < RULES && !error; i++) {
		struct rule *r = &rules->rule[i];
		if (atomic_load(&r->call) != (uint32_t)call) {
			continue;
		}
		if (!name) {
			path_of(fd, room, sizeof(room));
			name = room;
		}
		if (!strstr(name, r->path)) {
			continue;
		}
		if (happens(r)) {
			error = act(r);
		}
	}
	return error;
}

static int memory_fails(uint64_t caller)
{
	for (int i = 0; rules && i < RULES; i++) {
		struct rule *r = &rules->rule[i];
		if (atomic_load(&r->call) == CALL_calloc && caller >= r->low && caller < r->high &&
				happens(r)) {
			return 1;
		}
	}
	return 0;
}

#define FAIL_IF(call, fd, name)                   \
	do {                                          \
		int error_ = fault((call), (fd), (name)); \
		if (error_) {                             \
			errno = error_;                       \
			return -1;                            \
		}                                         \
	} while (0)

static int mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	int mode = mode_of(flags, ap);
	va_end(ap);
	FAIL_IF(CALL_open, -1, path);
	return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	int mode = mode_of(flags, ap);
	va_end(ap);
	FAIL_IF(CALL_open, -1, path);
	return REAL(open64)(path, flags, mode);
}

ssize_t write(int fd, const void *p, size_t n)
{
	FAIL_IF(CALL_write, fd, NULL);
	return REAL(write)(fd, p, n);
}

static ssize_t wrote(ssize_t rc, int fd, const void *p, int64_t at)
{
	if (rc > 0) {
		rec_write(fd, p, (size_t)rc, at);
	}
	return rc;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	FAIL_IF(CALL_pwrite, fd, NULL);
	return wrote(REAL(pwrite)(fd, p, n, at), fd, p, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	FAIL_IF(CALL_pwrite, fd, NULL);
	return wrote(REAL(pwrite64)(fd, p, n, at), fd, p, at);
}

static int synced(int rc, int fd)
{
	if (rc == 0) {
		rec_sync(fd);
	}
	return rc;
}

int fsync(int fd)
{
	FAIL_IF(CALL_fsync, fd, NULL);
	return synced(REAL(fsync)(fd), fd);
}

int fdatasync(int fd)
{
	FAIL_IF(CALL_fdatasync, fd, NULL);
	return synced(REAL(fdatasync)(fd), fd);
}

static int truncated(int rc, int fd, int64_t n)
{
	if (rc == 0) {
		rec_truncate(fd, n);
	}
	return rc;
}

int ftruncate(int fd, off_t n)
{
	FAIL_IF(CALL_ftruncate, fd, NULL);
	return truncated(REAL(ftruncate)(fd, n), fd, n);
}

int ftruncate64(int fd, off64_t n)
{
	FAIL_IF(CALL_ftruncate, fd, NULL);
	return truncated(REAL(ftruncate64)(fd, n), fd, n);
}

int unlink(const char *path)
{
	int rc = REAL(unlink)(path);
	if (rc == 0) {
		rec_unlink(path);
	}
	return rc;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	rec_send(fd, m->msg_iov, m->msg_iovlen);
	return REAL(sendmsg)(fd, m, flags);
}

void *__libc_calloc(size_t n, size_t size); /* NOLINT: glibc's name */

void *calloc(size_t n, size_t size)
{
	static _Thread_local int finding; /* dlsym() may want memory itself */
	if (finding) {
		return __libc_calloc(n, size);
	}
	finding = 1;
	void *(*real)(size_t, size_t) = REAL(calloc);
	finding = 0;
	if (memory_fails((uint64_t)(uintptr_t)__builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return real(n, size);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc = REAL(clock_gettime)(clock, t);
	int64_t add = rules && clock == CLOCK_REALTIME ? atomic_load(&rules->realtime_ns) : 0;
	if (rc == 0 && add) {
		int64_t ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec + add;
		t->tv_sec = ns / 1000000000;
		t->tv_nsec = ns % 1000000000;
	}
	return rc;
}

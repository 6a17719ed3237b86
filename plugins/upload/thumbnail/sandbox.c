/* SPDX-License-Identifier: Apache-2.0 */
/* A picture may be made so that its decoder does what the picture says.  Then there is nothing that
 * it could do: no file, no socket, no process, no more memory and time than it has been given. */
#include "image.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CPU_S = 5, OUT_BYTES = 16 << 20 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0 /* they need terabytes of addresses, and calls of their own */
#endif

static int limit(int what, int64_t most)
{
	const struct rlimit r = { (rlim_t)most, (rlim_t)most };
	return setrlimit(what, &r) < 0 ? -errno : 0;
}

int sandbox_limits(int64_t memory)
{
	int rc = limit(RLIMIT_CORE, 0);
	rc = rc < 0 ? rc : limit(RLIMIT_CPU, CPU_S);
	rc = rc < 0 ? rc : limit(RLIMIT_FSIZE, OUT_BYTES);
	rc = rc < 0 ? rc : limit(RLIMIT_NPROC, 0);
	rc = rc < 0 || SANITIZED ? rc : limit(RLIMIT_AS, memory);
	return rc < 0 || SANITIZED ? rc : limit(RLIMIT_NOFILE, 0);
}

/* Reading and opening are over: what is left is to think, and to write the answer. */
static int filter(void)
{
	static const int allowed[] = { SCMP_SYS(write), SCMP_SYS(exit_group), SCMP_SYS(exit),
		SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
		SCMP_SYS(rt_sigreturn) };
	scmp_filter_ctx c = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc = c ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		rc = seccomp_rule_add(c, SCMP_ACT_ALLOW, allowed[i], 0);
	}
	if (rc ==
			0) { /* memory, but none that could be run: prot has no PROT_EXEC, and there is no file */
		rc = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
				SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0),
				SCMP_A4(SCMP_CMP_MASKED_EQ, 0xffffffff, 0xffffffff));
	}
	if (rc == 0) {
		rc = seccomp_load(c);
	}
	seccomp_release(c);
	return rc;
}

int sandbox_enter(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		return -errno;
	}
	/* Where a user may: a second fence behind the filter, which lets no socket be made. */
	(void)!unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC);
	return SANITIZED ? 0 : filter();
}

int sandbox_is_weak(void)
{
	return SANITIZED;
}

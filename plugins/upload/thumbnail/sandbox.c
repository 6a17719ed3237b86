/* SPDX-License-Identifier: Apache-2.0 */
/* A picture may be made so that its decoder does what the picture says.  Then there is nothing that
 * it could do: no file, no socket, no process, no more memory and time than it has been given. */
#include "image.h"

#include <chatd-sdk/sandbox.h>
#include <sched.h>

enum { CPU_S = 5, OUT_BYTES = 16 << 20 };

int sandbox_limits(int64_t memory)
{
	int rc = chatd_sandbox_limit(RLIMIT_CORE, 0);
	rc = rc < 0 ? rc : chatd_sandbox_limit(RLIMIT_CPU, CPU_S);
	rc = rc < 0 ? rc : chatd_sandbox_limit(RLIMIT_FSIZE, OUT_BYTES);
	rc = rc < 0 ? rc : chatd_sandbox_limit(RLIMIT_NPROC, 0);
	rc = rc < 0 || CHATD_SANDBOX_WEAK ? rc : chatd_sandbox_limit(RLIMIT_AS, memory);
	return rc < 0 || CHATD_SANDBOX_WEAK ? rc : chatd_sandbox_limit(RLIMIT_NOFILE, 0);
}

/* Reading and opening are over: what is left is to think, and to write the answer. */
static int filter(void)
{
	static const int allowed[] = { SCMP_SYS(write), SCMP_SYS(exit_group), SCMP_SYS(exit),
		SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
		SCMP_SYS(rt_sigreturn) };
	scmp_filter_ctx c;
	int rc = chatd_sandbox_begin(&c, SCMP_ACT_KILL_PROCESS);
	if (rc < 0) {
		return rc;
	}
	rc = chatd_sandbox_allow(c, allowed, sizeof(allowed) / sizeof(allowed[0]));
	if (rc == 0) { /* memory, but none that could be run, and no file */
		rc = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
				SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
				SCMP_A4(SCMP_CMP_MASKED_EQ, 0xffffffff, 0xffffffff));
	}
	if (rc < 0) {
		seccomp_release(c);
		return rc;
	}
	return chatd_sandbox_enforce(c);
}

int sandbox_enter(void)
{
	int rc = chatd_sandbox_alone();
	if (rc < 0) {
		return rc;
	}
	/* Where a user may: a second fence behind the filter, which lets no socket be made. */
	(void)!unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC);
	return filter();
}

int sandbox_is_weak(void)
{
	return CHATD_SANDBOX_WEAK;
}

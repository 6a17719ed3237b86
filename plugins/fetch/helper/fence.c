/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever answers may have made the answer so that libcurl or OpenSSL does what it says.  Then this
 * process can still reach what its network reaches, and lie to its server; but it reads no file but
 * those of the resolver and of the certificates, writes none, starts nothing, sees no other process,
 * and listens nowhere. */
#include "helper.h"

#include <chatd-sdk/sandbox.h>
#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { STACK_BYTES = 512 << 10, MORE_FILES = 256 };
static const int64_t MEMORY = INT64_C(4) << 30;

/* What else is there is the library's. */
static const char *const readable[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf",
	"/etc/nsswitch.conf", "/etc/gai.conf", "/run/systemd/resolve",
	"/run/NetworkManager/resolv.conf", "/run/resolvconf/resolv.conf", "/etc/ssl/certs",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates" };

/* ---- before --------------------------------------------------------------------------------- */

/* The modules of nsswitch.conf, as code cannot be loaded later.  Those of files and DNS are part of
 * the C library. */
static void load_resolvers(void)
{
	char line[512], name[80];
	FILE *f = fopen("/etc/nsswitch.conf", "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *rest = NULL, *word = strtok_r(line, " \t\n", &rest);
		int is_hosts = word && strcmp(word, "hosts:") == 0;
		while (is_hosts && (word = strtok_r(NULL, " \t\n", &rest))) {
			if (isalnum((unsigned char)*word) && strlen(word) < 40 && !strchr(word, '/')) {
				snprintf(name, sizeof(name), "libnss_%s.so.2", word);
				(void)dlopen(name, RTLD_NOW);
			}
		}
	}
	if (f) {
		(void)fclose(f);
	}
}

int fence_limits(const struct wire_setup *s)
{
	pthread_attr_t attr;
	int64_t files = 4 * (int64_t)s->connections + MORE_FILES;
	struct rlimit had;
	load_resolvers();
	if (getrlimit(RLIMIT_NOFILE, &had) == 0 && had.rlim_max < (rlim_t)files) {
		files = (int64_t)had.rlim_max;
	}
	/* Each name that is looked up has a thread. */
	if (pthread_attr_init(&attr) == 0) {
		(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
		(void)pthread_setattr_default_np(&attr);
		pthread_attr_destroy(&attr);
	}
	int rc = chatd_sandbox_limit(RLIMIT_CORE, 0);
	rc = rc < 0 ? rc : chatd_sandbox_limit(RLIMIT_FSIZE, 0);
	rc = rc < 0 ? rc : chatd_sandbox_limit(RLIMIT_NOFILE, files);
	return rc < 0 || CHATD_SANDBOX_WEAK ? rc : chatd_sandbox_limit(RLIMIT_AS, MEMORY);
}

/* ---- the filter ------------------------------------------------------------------------------ */

static const int harmless[] = {
	/* what is open */
	SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(writev),
	SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg),
	SCMP_SYS(close), SCMP_SYS(lseek), SCMP_SYS(connect), SCMP_SYS(shutdown), SCMP_SYS(getsockname),
	SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getdents64),
	/* to wait */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(eventfd2), SCMP_SYS(pipe2),
	SCMP_SYS(futex), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(restart_syscall), SCMP_SYS(sched_yield),
	/* to look at files: Landlock says which may be read */
	SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(stat), SCMP_SYS(lstat),
	SCMP_SYS(readlink), SCMP_SYS(readlinkat),
	/* memory and threads */
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq), SCMP_SYS(membarrier), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
	/* who it is */
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getrandom)
};

#define IS_FAMILY(family) SCMP_A0(SCMP_CMP_EQ, family)
#define IS_TYPE(type)     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff, type)

/* What else it calls fails, as resolvers and libraries try things that they can do without. */
static int allow_some(scmp_filter_ctx c)
{
	const uint32_t write_flags =
			O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY) | O_PATH;
	const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
	const uint64_t spaces =
			CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC;
	const struct {
		int call;
		unsigned n;
		struct scmp_arg_cmp when[2];
	} some[] = {
		{ SCMP_SYS(openat), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, write_flags, 0) } },
		{ SCMP_SYS(open), 1, { SCMP_A1(SCMP_CMP_MASKED_EQ, write_flags, 0) } },
		{ SCMP_SYS(mmap), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) } },
		{ SCMP_SYS(mprotect), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) } },
		{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_MASKED_EQ, thread | spaces, thread) } },
		{ SCMP_SYS(socket), 2, { IS_FAMILY(AF_INET), IS_TYPE(SOCK_STREAM) } },
		{ SCMP_SYS(socket), 2, { IS_FAMILY(AF_INET), IS_TYPE(SOCK_DGRAM) } },
		{ SCMP_SYS(socket), 2, { IS_FAMILY(AF_INET6), IS_TYPE(SOCK_STREAM) } },
		{ SCMP_SYS(socket), 2, { IS_FAMILY(AF_INET6), IS_TYPE(SOCK_DGRAM) } },
		/* With itself: what is connected cannot be connected to anything else. */
		{ SCMP_SYS(socketpair), 2, { IS_FAMILY(AF_UNIX), IS_TYPE(SOCK_STREAM) } },
		{ SCMP_SYS(ioctl), 1, { SCMP_A1(SCMP_CMP_EQ, FIONREAD) } },
		{ SCMP_SYS(ioctl), 1, { SCMP_A1(SCMP_CMP_EQ, FIONBIO) } },
		{ SCMP_SYS(fcntl), 1, { SCMP_A1(SCMP_CMP_EQ, F_GETFL) } },
		{ SCMP_SYS(fcntl), 1, { SCMP_A1(SCMP_CMP_EQ, F_SETFL) } },
		{ SCMP_SYS(fcntl), 1, { SCMP_A1(SCMP_CMP_EQ, F_GETFD) } },
		{ SCMP_SYS(fcntl), 1, { SCMP_A1(SCMP_CMP_EQ, F_SETFD) } },
		{ SCMP_SYS(prlimit64), 1, { SCMP_A2(SCMP_CMP_EQ, 0) } }, /* to ask */
		{ SCMP_SYS(tgkill), 1, { SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()) } },
	};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(some) / sizeof(some[0]); i++) {
		rc = seccomp_rule_add_array(c, SCMP_ACT_ALLOW, some[i].call, some[i].n, some[i].when);
	}
	/* The C library then makes its threads with clone(), whose arguments can be seen. */
	return rc < 0 ? rc : seccomp_rule_add(c, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int filter(void)
{
	scmp_filter_ctx c;
	int rc = chatd_sandbox_begin(&c, SCMP_ACT_ERRNO(EPERM));
	if (rc < 0) {
		return rc;
	}
	rc = chatd_sandbox_allow(c, harmless, sizeof(harmless) / sizeof(harmless[0]));
	rc = rc < 0 ? rc : allow_some(c);
	if (rc < 0) {
		seccomp_release(c);
		return rc;
	}
	return chatd_sandbox_enforce(c);
}

/* ---- all of it ------------------------------------------------------------------------------- */

int fence_enter(uint32_t *ret_flaws)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	const char *paths[sizeof(readable) / sizeof(readable[0]) + 2];
	size_t n = sizeof(readable) / sizeof(readable[0]);
	memcpy(paths, readable, sizeof(readable));
	if (v->age >= CURLVERSION_SEVENTH && v->cainfo) {
		paths[n++] = v->cainfo;
	}
	if (v->age >= CURLVERSION_SEVENTH && v->capath) {
		paths[n++] = v->capath;
	}
	int rc = chatd_sandbox_alone();
	if (rc < 0) {
		return rc;
	}
	rc = CHATD_SANDBOX_WEAK ? -ENOSYS : chatd_sandbox_files(paths, n);
	if (rc == -ENOSYS || rc == -EOPNOTSUPP || rc == -EPERM) {
		*ret_flaws |= WIRE_NO_LANDLOCK; /* EPERM: a container whose filter does not know it */
		rc = 0;
	}
	*ret_flaws |= CHATD_SANDBOX_WEAK ? WIRE_NO_FILTER : 0;
	return rc < 0 ? rc : filter();
}

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/sandbox.h
 * @brief What a helper program gives up before it looks at what strangers have sent.
 *
 * For programs, not for plugins: it cannot be undone, and it holds for the whole process.  Header
 * only; needs libseccomp.  All return 0 or -errno.
 *
 *     chatd_sandbox_limit(RLIMIT_CORE, 0); ...
 *     chatd_sandbox_alone();
 *     chatd_sandbox_files(readable);
 *     chatd_sandbox_begin(&c, SCMP_ACT_KILL_PROCESS);
 *     chatd_sandbox_allow(c, calls, n); ... chatd_sandbox_enforce(c);
 */
#ifndef CHATD_SDK_SANDBOX_H
#define CHATD_SDK_SANDBOX_H

#ifndef _GNU_SOURCE
#error "chatd-sdk/sandbox.h needs -D_GNU_SOURCE"
#endif
#ifdef __cplusplus
#error "chatd-sdk/sandbox.h is for C"
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sanitizers need terabytes of addresses, and calls of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHATD_SANDBOX_WEAK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CHATD_SANDBOX_WEAK 1
#endif
#endif
#ifndef CHATD_SANDBOX_WEAK
#define CHATD_SANDBOX_WEAK 0
#endif

static inline int chatd_sandbox_limit(int what, int64_t most)
{
	const struct rlimit r = { (rlim_t)most, (rlim_t)most };
	return setrlimit((__rlimit_resource_t)what, &r) < 0 ? -errno : 0;
}

/** Nothing that it starts may do more than it; nobody but root may look into it. */
static inline int chatd_sandbox_alone(void)
{
	int good =
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
	return good ? 0 : -errno;
}

/* ---- files: Landlock ----------------------------------------------------------------------- */

/* A path that is not there is none that could be read. */
static inline int chatd_sandbox_file(int rules, const char *path)
{
	struct stat st;
	struct landlock_path_beneath_attr may = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE };
	may.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (may.parent_fd < 0) {
		return 0;
	}
	if (fstat(may.parent_fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		may.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
	}
	long rc = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &may, 0);
	int err = errno;
	close(may.parent_fd);
	return rc < 0 ? -err : 0;
}

/** Only these files, and what is below these folders, may be opened, and only to be read; after
 *  chatd_sandbox_alone().  A file that takes the place of another one later is another file.
 *  -ENOSYS, -EOPNOTSUPP: this kernel has no Landlock, or it is switched off. */
static inline int chatd_sandbox_files(const char *const *paths, size_t n)
{
	/* All that the first version knows, which later ones know too. */
	const struct landlock_ruleset_attr all = { .handled_access_fs =
													   (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
	int rc = 0, rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules < 0) {
		return -errno;
	}
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = chatd_sandbox_file(rules, paths[i]);
	}
	if (rc == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0) {
		rc = -errno;
	}
	close(rules);
	return rc;
}

/* ---- calls: seccomp ------------------------------------------------------------------------ */

/** @p otherwise: what becomes of a call that is not allowed. */
static inline int chatd_sandbox_begin(scmp_filter_ctx *ret, uint32_t otherwise)
{
	*ret = seccomp_init(otherwise);
	return *ret ? 0 : -ENOMEM;
}

/** Whatever their arguments are. */
static inline int chatd_sandbox_allow(scmp_filter_ctx c, const int *calls, size_t n)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = seccomp_rule_add(c, SCMP_ACT_ALLOW, calls[i], 0);
	}
	return rc;
}

/** From now on; with a sanitizer never. */
static inline int chatd_sandbox_enforce(scmp_filter_ctx c)
{
	int rc = CHATD_SANDBOX_WEAK ? 0 : seccomp_load(c);
	seccomp_release(c);
	return rc;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/spawn.h
 * @brief Starts a program that gets what it is given and nothing else of the server.  Header only.
 */
#ifndef CHATD_SDK_SPAWN_H
#define CHATD_SDK_SPAWN_H

#ifndef _GNU_SOURCE
#error "chatd-sdk/spawn.h needs -D_GNU_SOURCE"
#endif
#ifdef __cplusplus
#error "chatd-sdk/spawn.h is for C"
#endif

#include <chatd/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct chatd_spawn {
	const char *const *argv; /**< NULL-terminated */
	const char *path;        /**< its $PATH; NULL: its environment is empty */
	int in, out;             /**< its standard input and output; -1: none */
	pid_t pid;               /**< is returned */
	int pidfd;               /**< likewise: readable once it has ended; to close() */
};

#define CHATD_SPAWN_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static inline int chatd_spawn_files(posix_spawn_file_actions_t *a, const struct chatd_spawn *s)
{
	int rc = s->in >= 0 ? posix_spawn_file_actions_adddup2(a, s->in, 0)
						: posix_spawn_file_actions_addopen(a, 0, "/dev/null", O_RDONLY, 0);
	if (rc == 0) {
		rc = s->out >= 0 ? posix_spawn_file_actions_adddup2(a, s->out, 1)
						 : posix_spawn_file_actions_addopen(a, 1, "/dev/null", O_WRONLY, 0);
	}
	rc = rc ? rc : posix_spawn_file_actions_addopen(a, 2, "/dev/null", O_WRONLY, 0);
	return rc ? rc : posix_spawn_file_actions_addclosefrom_np(a, 3);
}

static inline int chatd_spawn_run(struct chatd_spawn *s, posix_spawn_file_actions_t *files)
{
	char *const env[] = { (char *)(uintptr_t)s->path, NULL };
	posix_spawnattr_t attr;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0); /* so that what it starts can be ended with it */
	posix_spawnattr_setflags(
			&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int rc = posix_spawn(&s->pid, s->argv[0], files, &attr, (char *const *)(uintptr_t)s->argv, env);
	posix_spawnattr_destroy(&attr);
	return rc;
}

/** 0, or -errno; in a process group of its own. */
static inline chatd_status chatd_spawn(struct chatd_spawn *s)
{
	posix_spawn_file_actions_t files;
	int rc = posix_spawn_file_actions_init(&files);
	if (rc) {
		return -rc;
	}
	rc = chatd_spawn_files(&files, s);
	rc = rc ? rc : chatd_spawn_run(s, &files);
	posix_spawn_file_actions_destroy(&files);
	if (rc) {
		return -rc;
	}
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	if (s->pidfd < 0) {
		rc = errno;
		kill(-s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	return -rc;
}

#endif

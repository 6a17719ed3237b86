/* SPDX-License-Identifier: Apache-2.0 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static chatd_status start(const char *const *argv, int in, int out, pid_t *ret)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char *const env[] = { path, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_adddup2(&actions, in, 0);
	if (out >= 0) {
		posix_spawn_file_actions_adddup2(&actions, out, 1);
	} else {
		posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	}
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0); /* so that what it starts can be ended with it */
	posix_spawnattr_setflags(
			&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	int rc = posix_spawn(ret, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

chatd_status spawn_program(const char *const *argv, int in, int out, pid_t *ret_pid, int *ret_pidfd)
{
	chatd_status rc = start(argv, in, out, ret_pid);
	if (rc < 0) {
		return rc;
	}
	*ret_pidfd = (int)syscall(SYS_pidfd_open, *ret_pid, 0);
	if (*ret_pidfd < 0) {
		rc = -errno;
		kill(-*ret_pid, SIGKILL);
		waitpid(*ret_pid, NULL, 0);
	}
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "host/notify.h"

#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fd = -1;
static int64_t watchdog_ms;

static void complain(const char *path, const char *why)
{
	log_write(CHATD_LOG_WARN, "core",
			"the service manager cannot be told how the server is: NOTIFY_SOCKET \"%s\": %s", path,
			why);
}

/* "@name" is a socket without a file. */
static int dial(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	if ((path[0] != '/' && path[0] != '@') || n >= sizeof(to.sun_path)) {
		complain(path, "this is no address of a unix socket");
		return -1;
	}
	memcpy(to.sun_path, path, n);
	if (path[0] == '@') {
		to.sun_path[0] = '\0';
	}
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (s < 0 || connect(s, (const struct sockaddr *)&to, len) < 0) {
		complain(path, strerror(errno));
		if (s >= 0) {
			close(s);
		}
		return -1;
	}
	return s;
}

static void read_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us = 0, whom = 0;
	if (!usec || str_u64(str_of(usec), &us) < 0 || us < 1000) {
		return;
	}
	if (pid && (str_u64(str_of(pid), &whom) < 0 || whom != (uint64_t)getpid())) {
		return;
	}
	watchdog_ms = (int64_t)(us / 1000);
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (path && *path) {
		fd = dial(path);
		read_watchdog();
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

int notify_is_open(void)
{
	return fd >= 0;
}

int notify_send(const char *lines)
{
	if (fd < 0) {
		return 0;
	}
	if (send(fd, lines, strlen(lines), MSG_NOSIGNAL) < 0) {
		int rc = -errno;
		log_limited(CHATD_LOG_WARN, "core", "notify",
				"the service manager did not take \"%.20s\": %s", lines, strerror(-rc));
		return rc;
	}
	return 0;
}

void notify_reloading(void)
{
	struct timespec ts;
	char lines[64];
	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%lld",
			(long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	(void)notify_send(lines);
}

int64_t notify_watchdog_ms(void)
{
	return fd < 0 ? 0 : watchdog_ms;
}

void notify_close(void)
{
	if (fd >= 0) {
		close(fd);
		fd = -1;
	}
}

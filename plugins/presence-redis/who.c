/* SPDX-License-Identifier: Apache-2.0 */
/* Which process holds a lease, and whether it still lives. */
#include "presence.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void read_line(const char *path, char *room, size_t n)
{
	FILE *f = fopen(path, "re");
	room[0] = '\0';
	if (f) {
		if (!fgets(room, (int)n, f)) {
			room[0] = '\0';
		}
		fclose(f);
	}
	room[strcspn(room, "\n")] = '\0';
}

/* A process is known by its number and the time of its start, in ticks since the boot: the
 * 22nd word, counted from behind the name, which may hold anything. */
static void start_of(int64_t pid, char room[24])
{
	char path[64], line[1024];
	snprintf(path, sizeof(path), "/proc/%" PRId64 "/stat", pid);
	read_line(path, line, sizeof(line));
	const char *at = strrchr(line, ')');
	snprintf(room, 24, "-");
	for (int word = 2; at && word < 22; word++) {
		at = strchr(at + 1, ' ');
	}
	if (at) {
		snprintf(room, 24, "%.*s", (int)strspn(at + 1, "0123456789"), at + 1);
	}
}

/* Numbers of processes mean something within one boot and one namespace. */
static void boot_of(char room[80])
{
	char id[48];
	struct stat st;
	read_line("/proc/sys/kernel/random/boot_id", id, sizeof(id));
	unsigned long long space = stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
	snprintf(room, 80, "%s/%llu", id[0] ? id : "-", space);
}

static void host_of(char room[128])
{
	if (gethostname(room, 128) != 0) {
		snprintf(room, 128, "-");
	}
	room[127] = '\0';
	for (char *c = room; *c; c++) {
		if (*c <= ' ' || *c > '~') {
			*c = '_';
		}
	}
	if (!room[0]) {
		snprintf(room, 128, "-");
	}
}

void who_am_i(char room[WHO_MAX])
{
	char host[128], boot[80], start[24];
	host_of(host);
	boot_of(boot);
	start_of(getpid(), start);
	snprintf(room, WHO_MAX, "%.100s %.79s %d %.23s", host, boot, (int)getpid(), start);
}

int lease_parse(struct chatd_str text, struct lease *ret)
{
	char room[512];
	if (!text.p || text.n >= sizeof(room) || memchr(text.p, '\0', text.n)) {
		return 0;
	}
	memcpy(room, text.p, text.n);
	room[text.n] = '\0';
	*ret = (struct lease){ .until = 0 };
	return sscanf(room,
				   "%15" SCNd64 " %15" SCNd64 " %15" SCNd64 " %63s %127s %79s %15" SCNd64 " %23s",
				   &ret->until, &ret->epoch, &ret->since, ret->instance, ret->host, ret->boot,
				   &ret->pid, ret->start) == 8;
}

int lease_is_dead(const struct lease *l)
{
	char host[128], boot[80], start[24];
	host_of(host);
	boot_of(boot);
	if (strncmp(l->host, host, 100) != 0 || strcmp(l->boot, boot) != 0 || l->pid <= 0) {
		return 0;
	}
	start_of(l->pid, start);
	return strcmp(l->start, start) != 0 || l->pid == getpid();
}

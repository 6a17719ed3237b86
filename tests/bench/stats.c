/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* 64 buckets for each power of two; values below 64 have one each. */
static unsigned bucket_of(uint64_t v)
{
	unsigned shift;

	if (v < 64)
		return (unsigned)v;
	shift = 63u - (unsigned)__builtin_clzll(v) - 6u;
	return (shift + 1) * 64 + (unsigned)(v >> shift & 63);
}

static uint64_t value_of(unsigned bucket)
{
	if (bucket < 64)
		return bucket;
	return (64 + (uint64_t)(bucket & 63)) << (bucket / 64 - 1);
}

void stats_record(struct stats_hist *h, uint64_t ns)
{
	h->bucket[bucket_of(ns)]++;
	h->count++;
}

double stats_quantile(const struct stats_hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->count);
	uint64_t seen = 0;

	if (h->count == 0)
		return 0;
	if (want >= h->count)
		want = h->count - 1;
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > want)
			return (double)value_of(i) / 1000.0;
	}
	return 0;
}

uint64_t stats_cpu(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	/* The scheduler's own nanoseconds; the ticks of /proc/PID/stat are 10 ms wide. */
	if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool stats_group_parse(struct stats_group *g, char *text)
{
	char *at = strchr(text, '=');

	if (!at || at == text)
		return false;
	*at++ = '\0';
	*g = (struct stats_group){ .name = text };
	while (g->n < STATS_PIDS) {
		char *end;
		long pid = strtol(at, &end, 10);
		if (end == at || pid <= 0 || (*end != ',' && *end != '\0'))
			return false;
		g->pid[g->n++] = (pid_t)pid;
		if (*end == '\0')
			return true;
		at = end + 1;
	}
	return false;
}

void stats_group_begin(struct stats_group *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		g->cpu[i] = stats_cpu(g->pid[i]);
}

void stats_group_end(struct stats_group *g)
{
	for (uint32_t i = 0; i < g->n; i++) {
		uint64_t now = stats_cpu(g->pid[i]);
		/* One that has ended meanwhile is not known any more. */
		g->cpu[i] = now > g->cpu[i] ? now - g->cpu[i] : 0;
	}
}

uint64_t stats_group_cpu(const struct stats_group *g)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < g->n; i++)
		sum += g->cpu[i];
	return sum;
}

struct stats_memory stats_memory(pid_t pid)
{
	struct stats_memory m = { -1, -1 };
	char line[256];
	FILE *f;

	if (pid <= 0)
		return m;
	snprintf(line, sizeof line, "/proc/%ld/smaps_rollup", (long)pid);
	f = fopen(line, "r");
	if (!f)
		return m;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "Pss: %" SCNd64, &m.pss_kb) == 1)
			continue;
		sscanf(line, "Rss: %" SCNd64, &m.rss_kb);
	}
	fclose(f);
	return m;
}

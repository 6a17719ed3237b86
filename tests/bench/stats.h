/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the load generator measures: latencies in a histogram of fixed size (1.6% wide buckets),
 * and the CPU time and memory of the server's process, read from the kernel at the moment a phase
 * begins and ends.
 */
#ifndef CHATD_BENCH_STATS_H
#define CHATD_BENCH_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STATS_BUCKETS 3840
#define STATS_PIDS    64

struct stats_hist {
	uint64_t count;
	uint64_t bucket[STATS_BUCKETS];
};

struct stats_memory {
	int64_t pss_kb, rss_kb; /* -1 when it cannot be read */
};

void stats_record(struct stats_hist *h, uint64_t ns);

/* The value, in microseconds, that the share q (0 to 1) of the records does not exceed. */
double stats_quantile(const struct stats_hist *h, double q);

/* CPU time of all threads of a process, those that have ended too, in ns; 0 when unknown. */
uint64_t stats_cpu(pid_t pid);

/* Processes whose CPU time is one figure: the nodes of a cluster, or a back end and its helpers. */
struct stats_group {
	char *name;
	pid_t pid[STATS_PIDS];
	uint32_t n;
	uint64_t cpu[STATS_PIDS]; /* ns since begin, after end */
};

/* "NAME=PID,PID,...". False: it is not. */
bool stats_group_parse(struct stats_group *g, char *text);
void stats_group_begin(struct stats_group *g);
void stats_group_end(struct stats_group *g);
uint64_t stats_group_cpu(const struct stats_group *g);

struct stats_memory stats_memory(pid_t pid);

#endif

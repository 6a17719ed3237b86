/* SPDX-License-Identifier: Apache-2.0 */
/* What core/loop counts, as numbers of chatd.stats/1. */
#include "chat/stats.h"
#include "host/instance.h"
#include "loop/net.h"
#include "loop/worker.h"

#define READ(name, field)                           \
	static int64_t name(void *arg, chatd_worker *w) \
	{                                               \
		(void)arg;                                  \
		return (int64_t)net_stats(w)->field;        \
	}
READ(read_open, open)
READ(read_queued, queued)
READ(read_accepted, accepted)
READ(read_refused, refused)
READ(read_slow, slow)
READ(read_in, read)
READ(read_out, written)

static int64_t read_backlog(void *arg, chatd_worker *w)
{
	(void)arg;
	return worker_backlog(w);
}

static int64_t read_stalls(void *arg, chatd_worker *w)
{
	(void)arg;
	return worker_stalls(w);
}

static const struct {
	int32_t kind;
	const char *name, *help;
	int64_t (*read)(void *arg, chatd_worker *);
} numbers[] = {
	{ CHATD_STAT_GAUGE, "chatd_connections", "Connections of clients, also those that are closing.",
			read_open },
	{ CHATD_STAT_GAUGE, "chatd_queued_bytes", "Bytes that wait for clients to read them.",
			read_queued },
	{ CHATD_STAT_COUNTER, "chatd_connections_accepted_total", "Connections that were accepted.",
			read_accepted },
	{ CHATD_STAT_COUNTER, "chatd_connections_refused_total",
			"Connections that were refused: too few descriptors, a bad PROXY header, failed TLS.",
			read_refused },
	{ CHATD_STAT_COUNTER, "chatd_connections_slow_total",
			"Connections that were ended because the client did not read.", read_slow },
	{ CHATD_STAT_COUNTER, "chatd_received_bytes_total", "Bytes read from clients.", read_in },
	{ CHATD_STAT_COUNTER, "chatd_sent_bytes_total", "Bytes given to the kernel for clients.",
			read_out },
	{ CHATD_STAT_GAUGE, "chatd_worker_backlog", "Posts that wait in the workers' mailboxes.",
			read_backlog },
	{ CHATD_STAT_COUNTER, "chatd_worker_stalls_total",
			"Callbacks that held a worker longer than the watchdog allows.", read_stalls },
};

int numbers_define(struct chat *chat)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const struct chatd_stat_def d = { .struct_size = sizeof(d),
			.kind = numbers[i].kind,
			.name = numbers[i].name,
			.help = numbers[i].help,
			.read = numbers[i].read };
		uint32_t id;
		int rc = stat_define(chat->stats, &d, &id);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/stats.h
 * @brief What the core counts, and the service chatd.stats/1.
 *
 * Each worker has numbers of its own, plain ones: they are read by asking it.
 */
#ifndef CHAT_STATS_H
#define CHAT_STATS_H

#include "chat/chat.h"

#include <chatd/stats.h>

/* X(name here, kind, name outside, help) */
#define CHAT_STATS(X)                                                                        \
	X(SESSIONS, GAUGE, "chatd_sessions", "Sessions that are logged in.")                     \
	X(LOGINS, COUNTER, "chatd_logins_total", "Sessions that have logged in.")                \
	X(LOGINS_REFUSED, COUNTER, "chatd_logins_refused_total", "Logins that were refused.")    \
	X(SUBSCRIPTIONS, GAUGE, "chatd_subscriptions", "Subscriptions.")                         \
	X(RECEIVED, COUNTER, "chatd_messages_received_total", "SENDs of clients.")               \
	X(REFUSED, COUNTER, "chatd_messages_refused_total", "SENDs that were refused.")          \
	X(PUBLISHED, COUNTER, "chatd_messages_published_total",                                  \
			"Messages that were given to a destination.")                                    \
	X(DELIVERED, COUNTER, "chatd_deliveries_total", "Messages that were given to a client.") \
	X(SKIPPED, COUNTER, "chatd_deliveries_skipped_total",                                    \
			"Ephemeral messages that a slow client was spared.")                             \
	X(TIMEOUTS, COUNTER, "chatd_hook_timeouts_total", "Hooks that did not answer in time.")

/* Codes of /user/queue/errors that are counted by themselves. */
#define CHAT_REJECTIONS(X)   \
	X(FORBIDDEN)             \
	X(RATE_LIMIT_EXCEEDED)   \
	X(NOT_MEMBER)            \
	X(BLOCKED)               \
	X(MUTED)                 \
	X(SLOW_MODE)             \
	X(READ_ONLY)             \
	X(NOT_FOUND)             \
	X(VALIDATION)            \
	X(DUPLICATE_ID_MISMATCH) \
	X(STORE_BUSY)            \
	X(STORE_FULL)            \
	X(OTHER)

enum chat_stat {
#define CHATD_X(id, kind, name, help) STAT_##id,
	CHAT_STATS(CHATD_X)
#undef CHATD_X
#define CHATD_X(code) STAT_REJECTED_##code,
			CHAT_REJECTIONS(CHATD_X)
#undef CHATD_X
					STAT_COUNT
};

/** [any] Of the counter chatd_rejected_total; @p code: an outcome's, or NULL. */
enum chat_stat stat_of_rejection(const char *code);

struct stat_table; /**< of the server: what there is */

struct stat_table *stat_table_create(void); /**< NULL: no memory */
void stat_table_destroy(struct stat_table *);
/** [main] Each worker gets its numbers; nothing is defined any more.  -ENOMEM. */
int stat_table_freeze(struct chat *);
/** [main] For what the layers around define; names must outlive the table. */
chatd_status stat_define(struct stat_table *, const struct chatd_stat_def *, uint32_t *ret_id);

/** [worker] */
static inline void stat_add(struct chat_worker *cw, uint32_t id, int64_t n)
{
	cw->stats[id] += n;
}

extern const struct chatd_stats chat_stats_vt; /**< obj = chat */

#endif

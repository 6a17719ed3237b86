/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/chat.h
 * @brief What the parts of core/chat share: the frozen tables and the worker's state.
 *
 * struct chat is written on [main] before the workers start and read-only from then on.
 * struct chat_worker belongs to its worker; other threads reach it by post alone, but
 * for the slots of parked calls, which are claimed atomically.
 */
#ifndef CHAT_CHAT_H
#define CHAT_CHAT_H

#include "chat/chain.h"

#include <chatd/plugin.h>
#include <chatd/transport.h>

#include <stdatomic.h>

struct loop;
struct dest_table;
struct session_table;
struct user_table;

struct chat_conf {
	int64_t max_subscriptions; /**< per session */
	int64_t max_suspended;     /**< parked calls per worker */
	int64_t soft_queue;        /**< bytes waiting over which ephemeral messages are dropped */
};

struct chat_prefix {
	const char *prefix;
	size_t n;
	struct chatd_dest_conf conf;
	const char *who;
};

struct chat_app {
	const char *name;
	struct chain_hook hook;
};

struct chat_worker {
	struct chat *chat;
	chatd_worker *w;
	int32_t index;
	void **wself; /**< by instance */
	struct call_slots *slots;
	struct dest_table *dests;
	struct session_table *sessions;
	struct user_table *users;
	int32_t in_hooks;       /**< how many calls of hooks and handlers are on the stack */
	int64_t *stats;         /**< stats.h: one number for each that is defined */
	atomic_long n_sessions; /**< written by the worker, read by whoever wants to know */
};

struct chat {
	struct chat_conf conf;
	struct chain chains[chatd_hook_count];
	struct chat_prefix *prefixes; /**< longest first */
	size_t n_prefixes;
	struct chat_app *apps; /**< sorted by name */
	size_t n_apps;
	size_t slot_bytes; /**< of session slots, behind each session */
	uint32_t n_slots;
	struct {
		uint32_t offset;
		void (*drop)(void *slot);
	} * slot;
	struct stat_table *stats;
	struct chatd_router router; /* struct_size 0: there is none */
	void *router_self;
	const char *router_who;
	struct chat_worker *workers;
	int32_t n_workers;
};

/** [main] @p chat's tables are the caller's to fill until chat_start(). */
struct chat *chat_create(const struct chat_conf *, struct loop *); /**< NULL: no memory */
chatd_status chat_start(struct chat *); /**< sort and freeze; before the workers see traffic */
void chat_destroy(struct chat *);       /**< after the workers have ended */
/** [worker] Close every session that is left. */
void chat_worker_finish(struct chat_worker *);
long chat_session_count(const struct chat *); /**< [any] */

/** The chat state of a worker.  [any], constant after start */
struct chat_worker *chat_at(chatd_worker *);

extern const struct chatd_sessions chat_sessions_vt; /**< service chatd.sessions/1, obj = chat */

#endif

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

/* A frozen table.  A change makes another one and puts it in the place of this one, which stays:
 * walks that have begun go on along it. */
struct chat_table {
	struct chain chains[chatd_hook_count];
	struct chat_app *apps; /**< sorted by name */
	size_t n_apps;
	struct chat_table *before;
};

/* What the sessions that began since some instant go by.  Usually there is one.  When a plugin is
 * replaced by a newer version of it, those that are there keep their view, and with it the old
 * version; all others go by a new one. */
struct chat_view {
	_Atomic(struct chat_table *) table;
	_Atomic(struct chat_view *) older; /**< which still has sessions, perhaps */
	atomic_long sessions;
};

/* The walks that a worker has begun since it heard of a table; in its order, the youngest first. */
struct chat_epoch {
	struct chat_epoch *before;
	int64_t walks; /**< under way */
};

enum { SLOTS_MAX = 64 };
#define SLOT_VACANT UINT32_MAX /* no enum: those are ints */

/* A plugin's memory in each session. */
struct chat_slot {
	uint32_t offset; /**< of those behind the session */
	uint32_t inst;   /**< whose; SLOT_VACANT: its owner has gone  [main] */
	size_t size;
	void (*_Atomic drop)(void *slot);
};

/* What an instance did on a worker. */
struct chat_count {
	int64_t calls; /**< without those since the last one that was measured: chat_count_calls() */
	int64_t errors, timeouts, slow, busy_ns;
	int32_t batch, left; /**< calls that are not measured: how many in a row, and those to come */
	int64_t holds;       /**< requests and the like that are under way for it elsewhere */
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
	struct chat_count *counts; /**< by instance; NULL: nobody counts */
	uint32_t n_counts;
	struct chat_epoch *epoch, first_epoch;
	uint64_t hooked;        /**< bits by hook: those in some view, when the worker last heard */
	int32_t in_hooks;       /**< how many calls of hooks and handlers are on the stack */
	int64_t *stats;         /**< stats.h: one number for each that is defined */
	atomic_long n_sessions; /**< written by the worker, read by whoever wants to know */
};

/* What the layer above knows of instances, which come and go.  [any] but for what is [main]. */
struct chat_owners {
	int (*counts)(
			const chatd_ctx *); /**< 2: it takes part; 1: for sessions that began with it; 0 */
	int (*stays)(const chatd_ctx *, const chatd_ctx *beside); /**< [main] as chatd_plugins.stays */
	int (*ended)(const chatd_ctx *);                          /**< [main] as chatd_plugins.ended */
	int (*begins)(const chatd_ctx *);                         /**< [main] its init() runs */
};

struct chat {
	struct chat_conf conf;
	struct chain chains[chatd_hook_count]; /**< likewise */
	struct chat_prefix *prefixes;          /**< longest first */
	size_t n_prefixes;
	struct chat_app *apps; /**< both until chat_start(), which makes the first table of them */
	size_t n_apps;
	_Atomic(struct chat_table *) table; /**< of the newest view */
	_Atomic(struct chat_view *) view;   /**< the newest one */
	struct chat_view *views_gone;       /**< without sessions; a worker may look at them still */
	size_t slot_bytes;                  /**< of session slots, behind each session */
	uint32_t n_inline;                  /**< of the slots: those there; others came later */
	int slots_frozen;
	_Atomic uint32_t n_slots;
	struct chat_slot slot[SLOTS_MAX];
	struct stat_table *stats;
	const struct chat_owners *owners; /* NULL: nobody comes and goes */
	struct chatd_router router;       /* struct_size 0: there is none */
	void *router_self;
	const char *router_who;
	struct chat_worker *workers;
	int32_t n_workers;
};

/** [main] @p chat's tables are the caller's to fill until chat_start(). */
struct chat *chat_create(const struct chat_conf *, struct loop *); /**< NULL: no memory */
chatd_status chat_start(struct chat *); /**< sort and freeze; before the workers see traffic */
void chat_destroy(struct chat *);       /**< after the workers have ended */
/** [any] The chain as it is now. */
static inline const struct chain *chat_chain(const struct chat *chat, int hook)
{
	return &atomic_load_explicit(&chat->table, memory_order_acquire)->chains[hook];
}
/** [worker] Whether anybody may be in that chain: one load where nobody is. */
static inline int chat_has(const struct chat_worker *cw, int hook)
{
	return (int)(cw->hooked >> hook & 1);
}
static inline int64_t chat_count_calls(const struct chat_count *c)
{
	return c->calls + c->batch - c->left;
}
enum { CHAT_COUNT_SAMPLE = 64, CHAT_COUNT_QUICK_NS = 10000 };
int64_t chat_clock_ns(void); /**< [any] what calls are measured by */
/** One call begins.  How many it stands for if it is to be measured, see chat_count_end(); else 0.
 *  A clock that is read twice costs more than most calls: of quick ones each 64th is measured and
 *  stands for the others; slow ones are measured each time. */
static inline int64_t chat_count_begin(struct chat_count *n)
{
	if (n->left-- > 0) {
		return 0;
	}
	int64_t stands_for = n->batch + 1;
	n->left = 0;
	n->calls += stands_for;
	n->batch = 0;
	return stands_for;
}
static inline void chat_count_end(struct chat_count *n, int64_t stands_for, int64_t took)
{
	n->busy_ns += took * stands_for;
	n->calls += n->batch - n->left; /* it may have been called within itself */
	n->batch = took < CHAT_COUNT_QUICK_NS ? CHAT_COUNT_SAMPLE - 1 : 0;
	n->left = n->batch;
}
/** [main] A copy of the present table, to be changed and given to chat_change().  NULL: no memory. */
struct chat_table *chat_table_copy(const struct chat *);
struct chat_table *chat_table_copy_of(const struct chat_table *);
void chat_table_free(struct chat_table *); /**< one that was not given */
/** [main] Sorts it; from now on new walks of sessions of the newest view, and of no session, go
 *  along it. */
void chat_change(struct chat *, struct chat_table *);
/** [main] The same for those of @p view. */
void chat_view_change(struct chat *, struct chat_view *, struct chat_table *);
/** [main] Sessions that begin from now on, and what belongs to no session, go by @p fresh, which is
 *  zeroed and becomes the chat's, and its table.  No session is counted to an older view once each
 *  worker has been told (chat_epoch_begin()). */
void chat_view_begin(struct chat *, struct chat_view *fresh, struct chat_table *);
/** [main] Older views that have no session are let go.  Returns how many views are left. */
int chat_views_tidy(struct chat *);
/** [worker] To be told of each change: until then it leaves out the chains that were empty, and what
 *  begins from now on belongs to another epoch.  The memory, zeroed, becomes the worker's. */
void chat_epoch_begin(struct chat_worker *, struct chat_epoch *);
/** [worker] Walks under way that began before the last chat_epoch_begin(). */
int64_t chat_epoch_left(const struct chat_worker *);
/** [worker] Close every session that is left. */
void chat_worker_finish(struct chat_worker *);
long chat_session_count(const struct chat *); /**< [any] */

/** The chat state of a worker.  [any], constant after start */
struct chat_worker *chat_at(chatd_worker *);

extern const struct chatd_sessions chat_sessions_vt; /**< service chatd.sessions/1, obj = chat */

#endif

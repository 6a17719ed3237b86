/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/presence.h
 * @brief Who is online.
 *
 * A user is online while at least one session of theirs is; tabs and devices add
 * up.  Provided by "presence-memory" (one node) and "presence-redis" (a cluster).
 */
#ifndef CHATD_PRESENCE_H
#define CHATD_PRESENCE_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_PRESENCE "chatd.presence/1"

/** [worker] rc 0: @p online[i] is 1 or 0 for the i-th user asked about.  Runs once,
 *  on the worker that asked, never inside get().  rc < 0: it is not known now. */
typedef void chatd_presence_fn(void *arg, chatd_status rc, const int32_t *online, size_t n);

/** [worker, any of them] @p user came (1) or went (0).  One event per transition. */
typedef void chatd_presence_event(void *arg, chatd_worker *, struct chatd_str user, int32_t online);

/** [worker] rc 0: the other nodes of the cluster on which sessions of those users are, each
 *  once.  rc < 0: it is not known now.  Runs once, on the worker that asked, never inside. */
typedef void chatd_presence_nodes_fn(
		void *arg, chatd_status rc, const struct chatd_str *nodes, size_t n);

/* What others see of a user.  Each device says something; of those that count, also on other
 * nodes, the busy one decides, then one that is online: away is whose devices all are.  The text
 * is the one said last among the devices that say what was decided. */
enum {
	CHATD_PRESENCE_UNKNOWN = 0, /**< not known now, and the rest of the state neither */
	CHATD_PRESENCE_OFFLINE = 1,
	CHATD_PRESENCE_ONLINE = 2,
	CHATD_PRESENCE_AWAY = 3,
	CHATD_PRESENCE_BUSY = 4,
};
enum { CHATD_PRESENCE_TEXT_MAX = 512 }; /**< bytes */

struct chatd_presence_state { /**< borrowed for the callback */
	uint32_t struct_size;
	int32_t status;    /**< CHATD_PRESENCE_* */
	int64_t since;     /**< wall-clock ms: the status is this one since then; 0: not known */
	int64_t last_seen; /**< of who is offline: wall-clock ms; 0: not known, or not told */
	/** Grows with each change of this user's state; 0: not known.  What was asked for may come
	 *  earlier or later than a change that was told: the higher one is the newer one. */
	int64_t version;
	struct chatd_str text; /**< UTF-8; .p NULL: none */
};

/** [worker] rc 0: the state of the i-th user asked about.  Runs once, on the worker that asked,
 *  never inside look(). */
typedef void chatd_presence_states_fn(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n);

/** [worker] rc 0: others see it; -EAGAIN: they will, once it can be told to other nodes; -ENOENT:
 *  the session has gone.  Runs once, on the worker that asked, never inside set(). */
typedef void chatd_presence_set_fn(void *arg, chatd_status rc);

/** What a session says of its user, until it ends. */
struct chatd_presence_word {
	uint32_t struct_size;
	int32_t status; /**< CHATD_PRESENCE_ONLINE, _AWAY or _BUSY */
	chatd_sid session;
	struct chatd_str user;
	struct chatd_str text; /**< at most CHATD_PRESENCE_TEXT_MAX bytes; .p NULL: none */
};

/** Hears what becomes of everybody.  [worker, any of them, of one user always the same] */
struct chatd_presence_follower {
	uint32_t struct_size;
	/** The state of @p user is another now: one call per change, in their order. */
	void (*changed)(
			void *arg, chatd_worker *, struct chatd_str user, const struct chatd_presence_state *);
	/** Optional.  0: changes on other nodes are not heard of for the time being.  1: they are again;
	 *  some may never be told: ask with look().  Providers for one node never call it. */
	void (*known)(void *arg, chatd_worker *, int32_t known);
	void *arg;
};

struct chatd_presence {
	uint32_t struct_size;
	/** [worker] Ask about @p n users (copied).  An error at once means: never fn. */
	chatd_status (*get)(void *obj, chatd_worker *, const struct chatd_str *users, size_t n,
			chatd_presence_fn *fn, void *arg);
	/** [main] In init(): hear of every transition, once on one worker of the server.  In a
	 *  cluster each node hears of all.  It goes with the plugin, as do follow() and log.h's. */
	chatd_status (*watch)(void *obj, chatd_presence_event *fn, void *arg);
	/** [worker] Where @p n users (copied, at most 1000) are besides here; answers come in the
	 *  order of the questions.  NULL in providers for one node. */
	chatd_status (*nodes)(void *obj, chatd_worker *, const struct chatd_str *users, size_t n,
			chatd_presence_nodes_fn *fn, void *arg);
	/** [any] How many nodes there are, this one among them, as it was seen last; 0: never yet.
	 *  NULL in providers for one node. */
	int32_t (*live)(void *obj);
	/* NULL in providers that know nothing but who is online: */
	/** [worker] As get(), about all that others may see; at most 1000 users. */
	chatd_status (*look)(void *obj, chatd_worker *, const struct chatd_str *users, size_t n,
			chatd_presence_states_fn *fn, void *arg);
	/** [worker] Of a session of this worker that is open.  Copied.  -EINVAL. */
	chatd_status (*set)(void *obj, chatd_worker *, const struct chatd_presence_word *,
			chatd_presence_set_fn *fn, void *arg);
	/** [main] In init().  Copied. */
	chatd_status (*follow)(void *obj, const struct chatd_presence_follower *);
};

#ifdef __cplusplus
}
#endif
#endif

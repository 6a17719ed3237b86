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

struct chatd_presence {
	uint32_t struct_size;
	/** [worker] Ask about @p n users (copied).  An error at once means: never fn. */
	chatd_status (*get)(void *obj, chatd_worker *, const struct chatd_str *users, size_t n,
			chatd_presence_fn *fn, void *arg);
	/** [main] In init(): hear of every transition, once on one worker of the server.  In a
	 *  cluster each node hears of all. */
	chatd_status (*watch)(void *obj, chatd_presence_event *fn, void *arg);
	/** [worker] Where @p n users (copied, at most 1000) are besides here; answers come in the
	 *  order of the questions.  NULL in providers for one node. */
	chatd_status (*nodes)(void *obj, chatd_worker *, const struct chatd_str *users, size_t n,
			chatd_presence_nodes_fn *fn, void *arg);
	/** [any] How many nodes there are, this one among them, as it was seen last; 0: never yet.
	 *  NULL in providers for one node. */
	int32_t (*live)(void *obj);
};

#ifdef __cplusplus
}
#endif
#endif

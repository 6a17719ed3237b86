/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/cluster.h
 * @brief Events between the nodes of a cluster.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "route-rabbitmq"; on a single node there is no such service.  It carries what
 * plugins tell their like on other nodes; what publish() and publish_user() carry goes by the
 * same way, see router() in plugin.h.
 *
 * What is sent reaches each node that it is meant for at least once, as long as this process
 * lives and the broker comes back before too much waits; an event that is flagged
 * ::CHATD_CLUSTER_EPHEMERAL at most once, and not at all while the broker is away.  A node never
 * gets its own events.  Events of one sender, kind and key come in the order in which they were
 * sent; after a broken connection some may come again.  So: whoever must not miss anything has it
 * in the store as well and looks there (see `changed` in store.h); and what comes twice must do
 * no harm.
 *
 * What comes in was written by another program and is checked like any input.  Kinds are
 * versioned by their users: "row", "row2" ...; a kind that nobody receives is counted and dropped,
 * so nodes of two releases run side by side.
 */
#ifndef CHATD_CLUSTER_H
#define CHATD_CLUSTER_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_CLUSTER "chatd.cluster/1"

enum {                       /* whom an event is for */
	CHATD_CLUSTER_ALL = 1,   /**< every node */
	CHATD_CLUSTER_NODE = 2,  /**< .node */
	CHATD_CLUSTER_TOPIC = 3, /**< nodes that have subscribers of .topic */
	CHATD_CLUSTER_USERS = 4, /**< nodes where sessions of .users are; all, when that is not known */
};
enum {
	CHATD_CLUSTER_EPHEMERAL = 1 << 0,
};

struct chatd_cluster_header {
	struct chatd_str name, value; /**< names: [a-z0-9-]{1,64} */
};

struct chatd_cluster_event {
	uint32_t struct_size;
	int32_t to;            /**< CHATD_CLUSTER_* */
	uint32_t flags;        /**< CHATD_CLUSTER_EPHEMERAL */
	struct chatd_str kind; /**< [a-z0-9.-]{1,32} */
	struct chatd_str key;  /**< what order is kept for, up to 255 bytes; .p NULL: none */
	struct chatd_str node, topic;
	const struct chatd_str *users;
	size_t n_users; /**< at most 1000 */
	const struct chatd_cluster_header *headers;
	size_t n_headers;      /**< at most 32 */
	struct chatd_str body; /**< at most 1 MiB */
	struct chatd_str from; /**< of what came in: the node that sent it */
};

/** [worker, see chatd_cluster_receiver.home] Borrowed for the call.  When it returns the event
 *  is done with: it is acknowledged to the broker. */
typedef void chatd_cluster_fn(void *arg, chatd_worker *, const struct chatd_cluster_event *);

struct chatd_cluster_receiver {
	uint32_t struct_size;
	const char *kind; /**< a literal */
	chatd_cluster_fn *fn;
	/** [any] On which worker fn is to run; the same for the same key.  NULL: by the key. */
	chatd_worker *(*home)(void *arg, const struct chatd_cluster_event *);
	/** [worker 0] Optional: the broker is there again (1), or gone (0). */
	void (*link)(void *arg, int32_t up);
	void *arg;
};

/** The value of a header of an event; .p NULL: it has none. */
static inline struct chatd_str chatd_cluster_get(
		const struct chatd_cluster_event *e, struct chatd_str name)
{
	struct chatd_str none = { NULL, 0 };
	for (size_t i = 0; i < e->n_headers; i++) {
		const struct chatd_cluster_header *h = &e->headers[i];
		size_t k = 0;
		while (k < name.n && h->name.n == name.n && h->name.p[k] == name.p[k]) {
			k++;
		}
		if (h->name.n == name.n && k == name.n) {
			return h->value;
		}
	}
	return none;
}

struct chatd_cluster {
	uint32_t struct_size;
	/** [main] In init().  -EEXIST: another plugin receives this kind. */
	chatd_status (*receive)(void *obj, const struct chatd_cluster_receiver *);
	/** [worker] Copied.  -EAGAIN: too much waits for the broker, it was dropped and counted;
	 *  -EINVAL.  done (may be NULL) runs later, once, on this worker, also when the worker
	 *  stops: rc 0, the broker has confirmed it (or no node is meant); else it was dropped. */
	chatd_status (*send)(void *obj, chatd_worker *, const struct chatd_cluster_event *,
			void (*done)(void *arg, chatd_status rc), void *arg);
	int32_t (*is_up)(void *obj); /**< [any] 1: what is sent now gets out now */
	/** [any] For how many milliseconds nothing has come from the broker, which answers every few
	 *  seconds while all is well: it tells sooner than is_up() that it cannot be reached. */
	int64_t (*silent)(void *obj);
};

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file cluster.h
 * @brief Conversations on several nodes.
 *
 * Every row goes to the other nodes as an event of kind "row" (wire.c), straight after its commit.
 * What a node gives to its own subscribers goes through lanes (lanes.c), whatever way it came:
 * so they see one order.  sync.c asks the store now and then what has changed, so that nothing
 * stays missing whatever happens to the broker, and keeps the mark up to which this node's rows
 * were handed over, from which they are sent again.
 */
#ifndef CHAT_CLUSTER_H
#define CHAT_CLUSTER_H

#include "chat.h"
#include "lane.h"

#include <chatd/cluster.h>
#include <chatd/redis.h>

/* Which lane. */
struct lane_name {
	struct chatd_str room; /* .p NULL: of the direct messages of .user */
	struct chatd_str user;
};

/* lanes.c: [worker: the home of the conversation] */
chatd_status lanes_row(struct self *, chatd_worker *, const struct log_row *);
/* Somebody subscribes: from now on rows are kept until lanes_open() says from where on. */
chatd_status lanes_begin(struct self *, chatd_worker *, const struct lane_name *);
void lanes_open(struct self *, chatd_worker *, const struct lane_name *, int64_t last);
/* A session of the user hears its direct messages (1), or no more (-1). */
chatd_status lanes_user(struct self *, chatd_worker *, struct chatd_str user, int32_t more);
void lanes_hint(struct self *, chatd_worker *, const struct lane_name *, int64_t at);
void lanes_tidy(struct worker *); /* forgets what nobody hears */
void lanes_void(struct worker *); /* the store is another one: whoever listens comes again */
void lanes_stop(struct worker *);

/* wire.c */
chatd_status wire_init(struct self *); /* [main] */
/* [worker: the home] To the other nodes. */
chatd_status wire_send(struct self *, chatd_worker *, const struct log_row *,
		void (*done)(void *arg, chatd_status rc), void *arg);
/* Members of a room that may be on other nodes are told that something was said. */
struct told;
void wire_notice(struct self *, chatd_worker *, const struct told *);

/* alone.c: [worker 0] a node that reaches nobody but its clients sends them away. */
chatd_status alone_init(struct self *); /* [main] */
void alone_look(struct self *, chatd_worker *);
void alone_stop(struct self *);
void alone_fini(struct self *); /* [main] */

/* sync.c */
chatd_status sync_init(struct self *); /* [main] */
chatd_status sync_start(struct worker *);
void sync_stop(struct worker *);
void sync_fini(struct self *);
void sync_link(void *self, int32_t up); /* [worker 0] the broker came, or went */
/* [worker: the home] A row of this node: sends it, and notes when it was handed over. */
void sync_send(struct self *, chatd_worker *, const struct log_row *);

/* What the store had to mend, for the numbers of the server. */
enum sync_number { SYNC_RESENT, SYNC_FILLED, SYNC_NUMBERS };
void sync_count(struct self *, chatd_worker *, enum sync_number);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file notice.h
 * @brief Members who do not listen to a room are told that something was said there.
 *
 * notice.c is the home of a room: when it has news, and not again within notice_interval, it
 * goes through the members, a page at a time, and asks each worker whether they are there.
 * listen.c is such a worker: it knows who is subscribed to /user/queue/rooms, and tells those
 * who are not subscribed to the room how much they have not read.  So rooms that nobody waits
 * for cost nothing, and a large one never more than a page at a time.
 */
#ifndef CHAT_NOTICE_H
#define CHAT_NOTICE_H

#include "chat.h"

#include <stdatomic.h>

#define NOTICES "/user/queue/rooms"

enum { NOTICE_PAGE = 256, NOTICE_USERS = 1000, NOTICE_PAUSE_MS = 100, PREVIEW_CHARS = 100 };

/* One page of a room's members, on its way to a worker. */
struct batch {
	struct self *self;
	chatd_worker *w;
	int64_t seq; /* of the newest message */
	size_t n, n_preview;
	char room[CHATD_ID_MAX + 1];
	char (*users)[CHATD_ID_MAX + 1];
	const char *preview; /* JSON */
};

/* What members of a room are to be told; borrowed. */
struct told {
	struct chatd_str room, preview; /* preview: JSON */
	int64_t seq;
	const struct chatd_str *users;
	size_t n; /* at most NOTICE_USERS */
};
/* notice.c: [worker] to all workers of this node */
void notice_hand_out(struct self *, const struct told *);

struct listeners;

/* listen.c: [worker] */
chatd_status listen_init(struct self *); /* [main] */
void listen_stop(struct worker *);
void listen_to(const struct batch *); /* nothing of it is kept */

/* How many sessions listen, on all workers. */
static inline atomic_llong *listen_count(const struct self *self)
{
	return self->listening;
}

#endif

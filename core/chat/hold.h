/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/hold.h
 * @brief A subscription that is held: older messages first, then live, with no hole.
 *
 * A subscribe hook asks for it.  The subscription is made at once, so that nothing is
 * missed, but what is published to it is kept back while the plugin delivers what is
 * older.  At the release the kept messages follow, without those already delivered, and
 * the SUBSCRIBE is answered.  [worker], all of it.
 */
#ifndef CHAT_HOLD_H
#define CHAT_HOLD_H

#include "chat/session.h"

#include <chatd/plugin.h>
#include <chatd/transport.h>

struct hold;

/** What a subscribe hook asked for; in its call. */
struct hold_wish {
	chatd_hold_fn *live;
	void (*drop)(void *arg);
	void *arg;
};

/** NULL: no memory.  The wish is taken over: drop() runs unless live() did. */
struct hold *hold_create(const struct hold_wish *);
/** The subscription counts: run live().  @p done is called at the release. */
void hold_begin(struct sub *, chatd_done *done, void *arg, chatd_msg *reply);
/** 1: @p msg is kept back, or was delivered before; 0: deliver it.  A client that cannot be
 *  given all of it is closed (4010). */
int hold_keep(struct sub *, chatd_msg *msg);
void hold_destroy(struct hold *); /**< NULL is fine */
/** The subscription was ended, but its session goes on: its SUBSCRIBE is refused. */
void hold_end(struct sub *);

/* Behind chatd_host. */
chatd_status hold_send(chatd_worker *, struct chatd_hold, chatd_msg *);
chatd_status hold_reply(
		chatd_worker *, struct chatd_hold, const char *header, struct chatd_str value);
chatd_status hold_release(chatd_worker *, struct chatd_hold, uint64_t after_seq);
chatd_status hold_release_by(chatd_worker *, struct chatd_hold, const char *header, uint64_t after);

#endif

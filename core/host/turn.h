/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/turn.h
 * @brief One change of who takes part while the server runs: some begin, some end, all at once.
 *
 *   struct turn *t = turn_create(h);
 *   turn_in(t, c); turn_out(t, c); turn_replace(t, c, other);
 *   turn_start(t, text)         init() and worker_start() of those who come; nothing is seen of it
 *   turn_commit(t)              or turn_undo(t): from one instant to the next, or nothing
 *   turn_settle(h)              again and again, until those who went are done and stopped
 *
 * [main] all of it.  Whatever can fail, memory as well, is done before turn_commit().
 */
#ifndef HOST_TURN_H
#define HOST_TURN_H

#include "host/change.h"

struct turn;

/** Up to @p most may begin.  NULL: no memory. */
struct turn *turn_create(struct host *, size_t most);
/** It begins, for all sessions; made by host_make(), and the turn's from now on. */
void turn_in(struct turn *, chatd_ctx *);
/** It ends, for all sessions. */
void turn_out(struct turn *, chatd_ctx *);
/** @p by takes its place for sessions that begin from now on, and what belongs to none. */
void turn_replace(struct turn *, chatd_ctx *old, chatd_ctx *by);
/** timeout: and on_error: of all hooks are as @p conf says from this turn on. */
void turn_tune(struct turn *, const struct conf *);
/** The instances of that name take part no more, in whatever version. */
void turn_out_all(struct turn *, const char *name);
/** 0, or a negative errno after filling @p text: nothing has changed, and the turn is over. */
int turn_start(struct turn *, struct change_text *text);
void turn_undo(struct turn *);
void turn_commit(struct turn *); /**< the turn is over; module_use() is done */
/** How many still wait for what they were asked about.  Stops those who do not any more. */
int turn_settle(struct host *);
/** Older versions that no session needs any more go.  1: there are some left. */
int turn_tend(struct host *);
/** Sessions that go by a version of it that is CHATD_PLUGIN_OLD.  [any], with host->lock */
int64_t turn_sessions(const struct host *, const chatd_ctx *);
/** 1: it is one of those that may begin and end; else why not, in @p ret_why. */
int turn_may(const struct host *, const struct chatd_plugin *, char *ret_why, size_t room);
/** 1: its file is made for that, whoever uses it now.  [any], with host->lock */
int turn_is_live(const struct host *, const struct chatd_plugin *);
/** 1: it is waited for them longer than server.drain_timeout. */
int turn_is_late(const struct host *);
/** NULL, or a service that it needs and that no running plugin provides. */
const char *turn_lacks(const struct host *, const char *const *interfaces);

#endif

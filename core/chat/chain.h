/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/chain.h
 * @brief Hook chains, the calls that walk them, and the tokens of parked calls.
 *
 * A table of chains does not change once walked: a point without hooks costs a load and a branch,
 * see chat_has().  The server owns the walk: a hook that must wait parks the call and
 * returns; whoever has the answer resumes by token, from any thread, and the walk goes
 * on with the next hook on the call's own worker, never inside resume().
 *
 * A token is worker, slot and generation.  cancel() and resume() both claim the slot
 * with one compare-and-swap, so exactly one of them wins and the loser does nothing;
 * a late answer finds another generation and is harmless.
 */
#ifndef CHAT_CHAIN_H
#define CHAT_CHAIN_H

#include "chat/msg.h"

#include <chatd/plugin.h>

struct chat_worker;

struct chain_hook {
	chatd_hook_fn *fn;
	void *self;
	uint32_t inst; /**< index of the instance: its wself */
	int32_t order;
	int32_t on_error; /**< 0 reject, 1 continue */
	int64_t timeout_ms;
	const char *who; /**< instance name, for the log and the watchdog */
};

struct chain {
	const char *name;
	int32_t may_wait;
	int32_t notify; /**< verdicts do not count: every hook hears of it */
	chatd_verdict at_end;
	struct chain_hook *hooks;
	size_t n;
};

/** Runs once when the walk has ended, unless the call was abandoned; the call is freed
 *  after it returns. */
typedef void call_end(chatd_call *, void *arg);

/** The per-worker table of parked calls.  [main] */
struct call_slots;
struct call_slots *call_slots_create(uint32_t n); /**< NULL: no memory */
/** More than half of the calls that may wait do: whoever has one waiting gets no second one. */
int call_slots_are_short(const struct call_slots *);
/** [worker] At the end, after the sessions: what is still parked is refused, and nothing is parked
 *  any more. */
void call_slots_end(struct call_slots *);
void call_slots_destroy(struct call_slots *);

/* All [worker] from here on. */

/** Takes references of its own to @p msg and @p ident.  NULL: no memory. */
chatd_call *call_create(
		struct chat_worker *, chatd_session *, const chatd_ident *ident, chatd_msg *msg);
/** Walk @p chain, then @p tail (may be NULL) if the chain let it pass. */
void call_walk(chatd_call *, const struct chain *, const struct chain_hook *tail, call_end *end,
		void *arg);
/** The client is gone: cancel() runs if parked, end() does not.  Never inside a hook. */
void call_abandon(chatd_call *);

/** What call_walk() was given with @p end, while its tail runs; else NULL. */
void *call_arg(const chatd_call *, call_end *end);
chatd_verdict call_verdict(const chatd_call *);
const char *call_code(const chatd_call *);
/** The event that is walked, "message_in"; NULL: its hooks are through, this is the handler. */
const char *call_event(const chatd_call *);
struct chatd_str call_why(const chatd_call *);
chatd_msg *call_replies(const chatd_call *);  /**< headers set by reply(); may be NULL */
chatd_call *call_sibling(const chatd_call *); /**< next call of the same session */
struct chat_worker *call_at(const chatd_call *);

/** The walk asks again about a subscription that is there; before call_walk(). */
void call_set_again(chatd_call *);
int32_t call_again(chatd_call *);

/** What hold() asked for: 1, and it is the caller's now; 0: nothing. */
struct hold_wish;
int call_take_hold(chatd_call *, struct hold_wish *ret);

/* What stands behind the functions of chatd_host of the same names. */
chatd_worker *call_worker(chatd_call *);
chatd_session *call_session(chatd_call *);
const chatd_ident *call_ident(chatd_call *);
chatd_msg *call_msg(chatd_call *);
chatd_msg *call_edit(chatd_call *);
void *call_alloc(chatd_call *, size_t);
chatd_verdict call_reject(chatd_call *, const char *code, const char *fmt, ...) CHATD_PRINTF(3, 4);
chatd_verdict call_refuse(chatd_call *, const char *code, struct chatd_str why);
void call_reply(chatd_call *, const char *header, struct chatd_str value);
struct chatd_str call_replied(chatd_call *, const char *header);
chatd_verdict call_identify(chatd_call *, const char *cred, struct chatd_str user,
		struct chatd_str name, uint32_t flags);
chatd_verdict call_identify_as(chatd_call *, const char *cred, const struct chatd_identity *);
chatd_token call_suspend(chatd_call *, void (*cancel)(void *arg), void *arg);
chatd_status call_hold(chatd_call *, chatd_hold_fn *live, void (*drop)(void *arg), void *arg);
chatd_status call_resume(chatd_token, chatd_verdict, const char *code, const char *why);
chatd_call *call_of(chatd_worker *, chatd_token);
/** resume() needs the workers' tables from any thread.  [main], once. */
struct chat;
void call_set_chat(struct chat *);

/** Credentials (bits 0..3 = login, passcode, bearer, token) that identify() has named. */
uint32_t call_verified(const chatd_call *);
int call_conflict(const chatd_call *);
enum { CRED_LOGIN = 1, CRED_PASSCODE = 2, CRED_BEARER = 4, CRED_TOKEN = 8 };

#endif

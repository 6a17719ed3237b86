/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/lent.h
 * @brief What an instance has with others, and what becomes of it when it is turned off: services
 * that others use, memory in sessions, requests at its routes.
 */
#ifndef HOST_LENT_H
#define HOST_LENT_H

#include "host/change.h"

#include <chatd/plugins.h>

/** NULL, or an instance that uses a service of @p c and stays; 1 in *ret_needs: it needs it.
 *  @p goes tells who does not stay; NULL: all do.  [main] */
const chatd_ctx *lent_user(const struct host *, const chatd_ctx *c,
		int (*goes)(const void *arg, const chatd_ctx *), const void *arg, int *ret_needs);
/** The services of @p c are found no more, by nobody.  [main] */
void lent_withdraw(struct host *, const chatd_ctx *c);
/** What those that end are asked for and still have to answer is cut off.  [worker] */
void lent_cut(struct host *, chatd_worker *);
/** What is under way for those that end.  [worker] */
int64_t lent_open(const struct host *, chatd_worker *);

/* Of chatd.plugins/1. */
int32_t lent_takes_part(void *obj, const chatd_ctx *);
int32_t lent_stays(void *obj, const chatd_ctx *, const chatd_ctx *beside);
void lent_enter(void *obj, chatd_worker *, const chatd_ctx *, struct chatd_plugins_call *);
void lent_leave(void *obj, chatd_worker *, struct chatd_plugins_call *);
void lent_erred(void *obj, chatd_worker *, const chatd_ctx *);
void lent_hold(void *obj, chatd_worker *, const chatd_ctx *, int32_t n);
chatd_status lent_on_cut(
		void *obj, void (*fn)(void *arg, chatd_worker *, const chatd_ctx *), void *arg);
const chatd_ctx *lent_beginning(void *obj);
const chatd_ctx *lent_hearer(void *obj);
int32_t lent_ended(void *obj, const chatd_ctx *);
/** What core/chat asks about whose numbers there are. */
extern const struct chat_owners lent_owners;
/** [main] It has been given the service @p s, in its init(), or some later. */
void lent_note_use(chatd_ctx *, const struct host_service *s);

/** As loop_conf.timer: counted to the instance whose code it is. */
void lent_timer(chatd_worker *, void (*fn)(void *arg), void *arg);
/** That instance is the one to which timers of its file are counted. */
void lent_timers_of(struct host *, chatd_ctx *);

#endif

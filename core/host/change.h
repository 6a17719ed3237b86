/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/change.h
 * @brief Plugins that are turned on, off or configured while the server runs.
 *
 * Who wants a change asks from a worker; main does it between two signals, one after the other.
 * The frozen tables stay frozen: a change makes a new one and puts it in the place of the old one,
 * along which the walks that have begun go on.  Code is never unmapped.
 */
#ifndef HOST_CHANGE_H
#define HOST_CHANGE_H

#include "host/instance.h"

#include <chatd/plugins.h>

extern const struct chatd_plugins figures_vt; /**< figures.c; obj = host */
/** figures.c: the one of that name that was made last, or NULL.  [main], or with host->lock */
chatd_ctx *figures_latest(const struct host *, const char *name);
void figures_stalled(chatd_worker *, const char *who, int64_t ms); /**< [worker] */

/** [worker] As chatd_plugins.change. */
chatd_status change_ask(void *host, chatd_worker *, const struct chatd_plugins_change *,
		chatd_plugins_done *done, void *arg);
void change_forget(struct host *); /**< [main] what nobody will do any more */

/** live.c: turn @p name on or off.  [main]  @p text is the answer in words. */
struct change_text {
	char p[512];
};
int live_enable(struct host *, const char *name, struct change_text *text);
/** -EINPROGRESS: live_drained() will tell. */
int live_disable(struct host *, const char *name, struct change_text *text);
/** 1: what it was asked about has been answered, and it is off now. */
int live_drained(struct host *, const char *name, struct change_text *text);
/** settle.c: another value of a live option. */
int live_set(struct host *, const char *name, const char *assignment, struct change_text *text);

#endif

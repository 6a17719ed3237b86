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

/** The answer in words; it may have several lines. */
struct change_text {
	char p[8192];
};
/** live.c: turn @p name on or off.  [main] */
int live_enable(struct host *, const char *name, struct change_text *text);
/** -EINPROGRESS: @p text holds once turn_settle() has nobody to wait for. */
int live_disable(struct host *, const char *name, struct change_text *text);
/** The file that is there now, beside what runs of it; @p at_once: in its place.  The same
 *  -EINPROGRESS. */
int live_load(struct host *, const char *name, int at_once, struct change_text *text);
/** reread.c: the configuration is read again.  @p rehearse: what would come of it is said, and
 *  nothing done.  The same -EINPROGRESS. */
int live_reread(struct host *, int rehearse, struct change_text *text);
/** set.c: another value of a live option. */
int live_set(struct host *, const char *name, const char *assignment, struct change_text *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/patience.h
 * @brief Plugins get 10 s to start: one that does not come back is named, and the process exits.
 *
 * Main and the workers wait for a plugin's init() and worker_start(), so a thread of its own
 * holds the clock.  A plugin that waits for another program in its init(), within a limit of its
 * own (CHATD_PLUGIN_WAITS), is named every 10 s and goes on.  [main] all of it.
 */
#ifndef HOST_PATIENCE_H
#define HOST_PATIENCE_H

#include "base/crash.h"

struct patience;

/** @p main is the calling thread.  NULL: no memory or no thread. */
struct patience *patience_create(struct crash_here *main);
/** Instance @p who begins, in @p what; @p waits: it may take longer.  Both texts live on. */
void patience_begin(struct patience *, const char *who, const char *what, int waits);
void patience_end(struct patience *);
void patience_destroy(struct patience *); /**< NULL is fine */

#endif

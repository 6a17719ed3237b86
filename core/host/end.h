/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/end.h
 * @brief The end of an instance while the server runs: worker_stop(), then, once nothing of it is
 * under way, fini().
 *
 * [main] all of it.
 */
#ifndef HOST_END_H
#define HOST_END_H

#include "host/instance.h"

/** It takes part in nothing any more: worker_stop().  CHATD_PLUGIN_DRAINS until end_settle() has
 *  come to its fini(). */
void end_begin(struct host *, chatd_ctx *);
/** fini() of those that have stopped and of which nothing is under way.  How many are left. */
int end_settle(struct host *);
/** The same, and waits for them; but not for ever: turn_tend() goes on with what is left. */
void end_wait(struct host *);

#endif

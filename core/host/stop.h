/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/stop.h
 * @brief Signals: waiting for the one that ends the server, and the end in its steps.
 *
 * SIGTERM, or a plugin's stop(): t0 the server warns (/readyz: 503); after drain_grace the
 * listeners close and clients are asked to leave over drain_spread; drain_timeout later whoever
 * is left is cut off.  SIGINT leaves out the grace: somebody sits there and waits.  A second
 * signal ends all waiting.  If the rest does not end then either, because a plugin holds a
 * thread or a disk does not answer, the process exits all the same: nobody needs SIGKILL.
 *
 * [main] all of it, in this order.
 */
#ifndef HOST_STOP_H
#define HOST_STOP_H

#include "conf/conf.h"
#include "host/host.h"

/** Blocks the signals, for all threads that come later.  0, or a negative errno. */
int stop_open(void);
/** Returns when it is time to stop: drained as far as was possible.  host_stop() is due. */
void stop_wait(struct host *, const struct conf_server *);
/** After host_stop(). */
void stop_close(void);

#endif

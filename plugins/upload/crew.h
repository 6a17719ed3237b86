/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file crew.h
 * @brief Threads of the plugin's own for what blocks: disks, and what is asked of other machines.
 *
 * As the host's offload(), which others share: work() runs on one of the threads, done() on the
 * worker that asked.  No job is lost: when a worker stops, its jobs are done first.
 */
#ifndef UPLOAD_CREW_H
#define UPLOAD_CREW_H

#include <chatd/plugin.h>

struct crew;

/** @p threads 0: the host's pool does the work.  NULL: errno. */
struct crew *crew_create(const struct chatd_host *, const char *name, int threads, size_t queue);
/** [main] No worker runs any more. */
void crew_destroy(struct crew *);
/** [worker] Before the first crew_do() there. */
chatd_status crew_sit(struct crew *, chatd_worker *);
/** [worker] All that it has asked for is done when this returns, and so is what that asks for. */
void crew_rise(struct crew *, chatd_worker *);
/** [worker] -EBUSY: so many are waiting already; -ESHUTDOWN: not any more. */
chatd_status crew_do(
		struct crew *, chatd_worker *, void (*work)(void *arg), void (*done)(void *arg), void *arg);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pump.h
 * @brief libwebsockets' libuv loop, nested in the worker's own loop.
 *
 * The backend of the uv loop is one descriptor that the worker watches; the loop's next
 * timer is one timer of the worker's.  Everything is [worker].
 */
#ifndef HTTP_LWS_PUMP_H
#define HTTP_LWS_PUMP_H

#include <stdbool.h>

#include <libwebsockets.h>
#include <uv.h>

#include <chatd/plugin.h>

struct pump {
	const struct chatd_host *host;
	chatd_worker *worker;
	uv_loop_t loop;
	struct lws_context *context; /**< NULL: nothing to force */
	chatd_watch *watch;
	struct chatd_timer timer;
	bool running;
	bool again; /**< kicked while it ran */
};

/** A negative errno when the kernel has no descriptors for it. */
int pump_start(struct pump *, const struct chatd_host *, chatd_worker *);
/** Something was asked of libwebsockets outside its own callbacks: look after it in the next
 *  turn of the worker's loop. */
void pump_kick(struct pump *);
/** Runs what is due, now. */
void pump_run(struct pump *);
/** Destroys the context, if there is one, and all that it had in the loop.  False: something
 *  was left in the loop, whose memory is lost then. */
bool pump_stop(struct pump *);

#endif

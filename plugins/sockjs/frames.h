/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file frames.h
 * @brief The transports, and how each of them dresses a SockJS frame.  Any thread.
 */
#ifndef SOCKJS_FRAMES_H
#define SOCKJS_FRAMES_H

#include "internal.h"

/** So many messages go into one frame at most. */
#define FRAMES_JOIN 128

/** By the last segment of the URL; NULL: there is none of that name. */
const struct transport *frames_transport(struct chatd_str name);
/** What a streamed answer begins with; NULL: no memory. */
chatd_buf *frames_prelude(
		const struct chatd_host *, const struct transport *, const char *callback);
/** The frame that is @p parts put together; NULL: no memory. */
chatd_buf *frames_dress(const struct chatd_host *, const struct transport *, const char *callback,
		const struct chatd_str parts[], size_t n);
/** May @p name stand as a callback's name in a script? */
bool frames_callback_ok(struct chatd_str name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/error.h
 * @brief The soft error: the JSON that a client finds on /user/queue/errors.
 */
#ifndef CHAT_ERROR_H
#define CHAT_ERROR_H

#include <chatd/plugin.h>
#include <chatd/transport.h>

/** The message for a refusal of @p frame: errorCode, code, message, timestamp, the
 *  receiptId and destination of the frame, and what reply() added, as strings; only
 *  retryAfterSeconds is a number.  [any]  NULL: no memory. */
chatd_msg *error_message(const struct chatd_outcome *, const chatd_msg *frame);

#endif

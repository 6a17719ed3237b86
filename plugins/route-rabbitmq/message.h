/* SPDX-License-Identifier: Apache-2.0 */
/* From what came in to a message of ours.  [any] */
#ifndef ROUTE_RABBITMQ_MESSAGE_H
#define ROUTE_RABBITMQ_MESSAGE_H

#include "rabbit.h"

/* To e.topic, with the headers of its lines, which are unescaped in place.  NULL: -EINVAL, it is
 * no text; -ENOMEM. */
chatd_msg *message_in(struct rabbit *, const struct wire_in *, chatd_status *ret_rc);

#endif

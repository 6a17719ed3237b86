/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/msg.h
 * @brief A message: destination, headers in order, body, id.
 *
 * Refcounted.  Its maker may change it until it is published or given in; from then on
 * it is immutable and shared across threads.  Headers live in an arena inside the
 * message: nothing is allocated for a message of ordinary size but the message itself.
 * All functions are [any].
 */
#ifndef CHAT_MSG_H
#define CHAT_MSG_H

#include <chatd/plugin.h>

chatd_msg *msg_new(struct chatd_str dest, struct chatd_str body); /**< NULL: no memory */
/** With an id that id_new() gave before. */
chatd_msg *msg_with_id(const char id[37], struct chatd_str dest, struct chatd_str body);
chatd_msg *msg_clone(const chatd_msg *); /**< NULL: no memory */
chatd_msg *msg_ref(chatd_msg *);
void msg_unref(chatd_msg *); /**< NULL is fine */
struct chatd_str msg_dest(const chatd_msg *);
struct chatd_str msg_body(const chatd_msg *);
struct chatd_str msg_get(const chatd_msg *, const char *header); /**< .p NULL: none */
int32_t msg_header(
		const chatd_msg *, size_t i, struct chatd_str *ret_name, struct chatd_str *ret_value);
chatd_status msg_set(chatd_msg *, const char *header, struct chatd_str value);
chatd_status msg_body_set(chatd_msg *, struct chatd_str body);
chatd_status msg_flags(chatd_msg *, uint32_t flags);
uint32_t msg_flags_get(const chatd_msg *);
struct chatd_str msg_id(const chatd_msg *);
int msg_shared(const chatd_msg *);  /**< someone else holds a reference too */
size_t msg_size(const chatd_msg *); /**< bytes that it keeps, for bounds on queues */

#endif

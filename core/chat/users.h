/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/users.h
 * @brief Who has which sessions on a worker, so that a ban or a logout finds them.
 *
 * A session is here from the moment its login was accepted until its end.
 */
#ifndef CHAT_USERS_H
#define CHAT_USERS_H

#include "chat/session_impl.h"

struct user_table *user_table_create(void); /**< NULL: no memory */
void user_table_destroy(struct user_table *);

/** [worker] The session's identity is known.  May run what lingers for its user. */
int users_add(chatd_session *);
void users_remove(chatd_session *); /**< [worker] also when it is not there */
/** [any] Behind chatd_host's each_session(). */
chatd_status users_each(struct chat *, const struct chatd_each *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/renew.h
 * @brief The end of a session's identity, and its going on as another.  [worker]
 */
#ifndef CHAT_RENEW_H
#define CHAT_RENEW_H

#include "chat/session_impl.h"

/** The session's identity was set: a notice before its end, and the end.  -ENOMEM. */
int renew_arm(chatd_session *);
void renew_disarm(chatd_session *); /**< also when it is not armed */
/** Behind chatd_host. */
chatd_status session_renew(chatd_session *, const struct chatd_identity *);

#endif

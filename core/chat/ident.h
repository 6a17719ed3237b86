/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/ident.h
 * @brief Who someone is: user id, display name, flags, and what else a login can say.
 *
 * Made once by a login and immutable from then on, so it is shared across threads by
 * reference alone.  All functions are [any].
 */
#ifndef CHAT_IDENT_H
#define CHAT_IDENT_H

#include <chatd/plugin.h>

/** One reference, for the caller; NULL: no memory.  The text is copied. */
const chatd_ident *ident_create(struct chatd_str user, struct chatd_str name, uint32_t flags);
/** Likewise, with all that is known.  A text of 64 KiB or more: NULL. */
const chatd_ident *ident_create_as(const struct chatd_identity *);
const chatd_ident *ident_ref(const chatd_ident *);
void ident_unref(const chatd_ident *); /**< NULL is fine */
struct chatd_str ident_user(const chatd_ident *);
struct chatd_str ident_name(const chatd_ident *);
struct chatd_str ident_roles(const chatd_ident *);
struct chatd_str ident_login(const chatd_ident *);
struct chatd_str ident_client(const chatd_ident *);
int64_t ident_expires(const chatd_ident *);
uint32_t ident_flags(const chatd_ident *);

#endif

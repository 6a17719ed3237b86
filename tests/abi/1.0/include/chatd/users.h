/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/users.h
 * @brief What may be done to accounts, for plugins that act on behalf of a moderator.
 *
 * Provided by "users".
 */
#ifndef CHATD_USERS_H
#define CHATD_USERS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_USERS "chatd.users/1"

struct chatd_users_ban {
	uint32_t struct_size;
	struct chatd_str user;
	const chatd_ident *by; /**< a moderator of the server, of a higher role than the user */
	int64_t seconds;       /**< -1: for ever */
	struct chatd_str reason, address, request; /**< the last two for the record, see audit.h */
};

/** @p code NULL: it is done; else a constant as in a refused request, and why. */
typedef void chatd_users_done(void *arg, const char *code, const char *why);

struct chatd_users {
	uint32_t struct_size;
	/** [worker] As if .by had asked for it over REST.  fn runs once, later, on this worker, unless
	 *  an error is returned. */
	chatd_status (*ban)(void *obj, chatd_worker *, const struct chatd_users_ban *,
			chatd_users_done *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/accounts.h
 * @brief Accounts: who exists.  Identity plugins create them, chat looks them up.
 *
 * Every call answers later, once, on the worker that asked, unless it returns an
 * error at once, and then never.  Text given in is copied; text given back is
 * borrowed for the callback.
 */
#ifndef CHATD_ACCOUNTS_H
#define CHATD_ACCOUNTS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_ACCOUNTS "chatd.accounts/1"

struct chatd_account {
	uint32_t struct_size;
	struct chatd_str id;       /**< [A-Za-z0-9_-]{1,64} */
	struct chatd_str nickname; /**< display name */
	uint32_t flags;            /**< CHATD_ID_* */
	/** SHA-256 (hex, 64) of the secret that finds this account; .p NULL: none. */
	struct chatd_str secret;
	struct chatd_str client; /**< clientIdentifier: keyed hash of address and agent */
	int64_t created;         /**< wall-clock ms */
	/* Of registered accounts: */
	struct chatd_str email;    /**< lower case; .p NULL: none */
	struct chatd_str password; /**< its hash, as crypt(3) or libsodium write it; .p NULL: none */
	struct chatd_str roles;    /**< server-wide, separated by one space: "moderator support" */
	struct chatd_str avatar;   /**< a path or URL, .p NULL: none */
	int64_t banned_until;      /**< wall-clock ms; INT64_MAX: for ever; 0: not banned */
	uint32_t bits;             /**< CHATD_ACCOUNT_* */
};

/** Bits of an account. */
enum {
	CHATD_ACCOUNT_VERIFIED = 1 << 0, /**< the e-mail address is known to be its owner's */
	CHATD_ACCOUNT_HIDDEN = 1 << 1,   /**< is not found by searches for people */
};

/** [worker] rc 0: @p a is the account; -ENOENT; -EEXIST (create); others. */
typedef void chatd_account_fn(void *arg, chatd_status rc, const struct chatd_account *a);

struct chatd_accounts {
	uint32_t struct_size;
	/** -EEXIST when the id or the secret is taken. */
	chatd_status (*create)(void *obj, chatd_worker *, const struct chatd_account *,
			chatd_account_fn *fn, void *arg);
	chatd_status (*by_id)(
			void *obj, chatd_worker *, struct chatd_str id, chatd_account_fn *fn, void *arg);
	chatd_status (*by_secret)(
			void *obj, chatd_worker *, struct chatd_str secret, chatd_account_fn *fn, void *arg);
	/** The most recent account with this clientIdentifier. */
	chatd_status (*by_client)(
			void *obj, chatd_worker *, struct chatd_str client, chatd_account_fn *fn, void *arg);
	/** Changes the nickname. */
	chatd_status (*rename)(void *obj, chatd_worker *, struct chatd_str id,
			struct chatd_str nickname, chatd_account_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

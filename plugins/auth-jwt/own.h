/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file own.h
 * @brief Tokens of this server: chatd.tokens/1 without the server around it.
 */
#ifndef OWN_H
#define OWN_H

#include "key.h"

#include <chatd/tokens.h>

struct own {
	struct key *keys; /**< the first signs, all verify */
	size_t n;
	const char *issuer, *audience;
	int64_t access_ms, refresh_ms;
	void (*random)(void *p, size_t n);
};

/** As chatd_tokens.issue and .verify, at the time @p wall_ms. */
chatd_status own_issue(const struct own *, int64_t wall_ms, const struct chatd_claims *,
		char ret[CHATD_TOKEN_MAX], struct chatd_claims *ret_claims);
/** -ENOKEY: no key of ours has that algorithm and id, so it may be a foreign issuer's. */
chatd_status own_verify(const struct own *, int64_t wall_ms, int32_t type, const struct token *,
		char room[CHATD_TOKEN_MAX], struct chatd_claims *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/tokens.h
 * @brief Signed tokens (JWT): made for whoever logs in, and verified.
 *
 * Provided by "auth-jwt", which also accepts access tokens wherever a client can present one.
 * Whoever logs people in ("auth-password") makes them here and knows no keys.
 */
#ifndef CHATD_TOKENS_H
#define CHATD_TOKENS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_TOKENS "chatd.tokens/1"

enum {
	CHATD_TOKEN_ACCESS = 1,  /**< says who one is; short-lived */
	CHATD_TOKEN_REFRESH = 2, /**< is exchanged for a new pair, once; good for nothing else */
};

/** A token is at most this long, with its NUL. */
#define CHATD_TOKEN_MAX 2048

struct chatd_claims {
	uint32_t struct_size;
	int32_t type; /**< CHATD_TOKEN_* */
	struct chatd_str user, name;
	struct chatd_str login;  /**< the login (device) it belongs to; .p NULL: none */
	struct chatd_str roles;  /**< separated by one space; .p NULL: none */
	int64_t issued, expires; /**< wall-clock ms, whole seconds; issue(): 0 as configured */
};

struct chatd_tokens {
	uint32_t struct_size;
	/** [any] Signs; every token differs from every other.  @p ret_claims may be NULL: what
	 *  the token really says.  -EINVAL: the claims are too long. */
	chatd_status (*issue)(void *obj, const struct chatd_claims *, char ret[CHATD_TOKEN_MAX],
			struct chatd_claims *ret_claims);
	/** [any] Signature, times, issuer, audience and type; not whether the login still lives.
	 *  Only tokens of this server, not of foreign issuers.  Text in *ret points into @p room.
	 *  -EKEYREJECTED; -EKEYEXPIRED: good but over. */
	chatd_status (*verify)(void *obj, int32_t type, struct chatd_str token,
			char room[CHATD_TOKEN_MAX], struct chatd_claims *ret);
};

#ifdef __cplusplus
}
#endif
#endif

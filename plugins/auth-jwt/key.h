/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file key.h
 * @brief Keys of our own: each for one algorithm, and for no other.
 *
 * libjwt lets the token choose the algorithm and checks no claim; so a token gets to it only
 * after its `alg` was compared with the key's, and what it says is read elsewhere (claims.h).
 * A key does not change once it is made: any thread may use it.
 */
#ifndef KEY_H
#define KEY_H

#include "token.h"

#include <openssl/types.h>

enum { ALG_HS256, ALG_HS384, ALG_HS512, ALG_RS256, ALG_ES256, ALG_EDDSA, ALG_COUNT };
enum { KEY_HMAC_MIN = 32, KEY_RSA_MIN = 2048, KEY_WHY = 240 };

/** Their names, NULL-terminated. */
extern const char *const key_algs[];

struct key {
	int alg, can_sign;
	char kid[TOKEN_KID_MAX + 1];
	unsigned char *secret; /**< of HMAC; or the private key as PEM */
	size_t secret_n;
	unsigned char *public_pem;
	size_t public_n;
	EVP_PKEY *pkey; /**< of EdDSA, which libjwt has not */
};

struct key_spec {
	int alg;
	const char *kid; /**< NULL: one that is made from the key */
	struct chatd_str text;
	int base64; /**< the text is base64 of the bytes */
};

/** 0, or -EINVAL and why in @p why. */
chatd_status key_load(const struct key_spec *, struct key *ret, char why[KEY_WHY]);
void key_wipe(struct key *);

/** -EKEYREJECTED: the signature is not this key's. */
chatd_status key_verify(const struct key *, const struct token *);
/** A whole token of @p claims (an object, not changed).  -EMSGSIZE: @p cap is too small. */
chatd_status key_sign(const struct key *, json_t *claims, char *ret, size_t cap);

#endif

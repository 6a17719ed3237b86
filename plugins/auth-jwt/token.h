/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file token.h
 * @brief The outside of a JWT: three segments, a header, and bytes that were signed.
 *
 * What is read here is read before any signature was checked, so it is the strict minimum:
 * algorithm and key id, to find the key.  Nothing here knows the server or keys.
 */
#ifndef TOKEN_H
#define TOKEN_H

#include <chatd/plugin.h>

#include <jansson.h>

enum {
	TOKEN_TEXT_MAX = 8191,                   /**< longer ones are not looked at */
	TOKEN_JSON_MAX = TOKEN_TEXT_MAX / 4 * 3, /**< of a segment, decoded */
	TOKEN_KID_MAX = 128,
};

struct token {
	struct chatd_str text, header, payload, sig; /**< segments as they came, base64url */
	struct chatd_str signing;                    /**< header.payload */
	char alg[16], kid[TOKEN_KID_MAX + 1];        /**< kid "": none */
};

/** 0; -EINVAL: it is no JWT at all, so perhaps someone else's; -EKEYREJECTED: it is one, and a
 *  bad one. */
chatd_status token_parse(struct chatd_str text, struct token *ret);

/** The claims, as an object of the caller's; NULL: no such thing.  After the signature. */
json_t *token_claims(const struct token *);

/** Canonical base64url without padding, into @p to of @p cap bytes.  -1: it is not. */
int token_decode(struct chatd_str b64, unsigned char *to, size_t cap);

#endif

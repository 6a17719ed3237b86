/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file crypto.h
 * @brief Messages that only one browser can read (RFC 8291), and who sends them (RFC 8292).  Pure.
 */
#ifndef CRYPTO_H
#define CRYPTO_H

#include <chatd/plugin.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

enum {
	POINT = 65, /**< of P-256, uncompressed */
	SCALAR = 32,
	AUTH = 16,
	SALT = 16,
	/** Of one record of 4096 bytes, which every push service takes: header, tag, delimiter. */
	PUSH_PLAIN_MAX = 4096 - (SALT + 4 + 1 + POINT) - 16 - 1,
	PUSH_MAX = 4096,
	TEXT_POINT = 88, /**< base64url, with NUL */
	TOKEN_MAX = 1024,
};

/** What a browser gives with its subscription. */
struct browser_keys {
	uint8_t point[POINT], auth[AUTH];
};

/** Our own: the signing key, and its public half. */
struct vapid {
	EVP_PKEY *key; /**< NULL: none yet */
	uint8_t point[POINT];
};

/** base64url; -EINVAL: not exactly @p n bytes.  Padding is taken and not written. */
int base64_take(struct chatd_str text, uint8_t *ret, size_t n);
void base64_put(const uint8_t *p, size_t n, char *to, size_t cap);

/** 0; -EINVAL: not of that length, or not on the curve. */
int browser_keys_read(struct chatd_str p256dh, struct chatd_str auth, struct browser_keys *ret);

/** The body of a push: its length, or -EMSGSIZE, -EIO. */
long push_encrypt(const struct browser_keys *, struct chatd_str plain, uint8_t ret[PUSH_MAX]);
/** With what is random otherwise: for test vectors. */
long push_encrypt_with(EVP_PKEY *ours, const uint8_t salt[SALT], const struct browser_keys *,
		struct chatd_str plain, uint8_t ret[PUSH_MAX]);

void vapid_make(uint8_t ret[SCALAR]);
/** 0; -EINVAL: no private key of P-256. */
int vapid_read(const uint8_t scalar[SCALAR], struct vapid *ret);
void vapid_finish(struct vapid *);
/** A JWT (ES256): 0, -EIO.  @p subject may be NULL; @p expires in seconds since 1970. */
int vapid_token(const struct vapid *, const char *audience, const char *subject, int64_t expires,
		char ret[TOKEN_MAX]);

/** "v1=" and the HMAC-SHA256 of "TIMESTAMP.BODY", in hex. */
void webhook_sign(const char *secret, const char *timestamp, struct chatd_str body, char ret[68]);

#endif

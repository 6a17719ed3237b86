/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bytes.h
 * @brief Buffers and primitives for e2ee.c.  What fails here is the test's own fault: it ends.
 */
#ifndef E2EE_BYTES_H
#define E2EE_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *p;
	size_t n;
};

void bytes_free(struct bytes *);
void bytes_add(struct bytes *, const void *p, size_t n);
/* A field: its length in 4 bytes, big-endian, then itself. */
void bytes_field(struct bytes *, const void *p, size_t n);
void bytes_text(struct bytes *, const char *field);
void bytes_number(struct bytes *, int64_t n); /* its digits; 0: nothing */

char *base64_of(const void *p, size_t n); /* to free() */
/* 1: @p text is base64url without padding of exactly @p n bytes. */
int base64_read(const char *text, void *to, size_t n);
/* Of any length; .p NULL: it is none. */
struct bytes base64_bytes(const char *text);

/* HKDF-SHA256 with a salt of 32 zeros. */
void hkdf(const uint8_t *secret, size_t n, const struct bytes *info, uint8_t ret[32]);
void stretch(const struct bytes *what, const struct bytes *salt, int rounds, uint8_t ret[32]);
/* AES-256-GCM: nonce, ciphertext, tag. */
void gcm_seal(const uint8_t key[32], const struct bytes *plain, const struct bytes *more,
		struct bytes *ret);
int gcm_open(const uint8_t key[32], const struct bytes *sealed, const struct bytes *more,
		struct bytes *ret);

#endif

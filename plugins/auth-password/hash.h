/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hash.h
 * @brief Making and verifying password hashes: Argon2id by libsodium, bcrypt by libxcrypt.
 *
 * [any] Slow on purpose: call it on the hash pool.
 */
#ifndef AUTH_HASH_H
#define AUTH_HASH_H

#include <crypt.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_ARGON2ID, HASH_BCRYPT };
enum {
	HASH_ROOM = 256,
	/* What comes after it changes a bcrypt hash no more, so longer passwords are refused. */
	HASH_BCRYPT_BYTES = 72,
};

struct hash_params {
	int32_t kind; /* HASH_*: of new ones */
	size_t memory;
	unsigned long long passes;
	unsigned long bcrypt_cost;
};

/** 0, or -ENOMEM. */
int hash_make(const struct hash_params *, const char *pass, size_t n, char ret[HASH_ROOM]);
/** 1: @p have is the hash of that password; 0: it is not, or nothing that is known here. */
int hash_verify(const char *have, const char *pass, size_t n);
/** It was made in another way, or with another cost, than new ones are. */
int hash_outdated(const struct hash_params *, const char *have);

#endif

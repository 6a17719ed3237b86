/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hash.h
 * @brief Making and verifying password hashes: Argon2id by libargon2, bcrypt by libxcrypt.
 *
 * libsodium maps 19 MiB anew for each hash and unmaps it again.  A thread at SCHED_IDLE that is
 * put aside in there holds the process's memory map against every worker; libargon2 lets us
 * bring the memory along.
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

struct hash_pass {
	const char *p;
	size_t n;
};

struct hash_params {
	int32_t kind; /* HASH_*: of new ones */
	size_t memory;
	unsigned long long passes;
	unsigned long bcrypt_cost;
};

/** What a thread that hashes keeps from one hash to the next; zeroed at first. */
struct hash_memory {
	void *p;
	size_t n;
};

/** 0, or -ENOMEM.  @p memory NULL: mapped for this hash alone. */
int hash_make(
		const struct hash_params *, struct hash_memory *, struct hash_pass, char ret[HASH_ROOM]);
/** 1: @p have is the hash of that password; 0: it is not, or nothing that is known here. */
int hash_verify(const char *have, struct hash_memory *, struct hash_pass);
/** The pages go, the place stays: without a lock that others would wait for. */
void hash_memory_rest(struct hash_memory *);
void hash_memory_finish(struct hash_memory *);
/** It was made in another way, or with another cost, than new ones are. */
int hash_outdated(const struct hash_params *, const char *have);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/hash.h
 * @brief A keyed hash for tables whose keys clients choose (SipHash-2-4).
 *
 * Header only.  With uthash use the ..._BYHASHVALUE macros, so that nobody who does not
 * know the key can make a table slow.  [any]
 */
#ifndef CHATD_SDK_HASH_H
#define CHATD_SDK_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct chatd_hash_key { /**< fill it with host->random() */
	uint64_t k[2];
};

static inline uint64_t chatd_hash_rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void chatd_hash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = chatd_hash_rotl(v[1], 13) ^ v[0];
	v[0] = chatd_hash_rotl(v[0], 32);
	v[2] += v[3];
	v[3] = chatd_hash_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = chatd_hash_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = chatd_hash_rotl(v[1], 17) ^ v[2];
	v[2] = chatd_hash_rotl(v[2], 32);
}

static inline void chatd_hash_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	chatd_hash_round(v);
	chatd_hash_round(v);
	v[0] ^= m;
}

static inline uint64_t chatd_hash(const struct chatd_hash_key *key, const void *data, size_t n)
{
	const unsigned char *p = (const unsigned char *)data;
	uint64_t m, last = (uint64_t)n << 56;
	uint64_t v[4] = { key->k[0] ^ 0x736f6d6570736575u, key->k[1] ^ 0x646f72616e646f6du,
		key->k[0] ^ 0x6c7967656e657261u, key->k[1] ^ 0x7465646279746573u };
	for (; n >= 8; n -= 8, p += 8) {
		m = 0;
		for (int i = 0; i < 8; i++) {
			m |= (uint64_t)p[i] << (8 * i);
		}
		chatd_hash_word(v, m);
	}
	for (size_t i = 0; i < n; i++) {
		last |= (uint64_t)p[i] << (8 * i);
	}
	chatd_hash_word(v, last);
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++) {
		chatd_hash_round(v);
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Keyed words, for search, and keyed hashes of hashes. */
#include "encrypt.h"

#include <errno.h>
#include <string.h>

enum {
	WORD_BYTES = CHATD_CIPHER_WORD / 2,
	AT_HASH = 1 + KEY_ID,
	HASH = CHATD_CIPHER_MARK - AT_HASH
};

/* Of the active key first, then the others: those before it, which rows may still have, and those
 * after it, which other nodes may use already. */
static const struct key *key_at(const struct chatd_keys *set, size_t i)
{
	if (i >= set->n) {
		return NULL;
	}
	return i == 0 ? &set->key[set->active] : &set->key[i <= set->active ? i - 1 : i];
}

chatd_status words_key(
		const struct chatd_keys *set, size_t key, struct chatd_str word, char to[CHATD_CIPHER_WORD])
{
	unsigned char hash[crypto_generichash_BYTES_MIN];
	char hex[CHATD_CIPHER_WORD + 1];
	const struct key *k = key_at(set, key);
	if (!k) {
		return -ENOENT;
	}
	crypto_generichash(
			hash, sizeof(hash), (const unsigned char *)word.p, word.n, k->word, KEY_BYTES);
	sodium_bin2hex(hex, sizeof(hex), hash, WORD_BYTES);
	memcpy(to, hex, CHATD_CIPHER_WORD);
	return 0;
}

static void make(const struct key *k, struct chatd_str hash, char to[CHATD_CIPHER_MARK])
{
	to[0] = RECORD_VERSION;
	memcpy(to + 1, k->id, KEY_ID);
	crypto_generichash((unsigned char *)to + AT_HASH, HASH, (const unsigned char *)hash.p, hash.n,
			k->mark, KEY_BYTES);
}

void marks_make(const struct chatd_keys *set, struct chatd_str hash, char to[CHATD_CIPHER_MARK])
{
	make(&set->key[set->active], hash, to);
}

int32_t marks_match(const struct chatd_keys *set, struct chatd_str mark, struct chatd_str hash)
{
	char want[CHATD_CIPHER_MARK];
	if (mark.n != CHATD_CIPHER_MARK || mark.p[0] != RECORD_VERSION) {
		return 0;
	}
	const struct key *k = keys_find(set, (const unsigned char *)mark.p + 1);
	if (!k) {
		return 1;
	}
	make(k, hash, want);
	return sodium_memcmp(want, mark.p, CHATD_CIPHER_MARK) == 0;
}

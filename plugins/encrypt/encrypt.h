/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file encrypt.h
 * @brief Keys, and records sealed with them.
 *
 * A record: version (1), settings, the key's number (8 bytes), a random nonce (24), what
 * XChaCha20-Poly1305 makes of the text, and its tag (16).  The first ten bytes and the place are
 * its associated data.  A key's number is a hash of the key, so two nodes cannot mean different
 * keys by one number; its name is for people only.
 */
#ifndef ENCRYPT_H
#define ENCRYPT_H

#include <chatd/cipher.h>

#include <sodium.h>

enum {
	KEY_BYTES = crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
	KEY_ID = 8,
	KEY_NAME = 32,
	KEYS_MAX = 16,
	RECORD_VERSION = 1,
	RECORD_WORDS = 1, /* settings: keyed words lie beside it */
	WHY_MAX = 320,
};

struct key {
	unsigned char id[KEY_ID];
	char name[KEY_NAME + 1];
	int standby; /* known, and not used yet */
	/* Made of the one in the configuration, so that none is used for two things. */
	unsigned char seal[KEY_BYTES], word[KEY_BYTES], mark[KEY_BYTES];
};

struct chatd_keys {
	struct chatd_keys *before; /* the set that this one took the place of */
	size_t n, active;
	int seals, words;
	struct key key[KEYS_MAX]; /* as in the configuration: the oldest first */
};

/* keys.c: a set in memory that is not swapped out; NULL: @p why says why not, in a sentence that
 * repeats nothing secret. */
struct chatd_keys *keys_parse(const char *text, char why[WHY_MAX]);
void keys_free(struct chatd_keys *); /* and those before it */
const struct key *keys_find(const struct chatd_keys *, const unsigned char id[KEY_ID]);

/* record.c: what struct chatd_cipher says. */
chatd_status record_seal(const struct chatd_keys *, const struct chatd_cipher_place *,
		struct chatd_str plain, char *to);
chatd_status record_open(const struct chatd_keys *, const struct chatd_cipher_place *,
		struct chatd_str sealed, char *to);
void record_head(const struct chatd_keys *, char to[CHATD_CIPHER_HEAD]);
int32_t record_look(const struct chatd_keys *, struct chatd_str head);
void record_name(const struct chatd_keys *, struct chatd_str head, char to[CHATD_CIPHER_NAME]);

/* words.c */
chatd_status words_key(
		const struct chatd_keys *, size_t key, struct chatd_str word, char to[CHATD_CIPHER_WORD]);
void marks_make(const struct chatd_keys *, struct chatd_str hash, char to[CHATD_CIPHER_MARK]);
int32_t marks_match(const struct chatd_keys *, struct chatd_str mark, struct chatd_str hash);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed records: see encrypt.h. */
#include "encrypt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
	AT_ID = 2,
	AT_NONCE = AT_ID + KEY_ID,
	NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	AT_TEXT = AT_NONCE + NONCE,
	TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
	PART_MAX = 512, /* of a place; none is longer */
};
_Static_assert((int)AT_NONCE == (int)CHATD_CIPHER_HEAD, "the head");
_Static_assert((int)AT_TEXT + (int)TAG == (int)CHATD_CIPHER_EXTRA, "the size");

/* ---- what it is bound to ----------------------------------------------------------- */

struct bound {
	unsigned char p[CHATD_CIPHER_HEAD + 3 * (PART_MAX + 4) + 8];
	size_t n;
};

static void put_number(struct bound *b, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++) {
		b->p[b->n++] = (unsigned char)(v >> (8 * i));
	}
}

/* With its length, so that no two places come out the same. */
static int put_part(struct bound *b, struct chatd_str s)
{
	if (s.n > PART_MAX) {
		return 0;
	}
	put_number(b, s.n, 4);
	if (s.n) {
		memcpy(b->p + b->n, s.p, s.n);
	}
	b->n += s.n;
	return 1;
}

static int bind(struct bound *b, const unsigned char *head, const struct chatd_cipher_place *at)
{
	memcpy(b->p, head, CHATD_CIPHER_HEAD);
	b->n = CHATD_CIPHER_HEAD;
	put_number(b, (uint64_t)at->seq, 8);
	return put_part(b, at->kind) && put_part(b, at->conv) && put_part(b, at->sender);
}

/* ---- nonces ---------------------------------------------------------------------------- */

/* 192 random bits do not repeat.  Should they (a machine whose random numbers stand still, a
 * copy of a process), the one before is the likeliest: then nothing is sealed. */
static int new_nonce(unsigned char nonce[NONCE])
{
	static _Atomic uint64_t last;
	uint64_t begin;
	randombytes_buf(nonce, NONCE);
	memcpy(&begin, nonce, sizeof(begin));
	return begin != 0 && atomic_exchange(&last, begin) != begin;
}

/* ---- records ------------------------------------------------------------------------------ */

static void put_head(const struct chatd_keys *set, unsigned char *to)
{
	to[0] = RECORD_VERSION;
	to[1] = set->words ? RECORD_WORDS : 0;
	memcpy(to + AT_ID, set->key[set->active].id, KEY_ID);
}

chatd_status record_seal(const struct chatd_keys *set, const struct chatd_cipher_place *at,
		struct chatd_str plain, char *to)
{
	unsigned char *out = (unsigned char *)to;
	struct bound b;
	put_head(set, out);
	if (!bind(&b, out, at)) {
		return -EINVAL;
	}
	if (!new_nonce(out + AT_NONCE)) {
		return -EIO;
	}
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + AT_TEXT, NULL, (const unsigned char *)plain.p,
			plain.n, b.p, b.n, NULL, out + AT_NONCE, set->key[set->active].seal);
	return 0;
}

chatd_status record_open(const struct chatd_keys *set, const struct chatd_cipher_place *at,
		struct chatd_str sealed, char *to)
{
	const unsigned char *in = (const unsigned char *)sealed.p;
	struct bound b;
	if (sealed.n < CHATD_CIPHER_EXTRA || in[0] != RECORD_VERSION || !bind(&b, in, at)) {
		return -EBADMSG;
	}
	const struct key *k = keys_find(set, in + AT_ID);
	if (!k) {
		return -ENOKEY;
	}
	return crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)to, NULL, NULL, in + AT_TEXT,
				   sealed.n - AT_TEXT, b.p, b.n, in + AT_NONCE, k->seal) == 0
			? 0
			: -EBADMSG;
}

void record_head(const struct chatd_keys *set, char to[CHATD_CIPHER_HEAD])
{
	put_head(set, (unsigned char *)to);
}

int32_t record_look(const struct chatd_keys *set, struct chatd_str head)
{
	unsigned char want[CHATD_CIPHER_HEAD];
	if (head.n < CHATD_CIPHER_HEAD || head.p[0] != RECORD_VERSION) {
		return CHATD_CIPHER_LOST;
	}
	const struct key *k = keys_find(set, (const unsigned char *)head.p + AT_ID);
	if (!k) {
		return CHATD_CIPHER_LOST;
	}
	if (!set->seals) {
		return CHATD_CIPHER_OLD;
	}
	if (k > &set->key[set->active]) {
		return CHATD_CIPHER_LATER;
	}
	put_head(set, want);
	return memcmp(want, head.p, sizeof(want)) == 0 ? CHATD_CIPHER_GOOD : CHATD_CIPHER_OLD;
}

void record_name(const struct chatd_keys *set, struct chatd_str head, char to[CHATD_CIPHER_NAME])
{
	char hex[2 * KEY_ID + 1] = "";
	const struct key *k = NULL;
	if (head.n >= CHATD_CIPHER_HEAD) {
		const unsigned char *id = (const unsigned char *)head.p + AT_ID;
		k = keys_find(set, id);
		sodium_bin2hex(hex, sizeof(hex), id, KEY_ID);
	}
	snprintf(to, CHATD_CIPHER_NAME, "%s%s%s%s", k ? k->name : "", k ? " (" : "", hex, k ? ")" : "");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.cipher/1: nothing is secret, but a record opens nowhere else, not with another key,
 * and not when a bit of it has changed; and who writes plain text in its place is found out. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { AT_NONCE = CHATD_CIPHER_HEAD, AT_SUM = AT_NONCE + 8, SUM = CHATD_CIPHER_EXTRA - AT_SUM };
enum { MASK = 0xa5, PACE = 1000 };

/* One moment's keys: numbers of a row. */
struct chatd_keys {
	struct chatd_keys *next; /* those before; they stay good */
	int first, active, last, seals;
	uint64_t *sealed; /* how many records; part of each, so that no two are equal */
};

struct kit_cipher {
	struct chatd_keys *keys;
	struct chatd_cipher_conf conf;
	uint64_t sealed;
};

static void renew(struct kit *k, int first, int active, int last)
{
	struct kit_cipher *c = k->cipher;
	struct chatd_keys *now = calloc(1, sizeof(*now));
	if (!now) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	*now = (struct chatd_keys){ .next = c->keys,
		.first = first,
		.active = active,
		.last = last,
		.seals = c->conf.seals,
		.sealed = &c->sealed };
	c->keys = now;
}

static struct kit_cipher *cipher(struct kit *k)
{
	if (k->cipher) {
		return k->cipher;
	}
	k->cipher = calloc(1, sizeof(*k->cipher));
	if (!k->cipher) {
		kit_broken(k, "no memory for the test itself");
	}
	k->cipher->conf = (struct chatd_cipher_conf){
		.struct_size = sizeof(k->cipher->conf), .seals = 1, .words = 1, .pace = PACE
	};
	renew(k, 1, 1, 1);
	return k->cipher;
}

static const struct chatd_keys *c_keys(void *obj)
{
	return cipher(obj)->keys;
}

static void c_conf(void *obj, struct chatd_cipher_conf *ret)
{
	const struct chatd_cipher_conf *conf = &cipher(obj)->conf;
	uint32_t n = ret->struct_size && ret->struct_size < sizeof(*ret) ? ret->struct_size
																	 : (uint32_t)sizeof(*ret);
	memcpy(ret, conf, n);
	ret->struct_size = n;
}

static void put_head(int key, char to[CHATD_CIPHER_HEAD])
{
	char head[CHATD_CIPHER_HEAD + 1];
	snprintf(head, sizeof(head), "kit%07u", (unsigned)key % 1000u);
	memcpy(to, head, CHATD_CIPHER_HEAD);
}

/* 0: it is none of this fake's, or the key is not there. */
static int key_of(const struct chatd_keys *set, struct chatd_str record)
{
	char head[CHATD_CIPHER_HEAD];
	for (int key = set->first; key <= set->last; key++) {
		put_head(key, head);
		if (record.n >= CHATD_CIPHER_HEAD && memcmp(record.p, head, CHATD_CIPHER_HEAD) == 0) {
			return key;
		}
	}
	return 0;
}

static void add(crypto_generichash_state *s, struct chatd_str text)
{
	uint64_t n = text.n;
	crypto_generichash_update(s, (const unsigned char *)&n, sizeof(n));
	crypto_generichash_update(s, (const unsigned char *)(text.p ? text.p : ""), text.n);
}

static void sum_of(const char *start, const struct chatd_cipher_place *at, struct chatd_str plain,
		unsigned char ret[SUM])
{
	crypto_generichash_state s;
	crypto_generichash_init(&s, NULL, 0, SUM);
	add(&s, chatd_str_of(start, AT_SUM));
	add(&s, at->kind);
	add(&s, at->conv);
	add(&s, at->sender);
	add(&s, chatd_str_of((const char *)&at->seq, sizeof(at->seq)));
	add(&s, plain);
	crypto_generichash_final(&s, ret, SUM);
}

static void mask(const char *from, size_t n, char *to)
{
	for (size_t i = 0; i < n; i++) {
		to[i] = (char)(from[i] ^ (char)MASK);
	}
}

static chatd_status c_seal(const struct chatd_keys *set, const struct chatd_cipher_place *at,
		struct chatd_str plain, char *to)
{
	if (kit_fault(kit_the())) {
		return -EIO;
	}
	uint64_t nonce = ++*set->sealed;
	put_head(set->active, to);
	memcpy(to + AT_NONCE, &nonce, sizeof(nonce));
	unsigned char sum[SUM];
	sum_of(to, at, plain, sum);
	memcpy(to + AT_SUM, sum, SUM);
	mask(plain.p ? plain.p : "", plain.n, to + CHATD_CIPHER_EXTRA);
	return 0;
}

static chatd_status c_open(const struct chatd_keys *set, const struct chatd_cipher_place *at,
		struct chatd_str sealed, char *to)
{
	if (sealed.n < CHATD_CIPHER_EXTRA || strncmp(sealed.p, "kit", 3) != 0) {
		return -EBADMSG;
	}
	if (!key_of(set, sealed)) {
		return -ENOKEY;
	}
	size_t n = sealed.n - CHATD_CIPHER_EXTRA;
	char *plain = malloc(n + 1);
	unsigned char sum[SUM];
	if (!plain) {
		kit_broken(kit_the(), "no memory for the test itself");
		return -EBADMSG;
	}
	mask(sealed.p + CHATD_CIPHER_EXTRA, n, plain);
	sum_of(sealed.p, at, chatd_str_of(plain, n), sum);
	chatd_status rc = memcmp(sum, sealed.p + AT_SUM, SUM) == 0 ? 0 : -EBADMSG;
	if (rc == 0) {
		memcpy(to, plain, n);
	}
	free(plain);
	return rc;
}

static void c_head(const struct chatd_keys *set, char to[CHATD_CIPHER_HEAD])
{
	put_head(set->active, to);
}

static int32_t c_look(const struct chatd_keys *set, struct chatd_str head)
{
	int key = key_of(set, head);
	return !key                  ? CHATD_CIPHER_LOST
			: !set->seals        ? CHATD_CIPHER_OLD
			: key > set->active  ? CHATD_CIPHER_LATER
			: key == set->active ? CHATD_CIPHER_GOOD
								 : CHATD_CIPHER_OLD;
}

static void keyed(int key, struct chatd_str text, char hex[2 * crypto_generichash_BYTES + 1])
{
	unsigned char hash[crypto_generichash_BYTES];
	crypto_generichash_state s;
	crypto_generichash_init(&s, NULL, 0, sizeof(hash));
	add(&s, chatd_str_of((const char *)&key, sizeof(key)));
	add(&s, text);
	crypto_generichash_final(&s, hash, sizeof(hash));
	sodium_bin2hex(hex, 2 * sizeof(hash) + 1, hash, sizeof(hash));
}

static chatd_status c_word(
		const struct chatd_keys *set, size_t n, struct chatd_str word, char to[CHATD_CIPHER_WORD])
{
	char hex[2 * crypto_generichash_BYTES + 1];
	int key = set->active;
	if (n > 0) { /* the others, but the active one, in order */
		key = set->first + (int)n - 1;
		key += key >= set->active;
	}
	if (n > (size_t)(set->last - set->first)) {
		return -ENOENT;
	}
	keyed(key, word, hex);
	memcpy(to, hex, CHATD_CIPHER_WORD);
	return 0;
}

static void c_mark(const struct chatd_keys *set, struct chatd_str hash, char to[CHATD_CIPHER_MARK])
{
	char hex[2 * crypto_generichash_BYTES + 1];
	keyed(set->active, hash, hex);
	to[0] = (char)set->active;
	memcpy(to + 1, hex, CHATD_CIPHER_MARK - 1);
}

static int32_t c_is_mark(const struct chatd_keys *set, struct chatd_str mark, struct chatd_str hash)
{
	char hex[2 * crypto_generichash_BYTES + 1];
	if (mark.n != CHATD_CIPHER_MARK) {
		return 0;
	}
	if (mark.p[0] < set->first || mark.p[0] > set->last) {
		return 1;
	}
	keyed(mark.p[0], hash, hex);
	return memcmp(hex, mark.p + 1, CHATD_CIPHER_MARK - 1) == 0;
}

static void c_name(const struct chatd_keys *set, struct chatd_str head, char to[CHATD_CIPHER_NAME])
{
	int key = key_of(set, head);
	snprintf(to, CHATD_CIPHER_NAME, key ? "key-%d" : "%.0d%.10s", key,
			head.n >= CHATD_CIPHER_HEAD ? head.p : "");
}

const struct chatd_cipher kit_cipher_vt = { .struct_size = sizeof(kit_cipher_vt),
	.keys = c_keys,
	.conf = c_conf,
	.seal = c_seal,
	.open = c_open,
	.head = c_head,
	.look = c_look,
	.word = c_word,
	.mark = c_mark,
	.is_mark = c_is_mark,
	.name = c_name };

/* ---- the test's side ------------------------------------------------------------------------ */

void kit_keys(struct kit *k, int first, int active, int last)
{
	if (first < 1 || active < first || last < active || last > INT8_MAX) {
		kit_broken(k, "kit_keys(): 1 <= first <= active <= last <= 127");
	}
	(void)cipher(k);
	renew(k, first, active, last);
}

void kit_seals(struct kit *k, int seals, int words)
{
	struct kit_cipher *c = cipher(k);
	c->conf.seals = seals != 0;
	c->conf.words = words != 0;
	renew(k, c->keys->first, c->keys->active, c->keys->last);
}

void kit_cipher_finish(struct kit *k)
{
	while (k->cipher && k->cipher->keys) {
		struct chatd_keys *next = k->cipher->keys->next;
		free(k->cipher->keys);
		k->cipher->keys = next;
	}
	free(k->cipher);
	k->cipher = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as they stand in the configuration: one a line, the oldest first. */
#include "encrypt.h"

#include <stdio.h>
#include <string.h>

/* Numbers of the keys that are made of one; they never change. */
enum { SUB_ID = 1, SUB_SEAL = 2, SUB_WORD = 3, SUB_MARK = 4, ID_BYTES = 16 };
static const char sub_context[crypto_kdf_CONTEXTBYTES + 1] = "chatdrst";

static const char line_form[] =
		"a line is NAME KEY, where NAME is [A-Za-z0-9._-]{1,32} and KEY 32 random bytes as 64 "
		"hex digits or as base64; make one with: openssl rand -hex 32";

static int name_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
					strchr("._-", c))) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= KEY_NAME;
}

/* The next word of a line, which ends at @p end; .n 0: there is none. */
static struct chatd_str next_word(const char **at, const char *end)
{
	while (*at < end && strchr(" \t\r", **at)) {
		(*at)++;
	}
	const char *began = *at;
	while (*at < end && !strchr(" \t\r", **at)) {
		(*at)++;
	}
	return chatd_str_of(began, (size_t)(*at - began));
}

static int decode(struct chatd_str s, unsigned char key[KEY_BYTES])
{
	static const int forms[] = { sodium_base64_VARIANT_ORIGINAL,
		sodium_base64_VARIANT_ORIGINAL_NO_PADDING, sodium_base64_VARIANT_URLSAFE,
		sodium_base64_VARIANT_URLSAFE_NO_PADDING };
	size_t n = 0;
	if (sodium_hex2bin(key, KEY_BYTES, s.p, s.n, NULL, &n, NULL) == 0 && n == KEY_BYTES) {
		return 1;
	}
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		const char *end = NULL;
		if (sodium_base642bin(key, KEY_BYTES, s.p, s.n, NULL, &n, &end, forms[i]) == 0 &&
				n == KEY_BYTES && end == s.p + s.n) {
			return 1;
		}
	}
	return 0;
}

static void derive(struct key *k, const unsigned char master[KEY_BYTES])
{
	unsigned char id[ID_BYTES];
	crypto_kdf_derive_from_key(id, sizeof(id), SUB_ID, sub_context, master);
	memcpy(k->id, id, KEY_ID);
	crypto_kdf_derive_from_key(k->seal, KEY_BYTES, SUB_SEAL, sub_context, master);
	crypto_kdf_derive_from_key(k->word, KEY_BYTES, SUB_WORD, sub_context, master);
	crypto_kdf_derive_from_key(k->mark, KEY_BYTES, SUB_MARK, sub_context, master);
}

static int fail(char why[WHY_MAX], int line, const char *what)
{
	snprintf(why, WHY_MAX, "line %d: %s", line, what);
	return 0;
}

/* Another one of the set has its name, or is it. */
static int is_twice(const struct chatd_keys *set, const struct key *k)
{
	for (size_t i = 0; i < set->n; i++) {
		if (strcmp(set->key[i].name, k->name) == 0 || memcmp(set->key[i].id, k->id, KEY_ID) == 0) {
			return 1;
		}
	}
	return 0;
}

static int take_key(struct chatd_keys *set, struct chatd_str name, struct chatd_str key)
{
	unsigned char master[KEY_BYTES];
	struct key *k = &set->key[set->n];
	int good = decode(key, master) && !sodium_is_zero(master, KEY_BYTES);
	if (good) {
		memcpy(k->name, name.p, name.n);
		derive(k, master);
	}
	sodium_memzero(master, sizeof(master));
	return good;
}

static int take_line(struct chatd_keys *set, struct chatd_str text, int line, char why[WHY_MAX])
{
	const char *at = text.p, *end = text.p + text.n;
	struct chatd_str name = next_word(&at, end);
	if (name.n == 0 || name.p[0] == '#') {
		return 1;
	}
	struct chatd_str key = next_word(&at, end), how = next_word(&at, end);
	int standby = how.n == 7 && memcmp(how.p, "standby", 7) == 0;
	if (set->n == KEYS_MAX) {
		return fail(why, line, "more than 16 keys; remove old ones that no message needs");
	}
	if (!name_ok(name) || (how.n && !standby) || next_word(&at, end).n ||
			!take_key(set, name, key)) {
		return fail(why, line, line_form);
	}
	if (is_twice(set, &set->key[set->n])) {
		return fail(why, line, "this name or this key is in the list already; remove one");
	}
	set->key[set->n].standby = standby;
	set->n++;
	return 1;
}

/* The last one that is in use. */
static int find_active(struct chatd_keys *set, char why[WHY_MAX])
{
	size_t i = set->n;
	while (i > 0 && set->key[i - 1].standby) {
		i--;
	}
	for (size_t j = 0; j < i; j++) {
		if (set->key[j].standby) {
			snprintf(why, WHY_MAX,
					"\"%s\" is on standby and stands before \"%s\", which is not; keys are listed "
					"in the order in which they come into use",
					set->key[j].name, set->key[i - 1].name);
			return 0;
		}
	}
	if (i == 0) {
		snprintf(why, WHY_MAX, "there is no key that is not on standby; %s", line_form);
		return 0;
	}
	set->active = i - 1;
	return 1;
}

struct chatd_keys *keys_parse(const char *text, char why[WHY_MAX])
{
	struct chatd_keys *set = sodium_malloc(sizeof(*set));
	int line = 1, good = 1;
	if (!set) {
		snprintf(why, WHY_MAX, "no memory");
		return NULL;
	}
	memset(set, 0, sizeof(*set));
	for (const char *p = text; good; line++) {
		size_t n = strcspn(p, "\n");
		good = take_line(set, chatd_str_of(p, n), line, why);
		if (!p[n]) {
			break;
		}
		p += n + 1;
	}
	if (!good || !find_active(set, why)) {
		sodium_free(set);
		return NULL;
	}
	return set;
}

void keys_free(struct chatd_keys *set)
{
	while (set) {
		struct chatd_keys *before = set->before;
		sodium_free(set); /* zeroes it */
		set = before;
	}
}

const struct key *keys_find(const struct chatd_keys *set, const unsigned char id[KEY_ID])
{
	for (size_t i = 0; i < set->n; i++) {
		if (memcmp(set->key[i].id, id, KEY_ID) == 0) {
			return &set->key[i];
		}
	}
	return NULL;
}

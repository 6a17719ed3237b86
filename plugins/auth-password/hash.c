/* SPDX-License-Identifier: Apache-2.0 */
#include "hash.h"

#include <argon2.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int is_bcrypt(const char *have)
{
	return have[0] == '$' && have[1] == '2' && have[2] && strchr("aby", have[2]) && have[3] == '$';
}

static int make_bcrypt(unsigned long cost, const char *pass, char ret[HASH_ROOM])
{
	char salt[CRYPT_GENSALT_OUTPUT_SIZE], raw[16];
	struct crypt_data *data = calloc(1, sizeof(*data));
	int rc = -ENOMEM;
	randombytes_buf(raw, sizeof(raw));
	if (data && crypt_gensalt_rn("$2b$", cost, raw, sizeof(raw), salt, sizeof(salt))) {
		const char *out = crypt_rn(pass, salt, data, sizeof(*data));
		if (out) {
			snprintf(ret, HASH_ROOM, "%s", out);
			rc = 0;
		}
	}
	if (data) {
		sodium_memzero(data, sizeof(*data));
	}
	free(data);
	return rc;
}

/* ---- Argon2id ---------------------------------------------------------------------- */

enum { SALT = 16, TAG = 32, MEMORY_MAX_KIB = 1 << 20, PASSES_MAX = 100 };

/* The library's callbacks are given nothing of ours. */
static _Thread_local struct hash_memory *at_hand;

static int take_memory(uint8_t **ret, size_t n)
{
	if (at_hand->n < n) {
		hash_memory_finish(at_hand);
		void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			return ARGON2_MEMORY_ALLOCATION_ERROR;
		}
		*at_hand = (struct hash_memory){ .p = p, .n = n };
	}
	*ret = at_hand->p;
	return ARGON2_OK;
}

static void give_memory(uint8_t *p, size_t n)
{
	(void)p;
	(void)n;
}

void hash_memory_rest(struct hash_memory *m)
{
	if (m->p) {
		(void)madvise(m->p, m->n, MADV_DONTNEED);
	}
}

void hash_memory_finish(struct hash_memory *m)
{
	if (m->p) {
		(void)munmap(m->p, m->n);
	}
	*m = (struct hash_memory){ 0 };
}

struct argon {
	uint32_t memory_kib, passes;
	uint8_t salt[SALT], tag[TAG];
};

static int argon(struct argon *a, struct hash_memory *memory, struct hash_pass pass)
{
	struct hash_memory once = { 0 };
	union {
		const char *in;
		uint8_t *out;
	} text = { .in = pass.p }; /* only read: no flag asks for it to be wiped */
	argon2_context c = { .out = a->tag,
		.outlen = TAG,
		.pwd = text.out,
		.pwdlen = (uint32_t)pass.n,
		.salt = a->salt,
		.saltlen = SALT,
		.t_cost = a->passes,
		.m_cost = a->memory_kib,
		.lanes = 1,
		.threads = 1,
		.version = ARGON2_VERSION_13,
		.allocate_cbk = take_memory,
		.free_cbk = give_memory };
	at_hand = memory ? memory : &once;
	int rc = argon2id_ctx(&c);
	at_hand = NULL;
	hash_memory_finish(&once);
	return rc == ARGON2_OK ? 0 : -ENOMEM;
}

static void argon_text(const struct argon *a, char ret[HASH_ROOM])
{
	char salt[32], tag[64];
	sodium_bin2base64(salt, sizeof(salt), a->salt, SALT, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	sodium_bin2base64(tag, sizeof(tag), a->tag, TAG, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	snprintf(ret, HASH_ROOM, "$argon2id$v=19$m=%u,t=%u,p=1$%s$%s", a->memory_kib, a->passes, salt,
			tag);
}

static int unbase64(const char **at, uint8_t *ret, size_t n)
{
	const char *end;
	size_t got;
	if (sodium_base642bin(ret, n, *at, strcspn(*at, "$"), NULL, &got, &end,
				sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
			got != n) {
		return 0;
	}
	*at = end;
	return 1;
}

/* 0: none of the form in which argon_text() writes them. */
static int argon_parse(const char *text, struct argon *ret)
{
	int used = 0;
	if (sscanf(text, "$argon2id$v=19$m=%7u,t=%3u,p=1$%n", &ret->memory_kib, &ret->passes, &used) !=
					2 ||
			used == 0 || ret->memory_kib > MEMORY_MAX_KIB || ret->passes > PASSES_MAX) {
		return 0;
	}
	const char *at = text + used;
	return unbase64(&at, ret->salt, SALT) && *at++ == '$' && unbase64(&at, ret->tag, TAG) && !*at;
}

/* Whoever wrote such a hash meant this server no good: it would fill the memory. */
static int asks_too_much(const char *text)
{
	unsigned long long memory_kib = 0, passes = 0;
	const char *m = strstr(text, "$m=");
	return !m || sscanf(m, "$m=%20llu,t=%20llu", &memory_kib, &passes) != 2 ||
			memory_kib > MEMORY_MAX_KIB || passes > PASSES_MAX;
}

static int verify_argon(const char *have, struct hash_memory *memory, struct hash_pass pass)
{
	struct argon want, got;
	if (asks_too_much(have)) {
		return 0;
	}
	if (!argon_parse(have, &want)) {
		return crypto_pwhash_str_verify(have, pass.p, pass.n) == 0; /* another kind of it */
	}
	got = want;
	return argon(&got, memory, pass) == 0 && sodium_memcmp(got.tag, want.tag, TAG) == 0;
}

int hash_make(const struct hash_params *p, struct hash_memory *memory, struct hash_pass pass,
		char ret[HASH_ROOM])
{
	if (p->kind == HASH_BCRYPT) {
		return pass.n > HASH_BCRYPT_BYTES ? -EINVAL : make_bcrypt(p->bcrypt_cost, pass.p, ret);
	}
	struct argon a = { .memory_kib = (uint32_t)(p->memory / 1024), .passes = (uint32_t)p->passes };
	randombytes_buf(a.salt, SALT);
	int rc = argon(&a, memory, pass);
	if (rc == 0) {
		argon_text(&a, ret);
	}
	return rc;
}

/* ---- verifying ----------------------------------------------------------------------- */

static int verify_bcrypt(const char *have, const char *pass, size_t n)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	/* Not crypt_r(): its "*0" for a failure is one more thing to forget. */
	const char *out = data ? crypt_rn(pass, have, data, sizeof(*data)) : NULL;
	int same = out && strlen(out) == strlen(have) && sodium_memcmp(out, have, strlen(out)) == 0;
	if (data) {
		sodium_memzero(data, sizeof(*data));
	}
	free(data);
	return same && n <= HASH_BCRYPT_BYTES;
}

int hash_verify(const char *have, struct hash_memory *memory, struct hash_pass pass)
{
	if (memchr(pass.p, 0, pass.n)) {
		return 0;
	}
	if (strncmp(have, "$argon2", 7) == 0) {
		return verify_argon(have, memory, pass);
	}
	return is_bcrypt(have) && verify_bcrypt(have, pass.p, pass.n);
}

int hash_outdated(const struct hash_params *p, const char *have)
{
	char want[16];
	if (p->kind == HASH_BCRYPT) {
		snprintf(want, sizeof(want), "$2b$%02lu$", p->bcrypt_cost);
		return strncmp(have, want, strlen(want)) != 0;
	}
	return strncmp(have, crypto_pwhash_argon2id_STRPREFIX,
				   strlen(crypto_pwhash_argon2id_STRPREFIX)) != 0 ||
			crypto_pwhash_str_needs_rehash(have, p->passes, p->memory) != 0;
}

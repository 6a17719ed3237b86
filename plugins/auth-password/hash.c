/* SPDX-License-Identifier: Apache-2.0 */
#include "hash.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int hash_make(const struct hash_params *p, const char *pass, size_t n, char ret[HASH_ROOM])
{
	if (p->kind == HASH_BCRYPT) {
		return n > HASH_BCRYPT_BYTES ? -EINVAL : make_bcrypt(p->bcrypt_cost, pass, ret);
	}
	return crypto_pwhash_str_alg(
				   ret, pass, n, p->passes, p->memory, crypto_pwhash_ALG_ARGON2ID13) == 0
			? 0
			: -ENOMEM;
}

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

int hash_verify(const char *have, const char *pass, size_t n)
{
	if (memchr(pass, 0, n)) {
		return 0;
	}
	if (strncmp(have, "$argon2", 7) == 0) {
		return crypto_pwhash_str_verify(have, pass, n) == 0;
	}
	return is_bcrypt(have) && verify_bcrypt(have, pass, n);
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "sign.h"

#include "names.h"

#include <chatd-sdk/json.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

chatd_status sign_key(struct chatd_str text, unsigned char ret[SIGN_KEY])
{
	static const unsigned char purpose[] = "chatd signed addresses of files";
	unsigned n = 0;
	unsigned char out[EVP_MAX_MD_SIZE];
	if (!HMAC(EVP_sha256(), text.p, (int)text.n, purpose, sizeof(purpose) - 1, out, &n) ||
			n != SIGN_KEY) {
		return -EIO;
	}
	memcpy(ret, out, SIGN_KEY);
	return 0;
}

/* HEAD is a GET whose body nobody reads. */
static chatd_status mac(
		const unsigned char key[SIGN_KEY], const struct signed_for *f, char ret[SIGN_HEX + 1])
{
	static const char hex[] = "0123456789abcdef";
	char text[256];
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int len = snprintf(text, sizeof(text), "GET\n%.*s\n%.*s\n%lld", (int)f->file.n, f->file.p,
			(int)f->user.n, f->user.p, (long long)f->expires);
	if (!HMAC(EVP_sha256(), key, SIGN_KEY, (const unsigned char *)text, (size_t)len, out, &n) ||
			n != SIGN_HEX / 2) {
		return -EIO;
	}
	for (unsigned i = 0; i < n; i++) {
		ret[2 * i] = hex[out[i] >> 4];
		ret[2 * i + 1] = hex[out[i] & 15];
	}
	ret[SIGN_HEX] = '\0';
	return 0;
}

chatd_status sign_write(
		const unsigned char key[SIGN_KEY], const struct signed_for *f, char ret[SIGN_QUERY])
{
	char tag[SIGN_HEX + 1];
	chatd_status rc = mac(key, f, tag);
	if (rc == 0) {
		snprintf(ret, SIGN_QUERY, "u=%.*s&e=%lld&s=%s", (int)f->user.n, f->user.p,
				(long long)f->expires, tag);
	}
	return rc;
}

/* "NAME=value" at the front of the query, up to the next & or its end. */
static int take(struct chatd_str *query, const char *name, struct chatd_str *ret)
{
	size_t n = strlen(name);
	if (query->n <= n || memcmp(query->p, name, n) != 0) {
		return 0;
	}
	const char *p = query->p + n, *end = query->p + query->n;
	const char *amp = memchr(p, '&', (size_t)(end - p));
	*ret = chatd_str_of(p, (size_t)((amp ? amp : end) - p));
	query->p = amp ? amp + 1 : end;
	query->n = (size_t)(end - query->p);
	return 1;
}

chatd_status sign_check(const unsigned char key[SIGN_KEY], struct chatd_str query, int64_t now,
		struct signed_for *f)
{
	struct chatd_str expires, tag;
	char want[SIGN_HEX + 1];
	const char *end = query.p + query.n;
	if (!take(&query, "u=", &f->user) || !take(&query, "e=", &expires) ||
			!take(&query, "s=", &tag) || tag.n != SIGN_HEX || tag.p + tag.n != end ||
			!chatd_id_ok(f->user) || !chatd_id_ok(f->file) ||
			(f->expires = number_read(expires)) < 0) {
		return -EACCES;
	}
	chatd_status rc = mac(key, f, want);
	if (rc < 0) {
		return rc;
	}
	if (CRYPTO_memcmp(want, tag.p, SIGN_HEX) != 0) {
		return -EACCES;
	}
	return f->expires <= now ? -ETIME : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IV = 12, TAG = 16 };
#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "e2ee: %s failed\n", what);
		exit(1);
	}
}

void bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){ NULL, 0 };
}

void bytes_add(struct bytes *b, const void *p, size_t n)
{
	uint8_t *to = realloc(b->p, b->n + n + 1);
	must(to != NULL, "memory");
	if (n) {
		memcpy(to + b->n, p, n);
	}
	b->p = to;
	b->n += n;
	to[b->n] = 0;
}

void bytes_field(struct bytes *b, const void *p, size_t n)
{
	uint8_t length[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	bytes_add(b, length, sizeof(length));
	bytes_add(b, p, n);
}

void bytes_text(struct bytes *b, const char *field)
{
	bytes_field(b, field, strlen(field));
}

void bytes_number(struct bytes *b, int64_t n)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)n);
	bytes_text(b, n ? text : "");
}

char *base64_of(const void *p, size_t n)
{
	size_t room = sodium_base64_encoded_len(n, BASE64);
	char *text = malloc(room);
	must(text != NULL, "memory");
	return sodium_bin2base64(text, room, p, n, BASE64);
}

struct bytes base64_bytes(const char *text)
{
	struct bytes b = { NULL, 0 };
	size_t max = text ? strlen(text) : 0;
	uint8_t *p = malloc(max + 1);
	must(p != NULL, "memory");
	if (!text || sodium_base642bin(p, max, text, max, NULL, &b.n, NULL, BASE64) < 0) {
		free(p);
		return (struct bytes){ NULL, 0 };
	}
	b.p = p;
	return b;
}

int base64_read(const char *text, void *to, size_t n)
{
	struct bytes b = base64_bytes(text);
	int good = b.p && b.n == n;
	if (good) {
		memcpy(to, b.p, n);
	}
	bytes_free(&b);
	return good;
}

void hkdf(const uint8_t *secret, size_t n, const struct bytes *info, uint8_t ret[32])
{
	uint8_t salt[32] = { 0 };
	char digest[] = "SHA256";
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, n),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info->p, info->n),
		OSSL_PARAM_construct_end(),
	};
	must(EVP_KDF_derive(ctx, ret, 32, params) == 1, "HKDF");
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

void stretch(const struct bytes *what, const struct bytes *salt, int rounds, uint8_t ret[32])
{
	must(PKCS5_PBKDF2_HMAC((const char *)what->p, (int)what->n, salt->p, (int)salt->n, rounds,
				 EVP_sha512(), 32, ret) == 1,
			"PBKDF2");
}

void gcm_seal(const uint8_t key[32], const struct bytes *plain, const struct bytes *more,
		struct bytes *ret)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *out = malloc(IV + plain->n + TAG);
	int n = 0, ok;
	must(out != NULL, "memory");
	randombytes_buf(out, IV);
	ok = EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, out);
	ok &= !more->n || EVP_EncryptUpdate(ctx, NULL, &n, more->p, (int)more->n);
	ok &= EVP_EncryptUpdate(ctx, out + IV, &n, plain->p, (int)plain->n);
	ok &= EVP_EncryptFinal_ex(ctx, out + IV + n, &n);
	ok &= EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, out + IV + plain->n);
	must(ok == 1, "AES-GCM");
	EVP_CIPHER_CTX_free(ctx);
	*ret = (struct bytes){ out, IV + plain->n + TAG };
}

int gcm_open(const uint8_t key[32], const struct bytes *sealed, const struct bytes *more,
		struct bytes *ret)
{
	int n = 0, ok;
	if (sealed->n < IV + TAG) {
		return 0;
	}
	size_t length = sealed->n - IV - TAG;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *out = malloc(length + 1);
	must(out != NULL, "memory");
	ok = EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, sealed->p);
	ok &= !more->n || EVP_DecryptUpdate(ctx, NULL, &n, more->p, (int)more->n);
	ok &= EVP_DecryptUpdate(ctx, out, &n, sealed->p + IV, (int)length);
	ok &= EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, sealed->p + IV + length);
	must(ok == 1, "AES-GCM");
	ok = EVP_DecryptFinal_ex(ctx, out + n, &n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	if (!ok) {
		free(out);
		return 0;
	}
	out[length] = 0;
	*ret = (struct bytes){ out, length };
	return 1;
}

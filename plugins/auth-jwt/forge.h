/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file forge.h
 * @brief For tests: tokens made without libjwt and libjose, good ones and others.
 */
#ifndef FORGE_H
#define FORGE_H

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORGE_MAX = 32768 };

/** One buffer for each of the last few texts, so that several can be in one expression. */
static inline char *forge_room(void)
{
	static char *room[32];
	static unsigned next;
	char **one = &room[next++ % 32];
	if (!*one) {
		*one = malloc(FORGE_MAX);
	}
	if (!*one) {
		abort();
	}
	return *one;
}

static inline const char *forge_b64(const void *p, size_t n)
{
	char *to = forge_room();
	return sodium_bin2base64(to, FORGE_MAX, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/** header.payload, both encoded. */
static inline const char *forge_input(const char *header, const char *payload)
{
	const char *h = forge_b64(header, strlen(header)), *p = forge_b64(payload, strlen(payload));
	char *to = forge_room();
	snprintf(to, FORGE_MAX, "%s.%s", h, p);
	return to;
}

static inline const char *forge_join(const char *input, const void *sig, size_t n)
{
	const char *s = forge_b64(sig, n);
	char *to = forge_room();
	snprintf(to, FORGE_MAX, "%s.%s", input, s);
	return to;
}

/** Signed by HMAC with @p md ("SHA384"). */
static inline const char *forge_hmac(
		const char *header, const char *payload, const char *md, const void *key, size_t n)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_n = 0;
	const char *input = forge_input(header, payload);
	HMAC(EVP_get_digestbyname(md), key, (int)n, (const unsigned char *)input, strlen(input), mac,
			&mac_n);
	return forge_join(input, mac, mac_n);
}

/** r and s of a DER signature, 32 bytes each. */
static inline void forge_raw_ec(const unsigned char *der, size_t n, unsigned char to[64])
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), to, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), to + 32, 32);
	ECDSA_SIG_free(sig);
}

/** Signed by a key pair: RS256, ES256 or EdDSA, as the key is. */
static inline const char *forge_pkey(const char *header, const char *payload, EVP_PKEY *key)
{
	unsigned char sig[1024], raw[64];
	size_t n = sizeof(sig);
	const char *input = forge_input(header, payload);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ed = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
	EVP_DigestSignInit(ctx, NULL, ed ? NULL : EVP_sha256(), NULL, key);
	EVP_DigestSign(ctx, sig, &n, (const unsigned char *)input, strlen(input));
	EVP_MD_CTX_free(ctx);
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
		forge_raw_ec(sig, n, raw);
		return forge_join(input, raw, sizeof(raw));
	}
	return forge_join(input, sig, n);
}

static inline const char *forge_pem(EVP_PKEY *key, int private1_public0)
{
	char *to = forge_room(), *text = NULL;
	BIO *out = BIO_new(BIO_s_mem());
	if (private1_public0) {
		PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	} else {
		PEM_write_bio_PUBKEY(out, key);
	}
	long n = BIO_get_mem_data(out, &text);
	memcpy(to, text, (size_t)n);
	to[n] = '\0';
	BIO_free(out);
	return to;
}

/** A number of a key ("n", "e", "qx", "qy") as JWK has it. */
static inline const char *forge_number(EVP_PKEY *key, const char *name, int pad)
{
	unsigned char raw[1024];
	BIGNUM *bn = NULL;
	EVP_PKEY_get_bn_param(key, name, &bn);
	int n = pad ? BN_bn2binpad(bn, raw, pad) : BN_bn2bin(bn, raw);
	BN_free(bn);
	return forge_b64(raw, (size_t)n);
}

/** A JWK with @p more members (",\"kid\":\"a\""). */
static inline const char *forge_jwk(EVP_PKEY *key, const char *more)
{
	char *to = forge_room();
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
		snprintf(to, FORGE_MAX, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}",
				forge_number(key, OSSL_PKEY_PARAM_RSA_N, 0),
				forge_number(key, OSSL_PKEY_PARAM_RSA_E, 0), more);
	} else {
		snprintf(to, FORGE_MAX, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"%s}",
				forge_number(key, OSSL_PKEY_PARAM_EC_PUB_X, 32),
				forge_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, 32), more);
	}
	return to;
}

#endif

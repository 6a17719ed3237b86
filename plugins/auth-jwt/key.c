/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <errno.h>
#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KID_BYTES = 6, ED_SIG = 64 };

const char *const key_algs[] = { "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA", NULL };

static const jwt_alg_t lib_alg[ALG_COUNT] = {
	[ALG_HS256] = JWT_ALG_HS256,
	[ALG_HS384] = JWT_ALG_HS384,
	[ALG_HS512] = JWT_ALG_HS512,
	[ALG_RS256] = JWT_ALG_RS256,
	[ALG_ES256] = JWT_ALG_ES256,
	[ALG_EDDSA] = JWT_ALG_NONE,
};

static int is_hmac(int alg)
{
	return alg <= ALG_HS512;
}

/* ---- loading ---------------------------------------------------------------------- */

static unsigned char *copy_bytes(const void *p, size_t n)
{
	unsigned char *to = malloc(n + 1);
	if (to) {
		memcpy(to, p, n);
		to[n] = '\0';
	}
	return to;
}

/* Tells keys apart and says nothing about them. */
static void name_key(struct key *k, const char *kid)
{
	unsigned char hash[KID_BYTES * 3];
	const unsigned char *from = k->public_pem ? k->public_pem : k->secret;
	if (kid) {
		snprintf(k->kid, sizeof(k->kid), "%s", kid);
		return;
	}
	crypto_generichash(hash, sizeof(hash), from, k->public_pem ? k->public_n : k->secret_n,
			(const unsigned char *)"chatd auth-jwt kid", 18);
	sodium_bin2hex(k->kid, sizeof(k->kid), hash, KID_BYTES);
}

static chatd_status decode_secret(struct key *k, struct chatd_str text, char *why)
{
	static const int variants[] = { sodium_base64_VARIANT_ORIGINAL,
		sodium_base64_VARIANT_ORIGINAL_NO_PADDING, sodium_base64_VARIANT_URLSAFE,
		sodium_base64_VARIANT_URLSAFE_NO_PADDING };
	k->secret = malloc(text.n + 1);
	for (size_t i = 0; k->secret && i < sizeof(variants) / sizeof(variants[0]); i++) {
		const char *end = NULL;
		if (sodium_base642bin(k->secret, text.n + 1, text.p, text.n, "\r\n\t ", &k->secret_n, &end,
					variants[i]) == 0 &&
				end == text.p + text.n) {
			return 0;
		}
	}
	snprintf(why, KEY_WHY, "it is not base64; correct it, or leave out base64: true");
	return -EINVAL;
}

static chatd_status load_hmac(const struct key_spec *s, struct key *k, char *why)
{
	if (memmem(s->text.p, s->text.n, "-----BEGIN", 10)) {
		snprintf(why, KEY_WHY,
				"it is a PEM key, which others may know, and %s wants a secret; use RS256, ES256 "
				"or EdDSA with it, or another key",
				key_algs[s->alg]);
		return -EINVAL;
	}
	if (s->base64) {
		chatd_status rc = decode_secret(k, s->text, why);
		if (rc < 0) {
			return rc;
		}
	} else {
		k->secret = copy_bytes(s->text.p, s->text.n);
		k->secret_n = s->text.n;
	}
	if (!k->secret || k->secret_n < KEY_HMAC_MIN) {
		snprintf(why, KEY_WHY,
				"it has %zu bytes, and %s needs at least %d; make one with: openssl rand -base64 64",
				k->secret_n, key_algs[s->alg], KEY_HMAC_MIN);
		return -EINVAL;
	}
	k->can_sign = 1;
	return 0;
}

/* Without this OpenSSL would ask at the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static EVP_PKEY *read_pem(struct key *k, struct chatd_str text)
{
	BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
	EVP_PKEY *p = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
	k->can_sign = p != NULL;
	BIO_free(in);
	if (!p) {
		in = BIO_new_mem_buf(text.p, (int)text.n);
		p = in ? PEM_read_bio_PUBKEY(in, NULL, no_password, NULL) : NULL;
		BIO_free(in);
	}
	return p;
}

static int fits(int alg, const EVP_PKEY *p, char *why)
{
	char group[32] = "";
	int type = EVP_PKEY_get_base_id(p), bits = EVP_PKEY_get_bits(p);
	switch (alg) {
	case ALG_RS256:
		if (type == EVP_PKEY_RSA && bits >= KEY_RSA_MIN && bits <= 8192) {
			return 1;
		}
		snprintf(why, KEY_WHY,
				"RS256 needs an RSA key of %d to 8192 bits; make one with: openssl genpkey "
				"-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
				KEY_RSA_MIN);
		return 0;
	case ALG_ES256:
		if (type == EVP_PKEY_EC && EVP_PKEY_get_group_name(p, group, sizeof(group), NULL) == 1 &&
				strcmp(group, "prime256v1") == 0) {
			return 1;
		}
		snprintf(why, KEY_WHY,
				"ES256 needs a key on the curve P-256; make one with: openssl genpkey "
				"-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
		return 0;
	default:
		if (type == EVP_PKEY_ED25519) {
			return 1;
		}
		snprintf(why, KEY_WHY,
				"EdDSA needs an Ed25519 key; make one with: openssl genpkey -algorithm ed25519");
		return 0;
	}
}

/* Of a private key too: what is handed to the verifier cannot sign. */
static int write_public(struct key *k, const EVP_PKEY *p)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *text = NULL;
	if (out && PEM_write_bio_PUBKEY(out, p) == 1) {
		long n = BIO_get_mem_data(out, &text);
		k->public_pem = copy_bytes(text, (size_t)n);
		k->public_n = (size_t)n;
	}
	BIO_free(out);
	return k->public_pem ? 0 : -1;
}

static chatd_status load_pem(const struct key_spec *s, struct key *k, char *why)
{
	EVP_PKEY *p = s->text.n < 65536 ? read_pem(k, s->text) : NULL;
	if (!p) {
		snprintf(why, KEY_WHY,
				"it is no PEM key that can be read without a password, as %s needs; make one with "
				"openssl genpkey",
				key_algs[s->alg]);
		return -EINVAL;
	}
	k->pkey = p;
	if (!fits(s->alg, p, why)) {
		return -EINVAL;
	}
	k->secret = k->can_sign ? copy_bytes(s->text.p, s->text.n) : NULL;
	k->secret_n = k->secret ? s->text.n : 0;
	if (write_public(k, p) < 0 || (k->can_sign && !k->secret)) {
		snprintf(why, KEY_WHY, "there is no memory for it");
		return -EINVAL;
	}
	return 0;
}

chatd_status key_load(const struct key_spec *s, struct key *ret, char why[KEY_WHY])
{
	*ret = (struct key){ .alg = s->alg };
	chatd_status rc = is_hmac(s->alg) ? load_hmac(s, ret, why) : load_pem(s, ret, why);
	if (rc == 0) {
		name_key(ret, s->kid);
	} else {
		key_wipe(ret);
	}
	return rc;
}

void key_wipe(struct key *k)
{
	if (k->secret) {
		sodium_memzero(k->secret, k->secret_n);
	}
	free(k->secret);
	free(k->public_pem);
	EVP_PKEY_free(k->pkey);
	*k = (struct key){ 0 };
}

/* ---- verifying -------------------------------------------------------------------------- */

static chatd_status verify_ed(const struct key *k, const struct token *t)
{
	unsigned char sig[ED_SIG];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good = ctx && token_decode(t->sig, sig, sizeof(sig)) == ED_SIG &&
			EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->pkey) == 1 &&
			EVP_DigestVerify(
					ctx, sig, sizeof(sig), (const unsigned char *)t->signing.p, t->signing.n) == 1;
	EVP_MD_CTX_free(ctx);
	return good ? 0 : -EKEYREJECTED;
}

static chatd_status verify_lib(const struct key *k, const struct token *t)
{
	char text[TOKEN_TEXT_MAX + 1];
	const unsigned char *key = is_hmac(k->alg) ? k->secret : k->public_pem;
	size_t n = is_hmac(k->alg) ? k->secret_n : k->public_n;
	jwt_t *jwt = NULL;
	memcpy(text, t->text.p, t->text.n);
	text[t->text.n] = '\0';
	int rc = jwt_decode(&jwt, text, key, (int)n);
	int good = rc == 0 && jwt && jwt_get_alg(jwt) == lib_alg[k->alg];
	if (rc == 0) {
		jwt_free(jwt);
	}
	return good ? 0 : -EKEYREJECTED;
}

chatd_status key_verify(const struct key *k, const struct token *t)
{
	/* libjwt takes the algorithm from the token: never let one in that is not the key's, nor
	 * a key that is empty, with which it accepts "none". */
	if (strcmp(t->alg, key_algs[k->alg]) != 0 || t->text.n > TOKEN_TEXT_MAX ||
			(is_hmac(k->alg) ? !k->secret_n : !k->public_n)) {
		return -EKEYREJECTED;
	}
	return k->alg == ALG_EDDSA ? verify_ed(k, t) : verify_lib(k, t);
}

/* ---- signing -------------------------------------------------------------------------------- */

static int put_base64(char *to, size_t cap, const void *p, size_t n)
{
	if (sodium_base64_encoded_len(n, sodium_base64_VARIANT_URLSAFE_NO_PADDING) > cap) {
		return -1;
	}
	sodium_bin2base64(to, cap, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return (int)strlen(to);
}

static int sign_bytes(const struct key *k, const char *p, size_t n, unsigned char sig[ED_SIG])
{
	size_t sig_n = ED_SIG;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, k->pkey) == 1 &&
			EVP_DigestSign(ctx, sig, &sig_n, (const unsigned char *)p, n) == 1 && sig_n == ED_SIG;
	EVP_MD_CTX_free(ctx);
	return good ? 0 : -1;
}

static chatd_status sign_ed(const struct key *k, const char *claims, char *ret, size_t cap)
{
	unsigned char sig[ED_SIG];
	json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "EdDSA", "kid", k->kid, "typ", "JWT");
	char *head = header ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	int n = head ? put_base64(ret, cap, head, strlen(head)) : -1, more;
	free(head);
	if (n < 0 || (size_t)n + 2 > cap) {
		return -EMSGSIZE;
	}
	ret[n++] = '.';
	more = put_base64(ret + n, cap - (size_t)n, claims, strlen(claims));
	n += more;
	if (more < 0 || (size_t)n + 2 > cap) {
		return -EMSGSIZE;
	}
	if (sign_bytes(k, ret, (size_t)n, sig) < 0) {
		return -EIO;
	}
	ret[n++] = '.';
	return put_base64(ret + n, cap - (size_t)n, sig, sizeof(sig)) < 0 ? -EMSGSIZE : 0;
}

static chatd_status sign_lib(const struct key *k, const char *claims, char *ret, size_t cap)
{
	jwt_t *jwt = NULL;
	char *text = NULL;
	chatd_status rc = -ENOMEM;
	if (jwt_new(&jwt) == 0 && jwt_set_alg(jwt, lib_alg[k->alg], k->secret, (int)k->secret_n) == 0 &&
			jwt_add_header(jwt, "kid", k->kid) == 0 && jwt_add_grants_json(jwt, claims) == 0) {
		text = jwt_encode_str(jwt);
	}
	if (text) {
		size_t n = strlen(text);
		rc = n < cap ? 0 : -EMSGSIZE;
		if (rc == 0) {
			memcpy(ret, text, n + 1);
		}
		free(text);
	}
	jwt_free(jwt);
	return rc;
}

chatd_status key_sign(const struct key *k, json_t *claims, char *ret, size_t cap)
{
	char *text = k->can_sign ? json_dumps(claims, JSON_COMPACT) : NULL;
	chatd_status rc = k->can_sign ? -ENOMEM : -EPERM;
	if (text) {
		rc = k->alg == ALG_EDDSA ? sign_ed(k, text, ret, cap) : sign_lib(k, text, ret, cap);
	}
	free(text);
	return rc;
}

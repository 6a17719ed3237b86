/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/kdf.h>
#include <openssl/param_build.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* ---- base64url --------------------------------------------------------------------------- */

int base64_take(struct chatd_str s, uint8_t *ret, size_t n)
{
	size_t got, len = s.n;
	while (len && s.n - len < 2 && s.p[len - 1] == '=') {
		len--;
	}
	int rc = s.p ? sodium_base642bin(ret, n, s.p, len, NULL, &got, NULL,
						   sodium_base64_VARIANT_URLSAFE_NO_PADDING)
				 : -1;
	return rc == 0 && got == n ? 0 : -EINVAL;
}

void base64_put(const uint8_t *p, size_t n, char *to, size_t cap)
{
	sodium_bin2base64(to, cap, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* ---- keys of P-256 ------------------------------------------------------------------------ */

/* scalar NULL: a public key. */
static EVP_PKEY *key_of(const uint8_t point[POINT], const uint8_t *scalar)
{
	EVP_PKEY *key = NULL;
	BIGNUM *d = scalar ? BN_bin2bn(scalar, SCALAR, NULL) : NULL;
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	int ok = b && ctx && (d || !scalar) &&
			OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
			OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, POINT) &&
			(!d || OSSL_PARAM_BLD_push_BN_pad(b, OSSL_PKEY_PARAM_PRIV_KEY, d, SCALAR));
	OSSL_PARAM *params = ok ? OSSL_PARAM_BLD_to_param(b) : NULL;
	if (!params || EVP_PKEY_fromdata_init(ctx) != 1 ||
			EVP_PKEY_fromdata(ctx, &key, d ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1) {
		key = NULL;
	}
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(b);
	EVP_PKEY_CTX_free(ctx);
	BN_clear_free(d);
	return key;
}

static int is_on_curve(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	int ok = ctx && EVP_PKEY_public_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

static int point_of(EVP_PKEY *key, uint8_t ret[POINT])
{
	unsigned char *p = NULL;
	size_t n = EVP_PKEY_get1_encoded_public_key(key, &p);
	int ok = n == POINT;
	if (ok) {
		memcpy(ret, p, POINT);
	}
	OPENSSL_free(p);
	return ok;
}

int browser_keys_read(struct chatd_str p256dh, struct chatd_str auth, struct browser_keys *ret)
{
	if (base64_take(p256dh, ret->point, POINT) < 0 || base64_take(auth, ret->auth, AUTH) < 0 ||
			ret->point[0] != POINT_CONVERSION_UNCOMPRESSED) {
		return -EINVAL;
	}
	EVP_PKEY *key = key_of(ret->point, NULL);
	int ok = key && is_on_curve(key);
	EVP_PKEY_free(key);
	return ok ? 0 : -EINVAL;
}

/* ---- RFC 8291 ------------------------------------------------------------------------------ */

static int agree(EVP_PKEY *ours, const uint8_t point[POINT], uint8_t ret[SCALAR])
{
	size_t n = SCALAR;
	EVP_PKEY *theirs = key_of(point, NULL);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, ours, NULL);
	int ok = theirs && ctx && EVP_PKEY_derive_init(ctx) == 1 &&
			EVP_PKEY_derive_set_peer(ctx, theirs) == 1 && EVP_PKEY_derive(ctx, ret, &n) == 1 &&
			n == SCALAR;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(theirs);
	return ok;
}

struct bytes {
	const void *p;
	size_t n;
};

static int hkdf(struct bytes salt, struct bytes secret, struct bytes info, uint8_t *ret, size_t n)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	int ok = ctx && EVP_PKEY_derive_init(ctx) == 1 &&
			EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
			EVP_PKEY_CTX_set1_hkdf_salt(ctx, salt.p, (int)salt.n) == 1 &&
			EVP_PKEY_CTX_set1_hkdf_key(ctx, secret.p, (int)secret.n) == 1 &&
			EVP_PKEY_CTX_add1_hkdf_info(ctx, info.p, (int)info.n) == 1 &&
			EVP_PKEY_derive(ctx, ret, &n) == 1;
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

struct content_keys {
	uint8_t key[16], nonce[12];
};

static int content_keys(const struct browser_keys *to, const uint8_t point[POINT],
		const uint8_t shared[SCALAR], const uint8_t salt[SALT], struct content_keys *ret)
{
	static const char key_info[] = "Content-Encoding: aes128gcm"; /* the NUL is a part of it */
	static const char nonce_info[] = "Content-Encoding: nonce";
	uint8_t info[14 + 2 * POINT], secret[32];
	memcpy(info, "WebPush: info", 14);
	memcpy(info + 14, to->point, POINT);
	memcpy(info + 14 + POINT, point, POINT);
	const struct bytes ikm = { secret, sizeof(secret) }, with = { salt, SALT };
	int ok = hkdf((struct bytes){ to->auth, AUTH }, (struct bytes){ shared, SCALAR },
					 (struct bytes){ info, sizeof(info) }, secret, sizeof(secret)) &&
			hkdf(with, ikm, (struct bytes){ key_info, sizeof(key_info) }, ret->key,
					sizeof(ret->key)) &&
			hkdf(with, ikm, (struct bytes){ nonce_info, sizeof(nonce_info) }, ret->nonce,
					sizeof(ret->nonce));
	OPENSSL_cleanse(secret, sizeof(secret));
	return ok;
}

/* The text, the byte that says that nothing follows, and the tag. */
static long seal(const struct content_keys *k, struct chatd_str plain, uint8_t *to)
{
	static const uint8_t last = 2;
	int n = 0, m = 0, end = 0;
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int ok = c && EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, k->key, k->nonce) == 1 &&
			EVP_EncryptUpdate(c, to, &n, (const uint8_t *)plain.p, (int)plain.n) == 1 &&
			EVP_EncryptUpdate(c, to + n, &m, &last, 1) == 1 &&
			EVP_EncryptFinal_ex(c, to + n + m, &end) == 1 &&
			EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, to + n + m + end) == 1;
	EVP_CIPHER_CTX_free(c);
	return ok ? n + m + end + 16 : -EIO;
}

long push_encrypt_with(EVP_PKEY *ours, const uint8_t salt[SALT], const struct browser_keys *to,
		struct chatd_str plain, uint8_t ret[PUSH_MAX])
{
	enum { HEADER = SALT + 4 + 1 + POINT };
	uint8_t shared[SCALAR], *point = ret + SALT + 5;
	struct content_keys k;
	if (plain.n > PUSH_PLAIN_MAX) {
		return -EMSGSIZE;
	}
	memcpy(ret, salt, SALT);
	memcpy(ret + SALT, "\0\0\x10\0\x41", 5); /* records of 4096 bytes, a key of 65 */
	long rc = point_of(ours, point) && agree(ours, to->point, shared) &&
					content_keys(to, point, shared, salt, &k)
			? seal(&k, plain, ret + HEADER)
			: -EIO;
	OPENSSL_cleanse(shared, sizeof(shared));
	OPENSSL_cleanse(&k, sizeof(k));
	return rc < 0 ? rc : HEADER + rc;
}

long push_encrypt(const struct browser_keys *to, struct chatd_str plain, uint8_t ret[PUSH_MAX])
{
	uint8_t salt[SALT];
	randombytes_buf(salt, sizeof(salt));
	EVP_PKEY *ours = EVP_EC_gen("P-256");
	long rc = ours ? push_encrypt_with(ours, salt, to, plain, ret) : -EIO;
	EVP_PKEY_free(ours);
	return rc;
}

/* ---- RFC 8292 ------------------------------------------------------------------------------- */

void vapid_make(uint8_t ret[SCALAR])
{
	struct vapid v;
	do { /* all but 1 in 2^32 are one */
		randombytes_buf(ret, SCALAR);
	} while (vapid_read(ret, &v) < 0);
	vapid_finish(&v);
}

static int multiply(const uint8_t scalar[SCALAR], uint8_t ret[POINT])
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	EC_POINT *p = group ? EC_POINT_new(group) : NULL;
	BIGNUM *d = BN_bin2bn(scalar, SCALAR, NULL);
	int ok = p && d && !BN_is_zero(d) && BN_cmp(d, EC_GROUP_get0_order(group)) < 0 &&
			EC_POINT_mul(group, p, d, NULL, NULL, NULL) == 1 &&
			EC_POINT_point2oct(group, p, POINT_CONVERSION_UNCOMPRESSED, ret, POINT, NULL) == POINT;
	BN_clear_free(d);
	EC_POINT_free(p);
	EC_GROUP_free(group);
	return ok;
}

int vapid_read(const uint8_t scalar[SCALAR], struct vapid *ret)
{
	struct vapid v;
	v.key = multiply(scalar, v.point) ? key_of(v.point, scalar) : NULL;
	if (!v.key) {
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

void vapid_finish(struct vapid *v)
{
	EVP_PKEY_free(v->key);
	v->key = NULL;
}

/* r and s, as JWS has them. */
static int sign(EVP_PKEY *key, const char *text, uint8_t ret[2 * SCALAR])
{
	uint8_t der[128];
	const uint8_t *p = der;
	size_t n = sizeof(der);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
			EVP_DigestSign(ctx, der, &n, (const uint8_t *)text, strlen(text)) == 1;
	ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &p, (long)n) : NULL;
	ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), ret, SCALAR) == SCALAR &&
			BN_bn2binpad(ECDSA_SIG_get0_s(sig), ret + SCALAR, SCALAR) == SCALAR;
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	return ok;
}

int vapid_token(const struct vapid *v, const char *audience, const char *subject, int64_t expires,
		char ret[TOKEN_MAX])
{
	static const char head[] = "{\"typ\":\"JWT\",\"alg\":\"ES256\"}";
	char room[TOKEN_MAX / 2];
	uint8_t sig[2 * SCALAR];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "aud", chatd_str_of(audience, strlen(audience)));
	chatd_json_int(&j, "exp", expires);
	if (subject) {
		chatd_json_member(&j, "sub", chatd_str_of(subject, strlen(subject)));
	}
	chatd_json_lit(&j, "}");
	struct chatd_str claims = chatd_json_str(&j);
	int ok = !j.failed && claims.n < sizeof(room);
	if (ok) {
		base64_put((const uint8_t *)head, sizeof(head) - 1, ret, TOKEN_MAX);
		size_t n = strlen(ret);
		ret[n++] = '.';
		base64_put((const uint8_t *)claims.p, claims.n, ret + n, TOKEN_MAX - n);
		ok = sign(v->key, ret, sig);
		n += strlen(ret + n);
		ret[n++] = '.';
		base64_put(sig, sizeof(sig), ret + n, TOKEN_MAX - n);
	}
	chatd_json_free(&j);
	return ok ? 0 : -EIO;
}

/* ---- webhooks ------------------------------------------------------------------------------- */

void webhook_sign(const char *secret, const char *timestamp, struct chatd_str body, char ret[68])
{
	uint8_t mac[crypto_auth_hmacsha256_BYTES];
	crypto_auth_hmacsha256_state st;
	crypto_auth_hmacsha256_init(&st, (const uint8_t *)secret, strlen(secret));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)timestamp, strlen(timestamp));
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)".", 1);
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)body.p, body.n);
	crypto_auth_hmacsha256_final(&st, mac);
	memcpy(ret, "v1=", 3);
	sodium_bin2hex(ret + 3, 65, mac, sizeof(mac));
}

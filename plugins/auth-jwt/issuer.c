/* SPDX-License-Identifier: Apache-2.0 */
#include "issuer.h"

#include "claims.h"
#include "key.h"

#include <chatd-sdk/json.h>
#include <chatd-sdk/name.h>
#include <chatd-sdk/text.h>
#include <errno.h>
#include <jose/jws.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, RSA_BYTES_MAX = 1024 };

/* How each algorithm's keys look. */
static const struct alg {
	const char *name, *kty, *crv;
} algs[] = {
	{ "RS256", "RSA", NULL },
	{ "RS384", "RSA", NULL },
	{ "RS512", "RSA", NULL },
	{ "PS256", "RSA", NULL },
	{ "PS384", "RSA", NULL },
	{ "PS512", "RSA", NULL },
	{ "ES256", "EC", "P-256" },
	{ "ES384", "EC", "P-384" },
	{ "ES512", "EC", "P-521" },
	{ "HS256", "oct", NULL },
	{ "HS384", "oct", NULL },
	{ "HS512", "oct", NULL },
};

const char *const issuer_algs[] = { "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
	"ES384", "ES512", "HS256", "HS384", "HS512", NULL };

/* ---- their keys --------------------------------------------------------------------- */

static const char *text_of(const json_t *jwk, const char *name)
{
	const char *s = json_string_value(json_object_get(jwk, name));
	return s ? s : "";
}

static int alg_fits(const struct alg *a, const json_t *jwk)
{
	return strcmp(a->kty, text_of(jwk, "kty")) == 0 &&
			(!a->crv || strcmp(a->crv, text_of(jwk, "crv")) == 0);
}

/* The one algorithm of a key: its own word, else the best that is configured and fits. */
static const struct alg *pinned(const struct issuer *is, const json_t *jwk)
{
	const char *own = text_of(jwk, "alg");
	for (size_t i = 0; is->algorithms[i]; i++) {
		for (size_t k = 0; k < sizeof(algs) / sizeof(algs[0]); k++) {
			if (strcmp(algs[k].name, is->algorithms[i]) == 0 && alg_fits(&algs[k], jwk) &&
					(!*own || strcmp(own, algs[k].name) == 0)) {
				return &algs[k];
			}
		}
	}
	return NULL;
}

static int bytes_of(const json_t *jwk, const char *name)
{
	unsigned char raw[RSA_BYTES_MAX];
	const json_t *j = json_object_get(jwk, name);
	struct chatd_str s = { json_string_value(j), json_string_length(j) };
	int n = s.p ? token_decode(s, raw, sizeof(raw)) : -1;
	sodium_memzero(raw, sizeof(raw));
	return n;
}

static int is_for_verifying(const json_t *jwk)
{
	const json_t *ops = json_object_get(jwk, "key_ops");
	const char *use = text_of(jwk, "use");
	int verifies = !json_is_array(ops);
	for (size_t i = 0; i < json_array_size(ops); i++) {
		const char *op = json_string_value(json_array_get(ops, i));
		verifies |= op && strcmp(op, "verify") == 0;
	}
	return verifies && (!*use || strcmp(use, "sig") == 0);
}

static int strong(const struct issuer *is, const json_t *jwk, const struct alg *a)
{
	if (strcmp(a->kty, "RSA") == 0) {
		return bytes_of(jwk, "n") >= KEY_RSA_MIN / 8 && bytes_of(jwk, "e") > 0;
	}
	if (strcmp(a->kty, "EC") == 0) {
		return bytes_of(jwk, "x") > 0 && bytes_of(jwk, "y") > 0;
	}
	/* A secret that is there for all to fetch is none. */
	return !is->url && bytes_of(jwk, "k") >= KEY_HMAC_MIN;
}

/* What is needed to verify, and nothing else. */
static json_t *distil(const json_t *jwk, const struct alg *a)
{
	static const char *const names[] = { "kty", "kid", "crv", "x", "y", "n", "e", "k" };
	json_t *to = json_object();
	json_object_set_new(to, "alg", json_string(a->name));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *j = json_object_get(jwk, names[i]);
		if (json_is_string(j)) {
			json_object_set_new(to, names[i], json_string(json_string_value(j)));
		}
	}
	return to;
}

json_t *issuer_keys(const struct issuer *is, struct chatd_str jwks, char why[ISSUER_WHY])
{
	json_error_t e = { .text = "it is too large" };
	json_t *all = jwks.n && jwks.n <= ISSUER_JWKS_MAX
			? json_loadb(jwks.p, jwks.n, JSON_REJECT_DUPLICATES, &e)
			: NULL;
	const json_t *list = json_object_get(all, "keys");
	json_t *good = json_is_array(list) ? json_array() : NULL;
	if (!good) {
		snprintf(why, ISSUER_WHY, "it is no JWKS ({\"keys\": [...]})%s%s", all ? "" : ": ",
				all ? "" : e.text);
	}
	for (size_t i = 0; i < json_array_size(list) && i < ISSUER_KEYS_MAX && good; i++) {
		const json_t *jwk = json_array_get(list, i);
		const struct alg *a = is_for_verifying(jwk) ? pinned(is, jwk) : NULL;
		if (a && strong(is, jwk, a)) {
			json_array_append_new(good, distil(jwk, a));
		}
	}
	if (good && !json_array_size(good)) {
		snprintf(why, ISSUER_WHY,
				"none of its %zu keys can be used: wanted are public keys for signatures by the "
				"configured algorithms, RSA with at least %d bits; secrets (oct) of at least %d "
				"bytes, from files only",
				json_array_size(list), KEY_RSA_MIN, KEY_HMAC_MIN);
		json_decref(good);
		good = NULL;
	}
	json_decref(all);
	return good;
}

/* ---- their signatures ----------------------------------------------------------------- */

static int jws_good(jose_cfg_t *cfg, const json_t *jwk, const struct token *t)
{
	json_t *jws = json_pack("{s:s%, s:s%, s:s%}", "payload", t->payload.p, t->payload.n,
			"protected", t->header.p, t->header.n, "signature", t->sig.p, t->sig.n);
	int good = jws && jose_jws_ver(cfg, jws, NULL, jwk, false);
	json_decref(jws);
	return good;
}

chatd_status issuer_verify(jose_cfg_t *cfg, const json_t *keys, const struct token *t)
{
	chatd_status rc = -ENOKEY;
	for (size_t i = 0; i < json_array_size(keys) && rc != 0; i++) {
		const json_t *jwk = json_array_get(keys, i);
		if (strcmp(text_of(jwk, "alg"), t->alg) != 0 ||
				(t->kid[0] && strcmp(text_of(jwk, "kid"), t->kid) != 0)) {
			continue;
		}
		rc = jws_good(cfg, jwk, t) ? 0 : -EKEYREJECTED;
	}
	return rc;
}

/* ---- whom they mean ----------------------------------------------------------------------- */

/* Looks like one that was made from a hash: whoever could choose such a `sub` would be
 * somebody else. */
static int like_hashed(const char *id)
{
	return strncmp(id, "u_", 2) == 0 && strlen(id) == 34 &&
			strspn(id + 2, "0123456789abcdef") == 32;
}

static void map_user(const struct issuer *is, struct chatd_str sub, struct who *ret)
{
	unsigned char hash[16];
	crypto_generichash_state st;
	int n = snprintf(ret->user, sizeof(ret->user), "%s%.*s", is->user_prefix, (int)sub.n, sub.p);
	if (n > 0 && chatd_id_ok(chatd_str_of(ret->user, strlen(ret->user))) &&
			(size_t)n < sizeof(ret->user) && !like_hashed(ret->user)) {
		return;
	}
	crypto_generichash_init(&st, NULL, 0, sizeof(hash));
	crypto_generichash_update(&st, (const unsigned char *)is->issuer, strlen(is->issuer) + 1);
	crypto_generichash_update(&st, (const unsigned char *)sub.p, sub.n);
	crypto_generichash_final(&st, hash, sizeof(hash));
	memcpy(ret->user, "u_", 3);
	sodium_bin2hex(ret->user + 2, sizeof(ret->user) - 2, hash, sizeof(hash));
}

/* As the names that people give themselves: they must not look alike by what cannot be seen. */
static void map_name(struct chatd_str name, struct who *ret)
{
	if (chatd_name_clean(chatd_text_cut(name, NAME_MAX_BYTES), ret->name, sizeof(ret->name)) <= 0) {
		chatd_str_copy(ret->name, sizeof(ret->name), chatd_str_of(ret->user, strlen(ret->user)));
	}
}

struct mapping {
	const struct issuer *is;
	struct who *to;
};

static int has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *at = strstr(list, word); at; at = strstr(at + 1, word)) {
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) {
			return 1;
		}
	}
	return 0;
}

static void map_role(void *arg, struct chatd_str word)
{
	struct mapping *m = arg;
	char *roles = m->to->roles;
	for (size_t i = 0; m->is->roles[i]; i++) {
		const char *rule = m->is->roles[i], *ours = strrchr(rule, '=');
		if (ours && (size_t)(ours - rule) == word.n && memcmp(rule, word.p, word.n) == 0 &&
				!has_word(roles, ours + 1) && strlen(roles) + strlen(ours) < sizeof(m->to->roles)) {
			snprintf(roles + strlen(roles), sizeof(m->to->roles) - strlen(roles), "%s%s",
					roles[0] ? " " : "", ours + 1);
		}
	}
}

static chatd_status read_who(const struct issuer *is, const json_t *claims, struct who *ret)
{
	struct chatd_str sub = claims_text(claims, is->user_claim);
	struct mapping m = { is, ret };
	if (!claims_are(claims, "iss", is->issuer) || !claims_for(claims, is->audience) ||
			claims_are(claims, "type", "refresh") || sub.n == 0 || sub.n > 512) {
		return -EKEYREJECTED;
	}
	map_user(is, sub, ret);
	map_name(claims_text(claims, is->name_claim), ret);
	if (*is->roles_claim) {
		claims_each(claims, is->roles_claim, map_role, &m);
	}
	ret->flags = claims_role_flags(chatd_str_of(ret->roles, strlen(ret->roles)));
	return 0;
}

chatd_status issuer_read(
		const struct issuer *is, const struct token *t, int64_t wall_ms, struct who *ret)
{
	json_t *claims = token_claims(t);
	chatd_status rc = -EKEYREJECTED;
	memset(ret, 0, sizeof(*ret));
	if (claims) {
		int64_t exp = 0;
		chatd_status times = claims_times(claims, wall_ms, &exp);
		rc = times == -EKEYREJECTED ? times : read_who(is, claims, ret);
		rc = rc < 0 ? rc : times;
		ret->expires = exp + CLAIMS_LEEWAY_S * 1000;
	}
	json_decref(claims);
	return rc;
}

void issuer_mark(const struct issuer *is, char ret[65])
{
	unsigned char hash[16];
	crypto_generichash(
			hash, sizeof(hash), (const unsigned char *)is->issuer, strlen(is->issuer), NULL, 0);
	memcpy(ret, "issuer_", 8);
	sodium_bin2hex(ret + 7, 65 - 7, hash, sizeof(hash));
}

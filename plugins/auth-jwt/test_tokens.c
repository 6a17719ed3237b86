/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier alone: keys, algorithms, and all that a token can be besides good. */
#include "claims.h"
#include "forge.h"
#include "issuer.h"
#include "own.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define SECRET     "0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER      "another-secret-that-is-long-enough-to-be-one-too!"
#define HEAD       "{\"alg\":\"HS384\",\"kid\":\"k1\",\"typ\":\"JWT\"}"
#define NOW_S      1800000000
#define NOW_MS     (INT64_C(1000) * NOW_S)
#define BODY(more)                                                                                 \
	"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":\"s1\",\"type\":\"access\"" more \
	"}"
#define GOOD_EXP ",\"exp\":1800000600,\"iat\":1800000000"

static EVP_PKEY *rsa, *ec, *ed;

static void fixed_random(void *p, size_t n)
{
	randombytes_buf(p, n);
}

static struct own one_key(const struct key_spec *spec, struct key *room)
{
	char why[KEY_WHY] = "";
	struct own o = { .keys = room,
		.n = 1,
		.issuer = "chatd",
		.audience = "chatd",
		.access_ms = 3600000,
		.refresh_ms = 86400000,
		.random = fixed_random };
	if (key_load(spec, room, why) != 0) {
		fail_msg("%s", why);
	}
	return o;
}

static struct own hs384(struct key *room)
{
	const struct key_spec spec = {
		.alg = ALG_HS384, .kid = "k1", .text = { SECRET, sizeof(SECRET) - 1 }
	};
	return one_key(&spec, room);
}

static chatd_status verify_as(
		const struct own *o, int32_t type, const char *text, struct chatd_claims *ret)
{
	static char room[CHATD_TOKEN_MAX];
	struct chatd_claims none;
	struct token t;
	chatd_status rc = token_parse(chatd_str_of(text, strlen(text)), &t);
	return rc < 0 ? rc : own_verify(o, NOW_MS, type, &t, room, ret ? ret : &none);
}

static chatd_status verify(const struct own *o, const char *text)
{
	return verify_as(o, CHATD_TOKEN_ACCESS, text, NULL);
}

static const char *sign(const char *header, const char *payload)
{
	return forge_hmac(header, payload, "SHA384", SECRET, sizeof(SECRET) - 1);
}

/* ---- good ones ----------------------------------------------------------------------- */

TEST(what_is_issued_is_verified_by_every_algorithm)
{
	UNUSED;
	const struct key_spec specs[] = {
		{ .alg = ALG_HS256, .text = { SECRET, sizeof(SECRET) - 1 } },
		{ .alg = ALG_HS384, .text = { SECRET, sizeof(SECRET) - 1 } },
		{ .alg = ALG_HS512, .text = { SECRET, sizeof(SECRET) - 1 } },
		{ .alg = ALG_RS256, .text = { forge_pem(rsa, 1), strlen(forge_pem(rsa, 1)) } },
		{ .alg = ALG_ES256, .text = { forge_pem(ec, 1), strlen(forge_pem(ec, 1)) } },
		{ .alg = ALG_EDDSA, .text = { forge_pem(ed, 1), strlen(forge_pem(ed, 1)) } },
	};
	const struct chatd_claims want = { .struct_size = sizeof(want),
		.type = CHATD_TOKEN_ACCESS,
		.user = CHATD_LIT("ann"),
		.name = CHATD_LIT("Ann \"the\" \xc3\x85"),
		.login = CHATD_LIT("s1"),
		.roles = CHATD_LIT("moderator support") };
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct key room;
		char token[CHATD_TOKEN_MAX], second[CHATD_TOKEN_MAX];
		struct chatd_claims got;
		struct own o = one_key(&specs[i], &room);
		assert_int_equal(own_issue(&o, NOW_MS + 5, &want, token, &got), 0);
		assert_int_equal(got.expires, NOW_MS + 3600000);
		assert_int_equal(own_issue(&o, NOW_MS + 5, &want, second, NULL), 0);
		assert_string_not_equal(token, second);
		assert_int_equal(verify_as(&o, CHATD_TOKEN_ACCESS, token, &got), 0);
		assert_memory_equal(got.user.p, "ann", 4);
		assert_memory_equal(got.login.p, "s1", 3);
		assert_memory_equal(got.name.p, want.name.p, want.name.n);
		assert_memory_equal(got.roles.p, "moderator support", 18);
		assert_int_equal(got.issued, NOW_MS);
		assert_int_equal(got.expires, NOW_MS + 3600000);
		key_wipe(&room);
	}
}

TEST(tokens_made_elsewhere_by_the_same_keys_are_good)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	assert_int_equal(verify(&o, sign(HEAD, BODY(GOOD_EXP))), 0);
	/* the reference names no key and no type of token */
	assert_int_equal(verify(&o, sign("{\"alg\":\"HS384\"}", BODY(GOOD_EXP))), 0);
	assert_int_equal(verify(&o,
							 sign(HEAD,
									 "{\"iss\":\"chatd\",\"aud\":[\"x\",\"chatd\"],\"sub\":\"ann\","
									 "\"type\":\"access\",\"exp\":1800000600}")),
			0);
	key_wipe(&room);
	const struct key_spec es = {
		.alg = ALG_ES256, .kid = "e", .text = { forge_pem(ec, 0), strlen(forge_pem(ec, 0)) }
	};
	o = one_key(&es, &room);
	assert_false(room.can_sign);
	assert_int_equal(
			verify(&o, forge_pkey("{\"alg\":\"ES256\",\"kid\":\"e\"}", BODY(GOOD_EXP), ec)), 0);
	key_wipe(&room);
}

TEST(times_have_thirty_seconds_leeway)
{
	UNUSED;
	static const struct {
		const char *more;
		chatd_status rc;
	} rows[] = {
		{ ",\"exp\":1799999971", 0 },
		{ ",\"exp\":1799999970", -EKEYEXPIRED },
		{ ",\"exp\":0", -EKEYEXPIRED },
		{ ",\"exp\":9007199254740992", 0 },
		{ ",\"exp\":1800000600,\"nbf\":1800000030", 0 },
		{ ",\"exp\":1800000600,\"nbf\":1800000031", -EKEYREJECTED },
		{ ",\"exp\":1800000600,\"iat\":1800000030", 0 },
		{ ",\"exp\":1800000600,\"iat\":1800000031", -EKEYREJECTED },
		{ ",\"exp\":1800000600,\"iat\":1800086400", -EKEYREJECTED },
		/* never good: not "expired" */
		{ ",\"exp\":1799999970,\"nbf\":1800000031", -EKEYREJECTED },
	};
	struct key room;
	struct own o = hs384(&room);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char body[512];
		snprintf(body, sizeof(body), BODY("%s"), rows[i].more);
		if (verify(&o, sign(HEAD, body)) != rows[i].rc) {
			fail_msg("%s: %d", rows[i].more, verify(&o, sign(HEAD, body)));
		}
	}
	key_wipe(&room);
}

/* ---- HOSTILE 4.6 ----------------------------------------------------------------------- */

/* Each header over a good payload, signed with the right secret by the algorithm it should be. */
TEST(h130_h131_h133_headers)
{
	UNUSED;
	static const char *const headers[] = { "{\"alg\":\"none\",\"kid\":\"k1\"}",
		"{\"alg\":\"NonE\",\"kid\":\"k1\"}", "{\"alg\":\"\",\"kid\":\"k1\"}", "{\"kid\":\"k1\"}",
		"{}", "{\"alg\":384,\"kid\":\"k1\"}", "{\"alg\":[\"HS384\"],\"kid\":\"k1\"}",
		"{\"alg\":null,\"kid\":\"k1\"}", "{\"alg\":\"hs384\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS384 \",\"kid\":\"k1\"}", "{\"alg\":\"HS256\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS512\",\"kid\":\"k1\"}", "{\"alg\":\"RS256\",\"kid\":\"k1\"}",
		"{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{\"alg\":\"EdDSA\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"}}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"jku\":\"http://127.0.0.1:1/jwks\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"x5u\":\"http://127.0.0.1:1/x\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"x5c\":[\"AAAA\"]}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"crit\":[\"exp\"]}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"b64\":false}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"zip\":\"DEF\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"enc\":\"A128GCM\"}",
		"{\"alg\":\"HS384\",\"kid\":\"../../etc/passwd\"}",
		"{\"alg\":\"HS384\",\"kid\":\"' OR 1=1\"}", "{\"alg\":\"HS384\",\"kid\":\"k2\"}",
		"{\"alg\":\"HS384\",\"kid\":\"K1\"}", "{\"alg\":\"HS384\",\"kid\":\"\"}",
		"{\"alg\":\"HS384\",\"kid\":1}", "{\"alg\":\"HS384\",\"kid\":null}",
		"{\"alg\":\"HS384\",\"kid\":[\"k1\"]}",
		"{\"alg\":\"HS384\",\"alg\":\"HS384\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\",\"kid\":\"k1\"}",
		"{\"alg\":\"HS384\",\"kid\":\"k1\\u0000\"}", "{\"alg\":\"HS384\",\"kid\":\"k1\"",
		"{\"alg\":\"HS384\",\"kid\":\"k1\"} x", "{alg:HS384}" };
	static const char *const mds[] = { "SHA256", "SHA384", "SHA512" };
	struct key room;
	struct own o = hs384(&room);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		for (size_t m = 0; m < 3; m++) {
			const char *t =
					forge_hmac(headers[i], BODY(GOOD_EXP), mds[m], SECRET, sizeof(SECRET) - 1);
			chatd_status rc = verify(&o, t);
			if (rc != -EKEYREJECTED && rc != -ENOKEY) {
				fail_msg("%s with %s: %d", headers[i], mds[m], rc);
			}
		}
		const char *unsigned_ = forge_join(forge_input(headers[i], BODY(GOOD_EXP)), "", 0);
		assert_int_equal(verify(&o, unsigned_), -EKEYREJECTED);
	}
	key_wipe(&room);
}

TEST(h133_a_kid_of_10_kib)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	char header[11000];
	memset(header, 'k', sizeof(header));
	memcpy(header, "{\"alg\":\"HS384\",\"kid\":\"", 22);
	for (size_t n = 129; n < 10240; n += 5000) {
		memcpy(header + 22 + n, "\"}", 3);
		assert_int_equal(verify(&o, sign(header, BODY(GOOD_EXP))), -EKEYREJECTED);
		header[22 + n] = header[23 + n] = header[24 + n] = 'k';
	}
	key_wipe(&room);
}

/* LIBRARIES L8: libjwt alone would take this one. */
TEST(h131_hmac_with_the_public_key_as_secret)
{
	UNUSED;
	static const char *const names[] = { "HS256", "HS384", "HS512" };
	static const char *const mds[] = { "SHA256", "SHA384", "SHA512" };
	struct key room;
	const struct key_spec spec = {
		.alg = ALG_RS256, .kid = "k1", .text = { forge_pem(rsa, 1), strlen(forge_pem(rsa, 1)) }
	};
	struct own o = one_key(&spec, &room);
	for (size_t i = 0; i < 3; i++) {
		char header[64];
		snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k1\"}", names[i]);
		assert_int_equal(
				verify(&o,
						forge_hmac(header, BODY(GOOD_EXP), mds[i], room.public_pem, room.public_n)),
				-ENOKEY);
		assert_int_equal(verify(&o,
								 forge_hmac("{\"alg\":\"RS256\",\"kid\":\"k1\"}", BODY(GOOD_EXP),
										 mds[i], room.public_pem, room.public_n)),
				-EKEYREJECTED);
	}
	assert_int_equal(
			verify(&o, forge_pkey("{\"alg\":\"RS256\",\"kid\":\"k1\"}", BODY(GOOD_EXP), rsa)), 0);
	key_wipe(&room);
}

TEST(h132_h134_h135_h137_claims)
{
	UNUSED;
	static const char *const bodies[] = { BODY(""), BODY(",\"exp\":\"1800000600\""),
		BODY(",\"exp\":1800000600.5"), BODY(",\"exp\":1800000600.0"), BODY(",\"exp\":-1"),
		BODY(",\"exp\":1e308"), BODY(",\"exp\":18e8"), BODY(",\"exp\":9223372036854775807"),
		BODY(",\"exp\":9223372036854775808"), BODY(",\"exp\":-9223372036854775808"),
		BODY(",\"exp\":9007199254740993"), BODY(",\"exp\":null"), BODY(",\"exp\":true"),
		BODY(",\"exp\":[1800000600]"), BODY(",\"exp\":1800000600,\"nbf\":\"1\""),
		BODY(",\"exp\":1800000600,\"iat\":1.5"), BODY(",\"exp\":1800000600,\"iat\":-1"),
		BODY(",\"exp\":1800000600,\"iat\":9223372036854775807"),
		BODY(GOOD_EXP ",\"exp\":1800000600"), BODY(GOOD_EXP ",\"sub\":\"bob\""),
		BODY(GOOD_EXP ",\"name\":\"a\\u0000b\""), BODY(GOOD_EXP ",\"x\":1e999"),
		/* refresh as access; other kinds */
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":\"refresh\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":\"Access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":[\"access\"]" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\"" GOOD_EXP "}",
		/* other issuers and audiences, forged with the right key */
		"{\"iss\":\"chat\",\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"aud\":\"chatd\",\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd2\",\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":[],\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":{\"chatd\":1},\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"sub\":\"ann\",\"type\":\"access\"" GOOD_EXP "}",
		/* users */
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":7,\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"a b\",\"type\":\"access\"" GOOD_EXP "}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"a\\u0000b\",\"type\":\"access\"" GOOD_EXP
		"}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":\"\",\"type\":\"access\"" GOOD_EXP
		"}",
		"{\"iss\":\"chatd\",\"aud\":\"chatd\",\"sub\":\"ann\",\"sid\":1,\"type\":\"access\"" GOOD_EXP
		"}",
		/* no objects */
		"[]", "[{}]", "\"x\"", "1", "null", "{", "{}}", "" };
	struct key room;
	struct own o = hs384(&room);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		chatd_status rc = verify(&o, sign(HEAD, bodies[i]));
		if (rc != -EKEYREJECTED) {
			fail_msg("%s: %d", bodies[i], rc);
		}
	}
	key_wipe(&room);
}

TEST(h135_each_type_is_good_for_itself_alone)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	struct chatd_claims c = { .struct_size = sizeof(c), .user = CHATD_LIT("ann") };
	char access[CHATD_TOKEN_MAX], refresh[CHATD_TOKEN_MAX];
	c.type = CHATD_TOKEN_ACCESS;
	assert_int_equal(own_issue(&o, NOW_MS, &c, access, NULL), 0);
	c.type = CHATD_TOKEN_REFRESH;
	assert_int_equal(own_issue(&o, NOW_MS, &c, refresh, &c), 0);
	assert_int_equal(c.expires, NOW_MS + 86400000);
	assert_int_equal(verify_as(&o, CHATD_TOKEN_REFRESH, refresh, NULL), 0);
	assert_int_equal(verify_as(&o, CHATD_TOKEN_REFRESH, access, NULL), -EKEYREJECTED);
	assert_int_equal(verify_as(&o, CHATD_TOKEN_ACCESS, refresh, NULL), -EKEYREJECTED);
	c.type = 3;
	assert_int_equal(own_issue(&o, NOW_MS, &c, refresh, NULL), -EINVAL);
	key_wipe(&room);
}

TEST(h136_every_bit_and_every_cut)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	char good[1024], bent[1100];
	snprintf(good, sizeof(good), "%s", sign(HEAD, BODY(GOOD_EXP)));
	size_t n = strlen(good);
	for (size_t i = 0; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bent, good, n + 1);
			bent[i] = (char)(bent[i] ^ (1 << bit));
			assert_int_not_equal(verify(&o, bent), 0);
		}
		memcpy(bent, good, n + 1);
		bent[i] = '\0';
		assert_int_not_equal(verify(&o, bent), 0);
	}
	assert_int_equal(verify(&o, good), 0);
	key_wipe(&room);
}

TEST(h136_other_spellings)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	char good[1024], bent[1100];
	static const struct {
		const char *before, *after;
	} shapes[] = { { "", "." }, { ".", "" }, { "", ".x" }, { "", ".x.y" }, { "", "=" },
		{ "", "==" }, { " ", "" }, { "", " " }, { "", "\n" }, { "\t", "" }, { "", "\r\n" },
		{ "Bearer ", "" }, { "\"", "\"" }, { "", "%3d" }, { "", "," } };
	/* SHA-256: 43 characters, of the last of which two bits say nothing */
	const struct key_spec spec = {
		.alg = ALG_HS256, .kid = "k1", .text = { SECRET, sizeof(SECRET) - 1 }
	};
	snprintf(good, sizeof(good), "%s", sign(HEAD, BODY(GOOD_EXP)));
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		snprintf(bent, sizeof(bent), "%s%s%s", shapes[i].before, good, shapes[i].after);
		assert_int_not_equal(verify(&o, bent), 0);
	}
	key_wipe(&room);
	o = one_key(&spec, &room);
	snprintf(good, sizeof(good), "%s",
			forge_hmac(
					"{\"alg\":\"HS256\"}", BODY(GOOD_EXP), "SHA256", SECRET, sizeof(SECRET) - 1));
	assert_int_equal(verify(&o, good), 0);
	good[strlen(good) - 1]++; /* decoders that are lenient see the same bytes */
	assert_int_equal(verify(&o, good), -EKEYREJECTED);
	key_wipe(&room);
}

TEST(h136_the_standard_alphabet)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	/* A payload whose encoding has both - and _ in it. */
	char token[1024];
	snprintf(token, sizeof(token), "%s",
			sign(HEAD, BODY(GOOD_EXP ",\"name\":\"\xc3\xbf?\?>>\xc3\xbf~\"")));
	assert_int_equal(verify(&o, token), 0);
	int changed = 0;
	for (char *p = token; *p; p++) {
		changed |= *p == '-' || *p == '_';
		*p = (char)(*p == '-' ? '+' : *p == '_' ? '/' : *p);
	}
	assert_true(changed);
	assert_int_not_equal(verify(&o, token), 0);
	key_wipe(&room);
}

TEST(h137_long_and_deep)
{
	UNUSED;
	struct key room;
	struct own o = hs384(&room);
	static char body[16384];
	size_t at = (size_t)snprintf(body, sizeof(body), BODY(GOOD_EXP ",\"x\":\""));
	at -= 1; /* the brace */
	memset(body + at, 'x', 12000);
	memcpy(body + at + 12000, "\"}", 3);
	assert_int_equal(verify(&o, sign(HEAD, body)), -EKEYREJECTED);
	memcpy(body + at + 3000, "\"}", 3); /* longer than any of ours */
	assert_int_equal(verify(&o, sign(HEAD, body)), -ENOKEY);
	static const int depths[] = { 40, 1000 };
	for (size_t i = 0; i < 2; i++) {
		int d = depths[i];
		at = (size_t)snprintf(body, sizeof(body), BODY(GOOD_EXP ",\"x\":")) - 1;
		memset(body + at, '[', (size_t)d);
		memset(body + at + d, ']', (size_t)d);
		memcpy(body + at + 2 * d, "}", 2);
		assert_int_equal(verify(&o, sign(HEAD, body)), -EKEYREJECTED);
	}
	key_wipe(&room);
}

TEST(what_is_no_jwt_is_left_to_others)
{
	UNUSED;
	static const char *const texts[] = { "", "x", "opaque-token", "user_abc.1800000600.c2ln",
		"a.b.c", ".", "..", "...", "e30", "W10.e30.AA" };
	struct key room;
	struct own o = hs384(&room);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(verify(&o, texts[i]), -EINVAL);
	}
	assert_int_equal(verify(&o, "e30.e30.AA"), -EKEYREJECTED); /* {}: that is one */
	key_wipe(&room);
}

TEST(the_first_key_signs_and_all_verify)
{
	UNUSED;
	struct key keys[2], old;
	struct own before = hs384(&old), o = hs384(&keys[1]);
	const struct key_spec spec = {
		.alg = ALG_HS384, .kid = "k2", .text = { OTHER, sizeof(OTHER) - 1 }
	};
	o.keys = keys;
	o.n = 2;
	(void)one_key(&spec, &keys[0]);
	struct chatd_claims c = {
		.struct_size = sizeof(c), .type = CHATD_TOKEN_ACCESS, .user = CHATD_LIT("ann")
	};
	char token[CHATD_TOKEN_MAX];
	assert_int_equal(own_issue(&before, NOW_MS, &c, token, NULL), 0);
	assert_int_equal(verify(&o, token), 0);
	assert_int_equal(own_issue(&o, NOW_MS, &c, token, NULL), 0);
	assert_int_equal(verify(&o, token), 0);
	assert_int_equal(verify(&before, token), -ENOKEY);
	/* one key's token under the other's name */
	assert_int_equal(verify(&o,
							 forge_hmac("{\"alg\":\"HS384\",\"kid\":\"k1\"}", BODY(GOOD_EXP),
									 "SHA384", OTHER, sizeof(OTHER) - 1)),
			-EKEYREJECTED);
	key_wipe(&keys[0]);
	key_wipe(&keys[1]);
	key_wipe(&old);
}

TEST(weak_and_wrong_keys_are_refused)
{
	UNUSED;
	EVP_PKEY *small = EVP_RSA_gen(1024), *p384 = EVP_EC_gen("P-384");
	const struct {
		int alg, base64;
		const char *text, *why;
	} rows[] = {
		{ ALG_HS256, 0, "0123456789abcdef0123456789abcde", "31 bytes" },
		{ ALG_HS512, 0, "", "0 bytes" },
		{ ALG_HS384, 0, forge_pem(rsa, 0), "PEM" },
		{ ALG_HS384, 1, "MDEyMzQ1Njc4OWFiY2RlZg==", "16 bytes" },
		{ ALG_HS384, 1, "not base64 !", "base64" },
		{ ALG_RS256, 0, forge_pem(small, 1), "2048" },
		{ ALG_RS256, 0, forge_pem(ec, 1), "RSA" },
		{ ALG_RS256, 0, SECRET, "PEM" },
		{ ALG_ES256, 0, forge_pem(p384, 1), "P-256" },
		{ ALG_ES256, 0, forge_pem(ed, 1), "P-256" },
		{ ALG_EDDSA, 0, forge_pem(ec, 1), "Ed25519" },
		{ ALG_EDDSA, 0, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char why[KEY_WHY] = "";
		struct key k;
		const struct key_spec spec = { .alg = rows[i].alg,
			.text = chatd_str_of(rows[i].text, strlen(rows[i].text)),
			.base64 = rows[i].base64 };
		assert_int_equal(key_load(&spec, &k, why), -EINVAL);
		if (!strstr(why, rows[i].why)) {
			fail_msg("%zu: %s", i, why);
		}
	}
	EVP_PKEY_free(small);
	EVP_PKEY_free(p384);
}

/* ---- foreign issuers ------------------------------------------------------------------------ */

static const char *const rs_es[] = { "RS256", "ES256", NULL };
static const char *const hs[] = { "HS384", NULL };
static const char *const role_map[] = { "chat-admins=admin", "mods=moderator", "x=y=z", NULL };

static struct issuer login_service(const char *const *algorithms)
{
	return (struct issuer){ .issuer = "https://login.example",
		.audience = "chat",
		.file = "x",
		.algorithms = algorithms,
		.user_claim = "sub",
		.name_claim = "name",
		.roles_claim = "realm_access.roles",
		.roles = role_map,
		.user_prefix = "" };
}

static json_t *keys_of(const struct issuer *is, const char *jwks, char why[ISSUER_WHY])
{
	why[0] = '\0';
	return issuer_keys(is, chatd_str_of(jwks, strlen(jwks)), why);
}

static chatd_status foreign(
		const struct issuer *is, const json_t *keys, const char *text, struct who *ret)
{
	struct token t;
	jose_cfg_t *cfg = jose_cfg();
	chatd_status rc = token_parse(chatd_str_of(text, strlen(text)), &t);
	rc = rc < 0 ? rc : issuer_verify(cfg, keys, &t);
	rc = rc < 0 ? rc : issuer_read(is, &t, NOW_MS, ret);
	jose_cfg_decref(cfg);
	return rc;
}

#define THEIRS(more) \
	"{\"iss\":\"https://login.example\",\"aud\":\"chat\",\"exp\":1800000600" more "}"

TEST(a_foreign_token_is_read_by_its_issuers_rules)
{
	UNUSED;
	char jwks[8192], why[ISSUER_WHY];
	struct issuer is = login_service(rs_es);
	struct who who;
	snprintf(jwks, sizeof(jwks), "{\"keys\":[%s,%s]}",
			forge_jwk(rsa, ",\"kid\":\"r\",\"use\":\"sig\",\"x5c\":[\"AA\"]"),
			forge_jwk(ec, ",\"kid\":\"e\",\"alg\":\"ES256\""));
	json_t *keys = keys_of(&is, jwks, why);
	assert_non_null(keys);
	assert_int_equal(json_array_size(keys), 2);
	const char *body = THEIRS(
			",\"sub\":\"f3c1-22_A\",\"name\":\"\xef\xbc\xba\\u202eoe\xcc\x88\\u0007\\u200b \",\"realm_access\":{"
			"\"roles\":[\"mods\",\"admin\",\"x=y\",\"chat-admins\",\"mods\",1]}");
	assert_int_equal(
			foreign(&is, keys, forge_pkey("{\"alg\":\"RS256\",\"kid\":\"r\"}", body, rsa), &who),
			0);
	assert_string_equal(who.user, "f3c1-22_A");
	assert_string_equal(who.name, "Zo\xc3\xab");
	assert_string_equal(who.roles, "moderator z admin");
	assert_int_equal(who.flags, CHATD_ID_ADMIN | CHATD_ID_MODERATOR);
	assert_int_equal(who.expires, NOW_MS + 600000 + 30000);
	assert_int_equal(
			foreign(&is, keys, forge_pkey("{\"alg\":\"ES256\",\"kid\":\"e\"}", body, ec), &who), 0);
	/* other key's name, unknown name, other algorithm, no name */
	assert_int_equal(
			foreign(&is, keys, forge_pkey("{\"alg\":\"RS256\",\"kid\":\"e\"}", body, rsa), &who),
			-ENOKEY);
	assert_int_equal(
			foreign(&is, keys, forge_pkey("{\"alg\":\"RS256\",\"kid\":\"z\"}", body, rsa), &who),
			-ENOKEY);
	assert_int_equal(
			foreign(&is, keys, forge_pkey("{\"alg\":\"PS256\",\"kid\":\"r\"}", body, rsa), &who),
			-ENOKEY);
	assert_int_equal(foreign(&is, keys, forge_pkey("{\"alg\":\"RS256\"}", body, rsa), &who), 0);
	json_decref(keys);
}

TEST(a_foreign_sub_that_cannot_be_an_id_becomes_one)
{
	UNUSED;
	char jwks[4096], why[ISSUER_WHY], first[65];
	struct issuer is = login_service(rs_es);
	struct who who;
	snprintf(jwks, sizeof(jwks), "{\"keys\":[%s]}", forge_jwk(ec, ""));
	json_t *keys = keys_of(&is, jwks, why);
	const char *mail = forge_pkey("{\"alg\":\"ES256\"}", THEIRS(",\"sub\":\"ann@x.example\""), ec);
	assert_int_equal(foreign(&is, keys, mail, &who), 0);
	assert_int_equal(strlen(who.user), 34);
	assert_memory_equal(who.user, "u_", 2);
	assert_string_equal(who.name, who.user);
	snprintf(first, sizeof(first), "%s", who.user);
	assert_int_equal(foreign(&is, keys, mail, &who), 0);
	assert_string_equal(who.user, first);
	/* who is called like such an id is not the one that has it */
	char body[256];
	snprintf(body, sizeof(body), THEIRS(",\"sub\":\"%s\""), first);
	assert_int_equal(foreign(&is, keys, forge_pkey("{\"alg\":\"ES256\"}", body, ec), &who), 0);
	assert_string_not_equal(who.user, first);
	is.issuer = "https://other.example"; /* the same sub of another issuer is another one */
	const char *other = forge_pkey("{\"alg\":\"ES256\"}",
			"{\"iss\":\"https://other.example\",\"aud\":\"chat\",\"exp\":1800000600,"
			"\"sub\":\"ann@x.example\"}",
			ec);
	assert_int_equal(foreign(&is, keys, other, &who), 0);
	assert_string_not_equal(who.user, first);
	is.user_prefix = "idp-";
	assert_int_equal(foreign(&is, keys,
							 forge_pkey("{\"alg\":\"ES256\"}",
									 "{\"iss\":\"https://other.example\",\"aud\":\"chat\","
									 "\"exp\":1800000600,\"sub\":\"ann\"}",
									 ec),
							 &who),
			0);
	assert_string_equal(who.user, "idp-ann");
	json_decref(keys);
}

TEST(foreign_tokens_for_others_are_refused)
{
	UNUSED;
	static const struct {
		const char *body;
		chatd_status rc;
	} rows[] = {
		{ THEIRS(",\"sub\":\"ann\""), 0 },
		{ THEIRS(""), -EKEYREJECTED },
		{ THEIRS(",\"sub\":\"\""), -EKEYREJECTED },
		{ THEIRS(",\"sub\":1"), -EKEYREJECTED },
		{ THEIRS(",\"sub\":\"ann\",\"sub\":\"bob\""), -EKEYREJECTED },
		{ THEIRS(",\"sub\":\"ann\",\"type\":\"refresh\""), -EKEYREJECTED },
		{ THEIRS(",\"sub\":\"ann\",\"nbf\":1900000000"), -EKEYREJECTED },
		{ "{\"iss\":\"https://login.example\",\"aud\":\"chat\",\"exp\":1,\"sub\":\"ann\"}",
				-EKEYEXPIRED },
		{ "{\"iss\":\"https://login.example\",\"aud\":\"mail\",\"exp\":1800000600,\"sub\":\"ann\"}",
				-EKEYREJECTED },
		{ "{\"iss\":\"https://login.example/\",\"aud\":\"chat\",\"exp\":1800000600,\"sub\":\"ann\"}",
				-EKEYREJECTED },
		{ "{\"iss\":\"chatd\",\"aud\":\"chatd\",\"type\":\"access\",\"exp\":1800000600,\"sub\":\"ann\"}",
				-EKEYREJECTED },
	};
	char jwks[4096], why[ISSUER_WHY];
	struct issuer is = login_service(rs_es);
	struct who who;
	snprintf(jwks, sizeof(jwks), "{\"keys\":[%s]}", forge_jwk(rsa, ",\"kid\":\"r\""));
	json_t *keys = keys_of(&is, jwks, why);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *t = forge_pkey("{\"alg\":\"RS256\",\"kid\":\"r\"}", rows[i].body, rsa);
		if (foreign(&is, keys, t, &who) != rows[i].rc) {
			fail_msg("%s: %d", rows[i].body, foreign(&is, keys, t, &who));
		}
	}
	/* the public key as a secret, here too */
	const char *pem = forge_pem(rsa, 0);
	assert_int_equal(foreign(&is, keys,
							 forge_hmac("{\"alg\":\"HS256\",\"kid\":\"r\"}", rows[0].body, "SHA256",
									 pem, strlen(pem)),
							 &who),
			-ENOKEY);
	json_decref(keys);
}

TEST(a_jwks_gives_only_keys_that_are_meant_and_strong)
{
	UNUSED;
	EVP_PKEY *small = EVP_RSA_gen(1024);
	char jwks[16384], why[ISSUER_WHY];
	struct issuer is = login_service(rs_es), secret = login_service(hs);
	static const char *const none[] = { "", "{", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}",
		"{\"keys\":[1,null,{}]}", "{\"keys\":[],\"keys\":[]}",
		"{\"keys\":[{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}" };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		assert_null(keys_of(&is, none[i], why));
		assert_true(why[0]);
	}
	snprintf(jwks, sizeof(jwks), "{\"keys\":[%s,%s,%s,%s]}", forge_jwk(small, ",\"kid\":\"a\""),
			forge_jwk(rsa, ",\"kid\":\"b\",\"use\":\"enc\""),
			forge_jwk(rsa, ",\"kid\":\"c\",\"alg\":\"RS512\""),
			forge_jwk(rsa, ",\"kid\":\"d\",\"key_ops\":[\"sign\"]"));
	assert_null(keys_of(&is, jwks, why));
	const char *oct = none[8];
	json_t *keys = keys_of(&secret, oct, why);
	assert_non_null(keys);
	json_decref(keys);
	secret.file = NULL;
	secret.url = "https://login.example/jwks";
	assert_null(keys_of(&secret, oct, why));
	EVP_PKEY_free(small);
}

TEST(a_shared_secret_can_be_a_foreign_issuers_key)
{
	UNUSED;
	char jwks[512], why[ISSUER_WHY];
	struct issuer is = login_service(hs);
	struct who who;
	snprintf(jwks, sizeof(jwks), "{\"keys\":[{\"kty\":\"oct\",\"k\":\"%s\"}]}",
			forge_b64(SECRET, sizeof(SECRET) - 1));
	json_t *keys = keys_of(&is, jwks, why);
	const char *body = THEIRS(",\"sub\":\"ann\",\"type\":\"access\"");
	assert_int_equal(foreign(&is, keys, sign("{\"alg\":\"HS384\"}", body), &who), 0);
	assert_int_equal(
			foreign(&is, keys,
					forge_hmac("{\"alg\":\"HS384\"}", body, "SHA384", OTHER, sizeof(OTHER) - 1),
					&who),
			-EKEYREJECTED);
	json_decref(keys);
}

static int make_keys(void **state)
{
	(void)state;
	rsa = EVP_RSA_gen(2048);
	ec = EVP_EC_gen("P-256");
	ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	return sodium_init() < 0 || !rsa || !ec || !ed;
}

static int free_keys(void **state)
{
	(void)state;
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_issued_is_verified_by_every_algorithm),
		cmocka_unit_test(tokens_made_elsewhere_by_the_same_keys_are_good),
		cmocka_unit_test(times_have_thirty_seconds_leeway),
		cmocka_unit_test(h130_h131_h133_headers),
		cmocka_unit_test(h133_a_kid_of_10_kib),
		cmocka_unit_test(h131_hmac_with_the_public_key_as_secret),
		cmocka_unit_test(h132_h134_h135_h137_claims),
		cmocka_unit_test(h135_each_type_is_good_for_itself_alone),
		cmocka_unit_test(h136_every_bit_and_every_cut),
		cmocka_unit_test(h136_other_spellings),
		cmocka_unit_test(h136_the_standard_alphabet),
		cmocka_unit_test(h137_long_and_deep),
		cmocka_unit_test(what_is_no_jwt_is_left_to_others),
		cmocka_unit_test(the_first_key_signs_and_all_verify),
		cmocka_unit_test(weak_and_wrong_keys_are_refused),
		cmocka_unit_test(a_foreign_token_is_read_by_its_issuers_rules),
		cmocka_unit_test(a_foreign_sub_that_cannot_be_an_id_becomes_one),
		cmocka_unit_test(foreign_tokens_for_others_are_refused),
		cmocka_unit_test(a_jwks_gives_only_keys_that_are_meant_and_strong),
		cmocka_unit_test(a_shared_secret_can_be_a_foreign_issuers_key),
	};
	return cmocka_run_group_tests(tests, make_keys, free_keys);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* How many tokens a thread verifies in a second, by algorithm: own ones, as each CONNECT does. */
#include "forge.h"
#include "own.h"

#include <errno.h>
#include <time.h>

enum { ROUND = 64, SECONDS = 2 };

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fill(void *p, size_t n)
{
	randombytes_buf(p, n);
}

static int verify_once(const struct own *o, const char *text)
{
	char room[CHATD_TOKEN_MAX];
	struct chatd_claims claims;
	struct token t;
	return token_parse(chatd_str_of(text, strlen(text)), &t) ||
			own_verify(o, 1800000000000, CHATD_TOKEN_ACCESS, &t, room, &claims);
}

static int bench(int alg, const char *key)
{
	struct key room;
	char why[KEY_WHY] = "", text[CHATD_TOKEN_MAX];
	const struct key_spec spec = { .alg = alg, .text = chatd_str_of(key, strlen(key)) };
	const struct own o = { .keys = &room,
		.n = 1,
		.issuer = "chatd",
		.audience = "chatd",
		.access_ms = 3600000,
		.random = fill };
	const struct chatd_claims c = { .struct_size = sizeof(c),
		.type = CHATD_TOKEN_ACCESS,
		.user = CHATD_LIT("user_ab3cd4ef5g"),
		.name = CHATD_LIT("Ann"),
		.login = CHATD_LIT("0198f2c4-7c2e-7e1a-9d57-6a1b2c3d4e5f"),
		.roles = CHATD_LIT("moderator") };
	if (key_load(&spec, &room, why) < 0 || own_issue(&o, 1800000000000, &c, text, NULL) < 0) {
		fprintf(stderr, "%s: %s\n", key_algs[alg], why);
		return 1;
	}
	long n = 0;
	int bad = 0;
	double from = now(), spent = 0;
	for (; spent < SECONDS; spent = now() - from) {
		for (int i = 0; i < ROUND; i++) {
			bad |= verify_once(&o, text);
		}
		n += ROUND;
	}
	printf("%-6s %9.0f verifications per second of CPU, %6.1f us each%s\n", key_algs[alg],
			(double)n / spent, spent * 1e6 / (double)n, bad ? "  WRONG" : "");
	key_wipe(&room);
	return bad;
}

int main(void)
{
	static const char secret[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256");
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (sodium_init() < 0 || !rsa || !ec || !ed) {
		return 1;
	}
	int bad = bench(ALG_HS256, secret) | bench(ALG_HS384, secret) | bench(ALG_HS512, secret) |
			bench(ALG_RS256, forge_pem(rsa, 1)) | bench(ALG_ES256, forge_pem(ec, 1)) |
			bench(ALG_EDDSA, forge_pem(ed, 1));
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed);
	return bad;
}

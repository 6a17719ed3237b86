/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a token: nothing is good that was not signed with the key.  The same bytes as
 * header and payload of a token that is signed: what is then good names a valid user and end.
 */
#include "forge.h"
#include "issuer.h"
#include "own.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SECRET "0123456789abcdef0123456789abcdef0123456789abcdef"
#define WALL   INT64_C(1800000000000)

static struct key room;
static struct own own = { .keys = &room, .n = 1, .issuer = "chatd", .audience = "chatd" };

static chatd_status verify(const char *p, size_t n, struct chatd_claims *c)
{
	static char text[CHATD_TOKEN_MAX];
	struct token t;
	chatd_status rc = token_parse(chatd_str_of(p, n), &t);
	return rc < 0 ? rc : own_verify(&own, WALL, CHATD_TOKEN_ACCESS, &t, text, c);
}

static void as_token(const char *p, size_t n)
{
	struct chatd_claims c;
	chatd_status rc = verify(p, n, &c);
	if (rc == 0 || rc == -EKEYEXPIRED) {
		abort(); /* a HMAC was guessed */
	}
}

/* The part before the first newline is the header. */
static void as_signed(const char *p, size_t n)
{
	const char *line = memchr(p, '\n', n);
	struct chatd_claims c;
	char head[2048], body[2048];
	size_t h = line ? (size_t)(line - p) : 0, b = line ? n - h - 1 : n;
	if (h >= sizeof(head) || b >= sizeof(body)) {
		return;
	}
	snprintf(head, sizeof(head), "%.*s", (int)h, p);
	snprintf(body, sizeof(body), "%.*s", (int)b, line ? line + 1 : p);
	const char *t = forge_hmac(
			h ? head : "{\"alg\":\"HS384\"}", body, "SHA384", SECRET, sizeof(SECRET) - 1);
	if (verify(t, strlen(t), &c) == 0 &&
			(!chatd_id_ok(c.user) || c.expires <= WALL - 30000 ||
					(c.login.p && !chatd_id_ok(c.login)))) {
		abort();
	}
}

static void as_jwks(const char *p, size_t n)
{
	static const char *const algs[] = { "RS256", "ES256", "HS384", NULL };
	const struct issuer is = { .issuer = "i", .audience = "a", .file = "f", .algorithms = algs };
	char why[ISSUER_WHY];
	json_t *keys = issuer_keys(&is, chatd_str_of(p, n), why);
	json_decref(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct key_spec spec = {
		.alg = ALG_HS384, .kid = "k1", .text = { SECRET, sizeof(SECRET) - 1 }
	};
	char why[KEY_WHY];
	if (!room.secret && (sodium_init() < 0 || key_load(&spec, &room, why) < 0)) {
		abort();
	}
	as_token((const char *)data, n);
	as_signed((const char *)data, n);
	as_jwks((const char *)data, n);
	return 0;
}

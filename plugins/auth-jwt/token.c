/* SPDX-License-Identifier: Apache-2.0 */
#include "token.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

int token_decode(struct chatd_str b64, unsigned char *to, size_t cap)
{
	const char *end = NULL;
	size_t n = 0;
	/* sodium refuses other alphabets, padding, and bits of the last character that say
	 * nothing: each signature has one spelling. */
	if (!b64.p ||
			sodium_base642bin(to, cap, b64.p, b64.n, NULL, &n, &end,
					sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
			end != b64.p + b64.n) {
		return -1;
	}
	return (int)n;
}

/* NULL: no object, two members of one name, a NUL, a number out of range, too deep. */
static json_t *read_object(const unsigned char *p, int n)
{
	char why[CHATD_JSON_WHY];
	return n > 0 ? chatd_json_parse(chatd_str_of((const char *)p, (size_t)n), why) : NULL;
}

static int take_text(const json_t *j, char *to, size_t cap)
{
	size_t n = json_string_length(j);
	if (!json_is_string(j) || n == 0 || n >= cap) {
		return -1;
	}
	memcpy(to, json_string_value(j), n + 1);
	return 0;
}

/* A header that brings a key, says where one is, or wants to be understood otherwise. */
static int has_foreign_will(const json_t *header)
{
	static const char *const names[] = { "jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (json_object_get(header, names[i])) {
			return 1;
		}
	}
	return 0;
}

static chatd_status read_header(const json_t *header, struct token *t)
{
	const json_t *kid = json_object_get(header, "kid");
	if (has_foreign_will(header) ||
			take_text(json_object_get(header, "alg"), t->alg, sizeof(t->alg)) < 0 ||
			(kid && take_text(kid, t->kid, sizeof(t->kid)) < 0)) {
		return -EKEYREJECTED;
	}
	return 0;
}

/* The header decides whether it is meant as a JWT: other tokens with dots in them are
 * somebody else's business. */
static chatd_status open_header(struct token *t)
{
	unsigned char raw[TOKEN_JSON_MAX];
	int n = token_decode(t->header, raw, sizeof(raw));
	if (n <= 0 || raw[0] != '{') {
		return -EINVAL;
	}
	json_t *header = read_object(raw, n);
	chatd_status rc = header ? read_header(header, t) : -EKEYREJECTED;
	json_decref(header);
	return rc;
}

/* Only how deep it is: libjwt parses it before it looks at the signature. */
static chatd_status open_payload(const struct token *t)
{
	unsigned char raw[TOKEN_JSON_MAX];
	int n = token_decode(t->payload, raw, sizeof(raw));
	int bad =
			n <= 0 || raw[0] != '{' || chatd_json_deep(chatd_str_of((const char *)raw, (size_t)n));
	return bad ? -EKEYREJECTED : 0;
}

chatd_status token_parse(struct chatd_str text, struct token *ret)
{
	const char *dot = text.n ? memchr(text.p, '.', text.n) : NULL;
	if (!dot) {
		return -EINVAL;
	}
	*ret = (struct token){ .text = text };
	if (text.n > TOKEN_TEXT_MAX) {
		return -EKEYREJECTED;
	}
	ret->header = chatd_str_of(text.p, (size_t)(dot - text.p));
	chatd_status rc = open_header(ret);
	if (rc < 0) {
		return rc;
	}
	const char *from = dot + 1, *end = text.p + text.n;
	dot = memchr(from, '.', (size_t)(end - from));
	if (!dot || memchr(dot + 1, '.', (size_t)(end - dot - 1))) {
		return -EKEYREJECTED;
	}
	ret->payload = chatd_str_of(from, (size_t)(dot - from));
	ret->signing = chatd_str_of(text.p, (size_t)(dot - text.p));
	ret->sig = chatd_str_of(dot + 1, (size_t)(end - dot - 1));
	unsigned char sig[TOKEN_JSON_MAX];
	return token_decode(ret->sig, sig, sizeof(sig)) > 0 ? open_payload(ret) : -EKEYREJECTED;
}

json_t *token_claims(const struct token *t)
{
	unsigned char raw[TOKEN_JSON_MAX];
	int n = token_decode(t->payload, raw, sizeof(raw));
	return read_object(raw, n);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <chatd-sdk/json.h>

#include <string.h>

static int is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* RFC 5321 without quoted strings, comments and address literals: nobody has those, and each
 * of them has smuggled something past somebody. */
static int local_ok(struct chatd_str s)
{
	static const char marks[] = "!#$%&'*+/=?^_`{|}~-";
	if (s.n == 0 || s.n > 64 || s.p[0] == '.' || s.p[s.n - 1] == '.') {
		return 0;
	}
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		int dot = c == '.' && s.p[i - 1] != '.';
		if (!is_word(c) && !dot && !memchr(marks, c, sizeof(marks) - 1)) {
			return 0;
		}
	}
	return 1;
}

static int domain_ok(struct chatd_str s)
{
	size_t label = 0, dots = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '.') {
			if (label == 0 || s.p[i - 1] == '-') {
				return 0;
			}
			label = 0;
			dots++;
		} else if ((!is_word(c) && c != '-') || (c == '-' && label == 0) || ++label > 63) {
			return 0;
		}
	}
	return label > 0 && dots > 0 && s.p[s.n - 1] != '-';
}

const char *check_email(struct chatd_str s, char ret[EMAIL_MAX + 1])
{
	const char *at = s.n ? memrchr(s.p, '@', s.n) : NULL;
	if (s.n > EMAIL_MAX) {
		return "an e-mail address has at most 254 characters";
	}
	if (!at || !local_ok(chatd_str_of(s.p, (size_t)(at - s.p))) ||
			!domain_ok(chatd_str_of(at + 1, s.n - (size_t)(at + 1 - s.p)))) {
		return "this is no e-mail address; it looks like name@example.org, in ASCII";
	}
	for (size_t i = 0; i < s.n; i++) {
		ret[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32 : s.p[i]);
	}
	ret[s.n] = '\0';
	return NULL;
}

/* ---- names -------------------------------------------------------------------- */

void check_nickname_of(const char *email, char ret[NICK_MAX + 1])
{
	/* Room is left for the digits that make it unique. */
	size_t n = strcspn(email, "@");
	chatd_str_copy(ret, NICK_CHARS - 6 + 1, chatd_str_of(email, n));
}

void check_device(struct chatd_str s, char ret[DEVICE_MAX + 1])
{
	size_t at = 0, n = 0;
	while (at < s.n) {
		size_t from = at;
		uint32_t c = chatd_char_next(s, &at);
		if (n + (at - from) > DEVICE_MAX) {
			break;
		}
		if (!chatd_char_invisible(c)) {
			memcpy(ret + n, s.p + from, at - from);
			n += at - from;
		}
	}
	ret[n] = '\0';
}

/* ---- codes -------------------------------------------------------------------- */

/* No 1, I and L; an O is read as 0. */
static const char letters[] = "23456789abcdefghjkmnpqrstuvwxyz0";

void check_code_write(const unsigned char raw[16], char ret[CODE_LEN + 1])
{
	for (size_t i = 0; i < CODE_LEN; i++) {
		unsigned v = 0;
		for (size_t bit = 5 * i; bit < 5 * i + 5; bit++) {
			v = v << 1 | (bit < 128 ? raw[bit / 8] >> (7 - bit % 8) & 1u : 0);
		}
		ret[i] = letters[v];
	}
	ret[CODE_LEN] = '\0';
}

int check_code_read(struct chatd_str s, char ret[CODE_LEN + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32 : s.p[i]);
		if (c == '-' || c == ' ') {
			continue;
		}
		if (n == CODE_LEN || !is_word(c)) {
			return 0;
		}
		ret[n++] = c == 'o' ? '0' : c;
	}
	ret[n] = '\0';
	return n == CODE_LEN;
}

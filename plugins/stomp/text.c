/* SPDX-License-Identifier: Apache-2.0 */
#include "parser.h"
#include <string.h>

const struct stomp_fault_text *stomp_fault_text(enum stomp_fault fault)
{
	static const struct stomp_fault_text texts[STOMP_FAULT_COUNT] = {
#define CHATD_X(name, message, code, close) [STOMP_##name] = { message, code, close },
		STOMP_FAULT_MAP(CHATD_X)
#undef CHATD_X
	};
	return &texts[fault];
}

static int blank(char c)
{
	return c == ' ' || c == '\t';
}

struct chatd_str stomp_trim(struct chatd_str s)
{
	while (s.n && blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && blank(s.p[s.n - 1])) {
		s.n--;
	}
	return s;
}

/** Octets of the sequence that begins at p, 0 if it is none. */
static size_t sequence(const unsigned char *p, size_t n)
{
	unsigned lead = p[0];
	size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4 || len > n) {
		return 0;
	}
	/* The second octet rules out overlong forms, surrogates and what is past U+10FFFF. */
	unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
	unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	if (p[1] < low || p[1] > high) {
		return 0;
	}
	for (size_t i = 2; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	return len;
}

int stomp_utf8(struct chatd_str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t i = 0;
	while (i < s.n) {
		uint64_t word;
		if (s.n - i >= sizeof(word)) {
			memcpy(&word, p + i, sizeof(word));
			if (!(word & UINT64_C(0x8080808080808080))) {
				i += sizeof(word);
				continue;
			}
		}
		if (p[i] < 0x80) {
			i++;
			continue;
		}
		size_t len = sequence(p + i, s.n - i);
		if (!len) {
			return 0;
		}
		i += len;
	}
	return 1;
}

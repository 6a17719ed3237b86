/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

static size_t ascii_run(const char *p, size_t n)
{
	size_t i = 0;
	for (; n - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, p + i, sizeof(word));
		if (word & HIGH_BITS)
			break;
	}
	while (i < n && (unsigned char)p[i] < 0x80)
		i++;
	return i;
}

/* The ranges are those of RFC 3629: they shut out overlong forms, surrogates and what
 * is above U+10FFFF with the second byte already. */
static int lead(struct utf8 *u, unsigned char c)
{
	u->lo = 0x80;
	u->hi = 0xbf;
	if (c >= 0xc2 && c <= 0xdf) {
		u->need = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		u->need = 2;
		if (c == 0xe0)
			u->lo = 0xa0;
		else if (c == 0xed)
			u->hi = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		u->need = 3;
		if (c == 0xf0)
			u->lo = 0x90;
		else if (c == 0xf4)
			u->hi = 0x8f;
	} else {
		return 0;
	}
	return 1;
}

size_t utf8_check(struct utf8 *u, const char *p, size_t n)
{
	size_t i = 0;
	while (i < n) {
		if (u->need == 0) {
			i += ascii_run(p + i, n - i);
			if (i == n)
				break;
			if (!lead(u, (unsigned char)p[i]))
				return i;
			i++;
			continue;
		}
		unsigned char c = (unsigned char)p[i];
		if (c < u->lo || c > u->hi)
			return i;
		u->need--;
		u->lo = 0x80;
		u->hi = 0xbf;
		i++;
	}
	return n;
}

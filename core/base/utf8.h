/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is it UTF-8 (RFC 3629: no surrogates, nothing overlong, nothing above U+10FFFF)?
 * Header only and free of state, so any part may copy or include it.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Text that arrives in pieces.  Zeroed is the start. */
struct utf8_state {
	uint8_t need;   /* continuation bytes still to come */
	uint8_t lo, hi; /* what the next one may be */
};

/* Consumes one byte: 0, or -1 as soon as the text cannot be UTF-8 any more. */
static inline int utf8_step(struct utf8_state *s, unsigned char c)
{
	if (s->need) {
		if (c < s->lo || c > s->hi)
			return -1;
		s->need--;
		s->lo = 0x80;
		s->hi = 0xbf;
		return 0;
	}
	if (c < 0x80)
		return 0;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	s->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	s->lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	s->hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	return 0;
}

/* Consumes a piece; after the last one, s->need must be 0. */
static inline int utf8_feed(struct utf8_state *s, const char *p, size_t n)
{
	size_t i = 0;
	while (i < n) {
		uint64_t eight;
		if (!s->need && n - i >= sizeof(eight)) {
			memcpy(&eight, p + i, sizeof(eight));
			if (!(eight & 0x8080808080808080u)) {
				i += sizeof(eight);
				continue;
			}
		}
		if (utf8_step(s, (unsigned char)p[i++]))
			return -1;
	}
	return 0;
}

/* 1 if all of it is UTF-8; a zero byte is. */
static inline int utf8_valid(const char *p, size_t n)
{
	struct utf8_state s = { 0, 0, 0 };
	return utf8_feed(&s, p, n) == 0 && s.need == 0;
}

/* Length of the one whole character at @p p, or 0 if there is none. */
static inline size_t utf8_char(const char *p, size_t n)
{
	struct utf8_state s = { 0, 0, 0 };
	for (size_t i = 0; i < n; i++) {
		if (utf8_step(&s, (unsigned char)p[i]))
			return 0;
		if (!s.need)
			return i + 1;
	}
	return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/text.h
 * @brief Names that people choose: what one can see of them.
 *
 * Header only and no part of the contract.  Text is known to be UTF-8.  [any]
 */
#ifndef CHATD_SDK_TEXT_H
#define CHATD_SDK_TEXT_H

#include <chatd/plugin.h>

/** Characters that are not seen, or turn the writing round, and so can fake a name. */
static inline int chatd_char_invisible(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
			(c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
			(c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
			(c >= 0xe0000 && c <= 0xe007f);
}

static inline int chatd_char_space(uint32_t c)
{
	return c == ' ' || c == 0xa0 || c == 0x3000 || (c >= 0x2000 && c <= 0x200a);
}

/** The code point at *at, which moves on. */
static inline uint32_t chatd_char_next(struct chatd_str s, size_t *at)
{
	unsigned char c = (unsigned char)s.p[(*at)++];
	uint32_t v = c < 0x80 ? c : c < 0xe0 ? c & 0x1fu : c < 0xf0 ? c & 0x0fu : c & 0x07u;
	while (*at < s.n && ((unsigned char)s.p[*at] & 0xc0) == 0x80) {
		v = v << 6 | ((unsigned char)s.p[(*at)++] & 0x3f);
	}
	return v;
}

#endif

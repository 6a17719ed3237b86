/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/text.h
 * @brief Texts that people write: what one can see of them, and their beginnings.
 *
 * Header only and no part of the contract.  Text is known to be UTF-8, but for what checks
 * whether it is.  [any]
 */
#ifndef CHATD_SDK_TEXT_H
#define CHATD_SDK_TEXT_H

#include <chatd/plugin.h>

#include <string.h>

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

/** A name without the characters that are not seen, and without spaces at its ends; what does not
 *  fit into @p cap with the NUL is cut.  Its length: 0, nothing is left. */
static inline size_t chatd_text_seen(struct chatd_str s, char *to, size_t cap)
{
	size_t at = 0, n = 0, end = 0;
	while (at < s.n) {
		size_t from = at;
		uint32_t c = chatd_char_next(s, &at);
		int space = chatd_char_space(c);
		if (n + (at - from) >= cap) {
			break;
		}
		if (chatd_char_invisible(c) || (space && n == 0)) {
			continue;
		}
		memcpy(to + n, s.p + from, at - from);
		n += at - from;
		end = space ? end : n;
	}
	to[end] = '\0';
	return end;
}

/** The beginning: at most so many bytes, and whole characters. */
static inline struct chatd_str chatd_text_cut(struct chatd_str s, size_t bytes)
{
	size_t n = s.n < bytes ? s.n : bytes;
	while (n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80) {
		n--;
	}
	return chatd_str_of(s.p, n);
}

/** The beginning: at most so many characters. */
static inline struct chatd_str chatd_text_first(struct chatd_str s, size_t chars)
{
	size_t i = 0, n = 0;
	for (; i < s.n; i++) {
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
		if (n > chars) {
			break;
		}
	}
	return chatd_str_of(s.p, i);
}

/** 1: this is UTF-8 (RFC 3629: no surrogates, nothing longer than it need be). */
static inline int chatd_text_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i++];
		unsigned more = c < 0x80 ? 0
				: c < 0xc2       ? 4
				: c < 0xe0       ? 1
				: c < 0xf0       ? 2
				: c < 0xf5       ? 3
								 : 4;
		unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
		unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
		if (more == 4 || s.n - i < more) {
			return 0;
		}
		for (unsigned k = 0; k < more; k++, low = 0x80, high = 0xbf) {
			unsigned char next = (unsigned char)s.p[i++];
			if (next < low || next > high) {
				return 0;
			}
		}
	}
	return 1;
}

#endif

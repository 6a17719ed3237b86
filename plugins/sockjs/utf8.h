/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file utf8.h
 * @brief One UTF-8 character at a time, strict: no overlong form, no surrogate,
 * nothing above U+10FFFF.  Pure; any thread.
 */
#ifndef SOCKJS_UTF8_H
#define SOCKJS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/** The length of the character at @p p (1 to 4), or 0 if these bytes are none. */
static inline size_t utf8_decode(const unsigned char *p, size_t n, uint32_t *ret_cp)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (!len || len > n || p[0] > 0xf4)
		return 0;
	uint32_t cp = len == 1 ? p[0] : p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3fu);
	}
	if (cp < least[len] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	*ret_cp = cp;
	return len;
}

#endif

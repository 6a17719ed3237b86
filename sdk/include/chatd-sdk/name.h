/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/name.h
 * @brief Names that people choose, as they are kept.
 *
 * Header only and no part of the contract; needs libunistring (-lunistring).  [any]
 */
#ifndef CHATD_SDK_NAME_H
#define CHATD_SDK_NAME_H

#include <chatd-sdk/text.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unictype.h>
#include <uninorm.h>

/** What cannot be seen, or turns the writing round.  Taken out instead of refused: emoji that are
 *  joined from others have such characters, and nobody typed them by hand. */
static inline int chatd_name_drops(uint32_t c)
{
	return chatd_char_invisible(c) || uc_is_property_default_ignorable_code_point(c) ||
			uc_is_general_category_withtable(c,
					UC_CATEGORY_MASK_Cc | UC_CATEGORY_MASK_Cf | UC_CATEGORY_MASK_Zl |
							UC_CATEGORY_MASK_Zp);
}

/** NFKC, so that what looks alike is alike (full-width letters, ligatures), without what cannot be
 *  seen and without spaces at its ends; its length.  The text is known to be UTF-8.
 *  -ERANGE: longer than cap - 1 bytes; -ENOMEM. */
static inline int64_t chatd_name_clean(struct chatd_str s, char *ret, size_t cap)
{
	size_t at = 0, n = 0, len = 0;
	if (s.n > 8 * cap) {
		return -ERANGE;
	}
	uint8_t *seen = (uint8_t *)malloc(s.n + 1);
	while (seen && at < s.n) {
		size_t from = at;
		if (!chatd_name_drops(chatd_char_next(s, &at))) {
			memcpy(seen + n, s.p + from, at - from);
			n += at - from;
		}
	}
	uint8_t *norm = seen ? u8_normalize(UNINORM_NFKC, seen, n, NULL, &len) : NULL;
	free(seen);
	if (!norm && n) {
		return -ENOMEM;
	}
	const char *p = norm ? (const char *)norm : "";
	while (len && *p == ' ') {
		p++;
		len--;
	}
	while (len && p[len - 1] == ' ') {
		len--;
	}
	if (len < cap) {
		if (len) {
			memcpy(ret, p, len);
		}
		ret[len] = '\0';
	}
	free(norm);
	return len < cap ? (int64_t)len : -ERANGE;
}

/** Of a nickname: characters, and bytes of them. */
enum { CHATD_NICK_CHARS = 32, CHATD_NICK_MAX = 4 * CHATD_NICK_CHARS };

/** NULL: a nickname, as accounts keep it; else what is wrong with it. */
static inline const char *chatd_nick_take(struct chatd_str s, char ret[CHATD_NICK_MAX + 1])
{
	int64_t n = chatd_name_clean(s, ret, CHATD_NICK_MAX + 1);
	struct chatd_str nick = chatd_str_of(ret, n < 0 ? 0 : (size_t)n);
	size_t at = 0, chars = 0, seen = 0;
	if (n == -ENOMEM) {
		return "the server has no memory left";
	}
	while (at < nick.n) {
		seen += !chatd_char_space(chatd_char_next(nick, &at));
		chars++;
	}
	if (n < 0 || chars > CHATD_NICK_CHARS) {
		return "a nickname has at most 32 characters";
	}
	return seen ? NULL : "a nickname must not be empty";
}

#endif

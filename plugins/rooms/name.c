/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

/* Characters that are not seen, or turn the writing round, and so can fake a name. */
static int invisible(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
			(c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
			(c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
			(c >= 0xe0000 && c <= 0xe007f);
}

/* One code point of text that is known to be UTF-8. */
static uint32_t next_char(struct chatd_str s, size_t *at)
{
	unsigned char c = (unsigned char)s.p[(*at)++];
	uint32_t v = c < 0x80 ? c : c < 0xe0 ? c & 0x1fu : c < 0xf0 ? c & 0x0fu : c & 0x07u;
	while (*at < s.n && ((unsigned char)s.p[*at] & 0xc0) == 0x80) {
		v = v << 6 | ((unsigned char)s.p[(*at)++] & 0x3f);
	}
	return v;
}

const char *name_fault(struct chatd_str name)
{
	size_t at = 0, seen = 0;
	if (chatd_str_chars(name) > NAME_CHARS || name.n > NAME_MAX_BYTES) {
		return "name must have at most 100 characters";
	}
	while (at < name.n) {
		uint32_t c = next_char(name, &at);
		if (invisible(c)) {
			return "name must not contain control characters or invisible ones";
		}
		seen += c != ' ' && c != 0xa0 && c != 0x3000 && !(c >= 0x2000 && c <= 0x200a);
	}
	return seen ? NULL : "name must not be empty";
}

const char *about_fault(struct chatd_str about)
{
	size_t at = 0;
	if (chatd_str_chars(about) > ABOUT_CHARS || about.n > ABOUT_MAX) {
		return "about must have at most 500 characters";
	}
	while (at < about.n) {
		uint32_t c = next_char(about, &at);
		if (c != '\n' && invisible(c)) {
			return "about must not contain control characters or invisible ones";
		}
	}
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "escape.h"

#include "utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_plain(unsigned char c, unsigned flags)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && (c != '<' || !(flags & ESCAPE_SCRIPT));
}

static bool is_mangled(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x200c && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202f) ||
			(cp >= 0x2060 && cp <= 0x206f) || (cp >= 0xfff0 && cp <= 0xffff) || cp == '<';
}

static size_t put_hex(char out[6], uint32_t cp)
{
	static const char digits[] = "0123456789abcdef";
	out[0] = '\\';
	out[1] = 'u';
	for (int i = 0; i < 4; i++)
		out[2 + i] = digits[cp >> (12 - 4 * i) & 15];
	return 6;
}

static char short_form(uint32_t cp)
{
	switch (cp) {
	case '\b':
		return 'b';
	case '\t':
		return 't';
	case '\n':
		return 'n';
	case '\f':
		return 'f';
	case '\r':
		return 'r';
	case '"':
	case '\\':
		return (char)cp;
	default:
		return 0;
	}
}

/** One character that is not plain; returns the bytes taken. */
static size_t step(const char *p, size_t n, char out[6], size_t *ret_len)
{
	uint32_t cp = 0xfffd;
	size_t taken = utf8_decode((const unsigned char *)p, n, &cp);
	char form = short_form(cp);
	if (form) {
		out[0] = '\\';
		out[1] = form;
		*ret_len = 2;
	} else if (is_mangled(cp)) {
		*ret_len = put_hex(out, cp);
	} else {
		memcpy(out, p, taken);
		*ret_len = taken;
	}
	return taken ? taken : 1;
}

size_t escape_size(const char *p, size_t n, unsigned flags)
{
	size_t size = 0;
	for (size_t i = 0; i < n;) {
		if (is_plain((unsigned char)p[i], flags)) {
			i++;
			size++;
			continue;
		}
		char out[6];
		size_t len;
		i += step(p + i, n - i, out, &len);
		size += len;
	}
	return size;
}

char *escape_put(char *out, const char *p, size_t n, unsigned flags)
{
	for (size_t i = 0; i < n;) {
		if (is_plain((unsigned char)p[i], flags)) {
			*out++ = p[i++];
			continue;
		}
		char text[6];
		size_t len;
		i += step(p + i, n - i, text, &len);
		memcpy(out, text, len);
		out += len;
	}
	return out;
}

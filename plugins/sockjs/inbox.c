/* SPDX-License-Identifier: Apache-2.0 */
#include "inbox.h"

#include "utf8.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/** Walks the text twice: without .out it only measures. */
struct reader {
	const char *p, *end;
	char *out;
	size_t bytes;
};

static void skip_space(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
		r->p++;
}

static bool take(struct reader *r, char c)
{
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static void emit(struct reader *r, const char *p, size_t n)
{
	if (r->out)
		memcpy(r->out + r->bytes, p, n);
	r->bytes += n;
}

static void emit_cp(struct reader *r, uint32_t cp)
{
	char b[4];
	size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	if (n == 1) {
		b[0] = (char)cp;
	} else {
		for (size_t i = n - 1; i > 0; i--, cp >>= 6)
			b[i] = (char)(0x80 | (cp & 0x3f));
		b[0] = (char)((0xf00u >> n & 0xf0u) | cp);
	}
	emit(r, b, n);
}

static bool read_hex(struct reader *r, uint32_t *ret_unit)
{
	if (r->end - r->p < 4)
		return false;
	uint32_t unit = 0;
	for (int i = 0; i < 4; i++) {
		char c = *r->p++;
		uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0')
				: c >= 'a' && c <= 'f'        ? (uint32_t)(c - 'a' + 10)
				: c >= 'A' && c <= 'F'        ? (uint32_t)(c - 'A' + 10)
											  : 16;
		if (digit > 15)
			return false;
		unit = unit << 4 | digit;
	}
	*ret_unit = unit;
	return true;
}

static bool read_unicode(struct reader *r)
{
	uint32_t cp, low;
	if (!read_hex(r, &cp) || (cp >= 0xdc00 && cp <= 0xdfff))
		return false;
	if (cp >= 0xd800 && cp <= 0xdbff) {
		if (!take(r, '\\') || !take(r, 'u') || !read_hex(r, &low) || low < 0xdc00 || low > 0xdfff)
			return false;
		cp = 0x10000 + ((cp - 0xd800) << 10 | (low - 0xdc00));
	}
	emit_cp(r, cp);
	return true;
}

static bool read_escape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	if (r->p == r->end)
		return false;
	char c = *r->p++;
	if (c == 'u')
		return read_unicode(r);
	const char *at = c ? strchr(from, c) : NULL;
	if (!at)
		return false;
	emit(r, &to[at - from], 1);
	return true;
}

static bool read_string(struct reader *r)
{
	if (!take(r, '"'))
		return false;
	while (r->p < r->end) {
		const char *run = r->p;
		while (r->p < r->end && (unsigned char)*r->p >= 0x20 && (unsigned char)*r->p < 0x80 &&
				*r->p != '"' && *r->p != '\\')
			r->p++;
		emit(r, run, (size_t)(r->p - run));
		if (take(r, '"'))
			return true;
		if (take(r, '\\')) {
			if (!read_escape(r))
				return false;
			continue;
		}
		uint32_t cp;
		size_t len = r->p == r->end || (unsigned char)*r->p < 0x20
				? 0
				: utf8_decode((const unsigned char *)r->p, (size_t)(r->end - r->p), &cp);
		if (!len)
			return false;
		emit(r, r->p, len);
		r->p += len;
	}
	return false;
}

static int read_array(struct reader *r, struct chatd_str *items, size_t *ret_count)
{
	size_t count = 0;
	skip_space(r);
	if (!take(r, '['))
		return -EBADMSG;
	skip_space(r);
	bool more = !take(r, ']');
	while (more) {
		size_t from = r->bytes;
		if (!read_string(r))
			return -EBADMSG;
		if (items)
			items[count] = chatd_str_of(r->out + from, r->bytes - from);
		count++;
		skip_space(r);
		if (take(r, ']'))
			break;
		if (!take(r, ','))
			return -EBADMSG;
		skip_space(r);
	}
	skip_space(r);
	if (r->p != r->end)
		return -EBADMSG;
	*ret_count = count;
	return count > INBOX_MAX ? -E2BIG : 0;
}

int inbox_parse(const char *p, size_t n, struct inbox **ret)
{
	struct reader r = { p, p + n, NULL, 0 };
	size_t count = 0;
	int rc = read_array(&r, NULL, &count);
	if (rc < 0)
		return rc;
	size_t head = sizeof(struct inbox) + count * sizeof(struct chatd_str);
	struct inbox *in = malloc(head + r.bytes);
	if (!in)
		return -ENOMEM;
	memset(in, 0, head);
	in->count = count;
	in->bytes = head + r.bytes;
	r = (struct reader){ p, p + n, (char *)in + head, 0 };
	read_array(&r, in->items, &count);
	*ret = in;
	return 0;
}

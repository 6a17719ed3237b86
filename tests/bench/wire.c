/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <string.h>
#include <time.h>

uint64_t wire_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void mask(char *p, size_t n, const unsigned char key[4])
{
	uint64_t wide, word;
	size_t i = 0;

	memcpy(&wide, key, 4);
	memcpy((char *)&wide + 4, key, 4);
	for (; i + 8 <= n; i += 8) {
		memcpy(&word, p + i, 8);
		word ^= wide;
		memcpy(p + i, &word, 8);
	}
	for (; i < n; i++)
		p[i] = (char)((unsigned char)p[i] ^ key[i & 3]);
}

int wire_parse(char *p, size_t n, struct wire_frame *ret_frame)
{
	const unsigned char *b = (const unsigned char *)p;
	uint64_t len;
	size_t head = 2;

	if (n < 2)
		return 0;
	if ((b[0] & 0xf0) != 0x80)
		return -1;
	len = b[1] & 0x7f;
	if (len >= 126) {
		size_t wide = len == 126 ? 2 : 8;
		head += wide;
		if (n < head)
			return 0;
		len = 0;
		for (size_t i = 0; i < wide; i++)
			len = len << 8 | b[2 + i];
	}
	size_t key = (b[1] & 0x80) ? 4 : 0;
	if (n < head + key || n - head - key < len)
		return 0;
	ret_frame->op = b[0] & 0x0f;
	ret_frame->data = p + head + key;
	ret_frame->len = (size_t)len;
	ret_frame->size = head + key + (size_t)len;
	if (key)
		mask(ret_frame->data, ret_frame->len, b + head);
	return 1;
}

size_t wire_head(char *dst, uint8_t op, size_t len)
{
	size_t wide = len < 126 ? 0 : len < 65536 ? 2 : 8;

	dst[0] = (char)(0x80 | op);
	dst[1] = (char)(wide == 0 ? len : wide == 2 ? 126 : 127);
	for (size_t i = 0; i < wide; i++)
		dst[2 + i] = (char)(len >> 8 * (wide - 1 - i));
	return 2 + wide;
}

size_t wire_client_frame(char *dst, uint8_t op, const char *data, size_t len)
{
	/* Any key is a legal key; a constant one still makes the server do the work of unmasking. */
	static const unsigned char key[4] = { 0x37, 0xfa, 0x21, 0x3d };
	size_t head = wire_head(dst, op, len);

	dst[1] = (char)((unsigned char)dst[1] | 0x80);
	memcpy(dst + head, key, 4);
	if (len > 0)
		memcpy(dst + head + 4, data, len);
	mask(dst + head + 4, len, key);
	return head + 4 + len;
}

int wire_stomp_parse(const char *p, size_t n, struct wire_stomp *ret_frame)
{
	while (n > 0 && (*p == '\n' || *p == '\r')) {
		p++;
		n--;
	}
	if (n == 0)
		return 0;
	while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	if (n == 0 || p[n - 1] != '\0')
		return -1;
	const char *line = memchr(p, '\n', n);
	const char *end = line ? memmem(line, n - (size_t)(line - p), "\n\n", 2) : NULL;
	if (!end)
		return -1;
	ret_frame->command = (struct wire_str){ p, (size_t)(line - p) };
	ret_frame->headers = (struct wire_str){ line + 1, (size_t)(end - line) };
	ret_frame->body = (struct wire_str){ end + 2, n - 1 - (size_t)(end + 2 - p) };
	return 1;
}

struct wire_str wire_header(const struct wire_stomp *f, const char *name)
{
	size_t want = strlen(name);
	const char *p = f->headers.p;
	const char *end = p + f->headers.n;

	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		if (!eol)
			break;
		if ((size_t)(eol - p) > want && p[want] == ':' && memcmp(p, name, want) == 0)
			return (struct wire_str){ p + want + 1, (size_t)(eol - p) - want - 1 };
		p = eol + 1;
	}
	return (struct wire_str){ NULL, 0 };
}

bool wire_is(struct wire_str s, const char *text)
{
	return s.p && s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include <string.h>

size_t frames_header(unsigned char out[FRAMES_HEADER_MAX], int opcode, bool final, uint64_t n)
{
	size_t len = 2, bytes = n < 126 ? 0 : n < 65536 ? 2 : 8;
	out[0] = (unsigned char)(opcode | (final ? 0x80 : 0));
	out[1] = (unsigned char)(0x80 | (bytes == 0 ? n : bytes == 2 ? 126 : 127));
	while (bytes-- > 0)
		out[len++] = (unsigned char)(n >> (8 * bytes));
	memset(out + len, 0, 4);
	return len + 4;
}

size_t frames_read(const unsigned char *p, size_t n, struct frames_out *ret)
{
	if (n < 2)
		return 0;
	size_t bytes = (p[1] & 0x7f) < 126 ? 0 : (p[1] & 0x7f) == 126 ? 2 : 8;
	if (n < 2 + bytes)
		return 0;
	ret->opcode = p[0] & 0x0f;
	ret->final = (p[0] & 0x80) != 0;
	ret->n = bytes ? 0 : p[1] & 0x7f;
	for (size_t i = 0; i < bytes; i++)
		ret->n = ret->n << 8 | p[2 + i];
	return 2 + bytes;
}

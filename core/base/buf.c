/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

chatd_buf *buf_new(size_t room, size_t n)
{
	if (room > UINT32_MAX || n > SIZE_MAX - sizeof(chatd_buf) - room)
		return NULL;
	chatd_buf *b = malloc(sizeof(*b) + room + n);
	if (!b)
		return NULL;
	atomic_init(&b->refs, 1);
	b->start = (uint32_t)room;
	b->len = n;
	return b;
}

chatd_buf *buf_copy(size_t room, struct chatd_str s)
{
	chatd_buf *b = buf_new(room, s.n);
	if (b && s.n)
		memcpy(buf_data(b), s.p, s.n);
	return b;
}

void buf_unref(chatd_buf *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}

char *buf_push(chatd_buf *b, size_t n)
{
	if (n > b->start)
		return NULL;
	b->start -= (uint32_t)n;
	b->len += n;
	return buf_data(b);
}

void buf_trim(chatd_buf *b, size_t n)
{
	if (n < b->len)
		b->len = n;
}

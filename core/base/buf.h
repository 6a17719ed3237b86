/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference-counted bytes with room in front for framing: struct chatd_buf of the plugin
 * contract.  Header and bytes are one allocation.  References may be taken and dropped on
 * any thread; only the maker writes, and only before the buffer is sent.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <chatd/plugin.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct chatd_buf {
	atomic_uint refs;
	uint32_t start; /* of the content, in bytes[]; what is before it is the free room */
	size_t len;
	char bytes[];
};

/* One reference; the bytes are not zeroed.  NULL: no memory, or sizes that cannot be. */
chatd_buf *buf_new(size_t room, size_t n);
/* A buffer with a copy of @p s. */
chatd_buf *buf_copy(size_t room, struct chatd_str s);
void buf_unref(chatd_buf *b); /* NULL is fine */
/* Grows the content to the front by @p n bytes and returns its start; NULL: no room left. */
char *buf_push(chatd_buf *b, size_t n);
/* Cuts the content to @p n bytes; never makes it longer. */
void buf_trim(chatd_buf *b, size_t n);

static inline chatd_buf *buf_ref(chatd_buf *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

static inline char *buf_data(chatd_buf *b)
{
	return b->bytes + b->start;
}

static inline size_t buf_len(const chatd_buf *b)
{
	return b->len;
}

static inline struct chatd_str buf_str(chatd_buf *b)
{
	return chatd_str_of(buf_data(b), b->len);
}

#endif

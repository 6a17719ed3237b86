/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file gather.h
 * @brief One buffer of several pieces: what a transport's render() makes of a message.
 *
 *     const struct chatd_str parts[] = { CHATD_LIT("msg "), dest, CHATD_LIT(" "), body, CHATD_LIT("\n") };
 *     return chatd_gather(h, CHATD_WRAP_ROOM, parts, 5);
 *
 * The pieces are copied.  They may be of other buffers, see chatd_buf_text().
 */
#ifndef CHATD_SDK_GATHER_H
#define CHATD_SDK_GATHER_H

#include <chatd/plugin.h>

#include <string.h>

/** What is in @p b, for as long as that is there. */
static inline struct chatd_str chatd_buf_text(const struct chatd_host *h, chatd_buf *b)
{
	return chatd_str_of(h->buf_data(b), h->buf_len(b));
}

/** @p room: bytes in front of them, for framing.  NULL: no memory. */
static inline chatd_buf *chatd_gather(
		const struct chatd_host *h, size_t room, const struct chatd_str *parts, size_t n)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++) {
		bytes += parts[i].n;
	}
	chatd_buf *b = h->buf_new(room, bytes);
	char *to = b ? h->buf_data(b) : NULL;
	for (size_t i = 0; b && i < n; i++) {
		if (parts[i].n) {
			memcpy(to, parts[i].p, parts[i].n);
			to += parts[i].n;
		}
	}
	return b;
}

#endif

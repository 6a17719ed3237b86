/* SPDX-License-Identifier: Apache-2.0 */
/**
 * UTF-8 checked as it arrives, in pieces of any size, failing at the first byte
 * that no continuation can save.  Pure; any thread.
 */
#ifndef WEBSOCKET_UTF8_H
#define WEBSOCKET_UTF8_H

#include <stddef.h>
#include <stdint.h>

/** Zeroed before the first byte of a text. */
struct utf8 {
	uint8_t need;   /**< continuation bytes still to come; 0: between two characters */
	uint8_t lo, hi; /**< the range of the next one */
};

/** How many of the @p n bytes are good: @p n, or the index of the offending byte.  The
 *  state is then that after the good ones. */
size_t utf8_check(struct utf8 *u, const char *p, size_t n);

#endif

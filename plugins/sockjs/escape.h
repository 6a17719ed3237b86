/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file escape.h
 * @brief Text as a JSON string, the way SockJS wants it.
 *
 * Escaped as lower-case \uXXXX: U+0000-001F (save the short forms \b \t \n \f \r),
 * 200C-200F, 2028-202F, 2060-206F and FFF0-FFFF, which browsers are known to
 * mangle.  Bytes that are not UTF-8 become U+FFFD.  Pure; any thread.
 */
#ifndef SOCKJS_ESCAPE_H
#define SOCKJS_ESCAPE_H

#include <stddef.h>

enum {
	/** Also '<', so that the text can stand inside a <script> element. */
	ESCAPE_SCRIPT = 1 << 0,
};

/** How many bytes escape_put() writes for these; the quotes are not counted. */
size_t escape_size(const char *p, size_t n, unsigned flags);
/** Writes them to @p out and returns the end of what was written. */
char *escape_put(char *out, const char *p, size_t n, unsigned flags);

#endif

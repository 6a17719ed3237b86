/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the log for signal handlers: async-signal-safe, in the form that log_open() has
 * chosen.  What is put must be plain text without quotes or control characters: names and words
 * of the server's own; quotes of crash.c are escaped for JSON.
 */
#ifndef BASE_CRASH_TEXT_H
#define BASE_CRASH_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct crash_text {
	size_t n;
	int json;
	char p[4096];
};

/* The time, ERROR, "core". */
void crash_begin(struct crash_text *t);
void crash_put(struct crash_text *t, const char *s); /* what does not fit is left out */
void crash_put_number(struct crash_text *t, int64_t v);
void crash_put_hex(struct crash_text *t, uint64_t v);
/* Ends the line and writes it. */
void crash_write(struct crash_text *t);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's log: one line per event, one write(2) per line, to standard error.
 * Usable from any thread after log_open(); before it, lines of level INFO and worse
 * go out as text.  Levels are CHATD_LOG_* of <chatd/plugin.h>.
 *
 * What a client wrote may end up here, so control characters and bytes that are not
 * UTF-8 are escaped (a line is always one line), a line is cut at 8 KiB, and what
 * follows "token=", "passcode", "password", "Bearer " or "Basic " is replaced by ***.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <chatd/plugin.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 8192

/* [main] Lines worse than or equal to @p level are written; @p json: one object a line. */
void log_open(int32_t level, int32_t json);

/* Tests point the log at a pipe; the default is standard error. */
void log_to(int fd);

/* For signal handlers, which write lines of their own (crash_text.h). */
int log_fd(void);
int log_is_json(void);

/* Is @p level written at all?  For callers that would have to compute something first. */
int log_wants(int32_t level);

/* @p who is the instance or the part that speaks ("http", "core"). */
void log_write(int32_t level, const char *who, const char *fmt, ...) CHATD_PRINTF(3, 4);
void log_vwrite(int32_t level, const char *who, const char *fmt, va_list ap) CHATD_PRINTF(3, 0);

/*
 * For what a client can cause as often as it likes: at most one line per second for
 * each @p who and @p reason; the next line says how many were left out.
 */
void log_limited(int32_t level, const char *who, const char *reason, const char *fmt, ...)
		CHATD_PRINTF(4, 5);

/* The line log_write() would write, newline included; returns its length (<= n). */
struct log_line {
	int64_t wall_ms;
	int32_t level;
	int32_t json;
	const char *who;
	const char *text;
};
size_t log_format(char *ret, size_t n, const struct log_line *line);

#endif

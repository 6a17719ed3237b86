/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Complaints about the configuration, collected so that all are shown at once.  Used by one
 * thread.  The complaints of one file are kept in the order of its lines; those without a
 * line keep the order in which they came.
 *
 *   config/chat.yaml:42:12: error: presence-redis: ttl: "abc" is not a duration; ...
 *      42 |       ttl: abc
 *         |            ^~~
 *
 * After DIAG_MAX complaints the rest are only counted.
 */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include "base/arena.h"

#include <chatd/plugin.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { DIAG_MAX = 100 };

/* A place in a text.  Everything is borrowed and copied by diag_add(). */
struct diag_at {
	const char *file;        /* NULL: no place at all */
	uint32_t line, col, len; /* from 1, columns in characters; line 0: the file as such */
	struct chatd_str source; /* that line without its end; .p NULL: not shown */
};

struct diag_item {
	struct diag_item *next;
	struct diag_at at;
	const char *text;
};

/* Zeroed is empty. */
struct diag {
	struct arena arena;
	struct diag_item *items;
	size_t count;      /* also of those that were not kept */
	int out_of_memory; /* a complaint was lost; counts as one */
};

/* @p text may have further lines ("\n"): they are shown indented below the place.
 * Secrets do not belong into it.  @p at may be NULL. */
void diag_add(struct diag *d, const struct diag_at *at, const char *fmt, ...) CHATD_PRINTF(3, 4);
void diag_vadd(struct diag *d, const struct diag_at *at, const char *fmt, va_list ap)
		CHATD_PRINTF(3, 0);
/* Takes the source line away from the complaints about this line: it holds a secret. */
void diag_hide(struct diag *d, const char *file, uint32_t line);
/* How many there are; 0: all is well. */
size_t diag_count(const struct diag *d);
/* From now on complaints are only counted. */
static inline int diag_full(const struct diag *d)
{
	return d->count >= DIAG_MAX;
}
void diag_print(const struct diag *d, FILE *to);
void diag_finish(struct diag *d);

#endif

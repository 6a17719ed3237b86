/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers for struct chatd_str, the borrowed text of the plugin contract.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <chatd/plugin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Of a C string; NULL gives the absent string. */
static inline struct chatd_str str_of(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static inline int str_eq(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline int str_is(struct chatd_str a, const char *b)
{
	return str_eq(a, str_of(b));
}

static inline int str_starts(struct chatd_str s, struct chatd_str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* ASCII letters only: the locale never matters. */
int str_caseeq(struct chatd_str a, struct chatd_str b);
/* Like strcmp(): shorter first among equals; bytes are unsigned. */
int str_cmp(struct chatd_str a, struct chatd_str b);
/* A NUL-terminated copy to free(); NULL: no memory. */
char *str_dup(struct chatd_str s);
/* A decimal number, digits only: 0, or -1 when it is none or does not fit. */
int str_u64(struct chatd_str s, uint64_t *ret);
/* The other way round; the text is in @p room. */
struct chatd_str str_decimal(uint64_t v, char room[21]);

/*
 * The one of @p names (NULL-terminated) that @p word was probably meant to be, NULL if
 * none is near.  A transposition, a missing, a foreign or a wrong letter counts one.
 */
const char *str_near(const char *word, const char *const *names);
/* How many such slips lie between the two; more than @p max is answered as max + 1. */
size_t str_distance(const char *a, const char *b, size_t max);

#endif

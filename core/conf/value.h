/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How numbers, sizes and times are written.  Pure functions, any thread.
 *
 * The parsers answer NULL and set *ret, or they answer the second half of a complaint:
 * "is not a duration; write for example ...".
 */
#ifndef CONF_VALUE_H
#define CONF_VALUE_H

#include <chatd/plugin.h>
#include <stddef.h>
#include <stdint.h>

const char *value_bool(struct chatd_str s, int32_t *ret);
const char *value_int(struct chatd_str s, int64_t *ret);
const char *value_size(struct chatd_str s, int64_t *ret);     /* bytes */
const char *value_duration(struct chatd_str s, int64_t *ret); /* milliseconds */
/* Of a URL that chatd.fetch/1 would ask; it has nothing to set. */
const char *value_url(struct chatd_str s);

enum { VALUE_TEXT_MAX = 32 };
/* The shortest exact way to write a number of an option of this type. */
void value_print(char ret[VALUE_TEXT_MAX], int32_t type, int64_t v);

/* The bounds of an option, the convention "both 0" resolved. */
struct value_range {
	int64_t min, max; /* max INT64_MAX: none */
};
struct value_range value_range_of(const struct chatd_opt *o);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/value.h"

#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>

struct unit {
	const char *name;
	int64_t factor;
};

/* Largest first, for value_print(). */
static const struct unit sizes[] = {
	{ "GiB", (int64_t)1 << 30 },
	{ "MiB", (int64_t)1 << 20 },
	{ "KiB", (int64_t)1 << 10 },
	{ "B", 1 },
	{ NULL, 0 },
};
static const struct unit times[] = {
	{ "d", 86400000 },
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
	{ NULL, 0 },
};

static const char too_large[] = "is too large a number";

const char *value_bool(struct chatd_str s, int32_t *ret)
{
	if (str_caseeq(s, str_of("true")))
		*ret = 1;
	else if (str_caseeq(s, str_of("false")))
		*ret = 0;
	else
		return "is neither true nor false; write one of the two";
	return NULL;
}

/* Digits at the start of @p s, which moves behind them.  -1: none; -2: too many. */
static int number(struct chatd_str *s, int64_t *ret)
{
	size_t i = 0;
	int64_t v = 0;
	for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s->p[i] - '0', &v))
			return -2;
	if (!i)
		return -1;
	s->p += i;
	s->n -= i;
	*ret = v;
	return 0;
}

static int minus(struct chatd_str *s)
{
	if (!s->n || s->p[0] != '-')
		return 0;
	s->p++;
	s->n--;
	return 1;
}

const char *value_int(struct chatd_str s, int64_t *ret)
{
	int64_t v = 0;
	int negative = minus(&s), rc = number(&s, &v);
	if (rc == -2)
		return too_large;
	if (rc || s.n)
		return "is not a whole number";
	*ret = negative ? -v : v;
	return NULL;
}

/* A number and its unit, with or without a blank between them. */
static int measured(struct chatd_str s, const struct unit *units, int64_t *ret)
{
	int64_t v = 0;
	int negative = minus(&s), rc = number(&s, &v);
	if (rc)
		return rc;
	if (negative)
		v = -v;
	if (s.n && s.p[0] == ' ') {
		s.p++;
		s.n--;
	}
	if (!s.n) {
		*ret = v;
		return 1;
	}
	for (; units->name; units++) {
		if (!str_is(s, units->name))
			continue;
		if (__builtin_mul_overflow(v, units->factor, &v))
			return -2;
		*ret = v;
		return 0;
	}
	return -1;
}

const char *value_size(struct chatd_str s, int64_t *ret)
{
	int rc = measured(s, sizes, ret);
	if (rc == -2)
		return too_large;
	return rc < 0 ? "is not a size; write for example \"512\" (bytes), \"64 KiB\" or \"1 MiB\""
				  : NULL;
}

const char *value_duration(struct chatd_str s, int64_t *ret)
{
	int64_t v = 0;
	int rc = measured(s, times, &v);
	if (rc == -2)
		return too_large;
	if (rc < 0)
		return "is not a duration; write for example \"250ms\", \"30s\", \"5m\" or \"1h\"";
	/* Seconds or milliseconds?  People guess differently, so it is not guessed here. */
	if (rc > 0 && v != 0)
		return "has no unit; write for example \"250ms\", \"30s\", \"5m\" or \"1h\"";
	*ret = v;
	return NULL;
}

void value_print(char ret[VALUE_TEXT_MAX], int32_t type, int64_t v)
{
	const struct unit *u = type == CHATD_T_SIZE ? sizes : type == CHATD_T_DURATION ? times : NULL;
	if (!u || v == 0) {
		snprintf(ret, VALUE_TEXT_MAX, "%" PRId64, v);
		return;
	}
	while (v % u->factor)
		u++;
	if (type == CHATD_T_SIZE && u->factor == 1)
		snprintf(ret, VALUE_TEXT_MAX, "%" PRId64, v);
	else
		snprintf(ret, VALUE_TEXT_MAX, "%" PRId64 "%s%s", v / u->factor,
				type == CHATD_T_SIZE ? " " : "", u->name);
}

struct value_range value_range_of(const struct chatd_opt *o)
{
	struct value_range r = { o->min, o->max };
	if (o->max < o->min || (o->min == 0 && o->max == 0))
		r.max = INT64_MAX;
	return r;
}

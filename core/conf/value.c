/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/value.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

#define URL_HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
enum { URL_MAX = 2048, URL_HOST = 255, URL_ADDRESS = 46 };

static int is_address6(struct chatd_str s)
{
	char text[URL_ADDRESS];
	struct in6_addr a;
	if (s.n >= sizeof(text))
		return 0;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(AF_INET6, text, &a) == 1;
}

/* HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT */
static const char *url_authority(struct chatd_str s)
{
	size_t host = 0;
	uint64_t port = 0;
	if (memchr(s.p, '@', s.n))
		return "has a user name or a password, which have no place in a URL here";
	if (s.n && s.p[0] == '[') {
		const char *end = memchr(s.p, ']', s.n);
		if (!end || !is_address6(chatd_str_of(s.p + 1, (size_t)(end - s.p) - 1)))
			return "has no IPv6 address between its brackets";
		host = (size_t)(end - s.p) + 1;
	} else {
		while (host < s.n && strchr(URL_HOST_CHARS, s.p[host]))
			host++;
	}
	if (host == 0 || host > URL_HOST || (host < s.n && s.p[host] != ':'))
		return "has no host that could be asked; write for example \"https://example.org/path\"";
	struct chatd_str rest = chatd_str_of(s.p + host + 1, host < s.n ? s.n - host - 1 : 0);
	if (host < s.n && (str_u64(rest, &port) < 0 || port < 1 || port > 65535))
		return "has a port that is none: 1 to 65535 are";
	return NULL;
}

const char *value_url(struct chatd_str s)
{
	struct chatd_str at = s;
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= ' ' || c >= 0x7f || strchr("\\\"<>", c))
			return "is no URL: escape what is not plain ASCII, blanks and quotes";
	}
	if (s.n > URL_MAX)
		return "is too long for a URL: at most 2048 bytes";
	if (str_starts(s, CHATD_LIT("https://")))
		at = chatd_str_of(s.p + 8, s.n - 8);
	else if (str_starts(s, CHATD_LIT("http://")))
		at = chatd_str_of(s.p + 7, s.n - 7);
	else
		return "is no absolute URL; write for example \"https://example.org/path\"";
	while (n < at.n && !strchr("/?#", at.p[n]))
		n++;
	return url_authority(chatd_str_of(at.p, n));
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

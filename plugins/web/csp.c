/* SPDX-License-Identifier: Apache-2.0 */
#include "csp.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool csp_origin(struct chatd_str origin)
{
	size_t scheme = 0;
	if (origin.n > 8 && memcmp(origin.p, "https://", 8) == 0)
		scheme = 8;
	else if (origin.n > 7 && memcmp(origin.p, "http://", 7) == 0)
		scheme = 7;
	if (!scheme || origin.n > CSP_ORIGIN_MAX)
		return false;
	for (size_t i = scheme; i < origin.n; i++)
		if (!origin.p[i] || (!isalnum((unsigned char)origin.p[i]) && !strchr(".-:[]", origin.p[i])))
			return false;
	return true;
}

/* The first word of @p *rest, which is behind it then; .n 0: there is none. */
static struct chatd_str word(struct chatd_str *rest)
{
	size_t from = 0, n = 0;
	while (from < rest->n && rest->p[from] == ' ')
		from++;
	while (from + n < rest->n && rest->p[from + n] != ' ')
		n++;
	const char *p = rest->p + from;
	*rest = chatd_str_of(p + n, rest->n - from - n);
	return chatd_str_of(p, n);
}

static bool is(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

/* What stands behind @p name; .p NULL: it is not there.  The first one counts, as in browsers. */
static struct chatd_str sources(const char *policy, const char *name)
{
	for (const char *p = policy; *p;) {
		size_t n = strcspn(p, ";");
		struct chatd_str rest = chatd_str_of(p, n);
		if (is(word(&rest), name))
			return rest;
		p += n + (p[n] == ';');
	}
	return chatd_str_of(NULL, 0);
}

static bool has(struct chatd_str list, struct chatd_str source)
{
	for (struct chatd_str w = word(&list); w.n; w = word(&list))
		if (w.n == source.n && memcmp(w.p, source.p, w.n) == 0)
			return true;
	return false;
}

/* 'none' stands alone, or means nothing. */
static struct chatd_str without_none(struct chatd_str list)
{
	struct chatd_str rest = list;
	return is(word(&rest), "'none'") ? rest : list;
}

char *csp_with(const char *policy, const char *directive, struct chatd_str origin)
{
	struct chatd_str list = sources(policy, directive);
	struct chatd_str otherwise = sources(policy, "default-src");
	if (!list.p ? !otherwise.p : has(list, origin))
		return strdup(policy);
	size_t room = 2 * strlen(policy) + strlen(directive) + origin.n + 8;
	char *ret = malloc(room);
	if (!ret)
		return NULL;
	if (list.p) {
		struct chatd_str kept = without_none(list);
		snprintf(ret, room, "%.*s%.*s %.*s%s", (int)(list.p - policy), policy, (int)kept.n, kept.p,
				(int)origin.n, origin.p, list.p + list.n);
	} else {
		struct chatd_str kept = without_none(otherwise);
		snprintf(ret, room, "%s; %s%.*s %.*s", policy, directive, (int)kept.n, kept.p,
				(int)origin.n, origin.p);
	}
	return ret;
}

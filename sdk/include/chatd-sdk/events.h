/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/events.h
 * @brief Headers of events between nodes: written, and read as what they are, the input of others.
 */
#ifndef CHATD_SDK_EVENTS_H
#define CHATD_SDK_EVENTS_H

#include <chatd/cluster.h>

#include <stdio.h>
#include <string.h>

enum { CHATD_SHEET_MAX = 16, CHATD_SHEET_DIGITS = 24 };

/** Headers being written; texts are borrowed, numbers are in here. */
struct chatd_sheet {
	struct chatd_cluster_header all[CHATD_SHEET_MAX];
	char digits[CHATD_SHEET_MAX][CHATD_SHEET_DIGITS];
	size_t n;
};

/** @p value with .p NULL: no header.  @p name is a literal. */
static inline void chatd_sheet_put(struct chatd_sheet *s, const char *name, struct chatd_str value)
{
	if (value.p && s->n < CHATD_SHEET_MAX) {
		s->all[s->n].name = chatd_str_of(name, strlen(name));
		s->all[s->n++].value = value;
	}
}

static inline void chatd_sheet_int(struct chatd_sheet *s, const char *name, int64_t value)
{
	if (s->n < CHATD_SHEET_MAX) {
		int n = snprintf(s->digits[s->n], CHATD_SHEET_DIGITS, "%lld", (long long)value);
		chatd_sheet_put(s, name, chatd_str_of(s->digits[s->n], (size_t)n));
	}
}

/** An event of @p kind for every node, about @p key, with these headers. */
static inline struct chatd_cluster_event chatd_sheet_event(
		const struct chatd_sheet *s, const char *kind, struct chatd_str key)
{
	struct chatd_cluster_event e;
	memset(&e, 0, sizeof(e));
	e.struct_size = sizeof(e);
	e.to = CHATD_CLUSTER_ALL;
	e.kind = chatd_str_of(kind, strlen(kind));
	e.key = key;
	e.headers = s->all;
	e.n_headers = s->n;
	return e;
}

/** .p NULL: there is none. */
static inline struct chatd_str chatd_event_get(
		const struct chatd_cluster_event *e, const char *name)
{
	return chatd_cluster_get(e, chatd_str_of(name, strlen(name)));
}

/** Without NUL, and at most @p most bytes (none at all is fine): else 0. */
static inline int chatd_event_text(
		const struct chatd_cluster_event *e, const char *name, size_t most, struct chatd_str *ret)
{
	*ret = chatd_event_get(e, name);
	return ret->n <= most && (!ret->n || !memchr(ret->p, '\0', ret->n));
}

/** Digits, perhaps with a minus; 0: it is no such number. */
static inline int chatd_event_int(
		const struct chatd_cluster_event *e, const char *name, int64_t *ret)
{
	struct chatd_str s = chatd_event_get(e, name);
	size_t i = s.n > 1 && s.p[0] == '-';
	int64_t v = 0, sign = i ? -1 : 1;
	for (; i < s.n; i++) {
		int64_t digit = s.p[i] - '0';
		if (digit < 0 || digit > 9 || v > (INT64_MAX - digit) / 10) {
			return 0;
		}
		v = v * 10 + digit;
	}
	*ret = v * sign;
	return s.n > 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const table_verbs[] = { "none", "send", "subscribe", "call", "all", NULL };

enum { SENDS = 1 << VERB_SEND, SUBSCRIBES = 1 << VERB_SUBSCRIBE, CALLS = 1 << VERB_CALL };

static const uint32_t verb_bits[] = { 0, SENDS, SUBSCRIBES, CALLS, SENDS | SUBSCRIBES | CALLS };

static const struct {
	const char *name;
	uint32_t bit;
} methods[] = {
	{ "GET", METHOD_GET },
	{ "HEAD", METHOD_GET },
	{ "POST", METHOD_POST },
	{ "PUT", METHOD_PUT },
	{ "PATCH", METHOD_PATCH },
	{ "DELETE", METHOD_DELETE },
};

uint32_t table_method(struct chatd_str name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strlen(methods[i].name) == name.n && memcmp(methods[i].name, name.p, name.n) == 0) {
			return methods[i].bit;
		}
	}
	return 0;
}

static uint32_t verbs_of(const struct rule_conf *r)
{
	return verb_bits[r->allow] | verb_bits[r->deny];
}

/* ---- mistakes ------------------------------------------------------------------------- */

static const char *fault(char room[256], const char *fmt, ...) CHATD_PRINTF(2, 3);
static const char *fault(char room[256], const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(room, 256, fmt, ap);
	va_end(ap);
	return room;
}

/* A literal that stands in a path just so, whoever escapes it: then nothing about it can be
 * spelt in two ways. */
static int is_literal(const char *p, size_t n)
{
	static const char plain[] =
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";
	for (size_t i = 0; i < n; i++) {
		if (!strchr(plain, p[i])) {
			return 0;
		}
	}
	return n > 0 && !(n == 1 && p[0] == '.') && !(n == 2 && p[0] == '.' && p[1] == '.');
}

static int is_parameter(const char *p, size_t n)
{
	return n > 2 && p[0] == '{' && p[n - 1] == '}' && !memchr(p + 1, '{', n - 1) &&
			!memchr(p, '}', n - 1);
}

static int is_path(const char *p)
{
	while (*p == '/') {
		size_t n = strcspn(p + 1, "/");
		if (n == 0) {
			return p[1] == '\0'; /* only at the end */
		}
		if (!is_literal(p + 1, n) && !is_parameter(p + 1, n)) {
			return 0;
		}
		p += n + 1;
	}
	return 1;
}

static const char *prefix_fault(const struct rule_conf *r, char room[256])
{
	uint32_t verbs = verbs_of(r);
	if (r->prefix[0] != '/') {
		return fault(
				room, "prefix \"%.64s\" must begin with a slash, for example /topic/", r->prefix);
	}
	if ((verbs & CALLS) && !is_path(r->prefix)) {
		return fault(room,
				"prefix \"%.64s\" of a call must consist of plain words and of {parameters}, for "
				"example /api/chat/rooms/{id}/join",
				r->prefix);
	}
	if ((verbs & ~(uint32_t)CALLS) && strpbrk(r->prefix, "{}*")) {
		return fault(room,
				"prefix \"%.64s\": destinations have no patterns; write what they begin with, for "
				"example /topic/room/",
				r->prefix);
	}
	return NULL;
}

static const char *who_fault(const struct rule_conf *r, char room[256])
{
	for (const char *const *w = r->who; *w; w++) {
		if (strcmp(*w, "user") == 0) {
			return fault(room, "who: %s: every account is a user; write authenticated", *w);
		}
		if (!chatd_role_ok(*w)) {
			return fault(room,
					"who: \"%.64s\" is no role; it is anyone, anonymous, authenticated, moderator, admin "
					"or a role word of accounts, of letters, digits, _ and -",
					*w);
		}
	}
	return r->who[0] ? NULL : fault(room, "who: [] is about nobody; leave it out for anyone");
}

const char *table_fault(const struct rule_conf *r, char room[256])
{
	if ((r->allow != 0) == (r->deny != 0)) {
		return fault(room, "must have one of allow and deny: send, subscribe, call or all");
	}
	if (r->methods[0] && verbs_of(r) != CALLS) {
		return fault(room, "methods belong to call alone");
	}
	for (const char *const *m = r->methods; *m; m++) {
		if (!table_method(chatd_str_of(*m, strlen(*m)))) {
			return fault(room, "method \"%.64s\" must be one of GET, POST, PUT, PATCH, DELETE", *m);
		}
	}
	const char *why = prefix_fault(r, room);
	return why ? why : who_fault(r, room);
}

/* ---- compiling ------------------------------------------------------------------------- */

static uint32_t methods_of(const struct rule_conf *r)
{
	uint32_t bits = 0;
	for (const char *const *m = r->methods; *m; m++) {
		bits |= table_method(chatd_str_of(*m, strlen(*m)));
	}
	return bits ? bits : METHOD_ALL;
}

static chatd_status compile(struct table *t, const struct rule_conf *from, struct rule *ret)
{
	*ret = (struct rule){ .prefix = from->prefix,
		.n = strlen(from->prefix),
		.methods = methods_of(from),
		.allow = from->allow != 0 };
	for (const char *const *w = from->who; *w; w++) {
		uint64_t bit = chatd_role_bit(&t->roles, *w);
		if (!bit) {
			return -E2BIG;
		}
		ret->who |= bit;
	}
	return 0;
}

chatd_status table_compile(
		struct table *t, const struct chatd_host *h, const struct rule_conf *from, size_t n)
{
	for (int v = 0; v < VERBS && n; v++) {
		t->rule[v] = h->mem_alloc(n * sizeof(struct rule));
		if (!t->rule[v]) {
			return -ENOMEM;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct rule r;
		chatd_status rc = compile(t, &from[i], &r);
		if (rc < 0) {
			return rc;
		}
		for (int v = 0; v < VERBS; v++) {
			if (verbs_of(&from[i]) >> v & 1) {
				t->rule[v][t->n[v]++] = r;
			}
		}
	}
	return 0;
}

void table_finish(struct table *t, const struct chatd_host *h)
{
	for (int v = 0; v < VERBS; v++) {
		h->mem_free(t->rule[v]);
		t->rule[v] = NULL;
	}
}

/* ---- deciding --------------------------------------------------------------------------- */

/* In doubt, refuse: a denial covers whatever begins so (chat.send and its other name
 * chat.sendMessage), while what is allowed is the thing itself and what is below it
 * (/topic/public and not /topic/publicity). */
static int dest_fits(const struct rule *r, struct chatd_str dest)
{
	if (dest.n < r->n || memcmp(dest.p, r->prefix, r->n) != 0) {
		return 0;
	}
	char last = r->prefix[r->n - 1];
	return !r->allow || last == '/' || last == '.' || dest.n == r->n || dest.p[r->n] == '/';
}

int32_t table_dest(const struct table *t, enum verb verb, uint64_t who, struct chatd_str dest)
{
	for (size_t i = 0; i < t->n[verb]; i++) {
		const struct rule *r = &t->rule[verb][i];
		if ((r->who & who) && dest_fits(r, dest)) {
			return r->allow;
		}
	}
	return RULE_NONE;
}

/* Segment by segment, as the HTTP engine finds routes; it has decoded each of them and
 * escaped it again in one way, so what differs here is another path there. */
static int path_fits(const char *pattern, struct chatd_str path)
{
	size_t at = 0;
	while (pattern[0] == '/' && pattern[1] != '\0') {
		size_t want = strcspn(pattern + 1, "/");
		if (at >= path.n || path.p[at] != '/') {
			return 0;
		}
		const char *has = path.p + at + 1;
		const char *slash = memchr(has, '/', path.n - at - 1);
		size_t n = slash ? (size_t)(slash - has) : path.n - at - 1;
		int fits = pattern[1] == '{' ? n > 0 : n == want && memcmp(has, pattern + 1, n) == 0;
		if (!fits) {
			return 0;
		}
		pattern += want + 1;
		at += n + 1;
	}
	return at == path.n || path.p[at] == '/';
}

int32_t table_call(const struct table *t, uint64_t who, uint32_t method, struct chatd_str path)
{
	for (size_t i = 0; i < t->n[VERB_CALL]; i++) {
		const struct rule *r = &t->rule[VERB_CALL][i];
		if (!(r->methods & method) || !path_fits(r->prefix, path)) {
			continue;
		}
		if (!who) {
			return r->who & CHATD_ROLE_ANYONE ? r->allow : RULE_NONE;
		}
		if (r->who & who) {
			return r->allow;
		}
	}
	return RULE_NONE;
}

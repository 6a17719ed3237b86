/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const table_verbs[] = { "none", "send", "subscribe", "call", "all", NULL };

enum { SENDS = 1 << VERB_SEND, SUBSCRIBES = 1 << VERB_SUBSCRIBE, CALLS = 1 << VERB_CALL };

static const uint32_t verb_bits[] = { 0, SENDS, SUBSCRIBES, CALLS, SENDS | SUBSCRIBES | CALLS };

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

static const char *prefix_fault(const struct rule_conf *r, char room[256])
{
	uint32_t verbs = verbs_of(r);
	if (r->prefix[0] != '/') {
		return fault(
				room, "prefix \"%.64s\" must begin with a slash, for example /topic/", r->prefix);
	}
	if ((verbs & CALLS) && !chatd_path_ok(r->prefix)) {
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
	const char *bad;
	if (!chatd_call_methods(r->methods, &bad)) {
		return fault(room, "method \"%.64s\" must be one of GET, POST, PUT, PATCH, DELETE", bad);
	}
	const char *why = prefix_fault(r, room);
	return why ? why : who_fault(r, room);
}

/* ---- compiling ------------------------------------------------------------------------- */

static chatd_status compile(struct table *t, const struct rule_conf *from, struct rule *ret)
{
	const char *bad;
	*ret = (struct rule){ .prefix = from->prefix,
		.n = strlen(from->prefix),
		.methods = chatd_call_methods(from->methods, &bad),
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

int32_t table_call(const struct table *t, uint64_t who, uint32_t method, struct chatd_str path)
{
	for (size_t i = 0; i < t->n[VERB_CALL]; i++) {
		const struct rule *r = &t->rule[VERB_CALL][i];
		if (!(r->methods & method) || !chatd_path_fits(r->prefix, path)) {
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

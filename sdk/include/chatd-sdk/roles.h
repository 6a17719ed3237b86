/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/roles.h
 * @brief Who someone is, as bits: for plugins whose options name roles.
 *
 * Header only.  While options are compiled each word gets a bit; at a client's first message
 * the bits of its identity are put together once, and from then on "is it about this one?"
 * is one AND.  The words of the configuration are borrowed.
 */
#ifndef CHATD_SDK_ROLES_H
#define CHATD_SDK_ROLES_H

#include <chatd/plugin.h>

#include <string.h>

enum {
	CHATD_ROLE_ANYONE = 1 << 0,
	CHATD_ROLE_ANONYMOUS = 1 << 1,
	CHATD_ROLE_AUTHENTICATED = 1 << 2,
	CHATD_ROLE_MODERATOR = 1 << 3, /**< administrators too */
	CHATD_ROLE_ADMIN = 1 << 4,
	CHATD_ROLES_BUILT_IN = 5, /**< bits from here on are words of accounts */
	CHATD_ROLES_MAX = 64 - CHATD_ROLES_BUILT_IN,
};

struct chatd_roles {
	const char *word[CHATD_ROLES_MAX];
	uint32_t n;
};

/** 1: a word that an account's roles can hold: [A-Za-z0-9_-]{1,64}. */
static inline int chatd_role_ok(const char *word)
{
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
	return n > 0 && n <= 64 && word[n] == '\0';
}

/** The bit of a word, which is noted if it is new.  0: there are too many. */
static inline uint64_t chatd_role_bit(struct chatd_roles *r, const char *word)
{
	static const char *const built_in[CHATD_ROLES_BUILT_IN] = { "anyone", "anonymous",
		"authenticated", "moderator", "admin" };
	for (uint32_t i = 0; i < CHATD_ROLES_BUILT_IN; i++) {
		if (strcmp(built_in[i], word) == 0) {
			return (uint64_t)1 << i;
		}
	}
	for (uint32_t i = 0; i < r->n; i++) {
		if (strcmp(r->word[i], word) == 0) {
			return (uint64_t)1 << (CHATD_ROLES_BUILT_IN + i);
		}
	}
	if (r->n == CHATD_ROLES_MAX) {
		return 0;
	}
	r->word[r->n] = word;
	return (uint64_t)1 << (CHATD_ROLES_BUILT_IN + r->n++);
}

static inline uint64_t chatd_role_flags(uint32_t flags)
{
	uint64_t bits = CHATD_ROLE_ANYONE;
	bits |= flags & CHATD_ID_ANONYMOUS ? CHATD_ROLE_ANONYMOUS : CHATD_ROLE_AUTHENTICATED;
	if (flags & (CHATD_ID_MODERATOR | CHATD_ID_ADMIN)) {
		bits |= CHATD_ROLE_MODERATOR;
	}
	return flags & CHATD_ID_ADMIN ? bits | CHATD_ROLE_ADMIN : bits;
}

/** All bits of someone with these flags and roles ("one two").  Words that no option names
 *  have none. */
static inline uint64_t chatd_role_mask(
		const struct chatd_roles *r, uint32_t flags, struct chatd_str roles)
{
	uint64_t bits = chatd_role_flags(flags);
	for (size_t i = 0; r->n && i < roles.n;) {
		const char *space = (const char *)memchr(roles.p + i, ' ', roles.n - i);
		size_t n = space ? (size_t)(space - roles.p) - i : roles.n - i;
		for (uint32_t k = 0; k < r->n; k++) {
			if (strlen(r->word[k]) == n && memcmp(r->word[k], roles.p + i, n) == 0) {
				bits |= (uint64_t)1 << (CHATD_ROLES_BUILT_IN + k);
			}
		}
		i += n + 1;
	}
	return bits;
}

#endif

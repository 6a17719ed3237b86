/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/paths.h
 * @brief Which calls of the API an option is about: methods as bits, and what their paths
 *        begin with.
 *
 * Header only.  Paths are compared segment by segment with what the hooks request and
 * request_as are given: there the HTTP engine has decoded each segment and escaped it again
 * in one way, so what differs here is another path there.
 */
#ifndef CHATD_SDK_PATHS_H
#define CHATD_SDK_PATHS_H

#include <chatd/plugin.h>

#include <string.h>

/** HEAD is a GET whose body nobody reads. */
enum {
	CHATD_CALL_GET = 1 << 0,
	CHATD_CALL_POST = 1 << 1,
	CHATD_CALL_PUT = 1 << 2,
	CHATD_CALL_PATCH = 1 << 3,
	CHATD_CALL_DELETE = 1 << 4,
	CHATD_CALL_OTHER = 1 << 5, /**< no option can name it */
	CHATD_CALL_ALL = (1 << 6) - 1,
};

static inline uint32_t chatd_call_method(struct chatd_str name)
{
	static const struct {
		char name[8];
		uint32_t bit;
	} known[] = {
		{ "GET", CHATD_CALL_GET },
		{ "HEAD", CHATD_CALL_GET },
		{ "POST", CHATD_CALL_POST },
		{ "PUT", CHATD_CALL_PUT },
		{ "PATCH", CHATD_CALL_PATCH },
		{ "DELETE", CHATD_CALL_DELETE },
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i].name) == name.n && memcmp(known[i].name, name.p, name.n) == 0) {
			return known[i].bit;
		}
	}
	return CHATD_CALL_OTHER;
}

/** The bits of an option's list; none named: all.  0: *ret_bad is no method. */
static inline uint32_t chatd_call_methods(const char *const *list, const char **ret_bad)
{
	uint32_t bits = 0;
	for (; *list; list++) {
		uint32_t bit = chatd_call_method(chatd_str_of(*list, strlen(*list)));
		if (bit == CHATD_CALL_OTHER) {
			*ret_bad = *list;
			return 0;
		}
		bits |= bit;
	}
	return bits ? bits : (uint32_t)CHATD_CALL_ALL;
}

/* A literal that stands in a path just so, whoever escapes it: nothing about it can be spelt
 * in two ways. */
static inline int chatd_path_literal(const char *p, size_t n)
{
	size_t plain = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~");
	int dots = (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
	return n > 0 && plain >= n && !dots;
}

static inline int chatd_path_parameter(const char *p, size_t n)
{
	return n > 2 && p[0] == '{' && p[n - 1] == '}' && !memchr(p + 1, '{', n - 1) &&
			!memchr(p, '}', n - 1);
}

/** Can an option say this: "/api/files", "/api/chat/rooms/{id}/join"? */
static inline int chatd_path_ok(const char *p)
{
	int begun = *p == '/';
	while (*p == '/') {
		size_t n = strcspn(p + 1, "/");
		if (n == 0) {
			return p[1] == '\0'; /* only at the end */
		}
		if (!chatd_path_literal(p + 1, n) && !chatd_path_parameter(p + 1, n)) {
			return 0;
		}
		p += n + 1;
	}
	return begun;
}

/** Is @p path what @p pattern says, or below it? */
static inline int chatd_path_fits(const char *pattern, struct chatd_str path)
{
	size_t at = 0;
	while (pattern[0] == '/' && pattern[1] != '\0') {
		size_t want = strcspn(pattern + 1, "/");
		if (at >= path.n || path.p[at] != '/') {
			return 0;
		}
		const char *has = path.p + at + 1;
		const char *slash = (const char *)memchr(has, '/', path.n - at - 1);
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

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file uri.h
 * @brief Request targets: their forms, path segments, queries and cookies.
 *
 * Pure.  Paths are never normalised: "." and ".." match nothing, "%2f" stays within
 * its segment, and what decodes to NUL or to no UTF-8 is marked as bad.
 */
#ifndef HTTP_URI_H
#define HTTP_URI_H

#include "parser.h"

#define URI_SEGMENTS 64 /**< a path with more matches nothing */

struct uri {
	struct chatd_str path;  /**< still encoded, begins with '/', or "*" */
	struct chatd_str query; /**< without '?'; .p NULL: none */
};

/** Takes a target apart.  @p host: the Host header's value.  @p connect: the method is
 *  CONNECT, whose target is an authority.  Returns HTTP_DONE, or HTTP_WRONG and *ret_err. */
enum http_parse uri_parse(struct chatd_str target, struct chatd_str host, bool connect,
		struct uri *ret, struct http_error *ret_err);

/** Decodes %XX (and '+' as a space if @p plus) into @p to, which has room for as many
 *  bytes as @p from.  Returns the length, or -1: malformed, NUL inside, not UTF-8. */
int64_t uri_decode(struct chatd_str from, bool plus, char *to);

struct uri_path {
	struct chatd_str segment[URI_SEGMENTS]; /**< decoded, in .text; encoded if .bad */
	size_t n;
	bool bad;     /**< some segment cannot be decoded */
	bool nowhere; /**< "." or "..", or too many segments: matches no route */
};

/** Writes the segments with one spelling each: [A-Za-z0-9._~-] as they are, the rest as %XX.
 *  @p to has room for three times the bytes that were split.  Returns the length. */
size_t uri_join(const struct uri_path *path, char *to);

/** Splits and decodes @p path; @p text has room for path.n bytes and must outlive *ret. */
void uri_split(struct chatd_str path, char *text, struct uri_path *ret);

/** Can every part of the query be decoded? */
bool uri_query_ok(struct chatd_str query);
/** The encoded value of the first @p name in a query; .p NULL: none. */
struct chatd_str uri_query_get(struct chatd_str query, const char *name);
/** The value of cookie @p name in one Cookie header; .p NULL: none. */
struct chatd_str uri_cookie_get(struct chatd_str cookies, const char *name);

bool uri_is_utf8(const char *p, size_t n);

#endif

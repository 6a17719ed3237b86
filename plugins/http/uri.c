/* SPDX-License-Identifier: Apache-2.0 */
#include "uri.h"

#include <string.h>
#include <strings.h>

static enum http_parse refuse(struct http_error *ret, const char *code, const char *why)
{
	ret->status = 400;
	ret->code = code;
	ret->why = why;
	return HTTP_WRONG;
}

static enum http_parse mismatch(struct http_error *ret)
{
	return refuse(
			ret, "HOST_MISMATCH", "The request target names another host than the Host header.");
}

/* "http://host/path": the authority must be the Host header's. */
static enum http_parse parse_absolute(
		struct chatd_str target, struct chatd_str host, struct uri *ret, struct http_error *ret_err)
{
	size_t scheme = strncasecmp(target.p, "https", 5) == 0 ? 8 : 7;
	struct chatd_str rest = chatd_str_of(target.p + scheme, target.n - scheme);
	struct chatd_str authority = rest;
	for (authority.n = 0; authority.n < rest.n; authority.n++)
		if (rest.p[authority.n] == '/' || rest.p[authority.n] == '?')
			break;
	if (!http_is_authority(authority))
		return refuse(ret_err, "HOST_INVALID", "The request target has no proper host.");
	if (host.p && (host.n != authority.n || strncasecmp(host.p, authority.p, host.n) != 0))
		return mismatch(ret_err);
	ret->path = chatd_str_of(rest.p + authority.n, rest.n - authority.n);
	return HTTP_DONE;
}

static bool is_absolute(struct chatd_str s)
{
	return (s.n > 7 && strncasecmp(s.p, "http://", 7) == 0) ||
			(s.n > 8 && strncasecmp(s.p, "https://", 8) == 0);
}

enum http_parse uri_parse(struct chatd_str target, struct chatd_str host, bool connect,
		struct uri *ret, struct http_error *ret_err)
{
	memset(ret, 0, sizeof(*ret));
	if (connect || (target.n == 1 && target.p[0] == '*')) {
		ret->path = target;
		return HTTP_DONE;
	}
	if (memchr(target.p, '#', target.n))
		return refuse(ret_err, "BAD_REQUEST", "The request target has a fragment.");
	ret->path = target;
	if (is_absolute(target)) {
		if (parse_absolute(target, host, ret, ret_err) == HTTP_WRONG)
			return HTTP_WRONG;
	} else if (target.p[0] != '/') {
		return mismatch(ret_err);
	} else if (target.n > 2 && target.p[1] == '/' && target.p[2] != '/' &&
			memchr(target.p + 2, '/', target.n - 2)) {
		/* "//host/path" is a reference to another host, whoever reads it as a link. */
		return mismatch(ret_err);
	}
	const char *mark = ret->path.n ? memchr(ret->path.p, '?', ret->path.n) : NULL;
	if (mark) {
		size_t n = (size_t)(mark - ret->path.p);
		ret->query = chatd_str_of(mark + 1, ret->path.n - n - 1);
		ret->path.n = n;
	}
	if (ret->path.n == 0)
		ret->path = CHATD_LIT("/");
	return HTTP_DONE;
}

bool uri_is_utf8(const char *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		unsigned char a = (unsigned char)p[i];
		size_t more = a < 0x80 ? 0 : a < 0xe0 ? 1 : a < 0xf0 ? 2 : 3;
		if ((a >= 0x80 && a < 0xc2) || a > 0xf4 || more > n - i - 1)
			return false;
		for (size_t k = 1; k <= more; k++)
			if (((unsigned char)p[i + k] & 0xc0) != 0x80)
				return false;
		unsigned char b = more ? (unsigned char)p[i + 1] : 0;
		if ((a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f) || (a == 0xf0 && b < 0x90) ||
				(a == 0xf4 && b > 0x8f))
			return false;
		i += more + 1;
	}
	return true;
}

static int hex_digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

int64_t uri_decode(struct chatd_str from, bool plus, char *to)
{
	size_t n = 0;
	for (size_t i = 0; i < from.n; i++) {
		char ch = from.p[i];
		if (ch == '%') {
			int high = i + 2 < from.n ? hex_digit(from.p[i + 1]) : -1;
			int low = i + 2 < from.n ? hex_digit(from.p[i + 2]) : -1;
			if (high < 0 || low < 0 || (high | low) == 0)
				return -1;
			ch = (char)(high << 4 | low);
			i += 2;
		} else if (ch == '+' && plus) {
			ch = ' ';
		}
		to[n++] = ch;
	}
	return uri_is_utf8(to, n) ? (int64_t)n : -1;
}

static bool is_dots(struct chatd_str s)
{
	return (s.n == 1 && s.p[0] == '.') || (s.n == 2 && s.p[0] == '.' && s.p[1] == '.');
}

void uri_split(struct chatd_str path, char *text, struct uri_path *ret)
{
	ret->n = 0;
	ret->bad = false;
	ret->nowhere = path.n == 0 || path.p[0] != '/';
	for (size_t i = 1; i <= path.n && !ret->nowhere;) {
		const char *slash = i < path.n ? memchr(path.p + i, '/', path.n - i) : NULL;
		size_t end = slash ? (size_t)(slash - path.p) : path.n;
		struct chatd_str raw = chatd_str_of(path.p + i, end - i);
		int64_t n = uri_decode(raw, false, text);
		struct chatd_str segment = n < 0 ? raw : chatd_str_of(text, (size_t)n);
		ret->bad = ret->bad || n < 0;
		if (ret->n == URI_SEGMENTS || is_dots(segment)) {
			ret->nowhere = true;
			break;
		}
		ret->segment[ret->n++] = segment;
		text += n < 0 ? 0 : n;
		i = end + 1;
	}
	/* A later segment may be the bad one, and 400 comes before 404. */
	if (ret->nowhere && memchr(path.p, '%', path.n))
		ret->bad = ret->bad || !uri_query_ok(path);
}

static bool is_unreserved(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
			ch == '-' || ch == '.' || ch == '_' || ch == '~';
}

size_t uri_join(const struct uri_path *path, char *to)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;
	for (size_t i = 0; i < path->n; i++) {
		to[n++] = '/';
		for (size_t k = 0; k < path->segment[i].n; k++) {
			char ch = path->segment[i].p[k];
			if (is_unreserved(ch)) {
				to[n++] = ch;
				continue;
			}
			to[n++] = '%';
			to[n++] = hex[(unsigned char)ch >> 4];
			to[n++] = hex[(unsigned char)ch & 15];
		}
	}
	return n;
}

bool uri_query_ok(struct chatd_str query)
{
	char piece[512];
	/* Decoding in pieces that never cut an escape or, after it, a character. */
	size_t have = 0;
	for (size_t i = 0; i < query.n; i++) {
		char ch = query.p[i];
		if (ch == '%') {
			int high = i + 2 < query.n ? hex_digit(query.p[i + 1]) : -1;
			int low = i + 2 < query.n ? hex_digit(query.p[i + 2]) : -1;
			if (high < 0 || low < 0 || (high | low) == 0)
				return false;
			ch = (char)(high << 4 | low);
			i += 2;
		}
		if (have >= sizeof(piece) - 8 && ((unsigned char)ch & 0xc0) != 0x80) {
			if (!uri_is_utf8(piece, have))
				return false;
			have = 0;
		}
		if (have == sizeof(piece))
			return false; /* eight continuation bytes in a row */
		piece[have++] = ch;
	}
	return uri_is_utf8(piece, have);
}

struct chatd_str uri_query_get(struct chatd_str query, const char *name)
{
	size_t want = strlen(name);
	for (size_t i = 0; query.p && i < query.n;) {
		const char *amp = memchr(query.p + i, '&', query.n - i);
		size_t end = amp ? (size_t)(amp - query.p) : query.n;
		struct chatd_str part = chatd_str_of(query.p + i, end - i);
		const char *equals = part.n ? memchr(part.p, '=', part.n) : NULL;
		size_t key = equals ? (size_t)(equals - part.p) : part.n;
		if (key == want && memcmp(part.p, name, want) == 0) {
			size_t skip = equals ? key + 1 : key;
			return chatd_str_of(part.p + skip, part.n - skip);
		}
		i = end + 1;
	}
	return chatd_str_of(NULL, 0);
}

struct chatd_str uri_cookie_get(struct chatd_str cookies, const char *name)
{
	size_t want = strlen(name);
	for (size_t i = 0; cookies.p && i < cookies.n;) {
		while (i < cookies.n && cookies.p[i] == ' ')
			i++;
		const char *semicolon = i < cookies.n ? memchr(cookies.p + i, ';', cookies.n - i) : NULL;
		size_t end = semicolon ? (size_t)(semicolon - cookies.p) : cookies.n;
		struct chatd_str part = chatd_str_of(cookies.p + i, end - i);
		if (part.n > want && part.p[want] == '=' && memcmp(part.p, name, want) == 0) {
			struct chatd_str value = chatd_str_of(part.p + want + 1, part.n - want - 1);
			while (value.n > 0 && value.p[value.n - 1] == ' ')
				value.n--;
			if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
				value = chatd_str_of(value.p + 1, value.n - 2);
			return value;
		}
		i = end + 1;
	}
	return chatd_str_of(NULL, 0);
}

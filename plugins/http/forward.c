/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <arpa/inet.h>
#include <string.h>

/** Hops beyond these are not looked at: nobody has as many proxies. */
#define HOPS_MAX 64

static struct chatd_str trim(struct chatd_str s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static struct chatd_str unquote(struct chatd_str s)
{
	s = trim(s);
	if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
		return chatd_str_of(s.p + 1, s.n - 2);
	return s;
}

static bool is_port(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	return n > 0 && n <= 5;
}

bool forward_address(struct chatd_str hop, char ret[46])
{
	static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	hop = unquote(hop);
	if (hop.n > 0 && hop.p[0] == '[') {
		const char *end = memchr(hop.p, ']', hop.n);
		size_t n = end ? (size_t)(end - hop.p) : 0;
		if (n == 0 ||
				(n + 1 < hop.n && (hop.p[n + 1] != ':' || !is_port(hop.p + n + 2, hop.n - n - 2))))
			return false;
		hop = chatd_str_of(hop.p + 1, n - 1);
	} else {
		const char *colon = hop.n ? memchr(hop.p, ':', hop.n) : NULL;
		size_t n = colon ? (size_t)(colon - hop.p) : hop.n;
		if (colon && !memchr(colon + 1, ':', hop.n - n - 1)) {
			if (!is_port(colon + 1, hop.n - n - 1))
				return false;
			hop.n = n;
		}
	}
	if (hop.n == 0 || hop.n >= sizeof(text))
		return false;
	memcpy(text, hop.p, hop.n);
	text[hop.n] = '\0';
	if (strlen(text) != hop.n)
		return false;
	if (inet_pton(AF_INET, text, bytes) == 1)
		return inet_ntop(AF_INET, bytes, ret, 46) != NULL;
	if (inet_pton(AF_INET6, text, bytes) != 1)
		return false;
	if (memcmp(bytes, mapped, sizeof(mapped)) == 0)
		return inet_ntop(AF_INET, bytes + 12, ret, 46) != NULL;
	return inet_ntop(AF_INET6, bytes, ret, 46) != NULL;
}

/* The parameter @p key of one element of Forwarded: for=1.2.3.4;proto=https */
static struct chatd_str parameter(struct chatd_str element, const char *key)
{
	for (size_t i = 0; i < element.n;) {
		const char *semicolon = memchr(element.p + i, ';', element.n - i);
		size_t end = semicolon ? (size_t)(semicolon - element.p) : element.n;
		struct chatd_str pair = trim(chatd_str_of(element.p + i, end - i));
		const char *equals = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
		if (equals) {
			size_t n = (size_t)(equals - pair.p);
			if (http_same(chatd_str_of(pair.p, n), key))
				return unquote(chatd_str_of(equals + 1, pair.n - n - 1));
		}
		i = end + 1;
	}
	return chatd_str_of(NULL, 0);
}

/* Takes the last element off a list; false: there are no more. */
static bool last_of(struct chatd_str *list, struct chatd_str *ret_item)
{
	if (!list->p)
		return false;
	size_t at = list->n;
	while (at > 0 && list->p[at - 1] != ',')
		at--;
	*ret_item = trim(chatd_str_of(list->p + at, list->n - at));
	if (at > 0)
		list->n = at - 1;
	else
		list->p = NULL;
	return true;
}

bool forward_client(
		const struct http_head *head, const char *name, const struct forward *f, char ret[46])
{
	bool forwarded = strcmp(name, "forwarded") == 0, found = false;
	struct chatd_str key, list, hop;
	int hops = 0;
	for (size_t i = head->n_fields; i-- > 0;) {
		if (!http_head_at(head, i, &key, &list) || !http_same(key, name))
			continue;
		while (last_of(&list, &hop)) {
			char text[46];
			if (forwarded)
				hop = parameter(hop, "for");
			if (++hops > HOPS_MAX || !hop.p || !forward_address(hop, text))
				return false;
			memcpy(ret, text, sizeof(text));
			found = true;
			if (!f->trusted(f->arg, chatd_str_of(text, strlen(text))))
				return true;
		}
	}
	return found;
}

struct chatd_str forward_proto(const struct http_head *head, bool forwarded)
{
	struct chatd_str key, list, item;
	for (size_t i = head->n_fields; i-- > 0;) {
		if (!http_head_at(head, i, &key, &list))
			continue;
		if (http_same(key, forwarded ? "forwarded" : "x-forwarded-proto") && last_of(&list, &item))
			return forwarded ? parameter(item, "proto") : item;
	}
	return chatd_str_of(NULL, 0);
}

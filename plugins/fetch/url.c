/* SPDX-License-Identifier: Apache-2.0 */
#include "url.h"

#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

/* What no URL holds unescaped, before any parser may take it for something else. */
static int text_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>') {
			return 0;
		}
	}
	return s.n > 0 && s.n <= CHATD_FETCH_URL_MAX;
}

/* "SCHEME://HOST".  libcurl takes one or three slashes for two, and then others that look for the
 * host behind "://" see another one than it does. */
static int has_two_slashes(const char *s)
{
	const char *colon = strchr(s, ':');
	return colon && strncmp(colon, "://", 3) == 0 && colon[3] != '/';
}

/* 0: it has none, or an empty one. */
static int has(CURLU *u, CURLUPart part)
{
	char *p = NULL;
	int there = curl_url_get(u, part, &p, 0) == CURLUE_OK && *p;
	curl_free(p);
	return there;
}

static int take(CURLU *u, CURLUPart part, char *to, size_t cap)
{
	char *p = NULL;
	int ok = curl_url_get(u, part, &p, CURLU_DEFAULT_PORT) == CURLUE_OK && strlen(p) < cap;
	if (ok) {
		memcpy(to, p, strlen(p) + 1);
	}
	curl_free(p);
	return ok;
}

/* Names are compared without the dot that may end them, addresses without brackets. */
static void bare(char *host)
{
	size_t n = strlen(host);
	if (host[0] == '[' && n > 2) {
		memmove(host, host + 1, n - 2);
		host[n - 2] = '\0';
	} else if (n > 1 && host[n - 1] == '.') {
		host[n - 1] = '\0';
	}
}

/* 1: public; 0: not; -1: a name. */
static int literal(const char *host)
{
	uint8_t a[16];
	if (inet_pton(AF_INET, host, a) == 1) {
		return address_public4(a);
	}
	return inet_pton(AF_INET6, host, a) == 1 ? address_public6(a) : -1;
}

static int is_allowed(const struct url *url, const struct url_rules *rules)
{
	char text[sizeof(url->host) + 16];
	snprintf(text, sizeof(text), strchr(url->host, ':') ? "[%s]:%u" : "%s:%u", url->host,
			(unsigned)url->port);
	for (size_t i = 0; rules->allow[i]; i++) {
		if (strcasecmp(rules->allow[i], text) == 0) {
			return 1;
		}
	}
	return 0;
}

static int is_listed(const char *host, const char *const *hosts)
{
	size_t n = strlen(host);
	for (size_t i = 0; hosts[i]; i++) {
		const char *below = strncmp(hosts[i], "*.", 2) == 0 ? hosts[i] + 1 : NULL;
		size_t m = below ? strlen(below) : 0;
		if (below ? n > m && strcasecmp(host + n - m, below) == 0
				  : strcasecmp(host, hosts[i]) == 0) {
			return 1;
		}
	}
	return !hosts[0];
}

static const char *refuse_outside(const struct url *url, const struct url_rules *rules)
{
	if (!url->is_tls) {
		return "only https may be asked";
	}
	if (url->port != 443) {
		return "only port 443 may be asked";
	}
	if (literal(url->host) == 0) {
		return "this address is not one of the public internet";
	}
	return is_listed(url->host, rules->hosts) ? NULL : "this host is not one that may be asked";
}

static const char *parse(struct url *url, struct chatd_str text)
{
	char copy[CHATD_FETCH_URL_MAX + 1], scheme[16], port[8];
	if (!text_ok(text)) {
		return "it is no URL, or has more than 2048 bytes; escape what is not plain ASCII";
	}
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	url->u = curl_url();
	if (!url->u || !has_two_slashes(copy) ||
			curl_url_set(url->u, CURLUPART_URL, copy, CURLU_NON_SUPPORT_SCHEME)) {
		return "it is no absolute URL; write https://host/path";
	}
	if (!take(url->u, CURLUPART_SCHEME, scheme, sizeof(scheme)) ||
			(strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)) {
		return "only https and http are spoken";
	}
	if (!take(url->u, CURLUPART_HOST, url->host, sizeof(url->host)) ||
			!take(url->u, CURLUPART_PORT, port, sizeof(port)) || has(url->u, CURLUPART_ZONEID)) {
		return "its host or port is none that can be asked";
	}
	bare(url->host);
	if (literal(url->host) < 0 && url->host[strspn(url->host, HOST_CHARS)]) {
		return "its host is no name of letters, digits, '-' and '.'";
	}
	url->is_tls = strcmp(scheme, "https") == 0;
	url->port = (uint16_t)strtoul(port, NULL, 10);
	return NULL;
}

chatd_status url_read(struct url *ret, struct chatd_str text, uint32_t flags,
		const struct url_rules *rules, const char **ret_why)
{
	chatd_status rc = 0;
	*ret = (struct url){ .u = NULL };
	const char *why = parse(ret, text);
	if (why) {
		rc = -EINVAL;
	} else if (has(ret->u, CURLUPART_USER) || has(ret->u, CURLUPART_PASSWORD)) {
		why = "a user name or password has no place in it";
		rc = -EACCES;
	} else if (flags & CHATD_FETCH_OUTSIDE && !is_allowed(ret, rules)) {
		why = refuse_outside(ret, rules);
		rc = why ? -EACCES : 0;
	} else {
		ret->exempt = 1;
	}
	if (rc < 0) {
		url_finish(ret);
		*ret_why = why;
	}
	return rc;
}

void url_finish(struct url *url)
{
	curl_url_cleanup(url->u);
	url->u = NULL;
}

int url_allow_ok(const char *s)
{
	char host[256];
	const char *colon = strrchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : 0;
	if (n == 0 || n >= sizeof(host) || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
		return 0;
	}
	unsigned long port = strtoul(colon + 1, NULL, 10);
	memcpy(host, s, n);
	host[n] = '\0';
	int ok = host[0] == '[' ? host[n - 1] == ']' : host[strspn(host, HOST_CHARS)] == '\0';
	return ok && port > 0 && port <= 65535;
}

int url_pattern_ok(const char *s)
{
	const char *name = strncmp(s, "*.", 2) == 0 ? s + 2 : s;
	size_t n = strlen(name);
	return n > 0 && n < 254 && name[strspn(name, HOST_CHARS)] == '\0' && *name != '.';
}

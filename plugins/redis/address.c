/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <arpa/inet.h>
#include <string.h>

static int port_of(struct chatd_str s)
{
	int port = 0;
	if (s.n == 0 || s.n > 5) {
		return 0;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			return 0;
		}
		port = port * 10 + (s.p[i] - '0');
	}
	return port <= 65535 ? port : 0;
}

/* It goes to the resolver: nothing but names and addresses. */
static int host_ok(const char *host)
{
	size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:_");
	return n > 0 && host[n] == '\0';
}

static int set(struct address *a, const char *host, size_t n, int port)
{
	if (n == 0 || n > HOST_MAX || port == 0) {
		return 0;
	}
	memcpy(a->host, host, n);
	a->host[n] = '\0';
	a->port = port;
	return host_ok(a->host);
}

int address_parse(const char *text, int port, struct address *ret)
{
	size_t n = strlen(text);
	const char *colon = strrchr(text, ':');
	if (text[0] == '[') {
		const char *end = strchr(text, ']');
		if (!end || (end[1] != '\0' && end[1] != ':')) {
			return 0;
		}
		if (end[1] == ':') {
			port = port_of(chatd_str_of(end + 2, strlen(end + 2)));
		}
		return set(ret, text + 1, (size_t)(end - text) - 1, port) && address_is_numeric(ret);
	}
	if (colon && strchr(text, ':') == colon) {
		return set(ret, text, (size_t)(colon - text),
				port_of(chatd_str_of(colon + 1, strlen(colon + 1))));
	}
	return set(ret, text, n, port) && (!colon || address_is_numeric(ret));
}

int address_of(struct chatd_str host, struct chatd_str port, struct address *ret)
{
	return host.p && port.p && !memchr(host.p, '\0', host.n) &&
			set(ret, host.p, host.n, port_of(port));
}

int address_same(const struct address *a, const struct address *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

int address_is_loopback(const struct address *a)
{
	return strcmp(a->host, "localhost") == 0 || strncmp(a->host, "127.", 4) == 0 ||
			strcmp(a->host, "::1") == 0;
}

int address_is_numeric(const struct address *a)
{
	unsigned char room[16];
	return inet_pton(AF_INET, a->host, room) == 1 || inet_pton(AF_INET6, a->host, room) == 1;
}

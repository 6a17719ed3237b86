/* SPDX-License-Identifier: Apache-2.0 */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/** Digits only, at most @p max; -1: something else. */
static long number(const char *p, size_t n, long max)
{
	if (n == 0 || n > 5 || (n > 1 && p[0] == '0'))
		return -1;
	long v = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = v * 10 + (p[i] - '0');
	}
	return v <= max ? v : -1;
}

static int parse_unix(const char *path, struct addr *ret)
{
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof(ret->u.un.sun_path))
		return -EINVAL;
	ret->u.un.sun_family = AF_UNIX;
	memcpy(ret->u.un.sun_path, path, n + 1);
	ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	return 0;
}

int addr_parse(const char *text, struct addr *ret)
{
	struct addr a;
	memset(&a, 0, sizeof(a));
	if (strncmp(text, "unix:", 5) == 0) {
		int rc = parse_unix(text + 5, &a);
		if (rc == 0)
			*ret = a;
		return rc;
	}
	const char *colon = strrchr(text, ':');
	if (!colon)
		return -EINVAL;
	long port = number(colon + 1, strlen(colon + 1), 65535);
	bool v6 = text[0] == '[';
	const char *host = v6 ? text + 1 : text;
	size_t n = (size_t)(colon - host);
	char buf[INET6_ADDRSTRLEN];
	if (port < 0 || (v6 && (n == 0 || colon[-1] != ']')))
		return -EINVAL;
	n -= v6;
	if (n >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, host, n);
	buf[n] = '\0';
	if (v6) {
		a.u.v6.sin6_family = AF_INET6;
		a.u.v6.sin6_port = htons((uint16_t)port);
		a.len = sizeof(a.u.v6);
		if (inet_pton(AF_INET6, buf, &a.u.v6.sin6_addr) != 1)
			return -EINVAL;
	} else {
		a.u.v4.sin_family = AF_INET;
		a.u.v4.sin_port = htons((uint16_t)port);
		a.len = sizeof(a.u.v4);
		if (inet_pton(AF_INET, buf, &a.u.v4.sin_addr) != 1)
			return -EINVAL;
	}
	*ret = a;
	return 0;
}

void addr_print(const struct addr *a, char *ret, size_t n)
{
	char host[INET6_ADDRSTRLEN] = "?";
	if (a->u.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->u.v4.sin_addr, host, sizeof(host));
		snprintf(ret, n, "%s:%u", host, ntohs(a->u.v4.sin_port));
	} else if (a->u.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->u.v6.sin6_addr, host, sizeof(host));
		snprintf(ret, n, "[%s]:%u", host, ntohs(a->u.v6.sin6_port));
	} else {
		snprintf(ret, n, "unix:%s", a->u.un.sun_path);
	}
}

void addr_print_peer(const struct addr *a, char *ret, size_t n)
{
	const char *text = NULL;
	if (a->u.any.sa_family == AF_INET)
		text = inet_ntop(AF_INET, &a->u.v4.sin_addr, ret, (socklen_t)n);
	else if (a->u.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->u.v6.sin6_addr))
		text = inet_ntop(AF_INET, &a->u.v6.sin6_addr.s6_addr[12], ret, (socklen_t)n);
	else if (a->u.any.sa_family == AF_INET6)
		text = inet_ntop(AF_INET6, &a->u.v6.sin6_addr, ret, (socklen_t)n);
	if (!text)
		snprintf(ret, n, "unix");
}

/* ---- prefixes ---------------------------------------------------------- */

struct prefix {
	uint8_t b[16];
	unsigned bits, max; /* max: 32 or 128; a mapped IPv4 address counts as IPv4 */
};

static bool parse_prefix(const char *p, size_t n, struct prefix *ret)
{
	char buf[INET6_ADDRSTRLEN];
	const char *slash = memchr(p, '/', n);
	size_t len = slash ? (size_t)(slash - p) : n;
	if (len >= sizeof(buf))
		return false;
	memcpy(buf, p, len);
	buf[len] = '\0';
	if (strlen(buf) != len)
		return false;
	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, buf, ret->b) == 1)
		ret->max = 32;
	else if (inet_pton(AF_INET6, buf, ret->b) == 1)
		ret->max = 128;
	else
		return false;
	ret->bits = ret->max;
	if (slash) {
		long bits = number(slash + 1, n - len - 1, (long)ret->max);
		if (bits < 0)
			return false;
		ret->bits = (unsigned)bits;
	}
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	if (ret->max == 128 && ret->bits >= 96 && memcmp(ret->b, mapped, sizeof(mapped)) == 0) {
		memmove(ret->b, ret->b + 12, 4);
		ret->bits -= 96;
		ret->max = 32;
	}
	return true;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	if (memcmp(a, b, bits / 8) != 0)
		return false;
	unsigned rest = bits % 8;
	return rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0;
}

bool addr_in(struct chatd_str peer, const char *net)
{
	struct prefix n;
	struct prefix p;
	if (strcmp(net, "unix") == 0)
		return peer.n == 4 && memcmp(peer.p, "unix", 4) == 0;
	if (!peer.p || memchr(peer.p, '/', peer.n))
		return false;
	return parse_prefix(net, strlen(net), &n) && parse_prefix(peer.p, peer.n, &p) &&
			n.max == p.max && same_bits(n.b, p.b, n.bits);
}

bool addr_is_net(const char *net)
{
	struct prefix p;
	return strcmp(net, "unix") == 0 || parse_prefix(net, strlen(net), &p);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

enum { V1_MAX = 107, V2_HEAD = 16 };

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n";

/** The next word of a v1 line, up to one space or the end; empty: there is none. */
static struct chatd_str word(struct chatd_str *line)
{
	const char *space = memchr(line->p, ' ', line->n);
	size_t n = space ? (size_t)(space - line->p) : line->n;
	struct chatd_str w = { line->p, n };
	line->p += n + (space != NULL);
	line->n -= n + (space != NULL);
	return w;
}

static bool is_port(struct chatd_str s)
{
	long v = 0;
	if (s.n == 0 || s.n > 5 || (s.n > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (s.p[i] - '0');
	}
	return v <= 65535;
}

static bool is_address(struct chatd_str s, int family, void *ret)
{
	char buf[INET6_ADDRSTRLEN];
	if (s.n >= sizeof(buf) || memchr(s.p, '\0', s.n))
		return false;
	memcpy(buf, s.p, s.n);
	buf[s.n] = '\0';
	return inet_pton(family, buf, ret) == 1;
}

static void set_address(struct addr *ret, int family, const void *bytes)
{
	memset(ret, 0, sizeof(*ret));
	ret->u.any.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		memcpy(&ret->u.v4.sin_addr, bytes, 4);
		ret->len = sizeof(ret->u.v4);
	} else {
		memcpy(&ret->u.v6.sin6_addr, bytes, 16);
		ret->len = sizeof(ret->u.v6);
	}
}

static int parse_v1(const char *p, size_t n, struct addr *ret)
{
	const char *end = memchr(p, '\n', n < V1_MAX ? n : V1_MAX);
	if (!end)
		return n < V1_MAX ? 0 : -EBADMSG;
	int len = (int)(end - p) + 1;
	if (len < 2 || end[-1] != '\r')
		return -EBADMSG;
	size_t skip = sizeof(v1_start) - 1;
	struct chatd_str line = { p + skip, (size_t)len - skip - 2 };
	struct chatd_str proto = word(&line);
	ret->len = 0;
	if (proto.n == 7 && memcmp(proto.p, "UNKNOWN", 7) == 0)
		return len;
	if (proto.n != 4 || memcmp(proto.p, "TCP", 3) != 0 || (proto.p[3] != '4' && proto.p[3] != '6'))
		return -EBADMSG;
	int family = proto.p[3] == '4' ? AF_INET : AF_INET6;
	unsigned char from[16];
	unsigned char to[16];
	if (!is_address(word(&line), family, from) || !is_address(word(&line), family, to) ||
			!is_port(word(&line)) || !is_port(word(&line)) || line.n > 0)
		return -EBADMSG;
	set_address(ret, family, from);
	return len;
}

static int parse_v2(const unsigned char *p, size_t n, struct addr *ret)
{
	if (n < V2_HEAD)
		return 0;
	size_t len = (size_t)p[14] << 8 | p[15];
	unsigned command = p[12] & 0xf;
	if (p[12] >> 4 != 2 || command > 1 || V2_HEAD + len > PROXY_MAX)
		return -EBADMSG;
	size_t min = p[13] == 0x11 ? 12 : p[13] == 0x21 ? 36 : 0;
	if (command == 1 && len < min)
		return -EBADMSG;
	if (n < V2_HEAD + len)
		return 0;
	ret->len = 0;
	if (command == 1 && min)
		set_address(ret, p[13] == 0x11 ? AF_INET : AF_INET6, p + V2_HEAD);
	return (int)(V2_HEAD + len);
}

static bool begins(const char *p, size_t n, const char *with, size_t len)
{
	return memcmp(p, with, n < len ? n : len) == 0;
}

int proxy_parse(const char *p, size_t n, struct addr *ret)
{
	if (n == 0)
		return 0;
	size_t v1 = sizeof(v1_start) - 1;
	size_t v2 = sizeof(v2_start) - 1;
	if (begins(p, n, v1_start, v1))
		return n < v1 ? 0 : parse_v1(p, n, ret);
	if (begins(p, n, v2_start, v2))
		return n < v2 ? 0 : parse_v2((const unsigned char *)p, n, ret);
	return -EBADMSG;
}

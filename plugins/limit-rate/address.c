/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

static int is_v4(const struct address *a)
{
	return memcmp(a->bytes, mapped, sizeof(mapped)) == 0;
}

int address_parse(struct chatd_str text, struct address *ret)
{
	char z[INET6_ADDRSTRLEN];
	if (text.n == 0 || text.n >= sizeof(z)) {
		return 0;
	}
	memcpy(z, text.p, text.n);
	z[text.n] = '\0';
	memcpy(ret->bytes, mapped, sizeof(mapped));
	return inet_pton(AF_INET, z, ret->bytes + sizeof(mapped)) == 1 ||
			inet_pton(AF_INET6, z, ret->bytes) == 1;
}

int net_parse(const char *text, struct net *ret)
{
	size_t n = strcspn(text, "/");
	if (!address_parse(chatd_str_of(text, n), &ret->base)) {
		return 0;
	}
	int v4 = memchr(text, ':', n) == NULL;
	char *end;
	long most = v4 ? 32 : 128;
	long bits = text[n] ? strtol(text + n + 1, &end, 10) : most;
	if (text[n] && (text[n + 1] < '0' || text[n + 1] > '9' || *end || bits > most)) {
		return 0;
	}
	ret->bits = (int)bits + (v4 ? 96 : 0);
	return 1;
}

int net_has(const struct net *net, const struct address *a)
{
	int bytes = net->bits / 8, rest = net->bits % 8;
	if (memcmp(net->base.bytes, a->bytes, (size_t)bytes) != 0) {
		return 0;
	}
	return !rest || !((net->base.bytes[bytes] ^ a->bytes[bytes]) >> (8 - rest));
}

struct chatd_str address_key(const struct address *a, char room[ADDRESS_KEY])
{
	const unsigned char *b = a->bytes;
	int n = is_v4(a) ? snprintf(room, ADDRESS_KEY, "%u.%u.%u.%u", b[12], b[13], b[14], b[15])
					 : snprintf(room, ADDRESS_KEY, "%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64", b[0],
							   b[1], b[2], b[3], b[4], b[5], b[6], b[7]);
	return chatd_str_of(room, (size_t)n);
}

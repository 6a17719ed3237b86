/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

struct range {
	uint8_t a[4];
	int bits;
};

/* IANA's registry of special purposes, multicast and what is reserved. */
static const struct range special4[] = {
	{ { 0, 0, 0, 0 }, 8 },          /* this network: 0 is this machine */
	{ { 10, 0, 0, 0 }, 8 },         /* private */
	{ { 100, 64, 0, 0 }, 10 },      /* shared, of providers */
	{ { 127, 0, 0, 0 }, 8 },        /* loopback */
	{ { 169, 254, 0, 0 }, 16 },     /* link-local, metadata of clouds */
	{ { 172, 16, 0, 0 }, 12 },      /* private */
	{ { 192, 0, 0, 0 }, 24 },       /* protocol assignments */
	{ { 192, 0, 2, 0 }, 24 },       /* documentation */
	{ { 192, 31, 196, 0 }, 24 },    /* AS112 */
	{ { 192, 52, 193, 0 }, 24 },    /* AMT */
	{ { 192, 88, 99, 0 }, 24 },     /* 6to4 relays */
	{ { 192, 168, 0, 0 }, 16 },     /* private */
	{ { 192, 175, 48, 0 }, 24 },    /* AS112 */
	{ { 198, 18, 0, 0 }, 15 },      /* benchmarks */
	{ { 198, 51, 100, 0 }, 24 },    /* documentation */
	{ { 203, 0, 113, 0 }, 24 },     /* documentation */
	{ { 224, 0, 0, 0 }, 4 },        /* multicast */
	{ { 240, 0, 0, 0 }, 4 },        /* reserved */
	{ { 255, 255, 255, 255 }, 32 }, /* broadcast */
};

/* Of 2000::/3.  All else is refused, and with it loopback, IPv4-mapped addresses, NAT64, unique
 * local, link-local and multicast ones. */
static const struct range special6[] = {
	{ { 0x20, 0x01, 0x00, 0x00 }, 23 }, /* protocol assignments, Teredo */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
	{ { 0x20, 0x02, 0x00, 0x00 }, 16 }, /* 6to4: has an IPv4 address in it */
	{ { 0x3f, 0xff, 0x00, 0x00 }, 20 }, /* documentation */
};

static uint32_t number(const uint8_t a[4])
{
	return (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
}

static int is_in(const uint8_t a[4], const uint8_t range[4], int bits)
{
	return ((number(a) ^ number(range)) >> (32 - bits)) == 0;
}

int address_public4(const uint8_t a[4])
{
	for (size_t i = 0; i < sizeof(special4) / sizeof(special4[0]); i++) {
		if (is_in(a, special4[i].a, special4[i].bits)) {
			return 0;
		}
	}
	return 1;
}

int address_public6(const uint8_t a[16])
{
	for (size_t i = 0; i < sizeof(special6) / sizeof(special6[0]); i++) {
		if (is_in(a, special6[i].a, special6[i].bits)) {
			return 0;
		}
	}
	return (a[0] & 0xe0) == 0x20;
}

int address_is_public(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		uint8_t a[4];
		memcpy(&in, sa, sizeof(in));
		memcpy(a, &in.sin_addr, sizeof(a));
		return address_public4(a);
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in;
		memcpy(&in, sa, sizeof(in));
		return address_public6(in.sin6_addr.s6_addr);
	}
	return 0;
}

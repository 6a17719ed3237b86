/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file address.h
 * @brief Addresses as keys of limits, and the nets that are exempt from them.  Pure.
 */
#ifndef LIMIT_RATE_ADDRESS_H
#define LIMIT_RATE_ADDRESS_H

#include <chatd/plugin.h>

/** An IPv4 address as IPv6 writes it: one kind of bytes for both. */
struct address {
	unsigned char bytes[16];
};

struct net {
	struct address base;
	int bits; /**< of the 128 */
};

enum { ADDRESS_KEY = 40 };

/** 0: no numeric address (a unix socket's peer, say). */
int address_parse(struct chatd_str text, struct address *ret);
/** "10.0.0.0/8", "::1".  0: it is none. */
int net_parse(const char *text, struct net *ret);
int net_has(const struct net *, const struct address *);
/** Whom a limit is about: an IPv4 address, or an IPv6 network of 64 bits, which is what one
 *  customer has and can choose addresses from at will. */
struct chatd_str address_key(const struct address *, char room[ADDRESS_KEY]);

#endif

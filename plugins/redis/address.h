/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file address.h
 * @brief "HOST:PORT", "[V6]:PORT".  Pure.
 */
#ifndef REDIS_ADDRESS_H
#define REDIS_ADDRESS_H

#include <chatd/plugin.h>

enum { HOST_MAX = 253 };

struct address {
	char host[HOST_MAX + 1];
	int port;
};

/** @p port: where @p text has none.  0: it is none. */
int address_parse(const char *text, int port, struct address *ret);
int address_of(struct chatd_str host, struct chatd_str port, struct address *ret);
int address_same(const struct address *, const struct address *);
int address_is_loopback(const struct address *);
int address_is_numeric(const struct address *);

#endif

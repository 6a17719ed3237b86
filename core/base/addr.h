/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file base/addr.h
 * @brief Numeric addresses: parsing what the configuration says, printing what the kernel
 *        says, and prefixes such as "10.0.0.0/8".  No names are ever looked up.  [any]
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chatd/plugin.h>

enum { ADDR_TEXT = 128 }; /**< room for any address with port, or a unix path */

struct addr {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un un;
	} u;
	socklen_t len;
};

/** "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path".  -EINVAL. */
int addr_parse(const char *text, struct addr *ret);
/** With the port, as addr_parse() takes it. */
void addr_print(const struct addr *a, char *ret, size_t n);
/** Without the port; "unix" for a unix socket.  IPv4-mapped addresses print as IPv4. */
void addr_print_peer(const struct addr *a, char *ret, size_t n);

/** Is @p peer (as addr_print_peer() prints it) in @p net: an address, a prefix, "unix"? */
bool addr_in(struct chatd_str peer, const char *net);
bool addr_is_net(const char *net);

#endif

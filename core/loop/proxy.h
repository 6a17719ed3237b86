/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/proxy.h
 * @brief The header of the PROXY protocol, versions 1 and 2.  Pure; [any].
 */
#ifndef CHATD_LOOP_PROXY_H
#define CHATD_LOOP_PROXY_H

#include <stddef.h>

#include "base/addr.h"

enum { PROXY_MAX = 4096 }; /**< a longer header is refused, whatever its length field says */

/** Looks for a header at @p p.  Returns its length and, in @p ret, the client's address; .len
 *  is 0 if the header names none (LOCAL, UNKNOWN), and then the peer's own counts.
 *  0: more bytes are needed; -EBADMSG: this is no PROXY header. */
int proxy_parse(const char *p, size_t n, struct addr *ret);

#endif

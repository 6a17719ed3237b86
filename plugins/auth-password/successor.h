/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file successor.h
 * @brief The successor of a refresh token, for those who present the old one side by side.
 *
 * Several tabs of a browser refresh with the same token at the same moment, or a client repeats
 * a request whose answer was lost.  Whoever presents a token gets the same successor as the
 * others do, so it does not matter which answer they keep.  The store alone decides whether a
 * token is good; what is found here is only what it may be exchanged for.
 *
 * Successors are kept for a minute, at most 1,024, each encrypted with a key that only the old
 * token gives.  [any], one lock.
 */
#ifndef AUTH_SUCCESSOR_H
#define AUTH_SUCCESSOR_H

#include <chatd/plugin.h>
#include <chatd/tokens.h>

struct successors;

struct successors *successors_create(const struct chatd_host *, int64_t keep_ms);
void successors_destroy(struct successors *);
/** @p next is kept as the successor of @p old; if there is one, @p next becomes it. */
void successors_agree(
		struct successors *, struct chatd_str old, int64_t now, char next[CHATD_TOKEN_MAX]);

#endif

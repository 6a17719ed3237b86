/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fetch.h
 * @brief Reads a JWKS from a file or a URL of the configuration.  Blocks: for the pool.
 */
#ifndef FETCH_H
#define FETCH_H

#include "issuer.h"

enum { FETCH_MS = 4000 /**< less than the deadline of the logins that wait for it */ };

struct fetched {
	char *p; /**< to free(); NULL: see why */
	size_t n;
	char why[ISSUER_WHY];
};

void fetch_jwks(const struct issuer *, struct fetched *ret);

#endif

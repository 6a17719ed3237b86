/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file routes.h
 * @brief The table of routes: filled on [main] in init(), then read by every worker.
 *
 * A tree of path segments.  Finding looks at each node at most once, so the time
 * depends on the routes there are and not on the path that a client thought up.
 */
#ifndef HTTP_ROUTES_H
#define HTTP_ROUTES_H

#include <chatd/http.h>

#include "uri.h"

struct route_param {
	const char *name;
	size_t at; /**< which segment; the first one of {rest*} */
	bool rest;
};

struct route {
	struct route *next; /**< other methods of the same path */
	struct chatd_route r;
	char *text; /**< the pattern's segments, which names and literals point into */
	struct route_param *params;
	size_t n_params;
};

struct routes;

struct routes *routes_create(void); /**< NULL: no memory */
void routes_destroy(struct routes *);

/** Copies @p r.  -EEXIST: path and method are taken; -EINVAL: a malformed path. */
chatd_status routes_add(struct routes *, const struct chatd_route *r);

struct route_match {
	const struct route *route; /**< NULL: none for this method */
	uint32_t allow;            /**< methods of the path; 0: there is no such path */
	uint32_t flags;            /**< of the routes of that path */
};

void routes_find(
		const struct routes *, const struct uri_path *, uint32_t method, struct route_match *ret);

#endif

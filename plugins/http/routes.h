/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file routes.h
 * @brief The table of routes: filled on [main] in init(), read by every worker.
 *
 * It only grows, also while the server runs.  A route counts as long as its owner takes part.
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
	struct route *next;   /**< other methods of the same path */
	const chatd_ctx *ctx; /**< whose; NULL: the engine's own */
	struct chatd_route r;
	char *text; /**< the pattern's segments, which names and literals point into */
	struct route_param *params;
	size_t n_params;
};

struct routes;

/** Whether a route counts now: its owner may have been turned off. */
struct route_owners {
	int32_t (*takes_part)(void *obj, const chatd_ctx *);
	int32_t (*stays)(void *obj, const chatd_ctx *, const chatd_ctx *beside);
	void *obj;
};

/** @p owners is kept; .takes_part NULL: all count.  NULL: no memory. */
struct routes *routes_create(const struct route_owners *owners);
void routes_destroy(struct routes *);

/** [main] Copies @p r, which is @p ctx's, in a way that workers may look meanwhile.  What is there
 *  of an owner that has gone stays, and is passed by; it is used again when the same one comes
 *  back.  -EEXIST: path and method are taken; -EINVAL: a malformed path. */
chatd_status routes_add(struct routes *, const chatd_ctx *ctx, const struct chatd_route *r);

struct route_match {
	const struct route *route; /**< NULL: none for this method */
	uint32_t allow;            /**< methods of the path; 0: there is no such path */
	uint32_t flags;            /**< of the routes of that path */
};

void routes_find(
		const struct routes *, const struct uri_path *, uint32_t method, struct route_match *ret);

#endif

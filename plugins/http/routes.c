/* SPDX-License-Identifier: Apache-2.0 */
#include "routes.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef _Atomic(struct route *) route_list;
typedef _Atomic(struct node *) node_link;

/* What is put in is complete before it can be seen. */
struct node {
	struct node *next; /**< a sibling */
	node_link child;   /**< literal segments that may follow */
	node_link param;   /**< {name} that may follow */
	route_list here;   /**< routes that end here */
	route_list rest;   /**< routes that end with {rest*} below here */
	char *segment;
};

struct routes {
	struct node root;
	struct route_owners owners;
};

struct routes *routes_create(const struct route_owners *owners)
{
	struct routes *t = calloc(1, sizeof(*t));
	if (t)
		t->owners = *owners;
	return t;
}

static void free_routes(struct route *r)
{
	while (r) {
		struct route *next = r->next;
		free(r->text);
		free(r->params);
		free(r);
		r = next;
	}
}

/* The recursion is as deep as the longest pattern: URI_SEGMENTS at most. */
static void free_node(struct node *n)
{
	for (struct node *child = n->child, *next; child; child = next) {
		next = child->next;
		free_node(child);
		free(child);
	}
	if (n->param) {
		free_node(n->param);
		free(n->param);
	}
	free_routes(n->here);
	free_routes(n->rest);
	free(n->segment);
}

void routes_destroy(struct routes *t)
{
	if (!t)
		return;
	free_node(&t->root);
	free(t);
}

static struct node *literal(struct node *n, const char *segment, bool make)
{
	for (struct node *child = n->child; child; child = child->next)
		if (strcmp(child->segment, segment) == 0)
			return child;
	if (!make)
		return NULL;
	struct node *child = calloc(1, sizeof(*child));
	if (!child || !(child->segment = strdup(segment))) {
		free(child);
		return NULL;
	}
	child->next = n->child;
	n->child = child;
	return child;
}

static struct node *parameter(struct node *n)
{
	if (!n->param)
		n->param = calloc(1, sizeof(struct node));
	return n->param;
}

/* Is it "{name}" (1), "{name*}" (2) or a literal (0)?  Braces elsewhere: -EINVAL. */
static int kind_of(const char *segment)
{
	size_t n = strlen(segment);
	if (segment[0] != '{')
		return strpbrk(segment, "{}") ? -EINVAL : 0;
	if (n < 3 || segment[n - 1] != '}' || strcspn(segment + 1, "{}*") < n - 3)
		return -EINVAL;
	if (segment[n - 2] == '*')
		return n > 3 ? 2 : -EINVAL;
	return 1;
}

static void add_param(struct route *r, char *segment, int kind, size_t at)
{
	struct route_param *param = &r->params[r->n_params++];
	segment[strlen(segment) - (kind == 2 ? 2 : 1)] = '\0';
	param->name = segment + 1;
	param->at = at;
	param->rest = kind == 2;
}

/* Walks down the pattern, making nodes; *ret_list is where the route belongs. */
static chatd_status place(struct routes *t, struct route *r, route_list **ret_list)
{
	struct node *n = &t->root;
	size_t at = 0;
	for (char *segment = r->text + 1, *next; segment; segment = next, at++) {
		next = strchr(segment, '/');
		if (next)
			*next++ = '\0';
		int kind = at == URI_SEGMENTS ? -EINVAL : kind_of(segment);
		if (kind < 0 || (kind == 2 && next))
			return -EINVAL;
		if (kind == 2) {
			add_param(r, segment, kind, at);
			*ret_list = &n->rest;
			return 0;
		}
		n = kind == 1 ? parameter(n) : literal(n, segment, true);
		if (!n)
			return -ENOMEM;
		if (kind == 1)
			add_param(r, segment, kind, at);
	}
	*ret_list = &n->here;
	return 0;
}

static size_t count_params(const char *path)
{
	size_t n = 0;
	for (; *path; path++)
		n += *path == '{';
	return n;
}

static bool taken(
		const struct routes *t, const struct route *list, const chatd_ctx *ctx, uint32_t methods)
{
	for (const struct route *r = list; r; r = r->next) {
		bool stays = !r->ctx || !t->owners.stays || t->owners.stays(t->owners.obj, r->ctx, ctx);
		if (r->r.methods & methods && stays)
			return true;
	}
	return false;
}

chatd_status routes_add(struct routes *t, const chatd_ctx *ctx, const struct chatd_route *r)
{
	if (!r->path || r->path[0] != '/' || !r->handle || r->methods == 0)
		return -EINVAL;
	struct route *route = calloc(1, sizeof(*route));
	if (!route)
		return -ENOMEM;
	route_list *list = NULL;
	size_t size = r->struct_size < sizeof(route->r) ? r->struct_size : sizeof(route->r);
	memcpy(&route->r, r, size);
	route->ctx = ctx;
	route->text = strdup(r->path);
	route->params = calloc(count_params(r->path) + 1, sizeof(*route->params));
	chatd_status rc = route->text && route->params ? place(t, route, &list) : -ENOMEM;
	if (rc == 0 && taken(t, *list, ctx, r->methods))
		rc = -EEXIST;
	if (rc != 0) {
		free_routes(route);
		return rc;
	}
	route->r.path = NULL; /* the caller's */
	route->next = *list;
	*list = route;
	return 0;
}

struct search {
	const struct route_owners *owners;
	const struct uri_path *path;
	uint32_t method;
	struct route_match *best;
};

static bool counts(const struct route_owners *o, const struct route *r)
{
	return !r->ctx || !o->takes_part || o->takes_part(o->obj, r->ctx);
}

/* Notes what this path offers.  True: there is a route for the method. */
static bool offer(struct search *s, const struct route *list)
{
	bool first = s->best->allow == 0;
	for (const struct route *r = list; r; r = r->next) {
		if (!counts(s->owners, r))
			continue;
		if (r->r.methods & s->method) {
			s->best->route = r;
			s->best->allow = r->r.methods;
			s->best->flags = r->r.flags;
			return true;
		}
		if (first) {
			s->best->allow |= r->r.methods;
			s->best->flags |= r->r.flags;
		}
	}
	return false;
}

static const struct node *find_literal(const struct node *n, struct chatd_str segment)
{
	for (const struct node *child = n->child; child; child = child->next)
		if (strncmp(child->segment, segment.p, segment.n) == 0 && !child->segment[segment.n])
			return child;
	return NULL;
}

static bool any_counts(const struct route_owners *o, const struct route *list)
{
	while (list && !counts(o, list))
		list = list->next;
	return list != NULL;
}

/* Is there a route here or below?  As deep as the longest pattern, as free_node(). */
static bool leads_on(const struct route_owners *o, const struct node *n)
{
	if (any_counts(o, n->here) || any_counts(o, n->rest) || (n->param && leads_on(o, n->param)))
		return true;
	const struct node *child = n->child;
	while (child && !leads_on(o, child))
		child = child->next;
	return child != NULL;
}

static bool walk(struct search *s, const struct node *n, size_t at)
{
	if (at == s->path->n)
		return offer(s, n->here);
	const struct node *child = find_literal(n, s->path->segment[at]);
	if (child && walk(s, child, at + 1))
		return true;
	if (n->param && s->path->segment[at].n > 0 && walk(s, n->param, at + 1))
		return true;
	/* A path that exists is not handed to a wildcard because of its method; and the
	 * wildcard of the whole site does not answer for /api, which belongs to others. */
	if (s->best->allow != 0 || (at == 0 && child && s->path->n > 1 && leads_on(s->owners, child)))
		return false;
	return offer(s, n->rest);
}

void routes_find(const struct routes *t, const struct uri_path *path, uint32_t method,
		struct route_match *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (path->nowhere || path->n == 0)
		return;
	struct search s = { &t->owners, path, method, ret };
	walk(&s, &t->root, 0);
}

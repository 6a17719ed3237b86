/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which events of which nodes have come: a broken connection brings some again, and so may somebody
 * who has listened.  A window of the last numbers of each process of a node.
 */
#ifndef ROUTE_RABBITMQ_SEEN_H
#define ROUTE_RABBITMQ_SEEN_H

#include <chatd/plugin.h>

struct seen;

struct seen *seen_create(void); /* NULL: no memory */
void seen_destroy(struct seen *);
/* Who sent it, and as its how manieth. */
struct seen_event {
	struct chatd_str node, epoch;
	uint64_t number;
	int32_t strict; /* 1: what is too old for the window has come; 0: it has not */
};
/* 1: this one has come before; 0: not, and now it has. */
int seen_before(struct seen *, const struct seen_event *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which events of which nodes have come: a broken connection brings some again.  A window of the
 * last numbers of each node's process, as against replays; what is older than that passes.
 */
#ifndef ROUTE_RABBITMQ_SEEN_H
#define ROUTE_RABBITMQ_SEEN_H

#include <chatd/plugin.h>

struct seen;

struct seen *seen_create(void); /* NULL: no memory */
void seen_destroy(struct seen *);
/* 1: this one has come before; 0: not, and now it has. */
int seen_before(struct seen *, struct chatd_str node, struct chatd_str epoch, uint64_t number);

#endif

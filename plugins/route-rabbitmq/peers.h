/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which nodes have said that they understand several events in one message.  Each says so now and
 * then, to all; an older release does not, so nothing is sent that it could not read.  [any]
 */
#ifndef ROUTE_RABBITMQ_PEERS_H
#define ROUTE_RABBITMQ_PEERS_H

#include "wire.h"

enum { PEERS_SAY_MS = 4000, PEERS_FORGET_MS = 15000 };

struct peers;

struct peers *peers_create(void);
void peers_destroy(struct peers *);
/* 1: it was not known. */
int peers_heard(struct peers *, struct chatd_str node, int64_t now);
/* Whether the node whose routing key this is does. */
int peers_one(struct peers *, const char *rkey, int64_t now);
/* Whether all do, of @p live nodes that there are with this one; 0 or less: it is not known. */
int peers_all(struct peers *, int32_t live, int64_t now);
/* Whether more nodes are heard than the @p live ones: one of them has lost its lease, and nobody can
 * say who is there. */
int peers_more(struct peers *, int32_t live, int64_t now);

#endif

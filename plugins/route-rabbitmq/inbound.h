/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came in, on its way through the workers and back to be acknowledged.  The consumer's
 * thread makes deliveries and gets them back; in between they belong to a worker.
 */
#ifndef ROUTE_RABBITMQ_INBOUND_H
#define ROUTE_RABBITMQ_INBOUND_H

#include "rabbit.h"

struct delivery {
	STAILQ_ENTRY(delivery) link;
	struct wire_in *in;
	const struct chatd_cluster_receiver *to;
	uint64_t tag;
	uint32_t generation; /* of the connection */
};
STAILQ_HEAD(deliveries, delivery);

struct inbound {
	struct rabbit *r;
	struct pile *piles; /* one for each worker: what is handed over together */
	uint64_t turn;
	pthread_mutex_t lock;
	struct deliveries done; /* with the lock */
	void (*wake)(void *arg);
	void *arg;
};

int inbound_init(struct inbound *, struct rabbit *); /* 0; -ENOMEM */
void inbound_finish(struct inbound *);
/* Takes it; it goes to its worker at the latest with inbound_flush().  -ENOMEM: it is lost. */
chatd_status inbound_add(struct inbound *, struct delivery *);
/* -ENOMEM: some are lost. */
chatd_status inbound_flush(struct inbound *);
/* What the workers are done with. */
void inbound_take(struct inbound *, struct deliveries *ret);

struct delivery *delivery_create(struct wire_in *, uint64_t tag);
void delivery_destroy(struct delivery *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SUBSCRIBEs that wait until the broker has bound their topic.
 *
 * The worker asks and answers, after conf.subscribe_wait at the latest; the consumer's thread
 * knows when the binding is there.  A broker that has let somebody wait in vain is not waited for
 * again before it has answered.
 */
#ifndef ROUTE_RABBITMQ_WAITS_H
#define ROUTE_RABBITMQ_WAITS_H

#include "rabbit.h"

struct wait {
	struct home *home;
	void (*done)(void *arg, chatd_status rc);
	void *arg;
	int64_t until;
	int32_t open;                /* [worker] done has not run */
	TAILQ_ENTRY(wait) all;       /* [worker] */
	STAILQ_ENTRY(wait) finished; /* with the home's lock */
	TAILQ_ENTRY(wait) link;      /* of the consumer's thread */
	uint64_t place;              /* likewise: of the topic's binding */
	chatd_status rc;
};
TAILQ_HEAD(wait_list, wait);

/* chatd_router.settle */
chatd_status waits_settle(void *self, chatd_worker *, struct chatd_str dest,
		void (*done)(void *arg, chatd_status rc), void *arg);
/* [any] From then on it belongs to its worker again. */
void wait_release(struct wait *, chatd_status rc);
void waits_init(struct home *);
void waits_stop(struct home *);   /* [worker] all are answered */
void waits_finish(struct home *); /* [main] */

#endif

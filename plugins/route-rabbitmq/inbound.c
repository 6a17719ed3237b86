/* SPDX-License-Identifier: Apache-2.0 */
#include "inbound.h"

#include <chatd-sdk/hash.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PILE = 32 }; /* run in one go: the worker has others to serve */

struct pile {
	struct inbound *in;
	int32_t worker;
	size_t n;
	struct deliveries all;
};

int inbound_init(struct inbound *in, struct rabbit *r)
{
	in->r = r;
	STAILQ_INIT(&in->done);
	in->piles = calloc((size_t)r->n_homes, sizeof(*in->piles));
	if (!in->piles) {
		return -ENOMEM;
	}
	for (int32_t i = 0; i < r->n_homes; i++) {
		STAILQ_INIT(&in->piles[i].all);
		in->piles[i].in = in;
		in->piles[i].worker = i;
	}
	pthread_mutex_init(&in->lock, NULL);
	return 0;
}

struct delivery *delivery_create(struct wire_in *in, uint64_t tag)
{
	struct delivery *d = malloc(sizeof(*d));
	if (d) {
		memset(d, 0, sizeof(*d));
		d->in = in;
		d->tag = tag;
	}
	return d;
}

void delivery_destroy(struct delivery *d)
{
	if (d) {
		free(d->in);
		free(d);
	}
}

static void destroy_all(struct deliveries *all)
{
	struct delivery *d;
	while ((d = STAILQ_FIRST(all))) {
		STAILQ_REMOVE_HEAD(all, link);
		delivery_destroy(d);
	}
}

void inbound_finish(struct inbound *in)
{
	for (int32_t i = 0; in->piles && i < in->r->n_homes; i++) {
		destroy_all(&in->piles[i].all);
	}
	if (in->piles) {
		destroy_all(&in->done);
		pthread_mutex_destroy(&in->lock);
	}
	free(in->piles);
}

/* ---- on the worker --------------------------------------------------------------------------- */

static void give_back(struct inbound *in, struct deliveries *all)
{
	pthread_mutex_lock(&in->lock);
	int first = STAILQ_EMPTY(&in->done);
	STAILQ_CONCAT(&in->done, all);
	pthread_mutex_unlock(&in->lock);
	if (first) {
		in->wake(in->arg);
	}
}

static void on_pile(void *arg)
{
	struct pile *p = arg;
	struct home *o = &p->in->r->homes[p->worker];
	struct delivery *d;
	STAILQ_FOREACH (d, &p->all, link) {
		/* A receiver that has stopped must not be called; the broker keeps what it did not get. */
		if (!o->stopped) {
			d->to->fn(d->to->arg, o->w, &d->in->e);
		}
		free(d->in);
		d->in = NULL;
	}
	if (o->stopped) {
		destroy_all(&p->all);
	} else {
		give_back(p->in, &p->all);
	}
	p->in->r->h->mem_free(p);
}

/* ---- on the consumer's thread ------------------------------------------------------------------- */

static int32_t worker_of(struct inbound *in, const struct delivery *d)
{
	static const struct chatd_hash_key plain;
	const struct chatd_host *h = in->r->h;
	const struct chatd_cluster_event *e = &d->in->e;
	if (CHATD_HAS(d->to, home)) {
		pthread_mutex_lock(&in->r->lock);
		int32_t at = in->r->closed ? 0 : h->worker_index(d->to->home(d->to->arg, e));
		pthread_mutex_unlock(&in->r->lock);
		return at;
	}
	uint64_t n = e->key.p ? chatd_hash(&plain, e->key.p, e->key.n) : ++in->turn;
	return (int32_t)(n % (uint64_t)in->r->n_homes);
}

static chatd_status hand_over(struct inbound *in, struct pile *p)
{
	const struct chatd_host *h = in->r->h;
	struct pile *copy = h->mem_alloc(sizeof(*copy));
	if (!copy) {
		return -ENOMEM;
	}
	*copy = *p;
	STAILQ_INIT(&copy->all);
	STAILQ_CONCAT(&copy->all, &p->all);
	p->n = 0;
	chatd_status rc = h->post(h->worker_at(p->worker), on_pile, copy);
	if (rc < 0) {
		destroy_all(&copy->all);
		h->mem_free(copy);
	}
	return rc == -ESHUTDOWN ? 0 : rc;
}

chatd_status inbound_add(struct inbound *in, struct delivery *d)
{
	struct pile *p = &in->piles[worker_of(in, d)];
	STAILQ_INSERT_TAIL(&p->all, d, link);
	return ++p->n < PILE ? 0 : hand_over(in, p);
}

chatd_status inbound_flush(struct inbound *in)
{
	chatd_status rc = 0;
	for (int32_t i = 0; i < in->r->n_homes; i++) {
		if (in->piles[i].n) {
			chatd_status one = hand_over(in, &in->piles[i]);
			rc = one < 0 ? one : rc;
		}
	}
	return rc;
}

void inbound_take(struct inbound *in, struct deliveries *ret)
{
	STAILQ_INIT(ret);
	pthread_mutex_lock(&in->lock);
	STAILQ_CONCAT(ret, &in->done);
	pthread_mutex_unlock(&in->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "rabbit.h"

#include <string.h>
#include <time.h>

enum { NAG_MS = 60000 };

int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int nag_due(struct nag *n, uint64_t *ret_more)
{
	int64_t now = clock_ms();
	if (n->at && now - n->at < NAG_MS) {
		n->since++;
		return 0;
	}
	*ret_more = n->since;
	n->since = 0;
	n->at = now;
	return 1;
}

int32_t rabbit_is_up(const struct rabbit *r)
{
	return atomic_load(&r->publishing) && atomic_load(&r->consuming);
}

/* ---- telling the receivers --------------------------------------------------------------- */

struct notice {
	struct rabbit *r;
	int32_t up;
};

static void tell(void *arg)
{
	struct notice *n = arg;
	for (struct receiver *x = n->r->homes[0].stopped ? NULL : n->r->receivers; x; x = x->next) {
		if (CHATD_HAS(&x->is, link)) {
			x->is.link(x->is.arg, n->up);
		}
	}
	n->r->h->mem_free(n);
}

void rabbit_link(struct rabbit *r, atomic_int *which, int up)
{
	pthread_mutex_lock(&r->lock); /* so that two changes are told of in their order */
	atomic_store(which, up);
	int32_t now = rabbit_is_up(r);
	struct notice *n = now != r->told_up ? r->h->mem_alloc(sizeof(*n)) : NULL;
	if (n) {
		n->r = r;
		n->up = now;
		r->told_up = now;
		if (r->h->post(r->h->worker_at(0), tell, n) < 0) {
			r->h->mem_free(n);
		}
	}
	pthread_mutex_unlock(&r->lock);
}

const struct chatd_cluster_receiver *rabbit_receiver(const struct rabbit *r, struct chatd_str kind)
{
	for (const struct receiver *x = r->receivers; x; x = x->next) {
		if (strlen(x->is.kind) == kind.n && memcmp(x->is.kind, kind.p, kind.n) == 0) {
			return &x->is;
		}
	}
	return NULL;
}

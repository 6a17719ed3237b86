/* SPDX-License-Identifier: Apache-2.0 */
/* Events on their way out: memory, its bound, and the answer to whoever sent one. */
#include "waits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void item_free(struct item *i)
{
	atomic_fetch_sub(&i->r->held, (int_fast64_t)(sizeof(*i) + i->wire->size));
	free(i->wire);
	free(i);
}

static chatd_status too_much(struct rabbit *r)
{
	uint64_t more;
	count(r, COUNT_FULL);
	pthread_mutex_lock(&r->lock);
	int due = nag_due(&r->full, &more);
	pthread_mutex_unlock(&r->lock);
	if (due) {
		r->h->log(r->ctx, CHATD_LOG_WARN,
				"more than queue_max (%lld bytes) waits for the broker: events for other nodes are "
				"dropped (%llu more in the last minute)",
				(long long)r->conf->queue_max, (unsigned long long)more);
	}
	return -EAGAIN;
}

/* Clients may have a part in it, so it is not said for each. */
static chatd_status bad_event(
		struct rabbit *r, const struct chatd_cluster_event *e, const char *why)
{
	uint64_t more;
	count(r, COUNT_INVALID);
	pthread_mutex_lock(&r->lock);
	int due = nag_due(&r->invalid, &more);
	pthread_mutex_unlock(&r->lock);
	if (due) {
		r->h->log(r->ctx, CHATD_LOG_WARN,
				"an event \"%.*s\" cannot be sent to other nodes: %s (%llu more in the last minute)",
				(int)(e->kind.n < 64 ? e->kind.n : 64), e->kind.p, why, (unsigned long long)more);
	}
	return -EINVAL;
}

chatd_status item_create(struct rabbit *r, const struct chatd_cluster_event *e,
		const struct wire_sender *s, struct item **ret)
{
	const char *why;
	if (atomic_load(&r->held) > r->conf->queue_max) {
		return too_much(r);
	}
	struct item *i = malloc(sizeof(*i));
	if (!i) {
		return -ENOMEM;
	}
	memset(i, 0, sizeof(*i));
	chatd_status rc = wire_encode(e, s, &i->wire, &why);
	if (rc < 0) {
		free(i);
		return rc == -ENOMEM ? rc : bad_event(r, e, why);
	}
	i->r = r;
	i->to = e->to;
	i->ephemeral = !!(e->flags & CHATD_CLUSTER_EPHEMERAL);
	i->key = e->key.p ? chatd_hash(&r->hash, e->key.p, e->key.n) | 1 : 0;
	i->packed = wire_pack_size(i->wire);
	atomic_init(&i->refs, 1);
	atomic_init(&i->rc, 0);
	atomic_fetch_add(&r->held, (int_fast64_t)(sizeof(*i) + i->wire->size));
	*ret = i;
	return 0;
}

struct parcel *parcel_create(struct item *i, const char *rkey, int directed)
{
	size_t n = strlen(rkey) + 1;
	struct parcel *p = malloc(sizeof(*p) + n);
	if (!p) {
		return NULL;
	}
	memset(p, 0, sizeof(*p));
	memcpy(p->rkey, rkey, n);
	p->directed = directed;
	p->slot = (uint8_t)chatd_hash(&i->r->hash, rkey, n - 1);
	p->item = i;
	item_ref(i);
	atomic_fetch_add(&i->r->held, (int_fast64_t)(sizeof(*p) + n));
	return p;
}

void parcel_settle(struct parcel *p, chatd_status rc)
{
	struct item *i = p->item;
	atomic_fetch_sub(&i->r->held, (int_fast64_t)(sizeof(*p) + strlen(p->rkey) + 1));
	free(p);
	item_unref(i, rc);
}

void item_ref(struct item *i)
{
	atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
}

/* ---- the answer ------------------------------------------------------------------------- */

static void answer(struct item *i, chatd_status rc)
{
	if (i->open) {
		i->open = 0;
		TAILQ_REMOVE(&i->home->open, i, all);
		i->done(i->arg, rc);
	}
}

static struct item *next_finished(struct home *o)
{
	pthread_mutex_lock(&o->lock);
	struct item *i = STAILQ_FIRST(&o->finished);
	if (i) {
		STAILQ_REMOVE_HEAD(&o->finished, finished);
	} else {
		o->posted = 0;
	}
	pthread_mutex_unlock(&o->lock);
	return i;
}

static void on_finished(void *arg)
{
	struct item *i;
	while ((i = next_finished(arg))) {
		answer(i, atomic_load(&i->rc));
		item_free(i);
	}
}

void item_unref(struct item *i, chatd_status rc)
{
	struct home *o = i->home;
	if (rc < 0) {
		int none = 0;
		(void)atomic_compare_exchange_strong(&i->rc, &none, rc);
	}
	if (atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	if (!o) {
		item_free(i);
		return;
	}
	pthread_mutex_lock(&o->lock);
	STAILQ_INSERT_TAIL(&o->finished, i, finished);
	/* A worker that has ended answered all in home_stop(). */
	if (!o->posted && i->r->h->post(o->w, on_finished, o) == 0) {
		o->posted = 1;
	}
	pthread_mutex_unlock(&o->lock);
}

void home_init(struct home *o, struct rabbit *r)
{
	o->r = r;
	TAILQ_INIT(&o->open);
	STAILQ_INIT(&o->finished);
	waits_init(o);
	pthread_mutex_init(&o->lock, NULL);
}

void home_stop(struct home *o)
{
	struct item *i;
	o->stopped = 1;
	waits_stop(o);
	while ((i = TAILQ_FIRST(&o->open))) {
		answer(i, -ESHUTDOWN);
	}
}

void home_finish(struct home *o)
{
	struct item *i;
	while ((i = next_finished(o))) {
		item_free(i);
	}
	waits_finish(o);
	pthread_mutex_destroy(&o->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Drawing from several buckets: from all or from none, so that what one limit refuses costs
 * nothing of the others. */
#include "limit.h"

#include <errno.h>

static void refused(struct outcome *o, size_t which, const struct drawn *drawn)
{
	if (o->rc == 0 || drawn->wait > o->drawn.wait) {
		*o = (struct outcome){ -EDQUOT, which, *drawn };
	}
}

void draws_look(const struct self *self, const struct draws *d, nanos now, struct outcome *ret)
{
	struct drawn drawn;
	*ret = (struct outcome){ 0 };
	for (size_t i = 0; i < d->n; i++) {
		const struct draw *one = &d->at[i];
		chatd_status rc = self->backend->look(one->bucket, &one->rate, one->cost, now, &drawn);
		if (rc == 0 && d->exact && drawn.used > one->rate.depth) {
			drawn.wait = drawn.used - one->rate.depth;
			rc = -EDQUOT;
		}
		if (rc == -EDQUOT) {
			refused(ret, i, &drawn);
		}
	}
}

/* Somebody else may have drawn since they were looked at: then what was drawn goes back. */
void draws_take(const struct self *self, const struct draws *d, nanos now, struct outcome *ret)
{
	struct drawn drawn;
	size_t i = 0;
	draws_look(self, d, now, ret);
	while (ret->rc == 0 && i < d->n) {
		const struct draw *one = &d->at[i];
		if (self->backend->draw(one->bucket, &one->rate, one->cost, now, &drawn) == -EDQUOT) {
			refused(ret, i, &drawn);
			break;
		}
		if (i++ == 0) {
			ret->drawn = drawn;
		}
	}
	while (ret->rc == -EDQUOT && i-- > 0) {
		self->backend->give(d->at[i].bucket, &d->at[i].rate, d->at[i].cost);
	}
}

void draws_take_part(const struct self *self, const struct draws *d, nanos now, struct outcome *ret)
{
	int64_t nodes = shared_nodes(self);
	struct draw *part = self->h->mem_alloc(d->n * sizeof(*part));
	*ret = (struct outcome){ .rc = -ENOMEM };
	for (size_t i = 0; part && i < d->n; i++) {
		part[i] = d->at[i];
		part[i].rate = rate_part(&part[i].rate, nodes);
	}
	if (part) {
		const struct draws parts = { part, d->n };
		/* What a node grants by itself, Redis has to hear of later. */
		atomic_store_explicit(&self->away->at, now, memory_order_relaxed);
		draws_take(self, &parts, now, ret);
	}
	self->h->mem_free(part);
}

chatd_verdict draws_charge(const struct self *self, chatd_call *call, struct draw *at, size_t n)
{
	chatd_verdict v = CHATD_NEXT;
	nanos now = limit_now(self, self->h->call_worker(call));
	size_t held = 0;
	for (size_t i = 0; i < n && v == CHATD_NEXT; i++) {
		if (!at[i].limit->rate.token) {
			continue;
		}
		at[held] = at[i];
		at[held].rate = at[held].limit->rate;
		at[held].cost = 1;
		at[held].bucket = self->backend->hold(self->store, at[held].key, now);
		if (!at[held].bucket) {
			v = -ENOMEM;
		} else {
			held++;
		}
	}
	if (held && v == CHATD_NEXT) {
		const struct draws d = { at, held };
		v = shared_charge(self, call, &d);
	}
	for (size_t i = 0; i < held; i++) {
		self->backend->release(at[i].bucket);
	}
	return v;
}

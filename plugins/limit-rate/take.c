/* SPDX-License-Identifier: Apache-2.0 */
/* The service: buckets of other plugins' own. */
#include "limit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TAKE_KEY_MAX = 200 };

struct answer {
	const struct chatd_host *h;
	chatd_limiter_fn *fn;
	void *arg;
	chatd_status rc;
	int32_t never; /* it costs more than there can be */
	int64_t retry_ms;
};

static void tell(void *arg)
{
	struct answer *a = arg;
	a->fn(a->arg, a->rc, a->retry_ms);
	a->h->mem_free(a);
}

/* So late that nobody waits for what never comes. */
static int64_t retry_of(const struct answer *a, const struct drawn *drawn)
{
	return a->never ? INT32_MAX : (drawn->wait + 999999) / 1000000;
}

static void on_shared(void *arg, chatd_status rc, const struct drawn *drawn)
{
	struct answer *a = arg;
	a->rc = rc;
	a->retry_ms = retry_of(a, drawn);
	tell(a);
}

static chatd_status draw(
		const struct self *self, chatd_worker *w, const struct chatd_bucket *want, struct answer *a)
{
	struct rate rate = rate_of(want->burst, want->per_minute);
	char room[TAKE_KEY_MAX + 8];
	struct drawn drawn = { 0, 0 };
	nanos now = limit_now(self, w);
	int n = snprintf(room, sizeof(room), "take:%.*s", (int)want->key.n, want->key.p);
	struct shared_draw d = { .rate = &rate, .key = chatd_str_of(room, (size_t)n) };
	d.bucket = self->backend->hold(self->store, d.key, now);
	if (!d.bucket) {
		return -ENOMEM;
	}
	int64_t never = want->burst + 1; /* any cost above this is as impossible */
	d.cost = want->cost < never ? want->cost : never;
	a->never = d.cost == never;
	chatd_status asked = self->redis ? shared_ask(self, w, &d, on_shared, a) : -EAGAIN;
	if (asked < 0) {
		struct rate part = self->redis ? shared_part(self, &rate, now) : rate;
		a->rc = self->backend->draw(d.bucket, &part, d.cost, now, &drawn);
		a->retry_ms = retry_of(a, &drawn);
		asked = self->h->post(w, tell, a);
	}
	self->backend->release(d.bucket);
	return asked;
}

static chatd_status take(void *obj, chatd_worker *w, const struct chatd_bucket *want,
		chatd_limiter_fn *fn, void *arg)
{
	const struct self *self = obj;
	if (want->key.n == 0 || want->key.n > TAKE_KEY_MAX || want->cost < 0 || want->burst < 1 ||
			want->burst > RATE_BURST_MAX || want->per_minute < 1 ||
			want->per_minute > RATE_MINUTE_MAX) {
		return -EINVAL;
	}
	struct answer *a = self->h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	*a = (struct answer){ .h = self->h, .fn = fn, .arg = arg };
	chatd_status rc = draw(self, w, want, a);
	if (rc < 0) {
		self->h->mem_free(a);
	}
	return rc;
}

const struct chatd_limiter take_service = {
	.struct_size = sizeof(struct chatd_limiter),
	.take = take,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* The service: buckets of other plugins' own. */
#include "limit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TAKE_KEY_MAX = 200, TAKE_PREFIX = 5 };

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
static void note(struct answer *a, const struct outcome *o)
{
	a->rc = o->rc;
	a->retry_ms = a->never ? INT32_MAX : (o->drawn.wait + 999999) / 1000000;
}

static void on_shared(void *arg, const struct outcome *o)
{
	note(arg, o);
	tell(arg);
}

/* "take:what:" of "take:what:whom": whom may be an address. */
static size_t shown(struct chatd_str key)
{
	const char *colon = memchr(key.p + TAKE_PREFIX, ':', key.n - TAKE_PREFIX);
	return colon ? (size_t)(colon + 1 - key.p) : key.n;
}

static chatd_status draw(
		const struct self *self, chatd_worker *w, const struct chatd_bucket *want, struct answer *a)
{
	char room[TAKE_KEY_MAX + TAKE_PREFIX + 1];
	struct outcome o;
	nanos now = limit_now(self, w);
	int n = snprintf(room, sizeof(room), "take:%.*s", (int)want->key.n, want->key.p);
	struct draw d = { .rate = rate_of(want->burst, want->per_minute) };
	const struct draws draws = { &d, 1 };
	d.key = chatd_str_of(room, (size_t)n);
	d.shown = shown(d.key);
	d.bucket = self->backend->hold(self->store, d.key, now);
	if (!d.bucket) {
		return -ENOMEM;
	}
	int64_t never = want->burst + 1; /* any cost above this is as impossible */
	d.cost = want->cost < never ? want->cost : never;
	a->never = d.cost == never;
	const struct asker asker = { w, on_shared, a };
	chatd_status asked = self->redis ? shared_ask(self, &draws, &asker) : -EAGAIN;
	if (asked < 0) {
		(self->redis ? draws_take_part : draws_take)(self, &draws, now, &o);
		note(a, &o);
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

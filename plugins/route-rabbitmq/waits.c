/* SPDX-License-Identifier: Apache-2.0 */
#include "waits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void answer(struct wait *x, chatd_status rc)
{
	if (x->open) {
		x->open = 0;
		TAILQ_REMOVE(&x->home->waits.open, x, all);
		x->done(x->arg, rc);
	}
}

/* They all wait equally long, so the first one is the next. */
static void on_time(void *arg);

static void set_timer(struct home *o)
{
	const struct chatd_host *h = o->r->h;
	const struct wait *x = TAILQ_FIRST(&o->waits.open);
	if (x) {
		int64_t left = x->until - h->now_ms(o->w);
		h->timer_set(o->w, &o->waits.timer, left > 0 ? left : 0, on_time, o);
	} else {
		h->timer_clear(&o->waits.timer);
	}
}

static void on_time(void *arg)
{
	struct home *o = arg;
	struct wait *x;
	while ((x = TAILQ_FIRST(&o->waits.open)) && x->until <= o->r->h->now_ms(o->w)) {
		atomic_store(&o->r->slow, 1);
		count(o->r, COUNT_LATE);
		answer(x, -ETIMEDOUT);
	}
	set_timer(o);
}

static struct wait *next_finished(struct home *o)
{
	pthread_mutex_lock(&o->lock);
	struct wait *x = STAILQ_FIRST(&o->waits.finished);
	if (x) {
		STAILQ_REMOVE_HEAD(&o->waits.finished, finished);
	} else {
		o->waits.posted = 0;
	}
	pthread_mutex_unlock(&o->lock);
	return x;
}

static void on_finished(void *arg)
{
	struct home *o = arg;
	struct wait *x;
	while ((x = next_finished(o))) {
		atomic_store(&o->r->slow, 0);
		answer(x, x->rc);
		free(x);
	}
	if (!o->stopped) {
		set_timer(o);
	}
}

void wait_release(struct wait *x, chatd_status rc)
{
	struct home *o = x->home;
	x->rc = rc;
	pthread_mutex_lock(&o->lock);
	STAILQ_INSERT_TAIL(&o->waits.finished, x, finished);
	/* If that fails they are answered in time all the same, and freed with the next ones. */
	if (!o->waits.posted && o->r->h->post(o->w, on_finished, o) == 0) {
		o->waits.posted = 1;
	}
	pthread_mutex_unlock(&o->lock);
}

chatd_status waits_settle(void *self, chatd_worker *w, struct chatd_str dest,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	struct rabbit *r = self;
	struct home *o = &r->homes[r->h->worker_index(w)];
	if (o->stopped || atomic_load(&r->slow) || !r->conf->subscribe_wait ||
			!atomic_load(&r->consuming)) {
		return -EAGAIN;
	}
	struct wait *x = malloc(sizeof(*x));
	if (!x) {
		return -ENOMEM;
	}
	*x = (struct wait){ .home = o,
		.done = done,
		.arg = arg,
		.until = r->h->now_ms(w) + r->conf->subscribe_wait,
		.open = 1 };
	if (consumer_wait(r->consumer, dest, x) < 0) {
		free(x);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&o->waits.open, x, all);
	if (TAILQ_FIRST(&o->waits.open) == x) {
		set_timer(o);
	}
	return 0;
}

void waits_init(struct home *o)
{
	TAILQ_INIT(&o->waits.open);
	STAILQ_INIT(&o->waits.finished);
}

void waits_stop(struct home *o)
{
	struct wait *x;
	o->r->h->timer_clear(&o->waits.timer);
	while ((x = TAILQ_FIRST(&o->waits.open))) {
		answer(x, -ESHUTDOWN);
	}
}

void waits_finish(struct home *o)
{
	struct wait *x;
	while ((x = next_finished(o))) {
		free(x);
	}
}

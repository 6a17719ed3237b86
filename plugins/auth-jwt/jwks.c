/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of foreign issuers: fetched on the pool for worker 0, which decides when, and handed to
 * every worker as text; each has its own parsed copy, since libjose's are not for sharing. */
#include "auth.h"

#include "fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 256 };

struct waiter {
	struct waiter *next;
	chatd_token parked;
	const char *cred;
};

/* One fetch, and what came of it on its way to the workers. */
struct errand {
	const struct self *self;
	chatd_worker *to;
	size_t issuer;
	struct fetched got;
	chatd_buf *text; /* NULL: nothing new */
};

static struct errand *errand_create(const struct self *self, chatd_worker *to, size_t issuer)
{
	struct errand *e = self->h->mem_alloc(sizeof(*e));
	if (e) {
		*e = (struct errand){ .self = self, .to = to, .issuer = issuer };
	}
	return e;
}

static void errand_free(struct errand *e)
{
	const struct chatd_host *h = e->self->h;
	h->buf_unref(e->text);
	free(e->got.p);
	h->mem_free(e);
}

/* ---- on each worker ------------------------------------------------------------------- */

static void take_keys(struct worker_state *ws, size_t issuer, struct chatd_str jwks)
{
	char why[ISSUER_WHY] = "";
	const struct self *self = ws->self;
	json_t *keys = issuer_keys(issuer_at(self, issuer), jwks, why);
	if (keys) {
		json_decref(ws->foreign[issuer].keys);
		ws->foreign[issuer].keys = keys;
	} else if (ws->w == self->h->worker_at(0)) {
		(void)self->h->fail(self->ctx, -EINVAL, "the JWKS of issuer %s is kept as it was: %s",
				issuer_at(self, issuer)->issuer, why);
	}
}

static void on_arrival(void *arg)
{
	struct errand *e = arg;
	struct worker_state *ws = state_of(e->self, e->to);
	struct foreign *f = &ws->foreign[e->issuer];
	if (e->text) {
		take_keys(ws, e->issuer,
				chatd_str_of(e->self->h->buf_data(e->text), e->self->h->buf_len(e->text)));
	}
	struct waiter *list = f->waiting;
	f->waiting = NULL;
	f->n_waiting = 0;
	while (list) {
		struct waiter *w = list;
		list = w->next;
		enter_again(ws, w->parked, w->cred);
		e->self->h->mem_free(w);
	}
	errand_free(e);
}

static void send_to(const struct self *self, chatd_worker *to, size_t issuer, chatd_buf *text)
{
	struct errand *e = errand_create(self, to, issuer);
	if (!e) {
		return; /* whoever waits is refused at the call's deadline */
	}
	e->text = text ? self->h->buf_ref(text) : NULL;
	if (self->h->post(to, on_arrival, e) < 0) {
		errand_free(e);
	}
}

static void send_to_all(const struct self *self, size_t issuer, chatd_buf *text)
{
	for (int32_t i = 0; i < self->h->worker_count(); i++) {
		send_to(self, self->h->worker_at(i), issuer, text);
	}
}

/* ---- on worker 0: when to fetch ---------------------------------------------------------- */

static void fetch_work(void *arg)
{
	struct errand *e = arg;
	fetch_jwks(issuer_at(e->self, e->issuer), &e->got);
}

static void fetch_again(void *arg);

static void fetch_done(void *arg)
{
	struct errand *e = arg;
	const struct self *self = e->self;
	const struct chatd_host *h = self->h;
	struct worker_state *ws = state_of(self, e->to);
	chatd_buf *text = e->got.p ? h->buf_new(0, e->got.n) : NULL;
	ws->fetching[e->issuer].busy = 0;
	if (text) {
		memcpy(h->buf_data(text), e->got.p, e->got.n);
	} else {
		h->log(self->ctx, CHATD_LOG_WARN, "the JWKS of issuer %s: %s; the keys stay as they are",
				issuer_at(self, e->issuer)->issuer, e->got.p ? "no memory" : e->got.why);
	}
	send_to_all(self, e->issuer, text);
	h->buf_unref(text);
	errand_free(e);
}

/* 1: an answer will come to all workers. */
static int fetch(struct worker_state *ws, size_t issuer)
{
	const struct self *self = ws->self;
	struct fetching *f = &ws->fetching[issuer];
	int64_t now = self->h->now_ms(ws->w);
	if (f->busy) {
		return 1;
	}
	if (now < f->next) {
		return 0;
	}
	struct errand *e = errand_create(self, ws->w, issuer);
	if (!e || self->h->offload(ws->w, fetch_work, fetch_done, e) < 0) {
		self->h->mem_free(e);
		return 0;
	}
	f->busy = 1;
	f->next = now + self->conf->jwks_min_refresh;
	return 1;
}

static void plan(struct worker_state *ws, size_t issuer)
{
	struct fetching *f = &ws->fetching[issuer];
	ws->self->h->timer_set(ws->w, &f->timer, ws->self->conf->jwks_refresh, fetch_again, f);
}

static void fetch_again(void *arg)
{
	struct fetching *f = arg;
	struct worker_state *ws = f->home;
	size_t issuer = (size_t)(f - ws->fetching);
	(void)fetch(ws, issuer);
	plan(ws, issuer);
}

static void on_wish(void *arg)
{
	struct errand *e = arg;
	const struct self *self = e->self;
	struct worker_state *zero = state_of(self, self->h->worker_at(0));
	if (!fetch(zero, e->issuer)) {
		send_to(self, e->to, e->issuer, NULL); /* too soon: those who wait learn that */
	}
	errand_free(e);
}

chatd_verdict jwks_wait(struct worker_state *ws, chatd_call *call, const char *cred, size_t issuer)
{
	const struct self *self = ws->self;
	const struct chatd_host *h = self->h;
	struct foreign *f = &ws->foreign[issuer];
	struct waiter *w = f->n_waiting < WAITING_MAX ? h->mem_alloc(sizeof(*w)) : NULL;
	if (!w) {
		return h->reject(call, "UNAVAILABLE", "too many logins at once; try again");
	}
	if (!f->waiting) {
		struct errand *e = errand_create(self, ws->w, issuer);
		if (!e || h->post(h->worker_at(0), on_wish, e) < 0) {
			h->mem_free(e);
			h->mem_free(w);
			return -ENOMEM;
		}
	}
	*w = (struct waiter){ .next = f->waiting, .cred = cred };
	w->parked = h->suspend(call, NULL, NULL);
	if (!w->parked) {
		h->mem_free(w);
		return -EBUSY;
	}
	f->waiting = w;
	f->n_waiting++;
	return CHATD_WAIT;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Files are read at once, so that a bad one is found at the start; URLs when all is up. */
static chatd_status first_keys(struct worker_state *ws, size_t issuer)
{
	const struct self *self = ws->self;
	const struct issuer *is = issuer_at(self, issuer);
	struct fetched got;
	char why[ISSUER_WHY] = "";
	if (is->url) {
		return 0;
	}
	fetch_jwks(is, &got);
	if (got.p) {
		ws->foreign[issuer].keys = issuer_keys(is, chatd_str_of(got.p, got.n), why);
	}
	const char *fault = got.p ? why : got.why;
	chatd_status rc = ws->foreign[issuer].keys ? 0 : -EINVAL;
	if (rc < 0) {
		(void)self->h->fail(
				self->ctx, rc, "the JWKS of issuer %s (%s): %s", is->issuer, is->file, fault);
	}
	free(got.p);
	return rc;
}

chatd_status jwks_start(struct worker_state *ws)
{
	const struct self *self = ws->self;
	chatd_status rc = 0;
	for (size_t i = 0; i < self->conf->issuers.n && rc == 0; i++) {
		rc = first_keys(ws, i);
		if (rc == 0 && ws->w == self->h->worker_at(0)) {
			ws->fetching[i].home = ws;
			if (issuer_at(self, i)->url) {
				(void)fetch(ws, i);
			}
			plan(ws, i);
		}
	}
	return rc;
}

void jwks_stop(struct worker_state *ws)
{
	const struct chatd_host *h = ws->self->h;
	for (size_t i = 0; i < ISSUERS_MAX; i++) {
		h->timer_clear(&ws->fetching[i].timer);
		json_decref(ws->foreign[i].keys);
		ws->foreign[i].keys = NULL;
		while (ws->foreign[i].waiting) {
			struct waiter *w = ws->foreign[i].waiting;
			ws->foreign[i].waiting = w->next;
			h->mem_free(w);
		}
	}
}

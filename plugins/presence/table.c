/* SPDX-License-Identifier: Apache-2.0 */
/* Who watches whom on one worker. */
#include "presence.h"

static unsigned hash(const struct self *self, struct chatd_str user)
{
	return (unsigned)chatd_hash(&self->key, user.p, user.n);
}

chatd_worker *worker_of(const struct at *at)
{
	return at->self->h->worker_at((int32_t)(at - at->self->at));
}

struct watched *watched_find(const struct at *at, struct chatd_str user)
{
	struct watched *v = NULL;
	HASH_FIND_BYHASHVALUE(hh, at->users, user.p, user.n, hash(at->self, user), v);
	return v;
}

/* ---- the home's counters ------------------------------------------------------------------- */

static void on_more(void *arg)
{
	++*(uint32_t *)arg;
}

static void on_less(void *arg)
{
	--*(uint32_t *)arg;
}

static uint32_t *bucket_of(const struct at *at, struct chatd_str user)
{
	return &at->interest[hash(at->self, user) % BUCKETS];
}

/* ---- watched users ---------------------------------------------------------------------------- */

static struct watched *watched_create(struct at *at, struct chatd_str user)
{
	const struct chatd_host *h = at->self->h;
	struct watched *v = h->mem_alloc(sizeof(*v) + user.n);
	if (!v) {
		return NULL;
	}
	v->n = user.n;
	memcpy(v->id, user.p, user.n);
	LIST_INIT(&v->watchers);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, at->users, v->id, v->n, hash(at->self, user), v);
	if (!v->hh.tbl) {
		h->mem_free(v);
		return NULL;
	}
	/* Before look() is asked: what changes after its answer is handed to this worker. */
	if (h->post(h->worker_at(0), on_more, bucket_of(at, user)) < 0) {
		HASH_DEL(at->users, v);
		h->mem_free(v);
		return NULL;
	}
	v->round = at->round;
	TAILQ_INSERT_TAIL(&at->order, v, order);
	return v;
}

static void watched_free(struct at *at, struct watched *v)
{
	const struct chatd_host *h = at->self->h;
	/* A counter that stays too high costs a post now and then. */
	(void)h->post(h->worker_at(0), on_less, bucket_of(at, chatd_str_of(v->id, v->n)));
	TAILQ_REMOVE(&at->order, v, order);
	HASH_DEL(at->users, v);
	free((void *)(uintptr_t)v->state.text.p);
	h->mem_free(v);
}

/* ---- entries ----------------------------------------------------------------------------------- */

struct entry *entry_find(const struct watcher *s, const struct watched *v)
{
	struct entry *e = s->at && v ? LIST_FIRST(&s->entries) : NULL;
	while (e && e->watched != v) {
		e = LIST_NEXT(e, by_session);
	}
	return e;
}

struct entry *entry_add(struct at *at, struct watcher *s, struct chatd_str user)
{
	const struct chatd_host *h = at->self->h;
	struct entry *e = h->mem_alloc(sizeof(*e));
	struct watched *v = e ? watched_find(at, user) : NULL;
	v = v || !e ? v : watched_create(at, user);
	if (!v) {
		h->mem_free(e);
		return NULL;
	}
	*e = (struct entry){ .watched = v, .watcher = s };
	LIST_INSERT_HEAD(&v->watchers, e, by_user);
	LIST_INSERT_HEAD(&s->entries, e, by_session);
	s->n++;
	atomic_fetch_add(&at->self->watches, 1);
	count(at, at->self->count_watches, 1);
	return e;
}

void entry_free(struct entry *e)
{
	struct watched *v = e->watched;
	struct at *at = e->watcher->at;
	LIST_REMOVE(e, by_user);
	LIST_REMOVE(e, by_session);
	e->watcher->n--;
	atomic_fetch_sub(&at->self->watches, 1);
	count(at, at->self->count_watches, -1);
	at->self->h->mem_free(e);
	if (LIST_EMPTY(&v->watchers)) {
		watched_free(at, v);
	}
}

void watcher_drop(void *slot)
{
	struct watcher *s = slot;
	if (!s->at) {
		return;
	}
	while (!LIST_EMPTY(&s->entries)) {
		entry_free(LIST_FIRST(&s->entries));
	}
	LIST_REMOVE(s, all);
	s->at = NULL;
}

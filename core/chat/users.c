/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of each user on a worker, and what can be done to them while they are open. */
#include "chat/users.h"

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "chat/ident.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { BUCKETS_MIN = 64 };

/* One each_session() as one worker has it. */
struct visit {
	STAILQ_ENTRY(visit) link;
	struct chat_worker *cw;
	void (*fn)(const void *data, chatd_session *);
	int64_t linger_ms, until;
	uint32_t hash;
	int32_t everybody;
	size_t n_user, n_data;
	_Alignas(16) char data[]; /* the caller's bytes, then the user */
};

/* A chained hash of our own: two pointers a session, where uthash takes seven. */
struct user_table {
	chatd_session **bucket;
	uint32_t n_buckets, n;
	STAILQ_HEAD(, visit) lingering;
};

struct user_table *user_table_create(void)
{
	struct user_table *t = calloc(1, sizeof(*t));
	if (t) {
		STAILQ_INIT(&t->lingering);
	}
	return t;
}

static void drop_lingering(struct user_table *t)
{
	struct visit *v = STAILQ_FIRST(&t->lingering);
	STAILQ_REMOVE_HEAD(&t->lingering, link);
	free(v);
}

void user_table_destroy(struct user_table *t)
{
	if (t) {
		while (!STAILQ_EMPTY(&t->lingering)) {
			drop_lingering(t);
		}
		free(t->bucket);
		free(t);
	}
}

static uint32_t hash_of(struct chatd_str user)
{
	return (uint32_t)map_hash(user.p, user.n);
}

static void chain_in(chatd_session **bucket, chatd_session *s)
{
	s->user_next = *bucket;
	s->user_link = bucket;
	if (s->user_next) {
		s->user_next->user_link = &s->user_next;
	}
	*bucket = s;
}

static int grow(struct user_table *t)
{
	uint32_t n = t->n_buckets ? t->n_buckets * 2 : BUCKETS_MIN;
	chatd_session **bucket = calloc(n, sizeof(*bucket));
	if (!bucket) {
		return t->n_buckets ? 0 : -ENOMEM; /* longer chains are better than none */
	}
	for (uint32_t i = 0; i < t->n_buckets; i++) {
		for (chatd_session *s = t->bucket[i], *next; s; s = next) {
			next = s->user_next;
			chain_in(&bucket[s->user_hash & (n - 1)], s);
		}
	}
	free(t->bucket);
	t->bucket = bucket;
	t->n_buckets = n;
	return 0;
}

static void visit_one(const struct visit *v, chatd_session *s)
{
	struct chatd_str user = chatd_str_of(v->data + v->n_data, v->n_user);
	if (v->everybody || (s->user_hash == v->hash && str_eq(ident_user(s->ident), user))) {
		v->fn(v->data, s);
	}
}

int users_add(chatd_session *s)
{
	struct user_table *t = s->cw->users;
	if (t->n >= t->n_buckets && grow(t) < 0) {
		return -ENOMEM;
	}
	s->user_hash = hash_of(ident_user(s->ident));
	chain_in(&t->bucket[s->user_hash & (t->n_buckets - 1)], s);
	t->n++;
	int64_t now = STAILQ_EMPTY(&t->lingering) ? 0 : worker_now_ms(s->cw->w);
	struct visit *v;
	STAILQ_FOREACH (v, &t->lingering, link) {
		if (v->until > now) {
			visit_one(v, s);
		}
	}
	return 0;
}

void users_remove(chatd_session *s)
{
	if (s->user_link) {
		*s->user_link = s->user_next;
		if (s->user_next) {
			s->user_next->user_link = s->user_link;
		}
		s->user_link = NULL;
		s->cw->users->n--;
	}
}

/* What lingers is in the order of its coming, not of its end: the list is short. */
static void keep(struct user_table *t, struct visit *v, int64_t now)
{
	struct visit *old = STAILQ_FIRST(&t->lingering);
	while (old) {
		struct visit *next = STAILQ_NEXT(old, link);
		if (old->until <= now) {
			STAILQ_REMOVE(&t->lingering, old, visit, link);
			free(old);
		}
		old = next;
	}
	if (v->linger_ms > 0) {
		v->until = now + v->linger_ms;
		STAILQ_INSERT_TAIL(&t->lingering, v, link);
	} else {
		free(v);
	}
}

static void visit_bucket(const struct visit *v, chatd_session *s)
{
	for (chatd_session *next; s; s = next) {
		next = s->user_next;
		visit_one(v, s);
	}
}

static void on_visit(void *arg)
{
	struct visit *v = arg;
	struct user_table *t = v->cw->users;
	for (uint32_t i = 0; v->everybody && i < t->n_buckets; i++) {
		visit_bucket(v, t->bucket[i]);
	}
	if (!v->everybody && t->n_buckets) {
		visit_bucket(v, t->bucket[v->hash & (t->n_buckets - 1)]);
	}
	keep(t, v, worker_now_ms(v->cw->w));
}

chatd_status users_each(struct chat *chat, const struct chatd_each *e)
{
	chatd_status rc = 0;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		struct visit *v = calloc(1, sizeof(*v) + e->n + e->user.n);
		if (!v) {
			rc = -ENOMEM;
			continue;
		}
		v->cw = &chat->workers[i];
		v->fn = e->fn;
		v->linger_ms = e->linger_ms;
		v->everybody = !e->user.p;
		v->hash = e->user.p ? hash_of(e->user) : 0;
		v->n_user = e->user.n;
		v->n_data = e->n;
		if (e->n) {
			memcpy(v->data, e->data, e->n);
		}
		if (e->user.n) {
			memcpy(v->data + e->n, e->user.p, e->user.n);
		}
		if (worker_post(v->cw->w, on_visit, v) < 0) {
			log_limited(CHATD_LOG_ERROR, "core", "memory",
					"no memory: a change does not reach the sessions of one worker");
			free(v);
			rc = -ENOMEM;
		}
	}
	return rc;
}

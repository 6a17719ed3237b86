/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/touched.h
 * @brief Hears from the store whose account or logins were changed by other nodes.
 *
 * They tell each other of it (see events.h); this is for what did not come: while the broker is
 * away or silent the store is asked every second, else now and then.  Header only.  All of it
 * [worker 0] but for the zeroed memory, which lasts until fini().
 */
#ifndef CHATD_SDK_TOUCHED_H
#define CHATD_SDK_TOUCHED_H

#ifdef __cplusplus
#error "chatd-sdk/touched.h is for C"
#endif

#include <chatd/cluster.h>
#include <chatd/store.h>
#include <errno.h>

enum {
	CHATD_TOUCHED_MS = 1000,
	CHATD_TOUCHED_SILENT_MS = 3000, /* a broker that says so long nothing is not waited for */
	CHATD_TOUCHED_SELDOM = 15,      /* ticks between two questions while all is well */
	CHATD_TOUCHED_MAX = 200,        /* users at a time */
};

struct chatd_touched {
	const struct chatd_host *h;
	const struct chatd_service *store, *cluster;
	/** Look at that user's account and logins; ended: see chatd_store_touched. */
	void (*fn)(void *arg, chatd_worker *, struct chatd_str user, int64_t ended);
	void *arg;
	/* Its own. */
	chatd_worker *w;
	chatd_watch *timer;
	int32_t asking, dead, ticks, known;
	int64_t seen, before; /* before: what was seen when it was asked last */
};

static void chatd_touched_ask(struct chatd_touched *t);

static void chatd_touched_answer(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_touched *t = (struct chatd_touched *)arg;
	t->asking = 0;
	if (t->dead || rc < 0) {
		return;
	}
	for (size_t i = 0; t->known && i < a->n_changed; i++) {
		t->fn(t->arg, t->w, a->changed[i].conv.a, a->changed[i].seq);
	}
	int more = t->known && a->n_changed == CHATD_TOUCHED_MAX;
	t->before = t->known ? t->seen : a->pos;
	t->seen = more ? a->changed[a->n_changed - 1].pos : a->pos;
	t->known = 1;
	if (more) {
		chatd_touched_ask(t);
	}
}

static void chatd_touched_ask(struct chatd_touched *t)
{
	const struct chatd_store *store = (const struct chatd_store *)t->store->vt;
	/* At the start nobody is here whom a change of before could be news to. */
	const struct chatd_store_touched r = { .struct_size = sizeof(r),
		.limit = t->known ? CHATD_TOUCHED_MAX : 1,
		.after_pos = t->known ? t->seen : INT64_MAX };
	t->ticks = 0;
	if (!t->asking) {
		t->asking = store->touched(t->store->obj, t->w, &r, chatd_touched_answer, t) == 0;
	}
}

static void chatd_touched_tick(void *arg)
{
	struct chatd_touched *t = (struct chatd_touched *)arg;
	const struct chatd_cluster *cluster = (const struct chatd_cluster *)t->cluster->vt;
	int well = cluster->is_up(t->cluster->obj) &&
			!(CHATD_HAS(cluster, silent) &&
					cluster->silent(t->cluster->obj) >= CHATD_TOUCHED_SILENT_MS);
	if (!well || !t->known || ++t->ticks >= CHATD_TOUCHED_SELDOM) {
		chatd_touched_ask(t);
	}
}

/** What fn() was told last could not be looked at: it is told again. */
static inline void chatd_touched_again(struct chatd_touched *t)
{
	t->seen = t->before < t->seen ? t->before : t->seen;
	t->ticks = CHATD_TOUCHED_SELDOM;
}

/** 0, also where there is nobody to share with; -ENOMEM. */
static inline chatd_status chatd_touched_start(struct chatd_touched *t, chatd_worker *w)
{
	const struct chatd_store *store =
			t->store && t->cluster ? (const struct chatd_store *)t->store->vt : NULL;
	if (!store || !CHATD_HAS(store, touched) || t->h->worker_index(w) != 0) {
		return 0;
	}
	t->w = w;
	t->timer = t->h->watch_time(w, CHATD_TOUCHED_MS, 1, chatd_touched_tick, t);
	chatd_touched_ask(t);
	return t->timer ? 0 : -ENOMEM;
}

static inline void chatd_touched_stop(struct chatd_touched *t, chatd_worker *w)
{
	if (t->w == w) {
		t->h->unwatch(t->timer);
		t->timer = NULL;
		t->dead = 1;
	}
}

#endif

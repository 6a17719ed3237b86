/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/record_set.h
 * @brief A set of names that lasts, and that every worker of every node may look into at once.
 *
 * The names are the keys of records of one space of the store ("chatd.store/1").  Each worker has
 * the hashes of all of them, 16 to 32 bytes a name, so that a look is a hash and a load, and of an
 * empty set a comparison: for what is asked at every message and is true for few.  A change is
 * stored, then known to all workers of this node, then told to the others, then answered; a node
 * that was not told (the broker was away) finds it in the store within seconds, in the space
 * "NAME.log", where each change leaves a record for an hour.
 *
 * Header only.  A plugin that includes it links to jansson (json.h).
 */
#ifndef CHATD_SDK_RECORD_SET_H
#define CHATD_SDK_RECORD_SET_H

#ifdef __cplusplus
#error "chatd-sdk/record_set.h is for C"
#endif

#include <chatd-sdk/hash.h>
#include <chatd-sdk/json.h>
#include <chatd-sdk/open.h>
#include <chatd/cluster.h>
#include <chatd/store.h>

#include <errno.h>

enum {
	CHATD_SET_KEY_MAX = 200,
	CHATD_SET_PAGE = 1000,
	CHATD_SET_RETRY_MS = 1000,
	CHATD_SET_LOG_MS = 3600000,   /* how long a change can be found in the log */
	CHATD_SET_OVERLAP_MS = 60000, /* clocks of nodes differ, and commits take time */
	CHATD_SET_SELDOM = 15,        /* ticks between two looks while the broker is well */
	CHATD_SET_SILENT_MS = 3000,   /* a broker that says so long nothing is not waited for */
	CHATD_SET_REFRESH_MS =
			21600000, /* records that went with their owner's account: nobody says so */
};

struct chatd_set;

struct chatd_set_table {
	uint64_t *slots; /* 0: free */
	size_t cap, n;
};

/** What one worker knows. */
struct chatd_set_at {
	struct chatd_set *set;
	chatd_worker *w;
	struct chatd_set_table known, fresh; /* fresh: being loaded, and then in its place */
	int32_t loaded, loading, again, dead, asking;
	char after[CHATD_SET_KEY_MAX + 1]; /* how far it is loaded */
	struct chatd_timer retry, refresh;
	struct chatd_set_change *late;  /* what changed while it was being loaded, the newest first */
	struct chatd_set_change *stuck; /* there was no memory to pass them on */
	struct chatd_timer unstick;
	chatd_token *waiting; /* logins that wait until it is loaded */
	size_t n_waiting;
};

struct chatd_set {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct chatd_service *store, *cluster; /**< the latter may be NULL */
	const char *space;                           /**< a literal, also the kind of the event */
	/** Optional.  [worker, each] @p key is in the set now, or no more. */
	void (*changed)(void *arg, chatd_worker *, struct chatd_str key, int32_t on);
	void *arg;
	/* Its own. */
	char log[33];
	struct chatd_hash_key key;
	struct chatd_set_at *at;
	int32_t workers;
	struct chatd_open open; /* questions to the store; for busy() */
	/* Of worker 0: */
	struct chatd_set_change *asked; /* names that the store is being asked about, each once */
	chatd_watch *tick;
	int32_t ticks, looking, dead;
	int32_t pending; /* of what the last look has found, so much is still being asked about */
	int32_t missed;  /* by any worker: what another node told could not be looked at */
	int64_t looked;  /* wall-clock ms of the last look into the log that was answered to its end */
	int64_t from;    /* where that began to read */
	/* The look under way: when it began, how much it has found, how far it is. */
	int64_t began, found;
	char log_after[CHATD_SET_KEY_MAX + 32];
};

typedef void chatd_set_fn(void *arg, chatd_status rc);

/** A change on its way: stored, then through all workers and back.  What goes round is what the
 *  store says on worker 0 then, and of one name one after the other: so all workers come to the
 *  same end, whichever of two changes was stored last and whoever heard of it first. */
struct chatd_set_change {
	struct chatd_set_change *next;
	struct chatd_set_change *same; /* behind it: further ones of the same name */
	int32_t of_look;
	struct chatd_set *set;
	chatd_worker *from;
	int32_t on, tell, worker;
	chatd_set_fn *fn;
	void *arg;
	size_t n;
	char name[CHATD_SET_KEY_MAX + 1];
};

/* ---- the table: open addressing with linear probing ------------------------------------ */

static inline uint64_t chatd_set_hash(const struct chatd_set *s, struct chatd_str key)
{
	uint64_t x = chatd_hash(&s->key, key.p, key.n);
	return x ? x : 1;
}

static inline size_t chatd_set_find(const struct chatd_set_table *t, uint64_t x)
{
	size_t i = (size_t)x & (t->cap - 1);
	while (t->slots[i] && t->slots[i] != x) {
		i = (i + 1) & (t->cap - 1);
	}
	return i;
}

static inline int chatd_set_grow(const struct chatd_host *h, struct chatd_set_table *t)
{
	size_t cap = t->cap ? t->cap * 2 : 64;
	uint64_t *old = t->slots, *slots = (uint64_t *)h->mem_alloc(cap * sizeof(*slots));
	size_t n = t->cap;
	if (!slots) {
		return 0;
	}
	t->slots = slots;
	t->cap = cap;
	for (size_t i = 0; i < n; i++) {
		if (old[i]) {
			t->slots[chatd_set_find(t, old[i])] = old[i];
		}
	}
	h->mem_free(old);
	return 1;
}

static inline int chatd_set_add(const struct chatd_host *h, struct chatd_set_table *t, uint64_t x)
{
	if (2 * (t->n + 1) > t->cap && !chatd_set_grow(h, t)) {
		return 0;
	}
	size_t i = chatd_set_find(t, x);
	t->n += t->slots[i] == 0;
	t->slots[i] = x;
	return 1;
}

/* What follows without a gap moves up, if it may stand there. */
static inline void chatd_set_remove(struct chatd_set_table *t, uint64_t x)
{
	size_t mask = t->cap - 1, hole = t->cap ? chatd_set_find(t, x) : 0;
	if (!t->cap || !t->slots[hole]) {
		return;
	}
	t->n--;
	for (size_t i = (hole + 1) & mask; t->slots[i]; i = (i + 1) & mask) {
		size_t home = (size_t)t->slots[i] & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			t->slots[hole] = t->slots[i];
			hole = i;
		}
	}
	t->slots[hole] = 0;
}

static inline void chatd_set_empty(const struct chatd_host *h, struct chatd_set_table *t)
{
	h->mem_free(t->slots);
	t->slots = NULL;
	t->cap = t->n = 0;
}

/** [worker] 1: @p key is in the set; 0: it is not; -EAGAIN: that is not known yet. */
static inline int32_t chatd_set_has(
		const struct chatd_set *s, const chatd_worker *w, struct chatd_str key)
{
	const struct chatd_set_at *t = &s->at[s->h->worker_index(w)];
	if (!t->loaded) {
		return -EAGAIN;
	}
	if (!t->known.n) {
		return 0;
	}
	uint64_t x = chatd_set_hash(s, key);
	return t->known.slots[chatd_set_find(&t->known, x)] == x;
}

/** [worker] Nothing is in it, and that is known: who asks need not make up a key. */
static inline int chatd_set_is_empty(const struct chatd_set *s, const chatd_worker *w)
{
	const struct chatd_set_at *t = &s->at[s->h->worker_index(w)];
	return t->loaded && !t->known.n;
}

/* ---- a change goes round ------------------------------------------------------------------ */

static inline void chatd_set_step(void *arg);

static inline void chatd_set_done(void *arg)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	const struct chatd_host *h = c->set->h;
	if (c->fn) {
		c->fn(c->arg, 0);
	}
	h->mem_free(c);
}

static inline int chatd_set_apply(
		const struct chatd_set *s, struct chatd_set_table *to, const struct chatd_set_change *c)
{
	uint64_t x = chatd_set_hash(s, chatd_str_of(c->name, c->n));
	if (c->on) {
		return chatd_set_add(s->h, to, x);
	}
	chatd_set_remove(to, x);
	return 1;
}

static inline void chatd_set_call(const struct chatd_set_at *t, const struct chatd_set_change *c)
{
	if (t->set->changed) {
		t->set->changed(t->set->arg, t->w, chatd_str_of(c->name, c->n), c->on);
	}
}

/* A page of the store that was read before the change must not undo it. */
static inline void chatd_set_keep(struct chatd_set_at *t, const struct chatd_set_change *c)
{
	struct chatd_set_change *copy = (struct chatd_set_change *)c->set->h->mem_alloc(sizeof(*copy));
	if (copy) {
		*copy = *c;
		copy->next = t->late;
		t->late = copy;
	} else {
		t->again = 1;
	}
}

static inline void chatd_set_next(struct chatd_set_at *t, struct chatd_set_change *c);
static inline void chatd_set_first(void *arg);

static inline void chatd_set_unstick(void *arg)
{
	struct chatd_set_at *t = (struct chatd_set_at *)arg;
	struct chatd_set_change *c = t->stuck;
	t->stuck = NULL;
	while (c) {
		struct chatd_set_change *next = c->next;
		chatd_set_next(t, c);
		c = next;
	}
}

/* @p t: of the worker that this runs on.  Whoever waits for the change must hear of it, so one that
 * cannot be passed on is tried again. */
static inline void chatd_set_next(struct chatd_set_at *t, struct chatd_set_change *c)
{
	const struct chatd_host *h = c->set->h;
	int32_t last = c->worker == c->set->workers;
	chatd_worker *to = last ? c->from : h->worker_at(c->worker);
	void (*fn)(void *) = last ? chatd_set_done : c->worker ? chatd_set_step : chatd_set_first;
	if (h->post(to, fn, c) == 0) {
		return;
	}
	if (t->dead) { /* the server stops, and with it whoever waits */
		h->mem_free(c);
		return;
	}
	c->next = t->stuck;
	t->stuck = c;
	h->timer_set(t->w, &t->unstick, CHATD_SET_RETRY_MS, chatd_set_unstick, t);
}

static inline struct chatd_set_at *chatd_set_here(const struct chatd_set_change *c)
{
	return &c->set->at[c->set->h->worker_index(c->from)];
}

static inline void chatd_set_step(void *arg)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	struct chatd_set_at *t = &c->set->at[c->worker++];
	if (!t->dead) {
		int ok = chatd_set_apply(c->set, &t->known, c);
		if (t->loading) {
			ok = chatd_set_apply(c->set, &t->fresh, c) && ok;
			chatd_set_keep(t, c);
		}
		if (!ok) {
			c->set->h->log(c->set->ctx, CHATD_LOG_ERROR,
					"no memory: a change counts here only after some hours");
		}
		chatd_set_call(t, c);
	}
	chatd_set_next(t, c);
}

/* ---- what is true, on worker 0 ----------------------------------------------------------------- */

static inline void chatd_set_query(struct chatd_set_change *c);

/* Its turn is over, and that of the next one of its name has come. */
static inline void chatd_set_settle(struct chatd_set_change *c, chatd_status rc)
{
	struct chatd_set *s = c->set;
	struct chatd_set_change **at = &s->asked, *next = c->same;
	while (*at != c) {
		at = &(*at)->next;
	}
	*at = c->next;
	c->next = c->same = NULL;
	s->pending -= c->of_look;
	int unknown = rc < 0 && rc != -ENOENT;
	if (unknown) {
		__atomic_store_n(&s->missed, 1, __ATOMIC_RELAXED); /* the next look finds it */
	} else {
		c->on = rc == 0;
	}
	if (unknown && !c->fn) {
		s->h->mem_free(c);
	} else { /* of this node's own change at least this much is known: it was stored */
		chatd_set_step(c);
	}
	if (next) {
		next->next = s->asked;
		s->asked = next;
		chatd_set_query(next);
	}
}

static inline void chatd_set_truth(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	(void)a;
	chatd_open_end(&c->set->open);
	chatd_set_settle(c, rc);
}

static inline void chatd_set_query(struct chatd_set_change *c)
{
	struct chatd_set *s = c->set;
	const struct chatd_store *store = (const struct chatd_store *)s->store->vt;
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = chatd_str_of(s->space, strlen(s->space)),
		.key = chatd_str_of(c->name, c->n),
		.wall = s->h->wall_ms() };
	chatd_status rc = chatd_open_asked(
			&s->open, store->record_get(s->store->obj, s->at[0].w, &r, chatd_set_truth, c));
	if (rc < 0) {
		chatd_set_settle(c, rc == -ENOENT ? -EIO : rc);
	}
}

static inline void chatd_set_first(void *arg)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	struct chatd_set *s = c->set;
	for (struct chatd_set_change *at = s->asked; at; at = at->next) {
		if (at->n == c->n && memcmp(at->name, c->name, c->n) == 0) {
			while (at->same) {
				at = at->same;
			}
			at->same = c;
			return;
		}
	}
	c->next = s->asked;
	s->asked = c;
	chatd_set_query(c);
}

static inline void chatd_set_tell(struct chatd_set_change *c)
{
	const struct chatd_set *s = c->set;
	if (s->cluster && c->tell) {
		const struct chatd_cluster *cluster = (const struct chatd_cluster *)s->cluster->vt;
		const struct chatd_cluster_event e = { .struct_size = sizeof(e),
			.to = CHATD_CLUSTER_ALL,
			.kind = chatd_str_of(s->space, strlen(s->space)),
			.key = chatd_str_of(c->name, c->n),
			.body = chatd_str_of(c->name, c->n) };
		/* What does not get out is found in the log. */
		(void)cluster->send(s->cluster->obj, c->from, &e, NULL, NULL);
	}
	chatd_set_next(chatd_set_here(c), c);
}

/* ---- storing ----------------------------------------------------------------------------------- */

/** What is to be stored. */
struct chatd_set_put {
	struct chatd_str key;   /**< up to CHATD_SET_KEY_MAX bytes */
	struct chatd_str owner; /**< a user, whose account takes it along */
	struct chatd_str value;
	int32_t on;
	int64_t max; /**< of one owner; 0: any number */
};

static inline void chatd_set_fail(struct chatd_set_change *c, chatd_status rc)
{
	c->fn(c->arg, rc);
	c->set->h->mem_free(c);
}

static inline void chatd_set_logged(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	(void)rc;
	(void)a;
	chatd_open_end(&c->set->open);
	chatd_set_tell(c);
}

static inline void chatd_set_stored(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_set_change *c = (struct chatd_set_change *)arg;
	const struct chatd_set *s = c->set;
	const struct chatd_store *store = (const struct chatd_store *)s->store->vt;
	char key[CHATD_SET_KEY_MAX + 32];
	(void)a;
	chatd_open_end(&c->set->open);
	if (rc < 0) {
		chatd_set_fail(c, rc);
		return;
	}
	if (!s->cluster) {
		chatd_set_next(chatd_set_here(c), c);
		return;
	}
	int64_t now = s->h->wall_ms();
	int n = snprintf(key, sizeof(key), "%013lld.%s", (long long)now, c->name);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.space = chatd_str_of(s->log, strlen(s->log)),
		.key = chatd_str_of(key, (size_t)n),
		.value = CHATD_LIT(""),
		.expires = now + CHATD_SET_LOG_MS,
		.wall = now };
	if (chatd_open_asked(&c->set->open,
				store->record_put(s->store->obj, c->from, &r, chatd_set_logged, c)) < 0) {
		chatd_set_tell(c);
	}
}

/** [worker] fn runs once, later, on this worker, when all of this node know it, and what other
 *  nodes are told is on its way; unless an error is returned.  rc: as the store's. */
static inline chatd_status chatd_set_change(struct chatd_set *s, chatd_worker *w,
		const struct chatd_set_put *p, chatd_set_fn *fn, void *arg)
{
	const struct chatd_store *store = (const struct chatd_store *)s->store->vt;
	struct chatd_set_change *c = (struct chatd_set_change *)s->h->mem_alloc(sizeof(*c));
	chatd_status rc = p->key.n > CHATD_SET_KEY_MAX ? -EINVAL : c ? 0 : -ENOMEM;
	if (rc < 0) {
		s->h->mem_free(c);
		return rc;
	}
	*c = (struct chatd_set_change){
		.set = s, .from = w, .on = p->on, .tell = 1, .fn = fn, .arg = arg, .n = p->key.n
	};
	chatd_str_copy(c->name, sizeof(c->name), p->key);
	int64_t now = s->h->wall_ms();
	struct chatd_str space = chatd_str_of(s->space, strlen(s->space));
	if (p->on) {
		const struct chatd_store_record r = { .struct_size = sizeof(r),
			.space = space,
			.key = p->key,
			.value = p->value,
			.owner = p->owner,
			.max = p->max,
			.wall = now };
		rc = store->record_put(s->store->obj, w, &r, chatd_set_stored, c);
	} else {
		const struct chatd_store_record_key r = {
			.struct_size = sizeof(r), .space = space, .key = p->key, .wall = now
		};
		rc = store->record_end(s->store->obj, w, &r, chatd_set_stored, c);
	}
	if (chatd_open_asked(&s->open, rc) < 0) {
		s->h->mem_free(c);
	}
	return rc;
}

/* ---- what another node has changed ------------------------------------------------------------ */

/* Whatever was told, and in whatever order: the store knows how it is. */
static inline void chatd_set_ask(
		struct chatd_set *s, chatd_worker *w, struct chatd_str name, int32_t of_look)
{
	struct chatd_set_change *c;
	if (!name.n || name.n > CHATD_SET_KEY_MAX) {
		return;
	}
	c = (struct chatd_set_change *)s->h->mem_alloc(sizeof(*c));
	if (!c) {
		__atomic_store_n(&s->missed, 1, __ATOMIC_RELAXED);
		return;
	}
	*c = (struct chatd_set_change){ .set = s, .from = w, .n = name.n, .of_look = of_look };
	chatd_str_copy(c->name, sizeof(c->name), name);
	s->pending += of_look;
	chatd_set_next(chatd_set_here(c), c);
}

static inline void chatd_set_heard(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	chatd_set_ask((struct chatd_set *)arg, w, e->body, 0);
}

static inline void chatd_set_load(struct chatd_set_at *t);

/* All of it is read again, beside what is known, and takes its place when it is whole. */
static inline void chatd_set_reload(void *arg)
{
	struct chatd_set_at *t = (struct chatd_set_at *)arg;
	if (t->dead || t->loading) {
		t->again = !t->dead;
		return;
	}
	chatd_set_empty(t->set->h, &t->fresh);
	t->loading = 1;
	t->again = 0;
	t->after[0] = '\0';
	chatd_set_load(t);
}

static inline void chatd_set_look_on(struct chatd_set *s);

/* Few are not the end, none is. */
static inline void chatd_set_looked(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_set *s = (struct chatd_set *)arg;
	chatd_open_end(&s->open);
	s->looking = 0;
	if (s->dead || rc < 0) {
		return;
	}
	s->found += (int64_t)a->n_records;
	/* So many that it costs less to read the set than each of them; or some are gone already. */
	int all = s->found >= CHATD_SET_PAGE ||
			(s->looked && s->began - s->from > CHATD_SET_LOG_MS - 2 * CHATD_SET_OVERLAP_MS);
	for (size_t i = 0; !all && i < a->n_records; i++) {
		struct chatd_str key = a->records[i].key;
		if (key.n > 14) {
			chatd_set_ask(s, s->at[0].w, chatd_str_of(key.p + 14, key.n - 14), 1);
		}
	}
	if (!all && a->n_records) {
		chatd_str_copy(s->log_after, sizeof(s->log_after), a->records[a->n_records - 1].key);
		chatd_set_look_on(s);
		return;
	}
	s->looked = s->began;
	for (int32_t i = 0; all && i < s->workers; i++) {
		(void)s->h->post(s->h->worker_at(i), chatd_set_reload, &s->at[i]);
	}
}

static inline void chatd_set_look_on(struct chatd_set *s)
{
	const struct chatd_store *store = (const struct chatd_store *)s->store->vt;
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = CHATD_SET_PAGE,
		.space = chatd_str_of(s->log, strlen(s->log)),
		.after = chatd_str_of(s->log_after, strlen(s->log_after)),
		.wall = s->began };
	s->looking =
			chatd_open_asked(&s->open,
					store->record_list(s->store->obj, s->at[0].w, &r, chatd_set_looked, s)) == 0;
}

/* again: something that the last look has found could not be asked about. */
static inline void chatd_set_look(struct chatd_set *s, int again)
{
	s->ticks = 0;
	s->began = s->h->wall_ms();
	s->found = 0;
	if (!again || !s->from) {
		s->from = s->looked ? s->looked : s->began;
	}
	snprintf(s->log_after, sizeof(s->log_after), "%013lld",
			(long long)(s->from - CHATD_SET_OVERLAP_MS));
	chatd_set_look_on(s);
}

static inline void chatd_set_tick(void *arg)
{
	struct chatd_set *s = (struct chatd_set *)arg;
	const struct chatd_cluster *cluster = (const struct chatd_cluster *)s->cluster->vt;
	int well = cluster->is_up(s->cluster->obj) &&
			!(CHATD_HAS(cluster, silent) &&
					cluster->silent(s->cluster->obj) >= CHATD_SET_SILENT_MS);
	if (s->looking || s->pending) { /* what comes of it decides whether it is looked again */
		return;
	}
	int missed = __atomic_exchange_n(&s->missed, 0, __ATOMIC_RELAXED);
	if (!well || missed || ++s->ticks >= CHATD_SET_SELDOM) {
		chatd_set_look(s, missed);
	}
}

/* ---- at the start -------------------------------------------------------------------------------- */

static inline void chatd_set_load_again(void *arg)
{
	chatd_set_load((struct chatd_set_at *)arg);
}

static inline void chatd_set_ready(struct chatd_set_at *t)
{
	const struct chatd_host *h = t->set->h;
	struct chatd_set_change *order = NULL;
	int first = !t->loaded;
	while (t->late) { /* as they came */
		struct chatd_set_change *c = t->late;
		t->late = c->next;
		c->next = order;
		order = c;
	}
	chatd_set_empty(h, &t->known);
	t->known = t->fresh;
	t->fresh = (struct chatd_set_table){ NULL, 0, 0 };
	t->loaded = 1;
	t->loading = 0;
	while (order) {
		struct chatd_set_change *c = order;
		order = c->next;
		(void)chatd_set_apply(t->set, &t->known, c);
		if (first) {
			chatd_set_call(t, c);
		}
		h->mem_free(c);
	}
	for (size_t i = 0; i < t->n_waiting; i++) {
		(void)h->resume(t->waiting[i], CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(t->waiting);
	t->waiting = NULL;
	t->n_waiting = 0;
	if (t->again) {
		chatd_set_reload(t);
	} else {
		h->timer_set(t->w, &t->refresh, CHATD_SET_REFRESH_MS, chatd_set_reload, t);
	}
}

static inline void chatd_set_page(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chatd_set_at *t = (struct chatd_set_at *)arg;
	int ok = rc == 0;
	chatd_open_end(&t->set->open);
	t->asking = 0;
	if (t->dead) {
		return;
	}
	for (size_t i = 0; ok && i < a->n_records; i++) {
		ok = chatd_set_add(t->set->h, &t->fresh, chatd_set_hash(t->set, a->records[i].key));
	}
	if (!ok) {
		t->set->h->timer_set(t->w, &t->retry, CHATD_SET_RETRY_MS, chatd_set_load_again, t);
	} else if (a->n_records) { /* few are not the end, none is */
		chatd_str_copy(t->after, sizeof(t->after), a->records[a->n_records - 1].key);
		chatd_set_load(t);
	} else {
		chatd_set_ready(t);
	}
}

static inline void chatd_set_load(struct chatd_set_at *t)
{
	struct chatd_set *s = t->set;
	const struct chatd_store *store = (const struct chatd_store *)s->store->vt;
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = CHATD_SET_PAGE,
		.space = chatd_str_of(s->space, strlen(s->space)),
		.after = chatd_str_of(t->after[0] ? t->after : NULL, strlen(t->after)),
		.wall = s->h->wall_ms() };
	t->asking = chatd_open_asked(&s->open,
						store->record_list(s->store->obj, t->w, &r, chatd_set_page, t)) == 0;
	if (!t->asking) {
		s->h->timer_set(t->w, &t->retry, CHATD_SET_RETRY_MS, chatd_set_load_again, t);
	}
}

/** [worker] In a hook of session_open: nobody is let in before the set is known. */
static inline chatd_verdict chatd_set_wait(struct chatd_set *s, chatd_call *call)
{
	const struct chatd_host *h = s->h;
	struct chatd_set_at *t = &s->at[h->worker_index(h->call_worker(call))];
	if (t->loaded) {
		return CHATD_NEXT;
	}
	chatd_token *more = (chatd_token *)h->mem_alloc((t->n_waiting + 1) * sizeof(*more));
	chatd_token token = more ? h->suspend(call, NULL, NULL) : 0;
	if (!token) { /* it is let in, and what depends on the set is refused for the time being */
		h->mem_free(more);
		return CHATD_NEXT;
	}
	if (t->n_waiting) {
		memcpy(more, t->waiting, t->n_waiting * sizeof(*more));
	}
	more[t->n_waiting++] = token;
	h->mem_free(t->waiting);
	t->waiting = more;
	return CHATD_WAIT;
}

/* ---- life ----------------------------------------------------------------------------------------- */

/** [main] In init(), with the first fields filled. */
static inline chatd_status chatd_set_init(struct chatd_set *s)
{
	s->workers = s->h->worker_count();
	s->h->random(&s->key, sizeof(s->key));
	snprintf(s->log, sizeof(s->log), "%s.log", s->space);
	s->at = (struct chatd_set_at *)s->h->mem_alloc((size_t)s->workers * sizeof(*s->at));
	if (!s->at) {
		return -ENOMEM;
	}
	if (!s->cluster) {
		return 0;
	}
	const struct chatd_cluster *cluster = (const struct chatd_cluster *)s->cluster->vt;
	const struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = s->space, .fn = chatd_set_heard, .arg = s
	};
	return cluster->receive(s->cluster->obj, &r);
}

/** [worker] In worker_start(). */
static inline chatd_status chatd_set_start(struct chatd_set *s, chatd_worker *w)
{
	int32_t i = s->h->worker_index(w);
	struct chatd_set_at *t = &s->at[i];
	t->set = s;
	t->w = w;
	chatd_set_reload(t);
	if (s->cluster && i == 0) {
		s->tick = s->h->watch_time(w, 1000, 1, chatd_set_tick, s);
		return s->tick ? 0 : -ENOMEM;
	}
	return 0;
}

/** [worker] In worker_stop(). */
static inline void chatd_set_stop(struct chatd_set *s, chatd_worker *w)
{
	int32_t i = s->h->worker_index(w);
	struct chatd_set_at *t = &s->at[i];
	t->dead = 1;
	s->h->timer_clear(&t->retry);
	s->h->timer_clear(&t->refresh);
	s->h->timer_clear(&t->unstick);
	chatd_set_unstick(t); /* for the last time */
	while (t->late) {
		struct chatd_set_change *c = t->late;
		t->late = c->next;
		s->h->mem_free(c);
	}
	if (i == 0) {
		s->h->unwatch(s->tick);
		s->tick = NULL;
		s->dead = 1;
	}
}

/** [main] In fini(). */
static inline void chatd_set_finish(struct chatd_set *s)
{
	for (int32_t i = 0; s->at && i < s->workers; i++) {
		chatd_set_empty(s->h, &s->at[i].known);
		chatd_set_empty(s->h, &s->at[i].fresh);
		s->h->mem_free(s->at[i].waiting);
	}
	s->h->mem_free(s->at);
	s->at = NULL;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets in this process: a hash table in shards, found once per session and then drawn from
 * by their address.  It never holds more than it was told to, but for what sessions hold. */
#include "backend.h"

#include <chatd-sdk/hash.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum {
	SHARDS = 64,
	SCAN = 32, /**< lists that are looked through for one bucket to give up */
};

/** Its key is told by 128 bits of a keyed hash: nobody can make two of them meet. */
struct bucket {
	struct bucket *next;
	uint64_t key[2];
	_Atomic nanos full_at;
	atomic_uint holds;
};

struct shard {
	pthread_mutex_t lock; /**< of finding and forgetting; drawing takes none */
	struct bucket **list;
	size_t n, hand;
};

struct memory {
	const struct chatd_host *h;
	struct chatd_hash_key secret[2];
	size_t lists, max; /**< per shard */
	atomic_size_t tidied;
	struct shard shard[SHARDS];
};

void *memory_create(const struct chatd_host *h, int64_t max)
{
	struct memory *m = h->mem_alloc(sizeof(*m));
	if (!m) {
		return NULL;
	}
	m->h = h;
	m->max = (size_t)max / SHARDS + 1;
	m->lists = 1;
	while (m->lists < m->max) {
		m->lists *= 2;
	}
	h->random(m->secret, sizeof(m->secret));
	struct bucket **all = h->mem_alloc(SHARDS * m->lists * sizeof(struct bucket *));
	if (!all) {
		h->mem_free(m);
		return NULL;
	}
	for (size_t i = 0; i < SHARDS; i++) {
		m->shard[i].list = all + i * m->lists;
		pthread_mutex_init(&m->shard[i].lock, NULL);
	}
	return m;
}

static void destroy(void *obj)
{
	struct memory *m = obj;
	if (!m) {
		return;
	}
	for (size_t i = 0; i < SHARDS; i++) {
		for (size_t k = 0; k < m->lists; k++) {
			for (struct bucket *b = m->shard[i].list[k], *next; b; b = next) {
				next = b->next;
				m->h->mem_free(b);
			}
		}
		pthread_mutex_destroy(&m->shard[i].lock);
	}
	m->h->mem_free(m->shard[0].list);
	m->h->mem_free(m);
}

static int is_held(struct bucket *b)
{
	return atomic_load_explicit(&b->holds, memory_order_acquire) != 0;
}

/* Forgetting a full bucket loses nothing: a new one is full as well. */
static int is_idle(struct bucket *b, nanos now)
{
	return !is_held(b) && atomic_load_explicit(&b->full_at, memory_order_relaxed) <= now;
}

static void drop(struct memory *m, struct shard *s, struct bucket **at)
{
	struct bucket *b = *at;
	*at = b->next;
	s->n--;
	m->h->mem_free(b);
}

/* Drops the idle ones of @p n lists; *ret_fullest is what comes closest among the others. */
static size_t sweep(
		struct memory *m, struct shard *s, size_t n, nanos now, struct bucket ***ret_fullest)
{
	size_t dropped = 0;
	*ret_fullest = NULL;
	for (size_t i = 0; i < n; i++) {
		s->hand = (s->hand + 1) & (m->lists - 1);
		struct bucket **at = &s->list[s->hand];
		while (*at) {
			if (is_idle(*at, now)) {
				drop(m, s, at);
				dropped++;
				continue;
			}
			if (!is_held(*at) &&
					(!*ret_fullest ||
							atomic_load_explicit(&(*at)->full_at, memory_order_relaxed) <
									atomic_load_explicit(
											&(**ret_fullest)->full_at, memory_order_relaxed))) {
				*ret_fullest = at;
			}
			at = &(*at)->next;
		}
	}
	return dropped;
}

/* Over the bound.  If nothing is idle, the one that is missing least makes room: what its owner
 * gains by that is the least.  Where all are held there is one session per bucket, and sessions
 * are bounded by others. */
static void make_room(struct memory *m, struct shard *s, nanos now)
{
	struct bucket **fullest;
	size_t n = m->lists < SCAN ? m->lists : SCAN;
	if (sweep(m, s, n, now, &fullest) == 0 && fullest) {
		drop(m, s, fullest);
	}
}

/* Zeroed, it is full whatever time it is. */
static struct bucket *add(struct memory *m, struct shard *s, const uint64_t key[2], nanos now)
{
	if (s->n >= m->max) {
		make_room(m, s, now);
	}
	struct bucket *b = m->h->mem_alloc(sizeof(*b));
	if (b) {
		struct bucket **list = &s->list[key[1] & (m->lists - 1)];
		b->key[0] = key[0];
		b->key[1] = key[1];
		b->next = *list;
		*list = b;
		s->n++;
	}
	return b;
}

static struct bucket *find(struct memory *m, struct shard *s, const uint64_t key[2])
{
	struct bucket *b = s->list[key[1] & (m->lists - 1)];
	while (b && (b->key[0] != key[0] || b->key[1] != key[1])) {
		b = b->next;
	}
	return b;
}

static chatd_status hold_one_of(
		void *obj, struct chatd_str text, int64_t max, nanos now, struct bucket **ret)
{
	struct memory *m = obj;
	const uint64_t key[2] = { chatd_hash(&m->secret[0], text.p, text.n),
		chatd_hash(&m->secret[1], text.p, text.n) };
	struct shard *s = &m->shard[key[0] % SHARDS];
	chatd_status rc = 0;
	*ret = NULL;
	pthread_mutex_lock(&s->lock);
	struct bucket *b = find(m, s, key);
	if (!b) {
		b = add(m, s, key, now);
	}
	if (!b) {
		rc = -ENOMEM;
	} else if (atomic_load_explicit(&b->holds, memory_order_relaxed) >= max) {
		rc = -EDQUOT;
	} else {
		atomic_fetch_add_explicit(&b->holds, 1, memory_order_relaxed);
		*ret = b;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static struct bucket *hold(void *obj, struct chatd_str text, nanos now)
{
	struct bucket *b;
	return hold_one_of(obj, text, UINT32_MAX, now, &b) == 0 ? b : NULL;
}

/* Nothing of the bucket is touched after this: with the lock in hand, others may forget it. */
static void release(struct bucket *b)
{
	if (b) {
		atomic_fetch_sub_explicit(&b->holds, 1, memory_order_release);
	}
}

static chatd_status draw(
		struct bucket *b, const struct rate *r, int64_t cost, nanos now, struct drawn *ret)
{
	return bucket_draw(&b->full_at, r, cost, now, ret);
}

static void give(struct bucket *b, const struct rate *r, int64_t cost)
{
	bucket_give(&b->full_at, r, cost);
}

static chatd_status look(
		struct bucket *b, const struct rate *r, int64_t cost, nanos now, struct drawn *ret)
{
	return bucket_look(&b->full_at, r, cost, now, ret);
}

static void raise_to(struct bucket *b, nanos at)
{
	bucket_raise(&b->full_at, at);
}

static void keep(struct bucket *b)
{
	atomic_fetch_add_explicit(&b->holds, 1, memory_order_relaxed);
}

static void tidy(void *obj, nanos now)
{
	struct memory *m = obj;
	size_t which = atomic_fetch_add_explicit(&m->tidied, 1, memory_order_relaxed) % SHARDS;
	struct shard *s = &m->shard[which];
	struct bucket **fullest;
	pthread_mutex_lock(&s->lock);
	if (s->n) {
		sweep(m, s, m->lists, now, &fullest);
	}
	pthread_mutex_unlock(&s->lock);
}

size_t memory_count(void *obj)
{
	struct memory *m = obj;
	size_t n = 0;
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&m->shard[i].lock);
		n += m->shard[i].n;
		pthread_mutex_unlock(&m->shard[i].lock);
	}
	return n;
}

const struct backend memory_backend = {
	.hold = hold,
	.hold_one_of = hold_one_of,
	.release = release,
	.draw = draw,
	.give = give,
	.look = look,
	.raise = raise_to,
	.keep = keep,
	.tidy = tidy,
	.destroy = destroy,
};

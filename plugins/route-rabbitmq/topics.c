/* SPDX-License-Identifier: Apache-2.0 */
#include "topics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct topic {
	UT_hash_handle hh;
	TAILQ_ENTRY(topic) link; /* of .idle if it is off, of .unbound if it waits for that */
	int32_t on, unbound;
	uint64_t place; /* of its binding: they are asked for in this order */
	int64_t off_at;
	size_t n;
	char dest[];
};
TAILQ_HEAD(list, topic);

struct topics {
	struct chatd_hash_key key;
	int64_t unbind_after;
	uint64_t places;
	struct topic *all;
	struct list idle, unbound;
};

struct topics *topics_create(const struct chatd_hash_key *key, int64_t unbind_after)
{
	struct topics *t = calloc(1, sizeof(*t));
	if (t) {
		t->key = *key;
		t->unbind_after = unbind_after;
		TAILQ_INIT(&t->idle);
		TAILQ_INIT(&t->unbound);
	}
	return t;
}

static struct topic *find(const struct topics *t, struct chatd_str dest)
{
	struct topic *x = NULL;
	unsigned hash = (unsigned)chatd_hash(&t->key, dest.p, dest.n);
	HASH_FIND_BYHASHVALUE(hh, t->all, dest.p, dest.n, hash, x);
	return x;
}

static struct topic *add(struct topics *t, struct chatd_str dest)
{
	struct topic *x = malloc(sizeof(*x) + dest.n);
	if (!x) {
		return NULL;
	}
	memset(x, 0, sizeof(*x));
	memcpy(x->dest, dest.p, dest.n);
	x->n = dest.n;
	unsigned hash = (unsigned)chatd_hash(&t->key, dest.p, dest.n);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, t->all, x->dest, x->n, hash, x);
	if (!x->hh.tbl) {
		free(x);
		return NULL;
	}
	return x;
}

static void drop(struct topics *t, struct topic *x)
{
	HASH_DEL(t->all, x);
	free(x);
}

void topics_destroy(struct topics *t)
{
	struct topic *x, *next;
	if (!t) {
		return;
	}
	HASH_ITER(hh, t->all, x, next)
	{
		drop(t, x);
	}
	free(t);
}

static void go_unbound(struct topics *t, struct topic *x)
{
	x->unbound = 1;
	x->place = ++t->places;
	TAILQ_INSERT_TAIL(&t->unbound, x, link);
}

static void set_off(struct topics *t, struct topic *x, int64_t now)
{
	x->on = 0;
	if (x->unbound) { /* it never was */
		TAILQ_REMOVE(&t->unbound, x, link);
		drop(t, x);
		return;
	}
	x->off_at = now;
	TAILQ_INSERT_TAIL(&t->idle, x, link);
}

chatd_status topics_set(struct topics *t, struct chatd_str dest, int on, int64_t now)
{
	struct topic *x = find(t, dest);
	if (x && !on && x->on) {
		set_off(t, x, now);
	} else if (x && on && !x->on) {
		TAILQ_REMOVE(&t->idle, x, link);
		x->on = 1;
	} else if (!x && on) {
		x = add(t, dest);
		if (!x) {
			return -ENOMEM;
		}
		x->on = 1;
		go_unbound(t, x);
	}
	return 0;
}

int topics_has(const struct topics *t, struct chatd_str dest)
{
	return find(t, dest) != NULL;
}

uint64_t topics_place(const struct topics *t, struct chatd_str dest)
{
	const struct topic *x = find(t, dest);
	return x ? x->place : 0;
}

uint64_t topics_bind(struct topics *t, char ret[WIRE_RKEY])
{
	struct topic *x = TAILQ_FIRST(&t->unbound);
	if (!x) {
		return 0;
	}
	TAILQ_REMOVE(&t->unbound, x, link);
	x->unbound = 0;
	wire_topic_key(chatd_str_of(x->dest, x->n), ret);
	return x->place;
}

int topics_unbind(struct topics *t, int64_t now, char ret[WIRE_RKEY])
{
	struct topic *x = TAILQ_FIRST(&t->idle);
	if (!x || now - x->off_at < t->unbind_after) {
		return 0;
	}
	TAILQ_REMOVE(&t->idle, x, link);
	wire_topic_key(chatd_str_of(x->dest, x->n), ret);
	drop(t, x);
	return 1;
}

void topics_reset(struct topics *t)
{
	struct topic *x, *next;
	HASH_ITER(hh, t->all, x, next)
	{
		if (!x->on) {
			TAILQ_REMOVE(&t->idle, x, link);
			drop(t, x);
		} else if (!x->unbound) {
			go_unbound(t, x);
		}
	}
}

size_t topics_count(const struct topics *t)
{
	return HASH_COUNT(t->all);
}

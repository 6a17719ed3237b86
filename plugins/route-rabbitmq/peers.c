/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PEERS = 256 };

struct peer {
	char rkey[WIRE_RKEY];
	int64_t heard;
};

struct peers {
	pthread_mutex_t lock;
	struct peer all[PEERS];
	size_t n;
};

struct peers *peers_create(void)
{
	struct peers *p = calloc(1, sizeof(*p));
	if (p) {
		pthread_mutex_init(&p->lock, NULL);
	}
	return p;
}

void peers_destroy(struct peers *p)
{
	if (p) {
		pthread_mutex_destroy(&p->lock);
	}
	free(p);
}

static int is_there(const struct peer *x, int64_t now)
{
	return now - x->heard < PEERS_FORGET_MS;
}

/* With the lock; NULL: there is none. */
static struct peer *find(struct peers *p, const char *rkey)
{
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->all[i].rkey, rkey) == 0) {
			return &p->all[i];
		}
	}
	return NULL;
}

/* In the place of one that has not been heard for long; NULL: there are too many. */
static struct peer *add(struct peers *p, int64_t now)
{
	for (size_t i = 0; i < p->n; i++) {
		if (!is_there(&p->all[i], now)) {
			return &p->all[i];
		}
	}
	return p->n < PEERS ? &p->all[p->n++] : NULL;
}

int peers_heard(struct peers *p, struct chatd_str node, int64_t now)
{
	char rkey[WIRE_RKEY];
	wire_node_key(node, rkey);
	pthread_mutex_lock(&p->lock);
	struct peer *x = find(p, rkey);
	int fresh = !x || !is_there(x, now);
	x = x ? x : add(p, now);
	if (x) {
		memcpy(x->rkey, rkey, sizeof(rkey));
		x->heard = now;
	}
	pthread_mutex_unlock(&p->lock);
	return fresh;
}

int peers_one(struct peers *p, const char *rkey, int64_t now)
{
	pthread_mutex_lock(&p->lock);
	const struct peer *x = find(p, rkey);
	int can = x && is_there(x, now);
	pthread_mutex_unlock(&p->lock);
	return can;
}

static int32_t how_many(struct peers *p, int64_t now)
{
	int32_t n = 1; /* this one */
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n; i++) {
		n += is_there(&p->all[i], now);
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

int peers_all(struct peers *p, int32_t live, int64_t now)
{
	return live > 0 && how_many(p, now) >= live;
}

int peers_more(struct peers *p, int32_t live, int64_t now)
{
	return live > 0 && how_many(p, now) > live;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From an event to AMQP messages: where its users are is asked, and while the answer is not
 * there what comes later for the same key waits behind it.  [worker] */
#include "rabbit.h"

#include <chatd-sdk/hash.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct turn {
	STAILQ_ENTRY(turn) link;
	struct lane *lane; /* NULL: it has no key, and no order */
	struct item *item;
	struct home *home;
	int32_t resolved;
	struct legs parcels;
};

struct lane {
	UT_hash_handle hh;
	STAILQ_HEAD(turns, turn) turns;
	size_t n;
	char key[];
};

/* ---- parcels ------------------------------------------------------------------------------ */

static void post_all(struct home *o, struct legs *parcels)
{
	struct leg *l;
	while ((l = STAILQ_FIRST(parcels))) {
		STAILQ_REMOVE_HEAD(parcels, link);
		publisher_push(o->r->publisher, (struct parcel *)l);
	}
}

static void drop_all(struct legs *parcels, chatd_status rc)
{
	struct leg *l;
	while ((l = STAILQ_FIRST(parcels))) {
		STAILQ_REMOVE_HEAD(parcels, link);
		parcel_settle((struct parcel *)l, rc);
	}
}

static void add_parcel(struct legs *parcels, struct item *i, const char *rkey, int directed)
{
	struct parcel *p = parcel_create(i, rkey, directed);
	if (p) {
		STAILQ_INSERT_TAIL(parcels, &p->leg, link);
	} else {
		/* Only remembered: the reference that is given up here is taken first. */
		item_ref(i);
		item_unref(i, -ENOMEM);
	}
}

static void address(struct legs *parcels, struct item *i, const struct chatd_cluster_event *e)
{
	char rkey[WIRE_RKEY];
	switch (e->to) {
	case CHATD_CLUSTER_NODE:
		wire_node_key(e->node, rkey);
		add_parcel(parcels, i, rkey, 1);
		break;
	case CHATD_CLUSTER_TOPIC:
		wire_topic_key(e->topic, rkey);
		add_parcel(parcels, i, rkey, 0);
		break;
	default:
		add_parcel(parcels, i, "chat.all", 0);
	}
}

/* ---- order --------------------------------------------------------------------------------- */

static unsigned hash_of(const struct home *o, struct chatd_str key)
{
	return (unsigned)chatd_hash(&o->r->hash, key.p, key.n);
}

static struct lane *lane_find(struct home *o, struct chatd_str key)
{
	struct lane *l = NULL;
	if (key.p) {
		HASH_FIND_BYHASHVALUE(hh, o->lanes, key.p, key.n, hash_of(o, key), l);
	}
	return l;
}

static struct lane *lane_obtain(struct home *o, struct chatd_str key)
{
	struct lane *l = lane_find(o, key);
	if (l || !key.p) {
		return l;
	}
	l = malloc(sizeof(*l) + key.n);
	if (!l) {
		return NULL;
	}
	memset(l, 0, sizeof(*l));
	STAILQ_INIT(&l->turns);
	memcpy(l->key, key.p, key.n);
	l->n = key.n;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, o->lanes, l->key, l->n, hash_of(o, key), l);
	if (!l->hh.tbl) {
		free(l);
		return NULL;
	}
	return l;
}

static void turn_end(struct turn *t)
{
	post_all(t->home, &t->parcels);
	item_unref(t->item, 0);
	free(t);
}

/* What is known by now and has its turn goes out. */
static void lane_run(struct home *o, struct lane *l)
{
	struct turn *t;
	while ((t = STAILQ_FIRST(&l->turns)) && t->resolved) {
		STAILQ_REMOVE_HEAD(&l->turns, link);
		turn_end(t);
	}
	if (!t) {
		HASH_DEL(o->lanes, l);
		free(l);
	}
}

static void resolved(struct turn *t)
{
	t->resolved = 1;
	if (t->lane) {
		lane_run(t->home, t->lane);
	} else {
		turn_end(t);
	}
}

/* A node that is cut off from Redis alone serves on, and its users are said to be nowhere.  A node that
 * has just begun or ended looks the same for a few seconds, and costs one message to all. */
static int somebody_is_unknown(struct rabbit *r)
{
	const struct chatd_presence *p = r->presence->vt;
	return CHATD_HAS(p, live) && p->live &&
			peers_more(r->peers, p->live(r->presence->obj), clock_ms());
}

static void on_nodes(void *arg, chatd_status rc, const struct chatd_str *nodes, size_t n)
{
	struct turn *t = arg;
	struct rabbit *r = t->home->r;
	int to_all = rc < 0 || somebody_is_unknown(r);
	if (to_all) {
		add_parcel(&t->parcels, t->item, "chat.all", 0);
	}
	for (size_t i = 0; !to_all && i < n; i++) {
		char rkey[WIRE_RKEY];
		if (wire_is_node(nodes[i]) &&
				!(nodes[i].n == r->node.n && memcmp(nodes[i].p, r->node.p, r->node.n) == 0)) {
			wire_node_key(nodes[i], rkey);
			add_parcel(&t->parcels, t->item, rkey, 1);
		}
	}
	resolved(t);
}

static const struct chatd_presence *who_knows(const struct rabbit *r)
{
	const struct chatd_presence *p = r->presence ? r->presence->vt : NULL;
	return p && CHATD_HAS(p, nodes) ? p : NULL;
}

static struct turn *turn_create(struct home *o, struct item *i, struct lane *l)
{
	struct turn *t = malloc(sizeof(*t));
	if (t) {
		memset(t, 0, sizeof(*t));
		t->home = o;
		t->item = i;
		t->lane = l;
		STAILQ_INIT(&t->parcels);
		if (l) {
			STAILQ_INSERT_TAIL(&l->turns, t, link);
		}
	}
	return t;
}

void out_submit(struct home *o, struct item *i, const struct chatd_cluster_event *e)
{
	const struct chatd_presence *p = e->to == CHATD_CLUSTER_USERS ? who_knows(o->r) : NULL;
	struct lane *l = p ? lane_obtain(o, e->key) : lane_find(o, e->key);
	struct turn *t = p || l ? turn_create(o, i, l) : NULL;
	if (!t) { /* nothing to wait for, or no memory: then order must do without */
		if (l && STAILQ_EMPTY(&l->turns)) {
			lane_run(o, l);
		}
		struct legs now = STAILQ_HEAD_INITIALIZER(now);
		address(&now, i, e);
		post_all(o, &now);
		item_unref(i, 0);
		return;
	}
	if (!p) {
		address(&t->parcels, i, e);
		t->resolved = 1; /* its turn comes with those before it */
		return;
	}
	if (p->nodes(o->r->presence->obj, o->w, e->users, e->n_users, on_nodes, t) < 0) {
		on_nodes(t, -EAGAIN, NULL, 0);
	}
}

void out_finish(struct home *o)
{
	struct lane *l, *next;
	HASH_ITER(hh, o->lanes, l, next)
	{
		struct turn *t;
		while ((t = STAILQ_FIRST(&l->turns))) {
			STAILQ_REMOVE_HEAD(&l->turns, link);
			drop_all(&t->parcels, -ESHUTDOWN);
			item_unref(t->item, -ESHUTDOWN);
			free(t);
		}
		HASH_DEL(o->lanes, l);
		free(l);
	}
}

/* ---- chatd.cluster/1 -------------------------------------------------------------------------- */

static struct home *home_of(struct rabbit *r, chatd_worker *w)
{
	return &r->homes[r->h->worker_index(w)];
}

static void wait_for(struct home *o, struct item *i, void (*done)(void *, chatd_status), void *arg)
{
	i->home = o;
	i->done = done;
	i->arg = arg;
	i->open = 1;
	TAILQ_INSERT_TAIL(&o->open, i, all);
}

chatd_status out_send(void *obj, chatd_worker *w, const struct chatd_cluster_event *e,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	struct rabbit *r = obj;
	struct home *o = home_of(r, w);
	char id[64];
	struct wire_sender s = { .node = r->node,
		.epoch = chatd_str_of(r->epoch, strlen(r->epoch)),
		.number = atomic_fetch_add(&r->numbers, 1) + 1 };
	int n = snprintf(id, sizeof(id), "%s-%llu", r->epoch, (unsigned long long)s.number);
	struct item *i;
	s.message_id = chatd_str_of(id, (size_t)n);
	s.content_type = chatd_cluster_get(e, CHATD_LIT("content-type"));
	if (o->stopped) {
		return -EAGAIN;
	}
	chatd_status rc = item_create(r, e, &s, &i);
	if (rc < 0) {
		return rc;
	}
	if (done) {
		wait_for(o, i, done, arg);
	}
	if (i->ephemeral && !rabbit_is_up(r)) {
		count(r, COUNT_AWAY);
		item_unref(i, -ENOTCONN);
		return 0;
	}
	out_submit(o, i, e);
	return 0;
}

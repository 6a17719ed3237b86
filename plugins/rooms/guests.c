/* SPDX-License-Identifier: Apache-2.0 */
/* Guests who do not come back leave their rooms, so that rooms do not fill with ghosts.
 * On one worker: a few guests at a time, round and round, are looked up in the presence
 * service.  Since when one is away is known here alone: after a restart it counts anew. */
#include "rooms.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { BATCH = 256, TICK_MIN_MS = 100, TICK_MAX_MS = 10000 };

struct away {
	UT_hash_handle hh;
	int64_t since;
	uint32_t round; /* in which it was seen last */
	char id[CHATD_ID_MAX + 1];
};

struct guest {
	char id[CHATD_ID_MAX + 1], nick[NICK_MAX + 1];
};

struct sweep {
	struct self *self;
	chatd_worker *w;
	chatd_watch *timer;
	struct away *away;
	uint32_t round;
	int32_t asking, dead; /* dead: whoever answers next frees it */
	size_t n;
	char after[CHATD_ID_MAX + 1];
	struct guest batch[BATCH];
};

static void free_all(struct sweep *s)
{
	struct away *a, *next;
	HASH_ITER(hh, s->away, a, next)
	{
		HASH_DEL(s->away, a);
		s->self->h->mem_free(a);
	}
	s->self->h->mem_free(s);
}

static struct away *find(struct sweep *s, const char *id)
{
	struct away *a = NULL;
	HASH_FIND_STR(s->away, id, a);
	return a;
}

static void forget(struct sweep *s, struct away *a)
{
	if (a) {
		HASH_DEL(s->away, a);
		s->self->h->mem_free(a);
	}
}

/* Once round: who is in no room any more is none of ours. */
static void end_round(struct sweep *s)
{
	struct away *a, *next;
	HASH_ITER(hh, s->away, a, next)
	{
		if (a->round != s->round) {
			forget(s, a);
		}
	}
	s->round++;
	s->after[0] = '\0';
}

static void gone_done(struct op *op)
{
	op_free(op);
}

static void leave_all(struct sweep *s, const struct guest *g)
{
	struct op *op = op_create(s->self, s->w, OP_GONE);
	if (!op) {
		return;
	}
	chatd_str_copy(op->target, sizeof(op->target), text(g->id));
	chatd_str_copy(op->nick, sizeof(op->nick), text(g->nick));
	op->guest = 1;
	op->done = gone_done;
	if (op_submit(op) < 0) {
		op_free(op);
	}
}

static void is_away(struct sweep *s, const struct guest *g)
{
	int64_t now = s->self->h->now_ms(s->w);
	struct away *a = find(s, g->id);
	if (!a) {
		a = s->self->h->mem_alloc(sizeof(*a));
		if (!a) {
			return;
		}
		a->since = now;
		memcpy(a->id, g->id, sizeof(a->id));
		HASH_ADD_STR(s->away, id, a);
		if (!a->hh.tbl) { /* no memory */
			s->self->h->mem_free(a);
			return;
		}
	}
	a->round = s->round;
	if (now - a->since >= s->self->conf->guest_linger) {
		leave_all(s, g);
	}
}

static int answered(struct sweep *s)
{
	s->asking = 0;
	if (s->dead) {
		free_all(s);
		return 0;
	}
	return 1;
}

static void presence_done(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct sweep *s = arg;
	if (!answered(s) || rc < 0) {
		return;
	}
	for (size_t i = 0; i < n && i < s->n; i++) {
		if (online[i]) {
			forget(s, find(s, s->batch[i].id));
		} else {
			is_away(s, &s->batch[i]);
		}
	}
	if (n < BATCH) {
		end_round(s);
	} else {
		memcpy(s->after, s->batch[n - 1].id, sizeof(s->after));
	}
}

static void members_done(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sweep *s = arg;
	struct chatd_str users[BATCH];
	if (!answered(s) || rc < 0) {
		return;
	}
	s->n = a->n_members < BATCH ? a->n_members : BATCH;
	for (size_t i = 0; i < s->n; i++) {
		chatd_str_copy(s->batch[i].id, sizeof(s->batch[i].id), a->members[i].user);
		chatd_str_copy(s->batch[i].nick, sizeof(s->batch[i].nick), a->members[i].nick);
		users[i] = text(s->batch[i].id);
	}
	if (s->n == 0) {
		end_round(s);
		return;
	}
	const struct chatd_presence *presence = s->self->presence->vt;
	s->asking = presence->get(s->self->presence->obj, s->w, users, s->n, presence_done, s) == 0;
}

static void on_tick(void *arg)
{
	struct sweep *s = arg;
	struct chatd_store_members r = { .struct_size = sizeof(r),
		.which = CHATD_STORE_GUESTS,
		.after = text(s->after),
		.limit = BATCH };
	const struct chatd_store *store = s->self->store->vt;
	if (!s->asking) {
		s->asking = store->members(s->self->store->obj, s->w, &r, members_done, s) == 0;
	}
}

struct sweep *guests_create(struct self *self, chatd_worker *w)
{
	int64_t tick = self->conf->guest_linger / 16;
	struct sweep *s = self->h->mem_alloc(sizeof(*s));
	if (!s) {
		return NULL;
	}
	s->self = self;
	s->w = w;
	tick = tick < TICK_MIN_MS ? TICK_MIN_MS : tick > TICK_MAX_MS ? TICK_MAX_MS : tick;
	s->timer = self->h->watch_time(w, tick, 1, on_tick, s);
	if (!s->timer) {
		self->h->mem_free(s);
		return NULL;
	}
	return s;
}

void guests_destroy(struct sweep *s)
{
	if (!s) {
		return;
	}
	s->self->h->unwatch(s->timer);
	s->dead = 1;
	if (!s->asking) {
		free_all(s);
	}
}

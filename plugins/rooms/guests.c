/* SPDX-License-Identifier: Apache-2.0 */
/* Guests who do not come back leave their rooms, so that rooms do not fill with ghosts.
 * On the home worker: a few guests at a time are looked up in the presence service. */
#include "rooms.h"

enum { BATCH = 256, TICK_MIN_MS = 100, TICK_MAX_MS = 10000 };

struct sweep {
	struct self *self;
	chatd_worker *home;
	chatd_watch *timer;
	int32_t asking;
	size_t n;
	char ids[BATCH][CHATD_ID_MAX + 1];
};

static void leave_all(struct self *self, const char *id)
{
	struct user *u = table_user(self->table, text(id));
	while (u) {
		int64_t left = u->n - 1; /* with the last membership the user goes */
		home_leave(self, TAILQ_FIRST(&u->in));
		u = left > 0 ? u : NULL;
	}
}

static void presence_done(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct sweep *s = arg;
	struct self *self = s->self;
	int64_t now = self->h->now_ms(s->home);
	s->asking = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct user *u = table_user(self->table, text(s->ids[i]));
		if (!u || !u->guest) {
			continue;
		}
		if (online[i]) {
			u->seen = now;
		} else if (now - u->seen >= self->conf->guest_linger) {
			leave_all(self, s->ids[i]);
		}
	}
}

static void on_tick(void *arg)
{
	struct sweep *s = arg;
	struct self *self = s->self;
	const struct chatd_presence *presence = self->presence->vt;
	struct chatd_str users[BATCH];
	if (s->asking) {
		return;
	}
	s->n = 0;
	while (s->n < BATCH && !TAILQ_EMPTY(&self->table->guests)) {
		struct user *u = TAILQ_FIRST(&self->table->guests);
		if (s->n > 0 && strcmp(u->id, s->ids[0]) == 0) {
			break; /* once round */
		}
		TAILQ_REMOVE(&self->table->guests, u, guest_link);
		TAILQ_INSERT_TAIL(&self->table->guests, u, guest_link);
		memcpy(s->ids[s->n], u->id, sizeof(u->id));
		users[s->n] = text(s->ids[s->n]);
		s->n++;
	}
	if (s->n > 0 &&
			presence->get(self->presence->obj, s->home, users, s->n, presence_done, s) == 0) {
		s->asking = 1;
	}
}

struct sweep *guests_create(struct self *self)
{
	struct sweep *s = self->h->mem_alloc(sizeof(*s));
	if (s) {
		s->self = self;
	}
	return s;
}

chatd_status guests_start(struct self *self, chatd_worker *home)
{
	int64_t tick = self->conf->guest_linger / 16;
	if (!self->presence || self->conf->guest_linger == 0) {
		return 0;
	}
	self->sweep->home = home;
	tick = tick < TICK_MIN_MS ? TICK_MIN_MS : tick > TICK_MAX_MS ? TICK_MAX_MS : tick;
	self->sweep->timer = self->h->watch_time(home, tick, 1, on_tick, self->sweep);
	return self->sweep->timer ? 0 : -ENOMEM;
}

void guests_stop(struct self *self)
{
	self->h->unwatch(self->sweep->timer);
	self->sweep->timer = NULL;
}

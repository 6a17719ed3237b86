/* SPDX-License-Identifier: Apache-2.0 */
/* A node that is cut off from all but its clients can do nothing for them: it sends them away, a
 * few at a time, so that they go to a node that can. */
#include "cluster.h"

enum {
	WAVES = 64, /* each session is in one of them */
	WAVE_MS = 75,
	CLOSE_TRY_AGAIN_LATER = 1013,
};

struct alone {
	chatd_worker *w;
	struct chatd_timer timer;
	int64_t since; /* when nothing was to be had any more; 0: something is */
	int32_t sending_away;
	uint32_t wave;
};

/* The broker notices late that it is not there: that it says nothing is enough. */
static int is_alone(const struct self *self)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_store *store = self->store->vt;
	const struct chatd_redis *redis = self->redis ? self->redis->vt : NULL;
	return store->state(self->store->obj) != CHATD_STORE_OK && CHATD_HAS(cluster, silent) &&
			cluster->silent(self->cluster->obj) >= self->conf->isolated_after &&
			!(redis && redis->is_up(self->redis->obj));
}

struct wave {
	const struct chatd_host *h;
	uint32_t number;
};

static void close_some(const void *data, chatd_session *s)
{
	const struct wave *w = data;
	uint64_t mixed = w->h->session_sid(s) * UINT64_C(0x9e3779b97f4a7c15);
	if (mixed >> 58 == w->number) {
		w->h->session_close(s, CLOSE_TRY_AGAIN_LATER,
				"this server has lost its back ends; connect again, to another one");
	}
}

static void on_wave(void *arg)
{
	struct self *self = arg;
	struct alone *a = self->alone;
	const struct wave wave = { .h = self->h, .number = a->wave++ % WAVES };
	const struct chatd_each everybody = {
		.struct_size = sizeof(everybody), .fn = close_some, .data = &wave, .n = sizeof(wave)
	};
	(void)self->h->each_session(&everybody); /* who is not reached is in the next round */
	self->h->timer_set(a->w, &a->timer, WAVE_MS, on_wave, self);
}

static void send_away(struct self *self)
{
	self->alone->sending_away = 1;
	self->h->log(self->ctx, CHATD_LOG_ERROR,
			"store, broker and Redis have not been reached for %lld ms: clients are closed with "
			"1013, so that they go to another node",
			(long long)self->conf->isolated_after);
	on_wave(self);
}

void alone_look(struct self *self, chatd_worker *w)
{
	struct alone *a = self->alone;
	int64_t now = self->h->now_ms(w);
	a->w = w;
	if (!self->conf->isolated_after || !is_alone(self)) {
		if (a->sending_away) {
			self->h->log(self->ctx, CHATD_LOG_INFO, "back ends are there again: clients may stay");
			self->h->timer_clear(&a->timer);
		}
		a->since = 0;
		a->sending_away = 0;
		return;
	}
	a->since = a->since ? a->since : now;
	/* What is away for a moment together, as all start again, is no reason yet. */
	if (!a->sending_away && now - a->since >= self->conf->isolated_after / 4) {
		send_away(self);
	}
}

chatd_status alone_init(struct self *self)
{
	self->alone = self->h->mem_alloc(sizeof(*self->alone));
	return self->alone ? 0 : -ENOMEM;
}

void alone_stop(struct self *self)
{
	self->h->timer_clear(&self->alone->timer);
}

void alone_fini(struct self *self)
{
	self->h->mem_free(self->alone);
	self->alone = NULL;
}

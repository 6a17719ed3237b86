/* SPDX-License-Identifier: Apache-2.0 */
/* After changes elsewhere could not be heard of, everybody who is watched is asked about again, some
 * at a time; what is another now is told, and then that all is known. */
#include "presence.h"

enum { AT_A_TIME = 100, RETRY_MS = 2000 };

struct batch {
	struct at *at;
	size_t n;
	struct chatd_str users[AT_A_TIME];
	char ids[AT_A_TIME][CHATD_ID_MAX];
};

static void go_on(struct at *at);

/* One notice to each session, not one for each of those whom it watches. */
static void tell_stale(struct at *at, int32_t stale)
{
	char room[128];
	struct chatd_json j;
	struct watcher *s;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "type", CHATD_LIT("PRESENCE"));
	chatd_json_flag(&j, "stale", stale);
	chatd_json_time(&j, "timestamp", at->self->h->wall_ms());
	chatd_json_lit(&j, "}");
	at->stale = stale;
	LIST_FOREACH (s, &at->watchers, all) {
		if (s->n > 0) {
			(void)tell_session(at, s->session, chatd_json_str(&j));
		}
	}
	chatd_json_free(&j);
}

static void on_retry(void *arg)
{
	go_on(arg);
}

static void retry(struct at *at)
{
	if (!at->dead) {
		at->self->h->timer_set(at->w, &at->retry, RETRY_MS, on_retry, at);
	}
}

static void on_states(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	struct batch *b = arg;
	struct at *at = b->at;
	at->asking = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct watched *v = watched_find(at, b->users[i]);
		if (v) {
			watched_update(at, v, &states[i]);
			v->round = at->round;
			TAILQ_REMOVE(&at->order, v, order);
			TAILQ_INSERT_TAIL(&at->order, v, order);
		}
	}
	chatd_open_free(at->self->h, &at->self->open, b);
	if (rc < 0) {
		retry(at);
	} else {
		go_on(at);
	}
}

/* Those who were not asked about in this round stand in front. */
static struct batch *next_batch(struct at *at)
{
	struct batch *b = chatd_open_alloc(at->self->h, &at->self->open, sizeof(*b));
	struct watched *v;
	TAILQ_FOREACH (v, &at->order, order) {
		if (!b || b->n == AT_A_TIME || v->round == at->round) {
			break;
		}
		memcpy(b->ids[b->n], v->id, v->n);
		b->users[b->n] = chatd_str_of(b->ids[b->n], v->n);
		b->n++;
	}
	if (b) {
		b->at = at;
	}
	return b;
}

static int is_done(const struct at *at)
{
	const struct watched *first = TAILQ_FIRST(&at->order);
	return !first || first->round == at->round;
}

static void go_on(struct at *at)
{
	struct self *self = at->self;
	if (at->asking) {
		return;
	}
	if (is_done(at) && at->again) {
		at->again = 0;
		at->round++;
	}
	if (is_done(at)) {
		if (at->stale && at->knowable) {
			tell_stale(at, 0);
		}
		return;
	}
	struct batch *b = next_batch(at);
	at->asking =
			b && self->presence->look(self->service->obj, at->w, b->users, b->n, on_states, b) == 0;
	if (!at->asking) {
		chatd_open_free(self->h, &self->open, b);
		retry(at);
	}
}

void sync_begin(struct at *at)
{
	at->again = 1;
	/* Not from within what has just failed: there may be no memory still. */
	retry(at);
}

void sync_known(struct at *at, int32_t known)
{
	at->knowable = known;
	if (!known) {
		if (!at->stale) {
			tell_stale(at, 1);
		}
		return;
	}
	at->again = 1;
	go_on(at);
}

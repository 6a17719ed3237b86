/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker may have lost is found in the store, in both directions: what others wrote is
 * asked for now and then, and what this node wrote is sent again from the place up to which it is
 * known to have been handed over. */
#include "cluster.h"

#include <stdatomic.h>

enum {
	TICK_MS = 1000, /* while the broker is away the store is asked at each tick */
	CHANGED_MAX = 5000,
	WRITTEN_MAX = 500,
	SAVE_TICKS = 2,
	FROM_MARK = -1, /* again from the store's mark on */
};

/* Rows of one worker on their way, in the order in which they were sent. */
struct out {
	TAILQ_ENTRY(out) link;
	struct self *self;
	struct worker *at; /* NULL: it has ended */
	int64_t pos;
	int32_t done;
};

struct handed {
	TAILQ_HEAD(outs, out) outs;
};

struct reach {                 /* of one worker */
	_Atomic int64_t low, high; /* the first row on its way, or INT64_MAX; the last one done */
};

struct sync {
	struct reach *reach;               /* per worker */
	const struct chatd_service *stats; /* NULL: nobody counts */
	uint32_t numbers[SYNC_NUMBERS];
	_Atomic int64_t again; /* rows above this were dropped; INT64_MAX: none */
	/* of worker 0: */
	chatd_worker *w;
	chatd_watch *timer;
	int32_t asking, resending, dead, ticks, since_asked;
	int64_t seen; /* all changes up to here were looked at; -1: none yet */
	int64_t mark, saved;
	int64_t from; /* resending: above this */
};

/* ---- rows of this node ---------------------------------------------------------------------- */

static void dropped(struct sync *s, int64_t pos)
{
	int64_t was = atomic_load(&s->again);
	while (was != FROM_MARK && pos - 1 < was &&
			!atomic_compare_exchange_weak(&s->again, &was, pos - 1)) {
	}
}

static void note_reach(struct worker *at)
{
	struct sync *s = at->self->sync;
	struct reach *r = &s->reach[at->self->h->worker_index(at->w)];
	const struct out *o;
	while ((o = TAILQ_FIRST(&at->handed->outs)) && o->done) {
		struct out *gone = TAILQ_FIRST(&at->handed->outs);
		atomic_store(&r->high, gone->pos);
		TAILQ_REMOVE(&at->handed->outs, gone, link);
		at->self->h->mem_free(gone);
	}
	o = TAILQ_FIRST(&at->handed->outs);
	atomic_store(&r->low, o ? o->pos : INT64_MAX);
}

static void on_out(void *arg, chatd_status rc)
{
	struct out *o = arg;
	struct worker *at = o->at;
	if (!at) {
		o->self->h->mem_free(o);
		return;
	}
	if (rc < 0) {
		dropped(at->self->sync, o->pos);
	}
	o->done = 1;
	note_reach(at);
}

void sync_send(struct self *self, chatd_worker *w, const struct log_row *r)
{
	struct worker *at = self->h->worker_self(self->ctx, w);
	struct out *o = self->h->mem_alloc(sizeof(*o));
	if (!o) {
		dropped(self->sync, r->row->pos);
		return;
	}
	o->self = self;
	o->at = at;
	o->pos = r->row->pos;
	TAILQ_INSERT_TAIL(&at->handed->outs, o, link);
	if (wire_send(self, w, r, on_out, o) < 0) {
		on_out(o, -EAGAIN);
	} else if (TAILQ_FIRST(&at->handed->outs) == o) {
		note_reach(at);
	}
}

/* ---- what others wrote ------------------------------------------------------------------------ */

struct hint {
	int64_t at;
	int32_t room;
	char id[CHATD_ID_MAX + 1];
};

/* Changes for the lanes of one worker. */
struct hints {
	struct self *self;
	chatd_worker *w;
	size_t n;
	char epoch[EPOCH_MAX + 1];
	struct hint all[];
};

static void take_epoch(struct worker *at, const char *epoch)
{
	if (at->epoch[0] && strcmp(at->epoch, epoch) != 0) {
		lanes_void(at);
	}
	chatd_str_copy(at->epoch, sizeof(at->epoch), text(epoch));
}

static void on_hints(void *arg)
{
	struct hints *h = arg;
	struct self *self = h->self;
	struct worker *at = self->h->worker_self(self->ctx, h->w);
	if (!at->handed) {
		self->h->mem_free(h);
		return; /* the worker has ended */
	}
	take_epoch(at, h->epoch);
	for (size_t i = 0; i < h->n; i++) {
		struct lane_name n = { .user = text(h->all[i].id) };
		if (h->all[i].room) {
			n = (struct lane_name){ .room = text(h->all[i].id) };
		}
		lanes_hint(self, h->w, &n, h->all[i].at);
	}
	lanes_tidy(at);
	self->h->mem_free(h);
}

static void add_hint(struct hints *h, struct chatd_str id, int32_t room, int64_t at)
{
	struct hint *one = &h->all[h->n++];
	one->at = at;
	one->room = room;
	chatd_str_copy(one->id, sizeof(one->id), id);
}

static void hint_worker(struct self *self, chatd_worker *w, const struct chatd_store_answer *a)
{
	const struct chatd_host *host = self->h;
	struct hints *h = host->mem_alloc(sizeof(*h) + 2 * a->n_changed * sizeof(h->all[0]));
	if (!h) {
		return; /* the next change tells again, or the one after */
	}
	h->self = self;
	h->w = w;
	chatd_str_copy(h->epoch, sizeof(h->epoch), a->epoch);
	int direct = log_home(self, CHATD_LIT("")) == w;
	for (size_t i = 0; i < a->n_changed; i++) {
		const struct chatd_store_changed_conv *c = &a->changed[i];
		if (c->conv.room.p) {
			if (log_home(self, c->conv.room) == w) {
				add_hint(h, c->conv.room, 1, c->seq);
			}
		} else if (direct) {
			add_hint(h, c->conv.a, 0, c->pos);
			add_hint(h, c->conv.b, 0, c->pos);
		}
	}
	if (host->post(w, on_hints, h) < 0) {
		host->mem_free(h);
	}
}

static void ask_changed(struct self *self);

static void on_changed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct self *self = arg;
	struct sync *s = self->sync;
	s->asking = 0;
	if (s->dead || rc < 0) {
		return;
	}
	int first = s->seen < 0;
	int more = !first && a->n_changed == CHANGED_MAX;
	s->seen = more ? a->changed[a->n_changed - 1].pos : a->pos;
	for (int32_t i = 0; i < self->h->worker_count(); i++) {
		hint_worker(self, self->h->worker_at(i), a);
	}
	if (more) {
		ask_changed(self);
	}
}

static void ask_changed(struct self *self)
{
	struct sync *s = self->sync;
	const struct chatd_store *store = self->store->vt;
	/* At the start nobody listens yet: where the store stands is enough. */
	const struct chatd_store_changed r = { .struct_size = sizeof(r),
		.limit = s->seen < 0 ? 1 : CHANGED_MAX,
		.after_pos = s->seen < 0 ? INT64_MAX : s->seen };
	if (!s->asking) {
		s->asking = store->changed(self->store->obj, s->w, &r, on_changed, self) == 0;
	}
}

/* ---- sending again ------------------------------------------------------------------------------ */

static void resend(struct self *self);

static chatd_status resend_rows(struct self *self, const struct chatd_store_answer *a)
{
	struct sync *s = self->sync;
	for (size_t i = 0; i < a->n_messages; i++) {
		const struct log_row r = {
			.row = &a->messages[i], .epoch = a->epoch, .before_a = -1, .before_b = -1
		};
		chatd_status rc = wire_send(self, s->w, &r, NULL, NULL);
		if (rc == -EAGAIN) {
			return rc;
		}
		s->from = r.row->pos;
		sync_count(self, s->w, SYNC_RESENT);
	}
	return 0;
}

static void on_written(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct self *self = arg;
	struct sync *s = self->sync;
	s->resending = 0;
	if (s->dead) {
		return;
	}
	if (rc == 0 && s->from == FROM_MARK) {
		s->from = a->pos;
		s->mark = s->saved = a->pos;
		if (a->pos == 0) {
			return; /* a node that never had others: what it wrote so far is history */
		}
	}
	rc = rc < 0 ? rc : resend_rows(self, a);
	if (rc < 0) {
		dropped(s, s->from + 1); /* the next tick goes on, from the mark if that was not read */
	} else if (a->n_messages == WRITTEN_MAX) {
		resend(self);
	}
}

static void resend(struct self *self)
{
	struct sync *s = self->sync;
	const struct chatd_store *store = self->store->vt;
	const struct chatd_store_written r = { .struct_size = sizeof(r),
		.limit = WRITTEN_MAX,
		.node = text(self->h->server_id()),
		.after_pos = s->from };
	s->resending = 1;
	chatd_status rc = store->written(self->store->obj, s->w, &r, on_written, self);
	if (rc < 0) {
		on_written(self, rc, NULL);
	}
}

/* ---- the mark ------------------------------------------------------------------------------------ */

static void on_saved(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)arg;
	(void)rc;
	(void)a;
}

static int64_t reached(struct self *self)
{
	const struct sync *s = self->sync;
	int64_t low = INT64_MAX, high = 0;
	for (int32_t i = 0; i < self->h->worker_count(); i++) {
		int64_t l = atomic_load(&s->reach[i].low), h = atomic_load(&s->reach[i].high);
		low = l < low ? l : low;
		high = h > high ? h : high;
	}
	return low == INT64_MAX ? high : low - 1;
}

/* What was reached a while ago: an answer of the store that is under way to a worker now may name
 * a lower place. */
static void save_mark(struct self *self)
{
	struct sync *s = self->sync;
	const struct chatd_store *store = self->store->vt;
	int64_t now = reached(self), pos = now < s->mark ? now : s->mark;
	s->mark = now;
	if (pos <= s->saved || s->resending || atomic_load(&s->again) != INT64_MAX) {
		return;
	}
	const struct chatd_store_handed r = {
		.struct_size = sizeof(r), .node = text(self->h->server_id()), .pos = pos
	};
	if (store->handed(self->store->obj, s->w, &r, on_saved, NULL) == 0) {
		s->saved = pos;
	}
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void on_tick(void *arg)
{
	struct self *self = arg;
	struct sync *s = self->sync;
	const struct chatd_cluster *cluster = self->cluster->vt;
	int up = cluster->is_up(self->cluster->obj);
	s->since_asked += TICK_MS;
	if (!up || s->seen < 0 || s->since_asked >= self->conf->sync_interval) {
		s->since_asked = 0;
		ask_changed(self);
	}
	if (up && !s->resending && atomic_load(&s->again) != INT64_MAX) {
		s->from = atomic_exchange(&s->again, INT64_MAX);
		resend(self);
	}
	if (++s->ticks % SAVE_TICKS == 0) {
		save_mark(self);
	}
	alone_look(self, s->w);
}

/* What was said while the broker was away is looked for at once. */
void sync_link(void *arg, int32_t up)
{
	struct self *self = arg;
	(void)up;
	if (self->sync->w) {
		ask_changed(self);
	}
}

void sync_count(struct self *self, chatd_worker *w, enum sync_number which)
{
	const struct chatd_service *stats = self->sync->stats;
	if (stats) {
		((const struct chatd_stats *)stats->vt)->add(stats->obj, w, self->sync->numbers[which], 1);
	}
}

static chatd_status define_numbers(struct self *self)
{
	static const struct {
		const char *name, *help;
	} all[SYNC_NUMBERS] = {
		[SYNC_RESENT] = { "chatd_chat_resent_total",
				"Rows of the store that were sent to the other nodes again, from the mark on." },
		[SYNC_FILLED] = { "chatd_chat_filled_total",
				"Rows of other nodes that came from the store, since their events did not." },
	};
	const struct chatd_service *stats = self->sync->stats;
	chatd_status rc = 0;
	for (size_t i = 0; stats && rc == 0 && i < SYNC_NUMBERS; i++) {
		const struct chatd_stat_def def = { .struct_size = sizeof(def),
			.kind = CHATD_STAT_COUNTER,
			.name = all[i].name,
			.help = all[i].help };
		rc = ((const struct chatd_stats *)stats->vt)
					 ->define(stats->obj, self->ctx, &def, &self->sync->numbers[i]);
	}
	return rc;
}

chatd_status sync_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	struct sync *s = h->mem_alloc(sizeof(*s));
	if (!s) {
		return -ENOMEM;
	}
	self->sync = s;
	s->seen = -1;
	atomic_store(&s->again, FROM_MARK);
	s->reach = h->mem_alloc((size_t)h->worker_count() * sizeof(*s->reach));
	for (int32_t i = 0; s->reach && i < h->worker_count(); i++) {
		atomic_store(&s->reach[i].low, INT64_MAX);
	}
	s->stats = h->service(self->ctx, CHATD_STATS);
	return s->reach ? define_numbers(self) : -ENOMEM;
}

chatd_status sync_start(struct worker *at)
{
	struct self *self = at->self;
	at->handed = self->h->mem_alloc(sizeof(*at->handed));
	if (!at->handed) {
		return -ENOMEM;
	}
	TAILQ_INIT(&at->handed->outs);
	if (at->w != self->h->worker_at(0)) {
		return 0;
	}
	self->sync->w = at->w;
	self->sync->timer = self->h->watch_time(at->w, TICK_MS, 1, on_tick, self);
	ask_changed(self);
	return self->sync->timer ? 0 : -ENOMEM;
}

/* The cluster's plugin is still there and has answered for all that was sent, or will. */
void sync_stop(struct worker *at)
{
	struct self *self = at->self;
	struct out *o;
	if (at->w == self->sync->w) {
		self->sync->dead = 1;
		self->h->unwatch(self->sync->timer);
		self->sync->timer = NULL;
		alone_stop(self);
	}
	while (at->handed && (o = TAILQ_FIRST(&at->handed->outs))) {
		TAILQ_REMOVE(&at->handed->outs, o, link);
		o->at = NULL;
	}
	self->h->mem_free(at->handed);
	at->handed = NULL;
}

void sync_fini(struct self *self)
{
	if (self->sync) {
		self->h->mem_free(self->sync->reach);
		self->h->mem_free(self->sync);
		self->sync = NULL;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The homes of conversations, and what is published there: for this plugin and for others
 * that write rows. */
#include "cluster.h"
#include "order.h"
#include "send.h"

enum { FILL_MAX = 1000, RETRY_MS = 200, RETRIES = 100 };

/* Direct conversations share one, so that what a user gets from several of them comes in the
 * order of its cursors. */
chatd_worker *log_home(const struct self *self, struct chatd_str room)
{
	const struct chatd_host *h = self->h;
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
	if (h->worker_count() == 1 || !room.n) {
		return h->worker_at(0);
	}
	int n = snprintf(topic, sizeof(topic), ROOM_TOPIC "%.*s", (int)room.n, room.p);
	return h->dest_home(chatd_str_of(topic, (size_t)n));
}

static uint64_t hash_of(const struct self *self, const struct chatd_store_conv *c)
{
	if (c->room.p) {
		return chatd_hash(&self->key, c->room.p, c->room.n);
	}
	/* The same for both directions; that two pairs share it by design of an attacker is of no
	 * use without the key. */
	return chatd_hash(&self->key, c->a.p, c->a.n) + chatd_hash(&self->key, c->b.p, c->b.n);
}

static struct worker *worker_of(const struct self *self, chatd_worker *w)
{
	return self->h->worker_self(self->ctx, w);
}

static chatd_status give(struct self *self, chatd_worker *w, const struct log_row *r)
{
	const struct chatd_host *h = self->h;
	const struct chatd_store_conv *c = &r->row->conv;
	char dest[sizeof(ROOM_TOPIC) + CHATD_ID_MAX] = INBOX;
	if (c->room.p) {
		snprintf(dest, sizeof(dest), ROOM_TOPIC "%.*s", (int)c->room.n, c->room.p);
	}
	chatd_msg *msg = stored_msg(self, text(dest), r->row, r->epoch);
	chatd_status rc = msg ? 0 : -ENOMEM;
	if (rc == 0 && r->trace.p) {
		rc = h->msg_set(msg, "traceparent", r->trace);
	}
	if (rc == 0 && c->room.p) {
		rc = h->publish(w, msg);
		if (r->row->kind == CHATD_STORE_MESSAGE) {
			notice_row(self, w, c->room);
		}
	} else if (rc == 0) {
		rc = h->publish_user(w, c->b, msg);
		if (rc == 0 && !chatd_str_same(c->a, c->b)) {
			rc = h->publish_user(w, c->a, msg);
		}
	}
	h->msg_unref(msg);
	return rc;
}

/* ---- what takes a while ------------------------------------------------------------------ */

void later_begin(struct later *l, struct self *self, chatd_worker *w)
{
	l->self = self;
	l->w = w;
	TAILQ_INSERT_TAIL(&worker_of(self, w)->later, l, link);
}

void later_end(struct later *l)
{
	if (!l->dead) {
		TAILQ_REMOVE(&worker_of(l->self, l->w)->later, l, link);
	}
	l->self->h->mem_free(l);
}

int later_answered(struct later *l)
{
	l->asking = 0;
	if (l->dead) {
		later_end(l);
		return 0;
	}
	return 1;
}

void log_stop(struct worker *at)
{
	struct later *l;
	if (at->self->cluster) {
		sync_stop(at);
		lanes_stop(at);
	}
	while ((l = TAILQ_FIRST(&at->later))) {
		TAILQ_REMOVE(&at->later, l, link);
		at->self->h->timer_clear(&l->timer);
		l->dead = 1;
		if (!l->asking) {
			later_end(l);
		}
	}
	late_stop(at);
	at->self->h->mem_free(at->order);
	at->order = NULL;
}

chatd_status log_start(struct worker *at)
{
	TAILQ_INIT(&at->later);
	late_start(at);
	if (at->self->cluster) {
		return sync_start(at);
	}
	at->order = at->self->h->mem_alloc(sizeof(*at->order));
	return at->order ? 0 : -ENOMEM;
}

/* ---- holes ------------------------------------------------------------------------------ */

/* Rows of a conversation that nobody was told of, being read. */
struct fill {
	struct later later; /* first */
	uint64_t hash;
	char room[CHATD_ID_MAX + 1], a[CHATD_ID_MAX + 1], b[CHATD_ID_MAX + 1];
};

static void fill(void *arg);

static void give_up(struct fill *f)
{
	struct self *self = f->later.self;
	order_give_up(worker_of(self, f->later.w)->order, f->hash);
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"messages of %s%s%s were stored late and could not be delivered; who is subscribed "
			"sees a gap in seq and must read the history",
			f->room[0] ? f->room : f->a, f->room[0] ? "" : " and ", f->b);
	later_end(&f->later);
}

/* The seq up to which there is no hole any more; rows of before are none of ours. */
static chatd_status give_rows(struct fill *f, const struct chatd_store_answer *a)
{
	struct self *self = f->later.self;
	struct order *o = worker_of(self, f->later.w)->order;
	chatd_status rc = 0;
	for (size_t i = 0; rc == 0 && i < a->n_messages; i++) {
		const struct log_row row = { .row = &a->messages[i], .epoch = a->epoch };
		if (row.row->seq > order_last(o, f->hash)) {
			rc = give(self, f->later.w, &row);
			if (rc == 0 && !order_filled(o, f->hash, row.row->seq)) {
				return 1;
			}
		}
	}
	return rc;
}

static void on_rows(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct fill *f = arg;
	if (!later_answered(&f->later)) {
		return;
	}
	if (rc == 0 && !a->whole) {
		give_up(f);
		return;
	}
	rc = rc == 0 ? give_rows(f, a) : rc;
	if (rc == 1) {
		later_end(&f->later);
	} else if (++f->later.tries >= RETRIES) {
		give_up(f);
	} else {
		f->later.self->h->timer_set(f->later.w, &f->later.timer, RETRY_MS, fill, f);
	}
}

static void fill(void *arg)
{
	struct fill *f = arg;
	struct later *l = &f->later;
	const struct chatd_service *s = l->self->store;
	const struct chatd_store *store = s->vt;
	struct chatd_store_replay r = { .struct_size = sizeof(r),
		.max = FILL_MAX,
		.since = order_last(worker_of(l->self, l->w)->order, f->hash) };
	if (f->room[0]) {
		r.conv.room = text(f->room);
	} else {
		r.conv.a = text(f->a);
		r.conv.b = text(f->b);
	}
	l->asking = 1;
	chatd_status rc = store->replay(s->obj, l->w, &r, on_rows, f);
	if (rc < 0) {
		on_rows(f, rc, NULL);
	}
}

static chatd_status start_fill(
		struct self *self, chatd_worker *w, uint64_t hash, const struct chatd_store_conv *c)
{
	struct fill *f = self->h->mem_alloc(sizeof(*f));
	if (!f) {
		order_give_up(worker_of(self, w)->order, hash);
		return -ENOMEM;
	}
	later_begin(&f->later, self, w);
	f->hash = hash;
	chatd_str_copy(f->room, sizeof(f->room), c->room);
	chatd_str_copy(f->a, sizeof(f->a), c->a);
	chatd_str_copy(f->b, sizeof(f->b), c->b);
	fill(f);
	return 0;
}

static chatd_status publish_in_cluster(struct self *self, chatd_worker *w, const struct log_row *r)
{
	if (!r->remote) {
		sync_send(self, w, r);
		if (r->row->conv.room.p && r->row->kind == CHATD_STORE_MESSAGE) {
			notice_row(self, w, r->row->conv.room);
		}
	}
	return lanes_row(self, w, r);
}

chatd_status log_publish_now(struct self *self, chatd_worker *w, const struct log_row *r)
{
	if (self->cluster) {
		return publish_in_cluster(self, w, r);
	}
	struct order *o = worker_of(self, w)->order;
	uint64_t hash = hash_of(self, &r->row->conv);
	chatd_status rc = 0;
	switch (order_take(o, hash, r->row->seq)) {
	case ORDER_PUBLISH:
		rc = give(self, w, r);
		if (rc < 0) {
			order_failed(o, hash, r->row->seq);
		}
		return rc;
	case ORDER_FILL:
		return start_fill(self, w, hash, &r->row->conv);
	default:
		return 0;
	}
}

static void tell(const struct tellers *all, chatd_worker *w, const struct chatd_store_message *row)
{
	for (int32_t i = 0; i < chatd_hearers_count(&all->hear); i++) {
		if (chatd_hearers_hears(&all->hear, i)) {
			all->fn[i](all->arg[i], w, row);
		}
	}
}

chatd_status log_publish(struct self *self, chatd_worker *w, const struct log_row *r)
{
	if (!r->remote) {
		tell(&self->own, w, r->row);
	}
	return worker_of(self, w)->late ? late_queue(self, w, r) : log_publish_now(self, w, r);
}

/* ---- the service ------------------------------------------------------------------------------ */

static chatd_worker *svc_home(void *obj, const struct chatd_store_conv *c)
{
	return log_home(obj, c->room.p ? c->room : CHATD_LIT(""));
}

static chatd_status svc_publish(
		void *obj, chatd_worker *w, const struct chatd_store_message *row, struct chatd_str epoch)
{
	const struct log_row r = { .row = row, .epoch = epoch, .before_a = -1, .before_b = -1 };
	return log_publish(obj, w, &r);
}

static chatd_status hear(struct tellers *all, chatd_log_event *fn, void *arg)
{
	int32_t i = chatd_hearers_place(&all->hear);
	if (i < 0) {
		return i;
	}
	all->fn[i] = fn;
	all->arg[i] = arg;
	chatd_hearers_fill(&all->hear, i);
	return 0;
}

static chatd_status svc_watch(void *obj, chatd_log_event *fn, void *arg)
{
	struct self *self = obj;
	return hear(&self->others, fn, arg);
}

static chatd_status svc_stored(void *obj, chatd_log_event *fn, void *arg)
{
	struct self *self = obj;
	return hear(&self->own, fn, arg);
}

void log_tell(const struct self *self, chatd_worker *w, const struct chatd_store_message *row)
{
	if (row->kind == CHATD_STORE_EVENT) {
		tell(&self->others, w, row);
	}
}

static const struct chatd_log vt = {
	.struct_size = sizeof(vt),
	.home = svc_home,
	.publish = svc_publish,
	.watch = svc_watch,
	.remove = change_remove,
	.stored = svc_stored,
};

chatd_status log_init(struct self *self)
{
	self->own.hear.plugins = self->h->service(self->ctx, CHATD_PLUGINS);
	self->others.hear.plugins = self->own.hear.plugins;
	return self->h->provide(self->ctx, CHATD_LOG, &vt, self);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of which nobody knows yet whether they are there.
 *
 * The store answers -EBUSY when a commit takes too long, and the commit may still happen.  A
 * later row must not be published before such a one: subscribers of a room would see a hole,
 * and whoever gets direct messages, with cursors that cover all conversations, would resume
 * behind what was never sent.  So while something is in doubt all rows of this worker wait in
 * one queue.  That is short: once a later write has been answered, what is in doubt has
 * happened or never will, and one read tells which. */
#include "chat.h"

#include <chatd/log.h>

enum { RETRY_MS = 200, ASK_MS = 500, TRIES = 100, DOUBTS_MAX = 4096, KNOWN_ROWS_MAX = 20000 };

/* A place in the queue: an id in doubt, or a row that is there. */
struct turn {
	TAILQ_ENTRY(turn) link;
	int known;
	char id[37];
	struct chatd_store_message row; /* known: its texts are behind this struct */
	struct log_row as;
};

/* Asks for the first in the queue; there as long as something is in doubt. */
struct late {
	struct later later; /* first */
	int sure;           /* a later row was there when it asked: no means never */
};

static struct worker *worker_of(const struct late *l)
{
	return l->later.self->h->worker_self(l->later.self->ctx, l->later.w);
}

static void drop(struct worker *at, struct turn *t)
{
	TAILQ_REMOVE(&at->turns, t, link);
	at->n_turns--;
	at->n_known -= t->known;
	at->self->h->mem_free(t);
}

static void add(struct worker *at, struct turn *t)
{
	TAILQ_INSERT_TAIL(&at->turns, t, link);
	at->n_turns++;
	at->n_known += t->known;
}

void late_start(struct worker *at)
{
	TAILQ_INIT(&at->turns);
}

void late_stop(struct worker *at)
{
	struct turn *t;
	while ((t = TAILQ_FIRST(&at->turns))) {
		drop(at, t);
	}
	at->late = NULL; /* log_stop() ends it with all that waits */
}

/* ---- the first of the queue ---------------------------------------------------------------- */

static void ask(void *arg);

static void publish(struct late *l, const struct log_row *r)
{
	struct self *self = l->later.self;
	if (log_publish_now(self, l->later.w, r) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"a message is stored, but could not be delivered: no memory");
	}
}

/* What is there and has nothing in doubt before it. */
static void publish_known(struct late *l)
{
	struct worker *at = worker_of(l);
	struct turn *t;
	while ((t = TAILQ_FIRST(&at->turns)) && t->known) {
		publish(l, &t->as);
		drop(at, t);
	}
}

/* The first one's fate is known. */
static void next(struct late *l)
{
	struct worker *at = worker_of(l);
	drop(at, TAILQ_FIRST(&at->turns));
	publish_known(l);
	l->later.tries = 0;
	if (TAILQ_EMPTY(&at->turns)) {
		at->late = NULL;
		later_end(&l->later);
	} else {
		ask(l);
	}
}

static void give_up(struct late *l)
{
	struct self *self = l->later.self;
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"whether message %s was stored cannot be read; if it was, who is subscribed misses it "
			"until the history is read",
			TAILQ_FIRST(&worker_of(l)->turns)->id);
	next(l);
}

static int is_stalled(const struct self *self)
{
	const struct chatd_store *store = self->store->vt;
	return CHATD_HAS(store, state) && store->state(self->store->obj) != CHATD_STORE_OK;
}

static void on_row(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct late *l = arg;
	struct self *self = l->later.self;
	if (!later_answered(&l->later)) {
		return;
	}
	if (rc == 0) {
		const struct log_row r = {
			.row = &a->messages[0], .epoch = a->epoch, .before_a = -1, .before_b = -1
		};
		publish(l, &r);
		next(l);
	} else if (rc == -ENOENT && l->sure) {
		next(l);
	} else if (rc == -ENOENT && worker_of(l)->n_known) {
		ask(l);
	} else if (l->later.tries >= TRIES || worker_of(l)->n_known >= KNOWN_ROWS_MAX) {
		give_up(l);
	} else {
		l->later.tries += !is_stalled(self);
		self->h->timer_set(l->later.w, &l->later.timer, rc == -ENOENT ? ASK_MS : RETRY_MS, ask, l);
	}
}

static void ask(void *arg)
{
	struct late *l = arg;
	struct worker *at = worker_of(l);
	const struct chatd_service *s = l->later.self->store;
	const struct chatd_store *store = s->vt;
	const struct chatd_store_message_key key = { .struct_size = sizeof(key),
		.id = text(TAILQ_FIRST(&at->turns)->id) };
	l->sure = at->n_known > 0;
	l->later.asking = 1;
	chatd_status rc = store->message(s->obj, l->later.w, &key, on_row, l);
	if (rc < 0) {
		on_row(l, rc, NULL);
	}
}

/* ---- the end of the queue ------------------------------------------------------------------ */

void late_doubt(struct self *self, chatd_worker *w, const char *id)
{
	const struct chatd_host *h = self->h;
	struct worker *at = h->worker_self(self->ctx, w);
	struct turn *t = at->n_turns - at->n_known < DOUBTS_MAX ? h->mem_alloc(sizeof(*t)) : NULL;
	if (t && !at->late) {
		at->late = h->mem_alloc(sizeof(*at->late));
		if (at->late) {
			later_begin(&at->late->later, self, w);
			h->timer_set(w, &at->late->later.timer, ASK_MS, ask, at->late);
		}
	}
	if (!t || !at->late) {
		h->mem_free(t);
		h->log(self->ctx, CHATD_LOG_ERROR, "message %s may be stored, and could not be noted", id);
		return;
	}
	chatd_str_copy(t->id, sizeof(t->id), text(id));
	add(at, t);
}

/* All of a row that its publisher sets and give() reads. */
static struct turn *copy(struct self *self, const struct log_row *r)
{
	struct turn *t = self->h->mem_alloc(sizeof(*t) + row_bytes(r));
	if (t) {
		t->known = 1;
		row_copy(&t->as, &t->row, (char *)(t + 1), r);
	}
	return t;
}

chatd_status late_queue(struct self *self, chatd_worker *w, const struct log_row *r)
{
	struct worker *at = self->h->worker_self(self->ctx, w);
	struct late *l = at->late;
	struct turn *t = copy(self, r);
	if (!t) {
		return -ENOMEM;
	}
	add(at, t);
	if (!l->later.asking && !l->sure) { /* now it can be told, and need not be waited for */
		self->h->timer_clear(&l->later.timer);
		ask(l);
	}
	return 0;
}

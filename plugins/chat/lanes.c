/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes that are at home on this worker: what came is given out in order, what is missing is
 * waited for a moment and then read from the store. */
#include "cluster.h"

#include <chatd/log.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { HOLD_MS = 150, BOUND_MS = 250, FILL_MAX = 10000, RETRY_MS = 200, RETRIES = 100 };

struct path {
	struct later later; /* first; its timer is set while something is missing */
	UT_hash_handle hh;
	struct lane lane;
	int64_t asked; /* .want when the store was asked */
	int32_t timing;
	int32_t fresh; /* its timer is set to look into the store once, whatever comes */
	int32_t users; /* sessions that hear it, of a user's direct messages */
	char key[CHATD_ID_MAX + 2];
};

/* A row that waits in a lane; its texts are behind it. */
struct kept {
	struct lane_row in; /* first */
	struct log_row row;
	struct chatd_store_message message;
};

static struct worker *worker_of(const struct path *p)
{
	return p->later.self->h->worker_self(p->later.self->ctx, p->later.w);
}

static int is_room(const struct path *p)
{
	return p->key[0] == 'r';
}

static struct chatd_str id_of(const struct path *p)
{
	return text(p->key + 1);
}

static size_t key_of(const struct lane_name *n, char ret[CHATD_ID_MAX + 2])
{
	struct chatd_str id = n->room.p ? n->room : n->user;
	ret[0] = n->room.p ? 'r' : 'u';
	chatd_str_copy(ret + 1, CHATD_ID_MAX + 1, id);
	return strlen(ret);
}

static struct path *find(const struct worker *at, const struct lane_name *n)
{
	struct path *p = NULL;
	char key[CHATD_ID_MAX + 2];
	size_t len = key_of(n, key);
	HASH_FIND(hh, at->paths, key, len, p);
	return p;
}

static void drop_kept(struct path *p)
{
	struct lane_row *r;
	while ((r = TAILQ_FIRST(&p->lane.kept))) {
		TAILQ_REMOVE(&p->lane.kept, r, link);
		p->lane.n_kept--;
		p->later.self->h->mem_free(r);
	}
}

static void forget(struct path *p)
{
	struct worker *at = worker_of(p);
	HASH_DEL(at->paths, p);
	p->later.self->h->timer_clear(&p->later.timer);
	drop_kept(p);
	later_end(&p->later);
}

/* ---- giving ------------------------------------------------------------------------------- */

static chatd_status give(struct path *p, const struct log_row *r)
{
	struct self *self = p->later.self;
	const struct chatd_host *h = self->h;
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX] = INBOX;
	if (is_room(p)) {
		snprintf(topic, sizeof(topic), ROOM_TOPIC "%s", p->key + 1);
	}
	chatd_msg *msg = stored_msg(self, text(topic), r->row, r->epoch);
	chatd_status rc = msg ? 0 : -ENOMEM;
	if (rc == 0 && r->trace.p) {
		rc = h->msg_set(msg, "traceparent", r->trace);
	}
	if (rc == 0) {
		rc = is_room(p) ? h->publish_here(p->later.w, msg)
						: h->publish_user_here(p->later.w, id_of(p), msg);
	}
	h->msg_unref(msg);
	if (rc == 0 && is_room(p) && r->remote) {
		log_tell(self, p->later.w, r->row);
	}
	return rc;
}

static int64_t place(const struct path *p, const struct chatd_store_message *m)
{
	return is_room(p) ? m->seq : m->pos;
}

static int64_t place_before(const struct path *p, const struct log_row *r)
{
	if (is_room(p)) {
		return r->row->seq - 1;
	}
	return chatd_str_same(id_of(p), r->row->conv.a) ? r->before_a : r->before_b;
}

/* Whoever listens here lacks something for good: they come again and resume, or read. */
static void on_lost_user(const void *data, chatd_session *s)
{
	const struct chatd_host *const *h = data;
	if ((*h)->session_hears(s, CHATD_LIT(INBOX))) {
		(*h)->session_close(s, 4010, "insufficient state: subscribe again");
	}
}

static void lost(struct path *p)
{
	struct self *self = p->later.self;
	const struct chatd_host *h = self->h;
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"what other nodes wrote for %s %s cannot be given to its subscribers here; they are "
			"closed and come again",
			is_room(p) ? "room" : "user", p->key + 1);
	if (is_room(p)) {
		snprintf(topic, sizeof(topic), ROOM_TOPIC "%s", p->key + 1);
		h->dest_lost(p->later.w, text(topic));
		return;
	}
	const struct chatd_each each = { .struct_size = sizeof(each),
		.user = id_of(p),
		.fn = on_lost_user,
		.data = &self->h,
		.n = sizeof(self->h) };
	(void)h->each_session(&each);
}

static void settle(struct path *p);

/* What was kept and may go now. */
static void drain(struct path *p)
{
	struct lane_row *r;
	int may = 0;
	while ((r = lane_next(&p->lane, &may))) {
		const struct kept *k = (const struct kept *)r;
		if (may && give(p, &k->row) == 0) {
			lane_gave(&p->lane, r->at);
		}
		p->later.self->h->mem_free(r);
	}
	settle(p);
}

/* ---- what is missing ------------------------------------------------------------------------ */

static void fill(void *arg);

/* Rows that are missing are usually on their way. */
static void settle(struct path *p)
{
	const struct chatd_host *h = p->later.self->h;
	if (p->later.asking || p->fresh) {
		return;
	}
	if (!lane_behind(&p->lane)) {
		p->later.tries = 0;
		h->timer_clear(&p->later.timer);
		p->timing = 0;
	} else if (!p->timing) {
		p->timing = 1;
		h->timer_set(p->later.w, &p->later.timer, HOLD_MS, fill, p);
	}
}

static void give_up(struct path *p, int64_t top)
{
	lost(p);
	lane_gave(&p->lane, top > p->lane.want ? top : p->lane.want);
	drain(p);
}

static void retry(struct path *p)
{
	if (++p->later.tries >= RETRIES) {
		give_up(p, p->lane.want);
		return;
	}
	p->timing = 1;
	p->later.self->h->timer_set(p->later.w, &p->later.timer, RETRY_MS, fill, p);
}

static chatd_status give_rows(struct path *p, const struct chatd_store_answer *a)
{
	chatd_status rc = 0;
	for (size_t i = 0; rc == 0 && i < a->n_messages; i++) {
		const struct chatd_store_message *m = &a->messages[i];
		const struct log_row row = { .row = m, .epoch = a->epoch, .remote = 1 };
		if (place(p, m) > p->lane.last) {
			rc = give(p, &row);
			if (rc == 0) {
				lane_gave(&p->lane, place(p, m));
				sync_count(p->later.self, p->later.w, SYNC_FILLED);
			}
		}
	}
	return rc;
}

/* What was kept before the store was asked, and is not in the store, is no row. */
static void drop_false(struct path *p)
{
	struct lane_row *r = TAILQ_FIRST(&p->lane.kept);
	while (r && r->at <= p->asked) {
		struct lane_row *next = TAILQ_NEXT(r, link);
		if (r->at > p->lane.last) {
			TAILQ_REMOVE(&p->lane.kept, r, link);
			p->lane.n_kept--;
			p->later.self->h->mem_free(r);
		}
		r = next;
	}
}

static void on_rows(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct path *p = arg;
	if (!later_answered(&p->later)) {
		return;
	}
	p->timing = 0;
	if (rc == 0 && !a->whole) {
		give_up(p, is_room(p) ? a->seq : a->pos);
		return;
	}
	rc = rc == 0 ? give_rows(p, a) : rc;
	if (rc < 0) {
		retry(p);
		return;
	}
	lane_filled(&p->lane, p->asked);
	drop_false(p);
	drain(p);
}

static void fill(void *arg)
{
	struct path *p = arg;
	struct self *self = p->later.self;
	const struct chatd_store *store = self->store->vt;
	const struct chatd_store_replay room = { .struct_size = sizeof(room),
		.max = FILL_MAX,
		.conv = { .room = id_of(p) },
		.since = p->lane.last };
	const struct chatd_store_inbox inbox = {
		.struct_size = sizeof(inbox), .max = FILL_MAX, .user = id_of(p), .since = p->lane.last
	};
	p->timing = p->fresh = 0;
	p->asked = p->lane.want;
	p->later.asking = 1;
	chatd_status rc = is_room(p)
			? store->replay(self->store->obj, p->later.w, &room, on_rows, p)
			: store->replay_inbox(self->store->obj, p->later.w, &inbox, on_rows, p);
	if (rc < 0) {
		on_rows(p, rc, NULL);
	}
}

/* ---- rows that come --------------------------------------------------------------------------- */

static chatd_status keep(struct path *p, const struct log_row *r, int64_t at, int64_t before)
{
	const struct chatd_host *h = p->later.self->h;
	struct kept *k = lane_has_room(&p->lane) ? h->mem_alloc(sizeof(*k) + row_bytes(r)) : NULL;
	if (k) {
		k->in.at = at;
		k->in.before = before;
		row_copy(&k->row, &k->message, (char *)(k + 1), r);
		lane_keep(&p->lane, &k->in);
	}
	settle(p); /* without a copy it is read from the store */
	return 0;
}

static chatd_status take(struct path *p, const struct log_row *r)
{
	int64_t at = place(p, r->row), before = place_before(p, r);
	switch (lane_take(&p->lane, at, before)) {
	case LANE_GIVE: {
		chatd_status rc = give(p, r);
		if (rc == 0) {
			lane_gave(&p->lane, at);
		}
		drain(p);
		return rc;
	}
	case LANE_KEEP:
		return keep(p, r, at, before);
	default:
		return 0;
	}
}

chatd_status lanes_row(struct self *self, chatd_worker *w, const struct log_row *r)
{
	struct worker *at = self->h->worker_self(self->ctx, w);
	const struct chatd_store_conv *c = &r->row->conv;
	struct path *p;
	chatd_status rc = 0;
	if (c->room.p) {
		p = find(at, &(struct lane_name){ .room = c->room });
		if (!p && r->remote) {
			log_tell(self, w, r->row);
		}
		return p ? take(p, r) : 0;
	}
	p = find(at, &(struct lane_name){ .user = c->b });
	rc = p ? take(p, r) : 0;
	p = chatd_str_same(c->a, c->b) ? NULL : find(at, &(struct lane_name){ .user = c->a });
	return p && rc == 0 ? take(p, r) : rc;
}

/* ---- who listens ------------------------------------------------------------------------------- */

static struct path *obtain(struct self *self, chatd_worker *w, const struct lane_name *n)
{
	struct worker *at = self->h->worker_self(self->ctx, w);
	struct path *p = find(at, n);
	if (p) {
		return p;
	}
	p = self->h->mem_alloc(sizeof(*p));
	if (!p) {
		return NULL;
	}
	lane_init(&p->lane);
	size_t len = key_of(n, p->key);
	HASH_ADD(hh, at->paths, key, len, p);
	if (!p->hh.tbl) {
		self->h->mem_free(p);
		return NULL;
	}
	later_begin(&p->later, self, w);
	return p;
}

chatd_status lanes_begin(struct self *self, chatd_worker *w, const struct lane_name *n)
{
	return obtain(self, w, n) ? 0 : -ENOMEM;
}

void lanes_open(struct self *self, chatd_worker *w, const struct lane_name *n, int64_t last)
{
	struct path *p = find(self->h->worker_self(self->ctx, w), n);
	if (!p) {
		return;
	}
	/* The broker binds a room's topic a moment after its first subscriber has come: what was said
	 * in between came to no node's notice. */
	if (p->lane.last == LANE_UNKNOWN && is_room(p) && !p->later.asking) {
		p->fresh = p->timing = 1;
		self->h->timer_set(w, &p->later.timer, BOUND_MS, fill, p);
	}
	lane_open(&p->lane, last);
	drain(p);
}

chatd_status lanes_user(struct self *self, chatd_worker *w, struct chatd_str user, int32_t more)
{
	const struct lane_name n = { .user = user };
	struct path *p = more > 0 ? obtain(self, w, &n) : find(self->h->worker_self(self->ctx, w), &n);
	if (!p) {
		return more > 0 ? -ENOMEM : 0;
	}
	p->users += more;
	if (p->users <= 0 && !p->later.asking) {
		forget(p);
	}
	return 0;
}

void lanes_hint(struct self *self, chatd_worker *w, const struct lane_name *n, int64_t at)
{
	struct path *p = find(self->h->worker_self(self->ctx, w), n);
	if (p) {
		lane_hint(&p->lane, at);
		settle(p);
	}
}

static int is_heard(const struct path *p)
{
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
	if (!is_room(p)) {
		return p->users > 0;
	}
	snprintf(topic, sizeof(topic), ROOM_TOPIC "%s", p->key + 1);
	return p->later.self->h->dest_heard(p->later.w, text(topic));
}

void lanes_tidy(struct worker *at)
{
	struct path *p, *next;
	HASH_ITER(hh, at->paths, p, next)
	{
		if (!p->later.asking && !is_heard(p)) {
			forget(p);
		}
	}
}

void lanes_void(struct worker *at)
{
	struct path *p, *next;
	HASH_ITER(hh, at->paths, p, next)
	{
		drop_kept(p);
		if (p->lane.last != LANE_UNKNOWN) {
			lost(p);
		}
		HASH_DEL(at->paths, p);
		p->later.self->h->timer_clear(&p->later.timer);
		TAILQ_REMOVE(&at->later, &p->later, link);
		p->later.dead = 1;
		if (!p->later.asking) {
			later_end(&p->later);
		}
	}
}

/* What waits for the store is ended by log_stop(). */
void lanes_stop(struct worker *at)
{
	struct path *p, *next;
	HASH_ITER(hh, at->paths, p, next)
	{
		HASH_DEL(at->paths, p);
		drop_kept(p);
	}
}

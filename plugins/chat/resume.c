/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE with `since`: what was stored after it comes first, then what is new.  In a cluster
 * every SUBSCRIBE asks where the conversation stands, and its lane begins there (lanes.c).
 *
 * Who comes back at the same time for the same rows shares one read of the store.  Only a read
 * that is yet to begin can be joined: one that is under way may have looked before the newcomer's
 * subscription was held, and what was published in between would be missing.  So there are at
 * most two at a time for all who want the same: one under way, and those who wait for the next. */
#include "cluster.h"
#include "send.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { DEST_MAX = 128, SLICE_ROWS = 4000, SINCE_NOW = -1 };

/* What is wanted; zeroed, as it is compared as bytes. */
struct want {
	int64_t since;               /* SINCE_NOW: nothing of before */
	char room[CHATD_ID_MAX + 1]; /* "": the direct messages of .user */
	char user[CHATD_ID_MAX + 1]; /* "": of anybody, as it is a room */
	char epoch[EPOCH_MAX + 1];   /* "": not said */
};

struct resume {
	struct resume *next;
	struct self *self;
	chatd_worker *w;
	struct chatd_hold hold;
	struct want want;
};

struct crowd {
	struct resume *first, **last;
};

/* A read of the store, and for whom. */
struct replay {
	UT_hash_handle hh;
	struct want want;
	struct self *self;
	chatd_worker *w;
	struct crowd now, then;      /* then: who came while it was under way */
	struct chatd_store_answer a; /* without rows, the epoch being .epoch */
	char epoch[EPOCH_MAX + 1];
	chatd_msg **msgs; /* the rows, made once for all */
	size_t n;
	chatd_status rc;
	int dead; /* its worker has ended */
};

static void on_drop(void *arg)
{
	struct resume *r = arg;
	r->self->h->mem_free(r);
}

static void reply(struct resume *r, const char *header, struct chatd_str value)
{
	(void)r->self->h->hold_reply(r->w, r->hold, header, value);
}

static void reply_int(struct resume *r, const char *header, int64_t value)
{
	char digits[24];
	snprintf(digits, sizeof(digits), "%lld", (long long)value);
	reply(r, header, text(digits));
}

static void dest_of(const struct want *want, char ret[DEST_MAX])
{
	snprintf(ret, DEST_MAX, "%s%s", want->room[0] ? ROOM_TOPIC : INBOX, want->room);
}

static int send_rows(struct resume *r, const struct replay *p)
{
	for (size_t i = 0; i < p->n; i++) {
		chatd_status rc = r->self->h->hold_send(r->w, r->hold, p->msgs[i]);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/* Told in the subscription too: stock clients do not show the RECEIPT's headers. */
static void tell_gap(struct resume *r, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = r->self->h;
	char dest[DEST_MAX], room[256];
	struct chatd_json j;
	dest_of(&r->want, dest);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"type\":\"SYSTEM\",\"code\":\"HISTORY_GAP\"");
	if (r->want.room[0]) {
		chatd_json_member(&j, "roomId", text(r->want.room));
		chatd_json_int(&j, "firstSeq", a->first);
		chatd_json_int(&j, "topSeq", a->seq);
	}
	chatd_json_member(&j, "epoch", a->epoch);
	chatd_json_lit(&j, "}");
	chatd_msg *m = j.failed ? NULL : h->msg_new(text(dest), chatd_json_str(&j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->hold_send(r->w, r->hold, m);
	}
	h->msg_unref(m);
	chatd_json_free(&j);
}

static void close_session(struct resume *r, const char *why)
{
	chatd_session *s = r->self->h->session_find(r->w, r->hold.session);
	if (s) {
		r->self->h->session_close(s, 4010, why);
	}
}

static int above_top(const struct resume *r, const struct chatd_store_answer *a)
{
	return r->want.since > (r->want.room[0] ? a->seq : a->pos) &&
			(!r->want.epoch[0] || chatd_str_same(text(r->want.epoch), a->epoch));
}

static void reply_cursor(struct resume *r, const struct chatd_store_answer *a)
{
	char cursor[EPOCH_MAX + 32];
	snprintf(cursor, sizeof(cursor), "%lld-%.*s", (long long)a->pos, (int)a->epoch.n, a->epoch.p);
	reply(r, "cursor", text(cursor));
}

/* Where it begins is said as well: who is cut off before the first message comes back to there. */
static void begin_now(struct resume *r, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = r->self->h;
	reply(r, "epoch", a->epoch);
	if (r->want.room[0]) {
		reply_int(r, "seq", a->seq);
		(void)h->hold_release(r->w, r->hold, (uint64_t)a->seq);
	} else {
		reply_cursor(r, a);
		(void)h->hold_release_by(r->w, r->hold, "cursor", (uint64_t)a->pos);
	}
}

static void answer(struct resume *r, const struct replay *p)
{
	const struct chatd_store_answer *a = &p->a;
	const struct chatd_host *h = r->self->h;
	if (r->want.since == SINCE_NOW) {
		begin_now(r, a);
		return;
	}
	if (above_top(r, a)) {
		close_session(r, "insufficient state: since is above what there is");
		return;
	}
	if (a->whole && send_rows(r, p) == -ENOMEM) {
		close_session(r, "insufficient state: subscribe again");
		return;
	}
	reply(r, "recovered", a->whole ? CHATD_LIT("true") : CHATD_LIT("false"));
	reply(r, "epoch", a->epoch);
	if (!a->whole) {
		tell_gap(r, a);
	}
	if (!r->want.room[0]) {
		reply_cursor(r, a);
		(void)h->hold_release_by(r->w, r->hold, "cursor", (uint64_t)a->pos);
		return;
	}
	reply_int(r, "seq", a->seq);
	if (!a->whole) {
		reply_int(r, "first-seq", a->first);
	}
	(void)h->hold_release(r->w, r->hold, (uint64_t)a->seq);
}

/* ---- reads --------------------------------------------------------------------------------- */

static void crowd_add(struct crowd *c, struct resume *r)
{
	if (!c->first) {
		c->last = &c->first;
	}
	r->next = NULL;
	*c->last = r;
	c->last = &r->next;
}

static void crowd_free(struct crowd *c)
{
	struct resume *r;
	while ((r = c->first)) {
		c->first = r->next;
		on_drop(r);
	}
}

static void forget_rows(struct replay *p)
{
	for (size_t i = 0; i < p->n; i++) {
		p->self->h->msg_unref(p->msgs[i]);
	}
	p->self->h->mem_free(p->msgs);
	p->msgs = NULL;
	p->n = 0;
}

static void replay_free(struct replay *p)
{
	forget_rows(p);
	crowd_free(&p->now);
	crowd_free(&p->then);
	p->self->h->mem_free(p);
}

static void replay_end(struct replay *p)
{
	struct worker *at = p->self->h->worker_self(p->self->ctx, p->w);
	HASH_DEL(at->replays, p);
	replay_free(p);
}

static void replay_ask(struct replay *p);

/* Some at a time, so that whoever else is at this worker is not kept waiting. */
static void serve(void *arg)
{
	struct replay *p = arg;
	size_t rows = 0;
	struct resume *r;
	if (p->dead) {
		replay_free(p);
		return;
	}
	while ((r = p->now.first) && rows < SLICE_ROWS) {
		p->now.first = r->next;
		if (p->rc < 0) {
			close_session(r, "insufficient state: what was missed cannot be read now");
		} else {
			answer(r, p);
		}
		rows += p->n + 1;
		on_drop(r);
	}
	if (p->now.first && p->self->h->post(p->w, serve, p) == 0) {
		return;
	}
	forget_rows(p);
	crowd_free(&p->now);
	if (p->then.first) {
		p->now = p->then;
		p->then.first = NULL;
		replay_ask(p);
	} else {
		replay_end(p);
	}
}

static chatd_status take_rows(struct replay *p, const struct chatd_store_answer *a)
{
	char dest[DEST_MAX];
	dest_of(&p->want, dest);
	p->a = *a;
	p->a.messages = NULL;
	p->a.n_messages = 0;
	chatd_str_copy(p->epoch, sizeof(p->epoch), a->epoch);
	p->a.epoch = text(p->epoch);
	if (!a->whole || a->n_messages == 0) {
		return 0;
	}
	p->msgs = p->self->h->mem_alloc(a->n_messages * sizeof(*p->msgs));
	while (p->msgs && p->n < a->n_messages) {
		p->msgs[p->n] = stored_msg(p->self, text(dest), &a->messages[p->n], a->epoch);
		if (!p->msgs[p->n]) {
			return -ENOMEM;
		}
		p->n++;
	}
	return p->msgs ? 0 : -ENOMEM;
}

static struct lane_name lane_of(const struct want *want)
{
	struct lane_name n = { .user = text(want->user) };
	if (want->room[0]) {
		n = (struct lane_name){ .room = text(want->room) };
	}
	return n;
}

static chatd_worker *home_of(const struct replay *p)
{
	return log_home(p->self, text(p->want.room));
}

static void on_replayed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct replay *p = arg;
	if (!p->self->cluster) {
		if (!p->dead) {
			p->rc = rc < 0 ? rc : take_rows(p, a);
		}
		serve(p);
		return;
	}
	/* At the home, while the worker that asked goes on: .now is not touched there. */
	p->rc = rc < 0 ? rc : take_rows(p, a);
	if (rc == 0) {
		const struct lane_name n = lane_of(&p->want);
		lanes_open(p->self, home_of(p), &n, p->want.room[0] ? a->seq : a->pos);
	}
	if (p->self->h->post(p->w, serve, p) < 0) {
		replay_free(p); /* that worker has ended */
	}
}

static chatd_status ask_inbox(struct replay *p, chatd_worker *w)
{
	const struct want *want = &p->want;
	const struct chatd_store *store = p->self->store->vt;
	const struct chatd_store_inbox r = { .struct_size = sizeof(r),
		.max = (int32_t)p->self->conf->resume_max,
		.user = text(want->user),
		.epoch = want->epoch[0] ? text(want->epoch) : chatd_str_of(NULL, 0),
		/* Nothing is above that, and the answer says where it stands. */
		.since = want->since == SINCE_NOW ? INT64_MAX : want->since };
	return store->replay_inbox(p->self->store->obj, w, &r, on_replayed, p);
}

static chatd_status ask_room(struct replay *p, chatd_worker *w)
{
	const struct want *want = &p->want;
	const struct chatd_store *store = p->self->store->vt;
	const struct chatd_store_replay r = { .struct_size = sizeof(r),
		.max = (int32_t)p->self->conf->resume_max,
		.conv = { .room = text(want->room) },
		.epoch = want->epoch[0] ? text(want->epoch) : chatd_str_of(NULL, 0),
		.since = want->since };
	const struct chatd_store_conv_key top = { .struct_size = sizeof(top), .conv = r.conv };
	return want->since == SINCE_NOW ? store->top(p->self->store->obj, w, &top, on_replayed, p)
									: store->replay(p->self->store->obj, w, &r, on_replayed, p);
}

static void ask_store(struct replay *p, chatd_worker *w)
{
	chatd_status rc = p->want.room[0] ? ask_room(p, w) : ask_inbox(p, w);
	if (rc < 0) {
		on_replayed(p, rc, NULL);
	}
}

/* What comes from now on is kept until the answer says what it follows. */
static void ask_at_home(void *arg)
{
	struct replay *p = arg;
	const struct lane_name n = lane_of(&p->want);
	chatd_status rc = lanes_begin(p->self, home_of(p), &n);
	if (rc < 0) {
		on_replayed(p, rc, NULL);
	} else {
		ask_store(p, home_of(p));
	}
}

static void replay_ask(struct replay *p)
{
	if (!p->self->cluster) {
		ask_store(p, p->w);
	} else if (p->self->h->post(home_of(p), ask_at_home, p) < 0) {
		p->rc = -ESHUTDOWN;
		serve(p);
	}
}

/* A subscription counts from now on, and is held. */
static void on_live(void *arg, chatd_worker *w, struct chatd_hold hold)
{
	struct resume *r = arg;
	struct worker *at = r->self->h->worker_self(r->self->ctx, w);
	struct replay *p = NULL;
	r->w = w;
	r->hold = hold;
	uint64_t hash = chatd_hash(&r->self->key, (const char *)&r->want, sizeof(r->want));
	HASH_FIND_BYHASHVALUE(hh, at->replays, &r->want, sizeof(r->want), (unsigned)hash, p);
	if (p) {
		crowd_add(&p->then, r);
		return;
	}
	p = r->self->h->mem_alloc(sizeof(*p));
	if (p) {
		p->self = r->self;
		p->w = w;
		memcpy(&p->want, &r->want, sizeof(p->want)); /* what is between the members too */
		HASH_ADD_BYHASHVALUE(hh, at->replays, want, sizeof(p->want), (unsigned)hash, p);
	}
	if (!p || !p->hh.tbl) {
		close_session(r, "insufficient state: subscribe again");
		r->self->h->mem_free(p);
		on_drop(r);
		return;
	}
	crowd_add(&p->now, r);
	replay_ask(p);
}

void resume_stop(struct worker *at)
{
	struct replay *p, *next;
	HASH_ITER(hh, at->replays, p, next)
	{
		HASH_DEL(at->replays, p);
		p->dead = 1; /* freed when its answer comes */
	}
}

/* ---- subscribing --------------------------------------------------------------------------- */

/* Digits up to INT64_MAX; *at is where they end. */
static int take_number(struct chatd_str s, size_t *at, int64_t *ret)
{
	int64_t v = 0;
	size_t i = 0;
	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		int64_t digit = s.p[i] - '0';
		if (v > (INT64_MAX - digit) / 10) {
			return 0;
		}
		v = v * 10 + digit;
	}
	*at = i;
	*ret = v;
	return i > 0;
}

/* 0: `since` is none that this server gave. */
static int take_since(struct resume *r, struct chatd_str since)
{
	size_t at;
	if (!take_number(since, &at, &r->want.since)) {
		return 0;
	}
	if (r->want.room[0] || (r->want.since == 0 && since.n == 1)) {
		return at == since.n;
	}
	if (at + 1 >= since.n || since.p[at] != '-' || since.n - at - 1 > EPOCH_MAX) {
		return 0;
	}
	chatd_str_copy(
			r->want.epoch, sizeof(r->want.epoch), chatd_str_of(since.p + at + 1, since.n - at - 1));
	return 1;
}

static struct resume *resume_create(struct self *self, chatd_call *call, struct chatd_str room)
{
	const struct chatd_host *h = self->h;
	struct chatd_str epoch = h->msg_get(h->call_msg(call), "epoch");
	struct resume *r = h->mem_alloc(sizeof(*r));
	if (r) {
		r->self = self;
		chatd_str_copy(r->want.room, sizeof(r->want.room), room);
		if (!room.n) {
			chatd_str_copy(r->want.user, sizeof(r->want.user), h->ident_user(h->call_ident(call)));
		}
		chatd_str_copy(r->want.epoch, sizeof(r->want.epoch), epoch);
	}
	return r;
}

/* For the home of direct messages: a session hears them (1), or no more (-1).  What is to be
 * said at its end waits in the session's slot. */
struct inbox {
	struct self *self;
	int32_t more;
	char user[CHATD_ID_MAX + 1];
};

static void on_inbox(void *arg)
{
	struct inbox *i = arg;
	(void)lanes_user(i->self, log_home(i->self, CHATD_LIT("")), text(i->user), i->more);
	i->self->h->mem_free(i);
}

static chatd_status inbox_post(struct inbox *i)
{
	chatd_status rc = i->self->h->post(log_home(i->self, CHATD_LIT("")), on_inbox, i);
	if (rc < 0) {
		i->self->h->mem_free(i);
	}
	return rc;
}

static void drop_inbox(void *slot)
{
	struct inbox *i = *(struct inbox **)slot;
	if (i) {
		(void)inbox_post(i);
	}
}

static struct inbox *inbox_create(struct self *self, struct chatd_str user, int32_t more)
{
	struct inbox *i = self->h->mem_alloc(sizeof(*i));
	if (i) {
		i->self = self;
		i->more = more;
		chatd_str_copy(i->user, sizeof(i->user), user);
	}
	return i;
}

static chatd_status hear_inbox(struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	struct inbox **slot = h->slot(h->call_session(call), self->inbox_slot);
	struct chatd_str user = h->ident_user(h->call_ident(call));
	if (*slot) {
		return 0;
	}
	struct inbox *last = inbox_create(self, user, -1);
	struct inbox *first = last ? inbox_create(self, user, 1) : NULL;
	chatd_status rc = first ? inbox_post(first) : -ENOMEM;
	if (rc < 0) {
		h->mem_free(last);
		return rc;
	}
	*slot = last;
	return 0;
}

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str dest = h->msg_dest(h->call_msg(call)), room = { NULL, 0 };
	struct chatd_str since = h->msg_get(h->call_msg(call), "since");
	size_t prefix = sizeof(ROOM_TOPIC) - 1;
	(void)wself;
	if ((!since.p && !self->cluster) || h->call_again(call)) {
		return CHATD_NEXT;
	}
	if (h->msg_get(h->call_msg(call), "only").n) {
		return CHATD_NEXT; /* to typing, say: none of the rows that have an order */
	}
	if (dest.n > prefix && memcmp(dest.p, ROOM_TOPIC, prefix) == 0) {
		room = chatd_str_of(dest.p + prefix, dest.n - prefix);
	} else if (!chatd_str_same(dest, CHATD_LIT(INBOX))) {
		return CHATD_NEXT;
	} else if (self->cluster && hear_inbox(self, call) < 0) {
		return -ENOMEM;
	}
	struct resume *r = resume_create(self, call, room);
	if (!r) {
		return -ENOMEM;
	}
	if (!since.p || chatd_str_same(since, CHATD_LIT("now"))) {
		r->want.since = SINCE_NOW;
		r->want.epoch[0] = '\0';
	} else if (!take_since(r, since)) {
		on_drop(r);
		return h->reject(call, "VALIDATION",
				"since must be the seq of a room's message, or the cursor of a direct one; 0: all of them; "
				"now: none");
	}
	if (h->hold(call, on_live, on_drop, r) < 0) {
		on_drop(r);
		return h->reject(call, "UNAVAILABLE", "this subscription is replayed by another plugin");
	}
	return CHATD_NEXT;
}

chatd_status resume_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = 0;
	if (self->cluster) {
		rc = h->session_slot(self->ctx, sizeof(struct inbox *), drop_inbox, &self->inbox_slot);
	}
	return rc < 0 ? rc : h->hook(self->ctx, chatd_hook_subscribe, CHATD_ORDER_STORE, on_subscribe);
}

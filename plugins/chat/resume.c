/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE with `since`: what was stored after it comes first, then what is new.
 *
 * Who comes back at the same time for the same rows shares one read of the store.  Only a read
 * that is yet to begin can be joined: one that is under way may have looked before the newcomer's
 * subscription was held, and what was published in between would be missing.  So there are at
 * most two at a time for all who want the same: one under way, and those who wait for the next. */
#include "send.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { DEST_MAX = 128, SLICE_ROWS = 4000 };

/* What is wanted; zeroed, as it is compared as bytes. */
struct want {
	int64_t since;
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

static void dest_of(const struct resume *r, char ret[DEST_MAX])
{
	snprintf(ret, DEST_MAX, "%s%s", r->want.room[0] ? ROOM_TOPIC : INBOX, r->want.room);
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
	dest_of(r, dest);
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

static void answer(struct resume *r, const struct replay *p)
{
	const struct chatd_store_answer *a = &p->a;
	const struct chatd_host *h = r->self->h;
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
	dest_of(p->now.first, dest);
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

static void on_replayed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct replay *p = arg;
	if (!p->dead) {
		p->rc = rc < 0 ? rc : take_rows(p, a);
	}
	serve(p);
}

static void replay_ask(struct replay *p)
{
	const struct want *want = &p->want;
	const struct chatd_service *s = p->self->store;
	const struct chatd_store *store = s->vt;
	struct chatd_str epoch = want->epoch[0] ? text(want->epoch) : chatd_str_of(NULL, 0);
	struct chatd_store_replay room = { .struct_size = sizeof(room),
		.max = (int32_t)p->self->conf->resume_max,
		.conv = { .room = text(want->room) },
		.epoch = epoch,
		.since = want->since };
	struct chatd_store_inbox inbox = { .struct_size = sizeof(inbox),
		.max = (int32_t)p->self->conf->resume_max,
		.user = text(want->user),
		.epoch = epoch,
		.since = want->since };
	chatd_status rc = want->room[0] ? store->replay(s->obj, p->w, &room, on_replayed, p)
									: store->replay_inbox(s->obj, p->w, &inbox, on_replayed, p);
	if (rc < 0) {
		on_replayed(p, rc, NULL);
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

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str dest = h->msg_dest(h->call_msg(call)), room = { NULL, 0 };
	struct chatd_str since = h->msg_get(h->call_msg(call), "since");
	size_t prefix = sizeof(ROOM_TOPIC) - 1;
	(void)wself;
	if (!since.p) {
		return CHATD_NEXT;
	}
	if (dest.n > prefix && memcmp(dest.p, ROOM_TOPIC, prefix) == 0) {
		room = chatd_str_of(dest.p + prefix, dest.n - prefix);
	} else if (!chatd_str_same(dest, CHATD_LIT(INBOX))) {
		return CHATD_NEXT;
	}
	struct resume *r = resume_create(self, call, room);
	if (!r) {
		return -ENOMEM;
	}
	if (!take_since(r, since)) {
		on_drop(r);
		return h->reject(call, "VALIDATION",
				"since must be the seq of a room's message, or the cursor of a direct one; 0: all of them");
	}
	if (h->hold(call, on_live, on_drop, r) < 0) {
		on_drop(r);
		return h->reject(call, "UNAVAILABLE", "this subscription is replayed by another plugin");
	}
	return CHATD_NEXT;
}

chatd_status resume_init(struct self *self)
{
	return self->h->hook(self->ctx, chatd_hook_subscribe, CHATD_ORDER_STORE, on_subscribe);
}

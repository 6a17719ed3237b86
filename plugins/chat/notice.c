/* SPDX-License-Identifier: Apache-2.0 */
/* The home of a room that has news: once and then not too often, a page of members at a time. */
#include "notice.h"

#include "cluster.h"

#include <chatd-sdk/text.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct news {
	UT_hash_handle hh;
	struct self *self;
	chatd_worker *w;
	struct chatd_timer timer;
	int32_t again, asking, dead; /* dead: whoever answers next frees it */
	int64_t seq;
	struct chatd_json preview;
	char room[CHATD_ID_MAX + 1], after[CHATD_ID_MAX + 1];
};

static struct worker *worker_of(const struct news *n)
{
	return n->self->h->worker_self(n->self->ctx, n->w);
}

static void news_free(struct news *n)
{
	chatd_json_free(&n->preview);
	n->self->h->mem_free(n);
}

static void forget(struct news *n)
{
	struct worker *at = worker_of(n);
	HASH_DEL(at->news, n);
	news_free(n);
}

/* 0: the worker has ended meanwhile, and so has this. */
static int answered(struct news *n)
{
	n->asking = 0;
	if (n->dead) {
		news_free(n);
		return 0;
	}
	return 1;
}

static void round_begin(struct news *n);

static void on_due(void *arg)
{
	struct news *n = arg;
	if (n->again) {
		round_begin(n);
	} else {
		forget(n);
	}
}

static void round_end(struct news *n)
{
	n->self->h->timer_set(n->w, &n->timer, n->self->conf->notice_interval, on_due, n);
}

/* ---- the members -------------------------------------------------------------------------- */

static void on_batch(void *arg)
{
	struct batch *b = arg;
	listen_to(b);
	b->self->h->mem_free(b);
}

static struct batch *batch_create(struct self *self, chatd_worker *w, const struct told *t)
{
	size_t users = t->n * (CHATD_ID_MAX + 1);
	struct batch *b = self->h->mem_alloc(sizeof(*b) + users + t->preview.n);
	if (!b) {
		return NULL; /* the next news tells the same and more */
	}
	b->self = self;
	b->w = w;
	b->seq = t->seq;
	b->n = t->n;
	b->users = (char(*)[CHATD_ID_MAX + 1])(b + 1);
	b->preview = (char *)(b + 1) + users;
	b->n_preview = t->preview.n;
	memcpy((char *)(b + 1) + users, t->preview.p, t->preview.n);
	chatd_str_copy(b->room, sizeof(b->room), t->room);
	for (size_t i = 0; i < b->n; i++) {
		chatd_str_copy(b->users[i], sizeof(b->users[i]), t->users[i]);
	}
	return b;
}

void notice_hand_out(struct self *self, const struct told *t)
{
	const struct chatd_host *h = self->h;
	for (int32_t i = 0; atomic_load(listen_count(self)) && i < h->worker_count(); i++) {
		struct batch *b = batch_create(self, h->worker_at(i), t);
		if (b && h->post(h->worker_at(i), on_batch, b) < 0) {
			h->mem_free(b);
		}
	}
}

/* One page of members. */
static void hand_out(const struct news *n, const struct chatd_store_answer *a)
{
	struct chatd_str users[NOTICE_PAGE];
	const struct told t = { .room = text(n->room),
		.preview = chatd_json_str(&n->preview),
		.seq = n->seq,
		.users = users,
		.n = a->n_members };
	for (size_t i = 0; i < a->n_members; i++) {
		users[i] = a->members[i].user;
	}
	notice_hand_out(n->self, &t);
	if (n->self->cluster) {
		wire_notice(n->self, n->w, &t);
	}
}

static void ask_members(void *arg);

static void on_members(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct news *n = arg;
	if (!answered(n)) {
		return;
	}
	if (rc == 0 && a->n_members) {
		hand_out(n, a);
	}
	if (rc == 0 && a->n_members == NOTICE_PAGE) {
		chatd_str_copy(n->after, sizeof(n->after), a->members[a->n_members - 1].user);
		n->self->h->timer_set(n->w, &n->timer, NOTICE_PAUSE_MS, ask_members, n);
	} else {
		round_end(n);
	}
}

static void ask_members(void *arg)
{
	struct news *n = arg;
	const struct chatd_store *store = n->self->store->vt;
	const struct chatd_store_members r = { .struct_size = sizeof(r),
		.which = CHATD_STORE_MEMBERS,
		.room = text(n->room),
		.after = text(n->after),
		.limit = NOTICE_PAGE };
	n->asking = store->members(n->self->store->obj, n->w, &r, on_members, n) == 0;
	if (!n->asking) {
		round_end(n);
	}
}

/* ---- what was said last --------------------------------------------------------------------- */

struct said {
	struct chatd_str id, sender, name, content, time;
	int32_t encrypted;
};

static const struct chatd_json_field said_fields[] = {
	{ "id", CHATD_J_TEXT, offsetof(struct said, id) },
	{ "sender", CHATD_J_TEXT, offsetof(struct said, sender) },
	{ "senderName", CHATD_J_TEXT, offsetof(struct said, name) },
	{ "content", CHATD_J_TEXT, offsetof(struct said, content) },
	{ "timestamp", CHATD_J_TEXT, offsetof(struct said, time) },
	{ "encrypted", CHATD_J_BOOL, offsetof(struct said, encrypted) },
	{ NULL, 0, 0 },
};

static void write_preview(struct chatd_json *j, const struct chatd_store_message *m)
{
	struct said s = { .encrypted = 0 };
	json_t *root = NULL;
	char why[CHATD_JSON_WHY];
	if (m->body.n == 0 || chatd_json_read(m->body, said_fields, &s, &root, why) < 0) {
		s = (struct said){ .id = m->id, .sender = m->sender };
	}
	chatd_json_free(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", s.id);
	chatd_json_member(j, "sender", s.sender);
	chatd_json_member(j, "senderId", s.sender);
	chatd_json_member(j, "senderName", s.name);
	if (s.encrypted != 1 && s.content.p) {
		chatd_json_member(j, "content", chatd_text_first(s.content, PREVIEW_CHARS));
	}
	chatd_json_member(j, "timestamp", s.time);
	chatd_json_lit(j, "}");
	json_decref(root);
}

static void on_newest(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct news *n = arg;
	if (!answered(n)) {
		return;
	}
	if (rc < 0 || a->n_messages == 0) {
		round_end(n);
		return;
	}
	n->seq = a->messages[0].seq;
	write_preview(&n->preview, &a->messages[0]);
	n->after[0] = '\0';
	if (n->preview.failed) {
		round_end(n);
	} else {
		ask_members(n);
	}
}

static void round_begin(struct news *n)
{
	const struct chatd_store *store = n->self->store->vt;
	const struct chatd_store_page r = {
		.struct_size = sizeof(r), .limit = 1, .conv = { .room = text(n->room) }, .after = -1
	};
	n->again = 0;
	n->asking = store->page(n->self->store->obj, n->w, &r, on_newest, n) == 0;
	if (!n->asking) {
		round_end(n);
	}
}

/* ---- news ------------------------------------------------------------------------------------ */

void notice_row(struct self *self, chatd_worker *home, struct chatd_str room)
{
	struct worker *at = self->h->worker_self(self->ctx, home);
	struct news *n = NULL;
	/* Whether somebody listens on another node is not known here. */
	if (!self->conf->notice_interval || (!self->cluster && atomic_load(listen_count(self)) == 0)) {
		return;
	}
	HASH_FIND(hh, at->news, room.p, room.n, n);
	if (n) {
		n->again = 1;
		return;
	}
	n = self->h->mem_alloc(sizeof(*n));
	if (!n) {
		return;
	}
	n->self = self;
	n->w = home;
	chatd_json_init(&n->preview, NULL, 0);
	chatd_str_copy(n->room, sizeof(n->room), room);
	HASH_ADD(hh, at->news, room, room.n, n);
	if (!n->hh.tbl) { /* no memory */
		news_free(n);
		return;
	}
	round_begin(n);
}

void notice_stop(struct worker *at)
{
	struct news *n, *next;
	HASH_ITER(hh, at->news, n, next)
	{
		HASH_DEL(at->news, n);
		at->self->h->timer_clear(&n->timer);
		n->dead = 1;
		if (!n->asking) {
			news_free(n);
		}
	}
	listen_stop(at);
}

chatd_status notice_init(struct self *self)
{
	if (!self->conf->notice_interval) {
		return 0;
	}
	self->listening = self->h->mem_alloc(sizeof(atomic_llong));
	return self->listening ? listen_init(self) : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The home of a conversation in which something was said: who of it is not here?  At once, and
 * then not too often; of a large room a page of members at a time. */
#include "push.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { PAUSE_MS = 100, TO_A = 1, TO_B = 2 };

struct names {
	size_t n;
	char (*p)[CHATD_ID_MAX + 1]; /* MENTIONS_MAX */
};

struct news {
	UT_hash_handle hh;
	struct wself *ws;
	struct chatd_timer timer;
	int32_t asking, again, dead; /* dead: whoever answers next frees it */
	int32_t to;                  /* of two users, TO_* */
	struct names said, asked;    /* who is mentioned: since the last look, and for this one */
	char room[CHATD_ID_MAX + 1], a[CHATD_ID_MAX + 1], b[CHATD_ID_MAX + 1];
	char after[CHATD_ID_MAX + 1]; /* the last member of the page before */
	char key[2 * CHATD_ID_MAX + 4];
};

/* Some users of one conversation, of whom is asked whether they are here. */
struct crowd {
	struct wself *ws;
	struct place place; /* .with is the other of two users */
	size_t n;
	uint32_t *called; /* bits: it is they who are called for */
	char (*users)[CHATD_ID_MAX + 1];
};

/* One of them, who is not. */
struct absent {
	struct wself *ws;
	struct place place;
	int32_t called;
	char user[CHATD_ID_MAX + 1];
};

/* ---- whom it concerns ------------------------------------------------------------------------ */

static void on_book(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct absent *who = arg;
	struct wself *ws = who->ws;
	if (!ws->stopped && rc == 0) {
		json_t *book = book_read(a->records[0].value);
		if (book_wants(book, &who->place, who->called, ws->self->h->wall_ms())) {
			queue_put(ws, who->user, &who->place);
		}
		json_decref(book);
	}
	chatd_open_free(ws->self->h, &ws->self->open, who);
}

static void ask_book(struct wself *ws, const struct crowd *c, size_t i)
{
	struct self *self = ws->self;
	struct absent *who = chatd_open_alloc(self->h, &self->open, sizeof(*who));
	if (!who) {
		return;
	}
	who->ws = ws;
	who->place = c->place;
	who->called = !c->place.room[0] || (c->called[i / 32] >> i % 32 & 1);
	memcpy(who->user, c->users[i], sizeof(who->user));
	const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, who->user);
	if (store_of(self)->record_get(self->store->obj, ws->w, &k, on_book, who) < 0) {
		chatd_open_free(self->h, &self->open, who);
	}
}

/* Where it is not known who is here, it is looked at again when it is due. */
static void on_online(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct crowd *c = arg;
	for (size_t i = 0; i < c->n && !c->ws->stopped; i++) {
		if (rc < 0 || i >= n || !online[i]) {
			ask_book(c->ws, c, i);
		}
	}
	chatd_open_free(c->ws->self->h, &c->ws->self->open, c);
}

static struct crowd *crowd_create(struct wself *ws, size_t room_for)
{
	size_t words = (room_for + 31) / 32;
	struct crowd *c = chatd_open_alloc(ws->self->h, &ws->self->open,
			sizeof(*c) + words * sizeof(uint32_t) + room_for * (CHATD_ID_MAX + 1));
	if (c) {
		c->ws = ws;
		c->called = (uint32_t *)(c + 1);
		c->users = (char(*)[CHATD_ID_MAX + 1])(c->called + words);
	}
	return c;
}

static void crowd_ask(struct crowd *c)
{
	struct self *self = c->ws->self;
	const struct chatd_presence *p = self->presence->vt;
	struct chatd_str users[MEMBERS_PAGE];
	for (size_t i = 0; i < c->n; i++) {
		users[i] = text(c->users[i]);
	}
	if (c->n == 0 || p->get(self->presence->obj, c->ws->w, users, c->n, on_online, c) < 0) {
		chatd_open_free(self->h, &self->open, c);
	}
}

static int is_among(const struct names *names, const char *user)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(names->p[i], user) == 0) {
			return 1;
		}
	}
	return 0;
}

static void crowd_of_members(const struct news *n, const struct chatd_store_answer *a)
{
	struct crowd *c = crowd_create(n->ws, a->n_members);
	if (!c) {
		return;
	}
	memcpy(c->place.room, n->room, sizeof(c->place.room));
	for (size_t i = 0; i < a->n_members; i++, c->n++) {
		chatd_str_copy(c->users[i], sizeof(c->users[i]), a->members[i].user);
		if (is_among(&n->asked, c->users[i])) {
			c->called[i / 32] |= 1u << i % 32;
		}
	}
	crowd_ask(c);
}

static void crowd_of_one(const struct news *n, const char *user, const char *other)
{
	struct crowd *c = crowd_create(n->ws, 1);
	if (c) {
		chatd_str_copy(c->users[0], sizeof(c->users[0]), text(user));
		chatd_str_copy(c->place.with, sizeof(c->place.with), text(other));
		c->n = 1;
		crowd_ask(c);
	}
}

/* ---- news -------------------------------------------------------------------------------------- */

static void news_free(struct news *n)
{
	free(n->said.p);
	free(n->asked.p);
	n->ws->self->h->mem_free(n);
}

static void look(struct news *n);

static void on_due(void *arg)
{
	struct news *n = arg;
	if (n->again) {
		look(n);
	} else {
		HASH_DEL(n->ws->news, n);
		news_free(n);
	}
}

static void look_end(struct news *n)
{
	n->after[0] = '\0';
	n->ws->self->h->timer_set(n->ws->w, &n->timer, n->ws->self->conf->interval, on_due, n);
}

static void ask_members(void *arg);

static void on_members(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct news *n = arg;
	n->asking = 0;
	chatd_open_end(&n->ws->self->open);
	if (n->dead) {
		news_free(n);
		return;
	}
	if (rc == 0 && a->n_members) {
		crowd_of_members(n, a);
	}
	if (rc == 0 && a->n_members == MEMBERS_PAGE) {
		chatd_str_copy(n->after, sizeof(n->after), a->members[a->n_members - 1].user);
		n->ws->self->h->timer_set(n->ws->w, &n->timer, PAUSE_MS, ask_members, n);
	} else {
		look_end(n);
	}
}

static void ask_members(void *arg)
{
	struct news *n = arg;
	struct self *self = n->ws->self;
	const struct chatd_store_members r = { .struct_size = sizeof(r),
		.which = CHATD_STORE_MEMBERS,
		.room = text(n->room),
		.after = text(n->after),
		.limit = MEMBERS_PAGE };
	n->asking =
			chatd_open_asked(&self->open,
					store_of(self)->members(self->store->obj, n->ws->w, &r, on_members, n)) == 0;
	if (!n->asking) {
		look_end(n);
	}
}

static void look(struct news *n)
{
	struct names done = n->asked;
	n->again = 0;
	n->asked = n->said;
	n->said = (struct names){ 0, done.p };
	if (n->room[0]) {
		ask_members(n);
		return;
	}
	if (n->to & TO_A) {
		crowd_of_one(n, n->a, n->b);
	}
	if (n->to & TO_B) {
		crowd_of_one(n, n->b, n->a);
	}
	n->to = 0;
	look_end(n);
}

static void take_mentions(struct news *n, struct chatd_str body)
{
	static const char member[] = "\"mentions\"";
	char why[CHATD_JSON_WHY];
	json_t *root, *one;
	size_t i;
	/* Few have any, and to take each message apart would be a good part of what it costs. */
	if (!memmem(body.p, body.n, member, sizeof(member) - 1)) {
		return;
	}
	root = chatd_json_parse(body, why);
	json_array_foreach (json_object_get(root, "mentions"), i, one) {
		const char *user = json_string_value(one);
		struct names *to = &n->said;
		if (!to->p) {
			to->p = calloc(MENTIONS_MAX, sizeof(*to->p));
		}
		if (user && to->p && to->n < MENTIONS_MAX && !is_among(to, user)) {
			chatd_str_copy(to->p[to->n++], sizeof(*to->p), text(user));
		}
	}
	json_decref(root);
}

/* The same whichever of the two wrote. */
static int is_turned(struct chatd_str a, struct chatd_str b)
{
	int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
	return order > 0 || (order == 0 && a.n > b.n);
}

static struct news *news_of(struct wself *ws, const struct chatd_store_conv *c, int *ret_is_new)
{
	char key[sizeof(((struct news *)0)->key)];
	struct news *n = NULL;
	int turned = !c->room.p && is_turned(c->a, c->b);
	struct chatd_str a = turned ? c->b : c->a, b = turned ? c->a : c->b;
	int len = c->room.p ? snprintf(key, sizeof(key), "r %.*s", (int)c->room.n, c->room.p)
						: snprintf(key, sizeof(key), "%.*s %.*s", (int)a.n, a.p, (int)b.n, b.p);
	HASH_FIND(hh, ws->news, key, (size_t)len, n);
	*ret_is_new = !n;
	if (n) {
		return n;
	}
	n = ws->self->h->mem_alloc(sizeof(*n));
	if (!n) {
		return NULL;
	}
	n->ws = ws;
	memcpy(n->key, key, sizeof(n->key));
	if (c->room.p) {
		chatd_str_copy(n->room, sizeof(n->room), c->room);
	} else {
		chatd_str_copy(n->a, sizeof(n->a), a);
		chatd_str_copy(n->b, sizeof(n->b), b);
	}
	HASH_ADD(hh, ws->news, key, (size_t)len, n);
	if (!n->hh.tbl) {
		news_free(n);
		return NULL;
	}
	return n;
}

void news_row(void *selfp, chatd_worker *w, const struct chatd_store_message *m)
{
	struct self *self = selfp;
	struct wself *ws = self->h->worker_self(self->ctx, w);
	if (m->kind != CHATD_STORE_MESSAGE || ws->drains || ws->stopped || !m->body.n) {
		return;
	}
	if (!m->conv.room.p && chatd_str_same(m->conv.a, m->conv.b)) {
		return;
	}
	int is_new;
	struct news *n = news_of(ws, &m->conv, &is_new);
	if (!n) {
		return; /* no memory: what comes next tells the same and more */
	}
	if (n->room[0]) {
		take_mentions(n, m->body);
	} else {
		n->to |= chatd_str_same(m->sender, text(n->a)) ? TO_B : TO_A;
	}
	if (is_new) {
		look(n);
	} else {
		n->again = 1;
	}
}

void news_stop(struct wself *ws)
{
	struct news *n, *next;
	HASH_ITER(hh, ws->news, n, next)
	{
		HASH_DEL(ws->news, n);
		ws->self->h->timer_clear(&n->timer);
		n->dead = 1;
		if (!n->asking) {
			news_free(n);
		}
	}
}

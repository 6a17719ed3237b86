/* SPDX-License-Identifier: Apache-2.0 */
/* visible_to: contacts.  Who may know what somebody is: people who have a conversation or a room
 * with them.  The store is asked, one thing after the other. */
#include "presence.h"

enum { ROOMS_MAX = 1000 };

struct allow {
	struct self *self;
	chatd_worker *w;
	allow_fn *fn;
	void *arg;
	char who[CHATD_ID_MAX + 1];
	size_t n, at;
	size_t n_mine;
	uint64_t mine[ROOMS_MAX]; /* hashes of the rooms of who, ascending */
	struct chatd_str users[]; /* and their text */
};

static void next(struct allow *a);

static void finish(struct allow *a, chatd_status rc)
{
	a->fn(a->arg, rc, a->at);
	chatd_open_free(a->self->h, &a->self->open, a);
}

static const struct chatd_store *store_of(const struct allow *a)
{
	return a->self->store->vt;
}

static uint64_t hash_of(const struct allow *a, struct chatd_str room)
{
	return chatd_hash(&a->self->key, room.p, room.n);
}

static int compare(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
	return a < b ? -1 : a > b;
}

static void on_theirs(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct allow *a = arg;
	if (rc < 0) {
		finish(a, -EAGAIN);
		return;
	}
	for (size_t i = 0; i < s->n_rooms; i++) {
		uint64_t room = hash_of(a, s->rooms[i].id);
		if (bsearch(&room, a->mine, a->n_mine, sizeof(room), compare)) {
			a->at++;
			next(a);
			return;
		}
	}
	finish(a, -EACCES);
}

static void ask_rooms(struct allow *a, struct chatd_str user, chatd_store_fn *fn)
{
	const struct chatd_store_room_list r = {
		.struct_size = sizeof(r), .scope = CHATD_STORE_MINE, .user = user, .limit = ROOMS_MAX
	};
	if (store_of(a)->room_list(a->self->store->obj, a->w, &r, fn, a) < 0) {
		finish(a, -EAGAIN);
	}
}

static void on_top(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct allow *a = arg;
	if (rc < 0 && rc != -ENOENT) {
		finish(a, -EAGAIN);
	} else if (rc == 0 && s->seq > 0) {
		a->at++;
		next(a);
	} else if (a->n_mine == 0) {
		finish(a, -EACCES);
	} else {
		ask_rooms(a, a->users[a->at], on_theirs);
	}
}

static void next(struct allow *a)
{
	while (a->at < a->n && chatd_str_same(a->users[a->at], text(a->who))) {
		a->at++;
	}
	if (a->at == a->n) {
		finish(a, 0);
		return;
	}
	const struct chatd_store_conv_key r = { .struct_size = sizeof(r),
		.conv = { .a = text(a->who), .b = a->users[a->at] } };
	if (store_of(a)->top(a->self->store->obj, a->w, &r, on_top, a) < 0) {
		finish(a, -EAGAIN);
	}
}

static void on_mine(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct allow *a = arg;
	if (rc < 0) {
		finish(a, -EAGAIN);
		return;
	}
	for (size_t i = 0; i < s->n_rooms && i < ROOMS_MAX; i++) {
		a->mine[a->n_mine++] = hash_of(a, s->rooms[i].id);
	}
	qsort(a->mine, a->n_mine, sizeof(a->mine[0]), compare);
	next(a);
}

int allow_asks(const struct self *self, const chatd_ident *who)
{
	return self->conf->visible_to == VISIBLE_TO_CONTACTS &&
			!(self->h->ident_flags(who) & CHATD_ID_ADMIN);
}

chatd_status allow_ask(chatd_worker *w, const struct allow_question *q)
{
	struct self *self = q->self;
	size_t bytes = 0;
	for (size_t i = 0; i < q->n; i++) {
		bytes += q->users[i].n;
	}
	struct allow *a =
			chatd_open_alloc(self->h, &self->open, sizeof(*a) + q->n * sizeof(a->users[0]) + bytes);
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->w = w;
	a->fn = q->fn;
	a->arg = q->arg;
	a->n = q->n;
	chatd_str_copy(a->who, sizeof(a->who), self->h->ident_user(q->who));
	char *to = (char *)(a->users + q->n);
	for (size_t i = 0; i < q->n; i++) {
		if (q->users[i].n) {
			memcpy(to, q->users[i].p, q->users[i].n);
		}
		a->users[i] = chatd_str_of(to, q->users[i].n);
		to += q->users[i].n;
	}
	const struct chatd_store_room_list r = { .struct_size = sizeof(r),
		.scope = CHATD_STORE_MINE,
		.user = text(a->who),
		.limit = ROOMS_MAX };
	chatd_status rc = store_of(a)->room_list(self->store->obj, w, &r, on_mine, a);
	if (rc < 0) {
		chatd_open_free(self->h, &self->open, a);
	}
	return rc;
}

/* ---- GET /api/chat/users/{id}/status, which is another plugin's ------------------------------------- */

struct guard {
	struct self *self;
	chatd_token token;
};

static void on_guarded(void *arg, chatd_status rc, size_t at)
{
	struct guard *g = arg;
	const struct chatd_host *h = g->self->h;
	(void)at;
	if (rc == 0) {
		(void)h->resume(g->token, CHATD_NEXT, NULL, NULL);
	} else if (rc == -EACCES) {
		(void)h->resume(g->token, CHATD_REJECT, "FORBIDDEN", ALLOW_NOT);
	} else {
		(void)h->resume(g->token, CHATD_REJECT, "UNAVAILABLE", ALLOW_UNKNOWN);
	}
	chatd_open_free(g->self->h, &g->self->open, g);
}

/* .p NULL: another path. */
static struct chatd_str user_of(struct chatd_str path)
{
	static const char head[] = "/api/chat/users/", tail[] = "/status";
	size_t h = sizeof(head) - 1, t = sizeof(tail) - 1;
	struct chatd_str none = { NULL, 0 };
	if (path.n <= h + t || memcmp(path.p, head, h) != 0 ||
			memcmp(path.p + path.n - t, tail, t) != 0) {
		return none;
	}
	struct chatd_str user = chatd_str_of(path.p + h, path.n - h - t);
	return chatd_id_ok(user) ? user : none;
}

chatd_verdict on_request_as(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str user = user_of(h->msg_dest(h->call_msg(call)));
	(void)wself;
	if (!user.p || !allow_asks(self, h->call_ident(call))) {
		return CHATD_NEXT;
	}
	struct guard *g = chatd_open_alloc(self->h, &self->open, sizeof(*g));
	if (!g) {
		return -ENOMEM;
	}
	*g = (struct guard){ .self = self, .token = h->suspend(call, NULL, NULL) };
	if (!g->token) {
		chatd_open_free(self->h, &self->open, g);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	const struct allow_question q = {
		.self = self, .who = h->call_ident(call), .users = &user, .n = 1, .fn = on_guarded, .arg = g
	};
	if (allow_ask(h->call_worker(call), &q) < 0) {
		on_guarded(g, -EAGAIN, 0);
	}
	return CHATD_WAIT;
}

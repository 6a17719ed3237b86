/* SPDX-License-Identifier: Apache-2.0 */
/* Who has left counts as present for a while yet, and so does whose network has gone: what came
 * since then reached nobody.  Once presence knows, it is made up for. */
#include "push.h"

enum { LOOKED_AT = 20 };

struct leave {
	struct wself *ws;
	json_t *book;
	char user[CHATD_ID_MAX + 1];
};

static void leave_free(struct leave *l)
{
	json_decref(l->book);
	chatd_open_free(l->ws->self->h, &l->ws->self->open, l);
}

static int is_called(const struct leave *l, struct chatd_str body)
{
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(body, why), *one;
	int found = 0;
	size_t i;
	json_array_foreach (json_object_get(root, "mentions"), i, one) {
		found |= json_is_string(one) && strcmp(json_string_value(one), l->user) == 0;
	}
	json_decref(root);
	return found;
}

static void look_at(const struct leave *l, const struct chatd_store_conversation *c)
{
	const struct self *self = l->ws->self;
	int64_t now = self->h->wall_ms();
	struct place p = { "", "" };
	if (!c->unread || !c->last.kind || c->last.wall < now - self->conf->recent ||
			chatd_str_same(c->last.sender, text(l->user))) {
		return;
	}
	int mine = chatd_str_same(c->conv.a, text(l->user));
	if (c->conv.room.p) {
		chatd_str_copy(p.room, sizeof(p.room), c->conv.room);
	} else {
		chatd_str_copy(p.with, sizeof(p.with), mine ? c->conv.b : c->conv.a);
	}
	if (book_wants(l->book, &p, !c->conv.room.p || is_called(l, c->last.body), now)) {
		queue_put(l->ws, l->user, &p);
	}
}

static void on_conversations(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct leave *l = arg;
	for (size_t i = 0; rc == 0 && !l->ws->stopped && i < a->n_conversations; i++) {
		look_at(l, &a->conversations[i]);
	}
	leave_free(l);
}

static void on_book(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct leave *l = arg;
	struct self *self = l->ws->self;
	const struct chatd_store_conversations c = {
		.struct_size = sizeof(c), .limit = LOOKED_AT, .user = text(l->user)
	};
	l->book = rc == 0 ? book_read(a->records[0].value) : NULL;
	if (l->ws->stopped || !l->book || !book_count(l->book) ||
			store_of(self)->conversations(self->store->obj, l->ws->w, &c, on_conversations, l) <
					0) {
		leave_free(l);
	}
}

void leave_event(void *selfp, chatd_worker *w, struct chatd_str user, int32_t online)
{
	struct self *self = selfp;
	struct wself *ws = self->h->worker_self(self->ctx, w);
	struct leave *l = online || ws->stopped || !ws->self || !self->conf->recent
			? NULL
			: chatd_open_alloc(self->h, &self->open, sizeof(*l));
	if (!l) {
		return;
	}
	l->ws = ws;
	chatd_str_copy(l->user, sizeof(l->user), user);
	const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, l->user);
	if (store_of(self)->record_get(self->store->obj, w, &k, on_book, l) < 0) {
		leave_free(l);
	}
}

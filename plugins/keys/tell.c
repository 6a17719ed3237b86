/* SPDX-License-Identifier: Apache-2.0 */
/* /user/queue/keys: that somebody's devices are others now, that one-time prekeys run out.  Who
 * misses it finds out before he writes: clients look again when what they know is a minute old. */
#include "keys.h"

#define QUEUE CHATD_LIT("/user/queue/keys")

static void publish(
		const struct self *self, chatd_worker *w, struct chatd_str user, const struct chatd_json *j)
{
	const struct chatd_host *h = self->h;
	chatd_msg *m = j->failed ? NULL : h->msg_new(QUEUE, chatd_json_str(j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
		(void)h->publish_user(w, user, m);
	}
	h->msg_unref(m);
}

void tell_low(const struct ask *a, struct chatd_str user, int64_t left)
{
	char room[160];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"type\":\"KEYS_LOW\"");
	chatd_json_member(&j, "deviceId", text(a->device));
	chatd_json_int(&j, "prekeys", left);
	chatd_json_lit(&j, "}");
	publish(self_of(a), a->a.w, user, &j);
	chatd_json_free(&j);
}

struct news {
	struct self *self;
	chatd_worker *w;
	char user[CHATD_ID_MAX + 1];
};

static void tell(const struct news *n, struct chatd_str to)
{
	char room[128];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"type\":\"KEYS\"");
	chatd_json_member(&j, "userId", text(n->user));
	chatd_json_lit(&j, "}");
	publish(n->self, n->w, to, &j);
	chatd_json_free(&j);
}

static void on_conversations(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct news *n = arg;
	for (size_t i = 0; rc == 0 && i < s->n_conversations; i++) {
		const struct chatd_store_conv *c = &s->conversations[i].conv;
		struct chatd_str other = chatd_str_same(c->a, text(n->user)) ? c->b : c->a;
		if (!c->room.n && !chatd_str_same(other, text(n->user))) {
			tell(n, other);
		}
	}
	n->self->h->mem_free(n);
}

void tell_changed(struct self *self, chatd_worker *w, struct chatd_str user)
{
	const struct chatd_store *store = self->store->vt;
	struct news *n = self->h->mem_alloc(sizeof(*n));
	if (!n) {
		return;
	}
	n->self = self;
	n->w = w;
	chatd_str_copy(n->user, sizeof(n->user), user);
	tell(n, user);
	const struct chatd_store_conversations list = {
		.struct_size = sizeof(list), .limit = PEERS_MAX, .user = text(n->user)
	};
	if (store->conversations(self->store->obj, w, &list, on_conversations, n) < 0) {
		self->h->mem_free(n);
	}
}

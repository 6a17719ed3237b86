/* SPDX-License-Identifier: Apache-2.0 */
/* Who may say that something was read, where that is, and, with a store, the mark itself: it is
 * stored before the RECEIPT and before anybody is told. */
#include "receipts.h"

static const char not_member[] = "you are not a member of this room, or there is no such room";

struct ask {
	struct self *self;
	chatd_worker *w;
	chatd_token token;
	chatd_sid session;
	struct mark mark;
	char user[CHATD_ID_MAX + 1], device[CHATD_ID_MAX + 1];
};

static void finish(struct ask *a, chatd_verdict v, const char *code, const char *why)
{
	(void)a->self->h->resume(a->token, v, code, why);
	atomic_fetch_sub(&a->self->asks, 1);
	a->self->h->mem_free(a);
}

static void refuse(struct ask *a, chatd_status rc)
{
	if (rc == -EACCES || rc == -ENOENT) {
		if (a->mark.is_room) {
			finish(a, CHATD_REJECT, "NOT_MEMBER", not_member);
		} else {
			finish(a, CHATD_REJECT, "NOT_FOUND", "there is no such message");
		}
	} else if (rc == -ERANGE) {
		finish(a, CHATD_REJECT, "VALIDATION",
				"seq is above the newest message of this conversation");
	} else if (rc == -EAGAIN || rc == -EBUSY) {
		finish(a, CHATD_REJECT, "STORE_BUSY", "marks cannot be stored fast enough now; try again");
	} else if (rc == -ENOSPC) {
		finish(a, CHATD_REJECT, "STORE_FULL", "there is no space left");
	} else {
		finish(a, CHATD_REJECT, "UNAVAILABLE", "marks cannot be stored now");
	}
}

/* ---- the mark -------------------------------------------------------------------------------- */

static void tell(struct ask *a)
{
	chatd_session *session = a->self->h->session_find(a->w, a->session);
	int alone = !a->mark.is_room && strcmp(a->mark.where, a->user) == 0;
	if (session && (!alone || a->self->store)) {
		tell_go_on(a->self, session, &a->mark);
	}
}

static void on_stored(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (rc < 0) {
		refuse(a, rc);
		return;
	}
	if (s->n) { /* further than before, on whichever device that was */
		a->mark.seq = s->seq;
		tell(a);
	}
	finish(a, CHATD_ACCEPT, NULL, NULL);
}

static struct chatd_store_conv conv_of(const struct ask *a)
{
	struct chatd_store_conv c = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (a->mark.is_room) {
		c.room = text(a->mark.where);
	} else {
		c.a = text(a->user);
		c.b = text(a->mark.where);
	}
	return c;
}

static void put(struct ask *a)
{
	const struct chatd_service *s = a->self->store;
	if (!s) {
		tell(a);
		finish(a, CHATD_ACCEPT, NULL, NULL);
		return;
	}
	const struct chatd_store *store = s->vt;
	const struct chatd_store_cursor r = { .struct_size = sizeof(r),
		.kind = a->mark.delivered ? CHATD_STORE_DELIVERED : CHATD_STORE_READ,
		.conv = conv_of(a),
		.user = text(a->user),
		.device = text(a->device),
		.seq = a->mark.seq };
	chatd_status rc = store->cursor_set(s->obj, a->w, &r, on_stored, a);
	if (rc < 0) {
		refuse(a, rc);
	}
}

/* ---- rooms: members only ------------------------------------------------------------------------ */

static void on_room(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct ask *a = arg;
	if (rc < 0 || v->role == CHATD_ROLE_NONE) {
		finish(a, CHATD_REJECT, "NOT_MEMBER", not_member);
		return;
	}
	a->mark.quiet = a->self->conf->room_max && v->members > a->self->conf->room_max;
	put(a);
}

static void look_room(struct ask *a)
{
	const struct chatd_rooms *rooms = a->self->rooms ? a->self->rooms->vt : NULL;
	if (!a->mark.is_room) {
		put(a);
	} else if (!rooms) {
		finish(a, CHATD_REJECT, "NOT_MEMBER", not_member);
	} else if (rooms->look(a->self->rooms->obj, a->w, text(a->mark.where), text(a->user), on_room,
					   a) < 0) {
		finish(a, CHATD_REJECT, "UNAVAILABLE", "rooms cannot be looked up now");
	}
}

/* ---- the message ---------------------------------------------------------------------------------- */

/* NULL, or what does not fit. */
static const char *place(struct ask *a, const struct chatd_store_message *m)
{
	int mine = chatd_str_same(m->conv.a, text(a->user));
	struct chatd_str where = m->conv.room.n ? m->conv.room : mine ? m->conv.b : m->conv.a;
	if (a->mark.named &&
			(a->mark.is_room != (m->conv.room.n > 0) ||
					!chatd_str_same(where, text(a->mark.where)))) {
		return "messageId is of another conversation";
	}
	a->mark.is_room = m->conv.room.n > 0;
	chatd_str_copy(a->mark.where, sizeof(a->mark.where), where);
	a->mark.seq = m->seq > a->mark.seq ? m->seq : a->mark.seq;
	return NULL;
}

static void on_message(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (rc < 0) {
		refuse(a, rc);
		return;
	}
	const char *fault = place(a, &s->messages[0]);
	if (fault) {
		finish(a, CHATD_REJECT, "VALIDATION", fault);
	} else {
		look_room(a);
	}
}

static void look_message(struct ask *a)
{
	const struct chatd_service *s = a->self->store;
	const struct chatd_store *store = s->vt;
	const struct chatd_store_message_key key = {
		.struct_size = sizeof(key), .id = text(a->mark.message), .user = text(a->user)
	};
	chatd_status rc = store->message(s->obj, a->w, &key, on_message, a);
	if (rc < 0) {
		refuse(a, rc);
	}
}

/* ---- the call ---------------------------------------------------------------------------------------- */

static chatd_verdict at_once(struct self *self, chatd_call *call, const struct mark *m)
{
	const struct chatd_host *h = self->h;
	if (!chatd_str_same(text(m->where), h->ident_user(h->call_ident(call)))) {
		tell_go_on(self, h->call_session(call), m);
	}
	return CHATD_ACCEPT;
}

chatd_verdict marks_take(struct self *self, chatd_call *call, const struct mark *m)
{
	const struct chatd_host *h = self->h;
	if (!self->store && !m->is_room) {
		return at_once(self, call, m);
	}
	if (self->store && m->named && !m->is_room && !tell_is_news(self, h->call_session(call), m)) {
		/* This session has said so, and it is stored.  In a room it might be no member now. */
		return CHATD_ACCEPT;
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	atomic_fetch_add(&self->asks, 1);
	*a = (struct ask){ .self = self,
		.w = h->call_worker(call),
		.token = h->suspend(call, NULL, NULL),
		.session = h->session_sid(h->call_session(call)),
		.mark = *m };
	chatd_str_copy(a->user, sizeof(a->user), h->ident_user(h->call_ident(call)));
	chatd_str_copy(a->device, sizeof(a->device), h->ident_login(h->call_ident(call)));
	if (!a->token) {
		atomic_fetch_sub(&self->asks, 1);
		h->mem_free(a);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	if (self->store && m->message[0]) {
		look_message(a);
	} else {
		look_room(a);
	}
	return CHATD_WAIT;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is told about rooms: rows of the conversation, notices to one user, and the cut that
 * ends what somebody hears. */
#include "rooms.h"

struct topic {
	char text[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
};

static struct chatd_str topic_of(const struct op *op, struct topic *t)
{
	int n = snprintf(t->text, sizeof(t->text), ROOM_TOPIC "%s", op->room);
	return chatd_str_of(t->text, (size_t)n);
}

/* ---- events ------------------------------------------------------------------------- */

static void begin(struct op *op, const char *type, const char *code)
{
	struct chatd_json *j = &op->says;
	chatd_json_free(j);
	op->event = 0;
	op->self->h->new_id(op->says_id);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(op->says_id));
	chatd_json_member(j, "type", text(type));
	if (code) {
		chatd_json_member(j, "code", text(code));
	}
}

static void end(struct op *op)
{
	chatd_json_member(&op->says, "roomId", text(op->room));
	chatd_json_time(&op->says, "timestamp", op->self->h->wall_ms());
	chatd_json_lit(&op->says, "}");
}

void say_prepare(struct op *op, const struct say *s)
{
	struct chatd_json *j = &op->says;
	begin(op, s->type, s->code);
	op->event = strcmp(s->type, "JOIN") == 0 ? CHATD_ROOM_JOINED
			: strcmp(s->type, "LEAVE") == 0  ? CHATD_ROOM_LEFT
											 : 0;
	chatd_str_copy(op->about_user, sizeof(op->about_user), s->user);
	if (strcmp(s->type, "SYSTEM") == 0) {
		chatd_json_member(j, "userId", s->user);
	} else {
		chatd_json_member(j, "sender", s->user);
		chatd_json_member(j, "senderId", s->user);
		chatd_json_member(j, "senderName", s->nick);
	}
	chatd_json_member(j, "actor", s->actor);
	if (s->role) {
		chatd_json_member(j, "role", text(s->role));
	}
	if (s->until && s->until < INT64_MAX) {
		chatd_json_time(j, "until", s->until);
	}
	end(op);
}

void say_room_changed(struct op *op, const char *code, const struct chatd_store_room *r)
{
	struct chatd_json *j = &op->says;
	begin(op, "SYSTEM", code);
	chatd_json_member(j, "name", r->name);
	chatd_json_flag(j, "public", (r->flags & CHATD_STORE_ROOM_PUBLIC) != 0);
	if (r->about.n) {
		chatd_json_member(j, "about", r->about);
	}
	chatd_json_flag(j, "readOnly", (r->flags & CHATD_STORE_ROOM_READ_ONLY) != 0);
	chatd_json_int(j, "slowMode", r->slow_ms / 1000);
	end(op);
}

struct chatd_store_append say_row(const struct op *op)
{
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.kind = CHATD_STORE_EVENT,
		.conv = { .room = text(op->room) },
		.id = text(op->says_id),
		.sender = op_user(op),
		.wall = op->self->h->wall_ms() };
	if (op->says.n && !op->says.failed) {
		r.body = chatd_json_str(&op->says);
	}
	return r;
}

static void complain(const struct op *op)
{
	op->self->h->log(
			op->self->ctx, CHATD_LOG_ERROR, "no memory to tell room %s what happened", op->room);
}

static chatd_msg *message(const struct op *op, struct chatd_str dest)
{
	const struct chatd_host *h = op->self->h;
	chatd_msg *m = NULL;
	if (!op->says.failed) {
		m = h->msg_with_id(op->says_id, dest, chatd_json_str(&op->says));
	}
	if (!m || h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0) {
		h->msg_unref(m);
		return NULL;
	}
	return m;
}

void say_topic(struct op *op)
{
	struct topic t;
	chatd_msg *m = message(op, topic_of(op, &t));
	if (!m || op->self->h->publish(op->home, m) < 0) {
		complain(op);
	}
	op->self->h->msg_unref(m);
}

void say_user(struct op *op, struct chatd_str user)
{
	chatd_msg *m = message(op, CHATD_LIT(NOTICES));
	if (!m || op->self->h->publish_user(op->home, user, m) < 0) {
		complain(op);
	}
	op->self->h->msg_unref(m);
}

void say_publish(struct op *op, const struct chatd_store_answer *a)
{
	if (!a->seq) {
		return; /* nothing was written */
	}
	if (op->event) {
		watch_tell(op, op->event, text(op->about_user));
	}
	if (!op->self->log) {
		say_topic(op);
		return;
	}
	const struct chatd_log *log = op->self->log->vt;
	const struct chatd_store_message row = { .struct_size = sizeof(row),
		.kind = CHATD_STORE_EVENT,
		.conv = { .room = text(op->room) },
		.seq = a->seq,
		.pos = a->pos,
		.id = text(op->says_id),
		.sender = op_user(op),
		.body = chatd_json_str(&op->says) };
	if (log->publish(op->self->log->obj, op->home, &row, a->epoch) < 0) {
		complain(op);
	}
}

void say_public(struct self *self, chatd_worker *w, struct chatd_str user, int32_t online)
{
	const struct chatd_host *h = self->h;
	char room[512], id[37];
	struct chatd_json j;
	h->new_id(id);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(id));
	chatd_json_member(&j, "type", text(online ? "JOIN" : "LEAVE"));
	chatd_json_member(&j, "sender", user);
	chatd_json_member(&j, "senderId", user);
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m = NULL;
	if (!j.failed) {
		m = h->msg_with_id(id, CHATD_LIT("/topic/public"), chatd_json_str(&j));
	}
	if (!m || h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0 ||
			h->publish_here(w, m) < 0) { /* in a cluster every node hears of it by itself */
		h->log(self->ctx, CHATD_LOG_ERROR, "no memory to tell who comes and goes");
	}
	h->msg_unref(m);
	chatd_json_free(&j);
}

/* ---- cutting --------------------------------------------------------------------------- */

static void cut(struct self *self, struct home *at, struct chatd_str room, struct chatd_str user)
{
	const struct chatd_host *h = self->h;
	struct topic t;
	struct op *asking;
	int n = snprintf(t.text, sizeof(t.text), ROOM_TOPIC "%.*s", (int)room.n, room.p);
	/* The store may have answered these before it heard of the change. */
	TAILQ_FOREACH (asking, &at->asking, link) {
		asking->stale |=
				chatd_str_same(text(asking->room), room) && chatd_str_same(op_user(asking), user);
	}
	if (h->cut(user, chatd_str_of(t.text, (size_t)n)) < 0) {
		h->log(self->ctx, CHATD_LOG_ERROR, "no memory to end the subscriptions of %.*s to %s",
				(int)user.n, user.p, t.text);
	}
}

void say_cut(struct op *op, struct chatd_str user)
{
	cut(op->self, op_home(op), text(op->room), user);
}

/* ---- what was said on other nodes ------------------------------------------------------- */

struct event {
	struct chatd_str type, sender;
};

static const struct chatd_json_field event_fields[] = {
	{ "type", CHATD_J_TEXT, offsetof(struct event, type) },
	{ "sender", CHATD_J_TEXT, offsetof(struct event, sender) },
	{ NULL, 0, 0 },
};

/* Whoever has left a room, or was shown out of it, hears nothing more of it here either. */
static void on_event(void *arg, chatd_worker *w, const struct chatd_store_message *row)
{
	struct self *self = arg;
	struct event e = { { NULL, 0 }, { NULL, 0 } };
	char why[CHATD_JSON_WHY];
	json_t *root = NULL;
	if (chatd_json_read(row->body, event_fields, &e, &root, why) == 0 &&
			chatd_str_same(e.type, CHATD_LIT("LEAVE")) && chatd_id_ok(e.sender)) {
		cut(self, self->h->worker_self(self->ctx, w), row->conv.room, e.sender);
	}
	json_decref(root);
}

chatd_status say_init(struct self *self)
{
	const struct chatd_log *log = self->log ? self->log->vt : NULL;
	return log && CHATD_HAS(log, watch) ? log->watch(self->log->obj, on_event, self) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What requests do to the rooms.  Everything here runs on the home worker. */
#include "rooms.h"

static const char *const roles[] = { NULL, "member", "moderator", "owner" };

static const struct chatd_host *host(const struct op *op)
{
	return op->self->h;
}

static int is_guest(const struct op *op)
{
	return op->who && (host(op)->ident_flags(op->who) & CHATD_ID_ANONYMOUS);
}

static int is_admin(const struct op *op)
{
	return op->who && (host(op)->ident_flags(op->who) & CHATD_ID_ADMIN);
}

/* ---- events ------------------------------------------------------------------ */

/* What is said: under which id, where, and on which worker this runs. */
struct saying {
	chatd_worker *w;
	const char *id;
	struct chatd_str dest;
};

static void publish_json(struct self *self, const struct saying *s, struct chatd_json *j)
{
	const struct chatd_host *h = self->h;
	chatd_msg *m = j->failed ? NULL : h->msg_with_id(s->id, s->dest, chatd_json_str(j));
	if (!m || h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0 ||
			h->publish(s->w, m) < 0) {
		h->log(self->ctx, CHATD_LOG_ERROR, "no memory to tell %.*s what happened", (int)s->dest.n,
				s->dest.p);
	}
	h->msg_unref(m);
	chatd_json_free(j);
}

void home_tell(struct self *self, const struct home_event *e)
{
	const struct chatd_host *h = self->h;
	char room[1024], id[37];
	struct chatd_json j;
	h->new_id(id);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(id));
	chatd_json_member(&j, "type", text(e->type));
	chatd_json_member(&j, "sender", e->user);
	chatd_json_member(&j, "senderId", e->user);
	chatd_json_member(&j, "senderName", e->nick);
	chatd_json_member(&j, "roomId", e->room);
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	publish_json(self, &(struct saying){ e->w, id, e->dest }, &j);
}

/* The topic of a room, in the caller's buffer. */
struct topic {
	char text[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
};

static struct chatd_str topic_of(const struct room *r, struct topic *t)
{
	int n = snprintf(t->text, sizeof(t->text), ROOM_TOPIC "%s", r->id);
	return chatd_str_of(t->text, (size_t)n);
}

static void tell_member(struct self *self, const struct member *m, const char *type)
{
	struct topic t;
	struct home_event e = { .w = self->h->worker_at(0),
		.type = type,
		.dest = topic_of(m->room, &t),
		.user = text(m->user->id),
		.nick = text(m->user->nick),
		.room = text(m->room->id) };
	home_tell(self, &e);
}

/* SYSTEM: the room itself changed. */
static void tell_change(struct self *self, const struct room *r, const char *code)
{
	char buf[1024], id[37];
	struct topic t;
	struct chatd_json j;
	self->h->new_id(id);
	chatd_json_init(&j, buf, sizeof(buf));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(id));
	chatd_json_member(&j, "type", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "code", text(code));
	chatd_json_member(&j, "roomId", text(r->id));
	chatd_json_member(&j, "name", text(r->name));
	chatd_json_flag(&j, "public", r->is_public);
	chatd_json_time(&j, "timestamp", self->h->wall_ms());
	chatd_json_lit(&j, "}");
	publish_json(self, &(struct saying){ self->h->worker_at(0), id, topic_of(r, &t) }, &j);
}

/* ---- cutting ----------------------------------------------------------------- */

/* A subscription that was allowed just before the member left may be in the making: its
 * permission is in its worker's mailbox, or resumed there and in the mailbox again.  So
 * the cut goes twice through each worker's mailbox behind it, and then cuts again. */
struct cutter {
	struct self *self;
	chatd_worker *w;
	int32_t round;
	char user[CHATD_ID_MAX + 1];
	struct topic topic;
};

static void on_cutter(void *arg)
{
	struct cutter *c = arg;
	const struct chatd_host *h = c->self->h;
	if (c->round++ == 0 && h->post(c->w, on_cutter, c) == 0) {
		return;
	}
	(void)h->cut(text(c->user), text(c->topic.text));
	h->mem_free(c);
}

static void cut_member(struct self *self, const struct member *m)
{
	const struct chatd_host *h = self->h;
	struct topic t;
	struct chatd_str user = text(m->user->id), topic = topic_of(m->room, &t);
	if (h->cut(user, topic) < 0) {
		h->log(self->ctx, CHATD_LOG_ERROR, "no memory to end the subscriptions of %s to %s",
				m->user->id, t.text);
	}
	for (int32_t i = 0; i < h->worker_count(); i++) {
		struct cutter *c = h->mem_alloc(sizeof(*c));
		if (!c) {
			continue;
		}
		c->self = self;
		c->w = h->worker_at(i);
		chatd_str_copy(c->user, sizeof(c->user), user);
		c->topic = t;
		if (h->post(c->w, on_cutter, c) < 0) {
			h->mem_free(c);
		}
	}
}

void home_leave(struct self *self, struct member *m)
{
	struct room *r = m->room;
	tell_member(self, m, "LEAVE");
	if (!r->is_public) {
		cut_member(self, m);
	}
	if (table_leave(self->table, m)) {
		table_delete_room(self->table, r);
	}
}

/* ---- looking ------------------------------------------------------------------ */

static void no_room(struct op *op)
{
	op_fail(op, 404, "NOT_FOUND", "there is no such room");
}

/* NULL: there is none, or none that the caller may know of, which is the same answer. */
static struct room *visible(struct op *op)
{
	struct room *r = table_room(op->self->table, text(op->room));
	if (r &&
			(r->is_public || is_admin(op) ||
					table_role(op->self->table, r, op_user(op)) != CHATD_ROLE_NONE)) {
		return r;
	}
	no_room(op);
	return NULL;
}

static void write_room(struct chatd_json *j, const struct room *r, int32_t role)
{
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(r->id));
	chatd_json_member(j, "name", text(r->name));
	chatd_json_flag(j, "public", r->is_public);
	chatd_json_int(j, "members", r->n);
	chatd_json_flag(j, "joined", role != CHATD_ROLE_NONE);
	if (role != CHATD_ROLE_NONE) {
		chatd_json_member(j, "role", text(roles[role]));
	}
	chatd_json_lit(j, "}");
}

static void answer_room(struct op *op, const struct room *r)
{
	write_room(&op->out, r, table_role(op->self->table, r, op_user(op)));
}

static void run_look(struct op *op)
{
	struct room *r = visible(op);
	if (r) {
		chatd_str_copy(op->name, sizeof(op->name), text(r->name));
		op->is_public = r->is_public;
		op->members = r->n;
		op->role = table_role(op->self->table, r, op_user(op));
	}
}

static void run_subscribe(struct op *op)
{
	if (!visible(op)) {
		op_fail(op, 403, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	}
}

static void run_list(struct op *op)
{
	struct table *t = op->self->table;
	struct user *u = table_user(t, op_user(op));
	struct member *m;
	struct room *r, *next;
	int listed = 0;
	chatd_json_lit(&op->out, "{\"rooms\":[");
	if (op->kind == OP_LIST) {
		HASH_ITER(hh, t->rooms, r, next)
		{
			if (r->is_public && listed < LIST_MAX && !table_member(t, r, op_user(op))) {
				write_room(&op->out, r, CHATD_ROLE_NONE);
				listed++;
			}
		}
	}
	if (u) {
		TAILQ_FOREACH (m, &u->in, in_user) {
			write_room(&op->out, m->room, m->role);
		}
	}
	chatd_json_lit(&op->out, "]}");
}

static void run_get(struct op *op)
{
	struct room *r = visible(op);
	if (r) {
		answer_room(op, r);
	}
}

static void run_members(struct op *op)
{
	/* A plugin that asks on nobody's behalf sees every room. */
	struct room *r = op->who ? visible(op) : table_room(op->self->table, text(op->room));
	struct member *m;
	if (!r) {
		no_room(op);
		return;
	}
	if (op->who && !is_admin(op) && !table_member(op->self->table, r, op_user(op))) {
		op_fail(op, 403, "NOT_MEMBER", "you are not a member of this room");
		return;
	}
	size_t max = r->n < LIST_MAX || !op->who ? (size_t)r->n : LIST_MAX;
	op->people = host(op)->mem_alloc(max * sizeof(*op->people));
	if (!op->people) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	op->members = r->n;
	TAILQ_FOREACH (m, &r->members, in_room) {
		if (op->n_people == max) {
			break;
		}
		struct op_person *p = &op->people[op->n_people++];
		chatd_str_copy(p->id, sizeof(p->id), text(m->user->id));
		chatd_str_copy(p->nick, sizeof(p->nick), text(m->user->nick));
		p->role = m->role;
	}
}

/* ---- coming and going ---------------------------------------------------------- */

static struct member *enter(struct op *op, struct room *r, const struct person *p, int32_t role)
{
	struct table *t = op->self->table;
	const struct conf *conf = op->self->conf;
	struct user *u = table_user(t, p->id);
	if (r->n >= conf->max_members) {
		op_fail(op, 409, "ROOM_FULL", "this room is full");
		return NULL;
	}
	if (u && u->n >= conf->rooms_per_user) {
		op_fail(op, 409, "TOO_MANY_ROOMS", "that is one room more than a user may be in");
		return NULL;
	}
	struct member *m = table_join(t, r, p, role);
	if (!m) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
		return NULL;
	}
	tell_member(op->self, m, "JOIN");
	return m;
}

static struct person caller(const struct op *op)
{
	const struct chatd_host *h = host(op);
	return (struct person){ .id = h->ident_user(op->who),
		.nick = h->ident_name(op->who),
		.guest = is_guest(op),
		.now = h->now_ms(h->worker_at(0)) };
}

static void run_join(struct op *op)
{
	struct room *r = visible(op);
	struct person p = caller(op);
	if (r && (table_member(op->self->table, r, p.id) || enter(op, r, &p, CHATD_ROLE_MEMBER))) {
		answer_room(op, r);
	}
}

static void run_leave(struct op *op)
{
	struct room *r = table_room(op->self->table, text(op->room));
	struct member *m = r ? table_member(op->self->table, r, op_user(op)) : NULL;
	if (!m) {
		op_fail(op, 403, "NOT_MEMBER", "you are not a member of this room");
		return;
	}
	home_leave(op->self, m);
	op->status = 204;
}

/* 128 random bits: knowing the id of a private room must not be guessing it. */
static void random_id(const struct chatd_host *h, char ret[33])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char raw[16];
	h->random(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++) {
		ret[2 * i] = hex[raw[i] >> 4];
		ret[2 * i + 1] = hex[raw[i] & 15];
	}
	ret[32] = '\0';
}

static void run_create(struct op *op)
{
	struct self *self = op->self;
	struct person p = caller(op);
	char id[33];
	if (is_guest(op)) {
		op_fail(op, 403, "FORBIDDEN", "guests cannot make rooms");
		return;
	}
	if (self->table->n_rooms >= self->conf->max_rooms) {
		op_fail(op, 409, "TOO_MANY_ROOMS", "this server has no place for another room");
		return;
	}
	random_id(self->h, id);
	struct room *r = table_add_room(self->table, text(id), text(op->name), op->is_public);
	if (!r) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	if (!enter(op, r, &p, CHATD_ROLE_OWNER)) {
		table_delete_room(self->table, r);
		return;
	}
	chatd_str_copy(op->room, sizeof(op->room), text(id));
	op->status = 201;
	answer_room(op, r);
}

/* ---- managing ------------------------------------------------------------------- */

/* NULL unless the caller has at least the role @p least here.  Guests manage nothing, and
 * hear that before anything about the room. */
static struct room *managed(struct op *op, int32_t least)
{
	if (is_guest(op)) {
		op_fail(op, 403, "FORBIDDEN", "guests cannot manage rooms");
		return NULL;
	}
	struct room *r = visible(op);
	if (r && !is_admin(op) && table_role(op->self->table, r, op_user(op)) < least) {
		op_fail(op, 403, "FORBIDDEN",
				least == CHATD_ROLE_OWNER ? "only the owner of the room may do that"
										  : "only moderators of the room may do that");
		return NULL;
	}
	return r;
}

static void run_patch(struct op *op)
{
	struct room *r = managed(op, CHATD_ROLE_OWNER);
	if (!r) {
		return;
	}
	/* Whoever listens without being a member could not be told apart any more. */
	if (op->has_public && !op->is_public && r->is_public) {
		op_fail(op, 422, "VALIDATION", "a public room stays public; make a new private one");
		return;
	}
	if (op->has_name) {
		chatd_str_copy(r->name, sizeof(r->name), text(op->name));
	}
	if (op->has_public) {
		r->is_public = op->is_public;
	}
	if (op->has_name || op->has_public) {
		tell_change(op->self, r, "ROOM_CHANGED");
	}
	answer_room(op, r);
}

/* Subscriptions are left alone: nobody can send there any more, the id never comes again,
 * and a cut might overtake the news. */
static void run_delete(struct op *op)
{
	struct room *r = managed(op, CHATD_ROLE_OWNER);
	if (r) {
		tell_change(op->self, r, "ROOM_DELETED");
		table_delete_room(op->self->table, r);
		op->status = 204;
	}
}

static void answer_member(struct op *op, const struct member *m)
{
	chatd_json_lit(&op->out, "{");
	chatd_json_member(&op->out, "userId", text(m->user->id));
	chatd_json_member(&op->out, "nickname", text(m->user->nick));
	chatd_json_member(&op->out, "role", text(roles[m->role]));
	chatd_json_lit(&op->out, "}");
}

static void run_add(struct op *op)
{
	struct room *r = managed(op, CHATD_ROLE_MODERATOR);
	if (!r) {
		return;
	}
	struct member *m = table_member(op->self->table, r, text(op->target));
	if (!m) {
		struct person p = { .id = text(op->target),
			.nick = text(op->nick),
			.guest = op->guest,
			.now = host(op)->now_ms(host(op)->worker_at(0)) };
		m = enter(op, r, &p, CHATD_ROLE_MEMBER);
		op->status = m ? 201 : op->status;
	}
	if (m) {
		answer_member(op, m);
	}
}

/* The member that is meant; NULL: the room has no such member, or the caller is of no
 * higher role. */
static struct member *subject(struct op *op, const struct room *r)
{
	struct table *t = op->self->table;
	struct member *m = table_member(t, r, text(op->target));
	if (!m) {
		op_fail(op, 404, "NOT_FOUND", "the room has no such member");
		return NULL;
	}
	if (!is_admin(op) && table_role(t, r, op_user(op)) <= m->role) {
		op_fail(op, 403, "FORBIDDEN", "only somebody of a higher role may do that");
		return NULL;
	}
	return m;
}

static void run_remove(struct op *op)
{
	if (chatd_str_same(op_user(op), text(op->target))) {
		run_leave(op);
		return;
	}
	struct room *r = managed(op, CHATD_ROLE_MODERATOR);
	struct member *m = r ? subject(op, r) : NULL;
	if (m) {
		home_leave(op->self, m);
		op->status = 204;
	}
}

/* A room has one owner: to make somebody else the owner is to step back. */
static void run_role(struct op *op)
{
	struct room *r = managed(op, CHATD_ROLE_OWNER);
	struct member *m = r ? subject(op, r) : NULL;
	if (!m) {
		return;
	}
	if (m->user->guest && op->role != CHATD_ROLE_MEMBER) {
		op_fail(op, 422, "VALIDATION", "role: a guest can be a member only");
		return;
	}
	if (op->role == CHATD_ROLE_OWNER) {
		struct member *other;
		TAILQ_FOREACH (other, &r->members, in_room) {
			other->role = other->role == CHATD_ROLE_OWNER ? CHATD_ROLE_MODERATOR : other->role;
		}
	}
	m->role = op->role;
	answer_member(op, m);
}

void home_run(struct op *op)
{
	static void (*const run[])(struct op *) = {
		[OP_LOOK] = run_look,
		[OP_SUBSCRIBE] = run_subscribe,
		[OP_LIST] = run_list,
		[OP_MINE] = run_list,
		[OP_GET] = run_get,
		[OP_CREATE] = run_create,
		[OP_PATCH] = run_patch,
		[OP_DELETE] = run_delete,
		[OP_JOIN] = run_join,
		[OP_LEAVE] = run_leave,
		[OP_MEMBERS] = run_members,
		[OP_ADD] = run_add,
		[OP_REMOVE] = run_remove,
		[OP_ROLE] = run_role,
	};
	run[op->kind](op);
}

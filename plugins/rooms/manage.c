/* SPDX-License-Identifier: Apache-2.0 */
/* What changes a room or who is in it.  The store decides whether it may, in the commit that
 * does it; here the change is put to it, and told to those whom it concerns. */
#include "rooms.h"

static const char by_owner[] = "only the owner of the room may do that";
static const char by_moderator[] = "only moderators of the room may do that";

static int64_t until_of(const struct op *op)
{
	return op->seconds < 0 ? INT64_MAX : op->self->h->wall_ms() + op->seconds * 1000;
}

/* For the log: who has done what to whom. */
static void audit(const struct op *op, const char *what, struct chatd_str user)
{
	struct chatd_str by = op_user(op);
	op->self->h->log(op->self->ctx, CHATD_LOG_INFO, "room %s: %.*s %s %.*s", op->room, (int)by.n,
			by.p, what, (int)user.n, user.p);
}

/* ---- memberships ------------------------------------------------------------------------ */

struct wish {
	int32_t what; /* CHATD_STORE_JOIN ... */
	struct chatd_str user, nick;
	int32_t guest, role;
	int64_t until;
	int unchecked; /* the caller's right is beyond doubt */
};

static void put(struct op *op, const struct wish *w, op_store_fn *next)
{
	const struct chatd_store_append row = say_row(op);
	struct chatd_store_member_change r = { .struct_size = sizeof(r),
		.what = w->what,
		.room = text(op->room),
		.user = w->user,
		.nick = w->nick,
		.role = w->role,
		.guest = w->guest,
		.until = w->until,
		.wall = row.wall,
		.max_rooms = op->self->conf->rooms_per_user,
		.event = row.body.p ? &row : NULL };
	if (!op_is_admin(op) && !w->unchecked) {
		r.actor = op_user(op);
	}
	op_wait(op, op_store(op)->member_change(op->self->store->obj, op->home, &r, op_on_store, op),
			next);
}

static void write_member(struct op *op, const struct chatd_store_answer *a)
{
	const struct chatd_store_member *m = a->members;
	if (a->n_members == 0) {
		return;
	}
	chatd_json_lit(&op->out, "{");
	chatd_json_member(&op->out, "userId", m->user);
	chatd_json_member(&op->out, "nickname", m->nick);
	chatd_json_member(&op->out, "role", text(role_name(m->role)));
	chatd_json_lit(&op->out, "}");
}

static struct chatd_str nick_of(const struct op *op)
{
	return op->who ? op->self->h->ident_name(op->who) : text(op->nick);
}

/* If it may have happened, or happen yet, that is found out. */
static void change_refused(
		struct op *op, chatd_status rc, const struct chatd_store_answer *a, struct chatd_str user)
{
	if (rc == -EBUSY && a && a->in_doubt) {
		doubt_begin(op, user);
	}
	op_refused(op, rc, a);
}

static void on_joined(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		change_refused(op, rc, a, op_user(op));
		return;
	}
	say_publish(op, a);
	if (!a->repeated) {
		say_user(op, op_user(op)); /* their other devices do not listen there yet */
	}
	op_look(op, home_write_room);
}

/* Administrators walk in where others must be asked. */
static void run_join(struct op *op)
{
	struct wish w = { .what = op_is_admin(op) ? CHATD_STORE_ADD : CHATD_STORE_JOIN,
		.user = op_user(op),
		.nick = nick_of(op),
		.guest = op_is_guest(op) };
	say_prepare(op, &(struct say){ .type = "JOIN", .user = w.user, .nick = w.nick });
	put(op, &w, on_joined);
}

static void not_member(struct op *op)
{
	op_fail(op, 403, "NOT_MEMBER", "you are not a member of this room");
}

static void on_left(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == -ENOENT || (rc == 0 && a->repeated)) {
		not_member(op);
	} else if (rc < 0) {
		change_refused(op, rc, a, op_user(op));
	} else {
		say_publish(op, a);
		say_user(op, op_user(op));
		if (!op->is_public) {
			say_cut(op, op_user(op));
		}
		op->status = 204;
	}
}

static void on_leaving(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == -ENOENT || (rc == 0 && a->rooms[0].role == CHATD_ROLE_NONE)) {
		not_member(op);
		return;
	}
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	op->is_public = (a->rooms[0].flags & CHATD_STORE_ROOM_PUBLIC) != 0;
	struct wish w = { .what = CHATD_STORE_LEAVE, .user = op_user(op) };
	say_prepare(op, &(struct say){ .type = "LEAVE", .user = w.user, .nick = nick_of(op) });
	put(op, &w, on_left);
}

static void run_leave(struct op *op)
{
	struct chatd_store_room_key r = {
		.struct_size = sizeof(r), .room = text(op->room), .user = op_user(op)
	};
	op_wait(op, op_store(op)->room_get(op->self->store->obj, op->home, &r, op_on_store, op),
			on_leaving);
}

static void on_added(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		change_refused(op, rc, a, text(op->target));
		return;
	}
	say_publish(op, a);
	if (!a->repeated) {
		say_user(op, text(op->target));
		op->status = 201;
	}
	write_member(op, a);
}

static void run_add(struct op *op)
{
	struct wish w = { .what = CHATD_STORE_ADD,
		.user = text(op->target),
		.nick = text(op->nick),
		.guest = op->guest };
	say_prepare(op,
			&(struct say){ .type = "JOIN", .user = w.user, .nick = w.nick, .actor = op_user(op) });
	put(op, &w, on_added);
}

/* ---- out ------------------------------------------------------------------------------------ */

static void on_removed(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == 0 && a->repeated) {
		say_cut(op,
				text(op->target)); /* out already: should there be something left to hear, no more */
	}
	if (rc < 0) {
		change_refused(op, rc, a, text(op->target));
	} else if (a->repeated && op->kind == OP_REMOVE) {
		op_fail(op, 404, "NOT_FOUND", "the room has no such member");
	} else {
		op->status = 204;
		if (a->repeated) {
			return;
		}
		say_publish(op, a);
		say_user(op, text(op->target));
		say_cut(op, text(op->target));
		audit(op, op->kind == OP_BAN ? "bans" : "removes", text(op->target));
	}
}

/* Those who are shown out hear it, and then nothing more: also of a public room, which they
 * may come back to unless they are banned. */
static void run_remove(struct op *op)
{
	int ban = op->kind == OP_BAN;
	struct wish w = { .what = ban ? CHATD_STORE_BAN : CHATD_STORE_KICK,
		.user = text(op->target),
		.until = ban ? until_of(op) : 0 };
	if (!ban && chatd_str_same(op_user(op), w.user)) {
		run_leave(op);
		return;
	}
	say_prepare(op,
			&(struct say){ .type = "LEAVE",
					.code = ban ? "BANNED" : "KICKED",
					.user = w.user,
					.actor = op_user(op),
					.until = w.until });
	put(op, &w, on_removed);
}

/* ---- rights of members ------------------------------------------------------------------- */

/* What is between the moderators and one user is not the room's business. */
static void on_told(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	op->status = 204;
	if (!a->repeated) {
		say_user(op, text(op->target));
		audit(op,
				op->kind == OP_INVITE         ? "invites"
						: op->kind == OP_MUTE ? "mutes"
											  : "lifts the ban of",
				text(op->target));
	}
}

static void tell_one(struct op *op, const struct wish *w, const char *code)
{
	const struct say s = {
		.type = "SYSTEM", .code = code, .user = w->user, .actor = op_user(op), .until = w->until
	};
	put(op, w, on_told); /* without anything said: this is no row */
	say_prepare(op, &s);
}

static void run_invite(struct op *op)
{
	struct wish w = {
		.what = CHATD_STORE_INVITE, .user = text(op->target), .nick = text(op->nick)
	};
	tell_one(op, &w, "INVITED");
}

static void run_unban(struct op *op)
{
	struct wish w = { .what = CHATD_STORE_UNBAN, .user = text(op->target) };
	tell_one(op, &w, "UNBANNED");
}

static void run_mute(struct op *op)
{
	struct wish w = { .what = CHATD_STORE_MUTE,
		.user = text(op->target),
		.until = op->seconds == 0 ? 0 : until_of(op) };
	tell_one(op, &w, w.until ? "MUTED" : "UNMUTED");
}

static void on_stepped_back(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)a;
	if (rc < 0) {
		op->self->h->log(op->self->ctx, CHATD_LOG_WARN,
				"room %s has two owners now: the first one could not be made a moderator (%d)",
				op->room, (int)-rc);
	}
}

/* A room has one owner: to make somebody else the owner is to step back. */
static void step_back(struct op *op)
{
	struct wish w = {
		.what = CHATD_STORE_ROLE, .user = op_user(op), .role = CHATD_ROLE_MODERATOR, .unchecked = 1
	};
	chatd_json_free(&op->says);
	put(op, &w, on_stepped_back);
	if (!op->next) { /* what was asked for is done */
		op->code = NULL;
		op->status = 200;
	}
}

static void on_role(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		change_refused(op, rc, a, text(op->target));
		return;
	}
	write_member(op, a);
	if (!a->repeated) {
		say_publish(op, a);
		say_user(op, text(op->target));
		audit(op, op->role == CHATD_ROLE_OWNER ? "makes owner" : "gives another role to",
				text(op->target));
	}
	/* Also when asked for again: the first time may have been committed and not answered. */
	if (op->role == CHATD_ROLE_OWNER && !op_is_admin(op) &&
			!chatd_str_same(text(op->target), op_user(op))) {
		step_back(op);
	}
}

static void run_role(struct op *op)
{
	struct wish w = { .what = CHATD_STORE_ROLE, .user = text(op->target), .role = op->role };
	say_prepare(op,
			&(struct say){ .type = "SYSTEM",
					.code = "ROLE_CHANGED",
					.user = w.user,
					.actor = op_user(op),
					.role = role_name(op->role) });
	put(op, &w, on_role);
}

/* ---- the room ------------------------------------------------------------------------------ */

static void on_news(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == 0) {
		say_publish(op, a);
	} else {
		op->self->h->log(op->self->ctx, CHATD_LOG_WARN,
				"room %s was changed, but its members could not be told (%d)", op->room, (int)-rc);
	}
}

static void on_patched(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	home_write_room(op, &a->rooms[0]);
	say_room_changed(op, "ROOM_CHANGED", &a->rooms[0]);
	struct chatd_store_append row = say_row(op);
	op_wait(op, op_store(op)->append(op->self->store->obj, op->home, &row, op_on_store, op),
			on_news);
	if (!op->next) { /* it is changed all the same */
		op->code = NULL;
		op->status = 200;
	}
}

static uint32_t new_flags(const struct op *op, uint32_t flags)
{
	if (op->is_public >= 0) {
		flags = op->is_public ? flags | CHATD_STORE_ROOM_PUBLIC : flags & ~CHATD_STORE_ROOM_PUBLIC;
	}
	if (op->read_only >= 0) {
		flags = op->read_only ? flags | CHATD_STORE_ROOM_READ_ONLY
							  : flags & ~CHATD_STORE_ROOM_READ_ONLY;
	}
	return flags;
}

/* What moderators need for their work, they may change; the rest is the owner's. */
static int32_t role_to_patch(const struct op *op)
{
	const uint32_t owners = CHATD_STORE_SET_NAME | CHATD_STORE_SET_MAX | CHATD_STORE_SET_RETENTION;
	return (op->set & owners) || op->is_public >= 0 ? CHATD_ROLE_OWNER : CHATD_ROLE_MODERATOR;
}

static void patch_room(struct op *op, const struct chatd_store_room *r)
{
	int32_t least = role_to_patch(op);
	if (!op_is_admin(op) && r->role < least) {
		op_fail(op, 403, "FORBIDDEN", least == CHATD_ROLE_OWNER ? by_owner : by_moderator);
		return;
	}
	/* Whoever listens without being a member could not be told apart any more. */
	if (op->is_public == 0 && (r->flags & CHATD_STORE_ROOM_PUBLIC)) {
		op_fail(op, 422, "VALIDATION", "a public room stays public; make a new private one");
		return;
	}
	if (!op->set) {
		home_write_room(op, r);
		return;
	}
	struct chatd_store_room to = { .struct_size = sizeof(to),
		.flags = new_flags(op, r->flags),
		.id = text(op->room),
		.name = text(op->name),
		.about = text(op->about),
		.slow_ms = op->slow_ms,
		.max_members = op->max_members,
		.retention_ms = op->retention_ms,
		.set = op->set };
	if (!op_is_admin(op)) {
		to.user = op_user(op);
	}
	op_wait(op, op_store(op)->room_update(op->self->store->obj, op->home, &to, op_on_store, op),
			on_patched);
}

static void on_deleted(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	/* Subscriptions are left alone: nobody can send there any more, the id never comes again,
	 * and a cut might overtake the news. */
	say_topic(op);
	watch_tell(op, CHATD_ROOM_DELETED, op_user(op));
	for (size_t i = 0; i < op->n_people; i++) {
		say_user(op, text(op->people[i].id));
	}
	audit(op, "deletes", text("it"));
	op->status = 204;
}

void manage_delete(struct op *op)
{
	struct chatd_store_room_key key = { .struct_size = sizeof(key), .room = text(op->room) };
	if (!op_is_admin(op)) {
		key.user = op_user(op);
	}
	op_wait(op, op_store(op)->room_delete(op->self->store->obj, op->home, &key, op_on_store, op),
			on_deleted);
}

/* Afterwards nobody knows any more who is to be told. */
static void delete_room(struct op *op, const struct chatd_store_room *r)
{
	if (!op_is_admin(op) && r->role < CHATD_ROLE_OWNER) {
		op_fail(op, 403, "FORBIDDEN", by_owner);
		return;
	}
	say_room_changed(op, "ROOM_DELETED", r);
	home_people(op);
}

static void run_room(struct op *op)
{
	op_look(op, op->kind == OP_PATCH ? patch_room : delete_room);
}

/* ---- somebody leaves all rooms ---------------------------------------------------------------- */

static void room_left(struct op *leave)
{
	struct op *op = leave->parent;
	if (leave->code && leave->status >= 500) {
		op_fail(op, leave->status, leave->code, leave->why);
	}
	op_free(leave);
	if (--op->leaving == 0) {
		op_answer(op);
	}
}

static void on_rooms_of(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
	}
	for (size_t i = 0; rc == 0 && i < a->n_rooms; i++) {
		struct op *leave = op_create(op->self, op->from, OP_LEAVE);
		if (!leave) { /* of guests: the next round finds the rooms that are left */
			op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
			return;
		}
		chatd_str_copy(leave->room, sizeof(leave->room), a->rooms[i].id);
		chatd_str_copy(leave->target, sizeof(leave->target), text(op->target));
		chatd_str_copy(leave->nick, sizeof(leave->nick), text(op->nick));
		leave->done = room_left;
		leave->parent = op;
		if (op_submit(leave) < 0) {
			op_free(leave);
		} else {
			op->leaving++;
		}
	}
}

static void run_gone(struct op *op)
{
	struct chatd_store_room_list r = { .struct_size = sizeof(r),
		.scope = CHATD_STORE_MINE,
		.user = text(op->target),
		.limit = LIST_MAX };
	op_wait(op, op_store(op)->room_list(op->self->store->obj, op->home, &r, op_on_store, op),
			on_rooms_of);
}

/* ---- the way in ------------------------------------------------------------------------------- */

static int manages(enum op_kind kind)
{
	return kind != OP_JOIN && kind != OP_LEAVE && kind != OP_GONE;
}

/* Guests manage nothing, and hear that before anything about the room; what cannot be a
 * user's id is nobody's. */
void manage_run(struct op *op)
{
	static void (*const run[OP_KINDS])(struct op *) = {
		[OP_PATCH] = run_room,
		[OP_DELETE] = run_room,
		[OP_JOIN] = run_join,
		[OP_LEAVE] = run_leave,
		[OP_ADD] = run_add,
		[OP_REMOVE] = run_remove,
		[OP_ROLE] = run_role,
		[OP_INVITE] = run_invite,
		[OP_BAN] = run_remove,
		[OP_UNBAN] = run_unban,
		[OP_MUTE] = run_mute,
		[OP_GONE] = run_gone,
	};
	int self_out = op->kind == OP_REMOVE && chatd_str_same(op_user(op), text(op->target));
	if (manages(op->kind) && op_is_guest(op) && !self_out) {
		op_fail(op, 403, "FORBIDDEN", "guests cannot manage rooms");
	} else if (op->kind >= OP_ADD && op->kind <= OP_MUTE && !op->target[0]) {
		op_fail(op, 404, "NOT_FOUND", "there is no such user");
	} else {
		run[op->kind](op);
	}
}

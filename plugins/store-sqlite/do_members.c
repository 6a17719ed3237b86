/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in a room, and how that changes. */
#include "store.h"

#include <errno.h>

#define MEMBER_COLUMNS "user, role, guest, nick, joined, muted, banned"

static void push_member(struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_member *m = vec_push(op, v, sizeof(*m));
	if (m) {
		*m = (struct chatd_store_member){ .struct_size = sizeof(*m),
			.user = db_text(op, s, 0),
			.role = db_i32(s, 1),
			.guest = db_i32(s, 2),
			.nick = db_text(op, s, 3),
			.joined = db_i64(s, 4),
			.muted_until = db_i64(s, 5),
			.banned_until = db_i64(s, 6) };
	}
}

/* One row of each: which room it is does not matter. */
static void list_guests(struct db *db, struct op *op, const struct chatd_store_members *r)
{
	struct vec v = { 0 };
	db_rows *s = db_query(db,
			"SELECT " SQL_ONE_EACH("user") MEMBER_COLUMNS
			" FROM member WHERE" SQL_ON("guest") "AND role > 0 AND user > ?1" SQL_EACH(
					"user") " ORDER BY user LIMIT ?2",
			"sd", r->after.p ? r->after : CHATD_LIT(""), r->limit);
	while (db_step(db, s)) {
		push_member(op, s, &v);
	}
	op->a.members = v.p;
	op->a.n_members = v.n;
}

void do_members(struct db *db, struct op *op)
{
	const struct chatd_store_members *r = op->req;
	struct chatd_store_conv conv = { .room = r->room };
	struct conv_key k;
	struct room_row room;
	struct vec v = { 0 };
	int guests = r->which == CHATD_STORE_GUESTS;
	if (r->limit < 1 || r->limit > 10000 || r->which < 0 || r->which > CHATD_STORE_GUESTS ||
			(guests ? r->user.p || r->room.p : !conv_key(&conv, &k))) {
		op->rc = -EINVAL;
		return;
	}
	if (guests) {
		list_guests(db, op, r);
		return;
	}
	if (!room_look(db, r->room, r->user, &room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
		return;
	}
	if (!may_read(db, op, &k, r->user)) {
		return;
	}
	if (r->which != CHATD_STORE_MEMBERS && r->user.p && room.role < CHATD_ROLE_MODERATOR) {
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MEMBER_COLUMNS " FROM member WHERE room=?1 AND user > ?2 AND CASE ?3"
			" WHEN 0 THEN role > 0 WHEN 1 THEN banned > ?4 ELSE invited <> 0 AND role=0 END"
			" ORDER BY user LIMIT ?5",
			"ssdid", r->room, r->after.p ? r->after : CHATD_LIT(""), r->which, op->e->h->wall_ms(),
			r->limit);
	while (db_step(db, s)) {
		push_member(op, s, &v);
	}
	op->a.members = v.p;
	op->a.n_members = v.n;
	op->a.version = room.version;
	op->a.n = room.members;
}

/* ---- changes -------------------------------------------------------------------- */

/* One change at hand. */
struct change {
	struct db *db;
	struct op *op;
	const struct chatd_store_member_change *r;
	struct room_row room; /* with the one it is about */
	int32_t actor_role;
	int done; /* something was written */
};

/* The row of the one it is about, made if there is none. */
static void touch_row(struct change *c)
{
	if (!c->room.there) {
		db_exec(c->db,
				"INSERT INTO member(room, user, role, guest, nick, joined, muted, banned, invited,"
				" spoke) VALUES(?,?,0,?,?,0,0,0,0,0)",
				"ssds", c->r->room, c->r->user, c->r->guest ? 1 : 0,
				c->r->nick.p ? c->r->nick : CHATD_LIT(""));
		c->room.there = 1;
	}
	c->done = 1;
}

static void count_members(struct change *c, int by)
{
	db_exec(c->db, "UPDATE room SET members=members+? WHERE id=?", "ds", by, c->r->room);
	c->room.members += by;
}

static void join(struct change *c)
{
	int invited = c->r->what == CHATD_STORE_ADD || c->room.invited;
	if (c->room.role != CHATD_ROLE_NONE) {
		return;
	}
	if (c->r->what == CHATD_STORE_JOIN && says_banned(&c->room, c->r->wall)) {
		c->op->a.until = c->room.banned_until;
		refuse(c->op, -EACCES, CHATD_STORE_BANNED);
		return;
	}
	if (!invited && !(c->room.flags & CHATD_STORE_ROOM_PUBLIC)) {
		refuse(c->op, -EACCES, CHATD_STORE_NOT_INVITED);
		return;
	}
	if (c->room.max_members && c->room.members >= c->room.max_members) {
		refuse(c->op, -EDQUOT, CHATD_STORE_ROOM_FULL);
		return;
	}
	if (c->r->max_rooms) {
		db_rows *s = db_query(
				c->db, "SELECT count(*) FROM member WHERE user=? AND role > 0", "s", c->r->user);
		int64_t n = db_step(c->db, s) ? db_i64(s, 0) : 0;
		db_done(s);
		if (n >= c->r->max_rooms) {
			refuse(c->op, -EDQUOT, CHATD_STORE_TOO_MANY);
			return;
		}
	}
	touch_row(c);
	db_exec(c->db,
			"UPDATE member SET role=?, guest=?, nick=coalesce(?, nick), joined=?, invited=0,"
			" banned=0 WHERE room=? AND user=?",
			"ddsiss", CHATD_ROLE_MEMBER, c->r->guest ? 1 : 0, c->r->nick, c->r->wall, c->r->room,
			c->r->user);
	count_members(c, 1);
}

/* A mute or a ban outlives the membership: leaving and coming back does not lift it. */
static void drop_membership(struct change *c)
{
	db_exec(c->db, "UPDATE member SET role=0, invited=0 WHERE room=? AND user=?", "ss", c->r->room,
			c->r->user);
	count_members(c, -1);
	c->done = 1;
}

/* Some room must have an owner, if anybody is left who can be one. */
static void find_successor(struct change *c)
{
	struct chatd_str user = chatd_str_of(NULL, 0);
	if (c->room.role != CHATD_ROLE_OWNER || (c->room.flags & CHATD_STORE_ROOM_PRESET)) {
		return;
	}
	db_rows *s = db_query(c->db,
			"SELECT user, role FROM member WHERE room=? AND role > 0 AND (role=3 OR guest = 0)"
			" ORDER BY role DESC, joined, user LIMIT 1",
			"s", c->r->room);
	if (db_step(c->db, s)) {
		if (db_i32(s, 1) != CHATD_ROLE_OWNER) {
			user = db_text(c->op, s, 0);
		}
		db_done(s);
	}
	if (user.p) {
		db_exec(c->db, "UPDATE member SET role=? WHERE room=? AND user=?", "dss", CHATD_ROLE_OWNER,
				c->r->room, user);
		c->op->a.successor = user;
	}
}

static void leave(struct change *c)
{
	if (c->room.role == CHATD_ROLE_NONE) {
		return;
	}
	drop_membership(c);
	find_successor(c);
	if (c->room.members == 0 && !(c->room.flags & CHATD_STORE_ROOM_PRESET)) {
		c->op->a.n = 1;
	}
}

void members_forget(struct db *db, struct op *op, struct chatd_str user)
{
	struct vec rooms = { 0 };
	db_rows *s = db_query(db, "SELECT room FROM member WHERE user=? AND role > 0", "s", user);
	while (db_step(db, s)) {
		struct chatd_str *room = vec_push(op, &rooms, sizeof(*room));
		if (room) {
			*room = db_text(op, s, 0);
		}
	}
	for (size_t i = 0; i < rooms.n; i++) {
		const struct chatd_store_member_change r = { .room = ((struct chatd_str *)rooms.p)[i],
			.user = user };
		struct change c = { .db = db, .op = op, .r = &r };
		if (!room_look(db, r.room, user, &c.room)) {
			continue;
		}
		op->a.n = 0;
		leave(&c);
		db_exec(db, "UPDATE room SET version=version+1 WHERE id=?", "s", r.room);
		if (op->a.n) {
			room_remove(db, r.room);
		}
	}
	db_exec(db, "DELETE FROM member WHERE user=? AND role = 0", "s", user);
	op->a.n = 0;
	op->a.successor = chatd_str_of(NULL, 0);
}

static void set_role(struct change *c)
{
	int32_t role = c->r->role;
	if (role < CHATD_ROLE_MEMBER || role > CHATD_ROLE_OWNER) {
		c->op->rc = -EINVAL;
		return;
	}
	if (c->room.role == CHATD_ROLE_NONE) {
		refuse(c->op, -ENOENT, CHATD_STORE_NOT_MEMBER);
		return;
	}
	if (c->room.role == role) {
		return;
	}
	if (c->room.guest && role != CHATD_ROLE_MEMBER) {
		c->op->rc = -EINVAL;
		return;
	}
	if (c->room.role == CHATD_ROLE_OWNER) {
		db_rows *s = db_query(
				c->db, "SELECT count(*) FROM member WHERE room=? AND role=3", "s", c->r->room);
		int64_t owners = db_step(c->db, s) ? db_i64(s, 0) : 0;
		db_done(s);
		if (owners < 2) {
			refuse(c->op, -EACCES, CHATD_STORE_LAST);
			return;
		}
	}
	db_exec(c->db, "UPDATE member SET role=? WHERE room=? AND user=?", "dss", role, c->r->room,
			c->r->user);
	c->done = 1;
}

static void set_ban(struct change *c, int64_t until)
{
	if (c->room.banned_until == until && (until == 0 || c->room.role == CHATD_ROLE_NONE)) {
		return;
	}
	touch_row(c);
	db_exec(c->db, "UPDATE member SET banned=?, invited=0 WHERE room=? AND user=?", "iss", until,
			c->r->room, c->r->user);
	if (until && c->room.role != CHATD_ROLE_NONE) {
		drop_membership(c);
		find_successor(c);
	}
}

static void set_mute(struct change *c)
{
	if (c->room.muted_until == c->r->until) {
		return;
	}
	touch_row(c);
	db_exec(c->db, "UPDATE member SET muted=? WHERE room=? AND user=?", "iss", c->r->until,
			c->r->room, c->r->user);
}

static void invite(struct change *c)
{
	if (c->room.role != CHATD_ROLE_NONE || c->room.invited) {
		return;
	}
	if (c->room.banned_until > c->r->wall) {
		c->op->a.until = c->room.banned_until;
		refuse(c->op, -EACCES, CHATD_STORE_BANNED);
		return;
	}
	touch_row(c);
	db_exec(c->db, "UPDATE member SET invited=1 WHERE room=? AND user=?", "ss", c->r->room,
			c->r->user);
}

/* ---- who may ---------------------------------------------------------------------- */

static int32_t role_needed(int32_t what)
{
	switch (what) {
	case CHATD_STORE_JOIN:
	case CHATD_STORE_LEAVE:
		return CHATD_ROLE_NONE;
	case CHATD_STORE_INVITE:
		return CHATD_ROLE_MEMBER;
	case CHATD_STORE_ROLE:
		return CHATD_ROLE_OWNER;
	default:
		return CHATD_ROLE_MODERATOR;
	}
}

static int actor_may(struct change *c)
{
	const struct chatd_store_member_change *r = c->r;
	int32_t need = role_needed(r->what);
	if (!r->actor.p) {
		return 1;
	}
	if (need == CHATD_ROLE_NONE) {
		if (str_same(r->actor, r->user)) {
			return 1;
		}
		refuse(c->op, -EACCES, CHATD_STORE_NO_RIGHT);
		return 0;
	}
	int over = r->what == CHATD_STORE_KICK || r->what == CHATD_STORE_BAN ||
			r->what == CHATD_STORE_MUTE || r->what == CHATD_STORE_UNBAN;
	if (c->actor_role == CHATD_ROLE_NONE && !(c->room.flags & CHATD_STORE_ROOM_PUBLIC)) {
		refuse(c->op, -ENOENT, CHATD_STORE_NO_ROOM);
		return 0;
	}
	if (c->actor_role < need || (over && c->room.role >= c->actor_role)) {
		refuse(c->op, -EACCES,
				c->actor_role == CHATD_ROLE_NONE ? CHATD_STORE_NOT_MEMBER : CHATD_STORE_NO_RIGHT);
		return 0;
	}
	return 1;
}

static void apply(struct change *c)
{
	switch (c->r->what) {
	case CHATD_STORE_JOIN:
	case CHATD_STORE_ADD:
		join(c);
		break;
	case CHATD_STORE_LEAVE:
	case CHATD_STORE_KICK:
		leave(c);
		break;
	case CHATD_STORE_INVITE:
		invite(c);
		break;
	case CHATD_STORE_ROLE:
		set_role(c);
		break;
	case CHATD_STORE_BAN:
		set_ban(c, c->r->until);
		break;
	case CHATD_STORE_UNBAN:
		set_ban(c, 0);
		break;
	case CHATD_STORE_MUTE:
		set_mute(c);
		break;
	default:
		c->op->rc = -EINVAL;
		break;
	}
}

static void answer_member(struct change *c)
{
	struct vec v = { 0 };
	db_rows *s = db_query(c->db, "SELECT " MEMBER_COLUMNS " FROM member WHERE room=? AND user=?",
			"ss", c->r->room, c->r->user);
	if (db_step(c->db, s)) {
		push_member(c->op, s, &v);
		db_done(s);
	}
	c->op->a.members = v.p;
	c->op->a.n_members = v.n;
}

void do_member_change(struct db *db, struct op *op)
{
	struct change c = { .db = db, .op = op, .r = op->req };
	const struct chatd_store_member_change *r = c.r;
	struct room_row actor = { 0 };
	if (!id_ok(r->user) || !id_ok(r->room) || r->nick.n > 512 ||
			(r->what == CHATD_STORE_BAN && r->until <= 0) || r->until < 0) {
		op->rc = -EINVAL;
		return;
	}
	if (r->actor.p) {
		room_look(db, r->room, r->actor, &actor);
		c.actor_role = actor.role;
	}
	if (!room_look(db, r->room, r->user, &c.room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
		return;
	}
	if (!actor_may(&c)) {
		return;
	}
	apply(&c);
	if (op->rc < 0) {
		return;
	}
	op->a.repeated = !c.done;
	op->a.version = c.room.version + c.done;
	if (c.done) {
		db_exec(db, "UPDATE room SET version=version+1 WHERE id=?", "s", r->room);
		if (r->what != CHATD_STORE_BAN || c.room.role != CHATD_ROLE_NONE) {
			append_event(db, op, r->event);
		}
		op->a.repeated = 0;
	}
	answer_member(&c);
	if (op->rc == 0 && op->a.n) {
		room_remove(db, r->room);
	}
}

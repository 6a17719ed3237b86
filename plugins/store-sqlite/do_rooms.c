/* SPDX-License-Identifier: Apache-2.0 */
/* Rooms. */
#include "store.h"

#include <errno.h>

enum { NAME_MAX_BYTES = 512, ABOUT_MAX_BYTES = 4096 };
#define ROOM_COLUMNS                                                                            \
	"r.id, r.name, r.about, r.flags, r.slow, r.max_members, r.retention, r.created,"            \
	" r.version, r.members, coalesce(m.role, 0), coalesce(m.muted, 0), coalesce(m.invited, 0)," \
	" coalesce(m.banned, 0)"

int room_look(struct db *db, struct chatd_str room, struct chatd_str user, struct room_row *ret)
{
	db_rows *s = db_query(db,
			"SELECT r.slow, r.max_members, r.version, r.members, r.flags, m.role, m.invited,"
			" m.muted, m.banned, m.spoke, m.guest FROM room r"
			" LEFT JOIN member m ON m.room=r.id AND m.user=? WHERE r.id=?",
			"ss", user, room);
	*ret = (struct room_row){ 0 };
	if (!db_step(db, s)) {
		return 0;
	}
	ret->slow_ms = db_i64(s, 0);
	ret->max_members = db_i64(s, 1);
	ret->version = db_i64(s, 2);
	ret->members = db_i64(s, 3);
	ret->flags = (uint32_t)db_i64(s, 4);
	ret->there = !db_null(s, 5);
	ret->role = db_i32(s, 5);
	ret->invited = db_i32(s, 6);
	ret->muted_until = db_i64(s, 7);
	ret->banned_until = db_i64(s, 8);
	ret->spoke = db_i64(s, 9);
	ret->guest = db_i32(s, 10);
	db_done(s);
	return 1;
}

static struct chatd_store_room *push_room(struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_room *r = vec_push(op, v, sizeof(*r));
	if (r) {
		*r = (struct chatd_store_room){ .struct_size = sizeof(*r),
			.id = db_text(op, s, 0),
			.name = db_text(op, s, 1),
			.about = db_text(op, s, 2),
			.flags = (uint32_t)db_i64(s, 3),
			.slow_ms = db_i64(s, 4),
			.max_members = db_i64(s, 5),
			.retention_ms = db_i64(s, 6),
			.created = db_i64(s, 7),
			.version = db_i64(s, 8),
			.members = db_i64(s, 9),
			.role = db_i32(s, 10),
			.muted_until = db_i64(s, 11),
			.invited = db_i32(s, 12),
			.banned_until = db_i64(s, 13) };
	}
	return r;
}

static void set_rooms(struct op *op, const struct vec *v)
{
	op->a.rooms = v->p;
	op->a.n_rooms = v->n;
}

/* A private room does not exist for those who have no business with it. */
static void answer_room(struct db *db, struct op *op, struct chatd_str id, struct chatd_str user)
{
	struct vec v = { 0 };
	db_rows *s = db_query(db,
			"SELECT " ROOM_COLUMNS " FROM room r LEFT JOIN member m ON m.room=r.id AND m.user=?"
			" WHERE r.id=?",
			"ss", user, id);
	if (db_step(db, s)) {
		struct chatd_store_room *r = push_room(op, s, &v);
		if (r && user.p && r->role == CHATD_ROLE_NONE && !r->invited &&
				!(r->flags & CHATD_STORE_ROOM_PUBLIC)) {
			v.n = 0;
		}
		db_done(s);
	}
	set_rooms(op, &v);
	if (v.n == 0 && op->rc == 0) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
	}
}

void do_room_get(struct db *db, struct op *op)
{
	const struct chatd_store_room_key *r = op->req;
	answer_room(db, op, r->room, r->user);
}

static int room_ok(const struct chatd_store_room *r)
{
	return id_ok(r->id) && r->name.n <= NAME_MAX_BYTES && r->about.n <= ABOUT_MAX_BYTES &&
			(!r->user.p || id_ok(r->user)) && r->slow_ms >= 0 && r->max_members >= 0 &&
			r->retention_ms >= 0;
}

static int too_many_rooms(struct db *db, struct chatd_str user, int64_t max)
{
	int64_t n = 0;
	if (!max) {
		return 0;
	}
	db_rows *s = db_query(db, "SELECT count(*) FROM member WHERE user=? AND role > 0", "s", user);
	if (db_step(db, s)) {
		n = db_i64(s, 0);
	}
	db_done(s);
	return n >= max;
}

static int no_place(struct db *db, int64_t max)
{
	return max && db_int(db, "SELECT count(*) FROM room") >= max;
}

void do_room_create(struct db *db, struct op *op)
{
	const struct chatd_store_room *r = op->req;
	struct conv_key k;
	struct chatd_store_conv conv = { .room = r->id };
	if (!room_ok(r) || !r->name.p) {
		op->rc = -EINVAL;
		return;
	}
	if (r->user.p && too_many_rooms(db, r->user, r->max_rooms)) {
		refuse(op, -EDQUOT, CHATD_STORE_TOO_MANY);
		return;
	}
	if (no_place(db, r->max_total)) {
		refuse(op, -EDQUOT, CHATD_STORE_NO_PLACE);
		return;
	}
	db_exec(db,
			"INSERT INTO room(id, name, about, flags, slow, max_members, retention, created,"
			" version, members) VALUES(?,?,?,?,?,?,?,?,1,?)",
			"sssiiiiid", r->id, r->name, r->about.p ? r->about : CHATD_LIT(""), (int64_t)r->flags,
			r->slow_ms, r->max_members, r->retention_ms, r->created, r->user.p ? 1 : 0);
	if (r->user.p) {
		db_exec(db,
				"INSERT INTO member(room, user, role, guest, nick, joined, muted, banned, invited,"
				" spoke) VALUES(?,?,?,0,?,?,0,0,0,0)",
				"ssdsi", r->id, r->user, CHATD_ROLE_OWNER, r->nick.p ? r->nick : CHATD_LIT(""),
				r->created);
	}
	/* So that it has its place among conversations before anybody speaks. */
	conv_key(&conv, &k);
	int64_t pos = db_next_pos(db);
	db_exec(db,
			"INSERT INTO conv(key, room, first, low, top, last_pos, msg_pos, gone_pos, wall)"
			" VALUES(?1, ?2, 1, 1, 0, ?3, ?3, 0, 0) ON CONFLICT(key) DO UPDATE SET msg_pos=?3",
			"ssi", k.key, k.room, pos);
	if (db->err == 0) {
		answer_room(db, op, r->id, r->user);
	}
}

/* 1: @p user may do what takes @p role. */
static int has_role(
		struct db *db, struct op *op, const struct chatd_store_room_key *who, int32_t role)
{
	struct room_row room;
	if (!room_look(db, who->room, who->user, &room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
		return 0;
	}
	if (who->user.p && room.role < role) {
		int hidden = room.role == CHATD_ROLE_NONE && !(room.flags & CHATD_STORE_ROOM_PUBLIC);
		refuse(op, hidden ? -ENOENT : -EACCES, hidden ? CHATD_STORE_NO_ROOM : CHATD_STORE_NO_RIGHT);
		return 0;
	}
	return 1;
}

/* What moderators need for their work, they may change; the rest is the owner's. */
static int32_t role_to_update(struct db *db, const struct chatd_store_room *r)
{
	const uint32_t owners = CHATD_STORE_SET_NAME | CHATD_STORE_SET_MAX | CHATD_STORE_SET_RETENTION;
	struct room_row room;
	int opens = r->set & CHATD_STORE_SET_FLAGS && room_look(db, r->id, r->user, &room) &&
			((room.flags ^ r->flags) & ~(uint32_t)CHATD_STORE_ROOM_READ_ONLY);
	return r->set & owners || opens ? CHATD_ROLE_OWNER : CHATD_ROLE_MODERATOR;
}

void do_room_update(struct db *db, struct op *op)
{
	const struct chatd_store_room *r = op->req;
	struct chatd_store_room_key who = { .room = r->id, .user = r->user };
	if (!room_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	if (!has_role(db, op, &who, role_to_update(db, r))) {
		return;
	}
	uint32_t set = r->set;
	db_exec(db,
			"UPDATE room SET version=version+1, name=CASE WHEN ?1 <> 0 THEN coalesce(?2, name)"
			" ELSE name END, about=CASE WHEN ?3 <> 0 THEN coalesce(?4, '') ELSE about END,"
			" flags=CASE WHEN ?5 <> 0 THEN ?6 ELSE flags END,"
			" slow=CASE WHEN ?7 <> 0 THEN ?8 ELSE slow END,"
			" max_members=CASE WHEN ?9 <> 0 THEN ?10 ELSE max_members END,"
			" retention=CASE WHEN ?11 <> 0 THEN ?12 ELSE retention END WHERE id=?13",
			"isisiiiiiiiis", (int64_t)(set & CHATD_STORE_SET_NAME), r->name,
			(int64_t)(set & CHATD_STORE_SET_ABOUT), r->about,
			(int64_t)(set & CHATD_STORE_SET_FLAGS), (int64_t)r->flags,
			(int64_t)(set & CHATD_STORE_SET_SLOW), r->slow_ms, (int64_t)(set & CHATD_STORE_SET_MAX),
			r->max_members, (int64_t)(set & CHATD_STORE_SET_RETENTION), r->retention_ms, r->id);
	answer_room(db, op, r->id, r->user);
}

/* The rows are made invisible now and removed by and by; the count goes on, so that an old
 * seq never means a new message. */
void room_remove(struct db *db, struct chatd_str room)
{
	struct chatd_store_conv conv = { .room = room };
	struct conv_key k;
	struct conv_row c;
	db_exec(db, "DELETE FROM member WHERE room=?", "s", room);
	db_exec(db, "DELETE FROM room WHERE id=?", "s", room);
	if (conv_key(&conv, &k) && conv_find(db, &k, &c)) {
		db_exec(db, "UPDATE conv SET first=top+1, gone_pos=last_pos WHERE n=?", "i", c.n);
		db_exec(db, "DELETE FROM cursor WHERE conv=?", "i", c.n);
		db_exec(db, "DELETE FROM pin WHERE conv=?", "i", c.n);
	}
}

void do_room_delete(struct db *db, struct op *op)
{
	const struct chatd_store_room_key *r = op->req;
	if (has_role(db, op, r, CHATD_ROLE_OWNER)) {
		room_remove(db, r->room);
	}
}

static db_rows *list_rooms(struct db *db, const struct chatd_store_room_list *r)
{
	struct chatd_str after = r->after.p ? r->after : CHATD_LIT("");
	if (r->scope == CHATD_STORE_INVITED_TO) {
		return db_query(db,
				"SELECT " ROOM_COLUMNS " FROM member m JOIN room r ON r.id=m.room"
				" WHERE m.user=? AND" SQL_ON("m.invited") "AND m.role=0 AND m.room > ?"
														  " ORDER BY m.room LIMIT ?",
				"ssd", r->user, after, r->limit);
	}
	if (r->scope == CHATD_STORE_MINE) {
		return db_query(db,
				"SELECT " ROOM_COLUMNS " FROM member m JOIN room r ON r.id=m.room"
				" WHERE m.user=? AND m.role > 0 AND m.room > ? ORDER BY m.room LIMIT ?",
				"ssd", r->user, after, r->limit);
	}
	return db_query(db,
			"SELECT " ROOM_COLUMNS " FROM room r LEFT JOIN member m ON m.room=r.id AND m.user=?"
			" WHERE r.id > ? AND (r.flags & 1 <> 0 OR (? <> 0 AND coalesce(m.role, 0) > 0))"
			" ORDER BY r.id LIMIT ?",
			"ssdd", r->user, after, r->scope & CHATD_STORE_MINE, r->limit);
}

static int scope_ok(const struct chatd_store_room_list *r)
{
	const int32_t or_ed = CHATD_STORE_PUBLIC | CHATD_STORE_MINE;
	return r->limit >= 1 && r->limit <= 1000 &&
			(r->scope == CHATD_STORE_INVITED_TO || (r->scope && !(r->scope & ~or_ed))) &&
			(r->scope == CHATD_STORE_PUBLIC || r->user.p);
}

void do_room_list(struct db *db, struct op *op)
{
	const struct chatd_store_room_list *r = op->req;
	struct vec v = { 0 };
	if (!scope_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = list_rooms(db, r);
	while (db_step(db, s)) {
		push_room(op, s, &v);
	}
	set_rooms(op, &v);
}

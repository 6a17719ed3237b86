/* SPDX-License-Identifier: Apache-2.0 */
/* Edits, deletions, reactions and pins: each is a row, and changes the message it names. */
#include "store.h"

#include <errno.h>

enum { EMOJI_MAX = 64 };

struct target {
	int64_t pos, seq, conv;
	int32_t kind;
	uint32_t flags;
	struct chatd_str id, sender, text; /* text: as the index has it */
	struct chatd_store_conv of;
	struct conv_key key;
};

/* 0: there is no such message (any more). */
static int find_target(struct db *db, struct op *op, struct chatd_str id, struct target *t)
{
	db_rows *s = db_query(db,
			"SELECT m.pos, m.seq, m.conv, m.kind, m.flags, m.sender, m.text, c.room, c.a, c.b,"
			" m.sealed IS NOT NULL FROM msg m JOIN conv c ON c.n=m.conv WHERE m.id=? AND m.seq >= c.first",
			"s", id);
	*t = (struct target){ .id = id };
	if (!db_step(db, s)) {
		op->rc = -ENOENT;
		return 0;
	}
	t->pos = db_i64(s, 0);
	t->seq = db_i64(s, 1);
	t->conv = db_i64(s, 2);
	t->kind = db_i32(s, 3);
	t->flags = (uint32_t)db_i64(s, 4);
	t->sender = db_text(op, s, 5);
	t->text = db_i64(s, 10) || !seals(op->e) ? db_text(op, s, 6) : chatd_str_of(NULL, 0);
	t->of = (struct chatd_store_conv){ db_text(op, s, 7), db_text(op, s, 8), db_text(op, s, 9) };
	db_done(s);
	if (t->kind != CHATD_STORE_MESSAGE || (t->flags & (CHATD_STORE_DELETED | CHATD_STORE_ERASED)) ||
			!conv_key(&t->of, &t->key)) {
		op->rc = -ENOENT;
		return 0;
	}
	return 1;
}

/* What the room says about who wants to change something in it; 1: it may. */
static int room_allows(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	struct room_row room;
	int own = str_same(r->actor, t->sender);
	if (!room_look(db, t->of.room, r->actor, &room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
	} else if (says_banned(&room, r->wall)) {
		op->a.until = room.banned_until;
		refuse(op, -EACCES, CHATD_STORE_BANNED);
	} else if (room.role == CHATD_ROLE_NONE) {
		refuse(op, -EACCES, CHATD_STORE_NOT_MEMBER);
	} else if (r->kind == CHATD_STORE_DELETE) {
		if (own || room.role >= CHATD_ROLE_MODERATOR) {
			return 1;
		}
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
	} else if (room.muted_until > r->wall) {
		op->a.until = room.muted_until;
		refuse(op, -EACCES, CHATD_STORE_MUTED);
	} else if (room.flags & CHATD_STORE_ROOM_READ_ONLY && room.role < CHATD_ROLE_MODERATOR) {
		refuse(op, -EACCES, CHATD_STORE_READ_ONLY);
	} else if (r->kind == CHATD_STORE_REACTION || own) {
		return 1;
	} else {
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
	}
	return 0;
}

static int allowed(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	if (!r->actor.p) {
		return 1;
	}
	if (t->of.room.p) {
		return room_allows(db, op, t, r);
	}
	int one_of = str_same(r->actor, t->of.a) || str_same(r->actor, t->of.b);
	if (one_of && (r->kind == CHATD_STORE_REACTION || str_same(r->actor, t->sender))) {
		return 1;
	}
	refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
	return 0;
}

/* ---- what changes --------------------------------------------------------------- */

/* What the message says from now on. */
static int seal_target(struct db *db, struct op *op, const struct target *t, struct said *said)
{
	const struct seal_at at = {
		.kind = "message", .conv = t->key.key, .sender = t->sender, .id = t->id, .seq = t->seq
	};
	op->rc = seal_said(db, &op->arena, &at, said);
	return op->rc == 0;
}

static void edit(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	struct said said = { .body = r->new_body, .text = r->new_text };
	if (!seal_target(db, op, t, &said)) {
		return;
	}
	db_exec(db, "UPDATE msg SET body=?, text=?, sealed=?, flags=flags|? WHERE pos=?", "ssbii",
			said.body, said.text, said.sealed, (int64_t)CHATD_STORE_EDITED, t->pos);
	op->index_pos = t->pos;
	op->index_old = t->text;
	op->index_new = said.text;
}

static void delete_message(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	struct said said = { .body = r->new_body };
	if (!seal_target(db, op, t, &said)) {
		return;
	}
	db_exec(db, "UPDATE msg SET body=?, text=NULL, sealed=?, flags=(flags|?) & ~ ? WHERE pos=?",
			"sbiii", said.body, said.sealed, (int64_t)CHATD_STORE_DELETED,
			(int64_t)(CHATD_STORE_PINNED | CHATD_STORE_REACTED), t->pos);
	db_exec(db, "UPDATE msg SET body='', sealed=NULL, flags=flags|? WHERE target=? AND kind=?",
			"isd", (int64_t)CHATD_STORE_ERASED, r->target, CHATD_STORE_EDIT);
	db_exec(db, "DELETE FROM reaction WHERE pos=?", "i", t->pos);
	db_exec(db, "DELETE FROM mention WHERE pos=?", "i", t->pos);
	db_exec(db, "DELETE FROM pin WHERE conv=? AND pos=?", "ii", t->conv, t->pos);
	files_detach(db, t->pos);
	op->index_pos = t->pos;
	op->index_old = t->text;
}

/* 1: it changed something. */
static int react(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	int64_t n = 0;
	db_rows *s = db_query(db, "SELECT count(*) FROM reaction WHERE pos=?", "i", t->pos);
	if (db_step(db, s)) {
		n = db_i64(s, 0);
	}
	db_done(s);
	int64_t changed;
	if (r->remove) {
		changed = db_exec(db, "DELETE FROM reaction WHERE pos=? AND emoji=? AND user=?", "iss",
				t->pos, r->emoji, r->actor);
	} else {
		changed = db_exec(db,
				"INSERT INTO reaction(pos, emoji, user) VALUES(?,?,?)"
				" ON CONFLICT DO NOTHING",
				"iss", t->pos, r->emoji, r->actor);
		if (changed && n >= REACTIONS_MAX) {
			refuse(op, -EDQUOT, CHATD_STORE_TOO_MANY);
			return 0;
		}
	}
	n += r->remove ? -changed : changed;
	if (changed) {
		db_exec(db,
				"UPDATE msg SET flags=(flags & ~ ?1)|CASE WHEN ?2 <> 0 THEN ?1 ELSE 0 END"
				" WHERE pos=?3",
				"iii", (int64_t)CHATD_STORE_REACTED, n, t->pos);
	}
	return changed > 0;
}

static int change_ok(const struct chatd_store_change *r)
{
	if (r->kind == CHATD_STORE_REACTION) {
		return r->emoji.n > 0 && r->emoji.n <= EMOJI_MAX && r->actor.p;
	}
	return (r->kind == CHATD_STORE_EDIT || r->kind == CHATD_STORE_DELETE) && r->new_body.p;
}

static void answer_message(struct db *db, struct op *op, int64_t pos)
{
	struct vec v = { 0 };
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM msg m JOIN conv c ON c.n=m.conv WHERE m.pos=?", "i", pos);
	if (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	db_done(s);
	set_messages(op, &v);
}

static void change_target(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_change *r)
{
	struct new_row row = { .kind = r->kind,
		.flags = t->flags & CHATD_STORE_GUEST,
		.key = &t->key,
		.id = r->id,
		.sender = r->actor.p ? r->actor : t->sender,
		.client_id = r->client_id,
		.hash = r->hash,
		.body = r->body,
		.target = r->target,
		.out = r->out,
		.n_out = r->n_out,
		.wall = r->wall };
	if (r->kind == CHATD_STORE_EDIT) {
		edit(db, op, t, r);
	} else if (r->kind == CHATD_STORE_DELETE) {
		delete_message(db, op, t, r);
	} else if (!react(db, op, t, r)) {
		op->a.repeated = op->rc == 0;
		op->a.conv = t->of;
		return;
	}
	if (op->rc == 0) {
		append_row(db, op, &row);
	}
}

void do_change(struct db *db, struct op *op)
{
	const struct chatd_store_change *r = op->req;
	struct target t;
	if (!change_ok(r) || (r->actor.p && !id_ok(r->actor)) || (!r->actor.p && r->client_id.p)) {
		op->rc = -EINVAL;
		return;
	}
	if (deduped(db, op, r->actor, r->client_id, r->hash, r->wall) ||
			!find_target(db, op, r->target, &t) || !allowed(db, op, &t, r)) {
		return;
	}
	change_target(db, op, &t, r);
	if (op->rc == 0) {
		answer_message(db, op, t.pos);
	}
}

/* ---- pins ---------------------------------------------------------------------------- */

static int may_pin(
		struct db *db, struct op *op, const struct target *t, const struct chatd_store_pin *r)
{
	struct room_row room;
	if (!r->actor.p) {
		return 1;
	}
	if (!t->of.room.p) {
		if (str_same(r->actor, t->of.a) || str_same(r->actor, t->of.b)) {
			return 1;
		}
	} else if (!room_look(db, t->of.room, r->actor, &room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
		return 0;
	} else if (room.role >= CHATD_ROLE_MODERATOR) {
		return 1;
	}
	refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
	return 0;
}

void do_pin(struct db *db, struct op *op)
{
	const struct chatd_store_pin *r = op->req;
	struct target t;
	if (!find_target(db, op, r->id, &t) || !may_pin(db, op, &t, r)) {
		return;
	}
	if (r->remove) {
		op->a.n = db_exec(db, "DELETE FROM pin WHERE conv=? AND pos=?", "ii", t.conv, t.pos);
	} else {
		op->a.n = db_exec(db,
				"INSERT INTO pin(conv, pos, wall) VALUES(?,?,?)"
				" ON CONFLICT DO NOTHING",
				"iii", t.conv, t.pos, r->wall);
	}
	if (op->a.n) {
		db_exec(db,
				"UPDATE msg SET flags=(flags & ~ ?1)|CASE WHEN ?2 <> 0 THEN 0 ELSE ?1 END"
				" WHERE pos=?3",
				"idi", (int64_t)CHATD_STORE_PINNED, r->remove, t.pos);
		append_event(db, op, r->event);
	}
}

void do_pins(struct db *db, struct op *op)
{
	const struct chatd_store_conv_key *r = op->req;
	struct conv_key k;
	struct vec v = { 0 };
	if (!conv_key(&r->conv, &k)) {
		op->rc = -EINVAL;
		return;
	}
	if (!may_read(db, op, &k, r->user)) {
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM conv c JOIN pin p ON p.conv=c.n JOIN msg m ON m.pos=p.pos"
			" WHERE c.key=? AND m.seq >= c.first ORDER BY p.wall DESC, p.pos DESC LIMIT 1000",
			"s", k.key);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	set_messages(op, &v);
}

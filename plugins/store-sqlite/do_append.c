/* SPDX-License-Identifier: Apache-2.0 */
/* New rows of conversations: the sequencer.  seq is given here, inside the commit.  PostgreSQL
 * does the same in a function of its own: see append.c and schema.c of store-postgres. */
#include "store.h"

#include <errno.h>
#include <string.h>

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

/* ---- the row --------------------------------------------------------------------- */

/* Takes the next seq; returns the conversation's number. */
static int64_t next_seq(struct db *db, struct op *op, const struct new_row *r)
{
	int64_t n, msg_pos;
	op->a.pos = db_next_pos(db);
	db_rows *s =
			db_query(db, "SELECT n, top, wall, msg_pos FROM conv WHERE key=?", "s", r->key->key);
	if (!db_step(db, s)) {
		op->a.seq = 1;
		op->a.wall = r->wall;
		s = db_query(db,
				"INSERT INTO conv(key, room, a, b, first, low, top, last_pos, msg_pos, gone_pos,"
				" wall) VALUES(?1, ?2, ?3, ?4, 1, 1, 1, ?5, ?5, 0, ?6) RETURNING n",
				"ssssii", r->key->key, r->key->room, r->key->a, r->key->b, op->a.pos, r->wall);
		n = db_step(db, s) ? db_i64(s, 0) : 0;
		db_done(s);
		return n;
	}
	n = db_i64(s, 0);
	op->a.seq = db_i64(s, 1) + 1;
	op->a.wall = db_i64(s, 2);
	op->a.wall = op->a.wall > r->wall ? op->a.wall : r->wall;
	msg_pos = r->kind == CHATD_STORE_MESSAGE ? op->a.pos : db_i64(s, 3);
	db_done(s);
	db_exec(db, "UPDATE conv SET top=?, last_pos=?, wall=?, msg_pos=? WHERE n=?", "iiiii",
			op->a.seq, op->a.pos, op->a.wall, msg_pos, n);
	return n;
}

void append_row(struct db *db, struct op *op, const struct new_row *r)
{
	if (!row_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	int64_t conv = next_seq(db, op, r);
	struct said said = { .body = or_empty(r->body), .text = r->text };
	const struct seal_at at = {
		.kind = "message", .conv = r->key->key, .sender = r->sender, .seq = op->a.seq
	};
	op->rc = seal_said(db, &op->arena, &at, &said);
	if (op->rc < 0) {
		return;
	}
	int64_t expires = r->expires;
	int64_t kept = r->flags & CHATD_STORE_GUEST ? op->e->conf.anonymous_retention : 0;
	/* What a guest says may expire sooner, never later. */
	if (kept && (!expires || expires > op->a.wall + kept)) {
		expires = op->a.wall + kept;
	}
	db_exec(db,
			"INSERT INTO msg(pos, conv, seq, id, kind, flags, sender, client_id, wall, expires,"
			" target, reply_to, thread, body, text, hash, client, sealed)"
			" VALUES(?,?,?,?,?,?,?,?,?,nullif(?10,0),?,?,?,?,?,?16,CASE WHEN ?16 IS NULL THEN NULL ELSE ?17 END,?18)",
			"iiisdissiisssssbib", op->a.pos, conv, op->a.seq, r->id, r->kind, (int64_t)r->flags,
			or_empty(r->sender), r->client_id, op->a.wall, expires, r->target, r->reply_to,
			r->thread, said.body, said.text,
			r->client_id.p ? seal_hash(op->e, &op->arena, r->hash) : chatd_str_of(NULL, 0),
			client_number(db, r->sender, r->client_id), said.sealed);
	outbox_put(db, op, r);
	op->a.id = r->id;
	op->a.before_a = op->a.before_b = -1;
	op->a.conv = (struct chatd_store_conv){ r->key->room, r->key->a, r->key->b };
	set_epoch(db, op);
	db->index_bytes += said.text.n;
}

/* ---- may they speak? ---------------------------------------------------------------- */

/* *ret_slow: it must be noted when they did. */
static int may_speak(
		struct db *db, struct op *op, const struct chatd_store_append *r, int *ret_slow)
{
	struct room_row room;
	if (!room_look(db, r->conv.room, r->sender, &room)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
	} else if (says_banned(&room, r->wall)) {
		op->a.until = room.banned_until;
		refuse(op, -EACCES, CHATD_STORE_BANNED);
	} else if (room.role == CHATD_ROLE_NONE) {
		refuse(op, -EACCES, CHATD_STORE_NOT_MEMBER);
	} else if (room.muted_until > r->wall) {
		op->a.until = room.muted_until;
		refuse(op, -EACCES, CHATD_STORE_MUTED);
	} else if (room.role >= CHATD_ROLE_MODERATOR) {
		return 1;
	} else if (room.flags & CHATD_STORE_ROOM_READ_ONLY) {
		refuse(op, -EACCES, CHATD_STORE_READ_ONLY);
	} else if (room.slow_ms && room.spoke + room.slow_ms > r->wall) {
		op->a.until = room.spoke + room.slow_ms;
		refuse(op, -EACCES, CHATD_STORE_SLOW);
	} else {
		*ret_slow = room.slow_ms > 0;
		return 1;
	}
	return 0;
}

static int has_thread(struct db *db, const struct conv_key *k, struct chatd_str id)
{
	db_rows *s = db_query(db,
			"SELECT 1 FROM msg m JOIN conv c ON c.n=m.conv WHERE m.id=? AND m.kind=1 AND c.key=?"
			" AND m.seq >= c.first",
			"ss", id, k->key);
	int there = db_step(db, s);
	if (there) {
		db_done(s);
	}
	return there;
}

static void add_mentions(struct db *db, struct op *op, const struct chatd_store_append *r)
{
	for (size_t i = 0; i < r->n_mentions; i++) {
		if (id_ok(r->mentions[i])) {
			db_exec(db, "INSERT INTO mention(user, pos) VALUES(?,?) ON CONFLICT DO NOTHING", "si",
					r->mentions[i], op->a.pos);
		}
	}
}

/* The key's texts are part of the answer: they live with the op, the key text need not. */
static void append(struct db *db, struct op *op, const struct chatd_store_append *r)
{
	int slow = 0;
	struct conv_key k;
	struct new_row row = { .kind = r->kind ? r->kind : CHATD_STORE_MESSAGE,
		.flags = r->flags & (CHATD_STORE_GUEST | CHATD_STORE_ENCRYPTED),
		.key = &k,
		.id = r->id,
		.sender = r->sender,
		.client_id = r->client_id,
		.hash = r->hash,
		.body = r->body,
		.text = r->text,
		.reply_to = r->reply_to,
		.thread = r->thread,
		.out = r->out,
		.n_out = r->n_out,
		.wall = r->wall,
		.expires = r->expires };
	if (!conv_key(&r->conv, &k) ||
			(row.kind != CHATD_STORE_MESSAGE && row.kind != CHATD_STORE_EVENT) ||
			(r->sender.p && !id_ok(r->sender)) || (!r->sender.p && (r->client_id.p || r->check))) {
		op->rc = -EINVAL;
		return;
	}
	if (deduped(db, op, r->sender, r->client_id, r->hash, r->wall)) {
		return;
	}
	if (r->check && k.room.p && !may_speak(db, op, r, &slow)) {
		return;
	}
	if (r->check && !k.room.p && !str_same(r->sender, k.a) && !str_same(r->sender, k.b)) {
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
		return;
	}
	if (r->check && r->thread.p && !has_thread(db, &k, r->thread)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_THREAD);
		return;
	}
	append_row(db, op, &row);
	if (op->rc == 0) {
		add_mentions(db, op, r);
		files_attach(db, op, r, op->a.pos);
	}
	if (op->rc == 0 && slow) {
		db_exec(db, "UPDATE member SET spoke=? WHERE room=? AND user=?", "iss", r->wall,
				r->conv.room, r->sender);
	}
}

void do_append(struct db *db, struct op *op)
{
	append(db, op, op->req);
}

void append_event(struct db *db, struct op *op, const struct chatd_store_append *event)
{
	struct chatd_store_append r;
	if (!event) {
		return;
	}
	r = *event;
	r.check = 0;
	if (!r.kind) {
		r.kind = CHATD_STORE_EVENT;
	}
	append(db, op, &r);
}

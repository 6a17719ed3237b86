/* SPDX-License-Identifier: Apache-2.0 */
/* What several calls need: names of conversations, who may read, rows as structs. */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static do_fn *const calls[CALL_COUNT] = {
#define CHATD_X(name, request, writes) [CALL_##name] = do_##name,
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
};

void op_run(struct db *db, struct op *op)
{
	calls[op->call](db, op);
	if (op->rc == 0 && op->arena.failed) {
		op->rc = -ENOMEM;
	}
}

int id_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
					c == '_' || c == '-')) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= ID_MAX_BYTES;
}

int str_same(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

struct chatd_str str_z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

void refuse(struct op *op, chatd_status rc, int32_t why)
{
	op->rc = rc;
	op->a.why = why;
}

static int before(struct chatd_str a, struct chatd_str b)
{
	int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
	return c < 0 || (c == 0 && a.n < b.n);
}

int conv_key(const struct chatd_store_conv *conv, struct conv_key *k)
{
	int n;
	memset(k, 0, sizeof(*k));
	if (conv->room.p) {
		if (!id_ok(conv->room)) {
			return 0;
		}
		k->room = conv->room;
		n = snprintf(k->text, sizeof(k->text), "r:%.*s", (int)k->room.n, k->room.p);
	} else {
		if (!id_ok(conv->a) || !id_ok(conv->b)) {
			return 0;
		}
		int turn = before(conv->b, conv->a);
		k->a = turn ? conv->b : conv->a;
		k->b = turn ? conv->a : conv->b;
		n = snprintf(
				k->text, sizeof(k->text), "d:%.*s:%.*s", (int)k->a.n, k->a.p, (int)k->b.n, k->b.p);
	}
	k->key = chatd_str_of(k->text, (size_t)n);
	return 1;
}

int conv_find(struct db *db, const struct conv_key *k, struct conv_row *ret)
{
	db_rows *s = db_query(
			db, "SELECT n, first, top, last_pos, gone_pos FROM conv WHERE key=?", "s", k->key);
	*ret = (struct conv_row){ .first = 1, .conv = { k->room, k->a, k->b } };
	if (!db_step(db, s)) {
		return 0;
	}
	ret->n = db_i64(s, 0);
	ret->first = db_i64(s, 1);
	ret->top = db_i64(s, 2);
	ret->last_pos = db_i64(s, 3);
	ret->gone_pos = db_i64(s, 4);
	db_done(s);
	return 1;
}

/* That one is banned is told of public rooms alone: a private one is not there at all for those
 * who are no members, and whoever is banned is none. */
int says_banned(const struct room_row *r, int64_t wall)
{
	return r->banned_until > wall && (r->flags & CHATD_STORE_ROOM_PUBLIC);
}

int may_read(struct db *db, struct op *op, const struct conv_key *k, struct chatd_str user)
{
	struct room_row r;
	if (!user.p) {
		return 1;
	}
	if (!k->room.p) {
		if (str_same(user, k->a) || str_same(user, k->b)) {
			return 1;
		}
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
		return 0;
	}
	if (!room_look(db, k->room, user, &r)) {
		refuse(op, -ENOENT, CHATD_STORE_NO_ROOM);
		return 0;
	}
	if (says_banned(&r, op->e->h->wall_ms())) {
		op->a.until = r.banned_until;
		refuse(op, -EACCES, CHATD_STORE_BANNED);
		return 0;
	}
	if (r.role == CHATD_ROLE_NONE && !(r.flags & CHATD_STORE_ROOM_PUBLIC)) {
		refuse(op, -EACCES, CHATD_STORE_NOT_MEMBER);
		return 0;
	}
	return 1;
}

void set_epoch(struct db *db, struct op *op)
{
	if (db->epoch[0]) {
		memcpy(op->epoch, db->epoch, EPOCH_CHARS);
	} else { /* a reader's: it may be another after the next start, but not before */
		db_rows *s = db_query(db, "SELECT value FROM meta WHERE key='epoch'", "");
		if (db_step(db, s) && db_peek(s, 0).n == EPOCH_CHARS) {
			memcpy(db->epoch, db_peek(s, 0).p, EPOCH_CHARS);
		}
		db_done(s);
		memcpy(op->epoch, db->epoch, EPOCH_CHARS);
	}
	op->a.epoch = chatd_str_of(op->epoch, EPOCH_CHARS);
}

/* {"emoji":["user",...],...}, oldest users of the alphabet first: the same for all. */
static struct chatd_str reactions_of(struct db *db, struct op *op, int64_t pos)
{
	struct chatd_str json = chatd_str_of(NULL, 0);
	db_rows *s = db_query(db, SQL_REACTIONS, "i", pos);
	if (db_step(db, s)) {
		json = db_text(op, s, 0);
	}
	db_done(s);
	return json;
}

static void open_body(struct op *op, struct chatd_str sealed, struct chatd_store_message *m)
{
	struct conv_key k;
	struct said said = { .sealed = sealed };
	if (conv_key(&m->conv, &k)) {
		const struct seal_at at = {
			.kind = "message", .conv = k.key, .sender = m->sender, .id = m->id, .seq = m->seq
		};
		if (!open_said(op->e, &op->arena, &at, &said)) {
			m->flags |= CHATD_STORE_UNREADABLE;
		}
		m->body = said.body;
	}
}

void row_message(struct db *db, struct op *op, db_rows *s, struct chatd_store_message *m)
{
	*m = (struct chatd_store_message){ .struct_size = sizeof(*m),
		.pos = db_i64(s, 0),
		.seq = db_i64(s, 1),
		.id = db_text(op, s, 2),
		.kind = db_i32(s, 3),
		.flags = (uint32_t)db_i64(s, 4),
		.sender = db_text(op, s, 5),
		.client_id = db_text(op, s, 6),
		.wall = db_i64(s, 7),
		.expires = db_i64(s, 8),
		.target = db_text(op, s, 9),
		.reply_to = db_text(op, s, 10),
		.thread = db_text(op, s, 11),
		.body = db_text(op, s, 12),
		.conv = { db_text(op, s, 13), db_text(op, s, 14), db_text(op, s, 15) } };
	if (!db_null(s, 16)) {
		open_body(op, db_peek(s, 16), m);
	}
	/* What is over is over, also until the sweep comes by. */
	if (m->expires && m->expires <= op->e->h->wall_ms()) {
		m->flags &= ~(uint32_t)(CHATD_STORE_REACTED | CHATD_STORE_UNREADABLE);
		m->flags |= CHATD_STORE_ERASED;
		m->body = CHATD_LIT("");
	}
	if (m->flags & CHATD_STORE_REACTED) {
		m->reactions = reactions_of(db, op, m->pos);
	}
}

struct chatd_store_message *push_message(struct db *db, struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_message *m = vec_push(op, v, sizeof(*m));
	if (m) {
		row_message(db, op, s, m);
	}
	return m;
}

void set_messages(struct op *op, const struct vec *v)
{
	op->a.messages = v->p;
	op->a.n_messages = v->n;
}

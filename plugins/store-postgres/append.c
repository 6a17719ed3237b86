/* SPDX-License-Identifier: Apache-2.0 */
/* New rows of conversations: what do_append.c of store-sqlite does, in one statement each, so
 * that those of a group are sent together.  The statement's other half is in steps.c. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <string.h>

/* What the server's function says first. */
enum { SAID_NEW, SAID_REPEATED, SAID_NO, SAID_NOT_FOUND, SAID_MISMATCH, SAID_BAD };

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

/* What search shall find keeps its words, without the bytes that PostgreSQL does not take. */
static struct chatd_str clean(struct op *op, struct chatd_str text)
{
	if (!text.p || !memchr(text.p, 0, text.n)) {
		return text;
	}
	struct chatd_str copy = arena_copy(&op->arena, text);
	for (size_t i = 0; copy.p && i < copy.n; i++) {
		char *p = (char *)(uintptr_t)copy.p + i;
		*p = *p ? *p : ' ';
	}
	return copy;
}

/* The parameters of both functions, from p_kind on. */
#define ROW_TYPES "iisssssssbissssssiiis"
#define ROW_ARGUMENTS(db, op, r)                                                                  \
	(int64_t)(r)->kind, (int64_t)(r)->flags, (r)->key->key, (r)->key->room, (r)->key->a,          \
			(r)->key->b, (r)->id, or_empty((r)->sender), (r)->client_id,                          \
			(r)->client_id.p ? (r)->hash : chatd_str_of(NULL, 0),                                 \
			client_number((db), (r)->sender, (r)->client_id), or_empty((r)->body), (r)->text,     \
			tokens_of((db), (op), (r)->text), (r)->target, (r)->reply_to, (r)->thread, (r)->wall, \
			(r)->expires,                                                                         \
			(r)->flags &CHATD_STORE_GUEST ? (op)->e->conf.anonymous_retention : INT64_C(0),       \
			str_z((op)->e->back.node)

static void take_row(struct db *db, struct op *op, db_rows *s, int column)
{
	op->a.pos = db_i64(s, column);
	op->a.seq = db_i64(s, column + 1);
	op->a.wall = db_i64(s, column + 2);
	op->a.before_a = db_i64(s, column + 3);
	op->a.before_b = db_i64(s, column + 4);
	set_epoch(db, op);
}

static void write_out(
		struct db *db, const struct op *op, const struct chatd_store_out *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		db_push(db, "INSERT INTO outbox(pos, route, headers, body, held) VALUES(?,?,?,?,0)", "isss",
				op->a.pos, or_empty(out[i].route), or_empty(out[i].headers), out[i].body);
	}
}

void append_row(struct db *db, struct op *op, const struct new_row *r)
{
	if (!row_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	struct new_row row = *r;
	row.text = clean(op, r->text);
	db_rows *s = db_query(db, "SELECT * FROM append_row(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			ROW_TYPES, ROW_ARGUMENTS(db, op, &row));
	if (db_step(db, s)) {
		take_row(db, op, s, 0);
		op->a.id = r->id;
		op->a.conv = (struct chatd_store_conv){ r->key->room, r->key->a, r->key->b };
	}
	db_done(s);
	write_out(db, op, r->out, r->n_out);
}

/* ---- an append ------------------------------------------------------------------------ */

/* {a,b}: ids need no quotes.  .p NULL: nobody. */
static struct chatd_str list_of(struct op *op, const struct chatd_store_append *r)
{
	size_t n = 0, cap = 2;
	for (size_t i = 0; i < r->n_mentions; i++) {
		cap += r->mentions[i].n + 1;
	}
	char *to = r->n_mentions ? arena_alloc(&op->arena, cap + 1) : NULL;
	for (size_t i = 0; to && i < r->n_mentions; i++) {
		if (id_ok(r->mentions[i])) {
			to[n] = n ? ',' : '{';
			memcpy(to + n + 1, r->mentions[i].p, r->mentions[i].n);
			n += r->mentions[i].n + 1;
		}
	}
	if (n) {
		to[n++] = '}';
	}
	return chatd_str_of(n ? to : NULL, n);
}

/* That a clientId has no hash is told after it was looked for. */
static int append_ok(const struct chatd_store_append *r, struct new_row row)
{
	row.hash = row.hash.n ? row.hash : CHATD_LIT("none");
	return (row.kind == CHATD_STORE_MESSAGE || row.kind == CHATD_STORE_EVENT) &&
			(!r->sender.p || id_ok(r->sender)) && (r->sender.p || (!r->client_id.p && !r->check)) &&
			row_ok(&row);
}

static int send_append(
		struct db *db, struct op *op, const struct chatd_store_append *r, db_rows *to)
{
	struct conv_key k;
	struct new_row row = { .kind = r->kind ? r->kind : CHATD_STORE_MESSAGE,
		.flags = r->flags & (CHATD_STORE_GUEST | CHATD_STORE_ENCRYPTED),
		.key = &k,
		.id = r->id,
		.sender = r->sender,
		.client_id = r->client_id,
		.hash = r->hash,
		.body = r->body,
		.text = clean(op, r->text),
		.reply_to = r->reply_to,
		.thread = r->thread,
		.wall = r->wall,
		.expires = r->expires };
	if (!conv_key(&r->conv, &k) || !append_ok(r, row)) {
		op->rc = -EINVAL;
		return 0;
	}
	db_send(db, to, "SELECT * FROM append(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			"iiai" ROW_TYPES, (int64_t)r->check, r->wall - op->e->conf.dedupe_window,
			list_of(op, r), r->wall, ROW_ARGUMENTS(db, op, &row));
	if (db->err == -EINVAL) { /* a text that cannot be sent: nothing was */
		db_clear(db);
		op->rc = -EINVAL;
		return 0;
	}
	return 1;
}

static void take_append(
		struct db *db, struct op *op, const struct chatd_store_append *r, db_rows *s)
{
	static const chatd_status errors[] = { 0, 0, -EACCES, -ENOENT, -EEXIST, -EINVAL };
	struct conv_key k;
	if (!db_step(db, s)) {
		db_done(s);
		return;
	}
	int32_t said = db_i32(s, 0);
	if (said == SAID_NEW && conv_key(&r->conv, &k)) {
		take_row(db, op, s, 3);
		op->a.id = r->id;
		op->a.conv = (struct chatd_store_conv){ k.room, k.a, k.b };
	} else if (said == SAID_REPEATED) {
		take_row(db, op, s, 3);
		op->a.repeated = 1;
		op->a.id = db_text(op, s, 8);
		op->a.conv = (struct chatd_store_conv){ db_text(op, s, 9), db_text(op, s, 10),
			db_text(op, s, 11) };
	} else {
		op->a.until = db_i64(s, 2);
		refuse(op, errors[said], db_i32(s, 1));
	}
	db_done(s);
	if (said == SAID_NEW) {
		write_out(db, op, r->out, r->n_out);
	}
}

int append_is_plain(const struct op *op)
{
	const struct chatd_store_append *r = op->req;
	return op->call == CALL_append && r->n_out == 0;
}

int append_send(struct db *db, struct op *op, db_rows *to)
{
	return send_append(db, op, op->req, to);
}

void append_take(struct db *db, struct op *op, db_rows *s)
{
	take_append(db, op, op->req, s);
	if (op->rc == 0 && op->arena.failed) {
		op->rc = -ENOMEM;
	}
}

static void append(struct db *db, struct op *op, const struct chatd_store_append *r)
{
	db_rows s = { 0 };
	if (send_append(db, op, r, &s)) {
		db_wait(db);
		take_append(db, op, r, &s);
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
	r.kind = r.kind ? r.kind : CHATD_STORE_EVENT;
	append(db, op, &r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading conversations: pages, replays, where they end. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

/* The conversation, if @p user may read it; an empty one is no error. */
static int look(struct db *db, struct op *op, const struct chatd_store_conv *conv,
		struct chatd_str user, struct conv_row *ret)
{
	struct conv_key k;
	if (!conv_key(conv, &k)) {
		op->rc = -EINVAL;
		return 0;
	}
	if (!may_read(db, op, &k, user)) {
		return 0;
	}
	conv_find(db, &k, ret);
	op->a.first = ret->first;
	op->a.seq = ret->top;
	op->a.pos = ret->last_pos;
	op->a.conv = ret->conv;
	set_epoch(db, op);
	return 1;
}

/* ---- pages --------------------------------------------------------------------- */

static void turn(struct vec *v)
{
	struct chatd_store_message *m = v->p;
	for (size_t i = 0; i < v->n / 2; i++) {
		struct chatd_store_message swap = m[i];
		m[i] = m[v->n - 1 - i];
		m[v->n - 1 - i] = swap;
	}
}

#define PAGE_KINDS " AND (m.kind=1 OR (?4 <> 0 AND m.kind=5)) AND m.flags & 16 = 0"
static db_rows *page_query(
		struct db *db, const struct chatd_store_page *r, const struct conv_row *c, int back)
{
	int64_t from = back ? (r->before > 0 ? r->before : INT64_MAX)
						: (r->after >= c->first ? r->after : c->first - 1);
	if (r->thread.p) { /* "+": by the thread's index, not through the whole conversation */
		return back
				? db_query(db,
						  "SELECT " MSG_COLUMNS " FROM msg m JOIN conv c ON c.n=m.conv"
						  " WHERE (m.thread=?1 OR m.id=?1) AND +m.conv=?2 AND +m.seq < ?3 AND"
						  " +m.seq >= ?6" PAGE_KINDS " ORDER BY m.seq DESC LIMIT ?5",
						  "siiddi", r->thread, c->n, from, r->events, r->limit, c->first)
				: db_query(db,
						  "SELECT " MSG_COLUMNS " FROM msg m JOIN conv c ON c.n=m.conv"
						  " WHERE (m.thread=?1 OR m.id=?1) AND +m.conv=?2 AND +m.seq > ?3" PAGE_KINDS
						  " ORDER BY m.seq LIMIT ?5",
						  "siidd", r->thread, c->n, from, r->events, r->limit);
	}
	return back ? db_query(db,
						  "SELECT " MSG_COLUMNS " FROM conv c" SQL_INNER " msg m ON m.conv=c.n"
						  " WHERE c.n=?1 AND m.seq < ?2 AND m.seq >= ?3" PAGE_KINDS
						  " ORDER BY m.seq DESC LIMIT ?5",
						  "iiidd", c->n, from, c->first, r->events, r->limit)
				: db_query(db,
						  "SELECT " MSG_COLUMNS " FROM conv c" SQL_INNER " msg m ON m.conv=c.n"
						  " WHERE c.n=?1 AND m.seq > ?2 AND m.seq >= ?3" PAGE_KINDS
						  " ORDER BY m.seq LIMIT ?5",
						  "iiidd", c->n, from, c->first, r->events, r->limit);
}

void do_page(struct db *db, struct op *op)
{
	const struct chatd_store_page *r = op->req;
	struct conv_row c;
	struct vec v = { 0 };
	int back = r->after < 0;
	if (r->limit < 1 || r->limit > 1000 || (!back && r->before > 0)) {
		op->rc = -EINVAL;
		return;
	}
	if (!look(db, op, &r->conv, r->user, &c)) {
		return;
	}
	db_rows *s = page_query(db, r, &c, back);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	if (back) {
		turn(&v);
	}
	set_messages(op, &v);
}

void do_message(struct db *db, struct op *op)
{
	const struct chatd_store_message_key *r = op->req;
	struct vec v = { 0 };
	struct conv_key k;
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM msg m JOIN conv c ON c.n=m.conv"
			" WHERE m.id=? AND m.seq >= c.first",
			"s", r->id);
	if (!db_step(db, s)) {
		op->rc = -ENOENT;
		return;
	}
	struct chatd_store_message *m = push_message(db, op, s, &v);
	db_done(s);
	if (m && conv_key(&m->conv, &k) && may_read(db, op, &k, r->user)) {
		op->a.conv = m->conv;
		set_epoch(db, op);
		set_messages(op, &v);
	}
}

/* ---- where it ends ----------------------------------------------------------------- */

static int64_t count_unread(
		struct db *db, const struct conv_row *c, struct chatd_str user, int64_t *ret_read)
{
	int64_t n = 0;
	*ret_read = cursor_furthest(db, user, c->n, CHATD_STORE_READ);
	int64_t from = *ret_read >= c->first ? *ret_read : c->first - 1;
	db_rows *s = db_query(db,
			"SELECT count(*) FROM (SELECT 1 FROM msg WHERE conv=? AND seq > ? AND kind=1"
			" AND flags & 24 = 0 AND sender <> ? LIMIT ?) unread",
			"iisd", c->n, from, user, UNREAD_MAX);
	if (db_step(db, s)) {
		n = db_i64(s, 0);
	}
	db_done(s);
	return n;
}

void do_top(struct db *db, struct op *op)
{
	const struct chatd_store_conv_key *r = op->req;
	struct conv_row c;
	int64_t seen;
	if (look(db, op, &r->conv, r->user, &c) && r->user.p) {
		op->a.n = count_unread(db, &c, r->user, &seen);
	}
}

/* ---- replays -------------------------------------------------------------------------- */

/* The newest row up to a place: both grow together, so the walk ends where it is found. */
static int64_t seq_before(struct db *db, const struct conv_row *c, int64_t pos)
{
	int64_t seq = c->first - 1;
	db_rows *s = db_query(db,
			"SELECT seq FROM msg WHERE conv=?1 AND seq >= ?2 AND pos <= ?3 ORDER BY seq DESC LIMIT 1",
			"iii", c->n, c->first, pos);
	if (db_step(db, s)) {
		seq = db_i64(s, 0);
	}
	db_done(s);
	return seq;
}

void do_replay(struct db *db, struct op *op)
{
	const struct chatd_store_replay *r = op->req;
	struct conv_row c;
	struct vec v = { 0 };
	if (r->max < 1 || r->max > 10000 || r->since < -1) {
		op->rc = -EINVAL;
		return;
	}
	if (!look(db, op, &r->conv, r->user, &c)) {
		return;
	}
	int64_t since = r->since < 0 ? seq_before(db, &c, r->after_pos) : r->since;
	int64_t n = c.top - since;
	if ((r->epoch.p && !str_same(r->epoch, op->a.epoch)) || n < 0 || n > r->max ||
			since < c.first - 1) {
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM conv c" SQL_INNER " msg m ON m.conv=c.n"
			" WHERE c.n=? AND m.seq > ? ORDER BY m.seq",
			"ii", c.n, since);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	op->a.whole = (int64_t)v.n == n;
	if (op->a.whole) {
		set_messages(op, &v);
	} else if (db->err == 0) {
		op->rc = -EIO; /* a hole: never to be shown as whole */
	}
}

static int by_pos(const void *a, const void *b)
{
	int64_t x = ((const struct chatd_store_message *)a)->pos;
	int64_t y = ((const struct chatd_store_message *)b)->pos;
	return (x > y) - (x < y);
}

/* The newest rows of one conversation back to .since; 0: more than .max in all. */
static int inbox_conv(struct db *db, struct op *op, int64_t conv, struct vec *v)
{
	const struct chatd_store_inbox *r = op->req;
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM conv c" SQL_INNER " msg m ON m.conv=c.n"
			" WHERE c.n=? AND m.seq >= c.first ORDER BY m.seq DESC",
			"i", conv);
	while (db_step(db, s)) {
		if (db_i64(s, 0) <= r->since) {
			break;
		}
		if (v->n >= (size_t)r->max) {
			db_done(s);
			return 0;
		}
		push_message(db, op, s, v);
	}
	db_done(s);
	return 1;
}

/* The newest row of all direct conversations of a user; 0: there is none. */
static int64_t inbox_top(struct db *db, struct chatd_str user)
{
	int64_t top = 0;
	db_rows *s = db_query(db,
			"SELECT (SELECT max(last_pos) FROM conv WHERE a=?1),"
			" (SELECT max(last_pos) FROM conv WHERE b=?1)",
			"s", user);
	if (db_step(db, s)) {
		top = db_i64(s, 0) > db_i64(s, 1) ? db_i64(s, 0) : db_i64(s, 1);
	}
	db_done(s);
	return top;
}

void do_replay_inbox(struct db *db, struct op *op)
{
	const struct chatd_store_inbox *r = op->req;
	struct vec v = { 0 };
	if (r->max < 1 || r->max > 10000 || r->since < 0 || !id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	set_epoch(db, op);
	op->a.pos = inbox_top(db, r->user);
	int whole = r->since <= op->a.pos && (!r->epoch.p || str_same(r->epoch, op->a.epoch));
	db_rows *s = db_query(db,
			"SELECT n, gone_pos FROM conv WHERE a=?1 AND last_pos > ?2 UNION"
			" SELECT n, gone_pos FROM conv WHERE b=?1 AND last_pos > ?2",
			"si", r->user, r->since);
	while (whole && db_step(db, s)) {
		whole = db_i64(s, 1) <= r->since && inbox_conv(db, op, db_i64(s, 0), &v);
	}
	db_done(s);
	op->a.whole = whole;
	if (whole) {
		if (v.n) {
			qsort(v.p, v.n, sizeof(struct chatd_store_message), by_pos);
		}
		set_messages(op, &v);
	}
}

/* ---- lists ------------------------------------------------------------------------------ */

static void last_message(
		struct db *db, struct op *op, int64_t conv, struct chatd_store_message *ret)
{
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM conv c" SQL_INNER " msg m ON m.conv=c.n WHERE c.n=?"
			" AND m.seq >= c.first AND m.kind=1 AND m.flags & 16 = 0 ORDER BY m.seq DESC LIMIT 1",
			"i", conv);
	if (db_step(db, s)) {
		row_message(db, op, s, ret);
		db_done(s);
	}
}

void do_conversations(struct db *db, struct op *op)
{
	const struct chatd_store_conversations *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > 1000 || !id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = db_query(db,
			"SELECT n, first, top, msg_pos, room, a, b, 0, NULL FROM conv"
			" WHERE a=?1 AND msg_pos < ?2 UNION"
			" SELECT n, first, top, msg_pos, room, a, b, 0, NULL FROM conv"
			" WHERE b=?1 AND msg_pos < ?2 UNION ALL"
			" SELECT c.n, c.first, c.top, c.msg_pos, c.room, NULL, NULL, m.role, r.name"
			" FROM member m JOIN room r ON r.id=m.room JOIN conv c ON c.key='r:' || m.room"
			" WHERE m.user=?1 AND m.role > 0 AND c.msg_pos < ?2 ORDER BY 4 DESC LIMIT ?3",
			"sid", r->user, r->before > 0 ? r->before : INT64_MAX, r->limit);
	while (db_step(db, s)) {
		struct chatd_store_conversation *c = vec_push(op, &v, sizeof(*c));
		if (!c) {
			db_done(s);
			break;
		}
		struct conv_row row = { .n = db_i64(s, 0), .first = db_i64(s, 1), .top = db_i64(s, 2) };
		*c = (struct chatd_store_conversation){ .struct_size = sizeof(*c),
			.first = row.first,
			.seq = row.top,
			.pos = db_i64(s, 3),
			.conv = { db_text(op, s, 4), db_text(op, s, 5), db_text(op, s, 6) },
			.role = db_i32(s, 7),
			.name = db_text(op, s, 8) };
		c->unread = count_unread(db, &row, r->user, &c->read);
		last_message(db, op, row.n, &c->last);
	}
	set_epoch(db, op);
	op->a.conversations = v.p;
	op->a.n_conversations = v.n;
}

void do_mentions(struct db *db, struct op *op)
{
	const struct chatd_store_mentions *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > 1000 || !id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM mention n" SQL_INNER " msg m ON m.pos=n.pos" SQL_INNER
			" conv c ON c.n=m.conv WHERE n.user=?1 AND n.pos < ?3"
			" AND m.flags & 16 = 0 AND (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ
			" ORDER BY n.pos DESC LIMIT ?4",
			"siid", r->user, op->e->h->wall_ms(), r->before > 0 ? r->before : INT64_MAX, r->limit);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	set_messages(op, &v);
}

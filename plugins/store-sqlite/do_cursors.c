/* SPDX-License-Identifier: Apache-2.0 */
/* How far users have read, and what waits for other nodes. */
#include "store.h"

#include <errno.h>

enum { DEVICE_MAX = 64, OWNER_MAX = 64 };

/* ---- cursors -------------------------------------------------------------------- */

/* Devices are logins: a name that is none of the user's would be kept for ever. */
static struct chatd_str device_of(struct db *db, const struct chatd_store_cursor *r)
{
	struct chatd_str device = CHATD_LIT("");
	if (r->device.n == 0) {
		return device;
	}
	db_rows *s =
			db_query(db, "SELECT 1 FROM login WHERE id=? AND user=?", "ss", r->device, r->user);
	if (db_step(db, s)) {
		device = r->device;
	}
	db_done(s);
	return device;
}

int64_t cursor_furthest(struct db *db, struct chatd_str user, int64_t conv, int32_t kind)
{
	int64_t seq = 0;
	db_rows *s = db_query(db,
			"SELECT coalesce(max(seq), 0) FROM cursor WHERE user=? AND conv=? AND kind=?", "sid",
			user, conv, kind);
	if (db_step(db, s)) {
		seq = db_i64(s, 0);
	}
	db_done(s);
	return seq;
}

void do_cursor_set(struct db *db, struct op *op)
{
	const struct chatd_store_cursor *r = op->req;
	struct conv_key k;
	struct conv_row c;
	if (!conv_key(&r->conv, &k) || !id_ok(r->user) || r->device.n > DEVICE_MAX || r->seq < 0 ||
			(r->kind != CHATD_STORE_READ && r->kind != CHATD_STORE_DELIVERED)) {
		op->rc = -EINVAL;
		return;
	}
	if (!may_read(db, op, &k, r->user)) {
		return;
	}
	int there = conv_find(db, &k, &c);
	if (r->seq > c.top) {
		op->rc = -ERANGE;
	}
	if (!there || op->rc < 0) {
		return;
	}
	int64_t before = cursor_furthest(db, r->user, c.n, r->kind);
	db_exec(db,
			"INSERT INTO cursor(user, conv, kind, device, seq) VALUES(?,?,?,?,?)"
			" ON CONFLICT(user, conv, kind, device) DO UPDATE SET seq=excluded.seq"
			" WHERE excluded.seq > cursor.seq",
			"sidsi", r->user, c.n, r->kind, device_of(db, r), r->seq);
	op->a.n = r->seq > before;
	op->a.seq = op->a.n ? r->seq : before;
}

/* What a device that is gone has read stays read, as nobody's device: once per conversation. */
#define FOLD(gone)                                                                                \
	"INSERT INTO cursor(user, conv, kind, device, seq)"                                           \
	" SELECT user, conv, kind, '', max(seq) FROM cursor WHERE " gone " GROUP BY user, conv, kind" \
	" ON CONFLICT(user, conv, kind, device) DO UPDATE SET seq=excluded.seq"                       \
	" WHERE excluded.seq > cursor.seq"
#define FORGET(gone) "DELETE FROM cursor WHERE " gone

void cursors_fold(struct db *db, struct chatd_str user)
{
#define GONE "user=?1 AND device <> '' AND device NOT IN (SELECT id FROM login WHERE user=?1)"
	db_exec(db, FOLD(GONE), "s", user);
	db_exec(db, FORGET(GONE), "s", user);
#undef GONE
}

void cursors_fold_ended(struct db *db, int64_t wall, int limit)
{
#define GONE \
	"(user, device) IN (SELECT user, id FROM login WHERE ends <= ?1 ORDER BY ends LIMIT ?2)"
	db_exec(db, FOLD(GONE), "id", wall, limit);
	db_exec(db, FORGET(GONE), "id", wall, limit);
#undef GONE
}

void do_cursors(struct db *db, struct op *op)
{
	const struct chatd_store_cursor_list *r = op->req;
	struct conv_key k;
	struct conv_row c;
	struct vec v = { 0 };
	if (!conv_key(&r->conv, &k) || r->limit < 1 || r->limit > 10000) {
		op->rc = -EINVAL;
		return;
	}
	if (!may_read(db, op, &k, r->user) || !conv_find(db, &k, &c)) {
		return;
	}
	db_rows *s = db_query(db,
			"SELECT user, max(seq), kind FROM cursor WHERE conv=?1 AND (kind=?2 OR ?2=0)"
			" AND (?3 IS NULL OR user=?3) GROUP BY user, kind ORDER BY user, kind LIMIT ?4",
			"idsd", c.n, r->kind, r->of, r->limit);
	while (db_step(db, s)) {
		struct chatd_store_cursor_row *row = vec_push(op, &v, sizeof(*row));
		if (row) {
			*row = (struct chatd_store_cursor_row){ .struct_size = sizeof(*row),
				.kind = (int32_t)db_i64(s, 2),
				.user = db_text(op, s, 0),
				.seq = db_i64(s, 1) };
		}
	}
	op->a.seq = c.top;
	op->a.cursors = v.p;
	op->a.n_cursors = v.n;
}

/* ---- the outbox ------------------------------------------------------------------- */

static void push_out(struct db *db, struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_out_row *o = vec_push(op, v, sizeof(*o));
	if (!o) {
		return;
	}
	*o = (struct chatd_store_out_row){ .struct_size = sizeof(*o),
		.row = db_i64(s, 17),
		.route = db_text(op, s, 18),
		.headers = db_text(op, s, 19),
		.body = db_text(op, s, 20) };
	outbox_open(op, db_i64(s, 21), o, db_peek(s, 22));
	if (!db_null(s, 0)) {
		row_message(db, op, s, &o->message);
		o->body = o->body.p ? o->body : o->message.body;
	}
}

void do_outbox_fetch(struct db *db, struct op *op)
{
	const struct chatd_store_outbox_fetch *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > 1000 || r->owner.n == 0 || r->owner.n > OWNER_MAX ||
			r->lease_ms < 0) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS ", o.n, o.route, o.headers, o.body, o.pos, o.sealed FROM outbox o"
			" LEFT JOIN msg m ON m.pos=o.pos LEFT JOIN conv c ON c.n=m.conv"
			" WHERE o.held <= ? ORDER BY o.n LIMIT ?",
			"id", r->wall, r->limit);
	while (db_step(db, s)) {
		push_out(db, op, s, &v);
	}
	const struct chatd_store_out_row *rows = v.p;
	for (size_t i = 0; i < v.n; i++) {
		db_exec(db, "UPDATE outbox SET owner=?, held=? WHERE n=?", "sii", r->owner,
				r->wall + r->lease_ms, rows[i].row);
	}
	op->a.outbox = v.p;
	op->a.n_outbox = v.n;
	op->a.n = (int64_t)v.n;
}

void do_outbox_done(struct db *db, struct op *op)
{
	const struct chatd_store_outbox_done *r = op->req;
	for (size_t i = 0; i < r->n; i++) {
		op->a.n += r->release
				? db_exec(db, "UPDATE outbox SET owner=NULL, held=0 WHERE n=?", "i", r->rows[i])
				: db_exec(db, "DELETE FROM outbox WHERE n=?", "i", r->rows[i]);
	}
}

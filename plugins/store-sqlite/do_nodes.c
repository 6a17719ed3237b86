/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes of a cluster ask: their epochs, and what has changed meanwhile. */
#include "store.h"

#include <errno.h>

enum { NODE_MAX = 64, WHO_MAX = 256, CHANGED_MAX = 10000, WRITTEN_MAX = 1000 };

static int node_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '.' && !id_ok(chatd_str_of(s.p + i, 1))) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= NODE_MAX;
}

void do_node_start(struct db *db, struct op *op)
{
	const struct chatd_store_node *r = op->req;
	if (!node_ok(r->node) || r->who.n > WHO_MAX) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = db_query(db,
			"INSERT INTO node(id, epoch, who, started, handed) VALUES(?1, 1, ?2, ?3, 0)"
			" ON CONFLICT(id) DO UPDATE SET epoch=node.epoch+1, who=excluded.who,"
			" started=excluded.started RETURNING epoch",
			"ssi", r->node, r->who.p ? r->who : CHATD_LIT(""), r->wall);
	if (db_step(db, s)) {
		op->a.n = db_i64(s, 0);
	}
	db_done(s);
}

void do_changed(struct db *db, struct op *op)
{
	const struct chatd_store_changed *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > CHANGED_MAX || r->after_pos < 0) {
		op->rc = -EINVAL;
		return;
	}
	set_epoch(db, op);
	op->a.pos = db_int(db, "SELECT coalesce(max(last_pos), 0) FROM conv");
	db_rows *s = db_query(db,
			"SELECT room, a, b, top, last_pos FROM conv WHERE last_pos > ? ORDER BY last_pos LIMIT ?",
			"id", r->after_pos, r->limit);
	while (db_step(db, s)) {
		struct chatd_store_changed_conv *c = vec_push(op, &v, sizeof(*c));
		if (!c) {
			break;
		}
		c->struct_size = sizeof(*c);
		c->conv = (struct chatd_store_conv){ db_text(op, s, 0), db_text(op, s, 1),
			db_text(op, s, 2) };
		c->seq = db_i64(s, 3);
		c->pos = db_i64(s, 4);
	}
	db_done(s);
	op->a.changed = v.p;
	op->a.n_changed = v.n;
}

void touch(struct db *db, struct chatd_str user, int64_t all_ended)
{
	db_exec(db,
			"INSERT INTO touched(who, n, ended)"
			" VALUES(?1, (SELECT coalesce(max(n), 0) + 1 FROM touched), ?2)"
			" ON CONFLICT(who) DO UPDATE SET n=excluded.n,"
			" ended=CASE WHEN excluded.ended > 0 THEN excluded.ended ELSE touched.ended END",
			"si", user, all_ended);
}

void do_touched(struct db *db, struct op *op)
{
	const struct chatd_store_touched *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > CHANGED_MAX || r->after_pos < 0) {
		op->rc = -EINVAL;
		return;
	}
	op->a.pos = db_int(db, "SELECT coalesce(max(n), 0) FROM touched");
	db_rows *s = db_query(db, "SELECT who, n, ended FROM touched WHERE n > ? ORDER BY n LIMIT ?",
			"id", r->after_pos, r->limit);
	while (db_step(db, s)) {
		struct chatd_store_changed_conv *c = vec_push(op, &v, sizeof(*c));
		if (!c) {
			break;
		}
		c->struct_size = sizeof(*c);
		c->conv.a = db_text(op, s, 0);
		c->pos = db_i64(s, 1);
		c->seq = db_i64(s, 2);
	}
	db_done(s);
	op->a.changed = v.p;
	op->a.n_changed = v.n;
}

static int64_t handed(struct db *db, struct chatd_str node)
{
	int64_t pos = 0;
	db_rows *s = db_query(db, "SELECT handed FROM node WHERE id=?", "s", node);
	if (db_step(db, s)) {
		pos = db_i64(s, 0);
	}
	db_done(s);
	return pos;
}

void do_handed(struct db *db, struct op *op)
{
	const struct chatd_store_handed *r = op->req;
	if (!node_ok(r->node) || r->pos < 0) {
		op->rc = -EINVAL;
		return;
	}
	if (!db_exec(db,
				"UPDATE node SET handed=CASE WHEN handed < ?2 THEN ?2 ELSE handed END"
				" WHERE id=?1",
				"si", r->node, r->pos)) {
		op->rc = -ENOENT;
	}
	op->a.pos = handed(db, r->node);
}

void do_written(struct db *db, struct op *op)
{
	const struct chatd_store_written *r = op->req;
	struct vec v = { 0 };
	int32_t all = !r->node.p;
	if ((!all && !node_ok(r->node)) || r->limit < 1 || r->limit > WRITTEN_MAX ||
			r->after_pos < (all ? 0 : -1)) {
		op->rc = -EINVAL;
		return;
	}
	set_epoch(db, op);
	op->a.pos = all ? 0 : handed(db, r->node);
	int64_t after = r->after_pos < 0 ? op->a.pos : r->after_pos;
	db_rows *s = all ? db_query(db,
							   "SELECT " MSG_COLUMNS " FROM msg m" SQL_INNER
							   " conv c ON c.n=m.conv WHERE m.pos > ?1 ORDER BY m.pos LIMIT ?2",
							   "id", after, r->limit)
					 : db_query(db,
							   "SELECT " MSG_COLUMNS " FROM msg m" SQL_INNER
							   " conv c ON c.n=m.conv WHERE m.pos > ?1 AND" SQL_WRITTEN_BY(
									   "?2") " ORDER BY m.pos LIMIT ?3",
							   "isd", after, r->node, r->limit);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	db_done(s);
	set_messages(op, &v);
}

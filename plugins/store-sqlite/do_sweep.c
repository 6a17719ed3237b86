/* SPDX-License-Identifier: Apache-2.0 */
/* What is over goes: expired messages, the old ends of conversations, old clientIds. */
#include "store.h"

#include <errno.h>
#include <string.h>

static void forget_extras(struct db *db, int64_t conv, int64_t pos)
{
	db_push(db, "DELETE FROM reaction WHERE pos=?", "i", pos);
	db_push(db, "DELETE FROM mention WHERE pos=?", "i", pos);
	db_push(db, "DELETE FROM pin WHERE conv=? AND pos=?", "ii", conv, pos);
	files_detach(db, pos);
}

/* Rows before @p first are not shown any more. */
static void cut_before(struct db *db, int64_t conv, int64_t first)
{
	db_push(db,
			"UPDATE conv SET first=?2, gone_pos=coalesce((SELECT pos FROM msg WHERE conv=?1"
			" AND seq=?2 - 1), gone_pos) WHERE n=?1 AND first < ?2",
			"ii", conv, first);
}

/* The first message with a body, or behind the top. */
static int64_t first_left(struct db *db, int64_t conv)
{
	int64_t seq = 0;
	db_rows *s = db_query(db,
			"SELECT coalesce((SELECT m.seq FROM msg m WHERE m.conv=c.n AND m.seq >= c.first"
			" AND m.kind=1 AND m.flags & 24 = 0 ORDER BY m.seq LIMIT 1), c.top + 1)"
			" FROM conv c WHERE c.n=?",
			"i", conv);
	if (db_step(db, s)) {
		seq = db_i64(s, 0);
		db_done(s);
	}
	return seq;
}

/* Rows to be dealt with: listed first, because what lists them is changed by it. */
struct list {
	size_t n;
	struct {
		int64_t pos, conv, seq;
	} row[SWEEP_ROWS];
};

static void list_rows(struct db *db, db_rows *s, struct list *l)
{
	l->n = 0;
	while (l->n < SWEEP_ROWS && db_step(db, s)) {
		l->row[l->n].pos = db_i64(s, 0);
		l->row[l->n].conv = db_i64(s, 1);
		l->row[l->n].seq = db_i64(s, 2);
		l->n++;
	}
	db_done(s);
}

/* Takes the contents; the row keeps its place, so that the rest stays whole. */
static void erase_rows(struct db *db, const struct list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		words_remove(db, l->row[i].pos);
		db_push(db,
				"UPDATE msg SET body='', text=NULL, sealed=NULL" SQL_NO_WORDS
				", expires=NULL, flags=(flags|?) & ~ ?"
				" WHERE pos=?",
				"iii", (int64_t)CHATD_STORE_ERASED,
				(int64_t)(CHATD_STORE_PINNED | CHATD_STORE_REACTED), l->row[i].pos);
		forget_extras(db, l->row[i].conv, l->row[i].pos);
	}
}

/* At the old end nothing needs to stay. */
static int64_t erase_expired(struct db *db, int64_t wall)
{
	struct list l;
	list_rows(db,
			db_query(db,
					"SELECT pos, conv, seq FROM msg WHERE expires <= ? ORDER BY expires LIMIT ?",
					"id", wall, SWEEP_ROWS),
			&l);
	erase_rows(db, &l);
	for (size_t i = 0; i < l.n; i++) {
		if (i == 0 || l.row[i].conv != l.row[i - 1].conv) {
			cut_before(db, l.row[i].conv, first_left(db, l.row[i].conv));
		}
	}
	return (int64_t)l.n;
}

/* Messages, and the edits of them, that a user who is gone sent up to a place. */
static int64_t erase_gone(struct db *db, struct chatd_str user, int64_t pos)
{
	struct list l;
	list_rows(db,
			db_query(db,
					"SELECT m.pos, m.conv, m.seq FROM" SQL_SAID
					" WHERE m.sender=?1 AND m.pos < ?2 AND m.kind IN (1, 2) AND m.flags & 16 = 0" SQL_SAID_ORDER
					" LIMIT ?3",
					"sid", user, pos + 1, SWEEP_ROWS),
			&l);
	erase_rows(db, &l);
	if (l.n < SWEEP_ROWS) {
		db_exec(db, "DELETE FROM gone WHERE user=?", "s", user);
	}
	return (int64_t)l.n;
}

int64_t erase_messages(struct db *db, struct chatd_str sender)
{
	int64_t pos = db_last_pos(db);
	db_exec(db,
			"INSERT INTO gone(user, pos) VALUES(?,?) ON CONFLICT(user) DO UPDATE SET pos=excluded.pos",
			"si", sender, pos);
	db->e->next_sweep = 0;
	return erase_gone(db, sender, pos);
}

static int64_t erase_one_gone(struct db *db)
{
	char user[ID_MAX_BYTES];
	int64_t pos = 0;
	size_t n = 0;
	db_rows *s = db_query(db, "SELECT user, pos FROM gone LIMIT 1", "");
	if (db_step(db, s)) {
		struct chatd_str found = db_peek(s, 0);
		n = found.n <= sizeof(user) ? found.n : sizeof(user);
		memcpy(user, found.p, n);
		pos = db_i64(s, 1);
		db_done(s);
	}
	return n ? erase_gone(db, chatd_str_of(user, n), pos) : 0;
}

/* Rooms that keep their messages for a while only. */
static int64_t cut_rooms(struct db *db, int64_t wall)
{
	int64_t n = 0;
	db_rows *s = db_query(db,
			"SELECT c.n, c.first, c.top + 1, coalesce((SELECT m.seq FROM msg m WHERE m.conv=c.n"
			" AND m.seq >= c.first AND m.wall >= ?1 - r.retention ORDER BY m.seq LIMIT 1),"
			" c.top + 1) FROM room r JOIN conv c ON c.key='r:' || r.id WHERE r.retention > 0",
			"i", wall);
	while (db_step(db, s)) {
		int64_t first = db_i64(s, 1), keep = db_i64(s, 3);
		if (keep > first) {
			cut_before(db, db_i64(s, 0), keep);
			n += keep - first;
		}
	}
	return n;
}

/* The oldest rows of all, when only so many are kept.  A conversation's rows are in the
 * order of their places, so what goes is always its old end. */
static int64_t trim(struct db *db)
{
	int64_t max = db->e->conf.max_messages;
	int64_t from = db->next_pos - max;
	if (!max) {
		return 0;
	}
	db->e->trim_at = db->next_pos + max / 10 + 1;
	if (from <= 1) {
		return 0;
	}
	int64_t n = 0;
	db_rows *s = db_query(
			db, "SELECT conv, max(seq), count(*) FROM msg WHERE pos < ? GROUP BY conv", "i", from);
	while (db_step(db, s)) {
		cut_before(db, db_i64(s, 0), db_i64(s, 1) + 1);
		n += db_i64(s, 2);
	}
	return n;
}

/* A clientId is remembered longer than some rows. */
static void keep_client_id(struct db *db, int64_t pos, int64_t wall)
{
	db_push(db,
			"INSERT INTO dedupe(sender, client_id, hash, id, conv, seq, pos, wall)"
			" SELECT sender, client_id, hash, id, conv, seq, pos, wall FROM msg"
			" WHERE pos=? AND hash IS NOT NULL AND wall > ? ON CONFLICT(sender, client_id)"
			" DO UPDATE SET hash=excluded.hash, id=excluded.id, conv=excluded.conv,"
			" seq=excluded.seq, pos=excluded.pos, wall=excluded.wall",
			"ii", pos, wall - db->e->conf.dedupe_window);
}

/* Removes rows that are not shown any more, some at a time. */
static int64_t remove_hidden(struct db *db, int64_t wall)
{
	struct list l;
	list_rows(db,
			db_query(db,
					"SELECT m.pos, m.conv, m.seq FROM conv c" SQL_BY("conv_low") SQL_INNER
					" msg m"
					" ON m.conv=c.n WHERE c.low < c.first AND m.seq >= c.low AND m.seq < c.first"
					" ORDER BY c.n, m.seq LIMIT ?",
					"d", SWEEP_ROWS),
			&l);
	for (size_t i = 0; i < l.n; i++) {
		words_remove_row(db, l.row[i].pos);
		forget_extras(db, l.row[i].conv, l.row[i].pos);
		keep_client_id(db, l.row[i].pos, wall);
		db_push(db, "DELETE FROM msg WHERE pos=?", "i", l.row[i].pos);
		db_push(db, "UPDATE conv SET low=? WHERE n=?", "ii", l.row[i].seq + 1, l.row[i].conv);
	}
	if (l.n < SWEEP_ROWS) { /* conversations whose hidden rows were all gone before */
		db_push(db, "UPDATE conv" SQL_BY("conv_low") " SET low=first WHERE low < first", "");
	}
	return (int64_t)l.n;
}

static int64_t forget_client_ids(struct db *db, int64_t wall)
{
	return db_exec(db,
			"DELETE FROM dedupe WHERE (sender, client_id) IN"
			" (SELECT sender, client_id FROM dedupe WHERE wall < ? ORDER BY wall LIMIT ?)",
			"id", wall - db->e->conf.dedupe_window, SWEEP_ROWS);
}

int64_t sweep(struct db *db, int64_t wall)
{
	int64_t n = erase_expired(db, wall);
	n += erase_one_gone(db);
	n += cut_rooms(db, wall);
	n += trim(db);
	int64_t removed = remove_hidden(db, wall);
	n += removed;
	n += logins_sweep(db, wall);
	n += files_sweep(db, wall);
	n += records_sweep(db, wall);
	return n + forget_client_ids(db, wall);
}

void do_sweep(struct db *db, struct op *op)
{
	const struct chatd_store_sweep *r = op->req;
	op->a.n = sweep(db, r->wall);
}

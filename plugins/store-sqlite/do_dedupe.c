/* SPDX-License-Identifier: Apache-2.0 */
/* What new rows must be, and whether they were said before. */
#include "store.h"

#include <errno.h>

enum { MSG_ID_MAX = 64, CLIENT_ID_MAX = 128, HASH_MAX = 32, BODY_MAX = 4 << 20 };

int row_ok(const struct new_row *r)
{
	return r->id.n > 0 && r->id.n <= MSG_ID_MAX && r->body.n <= BODY_MAX && r->text.n <= BODY_MAX &&
			r->sender.n <= ID_MAX_BYTES && r->reply_to.n <= MSG_ID_MAX &&
			r->thread.n <= MSG_ID_MAX &&
			(!r->client_id.p ||
					(r->client_id.n <= CLIENT_ID_MAX && r->hash.n > 0 && r->hash.n <= HASH_MAX));
}

/* An index of these numbers is a quarter of one of the texts, and its pages are written at
 * random places by every commit.  Keyed, so that nobody can make many that are the same. */
int64_t client_number(struct db *db, struct chatd_str sender, struct chatd_str client_id)
{
	return (int64_t)(chatd_hash(&db->client_key, sender.p, sender.n) * 31 +
			chatd_hash(&db->client_key, client_id.p, client_id.n));
}

int deduped(struct db *db, struct op *op, struct chatd_str sender, struct chatd_str client_id,
		struct chatd_str hash, int64_t wall)
{
	if (!client_id.p) {
		return 0;
	}
	/* The rows remember it themselves; those that are gone left it in a table. */
	db_rows *s = db_query(db,
			"SELECT m.hash, m.id, m.seq, m.pos, m.wall, c.room, c.a, c.b FROM msg m" SQL_INNER
			" conv c ON c.n=m.conv WHERE m.client=?4 AND m.sender=?1 AND m.client_id=?2"
			" AND m.wall > ?3 UNION ALL"
			" SELECT d.hash, d.id, d.seq, d.pos, d.wall, c.room, c.a, c.b FROM dedupe d" SQL_INNER
			" conv c ON c.n=d.conv WHERE d.sender=?1 AND d.client_id=?2 AND d.wall > ?3",
			"ssii", sender, client_id, wall - op->e->conf.dedupe_window,
			client_number(db, sender, client_id));
	if (!db_step(db, s)) {
		return 0;
	}
	if (!hash_same(op->e, db_peek(s, 0), hash)) {
		refuse(op, -EEXIST, CHATD_STORE_MISMATCH);
	} else {
		op->a.repeated = 1;
		op->a.id = db_text(op, s, 1);
		op->a.seq = db_i64(s, 2);
		op->a.pos = db_i64(s, 3);
		op->a.wall = db_i64(s, 4);
		op->a.conv = (struct chatd_store_conv){ db_text(op, s, 5), db_text(op, s, 6),
			db_text(op, s, 7) };
		set_epoch(db, op);
	}
	db_done(s);
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Search: in what the one who asks may read at this moment.
 *
 * The newest rows come first, and a word that many of them have needs no index: so the newest
 * rows are looked through, and only when too few of them match the index is asked.  It knows no
 * order: for a common word it would collect all rows that ever had it. */
#include "../store-sqlite/store.h"

#include <errno.h>

enum { QUERY_MAX = 1024, NEWEST_ROWS = 10000 };

/* Why not @@: the planner would turn it into a search by the index. */
#define NEWEST                                                                             \
	"SELECT " MSG_COLUMNS " FROM msg m JOIN conv c ON c.n=m.conv"                          \
	" WHERE ts_match_vq(m.words, CAST(?3 AS tsquery)) AND m.pos < ?4 AND m.pos >= ?5"      \
	" AND (?6 IS NULL OR c.key=?6) AND (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ \
	" ORDER BY m.pos DESC LIMIT ?7"
#define OLDER                                                                          \
	"WITH hit AS MATERIALIZED (SELECT pos FROM msg WHERE words @@ CAST(?3 AS tsquery)" \
	" AND pos < ?4) SELECT " MSG_COLUMNS " FROM hit h JOIN msg m ON m.pos=h.pos"       \
	" JOIN conv c ON c.n=m.conv WHERE (?6 IS NULL OR c.key=?6) AND ?5 = ?5"            \
	" AND (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ " ORDER BY m.pos DESC LIMIT ?7"

struct search {
	struct chatd_str user, words, key; /* key .p NULL: everywhere */
	int64_t before, from;
	int limit;
};

static void find(struct db *db, struct op *op, const struct search *f, struct vec *v)
{
	int64_t wall = op->e->h->wall_ms();
	int left = f->limit - (int)v->n;
	db_rows *s = f->from ? db_query(db, NEWEST, "sisiisd", f->user, wall, f->words, f->before,
								   f->from, f->key, left)
						 : db_query(db, OLDER, "sisiisd", f->user, wall, f->words, f->before,
								   f->from, f->key, left);
	while (db_step(db, s)) {
		push_message(db, op, s, v);
	}
	db_done(s);
}

void do_search(struct db *db, struct op *op)
{
	const struct chatd_store_search *r = op->req;
	struct conv_key k = { .key = { NULL, 0 } };
	struct vec v = { 0 };
	int anywhere = !r->conv.room.p && !r->conv.a.p && !r->conv.b.p;
	if (r->limit < 1 || r->limit > 200 || !r->query.p || r->query.n > QUERY_MAX ||
			(!anywhere && !conv_key(&r->conv, &k))) {
		op->rc = -EINVAL;
		return;
	}
	if (search_is_off(op->e)) {
		op->rc = -ENOTSUP;
		return;
	}
	if (!anywhere && !may_read(db, op, &k, r->user)) {
		return;
	}
	struct search f = { .user = r->user,
		.words = tokens_query(db, op, r->query),
		.key = k.key,
		.limit = r->limit,
		.before = r->before > 0 ? r->before : INT64_MAX };
	if (!f.words.p) {
		return;
	}
	int64_t top = db_int(db, "SELECT coalesce(max(pos), 0) FROM msg") + 1;
	f.before = f.before < top ? f.before : top;
	f.from = f.before > NEWEST_ROWS ? f.before - NEWEST_ROWS : 1;
	find(db, op, &f, &v);
	if (f.from > 1 && (int)v.n < r->limit) {
		f.before = f.from;
		f.from = 0;
		find(db, op, &f, &v);
	}
	set_messages(op, &v);
}

void words_change(struct db *db, int64_t pos, struct chatd_str old_text, struct chatd_str new_text)
{
	struct op scratch = { 0 }; /* for its arena */
	(void)old_text;
	db_exec(db, "UPDATE msg SET words=CAST(?1 AS tsvector) WHERE pos=?2", "si",
			tokens_of(db, &scratch, new_text), pos);
	arena_free(&scratch.arena);
}

/* They go with the row, or with its text: SQL_NO_WORDS. */
void words_remove(struct db *db, int64_t pos)
{
	(void)db;
	(void)pos;
}

void words_remove_row(struct db *db, int64_t pos)
{
	words_remove(db, pos);
}

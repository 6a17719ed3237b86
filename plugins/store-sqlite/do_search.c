/* SPDX-License-Identifier: Apache-2.0 */
/* Search: in what the one who asks may read at this moment. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A shorter beginning would match so much that finding it takes seconds, and FTS5 cannot be
 * interrupted while it collects. */
enum { QUERY_MAX = 1024, WORDS_MAX = 16, PREFIX_MIN = 3 };

/* The words as an FTS5 query: each in quotes, so that none is an operator. */
static struct chatd_str words_of(struct op *op, struct chatd_str q)
{
	char *to = arena_alloc(&op->arena, 2 * q.n + 4 * WORDS_MAX + 4);
	size_t n = 0, i = 0, words = 0, began = 0;
	while (to && words < WORDS_MAX) {
		while (i < q.n && (unsigned char)q.p[i] <= ' ') {
			i++;
		}
		if (i == q.n) {
			break;
		}
		to[n++] = '"';
		began = i;
		for (; i < q.n && (unsigned char)q.p[i] > ' '; i++) {
			if (q.p[i] == '"') {
				to[n++] = '"';
			}
			to[n++] = q.p[i];
		}
		to[n++] = '"';
		to[n++] = ' ';
		words++;
	}
	if (to && words) {
		to[n - 1] = i - began >= PREFIX_MIN ? '*' : ' ';
	}
	return chatd_str_of(words ? to : NULL, n);
}

/* A row that is not in the index yet has the words. */
struct hits {
	struct db *db;
	struct op *op;
	struct vec *v;
	struct chatd_str key; /* of the conversation; .p NULL: any */
};

static int found(void *arg, int64_t pos)
{
	struct hits *f = arg;
	const struct chatd_store_search *r = f->op->req;
	db_rows *s = db_query(f->db,
			"SELECT " MSG_COLUMNS " FROM msg m CROSS JOIN conv c ON c.n=m.conv WHERE m.pos=?3"
			" AND (?4 IS NULL OR c.key=?4) AND (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ,
			"siis", r->user, f->op->e->h->wall_ms(), pos, f->key);
	if (db_step(f->db, s)) {
		push_message(f->db, f->op, s, f->v);
	}
	db_done(s);
	return f->db->err == 0 && f->v->n < (size_t)r->limit;
}

void do_search(struct db *db, struct op *op)
{
	const struct chatd_store_search *r = op->req;
	struct conv_key k = { .key = { NULL, 0 } };
	struct vec v = { 0 };
	static const struct keyed_form form = { "\"", " OR ", " AND " };
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
	struct chatd_str words =
			seals(op->e) ? keyed_query(db, op, r->query, &form) : words_of(op, r->query);
	if (!words.p) {
		return;
	}
	struct hits hits = { db, op, &v, k.key };
	int64_t before = r->before > 0 ? r->before : INT64_MAX;
	int64_t mark = words_tail(db, words, before, found, &hits);
	if (v.n == (size_t)r->limit) {
		set_messages(op, &v);
		return;
	}
	/* From the newest row down: FTS5 keeps its lists in that order, so it stops at limit. */
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM words w CROSS JOIN msg m ON m.pos=w.rowid"
			" CROSS JOIN conv c ON c.n=m.conv WHERE words MATCH ?3 AND w.rowid < ?4"
			" AND (?5 IS NULL OR c.key=?5) AND (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ
			" ORDER BY w.rowid DESC LIMIT ?6",
			"sisisd", r->user, op->e->h->wall_ms(), words, before <= mark ? before : mark + 1,
			k.key, r->limit - (int)v.n);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	set_messages(op, &v);
}

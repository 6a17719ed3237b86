/* SPDX-License-Identifier: Apache-2.0 */
/* Many rows in one statement: what do_append.c of store-sqlite does for one after the other.
 *
 * A call for each would cost a statement's start for each table it looks into; this costs it once
 * for all of them.  The statement judges each row as things are before it, so a row that depends
 * on one of the same batch goes into the next: one with the same clientId, or an answer in a
 * thread that begins in it.  The lock is held. */
#include "batch.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a row is told: 100 times what it is, and CHATD_STORE_WHY_*. */
enum { SAID_NEW, SAID_REPEATED, SAID_NO, SAID_NOT_FOUND, SAID_MISMATCH, SAID_BAD, SAID_AGAIN };

#define ROWS                                                                                      \
	"WITH q AS MATERIALIZED (SELECT * FROM unnest(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"  \
	" ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24) WITH ORDINALITY AS t(chk," \
	" twice, kind, flags, key, room, a, b, id, sender, client_id, hash, client, body, text,"      \
	" words, target, reply_to, thread, said, expires, kept, mentions, sealed, i)),"

/* Said before?  Rows remember it themselves; those that are gone left it in a table. */
#define OLD                                                                                     \
	" old AS MATERIALIZED (SELECT q.i, s.* FROM q, LATERAL (SELECT m.hash, m.id, m.seq, m.pos," \
	" m.wall, m.conv FROM msg m WHERE m.client=q.client AND m.sender=q.sender AND"              \
	" m.client_id=q.client_id AND m.wall > q.said - ?25 UNION ALL"                              \
	" SELECT d.hash, d.id, d.seq, d.pos, d.wall, d.conv FROM dedupe d WHERE"                    \
	" d.sender=q.sender AND d.client_id=q.client_id AND d.wall > q.said - ?25 LIMIT 1) s"       \
	" WHERE q.client_id IS NOT NULL),"

/* May they?  The thread is asked for by itself: EXISTS might be planned as a look at all rows. */
#define JUDGED                                                                                      \
	" judged AS MATERIALIZED (SELECT q.*, c.n AS conv, coalesce(c.top, 0) AS top,"                  \
	" coalesce(c.wall, 0) AS conv_wall, c.msg_pos, r.slow > 0 AND m.role < 2 AS noted,"             \
	" m.banned, m.muted, m.spoke + r.slow AS slow_until, CASE"                                      \
	" WHEN o.i IS NOT NULL AND o.hash IS NOT DISTINCT FROM q.hash THEN 100"                         \
	" WHEN o.i IS NOT NULL THEN 409"                                                                \
	" WHEN q.client_id IS NOT NULL AND q.hash IS NULL THEN 500"                                     \
	" WHEN q.chk = 0 THEN 0"                                                                        \
	" WHEN q.room IS NULL AND q.sender <> q.a AND q.sender <> q.b THEN 212"                         \
	" WHEN q.room IS NOT NULL AND r.id IS NULL THEN 310"                                            \
	" WHEN m.banned > q.said AND r.flags & 1 <> 0 THEN 202"                                         \
	" WHEN q.room IS NOT NULL AND coalesce(m.role, 0) = 0 THEN 201"                                 \
	" WHEN m.muted > q.said THEN 203"                                                               \
	" WHEN m.role < 2 AND r.flags & 2 <> 0 THEN 205"                                                \
	" WHEN m.role < 2 AND r.slow > 0 AND q.twice <> 0 THEN 600"                                     \
	" WHEN m.role < 2 AND r.slow > 0 AND m.spoke + r.slow > q.said THEN 204"                        \
	" WHEN q.thread IS NOT NULL AND (SELECT 1 FROM msg t JOIN conv tc ON"                           \
	" tc.n=t.conv WHERE t.id=q.thread AND t.kind=1 AND tc.key=q.key AND t.seq >= tc.first) IS NULL" \
	" THEN 314 ELSE 0 END AS said_of FROM q LEFT JOIN old o ON o.i=q.i"                             \
	" LEFT JOIN conv c ON c.key=q.key LEFT JOIN room r ON r.id=q.room AND q.chk <> 0"               \
	" LEFT JOIN member m ON m.room=q.room AND m.user=q.sender AND q.chk <> 0),"

/* Places and numbers.  Time does not go back in a conversation. */
#define GOOD                                                                            \
	" base AS MATERIALIZED (SELECT setval('place', p.last_value + k.n) - k.n AS pos"    \
	" FROM place p, (SELECT count(*) AS n FROM q) k),"                                  \
	" good AS MATERIALIZED (SELECT j.*, base.pos + j.i AS pos, j.top + row_number()"    \
	" OVER (PARTITION BY j.key ORDER BY j.i) AS seq, greatest(j.conv_wall, max(j.said)" \
	" OVER (PARTITION BY j.key ORDER BY j.i)) AS wall FROM judged j, base"              \
	" WHERE j.said_of = 0),"                                                            \
	" convs AS MATERIALIZED (SELECT key, min(room) AS room, min(a) AS a, min(b) AS b,"  \
	" max(seq) AS top, max(pos) AS last, coalesce(max(pos) FILTER (WHERE kind = 1),"    \
	" min(msg_pos), max(pos)) AS msg, max(wall) AS wall,"                               \
	" coalesce(min(conv), nextval('conv_n_seq')) AS n FROM good GROUP BY key),"

/* What a guest says may expire sooner than that, never later. */
#define WRITE                                                                                      \
	" w1 AS (INSERT INTO conv(n, key, room, a, b, first, low, top, last_pos, msg_pos, gone_pos,"   \
	" wall) SELECT n, key, room, a, b, 1, 1, top, last, msg, 0, wall FROM convs"                   \
	" ON CONFLICT(key) DO UPDATE SET top=excluded.top, last_pos=excluded.last_pos,"                \
	" msg_pos=excluded.msg_pos, wall=excluded.wall),"                                              \
	" w2 AS (INSERT INTO msg(pos, conv, seq, id, kind, flags, sender, client_id, wall, expires,"   \
	" target, reply_to, thread, body, text, hash, client, node, words, sealed) SELECT g.pos, k.n," \
	" g.seq, g.id, g.kind, g.flags, g.sender, g.client_id, g.wall,"                                \
	" CASE WHEN g.kept > 0 AND (g.expires = 0 OR g.expires > g.wall + g.kept)"                     \
	" THEN g.wall + g.kept ELSE nullif(g.expires, 0) END, g.target, g.reply_to, g.thread,"         \
	" g.body, g.text, g.hash, CASE WHEN g.hash IS NOT NULL THEN g.client END, ?26,"                \
	" CAST(g.words AS tsvector), g.sealed FROM good g JOIN convs k ON k.key=g.key ORDER BY g.i),"  \
	" w3 AS (INSERT INTO mention(user, pos) SELECT unnest(CAST(g.mentions AS text[])), g.pos"      \
	" FROM good g WHERE g.mentions IS NOT NULL ON CONFLICT DO NOTHING),"                           \
	" w4 AS (UPDATE member m SET spoke=g.said FROM good g WHERE g.noted AND m.room=g.room"         \
	" AND m.user=g.sender)"

/* The newest rows of the inboxes are those before this batch: batch_run() knows of the others. */
#define ANSWER                                                                       \
	" SELECT j.said_of, CASE j.said_of WHEN 202 THEN j.banned WHEN 203 THEN j.muted" \
	" WHEN 204 THEN j.slow_until ELSE 0 END, coalesce(g.pos, o.pos),"                \
	" coalesce(g.seq, o.seq), coalesce(g.wall, o.wall),"                             \
	" CASE WHEN j.said_of = 0 AND j.a IS NOT NULL THEN coalesce(greatest("           \
	" (SELECT max(last_pos) FROM conv WHERE a=j.a), (SELECT max(last_pos) FROM conv" \
	" WHERE b=j.a)), 0) ELSE 0 END,"                                                 \
	" CASE WHEN j.said_of = 0 AND j.a IS NOT NULL THEN coalesce(greatest("           \
	" (SELECT max(last_pos) FROM conv WHERE a=j.b), (SELECT max(last_pos) FROM conv" \
	" WHERE b=j.b)), 0) ELSE 0 END,"                                                 \
	" o.id, oc.room, oc.a, oc.b, o.hash FROM judged j LEFT JOIN good g ON g.i=j.i"   \
	" LEFT JOIN old o ON o.i=j.i LEFT JOIN conv oc ON oc.n=o.conv ORDER BY j.i"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings" /* the compilers that we have take it */
static const char statement[] = ROWS OLD JUDGED GOOD WRITE ANSWER;
#pragma GCC diagnostic pop

/* ---- arrays -------------------------------------------------------------------------- */

enum { HEAD_BYTES = 20, OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25 };

/* i: bigint[], b: bytea[], s: text[] */
static const char types[] = "iiiisssssssbissssssiiisb";

static int room_for(struct column *c, size_t n)
{
	if (c->n == 0) {
		n += HEAD_BYTES;
	}
	if (c->n + n > c->cap) {
		size_t cap = 2 * (c->n + n) + 1024;
		char *p = realloc(c->p, cap);
		if (!p) {
			return 0;
		}
		c->p = p;
		c->cap = cap;
	}
	c->n = c->n ? c->n : HEAD_BYTES;
	return 1;
}

static void put_32(char *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static void put_text(struct batch *b, int column, struct chatd_str s)
{
	struct column *c = &b->columns[column];
	if (!room_for(c, s.n + 4)) {
		b->failed = 1;
		return;
	}
	put_32(c->p + c->n, s.p ? (uint32_t)s.n : UINT32_MAX);
	if (s.p && s.n) {
		memcpy(c->p + c->n + 4, s.p, s.n);
	}
	c->n += 4 + (s.p ? s.n : 0);
	c->nulls |= !s.p;
	c->count++;
}

static void put_number(struct batch *b, int column, int64_t v)
{
	uint64_t wire = htobe64((uint64_t)v);
	put_text(b, column, chatd_str_of((const char *)&wire, sizeof(wire)));
}

static struct chatd_str typed_array(struct batch *b, int column, char type)
{
	struct column *c = &b->columns[column];
	put_32(c->p, 1); /* dimensions */
	put_32(c->p + 4, (uint32_t)c->nulls);
	put_32(c->p + 8, type == 'i' ? OID_INT8 : type == 'b' ? OID_BYTEA : OID_TEXT);
	put_32(c->p + 12, (uint32_t)c->count);
	put_32(c->p + 16, 1); /* the first index */
	return chatd_str_of(c->p, c->n);
}

static struct chatd_str array_of(struct batch *b, int column)
{
	return typed_array(b, column, types[column]);
}

static void empty(struct batch *b)
{
	for (int i = 0; i < BATCH_COLUMNS; i++) {
		b->columns[i].n = 0;
		b->columns[i].count = b->columns[i].nulls = 0;
	}
	b->n = 0;
	b->bytes = 0;
	b->failed = 0;
}

void batch_free(struct batch *b)
{
	for (int i = 0; b && i < BATCH_COLUMNS; i++) {
		free(b->columns[i].p);
	}
	free(b);
}

/* ---- gathering --------------------------------------------------------------------------- */

static int depends(const struct batch_row *x, const struct batch_row *y)
{
	return (x->row.client_id.p && y->row.client_id.p && x->client == y->client) ||
			(x->check && x->row.thread.p && str_same(x->row.thread, y->row.id));
}

int batch_add(struct db *db, struct batch *b)
{
	struct batch_row *x = &b->rows[b->n];
	x->row.key = &x->key;
	x->key.key.p = x->key.text; /* it may be a copy */
	x->client = (uint64_t)client_number(db, x->row.sender, x->row.client_id);
	x->place = chatd_hash(&db->client_key, x->key.key.p, x->key.key.n) ^
			chatd_hash(&db->client_key, x->row.sender.p, x->row.sender.n);
	x->twice = 0;
	for (int i = 0; i < b->n; i++) {
		if (depends(x, &b->rows[i])) {
			return 0;
		}
		x->twice |= x->check && b->rows[i].check && x->place == b->rows[i].place;
	}
	b->bytes += x->row.body.n + 2 * x->row.text.n;
	b->n++;
	return 1;
}

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

/* ---- what they say ----------------------------------------------------------------------- */

static void seal_row(struct db *db, struct batch_row *x)
{
	const struct seal_at at = {
		.kind = "message", .conv = x->key.key, .sender = x->row.sender, .seq = x->seq
	};
	x->said = (struct said){ .body = or_empty(x->row.body), .text = x->row.text };
	chatd_status rc = seal_said(db, &x->op->arena, &at, &x->said);
	if (rc < 0) {
		db_note(db, rc, "", "a message cannot be encrypted");
	}
}

static int64_t top_of(db_rows *tops, struct chatd_str key)
{
	for (tops->row = 0; tops->row < tops->n; tops->row++) {
		if (str_same(db_peek(tops, 0), key)) {
			return db_i64(tops, 1);
		}
	}
	return 0;
}

/* Encrypted rows are bound to their numbers, which the statement gives: so it is foreseen which
 * ones.  The lock is held: nobody else takes one. */
static void foresee(struct db *db, struct batch *b)
{
	for (int i = 0; i < b->n; i++) {
		put_text(b, 0, b->rows[i].key.key);
	}
	if (b->failed) {
		return;
	}
	db_rows *tops = db_query(
			db, "SELECT key, top FROM conv WHERE key=ANY(?1)", "S", typed_array(b, 0, 's'));
	b->columns[0].n = 0;
	b->columns[0].count = b->columns[0].nulls = 0;
	for (int i = 0; tops && i < b->n; i++) {
		struct batch_row *x = &b->rows[i];
		int j = i - 1;
		while (j >= 0 && !str_same(b->rows[j].key.key, x->key.key)) {
			j--;
		}
		x->seq = 1 + (j >= 0 ? b->rows[j].seq : top_of(tops, x->key.key));
	}
	db_done(tops);
}

static void put_row(struct db *db, struct batch *b, const struct batch_row *x)
{
	const struct new_row *r = &x->row;
	int64_t kept = r->flags & CHATD_STORE_GUEST ? x->op->e->conf.anonymous_retention : 0;
	struct chatd_str hash =
			r->client_id.p ? seal_hash(x->op->e, &x->op->arena, r->hash) : chatd_str_of(NULL, 0);
	const int64_t first[] = { x->check, x->twice, r->kind, r->flags };
	const struct chatd_str texts[] = { x->key.key, x->key.room, x->key.a, x->key.b, r->id,
		or_empty(r->sender), r->client_id, hash };
	const struct chatd_str more[] = { x->said.body, x->said.text,
		tokens_of(db, x->op, x->said.text), r->target, r->reply_to, r->thread };
	const int64_t last[] = { r->wall, r->expires, kept };
	int column = 0;
	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		put_number(b, column++, first[i]);
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		put_text(b, column++, texts[i]);
	}
	put_number(b, column++, (int64_t)x->client);
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		put_text(b, column++, more[i]);
	}
	for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
		put_number(b, column++, last[i]);
	}
	put_text(b, column++, x->mentions);
	put_text(b, column, x->said.sealed);
}

/* ---- answers ----------------------------------------------------------------------------- */

/* The newest row in an inbox before row @p n of the batch. */
static int64_t before(const struct batch *b, int n, struct chatd_str user, int64_t otherwise)
{
	for (int i = n - 1; i >= 0; i--) {
		const struct batch_row *x = &b->rows[i];
		if (x->op->rc == 0 && !x->op->a.repeated && x->key.a.p &&
				(str_same(x->key.a, user) || str_same(x->key.b, user))) {
			return x->op->a.pos;
		}
	}
	return otherwise;
}

/* One before it was refused, so its number is another than the one that it is bound to. */
static void seal_again(struct db *db, struct batch_row *x)
{
	if (x->said.sealed.p && x->seq != x->op->a.seq) {
		x->seq = x->op->a.seq;
		seal_row(db, x);
		db_push(db, "UPDATE msg SET sealed=? WHERE pos=?", "bi", x->said.sealed, x->op->a.pos);
	}
}

static void take_written(struct db *db, struct batch *b, int n, db_rows *s)
{
	struct batch_row *x = &b->rows[n];
	struct op *op = x->op;
	op->a.pos = db_i64(s, 2);
	op->a.seq = db_i64(s, 3);
	op->a.wall = db_i64(s, 4);
	op->a.id = x->row.id;
	op->a.conv = (struct chatd_store_conv){ x->key.room, x->key.a, x->key.b };
	if (x->key.a.p) {
		op->a.before_a = before(b, n, x->key.a, db_i64(s, 5));
		op->a.before_b = before(b, n, x->key.b, db_i64(s, 6));
	}
	set_epoch(db, op);
	seal_again(db, x);
}

static void take_repeated(struct db *db, struct op *op, db_rows *s)
{
	op->a.repeated = 1;
	op->a.pos = db_i64(s, 2);
	op->a.seq = db_i64(s, 3);
	op->a.wall = db_i64(s, 4);
	op->a.id = db_text(op, s, 7);
	op->a.conv =
			(struct chatd_store_conv){ db_text(op, s, 8), db_text(op, s, 9), db_text(op, s, 10) };
	set_epoch(db, op);
}

/* 1: it must be asked again, alone. */
static int take(struct db *db, struct batch *b, int n, db_rows *s)
{
	static const chatd_status errors[] = { 0, 0, -EACCES, -ENOENT, -EEXIST, -EINVAL, 0 };
	struct op *op = b->rows[n].op;
	int32_t said = db_i32(s, 0);
	switch (said / 100) {
	case SAID_NEW:
		take_written(db, b, n, s);
		break;
	case SAID_REPEATED:
		take_repeated(db, op, s);
		break;
	case SAID_AGAIN:
		return 1;
	case SAID_MISMATCH: /* the statement compares bytes; of another key they differ */
		if (hash_same(op->e, db_peek(s, 11), b->rows[n].row.hash)) {
			take_repeated(db, op, s);
			break;
		}
		refuse(op, -EEXIST, CHATD_STORE_MISMATCH);
		break;
	default:
		op->a.until = db_i64(s, 1);
		refuse(op, errors[said / 100], said % 100);
		break;
	}
	return 0;
}

static void run_once(struct db *db, struct batch *b, db_rows *s)
{
	if (seals(db->e)) {
		foresee(db, b);
	}
	for (int i = 0; i < b->n && db->err == 0; i++) {
		seal_row(db, &b->rows[i]);
		put_row(db, b, &b->rows[i]);
	}
	if (db->err) {
		return;
	}
	if (b->failed) {
		db_note(db, -ENOMEM, "", "no memory");
		return;
	}
#define A(i) array_of(b, i)
	db_send(db, s, statement, "IIIISSSSSSSBISSSSSSIIISBis", A(0), A(1), A(2), A(3), A(4), A(5),
			A(6), A(7), A(8), A(9), A(10), A(11), A(12), A(13), A(14), A(15), A(16), A(17), A(18),
			A(19), A(20), A(21), A(22), A(23), db->e->conf.dedupe_window, str_z(db->e->back.node));
#undef A
	db_wait(db);
}

void batch_run(struct db *db, struct batch *b)
{
	db_rows s = { 0 };
	struct batch_row again[8];
	int n_again = 0;
	if (b->n == 0 || db->err) {
		empty(b);
		return;
	}
	run_once(db, b, &s);
	for (int i = 0; i < b->n && db_step(db, &s); i++) {
		if (take(db, b, i, &s)) {
			if (n_again < 8) {
				again[n_again++] = b->rows[i];
			} else {
				refuse(b->rows[i].op, -EAGAIN, 0);
			}
		}
		b->rows[i].op->rc = b->rows[i].op->arena.failed ? -ENOMEM : b->rows[i].op->rc;
	}
	db_done(&s);
	empty(b);
	for (int i = 0; i < n_again; i++) {
		b->rows[0] = again[i];
		batch_add(db, b);
		batch_run(db, b);
	}
}

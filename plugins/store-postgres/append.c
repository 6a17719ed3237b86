/* SPDX-License-Identifier: Apache-2.0 */
/* New rows of conversations: what do_append.c of store-sqlite does, a batch at a time. */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static struct batch *get(struct db *db)
{
	db->batch = db->batch ? db->batch : calloc(1, sizeof(*db->batch));
	if (!db->batch) {
		db_note(db, -ENOMEM, "", "no memory");
	}
	return db->batch;
}

static int texts_ok(const struct new_row *r)
{
	const struct chatd_str all[] = { r->id, r->client_id, r->body, r->text, r->target, r->reply_to,
		r->thread };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (!text_ok(all[i])) {
			return 0;
		}
	}
	return 1;
}

/* Alone. */
static void run_row(struct db *db, struct batch *b)
{
	struct op *op = b->rows[0].op;
	struct new_row row = b->rows[0].row;
	batch_add(db, b);
	batch_run(db, b);
	if (!op->a.repeated) {
		outbox_put(db, op, &row);
	}
}

void append_row(struct db *db, struct op *op, const struct new_row *r)
{
	struct batch *b = get(db);
	if (!row_ok(r) || !texts_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	if (!b) {
		return;
	}
	b->rows[0] = (struct batch_row){ .row = *r, .key = *r->key, .op = op };
	b->rows[0].row.text = clean(op, r->text);
	run_row(db, b);
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
			row_ok(&row) && texts_ok(&row);
}

static int fill(struct op *op, const struct chatd_store_append *r, struct batch_row *x)
{
	*x = (struct batch_row){ .op = op,
		.check = r->check != 0,
		.row = { .kind = r->kind ? r->kind : CHATD_STORE_MESSAGE,
				.flags = r->flags & (CHATD_STORE_GUEST | CHATD_STORE_ENCRYPTED),
				.id = r->id,
				.sender = r->sender,
				.client_id = r->client_id,
				.hash = r->hash,
				.body = r->body,
				.text = clean(op, r->text),
				.reply_to = r->reply_to,
				.thread = r->thread,
				.out = r->out,
				.n_out = r->n_out,
				.wall = r->wall,
				.expires = r->expires } };
	if (!conv_key(&r->conv, &x->key) || !append_ok(r, x->row)) {
		op->rc = -EINVAL;
		return 0;
	}
	x->mentions = list_of(op, r);
	return 1;
}

int append_is_plain(const struct op *op)
{
	const struct chatd_store_append *r = op->req;
	return op->call == CALL_append && r->n_out == 0 && !r->files.p;
}

void append_add(struct db *db, struct op *op)
{
	struct batch *b = get(db);
	if (!b) {
		return;
	}
	if (b->n == BATCH_ROWS || b->bytes > BATCH_BYTES) {
		batch_run(db, b);
	}
	if (db->err || !fill(op, op->req, &b->rows[b->n])) {
		return;
	}
	if (!batch_add(db, b)) {
		struct batch_row x = b->rows[b->n];
		batch_run(db, b);
		b->rows[0] = x;
		batch_add(db, b);
	}
}

void append_run(struct db *db)
{
	if (db->batch) {
		batch_run(db, db->batch);
	}
}

static void append(struct db *db, struct op *op, const struct chatd_store_append *r)
{
	struct batch *b = get(db);
	if (b && fill(op, r, &b->rows[0])) {
		run_row(db, b);
		files_attach(db, op, r, op->a.pos);
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

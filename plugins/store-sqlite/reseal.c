/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that are not encrypted as they should be now - with a key that was replaced, not at all, or
 * encrypted although nothing shall be any more - are written anew, some at a time, between groups.
 *
 * It goes through the rows by their places.  How far it has come is written with what it has
 * changed, so a kill repeats nothing.  Nodes that share a store each go their own way: what one
 * has done the others pass by, and a row whose key comes after the active one is left alone, so
 * that nodes whose keys are not the same yet do not undo each other's work. */
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_MS = 250,
	LOOK_MS = 60000, /* when all is done: is there anything new? */
	RETRY_MS = 1000,
	LOOK_ROWS = 4000, /* at one go */
	PIECE_ROWS = 2000,
	PIECE_BYTES = 4 << 20,
	RECORDS = 64, /* at one go; each may have 64 KiB */
	TARGET = 2 * CHATD_CIPHER_HEAD + 1,
};

struct count {
	int64_t pos; /* looked at up to here */
	int64_t done, lost, bad;
	int rows_ended;           /* there was nothing behind */
	char space[40], key[260]; /* likewise of records, which come after messages */
	int ended;                /* there was none behind either */
};

struct reseal {
	const struct chatd_keys *keys;
	char target[TARGET]; /* how rows shall be: says whose the mark in the store is */
	int64_t next;        /* monotonic: when to go on */
	int64_t piece;       /* rows at one go */
	int marked;          /* the mark in the store is ours */
	struct count now;    /* since it began with these keys */
	struct count then;   /* with what is being committed */
	int said;            /* the log knows that it has ended */
	int forget;          /* what was overwritten still lies somewhere */
};

static struct chatd_str none(void)
{
	return chatd_str_of(NULL, 0);
}

/* ---- one row ------------------------------------------------------------------------------ */

struct row {
	struct arena arena;
	struct chatd_str key, sender, id, hash, old_text;
	struct said said;
	int64_t pos, seq, wall;
	int was_sealed;
};

static int read_row(struct db *db, struct row *r)
{
	db_rows *s = db_query(db,
			"SELECT m.seq, m.id, m.sender, m.body, m.text, m.sealed, m.hash, m.wall, c.key"
			" FROM msg m JOIN conv c ON c.n=m.conv WHERE m.pos=?",
			"i", r->pos);
	if (!db_step(db, s)) {
		return 0;
	}
	r->seq = db_i64(s, 0);
	r->id = arena_copy(&r->arena, db_peek(s, 1));
	r->sender = arena_copy(&r->arena, db_peek(s, 2));
	r->said.body = arena_copy(&r->arena, db_peek(s, 3));
	r->said.text = arena_copy(&r->arena, db_peek(s, 4));
	r->said.sealed = arena_copy(&r->arena, db_peek(s, 5));
	r->hash = arena_copy(&r->arena, db_peek(s, 6));
	r->wall = db_i64(s, 7);
	r->key = arena_copy(&r->arena, db_peek(s, 8));
	db_done(s);
	r->was_sealed = r->said.sealed.p != NULL;
	return !r->arena.failed;
}

/* Where nobody asks for it any more, the hash goes. */
static void renew_hash(struct db *db, struct row *r)
{
	if (r->wall <= db->e->h->wall_ms() - db->e->conf.dedupe_window) {
		r->hash = none();
	} else if (r->hash.n != CHATD_CIPHER_MARK) {
		r->hash = seal_hash(db->e, &r->arena, r->hash);
	}
}

static void write_row(struct db *db, const struct row *r)
{
	db_exec(db,
			"UPDATE msg SET body=?, text=?, sealed=?, hash=?4,"
			" client=CASE WHEN ?4 IS NULL THEN NULL ELSE client END WHERE pos=?5",
			"ssbbi", r->said.body, r->said.text, r->said.sealed, r->hash, r->pos);
	words_change(db, r->pos, r->old_text, r->said.text);
}

/* Its bytes; 0: it was left as it is. */
static size_t redo(struct db *db, int64_t pos, struct count *n)
{
	struct row r = { .pos = pos };
	size_t bytes = 0;
	if (read_row(db, &r)) {
		const struct seal_at at = {
			.kind = "message", .conv = r.key, .sender = r.sender, .id = r.id, .seq = r.seq
		};
		int says = r.was_sealed || r.said.body.n || r.said.text.p;
		r.old_text = r.was_sealed || !seals(db->e) ? r.said.text : none();
		renew_hash(db, &r);
		if (r.was_sealed && !open_said(db->e, &r.arena, &at, &r.said)) {
			n->bad++;
		} else if (says && seal_said(db, &r.arena, &at, &r.said) < 0) {
			n->lost++;
		} else {
			write_row(db, &r);
			bytes = r.said.body.n + r.said.sealed.n + 1;
			n->done += says;
		}
	}
	arena_free(&r.arena);
	return bytes;
}

/* ---- some rows -------------------------------------------------------------------------------- */

struct todo {
	int64_t pos[PIECE_ROWS];
	size_t n;
};

static int wants(const struct engine *e, const struct chatd_keys *keys, db_rows *s, struct count *n)
{
	if (db_null(s, 1)) {
		return seals(e) && db_i64(s, 2);
	}
	int32_t look = e->cipher->look(keys, db_peek(s, 1));
	n->lost += look == CHATD_CIPHER_LOST;
	return look == CHATD_CIPHER_OLD;
}

/* Those that are to be written anew, and how far that is. */
static void list(struct db *db, const struct reseal *r, struct count *n, struct todo *l)
{
	int looked = 0;
	l->n = 0;
	db_rows *s = db_query(db,
			"SELECT pos, substr(sealed, 1, 10), CASE WHEN body <> '' OR text IS NOT NULL"
			" OR length(hash) < 33 THEN 1 ELSE 0 END FROM msg WHERE pos > ? ORDER BY pos LIMIT ?",
			"id", n->pos, LOOK_ROWS);
	while ((int64_t)l->n < r->piece && db_step(db, s)) {
		n->pos = db_i64(s, 0);
		looked++;
		if (wants(db->e, r->keys, s, n)) {
			l->pos[l->n++] = n->pos;
		}
	}
	n->rows_ended = looked < LOOK_ROWS && (int64_t)l->n < r->piece;
	db_done(s);
}

static void write_mark(struct db *db, const struct reseal *r)
{
	char mark[TARGET + 24];
	snprintf(mark, sizeof(mark), "%s %" PRId64, r->target, r->then.pos);
	db_exec(db,
			"INSERT INTO meta VALUES('reseal', ?) ON CONFLICT(key) DO UPDATE"
			" SET value=excluded.value",
			"s", str_z(mark));
}

/* Plain text again, all of it: the store can be used without a cipher. */
static void open_store(struct db *db, const struct count *n)
{
	if (!seals(db->e) && n->lost == 0 && n->bad == 0 &&
			db_int(db, "SELECT count(*) FROM outbox WHERE sealed IS NOT NULL") == 0) {
		db_exec(db, "DELETE FROM meta WHERE key='sealed'", "");
	}
}

static size_t some_rows(struct db *db, struct reseal *r)
{
	struct todo l;
	size_t bytes = 0;
	list(db, r, &r->then, &l);
	for (size_t i = 0; i < l.n && db->err == 0; i++) {
		if (bytes > PIECE_BYTES) {
			r->then.pos = l.pos[i] - 1;
			r->then.rows_ended = 0;
			break;
		}
		bytes += redo(db, l.pos[i], &r->then);
	}
	return bytes;
}

/* ---- records of plugins ------------------------------------------------------------------------ */

struct record {
	struct chatd_str space, key, value;
	int was_sealed;
};

static void redo_record(struct db *db, struct arena *a, struct record *rec, struct count *n)
{
	struct engine *e = db->e;
	if (rec->was_sealed && !open_value(e, a, rec->space, rec->key, &rec->value)) {
		n->bad++;
	} else if (seal_value(e, a, rec->space, rec->key, &rec->value) < 0) {
		n->lost++;
	} else {
		db_exec(db, "UPDATE record SET value=?, sealed=? WHERE space=? AND key=?", "bdss",
				rec->value, seals(e), rec->space, rec->key);
		n->done++;
	}
}

static int wants_record(struct db *db, const struct reseal *r, db_rows *s, struct count *n)
{
	if (!db_i64(s, 3)) {
		return seals(db->e);
	}
	int32_t look = db->e->cipher->look(r->keys, db_peek(s, 2));
	n->lost += look == CHATD_CIPHER_LOST;
	return look == CHATD_CIPHER_OLD;
}

static size_t list_records(struct db *db, const struct reseal *r, struct arena *a, struct count *n,
		struct record todo[RECORDS])
{
	size_t looked = 0, n_todo = 0;
	db_rows *s = db_query(db,
			"SELECT space, key, value, sealed FROM record WHERE (space, key) > (?1, ?2)"
			" ORDER BY space, key LIMIT ?3",
			"ssd", str_z(n->space), str_z(n->key), RECORDS);
	while (looked < RECORDS && db_step(db, s)) {
		struct chatd_str space = db_peek(s, 0), key = db_peek(s, 1);
		snprintf(n->space, sizeof(n->space), "%.*s", (int)space.n, space.p);
		snprintf(n->key, sizeof(n->key), "%.*s", (int)key.n, key.p);
		looked++;
		if (wants_record(db, r, s, n)) {
			todo[n_todo++] = (struct record){ .space = arena_copy(a, space),
				.key = arena_copy(a, key),
				.value = arena_copy(a, db_peek(s, 2)),
				.was_sealed = db_i64(s, 3) != 0 };
		}
	}
	db_done(s);
	n->ended = looked < RECORDS;
	return n_todo;
}

static void some_records(struct db *db, struct reseal *r)
{
	struct arena a = { 0 };
	struct record todo[RECORDS];
	size_t n = list_records(db, r, &a, &r->then, todo);
	for (size_t i = 0; i < n && db->err == 0 && !a.failed; i++) {
		redo_record(db, &a, &todo[i], &r->then);
	}
	arena_free(&a);
}

static int64_t some(struct db *db, int64_t wall)
{
	struct reseal *r = db->e->reseal;
	(void)wall;
	r->then = r->now;
	r->then.ended = 0;
	size_t bytes = some_rows(db, r);
	if (r->then.rows_ended) {
		some_records(db, r);
	}
	if (bytes || (r->then.ended && !r->now.ended && !r->marked)) {
		write_mark(db, r);
	}
	if (r->then.ended && !r->now.ended) {
		open_store(db, &r->then);
	}
	return r->then.done - r->now.done;
}

/* ---- what the log hears -------------------------------------------------------------------------- */

static void say_left(struct engine *e, const struct count *n)
{
	if (n->lost) {
		e->h->log(e->ctx, CHATD_LOG_ERROR,
				"%" PRId64
				" stored messages or records have keys that are not in encrypt: keys: and "
				"cannot be read; add those keys again",
				n->lost);
	}
	if (n->bad) {
		e->h->log(e->ctx, CHATD_LOG_ERROR,
				"%" PRId64
				" stored messages or records cannot be decrypted: they were damaged or changed",
				n->bad);
	}
}

static void say_end(struct engine *e, struct reseal *r)
{
	const struct count *n = &r->now;
	if (r->said) {
		return;
	}
	r->said = 1;
	say_left(e, n);
	if (!seals(e)) {
		e->h->log(e->ctx, n->lost || n->bad ? CHATD_LOG_WARN : CHATD_LOG_INFO,
				"%" PRId64 " messages and records were written as plain text; %s", n->done,
				n->lost || n->bad ? "the plugin encrypt must stay because of the others"
								  : "the plugin encrypt can be removed");
	} else {
		e->h->log(e->ctx, CHATD_LOG_INFO,
				"all stored messages are encrypted with the active key (%" PRId64
				" were encrypted anew); no message needs an older one",
				n->done);
	}
}

/* ---- when ------------------------------------------------------------------------------------------ */

static void find_target(struct engine *e, struct reseal *r)
{
	char head[CHATD_CIPHER_HEAD];
	e->cipher->head(r->keys, head);
	for (int i = 0; i < CHATD_CIPHER_HEAD; i++) {
		snprintf(r->target + 2 * i, 3, "%02x", (unsigned)(unsigned char)head[i]);
	}
	if (!seals(e)) {
		snprintf(r->target, sizeof(r->target), "plain");
	}
}

/* Where it was left, with the same key.  A file is written by one server alone, so what was done there stays done;
 * where other nodes may have changed rows, only what was not ended goes on. */
static int64_t read_mark(struct db *db, struct reseal *r)
{
	char mark[TARGET + 24] = "";
	size_t n = strlen(r->target);
	db_rows *s = db_query(db, "SELECT value FROM meta WHERE key='reseal'", "");
	if (db_step(db, s)) {
		struct chatd_str v = db_peek(s, 0);
		snprintf(mark, sizeof(mark), "%.*s", (int)v.n, v.p);
	}
	db_done(s);
	r->marked = strncmp(mark, r->target, n) == 0 && mark[n] == ' ';
	return r->marked && !BACK_IS_SHARED ? strtoll(mark + n + 1, NULL, 10) : 0;
}

static int64_t begin(struct db *db, int64_t wall)
{
	struct reseal *r = db->e->reseal;
	(void)wall;
	find_target(db->e, r);
	r->now = (struct count){ .pos = read_mark(db, r) };
	r->said = 0;
	return 0;
}

static void go_on(struct engine *e, struct reseal *r)
{
	int64_t n = back_between(e, some);
	if (n < 0) {
		r->next = clock_ms() + RETRY_MS;
		return;
	}
	r->forget |= n > 0;
	r->now = r->then;
	r->forget = r->forget && !(r->now.ended && back_forget(e));
	r->next = clock_ms() + (r->now.ended && !r->forget ? LOOK_MS : PIECE_MS);
	if (r->now.ended && !r->forget) {
		say_end(e, r);
	}
}

void reseal_when_due(struct engine *e)
{
	struct reseal *r = e->reseal;
	if (!r) {
		return;
	}
	const struct chatd_keys *keys = e->cipher->keys(e->cipher_obj);
	if (keys != r->keys) {
		const struct chatd_keys *before = r->keys;
		r->keys = keys;
		if (back_between(e, begin) < 0) {
			r->keys = before;
			return;
		}
		r->next = 0;
	}
	if (clock_ms() >= r->next) {
		go_on(e, r);
	}
}

chatd_status reseal_start(struct engine *e)
{
	if (!e->cipher) {
		return 0;
	}
	e->reseal = e->h->mem_alloc(sizeof(*e->reseal));
	if (!e->reseal) {
		return -ENOMEM;
	}
	int64_t piece = e->cipher_conf.pace * PIECE_MS / 1000;
	e->reseal->piece = piece < 1 ? 1 : piece < PIECE_ROWS ? piece : PIECE_ROWS;
	return 0;
}

void reseal_stop(struct engine *e)
{
	e->h->mem_free(e->reseal);
	e->reseal = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whose they are, which object holds their bytes, and which messages they came with. */
#include "store.h"

#include <errno.h>
#include <string.h>

enum {
	HASH_CHARS = 64,
	OBJECT_MAX = 128,
	NAME_MAX_BYTES = 255,
	TYPE_MAX = 128,
	INFO_MAX = 1024,
	ATTACH_MAX = 32,
	LIST_MAX = 10000,
	SWEEP_FILES = 100, /* at one go */
	DAY_MS = 86400000,
};

#define FILE_COLUMNS                                                                      \
	"f.id, f.owner, f.name, f.hash, b.object, b.type, b.info, f.size, f.wall, f.expires," \
	" b.state, (SELECT count(*) FROM attach a WHERE a.file=f.id)"
/* Of file ?3 with its blob b: ?1 is its owner, or may read what it came with. ?2: the time. */
#define FILE_OF                                                                         \
	" FROM file f JOIN blob b ON b.hash=f.hash WHERE f.id=?3 AND (?1 IS NULL OR"        \
	" f.owner=?1 OR (b.state = 0 AND EXISTS(SELECT 1 FROM attach t JOIN msg m ON"       \
	" m.pos=t.pos JOIN conv c ON c.n=m.conv WHERE t.file=f.id AND m.flags & 24 = 0 AND" \
	" (m.expires IS NULL OR m.expires > ?2) AND" MAY_READ ")))"

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

static int object_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '.' && s.p[i] != '/' && !id_ok(chatd_str_of(s.p + i, 1))) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= OBJECT_MAX;
}

/* The rows of a query for FILE_COLUMNS; how many. */
static size_t answer_files(struct db *db, struct op *op, db_rows *s)
{
	struct vec v = { 0 };
	while (db_step(db, s)) {
		struct chatd_store_file *f = vec_push(op, &v, sizeof(*f));
		if (!f) {
			break;
		}
		*f = (struct chatd_store_file){ .struct_size = sizeof(*f),
			.id = db_text(op, s, 0),
			.owner = db_text(op, s, 1),
			.name = db_text(op, s, 2),
			.hash = db_text(op, s, 3),
			.object = db_text(op, s, 4),
			.type = db_text(op, s, 5),
			.info = db_text(op, s, 6),
			.size = db_i64(s, 7),
			.wall = db_i64(s, 8),
			.expires = db_i64(s, 9),
			.state = db_i32(s, 10),
			.uses = db_i64(s, 11) };
	}
	db_done(s);
	op->a.files = v.p;
	op->a.n_files = v.n;
	return v.n;
}

/* ---- one file ------------------------------------------------------------------------ */

static int64_t stored_by(struct db *db, struct chatd_str user, int64_t *ret_files)
{
	int64_t n = 0;
	*ret_files = 0;
	db_rows *s = db_query(db,
			"SELECT CAST(coalesce(sum(size), 0) AS bigint), count(*) FROM file WHERE owner=?", "s",
			user);
	if (db_step(db, s)) {
		n = db_i64(s, 0);
		*ret_files = db_i64(s, 1);
	}
	db_done(s);
	return n;
}

/* Counts what is stored by the day, of which deleting takes nothing back. */
static int64_t count_day(struct db *db, const struct chatd_store_file *r)
{
	int64_t n = 0;
	db_rows *s = db_query(db,
			"INSERT INTO file_day(user, day, bytes) VALUES(?1,?2,?3) ON CONFLICT(user) DO UPDATE"
			" SET bytes=CASE WHEN file_day.day=excluded.day THEN file_day.bytes+excluded.bytes"
			" ELSE excluded.bytes END, day=excluded.day RETURNING bytes",
			"sii", r->owner, r->wall / DAY_MS, r->size);
	if (db_step(db, s)) {
		n = db_i64(s, 0);
	}
	db_done(s);
	return n;
}

static int has_space(struct db *db, struct op *op, const struct chatd_store_file *r)
{
	int64_t files = 0;
	int64_t bytes = r->max_bytes || r->uses ? stored_by(db, r->owner, &files) : 0;
	if (r->uses && files >= r->uses) {
		refuse(op, -EDQUOT, CHATD_STORE_FILES);
		return 0;
	}
	if (r->max_bytes && bytes + r->size > r->max_bytes) {
		refuse(op, -EDQUOT, CHATD_STORE_TOO_MANY);
		return 0;
	}
	if (count_day(db, r) > r->max_day && r->max_day) {
		op->a.until = (r->wall / DAY_MS + 1) * DAY_MS;
		refuse(op, -EDQUOT, CHATD_STORE_TODAY);
		return 0;
	}
	return 1;
}

/* The content's object: the one that is there, or this one. */
static void put_blob(struct db *db, struct op *op, const struct chatd_store_file *r)
{
	int32_t state = CHATD_STORE_FILE_GOOD;
	db_rows *s = db_query(db, "SELECT state FROM blob WHERE hash=?", "s", r->hash);
	if (db_step(db, s)) {
		op->a.repeated = 1;
		state = db_i32(s, 0);
	}
	db_done(s);
	if (state == CHATD_STORE_FILE_BAD) {
		refuse(op, -EACCES, CHATD_STORE_NO_RIGHT);
	} else if (!op->a.repeated) {
		db_exec(db,
				"INSERT INTO blob(hash, object, type, size, state, info, wall)"
				" VALUES(?,?,?,?,?,?,?)",
				"sssidsi", r->hash, r->object, r->type, r->size, r->state, or_empty(r->info),
				r->wall);
	}
}

void do_file_put(struct db *db, struct op *op)
{
	const struct chatd_store_file *r = op->req;
	if (!id_ok(r->id) || !id_ok(r->owner) || !r->name.p || r->name.n > NAME_MAX_BYTES ||
			r->hash.n != HASH_CHARS || !id_ok(r->hash) || !object_ok(r->object) || !r->type.n ||
			r->type.n > TYPE_MAX || r->info.n > INFO_MAX || r->size < 0 || r->expires < 0 ||
			r->wall < 0 || r->state < CHATD_STORE_FILE_GOOD || r->state > CHATD_STORE_FILE_WAITS) {
		op->rc = -EINVAL;
		return;
	}
	if (!has_space(db, op, r)) {
		return;
	}
	put_blob(db, op, r);
	if (op->rc < 0) {
		return;
	}
	db_exec(db,
			"INSERT INTO file(id, hash, owner, name, size, wall, expires) VALUES(?,?,?,?,?,?,?)",
			"ssssiii", r->id, r->hash, r->owner, r->name, r->size, r->wall, r->expires);
	answer_files(db, op,
			db_query(db, "SELECT " FILE_COLUMNS FILE_OF, "sis", chatd_str_of(NULL, 0), r->wall,
					r->id));
}

void do_file_get(struct db *db, struct op *op)
{
	const struct chatd_store_file_key *r = op->req;
	if (!id_ok(r->id) || (r->user.p && !id_ok(r->user)) ||
			!answer_files(db, op,
					db_query(db, "SELECT " FILE_COLUMNS FILE_OF, "sis", r->user,
							op->e->h->wall_ms(), r->id))) {
		op->rc = -ENOENT;
	}
}

/* What nobody has any more: its bytes may go. */
static void release(struct db *db, struct chatd_str hash)
{
	db_exec(db,
			"INSERT INTO object_gone(object) SELECT object FROM blob WHERE hash=?1"
			" AND NOT EXISTS(SELECT 1 FROM file WHERE hash=?1)",
			"s", hash);
	db_exec(db, "DELETE FROM blob WHERE hash=?1 AND NOT EXISTS(SELECT 1 FROM file WHERE hash=?1)",
			"s", hash);
}

void do_file_drop(struct db *db, struct op *op)
{
	const struct chatd_store_file_key *r = op->req;
	struct chatd_str hash = { NULL, 0 };
	db_rows *s =
			db_query(db, "DELETE FROM file WHERE id=?1 AND (?2 IS NULL OR owner=?2) RETURNING hash",
					"ss", r->id, r->user);
	if (db_step(db, s)) {
		hash = db_text(op, s, 0);
	}
	db_done(s);
	if (!hash.p) {
		op->rc = -ENOENT;
		return;
	}
	db_exec(db, "DELETE FROM attach WHERE file=?", "s", r->id);
	release(db, hash);
}

void do_file_space(struct db *db, struct op *op)
{
	const struct chatd_store_file_key *r = op->req;
	if (!id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	op->a.n = stored_by(db, r->user, &op->a.owned);
	db_rows *s = db_query(db, "SELECT bytes FROM file_day WHERE user=? AND day=?", "si", r->user,
			op->e->h->wall_ms() / DAY_MS);
	if (db_step(db, s)) {
		op->a.today = db_i64(s, 0);
	}
	db_done(s);
}

/* ---- objects ------------------------------------------------------------------------- */

void do_file_mark(struct db *db, struct op *op)
{
	const struct chatd_store_file_mark *r = op->req;
	if (r->info.n > INFO_MAX || r->state < CHATD_STORE_FILE_GOOD ||
			r->state > CHATD_STORE_FILE_BAD) {
		op->rc = -EINVAL;
		return;
	}
	if (!db_exec(db, "UPDATE blob SET state=?1, info=coalesce(?2, info) WHERE object=?3", "dss",
				r->state, r->info, r->object)) {
		op->rc = -ENOENT;
		return;
	}
	db_rows *s = db_query(db,
			"SELECT count(*) FROM file f JOIN blob b ON b.hash=f.hash WHERE b.object=?", "s",
			r->object);
	if (db_step(db, s)) {
		op->a.n = db_i64(s, 0);
	}
	db_done(s);
}

static db_rows *list_objects(
		struct db *db, const struct chatd_store_objects *r, struct chatd_str after)
{
	switch (r->which) {
	case CHATD_STORE_OBJECTS:
		return db_query(db,
				"SELECT object, type, size, state, wall FROM blob WHERE object > ?"
				" ORDER BY object LIMIT ?",
				"sd", after, r->limit);
	case CHATD_STORE_OBJECTS_WAIT:
		return db_query(db,
				"SELECT object, type, size, state, wall FROM blob WHERE object > ? AND state = 1"
				" ORDER BY object LIMIT ?",
				"sd", after, r->limit);
	default:
		return db_query(db,
				"SELECT object, '', 0, 0, 0 FROM object_gone WHERE object > ?"
				" ORDER BY object LIMIT ?",
				"sd", after, r->limit);
	}
}

void do_objects(struct db *db, struct op *op)
{
	const struct chatd_store_objects *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > LIST_MAX || r->which < CHATD_STORE_OBJECTS ||
			r->which > CHATD_STORE_OBJECTS_WAIT) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = list_objects(db, r, or_empty(r->after));
	while (db_step(db, s)) {
		struct chatd_store_file *f = vec_push(op, &v, sizeof(*f));
		if (!f) {
			break;
		}
		*f = (struct chatd_store_file){ .struct_size = sizeof(*f),
			.object = db_text(op, s, 0),
			.type = db_text(op, s, 1),
			.size = db_i64(s, 2),
			.state = db_i32(s, 3),
			.wall = db_i64(s, 4) };
	}
	db_done(s);
	op->a.files = v.p;
	op->a.n_files = v.n;
}

void do_object_end(struct db *db, struct op *op)
{
	const struct chatd_store_object *r = op->req;
	db_exec(db, "DELETE FROM object_gone WHERE object=?", "s", r->object);
}

void do_object_move(struct db *db, struct op *op)
{
	const struct chatd_store_object_move *r = op->req;
	if (!object_ok(r->object) || !object_ok(r->to) ||
			(r->object.n == r->to.n && memcmp(r->object.p, r->to.p, r->to.n) == 0)) {
		op->rc = -EINVAL;
	} else if (db_exec(db, "UPDATE blob SET object=?1 WHERE object=?2", "ss", r->to, r->object) ==
			0) {
		op->rc = db->err ? 0 : -ENOENT;
	} else {
		db_exec(db, "INSERT INTO object_gone(object) VALUES(?)", "s", r->object);
	}
}

/* ---- messages ------------------------------------------------------------------------ */

static int attach_one(
		struct db *db, struct op *op, const struct chatd_store_append *r, struct chatd_str id)
{
	db_rows *s = db_query(db, "SELECT b.state" FILE_OF, "sis", r->sender, op->e->h->wall_ms(), id);
	int good = id_ok(id) && db_step(db, s) && db_i32(s, 0) != CHATD_STORE_FILE_BAD;
	db_done(s);
	if (!good) {
		refuse(op, -ENOENT, CHATD_STORE_NO_FILE);
	}
	return good;
}

void files_attach(struct db *db, struct op *op, const struct chatd_store_append *r, int64_t pos)
{
	if (!r->files.p || op->rc < 0 || op->a.repeated) {
		return;
	}
	const char *end = r->files.p + r->files.n;
	int n = 0;
	for (const char *p = r->files.p; p < end;) {
		const char *gap = memchr(p, ' ', (size_t)(end - p));
		struct chatd_str id = chatd_str_of(p, (size_t)((gap ? gap : end) - p));
		if (++n > ATTACH_MAX) {
			op->rc = -EINVAL;
			return;
		}
		if (!attach_one(db, op, r, id)) {
			return;
		}
		db_push(db, "INSERT INTO attach(file, pos) VALUES(?,?) ON CONFLICT DO NOTHING", "si", id,
				pos);
		db_push(db, "UPDATE file SET expires=NULL WHERE id=?", "s", id);
		p = gap ? gap + 1 : end;
	}
}

void files_detach(struct db *db, int64_t pos)
{
	db_push(db,
			"UPDATE file SET expires=0 WHERE id IN (SELECT file FROM attach WHERE pos=?1)"
			" AND NOT EXISTS(SELECT 1 FROM attach x WHERE x.file=file.id AND x.pos <> ?1)",
			"i", pos);
	db_push(db, "DELETE FROM attach WHERE pos=?", "i", pos);
}

void files_forget(struct db *db, struct chatd_str owner)
{
	db_exec(db, "UPDATE file SET expires=0 WHERE owner=? AND expires IS NOT NULL", "s", owner);
	db_exec(db, "DELETE FROM file_day WHERE user=?", "s", owner);
}

/* ---- upkeep -------------------------------------------------------------------------- */

int64_t files_sweep(struct db *db, int64_t wall)
{
	struct {
		char id[ID_MAX_BYTES], hash[HASH_CHARS];
		size_t id_n;
	} row[SWEEP_FILES];
	int64_t n = 0;
	db_rows *s =
			db_query(db, "SELECT id, hash FROM file WHERE expires <= ? ORDER BY expires LIMIT ?",
					"id", wall, SWEEP_FILES);
	while (n < SWEEP_FILES && db_step(db, s)) {
		struct chatd_str id = db_peek(s, 0), hash = db_peek(s, 1);
		if (id.n <= sizeof(row[n].id) && hash.n == HASH_CHARS) {
			memcpy(row[n].id, id.p, id.n);
			memcpy(row[n].hash, hash.p, hash.n);
			row[n++].id_n = id.n;
		}
	}
	db_done(s);
	for (int64_t i = 0; i < n; i++) {
		db_exec(db, "DELETE FROM file WHERE id=?", "s", chatd_str_of(row[i].id, row[i].id_n));
		release(db, chatd_str_of(row[i].hash, HASH_CHARS));
	}
	return n;
}

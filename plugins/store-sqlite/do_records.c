/* SPDX-License-Identifier: Apache-2.0 */
/* Records: what plugins keep that is no chat. */
#include "store.h"

#include <errno.h>
#include <string.h>

enum {
	SPACE_MAX = 32,
	RECORD_KEY_MAX = 256,
	VALUE_MAX = 64 << 10,
	LIST_MAX = 1000,
	ANSWER_MAX = 4 << 20, /* bytes of values in one answer */
};

/* No expires, or not yet: the parameter is the time. */
#define ALIVE(now)     "(expires IS NULL OR expires > " now ")"
#define RECORD_COLUMNS "space, key, value, owner, due, expires, version, wall, sealed"

static int space_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-')) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= SPACE_MAX;
}

static int key_ok(struct chatd_str s, size_t least)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '!' || s.p[i] > '~') {
			return 0;
		}
	}
	return s.n >= least && s.n <= RECORD_KEY_MAX;
}

static int owner_ok(struct chatd_str s)
{
	return !s.p || id_ok(s);
}

/* The keys from .from to before .to are those that begin so, or the one. */
struct range {
	char from[RECORD_KEY_MAX + 2], to[RECORD_KEY_MAX + 2];
};

/* No key has a byte above '~'; the one after a key is that key and the lowest byte. */
static void range_of(struct chatd_str key, int prefix, struct range *ret)
{
	*ret = (struct range){ { 0 }, { 0 } };
	if (key.n) {
		memcpy(ret->from, key.p, key.n);
		memcpy(ret->to, key.p, key.n);
	}
	ret->to[key.n] = prefix ? 0x7f : '!';
}

/* The row as a record of the answer; the bytes of its value.  One that cannot be decrypted is left
 * out. */
static size_t push_record(struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_record *r = vec_push(op, v, sizeof(*r));
	if (!r) {
		return 0;
	}
	*r = (struct chatd_store_record){ .struct_size = sizeof(*r),
		.space = db_text(op, s, 0),
		.key = db_text(op, s, 1),
		.value = db_text(op, s, 2),
		.owner = db_text(op, s, 3),
		.at = db_i64(s, 4),
		.expires = db_i64(s, 5),
		.version = db_i64(s, 6),
		.wall = db_i64(s, 7) };
	r->value = r->value.p ? r->value : CHATD_LIT("");
	if (db_i64(s, 8) && !open_value(op->e, &op->arena, r->space, r->key, &r->value)) {
		v->n--;
		return 0;
	}
	return r->value.n;
}

/* Gives back what the answer now has, to be changed. */
static struct chatd_store_record *answer_records(struct db *db, struct op *op, db_rows *s)
{
	struct vec v = { 0 };
	size_t bytes = 0, rows = 0;
	while (bytes < ANSWER_MAX && db_step(db, s)) {
		bytes += push_record(op, s, &v);
		rows++;
	}
	db_done(s);
	if (rows && !v.n) {
		op->rc = -EBADMSG;
	}
	op->a.records = v.p;
	op->a.n_records = v.n;
	return v.p;
}

/* ---- putting -------------------------------------------------------------------------- */

static int64_t version_of(struct db *db, const struct chatd_store_record *r)
{
	int64_t version = 0;
	db_rows *s = db_query(db, "SELECT version FROM record WHERE space=? AND key=? AND " ALIVE("?"),
			"ssi", r->space, r->key, r->wall);
	if (db_step(db, s)) {
		version = db_i64(s, 0);
	}
	db_done(s);
	return version;
}

static int is_crowded(struct db *db, const struct chatd_store_record *r)
{
	int crowded = 0;
	if (!r->max || !r->owner.p) {
		return 0;
	}
	db_rows *s =
			db_query(db, "SELECT count(*) FROM record WHERE owner=? AND space=? AND " ALIVE("?"),
					"ssi", r->owner, r->space, r->wall);
	if (db_step(db, s)) {
		crowded = db_i64(s, 0) >= r->max;
	}
	db_done(s);
	return crowded;
}

/* 1: it may be written over version @p is, 0 meaning that there is none. */
static int may_put(struct db *db, struct op *op, const struct chatd_store_record *r, int64_t is)
{
	if (r->how == CHATD_STORE_RECORD_NEW && is) {
		op->rc = -EEXIST;
	} else if (r->how == CHATD_STORE_RECORD_VERSION && !is) {
		op->rc = -ENOENT;
	} else if (r->how == CHATD_STORE_RECORD_VERSION && is != r->version) {
		op->rc = -ESTALE;
	} else if (!is && is_crowded(db, r)) {
		refuse(op, -EDQUOT, CHATD_STORE_TOO_MANY);
	}
	return op->rc == 0;
}

void do_record_put(struct db *db, struct op *op)
{
	const struct chatd_store_record *r = op->req;
	struct vec v = { 0 };
	if (!space_ok(r->space) || !key_ok(r->key, 1) || !owner_ok(r->owner) ||
			r->value.n > VALUE_MAX || r->at < 0 || r->expires < 0 || r->max < 0 ||
			r->how < CHATD_STORE_RECORD_ANY || r->how > CHATD_STORE_RECORD_VERSION) {
		op->rc = -EINVAL;
		return;
	}
	int64_t is = version_of(db, r);
	if (!may_put(db, op, r, is)) {
		return;
	}
	struct chatd_str value = r->value.p ? r->value : CHATD_LIT("");
	op->rc = seal_value(op->e, &op->arena, r->space, r->key, &value);
	if (op->rc < 0) {
		return;
	}
	db_exec(db,
			"INSERT INTO record(" RECORD_COLUMNS ") VALUES(?1,?2,?3,?4,?5,nullif(?6, 0),?7,?8,?9)"
			" ON CONFLICT(space, key) DO UPDATE SET value=excluded.value, owner=excluded.owner,"
			" due=excluded.due, expires=excluded.expires, version=excluded.version,"
			" wall=excluded.wall, sealed=excluded.sealed",
			"ssbsiiiid", r->space, r->key, value, r->owner, r->at, r->expires, is + 1, r->wall,
			seals(op->e));
	struct chatd_store_record *put = vec_push(op, &v, sizeof(*put));
	if (put) {
		*put = *r;
		put->struct_size = sizeof(*put);
		put->value = chatd_str_of(NULL, 0);
		put->version = is + 1;
	}
	op->a.records = v.p;
	op->a.n_records = v.n;
	op->a.version = is + 1;
}

/* ---- reading -------------------------------------------------------------------------- */

static int key_request_ok(struct op *op, const struct chatd_store_record_key *r)
{
	if (!space_ok(r->space) || !key_ok(r->key, !r->prefix) || !owner_ok(r->owner)) {
		op->rc = -EINVAL;
	}
	return op->rc == 0;
}

/* The first by key of those that match. */
static void answer_first(struct db *db, struct op *op, const struct chatd_store_record_key *r)
{
	struct range keys;
	range_of(r->key, r->prefix, &keys);
	answer_records(db, op,
			db_query(db,
					"SELECT " RECORD_COLUMNS " FROM record WHERE space=?1 AND key >= ?2"
					" AND key < ?3 AND (?4 IS NULL OR owner=?4) AND " ALIVE(
							"?5") " ORDER BY key LIMIT 1",
					"ssssi", r->space, str_z(keys.from), str_z(keys.to), r->owner, r->wall));
	if (op->rc == 0 && op->a.n_records == 0) {
		op->rc = -ENOENT;
	}
}

void do_record_get(struct db *db, struct op *op)
{
	const struct chatd_store_record_key *r = op->req;
	if (key_request_ok(op, r)) {
		answer_first(db, op, r);
	}
}

/* ?1 the space, ?2 and ?3 the range, ?4 the time, ?5 how many. */
#define LIST_SQL(and_more, order)                                                              \
	"SELECT " RECORD_COLUMNS " FROM record WHERE space=?1 AND key >= ?2 AND key < ?3" and_more \
	" AND " ALIVE("?4") " ORDER BY key" order " LIMIT ?5"

/* A range that ends at, or begins behind, the last key of the page before. */
static void narrow(struct range *keys, struct chatd_str after, int down)
{
	struct range last;
	range_of(after, 0, &last);
	if (down && strcmp(last.from, keys->to) < 0) {
		memcpy(keys->to, last.from, sizeof(last.from));
	} else if (!down && strcmp(last.to, keys->from) > 0) {
		memcpy(keys->from, last.to, sizeof(keys->from));
	}
}

void do_record_list(struct db *db, struct op *op)
{
	static const char *const statements[2][2] = {
		{ LIST_SQL("", ""), LIST_SQL("", " DESC") },
		{ LIST_SQL(" AND owner=?6", ""), LIST_SQL(" AND owner=?6", " DESC") },
	};
	const struct chatd_store_record_list *r = op->req;
	struct range keys;
	if (!space_ok(r->space) || !key_ok(r->prefix, 0) || !owner_ok(r->owner) ||
			!key_ok(r->after, 0) || r->limit < 1 || r->limit > LIST_MAX) {
		op->rc = -EINVAL;
		return;
	}
	range_of(r->prefix, 1, &keys);
	if (r->after.p) {
		narrow(&keys, r->after, r->down);
	}
	answer_records(db, op,
			db_query(db, statements[r->owner.p != NULL][r->down != 0],
					r->owner.p ? "sssids" : "sssid", r->space, str_z(keys.from), str_z(keys.to),
					r->wall, r->limit, r->owner));
}

/* ---- claiming and ending ---------------------------------------------------------------- */

void do_record_claim(struct db *db, struct op *op)
{
	const struct chatd_store_record_claim *r = op->req;
	if (!space_ok(r->space) || r->limit < 1 || r->limit > LIST_MAX || r->until <= r->wall) {
		op->rc = -EINVAL;
		return;
	}
	struct chatd_store_record *claimed = answer_records(db, op,
			db_query(db,
					"SELECT " RECORD_COLUMNS " FROM record WHERE space=?1 AND due > 0 AND due <= ?2"
					" AND " ALIVE("?2") " ORDER BY due, key LIMIT ?3",
					"sid", r->space, r->wall, r->limit));
	for (size_t i = 0; i < op->a.n_records; i++) {
		claimed[i].at = r->until;
		claimed[i].version++;
		db_push(db, "UPDATE record SET due=?, version=version+1 WHERE space=? AND key=?", "iss",
				r->until, r->space, claimed[i].key);
	}
}

void do_record_take(struct db *db, struct op *op)
{
	const struct chatd_store_record_key *r = op->req;
	if (!key_request_ok(op, r)) {
		return;
	}
	answer_first(db, op, r);
	if (op->rc == 0 && op->a.n_records) {
		db_exec(db, "DELETE FROM record WHERE space=? AND key=?", "ss", r->space,
				op->a.records[0].key);
	}
}

void do_record_end(struct db *db, struct op *op)
{
	const struct chatd_store_record_key *r = op->req;
	struct range keys;
	if (!key_request_ok(op, r)) {
		return;
	}
	range_of(r->key, r->prefix, &keys);
	op->a.n = db_exec(db,
			"DELETE FROM record WHERE space=?1 AND key >= ?2 AND key < ?3"
			" AND (?4 IS NULL OR owner=?4)",
			"ssss", r->space, str_z(keys.from), str_z(keys.to), r->owner);
}

/* ---- upkeep ----------------------------------------------------------------------------- */

void records_forget(struct db *db, struct chatd_str owner)
{
	db_exec(db, "DELETE FROM record WHERE owner=?", "s", owner);
}

int64_t records_sweep(struct db *db, int64_t wall)
{
	return db_exec(db,
			"DELETE FROM record WHERE (space, key) IN (SELECT space, key FROM record"
			" WHERE expires <= ? ORDER BY expires LIMIT ?)",
			"id", wall, SWEEP_ROWS);
}

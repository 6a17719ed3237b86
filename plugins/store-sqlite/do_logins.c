/* SPDX-License-Identifier: Apache-2.0 */
/* Logins, each a device with the one refresh token that is good; and one-time secrets. */
#include "store.h"

#include <errno.h>

enum { HASH_CHARS = 64, DEVICE_MAX = 512, DATA_MAX = 4096, LIST_MAX = 1000 };
#define LOGIN_COLUMNS "id, user, device, refresh, created, used, idle, expires"

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

static void push_login(struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_store_login *l = vec_push(op, v, sizeof(*l));
	if (l) {
		*l = (struct chatd_store_login){ .struct_size = sizeof(*l),
			.id = db_text(op, s, 0),
			.user = db_text(op, s, 1),
			.device = db_text(op, s, 2),
			.refresh = db_text(op, s, 3),
			.created = db_i64(s, 4),
			.used = db_i64(s, 5),
			.idle_ms = db_i64(s, 6),
			.expires = db_i64(s, 7) };
	}
}

/* All rows of a query for LOGIN_COLUMNS. */
static size_t answer_logins(struct db *db, struct op *op, db_rows *s)
{
	struct vec v = { 0 };
	while (db_step(db, s)) {
		push_login(op, s, &v);
	}
	op->a.logins = v.p;
	op->a.n_logins = v.n;
	return v.n;
}

/* ---- logins ---------------------------------------------------------------------- */

static int64_t ends_at(int64_t used, int64_t idle_ms, int64_t expires)
{
	int64_t end = expires ? expires : INT64_MAX;
	int64_t idle = idle_ms && used <= INT64_MAX - idle_ms ? used + idle_ms : INT64_MAX;
	return idle < end ? idle : end;
}

static int login_ok(const struct chatd_store_login *r)
{
	return id_ok(r->id) && id_ok(r->user) && r->device.n <= DEVICE_MAX &&
			r->refresh.n == HASH_CHARS && r->idle_ms >= 0 && r->expires >= 0 && r->max >= 0 &&
			r->created >= 0;
}

/* The new one counts: so many are left with it. */
static int64_t end_beyond_max(struct db *db, const struct chatd_store_login *r)
{
	return db_exec(db,
			"DELETE FROM login WHERE id IN (SELECT id FROM login WHERE user=?1 AND id<>?2"
			" ORDER BY used DESC, created DESC, id LIMIT 1000000 OFFSET ?3)",
			"ssd", r->user, r->id, r->max - 1);
}

void do_login_create(struct db *db, struct op *op)
{
	const struct chatd_store_login *r = op->req;
	if (!login_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	int64_t used = r->used ? r->used : r->created;
	int64_t there = db_exec(db,
			"INSERT INTO login(" LOGIN_COLUMNS ", changed, ends)"
			" SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?6, ?9 FROM account WHERE id=?2",
			"ssssiiiii", r->id, r->user, or_empty(r->device), r->refresh, r->created, used,
			r->idle_ms, r->expires, ends_at(used, r->idle_ms, r->expires));
	if (db->err == 0 && !there) {
		op->rc = -ENOENT;
		return;
	}
	int64_t ended =
			db_exec(db, "DELETE FROM login WHERE user=? AND ends <= ?", "si", r->user, used);
	if (r->max) {
		op->a.n = end_beyond_max(db, r);
	}
	if (ended || op->a.n) {
		cursors_fold(db, r->user);
	}
	if (op->a.n) {
		touch(db, r->user, 0);
	}
	answer_logins(
			db, op, db_query(db, "SELECT " LOGIN_COLUMNS " FROM login WHERE id=?", "s", r->id));
}

void do_login_get(struct db *db, struct op *op)
{
	const struct chatd_store_login_key *r = op->req;
	size_t n = answer_logins(db, op,
			db_query(db, "SELECT " LOGIN_COLUMNS " FROM login WHERE id=? AND ends > ?", "si", r->id,
					r->wall));
	if (!n || !answer_account(db, op, op->a.logins[0].user)) {
		op->rc = -ENOENT;
	}
}

void do_login_list(struct db *db, struct op *op)
{
	const struct chatd_store_login_list *r = op->req;
	if (r->limit < 1 || r->limit > LIST_MAX || !id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	answer_logins(db, op,
			db_query(db,
					"SELECT " LOGIN_COLUMNS " FROM login WHERE user=? AND ends > ?"
					" ORDER BY used DESC, created DESC, id LIMIT ?",
					"sid", r->user, r->wall, r->limit));
}

/* A token that was spent is in somebody else's hands, or this one is: nobody can tell who is
 * who, so the login ends, and that is written although the call is refused. */
static void end_reused(struct db *db, struct op *op, struct chatd_str id)
{
	answer_logins(
			db, op, db_query(db, "DELETE FROM login WHERE id=? RETURNING " LOGIN_COLUMNS, "s", id));
	if (op->a.n_logins) {
		touch(db, op->a.logins[0].user, 0);
		cursors_fold(db, op->a.logins[0].user);
	}
	refuse(op, -EACCES, CHATD_STORE_REUSED);
	op->keep = 1;
}

/* What the presented token is to the login. */
enum { TOKEN_NONE, TOKEN_GOOD, TOKEN_FORGIVEN, TOKEN_SPENT };
static int judge(struct db *db, const struct chatd_store_login_rotate *r)
{
	int verdict = TOKEN_NONE;
	db_rows *s = db_query(db, "SELECT refresh, before, changed FROM login WHERE id=? AND ends > ?",
			"si", r->id, r->wall);
	if (!db_step(db, s)) {
		return verdict;
	}
	struct chatd_str before = db_peek(s, 1);
	if (str_same(db_peek(s, 0), r->refresh)) {
		verdict = TOKEN_GOOD;
	} else if (before.p && str_same(before, r->refresh) && r->wall - db_i64(s, 2) < r->grace_ms) {
		verdict = TOKEN_FORGIVEN;
	} else {
		verdict = TOKEN_SPENT;
	}
	db_done(s);
	return verdict;
}

void do_login_rotate(struct db *db, struct op *op)
{
	const struct chatd_store_login_rotate *r = op->req;
	if (!id_ok(r->id) || r->refresh.n != HASH_CHARS || r->next.n != HASH_CHARS || r->grace_ms < 0 ||
			str_same(r->refresh, r->next)) {
		op->rc = -EINVAL;
		return;
	}
	int verdict = judge(db, r);
	if (verdict == TOKEN_NONE) {
		op->rc = -ENOENT;
		return;
	}
	if (verdict == TOKEN_SPENT) {
		end_reused(db, op, r->id);
		return;
	}
	/* The forgiven one stays the one before, exchanged when it was: it is forgiven no longer
	 * than once promised. */
	op->a.repeated = verdict == TOKEN_FORGIVEN;
	db_exec(db,
			"UPDATE login SET before=CASE WHEN ?2 <> 0 THEN before ELSE refresh END,"
			" changed=CASE WHEN ?2 <> 0 THEN changed ELSE ?3 END, refresh=?4, used=?3,"
			" ends=CASE WHEN idle = 0 OR (expires > 0 AND expires < ?3 + idle) THEN"
			" coalesce(nullif(expires, 0), 9223372036854775807) ELSE ?3 + idle END WHERE id=?1",
			"sdis", r->id, op->a.repeated, r->wall, r->next);
	answer_logins(
			db, op, db_query(db, "SELECT " LOGIN_COLUMNS " FROM login WHERE id=?", "s", r->id));
	if (db->err == 0 && !answer_account(db, op, op->a.logins[0].user)) {
		op->rc = -ENOENT;
	}
}

int64_t logins_end(struct db *db, struct chatd_str user, struct chatd_str keep)
{
	touch(db, user, db->e->h->wall_ms());
	int64_t n = db_exec(
			db, "DELETE FROM login WHERE user=?1 AND (?2 IS NULL OR id <> ?2)", "ss", user, keep);
	cursors_fold(db, user);
	return n;
}

void do_login_end(struct db *db, struct op *op)
{
	const struct chatd_store_login_end *r = op->req;
	if (!id_ok(r->user)) {
		op->rc = -EINVAL;
	} else if (r->id.p) {
		touch(db, r->user, 0);
		op->a.n = db_exec(db, "DELETE FROM login WHERE id=? AND user=?", "ss", r->id, r->user);
		cursors_fold(db, r->user);
	} else {
		op->a.n = logins_end(db, r->user, r->keep);
	}
}

/* ---- secrets ----------------------------------------------------------------------- */

void do_secret_put(struct db *db, struct op *op)
{
	const struct chatd_store_secret *r = op->req;
	if (r->kind < 1 || r->hash.n != HASH_CHARS || (r->user.p && !id_ok(r->user)) ||
			r->data.n > DATA_MAX) {
		op->rc = -EINVAL;
		return;
	}
	db_exec(db, "DELETE FROM secret WHERE user=? AND kind=?", "sd", r->user, r->kind);
	db_exec(db, "INSERT INTO secret(kind, hash, user, data, expires) VALUES(?,?,?,?,?)", "dsssi",
			r->kind, r->hash, r->user, or_empty(r->data), r->expires);
}

void do_secret_take(struct db *db, struct op *op)
{
	const struct chatd_store_secret *r = op->req;
	struct vec v = { 0 };
	db_rows *s = db_query(db,
			"DELETE FROM secret WHERE kind=? AND hash=? AND expires > ?"
			" RETURNING hash, user, data, expires",
			"dsi", r->kind, r->hash, r->wall);
	while (db_step(db, s)) {
		struct chatd_store_secret *found = vec_push(op, &v, sizeof(*found));
		if (found) {
			*found = (struct chatd_store_secret){ .struct_size = sizeof(*found),
				.kind = r->kind,
				.hash = db_text(op, s, 0),
				.user = db_text(op, s, 1),
				.data = db_text(op, s, 2),
				.expires = db_i64(s, 3) };
		}
	}
	if (v.n == 0) {
		op->rc = -ENOENT;
		return;
	}
	op->a.secrets = v.p;
	op->a.n_secrets = v.n;
	if (op->a.secrets[0].user.p) {
		answer_account(db, op, op->a.secrets[0].user);
	}
}

/* ---- upkeep ------------------------------------------------------------------------- */

int64_t logins_sweep(struct db *db, int64_t wall)
{
	cursors_fold_ended(db, wall, SWEEP_ROWS);
	int64_t n = db_exec(db,
			"DELETE FROM login WHERE id IN (SELECT id FROM login WHERE ends <= ? ORDER BY ends"
			" LIMIT ?)",
			"id", wall, SWEEP_ROWS);
	return n +
			db_exec(db,
					"DELETE FROM secret WHERE (kind, hash) IN (SELECT kind, hash FROM secret"
					" WHERE expires <= ? ORDER BY expires LIMIT ?)",
					"id", wall, SWEEP_ROWS);
}

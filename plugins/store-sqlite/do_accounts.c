/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts. */
#include "store.h"

#include <errno.h>

enum { NICK_MAX_BYTES = 512, KEY_BYTES = 256 };
#define ACCOUNT_COLUMNS "id, nickname, flags, secret, client, created"

static void push_account(struct op *op, sqlite3_stmt *s, struct vec *v)
{
	struct chatd_account *a = vec_push(op, v, sizeof(*a));
	if (a) {
		*a = (struct chatd_account){ .struct_size = sizeof(*a),
			.id = db_text(op, s, 0),
			.nickname = db_text(op, s, 1),
			.flags = (uint32_t)sqlite3_column_int64(s, 2),
			.secret = db_text(op, s, 3),
			.client = db_text(op, s, 4),
			.created = sqlite3_column_int64(s, 5) };
	}
}

static void set_accounts(struct op *op, const struct vec *v)
{
	op->a.accounts = v->p;
	op->a.n_accounts = v->n;
}

void do_account_create(struct db *db, struct op *op)
{
	const struct chatd_account *r = op->req;
	if (!id_ok(r->id) || r->nickname.n > NICK_MAX_BYTES || r->secret.n > KEY_BYTES ||
			r->client.n > KEY_BYTES) {
		op->rc = -EINVAL;
		return;
	}
	db_exec(db, "INSERT INTO account(" ACCOUNT_COLUMNS ") VALUES(?,?,?,?,?,?)", "ssissi", r->id,
			r->nickname.p ? r->nickname : CHATD_LIT(""), (int64_t)r->flags,
			r->secret.n ? r->secret : chatd_str_of(NULL, 0),
			r->client.n ? r->client : chatd_str_of(NULL, 0), r->created);
}

void do_account_get(struct db *db, struct op *op)
{
	const struct chatd_store_account_key *r = op->req;
	struct vec v = { 0 };
	sqlite3_stmt *s = NULL;
	if (r->by == CHATD_STORE_BY_ID) {
		s = db_query(db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id=?", "s", r->key);
	} else if (r->by == CHATD_STORE_BY_SECRET) {
		s = db_query(db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE secret=?", "s", r->key);
	} else if (r->by == CHATD_STORE_BY_CLIENT) {
		s = db_query(db,
				"SELECT " ACCOUNT_COLUMNS " FROM account WHERE client=?"
				" ORDER BY created DESC LIMIT 1",
				"s", r->key);
	} else {
		op->rc = -EINVAL;
		return;
	}
	if (db_step(db, s)) {
		push_account(op, s, &v);
		db_done(s);
	}
	set_accounts(op, &v);
	op->rc = v.n ? 0 : -ENOENT;
}

void do_account_rename(struct db *db, struct op *op)
{
	const struct chatd_store_account_name *r = op->req;
	struct vec v = { 0 };
	if (!r->nickname.p || r->nickname.n > NICK_MAX_BYTES) {
		op->rc = -EINVAL;
		return;
	}
	sqlite3_stmt *s =
			db_query(db, "UPDATE account SET nickname=? WHERE id=? RETURNING " ACCOUNT_COLUMNS,
					"ss", r->nickname, r->id);
	while (db_step(db, s)) {
		push_account(op, s, &v);
	}
	set_accounts(op, &v);
	op->rc = v.n ? 0 : -ENOENT;
}

void do_account_search(struct db *db, struct op *op)
{
	const struct chatd_store_account_search *r = op->req;
	struct vec v = { 0 };
	if (!r->prefix.p || r->prefix.n > KEY_BYTES || r->limit < 1 || r->limit > 100) {
		op->rc = -EINVAL;
		return;
	}
	/* The upper bound of a range of texts that begin alike: no character sorts above it. */
	sqlite3_stmt *s = db_query(db,
			"SELECT " ACCOUNT_COLUMNS " FROM account WHERE id IN ("
			"SELECT id FROM account WHERE lower(nickname) >= lower(?1)"
			" AND lower(nickname) < lower(?1) || char(0x10ffff) UNION "
			"SELECT id FROM account WHERE lower(id) >= lower(?1)"
			" AND lower(id) < lower(?1) || char(0x10ffff))"
			" ORDER BY lower(nickname), id LIMIT ?2",
			"sd", r->prefix, r->limit);
	while (db_step(db, s)) {
		push_account(op, s, &v);
	}
	set_accounts(op, &v);
}

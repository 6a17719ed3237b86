/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts: guests, and people who registered. */
#include "store.h"

#include <errno.h>

enum {
	NICK_MAX_BYTES = 512,
	KEY_BYTES = 256,
	EMAIL_MAX_BYTES = 320,
	PASSWORD_MAX_BYTES = 512,
	ROLES_MAX_BYTES = 512,
	AVATAR_MAX_BYTES = 2048,
	SENT_MAX = 1000,
};
#define ACCOUNT_COLUMNS                                                                     \
	"id, nickname, flags, secret, client, created, email, password, roles, avatar, banned," \
	" bits"
/* As the schema's index account_nick says it. */
#define HAS_ROLE   " instr(' ' || roles || ' ', ' ' || ?1 || ' ') > 0"
#define REGISTERED SQL_OFF("flags & 1") "AND (password IS NOT NULL OR email IS NOT NULL)"

static void push_account(struct op *op, db_rows *s, struct vec *v)
{
	struct chatd_account *a = vec_push(op, v, sizeof(*a));
	if (a) {
		*a = (struct chatd_account){ .struct_size = sizeof(*a),
			.id = db_text(op, s, 0),
			.nickname = db_text(op, s, 1),
			.flags = (uint32_t)db_i64(s, 2),
			.secret = db_text(op, s, 3),
			.client = db_text(op, s, 4),
			.created = db_i64(s, 5),
			.email = db_text(op, s, 6),
			.password = db_text(op, s, 7),
			.roles = db_text(op, s, 8),
			.avatar = db_text(op, s, 9),
			.banned_until = db_i64(s, 10),
			.bits = (uint32_t)db_i64(s, 11) };
	}
}

/* All rows of a query for ACCOUNT_COLUMNS. */
static size_t answer_accounts(struct db *db, struct op *op, db_rows *s)
{
	struct vec v = { 0 };
	while (db_step(db, s)) {
		push_account(op, s, &v);
	}
	op->a.accounts = v.p;
	op->a.n_accounts = v.n;
	return v.n;
}

int answer_account(struct db *db, struct op *op, struct chatd_str id)
{
	return answer_accounts(db, op,
				   db_query(db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id=?", "s", id)) > 0;
}

static struct chatd_str or_none(struct chatd_str s)
{
	return s.n ? s : chatd_str_of(NULL, 0);
}

static int has_row(struct db *db, db_rows *s)
{
	int there = db_step(db, s);
	if (there) {
		db_done(s);
	}
	return there;
}

/* ---- what is taken ---------------------------------------------------------------- */

/* What a row wants to be the only one with. */
struct unique {
	struct chatd_str id, secret, email;
	struct chatd_str owner; /* who may have the address already */
};

/* A unique index has said no; which one is asked only now, since it rarely happens. */
static void refuse_taken(struct db *db, struct op *op, const struct unique *u)
{
	int32_t why = CHATD_STORE_NICK_TAKEN;
	if (db->err != -EEXIST) {
		return;
	}
	db_recover(db);
	if (has_row(db,
				db_query(db, "SELECT 1 FROM account WHERE id=? OR secret=?", "ss", u->id,
						u->secret))) {
		why = CHATD_STORE_ID_TAKEN;
	} else if (has_row(db,
					   db_query(db,
							   "SELECT 1 FROM account WHERE lower(email)=lower(?1)"
							   " AND email IS NOT NULL AND (?2 IS NULL OR id <> ?2)",
							   "ss", u->email, u->owner))) {
		why = CHATD_STORE_EMAIL_TAKEN;
	}
	refuse(op, -EEXIST, why);
}

/* ---- making and finding ------------------------------------------------------------- */

static int account_ok(const struct chatd_account *r)
{
	return id_ok(r->id) && r->nickname.n <= NICK_MAX_BYTES && r->secret.n <= KEY_BYTES &&
			r->client.n <= KEY_BYTES && r->email.n <= EMAIL_MAX_BYTES &&
			r->password.n <= PASSWORD_MAX_BYTES && r->roles.n <= ROLES_MAX_BYTES &&
			r->avatar.n <= AVATAR_MAX_BYTES && r->banned_until >= 0;
}

void do_account_create(struct db *db, struct op *op)
{
	const struct chatd_account *r = op->req;
	if (!account_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	db_exec(db, "INSERT INTO account(" ACCOUNT_COLUMNS ") VALUES(?,?,?,?,?,?,lower(?),?,?,?,?,?)",
			"ssississssii", r->id, r->nickname.p ? r->nickname : CHATD_LIT(""), (int64_t)r->flags,
			or_none(r->secret), or_none(r->client), r->created, or_none(r->email),
			or_none(r->password), or_none(r->roles), or_none(r->avatar), r->banned_until,
			(int64_t)r->bits);
	refuse_taken(db, op, &(struct unique){ r->id, or_none(r->secret), or_none(r->email) });
}

void do_account_get(struct db *db, struct op *op)
{
	const struct chatd_store_account_key *r = op->req;
	db_rows *s = NULL;
	switch (r->by) {
	case CHATD_STORE_BY_ID:
		s = db_query(db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id=?", "s", r->key);
		break;
	case CHATD_STORE_BY_SECRET:
		s = db_query(db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE secret=?", "s", r->key);
		break;
	case CHATD_STORE_BY_CLIENT:
		s = db_query(db,
				"SELECT " ACCOUNT_COLUMNS " FROM account WHERE client=?"
				" ORDER BY created DESC LIMIT 1",
				"s", r->key);
		break;
	case CHATD_STORE_BY_EMAIL:
		s = db_query(db,
				"SELECT " ACCOUNT_COLUMNS " FROM account WHERE lower(email)=lower(?)"
				" AND email IS NOT NULL",
				"s", r->key);
		break;
	case CHATD_STORE_BY_NICKNAME:
		s = db_query(db,
				"SELECT " ACCOUNT_COLUMNS " FROM account WHERE lower(nickname)=lower(?)"
				" AND" REGISTERED,
				"s", r->key);
		break;
	case CHATD_STORE_BY_ROLE:
		s = db_query(db,
				"SELECT " ACCOUNT_COLUMNS " FROM account WHERE roles IS NOT NULL"
				" AND" HAS_ROLE " ORDER BY created LIMIT 1",
				"s", r->key);
		break;
	default:
		op->rc = -EINVAL;
		return;
	}
	if (!answer_accounts(db, op, s)) {
		op->rc = -ENOENT;
	}
}

void do_account_rename(struct db *db, struct op *op)
{
	const struct chatd_store_account_name *r = op->req;
	if (!r->nickname.p || r->nickname.n > NICK_MAX_BYTES) {
		op->rc = -EINVAL;
		return;
	}
	size_t n = answer_accounts(db, op,
			db_query(db, "UPDATE account SET nickname=? WHERE id=? RETURNING " ACCOUNT_COLUMNS,
					"ss", r->nickname, r->id));
	if (db->err == 0 && n == 0) {
		op->rc = -ENOENT;
	}
	refuse_taken(db, op, &(struct unique){ 0 });
}

/* The upper bound of a range of texts that begin alike: no character sorts above it. */
#define BEGINS(column) \
	" lower(" column ") >= lower(?1) AND lower(" column ") < lower(?1) || " SQL_LAST_CHAR
/* As the schema's indexes account_people and account_people_id say it. */
#define PEOPLE " AND" SQL_OFF("flags & 1") "AND" SQL_OFF("bits & 2")

void do_account_search(struct db *db, struct op *op)
{
	const struct chatd_store_account_search *r = op->req;
	if (!r->prefix.p || r->prefix.n > KEY_BYTES || r->limit < 1 || r->limit > 100) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = r->people
			? db_query(db,
					  "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id IN ("
					  "SELECT id FROM (SELECT id FROM account WHERE" BEGINS("nickname") PEOPLE
					  " ORDER BY lower(nickname) LIMIT ?2) named UNION "
					  "SELECT id FROM account WHERE" BEGINS("id") PEOPLE
					  ")"
					  " ORDER BY lower(nickname), id LIMIT ?2",
					  "sd", r->prefix, r->limit)
			: db_query(db,
					  "SELECT " ACCOUNT_COLUMNS " FROM account WHERE id IN ("
					  "SELECT id FROM account WHERE" BEGINS(
							  "nickname") " UNION "
										  "SELECT id FROM account WHERE" BEGINS(
												  "id") ")"
														" ORDER BY lower(nickname), id LIMIT ?2",
					  "sd", r->prefix, r->limit);
	answer_accounts(db, op, s);
}

/* ---- changes ---------------------------------------------------------------------- */

/* The words of an account that are to stay with somebody: is it the only one with it? */
static int is_last(struct db *db, struct chatd_str role, struct chatd_str id)
{
	return has_row(db,
				   db_query(db,
						   "SELECT 1 FROM account WHERE" HAS_ROLE
						   " AND roles IS NOT NULL AND id=?2",
						   "ss", role, id)) &&
			!has_row(db,
					db_query(db,
							"SELECT 1 FROM account WHERE" HAS_ROLE
							" AND roles IS NOT NULL AND id<>?2 LIMIT 1",
							"ss", role, id));
}

static int has_word(struct chatd_str words, struct chatd_str word)
{
	size_t from = 0;
	for (size_t i = 0; i <= words.n && words.p; i++) {
		if (i == words.n || words.p[i] == ' ') {
			if (str_same(chatd_str_of(words.p + from, i - from), word)) {
				return 1;
			}
			from = i + 1;
		}
	}
	return 0;
}

static int update_ok(const struct chatd_store_account_update *r)
{
	return id_ok(r->id) && r->nickname.n <= NICK_MAX_BYTES && r->email.n <= EMAIL_MAX_BYTES &&
			r->password.n <= PASSWORD_MAX_BYTES && r->roles.n <= ROLES_MAX_BYTES &&
			r->avatar.n <= AVATAR_MAX_BYTES && r->banned_until >= 0 && r->end_logins >= 0 &&
			r->end_logins <= 2 && (!(r->set & CHATD_STORE_ACCOUNT_NICKNAME) || r->nickname.p);
}

/* What the account must be for the change to make sense; 1: it is. */
static int may_update(struct db *db, struct op *op, const struct chatd_store_account_update *r)
{
	db_rows *s = db_query(db, "SELECT flags, password FROM account WHERE id=?", "s", r->id);
	if (!db_step(db, s)) {
		op->rc = -ENOENT;
		return 0;
	}
	int guest = (db_i64(s, 0) & CHATD_ID_ANONYMOUS) != 0;
	struct chatd_str password = db_peek(s, 1);
	int same = password.p && str_same(password, r->was);
	db_done(s);
	if ((r->set & CHATD_STORE_ACCOUNT_REGISTER && !guest) ||
			(r->set & CHATD_STORE_ACCOUNT_PASSWORD && r->was.p && !same)) {
		op->rc = -ESTALE;
		return 0;
	}
	if (r->set & CHATD_STORE_ACCOUNT_ROLES && r->needed.p && !has_word(r->roles, r->needed) &&
			is_last(db, r->needed, r->id)) {
		refuse(op, -EACCES, CHATD_STORE_LAST);
		return 0;
	}
	return 1;
}

/* What was a guest's is a registered user's now. */
static void lift_guest(struct db *db, struct op *op, struct chatd_str id)
{
	int64_t now = op->e->h->wall_ms();
	int64_t before = INT64_MAX;
	db_exec(db, "UPDATE member SET guest=0 WHERE user=? AND guest <> 0 AND role > 0", "s", id);
	/* What others did to its messages (reactions) has their flag and their end. */
	db_exec(db,
			"UPDATE msg SET flags=flags & ~ 1, expires=NULL WHERE target IN"
			" (SELECT m.id FROM" SQL_SAID
			" WHERE m.sender=?1 AND m.pos < ?2 AND m.flags & 1 <> 0) AND flags & 1 <> 0"
			" AND coalesce(expires, ?3 + 1) > ?3",
			"sii", id, before, now);
	db_exec(db,
			"UPDATE msg SET flags=flags & ~ 1, expires=NULL WHERE pos IN (SELECT m.pos FROM" SQL_SAID
			" WHERE m.sender=?1 AND m.pos < ?2 AND m.flags & 1 <> 0)"
			" AND coalesce(expires, ?3 + 1) > ?3",
			"sii", id, before, now);
}

void do_account_update(struct db *db, struct op *op)
{
	const struct chatd_store_account_update *r = op->req;
	int64_t set = r->set;
	if (!update_ok(r)) {
		op->rc = -EINVAL;
		return;
	}
	if (!may_update(db, op, r)) {
		return;
	}
	answer_accounts(db, op,
			db_query(db,
					"UPDATE account SET nickname=CASE WHEN ?2 & 1 <> 0 THEN ?3 ELSE nickname END,"
					" email=CASE WHEN ?2 & 2 <> 0 THEN lower(?4) ELSE email END,"
					" password=CASE WHEN ?2 & 4 <> 0 THEN ?5 ELSE password END,"
					" roles=CASE WHEN ?2 & 8 <> 0 THEN ?6 ELSE roles END,"
					" avatar=CASE WHEN ?2 & 16 <> 0 THEN ?7 ELSE avatar END,"
					" banned=CASE WHEN ?2 & 32 <> 0 THEN ?8 ELSE banned END,"
					" bits=CASE WHEN ?2 & 64 <> 0 THEN (bits | ?9) & ~ ?10 ELSE bits END,"
					" flags=CASE WHEN ?2 & 128 <> 0 THEN flags & ~ 1 ELSE flags END,"
					" secret=CASE WHEN ?2 & 128 <> 0 THEN NULL ELSE secret END"
					" WHERE id=?1 RETURNING " ACCOUNT_COLUMNS,
					"sisssssiii", r->id, set, r->nickname, or_none(r->email), or_none(r->password),
					or_none(r->roles), or_none(r->avatar), r->banned_until, (int64_t)r->bits_on,
					(int64_t)r->bits_off));
	refuse_taken(db, op, &(struct unique){ .email = or_none(r->email), .owner = r->id });
	if (op->rc < 0) {
		return;
	}
	if (r->set & CHATD_STORE_ACCOUNT_REGISTER) {
		lift_guest(db, op, r->id);
	}
	touch(db, r->id, 0);
	if (r->end_logins) {
		op->a.n = logins_end(db, r->id, r->end_logins == 2 ? r->keep : chatd_str_of(NULL, 0));
	}
}

/* ---- the end ------------------------------------------------------------------------ */

static void forget_reactions(struct db *db, struct chatd_str user)
{
	db_exec(db,
			"UPDATE msg SET flags=flags & ~ 64 WHERE pos IN (SELECT pos FROM reaction WHERE user=?1)"
			" AND NOT EXISTS(SELECT 1 FROM reaction r WHERE r.pos=msg.pos AND r.user<>?1)",
			"s", user);
	db_exec(db, "DELETE FROM reaction WHERE user=?", "s", user);
}

void do_account_delete(struct db *db, struct op *op)
{
	const struct chatd_store_account_delete *r = op->req;
	if (!id_ok(r->id)) {
		op->rc = -EINVAL;
		return;
	}
	if (r->needed.p && is_last(db, r->needed, r->id)) {
		refuse(op, -EACCES, CHATD_STORE_LAST);
		return;
	}
	if (!db_exec(db, "DELETE FROM account WHERE id=?", "s", r->id)) {
		op->rc = -ENOENT;
		return;
	}
	logins_end(db, r->id, chatd_str_of(NULL, 0));
	db_exec(db, "DELETE FROM secret WHERE user=?", "s", r->id);
	db_exec(db, "DELETE FROM cursor WHERE user=?", "s", r->id);
	db_exec(db, "DELETE FROM mention WHERE user=?", "s", r->id);
	db_exec(db, "DELETE FROM dedupe WHERE sender=?", "s", r->id);
	forget_reactions(db, r->id);
	files_forget(db, r->id);
	records_forget(db, r->id);
	members_forget(db, op, r->id);
	op->a.n = erase_messages(db, r->id);
}

void do_sent(struct db *db, struct op *op)
{
	const struct chatd_store_sent *r = op->req;
	struct vec v = { 0 };
	if (r->limit < 1 || r->limit > SENT_MAX || !id_ok(r->user)) {
		op->rc = -EINVAL;
		return;
	}
	db_rows *s = db_query(db,
			"SELECT " MSG_COLUMNS " FROM" SQL_SAID SQL_INNER " conv c ON c.n=m.conv"
			" WHERE m.sender=?1 AND m.pos < ?2 AND m.kind=1 AND m.flags & 24 = 0"
			" AND m.seq >= c.first AND (m.expires IS NULL OR m.expires > ?3)" SQL_SAID_ORDER
			" LIMIT ?4",
			"siid", r->user, r->before > 0 ? r->before : INT64_MAX, op->e->h->wall_ms(), r->limit);
	while (db_step(db, s)) {
		push_message(db, op, s, &v);
	}
	set_messages(op, &v);
}

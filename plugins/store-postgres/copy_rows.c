/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as lines of COPY: see copy.h. */
#include "copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { SAY_MS = 2000, SQL_MAX = 512, MSG = 6, MSG_TEXT = 14 /* its column */ };

#define USER "\"user\""
const struct copy_table copy_tables[COPY_TABLES] = {
	{ "account",
			"id, nickname, flags, secret, client, created, email, password, roles, avatar,"
			" banned, bits" },
	{ "login",
			"id, " USER ", device, refresh, before, changed, created, used, idle, expires, ends" },
	{ "secret", "kind, hash, " USER ", data, expires" },
	{ "room", "id, name, about, flags, slow, max_members, retention, created, version, members" },
	{ "member", "room, " USER ", role, guest, nick, joined, muted, banned, invited, spoke" },
	{ "conv", "n, key, room, a, b, first, low, top, last_pos, msg_pos, gone_pos, wall" },
	[MSG] = { "msg",
			"pos, conv, seq, id, kind, flags, sender, client_id, wall, expires, target,"
			" reply_to, thread, body, text, hash, client, sealed" },
	{ "dedupe", "sender, client_id, hash, id, conv, seq, pos, wall" },
	{ "cursor", USER ", conv, kind, device, seq" },
	{ "mention", USER ", pos" },
	{ "pin", "conv, pos, wall" },
	{ "reaction", "pos, emoji, " USER },
	{ "outbox", "n, pos, route, headers, body, owner, held, sealed" },
	{ "gone", USER ", pos" },
	{ "node", "id, epoch, who, started, handed" },
	{ "blob", "hash, object, type, size, state, info, wall" },
	{ "file", "id, hash, owner, name, size, wall, expires" },
	{ "attach", "file, pos" },
	{ "object_gone", "object" },
	{ "file_day", USER ", day, bytes" },
	{ "touched", "who, n, ended" },
	{ "record", "space, key, value, owner, due, expires, version, wall, sealed" },
};

int target_failed(struct copy *c)
{
	const char *why = PQerrorMessage(c->db.c);
	int lost = PQstatus(c->db.c) != CONNECTION_OK;
	return copy_fail(lost ? EX_IOERR : EX_UNAVAILABLE, "%s: %.*s; nothing was copied", c->place,
			(int)strcspn(why, "\n"), why);
}

/* Now and then. */
static void say(struct copy *c, const char *what, int table, int64_t rows)
{
	if (rows % 1000 == 0 && clock_ms() >= c->next_word) {
		c->next_word = clock_ms() + SAY_MS;
		fprintf(stderr, "%s %s: %lld rows\n", what, copy_tables[table].name, (long long)rows);
	}
}

static void count(struct copy *c, struct copy_sum *sum, const char *line, size_t n)
{
	sum->rows++;
	sum->hash += chatd_hash(&c->key, line, n);
}

/* ---- lines -------------------------------------------------------------------------------- */

static char *reserve(struct copy_line *l, size_t n)
{
	if (l->n + n >= l->cap) {
		size_t cap = 2 * (l->n + n) + 4096;
		char *p = realloc(l->p, cap);
		if (!p) {
			exit(copy_fail(EX_UNAVAILABLE, "no memory; nothing was copied"));
		}
		l->p = p;
		l->cap = cap;
	}
	return l->p + l->n;
}

static void put_raw(struct copy_line *l, const char *p)
{
	size_t n = strlen(p);
	memcpy(reserve(l, n), p, n);
	l->n += n;
}

/* As PostgreSQL writes it too. */
static void put_text(struct copy_line *l, struct chatd_str s)
{
	static const char special[] = "\b\f\n\r\t\v\\", names[] = "bfnrtv\\";
	char *to = reserve(l, 2 * s.n);
	for (size_t i = 0; i < s.n; i++) {
		const char *at = s.p[i] ? strchr(special, s.p[i]) : NULL;
		if (at) {
			*to++ = '\\';
			*to++ = names[at - special];
		} else {
			*to++ = s.p[i];
		}
	}
	l->n = (size_t)(to - l->p);
}

static void put_bytes(struct copy_line *l, struct chatd_str s)
{
	static const char hex[] = "0123456789abcdef";
	put_raw(l, "\\\\x");
	char *to = reserve(l, 2 * s.n);
	for (size_t i = 0; i < s.n; i++) {
		*to++ = hex[(unsigned char)s.p[i] >> 4];
		*to++ = hex[s.p[i] & 15];
	}
	l->n = (size_t)(to - l->p);
}

/* ---- there --------------------------------------------------------------------------------- */

static struct chatd_str bytes_at(sqlite3_stmt *s, int column)
{
	const char *p = sqlite3_column_blob(s, column);
	return chatd_str_of(p ? p : "", (size_t)sqlite3_column_bytes(s, column));
}

/* What search shall find has spaces for zero bytes, as store-postgres writes it. */
static struct chatd_str text_at(struct copy *c, int table, sqlite3_stmt *s, int column)
{
	struct chatd_str text = bytes_at(s, column);
	if (table != MSG || column != MSG_TEXT || !memchr(text.p, 0, text.n)) {
		return text;
	}
	struct chatd_str copy = arena_copy(&c->op.arena, text);
	for (size_t i = 0; copy.p && i < copy.n; i++) {
		char *p = (char *)(uintptr_t)copy.p + i;
		*p = *p ? *p : ' ';
	}
	return copy;
}

static int refuse_text(struct copy *c, int table, sqlite3_stmt *s, int column)
{
	const char *name = sqlite3_column_name(s, column);
	const unsigned char *key = sqlite3_column_text(s, 0);
	return copy_fail(EX_DATAERR,
			"%s: table %s, the row whose %s is %.80s: %s has a zero byte or is not UTF-8, which "
			"PostgreSQL cannot keep; correct or delete that row with sqlite3; nothing was copied",
			c->path, copy_tables[table].name, sqlite3_column_name(s, 0),
			key ? (const char *)key : "", name);
}

static int put_column(struct copy *c, int table, sqlite3_stmt *s, int column)
{
	char number[24];
	struct chatd_str text;
	put_raw(&c->line, column > 0 ? "\t" : "");
	switch (sqlite3_column_type(s, column)) {
	case SQLITE_NULL:
		put_raw(&c->line, "\\N");
		return 0;
	case SQLITE_INTEGER:
		snprintf(number, sizeof(number), "%lld", (long long)sqlite3_column_int64(s, column));
		put_raw(&c->line, number);
		return 0;
	case SQLITE_BLOB:
		put_bytes(&c->line, bytes_at(s, column));
		return 0;
	default:
		text = text_at(c, table, s, column);
		if (!text_ok(text)) {
			return refuse_text(c, table, s, column);
		}
		put_text(&c->line, text);
		return 0;
	}
}

/* The words by which it is found. */
static int put_words(struct copy *c, sqlite3_stmt *s)
{
	put_raw(&c->line, "\t");
	if (sqlite3_column_type(s, MSG_TEXT) == SQLITE_NULL) {
		put_raw(&c->line, "\\N");
		return 0;
	}
	put_text(&c->line, tokens_of(&c->db, &c->op, text_at(c, MSG, s, MSG_TEXT)));
	return c->db.err ? copy_fail(EX_UNAVAILABLE, "%s; nothing was copied", c->db.why) : 0;
}

static int send_row(struct copy *c, int table, sqlite3_stmt *s)
{
	int rc = 0;
	c->line.n = 0;
	for (int i = 0; i < sqlite3_column_count(s) && rc == 0; i++) {
		rc = put_column(c, table, s, i);
	}
	if (rc == 0 && table == MSG) {
		put_raw(&c->line, "\t");
		put_text(&c->line, str_z(c->node));
	}
	count(c, &c->sent[table], c->line.p, c->line.n);
	rc = rc == 0 && table == MSG ? put_words(c, s) : rc;
	put_raw(&c->line, "\n");
	arena_free(&c->op.arena);
	if (rc == 0 && PQputCopyData(c->db.c, c->line.p, (int)c->line.n) != 1) {
		rc = target_failed(c);
	}
	return rc;
}

/* What the server says at the end of a COPY. */
static int end_copy(struct copy *c)
{
	int good = 1;
	for (PGresult *res; (res = PQgetResult(c->db.c)) != NULL; PQclear(res)) {
		good = good && PQresultStatus(res) == PGRES_COMMAND_OK;
	}
	return good ? 0 : target_failed(c);
}

static int begin_copy(struct copy *c, const char *sql, ExecStatusType want)
{
	PGresult *res = PQexec(c->db.c, sql);
	int good = PQresultStatus(res) == want;
	PQclear(res);
	return good ? 0 : target_failed(c);
}

int rows_send(struct copy *c, int table)
{
	char sql[SQL_MAX];
	const struct copy_table *t = &copy_tables[table];
	sqlite3_stmt *s = NULL;
	snprintf(sql, sizeof(sql), "SELECT %s FROM %s", t->columns, t->name);
	if (sqlite3_prepare_v2(c->file, sql, -1, &s, NULL) != SQLITE_OK) {
		return file_failed(c);
	}
	snprintf(sql, sizeof(sql), "COPY %s(%s%s) FROM STDIN", t->name, t->columns,
			table == MSG ? ", node, words" : "");
	int rc = begin_copy(c, sql, PGRES_COPY_IN);
	while (rc == 0) {
		int code = sqlite3_step(s);
		if (code != SQLITE_ROW) {
			rc = code == SQLITE_DONE ? 0 : file_failed(c);
			break;
		}
		rc = send_row(c, table, s);
		say(c, "copied", table, c->sent[table].rows);
	}
	sqlite3_finalize(s);
	if (rc == 0 && PQputCopyEnd(c->db.c, NULL) != 1) {
		rc = target_failed(c);
	}
	return rc ? rc : end_copy(c);
}

/* ---- and back ------------------------------------------------------------------------------ */

int rows_read(struct copy *c, int table)
{
	char sql[SQL_MAX];
	char *line = NULL;
	int n;
	const struct copy_table *t = &copy_tables[table];
	snprintf(sql, sizeof(sql), "COPY (SELECT %s%s FROM %s) TO STDOUT", t->columns,
			table == MSG ? ", node" : "", t->name);
	int rc = begin_copy(c, sql, PGRES_COPY_OUT);
	if (rc != 0) {
		return rc;
	}
	while ((n = PQgetCopyData(c->db.c, &line, 0)) > 0) {
		count(c, &c->found[table], line, (size_t)n - 1); /* without its end */
		PQfreemem(line);
		say(c, "read back", table, c->found[table].rows);
	}
	return n == -1 ? end_copy(c) : target_failed(c);
}

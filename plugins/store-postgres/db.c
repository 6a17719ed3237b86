/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: prepared once, sent in a pipeline, their rows fetched whole. */
#include "batch.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARGS_MAX = 40, OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25 };

int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- failures ------------------------------------------------------------------- */

chatd_status db_note(struct db *db, chatd_status rc, const char *code, const char *why)
{
	if (db->err == 0) {
		db->err = rc;
		snprintf(db->code, sizeof(db->code), "%s", code);
		snprintf(db->why, sizeof(db->why), "%.*s", (int)strcspn(why, "\n"), why);
	}
	return db->err;
}

static chatd_status status_of(const char *code)
{
	static const struct {
		const char *code; /* or its beginning */
		chatd_status rc;
	} known[] = {
		{ "23505", -EEXIST },                                          /* unique_violation */
		{ "40", -EBUSY },                                              /* deadlock, serialization */
		{ "55P03", -EBUSY },                                           /* lock_not_available */
		{ "57014", -ETIMEDOUT },                                       /* statement_timeout */
		{ "53100", -ENOSPC }, { "53200", -ENOMEM }, { "22", -EINVAL }, /* a value */
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(code, known[i].code, strlen(known[i].code)) == 0) {
			return known[i].rc;
		}
	}
	return -EIO;
}

void db_clear(struct db *db)
{
	db->err = 0;
	db->code[0] = '\0';
	db->why[0] = '\0';
}

/* The transaction has failed with the statement: it goes on from where the call began. */
void db_recover(struct db *db)
{
	db_clear(db);
	if (db->saved) {
		db_exec(db, "ROLLBACK TO SAVEPOINT one", "");
	}
}

/* ---- what is to come ------------------------------------------------------------------ */

static void expect(struct db *db, db_rows *to, int32_t slot)
{
	if (!db->pending || db->n_pending == PENDING_MAX) {
		db_note(db, -EIO, "", "too many statements at once");
		return;
	}
	db->pending[(db->first_pending + db->n_pending++) % PENDING_MAX] =
			(struct pending){ .to = to, .slot = slot };
}

static void note_result(struct db *db, const PGresult *res)
{
	const char *code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *why = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	db_note(db, status_of(code ? code : ""), code ? code : "",
			why ? why : PQresultErrorMessage(res));
}

static void take_result(struct db *db, struct pending *p, PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);
	int good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
	if (!good) {
		if (p->slot >= 0) {
			db->cache[p->slot].prepared = 0;
		}
		if (status != PGRES_PIPELINE_ABORTED) {
			note_result(db, res);
		}
	} else if (p->to) {
		PQclear(p->to->res);
		*p->to = (db_rows){ .res = res, .row = -1, .n = PQntuples(res) };
		return;
	}
	PQclear(res);
}

/* One result, or the end of one; 0: nothing more is expected. */
static int take(struct db *db)
{
	struct pending *p = &db->pending[db->first_pending];
	PGresult *res = PQgetResult(db->c);
	int done = !res;
	if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
		PQclear(res);
		done = 1;
	} else if (res) {
		take_result(db, p, res);
	}
	if (done) {
		db->first_pending = (db->first_pending + 1) % PENDING_MAX;
		db->n_pending--;
	}
	return db->n_pending > 0;
}

static chatd_status lose(struct db *db, chatd_status rc, const char *why)
{
	char text[200];
	snprintf(text, sizeof(text), "%s", why);
	/* The statement failed because of that, whatever it said itself. */
	db_clear(db);
	db_hang_up(db);
	return db_note(db, rc, "", text);
}

static chatd_status pump(struct db *db)
{
	while (db->n_pending > 0) {
		int more = PQflush(db->c);
		while (more >= 0 && db->n_pending > 0 && !PQisBusy(db->c)) {
			if (PQstatus(db->c) != CONNECTION_OK) {
				return lose(db, -EIO, PQerrorMessage(db->c));
			}
			take(db);
		}
		if (db->n_pending == 0) {
			break;
		}
		if (more < 0 || PQstatus(db->c) != CONNECTION_OK) {
			return lose(db, -EIO, PQerrorMessage(db->c));
		}
		if (!db_poll(db, more)) {
			return lose(db, -ETIMEDOUT, "the server does not answer in time");
		}
		if (!PQconsumeInput(db->c)) {
			return lose(db, -EIO, PQerrorMessage(db->c));
		}
	}
	return db->err;
}

static int sync_pipeline(struct db *db)
{
	if (!db->c) {
		db_note(db, -EIO, "", "the database is not there");
		return 0;
	}
	if (!PQpipelineSync(db->c)) {
		lose(db, -EIO, PQerrorMessage(db->c));
		return 0;
	}
	expect(db, NULL, -1);
	return 1;
}

chatd_status db_wait(struct db *db)
{
	return sync_pipeline(db) ? pump(db) : db->err;
}

void db_leave(struct db *db)
{
	if (sync_pipeline(db)) {
		PQflush(db->c);
	}
}

/* ---- statements ------------------------------------------------------------------------- */

struct args {
	int n;
	Oid types[ARGS_MAX];
	const char *values[ARGS_MAX];
	int lengths[ARGS_MAX], formats[ARGS_MAX];
	int64_t numbers[ARGS_MAX]; /* as they are sent */
};

/* PostgreSQL takes no text with a zero byte, or that is not UTF-8; better to refuse it than to
 * have it fail all that is sent along. */
int text_ok(struct chatd_str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p ? p + s.n : p;
	while (p < end) {
		if (*p && *p < 0x80) {
			p++;
			continue;
		}
		int n = *p >= 0xc2 && *p < 0xe0   ? 1
				: *p >= 0xe0 && *p < 0xf0 ? 2
				: *p >= 0xf0 && *p < 0xf5 ? 3
										  : 0;
		if (n == 0 || end - p <= n || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
				(*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f)) {
			return 0;
		}
		for (p++; n > 0; n--, p++) {
			if ((*p & 0xc0) != 0x80) {
				return 0;
			}
		}
	}
	return 1;
}

static void put_text(struct args *a, struct chatd_str s, Oid type)
{
	a->types[a->n] = type;
	a->values[a->n] = s.p;
	a->lengths[a->n] = (int)s.n;
	a->formats[a->n] = 1;
}

/* Capital letters: arrays, as they go over the wire. */
static Oid oid_of(char type)
{
	switch (type) {
	case 's':
		return OID_TEXT;
	case 'b':
		return OID_BYTEA;
	case 'S':
		return 1009;
	case 'B':
		return 1001;
	case 'I':
		return 1016;
	default:
		return OID_INT8;
	}
}

static int put_args(struct db *db, struct args *a, const char *types, va_list ap)
{
	for (a->n = 0; types[a->n]; a->n++) {
		char type = types[a->n];
		if (oid_of(type) != OID_INT8) {
			struct chatd_str s = va_arg(ap, struct chatd_str);
			if (type == 's' && !text_ok(s)) {
				db_note(db, -EINVAL, "22021", "a text has a zero byte or is not UTF-8");
				return 0;
			}
			put_text(a, s, oid_of(type));
			continue;
		}
		int64_t v = type == 'i' ? va_arg(ap, int64_t) : va_arg(ap, int);
		a->numbers[a->n] = (int64_t)htobe64((uint64_t)v);
		a->types[a->n] = OID_INT8;
		a->values[a->n] = (const char *)&a->numbers[a->n];
		a->lengths[a->n] = 8;
		a->formats[a->n] = 1;
	}
	return 1;
}

static int32_t slot_of(struct db *db, const char *sql)
{
	size_t at = ((uintptr_t)sql >> 3) % STMT_SLOTS;
	while (db->cache[at].sql && db->cache[at].sql != sql) {
		at = (at + 1) % STMT_SLOTS;
	}
	db->cache[at].sql = sql;
	return (int32_t)at;
}

static int prepare(struct db *db, int32_t slot, const char *name, const struct args *a)
{
	char *sql = dialect(db->cache[slot].sql);
	int sent = sql && PQsendPrepare(db->c, name, sql, a->n, a->types);
	free(sql);
	if (sent) {
		expect(db, NULL, slot);
		db->cache[slot].prepared = 1;
	}
	return sent;
}

/* @p to: NULL: the statement's own place. */
static db_rows *send(struct db *db, db_rows *to, const char *sql, const char *types, va_list ap)
{
	struct args a;
	char name[16];
	if (db->err || !put_args(db, &a, types, ap)) {
		return NULL;
	}
	if (!db->c) {
		db_note(db, -EIO, "", "the database is not there");
		return NULL;
	}
	int32_t slot = slot_of(db, sql);
	to = to ? to : &db->cache[slot].rows;
	db_done(to);
	snprintf(name, sizeof(name), "s%d", (int)slot);
	if ((!db->cache[slot].prepared && !prepare(db, slot, name, &a)) ||
			!PQsendQueryPrepared(db->c, name, a.n, a.values, a.lengths, a.formats, 1)) {
		lose(db, -EIO, PQerrorMessage(db->c));
		return NULL;
	}
	expect(db, to, -1);
	return to;
}

void db_send(struct db *db, db_rows *to, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	send(db, to, sql, types, ap);
	va_end(ap);
}

void db_push(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	send(db, NULL, sql, types, ap);
	va_end(ap);
}

/* A reader's snapshot. */
static void begin_snapshot(struct db *db)
{
	if (db->begin) {
		db->begin = 0;
		db_push(db, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "");
	}
}

db_rows *db_query(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	begin_snapshot(db);
	va_start(ap, types);
	db_rows *s = send(db, NULL, sql, types, ap);
	va_end(ap);
	return s && db_wait(db) == 0 ? s : NULL;
}

int64_t db_exec(struct db *db, const char *sql, const char *types, ...)
{
	va_list ap;
	begin_snapshot(db);
	va_start(ap, types);
	db_rows *s = send(db, NULL, sql, types, ap);
	va_end(ap);
	if (!s || db_wait(db) < 0 || !s->res) {
		return 0;
	}
	return strtoll(PQcmdTuples(s->res), NULL, 10);
}

int db_step(struct db *db, db_rows *s)
{
	return s && db->err == 0 && s->res && ++s->row < s->n;
}

void db_done(db_rows *s)
{
	if (s) {
		PQclear(s->res);
		*s = (db_rows){ 0 };
	}
}

int64_t db_int(struct db *db, const char *sql)
{
	db_rows *s = db_query(db, sql, "");
	int64_t n = db_step(db, s) ? db_i64(s, 0) : 0;
	db_done(s);
	return n;
}

/* ---- values --------------------------------------------------------------------------- */

int64_t db_i64(const db_rows *s, int column)
{
	const char *p = PQgetvalue(s->res, s->row, column);
	uint64_t v = 0;
	int n = PQgetisnull(s->res, s->row, column) ? 0 : PQgetlength(s->res, s->row, column);
	for (int i = 0; i < n; i++) {
		v = v << 8 | (unsigned char)p[i];
	}
	return n == 4 ? (int32_t)v : n == 2 ? (int16_t)v : (int64_t)v;
}

struct chatd_str db_peek(db_rows *s, int column)
{
	if (PQgetisnull(s->res, s->row, column)) {
		return chatd_str_of(NULL, 0);
	}
	return chatd_str_of(
			PQgetvalue(s->res, s->row, column), (size_t)PQgetlength(s->res, s->row, column));
}

struct chatd_str db_text(struct op *op, db_rows *s, int column)
{
	return arena_copy(&op->arena, db_peek(s, column));
}

int64_t db_next_pos(struct db *db)
{
	return db_int(db, "SELECT nextval('place')");
}

int64_t db_last_pos(struct db *db)
{
	return db_int(db, "SELECT last_value FROM place");
}

/* ---- opening -------------------------------------------------------------------------- */

chatd_status db_script(struct db *db, const char *sql)
{
	if (db->err || !PQexitPipelineMode(db->c) || !PQsendQuery(db->c, sql)) {
		return db_note(db, -EIO, "", PQerrorMessage(db->c));
	}
	for (int more = 1; more;) {
		int unsent = PQflush(db->c);
		if (!PQisBusy(db->c)) {
			PGresult *res = PQgetResult(db->c);
			more = res != NULL;
			if (res && PQresultStatus(res) != PGRES_COMMAND_OK &&
					PQresultStatus(res) != PGRES_TUPLES_OK) {
				note_result(db, res);
			}
			PQclear(res);
		} else if (unsent < 0 || !db_poll(db, unsent) || !PQconsumeInput(db->c)) {
			return lose(db, -EIO, "the connection was lost");
		}
	}
	if (!db_lost(db) && !PQenterPipelineMode(db->c)) {
		db_note(db, -EIO, "", PQerrorMessage(db->c));
	}
	return db->err;
}

static struct db *open_one(struct db *db, struct engine *e, int writer, const char *url)
{
	memset(db, 0, sizeof(*db));
	db->e = e;
	db->writer = writer;
	db->url = url;
	db->pending = calloc(PENDING_MAX, sizeof(*db->pending));
	return db->pending ? db : NULL;
}

/* Readers share the replicas among them. */
static void add_replica(struct db *db)
{
	const char *const *urls = db->e->conf.back.replicas;
	int n = 0;
	while (urls[n]) {
		n++;
	}
	if (n) {
		db->replica = calloc(1, sizeof(*db->replica));
		if (db->replica) {
			open_one(db->replica, db->e, 0, urls[atomic_fetch_add(&db->e->back.turn, 1) % n]);
			db->replica->as_it_is = 1;
		}
	}
}

chatd_status db_open(struct db *db, struct engine *e, int writer)
{
	if (!open_one(db, e, writer, e->conf.back.url)) {
		return db_note(db, -ENOMEM, "", "no memory");
	}
	if (!writer) {
		add_replica(db);
	}
	return 0;
}

void db_close(struct db *db)
{
	db_hang_up(db);
	for (size_t i = 0; i < STMT_SLOTS; i++) {
		db_done(&db->cache[i].rows);
	}
	tokens_close(db);
	batch_free(db->batch);
	db->batch = NULL;
	free(db->pending);
	db->pending = NULL;
	if (db->replica) {
		db_close(db->replica);
		free(db->replica);
	}
	db->replica = NULL;
}

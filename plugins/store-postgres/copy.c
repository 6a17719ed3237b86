/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-store-copy: moves what store-sqlite keeps into an empty schema of store-postgres.  All of
 * it is one transaction, which is committed only after every row was read back. */
#include "copy.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>

static const char usage[] =
		"usage: chatd-store-copy [--schema NAME] FROM TO\n"
		"  FROM           the chatd.db of store-sqlite; no chatd may run on it\n"
		"  TO             a database: postgresql://USER@HOST:PORT/DATABASE, or host=... dbname=...\n"
		"  --schema NAME  where in it, as in store-postgres: schema: NAME; else chatd\n"
		"The password is taken from PGPASSWORD or ~/.pgpass if TO has none.\n";

int copy_fail(int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fflush(stdout);
	fputs("chatd-store-copy: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return code;
}

/* ---- as much of a host as connecting and migrating ask for ---------------------------------- */

static void host_log(chatd_ctx *ctx, int32_t level, const char *fmt, ...) CHATD_PRINTF(3, 4);
static void host_log(chatd_ctx *ctx, int32_t level, const char *fmt, ...)
{
	va_list ap;
	(void)ctx;
	(void)level;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static void host_random(void *p, size_t n)
{
	if (getrandom(p, n, 0) != (ssize_t)n) {
		abort();
	}
}

static const struct chatd_host host = { .log = host_log, .random = host_random };

/* ---- the target ------------------------------------------------------------------------------ */

static int run(struct copy *c, const char *sql)
{
	PGresult *res = PQexec(c->db.c, sql);
	ExecStatusType status = PQresultStatus(res);
	PQclear(res);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : target_failed(c);
}

/* The first column of the first row; "": there is none. */
static int ask(struct copy *c, const char *sql, char *to, size_t cap)
{
	PGresult *res = PQexec(c->db.c, sql);
	int good = PQresultStatus(res) == PGRES_TUPLES_OK;
	snprintf(to, cap, "%s", good && PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
	PQclear(res);
	return good ? 0 : target_failed(c);
}

/* A node that runs there has read what is changed here: whose data it is. */
static int is_used(struct copy *c)
{
	char meta[96];
	snprintf(meta, sizeof(meta), "\"%s\".meta", c->db.e->conf.back.schema);
	db_rows *s = db_query(&c->db,
			"SELECT count(*) FROM pg_stat_activity WHERE to_regclass(?1) IS NOT NULL AND"
			" datname=current_database() AND pid <> pg_backend_pid() AND"
			" application_name LIKE 'chatd %'",
			"s", str_z(meta));
	int used = db_step(&c->db, s) && db_i64(s, 0) > 0;
	db_done(s);
	return used;
}

static int target_open(struct copy *c)
{
	struct db *db = &c->db;
	db_place(db, c->place, sizeof(c->place));
	db->as_it_is = 1; /* it may be empty */
	if (db_connect(db) < 0) {
		return copy_fail(EX_UNAVAILABLE, "%s: cannot be used: %s", c->place, db->why);
	}
	if (is_used(c)) {
		return copy_fail(EX_UNAVAILABLE,
				"%s: a chatd is connected to it, and the schema \"%s\" is there already; stop "
				"that chatd, or name another schema with --schema",
				c->place, db->e->conf.back.schema);
	}
	db->writer = 1;
	db->as_it_is = 0;
	if (db->err || schema_open(db) < 0) {
		return copy_fail(EX_UNAVAILABLE, "%s: the schema \"%s\" cannot be made or used: %s",
				c->place, db->e->conf.back.schema, db->why);
	}
	if (!PQexitPipelineMode(db->c) || PQsetnonblocking(db->c, 0) != 0) {
		return target_failed(c);
	}
	return run(c,
			"SET statement_timeout=0; SET idle_in_transaction_session_timeout=0;"
			" SET bytea_output='hex'; SET maintenance_work_mem='128MB'");
}

static int check_empty(struct copy *c)
{
	char sql[160], found[8];
	for (int i = 0; i < COPY_TABLES; i++) {
		snprintf(sql, sizeof(sql), "SELECT 1 FROM %s LIMIT 1", copy_tables[i].name);
		int rc = ask(c, sql, found, sizeof(found));
		if (rc != 0) {
			return rc;
		}
		if (*found) {
			const char *schema = c->db.e->conf.back.schema;
			return copy_fail(EX_UNAVAILABLE,
					"%s: the schema \"%s\" has rows already, in the table %s; name another one "
					"with --schema (and in the configuration: store-postgres: schema:), or, if "
					"what is there may go: DROP SCHEMA \"%s\" CASCADE",
					c->place, schema, copy_tables[i].name, schema);
		}
	}
	return 0;
}

static int target_begin(struct copy *c)
{
	char sql[96], got[8];
	int rc = run(c, "BEGIN");
	snprintf(sql, sizeof(sql), "SELECT pg_try_advisory_xact_lock(%lld)",
			(long long)schema_lock(&c->db));
	rc = rc ? rc : ask(c, sql, got, sizeof(got));
	if (rc == 0 && *got != 't') {
		rc = copy_fail(EX_UNAVAILABLE, "%s: another program writes to it; stop that one", c->place);
	}
	return rc ? rc : check_empty(c);
}

/* ---- copying --------------------------------------------------------------------------------- */

/* An index is made faster of all rows than row by row. */
static int indexes_away(struct copy *c, PGresult **ret)
{
	int rc = 0;
	*ret = PQexec(c->db.c,
			"SELECT format('DROP INDEX %I', c.relname), pg_get_indexdef(c.oid) FROM pg_index i"
			" JOIN pg_class c ON c.oid=i.indexrelid WHERE NOT i.indisunique AND"
			" c.relnamespace=current_schema()::regnamespace");
	if (PQresultStatus(*ret) != PGRES_TUPLES_OK) {
		return target_failed(c);
	}
	for (int i = 0; i < PQntuples(*ret) && rc == 0; i++) {
		rc = run(c, PQgetvalue(*ret, i, 0));
	}
	return rc;
}

static int indexes_back(struct copy *c, const PGresult *indexes)
{
	int rc = 0;
	fprintf(stderr, "making %d indexes\n", PQntuples(indexes));
	for (int i = 0; i < PQntuples(indexes) && rc == 0; i++) {
		rc = run(c, PQgetvalue(indexes, i, 1));
	}
	return rc ? rc : run(c, "ANALYZE account, room, member, conv, msg, cursor, login");
}

static int copy_rows(struct copy *c)
{
	PGresult *indexes = NULL;
	int rc = indexes_away(c, &indexes);
	for (int i = 0; i < COPY_TABLES && rc == 0; i++) {
		rc = rows_send(c, i);
	}
	rc = rc ? rc : indexes_back(c, indexes);
	PQclear(indexes);
	return rc;
}

/* Whose data it is, and where the numbers go on: never below what was given before. */
static int copy_meta(struct copy *c)
{
	char sql[768];
	sqlite3_stmt *s = NULL;
	struct chatd_hash_key key = { { 0, 0 } };
	if (sqlite3_prepare_v2(c->file, "SELECT value FROM meta WHERE key='client key'", -1, &s,
				NULL) == SQLITE_OK &&
			sqlite3_step(s) == SQLITE_ROW && sqlite3_column_bytes(s, 0) == sizeof(key)) {
		memcpy(&key, sqlite3_column_blob(s, 0), sizeof(key));
	}
	sqlite3_finalize(s);
	if (strspn(c->epoch, "0123456789abcdef") != EPOCH_CHARS || !(key.k[0] | key.k[1])) {
		return copy_fail(EX_DATAERR,
				"%s: its table meta has no epoch or no client key; restore a backup", c->path);
	}
	snprintf(sql, sizeof(sql),
			"UPDATE meta SET value='%016llx%016llx' WHERE key='client key';"
			"UPDATE meta SET value='%s' WHERE key='epoch' AND %d=0",
			(unsigned long long)key.k[0], (unsigned long long)key.k[1], c->epoch, c->is_backup);
	int rc = run(c, sql);
	int64_t indexed = file_int(c, "SELECT value FROM meta WHERE key='indexed'");
	int64_t out = file_int(c, "SELECT seq FROM sqlite_sequence WHERE name='outbox'");
	snprintf(sql, sizeof(sql),
			"SELECT setval('place', greatest(%lld, (SELECT max(pos) FROM msg), (SELECT"
			" max(greatest(last_pos, msg_pos, gone_pos)) FROM conv), (SELECT max(pos) FROM dedupe),"
			" (SELECT max(handed) FROM node), 1));"
			"SELECT setval('conv_n_seq', greatest((SELECT max(n) FROM conv), 1));"
			"SELECT setval('outbox_n_seq', greatest(%lld, (SELECT max(n) FROM outbox), 1))",
			(long long)indexed, (long long)out);
	rc = rc ? rc : run(c, sql);
	/* Rows that are encrypted stay so; who opens the schema must have the keys. */
	return rc || !file_int(c, "SELECT count(*) FROM meta WHERE key='sealed'")
			? rc
			: run(c, "INSERT INTO meta VALUES('sealed', 'on') ON CONFLICT DO NOTHING");
}

/* ---- did all arrive? -------------------------------------------------------------------------- */

static int compare(struct copy *c)
{
	int wrong = 0;
	printf("%-10s %12s  %s\n", "table", "rows", "hash");
	for (int i = 0; i < COPY_TABLES; i++) {
		const struct copy_sum *sent = &c->sent[i], *found = &c->found[i];
		int rows = sent->rows == found->rows, same = rows && sent->hash == found->hash;
		printf("%-10s %12lld  ", copy_tables[i].name, (long long)sent->rows);
		if (same) {
			puts("ok");
		} else if (rows) {
			puts("DIFFERS");
		} else {
			printf("DIFFERS: %lld arrived\n", (long long)found->rows);
		}
		wrong += !same;
	}
	return wrong
			? copy_fail(EX_DATAERR,
					  "what arrived is not what was sent; is there a trigger or a rule on those "
					  "tables? Nothing was copied")
			: 0;
}

static int verify(struct copy *c)
{
	char bare[24];
	int rc = 0;
	for (int i = 0; i < COPY_TABLES && rc == 0; i++) {
		rc = rows_read(c, i);
	}
	rc = rc ? rc
			: ask(c, "SELECT count(*) FROM msg WHERE (text IS NULL) <> (words IS NULL)", bare,
					  sizeof(bare));
	rc = rc ? rc : compare(c);
	if (rc == 0 && strcmp(bare, "0") != 0) {
		rc = copy_fail(
				EX_DATAERR, "%s messages have no words for the search; nothing was copied", bare);
	}
	return rc;
}

static int copy_all(struct copy *c)
{
	int64_t begin = clock_ms();
	int64_t rows = 0;
	int rc = file_open(c);
	rc = rc ? rc : target_open(c);
	rc = rc ? rc : target_begin(c);
	rc = rc ? rc : copy_rows(c);
	rc = rc ? rc : copy_meta(c);
	rc = rc ? rc : verify(c);
	rc = rc ? rc : run(c, "COMMIT");
	for (int i = 0; i < COPY_TABLES; i++) {
		rows += c->sent[i].rows;
	}
	if (rc == 0) {
		printf("%lld rows in %.1f s, into the schema \"%s\" of %s\n", (long long)rows,
				(double)(clock_ms() - begin) / 1000, c->db.e->conf.back.schema, c->place);
		puts(c->is_backup ? "The file is a backup: clients will load anew what they have."
						  : "Clients go on where they were.");
		puts("Now set store-postgres instead of store-sqlite, and start no chatd on the file again.");
	}
	return rc;
}

/* ---- what is asked for ------------------------------------------------------------------------ */

static int schema_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return *s && !s[n] && n <= 48 && !(*s >= '0' && *s <= '9') && strncmp(s, "pg_", 3) != 0;
}

/* Where others see it, in the list of processes, it goes. */
static char *take_url(char *arg)
{
	char *url = strdup(arg);
	if (url) {
		memset(arg, '*', strlen(arg));
	}
	return url;
}

static int refuse_use(const char *what)
{
	fputs(usage, stderr);
	return copy_fail(EX_USAGE, "%s", what);
}

static int parse(int argc, char **argv, struct engine *e, struct copy *c)
{
	static const struct option options[] = { { "schema", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' }, { 0 } };
	char why[400];
	int o;
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (o == 'h') {
			fputs(usage, stdout);
			exit(0);
		}
		if (o != 's') {
			return refuse_use("there is no such option");
		}
		e->conf.back.schema = optarg;
	}
	if (argc - optind != 2) {
		return refuse_use("name the file and the database");
	}
	if (!schema_ok(e->conf.back.schema)) {
		return refuse_use("--schema: a-z, 0-9 and _, up to 48, beginning with a letter and not "
						  "with pg_ are allowed");
	}
	c->path = argv[optind];
	e->conf.back.url = take_url(argv[optind + 1]);
	if (!e->conf.back.url || !url_ok(e->conf.back.url, why, sizeof(why))) {
		return copy_fail(
				EX_USAGE, "the second argument %s", e->conf.back.url ? why : "is too long");
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const none[] = { NULL };
	static struct engine engine;
	static struct copy copy;
	struct engine *e = &engine;
	struct copy *c = &copy;
	e->h = &host;
	e->conf.back.schema = "chatd";
	e->conf.back.synchronous_commit = "on";
	e->conf.back.replicas = none;
	e->conf.commit_timeout = 60000;
	e->conf.read_timeout = 60000;
	snprintf(e->back.node, sizeof(e->back.node), "store-copy");
	c->lock_fd = -1;
	host_random(&c->key, sizeof(c->key));
	int rc = parse(argc, argv, e, c);
	if (rc == 0 && db_open(&c->db, e, 0) < 0) {
		rc = copy_fail(EX_UNAVAILABLE, "no memory");
	} else if (rc == 0) {
		rc = copy_all(c);
		db_close(&c->db);
		file_close(c);
		free(c->line.p);
	}
	free((char *)(uintptr_t)e->conf.back.url);
	if (rc == 0 && fflush(stdout) != 0) {
		rc = EX_IOERR;
	}
	return rc;
}

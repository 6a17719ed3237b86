/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to PostgreSQL: made without waiting longer than allowed, made again when it is
 * lost, later each time. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DIAL_MS = 5000,
	AGAIN_MS = 100,
	AGAIN_MAX_MS = 3000,
	IDLE_MS = 2000, /* of a transaction that is asked nothing */
};

/* ---- what is asked for ----------------------------------------------------------- */

int url_ok(const char *url, char *why, size_t cap)
{
	char *error = NULL;
	PQconninfoOption *o = PQconninfoParse(url, &error);
	if (o) {
		PQconninfoFree(o);
		return 1;
	}
	/* libpq repeats what it does not understand. */
	int secret = strchr(url, '@') || strstr(url, "password");
	snprintf(why, cap,
			"is no connection string of PostgreSQL%s%s; write "
			"postgresql://USER@HOST:PORT/DATABASE, or host=... dbname=... user=...",
			secret || !error ? "" : ": ", secret || !error ? "" : error);
	for (char *p = why; *p; p++) {
		*p = *p == '\n' ? ' ' : *p;
	}
	PQfreemem(error);
	return 0;
}

void db_place(const struct db *db, char *to, size_t cap)
{
	PQconninfoOption *o = PQconninfoParse(db->url, NULL);
	const char *host = "", *port = "", *name = "";
	for (PQconninfoOption *i = o; i && i->keyword; i++) {
		const char *v = i->val ? i->val : "";
		host = strcmp(i->keyword, "host") == 0 || (strcmp(i->keyword, "hostaddr") == 0 && !*host)
				? v
				: host;
		port = strcmp(i->keyword, "port") == 0 ? v : port;
		name = strcmp(i->keyword, "dbname") == 0 ? v : name;
	}
	snprintf(to, cap, "%s%s%s/%s", *host ? host : "PostgreSQL", *port ? ":" : "", port, name);
	PQconninfoFree(o);
}

static PGconn *begin_connect(struct db *db)
{
	char name[96];
	const struct back_conf *conf = &db->e->conf.back;
	snprintf(name, sizeof(name), "chatd %s", db->e->back.node);
	const char *keys[12], *values[12];
	int n = 0;
#define KEY(k, v) (keys[n] = (k), values[n] = (v), n++)
	/* What the URL may say otherwise comes before it, what must be so behind. */
	KEY("application_name", name);
	KEY("tcp_user_timeout", "5000");
	KEY("keepalives_idle", "10");
	KEY("keepalives_interval", "5");
	KEY("keepalives_count", "3");
	KEY("dbname", db->url);
	const char *password = conf->password ? atomic_load(conf->password) : NULL;
	if (password) {
		KEY("password", password);
	}
	KEY("client_encoding", "UTF8");
	/* Of several hosts the one that takes writes; readers must see what was just written. */
	if (db->url == conf->url) {
		KEY("target_session_attrs", "read-write");
	}
#undef KEY
	keys[n] = values[n] = NULL;
	return PQconnectStartParams(keys, values, 1);
}

/* ---- making it --------------------------------------------------------------------- */

int db_poll(struct db *db, int write)
{
	struct pollfd p = { .fd = PQsocket(db->c), .events = (short)(POLLIN | (write ? POLLOUT : 0)) };
	for (;;) {
		int64_t left = db->deadline ? db->deadline - clock_ms() : 1000;
		if (left <= 0) {
			return 0;
		}
		int n = poll(&p, 1, (int)(left > 60000 ? 60000 : left));
		if (n > 0 || (n < 0 && errno != EINTR)) {
			return n > 0;
		}
	}
}

/* The server's words are "FATAL:  28P01: password authentication ..." when asked to be verbose. */
static void note_refusal(struct db *db)
{
	const char *text = PQerrorMessage(db->c);
	const char *fatal = strstr(text, "FATAL:  ");
	char code[6] = "";
	if (fatal) {
		snprintf(code, sizeof(code), "%s", fatal + 8);
	}
	/* Who one is, whether one may, and which database: waiting does not change it. */
	db->fatal =
			memcmp(code, "28", 2) == 0 || strcmp(code, "3D000") == 0 || strcmp(code, "42501") == 0;
	db_clear(db);
	db_note(db, -EIO, code, *text ? text : "no connection");
}

static int finish_connect(struct db *db)
{
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;
	while (want != PGRES_POLLING_OK && want != PGRES_POLLING_FAILED) {
		struct pollfd p = { .fd = PQsocket(db->c),
			.events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT };
		int64_t left = db->deadline - clock_ms();
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (n == 0) {
			db_note(db, -EIO, "", "the server does not answer");
			return 0;
		}
		if (n > 0) {
			want = PQconnectPoll(db->c);
		}
	}
	if (want == PGRES_POLLING_FAILED) {
		note_refusal(db);
	}
	return want == PGRES_POLLING_OK;
}

static chatd_status refuse_server(struct db *db, const char *why)
{
	db->strange = 1;
	return db_note(db, -EIO, "", why);
}

/* A server whose clocks run on while it is asked nothing must not keep what others wait for: a
 * transaction of a node that is gone ends by itself, and soon, for all other nodes wait to write. */
static chatd_status settle(struct db *db)
{
	const struct store_conf *conf = &db->e->conf;
	char patience[24], statement[24], idle[24];
	if (PQserverVersion(db->c) < 130000) {
		return refuse_server(db, "the server is older than PostgreSQL 13");
	}
	if (strcmp(PQparameterStatus(db->c, "server_encoding"), "UTF8") != 0) {
		return refuse_server(db, "the database is not encoded in UTF8");
	}
	snprintf(patience, sizeof(patience), "%lld", (long long)conf->commit_timeout);
	snprintf(idle, sizeof(idle), "%lld",
			(long long)(conf->commit_timeout < IDLE_MS ? conf->commit_timeout : IDLE_MS));
	snprintf(statement, sizeof(statement), "%lld",
			(long long)(db->writer ? 10 * conf->commit_timeout : conf->read_timeout));
	db_exec(db,
			"SELECT set_config('search_path', '\"' || ?1 || '\"', false),"
			" set_config('synchronous_commit', ?2, false), set_config('lock_timeout', ?3, false),"
			" set_config('statement_timeout', ?4, false),"
			" set_config('idle_in_transaction_session_timeout', ?5, false),"
			" set_config('default_transaction_isolation', 'read committed', false),"
			" set_config('jit', 'off', false)",
			"sssss", str_z(conf->back.schema), str_z(conf->back.synchronous_commit),
			str_z(patience), str_z(statement), str_z(idle));
	if (db->writer) { /* few rows of large tables, always by an index */
		db_exec(db,
				"SELECT set_config('plan_cache_mode', 'force_generic_plan', false),"
				" set_config('enable_seqscan', 'off', false),"
				" set_config('enable_hashjoin', 'off', false),"
				" set_config('enable_mergejoin', 'off', false)",
				"");
	}
	return db->err;
}

static chatd_status dial(struct db *db)
{
	int64_t patience =
			db->writer || db->e->conf.read_timeout > DIAL_MS ? DIAL_MS : db->e->conf.read_timeout;
	db->deadline = clock_ms() + (patience < 1000 ? 1000 : patience);
	db->fatal = db->strange = 0;
	db->c = begin_connect(db);
	if (!db->c) {
		return db_note(db, -ENOMEM, "", "no memory");
	}
	PQsetErrorVerbosity(db->c, PQERRORS_VERBOSE);
	if (PQstatus(db->c) == CONNECTION_BAD) {
		note_refusal(db);
		return db->err;
	}
	if (!finish_connect(db)) {
		return db->err;
	}
	PQsetErrorVerbosity(db->c, PQERRORS_DEFAULT);
	if (PQsetnonblocking(db->c, 1) != 0 || !PQenterPipelineMode(db->c)) {
		return db_note(db, -EIO, "", PQerrorMessage(db->c));
	}
	return settle(db);
}

/* Not all at the same time: a server that comes back has enough to do. */
static int64_t later(struct db *db)
{
	uint32_t r;
	struct dial *d = &db->dial;
	d->delay = d->delay ? 2 * d->delay : AGAIN_MS;
	d->delay = d->delay > AGAIN_MAX_MS ? AGAIN_MAX_MS : d->delay;
	db->e->h->random(&r, sizeof(r));
	return clock_ms() + d->delay / 2 + r % (uint32_t)(d->delay / 2 + 1);
}

chatd_status db_connect(struct db *db)
{
	if (db->c && !db_lost(db)) {
		return 0;
	}
	db_hang_up(db);
	if (clock_ms() < db->dial.next) {
		return db->err ? db->err : db_note(db, -EIO, "", "the database is not there");
	}
	db_clear(db);
	chatd_status rc = dial(db);
	if (rc == 0 && !db->as_it_is) {
		rc = db->writer ? schema_open(db) : schema_at_home(db);
	}
	db->deadline = 0;
	if (rc < 0) {
		db_hang_up(db);
		db->dial.next = later(db);
		return -EIO;
	}
	db->dial = (struct dial){ 0 };
	return 0;
}

int db_lost(struct db *db)
{
	return !db->c || PQstatus(db->c) != CONNECTION_OK;
}

void db_hang_up(struct db *db)
{
	for (size_t i = 0; i < STMT_SLOTS; i++) {
		db->cache[i].prepared = 0;
	}
	db->n_pending = db->first_pending = 0;
	db->saved = db->begin = 0;
	db->epoch[0] = '\0';
	if (db->c) {
		PQfinish(db->c);
	}
	db->c = NULL;
}

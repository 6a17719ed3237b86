/* SPDX-License-Identifier: Apache-2.0 */
/* Brings the schema up to date, under the lock that all nodes take for writing, and loads what
 * the writer keeps in mind. */
#include "../store-sqlite/store.h"

#include "steps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One lock for each schema of a database: "chat", and a number made of its name. */
int64_t schema_lock(const struct db *db)
{
	uint32_t n = 2166136261u;
	for (const char *p = db->e->conf.back.schema; *p; p++) {
		n = (n ^ (unsigned char)*p) * 16777619u;
	}
	return (int64_t)0x63686174 << 32 | n;
}

/* The number of the schema that is there; 0: none. */
static int64_t version_of(struct db *db)
{
	char meta[96];
	int64_t version = 0;
	snprintf(meta, sizeof(meta), "\"%s\".meta", db->e->conf.back.schema);
	db_rows *s = db_query(db, "SELECT to_regclass(?1) IS NOT NULL", "s", str_z(meta));
	int there = db_step(db, s) && db_i64(s, 0);
	db_done(s);
	if (there) {
		version = db_int(db, "SELECT CAST(value AS bigint) FROM meta WHERE key='schema'");
	}
	return version;
}

static void make_schema(struct db *db)
{
	char sql[512];
	const char *name = db->e->conf.back.schema;
	db_rows *s = db_query(db, "SELECT 1 FROM pg_namespace WHERE nspname=?1", "s", str_z(name));
	int there = db_step(db, s);
	db_done(s);
	if (!there) {
		snprintf(sql, sizeof(sql), "CREATE SCHEMA \"%s\"", name);
		db_script(db, sql);
	}
	db_script(db,
			"CREATE TABLE IF NOT EXISTS meta(key text PRIMARY KEY, value text NOT NULL);"
			"INSERT INTO meta VALUES('schema', '0'),"
			" ('epoch', replace(CAST(gen_random_uuid() AS text), '-', '')),"
			" ('client key', replace(CAST(gen_random_uuid() AS text), '-', ''))"
			" ON CONFLICT DO NOTHING");
}

/* All steps in one transaction: whoever is killed in it leaves what was there before. */
static void migrate(struct db *db)
{
	char sql[96];
	db_exec(db, "BEGIN", "");
	db_exec(db, "SET LOCAL statement_timeout=0", "");
	db_exec(db, "SELECT pg_advisory_xact_lock(?1)", "i", schema_lock(db));
	int64_t version = version_of(db);
	if (db->err == 0 && version == 0) {
		make_schema(db);
	}
	for (int64_t i = version; i < STEPS && db->err == 0; i++) {
		db_script(db, steps[i]);
	}
	if (version < STEPS) {
		snprintf(sql, sizeof(sql), "UPDATE meta SET value='%d' WHERE key='schema'", (int)STEPS);
		db_script(db, sql);
	}
	db_exec(db, "COMMIT", "");
}

/* ---- whose data it is --------------------------------------------------------------- */

static void text_of(struct db *db, db_rows *s, char *to, size_t cap)
{
	to[0] = '\0';
	if (db_step(db, s)) {
		struct chatd_str v = db_peek(s, 0);
		snprintf(to, cap, "%.*s", (int)v.n, v.p ? v.p : "");
	}
	db_done(s);
}

static void read_meta(struct db *db, const char *key, char *to, size_t cap)
{
	text_of(db, db_query(db, "SELECT value FROM meta WHERE key=?1", "s", str_z(key)), to, cap);
}

/* Where the data lies, and where it was when a writer looked last; 1: the same. */
struct homes {
	char home[96], noted[96];
};

static int read_homes(struct db *db, struct homes *h)
{
	text_of(db,
			db_query(db,
					"SELECT CAST(system_identifier AS text) || '/' || CAST(d.oid AS text)"
					" FROM pg_control_system(), pg_database d WHERE d.datname=current_database()",
					""),
			h->home, sizeof(h->home));
	read_meta(db, "home", h->noted, sizeof(h->noted));
	return strcmp(h->home, h->noted) == 0;
}

chatd_status schema_at_home(struct db *db)
{
	struct homes h;
	if (read_homes(db, &h) || db->err) {
		return db->err;
	}
	return db_note(
			db, -EIO, "", "the data is new here: it is read once it has an epoch of its own");
}

/* A dump that was put into another database, or the same one made anew: its history may differ
 * from what clients have seen since. */
static void check_home(struct db *db)
{
	struct homes h;
	if (read_homes(db, &h) || db->err) {
		return;
	}
	db_exec(db, "BEGIN", "");
	db_exec(db, "SELECT pg_advisory_xact_lock(?1)", "i", schema_lock(db));
	read_meta(db, "home", h.noted, sizeof(h.noted));
	if (h.noted[0] && strcmp(h.home, h.noted) != 0) {
		db_exec(db,
				"UPDATE meta SET value=replace(CAST(gen_random_uuid() AS text), '-', '')"
				" WHERE key='epoch'",
				"");
		db->e->h->log(db->e->ctx, CHATD_LOG_WARN,
				"the data was brought here from another database: clients will load anew "
				"what they have");
	}
	db_exec(db,
			"INSERT INTO meta VALUES('home', ?1) ON CONFLICT(key) DO UPDATE"
			" SET value=excluded.value",
			"s", str_z(h.home));
	db_exec(db, "COMMIT", "");
}

static void load(struct db *db)
{
	char text[40];
	read_meta(db, "client key", text, sizeof(text));
	for (int i = 0; i < 2 && strlen(text) == 32; i++) {
		char half[17] = "";
		memcpy(half, text + 16 * (size_t)i, 16);
		db->client_key.k[i] = strtoull(half, NULL, 16);
	}
	read_meta(db, "epoch", db->epoch, sizeof(db->epoch));
	if (seals(db->e)) {
		db_exec(db, "INSERT INTO meta VALUES('sealed', 'on') ON CONFLICT DO NOTHING", "");
	}
	text_of(db, db_query(db, "SELECT substring(pg_walfile_name(pg_current_wal_lsn()), 1, 8)", ""),
			db->timeline, sizeof(db->timeline));
}

/* Who cannot read what is encrypted must not add to it. */
static int may_open(struct db *db)
{
	if (db->e->cipher || !db_int(db, "SELECT count(*) FROM meta WHERE key='sealed'")) {
		return 1;
	}
	db->newer = db->strange = 1;
	db_note(db, -EPROTO, "",
			"messages in it are encrypted, and the plugin encrypt is not configured; add encrypt: "
			"with its keys: (to end encryption set seal: false there on all nodes, and remove the "
			"plugin when the log says so)");
	return 0;
}

chatd_status schema_open(struct db *db)
{
	char why[160];
	int64_t version = version_of(db);
	if (db->err == 0 && version < STEPS) {
		db->deadline = clock_ms() + 600000; /* an index of a large table takes its time */
		migrate(db);
		version = db->err ? version : version_of(db);
	}
	if (version > STEPS) {
		db->newer = db->strange = 1;
		snprintf(why, sizeof(why),
				"its schema is number %lld, this program knows up to %d; run the newer program, or "
				"restore a backup made by this one",
				(long long)version, (int)STEPS);
		return db_note(db, -EPROTO, "", why);
	}
	if (db->err == 0 && !may_open(db)) {
		return db->err;
	}
	if (db->err == 0) {
		check_home(db);
		load(db);
	}
	return db->err;
}

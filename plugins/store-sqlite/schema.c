/* SPDX-License-Identifier: Apache-2.0 */
/* The schema, as numbered steps.  A step that has been released never changes: whoever
 * needs another table or column appends a step. */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { APPLICATION_ID = 0x63686174 }; /* "chat": tells our files from others */

static const char *const steps[] = {
	/* 1: who and where */
	("CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;"
	 "INSERT INTO meta VALUES('epoch', lower(hex(randomblob(16))));"
	 "CREATE TABLE account(id TEXT PRIMARY KEY, nickname TEXT NOT NULL, flags INTEGER NOT NULL,"
	 " secret TEXT UNIQUE, client TEXT, created INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	 "CREATE INDEX account_client ON account(client, created) WHERE client IS NOT NULL;"
	 "CREATE INDEX account_name ON account(lower(nickname));"
	 "CREATE INDEX account_lower ON account(lower(id));"
	 "CREATE TABLE room(id TEXT PRIMARY KEY, name TEXT NOT NULL, about TEXT NOT NULL,"
	 " flags INTEGER NOT NULL, slow INTEGER NOT NULL, max_members INTEGER NOT NULL,"
	 " retention INTEGER NOT NULL, created INTEGER NOT NULL, version INTEGER NOT NULL,"
	 " members INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	 "CREATE TABLE member(room TEXT NOT NULL, user TEXT NOT NULL, role INTEGER NOT NULL,"
	 " guest INTEGER NOT NULL, nick TEXT NOT NULL, joined INTEGER NOT NULL,"
	 " muted INTEGER NOT NULL, banned INTEGER NOT NULL, invited INTEGER NOT NULL,"
	 " spoke INTEGER NOT NULL, PRIMARY KEY(room, user)) STRICT, WITHOUT ROWID;"
	 "CREATE INDEX member_user ON member(user, room) WHERE role > 0;"),
	/* 2: conversations.  low: the oldest row that is still on disk, first: that is visible */
	("CREATE TABLE conv(n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, room TEXT, a TEXT, b TEXT,"
	 " first INTEGER NOT NULL, low INTEGER NOT NULL, top INTEGER NOT NULL,"
	 " last_pos INTEGER NOT NULL, msg_pos INTEGER NOT NULL, gone_pos INTEGER NOT NULL,"
	 " wall INTEGER NOT NULL) STRICT;"
	 "CREATE INDEX conv_a ON conv(a, last_pos) WHERE a IS NOT NULL;"
	 "CREATE INDEX conv_b ON conv(b, last_pos) WHERE b IS NOT NULL;"
	 "CREATE INDEX conv_low ON conv(n) WHERE low < first;"
	 "CREATE TABLE msg(pos INTEGER PRIMARY KEY, conv INTEGER NOT NULL, seq INTEGER NOT NULL,"
	 " id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, flags INTEGER NOT NULL,"
	 " sender TEXT NOT NULL, client_id TEXT, wall INTEGER NOT NULL, expires INTEGER,"
	 " target TEXT, reply_to TEXT, thread TEXT, body TEXT NOT NULL, text TEXT,"
	 " UNIQUE(conv, seq)) STRICT;"
	 "CREATE INDEX msg_thread ON msg(thread, seq) WHERE thread IS NOT NULL;"
	 "CREATE INDEX msg_target ON msg(target) WHERE target IS NOT NULL;"
	 "CREATE INDEX msg_expires ON msg(expires) WHERE expires IS NOT NULL;"
	 "CREATE TABLE dedupe(sender TEXT NOT NULL, client_id TEXT NOT NULL, hash BLOB, id TEXT NOT NULL,"
	 " conv INTEGER NOT NULL, seq INTEGER NOT NULL, pos INTEGER NOT NULL, wall INTEGER NOT NULL,"
	 " PRIMARY KEY(sender, client_id)) STRICT, WITHOUT ROWID;"
	 "CREATE INDEX dedupe_wall ON dedupe(wall);"
	 "CREATE TABLE cursor(user TEXT NOT NULL, conv INTEGER NOT NULL, kind INTEGER NOT NULL,"
	 " device TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(user, conv, kind, device))"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX cursor_conv ON cursor(conv, kind, user, seq);"
	 "CREATE TABLE mention(user TEXT NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY(user, pos))"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX mention_pos ON mention(pos);"
	 "CREATE TABLE pin(conv INTEGER NOT NULL, pos INTEGER NOT NULL, wall INTEGER NOT NULL,"
	 " PRIMARY KEY(conv, pos)) STRICT, WITHOUT ROWID;"
	 "CREATE TABLE reaction(pos INTEGER NOT NULL, emoji TEXT NOT NULL, user TEXT NOT NULL,"
	 " PRIMARY KEY(pos, emoji, user)) STRICT, WITHOUT ROWID;"
	 "CREATE TABLE outbox(n INTEGER PRIMARY KEY AUTOINCREMENT, pos INTEGER NOT NULL,"
	 " route TEXT NOT NULL, headers TEXT NOT NULL, body TEXT, owner TEXT,"
	 " held INTEGER NOT NULL) STRICT;"),
	/* 3: search */
	("CREATE VIRTUAL TABLE words USING fts5(text, content='msg', content_rowid='pos',"
	 " tokenize='unicode61 remove_diacritics 2');"),
	/* 4: who is invited, and which guests are somewhere */
	("CREATE INDEX member_invited ON member(user, room) WHERE invited;"
	 "CREATE INDEX member_guest ON member(user) WHERE guest AND role > 0;"),
	/* 5: rows remember the hash of what was sent with their clientId, and are found by a number
	 * made of sender and clientId: see client_number(); up to which row the search index is */
	("ALTER TABLE msg ADD COLUMN hash BLOB;"
	 "ALTER TABLE msg ADD COLUMN client INTEGER;"
	 "CREATE INDEX msg_client ON msg(client) WHERE client IS NOT NULL;"
	 "INSERT INTO meta VALUES('client key', randomblob(16));"
	 "INSERT INTO meta SELECT 'indexed', coalesce(max(pos), 0) FROM msg;"),
	/* 6: registered accounts, their logins and one-time secrets; what one said.  gone: users
	 * whose messages up to a place are still to be erased */
	("ALTER TABLE account ADD COLUMN email TEXT;"
	 "ALTER TABLE account ADD COLUMN password TEXT;"
	 "ALTER TABLE account ADD COLUMN roles TEXT;"
	 "ALTER TABLE account ADD COLUMN avatar TEXT;"
	 "ALTER TABLE account ADD COLUMN banned INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE account ADD COLUMN bits INTEGER NOT NULL DEFAULT 0;"
	 "CREATE UNIQUE INDEX account_email ON account(lower(email)) WHERE email IS NOT NULL;"
	 "CREATE UNIQUE INDEX account_nick ON account(lower(nickname))"
	 " WHERE NOT flags & 1 AND (password IS NOT NULL OR email IS NOT NULL);"
	 "CREATE INDEX account_roles ON account(created, roles) WHERE roles IS NOT NULL;"
	 "CREATE INDEX account_people ON account(lower(nickname)) WHERE NOT flags & 1 AND NOT bits & 2;"
	 "CREATE INDEX account_people_id ON account(lower(id)) WHERE NOT flags & 1 AND NOT bits & 2;"
	 "CREATE TABLE login(id TEXT PRIMARY KEY, user TEXT NOT NULL, device TEXT NOT NULL,"
	 " refresh TEXT NOT NULL, before TEXT, changed INTEGER NOT NULL, created INTEGER NOT NULL,"
	 " used INTEGER NOT NULL, idle INTEGER NOT NULL, expires INTEGER NOT NULL,"
	 " ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	 "CREATE INDEX login_user ON login(user, used);"
	 "CREATE INDEX login_ends ON login(ends);"
	 "CREATE TABLE secret(kind INTEGER NOT NULL, hash TEXT NOT NULL, user TEXT,"
	 " data TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY(kind, hash))"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX secret_user ON secret(user, kind) WHERE user IS NOT NULL;"
	 "CREATE INDEX secret_expires ON secret(expires);"
	 "CREATE TABLE gone(user TEXT PRIMARY KEY, pos INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	 "CREATE INDEX member_past ON member(user) WHERE role = 0;"
	 "CREATE INDEX msg_sender ON msg(sender);"
	 "CREATE INDEX reaction_user ON reaction(user);"),
	/* 7: nodes */
	("CREATE TABLE node(id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, who TEXT NOT NULL,"
	 " started INTEGER NOT NULL, handed INTEGER NOT NULL) STRICT, WITHOUT ROWID;"),
	/* 8: files.  expires NULL: it is part of a message; object_gone: bytes nobody needs */
	("CREATE TABLE blob(hash TEXT PRIMARY KEY, object TEXT NOT NULL UNIQUE, type TEXT NOT NULL,"
	 " size INTEGER NOT NULL, state INTEGER NOT NULL, info TEXT NOT NULL, wall INTEGER NOT NULL)"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX blob_waits ON blob(object) WHERE state = 1;"
	 "CREATE TABLE file(id TEXT PRIMARY KEY, hash TEXT NOT NULL, owner TEXT NOT NULL,"
	 " name TEXT NOT NULL, size INTEGER NOT NULL, wall INTEGER NOT NULL, expires INTEGER)"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX file_hash ON file(hash);"
	 "CREATE INDEX file_owner ON file(owner, size);"
	 "CREATE INDEX file_expires ON file(expires) WHERE expires IS NOT NULL;"
	 "CREATE TABLE attach(file TEXT NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY(file, pos))"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX attach_pos ON attach(pos);"
	 "CREATE TABLE object_gone(object TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;"
	 "CREATE TABLE file_day(user TEXT PRIMARY KEY, day INTEGER NOT NULL, bytes INTEGER NOT NULL)"
	 " STRICT, WITHOUT ROWID;"),
	/* 9: users whose account or logins changed, in the order of the last time; ended: when all
	 * logins did */
	("CREATE TABLE touched(who TEXT PRIMARY KEY, n INTEGER NOT NULL, ended INTEGER NOT NULL)"
	 " STRICT, WITHOUT ROWID;"
	 "CREATE INDEX touched_n ON touched(n);"),
	/* 10: what plugins keep.  Not WITHOUT ROWID: values may be long */
	("CREATE TABLE record(space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, owner TEXT,"
	 " due INTEGER NOT NULL, expires INTEGER, version INTEGER NOT NULL, wall INTEGER NOT NULL,"
	 " PRIMARY KEY(space, key)) STRICT;"
	 "CREATE INDEX record_owner ON record(owner, space, key) WHERE owner IS NOT NULL;"
	 "CREATE INDEX record_due ON record(space, due, key) WHERE due > 0;"
	 "CREATE INDEX record_expires ON record(expires) WHERE expires IS NOT NULL;"),
	/* 11: what is encrypted: body and text in one; of a record, whether its value is */
	("ALTER TABLE msg ADD COLUMN sealed BLOB;"
	 "ALTER TABLE outbox ADD COLUMN sealed BLOB;"
	 "ALTER TABLE record ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;"),
	/* 12: what one said, up to the mark of the search index: see words.c */
	("CREATE TABLE said(sender TEXT NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY(sender, pos))"
	 " STRICT, WITHOUT ROWID;"
	 "INSERT INTO said SELECT sender, pos FROM msg WHERE sender <> '' AND pos <="
	 " (SELECT value FROM meta WHERE key='indexed') ORDER BY sender, pos;"
	 "DROP INDEX msg_sender;"),
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

static chatd_status refuse_file(struct db *db, int64_t version)
{
	struct engine *e = db->e;
	if (version > STEPS) {
		return e->h->fail(e->ctx, -EPROTO,
				"%s: its schema is number %lld, this program knows up to %d; "
				"run the newer program, or restore a backup made by this one",
				e->conf.back.path, (long long)version, (int)STEPS);
	}
	return e->h->fail(e->ctx, -EPROTO,
			"%s: this SQLite file is not chatd's; set path: to another file", e->conf.back.path);
}

static chatd_status run_step(struct db *db, int number)
{
	char version[96];
	snprintf(version, sizeof(version), "PRAGMA user_version=%d; PRAGMA application_id=%d",
			number + 1, (int)APPLICATION_ID);
	db_script(db, "BEGIN IMMEDIATE");
	db_script(db, steps[number]);
	db_script(db, version);
	db_script(db, "COMMIT");
	return db->err;
}

/* What the writer keeps in mind. */
static chatd_status load(struct db *db)
{
	/* The mark of a copy: its history may differ from what clients have seen since. */
	if (db_int(db, "SELECT count(*) FROM meta WHERE key='copy'")) {
		db_script(db,
				"BEGIN IMMEDIATE;"
				"UPDATE meta SET value=lower(hex(randomblob(16))) WHERE key='epoch';"
				"DELETE FROM meta WHERE key='copy'; COMMIT");
	}
	sqlite3_stmt *s = db_query(db, "SELECT value FROM meta WHERE key='epoch'", "");
	if (db_step(db, s)) {
		struct chatd_str epoch = db_peek(s, 0);
		if (epoch.n == EPOCH_CHARS) {
			memcpy(db->epoch, epoch.p, epoch.n);
		}
	}
	db_done(s);
	s = db_query(db, "SELECT value FROM meta WHERE key='client key'", "");
	if (db_step(db, s) && db_peek(s, 0).n == sizeof(db->client_key)) {
		memcpy(&db->client_key, db_peek(s, 0).p, sizeof(db->client_key));
	}
	db_done(s);
	db->indexed = db_int(db, "SELECT value FROM meta WHERE key='indexed'");
	db->next_pos = 1 +
			db_int(db,
					"SELECT max(coalesce((SELECT max(pos) FROM msg), 0),"
					" coalesce((SELECT max(last_pos) FROM conv), 0),"
					" coalesce((SELECT max(msg_pos) FROM conv), 0),"
					" (SELECT value FROM meta WHERE key='indexed'))");
	words_mode(db);
	return db->err;
}

/* Who cannot read it must not add to it. */
static chatd_status refuse_sealed(struct db *db)
{
	struct engine *e = db->e;
	return e->h->fail(e->ctx, -EPROTO,
			"%s: messages in it are encrypted, and the plugin encrypt is not configured; add "
			"encrypt: with its keys: (to end encryption set seal: false there, and remove the "
			"plugin when the log says that it can be removed)",
			e->conf.back.path);
}

chatd_status schema_migrate(struct db *db)
{
	int64_t version = db_int(db, "PRAGMA user_version");
	int64_t app = db_int(db, "PRAGMA application_id");
	int64_t tables = db_int(db, "SELECT count(*) FROM sqlite_master");
	if (db->err) {
		return db->err;
	}
	if (version > STEPS && app == APPLICATION_ID) {
		return refuse_file(db, version);
	}
	if (tables && app != APPLICATION_ID) {
		return refuse_file(db, 0);
	}
	for (int i = (int)version; i < STEPS && db->err == 0; i++) {
		run_step(db, i);
	}
	if (db->err == 0 && !db->e->cipher &&
			db_int(db, "SELECT count(*) FROM meta WHERE key='sealed'")) {
		return refuse_sealed(db);
	}
	return db->err ? db->err : load(db);
}

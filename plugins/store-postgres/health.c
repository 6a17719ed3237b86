/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the database is there, at the start and later. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PING_MS = 2000, LOOK_MS = 20 };

static void pause_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

/* ---- while it runs --------------------------------------------------------------------- */

static void say_down(struct engine *e)
{
	char place[256];
	struct db *db = &e->db;
	atomic_store(&e->stalled, 1);
	if (!e->back.said_down) {
		db_place(db, place, sizeof(place));
		e->h->log(e->ctx, CHATD_LOG_ERROR,
				"%s cannot be used: %s; senders are told STORE_BUSY until it can", place, db->why);
	}
	e->back.said_down = 1;
}

static void say_up(struct engine *e)
{
	atomic_store(&e->stalled, 0);
	if (e->back.said_down) {
		e->h->log(e->ctx, CHATD_LOG_INFO, "the database is there again: writing goes on");
	}
	e->back.said_down = 0;
}

/* A server that ends says so, when nobody asks. */
static void look(struct db *db)
{
	struct pollfd p = { .fd = db->c ? PQsocket(db->c) : -1, .events = POLLIN };
	if (p.fd >= 0 && poll(&p, 1, 0) > 0) {
		db_clear(db);
		if (!PQconsumeInput(db->c)) {
			db_note(db, -EIO, "", PQerrorMessage(db->c));
			db_hang_up(db);
		}
	}
}

/* One that is frozen does not, and one that takes no writes any more does not either. */
static void ping(struct engine *e)
{
	struct db *db = &e->db;
	int64_t now = clock_ms();
	if (now < e->back.next_ping || !db->c) {
		return;
	}
	e->back.next_ping = now + PING_MS;
	db_clear(db);
	db->deadline = now + e->conf.commit_timeout;
	db_rows *s = db_query(db, "SELECT current_setting('transaction_read_only')", "");
	if (db_step(db, s) && str_same(db_peek(s, 0), CHATD_LIT("on"))) {
		db_hang_up(db);
		db_note(db, -EIO, "25006", "it takes no writes: it is read-only, or a standby");
	}
	db_done(s);
}

int back_ready(struct engine *e)
{
	struct db *db = &e->db;
	look(db);
	if (!db_lost(db)) {
		return 1;
	}
	if (db_connect(db) == 0) {
		say_up(e);
		return 1;
	}
	say_down(e);
	pause_ms(LOOK_MS);
	return 0;
}

void back_work(struct engine *e, int idle)
{
	if (idle) {
		ping(e);
	} else {
		e->back.next_ping = clock_ms() + PING_MS;
	}
}

int back_busy(const struct engine *e)
{
	(void)e;
	return 0;
}

void back_end(struct engine *e)
{
	(void)e;
}

/* ---- at the start ------------------------------------------------------------------------ */

/* The server waits for init(), and a signal to end waits with it. */
static int told_to_end(void)
{
	sigset_t set;
	return sigpending(&set) == 0 && (sigismember(&set, SIGTERM) || sigismember(&set, SIGINT));
}

static chatd_status give_up(struct engine *e, const char *place)
{
	struct db *db = &e->db;
	const char *do_what = db->newer ? ""
			: db->fatal || db->strange
			? "; see url: and password:, and that the role may use the database"
			: "; is it running, and can it be reached from here?";
	return e->h->fail(e->ctx, -EIO, "%s: cannot be used: %s%s", place, db->why, do_what);
}

chatd_status back_start(struct engine *e)
{
	char place[256];
	struct db *db = &e->db;
	int64_t end = clock_ms() + e->conf.back.start_timeout, said = 0;
	snprintf(e->back.node, sizeof(e->back.node), "%s", e->h->server_id ? e->h->server_id() : "");
	if (db_open(db, e, 1) < 0) {
		return -ENOMEM;
	}
	db_place(db, place, sizeof(place));
	while (db_connect(db) < 0) {
		if (db->fatal || db->strange || clock_ms() >= end || told_to_end()) {
			return give_up(e, place);
		}
		if (!said) {
			said = 1;
			e->h->log(e->ctx, CHATD_LOG_WARN, "%s: %s; trying again for up to %lld s", place,
					db->why, (long long)(e->conf.back.start_timeout / 1000));
		}
		pause_ms(LOOK_MS);
	}
	return 0;
}

void back_stop(struct engine *e)
{
	db_close(&e->db);
}

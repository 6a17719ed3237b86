/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a store acknowledges, beside SQLite alone.  Prints one line of JSON.
 *   bench_store PLUGIN.so FOLDER IN_FLIGHT SECONDS [OPTION=VALUE]...
 *   bench_store durable FOLDER GROUP SECONDS: a loop that commits GROUP rows at a time into a
 *     table with the three indexes that durable chat cannot do without
 *   bench_store bare FOLDER GROUP SECONDS: the same without any index */
#include "host.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 4 << 20, BODY = 200, SENDERS = 64, ROOMS = 50 };

struct bench {
	struct host *h;
	int64_t n, in_flight;
	uint32_t *us;
};
struct shot {
	struct bench *b;
	int64_t began;
};

static struct chatd_str str(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_answer(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct shot *s = arg;
	(void)a;
	if (rc < 0) {
		fprintf(stderr, "append: %s\n%s", strerror(-rc), host_log());
		exit(1);
	}
	if (s->b->n < SAMPLES) {
		s->b->us[s->b->n] = (uint32_t)(now_us() - s->began);
	}
	s->b->n++;
	s->b->in_flight--;
	free(s);
}

static const char words[] =
		"the quick brown fox jumps over a lazy dog while seven wizards boil heavy water";

/* What the n-th message says: 64 senders, ids in the order of time as chatd makes them, and
 * clientIds as clients make them, at random. */
struct texts {
	char id[40], client_id[40], sender[16], conv[16], body[BODY + 64];
};

static void texts_of(struct texts *t, int64_t i)
{
	uint64_t r = ((uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	r = (r ^ (r >> 31)) * UINT64_C(0xbf58476d1ce4e5b9);
	snprintf(t->id, sizeof(t->id), "0190a5c4-7e1b-7000-8000-%012lld", (long long)i);
	snprintf(t->client_id, sizeof(t->client_id), "%08x-%04x-4000-8000-%012llx", (unsigned)(r >> 32),
			(unsigned)(r >> 16 & 0xffff), (unsigned long long)i);
	snprintf(t->sender, sizeof(t->sender), "sender%lld", (long long)(i % SENDERS));
	snprintf(t->conv, sizeof(t->conv), "room%lld", (long long)(i % ROOMS));
	snprintf(t->body, sizeof(t->body), "{\"id\":\"%s\",\"content\":\"%s\"}", t->id, words);
}

static void shoot(struct bench *b, int64_t i)
{
	struct texts t;
	struct shot *s = malloc(sizeof(*s));
	*s = (struct shot){ b, now_us() };
	texts_of(&t, i);
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.conv = { .room = str(t.conv) },
		.id = str(t.id),
		.sender = str(t.sender),
		.client_id = str(t.client_id),
		.hash = CHATD_LIT("12345678901234567890123456789012"),
		.body = str(t.body),
		.text = CHATD_LIT(words),
		.wall = host_wall() };
	if (b->h->vt->append(b->h->obj, &b->h->workers[0], &r, on_answer, s) < 0) {
		exit(1);
	}
	b->in_flight++;
}

/* ---- a stretch that is measured ---------------------------------------------------- */

struct run {
	int64_t began, cpu;
};

static int64_t cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct run run_begin(void)
{
	return (struct run){ now_us(), cpu_us() };
}

static void run_end(const struct run *run, const char *what, int64_t group, int64_t n)
{
	printf("{\"what\":\"%s\",\"group\":%lld,\"rows\":%lld,\"rows_per_s\":%.0f,\"cpu_us_per_row\":%.2f",
			what, (long long)group, (long long)n, (double)n * 1e6 / (double)(now_us() - run->began),
			(double)(cpu_us() - run->cpu) / (double)n);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* What a message needs at least to be called durable, unique and in order: its row, found by
 * conversation and seq, by id, and by sender and clientId. */
static const char durable_table[] =
		"CREATE TABLE t(pos INTEGER PRIMARY KEY, conv INTEGER NOT NULL, seq INTEGER NOT NULL,"
		" id TEXT NOT NULL UNIQUE, sender TEXT NOT NULL, client_id TEXT NOT NULL,"
		" wall INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE(conv, seq), UNIQUE(sender, client_id))";
static const char durable_row[] =
		"INSERT INTO t(conv, seq, id, sender, client_id, wall, body) VALUES(?, ?, ?, ?, ?, ?, ?)";
static const char bare_table[] = "CREATE TABLE t(pos INTEGER PRIMARY KEY, id TEXT, body TEXT)";
static const char bare_row[] = "INSERT INTO t(id, body) VALUES(?, ?)";

static void loop_row(sqlite3_stmt *s, int64_t i, int durable)
{
	struct texts t;
	texts_of(&t, i);
	int at = durable ? 3 : 1;
	sqlite3_bind_text(s, at, t.id, -1, SQLITE_STATIC);
	if (durable) {
		sqlite3_bind_int64(s, 1, i % ROOMS);
		sqlite3_bind_int64(s, 2, i / ROOMS + 1);
		sqlite3_bind_text(s, 4, t.sender, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 5, t.client_id, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 6, host_wall());
	}
	sqlite3_bind_text(s, durable ? 7 : 2, t.body, -1, SQLITE_STATIC);
	if (sqlite3_step(s) != SQLITE_DONE) {
		exit(1);
	}
	sqlite3_reset(s);
}

/* SQLite alone, in one thread: GROUP rows a commit, synchronous=FULL, checkpoints as often as
 * the store makes them. */
static int loop(const char *folder, int group, int seconds, int durable)
{
	char path[4096];
	sqlite3 *db;
	sqlite3_stmt *s;
	int64_t n = 0;
	snprintf(path, sizeof(path), "%s/loop.db", folder);
	remove(path);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
			sqlite3_exec(db,
					"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32768;"
					"PRAGMA wal_autocheckpoint=2000",
					NULL, NULL, NULL) != SQLITE_OK ||
			sqlite3_exec(db, durable ? durable_table : bare_table, NULL, NULL, NULL) != SQLITE_OK ||
			sqlite3_prepare_v2(db, durable ? durable_row : bare_row, -1, &s, NULL) != SQLITE_OK) {
		fprintf(stderr, "%s\n", sqlite3_errmsg(db));
		return 1;
	}
	struct run run = run_begin();
	while (now_us() < run.began + (int64_t)seconds * 1000000) {
		sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
		for (int i = 0; i < group; i++) {
			loop_row(s, n++, durable);
		}
		if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
			return 1;
		}
	}
	run_end(&run, durable ? "durable loop" : "bare loop", group, n);
	printf("}\n");
	sqlite3_finalize(s);
	sqlite3_close(db);
	return 0;
}

static int store(char **argv, int64_t want, int64_t seconds)
{
	static uint32_t us[SAMPLES];
	int64_t i = 0;
	struct bench b = { .us = us };
	b.h = host_open(argv[1], argv[2], (const char *const *)(void *)(argv + 5));
	if (b.h->rc < 0) {
		fprintf(stderr, "%s", host_log());
		return 1;
	}
	struct run run = run_begin();
	while (now_us() < run.began + seconds * 1000000) {
		while (b.in_flight < want) {
			shoot(&b, i++);
		}
		host_turn(&b.h->workers[0], 1000);
	}
	while (b.in_flight > 0) {
		host_turn(&b.h->workers[0], 1000);
	}
	run_end(&run, "store", want, b.n);
	int64_t n = b.n < SAMPLES ? b.n : SAMPLES;
	qsort(us, (size_t)n, sizeof(*us), by_size);
	printf(",\"p50_us\":%u,\"p99_us\":%u}\n", us[n / 2], us[n * 99 / 100]);
	host_close(b.h);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr,
				"usage: bench_store PLUGIN.so|durable|bare FOLDER GROUP SECONDS [OPTION]...\n");
		return 2;
	}
	int64_t want = strtol(argv[3], NULL, 10), seconds = strtol(argv[4], NULL, 10);
	int durable = strcmp(argv[1], "durable") == 0;
	if (durable || strcmp(argv[1], "bare") == 0) {
		return loop(argv[2], (int)want, (int)seconds, durable);
	}
	return store(argv, want, seconds);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a store acknowledges.  usage: bench_store PLUGIN.so FOLDER IN_FLIGHT SECONDS
 * [OPTION=VALUE]...; or bench_store bare FOLDER GROUP SECONDS: a loop of SQLite alone that
 * commits GROUP rows at a time into one table, for comparison.
 * Prints appends a second, answers in microseconds, and syncs per append by /proc. */
#include "host.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 4 << 20, BODY = 200 };

struct bench {
	struct host *h;
	int64_t n, in_flight;
	uint32_t *us;
};
struct shot {
	struct bench *b;
	int64_t began;
};

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

static void shoot(struct bench *b, int64_t i)
{
	char id[40], conv[16], body[BODY + 64];
	struct shot *s = malloc(sizeof(*s));
	*s = (struct shot){ b, now_us() };
	snprintf(id, sizeof(id), "0190a5c4-7e1b-7000-8000-%012lld", (long long)i);
	snprintf(conv, sizeof(conv), "room%lld", (long long)(i % 50));
	int n = snprintf(body, sizeof(body), "{\"id\":\"%s\",\"content\":\"%s\"}", id, words);
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.conv = { .room = chatd_str_of(conv, strlen(conv)) },
		.id = chatd_str_of(id, strlen(id)),
		.sender = CHATD_LIT("ann"),
		.client_id = chatd_str_of(id, strlen(id)),
		.hash = CHATD_LIT("12345678"),
		.body = chatd_str_of(body, (size_t)n),
		.text = CHATD_LIT(words),
		.wall = host_wall() };
	if (b->h->vt->append(b->h->obj, &b->h->workers[0], &r, on_answer, s) < 0) {
		exit(1);
	}
	b->in_flight++;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int bare(const char *folder, int group, int seconds)
{
	char path[4096];
	sqlite3 *db;
	sqlite3_stmt *s;
	int64_t n = 0, end;
	snprintf(path, sizeof(path), "%s/bare.db", folder);
	remove(path);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
			sqlite3_exec(db,
					"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
					"CREATE TABLE t(n INTEGER PRIMARY KEY, id TEXT, body TEXT)",
					NULL, NULL, NULL) != SQLITE_OK ||
			sqlite3_prepare_v2(db, "INSERT INTO t(id, body) VALUES(?, ?)", -1, &s, NULL) !=
					SQLITE_OK) {
		fprintf(stderr, "%s\n", sqlite3_errmsg(db));
		return 1;
	}
	int64_t began = now_us();
	end = began + (int64_t)seconds * 1000000;
	while (now_us() < end) {
		sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
		for (int i = 0; i < group; i++, n++) {
			sqlite3_bind_text(s, 1, "0190a5c4-7e1b-7000-8000-000000000000", 36, SQLITE_STATIC);
			sqlite3_bind_text(s, 2, words, sizeof(words) - 1, SQLITE_STATIC);
			sqlite3_step(s);
			sqlite3_reset(s);
		}
		sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	}
	printf("bare, groups of %d: %.0f rows/s\n", group,
			(double)n * 1e6 / (double)(now_us() - began));
	sqlite3_finalize(s);
	sqlite3_close(db);
	return 0;
}

int main(int argc, char **argv)
{
	static uint32_t us[SAMPLES];
	if (argc < 5) {
		fprintf(stderr, "usage: bench_store PLUGIN.so|bare FOLDER IN_FLIGHT SECONDS [OPTION]...\n");
		return 2;
	}
	int64_t want = strtol(argv[3], NULL, 10), seconds = strtol(argv[4], NULL, 10), i = 0;
	if (strcmp(argv[1], "bare") == 0) {
		return bare(argv[2], (int)want, (int)seconds);
	}
	struct bench b = { .us = us };
	b.h = host_open(argv[1], argv[2], (const char *const *)(void *)(argv + 5));
	if (b.h->rc < 0) {
		fprintf(stderr, "%s", host_log());
		return 1;
	}
	int64_t began = now_us(), end = began + seconds * 1000000;
	while (now_us() < end) {
		while (b.in_flight < want) {
			shoot(&b, i++);
		}
		host_turn(&b.h->workers[0], 1000);
	}
	int64_t took = now_us() - began, n = b.n < SAMPLES ? b.n : SAMPLES;
	while (b.in_flight > 0) {
		host_turn(&b.h->workers[0], 1000);
	}
	qsort(us, (size_t)n, sizeof(*us), by_size);
	printf("%lld in flight: %.0f appends/s, answer p50 %u us, p99 %u us\n", (long long)want,
			(double)n * 1e6 / (double)took, us[n / 2], us[n * 99 / 100]);
	host_close(b.h);
	return 0;
}

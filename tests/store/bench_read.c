/* SPDX-License-Identifier: Apache-2.0 */
/* What reading costs in a large store.
 *   bench_read PLUGIN.so FOLDER fill ROWS: writes so many messages into one room, and 10,000 into
 *     another one, through the store itself
 *   bench_read PLUGIN.so FOLDER read: pages of 50 and searches; prints one line of JSON: the median
 *     time of an answer, and the CPU of a call, in microseconds */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SMALL = 10000, IN_FLIGHT = 2000, TIMES = 200, VOCABULARY = 5000, WORDS = 12 };

static int64_t ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct chatd_str str(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- filling ------------------------------------------------------------------------ */

static int64_t in_flight;

static void on_answer(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)arg;
	(void)a;
	if (rc < 0) {
		fprintf(stderr, "append: %s\n%s", strerror(-rc), host_log());
		exit(1);
	}
	in_flight--;
}

static const char *const syllables[] = { "ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu",
	"da", "fe", "gi", "ho", "ju", "pa", "wi" };
enum { SYLLABLES = sizeof(syllables) / sizeof(syllables[0]) };

/* Words of a vocabulary; "often" in every second message, "seldom" in one of 100,000. */
static void write_text(char *to, size_t cap, uint64_t i)
{
	uint64_t mix = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	size_t n = (size_t)snprintf(
			to, cap, "%s%s", i % 2 ? "often " : "", i % 100000 == 77 ? "seldom " : "");
	for (int w = 0; w < WORDS; w++) {
		mix = mix * UINT64_C(6364136223846793005) + 1442695040888963407u;
		uint64_t k = (mix >> 33) % VOCABULARY;
		n += (size_t)snprintf(to + n, cap - n, "%s%s%s ", syllables[k % SYLLABLES],
				syllables[k / SYLLABLES % SYLLABLES], syllables[k / SYLLABLES / SYLLABLES]);
	}
}

static void append(struct host *h, const char *room, int64_t i)
{
	char id[48], text[512], body[640];
	write_text(text, sizeof(text), (uint64_t)i);
	snprintf(id, sizeof(id), "%s-0190a5c4-7e1b-%012lld", room, (long long)i);
	snprintf(body, sizeof(body), "{\"id\":\"%s\",\"content\":\"%s\"}", id, text);
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.conv = { .room = str(room) },
		.id = str(id),
		.sender = CHATD_LIT("ann"),
		.client_id = str(id),
		.hash = CHATD_LIT("12345678"),
		.body = str(body),
		.text = str(text),
		.wall = host_wall() };
	if (h->vt->append(h->obj, &h->workers[0], &r, on_answer, NULL) < 0) {
		exit(1);
	}
	in_flight++;
}

static int fill(struct host *h, int64_t rows)
{
	int64_t began = ns(CLOCK_MONOTONIC);
	for (int64_t i = 0; i < rows + SMALL; i++) {
		append(h, i < rows ? "big" : "small", i);
		while (in_flight >= IN_FLIGHT) {
			host_turn(&h->workers[0], 1000);
		}
	}
	while (in_flight > 0) {
		host_turn(&h->workers[0], 1000);
	}
	printf("{\"rows\":%lld,\"seconds\":%.1f}\n", (long long)(rows + SMALL),
			(double)(ns(CLOCK_MONOTONIC) - began) / 1e9);
	return 0;
}

/* ---- reading ------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

struct question {
	const char *name;
	struct chatd_store_page page;
	struct chatd_store_search search;
	size_t want; /* rows, at least */
};

static struct kept *ask(struct host *h, const struct question *q)
{
	return q->search.struct_size ? ASK(h, search, q->search) : ASK(h, page, q->page);
}

static void measure(struct host *h, const struct question *q, int last)
{
	static int64_t took[TIMES];
	int64_t cpu = 0;
	for (int i = -5; i < TIMES; i++) {
		int64_t began = ns(CLOCK_MONOTONIC);
		cpu = i == 0 ? ns(CLOCK_PROCESS_CPUTIME_ID) : cpu;
		struct kept *k = ask(h, q);
		if (i >= 0) {
			took[i] = ns(CLOCK_MONOTONIC) - began;
		}
		if (k->rc < 0 || k->a.n_messages < q->want) {
			fprintf(stderr, "%s: %d, %zu rows\n", q->name, k->rc, k->a.n_messages);
			exit(1);
		}
	}
	cpu = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	answers_free();
	qsort(took, TIMES, sizeof(took[0]), by_size);
	printf("\"%s\":{\"p50_us\":%.1f,\"cpu_us\":%.1f}%s", q->name, (double)took[TIMES / 2] / 1000,
			(double)cpu / TIMES / 1000, last ? "}\n" : ",");
}

static int64_t top_of(struct host *h, const char *room)
{
	struct chatd_store_conv_key key = { .struct_size = sizeof(key), .conv = { .room = str(room) } };
	return ASK(h, top, key)->a.seq;
}

#define PAGE(room_, at)                                       \
	.page = { .struct_size = sizeof(struct chatd_store_page), \
		.conv = { .room = room_ },                            \
		.limit = 50,                                          \
		.after = -1,                                          \
		.before = (at) },                                     \
	.want = 50
#define SEARCH(words)                                             \
	.search = { .struct_size = sizeof(struct chatd_store_search), \
		.query = CHATD_LIT(words),                                \
		.limit = 50 },                                            \
	.want = 1

static int read_all(struct host *h)
{
	int64_t big = top_of(h, "big"), small = top_of(h, "small");
	nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL); /* the last words are being indexed */
	const struct question all[] = {
		{ "small end", PAGE(CHATD_LIT("small"), small + 1) },
		{ "small middle", PAGE(CHATD_LIT("small"), small / 2) },
		{ "small start", PAGE(CHATD_LIT("small"), 51) },
		{ "big end", PAGE(CHATD_LIT("big"), big + 1) },
		{ "big middle", PAGE(CHATD_LIT("big"), big / 2) },
		{ "big start", PAGE(CHATD_LIT("big"), 51) },
		{ "rare word", SEARCH("seldom") },
		{ "frequent word", SEARCH("often") },
		{ "two words", SEARCH("often kelimo") },
		{ "prefix", SEARCH("kel") },
	};
	const size_t n = sizeof(all) / sizeof(all[0]);
	printf("{\"rows\":%lld,", (long long)(big + small));
	for (size_t i = 0; i < n; i++) {
		measure(h, &all[i], i + 1 == n);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const fast[] = { "synchronous=normal", "commit_rows=2000", NULL };
	int filling = argc == 5 && strcmp(argv[3], "fill") == 0;
	if (!filling && !(argc == 4 && strcmp(argv[3], "read") == 0)) {
		fprintf(stderr, "usage: bench_read PLUGIN.so FOLDER fill ROWS | read\n");
		return 2;
	}
	struct host *h = host_open(argv[1], argv[2], filling ? fast : NULL);
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
		return 1;
	}
	int rc = filling ? fill(h, strtol(argv[4], NULL, 10)) : read_all(h);
	host_close(h);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the figures of each plugin cost: of a request at its route or a timer, and of a piece of
 * mem_alloc(), with them and without, in turns.
 *
 * usage: bench-figures [FILE.so ...]    (plugins whose code is looked for; called from none of them)
 *
 * CPU time of the worker's thread, as bench-chain. */
#include "base/log.h"
#include "chat/chat.h"
#include "host/host.h"
#include "host/lent.h"
#include "host/memory.h"
#include "loop/worker.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CALLS = 200000, ROUNDS = 25, FILES_MAX = 100, PIECE = 64 };

enum { BARE_CALL, COUNTED_CALL, BARE_PIECE, COUNTED_PIECE, KINDS };

struct bench {
	int kind;
	chatd_ctx ctx;
	double ns;
};

static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void handler(void *arg)
{
	++*(int *)arg;
}

/* Through a pointer, as a plugin's code is. */
static void (*volatile the_handler)(void *) = handler;
static void *volatile kept;

static void one(struct bench *b, chatd_worker *w, int *calls)
{
	struct chatd_plugins_call call = { .what = "GET /api/bench" };
	switch (b->kind) {
	case BARE_CALL:
		the_handler(calls);
		break;
	case COUNTED_CALL:
		lent_enter(NULL, w, &b->ctx, &call);
		the_handler(calls);
		lent_leave(NULL, w, &call);
		break;
	case BARE_PIECE:
		kept = calloc(1, PIECE);
		free(kept);
		break;
	default:
		kept = memory_alloc(PIECE);
		memory_free(kept);
		break;
	}
}

static void measure(chatd_worker *w, void *arg)
{
	struct bench *b = arg;
	int calls = 0;
	double begin = cpu_ns();
	for (int i = 0; i < CALLS; i++) {
		one(b, w, &calls);
	}
	b->ns = (cpu_ns() - begin) / CALLS;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void print(const char *what, const double *with, const double *without)
{
	double more[ROUNDS];
	for (int i = 0; i < ROUNDS; i++) {
		more[i] = with[i] - without[i];
	}
	qsort(more, ROUNDS, sizeof(*more), by_value);
	printf("%-34s + %6.1f ns (%.1f..%.1f, least %.1f)\n", what, more[ROUNDS / 2], more[ROUNDS / 4],
			more[3 * ROUNDS / 4], more[0]);
}

static size_t know(int argc, char **argv)
{
	static struct module all[FILES_MAX];
	static const struct module *list[FILES_MAX];
	size_t n = 0;
	for (int i = 1; i < argc && n < FILES_MAX; i++) {
		char *path = realpath(argv[i], NULL);
		if (path && dlopen(path, RTLD_LAZY | RTLD_LOCAL)) {
			all[n].path = path;
			list[n] = &all[n];
			n++;
		} else {
			fprintf(stderr, "bench-figures: %s cannot be loaded\n", argv[i]);
			free(path);
		}
	}
	memory_know(list, n);
	return n;
}

int main(int argc, char **argv)
{
	static double ns[KINDS][ROUNDS];
	const struct loop_conf conf = { .workers = 1 };
	const struct chat_conf chat_conf = {
		.max_subscriptions = 1, .max_suspended = 8, .soft_queue = 1 << 20
	};
	size_t n = know(argc, argv);
	log_open(CHATD_LOG_ERROR, 0); /* the watchdog is right, and not wanted here */
	struct loop *loop = loop_create(&conf);
	struct chat *chat = chat_create(&chat_conf, loop);
	struct chat_count count = { 0 };
	struct bench b = { .ctx = { .name = "bench" } };
	if (chat_start(chat) < 0) {
		abort();
	}
	chat->workers[0].counts = &count;
	chat->workers[0].n_counts = 1;
	loop_start(loop);
	for (int i = 0; i < ROUNDS; i++) {
		for (b.kind = 0; b.kind < KINDS; b.kind++) {
			loop_run_all(loop, measure, &b);
			ns[b.kind][i] = b.ns;
		}
	}
	if (chat_count_calls(&count) != (int64_t)CALLS * ROUNDS) {
		abort();
	}
	print("a request or a timer, counted", ns[COUNTED_CALL], ns[BARE_CALL]);
	char what[64];
	snprintf(what, sizeof(what), "mem_alloc + mem_free, %zu plugins", n);
	print(what, ns[COUNTED_PIECE], ns[BARE_PIECE]);
	loop_stop(loop);
	loop_join(loop);
	chat->workers[0].counts = NULL;
	chat_destroy(chat);
	loop_destroy(loop);
	return 0;
}

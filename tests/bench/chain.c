/* SPDX-License-Identifier: Apache-2.0 */
/* What a walk along a chain of N empty hooks costs on a worker: with the numbers that are kept of
 * each plugin and without them, in turns.
 *
 * usage: bench-chain [N]    (default 10)
 *
 * One call is made beforehand per walk, as a message needs it in any case; its cost is measured
 * alone and taken off.  CPU time of the worker's thread, so that others on the machine matter less. */
#include "base/log.h"
#include "chat/chat.h"
#include "loop/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WALKS = 200000, ROUNDS = 25, HOOKS_MAX = 64 };

struct bench {
	struct chat *chat;
	struct chat_count *counts;
	int with_counts;
	const struct chain *chain;
	double ns;
};

static chatd_verdict empty(chatd_call *call, void *self, void *wself)
{
	(void)call;
	(void)self;
	(void)wself;
	return CHATD_NEXT;
}

static void on_end(chatd_call *call, void *arg)
{
	*(chatd_verdict *)arg = call_verdict(call);
}

static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void measure(chatd_worker *w, void *arg)
{
	struct bench *b = arg;
	struct chat_worker *cw = chat_at(w);
	chatd_verdict v = 0;
	cw->counts = b->with_counts ? b->counts : NULL;
	double begin = cpu_ns();
	for (int i = 0; i < WALKS; i++) {
		chatd_call *c = call_create(cw, NULL, NULL, NULL);
		call_walk(c, b->chain, NULL, on_end, &v);
	}
	b->ns = (cpu_ns() - begin) / WALKS;
	cw->counts = NULL;
	if (v != CHATD_ACCEPT) {
		abort();
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void print(const char *what, double *ns)
{
	qsort(ns, ROUNDS, sizeof(*ns), by_value);
	printf("%-34s %7.1f ns a message (%.1f..%.1f, least %.1f)\n", what, ns[ROUNDS / 2],
			ns[ROUNDS / 4], ns[3 * ROUNDS / 4], ns[0]);
}

static struct chat *make_chat(struct loop *loop, size_t n)
{
	const struct chat_conf conf = {
		.max_subscriptions = 1, .max_suspended = 8, .soft_queue = 1 << 20
	};
	struct chat *chat = chat_create(&conf, loop);
	struct chain *chain = &chat->chains[chatd_hook_message_in];
	chain->hooks = calloc(n + 1, sizeof(*chain->hooks));
	for (; chain->n < n; chain->n++) {
		chain->hooks[chain->n] = (struct chain_hook){
			.fn = empty, .inst = (uint32_t)chain->n, .timeout_ms = 1000, .who = "bench"
		};
	}
	if (chat_start(chat) < 0) {
		abort();
	}
	return chat;
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 10;
	const struct loop_conf conf = { .workers = 1 };
	double none[ROUNDS], plain[ROUNDS], counted[ROUNDS];
	if (n == 0 || n > HOOKS_MAX) {
		fprintf(stderr, "usage: bench-chain [1 to %d]\n", HOOKS_MAX);
		return 64;
	}
	log_open(CHATD_LOG_ERROR, 0); /* the watchdog is right, and not wanted here */
	struct loop *loop = loop_create(&conf);
	struct bench b = { .chat = make_chat(loop, n), .counts = calloc(n, sizeof(*b.counts)) };
	loop_start(loop);
	for (int i = 0; i < ROUNDS; i++) {
		b.with_counts = 0;
		b.chain = chat_chain(b.chat, chatd_hook_request);
		loop_run_all(loop, measure, &b);
		none[i] = b.ns;
		b.chain = chat_chain(b.chat, chatd_hook_message_in);
		loop_run_all(loop, measure, &b);
		plain[i] = b.ns - none[i];
		b.with_counts = 1;
		loop_run_all(loop, measure, &b);
		counted[i] = b.ns - none[i];
	}
	print("a call without hooks", none);
	char what[64];
	snprintf(what, sizeof(what), "+ %zu empty hooks, not counted", n);
	print(what, plain);
	snprintf(what, sizeof(what), "+ %zu empty hooks, counted", n);
	print(what, counted);
	loop_stop(loop);
	loop_join(loop);
	chat_destroy(b.chat);
	free(b.counts);
	loop_destroy(loop);
	return 0;
}

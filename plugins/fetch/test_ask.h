/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file test_ask.h
 * @brief To ask the plugin for something in a test, and to wait for the answer.
 */
#ifndef TEST_ASK_H
#define TEST_ASK_H

#include <chatd/fetch.h>
#include <chatd/kit.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

enum { FDS = 256 };

extern const struct chatd_plugin chatd_plugin_under_test;

static inline void wait_ms(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

struct got {
	int n;
	chatd_status rc, at_once;
	int32_t status;
	int64_t retry_after;
	char body[8192], why[256];
};

struct ask {
	struct chatd_service s;
	struct chatd_fetch_request q;
	struct kit *k;
	struct got *got;
};

static inline void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *a)
{
	struct got *g = arg;
	g->n++;
	g->rc = rc;
	g->status = a->status;
	g->retry_after = a->retry_after;
	snprintf(g->body, sizeof(g->body), "%.*s", (int)a->body.n, a->body.p ? a->body.p : "");
	snprintf(g->why, sizeof(g->why), "%.*s", (int)a->why.n, a->why.p ? a->why.p : "");
}

static inline void do_ask(void *arg)
{
	struct ask *a = arg;
	const struct chatd_fetch *f = a->s.vt;
	a->got->at_once = f->fetch(a->s.obj, kit_worker(a->k, 0), &a->q, on_answer, a->got);
	assert_int_equal(a->got->n, 0); /* never inside */
}

static inline void ask(struct kit *k, const struct chatd_fetch_request *q, struct got *g)
{
	struct ask a = { .s = kit_provided(k, CHATD_FETCH), .q = *q, .k = k, .got = g };
	*g = (struct got){ .n = 0 };
	kit_on(k, 0, do_ask, &a);
}

/* The kit has no sockets: those of the plugin are looked at here, and time is the real one. */
static inline void pump(struct kit *k)
{
	struct pollfd p[FDS];
	for (int fd = 0; fd < FDS; fd++) {
		p[fd] = (struct pollfd){ .fd = fd + 3, .events = POLLIN | POLLOUT };
	}
	(void)poll(p, FDS, 1);
	for (int fd = 0; fd < FDS; fd++) {
		int in = p[fd].revents & (POLLIN | POLLHUP | POLLERR), out = p[fd].revents & POLLOUT;
		if (!(p[fd].revents & POLLNVAL) && (in || out)) {
			kit_fd_ready(k, fd + 3, (in ? 1u : 0u) | (out ? 2u : 0u));
		}
	}
	wait_ms(2);
	kit_advance(k, 3);
}

static inline void until(struct kit *k, const struct got *g)
{
	for (int i = 0; i < 30000 && g->n == 0 && g->at_once == 0; i++) {
		pump(k);
	}
}

#endif

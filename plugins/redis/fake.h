/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fake.h
 * @brief For tests of plugins that ask Redis: one that keeps the questions, answers them when the
 *        test says so, and knows how many nodes there are.
 */
#ifndef REDIS_FAKE_H
#define REDIS_FAKE_H

#include <chatd/kit.h>
#include <chatd/presence.h>
#include <chatd/redis.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { CALLS = 32, WORDS = 28 };

struct call {
	chatd_redis_fn *fn;
	void *arg;
	int32_t worker;
	size_t n_keys, n;
	char argv[WORDS][100];
};

/* .k is the test's to set. */
static struct fake_redis {
	struct kit *k;
	int32_t down, nodes;
	struct call calls[CALLS];
	size_t n;
} redis;

static chatd_status f_script(void *obj, const char *text, uint32_t *ret_id)
{
	(void)obj;
	assert_non_null(text);
	*ret_id = 1;
	return 0;
}

static chatd_status f_call(void *obj, chatd_worker *w, const struct chatd_redis_command *c,
		chatd_redis_fn *fn, void *arg)
{
	(void)obj;
	if (redis.down || redis.n == CALLS) {
		return -EAGAIN;
	}
	struct call *call = &redis.calls[redis.n++];
	*call = (struct call){ .fn = fn, .arg = arg, .n_keys = c->n_keys, .n = c->n };
	call->worker = kit_host(redis.k)->worker_index(w);
	for (size_t i = 0; i < c->n && i < WORDS; i++) {
		snprintf(call->argv[i], sizeof(call->argv[i]), "%.*s", (int)c->argv[i].n, c->argv[i].p);
	}
	return 0;
}

static int32_t f_is_up(void *obj)
{
	(void)obj;
	return !redis.down;
}

static struct chatd_str f_prefix(void *obj)
{
	(void)obj;
	return CHATD_LIT("t:");
}

/* Not hidden at all, so that a test can see what it was; blanks become dashes. */
static chatd_status f_hide(void *obj, struct chatd_str text, char ret[CHATD_REDIS_HIDDEN])
{
	(void)obj;
	snprintf(ret, CHATD_REDIS_HIDDEN, "%.*s", (int)text.n, text.p);
	for (char *c = ret; *c; c++) {
		*c = *c == ' ' ? '-' : *c;
	}
	return 0;
}

static const struct chatd_redis redis_vt = {
	.struct_size = sizeof(redis_vt),
	.script = f_script,
	.call = f_call,
	.is_up = f_is_up,
	.prefix = f_prefix,
	.hide = f_hide,
};

static int32_t f_live(void *obj)
{
	(void)obj;
	return redis.nodes;
}

static const struct chatd_presence presence_vt = {
	.struct_size = sizeof(presence_vt),
	.live = f_live,
};

/* ---- answering ---------------------------------------------------------------------------- */

struct answer {
	struct call call;
	chatd_status rc;
	const struct chatd_redis_reply *r;
};

static void on_worker(void *arg)
{
	struct answer *a = arg;
	a->call.fn(a->call.arg, a->rc, a->r);
}

/* The oldest question. */
static void answer(chatd_status rc, const struct chatd_redis_reply *r)
{
	if (redis.n == 0 && kit_failing(redis.k)) {
		return;
	}
	assert_true(redis.n > 0);
	struct answer a = { redis.calls[0], rc, r };
	memmove(&redis.calls[0], &redis.calls[1], --redis.n * sizeof(redis.calls[0]));
	kit_on(redis.k, a.call.worker, on_worker, &a);
}

#endif

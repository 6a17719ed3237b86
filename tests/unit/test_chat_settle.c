/* SPDX-License-Identifier: Apache-2.0 */
/* A SUBSCRIBE is answered when the router says that other nodes' messages come. */
#include "base/str.h"
#include "chat_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* What a router is asked to wait for, and what it answers in the end; on all workers. */
struct settler {
	pthread_mutex_t lock;
	chatd_status now; /* negative: it waits for nothing */
	int asked, n;
	struct {
		chatd_worker *w;
		void (*done)(void *arg, chatd_status rc);
		void *arg;
	} waits[16];
	chatd_status rc;
};

static chatd_status on_settle(void *self, chatd_worker *w, struct chatd_str dest,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	struct settler *x = self;
	assert_true(worker_is_here(w));
	assert_true(str_starts(dest, CHATD_LIT("/topic/")));
	pthread_mutex_lock(&x->lock);
	chatd_status rc = x->now;
	x->asked++;
	if (rc == 0) {
		assert_true(x->n < 16);
		x->waits[x->n].w = w;
		x->waits[x->n].done = done;
		x->waits[x->n++].arg = arg;
	}
	pthread_mutex_unlock(&x->lock);
	return rc;
}

static int asked_of(struct settler *x)
{
	pthread_mutex_lock(&x->lock);
	int n = x->asked;
	pthread_mutex_unlock(&x->lock);
	return n;
}

struct to_settle {
	struct settler *x;
	chatd_worker *w;
};

static void settle_some(void *arg)
{
	const struct to_settle *t = arg;
	struct settler *x = t->x;
	for (int i = 0; i < x->n; i++) {
		if (x->waits[i].w == t->w) {
			x->waits[i].done(x->waits[i].arg, x->rc);
		}
	}
}

static void settle_all(struct rig *r, struct settler *x, chatd_status rc)
{
	x->rc = rc;
	for (int32_t i = 0; i < r->n; i++) {
		struct to_settle t = { .x = x, .w = r->chat->workers[i].w };
		rig_on(r, i, settle_some, &t);
	}
	x->n = 0;
}

/* Subscribed, and not answered yet. */
static int answers(struct rig_client *c)
{
	rig_settle(c->r);
	pthread_mutex_lock(&c->r->lock);
	int n = c->done;
	pthread_mutex_unlock(&c->r->lock);
	return n;
}

static void waits_for_the_router(int workers)
{
	static const struct chatd_router router = { .struct_size = sizeof(router),
		.settle = on_settle };
	struct settler x = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct rig *r = rig_create(workers);
	struct rig_client *c[4];
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_prefix(r, "/queue/", CHATD_DEST_QUEUE, 10);
	r->chat->router = router;
	r->chat->router_self = &x;
	rig_start(r);
	for (int i = 0; i < 4; i++) {
		c[i] = rig_open(r, i % workers, "u");
		rig_subscribe(c[i], "/queue/q", CHATD_ACK_AUTO); /* nothing to wait for */
		rig_subscribe(c[i], "/user/queue/x", CHATD_ACK_AUTO);
	}
	assert_int_equal(asked_of(&x), 0);
	const int n = answers(c[0]);
	/* Everybody waits, not the first one alone. */
	for (int i = 0; i < 3; i++) {
		rig_subscribe_later(c[i], "/topic/t");
		assert_int_equal(answers(c[i]), n);
	}
	assert_int_equal(asked_of(&x), 3);
	settle_all(r, &x, -ETIMEDOUT); /* it is answered all the same, and asked again */
	rig_answer(c[2], n + 1);
	rig_subscribe_later(c[3], "/topic/t");
	assert_int_equal(answers(c[3]), n);
	assert_int_equal(asked_of(&x), 4);
	settle_all(r, &x, 0);
	rig_answer(c[3], n + 1);
	/* It is known now, until nobody wants it. */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(c[i]->verdict, CHATD_ACCEPT);
		assert_int_equal(rig_unsubscribe(c[i], "/topic/t"), 0);
		rig_settle(r);
		if (i < 3) {
			rig_subscribe(c[i], "/topic/t", CHATD_ACK_AUTO);
		}
	}
	assert_int_equal(asked_of(&x), 4);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig_unsubscribe(c[i], "/topic/t"), 0);
	}
	rig_settle(r);
	x.now = -EAGAIN;
	rig_subscribe(c[0], "/topic/t", CHATD_ACK_AUTO);
	assert_int_equal(asked_of(&x), 5);
	/* Who has gone meanwhile is no trouble. */
	x.now = 0;
	rig_subscribe_later(c[1], "/topic/gone");
	assert_int_equal(answers(c[1]), n + 2);
	rig_close(c[1]);
	settle_all(r, &x, 0);
	rig_destroy(r);
}

static void a_subscribe_waits_for_what_other_nodes_publish(void **state)
{
	(void)state;
	waits_for_the_router(1);
	waits_for_the_router(4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_subscribe_waits_for_what_other_nodes_publish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

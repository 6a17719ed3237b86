/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "chat/hold.h"
#include "chat_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* A plugin that replays: it holds every subscription and does the rest when told to. */
struct replay {
	chatd_worker *w;
	struct chatd_hold hold;
	int live, drops;
	uint64_t from, to, after;
	chatd_status rc;
};

static void on_live(void *arg, chatd_worker *w, struct chatd_hold hold)
{
	struct replay *p = arg;
	p->w = w;
	p->hold = hold;
	p->live++;
}

static void on_drop(void *arg)
{
	struct replay *p = arg;
	p->drops++;
}

static chatd_verdict hold_it(chatd_call *c, void *self, void *wself)
{
	(void)wself;
	assert_int_equal(call_hold(c, on_live, on_drop, self), 0);
	assert_int_equal(call_hold(c, on_live, on_drop, self), -EBUSY);
	return CHATD_NEXT;
}

static chatd_verdict refuse_it(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	return call_reject(c, "NOT_MEMBER", "no");
}

static chatd_msg *numbered(uint64_t seq)
{
	char text[24];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)seq);
	chatd_msg *m = msg_new(CHATD_LIT("/topic/a"), str_of(text));
	assert_int_equal(msg_set(m, "seq", str_of(text)), 0);
	return m;
}

static void replay(void *arg)
{
	struct replay *p = arg;
	for (uint64_t i = p->from; i <= p->to; i++) {
		chatd_msg *m = numbered(i);
		p->rc = hold_send(p->w, p->hold, m);
		msg_unref(m);
	}
	(void)hold_reply(p->w, p->hold, "message-id", CHATD_LIT("top"));
	p->rc = hold_release(p->w, p->hold, p->after);
}

struct burst {
	struct rig *r;
	int32_t worker;
	uint64_t from, to;
};

static void publish(void *arg)
{
	struct burst *b = arg;
	struct chat_worker *cw = chat_at(loop_worker(b->r->loop, b->worker));
	for (uint64_t i = b->from; i <= b->to; i++) {
		chatd_msg *m = numbered(i);
		assert_int_equal(dest_publish(cw, m), 0);
		msg_unref(m);
	}
}

static struct rig *held_rig(int workers, struct replay *p)
{
	struct rig *r = rig_create(workers);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_hook(r, chatd_hook_subscribe, hold_it, p, 0);
	rig_start(r);
	return r;
}

/* rig_subscribe() waits for the answer, which comes at the release: ask without waiting. */
struct asking {
	struct rig_client *c;
	struct chatd_subscribe want;
};

static void on_answer(void *arg, const struct chatd_outcome *o)
{
	struct rig_client *c = arg;
	pthread_mutex_lock(&c->r->lock);
	c->done++;
	c->verdict = o->verdict;
	pthread_cond_broadcast(&c->r->changed);
	pthread_mutex_unlock(&c->r->lock);
}

static void ask(void *arg)
{
	struct asking *a = arg;
	assert_int_equal(chat_sessions_vt.subscribe(a->c->s, &a->want, on_answer, a->c), 0);
}

static void subscribe(struct rig_client *c)
{
	struct asking a = { .c = c };
	a.want.struct_size = sizeof(a.want);
	a.want.id = CHATD_LIT("s");
	a.want.frame = msg_new(CHATD_LIT("/topic/a"), CHATD_LIT(""));
	rig_on(c->r, worker_index(c->w), ask, &a);
	msg_unref(a.want.frame);
	rig_settle(c->r);
}

static void expect_run(struct rig_client *c, int from, int to)
{
	rig_got(c, (size_t)(to - from + 1));
	rig_settle(c->r);
	assert_int_equal(rig_count(c), to - from + 1);
	for (int i = from; i <= to; i++) {
		assert_int_equal(atoi(c->got[i - from].body), i);
	}
}

static void old_then_new(int workers)
{
	struct replay p = { .from = 3, .to = 12, .after = 12 };
	struct rig *r = held_rig(workers, &p);
	struct rig_client *c = rig_open(r, workers - 1, "ann");
	int before = c->done;
	subscribe(c);
	assert_int_equal(p.live, 1);
	assert_int_equal(c->done, before);
	/* 11 and 12 are published while it is held and are in the store as well. */
	struct burst b = { .r = r, .worker = 0, .from = 11, .to = 20 };
	rig_on(r, 0, publish, &b);
	rig_settle(r);
	assert_int_equal(rig_count(c), 0);
	rig_on(r, worker_index(c->w), replay, &p);
	rig_answer(c, before + 1);
	b.from = 21;
	b.to = 30;
	rig_on(r, 0, publish, &b);
	expect_run(c, 3, 30);
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.drops, 0);
	rig_destroy(r);
}

TEST(older_messages_first_then_live_no_hole_no_repeat)
{
	UNUSED;
	old_then_new(1);
	old_then_new(4);
}

/* A message may be read from the store before its publisher has published it. */
TEST(what_is_published_after_it_was_replayed_comes_once)
{
	UNUSED;
	struct replay p = { .from = 1, .to = 12, .after = 12 };
	struct rig *r = held_rig(4, &p);
	struct rig_client *c = rig_open(r, 3, "ann");
	int before = c->done;
	subscribe(c);
	rig_on(r, worker_index(c->w), replay, &p);
	rig_answer(c, before + 1);
	struct burst b = { .r = r, .worker = 0, .from = 9, .to = 20 };
	rig_on(r, 0, publish, &b);
	expect_run(c, 1, 20);
	rig_destroy(r);
}

TEST(a_hold_whose_client_left_is_stale)
{
	UNUSED;
	struct replay p = { .from = 1, .to = 1 };
	struct rig *r = held_rig(2, &p);
	struct rig_client *c = rig_open(r, 1, "ann");
	subscribe(c);
	int32_t worker = worker_index(c->w);
	rig_close(c);
	rig_on(r, worker, replay, &p);
	assert_int_equal(p.rc, -ESTALE);
	rig_destroy(r);
}

TEST(a_hold_that_never_comes_to_live_is_dropped)
{
	UNUSED;
	struct replay p = { 0 };
	struct rig *r = rig_create(1);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_hook(r, chatd_hook_subscribe, hold_it, &p, 0);
	rig_hook(r, chatd_hook_subscribe, refuse_it, NULL, 0);
	rig_start(r);
	struct rig_client *c = rig_open(r, 0, "ann");
	subscribe(c);
	assert_int_equal(c->verdict, CHATD_REJECT);
	assert_int_equal(p.live, 0);
	assert_int_equal(p.drops, 1);
	rig_destroy(r);
}

TEST(who_cannot_be_given_everything_is_closed)
{
	UNUSED;
	struct replay p = { 0 };
	struct rig *r = held_rig(1, &p);
	struct rig_client *c = rig_open(r, 0, "ann");
	subscribe(c);
	struct burst b = { .r = r, .worker = 0, .from = 1, .to = 10001 };
	rig_on(r, 0, publish, &b);
	rig_closed(c, 4010);
	rig_destroy(r);
}

TEST(a_cut_while_held_refuses_the_subscribe_and_the_session_goes_on)
{
	UNUSED;
	struct replay p = { .from = 1, .to = 1 };
	struct rig *r = held_rig(2, &p);
	struct rig_client *c = rig_open(r, 1, "ann");
	subscribe(c);
	struct burst b = { .r = r, .worker = 0, .from = 1, .to = 3 };
	rig_on(r, 0, publish, &b);
	assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), CHATD_LIT("/topic/a")), 0);
	rig_answer(c, 2);
	assert_int_equal(c->verdict, CHATD_REJECT);
	rig_on(r, 1, replay, &p);
	assert_int_equal(p.rc, -ESTALE);
	assert_int_equal(rig_count(c), 0);
	rig_send(c, "/topic/a", "still there");
	rig_answer(c, 3);
	assert_int_equal(c->verdict, CHATD_ACCEPT);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(older_messages_first_then_live_no_hole_no_repeat),
		cmocka_unit_test(what_is_published_after_it_was_replayed_comes_once),
		cmocka_unit_test(a_hold_whose_client_left_is_stale),
		cmocka_unit_test(a_hold_that_never_comes_to_live_is_dropped),
		cmocka_unit_test(who_cannot_be_given_everything_is_closed),
		cmocka_unit_test(a_cut_while_held_refuses_the_subscribe_and_the_session_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

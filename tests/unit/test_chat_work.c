/* SPDX-License-Identifier: Apache-2.0 */
/* Work queues that a router keeps for all nodes: here one that the test plays. */
#include "base/str.h"
#include "chat/chain.h"
#include "chat/msg.h"
#include "chat/queue.h"
#include "chat/session.h"
#include "chat_rig.h"
#include "loop/worker.h"

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

enum { MOST = 256 };

/* What the router has heard. */
struct keeper {
	struct rig *r;
	pthread_mutex_t lock;
	chatd_token token[MOST];
	char body[MOST][16], demand[MOST][32];
	int32_t how[MOST]; /* by handle */
	int n, n_demands, n_settled;
	int64_t max_messages;
};

static void keep(void *self, chatd_worker *w, chatd_msg *m, const struct chatd_dest_conf *conf,
		chatd_token token)
{
	struct keeper *k = self;
	assert_int_equal(chat_at(w)->index, dest_home(k->r->chat, msg_dest(m)));
	pthread_mutex_lock(&k->lock);
	k->token[k->n] = token;
	k->max_messages = conf->max_messages;
	snprintf(k->body[k->n++], sizeof(k->body[0]), "%.*s", (int)msg_body(m).n, msg_body(m).p);
	pthread_mutex_unlock(&k->lock);
}

static void want(void *self, chatd_worker *w, struct chatd_str dest,
		const struct chatd_dest_conf *conf, int32_t on)
{
	struct keeper *k = self;
	assert_int_equal(chat_at(w)->index, dest_home(k->r->chat, dest));
	assert_int_equal(conf->max_messages, 10);
	pthread_mutex_lock(&k->lock);
	snprintf(k->demand[k->n_demands++], sizeof(k->demand[0]), "%s %.*s", on ? "on" : "off",
			(int)dest.n, dest.p);
	pthread_mutex_unlock(&k->lock);
}

static void settled(void *self, chatd_worker *w, uint64_t handle, int32_t how)
{
	struct keeper *k = self;
	(void)w;
	assert_true(handle < MOST);
	pthread_mutex_lock(&k->lock);
	assert_int_equal(k->how[handle], 0);
	k->how[handle] = how;
	k->n_settled++;
	pthread_mutex_unlock(&k->lock);
}

static const struct chatd_router router = {
	.struct_size = sizeof(router), .enqueue = keep, .demand = want, .settled = settled
};

static struct keeper *begin(int workers)
{
	struct keeper *k = calloc(1, sizeof(*k));
	pthread_mutex_init(&k->lock, NULL);
	k->r = rig_create(workers);
	rig_prefix(k->r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_prefix(k->r, "/queue/", CHATD_DEST_QUEUE, 10);
	k->r->chat->router = router;
	k->r->chat->router_self = k;
	rig_start(k->r);
	return k;
}

static void finish(struct keeper *k)
{
	rig_destroy(k->r);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

struct gift {
	struct keeper *k;
	uint64_t handle, n;
	chatd_status rc;
};

static void give_it(void *arg)
{
	struct gift *g = arg;
	struct chat *chat = g->k->r->chat;
	for (uint64_t i = 0; i < g->n; i++) {
		char body[16];
		snprintf(body, sizeof(body), "%d", (int)(g->handle + i));
		chatd_msg *m = msg_new(CHATD_LIT("/queue/x"), str_of(body));
		g->rc = dest_bring(
				&chat->workers[dest_home(chat, CHATD_LIT("/queue/x"))], m, g->handle + i);
		msg_unref(m);
	}
}

/* Messages from the router, at their home. */
static chatd_status give(struct keeper *k, uint64_t handle, uint64_t n)
{
	struct gift g = { .k = k, .handle = handle, .n = n };
	rig_on(k->r, dest_home(k->r->chat, CHATD_LIT("/queue/x")), give_it, &g);
	rig_settle(k->r);
	return g.rc;
}

TEST(a_send_is_answered_when_the_router_says_so)
{
	UNUSED;
	struct keeper *k = begin(4);
	struct rig_client *ann = rig_open(k->r, 0, "ann");
	rig_send(ann, "/queue/x", "1");
	rig_settle(k->r);
	assert_int_equal(ann->done, 1); /* the login alone */
	assert_int_equal(k->n, 1);
	assert_string_equal(k->body[0], "1");
	assert_int_equal(k->max_messages, 10);
	assert_int_equal(call_resume(k->token[0], CHATD_ACCEPT, NULL, NULL), 0);
	rig_answer(ann, 2);
	assert_int_equal(ann->verdict, CHATD_ACCEPT);
	rig_send(ann, "/queue/x", "2");
	rig_settle(k->r);
	assert_int_equal(call_resume(k->token[1], CHATD_REJECT, "UNAVAILABLE", "full"), 0);
	rig_answer(ann, 3);
	assert_int_equal(ann->verdict, CHATD_REJECT);
	assert_string_equal(ann->err, "UNAVAILABLE");
	finish(k);
}

TEST(it_is_asked_for_messages_while_there_are_consumers)
{
	UNUSED;
	struct keeper *k = begin(4);
	assert_int_equal(give(k, 0, 1), -ENOENT);
	struct rig_client *ann = rig_open(k->r, 0, "ann"), *bob = rig_open(k->r, 3, "bob");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/queue/x", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/topic/x", CHATD_ACK_AUTO);
	assert_int_equal(give(k, 0, 1), 0);
	rig_unsubscribe(ann, "/queue/x");
	rig_settle(k->r);
	assert_int_equal(k->n_demands, 1);
	rig_close(bob);
	rig_settle(k->r);
	assert_int_equal(k->n_demands, 2);
	assert_string_equal(k->demand[0], "on /queue/x");
	assert_string_equal(k->demand[1], "off /queue/x");
	assert_int_equal(give(k, 1, 1), -ENOENT);
	finish(k);
}

static void take_turns(int workers)
{
	struct keeper *k = begin(workers);
	struct rig_client *c[4];
	for (int32_t i = 0; i < 4; i++) {
		c[i] = rig_open(k->r, i % workers, "u");
		rig_subscribe(c[i], "/queue/x", CHATD_ACK_AUTO);
	}
	assert_int_equal(give(k, 0, 20), 0);
	for (int32_t i = 0; i < 4; i++) {
		assert_int_equal(rig_count(c[i]), 5);
	}
	assert_int_equal(k->n_settled, 20);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(k->how[i], CHATD_SETTLED);
	}
	finish(k);
}

TEST(each_goes_to_one_consumer_in_turn_and_is_settled_once_delivered)
{
	UNUSED;
	take_turns(1);
	take_turns(4);
}

TEST(what_wants_an_ack_is_settled_by_ack_nack_and_leaving)
{
	UNUSED;
	struct keeper *k = begin(4);
	struct rig_client *ann = rig_open(k->r, 1, "ann"), *bob = rig_open(k->r, 2, "bob");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_INDIVIDUAL);
	assert_int_equal(give(k, 0, 4), 0);
	assert_int_equal(k->n_settled, 0);
	assert_int_equal(rig_ack(ann, ann->got[1].ack, NULL, 1), 0);
	assert_int_equal(rig_ack(ann, ann->got[2].ack, NULL, 0), 0);
	assert_int_equal(rig_ack(ann, ann->got[2].ack, NULL, 1), -ENOENT);
	assert_int_equal(k->n_settled, 2);
	assert_int_equal(k->how[1], CHATD_SETTLED);
	assert_int_equal(k->how[2], CHATD_SETTLED_AGAIN);
	rig_unsubscribe(ann, "/queue/x");
	rig_settle(k->r);
	assert_int_equal(k->how[0], CHATD_SETTLED_AGAIN);
	assert_int_equal(k->how[3], CHATD_SETTLED_AGAIN);
	rig_subscribe(bob, "/queue/x", CHATD_ACK_CLIENT);
	assert_int_equal(give(k, 4, 4), 0);
	assert_int_equal(rig_ack(bob, bob->got[1].ack, NULL, 1), 0); /* 4 and 5 */
	rig_close(bob);
	rig_settle(k->r);
	for (int i = 4; i < 8; i++) {
		assert_int_equal(k->how[i], i < 6 ? CHATD_SETTLED : CHATD_SETTLED_AGAIN);
	}
	finish(k);
}

TEST(who_does_not_acknowledge_gets_no_more_than_others_have)
{
	UNUSED;
	struct keeper *k = begin(2);
	struct rig_client *slow = rig_open(k->r, 0, "slow"), *quick = rig_open(k->r, 1, "quick");
	rig_subscribe(slow, "/queue/x", CHATD_ACK_INDIVIDUAL);
	rig_subscribe(quick, "/queue/x", CHATD_ACK_INDIVIDUAL);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(give(k, i, 1), 0);
		size_t n = rig_count(quick);
		if (n && n != i) {
			(void)rig_ack(quick, quick->got[n - 1].ack, NULL, 1);
			rig_settle(k->r);
		}
	}
	assert_int_equal(rig_count(slow) + rig_count(quick), 40);
	assert_true(rig_count(slow) <= 2);
	finish(k);
}

struct leaving {
	struct rig_client *who;
	struct gift gift;
	sem_t given;
};

static void give_and_tell(void *arg)
{
	struct leaving *l = arg;
	give_it(&l->gift);
	sem_post(&l->given);
}

/* Its worker is held, so the home cannot know yet that it leaves. */
static void leave_meanwhile(void *arg)
{
	struct leaving *l = arg;
	struct chat *chat = l->gift.k->r->chat;
	session_close(l->who->s, 4010, "");
	assert_int_equal(
			worker_post(chat->workers[dest_home(chat, CHATD_LIT("/queue/x"))].w, give_and_tell, l),
			0);
	sem_wait(&l->given);
}

TEST(a_consumer_that_is_gone_before_it_comes_leaves_it_to_others)
{
	UNUSED;
	struct keeper *k = begin(2);
	int32_t other = 1 - dest_home(k->r->chat, CHATD_LIT("/queue/x"));
	struct leaving l = { .who = rig_open(k->r, other, "ann"), .gift = { .k = k, .n = 1 } };
	sem_init(&l.given, 0, 0);
	rig_subscribe(l.who, "/queue/x", CHATD_ACK_AUTO);
	rig_on(k->r, other, leave_meanwhile, &l);
	rig_settle(k->r);
	assert_int_equal(l.gift.rc, 0);
	assert_int_equal(k->how[0], CHATD_SETTLED_AGAIN);
	sem_destroy(&l.given);
	finish(k);
}

static void publish_here(void *arg)
{
	struct keeper *k = arg;
	chatd_msg *m = msg_new(CHATD_LIT("/queue/x"), CHATD_LIT("x"));
	assert_int_equal(dest_publish_here(&k->r->chat->workers[0], m), -EINVAL);
	assert_int_equal(dest_publish(&k->r->chat->workers[0], m), 0);
	msg_unref(m);
}

TEST(a_shared_queue_has_no_part_that_is_this_nodes)
{
	UNUSED;
	struct keeper *k = begin(1);
	rig_on(k->r, 0, publish_here, k);
	rig_settle(k->r);
	assert_int_equal(k->n, 1);
	assert_int_equal(k->token[0], 0);
	finish(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_send_is_answered_when_the_router_says_so),
		cmocka_unit_test(it_is_asked_for_messages_while_there_are_consumers),
		cmocka_unit_test(each_goes_to_one_consumer_in_turn_and_is_settled_once_delivered),
		cmocka_unit_test(what_wants_an_ack_is_settled_by_ack_nack_and_leaving),
		cmocka_unit_test(who_does_not_acknowledge_gets_no_more_than_others_have),
		cmocka_unit_test(a_consumer_that_is_gone_before_it_comes_leaves_it_to_others),
		cmocka_unit_test(a_shared_queue_has_no_part_that_is_this_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

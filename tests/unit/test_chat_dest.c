/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "chat/ident.h"
#include "chat/msg.h"
#include "chat/session.h"
#include "chat_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static struct rig *topic_rig(int workers)
{
	struct rig *r = rig_create(workers);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_prefix(r, "/queue/", CHATD_DEST_QUEUE, 10);
	rig_start(r);
	return r;
}

/* ---- publishing from workers, as plugins do ---------------------------------- */

struct burst {
	struct rig *r;
	int32_t worker;
	const char *dest, *user; /* user NULL: to everybody */
	int from, n;
};

static void publish_burst(void *arg)
{
	struct burst *b = arg;
	struct chat_worker *cw = chat_at(loop_worker(b->r->loop, b->worker));
	for (int i = 0; i < b->n; i++) {
		char body[RIG_BODY];
		snprintf(body, sizeof(body), "%d.%d", b->worker, b->from + i);
		chatd_msg *m = msg_new(str_of(b->dest), str_of(body));
		assert_int_equal(
				b->user ? dest_publish_user(cw, str_of(b->user), m) : dest_publish(cw, m), 0);
		msg_unref(m);
	}
}

static void publish(struct rig *r, int32_t worker, const char *dest, int n)
{
	struct burst b = { .r = r, .worker = worker, .dest = dest, .n = n };
	rig_on(r, worker, publish_burst, &b);
}

/* ---- one order ----------------------------------------------------------------- */

static void expect_same(struct rig_client *a, struct rig_client *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(a->got[i].body, b->got[i].body);
	}
}

/* Each publisher's own messages in the order in which it sent them. */
static void expect_in_order(struct rig_client *c, size_t n)
{
	int next[RIG_WORKERS] = { 0 };
	for (size_t i = 0; i < n; i++) {
		int worker = 0, number = 0;
		assert_int_equal(sscanf(c->got[i].body, "%d.%d", &worker, &number), 2);
		assert_int_equal(number, next[worker]++);
	}
}

static void one_order(int workers)
{
	enum { TURNS = 25, N = 20 };
	static const char *const dests[] = { "/topic/a", "/topic/b", "/topic/c", "/topic/d" };
	struct rig *r = topic_rig(workers);
	struct rig_client *c[RIG_WORKERS];
	struct burst b[RIG_WORKERS];
	for (int d = 0; d < 4; d++) { /* homes differ */
		for (int32_t i = 0; i < workers; i++) {
			c[i] = rig_open(r, i, "u");
			rig_subscribe(c[i], dests[d], CHATD_ACK_AUTO);
		}
		for (int t = 0; t < TURNS; t++) {
			for (int32_t i = 0; i < workers; i++) {
				b[i] = (struct burst){
					.r = r, .worker = i, .dest = dests[d], .from = t * N, .n = N
				};
				assert_int_equal(worker_post(loop_worker(r->loop, i), publish_burst, &b[i]), 0);
			}
			rig_settle(r);
		}
		size_t all = (size_t)workers * TURNS * N;
		for (int32_t i = 0; i < workers; i++) {
			rig_got(c[i], all);
			expect_same(c[0], c[i], all);
			expect_in_order(c[i], all);
		}
	}
	rig_destroy(r);
}

TEST(all_subscribers_on_all_workers_see_one_order)
{
	UNUSED;
	one_order(1);
	one_order(4);
}

/* ---- what gets lost ------------------------------------------------------------------- */

static _Thread_local int posts_counted, posts_made, posts_that_fail;

chatd_status __real_worker_post(chatd_worker *w, void (*fn)(void *arg), void *arg);
chatd_status __wrap_worker_post(chatd_worker *w, void (*fn)(void *arg), void *arg);
chatd_status __wrap_worker_post(chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	if (posts_counted && ++posts_made <= posts_that_fail) {
		return -ENOMEM;
	}
	return __real_worker_post(w, fn, arg);
}

static _Thread_local int no_memory;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return no_memory ? NULL : __real_calloc(n, size);
}

static void set_no_memory(void *arg)
{
	no_memory = *(int *)arg;
}

struct watched {
	struct burst burst;
	int fail, posts;
};

static void publish_watched(void *arg)
{
	struct watched *w = arg;
	posts_made = 0;
	posts_that_fail = w->fail;
	posts_counted = 1;
	publish_burst(&w->burst);
	posts_counted = 0;
	w->posts = posts_made;
}

/* The first posts fail, while n messages are published: also the one that would tell, if there are two. */
static void lose(int posts, int n)
{
	struct rig *r = topic_rig(2);
	struct rig_client *near = NULL;
	char dest[32];
	struct watched w = { .burst = { .r = r, .dest = dest, .n = 1 }, .posts = 1 };
	for (int i = 0; w.posts; i++) { /* until its home is worker 0 */
		snprintf(dest, sizeof(dest), "/topic/%d", i);
		near = rig_open(r, 0, "near");
		rig_subscribe(near, dest, CHATD_ACK_AUTO);
		rig_on(r, 0, publish_watched, &w);
		rig_got(near, 1);
	}
	struct rig_client *far = rig_open(r, 1, "far"), *other = rig_open(r, 1, "other");
	rig_subscribe(far, dest, CHATD_ACK_AUTO);
	rig_subscribe(other, "/topic/other", CHATD_ACK_AUTO);
	w.fail = posts;
	w.burst.n = n;
	rig_on(r, 0, publish_watched, &w);
	assert_true(w.posts > posts || n == 1);
	rig_closed(far, 4010);
	assert_int_equal(rig_count(far), 0); /* what came after what it lacks neither */
	rig_got(near, 1 + n);
	w.fail = 0;
	w.burst.n = 1;
	publish(r, 1, "/topic/other", 1);
	rig_got(other, 1);
	struct rig_client *again = rig_open(r, 1, "far");
	rig_subscribe(again, dest, CHATD_ACK_AUTO);
	rig_on(r, 0, publish_watched, &w);
	rig_got(again, 1);
	rig_got(near, 2 + n);
	rig_destroy(r);
}

TEST(who_lacks_a_message_is_closed_and_nobody_else)
{
	UNUSED;
	lose(1, 1);
	lose(2, 1);
	lose(1, 3);
	lose(2, 3);
}

/* ---- subscribing -------------------------------------------------------------------- */

TEST(what_is_published_after_the_receipt_arrives)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	for (int i = 0; i < 60; i++) {
		char dest[32];
		snprintf(dest, sizeof(dest), "/topic/%d", i);
		struct rig_client *c = rig_open(r, i % 4, "u");
		rig_subscribe(c, dest, CHATD_ACK_AUTO);
		publish(r, (i / 4) % 4, dest, 1);
		rig_got(c, 1);
		rig_close(c);
	}
	rig_destroy(r);
}

/* The home cannot note the subscriber: it is told so, and may try again. */
static void refused_at_home(int32_t kind)
{
	struct rig *r = rig_create(2);
	int none = 1, some = 0, n = 0;
	rig_prefix(r, "/x/", kind, 10);
	rig_start(r);
	struct rig_client *c = rig_open(r, 1, "u");
	for (int i = 0; i < 8; i++) { /* some of them have their home on worker 0 */
		char dest[32];
		snprintf(dest, sizeof(dest), "/x/%d", i);
		rig_on(r, 0, set_no_memory, &none);
		rig_subscribe(c, dest, CHATD_ACK_AUTO);
		rig_on(r, 0, set_no_memory, &some);
		if (c->verdict == CHATD_REJECT) {
			n++;
			assert_string_equal(c->err, "UNAVAILABLE");
			assert_int_equal(rig_unsubscribe(c, dest), -ENOENT);
			rig_subscribe(c, dest, CHATD_ACK_AUTO);
		}
		assert_int_equal(c->verdict, CHATD_ACCEPT);
		publish(r, 0, dest, 1);
		rig_got(c, (size_t)i + 1);
	}
	assert_in_range(n, 1, 7);
	rig_destroy(r);
}

TEST(who_cannot_be_noted_at_the_home_is_told)
{
	UNUSED;
	refused_at_home(CHATD_DEST_TOPIC);
	refused_at_home(CHATD_DEST_QUEUE);
}

TEST(nothing_arrives_after_unsubscribe_and_everything_after_coming_back)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *c[4];
	for (int32_t i = 0; i < 4; i++) {
		c[i] = rig_open(r, i, "u");
		for (int round = 0; round < 10; round++) {
			size_t have = rig_count(c[i]);
			rig_subscribe(c[i], "/topic/x", CHATD_ACK_AUTO);
			publish(r, round % 4, "/topic/x", 3);
			rig_got(c[i], have + 3);
			assert_int_equal(rig_unsubscribe(c[i], "/topic/x"), 0);
			publish(r, round % 4, "/topic/x", 3);
			rig_settle(r);
			assert_int_equal(rig_count(c[i]), have + 3);
			assert_int_equal(rig_unsubscribe(c[i], "/topic/x"), -ENOENT);
		}
	}
	rig_destroy(r);
}

static void count_dests(void *arg)
{
	struct rig_client *c = arg;
	assert_null(session_subs(c->s));
}

TEST(a_subscriber_that_leaves_leaves_the_others)
{
	UNUSED;
	struct rig *r = topic_rig(2);
	struct rig_client *a = rig_open(r, 0, "ann"), *b = rig_open(r, 0, "bob");
	rig_subscribe(a, "/topic/x", CHATD_ACK_AUTO);
	rig_subscribe(b, "/topic/x", CHATD_ACK_AUTO);
	publish(r, 1, "/topic/x", 1);
	rig_got(a, 1);
	rig_got(b, 1);
	rig_unsubscribe(a, "/topic/x");
	rig_on(r, 0, count_dests, a);
	publish(r, 1, "/topic/x", 1);
	rig_got(b, 2);
	assert_int_equal(rig_count(a), 1);
	rig_destroy(r);
}

TEST(only_known_destinations_can_be_subscribed)
{
	UNUSED;
	static const struct {
		const char *dest, *code;
	} rows[] = { { "/nowhere/x", "NOT_FOUND" }, { "/topic/", "NOT_FOUND" }, { "", "NOT_FOUND" },
		{ "/app/x", "NOT_FOUND" }, { "/user/bob/queue/x", "FORBIDDEN" },
		{ "/user/queue/", "FORBIDDEN" } };
	struct rig *r = topic_rig(1);
	struct rig_client *c = rig_open(r, 0, "ann");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_subscribe(c, rows[i].dest, CHATD_ACK_AUTO);
		assert_int_equal(c->verdict, CHATD_REJECT);
		assert_string_equal(c->err, rows[i].code);
		rig_send(c, rows[i].dest, "x");
		rig_answer(c, 3 + 2 * (int)i);
		assert_int_equal(c->verdict, CHATD_REJECT);
	}
	rig_destroy(r);
}

/* ---- cutting, users -------------------------------------------------------------------- */

TEST(a_cut_ends_the_subscriptions_of_one_user_on_every_worker)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *ann[4], *bob[4];
	for (int32_t i = 0; i < 4; i++) {
		ann[i] = rig_open(r, i, "ann");
		bob[i] = rig_open(r, i, "bob");
		rig_subscribe(ann[i], "/topic/x", CHATD_ACK_AUTO);
		rig_subscribe(bob[i], "/topic/x", CHATD_ACK_AUTO);
		rig_subscribe(ann[i], "/topic/y", CHATD_ACK_AUTO);
	}
	assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), CHATD_LIT("/topic/x")), 0);
	rig_settle(r);
	publish(r, 0, "/topic/x", 1);
	publish(r, 0, "/topic/y", 1);
	for (int32_t i = 0; i < 4; i++) {
		rig_got(bob[i], 1);
		rig_got(ann[i], 1);
		assert_string_equal(ann[i]->got[0].sub, "/topic/y");
	}
	rig_settle(r);
	assert_int_equal(rig_count(ann[0]), 1);
	rig_destroy(r);
}

/* A stock client does not know that it was cut off: what it ends then is no fault, once. */
TEST(who_was_cut_off_may_still_end_the_subscription)
{
	UNUSED;
	struct rig *r = topic_rig(2);
	struct rig_client *ann = rig_open(r, 1, "ann");
	rig_subscribe(ann, "/topic/x", CHATD_ACK_AUTO);
	assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), CHATD_LIT("/topic/x")), 0);
	rig_settle(r);
	assert_int_equal(rig_unsubscribe(ann, "/topic/x"), 0);
	assert_int_equal(rig_unsubscribe(ann, "/topic/x"), -ENOENT);
	rig_subscribe(ann, "/topic/x", CHATD_ACK_AUTO);
	assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), CHATD_LIT("/topic/x")), 0);
	rig_settle(r);
	rig_subscribe(ann, "/topic/x", CHATD_ACK_AUTO); /* it came back under the same id */
	assert_int_equal(rig_unsubscribe(ann, "/topic/x"), 0);
	assert_int_equal(rig_unsubscribe(ann, "/topic/x"), -ENOENT);
	for (int i = 0; i < 100; i++) { /* not all of them are remembered */
		char dest[32];
		snprintf(dest, sizeof(dest), "/topic/%d", i);
		rig_subscribe(ann, dest, CHATD_ACK_AUTO);
		assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), str_of(dest)), 0);
		rig_settle(r);
	}
	assert_int_equal(rig_unsubscribe(ann, "/topic/0"), -ENOENT);
	assert_int_equal(rig_unsubscribe(ann, "/topic/99"), 0);
	rig_destroy(r);
}

TEST(a_message_to_a_user_reaches_all_their_devices_and_nobody_else)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *ann[4], *bob[4];
	for (int32_t i = 0; i < 4; i++) {
		ann[i] = rig_open(r, i, "ann");
		bob[i] = rig_open(r, i, "bob");
		rig_subscribe(ann[i], "/user/queue/messages", CHATD_ACK_AUTO);
		rig_subscribe(bob[i], "/user/queue/messages", CHATD_ACK_AUTO);
	}
	for (int32_t i = 0; i < 4; i++) {
		struct burst b = {
			.r = r, .worker = i, .dest = "/user/queue/messages", .user = "ann", .n = 2
		};
		rig_on(r, i, publish_burst, &b);
	}
	for (int32_t i = 0; i < 4; i++) {
		rig_got(ann[i], 8);
		expect_same(ann[0], ann[i], 8);
	}
	rig_settle(r);
	assert_int_equal(rig_count(bob[1]), 0);
	rig_destroy(r);
}

/* ---- work queues ----------------------------------------------------------------------- */

TEST(a_queue_goes_round_its_consumers)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *c[4];
	for (int32_t i = 0; i < 4; i++) {
		c[i] = rig_open(r, i, "u");
		rig_subscribe(c[i], "/queue/x", CHATD_ACK_AUTO);
	}
	publish(r, 2, "/queue/x", 20);
	for (int32_t i = 0; i < 4; i++) {
		rig_got(c[i], 5);
	}
	rig_destroy(r);
}

TEST(a_queue_keeps_ten_refuses_the_eleventh_and_gives_them_in_order)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *ann = rig_open(r, 0, "ann"), *bob = rig_open(r, 3, "bob");
	for (int i = 0; i < 11; i++) {
		char body[8];
		snprintf(body, sizeof(body), "0.%d", i);
		rig_send(ann, "/queue/x", body);
		rig_answer(ann, 2 + i);
		assert_int_equal(ann->verdict, i < 10 ? CHATD_ACCEPT : CHATD_REJECT);
	}
	assert_string_equal(ann->err, "UNAVAILABLE");
	rig_subscribe(bob, "/queue/x", CHATD_ACK_AUTO);
	rig_got(bob, 10);
	expect_in_order(bob, 10);
	rig_destroy(r);
}

TEST(a_nack_gives_a_message_back_in_its_place)
{
	UNUSED;
	struct rig *r = topic_rig(2);
	struct rig_client *ann = rig_open(r, 0, "ann"), *bob = rig_open(r, 1, "bob");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_INDIVIDUAL);
	publish(r, 1, "/queue/x", 3);
	rig_got(ann, 3);
	char first[RIG_BODY];
	snprintf(first, sizeof(first), "%s", ann->got[0].ack);
	assert_int_equal(rig_ack(ann, ann->got[1].ack, NULL, 1), 0);
	assert_int_equal(rig_ack(ann, ann->got[1].ack, NULL, 1), -ENOENT);
	rig_unsubscribe(ann, "/queue/x"); /* 0 and 2 go back, before what is new */
	rig_settle(r);
	struct burst b = { .r = r, .worker = 0, .dest = "/queue/x", .from = 3, .n = 1 };
	rig_on(r, 0, publish_burst, &b);
	rig_settle(r);
	rig_subscribe(bob, "/queue/x", CHATD_ACK_INDIVIDUAL);
	rig_got(bob, 3);
	assert_string_equal(bob->got[0].body, "1.0");
	assert_true(bob->got[0].redelivered);
	assert_string_equal(bob->got[1].body, "1.2");
	assert_string_equal(bob->got[2].body, "0.3");
	assert_false(bob->got[2].redelivered);
	assert_int_equal(rig_ack(bob, bob->got[0].ack, NULL, 0), 0);
	rig_got(bob, 4);
	assert_string_equal(bob->got[3].body, "1.0");
	rig_destroy(r);
}

TEST(a_consumer_that_leaves_gives_back_what_it_had_not_acknowledged)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	struct rig_client *ann = rig_open(r, 0, "ann"), *bob = rig_open(r, 2, "bob");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_CLIENT);
	publish(r, 3, "/queue/x", 5);
	rig_got(ann, 5);
	assert_int_equal(rig_ack(ann, ann->got[2].ack, NULL, 1), 0); /* 0, 1 and 2 */
	rig_close(ann);
	rig_subscribe(bob, "/queue/x", CHATD_ACK_AUTO);
	rig_got(bob, 2);
	assert_string_equal(bob->got[0].body, "3.3");
	assert_string_equal(bob->got[1].body, "3.4");
	rig_settle(r);
	assert_int_equal(rig_count(bob), 2);
	rig_destroy(r);
}

TEST(client_acks_are_cumulative_within_their_subscription_alone)
{
	UNUSED;
	struct rig *r = topic_rig(1);
	struct rig_client *ann = rig_open(r, 0, "ann"), *bob = rig_open(r, 0, "bob");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_CLIENT);
	rig_subscribe(ann, "/queue/y", CHATD_ACK_CLIENT);
	publish(r, 0, "/queue/x", 1);
	publish(r, 0, "/queue/y", 2);
	rig_got(ann, 3);
	assert_int_equal(rig_ack(ann, ann->got[2].id, "/queue/y", 1), 0); /* STOMP 1.1's way */
	assert_int_equal(rig_ack(ann, ann->got[1].id, "/queue/y", 1), -ENOENT);
	rig_close(ann);
	rig_subscribe(bob, "/queue/x", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/queue/y", CHATD_ACK_AUTO);
	rig_got(bob, 1);
	rig_settle(r);
	assert_int_equal(rig_count(bob), 1);
	assert_string_equal(bob->got[0].sub, "/queue/x");
	rig_destroy(r);
}

TEST(a_client_that_never_acknowledges_is_closed_and_its_queue_loses_nothing)
{
	UNUSED;
	enum { MANY = 10001 };
	struct rig *r = topic_rig(1);
	struct rig_client *ann = rig_open(r, 0, "ann");
	rig_subscribe(ann, "/queue/x", CHATD_ACK_INDIVIDUAL);
	for (int i = 0; i < MANY / 73; i++) {
		publish(r, 0, "/queue/x", 73);
		rig_settle(r);
	}
	rig_got(ann, MANY);
	rig_closed(ann, 1008);
	struct rig_client *bob = rig_open(r, 0, "bob");
	rig_subscribe(bob, "/queue/x", CHATD_ACK_AUTO);
	rig_got(bob, MANY);
	rig_destroy(r);
}

/* ---- only and except ------------------------------------------------------------------- */

struct choosing {
	struct rig_client *c;
	const char *id, *dest, *header, *about;
};

static void ignore(void *arg, const struct chatd_outcome *o)
{
	(void)arg;
	(void)o;
}

static void subscribe_choosing(void *arg)
{
	struct choosing *a = arg;
	chatd_msg *m = msg_new(str_of(a->dest), CHATD_LIT(""));
	assert_int_equal(msg_set(m, a->header, str_of(a->about)), 0);
	struct chatd_subscribe want = { .struct_size = sizeof(want), .id = str_of(a->id), .frame = m };
	assert_int_equal(chat_sessions_vt.subscribe(a->c->s, &want, ignore, NULL), 0);
	msg_unref(m);
}

static void publish_about(void *arg)
{
	struct choosing *a = arg;
	chatd_msg *m = msg_new(str_of(a->dest), str_of(a->id));
	assert_int_equal(a->about ? msg_set(m, "about", str_of(a->about)) : 0, 0);
	assert_int_equal(dest_publish(chat_at(loop_worker(a->c->r->loop, 0)), m), 0);
	msg_unref(m);
}

static void hears_topic(void *arg)
{
	struct choosing *a = arg;
	assert_int_equal(session_hears(a->c->s, str_of(a->dest)), a->about != NULL);
}

TEST(a_subscription_may_be_to_what_a_message_is_about)
{
	UNUSED;
	struct rig *r = topic_rig(2);
	struct rig_client *all = rig_open(r, 0, "all"), *only = rig_open(r, 1, "only"),
					  *but = rig_open(r, 1, "but");
	rig_subscribe(all, "/topic/x", CHATD_ACK_AUTO);
	rig_on(r, 1, subscribe_choosing, &(struct choosing){ only, "o", "/topic/x", "only", "tea" });
	rig_on(r, 1, subscribe_choosing, &(struct choosing){ but, "b", "/topic/x", "except", "tea" });
	rig_settle(r);
	rig_on(r, 1, hears_topic, &(struct choosing){ .c = only, .dest = "/topic/x" });
	rig_on(r, 1, hears_topic, &(struct choosing){ .c = but, .dest = "/topic/x", .about = "" });
	rig_on(r, 0, publish_about, &(struct choosing){ all, "1", "/topic/x", NULL, "tea" });
	rig_on(r, 0, publish_about, &(struct choosing){ all, "2", "/topic/x", NULL, NULL });
	rig_on(r, 0, publish_about, &(struct choosing){ all, "3", "/topic/x", NULL, "teapots" });
	rig_settle(r);
	rig_got(all, 3);
	assert_int_equal(rig_count(only), 1);
	assert_string_equal(only->got[0].body, "1");
	assert_int_equal(rig_count(but), 2);
	assert_string_equal(but->got[0].body, "2");
	assert_string_equal(but->got[1].body, "3");
	rig_destroy(r);
}

TEST(what_is_in_a_queue_is_work_whatever_it_is_about)
{
	UNUSED;
	struct rig *r = topic_rig(1);
	struct rig_client *ann = rig_open(r, 0, "ann");
	rig_on(r, 0, subscribe_choosing, &(struct choosing){ ann, "o", "/queue/x", "only", "tea" });
	rig_settle(r);
	rig_on(r, 0, publish_about, &(struct choosing){ ann, "1", "/queue/x", NULL, "coffee" });
	rig_got(ann, 1);
	rig_destroy(r);
}

/* ---- message_out ------------------------------------------------------------------------- */

static chatd_verdict echo_once(chatd_call *c, void *self, void *wself)
{
	atomic_int *left = self;
	(void)wself;
	if (atomic_fetch_sub(left, 1) > 0) {
		chatd_msg *m = msg_new(msg_dest(call_msg(c)), CHATD_LIT("nested"));
		assert_int_equal(dest_publish(call_at(c), m), 0);
		msg_unref(m);
	}
	return CHATD_NEXT;
}

TEST(publishing_while_a_message_goes_out_mixes_nothing_up)
{
	UNUSED;
	for (int workers = 1; workers <= 4; workers += 3) {
		atomic_int left = 1;
		struct rig *r = rig_create(workers);
		struct rig_client *c[3];
		rig_hook(r, chatd_hook_message_out, echo_once, &left, 0);
		rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
		rig_start(r);
		for (int i = 0; i < 3; i++) {
			c[i] = rig_open(r, 0, "u");
			rig_subscribe(c[i], "/topic/x", CHATD_ACK_AUTO);
		}
		publish(r, 0, "/topic/x", 1);
		for (int i = 0; i < 3; i++) {
			rig_got(c[i], 2);
			assert_string_equal(c[i]->got[0].body, "0.0");
			assert_string_equal(c[i]->got[1].body, "nested");
		}
		rig_destroy(r);
	}
}

/* ---- leaving in the middle ------------------------------------------------------------------ */

static void subscribe_and_close(void *arg)
{
	struct rig_client *c = arg;
	chatd_msg *m = msg_new(CHATD_LIT("/topic/x"), CHATD_LIT(""));
	struct chatd_subscribe want = { .struct_size = sizeof(want), .id = CHATD_LIT("1"), .frame = m };
	assert_int_equal(chat_sessions_vt.subscribe(c->s, &want, ignore, c), 0);
	msg_unref(m);
	chat_sessions_vt.close(c->s);
	c->s = NULL;
}

TEST(a_client_may_leave_while_its_subscription_is_under_way)
{
	UNUSED;
	struct rig *r = topic_rig(4);
	for (int i = 0; i < 40; i++) {
		struct rig_client *c = rig_open(r, i % 4, "u");
		rig_on(r, i % 4, subscribe_and_close, c);
	}
	publish(r, 0, "/topic/x", 1);
	rig_settle(r);
	assert_int_equal(chat_session_count(r->chat), 0);
	rig_destroy(r);
}

/* ---- cutting ------------------------------------------------------------------- */

static void publish_cut_publish(void *arg)
{
	struct rig *r = arg;
	for (int32_t i = 0; i < 2; i++) {
		chatd_msg *m = msg_new(CHATD_LIT("/topic/t"), i ? CHATD_LIT("after") : CHATD_LIT("before"));
		assert_int_equal(dest_publish(&r->chat->workers[0], m), 0);
		msg_unref(m);
		if (i == 0) {
			assert_int_equal(dest_cut(r->chat, CHATD_LIT("ann"), CHATD_LIT("/topic/t")), 0);
		}
	}
}

/* What a store's answers do in one callback: the kick, and the next message of the room. */
static void cut_comes_first(int workers)
{
	struct rig *r = rig_create(workers);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_start(r);
	for (int32_t w = 0; w < workers; w++) {
		struct rig_client *ann = rig_open(r, w, "ann"), *bob = rig_open(r, w, "bob");
		rig_subscribe(ann, "/topic/t", CHATD_ACK_AUTO);
		rig_subscribe(bob, "/topic/t", CHATD_ACK_AUTO);
		rig_on(r, 0, publish_cut_publish, r);
		rig_got(bob, 2);
		rig_settle(r);
		for (size_t i = 0; i < rig_count(ann); i++) {
			assert_string_equal(ann->got[i].body, "before");
		}
		rig_close(bob);
	}
	rig_destroy(r);
}

TEST(nothing_published_after_a_cut_reaches_who_was_cut_off)
{
	UNUSED;
	cut_comes_first(1);
	cut_comes_first(4);
}

static chatd_verdict cut_oneself(chatd_call *c, void *self, void *wself)
{
	struct rig *r = self;
	(void)wself;
	assert_int_equal(dest_cut(r->chat, ident_user(call_ident(c)), msg_dest(call_msg(c))), 0);
	return CHATD_NEXT;
}

TEST(a_hook_may_cut_the_subscription_that_it_is_asked_about)
{
	UNUSED;
	struct rig *r = rig_create(1);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_hook(r, chatd_hook_unsubscribe, cut_oneself, r, 0);
	rig_start(r);
	struct rig_client *ann = rig_open(r, 0, "ann");
	rig_subscribe(ann, "/topic/t", CHATD_ACK_AUTO);
	assert_int_equal(rig_unsubscribe(ann, "/topic/t"), 0);
	rig_settle(r);
	rig_subscribe(ann, "/topic/t", CHATD_ACK_AUTO);
	rig_on(r, 0, publish_cut_publish, r);
	rig_got(ann, 1);
	rig_settle(r);
	assert_int_equal(rig_count(ann), 1);
	rig_destroy(r);
}

/* ---- a router ------------------------------------------------------------------- */

/* What a plugin that carries messages to other nodes gets to see, in its order. */
struct carried {
	pthread_mutex_t lock;
	char text[64][64];
	int n;
};

static void note_carried(
		struct carried *c, const char *what, struct chatd_str a, struct chatd_str b)
{
	pthread_mutex_lock(&c->lock);
	assert_true(c->n < 64);
	snprintf(c->text[c->n++], sizeof(c->text[0]), "%s %.*s %.*s", what, (int)a.n, a.p, (int)b.n,
			b.p ? b.p : "");
	pthread_mutex_unlock(&c->lock);
}

static void carry_interest(void *self, chatd_worker *w, struct chatd_str dest, int32_t on)
{
	assert_true(worker_is_here(w));
	note_carried(self, on ? "wanted" : "unwanted", dest, CHATD_LIT(""));
}

static void carry_publish(void *self, chatd_worker *w, chatd_msg *m)
{
	assert_true(worker_is_here(w));
	note_carried(self, "topic", msg_dest(m), msg_body(m));
}

static void carry_user(void *self, chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	assert_true(worker_is_here(w));
	note_carried(self, "user", user, msg_body(m));
}

static const struct chatd_router carrier = { .struct_size = sizeof(carrier),
	.interest = carry_interest,
	.publish = carry_publish,
	.publish_user = carry_user };

struct to_publish {
	struct rig *r;
	int32_t worker, here;
	const char *user, *dest, *body;
};

static void publish_it(void *arg)
{
	const struct to_publish *p = arg;
	struct chat_worker *cw = &p->r->chat->workers[p->worker];
	chatd_msg *m = msg_new(str_of(p->dest), str_of(p->body));
	chatd_status rc;
	if (p->user) {
		rc = p->here ? dest_publish_user_here(cw, str_of(p->user), m)
					 : dest_publish_user(cw, str_of(p->user), m);
	} else {
		rc = p->here ? dest_publish_here(cw, m) : dest_publish(cw, m);
	}
	assert_int_equal(rc, 0);
	msg_unref(m);
}

static void router_hears(int workers)
{
	struct carried c = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct rig *r = rig_create(workers);
	rig_prefix(r, "/topic/", CHATD_DEST_TOPIC, 0);
	rig_prefix(r, "/queue/", CHATD_DEST_QUEUE, 10);
	r->chat->router = carrier;
	r->chat->router_self = &c;
	rig_start(r);
	struct rig_client *ann = rig_open(r, 0, "ann"), *bob = rig_open(r, workers - 1, "bob");
	rig_subscribe(ann, "/topic/t", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/topic/t", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/user/queue/x", CHATD_ACK_AUTO);
	rig_subscribe(bob, "/queue/q", CHATD_ACK_AUTO);
	const struct to_publish all[] = {
		{ r, 0, 0, NULL, "/topic/t", "1" },
		{ r, 0, 1, NULL, "/topic/t", "not carried" },
		{ r, 0, 0, NULL, "/topic/t", "2" },
		{ r, 0, 0, NULL, "/topic/nobody-here", "3" },
		{ r, 0, 0, "bob", "/user/queue/x", "4" },
		{ r, 0, 1, "bob", "/user/queue/x", "not carried" },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct to_publish p = all[i];
		rig_on(r, 0, publish_it, &p);
		rig_settle(r);
	}
	rig_got(ann, 3);
	rig_got(bob, 5);
	assert_int_equal(rig_unsubscribe(ann, "/topic/t"), 0);
	rig_settle(r);
	rig_close(bob);
	rig_settle(r);
	static const char *const want[] = { "wanted /topic/t ", "topic /topic/t 1", "topic /topic/t 2",
		"topic /topic/nobody-here 3", "user bob 4", "unwanted /topic/t " };
	assert_int_equal(c.n, sizeof(want) / sizeof(want[0]));
	for (int i = 0; i < c.n; i++) {
		assert_string_equal(c.text[i], want[i]);
	}
	rig_destroy(r);
}

TEST(a_router_hears_of_what_is_wanted_and_published_here)
{
	UNUSED;
	router_hears(1);
	router_hears(4);
}

/* A transport that unsubscribes inside send(): the last one of a topic, one among others, one of a queue. */
static void one_leaves_inside_send(int32_t ack, const char *dest)
{
	struct rig *r = topic_rig(1);
	struct rig_client *leaver = rig_open(r, 0, "u");
	rig_subscribe(leaver, dest, ack);
	leaver->leaves = 1;
	publish(r, 0, dest, 2);
	rig_settle(r);
	assert_int_equal(leaver->n_got, 1);
	struct rig_client *others[2] = { rig_open(r, 0, "v"), rig_open(r, 0, "w") };
	rig_subscribe(others[0], dest, ack);
	rig_subscribe(leaver, dest, ack); /* the same id again */
	rig_subscribe(others[1], dest, ack);
	leaver->leaves = 1;
	publish(r, 0, dest, 6);
	rig_settle(r);
	assert_int_equal(leaver->n_got, 2);
	/* A queue gives to each in turn, and first the one that the leaver did not take; what goes back takes some
	 * turns of the loop. */
	size_t want = strncmp(dest, "/queue/", 7) == 0 ? 6 : 12;
	for (int i = 0; i < 6000 && others[0]->n_got + others[1]->n_got < want; i++) {
		usleep(5000);
		rig_settle(r);
	}
	assert_int_equal(others[0]->n_got + others[1]->n_got, want);
	rig_destroy(r);
}

TEST(who_unsubscribes_inside_send_breaks_nothing)
{
	UNUSED;
	one_leaves_inside_send(CHATD_ACK_AUTO, "/topic/a");
	one_leaves_inside_send(CHATD_ACK_INDIVIDUAL, "/topic/a");
	one_leaves_inside_send(CHATD_ACK_AUTO, "/queue/a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_subscribers_on_all_workers_see_one_order),
		cmocka_unit_test(who_lacks_a_message_is_closed_and_nobody_else),
		cmocka_unit_test(what_is_published_after_the_receipt_arrives),
		cmocka_unit_test(who_cannot_be_noted_at_the_home_is_told),
		cmocka_unit_test(nothing_arrives_after_unsubscribe_and_everything_after_coming_back),
		cmocka_unit_test(a_subscriber_that_leaves_leaves_the_others),
		cmocka_unit_test(who_unsubscribes_inside_send_breaks_nothing),
		cmocka_unit_test(only_known_destinations_can_be_subscribed),
		cmocka_unit_test(a_cut_ends_the_subscriptions_of_one_user_on_every_worker),
		cmocka_unit_test(who_was_cut_off_may_still_end_the_subscription),
		cmocka_unit_test(a_message_to_a_user_reaches_all_their_devices_and_nobody_else),
		cmocka_unit_test(a_queue_goes_round_its_consumers),
		cmocka_unit_test(a_queue_keeps_ten_refuses_the_eleventh_and_gives_them_in_order),
		cmocka_unit_test(a_nack_gives_a_message_back_in_its_place),
		cmocka_unit_test(a_consumer_that_leaves_gives_back_what_it_had_not_acknowledged),
		cmocka_unit_test(client_acks_are_cumulative_within_their_subscription_alone),
		cmocka_unit_test(a_client_that_never_acknowledges_is_closed_and_its_queue_loses_nothing),
		cmocka_unit_test(a_subscription_may_be_to_what_a_message_is_about),
		cmocka_unit_test(what_is_in_a_queue_is_work_whatever_it_is_about),
		cmocka_unit_test(publishing_while_a_message_goes_out_mixes_nothing_up),
		cmocka_unit_test(a_client_may_leave_while_its_subscription_is_under_way),
		cmocka_unit_test(nothing_published_after_a_cut_reaches_who_was_cut_off),
		cmocka_unit_test(a_hook_may_cut_the_subscription_that_it_is_asked_about),
		cmocka_unit_test(a_router_hears_of_what_is_wanted_and_published_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

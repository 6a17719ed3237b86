/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "chat/queue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static chatd_status push(struct queue *q, const char *body)
{
	chatd_msg *m = msg_new(CHATD_LIT("/queue/x"), str_of(body));
	chatd_status rc = queue_push(q, m);
	msg_unref(m);
	return rc;
}

static struct consumer consumer(chatd_sid session)
{
	return (struct consumer){ .worker = 0, .session = session, .serial = 1 };
}

/* The next message goes to this session, and is this one; returns its place. */
static uint64_t expect(struct queue *q, const char *body, chatd_sid session)
{
	chatd_msg *m = NULL;
	uint64_t place = 0;
	struct consumer to;
	assert_int_equal(queue_next(q, &m, &place, &to), 1);
	assert_true(str_is(msg_body(m), body));
	assert_int_equal(to.session, session);
	msg_unref(m);
	return place;
}

static void expect_none(struct queue *q)
{
	chatd_msg *m;
	uint64_t place;
	struct consumer to;
	assert_int_equal(queue_next(q, &m, &place, &to), 0);
}

TEST(messages_wait_for_a_consumer_in_order)
{
	UNUSED;
	struct queue *q = queue_create(10, 1 << 20);
	struct consumer c = consumer(7);
	assert_true(queue_idle(q));
	push(q, "a");
	push(q, "b");
	expect_none(q);
	assert_false(queue_idle(q));
	queue_join(q, &c);
	expect(q, "a", 7);
	expect(q, "b", 7);
	expect_none(q);
	queue_leave(q, &c);
	assert_true(queue_idle(q));
	queue_destroy(q);
}

TEST(consumers_take_turns_also_after_one_has_left)
{
	UNUSED;
	struct queue *q = queue_create(100, 1 << 20);
	int seen[6] = { 0 };
	for (chatd_sid i = 1; i <= 5; i++) {
		struct consumer c = consumer(i);
		queue_join(q, &c);
	}
	struct consumer gone = consumer(3), stranger = consumer(99);
	queue_leave(q, &gone);
	queue_leave(q, &stranger);
	for (int i = 0; i < 40; i++) {
		chatd_msg *m;
		uint64_t place;
		struct consumer to;
		push(q, "x");
		assert_int_equal(queue_next(q, &m, &place, &to), 1);
		seen[to.session]++;
		msg_unref(m);
	}
	assert_int_equal(seen[3], 0);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(seen[i], i == 3 ? 0 : 10);
	}
	queue_destroy(q);
}

TEST(bounds_refuse_by_number_and_by_bytes)
{
	UNUSED;
	struct queue *q = queue_create(2, 1 << 20);
	assert_int_equal(push(q, "a"), 0);
	assert_int_equal(push(q, "b"), 0);
	assert_int_equal(push(q, "c"), -ENOSPC);
	queue_destroy(q);
	chatd_msg *m = msg_new(CHATD_LIT("/queue/x"), CHATD_LIT("a"));
	q = queue_create(100, 3 * (int64_t)msg_size(m));
	msg_unref(m);
	struct consumer c = consumer(1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(push(q, "a"), 0);
	}
	assert_int_equal(push(q, "a"), -ENOSPC);
	queue_join(q, &c);
	expect(q, "a", 1);
	assert_int_equal(push(q, "a"), 0); /* what has left makes room */
	queue_destroy(q);
}

TEST(what_comes_back_stands_where_it_stood_and_past_the_bounds)
{
	UNUSED;
	struct queue *q = queue_create(2, 1 << 20);
	struct consumer c = consumer(1);
	queue_join(q, &c);
	push(q, "a");
	uint64_t a = expect(q, "a", 1);
	push(q, "b");
	uint64_t b = expect(q, "b", 1);
	push(q, "c");
	push(q, "d");
	chatd_msg *mb = msg_new(CHATD_LIT("d"), CHATD_LIT("b")),
			  *ma = msg_new(CHATD_LIT("d"), CHATD_LIT("a"));
	assert_int_equal(queue_return(q, mb, b), 0);
	assert_int_equal(queue_return(q, ma, a), 0);
	msg_unref(ma);
	msg_unref(mb);
	expect(q, "a", 1);
	expect(q, "b", 1);
	expect(q, "c", 1);
	uint64_t d = expect(q, "d", 1);
	expect_none(q);
	chatd_msg *md = msg_new(CHATD_LIT("d"), CHATD_LIT("d"));
	assert_int_equal(queue_return(q, md, d), 0); /* into the empty queue; then to the end */
	msg_unref(md);
	push(q, "e");
	expect(q, "d", 1);
	expect(q, "e", 1);
	expect_none(q);
	queue_destroy(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_wait_for_a_consumer_in_order),
		cmocka_unit_test(consumers_take_turns_also_after_one_has_left),
		cmocka_unit_test(bounds_refuse_by_number_and_by_bytes),
		cmocka_unit_test(what_comes_back_stands_where_it_stood_and_past_the_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

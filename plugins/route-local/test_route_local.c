/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *start(const char *yaml)
{
	static const struct kit_conf conf = { .workers = 4 };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

TEST(a_topic_reaches_every_subscriber_on_every_worker)
{
	UNUSED;
	struct kit *k = start("topics: [/news/]");
	struct kit_client *c[4];
	for (int32_t i = 0; i < 4; i++) {
		c[i] = kit_open_on(k, i, "u", 0);
		kit_subscribe(c[i], "/news/a");
		kit_expect_accept(k);
	}
	kit_send(c[2], "/news/a", "hello", NULL);
	kit_expect_accept(k);
	for (int32_t i = 0; i < 4; i++) {
		kit_expect_delivery(c[i], "/news/a", "hello");
		kit_expect_quiet(c[i]);
	}
	kit_free(k);
}

TEST(a_queue_gives_each_message_to_one_subscriber_in_turn)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *ann = kit_open_on(k, 0, "ann", 0);
	struct kit_client *bob = kit_open_on(k, 3, "bob", 0);
	kit_subscribe(ann, "/queue/jobs");
	kit_subscribe(bob, "/queue/jobs");
	kit_send(ann, "/queue/jobs", "one", NULL);
	kit_send(ann, "/queue/jobs", "two", NULL);
	kit_expect_accept(k);
	kit_expect_delivery(bob, "/queue/jobs", "one");
	kit_expect_delivery(ann, "/queue/jobs", "two");
	kit_expect_quiet(ann);
	kit_expect_quiet(bob);
	kit_free(k);
}

TEST(a_queue_keeps_what_nobody_takes_within_its_bound)
{
	UNUSED;
	struct kit *k = start("queue_messages: 2");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, "/queue/jobs", "one", NULL);
	kit_send(ann, "/queue/jobs", "two", NULL);
	kit_expect_accept(k);
	kit_send(ann, "/queue/jobs", "three", NULL);
	kit_expect_reject(k, "UNAVAILABLE", "the queue is full");
	kit_subscribe(ann, "/queue/jobs");
	kit_expect_delivery(ann, "/queue/jobs", "one");
	kit_expect_delivery(ann, "/queue/jobs", "two");
	kit_expect_quiet(ann);
	kit_free(k);
}

TEST(broadcast_makes_a_queue_a_topic)
{
	UNUSED;
	struct kit *k = start("queue_mode: broadcast");
	struct kit_client *ann = kit_open_on(k, 0, "ann", 0);
	struct kit_client *bob = kit_open_on(k, 1, "bob", 0);
	kit_subscribe(ann, "/queue/jobs");
	kit_subscribe(bob, "/queue/jobs");
	kit_send(ann, "/queue/jobs", "one", NULL);
	kit_expect_delivery(ann, "/queue/jobs", "one");
	kit_expect_delivery(bob, "/queue/jobs", "one");
	kit_free(k);
}

TEST(what_is_not_opened_is_not_there)
{
	UNUSED;
	struct kit *k = start("topics: [/news/]");
	kit_in(k, "ann", "/other/x", "hi");
	kit_expect_reject(k, "NOT_FOUND", "there is no destination /other/x");
	kit_in(k, "ann", "/news/", "hi");
	kit_expect_reject(k, "NOT_FOUND", "/news/");
	kit_free(k);
}

TEST(a_prefix_begins_and_ends_with_a_slash)
{
	UNUSED;
	char *text = kit_complaints(&chatd_plugin_under_test, "topics: [/a]\nqueues: [b/, /ok/]");
	assert_non_null(strstr(
			text, "\"/a\" is not a prefix; begin and end it with a slash, for example /topic/"));
	assert_non_null(strstr(text, "\"b/\" is not a prefix"));
	assert_null(strstr(text, "/ok/\" is not"));
	free(text);
}

static void open_and_send(void)
{
	struct kit *k = start("");
	struct kit_client *ann = kit_open(k, "ann");
	if (kit_is_open(ann)) {
		kit_subscribe(ann, "/topic/x");
		kit_send(ann, "/topic/x", "hi", NULL);
		kit_expect_delivery(ann, "/topic/x", "hi");
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(open_and_send);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_topic_reaches_every_subscriber_on_every_worker),
		cmocka_unit_test(a_queue_gives_each_message_to_one_subscriber_in_turn),
		cmocka_unit_test(a_queue_keeps_what_nobody_takes_within_its_bound),
		cmocka_unit_test(broadcast_makes_a_queue_a_topic),
		cmocka_unit_test(what_is_not_opened_is_not_there),
		cmocka_unit_test(a_prefix_begins_and_ends_with_a_slash),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define READ  "/app/chat.read"
#define QUEUE "/user/queue/read"

static struct kit *fresh(const char *yaml)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, yaml);
	kit_room(k, "den", "Den", 0);
	kit_member(k, "den", "ann", CHATD_ROLE_MEMBER);
	return k;
}

static void of_several_within_a_second_the_last_is_told(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}");
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m1\"");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m3\"}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_advance(k, 1100);
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m3\"");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void reading_goes_forward_only(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m2\",\"seq\":5}");
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m2\",\"seq\":5");
	kit_advance(k, 5000);
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":5}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":6}");
	kit_expect_published_user(k, "bob", QUEUE, "\"seq\":6");
	kit_free(k);
}

static void what_waits_is_told_when_the_session_ends(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}", NULL);
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}", NULL);
	kit_expect_published_user(k, "bob", QUEUE, "m1");
	kit_close(ann);
	kit_expect_published_user(k, "bob", QUEUE, "m2");
	kit_free(k);
}

static void a_room_hears_its_members_only(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"roomId\":\"den\",\"messageId\":\"m1\"}");
	kit_expect_published(k, "/topic/room/den", "\"roomId\":\"den\",\"messageId\":\"m1\"");
	kit_in(k, "eve", READ, "{\"roomId\":\"den\",\"messageId\":\"m1\"}");
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void many_conversations_use_bounded_memory(void **state)
{
	struct kit *k = fresh("");
	char body[64], user[16];
	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(user, sizeof(user), "user%d", i);
		snprintf(body, sizeof(body), "{\"with\":\"%s\",\"messageId\":\"m1\"}", user);
		kit_in(k, "ann", READ, body);
		kit_expect_published_user(k, user, QUEUE, "m1");
	}
	/* The first was forgotten: it may be told again, which is harmless. */
	kit_in(k, "ann", READ, "{\"with\":\"user0\",\"messageId\":\"m1\"}");
	kit_expect_published_user(k, "user0", QUEUE, "m1");
	kit_in(k, "ann", READ, "{\"with\":\"user99\",\"messageId\":\"m1\"}");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_day(void)
{
	struct kit *k = fresh("legacy_queues: true");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}", NULL);
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}", NULL);
	kit_send(ann, READ, "{\"roomId\":\"den\",\"seq\":3}", NULL);
	kit_advance(k, 3000);
	kit_send(ann, READ, "{\"roomId\":\"den\",\"seq\":4}", NULL);
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_several_within_a_second_the_last_is_told),
		cmocka_unit_test(reading_goes_forward_only),
		cmocka_unit_test(what_waits_is_told_when_the_session_ends),
		cmocka_unit_test(a_room_hears_its_members_only),
		cmocka_unit_test(many_conversations_use_bounded_memory),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define TYPING "/app/chat.typing"
#define QUEUE  "/user/queue/typing"

static struct kit *fresh(const char *yaml)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, yaml);
	kit_room(k, "den", "Den", 0);
	kit_member(k, "den", "ann", CHATD_ROLE_MEMBER);
	return k;
}

static void repeated_typing_is_told_once_in_three_seconds(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_expect_accept(k);
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":true");
	kit_advance(k, 2900);
	kit_in(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_advance(k, 200);
	kit_in(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":true");
	kit_free(k);
}

static void a_program_does_not_type(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in_as(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_in_as(k, "ann", TYPING, "{\"roomId\":\"den\",\"typing\":false}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_free(k);
}

static void typing_ends_six_seconds_after_the_last_word_of_it(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":true");
	kit_advance(k, 2000);
	kit_in(k, "ann", TYPING, "{\"to\":\"bob\"}");
	kit_advance(k, 5900);
	kit_expect_nothing_published(k);
	kit_advance(k, 200);
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":false");
	kit_advance(k, 60000);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void the_end_of_the_session_ends_typing(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, TYPING, "{\"to\":\"bob\"}", NULL);
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":true");
	kit_close(ann);
	kit_expect_published_user(k, "bob", QUEUE, "\"typing\":false");
	kit_free(k);
}

static void the_ninth_conversation_ends_the_first(void **state)
{
	struct kit *k = fresh("");
	char body[32], user[16];
	(void)state;
	for (int i = 1; i <= 8; i++) {
		snprintf(user, sizeof(user), "user%d", i);
		snprintf(body, sizeof(body), "{\"to\":\"%s\"}", user);
		kit_in(k, "ann", TYPING, body);
		kit_expect_published_user(k, user, QUEUE, "\"typing\":true");
	}
	kit_in(k, "ann", TYPING, "{\"to\":\"user9\"}");
	kit_expect_published_user(k, "user1", QUEUE, "\"typing\":false");
	kit_expect_published_user(k, "user9", QUEUE, "\"typing\":true");
	kit_free(k);
}

static void a_room_is_told_by_members_only(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", TYPING, "{\"roomId\":\"den\"}");
	kit_expect_accept(k);
	kit_expect_published(k, "/topic/room/den", "\"roomId\":\"den\",\"typing\":true");
	kit_in(k, "eve", TYPING, "{\"roomId\":\"den\"}");
	kit_expect_reject(k, "NOT_MEMBER", "or there is no such room");
	kit_in(k, "eve", TYPING, "{\"roomId\":\"none\"}");
	kit_expect_reject(k, "NOT_MEMBER", "or there is no such room");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void an_answer_after_the_session_is_gone_is_harmless(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	struct kit_client *ann = kit_open(k, "ann");
	kit_hold(k, CHATD_ROOMS, 1);
	kit_send(ann, TYPING, "{\"roomId\":\"den\"}", NULL);
	kit_expect_waiting(k, 1);
	kit_cut(ann);
	kit_answer(k, CHATD_ROOMS);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void rooms_that_cannot_answer_are_said_to(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_refuse(k, CHATD_ROOMS, -12);
	kit_in(k, "ann", TYPING, "{\"roomId\":\"den\"}");
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_refuse_suspend(k, 1);
	kit_in(k, "ann", TYPING, "{\"roomId\":\"den\"}");
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_free(k);
}

static void old_clients_hear_it_among_the_messages(void **state)
{
	struct kit *k = fresh("legacy_queues: true");
	(void)state;
	kit_in(k, "ann", TYPING, "{\"receiver\":\"bob\",\"receiverId\":\"eve\"}");
	kit_expect_reject(k, "VALIDATION", "name different users");
	kit_in(k, "ann", TYPING, "{\"receiver\":\"bob\",\"typing\":true}");
	kit_expect_published_user(k, "bob", QUEUE, "TYPING");
	kit_expect_published_user(k, "bob", "/user/queue/messages", "TYPING");
	kit_free(k);
}

static void a_day(void)
{
	struct kit *k = fresh("");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, TYPING, "{\"to\":\"bob\"}", NULL);
	kit_send(ann, TYPING, "{\"roomId\":\"den\"}", NULL);
	kit_advance(k, 10000);
	kit_send(ann, TYPING, "{\"to\":\"bob\"}", NULL);
	kit_send(ann, TYPING, "{\"to\":\"bob\",\"typing\":false}", NULL);
	kit_send(ann, TYPING, "{\"roomId\":\"den\"}", NULL);
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
		cmocka_unit_test(repeated_typing_is_told_once_in_three_seconds),
		cmocka_unit_test(typing_ends_six_seconds_after_the_last_word_of_it),
		cmocka_unit_test(a_program_does_not_type),
		cmocka_unit_test(the_end_of_the_session_ends_typing),
		cmocka_unit_test(the_ninth_conversation_ends_the_first),
		cmocka_unit_test(a_room_is_told_by_members_only),
		cmocka_unit_test(an_answer_after_the_session_is_gone_is_harmless),
		cmocka_unit_test(rooms_that_cannot_answer_are_said_to),
		cmocka_unit_test(old_clients_hear_it_among_the_messages),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

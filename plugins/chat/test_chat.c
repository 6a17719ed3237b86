/* SPDX-License-Identifier: Apache-2.0 */
#include "dedupe.h"
#include "message.h"

#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define SEND  "/app/chat.send"
#define QUEUE "/user/queue/messages"

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- dedupe ----------------------------------------------------------------- */

static struct dedupe_item item(const char *user, const char *client_id, int64_t now)
{
	struct dedupe_item i = { .user = text(user), .client_id = text(client_id), .now = now };
	snprintf(i.id, sizeof(i.id), "%s-%s", user, client_id);
	return i;
}

static enum dedupe_verdict take(struct dedupe *d, const char *user, const char *id, int64_t now)
{
	char first[37];
	struct dedupe_item i = item(user, id, now);
	return dedupe_take(d, &i, first);
}

static void the_first_id_is_remembered_for_the_window(void **state)
{
	const struct dedupe_conf conf = { .window_ms = 1000, .max = 100, .per_user = 10 };
	struct dedupe *d = dedupe_create(&conf);
	struct dedupe_item i = item("ann", "1", 0), later = item("ann", "1", 999);
	char first[37] = "";
	(void)state;
	assert_int_equal(dedupe_take(d, &i, first), DEDUPE_NEW);
	snprintf(later.id, sizeof(later.id), "another");
	assert_int_equal(dedupe_take(d, &later, first), DEDUPE_SAME);
	assert_string_equal(first, "ann-1");
	later.content = 1;
	assert_int_equal(dedupe_take(d, &later, first), DEDUPE_OTHER);
	later.now = 1000;
	assert_int_equal(dedupe_take(d, &later, first), DEDUPE_NEW);
	dedupe_destroy(d);
}

static void users_and_ids_are_not_mixed_up(void **state)
{
	const struct dedupe_conf conf = { .window_ms = 1000, .max = 100, .per_user = 10 };
	struct dedupe *d = dedupe_create(&conf);
	(void)state;
	assert_int_equal(take(d, "a", "bc", 0), DEDUPE_NEW);
	assert_int_equal(take(d, "ab", "c", 0), DEDUPE_NEW);
	assert_int_equal(take(d, "a", "b", 0), DEDUPE_NEW);
	assert_int_equal(take(d, "a", "bc", 0), DEDUPE_SAME);
	dedupe_destroy(d);
}

static void one_sender_cannot_push_out_others(void **state)
{
	const struct dedupe_conf conf = { .window_ms = 1000, .max = 100, .per_user = 10 };
	struct dedupe *d = dedupe_create(&conf);
	char id[16];
	(void)state;
	assert_int_equal(take(d, "bob", "1", 0), DEDUPE_NEW);
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(take(d, "ann", id, 0), DEDUPE_NEW);
	}
	assert_int_equal(dedupe_count(d), 11);
	assert_int_equal(take(d, "bob", "1", 0), DEDUPE_SAME);
	assert_int_equal(take(d, "ann", "990", 0), DEDUPE_SAME);
	assert_int_equal(take(d, "ann", "989", 0), DEDUPE_NEW);
	dedupe_destroy(d);
}

static void the_table_is_bounded_and_empties_itself(void **state)
{
	const struct dedupe_conf conf = { .window_ms = 1000, .max = 100, .per_user = 10 };
	struct dedupe *d = dedupe_create(&conf);
	char user[16];
	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(user, sizeof(user), "u%d", i);
		assert_int_equal(take(d, user, "1", i), DEDUPE_NEW);
	}
	assert_int_equal(dedupe_count(d), 100);
	dedupe_expire(d, 5000);
	assert_int_equal(dedupe_count(d), 0);
	dedupe_destroy(d);
}

static void what_was_not_delivered_is_forgotten(void **state)
{
	const struct dedupe_conf conf = { .window_ms = 1000, .max = 100, .per_user = 10 };
	struct dedupe *d = dedupe_create(&conf);
	struct dedupe_item i = item("ann", "1", 0);
	char first[37];
	(void)state;
	assert_int_equal(dedupe_take(d, &i, first), DEDUPE_NEW);
	dedupe_drop(d, &i);
	assert_int_equal(dedupe_count(d), 0);
	assert_int_equal(dedupe_take(d, &i, first), DEDUPE_NEW);
	dedupe_destroy(d);
}

/* ---- messages --------------------------------------------------------------- */

static const struct message_limits limits = { 10, 24, 30 };

static void expect_fault(const char *body, const char *code, const char *part)
{
	struct message_draft d;
	struct message_fault f;
	if (message_read(text(body), &limits, &d, &f) == 0) {
		message_free(&d);
		fail_msg("accepted: %s", body);
	}
	assert_string_equal(f.code, code);
	if (!strstr(f.why, part)) {
		fail_msg("\"%s\" is not in \"%s\"", part, f.why);
	}
}

static void limits_count_characters_and_bytes(void **state)
{
	struct message_draft d;
	struct message_fault f;
	(void)state;
	assert_int_equal(
			message_read(text("{\"to\":\"b\",\"content\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
							  "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"}"),
					&limits, &d, &f),
			0);
	message_free(&d);
	expect_fault("{\"to\":\"b\",\"content\":\"12345678901\"}", "TOO_LARGE", "11 characters");
	expect_fault(
			"{\"to\":\"b\",\"content\":\"\xf0\x9f\x91\x8b\xf0\x9f\x91\x8b\xf0\x9f\x91\x8b\xf0\x9f"
			"\x91\x8b\xf0\x9f\x91\x8b\xf0\x9f\x91\x8b\xf0\x9f\x91\x8b\"}",
			"TOO_LARGE", "28 bytes");
}

static void what_is_encrypted_names_a_key_and_has_a_limit_of_its_own(void **state)
{
	struct message_draft d;
	struct message_fault f;
	(void)state;
	assert_int_equal(message_read(text("{\"to\":\"b\",\"encrypted\":true,\"keyId\":\"k_1\","
									   "\"content\":\"123456789012345678901234567890\"}"),
							 &limits, &d, &f),
			0);
	assert_int_equal(d.key_id.n, 3);
	message_free(&d);
	expect_fault(
			"{\"to\":\"b\",\"content\":\"x\",\"encrypted\":true}", "VALIDATION", "needs keyId");
	expect_fault("{\"to\":\"b\",\"content\":\"x\",\"encrypted\":true,\"keyId\":\"a b\"}",
			"VALIDATION", "needs keyId");
	expect_fault("{\"to\":\"b\",\"attachmentUrl\":\"/x\",\"encrypted\":true,\"keyId\":\"k\"}",
			"VALIDATION", "needs content");
	expect_fault("{\"to\":\"b\",\"encrypted\":true,\"keyId\":\"k\","
				 "\"content\":\"1234567890123456789012345678901\"}",
			"TOO_LARGE", "31 bytes; 30 are allowed, encrypted");
	/* Without the flag it is an unknown field. */
	assert_int_equal(
			message_read(text("{\"to\":\"b\",\"content\":\"x\",\"keyId\":\"k\"}"), &limits, &d, &f),
			0);
	assert_null(d.key_id.p);
	message_free(&d);
}

static void a_fault_names_the_field_and_the_message(void **state)
{
	struct message_draft d;
	struct message_fault f;
	(void)state;
	expect_fault("{\"to\":1,\"content\":\"x\"}", "VALIDATION", "to must be a string");
	expect_fault("{\"to\":\"b\",\"content\":\"x\",\"mentions\":{}}", "VALIDATION",
			"mentions must be a list");
	expect_fault("{\"content\":\"x\"}", "VALIDATION", "to (a user) or roomId is missing");
	expect_fault("{\"to\":\"b\",\"to\":\"c\"}", "VALIDATION", "duplicate key");
	assert_int_equal(
			message_read(text("{\"to\":1,\"content\":\"x\",\"clientId\":\"c\"}"), &limits, &d, &f),
			-EINVAL);
	assert_string_equal(f.client_id, "c");
}

/* What the sender has said stays, and where he has said nothing comes what is known. */
static void what_is_known_of_files_is_filled_in(void **state)
{
	struct message_draft d;
	struct message_fault f;
	struct message_stamp s = { .id = text("i"), .sender = text("a"), .now = 0 };
	struct chatd_json j;
	(void)state;
	assert_int_equal(message_read(text("{\"to\":\"b\",\"attachments\":[{\"url\":\"/x\",\"size\":5,"
									   "\"name\":null},{\"url\":\"/y\"},{\"url\":\"/z\"}]}"),
							 &limits, &d, &f),
			0);
	chatd_json_init(&j, NULL, 0);
	size_t own = message_write(&j, &d, &s);
	message_add_facts(&j, own, &d,
			text("{\"0\":{\"name\":\"n\",\"size\":6},\"2\":{\"size\":7},\"3\":{\"size\":8}}"));
	assert_int_equal(j.failed, 0);
	chatd_json_raw(&j, "", 1);
	assert_string_equal(j.p + own,
			",\"receiver\":\"b\",\"receiverId\":\"b\",\"attachments\":[{\"url\":\"/x\",\"size\":5,"
			"\"name\":\"n\"},{\"url\":\"/y\"},{\"url\":\"/z\",\"size\":7}]}");
	chatd_json_free(&j);
	message_free(&d);
}

static void text_is_written_safe_for_html(void **state)
{
	struct message_draft d;
	struct message_fault f;
	struct message_stamp s = { .id = text("i"), .sender = text("a"), .now = 0 };
	struct chatd_json j;
	char room[16];
	(void)state;
	assert_int_equal(message_read(text("{\"to\":\"b\",\"content\":\"<&>\\\"\\n\xe2\x80\xa9\"}"),
							 &limits, &d, &f),
			0);
	chatd_json_init(&j, room, sizeof(room));
	size_t own = message_write(&j, &d, &s);
	chatd_json_lit(&j, "\0");
	assert_string_equal(j.p,
			"{\"id\":\"i\",\"type\":\"CHAT\",\"sender\":\"a\",\"senderId\":\"a\","
			"\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"status\":\"SENT\",\"receiver\":\"b\","
			"\"receiverId\":\"b\",\"content\":\"\\u003c\\u0026\\u003e\\\"\\n\\u2029\"}");
	assert_non_null(strstr(j.p + own, "receiver"));
	assert_null(strstr(j.p + own, "timestamp"));
	chatd_json_free(&j);
	message_free(&d);
}

/* ---- the way of a message ----------------------------------------------------- */

static struct kit *fresh(int32_t workers)
{
	const struct kit_conf conf = { .workers = workers };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	const struct chatd_account bob = {
		.struct_size = sizeof(bob), .id = CHATD_LIT("bob"), .nickname = CHATD_LIT("Bob")
	};
	kit_account(k, &bob);
	kit_room(k, "den", "Den", 1);
	kit_member(k, "den", "ann", CHATD_ROLE_MEMBER);
	return k;
}

static void a_receiver_is_looked_up_once_a_minute(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	kit_hold(k, CHATD_ACCOUNTS, 1);
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"1\"}");
	kit_expect_waiting(k, 1);
	kit_expect_nothing_published(k);
	kit_answer(k, CHATD_ACCOUNTS);
	kit_expect_accept(k);
	kit_expect_published_user(k, "bob", QUEUE, "\"content\":\"1\"");
	kit_expect_published_user(k, "ann", QUEUE, "\"content\":\"1\"");
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"2\"}");
	kit_expect_accept(k);
	kit_advance(k, 61000);
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"3\"}");
	kit_expect_waiting(k, 1);
	kit_answer(k, CHATD_ACCOUNTS);
	kit_expect_accept(k);
	kit_free(k);
}

static void strangers_and_lost_services_are_told_apart(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	kit_in(k, "ann", SEND, "{\"to\":\"nobody\",\"content\":\"1\",\"clientId\":\"c\"}");
	kit_expect_reject(k, "NOT_FOUND", "no such user");
	kit_expect_reply(k, "clientId", "c");
	kit_refuse(k, CHATD_ACCOUNTS, -ENOMEM);
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"1\"}");
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_hold(k, CHATD_ACCOUNTS, 1);
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"1\"}");
	kit_answer_error(k, CHATD_ACCOUNTS, -EIO);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_refuse_suspend(k, 1);
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"1\"}");
	kit_expect_reject(k, "UNAVAILABLE", "busy");
	kit_expect_nothing_published(k);
	kit_free(k);
}

/* Who is in a room is known to the store. */
static void without_a_store_there_are_no_rooms(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"1\",\"clientId\":\"c\"}");
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	kit_expect_reply(k, "clientId", "c");
	kit_expect_nothing_published(k);
	kit_free(k);
}

/* Whoever sends it again after the reconnect must find it delivered. */
static void a_message_is_delivered_though_its_sender_left(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 3, "ann", 0);
	kit_hold(k, CHATD_ACCOUNTS, 1);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"1\",\"clientId\":\"c\"}", NULL);
	kit_close(ann);
	kit_answer(k, CHATD_ACCOUNTS);
	kit_expect_published_user(k, "bob", QUEUE, "\"clientId\":\"c\"");
	kit_expect_published_user(k, "ann", QUEUE, "\"clientId\":\"c\"");
	kit_hold(k, CHATD_ACCOUNTS, 0);
	ann = kit_open_on(k, 1, "ann", 0);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"1\",\"clientId\":\"c\"}", NULL);
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_day(void)
{
	struct kit *k = fresh(2);
	struct kit_client *ann = kit_open_on(k, 1, "ann", 0);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"1\",\"clientId\":\"c\"}", "traceparent", "t",
			NULL);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"1\",\"clientId\":\"c\"}", NULL);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"2\"}", NULL);
	kit_send(ann, SEND, "{\"roomId\":\"den\",\"content\":\"3\"}", NULL);
	kit_send(ann, SEND, "{", NULL);
	kit_advance(k, 120000);
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
		cmocka_unit_test(the_first_id_is_remembered_for_the_window),
		cmocka_unit_test(users_and_ids_are_not_mixed_up),
		cmocka_unit_test(one_sender_cannot_push_out_others),
		cmocka_unit_test(the_table_is_bounded_and_empties_itself),
		cmocka_unit_test(what_was_not_delivered_is_forgotten),
		cmocka_unit_test(limits_count_characters_and_bytes),
		cmocka_unit_test(what_is_encrypted_names_a_key_and_has_a_limit_of_its_own),
		cmocka_unit_test(a_fault_names_the_field_and_the_message),
		cmocka_unit_test(what_is_known_of_files_is_filled_in),
		cmocka_unit_test(text_is_written_safe_for_html),
		cmocka_unit_test(a_receiver_is_looked_up_once_a_minute),
		cmocka_unit_test(strangers_and_lost_services_are_told_apart),
		cmocka_unit_test(without_a_store_there_are_no_rooms),
		cmocka_unit_test(a_message_is_delivered_though_its_sender_left),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/str.h"
#include "chat/error.h"
#include "chat/ident.h"
#include "chat/msg.h"
#include "chat/wire.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static void expect(const chatd_msg *m, const char *header, const char *value)
{
	struct chatd_str v = msg_get(m, header);
	if (!value) {
		assert_null(v.p);
		return;
	}
	assert_non_null(v.p);
	assert_true(str_is(v, value));
}

TEST(a_message_keeps_its_own_copy)
{
	UNUSED;
	char dest[] = "/topic/x", body[] = "hello", value[] = "v";
	chatd_msg *m = msg_new(str_of(dest), str_of(body));
	assert_int_equal(msg_set(m, "h", str_of(value)), 0);
	dest[0] = body[0] = value[0] = '!';
	assert_true(str_is(msg_dest(m), "/topic/x"));
	assert_true(str_is(msg_body(m), "hello"));
	expect(m, "h", "v");
	assert_int_equal(msg_id(m).n, 36);
	msg_unref(m);
}

TEST(bodies_may_hold_any_byte_and_none)
{
	UNUSED;
	chatd_msg *m = msg_new(CHATD_LIT(""), CHATD_LIT("a\0b"));
	assert_int_equal(msg_body(m).n, 3);
	assert_memory_equal(msg_body(m).p, "a\0b", 3);
	msg_unref(m);
	m = msg_new(chatd_str_of(NULL, 0), chatd_str_of(NULL, 0));
	assert_int_equal(msg_body(m).n, 0);
	msg_unref(m);
}

TEST(headers_keep_their_order_and_the_last_value)
{
	UNUSED;
	struct chatd_str n, v;
	chatd_msg *m = msg_new(CHATD_LIT("d"), CHATD_LIT(""));
	msg_set(m, "a", CHATD_LIT("1"));
	msg_set(m, "b", CHATD_LIT("2"));
	msg_set(m, "c", CHATD_LIT(""));
	msg_set(m, "a", CHATD_LIT("one"));
	msg_set(m, "b", chatd_str_of(NULL, 0));
	msg_set(m, "nothing", chatd_str_of(NULL, 0));
	expect(m, "a", "one");
	expect(m, "b", NULL);
	expect(m, "c", "");
	expect(m, "A", NULL); /* names are exact */
	assert_true(msg_header(m, 0, &n, &v) && str_is(n, "a"));
	assert_true(msg_header(m, 1, &n, &v) && str_is(n, "c"));
	assert_false(msg_header(m, 2, &n, &v));
	msg_unref(m);
}

TEST(any_number_of_headers_of_any_size_fits)
{
	UNUSED;
	chatd_msg *m = msg_new(CHATD_LIT("d"), CHATD_LIT("b"));
	char *big = calloc(1, 100001);
	size_t before = msg_size(m);
	memset(big, 'x', 100000);
	for (int i = 0; i < 100; i++) {
		char name[16], value[16];
		snprintf(name, sizeof(name), "h%d", i);
		snprintf(value, sizeof(value), "v%d", i);
		assert_int_equal(msg_set(m, name, str_of(value)), 0);
	}
	assert_int_equal(msg_set(m, "big", str_of(big)), 0);
	assert_true(msg_size(m) >= before + 100000);
	expect(m, "h0", "v0");
	expect(m, "h99", "v99");
	expect(m, "big", big);
	/* A value of the message's own may be set again. */
	assert_int_equal(msg_set(m, "copy", msg_get(m, "big")), 0);
	expect(m, "copy", big);
	free(big);
	msg_unref(m);
}

TEST(a_clone_is_equal_and_separate)
{
	UNUSED;
	char name[301];
	struct chatd_str n, v;
	chatd_msg *m = msg_new(CHATD_LIT("/topic/x"), CHATD_LIT("body"));
	memset(name, 'n', 300);
	name[300] = '\0';
	msg_set(m, name, CHATD_LIT("long name"));
	msg_set(m, "a", CHATD_LIT("1"));
	msg_flags(m, CHATD_MSG_EPHEMERAL);
	chatd_msg *c = msg_clone(m);
	assert_true(str_eq(msg_id(c), msg_id(m)));
	assert_true(str_eq(msg_body(c), msg_body(m)));
	assert_int_equal(msg_flags_get(c), CHATD_MSG_EPHEMERAL);
	assert_true(msg_header(c, 0, &n, &v) && n.n == 300);
	expect(c, name, "long name");
	msg_set(c, "a", CHATD_LIT("2"));
	expect(m, "a", "1");
	msg_unref(m);
	expect(c, "a", "2");
	msg_unref(c);
}

TEST(shared_is_more_than_one_reference)
{
	UNUSED;
	chatd_msg *m = msg_new(CHATD_LIT("d"), CHATD_LIT(""));
	assert_false(msg_shared(m));
	msg_ref(m);
	assert_true(msg_shared(m));
	msg_unref(m);
	assert_false(msg_shared(m));
	msg_unref(m);
	msg_unref(NULL);
}

TEST(an_identity_is_its_text)
{
	UNUSED;
	const chatd_ident *i = ident_create(CHATD_LIT("ann"), CHATD_LIT(""), CHATD_ID_ADMIN);
	assert_true(str_is(ident_user(i), "ann"));
	assert_true(str_is(ident_name(i), ""));
	assert_int_equal(ident_flags(i), CHATD_ID_ADMIN);
	ident_unref(ident_ref(i));
	assert_true(str_is(ident_user(i), "ann"));
	ident_unref(i);
	ident_unref(NULL);
}

/* ---- wire forms ---------------------------------------------------------------- */

static const struct chatd_conn_ops ops[2];
static const struct chatd_layer layers[2];

TEST(equal_wire_forms_are_one_and_others_are_not)
{
	UNUSED;
	char longer[400];
	memset(longer, 'i', sizeof(longer));
	map_init();
	struct wire_table *t = wire_table_create();
	struct wire like = { .ops = &ops[0], .layer = &layers[0], .form = 1, .id = CHATD_LIT("sub-0") };
	struct wire *a = wire_get(t, &like), *b = wire_get(t, &like);
	assert_ptr_equal(a, b);
	struct wire other[4] = { like, like, like, like };
	other[0].form = 2;
	other[1].layer = &layers[1];
	other[2].ops = &ops[1];
	other[3].id = chatd_str_of(longer, sizeof(longer));
	for (size_t i = 0; i < 4; i++) {
		struct wire *o = wire_get(t, &other[i]);
		assert_ptr_not_equal(o, a);
		assert_true(str_eq(o->id, other[i].id));
		wire_put(t, o);
	}
	wire_put(t, a);
	assert_ptr_equal(wire_get(t, &like), b);
	wire_put(t, b);
	wire_put(t, b);
	wire_table_destroy(t);
}

/* ---- soft errors ------------------------------------------------------------------ */

TEST(a_soft_error_says_what_why_and_about_which_frame)
{
	UNUSED;
	chatd_msg *frame = msg_new(CHATD_LIT("/app/x"), CHATD_LIT(""));
	chatd_msg *reply = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	msg_set(frame, "receipt", CHATD_LIT("r-\"7\""));
	msg_set(reply, "retryAfterSeconds", CHATD_LIT("3"));
	msg_set(reply, "quiet-\"until\"", CHATD_LIT("07:00\n"));
	msg_set(reply, "code", CHATD_LIT("A plugin's own"));
	struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = CHATD_REJECT,
		.code = "RATE_LIMIT",
		.why = CHATD_LIT("slow \"down\"\n"),
		.reply = reply };
	chatd_msg *m = error_message(&o, frame);
	assert_true(str_is(msg_dest(m), "/user/queue/errors"));
	json_t *j = json_loadb(msg_body(m).p, msg_body(m).n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "errorCode")), "RATE_LIMIT");
	assert_string_equal(json_string_value(json_object_get(j, "message")), "slow \"down\"\n");
	assert_string_equal(json_string_value(json_object_get(j, "receiptId")), "r-\"7\"");
	assert_string_equal(json_string_value(json_object_get(j, "destination")), "/app/x");
	assert_string_equal(json_string_value(json_object_get(j, "code")), "RATE_LIMIT");
	assert_int_equal(json_integer_value(json_object_get(j, "retryAfterSeconds")), 3);
	assert_string_equal(json_string_value(json_object_get(j, "quiet-\"until\"")), "07:00\n");
	json_decref(j);
	msg_unref(m);
	msg_unref(reply);
	msg_unref(frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_keeps_its_own_copy),
		cmocka_unit_test(bodies_may_hold_any_byte_and_none),
		cmocka_unit_test(headers_keep_their_order_and_the_last_value),
		cmocka_unit_test(any_number_of_headers_of_any_size_fits),
		cmocka_unit_test(a_clone_is_equal_and_separate),
		cmocka_unit_test(shared_is_more_than_one_reference),
		cmocka_unit_test(an_identity_is_its_text),
		cmocka_unit_test(equal_wire_forms_are_one_and_others_are_not),
		cmocka_unit_test(a_soft_error_says_what_why_and_about_which_frame),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

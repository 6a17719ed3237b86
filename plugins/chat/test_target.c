/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-sdk/chat.h, by which hooks know whom a message is for, says what this plugin does. */
#include "message.h"

#include <chatd-sdk/chat.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct {
	const char *body;
	int32_t kind;
	const char *target;
} said[] = {
	{ "{\"to\":\"bob\",\"content\":\"x\"}", CHATD_CHAT_USER, "bob" },
	{ "{\"receiver\":\"bob\",\"content\":\"x\"}", CHATD_CHAT_USER, "bob" },
	{ "{\"receiverId\":\"bob\",\"content\":\"x\"}", CHATD_CHAT_USER, "bob" },
	{ "{\"to\":\"\",\"receiver\":\"\",\"receiverId\":\"bob\",\"content\":\"x\"}", CHATD_CHAT_USER,
			"bob" },
	{ "{\"to\":\"bob\",\"receiver\":\"bob\",\"receiverId\":\"bob\",\"content\":\"x\"}",
			CHATD_CHAT_USER, "bob" },
	{ "{\"to\":\"bob\",\"roomId\":\"\",\"message\":\"x\"}", CHATD_CHAT_USER, "bob" },
	{ "{\"roomId\":\"den\",\"content\":\"x\"}", CHATD_CHAT_ROOM, "den" },
	{ "{\"roomId\":\"den\",\"to\":\"\",\"content\":\"x\"}", CHATD_CHAT_ROOM, "den" },
	{ "{\"to\":\"not an id\",\"content\":\"x\"}", CHATD_CHAT_USER, "not an id" },
	{ "{\"to\":\"bob\",\"receiver\":\"eve\",\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "{\"receiver\":\"bob\",\"receiverId\":\"eve\",\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "{\"to\":\"bob\",\"roomId\":\"den\",\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "{\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "{\"to\":\"\",\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "{\"to\":\"bob\",\"to\":\"eve\",\"content\":\"x\"}", CHATD_CHAT_NONE, NULL },
	{ "[]", CHATD_CHAT_NONE, NULL },
	{ "", CHATD_CHAT_NONE, NULL },
};

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void is(struct chatd_str s, const char *what)
{
	assert_true(what ? chatd_str_same(s, z(what)) : !s.p);
}

static void a_target_is_the_same_to_a_hook_and_to_chat(void **state)
{
	static const struct message_limits limits = { 100, 100, 100 };
	(void)state;
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct chatd_chat c;
		struct message_draft d;
		struct message_fault f;
		int32_t kind = chatd_chat_read(CHATD_LIT("/app/chat.send"), z(said[i].body), &c);
		assert_int_equal(kind, said[i].kind);
		chatd_status rc = message_read(z(said[i].body), &limits, &d, &f);
		assert_int_equal(rc, kind ? 0 : -EINVAL);
		if (kind) {
			is(c.user, kind == CHATD_CHAT_USER ? said[i].target : NULL);
			is(c.room, kind == CHATD_CHAT_ROOM ? said[i].target : NULL);
			is(c.content, "x");
			assert_true(chatd_str_same(c.user, d.to) && chatd_str_same(c.room, d.room));
			message_free(&d);
		}
		json_decref(c.body);
	}
}

static void texts_come_in_at_three_destinations(void **state)
{
	static const char body[] =
			"{\"to\":\"bob\",\"messageId\":\"m1\",\"content\":\"x\",\"clientId\":\"7\",\"encrypted\":true}";
	static const char *const others[] = { "/app/chat.react", "/app/chat.send2", "/topic/a", "" };
	struct chatd_chat c;
	(void)state;
	assert_int_equal(
			chatd_chat_read(CHATD_LIT("/app/chat.sendMessage"), z(body), &c), CHATD_CHAT_USER);
	is(c.user, "bob");
	is(c.client_id, "7");
	assert_int_equal(c.encrypted, 1);
	json_decref(c.body);
	assert_int_equal(chatd_chat_read(CHATD_LIT("/app/chat.edit"), z(body), &c), CHATD_CHAT_EDIT);
	is(c.message_id, "m1");
	is(c.user, NULL);
	is(c.content, "x");
	json_decref(c.body);
	assert_int_equal(chatd_chat_read(CHATD_LIT("/app/chat.edit"), z("{\"content\":\"x\"}"), &c),
			CHATD_CHAT_NONE);
	json_decref(c.body);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(chatd_chat_read(z(others[i]), z(body), &c), CHATD_CHAT_NONE);
		assert_null(c.body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_target_is_the_same_to_a_hook_and_to_chat),
		cmocka_unit_test(texts_come_in_at_three_destinations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

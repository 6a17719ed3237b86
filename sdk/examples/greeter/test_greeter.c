/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void who_joins_is_greeted(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "greeting: Good to see you.");
	kit_app(k, "chat.send");
	kit_room_event(k, CHATD_ROOM_MADE, "den", "ann");
	kit_expect_nothing_said(k);
	kit_room_event(k, CHATD_ROOM_JOINED, "den", "bob");
	kit_expect_said(k, "bot-greeter", "/app/chat.send",
			"{\"to\":\"bob\",\"content\":\"Good to see you.\",\"clientId\":\"den-bob\"}");
	kit_room_event(k, CHATD_ROOM_LEFT, "den", "bob");
	kit_expect_nothing_said(k);
	kit_free(k);
}

static void a_refusal_is_told(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "greeting: Hi.");
	kit_room_event(k, CHATD_ROOM_JOINED, "den", "bob"); /* here is no plugin "chat" */
	kit_expect_logged(k, "a newcomer was not greeted: NOT_FOUND");
	kit_free(k);
}

static void greetings_are_looked_at(void)
{
	kit_expect_complaint(&chatd_plugin_under_test, "greeting: 'say \"hi\"'", "no quotes");
	kit_expect_complaint(&chatd_plugin_under_test, "name: X", "greeting");
}

KIT_MAIN(KIT_TEST(who_joins_is_greeted), KIT_TEST(a_refusal_is_told),
		KIT_TEST_ONCE(greetings_are_looked_at))

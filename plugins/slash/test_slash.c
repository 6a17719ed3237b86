/* SPDX-License-Identifier: Apache-2.0 */
#include "slash.h"

#include <chatd/kit.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void commands_are_told_from_other_text(void **state)
{
	static const struct {
		const char *content, *name, *rest; /* name NULL: no command */
	} all[] = {
		{ "/me waves", "me", "waves" },
		{ "/me", "me", "" },
		{ "/me  \n two  words \n", "me", "two  words" },
		{ "/a-1 x", "a-1", "x" },
		{ "/etc/passwd", NULL, NULL },
		{ "/ me", NULL, NULL },
		{ "/", NULL, NULL },
		{ "", NULL, NULL },
		{ "//me", NULL, NULL },
		{ "/Me", NULL, NULL },
		{ "/1x", NULL, NULL },
		{ " /me", NULL, NULL },
		{ "me", NULL, NULL },
		{ "/abcdefghijklmnopqrstuvwxyzabcdefg", NULL, NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct chatd_str name = { NULL, 0 }, rest = { NULL, 0 };
		int is = words_split(text(all[i].content), &name, &rest);
		assert_int_equal(is, all[i].name != NULL);
		assert_true(!is || chatd_str_same(name, text(all[i].name)));
		assert_true(!is || chatd_str_same(rest, text(all[i].rest)));
	}
}

static void what_they_say(void **state)
{
	struct chatd_json j;
	(void)state;
	chatd_json_init(&j, NULL, 0);
	assert_true(words_say(&j, CHATD_LIT("me"), CHATD_LIT("waves"), CHATD_LIT("Ann")));
	assert_true(chatd_str_same(chatd_json_str(&j), CHATD_LIT("_Ann waves_")));
	j.n = 0;
	assert_true(words_say(&j, CHATD_LIT("shrug"), CHATD_LIT("ok"), CHATD_LIT("Ann")));
	assert_true(chatd_str_same(
			chatd_json_str(&j), CHATD_LIT("ok \xc2\xaf\\_(\xe3\x83\x84)_/\xc2\xaf")));
	j.n = 0;
	assert_true(words_say(&j, CHATD_LIT("me"), CHATD_LIT(""), CHATD_LIT("Ann")));
	assert_int_equal(j.n, 0);
	assert_false(words_say(&j, CHATD_LIT("mee"), CHATD_LIT(""), CHATD_LIT("Ann")));
	chatd_json_free(&j);
}

static void mistakes_in_the_options_are_named(void **state)
{
#define COMMAND(name) \
	"commands:\n  - { name: " name ", url: \"http://x\", secret: 0123456789abcdef }"
	static const struct {
		const char *conf, *part;
	} wrong[] = {
		{ COMMAND("A b"), "cannot be a command" },
		{ COMMAND("shrug"), "already" },
		{ COMMAND("help"), "already" },
		{ COMMAND("a") "\n  - { name: a, url: \"http://x\", secret: 0123456789abcdef }",
				"already" },
		{ "commands:\n  - { name: a, url: x, secret: 0123456789abcdef }", "no http" },
		{ "commands:\n  - { name: a, url: \"http://x\", secret: short }", "openssl rand" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i].conf, wrong[i].part);
	}
}

/* No handler is here: that one is asked at all shows that the hook let it pass. */
static void passes(struct kit *k)
{
	kit_expect_reject(k, "NOT_FOUND", "/app/chat.send");
}

static void commands_are_done(void **state)
{
	const struct kit_service none[] = { { CHATD_FETCH, NULL, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf with = { .services = none };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, "", &with);
	struct kit_client *c = kit_open(k, "ann");
	(void)state;
	kit_subscribe(c, "/user/queue/messages");
	kit_in(k, "ann", "/app/chat.send",
			"{\"to\":\"bob\",\"content\":\"/help\",\"clientId\":\"c1\"}");
	kit_expect_drop(k);
	kit_expect_delivery(c, "/user/queue/messages", "\"code\":\"COMMAND\",\"command\":\"help\"");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/nothing\"}");
	kit_expect_reject(k, "UNKNOWN_COMMAND", "/help lists");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/me\"}");
	kit_expect_reject(k, "VALIDATION", "write something");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/me waves\"}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"//me\"}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/help\",\"encrypted\":true}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"content\":\"/");
	passes(k);
	kit_in(k, "ann", "/topic/x", "{\"content\":\"/help\"}");
	kit_expect_accept(k);
	kit_expect_quiet(c);
	struct kit_req *r = kit_http(k, "GET", "/api/chat/commands", NULL, "kit-user", "ann", NULL);
	kit_expect_http(r, 200, "{\"name\":\"shrug\",\"help\":\"[TEXT]: nobody knows\"}");
	kit_expect_http(kit_http(k, "GET", "/api/chat/commands", NULL, NULL), 401, "");
	kit_free(k);
}

static void sweep(void)
{
	commands_are_done(NULL);
}

static void no_memory(void **state)
{
	(void)state;
	kit_sweep(sweep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_told_from_other_text),
		cmocka_unit_test(what_they_say),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(commands_are_done),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

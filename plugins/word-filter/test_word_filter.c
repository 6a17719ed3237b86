/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin around its parts; what it lets through is seen by a handler of this test. */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static struct chatd_plugin with_chat; /* the plugin, and the handler */
static const struct chatd_host *host;
static char words[200], conf[1200];

/* ---- where messages and reports arrive ------------------------------------------------------ */

static struct {
	char body[4096], flagged[40];
	int n;
} sent;

static chatd_verdict on_sent(chatd_call *call, void *self, void *wself)
{
	const chatd_msg *m = host->call_msg(call);
	struct chatd_str body = host->msg_body(m), flagged = host->msg_get(m, "chatd-flagged");
	(void)self;
	(void)wself;
	sent.n++;
	snprintf(sent.body, sizeof(sent.body), "%.*s", (int)body.n, body.p);
	snprintf(
			sent.flagged, sizeof(sent.flagged), "%.*s", (int)flagged.n, flagged.n ? flagged.p : "");
	host->reply(call, "message-id", CHATD_LIT("m1"));
	return CHATD_ACCEPT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *options, void **ret_self)
{
	static const char *const names[] = { "chat.send", "chat.sendMessage", "chat.edit", "other" };
	chatd_status rc = chatd_plugin_under_test.init(h, ctx, options, ret_self);
	host = h;
	for (size_t i = 0; rc == 0 && i < 4; i++) {
		rc = h->app(ctx, names[i], on_sent);
	}
	return rc;
}

static const struct kit_service without_reports[] = { { CHATD_REPORTS, NULL, NULL },
	{ NULL, NULL, NULL } };

static const char *name_of(const char *list)
{
	static char name[300];
	snprintf(name, sizeof(name), "%s/%s", words, list);
	return name;
}

static void put(const char *list, const char *text)
{
	FILE *f = fopen(name_of(list), "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static struct kit *begin_with(const struct kit_service *services, int32_t workers)
{
	const struct kit_conf with = { .workers = workers, .services = services };
	memset(&sent, 0, sizeof(sent));
	put("mask", "fool\n/(a|a)*b!/\n");
	put("refuse", "spam\n");
	put("flag", "watch\n");
	return kit_new_with(&with_chat, conf, &with);
}

static struct kit *begin(void)
{
	return begin_with(NULL, 1);
}

/* "" if it did not arrive. */
static const char *say(struct kit_client *c, const char *dest, const char *body)
{
	sent.body[0] = '\0';
	kit_send(c, dest, body, NULL);
	return sent.body;
}

#define SEND "/app/chat.send"

/* ---- options ------------------------------------------------------------------------------------ */

static void mistakes_in_the_options_are_named(void **state)
{
	char broken[500], action[500];
	(void)state;
	put("broken", "fine\n/[/\n");
	snprintf(broken, sizeof(broken), "lists:\n  - { file: \"%s\" }", name_of("broken"));
	put("fine", "fine\n");
	snprintf(
			action, sizeof(action), "lists:\n  - { file: \"%s\", action: shout }", name_of("fine"));
	const struct {
		const char *conf, *part;
	} wrong[] = { { "", "lists" }, { "lists:\n  - { action: mask }", "file" },
		{ action, "mask, refuse" }, { broken, "broken:2: no pattern that ICU takes" },
		{ "lists:\n  - { file: /nowhere/x }", "/nowhere/x cannot be read: No such file" } };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i].conf, wrong[i].part);
	}
}

/* ---- messages ------------------------------------------------------------------------------------- */

static void words_become_stars_and_the_rest_stays(void **state)
{
	static const struct {
		const char *dest, *body, *arrives;
	} table[] = {
		{ SEND, "{\"content\":\"you fool\",\"n\":1,\"clientId\":\"c\"}",
				"{\"content\":\"you ****\",\"n\":1,\"clientId\":\"c\"}" },
		{ SEND, "{\"content\":\"nice\" }", "{\"content\":\"nice\" }" }, /* byte by byte */
		{ "/app/chat.edit", "{\"content\":\"fool\"}", "{\"content\":\"****\"}" },
		{ "/app/chat.sendMessage", "{\"message\":\"fool\"}", "{\"message\":\"****\"}" },
		{ SEND, "{\"message\":\"fool\",\"content\":\"\"}",
				"{\"message\":\"****\",\"content\":\"\"}" },
		{ SEND, "{\"message\":\"fool\",\"content\":\"x\"}",
				"{\"message\":\"fool\",\"content\":\"x\"}" }, /* chat reads content */
		{ SEND, "{\"content\":\"fool\",\"encrypted\":true}",
				"{\"content\":\"fool\",\"encrypted\":true}" },
		{ SEND, "{\"content\":\"fool\",\"encrypted\":1}",
				"{\"content\":\"****\",\"encrypted\":1}" },
		{ SEND, "{\"content\":7}", "{\"content\":7}" },
		{ SEND, "{\"content\":\"fool\"", "{\"content\":\"fool\"" }, /* chat says what is wrong */
		{ SEND, "fool", "fool" },
		{ "/app/other", "{\"content\":\"fool\"}", "{\"content\":\"fool\"}" },
	};
	(void)state;
	struct kit *k = begin();
	struct kit_client *c = kit_open(k, "ann");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_string_equal(say(c, table[i].dest, table[i].body), table[i].arrives);
		kit_expect_accept(k);
	}
	kit_expect_not_told(k, CHATD_REPORTS);
	kit_free(k);
}

static void what_is_refused_says_so(void **state)
{
	char body[300];
	(void)state;
	struct kit *k = begin();
	struct kit_client *c = kit_open(k, "ann");
	assert_string_equal(say(c, SEND, "{\"content\":\"spam, fool\",\"clientId\":\"c1\"}"), "");
	kit_expect_reject(k, "VALIDATION", "a word in it that is not allowed here");
	kit_expect_reply(k, "clientId", "c1");
	assert_string_equal(say(c, SEND, "{\"content\":\"spam\"}"), "");
	kit_expect_reply(k, "clientId", NULL);
	snprintf(body, sizeof(body), "{\"content\":\"spam\",\"clientId\":\"%0129d\"}", 1);
	assert_string_equal(say(c, SEND, body), "");
	kit_expect_reply(k, "clientId", NULL); /* chat would not take it either */
	assert_int_equal(sent.n, 0);
	kit_free(k);
}

static void what_is_flagged_is_reported_once_it_is_sent(void **state)
{
	(void)state;
	struct kit *k = begin();
	struct kit_client *c = kit_open(k, "ann");
	assert_string_equal(
			say(c, SEND, "{\"content\":\"watch the fool\"}"), "{\"content\":\"watch the ****\"}");
	assert_string_equal(sent.flagged, "3");
	kit_expect_told(k, CHATD_REPORTS, "m1", "words (3)");
	(void)say(c, "/app/chat.edit", "{\"content\":\"watch\"}");
	kit_expect_not_told(k, CHATD_REPORTS);
	(void)say(c, SEND, "{\"content\":\"watch spam\"}"); /* not sent */
	kit_expect_not_told(k, CHATD_REPORTS);
	/* The mark is the plugin's alone. */
	kit_send(c, SEND, "{\"content\":\"x\"}", "chatd-flagged", "3", NULL);
	assert_string_equal(sent.flagged, "");
	kit_send(c, SEND, "{\"content\":\"x\",\"encrypted\":true}", "chatd-flagged", "3", NULL);
	assert_string_equal(sent.flagged, "");
	kit_expect_not_told(k, CHATD_REPORTS);
	kit_free(k);
	k = begin_with(without_reports, 1);
	c = kit_open(k, "ann");
	assert_string_equal(say(c, SEND, "{\"content\":\"watch\"}"), "{\"content\":\"watch\"}");
	kit_free(k);
}

static void a_slow_pattern_is_complained_about(void **state)
{
	char body[3000] = "{\"content\":\"";
	(void)state;
	struct kit *k = begin();
	struct kit_client *c = kit_open(k, "ann");
	memset(body + 12, 'a', 2000);
	snprintf(body + 2012, sizeof(body) - 2012, " fool\"}");
	assert_non_null(strstr(say(c, SEND, body), "a ****\""));
	kit_expect_logged(k, "write it without repetitions inside of repetitions");
	kit_free(k);
}

/* ---- reading again -------------------------------------------------------------------------------- */

static void lists_are_read_again_by_all_workers(void **state)
{
	(void)state;
	struct kit *k = begin_with(NULL, 2);
	struct kit_client *c[] = { kit_open_on(k, 0, "ann", 0), kit_open_on(k, 1, "bob", 0) };
	put("mask", "duck\n");
	assert_string_equal(say(c[1], SEND, "{\"content\":\"duck\"}"), "{\"content\":\"duck\"}");
	assert_int_equal(kit_reload(k), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(
				say(c[i], SEND, "{\"content\":\"duck fool\"}"), "{\"content\":\"**** fool\"}");
	}
	kit_free(k);
}

static void a_broken_list_leaves_the_old_one(void **state)
{
	(void)state;
	struct kit *k = begin_with(NULL, 2);
	struct kit_client *c = kit_open_on(k, 1, "ann", 0);
	put("mask", "duck\n/[/\n");
	assert_int_equal(kit_reload(k), -EINVAL);
	kit_expect_logged(k, "mask:2: no pattern that ICU takes");
	assert_string_equal(say(c, SEND, "{\"content\":\"duck fool\"}"), "{\"content\":\"duck ****\"}");
	assert_int_equal(unlink(name_of("mask")), 0);
	assert_int_equal(kit_reload(k), -EINVAL);
	kit_expect_logged(k, "mask cannot be read: No such file");
	assert_string_equal(say(c, SEND, "{\"content\":\"fool\"}"), "{\"content\":\"****\"}");
	put("mask", "duck\n");
	assert_int_equal(kit_reload(k), 0);
	assert_string_equal(say(c, SEND, "{\"content\":\"duck fool\"}"), "{\"content\":\"**** fool\"}");
	kit_free(k);
}

/* ---- without memory ---------------------------------------------------------------------------------- */

static void day(void)
{
	struct kit *k = begin_with(NULL, 2);
	struct kit_client *c = kit_open(k, "ann");
	const char *arrives = say(c, SEND, "{\"content\":\"watch the fool\"}");
	assert_null(strstr(arrives, "fool")); /* it does not slip through */
	(void)say(c, SEND, "{\"content\":\"spam\",\"clientId\":\"c\"}");
	assert_null(strstr(sent.body, "spam"));
	if (!kit_failing(k)) {
		(void)kit_reload(k);
	}
	arrives = say(c, SEND, "{\"content\":\"fool\"}");
	assert_null(strstr(arrives, "fool"));
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(day);
}

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	(void)state;
	snprintf(words, sizeof(words), "%s/word-filter-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(words)) {
		return -1;
	}
	snprintf(conf, sizeof(conf),
			"lists:\n  - { file: \"%s/mask\", action: mask }\n  - { file: \"%s/refuse\", action: "
			"refuse }\n  - { file: \"%s/flag\", action: flag }",
			words, words, words);
	with_chat = chatd_plugin_under_test;
	with_chat.init = init;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const lists[] = { "mask", "refuse", "flag", "broken", "fine" };
	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		(void)unlink(name_of(lists[i]));
	}
	return rmdir(words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(words_become_stars_and_the_rest_stays),
		cmocka_unit_test(what_is_refused_says_so),
		cmocka_unit_test(what_is_flagged_is_reported_once_it_is_sent),
		cmocka_unit_test(a_slow_pattern_is_complained_about),
		cmocka_unit_test(lists_are_read_again_by_all_workers),
		cmocka_unit_test(a_broken_list_leaves_the_old_one),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

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

static const char table[] = "rules:\n"
							"  - {deny: send, prefix: /topic/news, who: anonymous}\n"
							"  - {allow: all, prefix: /topic/}\n"
							"  - {allow: subscribe, prefix: /queue/}\n"
							"  - {allow: send, prefix: /queue/admin, who: admin}\n"
							"  - {allow: send, prefix: /queue/known, who: authenticated}\n";

static struct kit *start(const char *yaml)
{
	return kit_new(&chatd_plugin_under_test, yaml);
}

TEST(the_first_rule_that_fits_decides)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *guest = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_send(guest, "/topic/news/today", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", "you may not send to /topic/news/today");
	kit_send(guest, "/topic/chat", "hi", NULL);
	kit_expect_accept(k);
	kit_subscribe(guest, "/topic/news/today");
	kit_expect_accept(k);
	kit_in(k, "ann", "/topic/news/today", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

TEST(a_rule_is_about_its_verb_alone)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, "/queue/x");
	kit_expect_accept(k);
	kit_send(ann, "/queue/x", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", "send to /queue/x");
	kit_free(k);
}

TEST(flags_of_the_identity_choose_the_rule)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *root = kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
	struct kit_client *guest = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_send(root, "/queue/admin", "hi", NULL);
	kit_expect_accept(k);
	kit_send(guest, "/queue/admin", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_send(guest, "/queue/known", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_in(k, "ann", "/queue/known", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

TEST(without_a_rule_the_fallback_decides)
{
	UNUSED;
	struct kit *k = start("");
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_reject(k, "FORBIDDEN", "/topic/x");
	kit_free(k);
	k = start("fallback: allow\nrules: [{deny: subscribe, prefix: /topic/x}]");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, "/topic/x", "hi", NULL);
	kit_expect_accept(k);
	kit_subscribe(ann, "/topic/x");
	kit_expect_reject(k, "FORBIDDEN", "subscribe to /topic/x");
	kit_free(k);
}

TEST(a_prefix_longer_than_the_destination_does_not_fit)
{
	UNUSED;
	struct kit *k = start("rules: [{allow: all, prefix: /topic/longer}]");
	kit_in(k, "ann", "/topic/long", "hi");
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_free(k);
}

static void expect_complaint(const char *yaml, const char *part)
{
	char *text = kit_complaints(&chatd_plugin_under_test, yaml);
	assert_non_null(text);
	if (!strstr(text, part)) {
		fail_msg("complaints: %s\nexpected: %s", text, part);
	}
	free(text);
}

TEST(a_rule_needs_exactly_one_of_allow_and_deny)
{
	UNUSED;
	expect_complaint("rules: [{prefix: /topic/}]",
			"rule 1 (prefix /topic/) must have one of allow and deny: send, subscribe or all");
	expect_complaint("rules: [{allow: all, prefix: /a/}, {allow: all, deny: send, prefix: /b/}]",
			"rule 2 (prefix /b/) must have one of allow and deny");
	expect_complaint("rules: [{allow: all, prefix: topic/}]",
			"prefix \"topic/\" must begin with a slash, for example /topic/");
	expect_complaint("rules: [{alow: all, prefix: /topic/}]", "did you mean \"allow\"?");
}

static void decide_twice(void)
{
	struct kit *k = start(table);
	struct kit_client *ann = kit_open(k, "ann");
	if (kit_is_open(ann)) {
		kit_send(ann, "/topic/news", "hi", NULL);
		kit_expect_accept(k);
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(decide_twice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_rule_that_fits_decides),
		cmocka_unit_test(a_rule_is_about_its_verb_alone),
		cmocka_unit_test(flags_of_the_identity_choose_the_rule),
		cmocka_unit_test(without_a_rule_the_fallback_decides),
		cmocka_unit_test(a_prefix_longer_than_the_destination_does_not_fit),
		cmocka_unit_test(a_rule_needs_exactly_one_of_allow_and_deny),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

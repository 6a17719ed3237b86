/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <errno.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void who_is_there_hears_the_knock(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	kit_presence(k, "bob", 1);
	kit_in(k, "ann", "/app/knock", "bob");
	kit_expect_accept(k);
	kit_expect_published_user(k, "bob", "/user/queue/knock", "at the door");
	kit_free(k);
}

static void nobody_there(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_in(k, "ann", "/app/knock", "bob");
	kit_expect_waiting(k, 1);
	kit_answer(k, CHATD_PRESENCE);
	kit_expect_reject(k, "NOT_FOUND", "nobody");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void whose_session_ended_before_the_answer_has_not_knocked(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	struct kit_client *ann = kit_open(k, "ann");
	kit_presence(k, "bob", 1);
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_in(k, "ann", "/app/knock", "bob");
	kit_cut(ann);
	kit_answer(k, CHATD_PRESENCE);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void an_answer_after_the_deadline_does_no_harm(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "timeout: 2s");
	kit_presence(k, "bob", 1);
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_in(k, "ann", "/app/knock", "bob");
	kit_advance(k, 2100);
	kit_expect_reject(k, NULL, NULL); /* on_error: reject */
	kit_answer(k, CHATD_PRESENCE);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_refusal_of_the_service_is_one_of_ours(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	kit_refuse(k, CHATD_PRESENCE, -EAGAIN);
	kit_in(k, "ann", "/app/knock", "bob");
	kit_expect_reject(k, NULL, NULL);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(who_is_there_hears_the_knock), KIT_TEST(nobody_there),
		KIT_TEST(whose_session_ended_before_the_answer_has_not_knocked),
		KIT_TEST(an_answer_after_the_deadline_does_no_harm),
		KIT_TEST(a_refusal_of_the_service_is_one_of_ours))

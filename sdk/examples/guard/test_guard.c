/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void the_third_message_in_a_second_is_too_many(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "messages: 2\nwindow: 1s");
	for (int i = 0; i < 2; i++) {
		kit_in(k, "ann", "/topic/x", "hi");
		kit_expect_accept(k);
	}
	kit_advance(k, 400);
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_reject(k, "RATE_LIMITED", "wait 600 ms");
	kit_in(k, "bob", "/topic/x", "hi"); /* another session */
	kit_expect_accept(k);
	kit_advance(k, 600);
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

static void programs_are_not_limited(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "messages: 1");
	for (int i = 0; i < 3; i++) {
		kit_in_as(k, "ann", "/topic/x", "hi");
		kit_expect_accept(k);
	}
	kit_free(k);
}

KIT_MAIN(KIT_TEST(the_third_message_in_a_second_is_too_many), KIT_TEST(programs_are_not_limited))

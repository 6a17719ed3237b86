// SPDX-License-Identifier: Apache-2.0
#include <chatd/kit.h>

#include <initializer_list>

extern const struct chatd_plugin chatd_plugin_under_test;

static void everyone_sees_the_dice()
{
	kit *k = kit_new(&chatd_plugin_under_test, "");
	kit_in(k, "ann", "/app/roll", "1d2");
	kit_expect_accept(k);
	kit_expect_published(k, "/topic/dice", "ann: ");
	kit_free(k);
}

static void nonsense_is_refused()
{
	kit *k = kit_new(&chatd_plugin_under_test, "");
	for (const char *text : { "", "dance", "0d6", "2d1", "2d6x", "99d6" }) {
		kit_in(k, "ann", "/app/roll", text);
		kit_expect_reject(k, "VALIDATION", "2d6");
	}
	kit_expect_nothing_published(k);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(everyone_sees_the_dice), KIT_TEST(nonsense_is_refused))

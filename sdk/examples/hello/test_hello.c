/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void everyone_is_greeted_by_name(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "greeting: Welcome");
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, "/user/queue/hello");
	kit_in(k, "ann", "/app/hello", "anything");
	kit_expect_accept(k);
	kit_expect_delivery(ann, "/user/queue/hello", "Welcome, ann");
	kit_free(k);
}

static void a_long_hello_is_refused(void)
{
	static char big[2000];
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	for (size_t i = 0; i + 1 < sizeof(big); i++) {
		big[i] = 'x';
	}
	kit_in(k, "ann", "/app/hello", big);
	kit_expect_reject(k, "TOO_LARGE", "at most 1024 bytes");
	kit_expect_nothing_published(k);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(everyone_is_greeted_by_name), KIT_TEST(a_long_hello_is_refused))

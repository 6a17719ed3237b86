/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>

#include <errno.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define URL  "https://links.example.org/look"
#define LINK "see http://example.org/x"

static struct kit *start(void)
{
	return kit_new(&chatd_plugin_under_test, "url: " URL "\ntimeout: 4s");
}

static void a_good_link_goes_on(void)
{
	struct kit *k = start();
	kit_fetch_gives(k, 204, "");
	kit_in(k, "ann", "/topic/news", LINK);
	kit_expect_accept(k);
	kit_expect_fetched(k, "POST", URL, "example.org/x");
	kit_in(k, "ann", "/topic/news", "no link");
	kit_expect_accept(k);
	kit_expect_nothing_sent(k);
	kit_free(k);
}

static void a_bad_one_is_refused_and_counted(void)
{
	struct kit *k = start();
	kit_fetch_gives(k, 403, "");
	kit_in(k, "ann", "/topic/news", LINK);
	kit_expect_reject(k, "LINK_REFUSED", "not welcome");
	kit_expect(k, kit_stat(k, "scout_refused", NULL) == 1);
	kit_free(k);
}

static void nobody_there_is_told_so(void)
{
	struct kit *k = start(); /* which is as it begins */
	kit_in(k, "ann", "/topic/news", LINK);
	kit_expect_reject(k, "UNAVAILABLE", "try again");
	kit_expect_logged(k, "was not asked");
	kit_free(k);
}

static void a_client_that_leaves_has_said_it(void)
{
	struct kit *k = start();
	struct kit_client *ann = kit_open(k, "ann"), *bob = kit_open(k, "bob");
	kit_subscribe(bob, "/topic/news");
	kit_fetch_gives(k, 204, "");
	kit_hold(k, CHATD_FETCH, 1);
	kit_send(ann, "/topic/news", LINK, (char *)NULL);
	kit_close(ann);
	kit_answer(k, CHATD_FETCH);
	kit_expect_delivery(bob, "/topic/news", LINK);
	kit_free(k);
}

static void a_url_that_nobody_can_ask_is_found_before(void)
{
	kit_expect_complaint(&chatd_plugin_under_test, "url: example.org", "is no absolute URL");
	kit_expect_complaint(
			&chatd_plugin_under_test, "url: http://x:99999/", "has a port that is none");
}

KIT_MAIN(KIT_TEST(a_good_link_goes_on), KIT_TEST(a_bad_one_is_refused_and_counted),
		KIT_TEST(nobody_there_is_told_so), KIT_TEST(a_client_that_leaves_has_said_it),
		KIT_TEST_ONCE(a_url_that_nobody_can_ask_is_found_before))

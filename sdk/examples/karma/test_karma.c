/* SPDX-License-Identifier: Apache-2.0 */
#include "karma.h"

#include <chatd/kit.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <string.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *fresh(void)
{
	static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL },
		{ NULL, NULL, NULL } };
	static const struct kit_conf conf = { 1, services };
	kit_store_clear();
	return kit_new_with(&chatd_plugin_under_test, "", &conf);
}

static void points_add_up(void)
{
	struct kit *k = fresh();
	kit_in(k, "ann", "/app/karma.give", "bob");
	kit_expect_accept(k);
	kit_in(k, "eve", "/app/karma.give", "bob");
	kit_expect_accept(k);
	kit_expect_http(kit_http(k, "GET", "/api/karma/bob", NULL, (char *)NULL), 200, "\"points\":2");
	kit_expect_http(kit_http(k, "GET", "/api/karma/ann", NULL, (char *)NULL), 200, "\"points\":0");
	kit_expect_http(kit_http(k, "GET", "/api/karma/%20", NULL, (char *)NULL), 404, "NOT_FOUND");
	kit_free(k);
}

static void two_at_the_same_moment_both_count(void)
{
	struct kit *k = fresh();
	kit_store_put("example.karma", "bob", "5");
	kit_store_hold(1);
	kit_in(k, "ann", "/app/karma.give", "bob"); /* both have read 5 ... */
	kit_in(k, "eve", "/app/karma.give", "bob");
	kit_store_hold(0); /* ... and write 6, of which one is refused and reads again */
	kit_expect_waiting(k, 0);
	const char *points = kit_store_value("example.karma", "bob"); /* NULL when a call has failed */
	kit_expect(k, points && strcmp(points, "7") == 0);
	kit_free(k);
}

static void nobody_gives_to_himself(void)
{
	struct kit *k = fresh();
	kit_in(k, "ann", "/app/karma.give", "ann");
	kit_expect_reject(k, "FORBIDDEN", "for others");
	kit_in(k, "ann", "/app/karma.give", "no such id!");
	kit_expect_reject(k, "VALIDATION", "a user's id");
	kit_free(k);
}

struct asked {
	struct kit *k;
	struct kit_question *question;
	int64_t points;
};

static void on_points(void *arg, chatd_status rc, int64_t points)
{
	struct asked *a = arg;
	kit_answered(a->question);
	a->points = rc < 0 ? rc : points;
}

static void ask(void *arg)
{
	struct asked *a = arg;
	struct chatd_service s = kit_provided(a->k, EXAMPLE_KARMA);
	const struct karma *vt = s.vt;
	if (vt) {
		a->question = kit_ask(a->k, "bob's points");
		kit_asked(a->question,
				vt->points(s.obj, kit_worker(a->k, 0), CHATD_LIT("bob"), on_points, a));
	}
}

static void other_plugins_may_ask(void)
{
	struct kit *k = fresh();
	struct asked a = { k, NULL, -1 };
	kit_store_put("example.karma", "bob", "5");
	kit_on(k, 0, ask, &a);
	kit_expect(k, a.points == 5);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(points_add_up), KIT_TEST(two_at_the_same_moment_both_count),
		KIT_TEST(nobody_gives_to_himself), KIT_TEST(other_plugins_may_ask))

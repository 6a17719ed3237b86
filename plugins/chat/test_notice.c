/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told that a room has news.  The store here has one room, and lets its answers go when
 * the test says so. */
#include "notice.h"

#include <chatd/kit.h>
#include <chatd/log.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define DEN   "/topic/room/den"
#define EPOCH "0123456789abcdef"

struct waiting {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	struct chatd_store_answer a;
	struct chatd_store_member members[NOTICE_PAGE];
};

static struct fake {
	struct kit *k;
	struct waiting held[8];
	size_t n, given, pages, member_pages, tops;
	int64_t said, unread;
	size_t n_people; /* 0: ann, bob, cat */
	chatd_status top_rc;
	char body[512];
	struct chatd_store_message newest;
} fake;

static struct waiting *hold(chatd_worker *w, chatd_store_fn *fn, void *arg)
{
	struct waiting *q = &fake.held[fake.n++ % 8];
	assert_true(fake.n - fake.given <= 8);
	q->w = w;
	q->fn = fn;
	q->arg = arg;
	q->a = (struct chatd_store_answer){ .struct_size = sizeof(q->a), .epoch = CHATD_LIT(EPOCH) };
	return q;
}

static chatd_status fake_page(
		void *obj, chatd_worker *w, const struct chatd_store_page *r, chatd_store_fn *fn, void *arg)
{
	struct waiting *q = hold(w, fn, arg);
	(void)obj;
	assert_int_equal(r->limit, 1);
	fake.pages++;
	fake.newest = (struct chatd_store_message){ .struct_size = sizeof(fake.newest),
		.kind = CHATD_STORE_MESSAGE,
		.seq = fake.said,
		.body = text(fake.body) };
	q->a.messages = &fake.newest;
	q->a.n_messages = 1;
	return 0;
}

static char names[NOTICE_PAGE][24];

static chatd_status fake_members(void *obj, chatd_worker *w, const struct chatd_store_members *r,
		chatd_store_fn *fn, void *arg)
{
	static const char *const few[] = { "ann", "bob", "cat" };
	struct waiting *q = hold(w, fn, arg);
	size_t n = fake.n_people ? fake.n_people : 3;
	(void)obj;
	assert_int_equal(r->limit, NOTICE_PAGE);
	fake.member_pages++;
	if (r->after.n) {
		assert_string_equal(names[NOTICE_PAGE - 1], "u255");
		n = 1; /* the last page */
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "u%zu", i);
		q->members[i].user = text(fake.n_people && !r->after.n ? names[i] : few[i]);
	}
	q->a.members = q->members;
	q->a.n_members = n;
	return 0;
}

static chatd_status fake_top(void *obj, chatd_worker *w, const struct chatd_store_conv_key *r,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	assert_true(chatd_str_same(r->conv.room, CHATD_LIT("den")));
	fake.tops++;
	hold(w, fn, arg)->a.n = fake.unread;
	return 0;
}

static const struct chatd_store fake_vt = {
	.struct_size = sizeof(fake_vt),
	.page = fake_page,
	.members = fake_members,
	.top = fake_top,
};

static void on_answer(void *arg)
{
	struct waiting *q = arg;
	q->fn(q->arg, fake.top_rc, &q->a);
}

/* All that is asked, also because of what is answered. */
static void answer(void)
{
	while (fake.given < fake.n) {
		struct waiting *q = &fake.held[fake.given++ % 8];
		kit_on(fake.k, kit_host(fake.k)->worker_index(q->w), on_answer, q);
		kit_run(fake.k);
	}
}

static struct kit *fresh(int32_t workers)
{
	static const struct kit_service services[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = workers, .services = services };
	fake = (struct fake){ .unread = 3 };
	fake.k = kit_new_with(&chatd_plugin_under_test, "notice_interval: 2s", &conf);
	return fake.k;
}

static void publish(void *arg)
{
	const struct chatd_service s = kit_provided(fake.k, CHATD_LOG);
	const struct chatd_log *log = s.vt;
	struct chatd_store_message row = { .struct_size = sizeof(row),
		.kind = CHATD_STORE_MESSAGE,
		.conv = { .room = CHATD_LIT("den") },
		.seq = ++fake.said,
		.id = CHATD_LIT("01900000-0000-7000-8000-000000000001"),
		.sender = CHATD_LIT("ann"),
		.body = text(fake.body) };
	(void)arg;
	(void)log->publish(s.obj, log->home(s.obj, &row.conv), &row, CHATD_LIT(EPOCH));
}

static void said(const char *content)
{
	const struct chatd_service s = kit_provided(fake.k, CHATD_LOG);
	const struct chatd_log *log = s.vt;
	struct chatd_store_conv conv = { .room = CHATD_LIT("den") };
	snprintf(fake.body, sizeof(fake.body),
			"{\"id\":\"i%d\",\"type\":\"CHAT\",\"sender\":\"ann\",\"senderName\":\"Ann\",%s}",
			(int)fake.said + 1, content);
	kit_on(fake.k, kit_host(fake.k)->worker_index(log->home(s.obj, &conv)), publish, NULL);
	kit_run(fake.k);
	kit_expect_published(fake.k, DEN, "\"type\":\"CHAT\"");
}

static void rooms_nobody_waits_for_cost_nothing(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	struct kit_client *bob = kit_open(k, "bob");
	kit_subscribe(bob, DEN);
	said("\"content\":\"x\"");
	assert_int_equal(fake.n, 0);
	kit_subscribe(bob, NOTICES);
	kit_close(bob);
	said("\"content\":\"x\"");
	assert_int_equal(fake.n, 0);
	kit_free(k);
}

static void members_who_do_not_listen_are_told(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *out = kit_open_on(k, 3, "bob", 0), *in = kit_open_on(k, 2, "bob", 0);
	struct kit_client *dan = kit_open_on(k, 1, "dan", 0), *gone = kit_open_on(k, 3, "cat", 0);
	kit_subscribe(out, NOTICES);
	kit_subscribe(in, NOTICES);
	kit_subscribe(in, DEN);
	kit_subscribe(dan, NOTICES);
	kit_subscribe(gone, NOTICES);
	kit_unsubscribe(gone, NOTICES);
	said("\"content\":\"x\"");
	answer();
	assert_int_equal(fake.tops, 1);
	kit_expect_delivery(out, NOTICES,
			"{\"type\":\"SYSTEM\",\"code\":\"UNREAD\",\"roomId\":\"den\",\"unread\":3,\"seq\":1,"
			"\"preview\":{\"id\":\"i1\",\"sender\":\"ann\",\"senderId\":\"ann\",\"senderName\":\"Ann\","
			"\"content\":\"x\"},\"timestamp\":");
	kit_expect_delivery(in, DEN, "\"content\":\"x\"");
	kit_expect_quiet(in);
	kit_expect_quiet(dan);
	kit_expect_quiet(gone);
	kit_free(k);
}

static void what_comes_fast_is_told_as_one(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *bob = kit_open(k, "bob");
	kit_subscribe(bob, NOTICES);
	said("\"content\":\"1\"");
	answer();
	kit_expect_delivery(bob, NOTICES, "\"content\":\"1\"");
	said("\"content\":\"2\"");
	said("\"content\":\"3\"");
	kit_advance(k, 1999);
	answer();
	kit_expect_quiet(bob);
	kit_advance(k, 1);
	answer();
	kit_expect_delivery(bob, NOTICES, "\"content\":\"3\"");
	kit_advance(k,
			2000); /* nothing since then: the room is forgotten, and its next news is told at once */
	answer();
	assert_int_equal(fake.pages, 2);
	said("\"content\":\"4\"");
	answer();
	kit_expect_delivery(bob, NOTICES, "\"content\":\"4\"");
	kit_expect_quiet(bob);
	kit_free(k);
}

static void nothing_unread_is_no_news(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *bob = kit_open(k, "bob");
	kit_subscribe(bob, NOTICES);
	fake.unread = 0;
	said("\"content\":\"1\"");
	answer();
	assert_int_equal(fake.tops, 1);
	kit_expect_quiet(bob);
	kit_free(k);
}

static void a_preview_is_short_and_hides_what_is_encrypted(void **state)
{
	struct kit *k = fresh(1);
	char content[512];
	(void)state;
	struct kit_client *bob = kit_open(k, "bob");
	kit_subscribe(bob, NOTICES);
	snprintf(content, sizeof(content), "\"content\":\"%099d\xc3\xa4zzz\"", 0);
	said(content);
	answer();
	kit_expect_delivery(bob, NOTICES, "000\xc3\xa4\"},\"timestamp\"");
	kit_advance(k, 4000);
	said("\"content\":\"secret\",\"encrypted\":true");
	answer();
	kit_expect_delivery(bob, NOTICES, "\"senderName\":\"Ann\"},\"timestamp\"");
	kit_free(k);
}

static void a_large_room_is_gone_through_page_by_page(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	struct kit_client *one = kit_open_on(k, 1, "u255", 0), *last = kit_open(k, "ann");
	kit_subscribe(one, NOTICES);
	kit_subscribe(last, NOTICES);
	fake.n_people = NOTICE_PAGE;
	said("\"content\":\"1\"");
	answer();
	kit_expect_delivery(one, NOTICES, "\"unread\":3");
	kit_expect_quiet(last);
	kit_advance(k, NOTICE_PAUSE_MS);
	answer();
	assert_int_equal(fake.member_pages, 2);
	kit_expect_delivery(last, NOTICES, "\"unread\":3");
	kit_expect_quiet(one);
	kit_free(k);
}

/* Whatever is asked when the server stops, nothing is left. */
static void it_may_stop_at_any_moment(void **state)
{
	(void)state;
	for (size_t answers = 0; answers < 4; answers++) {
		struct kit *k = fresh(1);
		struct kit_client *bob = kit_open(k, "bob");
		kit_subscribe(bob, NOTICES);
		said("\"content\":\"1\"");
		for (size_t i = 0; i < answers && fake.given < fake.n; i++) {
			kit_on(k, 0, on_answer, &fake.held[fake.given++ % 8]);
			kit_run(k);
		}
		fake.top_rc = fake.given < fake.n ? -ESHUTDOWN : 0;
		answer();
		kit_free(k);
	}
}

static void sweep(void)
{
	struct kit *k = fresh(1);
	struct kit_client *bob = kit_open(k, "bob");
	kit_subscribe(bob, NOTICES);
	snprintf(fake.body, sizeof(fake.body), "{\"id\":\"i\",\"sender\":\"ann\",\"content\":\"x\"}");
	if (kit_is_open(bob)) { /* else it could not even start */
		kit_on(k, 0, publish, NULL);
		kit_run(k);
		answer();
		kit_advance(k, 5000);
	}
	kit_free(k);
}

static void without_memory_nobody_is_told_and_nothing_breaks(void **state)
{
	(void)state;
	kit_sweep(sweep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rooms_nobody_waits_for_cost_nothing),
		cmocka_unit_test(members_who_do_not_listen_are_told),
		cmocka_unit_test(what_comes_fast_is_told_as_one),
		cmocka_unit_test(nothing_unread_is_no_news),
		cmocka_unit_test(a_preview_is_short_and_hides_what_is_encrypted),
		cmocka_unit_test(a_large_room_is_gone_through_page_by_page),
		cmocka_unit_test(it_may_stop_at_any_moment),
		cmocka_unit_test(without_memory_nobody_is_told_and_nothing_breaks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

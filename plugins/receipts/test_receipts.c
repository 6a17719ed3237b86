/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define READ  "/app/chat.read"
#define QUEUE "/user/queue/read"

static struct kit *fresh(const char *yaml)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, yaml);
	kit_room(k, "den", "Den", 0);
	kit_member(k, "den", "ann", CHATD_ROLE_MEMBER);
	return k;
}

static void of_several_within_a_second_the_last_is_told(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}");
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m1\"");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m3\"}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_advance(k, 1100);
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m3\"");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_program_does_not_read(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in_as(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void reading_goes_forward_only(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m2\",\"seq\":5}");
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m2\",\"seq\":5");
	kit_advance(k, 5000);
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":5}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":6}");
	kit_expect_published_user(k, "bob", QUEUE, "\"seq\":6");
	kit_free(k);
}

static void what_waits_is_told_when_the_session_ends(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}", NULL);
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}", NULL);
	kit_expect_published_user(k, "bob", QUEUE, "m1");
	kit_close(ann);
	kit_expect_published_user(k, "bob", QUEUE, "m2");
	kit_free(k);
}

static void a_room_hears_its_members_only(void **state)
{
	struct kit *k = fresh("");
	(void)state;
	kit_in(k, "ann", READ, "{\"roomId\":\"den\",\"messageId\":\"m1\"}");
	kit_expect_published(k, "/topic/room/den", "\"roomId\":\"den\",\"messageId\":\"m1\"");
	kit_in(k, "eve", READ, "{\"roomId\":\"den\",\"messageId\":\"m1\"}");
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void many_conversations_use_bounded_memory(void **state)
{
	struct kit *k = fresh("");
	char body[64], user[16];
	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(user, sizeof(user), "user%d", i);
		snprintf(body, sizeof(body), "{\"with\":\"%s\",\"messageId\":\"m1\"}", user);
		kit_in(k, "ann", READ, body);
		kit_expect_published_user(k, user, QUEUE, "m1");
	}
	/* The first was forgotten: it may be told again, which is harmless. */
	kit_in(k, "ann", READ, "{\"with\":\"user0\",\"messageId\":\"m1\"}");
	kit_expect_published_user(k, "user0", QUEUE, "m1");
	kit_in(k, "ann", READ, "{\"with\":\"user99\",\"messageId\":\"m1\"}");
	kit_expect_nothing_published(k);
	kit_free(k);
}

/* ---- with a store ------------------------------------------------------------------- */

/* It knows one message, m5 of ann and bob with the seq 5, and one mark. */
static struct fake {
	struct kit *k;
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	chatd_status refuse, rc;
	int64_t mark;
	char device[65];
	struct chatd_store_message m;
	struct chatd_store_answer a;
} fake;

static void on_answer(void *arg)
{
	(void)arg;
	fake.fn(fake.arg, fake.rc ? fake.rc : fake.a.whole ? -ENOENT : 0, &fake.a);
}

static chatd_status answer(chatd_worker *w, chatd_store_fn *fn, void *arg)
{
	fake.w = w;
	fake.fn = fn;
	fake.arg = arg;
	return kit_host(fake.k)->post(w, on_answer, NULL);
}

static chatd_status fake_message(void *obj, chatd_worker *w,
		const struct chatd_store_message_key *r, chatd_store_fn *fn, void *arg)
{
	(void)obj;
	fake.m = (struct chatd_store_message){ .struct_size = sizeof(fake.m),
		.seq = 5,
		.conv = { .a = CHATD_LIT("ann"), .b = CHATD_LIT("bob") } };
	fake.a = (struct chatd_store_answer){ .struct_size = sizeof(fake.a),
		.messages = &fake.m,
		.n_messages = 1,
		.whole = r->id.n != 2 || memcmp(r->id.p, "m5", 2) != 0 };
	return fake.refuse ? fake.refuse : answer(w, fn, arg);
}

static chatd_status fake_cursor_set(void *obj, chatd_worker *w, const struct chatd_store_cursor *r,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	snprintf(fake.device, sizeof(fake.device), "%.*s", (int)r->device.n,
			r->device.p ? r->device.p : "");
	fake.a = (struct chatd_store_answer){ .struct_size = sizeof(fake.a), .n = r->seq > fake.mark };
	fake.mark = r->seq > fake.mark ? r->seq : fake.mark;
	fake.a.seq = fake.mark;
	return fake.refuse ? fake.refuse : answer(w, fn, arg);
}

static const struct chatd_store fake_vt = {
	.struct_size = sizeof(fake_vt), .message = fake_message, .cursor_set = fake_cursor_set
};

static struct kit *fresh_stored(void)
{
	static const struct kit_service services[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = 1, .services = services };
	fake = (struct fake){ .k = kit_new_with(&chatd_plugin_under_test, "room_max: 1", &conf) };
	kit_room(fake.k, "den", "Den", 0);
	kit_member(fake.k, "den", "ann", CHATD_ROLE_MEMBER);
	kit_member(fake.k, "den", "cat", CHATD_ROLE_MEMBER);
	return fake.k;
}

static void a_mark_is_stored_and_told_to_both(void **state)
{
	struct kit *k = fresh_stored();
	(void)state;
	kit_in(k, "ann", READ, "{\"messageId\":\"m5\"}");
	kit_expect_accept(k);
	assert_int_equal(fake.mark, 5);
	kit_expect_published_user(k, "bob", QUEUE, "\"messageId\":\"m5\",\"seq\":5");
	kit_expect_published_user(k, "ann", QUEUE, "\"seq\":5");
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":4}");
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	fake.mark = 9; /* on another device */
	kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":7}");
	kit_expect_accept(k);
	kit_advance(k, 5000);
	kit_expect_nothing_published(k);
	kit_in(k, "ann", READ, "{\"with\":\"cat\",\"messageId\":\"m5\"}");
	kit_expect_reject(k, "VALIDATION", "another conversation");
	kit_in(k, "ann", READ, "{\"messageId\":\"m6\"}");
	kit_expect_reject(k, "NOT_FOUND", "no such message");
	kit_free(k);
}

static void a_mark_is_its_devices(void **state)
{
	struct kit *k = fresh_stored();
	const struct chatd_identity phone = {
		.struct_size = sizeof(phone), .user = CHATD_LIT("ann"), .login = CHATD_LIT("l1")
	};
	(void)state;
	struct kit_client *ann = kit_open_as(k, 0, &phone);
	kit_send(ann, READ, "{\"with\":\"bob\",\"seq\":4}", NULL);
	kit_expect_accept(k);
	assert_string_equal(fake.device, "l1");
	kit_in(k, "cat", READ, "{\"with\":\"bob\",\"seq\":5}"); /* who has no login */
	kit_expect_accept(k);
	assert_string_equal(fake.device, "");
	kit_free(k);
}

static void a_large_room_is_not_told(void **state)
{
	struct kit *k = fresh_stored();
	(void)state;
	kit_in(k, "ann", READ, "{\"roomId\":\"den\",\"seq\":3}");
	kit_expect_accept(k);
	kit_expect_published_user(k, "ann", QUEUE, "\"roomId\":\"den\",\"seq\":3");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void what_the_store_refuses_is_told(void **state)
{
	static const struct {
		chatd_status rc;
		const char *code;
	} cases[] = { { -EAGAIN, "STORE_BUSY" }, { -EBUSY, "STORE_BUSY" }, { -ENOSPC, "STORE_FULL" },
		{ -EIO, "UNAVAILABLE" }, { -EACCES, "NOT_FOUND" } };
	struct kit *k = fresh_stored();
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.rc = cases[i].rc;
		kit_in(k, "ann", READ, "{\"with\":\"bob\",\"seq\":3}");
		kit_expect_reject(k, cases[i].code, NULL);
		fake.rc = 0;
		fake.refuse = cases[i].rc;
		kit_in(k, "ann", READ, "{\"messageId\":\"m5\"}");
		kit_expect_reject(k, cases[i].code, NULL);
		fake.refuse = 0;
	}
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_day(void)
{
	struct kit *k = fresh("legacy_queues: true");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m1\"}", NULL);
	kit_send(ann, READ, "{\"with\":\"bob\",\"messageId\":\"m2\"}", NULL);
	kit_send(ann, READ, "{\"roomId\":\"den\",\"seq\":3}", NULL);
	kit_advance(k, 3000);
	kit_send(ann, READ, "{\"roomId\":\"den\",\"seq\":4}", NULL);
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_several_within_a_second_the_last_is_told),
		cmocka_unit_test(reading_goes_forward_only),
		cmocka_unit_test(a_program_does_not_read),
		cmocka_unit_test(what_waits_is_told_when_the_session_ends),
		cmocka_unit_test(a_room_hears_its_members_only),
		cmocka_unit_test(many_conversations_use_bounded_memory),
		cmocka_unit_test(a_mark_is_stored_and_told_to_both),
		cmocka_unit_test(a_mark_is_its_devices),
		cmocka_unit_test(a_large_room_is_not_told),
		cmocka_unit_test(what_the_store_refuses_is_told),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

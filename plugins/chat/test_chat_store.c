/* SPDX-License-Identifier: Apache-2.0 */
#include "chat.h"

#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define SEND  "/app/chat.send"
#define DEN   "/topic/room/den"
#define EPOCH "0123456789abcdef"

/* A store that counts, and keeps its answers until the test lets them go. */
struct waiting {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	char id[37];
	int64_t seq;
	chatd_status rc;
	int32_t why, repeated;
	int64_t until;
};

static struct fake {
	struct kit *k;
	struct waiting held[16];
	size_t n, given;
	int64_t top;
	chatd_status refuse; /* at once */
	chatd_status rc;     /* later */
	int32_t why, repeated, check;
	int64_t until;
	uint32_t flags;
	char text[64];
} fake;

static void on_answer(void *arg)
{
	struct waiting *a = arg;
	struct chatd_store_answer s = { .struct_size = sizeof(s),
		.why = a->why,
		.until = a->until,
		.repeated = a->repeated,
		.seq = a->seq,
		.pos = 100 + a->seq,
		.id = text(a->id),
		.epoch = CHATD_LIT(EPOCH) };
	a->fn(a->arg, a->rc, &s);
}

static chatd_status fake_append(void *obj, chatd_worker *w, const struct chatd_store_append *r,
		chatd_store_fn *fn, void *arg)
{
	struct waiting *a = &fake.held[fake.n];
	(void)obj;
	if (fake.refuse) {
		return fake.refuse;
	}
	fake.n++;
	*a = (struct waiting){ .w = w,
		.fn = fn,
		.arg = arg,
		.rc = fake.rc,
		.why = fake.why,
		.repeated = fake.repeated,
		.until = fake.until };
	fake.check = r->check;
	chatd_str_copy(a->id, sizeof(a->id), fake.repeated ? CHATD_LIT("first") : r->id);
	a->seq = fake.rc == 0 && !fake.repeated ? ++fake.top : 7;
	fake.flags = r->flags;
	chatd_str_copy(fake.text, sizeof(fake.text), r->text.p ? r->text : CHATD_LIT("(none)"));
	return 0;
}

static const struct chatd_store fake_vt = {
	.struct_size = sizeof(fake_vt),
	.append = fake_append,
};

static void commit(void)
{
	for (; fake.given < fake.n; fake.given++) {
		if (kit_host(fake.k)->post(fake.held[fake.given].w, on_answer, &fake.held[fake.given])) {
			fail_msg("a post of the test's own failed");
		}
	}
	kit_run(fake.k);
}

static struct kit *fresh(int32_t workers)
{
	static const struct kit_service services[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = workers, .services = services };
	fake = (struct fake){ .k = NULL };
	fake.k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	const struct chatd_account bob = {
		.struct_size = sizeof(bob), .id = CHATD_LIT("bob"), .nickname = CHATD_LIT("Bob")
	};
	kit_account(fake.k, &bob);
	return fake.k;
}

static void nothing_is_heard_before_the_commit(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 3, "ann", 0);
	kit_send(ann, SEND, "{\"roomId\":\"den\",\"content\":\"1\"}", NULL);
	kit_expect_nothing_published(k);
	kit_expect_waiting(k, 1);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"1\",\"seq\":1,\"epoch\":\"" EPOCH "\"}");
	kit_expect_accept(k);
	kit_expect_reply(k, "seq", "1");
	kit_expect_reply(k, "epoch", EPOCH);
	assert_string_equal(fake.text, "1");
	assert_int_equal(fake.flags, 0);
	kit_free(k);
}

static void a_direct_message_goes_to_both_and_carries_a_cursor(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 1, "ann", CHATD_ID_ANONYMOUS);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"x\",\"encrypted\":true}", NULL);
	kit_expect_nothing_published(k);
	commit();
	kit_expect_published_user(k, "bob", INBOX, "\"seq\":1,");
	kit_expect_published_user(k, "ann", INBOX, "\"seq\":1,");
	kit_expect_accept(k);
	assert_string_equal(fake.text, "(none)");
	assert_int_equal(fake.flags, CHATD_STORE_GUEST | CHATD_STORE_ENCRYPTED);
	kit_free(k);
}

static void a_repeat_gets_the_first_answer_and_is_not_delivered(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	fake.repeated = 1;
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"x\",\"clientId\":\"c\"}");
	commit();
	kit_expect_accept(k);
	kit_expect_reply(k, "message-id", "first");
	kit_expect_reply(k, "seq", "7");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void what_the_store_refuses_is_told_to_the_sender(void **state)
{
	static const struct {
		chatd_status rc;
		int32_t why;
		const char *code;
	} cases[] = {
		{ -EEXIST, CHATD_STORE_MISMATCH, "DUPLICATE_ID_MISMATCH" },
		{ -EAGAIN, 0, "STORE_BUSY" },
		{ -EBUSY, 0, "STORE_BUSY" },
		{ -ENOSPC, 0, "STORE_FULL" },
		{ -EIO, 0, "UNAVAILABLE" },
		{ -ENOENT, CHATD_STORE_NO_ROOM, "NOT_MEMBER" },
		{ -EACCES, CHATD_STORE_NOT_MEMBER, "NOT_MEMBER" },
		{ -EACCES, CHATD_STORE_BANNED, "BANNED" },
		{ -EACCES, CHATD_STORE_MUTED, "MUTED" },
		{ -EACCES, CHATD_STORE_SLOW, "SLOW_MODE" },
		{ -EACCES, CHATD_STORE_READ_ONLY, "READ_ONLY" },
	};
	struct kit *k = fresh(2);
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.rc = cases[i].rc;
		fake.why = cases[i].why;
		kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\",\"clientId\":\"c\"}");
		commit();
		kit_expect_reject(k, cases[i].code, NULL);
		kit_expect_reply(k, "clientId", "c");
	}
	fake.refuse = -EAGAIN;
	kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
	kit_expect_reject(k, "STORE_BUSY", NULL);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_refusal_says_when_to_try_again(void **state)
{
	static const struct {
		int64_t in;
		const char *seconds;
	} cases[] = { { 1, "1" }, { 1000, "1" }, { 1001, "2" }, { -5, "1" } };
	struct kit *k = fresh(1);
	(void)state;
	fake.rc = -EACCES;
	fake.why = CHATD_STORE_SLOW;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.until = kit_host(k)->wall_ms() + cases[i].in;
		kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
		assert_int_equal(fake.check, 1);
		commit();
		kit_expect_reject(k, "SLOW_MODE", NULL);
		kit_expect_reply(k, "retryAfterSeconds", cases[i].seconds);
	}
	fake.why = CHATD_STORE_BANNED;
	fake.until = INT64_MAX;
	kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
	commit();
	kit_expect_reply(k, "retryAfterSeconds", NULL);
	kit_free(k);
}

static void a_stored_message_is_delivered_though_its_sender_left(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 3, "ann", 0);
	kit_send(ann, SEND, "{\"roomId\":\"den\",\"content\":\"1\"}", NULL);
	kit_close(ann);
	commit();
	kit_expect_published(k, DEN, "\"seq\":1,");
	kit_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_heard_before_the_commit),
		cmocka_unit_test(a_direct_message_goes_to_both_and_carries_a_cursor),
		cmocka_unit_test(a_repeat_gets_the_first_answer_and_is_not_delivered),
		cmocka_unit_test(what_the_store_refuses_is_told_to_the_sender),
		cmocka_unit_test(a_refusal_says_when_to_try_again),
		cmocka_unit_test(a_stored_message_is_delivered_though_its_sender_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

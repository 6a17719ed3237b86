/* SPDX-License-Identifier: Apache-2.0 */
#include "change_body.h"
#include "order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- order ------------------------------------------------------------------------------ */

enum { CONVS = 6, ROWS = 400, ROUNDS = 200 };

/* A conversation as the store has it, and what its subscribers heard. */
struct conv {
	uint64_t hash;
	int64_t top;  /* written */
	int64_t told; /* the newest one whose commit was answered in time */
	int64_t heard, first;
	int filling;
};

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void hear(struct conv *c, int64_t seq)
{
	if (c->heard && seq != c->heard + 1) {
		fail_msg("%lld after %lld", (long long)seq, (long long)c->heard);
	}
	c->first = c->first ? c->first : seq;
	c->heard = seq;
}

static void read_missing(struct order *o, struct conv *c)
{
	int more = 1;
	for (int64_t seq = order_last(o, c->hash) + 1; more && seq <= c->top; seq++) {
		hear(c, seq);
		more = order_filled(o, c->hash, seq);
	}
	c->filling = more;
	assert_int_equal(more, 0);
}

static void take(struct order *o, struct conv *c, int64_t seq)
{
	switch (order_take(o, c->hash, seq)) {
	case ORDER_PUBLISH:
		hear(c, seq);
		break;
	case ORDER_FILL:
		c->filling = 1;
		break;
	case ORDER_WAIT:
		assert_int_equal(c->filling, 1);
		break;
	default:
		assert_true(seq <= c->heard);
	}
}

/* Rows are written at random, some are never answered for, holes are read at random times:
 * whoever listens hears 1, 2, 3 ... and by the end all of it. */
static void whatever_comes_late_everybody_hears_one_row_after_the_other(void **state)
{
	(void)state;
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		struct order *o = calloc(1, sizeof(*o));
		struct conv convs[CONVS] = { { 0 } };
		uint32_t seed = round;
		assert_non_null(o);
		for (int i = 0; i < CONVS; i++) {
			convs[i].hash = (uint64_t)i + 1; /* a slot of its own */
		}
		for (int i = 0; i < ROWS; i++) {
			struct conv *c = &convs[next(&seed) % CONVS];
			c->top++;
			if (next(&seed) % 4) {
				c->told = c->top;
				take(o, c, c->top);
			}
			c = &convs[next(&seed) % CONVS];
			if (c->filling && next(&seed) % 2) {
				read_missing(o, c);
			}
		}
		for (int i = 0; i < CONVS; i++) {
			take(o, &convs[i], ++convs[i].top);
			if (convs[i].filling) {
				read_missing(o, &convs[i]);
			}
			assert_int_equal(convs[i].heard, convs[i].top);
		}
		free(o);
	}
}

static void two_in_one_slot_push_each_other_out(void **state)
{
	struct order *o = calloc(1, sizeof(*o));
	const uint64_t a = 1, b = 1 + ORDER_SLOTS;
	(void)state;
	assert_non_null(o);
	assert_int_equal(order_last(o, a), -1);
	assert_int_equal(order_take(o, a, 5), ORDER_PUBLISH);
	assert_int_equal(order_take(o, b, 9), ORDER_PUBLISH);
	assert_int_equal(order_take(o, a, 8), ORDER_PUBLISH); /* begins anew: no hole is seen */
	assert_int_equal(order_take(o, a, 10), ORDER_FILL);
	assert_int_equal(order_take(o, b, 11), ORDER_PUBLISH); /* but not while a hole is read */
	assert_int_equal(order_last(o, a), 8);
	assert_int_equal(order_take(o, a, 11), ORDER_WAIT);
	assert_int_equal(order_filled(o, a, 9), 1);
	assert_int_equal(order_filled(o, a, 11), 0);
	assert_int_equal(order_take(o, a, 11), ORDER_SKIP);
	free(o);
}

static void what_could_not_be_published_is_missing(void **state)
{
	struct order *o = calloc(1, sizeof(*o));
	(void)state;
	assert_non_null(o);
	assert_int_equal(order_take(o, 1, 1), ORDER_PUBLISH);
	assert_int_equal(order_take(o, 1, 2), ORDER_PUBLISH);
	order_failed(o, 1, 2);
	assert_int_equal(order_take(o, 1, 3), ORDER_FILL);
	assert_int_equal(order_last(o, 1), 1);
	order_give_up(o, 1);
	assert_int_equal(order_take(o, 1, 4), ORDER_PUBLISH);
	free(o);
}

/* ---- changes ------------------------------------------------------------------------------ */

static const struct message_limits limits = { 10, 40 };

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void a_change_names_its_fault(void **state)
{
	static const struct {
		enum change_kind kind;
		const char *body, *code, *why;
	} cases[] = {
		{ CHANGE_EDIT, "{", "VALIDATION", "JSON" },
		{ CHANGE_EDIT, "{\"content\":\"x\"}", "VALIDATION", "messageId is missing" },
		{ CHANGE_EDIT, "{\"messageId\":\"m\"}", "VALIDATION", "content is missing" },
		{ CHANGE_EDIT, "{\"messageId\":\"m\",\"content\":\" \"}", "VALIDATION", "delete" },
		{ CHANGE_EDIT, "{\"messageId\":\"m\",\"content\":\"x\",\"encrypted\":true}", "VALIDATION",
				"needs keyId" },
		{ CHANGE_EDIT, "{\"messageId\":\"m\",\"content\":\"12345678901\"}", "TOO_LARGE",
				"11 characters; 10 are allowed" },
		{ CHANGE_REACT, "{\"messageId\":\"m\"}", "VALIDATION", "reaction is missing" },
		{ CHANGE_REACT, "{\"messageId\":\"m\",\"reaction\":\"\\n\"}", "VALIDATION", "64 bytes" },
		{ CHANGE_PIN, "{\"messageId\":\"m\",\"remove\":1}", "VALIDATION", "remove" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct change_draft d;
		struct message_fault f;
		assert_int_equal(change_read(text(cases[i].body), cases[i].kind, &limits, &d, &f), -EINVAL);
		assert_string_equal(f.code, cases[i].code);
		if (!strstr(f.why, cases[i].why)) {
			fail_msg("%s: %s", cases[i].body, f.why);
		}
	}
}

static void assert_json(struct chatd_json *j, const char *expected)
{
	struct chatd_str s = chatd_json_str(j);
	if (!chatd_str_same(s, text(expected))) {
		fail_msg("%.*s\nis not\n%s", (int)s.n, s.p, expected);
	}
	chatd_json_free(j);
}

static void an_edit_changes_the_content_and_nothing_else(void **state)
{
	struct chatd_json j;
	(void)state;
	chatd_json_init(&j, NULL, 0);
	struct change_draft d = { .content = text("<new>") };
	assert_true(change_write_edited(
			&j, text("{\"id\":\"1\",\"content\":\"old\",\"mentions\":[\"a\"],\"x\":1.5}"), &d, 0));
	assert_json(&j,
			"{\"id\":\"1\",\"mentions\":[\"a\"],\"x\":1.5,\"content\":\"\\u003cnew\\u003e\","
			"\"editedAt\":\"1970-01-01T00:00:00.000Z\"}");
	d.key_id = text("k2");
	assert_true(change_write_edited(
			&j, text("{\"encrypted\":true,\"keyId\":\"k1\",\"content\":\"old\"}"), &d, 0));
	assert_json(&j,
			"{\"encrypted\":true,\"content\":\"\\u003cnew\\u003e\",\"keyId\":\"k2\","
			"\"editedAt\":\"1970-01-01T00:00:00.000Z\"}");
	assert_false(change_write_edited(&j, text(""), &d, 0));
}

static void a_tombstone_says_who_and_when_only(void **state)
{
	struct chatd_json j;
	(void)state;
	chatd_json_init(&j, NULL, 0);
	assert_true(change_write_tombstone(&j,
			text("{\"id\":\"1\",\"clientId\":\"c\",\"type\":\"CHAT\",\"senderId\":\"ann\",\"timestamp\":\"t\","
				 "\"content\":\"secret\",\"attachments\":[{\"url\":\"/x\"}],\"roomId\":\"r\"}")));
	assert_json(&j,
			"{\"id\":\"1\",\"type\":\"CHAT\",\"senderId\":\"ann\",\"roomId\":\"r\",\"timestamp\":\"t\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_comes_late_everybody_hears_one_row_after_the_other),
		cmocka_unit_test(two_in_one_slot_push_each_other_out),
		cmocka_unit_test(what_could_not_be_published_is_missing),
		cmocka_unit_test(a_change_names_its_fault),
		cmocka_unit_test(an_edit_changes_the_content_and_nothing_else),
		cmocka_unit_test(a_tombstone_says_who_and_when_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

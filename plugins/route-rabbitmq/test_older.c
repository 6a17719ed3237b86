/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes of older releases send is read: their bytes, as they were captured. */
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static const struct captured {
	const char *name, *properties, *body; /* in hexadecimal digits */
} captured[] = {
#include "../../tests/cluster/events-1.inc"
};

enum { N = sizeof(captured) / sizeof(captured[0]), ROOM = 8192 };

static void same(struct chatd_str s, const char *text)
{
	assert_int_equal(s.n, strlen(text));
	assert_memory_equal(s.n ? s.p : "", text, s.n);
}

static void header_is(const struct wire_in *in, const char *name, const char *value)
{
	same(chatd_cluster_get(&in->e, chatd_str_of(name, strlen(name))), value);
}

static size_t unhex(const char *hex, char *to)
{
	size_t n = strlen(hex) / 2;
	assert_true(n < ROOM);
	for (size_t i = 0; i < n; i++) {
		const char digits[] = { hex[2 * i], hex[2 * i + 1], '\0' };
		to[i] = (char)strtol(digits, NULL, 16);
	}
	return n;
}

/* As it comes from the broker; to free(). */
static struct wire_in *take(const char *name, enum wire_verdict want)
{
	static char room[ROOM], body[ROOM];
	const struct captured *c = captured;
	while (c < captured + N && strcmp(c->name, name) != 0) {
		c++;
	}
	assert_true(c < captured + N);
	amqp_pool_t pool;
	void *decoded;
	struct wire_in *in;
	const char *why;
	amqp_bytes_t bytes = { unhex(c->properties, room), room };
	const struct wire_source from = { CHATD_LIT("chat.n2"), unhex(c->body, body) };
	init_amqp_pool(&pool, 4096);
	assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, &pool, bytes, &decoded), 0);
	assert_int_equal(wire_decode(decoded, &from, &in, &why), want);
	assert_non_null(in);
	memcpy(in->body, body, from.body_size);
	empty_amqp_pool(&pool); /* nothing of it may be needed */
	same(in->e.from, "n1");
	same(in->epoch, "0123456789abcdef");
	return in;
}

TEST(what_is_for_a_topic_and_for_a_user)
{
	UNUSED;
	const struct {
		const char *name, *topic, *key;
		int32_t to;
		struct chatd_str body;
	} all[] = {
		{ "topic", "/topic/news", "/topic/news", CHATD_CLUSTER_TOPIC,
				CHATD_LIT("\0\xff\x01 news") },
		{ "user", "/user/queue/probe", "bob", CHATD_CLUSTER_USERS, CHATD_LIT("hi") },
	};
	for (size_t i = 0; i < 2; i++) {
		struct wire_in *in = take(all[i].name, WIRE_OK);
		char *at = (char *)(uintptr_t)in->lines.p;
		size_t left = in->lines.n;
		struct chatd_str name, value;
		assert_int_equal(in->e.to, all[i].to);
		assert_int_equal(in->e.flags, 0);
		assert_int_equal(in->number, i + 1);
		same(in->e.kind, all[i].name);
		same(in->e.topic, all[i].topic);
		same(in->e.key, all[i].key);
		assert_int_equal(in->e.body.n, all[i].body.n);
		assert_memory_equal(in->e.body.p, all[i].body.p, in->e.body.n);
		same(in->message_id, "0192f0a0-0000-7000-8000-000000000001");
		same(in->content_type, "text/plain");
		assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
		same(name, "message-id");
		assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
		same(name, "odd");
		same(value, "a:b\\n c");
		free(in);
	}
}

static void is_row_of_a_room(const struct wire_in *in)
{
	assert_int_equal(in->e.to, CHATD_CLUSTER_TOPIC);
	same(in->e.kind, "row");
	same(in->e.key, "r1");
	same(in->e.topic, "/topic/room/r1");
	header_is(in, "id", "0192f0a0-0000-7000-8000-000000000002");
	header_is(in, "epoch", "6f1d3c5a7b9e4f20a1b2c3d4e5f60718");
	header_is(in, "seq", "41");
	header_is(in, "pos", "1042");
	header_is(in, "row", "1");
	header_is(in, "sender", "ann");
	header_is(in, "room", "r1");
	header_is(in, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	same(in->e.body, "{\"type\":\"CHAT\",\"content\":\"h\303\251\"}");
}

static void is_row_of_two(const struct wire_in *in)
{
	assert_int_equal(in->e.to, CHATD_CLUSTER_USERS);
	same(in->e.kind, "row");
	assert_int_equal(in->e.n_users, 2);
	same(in->e.users[0], "ann");
	same(in->e.users[1], "bob");
	header_is(in, "a", "ann");
	header_is(in, "b", "bob");
	header_is(in, "before-a", "1040");
	header_is(in, "before-b", "1039");
	same(in->e.body, "{\"type\":\"CHAT\",\"content\":\"psst\"}");
}

static void is_row_that_is_an_event(const struct wire_in *in)
{
	header_is(in, "row", "2");
	header_is(in, "target", "0192f0a0-0000-7000-8000-000000000002");
	header_is(in, "flags", "1");
	same(in->e.body, "{\"type\":\"EDIT\",\"content\":\"the\"}");
}

TEST(rows)
{
	UNUSED;
	struct wire_in *in = take("row of a room", WIRE_OK);
	is_row_of_a_room(in);
	free(in);
	in = take("row of two", WIRE_OK);
	is_row_of_two(in);
	free(in);
	in = take("row that is an event", WIRE_OK);
	is_row_that_is_an_event(in);
	free(in);
}

TEST(what_is_for_all_or_for_one_node_and_may_be_lost)
{
	UNUSED;
	struct wire_in *in = take("notice", WIRE_OK);
	assert_int_equal(in->e.to, CHATD_CLUSTER_ALL);
	assert_int_equal(in->e.flags, CHATD_CLUSTER_EPHEMERAL);
	same(in->e.kind, "notice");
	header_is(in, "room", "r1");
	header_is(in, "seq", "41");
	same(in->e.body, "{\"users\":[\"bob\"],\"preview\":{}}");
	free(in);
	in = take("for a node", WIRE_OK);
	assert_int_equal(in->e.to, CHATD_CLUSTER_NODE);
	assert_int_equal(in->e.flags, 0);
	same(in->e.kind, "admin.re");
	same(in->e.body, "{}");
	free(in);
	in = take("canary", WIRE_OK);
	assert_int_equal(in->e.to, CHATD_CLUSTER_NODE);
	assert_int_equal(in->e.flags, CHATD_CLUSTER_EPHEMERAL);
	same(in->e.kind, "canary");
	assert_int_equal(in->e.body.n, 0);
	free(in);
}

TEST(several_in_one_message)
{
	UNUSED;
	void (*const each[])(
			const struct wire_in *) = { is_row_of_a_room, is_row_of_two, is_row_that_is_an_event };
	struct wire_in *all = take("several", WIRE_BATCH), *in;
	const char *why;
	size_t at = 0;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(wire_unpack(all, &at, &in, &why), 1);
		same(in->e.from, "n1");
		assert_int_equal(in->number, i + 3);
		each[i](in);
		free(in);
	}
	assert_int_equal(wire_unpack(all, &at, &in, &why), 0);
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_for_a_topic_and_for_a_user),
		cmocka_unit_test(rows),
		cmocka_unit_test(what_is_for_all_or_for_one_node_and_may_be_lost),
		cmocka_unit_test(several_in_one_message),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

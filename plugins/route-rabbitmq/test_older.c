/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes of older releases send is read: their bytes, as they were captured. */
#include "seal.h"
#include "test_wire.h"

#include <stdlib.h>

#define KEY_THEN "a key that released programs had, of thirty-two bytes"

static const struct captured {
	const char *name, *properties, *body; /* in hexadecimal digits */
} captured[] = {
#include "../../tests/cluster/events-1.inc"
#include "../../tests/cluster/events-2.inc"
};

enum { N = sizeof(captured) / sizeof(captured[0]), ROOM = 8192 };

static void header_is(const struct wire_in *in, const char *name, const char *value)
{
	struct chatd_str found = chatd_cluster_get(&in->e, chatd_str_of(name, strlen(name)));
	assert_non_null(found.p);
	same(found, value);
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

static const struct captured *find(const char *name)
{
	const struct captured *c = captured;
	while (c < captured + N && strcmp(c->name, name) != 0) {
		c++;
	}
	assert_true(c < captured + N);
	return c;
}

/* The message as it comes from the broker; what it points to lives as long as @p pool and the next one. */
static const amqp_basic_properties_t *head_of(
		const char *name, amqp_pool_t *pool, struct chatd_str *ret_body)
{
	static char room[ROOM], body[ROOM];
	const struct captured *c = find(name);
	void *decoded;
	amqp_bytes_t bytes = { unhex(c->properties, room), room };
	*ret_body = chatd_str_of(body, unhex(c->body, body));
	init_amqp_pool(pool, 4096);
	assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, pool, bytes, &decoded), 0);
	return decoded;
}

/* To free(). */
static struct wire_in *take(const char *name, enum wire_verdict want)
{
	amqp_pool_t pool;
	struct chatd_str body;
	const amqp_basic_properties_t *head = head_of(name, &pool, &body);
	struct wire_in *in;
	const char *why;
	const struct wire_source from = { CHATD_LIT("chat.n2"), body.n };
	assert_int_equal(wire_decode(head, &from, &in, &why), want);
	assert_non_null(in);
	memcpy(in->body, body.p, body.n);
	empty_amqp_pool(&pool); /* nothing of it may be needed */
	same(in->e.from, "n1");
	same(in->epoch, "0123456789abcdef");
	return in;
}

static void is_of_a_client(const struct wire_in *in)
{
	char *at = (char *)(uintptr_t)in->lines.p;
	size_t left = in->lines.n;
	struct chatd_str name, value;
	same(in->content_type, "text/plain");
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
	same(name, "message-id");
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
	same(name, "odd");
	same(value, "a:b\\n c");
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
		assert_int_equal(in->e.to, all[i].to);
		assert_int_equal(in->e.flags, 0);
		assert_int_equal(in->number, i + 1);
		same(in->e.kind, all[i].name);
		same(in->e.topic, all[i].topic);
		same(in->e.key, all[i].key);
		assert_int_equal(in->e.body.n, all[i].body.n);
		assert_memory_equal(in->e.body.p, all[i].body.p, in->e.body.n);
		same(in->message_id, "0192f0a0-0000-7000-8000-000000000001");
		is_of_a_client(in);
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

/* work_in.c asks for the kind and the topic, and gives on the rest. */
TEST(what_is_in_a_work_queue)
{
	UNUSED;
	struct wire_in *in = take("work", WIRE_OK);
	same(in->e.kind, "work");
	same(in->e.topic, "/queue/jobs");
	same(in->message_id, "0192f0a0-0000-7000-8000-000000000009");
	assert_int_equal(in->e.flags, 0);
	assert_int_equal(in->e.body.n, 7);
	assert_memory_equal(in->e.body.p, "\0\xff\x01 job", 7);
	is_of_a_client(in);
	free(in);
}

/* peers_impl.h of the plugin sockjs says what each header is. */
static void is_of_sockjs(
		const struct wire_in *in, const char *kind, const char *op, int may_be_lost)
{
	assert_int_equal(in->e.to, CHATD_CLUSTER_NODE);
	assert_int_equal(in->e.flags, may_be_lost ? CHATD_CLUSTER_EPHEMERAL : 0);
	same(in->e.kind, kind);
	header_is(in, "id", "00112233445566aa.1.7");
	header_is(in, "op", op);
}

TEST(what_sockjs_passes_on)
{
	UNUSED;
	const struct {
		const char *name, *op, *transport, *callback, *body;
	} all[] = {
		{ "sockjs poll", "poll", "xhr", "", "" },
		{ "sockjs send", "send", "xhr_send", "", "[\"SEND\\ndestination:/app/x\\n\\nhi\\u0000\"]" },
		{ "sockjs left", "left", "jsonp", "cb.x", "" },
	};
	for (size_t i = 0; i < 3; i++) {
		struct wire_in *in = take(all[i].name, WIRE_OK);
		is_of_sockjs(in, "sockjs.ask", all[i].op, 1);
		header_is(in, "boot", "00112233445566bb");
		header_is(in, "path", "/ws-chat");
		header_is(in, "session", "3030302f733132");
		header_is(in, "transport", all[i].transport);
		header_is(in, "callback", all[i].callback);
		header_is(in, "peer", "962827e8b02a5ae36259008eddf5b0d5");
		header_is(in, "bearer", "d6079b6f26e562b49b504d50e529194d");
		header_is(in, "token", "5d26d6b625faef8bcf166cff7efc0e08");
		header_is(in, "device-token", "6bfac3f9a752d7ddd834b5ce1cb6a974");
		same(in->e.body, all[i].body);
		free(in);
	}
}

TEST(what_sockjs_answers)
{
	UNUSED;
	struct wire_in *in = take("sockjs held", WIRE_OK);
	is_of_sockjs(in, "sockjs.re", "held", 1);
	free(in);
	in = take("sockjs frame", WIRE_OK);
	is_of_sockjs(in, "sockjs.re", "frame", 0);
	same(in->e.body, "a[\"hi\"]");
	free(in);
	in = take("sockjs answer", WIRE_OK);
	is_of_sockjs(in, "sockjs.re", "answer", 1);
	header_is(in, "status", "204");
	header_is(in, "text", "ok");
	free(in);
}

/* A node whose signatures today's did not know would hear nobody, and be heard by nobody. */
TEST(their_signatures_are_believed)
{
	UNUSED;
	static const char *const keys[] = { KEY_THEN, NULL };
	struct seal *seal = seal_create(keys);
	const char *const all[] = { "work", "sockjs poll", "sockjs send", "sockjs left", "sockjs held",
		"sockjs frame", "sockjs answer" };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		amqp_pool_t pool;
		struct chatd_str body;
		const char *rkey = i == 0 ? "chat.wq.54170fa11744354a" : "chat.n2";
		struct sealed m = { .rkey = chatd_str_of(rkey, strlen(rkey)) };
		m.props = head_of(all[i], &pool, &body);
		m.body_size = body.n;
		assert_int_equal(seal_begin(seal, &m), SEAL_GOOD);
		seal_body(seal, wire_bytes(body));
		assert_int_equal(seal_end(seal, 1000000), SEAL_GOOD);
		empty_amqp_pool(&pool);
	}
	seal_destroy(seal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_for_a_topic_and_for_a_user),
		cmocka_unit_test(rows),
		cmocka_unit_test(what_is_for_all_or_for_one_node_and_may_be_lost),
		cmocka_unit_test(several_in_one_message),
		cmocka_unit_test(what_is_in_a_work_queue),
		cmocka_unit_test(what_sockjs_passes_on),
		cmocka_unit_test(what_sockjs_answers),
		cmocka_unit_test(their_signatures_are_believed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

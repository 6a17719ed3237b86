/* SPDX-License-Identifier: Apache-2.0 */
/* The parts that need no broker. */
#include "acks.h"
#include "link.h"
#include "seen.h"
#include "test_wire.h"
#include "topics.h"
#include "window.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <chatd/kit.h>

extern const struct chatd_plugin chatd_plugin_under_test;

/* ---- the envelope ---------------------------------------------------------------------- */

static const struct wire_sender sender = { .node = { "n1", 2 },
	.epoch = { "0123456789abcdef", 16 },
	.number = 7,
	.message_id = { "id-7", 4 },
	.lines = { "a:b\n", 4 } };

static struct wire_out *encode(const struct chatd_cluster_event *e)
{
	struct wire_out *o = NULL;
	const char *why = NULL;
	assert_int_equal(wire_encode(e, &sender, &o, &why), 0);
	return o;
}

static struct wire_in *decode_as(const struct wire_out *o, enum wire_verdict want)
{
	struct wire_in *in = NULL;
	const char *why;
	struct wire_source from = { CHATD_LIT("chat.room.r1"), o->body.len };
	assert_int_equal(wire_decode(&o->props, &from, &in, &why), want);
	if (in && o->body.len) {
		memcpy(in->body, o->body.bytes, o->body.len);
	}
	return in;
}

static struct chatd_cluster_event for_users(const struct chatd_str *users, size_t n)
{
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_USERS,
		.kind = CHATD_LIT("row2"),
		.key = CHATD_LIT("a\0b"),
		.users = users,
		.n_users = n,
		.body = CHATD_LIT("{\"x\":1}") };
	return e;
}

TEST(what_is_sent_comes_out_the_same)
{
	UNUSED;
	const struct chatd_str users[] = { CHATD_LIT("ann"), CHATD_LIT("bob_1"), CHATD_LIT("c-3") };
	const struct chatd_cluster_header headers[] = { { CHATD_LIT("seq"), CHATD_LIT("12") },
		{ CHATD_LIT("empty"), CHATD_LIT("") } };
	struct chatd_cluster_event e = for_users(users, 3);
	e.flags = CHATD_CLUSTER_EPHEMERAL;
	e.headers = headers;
	e.n_headers = 2;
	struct wire_out *o = encode(&e);
	struct wire_in *in = decode_as(o, WIRE_OK);
	free(o); /* nothing of it may be needed */
	assert_int_equal(in->e.to, CHATD_CLUSTER_USERS);
	assert_int_equal(in->e.flags, CHATD_CLUSTER_EPHEMERAL);
	same(in->e.kind, "row2");
	assert_int_equal(in->e.key.n, 3);
	assert_memory_equal(in->e.key.p, "a\0b", 3);
	assert_int_equal(in->e.n_users, 3);
	same(in->e.users[0], "ann");
	same(in->e.users[1], "bob_1");
	same(in->e.users[2], "c-3");
	same(chatd_cluster_get(&in->e, CHATD_LIT("seq")), "12");
	assert_non_null(chatd_cluster_get(&in->e, CHATD_LIT("empty")).p);
	assert_null(chatd_cluster_get(&in->e, CHATD_LIT("none")).p);
	same(in->e.body, "{\"x\":1}");
	same(in->e.from, "n1");
	same(in->epoch, "0123456789abcdef");
	same(in->lines, "a:b\n");
	same(in->message_id, "id-7");
	assert_int_equal(in->number, 7);
	free(in);
}

TEST(a_thousand_users_go_and_no_more)
{
	UNUSED;
	struct chatd_str *users = calloc(1001, sizeof(*users));
	static const char name[] = "0123456789012345678901234567890123456789012345678901234567890123";
	for (int i = 0; i < 1001; i++) {
		users[i] = chatd_str_of(name, 64);
	}
	struct chatd_cluster_event e = for_users(users, 1000);
	struct wire_out *o = encode(&e);
	struct wire_in *in = decode_as(o, WIRE_OK);
	assert_int_equal(in->e.n_users, 1000);
	same(in->e.users[999], name);
	free(in);
	free(o);
	const char *why;
	e.n_users = 1001;
	assert_int_equal(wire_encode(&e, &sender, &o, &why), -EINVAL);
	assert_non_null(strstr(why, "1 to 1000"));
	free(users);
}

TEST(what_is_no_event_is_refused_with_a_reason)
{
	UNUSED;
	static const char big[WIRE_BODY + 1], long_key[256];
	const struct chatd_str ann = CHATD_LIT("ann"), odd = CHATD_LIT("a,b");
	const struct chatd_cluster_header own = { CHATD_LIT("chatd-x"), CHATD_LIT("1") };
	struct chatd_cluster_event good = for_users(&ann, 1), e[9];
	for (size_t i = 0; i < 9; i++) {
		e[i] = good;
	}
	e[0].to = 5;
	e[1].kind = CHATD_LIT("Row");
	e[2].key = chatd_str_of(long_key, 256);
	e[3].users = &odd;
	e[4].body = chatd_str_of(big, sizeof(big));
	e[5].headers = &own;
	e[5].n_headers = 1;
	e[6].to = CHATD_CLUSTER_NODE;
	e[6].node = CHATD_LIT("a b");
	e[7].to = CHATD_CLUSTER_TOPIC;
	e[8].n_headers = 33;
	for (size_t i = 0; i < 9; i++) {
		struct wire_out *o;
		const char *why = NULL;
		assert_int_equal(wire_encode(&e[i], &sender, &o, &why), -EINVAL);
		assert_non_null(why);
	}
}

static void same_event(const struct wire_in *a, const struct wire_in *b)
{
	assert_int_equal(a->e.to, b->e.to);
	assert_int_equal(a->e.flags, b->e.flags);
	assert_int_equal(a->number, b->number);
	assert_int_equal(a->e.n_users, b->e.n_users);
	assert_int_equal(a->e.n_headers, b->e.n_headers);
	const struct chatd_str x[] = { a->e.kind, a->e.key, a->e.topic, a->e.body, a->e.from, a->epoch,
		a->lines, a->message_id, a->content_type },
						   y[] = { b->e.kind, b->e.key, b->e.topic, b->e.body, b->e.from, b->epoch,
							   b->lines, b->message_id, b->content_type };
	for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++) {
		assert_int_equal(x[i].n, y[i].n);
		assert_int_equal(!x[i].p, !y[i].p);
		assert_memory_equal(x[i].p ? x[i].p : "", y[i].p ? y[i].p : "", x[i].n);
	}
}

/* Some events in one message, as it comes in. */
static struct wire_in *together(struct wire_out *const *all, size_t n)
{
	struct wire_batch b;
	struct wire_in *in = NULL;
	const char *why;
	size_t size = 0, at = 0;
	wire_batch(&b, &sender, all[0]);
	for (size_t i = 0; i < n; i++) {
		size += wire_pack_size(all[i]);
	}
	struct wire_source from = { CHATD_LIT("chat.n1"), size };
	assert_int_equal(wire_decode(&b.props, &from, &in, &why), WIRE_BATCH);
	for (size_t i = 0; i < n; i++) {
		wire_pack(all[i], in->body + at);
		at += wire_pack_size(all[i]);
	}
	return in;
}

TEST(several_events_in_a_message_come_out_the_same)
{
	UNUSED;
	const struct chatd_str users[] = { CHATD_LIT("ann"), CHATD_LIT("bob_1") };
	const struct chatd_cluster_header headers[] = { { CHATD_LIT("seq"), CHATD_LIT("12") },
		{ CHATD_LIT("empty"), CHATD_LIT("") } };
	struct chatd_cluster_event e[3] = { for_users(users, 2), for_users(users, 1) };
	e[0].headers = headers;
	e[0].n_headers = 2;
	e[1].body = CHATD_LIT("");
	e[2] = (struct chatd_cluster_event){ .struct_size = sizeof(e[2]),
		.to = CHATD_CLUSTER_TOPIC,
		.kind = CHATD_LIT("topic"),
		.topic = CHATD_LIT("/topic/room/r1"),
		.body = CHATD_LIT("\0x") };
	struct wire_out *o[3];
	for (size_t i = 0; i < 3; i++) {
		o[i] = encode(&e[i]);
	}
	struct wire_in *all = together(o, 3), *in, *alone;
	const char *why;
	size_t at = 0;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(wire_unpack(all, &at, &in, &why), 1);
		alone = decode_as(o[i], WIRE_OK);
		same_event(in, alone);
		free(in);
		free(alone);
		free(o[i]);
	}
	assert_int_equal(wire_unpack(all, &at, &in, &why), 0);
	free(all);
}

TEST(several_events_that_are_none_are_poison)
{
	UNUSED;
	const struct chatd_str ann = CHATD_LIT("ann");
	struct chatd_cluster_event e = for_users(&ann, 1);
	struct wire_out *o[2] = { encode(&e), encode(&e) };
	struct wire_in *whole = together(o, 2), *in;
	const char *why;
	size_t n = whole->e.body.n, one = wire_pack_size(o[0]);
	for (size_t cut = one + 1; cut < n; cut++) { /* the first one is whole */
		size_t at = 0;
		struct wire_in *copy = malloc(sizeof(*copy) + cut);
		*copy = *whole;
		copy->body = (char *)(copy + 1);
		memcpy(copy->body, whole->body, cut);
		copy->e.body = chatd_str_of(copy->body, cut);
		assert_int_equal(wire_unpack(copy, &at, &in, &why), 1);
		free(in);
		assert_int_equal(wire_unpack(copy, &at, &in, &why), -EBADMSG);
		assert_non_null(why);
		free(copy);
	}
	for (size_t i = 0; i < one; i++) { /* whatever a byte is: no more than an event comes out */
		size_t at = 0;
		char was = whole->body[i];
		whole->body[i] = (char)~was;
		for (int k = 0; k < 3 && wire_unpack(whole, &at, &in, &why) > 0; k++) {
			same(in->e.from, "n1");
			free(in);
		}
		whole->body[i] = was;
	}
	free(whole);
	free(o[0]);
	free(o[1]);
}

static void set(struct wire_out *o, const char *name, amqp_field_value_t value)
{
	for (int i = 0; i < o->props.headers.num_entries; i++) {
		if (o->entries[i].key.len == strlen(name) &&
				memcmp(o->entries[i].key.bytes, name, strlen(name)) == 0) {
			o->entries[i].value = value;
			return;
		}
	}
	fail();
}

static amqp_field_value_t text(const char *s)
{
	amqp_field_value_t v = { .kind = AMQP_FIELD_KIND_UTF8 };
	v.value.bytes = amqp_cstring_bytes(s);
	return v;
}

static amqp_field_value_t number(int32_t n)
{
	amqp_field_value_t v = { .kind = AMQP_FIELD_KIND_I32 };
	v.value.i32 = n;
	return v;
}

TEST(a_bad_envelope_is_poison)
{
	UNUSED;
	const struct chatd_str ann = CHATD_LIT("ann");
	const struct {
		const char *name;
		amqp_field_value_t value;
		enum wire_verdict want;
	} bad[] = {
		{ "chatd-v", number(3), WIRE_UNKNOWN_VERSION },
		{ "chatd-v", text("1"), WIRE_UNKNOWN_VERSION },
		{ "chatd-v", number(-1), WIRE_UNKNOWN_VERSION },
		{ "chatd-kind", text(""), WIRE_POISON },
		{ "chatd-kind", text("Row"), WIRE_POISON },
		{ "chatd-kind", number(1), WIRE_POISON },
		{ "chatd-from", text("a b"), WIRE_POISON },
		{ "chatd-from", text(""), WIRE_POISON },
		{ "chatd-epoch", text("0123456789abcdef0"), WIRE_POISON },
		{ "chatd-n", text("7"), WIRE_POISON },
		{ "chatd-n", number(-7), WIRE_POISON },
		{ "chatd-to", text("nobody"), WIRE_POISON },
		{ "chatd-to", text("topic"), WIRE_POISON },
		{ "chatd-users", text(""), WIRE_POISON },
		{ "chatd-users", text("ann,"), WIRE_POISON },
		{ "chatd-users", text(",ann"), WIRE_POISON },
		{ "chatd-users", text("ann,b b"), WIRE_POISON },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct chatd_cluster_event e = for_users(&ann, 1);
		struct wire_out *o = encode(&e);
		set(o, bad[i].name, bad[i].value);
		assert_null(decode_as(o, bad[i].want));
		free(o);
	}
	struct chatd_cluster_event e = for_users(&ann, 1);
	struct wire_out *o = encode(&e);
	struct wire_source from = { CHATD_LIT("chat.n1"), WIRE_BODY + 1 };
	struct wire_in *in;
	const char *why;
	assert_int_equal(wire_decode(&o->props, &from, &in, &why), WIRE_POISON);
	assert_null(in);
	free(o);
}

TEST(a_message_without_our_version_is_foreign)
{
	UNUSED;
	struct wire_source from = { CHATD_LIT("chat.room.r1"), 2 };
	amqp_basic_properties_t props = { 0 };
	struct wire_in *in;
	const char *why;
	assert_int_equal(wire_decode(&props, &from, &in, &why), WIRE_FOREIGN);
	same(in->e.kind, "foreign");
	same(in->e.topic, "/topic/room/r1");
	same(chatd_cluster_get(&in->e, CHATD_LIT("routing-key")), "chat.room.r1");
	assert_int_equal(in->e.from.n, 0);
	free(in);
	from.routing_key = CHATD_LIT("chat.n1");
	assert_int_equal(wire_decode(&props, &from, &in, &why), WIRE_FOREIGN);
	assert_null(in->e.topic.p);
	free(in);
}

TEST(lines_carry_any_header)
{
	UNUSED;
	struct wire_lines l = { 0 };
	wire_line_add(&l, CHATD_LIT("a"), CHATD_LIT("b"));
	wire_line_add(&l, CHATD_LIT("od:d\n"), CHATD_LIT("\\x\r\n:"));
	wire_line_add(&l, CHATD_LIT("e"), CHATD_LIT(""));
	struct chatd_str name, value;
	char *at = l.p;
	size_t left = l.n;
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
	same(name, "a");
	same(value, "b");
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
	same(name, "od:d\n");
	same(value, "\\x\r\n:");
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 1);
	same(value, "");
	assert_int_equal(wire_line_next(&at, &left, &name, &value), 0);
	free(l.p);
	static const char *const bad[] = { "a:b", "ab\n", ":b\n", "a:b:c\n", "a:\\", "a:\\x\n", "\n" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char copy[16];
		snprintf(copy, sizeof(copy), "%s", bad[i]);
		at = copy;
		left = strlen(copy);
		assert_int_equal(wire_line_next(&at, &left, &name, &value), -EINVAL);
	}
}

TEST(keys_are_those_of_the_contract)
{
	UNUSED;
	char key[WIRE_RKEY];
	wire_node_key(CHATD_LIT("server1"), key);
	assert_string_equal(key, "chat.server1");
	wire_topic_key(CHATD_LIT("/topic/room/r_1-2"), key);
	assert_string_equal(key, "chat.room.r_1-2");
	wire_topic_key(CHATD_LIT("/topic/room/a.b"), key); /* a dot is a separator there */
	assert_string_equal(key, "chat.topic.d4df0b94dee12b14");
	wire_topic_key(CHATD_LIT("/topic/public"), key);
	assert_string_equal(key, "chat.topic.9d46eec9d33bd28c");
}

/* ---- the window ------------------------------------------------------------------------- */

static struct leg legs[8];

static void window_with(struct window *w, int waiting, int flying)
{
	memset(legs, 0, sizeof(legs));
	window_init(w);
	for (int i = 0; i < waiting + flying; i++) {
		window_push(w, &legs[i]);
	}
	for (int i = 0; i < flying; i++) {
		assert_ptr_equal(window_send(w, NULL, 100 + i), &legs[i]);
		assert_int_equal(legs[i].tag, i + 1);
	}
}

TEST(confirms_settle_in_order)
{
	UNUSED;
	struct window w;
	window_with(&w, 1, 4);
	assert_int_equal(window_oldest(&w), 100);
	assert_true(window_answer(&w, 2, 0, 0));
	assert_null(window_settle(&w)); /* the first one is not answered yet */
	assert_true(window_answer(&w, 1, 0, 0));
	assert_ptr_equal(window_settle(&w), &legs[0]);
	assert_ptr_equal(window_settle(&w), &legs[1]);
	assert_null(window_settle(&w));
	assert_int_equal(window_oldest(&w), 102);
	assert_true(window_answer(&w, 4, 1, 0));
	assert_ptr_equal(window_settle(&w), &legs[2]);
	assert_ptr_equal(window_settle(&w), &legs[3]);
	assert_int_equal(window_oldest(&w), -1);
	assert_int_equal(w.n_flying, 0);
	assert_int_equal(w.n_waiting, 1);
}

TEST(a_confirm_of_what_was_never_sent_is_a_breach)
{
	UNUSED;
	struct window w;
	window_with(&w, 0, 2);
	assert_false(window_answer(&w, 3, 1, 0));
	assert_false(window_answer(&w, 0, 0, 0));
	assert_true(window_answer(&w, 1, 0, 0));
	assert_true(window_answer(&w, 1, 0, 1)); /* twice: the first one counts */
	assert_int_equal(legs[0].refused, 0);
}

TEST(a_lost_channel_puts_all_back_in_order)
{
	UNUSED;
	struct window w;
	window_with(&w, 2, 3);
	assert_true(window_answer(&w, 1, 0, 0));
	assert_ptr_equal(window_settle(&w), &legs[0]);
	window_reset(&w);
	assert_int_equal(w.n_waiting, 4);
	for (int i = 1; i < 5; i++) {
		assert_ptr_equal(window_send(&w, NULL, 0), &legs[i]);
		assert_int_equal(legs[i].tag, i);
	}
	assert_null(window_send(&w, NULL, 0));
}

TEST(returned_ones_are_found_by_their_tag)
{
	UNUSED;
	struct window w;
	window_with(&w, 0, 3);
	window_return(&w, 2);
	window_return(&w, 4);
	window_return(&w, 0);
	assert_int_equal(legs[0].returned, 0);
	assert_int_equal(legs[1].returned, 1);
	assert_int_equal(legs[2].returned, 0);
}

TEST(several_fly_in_one_message)
{
	UNUSED;
	struct window w;
	window_with(&w, 6, 1);
	/* 1 and 4 and 6, past 2 and 3 and 5 */
	assert_ptr_equal(window_send(&w, NULL, 5), &legs[1]);
	assert_ptr_equal(window_join(&w, &legs[3], 5), &legs[4]);
	assert_ptr_equal(window_join(&w, &legs[5], 5), &legs[6]);
	assert_null(window_join(&w, &legs[5], 5));
	assert_null(window_send(&w, &legs[5], 5));
	assert_int_equal(legs[6].tag, 2);
	assert_int_equal(w.n_flying, 4);
	assert_int_equal(w.n_messages, 2);
	window_push(&w, &legs[7]); /* behind the one that is the last now */
	assert_int_equal(w.n_waiting, 4);
	window_return(&w, 2);
	assert_int_equal(legs[0].returned + legs[1].returned + legs[4].returned + legs[6].returned, 3);
	assert_true(window_answer(&w, 2, 0, 1));
	assert_true(window_answer(&w, 1, 0, 0));
	assert_ptr_equal(window_settle(&w), &legs[0]);
	assert_int_equal(w.n_messages, 1);
	struct legs again = STAILQ_HEAD_INITIALIZER(again);
	struct leg *l;
	while ((l = window_settle(&w))) {
		assert_true(l->refused);
		STAILQ_INSERT_TAIL(&again, l, link);
	}
	assert_int_equal(w.n_messages, 0);
	window_put_back(&w, &again);
	assert_int_equal(w.n_waiting, 7);
	static const int order[] = { 1, 4, 6, 2, 3, 5, 7 };
	for (size_t i = 0; i < 7; i++) {
		assert_ptr_equal(window_send(&w, NULL, 9), &legs[order[i]]);
		assert_int_equal(legs[order[i]].joined, 0);
	}
}

/* ---- acknowledgements --------------------------------------------------------------------- */

TEST(many_are_acknowledged_at_once_and_refused_singly)
{
	UNUSED;
	struct acks a;
	uint64_t tag;
	int refused;
	assert_int_equal(acks_init(&a, 4), 0);
	for (uint64_t i = 1; i <= 4; i++) {
		assert_true(acks_came(&a, i));
	}
	assert_false(acks_came(&a, 5)); /* more than was asked for */
	acks_settle(&a, 2, 0);
	assert_false(acks_next(&a, &tag, &refused));
	acks_settle(&a, 1, 0);
	acks_settle(&a, 3, 1);
	acks_settle(&a, 4, 0);
	assert_true(acks_next(&a, &tag, &refused));
	assert_int_equal(tag, 2);
	assert_false(refused);
	assert_true(acks_next(&a, &tag, &refused));
	assert_int_equal(tag, 3);
	assert_true(refused);
	assert_true(acks_next(&a, &tag, &refused));
	assert_int_equal(tag, 4);
	assert_false(refused);
	assert_false(acks_next(&a, &tag, &refused));
	assert_true(acks_came(&a, 5));
	assert_false(acks_came(&a, 7));
	acks_reset(&a);
	acks_settle(&a, 5, 0); /* of the channel before */
	assert_false(acks_next(&a, &tag, &refused));
	assert_true(acks_came(&a, 1));
	acks_finish(&a);
}

TEST(a_message_of_several_is_acknowledged_when_all_are_done)
{
	UNUSED;
	struct acks a;
	uint64_t tag;
	int refused;
	assert_int_equal(acks_init(&a, 2), 0);
	assert_true(acks_came(&a, 1));
	acks_more(&a, 1);
	acks_more(&a, 1);
	acks_settle(&a, 1, 0);
	acks_settle(&a, 1, 0);
	assert_false(acks_next(&a, &tag, &refused));
	acks_settle(&a, 1, 0);
	assert_true(acks_next(&a, &tag, &refused));
	assert_int_equal(tag, 1);
	assert_true(acks_came(&a, 2));
	acks_more(&a, 2);
	acks_settle(&a, 2, 1); /* one is poison, the other one still under way */
	assert_true(acks_next(&a, &tag, &refused));
	assert_true(refused);
	acks_settle(&a, 2, 0);
	assert_true(acks_came(&a, 3));
	assert_true(acks_came(&a, 4)); /* in the same place */
	acks_settle(&a, 2, 0);
	assert_false(acks_next(&a, &tag, &refused));
	acks_finish(&a);
}

/* ---- who understands what ------------------------------------------------------------------ */

TEST(several_go_to_whom_can_read_them)
{
	UNUSED;
	struct peers *p = peers_create();
	assert_false(peers_one(p, "chat.n2", 0));
	assert_true(peers_all(p, 1, 0)); /* nobody else is there */
	assert_false(peers_all(p, 0, 0));
	assert_false(peers_all(p, 2, 0));
	assert_true(peers_heard(p, CHATD_LIT("n2"), 1000));
	assert_false(peers_heard(p, CHATD_LIT("n2"), 5000));
	assert_true(peers_one(p, "chat.n2", 5000));
	assert_false(peers_one(p, "chat.n3", 5000));
	assert_true(peers_all(p, 2, 5000));
	assert_false(peers_all(p, 3, 5000)); /* one of an older release */
	assert_true(peers_heard(p, CHATD_LIT("n3"), 6000));
	assert_true(peers_all(p, 3, 6000));
	assert_false(peers_all(p, 3, 5000 + PEERS_FORGET_MS)); /* silent: perhaps it is older by now */
	assert_false(peers_one(p, "chat.n2", 5000 + PEERS_FORGET_MS));
	assert_true(peers_one(p, "chat.n3", 5000 + PEERS_FORGET_MS));
	assert_true(peers_heard(p, CHATD_LIT("n2"), 5000 + PEERS_FORGET_MS));
	char name[16];
	for (int i = 0; i < 1000; i++) { /* bounded */
		snprintf(name, sizeof(name), "x%d", i);
		(void)peers_heard(p, chatd_str_of(name, strlen(name)), 6000);
	}
	assert_true(peers_one(p, "chat.n3", 6000));
	peers_destroy(p);
}

/* ---- topics --------------------------------------------------------------------------------- */

TEST(a_topic_lingers_and_comes_back_for_nothing)
{
	UNUSED;
	const struct chatd_hash_key key = { { 1, 2 } };
	struct topics *t = topics_create(&key, 1000);
	const struct chatd_str x = CHATD_LIT("/topic/room/x"), y = CHATD_LIT("/topic/room/y");
	char rkey[WIRE_RKEY];
	assert_int_equal(topics_set(t, x, 1, 0), 0);
	assert_int_equal(topics_set(t, y, 1, 0), 0);
	assert_true(topics_bind(t, rkey));
	assert_string_equal(rkey, "chat.room.x");
	assert_int_equal(topics_set(t, y, 0, 0), 0); /* before it was bound */
	assert_false(topics_bind(t, rkey));
	assert_false(topics_has(t, y));
	topics_set(t, x, 0, 0);
	assert_true(topics_has(t, x));
	assert_false(topics_unbind(t, 999, rkey));
	topics_set(t, x, 1, 999);
	assert_false(topics_unbind(t, 5000, rkey));
	assert_false(topics_bind(t, rkey));
	topics_set(t, x, 0, 5000);
	assert_true(topics_unbind(t, 6000, rkey));
	assert_string_equal(rkey, "chat.room.x");
	assert_int_equal(topics_count(t), 0);
	topics_destroy(t);
}

TEST(a_new_connection_binds_what_is_wanted)
{
	UNUSED;
	const struct chatd_hash_key key = { { 1, 2 } };
	struct topics *t = topics_create(&key, 1000);
	char rkey[WIRE_RKEY];
	topics_set(t, CHATD_LIT("/topic/room/a"), 1, 0);
	topics_set(t, CHATD_LIT("/topic/room/b"), 1, 0);
	topics_set(t, CHATD_LIT("/topic/room/c"), 1, 0);
	assert_int_equal(topics_bind(t, rkey), 1);
	assert_int_equal(topics_bind(t, rkey), 2);
	assert_int_equal(topics_place(t, CHATD_LIT("/topic/room/a")), 1);
	topics_set(t, CHATD_LIT("/topic/room/a"), 0, 0);
	topics_reset(t);
	assert_int_equal(topics_place(t, CHATD_LIT("/topic/room/a")), 0);
	assert_int_equal(topics_count(t), 2);
	/* Bound anew: the places of before mean nothing any more. */
	assert_int_equal(topics_place(t, CHATD_LIT("/topic/room/c")) +
					topics_place(t, CHATD_LIT("/topic/room/b")),
			3 + 4);
	assert_int_equal(topics_bind(t, rkey), 3);
	assert_int_equal(topics_bind(t, rkey), 4);
	assert_false(topics_bind(t, rkey));
	assert_false(topics_unbind(t, 99999, rkey));
	topics_destroy(t);
}

/* ---- what has come before -------------------------------------------------------------------- */

static int came(struct seen *s, struct chatd_str node, struct chatd_str epoch, uint64_t number)
{
	const struct seen_event e = { .node = node, .epoch = epoch, .number = number };
	return seen_before(s, &e);
}

TEST(what_comes_again_is_known)
{
	UNUSED;
	struct seen *s = seen_create();
	const struct chatd_str a = CHATD_LIT("a"), b = CHATD_LIT("b"), e1 = CHATD_LIT("1"),
						   e2 = CHATD_LIT("2");
	assert_false(came(s, a, e1, 5));
	assert_true(came(s, a, e1, 5));
	assert_false(came(s, a, e1, 3)); /* workers number side by side */
	assert_true(came(s, a, e1, 3));
	assert_false(came(s, b, e1, 5));
	assert_false(came(s, a, e1, 64005));
	assert_true(came(s, a, e1, 5));
	assert_false(came(s, a, e1, 200000));
	assert_false(came(s, a, e1, 5)); /* long ago: let it pass */
	assert_false(came(s, a, e1, 199999));
	assert_false(came(s, a, e2, 200000)); /* another process */
	assert_true(came(s, b, e1, 5));
	assert_true(came(s, a, e1, 199999)); /* of the process before: somebody plays it again */
	assert_true(came(s, a, e2, 200000));
	seen_destroy(s);
}

TEST(what_is_too_old_to_be_known_has_come_if_events_are_signed)
{
	UNUSED;
	struct seen *s = seen_create();
	struct seen_event e = {
		.node = CHATD_LIT("a"), .epoch = CHATD_LIT("1"), .number = 200000, .strict = 1
	};
	assert_false(seen_before(s, &e));
	e.number = 200000 - 65535;
	assert_false(seen_before(s, &e));
	e.number = 200000 - 65536;
	assert_true(seen_before(s, &e));
	e.strict = 0;
	assert_false(seen_before(s, &e));
	seen_destroy(s);
}

TEST(made_up_nodes_take_no_memory_for_ever)
{
	UNUSED;
	struct seen *s = seen_create();
	char name[16];
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_false(came(s, chatd_str_of(name, strlen(name)), CHATD_LIT("1"), 1));
	}
	assert_true(came(s, chatd_str_of(name, strlen(name)), CHATD_LIT("1"), 1));
	assert_false(came(s, CHATD_LIT("n0"), CHATD_LIT("1"), 1));
	seen_destroy(s);
}

/* ---- options ------------------------------------------------------------------------------------ */

TEST(addresses_are_hosts_with_ports)
{
	UNUSED;
	char host[256];
	int port;
	assert_true(link_address("mq1:1234", 0, host, &port));
	assert_string_equal(host, "mq1");
	assert_int_equal(port, 1234);
	assert_true(link_address("mq1", 1, host, &port));
	assert_int_equal(port, 5671);
	assert_true(link_address("[::1]:77", 0, host, &port));
	assert_string_equal(host, "::1");
	assert_int_equal(port, 77);
	assert_true(link_address("[::1]", 0, host, &port));
	assert_int_equal(port, 5672);
	static const char *const bad[] = { "", ":1", "a:", "a:0", "a:65536", "a:x", "::1", "[::1",
		"[::1]x", "amqp://a:1", "a b:1", "u@a:1" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(link_address(bad[i], 0, host, &port));
	}
}

TEST(bad_options_are_named)
{
	UNUSED;
	char *said = kit_complaints(&chatd_plugin_under_test, "addresses: [\"amqp://x\", \"ok:1\"]");
	assert_non_null(strstr(said, "\"amqp://x\" is no address; write host:port"));
	assert_null(strstr(said, "\"ok:1\" is no"));
	free(said);
	said = kit_complaints(&chatd_plugin_under_test, "addresses: []");
	assert_non_null(strstr(said, "name at least one broker"));
	free(said);
	said = kit_complaints(&chatd_plugin_under_test, "ca_file: /x");
	assert_non_null(strstr(said, "it is for TLS, and tls is false"));
	free(said);
	said = kit_complaints(&chatd_plugin_under_test, "tls: true\ncert_file: /x");
	assert_non_null(strstr(said, "cert_file and key_file go together"));
	free(said);
}

static void complains(const char *options, const char *about)
{
	kit_expect_complaint(&chatd_plugin_under_test, options, about);
}

TEST(bad_keys_are_named)
{
	UNUSED;
#define KEY "0123456789012345678901234567890"
	complains("user: x", "there is no key; set keys: [env:CHATD_CLUSTER_KEY]");
	complains("sign: accept", "there is no key");
	complains("keys: [" KEY "]", "key 1 has 31 bytes; 32 to 1024 are needed");
	complains("keys: [" KEY "a, short]", "key 2 has 5 bytes");
	complains("keys: [" KEY "a, " KEY "b, " KEY "a]", "keys 1 and 3 are the same");
	complains("keys: [" KEY "1, " KEY "2, " KEY "3, " KEY "4, " KEY "5, " KEY "6, " KEY "7, " KEY
			  "8, " KEY "9]",
			"9 keys; at most 8");
	complains("keys: [" KEY "a]\nsign: maybe", "sign");
	char *said = kit_complaints(&chatd_plugin_under_test, "sign: off");
	assert_true(!said || !*said);
	free(said);
	said = kit_complaints(&chatd_plugin_under_test, "keys: [" KEY "a, " KEY "b]");
	assert_true(!said || !*said);
	free(said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sent_comes_out_the_same),
		cmocka_unit_test(several_events_in_a_message_come_out_the_same),
		cmocka_unit_test(several_events_that_are_none_are_poison),
		cmocka_unit_test(a_thousand_users_go_and_no_more),
		cmocka_unit_test(what_is_no_event_is_refused_with_a_reason),
		cmocka_unit_test(a_bad_envelope_is_poison),
		cmocka_unit_test(a_message_without_our_version_is_foreign),
		cmocka_unit_test(lines_carry_any_header),
		cmocka_unit_test(keys_are_those_of_the_contract),
		cmocka_unit_test(confirms_settle_in_order),
		cmocka_unit_test(a_confirm_of_what_was_never_sent_is_a_breach),
		cmocka_unit_test(a_lost_channel_puts_all_back_in_order),
		cmocka_unit_test(returned_ones_are_found_by_their_tag),
		cmocka_unit_test(several_fly_in_one_message),
		cmocka_unit_test(many_are_acknowledged_at_once_and_refused_singly),
		cmocka_unit_test(a_message_of_several_is_acknowledged_when_all_are_done),
		cmocka_unit_test(several_go_to_whom_can_read_them),
		cmocka_unit_test(a_topic_lingers_and_comes_back_for_nothing),
		cmocka_unit_test(a_new_connection_binds_what_is_wanted),
		cmocka_unit_test(what_comes_again_is_known),
		cmocka_unit_test(what_is_too_old_to_be_known_has_come_if_events_are_signed),
		cmocka_unit_test(made_up_nodes_take_no_memory_for_ever),
		cmocka_unit_test(addresses_are_hosts_with_ports),
		cmocka_unit_test(bad_options_are_named),
		cmocka_unit_test(bad_keys_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

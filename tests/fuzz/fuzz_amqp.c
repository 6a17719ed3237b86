/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the head of an AMQP message: what is let through is whole and within its bounds.
 * The rest of the bytes, as the headers of a STOMP message in it.
 */
#include "wire.h"

#include <chatd-sdk/text.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void expect(int is)
{
	if (!is) {
		abort();
	}
}

static void touch(struct chatd_str s)
{
	static volatile char sink;
	for (size_t i = 0; i < s.n; i++) {
		sink = s.p[i];
	}
	(void)sink;
}

static void look_at(const struct wire_in *in, enum wire_verdict v)
{
	const struct chatd_cluster_event *e = &in->e;
	expect(e->kind.n > 0 && e->kind.n <= WIRE_KIND && e->key.n <= WIRE_KEY);
	expect(e->to >= CHATD_CLUSTER_ALL && e->to <= CHATD_CLUSTER_USERS);
	expect(e->n_users <= WIRE_USERS && e->n_headers <= WIRE_HEADERS);
	expect(v == WIRE_FOREIGN || (wire_is_node(e->from) && in->epoch.n <= WIRE_EPOCH));
	for (size_t i = 0; i < e->n_users; i++) {
		expect(wire_is_id(e->users[i]));
	}
	for (size_t i = 0; i < e->n_headers; i++) {
		touch(e->headers[i].name);
		touch(e->headers[i].value);
	}
	touch(e->topic);
	touch(e->key);
	touch(in->lines);
	touch(in->message_id);
	touch(in->content_type);
	memset(in->body, 'x', e->body.n);
}

static void as_lines(char *p, size_t n)
{
	struct chatd_str name, value;
	while (wire_line_next(&p, &n, &name, &value) > 0) {
		struct wire_lines l = { 0 };
		struct chatd_str name2, value2;
		wire_line_add(&l, name, value);
		char *at = l.p;
		size_t left = l.n;
		expect(wire_line_next(&at, &left, &name2, &value2) == 1);
		expect(name2.n == name.n && value2.n == value.n && left == 0);
		free(l.p);
	}
}

static void as_message(const amqp_basic_properties_t *props, uint64_t body)
{
	struct wire_source from = { CHATD_LIT("chat.room.r1"), body };
	struct wire_in *in;
	const char *why;
	enum wire_verdict v = wire_decode(props, &from, &in, &why);
	expect((in != NULL) == (v == WIRE_OK || v == WIRE_FOREIGN || v == WIRE_BATCH));
	if (in && v != WIRE_BATCH) {
		look_at(in, v);
		as_lines((char *)(uintptr_t)in->lines.p, in->lines.n);
	}
	free(in);
}

/* As it stands in a frame. */
static void as_frame(char *p, size_t n, uint64_t body)
{
	amqp_pool_t pool;
	amqp_bytes_t raw = { n, p };
	void *props = NULL;
	init_amqp_pool(&pool, 4096);
	if (amqp_decode_properties(AMQP_BASIC_CLASS, &pool, raw, &props) == 0) {
		as_message(props, body);
	}
	empty_amqp_pool(&pool);
}

/* As the body of a message of several events. */
static void as_batch(char *p, size_t n)
{
	const struct wire_in batch = {
		.e = { .from = CHATD_LIT("n1"), .body = { p, n } }, .epoch = CHATD_LIT("1"), .body = p
	};
	struct wire_in *in;
	const char *why;
	size_t at = 0;
	while (wire_unpack(&batch, &at, &in, &why) > 0) {
		expect(at <= n);
		look_at(in, WIRE_OK);
		free(in);
	}
	expect(in == NULL);
}

/* One byte for a name, one for a kind, one for a length: an envelope is found sooner than so. */
static void as_envelope(char *p, size_t n, uint64_t body)
{
	static const char *const names[] = { "chatd-v", "chatd-kind", "chatd-to", "chatd-from",
		"chatd-epoch", "chatd-n", "chatd-key", "chatd-topic", "chatd-users", "chatd-headers", "seq",
		"X" };
	static const char *const values[] = { "row", "all", "users", "topic", "ann,bob", "n1" };
	amqp_table_entry_t entries[40];
	amqp_basic_properties_t props = { ._flags = AMQP_BASIC_HEADERS_FLAG };
	props.headers.entries = entries;
	for (char *end = p + n; end - p >= 3 && props.headers.num_entries < 40;) {
		amqp_table_entry_t *e = &entries[props.headers.num_entries++];
		size_t len = (uint8_t)p[2];
		e->key = amqp_cstring_bytes(names[(uint8_t)p[0] % 12]);
		e->value.kind = AMQP_FIELD_KIND_UTF8;
		if (p[1] & 1) {
			e->value.kind = AMQP_FIELD_KIND_I32;
			e->value.value.i32 = (int32_t)len - 3;
			len = 0;
		} else if (p[1] & 2) {
			e->value.value.bytes = amqp_cstring_bytes(values[len % 6]);
			len = 0;
		} else {
			len = len < (size_t)(end - p - 3) ? len : (size_t)(end - p - 3);
			e->value.value.bytes.bytes = p + 3;
			e->value.value.bytes.len = len;
		}
		p += 3 + len;
	}
	as_message(&props, body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 4) {
		return 0;
	}
	char *copy = malloc(n - 3);
	memcpy(copy, data + 3, n - 3);
	if (data[1] & 2) {
		as_batch(copy, n - 3);
	} else if (data[1] & 1) {
		as_envelope(copy, n - 3, (uint64_t)data[0] << 14);
	} else {
		as_frame(copy, n - 3, (uint64_t)data[0] << 14);
	}
	as_lines(copy, n - 3);
	free(copy);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Several events in one AMQP message. */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * One after the other in the body, numbers with the high byte first:
 *
 *   4 bytes: how many follow; 1: entries; 1: length, message id; 1: length, content type;
 *   for each entry of the headers 1: length, name, 'n' and 8 bytes, or 't', 4: length, text;
 *   the rest is the event's body.
 *
 * Version, sender and process stand in the headers of the message, once.
 */

enum { ENTRIES = WIRE_HEADERS + 16 };

/* ---- out ---------------------------------------------------------------------------------- */

static int is_named(const amqp_table_entry_t *t, const char *name)
{
	return t->key.len == strlen(name) && memcmp(t->key.bytes, name, t->key.len) == 0;
}

static int is_shared(const amqp_table_entry_t *t)
{
	return is_named(t, "chatd-v") || is_named(t, "chatd-from") || is_named(t, "chatd-epoch");
}

static amqp_bytes_t property(const amqp_basic_properties_t *p, uint32_t flag, amqp_bytes_t value)
{
	return p->_flags & flag ? value : amqp_empty_bytes;
}

size_t wire_pack_size(const struct wire_out *o)
{
	const amqp_basic_properties_t *p = &o->props;
	size_t n = 4 + 3 + property(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id).len +
			property(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type).len + o->body.len;
	for (int i = 0; i < p->headers.num_entries; i++) {
		const amqp_table_entry_t *t = &p->headers.entries[i];
		int text = t->value.kind == AMQP_FIELD_KIND_UTF8;
		n += is_shared(t) ? 0 : 2 + t->key.len + (text ? 4 + t->value.value.bytes.len : 8);
	}
	return n;
}

static char *put_number(char *at, uint64_t n, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--) {
		*at++ = (char)(n >> (8 * i));
	}
	return at;
}

static char *put(char *at, amqp_bytes_t b)
{
	if (b.len) {
		memcpy(at, b.bytes, b.len);
	}
	return at + b.len;
}

static char *put_entry(char *at, const amqp_table_entry_t *t)
{
	int64_t n;
	at = put_number(at, t->key.len, 1);
	at = put(at, t->key);
	if (wire_number(&t->value, &n)) {
		*at++ = 'n';
		return put_number(at, (uint64_t)n, 8);
	}
	*at++ = 't';
	at = put_number(at, t->value.value.bytes.len, 4);
	return put(at, t->value.value.bytes);
}

void wire_pack(const struct wire_out *o, char *ret)
{
	const amqp_basic_properties_t *p = &o->props;
	amqp_bytes_t id = property(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id);
	amqp_bytes_t type = property(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type);
	char *at = put_number(ret, wire_pack_size(o) - 4, 4), *count = at++;
	int n = 0;
	at = put_number(at, id.len, 1);
	at = put(at, id);
	at = put_number(at, type.len, 1);
	at = put(at, type);
	for (int i = 0; i < p->headers.num_entries; i++) {
		if (!is_shared(&p->headers.entries[i])) {
			at = put_entry(at, &p->headers.entries[i]);
			n++;
		}
	}
	put_number(count, (uint64_t)n, 1);
	put(at, o->body);
}

static amqp_table_entry_t text_entry(const char *name, struct chatd_str value)
{
	amqp_table_entry_t t = { .key = amqp_cstring_bytes(name) };
	t.value.kind = AMQP_FIELD_KIND_UTF8;
	t.value.value.bytes = wire_bytes(value);
	return t;
}

static amqp_table_entry_t version_entry(int32_t version)
{
	amqp_table_entry_t t = { .key = amqp_cstring_bytes("chatd-v") };
	t.value.kind = AMQP_FIELD_KIND_I32;
	t.value.value.i32 = version;
	return t;
}

void wire_batch(struct wire_batch *b, const struct wire_sender *s, const struct wire_out *one)
{
	const uint32_t same = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG |
			AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
	b->props = one->props;
	b->props._flags = (one->props._flags & same) | AMQP_BASIC_CONTENT_TYPE_FLAG;
	b->props.content_type = amqp_cstring_bytes("application/vnd.chatd.events");
	b->entries[0] = version_entry(WIRE_BATCH_VERSION);
	b->entries[1] = text_entry("chatd-from", s->node);
	b->entries[2] = text_entry("chatd-epoch", s->epoch);
	b->props.headers.entries = b->entries;
	b->props.headers.num_entries = 3;
}

/* ---- in -------------------------------------------------------------------------------------- */

struct reader {
	const char *p;
	size_t left;
	int bad;
};

static uint64_t get_number(struct reader *r, size_t bytes)
{
	uint64_t n = 0;
	if (r->left < bytes) {
		r->bad = 1;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++) {
		n = n << 8 | (unsigned char)r->p[i];
	}
	r->p += bytes;
	r->left -= bytes;
	return n;
}

static amqp_bytes_t get(struct reader *r, size_t n)
{
	amqp_bytes_t b = { n, (void *)(uintptr_t)r->p };
	if (r->left < n) {
		r->bad = 1;
		return amqp_empty_bytes;
	}
	r->p += n;
	r->left -= n;
	return b;
}

static void get_entry(struct reader *r, amqp_table_entry_t *ret)
{
	ret->key = get(r, get_number(r, 1));
	uint64_t kind = get_number(r, 1);
	if (kind == 'n') {
		ret->value.kind = AMQP_FIELD_KIND_I64;
		ret->value.value.i64 = (int64_t)get_number(r, 8);
	} else {
		ret->value.kind = AMQP_FIELD_KIND_UTF8;
		ret->value.value.bytes = get(r, get_number(r, 4));
		r->bad |= kind != 't';
	}
}

/* As it would stand in a message of its own. */
static int get_event(struct reader *r, const struct wire_in *batch, amqp_basic_properties_t *p)
{
	amqp_table_entry_t *entries = p->headers.entries;
	size_t n = get_number(r, 1);
	p->_flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
	p->delivery_mode = batch->e.flags & CHATD_CLUSTER_EPHEMERAL ? 1 : 2;
	p->message_id = get(r, get_number(r, 1));
	p->_flags |= p->message_id.len ? AMQP_BASIC_MESSAGE_ID_FLAG : 0;
	p->content_type = get(r, get_number(r, 1));
	p->_flags |= p->content_type.len ? AMQP_BASIC_CONTENT_TYPE_FLAG : 0;
	if (n > ENTRIES - 3) {
		return 0;
	}
	for (size_t i = 0; i < n && !r->bad; i++) {
		get_entry(r, &entries[i]);
	}
	/* Last, so that they count whatever the event says. */
	entries[n] = version_entry(WIRE_VERSION);
	entries[n + 1] = text_entry("chatd-from", batch->e.from);
	entries[n + 2] = text_entry("chatd-epoch", batch->epoch);
	p->headers.num_entries = (int)n + 3;
	return !r->bad;
}

int wire_unpack(const struct wire_in *batch, size_t *at, struct wire_in **ret, const char **ret_why)
{
	amqp_table_entry_t entries[ENTRIES];
	amqp_basic_properties_t p = { .headers = { .entries = entries } };
	struct reader all = { batch->body + *at, batch->e.body.n - *at, 0 };
	*ret = NULL;
	if (!all.left) {
		return 0;
	}
	amqp_bytes_t whole = get(&all, get_number(&all, 4));
	struct reader r = { whole.bytes, whole.len, 0 };
	*ret_why = "several events in one message, and one of them is cut off";
	if (all.bad || !get_event(&r, batch, &p)) {
		return -EBADMSG;
	}
	const struct wire_source from = { .body_size = r.left };
	if (wire_decode(&p, &from, ret, ret_why) != WIRE_OK) {
		free(*ret);
		*ret = NULL;
		return -EBADMSG;
	}
	if (!*ret) {
		return -ENOMEM;
	}
	if (r.left) {
		memcpy((*ret)->body, r.p, r.left);
	}
	*at = batch->e.body.n - all.left;
	return 1;
}

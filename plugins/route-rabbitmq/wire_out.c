/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_name(struct chatd_str s, const char *more, size_t max)
{
	if (!s.p || s.n == 0 || s.n > max) {
		return 0;
	}
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
					(c && strchr(more, c)))) {
			return 0;
		}
	}
	return 1;
}

static const char capitals[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";

int wire_is_id(struct chatd_str s)
{
	return is_name(s, capitals, 64);
}

int wire_is_node(struct chatd_str s)
{
	return is_name(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.", 64);
}

void wire_sha(struct chatd_str s, char ret[17])
{
	unsigned char md[SHA256_DIGEST_LENGTH];
	SHA256((const unsigned char *)(s.p ? s.p : ""), s.n, md);
	for (int i = 0; i < 8; i++) {
		ret[2 * i] = "0123456789abcdef"[md[i] >> 4];
		ret[2 * i + 1] = "0123456789abcdef"[md[i] & 15];
	}
	ret[16] = '\0';
}

void wire_node_key(struct chatd_str node, char ret[WIRE_RKEY])
{
	snprintf(ret, WIRE_RKEY, "chat.%.*s", (int)node.n, node.p);
}

void wire_topic_key(struct chatd_str dest, char ret[WIRE_RKEY])
{
	static const char room[] = "/topic/room/";
	size_t n = sizeof(room) - 1;
	if (dest.n > n && memcmp(dest.p, room, n) == 0) {
		struct chatd_str id = chatd_str_of(dest.p + n, dest.n - n);
		if (wire_is_id(id)) {
			snprintf(ret, WIRE_RKEY, "chat.room.%.*s", (int)id.n, id.p);
			return;
		}
	}
	char hex[17];
	wire_sha(dest, hex);
	snprintf(ret, WIRE_RKEY, "chat.topic.%s", hex);
}

/* ---- lines ------------------------------------------------------------------------ */

static void line_char(struct wire_lines *l, char c)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		char *p = realloc(l->p, cap);
		if (!p) {
			l->failed = 1;
			return;
		}
		l->p = p;
		l->cap = cap;
	}
	l->p[l->n++] = c;
}

static void line_text(struct wire_lines *l, struct chatd_str s)
{
	for (size_t i = 0; i < s.n && !l->failed; i++) {
		char c = s.p[i];
		char escaped = c == '\\' ? '\\' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == ':' ? 'c' : 0;
		if (escaped) {
			line_char(l, '\\');
		}
		line_char(l, escaped ? escaped : c);
	}
}

void wire_line_add(struct wire_lines *l, struct chatd_str name, struct chatd_str value)
{
	line_text(l, name);
	line_char(l, ':');
	line_text(l, value);
	line_char(l, '\n');
}

/* ---- events -------------------------------------------------------------------------- */

enum { OWN_HEADERS = 10 }; /* at most, see add_envelope() */

static const char *const whom[] = { NULL, "all", "node", "topic", "users" };

static const char *bad_users(const struct chatd_cluster_event *e)
{
	if (e->to == CHATD_CLUSTER_USERS && (e->n_users == 0 || e->n_users > WIRE_USERS)) {
		return "an event for users names 1 to 1000 of them";
	}
	for (size_t i = 0; i < e->n_users && e->to == CHATD_CLUSTER_USERS; i++) {
		if (!wire_is_id(e->users[i])) {
			return "a user id has letters, digits, - and _, at most 64";
		}
	}
	return NULL;
}

static const char *bad_headers(const struct chatd_cluster_event *e)
{
	if (e->n_headers > WIRE_HEADERS) {
		return "an event has at most 32 headers";
	}
	for (size_t i = 0; i < e->n_headers; i++) {
		struct chatd_str name = e->headers[i].name;
		if (!is_name(name, "", WIRE_NAME) || (name.n >= 6 && memcmp(name.p, "chatd-", 6) == 0)) {
			return "a header's name has a-z, 0-9 and -, at most 64, and does not begin with chatd-";
		}
	}
	return NULL;
}

static const char *bad_event(const struct chatd_cluster_event *e)
{
	if (e->to < CHATD_CLUSTER_ALL || e->to > CHATD_CLUSTER_USERS) {
		return "an event is for all nodes, one node, a topic or users";
	}
	if (!is_name(e->kind, ".", WIRE_KIND)) {
		return "a kind has a-z, 0-9, . and -, at most 32";
	}
	if (e->key.n > WIRE_KEY) {
		return "a key has at most 255 bytes";
	}
	if (e->to == CHATD_CLUSTER_NODE && !wire_is_node(e->node)) {
		return "a node's name has letters, digits, -, _ and ., at most 64";
	}
	if ((e->to == CHATD_CLUSTER_TOPIC && !e->topic.n) || e->topic.n > WIRE_TOPIC) {
		return "a topic has 1 to 4096 bytes";
	}
	if (e->body.n > WIRE_BODY) {
		return "a body has at most 1 MiB";
	}
	const char *bad = bad_users(e);
	return bad ? bad : bad_headers(e);
}

static size_t envelope_size(const struct chatd_cluster_event *e, const struct wire_sender *s)
{
	size_t n = e->kind.n + e->key.n + e->topic.n + s->node.n + s->epoch.n + s->message_id.n +
			s->content_type.n + s->lines.n;
	for (size_t i = 0; e->to == CHATD_CLUSTER_USERS && i < e->n_users; i++) {
		n += e->users[i].n + 1;
	}
	for (size_t i = 0; i < e->n_headers; i++) {
		n += e->headers[i].name.n + e->headers[i].value.n;
	}
	return n;
}

struct writer {
	struct wire_out *o;
	size_t at;
};

static amqp_bytes_t keep(struct writer *w, struct chatd_str s)
{
	amqp_bytes_t b = { s.n, w->o->text + w->at };
	if (s.n) {
		memcpy(b.bytes, s.p, s.n);
	}
	w->at += s.n;
	return b;
}

static amqp_table_entry_t *entry(struct writer *w, struct chatd_str name, uint8_t kind)
{
	amqp_table_entry_t *t = &w->o->entries[w->o->props.headers.num_entries++];
	t->key = wire_bytes(name);
	t->value.kind = kind;
	return t;
}

static void add(struct writer *w, struct chatd_str name, struct chatd_str value)
{
	if (value.p) {
		entry(w, name, AMQP_FIELD_KIND_UTF8)->value.value.bytes = keep(w, value);
	}
}

static void add_users(struct writer *w, const struct chatd_cluster_event *e)
{
	if (e->to != CHATD_CLUSTER_USERS) {
		return;
	}
	size_t begin = w->at;
	for (size_t i = 0; i < e->n_users; i++) {
		if (i) {
			keep(w, CHATD_LIT(","));
		}
		keep(w, e->users[i]);
	}
	entry(w, CHATD_LIT("chatd-users"), AMQP_FIELD_KIND_UTF8)->value.value.bytes =
			wire_bytes(chatd_str_of(w->o->text + begin, w->at - begin));
}

static void add_envelope(
		struct writer *w, const struct chatd_cluster_event *e, const struct wire_sender *s)
{
	const char *to = whom[e->to];
	entry(w, CHATD_LIT("chatd-v"), AMQP_FIELD_KIND_I32)->value.value.i32 = WIRE_VERSION;
	add(w, CHATD_LIT("chatd-kind"), e->kind);
	entry(w, CHATD_LIT("chatd-to"), AMQP_FIELD_KIND_UTF8)->value.value.bytes =
			wire_bytes(chatd_str_of(to, strlen(to)));
	add(w, CHATD_LIT("chatd-from"), s->node);
	add(w, CHATD_LIT("chatd-epoch"), s->epoch);
	entry(w, CHATD_LIT("chatd-n"), AMQP_FIELD_KIND_I64)->value.value.i64 = (int64_t)s->number;
	add(w, CHATD_LIT("chatd-key"), e->key);
	add(w, CHATD_LIT("chatd-topic"), e->topic);
	add_users(w, e);
	add(w, CHATD_LIT("chatd-headers"), s->lines);
	for (size_t i = 0; i < e->n_headers; i++) {
		amqp_bytes_t name = keep(w, e->headers[i].name);
		add(w, wire_str(name), e->headers[i].value);
	}
}

static void set_properties(
		struct writer *w, const struct chatd_cluster_event *e, const struct wire_sender *s)
{
	amqp_basic_properties_t *p = &w->o->props;
	p->_flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG |
			AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
	p->delivery_mode = e->flags & CHATD_CLUSTER_EPHEMERAL ? 1 : 2;
	if (e->flags & CHATD_CLUSTER_EPHEMERAL) {
		/* A node that is away has no use for it when it comes back. */
		p->_flags |= AMQP_BASIC_EXPIRATION_FLAG;
		p->expiration = wire_bytes(CHATD_LIT("5000"));
	}
	p->app_id = wire_bytes(CHATD_LIT("chatd"));
	/* Short strings there. */
	if (s->content_type.p && s->content_type.n < 256) {
		p->content_type = keep(w, s->content_type);
	} else {
		p->content_type = wire_bytes(CHATD_LIT("application/json"));
	}
	if (s->message_id.p && s->message_id.n < 256) {
		p->_flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
		p->message_id = keep(w, s->message_id);
	}
}

chatd_status wire_encode(const struct chatd_cluster_event *e, const struct wire_sender *s,
		struct wire_out **ret, const char **ret_why)
{
	const char *bad = bad_event(e);
	if (bad) {
		*ret_why = bad;
		return -EINVAL;
	}
	size_t n = envelope_size(e, s);
	if (n > WIRE_ENVELOPE) {
		*ret_why = "its users, headers and topic have more than 120 KiB together";
		return -E2BIG;
	}
	size_t room = sizeof(struct wire_out) +
			(OWN_HEADERS + e->n_headers + WIRE_SPARE) * sizeof(amqp_table_entry_t);
	size_t size = room + n + e->body.n;
	struct wire_out *o = malloc(size);
	if (!o) {
		*ret_why = "no memory";
		return -ENOMEM;
	}
	memset(o, 0, room);
	o->size = size;
	o->text = (char *)o + room;
	o->props.headers.entries = o->entries;
	struct writer w = { .o = o };
	add_envelope(&w, e, s);
	set_properties(&w, e, s);
	o->body = keep(&w, e->body);
	*ret = o;
	return 0;
}

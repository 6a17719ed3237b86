/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int wire_line_next(char **at, size_t *left, struct chatd_str *ret_name, struct chatd_str *ret_value)
{
	if (*left == 0) {
		return 0;
	}
	char *in = *at, *end = *at + *left, *out = *at, *colon = NULL;
	for (; in < end && *in != '\n'; in++) {
		if (*in == ':') {
			if (colon) {
				return -EINVAL;
			}
			colon = out;
			*out++ = ':';
			continue;
		}
		if (*in != '\\') {
			*out++ = *in;
			continue;
		}
		if (++in == end) {
			return -EINVAL;
		}
		char c = *in == 'n' ? '\n' : *in == 'r' ? '\r' : *in == 'c' ? ':' : *in == '\\' ? '\\' : 0;
		if (!c) {
			return -EINVAL;
		}
		*out++ = c;
	}
	if (in == end || !colon || colon == *at) {
		return -EINVAL;
	}
	*ret_name = chatd_str_of(*at, (size_t)(colon - *at));
	*ret_value = chatd_str_of(colon + 1, (size_t)(out - colon - 1));
	*left -= (size_t)(in + 1 - *at);
	*at = in + 1;
	return 1;
}

/* ---- the envelope, as it stands in the frame ---------------------------------------- */

struct envelope {
	int32_t version; /* -1: none; 0: not a number */
	int bad;
	struct chatd_str kind, to, from, epoch, key, topic, users, lines;
	int64_t number;
	struct chatd_cluster_header headers[WIRE_HEADERS];
	size_t n_headers;
};

static int str_is(struct chatd_str s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

int wire_number(const amqp_field_value_t *v, int64_t *ret)
{
	switch (v->kind) {
	case AMQP_FIELD_KIND_I8:
		*ret = v->value.i8;
		return 1;
	case AMQP_FIELD_KIND_U8:
		*ret = v->value.u8;
		return 1;
	case AMQP_FIELD_KIND_I16:
		*ret = v->value.i16;
		return 1;
	case AMQP_FIELD_KIND_U16:
		*ret = v->value.u16;
		return 1;
	case AMQP_FIELD_KIND_I32:
		*ret = v->value.i32;
		return 1;
	case AMQP_FIELD_KIND_U32:
		*ret = v->value.u32;
		return 1;
	case AMQP_FIELD_KIND_I64:
		*ret = v->value.i64;
		return 1;
	case AMQP_FIELD_KIND_U64:
		*ret = v->value.u64 <= INT64_MAX ? (int64_t)v->value.u64 : 0;
		return v->value.u64 <= INT64_MAX;
	default:
		return 0;
	}
}

static int64_t number_of(const amqp_field_value_t *v, int64_t otherwise)
{
	int64_t n;
	return wire_number(v, &n) ? n : otherwise;
}

static struct chatd_str text_of(struct envelope *env, const amqp_field_value_t *v)
{
	if (v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES) {
		/* Not NULL: an empty text is there. */
		return v->value.bytes.len ? wire_str(v->value.bytes) : CHATD_LIT("");
	}
	env->bad = 1;
	return chatd_str_of(NULL, 0);
}

static void read_own(struct envelope *env, struct chatd_str name, const amqp_field_value_t *v)
{
	static const struct {
		const char *name;
		size_t at;
	} texts[] = {
		{ "chatd-kind", offsetof(struct envelope, kind) },
		{ "chatd-to", offsetof(struct envelope, to) },
		{ "chatd-from", offsetof(struct envelope, from) },
		{ "chatd-epoch", offsetof(struct envelope, epoch) },
		{ "chatd-key", offsetof(struct envelope, key) },
		{ "chatd-topic", offsetof(struct envelope, topic) },
		{ "chatd-users", offsetof(struct envelope, users) },
		{ "chatd-headers", offsetof(struct envelope, lines) },
	};
	if (str_is(name, "chatd-v")) {
		int64_t n = number_of(v, 0);
		env->version = n > 0 && n < INT32_MAX ? (int32_t)n : 0;
		return;
	}
	if (str_is(name, "chatd-n")) {
		env->number = number_of(v, -1);
		return;
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (str_is(name, texts[i].name)) {
			struct chatd_str s = text_of(env, v);
			memcpy((char *)env + texts[i].at, &s, sizeof(s));
		}
	}
}

/* Names as a receiver may see them; what other programs add (x-death ...) is passed over. */
static int is_plain(struct chatd_str name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
			return 0;
		}
	}
	return name.n > 0 && name.n <= WIRE_NAME;
}

static void read_all(struct envelope *env, const amqp_basic_properties_t *p)
{
	memset(env, 0, offsetof(struct envelope, headers));
	env->n_headers = 0;
	env->version = -1;
	env->number = -1;
	if (!(p->_flags & AMQP_BASIC_HEADERS_FLAG)) {
		return;
	}
	for (int i = 0; i < p->headers.num_entries; i++) {
		const amqp_table_entry_t *t = &p->headers.entries[i];
		struct chatd_str name = wire_str(t->key);
		if (name.n >= 6 && memcmp(name.p, "chatd-", 6) == 0) {
			read_own(env, name, &t->value);
		} else if (is_plain(name) && env->n_headers < WIRE_HEADERS &&
				(t->value.kind == AMQP_FIELD_KIND_UTF8 || t->value.kind == AMQP_FIELD_KIND_BYTES)) {
			struct chatd_cluster_header h = { name, text_of(env, &t->value) };
			env->headers[env->n_headers++] = h;
		}
	}
}

static int to_whom(struct chatd_str s)
{
	static const char *const names[] = { "all", "node", "topic", "users" };
	for (int i = 0; i < 4; i++) {
		if (str_is(s, names[i])) {
			return CHATD_CLUSTER_ALL + i;
		}
	}
	return 0;
}

/* How many; -1: not a list of user ids. */
static int64_t count_users(struct chatd_str s)
{
	int64_t n = 0;
	for (size_t i = 0; s.p && i <= s.n; n++) {
		const char *comma = memchr(s.p + i, ',', s.n - i);
		size_t len = comma ? (size_t)(comma - s.p) - i : s.n - i;
		if (!wire_is_id(chatd_str_of(s.p + i, len)) || n == WIRE_USERS) {
			return -1;
		}
		i += len + 1;
	}
	return n;
}

static int is_kind(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.')) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= WIRE_KIND;
}

static int names_process(const struct envelope *env)
{
	return wire_is_node(env->from) && env->epoch.n > 0 && env->epoch.n <= WIRE_EPOCH;
}

static const char *what_is_bad(const struct envelope *env, int64_t users)
{
	int to = to_whom(env->to);
	if (env->bad) {
		return "a header of the envelope is no text";
	}
	if (!is_kind(env->kind)) {
		return "chatd-kind is no kind of event";
	}
	if (!names_process(env)) {
		return "chatd-from and chatd-epoch do not name a node's process";
	}
	if (env->number < 0) {
		return "chatd-n is no number";
	}
	if (env->key.n > WIRE_KEY || env->topic.n > WIRE_TOPIC || env->lines.n > WIRE_ENVELOPE) {
		return "its envelope is too long";
	}
	if (!to || users < 0 || (to == CHATD_CLUSTER_TOPIC && env->topic.n == 0) ||
			(to == CHATD_CLUSTER_USERS) != (users > 0)) {
		return "chatd-to, chatd-users and chatd-topic do not fit each other";
	}
	return NULL;
}

/* ---- a copy of its own ------------------------------------------------------------------ */

struct copier {
	char *at;
};

static struct chatd_str copy(struct copier *c, struct chatd_str s)
{
	if (!s.p) {
		return s;
	}
	char *p = c->at;
	if (s.n) {
		memcpy(p, s.p, s.n);
	}
	c->at += s.n;
	return chatd_str_of(p, s.n);
}

static size_t copy_size(const struct envelope *env, size_t users, uint64_t body)
{
	size_t n = env->kind.n + env->from.n + env->epoch.n + env->key.n + env->topic.n + env->users.n +
			env->lines.n + users * sizeof(struct chatd_str) + (size_t)body;
	for (size_t i = 0; i < env->n_headers; i++) {
		n += env->headers[i].name.n + env->headers[i].value.n + sizeof(env->headers[i]);
	}
	return n;
}

/* The array first, for its alignment; then the text that it points into. */
static void copy_users(struct copier *c, struct wire_in *in, struct chatd_str list, size_t n)
{
	struct chatd_str *users = (struct chatd_str *)(void *)c->at;
	c->at += n * sizeof(*users);
	struct chatd_str s = copy(c, list);
	in->e.users = users;
	in->e.n_users = n;
	for (size_t i = 0; i < n; i++) {
		const char *comma = memchr(s.p, ',', s.n);
		size_t len = comma ? (size_t)(comma - s.p) : s.n;
		users[i] = chatd_str_of(s.p, len);
		s = comma ? chatd_str_of(comma + 1, s.n - len - 1) : chatd_str_of(s.p + len, 0);
	}
}

static struct chatd_str property(
		const amqp_basic_properties_t *p, uint32_t flag, amqp_bytes_t value)
{
	return p->_flags & flag ? wire_str(value) : chatd_str_of(NULL, 0);
}

static struct wire_in *copy_all(
		const struct envelope *env, const amqp_basic_properties_t *p, size_t users, uint64_t body)
{
	struct chatd_str id = property(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id);
	struct chatd_str type = property(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type);
	struct wire_in *in = malloc(sizeof(*in) + copy_size(env, users, body) + id.n + type.n);
	if (!in) {
		return NULL;
	}
	memset(in, 0, sizeof(*in));
	struct copier c = { .at = (char *)(in + 1) };
	struct chatd_cluster_header *headers = (struct chatd_cluster_header *)(void *)c.at;
	c.at += env->n_headers * sizeof(*headers);
	in->e.struct_size = sizeof(in->e);
	if (users) {
		copy_users(&c, in, env->users, users);
	}
	for (size_t i = 0; i < env->n_headers; i++) {
		headers[i].name = copy(&c, env->headers[i].name);
		headers[i].value = copy(&c, env->headers[i].value);
	}
	in->e.headers = headers;
	in->e.n_headers = env->n_headers;
	in->e.kind = copy(&c, env->kind);
	in->e.key = copy(&c, env->key);
	in->e.topic = copy(&c, env->topic);
	in->e.from = copy(&c, env->from);
	in->epoch = copy(&c, env->epoch);
	in->lines = copy(&c, env->lines);
	in->message_id = copy(&c, id);
	in->content_type = copy(&c, type);
	in->body = c.at;
	in->e.body = chatd_str_of(c.at, (size_t)body);
	in->e.to = to_whom(env->to);
	in->e.flags = p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG && p->delivery_mode == 1
			? CHATD_CLUSTER_EPHEMERAL
			: 0;
	in->number = (uint64_t)env->number;
	return in;
}

/* A foreign program's message, as an event: for nobody but whoever receives that kind. */
static struct wire_in *foreign(const amqp_basic_properties_t *p, const struct wire_source *from)
{
	struct envelope env = { .kind = CHATD_LIT("foreign"), .to = CHATD_LIT("all") };
	char topic[WIRE_RKEY + 16];
	static const char room[] = "chat.room.";
	struct chatd_str key = from->routing_key;
	env.headers[0].name = CHATD_LIT("routing-key");
	env.headers[0].value = key;
	env.n_headers = 1;
	if (key.n > sizeof(room) - 1 && key.n < WIRE_RKEY && memcmp(key.p, room, 10) == 0) {
		memcpy(topic, "/topic/room/", 12);
		memcpy(topic + 12, key.p + 10, key.n - 10);
		env.topic = chatd_str_of(topic, 12 + key.n - 10);
		env.key = env.topic;
	}
	return copy_all(&env, p, 0, from->body_size);
}

/* What each event of it is, is seen when they are all here. */
static enum wire_verdict decode_batch(const struct envelope *env, const amqp_basic_properties_t *p,
		uint64_t body, struct wire_in **ret)
{
	const struct envelope head = { .from = env->from, .epoch = env->epoch };
	if (env->bad || !names_process(env)) {
		return WIRE_POISON;
	}
	*ret = copy_all(&head, p, 0, body);
	return *ret ? WIRE_BATCH : WIRE_OK;
}

enum wire_verdict wire_decode(const amqp_basic_properties_t *p, const struct wire_source *from,
		struct wire_in **ret, const char **ret_why)
{
	struct envelope env;
	*ret = NULL;
	*ret_why = "";
	if (from->body_size > WIRE_BODY) {
		*ret_why = "its body has more than 1 MiB";
		return WIRE_POISON;
	}
	read_all(&env, p);
	if (env.version < 0) {
		*ret = foreign(p, from);
		return WIRE_FOREIGN;
	}
	if (env.version == WIRE_BATCH_VERSION) {
		*ret_why = "chatd-from and chatd-epoch do not name a node's process";
		return decode_batch(&env, p, from->body_size, ret);
	}
	if (env.version != WIRE_VERSION) {
		*ret_why = "chatd-v is a version that this release does not know";
		return WIRE_UNKNOWN_VERSION;
	}
	int64_t users = count_users(env.users);
	const char *bad = what_is_bad(&env, users);
	if (bad) {
		*ret_why = bad;
		return WIRE_POISON;
	}
	*ret = copy_all(&env, p, (size_t)users, from->body_size);
	return WIRE_OK;
}

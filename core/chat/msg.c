/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/msg.h"

#include "base/id.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEADERS_INLINE = 6,
	ARENA_SPARE = 192, /* what the headers of an ordinary SEND need */
	ID_LEN = 36,
};

struct header {
	struct chatd_str name, value;
};

struct chunk {
	struct chunk *next;
	char data[];
};

struct chatd_msg {
	atomic_uint refs;
	uint32_t flags;
	char id[ID_LEN + 1];
	struct chatd_str dest, body;
	struct header *headers; /* inline_headers, or from malloc() */
	uint32_t n, cap;
	struct chunk *chunks; /* what did not fit into the arena */
	size_t used, room, extra;
	struct header inline_headers[HEADERS_INLINE];
	char arena[];
};

static char *arena_take(chatd_msg *m, size_t n)
{
	if (m->room - m->used >= n) {
		char *p = m->arena + m->used;
		m->used += n;
		return p;
	}
	struct chunk *c = malloc(sizeof(*c) + n);
	if (!c) {
		return NULL;
	}
	c->next = m->chunks;
	m->chunks = c;
	m->extra += n;
	return c->data;
}

static int keep(chatd_msg *m, struct chatd_str s, struct chatd_str *ret)
{
	char *p = arena_take(m, s.n ? s.n : 1);
	if (!p) {
		return -ENOMEM;
	}
	if (s.n) {
		memcpy(p, s.p, s.n);
	}
	*ret = chatd_str_of(p, s.n);
	return 0;
}

chatd_msg *msg_with_id(const char id[37], struct chatd_str dest, struct chatd_str body)
{
	size_t room = dest.n + body.n + 2 + ARENA_SPARE;
	chatd_msg *m = malloc(sizeof(*m) + room);
	if (!m) {
		return NULL;
	}
	atomic_init(&m->refs, 1);
	m->flags = 0;
	m->headers = m->inline_headers;
	m->n = 0;
	m->cap = HEADERS_INLINE;
	m->chunks = NULL;
	m->used = 0;
	m->room = room;
	m->extra = 0;
	memcpy(m->id, id, sizeof(m->id));
	/* Cannot fail: the arena was made for them. */
	(void)keep(m, dest, &m->dest);
	(void)keep(m, body, &m->body);
	return m;
}

chatd_msg *msg_new(struct chatd_str dest, struct chatd_str body)
{
	char id[ID_LEN + 1];
	id_new(id);
	return msg_with_id(id, dest, body);
}

chatd_msg *msg_ref(chatd_msg *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void msg_unref(chatd_msg *m)
{
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	while (m->chunks) {
		struct chunk *next = m->chunks->next;
		free(m->chunks);
		m->chunks = next;
	}
	if (m->headers != m->inline_headers) {
		free(m->headers);
	}
	free(m);
}

int msg_shared(const chatd_msg *m)
{
	return atomic_load_explicit(&m->refs, memory_order_acquire) > 1;
}

struct chatd_str msg_dest(const chatd_msg *m)
{
	return m->dest;
}

struct chatd_str msg_body(const chatd_msg *m)
{
	return m->body;
}

static struct header *find(const chatd_msg *m, const char *name, size_t n)
{
	for (uint32_t i = 0; i < m->n; i++) {
		if (m->headers[i].name.n == n && memcmp(m->headers[i].name.p, name, n) == 0) {
			return &m->headers[i];
		}
	}
	return NULL;
}

struct chatd_str msg_get(const chatd_msg *m, const char *header)
{
	const struct header *h = find(m, header, strlen(header));
	return h ? h->value : chatd_str_of(NULL, 0);
}

int32_t msg_header(
		const chatd_msg *m, size_t i, struct chatd_str *ret_name, struct chatd_str *ret_value)
{
	if (i >= m->n) {
		return 0;
	}
	*ret_name = m->headers[i].name;
	*ret_value = m->headers[i].value;
	return 1;
}

static int grow(chatd_msg *m)
{
	uint32_t cap = m->cap * 2;
	struct header *more = m->headers == m->inline_headers
			? malloc(cap * sizeof(*more))
			: realloc(m->headers, cap * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	if (m->headers == m->inline_headers) {
		memcpy(more, m->headers, m->n * sizeof(*more));
	}
	m->headers = more;
	m->cap = cap;
	return 0;
}

static int append(chatd_msg *m, struct chatd_str name, struct chatd_str value)
{
	struct header fresh;
	if (m->n == m->cap && grow(m) < 0) {
		return -ENOMEM;
	}
	if (keep(m, name, &fresh.name) < 0 || keep(m, value, &fresh.value) < 0) {
		return -ENOMEM;
	}
	m->headers[m->n++] = fresh;
	return 0;
}

chatd_status msg_set(chatd_msg *m, const char *header, struct chatd_str value)
{
	size_t len = strlen(header);
	struct header *h = find(m, header, len);
	if (!value.p) {
		if (h) {
			size_t i = (size_t)(h - m->headers);
			memmove(h, h + 1, (m->n - i - 1) * sizeof(*h));
			m->n--;
		}
		return 0;
	}
	if (h) {
		return keep(m, value, &h->value);
	}
	return append(m, chatd_str_of(header, len), value);
}

chatd_msg *msg_clone(const chatd_msg *from)
{
	chatd_msg *m = msg_with_id(from->id, from->dest, from->body);
	if (!m) {
		return NULL;
	}
	m->flags = from->flags;
	for (uint32_t i = 0; i < from->n; i++) {
		if (append(m, from->headers[i].name, from->headers[i].value) < 0) {
			msg_unref(m);
			return NULL;
		}
	}
	return m;
}

chatd_status msg_body_set(chatd_msg *m, struct chatd_str body)
{
	return keep(m, body, &m->body);
}

chatd_status msg_flags(chatd_msg *m, uint32_t flags)
{
	m->flags = flags;
	return 0;
}

uint32_t msg_flags_get(const chatd_msg *m)
{
	return m->flags;
}

struct chatd_str msg_id(const chatd_msg *m)
{
	return chatd_str_of(m->id, ID_LEN);
}

size_t msg_size(const chatd_msg *m)
{
	return sizeof(*m) + m->room + m->extra;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SETUP_BYTES = 24, ASK_BYTES = 40, NO_BODY = -1 };

struct head {
	uint32_t n;
	uint16_t type, version;
};

struct setup {
	uint32_t connections, host_connections, n_hosts, n_allow, texts, ca;
};

struct ask {
	uint64_t id;
	uint32_t flags, timeout, max_answer, method, url, headers, n_headers, body;
};

struct answer {
	uint64_t id;
	int32_t rc;
	uint32_t status, retry_after /* s */, type, why, body;
};

_Static_assert(sizeof(struct head) == WIRE_HEAD, "no holes");
_Static_assert(sizeof(struct setup) == SETUP_BYTES, "no holes");
_Static_assert(sizeof(struct ask) == ASK_BYTES, "no holes");
_Static_assert(sizeof(struct answer) == WIRE_ANSWER_BYTES, "no holes");

static void put(uint8_t **at, const void *p, size_t n)
{
	if (n) {
		memcpy(*at, p, n);
		*at += n;
	}
}

static void put_head(uint8_t **at, uint16_t type, size_t n)
{
	const struct head h = { .n = (uint32_t)n, .type = type, .version = WIRE_VERSION };
	put(at, &h, sizeof(h));
}

/* So many bytes of what is left; .p NULL: there are fewer. */
static struct chatd_str take(struct chatd_str *in, size_t n)
{
	if (n > in->n) {
		return (struct chatd_str){ NULL, 0 };
	}
	struct chatd_str got = { in->p, n };
	in->p += n;
	in->n -= n;
	return got;
}

/* Up to its zero byte, without it; .p NULL: it has none. */
static struct chatd_str take_text(struct chatd_str *in)
{
	const char *end = in->n ? memchr(in->p, '\0', in->n) : NULL;
	struct chatd_str got =
			end ? take(in, (size_t)(end - in->p) + 1) : (struct chatd_str){ NULL, 0 };
	got.n -= end ? 1 : 0;
	return got;
}

int wire_head(struct chatd_str in, uint16_t *ret_type, uint32_t *ret_n)
{
	struct head h;
	if (in.n < sizeof(h)) {
		return 0;
	}
	memcpy(&h, in.p, sizeof(h));
	if (h.version != WIRE_VERSION || h.type < WIRE_SETUP || h.type > WIRE_ANSWER) {
		return -EPROTO;
	}
	*ret_type = h.type;
	*ret_n = h.n;
	return 1;
}

/* ---- READY ----------------------------------------------------------------------------------- */

void wire_ready_make(uint32_t flaws, uint8_t ret[WIRE_HEAD + WIRE_READY_BYTES])
{
	put_head(&ret, WIRE_READY, sizeof(flaws));
	put(&ret, &flaws, sizeof(flaws));
}

chatd_status wire_ready_read(uint32_t *ret_flaws, struct chatd_str in)
{
	uint32_t flaws;
	if (in.n != sizeof(flaws)) {
		return -EPROTO;
	}
	memcpy(&flaws, in.p, sizeof(flaws));
	*ret_flaws = flaws;
	return flaws & ~(uint32_t)WIRE_FLAWS ? -EPROTO : 0;
}

/* ---- SETUP ----------------------------------------------------------------------------------- */

static size_t texts_of(const char *const *list, uint32_t *ret_n)
{
	size_t bytes = 0;
	for (*ret_n = 0; list[*ret_n]; ++*ret_n) {
		bytes += strlen(list[*ret_n]) + 1;
	}
	return bytes;
}

struct chatd_str wire_setup_make(uint32_t connections, uint32_t host_connections,
		const char *const *const lists[2], struct chatd_str ca)
{
	struct setup s = { .connections = connections, .host_connections = host_connections };
	size_t texts = texts_of(lists[0], &s.n_hosts);
	texts += texts_of(lists[1], &s.n_allow);
	s.texts = (uint32_t)texts;
	s.ca = (uint32_t)ca.n;
	size_t n = sizeof(s) + texts + ca.n;
	uint8_t *p = n <= WIRE_IN_MAX ? malloc(WIRE_HEAD + n) : NULL, *at = p;
	if (!p) {
		return (struct chatd_str){ NULL, 0 };
	}
	put_head(&at, WIRE_SETUP, n);
	put(&at, &s, sizeof(s));
	for (int i = 0; i < 2; i++) {
		for (size_t j = 0; lists[i][j]; j++) {
			put(&at, lists[i][j], strlen(lists[i][j]) + 1);
		}
	}
	put(&at, ca.p, ca.n);
	return chatd_str_of((char *)p, WIRE_HEAD + n);
}

static const char **read_list(struct chatd_str *texts, uint32_t n)
{
	const char **list = n <= texts->n ? calloc((size_t)n + 1, sizeof(*list)) : NULL;
	for (uint32_t i = 0; list && i < n; i++) {
		list[i] = take_text(texts).p;
		if (!list[i]) {
			free(list);
			return NULL;
		}
	}
	return list;
}

chatd_status wire_setup_read(struct wire_setup *ret, struct chatd_str in)
{
	struct setup s;
	struct chatd_str head = take(&in, sizeof(s));
	if (!head.p) {
		return -EPROTO;
	}
	memcpy(&s, head.p, sizeof(s));
	struct chatd_str texts = take(&in, s.texts);
	if (!texts.p || s.ca != in.n || s.ca > WIRE_CA_MAX || s.connections == 0 ||
			s.connections > 10000 || s.host_connections == 0 || s.host_connections > 10000) {
		return -EPROTO;
	}
	*ret = (struct wire_setup){ .connections = s.connections,
		.host_connections = s.host_connections,
		.hosts = read_list(&texts, s.n_hosts),
		.ca = in };
	ret->allow = ret->hosts ? read_list(&texts, s.n_allow) : NULL;
	if (ret->allow && texts.n == 0) {
		return 0;
	}
	free(ret->hosts);
	free(ret->allow);
	return -EPROTO;
}

/* ---- ASK ------------------------------------------------------------------------------------- */

struct chatd_str wire_ask_make(const struct wire_ask *q)
{
	struct ask a = { .id = q->id,
		.flags = q->flags,
		.timeout = q->timeout,
		.max_answer = q->max_answer,
		.method = (uint32_t)q->method.n,
		.url = (uint32_t)q->url.n,
		.n_headers = (uint32_t)q->n_headers,
		.body = q->body.p ? (uint32_t)q->body.n : (uint32_t)NO_BODY };
	for (size_t i = 0; i < q->n_headers; i++) {
		a.headers += (uint32_t)q->headers[i].n + 1;
	}
	size_t n = sizeof(a) + q->method.n + q->url.n + a.headers + (q->body.p ? q->body.n : 0);
	uint8_t *p = malloc(WIRE_HEAD + n), *at = p;
	if (!p) {
		return (struct chatd_str){ NULL, 0 };
	}
	put_head(&at, WIRE_ASK, n);
	put(&at, &a, sizeof(a));
	put(&at, q->method.p, q->method.n);
	put(&at, q->url.p, q->url.n);
	for (size_t i = 0; i < q->n_headers; i++) {
		put(&at, q->headers[i].p, q->headers[i].n);
		put(&at, "", 1);
	}
	put(&at, q->body.p, q->body.p ? q->body.n : 0);
	return chatd_str_of((char *)p, WIRE_HEAD + n);
}

static chatd_status read_headers(struct wire_ask *ret, struct chatd_str lines, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct chatd_str line = take_text(&lines);
		if (!line.p || line.n >= WIRE_HEADER_MAX) {
			return -EPROTO;
		}
		ret->headers[ret->n_headers++] = line;
	}
	return lines.n ? -EPROTO : 0;
}

chatd_status wire_ask_read(struct wire_ask *ret, struct chatd_str in)
{
	struct ask a;
	struct chatd_str head = take(&in, sizeof(a));
	if (!head.p) {
		return -EPROTO;
	}
	memcpy(&a, head.p, sizeof(a));
	*ret = (struct wire_ask){
		.id = a.id, .flags = a.flags, .timeout = a.timeout, .max_answer = a.max_answer
	};
	ret->method = take(&in, a.method);
	ret->url = take(&in, a.url);
	struct chatd_str lines = take(&in, a.headers);
	size_t body = a.body == (uint32_t)NO_BODY ? 0 : a.body;
	if (!ret->method.p || !ret->url.p || !lines.p || body != in.n || body > CHATD_FETCH_BODY_MAX ||
			a.n_headers > CHATD_FETCH_HEADERS_MAX || a.timeout == 0 || a.max_answer == 0 ||
			a.timeout > INT32_MAX || a.max_answer > WIRE_ANSWER_BODY_MAX) {
		return -EPROTO;
	}
	ret->body = a.body == (uint32_t)NO_BODY ? (struct chatd_str){ NULL, 0 } : in;
	return read_headers(ret, lines, a.n_headers);
}

/* ---- ANSWER ---------------------------------------------------------------------------------- */

void wire_answer_make(const struct wire_answer *w, uint8_t ret[WIRE_HEAD + WIRE_ANSWER_BYTES])
{
	const struct answer a = { .id = w->id,
		.rc = w->rc,
		.status = (uint32_t)w->status,
		.retry_after = (uint32_t)(w->retry_after / 1000),
		.type = w->n_type,
		.why = w->n_why,
		.body = w->n_body };
	put_head(&ret, WIRE_ANSWER, sizeof(a) + (size_t)w->n_type + w->n_why + w->n_body);
	put(&ret, &a, sizeof(a));
}

static int rc_ok(chatd_status rc)
{
	static const chatd_status all[] = { 0, -EACCES, -EINVAL, -EHOSTUNREACH, -ECONNREFUSED,
		-ETIMEDOUT, -EPROTO, -EMSGSIZE, -ENOMEM };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (rc == all[i]) {
			return 1;
		}
	}
	return 0;
}

chatd_status wire_answer_read(struct wire_answer *ret, struct chatd_str in, uint32_t n)
{
	struct answer a;
	if (in.n < sizeof(a)) {
		return -EPROTO;
	}
	memcpy(&a, in.p, sizeof(a));
	if (!rc_ok(a.rc) || a.status > 999 || a.retry_after > WIRE_RETRY_AFTER_MAX ||
			a.type > WIRE_TYPE_MAX || a.why > WIRE_WHY_MAX || a.body > WIRE_ANSWER_BODY_MAX ||
			n != sizeof(a) + a.type + a.why + a.body) {
		return -EPROTO;
	}
	*ret = (struct wire_answer){ .id = a.id,
		.rc = a.rc,
		.status = (int32_t)a.status,
		.retry_after = (int64_t)a.retry_after * 1000,
		.n_type = a.type,
		.n_why = a.why,
		.n_body = a.body };
	return 0;
}

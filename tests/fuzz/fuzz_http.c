/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an HTTP/1.1 connection: head, target, query, cookies, chunked body.  Cut in
 * pieces or whole, the same comes out.  The first octet chooses the limits, the second the
 * pieces.
 */
#include "uri.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;
	for (size_t i = 0; i < n; i++) {
		h = (h ^ s[i]) * UINT64_C(0x100000001b3);
	}
	return h;
}

static uint64_t mix_str(uint64_t h, struct chatd_str s)
{
	return mix(mix(h, &s.n, sizeof(s.n)), s.p, s.n);
}

static uint64_t mix_error(uint64_t h, const struct http_error *e)
{
	if (e->status < 400 || !e->code || !e->why) {
		abort(); /* refused without a word */
	}
	return mix(mix(h, &e->status, sizeof(e->status)), e->why, strlen(e->why));
}

/* What the target says; decoded text never grows and never holds a NUL. */
static uint64_t run_target(uint64_t h, const struct http_head *head, const struct http_info *info)
{
	struct uri u;
	struct http_error err = { 0 };
	if (uri_parse(http_head_target(head), info->host, false, &u, &err) != HTTP_DONE) {
		return mix_error(h, &err);
	}
	struct uri_path *path = malloc(sizeof(*path));
	char *text = malloc(u.path.n + 1), *value = malloc(u.query.n + 1);
	if (path && text && value) {
		uri_split(u.path, text, path);
		for (size_t i = 0; i < path->n; i++) {
			h = mix_str(h, path->segment[i]);
			if (!path->bad && memchr(path->segment[i].p, 0, path->segment[i].n)) {
				abort();
			}
		}
		struct chatd_str token = uri_query_get(u.query, "token");
		int64_t len = token.p ? uri_decode(token, true, value) : 0;
		if (len > (int64_t)token.n || (token.p && uri_query_ok(u.query) && len < 0)) {
			abort();
		}
		h = mix_str(h, token);
		h = mix_str(h, uri_cookie_get(http_head_get(head, "Cookie", NULL), "a"));
	}
	free(path);
	free(text);
	free(value);
	return h;
}

struct stream {
	const uint8_t *p;
	size_t n, step, at;
};

/* The next piece, in a block of its own; the parser says how much of it counts. */
static char *piece(struct stream *s, size_t *n)
{
	*n = s->n - s->at < s->step ? s->n - s->at : s->step;
	char *p = *n ? malloc(*n) : NULL;
	if (p) {
		memcpy(p, s->p + s->at, *n);
	}
	return p;
}

static uint64_t run_chunks(uint64_t h, struct stream *s)
{
	struct http_chunks c;
	enum http_parse rc = HTTP_MORE;
	size_t n, used;
	char *p;
	http_chunks_init(&c);
	while ((rc == HTTP_MORE || rc == HTTP_DATA) && (p = piece(s, &n))) {
		struct chatd_str d = { NULL, 0 };
		rc = http_chunks_feed(&c, p, n, &used, &d);
		if (used > n || (rc == HTTP_MORE && used != n)) {
			abort();
		}
		if (rc == HTTP_DATA) {
			h = mix(h, d.p, d.n);
		}
		s->at += used;
		free(p);
	}
	return rc == HTTP_WRONG ? mix_error(h, &c.err) : mix(h, rc == HTTP_DONE ? "." : "", 1);
}

static uint64_t run_head(const struct http_head *head, const struct http_info *info)
{
	struct chatd_str name, value;
	uint64_t h = mix_str(0, http_head_method(head));
	for (size_t i = 0; http_head_at(head, i, &name, &value); i++) {
		h = mix_str(mix_str(h, name), value);
	}
	h = mix(h, &info->length, sizeof(info->length));
	return run_target(h, head, info);
}

static uint64_t run(const struct http_limits *limits, struct stream s)
{
	struct http_head head;
	struct http_info info = { 0 };
	enum http_parse rc = HTTP_MORE;
	size_t n, used;
	uint64_t h;
	char *p;
	http_head_init(&head, limits);
	while (rc == HTTP_MORE && (p = piece(&s, &n))) {
		rc = http_head_feed(&head, p, n, &used);
		if (used > n || (rc == HTTP_MORE && used != n)) {
			abort();
		}
		s.at += used;
		free(p);
	}
	if (rc == HTTP_DONE) {
		rc = http_head_check(&head, &info);
	}
	h = rc == HTTP_WRONG ? mix_error(1, &head.err) : rc == HTTP_DONE ? run_head(&head, &info) : 2;
	int chunked = rc == HTTP_DONE && info.length < 0;
	http_head_finish(&head);
	return chunked ? run_chunks(h, &s) : h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct http_limits limits[] = {
		{ .line = 8192, .field = 8192, .fields = 100, .total = 65536 },
		{ .line = 40, .field = 30, .fields = 4, .total = 90 },
	};
	if (n < 3) {
		return 0;
	}
	struct stream s = { .p = data + 2, .n = n - 2, .step = n };
	uint64_t whole = run(&limits[data[0] & 1], s);
	s.step = 1 + data[1] % 32;
	if (run(&limits[data[0] & 1], s) != whole) {
		abort();
	}
	return 0;
}

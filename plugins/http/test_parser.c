/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: heads, chunked bodies, targets, routes, forwarded addresses.  Every
 * head is fed whole, cut in two at every octet, and octet by octet: all must agree. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"

static const struct http_limits limits = { 8192, 8192, 100, 16384 };

struct result {
	enum http_parse rc;
	struct http_error err;
	struct http_info info;
	size_t used;
	char host[64];
};

/* Feeds [0, cut), then the rest; cut 0: all at once; @p step 1: octet by octet. */
static struct result run(const char *p, size_t n, size_t cut, size_t step)
{
	struct http_head head;
	struct result r = { 0 };
	http_head_init(&head, &limits);
	while (r.used < n && r.rc == HTTP_MORE) {
		size_t piece = step ? step : (r.used < cut ? cut - r.used : n - r.used), used = 0;
		r.rc = http_head_feed(&head, p + r.used, piece, &used);
		r.used += used;
	}
	if (r.rc == HTTP_DONE)
		r.rc = http_head_check(&head, &r.info);
	if (r.rc == HTTP_DONE && r.info.host.p && r.info.host.n < sizeof(r.host))
		memcpy(r.host, r.info.host.p, r.info.host.n);
	r.info.host = chatd_str_of(NULL, 0);
	r.err = head.err;
	http_head_finish(&head);
	return r;
}

static void same(const struct result *a, const struct result *b)
{
	assert_int_equal(a->rc, b->rc);
	assert_int_equal(a->err.status, b->err.status);
	assert_ptr_equal(a->err.why, b->err.why);
	assert_int_equal(a->used, b->used);
	assert_memory_equal(&a->info, &b->info, sizeof(a->info));
	assert_string_equal(a->host, b->host);
}

static struct result feed(const char *p, size_t n)
{
	struct result whole = run(p, n, 0, 0), bytes = run(p, n, 0, 1);
	same(&whole, &bytes);
	for (size_t cut = 1; cut < n && n < 2000; cut++) {
		struct result halves = run(p, n, cut, 0);
		same(&whole, &halves);
	}
	return whole;
}

static void refuse_n(const char *p, size_t n, int status, const char *code)
{
	struct result r = feed(p, n);
	assert_int_equal(r.rc, HTTP_WRONG);
	assert_int_equal(r.err.status, status);
	assert_string_equal(r.err.code, code);
}

static void refuse(const char *text, int status, const char *code)
{
	refuse_n(text, strlen(text), status, code);
}

static struct http_info accept(const char *text)
{
	struct result r = feed(text, strlen(text));
	assert_int_equal(r.rc, HTTP_DONE);
	assert_int_equal(r.used, strlen(text));
	return r.info;
}

#define GET  "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

/* @p before, then @p n times 'x', then @p after. */
static char *padded(const char *before, size_t n, const char *after, size_t *ret_n)
{
	size_t a = strlen(before), b = strlen(after);
	char *text = malloc(a + n + b + 1);
	assert_non_null(text);
	memcpy(text, before, a);
	memset(text + a, 'x', n);
	memcpy(text + a + n, after, b + 1);
	*ret_n = a + n + b;
	return text;
}

static void refuse_padded(
		const char *before, size_t n, const char *after, int status, const char *code)
{
	size_t size;
	char *text = padded(before, n, after, &size);
	refuse_n(text, size, status, code);
	free(text);
}

static void plain_requests_are_read(void **state)
{
	(void)state;
	struct http_info info = accept(GET "\r\n");
	assert_true(info.keep);
	assert_int_equal(info.length, 0);
	info = accept("\r\nGET / HTTP/1.1\r\nhOST:a \t\r\nConnection: x, CLOSE\r\n\r\n");
	assert_false(info.keep);
	assert_false(accept("GET / HTTP/1.0\r\n\r\n").keep);
	assert_true(accept("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep);
	assert_int_equal(accept(POST "Content-Length: 5\r\n\r\n").length, 5);
	assert_int_equal(accept(POST "Transfer-Encoding: Chunked\r\n\r\n").length, -1);
	assert_true(accept(POST "Expect: 100-Continue\r\n\r\n").expect);
	assert_true(
			accept(GET "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n").upgrade);
	assert_false(accept(GET "Upgrade: websocket\r\n\r\n").upgrade);
	accept(GET "X: \xc3\xa4\tb\r\nEmpty:\r\n\r\n");
	accept("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n");
}

static void h001_noise_is_refused_at_its_first_octet(void **state)
{
	(void)state;
	static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
	static const char zeros[8192];
	refuse_n(hello, sizeof(hello), 400, "BAD_REQUEST");
	assert_int_equal(feed(hello, sizeof(hello)).used, 1);
	refuse_n(zeros, sizeof(zeros), 400, "BAD_REQUEST");
	refuse("GE\x80T", 400, "BAD_REQUEST");
	refuse_padded("", 8193, "", 414, "URI_TOO_LONG");
}

static void h002_h003_host_is_required_once_and_clean(void **state)
{
	(void)state;
	refuse("GET / HTTP/1.1\r\n\r\n", 400, "HOST_REQUIRED");
	refuse(GET "Host: a\r\n\r\n", 400, "HOST_INVALID");
	refuse(GET "Host: b\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost: a:70000\r\n\r\n", 400, "HOST_INVALID");
	refuse("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "HOST_INVALID");
}

static void h004_to_h006_lengths_are_unambiguous(void **state)
{
	(void)state;
	refuse(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "AMBIGUOUS_LENGTH");
	refuse(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "AMBIGUOUS_LENGTH");
	refuse(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, "AMBIGUOUS_LENGTH");
	refuse(POST "Content-Length: 5, 5\r\n\r\n", 400, "AMBIGUOUS_LENGTH");
	static const char *const bad[] = { "-1", "+5", "0x10", "5 5", "" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[128];
		snprintf(text, sizeof(text), POST "Content-Length: %s\r\n\r\n", bad[i]);
		refuse(text, 400, "BAD_LENGTH");
	}
	refuse(POST "Content-Length: 12345678901234567890\r\n\r\n", 413, "CONTENT_TOO_LARGE");
}

static void h007_only_chunked_is_a_coding(void **state)
{
	(void)state;
	static const char *const bad[] = { "identity", "xchunked", "chunked, chunked", "gzip, chunked",
		"\013chunked", "" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[128];
		snprintf(text, sizeof(text), POST "Transfer-Encoding: %s\r\n\r\n", bad[i]);
		refuse(text, 501, "BAD_TRANSFER_ENCODING");
	}
	refuse(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501,
			"BAD_TRANSFER_ENCODING");
	refuse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "BAD_TRANSFER_ENCODING");
}

static void h008_to_h010_sizes_are_limited(void **state)
{
	(void)state;
	/* "GET /" and " HTTP/1.1" are 14 octets */
	refuse_padded("GET /", 8193 - 14, " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI_TOO_LONG");
	refuse_padded("GET /", 1 << 20, " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI_TOO_LONG");
	size_t n;
	char *text = padded("GET /", 8192 - 14, " HTTP/1.1\r\nHost: a\r\n\r\n", &n);
	assert_int_equal(run(text, n, 0, 0).rc, HTTP_DONE);
	free(text);
	refuse_padded(GET "X: ", 8193 - 3, "\r\n\r\n", 431, "HEADERS_TOO_LARGE");
	text = padded(GET "X: ", 8192 - 3, "\r\n\r\n", &n);
	assert_int_equal(run(text, n, 0, 0).rc, HTTP_DONE);
	free(text);
}

static void h009_headers_are_limited_in_number_and_total(void **state)
{
	(void)state;
	char text[32768];
	for (int lines = 99; lines <= 100; lines++) {
		size_t n = (size_t)snprintf(text, sizeof(text), GET);
		for (int i = 0; i < lines; i++)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "X%d: y\r\n", i);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
		struct result r = run(text, n, 0, 1);
		assert_int_equal(r.rc, lines == 99 ? HTTP_DONE : HTTP_WRONG);
		assert_int_equal(r.err.status, lines == 99 ? 0 : 431);
	}
	/* "Host: a" is 9 octets with its end; two lines fill up to 16,384 and one more. */
	for (size_t over = 0; over <= 1; over++) {
		size_t last = 16384 - 9 - 8002 - 5 + over,
			   n = (size_t)snprintf(text, sizeof(text), GET "X: ");
		memset(text + n, 'x', 8002 - 5);
		n += 8002 - 5;
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\nY: ");
		memset(text + n, 'y', last > 8000 ? 8000 : last);
		n += last > 8000 ? 8000 : last;
		if (last > 8000) {
			n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\nZ: ");
			memset(text + n, 'z', last - 8000 - 5);
			n += last - 8000 - 5;
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n\r\n");
		struct result r = run(text, n, 0, 0);
		assert_int_equal(r.rc, over ? HTTP_WRONG : HTTP_DONE);
		assert_int_equal(r.err.status, over ? 431 : 0);
	}
}

static void h011_lines_end_in_cr_lf(void **state)
{
	(void)state;
	refuse("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "BAD_LINE_END");
	refuse("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "BAD_LINE_END");
	refuse("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "BAD_LINE_END");
	refuse("GET / HTTP/1.1\rHost: a\r\n\r\n", 400, "BAD_LINE_END");
	refuse("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "BAD_LINE_END");
	refuse("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400, "BAD_LINE_END");
	refuse(GET "\n", 400, "BAD_LINE_END");
	refuse(GET "\rX", 400, "BAD_LINE_END");
	refuse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_LINE_END");
}

static void h012_h013_header_names_are_tokens(void **state)
{
	(void)state;
	refuse(GET " folded\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET "\tfolded\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET "X : y\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET ": y\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET "X(: y\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET "X\xc3\xa4: y\r\n\r\n", 400, "BAD_HEADER");
	refuse(GET "Xy\r\n\r\n", 400, "BAD_HEADER");
}

static void h014_control_characters_are_refused(void **state)
{
	(void)state;
	for (int ch = 0; ch <= 0x7f; ch++) {
		char text[128];
		if (ch == '\t' || ch == '\n' || ch == '\r' || (ch >= 0x20 && ch < 0x7f))
			continue;
		int n = snprintf(text, sizeof(text), GET "X: a%cb\r\n\r\n", ch);
		refuse_n(text, (size_t)n, 400, "BAD_HEADER");
		n = snprintf(text, sizeof(text), "GET /%c HTTP/1.1\r\nHost: a\r\n\r\n", ch);
		refuse_n(text, (size_t)n, 400, "BAD_REQUEST");
	}
	refuse("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST");
}

static void h015_only_http_1_is_spoken(void **state)
{
	(void)state;
	refuse("GET /\r\n\r\n", 400, "BAD_REQUEST");
	refuse("GET / HTTP/9.9\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED");
	refuse("GET / HTTP/1.2\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED");
	refuse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED");
	refuse("GET / http/1.1\r\n\r\n", 400, "BAD_REQUEST");
	refuse("GET / HTTP/1.10\r\n\r\n", 400, "BAD_REQUEST");
	refuse("GET  / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST");
	refuse("GET / / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST");
}

static void expectations_other_than_100_are_refused(void **state)
{
	(void)state;
	refuse(POST "Expect: foo\r\n\r\n", 417, "EXPECTATION_FAILED");
}

/* ---- chunked bodies ------------------------------------------------------ */

struct chunked {
	enum http_parse rc;
	char text[64];
	size_t n, used;
};

static struct chunked unchunk(const char *p, size_t n, size_t step)
{
	struct http_chunks chunks;
	struct chunked r = { 0 };
	http_chunks_init(&chunks);
	while (r.used < n && (r.rc == HTTP_MORE || r.rc == HTTP_DATA)) {
		struct chatd_str data;
		size_t used = 0, piece = n - r.used < step ? n - r.used : step;
		r.rc = http_chunks_feed(&chunks, p + r.used, piece, &used, &data);
		r.used += used;
		if (r.rc == HTTP_DATA) {
			assert_true(r.n + data.n <= sizeof(r.text));
			memcpy(r.text + r.n, data.p, data.n);
			r.n += data.n;
		}
	}
	return r;
}

static void expect_chunks(const char *body, enum http_parse rc, const char *content)
{
	size_t n = strlen(body);
	for (size_t step = 1; step <= n; step++) {
		struct chunked r = unchunk(body, n, step);
		assert_int_equal(r.rc, rc);
		if (rc == HTTP_DONE) {
			assert_int_equal(r.n, strlen(content));
			assert_memory_equal(r.text, content, r.n);
		}
	}
}

static void chunks_are_joined(void **state)
{
	(void)state;
	expect_chunks("3\r\nabc\r\n0\r\n\r\n", HTTP_DONE, "abc");
	expect_chunks("1;x=y\r\na\r\n00A\r\n0123456789\r\n0\r\nX-T: y\r\nZ:\r\n\r\n", HTTP_DONE,
			"a0123456789");
	struct chunked r = unchunk("0\r\n\r\nGET", 8, 8);
	assert_int_equal(r.rc, HTTP_DONE);
	assert_int_equal(r.used, 5);
}

static void h020_bad_chunks_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "00000000000000001\r\n", "-1\r\n", "\r\n", " 1\r\n",
		"1 \r\n", "0x1\r\n", "g\r\n", "1\n", "1\r\nab", "1\r\na\n", "1\r\na\rb", "1;\x01\r\n",
		"0\r\n x: y\r\n", "0\r\nx\r\n", "0\r\nx: \x01\r\n", "0\r\n\rx", "1\rx" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_chunks(bad[i], HTTP_WRONG, "");
	size_t n;
	char *text = padded("1;", 1024, "\r\na\r\n0\r\n\r\n", &n);
	assert_int_equal(unchunk(text, n, n).rc, HTTP_WRONG);
	free(text);
	text = padded("0\r\nX: ", 16384, "\r\n\r\n", &n);
	assert_int_equal(unchunk(text, n, n).rc, HTTP_WRONG);
	free(text);
}

/* ---- targets ------------------------------------------------------------- */

static const char *target_code(const char *target, const char *host)
{
	struct uri uri;
	struct http_error err = { 0 };
	enum http_parse rc = uri_parse(chatd_str_of(target, strlen(target)),
			chatd_str_of(host, strlen(host)), false, &uri, &err);
	return rc == HTTP_DONE ? "" : err.code;
}

static void h019_targets_name_this_host(void **state)
{
	(void)state;
	assert_string_equal(target_code("/a?b", "x"), "");
	assert_string_equal(target_code("http://x/a", "x"), "");
	assert_string_equal(target_code("HTTP://X:80?q", "x:80"), "");
	assert_string_equal(target_code("http://y/a", "x"), "HOST_MISMATCH");
	assert_string_equal(target_code("http://x:81/a", "x"), "HOST_MISMATCH");
	assert_string_equal(target_code("http://u@x/a", "x"), "HOST_INVALID");
	assert_string_equal(target_code("x:80", "x:80"), "HOST_MISMATCH");
	assert_string_equal(target_code("//x/path", "x"), "HOST_MISMATCH");
	assert_string_equal(target_code("//etc", "x"), "");
	assert_string_equal(target_code("/a#b", "x"), "BAD_REQUEST");
}

static struct uri_path split(const char *path, char *text)
{
	struct uri_path r;
	uri_split(chatd_str_of(path, strlen(path)), text, &r);
	return r;
}

static void h017_paths_are_taken_as_they_are(void **state)
{
	(void)state;
	char text[2048], dots[1024] = "";
	static const char *const nowhere[] = { "/../etc/passwd", "/%2e%2e/", "/a/./b", ";/..", "/;/..",
		"/a/%2E" };
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		assert_true(split(nowhere[i], text).nowhere);
	for (size_t i = 0; i < 300; i++)
		memcpy(dots + 3 * i, "/..", 4);
	assert_true(split(dots, text).nowhere);
	assert_true(split("/static/%00.html", text).bad);
	assert_true(split("/%c0%ae%c0%ae/", text).bad);
	assert_true(split("/../%c0%ae", text).bad);
	assert_true(split("/%zz", text).bad);
	assert_true(split("/%4", text).bad);
	struct uri_path p = split("/a%2Fb/%c3%a4/", text);
	assert_int_equal(p.n, 3);
	assert_int_equal(p.segment[0].n, 3);
	assert_memory_equal(p.segment[0].p, "a/b", 3);
	assert_memory_equal(p.segment[1].p, "\xc3\xa4", 2);
	assert_int_equal(p.segment[2].n, 0);
	assert_false(p.bad || p.nowhere);
}

/* T07: whoever decides by the path sees what found the route, in one spelling. */
static void h107_a_path_has_one_spelling_for_the_hooks(void **state)
{
	(void)state;
	static const char *const same[][2] = {
		{ "/api/files", "/api/files" },
		{ "/api/%66iles", "/api/files" },
		{ "/%61%70%69/files", "/api/files" },
		{ "/api/files%2fx", "/api/files%2Fx" },
		{ "/api/files%2Fx", "/api/files%2Fx" },
		{ "/api//files/", "/api//files/" },
		{ "/API/a+b%20c", "/API/a%2Bb%20c" },
		{ "/\xc3\xa4%C3%A4", "/%C3%A4%C3%A4" },
		{ "/a.b_c~d-e", "/a.b_c~d-e" },
		{ "/", "/" },
	};
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		char text[64], joined[192];
		struct uri_path p = split(same[i][0], text);
		size_t n = uri_join(&p, joined);
		assert_int_equal(n, strlen(same[i][1]));
		assert_memory_equal(joined, same[i][1], n);
	}
}

static void queries_and_cookies_are_found(void **state)
{
	(void)state;
	struct chatd_str q = CHATD_LIT("a=1&ab=2+%41&flag&a=3");
	char text[64];
	struct chatd_str v = uri_query_get(q, "ab");
	assert_int_equal(uri_decode(v, true, text), 3);
	assert_memory_equal(text, "2 A", 3);
	assert_int_equal(uri_query_get(q, "a").p[0], '1');
	assert_int_equal(uri_query_get(q, "flag").n, 0);
	assert_non_null(uri_query_get(q, "flag").p);
	assert_null(uri_query_get(q, "b").p);
	assert_false(uri_query_ok(CHATD_LIT("a=%00")));
	assert_false(uri_query_ok(CHATD_LIT("a=%ff")));
	assert_true(uri_query_ok(CHATD_LIT("a=%f0%9f%98%80")));
	struct chatd_str c = CHATD_LIT("xa=0; a=\"q\"; b=c ");
	assert_int_equal(uri_cookie_get(c, "a").n, 1);
	assert_int_equal(uri_cookie_get(c, "a").p[0], 'q');
	assert_int_equal(uri_cookie_get(c, "b").n, 1);
	assert_null(uri_cookie_get(c, "x").p);
}

/* ---- routes -------------------------------------------------------------- */

static void on_nothing(void *arg, chatd_req *req)
{
	(void)arg;
	(void)req;
}

static const struct route_owners everybody;

static chatd_status add(struct routes *t, uint32_t methods, const char *path, char mark)
{
	const struct chatd_route r = { .struct_size = sizeof(r),
		.methods = methods,
		.path = path,
		.handle = on_nothing,
		.arg = (void *)(uintptr_t)mark };
	return routes_add(t, NULL, &r);
}

static struct route_match find(struct routes *t, uint32_t method, const char *path)
{
	static char text[2048];
	struct uri_path p = split(path, text);
	struct route_match m;
	routes_find(t, &p, method, &m);
	return m;
}

static char found(struct routes *t, const char *path)
{
	struct route_match m = find(t, CHATD_GET, path);
	return m.route ? (char)(uintptr_t)m.route->r.arg : m.allow ? '5' : '4';
}

static void routes_prefer_literals(void **state)
{
	(void)state;
	struct routes *t = routes_create(&everybody);
	assert_int_equal(add(t, CHATD_GET, "/{rest*}", 'w'), 0);
	assert_int_equal(add(t, CHATD_GET, "/api/rooms", 'r'), 0);
	assert_int_equal(add(t, CHATD_POST, "/api/rooms", 'R'), 0);
	assert_int_equal(add(t, CHATD_POST, "/api/login", 'l'), 0);
	assert_int_equal(add(t, CHATD_GET, "/api/rooms/{id}", 'i'), 0);
	assert_int_equal(add(t, CHATD_GET, "/api/rooms/preset", 'p'), 0);
	assert_int_equal(add(t, CHATD_GET, "/api/rooms/{room}/members/{user}", 'm'), 0);
	assert_int_equal(add(t, CHATD_GET, "/s/{server}/{session}/xhr", 'x'), 0);
	assert_int_equal(add(t, CHATD_GET, "/s/{rest*}", 's'), 0);
	assert_int_equal(add(t, CHATD_GET | CHATD_PUT, "/api/rooms", 'z'), -EEXIST);
	assert_int_equal(add(t, CHATD_GET, "api", 'z'), -EINVAL);
	assert_int_equal(add(t, CHATD_GET, "/a/{rest*}/b", 'z'), -EINVAL);
	assert_int_equal(add(t, CHATD_GET, "/a/x{id}", 'z'), -EINVAL);
	assert_int_equal(add(t, CHATD_GET, "/a/{}", 'z'), -EINVAL);
	assert_int_equal(found(t, "/"), 'w');
	assert_int_equal(found(t, "/js/main.js"), 'w');
	assert_int_equal(found(t, "/api/unknown"), '4');
	assert_int_equal(found(t, "/api/rooms"), 'r');
	assert_int_equal(found(t, "/api/rooms/"), '4');
	assert_int_equal(found(t, "/api/login"), '5');
	assert_int_equal(find(t, CHATD_GET, "/api/login").allow, CHATD_POST);
	assert_int_equal(find(t, CHATD_DELETE, "/api/rooms").allow, CHATD_GET | CHATD_POST);
	assert_int_equal(find(t, CHATD_POST, "/api/unknown").allow, 0);
	assert_int_equal(found(t, "/api/rooms/42"), 'i');
	assert_int_equal(found(t, "/api/rooms/preset"), 'p');
	assert_int_equal(found(t, "/api/rooms/preset/members/me"), 'm');
	assert_int_equal(found(t, "/s/1/2/xhr"), 'x');
	assert_int_equal(found(t, "/s/1/2/other"), 's');
	assert_int_equal(found(t, "/s/"), 's');
	assert_int_equal(found(t, "/s//2/xhr"), 's');
	assert_int_equal(found(t, "/../api/rooms"), '4');
	routes_destroy(t);
}

/* ---- forwarded addresses ------------------------------------------------- */

static bool trusts_ten(void *arg, struct chatd_str address)
{
	(void)arg;
	return address.n > 3 && memcmp(address.p, "10.", 3) == 0;
}

static const char *client(const char *name, const char *lines)
{
	static char text[46];
	char head_text[8192];
	const struct forward f = { trusts_ten, NULL };
	struct http_head head;
	size_t used;
	int n = snprintf(head_text, sizeof(head_text), GET "%s\r\n\r\n", lines);
	http_head_init(&head, &limits);
	assert_int_equal(http_head_feed(&head, head_text, (size_t)n, &used), HTTP_DONE);
	bool ok = forward_client(&head, name, &f, text);
	http_head_finish(&head);
	return ok ? text : "none";
}

static void h033_the_rightmost_untrusted_hop_counts(void **state)
{
	(void)state;
	const char *xff = "x-forwarded-for";
	assert_string_equal(client(xff, "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1"), "1.2.3.4");
	assert_string_equal(
			client(xff, "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4"), "1.2.3.4");
	assert_string_equal(client(xff, "X-Forwarded-For: 10.0.0.2, 10.0.0.1"), "10.0.0.2");
	assert_string_equal(client(xff, "X-Forwarded-For: 1.2.3.4:80"), "1.2.3.4");
	assert_string_equal(client(xff, "X-Forwarded-For: [::1]"), "::1");
	assert_string_equal(client(xff, "X-Forwarded-For: [2001:DB8::1]:443"), "2001:db8::1");
	assert_string_equal(client(xff, "X-Forwarded-For: ::ffff:1.2.3.4"), "1.2.3.4");
	static const char *const bad[] = { "", ",", "unknown", "1.2.3.4:x", "[::1", "1.2.3", "1.2.3.4,",
		"1.2.3.4, unknown, 10.0.0.1" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char line[128];
		snprintf(line, sizeof(line), "X-Forwarded-For: %s", bad[i]);
		assert_string_equal(client(xff, line), "none");
	}
	assert_string_equal(
			client("forwarded",
					"Forwarded: for=6.6.6.6, For=\"[::2]:1\";proto=https, for=10.0.0.1"),
			"::2");
	assert_string_equal(client("forwarded", "Forwarded: for=_hidden"), "none");
	assert_string_equal(client("forwarded", "Forwarded: proto=http"), "none");
	char hops[4096] = "X-Forwarded-For: 10.0.0.1";
	for (size_t n = strlen(hops), i = 0; i < 400; i++)
		n += (size_t)snprintf(hops + n, sizeof(hops) - n, ",10.1.1");
	assert_string_equal(client(xff, hops), "none");
}

static void settings_are_checked(void **state)
{
	(void)state;
	assert_true(policy_origin_ok("*"));
	assert_true(policy_origin_ok("https://app.example.com:8443"));
	assert_true(policy_origin_ok("http://[::1]:3000"));
	assert_false(policy_origin_ok("https://App.example.com"));
	assert_false(policy_origin_ok("https://example.com/"));
	assert_false(policy_origin_ok("example.com"));
	assert_false(policy_origin_ok("https://u@example.com"));
	assert_true(policy_net_ok("10.0.0.0/8"));
	assert_true(policy_net_ok("::1"));
	assert_false(policy_net_ok("10.0.0.0/33"));
	assert_false(policy_net_ok("10.0.0.0/"));
	assert_false(policy_net_ok("proxy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_requests_are_read),
		cmocka_unit_test(h001_noise_is_refused_at_its_first_octet),
		cmocka_unit_test(h002_h003_host_is_required_once_and_clean),
		cmocka_unit_test(h004_to_h006_lengths_are_unambiguous),
		cmocka_unit_test(h007_only_chunked_is_a_coding),
		cmocka_unit_test(h008_to_h010_sizes_are_limited),
		cmocka_unit_test(h009_headers_are_limited_in_number_and_total),
		cmocka_unit_test(h011_lines_end_in_cr_lf),
		cmocka_unit_test(h012_h013_header_names_are_tokens),
		cmocka_unit_test(h014_control_characters_are_refused),
		cmocka_unit_test(h015_only_http_1_is_spoken),
		cmocka_unit_test(expectations_other_than_100_are_refused),
		cmocka_unit_test(chunks_are_joined),
		cmocka_unit_test(h020_bad_chunks_are_refused),
		cmocka_unit_test(h019_targets_name_this_host),
		cmocka_unit_test(h017_paths_are_taken_as_they_are),
		cmocka_unit_test(h107_a_path_has_one_spelling_for_the_hooks),
		cmocka_unit_test(queries_and_cookies_are_found),
		cmocka_unit_test(routes_prefer_literals),
		cmocka_unit_test(h033_the_rightmost_untrusted_hop_counts),
		cmocka_unit_test(settings_are_checked),
	};
	return cmocka_run_group_tests_name("http-parser", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "escape.h"
#include "frames.h"
#include "inbox.h"
#include "urls.h"
#include "utf8.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state)

/* ---- escaping ---------------------------------------------------------- */

static void check_escape(const char *in, size_t n, unsigned flags, const char *want)
{
	size_t size = escape_size(in, n, flags);
	char *out = malloc(size + 1);
	assert_non_null(out);
	assert_ptr_equal(escape_put(out, in, n, flags), out + size);
	out[size] = 0;
	assert_string_equal(out, want);
	free(out);
}

TEST(plain_text_is_left_alone)
{
	(void)state;
	check_escape("abc </b> \x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", 22, 0,
			"abc </b> \x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	check_escape("", 0, 0, "");
}

TEST(control_characters_and_quotes_are_escaped)
{
	(void)state;
	check_escape("a\0b\x1f\"\\\b\f\n\r\t", 11, 0, "a\\u0000b\\u001f\\\"\\\\\\b\\f\\n\\r\\t");
}

TEST(ranges_that_browsers_mangle_are_escaped_in_lower_case)
{
	(void)state;
	static const uint32_t ranges[][2] = { { 0x200c, 0x200f }, { 0x2028, 0x202f },
		{ 0x2060, 0x206f }, { 0xfff0, 0xffff } };
	for (uint32_t cp = 0x800; cp <= 0xffff; cp++) {
		if (cp >= 0xd800 && cp <= 0xdfff)
			continue;
		int inside = 0;
		for (size_t i = 0; i < 4; i++)
			inside |= cp >= ranges[i][0] && cp <= ranges[i][1];
		char in[4] = { (char)(0xe0 | cp >> 12), (char)(0x80 | (cp >> 6 & 63)),
			(char)(0x80 | (cp & 63)), 0 };
		char want[8];
		snprintf(want, sizeof(want), "\\u%04x", (unsigned)cp);
		check_escape(in, 3, 0, inside ? want : in);
	}
}

TEST(bytes_that_are_not_utf8_become_replacement_characters)
{
	(void)state;
	check_escape("a\xff"
				 "b",
			3, 0, "a\\ufffdb");
	check_escape("\xed\xa0\x80", 3, 0, "\\ufffd\\ufffd\\ufffd"); /* a surrogate */
	check_escape("\xc0\xaf", 2, 0, "\\ufffd\\ufffd");            /* overlong */
	check_escape("x\xe2\x82", 3, 0, "x\\ufffd\\ufffd");          /* cut off */
	check_escape("\xf4\x90\x80\x80", 4, 0, "\\ufffd\\ufffd\\ufffd\\ufffd");
}

TEST(script_flag_escapes_the_tag_opener)
{
	(void)state;
	check_escape("</script>", 9, ESCAPE_SCRIPT, "\\u003c/script>");
}

/* ---- what clients send -------------------------------------------------- */

static struct inbox *parsed(const char *text, size_t n)
{
	struct inbox *in = NULL;
	assert_int_equal(inbox_parse(text, n, &in), 0);
	assert_non_null(in);
	return in;
}

static void check_item(const struct inbox *in, size_t i, const char *want, size_t n)
{
	assert_true(i < in->count);
	assert_int_equal(in->items[i].n, n);
	assert_memory_equal(in->items[i].p, want, n);
}

static void check_parse(const char *text, const char *want, size_t n)
{
	struct inbox *in = parsed(text, strlen(text));
	assert_int_equal(in->count, 1);
	check_item(in, 0, want, n);
	free(in);
}

TEST(arrays_of_strings_are_decoded)
{
	(void)state;
	struct inbox *in = parsed(" [\"a\" , \"\",\"\\u0000b\" ]\n", 23);
	assert_int_equal(in->count, 3);
	check_item(in, 0, "a", 1);
	check_item(in, 1, "", 0);
	check_item(in, 2, "\0b", 2);
	free(in);
	in = parsed("[]", 2);
	assert_int_equal(in->count, 0);
	free(in);
}

TEST(escapes_are_decoded)
{
	(void)state;
	check_parse("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]", "\"\\/\b\f\n\r\t", 8);
	check_parse("[\"\\u0041\\u00e4\\u20AC\"]", "A\xc3\xa4\xe2\x82\xac", 6);
	check_parse("[\"\\ud83d\\ude00\"]", "\xf0\x9f\x98\x80", 4);
	check_parse("[\"\xef\xbf\xbf\\uffff\"]", "\xef\xbf\xbf\xef\xbf\xbf", 6);
}

TEST(everything_else_is_refused)
{
	(void)state;
	static const char *const bad[] = { "", " ", "[", "[\"x", "[\"x\"", "[\"x\",", "[\"x\",]", "[,]",
		"\"x\"", "{}", "[1]", "[null]", "[[\"x\"]]", "[\"x\"]]", "[\"x\"] y", "[\"\\x\"]",
		"[\"\\u12\"]", "[\"\\u12g4\"]", "[\"\\ud83d\"]", "[\"\\ud83dx\"]", "[\"\\ude00\"]",
		"[\"\\ud83d\\ud83d\"]", "[\"\n\"]", "[\"\xff\"]", "[\"\xed\xa0\x80\"]", "[\"\xe2\x82\"]",
		"[\"a\" \"b\"]", "['a']", "[\"\\" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct inbox *in = NULL;
		int rc = inbox_parse(bad[i], strlen(bad[i]), &in);
		if (rc != -EBADMSG)
			fail_msg("%s: %d", bad[i], rc);
		assert_null(in);
	}
}

TEST(too_many_strings_are_refused_as_such)
{
	(void)state;
	for (size_t count = INBOX_MAX; count <= INBOX_MAX + 1; count++) {
		char *text = malloc(3 * count + 2), *at = text;
		assert_non_null(text);
		*at++ = '[';
		for (size_t i = 0; i < count; i++, at += 3)
			memcpy(at, "\"\",", 3);
		at[-1] = ']';
		struct inbox *in = NULL;
		assert_int_equal(
				inbox_parse(text, (size_t)(at - text), &in), count > INBOX_MAX ? -E2BIG : 0);
		free(in);
		free(text);
	}
}

TEST(what_is_escaped_comes_back)
{
	(void)state;
	for (uint32_t cp = 0; cp < 0x11000; cp++) {
		if (cp >= 0xd800 && cp <= 0xdfff)
			continue;
		char in[4], text[16] = "[\"";
		size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
		for (size_t i = n; i-- > 1;)
			in[i] = (char)(0x80 | (cp >> (6 * (n - 1 - i)) & 63));
		in[0] = n == 1   ? (char)cp
				: n == 2 ? (char)(0xc0 | cp >> 6)
				: n == 3 ? (char)(0xe0 | cp >> 12)
						 : (char)(0xf0 | cp >> 18);
		char *end = escape_put(text + 2, in, n, 0);
		memcpy(end, "\"]", 3);
		check_parse(text, in, n);
	}
}

/* ---- URLs --------------------------------------------------------------- */

static enum url_kind kind_of(const char *rest, struct exch_target *t)
{
	memset(t, 0, sizeof(*t));
	return urls_parse(chatd_str_of(rest, strlen(rest)), t);
}

TEST(urls_are_told_apart)
{
	(void)state;
	struct exch_target t;
	static const struct {
		const char *rest;
		enum url_kind kind;
	} cases[] = { { "", URL_GREETING }, { "/", URL_GREETING }, { "/info", URL_INFO },
		{ "/websocket", URL_RAW }, { "/iframe.html", URL_IFRAME }, { "/iframe-.html", URL_IFRAME },
		{ "/iframe-0.1.2abc-dirty.2144.html", URL_IFRAME }, { "/iframe.htm", URL_NONE },
		{ "/iframe", URL_NONE }, { "/IFRAME.HTML", URL_NONE }, { "/iframe.HTML", URL_NONE },
		{ "/iframe-/.html", URL_NONE }, { "/iframe%2e.html", URL_NONE }, { "/a", URL_NONE },
		{ "/a.html", URL_NONE }, { "//", URL_NONE }, { "///", URL_NONE }, { "/a/a", URL_NONE },
		{ "/a/a/", URL_NONE }, { "/a/", URL_NONE }, { "x", URL_NONE }, { "/info/", URL_NONE },
		{ "/a/b/xhr", URL_SESSION }, { "/_/_/xhr_send", URL_SESSION },
		{ "/abcdefgh_i-j%20/abcdefg_i-j%20/xhr", URL_SESSION }, { "/a/b/nothing", URL_NONE },
		{ "/a/b/xhr/", URL_NONE }, { "/a/b/c/xhr", URL_NONE }, { "/a./a/xhr", URL_NONE },
		{ "/a/a./xhr", URL_NONE }, { "/./././xhr", URL_NONE }, { "//a/xhr", URL_NONE },
		{ "/a//xhr", URL_NONE }, { "///xhr", URL_NONE }, { "/a/%2E/xhr", URL_NONE },
		{ "/a/b%2Fc/xhr", URL_NONE }, { "/a/b%00/xhr", URL_NONE }, { "/a/b%zz/xhr", URL_NONE },
		{ "/a/b%2/xhr", URL_NONE }, { "/a/\xc3\xa4%c3%a4/xhr", URL_SESSION },
		{ "/a/b/XHR", URL_NONE }, { "/1/2/3/4/5/6/7/8/9/xhr", URL_NONE } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (kind_of(cases[i].rest, &t) != cases[i].kind)
			fail_msg("%s", cases[i].rest);
	}
}

TEST(session_ids_are_decoded_and_limited)
{
	(void)state;
	struct exch_target t;
	assert_int_equal(kind_of("/000/a%20b/eventsource", &t), URL_SESSION);
	assert_int_equal(t.id_len, 3);
	assert_memory_equal(t.id, "a b", 3);
	assert_int_equal(t.transport->id, EVENTSOURCE);
	char rest[2 * SOCKJS_ID_MAX];
	memset(rest, 'i', sizeof(rest));
	memcpy(rest, "/0/", 3);
	memcpy(rest + 3 + SOCKJS_ID_MAX, "/xhr", 5);
	assert_int_equal(kind_of(rest, &t), URL_SESSION);
	memcpy(rest + 3 + SOCKJS_ID_MAX, "i/xhr", 6);
	assert_int_equal(kind_of(rest, &t), URL_NONE);
}

TEST(callbacks_can_hold_no_script)
{
	(void)state;
	static const char *const bad[] = { "", " ", "*", "abc(", "a;b", "</script>", "alert(1)//",
		"a\n" };
	assert_true(frames_callback_ok(CHATD_LIT("_jp.a-B_9")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(frames_callback_ok(chatd_str_of(bad[i], strlen(bad[i]))));
	char longest[SOCKJS_CALLBACK_MAX + 1];
	memset(longest, 'a', sizeof(longest));
	assert_true(frames_callback_ok(chatd_str_of(longest, SOCKJS_CALLBACK_MAX)));
	assert_false(frames_callback_ok(chatd_str_of(longest, SOCKJS_CALLBACK_MAX + 1)));
}

/* ---- frames: the few functions of the host that they need ---------------- */

struct chatd_buf {
	size_t n;
	char p[];
};

static chatd_buf *buf_new(size_t room, size_t n)
{
	(void)room;
	chatd_buf *buf = malloc(sizeof(*buf) + n);
	if (buf)
		buf->n = n;
	return buf;
}

static char *buf_data(chatd_buf *buf)
{
	return buf->p;
}

static const struct chatd_host host = {
	.struct_size = sizeof(host),
	.buf_new = buf_new,
	.buf_data = buf_data,
};

static void check_buf(chatd_buf *buf, const char *want)
{
	assert_non_null(buf);
	assert_int_equal(buf->n, strlen(want));
	assert_memory_equal(buf->p, want, buf->n);
	free(buf);
}

static const struct transport *transport(const char *name)
{
	const struct transport *t = frames_transport(chatd_str_of(name, strlen(name)));
	assert_non_null(t);
	return t;
}

TEST(each_transport_dresses_a_frame_its_way)
{
	(void)state;
	const struct chatd_str parts[] = { CHATD_LIT("a["), CHATD_LIT("\"x<\\n\""), CHATD_LIT("]") };
	static const struct {
		const char *name, *want;
	} cases[] = { { "xhr", "a[\"x<\\n\"]\n" }, { "xhr_streaming", "a[\"x<\\n\"]\n" },
		{ "eventsource", "data: a[\"x<\\n\"]\r\n\r\n" },
		{ "htmlfile", "<script>\np(\"a[\\\"x\\u003c\\\\n\\\"]\");\n</script>\r\n" },
		{ "jsonp", "/**/cb(\"a[\\\"x\\u003c\\\\n\\\"]\");\r\n" } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		check_buf(frames_dress(&host, transport(cases[i].name), "cb", parts, 3), cases[i].want);
}

TEST(streams_begin_with_a_prelude)
{
	(void)state;
	chatd_buf *buf = frames_prelude(&host, transport("xhr_streaming"), "");
	assert_non_null(buf);
	assert_int_equal(buf->n, 2049);
	for (size_t i = 0; i < 2048; i++)
		assert_int_equal(buf->p[i], 'h');
	assert_int_equal(buf->p[2048], '\n');
	free(buf);
	check_buf(frames_prelude(&host, transport("eventsource"), ""), "\r\n");
	buf = frames_prelude(&host, transport("htmlfile"), "a.b");
	assert_non_null(buf);
	assert_true(buf->n > 1024);
	assert_non_null(memmem(buf->p, buf->n, "var c = parent.a.b;\n", 20));
	assert_memory_equal(buf->p, "<!doctype html>\n", 16);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_text_is_left_alone),
		cmocka_unit_test(control_characters_and_quotes_are_escaped),
		cmocka_unit_test(ranges_that_browsers_mangle_are_escaped_in_lower_case),
		cmocka_unit_test(bytes_that_are_not_utf8_become_replacement_characters),
		cmocka_unit_test(script_flag_escapes_the_tag_opener),
		cmocka_unit_test(arrays_of_strings_are_decoded),
		cmocka_unit_test(escapes_are_decoded),
		cmocka_unit_test(everything_else_is_refused),
		cmocka_unit_test(too_many_strings_are_refused_as_such),
		cmocka_unit_test(what_is_escaped_comes_back),
		cmocka_unit_test(urls_are_told_apart),
		cmocka_unit_test(session_ids_are_decoded_and_limited),
		cmocka_unit_test(callbacks_can_hold_no_script),
		cmocka_unit_test(each_transport_dresses_a_frame_its_way),
		cmocka_unit_test(streams_begin_with_a_prelude),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

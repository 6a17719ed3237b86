/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parser.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct stomp_frame frame; /* large: not for the stack */

static struct parser_rules rules_of(uint32_t version)
{
	return (struct parser_rules){
		.max_frame = 65536, .max_headers = STOMP_HEADERS_DEFAULT, .version = version
	};
}

/* ---- what was parsed, as text ------------------------------------------------ */

struct log {
	char text[8192];
	size_t n;
};

static void log_str(struct log *l, const char *before, struct chatd_str s)
{
	l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n, "%s", before);
	for (size_t i = 0; i < s.n; i++) {
		int c = (unsigned char)s.p[i];
		l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n,
				c >= 0x20 && c < 0x7f && c != '\\' ? "%c" : "\\x%02x", c);
	}
	assert_true(l->n < sizeof(l->text));
}

static void log_frame(struct log *l, const struct stomp_frame *f)
{
	log_str(l, "<", f->verb);
	for (size_t i = 0; i < f->n; i++) {
		log_str(l, "|", f->header[i].name);
		log_str(l, "=", f->header[i].value);
	}
	log_str(l, "#", f->body);
	log_str(l, ">", chatd_str_of("", 0));
}

/** Feed @p s, of which every byte has its own heap block's end behind it, so that a
 *  read beyond it is seen by the sanitizers. */
static enum parser_result feed(
		struct parser *p, const struct parser_rules *r, const char *s, size_t n, struct log *l)
{
	char *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, s, n);
	struct chatd_str in = chatd_str_of(copy, n);
	enum parser_result rc;
	while ((rc = parser_feed(p, r, &in, &frame)) == PARSER_FRAME) {
		log_frame(l, &frame);
		parser_done(p);
	}
	if (rc == PARSER_FAULT) {
		log_str(l, "!", chatd_str_of(frame.detail, strlen(frame.detail)));
		log_str(l, "?", frame.receipt);
	} else {
		assert_int_equal(in.n, 0);
	}
	free(copy);
	return rc;
}

static void parse_at_once(uint32_t version, const char *s, size_t n, struct log *l)
{
	struct parser p = { 0 };
	struct parser_rules r = rules_of(version);
	(void)feed(&p, &r, s, n, l);
	parser_done(&p);
}

/** Whole, cut in two at every place, in single bytes, and in threes: all the same. */
static void expect_all_splits(uint32_t version, const char *s, size_t n, const char *want)
{
	struct parser_rules r = rules_of(version);
	struct log l = { .n = 0 };
	parse_at_once(version, s, n, &l);
	assert_string_equal(l.text, want);
	for (size_t cut = 0; cut <= n; cut++) {
		struct parser p = { 0 };
		struct log two = { .n = 0 };
		if (feed(&p, &r, s, cut, &two) != PARSER_FAULT) {
			(void)feed(&p, &r, s + cut, n - cut, &two);
		}
		parser_done(&p);
		assert_string_equal(two.text, want);
	}
	for (size_t step = 1; step <= 7; step += 2) {
		struct parser p = { 0 };
		struct log many = { .n = 0 };
		for (size_t i = 0; i < n; i += step) {
			if (feed(&p, &r, s + i, n - i < step ? n - i : step, &many) == PARSER_FAULT) {
				break;
			}
		}
		parser_done(&p);
		assert_string_equal(many.text, want);
	}
}

#define EXPECT(version, wire, want) expect_all_splits(version, wire, sizeof(wire) - 1, want)

/* ---- frames -------------------------------------------------------------------- */

static void plain_frames_at_every_split(void **state)
{
	(void)state;
	EXPECT(12, "SEND\ndestination:/topic/a\nfoo:bar\n\nhello\0",
			"<SEND|destination=/topic/a|foo=bar#hello>");
	EXPECT(0, "CONNECT\naccept-version:1.1,1.0\nheart-beat:10000,10000\n\n\0\n",
			"<CONNECT|accept-version=1.1,1.0|heart-beat=10000,10000#>");
	EXPECT(12,
			"\n\r\n\nBEGIN\ntransaction:t\n\n\0\n\nSEND\ndestination:/a\ncontent-length:3\n\n"
			"\0x\0\0\r\n\0DISCONNECT\n\n\0",
			"<BEGIN|transaction=t#><SEND|destination=/a|content-length=3#\\x00x\\x00>"
			"<DISCONNECT#>");
}

static void carriage_returns_end_lines(void **state)
{
	(void)state;
	EXPECT(12, "SUBSCRIBE\r\nid:0\r\ndestination:/topic/a\r\n\r\n\0\r\n\r\n",
			"<SUBSCRIBE|id=0|destination=/topic/a#>");
	EXPECT(0, "CONNECT\r\nlogin:guest\r\n\r\n\0", "<CONNECT|login=guest#>");
	EXPECT(12, "SEND\ndestination:/a\r\n\r\na\r\nb\n\0", "<SEND|destination=/a#a\\x0d\\x0ab\\x0a>");
}

static void stray_nuls_between_frames_are_let_through(void **state)
{
	(void)state;
	EXPECT(10, "\n\0SEND\ndestination:/a\n\nx\n\0\n\0SEND\ndestination:/b\n\ny\0",
			"<SEND|destination=/a#x\\x0a><SEND|destination=/b#y>");
}

static void content_length_counts_octets(void **state)
{
	(void)state;
	EXPECT(12, "SEND\ndestination:/a\ncontent-length:2\n\n\xc3\xa4\0",
			"<SEND|destination=/a|content-length=2#\\xc3\\xa4>");
	EXPECT(11, "SEND\ncontent-length: 5 \ndestination:/a\n\n\xff\0\xfe\0\n\0",
			"<SEND|content-length= 5 |destination=/a#\\xff\\x00\\xfe\\x00\\x0a>");
	EXPECT(12, "SEND\ndestination:/a\ncontent-length:0\n\n\0SEND\ndestination:/b\n\n\0",
			"<SEND|destination=/a|content-length=0#><SEND|destination=/b#>");
	EXPECT(12, "ACK\nid:1\ncontent-length:0\n\n\0", "<ACK|id=1|content-length=0#>");
}

static void first_of_repeated_headers_counts(void **state)
{
	(void)state;
	EXPECT(12,
			"SEND\ndestination:/a\nfoo:1\nfoo:2\ndestination:/b\ncontent-length:1\n"
			"content-length:1 \n\nx\0",
			"<SEND|destination=/a|foo=1|content-length=1#x>");
}

static void escapes_follow_the_version(void **state)
{
	(void)state;
	EXPECT(10, "SEND\ndestination:/a\nk:  a:\\n\\c\\\\b\\t \n\n\0",
			"<SEND|destination=/a|k=a:\\x5cn\\x5cc\\x5c\\x5cb\\x5ct#>");
	EXPECT(11, "SEND\ndestination:/a\nk\\c: x\\n\\c\\\\ \n\n\0",
			"<SEND|destination=/a|k:= x\\x0a:\\x5c #>");
	EXPECT(12, "SEND\ndestination:/a\nk:\\r\\n\n\n\0", "<SEND|destination=/a|k=\\x0d\\x0a#>");
	EXPECT(12, "SEND\ndestination:/a\nk:a:b\n\n\0", "<SEND|destination=/a|k=a:b#>");
	EXPECT(0, "CONNECT\nkey:\\value\\n\n\n\0", "<CONNECT|key=\\x5cvalue\\x5cn#>");
	EXPECT(12, "STOMP\nkey:\\value\n\n\0", "<STOMP|key=\\x5cvalue#>");
}

static void undefined_escapes_are_faults(void **state)
{
	static const char *const bad[] = { "\\t", "\\0", "x\\", "\\x41" };
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (uint32_t version = 11; version <= 12; version++) {
			char wire[64];
			int n = snprintf(wire, sizeof(wire), "SEND\nk:%s\nreceipt:7\n\n", bad[i]);
			expect_all_splits(version, wire, (size_t)n, "!Undefined escape sequence?7");
			assert_int_equal(frame.fault, STOMP_MALFORMED);
		}
	}
	EXPECT(11, "SEND\nk:\\r\n\n\0", "!Undefined escape sequence?");
}

/* ---- faults --------------------------------------------------------------------- */

static void commands_that_are_none(void **state)
{
	(void)state;
	EXPECT(12, "FOO\nreceipt:r1\n\n\0", "!Could not interpret command \"FOO\"?r1");
	assert_int_equal(frame.fault, STOMP_BAD_COMMAND);
	EXPECT(12, "send\n\n\0", "!Could not interpret command \"send\"?");
	EXPECT(12, "SEND \n\n\0", "!Could not interpret command \"SEND \"?");
	EXPECT(12, "MESSAGE\n\n\0", "!Could not interpret command \"MESSAGE\"?");
	EXPECT(12, "CONNECTED\n\n\0", "!Could not interpret command \"CONNECTED\"?");
	EXPECT(0, "A\x01\"\n\n\0", "!Could not interpret command \"A?\"\"?");
	EXPECT(12, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n\0",
			"!Could not interpret command \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"?");
	EXPECT(12, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n\0", "!Command too long?");
	assert_int_equal(frame.fault, STOMP_BAD_COMMAND);
}

static void command_too_long_needs_no_line_end(void **state)
{
	(void)state;
	struct log l = { .n = 0 };
	parse_at_once(0, "[\"CONNECT\\naccept-version:1.1,1.0\\n", 33, &l);
	assert_string_equal(l.text, "!Command too long?");
}

static void malformed_heads(void **state)
{
	(void)state;
	EXPECT(12, "SEND\nno colon\n\n\0", "!A header line has no colon?");
	EXPECT(12, "SEND\n:value\n\n\0", "!A header has no name?");
	EXPECT(12, "SEND\ndestination:/a\n\0", "!A NUL before the blank line that ends the headers?");
	EXPECT(12, "SEND\na:b\0c\n\n\0", "!A NUL before the blank line that ends the headers?");
	EXPECT(12, "SEND\na:b\rc\n\n\0", "!A carriage return must be followed by a line feed?");
	EXPECT(12, "SEND\na:b\r\r\n\n\0", "!A carriage return must be followed by a line feed?");
	EXPECT(12, "\n\rSEND\n\n\0", "!A carriage return must be followed by a line feed?");
	EXPECT(12, "SEND\na:\xff\n\n\0", "!Header is not UTF-8?");
	assert_int_equal(frame.fault, STOMP_NOT_UTF8);
	EXPECT(12, "SE\xc0\xaf\n\n\0", "!Header is not UTF-8?");
	EXPECT(12, "SEND\na:\xed\xa0\x80\n\n\0", "!Header is not UTF-8?");
	EXPECT(12, "SEND\na:\xf4\x8f\xbf\xbf\n\n\0", "<SEND|a=\\xf4\\x8f\\xbf\\xbf#>");
}

static void bodies_where_none_may_be(void **state)
{
	(void)state;
	EXPECT(12, "SUBSCRIBE\nid:1\nreceipt:r\n\nx\0", "!SUBSCRIBE must not have a body?r");
	assert_int_equal(frame.fault, STOMP_MALFORMED);
	EXPECT(0, "CONNECT\ncontent-length:1\n\nx\0", "!CONNECT must not have a body?");
	EXPECT(12, "ACK\nid:1\n\nx\0", "!ACK must not have a body?");
}

static void content_lengths_that_are_none(void **state)
{
	static const char *const bad[] = { "-1", "abc", "1e3", "+5", "0x10", "5 5" };
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char wire[64];
		int n = snprintf(wire, sizeof(wire), "SEND\ncontent-length:%s\nreceipt:q\n\n", bad[i]);
		expect_all_splits(12, wire, (size_t)n, "!content-length must be a decimal number?q");
		assert_int_equal(frame.fault, STOMP_BAD_LENGTH);
	}
	EXPECT(12, "SEND\ncontent-length:\n\n", "!content-length is empty?");
	EXPECT(12, "SEND\ncontent-length:1\ncontent-length:2\n\n",
			"!Two different content-length headers?");
	assert_int_equal(frame.fault, STOMP_BAD_LENGTH);
}

static void announced_too_large_is_refused_at_once(void **state)
{
	(void)state;
	EXPECT(12, "SEND\ncontent-length:9223372036854775808\n\n",
			"!A frame has at most 65536 octets?");
	assert_int_equal(frame.fault, STOMP_TOO_LARGE);
	EXPECT(12, "SEND\ncontent-length:99999999999999999999999\n\n",
			"!A frame has at most 65536 octets?");
	EXPECT(12, "SEND\ncontent-length:65536\n\n", "!A frame has at most 65536 octets?");
}

static void body_longer_than_announced(void **state)
{
	(void)state;
	EXPECT(12, "SEND\ncontent-length:2\nreceipt:z\n\nabc\0",
			"!The octet after content-length octets of body is not NUL?z");
	assert_int_equal(frame.fault, STOMP_NO_NULL);
}

/* ---- limits ---------------------------------------------------------------------- */

/** A SEND frame of @p total octets in all. */
static char *sized_send(size_t total, int with_length)
{
	char *s = malloc(total + 64);
	assert_non_null(s);
	int n = with_length ? snprintf(s, 64, "SEND\ncontent-length:%05zu\n\n", total - 28)
						: snprintf(s, 64, "SEND\nx:y\n\n");
	memset(s + n, 'b', total - (size_t)n);
	s[total - 1] = '\0';
	return s;
}

static enum parser_result run_sized(size_t total, int with_length, size_t step)
{
	struct parser_rules r = rules_of(12);
	struct parser p = { 0 };
	char *s = sized_send(total, with_length);
	enum parser_result rc = PARSER_MORE;
	for (size_t i = 0; i < total && rc == PARSER_MORE; i += step) {
		struct chatd_str in = chatd_str_of(s + i, total - i < step ? total - i : step);
		rc = parser_feed(&p, &r, &in, &frame);
		assert_true(p.cap <= r.max_frame);
	}
	parser_done(&p);
	free(s);
	return rc;
}

static void largest_frame_and_one_more(void **state)
{
	static const size_t steps[] = { 65537, 1000, 17 };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (int with_length = 0; with_length < 2; with_length++) {
			assert_int_equal(run_sized(65536, with_length, steps[i]), PARSER_FRAME);
			assert_int_equal(run_sized(65537, with_length, steps[i]), PARSER_FAULT);
			assert_int_equal(frame.fault, STOMP_TOO_LARGE);
		}
	}
}

static enum stomp_fault run_headers(size_t count, size_t name, size_t value, size_t max_frame)
{
	struct parser_rules r = rules_of(12);
	r.max_frame = max_frame;
	size_t room = 16 + count * (name + value + 2);
	char *s = malloc(room);
	assert_non_null(s);
	size_t n = (size_t)snprintf(s, room, "SEND\n");
	for (size_t i = 0; i < count; i++) {
		memset(s + n, 'n', name);
		n += name;
		s[n++] = ':';
		memset(s + n, 'v', value);
		n += value;
		s[n++] = '\n';
	}
	s[n++] = '\n';
	s[n++] = '\0';
	struct parser p = { 0 };
	struct chatd_str in = chatd_str_of(s, n);
	enum parser_result rc = parser_feed(&p, &r, &in, &frame);
	parser_done(&p);
	free(s);
	assert_int_not_equal(rc, PARSER_MORE);
	return frame.fault;
}

static void header_limits(void **state)
{
	(void)state;
	assert_int_equal(run_headers(64, 1, 1, 65536), STOMP_OK);
	assert_int_equal(run_headers(65, 1, 1, 65536), STOMP_HEADER_LIMIT);
	assert_string_equal(frame.detail, "At most 64 headers");
	assert_int_equal(run_headers(1, 256, 1, 65536), STOMP_OK);
	assert_int_equal(run_headers(1, 257, 1, 65536), STOMP_HEADER_LIMIT);
	assert_string_equal(frame.detail, "A header name has at most 256 octets");
	assert_int_equal(run_headers(1, 1, 4096, 65536), STOMP_OK);
	assert_int_equal(run_headers(1, 1, 4097, 65536), STOMP_HEADER_LIMIT);
	assert_string_equal(frame.detail, "A header value has at most 4096 octets");
	assert_int_equal(run_headers(5, 10, 4000, 65536), STOMP_HEADER_LIMIT);
	assert_string_equal(frame.detail, "Command and headers have at most 16384 octets");
	assert_int_equal(run_headers(3, 10, 4000, 8192), STOMP_TOO_LARGE);
}

/* ---- memory and work --------------------------------------------------------------- */

static void whole_frames_are_not_copied(void **state)
{
	(void)state;
	static const char wire[] = "SEND\ndestination:/a\n\nhello\0SEND\ndestination:/b\n\nxy";
	struct parser_rules r = rules_of(12);
	struct parser p = { 0 };
	struct chatd_str in = chatd_str_of(wire, sizeof(wire) - 1);
	assert_int_equal(parser_feed(&p, &r, &in, &frame), PARSER_FRAME);
	assert_ptr_equal(frame.body.p, strstr(wire, "hello"));
	assert_null(p.buf);
	assert_false(parser_is_inside(&p) && p.buf);
	parser_done(&p);
	assert_int_equal(parser_feed(&p, &r, &in, &frame), PARSER_MORE);
	assert_true(parser_is_inside(&p));
	assert_non_null(p.buf);
	assert_true(p.cap <= 256);
	in = chatd_str_of("\0\n\n", 3);
	assert_int_equal(parser_feed(&p, &r, &in, &frame), PARSER_FRAME);
	assert_int_equal(in.n, 2);
	parser_done(&p);
	assert_null(p.buf);
	assert_false(parser_is_inside(&p));
}

static void what_is_announced_is_not_allocated(void **state)
{
	(void)state;
	struct parser_rules r = rules_of(12);
	struct parser p = { 0 };
	struct chatd_str in = CHATD_LIT("SEND\ncontent-length:60000\n\nabc");
	assert_int_equal(parser_feed(&p, &r, &in, &frame), PARSER_MORE);
	assert_true(p.cap <= 256);
	parser_done(&p);
}

static void line_ends_alone_keep_nothing(void **state)
{
	(void)state;
	struct parser_rules r = rules_of(12);
	struct parser p = { 0 };
	char *eols = malloc(61440);
	assert_non_null(eols);
	memset(eols, '\n', 61440);
	struct chatd_str in = chatd_str_of(eols, 61440);
	assert_int_equal(parser_feed(&p, &r, &in, &frame), PARSER_MORE);
	assert_false(parser_is_inside(&p));
	assert_null(p.buf);
	free(eols);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_frames_at_every_split),
		cmocka_unit_test(carriage_returns_end_lines),
		cmocka_unit_test(stray_nuls_between_frames_are_let_through),
		cmocka_unit_test(content_length_counts_octets),
		cmocka_unit_test(first_of_repeated_headers_counts),
		cmocka_unit_test(escapes_follow_the_version),
		cmocka_unit_test(undefined_escapes_are_faults),
		cmocka_unit_test(commands_that_are_none),
		cmocka_unit_test(command_too_long_needs_no_line_end),
		cmocka_unit_test(malformed_heads),
		cmocka_unit_test(bodies_where_none_may_be),
		cmocka_unit_test(content_lengths_that_are_none),
		cmocka_unit_test(announced_too_large_is_refused_at_once),
		cmocka_unit_test(body_longer_than_announced),
		cmocka_unit_test(largest_frame_and_one_more),
		cmocka_unit_test(header_limits),
		cmocka_unit_test(whole_frames_are_not_copied),
		cmocka_unit_test(what_is_announced_is_not_allocated),
		cmocka_unit_test(line_ends_alone_keep_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

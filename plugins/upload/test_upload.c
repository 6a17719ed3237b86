/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: bodies, names, ranges, signatures. */
#include "multipart.h"
#include "names.h"
#include "s3sign.h"
#include "sign.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- bodies ---------------------------------------------------------------------------- */

struct seen {
	char text[4096];
	size_t n;
};

static void add(struct seen *s, struct chatd_str what)
{
	assert_true(s->n + what.n < sizeof(s->text));
	memcpy(s->text + s->n, what.p, what.n);
	s->n += what.n;
	s->text[s->n] = '\0';
}

static chatd_status on_part(void *arg, const struct multipart_part *part)
{
	struct seen *s = arg;
	add(s, z("["));
	add(s, part->name);
	if (part->filename.p) {
		add(s, z("="));
		add(s, part->filename);
	}
	add(s, z(":"));
	return 0;
}

static chatd_status on_data(void *arg, const char *p, size_t n)
{
	add(arg, chatd_str_of(p, n));
	return 0;
}

static chatd_status on_end(void *arg)
{
	add(arg, z("]"));
	return 0;
}

static const struct multipart_user user = { on_part, on_data, on_end };

static chatd_status read_in(
		const char *type, const char *body, size_t step, struct seen *s, const char **ret_why)
{
	struct multipart m;
	size_t n = strlen(body);
	chatd_status rc = multipart_init(&m, z(type));
	memset(s, 0, sizeof(*s));
	m.user = &user;
	m.arg = s;
	for (size_t i = 0; rc == 0 && i < n; i += step) {
		rc = multipart_feed(&m, body + i, n - i < step ? n - i : step);
	}
	rc = rc == 0 ? multipart_finish(&m) : rc;
	*ret_why = m.why;
	return rc;
}

#define TYPE "multipart/form-data; boundary=b"
#define PART "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n"

static void parts_come_out_however_they_are_cut(void **state)
{
	static const char body[] =
			PART "x\r\n--\r\n--bx\r\n-\r\r\n--b\r\n"
				 "content-disposition: FORM-DATA; name=g; x=\"y;z\"\r\nX: y\r\n\r\n"
				 "\r\n--b--\r\nwhatever follows";
	struct seen s;
	const char *why;
	(void)state;
	/* "--bx" is no boundary of "b": what follows it is not CR LF. */
	assert_int_equal(read_in(TYPE, body, 1000, &s, &why), -EINVAL);
	static const char good[] =
			PART "x\r\n--\r\n--\r\n-\r\r\n--b\r\n"
				 "content-disposition: FORM-DATA; name=g; x=\"y;z\"\r\nX: y\r\n\r\n"
				 "\r\n--b--\r\nwhatever follows";
	for (size_t step = 1; step < sizeof(good); step++) {
		assert_int_equal(read_in(TYPE, good, step, &s, &why), 0);
		assert_string_equal(s.text, "[f=a:x\r\n--\r\n--\r\n-\r][g:]");
	}
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *type, *body, *why;
	} cases[] = {
		{ "multipart/form-data", "", "the Content-Type names no boundary" },
		{ TYPE "; boundary=c", "", "the Content-Type names two boundaries" },
		{ "multipart/form-data; boundary=\"a\"b", "",
				"the parameters of the Content-Type are malformed" },
		{ TYPE, "", "the final boundary is missing" },
		{ TYPE, "x" PART, "the body does not begin with the boundary" },
		{ TYPE, PART "x\r\n--b", "the final boundary is missing" },
		{ TYPE, "--bX", "a boundary must be followed by CR LF, or by -- at the end" },
		{ TYPE, "--b\r\n\r\n", "a part has no Content-Disposition" },
		{ TYPE, "--b\nX", "a boundary must be followed by CR LF, or by -- at the end" },
		{ TYPE, "--b\r\nX: y\n\n", "the lines of a part's head must end in CR LF" },
		{ TYPE, "--b\r\nX: y\rz", "the lines of a part's head must end in CR LF" },
		{ TYPE, "--b\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n",
				"a part's Content-Disposition says the same thing twice" },
		{ TYPE, "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n",
				"a part's Content-Disposition is malformed" },
		{ TYPE, "--b\r\nContent-Disposition: form-data\r\n\r\n", "a part has no name" },
		{ TYPE, "--b\r\nno header\r\n\r\n", "a line in a part's head is no header" },
	};
	struct seen s;
	const char *why;
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(read_in(cases[i].type, cases[i].body, 3, &s, &why), -EINVAL);
		assert_string_equal(why, cases[i].why);
	}
	assert_int_equal(read_in("text/plain; boundary=b", "", 1, &s, &why), -ENOTSUP);
	assert_int_equal(read_in("", "", 1, &s, &why), -ENOTSUP);
}

/* ---- names ----------------------------------------------------------------------------- */

static void names_lose_what_is_dangerous(void **state)
{
	static const struct {
		const char *name, *clean;
	} cases[] = {
		{ "a.png", "a.png" },
		{ "../../etc/passwd", "passwd" },
		{ "C:\\dir\\x.txt", "x.txt" },
		{ "..", "file" },
		{ "", "file" },
		{ "x/", "file" },
		{ "  a  ", "a" },
		{ "a\r\nb", "ab" },
		{ "a\xe2\x80\xae"
		  "gnp.exe",
				"agnp.exe" },
	};
	char clean[NAME_BYTES + 1], longer[600];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(name_clean(z(cases[i].name), clean), 0);
		assert_string_equal(clean, cases[i].clean);
	}
	assert_int_equal(name_clean(chatd_str_of("a\0b", 3), clean), -EINVAL);
	assert_int_equal(name_clean(z("\xff"), clean), -EINVAL);
	for (size_t i = 0; i < 300; i++) {
		memcpy(longer + 2 * i, "\xc3\xa9", 2);
	}
	assert_int_equal(name_clean(chatd_str_of(longer, sizeof(longer)), clean), 0);
	assert_int_equal(strlen(clean), 254);
}

static void dispositions_hold_one_line(void **state)
{
	char line[DISPOSITION_MAX];
	(void)state;
	name_disposition("a \"b\";\xc3\xa9%.txt", 0, line);
	assert_string_equal(
			line, "attachment; filename=\"a _b____.txt\"; filename*=UTF-8''a%20_b__%C3%A9_.txt");
}

static void ranges(void **state)
{
	static const struct {
		const char *text;
		int kind;
		int64_t from, n;
	} cases[] = {
		{ "bytes=0-0", RANGE_ONE, 0, 1 },
		{ "bytes=5-", RANGE_ONE, 5, 5 },
		{ "bytes=-3", RANGE_ONE, 7, 3 },
		{ "bytes=-30", RANGE_ONE, 0, 10 },
		{ "bytes=2-99", RANGE_ONE, 2, 8 },
		{ "bytes=10-", RANGE_BAD, 0, 0 },
		{ "bytes=5-4", RANGE_BAD, 0, 0 },
		{ "bytes=-0", RANGE_BAD, 0, 0 },
		{ "bytes=-", RANGE_BAD, 0, 0 },
		{ "bytes=99999999999999999999-", RANGE_BAD, 0, 0 },
		{ "bytes=0-1,3-4", RANGE_NONE, 0, 0 },
		{ "items=0-1", RANGE_NONE, 0, 0 },
		{ "bytes=12", RANGE_NONE, 0, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t from = 0, n = 0;
		assert_int_equal(range_read(z(cases[i].text), 10, &from, &n), cases[i].kind);
		assert_int_equal(from, cases[i].from);
		assert_int_equal(n, cases[i].n);
	}
	assert_true(etag_in(z("\"a\", W/\"b\""), "\"b\""));
	assert_true(etag_in(z("*"), "\"b\""));
	assert_false(etag_in(z("\"a\",\"bb\""), "\"b\""));
	assert_false(etag_in(chatd_str_of(NULL, 0), "\"b\""));
}

/* ---- signatures ------------------------------------------------------------------------ */

static void signatures_fit_one_file_and_user(void **state)
{
	unsigned char key[SIGN_KEY], other[SIGN_KEY];
	char query[SIGN_QUERY], bad[SIGN_QUERY + 8];
	struct signed_for f = { z("f1"), z("ann"), 1000 };
	(void)state;
	assert_int_equal(sign_key(z("a key of at least thirty-two bytes"), key), 0);
	assert_int_equal(sign_key(z("b key of at least thirty-two bytes"), other), 0);
	assert_int_equal(sign_write(key, &f, query), 0);
	struct signed_for got = { .file = z("f1") };
	assert_int_equal(sign_check(key, z(query), 999, &got), 0);
	assert_int_equal(got.expires, 1000);
	assert_int_equal(got.user.n, 3);
	assert_int_equal(sign_check(key, z(query), 1000, &got), -ETIME);
	assert_int_equal(sign_check(other, z(query), 999, &got), -EACCES);
	struct signed_for else_ = { .file = z("f2") };
	assert_int_equal(sign_check(key, z(query), 999, &else_), -EACCES);
	for (size_t i = 0; i < strlen(query); i++) {
		snprintf(bad, sizeof(bad), "%s", query);
		bad[i] ^= 1;
		assert_int_equal(sign_check(key, z(bad), 0, &got), -EACCES);
		bad[i] = '\0';
		assert_int_equal(sign_check(key, z(bad), 0, &got), -EACCES);
	}
	snprintf(bad, sizeof(bad), "%s&x=1", query);
	assert_int_equal(sign_check(key, z(bad), 0, &got), -EACCES);
	snprintf(bad, sizeof(bad), "%s&", query);
	assert_int_equal(sign_check(key, z(bad), 0, &got), -EACCES);
}

/* The first is the example of AWS's documentation, the others what botocore makes of it. */
static void addresses_are_signed_as_aws_has_it(void **state)
{
	static const struct {
		struct s3_presign what;
		const char *tag;
	} cases[] = {
		{ { .key = "AKIAIOSFODNN7EXAMPLE",
				  .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
				  .region = "us-east-1",
				  .host = "examplebucket.s3.amazonaws.com",
				  .path = "/test.txt",
				  .query = "",
				  .now = 1369353600,
				  .expires = 86400 },
				"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404" },
		{ { .key = "KEY",
				  .secret = "secret/+=",
				  .region = "eu-central-1",
				  .host = "127.0.0.1:4568",
				  .path = "/chat/some/where/objects/ab/abc.0123",
				  .query =
						  "response-cache-control=private&response-content-disposition="
						  "attachment%3B%20filename%3D%22a.txt%22&response-content-type=text%2Fplain",
				  .now = 1795690873,
				  .expires = 60 },
				"347237f608ba3ec6d73c77bae29039f376345ed53ea2cf312a75a873541e648b" },
		{ { .key = "KEY",
				  .secret = "secret/+=",
				  .region = "eu-central-1",
				  .host = "127.0.0.1:4568",
				  .path = "/chat/some/where/tus/abc.0.1.2",
				  .query = "",
				  .puts = 12345,
				  .now = 1795690873,
				  .expires = 60 },
				"7f4f7f9e32c8a2e0c5f1a0a5ec6449473ff2c2449a8c69864d28215fb6df5c0d" },
	};
	char query[2048], room[16];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(s3_presign(&cases[i].what, query, sizeof(query)), 0);
		assert_non_null(strstr(query, cases[i].tag));
		assert_int_equal(s3_presign(&cases[i].what, query, 200), -ENOSPC);
	}
	assert_int_equal(s3_encode("a b/\303\274;", query, sizeof(query)), 0);
	assert_string_equal(query, "a%20b%2F%C3%BC%3B");
	assert_int_equal(s3_encode("0123456789abcdef", room, sizeof(room)), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_come_out_however_they_are_cut),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(names_lose_what_is_dangerous),
		cmocka_unit_test(dispositions_hold_one_line),
		cmocka_unit_test(ranges),
		cmocka_unit_test(signatures_fit_one_file_and_user),
		cmocka_unit_test(addresses_are_signed_as_aws_has_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

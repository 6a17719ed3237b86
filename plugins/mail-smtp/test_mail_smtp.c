/* SPDX-License-Identifier: Apache-2.0 */
/* Letters and options; against a mail server it is tested in tests/auth. */
#include "letter.h"

#include <chatd/kit.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static const struct letter plain = {
	.from = { "chat@example.org", 16 },
	.from_name = { "", 0 },
	.to = { "ann@example.org", 15 },
	.subject = { "Hello", 5 },
	.text = { "text\n", 5 },
	.id = "id-1",
	.wall_ms = INT64_C(1767225599000),
};

/* To free(); NUL-terminated. */
static char *written(const struct letter *l)
{
	size_t n;
	char *p = letter_write(l, &n);
	if (p) {
		p = realloc(p, n + 1);
		p[n] = '\0';
		/* No line is longer than may be, and every one ends as it must. */
		for (const char *at = p; at < p + n;) {
			const char *end = strstr(at, "\r\n");
			assert_non_null(end);
			assert_true(end - at <= 78);
			assert_null(memchr(at, '\n', (size_t)(end - at)));
			at = end + 2;
		}
	}
	return p;
}

TEST(a_letter_has_its_headers_and_its_text)
{
	UNUSED;
	char *p = written(&plain);
	assert_string_equal(p,
			"Date: Wed, 31 Dec 2025 23:59:59 +0000\r\nFrom: <chat@example.org>\r\n"
			"To: <ann@example.org>\r\nSubject: Hello\r\nMessage-ID: <id-1@example.org>\r\n"
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
			"Content-Transfer-Encoding: quoted-printable\r\nAuto-Submitted: auto-generated\r\n"
			"\r\ntext\r\n\r\n");
	free(p);
}

TEST(nothing_adds_a_header)
{
	UNUSED;
	size_t n;
	static const char *const bad[] = { "a@b.cc\r\nBcc: x@y.zz", "a@b.cc>\r\nDATA", "a@b.cc, c@d.ee",
		"<a@b.cc>", "a b@c.dd", "", "a@", "@b", "a@b@c", "a@b.cc\n", "\xc3\xa9@b.cc" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct letter l = plain;
		l.to = z(bad[i]);
		assert_null(letter_write(&l, &n));
		assert_int_equal(errno, EINVAL);
		l = plain;
		l.from = z(bad[i]);
		assert_null(letter_write(&l, &n));
	}
	static const char *const lines[] = { "a\r\nBcc: x@y.zz", "a\nb", "a\rb", "", "a\x7f" };
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct letter l = plain;
		l.subject = z(lines[i]);
		assert_null(letter_write(&l, &n));
	}
	struct letter l = plain;
	l.subject = chatd_str_of("a\0b", 3);
	assert_null(letter_write(&l, &n));
}

TEST(a_subject_that_is_no_ascii_is_encoded_in_words)
{
	UNUSED;
	struct letter l = plain;
	l.subject = z("\xec\x95\x88\xeb\x85\x95");
	l.from_name = z("Chat, Inc. <x@y.zz>");
	char *p = written(&l);
	assert_non_null(strstr(p, "Subject: =?UTF-8?B?7JWI64WV?=\r\n"));
	assert_non_null(strstr(p, "From: =?UTF-8?B?Q2hhdCwgSW5jLiA8eEB5Lnp6Pg==?=\r\n <chat@"));
	free(p);
	l.subject = z("=?UTF-8?Q?fake?=");
	p = written(&l);
	assert_null(strstr(p, "fake"));
	free(p);
	char longest[401];
	for (int i = 0; i < 400; i += 4) {
		memcpy(longest + i, "\xf0\x9f\x98\x80", 4);
	}
	l.subject = chatd_str_of(longest, 400);
	p = written(&l);
	assert_non_null(p);
	free(p);
}

TEST(text_is_quoted_so_that_nothing_ends_the_mail)
{
	UNUSED;
	struct letter l = plain;
	l.text = z(".\n..x\n\xc3\xa9=\nends in a space \n"
			   "a line that is much longer than the seventy-six characters that one line of a mail "
			   "may have, and goes on\nFrom me\r\n\0");
	char *p = written(&l);
	assert_null(strstr(p, "\r\n.\r\n"));
	assert_non_null(strstr(p, "\r\n=2E\r\n"));
	assert_non_null(strstr(p, "\r\n=C3=A9=3D\r\n"));
	assert_non_null(strstr(p, "space=20\r\n"));
	assert_non_null(strstr(p, "=\r\n"));
	free(p);
	char *big = malloc(TEXT_MAX + 1);
	memset(big, 0xff, TEXT_MAX + 1);
	l.text = chatd_str_of(big, TEXT_MAX);
	p = written(&l); /* the worst case has room */
	assert_non_null(strstr(p + strlen(p) - 8, "=FF\r\n"));
	free(p);
	l.text = chatd_str_of(big, TEXT_MAX + 1);
	size_t n;
	assert_null(letter_write(&l, &n));
	free(big);
}

TEST(what_does_not_go_together_is_complained_of)
{
	UNUSED;
	static const struct {
		const char *yaml, *want;
	} cases[] = { { "host: x", "from" }, { "from: a@b.cc", "host" },
		{ "host: \"x/y\"\nfrom: a@b.cc", "is no host" },
		{ "host: \"x@y\"\nfrom: a@b.cc", "is no host" },
		{ "host: x\nfrom: \"A <a@b.cc>\"", "is no address" },
		{ "host: x\nfrom: a@b.cc\nuser: u", "go together" },
		{ "host: x\nfrom: a@b.cc\nuser: u\npassword: p\nsecurity: none", "in the clear" } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, cases[i].yaml, cases[i].want);
	}
	char *got = kit_complaints(&chatd_plugin_under_test,
			"host: 127.0.0.1\nfrom: a@b.cc\nuser: u\npassword: p\nsecurity: none");
	assert_string_equal(got, "");
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_letter_has_its_headers_and_its_text),
		cmocka_unit_test(nothing_adds_a_header),
		cmocka_unit_test(a_subject_that_is_no_ascii_is_encoded_in_words),
		cmocka_unit_test(text_is_quoted_so_that_nothing_ends_the_mail),
		cmocka_unit_test(what_does_not_go_together_is_complained_of),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

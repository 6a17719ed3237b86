/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a policy that gets one more source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "csp.h"

#define S3 "https://s3.example.org:9000"

static void becomes(const char *policy, const char *directive, const char *want)
{
	char *got = csp_with(policy, directive, CHATD_LIT(S3));
	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

static void where_it_stands(void **state)
{
	(void)state;
	becomes("img-src 'self' data:; media-src 'self'", "img-src",
			"img-src 'self' data: " S3 "; media-src 'self'");
	becomes("img-src 'self' data:; media-src 'self'", "media-src",
			"img-src 'self' data:; media-src 'self' " S3);
	becomes("  IMG-SRC   'self' ;x", "img-src", "  IMG-SRC   'self'  " S3 ";x");
	/* The first one is the one that counts. */
	becomes("img-src a; img-src b", "img-src", "img-src a " S3 "; img-src b");
	becomes("img-src", "img-src", "img-src " S3);
	becomes("img-src 'none'; x", "img-src", "img-src " S3 "; x");
}

static void where_default_src_stands_for_it(void **state)
{
	(void)state;
	becomes("default-src 'self'; frame-ancestors 'none'", "img-src",
			"default-src 'self'; frame-ancestors 'none'; img-src 'self' " S3);
	becomes("default-src 'none'", "connect-src", "default-src 'none'; connect-src " S3);
}

static void what_stays_as_it_is(void **state)
{
	(void)state;
	becomes("", "img-src", "");
	becomes("frame-ancestors 'none'", "img-src", "frame-ancestors 'none'");
	becomes("img-src 'self' " S3, "img-src", "img-src 'self' " S3);
	becomes("img-src " S3 "0", "img-src", "img-src " S3 "0 " S3);
	becomes("x-img-src 'self'; img-src-elem 'self'", "img-src",
			"x-img-src 'self'; img-src-elem 'self'");
}

static void origins(void **state)
{
	static const char *const good[] = { S3, "http://127.0.0.1:80", "https://a", "http://[::1]:80" };
	static const char *const bad[] = { "", "https://", "http://", "s3.example.org", "ftp://a",
		"https://a/", "https://a b", "https://a;script-src", "https://a,b", "https://a'b",
		"https://a\r\nb", "https://a@b", "https://a?b", "https://*" };
	char long_one[CSP_ORIGIN_MAX + 2];
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(csp_origin(chatd_str_of(good[i], strlen(good[i]))));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(csp_origin(chatd_str_of(bad[i], strlen(bad[i]))));
	assert_false(csp_origin(chatd_str_of("https://a\0b", 11)));
	memset(long_one, 'a', sizeof(long_one));
	memcpy(long_one, "https://", 8);
	assert_true(csp_origin(chatd_str_of(long_one, CSP_ORIGIN_MAX)));
	assert_false(csp_origin(chatd_str_of(long_one, CSP_ORIGIN_MAX + 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_it_stands),
		cmocka_unit_test(where_default_src_stands_for_it),
		cmocka_unit_test(what_stays_as_it_is),
		cmocka_unit_test(origins),
	};
	return cmocka_run_group_tests_name("web-csp", tests, NULL, NULL);
}

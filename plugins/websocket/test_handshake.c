/* SPDX-License-Identifier: Apache-2.0 */
#include "handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void accept_is_the_rfcs(void **state)
{
	(void)state;
	char out[HANDSHAKE_ACCEPT_LEN + 1];
	assert_int_equal(handshake_accept(text("dGhlIHNhbXBsZSBub25jZQ=="), out), 0);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void keys(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "AAAA", "dGhlIHNhbXBsZSBub25jZTEy",
		"x3JJHMbDL1EzLkh9GBhXDw=", "x3JJHMbDL1EzLkh9GBhXDw==x",
		"x3JJHMbDL1EzLkh9GBhX w==", "x3JJHMbDL1EzLkh9GBhXD-==", "================================",
		"x3JJHMbDL1EzLkh9GBhXDw==, x3JJHMbDL1EzLkh9GBhXDw==" };
	assert_true(handshake_key(text("dGhlIHNhbXBsZSBub25jZQ==")));
	assert_true(handshake_key(text("x3JJHMbDL1EzLkh9GBh+/w==")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(handshake_key(text(bad[i])));
}

static void tokens_are_found(void **state)
{
	(void)state;
	assert_true(handshake_has_token(text("Upgrade"), "upgrade"));
	assert_true(handshake_has_token(text("keep-alive, Upgrade"), "upgrade"));
	assert_true(handshake_has_token(text("keep-alive ,\tUPGRADE , x"), "upgrade"));
	assert_false(handshake_has_token(text(""), "upgrade"));
	assert_false(handshake_has_token(text("close"), "upgrade"));
	assert_false(handshake_has_token(text("upgraded, up, no-upgrade"), "upgrade"));
	assert_false(handshake_has_token(text("x upgrade"), "upgrade"));
	assert_false(handshake_has_token(chatd_str_of(NULL, 0), "upgrade"));
}

static void protocol_lists(void **state)
{
	(void)state;
	static const char *const bad[] = { "", " ", ",", ",,,", "a,", ",a", "a,,b", "a b", "a;b",
		"\xc3\xb6" };
	assert_true(handshake_token_list(text("v12.stomp")));
	assert_true(handshake_token_list(text("v10.stomp, v11.stomp,v12.stomp ")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(handshake_token_list(text(bad[i])));
}

static void extension_lists(void **state)
{
	(void)state;
	static const char *const good[] = { "permessage-deflate",
		"permessage-deflate; client_max_window_bits", "a, a", "a;b=c;d=\"e\", f",
		"permessage-deflate; server_max_window_bits = 99" };
	static const char *const bad[] = { "", ",", ";", "a;", "a,", "a;b=", "a;b=\"", "a;b=\"c",
		"a;b=\"\"", "a=b", "a b", "a;;b", "(", "a;b=c=d" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(handshake_extensions(text(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(handshake_extensions(text(bad[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accept_is_the_rfcs),
		cmocka_unit_test(keys),
		cmocka_unit_test(tokens_are_found),
		cmocka_unit_test(protocol_lists),
		cmocka_unit_test(extension_lists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

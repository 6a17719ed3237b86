/* SPDX-License-Identifier: Apache-2.0 */
/* What is pure: addresses, commands and replies, errors.  Connections are tested with a real
 * Redis, in tests/presence. */
#include "conn.h"
#include "op.h"

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

TEST(addresses)
{
	UNUSED;
	static const struct {
		const char *text, *host;
		int port;
	} good[] = {
		{ "127.0.0.1:7000", "127.0.0.1", 7000 },
		{ "redis", "redis", 6379 },
		{ "redis.example.org:1", "redis.example.org", 1 },
		{ "[::1]:65535", "::1", 65535 },
		{ "[::1]", "::1", 6379 },
		{ "::1", "::1", 6379 },
	};
	static const char *const bad[] = { "", ":", ":1", "a:", "a:0", "a:65536", "a:1x", "a b:1",
		"[a]:1", "[::1", "[::1]x", "a:b:c", "a/b", "a\n:1", "[::1]:" };
	struct address a;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(address_parse(good[i].text, 6379, &a));
		assert_string_equal(a.host, good[i].host);
		assert_int_equal(a.port, good[i].port);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(address_parse(bad[i], 6379, &a));
	}
	char longest[HOST_MAX + 2];
	memset(longest, 'a', sizeof(longest) - 1);
	longest[HOST_MAX + 1] = '\0';
	assert_false(address_parse(longest, 6379, &a));
	longest[HOST_MAX] = '\0';
	assert_true(address_parse(longest, 6379, &a));
	assert_false(address_of(chatd_str_of("a\0b", 3), chatd_str_of("1", 1), &a));
}

TEST(commands_are_binary_safe)
{
	UNUSED;
	const struct chatd_str argv[] = { chatd_str_of("SET", 3), chatd_str_of("a\r\nb\0", 5),
		chatd_str_of(NULL, 0) };
	const struct chatd_redis_command c = {
		.struct_size = sizeof(c), .script = 1, .n_keys = 1, .argv = argv, .n = 3
	};
	static const char plain[] = "*3\r\n$3\r\nSET\r\n$5\r\na\r\nb\0\r\n$0\r\n\r\n";
	static const char script[] = "*6\r\n$7\r\nEVALSHA\r\n$2\r\nab\r\n$1\r\n1\r\n$3\r\nSET\r\n";
	struct op *op = op_create(&c, NULL);
	assert_int_equal(op->n, sizeof(plain) - 1);
	assert_memory_equal(op->bytes, plain, sizeof(plain) - 1);
	op_destroy(op);
	op = op_create(&c, "ab");
	assert_memory_equal(op->bytes, script, sizeof(script) - 1);
	op_destroy(op);
}

/* What comes of these bytes as the answer to a command; NULL: no whole reply. */
static struct op *answered(const char *bytes, size_t n)
{
	const struct chatd_str word = chatd_str_of("PING", 4);
	const struct chatd_redis_command c = { .struct_size = sizeof(c), .argv = &word, .n = 1 };
	redisReader *reader = op_reader();
	void *raw = NULL;
	struct op *op = NULL;
	if (redisReaderFeed(reader, bytes, n) == REDIS_OK &&
			redisReaderGetReply(reader, &raw) == REDIS_OK && raw) {
		op = op_create(&c, NULL);
		op_answer(op, raw);
	}
	redisReaderFree(reader);
	return op;
}

TEST(replies)
{
	UNUSED;
	static const char nested[] = "*3\r\n:7\r\n$-1\r\n*2\r\n+a\r\n-ERR b\r\n";
	struct op *op = answered(nested, sizeof(nested) - 1);
	assert_int_equal(op->rc, 0);
	assert_int_equal(op->reply.type, CHATD_REDIS_ARRAY);
	assert_int_equal(op->reply.n, 3);
	assert_int_equal(op->reply.items[0].integer, 7);
	assert_int_equal(op->reply.items[1].type, CHATD_REDIS_NIL);
	assert_memory_equal(op->reply.items[2].items[0].text.p, "a", 1);
	assert_int_equal(op->reply.items[2].items[1].type, CHATD_REDIS_ERROR);
	op_destroy(op);
	op = answered("-ERR no\r\n", 9);
	assert_int_equal(op->rc, -EPROTO);
	assert_memory_equal(op->reply.text.p, "ERR no", 6);
	op_destroy(op);
	op_destroy(op_create(&(struct chatd_redis_command){ .n = 0 }, NULL));
}

/* The same numbers each time. */
static uint32_t roll(uint32_t *dice)
{
	*dice = *dice * 1664525u + 1013904223u;
	return *dice >> 8;
}

/* Any bytes: read or refused, never more. */
TEST(replies_of_a_madman)
{
	UNUSED;
	static const char alphabet[] = "*$+-:0123456789\r\n\r\nax";
	char bytes[64];
	uint32_t dice = 1;
	for (int i = 0; i < 20000; i++) {
		size_t n = roll(&dice) % sizeof(bytes);
		for (size_t k = 0; k < n; k++) {
			bytes[k] = alphabet[roll(&dice) % (sizeof(alphabet) - 1)];
		}
		op_destroy(answered(bytes, n));
	}
	static const char huge[] = "*2147483647\r\n",
					  deep[] = "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"
							   "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n";
	redisReader *reader = op_reader();
	void *raw = NULL;
	assert_int_equal(redisReaderFeed(reader, huge, sizeof(huge) - 1), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &raw), REDIS_ERR); /* at its first line */
	redisReaderFree(reader);
	assert_null(answered(deep, sizeof(deep) - 1));
}

TEST(errors_that_mean_down)
{
	UNUSED;
	static const char *const down[] = { "READONLY You can't write", "LOADING Redis is loading",
		"MOVED 1 a:1", "OOM command not allowed", "NOAUTH Authentication required.",
		"MISCONF Redis is", "ERR user_script:1: -OOM command not allowed",
		"ERR -READONLY You can't write" };
	static const char *const not_down[] = { "ERR unknown", "NOSCRIPT No matching script",
		"READONLYX", "OO", "WRONGTYPE Operation" };
	for (size_t i = 0; i < sizeof(down) / sizeof(down[0]); i++) {
		assert_true(conn_error_is_down(chatd_str_of(down[i], strlen(down[i]))));
	}
	for (size_t i = 0; i < sizeof(not_down) / sizeof(not_down[0]); i++) {
		assert_false(conn_error_is_down(chatd_str_of(not_down[i], strlen(not_down[i]))));
	}
}

TEST(a_secret_that_is_too_short_is_complained_of)
{
	UNUSED;
	char *got = kit_complaints(&chatd_plugin_under_test, "names_key: too short");
	assert_non_null(strstr(got, "names_key: it has 9 bytes; write at least 32, the same on all"));
	free(got);
	got = kit_complaints(&chatd_plugin_under_test, "names_key: 0123456789abcdef0123456789abcdef");
	assert_string_equal(got, "");
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(commands_are_binary_safe),
		cmocka_unit_test(replies),
		cmocka_unit_test(replies_of_a_madman),
		cmocka_unit_test(errors_that_mean_down),
		cmocka_unit_test(a_secret_that_is_too_short_is_complained_of),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/diag.h"
#include "base/id.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "base/utf8.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* ---- log ---------------------------------------------------------------- */

static const char *line_of(const char *text, int32_t json)
{
	static char out[LOG_LINE_MAX + 1];
	struct log_line l = {
		.wall_ms = 1795342272123, .level = CHATD_LOG_INFO, .json = json, .who = "http", .text = text
	};
	out[log_format(out, LOG_LINE_MAX, &l)] = '\0';
	return out;
}

#define HEAD "2026-11-22T10:11:12.123Z INFO  http: "

TEST(log_line_is_text_or_json)
{
	UNUSED;
	assert_string_equal(line_of("listening", 0), HEAD "listening\n");
	assert_string_equal(line_of("say \"hi\" \\", 1),
			"{\"time\":\"2026-11-22T10:11:12.123Z\",\"level\":\"info\",\"plugin\":\"http\","
			"\"message\":\"say \\\"hi\\\" \\\\\"}\n");
}

TEST(log_escapes_what_could_forge_a_line)
{
	UNUSED;
	assert_string_equal(line_of("a\nb\x1b[31m\x7f", 0), HEAD "a\\x0ab\\x1b[31m\\x7f\n");
	assert_string_equal(line_of("gr\xc3\xbc\xc3\x9f", 0), HEAD "gr\xc3\xbc\xc3\x9f\n");
	assert_string_equal(line_of("bad \xff\xc3", 0), HEAD "bad \\xff\\xc3\n");
	assert_string_equal(line_of("c1 \xc2\x9b", 0), HEAD "c1 \\x9b\n");
	assert_non_null(strstr(line_of("a\nb\xff\xc2\x9b", 1), "a\\u000ab\\\\xff\\u009b\"}"));
}

TEST(log_shows_no_secret)
{
	UNUSED;
	assert_string_equal(line_of("GET /ws?token=abc.def&x=1", 0), HEAD "GET /ws?token=***&x=1\n");
	assert_string_equal(
			line_of("Authorization: Bearer abc.def", 0), HEAD "Authorization: Bearer ***\n");
	assert_string_equal(line_of("passcode:hunter2 next", 0), HEAD "passcode:*** next\n");
	assert_string_equal(line_of("PASSCODE: hunter2", 0), HEAD "PASSCODE: ***\n");
	assert_string_equal(
			line_of("{\"password\": \"hunter2\"}", 0), HEAD "{\"password\": \"***\"}\n");
	assert_string_equal(line_of("the passcode is wrong", 0), HEAD "the passcode is wrong\n");
	assert_string_equal(line_of("token=a token=b", 0), HEAD "token=*** token=***\n");
	assert_null(strstr(line_of("access_token=\x01secret", 0), "secret"));
}

TEST(log_cuts_a_long_line_and_keeps_it_whole)
{
	UNUSED;
	char *big = malloc(20000);
	memset(big, 0xc3, 19999); /* each becomes four bytes */
	big[19999] = '\0';
	const char *out = line_of(big, 1);
	assert_true(strlen(out) <= LOG_LINE_MAX);
	assert_string_equal(out + strlen(out) - 6, "...\"}\n");
	memset(big, 'a', 19999);
	out = line_of(big, 0);
	assert_true(strlen(out) <= LOG_LINE_MAX && strlen(out) > LOG_LINE_MAX - 20);
	assert_string_equal(out + strlen(out) - 4, "...\n");
	free(big);
}

static size_t drain_pipe(int fd, char *to, size_t max)
{
	ssize_t n = read(fd, to, max - 1);
	to[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

TEST(log_obeys_level_and_limit)
{
	UNUSED;
	int p[2];
	char out[4096];
	assert_int_equal(pipe(p), 0);
	log_to(p[1]);
	log_open(CHATD_LOG_WARN, 0);
	log_write(CHATD_LOG_INFO, "a", "not this");
	for (int i = 0; i < 50; i++)
		log_limited(CHATD_LOG_WARN, "tcp", "reset", "peer %d", i);
	log_limited(CHATD_LOG_WARN, "tcp", "other", "other");
	log_write(CHATD_LOG_ERROR, NULL, "%s", "last");
	log_open(CHATD_LOG_INFO, 0);
	log_to(STDERR_FILENO);
	drain_pipe(p[0], out, sizeof(out));
	assert_null(strstr(out, "not this"));
	assert_non_null(strstr(out, "WARN  tcp: peer 0\n"));
	assert_null(strstr(out, "peer 1"));
	assert_non_null(strstr(out, "tcp: other\n"));
	assert_non_null(strstr(out, "ERROR core: last\n"));
	close(p[0]);
	close(p[1]);
}

/* ---- ids and hashes ----------------------------------------------------- */

enum { THREADS = 4, IDS = 20000 };

static void *make_ids(void *arg)
{
	char(*ids)[37] = arg;
	for (int i = 0; i < IDS; i++)
		id_new(ids[i]);
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

TEST(ids_are_uuid7_rising_and_never_twice)
{
	UNUSED;
	pthread_t t[THREADS];
	char(*ids)[37] = calloc((size_t)THREADS * IDS, 37);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, make_ids, ids + i * IDS), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int k = 0; k < THREADS; k++)
		for (int i = 1; i < IDS; i++)
			assert_true(strcmp(ids[k * IDS + i - 1], ids[k * IDS + i]) < 0);
	assert_int_equal(strlen(ids[0]), 36);
	assert_int_equal(ids[0][14], '7');
	assert_non_null(strchr("89ab", ids[0][19]));
	assert_int_equal(strspn(ids[0], "0123456789abcdef-"), 36);
	/* The time that is in it is the time. */
	int64_t ms = strtoll(
			(char[]){ ids[0][0], ids[0][1], ids[0][2], ids[0][3], ids[0][4], ids[0][5], ids[0][6],
					ids[0][7], ids[0][9], ids[0][10], ids[0][11], ids[0][12], 0 },
			NULL, 16);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	assert_true(llabs(ms - (int64_t)now.tv_sec * 1000) < 100000);
	qsort(ids, (size_t)THREADS * IDS, 37, by_text);
	for (int i = 1; i < THREADS * IDS; i++)
		assert_memory_not_equal(ids[i - 1], ids[i], 18); /* also without the random part */
	free(ids);
}

TEST(hex_is_lower_case)
{
	UNUSED;
	char out[7];
	id_hex(out, "\x00\xab\xff", 3);
	assert_string_equal(out, "00abff");
}

struct entry {
	char name[16];
	UT_hash_handle hh;
};

TEST(map_finds_and_forgets)
{
	UNUSED;
	struct entry *all = NULL, *e, *tmp;
	map_init();
	for (int i = 0; i < 1000; i++) {
		e = calloc(1, sizeof(*e));
		snprintf(e->name, sizeof(e->name), "n%d", i);
		HASH_ADD_STR(all, name, e);
		assert_true(MAP_ADDED(e, hh));
	}
	HASH_FIND_STR(all, "n777", e);
	assert_non_null(e);
	HASH_FIND_STR(all, "n1000", e);
	assert_null(e);
	uint64_t h = map_hash("x", 1);
	map_init(); /* a second call keeps the key */
	assert_true(map_hash("x", 1) == h && map_hash("y", 1) != h);
	HASH_ITER(hh, all, e, tmp)
	{
		HASH_DEL(all, e);
		free(e);
	}
}

/* ---- memory ------------------------------------------------------------- */

TEST(buffer_grows_to_the_front)
{
	UNUSED;
	chatd_buf *b = buf_new(4, 3);
	memcpy(buf_data(b), "abc", 3);
	assert_null(buf_push(b, 5));
	memcpy(buf_push(b, 2), "->", 2);
	assert_int_equal(buf_len(b), 5);
	assert_memory_equal(buf_data(b), "->abc", 5);
	buf_trim(b, 9);
	assert_int_equal(buf_len(b), 5);
	buf_trim(b, 3);
	assert_true(str_is(buf_str(b), "->a"));
	assert_ptr_equal(buf_ref(b), b);
	buf_unref(b);
	assert_non_null(buf_push(b, 2));
	assert_null(buf_push(b, 1));
	buf_unref(b);
	buf_unref(NULL);
	assert_null(buf_new(8, SIZE_MAX - 16));
	assert_null(buf_new(SIZE_MAX, 8));
	b = buf_copy(0, CHATD_LIT("hello"));
	assert_true(str_is(buf_str(b), "hello"));
	buf_unref(b);
	b = buf_copy(0, chatd_str_of(NULL, 0));
	assert_int_equal(buf_len(b), 0);
	buf_unref(b);
}

TEST(arena_is_zeroed_and_aligned)
{
	UNUSED;
	struct arena a = { 0 };
	for (size_t i = 1; i < 5000; i += 37) {
		unsigned char *p = arena_alloc(&a, i);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t k = 0; k < i; k++)
			assert_int_equal(p[k], 0);
		memset(p, 0xff, i);
	}
	assert_string_equal(arena_text(&a, "abcdef", 3), "abc");
	assert_null(arena_alloc(&a, SIZE_MAX));
	arena_finish(&a);
	assert_null(a.blocks);
	arena_finish(&a);
}

/* ---- text --------------------------------------------------------------- */

TEST(utf8_is_what_rfc_3629_says)
{
	UNUSED;
	static const char *const good[] = { "", "plain ascii, long enough for words", "\xc2\x80",
		"\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
		"12345678\xc3\xa4"
		"12345678",
		NULL };
	static const char *const bad[] = { "\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xef\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
		"\xff",
		"12345678\xc3"
		"12345678",
		"1234567\xc3", NULL };
	for (size_t i = 0; good[i]; i++)
		assert_true(utf8_valid(good[i], strlen(good[i])));
	for (size_t i = 0; bad[i]; i++)
		assert_false(utf8_valid(bad[i], strlen(bad[i])));
	assert_true(utf8_valid("a\0b", 3));
	assert_int_equal(utf8_char("\xe2\x82\xac"
							   "uro",
							 6),
			3);
	assert_int_equal(utf8_char("\xe2\x82", 2), 0);
}

TEST(utf8_may_be_split_anywhere)
{
	UNUSED;
	static const char text[] = "gr\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80 and some more text";
	size_t n = sizeof(text) - 1;
	for (size_t cut = 0; cut <= n; cut++) {
		struct utf8_state u = { 0, 0, 0 };
		assert_int_equal(utf8_feed(&u, text, cut), 0);
		assert_int_equal(utf8_feed(&u, text + cut, n - cut), 0);
		assert_int_equal(u.need, 0);
	}
	struct utf8_state s = { 0, 0, 0 };
	assert_int_equal(utf8_feed(&s, "\xed", 1), 0);
	assert_int_equal(utf8_feed(&s, "\xa0", 1), -1); /* a surrogate is refused at once */
}

TEST(strings_compare)
{
	UNUSED;
	uint64_t v = 7;
	assert_true(str_eq(CHATD_LIT("ab"), CHATD_LIT("ab")));
	assert_true(str_eq(chatd_str_of(NULL, 0), CHATD_LIT("")));
	assert_false(str_eq(CHATD_LIT("ab"), CHATD_LIT("abc")));
	assert_true(str_caseeq(CHATD_LIT("Content-Length"), CHATD_LIT("content-LENGTH")));
	assert_false(str_caseeq(CHATD_LIT("\xc3\x84"), CHATD_LIT("\xc3\xa4")));
	assert_true(str_starts(CHATD_LIT("/topic/a"), CHATD_LIT("/topic/")));
	assert_false(str_starts(CHATD_LIT("/to"), CHATD_LIT("/topic/")));
	assert_true(str_cmp(CHATD_LIT("a"), CHATD_LIT("ab")) < 0);
	assert_true(str_cmp(CHATD_LIT("\xff"), CHATD_LIT("a")) > 0);
	assert_int_equal(str_u64(CHATD_LIT("18446744073709551615"), &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(str_u64(CHATD_LIT("18446744073709551616"), &v), -1);
	assert_int_equal(str_u64(CHATD_LIT("-1"), &v), -1);
	assert_int_equal(str_u64(CHATD_LIT(""), &v), -1);
	char *copy = str_dup(CHATD_LIT("copy"));
	assert_string_equal(copy, "copy");
	free(copy);
}

TEST(near_misses_are_found)
{
	UNUSED;
	static const char *const names[] = { "address", "listen", "ttl", "max_frame", NULL };
	assert_string_equal(str_near("adress", names), "address");
	assert_string_equal(str_near("lsiten", names), "listen");
	assert_string_equal(str_near("maxframe", names), "max_frame");
	assert_string_equal(str_near("tll", names), "ttl");
	assert_null(str_near("zebra", names));
	assert_null(str_near("", names));
	assert_null(str_near("x", NULL));
	assert_int_equal(str_distance("ab", "ba", 5), 1);
	assert_int_equal(str_distance("kitten", "sitting", 5), 3);
	assert_int_equal(str_distance("kitten", "sitting", 1), 2);
}

/* ---- complaints --------------------------------------------------------- */

static char *printed(const struct diag *d)
{
	char *p = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&p, &n);
	diag_print(d, f);
	fclose(f);
	return p;
}

TEST(complaints_come_in_the_order_of_lines)
{
	UNUSED;
	struct diag d = { 0 };
	struct diag_at at = {
		.file = "f.yaml", .line = 42, .col = 3, .len = 3, .source = CHATD_LIT("  abc\x1b: \td")
	};
	diag_add(&d, NULL, "no place");
	diag_add(&d, &at, "first said\nsecond line\nthird");
	at.line = 7;
	at.col = 1;
	at.len = 1;
	diag_add(&d, &at, "earlier %d", 5);
	at.line = 0;
	diag_add(&d, &at, "the file");
	char *p = printed(&d);
	assert_string_equal(p,
			"error: no place\n"
			"f.yaml:7:1: error: earlier 5\n"
			"    7 |   abc?:  d\n"
			"      | ^\n"
			"f.yaml:42:3: error: first said\n"
			"   42 |   abc?:  d\n"
			"      |   ^~~\n"
			"       second line\n"
			"       third\n"
			"f.yaml: error: the file\n");
	free(p);
	diag_hide(&d, "f.yaml", 42);
	p = printed(&d);
	assert_null(strstr(p, "42 |"));
	assert_non_null(strstr(p, "7 |"));
	free(p);
	assert_int_equal(diag_count(&d), 4);
	diag_finish(&d);
	assert_int_equal(diag_count(&d), 0);
}

TEST(complaints_are_bounded)
{
	UNUSED;
	struct diag d = { 0 };
	for (int i = 0; i < DIAG_MAX + 7; i++)
		diag_add(&d, NULL, "x");
	assert_int_equal(diag_count(&d), DIAG_MAX + 7);
	char *p = printed(&d);
	assert_non_null(strstr(p, "error: and 7 more\n"));
	free(p);
	diag_finish(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_line_is_text_or_json),
		cmocka_unit_test(log_escapes_what_could_forge_a_line),
		cmocka_unit_test(log_shows_no_secret),
		cmocka_unit_test(log_cuts_a_long_line_and_keeps_it_whole),
		cmocka_unit_test(log_obeys_level_and_limit),
		cmocka_unit_test(ids_are_uuid7_rising_and_never_twice),
		cmocka_unit_test(hex_is_lower_case),
		cmocka_unit_test(map_finds_and_forgets),
		cmocka_unit_test(buffer_grows_to_the_front),
		cmocka_unit_test(arena_is_zeroed_and_aligned),
		cmocka_unit_test(utf8_is_what_rfc_3629_says),
		cmocka_unit_test(utf8_may_be_split_anywhere),
		cmocka_unit_test(strings_compare),
		cmocka_unit_test(near_misses_are_found),
		cmocka_unit_test(complaints_come_in_the_order_of_lines),
		cmocka_unit_test(complaints_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

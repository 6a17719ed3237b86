/* SPDX-License-Identifier: Apache-2.0 */
/* Limits that are drawn from in a Redis that answers when the test says so; the script itself is
 * tested with a real one, in tests/presence. */
#include "../redis/fake.h"

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

enum { SECOND = 1000000 };

static struct kit *start(const char *yaml)
{
	static const struct kit_service services[] = { { CHATD_REDIS, &redis_vt, NULL },
		{ CHATD_PRESENCE, &presence_vt, NULL }, { NULL, NULL, NULL } };
	static const struct kit_conf conf = { .workers = 4, .services = services };
	redis = (struct fake_redis){ .nodes = 3 };
	redis.k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	return redis.k;
}

/* which, wait in seconds, and that many buckets of which so many seconds are missing. */
static void answer_numbers(int64_t which, int64_t wait, size_t n, int64_t used)
{
	struct chatd_redis_reply items[8];
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ARRAY, .items = items, .n = n + 2 };
	for (size_t i = 0; i < n + 2; i++) {
		items[i] = (struct chatd_redis_reply){ .type = CHATD_REDIS_INTEGER };
		items[i].integer = i == 0 ? which : (i == 1 ? wait : used) * SECOND;
	}
	answer(0, &r);
}

static struct kit_client *come(struct kit *k, int32_t worker, const char *peer)
{
	return kit_login(k, worker, "kit-user", "ann", "peer", peer, (char *)NULL);
}

static void try_login(struct kit *k, const char *peer)
{
	kit_login(k, 0, "login", "ann", "passcode", "guess", "peer", peer, (char *)NULL);
}

#define LIMITS                                                                               \
	"user_connections: 0\nconnects_burst: 12\nconnects_per_minute: 60\n"                     \
	"logins_burst: 6\nlogins_per_minute: 60\n"                                               \
	"calls_burst: 9\ncalls_per_minute: 60\nuser_calls_burst: 6\nuser_calls_per_minute: 60\n" \
	"rest:\n"                                                                                \
	"  - {prefix: /api/a, per_minute: 60, burst: 3}\n"                                       \
	"  - {prefix: /api/a/b, per_minute: 60, burst: 6}\n"                                     \
	"  - {prefix: /api/a, by: user, per_minute: 60, burst: 3}\n"

/* ---- CONNECT ------------------------------------------------------------------------------- */

TEST(a_connect_asks_once_for_all_its_limits)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	struct kit_client *c = come(k, 2, "203.0.113.9");
	kit_expect_waiting(k, 1);
	assert_int_equal(redis.n, 1);
	assert_int_equal(redis.calls[0].worker, 2);
	assert_int_equal(redis.calls[0].n_keys, 1);
	assert_string_equal(redis.calls[0].argv[0], "t:rate:connect:203.0.113.9");
	answer_numbers(0, 0, 1, 1);
	kit_expect_waiting(k, 0);
	assert_true(kit_is_open(c));
	try_login(k, "203.0.113.9");
	assert_int_equal(redis.n, 1);
	assert_int_equal(redis.calls[0].n_keys, 2);
	assert_int_equal(redis.calls[0].n, 10);
	assert_string_equal(redis.calls[0].argv[1], "t:rate:login:203.0.113.9");
	assert_string_equal(redis.calls[0].argv[2], "1000000");  /* a token a second */
	assert_string_equal(redis.calls[0].argv[3], "12000000"); /* a burst of twelve */
	assert_string_equal(redis.calls[0].argv[4], "1");
	assert_string_equal(redis.calls[0].argv[5], "0"); /* Redis knows it all */
	assert_string_equal(redis.calls[0].argv[7], "6000000");
	answer_numbers(2, 3, 2, 1);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many logins");
	kit_expect_reply(k, "retryAfterSeconds", "3");
	kit_free(k);
}

TEST(what_is_known_to_be_empty_is_not_asked_about)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	try_login(k, "203.0.113.9");
	answer_numbers(2, 1, 2, 6);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many logins");
	try_login(k, "203.0.113.9");
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many logins");
	assert_int_equal(redis.n, 0);
	kit_advance(k, 980); /* it would be near enough for a bucket of this node's own */
	try_login(k, "203.0.113.9");
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many logins");
	assert_int_equal(redis.n, 0);
	(void)come(k, 0, "203.0.113.9"); /* there are connections left */
	assert_int_equal(redis.n, 1);
	answer_numbers(0, 0, 1, 7);
	kit_expect_accept(k);
	kit_advance(k, 20);
	try_login(k, "203.0.113.9");
	assert_int_equal(redis.n, 1);
	answer_numbers(0, 0, 2, 1);
	kit_free(k);
}

TEST(places_are_taken_once_it_is_known_that_there_may_be_one_more)
{
	UNUSED;
	struct kit *k = start("address_connections: 2\n");
	struct kit_client *c[3];
	for (int i = 0; i < 3; i++) {
		c[i] = come(k, i, "203.0.113.9");
	}
	kit_expect_waiting(k, 3);
	for (int i = 0; i < 3; i++) {
		answer_numbers(0, 0, 1, 1);
	}
	assert_true(kit_is_open(c[0]) && kit_is_open(c[1]) && !kit_is_open(c[2]));
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "2 at a time");
	kit_free(k);
}

TEST(who_leaves_meanwhile_leaves_nothing)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	struct kit_client *c = come(k, 1, "203.0.113.9");
	kit_close(c);
	answer_numbers(0, 0, 1, 1);
	c = come(k, 1, "203.0.113.9");
	kit_close(c);
	answer(-ETIMEDOUT, NULL);
	kit_expect_waiting(k, 0);
	kit_free(k);
}

/* ---- without Redis --------------------------------------------------------------------------- */

static int n_let_in(struct kit *k, const char *peer, void (*then)(void))
{
	for (int n = 0; n < 50; n++) {
		(void)come(k, n & 3, peer);
		if (redis.n) {
			then();
		}
		if (kit_reply(k, "retryAfterSeconds").p) {
			kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many connections");
			return n;
		}
	}
	return 50;
}

static void no_answer(void)
{
	answer(-ETIMEDOUT, NULL);
}

static void bad_answer(void)
{
	static const struct chatd_redis_reply text = { .type = CHATD_REDIS_TEXT },
										  one = { .type = CHATD_REDIS_INTEGER, .integer = 1 },
										  less = { .type = CHATD_REDIS_INTEGER, .integer = -1 },
										  far = { .type = CHATD_REDIS_INTEGER, .integer = 2 };
	const struct chatd_redis_reply items[][3] = { { one, one, text }, { one, less, one },
		{ far, one, one }, { one, one, one } };
	static size_t turn;
	size_t i = turn++ % 4;
	const struct chatd_redis_reply r = {
		.type = CHATD_REDIS_ARRAY, .items = items[i], .n = i == 3 ? 2 : 3
	};
	answer(0, &r);
}

static void error_answer(void)
{
	const struct chatd_redis_reply r = { .type = CHATD_REDIS_ERROR, .text = CHATD_LIT("no") };
	answer(-EPROTO, &r);
}

TEST(a_node_grants_its_part_when_no_answer_comes)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	assert_int_equal(n_let_in(k, "203.0.113.1", no_answer), 4);
	assert_int_equal(n_let_in(k, "203.0.113.2", bad_answer), 4);
	assert_int_equal(n_let_in(k, "203.0.113.3", error_answer), 4);
	kit_expect_logged(k, "Redis cannot count: no");
	redis.down = 1;
	assert_int_equal(n_let_in(k, "203.0.113.4", no_answer), 4);
	redis.nodes = 0; /* nobody knows of any other */
	assert_int_equal(n_let_in(k, "203.0.113.5", no_answer), 12);
	/* What was granted so is told. */
	redis.down = 0;
	kit_advance(k, 3000);
	(void)come(k, 0, "203.0.113.5");
	assert_string_equal(redis.calls[0].argv[4], "9000000");
	answer_numbers(0, 0, 1, 10);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(a_server_full_of_parked_calls_grants_its_part)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	kit_refuse_suspend(k, 1);
	assert_int_equal(n_let_in(k, "203.0.113.1", no_answer), 4);
	assert_int_equal(redis.n, 0);
	kit_free(k);
}

TEST(a_part_is_drawn_from_all_buckets_or_none)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	redis.down = 1;
	for (int i = 0; i < 10; i++) {
		try_login(k, "203.0.113.1");
		kit_expect_reject(k, i < 2 ? "UNAUTHORIZED" : "RATE_LIMIT_EXCEEDED", NULL);
	}
	/* Two of four are left: the eight that were refused cost none. */
	assert_int_equal(n_let_in(k, "203.0.113.1", no_answer), 2);
	kit_free(k);
}

/* ---- REST ------------------------------------------------------------------------------------ */

TEST(a_call_asks_once_for_all_limits_of_its_address_and_once_for_those_of_its_user)
{
	UNUSED;
	struct kit *k = start(LIMITS);
	const struct chatd_identity ann = {
		.struct_size = sizeof(ann), .user = CHATD_LIT("ann"), .name = CHATD_LIT("Ann")
	};
	kit_request(k, NULL, "GET", "/api/a/b", "peer", "203.0.113.9", (char *)NULL);
	kit_expect_waiting(k, 1);
	assert_int_equal(redis.n, 1);
	assert_int_equal(redis.calls[0].n_keys, 3);
	assert_string_equal(redis.calls[0].argv[0], "t:rate:rest:203.0.113.9");
	assert_string_equal(redis.calls[0].argv[1], "t:rate:rest1:203.0.113.9");
	assert_string_equal(redis.calls[0].argv[2], "t:rate:rest2:203.0.113.9");
	answer_numbers(3, 2, 3, 1);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many calls of this kind: 6 at once");
	kit_expect_reply(k, "retryAfterSeconds", "2");
	kit_request(k, &ann, "GET", "/api/a/b", "peer", "203.0.113.9", (char *)NULL);
	assert_int_equal(redis.calls[0].n_keys, 2);
	assert_string_equal(redis.calls[0].argv[0], "t:rate:rest:auth:ann");
	assert_string_equal(redis.calls[0].argv[1], "t:rate:rest3:auth:ann");
	answer_numbers(0, 0, 2, 1);
	kit_expect_accept(k);
	kit_request(k, NULL, "GET", "/api/x", "peer", "127.0.0.1", (char *)NULL);
	kit_expect_accept(k); /* exempt: nobody is asked */
	assert_int_equal(redis.n, 0);
	kit_request(k, NULL, "GET", "/api/x", "peer", "203.0.113.9", (char *)NULL);
	assert_int_equal(redis.calls[0].n_keys, 1);
	answer(-ETIMEDOUT, NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(each_node_does_for_itself_what_is_not_to_be_shared)
{
	UNUSED;
	struct kit *k = start(LIMITS "shared: never\n");
	assert_int_equal(n_let_in(k, "203.0.113.1", no_answer), 12);
	assert_int_equal(redis.n, 0);
	kit_free(k);
}

static void a_little_of_everything(void)
{
	struct kit *k = start(LIMITS);
	try_login(k, "203.0.113.9");
	answer_numbers(0, 0, 2, 1);
	kit_request(k, NULL, "GET", "/api/a/b", "peer", "203.0.113.9", (char *)NULL);
	answer(-ETIMEDOUT, NULL);
	while (redis.n) {
		answer(-ETIMEDOUT, NULL);
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(a_little_of_everything);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connect_asks_once_for_all_its_limits),
		cmocka_unit_test(what_is_known_to_be_empty_is_not_asked_about),
		cmocka_unit_test(places_are_taken_once_it_is_known_that_there_may_be_one_more),
		cmocka_unit_test(who_leaves_meanwhile_leaves_nothing),
		cmocka_unit_test(a_node_grants_its_part_when_no_answer_comes),
		cmocka_unit_test(a_server_full_of_parked_calls_grants_its_part),
		cmocka_unit_test(a_part_is_drawn_from_all_buckets_or_none),
		cmocka_unit_test(
				a_call_asks_once_for_all_limits_of_its_address_and_once_for_those_of_its_user),
		cmocka_unit_test(each_node_does_for_itself_what_is_not_to_be_shared),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

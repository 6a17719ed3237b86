/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses that are counted in a Redis which answers when the test says so; the script itself is
 * tested with a real one, in tests/presence. */
#include "../redis/fake.h"
#include "fakes.h"

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

#define post(k, path, body, ...) kit_http(k, "POST", "/api/auth/" path, body, ##__VA_ARGS__, NULL)
#define ANN                      "{\"email\":\"ann@example.org\",\"password\":\"right horse\"}"
#define ANN_WRONG                "{\"email\":\"ann@example.org\",\"password\":\"wrong horse\"}"
#define NOBODY                   "{\"email\":\"no@example.org\",\"password\":\"wrong horse\"}"

static struct kit *start(const char *yaml)
{
	static const struct kit_service more[] = { { CHATD_REDIS, &redis_vt, NULL },
		{ CHATD_PRESENCE, &presence_vt, NULL }, { NULL, NULL, NULL } };
	memset(&redis, 0, sizeof(redis));
	redis.nodes = 3;
	redis.k = fakes_kit_with(&chatd_plugin_under_test, yaml, more);
	return redis.k;
}

/* {wait, known} and so many failures of each of @p n that count. */
static void answer_numbers(int64_t wait, int64_t known, size_t n, int64_t fails)
{
	struct chatd_redis_reply items[8];
	const struct chatd_redis_reply r = {
		.type = CHATD_REDIS_ARRAY, .items = items, .n = 2 + 2 * n
	};
	for (size_t i = 0; i < r.n; i++) {
		items[i] = (struct chatd_redis_reply){ .type = CHATD_REDIS_INTEGER };
		items[i].integer = i == 0 ? wait : i == 1 ? known : i % 2 == 0 ? fails : 0;
	}
	answer(0, &r);
}

/* The oldest call is this one: its mode, its keys without their beginning, separated by blanks. */
static void expect_call(const char *mode, const char *keys)
{
	char got[600] = "";
	if (kit_failing(fakes.k)) {
		return;
	}
	assert_true(redis.n > 0);
	const struct call *c = &redis.calls[0];
	for (size_t i = 0; i < c->n_keys; i++) {
		assert_memory_equal(c->argv[i], "t:auth:", 7);
		snprintf(
				got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "", c->argv[i] + 7);
	}
	assert_string_equal(got, keys);
	assert_string_equal(c->argv[c->n_keys], mode);
}

/* What is owed of the first that counts, and for how long it waits. */
static void expect_owed(const char *fails)
{
	assert_string_equal(redis.calls[0].argv[redis.calls[0].n_keys + 8], fails);
}

#define PEER "c0000201" /* the kit's clients come from 192.0.2.1 */
#define NOBODYS_KEYS                            \
	"fails:login:pair:" PEER "-no@example.org " \
	"fails:login:account:no@example.org "       \
	"fails:login:address:" PEER " known:" PEER "-no@example.org"

static void know_ann(void)
{
	kit_expect_http(post(fakes.k, "register", ANN), 201, "");
	assert_int_equal(redis.n, 0);
}

/* ---- logins ------------------------------------------------------------------------------- */

TEST(a_guess_waits_for_redis_before_and_after)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = post(k, "authenticate", NOBODY);
	assert_int_equal(kit_http_status(r), 0);
	expect_call("begin", NOBODYS_KEYS);
	const struct call *c = &redis.calls[0];
	assert_int_equal(c->n, 4 + 4 + 18);
	static const char *const first[] = { "begin", "1", "30000", "2592000000", "5", "1000", "900000",
		"3600000", "0", "0", "20", "1000", "60000", "3600000", "0", "0", "20", "1000", "300000",
		"300000", "0", "0" };
	for (size_t i = 0; i < 22; i++) {
		assert_string_equal(c->argv[4 + i], first[i]);
	}
	answer_numbers(0, 0, 3, 0);
	assert_int_equal(kit_http_status(r), 0); /* compared, and not counted yet */
	expect_call("wrong", NOBODYS_KEYS);
	answer_numbers(0, 0, 3, 1);
	kit_expect_http(r, 401, "INVALID_CREDENTIALS");
	r = post(k, "authenticate", NOBODY);
	answer_numbers(1500, 0, 3, 5);
	kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
	assert_memory_equal(kit_http_header(r, "Retry-After").p, "2", 1);
	assert_int_equal(redis.n, 0);
	kit_free(k);
}

TEST(who_is_known_there_is_counted_by_the_pair_alone)
{
	UNUSED;
	struct kit *k = start("");
	know_ann();
	struct kit_req *r = post(k, "authenticate", ANN);
	assert_int_equal(redis.calls[0].n_keys, 4);
	answer_numbers(0, 1, 3, 0);
	assert_int_equal(redis.calls[0].n_keys, 2);
	assert_memory_equal(redis.calls[0].argv[0], "t:auth:fails:login:pair:", 24);
	assert_memory_equal(redis.calls[0].argv[1], "t:auth:known:", 13);
	assert_string_equal(redis.calls[0].argv[2], "right");
	answer_numbers(0, 1, 1, 0);
	kit_expect_http(r, 200, "accessToken");
	kit_free(k);
}

TEST(a_connect_is_a_guess_as_well)
{
	UNUSED;
	struct kit *k = start("");
	kit_login(k, 1, "login", "no@example.org", "passcode", "x", "peer", "192.0.2.1", (char *)NULL);
	kit_expect_waiting(k, 1);
	expect_call("begin", NOBODYS_KEYS);
	assert_int_equal(redis.calls[0].worker, 1);
	answer_numbers(0, 0, 3, 0);
	expect_call("wrong", NOBODYS_KEYS);
	answer_numbers(0, 0, 3, 1);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_free(k);
}

TEST(who_hangs_up_leaves_nothing_behind_and_has_guessed)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = post(k, "authenticate", NOBODY);
	kit_http_gone(r);
	answer_numbers(0, 0, 3, 0);
	expect_call("neither", NOBODYS_KEYS);
	answer_numbers(0, 0, 3, 0);
	kit_hold_offload(k, 1);
	r = post(k, "authenticate", NOBODY);
	answer_numbers(0, 0, 3, 0);
	kit_http_gone(r); /* while the hash is made */
	kit_hold_offload(k, 0);
	kit_run(k);
	expect_call("wrong", NOBODYS_KEYS);
	answer_numbers(0, 0, 3, 1);
	r = post(k, "authenticate", NOBODY);
	answer_numbers(0, 0, 3, 1);
	kit_http_gone(r); /* while it is counted */
	answer(-ETIMEDOUT, NULL);
	assert_int_equal(redis.n, 0);
	kit_free(k);
}

/* ---- without Redis ------------------------------------------------------------------------ */

static int n_guesses(struct kit *k, int answered)
{
	for (int n = 0; n < 30; n++) {
		struct kit_req *r = post(k, "authenticate", NOBODY);
		if (redis.n) {
			answer(answered ? -EPROTO : -ETIMEDOUT,
					&(struct chatd_redis_reply){
							.type = CHATD_REDIS_ERROR, .text = CHATD_LIT("no") });
		}
		if (kit_http_status(r) == 429) {
			return n;
		}
		kit_expect_http(r, 401, "");
	}
	return 30;
}

TEST(a_node_allows_its_part_while_redis_is_away_and_tells_it_later)
{
	UNUSED;
	struct kit *k = start("");
	redis.down = 1;
	assert_int_equal(n_guesses(k, 0), 2); /* five over three nodes */
	redis.down = 0;
	kit_advance(k, 60000);
	post(k, "authenticate", NOBODY);
	expect_owed("2");
	answer(-ETIMEDOUT, NULL); /* so it is not known there yet: counted here, the third */
	post(k, "authenticate", NOBODY);
	expect_owed("3");
	answer_numbers(0, 0, 3, 3);
	expect_owed("0");
	answer_numbers(0, 0, 3, 4);
	struct kit_req *r = post(k, "authenticate", NOBODY);
	expect_owed("0"); /* told once */
	/* What was learned counts when it goes again: 4 of 5, one more and there are delays. */
	answer(-ECONNRESET, NULL);
	kit_expect_http(r, 401, "");
	redis.down = 1;
	assert_int_equal(n_guesses(k, 0), 0);
	kit_free(k);
}

TEST(an_error_or_nonsense_counts_as_no_answer)
{
	UNUSED;
	struct kit *k = start("");
	assert_int_equal(n_guesses(k, 1), 2);
	kit_expect_logged(k, "Redis cannot count guesses: no");
	kit_free(k);
	k = start("");
	const struct chatd_redis_reply text = { .type = CHATD_REDIS_TEXT, .text = CHATD_LIT("x") };
	struct kit_req *r = post(k, "authenticate", NOBODY);
	answer(0, &text);
	kit_expect_http(r, 401, "");
	r = post(k, "authenticate", NOBODY);
	answer_numbers(0, 0, 2, 0); /* of three */
	kit_expect_http(r, 401, "");
	r = post(k, "authenticate", NOBODY);
	answer_numbers(0, 0, 3, -1);
	kit_expect_http(r, 429, "");
	kit_free(k);
}

TEST(a_guess_whose_end_redis_does_not_hear_of_is_owed)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_req *r = post(k, "authenticate", NOBODY);
	answer_numbers(0, 0, 3, 0);
	expect_call("wrong", NOBODYS_KEYS);
	answer(-ETIMEDOUT, NULL);
	kit_expect_http(r, 401, "");
	r = post(k, "authenticate", NOBODY);
	expect_owed("1");
	answer_numbers(0, 0, 3, 1);
	answer_numbers(0, 0, 3, 2);
	kit_expect_http(r, 401, "");
	kit_free(k);
}

TEST(one_node_or_never_shared_is_as_without_redis)
{
	UNUSED;
	struct kit *k = start("shared: never");
	assert_int_equal(n_guesses(k, 0), 5);
	kit_free(k);
	k = start("");
	redis.down = 1;
	redis.nodes = 0;
	assert_int_equal(n_guesses(k, 0), 5);
	kit_free(k);
}

/* ---- codes and mails ---------------------------------------------------------------------- */

TEST(mails_count_at_once_and_codes_when_they_are_wrong)
{
	UNUSED;
	struct kit *k = start("");
	know_ann();
	kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "");
	assert_int_equal(fakes.mails, 0);
	assert_int_equal(redis.calls[0].n_keys, 3);
	assert_string_equal(redis.calls[0].argv[3], "count");
	assert_memory_equal(redis.calls[0].argv[0], "t:auth:fails:mail:pair:", 23);
	answer_numbers(0, 0, 3, 1);
	assert_int_equal(fakes.mails, 1);
	assert_int_equal(redis.n, 0);
	kit_expect_http(post(k, "reset", "{\"email\":\"ann@example.org\"}"), 202, "");
	answer_numbers(60000, 0, 3, 2);
	assert_int_equal(fakes.mails, 1);
	char body[200];
	struct kit_req *r = post(k, "reset/confirm", "{\"code\":\"x\",\"password\":\"12345678\"}");
	expect_call("begin", "fails:code:address:" PEER);
	answer_numbers(0, 0, 1, 0);
	expect_call("wrong", "fails:code:address:" PEER);
	assert_int_equal(kit_http_status(r), 0);
	answer_numbers(0, 0, 1, 1);
	kit_expect_http(r, 400, "INVALID_CODE");
	snprintf(body, sizeof(body), "{\"code\":\"%s\",\"password\":\"third horse\"}", fake_code());
	r = post(k, "reset/confirm", body);
	answer_numbers(0, 0, 1, 1);
	expect_call("right", "fails:code:address:" PEER);
	kit_http_gone(r); /* the code is spent: the password is set all the same */
	answer_numbers(0, 0, 1, 1);
	r = post(k, "authenticate", "{\"email\":\"ann@example.org\",\"password\":\"third horse\"}");
	answer_numbers(0, 0, 3, 0);
	answer_numbers(0, 0, 3, 0);
	kit_expect_http(r, 200, "accessToken");
	r = post(k, "verify", body);
	answer_numbers(2000, 0, 1, 10);
	kit_expect_http(r, 429, "");
	kit_free(k);
}

static void a_little_of_everything(void)
{
	struct kit *k = start("");
	post(k, "register", ANN);
	post(k, "authenticate", ANN);
	answer_numbers(0, 0, 3, 0);
	answer_numbers(0, 0, 3, 0);
	post(k, "authenticate", ANN_WRONG);
	answer_numbers(0, 0, 3, 0);
	answer(-ETIMEDOUT, NULL);
	post(k, "reset", "{\"email\":\"ann@example.org\"}");
	answer_numbers(0, 0, 3, 1);
	post(k, "verify", "{\"code\":\"x\"}");
	answer_numbers(0, 0, 1, 0);
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
		cmocka_unit_test(a_guess_waits_for_redis_before_and_after),
		cmocka_unit_test(who_is_known_there_is_counted_by_the_pair_alone),
		cmocka_unit_test(a_connect_is_a_guess_as_well),
		cmocka_unit_test(who_hangs_up_leaves_nothing_behind_and_has_guessed),
		cmocka_unit_test(a_node_allows_its_part_while_redis_is_away_and_tells_it_later),
		cmocka_unit_test(an_error_or_nonsense_counts_as_no_answer),
		cmocka_unit_test(a_guess_whose_end_redis_does_not_hear_of_is_owed),
		cmocka_unit_test(one_node_or_never_shared_is_as_without_redis),
		cmocka_unit_test(mails_count_at_once_and_codes_when_they_are_wrong),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

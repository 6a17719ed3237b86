/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/limiter.h>

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

static struct kit *start(const char *yaml)
{
	const struct kit_conf conf = { .workers = 4 };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

static struct chatd_identity someone(const char *user, uint32_t flags, const char *client)
{
	struct chatd_identity who = { .struct_size = sizeof(who), .flags = flags };
	who.user = chatd_str_of(user, strlen(user));
	who.name = who.user;
	if (client) {
		who.client = chatd_str_of(client, strlen(client));
	}
	return who;
}

static struct kit_client *guest(struct kit *k, int32_t worker, const char *user, const char *client)
{
	const struct chatd_identity who = someone(user, CHATD_ID_ANONYMOUS, client);
	return kit_open_as(k, worker, &who);
}

static int seconds(struct kit *k)
{
	struct chatd_str s = kit_reply(k, "retryAfterSeconds");
	assert_non_null(s.p);
	char text[16];
	snprintf(text, sizeof(text), "%.*s", (int)s.n, s.p);
	return (int)strtol(text, NULL, 10);
}

/* SENDs until one is refused; how many were not. */
static int until_refused(struct kit *k, struct kit_client *c, const char *dest)
{
	for (int n = 0; n < 2000; n++) {
		kit_send(c, dest, "hi", NULL);
		if (kit_reply(k, "retryAfterSeconds").p) {
			kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "try again in");
			return n;
		}
	}
	fail_msg("never refused");
	return -1;
}

/* ---- messages (H123, R16) ---------------------------------------------------------------- */

TEST(h123_a_hundred_at_once_then_as_many_as_flow_in)
{
	UNUSED;
	struct kit *k = start("warn_at: 0");
	struct kit_client *g = guest(k, 0, "g1", "client-1"), *ann = kit_open(k, "ann");
	assert_int_equal(until_refused(k, g, "/topic/x"), 100);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "100 at once and 200 a minute");
	assert_int_equal(seconds(k), 1);
	assert_int_equal(until_refused(k, ann, "/topic/x"), 100);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "100 at once and 500 a minute");
	kit_advance(k, 1000 * seconds(k)); /* whoever waits as long as told gets in */
	assert_int_equal(until_refused(k, g, "/topic/x"), 3);
	assert_in_range(until_refused(k, ann, "/topic/x"), 8, 9);
	kit_advance(k, 60000);
	assert_int_equal(until_refused(k, g, "/topic/x"), 100); /* never more than a full one */
	kit_free(k);
}

TEST(all_sessions_of_a_user_share_one_bucket_on_all_workers)
{
	UNUSED;
	struct kit *k = start("warn_at: 0");
	struct kit_client *ann[4];
	for (int i = 0; i < 4; i++) {
		ann[i] = kit_open_on(k, i, "ann", 0);
	}
	int n = 0;
	for (int i = 0; i < 400; i++) {
		kit_send(ann[i & 3], "/topic/x", "hi", NULL);
		n += !kit_reply(k, "retryAfterSeconds").p;
	}
	assert_int_equal(n, 100);
	kit_close(ann[0]); /* coming back is no way round it */
	struct kit_client *again = kit_open_on(k, 0, "ann", 0);
	assert_int_equal(until_refused(k, again, "/topic/x"), 0);
	assert_int_equal(until_refused(k, kit_open(k, "bob"), "/topic/x"), 100);
	kit_free(k);
}

TEST(guests_of_one_client_share_a_bucket)
{
	UNUSED;
	struct kit *k = start("warn_at: 0");
	assert_int_equal(until_refused(k, guest(k, 0, "g1", "c1"), "/topic/x"), 100);
	assert_int_equal(until_refused(k, guest(k, 1, "g2", "c1"), "/topic/x"), 0);
	assert_int_equal(until_refused(k, guest(k, 1, "g3", "c2"), "/topic/x"), 100);
	assert_int_equal(until_refused(k, guest(k, 1, "g4", NULL), "/topic/x"), 100);
	assert_int_equal(until_refused(k, guest(k, 2, "g4", NULL), "/topic/x"), 0);
	kit_free(k);
}

TEST(a_guest_who_logs_in_has_the_limit_of_an_account)
{
	UNUSED;
	struct kit *k = start("warn_at: 0\nauthenticated_burst: 50");
	struct kit_client *g = guest(k, 0, "ann", "c1");
	assert_int_equal(until_refused(k, g, "/topic/x"), 100);
	const struct chatd_identity account = someone("ann", 0, "c1");
	kit_renew(g, &account);
	assert_int_equal(until_refused(k, g, "/topic/x"), 50);
	kit_free(k);
}

TEST(r17_typing_and_reading_are_limited_too_by_themselves)
{
	UNUSED;
	struct kit *k = start("warn_at: 0");
	struct kit_client *ann = kit_open(k, "ann");
	assert_int_equal(until_refused(k, ann, "/app/chat.typing"), 30);
	assert_int_equal(until_refused(k, ann, "/app/chat.read"), 100);
	assert_int_equal(until_refused(k, ann, "/app/chat.send"), 100);
	kit_free(k);
	k = start("warn_at: 0\nseparate: []");
	ann = kit_open(k, "ann");
	assert_int_equal(until_refused(k, ann, "/app/chat.typing"), 100);
	assert_int_equal(until_refused(k, ann, "/app/chat.send"), 0);
	kit_free(k);
}

TEST(the_longest_prefix_says_what_a_message_costs)
{
	UNUSED;
	struct kit *k = start("warn_at: 0\nseparate: []\ncosts:\n"
						  "  - {prefix: /topic/, cost: 10}\n"
						  "  - {prefix: /topic/free, cost: 0}\n"
						  "  - {prefix: /topic/free/not, cost: 50}\n");
	struct kit_client *ann = kit_open(k, "ann");
	assert_int_equal(until_refused(k, ann, "/topic/x"), 10);
	assert_int_equal(seconds(k), 2); /* 10 tokens at 500 a minute are 1.2 s */
	for (int i = 0; i < 300; i++) {
		kit_send(ann, "/topic/free", "hi", NULL);
		kit_expect_accept(k);
	}
	kit_advance(k, 60000);
	assert_int_equal(until_refused(k, ann, "/topic/free/not"), 2);
	kit_free(k);
}

TEST(exempt_roles_meet_no_limit)
{
	UNUSED;
	struct kit *k = start("exempt_roles: [bot, moderator]");
	struct chatd_identity who = someone("bot", 0, NULL);
	who.roles = CHATD_LIT("robot bot");
	struct kit_client *bot = kit_open_as(k, 0, &who);
	struct kit_client *root = kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
	for (int i = 0; i < 300; i++) {
		kit_send(bot, "/topic/x", "hi", NULL);
		kit_expect_accept(k);
		kit_send(root, "/topic/x", "hi", NULL);
		kit_expect_accept(k);
	}
	who.roles = CHATD_LIT("robot");
	kit_renew(bot, &who); /* and it does as soon as the role is gone */
	assert_int_equal(until_refused(k, bot, "/topic/x"), 100);
	kit_free(k);
}

/* ---- warn, throttle, close ---------------------------------------------------------------- */

TEST(a_notice_comes_once_a_window_when_most_is_used)
{
	UNUSED;
	struct kit *k = start("window: 10s");
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, "/user/queue/errors");
	for (int i = 0; i < 79; i++) {
		kit_send(ann, "/queue/x", "hi", NULL);
	}
	kit_expect_quiet(ann);
	for (int i = 0; i < 10; i++) {
		kit_send(ann, "/queue/x", "hi", NULL);
		kit_expect_accept(k); /* it is a notice, no refusal */
	}
	kit_expect_delivery(ann, "/user/queue/errors", "\"code\":\"RATE_LIMIT_WARNING\"");
	kit_expect_quiet(ann);
	kit_advance(k, 10000); /* 83 have flowed in */
	until_refused(k, ann, "/queue/x");
	kit_expect_delivery(ann, "/user/queue/errors", "80 % of the messages");
	kit_expect_quiet(ann);
	kit_free(k);
}

TEST(who_goes_on_regardless_is_cut_off)
{
	UNUSED;
	struct kit *k = start("warn_at: 0\nclose_after: 20\nwindow: 10s");
	struct kit_client *ann = kit_open(k, "ann"), *bob = kit_open(k, "bob");
	until_refused(k, ann, "/topic/x");
	for (int i = 0; i < 18; i++) {
		kit_send(ann, "/topic/x", "hi", NULL);
	}
	assert_true(kit_is_open(ann));
	kit_send(ann, "/topic/x", "hi", NULL);
	kit_expect_closed(ann, 4429);
	/* The same number over more than a window is what throttling is for. */
	until_refused(k, bob, "/topic/x");
	for (int i = 0; i < 100; i++) {
		kit_advance(k, 600);
		until_refused(k, bob, "/topic/x");
	}
	assert_true(kit_is_open(bob));
	kit_free(k);
}

/* ---- subscriptions ------------------------------------------------------------------------- */

TEST(subscriptions_are_limited_but_not_those_asked_about_again)
{
	UNUSED;
	struct kit *k = start("subscriptions_burst: 5\nsubscriptions_per_minute: 60");
	const struct chatd_identity who = someone("ann", 0, NULL),
								more = someone("ann", CHATD_ID_MODERATOR, NULL);
	struct kit_client *ann = kit_open_as(k, 0, &who);
	static const char *const dest[] = { "/topic/1", "/topic/2", "/topic/3", "/topic/4",
		"/topic/5" };
	for (int i = 0; i < 5; i++) {
		kit_subscribe(ann, dest[i]);
		kit_expect_accept(k);
	}
	kit_subscribe(ann, "/topic/6");
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many subscriptions");
	assert_int_equal(seconds(k), 1);
	kit_renew(ann, &more); /* all five are asked about, none may end */
	kit_in(k, "bob", "/topic/5", "still there");
	kit_expect_delivery(ann, "/topic/5", "still there");
	kit_advance(k, 1000);
	kit_subscribe(ann, "/topic/6");
	kit_expect_accept(k);
	kit_free(k);
}

/* ---- connections (H124) --------------------------------------------------------------------- */

static struct kit_client *come(struct kit *k, int32_t worker, const char *user, const char *peer)
{
	return kit_login(k, worker, "kit-user", user, "peer", peer, (char *)NULL);
}

static int n_come(struct kit *k, const char *peer, int most)
{
	char user[24];
	for (int i = 0; i < most; i++) {
		snprintf(user, sizeof(user), "u%d", i);
		if (!kit_is_open(come(k, i & 3, user, peer))) {
			kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", NULL);
			return i;
		}
	}
	return most;
}

TEST(connects_are_limited_by_address)
{
	UNUSED;
	struct kit *k = start("connects_burst: 7\nconnects_per_minute: 60");
	assert_int_equal(n_come(k, "203.0.113.9", 50), 7);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many connections: 7 at once and 60 a minute");
	assert_int_equal(seconds(k), 1);
	assert_int_equal(n_come(k, "203.0.113.10", 5), 5);
	assert_int_equal(n_come(k, "2001:db8::1", 50), 7);
	assert_int_equal(n_come(k, "2001:db8::ffff:2", 50), 0); /* the same network of 64 bits */
	assert_int_equal(n_come(k, "2001:db8:0:1::1", 5), 5);
	assert_int_equal(n_come(k, "127.0.0.1", 50), 50); /* exempt */
	assert_int_equal(n_come(k, "::1", 50), 50);
	assert_int_equal(n_come(k, "unix", 50), 50);
	kit_advance(k, 1000);
	assert_int_equal(n_come(k, "203.0.113.9", 50), 1);
	kit_free(k);
}

TEST(h124_the_21st_connection_of_a_user_is_refused)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *ann[20];
	for (int i = 0; i < 20; i++) {
		ann[i] = come(k, i & 3, "ann", "203.0.113.9");
		assert_true(kit_is_open(ann[i]));
	}
	assert_false(kit_is_open(come(k, 0, "ann", "198.51.100.7")));
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many connections: 20 at a time");
	assert_true(kit_is_open(come(k, 0, "bob", "203.0.113.9")));
	kit_close(ann[3]);
	assert_true(kit_is_open(come(k, 0, "ann", "198.51.100.7")));
	assert_false(kit_is_open(come(k, 0, "ann", "198.51.100.7")));
	assert_true(kit_is_open(come(k, 0, "ann", "127.0.0.1")));
	kit_free(k);
}

TEST(h124_the_201st_connection_of_an_address_is_refused)
{
	UNUSED;
	struct kit *k = start("connects_burst: 1000");
	assert_int_equal(n_come(k, "203.0.113.9", 300), 200);
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "200 at a time");
	assert_int_equal(n_come(k, "203.0.113.10", 3), 3);
	kit_free(k);
}

TEST(logins_with_a_password_are_limited_by_address)
{
	UNUSED;
	struct kit *k = start("logins_burst: 3\nlogins_per_minute: 6");
	for (int i = 0; i < 4; i++) {
		kit_login(k, 0, "login", "ann", "passcode", "guess", "peer", "203.0.113.9", (char *)NULL);
		kit_expect_reject(k, i < 3 ? "UNAUTHORIZED" : "RATE_LIMIT_EXCEEDED", NULL);
	}
	assert_int_equal(seconds(k), 10);
	assert_true(kit_is_open(come(k, 0, "ann", "203.0.113.9"))); /* a token is no guess */
	kit_free(k);
}

/* ---- REST ------------------------------------------------------------------------------------ */

static int n_calls(
		struct kit *k, const struct chatd_identity *who, const char *call, const char *peer)
{
	char method[16];
	size_t n = strcspn(call, " ");
	snprintf(method, sizeof(method), "%.*s", (int)n, call);
	for (int i = 0; i < 2000; i++) {
		kit_request(k, who, method, call + n + 1, "peer", peer, (char *)NULL);
		if (kit_reply(k, "retryAfterSeconds").p) {
			kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "too many calls");
			return i;
		}
		kit_expect_accept(k);
	}
	return 2000;
}

static const char rest[] =
		"rest:\n"
		"  - {prefix: /api/auth/register, methods: [POST], per_minute: 6, burst: 5}\n"
		"  - {prefix: /api/files, by: user, per_minute: 60, burst: 10}\n";

TEST(r17_calls_are_limited_by_address)
{
	UNUSED;
	struct kit *k = start(rest);
	assert_int_equal(n_calls(k, NULL, "POST /api/auth/register", "203.0.113.9"), 5);
	assert_int_equal(seconds(k), 10);
	assert_int_equal(n_calls(k, NULL, "POST /api/auth/register/", "203.0.113.9"), 0);
	assert_int_equal(n_calls(k, NULL, "POST /api/auth/register", "203.0.113.10"), 5);
	kit_request(k, NULL, "POST", "/api/auth/registered", "peer", "203.0.113.9", (char *)NULL);
	kit_expect_accept(k);
	assert_int_equal(n_calls(k, NULL, "GET /api/auth/register", "203.0.113.11"), 300);
	assert_int_equal(n_calls(k, NULL, "POST /api/auth/register", "127.0.0.1"), 2000);
	kit_advance(k, 10000);
	assert_int_equal(n_calls(k, NULL, "POST /api/auth/register", "203.0.113.9"), 1);
	kit_free(k);
}

TEST(calls_are_limited_by_user_whatever_the_address)
{
	UNUSED;
	struct kit *k = start(rest);
	const struct chatd_identity ann = someone("ann", 0, NULL), bob = someone("bob", 0, NULL),
								g = someone("g1", CHATD_ID_ANONYMOUS, "c1"),
								g2 = someone("g2", CHATD_ID_ANONYMOUS, "c1");
	assert_int_equal(n_calls(k, &ann, "POST /api/files", "203.0.113.9"), 10);
	assert_int_equal(n_calls(k, &ann, "GET /api/files/x", "203.0.113.10"), 0);
	assert_int_equal(n_calls(k, &bob, "POST /api/files", "203.0.113.9"), 10);
	assert_int_equal(n_calls(k, &ann, "GET /api/chat/rooms", "203.0.113.9"), 190);
	assert_int_equal(n_calls(k, &g, "GET /api/chat/rooms", "203.0.113.9"), 200);
	assert_int_equal(n_calls(k, &g2, "GET /api/chat/rooms", "203.0.113.9"), 0);
	kit_free(k);
}

/* ---- the service -------------------------------------------------------------------------------- */

struct asked {
	struct kit *k;
	const char *key;
	int64_t cost;
	chatd_status at_once, rc;
	int64_t retry_ms;
	int answers;
};

static void on_answer(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct asked *a = arg;
	a->rc = rc;
	a->retry_ms = retry_ms;
	a->answers++;
}

static void do_take(void *arg)
{
	struct asked *a = arg;
	struct chatd_service s = kit_provided(a->k, CHATD_LIMITER);
	const struct chatd_limiter *l = s.vt;
	const struct chatd_bucket b = { .struct_size = sizeof(b),
		.key = chatd_str_of(a->key, strlen(a->key)),
		.burst = 5,
		.per_minute = 60,
		.cost = a->cost };
	a->at_once = l->take(s.obj, kit_worker(a->k, 1), &b, on_answer, a);
	assert_int_equal(a->answers, 0); /* never inside the call */
}

static struct asked take(struct kit *k, const char *key, int64_t cost)
{
	struct asked a = { .k = k, .key = key, .cost = cost };
	kit_on(k, 1, do_take, &a);
	return a;
}

TEST(anybody_may_draw_from_buckets_of_their_own)
{
	UNUSED;
	struct kit *k = start("");
	char long_key[202];
	memset(long_key, 'x', 201);
	long_key[201] = '\0';
	for (int i = 0; i < 5; i++) {
		struct asked a = take(k, "register:203.0.113.9", 1);
		assert_int_equal(a.at_once, 0);
		assert_int_equal(a.answers, 1);
		assert_int_equal(a.rc, 0);
	}
	struct asked a = take(k, "register:203.0.113.9", 2);
	assert_int_equal(a.rc, -EDQUOT);
	assert_in_range(a.retry_ms, 1990, 2000);
	assert_int_equal(take(k, "register:203.0.113.10", 5).rc, 0);
	assert_int_equal(take(k, "other:203.0.113.11", 6).rc, -EDQUOT); /* dearer than a full one */
	assert_int_equal(take(k, "other:203.0.113.11", INT64_MAX).rc, -EDQUOT);
	assert_true(take(k, "other:203.0.113.11", INT64_MAX).retry_ms == INT32_MAX);
	assert_int_equal(take(k, "", 1).at_once, -EINVAL);
	assert_int_equal(take(k, long_key, 1).at_once, -EINVAL);
	assert_int_equal(take(k, long_key + 1, 1).rc, 0);
	kit_advance(k, (int64_t)a.retry_ms);
	assert_int_equal(take(k, "register:203.0.113.9", 2).rc, 0);
	kit_free(k);
}

/* ---- mistakes ------------------------------------------------------------------------------------ */

static void expect_complaint(const char *yaml, const char *part)
{
	kit_expect_complaint(&chatd_plugin_under_test, yaml, part);
}

TEST(mistakes_are_named_with_what_to_write_instead)
{
	UNUSED;
	expect_complaint("exempt: [localhost]", "\"localhost\" must be an address or a net");
	expect_complaint("costs: [{prefix: app, cost: 1}]", "must begin with a slash");
	expect_complaint("costs: [{prefix: /a, cost: 101}]",
			"costs 101, which is never granted; write at most 100");
	expect_complaint("rest: [{prefix: /api//x, per_minute: 1, burst: 1}]", "plain words");
	expect_complaint("rest: [{prefix: /api/x, burst: 1}]", "needs per_minute and burst");
	expect_complaint(
			"rest: [{prefix: /a, methods: [FETCH], per_minute: 1, burst: 1}]", "method \"FETCH\"");
	expect_complaint(
			"separate: [{prefix: /app/x}]", "needs per_minute and burst, for example 60 and 10");
	expect_complaint("exempt_roles: [\"a b\"]", "\"a b\" must be moderator, admin or a role word");
	expect_complaint("anonymous_burst: 0", "anonymous_burst");
}

static void a_little_of_everything(void)
{
	struct kit *k = start(rest);
	struct kit_client *ann = come(k, 0, "ann", "203.0.113.9");
	const struct chatd_identity who = someone("ann", 0, NULL);
	if (kit_is_open(ann)) {
		kit_subscribe(ann, "/user/queue/errors");
	}
	for (int i = 0; i < 3 && kit_is_open(ann); i++) {
		kit_send(ann, "/app/chat.typing", "hi", NULL);
	}
	kit_request(k, NULL, "POST", "/api/auth/register", "peer", "203.0.113.9", (char *)NULL);
	kit_request(k, &who, "POST", "/api/files", "peer", "203.0.113.9", (char *)NULL);
	if (!kit_failing(k)) {
		take(k, "x:y", 1);
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
		cmocka_unit_test(h123_a_hundred_at_once_then_as_many_as_flow_in),
		cmocka_unit_test(all_sessions_of_a_user_share_one_bucket_on_all_workers),
		cmocka_unit_test(guests_of_one_client_share_a_bucket),
		cmocka_unit_test(a_guest_who_logs_in_has_the_limit_of_an_account),
		cmocka_unit_test(r17_typing_and_reading_are_limited_too_by_themselves),
		cmocka_unit_test(the_longest_prefix_says_what_a_message_costs),
		cmocka_unit_test(exempt_roles_meet_no_limit),
		cmocka_unit_test(a_notice_comes_once_a_window_when_most_is_used),
		cmocka_unit_test(who_goes_on_regardless_is_cut_off),
		cmocka_unit_test(subscriptions_are_limited_but_not_those_asked_about_again),
		cmocka_unit_test(connects_are_limited_by_address),
		cmocka_unit_test(h124_the_21st_connection_of_a_user_is_refused),
		cmocka_unit_test(h124_the_201st_connection_of_an_address_is_refused),
		cmocka_unit_test(logins_with_a_password_are_limited_by_address),
		cmocka_unit_test(r17_calls_are_limited_by_address),
		cmocka_unit_test(calls_are_limited_by_user_whatever_the_address),
		cmocka_unit_test(anybody_may_draw_from_buckets_of_their_own),
		cmocka_unit_test(mistakes_are_named_with_what_to_write_instead),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "out.h"

#include <chatd/kit.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define SECRET "whsec_dGhlIGtleSBvZiB0aGUgdGVzdCBvZiAzMiBieQ=="
#define OUT                                                                             \
	"retry_min: 1s\nretry_max: 4s\noutgoing:\n  - { name: all, url: \"http://x/out\", " \
	"secret: \"" SECRET "\", direct: true, batch: 2, events: [message, room, presence] }"
#define DECIDE(on, more)                                       \
	"breaker: 2\nbreaker_pause: 10s\ndeciders:\n  - { on: " on \
	", url: \"http://x/d\", secret: \"" SECRET "\", " more " }"

#define ASKED_TOO(on, more) \
	"\n  - { on: " on ", url: \"http://x/d\", secret: \"" SECRET "\", " more " }"

/* ---- another server, which answers when the test says so ------------------------------------ */

static struct fake {
	struct kit *k;
	chatd_worker *w;
	chatd_fetch_fn *fn; /* NULL: nothing is asked */
	void *arg;
	char body[4096], headers[1024];
	int asked;
	chatd_status refuse;
} other;

static chatd_status f_fetch(void *obj, chatd_worker *w, const struct chatd_fetch_request *r,
		chatd_fetch_fn *fn, void *arg)
{
	(void)obj;
	if (other.refuse) {
		return other.refuse;
	}
	assert_null(other.fn);
	other.w = w;
	other.fn = fn;
	other.arg = arg;
	other.asked++;
	snprintf(other.body, sizeof(other.body), "%.*s", (int)r->body.n, r->body.p);
	other.headers[0] = '\0';
	for (size_t i = 0; i < r->n_headers; i++) {
		size_t n = strlen(other.headers);
		snprintf(other.headers + n, sizeof(other.headers) - n, "%.*s\n", (int)r->headers[i].n,
				r->headers[i].p);
	}
	return 0;
}

static chatd_status f_check(void *obj, struct chatd_str url, uint32_t flags, struct chatd_str *why)
{
	(void)obj;
	(void)url;
	(void)flags;
	(void)why;
	return 0;
}

static const struct chatd_fetch fetch_vt = {
	.struct_size = sizeof(fetch_vt), .fetch = f_fetch, .check = f_check
};

struct said {
	int32_t status;
	chatd_status rc;
	const char *body;
};

static void on_said(void *arg)
{
	const struct said *s = arg;
	chatd_fetch_fn *fn = other.fn;
	const struct chatd_fetch_answer a = { .struct_size = sizeof(a),
		.status = s->status,
		.body = text(s->body ? s->body : ""),
		.why = CHATD_LIT("no route") };
	other.fn = NULL;
	fn(other.arg, s->rc, &a);
}

static void answer(int32_t status, chatd_status rc, const char *body)
{
	struct said s = { status, rc, body };
	if (other.fn) {
		kit_on(other.k, 0, on_said, &s);
	}
}

static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_FETCH, &fetch_vt, NULL }, { CHATD_LIMITER, NULL, NULL }, { NULL, NULL, NULL } };

static struct kit *begin(const char *conf)
{
	const struct kit_conf with = { .services = services };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, conf, &with);
	memset(&other, 0, sizeof(other));
	other.k = k;
	return k;
}

static void end(struct kit *k)
{
	answer(0, -ESHUTDOWN, NULL);
	kit_free(k);
	answer(0, -ESHUTDOWN, NULL);
	kit_store_clear();
}

static void row(const char *id, const char *room)
{
	static char bodies[64][64];
	static size_t n;
	char *body = bodies[n++ % 64];
	snprintf(body, sizeof(bodies[0]), "{\"id\":\"%s\"}", id);
	const struct chatd_store_message m = { .struct_size = sizeof(m),
		.kind = CHATD_STORE_MESSAGE,
		.conv = { .room = room ? text(room) : chatd_str_of(NULL, 0),
				.a = CHATD_LIT("ann"),
				.b = CHATD_LIT("bob") },
		.seq = 1,
		.wall = 1000,
		.id = text(id),
		.body = text(body) };
	(void)kit_store_row(&m);
}

/* ---- pure -------------------------------------------------------------------------------------- */

/* The example of the specification (standardwebhooks.com). */
static void signatures_are_those_of_standard_webhooks(void **state)
{
	struct chatd_webhook_key k;
	char mac[CHATD_WEBHOOK_SIGNATURE];
	(void)state;
	assert_true(chatd_webhook_key(&k, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
	chatd_webhook_sign(&k, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
			CHATD_LIT("{\"test\": 2432232314}"), mac);
	assert_string_equal(mac, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
	assert_false(chatd_webhook_key(&k, "short"));
	assert_false(chatd_webhook_key(&k, "whsec_no base64 of any kind"));
	assert_false(chatd_webhook_key(&k, "whsec_AAAA"));
	assert_false(chatd_webhook_key(&k, NULL));
	assert_true(chatd_webhook_key(&k, "sixteen letters!"));
}

static void the_wait_doubles_to_its_end(void **state)
{
	const struct conf conf = { .retry_min = 1000, .retry_max = 60000 };
	(void)state;
	assert_int_equal(place_backoff(&conf, 1, 0, 0), 800);
	assert_in_range(place_backoff(&conf, 3, 0, 999), 3900, 4000);
	assert_int_equal(place_backoff(&conf, 1000, 0, 0), 48000);
	assert_int_equal(place_backoff(&conf, 1, 30000, 0), 24000);
	assert_int_equal(place_backoff(&conf, 1, INT64_C(1) << 60, 0), 48000);
}

static void a_place_is_read_as_it_was_written(void **state)
{
	const struct place p = { 7, 9, 3, 11, 2, "n1", "it answered 500" };
	struct place back;
	struct chatd_json j;
	(void)state;
	chatd_json_init(&j, NULL, 0);
	place_write(&j, &p);
	assert_true(place_read(chatd_json_str(&j), &back));
	assert_memory_equal(&p, &back, offsetof(struct place, owner));
	assert_string_equal(back.owner, "n1");
	chatd_json_free(&j);
	assert_false(place_read(CHATD_LIT("{}"), &back));
	assert_false(place_read(CHATD_LIT("x"), &back));
}

static void mistakes_in_the_options_are_named(void **state)
{
	static const struct {
		const char *conf, *part;
	} wrong[] = {
		{ "outgoing:\n  - { name: A, url: \"http://x\", secret: \"" SECRET "\" }",
				"target's name" },
		{ "outgoing:\n  - { name: a, url: \"ftp://x\", secret: \"" SECRET "\" }", "no http" },
		{ "outgoing:\n  - { name: a, url: \"http://x\", secret: abc }", "openssl rand" },
		{ "outgoing:\n  - { name: a, url: \"http://x\", secret: \"" SECRET "\", events: [all] }",
				"no events \"all\"" },
		{ DECIDE("message", "timeout: 500ms") "\nretry_max: 50ms", "less than retry_min" },
		{ DECIDE("message", "timeout: 9s"), "timeout" },
		{ "lease: 2s\n" OUT, "longer than the timeout of target all" },
		/* kit_complaints() has no plugin fetch */
		{ "outgoing:\n  - { name: a, url: \"http://x\", secret: \"" SECRET "\" }",
				"\"fetch: {}\"" },
		{ DECIDE("message", "timeout: 500ms"), "\"fetch: {}\"" },
		{ DECIDE("message", "timeout: 2s") ASKED_TOO("message", "prefix: /app/, timeout: 2s")
						ASKED_TOO("message", "prefix: /app/chat, timeout: 1s"),
				"may take 5000 ms together" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i].conf, wrong[i].part);
	}
	char *apart = kit_complaints(&chatd_plugin_under_test,
			DECIDE("message", "prefix: /app/, timeout: 2s") ASKED_TOO(
					"message", "prefix: /topic/, timeout: 2s") ASKED_TOO("connect", "timeout: 2s")
					ASKED_TOO("message", "prefix: /queue/, timeout: 2s"));
	assert_null(strstr(apart, "together"));
	free(apart);
}

/* ---- out ------------------------------------------------------------------------------------------ */

static int asked_with(const char *part)
{
	return other.fn && strstr(other.body, part) != NULL;
}

static void rows_go_out_in_order_and_once(void **state)
{
	(void)state;
	kit_store_clear();
	row("old", "r1");
	struct kit *k = begin(OUT);
	kit_advance(k, 100);
	assert_null(other.fn); /* what was there before it is no news */
	row("m1", "r1");
	row("m2", NULL);
	row("m3", "r1");
	kit_advance(k, 2000);
	if (!kit_failing(k)) {
		assert_true(asked_with("\"id\":\"m1\"") && asked_with("\"users\":[\"ann\",\"bob\"]"));
		assert_null(strstr(other.body, "m3")); /* two at a time */
		assert_non_null(strstr(other.headers, "webhook-id: all.1.3\n"));
		assert_non_null(strstr(other.headers, "webhook-signature: v1,"));
	}
	answer(200, 0, "");
	kit_advance(k, 100);
	assert_true(kit_failing(k) || (asked_with("\"id\":\"m3\"") && !asked_with("m2")));
	answer(204, 0, "");
	kit_advance(k, 5000);
	assert_true(kit_failing(k) || other.fn == NULL);
	end(k);
}

/* The request that failed is repeated as it was, although more has come since. */
static void what_fails_is_repeated(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(OUT);
	kit_advance(k, 100);
	row("m1", "r1");
	kit_advance(k, 1100);
	char first[sizeof(other.body)];
	snprintf(first, sizeof(first), "%s", other.body);
	answer(500, 0, "");
	row("m2", "r1");
	kit_advance(k, 700);
	assert_true(kit_failing(k) || other.fn == NULL); /* not before its time */
	kit_advance(k, 400);
	assert_true(kit_failing(k) || (other.fn && strcmp(first, other.body) == 0));
	answer(0, -ECONNREFUSED, NULL);
	kit_advance(k, 2100);
	assert_true(kit_failing(k) || (other.fn && strcmp(first, other.body) == 0));
	answer(200, 0, "");
	kit_advance(k, 100);
	assert_true(kit_failing(k) || asked_with("m2"));
	end(k);
}

/* One node sends at a time; when it has died another goes on. */
static void another_node_waits_for_the_lease(void **state)
{
	char value[160];
	(void)state;
	kit_store_clear();
	kit_store_shared(1);
	row("m1", "r1");
	struct kit *k = begin(OUT "\nlease: 30s");
	int64_t now = kit_host(k)->wall_ms();
	snprintf(value, sizeof(value), "{\"pos\":0,\"owner\":\"elsewhere\"}");
	kit_store_put("webhooks.out", "all", value);
	kit_store_due("webhooks.out", "all", now + 10000);
	kit_advance(k, 5000);
	assert_null(other.fn);
	kit_store_due("webhooks.out", "all", now - 1);
	kit_advance(k, 2000);
	assert_true(kit_failing(k) || asked_with("m1"));
	const char *kept = kit_store_value("webhooks.out", "all");
	assert_true(kit_failing(k) || strstr(kept, "\"upto\":1"));
	end(k);
}

static void a_wait_outlasts_a_restart(void **state)
{
	char value[160];
	(void)state;
	kit_store_clear();
	row("m1", "r1");
	struct kit *k = begin(OUT);
	snprintf(value, sizeof(value), "{\"pos\":0,\"fails\":3,\"until\":%lld}",
			(long long)kit_host(k)->wall_ms() + 5000);
	kit_store_put("webhooks.out", "all", value);
	kit_advance(k, 4000);
	assert_null(other.fn);
	kit_advance(k, 2000);
	assert_true(kit_failing(k) || asked_with("m1"));
	end(k);
}

static void who_comes_and_goes_is_told_until_it_is_heard(void **state)
{
	const struct chatd_presence_state here = {
		.struct_size = sizeof(here), .status = CHATD_PRESENCE_ONLINE, .version = 5
	};
	(void)state;
	kit_store_clear();
	struct kit *k = begin(OUT);
	kit_advance(k, 100);
	kit_presence_is(k, "ann", &here);
	kit_presence_is(k, "ann", &here); /* as another node tells it */
	kit_advance(k, 1100);
	assert_true(kit_failing(k) || asked_with("\"userId\":\"ann\",\"online\":true"));
	assert_true(kit_failing(k) || kit_store_count("webhooks.event") == 1);
	answer(503, 0, "");
	kit_advance(k, 1100);
	assert_true(kit_failing(k) || asked_with("\"userId\":\"ann\""));
	answer(200, 0, "");
	kit_advance(k, 100);
	assert_true(kit_failing(k) || kit_store_count("webhooks.event") == 0);
	end(k);
}

/* ---- deciding ----------------------------------------------------------------------------------------- */

static void a_decider_says_yes_no_or_something_else(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(DECIDE("message", "prefix: /topic/x"));
	struct kit_client *c = kit_open(k, "ann");
	kit_subscribe(c, "/topic/x");
	kit_send(c, "/topic/y", "{}", NULL); /* it is not asked about that */
	kit_expect_accept(k);
	kit_send(c, "/topic/x", "{\"content\":\"one\"}", NULL);
	kit_expect_waiting(k, kit_failing(k) ? 0 : 1);
	assert_true(kit_failing(k) || asked_with("\"message\":{\"content\":\"one\"}"));
	answer(200, 0, "{\"allow\":true}");
	kit_expect_delivery(c, "/topic/x", "one");
	kit_send(c, "/topic/x", "{\"content\":\"two\"}", NULL);
	answer(200, 0, "{\"allow\":true,\"content\":\"other\"}");
	kit_expect_delivery(c, "/topic/x", "{\"content\":\"other\"}");
	/* What only some can read does not become what everybody can. */
	kit_send(c, "/topic/x", "{\"content\":\"qL8\",\"encrypted\":true}", NULL);
	answer(200, 0, "{\"allow\":true,\"content\":\"other\"}");
	kit_expect_delivery(c, "/topic/x", "{\"content\":\"qL8\",\"encrypted\":true}");
	kit_send(c, "/topic/x", "{\"content\":\"three\"}", NULL);
	answer(200, 0, "{\"allow\":false,\"reason\":\"not so\"}");
	kit_expect_reject(k, "FORBIDDEN", "not so");
	kit_send(c, "/topic/x", "{\"content\":\"four\"}", NULL);
	kit_cut(c); /* before the answer */
	answer(200, 0, "{\"allow\":true}");
	end(k);
}

static void a_dead_decider_is_left_alone_for_a_while(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(DECIDE("message", "on_error: allow"));
	struct kit_client *c = kit_open(k, "ann");
	for (int i = 0; i < 2; i++) {
		kit_send(c, "/topic/x", "{}", NULL);
		answer(0, -ETIMEDOUT, NULL);
		kit_expect_accept(k);
	}
	kit_send(c, "/topic/x", "{}", NULL);
	kit_expect_accept(k); /* at once */
	assert_true(kit_failing(k) || other.asked == 2);
	kit_advance(k, 10000);
	kit_send(c, "/topic/x", "{}", NULL);
	assert_true(kit_failing(k) || other.asked == 3);
	answer(200, 0, "{\"allow\":false}");
	kit_expect_reject(k, "FORBIDDEN", "refused");
	kit_send(c, "/topic/x", "{}", NULL);
	answer(200, 0, "what"); /* no answer that counts */
	kit_expect_accept(k);
	end(k);
}

static void what_is_denied_on_error_is_denied(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(DECIDE("subscribe", "on_error: deny"));
	struct kit_client *c = kit_open(k, "ann");
	kit_subscribe(c, "/topic/x");
	answer(500, 0, "");
	kit_expect_reject(k, "UNAVAILABLE", "try again");
	other.refuse = -EAGAIN;
	kit_subscribe(c, "/topic/y");
	kit_expect_reject(k, "UNAVAILABLE", "try again");
	other.refuse = 0;
	kit_advance(k, 10000);
	kit_subscribe(c, "/topic/z");
	answer(200, 0, "{\"allow\":true}");
	kit_expect_accept(k);
	end(k);
}

static void who_comes_in_is_asked_about(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(DECIDE("connect", "credentials: true"));
	kit_login(k, 0, "bearer", "theirs", NULL);
	assert_true(kit_failing(k) || asked_with("\"bearer\":\"theirs\""));
	answer(200, 0, "{\"allow\":true,\"user\":\"zoe\",\"name\":\"Zoe\",\"roles\":\"a b\"}");
	kit_expect_user(k, "zoe", 0);
	kit_login(k, 0, "kit-user", "ann", NULL);
	assert_true(kit_failing(k) || (asked_with("\"id\":\"ann\"") && !asked_with("bearer")));
	answer(200, 0, "{\"allow\":true,\"user\":\"root\"}"); /* who is known stays who that is */
	kit_expect_user(k, "ann", 0);
	kit_login(k, 0, "bearer", "unknown", NULL);
	answer(200, 0, "{\"allow\":false,\"reason\":\"who?\"}");
	kit_expect_reject(k, "FORBIDDEN", "who?");
	end(k);
}

/* ---- in ------------------------------------------------------------------------------------------------- */

static void a_rooms_moderators_see_to_its_hooks(void **state)
{
	char path[300];
	(void)state;
	kit_store_clear();
	struct kit *k = begin("per_room: 1");
	kit_room(k, "r1", "Room", 0);
	kit_member(k, "r1", "ann", CHATD_ROLE_MODERATOR);
	kit_member(k, "r1", "bob", CHATD_ROLE_MEMBER);
	kit_store_room("r1");
#define HOOKS "/api/chat/rooms/r1/hooks"
	kit_expect_http(kit_http(k, "GET", HOOKS, NULL, NULL), 401, "");
	kit_expect_http(kit_http(k, "GET", HOOKS, NULL, "kit-user", "bob", NULL), 403, "moderators");
	kit_expect_http(kit_http(k, "GET", HOOKS, NULL, "kit-user", "eve", NULL), 404, "room");
	kit_expect_http(
			kit_http(k, "POST", HOOKS, "{\"name\":\"\"}", "kit-user", "ann", NULL), 422, "name");
	struct kit_req *r = kit_http(k, "POST", HOOKS, "{\"name\":\"CI\"}", "kit-user", "ann", NULL);
	kit_expect_http(r, 201, "\"path\":\"/api/hooks/in/r1.");
	kit_expect_http(kit_http(k, "POST", HOOKS, "{\"name\":\"b\"}", "kit-user", "ann", NULL), 409,
			"TOO_MANY");
	kit_expect_http(
			kit_http(k, "GET", HOOKS, NULL, "kit-user", "ann", NULL), 200, "\"name\":\"CI\"");
	if (!kit_failing(k)) {
		const char *at = strstr(kit_http_body(r).p, "\"path\":\"") + 8;
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(at, "\""), at);
		/* There is no chat here: that it was said shows in who refuses it. */
		kit_expect_http(
				kit_http(k, "POST", path, "{\"text\":\"hi\"}", NULL), 422, "/app/chat.send");
		kit_expect_http(kit_http(k, "POST", path, "{\"content\":7}", NULL), 422, "text is missing");
		kit_expect_http(kit_http(k, "POST", path, "[", NULL), 400, "VALIDATION");
		/* A name of which nothing is seen is none. */
		kit_expect_http(kit_http(k, "POST", path,
								"{\"text\":\"hi\",\"username\":\"\\u202e\\u200b \"}", NULL),
				422, "/app/chat.send");
		path[strlen(path) - 1] ^= 1;
		kit_expect_http(kit_http(k, "POST", path, "{\"text\":\"hi\"}", NULL), 404, "webhook");
	}
	kit_expect_http(
			kit_http(k, "POST", HOOKS, "{\"name\":\"\\u2066\\u2069\"}", "kit-user", "ann", NULL),
			422, "is seen");
	kit_expect_http(kit_http(k, "DELETE", HOOKS "/r2.x", NULL, "kit-user", "ann", NULL), 404, "");
	kit_expect_http(kit_http(k, "DELETE", HOOKS "/r1.x", NULL, "kit-user", "ann", NULL), 404, "");
	end(k);
}

/* Two moderators at the same moment, on two nodes, say: each has found room for one more. */
static void a_room_has_no_more_hooks_than_it_may(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin("per_room: 1");
	kit_room(k, "r1", "Room", 0);
	kit_member(k, "r1", "ann", CHATD_ROLE_MODERATOR);
	kit_store_hold(1);
	struct kit_req *r[2];
	for (int i = 0; i < 2; i++) {
		r[i] = kit_http(k, "POST", HOOKS, "{\"name\":\"CI\"}", "kit-user", "ann", NULL);
	}
	kit_store_hold(0);
	for (int i = 0; i < 2; i++) {
		assert_true(kit_http_status(r[i]) == 201 || kit_http_status(r[i]) == 409);
	}
	assert_true(kit_store_count("webhooks.in") <= 1);
	kit_expect_http(kit_http(k, "GET", HOOKS, NULL, "kit-user", "ann", NULL), 200, "{\"hooks\":[");
	end(k);
}

static void sweep(void)
{
	rows_go_out_in_order_and_once(NULL);
	who_comes_and_goes_is_told_until_it_is_heard(NULL);
	a_decider_says_yes_no_or_something_else(NULL);
	who_comes_in_is_asked_about(NULL);
	a_rooms_moderators_see_to_its_hooks(NULL);
}

static void no_memory(void **state)
{
	(void)state;
	kit_sweep(sweep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_are_those_of_standard_webhooks),
		cmocka_unit_test(the_wait_doubles_to_its_end),
		cmocka_unit_test(a_place_is_read_as_it_was_written),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(rows_go_out_in_order_and_once),
		cmocka_unit_test(what_fails_is_repeated),
		cmocka_unit_test(another_node_waits_for_the_lease),
		cmocka_unit_test(a_wait_outlasts_a_restart),
		cmocka_unit_test(who_comes_and_goes_is_told_until_it_is_heard),
		cmocka_unit_test(a_decider_says_yes_no_or_something_else),
		cmocka_unit_test(a_dead_decider_is_left_alone_for_a_while),
		cmocka_unit_test(what_is_denied_on_error_is_denied),
		cmocka_unit_test(who_comes_in_is_asked_about),
		cmocka_unit_test(a_rooms_moderators_see_to_its_hooks),
		cmocka_unit_test(a_room_has_no_more_hooks_than_it_may),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define DEST       "/user/queue/presence"
#define WATCH      "/app/presence.watch"
#define UNWATCH    "/app/presence.unwatch"
#define SET        "/app/presence.set"

extern const struct chatd_plugin chatd_plugin_under_test;

static struct kit *start(const char *yaml)
{
	static const struct kit_conf conf = { .workers = 3 };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

static void become(struct kit *k, const char *user, int32_t status, int64_t version)
{
	const struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = status,
		.since = 1700000000000,
		.last_seen = status == CHATD_PRESENCE_OFFLINE ? 1700000000000 : 0,
		.version = version };
	kit_presence_is(k, user, &s);
}

static void say(struct kit *k, const char *user, const char *text, int64_t version)
{
	const struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = CHATD_PRESENCE_BUSY,
		.version = version,
		.text = chatd_str_of(text, strlen(text)) };
	kit_presence_is(k, user, &s);
}

/* Subscribed, and watching. */
static struct kit_client *eve(struct kit *k, int32_t worker, const char *users)
{
	struct kit_client *c = kit_open_on(k, worker, "eve", 0);
	if (kit_is_open(c)) {
		kit_subscribe(c, DEST);
	}
	if (kit_is_open(c) && users) {
		kit_send(c, WATCH, users, NULL);
	}
	return c;
}

TEST(a_watch_is_answered_with_what_they_are)
{
	UNUSED;
	struct kit *k = start("");
	become(k, "ann", CHATD_PRESENCE_AWAY, 1);
	become(k, "cat", CHATD_PRESENCE_OFFLINE, 2);
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\",\"ann\",\"cat\"]}");
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST,
			"{\"type\":\"PRESENCE\",\"users\":[{\"userId\":\"ann\",\"online\":true,\"status\":\"away\","
			"\"since\":\"2023-11-14T22:13:20.000Z\"},{\"userId\":\"bob\",\"online\":false,\"status\":"
			"\"offline\"},{\"userId\":\"cat\",\"online\":false,\"status\":\"offline\",\"since\":\"2023-11-"
			"14T22:13:20.000Z\",\"lastSeen\":\"2023-11-14T22:13:20.000Z\"}],\"timestamp\":");
	kit_expect_quiet(e);
	kit_free(k);
}

TEST(each_change_is_told_once_to_those_who_watch)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\"]}"),
					  *f = eve(k, 2, "{\"users\":[\"ann\"]}"),
					  *g = eve(k, 2, "{\"users\":[\"bob\"]}");
	kit_expect_delivery(e, DEST, "offline");
	kit_expect_delivery(f, DEST, "offline");
	kit_expect_delivery(g, DEST, "offline");
	become(k, "ann", CHATD_PRESENCE_ONLINE, 1);
	become(k, "ann", CHATD_PRESENCE_ONLINE, 2); /* nothing new */
	become(k, "ann", CHATD_PRESENCE_BUSY, 3);
	say(k, "ann", "at lunch", 4);
	become(k, "dan", CHATD_PRESENCE_ONLINE, 5); /* nobody watches him */
	for (int i = 0; i < 2; i++) {
		struct kit_client *c = i ? f : e;
		kit_expect_delivery(c, DEST,
				"{\"type\":\"PRESENCE\",\"userId\":\"ann\",\"online\":true,\"status\":\"online\"");
		kit_expect_delivery(c, DEST, "\"status\":\"busy\",\"since\"");
		kit_expect_delivery(c, DEST, "\"status\":\"busy\",\"text\":\"at lunch\"");
		kit_expect_quiet(c);
	}
	kit_expect_quiet(g);
	kit_free(k);
}

TEST(what_is_older_than_what_was_told_is_not_told)
{
	UNUSED;
	struct kit *k = start("");
	become(k, "ann", CHATD_PRESENCE_BUSY, 7);
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(e, DEST, "busy");
	become(k, "ann", CHATD_PRESENCE_ONLINE, 6); /* it was on its way when eve asked */
	become(k, "ann", CHATD_PRESENCE_BUSY, 7);
	kit_expect_quiet(e);
	become(k, "ann", CHATD_PRESENCE_AWAY, 8);
	kit_expect_delivery(e, DEST, "away");
	/* A clock that went back by more than a minute. */
	become(k, "ann", CHATD_PRESENCE_ONLINE, INT64_C(200000) << 20);
	kit_expect_delivery(e, DEST, "\"online\",");
	become(k, "ann", CHATD_PRESENCE_AWAY, INT64_C(100000) << 20);
	kit_expect_delivery(e, DEST, "away");
	kit_free(k);
}

TEST(a_change_between_question_and_answer_is_not_lost)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, NULL), *f = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(f, DEST, "offline");
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	become(k, "ann", CHATD_PRESENCE_ONLINE, 9);
	kit_expect_delivery(f, DEST, "\"online\",");
	become(k, "ann", CHATD_PRESENCE_OFFLINE, 5); /* what the answer will be, of before */
	kit_expect_quiet(e);                         /* nothing before the first answer */
	kit_answer(k, CHATD_PRESENCE);
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "\"online\",");
	kit_expect_quiet(e);
	kit_expect_quiet(f);
	kit_free(k);
}

TEST(a_newer_answer_tells_the_others_too)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(e, DEST, "offline");
	kit_manual(k, 1);
	become(k, "ann", CHATD_PRESENCE_AWAY, 3); /* the change waits for worker 1 ... */
	struct kit_client *f = kit_open_on(k, 1, "fay", 0);
	kit_manual(k, 0);
	kit_expect_delivery(e, DEST, "away");
	kit_subscribe(f, DEST);
	kit_send(f, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_delivery(f, DEST, "away");
	become(k, "ann", CHATD_PRESENCE_AWAY, 3);
	kit_expect_quiet(e);
	kit_expect_quiet(f);
	kit_free(k);
}

TEST(unwatch_ends_it)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\",\"cat\"]}");
	kit_expect_delivery(e, DEST, "ann");
	kit_send(e, UNWATCH, "{\"users\":[\"ann\",\"nobody\"]}", NULL);
	kit_expect_accept(k);
	become(k, "ann", CHATD_PRESENCE_ONLINE, 1);
	kit_expect_quiet(e);
	become(k, "bob", CHATD_PRESENCE_ONLINE, 2);
	kit_expect_delivery(e, DEST, "bob");
	kit_send(e, UNWATCH, "{}", NULL);
	kit_expect_accept(k);
	become(k, "bob", CHATD_PRESENCE_OFFLINE, 3);
	become(k, "cat", CHATD_PRESENCE_ONLINE, 4);
	kit_expect_quiet(e);
	kit_send(e, WATCH, "{\"users\":[\"cat\"]}", NULL);
	kit_expect_delivery(e, DEST, "\"cat\",\"online\":true");
	kit_send(e, UNWATCH, "{\"users\":[]}", NULL);
	kit_expect_reject(k, "VALIDATION", "users is missing");
	kit_free(k);
}

TEST(the_end_of_a_session_ends_its_watches)
{
	UNUSED;
	struct kit *k = start("max_watches: 2");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\"]}"), *f = eve(k, 2, NULL);
	kit_send(f, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_reject(k, "UNAVAILABLE", "too much is watched on this server");
	kit_close(e);
	kit_send(f, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(what_cannot_be_watched_is_said)
{
	UNUSED;
	struct kit *k = start("max_watched: 3");
	struct kit_client *e = kit_open_on(k, 1, "eve", 0);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_reject(k, "VALIDATION", "subscribe to /user/queue/presence first");
	kit_subscribe(e, DEST);
	static const char *const wrong[][2] = {
		{ "", "this is not JSON" },
		{ "{}", "users is missing" },
		{ "{\"users\":\"ann\"}", "users must be a list" },
		{ "{\"users\":[]}", "users is missing" },
		{ "{\"users\":[\"ann\",7]}", "users[1] is no user id" },
		{ "{\"users\":[\"a b\"]}", "users[0] is no user id" },
		{ "{\"users\":[\"\"]}", "users[0] is no user id" },
		{ "{\"users\":[\"a\",\"b\",\"c\",\"d\"]}",
				"users: 4 are too many at a time; 3 are allowed" },
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_send(e, WATCH, wrong[i][0], NULL);
		kit_expect_reject(k, "VALIDATION", wrong[i][1]);
	}
	kit_send(e, WATCH, "{\"users\":[\"a\",\"b\"]}", NULL);
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "users");
	kit_send(e, WATCH, "{\"users\":[\"b\",\"c\",\"d\"]}", NULL);
	kit_expect_reject(k, "VALIDATION", "you watch 2 users, and 2 more are over the limit of 3");
	kit_expect_quiet(e);
	kit_send(e, WATCH, "{\"users\":[\"a\",\"b\",\"c\"]}", NULL); /* again, and one more */
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "\"c\"");
	kit_free(k);
}

TEST(presence_that_cannot_answer_is_said_and_nothing_is_left)
{
	UNUSED;
	struct kit *k = start("max_watches: 1");
	struct kit_client *e = eve(k, 1, NULL);
	kit_refuse(k, CHATD_PRESENCE, -ENOMEM);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_reject(k, "UNAVAILABLE", "nobody can be watched now");
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_answer_error(k, CHATD_PRESENCE, -EAGAIN);
	kit_expect_reject(k, "UNAVAILABLE", "nobody can be watched now");
	kit_hold(k, CHATD_PRESENCE, 0);
	kit_refuse_suspend(k, 1);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_expect_reject(k, "UNAVAILABLE", "too busy");
	kit_refuse_suspend(k, 0);
	kit_send(e, WATCH, "{\"users\":[\"bob\"]}", NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(an_answer_after_the_session_has_gone_is_harmless)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, NULL);
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_close(e);
	kit_answer(k, CHATD_PRESENCE);
	struct kit_client *f = kit_open_on(k, 1, "fay", 0);
	kit_send(f, SET, "{\"status\":\"away\"}", NULL);
	kit_close(f);
	kit_answer(k, CHATD_PRESENCE);
	kit_free(k);
}

TEST(a_call_that_timed_out_watches_nobody)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, NULL);
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_send(e, WATCH, "{\"users\":[\"ann\"]}", NULL);
	kit_advance(k, 60000);
	kit_expect_waiting(k, 0);
	kit_answer(k, CHATD_PRESENCE);
	kit_hold(k, CHATD_PRESENCE, 0);
	kit_expect_delivery(e, DEST, "users");
	become(k, "ann", CHATD_PRESENCE_ONLINE, 1);
	kit_expect_quiet(e);
	kit_free(k);
}

/* ---- not known ----------------------------------------------------------------------------------- */

TEST(what_is_not_known_is_told_when_it_is)
{
	UNUSED;
	struct kit *k = start("");
	become(k, "ann", CHATD_PRESENCE_ONLINE, 1);
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\"]}");
	kit_expect_delivery(e, DEST, "ann");
	kit_presence_known(k, 0);
	kit_expect_delivery(e, DEST, "{\"type\":\"PRESENCE\",\"stale\":true,\"timestamp\":");
	become(k, "ann", CHATD_PRESENCE_UNKNOWN, 0);
	kit_expect_quiet(e);
	struct kit_client *f = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(
			f, DEST, "[{\"userId\":\"ann\",\"online\":null,\"stale\":true}],\"stale\":true,");
	/* For eve nothing has changed, for the other session everything has. */
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_presence_known(k, 1);
	const struct chatd_presence_state s = {
		.struct_size = sizeof(s), .status = CHATD_PRESENCE_ONLINE, .version = 1
	};
	kit_presence_is(k, "ann", &s); /* the log: nothing new */
	kit_expect_quiet(e);
	become(k, "bob", CHATD_PRESENCE_AWAY, 3);
	kit_expect_delivery(e, DEST, "bob");
	kit_answer(k, CHATD_PRESENCE);
	kit_hold(k, CHATD_PRESENCE, 0);
	kit_expect_delivery(e, DEST, "{\"type\":\"PRESENCE\",\"stale\":false,");
	kit_expect_quiet(e);
	kit_expect_delivery(f, DEST, "\"userId\":\"ann\",\"online\":true");
	kit_expect_delivery(f, DEST, "\"stale\":false");
	kit_expect_quiet(f);
	kit_free(k);
}

TEST(what_was_missed_is_found_by_asking_again)
{
	UNUSED;
	char list[4000];
	struct kit *k = start("max_watched: 250");
	size_t n = (size_t)snprintf(list, sizeof(list), "{\"users\":[");
	for (int i = 0; i < 250; i++) {
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s\"u%d\"", i ? "," : "", i);
	}
	snprintf(list + n, sizeof(list) - n, "]}");
	struct kit_client *e = eve(k, 2, list);
	kit_expect_delivery(e, DEST, "u249");
	kit_presence_known(k, 0);
	kit_expect_delivery(e, DEST, "\"stale\":true");
	become(k, "u3", CHATD_PRESENCE_AWAY, 0);
	become(k, "u240", CHATD_PRESENCE_BUSY, 0);
	kit_expect_quiet(e);
	kit_refuse(k, CHATD_PRESENCE, -ENOMEM); /* asked again a little later */
	kit_presence_known(k, 1);
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_advance(k, 2000);
	kit_answer_error(k, CHATD_PRESENCE, -EAGAIN); /* and once more */
	kit_expect_quiet(e);
	kit_hold(k, CHATD_PRESENCE, 0);
	kit_advance(k, 5000);
	kit_expect_delivery(e, DEST, "\"userId\":\"u3\",\"online\":true,\"status\":\"away\"");
	kit_expect_delivery(e, DEST, "\"userId\":\"u240\",\"online\":true,\"status\":\"busy\"");
	kit_expect_delivery(e, DEST, "\"stale\":false");
	kit_expect_quiet(e);
	kit_free(k);
}

/* ---- presence.set ----------------------------------------------------------------------------------- */

TEST(a_status_is_set)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(e, DEST, "ann");
	kit_in(k, "ann", SET, "{\"status\":\"busy\",\"text\":\"  \\u0007at\\u200b lunch \"}");
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "\"online\":true,\"status\":\"busy\"");
	kit_in(k, "ann", SET, "{\"status\":\"online\",\"text\":\"\"}");
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "\"status\":\"online\"");
	kit_expect_quiet(e);
	kit_free(k);
}

TEST(the_text_is_cleaned)
{
	UNUSED;
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\"]}");
	kit_expect_delivery(e, DEST, "ann");
	kit_in(k, "ann", SET, "{\"status\":\"away\",\"text\":\" \\u0007at\\u200b <lunch> \"}");
	kit_expect_delivery(e, DEST, "\"text\":\"at \\u003clunch\\u003e\",");
	kit_free(k);
}

TEST(what_cannot_be_set_is_said)
{
	UNUSED;
	struct kit *k = start("max_text: 5");
	static const char *const wrong[][2] = {
		{ "", "this is not JSON" },
		{ "{}", "status must be online, away or busy" },
		{ "{\"status\":\"offline\"}",
				"status must be online, away or busy; offline is who has left" },
		{ "{\"status\":\"AWAY\"}", "status must be online, away or busy" },
		{ "{\"status\":1}", "status must be a string" },
		{ "{\"status\":\"away\",\"text\":null}", "text must be a string" },
		{ "{\"status\":\"away\",\"text\":\"123456\"}", "text has at most 5 characters" },
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_in(k, "ann", SET, wrong[i][0]);
		kit_expect_reject(k, "VALIDATION", wrong[i][1]);
	}
	kit_in(k, "ann", SET, "{\"status\":\"away\",\"text\":\"\\u00e4\\u00f6\\u00fc\\u20ac5\"}");
	kit_expect_accept(k);
	kit_refuse(k, CHATD_PRESENCE, -ENOMEM);
	kit_in(k, "ann", SET, "{\"status\":\"away\"}");
	kit_expect_reject(k, "UNAVAILABLE", "cannot be set now");
	kit_hold(k, CHATD_PRESENCE, 1);
	kit_in(k, "ann", SET, "{\"status\":\"away\"}");
	kit_answer_error(k, CHATD_PRESENCE, -EAGAIN); /* others will hear of it */
	kit_expect_accept(k);
	kit_in(k, "ann", SET, "{\"status\":\"away\"}");
	kit_answer_error(k, CHATD_PRESENCE, -ENOMEM);
	kit_expect_reject(k, "UNAVAILABLE", "cannot be set now");
	kit_free(k);
}

TEST(a_session_does_not_change_its_status_all_the_time)
{
	UNUSED;
	struct kit *k = start("sets_per_minute: 6");
	for (int i = 0; i < 10; i++) {
		kit_in(k, "ann", SET, i % 2 ? "{\"status\":\"away\"}" : "{\"status\":\"online\"}");
		kit_expect_accept(k);
	}
	kit_in(k, "ann", SET, "{\"status\":\"busy\"}");
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", "6 times a minute are allowed");
	kit_expect_reply(k, "retryAfterSeconds", "10");
	kit_advance(k, 9000);
	kit_in(k, "ann", SET, "{\"status\":\"busy\"}");
	kit_expect_reject(k, "RATE_LIMIT_EXCEEDED", NULL);
	kit_advance(k, 1000);
	kit_in(k, "ann", SET, "{\"status\":\"busy\"}");
	kit_expect_accept(k);
	kit_free(k);
}

/* ---- visible_to: contacts --------------------------------------------------------------------------- */

/* eve has written to ann, and is in the den with bob; fay is in another room. */
static struct {
	chatd_status refuse_top, refuse_rooms; /* later */
	chatd_status at_once;
} store;

struct answer {
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	int64_t seq;
	const char *room;
};

static void on_answer(void *arg)
{
	struct answer *an = arg;
	struct chatd_store_room room = { .struct_size = sizeof(room) };
	struct chatd_store_answer a = { .struct_size = sizeof(a), .seq = an->seq, .rooms = &room };
	if (an->room) {
		room.id = chatd_str_of(an->room, strlen(an->room));
		a.n_rooms = 1;
	}
	an->fn(an->arg, an->rc, &a);
	free(an);
}

static chatd_status later(chatd_worker *w, const struct answer *an, struct kit *k)
{
	struct answer *copy = malloc(sizeof(*copy));
	assert_non_null(copy);
	*copy = *an;
	chatd_status rc = store.at_once ? store.at_once : kit_host(k)->post(w, on_answer, copy);
	if (rc < 0) {
		free(copy);
	}
	return rc;
}

static struct kit *the_kit;

static int is(struct chatd_str s, const char *word)
{
	return s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

static chatd_status fake_top(void *obj, chatd_worker *w, const struct chatd_store_conv_key *r,
		chatd_store_fn *fn, void *arg)
{
	struct answer an = { .fn = fn, .arg = arg, .rc = store.refuse_top };
	(void)obj;
	an.seq = is(r->conv.a, "eve") && is(r->conv.b, "ann") ? 3 : 0;
	return later(w, &an, the_kit);
}

static chatd_status fake_room_list(void *obj, chatd_worker *w,
		const struct chatd_store_room_list *r, chatd_store_fn *fn, void *arg)
{
	struct answer an = { .fn = fn, .arg = arg, .rc = store.refuse_rooms };
	(void)obj;
	assert_int_equal(r->scope, CHATD_STORE_MINE);
	an.room = is(r->user, "eve") || is(r->user, "bob") ? "den"
			: is(r->user, "fay")                       ? "attic"
													   : NULL;
	return later(w, &an, the_kit);
}

static const struct chatd_store store_vt = {
	.struct_size = sizeof(store_vt), .room_list = fake_room_list, .top = fake_top
};

static struct kit *start_contacts(void)
{
	static const struct kit_service services[] = { { CHATD_STORE, &store_vt, NULL },
		{ NULL, NULL, NULL } };
	static const struct kit_conf conf = { .workers = 3, .services = services };
	memset(&store, 0, sizeof(store));
	the_kit = kit_new_with(&chatd_plugin_under_test, "visible_to: contacts", &conf);
	return the_kit;
}

TEST(contacts_are_who_has_a_conversation_or_a_room)
{
	UNUSED;
	struct kit *k = start_contacts();
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\",\"eve\"]}");
	kit_expect_accept(k);
	kit_expect_delivery(e, DEST, "ann");
	kit_send(e, WATCH, "{\"users\":[\"ann\",\"fay\"]}", NULL);
	kit_expect_reject(k, "FORBIDDEN", "fay: you have no conversation and no room with this user");
	kit_send(e, WATCH, "{\"users\":[\"nobody\"]}", NULL);
	kit_expect_reject(k, "FORBIDDEN", "nobody: you have no conversation");
	become(k, "fay", CHATD_PRESENCE_BUSY, 1);
	kit_expect_quiet(e);
	struct kit_client *g = kit_open_on(k, 1, "gus", CHATD_ID_ADMIN);
	kit_subscribe(g, DEST);
	kit_send(g, WATCH, "{\"users\":[\"fay\"]}", NULL);
	kit_expect_accept(k);
	kit_free(k);
}

TEST(a_store_that_cannot_answer_allows_nothing)
{
	UNUSED;
	struct kit *k = start_contacts();
	struct kit_client *e = eve(k, 1, NULL);
	static const char *const body = "{\"users\":[\"ann\"]}", *const bob = "{\"users\":[\"bob\"]}";
	store.at_once = -EAGAIN;
	kit_send(e, WATCH, body, NULL);
	kit_expect_reject(k, "UNAVAILABLE", "cannot be looked up now");
	store.at_once = 0;
	store.refuse_top = -EIO;
	kit_send(e, WATCH, body, NULL);
	kit_expect_reject(k, "UNAVAILABLE", "cannot be looked up now");
	store.refuse_top = 0;
	store.refuse_rooms = -EIO;
	kit_send(e, WATCH, bob, NULL);
	kit_expect_reject(k, "UNAVAILABLE", "cannot be looked up now");
	store.refuse_rooms = 0;
	kit_send(e, WATCH, bob, NULL);
	kit_expect_accept(k);
	kit_manual(k, 1);
	kit_send(e, WATCH, body, NULL);
	kit_close(e);
	kit_manual(k, 0);
	kit_free(k);
}

TEST(rest_tells_of_contacts_alone)
{
	UNUSED;
	struct kit *k = start_contacts();
	struct kit_req *r =
			kit_http(k, "GET", "/api/chat/presence?users=ann,bob", NULL, "kit-user", "eve", NULL);
	kit_expect_http(r, 200, "ann");
	r = kit_http(k, "GET", "/api/chat/presence?users=ann,fay", NULL, "kit-user", "eve", NULL);
	kit_expect_http(r, 403, "fay: you have no conversation");
	store.at_once = -EAGAIN;
	r = kit_http(k, "GET", "/api/chat/presence?users=ann", NULL, "kit-user", "eve", NULL);
	kit_expect_http(r, 503, "UNAVAILABLE");
	store.at_once = 0;
	const struct chatd_identity who = { .struct_size = sizeof(who), .user = CHATD_LIT("eve") };
	kit_request(k, &who, "GET", "/api/chat/users/ann/status", NULL);
	kit_expect_accept(k);
	kit_request(k, &who, "GET", "/api/chat/users/fay/status", NULL);
	kit_expect_reject(k, "FORBIDDEN", "no conversation and no room");
	kit_request(k, &who, "GET", "/api/chat/users/fay/rooms", NULL);
	kit_expect_accept(k);
	kit_free(k);
}

static void watch_contacts(void)
{
	struct kit *k = start_contacts();
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\"]}");
	if (kit_is_open(e)) {
		kit_send(e, WATCH, "{\"users\":[\"fay\"]}", NULL);
	}
	(void)kit_http(k, "GET", "/api/chat/presence?users=ann,fay", NULL, "kit-user", "eve", NULL);
	kit_free(k);
}

TEST(no_memory_hurts_nobody_who_asks_for_contacts)
{
	UNUSED;
	kit_sweep(watch_contacts);
}

/* ---- REST and options -------------------------------------------------------------------------------- */

TEST(several_can_be_asked_about_over_rest)
{
	UNUSED;
	struct kit *k = start("max_watched: 3");
	become(k, "ann", CHATD_PRESENCE_BUSY, 1);
	become(k, "bob", CHATD_PRESENCE_UNKNOWN, 0);
	const char *path = "/api/chat/presence";
	kit_expect_http(kit_http(k, "GET", path, NULL, NULL), 401, "UNAUTHORIZED");
	struct kit_req *r = kit_http(
			k, "GET", "/api/chat/presence?users=ann,bob,ann", NULL, "kit-user", "eve", NULL);
	kit_expect_http(r, 200,
			"{\"users\":[{\"userId\":\"ann\",\"online\":true,\"status\":\"busy\",\"since\":\"2023-11-14T22:13:"
			"20.000Z\"},{\"userId\":\"bob\",\"online\":null,\"stale\":true}]}");
	static const char *const wrong[][2] = {
		{ "/api/chat/presence", "users is missing" },
		{ "/api/chat/presence?users=", "users is missing" },
		{ "/api/chat/presence?users=a,,b", "users: number 2 is no user id" },
		{ "/api/chat/presence?users=a,b%2f", "users: number 2 is no user id" },
		{ "/api/chat/presence?users=a,b,c,d", "users: at most 3 at a time" },
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		r = kit_http(k, "GET", wrong[i][0], NULL, "kit-user", "eve", NULL);
		kit_expect_http(r, 422, wrong[i][1]);
	}
	kit_refuse(k, CHATD_PRESENCE, -ENOMEM);
	r = kit_http(k, "GET", "/api/chat/presence?users=ann", NULL, "kit-user", "eve", NULL);
	kit_expect_http(r, 503, "UNAVAILABLE");
	kit_hold(k, CHATD_PRESENCE, 1);
	r = kit_http(k, "GET", "/api/chat/presence?users=ann", NULL, "kit-user", "eve", NULL);
	kit_http_gone(r);
	kit_answer(k, CHATD_PRESENCE);
	kit_free(k);
}

static void expect_complaint(const char *yaml, const char *part)
{
	kit_expect_complaint(&chatd_plugin_under_test, yaml, part);
}

TEST(options_are_checked)
{
	UNUSED;
	expect_complaint("max_watched: 0", "max_watched");
	expect_complaint("max_watched: 1001", "1000");
	expect_complaint("max_text: 129", "128");
	expect_complaint("visible_to: friends", "everyone");
	expect_complaint("sets_per_minute: often", "sets_per_minute");
}

static void watch_change_leave(void)
{
	struct kit *k = start("");
	struct kit_client *e = eve(k, 1, "{\"users\":[\"ann\",\"bob\"]}");
	struct kit_client *f = eve(k, 2, "{\"users\":[\"ann\"]}");
	say(k, "ann", "at lunch", 1);
	kit_in(k, "ann", SET, "{\"status\":\"busy\",\"text\":\"hm\"}");
	kit_presence_known(k, 0);
	kit_presence_known(k, 1);
	if (kit_is_open(e)) {
		kit_send(e, UNWATCH, "{\"users\":[\"ann\"]}", NULL);
	}
	(void)kit_http(k, "GET", "/api/chat/presence?users=ann,bob", NULL, "kit-user", "eve", NULL);
	kit_advance(k, 60000);
	if (kit_is_open(f)) {
		kit_close(f);
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(watch_change_leave);
}

TEST(a_program_watches_nobody_and_has_no_status)
{
	struct kit *k = start("");
	UNUSED;
	kit_in_as(k, "eve", WATCH, "{\"users\":[\"ann\"]}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_in_as(k, "eve", UNWATCH, "{}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_in_as(k, "eve", SET, "{\"status\":\"busy\"}");
	kit_expect_reject(k, "FORBIDDEN", "no program");
	kit_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_watch_is_answered_with_what_they_are),
		cmocka_unit_test(each_change_is_told_once_to_those_who_watch),
		cmocka_unit_test(what_is_older_than_what_was_told_is_not_told),
		cmocka_unit_test(a_change_between_question_and_answer_is_not_lost),
		cmocka_unit_test(a_newer_answer_tells_the_others_too),
		cmocka_unit_test(unwatch_ends_it),
		cmocka_unit_test(a_program_watches_nobody_and_has_no_status),
		cmocka_unit_test(the_end_of_a_session_ends_its_watches),
		cmocka_unit_test(what_cannot_be_watched_is_said),
		cmocka_unit_test(presence_that_cannot_answer_is_said_and_nothing_is_left),
		cmocka_unit_test(an_answer_after_the_session_has_gone_is_harmless),
		cmocka_unit_test(a_call_that_timed_out_watches_nobody),
		cmocka_unit_test(what_is_not_known_is_told_when_it_is),
		cmocka_unit_test(what_was_missed_is_found_by_asking_again),
		cmocka_unit_test(a_status_is_set),
		cmocka_unit_test(the_text_is_cleaned),
		cmocka_unit_test(what_cannot_be_set_is_said),
		cmocka_unit_test(a_session_does_not_change_its_status_all_the_time),
		cmocka_unit_test(contacts_are_who_has_a_conversation_or_a_room),
		cmocka_unit_test(a_store_that_cannot_answer_allows_nothing),
		cmocka_unit_test(rest_tells_of_contacts_alone),
		cmocka_unit_test(no_memory_hurts_nobody_who_asks_for_contacts),
		cmocka_unit_test(several_can_be_asked_about_over_rest),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

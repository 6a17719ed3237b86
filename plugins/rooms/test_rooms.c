/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <chatd/http.h>
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define JOIN  "/app/chat.join"
#define LEAVE "/app/chat.leave"
#define LOBBY "/topic/room/lobby"
#define STAFF "/topic/room/staff"

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- names -------------------------------------------------------------------- */

static void names_that_could_fool_people_are_refused(void **state)
{
	static const char *const bad[] = { "", " ", "\xc2\xa0\xe3\x80\x80", "a\nb", "a\x7f",
		"a\xc2\x85", "a\xe2\x80\x8b", "a\xe2\x80\xae", "\xef\xbb\xbf", "a\xe2\x81\xa6",
		"a\xf3\xa0\x81\x81" };
	static const char *const good[] = { "a", "Caf\xc3\xa9", " a ", "\xf0\x9f\x91\x8b", "<b>" };
	char longest[101 * 2 + 1];
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (!table_name_fault(text(bad[i]))) {
			fail_msg("accepted: %zu", i);
		}
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(table_name_fault(text(good[i])));
	}
	for (size_t i = 0; i < 101; i++) {
		memcpy(longest + 2 * i, "\xc3\xa9", 2);
	}
	assert_non_null(table_name_fault(chatd_str_of(longest, 202)));
	assert_null(table_name_fault(chatd_str_of(longest, 200)));
}

/* ---- the table ------------------------------------------------------------------ */

static struct person person(const char *id, int32_t guest)
{
	return (struct person){ .id = text(id), .nick = text(id), .guest = guest };
}

static struct member *join(struct table *t, struct room *r, const char *id, int32_t role)
{
	struct person p = person(id, strncmp(id, "guest", 5) == 0);
	return table_join(t, r, &p, role);
}

static void an_owner_is_followed_by_rank_then_age_and_never_by_a_guest(void **state)
{
	const struct chatd_hash_key key = { { 1, 2 } };
	struct table t;
	(void)state;
	table_init(&t, &key);
	struct room *r = table_add_room(&t, text("r"), text("R"), 1);
	struct member *owner = join(&t, r, "ann", CHATD_ROLE_OWNER);
	join(&t, r, "guest1", CHATD_ROLE_MEMBER);
	join(&t, r, "bob", CHATD_ROLE_MEMBER);
	join(&t, r, "cat", CHATD_ROLE_MODERATOR);
	join(&t, r, "dan", CHATD_ROLE_MODERATOR);
	assert_int_equal(table_leave(&t, owner), 0);
	assert_int_equal(table_role(&t, r, text("cat")), CHATD_ROLE_OWNER);
	assert_int_equal(table_leave(&t, table_member(&t, r, text("cat"))), 0);
	assert_int_equal(table_role(&t, r, text("dan")), CHATD_ROLE_OWNER);
	assert_int_equal(table_leave(&t, table_member(&t, r, text("dan"))), 0);
	assert_int_equal(table_role(&t, r, text("bob")), CHATD_ROLE_OWNER);
	assert_int_equal(table_leave(&t, table_member(&t, r, text("bob"))), 0);
	assert_int_equal(table_role(&t, r, text("guest1")), CHATD_ROLE_MEMBER);
	assert_int_equal(table_leave(&t, table_member(&t, r, text("guest1"))), 1);
	table_finish(&t);
}

static void users_go_with_their_last_room(void **state)
{
	const struct chatd_hash_key key = { { 1, 2 } };
	struct table t;
	(void)state;
	table_init(&t, &key);
	struct room *one = table_add_room(&t, text("1"), text("1"), 1);
	struct room *two = table_add_room(&t, text("2"), text("2"), 1);
	assert_null(table_add_room(&t, text("1"), text("again"), 1));
	join(&t, one, "guest1", CHATD_ROLE_MEMBER);
	join(&t, two, "guest1", CHATD_ROLE_MEMBER);
	assert_int_equal(table_user(&t, text("guest1"))->n, 2);
	table_delete_room(&t, one);
	assert_non_null(table_user(&t, text("guest1")));
	table_delete_room(&t, two);
	assert_null(table_user(&t, text("guest1")));
	assert_true(TAILQ_EMPTY(&t.guests));
	table_finish(&t);
}

/* ---- over STOMP ------------------------------------------------------------------ */

static const char yaml[] = "preset: [{id: lobby, name: Lobby}, {id: staff, public: false}]\n"
						   "guest_linger: 1h\n";

static struct kit *fresh(int32_t workers)
{
	const struct kit_conf conf = { .workers = workers };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

static void coming_and_going_is_told_to_the_room(void **state)
{
	struct kit *k = fresh(3);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 2, "ann", 0);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_published(k, LOBBY, "\"type\":\"JOIN\",\"sender\":\"ann\"");
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_published(k, LOBBY, "\"type\":\"LEAVE\",\"sender\":\"ann\"");
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	kit_free(k);
}

static void a_private_room_answers_like_none(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, STAFF);
	kit_expect_reject(k, "NOT_MEMBER", "or there is no such room");
	kit_subscribe(ann, "/topic/room/none");
	kit_expect_reject(k, "NOT_MEMBER", "or there is no such room");
	kit_send(ann, JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_reject(k, "NOT_FOUND", "there is no such room");
	kit_send(ann, JOIN, "{\"roomId\":\"none\"}", NULL);
	kit_expect_reject(k, "NOT_FOUND", "there is no such room");
	kit_subscribe(ann, "/topic/room/a.b");
	kit_expect_reject(k, "NOT_FOUND", NULL);
	kit_subscribe(ann, "/topic/room/");
	kit_expect_reject(k, "NOT_FOUND", NULL);
	kit_subscribe(ann, LOBBY);
	kit_expect_accept(k);
	kit_free(k);
}

static void nobody_sends_into_a_room_directly(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	kit_in(k, "ann", JOIN, "{\"roomId\":\"lobby\"}");
	kit_in(k, "ann", LOBBY, "{\"type\":\"SYSTEM\"}");
	kit_expect_reject(k, "FORBIDDEN", "/app/chat.send");
	kit_in(k, "ann", "/topic/other", "x");
	kit_expect_accept(k);
	kit_free(k);
}

/* An admin brings somebody in over REST, as owners do. */
static struct kit_client *admin(struct kit *k)
{
	return kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
}

/* One worker: among several the end of the subscription may overtake one's own LEAVE. */
static void whoever_leaves_a_private_room_hears_no_more(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *root = admin(k);
	kit_send(root, JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_accept(k);
	kit_subscribe(root, STAFF);
	kit_expect_accept(k);
	kit_send(root, LEAVE, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_accept(k);
	kit_run(k);
	kit_send(root, JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_delivery(root, STAFF, "LEAVE");
	kit_expect_quiet(root);
	kit_free(k);
}

struct probe {
	struct kit *k;
	struct kit_client *c;
	chatd_status rc;
};

static void probe(void *arg)
{
	struct probe *p = arg;
	const struct chatd_host *h = kit_host(p->k);
	chatd_msg *m = h->msg_new(CHATD_LIT(STAFF), CHATD_LIT("probe"));
	p->rc = h->session_send(kit_session(p->c), m);
	h->msg_unref(m);
}

/* The permission was given, the subscription not yet made, when the member left. */
static void a_subscription_in_the_making_is_cut_too(void **state)
{
	(void)state;
	for (int steps = 0; steps < 12; steps++) {
		struct kit *k = fresh(2);
		struct kit_client *phone = kit_open_on(k, 1, "root", CHATD_ID_ADMIN);
		struct kit_client *desk = kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
		kit_send(desk, JOIN, "{\"roomId\":\"staff\"}", NULL);
		kit_manual(k, 1);
		kit_subscribe(phone, STAFF);
		for (int i = 0; i < steps; i++) {
			(void)kit_step(k, i % 2);
		}
		kit_send(desk, LEAVE, "{\"roomId\":\"staff\"}", NULL);
		while (kit_step(k, 0)) {
		}
		kit_run(k);
		kit_manual(k, 0);
		struct probe p = { .k = k, .c = phone };
		kit_on(k, 1, probe, &p);
		if (p.rc != -ENOENT) {
			fail_msg("still subscribed, after %d steps", steps);
		}
		kit_free(k);
	}
}

/* ---- guests ------------------------------------------------------------------------ */

static void guests_leave_when_they_have_been_away_for_an_hour(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *guest = kit_open_on(k, 0, "guest1", CHATD_ID_ANONYMOUS);
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(guest, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_published(k, LOBBY, "guest1");
	kit_expect_published(k, LOBBY, "ann");
	kit_presence(k, "guest1", 1);
	kit_advance(k, 2 * 3600000);
	kit_expect_nothing_published(k);
	kit_presence(k, "guest1", 0);
	kit_advance(k, 3500000);
	kit_expect_nothing_published(k);
	kit_advance(k, 200000);
	kit_expect_published(k, LOBBY, "\"type\":\"LEAVE\",\"sender\":\"guest1\"");
	kit_advance(k, 2 * 3600000);
	kit_expect_nothing_published(k);
	kit_free(k);
}

/* ---- the service and REST ------------------------------------------------------------ */

struct look {
	struct kit *k;
	const char *room, *user;
	chatd_status rc;
	int32_t role, answers;
};

static void look_done(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct look *l = arg;
	l->answers++;
	l->rc = rc;
	l->role = v ? v->role : -1;
}

static void look(void *arg)
{
	struct look *l = arg;
	struct chatd_service s = kit_provided(l->k, CHATD_ROOMS);
	const struct chatd_rooms *rooms = s.vt;
	assert_int_equal(
			rooms->look(s.obj, kit_worker(l->k, 1), text(l->room), text(l->user), look_done, l), 0);
}

static void plugins_see_what_a_room_is_to_a_user(void **state)
{
	struct kit *k = fresh(2);
	struct look l = { .k = k, .room = "lobby", .user = "ann" };
	(void)state;
	kit_in(k, "ann", JOIN, "{\"roomId\":\"lobby\"}");
	kit_on(k, 1, look, &l);
	assert_int_equal(l.role, CHATD_ROLE_MEMBER);
	l.user = "eve";
	kit_on(k, 1, look, &l);
	assert_int_equal(l.role, CHATD_ROLE_NONE);
	l.room = "staff";
	kit_on(k, 1, look, &l);
	assert_int_equal(l.rc, -ENOENT);
	l.room = "#";
	kit_on(k, 1, look, &l);
	assert_int_equal(l.rc, -ENOENT);
	assert_int_equal(l.answers, 4);
	kit_free(k);
}

static void without_credentials_rest_says_nothing(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_req *r = kit_http(k, "GET", "/api/chat/rooms", NULL, NULL);
	kit_expect_http(r, 401, "UNAUTHORIZED");
	r = kit_http(k, "POST", "/api/chat/rooms/lobby/join", NULL, NULL);
	kit_expect_http(r, 401, "UNAUTHORIZED");
	kit_free(k);
}

static void a_bad_preset_is_named(void **state)
{
	static const char *const bad[][2] = {
		{ "preset: [{id: a b}]", "cannot be a room's id" },
		{ "preset: [{id: a}, {id: a}]", "is there twice" },
		{ "preset: [{id: a, name: \" \"}]", "must not be empty" },
		{ "preset: [{id: a}, {id: b}]\nmax_rooms: 1", "2 rooms are preset" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *said = kit_complaints(&chatd_plugin_under_test, bad[i][0]);
		if (!strstr(said, bad[i][1])) {
			fail_msg("%s: \"%s\"", bad[i][0], said);
		}
		free(said);
	}
}

static void a_day(void)
{
	struct kit *k = fresh(2);
	struct kit_client *ann = kit_open_on(k, 1, "ann", 0);
	struct kit_client *root = admin(k);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_subscribe(ann, LOBBY);
	kit_send(root, JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_send(root, LEAVE, "{\"roomId\":\"staff\"}", NULL);
	kit_subscribe(ann, STAFF);
	kit_advance(k, 60000);
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_could_fool_people_are_refused),
		cmocka_unit_test(an_owner_is_followed_by_rank_then_age_and_never_by_a_guest),
		cmocka_unit_test(users_go_with_their_last_room),
		cmocka_unit_test(coming_and_going_is_told_to_the_room),
		cmocka_unit_test(a_private_room_answers_like_none),
		cmocka_unit_test(nobody_sends_into_a_room_directly),
		cmocka_unit_test(whoever_leaves_a_private_room_hears_no_more),
		cmocka_unit_test(a_subscription_in_the_making_is_cut_too),
		cmocka_unit_test(guests_leave_when_they_have_been_away_for_an_hour),
		cmocka_unit_test(plugins_see_what_a_room_is_to_a_user),
		cmocka_unit_test(without_credentials_rest_says_nothing),
		cmocka_unit_test(a_bad_preset_is_named),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <chatd/http.h>
#include <chatd/kit.h>
#include <chatd/store.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define JOIN    "/app/chat.join"
#define LEAVE   "/app/chat.leave"
#define LOBBY   "/topic/room/lobby"
#define STAFF   "/topic/room/staff"
#define NOTICES "/user/queue/rooms"

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- names -------------------------------------------------------------------- */

static void names_cannot_fool_people(void **state)
{
	static const char *const empty[] = { "", " ", "\xc2\xa0\xe3\x80\x80", "\n", "\xef\xbb\xbf",
		"\xe3\x85\xa4" };
	static const char *const kept[][2] = { { "a", "a" }, { " a ", "a" }, { "<b>", "<b>" },
		{ "Caf\xc3\xa9", "Caf\xc3\xa9" }, { "Cafe\xcc\x81", "Caf\xc3\xa9" },
		{ "Cafe\xe2\x80\x8d\xcc\x81", "Caf\xc3\xa9" }, { "\xf0\x9f\x91\x8b", "\xf0\x9f\x91\x8b" },
		{ "a\nb", "ab" }, { "a\x7f", "a" }, { "a\xc2\x85", "a" }, { "a\xe2\x80\x8b", "a" },
		{ "a\xe2\x80\xae\x62", "ab" }, { "a\xe2\x81\xa6", "a" }, { "a\xf3\xa0\x81\x81", "a" },
		{ "\xef\xbd\x81\xef\xbd\x84\xef\xbd\x8d\xef\xbd\x89\xef\xbd\x8e", "admin" },
		{ "\xef\xac\x81n", "fin" }, { "a\xef\xb8\x8f", "a" } };
	char longest[101 * 2 + 1], got[NAME_MAX_BYTES + 1];
	(void)state;
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		if (!name_take(text(empty[i]), got)) {
			fail_msg("accepted: %zu", i);
		}
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		assert_null(name_take(text(kept[i][0]), got));
		assert_string_equal(got, kept[i][1]);
	}
	for (size_t i = 0; i < 101; i++) {
		memcpy(longest + 2 * i, "\xc3\xa9", 2);
	}
	assert_non_null(name_take(chatd_str_of(longest, 202), got));
	assert_null(name_take(chatd_str_of(longest, 200), got));
	char much[8 * NAME_MAX_BYTES];
	for (size_t i = 0; i + 3 <= sizeof(much); i += 3) {
		memcpy(much + i, "\xef\xb7\xba", 3); /* eighteen letters each */
	}
	assert_non_null(name_take(chatd_str_of(much, sizeof(much) / 3 * 3), got));
}

static void what_a_room_is_about_may_have_lines(void **state)
{
	(void)state;
	assert_null(about_fault(text("")));
	assert_null(about_fault(text("one\ntwo")));
	assert_non_null(about_fault(text("a\tb\x1b")));
	assert_non_null(about_fault(text("a\xe2\x80\xae")));
}

/* ---- a store ---------------------------------------------------------------------- */

/* As much of a store as these tests need.  It decides when it is asked, and answers by post;
 * one look can be kept back. */
enum { ROOMS = 4, PEOPLE = 16, ANSWERS = 512 };

struct frm {
	char id[65], name[65];
	uint32_t flags;
};

struct fm {
	const struct frm *room;
	char user[65], nick[65];
	int32_t role, guest;
	int64_t banned;
};

struct answer {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
	struct chatd_store_room rooms[ROOMS];
	struct chatd_store_member members[PEOPLE];
};

static struct fake {
	struct kit *k;
	struct frm rooms[ROOMS];
	struct fm people[PEOPLE];
	size_t n_rooms, n_answers;
	int64_t seq;
	chatd_status refuse; /* every call, at once */
	chatd_status rc;     /* of every answer */
	int keep_next_look;
	struct answer *kept;
	struct answer answers[ANSWERS];
} fake;

static int is(const char *s, struct chatd_str t)
{
	return chatd_str_same(text(s), t);
}

static void on_answer(void *arg)
{
	struct answer *an = arg;
	an->fn(an->arg, an->rc, &an->a);
}

static chatd_status give(struct answer *an)
{
	return kit_host(fake.k)->post(an->w, on_answer, an);
}

static struct answer *answer_to(chatd_worker *w, chatd_store_fn *fn, void *arg)
{
	struct answer *an = &fake.answers[fake.n_answers++ % ANSWERS];
	*an = (struct answer){ .w = w, .fn = fn, .arg = arg };
	an->a.struct_size = sizeof(an->a);
	an->a.epoch = CHATD_LIT("e");
	return an;
}

/* Nothing of a store that has failed is true. */
static chatd_status done(struct answer *an, chatd_status rc, int32_t why)
{
	an->rc = fake.rc ? fake.rc : rc;
	an->a.why = why;
	return give(an);
}

static struct frm *room_of(struct chatd_str id)
{
	for (size_t i = 0; i < fake.n_rooms; i++) {
		if (is(fake.rooms[i].id, id)) {
			return &fake.rooms[i];
		}
	}
	return NULL;
}

static struct fm *person_in(const struct frm *r, struct chatd_str user)
{
	for (size_t i = 0; i < PEOPLE; i++) {
		if (fake.people[i].room == r && is(fake.people[i].user, user)) {
			return &fake.people[i];
		}
	}
	return NULL;
}

static struct fm *place_in(const struct frm *r, struct chatd_str user)
{
	struct fm *m = person_in(r, user);
	for (size_t i = 0; !m && i < PEOPLE; i++) {
		if (!fake.people[i].room) {
			m = &fake.people[i];
			m->room = r;
			chatd_str_copy(m->user, sizeof(m->user), user);
		}
	}
	assert_non_null(m);
	return m;
}

static void put_room(struct answer *an, const struct frm *r, struct chatd_str user)
{
	const struct fm *m = user.p ? person_in(r, user) : NULL;
	an->rooms[an->a.n_rooms++] = (struct chatd_store_room){ .struct_size = sizeof(*an->rooms),
		.id = text(r->id),
		.name = text(r->name),
		.flags = r->flags,
		.role = m ? m->role : CHATD_ROLE_NONE,
		.banned_until = m ? m->banned : 0,
		.members = 1 };
	an->a.rooms = an->rooms;
}

static chatd_status fake_room_create(
		void *obj, chatd_worker *w, const struct chatd_store_room *q, chatd_store_fn *fn, void *arg)
{
	(void)obj;
	if (fake.refuse || room_of(q->id)) {
		return fake.refuse ? fake.refuse : done(answer_to(w, fn, arg), -EEXIST, 0);
	}
	struct frm *r = &fake.rooms[fake.n_rooms++];
	chatd_str_copy(r->id, sizeof(r->id), q->id);
	chatd_str_copy(r->name, sizeof(r->name), q->name);
	r->flags = q->flags;
	struct answer *an = answer_to(w, fn, arg);
	put_room(an, r, q->user);
	return done(an, 0, 0);
}

static chatd_status fake_room_get(void *obj, chatd_worker *w, const struct chatd_store_room_key *q,
		chatd_store_fn *fn, void *arg)
{
	const struct frm *r = room_of(q->room);
	struct answer *an;
	(void)obj;
	if (fake.refuse) {
		return fake.refuse;
	}
	an = answer_to(w, fn, arg);
	if (r) {
		put_room(an, r, q->user);
	}
	if (!r || (q->user.p && an->rooms[0].role == 0 && !(r->flags & CHATD_STORE_ROOM_PUBLIC))) {
		return done(an, -ENOENT, CHATD_STORE_NO_ROOM);
	}
	if (fake.keep_next_look) {
		fake.keep_next_look = 0;
		fake.kept = an;
		return 0;
	}
	return done(an, 0, 0);
}

static chatd_status fake_room_list(void *obj, chatd_worker *w,
		const struct chatd_store_room_list *q, chatd_store_fn *fn, void *arg)
{
	struct answer *an = answer_to(w, fn, arg);
	(void)obj;
	for (size_t i = 0; i < fake.n_rooms; i++) {
		const struct fm *m = person_in(&fake.rooms[i], q->user);
		if (q->scope == CHATD_STORE_MINE && m && m->role) {
			put_room(an, &fake.rooms[i], q->user);
		}
	}
	return done(an, 0, 0);
}

static chatd_status fake_members(void *obj, chatd_worker *w, const struct chatd_store_members *q,
		chatd_store_fn *fn, void *arg)
{
	struct answer *an = answer_to(w, fn, arg);
	(void)obj;
	for (size_t i = 0; i < PEOPLE; i++) {
		const struct fm *m = &fake.people[i];
		if (m->role && (q->which == CHATD_STORE_GUESTS ? m->guest : is(m->room->id, q->room))) {
			an->members[an->a.n_members++] =
					(struct chatd_store_member){ .struct_size = sizeof(*an->members),
						.role = m->role,
						.user = text(m->user),
						.nick = text(m->nick) };
		}
	}
	an->a.members = an->members;
	an->a.n = (int64_t)an->a.n_members;
	return done(an, 0, 0);
}

static int change_role(struct fm *m, const struct chatd_store_member_change *q)
{
	int32_t role = m->role;
	if (q->what == CHATD_STORE_JOIN || q->what == CHATD_STORE_ADD) {
		m->role = m->role ? m->role : CHATD_ROLE_MEMBER;
		m->guest = q->guest;
		chatd_str_copy(m->nick, sizeof(m->nick), q->nick);
	} else {
		assert_int_equal(q->what, CHATD_STORE_LEAVE);
		m->role = CHATD_ROLE_NONE;
	}
	return role != m->role;
}

static chatd_status fake_member_change(void *obj, chatd_worker *w,
		const struct chatd_store_member_change *q, chatd_store_fn *fn, void *arg)
{
	const struct frm *r = room_of(q->room);
	(void)obj;
	if (fake.refuse) {
		return fake.refuse;
	}
	struct answer *an = answer_to(w, fn, arg);
	if (!r) {
		return done(an, -ENOENT, CHATD_STORE_NO_ROOM);
	}
	if (q->what == CHATD_STORE_JOIN && !(r->flags & CHATD_STORE_ROOM_PUBLIC)) {
		return done(an, -EACCES, CHATD_STORE_NOT_INVITED);
	}
	an->a.repeated = !change_role(place_in(r, q->user), q);
	if (!an->a.repeated && q->event) {
		an->a.seq = ++fake.seq;
	}
	return done(an, 0, 0);
}

static const struct chatd_store store_vt = {
	.struct_size = sizeof(store_vt),
	.room_create = fake_room_create,
	.room_get = fake_room_get,
	.room_list = fake_room_list,
	.members = fake_members,
	.member_change = fake_member_change,
};

/* ---- over STOMP ------------------------------------------------------------------ */

static const char yaml[] = "preset: [{id: lobby, name: Lobby}, {id: staff, public: false}]\n"
						   "guest_linger: 1h\n";

/* The store must be able to post while the kit is still being made: presets come first. */
static struct kit *fresh(int32_t workers)
{
	static const struct kit_service services[] = { { CHATD_STORE, &store_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = workers, .services = services };
	fake = (struct fake){ .k = NULL };
	fake.k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	return fake.k;
}

static void coming_and_going_is_told_to_the_room(void **state)
{
	struct kit *k = fresh(3);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 2, "ann", 0);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_published(k, LOBBY, "\"type\":\"JOIN\",\"sender\":\"ann\"");
	kit_expect_published_user(k, "ann", NOTICES, "\"type\":\"JOIN\""); /* on all devices */
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_nothing_published(k);
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_accept(k);
	kit_expect_published(k, LOBBY, "\"type\":\"LEAVE\",\"sender\":\"ann\"");
	kit_expect_published_user(k, "ann", NOTICES, "\"type\":\"LEAVE\"");
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	kit_free(k);
}

static struct kit_client *admin(struct kit *k)
{
	return kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
}

static void on_room(void *arg, chatd_worker *w, const struct chatd_room_event *e)
{
	char *told = arg;
	size_t n = strlen(told);
	(void)w;
	snprintf(told + n, 200 - n, "%d %.*s %.*s;", e->what, (int)e->room.n, e->room.p, (int)e->user.n,
			e->user.p);
}

static void plugins_hear_who_comes_and_goes(void **state)
{
	struct kit *k = fresh(3);
	const struct chatd_service s = kit_provided(k, CHATD_ROOMS);
	const struct chatd_rooms *rooms = s.vt;
	char told[200] = "";
	(void)state;
	for (int i = 0; i < 16; i++) {
		assert_int_equal(rooms->watch(s.obj, on_room, told), 0);
	}
	assert_int_equal(rooms->watch(s.obj, on_room, told), -ENOSPC);
	kit_free(k);
	k = fresh(3);
	const struct chatd_service again = kit_provided(k, CHATD_ROOMS);
	assert_int_equal(rooms->watch(again.obj, on_room, told), 0);
	struct kit_client *ann = kit_open_on(k, 2, "ann", 0), *root = admin(k);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_send(ann, JOIN, "{\"roomId\":\"lobby\"}", NULL);
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_send(ann, LEAVE, "{\"roomId\":\"lobby\"}", NULL);
	kit_send(root, JOIN, "{\"roomId\":\"staff\"}", NULL);
	assert_string_equal(told, "3 lobby ann;4 lobby ann;3 staff root;");
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

/* The store said yes, but somebody was cut off before that was heard. */
static void a_permission_that_is_overtaken_is_asked_for_again(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	struct kit_client *phone = kit_open_on(k, 1, "root", CHATD_ID_ADMIN);
	struct kit_client *desk = kit_open_on(k, 0, "root", 0);
	kit_send(kit_open_on(k, 0, "root", CHATD_ID_ADMIN), JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_accept(k);
	struct kit_client *plain = kit_open_on(k, 1, "root", 0);
	fake.keep_next_look = 1;
	kit_subscribe(plain, STAFF);
	kit_expect_waiting(k, 1);
	kit_send(desk, LEAVE, "{\"roomId\":\"staff\"}", NULL);
	kit_expect_accept(k);
	assert_non_null(fake.kept);
	assert_int_equal(give(fake.kept), 0);
	kit_run(k);
	kit_expect_reject(k, "NOT_MEMBER", NULL);
	(void)phone;
	kit_free(k);
}

static void who_is_banned_hears_nothing(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	struct kit_client *eve = kit_open(k, "eve");
	place_in(&fake.rooms[0], text("eve"))->banned = INT64_MAX;
	kit_subscribe(eve, LOBBY);
	kit_expect_reject(k, "BANNED", NULL);
	kit_free(k);
}

static void what_the_store_cannot_do_is_told(void **state)
{
	static const struct {
		chatd_status rc;
		const char *code;
	} cases[] = { { -EAGAIN, "STORE_BUSY" }, { -EBUSY, "STORE_BUSY" }, { -ENOSPC, "STORE_FULL" },
		{ -EIO, "UNAVAILABLE" }, { -EINVAL, "VALIDATION" } };
	struct kit *k = fresh(1);
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.rc = cases[i].rc;
		kit_in(k, "ann", JOIN, "{\"roomId\":\"lobby\"}");
		kit_expect_reject(k, cases[i].code, NULL);
	}
	fake.rc = 0;
	fake.refuse = -EAGAIN;
	kit_in(k, "ann", JOIN, "{\"roomId\":\"lobby\"}");
	kit_expect_reject(k, "STORE_BUSY", NULL);
	kit_in(k, "ann", LEAVE, "{\"roomId\":\"lobby\"}");
	kit_expect_reject(k, "STORE_BUSY", NULL);
	kit_expect_nothing_published(k);
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

static void run_two(struct kit *k)
{
	while (kit_step(k, 0) + kit_step(k, 1)) {
	}
}

/* One has no processor while somebody leaves, comes back and subscribes. */
static void who_came_back_is_not_cut_by_a_worker_that_is_late(void **state)
{
	(void)state;
	struct kit *k = fresh(3);
	struct kit_client *phone = kit_open_on(k, 1, "root", CHATD_ID_ADMIN);
	struct kit_client *desk = kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
	kit_send(desk, JOIN, "{\"roomId\":\"staff\"}", NULL);
	kit_manual(k, 1);
	kit_send(desk, LEAVE, "{\"roomId\":\"staff\"}", NULL);
	run_two(k);
	kit_send(desk, JOIN, "{\"roomId\":\"staff\"}", NULL);
	run_two(k);
	kit_subscribe(phone, STAFF);
	run_two(k);
	kit_run(k);
	kit_manual(k, 0);
	struct probe p = { .k = k, .c = phone };
	kit_on(k, 1, probe, &p);
	assert_int_equal(p.rc, 0);
	kit_free(k);
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
	kit_expect_published_user(k, "guest1", NOTICES, "JOIN");
	kit_expect_published_user(k, "ann", NOTICES, "JOIN");
	kit_presence(k, "guest1", 1);
	kit_advance(k, 2 * 3600000);
	kit_expect_nothing_published(k);
	kit_presence(k, "guest1", 0);
	kit_advance(k, 3500000);
	kit_expect_nothing_published(k);
	kit_advance(k, 200000);
	kit_expect_published(k, LOBBY, "\"type\":\"LEAVE\",\"sender\":\"guest1\"");
	kit_expect_published_user(k, "guest1", NOTICES, "LEAVE");
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
		kit_expect_complaint(&chatd_plugin_under_test, bad[i][0], bad[i][1]);
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
		cmocka_unit_test(names_cannot_fool_people),
		cmocka_unit_test(what_a_room_is_about_may_have_lines),
		cmocka_unit_test(coming_and_going_is_told_to_the_room),
		cmocka_unit_test(plugins_hear_who_comes_and_goes),
		cmocka_unit_test(a_private_room_answers_like_none),
		cmocka_unit_test(nobody_sends_into_a_room_directly),
		cmocka_unit_test(whoever_leaves_a_private_room_hears_no_more),
		cmocka_unit_test(a_subscription_in_the_making_is_cut_too),
		cmocka_unit_test(who_came_back_is_not_cut_by_a_worker_that_is_late),
		cmocka_unit_test(a_permission_that_is_overtaken_is_asked_for_again),
		cmocka_unit_test(who_is_banned_hears_nothing),
		cmocka_unit_test(what_the_store_cannot_do_is_told),
		cmocka_unit_test(guests_leave_when_they_have_been_away_for_an_hour),
		cmocka_unit_test(plugins_see_what_a_room_is_to_a_user),
		cmocka_unit_test(without_credentials_rest_says_nothing),
		cmocka_unit_test(a_bad_preset_is_named),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

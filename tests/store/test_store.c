/* SPDX-License-Identifier: Apache-2.0 */
/* What every provider of chatd.store/1 must do.  usage: test_store PLUGIN.so */
#include "host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define S(s)  CHATD_LIT(s)
#define SZ(r) .struct_size = sizeof(struct r)
#define ROOM(s)              \
	{                        \
		.room = CHATD_LIT(s) \
	}
#define WALL INT64_C(1700000000000)

static const char *so;
static char dir[64];
static struct host *h;

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void assert_str(struct chatd_str s, const char *expected)
{
	char text[4096];
	snprintf(text, sizeof(text), "%.*s", (int)s.n, s.p ? s.p : "");
	assert_string_equal(text, expected);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/chatd-store-XXXXXX");
	assert_non_null(mkdtemp(dir));
	host_set_wall(WALL);
	h = host_open(so, dir, NULL);
	assert_int_equal(h->rc, 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	host_close(h);
	answers_free();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* ---- shorthands ------------------------------------------------------------------ */

static struct chatd_store_conv conv_of(const char *name)
{
	struct chatd_store_conv c = { 0 };
	const char *slash = strchr(name, '/'); /* "ann/bob" is of two */
	if (slash) {
		c.a = chatd_str_of(name, (size_t)(slash - name));
		c.b = z(slash + 1);
	} else {
		c.room = z(name);
	}
	return c;
}

/* A message whose id is its text. */
static struct kept *say(const char *conv, const char *sender, const char *id)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(sender), .body = z(id), .text = z(id), .wall = WALL };
	return ASK(h, append, r);
}

static struct kept *say_checked(const char *conv, const char *sender, const char *id, int64_t wall)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(sender), .body = S("{}"), .check = 1, .wall = wall };
	return ASK(h, append, r);
}

static void make_room(const char *id, const char *owner, uint32_t flags)
{
	struct chatd_store_room r = { SZ(chatd_store_room), .id = z(id), .name = z(id), .flags = flags,
		.user = owner ? z(owner) : chatd_str_of(NULL, 0), .created = WALL };
	struct kept *k = ASK(h, room_create, r);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n_rooms, 1);
}

static struct kept *member(
		int what, const char *room, const char *user, const char *actor, int64_t extra)
{
	struct chatd_store_member_change r = { SZ(chatd_store_member_change), .what = what,
		.room = z(room), .user = z(user), .actor = actor ? z(actor) : chatd_str_of(NULL, 0),
		.role = (int32_t)extra, .until = what == CHATD_STORE_ROLE ? 0 : extra, .wall = WALL };
	return ASK(h, member_change, r);
}

#define assert_refused(k, status, reason)            \
	do {                                             \
		struct kept *refused_ = (k);                 \
		assert_int_equal(refused_->rc, (status));    \
		assert_int_equal(refused_->a.why, (reason)); \
	} while (0)

/* ---- accounts ------------------------------------------------------------------------ */

static void accounts_are_found_by_id_secret_and_client(void **state)
{
	(void)state;
	struct chatd_account a = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann"),
		.secret = S("s1"), .client = S("c1"), .flags = CHATD_ID_ANONYMOUS, .created = 5 };
	assert_int_equal(ASK(h, account_create, a)->rc, 0);
	assert_int_equal(ASK(h, account_create, a)->rc, -EEXIST);
	a.id = S("bob");
	assert_int_equal(ASK(h, account_create, a)->rc, -EEXIST); /* the secret */
	a.secret = S("s2");
	a.nickname = S("Anton");
	a.created = 6;
	assert_int_equal(ASK(h, account_create, a)->rc, 0);
	struct chatd_store_account_key key = { SZ(chatd_store_account_key), .by = CHATD_STORE_BY_SECRET,
		.key = S("s1") };
	struct kept *k = ASK(h, account_get, key);
	assert_int_equal(k->rc, 0);
	assert_str(k->a.accounts[0].id, "ann");
	assert_int_equal(k->a.accounts[0].flags, CHATD_ID_ANONYMOUS);
	key.by = CHATD_STORE_BY_CLIENT;
	key.key = S("c1");
	assert_str(ASK(h, account_get, key)->a.accounts[0].id, "bob"); /* the more recent one */
	key.by = CHATD_STORE_BY_ID;
	key.key = S("eve");
	assert_int_equal(ASK(h, account_get, key)->rc, -ENOENT);
	struct chatd_store_account_name name = { SZ(chatd_store_account_name), .id = S("bob"),
		.nickname = S("anything") };
	assert_str(ASK(h, account_rename, name)->a.accounts[0].nickname, "anything");
	struct chatd_store_account_search find = { SZ(chatd_store_account_search), .prefix = S("AN"),
		.limit = 10 };
	k = ASK(h, account_search, find);
	assert_int_equal(k->a.n_accounts, 2);
	assert_str(k->a.accounts[0].id, "ann");
	assert_str(k->a.accounts[1].id, "bob");
	find.prefix = S("%");
	assert_int_equal(ASK(h, account_search, find)->a.n_accounts, 0);
	a.id = S("not an id");
	assert_int_equal(ASK(h, account_create, a)->rc, -EINVAL);
}

/* ---- rooms ----------------------------------------------------------------------------- */

static void rooms_are_listed_for_those_who_may_know(void **state)
{
	(void)state;
	make_room("open", NULL, CHATD_STORE_ROOM_PUBLIC | CHATD_STORE_ROOM_PRESET);
	make_room("secret", "ann", 0);
	struct chatd_store_room again = { SZ(chatd_store_room), .id = S("open"), .name = S("x") };
	assert_int_equal(ASK(h, room_create, again)->rc, -EEXIST);
	struct chatd_store_room_key key = { SZ(chatd_store_room_key), .room = S("secret"),
		.user = S("ann") };
	struct kept *k = ASK(h, room_get, key);
	assert_int_equal(k->a.rooms[0].role, CHATD_ROLE_OWNER);
	assert_int_equal(k->a.rooms[0].members, 1);
	key.user = S("bob");
	assert_int_equal(ASK(h, room_get, key)->rc, -ENOENT);
	struct chatd_store_room_list list = { SZ(chatd_store_room_list),
		.scope = CHATD_STORE_PUBLIC | CHATD_STORE_MINE, .user = S("bob"), .limit = 10 };
	k = ASK(h, room_list, list);
	assert_int_equal(k->a.n_rooms, 1);
	assert_str(k->a.rooms[0].id, "open");
	list.user = S("ann");
	assert_int_equal(ASK(h, room_list, list)->a.n_rooms, 2);
	list.scope = CHATD_STORE_MINE;
	k = ASK(h, room_list, list);
	assert_int_equal(k->a.n_rooms, 1);
	assert_str(k->a.rooms[0].id, "secret");
	struct chatd_store_room update = { SZ(chatd_store_room), .id = S("secret"),
		.name = S("Renamed"), .set = CHATD_STORE_SET_NAME, .user = S("bob") };
	assert_int_equal(ASK(h, room_update, update)->rc, -ENOENT);
	update.user = S("ann");
	k = ASK(h, room_update, update);
	assert_int_equal(k->rc, 0);
	assert_str(k->a.rooms[0].name, "Renamed");
	assert_int_equal(k->a.rooms[0].version, 2);
	key.user = S("bob");
	assert_refused(ASK(h, room_delete, key), -ENOENT, CHATD_STORE_NO_ROOM);
	key.user = S("ann");
	assert_int_equal(ASK(h, room_delete, key)->rc, 0);
	assert_int_equal(ASK(h, room_get, key)->rc, -ENOENT);
}

static void joining_follows_the_rooms_rules(void **state)
{
	(void)state;
	make_room("open", "ann", CHATD_STORE_ROOM_PUBLIC);
	make_room("secret", "ann", 0);
	struct kept *k = member(CHATD_STORE_JOIN, "open", "bob", "bob", 0);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.members[0].role, CHATD_ROLE_MEMBER);
	assert_int_equal(k->a.version, 2);
	assert_int_equal(member(CHATD_STORE_JOIN, "open", "bob", "bob", 0)->a.repeated, 1);
	assert_refused(
			member(CHATD_STORE_JOIN, "open", "eve", "bob", 0), -EACCES, CHATD_STORE_NO_RIGHT);
	assert_refused(
			member(CHATD_STORE_JOIN, "nowhere", "bob", "bob", 0), -ENOENT, CHATD_STORE_NO_ROOM);
	assert_refused(
			member(CHATD_STORE_JOIN, "secret", "bob", "bob", 0), -EACCES, CHATD_STORE_NOT_INVITED);
	assert_refused(
			member(CHATD_STORE_INVITE, "secret", "bob", "eve", 0), -ENOENT, CHATD_STORE_NO_ROOM);
	assert_int_equal(member(CHATD_STORE_INVITE, "secret", "bob", "ann", 0)->rc, 0);
	assert_int_equal(member(CHATD_STORE_JOIN, "secret", "bob", "bob", 0)->rc, 0);
	struct chatd_store_room limit = { SZ(chatd_store_room), .id = S("open"), .max_members = 2,
		.set = CHATD_STORE_SET_MAX };
	assert_int_equal(ASK(h, room_update, limit)->rc, 0);
	assert_refused(
			member(CHATD_STORE_JOIN, "open", "eve", "eve", 0), -EDQUOT, CHATD_STORE_ROOM_FULL);
	struct chatd_store_member_change many = { SZ(chatd_store_member_change),
		.what = CHATD_STORE_ADD, .room = S("secret"), .user = S("ann2"), .max_rooms = 1,
		.wall = WALL };
	assert_int_equal(ASK(h, member_change, many)->rc, 0);
	make_room("third", "ann", CHATD_STORE_ROOM_PUBLIC);
	many.room = S("third");
	assert_refused(ASK(h, member_change, many), -EDQUOT, CHATD_STORE_TOO_MANY);
	struct chatd_store_members list = { SZ(chatd_store_members), .room = S("secret"),
		.user = S("bob"), .limit = 2 };
	k = ASK(h, members, list);
	assert_int_equal(k->a.n_members, 2);
	assert_int_equal(k->a.n, 3);
	list.after = k->a.members[1].user;
	assert_int_equal(ASK(h, members, list)->a.n_members, 1);
	list.user = S("eve");
	assert_refused(ASK(h, members, list), -EACCES, CHATD_STORE_NOT_MEMBER);
}

static void moderators_rule_over_lower_roles_only(void **state)
{
	(void)state;
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "r", "bob", NULL, 0);
	member(CHATD_STORE_JOIN, "r", "cat", NULL, 0);
	assert_refused(member(CHATD_STORE_KICK, "r", "cat", "bob", 0), -EACCES, CHATD_STORE_NO_RIGHT);
	assert_refused(member(CHATD_STORE_ROLE, "r", "cat", "bob", CHATD_ROLE_MODERATOR), -EACCES,
			CHATD_STORE_NO_RIGHT);
	assert_int_equal(member(CHATD_STORE_ROLE, "r", "bob", "ann", CHATD_ROLE_MODERATOR)->rc, 0);
	assert_refused(member(CHATD_STORE_KICK, "r", "ann", "bob", 0), -EACCES, CHATD_STORE_NO_RIGHT);
	assert_refused(member(CHATD_STORE_ROLE, "r", "ann", "ann", CHATD_ROLE_MEMBER), -EACCES,
			CHATD_STORE_LAST);
	assert_int_equal(member(CHATD_STORE_KICK, "r", "cat", "bob", 0)->rc, 0);
	assert_int_equal(member(CHATD_STORE_JOIN, "r", "cat", "cat", 0)->rc, 0);
	assert_int_equal(member(CHATD_STORE_BAN, "r", "cat", "bob", WALL + 1000)->rc, 0);
	struct kept *k = member(CHATD_STORE_JOIN, "r", "cat", "cat", 0);
	assert_refused(k, -EACCES, CHATD_STORE_BANNED);
	assert_int_equal(k->a.until, WALL + 1000);
	struct chatd_store_members bans = { SZ(chatd_store_members), .which = CHATD_STORE_BANS,
		.room = S("r"), .user = S("bob"), .limit = 10 };
	assert_int_equal(ASK(h, members, bans)->a.n_members, 1);
	assert_int_equal(member(CHATD_STORE_UNBAN, "r", "cat", "bob", 0)->rc, 0);
	assert_int_equal(member(CHATD_STORE_JOIN, "r", "cat", "cat", 0)->rc, 0);
	/* The owner goes: the moderator follows; the last one takes the room along. */
	assert_str(member(CHATD_STORE_LEAVE, "r", "ann", "ann", 0)->a.successor, "bob");
	assert_int_equal(member(CHATD_STORE_LEAVE, "r", "cat", "cat", 0)->a.n, 0);
	assert_int_equal(member(CHATD_STORE_LEAVE, "r", "bob", "bob", 0)->a.n, 1);
	struct chatd_store_room_key key = { SZ(chatd_store_room_key), .room = S("r") };
	assert_int_equal(ASK(h, room_get, key)->rc, -ENOENT);
}

static void speaking_follows_the_rooms_rules(void **state)
{
	(void)state;
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	assert_refused(say_checked("no", "bob", "1", WALL), -ENOENT, CHATD_STORE_NO_ROOM);
	assert_refused(say_checked("r", "bob", "1", WALL), -EACCES, CHATD_STORE_NOT_MEMBER);
	assert_refused(say_checked("ann/cat", "bob", "1", WALL), -EACCES, CHATD_STORE_NO_RIGHT);
	member(CHATD_STORE_JOIN, "r", "bob", NULL, 0);
	assert_int_equal(say_checked("r", "bob", "1", WALL)->a.seq, 1);
	member(CHATD_STORE_MUTE, "r", "bob", "ann", WALL + 1000);
	struct kept *k = say_checked("r", "bob", "2", WALL);
	assert_refused(k, -EACCES, CHATD_STORE_MUTED);
	assert_int_equal(k->a.until, WALL + 1000);
	/* Leaving and coming back lifts no mute. */
	member(CHATD_STORE_LEAVE, "r", "bob", "bob", 0);
	member(CHATD_STORE_JOIN, "r", "bob", "bob", 0);
	assert_refused(say_checked("r", "bob", "2", WALL), -EACCES, CHATD_STORE_MUTED);
	assert_int_equal(say_checked("r", "bob", "2", WALL + 1000)->a.seq, 2);
	struct chatd_store_room slow = { SZ(chatd_store_room), .id = S("r"), .slow_ms = 5000,
		.set = CHATD_STORE_SET_SLOW };
	ASK(h, room_update, slow);
	assert_int_equal(say_checked("r", "bob", "3", WALL + 2000)->a.seq, 3);
	k = say_checked("r", "bob", "4", WALL + 6999);
	assert_refused(k, -EACCES, CHATD_STORE_SLOW);
	assert_int_equal(k->a.until, WALL + 7000);
	assert_int_equal(say_checked("r", "bob", "4", WALL + 7000)->a.seq, 4);
	assert_int_equal(say_checked("r", "ann", "5", WALL + 7000)->a.seq, 5);
	assert_int_equal(say_checked("r", "ann", "6", WALL + 7000)->a.seq, 6);
	struct chatd_store_room closed = { SZ(chatd_store_room), .id = S("r"),
		.flags = CHATD_STORE_ROOM_PUBLIC | CHATD_STORE_ROOM_READ_ONLY,
		.set = CHATD_STORE_SET_FLAGS };
	ASK(h, room_update, closed);
	assert_refused(say_checked("r", "bob", "7", WALL + 90000), -EACCES, CHATD_STORE_READ_ONLY);
	assert_int_equal(say_checked("r", "ann", "7", WALL + 90000)->a.seq, 7);
}

static void a_membership_event_takes_its_place_in_the_conversation(void **state)
{
	(void)state;
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	struct chatd_store_append event = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("e1"),
		.sender = S("bob"), .body = S("joined"), .wall = WALL };
	struct chatd_store_member_change r = { SZ(chatd_store_member_change), .what = CHATD_STORE_JOIN,
		.room = S("r"), .user = S("bob"), .wall = WALL, .event = &event };
	struct kept *k = ASK(h, member_change, r);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.seq, 1);
	assert_int_equal(ASK(h, member_change, r)->a.repeated, 1); /* no second event */
	say("r", "bob", "m1");
	struct chatd_store_page page = { SZ(chatd_store_page), .conv = ROOM("r"), .limit = 10,
		.after = -1 };
	k = ASK(h, page, page);
	assert_int_equal(k->a.n_messages, 1);
	assert_int_equal(k->a.seq, 2);
	page.events = 1;
	k = ASK(h, page, page);
	assert_int_equal(k->a.n_messages, 2);
	assert_int_equal(k->a.messages[0].kind, CHATD_STORE_EVENT);
}

/* ---- conversations ----------------------------------------------------------------------- */

static void seq_counts_each_conversation(void **state)
{
	(void)state;
	assert_int_equal(say("ann/bob", "ann", "a1")->a.seq, 1);
	assert_int_equal(say("bob/ann", "bob", "a2")->a.seq, 2); /* the same, whichever way round */
	assert_int_equal(say("ann/ann", "ann", "s1")->a.seq, 1);
	assert_int_equal(say("r", "ann", "r1")->a.seq, 1);
	struct kept *k = say("ann/bob", "ann", "a3");
	assert_int_equal(k->a.seq, 3);
	assert_int_equal(k->a.epoch.n, 32);
	assert_int_equal(say("ann/bob", "ann", "a3")->rc, -EEXIST); /* the id; no seq is lost */
	assert_int_equal(say("ann/bob", "ann", "a4")->a.seq, 4);
	struct chatd_store_append back = { SZ(chatd_store_append), .conv = conv_of("ann/bob"),
		.id = S("a5"), .sender = S("ann"), .body = S("{}"), .wall = WALL - 5000 };
	assert_int_equal(ASK(h, append, back)->a.wall, WALL); /* time does not go back */
	back.id = S("");
	assert_int_equal(ASK(h, append, back)->rc, -EINVAL);
}

static void a_client_id_counts_once(void **state)
{
	(void)state;
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("ann/bob"),
		.id = S("m1"), .sender = S("ann"), .client_id = S("c1"), .hash = S("h1"), .body = S("{}"),
		.wall = WALL };
	struct kept *first = ASK(h, append, r);
	assert_int_equal(first->rc, 0);
	assert_int_equal(first->a.repeated, 0);
	r.id = S("m2");
	struct kept *again = ASK(h, append, r);
	assert_int_equal(again->rc, 0);
	assert_int_equal(again->a.repeated, 1);
	assert_str(again->a.id, "m1");
	assert_int_equal(again->a.seq, first->a.seq);
	assert_int_equal(again->a.wall, first->a.wall);
	assert_str(again->a.conv.b, "bob");
	r.hash = S("h2");
	assert_refused(ASK(h, append, r), -EEXIST, CHATD_STORE_MISMATCH);
	r.sender = S("bob"); /* another's clientId is another one */
	assert_int_equal(ASK(h, append, r)->a.seq, 2);
	r.sender = S("ann");
	r.id = S("m3");
	r.wall = WALL + 25 * 3600000; /* the window is over */
	assert_int_equal(ASK(h, append, r)->a.seq, 3);
	r.hash = chatd_str_of(NULL, 0);
	r.id = S("m4");
	assert_int_equal(ASK(h, append, r)->rc, -EEXIST);
	r.client_id = S("c2");
	assert_int_equal(ASK(h, append, r)->rc, -EINVAL);
}

static void pages_go_back_and_forth(void **state)
{
	(void)state;
	char id[16];
	for (int i = 1; i <= 30; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		say("r", "ann", id);
	}
	struct chatd_store_page r = { SZ(chatd_store_page), .conv = ROOM("r"), .limit = 10,
		.after = -1 };
	struct kept *k = ASK(h, page, r);
	assert_int_equal(k->a.n_messages, 10);
	assert_int_equal(k->a.messages[0].seq, 21);
	assert_int_equal(k->a.messages[9].seq, 30);
	assert_str(k->a.messages[9].body, "m30");
	r.before = 21;
	assert_int_equal(ASK(h, page, r)->a.messages[0].seq, 11);
	r.before = 0;
	r.after = 28;
	k = ASK(h, page, r);
	assert_int_equal(k->a.n_messages, 2);
	assert_int_equal(k->a.messages[0].seq, 29);
	r.limit = 0;
	assert_int_equal(ASK(h, page, r)->rc, -EINVAL);
	struct chatd_store_message_key one = { SZ(chatd_store_message_key), .id = S("m7") };
	k = ASK(h, message, one);
	assert_int_equal(k->a.messages[0].seq, 7);
	assert_str(k->a.messages[0].conv.room, "r");
	one.user = S("eve");
	assert_refused(ASK(h, message, one), -ENOENT, CHATD_STORE_NO_ROOM);
}

static void threads_are_read_by_themselves(void **state)
{
	(void)state;
	say("r", "ann", "root");
	say("r", "ann", "other");
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("reply"),
		.sender = S("bob"), .body = S("{}"), .reply_to = S("root"), .thread = S("root"),
		.wall = WALL };
	ASK(h, append, r);
	struct chatd_store_page page = { SZ(chatd_store_page), .conv = ROOM("r"), .thread = S("root"),
		.limit = 10, .after = -1 };
	struct kept *k = ASK(h, page, page);
	assert_int_equal(k->a.n_messages, 2);
	assert_str(k->a.messages[0].id, "root");
	assert_str(k->a.messages[1].reply_to, "root");
}

static void a_replay_is_whole_or_not_at_all(void **state)
{
	(void)state;
	char id[16];
	struct kept *k = NULL;
	for (int i = 1; i <= 20; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		k = say("r", "ann", id);
	}
	struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = ROOM("r"), .epoch = k->a.epoch,
		.since = 5, .max = 15 };
	k = ASK(h, replay, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 15);
	for (size_t i = 0; i < 15; i++) {
		assert_int_equal(k->a.messages[i].seq, 6 + i);
	}
	r.max = 14;
	k = ASK(h, replay, r);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.n_messages, 0);
	assert_int_equal(k->a.first, 1);
	assert_int_equal(k->a.seq, 20);
	r.max = 100;
	r.since = 21; /* more than there ever was */
	assert_int_equal(ASK(h, replay, r)->a.whole, 0);
	r.since = 20;
	assert_int_equal(ASK(h, replay, r)->a.whole, 1);
	r.epoch = S("another");
	assert_int_equal(ASK(h, replay, r)->a.whole, 0);
	r.user = S("eve");
	assert_refused(ASK(h, replay, r), -ENOENT, CHATD_STORE_NO_ROOM);
}

static void the_inbox_replays_all_direct_conversations(void **state)
{
	(void)state;
	struct kept *k = say("ann/bob", "bob", "1");
	int64_t since = k->a.pos;
	say("ann/cat", "cat", "2");
	say("bob/cat", "cat", "not ann's");
	say("r", "cat", "a room's");
	say("ann/bob", "ann", "3");
	say("ann/ann", "ann", "4");
	struct chatd_store_inbox r = { SZ(chatd_store_inbox), .user = S("ann"), .since = since,
		.max = 3 };
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 3);
	assert_str(k->a.messages[0].id, "2");
	assert_str(k->a.messages[1].id, "3");
	assert_str(k->a.messages[2].id, "4");
	assert_int_equal(k->a.pos, k->a.messages[2].pos);
	r.max = 2;
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.n_messages, 0);
	r.since = k->a.pos;
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 0);
}

static struct kept *change(int kind, const char *target, const char *id, const char *actor)
{
	struct chatd_store_change r = { SZ(chatd_store_change), .kind = kind, .target = z(target),
		.id = z(id), .actor = actor ? z(actor) : chatd_str_of(NULL, 0), .body = z(id),
		.new_body = S("new"),
		.new_text = kind == CHATD_STORE_EDIT ? S("fresh words") : chatd_str_of(NULL, 0),
		.emoji = S("\xf0\x9f\x91\x8d"), .wall = WALL };
	return ASK(h, change, r);
}

static void edits_and_deletions_are_rows_and_change_the_message(void **state)
{
	(void)state;
	say("ann/bob", "ann", "m1");
	assert_refused(change(CHATD_STORE_EDIT, "m1", "x", "bob"), -EACCES, CHATD_STORE_NO_RIGHT);
	struct kept *k = change(CHATD_STORE_EDIT, "m1", "edit1", "ann");
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.seq, 2);
	assert_str(k->a.messages[0].body, "new");
	assert_true(k->a.messages[0].flags & CHATD_STORE_EDITED);
	assert_int_equal(k->a.messages[0].seq, 1);
	assert_int_equal(change(CHATD_STORE_DELETE, "m1", "x", "bob")->rc, -EACCES);
	assert_int_equal(change(CHATD_STORE_DELETE, "m1", "del1", "ann")->a.seq, 3);
	assert_int_equal(change(CHATD_STORE_EDIT, "m1", "x", "ann")->rc, -ENOENT);
	struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = conv_of("ann/bob"), .max = 10 };
	k = ASK(h, replay, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 3);
	assert_true(k->a.messages[0].flags & CHATD_STORE_DELETED);
	assert_int_equal(k->a.messages[1].kind, CHATD_STORE_EDIT);
	assert_true(k->a.messages[1].flags & CHATD_STORE_ERASED); /* what it said is gone too */
	assert_int_equal(k->a.messages[1].body.n, 0);
	assert_str(k->a.messages[2].target, "m1");
	assert_str(k->a.messages[2].body, "del1");
	/* In a room a moderator may delete, a stranger may not. */
	make_room("r", "owner", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "r", "ann", NULL, 0);
	member(CHATD_STORE_JOIN, "r", "bob", NULL, 0);
	say("r", "ann", "r1");
	assert_refused(change(CHATD_STORE_DELETE, "r1", "x", "bob"), -EACCES, CHATD_STORE_NO_RIGHT);
	assert_refused(change(CHATD_STORE_EDIT, "r1", "x", "owner"), -EACCES, CHATD_STORE_NO_RIGHT);
	assert_int_equal(change(CHATD_STORE_DELETE, "r1", "y", "owner")->rc, 0);
	say("r", "ann", "r2");
	member(CHATD_STORE_LEAVE, "r", "ann", "ann", 0);
	assert_refused(change(CHATD_STORE_EDIT, "r2", "x", "ann"), -EACCES, CHATD_STORE_NOT_MEMBER);
}

static void reactions_add_up(void **state)
{
	(void)state;
	say("ann/bob", "ann", "m1");
	struct kept *k = change(CHATD_STORE_REACTION, "m1", "r1", "bob");
	assert_int_equal(k->a.seq, 2);
	assert_int_equal(change(CHATD_STORE_REACTION, "m1", "r2", "ann")->a.seq, 3);
	k = change(CHATD_STORE_REACTION, "m1", "r3", "bob"); /* it is there */
	assert_int_equal(k->a.repeated, 1);
	assert_str(k->a.messages[0].reactions, "{\"\xf0\x9f\x91\x8d\":[\"ann\",\"bob\"]}");
	assert_refused(change(CHATD_STORE_REACTION, "m1", "x", "eve"), -EACCES, CHATD_STORE_NO_RIGHT);
	struct chatd_store_change r = { SZ(chatd_store_change), .kind = CHATD_STORE_REACTION,
		.target = S("m1"), .id = S("r4"), .actor = S("bob"), .emoji = S("\xf0\x9f\x91\x8d"),
		.remove = 1, .wall = WALL };
	k = ASK(h, change, r);
	assert_int_equal(k->a.seq, 4);
	assert_str(k->a.messages[0].reactions, "{\"\xf0\x9f\x91\x8d\":[\"ann\"]}");
	assert_int_equal(change(CHATD_STORE_DELETE, "m1", "d", "ann")->rc, 0);
	struct chatd_store_message_key one = { SZ(chatd_store_message_key), .id = S("m1") };
	assert_null(ASK(h, message, one)->a.messages[0].reactions.p);
}

static void pins_are_for_moderators(void **state)
{
	(void)state;
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "r", "bob", NULL, 0);
	say("r", "bob", "m1");
	struct chatd_store_pin r = { SZ(chatd_store_pin), .id = S("m1"), .actor = S("bob"),
		.wall = WALL };
	assert_refused(ASK(h, pin, r), -EACCES, CHATD_STORE_NO_RIGHT);
	r.actor = S("ann");
	assert_int_equal(ASK(h, pin, r)->a.n, 1);
	assert_int_equal(ASK(h, pin, r)->a.n, 0);
	struct chatd_store_conv_key key = { SZ(chatd_store_conv_key), .conv = ROOM("r") };
	struct kept *k = ASK(h, pins, key);
	assert_int_equal(k->a.n_messages, 1);
	assert_true(k->a.messages[0].flags & CHATD_STORE_PINNED);
	r.remove = 1;
	assert_int_equal(ASK(h, pin, r)->a.n, 1);
	assert_int_equal(ASK(h, pins, key)->a.n_messages, 0);
}

static struct kept *read_to(const char *user, const char *device, int64_t seq)
{
	struct chatd_store_cursor r = { SZ(chatd_store_cursor), .kind = CHATD_STORE_READ,
		.conv = conv_of("ann/bob"), .user = z(user), .device = z(device), .seq = seq };
	return ASK(h, cursor_set, r);
}

static void cursors_move_forward_only(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		char id[8];
		snprintf(id, sizeof(id), "m%d", i);
		say("ann/bob", "bob", id);
	}
	struct chatd_store_conv_key key = { SZ(chatd_store_conv_key), .conv = conv_of("ann/bob"),
		.user = S("ann") };
	assert_int_equal(ASK(h, top, key)->a.n, 5);
	struct kept *k = read_to("ann", "phone", 3);
	assert_int_equal(k->a.seq, 3);
	assert_int_equal(k->a.n, 1);
	k = read_to("ann", "phone", 2);
	assert_int_equal(k->a.seq, 3);
	assert_int_equal(k->a.n, 0);
	assert_int_equal(read_to("ann", "desk", 99)->a.seq, 5); /* not beyond the top */
	assert_int_equal(read_to("eve", "x", 1)->rc, -EACCES);
	assert_int_equal(ASK(h, top, key)->a.n, 0);
	key.user = S("bob");
	assert_int_equal(ASK(h, top, key)->a.n, 0); /* one's own are not unread */
	struct chatd_store_cursor_list list = { SZ(chatd_store_cursor_list), .kind = CHATD_STORE_READ,
		.conv = conv_of("ann/bob"), .limit = 10 };
	k = ASK(h, cursors, list);
	assert_int_equal(k->a.n_cursors, 1);
	assert_str(k->a.cursors[0].user, "ann");
	assert_int_equal(k->a.cursors[0].seq, 5);
}

static void conversations_show_the_newest_first(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	say("ann/bob", "bob", "1");
	say("cat/ann", "cat", "2");
	say("cat/bob", "cat", "3");
	change(CHATD_STORE_REACTION, "1", "x", "ann");
	struct chatd_store_conversations r = { SZ(chatd_store_conversations), .user = S("ann"),
		.limit = 2 };
	struct kept *k = ASK(h, conversations, r);
	assert_int_equal(k->a.n_conversations, 2);
	assert_str(k->a.conversations[0].conv.b, "cat");
	assert_int_equal(k->a.conversations[0].unread, 1);
	assert_str(k->a.conversations[0].last.id, "2");
	assert_str(k->a.conversations[1].last.id, "1"); /* a reaction is no message */
	assert_int_equal(k->a.conversations[1].seq, 2);
	r.before = k->a.conversations[1].pos;
	k = ASK(h, conversations, r);
	assert_int_equal(k->a.n_conversations, 1);
	assert_str(k->a.conversations[0].name, "r");
	assert_int_equal(k->a.conversations[0].role, CHATD_ROLE_OWNER);
	assert_int_equal(k->a.conversations[0].last.kind, 0);
}

static struct kept *search(const char *user, const char *query)
{
	struct chatd_store_search r = { SZ(chatd_store_search),
		.user = user ? z(user) : chatd_str_of(NULL, 0), .query = z(query), .limit = 10 };
	return ASK(h, search, r);
}

static void search_shows_only_what_one_may_read_now(void **state)
{
	(void)state;
	make_room("open", "ann", CHATD_STORE_ROOM_PUBLIC);
	make_room("secret", "ann", 0);
	say("open", "ann", "the public apple");
	say("secret", "ann", "the secret apple");
	say("ann/bob", "bob", "our apple \"quoted\" AND more");
	assert_int_equal(search("eve", "apple")->a.n_messages, 1);
	assert_int_equal(search("bob", "apple")->a.n_messages, 2);
	assert_int_equal(search("ann", "apple")->a.n_messages, 3);
	assert_int_equal(search(NULL, "APP")->a.n_messages, 3); /* the beginning of a word */
	assert_int_equal(search(NULL, "app the")->a.n_messages, 0);
	assert_str(search("ann", "apple")->a.messages[0].conv.a, "ann"); /* the newest first */
	assert_int_equal(search("bob", "\"quoted\" AND")->a.n_messages, 1);
	assert_int_equal(search("bob", "( OR * NEAR/ ^ : -")->rc, 0);
	assert_int_equal(search("bob", "   ")->a.n_messages, 0);
	member(CHATD_STORE_ADD, "secret", "bob", NULL, 0);
	assert_int_equal(search("bob", "apple")->a.n_messages, 3);
	member(CHATD_STORE_BAN, "secret", "bob", "ann", INT64_MAX);
	member(CHATD_STORE_BAN, "open", "bob", "ann", INT64_MAX);
	assert_int_equal(search("bob", "apple")->a.n_messages, 1);
	change(CHATD_STORE_EDIT, "the public apple", "e", NULL);
	assert_int_equal(search("ann", "public")->a.n_messages, 0);
	assert_int_equal(search("ann", "fresh words")->a.n_messages, 1);
	change(CHATD_STORE_DELETE, "the public apple", "d", NULL);
	assert_int_equal(search("ann", "fresh")->a.n_messages, 0);
	struct chatd_store_search one = { SZ(chatd_store_search), .user = S("ann"), .query = S("apple"),
		.conv = ROOM("secret"), .limit = 10 };
	assert_int_equal(ASK(h, search, one)->a.n_messages, 1);
	one.user = S("eve");
	assert_int_equal(ASK(h, search, one)->rc, -EACCES);
}

static void mentions_are_found_while_one_may_read_them(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	member(CHATD_STORE_ADD, "r", "bob", NULL, 0);
	struct chatd_str who[] = { S("bob"), S("bob"), S("eve"), S("not an id") };
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("m1"),
		.sender = S("ann"), .body = S("{}"), .mentions = who, .n_mentions = 4, .wall = WALL };
	ASK(h, append, r);
	struct chatd_store_mentions m = { SZ(chatd_store_mentions), .user = S("bob"), .limit = 10 };
	assert_int_equal(ASK(h, mentions, m)->a.n_messages, 1);
	m.user = S("eve");
	assert_int_equal(ASK(h, mentions, m)->a.n_messages, 0);
	m.user = S("bob");
	member(CHATD_STORE_KICK, "r", "bob", "ann", 0);
	assert_int_equal(ASK(h, mentions, m)->a.n_messages, 0);
}

static void the_outbox_holds_until_confirmed(void **state)
{
	(void)state;
	struct chatd_store_out out[] = { { .route = S("chat.all"), .headers = S("{}") },
		{ .route = S("chat.b"), .body = S("other") } };
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("m1"),
		.sender = S("ann"), .body = S("body"), .out = out, .n_out = 2, .wall = WALL };
	ASK(h, append, r);
	struct chatd_store_outbox_fetch f = { SZ(chatd_store_outbox_fetch), .owner = S("n1"),
		.wall = WALL, .lease_ms = 1000, .limit = 10 };
	struct kept *k = ASK(h, outbox_fetch, f);
	assert_int_equal(k->a.n_outbox, 2);
	assert_str(k->a.outbox[0].body, "body");
	assert_int_equal(k->a.outbox[0].message.seq, 1);
	assert_str(k->a.outbox[1].body, "other");
	assert_int_equal(ASK(h, outbox_fetch, f)->a.n_outbox, 0); /* held */
	int64_t row = k->a.outbox[0].row;
	struct chatd_store_outbox_done d = { SZ(chatd_store_outbox_done), .rows = &row, .n = 1 };
	assert_int_equal(ASK(h, outbox_done, d)->a.n, 1);
	f.wall += 1000; /* the holder died */
	f.owner = S("n2");
	k = ASK(h, outbox_fetch, f);
	assert_int_equal(k->a.n_outbox, 1);
	row = k->a.outbox[0].row;
	d.release = 1;
	assert_int_equal(ASK(h, outbox_done, d)->a.n, 1);
	assert_int_equal(ASK(h, outbox_fetch, f)->a.n_outbox, 1);
}

/* ---- upkeep ---------------------------------------------------------------------------------- */

static int64_t sweep_all(int64_t wall)
{
	struct chatd_store_sweep r = { SZ(chatd_store_sweep), .wall = wall };
	int64_t all = 0, n;
	while ((n = ASK(h, sweep, r)->a.n) > 0) {
		all += n;
	}
	return all;
}

static void what_guests_say_lasts_a_day(void **state)
{
	(void)state;
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("g1"),
		.sender = S("guest"), .body = S("{}"), .text = S("guestword"), .flags = CHATD_STORE_GUEST,
		.wall = WALL };
	say("r", "ann", "before");
	ASK(h, append, r);
	say("r", "ann", "after");
	assert_int_equal(sweep_all(WALL + 86400000 - 1), 0);
	assert_int_equal(search(NULL, "guestword")->a.n_messages, 1);
	assert_true(sweep_all(WALL + 86400000) > 0);
	assert_int_equal(search(NULL, "guestword")->a.n_messages, 0);
	struct chatd_store_replay all = { SZ(chatd_store_replay), .conv = ROOM("r"), .max = 10 };
	struct kept *k = ASK(h, replay, all);
	assert_int_equal(k->a.whole, 1); /* the place is kept, so 1, 2, 3 goes on */
	assert_int_equal(k->a.n_messages, 3);
	assert_true(k->a.messages[1].flags & CHATD_STORE_ERASED);
	assert_int_equal(k->a.messages[1].body.n, 0);
	struct chatd_store_page page = { SZ(chatd_store_page), .conv = ROOM("r"), .limit = 9,
		.after = -1 };
	assert_int_equal(ASK(h, page, page)->a.n_messages, 2);
	r.conv.room = S("r2"); /* at the old end nothing stays */
	r.id = S("g2");
	ASK(h, append, r);
	say("r2", "ann", "r2");
	sweep_all(WALL + 86400000);
	all.conv.room = S("r2");
	k = ASK(h, replay, all);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.first, 2);
}

static void a_rooms_retention_cuts_its_old_end(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	struct chatd_store_room keep_ms = { SZ(chatd_store_room), .id = S("r"), .retention_ms = 1000,
		.set = CHATD_STORE_SET_RETENTION };
	ASK(h, room_update, keep_ms);
	for (int i = 1; i <= 5; i++) {
		char id[8];
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(say_checked("r", "ann", id, WALL + i * 500)->a.seq, i);
	}
	assert_true(sweep_all(WALL + 3000) > 0);
	struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = ROOM("r"), .max = 10 };
	struct kept *k = ASK(h, replay, r);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.first, 4);
	r.since = 3;
	k = ASK(h, replay, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 2);
	struct chatd_store_message_key one = { SZ(chatd_store_message_key), .id = S("1") };
	assert_int_equal(ASK(h, message, one)->rc, -ENOENT);
}

static void a_deleted_room_leaves_no_message_and_goes_on_counting(void **state)
{
	(void)state;
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	say("r", "ann", "apple1");
	say("r", "ann", "apple2");
	struct chatd_store_room_key key = { SZ(chatd_store_room_key), .room = S("r") };
	assert_int_equal(ASK(h, room_delete, key)->rc, 0);
	assert_int_equal(search(NULL, "apple1")->a.n_messages, 0); /* even before the sweep */
	sweep_all(WALL);
	make_room("r", "bob", CHATD_STORE_ROOM_PUBLIC);
	assert_int_equal(say("r", "bob", "new")->a.seq, 3);
	struct chatd_store_page page = { SZ(chatd_store_page), .conv = ROOM("r"), .limit = 9,
		.after = -1 };
	struct kept *k = ASK(h, page, page);
	assert_int_equal(k->a.n_messages, 1);
	assert_int_equal(k->a.first, 3);
}

static void a_backup_is_whole_and_never_overwrites(void **state)
{
	(void)state;
	char path[128], id[16];
	for (int i = 0; i < 500; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		say("r", "ann", id);
	}
	snprintf(path, sizeof(path), "%s/copy.db", dir);
	struct chatd_store_backup r = { SZ(chatd_store_backup), .path = z(path) };
	struct kept *k = ASK(h, backup, r);
	assert_int_equal(k->rc, 0);
	assert_true(k->a.n > 4096);
	assert_int_equal(ASK(h, backup, r)->rc, -EEXIST);
	r.path = S("/nonexistent/folder/file");
	assert_int_equal(ASK(h, backup, r)->rc, -ENOENT);
}

/* ---- the sequencer, under load ------------------------------------------------------------------ */

enum { SENDERS = 6, EACH = 400, CONVS = 5, IN_FLIGHT = 32 };

struct sender {
	pthread_t thread;
	int number, answered, sent;
	int conv[EACH];
	int64_t seq[EACH];
};
struct sent {
	struct sender *s;
	int i;
};

static void on_sent(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sent *one = arg;
	one->s->seq[one->i] = rc == 0 ? a->seq : rc;
	one->s->answered++;
	free(one);
}

static void *send_all(void *arg)
{
	struct sender *s = arg;
	chatd_worker *w = &h->workers[1 + s->number];
	unsigned seed = 77u + (unsigned)s->number;
	while (s->answered < EACH) {
		while (s->sent < EACH && s->sent - s->answered < IN_FLIGHT) {
			char conv[8], id[32], who[16];
			s->conv[s->sent] = rand_r(&seed) % CONVS;
			snprintf(conv, sizeof(conv), "c%d", s->conv[s->sent]);
			snprintf(who, sizeof(who), "u%d", s->number);
			snprintf(id, sizeof(id), "%d-%d", s->number, s->sent);
			struct chatd_store_append r = { SZ(chatd_store_append), .conv = { .room = z(conv) },
				.id = z(id), .sender = z(who), .client_id = z(id), .hash = z(id), .body = z(id),
				.text = rand_r(&seed) % 2 ? z(id) : chatd_str_of(NULL, 0), .wall = WALL };
			struct sent *one = calloc(1, sizeof(*one));
			*one = (struct sent){ s, s->sent++ };
			if (h->vt->append(h->obj, w, &r, on_sent, one) < 0) {
				abort();
			}
		}
		host_turn(w, 1000);
	}
	return NULL;
}

static void no_conversation_has_a_hole_and_no_sender_is_overtaken(void **state)
{
	(void)state;
	static struct sender s[SENDERS];
	static char seen[CONVS][SENDERS * EACH + 2];
	int64_t top[CONVS] = { 0 };
	for (int i = 0; i < SENDERS; i++) {
		s[i].number = i;
		pthread_create(&s[i].thread, NULL, send_all, &s[i]);
	}
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(s[i].thread, NULL);
	}
	for (int i = 0; i < SENDERS; i++) {
		int64_t last[CONVS] = { 0 };
		for (int k = 0; k < EACH; k++) {
			int c = s[i].conv[k];
			int64_t seq = s[i].seq[k];
			assert_true(seq > last[c] && seq <= SENDERS * EACH); /* in the order of sending */
			last[c] = seq;
			assert_int_equal(seen[c][seq], 0);
			seen[c][seq] = 1;
			top[c] = seq > top[c] ? seq : top[c];
		}
	}
	for (int c = 0; c < CONVS; c++) {
		char conv[8];
		for (int64_t i = 1; i <= top[c]; i++) {
			assert_int_equal(seen[c][i], 1); /* no hole */
		}
		snprintf(conv, sizeof(conv), "c%d", c);
		struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = { .room = z(conv) },
			.max = 10000 };
		struct kept *k = ASK(h, replay, r);
		assert_int_equal(k->a.whole, 1);
		assert_int_equal(k->a.n_messages, top[c]);
	}
}

static void what_an_older_caller_does_not_know_is_zero(void **state)
{
	(void)state;
	struct chatd_store_append r = { .struct_size = offsetof(struct chatd_store_append, check),
		.conv = ROOM("nowhere"),
		.id = S("m"),
		.sender = S("ann"),
		.body = S("{}"),
		.check = 1,
		.wall = WALL };
	assert_int_equal(ASK(h, append, r)->rc, 0); /* check is beyond the struct */
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_OK);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(accounts_are_found_by_id_secret_and_client),
		T(rooms_are_listed_for_those_who_may_know), T(joining_follows_the_rooms_rules),
		T(moderators_rule_over_lower_roles_only), T(speaking_follows_the_rooms_rules),
		T(a_membership_event_takes_its_place_in_the_conversation), T(seq_counts_each_conversation),
		T(a_client_id_counts_once), T(pages_go_back_and_forth), T(threads_are_read_by_themselves),
		T(a_replay_is_whole_or_not_at_all), T(the_inbox_replays_all_direct_conversations),
		T(edits_and_deletions_are_rows_and_change_the_message), T(reactions_add_up),
		T(pins_are_for_moderators), T(cursors_move_forward_only),
		T(conversations_show_the_newest_first), T(search_shows_only_what_one_may_read_now),
		T(mentions_are_found_while_one_may_read_them), T(the_outbox_holds_until_confirmed),
		T(what_guests_say_lasts_a_day), T(a_rooms_retention_cuts_its_old_end),
		T(a_deleted_room_leaves_no_message_and_goes_on_counting),
		T(a_backup_is_whole_and_never_overwrites),
		T(no_conversation_has_a_hole_and_no_sender_is_overtaken),
		T(what_an_older_caller_does_not_know_is_zero) };
	if (argc < 2) {
		fprintf(stderr, "usage: test_store PLUGIN.so\n");
		return 2;
	}
	so = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}

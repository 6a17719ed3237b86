/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts, rooms and who may do what there: for every provider of chatd.store/1. */
#include "suite.h"

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

/* Inside the commit, whatever the caller has looked up before. */
static void moderators_change_what_they_work_with_and_owners_the_rest(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	member(CHATD_STORE_ADD, "r", "bob", NULL, 0);
	assert_int_equal(member(CHATD_STORE_ROLE, "r", "bob", "ann", CHATD_ROLE_MODERATOR)->rc, 0);
	struct chatd_store_room to = { SZ(chatd_store_room), .id = S("r"), .user = S("bob"),
		.flags = CHATD_STORE_ROOM_READ_ONLY, .set = CHATD_STORE_SET_FLAGS };
	assert_int_equal(ASK(h, room_update, to)->rc, 0);
	to.flags = CHATD_STORE_ROOM_PUBLIC | CHATD_STORE_ROOM_READ_ONLY;
	assert_refused(ASK(h, room_update, to), -EACCES, CHATD_STORE_NO_RIGHT);
	to.name = S("x");
	to.set = CHATD_STORE_SET_NAME;
	assert_refused(ASK(h, room_update, to), -EACCES, CHATD_STORE_NO_RIGHT);
	to.set = CHATD_STORE_SET_SLOW;
	assert_int_equal(ASK(h, room_update, to)->rc, 0);
	to.user = S("ann");
	to.set = CHATD_STORE_SET_NAME | CHATD_STORE_SET_FLAGS;
	assert_int_equal(ASK(h, room_update, to)->rc, 0);
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

static void guests_are_members_and_no_more(void **state)
{
	(void)state;
	make_room("a", "ann", CHATD_STORE_ROOM_PUBLIC);
	make_room("b", "ann", CHATD_STORE_ROOM_PUBLIC);
	struct chatd_store_member_change join = { SZ(chatd_store_member_change),
		.what = CHATD_STORE_JOIN, .room = S("a"), .user = S("guest1"), .nick = S("One"), .guest = 1,
		.wall = WALL };
	ASK(h, member_change, join);
	join.room = S("b");
	ASK(h, member_change, join);
	join.user = S("guest2");
	ASK(h, member_change, join);
	assert_int_equal(
			member(CHATD_STORE_ROLE, "a", "guest1", "ann", CHATD_ROLE_MODERATOR)->rc, -EINVAL);
	struct chatd_store_members list = { SZ(chatd_store_members), .which = CHATD_STORE_GUESTS,
		.limit = 10 };
	struct kept *k = ASK(h, members, list);
	assert_int_equal(k->a.n_members, 2);
	assert_str(k->a.members[0].user, "guest1");
	assert_str(k->a.members[0].nick, "One");
	list.after = S("guest1");
	assert_int_equal(ASK(h, members, list)->a.n_members, 1);
	member(CHATD_STORE_LEAVE, "b", "guest2", "guest2", 0);
	assert_int_equal(ASK(h, members, list)->a.n_members, 0);
	list.user = S("ann");
	assert_int_equal(ASK(h, members, list)->rc, -EINVAL);
}

static void invitations_and_bans_are_told_to_whom_they_concern(void **state)
{
	(void)state;
	make_room("secret", "ann", 0);
	struct chatd_store_room_list list = { SZ(chatd_store_room_list),
		.scope = CHATD_STORE_INVITED_TO, .user = S("bob"), .limit = 10 };
	assert_int_equal(ASK(h, room_list, list)->a.n_rooms, 0);
	member(CHATD_STORE_INVITE, "secret", "bob", "ann", 0);
	struct kept *k = ASK(h, room_list, list);
	assert_int_equal(k->a.n_rooms, 1);
	assert_int_equal(k->a.rooms[0].invited, 1);
	member(CHATD_STORE_JOIN, "secret", "bob", "bob", 0);
	assert_int_equal(ASK(h, room_list, list)->a.n_rooms, 0);
	list.scope |= CHATD_STORE_PUBLIC;
	assert_int_equal(ASK(h, room_list, list)->rc, -EINVAL);
	struct chatd_store_append event = { SZ(chatd_store_append), .conv = ROOM("secret"),
		.id = S("e1"), .body = S("banned"), .wall = WALL };
	struct chatd_store_member_change ban = { SZ(chatd_store_member_change), .what = CHATD_STORE_BAN,
		.room = S("secret"), .user = S("bob"), .until = WALL * 2, .wall = WALL, .event = &event };
	assert_int_equal(ASK(h, member_change, ban)->a.seq, 1);
	ban.user = S("stranger"); /* the room does not hear of somebody who was never there */
	event.id = S("e2");
	k = ASK(h, member_change, ban);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.seq, 0);
	struct chatd_store_room_key key = { SZ(chatd_store_room_key), .room = S("secret"),
		.user = S("bob") };
	assert_int_equal(ASK(h, room_get, key)->rc, -ENOENT);
	make_room("open", "ann", CHATD_STORE_ROOM_PUBLIC);
	ban.room = S("open");
	ban.event = NULL;
	ASK(h, member_change, ban);
	key.room = S("open");
	key.user = S("stranger");
	assert_int_equal(ASK(h, room_get, key)->a.rooms[0].banned_until, WALL * 2);
}

static void there_is_place_for_so_many_rooms(void **state)
{
	(void)state;
	make_room("one", "ann", 0);
	struct chatd_store_room two = { SZ(chatd_store_room), .id = S("two"), .name = S("x"),
		.max_total = 1 };
	assert_refused(ASK(h, room_create, two), -EDQUOT, CHATD_STORE_NO_PLACE);
	two.max_total = 2;
	assert_int_equal(ASK(h, room_create, two)->rc, 0);
}

/* ---- devices -------------------------------------------------------------------------- */

static struct kept *log_in(const char *id, int32_t max)
{
	static const char hash[65] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct chatd_store_login l = { SZ(chatd_store_login), .id = z(id), .user = S("ann"),
		.refresh = z(hash), .created = host_wall(), .expires = WALL + 5000, .max = max };
	return ASK(h, login_create, l);
}

static struct kept *read_on(const char *login, int64_t seq)
{
	struct chatd_store_cursor r = { SZ(chatd_store_cursor), .kind = CHATD_STORE_READ,
		.conv = conv_of("ann/bob"), .user = S("ann"), .device = z(login), .seq = seq };
	return ASK(h, cursor_set, r);
}

static int64_t ann_has_read(void)
{
	struct chatd_store_cursor_list r = { SZ(chatd_store_cursor_list), .kind = CHATD_STORE_READ,
		.limit = 10, .conv = conv_of("ann/bob") };
	struct kept *k = ASK(h, cursors, r);
	assert_int_equal(k->a.n_cursors, 1);
	return k->a.cursors[0].seq;
}

static void what_a_device_has_read_stays_read_without_it(void **state)
{
	(void)state;
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann"),
		.email = S("ann@x.org"), .password = S("hash") };
	ASK(h, account_create, ann);
	assert_int_equal(log_in("l1", 2)->rc, 0);
	log_in("l2", 2);
	for (char id[] = "m0"; id[1] < '8'; id[1]++) {
		say("ann/bob", "bob", id);
	}
	assert_int_equal(read_on("l1", 3)->a.n, 1);
	struct kept *k = read_on("l2", 2);
	assert_int_equal(k->a.n, 0); /* its own moved, hers did not */
	assert_int_equal(k->a.seq, 3);
	k = read_on("l2", 4);
	assert_int_equal(k->a.n, 1);
	assert_int_equal(k->a.seq, 4);
	assert_int_equal(read_on("l1", 6)->a.n, 1);
	host_set_wall(WALL + 1);
	log_in("l3", 1); /* which ends both */
	assert_int_equal(ann_has_read(), 6);
	assert_int_equal(read_on("l3", 7)->a.n, 1);
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 5001 };
	ASK(h, sweep, sweep); /* which ends the third */
	assert_int_equal(ann_has_read(), 7);
	assert_int_equal(read_on("l3", 8)->a.n, 1); /* it is nobody's now */
	assert_int_equal(ann_has_read(), 8);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(accounts_are_found_by_id_secret_and_client),
		T(rooms_are_listed_for_those_who_may_know), T(joining_follows_the_rooms_rules),
		T(moderators_rule_over_lower_roles_only), T(speaking_follows_the_rooms_rules),
		T(moderators_change_what_they_work_with_and_owners_the_rest),
		T(speaking_follows_the_rooms_rules),
		T(a_membership_event_takes_its_place_in_the_conversation),
		T(guests_are_members_and_no_more), T(invitations_and_bans_are_told_to_whom_they_concern),
		T(there_is_place_for_so_many_rooms), T(what_a_device_has_read_stays_read_without_it) };
	return suite_args(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}

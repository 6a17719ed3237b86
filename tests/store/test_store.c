/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations and upkeep: for every provider of chatd.store/1. */
#include "suite.h"

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
	int64_t top = k->a.pos;
	r.since = top;
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 0);
	/* Cursors of the future and of another life: the top is still what it is. */
	r.since = top + 1000;
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.pos, top);
	r.epoch = S("another");
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.pos, top);
	r = (struct chatd_store_inbox){ SZ(chatd_store_inbox), .user = S("nobody"), .max = 3 };
	k = ASK(h, replay_inbox, r);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.pos, 0);
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
		char id[16];
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
	assert_int_equal(
			read_to("ann", "desk", 6)->rc, -ERANGE); /* beyond the top, and nothing moves */
	assert_int_equal(ASK(h, top, key)->a.n, 2);
	assert_int_equal(read_to("ann", "desk", 5)->a.seq, 5);
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
	struct chatd_store_cursor had = { SZ(chatd_store_cursor), .kind = CHATD_STORE_DELIVERED,
		.conv = conv_of("ann/bob"), .user = S("ann"), .seq = 4 };
	assert_int_equal(ASK(h, cursor_set, had)->rc, 0);
	assert_int_equal(ASK(h, cursors, list)->a.n_cursors, 1);
	list.kind = 0; /* both */
	k = ASK(h, cursors, list);
	assert_int_equal(k->a.n_cursors, 2);
	assert_int_equal(k->a.cursors[0].kind, CHATD_STORE_READ);
	assert_int_equal(k->a.cursors[1].kind, CHATD_STORE_DELIVERED);
	assert_int_equal(k->a.cursors[1].seq, 4);
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
	assert_int_equal(search(NULL, "APPLE")->a.n_messages, 3);
	/* The beginning of a word; of keyed words there is none. */
	assert_int_equal(search(NULL, "APP")->a.n_messages, getenv("CHATD_TEST_CIPHER") ? 0 : 3);
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

static struct kept *say_as(const char *conv, const char *id, const char *client_id, int wait)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = S("ann"), .client_id = z(client_id), .hash = S("h"), .body = S("{}"),
		.text = z(id), .wall = WALL };
	struct kept *k = kept_new();
	k->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, k);
	return wait ? kept_wait(h, k) : k;
}

/* An id that is taken is found only when the row is written: what was done before is undone. */
static void a_call_that_fails_late_harms_nobody_of_its_group(void **state)
{
	enum { N = 200 };
	struct kept *k[N];
	int64_t good = 0;
	(void)state;
	say_as("r", "taken", "c", 1);
	for (int i = 0; i < N; i++) {
		char id[16], client_id[16];
		snprintf(id, sizeof(id), "m%d", i);
		snprintf(client_id, sizeof(client_id), "c%d", i);
		k[i] = say_as("r", i % 7 == 3 ? "taken" : id, client_id, 0);
	}
	kept_wait(h, k[N - 1]);
	for (int i = 0; i < N; i++) {
		assert_int_equal(k[i]->rc, i % 7 == 3 ? -EEXIST : 0);
		good += i % 7 != 3;
		if (k[i]->rc == 0) {
			assert_int_equal(k[i]->a.seq, 1 + good);
		}
	}
	struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = ROOM("r"), .max = 1000 };
	struct kept *all = ASK(h, replay, r);
	assert_int_equal(all->a.whole, 1);
	assert_int_equal(all->a.n_messages, 1 + good);
}

static void a_client_id_is_remembered_longer_than_its_row(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	struct chatd_store_room keep_ms = { SZ(chatd_store_room), .id = S("r"), .retention_ms = 1000,
		.set = CHATD_STORE_SET_RETENTION };
	ASK(h, room_update, keep_ms);
	assert_int_equal(say_as("r", "m1", "c1", 1)->a.seq, 1);
	sweep_all(WALL + 3000);
	struct chatd_store_message_key key = { SZ(chatd_store_message_key), .id = S("m1") };
	assert_int_equal(ASK(h, message, key)->rc, -ENOENT);
	struct kept *k = say_as("r", "m2", "c1", 1);
	assert_int_equal(k->a.repeated, 1);
	assert_int_equal(k->a.seq, 1);
	assert_str(k->a.id, "m1");
	sweep_all(WALL + 25 * 3600000);
	assert_int_equal(say_as("r", "m3", "c2", 1)->a.seq, 2);
}

/* expiresIn may shorten that, and no more. */
static void what_guests_say_may_expire_sooner_and_not_later(void **state)
{
	(void)state;
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("g1"),
		.sender = S("guest"), .body = S("{}"), .text = S("sooner"), .flags = CHATD_STORE_GUEST,
		.expires = WALL + 1000, .wall = WALL };
	ASK(h, append, r);
	r.id = S("g2");
	r.text = S("later");
	r.expires = WALL + INT64_C(300) * 86400000;
	ASK(h, append, r);
	sweep_all(WALL + 1001);
	assert_int_equal(search(NULL, "sooner")->a.n_messages, 0);
	assert_int_equal(search(NULL, "later")->a.n_messages, 1);
	sweep_all(WALL + 86400000);
	assert_int_equal(search(NULL, "later")->a.n_messages, 0);
}

static void a_rooms_retention_cuts_its_old_end(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	struct chatd_store_room keep_ms = { SZ(chatd_store_room), .id = S("r"), .retention_ms = 1000,
		.set = CHATD_STORE_SET_RETENTION };
	ASK(h, room_update, keep_ms);
	for (int i = 1; i <= 5; i++) {
		char id[16];
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
	if (h->vt->is_shared(h->obj)) { /* the database's own tools do it */
		assert_int_equal(k->rc, -ENOTSUP);
		assert_non_null(strstr(host_log(), "pg_dump"));
		return;
	}
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
			char conv[16], id[32], who[16];
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
		char conv[16];
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(seq_counts_each_conversation), T(a_client_id_counts_once),
		T(pages_go_back_and_forth), T(threads_are_read_by_themselves),
		T(a_replay_is_whole_or_not_at_all), T(the_inbox_replays_all_direct_conversations),
		T(edits_and_deletions_are_rows_and_change_the_message), T(reactions_add_up),
		T(pins_are_for_moderators), T(cursors_move_forward_only),
		T(conversations_show_the_newest_first), T(search_shows_only_what_one_may_read_now),
		T(mentions_are_found_while_one_may_read_them), T(the_outbox_holds_until_confirmed),
		T(what_guests_say_lasts_a_day), T(what_guests_say_may_expire_sooner_and_not_later),
		T(a_call_that_fails_late_harms_nobody_of_its_group),
		T(a_client_id_is_remembered_longer_than_its_row), T(a_rooms_retention_cuts_its_old_end),
		T(a_deleted_room_leaves_no_message_and_goes_on_counting),
		T(a_backup_is_whole_and_never_overwrites),
		T(no_conversation_has_a_hole_and_no_sender_is_overtaken),
		T(what_an_older_caller_does_not_know_is_zero) };
	return suite_args(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}

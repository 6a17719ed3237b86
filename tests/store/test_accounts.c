/* SPDX-License-Identifier: Apache-2.0 */
/* Registered accounts, logins and one-time secrets: for every provider of chatd.store/1. */
#include "suite.h"

#define NONE chatd_str_of(NULL, 0)

/* 64 characters that say which token they stand for. */
static struct chatd_str hash(const char *token)
{
	static char text[16][65];
	static unsigned at;
	char *to = text[at++ % 16];
	memset(to, '0', 64);
	memcpy(to, token, strlen(token));
	return chatd_str_of(to, 64);
}

static struct kept *make(const char *id, const char *nick, const char *email)
{
	struct chatd_account a = { SZ(chatd_account), .id = z(id), .nickname = z(nick),
		.email = email ? z(email) : NONE, .password = email ? S("hash") : NONE,
		.flags = email ? 0 : CHATD_ID_ANONYMOUS, .secret = email ? NONE : z(id), .created = WALL };
	return ASK(h, account_create, a);
}

static struct kept *get(int by, const char *key)
{
	struct chatd_store_account_key k = { SZ(chatd_store_account_key), .by = by, .key = z(key) };
	return ASK(h, account_get, k);
}

static struct chatd_store_account_update update_of(const char *id, uint32_t set)
{
	return (struct chatd_store_account_update){ SZ(chatd_store_account_update), .id = z(id),
		.set = set };
}

static struct kept *set_roles(const char *id, const char *roles, const char *needed)
{
	struct chatd_store_account_update u = update_of(id, CHATD_STORE_ACCOUNT_ROLES);
	u.roles = roles ? z(roles) : NONE;
	u.needed = needed ? z(needed) : NONE;
	return ASK(h, account_update, u);
}

/* ---- accounts --------------------------------------------------------------------- */

static void all_of_an_account_comes_back(void **state)
{
	(void)state;
	struct chatd_account a = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann"),
		.email = S("Ann@Example.org"), .password = S("$argon2id$x"),
		.roles = S("moderator support"), .avatar = S("/a.png"), .banned_until = INT64_MAX,
		.bits = CHATD_ACCOUNT_VERIFIED, .created = 7 };
	assert_int_equal(ASK(h, account_create, a)->rc, 0);
	struct kept *k = get(CHATD_STORE_BY_EMAIL, "aNN@example.ORG");
	assert_int_equal(k->rc, 0);
	assert_str(k->a.accounts[0].id, "ann");
	assert_str(k->a.accounts[0].email, "ann@example.org");
	assert_str(k->a.accounts[0].password, "$argon2id$x");
	assert_str(k->a.accounts[0].roles, "moderator support");
	assert_str(k->a.accounts[0].avatar, "/a.png");
	assert_true(k->a.accounts[0].banned_until == INT64_MAX);
	assert_int_equal(k->a.accounts[0].bits, CHATD_ACCOUNT_VERIFIED);
	assert_int_equal(k->a.accounts[0].created, 7);
	assert_str(get(CHATD_STORE_BY_NICKNAME, "ANN")->a.accounts[0].id, "ann");
	assert_str(get(CHATD_STORE_BY_ROLE, "support")->a.accounts[0].id, "ann");
	assert_int_equal(get(CHATD_STORE_BY_ROLE, "supp")->rc, -ENOENT);
	assert_int_equal(get(CHATD_STORE_BY_EMAIL, "nobody@example.org")->rc, -ENOENT);
	assert_int_equal(get(99, "ann")->rc, -EINVAL);
}

static void names_and_addresses_are_unique_among_the_registered(void **state)
{
	(void)state;
	assert_int_equal(make("ann", "Ann", "ann@x.org")->rc, 0);
	assert_refused(make("ann", "Other", "o@x.org"), -EEXIST, CHATD_STORE_ID_TAKEN);
	assert_refused(make("bob", "Bob", "ANN@x.org"), -EEXIST, CHATD_STORE_EMAIL_TAKEN);
	assert_refused(make("bob", "aNN", "bob@x.org"), -EEXIST, CHATD_STORE_NICK_TAKEN);
	/* Guests are called as they like, and are not found by their names. */
	assert_int_equal(make("guest1", "Ann", NULL)->rc, 0);
	assert_int_equal(make("guest2", "Ann", NULL)->rc, 0);
	assert_str(get(CHATD_STORE_BY_NICKNAME, "ann")->a.accounts[0].id, "ann");
	struct chatd_account same_secret = { SZ(chatd_account), .id = S("guest3"), .nickname = S("x"),
		.secret = S("guest1"), .flags = CHATD_ID_ANONYMOUS };
	assert_refused(ASK(h, account_create, same_secret), -EEXIST, CHATD_STORE_ID_TAKEN);
	assert_int_equal(make("bob", "Bob", "bob@x.org")->rc, 0);
	struct chatd_store_account_update u =
			update_of("bob", CHATD_STORE_ACCOUNT_NICKNAME | CHATD_STORE_ACCOUNT_AVATAR);
	u.nickname = S("ANN");
	u.avatar = S("/b.png");
	assert_refused(ASK(h, account_update, u), -EEXIST, CHATD_STORE_NICK_TAKEN);
	assert_null(get(CHATD_STORE_BY_ID, "bob")->a.accounts[0].avatar.p); /* all or nothing */
	u.nickname = S("BOB");
	struct kept *k = ASK(h, account_update, u);
	assert_int_equal(k->rc, 0);
	assert_str(k->a.accounts[0].nickname, "BOB");
	assert_str(k->a.accounts[0].avatar, "/b.png");
	u = update_of("bob", CHATD_STORE_ACCOUNT_EMAIL);
	u.email = S("Ann@X.org");
	assert_refused(ASK(h, account_update, u), -EEXIST, CHATD_STORE_EMAIL_TAKEN);
	struct chatd_store_account_name name = { SZ(chatd_store_account_name), .id = S("bob"),
		.nickname = S("ann") };
	assert_refused(ASK(h, account_rename, name), -EEXIST, CHATD_STORE_NICK_TAKEN);
	u = update_of("eve", CHATD_STORE_ACCOUNT_EMAIL);
	assert_int_equal(ASK(h, account_update, u)->rc, -ENOENT);
}

static void one_changes_what_is_named_and_no_more(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	struct chatd_store_account_update u =
			update_of("ann", CHATD_STORE_ACCOUNT_BITS | CHATD_STORE_ACCOUNT_BANNED);
	u.bits_on = CHATD_ACCOUNT_HIDDEN | CHATD_ACCOUNT_VERIFIED;
	u.banned_until = WALL + 5;
	u.email = S("not@asked.org");
	struct kept *k = ASK(h, account_update, u);
	assert_int_equal(k->a.accounts[0].bits, CHATD_ACCOUNT_HIDDEN | CHATD_ACCOUNT_VERIFIED);
	assert_int_equal(k->a.accounts[0].banned_until, WALL + 5);
	assert_str(k->a.accounts[0].email, "ann@x.org");
	u.bits_on = 0;
	u.bits_off = CHATD_ACCOUNT_VERIFIED;
	assert_int_equal(ASK(h, account_update, u)->a.accounts[0].bits, CHATD_ACCOUNT_HIDDEN);
	u = update_of("ann", CHATD_STORE_ACCOUNT_PASSWORD);
	u.password = S("new");
	u.was = S("wrong");
	assert_int_equal(ASK(h, account_update, u)->rc, -ESTALE);
	u.was = S("hash");
	assert_int_equal(ASK(h, account_update, u)->rc, 0);
	assert_int_equal(ASK(h, account_update, u)->rc, -ESTALE); /* the one beside it came first */
	assert_str(get(CHATD_STORE_BY_ID, "ann")->a.accounts[0].password, "new");
	u.banned_until = -1;
	assert_int_equal(ASK(h, account_update, u)->rc, -EINVAL);
	u = update_of("ann", CHATD_STORE_ACCOUNT_NICKNAME);
	assert_int_equal(ASK(h, account_update, u)->rc, -EINVAL);
}

static void a_needed_role_stays_with_somebody(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	make("bob", "Bob", "bob@x.org");
	assert_str(set_roles("ann", "support admin", "admin")->a.accounts[0].roles, "support admin");
	assert_str(get(CHATD_STORE_BY_ROLE, "admin")->a.accounts[0].id, "ann");
	assert_refused(set_roles("ann", "administrator", "admin"), -EACCES, CHATD_STORE_LAST);
	struct chatd_store_account_delete d = { SZ(chatd_store_account_delete), .id = S("ann"),
		.needed = S("admin"), .wall = WALL };
	assert_refused(ASK(h, account_delete, d), -EACCES, CHATD_STORE_LAST);
	assert_int_equal(set_roles("ann", "admin", "admin")->rc, 0);
	assert_int_equal(set_roles("bob", "admin", "admin")->rc, 0);
	/* Both give it up in one commit: one of them must stay. */
	struct kept *a = kept_new(), *b = kept_new();
	struct chatd_store_account_update u = update_of("ann", CHATD_STORE_ACCOUNT_ROLES);
	u.needed = S("admin");
	a->rc = h->vt->account_update(h->obj, &h->workers[0], &u, keep, a);
	u.id = S("bob");
	b->rc = h->vt->account_update(h->obj, &h->workers[0], &u, keep, b);
	assert_int_equal(kept_wait(h, a)->rc, 0);
	assert_refused(kept_wait(h, b), -EACCES, CHATD_STORE_LAST);
	assert_null(get(CHATD_STORE_BY_ID, "ann")->a.accounts[0].roles.p);
	assert_int_equal(set_roles("bob", NULL, NULL)->rc, 0);
	assert_int_equal(get(CHATD_STORE_BY_ROLE, "admin")->rc, -ENOENT);
}

static void people_are_found_guests_and_the_hidden_are_not(void **state)
{
	(void)state;
	char id[16], nick[24];
	make("u1", "Anna", "1@x.org");
	make("u2", "andrea", "2@x.org");
	make("ander", "Zoe", "3@x.org");
	make("u4", "Anton", "4@x.org");
	for (int i = 0; i < 20; i++) {
		snprintf(id, sizeof(id), "g%d", i);
		snprintf(nick, sizeof(nick), "An%d", i);
		make(id, nick, NULL);
	}
	struct chatd_store_account_update hide = update_of("u4", CHATD_STORE_ACCOUNT_BITS);
	hide.bits_on = CHATD_ACCOUNT_HIDDEN;
	ASK(h, account_update, hide);
	struct chatd_store_account_search find = { SZ(chatd_store_account_search), .prefix = S("AN"),
		.limit = 10, .people = 1 };
	struct kept *k = ASK(h, account_search, find);
	assert_int_equal(k->a.n_accounts, 3);
	assert_str(k->a.accounts[0].nickname, "andrea");
	assert_str(k->a.accounts[1].nickname, "Anna");
	assert_str(k->a.accounts[2].nickname, "Zoe"); /* by its id */
	find.limit = 1;
	assert_str(ASK(h, account_search, find)->a.accounts[0].nickname, "andrea");
	find.people = 0;
	find.limit = 100;
	assert_int_equal(ASK(h, account_search, find)->a.n_accounts, 24);
}

/* ---- guests register --------------------------------------------------------------- */

static struct kept *guest_says(const char *conv, const char *guest, const char *id)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(guest), .body = S("{\"x\":1}"), .text = z(id), .wall = WALL,
		.flags = CHATD_STORE_GUEST };
	return ASK(h, append, r);
}

static struct kept *message(const char *id)
{
	struct chatd_store_message_key m = { SZ(chatd_store_message_key), .id = z(id) };
	return ASK(h, message, m);
}

static void a_guest_registers_and_keeps_what_it_had(void **state)
{
	(void)state;
	make("g1", "Guest", NULL);
	make("g2", "Guest", NULL);
	make_room("r", "ann", CHATD_STORE_ROOM_PUBLIC);
	struct chatd_store_member_change join = { SZ(chatd_store_member_change),
		.what = CHATD_STORE_JOIN, .room = S("r"), .user = S("g1"), .guest = 1, .wall = WALL };
	ASK(h, member_change, join);
	guest_says("r", "g1", "m1");
	guest_says("r", "g2", "m2");
	assert_true(message("m1")->a.messages[0].expires > WALL);
	struct chatd_store_account_update u = update_of("g1",
			CHATD_STORE_ACCOUNT_REGISTER | CHATD_STORE_ACCOUNT_EMAIL |
					CHATD_STORE_ACCOUNT_PASSWORD | CHATD_STORE_ACCOUNT_NICKNAME);
	u.email = S("g@x.org");
	u.password = S("hash");
	u.nickname = S("Gus");
	struct kept *k = ASK(h, account_update, u);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.accounts[0].flags, 0);
	assert_null(k->a.accounts[0].secret.p);
	assert_int_equal(get(CHATD_STORE_BY_SECRET, "g1")->rc, -ENOENT);
	assert_str(get(CHATD_STORE_BY_NICKNAME, "gus")->a.accounts[0].id, "g1");
	k = message("m1");
	assert_int_equal(k->a.messages[0].expires, 0);
	assert_int_equal(k->a.messages[0].flags & CHATD_STORE_GUEST, 0);
	k = message("m2"); /* another guest's */
	assert_true(k->a.messages[0].expires > WALL);
	assert_true(k->a.messages[0].flags & CHATD_STORE_GUEST);
	struct chatd_store_members list = { SZ(chatd_store_members), .which = CHATD_STORE_GUESTS,
		.limit = 10 };
	assert_int_equal(ASK(h, members, list)->a.n_members, 0);
	assert_int_equal(member(CHATD_STORE_ROLE, "r", "g1", "ann", CHATD_ROLE_MODERATOR)->rc, 0);
	assert_int_equal(ASK(h, account_update, u)->rc, -ESTALE); /* it is no guest any more */
	/* A name that is taken: nothing of it happens. */
	u.id = S("g2");
	u.email = S("other@x.org");
	assert_refused(ASK(h, account_update, u), -EEXIST, CHATD_STORE_NICK_TAKEN);
	assert_int_equal(get(CHATD_STORE_BY_SECRET, "g2")->rc, 0);
	/* It lives on when a guest's would be over. */
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 86400001 };
	host_set_wall(sweep.wall);
	ASK(h, sweep, sweep);
	assert_int_equal(message("m1")->a.messages[0].body.n, 7);
	assert_int_equal(message("m2")->rc, 0);
	assert_int_equal(message("m2")->a.messages[0].body.n, 0);
}

static void what_a_guest_said_and_is_over_does_not_come_back(void **state)
{
	(void)state;
	make("g1", "Guest", NULL);
	say("r", "ann", "m0");
	guest_says("r", "g1", "m1");
	host_set_wall(WALL + 86400001);
	struct chatd_store_account_update u = update_of("g1", CHATD_STORE_ACCOUNT_REGISTER);
	assert_int_equal(ASK(h, account_update, u)->rc, 0);
	assert_int_equal(message("m1")->a.messages[0].body.n, 0);
}

/* ---- an account is deleted --------------------------------------------------------- */

static size_t found(const char *word)
{
	struct chatd_store_search s = { SZ(chatd_store_search), .query = z(word), .limit = 200 };
	return ASK(h, search, s)->a.n_messages;
}

static struct kept *change(int kind, const char *target, const char *actor, const char *id)
{
	struct chatd_store_change c = { SZ(chatd_store_change), .kind = kind, .target = z(target),
		.id = z(id), .actor = z(actor), .body = S("event"), .new_body = S("{\"y\":2}"),
		.new_text = S("edited"), .emoji = S("+"), .wall = WALL };
	return ASK(h, change, c);
}

static struct kept *delete_account(const char *id)
{
	struct chatd_store_account_delete d = { SZ(chatd_store_account_delete), .id = z(id),
		.wall = WALL };
	return ASK(h, account_delete, d);
}

static void what_a_deleted_account_said_is_gone(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	make_room("r", "bob", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "r", "ann", NULL, 0);
	struct chatd_str both[] = { S("ann"), S("bob") };
	struct chatd_store_append m = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("m1"),
		.sender = S("ann"), .body = S("{\"x\":1}"), .text = S("private"), .wall = WALL,
		.mentions = both, .n_mentions = 2 };
	ASK(h, append, m);
	m.id = S("m2");
	m.sender = S("bob");
	m.text = S("public");
	ASK(h, append, m);
	change(CHATD_STORE_EDIT, "m1", "ann", "e1");
	change(CHATD_STORE_REACTION, "m1", "bob", "r1");
	change(CHATD_STORE_REACTION, "m2", "ann", "r2");
	say("ann/bob", "ann", "d1");
	struct chatd_store_cursor cursor = { SZ(chatd_store_cursor), .kind = CHATD_STORE_READ,
		.conv = ROOM("r"), .user = S("ann"), .device = S(""), .seq = 2 };
	ASK(h, cursor_set, cursor);
	struct chatd_store_login l = { SZ(chatd_store_login), .id = S("l1"), .user = S("ann"),
		.refresh = hash("a"), .created = WALL };
	ASK(h, login_create, l);
	assert_int_equal(found("edited"), 1);
	struct kept *k = delete_account("ann");
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n, 3);
	assert_int_equal(get(CHATD_STORE_BY_ID, "ann")->rc, -ENOENT);
	assert_int_equal(delete_account("ann")->rc, -ENOENT);
	struct chatd_store_login_key key = { SZ(chatd_store_login_key), .id = S("l1"), .wall = WALL };
	assert_int_equal(ASK(h, login_get, key)->rc, -ENOENT);
	assert_int_equal(found("edited") + found("private") + found("d1"), 0);
	assert_int_equal(found("public"), 1);
	const struct chatd_store_message *row = message("m1")->a.messages;
	assert_int_equal(row->body.n, 0);
	assert_true(row->flags & CHATD_STORE_ERASED);
	assert_null(row->reactions.p);
	assert_null(message("m2")->a.messages[0].reactions.p); /* the only one was ann's */
	/* Every row keeps its place. */
	struct chatd_store_replay replay = { SZ(chatd_store_replay), .conv = ROOM("r"), .max = 100 };
	k = ASK(h, replay, replay);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 5);
	struct chatd_store_mentions mentions = { SZ(chatd_store_mentions), .user = S("bob"),
		.limit = 10 };
	k = ASK(h, mentions, mentions);
	assert_int_equal(k->a.n_messages, 1);
	assert_str(k->a.messages[0].id, "m2");
	struct chatd_store_cursor_list cursors = { SZ(chatd_store_cursor_list),
		.kind = CHATD_STORE_READ, .conv = ROOM("r"), .limit = 10 };
	assert_int_equal(ASK(h, cursors, cursors)->a.n_cursors, 0);
}

static void rooms_go_on_without_a_deleted_account(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	make_room("owned", "ann", CHATD_STORE_ROOM_PUBLIC);
	make_room("alone", "ann", CHATD_STORE_ROOM_PUBLIC);
	make_room("banned", "bob", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "owned", "bob", NULL, 0);
	member(CHATD_STORE_BAN, "banned", "ann", "bob", WALL * 2);
	assert_int_equal(delete_account("ann")->rc, 0);
	struct chatd_store_room_key key = { SZ(chatd_store_room_key), .room = S("owned"),
		.user = S("bob") };
	struct kept *k = ASK(h, room_get, key);
	assert_int_equal(k->a.rooms[0].role, CHATD_ROLE_OWNER);
	assert_int_equal(k->a.rooms[0].members, 1);
	key.room = S("alone");
	assert_int_equal(ASK(h, room_get, key)->rc, -ENOENT);
	struct chatd_store_members bans = { SZ(chatd_store_members), .which = CHATD_STORE_BANS,
		.room = S("banned"), .limit = 10 };
	assert_int_equal(ASK(h, members, bans)->a.n_members, 0);
}

/* Many at a time, so that they share commits. */
static void say_many(const char *sender, int n)
{
	struct kept *k[100];
	char id[16];
	for (int i = 0; i < n; i += 100) {
		for (int at = 0; at < 100; at++) {
			snprintf(id, sizeof(id), "m%d", i + at);
			struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = z(id),
				.sender = z(sender), .body = z(id), .text = z(id), .wall = WALL };
			k[at] = kept_new();
			k[at]->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, k[at]);
		}
		for (int at = 0; at < 100; at++) {
			assert_int_equal(kept_wait(h, k[at])->rc, 0);
		}
		answers_free();
	}
}

/* What comes under this id after the account is gone is somebody else's: said at once, while
 * the sweep is still at work. */
static void very_many_messages_are_erased_step_by_step(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	say_many("ann", 4000);
	struct kept *gone = kept_new(), *later = kept_new();
	struct chatd_store_account_delete d = { SZ(chatd_store_account_delete), .id = S("ann"),
		.wall = WALL };
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = ROOM("r"), .id = S("later"),
		.sender = S("ann"), .body = S("later"), .text = S("later"), .wall = WALL };
	gone->rc = h->vt->account_delete(h->obj, &h->workers[0], &d, keep, gone);
	later->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, later);
	assert_int_equal(kept_wait(h, gone)->a.n, 1000);
	assert_int_equal(kept_wait(h, later)->rc, 0);
	assert_int_equal(message("m3999")->a.messages[0].body.n, 0); /* the newest ones first */
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL };
	for (int i = 0; i < 10 && message("m0")->a.messages[0].body.n; i++) {
		ASK(h, sweep, sweep);
	}
	ASK(h, sweep, sweep);
	assert_int_equal(message("m0")->a.messages[0].body.n, 0);
	assert_str(message("later")->a.messages[0].body, "later");
}

static void one_reads_back_what_one_sent(void **state)
{
	(void)state;
	char id[16];
	for (int i = 0; i < 5; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		say(i % 2 ? "r" : "ann/bob", "ann", id);
	}
	say("r", "bob", "other");
	change(CHATD_STORE_EDIT, "m0", "ann", "e0");
	struct chatd_store_change del = { SZ(chatd_store_change), .kind = CHATD_STORE_DELETE,
		.target = S("m1"), .id = S("d1"), .body = S("x"), .new_body = S("{}"), .wall = WALL };
	ASK(h, change, del);
	struct chatd_store_sent sent = { SZ(chatd_store_sent), .user = S("ann"), .limit = 3 };
	struct kept *k = ASK(h, sent, sent);
	assert_int_equal(k->a.n_messages, 3);
	assert_str(k->a.messages[0].id, "m4");
	assert_str(k->a.messages[2].id, "m2");
	sent.before = k->a.messages[2].pos;
	k = ASK(h, sent, sent);
	assert_int_equal(k->a.n_messages, 1); /* the deleted one is none */
	assert_str(k->a.messages[0].id, "m0");
	assert_str(k->a.messages[0].body, "{\"y\":2}");
	sent.limit = 0;
	assert_int_equal(ASK(h, sent, sent)->rc, -EINVAL);
}

/* ---- logins ------------------------------------------------------------------------ */

static struct kept *log_in(const char *id, const char *user, int32_t max)
{
	struct chatd_store_login l = { SZ(chatd_store_login), .id = z(id), .user = z(user),
		.device = S("phone"), .refresh = hash("t0"), .created = host_wall(), .idle_ms = 1000,
		.expires = WALL + 5000, .max = max };
	return ASK(h, login_create, l);
}

static struct kept *rotate(const char *token, const char *next, int64_t at)
{
	struct chatd_store_login_rotate r = { SZ(chatd_store_login_rotate), .id = S("l1"),
		.refresh = hash(token), .next = hash(next), .wall = at, .grace_ms = 60 };
	return ASK(h, login_rotate, r);
}

static struct kept *login(const char *id, int64_t at)
{
	struct chatd_store_login_key k = { SZ(chatd_store_login_key), .id = z(id), .wall = at };
	return ASK(h, login_get, k);
}

static void a_login_lives_until_it_is_idle_or_over(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	assert_int_equal(log_in("l1", "nobody", 0)->rc, -ENOENT);
	struct kept *k = log_in("l1", "ann", 0);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.logins[0].used, WALL);
	assert_int_equal(log_in("l1", "ann", 0)->rc, -EEXIST);
	k = login("l1", WALL + 999);
	assert_int_equal(k->rc, 0);
	assert_str(k->a.accounts[0].email, "ann@x.org");
	assert_str(k->a.logins[0].device, "phone");
	assert_int_equal(login("l1", WALL + 1000)->rc, -ENOENT); /* idle */
	assert_int_equal(rotate("t0", "t1", WALL + 1000)->rc, -ENOENT);
	for (int i = 0; i < 6; i++) {
		char t[4], next[4];
		snprintf(t, sizeof(t), "t%d", i);
		snprintf(next, sizeof(next), "t%d", i + 1);
		k = rotate(t, next, WALL + (i + 1) * 900);
		assert_int_equal(k->rc, i == 5 ? -ENOENT : 0);
	}
	assert_int_equal(login("l1", WALL + 4999)->rc, 0);
	assert_int_equal(login("l1", WALL + 5000)->rc, -ENOENT); /* over in any case */
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 4999 };
	ASK(h, sweep, sweep);
	assert_int_equal(login("l1", WALL + 4999)->rc, 0);
	sweep.wall++;
	assert_true(ASK(h, sweep, sweep)->a.n > 0);
	assert_int_equal(login("l1", WALL)->rc, -ENOENT);
}

static void the_newest_token_alone_is_good(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	log_in("l1", "ann", 0);
	struct kept *k = rotate("t0", "t1", WALL + 10);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.repeated, 0);
	assert_str(k->a.accounts[0].id, "ann");
	assert_int_equal(k->a.logins[0].used, WALL + 10);
	assert_int_equal(rotate("t1", "t2", WALL + 20)->rc, 0);
	k = rotate("t0", "t9", WALL + 21); /* its successor was presented: no grace */
	assert_refused(k, -EACCES, CHATD_STORE_REUSED);
	assert_int_equal(k->a.n_logins, 1);
	assert_str(k->a.logins[0].id, "l1");
	assert_str(k->a.logins[0].user, "ann");
	assert_int_equal(login("l1", WALL + 21)->rc, -ENOENT); /* it has ended, for the thief too */
	assert_int_equal(rotate("t2", "t3", WALL + 22)->rc, -ENOENT);
}

static void a_lost_answer_is_forgiven_for_a_while(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	log_in("l1", "ann", 0);
	assert_int_equal(rotate("t0", "t1", WALL + 10)->rc, 0);
	struct kept *k = rotate("t0", "t2", WALL + 69);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.repeated, 1);
	/* Repeating does not prolong it, and what was replaced is no good. */
	assert_refused(rotate("t0", "t3", WALL + 70), -EACCES, CHATD_STORE_REUSED);
	log_in("l1", "ann", 0);
	rotate("t0", "t1", WALL + 10);
	rotate("t0", "t2", WALL + 20);
	assert_refused(rotate("t1", "t3", WALL + 21), -EACCES, CHATD_STORE_REUSED);
	log_in("l1", "ann", 0);
	rotate("t0", "t1", WALL + 10);
	rotate("t0", "t2", WALL + 20);
	assert_int_equal(rotate("t2", "t3", WALL + 30)->a.repeated, 0);
	assert_refused(rotate("t0", "t4", WALL + 31), -EACCES, CHATD_STORE_REUSED);
	log_in("l1", "ann", 0);
	assert_refused(rotate("forged", "t1", WALL), -EACCES, CHATD_STORE_REUSED);
	log_in("l1", "ann", 0);
	assert_int_equal(rotate("t0", "t0", WALL)->rc, -EINVAL);
}

/* Calls that are made at once share a commit. */
static void of_rotations_that_race_one_is_first(void **state)
{
	(void)state;
	struct kept *k[20];
	int first = 0, forgiven = 0;
	make("ann", "Ann", "ann@x.org");
	log_in("l1", "ann", 0);
	for (int i = 0; i < 20; i++) {
		char next[8];
		snprintf(next, sizeof(next), "n%d", i);
		struct chatd_store_login_rotate r = { SZ(chatd_store_login_rotate), .id = S("l1"),
			.refresh = hash("t0"), .next = hash(next), .wall = WALL + 1, .grace_ms = 60 };
		k[i] = kept_new();
		k[i]->rc = h->vt->login_rotate(h->obj, &h->workers[0], &r, keep, k[i]);
	}
	for (int i = 0; i < 20; i++) {
		assert_int_equal(kept_wait(h, k[i])->rc, 0);
		first += !k[i]->a.repeated;
		forgiven += k[i]->a.repeated;
	}
	assert_int_equal(first, 1);
	assert_int_equal(forgiven, 19);
	assert_int_equal(rotate("n19", "n20", WALL + 2)->rc, 0);
	/* A refusal in the middle of a commit writes what it means and spares the others. */
	log_in("l2", "ann", 0);
	struct chatd_store_login_rotate bad = { SZ(chatd_store_login_rotate), .id = S("l1"),
		.refresh = hash("t0"), .next = hash("x"), .wall = WALL + 3, .grace_ms = 60 };
	struct chatd_store_login_rotate good = { SZ(chatd_store_login_rotate), .id = S("l2"),
		.refresh = hash("t0"), .next = hash("y"), .wall = WALL + 3, .grace_ms = 60 };
	struct kept *a = kept_new(), *b = kept_new(), *c = kept_new();
	a->rc = h->vt->login_rotate(h->obj, &h->workers[0], &bad, keep, a);
	b->rc = h->vt->login_rotate(h->obj, &h->workers[0], &good, keep, b);
	bad.refresh = hash("n20");
	c->rc = h->vt->login_rotate(h->obj, &h->workers[0], &bad, keep, c);
	assert_refused(kept_wait(h, a), -EACCES, CHATD_STORE_REUSED);
	assert_int_equal(kept_wait(h, b)->rc, 0);
	assert_int_equal(kept_wait(h, c)->rc, -ENOENT);
	assert_int_equal(login("l1", WALL + 4)->rc, -ENOENT);
	assert_str(login("l2", WALL + 4)->a.logins[0].refresh, hash("y").p);
}

static size_t logins(const char *user)
{
	struct chatd_store_login_list l = { SZ(chatd_store_login_list), .user = z(user), .limit = 100,
		.wall = host_wall() };
	return ASK(h, login_list, l)->a.n_logins;
}

/* Who was touched after that place, the last one; *place goes on.  -1: ended was not as expected. */
static const char *touched(int64_t *place, int64_t ended)
{
	struct chatd_store_touched r = { SZ(chatd_store_touched), .limit = 10, .after_pos = *place };
	struct kept *k = ASK(h, touched, r);
	assert_int_equal(k->rc, 0);
	if (!k->a.n_changed) {
		return "";
	}
	const struct chatd_store_changed_conv *c = &k->a.changed[k->a.n_changed - 1];
	assert_true(c->pos > *place);
	assert_int_equal(k->a.pos, c->pos);
	assert_int_equal(c->seq, ended);
	*place = c->pos;
	static char who[80];
	snprintf(who, sizeof(who), "%s%.*s", k->a.n_changed > 1 ? "+" : "", (int)c->conv.a.n,
			c->conv.a.p);
	return who;
}

/* So that a node finds out what nobody told it. */
static void who_loses_a_login_or_is_changed_is_told_of(void **state)
{
	(void)state;
	int64_t at = 0;
	make("ann", "Ann", "ann@x.org");
	make("bob", "Bob", "bob@x.org");
	assert_string_equal(touched(&at, 0), "");
	log_in("l1", "ann", 3);
	log_in("b1", "bob", 3);
	rotate("t0", "t1", WALL + 3);
	assert_string_equal(touched(&at, 0), "");
	struct chatd_store_login_end end = { SZ(chatd_store_login_end), .user = S("bob"),
		.id = S("b1") };
	ASK(h, login_end, end);
	assert_string_equal(touched(&at, 0), "bob");
	assert_int_equal(rotate("t0", "t2", WALL + 64)->rc, -EACCES); /* it was spent */
	assert_string_equal(touched(&at, 0), "ann");
	struct chatd_store_account_update u = update_of("bob", CHATD_STORE_ACCOUNT_BANNED);
	u.banned_until = WALL + 5;
	ASK(h, account_update, u);
	assert_string_equal(touched(&at, 0), "bob");
	host_set_wall(WALL + 77);
	struct chatd_store_login_end all = { SZ(chatd_store_login_end), .user = S("ann") };
	ASK(h, login_end, all);
	assert_string_equal(touched(&at, WALL + 77), "ann");
	struct chatd_store_account_update roles = update_of("ann", CHATD_STORE_ACCOUNT_ROLES);
	roles.roles = S("moderator");
	ASK(h, account_update, roles);
	assert_string_equal(touched(&at, WALL + 77), "ann"); /* it is still known when they ended */
	log_in("l2", "ann", 1);
	assert_string_equal(touched(&at, 0), "");
	log_in("l3", "ann", 1); /* which ends the other */
	assert_string_equal(touched(&at, WALL + 77), "ann");
	delete_account("bob");
	assert_string_equal(touched(&at, WALL + 77), "bob");
	struct chatd_store_touched bad = { SZ(chatd_store_touched), .limit = 0 };
	assert_int_equal(ASK(h, touched, bad)->rc, -EINVAL);
}

static void devices_are_listed_limited_and_ended(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	make("bob", "Bob", "bob@x.org");
	log_in("l1", "ann", 3);
	host_set_wall(WALL + 1);
	log_in("l2", "ann", 3);
	log_in("b1", "bob", 3);
	host_set_wall(WALL + 2);
	assert_int_equal(log_in("l3", "ann", 3)->a.n, 0);
	rotate("t0", "t1", WALL + 3); /* l1: so l2 is the one not used longest */
	host_set_wall(WALL + 4);
	assert_int_equal(log_in("l4", "ann", 3)->a.n, 1);
	assert_int_equal(login("l2", WALL + 4)->rc, -ENOENT);
	struct chatd_store_login_list list = { SZ(chatd_store_login_list), .user = S("ann"),
		.limit = 10, .wall = WALL + 4 };
	struct kept *k = ASK(h, login_list, list);
	assert_int_equal(k->a.n_logins, 3);
	assert_str(k->a.logins[0].id, "l4");
	assert_str(k->a.logins[1].id, "l1");
	struct chatd_store_login_end end = { SZ(chatd_store_login_end), .user = S("bob"),
		.id = S("l1") };
	assert_int_equal(ASK(h, login_end, end)->a.n, 0); /* not his */
	end.user = S("ann");
	assert_int_equal(ASK(h, login_end, end)->a.n, 1);
	end.id = NONE;
	end.keep = S("l4");
	assert_int_equal(ASK(h, login_end, end)->a.n, 1);
	assert_int_equal(logins("ann"), 1);
	log_in("l5", "ann", 3);
	struct chatd_store_account_update u = update_of("ann", CHATD_STORE_ACCOUNT_PASSWORD);
	u.password = S("new");
	u.end_logins = 2;
	u.keep = S("l5");
	assert_int_equal(ASK(h, account_update, u)->a.n, 1);
	assert_int_equal(login("l5", WALL + 4)->rc, 0);
	u.was = S("not it"); /* what is refused ends nothing */
	u.end_logins = 1;
	assert_int_equal(ASK(h, account_update, u)->rc, -ESTALE);
	assert_int_equal(logins("ann"), 1);
	u.was = NONE;
	assert_int_equal(ASK(h, account_update, u)->a.n, 1);
	assert_int_equal(logins("ann"), 0);
	assert_int_equal(logins("bob"), 1);
}

/* ---- secrets ----------------------------------------------------------------------- */

static void a_secret_is_presented_once(void **state)
{
	(void)state;
	make("ann", "Ann", "ann@x.org");
	struct chatd_store_secret put = { SZ(chatd_store_secret), .kind = 1, .hash = hash("code"),
		.user = S("ann"), .data = S("reset"), .expires = WALL + 10 };
	assert_int_equal(ASK(h, secret_put, put)->rc, 0);
	struct chatd_store_secret take = { SZ(chatd_store_secret), .kind = 2, .hash = hash("code"),
		.wall = WALL };
	assert_int_equal(ASK(h, secret_take, take)->rc, -ENOENT); /* of another kind */
	take.kind = 1;
	take.wall = WALL + 10;
	assert_int_equal(ASK(h, secret_take, take)->rc, -ENOENT); /* over */
	take.wall = WALL + 9;
	struct kept *k = ASK(h, secret_take, take);
	assert_int_equal(k->rc, 0);
	assert_str(k->a.secrets[0].data, "reset");
	assert_str(k->a.accounts[0].email, "ann@x.org");
	assert_int_equal(ASK(h, secret_take, take)->rc, -ENOENT);
	ASK(h, secret_put, put);
	put.hash = hash("newer");
	ASK(h, secret_put, put); /* replaces */
	assert_int_equal(ASK(h, secret_take, take)->rc, -ENOENT);
	take.hash = hash("newer");
	struct kept *a = kept_new(), *b = kept_new(); /* in one commit */
	a->rc = h->vt->secret_take(h->obj, &h->workers[0], &take, keep, a);
	b->rc = h->vt->secret_take(h->obj, &h->workers[0], &take, keep, b);
	assert_int_equal(kept_wait(h, a)->rc, 0);
	assert_int_equal(kept_wait(h, b)->rc, -ENOENT);
	/* Nobody's: they do not replace each other. */
	put.user = NONE;
	put.hash = hash("one");
	ASK(h, secret_put, put);
	assert_int_equal(ASK(h, secret_put, put)->rc, -EEXIST);
	put.hash = hash("two");
	ASK(h, secret_put, put);
	take.hash = hash("one");
	k = ASK(h, secret_take, take);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n_accounts, 0);
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 10 };
	assert_int_equal(ASK(h, sweep, sweep)->a.n, 1);
	put.hash = S("short");
	assert_int_equal(ASK(h, secret_put, put)->rc, -EINVAL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(all_of_an_account_comes_back),
		T(names_and_addresses_are_unique_among_the_registered),
		T(one_changes_what_is_named_and_no_more), T(a_needed_role_stays_with_somebody),
		T(people_are_found_guests_and_the_hidden_are_not),
		T(a_guest_registers_and_keeps_what_it_had),
		T(what_a_guest_said_and_is_over_does_not_come_back), T(what_a_deleted_account_said_is_gone),
		T(rooms_go_on_without_a_deleted_account), T(very_many_messages_are_erased_step_by_step),
		T(one_reads_back_what_one_sent), T(a_login_lives_until_it_is_idle_or_over),
		T(the_newest_token_alone_is_good), T(a_lost_answer_is_forgiven_for_a_while),
		T(of_rotations_that_race_one_is_first), T(devices_are_listed_limited_and_ended),
		T(who_loses_a_login_or_is_changed_is_told_of), T(a_secret_is_presented_once) };
	return suite_args(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "chat.h"

#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define SEND  "/app/chat.send"
#define DEN   "/topic/room/den"
#define EPOCH "0123456789abcdef"

/* A store that counts, and keeps its answers until the test lets them go.  What it refuses
 * with -EBUSY it has written all the same. */
struct waiting {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
	char id[37];
};

struct row {
	char room[16], a[16], b[16], id[37], body[512];
	int64_t seq;
};

enum { HELD = 64, ROWS = 32 };

static struct fake {
	struct kit *k;
	struct waiting held[HELD];
	struct row rows[ROWS];
	struct chatd_store_message out[ROWS];
	size_t n, given, n_rows;
	chatd_status refuse; /* at once */
	chatd_status rc;     /* later */
	chatd_status read;   /* of replays, at once */
	int32_t why, repeated, check;
	int32_t never; /* what is refused with -EBUSY is not written */
	int64_t until;
	uint32_t flags;
	char text[64];
} fake;

static void on_answer(void *arg)
{
	struct waiting *a = arg;
	a->fn(a->arg, a->rc, &a->a);
}

static struct waiting *hold(chatd_worker *w, chatd_store_fn *fn, void *arg)
{
	struct waiting *a = &fake.held[fake.n++];
	assert_true(fake.n <= HELD);
	*a = (struct waiting){ .w = w, .fn = fn, .arg = arg };
	a->a = (struct chatd_store_answer){ .struct_size = sizeof(a->a), .epoch = CHATD_LIT(EPOCH) };
	return a;
}

static int same_conv(const struct row *r, const struct chatd_store_conv *c)
{
	return c->room.p
			? chatd_str_same(text(r->room), c->room)
			: !r->room[0] && chatd_str_same(text(r->a), c->a) && chatd_str_same(text(r->b), c->b);
}

static int64_t write_row(const struct chatd_store_append *r)
{
	struct row *row = &fake.rows[fake.n_rows];
	int64_t seq = 1;
	for (size_t i = 0; i < fake.n_rows; i++) {
		seq += same_conv(&fake.rows[i], &r->conv);
	}
	assert_true(++fake.n_rows <= ROWS);
	chatd_str_copy(row->room, sizeof(row->room), r->conv.room);
	chatd_str_copy(row->a, sizeof(row->a), r->conv.a);
	chatd_str_copy(row->b, sizeof(row->b), r->conv.b);
	chatd_str_copy(row->id, sizeof(row->id), r->id);
	chatd_str_copy(row->body, sizeof(row->body), r->body);
	row->seq = seq;
	return seq;
}

static chatd_status fake_append(void *obj, chatd_worker *w, const struct chatd_store_append *r,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	if (fake.refuse) {
		return fake.refuse;
	}
	struct waiting *a = hold(w, fn, arg);
	a->rc = fake.rc;
	a->a.why = fake.why;
	a->a.repeated = fake.repeated;
	a->a.until = fake.until;
	a->a.in_doubt = fake.rc == -EBUSY;
	chatd_str_copy(a->id, sizeof(a->id), fake.repeated ? CHATD_LIT("first") : r->id);
	a->a.id = text(a->id);
	int there = fake.rc == 0 || (fake.rc == -EBUSY && !fake.never);
	a->a.seq = there && !fake.repeated ? write_row(r) : 7;
	a->a.pos = 100 + a->a.seq;
	fake.check = r->check;
	fake.flags = r->flags;
	chatd_str_copy(fake.text, sizeof(fake.text), r->text.p ? r->text : CHATD_LIT("(none)"));
	return 0;
}

static void put_out(struct waiting *a, const struct row *r)
{
	struct chatd_store_message *m = &fake.out[a->a.n_messages++];
	*m = (struct chatd_store_message){ .struct_size = sizeof(*m),
		.kind = CHATD_STORE_MESSAGE,
		.seq = r->seq,
		.pos = 100 + r->seq,
		.id = text(r->id),
		.body = text(r->body) };
	if (r->room[0]) {
		m->conv.room = text(r->room);
	} else {
		m->conv.a = text(r->a);
		m->conv.b = text(r->b);
	}
	a->a.messages = fake.out;
}

static chatd_status fake_replay(void *obj, chatd_worker *w, const struct chatd_store_replay *r,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	if (fake.read) {
		return fake.read;
	}
	struct waiting *a = hold(w, fn, arg);
	a->a.whole = 1;
	for (size_t i = 0; i < fake.n_rows; i++) {
		if (same_conv(&fake.rows[i], &r->conv)) {
			a->a.seq = fake.rows[i].seq;
			if (fake.rows[i].seq > r->since) {
				put_out(a, &fake.rows[i]);
			}
		}
	}
	return 0;
}

static chatd_status fake_message(void *obj, chatd_worker *w,
		const struct chatd_store_message_key *r, chatd_store_fn *fn, void *arg)
{
	struct waiting *a = hold(w, fn, arg);
	(void)obj;
	a->rc = -ENOENT;
	for (size_t i = 0; i < fake.n_rows; i++) {
		if (chatd_str_same(text(fake.rows[i].id), r->id)) {
			put_out(a, &fake.rows[i]);
			a->rc = 0;
		}
	}
	return 0;
}

static const struct chatd_store fake_vt = {
	.struct_size = sizeof(fake_vt),
	.append = fake_append,
	.replay = fake_replay,
	.message = fake_message,
};

static void commit(void)
{
	for (; fake.given < fake.n; fake.given++) {
		if (kit_host(fake.k)->post(fake.held[fake.given].w, on_answer, &fake.held[fake.given])) {
			fail_msg("a post of the test's own failed");
		}
	}
	kit_run(fake.k);
}

static struct kit *fresh(int32_t workers)
{
	static const struct kit_service services[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = workers, .services = services };
	fake = (struct fake){ .k = NULL };
	fake.k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	const struct chatd_account bob = {
		.struct_size = sizeof(bob), .id = CHATD_LIT("bob"), .nickname = CHATD_LIT("Bob")
	};
	kit_account(fake.k, &bob);
	return fake.k;
}

static void nothing_is_heard_before_the_commit(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 3, "ann", 0);
	kit_send(ann, SEND, "{\"roomId\":\"den\",\"content\":\"1\"}", NULL);
	kit_expect_nothing_published(k);
	kit_expect_waiting(k, 1);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"1\",\"seq\":1,\"epoch\":\"" EPOCH "\"}");
	kit_expect_accept(k);
	kit_expect_reply(k, "seq", "1");
	kit_expect_reply(k, "epoch", EPOCH);
	assert_string_equal(fake.text, "1");
	assert_int_equal(fake.flags, 0);
	kit_free(k);
}

static void a_direct_message_goes_to_both_and_carries_a_cursor(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 1, "ann", CHATD_ID_ANONYMOUS);
	kit_send(ann, SEND, "{\"to\":\"bob\",\"content\":\"x\",\"encrypted\":true,\"keyId\":\"k1\"}",
			NULL);
	kit_expect_nothing_published(k);
	commit();
	kit_expect_published_user(k, "bob", INBOX, "\"seq\":1,");
	kit_expect_published_user(k, "ann", INBOX, "\"seq\":1,");
	kit_expect_accept(k);
	assert_string_equal(fake.text, "(none)");
	assert_int_equal(fake.flags, CHATD_STORE_GUEST | CHATD_STORE_ENCRYPTED);
	kit_free(k);
}

static void a_repeat_gets_the_first_answer_and_is_not_delivered(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	fake.repeated = 1;
	kit_in(k, "ann", SEND, "{\"to\":\"bob\",\"content\":\"x\",\"clientId\":\"c\"}");
	commit();
	kit_expect_accept(k);
	kit_expect_reply(k, "message-id", "first");
	kit_expect_reply(k, "seq", "7");
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void what_the_store_refuses_is_told_to_the_sender(void **state)
{
	static const struct {
		chatd_status rc;
		int32_t why;
		const char *code;
	} cases[] = {
		{ -EEXIST, CHATD_STORE_MISMATCH, "DUPLICATE_ID_MISMATCH" },
		{ -EAGAIN, 0, "STORE_BUSY" },
		{ -EBUSY, 0, "STORE_BUSY" },
		{ -ENOSPC, 0, "STORE_FULL" },
		{ -EIO, 0, "UNAVAILABLE" },
		{ -ENOENT, CHATD_STORE_NO_ROOM, "NOT_MEMBER" },
		{ -EACCES, CHATD_STORE_NOT_MEMBER, "NOT_MEMBER" },
		{ -EACCES, CHATD_STORE_BANNED, "BANNED" },
		{ -EACCES, CHATD_STORE_MUTED, "MUTED" },
		{ -EACCES, CHATD_STORE_SLOW, "SLOW_MODE" },
		{ -EACCES, CHATD_STORE_READ_ONLY, "READ_ONLY" },
	};
	struct kit *k = fresh(2);
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.rc = cases[i].rc;
		fake.why = cases[i].why;
		kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\",\"clientId\":\"c\"}");
		commit();
		kit_expect_reject(k, cases[i].code, NULL);
		kit_expect_reply(k, "clientId", "c");
	}
	fake.refuse = -EAGAIN;
	kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
	kit_expect_reject(k, "STORE_BUSY", NULL);
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_refusal_says_when_to_try_again(void **state)
{
	static const struct {
		int64_t in;
		const char *seconds;
	} cases[] = { { 1, "1" }, { 1000, "1" }, { 1001, "2" }, { -5, "1" } };
	struct kit *k = fresh(1);
	(void)state;
	fake.rc = -EACCES;
	fake.why = CHATD_STORE_SLOW;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.until = kit_host(k)->wall_ms() + cases[i].in;
		kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
		assert_int_equal(fake.check, 1);
		commit();
		kit_expect_reject(k, "SLOW_MODE", NULL);
		kit_expect_reply(k, "retryAfterSeconds", cases[i].seconds);
	}
	fake.why = CHATD_STORE_BANNED;
	fake.until = INT64_MAX;
	kit_in(k, "ann", SEND, "{\"roomId\":\"den\",\"content\":\"x\"}");
	commit();
	kit_expect_reply(k, "retryAfterSeconds", NULL);
	kit_free(k);
}

static void a_stored_message_is_delivered_though_its_sender_left(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	struct kit_client *ann = kit_open_on(k, 3, "ann", 0);
	kit_send(ann, SEND, "{\"roomId\":\"den\",\"content\":\"1\"}", NULL);
	kit_close(ann);
	commit();
	kit_expect_published(k, DEN, "\"seq\":1,");
	kit_free(k);
}

/* ---- commits that come late ---------------------------------------------------------------- */

static void say(const char *content, chatd_status rc)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"roomId\":\"den\",\"content\":\"%s\"}", content);
	fake.rc = rc;
	kit_in(fake.k, "ann", SEND, body);
	commit();
}

static void say_to(const char *user, const char *content, chatd_status rc)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"to\":\"%s\",\"content\":\"%s\"}", user, content);
	fake.rc = rc;
	kit_in(fake.k, "ann", SEND, body);
	commit();
}

static void a_late_commit_is_delivered_before_what_follows_it(void **state)
{
	struct kit *k = fresh(4);
	(void)state;
	say("1", 0);
	say("2", -EBUSY);
	kit_expect_reject(k, "STORE_BUSY", NULL);
	say("3", -EBUSY);
	kit_expect_published(k, DEN, "\"content\":\"1\"");
	kit_expect_nothing_published(k);
	say("4", 0);
	kit_expect_nothing_published(k);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"2\",\"seq\":2,");
	kit_expect_nothing_published(k);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"3\",\"seq\":3,");
	kit_expect_published(k, DEN, "\"content\":\"4\",\"seq\":4,");
	say("5", 0);
	kit_expect_published(k, DEN, "\"content\":\"5\",\"seq\":5,");
	kit_advance(k, 1000);
	commit();
	kit_expect_nothing_published(k);
	kit_free(k);
}

/* Cursors cover all of a user's conversations: a late one of another may not come after. */
static void a_late_commit_holds_up_other_conversations(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	say_to("bob", "late", -EBUSY);
	say_to("ann", "next", 0); /* to herself */
	kit_expect_nothing_published(k);
	commit();
	kit_expect_published_user(k, "bob", INBOX, "\"content\":\"late\"");
	kit_expect_published_user(k, "ann", INBOX, "\"content\":\"late\"");
	kit_expect_published_user(k, "ann", INBOX, "\"content\":\"next\"");
	kit_free(k);
}

static void what_was_never_committed_holds_up_nothing_for_long(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	fake.never = 1;
	say("1", -EBUSY);
	kit_advance(k, 1000); /* asked, and not there: it still may come */
	commit();
	say("2", 0);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"2\",\"seq\":1,");
	kit_expect_nothing_published(k);
	say("3", -EBUSY); /* and the worker ends with it */
	kit_free(k);
}

static void a_late_commit_is_delivered_though_nothing_follows(void **state)
{
	struct kit *k = fresh(2);
	(void)state;
	say("1", 0);
	kit_expect_published(k, DEN, "\"content\":\"1\"");
	say("2", -EBUSY);
	kit_expect_nothing_published(k);
	kit_advance(k, 1000);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"2\",\"seq\":2,");
	kit_advance(k, 60000);
	commit();
	kit_expect_nothing_published(k);
	kit_free(k);
}

static void a_hole_that_cannot_be_read_yet_is_read_later(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	say("1", 0);
	kit_expect_published(k, DEN, "\"content\":\"1\"");
	/* Other plugins write rows too, and need not say that one is in doubt. */
	fake.rows[fake.n_rows] = fake.rows[fake.n_rows - 1];
	snprintf(fake.rows[fake.n_rows].body, sizeof(fake.rows[0].body), "%s", "{\"content\":\"2\"}");
	fake.rows[fake.n_rows++].seq = 2;
	fake.read = -EAGAIN;
	say("3", 0);
	say("4", 0);
	kit_expect_nothing_published(k);
	fake.read = 0;
	kit_advance(k, 250);
	commit();
	kit_expect_published(k, DEN, "\"content\":\"2\"");
	kit_expect_published(k, DEN, "\"content\":\"3\"");
	kit_expect_published(k, DEN, "\"content\":\"4\"");
	fake.read = -EIO;
	fake.rows[fake.n_rows] = fake.rows[fake.n_rows - 1];
	fake.rows[fake.n_rows++].seq = 5;
	say("6", 0);
	kit_advance(k, 100); /* and the worker ends while it still tries */
	kit_free(k);
}

/* ---- coming back ---------------------------------------------------------------------------- */

enum { CROWD = 10 };

static size_t unanswered(void)
{
	return fake.n - fake.given;
}

static void who_comes_back_together_shares_reads(void **state)
{
	struct kit *k = fresh(1);
	struct kit_client *c[CROWD];
	(void)state;
	say("1", 0);
	say("2", 0);
	say("3", 0);
	for (int i = 0; i < CROWD; i++) {
		char name[16];
		snprintf(name, sizeof(name), "user%d", i);
		c[i] = kit_open(k, name);
		kit_subscribe_with(c[i], DEN, "since", "1", NULL);
		assert_int_equal(unanswered(), 1);
	}
	commit();
	kit_expect_delivery(c[0], DEN, "\"seq\":2");
	kit_expect_delivery(c[0], DEN, "\"seq\":3");
	kit_expect_quiet(c[1]); /* that read began before they were there */
	assert_int_equal(unanswered(), 1);
	commit();
	for (int i = 1; i < CROWD; i++) {
		kit_expect_delivery(c[i], DEN, "\"seq\":2");
		kit_expect_delivery(c[i], DEN, "\"seq\":3");
		kit_expect_quiet(c[i]);
	}
	assert_int_equal(unanswered(), 0);
	kit_free(k);
}

static void only_who_wants_the_same_shares(void **state)
{
	struct kit *k = fresh(1);
	(void)state;
	say("1", 0);
	kit_subscribe_with(kit_open(k, "ann"), DEN, "since", "0", NULL);
	kit_subscribe_with(kit_open(k, "bob"), DEN, "since", "1", NULL);
	kit_subscribe_with(kit_open(k, "eve"), DEN, "since", "0", "epoch", "other", NULL);
	assert_int_equal(unanswered(), 3);
	commit();
	assert_int_equal(unanswered(), 0);
	kit_free(k);
}

static void a_row_that_comes_while_others_read_is_not_missed(void **state)
{
	struct kit *k = fresh(1);
	struct kit_client *early, *late;
	(void)state;
	say("1", 0);
	early = kit_open(k, "early");
	late = kit_open(k, "late");
	kit_subscribe_with(early, DEN, "since", "0", NULL);
	size_t read = fake.given++; /* under way: it has seen one row */
	say("2", 0);
	kit_subscribe_with(late, DEN, "since", "0", NULL);
	kit_expect_quiet(late);
	assert_int_equal(kit_host(k)->post(fake.held[read].w, on_answer, &fake.held[read]), 0);
	commit();
	commit();
	for (int seq = 1; seq <= 2; seq++) {
		char part[16];
		snprintf(part, sizeof(part), "\"seq\":%d", seq);
		kit_expect_delivery(early, DEN, part);
		kit_expect_delivery(late, DEN, part);
	}
	kit_expect_quiet(early);
	kit_expect_quiet(late);
	kit_free(k);
}

static void a_read_that_fails_ends_all_who_share_it(void **state)
{
	struct kit *k = fresh(1);
	struct kit_client *c[3];
	(void)state;
	say("1", 0);
	for (int i = 0; i < 3; i++) {
		c[i] = kit_open(k, i == 0 ? "a" : i == 1 ? "b" : "c");
		kit_subscribe_with(c[i], DEN, "since", "0", NULL);
	}
	fake.read = -EAGAIN; /* the second one finds no place */
	commit();
	kit_expect_delivery(c[0], DEN, "\"seq\":1");
	kit_expect_closed(c[1], 4010);
	kit_expect_closed(c[2], 4010);
	fake.read = 0;
	kit_subscribe_with(kit_open(k, "d"), DEN, "since", "0", NULL);
	assert_int_equal(unanswered(), 1);
	commit();
	kit_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_heard_before_the_commit),
		cmocka_unit_test(a_direct_message_goes_to_both_and_carries_a_cursor),
		cmocka_unit_test(a_repeat_gets_the_first_answer_and_is_not_delivered),
		cmocka_unit_test(what_the_store_refuses_is_told_to_the_sender),
		cmocka_unit_test(a_refusal_says_when_to_try_again),
		cmocka_unit_test(a_stored_message_is_delivered_though_its_sender_left),
		cmocka_unit_test(a_late_commit_is_delivered_before_what_follows_it),
		cmocka_unit_test(a_late_commit_holds_up_other_conversations),
		cmocka_unit_test(what_was_never_committed_holds_up_nothing_for_long),
		cmocka_unit_test(a_late_commit_is_delivered_though_nothing_follows),
		cmocka_unit_test(a_hole_that_cannot_be_read_yet_is_read_later),
		cmocka_unit_test(who_comes_back_together_shares_reads),
		cmocka_unit_test(only_who_wants_the_same_shares),
		cmocka_unit_test(a_row_that_comes_while_others_read_is_not_missed),
		cmocka_unit_test(a_read_that_fails_ends_all_who_share_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

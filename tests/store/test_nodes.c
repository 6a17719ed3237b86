/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes of a cluster ask: for every provider of chatd.store/1. */
#include "suite.h"

static int begin(void **state)
{
	host_set_node("one");
	return setup(state);
}

static int64_t start_node(const char *node)
{
	struct chatd_store_node r = { SZ(chatd_store_node), .node = z(node), .who = S("host 1"),
		.wall = WALL };
	struct kept *k = ASK(h, node_start, r);
	assert_int_equal(k->rc, 0);
	return k->a.n;
}

static void boot_epochs_grow(void **state)
{
	(void)state;
	assert_int_equal(start_node("a.b"), 1);
	assert_int_equal(start_node("a.b"), 2);
	assert_int_equal(start_node("c"), 1);
	assert_int_equal(start_node("a.b"), 3);
	struct chatd_store_node bad = { SZ(chatd_store_node), .node = S("no spaces"), .wall = WALL };
	assert_int_equal(ASK(h, node_start, bad)->rc, -EINVAL);
}

static void what_changed_is_told_in_order(void **state)
{
	(void)state;
	struct chatd_store_changed r = { SZ(chatd_store_changed), .limit = 10 };
	struct kept *k = ASK(h, changed, r);
	assert_int_equal(k->a.n_changed, 0);
	say("r", "ann", "1");
	int64_t first = say("ann/bob", "ann", "2")->a.pos;
	int64_t last = say("r", "ann", "3")->a.pos;
	k = ASK(h, changed, r);
	assert_int_equal(k->a.n_changed, 2);
	assert_str(k->a.changed[0].conv.b, "bob");
	assert_int_equal(k->a.changed[0].pos, first);
	assert_str(k->a.changed[1].conv.room, "r");
	assert_int_equal(k->a.changed[1].seq, 2);
	assert_int_equal(k->a.pos, last);
	r.after_pos = first;
	k = ASK(h, changed, r);
	assert_int_equal(k->a.n_changed, 1);
	struct chatd_store_replay rows = { SZ(chatd_store_replay), .conv = ROOM("r"), .since = -1,
		.after_pos = first, .max = 10 };
	k = ASK(h, replay, rows);
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 1);
	assert_str(k->a.messages[0].id, "3");
}

static void what_was_handed_over_moves_forward(void **state)
{
	(void)state;
	struct chatd_store_handed r = { SZ(chatd_store_handed), .node = S("one"), .pos = 5 };
	assert_int_equal(ASK(h, handed, r)->rc, -ENOENT);
	start_node("one");
	int64_t first = say("r", "ann", "1")->a.pos, second = say("r", "ann", "2")->a.pos;
	r.pos = first;
	assert_int_equal(ASK(h, handed, r)->a.pos, first);
	r.pos = 0;
	assert_int_equal(ASK(h, handed, r)->a.pos, first);
	struct chatd_store_written w = { SZ(chatd_store_written), .node = S("one"), .limit = 10,
		.after_pos = -1 };
	struct kept *k = ASK(h, written, w);
	assert_int_equal(k->a.pos, first);
	assert_int_equal(k->a.n_messages, 1);
	assert_int_equal(k->a.messages[0].pos, second);
	w.after_pos = 0;
	assert_int_equal(ASK(h, written, w)->a.n_messages, 2);
	if (h->vt->is_shared(h->obj)) { /* what another wrote is another's */
		w.node = S("two");
		assert_int_equal(ASK(h, written, w)->a.n_messages, 0);
	}
	w.node = chatd_str_of(NULL, 0); /* anybody's */
	assert_int_equal(ASK(h, written, w)->a.n_messages, 2);
	w.after_pos = first;
	k = ASK(h, written, w);
	assert_int_equal(k->a.n_messages, 1);
	assert_int_equal(k->a.messages[0].pos, second);
	w.after_pos = -1;
	assert_int_equal(ASK(h, written, w)->rc, -EINVAL);
}

/* Whatever is written to a direct conversation. */
static void the_rows_before_are_those_of_both_inboxes(void **state)
{
	(void)state;
	struct chatd_store_change like = { SZ(chatd_store_change), .kind = CHATD_STORE_REACTION,
		.target = S("1"), .id = S("l"), .actor = S("bob"), .emoji = S("+"), .body = S("{}"),
		.wall = WALL };
	struct chatd_store_append event = { SZ(chatd_store_append), .kind = CHATD_STORE_EVENT,
		.conv = conv_of("ann/bob"), .id = S("e"), .sender = S("ann"), .body = S("{}"),
		.wall = WALL };
	struct chatd_store_pin pin = { SZ(chatd_store_pin), .id = S("1"), .actor = S("ann"),
		.wall = WALL, .event = &event };
	struct kept *one = say("ann/bob", "ann", "1"), *two = say("cat/ann", "cat", "2");
	if (!h->vt->is_shared(h->obj)) {
		assert_int_equal(one->a.before_a, -1);
		return;
	}
	assert_int_equal(one->a.before_a, 0);
	assert_int_equal(one->a.before_b, 0);
	assert_int_equal(two->a.before_a, one->a.pos); /* ann's */
	assert_int_equal(two->a.before_b, 0);          /* cat's */
	say("r", "ann", "a room's does not count");
	struct kept *three = ASK(h, change, like), *four = say("bob/bob", "bob", "4");
	assert_int_equal(three->rc, 0);
	assert_int_equal(three->a.before_a, two->a.pos);
	assert_int_equal(three->a.before_b, one->a.pos);
	assert_int_equal(four->a.before_a, three->a.pos);
	assert_int_equal(four->a.before_b, three->a.pos);
	struct kept *five = ASK(h, pin, pin);
	assert_int_equal(five->a.n, 1);
	assert_int_equal(five->a.before_a, three->a.pos);
	assert_int_equal(five->a.before_b, four->a.pos);
}

/* ---- many at once: one commit, in which some depend on others ------------------------------ */

static struct kept *start(const struct chatd_store_append *r)
{
	struct kept *k = kept_new();
	assert_int_equal(h->vt->append(h->obj, &h->workers[0], r, keep, k), 0);
	return k;
}

static void calls_of_one_commit_see_each_other(void **state)
{
	(void)state;
	make_room("slow", "owner", CHATD_STORE_ROOM_PUBLIC);
	member(CHATD_STORE_JOIN, "slow", "ann", NULL, 0);
	struct chatd_store_room u = { SZ(chatd_store_room), .id = S("slow"), .slow_ms = 60000,
		.set = CHATD_STORE_SET_SLOW };
	assert_int_equal(ASK(h, room_update, u)->rc, 0);
	struct chatd_store_append a = { SZ(chatd_store_append), .conv = ROOM("slow"), .id = S("s1"),
		.sender = S("ann"), .client_id = S("c1"), .hash = S("h"), .body = S("{}"), .wall = WALL,
		.check = 1 };
	struct chatd_store_append direct = { SZ(chatd_store_append), .conv = conv_of("ann/bob"),
		.id = S("d1"), .sender = S("ann"), .body = S("{}"), .wall = WALL, .check = 1 };
	struct kept *k[8];
	k[0] = start(&a); /* goes alone; what follows waits behind it and is one group */
	a.id = S("s2");
	k[1] = start(&a); /* said again */
	a.hash = S("other");
	k[2] = start(&a); /* something else with that clientId */
	a.client_id = chatd_str_of(NULL, 0);
	k[3] = start(&a); /* too soon */
	k[4] = start(&direct);
	direct.id = S("d2");
	direct.thread = S("d1");
	k[5] = start(&direct); /* in a thread of the same commit */
	direct.id = S("d3");
	direct.thread = S("nothing");
	k[6] = start(&direct);
	direct.id = S("d4");
	direct.thread = chatd_str_of(NULL, 0);
	k[7] = start(&direct);
	for (int i = 0; i < 8; i++) {
		kept_wait(h, k[i]);
	}
	assert_int_equal(k[0]->a.seq, 1);
	assert_int_equal(k[1]->a.repeated, 1);
	assert_str(k[1]->a.id, "s1");
	assert_refused(k[2], -EEXIST, CHATD_STORE_MISMATCH);
	assert_refused(k[3], -EACCES, CHATD_STORE_SLOW);
	assert_int_equal(k[3]->a.until, WALL + 60000);
	assert_int_equal(k[4]->a.seq, 1);
	assert_int_equal(k[5]->a.seq, 2);
	assert_refused(k[6], -ENOENT, CHATD_STORE_NO_THREAD);
	assert_int_equal(k[7]->a.seq, 3);
	if (h->vt->is_shared(h->obj)) {
		assert_int_equal(k[7]->a.before_a, k[5]->a.pos);
		assert_int_equal(k[5]->a.before_b, k[4]->a.pos);
	}
}

/* The others go on. */
static void who_leaves_has_all_answers(void **state)
{
	struct kept *k[200], *other;
	struct chatd_store_append w = { SZ(chatd_store_append), .conv = ROOM("r"), .sender = S("ann"),
		.body = S("{}"), .wall = WALL };
	struct chatd_store_page r = { SZ(chatd_store_page), .limit = 10, .conv = ROOM("r"),
		.after = -1 };
	(void)state;
	for (int i = 0; i < 200; i++) {
		char id[8];
		snprintf(id, sizeof(id), "%d", i);
		w.id = z(id);
		k[i] = kept_new();
		k[i]->rc = i % 2 ? h->vt->page(h->obj, &h->workers[0], &r, keep, k[i])
						 : h->vt->append(h->obj, &h->workers[0], &w, keep, k[i]);
		assert_int_equal(k[i]->rc, 0);
	}
	h->plugin->worker_stop(h->self, &h->workers[0], NULL);
	while (host_turn(&h->workers[0], 0)) {
	}
	for (int i = 0; i < 200; i++) {
		assert_true(k[i]->done);
		assert_int_equal(k[i]->rc, 0);
	}
	assert_int_equal(h->vt->page(h->obj, &h->workers[0], &r, keep, kept_new()), -ESHUTDOWN);
	other = kept_new();
	assert_int_equal(h->vt->page(h->obj, &h->workers[1], &r, keep, other), 0);
	h->plugin->worker_stop(h->self, &h->workers[1], NULL);
	assert_int_equal(host_turn(&h->workers[1], 0), 1);
	assert_int_equal(other->done, 1);
	assert_int_equal(other->a.n_messages, 10);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { CASE(boot_epochs_grow), CASE(what_changed_is_told_in_order),
		CASE(what_was_handed_over_moves_forward), CASE(the_rows_before_are_those_of_both_inboxes),
		CASE(calls_of_one_commit_see_each_other), CASE(who_leaves_has_all_answers) };
	return suite_args(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins keep: for every provider of chatd.store/1. */
#include "suite.h"

static struct chatd_store_record of(const char *key)
{
	return (struct chatd_store_record){ SZ(chatd_store_record), .space = S("test.thing"),
		.key = z(key), .value = S("v"), .wall = WALL };
}

static struct kept *put(const char *key)
{
	struct chatd_store_record r = of(key);
	return ASK(h, record_put, r);
}

static struct kept *put_owned(const char *key, const char *owner, int64_t max)
{
	struct chatd_store_record r = of(key);
	r.owner = z(owner);
	r.max = max;
	return ASK(h, record_put, r);
}

static struct chatd_store_record_key by(const char *key, int prefix)
{
	return (struct chatd_store_record_key){ SZ(chatd_store_record_key), .space = S("test.thing"),
		.key = z(key), .prefix = prefix, .wall = WALL };
}

static struct kept *get(const char *key)
{
	struct chatd_store_record_key r = by(key, 0);
	return ASK(h, record_get, r);
}

static struct kept *take(const char *prefix)
{
	struct chatd_store_record_key r = by(prefix, 1);
	return ASK(h, record_take, r);
}

static struct kept *end(const char *key, int prefix)
{
	struct chatd_store_record_key r = by(key, prefix);
	return ASK(h, record_end, r);
}

static struct chatd_store_record_list listing(const char *prefix)
{
	return (struct chatd_store_record_list){ SZ(chatd_store_record_list), .space = S("test.thing"),
		.prefix = z(prefix), .limit = 100, .wall = WALL };
}

/* The keys, a blank after each. */
static const char *keys_of(struct kept *k)
{
	static char text[512];
	size_t n = 0;
	text[0] = '\0';
	assert_int_equal(k->rc, 0);
	for (size_t i = 0; i < k->a.n_records; i++) {
		struct chatd_str key = k->a.records[i].key;
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s ", (int)key.n, key.p);
	}
	return text;
}

static const char *all(const char *prefix)
{
	struct chatd_store_record_list r = listing(prefix);
	return keys_of(ASK(h, record_list, r));
}

static void what_is_put_is_found_again(void **state)
{
	(void)state;
	struct chatd_store_record r = of("a/1");
	r.value = chatd_str_of("\0\xff\n", 3);
	r.owner = S("ann");
	r.at = 5;
	r.expires = WALL + 9;
	struct kept *k = ASK(h, record_put, r);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.version, 1);
	k = get("a/1");
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n_records, 1);
	const struct chatd_store_record *is = &k->a.records[0];
	assert_str(is->space, "test.thing");
	assert_str(is->key, "a/1");
	assert_str(is->owner, "ann");
	assert_int_equal(is->value.n, 3);
	assert_memory_equal(is->value.p, "\0\xff\n", 3);
	assert_int_equal(is->at, 5);
	assert_int_equal(is->expires, WALL + 9);
	assert_int_equal(is->version, 1);
	assert_int_equal(is->wall, WALL);
	assert_int_equal(get("a/")->rc, -ENOENT);
	assert_int_equal(get("a/10")->rc, -ENOENT);
	struct chatd_store_record_key elsewhere = by("a/1", 0);
	elsewhere.space = S("test.other");
	assert_int_equal(ASK(h, record_get, elsewhere)->rc, -ENOENT);
}

static void an_empty_value_is_a_value(void **state)
{
	(void)state;
	struct chatd_store_record r = of("k");
	r.value = chatd_str_of(NULL, 0);
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	struct kept *k = get("k");
	assert_int_equal(k->rc, 0);
	assert_non_null(k->a.records[0].value.p);
	assert_int_equal(k->a.records[0].value.n, 0);
	assert_null(k->a.records[0].owner.p);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	static char long_key[258], long_value[(64 << 10) + 1];
	memset(long_key, 'k', 257);
	assert_int_equal(put("")->rc, -EINVAL);
	assert_int_equal(put("a b")->rc, -EINVAL);
	assert_int_equal(put("\xc3\xa4")->rc, -EINVAL);
	assert_int_equal(put(long_key)->rc, -EINVAL);
	long_key[256] = '\0';
	assert_int_equal(put(long_key)->rc, 0);
	assert_int_equal(get(long_key)->rc, 0);
	assert_int_equal(put_owned("k", "a b", 0)->rc, -EINVAL);
	struct chatd_store_record r = of("k");
	r.space = S("Test");
	assert_int_equal(ASK(h, record_put, r)->rc, -EINVAL);
	r = of("k");
	r.value = chatd_str_of(long_value, sizeof(long_value));
	assert_int_equal(ASK(h, record_put, r)->rc, -EINVAL);
	r.value.n--;
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	r.how = 3;
	assert_int_equal(ASK(h, record_put, r)->rc, -EINVAL);
	struct chatd_store_record_list l = listing("");
	l.limit = 0;
	assert_int_equal(ASK(h, record_list, l)->rc, -EINVAL);
	struct chatd_store_record_claim c = { SZ(chatd_store_record_claim), .limit = 1,
		.space = S("test.thing"), .wall = WALL, .until = WALL };
	assert_int_equal(ASK(h, record_claim, c)->rc, -EINVAL);
	assert_int_equal(get("")->rc, -EINVAL);
}

static void a_put_may_ask_what_is_there(void **state)
{
	(void)state;
	struct chatd_store_record r = of("k");
	r.how = CHATD_STORE_RECORD_VERSION;
	r.version = 1;
	assert_int_equal(ASK(h, record_put, r)->rc, -ENOENT);
	r.how = CHATD_STORE_RECORD_NEW;
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	assert_int_equal(ASK(h, record_put, r)->rc, -EEXIST);
	r.how = CHATD_STORE_RECORD_VERSION;
	r.value = S("second");
	assert_int_equal(ASK(h, record_put, r)->a.version, 2);
	r.value = S("third");
	assert_int_equal(ASK(h, record_put, r)->rc, -ESTALE);
	assert_str(get("k")->a.records[0].value, "second");
	assert_int_equal(put("k")->a.version, 3);
}

static void lists_go_both_ways_page_by_page(void **state)
{
	(void)state;
	static const char *const keys[] = { "b", "a/2", "a/10", "a/1", "a", "a0", "A" };
	for (size_t i = 0; i < 7; i++) {
		assert_int_equal(put(keys[i])->rc, 0);
	}
	assert_string_equal(all(""), "A a a/1 a/10 a/2 a0 b ");
	assert_string_equal(all("a/"), "a/1 a/10 a/2 ");
	struct chatd_store_record_list r = listing("a/");
	r.limit = 2;
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/1 a/10 ");
	r.after = S("a/10");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/2 ");
	r.after = S("a/2");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "");
	r.after = S("A");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/1 a/10 ");
	r.down = 1;
	r.after = chatd_str_of(NULL, 0);
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/2 a/10 ");
	r.after = S("a/10");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/1 ");
	r.after = S("zzz");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "a/2 a/10 ");
}

static void an_owner_has_so_many(void **state)
{
	(void)state;
	assert_int_equal(put_owned("1", "ann", 2)->rc, 0);
	assert_int_equal(put_owned("2", "ann", 2)->rc, 0);
	assert_refused(put_owned("3", "ann", 2), -EDQUOT, CHATD_STORE_TOO_MANY);
	assert_int_equal(put_owned("2", "ann", 2)->rc, 0);
	assert_int_equal(put_owned("3", "bob", 2)->rc, 0);
	struct chatd_store_record_list r = listing("");
	r.owner = S("ann");
	assert_string_equal(keys_of(ASK(h, record_list, r)), "1 2 ");
	r.down = 1;
	assert_string_equal(keys_of(ASK(h, record_list, r)), "2 1 ");
	struct chatd_store_record_key mine = by("", 1);
	mine.owner = S("ann");
	assert_int_equal(ASK(h, record_end, mine)->a.n, 2);
	assert_string_equal(all(""), "3 ");
}

static void what_has_expired_is_not_there(void **state)
{
	(void)state;
	struct chatd_store_record r = of("old");
	r.expires = WALL;
	r.owner = S("ann");
	r.at = 1;
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	r.key = S("young");
	r.expires = WALL + 1;
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	assert_int_equal(get("old")->rc, -ENOENT);
	assert_string_equal(all(""), "young ");
	assert_int_equal(put_owned("new", "ann", 2)->rc, 0);
	r.key = S("old");
	r.how = CHATD_STORE_RECORD_NEW;
	r.expires = 0;
	assert_int_equal(ASK(h, record_put, r)->rc, 0);
	struct chatd_store_sweep s = { SZ(chatd_store_sweep), .wall = WALL + 1 };
	assert_int_equal(ASK(h, sweep, s)->rc, 0);
	assert_string_equal(all(""), "new old ");
}

static void one_taker_gets_it(void **state)
{
	(void)state;
	put("ann/1");
	put("ann/2");
	put("bob/1");
	assert_string_equal(keys_of(take("ann/")), "ann/1 ");
	assert_string_equal(keys_of(take("ann/")), "ann/2 ");
	assert_int_equal(take("ann/")->rc, -ENOENT);
	assert_string_equal(all(""), "bob/1 ");
	assert_int_equal(end("bob/1", 0)->a.n, 1);
	assert_int_equal(end("bob/1", 0)->a.n, 0);
}

static struct kept *claim(int64_t wall, int32_t limit)
{
	struct chatd_store_record_claim r = { SZ(chatd_store_record_claim), .limit = limit,
		.space = S("test.thing"), .wall = wall, .until = wall + 100 };
	return ASK(h, record_claim, r);
}

static void what_is_due_is_claimed_once(void **state)
{
	(void)state;
	static const struct {
		const char *key;
		int64_t at;
	} jobs[] = { { "c", WALL - 3 }, { "a", WALL - 1 }, { "b", WALL }, { "later", WALL + 50 },
		{ "never", 0 } };
	for (size_t i = 0; i < 5; i++) {
		struct chatd_store_record r = of(jobs[i].key);
		r.at = jobs[i].at;
		assert_int_equal(ASK(h, record_put, r)->rc, 0);
	}
	assert_string_equal(keys_of(claim(WALL, 2)), "c a ");
	struct kept *k = claim(WALL, 2);
	assert_string_equal(keys_of(k), "b ");
	assert_int_equal(k->a.records[0].version, 2);
	assert_int_equal(k->a.records[0].at, WALL + 100);
	assert_string_equal(keys_of(claim(WALL, 2)), "");
	assert_int_equal(get("b")->a.records[0].version, 2);
	/* one is done, one is put off, one was left lying */
	end("c", 0);
	struct chatd_store_record off = of("a");
	off.how = CHATD_STORE_RECORD_VERSION;
	off.version = 2;
	off.at = WALL + 500;
	assert_int_equal(ASK(h, record_put, off)->rc, 0);
	assert_string_equal(keys_of(claim(WALL + 100, 9)), "later b ");
	off.key = S("b");
	assert_int_equal(ASK(h, record_put, off)->rc, -ESTALE);
	assert_string_equal(keys_of(claim(WALL + 500, 9)), "b later a ");
}

static void who_leaves_takes_them_along(void **state)
{
	(void)state;
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann") };
	struct chatd_store_account_delete r = { SZ(chatd_store_account_delete), .id = S("ann") };
	assert_int_equal(ASK(h, account_create, ann)->rc, 0);
	put_owned("1", "ann", 0);
	put_owned("2", "bob", 0);
	put("3");
	assert_int_equal(ASK(h, account_delete, r)->rc, 0);
	assert_string_equal(all(""), "2 3 ");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(what_is_put_is_found_again),
		T(an_empty_value_is_a_value),
		T(nonsense_is_refused),
		T(a_put_may_ask_what_is_there),
		T(lists_go_both_ways_page_by_page),
		T(an_owner_has_so_many),
		T(what_has_expired_is_not_there),
		T(one_taker_gets_it),
		T(what_is_due_is_claimed_once),
		T(who_leaves_takes_them_along),
	};
	if (!suite_args(argc, argv)) {
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Files and the messages they come with: for every provider of chatd.store/1. */
#include "suite.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
enum { DAY = 86400000 };

static struct kept *put_as(const struct chatd_store_file *more)
{
	struct chatd_store_file r = *more;
	r.struct_size = sizeof(r);
	r.name = r.name.p ? r.name : S("cat.png");
	r.hash = r.hash.p ? r.hash : S(HASH_A);
	r.type = S("image/png");
	r.size = r.size ? r.size : 100;
	r.wall = r.wall ? r.wall : WALL;
	r.expires = r.expires ? r.expires : WALL + DAY;
	return ASK(h, file_put, r);
}

static struct kept *put(const char *id, const char *owner, const char *hash, const char *object)
{
	return put_as(&(struct chatd_store_file){
			.id = z(id), .owner = z(owner), .hash = z(hash), .object = z(object) });
}

static struct kept *get(const char *id, const char *user)
{
	struct chatd_store_file_key r = { SZ(chatd_store_file_key), .id = z(id),
		.user = user ? z(user) : chatd_str_of(NULL, 0) };
	return ASK(h, file_get, r);
}

static struct kept *send_with(
		const char *conv, const char *sender, const char *id, const char *files)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(sender), .body = S("{}"), .files = z(files), .wall = WALL };
	return ASK(h, append, r);
}

static struct kept *objects(int which)
{
	struct chatd_store_objects r = { SZ(chatd_store_objects), .which = which, .limit = 10 };
	return ASK(h, objects, r);
}

static void sweep_at(int64_t wall)
{
	struct chatd_store_sweep r = { SZ(chatd_store_sweep), .wall = wall };
	assert_int_equal(ASK(h, sweep, r)->rc, 0);
}

static void delete_message(const char *id, const char *new_id)
{
	struct chatd_store_change r = { SZ(chatd_store_change), .kind = CHATD_STORE_DELETE,
		.target = z(id), .id = z(new_id), .body = S("{}"), .new_body = S("{}"), .wall = WALL };
	assert_int_equal(ASK(h, change, r)->rc, 0);
}

static void a_file_is_its_owners(void **state)
{
	(void)state;
	struct kept *k = put("f1", "ann", HASH_A, "aa/a.1");
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.repeated, 0);
	assert_int_equal(k->a.n_files, 1);
	assert_str(k->a.files[0].object, "aa/a.1");
	k = get("f1", "ann");
	assert_int_equal(k->rc, 0);
	assert_str(k->a.files[0].name, "cat.png");
	assert_str(k->a.files[0].type, "image/png");
	assert_int_equal(k->a.files[0].size, 100);
	assert_int_equal(k->a.files[0].expires, WALL + DAY);
	assert_int_equal(k->a.files[0].uses, 0);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	assert_int_equal(get("f1", NULL)->rc, 0);
	assert_int_equal(get("none", "ann")->rc, -ENOENT);
	assert_int_equal(put("f1", "bob", HASH_B, "bb/b.1")->rc, -EEXIST);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	assert_int_equal(put("f 1", "ann", HASH_A, "aa/a.1")->rc, -EINVAL);
	assert_int_equal(put("f1", "ann", "abc", "aa/a.1")->rc, -EINVAL);
	assert_int_equal(put("f1", "ann", HASH_A, "")->rc, -EINVAL);
	assert_int_equal(put("f1", "ann", HASH_A, "a b")->rc, -EINVAL);
	struct chatd_store_objects all = { SZ(chatd_store_objects), .limit = 0 };
	assert_int_equal(ASK(h, objects, all)->rc, -EINVAL);
	struct chatd_store_file_mark mark = { SZ(chatd_store_file_mark), .object = S("none") };
	assert_int_equal(ASK(h, file_mark, mark)->rc, -ENOENT);
}

static void equal_content_is_one_object(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	struct kept *k = put("f2", "bob", HASH_A, "aa/a.2");
	assert_int_equal(k->a.repeated, 1);
	assert_str(k->a.files[0].object, "aa/a.1");
	assert_int_equal(objects(CHATD_STORE_OBJECTS)->a.n_files, 1);
	struct chatd_store_file_key drop = { SZ(chatd_store_file_key), .id = S("f1"),
		.user = S("bob") };
	assert_int_equal(ASK(h, file_drop, drop)->rc, -ENOENT);
	drop.user = S("ann");
	assert_int_equal(ASK(h, file_drop, drop)->rc, 0);
	assert_int_equal(objects(CHATD_STORE_OBJECTS_GONE)->a.n_files, 0);
	assert_int_equal(get("f2", "bob")->rc, 0);
	drop.id = S("f2");
	drop.user.p = NULL;
	assert_int_equal(ASK(h, file_drop, drop)->rc, 0);
	k = objects(CHATD_STORE_OBJECTS_GONE);
	assert_int_equal(k->a.n_files, 1);
	assert_str(k->a.files[0].object, "aa/a.1");
	assert_int_equal(objects(CHATD_STORE_OBJECTS)->a.n_files, 0);
	/* The same content again is another object, whatever becomes of the first. */
	k = put("f3", "bob", HASH_A, "aa/a.3");
	assert_int_equal(k->a.repeated, 0);
	struct chatd_store_object end = { SZ(chatd_store_object), .object = S("aa/a.1") };
	assert_int_equal(ASK(h, object_end, end)->rc, 0);
	assert_int_equal(objects(CHATD_STORE_OBJECTS_GONE)->a.n_files, 0);
	assert_int_equal(get("f3", "bob")->rc, 0);
}

static chatd_status move(const char *object, const char *to)
{
	struct chatd_store_object_move m = { SZ(chatd_store_object_move),
		.object = chatd_str_of(object, strlen(object)), .to = chatd_str_of(to, strlen(to)) };
	return ASK(h, object_move, m)->rc;
}

static void content_lies_as_another_object(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	put("f2", "bob", HASH_A, "aa/a.2");
	put("f3", "bob", HASH_B, "bb/b.1");
	assert_int_equal(move("aa/a.1", "cc/c.sealed"), 0);
	assert_str(get("f1", "ann")->a.files[0].object, "cc/c.sealed");
	assert_str(get("f2", "bob")->a.files[0].object, "cc/c.sealed");
	assert_str(get("f3", "bob")->a.files[0].object, "bb/b.1");
	struct kept *k = objects(CHATD_STORE_OBJECTS_GONE);
	assert_int_equal(k->a.n_files, 1);
	assert_str(k->a.files[0].object, "aa/a.1");
	/* Another node was quicker; or it was deleted. */
	assert_int_equal(move("aa/a.1", "dd/d.sealed"), -ENOENT);
	assert_int_equal(move("cc/c.sealed", "bb/b.1"), -EEXIST);
	assert_int_equal(move("cc/c.sealed", "cc/c.sealed"), -EINVAL);
	assert_int_equal(move("cc/c.sealed", "c c"), -EINVAL);
	assert_int_equal(move("cc/c.sealed", ""), -EINVAL);
	assert_str(get("f1", "ann")->a.files[0].object, "cc/c.sealed");
	assert_int_equal(objects(CHATD_STORE_OBJECTS_GONE)->a.n_files, 1);
	/* What is put now shares the object that is there now, and it goes as any other. */
	k = put("f4", "ann", HASH_A, "aa/a.9");
	assert_int_equal(k->a.repeated, 1);
	assert_str(k->a.files[0].object, "cc/c.sealed");
}

static void whoever_may_read_the_message_may_read_the_file(void **state)
{
	(void)state;
	make_room("r", "ann", 0);
	member(CHATD_STORE_ADD, "r", "bob", "ann", 0);
	put("f1", "ann", HASH_A, "aa/a.1");
	put("f2", "ann", HASH_B, "bb/b.1");
	assert_int_equal(send_with("r", "ann", "m1", "f1 f2")->rc, 0);
	assert_int_equal(get("f1", "bob")->rc, 0);
	assert_int_equal(get("f2", "bob")->a.files[0].uses, 1);
	assert_int_equal(get("f2", "bob")->a.files[0].expires, 0);
	assert_int_equal(get("f1", "cat")->rc, -ENOENT);
	member(CHATD_STORE_LEAVE, "r", "bob", NULL, 0);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	assert_int_equal(send_with("cat/ann", "ann", "m2", "f1")->rc, 0);
	assert_int_equal(get("f1", "cat")->rc, 0);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	/* Who may read it may pass it on. */
	assert_int_equal(send_with("cat/bob", "cat", "m3", "f1")->rc, 0);
	assert_int_equal(get("f1", "bob")->a.files[0].uses, 3);
}

static void a_message_with_a_file_of_others_is_refused_whole(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	put("f2", "bob", HASH_B, "bb/b.1");
	struct chatd_store_conv_key key = { SZ(chatd_store_conv_key), .conv = conv_of("bob/cat") };
	assert_refused(send_with("bob/cat", "bob", "m1", "f2 f1"), -ENOENT, CHATD_STORE_NO_FILE);
	assert_refused(send_with("bob/cat", "bob", "m2", "none"), -ENOENT, CHATD_STORE_NO_FILE);
	assert_refused(send_with("bob/cat", "bob", "m3", "f2  f2"), -ENOENT, CHATD_STORE_NO_FILE);
	assert_int_equal(ASK(h, top, key)->a.seq, 0);
	assert_int_equal(get("f2", "bob")->a.files[0].uses, 0);
	assert_int_equal(get("f2", "cat")->rc, -ENOENT);
	assert_int_equal(send_with("bob/cat", "bob", "m4", "f2 f2")->a.seq, 1);
}

static void a_repeat_asks_nothing_again(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("ann/bob"),
		.id = S("m1"), .sender = S("ann"), .client_id = S("c"), .hash = S("h"), .body = S("{}"),
		.files = S("f1"), .wall = WALL };
	assert_int_equal(ASK(h, append, r)->rc, 0);
	struct chatd_store_file_key drop = { SZ(chatd_store_file_key), .id = S("f1") };
	ASK(h, file_drop, drop);
	r.id = S("m2");
	struct kept *k = ASK(h, append, r);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.repeated, 1);
	assert_str(k->a.id, "m1");
}

static void it_goes_with_the_last_message(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	send_with("ann/bob", "ann", "m1", "f1");
	send_with("ann/cat", "ann", "m2", "f1");
	sweep_at(WALL + 2 * DAY);
	assert_int_equal(get("f1", "bob")->rc, 0);
	delete_message("m1", "d1");
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	sweep_at(WALL + 2 * DAY);
	assert_int_equal(get("f1", "cat")->rc, 0);
	delete_message("m2", "d2");
	sweep_at(WALL + 1);
	assert_int_equal(get("f1", "ann")->rc, -ENOENT);
	assert_int_equal(objects(CHATD_STORE_OBJECTS_GONE)->a.n_files, 1);
}

static void what_expires_takes_its_files_along(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("ann/bob"),
		.id = S("m1"), .sender = S("ann"), .body = S("{}"), .files = S("f1"), .wall = WALL,
		.expires = WALL + 1000 };
	assert_int_equal(ASK(h, append, r)->rc, 0);
	assert_int_equal(get("f1", "bob")->rc, 0);
	host_set_wall(WALL + 1001);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	sweep_at(WALL + 1001);
	sweep_at(WALL + 1001);
	assert_int_equal(get("f1", NULL)->rc, -ENOENT);
}

static void what_comes_with_no_message_is_swept(void **state)
{
	(void)state;
	put("f1", "ann", HASH_A, "aa/a.1");
	sweep_at(WALL + DAY - 1);
	assert_int_equal(get("f1", "ann")->rc, 0);
	sweep_at(WALL + DAY);
	assert_int_equal(get("f1", "ann")->rc, -ENOENT);
	assert_str(objects(CHATD_STORE_OBJECTS_GONE)->a.files[0].object, "aa/a.1");
}

static void quotas_count_what_is_stored_and_what_was_today(void **state)
{
	(void)state;
	struct chatd_store_file r = { .id = S("f1"),
		.owner = S("ann"),
		.object = S("aa/a.1"),
		.size = 60,
		.max_bytes = 100,
		.max_day = 130 };
	struct chatd_store_file_key key = { SZ(chatd_store_file_key), .id = S("f1"), .user = S("ann") };
	assert_int_equal(put_as(&r)->rc, 0);
	r.id = S("f2");
	assert_refused(put_as(&r), -EDQUOT, CHATD_STORE_TOO_MANY);
	struct kept *k = ASK(h, file_space, key);
	assert_int_equal(k->a.n, 60);
	assert_int_equal(k->a.today, 60);
	assert_int_equal(ASK(h, file_drop, key)->rc, 0);
	r.object = S("aa/a.2");
	assert_int_equal(put_as(&r)->rc, 0);
	key.id = S("f2");
	assert_int_equal(ASK(h, file_drop, key)->rc, 0);
	r.object = S("aa/a.3");
	k = ASK(h, file_space, key);
	assert_int_equal(k->a.n, 0);
	assert_int_equal(k->a.today, 120);
	k = put_as(&r);
	assert_refused(k, -EDQUOT, CHATD_STORE_TODAY);
	assert_int_equal(k->a.until, (WALL / DAY + 1) * DAY);
	r.wall = WALL + DAY;
	host_set_wall(WALL + DAY);
	assert_int_equal(put_as(&r)->rc, 0);
	assert_int_equal(ASK(h, file_space, key)->a.today, 60);
}

static void a_user_has_so_many_files(void **state)
{
	(void)state;
	struct chatd_store_file r = {
		.id = S("f1"), .owner = S("ann"), .object = S("aa/a.1"), .uses = 2
	};
	struct chatd_store_file_key key = { SZ(chatd_store_file_key), .id = S("f1"), .user = S("ann") };
	assert_int_equal(put_as(&r)->rc, 0);
	r.id = S("f2");
	assert_int_equal(
			put_as(&r)->rc, 0); /* the same content: its bytes are there once, the file counts */
	r.id = S("f3");
	assert_refused(put_as(&r), -EDQUOT, CHATD_STORE_FILES);
	assert_int_equal(ASK(h, file_space, key)->a.owned, 2);
	r.owner = S("bob");
	assert_int_equal(put_as(&r)->rc, 0);
	r.owner = S("ann");
	r.id = S("f4");
	assert_int_equal(ASK(h, file_drop, key)->rc, 0);
	assert_int_equal(put_as(&r)->rc, 0);
	assert_int_equal(ASK(h, file_space, key)->a.owned, 2);
}

static void what_nobody_has_looked_into_is_its_owners_alone(void **state)
{
	(void)state;
	struct chatd_store_file r = {
		.id = S("f1"), .owner = S("ann"), .object = S("aa/a.1"), .state = CHATD_STORE_FILE_WAITS
	};
	struct chatd_store_file_mark mark = { SZ(chatd_store_file_mark), .object = S("aa/a.1"),
		.info = S("{\"w\":1}") };
	put_as(&r);
	assert_int_equal(send_with("ann/bob", "ann", "m1", "f1")->rc, 0);
	assert_int_equal(get("f1", "ann")->a.files[0].state, CHATD_STORE_FILE_WAITS);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	assert_int_equal(objects(CHATD_STORE_OBJECTS_WAIT)->a.n_files, 1);
	struct kept *k = ASK(h, file_mark, mark);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n, 1);
	assert_str(get("f1", "bob")->a.files[0].info, "{\"w\":1}");
	assert_int_equal(objects(CHATD_STORE_OBJECTS_WAIT)->a.n_files, 0);
	mark.state = CHATD_STORE_FILE_BAD;
	mark.info.p = NULL;
	ASK(h, file_mark, mark);
	assert_int_equal(get("f1", "bob")->rc, -ENOENT);
	assert_int_equal(get("f1", "ann")->a.files[0].state, CHATD_STORE_FILE_BAD);
	assert_str(get("f1", "ann")->a.files[0].info, "{\"w\":1}");
	assert_refused(send_with("ann/cat", "ann", "m2", "f1"), -ENOENT, CHATD_STORE_NO_FILE);
	r.id = S("f2");
	r.object = S("aa/a.2");
	assert_int_equal(put_as(&r)->rc, -EACCES);
}

static void who_leaves_takes_what_others_have_not(void **state)
{
	(void)state;
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann") };
	struct chatd_store_account_delete r = { SZ(chatd_store_account_delete), .id = S("ann") };
	assert_int_equal(ASK(h, account_create, ann)->rc, 0);
	put("f1", "ann", HASH_A, "aa/a.1");
	put("f2", "ann", HASH_B, "bb/b.1");
	put_as(&(struct chatd_store_file){
			.id = S("f3"), .owner = S("bob"), .hash = S(HASH_B), .object = S("bb/b.2") });
	send_with("ann/bob", "ann", "m1", "f1");
	assert_int_equal(ASK(h, account_delete, r)->rc, 0);
	sweep_at(WALL);
	assert_int_equal(get("f1", NULL)->rc, -ENOENT);
	assert_int_equal(get("f2", NULL)->rc, -ENOENT);
	assert_int_equal(get("f3", "bob")->rc, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_file_is_its_owners),
		T(nonsense_is_refused),
		T(equal_content_is_one_object),
		T(content_lies_as_another_object),
		T(whoever_may_read_the_message_may_read_the_file),
		T(a_message_with_a_file_of_others_is_refused_whole),
		T(a_repeat_asks_nothing_again),
		T(it_goes_with_the_last_message),
		T(what_expires_takes_its_files_along),
		T(what_comes_with_no_message_is_swept),
		T(quotas_count_what_is_stored_and_what_was_today),
		T(a_user_has_so_many_files),
		T(what_nobody_has_looked_into_is_its_owners_alone),
		T(who_leaves_takes_what_others_have_not),
	};
	if (!suite_args(argc, argv)) {
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

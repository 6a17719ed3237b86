/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the file when messages are encrypted, and what becomes of it: other keys, none, a
 * kill, a row that was changed.  usage: test_store_cipher STORE-SQLITE.so ENCRYPT.so */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define S(s)  CHATD_LIT(s)
#define SZ(r) .struct_size = sizeof(struct r)

#define K1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define K2 "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
static const char *const with_one[] = { "keys=one " K1, "search=words", "pace=8000", NULL };
static const char *const with_both[] = { "keys=one " K1 "\ntwo " K2, "search=words", "pace=8000",
	NULL };
static const char *const with_two[] = { "keys=two " K2, "search=words", "pace=8000", NULL };
static const char *const no_words[] = { "keys=one " K1, "search=off", "pace=8000", NULL };
static const char *const plain[] = { "keys=one " K1, "seal=false", "pace=8000", NULL };

/* In what is sent, and nowhere else. */
#define SECRET "zebracorn"
static const char body[] = "{\"content\":\"the " SECRET " of %s\"}";

static const char *so, *cipher_so;
static char dir[64], db_path[128];

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/chatd-store-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(db_path, sizeof(db_path), "%s/chatd.db", dir);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	answers_free();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* @p keys NULL: without the plugin. */
static struct host *try_store(const char *const *keys)
{
	host_cipher(keys ? cipher_so : NULL, keys);
	return host_open(so, dir, NULL);
}

static struct host *open_store(const char *const *keys)
{
	struct host *h = try_store(keys);
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
	}
	assert_int_equal(h->rc, 0);
	return h;
}

static struct kept *say_as(struct host *h, const char *id, const char *hash)
{
	char text[128], json[128];
	snprintf(json, sizeof(json), body, id);
	snprintf(text, sizeof(text), "the " SECRET " of %s", id);
	struct chatd_store_out out = {
		.route = S("push"), .headers = S("{\"h\":\"" SECRET "\"}"), .body = S("out " SECRET)
	};
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = { .room = S("r") }, .id = z(id),
		.sender = S("ann"), .client_id = z(id), .hash = z(hash), .body = z(json), .text = z(text),
		.wall = host_wall(), .out = &out, .n_out = strcmp(id, "out") == 0 };
	return ASK(h, append, r);
}

static void say(struct host *h, const char *id)
{
	struct kept *k = say_as(h, id, id);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.repeated, 0);
}

static void say_some(struct host *h, const char *prefix, int n)
{
	for (int i = 0; i < n; i++) {
		char id[32];
		snprintf(id, sizeof(id), "%s%d", prefix, i);
		say(h, id);
	}
}

static struct kept *page(struct host *h)
{
	struct chatd_store_page r = { SZ(chatd_store_page), .conv = { .room = S("r") }, .limit = 1000,
		.after = -1 };
	struct kept *k = ASK(h, page, r);
	assert_int_equal(k->rc, 0);
	return k;
}

/* How many of the history say what they shall. */
static int good_ones(struct host *h)
{
	struct kept *k = page(h);
	int good = 0;
	for (size_t i = 0; i < k->a.n_messages; i++) {
		const struct chatd_store_message *m = &k->a.messages[i];
		int fine = m->body.n > 12 && memcmp(m->body.p, "{\"content\":\"", 12) == 0 &&
				memmem(m->body.p, m->body.n, SECRET, strlen(SECRET)) != NULL;
		assert_int_equal(fine, !(m->flags & CHATD_STORE_UNREADABLE));
		good += fine;
	}
	return good;
}

static struct kept *find(struct host *h, const char *words)
{
	struct chatd_store_search r = { SZ(chatd_store_search), .query = z(words), .limit = 200 };
	return ASK(h, search, r);
}

static struct kept *change(struct host *h, int kind, const char *target, const char *id)
{
	struct chatd_store_change r = { SZ(chatd_store_change), .kind = kind, .target = z(target),
		.id = z(id), .body = S("{\"event\":\"" SECRET "\"}"),
		.new_body = S("{\"content\":\"the better " SECRET "\"}"), .wall = host_wall() };
	r.new_text = kind == CHATD_STORE_EDIT ? S("the better " SECRET) : chatd_str_of(NULL, 0);
	return ASK(h, change, r);
}

/* ---- looking from outside --------------------------------------------------------------- */

static int file_has(const char *path, const char *word)
{
	enum { FILE_MAX = 64 << 20 };
	FILE *f = fopen(path, "rb");
	char *text = malloc(FILE_MAX);
	assert_non_null(f);
	size_t n = fread(text, 1, FILE_MAX, f);
	assert_true(n < FILE_MAX);
	int has = n > 0 && memmem(text, n, word, strlen(word)) != NULL;
	free(text);
	fclose(f);
	return has;
}

/* In the database, its log, or whatever lies there. */
static int dir_has(const char *word)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int has = 0;
	assert_non_null(d);
	while ((e = readdir(d))) {
		char path[512];
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.' && file_has(path, word)) {
			print_message("# %s has \"%s\"\n", path, word);
			has = 1;
		}
	}
	closedir(d);
	return has;
}

static int64_t sql(const char *text)
{
	sqlite3 *db;
	sqlite3_stmt *s = NULL;
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 30000);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
	int64_t n = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	assert_int_equal(sqlite3_finalize(s), SQLITE_OK);
	sqlite3_close(db);
	return n;
}

static void sleep_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

static void wait_log(const char *text)
{
	for (int i = 0; i < 3000 && !strstr(host_log(), text); i++) {
		sleep_ms(10);
	}
	if (!strstr(host_log(), text)) {
		fail_msg("\"%s\" was not said; said was:\n%s", text, host_log());
	}
}

#define ENDED "all stored messages are encrypted with the active key"

/* ---- tests ---------------------------------------------------------------------------------- */

static void nothing_readable_lies_in_the_file(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 30);
	say(h, "out");
	assert_int_equal(change(h, CHATD_STORE_EDIT, "m3", "e3")->rc, 0);
	assert_int_equal(change(h, CHATD_STORE_DELETE, "m4", "d4")->rc, 0);
	assert_int_equal(find(h, SECRET)->a.n_messages, 30); /* not indexed yet */
	sleep_ms(600);                                       /* the words are indexed meanwhile */
	assert_int_equal(find(h, SECRET " of")->a.n_messages, 29);
	assert_int_equal(find(h, "better the")->a.n_messages, 1);
	assert_int_equal(find(h, "zebra")->a.n_messages, 0); /* whole words alone */
	struct chatd_store_outbox_fetch f = { SZ(chatd_store_outbox_fetch), .owner = S("n"), .limit = 9,
		.wall = host_wall() };
	struct kept *k = ASK(h, outbox_fetch, f);
	assert_int_equal(k->a.n_outbox, 1);
	assert_memory_equal(k->a.outbox[0].headers.p, "{\"h\":\"" SECRET "\"}", 9);
	assert_memory_equal(k->a.outbox[0].body.p, "out " SECRET, 13);
	assert_false(dir_has(SECRET));
	assert_false(dir_has("better"));
	host_close(h);
	assert_false(dir_has(SECRET));
	h = open_store(with_one);
	assert_int_equal(good_ones(h), 31);
	assert_int_equal(find(h, SECRET)->a.n_messages, 30);
	host_close(h);
}

/* The test above can fail. */
static void without_a_cipher_it_does(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	say(h, "m1");
	assert_true(dir_has(SECRET));
	host_close(h);
	assert_true(dir_has(SECRET));
}

static void what_was_there_is_encrypted_later(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	say_some(h, "m", 700);
	assert_int_equal(change(h, CHATD_STORE_EDIT, "m3", "e3")->rc, 0);
	sleep_ms(600);
	host_close(h);
	assert_true(dir_has(SECRET));
	h = open_store(with_one);
	assert_int_equal(good_ones(h), 700); /* also before that is done */
	wait_log(ENDED);
	assert_int_equal(good_ones(h), 700);
	assert_int_equal(find(h, "m77")->a.n_messages, 1);
	assert_int_equal(find(h, "better")->a.n_messages, 1);
	assert_int_equal(sql("SELECT count(*) FROM msg WHERE sealed IS NULL"), 0);
	assert_false(dir_has(SECRET)); /* neither in the log, nor in the index, nor in free pages */
	assert_int_equal(say_as(h, "m1", "m1")->a.repeated, 1);
	assert_int_equal(say_as(h, "m1", "other")->rc, -EEXIST);
	host_close(h);
	assert_false(dir_has(SECRET));
}

static void keys_are_changed_while_it_runs(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 300);
	wait_log(ENDED);
	host_log_clear();
	assert_int_equal(host_cipher_reload("one " K1 "\ntwo " K2), 0);
	say_some(h, "n", 10);
	assert_int_equal(good_ones(h), 310);
	assert_int_equal(find(h, SECRET)->a.n_messages, 200); /* by both keys, up to the limit */
	wait_log(ENDED " (300 were encrypted anew)");
	assert_int_equal(say_as(h, "m7", "m7")->a.repeated, 1);
	assert_int_equal(say_as(h, "m7", "other")->rc, -EEXIST);
	host_close(h);
	h = open_store(with_two); /* nothing needs the first one */
	assert_int_equal(good_ones(h), 310);
	assert_int_equal(find(h, "m77")->a.n_messages, 1);
	assert_int_equal(find(h, "n7")->a.n_messages, 1);
	assert_null(strstr(host_log(), "cannot be decrypted"));
	/* Its marks cannot be compared any more: who repeats is believed. */
	assert_int_equal(say_as(h, "m7", "m7")->a.repeated, 1);
	host_close(h);
}

static void a_key_that_is_missing_is_told_and_harms_nothing(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 5);
	host_close(h);
	h = open_store(with_two);
	say(h, "n0");
	struct kept *k = page(h);
	assert_int_equal(k->a.n_messages, 6);
	assert_int_equal(k->a.messages[0].flags & CHATD_STORE_UNREADABLE, CHATD_STORE_UNREADABLE);
	assert_int_equal(k->a.messages[0].body.n, 0);
	assert_int_equal(k->a.messages[5].flags & CHATD_STORE_UNREADABLE, 0);
	wait_log("5 stored messages or records have keys that are not in encrypt: keys:");
	assert_non_null(strstr(host_log(), "encrypt: keys: lacks its key 60fd082475d710a4"));
	struct chatd_store_replay r = { SZ(chatd_store_replay), .conv = { .room = S("r") },
		.max = 100 };
	k = ASK(h, replay, r); /* a resume goes on */
	assert_int_equal(k->a.whole, 1);
	assert_int_equal(k->a.n_messages, 6);
	assert_int_equal(change(h, CHATD_STORE_DELETE, "m2", "d2")->rc, 0);
	host_close(h);
	h = open_store(with_both); /* the key is back, and so are they, but for the one deleted */
	assert_int_equal(good_ones(h), 6);
	wait_log(ENDED);
	host_close(h);
}

static void a_row_that_was_changed_is_the_only_one_lost(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 9);
	host_close(h);
	/* A bit, another row's contents, its end, another version; and a sender who did not say it. */
	sql("UPDATE msg SET sealed=CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE id='m1'");
	sql("UPDATE msg SET sealed=(SELECT sealed FROM msg WHERE id='m0') WHERE id='m2'");
	sql("UPDATE msg SET sealed=substr(sealed, 1, 40) WHERE id='m3'");
	sql("UPDATE msg SET sealed=CAST(x'02' || substr(sealed, 2) AS BLOB) WHERE id='m4'");
	sql("UPDATE msg SET sender='eve' WHERE id='m5'");
	h = open_store(with_one);
	struct kept *k = page(h);
	assert_int_equal(k->a.n_messages, 9);
	for (int i = 0; i < 9; i++) {
		int bad = i >= 1 && i <= 5;
		assert_int_equal(
				k->a.messages[i].flags & CHATD_STORE_UNREADABLE, bad ? CHATD_STORE_UNREADABLE : 0);
		assert_int_equal(k->a.messages[i].seq, i + 1);
	}
	assert_non_null(strstr(host_log(), "it was damaged or changed"));
	assert_int_equal(find(h, SECRET)->a.n_messages, 9); /* found, and shown without a body */
	assert_int_equal(change(h, CHATD_STORE_EDIT, "m1", "e1")->rc, 0); /* anew */
	assert_int_equal(good_ones(h), 5);
	host_close(h);
	h = open_store(with_both); /* nor does it stop what is done in the background */
	wait_log("stored messages or records cannot be decrypted");
	assert_int_equal(good_ones(h), 5);
	host_close(h);
}

static void search_can_be_off(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 20);
	sleep_ms(600);
	host_close(h);
	assert_true(sql("SELECT count(*) FROM msg WHERE text IS NOT NULL") > 0);
	h = open_store(no_words);
	assert_int_equal(find(h, SECRET)->rc, -ENOTSUP);
	say(h, "n0");
	wait_log(ENDED " (20 were");
	assert_int_equal(sql("SELECT count(*) FROM msg WHERE text IS NOT NULL"), 0);
	assert_int_equal(good_ones(h), 21);
	host_close(h);
	assert_int_equal(sql("SELECT count(*) FROM words_data WHERE id > 10"), 0); /* no words at all */
	h = open_store(with_one);                                                  /* and on again */
	wait_log(ENDED " (21 were");
	assert_int_equal(find(h, SECRET)->a.n_messages, 21);
	host_close(h);
}

static void without_the_plugin_it_does_not_start(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 20);
	host_close(h);
	h = try_store(NULL);
	assert_int_equal(h->rc, -EPROTO);
	assert_non_null(strstr(host_log(), "add encrypt: with its keys:"));
	host_close(h);
	h = open_store(plain);
	say(h, "n0");
	wait_log(
			"20 messages and records were written as plain text; the plugin encrypt can be removed");
	assert_int_equal(find(h, "zebra")->a.n_messages, 21);
	host_close(h);
	h = open_store(NULL);
	assert_int_equal(good_ones(h), 21);
	assert_int_equal(find(h, "zebra")->a.n_messages, 21);
	assert_int_equal(say_as(h, "m7", "m7")->a.repeated, 1);
	assert_int_equal(change(h, CHATD_STORE_EDIT, "m3", "e3")->rc, 0);
	assert_int_equal(find(h, "bette")->a.n_messages, 1);
	host_close(h);
}

/* There and back, and away in the middle: the index has what it shall. */
static void the_index_follows_each_turn(void **state)
{
	(void)state;
	static const char *const slow[] = { "keys=one " K1, "search=words", "pace=4", NULL };
	static const char *const slow_plain[] = { "keys=one " K1, "seal=false", "pace=4", NULL };
	struct host *h = open_store(NULL);
	say_some(h, "m", 12);
	sleep_ms(600);
	host_close(h);
	h = open_store(slow); /* a row each quarter of a second */
	sleep_ms(700);
	assert_true(find(h, SECRET)->a.n_messages < 12);
	assert_int_equal(change(h, CHATD_STORE_DELETE, "m11", "d11")->rc, 0); /* not encrypted yet */
	host_close(h);
	h = open_store(slow_plain);
	say(h, "n0");
	assert_true(find(h, SECRET)->a.n_messages > 1);
	host_close(h);
	h = open_store(with_one);
	wait_log(ENDED);
	assert_int_equal(find(h, SECRET)->a.n_messages, 12);
	host_close(h);
	h = open_store(plain);
	wait_log("can be removed");
	assert_int_equal(find(h, SECRET)->a.n_messages, 12);
	host_close(h);
	assert_int_equal(sql("SELECT count(*) FROM msg WHERE sealed IS NOT NULL"), 0);
	h = open_store(with_one);
	wait_log(ENDED);
	assert_int_equal(find(h, SECRET)->a.n_messages, 12);
	host_close(h);
	sql("INSERT INTO words(words) VALUES('integrity-check')");
}

static void killed_in_the_middle_it_goes_on(void **state)
{
	(void)state;
	static const char *const slow[] = { "keys=one " K1 "\ntwo " K2, "search=words", "pace=400",
		NULL };
	struct host *h = open_store(with_one);
	say_some(h, "m", 900);
	host_close(h);
	int64_t before = 0, steps = 0;
	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			h = try_store(slow);
			sleep_ms(10000);
			_exit(1);
		}
		assert_true(pid > 0);
		sleep_ms(500 + 70 * i);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		/* The key's number stands at the third byte; two's begins otherwise than one's. */
		int64_t done = sql("SELECT count(*) FROM msg WHERE substr(sealed, 3, 2) <> x'60fd'");
		assert_true(done >= before);
		steps += done > before;
		before = done;
	}
	assert_true(steps >= 2);
	assert_true(before < 900);
	h = open_store(with_both);
	wait_log(ENDED);
	host_close(h);
	h = open_store(with_two);
	assert_int_equal(good_ones(h), 900);
	assert_int_equal(find(h, "m899")->a.n_messages, 1);
	host_close(h);
	assert_int_equal(sql("SELECT count(*) FROM msg WHERE substr(sealed, 3, 2) = x'60fd'"), 0);
}

static void what_expires_leaves_nothing(void **state)
{
	(void)state;
	struct host *h = open_store(with_one);
	say_some(h, "m", 3);
	sleep_ms(600);
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = { .room = S("r") },
		.id = S("x1"), .sender = S("ann"), .body = S("{\"content\":\"unicornish\"}"),
		.text = S("unicornish"), .wall = host_wall(), .expires = host_wall() + 1 };
	assert_int_equal(ASK(h, append, r)->rc, 0);
	sleep_ms(600);
	struct chatd_store_sweep s = { SZ(chatd_store_sweep), .wall = host_wall() + 1000 };
	assert_int_equal(ASK(h, sweep, s)->rc, 0);
	assert_int_equal(find(h, "unicornish")->a.n_messages, 0);
	assert_int_equal(sql("SELECT count(*) FROM msg WHERE id='x1' AND (sealed IS NOT NULL OR"
						 " text IS NOT NULL)"),
			0);
	host_close(h);
	sql("INSERT INTO words(words) VALUES('integrity-check')");
}

static chatd_status put_record(struct host *h, const char *key)
{
	struct chatd_store_record r = { SZ(chatd_store_record), .space = S("mod.report"), .key = z(key),
		.value = S("he said " SECRET), .wall = host_wall() };
	return ASK(h, record_put, r)->rc;
}

static struct kept *get_record(struct host *h, const char *key)
{
	struct chatd_store_record_key r = { SZ(chatd_store_record_key), .space = S("mod.report"),
		.key = z(key), .wall = host_wall() };
	return ASK(h, record_get, r);
}

static void records_of_plugins_are_encrypted_too(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	for (int i = 0; i < 100; i++) {
		char key[16];
		snprintf(key, sizeof(key), "p%d", i);
		assert_int_equal(put_record(h, key), 0);
	}
	host_close(h);
	h = open_store(with_one);
	assert_int_equal(put_record(h, "new"), 0);
	wait_log(ENDED " (100 were");
	assert_false(dir_has(SECRET));
	assert_memory_equal(get_record(h, "p77")->a.records[0].value.p, "he said " SECRET, 17);
	host_log_clear();
	assert_int_equal(host_cipher_reload("one " K1 "\ntwo " K2), 0);
	wait_log(ENDED " (101 were");
	host_close(h);
	sql("UPDATE record SET value=(SELECT value FROM record WHERE key='new') WHERE key='p5'");
	h = open_store(with_two);
	assert_int_equal(get_record(h, "p5")->rc, -EBADMSG);
	assert_memory_equal(get_record(h, "p6")->a.records[0].value.p, "he said " SECRET, 17);
	struct chatd_store_record_list l = { SZ(chatd_store_record_list), .space = S("mod.report"),
		.limit = 1000, .wall = host_wall() };
	assert_int_equal(ASK(h, record_list, l)->a.n_records, 100);
	assert_int_equal(put_record(h, "p5"), 0); /* over it */
	assert_int_equal(ASK(h, record_list, l)->a.n_records, 101);
	host_close(h);
	assert_false(dir_has(SECRET));
}

static void a_backup_is_encrypted_too(void **state)
{
	(void)state;
	char copy[128];
	struct host *h = open_store(with_one);
	say_some(h, "m", 50);
	snprintf(copy, sizeof(copy), "%s/copy.db", dir);
	struct chatd_store_backup b = { SZ(chatd_store_backup), .path = z(copy) };
	assert_int_equal(ASK(h, backup, b)->rc, 0);
	host_close(h);
	assert_false(dir_has(SECRET));
	assert_int_equal(rename(copy, db_path), 0);
	h = open_store(with_one);
	assert_int_equal(good_ones(h), 50);
	host_close(h);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(nothing_readable_lies_in_the_file),
		T(without_a_cipher_it_does),
		T(what_was_there_is_encrypted_later),
		T(keys_are_changed_while_it_runs),
		T(a_key_that_is_missing_is_told_and_harms_nothing),
		T(a_row_that_was_changed_is_the_only_one_lost),
		T(search_can_be_off),
		T(without_the_plugin_it_does_not_start),
		T(the_index_follows_each_turn),
		T(killed_in_the_middle_it_goes_on),
		T(what_expires_leaves_nothing),
		T(records_of_plugins_are_encrypted_too),
		T(a_backup_is_encrypted_too),
	};
	if (argc != 3) {
		fprintf(stderr, "usage: %s STORE-SQLITE.so ENCRYPT.so\n", argv[0]);
		return 2;
	}
	so = argv[1];
	cipher_so = argv[2];
	unsetenv("CHATD_TEST_CIPHER");
	return cmocka_run_group_tests(tests, NULL, NULL);
}

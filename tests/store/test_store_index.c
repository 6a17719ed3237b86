/* SPDX-License-Identifier: Apache-2.0 */
/* How rows are found: by indexes, and by words that are indexed after the commit.
 * usage: test_store_index PLUGIN.so SCHEMA-4.SQL */
#include "suite.h"

#include <dlfcn.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *plugin, *schema_4;
static char db_path[128];

/* ---- what is prepared ------------------------------------------------------------ */

enum { SEEN_MAX = 512 };

static char *seen[SEEN_MAX];
static atomic_size_t n_seen;
static atomic_int notes; /* only then: what is waited for is asked again and again */

/* The program's own, in the place of SQLite's: it notes the statement. */
int sqlite3_prepare_v3(
		sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **s, const char **tail)
{
	int (*real)(sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **);
	*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
	size_t at = atomic_load(&notes) ? atomic_fetch_add(&n_seen, 1) : SEEN_MAX;
	if (at < SEEN_MAX) {
		seen[at] = strdup(sql);
	}
	return real(db, sql, n, flags, s, tail);
}

/* ---- the file ------------------------------------------------------------------- */

static int begin(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/chatd-store-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(db_path, sizeof(db_path), "%s/chatd.db", dir);
	host_set_wall(WALL);
	h = NULL;
	return 0;
}

static void open_store(void)
{
	h = host_open(plugin, dir, NULL);
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
	}
	assert_int_equal(h->rc, 0);
}

static sqlite3 *open_file(void)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_timeout(db, 10000);
	return db;
}

static int64_t ask_file(const char *sql)
{
	sqlite3 *db = open_file();
	sqlite3_stmt *s = NULL;
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	int64_t n = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

static int64_t mark(void)
{
	return ask_file("SELECT value FROM meta WHERE key='indexed'");
}

static void run_file(const char *sql)
{
	sqlite3 *db = open_file();
	char *why = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
		fail_msg("%s", why);
	}
	sqlite3_close(db);
}

static size_t hits(const char *query)
{
	struct chatd_store_search r = { SZ(chatd_store_search), .query = z(query), .limit = 200 };
	struct kept *k = ASK(h, search, r);
	assert_int_equal(k->rc, 0);
	for (size_t i = 1; i < k->a.n_messages; i++) {
		assert_true(k->a.messages[i].pos < k->a.messages[i - 1].pos);
	}
	return k->a.n_messages;
}

/* The newest first, a few at a time. */
static size_t hits_by_pages(const char *query)
{
	struct chatd_store_search r = { SZ(chatd_store_search), .query = z(query), .limit = 3 };
	size_t n = 0;
	struct kept *k;
	do {
		k = ASK(h, search, r);
		assert_int_equal(k->rc, 0);
		n += k->a.n_messages;
		if (k->a.n_messages) {
			r.before = k->a.messages[k->a.n_messages - 1].pos;
		}
	} while (k->a.n_messages);
	return n;
}

static void wait_for_mark(int64_t pos)
{
	for (int i = 0; mark() < pos; i++) {
		assert_true(i < 3000);
		usleep(20000);
	}
}

/* The index and the rows agree; only where each row has a text. */
static void check_words(void)
{
	run_file("INSERT INTO words(words) VALUES('integrity-check')");
	run_file("INSERT INTO words(words, rank) VALUES('integrity-check', 1)");
}

static void say_some(const char *word, int n)
{
	for (int i = 0; i < n; i++) {
		char id[32];
		snprintf(id, sizeof(id), "%s %d", word, i);
		assert_int_equal(say("r", "ann", id)->rc, 0);
	}
}

/* ---- words ----------------------------------------------------------------------- */

static void words_are_found_before_and_after_they_are_indexed(void **state)
{
	(void)state;
	open_store();
	say_some("apple", 20);
	assert_int_equal(hits("apple"), 20); /* by a slow machine perhaps indexed, else not yet */
	assert_int_equal(hits("\xC3\x80PPLE 7"), 1); /* accents and case do not count there either */
	wait_for_mark(20);
	say_some("apple pie", 10); /* some indexed, some not */
	assert_int_equal(hits("apple"), 30);
	assert_int_equal(hits("pie"), 10);
	assert_int_equal(hits_by_pages("apple"), 30);
	wait_for_mark(30);
	assert_int_equal(hits("apple"), 30);
	check_words();
}

static void what_a_kill_left_unindexed_is_indexed_later(void **state)
{
	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_store();
		say_some("apple", 20);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_store();
	assert_int_equal(hits("apple"), 20);
	wait_for_mark(20);
	assert_int_equal(hits("apple"), 20);
	check_words();
}

static void many_rows_are_indexed_without_a_pause(void **state)
{
	(void)state;
	open_store();
	struct kept *last = NULL;
	for (int i = 0; i < 5000; i++) {
		char id[32];
		snprintf(id, sizeof(id), "plum %d", i);
		struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("r"), .id = z(id),
			.sender = S("ann"), .body = z(id), .text = z(id), .wall = WALL };
		last = kept_new();
		assert_int_equal(h->vt->append(h->obj, &h->workers[0], &r, keep, last), 0);
	}
	kept_wait(h, last);
	assert_int_equal(last->a.seq, 5000);
	assert_true(mark() >= 5000 - 1300);
	wait_for_mark(5000);
	assert_int_equal(ask_file("SELECT count(*) FROM words('plum')"), 5000);
	check_words();
}

/* ---- who said it ------------------------------------------------------------------- */

/* The newest first, a few at a time; all are the user's. */
static size_t sent_by_pages(struct chatd_str user)
{
	struct chatd_store_sent r = { SZ(chatd_store_sent), .user = user, .limit = 7 };
	size_t n = 0;
	struct kept *k;
	do {
		k = ASK(h, sent, r);
		assert_int_equal(k->rc, 0);
		for (size_t i = 0; i < k->a.n_messages; i++) {
			assert_int_equal(k->a.messages[i].sender.n, user.n);
			assert_memory_equal(k->a.messages[i].sender.p, user.p, user.n);
			assert_true(!r.before || k->a.messages[i].pos < r.before);
			r.before = k->a.messages[i].pos;
		}
		n += k->a.n_messages;
	} while (k->a.n_messages);
	return n;
}

static void what_one_said_is_found_before_and_after_it_is_indexed(void **state)
{
	(void)state;
	open_store();
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann") };
	assert_int_equal(ASK(h, account_create, ann)->rc, 0);
	say_some("old", 20);
	assert_int_equal(say("r", "bob", "bob 1")->rc, 0);
	wait_for_mark(21);
	assert_int_equal(ask_file("SELECT count(*) FROM said WHERE sender='ann'"), 20);
	say_some("new", 10); /* perhaps not indexed yet */
	assert_int_equal(sent_by_pages(S("ann")), 30);
	assert_int_equal(sent_by_pages(S("bob")), 1);
	wait_for_mark(31);
	assert_int_equal(sent_by_pages(S("ann")), 30);
	say_some("last", 5);
	struct chatd_store_account_delete gone = { SZ(chatd_store_account_delete), .id = S("ann") };
	assert_int_equal(ASK(h, account_delete, gone)->rc, 0);
	assert_int_equal(sent_by_pages(S("ann")), 0);
	assert_int_equal(ask_file("SELECT count(*) FROM msg WHERE sender='ann' AND body <> ''"), 0);
	assert_int_equal(hits("bob"), 1);
}

static void who_said_what_goes_with_the_row(void **state)
{
	(void)state;
	open_store();
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("r"), .id = S("short"),
		.sender = S("ann"), .body = S("short"), .text = S("short"), .wall = WALL,
		.expires = WALL + 1000 };
	assert_int_equal(ASK(h, append, r)->rc, 0);
	say_some("long", 1);
	wait_for_mark(2);
	assert_int_equal(ask_file("SELECT count(*) FROM said"), 2);
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 2000 };
	while (ASK(h, sweep, sweep)->a.n > 0) {
	}
	assert_int_equal(ask_file("SELECT count(*) FROM msg"), 1);
	assert_int_equal(ask_file("SELECT count(*) FROM said"), 1);
}

static void change(int32_t kind, const char *target, const char *id)
{
	struct chatd_store_change r = { SZ(chatd_store_change), .kind = kind, .target = z(target),
		.id = z(id), .new_body = S("{}"), .body = S("{}"), .wall = WALL,
		.new_text = kind == CHATD_STORE_EDIT ? S("cherry") : chatd_str_of(NULL, 0) };
	assert_int_equal(ASK(h, change, r)->rc, 0);
}

static void edits_count_wherever_the_row_is(void **state)
{
	(void)state;
	open_store();
	say("r", "ann", "apple 1");
	say("r", "ann", "apple 2");
	wait_for_mark(2);
	say("r", "ann", "apple 3");
	say("r", "ann", "apple 4");
	change(CHATD_STORE_EDIT, "apple 1", "e1");
	change(CHATD_STORE_DELETE, "apple 2", "e2");
	change(CHATD_STORE_EDIT, "apple 3", "e3");
	change(CHATD_STORE_DELETE, "apple 4", "e4");
	assert_int_equal(hits("apple"), 0);
	assert_int_equal(hits("cherry"), 2);
	wait_for_mark(8);
	assert_int_equal(hits("apple"), 0);
	assert_int_equal(hits("cherry"), 2);
	run_file("INSERT INTO words(words) VALUES('integrity-check')");
	assert_int_equal(ask_file("SELECT count(*) FROM words('apple')"), 0);
	assert_int_equal(ask_file("SELECT count(*) FROM words('cherry')"), 2);
}

/* ---- an older file ------------------------------------------------------------------ */

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	char *text = calloc(1, 1 << 16);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
	fclose(f);
	return text;
}

static struct kept *say_again(const char *client_id, const char *hash)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of("r"), .id = S("new"),
		.sender = S("ann"), .client_id = z(client_id), .hash = z(hash), .body = S("{}"),
		.text = S("apple new"), .wall = WALL };
	return ASK(h, append, r);
}

static void an_older_file_is_brought_up_to_date(void **state)
{
	(void)state;
	char *sql = read_text(schema_4);
	run_file(sql);
	free(sql);
	open_store();
	struct kept *k = say_again("c1", "h1");
	assert_int_equal(k->a.repeated, 1);
	assert_int_equal(k->a.seq, 1);
	assert_refused(say_again("c3", "other"), -EEXIST, CHATD_STORE_MISMATCH);
	assert_int_equal(hits("apple"), 2);
	k = say_again("c4", "h4");
	assert_int_equal(k->a.seq, 4);
	assert_int_equal(hits("apple"), 3);
	host_close(h);
	open_store();
	assert_int_equal(say_again("c4", "h4")->a.repeated, 1);
	assert_int_equal(say_again("c1", "h1")->a.repeated, 1);
	wait_for_mark(4);
	assert_int_equal(hits("apple"), 3);
	assert_int_equal(ask_file("SELECT count(*) FROM msg WHERE sender <> ''"),
			ask_file("SELECT count(*) FROM said"));
	check_words();
}

/* ---- indexes ------------------------------------------------------------------------ */

static void ask_everything(void)
{
	struct chatd_store_conv conv = ROOM("r"), two = conv_of("ann/bob");
	struct chatd_store_page pages[] = {
		{ SZ(chatd_store_page), .conv = conv, .limit = 50, .after = -1 },
		{ SZ(chatd_store_page), .conv = conv, .limit = 50, .after = 10 },
		{ SZ(chatd_store_page), .conv = conv, .limit = 50, .after = -1, .thread = S("plum 1") },
		{ SZ(chatd_store_page), .conv = conv, .limit = 50, .after = 1, .thread = S("plum 1") },
	};
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		assert_int_equal(ASK(h, page, pages[i])->rc, 0);
	}
	struct chatd_store_replay replay = { SZ(chatd_store_replay), .conv = conv, .max = 1000 };
	struct chatd_store_inbox inbox = { SZ(chatd_store_inbox), .user = S("ann"), .max = 1000 };
	struct chatd_store_conv_key top = { SZ(chatd_store_conv_key), .conv = two, .user = S("ann") };
	struct chatd_store_message_key one = { SZ(chatd_store_message_key), .id = S("plum 1") };
	struct chatd_store_mentions mentions = { SZ(chatd_store_mentions), .user = S("ann"),
		.limit = 10 };
	struct chatd_store_search find = { SZ(chatd_store_search), .conv = conv, .query = S("plum"),
		.limit = 10 };
	struct chatd_store_conversations all = { SZ(chatd_store_conversations), .user = S("ann"),
		.limit = 10 };
	assert_int_equal(ASK(h, replay, replay)->a.n_messages, 20);
	assert_int_equal(ASK(h, replay_inbox, inbox)->rc, 0);
	assert_int_equal(ASK(h, top, top)->rc, 0);
	assert_int_equal(ASK(h, message, one)->rc, 0);
	assert_int_equal(ASK(h, mentions, mentions)->rc, 0);
	assert_int_equal(ASK(h, search, find)->a.n_messages, 10);
	assert_int_equal(ASK(h, conversations, all)->a.n_conversations, 1);
	assert_int_equal(say_again("c1", "h1")->rc, 0);
	assert_int_equal(say_again("c1", "h1")->a.repeated, 1);
}

/* How SQLite goes about it; *ret_sorts: it sorts what it found. */
static void plan_of(sqlite3 *db, const char *sql, char *ret, size_t cap)
{
	char *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
	sqlite3_stmt *s = NULL;
	size_t n = 0;
	assert_int_equal(sqlite3_prepare_v2(db, explain, -1, &s, NULL), SQLITE_OK);
	ret[0] = '\0';
	while (sqlite3_step(s) == SQLITE_ROW && n < cap) {
		n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? "; " : "", sqlite3_column_text(s, 3));
	}
	sqlite3_finalize(s);
	sqlite3_free(explain);
}

/* A statement that reads messages must not go through all of them. */
static int reads_messages(const char *sql)
{
	return strncmp(sql, "SELECT", 6) == 0 && strstr(sql, " msg ");
}

static void nothing_reads_through_all_messages(void **state)
{
	char plan[2048];
	int pages = 0, n = 0;
	(void)state;
	open_store();
	say_some("plum", 20);
	assert_int_equal(say("ann/bob", "ann", "direct")->rc, 0);
	wait_for_mark(21);
	atomic_store(&notes, 1);
	ask_everything();
	atomic_store(&notes, 0);
	size_t to = atomic_load(&n_seen);
	assert_true(to < SEEN_MAX);
	sqlite3 *db = open_file();
	for (size_t i = 0; i < to; i++) {
		if (!reads_messages(seen[i])) {
			continue;
		}
		plan_of(db, seen[i], plan, sizeof(plan));
		if (strstr(plan, "SCAN m") || strstr(plan, "SCAN c")) {
			fail_msg("%s\nis carried out as: %s", seen[i], plan);
		}
		n++;
		if (strstr(seen[i], "CROSS JOIN msg m ON m.conv=c.n WHERE c.n=?1 AND m.seq")) {
			printf("# page: %s\n", plan);
			assert_non_null(strstr(plan, "(conv=? AND seq>?"));
			assert_null(strstr(plan, "TEMP B-TREE"));
			pages++;
		}
	}
	sqlite3_close(db);
	assert_int_equal(pages, 2);
	assert_true(n >= 10);
}

static int end(void **state)
{
	char command[128];
	(void)state;
	if (h) {
		host_close(h);
	}
	answers_free();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* ---- cursors ---------------------------------------------------------------------- */

static void log_in(const char *id, int32_t max)
{
	static const char hash[65] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct chatd_store_login l = { SZ(chatd_store_login), .id = z(id), .user = S("ann"),
		.refresh = z(hash), .created = host_wall(), .expires = WALL + 5000, .max = max };
	assert_int_equal(ASK(h, login_create, l)->rc, 0);
}

static void read_on(const char *device, int64_t seq)
{
	struct chatd_store_cursor r = { SZ(chatd_store_cursor), .kind = CHATD_STORE_READ,
		.conv = conv_of("ann/bob"), .user = S("ann"), .device = z(device), .seq = seq };
	assert_int_equal(ASK(h, cursor_set, r)->rc, 0);
}

static void devices_that_are_gone_leave_one_cursor(void **state)
{
	(void)state;
	open_store();
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann"),
		.email = S("ann@x.org"), .password = S("hash") };
	ASK(h, account_create, ann);
	for (char id[] = "m0"; id[1] < '5'; id[1]++) {
		say("ann/bob", "bob", id);
	}
	log_in("l1", 2);
	log_in("l2", 2);
	read_on("l1", 3);
	read_on("l2", 2);
	assert_int_equal(ask_file("SELECT sum(seq) FROM cursor WHERE device IN ('l1', 'l2')"), 5);
	read_on("a1", 1); /* none of her logins: nobody's, however many names there are */
	read_on("a2", 1);
	assert_int_equal(ask_file("SELECT count(*) FROM cursor"), 3);
	host_set_wall(WALL + 1);
	log_in("l3", 1); /* which ends both */
	read_on("l3", 1);
	assert_int_equal(ask_file("SELECT count(*) FROM cursor"), 2);
	assert_int_equal(ask_file("SELECT seq FROM cursor WHERE device=''"), 3);
	struct chatd_store_sweep sweep = { SZ(chatd_store_sweep), .wall = WALL + 5001 };
	ASK(h, sweep, sweep); /* which ends the third */
	assert_int_equal(ask_file("SELECT count(*) FROM cursor"), 1);
	assert_int_equal(ask_file("SELECT seq FROM cursor"), 3);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(words_are_found_before_and_after_they_are_indexed),
		CASE(what_a_kill_left_unindexed_is_indexed_later),
		CASE(many_rows_are_indexed_without_a_pause),
		CASE(what_one_said_is_found_before_and_after_it_is_indexed),
		CASE(who_said_what_goes_with_the_row),
		CASE(edits_count_wherever_the_row_is),
		CASE(an_older_file_is_brought_up_to_date),
		CASE(devices_that_are_gone_leave_one_cursor),
		CASE(nothing_reads_through_all_messages),
	};
	if (argc < 3) {
		fprintf(stderr, "usage: %s PLUGIN.so SCHEMA-4.SQL\n", argv[0]);
		return 2;
	}
	plugin = argv[1];
	schema_4 = argv[2];
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	for (size_t i = 0; i < SEEN_MAX; i++) {
		free(seen[i]);
	}
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a store on a disk must do besides: survive.  usage: test_store_sqlite PLUGIN.so */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define S(s)  CHATD_LIT(s)
#define SZ(r) .struct_size = sizeof(struct r)

static const char *so;
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

static struct host *open_store(const char *const *set)
{
	struct host *h = host_open(so, dir, set);
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
	}
	assert_int_equal(h->rc, 0);
	return h;
}

static void fill(struct chatd_store_append *r, const char *id)
{
	*r = (struct chatd_store_append){ SZ(chatd_store_append), .conv = { .room = S("r") },
		.id = z(id), .sender = S("ann"), .client_id = z(id), .hash = z(id),
		.body = S("{\"content\":\"some words that are stored\"}"),
		.text = S("some words that are stored"), .wall = host_wall() };
}

static struct kept *say(struct host *h, const char *id)
{
	struct chatd_store_append r;
	fill(&r, id);
	return ASK(h, append, r);
}

static int64_t top_of(struct host *h)
{
	struct chatd_store_conv_key key = { SZ(chatd_store_conv_key), .conv = { .room = S("r") } };
	struct kept *k = ASK(h, top, key);
	assert_int_equal(k->rc, 0);
	return k->a.seq;
}

static void sleep_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

/* The first column of the first row, by another connection. */
static void ask_file(const char *path, const char *sql, char *ret, size_t cap)
{
	sqlite3 *db;
	sqlite3_stmt *s = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	ret[0] = '\0';
	if (sqlite3_step(s) == SQLITE_ROW) {
		snprintf(ret, cap, "%s", (const char *)sqlite3_column_text(s, 0));
	}
	sqlite3_finalize(s);
	sqlite3_close(db);
}

static void assert_whole(void)
{
	char found[256];
	ask_file(db_path, "PRAGMA integrity_check", found, sizeof(found));
	assert_string_equal(found, "ok");
}

/* ---- what SQLite calls to sync ------------------------------------------------------ */

static atomic_int syncs, sync_fails; /* sync_fails: so many of the next ones */
static atomic_llong sync_ms;         /* and how long each takes */

/* The program's own, in the place of the C library's, for the SQLite that it links to. */
int fdatasync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	sleep_ms(atomic_load(&sync_ms));
	if (atomic_load(&sync_fails) > 0) {
		atomic_fetch_sub(&sync_fails, 1);
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- the file ------------------------------------------------------------------- */

static void what_was_answered_is_there_after_a_restart(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	struct stat st;
	for (int i = 0; i < 10; i++) {
		char id[16];
		snprintf(id, sizeof(id), "m%d", i);
		assert_int_equal(say(h, id)->a.seq, i + 1);
	}
	struct chatd_str epoch = say(h, "m10")->a.epoch;
	assert_int_equal(stat(db_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	char wal[160];
	snprintf(wal, sizeof(wal), "%s-wal", db_path);
	assert_int_equal(stat(wal, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	host_close(h);
	h = open_store(NULL);
	assert_int_equal(top_of(h), 11);
	struct kept *k = say(h, "m10");
	assert_int_equal(k->a.repeated, 1);
	assert_int_equal(k->a.seq, 11);
	assert_memory_equal(k->a.epoch.p, epoch.p, epoch.n);
	host_close(h);
	assert_whole();
}

static void a_second_server_on_the_file_is_refused(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	struct host *second = host_open(so, dir, NULL);
	assert_int_equal(second->rc, -EBUSY);
	assert_non_null(strstr(host_log(), "is in use by another chatd"));
	host_close(second);
	assert_int_equal(say(h, "m1")->rc, 0);
	host_close(h);
}

static void a_newer_schema_is_refused(void **state)
{
	(void)state;
	char none[8];
	host_close(open_store(NULL));
	ask_file(db_path, "PRAGMA user_version=99", none, sizeof(none));
	struct host *h = host_open(so, dir, NULL);
	assert_int_equal(h->rc, -EPROTO);
	assert_non_null(strstr(host_log(), "its schema is number 99, this program knows up to"));
	host_close(h);
}

static void a_file_of_others_is_refused(void **state)
{
	(void)state;
	char none[8];
	ask_file(db_path, "CREATE TABLE t(x)", none, sizeof(none));
	struct host *h = host_open(so, dir, NULL);
	assert_int_equal(h->rc, -EPROTO);
	assert_non_null(strstr(host_log(), "this SQLite file is not chatd's"));
	host_close(h);
	int fd = open(db_path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "this is no database at all, but long enough to be one", 53), 53);
	close(fd);
	h = host_open(so, dir, NULL);
	assert_true(h->rc < 0);
	assert_non_null(strstr(host_log(), "cannot be used"));
	host_close(h);
}

static void the_writer_alone_may_checkpoint_and_syncs(void **state)
{
	(void)state;
	char found[64];
	struct host *h = open_store(NULL);
	say(h, "m1");
	ask_file(db_path, "PRAGMA journal_mode", found, sizeof(found));
	assert_string_equal(found, "wal");
	host_close(h);
	const char *normal[] = { "synchronous=normal", NULL };
	h = open_store(normal);
	assert_non_null(strstr(host_log(), "may be missing")); /* the loss is named at start */
	host_close(h);
}

static void a_backup_opens_with_another_epoch(void **state)
{
	(void)state;
	char path[160], option[192];
	struct host *h = open_store(NULL);
	struct chatd_str epoch = say(h, "m1")->a.epoch;
	snprintf(path, sizeof(path), "%s/copy.db", dir);
	struct chatd_store_backup r = { SZ(chatd_store_backup), .path = z(path) };
	assert_int_equal(ASK(h, backup, r)->rc, 0);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	host_close(h);
	snprintf(option, sizeof(option), "path=%s", path);
	const char *set[] = { option, NULL };
	h = open_store(set);
	struct chatd_store_replay replay = { SZ(chatd_store_replay), .conv = { .room = S("r") },
		.epoch = epoch, .max = 10 };
	struct kept *k = ASK(h, replay, replay);
	assert_int_equal(k->a.whole, 0);
	assert_int_equal(k->a.seq, 1);
	assert_true(memcmp(k->a.epoch.p, epoch.p, epoch.n) != 0);
	host_close(h);
}

/* ---- killed ------------------------------------------------------------------------- */

/* Appends as fast as it can and writes each answered number into the pipe. */
struct run {
	int fd, sent, waiting;
	struct host *h;
};
struct one {
	struct run *run;
	int n;
};

static void on_appended(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct one *one = arg;
	int64_t told[2] = { one->n, a->seq };
	if (rc != 0 || write(one->run->fd, told, sizeof(told)) != (ssize_t)sizeof(told)) {
		_exit(3);
	}
	one->run->waiting--;
	free(one);
}

static void append_until_killed(int fd, int first)
{
	struct run run = { .fd = fd, .sent = first, .h = host_open(so, dir, NULL) };
	if (run.h->rc < 0) {
		fprintf(stderr, "%s", host_log());
		_exit(4);
	}
	for (;;) {
		while (run.waiting < 64) {
			char id[16];
			struct chatd_store_append r;
			struct one *one = malloc(sizeof(*one));
			*one = (struct one){ &run, run.sent++ };
			snprintf(id, sizeof(id), "m%d", one->n);
			fill(&r, id);
			if (run.h->vt->append(run.h->obj, &run.h->workers[0], &r, on_appended, one) < 0) {
				_exit(5);
			}
			run.waiting++;
		}
		host_turn(&run.h->workers[0], 1000);
	}
}

enum { KILLS = 20, ROWS_MAX = 400000 };

/* Takes at most @p max acknowledgements, or all until the pipe ends; returns how many. */
static int take_acks(int fd, int64_t *seqs, int max)
{
	int64_t told[2];
	int n = 0;
	while (n < max && read(fd, told, sizeof(told)) == (ssize_t)sizeof(told)) {
		if (told[0] < ROWS_MAX) {
			seqs[told[0]] = told[1];
		}
		n++;
	}
	return n;
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
	(void)state;
	int64_t *seqs = calloc(ROWS_MAX, sizeof(*seqs));
	unsigned seed = (unsigned)time(NULL);
	int first = 0, acks = 0;
	print_message("# seed %u\n", seed);
	for (int i = 0; i < KILLS; i++) {
		int fds[2], status;
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			close(fds[0]);
			append_until_killed(fds[1], first);
		}
		close(fds[1]);
		int n = take_acks(fds[0], seqs, 1); /* it is at work */
		sleep_ms(rand_r(&seed) % 150);
		kill(pid, SIGKILL);
		n += take_acks(fds[0], seqs, ROWS_MAX);
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		acks += n;
		first += n + 64;
	}
	assert_whole();
	struct host *h = open_store(NULL);
	int64_t top = top_of(h), found = 0;
	for (int i = 0; i < first && i < ROWS_MAX; i++) {
		char id[16];
		if (seqs[i]) {
			snprintf(id, sizeof(id), "m%d", i);
			struct chatd_store_message_key key = { SZ(chatd_store_message_key), .id = z(id) };
			struct kept *k = ASK(h, message, key);
			assert_int_equal(k->rc, 0);
			assert_int_equal(k->a.messages[0].seq, seqs[i]);
			found++;
		}
		answers_free();
	}
	assert_int_equal(found, acks);
	assert_true(top >= found && acks > KILLS);
	char rows[32], expected[32]; /* 1 .. top without a hole, acknowledged or not */
	ask_file(db_path, "SELECT count(*) || ' ' || max(seq) FROM msg", rows, sizeof(rows));
	snprintf(expected, sizeof(expected), "%lld %lld", (long long)top, (long long)top);
	assert_string_equal(rows, expected);
	print_message("# %d kills, %d acknowledged rows found\n", KILLS, acks);
	host_close(h);
	free(seqs);
}

/* ---- logins are as safe as messages ------------------------------------------------- */

static struct chatd_str token(int n)
{
	static char text[4][65];
	static unsigned at;
	char *to = text[at++ % 4];
	snprintf(to, 65, "%064d", n);
	return chatd_str_of(to, 64);
}

static struct kept *rotate(struct host *h, int n)
{
	struct chatd_store_login_rotate r = { SZ(chatd_store_login_rotate), .id = S("l1"),
		.refresh = token(n), .next = token(n + 1), .wall = host_wall(), .grace_ms = 60000 };
	return ASK(h, login_rotate, r);
}

/* Rotates the one token after the other and writes each answered number into the pipe. */
static void rotate_until_killed(int fd, int first)
{
	struct host *h = host_open(so, dir, NULL);
	for (int n = first;; n++) {
		int64_t told[2] = { n, 0 };
		if (h->rc < 0 || rotate(h, n)->rc < 0 ||
				write(fd, told, sizeof(told)) != (ssize_t)sizeof(told)) {
			_exit(3);
		}
		answers_free();
	}
}

static void a_rotation_that_was_answered_survives_kill_9(void **state)
{
	(void)state;
	unsigned seed = (unsigned)time(NULL);
	int next = 0, acks = 0;
	struct host *h = open_store(NULL);
	struct chatd_account ann = { SZ(chatd_account), .id = S("ann"), .nickname = S("Ann"),
		.email = S("ann@example.org") };
	struct chatd_store_login l = { SZ(chatd_store_login), .id = S("l1"), .user = S("ann"),
		.refresh = token(0), .created = host_wall() };
	assert_int_equal(ASK(h, account_create, ann)->rc, 0);
	assert_int_equal(ASK(h, login_create, l)->rc, 0);
	host_close(h);
	for (int i = 0; i < 10; i++) {
		int64_t *seen = calloc(ROWS_MAX, sizeof(*seen));
		int fds[2], status;
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			close(fds[0]);
			rotate_until_killed(fds[1], next);
		}
		close(fds[1]);
		int n = take_acks(fds[0], seen, 1);
		sleep_ms(rand_r(&seed) % 50);
		kill(pid, SIGKILL);
		n += take_acks(fds[0], seen, ROWS_MAX);
		close(fds[0]);
		free(seen);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		acks += n;
		next += n;
		/* The token of the last answer is good, also when one more was written unheard. */
		h = open_store(NULL);
		assert_int_equal(rotate(h, next)->rc, 0);
		next++;
		host_close(h);
		answers_free();
	}
	assert_true(acks >= 10);
	print_message("# 10 kills, %d rotations answered\n", acks);
	assert_whole();
}

/* What step 6 of the schema added, taken away again. */
static const char to_schema_5[] =
		"DROP TABLE login; DROP TABLE secret; DROP TABLE gone; DROP TABLE node; DROP TABLE touched;"
		"DROP TABLE blob; DROP TABLE file; DROP TABLE attach; DROP TABLE object_gone;"
		"DROP TABLE file_day; DROP TABLE record;"
		"ALTER TABLE msg DROP COLUMN sealed; ALTER TABLE outbox DROP COLUMN sealed;"
		"DROP INDEX account_email; DROP INDEX account_nick; DROP INDEX account_roles;"
		"DROP INDEX account_people; DROP INDEX account_people_id; DROP INDEX member_past;"
		"DROP TABLE said; DROP INDEX reaction_user;"
		"ALTER TABLE account DROP COLUMN email; ALTER TABLE account DROP COLUMN password;"
		"ALTER TABLE account DROP COLUMN roles; ALTER TABLE account DROP COLUMN avatar;"
		"ALTER TABLE account DROP COLUMN banned; ALTER TABLE account DROP COLUMN bits;"
		"PRAGMA user_version=5";

static void an_older_file_is_brought_up_to_date(void **state)
{
	(void)state;
	sqlite3 *db;
	char version[16];
	struct host *h = open_store(NULL);
	/* Two guests of one name, as there may be many in an old file. */
	struct chatd_account guest = { SZ(chatd_account), .id = S("g1"), .nickname = S("Guest"),
		.flags = CHATD_ID_ANONYMOUS, .secret = S("s1"), .created = 7 };
	assert_int_equal(ASK(h, account_create, guest)->rc, 0);
	guest.id = S("g2");
	guest.secret = S("s2");
	assert_int_equal(ASK(h, account_create, guest)->rc, 0);
	say(h, "m1");
	host_close(h);
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, to_schema_5, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	h = open_store(NULL);
	ask_file(db_path, "PRAGMA user_version", version, sizeof(version));
	assert_true(atoi(version) >= 6);
	struct chatd_store_account_update u = { SZ(chatd_store_account_update), .id = S("g1"),
		.set = CHATD_STORE_ACCOUNT_REGISTER | CHATD_STORE_ACCOUNT_EMAIL,
		.email = S("g@example.org") };
	struct kept *k = ASK(h, account_update, u);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.accounts[0].created, 7);
	struct chatd_store_sent sent = { SZ(chatd_store_sent), .user = S("ann"), .limit = 10 };
	assert_int_equal(ASK(h, sent, sent)->a.n_messages, 1);
	host_close(h);
	assert_whole();
}

static void a_kill_while_migrating_needs_no_help(void **state)
{
	(void)state;
	unsigned seed = (unsigned)time(NULL);
	int unfinished = 0;
	for (int i = 0; i < 40; i++) {
		char command[160];
		int status;
		snprintf(command, sizeof(command), "rm -f %s*", db_path);
		assert_int_equal(system(command), 0);
		pid_t pid = fork();
		if (pid == 0) {
			struct host *h = host_open(so, dir, NULL);
			_exit(h->rc < 0 ? 1 : 0);
		}
		/* Every other one is let begin first: on a busy machine that takes longer than all of these. */
		struct stat st;
		pid_t ended = 0;
		while (i % 2 && ended == 0 && stat(db_path, &st) < 0) {
			usleep(100);
			ended = waitpid(pid, &status, WNOHANG);
		}
		struct timespec t = { 0, (long)(rand_r(&seed) % (i % 2 ? 10000 : 60000)) * 1000 };
		nanosleep(&t, NULL);
		if (ended == 0) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
		}
		unfinished += WIFSIGNALED(status) && stat(db_path, &st) == 0;
		struct host *h = open_store(NULL);
		assert_int_equal(say(h, "m1")->a.seq, 1);
		host_close(h);
		assert_whole();
		answers_free();
	}
	print_message("# %d of 40 were killed with the file half made\n", unfinished);
	assert_true(unfinished > 0);
}

/* ---- trouble -------------------------------------------------------------------------- */

static void a_file_locked_for_a_moment_delays(void **state)
{
	(void)state;
	const char *set[] = { "commit_timeout=800ms", NULL };
	struct host *h = open_store(NULL);
	sqlite3 *other;
	assert_int_equal(say(h, "m1")->rc, 0);
	assert_int_equal(sqlite3_open(db_path, &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 30000); /* the writer may be sweeping */
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	struct chatd_store_append r;
	fill(&r, "m2");
	struct kept *k = kept_new();
	k->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, k);
	assert_int_equal(host_turn(&h->workers[0], 300), 0);
	assert_int_equal(top_of(h), 1); /* reading goes on */
	sqlite3_exec(other, "COMMIT", NULL, NULL, NULL);
	assert_int_equal(kept_wait(h, k)->rc, 0);
	assert_int_equal(k->a.seq, 2);
	host_close(h);
	/* Held for long: told so in time, and not written behind the sender's back. */
	h = open_store(set);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	int64_t took = INT64_MAX;
	for (int i = 0; i < 4 && took > 2; i++) { /* the machine may sleep, but not each time */
		int64_t began = time(NULL);
		assert_int_equal(say(h, "m3")->rc, -EBUSY);
		took = time(NULL) - began;
	}
	assert_in_range(took, 0, 2);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_STALLED);
	assert_int_equal(say(h, "m4")->rc, -EBUSY);
	sqlite3_exec(other, "COMMIT", NULL, NULL, NULL);
	assert_int_equal(say(h, "m5")->a.seq, 3);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_OK);
	sqlite3_close(other);
	host_close(h);
	assert_whole();
}

/* A write fails (the file may not grow): nothing is acknowledged, and it heals. */
static void a_write_error_is_not_acknowledged_and_heals(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	struct rlimit old, small;
	struct stat st;
	char wal[160], id[16], big[20000];
	memset(big, 'x', sizeof(big));
	int64_t told = 0;
	int failed = 0;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(say(h, "first")->rc, 0);
	snprintf(wal, sizeof(wal), "%s-wal", db_path);
	assert_int_equal(stat(wal, &st), 0);
	getrlimit(RLIMIT_FSIZE, &old);
	small = (struct rlimit){ .rlim_cur = (rlim_t)st.st_size + 100000, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 30; i++) {
		struct chatd_store_append r;
		snprintf(id, sizeof(id), "m%d", i);
		fill(&r, id);
		r.body = chatd_str_of(big, sizeof(big));
		struct kept *k = ASK(h, append, r);
		failed += k->rc == -EIO || k->rc == -ENOSPC;
		told += k->rc == 0;
		assert_true(k->rc == 0 || k->rc == -EIO || k->rc == -ENOSPC);
	}
	assert_true(failed > 0);
	assert_true(top_of(h) >= told); /* reading goes on */
	setrlimit(RLIMIT_FSIZE, &old);
	struct kept *k = say(h, "last");
	for (int i = 0; i < 50 && k->rc < 0; i++) {
		sleep_ms(100);
		k = say(h, "last");
	}
	assert_int_equal(k->rc, 0);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_OK);
	assert_true(k->a.seq >= told + 2);
	host_close(h);
	assert_whole();
}

/* A sync fails: its group is not acknowledged, and nothing is written before the file has
 * been checked and the log started anew. */
static void a_failed_sync_is_not_acknowledged_and_heals(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	assert_int_equal(say(h, "m1")->rc, 0);
	for (int i = 0; i < 3; i++) {
		char id[16];
		snprintf(id, sizeof(id), "f%d", i);
		atomic_store(&sync_fails, i + 1);
		assert_int_equal(say(h, id)->rc, -EIO);
		assert_int_equal(h->vt->state(h->obj), CHATD_STORE_FAILED);
		assert_true(top_of(h) >= 1);
		struct kept *k = say(h, id);
		for (int n = 0; n < 100 && k->rc < 0; n++) {
			assert_int_equal(k->rc, -EIO);
			sleep_ms(100);
			k = say(h, id);
		}
		assert_int_equal(
				k->rc, 0); /* the same clientId: there once, whether it was written or not */
		assert_int_equal(k->a.seq, i + 2);
	}
	assert_non_null(strstr(host_log(), "the file was checked and is whole"));
	host_close(h);
	assert_whole();
}

static void answers_come_after_the_sync_and_share_it(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	struct kept *k[200];
	assert_int_equal(say(h, "warm")->rc, 0);
	atomic_store(&sync_ms, 300);
	int before = atomic_load(&syncs);
	for (int i = 0; i < 200; i++) {
		char id[16];
		struct chatd_store_append r;
		snprintf(id, sizeof(id), "m%d", i);
		fill(&r, id);
		k[i] = kept_new();
		k[i]->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, k[i]);
		assert_int_equal(k[i]->rc, 0);
	}
	assert_int_equal(host_turn(&h->workers[0], 150), 0); /* not before it is on the disk */
	for (int i = 0; i < 200; i++) {
		assert_int_equal(kept_wait(h, k[i])->rc, 0);
		assert_int_equal(k[i]->a.seq, i + 2);
	}
	assert_in_range(atomic_load(&syncs) - before, 1, 6);
	atomic_store(&sync_ms, 0);
	host_close(h);
}

/* The search index is written without a sync of its own; messages never are. */
static void commits_are_synced_also_after_words_were_indexed(void **state)
{
	(void)state;
	char mark[32] = "";
	struct host *h = open_store(NULL);
	say(h, "m1");
	for (int i = 0; strcmp(mark, "1") != 0; i++) {
		assert_true(i < 500);
		sleep_ms(20);
		ask_file(db_path, "SELECT value FROM meta WHERE key='indexed'", mark, sizeof(mark));
	}
	for (int i = 0; i < 5; i++) {
		char id[16];
		int before = atomic_load(&syncs);
		snprintf(id, sizeof(id), "n%d", i);
		assert_int_equal(say(h, id)->rc, 0);
		assert_int_equal(atomic_load(&syncs), before + 1);
	}
	host_close(h);
}

static void a_commit_that_hangs_is_answered_busy_once(void **state)
{
	(void)state;
	const char *set[] = { "commit_timeout=300ms", NULL };
	struct host *h = open_store(set);
	assert_int_equal(say(h, "m1")->rc, 0);
	atomic_store(&sync_ms, 1500);
	assert_int_equal(say(h, "m2")->rc, -EBUSY); /* its commit is under way */
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_STALLED);
	atomic_store(&sync_ms, 0);
	sleep_ms(1600);
	struct kept *k = say(h, "m2");
	assert_int_equal(k->rc, 0); /* it did happen, and the clientId finds it */
	assert_int_equal(k->a.repeated, 1);
	assert_int_equal(k->a.seq, 2);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_OK);
	host_close(h);
}

/* Fills a small file system, as another program would. */
static int fill_disk(const char *path)
{
	static char block[65536];
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	while (write(fd, block, sizeof(block)) > 0) {
	}
	while (write(fd, block, 512) > 0) {
	}
	return fd;
}

static void a_full_disk_refuses_reads_on_and_heals(void **state)
{
	(void)state;
	char path[160], id[16];
	if (mount("none", dir, "tmpfs", 0, "size=24m") < 0) {
		print_message("# skipped: no tmpfs can be mounted here: %s\n", strerror(errno));
		skip();
	}
	struct host *h = open_store(NULL);
	int64_t told = 0, full = 0;
	snprintf(path, sizeof(path), "%s/ballast", dir);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), "a%d", i);
		assert_int_equal(say(h, id)->rc, 0);
		told++;
	}
	int fd = fill_disk(path);
	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof(id), "b%d", i);
		struct kept *k = say(h, id);
		assert_true(k->rc == 0 || k->rc == -ENOSPC);
		told += k->rc == 0;
		full += k->rc == -ENOSPC;
		sleep_ms(2);
	}
	assert_true(full > 0);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_FULL);
	assert_int_equal(top_of(h), told);
	close(fd);
	unlink(path);
	struct kept *k = say(h, "last");
	for (int i = 0; i < 50 && k->rc < 0; i++) { /* within 5 s */
		sleep_ms(100);
		k = say(h, "last");
	}
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.seq, told + 1);
	assert_int_equal(h->vt->state(h->obj), CHATD_STORE_OK);
	host_close(h);
	assert_whole();
	assert_int_equal(umount(dir), 0);
}

/* Readers, checkpoints and a growing log beside each other. */
static void the_log_stays_small_while_others_read(void **state)
{
	(void)state;
	struct host *h = open_store(NULL);
	static char big[60000];
	struct stat st;
	char wal[160], id[16];
	int waiting = 0;
	struct kept *k[16];
	memset(big, 'y', sizeof(big) - 1);
	snprintf(wal, sizeof(wal), "%s-wal", db_path);
	for (int i = 0; i < 2000; i++) {
		struct chatd_store_append r;
		snprintf(id, sizeof(id), "m%d", i);
		fill(&r, id);
		r.body = chatd_str_of(big, sizeof(big) - 1);
		k[waiting] = kept_new();
		k[waiting]->rc = h->vt->append(h->obj, &h->workers[0], &r, keep, k[waiting]);
		if (++waiting == 16) {
			while (waiting > 0) {
				assert_int_equal(kept_wait(h, k[--waiting])->rc, 0);
			}
			assert_int_equal(top_of(h), i + 1);
			assert_int_equal(stat(wal, &st), 0);
			assert_in_range(st.st_size, 0, 64 << 20);
			answers_free();
		}
	}
	host_close(h);
	assert_whole();
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(what_was_answered_is_there_after_a_restart),
		T(a_second_server_on_the_file_is_refused), T(a_newer_schema_is_refused),
		T(a_file_of_others_is_refused), T(the_writer_alone_may_checkpoint_and_syncs),
		T(a_backup_opens_with_another_epoch), T(what_was_acknowledged_survives_kill_9),
		T(a_rotation_that_was_answered_survives_kill_9), T(an_older_file_is_brought_up_to_date),
		T(a_kill_while_migrating_needs_no_help), T(a_file_locked_for_a_moment_delays),
		T(a_write_error_is_not_acknowledged_and_heals),
		T(a_failed_sync_is_not_acknowledged_and_heals), T(answers_come_after_the_sync_and_share_it),
		T(commits_are_synced_also_after_words_were_indexed),
		T(a_commit_that_hangs_is_answered_busy_once), T(a_full_disk_refuses_reads_on_and_heals),
		T(the_log_stays_small_while_others_read) };
	if (argc < 2) {
		fprintf(stderr, "usage: test_store_sqlite PLUGIN.so\n");
		return 2;
	}
	so = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers that lie, hang and die: the test is the helper, at the other end of a Unix socket. */
#include "test_ask.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD = WIRE_HEAD + WIRE_ANSWER_BYTES, MAX_ANSWER = 100 };

struct fake {
	struct kit *k;
	char folder[32];
	struct sockaddr_un at;
	int listener, fd;
	char in[64 << 10];
	size_t n;
};

/* The plugin's look at the resolver's files, which a test cannot replace. */
static ino_t other_file;

int stat(const char *restrict path, struct stat *restrict st)
{
	int rc = fstatat(AT_FDCWD, path, st, 0);
	st->st_ino += rc == 0 && strcmp(path, "/etc/resolv.conf") == 0 ? other_file : 0;
	return rc;
}

static struct fake *fake_new(const char *more)
{
	char yaml[256];
	struct fake *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->fd = -1;
	f->at.sun_family = AF_UNIX;
	snprintf(f->folder, sizeof(f->folder), "/tmp/chatd-fetch-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->at.sun_path, sizeof(f->at.sun_path), "%s/s", f->folder);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&f->at, sizeof(f->at)), 0);
	assert_int_equal(listen(f->listener, 8), 0);
	snprintf(yaml, sizeof(yaml), "helper_socket: %s\n%s", f->at.sun_path, more);
	f->k = kit_new(&chatd_plugin_under_test, yaml);
	return f;
}

static void fake_drop(struct fake *f)
{
	if (f->fd >= 0) {
		close(f->fd);
	}
	f->fd = -1;
	f->n = 0;
}

static void fake_free(struct fake *f)
{
	kit_free(f->k);
	fake_drop(f);
	close(f->listener);
	unlink(f->at.sun_path);
	rmdir(f->folder);
	free(f);
}

/* The test's own descriptors are not the plugin's to look at: it has no watch for them. */
static int fake_accept(struct fake *f)
{
	for (int i = 0; i < 200 && f->fd < 0; i++) {
		f->fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		pump(f->k);
	}
	return f->fd >= 0;
}

/* The next frame; 0: there is none, or the plugin has hung up. */
static int fake_read(struct fake *f, uint16_t *ret_type, char *to, uint32_t *ret_n)
{
	for (int i = 0; i < 200; i++) {
		if (wire_head(chatd_str_of(f->in, f->n), ret_type, ret_n) == 1 &&
				f->n >= WIRE_HEAD + *ret_n) {
			memcpy(to, f->in + WIRE_HEAD, *ret_n);
			f->n -= WIRE_HEAD + *ret_n;
			memmove(f->in, f->in + WIRE_HEAD + *ret_n, f->n);
			return 1;
		}
		ssize_t n = recv(f->fd, f->in + f->n, sizeof(f->in) - f->n, 0);
		if (n == 0) {
			return 0;
		}
		f->n += n > 0 ? (size_t)n : 0;
		pump(f->k);
	}
	return 0;
}

static int hung_up(struct fake *f)
{
	char c[4096];
	ssize_t n = -1;
	for (int i = 0; i < 50 && n != 0; i++) {
		pump(f->k);
		n = recv(f->fd, c, sizeof(c), 0);
		if (n < 0 && errno != EAGAIN) {
			return 1;
		}
	}
	return n == 0;
}

static void fake_write(struct fake *f, const void *p, size_t n)
{
	(void)!send(f->fd, p, n, MSG_NOSIGNAL);
}

static void fake_ready(struct fake *f)
{
	uint8_t frame[WIRE_HEAD + WIRE_READY_BYTES];
	wire_ready_make(0, frame);
	fake_write(f, frame, sizeof(frame));
}

/* It has come as far as a helper that works. */
static void fake_begin(struct fake *f)
{
	char p[8192];
	uint16_t type;
	uint32_t n;
	assert_true(fake_accept(f));
	assert_true(fake_read(f, &type, p, &n));
	assert_int_equal(type, WIRE_SETUP);
	fake_ready(f);
}

static uint64_t fake_asked(struct fake *f)
{
	char p[8192];
	uint16_t type;
	uint32_t n;
	struct wire_ask q;
	assert_true(fake_read(f, &type, p, &n));
	assert_int_equal(type, WIRE_ASK);
	assert_int_equal(wire_ask_read(&q, chatd_str_of(p, n)), 0);
	return q.id;
}

static const struct chatd_fetch_request a_request = { .struct_size = sizeof(a_request),
	.method = { "GET", 3 },
	.url = { "http://example.org/", 19 },
	.timeout = 1000,
	.max_answer = MAX_ANSWER };

static struct wire_answer an_answer(uint64_t id)
{
	return (struct wire_answer){ .id = id, .status = 200, .n_type = 1, .n_why = 0, .n_body = 4 };
}

static size_t make(const struct wire_answer *a, uint8_t *to)
{
	wire_answer_make(a, to);
	memcpy(to + HEAD, "tbody", 5);
	return HEAD + 5;
}

/* ---- tests -------------------------------------------------------------------------------------- */

TEST(an_answer_may_come_in_any_pieces)
{
	UNUSED;
	struct got g;
	uint8_t frame[64];
	struct fake *f = fake_new("");
	for (size_t piece = 1; piece < HEAD + 5; piece += 7) {
		ask(f->k, &a_request, &g);
		if (piece == 1) {
			fake_begin(f);
		}
		const struct wire_answer a = an_answer(fake_asked(f));
		size_t n = make(&a, frame);
		for (size_t at = 0; at < n; at += piece) {
			assert_int_equal(g.n, 0);
			fake_write(f, frame + at, n - at < piece ? n - at : piece);
			pump(f->k);
		}
		assert_true(g.n == 1 && g.rc == 0 && g.status == 200);
		assert_string_equal(g.body, "body");
	}
	fake_free(f);
}

/* What each of them changes in a good answer, whose caller is told, and the helper left. */
static void lie(int which, uint8_t *frame, size_t *n)
{
	struct wire_answer a = an_answer(1);
	*n = make(&a, frame);
	switch (which) {
	case 0: /* nobody asked for that */
		a.id = 99;
		break;
	case 1:
		a.n_body = MAX_ANSWER + 1;
		break;
	case 2: /* what only the server may say */
		a.rc = -ESHUTDOWN;
		break;
	case 3:
		a.status = 12345;
		break;
	case 4: /* it is ready already */
		wire_ready_make(0, frame);
		*n = WIRE_HEAD + WIRE_READY_BYTES;
		return;
	case 5: /* what only the server says */
		frame[4] = WIRE_ASK;
		return;
	case 6: /* another version */
		frame[6]++;
		return;
	case 7: /* a length that is none of this answer */
		frame[0]++;
		return;
	case 8: /* four gigabytes */
		memset(frame, 0xff, 4);
		return;
	default:
		memset(frame, 'x', *n);
		return;
	}
	*n = make(&a, frame);
}

TEST(a_helper_that_lies_is_left)
{
	UNUSED;
	struct got g[2];
	uint8_t frame[64];
	size_t n;
	for (int which = 0; which < 10; which++) {
		struct fake *f = fake_new("");
		ask(f->k, &a_request, &g[0]);
		fake_begin(f);
		assert_int_equal(fake_asked(f), 1);
		lie(which, frame, &n);
		fake_write(f, frame, n);
		assert_true(hung_up(f));
		until(f->k, &g[0]);
		assert_true(g[0].n == 1 && g[0].rc == -ECONNRESET);
		kit_expect_logged(f->k, "it sent what no helper sends; 1 requests are without an answer");
		/* The next one has another chance. */
		ask(f->k, &a_request, &g[1]);
		assert_int_equal(g[1].at_once, 0);
		fake_drop(f);
		fake_begin(f);
		const struct wire_answer good = an_answer(fake_asked(f));
		n = make(&good, frame);
		fake_write(f, frame, n);
		until(f->k, &g[1]);
		assert_true(g[1].rc == 0 && g[1].status == 200);
		fake_free(f);
	}
}

TEST(who_answers_before_it_was_asked_is_left)
{
	UNUSED;
	struct got g;
	uint8_t frame[64];
	struct fake *f = fake_new("");
	const struct wire_answer a = an_answer(1);
	ask(f->k, &a_request, &g);
	assert_true(fake_accept(f));
	fake_write(f, frame, make(&a, frame));
	assert_true(hung_up(f));
	assert_int_equal(g.n, 0); /* it waits for a better one */
	fake_drop(f);
	fake_begin(f);
	assert_int_equal(fake_asked(f), 1);
	fake_write(f, frame, make(&a, frame));
	until(f->k, &g);
	assert_int_equal(g.rc, 0);
	fake_free(f);
}

/* Any bytes: each request has one answer at most, no longer than it may be, and the server lives. */
TEST(whatever_a_helper_sends)
{
	UNUSED;
	struct got g[4];
	uint8_t frames[8 * 64];
	unsigned short seed[3] = { 1, 2, 3 };
	for (int round = 0; round < 150; round++) {
		size_t n = 0;
		struct fake *f = fake_new("");
		for (int i = 0; i < 4; i++) {
			ask(f->k, &a_request, &g[i]);
		}
		fake_begin(f);
		for (int i = 0; i < 4; i++) {
			const struct wire_answer a = an_answer(fake_asked(f));
			n += make(&a, frames + n);
		}
		for (long changes = nrand48(seed) % 4; changes > 0; changes--) {
			frames[(size_t)nrand48(seed) % n] ^= (uint8_t)(1 << nrand48(seed) % 8);
		}
		n = nrand48(seed) % 4 ? n : (size_t)nrand48(seed) % n;
		for (size_t at = 0, piece; at < n; at += piece) {
			piece = 1 + (size_t)nrand48(seed) % 90;
			piece = piece > n - at ? n - at : piece;
			fake_write(f, frames + at, piece);
			pump(f->k);
		}
		fake_drop(f);
		for (int i = 0; i < 4; i++) {
			until(f->k, &g[i]);
			assert_int_equal(g[i].n, 1);
			assert_true(strlen(g[i].body) <= MAX_ANSWER);
		}
		fake_free(f);
	}
}

TEST(a_helper_that_hangs_is_left)
{
	UNUSED;
	struct got g[2];
	struct fake *f = fake_new("");
	struct chatd_fetch_request slow = a_request;
	slow.timeout = 60000;
	ask(f->k, &a_request, &g[0]);
	ask(f->k, &slow, &g[1]);
	fake_begin(f);
	(void)fake_asked(f);
	(void)fake_asked(f);
	kit_advance(f->k, 2500); /* it may be the server that is late */
	assert_int_equal(g[0].n, 0);
	kit_advance(f->k, 1000);
	assert_true(g[0].n == 1 && g[0].rc == -ETIMEDOUT);
	assert_true(g[1].n == 1 && g[1].rc == -ECONNRESET);
	assert_true(hung_up(f));
	kit_expect_logged(f->k, "it did not answer in time");
	fake_free(f);
}

/* When it is the server that was late, the answer is there and counts. */
TEST(an_answer_that_is_there_is_not_late)
{
	UNUSED;
	struct got g;
	uint8_t frame[64];
	struct fake *f = fake_new("");
	ask(f->k, &a_request, &g);
	fake_begin(f);
	const struct wire_answer a = an_answer(fake_asked(f));
	fake_write(f, frame, make(&a, frame));
	kit_advance(f->k, 30000);
	assert_true(g.n == 1 && g.rc == 0);
	fake_free(f);
}

TEST(a_helper_that_does_not_begin)
{
	UNUSED;
	struct got g;
	struct fake *f = fake_new("");
	ask(f->k, &a_request, &g);
	assert_true(fake_accept(f));
	kit_advance(f->k, 1500);
	assert_true(g.n == 1 && g.rc == -ETIMEDOUT);
	assert_non_null(strstr(g.why, "does not run"));
	kit_advance(f->k, 10000);
	assert_true(hung_up(f));
	kit_expect_logged(f->k, "it did not begin in time");
	fake_free(f);
}

/* Each is given more time to become better; meanwhile nobody waits for it. */
TEST(it_is_started_again_less_and_less_often)
{
	UNUSED;
	struct got g;
	int starts = 0;
	struct fake *f = fake_new("");
	struct chatd_fetch_request slow = a_request;
	slow.timeout = 300000;
	ask(f->k, &slow, &g);
	for (int64_t ms = 0; ms < 60000; ms += 50) {
		int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
		starts += fd >= 0;
		if (fd >= 0) {
			close(fd);
		}
		kit_advance(f->k, 40);
		pump(f->k);
	}
	assert_in_range(starts, 7, 11); /* after 0.1, 0.2, 0.4 ... 25.6, 30 s */
	assert_int_equal(g.n, 0);
	struct got now;
	ask(f->k, &slow, &now);
	assert_int_equal(now.at_once, -EAGAIN);
	for (int64_t ms = 0; ms < 31000 && f->fd < 0; ms += 50) {
		kit_advance(f->k, 50);
		f->fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	fake_begin(f); /* a good one: who has waited is served */
	(void)fake_asked(f);
	fake_free(f);
	assert_true(g.n == 1 && g.rc == -ESHUTDOWN);
}

/* Who holds the old one cannot open the new one. */
TEST(another_one_reads_files_that_were_replaced)
{
	UNUSED;
	struct got g[2];
	uint8_t frame[64];
	struct fake *f = fake_new("");
	struct stat st;
	if (fstatat(AT_FDCWD, "/etc/resolv.conf", &st, 0) < 0) {
		print_message("# skip: there is no /etc/resolv.conf\n");
		fake_free(f);
		return;
	}
	struct chatd_fetch_request slow = a_request;
	slow.timeout = 60000;
	ask(f->k, &slow, &g[0]);
	fake_begin(f);
	struct wire_answer a = an_answer(fake_asked(f));
	other_file = 1;
	kit_advance(f->k, 1100);
	ask(f->k, &slow, &g[1]);
	for (int i = 0; i < 10; i++) {
		pump(f->k);
	}
	assert_int_equal(recv(f->fd, f->in, sizeof(f->in), 0), -1); /* it is told nothing more */
	fake_write(f, frame, make(&a, frame));
	until(f->k, &g[0]);
	assert_int_equal(g[0].rc, 0);
	assert_true(hung_up(f));
	kit_expect_logged(f->k, "/etc/resolv.conf has been replaced");
	fake_drop(f);
	fake_begin(f);
	a = an_answer(fake_asked(f));
	fake_write(f, frame, make(&a, frame));
	until(f->k, &g[1]);
	assert_int_equal(g[1].rc, 0);
	fake_free(f);
	other_file = 0;
}

TEST(nobody_serves_the_socket)
{
	UNUSED;
	struct got g;
	struct fake *f = fake_new("");
	close(f->listener);
	f->listener = -1;
	ask(f->k, &a_request, &g);
	kit_expect_logged(f->k, "nobody serves /tmp/chatd-fetch-");
	kit_advance(f->k, 5000);
	assert_true(g.n == 1 && g.rc == -ETIMEDOUT);
	fake_free(f);
}

TEST(options_of_the_helper)
{
	UNUSED;
	kit_expect_complaint(&chatd_plugin_under_test, "helper: /no/such/program",
			"is no program that this user can run");
	kit_expect_complaint(
			&chatd_plugin_under_test, "helper: /bin/sh\nhelper_socket: /run/x", "take helper away");
	kit_expect_complaint(&chatd_plugin_under_test,
			"helper_socket: /run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			"choose a shorter one");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_may_come_in_any_pieces),
		cmocka_unit_test(a_helper_that_lies_is_left),
		cmocka_unit_test(who_answers_before_it_was_asked_is_left),
		cmocka_unit_test(whatever_a_helper_sends),
		cmocka_unit_test(a_helper_that_hangs_is_left),
		cmocka_unit_test(an_answer_that_is_there_is_not_late),
		cmocka_unit_test(a_helper_that_does_not_begin),
		cmocka_unit_test(it_is_started_again_less_and_less_often),
		cmocka_unit_test(another_one_reads_files_that_were_replaced),
		cmocka_unit_test(nobody_serves_the_socket),
		cmocka_unit_test(options_of_the_helper),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

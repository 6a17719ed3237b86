/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over real sockets: reading, pausing, queues and their limits, the ways to end. */
#include "loop_kit.h"

enum { MAX_CONN = 64 };

struct test;

/** One accepted stream; the worker's, but for the atomics. */
struct conn {
	struct test *t;
	chatd_stream *stream;
	chatd_worker *w;
	bool in_send, flag;
	atomic_int gone, gone_inside, drained, calls;
	atomic_size_t shown, taken;
	atomic_uint sum;
	char peer[64]; /* written before `accepted` counts it */
};

struct test {
	struct kit kit;
	const struct chatd_stream_user *user;
	void (*on_accept)(struct conn *c);
	atomic_int reserved, accepted;
	struct conn conns[MAX_CONN];
};

static void accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	struct test *t = arg;
	struct conn *c = &t->conns[atomic_fetch_add(&t->reserved, 1)];
	c->t = t;
	c->w = w;
	c->stream = s;
	struct chatd_str peer = s->ops->peer(s);
	memcpy(c->peer, peer.p, peer.n);
	if (t->user)
		s->ops->attach(s, t->user, c);
	if (t->on_accept)
		t->on_accept(c);
	atomic_fetch_add(&t->accepted, 1);
}

static void begin(struct test *t, int workers, const struct chatd_stream_user *user,
		void (*on_accept)(struct conn *c))
{
	memset(t, 0, sizeof(*t));
	t->user = user;
	t->on_accept = on_accept;
	kit_listen(&t->kit, workers, (struct chatd_listen){ .accepted = accepted, .arg = t });
}

static void on_gone(void *arg, int32_t why)
{
	struct conn *c = arg;
	if (c->in_send)
		atomic_store(&c->gone_inside, 1);
	atomic_store(&c->gone, why);
}

static void on_drained(void *arg)
{
	atomic_fetch_add(&((struct conn *)arg)->drained, 1);
}

static void fill(char *p, size_t n, size_t from)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)((from + i) * 2654435761u >> 13);
}

/* ---- reading ----------------------------------------------------------- */

static size_t echo_sevens(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	size_t take = n - n % 7;
	if (take)
		kit_send_copy(c->stream, p, take);
	return take;
}

static const struct chatd_stream_user echoing = {
	.struct_size = sizeof(echoing), .data = echo_sevens, .gone = on_gone
};

/** Sends and compares what comes back, both in odd pieces, without ever blocking. */
static void echo_through(int fd, size_t total)
{
	static char out[5000];
	static char in[9000];
	static char want[9000];
	size_t sent = 0;
	size_t got = 0;
	unsigned x = 12345;
	while (got < total) {
		struct pollfd pfd = { fd, (short)(POLLIN | (sent < total ? POLLOUT : 0)), 0 };
		assert_int_equal(poll(&pfd, 1, KIT_LIMIT_MS), 1);
		x = x * 1103515245 + 12345;
		if (pfd.revents & POLLOUT) {
			size_t n = 1 + (x >> 16) % sizeof(out);
			n = n < total - sent ? n : total - sent;
			fill(out, n, sent);
			ssize_t rc = send(fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += rc > 0 ? (size_t)rc : 0;
		}
		if (pfd.revents & POLLIN) {
			ssize_t rc = recv(fd, in, 1 + (x >> 8) % sizeof(in), MSG_DONTWAIT);
			assert_true(rc > 0);
			fill(want, (size_t)rc, got);
			assert_memory_equal(in, want, (size_t)rc);
			got += (size_t)rc;
		}
	}
}

static void ten_megabytes_come_back_unharmed(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &echoing, NULL);
	int fd = kit_connect(&t.kit);
	echo_through(fd, (size_t)7 * 1500000);
	close(fd);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_EOF);
	kit_stop(&t.kit);
}

static size_t take_all(void *arg, const char *p, size_t n)
{
	(void)arg;
	(void)p;
	return n;
}

static void answer_late(void *arg)
{
	struct conn *c = arg;
	kit_send_copy(c->stream, "late", 4);
	c->stream->ops->close(c->stream);
}

static int32_t answers(void *arg)
{
	struct conn *c = arg;
	atomic_fetch_add(&c->calls, 1);
	return worker_post(c->w, answer_late, c) == 0;
}

static int32_t has_nothing_to_say(void *arg)
{
	atomic_fetch_add(&((struct conn *)arg)->calls, 1);
	return 0;
}

static const struct chatd_stream_user answering = {
	.struct_size = sizeof(answering), .data = take_all, .gone = on_gone, .half = answers
};
static const struct chatd_stream_user silent = {
	.struct_size = sizeof(silent), .data = take_all, .gone = on_gone, .half = has_nothing_to_say
};

static void a_peer_that_shut_its_side_down_gets_its_late_answer(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &answering, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "?", 1);
	shutdown(fd, SHUT_WR);
	kit_expect(fd, "late");
	kit_expect_eof(fd);
	close(fd);
	assert_int_equal(atomic_load(&t.conns[0].calls), 1);
	assert_int_equal(atomic_load(&t.conns[0].gone), 0);
	kit_stop(&t.kit);
}

static void a_peer_that_shut_its_side_down_is_gone_for_who_has_no_answer(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &silent, NULL);
	int fd = kit_connect(&t.kit);
	shutdown(fd, SHUT_WR);
	kit_expect_eof(fd);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_EOF);
	assert_int_equal(atomic_load(&t.conns[0].calls), 1);
	close(fd);
	kit_stop(&t.kit);
}

static size_t pause_at_first(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	atomic_fetch_add(&c->calls, 1);
	atomic_store(&c->shown, n);
	if (!c->flag) {
		c->flag = true;
		c->stream->ops->pause(c->stream, 1);
		return 2;
	}
	kit_send_copy(c->stream, p, n);
	return n;
}

static const struct chatd_stream_user pausing = {
	.struct_size = sizeof(pausing), .data = pause_at_first, .gone = on_gone
};

static void go_on(void *arg)
{
	struct conn *c = arg;
	c->stream->ops->pause(c->stream, 0);
}

static void a_paused_stream_shows_nothing_until_it_goes_on(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &pausing, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "abcdef", 6);
	WAIT_FOR(atomic_load(&t.conns[0].calls) == 1);
	kit_write(fd, "ghi", 3);
	shutdown(fd, SHUT_WR);
	/* A second stream's echo proves that the worker has had its chance. */
	for (int i = 0; i < 20; i++)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	assert_int_equal(atomic_load(&t.conns[0].calls), 1);
	assert_int_equal(atomic_load(&t.conns[0].gone), 0); /* EOF waits too */
	worker_post(t.conns[0].w, go_on, &t.conns[0]);
	kit_expect(fd, "cdefghi"); /* also after our half of the connection is closed */
	kit_expect_eof(fd);
	close(fd);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_EOF);
	kit_stop(&t.kit);
}

static size_t second_user(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	kit_send_copy(c->stream, "2:", 2);
	kit_send_copy(c->stream, p, n);
	return n;
}

static const struct chatd_stream_user second = {
	.struct_size = sizeof(second), .data = second_user, .gone = on_gone
};

static size_t hand_over(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	if (n < 3)
		return 0;
	kit_send_copy(c->stream, p, 3);
	c->stream->ops->attach(c->stream, &second, c);
	return 3;
}

static const struct chatd_stream_user first = {
	.struct_size = sizeof(first), .data = hand_over, .gone = on_gone
};

static void a_new_user_gets_the_unread_bytes_at_once(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &first, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "GET rest", 8);
	kit_expect(fd, "GET2: rest");
	close(fd);
	kit_stop(&t.kit);
}

static size_t wait_for_many(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	atomic_store(&c->shown, n);
	if (n < 300000)
		return 0;
	unsigned sum = 0;
	for (size_t i = 0; i < n; i++)
		sum = sum * 31 + (unsigned char)p[i];
	atomic_store(&c->sum, sum);
	atomic_store(&c->taken, n);
	return n;
}

static const struct chatd_stream_user patient = {
	.struct_size = sizeof(patient), .data = wait_for_many, .gone = on_gone
};

static void a_user_may_wait_for_many_bytes(void **state)
{
	static struct test t;
	static char buf[300000];
	begin(&t, *(int *)*state, &patient, NULL);
	int fd = kit_connect(&t.kit);
	fill(buf, sizeof(buf), 0);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(buf); i++)
		sum = sum * 31 + (unsigned char)buf[i];
	for (size_t at = 0; at < sizeof(buf); at += 30000)
		kit_write(fd, buf + at, 30000);
	WAIT_FOR(atomic_load(&t.conns[0].taken) == sizeof(buf));
	assert_int_equal(atomic_load(&t.conns[0].sum), sum);
	close(fd);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_EOF);
	kit_stop(&t.kit);
}

static size_t take_nothing(void *arg, const char *p, size_t n)
{
	(void)p;
	atomic_store(&((struct conn *)arg)->shown, n);
	return 0;
}

static const struct chatd_stream_user refusing = {
	.struct_size = sizeof(refusing), .data = take_nothing, .gone = on_gone
};

static void what_a_user_leaves_unread_is_bounded(void **state)
{
	static struct test t;
	static char buf[65536];
	begin(&t, *(int *)*state, &refusing, NULL);
	int fd = kit_connect(&t.kit);
	while (!atomic_load(&t.conns[0].gone)) {
		if (send(fd, buf, sizeof(buf), MSG_NOSIGNAL) < 0)
			break;
	}
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_ERROR);
	assert_in_range(atomic_load(&t.conns[0].shown), 1024 * 1024, 2 * 1024 * 1024);
	close(fd);
	kit_stop(&t.kit);
}

/* ---- queues and limits ------------------------------------------------- */

static size_t send_flood(void *arg, const char *p, size_t n)
{
	(void)p;
	struct conn *c = arg;
	chatd_buf *b = buf_new(0, 256 * 1024);
	if (!b)
		abort();
	memset(buf_data(b), 'x', buf_len(b));
	c->in_send = true;
	for (int i = 0; i < 64; i++)
		c->stream->ops->send(c->stream, b);
	c->in_send = false;
	buf_unref(b);
	return n;
}

static const struct chatd_stream_user flooding = {
	.struct_size = sizeof(flooding), .data = send_flood, .gone = on_gone, .drained = on_drained
};

static void limit_queue(struct conn *c)
{
	c->stream->ops->limits(c->stream, 512 * 1024, 0);
}

static void limit_stall(struct conn *c)
{
	c->stream->ops->limits(c->stream, 0, 1000);
}

static void check_slow(int workers, void (*limit)(struct conn *))
{
	static struct test t;
	begin(&t, workers, &flooding, limit);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "go", 2);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_SLOW);
	assert_int_equal(atomic_load(&t.conns[0].gone_inside), 0);
	assert_int_equal(atomic_load(&t.conns[0].drained), 0);
	close(fd);
	chatd_worker *w = t.conns[0].w;
	loop_stop(t.kit.loop);
	loop_join(t.kit.loop);
	assert_int_equal(net_stats(w)->slow, 1);
	assert_int_equal(net_stats(w)->open, 0);
	assert_int_equal(net_stats(w)->queued, 0);
	net_destroy(t.kit.net);
	loop_destroy(t.kit.loop);
}

static void a_queue_over_its_limit_ends_the_stream_later(void **state)
{
	check_slow(*(int *)*state, limit_queue);
}

static void a_reader_that_stalls_is_ended(void **state)
{
	check_slow(*(int *)*state, limit_stall);
}

static void a_reader_that_reads_gets_all_and_drained_follows(void **state)
{
	static struct test t;
	static char buf[65536];
	begin(&t, *(int *)*state, &flooding, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "go", 2);
	size_t want = (size_t)64 * 256 * 1024;
	size_t got = 0;
	int err;
	while (got < want) {
		size_t n = kit_read(fd, buf, want - got < sizeof(buf) ? want - got : sizeof(buf), &err);
		assert_true(n > 0);
		got += n;
	}
	WAIT_FOR(atomic_load(&t.conns[0].drained) == 1);
	assert_int_equal(atomic_load(&t.conns[0].gone), 0);
	close(fd);
	kit_stop(&t.kit);
}

/* ---- ends -------------------------------------------------------------- */

static size_t answer_and_close(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	send_flood(arg, p, n);
	kit_send_copy(c->stream, "END", 3);
	c->stream->ops->close(c->stream);
	c->stream->ops->close(c->stream); /* once more is harmless */
	return 1;
}

static const struct chatd_stream_user closing = {
	.struct_size = sizeof(closing), .data = answer_and_close, .gone = on_gone
};

static void close_delivers_everything_to_a_client_that_still_sends(void **state)
{
	static struct test t;
	static char buf[65536];
	char last[3] = { 0 };
	begin(&t, *(int *)*state, &closing, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, buf, sizeof(buf)); /* most of it is never read by the user */
	size_t got = 0;
	for (;;) {
		int err;
		size_t n = kit_read(fd, buf, sizeof(buf), &err);
		assert_int_equal(err, 0);
		if (n >= 3)
			memcpy(last, buf + n - 3, 3);
		got += n;
		if (n < sizeof(buf))
			break;
		kit_write(fd, "more", 4);
	}
	assert_int_equal(got, (size_t)64 * 256 * 1024 + 3);
	assert_memory_equal(last, "END", 3);
	close(fd);
	assert_int_equal(atomic_load(&t.conns[0].gone), 0);
	kit_stop(&t.kit);
}

static size_t reset_now(void *arg, const char *p, size_t n)
{
	(void)p;
	struct conn *c = arg;
	kit_send_copy(c->stream, "lost", 4);
	c->stream->ops->reset(c->stream);
	return n;
}

static const struct chatd_stream_user resetting = {
	.struct_size = sizeof(resetting), .data = reset_now, .gone = on_gone
};

static void reset_is_a_reset(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &resetting, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "x", 1);
	char c;
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
	assert_int_equal(atomic_load(&t.conns[0].gone), 0);
	kit_stop(&t.kit);
}

static size_t ignore(void *arg, const char *p, size_t n)
{
	(void)p;
	atomic_fetch_add(&((struct conn *)arg)->taken, n);
	return n;
}

static const struct chatd_stream_user ignoring = {
	.struct_size = sizeof(ignoring), .data = ignore, .gone = on_gone
};

static void a_peer_that_resets_is_an_error(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &ignoring, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "abc", 3);
	WAIT_FOR(atomic_load(&t.conns[0].taken) == 3);
	struct linger linger = { 1, 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
	WAIT_FOR(atomic_load(&t.conns[0].gone) == CHATD_END_ERROR);
	kit_stop(&t.kit);
}

static void close_other(void *arg)
{
	struct conn *c = arg;
	struct conn *other = &c->t->conns[c == &c->t->conns[0]];
	if (other->stream && other->w == c->w && !atomic_load(&other->gone))
		other->stream->ops->reset(other->stream);
	other->stream = NULL;
}

static void on_gone_close_other(void *arg, int32_t why)
{
	on_gone(arg, why);
	((struct conn *)arg)->stream = NULL;
	close_other(arg);
}

static void on_drained_close(void *arg)
{
	struct conn *c = arg;
	on_drained(arg);
	c->stream->ops->close(c->stream);
	c->stream = NULL;
}

static size_t say_hello(void *arg, const char *p, size_t n)
{
	(void)p;
	struct conn *c = arg;
	kit_send_copy(c->stream, "hello", 5);
	return n;
}

static const struct chatd_stream_user draining = {
	.struct_size = sizeof(draining),
	.data = say_hello,
	.gone = on_gone_close_other,
	.drained = on_drained_close,
};

static const struct chatd_stream_user entangled = {
	.struct_size = sizeof(entangled), .data = ignore, .gone = on_gone_close_other
};

static void streams_may_be_closed_in_any_callback(void **state)
{
	(void)state;
	static struct test t;
	begin(&t, 1, &draining, NULL);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "x", 1);
	kit_expect(fd, "hello");
	kit_expect_eof(fd); /* closed in drained() */
	close(fd);
	kit_stop(&t.kit);

	begin(&t, 1, &entangled, NULL);
	int a = kit_connect(&t.kit);
	int b = kit_connect(&t.kit);
	WAIT_FOR(atomic_load(&t.accepted) == 2);
	close(a);
	kit_expect_end(b); /* reset in the other's gone() */
	close(b);
	kit_stop(&t.kit);
}

static void close_at_once(struct conn *c)
{
	kit_send_copy(c->stream, "busy", 4);
	c->stream->ops->close(c->stream);
}

static void a_stream_may_be_closed_where_it_is_accepted(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &ignoring, close_at_once);
	for (int i = 0; i < 20; i++) {
		int fd = kit_connect(&t.kit);
		kit_expect(fd, "busy");
		kit_expect_eof(fd);
		close(fd);
	}
	kit_stop(&t.kit);
	begin(&t, *(int *)*state, NULL, NULL); /* nobody attaches */
	int fd = kit_connect(&t.kit);
	kit_expect_end(fd);
	close(fd);
	kit_stop(&t.kit);
}

static void stopping_ends_what_is_open(void **state)
{
	static struct test t;
	int fd[16];
	begin(&t, *(int *)*state, &ignoring, NULL);
	for (int i = 0; i < 16; i++)
		fd[i] = kit_connect(&t.kit);
	WAIT_FOR(atomic_load(&t.accepted) == 16);
	kit_stop(&t.kit);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(atomic_load(&t.conns[i].gone), CHATD_END_DRAIN);
		kit_expect_end(fd[i]);
		close(fd[i]);
	}
}

/* ---- listeners --------------------------------------------------------- */

static void refused(struct net *net, const char *address, int want, const char *text)
{
	struct net_error err;
	struct net_listener *l;
	struct chatd_listen conf = {
		.struct_size = sizeof(conf), .address = address, .kind = "test", .accepted = accepted
	};
	assert_int_equal(net_listen(net, &conf, &l, &err), want);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void the_address_really_bound_is_known_and_kept(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, &ignoring, NULL);
	const char *bound = net_bound(t.kit.listener);
	assert_int_equal(strncmp(bound, "127.0.0.1:", 10), 0);
	assert_int_not_equal(strcmp(bound, "127.0.0.1:0"), 0);
	refused(t.kit.net, bound, -EADDRINUSE, "cannot bind \"127.0.0.1:");
	refused(t.kit.net, "localhost:80", -EINVAL, "\"localhost:80\" is no address to listen on");
	refused(t.kit.net, "127.0.0.1", -EINVAL, "is no address");
	refused(t.kit.net, "127.0.0.1:65536", -EINVAL, "is no address");
	refused(t.kit.net, "::1:80", -EINVAL, "is no address");
	refused(t.kit.net, "192.0.2.1:0", -EADDRNOTAVAIL, "cannot bind \"192.0.2.1:0\"");

	int fd = kit_connect(&t.kit);
	WAIT_FOR(atomic_load(&t.accepted) == 1);
	assert_string_equal(t.conns[0].peer, "127.0.0.1");
	assert_int_equal(net_accept_stop(t.kit.net), 0);
	int late = socket(AF_INET, SOCK_STREAM, 0);
	struct addr at;
	assert_int_equal(addr_parse(bound, &at), 0);
	assert_int_equal(connect(late, &at.u.any, at.len), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(late);
	kit_write(fd, "still", 5); /* who is in stays in */
	WAIT_FOR(atomic_load(&t.conns[0].taken) == 5);
	close(fd);
	kit_stop(&t.kit);
}

static void many_connections_all_find_a_worker(void **state)
{
	static struct test t;
	int fd[MAX_CONN];
	begin(&t, *(int *)*state, &echoing, NULL);
	for (int i = 0; i < MAX_CONN; i++)
		fd[i] = kit_connect(&t.kit);
	for (int i = 0; i < MAX_CONN; i++) {
		kit_write(fd[i], "1234567", 7);
		kit_expect(fd[i], "1234567");
	}
	loop_stop(t.kit.loop);
	loop_join(t.kit.loop);
	uint64_t in_all = 0;
	for (int32_t i = 0; i < loop_count(t.kit.loop); i++)
		in_all += net_stats(loop_worker(t.kit.loop, i))->accepted;
	assert_int_equal(in_all, MAX_CONN);
	for (int i = 0; i < MAX_CONN; i++)
		close(fd[i]);
	net_destroy(t.kit.net);
	loop_destroy(t.kit.loop);
}

static void unix_sockets_work_and_leave_no_file(void **state)
{
	static struct test t;
	char address[64];
	memset(&t, 0, sizeof(t));
	t.user = &echoing;
	snprintf(address, sizeof(address), "unix:/tmp/chatd-test-%d.sock", (int)getpid());
	struct chatd_listen conf = { .accepted = accepted, .arg = &t, .address = address };
	kit_listen(&t.kit, *(int *)*state, conf);
	assert_string_equal(net_bound(t.kit.listener), address);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "1234567", 7);
	kit_expect(fd, "1234567");
	WAIT_FOR(atomic_load(&t.accepted) == 1);
	assert_string_equal(t.conns[0].peer, "unix");
	refused(t.kit.net, address, -EADDRINUSE, "cannot bind \"unix:");
	close(fd);
	kit_stop(&t.kit);
	assert_int_equal(access(address + 5, F_OK), -1);
}

int main(void)
{
	static int one = 1;
	static int four = 4;
#define BOTH(f) cmocka_unit_test_prestate(f, &one), cmocka_unit_test_prestate(f, &four)
	const struct CMUnitTest tests[] = {
		BOTH(ten_megabytes_come_back_unharmed),
		BOTH(a_paused_stream_shows_nothing_until_it_goes_on),
		BOTH(a_peer_that_shut_its_side_down_gets_its_late_answer),
		BOTH(a_peer_that_shut_its_side_down_is_gone_for_who_has_no_answer),
		BOTH(a_new_user_gets_the_unread_bytes_at_once),
		BOTH(a_user_may_wait_for_many_bytes),
		BOTH(what_a_user_leaves_unread_is_bounded),
		BOTH(a_queue_over_its_limit_ends_the_stream_later),
		BOTH(a_reader_that_stalls_is_ended),
		BOTH(a_reader_that_reads_gets_all_and_drained_follows),
		BOTH(close_delivers_everything_to_a_client_that_still_sends),
		BOTH(reset_is_a_reset),
		BOTH(a_peer_that_resets_is_an_error),
		cmocka_unit_test(streams_may_be_closed_in_any_callback),
		BOTH(a_stream_may_be_closed_where_it_is_accepted),
		BOTH(stopping_ends_what_is_open),
		BOTH(the_address_really_bound_is_known_and_kept),
		BOTH(many_connections_all_find_a_worker),
		BOTH(unix_sockets_work_and_leave_no_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners when the process runs out of descriptors. */
#include "loop_kit.h"

#include <fcntl.h>
#include <sys/resource.h>

struct test {
	struct kit kit;
	atomic_int accepted;
};

static size_t echo(void *arg, const char *p, size_t n)
{
	kit_send_copy(arg, p, n);
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	(void)arg;
	(void)why;
}

static const struct chatd_stream_user user = {
	.struct_size = sizeof(user), .data = echo, .gone = on_gone
};

static void accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	(void)w;
	s->ops->attach(s, &user, s);
	atomic_fetch_add(&((struct test *)arg)->accepted, 1);
}

static rlim_t set_limit(rlim_t n)
{
	struct rlimit lim;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	rlim_t old = lim.rlim_cur;
	lim.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	return old;
}

static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	return fd;
}

static void check_echo(int fd)
{
	kit_write(fd, "ping", 4);
	kit_expect(fd, "ping");
}

static void above_nine_tenths_connections_are_refused(void **state)
{
	static struct test t;
	int fd[100];
	int n = 0;
	memset(&t, 0, sizeof(t));
	rlim_t old = set_limit(100);
	kit_listen(&t.kit, *(int *)*state, (struct chatd_listen){ .accepted = accepted, .arg = &t });
	bool refused = false;
	while (!refused) {
		assert_true(n < 100);
		fd[n] = kit_connect(&t.kit);
		char c;
		if (send(fd[n], "x", 1, MSG_NOSIGNAL) < 0 || recv(fd[n], &c, 1, 0) <= 0)
			refused = true;
		n++;
	}
	assert_in_range(lowest_free(), 88, 92);
	check_echo(fd[0]); /* nobody who was in is hurt */
	while (n > 0)
		close(fd[--n]);
	WAIT_FOR(lowest_free() < 60);
	fd[0] = kit_connect(&t.kit);
	check_echo(fd[0]);
	close(fd[0]);
	kit_stop(&t.kit);
	set_limit(old);
}

static void without_descriptors_accepting_pauses_and_goes_on(void **state)
{
	static struct test t;
	memset(&t, 0, sizeof(t));
	kit_listen(&t.kit, *(int *)*state, (struct chatd_listen){ .accepted = accepted, .arg = &t });
	int fd = kit_connect(&t.kit);
	check_echo(fd);
	int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval tv = { .tv_sec = KIT_LIMIT_MS / 1000 };
	setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	struct addr at;
	assert_int_equal(addr_parse(net_bound(t.kit.listener), &at), 0);
	rlim_t old = set_limit((rlim_t)lowest_free());
	assert_int_equal(connect(waiting, &at.u.any, at.len), 0);
	for (int i = 0; i < 20; i++)
		check_echo(fd); /* the worker is alive meanwhile */
	assert_int_equal(atomic_load(&t.accepted), 1);
	set_limit(old);
	check_echo(waiting); /* by itself, after the pause */
	close(waiting);
	close(fd);
	kit_stop(&t.kit);
}

int main(void)
{
	static int one = 1;
	static int four = 4;
#define BOTH(f) cmocka_unit_test_prestate(f, &one), cmocka_unit_test_prestate(f, &four)
	const struct CMUnitTest tests[] = {
		BOTH(above_nine_tenths_connections_are_refused),
		BOTH(without_descriptors_accepting_pauses_and_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

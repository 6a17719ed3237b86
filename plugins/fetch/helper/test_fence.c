/* SPDX-License-Identifier: Apache-2.0 */
/* What the helper can still do once it has shut itself in, and what not. */
#include "helper.h"

#include <arpa/inet.h>
#include <chatd-sdk/sandbox.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

static char executable[] = "/bin/true";

/* Each gives 0 if it could, or the errno. */
static int of(long rc)
{
	return rc < 0 ? errno : 0;
}

static int read_passwd(void)
{
	return of(open("/etc/passwd", O_RDONLY));
}

static int read_self(void)
{
	return of(open("/proc/self/mem", O_RDONLY));
}

static int list_root(void)
{
	return of(open("/", O_RDONLY | O_DIRECTORY));
}

static int write_tmp(void)
{
	return of(open("/tmp/chatd-fetch-test", O_WRONLY | O_CREAT, 0600));
}

static int remove_file(void)
{
	return of(unlink("/tmp/chatd-fetch-test"));
}

static int execute(void)
{
	char *const argv[] = { executable, NULL };
	return of(execve(executable, argv, argv + 1));
}

static int fork_one(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		_exit(0);
	}
	return of(pid);
}

static int unix_socket(void)
{
	return of(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int unix_datagrams(void)
{
	int fds[2];
	return of(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
}

static int see_routes(void)
{
	return of(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int raw_packets(void)
{
	return of(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int serve(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return of(listen(fd, 1));
}

static int take_port(void)
{
	const struct sockaddr_in a = { .sin_family = AF_INET };
	return of(bind(socket(AF_INET, SOCK_DGRAM, 0), (const struct sockaddr *)&a, sizeof(a)));
}

static int run_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return of(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int signal_parent(void)
{
	return of(kill(getppid(), 0));
}

static int trace_parent(void)
{
	return of(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int more_rights(void)
{
	const struct rlimit r = { 1, 1 };
	return of(setrlimit(RLIMIT_NOFILE, &r));
}

static int new_space(void)
{
	return of(unshare(CLONE_NEWUSER));
}

static int read_hosts(void)
{
	return of(open("/etc/hosts", O_RDONLY | O_CLOEXEC));
}

static int resolve(void)
{
	struct addrinfo *all = NULL;
	return getaddrinfo("localhost", "1", NULL, &all) ? EHOSTUNREACH : 0;
}

static int connect_out(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(1) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)connect(fd, (const struct sockaddr *)&a, sizeof(a));
	return errno == ECONNREFUSED || errno == EINPROGRESS ? 0 : errno;
}

static void *nothing(void *arg)
{
	return arg;
}

static int start_thread(void)
{
	pthread_t t;
	int rc = pthread_create(&t, NULL, nothing, NULL);
	return rc ? rc : pthread_join(t, NULL);
}

static int try_it(int (*attempt)(void))
{
	static const struct wire_setup setup = { .connections = 10, .host_connections = 2 };
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		uint32_t flaws = 0;
		if (fence_limits(&setup) < 0 || fence_enter(&flaws) < 0 || flaws & WIRE_NO_FILTER) {
			_exit(255);
		}
		/* Where the kernel has no Landlock the filter is all. */
		int rc = attempt();
		_exit(rc == 0 && flaws & WIRE_NO_LANDLOCK ? 254 : rc);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void what_it_cannot(void **state)
{
	static const struct {
		const char *name;
		int (*attempt)(void);
		int err;
	} all[] = { { "read a file", read_passwd, EACCES }, { "read memory", read_self, EACCES },
		{ "list a folder", list_root, EACCES }, { "write a file", write_tmp, EPERM },
		{ "remove a file", remove_file, EPERM }, { "start a program", execute, EPERM },
		{ "fork", fork_one, EPERM }, { "make a Unix socket", unix_socket, EPERM },
		{ "make Unix datagram sockets", unix_datagrams, EPERM },
		{ "see routes", see_routes, EPERM }, { "send raw packets", raw_packets, EPERM },
		{ "listen", serve, EPERM }, { "take a port", take_port, EPERM },
		{ "run what it wrote", run_memory, EPERM }, { "send a signal", signal_parent, EPERM },
		{ "trace", trace_parent, EPERM }, { "set a limit", more_rights, EPERM },
		{ "enter a namespace", new_space, EPERM } };
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int got = try_it(all[i].attempt);
		if (got == 254 && all[i].err == EACCES) {
			print_message("# no Landlock: it can %s\n", all[i].name);
			continue;
		}
		if (got != all[i].err) {
			print_message("# it can %s: %d\n", all[i].name, got);
		}
		assert_int_equal(got, all[i].err);
	}
}

static void what_it_can(void **state)
{
	static int (*const all[])(void) = { read_hosts, resolve, connect_out, start_thread };
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int got = try_it(all[i]);
		assert_true(got == 0 || got == 254);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_can),
		cmocka_unit_test(what_it_cannot),
	};
	if (CHATD_SANDBOX_WEAK) {
		print_message("1..0 # skip a sanitizer needs what the sandbox takes away\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

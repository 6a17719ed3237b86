/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a server of the test's own that behaves badly: F70. */
#include "test_ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the server: a process, one more per connection ------------------------------------- */

struct server {
	pid_t pid;
	int port;
	char at[32]; /* host:port */
};

static void say(int fd, const char *s)
{
	(void)!write(fd, s, strlen(s));
}

static void drip(int fd)
{
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
	for (int i = 0; i < 200; i++) {
		say(fd, "x");
		wait_ms(50);
	}
}

static void flood(int fd)
{
	char block[4096];
	memset(block, 'x', sizeof(block));
	say(fd, "HTTP/1.1 201 Created\r\nContent-Length: 10485760\r\n\r\n");
	for (int i = 0; i < 2560 && write(fd, block, sizeof(block)) > 0; i++) {
	}
}

static void headers_without_end(int fd)
{
	say(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 10000; i++) {
		say(fd, "X-Padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
	}
}

/* What it was asked, head and body, as the answer. */
static void echo(int fd, const char *request)
{
	char answer[8192];
	int n = snprintf(answer, sizeof(answer),
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s",
			strlen(request), request);
	(void)!write(fd, answer, (size_t)n);
}

static void behave(int fd, const char *request)
{
	if (strstr(request, " /stall ")) {
		wait_ms(30000);
	} else if (strstr(request, " /redirect ")) {
		say(fd,
				"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/secret\r\n"
				"Content-Length: 0\r\n\r\n");
	} else if (strstr(request, " /flood ")) {
		flood(fd);
	} else if (strstr(request, " /drip ")) {
		drip(fd);
	} else if (strstr(request, " /gone ")) {
		say(fd, "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
	} else if (strstr(request, " /busy ")) {
		say(fd, "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
	} else if (strstr(request, " /garbage ")) {
		say(fd, "no HTTP at all\r\n\r\n");
	} else if (strstr(request, " /headers ")) {
		headers_without_end(fd);
	} else {
		echo(fd, request);
	}
}

static void converse(int fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char in[4096];
	ssize_t n, have = 0;
	while ((n = read(fd, in + have, sizeof(in) - 1 - (size_t)have)) > 0) {
		have += n;
		in[have] = '\0';
		if (in[0] == 0x16) {
			say(fd, "HTTP/1.1 400 This is no TLS\r\n\r\n");
			_exit(0);
		}
		char *body = strstr(in, "\r\n\r\n");
		char *length = strstr(in, "Content-Length: ");
		if (body && (!length || strlen(body + 4) >= strtoul(length + 16, NULL, 10))) {
			behave(fd, in);
			have = 0;
		}
	}
	_exit(0);
}

static void serve(int listener)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd >= 0 && fork() == 0) {
			close(listener);
			converse(fd);
		}
		close(fd);
	}
}

/* Its connections' processes are of its group and end with it. */
static struct server server_start(void)
{
	struct server s;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	s.port = ntohs(a.sin_port);
	snprintf(s.at, sizeof(s.at), "127.0.0.1:%d", s.port);
	s.pid = fork();
	if (s.pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also of a test that crashes nothing is left */
		serve(fd);
	}
	setpgid(s.pid, s.pid);
	close(fd);
	return s;
}

static void server_stop(const struct server *s)
{
	kill(-s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

/* ---- asking ------------------------------------------------------------------------------- */

static struct chatd_fetch_request get(
		char *url, size_t cap, const struct server *s, const char *path)
{
	snprintf(url, cap, "http://%s%s", s->at, path);
	return (struct chatd_fetch_request){ .struct_size = sizeof(struct chatd_fetch_request),
		.flags = CHATD_FETCH_OUTSIDE,
		.method = CHATD_LIT("GET"),
		.url = { url, strlen(url) },
		.timeout = 20000 };
}

static struct kit *start(const struct server *s, const char *more)
{
	char yaml[256];
	snprintf(yaml, sizeof(yaml), "outside_allow: [\"%s\"]\n%s", s->at, more);
	return kit_new(&chatd_plugin_under_test, yaml);
}

static void ask_path_for(const char *path, int64_t ms, struct got *g)
{
	char url[128];
	struct server s = server_start();
	struct kit *k = start(&s, "");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, path);
	q.timeout = ms;
	ask(k, &q, g);
	until(k, g);
	assert_int_equal(g->at_once, 0);
	assert_int_equal(g->n, 1);
	kit_free(k);
	server_stop(&s);
}

static void ask_path(const char *path, struct got *g)
{
	ask_path_for(path, 20000, g);
}

/* ---- tests ----------------------------------------------------------------------------------- */

TEST(a_request_goes_out_as_it_was_given)
{
	UNUSED;
	char url[128];
	struct got g;
	struct server s = server_start();
	struct kit *k = start(&s, "");
	const struct chatd_str headers[] = { CHATD_LIT("TTL: 60"), CHATD_LIT("Content-Type: a/b") };
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/x?y=1");
	q.method = CHATD_LIT("POST");
	q.body = CHATD_LIT("body");
	q.headers = headers;
	q.n_headers = 2;
	for (int i = 0; i < 3; i++) { /* the connection is used again */
		ask(k, &q, &g);
		until(k, &g);
		assert_int_equal(g.rc, 0);
		assert_int_equal(g.status, 200);
		assert_non_null(strstr(g.body, "POST /x?y=1 HTTP/1.1\r\n"));
		assert_non_null(strstr(g.body, "TTL: 60\r\n"));
		assert_non_null(strstr(g.body, "Content-Type: a/b\r\n"));
		assert_non_null(strstr(g.body, "User-Agent: chatd\r\n"));
		assert_non_null(strstr(g.body, "\r\n\r\nbody"));
	}
	q.body.p = NULL;
	q.n_headers = 0;
	ask(k, &q, &g);
	until(k, &g);
	assert_non_null(strstr(g.body, "Content-Length: 0\r\n"));
	kit_free(k);
	server_stop(&s);
}

TEST(a_stall_ends_in_time)
{
	UNUSED;
	struct got g;
	ask_path_for("/stall", 400, &g);
	assert_int_equal(g.rc, -ETIMEDOUT);
	assert_int_equal(g.status, 0);
}

TEST(a_slow_drip_ends_in_time)
{
	UNUSED;
	struct got g;
	ask_path_for("/drip", 2000, &g);
	assert_int_equal(g.rc, -ETIMEDOUT);
	assert_int_equal(g.status, 200);
}

TEST(a_redirect_is_not_followed)
{
	UNUSED;
	struct got g;
	ask_path("/redirect", &g);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.status, 301);
}

TEST(a_large_answer_is_cut)
{
	UNUSED;
	struct got g;
	ask_path("/flood", &g);
	assert_int_equal(g.rc, -EMSGSIZE);
	assert_int_equal(g.status, 201);
	ask_path("/headers", &g);
	assert_int_equal(g.rc, -EMSGSIZE);
}

TEST(statuses_are_told)
{
	UNUSED;
	struct got g;
	ask_path("/gone", &g);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.status, 410);
	ask_path("/busy", &g);
	assert_int_equal(g.status, 429);
	assert_int_equal(g.retry_after, 7000);
}

TEST(what_is_no_http_is_an_error)
{
	UNUSED;
	char url[128];
	struct got g;
	ask_path("/garbage", &g);
	assert_int_equal(g.rc, -EPROTO);
	struct server s = server_start();
	struct kit *k = start(&s, "");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/");
	char tls[128];
	snprintf(tls, sizeof(tls), "https://%s/", s.at); /* which speaks no TLS */
	q.url = chatd_str_of(tls, strlen(tls));
	ask(k, &q, &g);
	until(k, &g);
	assert_int_equal(g.rc, -EPROTO);
	assert_int_equal(g.status, 0);
	kit_free(k);
	server_stop(&s);
}

TEST(nobody_listens)
{
	UNUSED;
	char url[128];
	struct got g;
	struct server s = server_start();
	server_stop(&s);
	struct kit *k = start(&s, "");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/");
	ask(k, &q, &g);
	until(k, &g);
	assert_int_equal(g.rc, -ECONNREFUSED);
	kit_free(k);
}

/* A public name whose address is not: localhost, which every machine has. */
TEST(the_address_connected_to_is_looked_at)
{
	UNUSED;
	struct got g;
	struct server s = server_start();
	struct kit *k = start(&s, "");
	struct chatd_fetch_request q = { .struct_size = sizeof(q),
		.flags = CHATD_FETCH_OUTSIDE,
		.method = CHATD_LIT("GET"),
		.url = CHATD_LIT("https://localhost/"),
		.timeout = 5000 };
	ask(k, &q, &g);
	until(k, &g);
	assert_int_equal(g.rc, -EACCES);
	assert_non_null(strstr(g.why, "public"));
	q.url = CHATD_LIT("https://127.0.0.1/");
	ask(k, &q, &g);
	assert_int_equal(g.at_once, -EACCES);
	kit_free(k);
	server_stop(&s);
}

TEST(bad_requests_are_refused_at_once)
{
	UNUSED;
	char url[128];
	struct got g;
	struct server s = server_start();
	struct kit *k = start(&s, "");
	const struct chatd_fetch_request good = get(url, sizeof(url), &s, "/");
	const struct chatd_str inject[] = { CHATD_LIT("A: b\r\nC: d") };
	const struct chatd_str none[] = { CHATD_LIT("no colon") };
	struct chatd_fetch_request bad[] = { good, good, good, good, good };
	bad[0].method = CHATD_LIT("GET / HTTP/1.1");
	bad[1].headers = inject;
	bad[1].n_headers = 1;
	bad[2].headers = none;
	bad[2].n_headers = 1;
	bad[3].body = chatd_str_of(url, CHATD_FETCH_BODY_MAX + 1);
	bad[4].url = CHATD_LIT("gopher://example.org/");
	for (size_t i = 0; i < 5; i++) {
		ask(k, &bad[i], &g);
		assert_int_equal(g.at_once, -EINVAL);
	}
	kit_free(k);
	server_stop(&s);
}

TEST(no_more_than_the_limit)
{
	UNUSED;
	char url[128];
	struct got g[3];
	struct server s = server_start();
	struct kit *k = start(&s, "limit: 2\n");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/");
	for (int i = 0; i < 3; i++) {
		ask(k, &q, &g[i]);
	}
	assert_int_equal(g[2].at_once, -EAGAIN);
	until(k, &g[0]);
	until(k, &g[1]);
	ask(k, &q, &g[2]);
	assert_int_equal(g[2].at_once, 0);
	until(k, &g[2]);
	assert_int_equal(g[2].status, 200);
	kit_free(k);
	server_stop(&s);
}

TEST(few_connections_serve_many_requests)
{
	UNUSED;
	char url[128];
	struct got g[20];
	struct server s = server_start();
	struct kit *k = start(&s, "connections: 2\nhost_connections: 2\n");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/");
	for (int i = 0; i < 20; i++) {
		ask(k, &q, &g[i]);
	}
	for (int i = 0; i < 20; i++) {
		until(k, &g[i]);
		assert_int_equal(g[i].status, 200);
	}
	kit_free(k);
	server_stop(&s);
}

TEST(whoever_waits_is_told_of_the_end)
{
	UNUSED;
	char url[128];
	struct got g;
	struct server s = server_start();
	struct kit *k = start(&s, "");
	struct chatd_fetch_request q = get(url, sizeof(url), &s, "/stall");
	q.timeout = 60000;
	ask(k, &q, &g);
	for (int i = 0; i < 10; i++) {
		pump(k);
	}
	assert_int_equal(g.n, 0);
	kit_free(k);
	assert_int_equal(g.n, 1);
	assert_int_equal(g.rc, -ESHUTDOWN);
	server_stop(&s);
}

TEST(options_that_make_no_sense)
{
	UNUSED;
	char *c = kit_complaints(
			&chatd_plugin_under_test, "outside_allow: [\"http://x/\"]\noutside_hosts: [\"a*\"]");
	assert_non_null(strstr(c, "\"http://x/\" is no HOST:PORT"));
	assert_non_null(strstr(c, "\"a*\" is no host"));
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_goes_out_as_it_was_given),
		cmocka_unit_test(a_stall_ends_in_time),
		cmocka_unit_test(a_slow_drip_ends_in_time),
		cmocka_unit_test(a_redirect_is_not_followed),
		cmocka_unit_test(a_large_answer_is_cut),
		cmocka_unit_test(statuses_are_told),
		cmocka_unit_test(what_is_no_http_is_an_error),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(the_address_connected_to_is_looked_at),
		cmocka_unit_test(bad_requests_are_refused_at_once),
		cmocka_unit_test(no_more_than_the_limit),
		cmocka_unit_test(few_connections_serve_many_requests),
		cmocka_unit_test(whoever_waits_is_told_of_the_end),
		cmocka_unit_test(options_that_make_no_sense),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

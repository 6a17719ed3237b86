/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of core/loop share: a running loop with one listener, blocking client
 * sockets with a time limit, and waiting for something that another thread brings about.
 * Assertions only ever run on the test's own thread.
 */
#ifndef TEST_LOOP_KIT_H
#define TEST_LOOP_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/buf.h"
#include "loop/net.h"
#include "loop/worker.h"

enum { KIT_LIMIT_MS = 30000 };

/** Until @p cond holds; fails the test if that takes absurdly long. */
#define WAIT_FOR(cond)                                        \
	do {                                                      \
		int64_t end_ = worker_clock_ms() + KIT_LIMIT_MS;      \
		while (!(cond)) {                                     \
			if (worker_clock_ms() > end_)                     \
				fail_msg("never came true: %s", #cond);       \
			nanosleep(&(struct timespec){ 0, 500000 }, NULL); \
		}                                                     \
	} while (0)

struct kit {
	struct loop *loop;
	struct net *net;
	struct net_listener *listener;
};

static inline struct loop *kit_loop(int workers)
{
	struct loop_conf conf = { .workers = workers, .offload_threads = 2, .offload_queue = 4 };
	struct loop *loop = loop_create(&conf);
	assert_non_null(loop);
	return loop;
}

static inline void kit_listen(struct kit *k, int workers, struct chatd_listen conf)
{
	struct net_error err;
	k->loop = kit_loop(workers);
	k->net = net_create(k->loop);
	assert_non_null(k->net);
	conf.struct_size = sizeof(conf);
	if (!conf.address)
		conf.address = "127.0.0.1:0";
	if (!conf.kind)
		conf.kind = "test";
	if (net_listen(k->net, &conf, &k->listener, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(loop_start(k->loop), 0);
	assert_int_equal(net_accept_start(k->net), 0);
}

static inline void kit_stop(struct kit *k)
{
	loop_stop(k->loop);
	loop_join(k->loop);
	net_destroy(k->net);
	loop_destroy(k->loop);
}

/** A connected blocking socket; a read or write that takes longer than the limit fails. */
static inline int kit_connect(const struct kit *k)
{
	struct addr at;
	assert_int_equal(addr_parse(net_bound(k->listener), &at), 0);
	int fd = socket(at.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	struct timeval tv = { .tv_sec = KIT_LIMIT_MS / 1000 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, &at.u.any, at.len) < 0)
		fail_msg("connect %s: %s", net_bound(k->listener), strerror(errno));
	return fd;
}

static inline void kit_write(int fd, const void *p, size_t n)
{
	const char *c = p;
	while (n > 0) {
		ssize_t rc = send(fd, c, n, MSG_NOSIGNAL);
		if (rc <= 0)
			fail_msg("send: %s", strerror(errno));
		c += rc;
		n -= (size_t)rc;
	}
}

/** Reads until @p n bytes or the end; returns how many; *ret_errno: 0 or why it ended. */
static inline size_t kit_read(int fd, char *p, size_t n, int *ret_errno)
{
	size_t got = 0;
	*ret_errno = 0;
	while (got < n) {
		ssize_t rc = recv(fd, p + got, n - got, 0);
		if (rc < 0)
			*ret_errno = errno;
		if (rc <= 0)
			break;
		got += (size_t)rc;
	}
	return got;
}

static inline void kit_expect(int fd, const char *text)
{
	char buf[256];
	int err;
	size_t n = strlen(text);
	assert_true(n < sizeof(buf));
	size_t got = kit_read(fd, buf, n, &err);
	buf[got] = '\0';
	assert_string_equal(buf, text);
}

static inline void kit_expect_eof(int fd)
{
	char c;
	ssize_t rc = recv(fd, &c, 1, 0);
	if (rc != 0)
		fail_msg("no EOF but %zd: %s", rc, rc < 0 ? strerror(errno) : "a byte");
}

static inline void kit_expect_end(int fd)
{
	char c;
	ssize_t rc = recv(fd, &c, 1, 0);
	if (rc > 0 || (rc < 0 && errno != ECONNRESET))
		fail_msg("the connection is still there: %zd %s", rc, strerror(errno));
}

static inline void kit_send_copy(chatd_stream *s, const void *p, size_t n)
{
	chatd_buf *b = buf_new(0, n);
	if (!b)
		abort();
	memcpy(buf_data(b), p, n);
	s->ops->send(s, b);
	buf_unref(b);
}

#endif

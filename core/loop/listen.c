/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum {
	BACKLOG = 4096,
	ACCEPTS_PER_EVENT = 64,
	REST_MS = 100,              /* without descriptors, accepting only burns CPU */
	USER_TIMEOUT_MS = 30000,    /* unacknowledged data: the peer's machine is gone */
	KEEPALIVE_S = 120,          /* idle: likewise, found out by probes */
	NOTSENT_LOWAT = 128 * 1024, /* what one stalled reader may hold in the kernel */
};

static int fail(struct net_error *err, const char *address, const char *what)
{
	int rc = -errno;
	const char *why = rc == -EADDRINUSE
			? "another program listens there; choose another port or stop it"
			: rc == -EADDRNOTAVAIL ? "this machine has no such address"
			: rc == -EACCES        ? "not permitted; ports below 1024 need a privilege"
								   : strerror(-rc);
	snprintf(err->text, sizeof(err->text), "cannot %s \"%s\": %s", what, address, why);
	return rc;
}

static void set(int fd, int level, int option, int value)
{
	/* Of use, but nothing depends on it: an old kernel may refuse. */
	setsockopt(fd, level, option, &value, sizeof(value));
}

/** Accepted sockets inherit all of this on Linux: no system call per connection. */
static void tune(int fd)
{
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
	set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
}

static int open_tcp(const struct addr *at, bool first)
{
	int fd = socket(at->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->u.any.sa_family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!first)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	tune(fd);
	if (bind(fd, &at->u.any, at->len) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	/* Only after bind(): sharing the port with ourselves is meant, but a port that some
	 * other process holds, even one of the same user, must be an error. */
	if (first)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return fd;
}

static int open_all_tcp(struct net_listener *l, struct addr *at, struct net_error *err)
{
	for (int32_t i = 0; i < l->n; i++) {
		int fd = open_tcp(at, i == 0);
		if (fd < 0) {
			errno = -fd;
			return fail(err, l->conf.address, "bind");
		}
		l->acceptors[i].fd = fd;
		at->len = sizeof(at->u);
		if (i == 0 && getsockname(fd, &at->u.any, &at->len) < 0)
			return fail(err, l->conf.address, "bind");
		if (listen(fd, BACKLOG) < 0)
			return fail(err, l->conf.address, "listen on");
		at->len = at->u.any.sa_family == AF_INET ? sizeof(at->u.v4) : sizeof(at->u.v6);
	}
	return 0;
}

/** A socket file that a dead server left behind is in nobody's way. */
static int clear_stale(const struct addr *at)
{
	struct stat st;
	if (lstat(at->u.un.sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int rc = connect(fd, &at->u.any, at->len) < 0 ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(at->u.un.sun_path) < 0 ? -errno : 0;
}

static int open_unix(struct net_listener *l, const struct addr *at, struct net_error *err)
{
	errno = -clear_stale(at);
	if (errno)
		return fail(err, l->conf.address, "bind");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, l->conf.address, "bind");
	l->acceptors[0].fd = fd;
	if (bind(fd, &at->u.any, at->len) < 0)
		return fail(err, l->conf.address, "bind");
	l->is_unix = true;
	l->unix_path = strdup(at->u.un.sun_path);
	if (listen(fd, BACKLOG) < 0)
		return fail(err, l->conf.address, "listen on");
	/* One queue that all workers accept from: there is no SO_REUSEPORT for files. */
	for (int32_t i = 1; i < l->n; i++) {
		l->acceptors[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (l->acceptors[i].fd < 0)
			return fail(err, l->conf.address, "listen on");
	}
	return 0;
}

int listen_open(struct net_listener *l, struct net_error *ret_err)
{
	struct addr at;
	if (!l->conf.address || addr_parse(l->conf.address, &at) < 0) {
		snprintf(ret_err->text, sizeof(ret_err->text),
				"\"%s\" is no address to listen on; write for example \"127.0.0.1:8080\", "
				"\"0.0.0.0:8080\", \"[::]:8080\" or \"unix:/run/chatd.sock\"",
				l->conf.address ? l->conf.address : "");
		return -EINVAL;
	}
	int rc = at.u.any.sa_family == AF_UNIX ? open_unix(l, &at, ret_err)
										   : open_all_tcp(l, &at, ret_err);
	if (rc == 0)
		addr_print(&at, l->bound, sizeof(l->bound));
	return rc;
}

void listen_close(struct net_listener *l)
{
	for (int32_t i = 0; i < l->n; i++) {
		if (l->acceptors[i].fd >= 0)
			close(l->acceptors[i].fd);
		l->acceptors[i].fd = -1;
	}
	if (l->is_unix && l->unix_path)
		unlink(l->unix_path);
	free(l->unix_path);
	l->unix_path = NULL;
	l->is_unix = false;
}

/* ---- accepting --------------------------------------------------------- */

static void on_rested(void *arg)
{
	struct acceptor *a = arg;
	if (a->ev)
		event_add(a->ev, NULL);
}

static void rest(struct acceptor *a, const char *why)
{
	log_limited(CHATD_LOG_WARN, a->listener->conf.kind, "accepting paused",
			"%s: accepting paused for %d ms: %s", a->listener->bound, REST_MS, why);
	event_del(a->ev);
	worker_timer_set(a->nw->w, &a->rest, REST_MS, on_rested, a);
}

static void take(struct acceptor *a, int fd, const struct addr *peer)
{
	/* The kernel gives out the lowest free number, so the number tells how many are in use. */
	if (fd >= a->nw->net->fd_max) {
		a->nw->stats.refused++;
		log_limited(CHATD_LOG_WARN, a->listener->conf.kind, "too many connections",
				"%s: connection refused: nine tenths of the descriptors are in use; raise "
				"LimitNOFILE or ulimit -n",
				a->listener->bound);
		close(fd);
		return;
	}
	struct stream *s = stream_new(a, fd, peer);
	if (s)
		stream_start(s);
}

static void on_acceptable(evutil_socket_t listener, short what, void *arg)
{
	(void)what;
	struct acceptor *a = arg;
	for (int i = 0; i < ACCEPTS_PER_EVENT && a->ev; i++) {
		struct addr peer;
		memset(&peer, 0, sizeof(peer));
		peer.len = sizeof(peer.u);
		int fd = accept4(listener, &peer.u.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			take(a, fd, &peer);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			rest(a, strerror(errno));
		else if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO)
			continue;
		return;
	}
}

int acceptor_start(struct acceptor *a)
{
	if (a->ev || a->fd < 0)
		return 0;
	a->ev = event_new(worker_base(a->nw->w), a->fd, EV_READ | EV_PERSIST, on_acceptable, a);
	return a->ev && event_add(a->ev, NULL) == 0 ? 0 : -ENOMEM;
}

void acceptor_stop(struct acceptor *a)
{
	worker_timer_clear(&a->rest);
	if (a->ev)
		event_free(a->ev);
	a->ev = NULL;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

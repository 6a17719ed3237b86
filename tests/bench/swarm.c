/* SPDX-License-Identifier: Apache-2.0 */
#include "swarm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IN_SIZE = 262144,
	TEXT_MAX = 2048,
	PENDING_MAX = 64,   /* handshakes at once while filling */
	OUT_MAX = 16 << 20, /* unsent bytes of one connection */
	COMPLAINTS_MAX = 5
};

#define STUCK_NS 60000000000u

static const char *const state_names[] = { "free", "dialing", "upgrading", "logging in", "joining",
	"subscribing", "ready", "leaving", "closing" };

static void die(const char *what)
{
	fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

void swarm_complain(
		struct swarm *s, const struct swarm_conn *c, const char *what, struct wire_str detail)
{
	if (s->complaints++ >= COMPLAINTS_MAX)
		return;
	fprintf(stderr, "bench-load: connection %u (%s): %s%s%.*s\n", c->index, state_names[c->state],
			what, detail.n ? ": " : "", (int)detail.n, detail.p ? detail.p : "");
}

static void complain(struct swarm *s, const struct swarm_conn *c, const char *what)
{
	swarm_complain(s, c, what, (struct wire_str){ NULL, 0 });
}

void swarm_init(struct swarm *s, const struct swarm_target *to, uint32_t cap)
{
	*s = (struct swarm){ .to = *to, .cap = cap };
	s->ep = epoll_create1(EPOLL_CLOEXEC);
	s->conn = calloc(cap, sizeof *s->conn);
	s->buf = malloc(IN_SIZE);
	if (s->ep < 0 || !s->conn || !s->buf)
		die("start");
	for (uint32_t i = 0; i < cap; i++) {
		s->conn[i].fd = -1;
		s->conn[i].index = i;
	}
}

void swarm_drop(struct swarm *s, struct swarm_conn *c)
{
	if (c->state == SWARM_FREE)
		return;
	if (c->state == SWARM_READY)
		s->ready--;
	else if (c->state < SWARM_READY)
		s->pending--;
	s->opened--;
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c->user);
	c->fd = -1;
	c->state = SWARM_FREE;
	c->in = c->out = c->user = NULL;
	c->in_len = c->out_len = 0;
	c->writing = false;
	c->life++;
}

void swarm_finish(struct swarm *s)
{
	for (uint32_t i = 0; i < s->cap; i++)
		swarm_drop(s, &s->conn[i]);
	close(s->ep);
	free(s->conn);
	free(s->buf);
}

static void lost(struct swarm *s, struct swarm_conn *c, const char *why)
{
	complain(s, c, why);
	s->disconnects++;
	swarm_drop(s, c);
}

static void watch(struct swarm *s, struct swarm_conn *c, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (epoll_ctl(s->ep, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static void advance(struct swarm *s, struct swarm_conn *c, enum swarm_state to)
{
	if (c->state < SWARM_READY && to >= SWARM_READY)
		s->pending--;
	if (c->state == SWARM_READY)
		s->ready--;
	if (to == SWARM_READY)
		s->ready++;
	c->state = (uint8_t)to;
}

static const struct swarm_node *node_of(const struct swarm *s, const struct swarm_conn *c)
{
	return &s->to.node[c->index % s->to.nodes];
}

void swarm_open(struct swarm *s, struct swarm_conn *c, const struct swarm_role *role)
{
	const struct swarm_node *node = node_of(s, c);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(node->port) };
	struct sockaddr_in from = { .sin_family = AF_INET };
	static const int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (s->to.sources > 1) {
		/* The port is chosen at connect, so that only pairs of addresses must differ. */
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + s->dials++ % s->to.sources);
		if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0)
			die("bind");
	}
	if (inet_pton(AF_INET, node->host, &to.sin_addr) != 1) {
		fprintf(stderr, "bench-load: \"%s\" is not an IPv4 address\n", node->host);
		exit(64);
	}
	if (role)
		c->role = role;
	c->state = SWARM_DIALING;
	s->opened++;
	s->pending++;
	if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
		lost(s, c, strerror(errno));
		return;
	}
	watch(s, c, EPOLL_CTL_ADD, EPOLLOUT);
}

void swarm_write(struct swarm *s, struct swarm_conn *c, const char *p, size_t n)
{
	ssize_t done = 0;

	if (!c->writing)
		done = send(c->fd, p, n, MSG_NOSIGNAL);
	if (done < 0 && errno != EAGAIN) {
		/* A server that closes first after DISCONNECT is in its right. */
		if (c->state < SWARM_LEAVING)
			complain(s, c, strerror(errno));
		return;
	}
	if (done < 0)
		done = 0;
	if ((size_t)done == n)
		return;
	n -= (size_t)done;
	if (c->out_len + n > OUT_MAX) {
		complain(s, c, "the server does not read");
		s->errors++;
		return;
	}
	c->out = realloc(c->out, c->out_len + n);
	if (!c->out)
		die("memory");
	memcpy(c->out + c->out_len, p + done, n);
	c->out_len += (uint32_t)n;
	if (!c->writing)
		watch(s, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
	c->writing = true;
}

void swarm_frame(struct swarm *s, struct swarm_conn *c, const char *text)
{
	char out[WIRE_HEAD_MAX + TEXT_MAX];
	size_t n = strlen(text) + 1;

	if (n > TEXT_MAX) {
		errno = EMSGSIZE;
		die("frame");
	}
	swarm_write(s, c, out, wire_client_frame(out, WIRE_TEXT, text, n));
}

static void say_connect(struct swarm *s, struct swarm_conn *c)
{
	char text[TEXT_MAX], number[16] = "";
	const struct swarm_target *t = &s->to;

	/* Whoever connects again is somebody else, too. */
	if (t->numbered)
		snprintf(number, sizeof number, "%u", s->logins++);
	snprintf(text, sizeof text,
			"CONNECT\naccept-version:1.2\nhost:%s\nheart-beat:0,0\n%s%s%s%s%s%s%s\n",
			node_of(s, c)->host, t->login ? "login:" : "", t->login ? t->login : "", number,
			t->login ? "\n" : "", t->passcode ? "passcode:" : "", t->passcode ? t->passcode : "",
			t->passcode ? "\n" : "");
	advance(s, c, SWARM_LOGIN);
	swarm_frame(s, c, text);
}

static void say_subscribe(struct swarm *s, struct swarm_conn *c)
{
	char text[TEXT_MAX];

	if (!c->role->topic) {
		advance(s, c, SWARM_READY);
		s->hooks.on_ready(s->hooks.arg, c);
		return;
	}
	snprintf(text, sizeof text, "SUBSCRIBE\nid:sub-0\ndestination:%s\nreceipt:s\n\n",
			c->role->topic);
	advance(s, c, SWARM_SUBSCRIBING);
	swarm_frame(s, c, text);
}

static void say_join(struct swarm *s, struct swarm_conn *c)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof text,
			"SEND\ndestination:/app/chat.join\ncontent-type:application/json\nreceipt:j\n\n"
			"{\"roomId\":\"%s\"}",
			c->role->room);
	advance(s, c, SWARM_JOINING);
	swarm_frame(s, c, text);
}

void swarm_leave(struct swarm *s, struct swarm_conn *c)
{
	advance(s, c, SWARM_LEAVING);
	swarm_frame(s, c, "DISCONNECT\nreceipt:d\n\n");
}

static void on_connected(struct swarm *s, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct wire_str user = wire_header(f, "user-name");

	if (user.p)
		c->user = strndup(user.p, user.n);
	if (c->role->errors)
		swarm_frame(s, c, "SUBSCRIBE\nid:sub-errors\ndestination:/user/queue/errors\n\n");
	if (c->role->room)
		say_join(s, c);
	else
		say_subscribe(s, c);
}

static void on_receipt(struct swarm *s, struct swarm_conn *c, const struct wire_stomp *f)
{
	char bye[WIRE_HEAD_MAX + 2];

	if (c->state == SWARM_JOINING) {
		say_subscribe(s, c);
	} else if (c->state == SWARM_SUBSCRIBING) {
		advance(s, c, SWARM_READY);
		s->hooks.on_ready(s->hooks.arg, c);
	} else if (c->state == SWARM_READY && s->hooks.on_receipt) {
		s->hooks.on_receipt(s->hooks.arg, c, f);
	} else if (c->state == SWARM_LEAVING) {
		advance(s, c, SWARM_CLOSING);
		swarm_write(s, c, bye, wire_client_frame(bye, WIRE_CLOSE, "\x03\xe8", 2));
	}
}

static void on_stomp(struct swarm *s, struct swarm_conn *c, const struct wire_frame *ws)
{
	struct wire_stomp f;
	int rc = wire_stomp_parse(ws->data, ws->len, &f);

	if (rc == 0)
		return;
	if (rc < 0) {
		swarm_complain(s, c, "not a STOMP frame", (struct wire_str){ ws->data, ws->len });
		s->errors++;
	} else if (wire_is(f.command, "MESSAGE")) {
		if (wire_is(wire_header(&f, "subscription"), "sub-errors")) {
			swarm_complain(s, c, "refused", f.body);
			s->errors++;
		} else {
			s->hooks.on_message(s->hooks.arg, c, &f);
		}
	} else if (wire_is(f.command, "RECEIPT")) {
		on_receipt(s, c, &f);
	} else if (wire_is(f.command, "CONNECTED") && c->state == SWARM_LOGIN) {
		on_connected(s, c, &f);
	} else {
		swarm_complain(s, c, "unexpected frame", (struct wire_str){ ws->data, ws->len });
		s->errors++;
	}
}

static size_t on_upgraded(struct swarm *s, struct swarm_conn *c, const char *p, size_t n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);

	if (!end)
		return 0;
	size_t head = (size_t)(end + 4 - p);
	if (head < 13 || memcmp(p, "HTTP/1.1 101 ", 13) != 0 ||
			!memmem(p, head, WIRE_ACCEPT, sizeof WIRE_ACCEPT - 1)) {
		swarm_complain(s, c, "no upgrade", (struct wire_str){ p, n });
		lost(s, c, "refused");
		return 0;
	}
	say_connect(s, c);
	return head;
}

static void finished(struct swarm *s, struct swarm_conn *c)
{
	swarm_drop(s, c);
	s->hooks.on_left(s->hooks.arg, c);
}

static void on_frame(struct swarm *s, struct swarm_conn *c, const struct wire_frame *ws)
{
	char out[WIRE_HEAD_MAX + 125];

	if (ws->op == WIRE_TEXT || ws->op == WIRE_BINARY) {
		on_stomp(s, c, ws);
	} else if (ws->op == WIRE_PING && ws->len <= 125) {
		swarm_write(s, c, out, wire_client_frame(out, WIRE_PONG, ws->data, ws->len));
	} else if (ws->op == WIRE_CLOSE) {
		if (c->state == SWARM_CLOSING)
			finished(s, c);
		else
			lost(s, c, "the server closed the WebSocket");
	}
}

/* Handles every whole frame at p; what is left over is kept for the next read. */
static void consume(struct swarm *s, struct swarm_conn *c, char *p, size_t n)
{
	uint32_t life = c->life;
	size_t used = 0;
	struct wire_frame ws;
	int rc = 1;

	if (c->state == SWARM_UPGRADING)
		used = on_upgraded(s, c, p, n);
	while (life == c->life && c->state > SWARM_UPGRADING &&
			(rc = wire_parse(p + used, n - used, &ws)) == 1) {
		used += ws.size;
		on_frame(s, c, &ws);
	}
	if (life != c->life)
		return;
	if (rc < 0 || n - used >= IN_SIZE) {
		lost(s, c, "a frame that this client does not read (fragmented, or too large)");
		return;
	}
	if (used == n)
		return;
	c->in_len = (uint32_t)(n - used);
	c->in = malloc(c->in_len);
	if (!c->in)
		die("memory");
	memcpy(c->in, p + used, c->in_len);
}

static void on_readable(struct swarm *s, struct swarm_conn *c)
{
	size_t have = c->in_len;
	ssize_t n;

	if (have > 0)
		memcpy(s->buf, c->in, have);
	n = recv(c->fd, s->buf + have, IN_SIZE - have, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		if (c->state == SWARM_CLOSING)
			finished(s, c);
		else
			lost(s, c, n == 0 ? "the server closed the connection" : strerror(errno));
		return;
	}
	free(c->in);
	c->in = NULL;
	c->in_len = 0;
	s->reads++;
	s->bytes_in += (uint64_t)n;
	consume(s, c, s->buf, have + (size_t)n);
}

static void say_upgrade(struct swarm *s, struct swarm_conn *c)
{
	const struct swarm_node *node = node_of(s, c);
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof text,
			"GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Key: " WIRE_KEY "\r\nSec-WebSocket-Version: 13\r\n"
			"Sec-WebSocket-Protocol: v12.stomp\r\n\r\n",
			s->to.path, node->host, node->port);

	watch(s, c, EPOLL_CTL_MOD, EPOLLIN);
	advance(s, c, SWARM_UPGRADING);
	swarm_write(s, c, text, (size_t)n);
}

static void on_writable(struct swarm *s, struct swarm_conn *c)
{
	int error = 0;
	socklen_t len = sizeof error;
	ssize_t done;

	if (c->state == SWARM_DIALING) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error)
			lost(s, c, strerror(error));
		else
			say_upgrade(s, c);
		return;
	}
	if (!c->writing)
		return;
	done = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
	if (done <= 0)
		return;
	c->out_len -= (uint32_t)done;
	memmove(c->out, c->out + done, c->out_len);
	if (c->out_len > 0)
		return;
	free(c->out);
	c->out = NULL;
	c->writing = false;
	watch(s, c, EPOLL_CTL_MOD, EPOLLIN);
}

void swarm_turn(struct swarm *s, uint64_t wait_ns)
{
	struct timespec wait = { (time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u) };
	struct epoll_event ev[256];
	int n = epoll_pwait2(s->ep, ev, 256, &wait, NULL);

	if (n < 0 && errno != EINTR)
		die("epoll_pwait2");
	for (int i = 0; i < n; i++) {
		struct swarm_conn *c = ev[i].data.ptr;
		uint32_t life = c->life;
		if (ev[i].events & EPOLLOUT || c->state == SWARM_DIALING)
			on_writable(s, c);
		if (ev[i].events & ~(uint32_t)EPOLLOUT && life == c->life && c->state > SWARM_DIALING)
			on_readable(s, c);
	}
}

void swarm_rest(struct swarm *s, double seconds)
{
	uint64_t end = wire_now() + (uint64_t)(seconds * 1e9);

	for (uint64_t now = wire_now(); now < end; now = wire_now())
		swarm_turn(s, end - now);
}

void swarm_hold(struct swarm *s)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };

	fprintf(stderr, "bench-load: %u connections are open; waiting for a line on stdin\n", s->ready);
	while (poll(&in, 1, 0) == 0)
		swarm_turn(s, 20000000);
}

bool swarm_fill(struct swarm *s, uint32_t first, uint32_t count, const struct swarm_role *role)
{
	uint32_t next = first, ready = s->ready;
	uint32_t want = s->ready + count;
	uint64_t moved = wire_now();

	while (s->ready < want && s->disconnects == 0) {
		while (next < first + count && s->pending < PENDING_MAX)
			swarm_open(s, &s->conn[next++], role);
		swarm_turn(s, 100000000);
		if (s->ready != ready) {
			ready = s->ready;
			moved = wire_now();
		} else if (wire_now() - moved > STUCK_NS) {
			swarm_complain(
					s, &s->conn[first], "no answer for a minute", (struct wire_str){ NULL, 0 });
			return false;
		}
	}
	return s->disconnects == 0;
}

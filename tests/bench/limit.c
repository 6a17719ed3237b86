/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The yardstick: a broadcaster on bare epoll that does the least a STOMP broker can do with the
 * same bytes. One thread; a frame is rendered and framed once for all subscribers with the same
 * subscription id; what one loop turn publishes to them leaves in one send() per connection,
 * straight from that one buffer. No heart-beats, no limits, no errors worth the name: a peer that
 * breaks the protocol is hung up on. A server that costs 1.0 x limit is as good as the kernel lets
 * it be.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IN_SIZE = 65536,       /* one read, shared by all connections */
	BACKLOG_MAX = 8 << 20, /* a reader this far behind is hung up on */
	TOPIC_BUCKETS = 1024,
	NAME_MAX_LEN = 200
};

struct buf {
	char *p;
	size_t len, cap;
};

struct group;

struct conn {
	int fd;
	bool upgraded;
	bool dead;       /* shut down, waits for its last event */
	uint32_t slot;   /* its place in group->member */
	uint32_t in_len; /* an incomplete frame, kept only while there is one */
	char *in;
	struct group *group; /* its one subscription */
	struct buf *backlog; /* what the socket did not take */
};

/* All connections that hear one topic under one subscription id: they get the same bytes. */
struct group {
	struct group *next; /* of the same topic */
	struct group *next_dirty;
	bool dirty;
	char id[NAME_MAX_LEN];
	struct conn **member;
	uint32_t count, cap;
	struct buf batch; /* the frames of this loop turn */
};

struct topic {
	struct topic *next;
	struct group *groups;
	char name[NAME_MAX_LEN];
};

struct limit {
	int ep, listener, signals;
	struct topic *topics[TOPIC_BUCKETS];
	struct group *dirty;
	uint64_t messages, sessions;
	uint64_t
			lose; /* every so many messages one is lost, to prove that the load generator sees it */
	EVP_MD *sha1;
	EVP_MD_CTX *md;
	char in[IN_SIZE];
};

static void die(const char *what)
{
	fprintf(stderr, "bench-limit: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *must(void *p)
{
	if (!p)
		die("memory");
	return p;
}

static void buf_add(struct buf *b, const char *p, size_t n)
{
	if (b->len + n > b->cap) {
		size_t cap = b->cap ? b->cap : 512;
		while (cap < b->len + n)
			cap *= 2;
		b->p = must(realloc(b->p, cap));
		b->cap = cap;
	}
	memcpy(b->p + b->len, p, n);
	b->len += n;
}

static void watch(const struct limit *l, struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (epoll_ctl(l->ep, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl");
}

/* The connection is freed by the event that follows: an event of this turn may still name it. */
static void hang_up(struct conn *c)
{
	c->dead = true;
	shutdown(c->fd, SHUT_RDWR);
}

static void leave_group(struct conn *c)
{
	struct group *g = c->group;

	if (!g)
		return;
	g->member[c->slot] = g->member[--g->count];
	g->member[c->slot]->slot = c->slot;
	c->group = NULL;
}

static void conn_close(struct conn *c)
{
	leave_group(c);
	close(c->fd);
	free(c->in);
	if (c->backlog)
		free(c->backlog->p);
	free(c->backlog);
	free(c);
}

static void keep_rest(const struct limit *l, struct conn *c, const char *p, size_t n)
{
	if (!c->backlog) {
		c->backlog = must(calloc(1, sizeof *c->backlog));
		watch(l, c, EPOLLIN | EPOLLOUT);
	}
	if (c->backlog->len + n > BACKLOG_MAX)
		hang_up(c);
	else
		buf_add(c->backlog, p, n);
}

static void conn_send(const struct limit *l, struct conn *c, const char *p, size_t n)
{
	ssize_t done = 0;

	if (c->dead)
		return;
	if (!c->backlog)
		done = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (done < 0 && errno != EAGAIN) {
		hang_up(c);
		return;
	}
	if (done < 0)
		done = 0;
	if ((size_t)done < n)
		keep_rest(l, c, p + done, n - (size_t)done);
}

static void on_writable(const struct limit *l, struct conn *c)
{
	struct buf *b = c->backlog;
	ssize_t done;

	if (!b || c->dead)
		return;
	done = send(c->fd, b->p, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (done < 0 && errno != EAGAIN) {
		hang_up(c);
		return;
	}
	if (done > 0) {
		memmove(b->p, b->p + done, b->len - (size_t)done);
		b->len -= (size_t)done;
	}
	if (b->len == 0) {
		free(b->p);
		free(b);
		c->backlog = NULL;
		watch(l, c, EPOLLIN);
	}
}

static void send_frame(const struct limit *l, struct conn *c, const char *text, size_t len)
{
	char out[WIRE_HEAD_MAX + 1024];
	size_t head = wire_head(out, WIRE_TEXT, len);

	if (len > 1024) {
		hang_up(c);
		return;
	}
	memcpy(out + head, text, len);
	conn_send(l, c, out, head + len);
}

static void send_receipt(const struct limit *l, struct conn *c, const struct wire_stomp *f)
{
	struct wire_str id = wire_header(f, "receipt");
	char text[512];
	int n;

	if (!id.p || id.n > NAME_MAX_LEN)
		return;
	n = snprintf(text, sizeof text, "RECEIPT\nreceipt-id:%.*s\n\n", (int)id.n, id.p);
	send_frame(l, c, text, (size_t)n + 1); /* the string's NUL ends the frame */
}

static struct topic *topic_find(struct limit *l, struct wire_str name, bool make)
{
	uint32_t hash = 2166136261u;
	struct topic *t;

	for (size_t i = 0; i < name.n; i++)
		hash = (hash ^ (unsigned char)name.p[i]) * 16777619u;
	for (t = l->topics[hash % TOPIC_BUCKETS]; t; t = t->next) {
		if (wire_is(name, t->name))
			return t;
	}
	if (!make)
		return NULL;
	t = must(calloc(1, sizeof *t));
	memcpy(t->name, name.p, name.n);
	t->next = l->topics[hash % TOPIC_BUCKETS];
	l->topics[hash % TOPIC_BUCKETS] = t;
	return t;
}

static void on_subscribe(struct limit *l, struct conn *c, const struct wire_stomp *f)
{
	struct wire_str name = wire_header(f, "destination");
	struct wire_str id = wire_header(f, "id");
	struct topic *t;
	struct group *g;

	/* One subscription a connection is what every case measures; more would need a list. */
	if (!name.p || !id.p || name.n >= NAME_MAX_LEN || id.n >= NAME_MAX_LEN || c->group) {
		hang_up(c);
		return;
	}
	t = topic_find(l, name, true);
	for (g = t->groups; g && !wire_is(id, g->id); g = g->next)
		;
	if (!g) {
		g = must(calloc(1, sizeof *g));
		memcpy(g->id, id.p, id.n);
		g->next = t->groups;
		t->groups = g;
	}
	if (g->count == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 4;
		g->member = must(realloc(g->member, g->cap * sizeof *g->member));
	}
	c->group = g;
	c->slot = g->count;
	g->member[g->count++] = c;
	send_receipt(l, c, f);
}

/* Adds the MESSAGE to what the group gets at the end of this turn. */
static void render(struct limit *l, struct group *g, const struct wire_stomp *f)
{
	struct wire_str name = wire_header(f, "destination");
	struct wire_str type = wire_header(f, "content-type");
	char text[1024];
	char head[WIRE_HEAD_MAX];
	size_t head_len;
	int n;

	n = snprintf(text, sizeof text,
			"MESSAGE\ndestination:%.*s\n%s%.*s%ssubscription:%s\n"
			"message-id:%08x-%04x-7000-8000-%012llx\ncontent-length:%zu\n\n",
			(int)name.n, name.p, type.p ? "content-type:" : "", (int)type.n, type.p ? type.p : "",
			type.p ? "\n" : "", g->id, 0x01900000u, 0u, (unsigned long long)l->messages, f->body.n);
	if (n < 0 || (size_t)n >= sizeof text)
		return;
	head_len = wire_head(head, WIRE_TEXT, (size_t)n + f->body.n + 1);
	buf_add(&g->batch, head, head_len);
	buf_add(&g->batch, text, (size_t)n);
	buf_add(&g->batch, f->body.p, f->body.n);
	buf_add(&g->batch, "", 1);
	if (!g->dirty) {
		g->dirty = true;
		g->next_dirty = l->dirty;
		l->dirty = g;
	}
}

static void on_send(struct limit *l, struct conn *c, const struct wire_stomp *f)
{
	struct wire_str name = wire_header(f, "destination");
	struct topic *t;

	if (!name.p || name.n >= NAME_MAX_LEN) {
		hang_up(c);
		return;
	}
	l->messages++;
	t = l->lose && l->messages % l->lose == 0 ? NULL : topic_find(l, name, false);
	for (struct group *g = t ? t->groups : NULL; g; g = g->next) {
		if (g->count > 0)
			render(l, g, f);
	}
	send_receipt(l, c, f);
}

static void on_stomp(struct limit *l, struct conn *c, const struct wire_frame *ws)
{
	struct wire_stomp f;
	int rc = wire_stomp_parse(ws->data, ws->len, &f);
	char text[512];
	int n;

	if (rc == 0)
		return;
	if (rc < 0) {
		hang_up(c);
	} else if (wire_is(f.command, "SEND")) {
		on_send(l, c, &f);
	} else if (wire_is(f.command, "SUBSCRIBE")) {
		on_subscribe(l, c, &f);
	} else if (wire_is(f.command, "CONNECT") || wire_is(f.command, "STOMP")) {
		unsigned long long id = (unsigned long long)++l->sessions;
		n = snprintf(text, sizeof text,
				"CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:01900000-0000-7000-8000-%012llx\n"
				"server:limit/1.0.0\nuser-name:user_%05llx\nack-level:store\n\n",
				id, id & 0xfffff);
		send_frame(l, c, text, (size_t)n + 1);
	} else {
		send_receipt(l, c, &f);
	}
}

static size_t on_upgrade(struct limit *l, struct conn *c, char *p, size_t n)
{
	static const char key_name[] = "sec-websocket-key:";
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char *end = memmem(p, n, "\r\n\r\n", 4);
	char out[512];
	unsigned char digest[20], accept[32];
	int len;

	if (!end)
		return 0;
	*end = '\0'; /* makes the head a string for strcasestr; the request has no body */
	const char *key = strcasestr(p, key_name);
	const char *protocol = strcasestr(p, "v12.stomp");
	if (!key) {
		hang_up(c);
		return n;
	}
	key += sizeof key_name - 1;
	key += strspn(key, " \t");
	if (EVP_DigestInit_ex(l->md, l->sha1, NULL) != 1 ||
			EVP_DigestUpdate(l->md, key, strcspn(key, " \t\r")) != 1 ||
			EVP_DigestUpdate(l->md, magic, sizeof magic - 1) != 1 ||
			EVP_DigestFinal_ex(l->md, digest, NULL) != 1)
		die("SHA-1");
	EVP_EncodeBlock(accept, digest, sizeof digest);
	len = snprintf(out, sizeof out,
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Accept: %s\r\n%s\r\n",
			(const char *)accept, protocol ? "Sec-WebSocket-Protocol: v12.stomp\r\n" : "");
	conn_send(l, c, out, (size_t)len);
	c->upgraded = true;
	return (size_t)(end + 4 - p);
}

/* Handles every whole frame at p and returns how many bytes they took. */
static size_t consume(struct limit *l, struct conn *c, char *p, size_t n)
{
	size_t used = 0;
	struct wire_frame ws;
	int rc;

	if (!c->upgraded)
		used = on_upgrade(l, c, p, n);
	while (c->upgraded && !c->dead && (rc = wire_parse(p + used, n - used, &ws)) != 0) {
		if (rc < 0) {
			hang_up(c);
			break;
		}
		used += ws.size;
		if (ws.op == WIRE_CLOSE) {
			char bye[WIRE_HEAD_MAX];
			conn_send(l, c, bye, wire_head(bye, WIRE_CLOSE, 0));
			hang_up(c);
		} else if (ws.op == WIRE_TEXT || ws.op == WIRE_BINARY) {
			on_stomp(l, c, &ws);
		}
	}
	return used;
}

static void on_readable(struct limit *l, struct conn *c)
{
	size_t have = c->in_len;
	size_t used;
	ssize_t n;

	if (have > 0)
		memcpy(l->in, c->in, have);
	n = recv(c->fd, l->in + have, sizeof l->in - have, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || c->dead) {
		conn_close(c);
		return;
	}
	free(c->in);
	c->in = NULL;
	c->in_len = 0;
	n += (ssize_t)have;
	used = consume(l, c, l->in, (size_t)n);
	/* Its own event: nothing else of this turn can name the connection any more. */
	if (c->dead || (used == 0 && (size_t)n == sizeof l->in)) {
		conn_close(c);
	} else if (used < (size_t)n) {
		c->in_len = (uint32_t)((size_t)n - used);
		c->in = must(malloc(c->in_len));
		memcpy(c->in, l->in + used, c->in_len);
	}
}

static void on_accept(const struct limit *l)
{
	static const int one = 1;

	for (;;) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct conn *c = must(calloc(1, sizeof *c));
		c->fd = fd;
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
		if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev) < 0)
			die("epoll_ctl");
	}
}

static void flush(struct limit *l)
{
	while (l->dirty) {
		struct group *g = l->dirty;
		l->dirty = g->next_dirty;
		g->dirty = false;
		for (uint32_t i = 0; i < g->count; i++)
			conn_send(l, g->member[i], g->batch.p, g->batch.len);
		g->batch.len = 0;
	}
}

static void serve(struct limit *l)
{
	struct epoll_event ev[256];

	for (;;) {
		int n = epoll_wait(l->ep, ev, 256, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &l->signals)
				return;
			if (ev[i].data.ptr == &l->listener) {
				on_accept(l);
				continue;
			}
			if (ev[i].events & EPOLLOUT)
				on_writable(l, ev[i].data.ptr);
			if (ev[i].events & ~(uint32_t)EPOLLOUT)
				on_readable(l, ev[i].data.ptr);
		}
		flush(l);
	}
}

static uint16_t listen_on(struct limit *l, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof a;
	static const int one = 1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	l->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->listener < 0)
		die("socket");
	setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(l->listener, 4096) < 0 ||
			getsockname(l->listener, (struct sockaddr *)&a, &len) < 0)
		die("listen");
	return ntohs(a.sin_port);
}

static void prepare(struct limit *l)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct rlimit files;
	sigset_t stop;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	l->signals = signalfd(-1, &stop, SFD_CLOEXEC);
	l->ep = epoll_create1(EPOLL_CLOEXEC);
	l->sha1 = must(EVP_MD_fetch(NULL, "SHA1", NULL));
	l->md = must(EVP_MD_CTX_new());
	if (l->signals < 0 || l->ep < 0)
		die("epoll");
	ev.data.ptr = &l->signals;
	epoll_ctl(l->ep, EPOLL_CTL_ADD, l->signals, &ev);
	ev.data.ptr = &l->listener;
	epoll_ctl(l->ep, EPOLL_CTL_ADD, l->listener, &ev);
}

static void finish(struct limit *l)
{
	struct topic *t;
	struct group *g;

	for (size_t i = 0; i < TOPIC_BUCKETS; i++) {
		while ((t = l->topics[i])) {
			l->topics[i] = t->next;
			while ((g = t->groups)) {
				t->groups = g->next;
				while (g->count > 0)
					conn_close(g->member[g->count - 1]);
				free(g->member);
				free(g->batch.p);
				free(g);
			}
			free(t);
		}
	}
	EVP_MD_CTX_free(l->md);
	EVP_MD_free(l->sha1);
	free(l);
}

/* The shape of chatd's ready file, as far as a bench reads it. */
static void say_ready(const char *path, uint16_t port)
{
	FILE *out = path ? fopen(path, "w") : stdout;

	if (!out)
		die(path);
	fprintf(out, "{\"pid\":%ld,\"http\":[\"127.0.0.1:%u\"]}\n", (long)getpid(), port);
	if (fflush(out) != 0)
		die("ready file");
	if (path)
		fclose(out);
}

int main(int argc, char **argv)
{
	struct limit *l = must(calloc(1, sizeof *l));
	const char *port = "0", *ready = NULL;
	int opt;

	while ((opt = getopt(argc, argv, "p:r:l:")) != -1) {
		if (opt == 'p') {
			port = optarg;
		} else if (opt == 'r') {
			ready = optarg;
		} else if (opt == 'l') {
			l->lose = strtoull(optarg, NULL, 10);
		} else {
			fprintf(stderr, "usage: bench-limit [-p PORT] [-r READY-FILE] [-l LOSE-EVERY]\n");
			return 64;
		}
	}
	uint16_t bound = listen_on(l, port);
	prepare(l);
	say_ready(ready, bound);
	serve(l);
	finish(l);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded sessions, broken in 0 to 8 places each, against a server, many at a time (HOSTILE: H194, H195).
 *
 * usage: hostile-mutate FILE HTTP-PORT TCP-PORT COUNT [SEED [PER-SECOND]]
 *
 * FILE: per session a letter (h, t: which port) and the number of its pieces, per piece a letter (r: bytes as they
 * are, w: the payload of a WebSocket text frame), its length, a line feed, its bytes; numbers are decimal, and a space
 * follows them but for that line feed.  A seed makes the same sessions; what the server has read of each when it is
 * cut off hangs on the clock.  PER-SECOND 0: as fast as they go.  Prints one JSON line.
 */
#include "../bench/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SESSIONS = 256, PIECES = 64, SLOTS = 128, MOST = 256 * 1024, SOURCES = 200, MS = 1000000 };

struct piece {
	char *p;
	size_t n;
	int framed;
};

struct session {
	int tcp;
	size_t n;
	struct piece piece[PIECES];
};

struct slot {
	int fd; /* -1: free */
	char *out;
	size_t len, at, stop; /* what has not been written up to .stop waits until .until */
	uint64_t until;
	int leave; /* 0: FIN, 1: RST, 2: FIN of one side and the other's awaited */
};

static struct session recorded[SESSIONS];
static size_t n_recorded;
static struct slot slots[SLOTS];
static uint64_t seed, made, random_ones, refused, reset, ended, written;
static uint16_t ports[2];

static void must(int is, const char *what)
{
	if (!is) {
		fprintf(stderr, "hostile-mutate: %s\n", what);
		exit(1);
	}
}

static uint64_t any(uint64_t below)
{
	seed += 0x9e3779b97f4a7c15u;
	uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

static void load(const char *path)
{
	FILE *f = fopen(path, "rb");
	char kind, how;
	size_t n, len;
	must(f != NULL, "no such file");
	while (fscanf(f, " %c%zu", &kind, &n) == 2) {
		must(n_recorded < SESSIONS && n > 0 && n <= PIECES, "too many sessions or pieces");
		struct session *s = &recorded[n_recorded++];
		s->tcp = kind == 't';
		s->n = n;
		for (size_t i = 0; i < n; i++) {
			must(fscanf(f, " %c%zu", &how, &len) == 2 && fgetc(f) == '\n' && len < MOST,
					"not such a file");
			struct piece *p = &s->piece[i];
			*p = (struct piece){ .p = malloc(len + 1), .n = len, .framed = how == 'w' };
			must(p->p && fread(p->p, 1, len, f) == len, "the file is cut off");
		}
	}
	must(n_recorded > 0, "no sessions");
	fclose(f);
}

/* ---- breaking --------------------------------------------------------------------------------- */

static const struct {
	const char *p;
	size_t n;
} words[] = {
#define WORD(text)             \
	{                          \
		text, sizeof(text) - 1 \
	}
	WORD("\0"),
	WORD("\n"),
	WORD("\r\n"),
	WORD("\r\n\r\n"),
	WORD(":"),
	WORD("\\"),
	WORD("\\c"),
	WORD("%00"),
	WORD("\xff\xfe"),
	WORD("\xed\xa0\x80"),
	WORD("\""),
	WORD("{"),
	WORD("["),
	WORD("[[[[[[[[[[[[[[[[[[[[[[[["),
	WORD("null"),
	WORD("-1"),
	WORD("18446744073709551616"),
	WORD("1e999"),
	WORD("Content-Length: 5\r\n"),
	WORD("Transfer-Encoding: chunked\r\n"),
	WORD("content-length:0\n"),
	WORD("receipt:a\n"),
	WORD("id:0\n"),
	WORD("transaction:t\n"),
	WORD("ack:client\n"),
	WORD("since:0\n"),
	WORD("destination:/user/queue/errors\n"),
	WORD("login:admin\npasscode:\n"),
	WORD("../"),
	WORD("*"),
	WORD(".#"),
	WORD("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
	WORD("\x08\x00"),
	WORD("\x88\x80"),
	WORD("CONNECT\n"),
	WORD("DISCONNECT\n\n"),
	WORD("\0CONNECT\n\n\0"),
	WORD("/topic/room/lobby"),
	WORD("/app/chat.send"),
	WORD("/user/system/queue/messages"),
#undef WORD
};

static void splice(struct piece *p, size_t at, size_t gone, const char *with, size_t n)
{
	gone = gone < p->n - at ? gone : p->n - at;
	if (p->n - gone + n > MOST / 4) {
		return;
	}
	char *fresh = malloc(p->n - gone + n + 1);
	must(fresh != NULL, "no memory");
	memcpy(fresh, p->p, at);
	memcpy(fresh + at, with, n);
	memcpy(fresh + at + n, p->p + at + gone, p->n - at - gone);
	free(p->p);
	p->p = fresh;
	p->n += n - gone;
}

static struct piece copy_of(const struct piece *p)
{
	struct piece c = { .p = malloc(p->n + 1), .n = p->n, .framed = p->framed };
	must(c.p != NULL, "no memory");
	memcpy(c.p, p->p, p->n);
	return c;
}

/* Within a piece. */
static void bend(struct piece *p)
{
	size_t at = any(p->n + 1), w = any(sizeof(words) / sizeof(words[0])), n = 1 + any(200);
	switch (any(6)) {
	case 0:
		if (at < p->n) {
			p->p[at] ^= (char)(1 << any(8));
		}
		return;
	case 1:
		splice(p, at, 0, words[w].p, words[w].n);
		return;
	case 2:
		splice(p, at, words[w].n, words[w].p, words[w].n);
		return;
	case 3:
		splice(p, at, 1 + any(40), "", 0);
		return;
	case 4: {
		struct piece c = copy_of(p);
		splice(p, at, 0, c.p + at, n < c.n - at ? n : c.n - at);
		free(c.p);
		return;
	}
	default:
		if (any(4) == 0) {
			p->n = at;
		}
	}
}

/* Of pieces: dropped, doubled, swapped, taken from another session, framed or not. */
static void shuffle(struct session *s)
{
	size_t i = any(s->n), j = any(s->n);
	struct piece swap = s->piece[i];
	const struct session *other = &recorded[any(n_recorded)];
	switch (any(5)) {
	case 0:
		s->piece[i] = s->piece[j];
		s->piece[j] = swap;
		return;
	case 1:
		if (s->n > 1) {
			free(swap.p);
			memmove(&s->piece[i], &s->piece[i + 1], (--s->n - i) * sizeof(swap));
		}
		return;
	case 2:
		s->piece[i].framed = !s->piece[i].framed;
		return;
	default:
		if (s->n < PIECES) {
			memmove(&s->piece[i + 1], &s->piece[i], (s->n++ - i) * sizeof(swap));
			s->piece[i] = copy_of(any(2) ? &swap : &other->piece[any(other->n)]);
		}
	}
}

static size_t write_down(const struct session *s, char *ret)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++) {
		const struct piece *p = &s->piece[i];
		if (n + p->n + WIRE_HEAD_MAX > MOST) {
			break;
		}
		if (p->framed) {
			n += wire_client_frame(ret + n, any(50) ? WIRE_TEXT : (uint8_t)any(16), p->p, p->n);
		} else {
			memcpy(ret + n, p->p, p->n);
			n += p->n;
		}
	}
	return n;
}

/* One in ten is nothing but noise. */
static void make(struct slot *s, int *ret_tcp)
{
	s->at = 0;
	made++;
	if (any(10) == 0) {
		random_ones++;
		*ret_tcp = (int)any(2);
		s->len = 1 + any(600);
		for (size_t i = 0; i < s->len; i++) {
			s->out[i] = (char)any(256);
		}
		return;
	}
	struct session t = recorded[any(n_recorded)];
	*ret_tcp = t.tcp;
	for (size_t i = 0; i < t.n; i++) {
		t.piece[i] = copy_of(&t.piece[i]);
	}
	for (uint64_t k = any(9); k > 0; k--) {
		if (any(3)) {
			bend(&t.piece[any(t.n)]);
		} else {
			shuffle(&t);
		}
	}
	s->len = write_down(&t, s->out);
	for (size_t i = 0; i < t.n; i++) {
		free(t.piece[i].p);
	}
}

/* ---- the connections ---------------------------------------------------------------------------- */

static uint64_t soon(void)
{
	return wire_now() + any(4) * any(20) * MS;
}

static void open_one(struct slot *s)
{
	static uint32_t turn;
	int tcp;
	struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET };
	make(s, &tcp);
	from.sin_addr.s_addr = htonl(0x7f000002u + turn++ % SOURCES);
	to.sin_addr.s_addr = htonl(0x7f000001u);
	to.sin_port = htons(ports[tcp]);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(s->fd >= 0, "no descriptor");
	if (bind(s->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
			(connect(s->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)) {
		refused++;
		close(s->fd);
		s->fd = -1;
		return;
	}
	s->leave = (int)any(3);
	s->stop = any(3) ? s->len : any(s->len + 1);
	s->until = 0;
}

static void leave(struct slot *s)
{
	const struct linger hard = { .l_onoff = 1 };
	if (s->leave == 1) {
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	}
	close(s->fd);
	s->fd = -1;
}

static void put(struct slot *s)
{
	ssize_t n = send(s->fd, s->out + s->at, s->stop - s->at, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN) {
		reset++;
		leave(s);
		return;
	}
	s->at += n > 0 ? (size_t)n : 0;
	written += n > 0 ? (uint64_t)n : 0;
	if (s->at == s->stop) {
		s->until = soon();
	}
}

static void get(struct slot *s)
{
	static char waste[65536];
	ssize_t n = recv(s->fd, waste, sizeof(waste), 0);
	if (n > 0 || (n < 0 && errno == EAGAIN)) {
		return;
	}
	*(n == 0 ? &ended : &reset) += 1;
	leave(s);
}

/* What was held back follows; after that it leaves. */
static void go_on(struct slot *s)
{
	if (s->at < s->len) {
		s->stop = s->len;
		s->until = 0;
	} else if (s->leave == 2) {
		s->leave = 0;
		shutdown(s->fd, SHUT_WR);
		s->until = wire_now() + 20 * MS;
	} else {
		leave(s);
	}
}

static void turn(uint64_t due)
{
	static struct pollfd p[SLOTS];
	for (size_t i = 0; i < SLOTS; i++) {
		if (slots[i].fd < 0 && made < due) {
			open_one(&slots[i]);
		}
		p[i] = (struct pollfd){ .fd = slots[i].fd,
			.events = (short)(POLLIN | (slots[i].until ? 0 : POLLOUT)) };
	}
	must(poll(p, SLOTS, 2) >= 0 || errno == EINTR, "poll");
	uint64_t now = wire_now();
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];
		if (s->fd >= 0 && p[i].revents & POLLOUT) {
			put(s);
		}
		if (s->fd >= 0 && p[i].revents & (POLLIN | POLLHUP | POLLERR)) {
			get(s);
		}
		if (s->fd >= 0 && s->until && now >= s->until) {
			go_on(s);
		}
	}
}

static int open_ones(void)
{
	int n = 0;
	for (size_t i = 0; i < SLOTS; i++) {
		n += slots[i].fd >= 0;
	}
	return n;
}

int main(int argc, char **argv)
{
	must(argc >= 5 && argc <= 7,
			"usage: hostile-mutate FILE HTTP-PORT TCP-PORT COUNT [SEED [PER-SECOND]]");
	load(argv[1]);
	ports[0] = (uint16_t)strtoul(argv[2], NULL, 10);
	ports[1] = (uint16_t)strtoul(argv[3], NULL, 10);
	uint64_t count = strtoull(argv[4], NULL, 10);
	seed = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
	uint64_t rate = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
	for (size_t i = 0; i < SLOTS; i++) {
		slots[i] = (struct slot){ .fd = -1, .out = malloc(MOST) };
		must(slots[i].out != NULL, "no memory");
	}
	uint64_t begin = wire_now();
	while (made < count || open_ones() > 0) {
		uint64_t due = rate ? rate * ((wire_now() - begin) / MS) / 1000 + 1 : count;
		turn(due < count ? due : count);
	}
	printf("{\"made\":%llu,\"noise\":%llu,\"not_connected\":%llu,\"ended_by_server\":%llu,\"reset\":%llu,\"bytes\":%llu,"
		   "\"seconds\":%.1f}\n",
			(unsigned long long)made, (unsigned long long)random_ones, (unsigned long long)refused,
			(unsigned long long)ended, (unsigned long long)reset, (unsigned long long)written,
			(double)(wire_now() - begin) / 1e9);
	for (size_t i = 0; i < SLOTS; i++) {
		free(slots[i].out);
	}
	for (size_t i = 0; i < n_recorded; i++) {
		for (size_t k = 0; k < recorded[i].n; k++) {
			free(recorded[i].piece[k].p);
		}
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_KEY_UPDATES = 256, ROOM_MIN = STREAM_TLS_RECORD };

/** Bytes to show: in the worker's buffer, or (`mem`) in memory of their own. */
struct span {
	char *p;
	size_t n;
	char *mem;
};

/** Keeps the rest of @p at for later, in exactly as much memory as it takes. */
static void keep(struct stream *s, struct span *at)
{
	if (at->n == 0 || s->flags & (STREAM_DEAD | STREAM_CLOSING)) {
		free(at->mem);
		return;
	}
	char *mem = at->mem;
	if (mem)
		memmove(mem, at->p, at->n);
	char *exact = realloc(mem, at->n);
	if (!exact) {
		free(mem);
		s->flags |= STREAM_FAILED;
		stream_todo(s);
		return;
	}
	if (!mem)
		memcpy(exact, at->p, at->n);
	s->kept = exact;
	s->kept_n = at->n;
}

/** Until the user, or the one that it attached instead, has taken what it wants. */
static void show(struct stream *s, struct span *at)
{
	const struct chatd_stream_user *user;
	void *arg;
	do {
		user = s->user;
		arg = s->arg;
		size_t taken = user->data(arg, at->p, at->n);
		if (taken > at->n)
			taken = at->n;
		at->p += taken;
		at->n -= taken;
	} while (at->n > 0 && !(s->flags & (STREAM_NO_ANSWER | STREAM_PAUSED)) &&
			(s->user != user || s->arg != arg));
	keep(s, at);
}

void stream_show_kept(struct stream *s)
{
	s->flags &= (uint16_t)~STREAM_SHOW;
	if (!s->kept_n || !s->user || s->flags & STREAM_PAUSED)
		return;
	/* Taken out of the stream: a close() in data() must not free what data() looks at. */
	struct span at = { s->kept, s->kept_n, s->kept };
	s->kept = NULL;
	s->kept_n = 0;
	struct worker_mark mark;
	worker_enter(s->nw->w, &mark, s->listener->conf.kind, "data");
	show(s, &at);
	worker_leave(s->nw->w, &mark);
}

enum outcome { GOT, AGAIN, PEER_EOF, BROKEN };

static enum outcome receive(struct stream *s, char *p, size_t room, size_t *ret_n)
{
	ssize_t n;
	if (!s->ssl) {
		do
			n = recv(s->fd, p, room, 0);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? AGAIN : BROKEN;
	} else {
		n = tls_read(s->ssl, p, room);
		s->flags &= (uint16_t)~STREAM_READ_WR;
		if (n == TLS_AGAIN_WRITE)
			s->flags |= STREAM_READ_WR;
		if (s->key_updates > MAX_KEY_UPDATES)
			return BROKEN;
		if (n < 0)
			return n == TLS_FAILED ? BROKEN : AGAIN;
	}
	*ret_n = (size_t)n;
	return n == 0 ? PEER_EOF : GOT;
}

/** Finds room behind what was kept: in the worker's buffer if that leaves enough. */
static bool make_room(struct stream *s, struct span *at, size_t *ret_room)
{
	if (s->kept_n + ROOM_MIN <= STREAM_READ_SIZE) {
		at->p = s->nw->read;
		at->mem = NULL;
		*ret_room = STREAM_READ_SIZE - s->kept_n;
		if (s->kept_n)
			memcpy(at->p, s->kept, s->kept_n);
		return true;
	}
	if (s->kept_n > STREAM_KEPT_MAX)
		return false;
	size_t room = s->kept_n / 2;
	char *mem = realloc(s->kept, s->kept_n + room);
	if (!mem)
		return false;
	s->kept = mem;
	at->p = mem;
	at->mem = mem;
	*ret_room = room;
	return true;
}

/** The peer sends no more: does the user still have something for it? */
static void on_eof(struct stream *s)
{
	s->flags |= STREAM_EOF;
	if (CHATD_HAS(s->user, half) && s->user->half(s->arg))
		s->flags |= STREAM_HALF;
	else
		stream_end(s, CHATD_END_EOF);
}

/** One read and what follows from it; true: there may be more. */
static bool read_once(struct stream *s)
{
	struct span at;
	size_t room;
	size_t n = 0;
	if (!make_room(s, &at, &room)) {
		stream_end(s, CHATD_END_ERROR);
		return false;
	}
	enum outcome got = receive(s, at.p + s->kept_n, room, &n);
	if (got == AGAIN)
		return false;
	if (got != GOT) {
		if (got == PEER_EOF)
			on_eof(s);
		else
			stream_end(s, CHATD_END_ERROR);
		return false;
	}
	s->nw->stats.read += n;
	at.n = s->kept_n + n;
	if (!at.mem)
		free(s->kept);
	s->kept = NULL;
	s->kept_n = 0;
	show(s, &at);
	return s->ssl || n == room;
}

void stream_read(struct stream *s, int max)
{
	bool more = true;
	for (int i = 0; more && i < max; i++) {
		if (!s->user || s->flags & (STREAM_PAUSED | STREAM_EOF))
			break;
		more = read_once(s);
	}
	stream_update(s);
}

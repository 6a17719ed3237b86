/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
	FLUSH_MAX = 1024 * 1024, /* bytes per stream and turn */
	SPARE_MAX = 1024,        /* chunks a worker keeps for the next queue: 128 KiB */
	SWEEP_MS = 1000,
	CLOSE_STALL_MS = 10000, /* of a closing stream whose user had set no limit */
};

/* ---- the queue --------------------------------------------------------- */

static struct chunk *chunk_take(struct net_worker *nw)
{
	struct chunk *c = nw->spare;
	if (c) {
		nw->spare = c->next;
		nw->n_spare--;
	} else {
		c = malloc(sizeof(*c));
		if (!c)
			return NULL;
	}
	c->next = NULL;
	c->head = c->tail = 0;
	return c;
}

static void chunk_give(struct net_worker *nw, struct chunk *c)
{
	if (nw->n_spare >= SPARE_MAX) {
		free(c);
		return;
	}
	c->next = nw->spare;
	nw->spare = c;
	nw->n_spare++;
}

static bool push(struct stream *s, chatd_buf *buf)
{
	struct chunk *c = s->last;
	if (!c || c->tail == STREAM_CHUNK) {
		c = chunk_take(s->nw);
		if (!c)
			return false;
		if (s->last)
			s->last->next = c;
		else
			s->first = c;
		s->last = c;
	}
	c->buf[c->tail++] = buf_ref(buf);
	return true;
}

static void pop(struct stream *s)
{
	struct chunk *c = s->first;
	buf_unref(c->buf[c->head++]);
	s->offset = 0;
	if (c->head < c->tail)
		return;
	s->first = c->next;
	if (!s->first)
		s->last = NULL;
	chunk_give(s->nw, c);
}

static void consume(struct stream *s, size_t n)
{
	s->queued -= n;
	s->nw->stats.queued -= n;
	s->nw->stats.written += n;
	while (n > 0) {
		size_t left = buf_len(s->first->buf[s->first->head]) - s->offset;
		if (n < left) {
			s->offset += n;
			return;
		}
		n -= left;
		pop(s);
	}
}

void stream_drop_queue(struct stream *s)
{
	while (s->first)
		pop(s);
	s->nw->stats.queued -= s->queued;
	s->queued = 0;
}

size_t stream_send(chatd_stream *stream, chatd_buf *buf)
{
	struct stream *s = (struct stream *)stream;
	size_t n = buf_len(buf);
	if (n == 0 || s->flags & STREAM_NO_ANSWER)
		return s->queued;
	stream_todo(s);
	if (!push(s, buf)) {
		s->flags |= STREAM_FAILED;
		return s->queued;
	}
	s->queued += n;
	s->nw->stats.queued += n;
	if (s->max_queue && s->queued > s->max_queue) {
		/* Not too slow yet if the kernel just has not been asked in this turn. */
		if (!(s->flags & STREAM_BLOCKED))
			stream_flush(s);
		if (s->queued > s->max_queue)
			s->flags |= STREAM_SLOW;
	}
	return s->queued;
}

/* ---- blocked streams --------------------------------------------------- */

static void on_sweep(void *arg)
{
	struct net_worker *nw = arg;
	int64_t now = worker_now_ms(nw->w);
	struct stream *next;
	for (struct stream *s = nw->blocked; s; s = next) {
		next = s->blocked_next;
		int64_t limit = s->stall_ms;
		if (limit == 0 && s->flags & STREAM_CLOSING)
			limit = CLOSE_STALL_MS;
		if (limit == 0 || now - s->progress < limit)
			continue;
		s->flags |= STREAM_SLOW;
		stream_todo(s);
	}
	if (nw->blocked)
		worker_timer_set(nw->w, &nw->sweep, SWEEP_MS, on_sweep, nw);
}

static void block(struct stream *s)
{
	struct net_worker *nw = s->nw;
	if (s->flags & STREAM_BLOCKED)
		return;
	s->flags |= STREAM_BLOCKED;
	s->progress = worker_now_ms(nw->w);
	if (!nw->blocked)
		worker_timer_set(nw->w, &nw->sweep, SWEEP_MS, on_sweep, nw);
	s->blocked_next = nw->blocked;
	if (s->blocked_next)
		s->blocked_next->blocked_link = &s->blocked_next;
	s->blocked_link = &nw->blocked;
	nw->blocked = s;
	stream_update(s);
}

void stream_unblock(struct stream *s)
{
	if (!(s->flags & STREAM_BLOCKED))
		return;
	s->flags &= (uint16_t)~STREAM_BLOCKED;
	*s->blocked_link = s->blocked_next;
	if (s->blocked_next)
		s->blocked_next->blocked_link = s->blocked_link;
	if (!s->nw->blocked)
		worker_timer_clear(&s->nw->sweep);
}

/* ---- writing ----------------------------------------------------------- */

enum outcome { WROTE, FULL, BROKEN };

static enum outcome write_plain(struct stream *s, size_t *ret_n)
{
	struct iovec iov[STREAM_IOV];
	size_t n = 0;
	size_t total = 0;
	size_t offset = s->offset;
	for (struct chunk *c = s->first; c && n < STREAM_IOV; c = c->next) {
		for (uint32_t i = c->head; i < c->tail && n < STREAM_IOV; i++) {
			iov[n].iov_base = buf_data(c->buf[i]) + offset;
			iov[n].iov_len = buf_len(c->buf[i]) - offset;
			total += iov[n++].iov_len;
			offset = 0;
		}
	}
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t rc;
	do
		rc = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? FULL : BROKEN;
	*ret_n = (size_t)rc;
	return (size_t)rc < total ? FULL : WROTE;
}

/** The next bytes of the queue, as many as one record holds. */
static size_t gather(struct stream *s, char *p, size_t room)
{
	size_t n = 0;
	size_t offset = s->offset;
	for (struct chunk *c = s->first; c && n < room; c = c->next) {
		for (uint32_t i = c->head; i < c->tail && n < room; i++) {
			size_t len = buf_len(c->buf[i]) - offset;
			if (len > room - n)
				len = room - n;
			memcpy(p + n, buf_data(c->buf[i]) + offset, len);
			n += len;
			offset = 0;
		}
	}
	return n;
}

static enum outcome write_tls(struct stream *s, size_t *ret_n)
{
	size_t n = gather(s, s->nw->record, sizeof(s->nw->record));
	ssize_t rc = tls_write(s->ssl, s->nw->record, n);
	if (rc < 0)
		return rc == TLS_FAILED ? BROKEN : FULL;
	*ret_n = (size_t)rc;
	return WROTE;
}

void stream_flush(struct stream *s)
{
	size_t given = 0;
	enum outcome out = WROTE;
	while (s->queued > 0 && out == WROTE && given < FLUSH_MAX) {
		size_t n = 0;
		out = s->ssl ? write_tls(s, &n) : write_plain(s, &n);
		consume(s, n);
		given += n;
	}
	if (given)
		s->progress = worker_now_ms(s->nw->w);
	if (given && s->queued == 0)
		s->flags |= STREAM_EMPTIED;
	if (out == BROKEN) {
		s->flags |= STREAM_FAILED;
		stream_todo(s);
	} else if (out == FULL) {
		block(s);
	} else if (s->flags & STREAM_BLOCKED && s->queued == 0) {
		stream_unblock(s);
		stream_update(s);
	}
}

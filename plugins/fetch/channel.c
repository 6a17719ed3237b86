/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to the helper and from it.  Whatever it sends that it should not ends it. */
#include "fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READ_BYTES = 16 << 10, /* at once; more where one answer is larger */
	KEEP_BYTES = 64 << 10, /* of the buffer, between large answers */
	BATCH = 32,
};

static void on_ready(void *arg, uint32_t ready);

static void look_for(struct wself *ws, uint32_t what)
{
	const struct chatd_host *h = ws->self->h;
	if (ws->watched != what || !ws->watch) {
		h->unwatch(ws->watch);
		ws->watch = h->watch_fd(ws->w, ws->fd, what, on_ready, ws);
		ws->watched = what;
	}
}

/* ---- to it ------------------------------------------------------------------------------------ */

/* 1: all is written; 0: it takes no more now; or it has ended. */
static int write_setup(struct wself *ws)
{
	const struct chatd_str all = ws->self->setup;
	while (ws->setup_at < all.n) {
		ssize_t n = send(ws->fd, all.p + ws->setup_at, all.n - ws->setup_at, MSG_NOSIGNAL);
		if (n < 0) {
			return 0; /* reading says if it has ended */
		}
		ws->setup_at += (size_t)n;
	}
	return 1;
}

static void advance(struct wself *ws, size_t n)
{
	while (n) {
		struct call *c = TAILQ_FIRST(&ws->waiting);
		size_t left = c->frame.n - c->at, part = n < left ? n : left;
		if (c->at == 0) {
			call_on_its_way(c);
		}
		c->at += part;
		n -= part;
		if (c->at == c->frame.n) {
			call_is_sent(c);
		}
	}
}

static ssize_t write_some(struct wself *ws)
{
	struct iovec v[BATCH];
	struct msghdr m = { .msg_iov = v };
	const struct call *c;
	TAILQ_FOREACH (c, &ws->waiting, link) {
		v[m.msg_iovlen].iov_base = (char *)(uintptr_t)c->frame.p + c->at;
		v[m.msg_iovlen].iov_len = c->frame.n - c->at;
		if (++m.msg_iovlen == BATCH) {
			break;
		}
	}
	ssize_t n = sendmsg(ws->fd, &m, MSG_NOSIGNAL);
	if (n > 0) {
		advance(ws, (size_t)n);
	}
	return n;
}

static void flush(struct wself *ws)
{
	int more = ws->state == STARTING && !write_setup(ws);
	while (ws->state == UP && !more && !TAILQ_EMPTY(&ws->waiting) && keeper_may_send(ws)) {
		more = write_some(ws) < 0;
	}
	if (ws->state != DOWN) {
		look_for(ws, more ? 3 : 1);
	}
}

static void on_flush(void *arg)
{
	struct wself *ws = arg;
	ws->flushing = 0;
	if (ws->state != DOWN) {
		flush(ws);
	}
}

void channel_send(struct wself *ws)
{
	if (!ws->flushing && ws->self->h->post(ws->w, on_flush, ws) == 0) {
		ws->flushing = 1;
	}
}

/* ---- from it ---------------------------------------------------------------------------------- */

/* Whose answer it is, if it is one that was asked for, and no longer than was agreed. */
static struct call *caller_of(struct wself *ws, const struct wire_answer *w)
{
	struct call *c = call_find(ws, w->id);
	return c && c->is_sent && w->n_body <= c->max ? c : NULL;
}

static int take_ready(struct wself *ws, struct chatd_str in, uint32_t n)
{
	uint32_t flaws;
	if (ws->state != STARTING || n != WIRE_READY_BYTES) {
		return -EPROTO;
	}
	if (in.n < n) {
		return 0;
	}
	if (wire_ready_read(&flaws, chatd_str_of(in.p, n)) < 0) {
		return -EPROTO;
	}
	keeper_ready(ws, flaws);
	return WIRE_HEAD + WIRE_READY_BYTES;
}

static int take_answer(struct wself *ws, struct chatd_str in, uint32_t n)
{
	struct wire_answer w;
	if (n < WIRE_ANSWER_BYTES || ws->state == STARTING) {
		return -EPROTO;
	}
	if (in.n < WIRE_ANSWER_BYTES) {
		return 0;
	}
	struct call *c = wire_answer_read(&w, in, n) < 0 ? NULL : caller_of(ws, &w);
	if (!c) {
		return -EPROTO;
	}
	if (in.n < n) {
		return 0;
	}
	call_answer(c, &w, in.p + WIRE_ANSWER_BYTES);
	return WIRE_HEAD + (int)n;
}

/* How many bytes were a frame; 0: none yet; -EPROTO. */
static int take_frame(struct wself *ws, struct chatd_str in)
{
	uint16_t type;
	uint32_t n;
	int rc = wire_head(in, &type, &n);
	if (rc <= 0) {
		return rc;
	}
	in.p += WIRE_HEAD;
	in.n -= WIRE_HEAD;
	return type == WIRE_READY     ? take_ready(ws, in, n)
			: type == WIRE_ANSWER ? take_answer(ws, in, n)
								  : -EPROTO;
}

/* 0, and what is not a whole frame is at the front; -EPROTO. */
static int take_frames(struct wself *ws)
{
	size_t at = 0;
	int n = 1;
	while (n > 0 && at < ws->n_in) {
		n = take_frame(ws, chatd_str_of(ws->in + at, ws->n_in - at));
		at += n > 0 ? (size_t)n : 0;
	}
	ws->n_in -= at;
	memmove(ws->in, ws->in + at, ws->n_in);
	return n < 0 ? n : 0;
}

/* So much as the frame at the front needs: take_frame() has looked at what it says. */
static int make_room(struct wself *ws)
{
	uint16_t type;
	uint32_t n = 0;
	struct chatd_str in = { ws->in, ws->n_in };
	size_t want = READ_BYTES;
	if (in.n >= WIRE_HEAD + WIRE_ANSWER_BYTES && wire_head(in, &type, &n) > 0) {
		want = WIRE_HEAD + (size_t)n;
	}
	want = want < READ_BYTES ? READ_BYTES : want;
	if (ws->cap_in < want ||
			(ws->cap_in > KEEP_BYTES && ws->n_in < READ_BYTES && want == READ_BYTES)) {
		char *p = realloc(ws->in, want);
		if (!p) {
			return -ENOMEM;
		}
		ws->in = p;
		ws->cap_in = want;
	}
	return 0;
}

/* An end without a reason is its own: its exit code or its signal is told. */
void channel_read(struct wself *ws)
{
	while (ws->state != DOWN) {
		chatd_status rc = make_room(ws);
		ssize_t n = rc < 0 ? 0 : recv(ws->fd, ws->in + ws->n_in, ws->cap_in - ws->n_in, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			keeper_idle(ws);
			return;
		}
		if (n <= 0) {
			keeper_end(ws, rc < 0 ? "there is no memory for its answer" : NULL);
			return;
		}
		ws->n_in += (size_t)n;
		if (take_frames(ws) < 0) {
			keeper_end(ws, "it sent what no helper sends");
		}
	}
}

static void on_ready(void *arg, uint32_t ready)
{
	struct wself *ws = arg;
	if (ready & 1) {
		channel_read(ws);
	}
	if (ready & 2 && ws->state != DOWN) {
		flush(ws);
	}
}

/* ---- life ------------------------------------------------------------------------------------- */

chatd_status channel_open(struct wself *ws, int fd)
{
	ws->fd = fd;
	ws->n_in = ws->setup_at = 0;
	look_for(ws, 3);
	return ws->watch ? 0 : -ENOMEM;
}

void channel_close(struct wself *ws)
{
	ws->self->h->unwatch(ws->watch);
	ws->watch = NULL;
	close(ws->fd);
	ws->fd = -1;
	free(ws->in);
	ws->in = NULL;
	ws->n_in = ws->cap_in = 0;
}

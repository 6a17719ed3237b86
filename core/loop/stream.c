/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READS_PER_EVENT = 4, /* so that one fast sender does not hold the others up */
	TODO_PASSES = 4,     /* over the todo list per turn, likewise */
	LAST_READS = 64,     /* after a failed write: what the peer sent before it left */
};

/* ---- todo -------------------------------------------------------------- */

void stream_todo(struct stream *s)
{
	if (s->flags & STREAM_TODO)
		return;
	s->flags |= STREAM_TODO;
	s->todo_next = NULL;
	*s->nw->todo_end = s;
	s->nw->todo_end = &s->todo_next;
	worker_touch(s->nw->w);
}

/** To the todo list of the next turn, so that others come first. */
static void defer(struct stream *s)
{
	if (s->flags & STREAM_TODO)
		return;
	s->flags |= STREAM_TODO;
	s->todo_next = NULL;
	*s->nw->later_end = s;
	s->nw->later_end = &s->todo_next;
}

static void tell_drained(struct stream *s)
{
	if (!s->user || !CHATD_HAS(s->user, drained))
		return;
	struct worker_mark mark;
	worker_enter(s->nw->w, &mark, s->listener->conf.kind, "drained");
	s->user->drained(s->arg);
	worker_leave(s->nw->w, &mark);
}

/** What could not be done where it was found out. */
static void step(struct stream *s)
{
	if (s->flags & STREAM_SLOW) {
		stream_end(s, CHATD_END_SLOW);
		return;
	}
	if (s->flags & STREAM_SHOW)
		stream_show_kept(s);
	if ((s->flags & (STREAM_EOF | STREAM_HALF)) == STREAM_EOF && s->user) {
		stream_end(s, CHATD_END_EOF); /* whom the new user could have answered is gone */
		return;
	}
	if (!(s->flags & (STREAM_NO_ANSWER & ~STREAM_CLOSING)) && !(s->flags & STREAM_BLOCKED))
		stream_flush(s);
	if (s->flags & STREAM_DEAD)
		return;
	if (s->flags & STREAM_FAILED) {
		if (s->user && !(s->flags & STREAM_PAUSED))
			stream_read(s, LAST_READS);
		stream_end(s, CHATD_END_ERROR);
		return;
	}
	if (s->flags & STREAM_EMPTIED) {
		s->flags &= (uint16_t)~STREAM_EMPTIED;
		tell_drained(s);
	}
	if (s->queued && !(s->flags & (STREAM_DEAD | STREAM_BLOCKED)))
		defer(s); /* its share of this turn is used up */
	if ((s->flags & (STREAM_CLOSING | STREAM_LINGER | STREAM_DEAD)) == STREAM_CLOSING && !s->queued)
		stream_close_flushed(s);
}

static void one_pass(struct net_worker *nw)
{
	struct stream *list = nw->todo;
	nw->todo = NULL;
	nw->todo_end = &nw->todo;
	while (list) {
		struct stream *s = list;
		list = s->todo_next;
		s->flags &= (uint16_t)~STREAM_TODO;
		if (s->flags & STREAM_DEAD)
			free(s);
		else
			step(s);
	}
}

bool stream_turn_end(void *arg)
{
	struct net_worker *nw = arg;
	for (int pass = 0; pass < TODO_PASSES && nw->todo; pass++)
		one_pass(nw);
	if (nw->later) {
		*nw->todo_end = nw->later;
		nw->todo_end = nw->later_end;
		nw->later = NULL;
		nw->later_end = &nw->later;
	}
	return nw->todo != NULL;
}

/* ---- events ------------------------------------------------------------ */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	struct stream *s = arg;
	if (s->flags & STREAM_STARTING) {
		stream_start_on(s);
		return;
	}
	if (s->flags & STREAM_LINGER) {
		stream_linger_on(s);
		return;
	}
	if (what & EV_WRITE && s->flags & STREAM_BLOCKED) {
		stream_flush(s);
		stream_todo(s); /* drained(), the end of closing, or a failure */
	}
	bool read = what & EV_READ || (what & EV_WRITE && s->flags & STREAM_READ_WR);
	if (!read || s->flags & (STREAM_NO_ANSWER | STREAM_PAUSED | STREAM_EOF)) {
		stream_update(s); /* pausing is lazy: only now is reading given up */
		return;
	}
	struct worker_mark mark;
	worker_enter(s->nw->w, &mark, s->listener->conf.kind, "data");
	stream_read(s, READS_PER_EVENT);
	worker_leave(s->nw->w, &mark);
}

void stream_set_events(struct stream *s, short events)
{
	if (s->events == events)
		return;
	if (s->events)
		event_del(&s->ev);
	s->events = events;
	if (!events)
		return;
	struct event_base *base = worker_base(s->nw->w);
	event_assign(&s->ev, base, s->fd, (short)(events | EV_PERSIST), on_event, s);
	if (event_add(&s->ev, NULL) == 0)
		return;
	s->events = 0;
	s->flags |= STREAM_FAILED;
	stream_todo(s);
}

void stream_update(struct stream *s)
{
	if (s->flags & (STREAM_DEAD | STREAM_STARTING | STREAM_TAKEN))
		return;
	short events = 0;
	if (s->flags & STREAM_LINGER || !(s->flags & (STREAM_NO_ANSWER | STREAM_PAUSED | STREAM_EOF)))
		events |= EV_READ;
	if (s->flags & (STREAM_BLOCKED | STREAM_READ_WR))
		events |= EV_WRITE;
	stream_set_events(s, events);
}

/* ---- life -------------------------------------------------------------- */

struct stream *stream_new(struct acceptor *a, int fd, const struct addr *peer)
{
	struct net_worker *nw = a->nw;
	struct stream *s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return NULL;
	}
	s->base.ops = &stream_ops;
	s->nw = nw;
	s->listener = a->listener;
	s->fd = fd;
	addr_print_peer(peer, s->peer, sizeof(s->peer));
	s->peer_n = (uint8_t)strlen(s->peer);
	s->next = nw->streams;
	if (s->next)
		s->next->link = &s->next;
	s->link = &nw->streams;
	nw->streams = s;
	nw->stats.open++;
	return s;
}

int stream_phase(struct stream *s, int64_t ms, void (*on_late)(void *stream))
{
	if (!s->phase)
		s->phase = calloc(1, sizeof(*s->phase));
	if (!s->phase)
		return -ENOMEM;
	worker_timer_set(s->nw->w, &s->phase->timer, ms, on_late, s);
	return 0;
}

void stream_phase_end(struct stream *s)
{
	if (!s->phase)
		return;
	worker_timer_clear(&s->phase->timer);
	free(s->phase);
	s->phase = NULL;
}

void stream_kill(struct stream *s, bool rst)
{
	if (s->flags & STREAM_DEAD)
		return;
	s->user = NULL;
	stream_set_events(s, 0);
	stream_unblock(s);
	stream_drop_queue(s);
	stream_phase_end(s);
	tls_free(s->ssl);
	s->ssl = NULL;
	free(s->kept);
	s->kept = NULL;
	s->kept_n = 0;
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	if (rst && s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->nw->stats.open--;
	s->flags |= STREAM_DEAD;
	stream_todo(s);
}

void stream_end(struct stream *s, int32_t why)
{
	if (s->flags & STREAM_DEAD)
		return;
	const struct chatd_stream_user *user = s->user;
	void *arg = s->arg;
	if (why == CHATD_END_SLOW)
		s->nw->stats.slow++;
	if (why == CHATD_END_EOF && s->queued)
		stream_close(s); /* it may still read: what was sent before is its own */
	else
		stream_kill(s, why != CHATD_END_EOF);
	if (!user)
		return;
	struct worker_mark mark;
	worker_enter(s->nw->w, &mark, s->listener->conf.kind, "gone");
	user->gone(arg, why);
	worker_leave(s->nw->w, &mark);
}

void stream_accepted(struct stream *s)
{
	s->flags &= (uint16_t)~STREAM_STARTING;
	stream_phase_end(s);
	s->nw->stats.accepted++;
	const struct chatd_listen *conf = &s->listener->conf;
	struct worker_mark mark;
	worker_enter(s->nw->w, &mark, conf->kind, "accepted");
	conf->accepted(conf->arg, s->nw->w, &s->base);
	worker_leave(s->nw->w, &mark);
	if (!s->user && !(s->flags & (STREAM_CLOSING | STREAM_DEAD)))
		stream_kill(s, true); /* nobody wanted it */
	stream_update(s);
}

void stream_stop_all(struct net_worker *nw)
{
	while (nw->streams)
		stream_end(nw->streams, CHATD_END_DRAIN);
	while (stream_turn_end(nw))
		continue;
}

/* ---- operations -------------------------------------------------------- */

static struct stream *own(chatd_stream *stream)
{
	return (struct stream *)stream; /* base is its first member */
}

static void attach(chatd_stream *stream, const struct chatd_stream_user *user, void *arg)
{
	struct stream *s = own(stream);
	if (s->flags & (STREAM_DEAD | STREAM_CLOSING))
		return;
	s->user = user;
	s->arg = arg;
	s->flags &= (uint16_t)~STREAM_HALF; /* what one user promised binds no other */
	if (s->flags & STREAM_EOF)
		stream_todo(s);
	if (s->kept_n) {
		s->flags |= STREAM_SHOW;
		stream_todo(s);
	}
}

static void pause_reading(chatd_stream *stream, int32_t on)
{
	struct stream *s = own(stream);
	if (s->flags & (STREAM_DEAD | STREAM_CLOSING))
		return;
	if (on) {
		s->flags |= STREAM_PAUSED; /* most pauses are short: EV_READ stays for now */
		return;
	}
	if (!(s->flags & STREAM_PAUSED))
		return;
	s->flags &= (uint16_t)~STREAM_PAUSED;
	if (s->kept_n) {
		s->flags |= STREAM_SHOW;
		stream_todo(s);
	}
	stream_update(s);
}

static void close_stream(chatd_stream *stream)
{
	stream_close(own(stream));
}

static void reset(chatd_stream *stream)
{
	stream_kill(own(stream), true);
}

static size_t queued(const chatd_stream *stream)
{
	return ((const struct stream *)stream)->queued;
}

static void limits(chatd_stream *stream, size_t max_queue, int64_t stall_ms)
{
	struct stream *s = own(stream);
	s->max_queue = max_queue;
	s->stall_ms = stall_ms;
}

static struct chatd_str peer(const chatd_stream *stream)
{
	const struct stream *s = (const struct stream *)stream;
	return chatd_str_of(s->peer, s->peer_n);
}

static int32_t is_tls(const chatd_stream *stream)
{
	return ((const struct stream *)stream)->listener->tls != NULL;
}

static chatd_status peer_cred(const chatd_stream *stream, uint32_t *ret_uid, int32_t *ret_pid)
{
	const struct stream *s = (const struct stream *)stream;
	struct ucred cred;
	socklen_t n = sizeof(cred);
	if (!s->listener->is_unix) {
		return -ENOTSUP;
	}
	if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0) {
		return -errno;
	}
	*ret_uid = cred.uid;
	*ret_pid = cred.pid;
	return 0;
}

static chatd_status take_fd(chatd_stream *stream, int32_t *ret_fd)
{
	struct stream *s = own(stream);
	if (s->ssl || s->kept_n || s->queued || s->flags & STREAM_NO_ANSWER)
		return -ENOTSUP;
	stream_set_events(s, 0);
	s->flags |= STREAM_TAKEN;
	*ret_fd = s->fd;
	s->fd = -1;
	return 0;
}

const struct chatd_stream_ops stream_ops = {
	.struct_size = sizeof(stream_ops),
	.attach = attach,
	.send = stream_send,
	.pause = pause_reading,
	.close = close_stream,
	.reset = reset,
	.queued = queued,
	.limits = limits,
	.peer = peer,
	.is_tls = is_tls,
	.peer_cred = peer_cred,
	.take_fd = take_fd,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orderly end: flush, FIN, then read and throw away what the peer still sends.
 * Without that last part the kernel answers those bytes with a reset, and a reset makes
 * the peer's kernel forget our last bytes, which often say why the connection ends.
 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	FLUSH_MS = 30000, /* in all, however eagerly the peer takes a byte at a time */
	LINGER_MS = 2000,
	LINGER_BYTES = 4 * 1024 * 1024,
	LINGER_READS = 8, /* per event */
};

static void on_late(void *arg)
{
	struct stream *s = arg;
	stream_kill(s, s->queued > 0);
}

void stream_close(struct stream *s)
{
	if (s->flags & (STREAM_DEAD | STREAM_CLOSING))
		return;
	s->user = NULL;
	s->flags |= STREAM_CLOSING;
	s->flags &= (uint16_t) ~(STREAM_STARTING | STREAM_PAUSED | STREAM_SHOW | STREAM_READ_WR);
	free(s->kept);
	s->kept = NULL;
	s->kept_n = 0;
	if (stream_phase(s, FLUSH_MS, on_late) < 0)
		stream_kill(s, true);
	else
		stream_todo(s);
}

void stream_close_flushed(struct stream *s)
{
	if (s->flags & STREAM_EOF) {
		if (s->ssl)
			tls_goodbye(s->ssl);
		stream_kill(s, false);
		return;
	}
	if (s->ssl)
		tls_goodbye(s->ssl);
	s->flags |= STREAM_LINGER;
	if (shutdown(s->fd, SHUT_WR) < 0 || stream_phase(s, LINGER_MS, on_late) < 0) {
		stream_kill(s, false);
		return;
	}
	stream_update(s);
}

void stream_linger_on(struct stream *s)
{
	for (int i = 0; i < LINGER_READS; i++) {
		ssize_t n = recv(s->fd, s->nw->read, sizeof(s->nw->read), 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			stream_kill(s, false);
			return;
		}
		s->phase->discarded += (size_t)n;
		if (s->phase->discarded > LINGER_BYTES) {
			stream_kill(s, true);
			return;
		}
	}
}

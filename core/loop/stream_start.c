/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "loop/proxy.h"

enum { HANDSHAKE_MS = 5000 };

static void refuse(struct stream *s, const char *reason, const char *why)
{
	s->nw->stats.refused++;
	log_limited(CHATD_LOG_INFO, s->listener->conf.kind, reason, "refused %s: %s%s", s->peer, reason,
			why);
	stream_kill(s, true);
}

static void on_late(void *arg)
{
	struct stream *s = arg;
	refuse(s, s->ssl ? "TLS handshake took too long" : "PROXY header took too long", "");
}

static void start_tls(struct stream *s)
{
	s->ssl = tls_new(s->listener->tls, s->fd, &s->key_updates);
	if (!s->ssl)
		refuse(s, "no memory for TLS", "");
	else
		stream_set_events(s, EV_READ);
}

static void handshake(struct stream *s)
{
	int rc = tls_handshake(s->ssl);
	if (rc == 0) {
		stream_accepted(s);
	} else if (rc == TLS_FAILED) {
		/* Flushed by OpenSSL before: the alert.  A plain close lets it arrive. */
		s->nw->stats.refused++;
		log_limited(CHATD_LOG_INFO, s->listener->conf.kind, "TLS handshake failed",
				"refused %s: TLS handshake failed: %s", s->peer, tls_reason());
		stream_kill(s, false);
	} else {
		stream_set_events(s, rc == TLS_AGAIN_READ ? EV_READ : EV_WRITE);
	}
}

static void proxy_done(struct stream *s, const struct addr *from)
{
	free(s->kept);
	s->kept = NULL;
	s->kept_n = 0;
	if (from->len) {
		addr_print_peer(from, s->peer, sizeof(s->peer));
		s->peer_n = (uint8_t)strlen(s->peer);
	}
	if (s->listener->tls)
		start_tls(s);
	else
		stream_accepted(s);
}

/** Looks before it takes: not one byte behind the header may be consumed here. */
static void proxy_on(struct stream *s)
{
	char *p = s->nw->read;
	if (s->kept_n)
		memcpy(p, s->kept, s->kept_n);
	ssize_t n = recv(s->fd, p + s->kept_n, PROXY_MAX, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		stream_kill(s, false);
		return;
	}
	struct addr from;
	size_t total = s->kept_n + (size_t)n;
	int len = proxy_parse(p, total, &from);
	if (len < 0) {
		refuse(s, "no PROXY header from a proxy_from peer", "");
		return;
	}
	size_t take = (len > 0 ? (size_t)len : total) - s->kept_n;
	if (recv(s->fd, p + s->kept_n, take, 0) != (ssize_t)take) {
		stream_kill(s, true);
		return;
	}
	if (len > 0) {
		proxy_done(s, &from);
		return;
	}
	char *kept = realloc(s->kept, total);
	if (!kept) {
		stream_kill(s, true);
		return;
	}
	s->kept = kept;
	memcpy(kept + s->kept_n, p + s->kept_n, take);
	s->kept_n = total;
}

void stream_start_on(struct stream *s)
{
	if (s->ssl)
		handshake(s);
	else
		proxy_on(s);
}

void stream_start(struct stream *s)
{
	const struct chatd_listen *conf = &s->listener->conf;
	bool proxy =
			conf->proxy_from && net_address_in(chatd_str_of(s->peer, s->peer_n), conf->proxy_from);
	if (!proxy && !s->listener->tls) {
		stream_accepted(s);
		return;
	}
	s->flags |= STREAM_STARTING;
	if (stream_phase(s, conf->handshake_ms > 0 ? conf->handshake_ms : HANDSHAKE_MS, on_late) < 0)
		stream_kill(s, true);
	else if (proxy)
		stream_set_events(s, EV_READ);
	else
		start_tls(s);
}

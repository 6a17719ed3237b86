/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_lws.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LINGER_MS = 2000,
	BREACH_MS = 100, /* for the close frame to leave */
	LINGER_BYTES = 4 * 1024 * 1024,
	LINGER_READS = 8,
};

static const struct chatd_host *host_of(const struct link *l)
{
	return l->w->http.http->host;
}

static const struct http_conf *conf_of(const struct link *l)
{
	return l->w->http.http->conf;
}

static void on_timer(void *arg)
{
	link_linger(arg); /* nothing was asked, so nothing is answered */
}

static size_t no_data(void *arg, const char *p, size_t n)
{
	(void)arg;
	(void)p;
	return n;
}

static void on_end(void *arg, int32_t why)
{
	struct link *l = arg;
	(void)why;
	l->stream = NULL;
	link_kill(l);
}

/* Of the stream whose socket libwebsockets has. */
static const struct chatd_stream_user stream_user = {
	.struct_size = sizeof(struct chatd_stream_user),
	.data = no_data,
	.gone = on_end,
};

struct link *link_create(struct lws_worker *w, chatd_stream *stream)
{
	struct link *l = calloc(1, sizeof(*l));
	if (!l || !CHATD_HAS(stream->ops, take_fd) || stream->ops->take_fd(stream, &l->fd) < 0) {
		free(l);
		stream->ops->reset(stream);
		return NULL;
	}
	stream->ops->attach(stream, &stream_user, l);
	l->stream = stream;
	l->w = w;
	l->tls = w->http.http->conf->tls_cert != NULL;
	l->next = w->links;
	l->prev = &w->links;
	if (l->next)
		l->next->prev = &l->next;
	w->links = l;
	atomic_fetch_add_explicit(w->engine->links, 1, memory_order_relaxed);
	host_of(l)->timer_set(w->http.worker, &l->timer, conf_of(l)->header_ms, on_timer, l);
	return l;
}

void link_free(struct link *l)
{
	link_unwatch(l);
	host_of(l)->timer_clear(&l->timer);
	*l->prev = l->next;
	if (l->next)
		l->next->prev = l->prev;
	atomic_fetch_sub_explicit(l->w->engine->links, 1, memory_order_relaxed);
	if (l->stream)
		l->stream->ops->reset(l->stream);
	free(l);
}

struct chatd_str link_peer(const struct link *l)
{
	return l->stream ? l->stream->ops->peer(l->stream) : chatd_str_of(NULL, 0);
}

void link_busy(struct link *l)
{
	l->streams++;
	l->requests++;
	host_of(l)->timer_clear(&l->timer);
}

void link_idle(struct link *l)
{
	if (--l->streams == 0 && !l->wsi && l->state == LINK_DEAD) {
		link_free(l);
		return;
	}
	if (l->streams > 0 || l->state != LINK_OPEN)
		return;
	if (l->w->http.draining && l->wsi)
		link_linger(l);
	else
		host_of(l)->timer_set(l->w->http.worker, &l->timer, conf_of(l)->keepalive_ms, on_timer, l);
}

/* Disconnecting a socket is what resets it at once, while libwebsockets still has it. */
void link_kill(struct link *l)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	if (l->state == LINK_DEAD)
		return;
	if (l->state == LINK_OPEN)
		connect(l->fd, &none, sizeof(none));
	l->state = LINK_DEAD;
	link_unwatch(l);
	host_of(l)->timer_clear(&l->timer);
	if (l->wsi)
		lws_set_timeout(l->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	pump_kick(&l->w->pump);
}

static void on_late(void *arg)
{
	link_kill(arg);
}

static void on_told(void *arg)
{
	struct link *l = arg;
	if (l->state != LINK_OPEN || !l->wsi)
		return;
	l->state = LINK_DEAD;
	lws_set_timeout(l->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	pump_kick(&l->w->pump);
}

void link_breach(struct link *l)
{
	host_of(l)->timer_set(l->w->http.worker, &l->timer, BREACH_MS, on_told, l);
}

/* Without this, what the client still sends would be answered with a reset, which makes its
 * kernel forget our last bytes. */
static void on_last_words(void *arg, uint32_t ready)
{
	struct link *l = arg;
	(void)ready;
	for (int i = 0; i < LINGER_READS; i++) {
		ssize_t n = recv(l->fd, l->w->scratch, SCRATCH, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		l->requests += n > 0 ? (uint32_t)n : 0; /* its requests are over: counts bytes now */
		if (n <= 0 || l->requests > LINGER_BYTES) {
			link_kill(l);
			return;
		}
	}
}

void link_linger(struct link *l)
{
	if (l->state != LINK_OPEN)
		return;
	SSL *ssl = l->tls ? lws_get_ssl(l->wsi) : NULL;
	l->state = LINK_LINGER;
	l->requests = 0;
	lws_rx_flow_control(l->wsi, 0);
	lws_set_timeout(l->wsi, NO_PENDING_TIMEOUT, 0);
	if (ssl && SSL_is_init_finished(ssl))
		SSL_shutdown(ssl);
	shutdown(l->fd, SHUT_WR);
	link_unwatch(l);
	l->watch = host_of(l)->watch_fd(l->w->http.worker, l->fd, 1, on_last_words, l);
	host_of(l)->timer_set(l->w->http.worker, &l->timer, LINGER_MS, on_late, l);
	pump_kick(&l->w->pump);
}

/* ---- departure ----------------------------------------------------------------------- */

/** 1: the client has left, or sends no more; 0: it sent something. */
static int has_left(const struct link *l)
{
	struct tcp_info info;
	socklen_t n = sizeof(info);
	char byte;
	ssize_t rc = recv(l->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (rc < 0)
		return errno != EAGAIN && errno != EINTR;
	if (rc == 0)
		return 1;
	if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
		return 0;
	return info.tcpi_state != TCP_ESTABLISHED;
}

static void on_sign(void *arg, uint32_t ready)
{
	struct link *l = arg;
	struct exchange *x = l->x;
	(void)ready;
	int left = has_left(l);
	link_unwatch(l); /* what it sent ahead stays there, and would be reported for ever */
	if (!left || !x || !x->user)
		return;
	x->busy++;
	x->half = CHATD_HAS(x->user, half) && x->user->half(x->arg);
	x->busy--;
	if (x->half)
		return;
	exchange_gone(x, CHATD_END_EOF);
	link_kill(l);
}

void link_watch(struct link *l)
{
	if (!l->watch && l->state == LINK_OPEN)
		l->watch = host_of(l)->watch_fd(l->w->http.worker, l->fd, 1, on_sign, l);
}

void link_unwatch(struct link *l)
{
	host_of(l)->unwatch(l->watch);
	l->watch = NULL;
}

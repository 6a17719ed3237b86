/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<rabbitmq-c/ssl_socket.h>)
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

enum { ASK_MS = 500 };
enum { BACKOFF_MIN = 200, BACKOFF_MAX = 4000, BACKOFF_REFUSED = 30000, IN_USE_MS = 1000 };

void link_init(struct link *l, struct rabbit *r, const char *role)
{
	memset(l, 0, sizeof(*l));
	l->r = r;
	l->role = role;
	l->fd = -1;
	pthread_mutex_init(&l->lock, NULL);
}

int link_address(const char *text, int tls, char host[256], int *ret_port)
{
	const char *colon = strrchr(text, ':'), *end = text + strlen(text);
	int v6 = text[0] == '[';
	if (v6) {
		const char *close = strchr(text, ']');
		if (!close || (close[1] && close[1] != ':')) {
			return 0;
		}
		colon = close[1] ? close + 1 : NULL;
		end = close;
		text++;
	} else if (colon && memchr(text, ':', (size_t)(colon - text))) {
		return 0; /* v6 without brackets */
	} else if (colon) {
		end = colon;
	}
	size_t n = (size_t)(end - text);
	if (n == 0 || n > 255 || strcspn(text, " /@?") < n) {
		return 0;
	}
	memcpy(host, text, n);
	host[n] = '\0';
	*ret_port = tls ? 5671 : 5672;
	if (colon) {
		char *rest;
		long port = strtol(colon + 1, &rest, 10);
		if (colon[1] < '0' || colon[1] > '9' || *rest || port < 1 || port > 65535) {
			return 0;
		}
		*ret_port = (int)port;
	}
	return 1;
}

/* ---- what went wrong -------------------------------------------------------------------- */

static enum link_trouble trouble_of(int code, struct chatd_str text)
{
	switch (code) {
	case AMQP_ACCESS_REFUSED:
		/* The same code for rights and for a consumer beside an exclusive one. */
		return text.n && memmem(text.p, text.n, "exclusive use", 13) ? LINK_IN_USE : LINK_REFUSED;
	case AMQP_RESOURCE_LOCKED:
		return LINK_IN_USE;
	case AMQP_PRECONDITION_FAILED:
	case AMQP_NOT_ALLOWED:
		return LINK_REFUSED;
	case AMQP_NOT_FOUND:
		return LINK_MISSING;
	default:
		return LINK_BROKEN;
	}
}

static void set_why(struct link *l, enum link_trouble trouble, const char *what, struct chatd_str s)
{
	l->trouble = trouble;
	snprintf(l->why, sizeof(l->why), "%s: %.*s", what, (int)(s.n < 200 ? s.n : 200), s.p);
	for (char *p = l->why; *p; p++) {
		if ((unsigned char)*p < ' ') {
			*p = ' '; /* the broker's text, in our log */
		}
	}
}

int link_failed(struct link *l, const char *what, int status)
{
	const char *text = amqp_error_string2(status);
	set_why(l, LINK_BROKEN, what, chatd_str_of(text, strlen(text)));
	return -1;
}

static int closed_by(struct link *l, const char *what, const amqp_method_t *m)
{
	int code = 0;
	struct chatd_str text = CHATD_LIT("the broker has closed it");
	if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
		const amqp_channel_close_t *c = m->decoded;
		code = c->reply_code;
		text = wire_str(c->reply_text);
	} else if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
		const amqp_connection_close_t *c = m->decoded;
		code = c->reply_code;
		text = wire_str(c->reply_text);
	}
	set_why(l, trouble_of(code, text), what, text);
	return -1;
}

int link_closed(struct link *l, const amqp_method_t *m)
{
	return closed_by(l, "the broker ends it", m);
}

static int link_reply(struct link *l, const char *what, amqp_rpc_reply_t reply)
{
	switch (reply.reply_type) {
	case AMQP_RESPONSE_NORMAL:
		return 0;
	case AMQP_RESPONSE_SERVER_EXCEPTION:
		return closed_by(l, what, &reply.reply);
	case AMQP_RESPONSE_LIBRARY_EXCEPTION:
		return link_failed(l, what, reply.library_error);
	default:
		set_why(l, LINK_BROKEN, what, CHATD_LIT("the connection has ended"));
		return -1;
	}
}

int link_check(struct link *l, const char *what)
{
	return link_reply(l, what, amqp_get_rpc_reply(l->conn));
}

/* ---- connecting ---------------------------------------------------------------------------- */

static struct timeval from_ms(int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	return tv;
}

static int set_files(struct link *l, amqp_socket_t *s)
{
	const struct conf *c = l->r->conf;
	amqp_ssl_socket_set_verify_peer(s, 1);
	amqp_ssl_socket_set_verify_hostname(s, 1);
	(void)amqp_ssl_socket_set_ssl_versions(s, AMQP_TLSv1_2, AMQP_TLSvLATEST);
	int rc = c->ca_file ? amqp_ssl_socket_set_cacert(s, c->ca_file) : AMQP_STATUS_OK;
	if (rc != AMQP_STATUS_OK) {
		return link_failed(l, c->ca_file, rc);
	}
	if (!c->ca_file) {
		/* The system's, as everything else on this machine has it. */
		SSL_CTX_set_default_verify_paths(amqp_ssl_socket_get_context(s));
	}
	rc = c->cert_file ? amqp_ssl_socket_set_key(s, c->cert_file, c->key_file) : AMQP_STATUS_OK;
	return rc == AMQP_STATUS_OK ? 0 : link_failed(l, c->cert_file, rc);
}

static amqp_socket_t *socket_of(struct link *l)
{
	int tls = l->r->conf->tls;
	amqp_socket_t *s = tls ? amqp_ssl_socket_new(l->conn) : amqp_tcp_socket_new(l->conn);
	if (!s) {
		set_why(l, LINK_BROKEN, "socket", CHATD_LIT("no memory"));
		return NULL;
	}
	return tls && set_files(l, s) < 0 ? NULL : s;
}

/* Without this a broker that is frozen would hold whoever writes to it for ever. */
static void bound_writes(struct link *l, int ms)
{
	unsigned int value = (unsigned int)ms;
	(void)setsockopt(
			amqp_get_sockfd(l->conn), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
}

static amqp_table_entry_t yes(const char *name)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(name) };
	e.value.kind = AMQP_FIELD_KIND_BOOLEAN;
	e.value.value.boolean = 1;
	return e;
}

static int log_in(struct link *l)
{
	const struct conf *c = l->r->conf;
	char name[128], password[256];
	amqp_table_entry_t can[] = { yes("consumer_cancel_notify"), yes("connection.blocked"),
		yes("publisher_confirms"), yes("basic.nack"), yes("authentication_failure_close") };
	amqp_table_entry_t about[2] = { { .key = amqp_cstring_bytes("capabilities") },
		{ .key = amqp_cstring_bytes("connection_name") } };
	snprintf(name, sizeof(name), "chatd %.*s %s", (int)l->r->node.n, l->r->node.p, l->role);
	about[0].value.kind = AMQP_FIELD_KIND_TABLE;
	about[0].value.value.table.num_entries = 5;
	about[0].value.value.table.entries = can;
	about[1].value.kind = AMQP_FIELD_KIND_UTF8;
	about[1].value.value.bytes = amqp_cstring_bytes(name);
	const amqp_table_t properties = { .num_entries = 2, .entries = about };
	pthread_mutex_lock(&l->r->lock);
	memcpy(password, l->r->password, sizeof(password));
	pthread_mutex_unlock(&l->r->lock);
	amqp_rpc_reply_t reply = amqp_login_with_properties(l->conn, c->vhost, 8, 131072,
			(int)(c->heartbeat / 1000), &properties, AMQP_SASL_METHOD_PLAIN, c->user, password);
	explicit_bzero(password, sizeof(password));
	if (link_reply(l, "login", reply) < 0) {
		return -1;
	}
	amqp_channel_open(l->conn, LINK_CHANNEL);
	return link_check(l, "channel");
}

static void forget(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->fd = -1;
	pthread_mutex_unlock(&l->lock);
	if (l->conn) {
		amqp_destroy_connection(l->conn);
		l->conn = NULL;
	}
}

static int connect_to(struct link *l, const char *host, int port)
{
	struct timeval connect_time = from_ms(l->r->conf->connect_timeout), rpc_time = from_ms(RPC_MS);
	l->conn = amqp_new_connection();
	amqp_socket_t *s = l->conn ? socket_of(l) : NULL;
	if (!s || amqp_set_handshake_timeout(l->conn, &connect_time) != AMQP_STATUS_OK ||
			amqp_set_rpc_timeout(l->conn, &rpc_time) != AMQP_STATUS_OK) {
		return -1;
	}
	int rc = amqp_socket_open_noblock(s, host, port, &connect_time);
	if (rc != AMQP_STATUS_OK) {
		return link_failed(l, "connect", rc);
	}
	bound_writes(l, WRITE_MS);
	pthread_mutex_lock(&l->lock);
	l->fd = amqp_get_sockfd(l->conn);
	pthread_mutex_unlock(&l->lock);
	return log_in(l);
}

int link_open(struct link *l)
{
	const char *const *list = l->r->conf->addresses;
	size_t n = 0;
	while (list[n]) {
		n++;
	}
	for (size_t i = 0; i < n; i++) {
		const char *address = list[l->next % n];
		char host[256], why[sizeof(l->why)];
		int port;
		set_why(l, LINK_BROKEN, "connect", CHATD_LIT("no memory"));
		if (link_address(address, l->r->conf->tls, host, &port) && connect_to(l, host, port) == 0) {
			return 0;
		}
		forget(l);
		l->next++;
		memcpy(why, l->why, sizeof(why));
		snprintf(l->why, sizeof(l->why), "%.80s: %.160s", address, why);
	}
	return -1;
}

int link_exchange(struct link *l)
{
	amqp_exchange_declare(l->conn, LINK_CHANNEL, amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
	return link_check(l, "exchange chat.exchange");
}

/* ---- ending ------------------------------------------------------------------------------------ */

static int64_t delay_of(struct link *l)
{
	int64_t max = BACKOFF_MAX;
	switch (l->trouble) {
	case LINK_REFUSED:
		max = BACKOFF_REFUSED;
		break;
	case LINK_IN_USE:
		return IN_USE_MS;
	case LINK_MISSING:
		if (l->failures == 0) {
			return 0;
		}
		break;
	default:
		break;
	}
	uint32_t random;
	int64_t top = l->failures < 10 ? (int64_t)BACKOFF_MIN << l->failures : max;
	top = top < max ? top : max;
	l->r->h->random(&random, sizeof(random));
	return BACKOFF_MIN / 4 + random % (uint32_t)(top - BACKOFF_MIN / 4 + 1);
}

static void complain(struct link *l)
{
	const struct rabbit *r = l->r;
	uint64_t more;
	/* The same again: once a minute. */
	if (strcmp(l->said, l->why) == 0 && !nag_due(&l->nag, &more)) {
		return;
	}
	memcpy(l->said, l->why, sizeof(l->said));
	l->nag.at = clock_ms();
	switch (l->trouble) {
	case LINK_REFUSED:
		r->h->log(r->ctx, CHATD_LOG_ERROR,
				"the broker refuses the connection to %s (%s); check user \"%s\", its password, its "
				"rights on vhost \"%s\", and that nobody declared chat.exchange or chat.queue.%.*s in "
				"another way.  Until then other nodes are cut off",
				l->role, l->why, r->conf->user, r->conf->vhost, (int)r->node.n, r->node.p);
		break;
	case LINK_IN_USE:
		r->h->log(r->ctx, CHATD_LOG_WARN,
				"another connection consumes chat.queue.%.*s: an old one of ours that the broker has "
				"not given up yet, or a second node with server.server_id \"%.*s\"",
				(int)r->node.n, r->node.p, (int)r->node.n, r->node.p);
		break;
	default:
		r->h->log(r->ctx, CHATD_LOG_WARN, "no connection to %s: %s; trying again", l->role, l->why);
	}
}

void link_drop(struct link *l)
{
	forget(l);
	complain(l);
	l->retry_at = clock_ms() + delay_of(l);
	l->failures++;
	l->next += l->trouble == LINK_BROKEN && l->was_up;
	l->was_up = 0;
}

void link_works(struct link *l)
{
	const struct rabbit *r = l->r;
	if (l->said[0]) {
		r->h->log(r->ctx, CHATD_LOG_INFO, "connected again to %s", l->role);
	}
	l->said[0] = '\0';
	l->failures = 0;
	l->was_up = 1;
	l->trouble = LINK_FINE;
}

void link_close(struct link *l)
{
	if (l->conn) {
		(void)amqp_connection_close(l->conn, AMQP_REPLY_SUCCESS);
	}
	forget(l);
}

static void cut(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->fd >= 0) {
		(void)shutdown(l->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&l->lock);
}

void link_end_thread(struct link *l, pthread_t thread, int64_t ms)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t); /* the clock of pthread_timedjoin_np() */
	t.tv_sec += ms / 1000;
	if (pthread_timedjoin_np(thread, NULL, &t) != 0) {
		cut(l);
		pthread_join(thread, NULL);
	}
}

int link_due(const struct link *l, int64_t *ret_ms)
{
	*ret_ms = l->retry_at - clock_ms();
	return *ret_ms <= 0;
}

void link_finish(struct link *l)
{
	forget(l);
	pthread_mutex_destroy(&l->lock);
}

/* ---- frames ------------------------------------------------------------------------------------- */

void link_wait(struct link *l, int wake, int64_t ms)
{
	struct pollfd fds[2] = { { .fd = wake, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	if (l->conn) {
		fds[1].fd = amqp_get_sockfd(l->conn);
		/* What is read already wakes nobody. */
		if (amqp_frames_enqueued(l->conn) || amqp_data_in_buffer(l->conn)) {
			ms = 0;
		}
	}
	(void)poll(fds, 2, (int)ms);
	l->ask = fds[1].revents || clock_ms() - l->asked >= ASK_MS;
	if (atomic_exchange(&l->hurry, 0)) {
		l->retry_at = 0;
	}
	uint64_t n;
	if (fds[0].revents & POLLIN) {
		(void)!read(wake, &n, sizeof(n));
	}
}

int link_frame(struct link *l, amqp_frame_t *ret)
{
	static const struct timeval none;
	struct timeval tv = none;
	amqp_maybe_release_buffers(l->conn);
	if (!l->ask && !amqp_frames_enqueued(l->conn) && !amqp_data_in_buffer(l->conn)) {
		return 0;
	}
	if (l->ask) {
		l->asked = clock_ms();
	}
	int rc = amqp_simple_wait_frame_noblock(l->conn, ret, &tv);
	/* What it has read it has taken out of the socket; of TLS nobody else knows what is left. */
	l->ask = l->ask && l->r->conf->tls && rc == AMQP_STATUS_OK;
	if (rc == AMQP_STATUS_OK) {
		atomic_store_explicit(&l->r->heard, clock_ms(), memory_order_relaxed);
		return 1;
	}
	if (rc == AMQP_STATUS_TIMEOUT) {
		return 0;
	}
	return link_failed(l, rc == AMQP_STATUS_HEARTBEAT_TIMEOUT ? "no heartbeat" : "read", rc);
}

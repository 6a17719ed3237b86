/* SPDX-License-Identifier: Apache-2.0 */
/* hiredis knows the protocol only; connecting, TLS and time are libevent's. */
#include "conn.h"
#include "op.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

#include <openssl/err.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 8 + SCRIPTS_MAX, REPLY_MAX = 16 << 20, WHY_MAX = 400, WORDS_MAX = 8 };
enum step { STEP_AUTH, STEP_NAME, STEP_SELECT, STEP_ROLE, STEP_PROBE, STEP_LOAD };

struct conn {
	struct engine *e;
	int32_t kind;
	struct address address;
	const struct conn_user *user;
	void *arg;
	struct bufferevent *bev;
	struct event *timeout;
	redisReader *reader;
	enum step steps[STEPS_MAX];
	size_t n_steps, step;
	int ready, busy, dead; /* busy: a callback of the user may run; then nothing is freed */
	char why[WHY_MAX];
};

static const char *const down_words[] = { "READONLY", "LOADING", "MOVED", "ASK", "OOM", "NOAUTH",
	"MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF", "WRONGPASS", "NOPERM", "BUSY",
	"UNBLOCKED" };

int conn_error_is_down(struct chatd_str error)
{
	for (size_t i = 0; i < sizeof(down_words) / sizeof(down_words[0]); i++) {
		size_t n = strlen(down_words[i]);
		/* A script hands on what its commands were refused with, in its own words. */
		if (error.n > n && memcmp(error.p, down_words[i], n) == 0 &&
				(error.p[n] == ' ' || error.p[n] == ':')) {
			return 1;
		}
	}
	return memmem(error.p, error.n, "-READONLY ", 10) || memmem(error.p, error.n, "-OOM ", 5) ||
			memmem(error.p, error.n, "'maxmemory'", 11);
}

const struct address *conn_address(const struct conn *c)
{
	return &c->address;
}

static void conn_free(struct conn *c)
{
	if (c->timeout) {
		event_free(c->timeout);
	}
	if (c->bev) {
		bufferevent_free(c->bev);
	}
	if (c->reader) {
		redisReaderFree(c->reader);
	}
	free(c);
}

void conn_close(struct conn *c)
{
	if (c) {
		c->dead = 1;
		if (!c->busy) {
			conn_free(c);
		}
	}
}

static void lose(struct conn *c, const char *fmt, ...) CHATD_PRINTF(2, 3);
static void lose(struct conn *c, const char *fmt, ...)
{
	va_list ap;
	char why[WHY_MAX], text[WHY_MAX + HOST_MAX + 16];
	if (c->dead) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s:%d %s", c->address.host, c->address.port, why);
	const struct conn_user *user = c->user;
	void *arg = c->arg;
	conn_close(c);
	user->lost(arg, text);
}

void conn_send(struct conn *c, const char *bytes, size_t n)
{
	/* Without memory the reply does not come, and its deadline does. */
	(void)bufferevent_write(c->bev, bytes, n);
}

void conn_say(struct conn *c, const struct chatd_str *words)
{
	const char *argv[WORDS_MAX];
	size_t lens[WORDS_MAX], n = 0;
	char *bytes;
	for (; words[n].p && n < WORDS_MAX; n++) {
		argv[n] = words[n].p;
		lens[n] = words[n].n;
	}
	int len = redisFormatCommandArgv(&bytes, (int)n, argv, lens);
	if (len > 0) {
		conn_send(c, bytes, (size_t)len);
		free(bytes);
	}
}

/* ---- hello --------------------------------------------------------------------------------- */

static struct chatd_str word(const char *text)
{
	return chatd_str_of(text, text ? strlen(text) : 0);
}

static void step(struct conn *c, enum step s, const struct chatd_str *words)
{
	c->steps[c->n_steps++] = s;
	conn_say(c, words);
}

static void say_auth(struct conn *c)
{
	const struct conf *conf = c->e->conf;
	int watch = c->kind == CONN_SENTINEL;
	const char *user = watch ? conf->sentinel_user : conf->user;
	const char *password =
			watch ? atomic_load(&c->e->sentinel_password) : atomic_load(&c->e->password);
	if (password && user) {
		step(c, STEP_AUTH,
				(struct chatd_str[]){ word("AUTH"), word(user), word(password), { NULL, 0 } });
	} else if (password) {
		step(c, STEP_AUTH, (struct chatd_str[]){ word("AUTH"), word(password), { NULL, 0 } });
	}
}

static void say_hello(struct conn *c)
{
	const struct engine *e = c->e;
	char db[24], name[128], key[CHANNEL_MAX];
	say_auth(c);
	snprintf(name, sizeof(name), "chatd:%s", e->h->server_id());
	step(c, STEP_NAME,
			(struct chatd_str[]){ word("CLIENT"), word("SETNAME"), word(name), { NULL, 0 } });
	if (c->kind != CONN_COMMANDS) {
		return;
	}
	if (e->conf->db) {
		snprintf(db, sizeof(db), "%lld", (long long)e->conf->db);
		step(c, STEP_SELECT, (struct chatd_str[]){ word("SELECT"), word(db), { NULL, 0 } });
	}
	step(c, STEP_ROLE, (struct chatd_str[]){ word("ROLE"), { NULL, 0 } });
	/* Whether it can be written to is known only by writing. */
	snprintf(key, sizeof(key), "%sprobe:%s", e->conf->prefix, e->h->server_id());
	step(c, STEP_PROBE,
			(struct chatd_str[]){
					word("SET"), word(key), word("1"), word("PX"), word("1000"), { NULL, 0 } });
	for (uint32_t i = 0; i < e->n_scripts; i++) {
		step(c, STEP_LOAD,
				(struct chatd_str[]){
						word("SCRIPT"), word("LOAD"), word(e->scripts[i].text), { NULL, 0 } });
	}
}

/* What an error in the answer to a step means; NULL: nothing. */
static const char *trouble(const struct conn *c, enum step s, const redisReply *r)
{
	int error = r->type == REDIS_REPLY_ERROR;
	if (error && strncmp(r->str, "NOAUTH", 6) == 0) {
		return c->kind == CONN_SENTINEL ? "wants a password: set redis.sentinel_password"
										: "wants a password: set redis.password";
	}
	switch (s) {
	case STEP_AUTH:
		return error ? "refused the login: correct redis.user and redis.password" : NULL;
	case STEP_NAME:
		return NULL; /* a rule may forbid it, which harms nothing */
	case STEP_ROLE: {
		int replica = r->type == REDIS_REPLY_ARRAY && r->elements > 0 &&
				r->element[0]->type == REDIS_REPLY_STRING &&
				strcmp(r->element[0]->str, "slave") == 0;
		return replica ? "is a replica; only the master can be written to" : NULL;
	}
	case STEP_SELECT:
		return error ? "has no such redis.db, or forbids it" : NULL;
	case STEP_PROBE:
		return error ? "cannot be written to" : NULL;
	default:
		return error ? "refused a script" : NULL;
	}
}

static void take_hello(struct conn *c, redisReply *r)
{
	const char *what = trouble(c, c->steps[c->step], r);
	char more[160] = "";
	if (what && r->type == REDIS_REPLY_ERROR) {
		snprintf(more, sizeof(more), " (%.140s)", r->str);
	}
	freeReplyObject(r);
	if (what) {
		lose(c, "%s%s", what, more);
	} else if (++c->step == c->n_steps) {
		event_del(c->timeout);
		c->ready = 1;
		c->user->ready(c->arg);
	}
}

/* ---- events ---------------------------------------------------------------------------------- */

static void take_replies(struct conn *c)
{
	while (!c->dead) {
		void *reply = NULL;
		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
			lose(c, "does not speak the protocol of Redis (%s)", c->reader->errstr);
			return;
		}
		if (!reply) {
			if (c->reader->len - c->reader->pos > REPLY_MAX) {
				lose(c, "sent a reply above %d MiB", REPLY_MAX >> 20);
			}
			return;
		}
		if (c->ready) {
			c->user->reply(c->arg, reply);
		} else if (c->step < c->n_steps) {
			take_hello(c, reply);
		} else {
			freeReplyObject(reply);
		}
	}
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	c->busy = 1;
	while (!c->dead && evbuffer_get_length(in) > 0) {
		size_t n = evbuffer_get_contiguous_space(in);
		unsigned char *p = evbuffer_pullup(in, (ev_ssize_t)n);
		if (redisReaderFeed(c->reader, (const char *)p, n) != REDIS_OK) {
			lose(c, "sent what cannot be kept (%s)", c->reader->errstr);
			break;
		}
		evbuffer_drain(in, n);
		take_replies(c);
	}
	c->busy = 0;
	if (c->dead) {
		conn_free(c);
	}
}

static const char *tls_trouble(struct bufferevent *bev, char room[160])
{
	unsigned long error = bufferevent_get_openssl_error(bev);
	SSL *ssl = bufferevent_openssl_get_ssl(bev);
	long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	if (verify != X509_V_OK) {
		return X509_verify_cert_error_string(verify);
	}
	if (!error) {
		return NULL;
	}
	snprintf(
			room, 160, "%s", ERR_reason_error_string(error) ? ERR_reason_error_string(error) : "?");
	return room;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;
	char room[160];
	c->busy = 1;
	if (what & BEV_EVENT_CONNECTED) {
		say_hello(c);
	} else if (what & (BEV_EVENT_ERROR | BEV_EVENT_EOF)) {
		int dns = bufferevent_socket_get_dns_error(bev);
		int error = EVUTIL_SOCKET_ERROR();
		const char *tls = tls_trouble(bev, room);
		if (dns) {
			lose(c, "cannot be found: %s", evutil_gai_strerror(dns));
		} else if (tls) {
			lose(c, "failed the TLS handshake or connection: %s", tls);
		} else if ((what & BEV_EVENT_EOF) || error == 0) {
			lose(c, "closed the connection");
		} else {
			lose(c, "cannot be reached: %s", strerror(error));
		}
	}
	c->busy = 0;
	if (c->dead) {
		conn_free(c);
	}
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	(void)fd;
	(void)what;
	lose(c, "did not answer within %lld ms", (long long)c->e->conf->connect_timeout);
}

/* ---- opening -------------------------------------------------------------------------------- */

static SSL *tls_new(const struct conn *c)
{
	SSL *ssl = SSL_new(c->e->tls);
	if (!ssl) {
		return NULL;
	}
	int good;
	if (address_is_numeric(&c->address)) {
		good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), c->address.host);
	} else {
		good = SSL_set_tlsext_host_name(ssl, c->address.host) &&
				SSL_set1_host(ssl, c->address.host);
	}
	if (!good) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

static struct bufferevent *bev_new(const struct conn *c)
{
	const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
	if (!c->e->tls) {
		return bufferevent_socket_new(c->e->base, -1, options);
	}
	SSL *ssl = tls_new(c);
	struct bufferevent *bev = ssl ? bufferevent_openssl_socket_new(c->e->base, -1, ssl,
											BUFFEREVENT_SSL_CONNECTING, options)
								  : NULL;
	if (bev) {
		bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	} else {
		SSL_free(ssl);
	}
	return bev;
}

struct conn *conn_open(struct engine *e, int32_t kind, const struct address *address,
		const struct conn_user *user, void *arg)
{
	const int64_t ms = e->conf->connect_timeout;
	const struct timeval limit = { ms / 1000, ms % 1000 * 1000 };
	struct conn *c = calloc(1, sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->e = e;
	c->kind = kind;
	c->address = *address;
	c->user = user;
	c->arg = arg;
	c->timeout = evtimer_new(e->base, on_timeout, c);
	c->reader = op_reader();
	c->bev = bev_new(c);
	if (!c->timeout || !c->reader || !c->bev || evtimer_add(c->timeout, &limit) != 0) {
		conn_free(c);
		return NULL;
	}
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	atomic_fetch_add_explicit(&e->counts.connects, 1, memory_order_relaxed);
	/* An error now is told by on_event() too, which is deferred: never from within. */
	(void)bufferevent_socket_connect_hostname(
			c->bev, e->dns, AF_UNSPEC, c->address.host, c->address.port);
	return c;
}

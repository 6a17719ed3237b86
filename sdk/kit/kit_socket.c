/* SPDX-License-Identifier: Apache-2.0 */
/* Fakes of chatd.websocket/1 and chatd.sockjs/1: whole messages, and how they end. */
#include "base/buf.h"
#include "base/str.h"
#include "chat/msg.h"
#include "kit_impl.h"

#include <chatd/kit_socket.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENDPOINTS_MAX = 16 };

struct message {
	struct message *next;
	char *text;
	size_t n;
};

/* Both kinds: the plugin's handle of each is a pointer to this. */
struct kit_socket {
	struct kit_socket *next;
	struct kit *k;
	chatd_worker *w;
	const chatd_req *req;             /* that it began as; NULL: of SockJS */
	const struct chatd_ws_user *user; /* likewise */
	const struct chatd_sockjs_app *app;
	void *arg;
	uint32_t flags;
	size_t max_message;
	int over; /* closed, cut, or gone */
	int paused;
	int32_t code;                /* that the plugin closed it with; 0: it did not */
	struct message *got, *waits; /* for the test; for the plugin, while it pauses */
};

struct kit_sockets {
	struct kit_socket *all;
	struct chatd_sockjs_app endpoints[ENDPOINTS_MAX];
	size_t n;
};

static struct kit_sockets *sockets(struct kit *k)
{
	k->sockets = k->sockets ? k->sockets : calloc(1, sizeof(*k->sockets));
	if (!k->sockets) {
		kit_broken(k, "no memory for the test itself");
	}
	return k->sockets;
}

/* As the plugin names it; it may not touch one that is over. */
static struct kit_socket *of(const void *handle)
{
	struct kit_socket *s = (struct kit_socket *)(uintptr_t)handle;
	if (s->over) {
		kit_broken(s->k, "a socket was touched after it had ended");
	}
	if (s->k->here != s->w) {
		kit_broken(s->k, "a socket was touched on another thread than its own");
	}
	return s;
}

static struct kit_socket *create(struct kit *k, chatd_worker *w)
{
	struct kit_socket *s = calloc(1, sizeof(*s));
	if (!s) {
		kit_broken(k, "no memory for the test itself");
		return NULL;
	}
	s->k = k;
	s->w = w;
	s->next = sockets(k)->all;
	sockets(k)->all = s;
	return s;
}

static void append(struct kit *k, struct message **at, struct chatd_str text)
{
	struct message *m = calloc(1, sizeof(*m));
	if (!m) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	while (*at) {
		at = &(*at)->next;
	}
	m->text = kit_dup(text.p ? text : CHATD_LIT(""));
	m->n = text.n;
	*at = m;
}

static void drop(struct message **at)
{
	struct message *m = *at;
	*at = m->next;
	free(m->text);
	free(m);
}

/* ---- chatd.websocket/1 ----------------------------------------------------------------- */

static chatd_ws *w_accept(void *obj, chatd_req *req, const struct chatd_ws_accept *how)
{
	struct kit *k = obj;
	if (!how->user || !how->user->message == !how->user->data || !how->user->gone) {
		kit_broken(k, "accept() of chatd.websocket/1: .user has gone(), and data() or message()");
	}
	chatd_worker *w = kit_http_vt.req_worker(req);
	if (kit_fault(k) || !kit_http_switch(req)) {
		kit_http_vt.problem(req, 426, "UPGRADE_REQUIRED", "This is a WebSocket.");
		return NULL;
	}
	struct kit_socket *s = create(k, w);
	s->req = req;
	s->user = how->user;
	s->arg = how->arg;
	s->flags = how->flags;
	s->max_message = how->max_message;
	return (chatd_ws *)s;
}

static chatd_msg *w_credentials(void *obj, chatd_req *req)
{
	static const struct {
		const char *cred, *from;
		int query;
	} parts[] = { { CHATD_CRED_TOKEN, "token", 1 }, { CHATD_CRED_NICKNAME, "nickname", 1 },
		{ CHATD_CRED_DEVICE, "device-token", 0 }, { CHATD_CRED_AGENT, "user-agent", 0 } };
	chatd_msg *m = kit_table.msg_new(CHATD_LIT(""), CHATD_LIT(""));
	struct chatd_str bearer = kit_http_vt.req_header(req, "authorization");
	(void)obj;
	if (!m) {
		return NULL;
	}
	(void)msg_set(m, CHATD_CRED_PEER, kit_http_vt.req_peer(req));
	if (bearer.n > 7 && memcmp(bearer.p, "Bearer ", 7) == 0) {
		(void)msg_set(m, CHATD_CRED_BEARER, chatd_str_of(bearer.p + 7, bearer.n - 7));
	}
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct chatd_str value = parts[i].query ? kit_http_vt.req_query(req, parts[i].from)
												: kit_http_vt.req_header(req, parts[i].from);
		if (value.p) {
			(void)msg_set(m, parts[i].cred, value);
		}
	}
	return m;
}

/* Nothing is framed: a buffer is its message. */
static chatd_buf *w_wrap(chatd_buf *raw, uint32_t flags)
{
	(void)flags;
	if (kit_fault(kit_the())) {
		kit_table.buf_unref(raw);
		return NULL;
	}
	return raw;
}

static size_t w_send(chatd_ws *ws, struct chatd_str payload, int32_t binary)
{
	struct kit_socket *s = of(ws);
	(void)binary;
	append(s->k, &s->got, payload);
	return payload.n;
}

static size_t w_send_buf(chatd_ws *ws, chatd_buf *wrapped)
{
	return w_send(ws, chatd_str_of(buf_data(wrapped), buf_len(wrapped)), 0);
}

static void end(struct kit_socket *s, int32_t code)
{
	s->over = 1;
	s->code = code;
}

static void w_close(chatd_ws *ws, int32_t code, const char *why)
{
	(void)why;
	end(of(ws), code);
}

static void w_cut(chatd_ws *ws)
{
	end(of(ws), KIT_SOCKET_CUT);
}

static size_t give(struct kit_socket *s, struct chatd_str text)
{
	if (s->app) {
		s->app->message(s->arg, text, 0);
		return text.n;
	}
	if (s->user->message) {
		s->user->message(s->arg, text, 0);
		return text.n;
	}
	return s->user->data(s->arg, text.p, text.n, CHATD_WS_FIRST | CHATD_WS_LAST);
}

/* Message after message, until the plugin pauses or there is none. */
static void show(void *arg)
{
	struct kit_socket *s = arg;
	chatd_worker *was = s->k->here;
	s->k->here = s->w;
	while (s->waits && !s->over && !s->paused) {
		struct message *m = s->waits;
		size_t taken = give(s, chatd_str_of(m->text, m->n));
		if (taken < m->n && !s->over) {
			if (!s->paused) {
				kit_broken(s->k, "data() of a WebSocket took %zu bytes of %zu, and did not pause",
						taken, m->n);
			}
			memmove(m->text, m->text + taken, m->n - taken + 1);
			m->n -= taken;
			break;
		}
		drop(&s->waits);
	}
	s->k->here = was;
}

static void w_pause(chatd_ws *ws, int32_t on)
{
	struct kit_socket *s = of(ws);
	s->paused = on != 0;
	if (!on && s->waits) {
		(void)worker_post(s->w, show, s);
	}
}

static size_t w_queued(const chatd_ws *ws)
{
	(void)of(ws);
	return 0;
}

static void w_beats(chatd_ws *ws)
{
	(void)of(ws);
}

static struct chatd_str w_peer(const chatd_ws *ws)
{
	(void)of(ws);
	return CHATD_LIT("192.0.2.1");
}

const struct chatd_websocket kit_websocket_vt = { .struct_size = sizeof(kit_websocket_vt),
	.accept = w_accept,
	.credentials = w_credentials,
	.wrap = w_wrap,
	.send_buf = w_send_buf,
	.send = w_send,
	.close = w_close,
	.cut = w_cut,
	.pause = w_pause,
	.queued = w_queued,
	.beats = w_beats,
	.peer = w_peer };

/* ---- chatd.sockjs/1 ---------------------------------------------------------------------- */

static chatd_status j_endpoint(void *obj, chatd_ctx *ctx, const struct chatd_sockjs_app *app)
{
	struct kit *k = obj;
	struct kit_sockets *all = sockets(k);
	(void)ctx;
	if (!k->registering) {
		kit_broken(k, "endpoint() of chatd.sockjs/1 is for init() only");
	}
	if (!app->prefix || app->prefix[0] != '/' || !app->open || !app->message || !app->gone) {
		return -EINVAL;
	}
	for (size_t i = 0; i < all->n; i++) {
		if (strcmp(all->endpoints[i].prefix, app->prefix) == 0) {
			return -EEXIST;
		}
	}
	if (kit_fault(k) || all->n == ENDPOINTS_MAX) {
		return -ENOMEM;
	}
	all->endpoints[all->n++] = *app;
	return 0;
}

static void j_send(chatd_sockjs_conn *c, struct chatd_str text, int32_t binary)
{
	(void)w_send((chatd_ws *)c, text, binary);
}

static void j_close(chatd_sockjs_conn *c, int32_t code, const char *why)
{
	(void)why;
	end(of(c), code);
}

const struct chatd_sockjs kit_sockjs_vt = {
	.struct_size = sizeof(kit_sockjs_vt), .endpoint = j_endpoint, .send = j_send, .close = j_close
};

/* ---- the test's side ----------------------------------------------------------------------- */

/* For a start that failed, and for a request that was refused: nothing comes of it. */
static struct kit_socket *closed(struct kit *k)
{
	struct kit_socket *s = create(k, &k->workers[0]);
	s->over = 1;
	return s;
}

struct kit_socket *kit_websocket(struct kit_req *r)
{
	struct kit *k = kit_the();
	struct kit_socket *s = sockets(k)->all;
	if (kit_http_status(r) != 101) {
		return closed(k);
	}
	while (s && s->req != (const chatd_req *)(const void *)r) {
		s = s->next;
	}
	return s ? s : closed(k);
}

struct kit_socket *kit_sockjs(struct kit *k, const char *prefix)
{
	struct kit_sockets *all = sockets(k);
	size_t i = 0;
	while (i < all->n && strcmp(all->endpoints[i].prefix, prefix) != 0) {
		i++;
	}
	if (k->dead || i == all->n) {
		if (!k->injected) {
			kit_broken(k, "the plugin has no SockJS endpoint %s", prefix);
		}
		return closed(k);
	}
	struct kit_socket *s = create(k, &k->workers[0]);
	s->app = &all->endpoints[i];
	k->here = s->w;
	s->arg = s->app->open(s->app->arg, s->w, (chatd_sockjs_conn *)s);
	k->here = NULL;
	s->over |= !s->arg; /* it was not taken */
	kit_settle(k);
	return s;
}

void kit_socket_send(struct kit_socket *s, const char *text)
{
	struct kit *k = s->k;
	size_t n = strlen(text);
	if (s->over) {
		if (!kit_muted(k)) {
			kit_broken(k, "the socket is closed; it cannot send \"%s\"", text);
		}
		return;
	}
	if (s->max_message && n > s->max_message) {
		kit_socket_leave(s);
		s->code = KIT_SOCKET_TOO_BIG;
		return;
	}
	append(k, &s->waits, chatd_str_of(text, n));
	show(s);
	kit_settle(k);
}

static void leave(struct kit_socket *s, int32_t why)
{
	struct kit *k = s->k;
	if (s->over) {
		return;
	}
	k->here = s->w;
	s->over = 1; /* it is not to be touched in gone() */
	if (s->app) {
		s->app->gone(s->arg);
	} else {
		s->user->gone(s->arg, why);
	}
	k->here = NULL;
}

void kit_socket_leave(struct kit_socket *s)
{
	leave(s, CHATD_END_EOF);
	kit_settle(s->k);
}

int kit_socket_is_open(const struct kit_socket *s)
{
	return !s->over;
}

void kit_expect_message_at(struct kit_socket *s, const char *part, struct kit_at at)
{
	if (kit_muted(s->k)) {
		return;
	}
	if (!s->got || !strstr(s->got->text, part)) {
		kit_die(s->k, at.file, at.line, "the socket got %s%s; expected: ...%s...",
				s->got ? "" : "nothing", s->got ? s->got->text : "", part);
		return;
	}
	drop(&s->got);
}

void kit_expect_no_message_at(struct kit_socket *s, struct kit_at at)
{
	if (!kit_muted(s->k) && s->got) {
		kit_die(s->k, at.file, at.line, "the socket got %s; expected nothing", s->got->text);
	}
}

void kit_expect_socket_closed_at(struct kit_socket *s, int32_t code, struct kit_at at)
{
	if (!kit_muted(s->k) && (!s->over || s->code != code)) {
		kit_die(s->k, at.file, at.line,
				"the socket is %s, code %d; expected that it is closed with %d",
				s->over ? "closed" : "open", s->code, code);
	}
}

/* ---- the end ---------------------------------------------------------------------------------- */

/* @p why CHATD_END_DRAIN: the server stops, and says so to whoever wants to hear it. */
void kit_sockets_leave(struct kit *k, int32_t why)
{
	for (struct kit_socket *s = k->sockets ? k->sockets->all : NULL; s; s = s->next) {
		if (!s->over && why == CHATD_END_DRAIN && s->user && CHATD_HAS(s->user, drain)) {
			k->here = s->w;
			s->user->drain(s->arg);
			k->here = NULL;
		}
		leave(s, why);
	}
	kit_settle(k);
}

void kit_sockets_finish(struct kit *k)
{
	while (k->sockets && k->sockets->all) {
		struct kit_socket *s = k->sockets->all;
		k->sockets->all = s->next;
		while (s->got) {
			drop(&s->got);
		}
		while (s->waits) {
			drop(&s->waits);
		}
		free(s);
	}
	free(k->sockets);
	k->sockets = NULL;
}

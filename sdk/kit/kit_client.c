/* SPDX-License-Identifier: Apache-2.0 */
/* Clients: the codec's side of sessions, and the outcomes of their requests. */
#include "base/buf.h"
#include "base/str.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/session.h"
#include "kit_impl.h"

#include <chatd/kit_net.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIT_USER  "kit-user"
#define KIT_FLAGS "kit-flags"
#define KIT_LOGIN "kit-login"
#define KIT_ROLES "kit-roles"

/* ---- outcomes ---------------------------------------------------------------- */

static void outcome_clear(struct kit_outcome *o)
{
	free(o->code);
	free(o->why);
	msg_unref(o->reply);
	ident_unref(o->ident);
	memset(o, 0, sizeof(*o));
}

void kit_outcome_set(struct kit *k, const struct chatd_outcome *o, const chatd_ident *ident)
{
	outcome_clear(&k->last);
	k->last.answered = 1;
	k->last.verdict = o->verdict;
	k->last.code = kit_dup(str_of(o->code));
	k->last.why = kit_dup(o->why);
	k->last.reply = o->reply ? msg_clone(o->reply) : NULL;
	k->last.ident = ident ? ident_ref(ident) : NULL;
}

static struct kit_ticket *ticket_create(struct kit *k, struct kit_client *c)
{
	struct kit_ticket *t = calloc(1, sizeof(*t));
	if (!t) {
		kit_broken(k, "no memory for the test itself");
		return NULL;
	}
	t->k = k;
	t->client = c;
	t->next = k->tickets;
	t->link = &k->tickets;
	if (t->next) {
		t->next->link = &t->next;
	}
	k->tickets = t;
	k->n_tickets++;
	k->last.answered = 0;
	return t;
}

static void ticket_free(struct kit_ticket *t)
{
	*t->link = t->next;
	if (t->next) {
		t->next->link = t->link;
	}
	t->k->n_tickets--;
	free(t);
}

/* Nothing is read of a session while one of its requests waits: so it is seen only then that the
 * client has gone. */
static int is_read(const struct kit_client *c)
{
	for (const struct kit_ticket *t = c->k->tickets; t; t = t->next) {
		if (t->client == c && !t->went_on) {
			return 0;
		}
	}
	return 1;
}

static void on_read(void *arg)
{
	struct kit_client *c = arg;
	if (c->leaving && is_read(c)) {
		kit_cut(c);
	}
}

static void on_done(void *arg, const struct chatd_outcome *o)
{
	struct kit_ticket *t = arg;
	struct kit_client *c = t->client;
	kit_outcome_set(t->k, o, session_ident(c->s));
	ticket_free(t);
	if (c->leaving && worker_post(c->w, on_read, c) < 0) {
		kit_broken(c->k, "no memory for the test itself");
	}
}

static void on_login(void *arg, const struct chatd_outcome *o)
{
	struct kit_ticket *t = arg;
	struct kit_client *c = t->client;
	c->open = o->verdict == CHATD_ACCEPT;
	if (c->open) {
		free(c->user);
		c->user = kit_dup(ident_user(session_ident(c->s)));
	}
	on_done(arg, o);
}

/* ---- what the core asks of a codec's connection ---------------------------------- */

/* A frame is: lengths of destination and body, then both. */
static chatd_buf *conn_render(uint32_t form, struct chatd_str sub, struct chatd_str ack,
		const chatd_msg *msg, uint32_t *ret_flags)
{
	struct chatd_str d = msg_dest(msg), b = msg_body(msg);
	size_t n[2] = { d.n, b.n };
	chatd_buf *buf = buf_new(CHATD_WRAP_ROOM, sizeof(n) + d.n + b.n);
	(void)form;
	(void)sub;
	(void)ack;
	*ret_flags = 0;
	if (buf) {
		memcpy(buf_data(buf), n, sizeof(n));
		memcpy(buf_data(buf) + sizeof(n), d.p, d.n);
		memcpy(buf_data(buf) + sizeof(n) + d.n, b.p, b.n);
	}
	return buf;
}

static void on_too_slow(void *arg)
{
	struct kit_client *c = arg;
	if (c->s) {
		session_close(c->s, KIT_TOO_SLOW, "slow consumer");
	}
}

static size_t conn_send(void *conn, chatd_buf *buf)
{
	struct kit_client *c = conn;
	size_t n[2];
	struct kit_delivery *d = calloc(1, sizeof(*d));
	if (d) {
		memcpy(n, buf_data(buf), sizeof(n));
		d->dest = kit_dup(chatd_str_of(buf_data(buf) + sizeof(n), n[0]));
		d->body = kit_dup(chatd_str_of(buf_data(buf) + sizeof(n) + n[0], n[1]));
		struct kit_delivery ***tail = c->slow ? &c->waits_tail : &c->got_tail;
		**tail = d;
		*tail = &d->next;
	}
	if (c->slow && c->queued <= KIT_QUEUE_MAX) {
		c->queued += buf_len(buf);
		if (c->queued > KIT_QUEUE_MAX) {
			(void)worker_post(c->w, on_too_slow, c);
		}
	}
	return c->queued;
}

static void gone(struct kit_client *c)
{
	struct kit_ticket *t = c->k->tickets, *next;
	c->s = NULL;
	c->open = 0;
	for (; t; t = next) {
		next = t->next;
		if (t->client == c) {
			ticket_free(t);
		}
	}
}

static void conn_close(void *conn, int32_t code, const char *why)
{
	struct kit_client *c = conn;
	(void)why;
	c->code = code;
	gone(c);
}

static void conn_pause(void *conn, int32_t on)
{
	(void)conn;
	(void)on;
}

static size_t conn_queued(void *conn)
{
	const struct kit_client *c = conn;
	return c->queued;
}

/* go_on(): the handler keeps the order itself, and what comes next is read. */
static int32_t conn_proceed(void *conn, chatd_done **ret_done, void **ret_arg)
{
	struct kit_ticket *t = *ret_arg;
	(void)conn;
	(void)ret_done;
	t->went_on = 1;
	return 1;
}

static const struct chatd_conn_ops ops = { .struct_size = sizeof(ops),
	.proceed = conn_proceed,
	.render = conn_render,
	.send = conn_send,
	.pause = conn_pause,
	.close = conn_close,
	.queued = conn_queued };

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer), .name = "kit", .wrap = CHATD_WRAP_NOTHING
};

/* ---- logging in --------------------------------------------------------------------- */

static chatd_verdict by_login(chatd_call *call)
{
	struct chatd_str login = msg_get(call_msg(call), CHATD_CRED_LOGIN);
	const struct chatd_identity who = { .struct_size = sizeof(who), .user = login, .name = login };
	return login.n ? call_identify_as(call, CHATD_CRED_LOGIN, &who) : CHATD_NEXT;
}

/* As auth-jwt does with tokens of this server. */
static chatd_verdict by_token(struct kit *k, chatd_call *call)
{
	static const char *const creds[] = { CHATD_CRED_BEARER, CHATD_CRED_PASSCODE, CHATD_CRED_TOKEN };
	chatd_verdict v = CHATD_NEXT;
	for (size_t i = 0; v == CHATD_NEXT && i < sizeof(creds) / sizeof(creds[0]); i++) {
		struct chatd_claims claims;
		char room[CHATD_TOKEN_MAX];
		struct chatd_str token = msg_get(call_msg(call), creds[i]);
		if (token.p && kit_tokens_vt.verify(k, CHATD_TOKEN_ACCESS, token, room, &claims) == 0) {
			const struct chatd_identity who = { .struct_size = sizeof(who),
				.user = claims.user,
				.name = claims.name,
				.roles = claims.roles,
				.login = claims.login,
				.expires = claims.expires };
			v = call_identify_as(call, creds[i], &who);
		}
	}
	return v;
}

/* The last hook of session_auth, as auth-anonymous: nobody has said who it is. */
chatd_verdict kit_auth_guest(chatd_call *call, void *self, void *wself)
{
	static const char *const creds[] = { CHATD_CRED_LOGIN, CHATD_CRED_PASSCODE, CHATD_CRED_BEARER,
		CHATD_CRED_TOKEN };
	struct kit *k = kit_the();
	char user[24];
	int shown = call_ident(call) != NULL;
	(void)self;
	(void)wself;
	for (size_t i = 0; i < sizeof(creds) / sizeof(creds[0]); i++) {
		shown |= msg_get(call_msg(call), creds[i]).p != NULL;
	}
	if (shown || !(k->let_in & KIT_LET_GUESTS)) {
		return CHATD_NEXT;
	}
	snprintf(user, sizeof(user), "guest-%u", ++k->guests);
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.user = str_of(user),
		.name = msg_get(call_msg(call), CHATD_CRED_NICKNAME),
		.flags = CHATD_ID_ANONYMOUS };
	return call_identify_as(call, "", &who);
}

/* The first hook of session_auth: clients of kit_open() are whom they say. */
chatd_verdict kit_auth(chatd_call *call, void *self, void *wself)
{
	const chatd_msg *creds = call_msg(call);
	struct chatd_str user = msg_get(creds, KIT_USER), flags = msg_get(creds, KIT_FLAGS);
	uint64_t bits = 0;
	(void)self;
	(void)wself;
	if (!user.p) {
		struct kit *k = kit_the();
		chatd_verdict v = k->let_in & KIT_LET_LOGINS ? by_login(call) : CHATD_NEXT;
		return v == CHATD_NEXT && k->let_in & KIT_LET_TOKENS ? by_token(k, call) : v;
	}
	(void)str_u64(flags, &bits);
	const struct chatd_identity plain = { .struct_size = sizeof(plain),
		.user = user,
		.name = user,
		.flags = (uint32_t)bits,
		.roles = msg_get(creds, KIT_ROLES),
		.login = msg_get(creds, KIT_LOGIN) };
	const struct chatd_identity *as = kit_the()->open_as;
	return call_identify_as(call, "", as ? as : &plain);
}

static void set_pairs(struct kit *k, chatd_msg *m, va_list ap)
{
	const char *name;
	while ((name = va_arg(ap, const char *)) != NULL) {
		const char *value = va_arg(ap, const char *);
		if (!m || msg_set(m, name, str_of(value)) < 0) {
			kit_broken(k, "no memory for the test itself");
		}
	}
}

static struct kit_client *client_create(struct kit *k, int32_t worker)
{
	struct kit_client *c = calloc(1, sizeof(*c));
	if (!c || worker < 0 || worker >= k->n_workers) {
		kit_broken(k, "there is no worker %d", worker);
		return NULL;
	}
	c->k = k;
	c->w = &k->workers[worker];
	c->got_tail = &c->got;
	c->waits_tail = &c->waits;
	c->next = k->clients;
	k->clients = c;
	return c;
}

static struct kit_client *login(struct kit *k, int32_t worker, chatd_msg *creds)
{
	struct kit_client *c = client_create(k, worker);
	if (!k->dead) {
		k->here = c->w;
		c->s = k->sessions->open(k->chat, c->w, &ops, c, &layer);
		if (c->s) {
			k->sessions->login(c->s, creds, on_login, ticket_create(k, c));
		}
		k->here = NULL;
		kit_settle(k);
	}
	msg_unref(creds);
	return c;
}

struct kit_client *kit_login(struct kit *k, int32_t worker, ...)
{
	chatd_msg *creds = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	va_list ap;
	va_start(ap, worker);
	set_pairs(k, creds, ap);
	va_end(ap);
	return login(k, worker, creds);
}

struct kit_client *kit_open_on(struct kit *k, int32_t worker, const char *user, uint32_t flags)
{
	char text[12];
	snprintf(text, sizeof(text), "%u", flags);
	struct kit_client *c = kit_login(k, worker, KIT_USER, user, KIT_FLAGS, text, (char *)NULL);
	free(c->user);
	c->user = kit_dup(str_of(user));
	return c;
}

struct kit_client *kit_open_as(struct kit *k, int32_t worker, const struct chatd_identity *who)
{
	char user[256];
	snprintf(user, sizeof(user), "%.*s", (int)who->user.n, who->user.p);
	k->open_as = who;
	struct kit_client *c = kit_open_on(k, worker, user, who->flags);
	k->open_as = NULL;
	return c;
}

struct kit_client *kit_open(struct kit *k, const char *user)
{
	return kit_open_on(k, 0, user, 0);
}

static void on_identified(void *arg, const struct chatd_outcome *o, const chatd_ident *ident)
{
	struct kit_ticket *t = arg;
	kit_outcome_set(t->k, o, ident);
	ticket_free(t);
}

void kit_identify_with(struct kit *k, int32_t worker, chatd_msg *creds)
{
	if (!k->dead) {
		k->here = &k->workers[worker];
		k->sessions->identify(k->chat, k->here, creds, on_identified, ticket_create(k, NULL));
		k->here = NULL;
		kit_settle(k);
	}
	msg_unref(creds);
}

void kit_identify(struct kit *k, int32_t worker, ...)
{
	chatd_msg *creds = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	va_list ap;
	va_start(ap, worker);
	set_pairs(k, creds, ap);
	va_end(ap);
	kit_identify_with(k, worker, creds);
}

static void on_requested(void *arg, const struct chatd_outcome *o)
{
	struct kit_ticket *t = arg;
	kit_outcome_set(t->k, o, NULL);
	ticket_free(t);
}

void kit_request(
		struct kit *k, const struct chatd_identity *who, const char *method, const char *path, ...)
{
	chatd_msg *m = msg_new(str_of(path), CHATD_LIT(""));
	const chatd_ident *ident = who ? ident_create_as(who) : NULL;
	va_list ap;
	if (!m || msg_set(m, "method", str_of(method)) < 0) {
		kit_broken(k, "no memory for the test itself");
	}
	va_start(ap, path);
	set_pairs(k, m, ap);
	va_end(ap);
	if (!k->dead) {
		k->here = &k->workers[0];
		k->sessions->request(k->chat, k->here, ident, m, on_requested, ticket_create(k, NULL));
		k->here = NULL;
		kit_settle(k);
	}
	ident_unref(ident);
	msg_unref(m);
}

void kit_renew(struct kit_client *c, const struct chatd_identity *who)
{
	struct kit *k = c->k;
	if (!k->dead && c->s) {
		k->here = c->w;
		(void)session_renew(c->s, who);
		k->here = NULL;
		kit_settle(k);
	}
}

/* ---- requests -------------------------------------------------------------------------- */

static int usable(struct kit_client *c)
{
	struct kit *k = c->k;
	if (!c->open && !k->injected) {
		kit_broken(k, "the session of %s is not open", c->user ? c->user : "the client");
	}
	if (!is_read(c)) {
		if (!k->injected) {
			kit_broken(k, "a codec gives in nothing while a request of the session waits");
		}
		return 0;
	}
	return c->open;
}

static void give_in(struct kit_client *c, chatd_msg *m)
{
	struct kit *k = c->k;
	if (usable(c)) {
		k->here = c->w;
		k->sessions->input(c->s, m, on_done, ticket_create(k, c));
		k->here = NULL;
		kit_settle(k);
	}
	msg_unref(m);
}

/* For what chatd-plugin check says that it has not reached. */
chatd_token kit_waits(struct kit *k, const chatd_call *c, chatd_token token)
{
	static const char *const names[] = {
#define CHATD_X(num, name, kind, may_wait, at_end) [num] = #name,
		CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
	};
	const char *event = token ? call_event(c) : "";
	k->app_waits += !event;
	for (uint32_t i = 1; event && i < chatd_hook_count; i++) {
		if (strcmp(names[i], event) == 0) {
			k->hooks_waited |= 1u << i;
		}
	}
	return token;
}

static chatd_verdict take_all(chatd_call *c, void *self, void *wself)
{
	(void)c;
	(void)self;
	(void)wself;
	return CHATD_ACCEPT;
}

/* Another table in the place of the one that is, as when a plugin comes while the server runs. */
void kit_app(struct kit *k, const char *name)
{
	struct chat_table *t = k->inited ? chat_table_copy(k->chat) : NULL;
	struct chat_app *more = t ? realloc(t->apps, (t->n_apps + 1) * sizeof(*more)) : NULL;
	for (size_t i = 0; more && i < t->n_apps; i++) {
		if (strcmp(more[i].name, name) == 0) {
			t->apps = more;
			chat_table_free(t); /* it is there */
			return;
		}
	}
	if (!more) {
		chat_table_free(t);
		if (k->inited) {
			kit_broken(k, "no memory for the test itself");
		}
		return;
	}
	t->apps = more;
	more[t->n_apps++] = (struct chat_app){ .name = name,
		.hook = { .fn = take_all,
				.self = k->self,
				.timeout_ms = k->ctx.conf->timeout_ms,
				.who = k->plugin->name } };
	chat_change(k->chat, t);
}

void kit_in_as(struct kit *k, const char *user, const char *dest, const char *body)
{
	const struct chatd_identity who = {
		.struct_size = sizeof(who), .user = str_of(user), .name = str_of(user)
	};
	const chatd_ident *ident = ident_create_as(&who);
	chatd_msg *m = msg_new(str_of(dest), str_of(body));
	if (!ident || !m) {
		kit_broken(k, "no memory for the test itself");
	}
	if (!k->dead) {
		k->here = &k->workers[0];
		k->sessions->input_as(k->chat, k->here, ident, m, on_requested, ticket_create(k, NULL));
		k->here = NULL;
		kit_settle(k);
	}
	ident_unref(ident);
	msg_unref(m);
}

void kit_send(struct kit_client *c, const char *dest, const char *body, ...)
{
	chatd_msg *m = msg_new(str_of(dest), str_of(body));
	va_list ap;
	va_start(ap, body);
	set_pairs(c->k, m, ap);
	va_end(ap);
	give_in(c, m);
}

void kit_in(struct kit *k, const char *user, const char *dest, const char *body)
{
	struct kit_client *c = k->clients;
	while (c && (!c->s || !c->user || strcmp(c->user, user) != 0)) {
		c = c->next;
	}
	kit_send(c ? c : kit_open(k, user), dest, body, (char *)NULL);
}

static void subscribe(struct kit_client *c, const char *dest, chatd_msg *frame)
{
	struct kit *k = c->k;
	struct chatd_subscribe want = {
		.struct_size = sizeof(want), .id = str_of(dest), .ack = CHATD_ACK_AUTO, .frame = frame
	};
	if (usable(c)) {
		struct kit_ticket *t = ticket_create(k, c);
		k->here = c->w;
		chatd_status rc = k->sessions->subscribe(c->s, &want, on_done, t);
		k->here = NULL;
		if (rc < 0) {
			ticket_free(t);
			kit_broken(k, "subscribe to %s: %s", dest, strerror(-rc));
		}
		kit_settle(k);
	}
	msg_unref(frame);
}

void kit_subscribe(struct kit_client *c, const char *dest)
{
	subscribe(c, dest, msg_new(str_of(dest), CHATD_LIT("")));
}

void kit_subscribe_with(struct kit_client *c, const char *dest, ...)
{
	chatd_msg *frame = msg_new(str_of(dest), CHATD_LIT(""));
	va_list ap;
	va_start(ap, dest);
	set_pairs(c->k, frame, ap);
	va_end(ap);
	subscribe(c, dest, frame);
}

void kit_unsubscribe(struct kit_client *c, const char *dest)
{
	struct kit *k = c->k;
	if (usable(c)) {
		k->here = c->w;
		chatd_status rc = k->sessions->unsubscribe(c->s, str_of(dest));
		k->here = NULL;
		if (rc < 0 && !k->injected) {
			kit_broken(k, "unsubscribe from %s: %s", dest, strerror(-rc));
		}
		kit_settle(k);
	}
}

void kit_close(struct kit_client *c)
{
	if (!is_read(c)) {
		c->leaving = 1;
		return;
	}
	kit_cut(c);
}

void kit_cut(struct kit_client *c)
{
	struct kit *k = c->k;
	chatd_session *s = c->s;
	if (!s) {
		return;
	}
	gone(c);
	k->here = c->w;
	k->sessions->close(s);
	k->here = NULL;
	kit_settle(k);
}

void kit_slow(struct kit_client *c, int on)
{
	c->slow = on;
	if (!on && c->waits) {
		*c->got_tail = c->waits;
		c->got_tail = c->waits_tail;
		c->waits = NULL;
		c->waits_tail = &c->waits;
		c->queued = 0;
	}
}

int kit_is_open(const struct kit_client *c)
{
	return c->open;
}

chatd_session *kit_session(struct kit_client *c)
{
	return c->s;
}

/* ---- the end --------------------------------------------------------------------------- */

void kit_clients_close(struct kit *k)
{
	for (struct kit_client *c = k->clients; c; c = c->next) {
		kit_cut(c);
	}
}

void kit_clients_finish(struct kit *k)
{
	while (k->clients) {
		struct kit_client *c = k->clients;
		k->clients = c->next;
		kit_slow(c, 0);
		while (c->got) {
			struct kit_delivery *next = c->got->next;
			free(c->got->dest);
			free(c->got->body);
			free(c->got);
			c->got = next;
		}
		free(c->user);
		free(c);
	}
	while (k->tickets) {
		ticket_free(k->tickets);
	}
	outcome_clear(&k->last);
}

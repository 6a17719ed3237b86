/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as credentials: of REST calls and, a bot's, of sessions; and what they may do there. */
#include "api.h"

#include <errno.h>

enum { CLOSE_REVOKED = 4401 };

/* In each session: whose key it came with, so that it ends with the key. */
struct seat {
	LIST_ENTRY(seat) link;
	chatd_session *session;
	char id[2 * KEY_ID + 1]; /* "": it came otherwise */
	uint32_t scopes;
	int32_t asked; /* its key is being looked up */
};

/* A login that waits for its key. */
struct entry {
	struct worker *at;
	chatd_token token;
	int32_t gone;
	const char *cred; /* a literal */
};

/* ---- who it is ----------------------------------------------------------------------- */

/* Keys are told from other identities by this, which no client can choose. */
static struct chatd_str key_of(const struct chatd_host *h, const chatd_ident *who)
{
	struct chatd_str client = who ? h->ident_client(who) : chatd_str_of(NULL, 0);
	return client.n > 3 && memcmp(client.p, "ck_", 3) == 0
			? chatd_str_of(client.p + 3, client.n - 3)
			: chatd_str_of(NULL, 0);
}

static void sit_down(struct worker *at, chatd_session *s, const struct key *k)
{
	struct seat *seat = at->self->h->slot(s, at->self->slot);
	if (!seat->id[0]) {
		seat->scopes = k->scopes;
		chatd_str_copy(seat->id, sizeof(seat->id), text(k->id));
		seat->session = s;
		LIST_INSERT_HEAD(&at->seats, seat, link);
	}
}

static void stand_up(void *slot)
{
	struct seat *seat = slot;
	if (seat->id[0]) {
		LIST_REMOVE(seat, link);
	}
}

static chatd_verdict identify(
		struct worker *at, chatd_call *call, const char *cred, const struct key *k)
{
	const struct self *self = at->self;
	const struct chatd_host *h = self->h;
	chatd_session *s = h->call_session(call);
	char client[2 * KEY_ID + 8];
	int n = snprintf(client, sizeof(client), "ck_%s", k->id);
	struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = CHATD_ID_BOT,
		.user = text(k->bot),
		.name = text(k->name),
		.client = chatd_str_of(client, (size_t)n),
		.expires = k->expires };
	if (!k->bot[0] && s) {
		return h->reject(call, "UNAUTHORIZED",
				"a key of the server is for HTTP; make a bot, whose key opens sessions");
	}
	if (!k->bot[0]) {
		who.flags |= CHATD_ID_ADMIN | CHATD_ID_SYSTEM;
		who.user = text(self->conf->sender);
		who.name = who.user;
		who.login = who.client; /* no account stands behind it that could be banned */
	}
	keys_used(at, k);
	if (s) {
		sit_down(at, s, k);
	}
	return h->identify_as(call, cred, &who);
}

static chatd_verdict refuse(const struct self *self, chatd_call *call)
{
	return self->h->reject(call, "UNAUTHORIZED", "this key is unknown, revoked or over");
}

static chatd_verdict admit(
		struct worker *at, chatd_call *call, const char *cred, const struct key *k)
{
	struct chatd_str id, secret;
	const struct chatd_host *h = at->self->h;
	if (!keys_split(h->msg_get(h->call_msg(call), cred), &id, &secret) || !keys_fits(k, secret)) {
		return refuse(at->self, call);
	}
	return identify(at, call, cred, k);
}

static void on_cancel(void *arg)
{
	struct entry *e = arg;
	e->gone = 1;
}

static void on_found(void *arg, chatd_status rc, const struct key *k)
{
	struct entry *e = arg;
	const struct chatd_host *h = e->at->self->h;
	chatd_call *call = e->gone ? NULL : h->call_of(e->at->w, e->token);
	if (call && rc == 0) {
		chatd_verdict v = admit(e->at, call, e->cred, k);
		(void)h->resume(e->token, v, "UNAUTHORIZED", "this key is unknown, revoked or over");
	} else if (call) {
		(void)h->resume(e->token, CHATD_REJECT, rc == -ENOENT ? "UNAUTHORIZED" : "UNAVAILABLE",
				rc == -ENOENT ? "this key is unknown, revoked or over"
							  : "keys cannot be looked up now; try again");
	}
	h->mem_free(e);
}

static chatd_verdict look(
		struct worker *at, chatd_call *call, const char *cred, struct chatd_str id)
{
	const struct chatd_host *h = at->self->h;
	struct entry *e = h->mem_alloc(sizeof(*e));
	if (!e) {
		return -ENOMEM;
	}
	e->at = at;
	e->cred = cred;
	if (keys_find(at, id, on_found, e) < 0) {
		h->mem_free(e);
		return h->reject(call, "UNAVAILABLE", "keys cannot be looked up now; try again");
	}
	e->token = h->suspend(call, on_cancel, e);
	if (!e->token) {
		e->gone = 1; /* the answer comes all the same, and frees it */
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	return CHATD_WAIT;
}

/* Not in a URL: those are written into logs on their way. */
static chatd_verdict on_auth(chatd_call *call, void *selfp, void *wself)
{
	static const char *const creds[] = { CHATD_CRED_BEARER, CHATD_CRED_PASSCODE };
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	for (size_t i = 0; i < sizeof(creds) / sizeof(creds[0]); i++) {
		struct chatd_str id, secret;
		if (keys_split(h->msg_get(h->call_msg(call), creds[i]), &id, &secret)) {
			const struct key *k = keys_known(wself, id);
			return k ? admit(wself, call, creds[i], k) : look(wself, call, creds[i], id);
		}
	}
	return CHATD_NEXT;
}

/* ---- what it may ----------------------------------------------------------------------- */

static chatd_verdict may(struct worker *at, chatd_call *call, uint32_t scope, const char *what)
{
	const struct chatd_host *h = at->self->h;
	chatd_session *s = h->call_session(call);
	const struct seat *seat = s ? h->slot(s, at->self->slot) : NULL;
	const struct key *k = s ? NULL : keys_recent(at, key_of(h, h->call_ident(call)));
	uint32_t has = seat ? seat->scopes : k ? k->scopes : 0;
	if ((has & scope) == scope) {
		return CHATD_NEXT;
	}
	return h->reject(call, "FORBIDDEN", "this key has not the scope \"%s\", which %s needs",
			scope_name(scope & ~has), what);
}

static chatd_verdict on_request_as(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str path = h->msg_dest(h->call_msg(call));
	size_t n = sizeof(SERVER_PATH) - 1;
	if (!key_of(h, h->call_ident(call)).p) {
		return CHATD_NEXT;
	}
	if (path.n >= n && memcmp(path.p, SERVER_PATH, n) == 0) {
		return CHATD_NEXT; /* the route knows better */
	}
	uint32_t scope = scope_of_call(h->msg_get(h->call_msg(call), "method"), path);
	return scope ? may(wself, call, scope, "this call")
				 : h->reject(call, "FORBIDDEN", "no key may make this call");
}

static chatd_verdict on_frame(struct self *self, chatd_call *call, struct worker *at, int send)
{
	const struct chatd_host *h = self->h;
	if (!key_of(h, h->call_ident(call)).p) {
		return CHATD_NEXT;
	}
	uint32_t scope = scope_of_frame(h->msg_dest(h->call_msg(call)), send);
	return may(at, call, scope, send ? "to send" : "to subscribe to what others see");
}

static chatd_verdict on_message_in(chatd_call *call, void *self, void *wself)
{
	return on_frame(self, call, wself, 1);
}

static chatd_verdict on_subscribe(chatd_call *call, void *self, void *wself)
{
	return on_frame(self, call, wself, 0);
}

/* ---- the end of a key -------------------------------------------------------------------- */

/* One look at a time: the next seat that was not asked about in this round. */
static void ask_next(struct worker *at);

static void on_seat(void *arg, chatd_status rc, const struct key *k)
{
	struct worker *at = arg;
	struct seat *seat, *next;
	(void)k;
	at->asking = 0;
	for (seat = LIST_FIRST(&at->seats); seat; seat = next) {
		next = LIST_NEXT(seat, link);
		if (seat->asked == 1) {
			seat->asked = 2;
			if (rc == -ENOENT) {
				at->self->h->session_close(
						seat->session, CLOSE_REVOKED, "the key was revoked, or is over");
			}
		}
	}
	if (!at->dead) {
		ask_next(at);
	}
}

static void on_timer(void *arg);

static void ask_next(struct worker *at)
{
	struct seat *first = LIST_FIRST(&at->seats), *seat;
	while (first && first->asked) {
		first = LIST_NEXT(first, link);
	}
	if (!first || keys_find(at, text(first->id), on_seat, at) < 0) {
		at->self->h->timer_set(at->w, &at->timer, at->self->conf->recheck, on_timer, at);
		return;
	}
	at->asking = 1;
	LIST_FOREACH (seat, &at->seats, link) {
		if (!seat->asked && strcmp(seat->id, first->id) == 0) {
			seat->asked = 1;
		}
	}
}

static void on_timer(void *arg)
{
	struct worker *at = arg;
	struct seat *seat;
	LIST_FOREACH (seat, &at->seats, link) {
		seat->asked = 0;
	}
	ask_next(at);
}

chatd_status auth_start(struct worker *at)
{
	LIST_INIT(&at->seats);
	at->self->h->timer_set(at->w, &at->timer, at->self->conf->recheck, on_timer, at);
	return 0;
}

/* Nobody else knows what their keys may do; once this is there again they may come again. */
void auth_drain(struct worker *at)
{
	struct seat *seat, *next;
	for (seat = LIST_FIRST(&at->seats); seat; seat = next) {
		next = LIST_NEXT(seat, link);
		at->self->h->session_close(seat->session, CLOSE_REVOKED,
				"keys are no longer taken: the plugin api was turned off");
	}
}

void auth_stop(struct worker *at)
{
	at->dead = 1;
	at->self->h->timer_clear(&at->timer);
}

chatd_status auth_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	static const struct {
		uint32_t hook;
		int32_t order;
		chatd_hook_fn *fn;
	} hooks[] = {
		{ chatd_hook_session_auth, CHATD_ORDER_CHECK - 10, on_auth },
		{ chatd_hook_request_as, CHATD_ORDER_CHECK, on_request_as },
		{ chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in },
		{ chatd_hook_subscribe, CHATD_ORDER_CHECK, on_subscribe },
	};
	chatd_status rc = h->session_slot(self->ctx, sizeof(struct seat), stand_up, &self->slot);
	for (size_t i = 0; rc == 0 && i < sizeof(hooks) / sizeof(hooks[0]); i++) {
		rc = h->hook(self->ctx, hooks[i].hook, hooks[i].order, hooks[i].fn);
	}
	return rc;
}

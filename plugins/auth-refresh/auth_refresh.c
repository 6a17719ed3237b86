/* SPDX-License-Identifier: Apache-2.0 */
/* SEND /app/auth.refresh: an open session goes on with a newer token of the same user. */
#include <chatd-sdk/json.h>
#include <chatd/plugin.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct self {
	const struct chatd_host *h;
	const struct chatd_service *sessions;
};

struct body {
	struct chatd_str token, access;
};

static const struct chatd_json_field fields[] = {
	{ "token", CHATD_J_TEXT, offsetof(struct body, token) },
	{ "accessToken", CHATD_J_TEXT, offsetof(struct body, access) },
	{ NULL, 0, 0 },
};

/* While the hooks of session_auth look at the token. */
struct refresh {
	const struct self *self;
	chatd_worker *w;
	chatd_token parked;
};

static chatd_status renew(const struct chatd_host *h, chatd_session *s, const chatd_ident *i)
{
	const struct chatd_identity next = { .struct_size = sizeof(next),
		.flags = h->ident_flags(i),
		.user = h->ident_user(i),
		.name = h->ident_name(i),
		.roles = h->ident_roles(i),
		.login = h->ident_login(i),
		.client = h->ident_client(i),
		.expires = h->ident_expires(i) };
	return h->session_renew(s, &next);
}

/* When the session ends unless it is renewed again; nothing if it does not. */
static void tell_end(const struct chatd_host *h, chatd_call *call, int64_t expires)
{
	char text[24];
	if (!expires) {
		return;
	}
	int n = snprintf(text, sizeof(text), "%lld", (long long)expires);
	h->reply(call, "expires", chatd_str_of(text, (size_t)n));
	n = snprintf(text, sizeof(text), "%lld", (long long)((expires - h->wall_ms()) / 1000));
	h->reply(call, "expiresIn", chatd_str_of(text, (size_t)n));
}

static void accept(const struct refresh *r, chatd_call *call, const chatd_ident *ident)
{
	const struct chatd_host *h = r->self->h;
	chatd_status rc = renew(h, h->call_session(call), ident);
	call = h->call_of(r->w, r->parked); /* a session that cannot be renewed is closed */
	if (rc == -EPERM) {
		(void)h->resume(r->parked, CHATD_REJECT, "OTHER_USER",
				"the token is another user's; open a session of its own with it");
	} else if (rc < 0) {
		(void)h->resume(r->parked, rc, NULL, NULL);
	} else if (call) {
		tell_end(h, call, h->ident_expires(ident));
		(void)h->resume(r->parked, CHATD_ACCEPT, NULL, NULL);
	}
}

static void refuse(const struct refresh *r, const struct chatd_outcome *o)
{
	char why[256] = "Access refused";
	if (o->why.n) {
		chatd_str_copy(why, sizeof(why), o->why);
	}
	(void)r->self->h->resume(r->parked, CHATD_REJECT, o->code ? o->code : "UNAUTHORIZED", why);
}

static void on_identified(void *arg, const struct chatd_outcome *o, const chatd_ident *ident)
{
	struct refresh *r = arg;
	const struct chatd_host *h = r->self->h;
	chatd_call *call = h->call_of(r->w, r->parked);
	if (call && o->verdict == CHATD_ACCEPT && ident) {
		accept(r, call, ident);
	} else {
		refuse(r, o);
	}
	h->mem_free(r);
}

static chatd_verdict ask(const struct self *self, chatd_call *call, struct chatd_str token)
{
	const struct chatd_host *h = self->h;
	const struct chatd_sessions *sessions = self->sessions->vt;
	chatd_msg *creds = h->msg_new(CHATD_LIT(""), CHATD_LIT(""));
	struct refresh *r = h->mem_alloc(sizeof(*r));
	if (!creds || !r || h->msg_set(creds, CHATD_CRED_BEARER, token) < 0) {
		h->msg_unref(creds);
		h->mem_free(r);
		return -ENOMEM;
	}
	r->self = self;
	r->w = h->call_worker(call);
	r->parked = h->suspend(call, NULL, NULL);
	if (!r->parked) {
		h->msg_unref(creds);
		h->mem_free(r);
		return -EBUSY;
	}
	sessions->identify(self->sessions->obj, r->w, creds, on_identified, r);
	h->msg_unref(creds);
	return CHATD_WAIT;
}

static chatd_verdict on_refresh(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct body b = { 0 };
	char why[CHATD_JSON_WHY];
	(void)wself;
	json_t *root = NULL;
	if (!h->call_session(call)) {
		return h->reject(call, "FORBIDDEN", "there is no session here that could be renewed");
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &b, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	struct chatd_str token = b.token.p ? b.token : b.access;
	chatd_verdict v = token.n
			? ask(self, call, token)
			: h->reject(call, "VALIDATION",
					  "the body must be {\"token\": \"...\"} with an access token");
	json_decref(root);
	return v;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	*ret_self = self;
	return h->app(ctx, "auth.refresh", on_refresh);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_SESSIONS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS | CHATD_PLUGIN_ONCE,
	.name = "auth-refresh",
	.version = "0.1",
	.summary = "/app/auth.refresh: an open session goes on with a newer token",
	.needs = needs,
	.init = init,
	.fini = fini,
};

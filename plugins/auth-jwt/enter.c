/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of session_auth: one for each place where a client can present a token. */
#include "auth.h"

#include "claims.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <string.h>

struct refusal {
	const char *code, *why;
};

static struct refusal refusal_of(chatd_status rc)
{
	static const struct refusal over = { "TOKEN_EXPIRED",
		"the access token has expired; get a new one" };
	static const struct refusal bad = { "INVALID_TOKEN", "Access refused" };
	return rc == -EKEYEXPIRED ? over : bad;
}

chatd_verdict enter_refuse(const struct self *self, chatd_call *call, chatd_status rc)
{
	struct refusal r = refusal_of(rc);
	return self->h->reject(call, r.code, "%s", r.why);
}

void enter_refuse_parked(const struct self *self, chatd_token parked, chatd_status rc)
{
	struct refusal r = refusal_of(rc);
	(void)self->h->resume(parked, CHATD_REJECT, r.code, r.why);
}

/* ---- foreign tokens ----------------------------------------------------------------- */

struct attempt {
	struct worker_state *ws;
	const struct token *token;
	size_t issuer; /* of the one whose key fits, or that lacks the key */
	struct who who;
};

/* The key comes first, by algorithm and id among all issuers; only then is `iss` read, and it
 * must be the one that the key belongs to.  -ENOKEY: one of them may have newer keys. */
static chatd_status try_issuers(struct attempt *a)
{
	const struct self *self = a->ws->self;
	chatd_status rc = -EKEYREJECTED;
	size_t unknown = ISSUERS_MAX;
	for (size_t i = 0; i < self->conf->issuers.n; i++) {
		const struct issuer *is = issuer_at(self, i);
		chatd_status one = issuer_verify(a->ws->jose, a->ws->foreign[i].keys, a->token);
		if (one == 0) {
			a->issuer = i;
			one = issuer_read(is, a->token, self->h->wall_ms(), &a->who);
			if (one == 0 || one == -EKEYEXPIRED) {
				return one;
			}
		} else if (one == -ENOKEY && is->url && unknown == ISSUERS_MAX) {
			for (size_t k = 0; is->algorithms[k]; k++) {
				unknown = strcmp(is->algorithms[k], a->token->alg) == 0 ? i : unknown;
			}
		}
	}
	if (unknown < ISSUERS_MAX) {
		a->issuer = unknown;
		rc = -ENOKEY;
	}
	return rc;
}

static chatd_verdict enter_foreign(
		const struct self *self, chatd_call *call, const struct token *token, const char *cred)
{
	struct attempt a = { .ws = state_of(self, self->h->call_worker(call)), .token = token };
	chatd_status rc = try_issuers(&a);
	if (rc == -ENOKEY) {
		return jwks_wait(a.ws, call, cred, a.issuer);
	}
	if (rc < 0) {
		return enter_refuse(self, call, rc);
	}
	const struct admission ad = {
		.by = ADMIT_FOREIGN, .cred = cred, .issuer = issuer_at(self, a.issuer), .who = &a.who
	};
	return admit(self, call, &ad);
}

void enter_again(struct worker_state *ws, chatd_token parked, const char *cred)
{
	const struct self *self = ws->self;
	const struct chatd_host *h = self->h;
	chatd_call *call = h->call_of(ws->w, parked);
	struct token token;
	struct attempt a = { .ws = ws, .token = &token };
	if (!call) {
		return;
	}
	chatd_status rc = token_parse(h->msg_get(h->call_msg(call), cred), &token);
	rc = rc < 0 ? rc : try_issuers(&a);
	if (rc < 0) {
		enter_refuse_parked(self, parked, rc);
		return;
	}
	const struct admission ad = {
		.by = ADMIT_FOREIGN, .cred = cred, .issuer = issuer_at(self, a.issuer), .who = &a.who
	};
	admit_parked(self, ws->w, parked, &ad);
}

/* ---- our own --------------------------------------------------------------------------- */

static void who_of(const struct chatd_claims *c, struct who *ret)
{
	chatd_str_copy(ret->user, sizeof(ret->user), c->user);
	chatd_str_copy(ret->login, sizeof(ret->login), c->login);
	chatd_str_copy(ret->name, sizeof(ret->name), c->name.n ? c->name : c->user);
	chatd_str_copy(ret->roles, sizeof(ret->roles), c->roles);
	ret->client[0] = '\0';
	ret->flags = claims_role_flags(c->roles);
	ret->expires = c->expires + CLAIMS_LEEWAY_S * 1000;
}

static chatd_verdict enter_jwt(
		const struct self *self, chatd_call *call, const struct token *token, const char *cred)
{
	char room[CHATD_TOKEN_MAX];
	struct chatd_claims claims;
	struct who who;
	chatd_status rc =
			own_verify(&self->own, self->h->wall_ms(), CHATD_TOKEN_ACCESS, token, room, &claims);
	if ((rc == -ENOKEY || rc == -EKEYREJECTED) && self->conf->issuers.n) {
		return enter_foreign(self, call, token, cred);
	}
	if (rc < 0) {
		return enter_refuse(self, call, rc);
	}
	who_of(&claims, &who);
	const struct admission ad = { .by = ADMIT_OWN, .cred = cred, .who = &who };
	return admit(self, call, &ad);
}

/* What is no JWT at all may be another plugin's; what is one is ours, and good or refused. */
static chatd_verdict enter(const struct self *self, chatd_call *call, const char *cred)
{
	struct token token;
	struct chatd_str text = self->h->msg_get(self->h->call_msg(call), cred);
	chatd_status rc = token_parse(text, &token);
	if (rc == -EINVAL) {
		return CHATD_NEXT;
	}
	return rc < 0 ? enter_refuse(self, call, rc) : enter_jwt(self, call, &token, cred);
}

/* ---- the places ----------------------------------------------------------------------------- */

static chatd_verdict on_bearer(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return enter(self, call, CHATD_CRED_BEARER);
}

static chatd_verdict on_passcode(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	(void)wself;
	return self->h->msg_get(self->h->call_msg(call), CHATD_CRED_LOGIN).n
			? CHATD_NEXT
			: enter(self, call, CHATD_CRED_PASSCODE);
}

/* URLs are written down by proxies, histories and Referer headers: a token in one is good for
 * nothing, unless the configuration says that old clients need it. */
static chatd_verdict on_url_token(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const chatd_msg *creds = self->h->call_msg(call);
	struct chatd_str text = self->h->msg_get(creds, CHATD_CRED_TOKEN);
	struct token token;
	(void)wself;
	if (ticket_like(text)) {
		return ticket_take(self, call, text);
	}
	if (self->conf->url_token == URL_TICKET && !self->h->msg_get(creds, CHATD_CRED_TOKEN_VIA).p &&
			token_parse(text, &token) != -EINVAL) {
		return self->h->reject(call, "TOKEN_IN_URL",
				"?token= takes a ticket of POST /api/auth/ws-ticket only, or set url_token: legacy");
	}
	return enter(self, call, CHATD_CRED_TOKEN);
}

chatd_status enter_hooks(const struct self *self)
{
	static chatd_hook_fn *const hooks[] = { on_bearer, on_passcode, on_url_token };
	chatd_status rc = 0;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && rc == 0; i++) {
		rc = self->h->hook(self->ctx, chatd_hook_session_auth, CHATD_ORDER_CHECK, hooks[i]);
	}
	return rc;
}

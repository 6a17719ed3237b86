/* SPDX-License-Identifier: Apache-2.0 */
/* The token was good when it was made; the store knows whether its login still lives, whether
 * the account may enter, and what it may do today. */
#include "auth.h"

#include "claims.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <string.h>

struct entry {
	const struct self *self;
	chatd_worker *w;
	chatd_token parked;
	enum admit_by by;
	const char *cred;
	const struct issuer *issuer;
	int tries;
	struct who who;
};

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static struct chatd_str text_or_none(const char *s)
{
	return *s ? text(s) : chatd_str_of(NULL, 0);
}

static chatd_verdict welcome(
		const struct self *self, chatd_call *call, const char *cred, const struct who *who)
{
	const struct chatd_identity id = { .struct_size = sizeof(id),
		.flags = who->flags,
		.user = text(who->user),
		.name = text(who->name),
		.roles = text_or_none(who->roles),
		.login = text_or_none(who->login),
		.client = text_or_none(who->client),
		.expires = who->expires };
	return self->h->identify_as(call, cred, &id);
}

/* ---- what the store says ----------------------------------------------------------- */

static void end(struct entry *e, chatd_verdict v)
{
	(void)e->self->h->resume(e->parked, v, NULL, NULL);
	e->self->h->mem_free(e);
}

static void end_refused(struct entry *e, const char *code, const char *why)
{
	const struct chatd_host *h = e->self->h;
	if (code) {
		(void)h->resume(e->parked, CHATD_REJECT, code, why);
	} else {
		enter_refuse_parked(e->self, e->parked, -EKEYREJECTED);
	}
	h->mem_free(e);
}

static void end_unknown(struct entry *e, chatd_status rc)
{
	const struct self *self = e->self;
	if (rc != -ENOENT) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "a login cannot be checked: the store says %d", rc);
		end_refused(e, "UNAVAILABLE", "logins cannot be checked just now; try again");
		return;
	}
	end_refused(e, NULL, NULL); /* logged out, or deleted */
}

static int may_enter(const struct entry *e, const struct chatd_account *a)
{
	char mark[65];
	if (e->by != ADMIT_FOREIGN || e->issuer->adopt) {
		return 1;
	}
	issuer_mark(e->issuer, mark);
	return chatd_str_same(a->client, text(mark));
}

/* Roles and name are the account's of today, not those of when the token was made. */
static void take_account(struct who *who, const struct chatd_account *a)
{
	if (a->nickname.n) {
		chatd_str_copy(who->name, sizeof(who->name), a->nickname);
	}
	chatd_str_copy(who->roles, sizeof(who->roles), a->roles);
	who->flags = a->flags | claims_role_flags(a->roles);
}

static void judge(struct entry *e, const struct chatd_account *a)
{
	const struct self *self = e->self;
	if (a->banned_until > self->h->wall_ms()) {
		end_refused(e, "BANNED", "this account is banned");
		return;
	}
	if (!may_enter(e, a)) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"issuer %s names user %s, whose account was not made by its tokens: refused; give "
				"the issuer a user_prefix, or set adopt: true if they are the same people",
				e->issuer->issuer, e->who.user);
		end_refused(e, NULL, NULL);
		return;
	}
	if (e->by == ADMIT_OWN || e->who.login[0]) {
		take_account(&e->who, a);
	}
	chatd_call *call = self->h->call_of(e->w, e->parked);
	end(e, call ? welcome(self, call, e->cred, &e->who) : CHATD_REJECT);
}

static void on_login(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct entry *e = arg;
	if (rc == 0 &&
			(!a->n_logins || !a->n_accounts ||
					!chatd_str_same(a->logins[0].user, text(e->who.user)))) {
		rc = -ENOENT;
	}
	if (rc < 0) {
		end_unknown(e, rc);
	} else {
		judge(e, &a->accounts[0]);
	}
}

static void ask(struct entry *e);

static void on_made(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct entry *e = arg;
	(void)a;
	if (rc == 0 || rc == -EEXIST) { /* what is there now is judged like any other */
		ask(e);
	} else {
		end_unknown(e, rc);
	}
}

static void make_account(struct entry *e)
{
	const struct self *self = e->self;
	const struct chatd_accounts *accounts = self->accounts->vt;
	char mark[65];
	issuer_mark(e->issuer, mark);
	const struct chatd_account a = { .struct_size = sizeof(a),
		.id = text(e->who.user),
		.nickname = text(e->who.name),
		.client = text(mark),
		.created = self->h->wall_ms() };
	chatd_status rc = accounts->create(self->accounts->obj, e->w, &a, on_made, e);
	if (rc < 0) {
		end_unknown(e, rc == -ENOENT ? -EIO : rc);
	}
}

static void on_account(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct entry *e = arg;
	if (rc == 0) {
		judge(e, a);
	} else if (rc == -ENOENT && e->by == ADMIT_FOREIGN && e->tries < 3) {
		make_account(e);
	} else {
		end_unknown(e, rc);
	}
}

static void ask(struct entry *e)
{
	const struct self *self = e->self;
	chatd_status rc;
	e->tries++;
	if (e->who.login[0] && self->store) {
		const struct chatd_store *store = self->store->vt;
		const struct chatd_store_login_key key = {
			.struct_size = sizeof(key), .id = text(e->who.login), .wall = self->h->wall_ms()
		};
		rc = store->login_get(self->store->obj, e->w, &key, on_login, e);
	} else {
		const struct chatd_accounts *accounts = self->accounts->vt;
		rc = accounts->by_id(self->accounts->obj, e->w, text(e->who.user), on_account, e);
	}
	if (rc < 0) {
		end_unknown(e, rc == -ENOENT ? -EIO : rc);
	}
}

/* ---- beginning ----------------------------------------------------------------------- */

static int must_ask(const struct self *self, const struct admission *a)
{
	return self->accounts || (a->who->login[0] && self->store);
}

static struct entry *entry_create(
		const struct self *self, chatd_worker *w, const struct admission *a)
{
	struct entry *e = self->h->mem_alloc(sizeof(*e));
	if (e) {
		*e = (struct entry){
			.self = self, .w = w, .by = a->by, .cred = a->cred, .issuer = a->issuer, .who = *a->who
		};
	}
	return e;
}

chatd_verdict admit(const struct self *self, chatd_call *call, const struct admission *a)
{
	if (!must_ask(self, a)) {
		return welcome(self, call, a->cred, a->who);
	}
	struct entry *e = entry_create(self, self->h->call_worker(call), a);
	if (!e) {
		return -ENOMEM;
	}
	e->parked = self->h->suspend(call, NULL, NULL);
	if (!e->parked) {
		self->h->mem_free(e);
		return -EBUSY;
	}
	ask(e);
	return CHATD_WAIT;
}

void admit_parked(
		const struct self *self, chatd_worker *w, chatd_token parked, const struct admission *a)
{
	const struct chatd_host *h = self->h;
	chatd_call *call = h->call_of(w, parked);
	if (!call) {
		return;
	}
	if (!must_ask(self, a)) {
		(void)h->resume(parked, welcome(self, call, a->cred, a->who), NULL, NULL);
		return;
	}
	struct entry *e = entry_create(self, w, a);
	if (!e) {
		(void)h->resume(parked, -ENOMEM, NULL, NULL);
		return;
	}
	e->parked = parked;
	ask(e);
}

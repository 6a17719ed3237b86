/* SPDX-License-Identifier: Apache-2.0 */
#include "fakes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FAKE_SERVICES = 4 };

struct fakes fakes;

/* An answer on its way. */
struct ask {
	struct ask *next;
	chatd_store_fn *fn;
	void *arg;
	chatd_worker *w;
	chatd_status rc;
	struct chatd_store_answer a;
	struct fake_account account;
	struct fake_login logins[FAKES];
	struct fake_secret secret;
	struct chatd_account account_view;
	struct chatd_store_login login_views[FAKES];
	struct chatd_store_secret secret_view;
};

static struct ask *held;

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static struct chatd_str zn(const char *s)
{
	return s[0] ? z(s) : chatd_str_of(NULL, 0);
}

static void copy(char *to, size_t cap, struct chatd_str s)
{
	snprintf(to, cap, "%.*s", (int)s.n, s.p ? s.p : "");
}

static int same(const char *a, struct chatd_str b)
{
	return b.p && strlen(a) == b.n && strncasecmp(a, b.p, b.n) == 0;
}

/* ---- answers ------------------------------------------------------------------ */

static void deliver(void *arg)
{
	struct ask *q = arg;
	void (*before)(void) = fakes.before;
	fakes.before = NULL;
	if (before) {
		before();
	}
	if (fakes.fail) {
		q->rc = fakes.fail;
		q->a = (struct chatd_store_answer){ .struct_size = sizeof(q->a) };
		fakes.fail = 0;
	}
	q->fn(q->arg, q->rc, &q->a);
	free(q);
}

static chatd_status answer(struct ask *q, chatd_status rc)
{
	q->rc = rc;
	if (fakes.hold) {
		struct ask **l = &held;
		while (*l) {
			l = &(*l)->next;
		}
		*l = q;
		return 0;
	}
	rc = kit_host(fakes.k)->post(q->w, deliver, q);
	if (rc < 0) {
		free(q);
	}
	return rc;
}

void fake_hold(int on)
{
	fakes.hold = on;
	while (!on && held) {
		struct ask *q = held;
		held = q->next;
		kit_on(fakes.k, 0, deliver, q);
	}
}

static struct ask *ask(chatd_worker *w, chatd_store_fn *fn, void *arg)
{
	struct ask *q = fakes.refuse ? NULL : calloc(1, sizeof(*q));
	fakes.calls++;
	if (q) {
		q->fn = fn;
		q->arg = arg;
		q->w = w;
		q->a.struct_size = sizeof(q->a);
	}
	return q;
}

static chatd_status refused(void)
{
	chatd_status rc = fakes.refuse ? fakes.refuse : -ENOMEM;
	fakes.refuse = 0;
	return rc;
}

static void show_account(struct ask *q, const struct fake_account *from)
{
	struct fake_account *a = &q->account;
	*a = *from;
	q->account_view = (struct chatd_account){ .struct_size = sizeof(q->account_view),
		.id = z(a->id),
		.nickname = z(a->nick),
		.flags = a->flags,
		.email = zn(a->email),
		.password = zn(a->hash),
		.roles = zn(a->roles),
		.banned_until = a->banned_until,
		.bits = a->bits };
	q->a.accounts = &q->account_view;
	q->a.n_accounts = 1;
}

static void show_login(struct ask *q, const struct fake_login *from)
{
	size_t i = q->a.n_logins++;
	struct fake_login *l = &q->logins[i];
	*l = *from;
	q->login_views[i] = (struct chatd_store_login){ .struct_size = sizeof(q->login_views[i]),
		.id = z(l->id),
		.user = z(l->user),
		.device = z(l->device),
		.refresh = z(l->refresh),
		.created = l->created,
		.used = l->used,
		.idle_ms = l->idle_ms,
		.expires = l->expires };
	q->a.logins = q->login_views;
}

/* ---- accounts ----------------------------------------------------------------- */

struct fake_account *fake_account(const char *email)
{
	for (size_t i = 0; i < fakes.n_accounts; i++) {
		if (strcmp(fakes.accounts[i].email, email) == 0) {
			return &fakes.accounts[i];
		}
	}
	return NULL;
}

static struct fake_account *by_id(struct chatd_str id)
{
	for (size_t i = 0; i < fakes.n_accounts; i++) {
		if (same(fakes.accounts[i].id, id)) {
			return &fakes.accounts[i];
		}
	}
	return NULL;
}

static int32_t taken(const struct fake_account *but, struct chatd_str email, struct chatd_str nick)
{
	for (size_t i = 0; i < fakes.n_accounts; i++) {
		const struct fake_account *a = &fakes.accounts[i];
		if (a != but && same(a->email, email)) {
			return CHATD_STORE_EMAIL_TAKEN;
		}
		if (a != but && !(a->flags & CHATD_ID_ANONYMOUS) && same(a->nick, nick)) {
			return CHATD_STORE_NICK_TAKEN;
		}
	}
	return 0;
}

static chatd_status account_create(
		void *obj, chatd_worker *w, const struct chatd_account *r, chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	q->a.why = taken(NULL, r->email, r->nickname);
	if (q->a.why || fakes.n_accounts == FAKES) {
		return answer(q, -EEXIST);
	}
	struct fake_account *a = &fakes.accounts[fakes.n_accounts++];
	*a = (struct fake_account){ .flags = r->flags };
	copy(a->id, sizeof(a->id), r->id);
	copy(a->nick, sizeof(a->nick), r->nickname);
	copy(a->email, sizeof(a->email), r->email);
	copy(a->hash, sizeof(a->hash), r->password);
	return answer(q, 0);
}

static chatd_status account_get(void *obj, chatd_worker *w, const struct chatd_store_account_key *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	for (size_t i = 0; i < fakes.n_accounts; i++) {
		struct fake_account *a = &fakes.accounts[i];
		if (same(r->by == CHATD_STORE_BY_EMAIL ? a->email : a->id, r->key)) {
			show_account(q, a);
			return answer(q, 0);
		}
	}
	return answer(q, -ENOENT);
}

static int64_t end_logins(struct chatd_str user, struct chatd_str id, struct chatd_str keep)
{
	int64_t n = 0;
	for (size_t i = 0; i < fakes.n_logins; i++) {
		struct fake_login *l = &fakes.logins[i];
		if (same(l->user, user) && (!id.p || same(l->id, id)) && !same(l->id, keep)) {
			memset(l, 0, sizeof(*l));
			n++;
		}
	}
	return n;
}

static void apply(struct fake_account *a, const struct chatd_store_account_update *u)
{
	if (u->set & CHATD_STORE_ACCOUNT_EMAIL) {
		copy(a->email, sizeof(a->email), u->email);
	}
	if (u->set & CHATD_STORE_ACCOUNT_NICKNAME) {
		copy(a->nick, sizeof(a->nick), u->nickname);
	}
	if (u->set & CHATD_STORE_ACCOUNT_PASSWORD) {
		copy(a->hash, sizeof(a->hash), u->password);
	}
	if (u->set & CHATD_STORE_ACCOUNT_BITS) {
		a->bits = (a->bits | u->bits_on) & ~u->bits_off;
	}
	if (u->set & CHATD_STORE_ACCOUNT_REGISTER) {
		a->flags &= ~(uint32_t)CHATD_ID_ANONYMOUS;
		a->secret[0] = '\0';
	}
}

static chatd_status account_update(void *obj, chatd_worker *w,
		const struct chatd_store_account_update *u, chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	struct fake_account *a = by_id(u->id);
	(void)obj;
	if (!q) {
		return refused();
	}
	if (!a) {
		return answer(q, -ENOENT);
	}
	q->a.why = taken(a, u->email, u->nickname);
	if (q->a.why) {
		return answer(q, -EEXIST);
	}
	if ((u->was.p && !same(a->hash, u->was)) ||
			((u->set & CHATD_STORE_ACCOUNT_REGISTER) && !(a->flags & CHATD_ID_ANONYMOUS))) {
		return answer(q, -ESTALE);
	}
	apply(a, u);
	if (u->end_logins) {
		q->a.n = end_logins(u->id, chatd_str_of(NULL, 0), u->keep);
	}
	show_account(q, a);
	return answer(q, 0);
}

/* ---- logins --------------------------------------------------------------------- */

struct fake_login *fake_login(const char *id)
{
	for (size_t i = 0; i < fakes.n_logins; i++) {
		if (id[0] && strcmp(fakes.logins[i].id, id) == 0) {
			return &fakes.logins[i];
		}
	}
	return NULL;
}

static struct fake_login *login_of(struct chatd_str id)
{
	char text[65];
	copy(text, sizeof(text), id);
	return fake_login(text);
}

static chatd_status login_create(void *obj, chatd_worker *w, const struct chatd_store_login *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	if (!by_id(r->user) || fakes.n_logins == FAKES) {
		return answer(q, -ENOENT);
	}
	struct fake_login *l = &fakes.logins[fakes.n_logins++];
	*l = (struct fake_login){
		.used = r->used, .created = r->created, .idle_ms = r->idle_ms, .expires = r->expires
	};
	copy(l->id, sizeof(l->id), r->id);
	copy(l->user, sizeof(l->user), r->user);
	copy(l->device, sizeof(l->device), r->device);
	copy(l->refresh, sizeof(l->refresh), r->refresh);
	show_login(q, l);
	return answer(q, 0);
}

static chatd_status login_get(void *obj, chatd_worker *w, const struct chatd_store_login_key *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	struct fake_login *l = login_of(r->id);
	(void)obj;
	if (!q) {
		return refused();
	}
	if (!l || !by_id(z(l->user))) {
		return answer(q, -ENOENT);
	}
	show_login(q, l);
	show_account(q, by_id(z(l->user)));
	return answer(q, 0);
}

static chatd_status login_list(void *obj, chatd_worker *w, const struct chatd_store_login_list *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	for (size_t i = 0; i < fakes.n_logins; i++) {
		if (same(fakes.logins[i].user, r->user)) {
			show_login(q, &fakes.logins[i]);
		}
	}
	return answer(q, 0);
}

static chatd_status login_rotate(void *obj, chatd_worker *w,
		const struct chatd_store_login_rotate *r, chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	struct fake_login *l = login_of(r->id);
	(void)obj;
	if (!q) {
		return refused();
	}
	if (!l) {
		return answer(q, -ENOENT);
	}
	show_login(q, l);
	show_account(q, by_id(z(l->user)));
	if (same(l->refresh, r->refresh)) {
		memcpy(l->before, l->refresh, sizeof(l->before));
		l->rotated = r->wall;
	} else if (same(l->before, r->refresh) && r->wall <= l->rotated + r->grace_ms) {
		q->a.repeated = 1;
	} else {
		memset(l, 0, sizeof(*l));
		q->a.why = CHATD_STORE_REUSED;
		return answer(q, -EACCES);
	}
	copy(l->refresh, sizeof(l->refresh), r->next);
	return answer(q, 0);
}

static chatd_status login_end(void *obj, chatd_worker *w, const struct chatd_store_login_end *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	q->a.n = end_logins(r->user, r->id, r->keep);
	return answer(q, 0);
}

/* ---- secrets ---------------------------------------------------------------------- */

static chatd_status secret_put(void *obj, chatd_worker *w, const struct chatd_store_secret *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	struct fake_secret *s = NULL;
	(void)obj;
	if (!q) {
		return refused();
	}
	for (size_t i = 0; i < fakes.n_secrets; i++) {
		if (fakes.secrets[i].kind == r->kind && same(fakes.secrets[i].user, r->user)) {
			s = &fakes.secrets[i];
		}
	}
	s = s ? s : &fakes.secrets[fakes.n_secrets++];
	s->kind = r->kind;
	s->expires = r->expires;
	copy(s->hash, sizeof(s->hash), r->hash);
	copy(s->user, sizeof(s->user), r->user);
	copy(s->data, sizeof(s->data), r->data);
	return answer(q, 0);
}

static chatd_status secret_take(void *obj, chatd_worker *w, const struct chatd_store_secret *r,
		chatd_store_fn *fn, void *arg)
{
	struct ask *q = ask(w, fn, arg);
	(void)obj;
	if (!q) {
		return refused();
	}
	for (size_t i = 0; i < fakes.n_secrets; i++) {
		struct fake_secret *s = &fakes.secrets[i];
		if (s->kind == r->kind && same(s->hash, r->hash) && s->expires > r->wall) {
			q->secret = *s;
			q->secret_view = (struct chatd_store_secret){ .struct_size = sizeof(q->secret_view),
				.kind = s->kind,
				.user = z(q->secret.user),
				.data = z(q->secret.data) };
			q->a.secrets = &q->secret_view;
			q->a.n_secrets = 1;
			if (by_id(z(s->user))) {
				show_account(q, by_id(z(s->user)));
			}
			memset(s, 0, sizeof(*s));
			return answer(q, 0);
		}
	}
	return answer(q, -ENOENT);
}

static const struct chatd_store store_vt = {
	.struct_size = sizeof(store_vt),
	.account_create = account_create,
	.account_get = account_get,
	.account_update = account_update,
	.login_create = login_create,
	.login_get = login_get,
	.login_list = login_list,
	.login_rotate = login_rotate,
	.login_end = login_end,
	.secret_put = secret_put,
	.secret_take = secret_take,
};

/* ---- tokens, mails, limits --------------------------------------------------------- */

static chatd_status issue(void *obj, const struct chatd_claims *c, char ret[CHATD_TOKEN_MAX],
		struct chatd_claims *ret_claims)
{
	int64_t now = kit_host(fakes.k)->wall_ms() / 1000 * 1000;
	int64_t expires = c->expires ? c->expires : now + 900000;
	(void)obj;
	snprintf(ret, CHATD_TOKEN_MAX, "%s.%.*s.%.*s.%lld.%d",
			c->type == CHATD_TOKEN_ACCESS ? "access" : "refresh", (int)c->user.n, c->user.p,
			(int)c->login.n, c->login.p ? c->login.p : "", (long long)expires, ++fakes.serial);
	if (ret_claims) {
		ret_claims->issued = now;
		ret_claims->expires = expires;
	}
	return 0;
}

static chatd_status verify(void *obj, int32_t type, struct chatd_str token,
		char room[CHATD_TOKEN_MAX], struct chatd_claims *ret)
{
	char *part[5], *at = room;
	(void)obj;
	copy(room, CHATD_TOKEN_MAX, token);
	for (int i = 0; i < 5; i++) {
		part[i] = strsep(&at, ".");
		if (!part[i]) {
			return -EKEYREJECTED;
		}
	}
	if (strcmp(part[0], type == CHATD_TOKEN_ACCESS ? "access" : "refresh") != 0) {
		return -EKEYREJECTED;
	}
	ret->user = z(part[1]);
	ret->login = zn(part[2]);
	ret->expires = atoll(part[3]);
	return ret->expires <= kit_host(fakes.k)->wall_ms() ? -EKEYEXPIRED : 0;
}

static const struct chatd_tokens tokens_vt = {
	.struct_size = sizeof(tokens_vt), .issue = issue, .verify = verify
};

struct sent {
	chatd_mail_fn *fn;
	void *arg;
};

static void mail_done(void *arg)
{
	struct sent *s = arg;
	s->fn(s->arg, 0);
	free(s);
}

static chatd_status send_mail(
		void *obj, chatd_worker *w, const struct chatd_mail *m, chatd_mail_fn *fn, void *arg)
{
	struct sent *s = calloc(1, sizeof(*s));
	(void)obj;
	*s = (struct sent){ fn, arg };
	fakes.mails++;
	copy(fakes.to, sizeof(fakes.to), m->to);
	copy(fakes.subject, sizeof(fakes.subject), m->subject);
	copy(fakes.text, sizeof(fakes.text), m->text);
	chatd_status rc = kit_host(fakes.k)->post(w, mail_done, s);
	if (rc < 0) {
		free(s);
	}
	return rc;
}

static const struct chatd_mailer mailer_vt = { .struct_size = sizeof(mailer_vt),
	.send = send_mail };

const char *fake_code(void)
{
	static char code[40];
	const char *at = strstr(fakes.text, "one use:\n\n");
	snprintf(code, sizeof(code), "%.30s", at ? at + strlen("one use:\n\n") : "");
	return code;
}

struct taking {
	chatd_limiter_fn *fn;
	void *arg;
};

static void taken_done(void *arg)
{
	struct taking *t = arg;
	t->fn(t->arg, fakes.limit_retry ? -EDQUOT : 0, fakes.limit_retry);
	free(t);
}

static chatd_status take(
		void *obj, chatd_worker *w, const struct chatd_bucket *b, chatd_limiter_fn *fn, void *arg)
{
	struct taking *t = calloc(1, sizeof(*t));
	(void)obj;
	(void)b;
	*t = (struct taking){ fn, arg };
	chatd_status rc = kit_host(fakes.k)->post(w, taken_done, t);
	if (rc < 0) {
		free(t);
	}
	return rc;
}

static const struct chatd_limiter limiter_vt = { .struct_size = sizeof(limiter_vt), .take = take };

struct kit *fakes_kit_with(
		const struct chatd_plugin *plugin, const char *yaml, const struct kit_service *more)
{
	enum { MORE = 4 };
	struct kit_service services[FAKE_SERVICES + MORE + 1] = { { CHATD_STORE, &store_vt, NULL },
		{ CHATD_TOKENS, &tokens_vt, NULL }, { CHATD_MAILER, &mailer_vt, NULL },
		{ CHATD_LIMITER, &limiter_vt, NULL } };
	const struct kit_conf conf = { .workers = 2, .services = services };
	char all[1024];
	for (size_t i = 0; more && more[i].name && i < MORE; i++) {
		services[FAKE_SERVICES + i] = more[i];
	}
	snprintf(all, sizeof(all), "hash_threads: 0\nargon2_memory: 8 KiB\nargon2_passes: 1\n%s", yaml);
	fakes = (struct fakes){ 0 };
	fakes.k = kit_new_with(plugin, all, &conf);
	return fakes.k;
}

struct kit *fakes_kit(const struct chatd_plugin *plugin, const char *yaml)
{
	return fakes_kit_with(plugin, yaml, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that are open: a login that ends, ends them too; a guest who registers stays. */
#include "auth.h"

#include <chatd-sdk/events.h>
#include <chatd-sdk/hash.h>

#include <sodium.h>
#include <stdio.h>

enum { LINGER_MS = 10000, NAME_MAX_BYTES = 255, ROLES_MAX_BYTES = 511, WHY_MAX = 63 };

#define ENDED      "auth.ended"
#define REGISTERED "auth.registered"

struct ending {
	const struct chatd_host *h;
	int64_t at;
	char login[CHATD_ID_MAX + 1], keep[CHATD_ID_MAX + 1], why[64];
};

void live_login_id(const struct self *self, char kind, char ret[LOGIN_ROOM])
{
	unsigned char raw[16];
	char b64[sodium_base64_ENCODED_LEN(16, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
	self->h->random(raw, sizeof(raw));
	sodium_bin2base64(b64, sizeof(b64), raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	snprintf(ret, LOGIN_ROOM, "%c%012llx_%s", kind, (unsigned long long)self->h->wall_ms(), b64);
}

/* When it was made; 0: it is none of ours. */
static int64_t login_time(struct chatd_str id)
{
	int64_t t = 0;
	if (id.n != LOGIN_ROOM - 1 || id.p[13] != '_') {
		return 0;
	}
	for (size_t i = 1; i < 13; i++) {
		char c = id.p[i];
		t = t << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return t;
}

static void end_one(const void *data, chatd_session *s)
{
	const struct ending *e = data;
	const chatd_ident *ident = e->h->session_ident(s);
	struct chatd_str login = ident ? e->h->ident_login(ident) : chatd_str_of(NULL, 0);
	if ((e->keep[0] && chatd_str_same(login, text(e->keep))) || login_time(login) > e->at) {
		return;
	}
	if (!e->login[0] || chatd_str_same(login, text(e->login))) {
		e->h->session_close(s, 4401, e->why);
	}
}

static void end_here(const struct self *self, const struct live_end *what, int64_t when)
{
	struct ending e = { .h = self->h, .at = when };
	struct chatd_each each = { .struct_size = sizeof(each),
		.user = text(what->user),
		.fn = end_one,
		.data = &e,
		.n = sizeof(e),
		/* A login that was looked up just before it ended may still be on its way in. */
		.linger_ms = LINGER_MS };
	chatd_str_copy(e.login, sizeof(e.login), text(what->login ? what->login : ""));
	chatd_str_copy(e.keep, sizeof(e.keep), text(what->keep ? what->keep : ""));
	chatd_str_copy(e.why, sizeof(e.why), text(what->why));
	if (self->h->each_session(&each) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"sessions of %s that have ended could not be closed: no memory", what->user);
	}
}

/* The store knows it already: on a node that does not hear of it, it counts from the next login. */
static void tell(
		const struct op *op, const struct chatd_sheet *s, const char *kind, const char *user)
{
	const struct self *self = op->self;
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_cluster_event e = chatd_sheet_event(s, kind, text(user));
	if (cluster->send(self->cluster->obj, op->w, &e, NULL, NULL) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"other nodes could not be told what became of the logins of %s", user);
	}
}

void live_end(const struct op *op, const struct live_end *what)
{
	int64_t now = op->self->h->wall_ms();
	struct chatd_sheet s = { .n = 0 };
	end_here(op->self, what, now);
	if (op->self->cluster) {
		chatd_sheet_put(&s, "user", text(what->user));
		chatd_sheet_put(&s, "login", text(what->login ? what->login : ""));
		chatd_sheet_put(&s, "keep", text(what->keep ? what->keep : ""));
		chatd_sheet_put(&s, "why", text(what->why));
		chatd_sheet_int(&s, "at", now);
		tell(op, &s, ENDED, what->user);
	}
}

struct registered {
	const struct chatd_host *h;
	char user[CHATD_ID_MAX + 1], name[256], roles[512];
};

static void renew_one(const void *data, chatd_session *s)
{
	const struct registered *r = data;
	const chatd_ident *was = r->h->session_ident(s);
	if (!was || !(r->h->ident_flags(was) & CHATD_ID_ANONYMOUS)) {
		return;
	}
	struct chatd_identity who = { .struct_size = sizeof(who),
		.user = text(r->user),
		.name = text(r->name),
		.roles = text_or_none(r->roles),
		.login = r->h->ident_login(was),
		.client = r->h->ident_client(was),
		.expires = r->h->ident_expires(was) };
	if (r->h->session_renew(s, &who) < 0) {
		r->h->session_close(s, 4401, "you are registered now; log in");
	}
}

static void renew_here(const struct self *self, struct registered *r)
{
	const struct chatd_each each = { .struct_size = sizeof(each),
		.user = text(r->user),
		.fn = renew_one,
		.data = r,
		.n = sizeof(*r),
		.linger_ms = LINGER_MS };
	r->h = self->h;
	(void)self->h->each_session(&each);
}

void live_registered(const struct op *op, const struct person *p)
{
	struct registered r = { .h = NULL };
	struct chatd_sheet s = { .n = 0 };
	chatd_str_copy(r.user, sizeof(r.user), text(p->id));
	chatd_str_copy(r.name, sizeof(r.name), text(p->nick));
	chatd_str_copy(r.roles, sizeof(r.roles), text(p->roles));
	renew_here(op->self, &r);
	if (op->self->cluster) {
		chatd_sheet_put(&s, "user", text(r.user));
		chatd_sheet_put(&s, "name", text(r.name));
		chatd_sheet_put(&s, "roles", text(r.roles));
		tell(op, &s, REGISTERED, r.user);
	}
}

/* ---- what other nodes tell --------------------------------------------------------------- */

static void complain(const struct self *self, const struct chatd_cluster_event *e)
{
	self->h->log(self->ctx, CHATD_LOG_WARN, "node %.*s sent an \"%.*s\" that is none",
			(int)e->from.n, e->from.p, (int)e->kind.n, e->kind.p);
}

static int get_id(const struct chatd_cluster_event *e, const char *name, char ret[CHATD_ID_MAX + 1])
{
	struct chatd_str s = chatd_event_get(e, name);
	chatd_str_copy(ret, CHATD_ID_MAX + 1, s);
	return !s.n || chatd_id_ok(s);
}

static void on_ended(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	char user[CHATD_ID_MAX + 1], login[CHATD_ID_MAX + 1], keep[CHATD_ID_MAX + 1], why[WHY_MAX + 1];
	struct chatd_str words;
	int64_t at = 0;
	(void)w;
	if (!get_id(e, "user", user) || !user[0] || !get_id(e, "login", login) ||
			!get_id(e, "keep", keep) || !chatd_event_text(e, "why", WHY_MAX, &words) ||
			!chatd_event_int(e, "at", &at)) {
		complain(arg, e);
		return;
	}
	chatd_str_copy(why, sizeof(why), words);
	end_here(arg, &(struct live_end){ .user = user, .login = login, .keep = keep, .why = why }, at);
}

static void on_registered(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct registered r = { .h = NULL };
	struct chatd_str name, roles;
	(void)w;
	if (!get_id(e, "user", r.user) || !r.user[0] ||
			!chatd_event_text(e, "name", NAME_MAX_BYTES, &name) ||
			!chatd_event_text(e, "roles", ROLES_MAX_BYTES, &roles)) {
		complain(arg, e);
		return;
	}
	chatd_str_copy(r.name, sizeof(r.name), name);
	chatd_str_copy(r.roles, sizeof(r.roles), roles);
	renew_here(arg, &r);
}

/* ---- what no event told ------------------------------------------------------------------ */

enum { LOGINS_MAX = 1000 };

struct look {
	struct self *self;
	int64_t ended, asked;
	char user[CHATD_ID_MAX + 1];
};

/* The logins that are left, by their hashes. */
struct left {
	const struct chatd_host *h;
	int64_t ended, asked;
	struct chatd_hash_key key;
	size_t n;
	uint64_t logins[LOGINS_MAX];
};

static int is_left(const struct left *l, struct chatd_str login)
{
	uint64_t hash = chatd_hash(&l->key, login.p, login.n);
	for (size_t i = 0; i < l->n; i++) {
		if (l->logins[i] == hash) {
			return 1;
		}
	}
	return 0;
}

/* A session that came with a password has no login in the store: it ends when all of them do.
 * One that came after the question may have a login that the answer did not know. */
static void end_what_is_over(const void *data, chatd_session *s)
{
	const struct left *l = data;
	const chatd_ident *ident = l->h->session_ident(s);
	struct chatd_str login = ident ? l->h->ident_login(ident) : chatd_str_of(NULL, 0);
	int64_t made = login_time(login);
	if (!made || made > l->asked) {
		return;
	}
	if (login.p[0] == 'p' ? made <= l->ended : !is_left(l, login)) {
		l->h->session_close(s, 4401, "logged out");
	}
}

static void on_logins(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct look *look = arg;
	struct self *self = look->self;
	struct left *l = rc == 0 && a->n_logins < LOGINS_MAX ? self->h->mem_alloc(sizeof(*l)) : NULL;
	if (l) {
		l->h = self->h;
		l->ended = look->ended;
		l->asked = look->asked;
		self->h->random(&l->key, sizeof(l->key));
		for (size_t i = 0; i < a->n_logins; i++) {
			l->logins[l->n++] = chatd_hash(&l->key, a->logins[i].id.p, a->logins[i].id.n);
		}
		const struct chatd_each each = { .struct_size = sizeof(each),
			.user = text(look->user),
			.fn = end_what_is_over,
			.data = l,
			.n = offsetof(struct left, logins) + l->n * sizeof(l->logins[0]) };
		rc = self->h->each_session(&each);
		self->h->mem_free(l);
	}
	if (rc < 0) {
		chatd_touched_again(&self->touched);
	}
	self->h->mem_free(look);
}

static void on_touched(void *arg, chatd_worker *w, struct chatd_str user, int64_t ended)
{
	struct self *self = arg;
	const struct chatd_store *store = self->store->vt;
	struct look *look = self->h->mem_alloc(sizeof(*look));
	if (!look) {
		chatd_touched_again(&self->touched);
		return;
	}
	look->self = self;
	look->ended = ended;
	look->asked = self->h->wall_ms();
	chatd_str_copy(look->user, sizeof(look->user), user);
	const struct chatd_store_login_list list = { .struct_size = sizeof(list),
		.limit = LOGINS_MAX,
		.user = text(look->user),
		.wall = look->asked };
	if (store->login_list(self->store->obj, w, &list, on_logins, look) < 0) {
		self->h->mem_free(look);
		chatd_touched_again(&self->touched);
	}
}

chatd_status live_init(struct self *self)
{
	if (!self->cluster) {
		return 0;
	}
	self->touched = (struct chatd_touched){
		.h = self->h, .store = self->store, .cluster = self->cluster, .fn = on_touched, .arg = self
	};
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_cluster_receiver ended = {
		.struct_size = sizeof(ended), .kind = ENDED, .fn = on_ended, .arg = self
	};
	const struct chatd_cluster_receiver registered = {
		.struct_size = sizeof(registered), .kind = REGISTERED, .fn = on_registered, .arg = self
	};
	chatd_status rc = cluster->receive(self->cluster->obj, &ended);
	return rc < 0 ? rc : cluster->receive(self->cluster->obj, &registered);
}

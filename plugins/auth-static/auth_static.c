/* SPDX-License-Identifier: Apache-2.0 */
/* Logins written in the configuration. */
#include <chatd-sdk/roles.h>
#include <chatd/accounts.h>
#include <chatd/plugin.h>

#include <crypt.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct user {
	const char *login, *passcode, *name, *token;
	int32_t admin, moderator;
	const char *const *roles;
};

struct conf {
	struct chatd_list users;
	int32_t allow_any, anonymous;
};

/* An account that others are to find before its user has ever been here. */
struct entry {
	struct self *self;
	const struct user *user;
	chatd_worker *w; /* NULL: it is too late */
	struct chatd_timer again;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *accounts; /* NULL: nobody keeps any */
	struct entry *entries;                /* one for each user; NULL without accounts */
};

enum { AGAIN_MS = 1000 }; /* after a store that could not take an account just then */

/* One password being checked on the pool; the call is parked meanwhile. */
struct check {
	const struct self *self;
	const struct user *user;
	chatd_worker *w;
	chatd_token token;
	int right;
	size_t n;
	char given[];
};

enum { PASS_MAX = 128, ID_MAX = 64, TOKEN_MIN = 16, ROLES_MAX = 16 };
enum { ROLES_TEXT = ROLES_MAX * (ID_MAX + 1) };

static const struct chatd_opt user_opts[] = {
	{ .key = "login",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct user, login),
			.doc = "The name in the CONNECT frame; also the user id." },
	{ .key = "passcode",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET,
			.offset = offsetof(struct user, passcode),
			.doc = "A hash ($argon2id$, $y$, $2b$, $6$ ...), or the password itself." },
	{ .key = "name",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct user, name),
			.doc = "The display name; the login if absent." },
	{ .key = "token",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct user, token),
			.doc = "A bearer token that is this user as well, for REST; at least 16 characters." },
	{ .key = "admin",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct user, admin),
			.fallback = "false",
			.doc = "Marks the identity as an administrator." },
	{ .key = "moderator",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct user, moderator),
			.fallback = "false",
			.doc = "Marks the identity as a moderator of the server." },
	{ .key = "roles",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct user, roles),
			.fallback = "[]",
			.doc = "Further roles, for rules: letters, digits, _ and -." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "users",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, users),
			.sub = user_opts,
			.sub_size = sizeof(struct user),
			.doc = "The logins that are known." },
	{ .key = "allow_any",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, allow_any),
			.fallback = "false",
			.doc = "Any login is accepted with any passcode: for a broker behind a firewall." },
	{ .key = "anonymous",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, anonymous),
			.fallback = "false",
			.doc = "A client without any credentials is let in under a random name." },
	{ 0 },
};

static int valid_id(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
					c == '_' || c == '-')) {
			return 0;
		}
	}
	return n > 0 && n <= ID_MAX;
}

static chatd_status check_roles(const struct chatd_host *h, chatd_ctx *ctx, const struct user *u)
{
	for (size_t i = 0; u->roles[i]; i++) {
		if (!chatd_role_ok(u->roles[i])) {
			return h->conf_error(ctx, "users",
					"\"%s\" of \"%s\" cannot be a role; use 1 to 64 letters, digits, _ and -",
					u->roles[i], u->login);
		}
		if (i == ROLES_MAX) {
			return h->conf_error(
					ctx, "users", "\"%s\" has more than %d roles; keep fewer", u->login, ROLES_MAX);
		}
	}
	return 0;
}

static chatd_status check_conf(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct user *users = conf->users.items;
	for (size_t i = 0; i < conf->users.n; i++) {
		if (!valid_id(users[i].login, strlen(users[i].login))) {
			return h->conf_error(ctx, "users",
					"login \"%s\" cannot be a user id; use 1 to 64 letters, digits, _ and -",
					users[i].login);
		}
		if (users[i].token && strlen(users[i].token) < TOKEN_MIN) {
			return h->conf_error(ctx, "users",
					"the token of \"%s\" is too short to be safe; use at least %d characters",
					users[i].login, TOKEN_MIN);
		}
		if (check_roles(h, ctx, &users[i]) < 0) {
			return -EINVAL;
		}
		for (size_t k = 0; k < i; k++) {
			if (strcmp(users[i].login, users[k].login) == 0) {
				return h->conf_error(
						ctx, "users", "login \"%s\" is there twice; keep one", users[i].login);
			}
		}
	}
	return 0;
}

/* ---- checking a password ------------------------------------------------ */

static int same_text(const char *a, size_t an, const char *b, size_t bn)
{
	unsigned char ha[crypto_generichash_BYTES], hb[crypto_generichash_BYTES];
	crypto_generichash(ha, sizeof(ha), (const unsigned char *)a, an, NULL, 0);
	crypto_generichash(hb, sizeof(hb), (const unsigned char *)b, bn, NULL, 0);
	return sodium_memcmp(ha, hb, sizeof(ha)) == 0;
}

static int same_crypt(const char *hash, const char *given)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	/* Not crypt_r(): its "*0" for a failure is one more thing to forget. */
	const char *out = data ? crypt_rn(given, hash, data, sizeof(*data)) : NULL;
	int same = out && same_text(out, strlen(out), hash, strlen(hash));
	free(data);
	return same;
}

static void check_work(void *arg)
{
	struct check *c = arg;
	const char *have = c->user->passcode;
	if (strncmp(have, "$argon2", 7) == 0) {
		c->right = crypto_pwhash_str_verify(have, c->given, c->n) == 0;
	} else if (have[0] == '$') {
		c->right = same_crypt(have, c->given);
	} else {
		c->right = same_text(have, strlen(have), c->given, c->n);
	}
}

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static chatd_verdict welcome_by(
		const struct self *self, chatd_call *call, const struct user *u, const char *cred)
{
	char roles[ROLES_TEXT];
	size_t n = 0;
	for (size_t i = 0; u->roles[i]; i++) {
		n += (size_t)snprintf(roles + n, sizeof(roles) - n, "%s%s", i ? " " : "", u->roles[i]);
	}
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = (u->admin ? CHATD_ID_ADMIN : 0u) | (u->moderator ? CHATD_ID_MODERATOR : 0u),
		.user = text(u->login),
		.name = text(u->name ? u->name : u->login),
		.roles = chatd_str_of(n ? roles : NULL, n) };
	return self->h->identify_as(call, cred, &who);
}

static chatd_verdict welcome(const struct self *self, chatd_call *call, const struct user *u)
{
	return welcome_by(self, call, u, CHATD_CRED_PASSCODE);
}

/* Every user's token is compared, so that the time says nothing. */
static chatd_verdict check_token(const struct self *self, chatd_call *call, const char *cred)
{
	const struct user *users = self->conf->users.items, *hit = NULL;
	struct chatd_str given = self->h->msg_get(self->h->call_msg(call), cred);
	for (size_t i = 0; given.p && i < self->conf->users.n; i++) {
		if (users[i].token && same_text(users[i].token, strlen(users[i].token), given.p, given.n)) {
			hit = &users[i];
		}
	}
	return hit ? welcome_by(self, call, hit, cred) : CHATD_NEXT;
}

static void check_done(void *arg)
{
	struct check *c = arg;
	const struct chatd_host *h = c->self->h;
	chatd_call *call = h->call_of(c->w, c->token);
	if (call && c->right) {
		(void)h->resume(c->token, welcome(c->self, call, c->user), NULL, NULL);
	} else {
		(void)h->resume(c->token, CHATD_REJECT, "UNAUTHORIZED", "Access refused");
	}
	sodium_memzero(c->given, c->n);
	h->mem_free(c);
}

static chatd_verdict check_password(
		const struct self *self, chatd_call *call, const struct user *u, struct chatd_str given)
{
	const struct chatd_host *h = self->h;
	struct check *c = h->mem_alloc(sizeof(*c) + given.n + 1);
	if (!c) {
		return -ENOMEM;
	}
	c->self = self;
	c->user = u;
	c->w = h->call_worker(call);
	c->n = given.n;
	memcpy(c->given, given.p, given.n);
	if (u->passcode[0] != '$') { /* nothing to compute: no need to leave the thread */
		check_work(c);
		int right = c->right;
		sodium_memzero(c->given, c->n);
		h->mem_free(c);
		return right ? welcome(self, call, u) : h->reject(call, "UNAUTHORIZED", "Access refused");
	}
	c->token = h->suspend(call, NULL, NULL);
	if (!c->token) {
		h->mem_free(c);
		return -EBUSY;
	}
	chatd_status rc = h->offload(c->w, check_work, check_done, c);
	if (rc < 0) {
		h->mem_free(c);
		return h->reject(call, "UNAVAILABLE", "too many logins at once; try again");
	}
	return CHATD_WAIT;
}

/* ---- who is it ----------------------------------------------------------- */

static const struct user *find_user(const struct conf *conf, struct chatd_str login)
{
	const struct user *users = conf->users.items;
	for (size_t i = 0; i < conf->users.n; i++) {
		if (strlen(users[i].login) == login.n && memcmp(users[i].login, login.p, login.n) == 0) {
			return &users[i];
		}
	}
	return NULL;
}

/* A login that is no user id maps to one: the same login always to the same. */
static chatd_verdict welcome_any(const struct self *self, chatd_call *call, struct chatd_str login)
{
	char id[2 + 32 + 1] = "u_";
	unsigned char hash[16];
	if (valid_id(login.p, login.n)) {
		return self->h->identify(call, CHATD_CRED_LOGIN, login, login, 0);
	}
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)login.p, login.n, NULL, 0);
	sodium_bin2hex(id + 2, sizeof(id) - 2, hash, sizeof(hash));
	return self->h->identify(call, CHATD_CRED_LOGIN, text(id), login, 0);
}

static chatd_verdict welcome_nobody(const struct self *self, chatd_call *call)
{
	char id[6 + 16 + 1] = "guest_";
	unsigned char raw[8];
	self->h->random(raw, sizeof(raw));
	sodium_bin2hex(id + 6, sizeof(id) - 6, raw, sizeof(raw));
	return self->h->identify(call, "", text(id), text(id), CHATD_ID_ANONYMOUS);
}

static chatd_verdict on_auth(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *creds = h->call_msg(call);
	struct chatd_str login = h->msg_get(creds, CHATD_CRED_LOGIN);
	struct chatd_str pass = h->msg_get(creds, CHATD_CRED_PASSCODE);
	(void)wself;
	chatd_verdict v = check_token(self, call, CHATD_CRED_BEARER);
	if (v == CHATD_NEXT) {
		v = check_token(self, call, CHATD_CRED_TOKEN);
	}
	if (v != CHATD_NEXT) {
		return v;
	}
	if (!login.p || login.n == 0) {
		int bare = !pass.p && !h->msg_get(creds, CHATD_CRED_BEARER).p &&
				!h->msg_get(creds, CHATD_CRED_TOKEN).p;
		return bare && self->conf->anonymous && !h->call_ident(call) ? welcome_nobody(self, call)
																	 : CHATD_NEXT;
	}
	const struct user *u = find_user(self->conf, login);
	if (u && pass.p && pass.n <= PASS_MAX) {
		return check_password(self, call, u, pass);
	}
	if (!u && self->conf->allow_any) {
		return welcome_any(self, call, login);
	}
	return CHATD_NEXT; /* nobody's: the server refuses at the end of the chain */
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	if (sodium_init() < 0) {
		return h->fail(ctx, -ENOSYS, "libsodium cannot be initialised");
	}
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){
		.h = h, .ctx = ctx, .conf = conf, .accounts = h->service(ctx, CHATD_ACCOUNTS)
	};
	*ret_self = self;
	return h->hook(ctx, chatd_hook_session_auth, CHATD_ORDER_CHECK, on_auth);
}

static void make_again(void *arg);

static void account_done(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct entry *e = arg;
	const struct chatd_host *h = e->self->h;
	(void)a;
	if ((rc == -EBUSY || rc == -EAGAIN) && e->w) {
		h->timer_set(e->w, &e->again, AGAIN_MS, make_again, e);
	} else if (rc < 0 && rc != -EEXIST) {
		(void)h->fail(e->self->ctx, rc, "an account of the configuration cannot be made");
	}
}

static chatd_status make_account(struct entry *e)
{
	const struct user *u = e->user;
	const struct chatd_service *s = e->self->accounts;
	const struct chatd_accounts *accounts = s->vt;
	struct chatd_account a = { .struct_size = sizeof(a),
		.id = text(u->login),
		.nickname = text(u->name ? u->name : u->login),
		.flags = u->admin ? CHATD_ID_ADMIN : 0,
		.created = e->self->h->wall_ms() };
	return accounts->create(s->obj, e->w, &a, account_done, e);
}

static void make_again(void *arg)
{
	struct entry *e = arg;
	chatd_status rc = make_account(e);
	if (rc < 0) {
		account_done(e, rc, NULL);
	}
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	const struct user *users = self->conf->users.items;
	size_t n = self->conf->users.n;
	chatd_status rc = 0;
	(void)wself;
	if (!self->accounts || n == 0 || w != self->h->worker_at(0)) {
		return 0;
	}
	self->entries = self->h->mem_alloc(n * sizeof(*self->entries));
	if (!self->entries) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		self->entries[i] = (struct entry){ .self = self, .user = &users[i], .w = w };
	}
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = make_account(&self->entries[i]);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	for (size_t i = 0; self->entries && w == self->h->worker_at(0) && i < self->conf->users.n;
			i++) {
		self->h->timer_clear(&self->entries[i].again);
		self->entries[i].w = NULL;
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->entries);
	self->h->mem_free(self);
}

static const char *const wants[] = { CHATD_ACCOUNTS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS,
	.name = "auth-static",
	.version = "0.1",
	.summary = "logins written in the configuration",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check_conf,
	.wants = wants,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts with a password: options, routes, life. */
#include "auth.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static const char *const hashes[] = { "argon2id", "bcrypt", NULL };
static const char *const shareds[] = { "auto", "never", NULL };
static const char *const verify_modes[] = { "off", "optional", "required", NULL };

#define DAY INT64_C(86400000)
#define MIB INT64_C(1048576)

static const struct chatd_opt opts[] = {
	{ .key = "password_min",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, password_min),
			.fallback = "8",
			.min = 1,
			.max = 64,
			.doc = "Characters that a new password has at least." },
	{ .key = "password_max",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, password_max),
			.fallback = "128",
			.min = 64,
			.max = PASSWORD_BYTES / 4,
			.doc = "Characters that a new password has at most." },
	{ .key = "hash",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, hash),
			.fallback = "argon2id",
			.choices = hashes,
			.doc = "How new passwords are hashed; others are verified and replaced at a login." },
	{ .key = "argon2_memory",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, argon_memory),
			.fallback = "19 MiB",
			.min = 8192,
			.max = 1024 * MIB,
			.doc = "Memory of one Argon2id hash." },
	{ .key = "argon2_passes",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, argon_passes),
			.fallback = "2",
			.min = 1,
			.max = 100,
			.doc = "Passes of Argon2id over its memory." },
	{ .key = "bcrypt_cost",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, bcrypt_cost),
			.fallback = "12",
			.min = 4,
			.max = 16,
			.doc = "Cost of bcrypt; each step doubles it." },
	{ .key = "hash_threads",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, hash_threads),
			.fallback = "2",
			.max = 16,
			.doc = "Threads that hash, at the lowest priority; 0: the server's own pool." },
	{ .key = "hash_queue",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, hash_queue),
			.fallback = "32",
			.min = 1,
			.max = 10000,
			.doc = "Passwords that may wait for a thread; further ones are answered with BUSY." },
	{ .key = "hash_wait",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, hash_wait),
			.fallback = "2s",
			.min = 100,
			.max = 60000,
			.doc = "A password that had to wait for so long is answered with BUSY." },
	{ .key = "refresh_idle",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, refresh_idle),
			.fallback = "7d",
			.min = 60000,
			.max = 366 * DAY,
			.doc = "A login that is not refreshed for so long ends." },
	{ .key = "refresh_lifetime",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, refresh_lifetime),
			.fallback = "30d",
			.min = 60000,
			.max = 3660 * DAY,
			.doc = "A login ends after so long in any case." },
	{ .key = "refresh_grace",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, refresh_grace),
			.fallback = "60s",
			.max = 600000,
			.doc = "So long a spent refresh token gives its unused successor again." },
	{ .key = "devices",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, devices),
			.fallback = "20",
			.max = 1000,
			.doc = "Logins of one account; one more ends the one not used longest. 0: any number." },
	{ .key = "attempts",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, attempts),
			.fallback = "5",
			.min = 1,
			.max = 1000,
			.doc = "Wrong passwords of one account from one address before there are delays." },
	{ .key = "delay_max",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, delay_max),
			.fallback = "15m",
			.min = 1000,
			.max = DAY,
			.doc = "The longest delay after wrong passwords; they begin with 1 s and double." },
	{ .key = "shared",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, shared),
			.fallback = "auto",
			.choices = shareds,
			.doc = "auto: attempts and delays hold over all nodes, if the plugin redis is there." },
	{ .key = "register_per_hour",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, register_per_hour),
			.fallback = "5",
			.max = 1000000,
			.doc = "Registrations from one address (needs limit-rate); 0: any number." },
	{ .key = "verify",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, verify),
			.fallback = "off",
			.choices = verify_modes,
			.doc = "Whether e-mail addresses are confirmed by a mailed code: off, optional, or "
				   "required before the first login." },
	{ .key = "verify_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, verify_ttl),
			.fallback = "1d",
			.min = 1000,
			.max = 30 * DAY,
			.doc = "How long a code for an address is good." },
	{ .key = "reset_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, reset_ttl),
			.fallback = "30m",
			.min = 1000,
			.max = DAY,
			.doc = "How long a code for a forgotten password is good." },
	{ .key = "site",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, site),
			.fallback = "chatd",
			.doc = "What this server is called in mails." },
	{ .key = "verify_link",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, verify_link),
			.doc = "A link for mails that confirm an address, with {code} in it." },
	{ .key = "reset_link",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, reset_link),
			.doc = "A link for mails about a forgotten password, with {code} in it." },
	{ 0 },
};

static chatd_status check_link(
		const struct chatd_host *h, chatd_ctx *ctx, const char *key, const char *link)
{
	if (!link || (strstr(link, "{code}") && strlen(link) < 900)) {
		return 0;
	}
	return h->conf_error(ctx, key,
			"\"%.80s\" has no {code} in it, or is longer than 900 characters; write "
			"https://chat.example.org/?code={code}",
			link);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = check_link(h, ctx, "verify_link", conf->verify_link);
	if (rc == 0) {
		rc = check_link(h, ctx, "reset_link", conf->reset_link);
	}
	for (const char *p = conf->site; *p && rc == 0; p++) {
		if ((unsigned char)*p < 0x20 || strlen(conf->site) > 100) {
			rc = h->conf_error(ctx, "site",
					"a name of one line and at most 100 bytes is expected; shorten it");
		}
	}
	if (rc == 0 && conf->refresh_idle > conf->refresh_lifetime) {
		rc = h->conf_error(ctx, "refresh_idle",
				"it is longer than refresh_lifetime; make it shorter, or that one longer");
	}
	return rc;
}

/* ---- routes ----------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
	struct op *op = arg;
	op->req = NULL;
	if (!op->busy) {
		op_free(op);
	}
}

static void on_request(void *arg, chatd_req *req)
{
	static const struct chatd_req_user user = { .struct_size = sizeof(user), .gone = on_gone };
	const struct route *r = arg;
	const struct chatd_http *http = r->self->http->vt;
	struct op *op = op_create(r->self, http->req_worker(req));
	if (!op) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	op->req = req;
	chatd_str_copy(op->peer, sizeof(op->peer), http->req_peer(req));
	http->req_user(req, &user, op);
	r->start(op);
}

static const struct {
	const char *path;
	void (*start)(struct op *);
	uint32_t method;
	int body; /* 0: none, or an optional one */
} table[] = {
	{ "/api/auth/register", on_register, CHATD_POST, 1 },
	{ "/api/auth/authenticate", on_authenticate, CHATD_POST, 1 },
	{ "/api/auth/login", on_authenticate, CHATD_POST, 1 },
	{ "/api/auth/refresh", on_refresh, CHATD_POST, 1 },
	{ "/api/auth/logout", on_logout, CHATD_POST, 0 },
	{ "/api/auth/sessions", on_sessions, CHATD_GET, 0 },
	{ "/api/auth/sessions", on_sessions_end, CHATD_DELETE, 0 },
	{ "/api/auth/sessions/{id}", on_session_end, CHATD_DELETE, 0 },
	{ "/api/auth/password", on_password, CHATD_POST, 1 },
	{ "/api/auth/email", on_email, CHATD_POST, 1 },
	{ "/api/auth/verify", on_verify, CHATD_POST, 1 },
	{ "/api/auth/verify/resend", on_resend, CHATD_POST, 1 },
	{ "/api/auth/reset", on_reset, CHATD_POST, 1 },
	{ "/api/auth/reset/confirm", on_reset_confirm, CHATD_POST, 1 },
};
enum { ROUTES = sizeof(table) / sizeof(table[0]) };

static chatd_status add_routes(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	chatd_status rc = 0;
	self->routes = self->h->mem_alloc(ROUTES * sizeof(*self->routes));
	if (!self->routes) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < ROUTES && rc == 0; i++) {
		self->routes[i] = (struct route){ .self = self, .start = table[i].start };
		struct chatd_route r = { .struct_size = sizeof(r),
			.methods = table[i].method,
			.flags = CHATD_HTTP_CORS | (table[i].body ? CHATD_HTTP_JSON : 0),
			.path = table[i].path,
			.max_body = 8192,
			.handle = on_request,
			.arg = &self->routes[i] };
		rc = http->route(self->http->obj, self->ctx, &r);
	}
	return rc;
}

/* ---- life --------------------------------------------------------------------------------- */

static chatd_status prepare(struct self *self)
{
	const struct conf *conf = self->conf;
	char nobody[32];
	self->params = (struct hash_params){ .kind = conf->hash,
		.memory = (size_t)conf->argon_memory,
		.passes = (unsigned long long)conf->argon_passes,
		.bcrypt_cost = (unsigned long)conf->bcrypt_cost };
	/* Nobody knows its password, and nobody needs to. */
	self->h->random(nobody, sizeof(nobody));
	for (size_t i = 0; i < sizeof(nobody); i++) {
		nobody[i] = (char)('a' + ((unsigned char)nobody[i] & 15));
	}
	nobody[sizeof(nobody) - 1] = '\0';
	if (hash_make(&self->params, NULL, (struct hash_pass){ nobody, sizeof(nobody) - 1 },
				self->dummy) < 0) {
		return self->h->fail(self->ctx, -ENOMEM,
				"a password cannot be hashed with argon2_memory of %lld bytes; lower it",
				(long long)conf->argon_memory);
	}
	struct pool_conf pool = { .params = &self->params,
		.threads = conf->hash_threads,
		.queue = conf->hash_queue,
		.wait_ms = conf->hash_wait };
	self->pool = pool_create(self->h, &pool);
	self->throttle = throttle_create(self->h, conf->attempts, conf->delay_max);
	self->successors = successors_create(self->h, conf->refresh_grace);
	return self->pool && self->throttle && self->successors ? 0 : -ENOMEM;
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
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.store = h->service(ctx, CHATD_STORE),
		.tokens = h->service(ctx, CHATD_TOKENS),
		.http = h->service(ctx, CHATD_HTTP),
		.mailer = h->service(ctx, CHATD_MAILER),
		.limiter = h->service(ctx, CHATD_LIMITER),
		.cluster = h->service(ctx, CHATD_CLUSTER) };
	*ret_self = self;
	if (self->conf->verify != VERIFY_OFF && !self->mailer) {
		return h->fail(ctx, -EINVAL,
				"verify needs somebody who sends mail: add mail-smtp (or mail-file) to the "
				"plugins, or say verify: off");
	}
	chatd_status rc = prepare(self);
	rc = rc < 0 ? rc : live_init(self);
	rc = rc < 0 ? rc : guess_init(self);
	if (rc == 0) {
		/* After those who know tokens and configured logins: see on_connect(). */
		rc = h->hook(ctx, chatd_hook_session_auth, CHATD_ORDER_CHECK + 50, on_connect);
	}
	return rc == 0 && self->http ? add_routes(self) : rc;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct self *self = selfp;
	struct wself *ws = wselfp;
	chatd_status rc = pool_sit(self->pool, w, &ws->seat);
	return rc < 0 ? rc : chatd_touched_start(&self->touched, w);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct self *self = selfp;
	struct wself *ws = wselfp;
	chatd_touched_stop(&self->touched, w);
	if (ws->seat.pool) {
		pool_rise(&ws->seat);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	pool_destroy(self->pool);
	throttle_destroy(self->throttle);
	successors_destroy(self->successors);
	self->h->mem_free(self->routes);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STORE, CHATD_TOKENS, NULL };
static const char *const wants[] = { CHATD_HTTP, CHATD_MAILER, CHATD_LIMITER, CHATD_CLUSTER,
	CHATD_REDIS, CHATD_PRESENCE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS | CHATD_PLUGIN_ONCE,
	.name = "auth-password",
	.version = "0.1",
	.summary = "accounts with an e-mail address and a password",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

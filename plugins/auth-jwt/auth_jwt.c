/* SPDX-License-Identifier: Apache-2.0 */
/* Signed access tokens: made, verified, and accepted wherever a client can present one. */
#include "auth.h"

#include "store_key.h"

#include <chatd/cluster.h>

#include <chatd-sdk/json.h>
#include <curl/curl.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

static const char *const url_modes[] = { "ticket", "legacy", NULL };

static const struct chatd_opt key_opts[] = {
	{ .key = "kid",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf_key, kid),
			.doc = "The key's name in tokens; made from the key if absent." },
	{ .key = "alg",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf_key, alg),
			.fallback = "HS384",
			.choices = key_algs,
			.doc = "The one algorithm that this key is for." },
	{ .key = "key",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET,
			.offset = offsetof(struct conf_key, key),
			.doc = "The secret (HS, at least 32 bytes), or a key as PEM; a public one only verifies." },
	{ .key = "base64",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf_key, base64),
			.fallback = "false",
			.doc = "The secret is written as base64." },
	{ 0 },
};

static const struct chatd_opt issuer_opts[] = {
	{ .key = "issuer",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct issuer, issuer),
			.doc = "Its iss claim, exactly." },
	{ .key = "audience",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct issuer, audience),
			.doc = "What aud must be or hold: tokens for others are refused." },
	{ .key = "jwks_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct issuer, file),
			.doc = "A file with its keys (JWKS)." },
	{ .key = "jwks_url",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct issuer, url),
			.doc = "Or where they are fetched: https, or http from this machine." },
	{ .key = "ca_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct issuer, ca),
			.doc = "Certificates to trust for jwks_url instead of the system's." },
	{ .key = "algorithms",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct issuer, algorithms),
			.fallback = "[RS256]",
			.doc = "The only algorithms accepted; a key that names none has the first that fits." },
	{ .key = "user_claim",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct issuer, user_claim),
			.fallback = "sub",
			.doc = "Who it is; a path like a.b leads into objects." },
	{ .key = "user_prefix",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct issuer, user_prefix),
			.fallback = "",
			.doc = "Put in front of its user ids, to keep them apart from others." },
	{ .key = "name_claim",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct issuer, name_claim),
			.fallback = "name",
			.doc = "The display name." },
	{ .key = "roles_claim",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct issuer, roles_claim),
			.fallback = "",
			.doc = "Its roles: an array, or words; for example realm_access.roles." },
	{ .key = "roles",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct issuer, roles),
			.fallback = "[]",
			.doc = "What they mean here, as THEIRS=OURS; roles that are not listed mean nothing." },
	{ .key = "adopt",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct issuer, adopt),
			.fallback = "false",
			.doc = "Its tokens may also enter accounts that they have not made." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "access_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, access_ttl),
			.fallback = "1h",
			.min = 10000,
			.max = DAY_MS,
			.doc = "How long an access token is good." },
	{ .key = "refresh_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, refresh_ttl),
			.fallback = "7d",
			.min = 60000,
			.max = DAY_MS * 400,
			.doc = "How long a refresh token is good, unless the one who asks for it says." },
	{ .key = "issuer",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, issuer),
			.fallback = "chatd",
			.doc = "The iss of our tokens; the same on all servers that share keys." },
	{ .key = "audience",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, audience),
			.fallback = "chatd",
			.doc = "Their aud." },
	{ .key = "keys",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, keys),
			.sub = key_opts,
			.sub_size = sizeof(struct conf_key),
			.doc = "The first signs, all verify; none: one is made in server.data_dir/jwt.key." },
	{ .key = "issuers",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, issuers),
			.sub = issuer_opts,
			.sub_size = sizeof(struct issuer),
			.doc = "Login services of others whose tokens are accepted as well." },
	{ .key = "url_token",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, url_token),
			.fallback = "ticket",
			.choices = url_modes,
			.doc = "What ?token= takes: ticket: only those of POST /api/auth/ws-ticket; "
				   "legacy: access tokens too." },
	{ .key = "jwks_refresh",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, jwks_refresh),
			.fallback = "1h",
			.min = 1000,
			.max = DAY_MS,
			.doc = "How often the keys of issuers are read again." },
	{ .key = "jwks_min_refresh",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, jwks_min_refresh),
			.fallback = "30s",
			.min = 100,
			.max = DAY_MS,
			.doc = "Not more often than this, however many tokens name keys that are not known." },
	{ 0 },
};

/* ---- check ---------------------------------------------------------------------------- */

static int word_ok(const char *s)
{
	size_t n = strlen(s);
	return n > 0 && n <= 64 &&
			strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n;
}

static const struct conf_key *key_at(const struct conf *conf, size_t i)
{
	return (const struct conf_key *)conf->keys.items + i;
}

static chatd_status load(const struct conf_key *k, struct key *ret, char why[KEY_WHY])
{
	const struct key_spec spec = { .alg = k->alg,
		.kid = k->kid,
		.text = chatd_str_of(k->key, strlen(k->key)),
		.base64 = k->base64 };
	return key_load(&spec, ret, why);
}

static chatd_status check_keys(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	struct key keys[KEYS_MAX];
	size_t n = 0;
	chatd_status rc = 0;
	if (conf->keys.n > KEYS_MAX) {
		return h->conf_error(ctx, "keys", "there are %zu keys; at most %d are looked through",
				conf->keys.n, KEYS_MAX);
	}
	for (; n < conf->keys.n && rc == 0; n++) {
		char why[KEY_WHY] = "";
		const struct conf_key *k = key_at(conf, n);
		if (k->kid && !word_ok(k->kid)) {
			rc = h->conf_error(ctx, "keys",
					"kid \"%.80s\" cannot be a key's name; use 1 to 64 letters, digits, _, - and .",
					k->kid);
			break;
		}
		if (load(k, &keys[n], why) < 0) {
			rc = h->conf_error(ctx, "keys", "key %zu cannot be used: %s", n + 1, why);
			break;
		}
		for (size_t i = 0; i < n && rc == 0; i++) {
			if (strcmp(keys[i].kid, keys[n].kid) == 0) {
				rc = h->conf_error(ctx, "keys", "keys %zu and %zu are both called \"%s\"; keep one",
						i + 1, n + 1, keys[n].kid);
			}
		}
	}
	if (rc == 0 && n && !keys[0].can_sign) {
		rc = h->conf_error(ctx, "keys",
				"the first key signs, but is a public one; put one with its private part first");
	}
	while (n > 0) {
		key_wipe(&keys[--n]);
	}
	return rc;
}

static int here(const char *url)
{
	static const char *const hosts[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		size_t n = strlen(hosts[i]);
		if (strncmp(url, hosts[i], n) == 0 && (url[n] == ':' || url[n] == '/')) {
			return 1;
		}
	}
	return 0;
}

static chatd_status check_source(
		const struct chatd_host *h, chatd_ctx *ctx, const struct issuer *is)
{
	if (!is->file == !is->url) {
		return h->conf_error(ctx, "issuers",
				"issuer \"%s\" needs its keys from one place: jwks_file or jwks_url", is->issuer);
	}
	/* Whoever can answer in the place of a plain http URL makes tokens for everybody. */
	if (is->url && strncmp(is->url, "https://", 8) != 0 && !here(is->url)) {
		return h->conf_error(ctx, "issuers",
				"jwks_url \"%.200s\" is neither https:// nor on this machine; use https", is->url);
	}
	return 0;
}

static chatd_status check_algorithms(
		const struct chatd_host *h, chatd_ctx *ctx, const struct issuer *is)
{
	for (size_t i = 0; is->algorithms[i]; i++) {
		size_t k = 0;
		while (issuer_algs[k] && strcmp(issuer_algs[k], is->algorithms[i]) != 0) {
			k++;
		}
		if (!issuer_algs[k]) {
			return h->conf_error(ctx, "issuers",
					"algorithm \"%.40s\" of issuer \"%s\" is not one of RS256, RS384, RS512, PS256, "
					"PS384, PS512, ES256, ES384, ES512, HS256, HS384, HS512",
					is->algorithms[i], is->issuer);
		}
		if (is->url && strncmp(issuer_algs[k], "HS", 2) == 0) {
			return h->conf_error(ctx, "issuers",
					"%s needs a secret, and what is fetched from jwks_url is none; use jwks_file",
					issuer_algs[k]);
		}
	}
	return is->algorithms[0]
			? 0
			: h->conf_error(ctx, "issuers", "issuer \"%s\" has no algorithms; name at least one",
					  is->issuer);
}

static chatd_status check_mapping(
		const struct chatd_host *h, chatd_ctx *ctx, const struct issuer *is)
{
	if (*is->user_prefix &&
			(strlen(is->user_prefix) > 32 ||
					!chatd_id_ok(chatd_str_of(is->user_prefix, strlen(is->user_prefix))))) {
		return h->conf_error(ctx, "issuers",
				"user_prefix \"%.80s\" cannot begin a user id; use up to 32 letters, digits, _ "
				"and -",
				is->user_prefix);
	}
	for (size_t i = 0; is->roles[i]; i++) {
		const char *ours = strrchr(is->roles[i], '=');
		if (!ours || ours == is->roles[i] || !word_ok(ours + 1)) {
			return h->conf_error(ctx, "issuers",
					"role \"%.80s\" is not THEIRS=OURS, as in chat-admins=admin", is->roles[i]);
		}
	}
	return 0;
}

static chatd_status check_issuer(
		const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf, size_t n)
{
	const struct issuer *is = (const struct issuer *)conf->issuers.items + n;
	int twice = strcmp(is->issuer, conf->issuer) == 0;
	for (size_t i = 0; i < n; i++) {
		twice |= strcmp(((const struct issuer *)conf->issuers.items)[i].issuer, is->issuer) == 0;
	}
	if (twice || !*is->issuer || !*is->audience) {
		return h->conf_error(ctx, "issuers",
				"issuer \"%.100s\" is there twice, is our own, or lacks a name or audience; each "
				"needs its own",
				is->issuer);
	}
	chatd_status rc = check_source(h, ctx, is);
	rc = rc < 0 ? rc : check_algorithms(h, ctx, is);
	return rc < 0 ? rc : check_mapping(h, ctx, is);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = check_keys(h, ctx, conf);
	if (rc == 0 && (!*conf->issuer || !*conf->audience)) {
		rc = h->conf_error(ctx, *conf->issuer ? "audience" : "issuer",
				"it is empty; give it a name, or leave it out");
	}
	if (rc == 0 && conf->issuers.n > ISSUERS_MAX) {
		rc = h->conf_error(ctx, "issuers", "there are %zu; at most %d are looked through",
				conf->issuers.n, ISSUERS_MAX);
	}
	for (size_t i = 0; rc == 0 && i < conf->issuers.n; i++) {
		rc = check_issuer(h, ctx, conf, i);
	}
	return rc;
}

/* ---- the service ------------------------------------------------------------------------- */

static chatd_status svc_issue(void *obj, const struct chatd_claims *c, char ret[CHATD_TOKEN_MAX],
		struct chatd_claims *ret_claims)
{
	const struct self *self = obj;
	return own_issue(&self->own, self->h->wall_ms(), c, ret, ret_claims);
}

static chatd_status svc_verify(void *obj, int32_t type, struct chatd_str text,
		char room[CHATD_TOKEN_MAX], struct chatd_claims *ret)
{
	const struct self *self = obj;
	struct token token;
	chatd_status rc = token_parse(text, &token);
	rc = rc < 0 ? rc : own_verify(&self->own, self->h->wall_ms(), type, &token, room, ret);
	return rc == 0 || rc == -EKEYEXPIRED ? rc : -EKEYREJECTED;
}

static const struct chatd_tokens tokens_vt = {
	.struct_size = sizeof(tokens_vt), .issue = svc_issue, .verify = svc_verify
};

/* ---- life ----------------------------------------------------------------------------------- */

struct worker_state *state_of(const struct self *self, chatd_worker *w)
{
	return self->h->worker_self(self->ctx, w);
}

static chatd_status load_keys(struct self *self)
{
	char why[KEY_WHY] = "";
	chatd_status rc = 0;
	if (!self->conf->keys.n) {
		return store_key(self->h, self->ctx, &self->keys[0]);
	}
	for (size_t i = 0; i < self->conf->keys.n && rc == 0; i++) {
		rc = load(key_at(self->conf, i), &self->keys[i], why);
		if (rc < 0) {
			(void)self->h->fail(self->ctx, rc, "key %zu cannot be used: %s", i + 1, why);
		}
	}
	return rc;
}

static chatd_status start(struct self *self)
{
	chatd_status rc = load_keys(self);
	if (rc < 0) {
		return rc;
	}
	self->own = (struct own){ .keys = self->keys,
		.n = self->conf->keys.n ? self->conf->keys.n : 1,
		.issuer = self->conf->issuer,
		.audience = self->conf->audience,
		.access_ms = self->conf->access_ttl,
		.refresh_ms = self->conf->refresh_ttl,
		.random = self->h->random };
	if (self->conf->url_token == URL_LEGACY) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"url_token is legacy: whoever sees a URL (proxies, logs, Referer) has the token");
	}
	rc = enter_hooks(self);
	rc = rc < 0 ? rc : self->h->provide(self->ctx, CHATD_TOKENS, &tokens_vt, self);
	return rc == 0 && self->http ? ticket_route(self) : rc;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	if (sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		return h->fail(ctx, -ENOSYS, "libsodium or libcurl cannot be initialised");
	}
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.store = h->service(ctx, CHATD_STORE),
		.accounts = h->service(ctx, CHATD_ACCOUNTS),
		.http = h->service(ctx, CHATD_HTTP) };
	*ret_self = self;
	if (!self->conf->keys.n && h->service(ctx, CHATD_CLUSTER)) {
		return h->fail(ctx, -EINVAL,
				"in a cluster all nodes must sign with the same key; set keys, for example to "
				"[{kid: \"1\", key: env:CHATD_JWT_KEY}]");
	}
	return start(self);
}

/* libjose writes each bad signature to stderr unless it is told not to. */
static void be_quiet(
		void *misc, const char *file, int line, uint64_t err, const char *fmt, va_list ap)
{
	(void)misc;
	(void)file;
	(void)line;
	(void)err;
	(void)fmt;
	(void)ap;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct worker_state *ws = wself;
	ws->self = selfp;
	ws->w = w;
	ws->jose = jose_cfg();
	if (!ws->jose) {
		return -ENOMEM;
	}
	jose_cfg_set_err_func(ws->jose, be_quiet, NULL);
	return jwks_start(ws);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct worker_state *ws = wself;
	(void)selfp;
	(void)w;
	if (ws->self) {
		ticket_stop(ws);
		jwks_stop(ws);
		jose_cfg_decref(ws->jose);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	for (size_t i = 0; i < KEYS_MAX; i++) {
		key_wipe(&self->keys[i]);
	}
	self->h->mem_free(self);
	curl_global_cleanup();
}

static const char *const provides[] = { CHATD_TOKENS, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_ACCOUNTS, CHATD_HTTP, CHATD_CLUSTER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS,
	.name = "auth-jwt",
	.version = "0.1",
	.summary = "signed access tokens (JWT), our own and those of other login services",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker_state),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* Options and life; the service itself. */
#include "engine.h"

#include <chatd/http.h>
#include <chatd/stats.h>

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

enum { REDIS_PORT = 6379, SENTINEL_PORT = 26379, PREFIX_MAX = 64, NAMES_KEY_MIN = 32, NUMBERS = 7 };

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct engine *engine;
	struct number {
		const struct chatd_host *h;
		_Atomic int64_t *count;
	} numbers[NUMBERS];
};

struct wself {
	struct seat seat;
};

#define TEXT(key_, field_, flags_, default_, doc_)                                 \
	{                                                                              \
		.key = key_, .type = CHATD_T_STRING, .flags = flags_,                      \
		.offset = offsetof(struct conf, field_), .fallback = default_, .doc = doc_ \
	}
#define MS(field_, default_, min_, max_, doc_)                                             \
	{                                                                                      \
		.key = #field_, .type = CHATD_T_DURATION, .offset = offsetof(struct conf, field_), \
		.fallback = default_, .min = min_, .max = max_, .doc = doc_                        \
	}
#define NUMBER(field_, default_, min_, max_, doc_)                                    \
	{                                                                                 \
		.key = #field_, .type = CHATD_T_INT, .offset = offsetof(struct conf, field_), \
		.fallback = default_, .min = min_, .max = max_, .doc = doc_                   \
	}

static const struct chatd_opt opts[] = {
	{ .key = "addresses",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, addresses),
			.fallback = "[\"127.0.0.1:6379\"]",
			.doc = "Redis as HOST:PORT; with several, the next one is tried when one fails." },
	{ .key = "sentinels",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, sentinels),
			.doc = "Sentinels as HOST:PORT; they say where the master is, and addresses is unused." },
	TEXT("master", master, 0, "mymaster", "What the sentinels call the master."),
	TEXT("sentinel_user", sentinel_user, CHATD_O_SECRET, NULL, "Login at the sentinels."),
	TEXT("sentinel_password", sentinel_password, CHATD_O_SECRET | CHATD_O_LIVE, NULL,
			"Its password, as env:NAME or file:PATH."),
	TEXT("user", user, CHATD_O_SECRET, NULL, "Login at Redis; absent: the user \"default\"."),
	TEXT("password", password, CHATD_O_SECRET | CHATD_O_LIVE, NULL,
			"Its password, as env:NAME or file:PATH."),
	NUMBER(db, "0", 0, 1000000, "Number of the database."),
	TEXT("prefix", prefix, 0, "",
			"What every key and channel begins with, such as \"chat:\"; the same on all nodes."),
	TEXT("names_key", names_key, CHATD_O_SECRET, NULL,
			"Peers' addresses and e-mail addresses are in keys as hashes with this secret, as env:NAME "
			"or file:PATH; the same on all nodes."),
	{ .key = "tls",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, tls),
			.fallback = "false",
			.doc = "TLS to Redis and the sentinels; their certificates are verified." },
	TEXT("ca_file", ca_file, CHATD_O_PATH, NULL,
			"Certificates to trust instead of the system's, as PEM."),
	TEXT("cert_file", cert_file, CHATD_O_PATH, NULL,
			"This server's certificate, as PEM, if Redis asks for one."),
	TEXT("key_file", key_file, CHATD_O_PATH, NULL, "Its private key, as PEM."),
	MS(command_timeout, "200ms", 10, 10000, "So long a command may take."),
	MS(connect_timeout, "500ms", 50, 60000, "So long connecting and logging in may take."),
	NUMBER(max_pending, "1000", 10, 1000000,
			"Commands under way at a time; further ones are refused."),
	NUMBER(failures, "5", 1, 1000, "Failures in a row after which Redis counts as down."),
	MS(retry, "1s", 50, 60000, "Between two attempts to connect."),
	{ 0 },
};

/* ---- mistakes ------------------------------------------------------------------------------ */

static chatd_status check_addresses(
		const struct chatd_host *h, chatd_ctx *ctx, const char *key, const char *const *list)
{
	struct address a;
	for (; *list; list++) {
		if (!address_parse(*list, REDIS_PORT, &a)) {
			return h->conf_error(ctx, key,
					"\"%.80s\" is no address; write HOST:PORT, for example redis.example.org:6379 "
					"or [::1]:6379",
					*list);
		}
	}
	return 0;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *c = confp;
	chatd_status rc = check_addresses(h, ctx, "addresses", c->addresses);
	rc = rc < 0 ? rc : check_addresses(h, ctx, "sentinels", c->sentinels);
	if (rc == 0 && !c->sentinels[0] && !c->addresses[0]) {
		rc = h->conf_error(ctx, "addresses", "name at least one, or sentinels");
	}
	if (strspn(c->prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") !=
					strlen(c->prefix) ||
			strlen(c->prefix) > PREFIX_MAX) {
		rc = h->conf_error(ctx, "prefix",
				"\"%.80s\" must consist of letters, digits and _ . : -, at most %d of them",
				c->prefix, PREFIX_MAX);
	}
	if (c->names_key && strlen(c->names_key) < NAMES_KEY_MIN) {
		rc = h->conf_error(ctx, "names_key",
				"it has %zu bytes; write at least %d, the same on all nodes: openssl rand -base64 48",
				strlen(c->names_key), NAMES_KEY_MIN);
	}
	if (c->user && !c->password) {
		rc = h->conf_error(ctx, "password", "user needs one; give both, or the password alone");
	}
	if (c->sentinel_user && !c->sentinel_password) {
		rc = h->conf_error(ctx, "sentinel_password", "sentinel_user needs one");
	}
	if (!c->cert_file != !c->key_file) {
		rc = h->conf_error(ctx, c->cert_file ? "key_file" : "cert_file",
				"cert_file and key_file go together; give both or none");
	}
	if (!c->tls && (c->ca_file || c->cert_file)) {
		rc = h->conf_error(ctx, "tls", "certificates are used with TLS only; write tls: true");
	}
	return rc;
}

/* ---- the service --------------------------------------------------------------------------- */

static void sha1_hex(const char *text, char hex[SHA_HEX + 1])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	if (EVP_Digest(text, strlen(text), md, &n, EVP_sha1(), NULL) != 1) {
		n = 0; /* then Redis knows no such script, and it is loaded each time */
	}
	hex[0] = '\0';
	for (unsigned int i = 0; i < n && i < SHA_HEX / 2; i++) {
		snprintf(hex + (size_t)2 * i, 3, "%02x", md[i]);
	}
}

static chatd_status add_script(void *obj, const char *text, uint32_t *ret_id)
{
	struct engine *e = ((struct self *)obj)->engine;
	if (e->n_scripts == SCRIPTS_MAX) {
		return -ENOSPC;
	}
	struct script *s = &e->scripts[e->n_scripts++];
	s->text = text;
	sha1_hex(text, s->sha);
	*ret_id = e->n_scripts;
	return 0;
}

static chatd_status add_watcher(void *obj, void (*fn)(void *arg, int32_t up), void *arg)
{
	struct engine *e = ((struct self *)obj)->engine;
	if (e->n_watchers == WATCHERS_MAX) {
		return -ENOSPC;
	}
	e->watchers[e->n_watchers++] = (struct watcher){ fn, arg };
	return 0;
}

static chatd_status subscribe(void *obj, struct chatd_str channel, chatd_redis_heard *fn, void *arg)
{
	return engine_subscribe(((struct self *)obj)->engine, channel, fn, arg);
}

static chatd_status call(void *obj, chatd_worker *w, const struct chatd_redis_command *c,
		chatd_redis_fn *fn, void *arg)
{
	struct self *self = obj;
	struct wself *ws = self->h->worker_self(self->ctx, w);
	return engine_submit(self->engine, &ws->seat, c, fn, arg);
}

static chatd_status ask(
		void *obj, const struct chatd_redis_command *c, chatd_redis_fn *fn, void *arg)
{
	return engine_submit(((struct self *)obj)->engine, NULL, c, fn, arg);
}

static int32_t is_up(void *obj)
{
	return atomic_load(&((struct self *)obj)->engine->up) != 0;
}

static struct chatd_str prefix(void *obj)
{
	const char *p = ((struct self *)obj)->conf->prefix;
	return chatd_str_of(p, strlen(p));
}

static chatd_status hide(void *obj, struct chatd_str text, char ret[CHATD_REDIS_HIDDEN])
{
	const char *key = ((struct self *)obj)->conf->names_key;
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	/* Without a secret it keeps names short and plain, but no address from who can guess. */
	key = key ? key : "chatd";
	if (!HMAC(EVP_sha256(), key, (int)strlen(key), (const unsigned char *)text.p, text.n, md, &n)) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < CHATD_REDIS_HIDDEN / 2; i++) {
		snprintf(ret + 2 * i, 3, "%02x", md[i]);
	}
	return 0;
}

static const struct chatd_redis vt = {
	.struct_size = sizeof(vt),
	.script = add_script,
	.watch = add_watcher,
	.subscribe = subscribe,
	.call = call,
	.ask = ask,
	.is_up = is_up,
	.prefix = prefix,
	.hide = hide,
};

/* ---- numbers ------------------------------------------------------------------------------- */

/* What belongs to the thread is told by one worker only: it is summed over them. */
static int64_t read_count(void *arg, chatd_worker *w)
{
	const struct number *n = arg;
	return n->h->worker_index(w) == 0 ? atomic_load_explicit(n->count, memory_order_relaxed) : 0;
}

static chatd_status define_numbers(struct self *self)
{
	struct engine *e = self->engine;
	const struct chatd_service *s = self->h->service(self->ctx, CHATD_STATS);
	const struct chatd_stats *stats = s ? s->vt : NULL;
	const struct {
		int32_t kind;
		const char *name, *help;
		_Atomic int64_t *count;
	} all[NUMBERS] = {
		{ CHATD_STAT_GAUGE, "chatd_redis_up", "1: Redis can be asked.", &e->up },
		{ CHATD_STAT_GAUGE, "chatd_redis_pending", "Commands under way.", &e->pending },
		{ CHATD_STAT_COUNTER, "chatd_redis_commands_total", "Commands that went out.",
				&e->counts.commands },
		{ CHATD_STAT_COUNTER, "chatd_redis_failures_total",
				"Commands that were not answered, or with an error.", &e->counts.failures },
		{ CHATD_STAT_COUNTER, "chatd_redis_timeouts_total", "Of these, those that took too long.",
				&e->counts.timeouts },
		{ CHATD_STAT_COUNTER, "chatd_redis_refused_total",
				"Commands that did not go out: Redis was down, or too many waited.",
				&e->counts.refused },
		{ CHATD_STAT_COUNTER, "chatd_redis_connects_total", "Connections begun.",
				&e->counts.connects },
	};
	chatd_status rc = 0;
	for (size_t i = 0; stats && rc == 0 && i < NUMBERS; i++) {
		uint32_t id;
		self->numbers[i] = (struct number){ self->h, all[i].count };
		const struct chatd_stat_def def = { .struct_size = sizeof(def),
			.kind = all[i].kind,
			.name = all[i].name,
			.help = all[i].help,
			.read = read_count,
			.arg = &self->numbers[i] };
		rc = stats->define(s->obj, self->ctx, &def, &id);
	}
	return rc;
}

static int32_t readiness(void *obj)
{
	return is_up(obj) ? CHATD_READY_UP : CHATD_READY_DOWN;
}

static chatd_status tell_readyz(struct self *self)
{
	const struct chatd_service *s = self->h->service(self->ctx, CHATD_HTTP);
	const struct chatd_http *http = s ? s->vt : NULL;
	const struct chatd_ready redis = {
		.struct_size = sizeof(redis), .name = "redis", .state = readiness, .arg = self
	};
	return http && CHATD_HAS(http, ready) ? http->ready(s->obj, &redis) : 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

static chatd_status parse_all(const struct chatd_host *h, const char *const *list, int port,
		struct address **ret, size_t *ret_n)
{
	size_t n = 0;
	while (list[n]) {
		n++;
	}
	*ret = h->mem_alloc((n + 1) * sizeof(**ret));
	if (!*ret) {
		return -ENOMEM;
	}
	for (; *ret_n < n; (*ret_n)++) {
		if (!address_parse(list[*ret_n], port, &(*ret)[*ret_n])) {
			return -EINVAL;
		}
	}
	return 0;
}

static chatd_status tls_fail(struct self *self, const char *what, const char *path)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	return self->h->fail(self->ctx, -EINVAL, "%s \"%s\" cannot be used: %s", what, path,
			why ? why : "it is no PEM file");
}

static chatd_status tls_init(struct self *self)
{
	const struct conf *c = self->conf;
	if (!c->tls) {
		return 0;
	}
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	self->engine->tls = ctx;
	if (!ctx) {
		return -ENOMEM;
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (c->ca_file ? SSL_CTX_load_verify_locations(ctx, c->ca_file, NULL) != 1
				   : SSL_CTX_set_default_verify_paths(ctx) != 1) {
		return tls_fail(self, "ca_file", c->ca_file ? c->ca_file : "the system's");
	}
	if (c->cert_file && SSL_CTX_use_certificate_chain_file(ctx, c->cert_file) != 1) {
		return tls_fail(self, "cert_file", c->cert_file);
	}
	if (c->key_file &&
			(SSL_CTX_use_PrivateKey_file(ctx, c->key_file, SSL_FILETYPE_PEM) != 1 ||
					SSL_CTX_check_private_key(ctx) != 1)) {
		return tls_fail(self, "key_file", c->key_file);
	}
	return 0;
}

static void warn_of_plain_password(struct self *self)
{
	const struct engine *e = self->engine;
	const struct address *a = e->n_sentinels ? e->sentinels : e->addresses;
	size_t n = e->n_sentinels ? e->n_sentinels : e->n_addresses;
	for (size_t i = 0; self->conf->password && !self->conf->tls && i < n; i++) {
		if (!address_is_loopback(&a[i])) {
			self->h->log(self->ctx, CHATD_LOG_WARN,
					"the password goes to %s in the clear; write tls: true", a[i].host);
			return;
		}
	}
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	struct engine *e = self->engine = engine_create(h, ctx, conf);
	if (!e) {
		return -ENOMEM;
	}
	chatd_status rc =
			parse_all(h, self->conf->addresses, REDIS_PORT, &e->addresses, &e->n_addresses);
	rc = rc < 0
			? rc
			: parse_all(h, self->conf->sentinels, SENTINEL_PORT, &e->sentinels, &e->n_sentinels);
	rc = rc < 0 ? rc : tls_init(self);
	rc = rc < 0 ? rc : define_numbers(self);
	rc = rc < 0 ? rc : tell_readyz(self);
	if (rc == 0) {
		warn_of_plain_password(self);
		rc = h->provide(ctx, CHATD_REDIS, &vt, self);
	}
	return rc;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct self *self = selfp;
	struct wself *ws = wselfp;
	chatd_status rc = engine_sit(self->engine, w, &ws->seat);
	return rc < 0 || self->h->worker_index(w) != 0 ? rc : engine_start(self->engine);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	(void)selfp;
	(void)w;
	engine_rise(&ws->seat);
}

/* The connections that are there stay; the next one takes it. */
static chatd_status reload(void *selfp, const void *confp)
{
	struct self *self = selfp;
	const struct conf *conf = confp;
	atomic_store(&self->engine->password, conf->password);
	atomic_store(&self->engine->sentinel_password, conf->sentinel_password);
	return 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	engine_destroy(self->engine);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_REDIS, NULL };
static const char *const wants[] = { CHATD_STATS, CHATD_HTTP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "redis",
	.version = "0.1",
	.summary = "one connection to Redis for all plugins",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.reload = reload,
	.fini = fini,
};

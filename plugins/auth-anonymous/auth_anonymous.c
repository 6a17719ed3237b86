/* SPDX-License-Identifier: Apache-2.0 */
/* Guests: an account without a password, found again by a device token. */
#include "devices.h"
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const identify_modes[] = { "token", "client", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "identify_by",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, identify_by),
			.fallback = "token",
			.choices = identify_modes,
			.doc = "token: a device token finds the account; client: address and User-Agent do." },
	{ .key = "cookie",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, cookie),
			.fallback = "true",
			.doc = "POST /api/auth/anonymous also sets the device token as an HttpOnly cookie." },
	{ .key = "token_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, token_ttl),
			.fallback = "1h",
			.min = 60000,
			.max = INT64_C(86400000) * 30,
			.doc = "How long an access token is good." },
	{ .key = "devices",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, devices),
			.fallback = "1",
			.min = 0,
			.max = 1000,
			.doc = "How many sessions a guest may have at a time: a further one takes over from the "
				   "oldest, which is closed with 4409.  0: any number." },
	{ .key = "key",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, key),
			.doc = "What guests' access tokens are signed with, at least 32 characters; the same on "
				   "all nodes of a cluster.  Absent: a key of its own in data_dir/anonymous.key." },
	{ 0 },
};

/* clientIdentifier goes with it: it is the rate key of who has no account to speak of. */
static chatd_verdict welcome(const struct self *self, chatd_call *call, const char *cred,
		const struct chatd_account *a, int64_t expires)
{
	const struct chatd_identity id = { .struct_size = sizeof(id),
		.flags = a->flags,
		.user = a->id,
		.name = a->nickname,
		.client = a->client,
		.expires = expires };
	return self->h->identify_as(call, cred, &id);
}

/* ---- CONNECT without credentials ------------------------------------------- */

struct entry {
	const struct self *self;
	chatd_worker *w;
	chatd_token token;
};

static void enter_found(void *arg, const struct guest *g)
{
	struct entry *e = arg;
	const struct chatd_host *h = e->self->h;
	chatd_call *call = h->call_of(e->w, e->token);
	if (!call) {
		h->mem_free(e);
		return;
	}
	if (g->rc == -ENOENT) {
		(void)h->resume(e->token, CHATD_REJECT, "UNAUTHORIZED", "Access refused");
	} else if (g->rc < 0) {
		(void)h->resume(e->token, g->rc, NULL, NULL);
	} else {
		chatd_verdict v = welcome(e->self, call, CHATD_CRED_DEVICE, g->account, 0);
		if (g->is_new && g->device.p) {
			h->reply(call, CHATD_CRED_DEVICE, g->device);
		}
		(void)h->resume(e->token, v, NULL, NULL);
	}
	h->mem_free(e);
}

static struct entry *entry_create(const struct self *self, chatd_call *call)
{
	struct entry *e = self->h->mem_alloc(sizeof(*e));
	if (e) {
		e->self = self;
		e->w = self->h->call_worker(call);
		e->token = self->h->suspend(call, NULL, NULL);
		if (!e->token) {
			self->h->mem_free(e);
			e = NULL;
		}
	}
	return e;
}

static chatd_verdict enter(const struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	const chatd_msg *creds = h->call_msg(call);
	struct guest_hint hint = { .device = h->msg_get(creds, CHATD_CRED_DEVICE),
		.peer = h->msg_get(creds, CHATD_CRED_PEER),
		.agent = h->msg_get(creds, CHATD_CRED_AGENT),
		.nickname = h->msg_get(creds, CHATD_CRED_NICKNAME),
		.known_only = !h->call_session(call) }; /* REST makes no account in passing */
	if (hint.known_only && hint.device.n != TOKEN_LEN) {
		return CHATD_NEXT;
	}
	struct entry *e = entry_create(self, call);
	if (!e) {
		return -EBUSY;
	}
	chatd_status rc = guest_find(self, e->w, &hint, enter_found, e);
	if (rc < 0) {
		(void)h->resume(e->token, rc, NULL, NULL);
		h->mem_free(e);
	}
	return CHATD_WAIT;
}

/* ---- our own access tokens --------------------------------------------------- */

struct proof {
	struct entry e;
	const char *cred;
	int64_t expires;
};

static void proof_found(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct proof *p = arg;
	const struct chatd_host *h = p->e.self->h;
	chatd_call *call = h->call_of(p->e.w, p->e.token);
	if (call && rc == 0) {
		chatd_verdict v = welcome(p->e.self, call, p->cred, a, p->expires);
		(void)h->resume(p->e.token, v, NULL, NULL);
	} else if (rc == -ENOENT) {
		(void)h->resume(p->e.token, CHATD_REJECT, "UNAUTHORIZED", "Access refused");
	} else {
		(void)h->resume(p->e.token, rc < 0 ? rc : CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(p);
}

static chatd_verdict prove(const struct self *self, chatd_call *call, const char *cred,
		const struct guest_proof *proof)
{
	const struct chatd_host *h = self->h;
	const struct chatd_accounts *a = self->accounts->vt;
	struct chatd_str user = chatd_str_of(proof->user, strlen(proof->user));
	struct proof *p = h->mem_alloc(sizeof(*p));
	if (!p) {
		return -ENOMEM;
	}
	p->cred = cred;
	p->expires = proof->expires;
	p->e.self = self;
	p->e.w = h->call_worker(call);
	p->e.token = h->suspend(call, NULL, NULL);
	if (!p->e.token) {
		h->mem_free(p);
		return -EBUSY;
	}
	chatd_status rc = a->by_id(self->accounts->obj, p->e.w, user, proof_found, p);
	if (rc < 0) {
		(void)h->resume(p->e.token, rc, NULL, NULL);
		h->mem_free(p);
	}
	return CHATD_WAIT;
}

/* One hook a credential, so that each may wait for its account. */
static chatd_verdict check_token(chatd_call *call, const struct self *self, const char *cred)
{
	struct guest_proof proof;
	struct chatd_str t = self->h->msg_get(self->h->call_msg(call), cred);
	if (!t.p) {
		return CHATD_NEXT;
	}
	chatd_status rc = guest_verify(self, t, &proof);
	if (rc == -EKEYEXPIRED) {
		return self->h->reject(
				call, "TOKEN_EXPIRED", "the access token has expired; get a new one");
	}
	return rc < 0 ? CHATD_NEXT : prove(self, call, cred, &proof);
}

static chatd_verdict on_bearer(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return check_token(call, self, CHATD_CRED_BEARER);
}

static chatd_verdict on_url_token(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return check_token(call, self, CHATD_CRED_TOKEN);
}

static chatd_verdict on_passcode(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct chatd_str login = self->h->msg_get(self->h->call_msg(call), CHATD_CRED_LOGIN);
	(void)wself;
	return login.n ? CHATD_NEXT : check_token(call, self, CHATD_CRED_PASSCODE);
}

static chatd_verdict on_nobody(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *creds = h->call_msg(call);
	(void)wself;
	/* Credentials that nobody could verify never fall through to a guest. */
	if (h->call_ident(call) || h->msg_get(creds, CHATD_CRED_LOGIN).p ||
			h->msg_get(creds, CHATD_CRED_PASSCODE).p || h->msg_get(creds, CHATD_CRED_BEARER).p ||
			h->msg_get(creds, CHATD_CRED_TOKEN).p) {
		return CHATD_NEXT;
	}
	return enter(self, call);
}

/* ---- POST /api/auth/anonymous -------------------------------------------------- */

struct request {
	const struct self *self;
	chatd_req *req;
	int gone;
};

static void set_cookie(struct request *r, struct chatd_str device)
{
	const struct chatd_http *http = r->self->http->vt;
	char line[200];
	int n = snprintf(line, sizeof(line),
			"device-token=%.*s; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax%s", (int)device.n,
			device.p, http->req_secure(r->req) ? "; Secure" : "");
	if (n > 0 && (size_t)n < sizeof(line)) {
		(void)http->header(r->req, "Set-Cookie", chatd_str_of(line, (size_t)n));
	}
}

static char *answer_json(const struct self *self, const struct guest *g)
{
	char token[TOKEN_MAX];
	const struct chatd_account *a = g->account;
	guest_token(self, a->id, self->h->wall_ms() + self->conf->token_ttl, token);
	json_t *j = json_pack("{s:s%, s:s%, s:s, s:s, s:I, s:b}", "userId", a->id.p, a->id.n,
			"nickname", a->nickname.p, a->nickname.n, "accessToken", token, "tokenType", "Bearer",
			"expiresIn", (json_int_t)(self->conf->token_ttl / 1000), "created", g->is_new);
	if (j && g->device.p) {
		json_object_set_new(j, "deviceToken", json_stringn(g->device.p, g->device.n));
	}
	if (j && a->client.n) {
		json_object_set_new(j, "clientIdentifier", json_stringn(a->client.p, a->client.n));
	}
	char *out = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return out;
}

static void rest_found(void *arg, const struct guest *g)
{
	struct request *r = arg;
	const struct chatd_http *http = r->self->http->vt;
	char *body = !r->gone && g->rc == 0 ? answer_json(r->self, g) : NULL;
	if (body) {
		if (r->self->conf->cookie && g->device.p) {
			set_cookie(r, g->device);
		}
		(void)http->header(r->req, "Cache-Control", CHATD_LIT("no-store"));
		http->respond(r->req, 200, "application/json", chatd_str_of(body, strlen(body)));
	} else if (!r->gone) {
		http->problem(r->req, 503, "UNAVAILABLE", "the account could not be made; try again");
	}
	free(body);
	r->self->h->mem_free(r);
}

static void rest_gone(void *arg)
{
	struct request *r = arg;
	r->gone = 1;
}

static struct chatd_str device_of(const struct chatd_http *http, chatd_req *req)
{
	struct chatd_str d = http->req_header(req, "Device-Token");
	if (!d.p && http->origin_allowed(req)) {
		d = http->req_cookie(req, "device-token");
	}
	return d;
}

/* The display name may come in the body; anything else in there is ignored. */
static json_t *read_body(const struct self *self, chatd_req *req, struct guest_hint *hint)
{
	const struct chatd_http *http = self->http->vt;
	struct chatd_str body = http->req_body(req);
	json_t *j = body.n ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (j && !json_is_object(j)) {
		json_decref(j);
		return NULL;
	}
	json_t *nick = json_object_get(j, "nickname");
	if (json_is_string(nick)) {
		hint->nickname = chatd_str_of(json_string_value(nick), json_string_length(nick));
	}
	return j;
}

static void on_rest(void *arg, chatd_req *req)
{
	const struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	static const struct chatd_req_user user = { .struct_size = sizeof(user), .gone = rest_gone };
	struct guest_hint hint = { .device = device_of(http, req),
		.peer = http->req_peer(req),
		.agent = http->req_header(req, "User-Agent") };
	json_t *body = read_body(self, req, &hint);
	if (!body && http->req_body(req).n) {
		http->problem(req, 400, "VALIDATION", "the body is no JSON object");
		return;
	}
	struct request *r = self->h->mem_alloc(sizeof(*r));
	chatd_status rc = -ENOMEM;
	if (r) {
		r->self = self;
		r->req = req;
		http->req_user(req, &user, r);
		rc = guest_find(self, http->req_worker(req), &hint, rest_found, r);
	}
	if (rc < 0) {
		http->problem(req, 503, "UNAVAILABLE", "the account could not be made; try again");
		self->h->mem_free(r);
	}
	json_decref(body);
}

/* ---- life ------------------------------------------------------------------------ */

/* The key outlives the process, so that access tokens do too. */
static chatd_status load_key(struct self *self)
{
	const struct chatd_host *h = self->h;
	char path[4096];
	if (self->conf->key) {
		size_t n = strlen(self->conf->key);
		crypto_generichash(self->key, KEY_LEN, (const unsigned char *)self->conf->key, n,
				(const unsigned char *)"chatd auth-anonymous key", 24);
		return 0;
	}
	snprintf(path, sizeof(path), "%s/anonymous.key", h->data_dir());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, self->key, KEY_LEN);
		close(fd);
		return n == KEY_LEN ? 0
							: h->fail(self->ctx, -EBADMSG,
									  "%s does not hold %d bytes; remove it to have a new key made",
									  path, KEY_LEN);
	}
	h->random(self->key, KEY_LEN);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		return h->fail(self->ctx, -errno, "cannot write %s: %s", path, strerror(errno));
	}
	ssize_t n = write(fd, self->key, KEY_LEN);
	int rc = fsync(fd);
	close(fd);
	if (n != KEY_LEN || rc != 0) {
		unlink(path);
		return h->fail(self->ctx, -EIO, "cannot write %s: %s", path, strerror(errno));
	}
	return 0;
}

static chatd_status add_hooks(const struct self *self)
{
	static const struct {
		chatd_hook_fn *fn;
		int32_t order;
	} hooks[] = {
		{ on_bearer, CHATD_ORDER_CHECK },
		{ on_url_token, CHATD_ORDER_CHECK },
		{ on_passcode, CHATD_ORDER_CHECK },
		{ on_nobody, CHATD_ORDER_CHECK + 90 },
	};
	chatd_status rc = 0;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && rc == 0; i++) {
		rc = self->h->hook(self->ctx, chatd_hook_session_auth, hooks[i].order, hooks[i].fn);
	}
	return rc;
}

static chatd_status add_route(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	struct chatd_route route = { .struct_size = sizeof(route),
		.methods = CHATD_POST,
		.flags = CHATD_HTTP_CORS | CHATD_HTTP_JSON,
		.path = "/api/auth/anonymous",
		.max_body = 4096,
		.handle = on_rest,
		.arg = self };
	return http->route(self->http->obj, self->ctx, &route);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	if (conf->key && strlen(conf->key) < KEY_LEN) {
		return h->conf_error(ctx, "key",
				"it has %zu characters; give at least %d, such as of: openssl rand -base64 48",
				strlen(conf->key), KEY_LEN);
	}
	return 0;
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
		.accounts = h->service(ctx, CHATD_ACCOUNTS),
		.http = h->service(ctx, CHATD_HTTP),
		.sessions = h->service(ctx, CHATD_SESSIONS),
		.cluster = h->service(ctx, CHATD_CLUSTER) };
	*ret_self = self;
	if (self->cluster && !self->conf->key) {
		return h->fail(ctx, -EINVAL,
				"in a cluster all nodes must sign guests' tokens with the same key; set key, for "
				"example to env:CHATD_GUEST_KEY");
	}
	chatd_status rc = load_key(self);
	if (rc == 0) {
		rc = add_hooks(self);
	}
	if (rc == 0 && self->conf->devices > 0) {
		rc = devices_start(self);
	}
	return rc == 0 && self->http ? add_route(self) : rc;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	sodium_memzero(self->key, sizeof(self->key));
	devices_stop(self);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_ACCOUNTS, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_HTTP, CHATD_CLUSTER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS | CHATD_PLUGIN_ONCE,
	.name = "auth-anonymous",
	.version = "0.1",
	.summary = "guests, found again by a device token",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
};

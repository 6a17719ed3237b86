/* SPDX-License-Identifier: Apache-2.0 */
/* /api/push/...: subscriptions and settings, each a change of the user's book. */
#include "push.h"

enum { BOOK_TRIES = 4, NAME_MAX_BYTES = 100 };

enum what { LIST, SUBSCRIBE, UNSUBSCRIBE, SETTINGS, SET };

struct op {
	struct self *self;
	chatd_req *req; /* NULL: the client has gone */
	chatd_worker *w;
	enum what what;
	int32_t out, tries, is_new;
	json_t *book, *in; /* in: the subscription, or settings, that were asked for */
	char user[CHATD_ID_MAX + 1], other[CHATD_ID_MAX + 1];
	char id[SUB_ID + 1]; /* empty: all */
};

static const struct chatd_http *http_of(const struct op *op)
{
	return op->self->http->vt;
}

static void op_free(struct op *op)
{
	json_decref(op->book);
	json_decref(op->in);
	chatd_open_free(op->self->h, &op->self->open, op);
}

static void on_gone(void *arg)
{
	struct op *op = arg;
	op->req = NULL;
	if (!op->out) {
		op_free(op);
	}
}

static const struct chatd_req_user req_user = { .struct_size = sizeof(req_user), .gone = on_gone };

static void problem(struct op *op, int32_t status, const char *code, const char *why)
{
	http_of(op)->problem(op->req, status, code, why);
	op_free(op);
}

static void failed(struct op *op)
{
	problem(op, 503, "UNAVAILABLE", "this cannot be read or written now; try again");
}

/* 1: the answer of the store is for somebody. */
static int wanted(struct op *op)
{
	op->out--;
	if (!op->req) {
		op_free(op);
	}
	return op->req != NULL;
}

static void asked(struct op *op, chatd_status rc)
{
	if (rc < 0) {
		failed(op);
	} else {
		op->out++;
	}
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void respond(struct op *op, int32_t status, json_t *body)
{
	char *s = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	if (!s) {
		problem(op, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	(void)http_of(op)->header(op->req, "Cache-Control", CHATD_LIT("no-store"));
	http_of(op)->respond(op->req, status, "application/json", text(s));
	free(s);
	op_free(op);
}

/* Keys and tokens are not given out again. */
static json_t *sub_view(const json_t *sub)
{
	json_t *v = json_pack("{s:O, s:O, s:O}", "id", json_object_get(sub, "id"), "kind",
			json_object_get(sub, "kind"), "created", json_object_get(sub, "created"));
	json_t *device = json_object_get(sub, "device");
	if (v && device) {
		(void)json_object_set(v, "device", device);
	}
	return v;
}

static json_t *list_view(const json_t *book)
{
	json_t *all = json_array(), *sub;
	size_t i;
	json_array_foreach (json_object_get(book, "subs"), i, sub) {
		(void)json_array_append_new(all, sub_view(sub));
	}
	return json_pack("{s:o}", "subscriptions", all);
}

static json_t *settings_view(const json_t *book)
{
	json_t *s = json_deep_copy(json_object_get(book, "settings"));
	json_t *quiet = json_object_get(s, "quiet");
	(void)json_object_del(quiet, "fromMinute");
	(void)json_object_del(quiet, "toMinute");
	if (s && !json_object_get(s, "mode")) {
		(void)json_object_set_new(s, "mode", json_string("all"));
	}
	if (s && !json_object_get(s, "conversations")) {
		(void)json_object_set_new(s, "conversations", json_array());
	}
	return s;
}

static void answer(struct op *op)
{
	switch (op->what) {
	case LIST:
		respond(op, 200, list_view(op->book));
		break;
	case SUBSCRIBE:
		respond(op, op->is_new ? 201 : 200, sub_view(book_sub(op->book, op->id)));
		break;
	case UNSUBSCRIBE:
		http_of(op)->respond(op->req, 204, NULL, chatd_str_of(NULL, 0));
		op_free(op);
		break;
	default:
		respond(op, 200, settings_view(op->book));
	}
}

/* ---- changing the book ---------------------------------------------------------------------------- */

static void read_book(struct op *op);

static void release_all(const struct op *op)
{
	const json_t *sub;
	size_t i;
	json_array_foreach (op->in, i, sub) {
		sub_release(op->self, op->w, op->user, json_text_of(sub, "id"));
	}
}

static void on_written(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (rc == 0 && op->what == UNSUBSCRIBE) {
		release_all(op);
	}
	if (!wanted(op)) {
		return;
	}
	if ((rc == -ESTALE || rc == -EEXIST || rc == -ENOENT) && ++op->tries < BOOK_TRIES) {
		read_book(op);
	} else if (rc < 0) {
		failed(op);
	} else {
		answer(op);
	}
}

/* Those that go are in .in then. */
static int unsubscribe(struct op *op)
{
	json_t *subs = json_object_get(op->book, "subs");
	json_t *one = op->id[0] ? book_sub(op->book, op->id) : NULL;
	if (op->id[0] ? !one : !book_count(op->book)) {
		return 0;
	}
	json_decref(op->in);
	op->in = one ? json_pack("[O]", one) : json_copy(subs);
	if (!op->in) {
		return -ENOMEM;
	}
	if (one) {
		return book_drop(op->book, op->id);
	}
	return json_array_clear(subs) == 0;
}

/* 1: changed; 0: it was so; or negative. */
static int change(struct op *op)
{
	switch (op->what) {
	case SUBSCRIBE: {
		int rc = book_add(op->book, json_incref(op->in));
		op->is_new = rc == 0;
		return rc < 0 ? rc : 1;
	}
	case UNSUBSCRIBE:
		return unsubscribe(op);
	default:
		return json_object_set(op->book, "settings", op->in) < 0 ? -ENOMEM : 1;
	}
}

static void write_book(struct op *op, int64_t version)
{
	struct self *self = op->self;
	char *value = book_write(op->book);
	if (!value) {
		failed(op);
		return;
	}
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = version ? CHATD_STORE_RECORD_VERSION : CHATD_STORE_RECORD_NEW,
		.space = text(SPACE_USER),
		.key = text(op->user),
		.value = text(value),
		.owner = text(op->user),
		.version = version,
		.wall = self->h->wall_ms() };
	asked(op, store_of(self)->record_put(self->store->obj, op->w, &r, on_written, op));
	free(value);
}

static void on_book(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (!wanted(op)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		failed(op);
		return;
	}
	json_decref(op->book);
	op->book = book_read(rc == 0 ? a->records[0].value : chatd_str_of(NULL, 0));
	if (op->what == LIST || op->what == SETTINGS) {
		answer(op);
		return;
	}
	int changed = change(op);
	if (changed == -EDQUOT) {
		sub_release(op->self, op->w, op->user, op->id);
		problem(op, 409, "TOO_MANY", "you have 20 subscriptions; delete one first");
	} else if (changed < 0) {
		failed(op);
	} else if (!changed) {
		answer(op);
	} else {
		write_book(op, rc == 0 ? a->records[0].version : 0);
	}
}

static void read_book(struct op *op)
{
	struct self *self = op->self;
	const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, op->user);
	asked(op, store_of(self)->record_get(self->store->obj, op->w, &k, on_book, op));
}

/* ---- whose a subscription is ------------------------------------------------------------------------ */

/* A browser that somebody else was logged in on is not told any more what is for them. */

static void on_claimed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (wanted(op)) {
		if (rc < 0) {
			failed(op);
		} else {
			read_book(op);
		}
	}
}

static void claim(struct op *op)
{
	struct self *self = op->self;
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.space = text(SPACE_SUB),
		.key = text(op->id),
		.value = text(op->user),
		.owner = text(op->user),
		.wall = self->h->wall_ms() };
	asked(op, store_of(self)->record_put(self->store->obj, op->w, &r, on_claimed, op));
}

static void ask_other(struct op *op);

static void on_other_written(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (!wanted(op)) {
		return;
	}
	if (rc == -ESTALE && ++op->tries < BOOK_TRIES) {
		ask_other(op);
	} else if (rc < 0 && rc != -ENOENT) {
		failed(op);
	} else {
		claim(op);
	}
}

static void on_other(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	struct self *self = op->self;
	if (!wanted(op)) {
		return;
	}
	json_t *book = rc == 0 ? book_read(a->records[0].value) : NULL;
	char *value = book && book_drop(book, op->id) ? book_write(book) : NULL;
	json_decref(book);
	if (!value) {
		claim(op);
		return;
	}
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_VERSION,
		.space = text(SPACE_USER),
		.key = text(op->other),
		.value = text(value),
		.owner = text(op->other),
		.version = a->records[0].version,
		.wall = self->h->wall_ms() };
	asked(op, store_of(self)->record_put(self->store->obj, op->w, &r, on_other_written, op));
	free(value);
}

static void ask_other(struct op *op)
{
	struct self *self = op->self;
	const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, op->other);
	asked(op, store_of(self)->record_get(self->store->obj, op->w, &k, on_other, op));
}

static void on_owner(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (!wanted(op)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		failed(op);
		return;
	}
	chatd_str_copy(op->other, sizeof(op->other), rc == 0 ? a->records[0].value : text(op->user));
	if (strcmp(op->other, op->user) == 0) {
		claim(op);
	} else {
		ask_other(op);
	}
}

static void ask_owner(struct op *op)
{
	struct self *self = op->self;
	const struct chatd_store_record_key k = key_of_record(self, SPACE_SUB, op->id);
	asked(op, store_of(self)->record_get(self->store->obj, op->w, &k, on_owner, op));
}

/* ---- what clients send -------------------------------------------------------------------------------- */

struct input {
	struct chatd_str kind, endpoint, token, device;
	json_t *keys;
};

static const struct chatd_json_field fields[] = {
	{ "kind", CHATD_J_TEXT, offsetof(struct input, kind) },
	{ "endpoint", CHATD_J_TEXT, offsetof(struct input, endpoint) },
	{ "token", CHATD_J_TEXT, offsetof(struct input, token) },
	{ "device", CHATD_J_TEXT, offsetof(struct input, device) },
	{ "keys", CHATD_J_OBJECT, offsetof(struct input, keys) },
	{ NULL, 0, 0 },
};

static int is_listed(struct chatd_str url, const char *const *hosts)
{
	const char *p = memmem(url.p, url.n, "://", 3);
	size_t n = 0, left = p ? url.n - (size_t)(p + 3 - url.p) : 0;
	while (p && n < left && !strchr("/?#:", p[3 + n])) {
		n++;
	}
	for (size_t i = 0; p && hosts[i]; i++) {
		size_t m = strlen(hosts[i]);
		int below = strncmp(hosts[i], "*.", 2) == 0;
		if (below ? n > m - 1 && strncasecmp(p + 3 + n - (m - 1), hosts[i] + 1, m - 1) == 0
				  : n == m && strncasecmp(p + 3, hosts[i], m) == 0) {
			return 1;
		}
	}
	return !hosts[0];
}

static void endpoint_not_allowed(struct op *op, struct chatd_str why)
{
	char detail[256];
	snprintf(detail, sizeof(detail), "this endpoint is not one of a push service: %.*s", (int)why.n,
			why.p);
	problem(op, 400, "PUSH_ENDPOINT_NOT_ALLOWED", detail);
}

/* 0: it was answered. */
static int take_web(struct op *op, const struct input *in)
{
	const struct self *self = op->self;
	const struct chatd_fetch *f = self->fetch->vt;
	struct chatd_str why = CHATD_LIT("it has more than 1024 bytes");
	struct browser_keys keys;
	if (in->endpoint.n > ENDPOINT_MAX ||
			f->check(self->fetch->obj, in->endpoint, CHATD_FETCH_OUTSIDE, &why) < 0) {
		endpoint_not_allowed(op, why);
		return 0;
	}
	if (!is_listed(in->endpoint, self->conf->hosts)) {
		endpoint_not_allowed(op, CHATD_LIT("its host is not in the list of this server"));
		return 0;
	}
	const char *p256dh = json_text_of(in->keys, "p256dh"), *auth = json_text_of(in->keys, "auth");
	if (browser_keys_read(text(p256dh), text(auth), &keys) < 0) {
		problem(op, 400, "PUSH_KEYS_INVALID",
				"keys needs p256dh, a point of P-256 (65 bytes), and auth (16 bytes), as base64url");
		return 0;
	}
	op->in = json_pack("{s:s%, s:s, s:s}", "endpoint", in->endpoint.p, in->endpoint.n, "p256dh",
			p256dh, "auth", auth);
	return 1;
}

static int kind_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", s.p[i]) || !s.p[i]) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= 32;
}

static int take_hook(struct op *op, const struct input *in)
{
	if (!op->self->conf->webhook_url) {
		problem(op, 422, "VALIDATION", "this server pushes to browsers alone; kind must be web");
		return 0;
	}
	if (!kind_ok(in->kind) || !in->token.n || in->token.n > ENDPOINT_MAX) {
		problem(op, 422, "VALIDATION",
				"kind must be [a-z0-9-], such as fcm, and token have 1 to 1024 bytes");
		return 0;
	}
	op->in = json_pack("{s:s%}", "endpoint", in->token.p, in->token.n);
	return 1;
}

static void take_subscription(struct op *op, struct chatd_str body)
{
	struct input in = { .keys = NULL };
	json_t *root;
	char why[CHATD_JSON_WHY];
	if (chatd_json_read(body, fields, &in, &root, why) < 0) {
		problem(op, 422, "VALIDATION", why);
		return;
	}
	if (!in.kind.n) {
		in.kind = CHATD_LIT("web");
	}
	int web = chatd_str_same(in.kind, CHATD_LIT("web"));
	if (in.device.n > NAME_MAX_BYTES) {
		problem(op, 422, "VALIDATION", "device has at most 100 bytes");
	} else if (web ? take_web(op, &in) : take_hook(op, &in)) {
		sub_id(in.kind, web ? in.endpoint : in.token, op->id);
		(void)json_object_set_new(op->in, "id", json_string(op->id));
		(void)json_object_set_new(op->in, "kind", json_stringn(in.kind.p, in.kind.n));
		(void)json_object_set_new(
				op->in, "created", json_integer((json_int_t)op->self->h->wall_ms()));
		if (in.device.n) {
			(void)json_object_set_new(op->in, "device", json_stringn(in.device.p, in.device.n));
		}
		ask_owner(op);
	}
	json_decref(root);
}

static void take_settings(struct op *op, struct chatd_str body)
{
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(body, why);
	const char *fault = root ? settings_take(root, &op->in) : why;
	if (fault) {
		problem(op, 422, "VALIDATION", fault);
	} else {
		read_book(op);
	}
	json_decref(root);
}

/* ?id= or ?endpoint= names one; neither: all of them. */
static void take_which(struct op *op)
{
	struct chatd_str id = http_of(op)->req_query(op->req, "id");
	struct chatd_str endpoint = http_of(op)->req_query(op->req, "endpoint");
	if (endpoint.n) {
		sub_id(CHATD_LIT("web"), endpoint, op->id);
	} else if (id.n) {
		chatd_str_copy(op->id, sizeof(op->id), id.n == SUB_ID ? id : CHATD_LIT("-"));
	}
	read_book(op);
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct op *op = arg;
	if (rc < 0) {
		problem(op, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(op->user, sizeof(op->user), op->self->h->ident_user(who));
	switch (op->what) {
	case SUBSCRIBE:
		take_subscription(op, http_of(op)->req_body(op->req));
		break;
	case UNSUBSCRIBE:
		take_which(op);
		break;
	case SET:
		take_settings(op, http_of(op)->req_body(op->req));
		break;
	default:
		read_book(op);
	}
}

static void begin(struct self *self, chatd_req *req, enum what what)
{
	const struct chatd_http *http = self->http->vt;
	struct op *op = chatd_open_alloc(self->h, &self->open, sizeof(*op));
	if (!op) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	op->self = self;
	op->req = req;
	op->what = what;
	op->w = http->req_worker(req);
	http->req_user(req, &req_user, op);
	http->identify(req, on_identified, op);
}

/* ---- routes ---------------------------------------------------------------------------------------- */

/* It is no secret: who subscribes needs it, perhaps before a login. */
static void on_key(void *arg, chatd_req *req)
{
	struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	const struct wself *ws = self->h->worker_self(self->ctx, http->req_worker(req));
	char key[TEXT_POINT], body[256];
	if (!ws->vapid.key) {
		http->problem(req, 503, "UNAVAILABLE", "the key is not there yet; try again");
		return;
	}
	base64_put(ws->vapid.point, POINT, key, sizeof(key));
	snprintf(body, sizeof(body), "{\"publicKey\":\"%s\",\"webhook\":%s}", key,
			self->conf->webhook_url ? "true" : "false");
	(void)http->header(req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(req, 200, "application/json", text(body));
}

static void on_list(void *self, chatd_req *req)
{
	begin(self, req, LIST);
}

static void on_subscribe(void *self, chatd_req *req)
{
	begin(self, req, SUBSCRIBE);
}

static void on_unsubscribe(void *self, chatd_req *req)
{
	begin(self, req, UNSUBSCRIBE);
}

static void on_settings(void *self, chatd_req *req)
{
	begin(self, req, SETTINGS);
}

static void on_set(void *self, chatd_req *req)
{
	begin(self, req, SET);
}

chatd_status rest_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route routes[] = {
		{ .methods = CHATD_GET, .path = "/api/push/key", .handle = on_key },
		{ .methods = CHATD_GET, .path = "/api/push/subscriptions", .handle = on_list },
		{ .methods = CHATD_POST,
				.flags = CHATD_HTTP_JSON,
				.path = "/api/push/subscriptions",
				.handle = on_subscribe },
		{ .methods = CHATD_DELETE, .path = "/api/push/subscriptions", .handle = on_unsubscribe },
		{ .methods = CHATD_GET, .path = "/api/push/settings", .handle = on_settings },
		{ .methods = CHATD_PUT,
				.flags = CHATD_HTTP_JSON,
				.path = "/api/push/settings",
				.handle = on_set },
	};
	chatd_status rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(routes) / sizeof(routes[0]); i++) {
		struct chatd_route r = routes[i];
		r.struct_size = sizeof(r);
		r.flags |= CHATD_HTTP_CORS;
		r.arg = self;
		rc = http->route(self->http->obj, self->ctx, &r);
	}
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The fakes of what keeps something (cipher, redis), of the server's plugins, and of sockets. */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/kit_socket.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct self {
	const struct chatd_host *h;
	const struct chatd_service *cipher, *redis, *plugins, *http, *websocket, *sockjs;
	uint32_t script;
};

/* One message's question, or one socket. */
struct ask {
	const struct self *self;
	chatd_token token;
	union {
		chatd_ws *ws;
		chatd_sockjs_conn *conn;
	} to;
};

static struct {
	int up, down, listening;
	char heard[64];
} seen; /* of the test at hand */

static int is(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

/* ---- Redis and the server's plugins: "SET key value", "script", "disable x" ------------------ */

static void resume(struct ask *a, chatd_status rc, struct chatd_str text)
{
	const struct chatd_host *h = a->self->h;
	char why[200];
	snprintf(why, sizeof(why), "%.*s", (int)text.n, text.p ? text.p : "");
	(void)h->resume(a->token, rc < 0 ? CHATD_REJECT : CHATD_ACCEPT,
			rc == -EPROTO           ? "REFUSED"
					: rc == -EAGAIN ? "DOWN"
					: rc < 0        ? "FAILED"
									: NULL,
			why);
	h->mem_free(a);
}

static void on_reply(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	char number[32];
	if (rc == 0 && r->type == CHATD_REDIS_INTEGER) {
		snprintf(number, sizeof(number), "%lld", (long long)r->integer);
		snprintf(seen.heard, sizeof(seen.heard), "%s", number);
	} else if (r) {
		snprintf(seen.heard, sizeof(seen.heard), "%.*s",
				r->type == CHATD_REDIS_NIL ? 3 : (int)r->text.n,
				r->type == CHATD_REDIS_NIL ? "nil" : r->text.p);
	}
	resume(arg, rc, r ? r->text : chatd_str_of(NULL, 0));
}

static void on_changed(void *arg, chatd_status rc, const char *text)
{
	resume(arg, rc, chatd_str_of(text, strlen(text)));
}

static void on_facts(void *arg, const struct chatd_plugin_facts *f, size_t n)
{
	resume(arg, n == 2 && strcmp(f[1].name, "gone") == 0 ? 0 : -EIO, chatd_str_of(NULL, 0));
}

static chatd_status ask_plugins(struct ask *a, chatd_worker *w, struct chatd_str body)
{
	const struct chatd_plugins *vt = a->self->plugins->vt;
	const struct chatd_plugins_change c = { .struct_size = sizeof(c),
		.what = CHATD_PLUGINS_SET,
		.name = CHATD_LIT("typing"),
		.key = CHATD_LIT("window"),
		.value = CHATD_LIT("3s") };
	return is(body, "collect") ? vt->collect(a->self->plugins->obj, w, on_facts, a)
							   : vt->change(a->self->plugins->obj, w, &c, on_changed, a);
}

static chatd_status ask_redis(struct ask *a, chatd_worker *w, struct chatd_str body)
{
	const struct chatd_redis *vt = a->self->redis->vt;
	struct chatd_str argv[8];
	struct chatd_redis_command c = { .struct_size = sizeof(c), .argv = argv };
	const char *p = body.p, *end = body.p + body.n;
	while (p < end && c.n < 8) {
		const char *blank = memchr(p, ' ', (size_t)(end - p));
		blank = blank ? blank : end;
		argv[c.n++] = chatd_str_of(p, (size_t)(blank - p));
		p = blank + 1;
	}
	if (is(argv[0], "script")) {
		c.script = a->self->script;
		c.n_keys = 1;
	}
	return vt->call(a->self->redis->obj, w, &c, on_reply, a);
}

static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str dest = h->msg_dest(h->call_msg(c)), body = h->msg_body(h->call_msg(c));
	struct ask *a = h->mem_alloc(sizeof(*a));
	(void)wself;
	if (!a) {
		return -ENOMEM;
	}
	*a = (struct ask){ .self = self, .token = h->suspend(c, NULL, NULL) };
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	chatd_status rc = is(dest, "/topic/redis") ? ask_redis(a, h->call_worker(c), body)
											   : ask_plugins(a, h->call_worker(c), body);
	if (rc < 0) {
		resume(a, rc, chatd_str_of(NULL, 0));
	}
	return CHATD_WAIT;
}

static void on_up(void *arg, int32_t up)
{
	(void)arg;
	seen.up += up;
	seen.down += !up;
}

static void on_heard(void *arg, chatd_worker *w, struct chatd_str payload)
{
	(void)arg;
	(void)w;
	seen.listening += !payload.p;
	if (payload.p) {
		snprintf(seen.heard, sizeof(seen.heard), "%.*s", (int)payload.n, payload.p);
	}
}

/* ---- sockets: they say what they are told, twice; "bye" ends it ------------------------------- */

static void on_ws(void *arg, struct chatd_str text, int32_t binary)
{
	struct ask *s = arg;
	const struct chatd_websocket *vt = s->self->websocket->vt;
	if (is(text, "bye")) {
		vt->close(s->to.ws, 1000, "as you like");
		s->self->h->mem_free(s);
		return;
	}
	vt->send(s->to.ws, text, binary);
	chatd_buf *b = s->self->h->buf_new(0, text.n);
	b = b ? vt->wrap((memcpy(s->self->h->buf_data(b), text.p, text.n), b), 0) : NULL;
	if (b) {
		vt->send_buf(s->to.ws, b);
		s->self->h->buf_unref(b);
	}
}

static void on_ws_gone(void *arg, int32_t why)
{
	struct ask *s = arg;
	(void)why;
	s->self->h->mem_free(s);
}

static const struct chatd_ws_user ws_user = {
	.struct_size = sizeof(ws_user), .message = on_ws, .gone = on_ws_gone
};

static void on_live(void *arg, chatd_req *req)
{
	const struct self *self = arg;
	const struct chatd_websocket *vt = self->websocket->vt;
	struct ask *s = self->h->mem_alloc(sizeof(*s));
	const struct chatd_ws_accept how = {
		.struct_size = sizeof(how), .user = &ws_user, .arg = s, .max_message = 10
	};
	chatd_msg *creds = vt->credentials(self->websocket->obj, req);
	int mine = creds && is(self->h->msg_get(creds, CHATD_CRED_TOKEN), "t-1");
	self->h->msg_unref(creds);
	if (!s || !mine) {
		const struct chatd_http *http = self->http->vt;
		self->h->mem_free(s);
		http->problem(req, mine ? 503 : 401, "NO", "no");
		return;
	}
	s->self = self;
	s->to.ws = vt->accept(self->websocket->obj, req, &how);
	if (!s->to.ws) {
		self->h->mem_free(s);
	}
}

static void *on_open(void *arg, chatd_worker *w, chatd_sockjs_conn *conn)
{
	const struct self *self = arg;
	struct ask *s = self->h->mem_alloc(sizeof(*s));
	(void)w;
	if (s) {
		*s = (struct ask){ .self = self, .to.conn = conn };
	}
	return s;
}

static void on_text(void *arg, struct chatd_str text, int32_t binary)
{
	struct ask *s = arg;
	const struct chatd_sockjs *vt = s->self->sockjs->vt;
	if (is(text, "bye")) {
		vt->close(s->to.conn, 3000, "as you like");
		s->self->h->mem_free(s);
		return;
	}
	vt->send(s->to.conn, text, binary);
}

static void on_gone(void *arg)
{
	struct ask *s = arg;
	s->self->h->mem_free(s);
}

/* ---- life ------------------------------------------------------------------------------------- */

static chatd_status listen(struct self *self, chatd_ctx *ctx)
{
	const struct chatd_redis *redis = self->redis->vt;
	const struct chatd_http *http = self->http->vt;
	const struct chatd_sockjs *sockjs = self->sockjs->vt;
	const struct chatd_route route = { .struct_size = sizeof(route),
		.methods = CHATD_GET,
		.path = "/live",
		.handle = on_live,
		.arg = self };
	const struct chatd_sockjs_app app = { .struct_size = sizeof(app),
		.prefix = "/echo",
		.open = on_open,
		.message = on_text,
		.gone = on_gone,
		.arg = self };
	chatd_status rc = redis->script(self->redis->obj, "return 1", &self->script);
	rc = rc < 0 ? rc : redis->watch(self->redis->obj, on_up, self);
	rc = rc < 0 ? rc : http->route(self->http->obj, ctx, &route);
	return rc < 0 ? rc : sockjs->endpoint(self->sockjs->obj, ctx, &app);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->cipher = h->service(ctx, CHATD_CIPHER);
	self->redis = h->service(ctx, CHATD_REDIS);
	self->plugins = h->service(ctx, CHATD_PLUGINS);
	self->http = h->service(ctx, CHATD_HTTP);
	self->websocket = h->service(ctx, CHATD_WEBSOCKET);
	self->sockjs = h->service(ctx, CHATD_SOCKJS);
	*ret_self = self;
	chatd_status rc = listen(self, ctx);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_in);
}

static void ping(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	(void)arg;
	seen.up += rc == 0 && is(r->text, "PONG") ? 100 : 0;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_redis *vt = self->redis->vt;
	const struct chatd_str word = CHATD_LIT("PING");
	const struct chatd_redis_command c = { .struct_size = sizeof(c), .argv = &word, .n = 1 };
	(void)w;
	(void)wself;
	(void)vt->ask(self->redis->obj, &c, ping, NULL); /* it can do without */
	return vt->subscribe(self->redis->obj, CHATD_LIT("kit:news"), on_heard, NULL);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_CIPHER, CHATD_REDIS, CHATD_PLUGINS, CHATD_HTTP,
	CHATD_WEBSOCKET, CHATD_SOCKJS, NULL };
static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "more", .version = "1",
	.summary = "asks the others", .needs = needs, .init = init, .worker_start = worker_start,
	.fini = fini };

/* ---- tests -------------------------------------------------------------------------------------- */

static struct kit *begin(void)
{
	memset(&seen, 0, sizeof(seen));
	return kit_new(&plugin, "");
}

static void asked(struct kit *k, const char *command, const char *answer)
{
	kit_in(k, "ann", "/topic/redis", command);
	kit_expect_accept(k);
	kit_expect(k, strcmp(seen.heard, answer) == 0);
}

static void redis_keeps_texts_for_a_time(void)
{
	struct kit *k = begin();
	kit_expect(k, seen.up == 101 && seen.listening == 1);
	asked(k, "GET kit:a", "nil");
	asked(k, "SET kit:a 1 EX 10", "OK");
	asked(k, "SET kit:a 2 NX", "nil");
	asked(k, "INCRBY kit:a 4", "5");
	asked(k, "TTL kit:a", "10");
	kit_expect(k, kit_failing(k) || strcmp(kit_redis_value(k, "kit:a"), "5") == 0);
	kit_expect_told(k, CHATD_REDIS, "PING", "");
	kit_expect_told(k, CHATD_REDIS, "GET", "kit:a");
	kit_expect_told(k, CHATD_REDIS, "SET", "kit:a 1 EX 10");
	kit_advance(k, 10000);
	asked(k, "EXISTS kit:a", "0");
	kit_redis_put(k, "kit:b", "x");
	asked(k, "DEL kit:a kit:b", "1");
	kit_free(k);
}

static int script_says(
		void *arg, const struct chatd_redis_command *c, struct chatd_redis_reply *ret)
{
	*ret = (struct chatd_redis_reply){ .type = CHATD_REDIS_INTEGER, .integer = *(int *)arg };
	return c->script != 0;
}

static void redis_answers_scripts_as_the_test_says(void)
{
	int number = 42;
	struct kit *k = begin();
	kit_in(k, "ann", "/topic/redis", "script kit:a 7");
	kit_expect_reject(k, "REFUSED", "has no scripts");
	kit_in(k, "ann", "/topic/redis", "LPUSH kit:a 7");
	kit_expect_reject(k, "REFUSED", "has no LPUSH");
	kit_redis_answers(k, script_says, &number);
	asked(k, "script kit:a 7", "42");
	asked(k, "EXISTS kit:a", "0");
	kit_free(k);
}

static void redis_goes_and_comes(void)
{
	struct kit *k = begin();
	kit_redis_up(k, 0);
	kit_expect(k, seen.down == 1);
	kit_in(k, "ann", "/topic/redis", "GET kit:a");
	kit_expect_reject(k, "DOWN", NULL);
	kit_redis_up(k, 1);
	asked(k, "GET kit:a", "nil");
	kit_redis_comes(k, "kit:news", "from afar");
	kit_expect(k, strcmp(seen.heard, "from afar") == 0);
	asked(k, "PUBLISH kit:news x", "1");
	kit_hold(k, CHATD_REDIS, 1);
	kit_in(k, "ann", "/topic/redis", "GET kit:a");
	kit_expect_waiting(k, 1);
	kit_answer_error(k, CHATD_REDIS, -ETIMEDOUT);
	kit_expect_reject(k, "FAILED", NULL);
	kit_free(k);
}

static void plugins_are_those_that_the_test_names(void)
{
	const struct chatd_plugin_facts typing = { .state = CHATD_PLUGIN_RUNS, .name = "typing" },
									gone = { .state = CHATD_PLUGIN_LEFT_OUT, .name = "gone" };
	struct kit *k = begin();
	kit_plugin(k, &typing);
	kit_plugin(k, &gone);
	kit_in(k, "ann", "/topic/plugins", "collect");
	kit_expect_accept(k);
	kit_in(k, "ann", "/topic/plugins", "set");
	kit_expect_accept(k);
	kit_expect_told(k, CHATD_PLUGINS, "set", "typing window: 3s");
	const struct self *self = kit_self(k);
	const struct chatd_plugins *vt = self ? self->plugins->vt : NULL;
	char names[20];
	kit_expect(k, !vt || (vt->left_out(k, names, sizeof(names)) == 1 && !strcmp(names, "gone")));
	kit_free(k);
}

static const struct chatd_cipher_place here = {
	.struct_size = sizeof(here), .kind = { "row", 3 }, .conv = { "den", 3 }, .seq = 7
};

static void what_is_sealed_opens_in_its_place_alone(void)
{
	const struct chatd_cipher *c = &kit_cipher_vt;
	struct kit *k = begin();
	const struct chatd_keys *keys = c->keys(k);
	struct chatd_cipher_place there = here;
	char sealed[5 + CHATD_CIPHER_EXTRA], plain[6] = "";
	struct chatd_str record = { sealed, sizeof(sealed) };
	there.seq = 8;
	if (c->seal(keys, &here, CHATD_LIT("hello"), sealed) < 0) {
		kit_free(k);
		return;
	}
	kit_expect(k, !memmem(sealed, sizeof(sealed), "hello", 5));
	kit_expect(k, c->open(keys, &here, record, plain) == 0 && strcmp(plain, "hello") == 0);
	kit_expect(k, c->open(keys, &there, record, plain) == -EBADMSG);
	sealed[sizeof(sealed) - 1] ^= 1;
	kit_expect(k, c->open(keys, &here, record, plain) == -EBADMSG);
	kit_expect(k, c->open(keys, &here, CHATD_LIT("hello"), plain) == -EBADMSG);
	kit_free(k);
}

static void keys_come_and_go(void)
{
	const struct chatd_cipher *c = &kit_cipher_vt;
	struct kit *k = begin();
	const struct chatd_keys *old = c->keys(k);
	char sealed[CHATD_CIPHER_EXTRA], word[CHATD_CIPHER_WORD], again[CHATD_CIPHER_WORD],
			mark[CHATD_CIPHER_MARK], name[CHATD_CIPHER_NAME];
	struct chatd_str record = { sealed, sizeof(sealed) };
	if (c->seal(old, &here, CHATD_LIT(""), sealed) < 0) {
		kit_free(k);
		return;
	}
	(void)c->word(old, 0, CHATD_LIT("cat"), word);
	c->mark(old, CHATD_LIT("hash"), mark);
	kit_expect(k, c->look(old, record) == CHATD_CIPHER_GOOD);
	kit_keys(k, 1, 2, 2);
	const struct chatd_keys *now = c->keys(k);
	kit_expect(k, now != old && c->look(now, record) == CHATD_CIPHER_OLD);
	kit_expect(
			k, c->look(old, record) == CHATD_CIPHER_GOOD && c->open(now, &here, record, name) == 0);
	kit_expect(
			k, c->word(now, 1, CHATD_LIT("cat"), again) == 0 && !memcmp(word, again, sizeof(word)));
	kit_expect(k, c->word(now, 2, CHATD_LIT("cat"), again) == -ENOENT);
	kit_expect(k, c->is_mark(now, chatd_str_of(mark, sizeof(mark)), CHATD_LIT("hash")) == 1);
	kit_expect(k, c->is_mark(now, chatd_str_of(mark, sizeof(mark)), CHATD_LIT("other")) == 0);
	kit_keys(k, 2, 2, 2);
	now = c->keys(k);
	kit_expect(k, c->look(now, record) == CHATD_CIPHER_LOST);
	kit_expect(k, c->open(now, &here, record, name) == -ENOKEY);
	kit_expect(k, c->is_mark(now, chatd_str_of(mark, sizeof(mark)), CHATD_LIT("other")) == 1);
	kit_seals(k, 0, 0);
	kit_keys(k, 1, 1, 1);
	c->name(c->keys(k), record, name);
	kit_expect(k, c->look(c->keys(k), record) == CHATD_CIPHER_OLD && strcmp(name, "key-1") == 0);
	kit_free(k);
}

/* What the store's answer was: keys, or the error. */
struct asked {
	struct kit *k;
	const char *key; /* to take; NULL: claim */
	char keys[64];
	int64_t at, version;
};

static void on_records(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct asked *q = arg;
	q->keys[0] = '\0';
	for (size_t i = 0; rc == 0 && i < a->n_records; i++) {
		size_t n = strlen(q->keys);
		snprintf(q->keys + n, sizeof(q->keys) - n, "%.*s ", (int)a->records[i].key.n,
				a->records[i].key.p);
		q->at = a->records[i].at;
		q->version = a->records[i].version;
	}
	if (rc < 0) {
		snprintf(q->keys, sizeof(q->keys), "%s", rc == -ENOENT ? "none" : "error");
	}
}

static void ask_store(void *arg)
{
	struct asked *q = arg;
	const struct chatd_store_record_claim claim = { .struct_size = sizeof(claim),
		.limit = 2,
		.space = CHATD_LIT("jobs"),
		.wall = 1000,
		.until = 5000 };
	const struct chatd_store_record_key take = { .struct_size = sizeof(take),
		.prefix = 1,
		.space = CHATD_LIT("jobs"),
		.key = chatd_str_of(q->key, q->key ? strlen(q->key) : 0),
		.wall = 1000 };
	chatd_worker *w = kit_worker(q->k, 0);
	if ((q->key ? kit_store_vt.record_take(NULL, w, &take, on_records, q)
				: kit_store_vt.record_claim(NULL, w, &claim, on_records, q)) < 0) {
		snprintf(q->keys, sizeof(q->keys), "refused");
	}
}

static void records_are_claimed_and_taken_once(void)
{
	struct asked q = { .k = begin() };
	static const char *const keys[] = { "late", "b", "a", "c", "never" };
	static const int64_t due[] = { 1001, 900, 900, 950, 0 };
	kit_store_clear();
	for (size_t i = 0; i < 5; i++) {
		kit_store_put("jobs", keys[i], "x");
		kit_store_due("jobs", keys[i], due[i]);
	}
	kit_on(q.k, 0, ask_store, &q);
	kit_expect(q.k, strcmp(q.keys, "a b ") == 0 && q.at == 5000 && q.version == 2);
	kit_on(q.k, 0, ask_store, &q);
	kit_expect(q.k, strcmp(q.keys, "c ") == 0);
	q.key = "";
	kit_on(q.k, 0, ask_store, &q);
	kit_expect(q.k, strcmp(q.keys, "a ") == 0 && kit_store_count("jobs") == 4);
	q.key = "a";
	kit_on(q.k, 0, ask_store, &q);
	kit_expect(q.k, strcmp(q.keys, "none") == 0);
	kit_free(q.k);
	kit_store_clear();
}

static void a_websocket_is_a_request_that_went_on(void)
{
	struct kit *k = begin();
	struct kit_req *no = kit_http(k, "GET", "/live?token=t-2", "", (char *)NULL);
	kit_expect_http(no, 401, NULL);
	kit_expect(k, !kit_socket_is_open(kit_websocket(no)));
	struct kit_req *r = kit_http(k, "GET", "/live?token=t-1", "", (char *)NULL);
	kit_expect_http(r, 101, NULL);
	struct kit_socket *ann = kit_websocket(r);
	if (!kit_failing(k)) {
		kit_socket_send(ann, "hello");
		kit_expect_message(ann, "hello");
		kit_expect_message(ann, "hello");
		kit_expect_no_message(ann);
		kit_socket_send(ann, "bye");
		kit_expect_socket_closed(ann, 1000);
		struct kit_socket *bob =
				kit_websocket(kit_http(k, "GET", "/live?token=t-1", "", (char *)NULL));
		kit_socket_send(bob, "far too long");
		kit_expect_socket_closed(bob, KIT_SOCKET_TOO_BIG);
		(void)kit_http(k, "GET", "/live?token=t-1", "", (char *)NULL); /* until the server stops */
	}
	kit_free(k);
}

static void a_sockjs_client_comes_to_its_endpoint(void)
{
	struct kit *k = begin();
	struct kit_socket *ann = kit_sockjs(k, "/echo"), *bob = kit_sockjs(k, "/echo");
	if (kit_socket_is_open(ann) && kit_socket_is_open(bob)) {
		kit_socket_send(ann, "hello");
		kit_expect_message(ann, "hello");
		kit_expect_no_message(bob);
		kit_socket_leave(bob);
		kit_socket_send(ann, "bye");
		kit_expect_socket_closed(ann, 3000);
	}
	kit_free(k);
}

KIT_MAIN(KIT_TEST(redis_keeps_texts_for_a_time), KIT_TEST(redis_answers_scripts_as_the_test_says),
		KIT_TEST(redis_goes_and_comes), KIT_TEST(plugins_are_those_that_the_test_names),
		KIT_TEST(what_is_sealed_opens_in_its_place_alone), KIT_TEST(keys_come_and_go),
		KIT_TEST(records_are_claimed_and_taken_once),
		KIT_TEST(a_websocket_is_a_request_that_went_on),
		KIT_TEST(a_sockjs_client_comes_to_its_endpoint))

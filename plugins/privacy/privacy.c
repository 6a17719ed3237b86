/* SPDX-License-Identifier: Apache-2.0 */
/* Whom users have blocked, and whether they tell what they have read: their lists and settings over
 * HTTP, and the service that others ask. */
#include <chatd-sdk/ask.h>
#include <chatd-sdk/hearers.h>
#include <chatd-sdk/record_set.h>
#include <chatd/privacy.h>

enum { ROUTES = 5, PAIR_MAX = 2 * CHATD_ID_MAX + 2 };

struct conf {
	int64_t max_blocks, guest_blocks;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http;
	struct chatd_set blocks; /* of "who/whom" */
	struct chatd_set unread; /* of users who do not tell what they have read */
	struct {
		chatd_privacy_event *fn;
		void *arg;
	} watcher[CHATD_HEARERS_MAX];
	struct chatd_hearers watchers;
	struct chatd_ask_route routes[ROUTES];
};

struct ask {
	struct chatd_ask a;
	int32_t limit;
	char after[PAIR_MAX];
};

static const struct chatd_opt opts[] = {
	{ .key = "max_blocks",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_blocks),
			.fallback = "1000",
			.min = 1,
			.max = 100000,
			.doc = "Users that one user may block." },
	{ .key = "guest_blocks",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, guest_blocks),
			.fallback = "50",
			.max = 100000,
			.doc = "Users that a guest may block: there is no end of guests, and every worker of "
				   "every node keeps what they block. 0: none." },
	{ 0 },
};

/* "/" is in no id. */
static struct chatd_str pair(char to[PAIR_MAX], struct chatd_str who, struct chatd_str whom)
{
	size_t n = who.n;
	if (who.n > CHATD_ID_MAX || whom.n > CHATD_ID_MAX) {
		return chatd_str_of(to, 0);
	}
	memcpy(to, who.p, who.n);
	to[n++] = '/';
	memcpy(to + n, whom.p, whom.n);
	return chatd_str_of(to, n + whom.n);
}

/* ---- the service --------------------------------------------------------------------- */

static int32_t blocks(void *obj, const chatd_worker *w, struct chatd_str who, struct chatd_str whom)
{
	const struct self *self = obj;
	char key[PAIR_MAX];
	if (chatd_set_is_empty(&self->blocks, w) || !who.n || !whom.n) {
		return 0;
	}
	return chatd_set_has(&self->blocks, w, pair(key, who, whom));
}

static int32_t hides_reads(void *obj, const chatd_worker *w, struct chatd_str user)
{
	const struct self *self = obj;
	return chatd_set_has(&self->unread, w, user);
}

static chatd_status watch(void *obj, chatd_privacy_event *fn, void *arg)
{
	struct self *self = obj;
	int32_t i = chatd_hearers_place(&self->watchers);
	if (i < 0) {
		return i;
	}
	self->watcher[i].fn = fn;
	self->watcher[i].arg = arg;
	chatd_hearers_fill(&self->watchers, i);
	return 0;
}

static const struct chatd_privacy vt = {
	.struct_size = sizeof(vt), .blocks = blocks, .hides_reads = hides_reads, .watch = watch
};

static void on_changed(void *arg, chatd_worker *w, struct chatd_str key, int32_t on)
{
	const struct self *self = arg;
	const char *cut = memchr(key.p, '/', key.n);
	for (int32_t i = 0; cut && i < chatd_hearers_count(&self->watchers); i++) {
		size_t n = (size_t)(cut - key.p);
		if (!chatd_hearers_hears(&self->watchers, i)) {
			continue;
		}
		self->watcher[i].fn(self->watcher[i].arg, w, chatd_str_of(key.p, n),
				chatd_str_of(cut + 1, key.n - n - 1), on);
	}
}

static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	return chatd_set_wait(&self->blocks, call);
}

static chatd_verdict on_open_too(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	return chatd_set_wait(&self->unread, call);
}

/* ---- /api/blocks ------------------------------------------------------------------------ */

static void on_set(void *arg, chatd_status rc)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc == -EDQUOT) {
		chatd_ask_problem(&a->a, 409, "TOO_MANY_BLOCKS",
				"that is one user more than anybody may block; lift another block first");
	} else if (rc < 0) {
		chatd_ask_refused(&a->a, rc);
	} else {
		chatd_ask_answer(&a->a, 204);
	}
}

static void change(struct ask *a, int32_t on)
{
	struct self *self = a->a.self;
	struct chatd_str me = chatd_ask_user(&a->a), user = a->a.http->req_param(a->a.req, "user");
	char key[PAIR_MAX], value[32];
	if (!chatd_id_ok(user)) {
		chatd_ask_problem(&a->a, 404, "NOT_FOUND", "there is no such user");
		return;
	}
	if (chatd_str_same(me, user)) {
		chatd_ask_problem(&a->a, 422, "VALIDATION", "nobody can block themselves");
		return;
	}
	int guest = (self->h->ident_flags(a->a.who) & CHATD_ID_ANONYMOUS) != 0;
	int64_t max = self->conf->max_blocks;
	if (guest && max > self->conf->guest_blocks) {
		max = self->conf->guest_blocks;
	}
	if (on && !max) {
		chatd_ask_problem(&a->a, 403, "FORBIDDEN", "on this server guests cannot block anybody");
		return;
	}
	int n = snprintf(value, sizeof(value), "%lld", (long long)self->h->wall_ms());
	const struct chatd_set_put p = { .key = pair(key, me, user),
		.owner = me,
		.value = chatd_str_of(value, (size_t)n),
		.on = on,
		.max = max };
	chatd_ask_asked(&a->a, chatd_set_change(&self->blocks, a->a.w, &p, on_set, a));
}

/* Whether there is such a user is not looked up: guessing ids must not be answered here. */
static void run_put(struct chatd_ask *a)
{
	change((struct ask *)a, 1);
}

static void run_delete(struct chatd_ask *a)
{
	change((struct ask *)a, 0);
}

static void write_block(struct chatd_json *j, const struct chatd_store_record *r, size_t skip)
{
	int64_t at = 0;
	for (size_t i = 0; i < r->value.n && i < 15; i++) {
		at = at * 10 + (r->value.p[i] - '0');
	}
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "userId", chatd_str_of(r->key.p + skip, r->key.n - skip));
	chatd_json_time(j, "since", at);
	chatd_json_lit(j, "}");
}

static void on_list(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc < 0) {
		chatd_ask_refused(&a->a, rc);
		return;
	}
	size_t skip = chatd_ask_user(&a->a).n + 1;
	struct chatd_json *j = &a->a.out;
	chatd_json_lit(j, "{\"blocks\":[");
	for (size_t i = 0; i < s->n_records; i++) {
		write_block(j, &s->records[i], skip);
	}
	chatd_json_lit(j, "]");
	if (s->n_records == (size_t)a->limit) {
		struct chatd_str last = s->records[s->n_records - 1].key;
		chatd_json_member(j, "after", chatd_str_of(last.p + skip, last.n - skip));
	}
	chatd_json_lit(j, "}");
	chatd_ask_answer(&a->a, 200);
}

static void run_list(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	const struct self *self = ap->self;
	const struct chatd_store *store = self->store->vt;
	struct chatd_str me = chatd_ask_user(ap), after = ap->http->req_query(ap->req, "after");
	char prefix[PAIR_MAX];
	struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = chatd_ask_limit(ap, 100, 1000),
		.space = CHATD_LIT("privacy.block"),
		.prefix = pair(prefix, me, CHATD_LIT("")),
		.wall = self->h->wall_ms() };
	if (!r.limit) {
		return;
	}
	if (after.p && !chatd_id_ok(after)) {
		chatd_ask_bad_cursor(ap);
		return;
	}
	if (after.p) {
		r.after = pair(a->after, me, after);
	}
	a->limit = r.limit;
	chatd_ask_asked(ap, store->record_list(self->store->obj, ap->w, &r, on_list, a));
}

/* ---- /api/chat/settings --------------------------------------------------------------------- */

static void answer_settings(struct ask *a, int32_t tells)
{
	chatd_json_lit(&a->a.out, "{");
	chatd_json_flag(&a->a.out, "readReceipts", tells);
	chatd_json_lit(&a->a.out, "}");
	chatd_ask_answer(&a->a, 200);
}

static void run_settings(struct chatd_ask *a)
{
	struct self *self = a->self;
	int32_t hides = hides_reads(self, a->w, chatd_ask_user(a));
	if (hides < 0) {
		chatd_ask_refused(a, hides);
	} else {
		answer_settings((struct ask *)a, !hides);
	}
}

static void on_saved(void *arg, chatd_status rc)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc < 0) {
		chatd_ask_refused(&a->a, rc);
	} else {
		answer_settings(a, a->limit);
	}
}

static void run_save(struct chatd_ask *ap)
{
	static const struct chatd_json_field fields[] = { { "readReceipts", CHATD_J_BOOL, 0 },
		{ NULL, 0, 0 } };
	struct ask *a = (struct ask *)ap;
	struct self *self = ap->self;
	union { /* what one field of any type may fill */
		int32_t tells;
		struct chatd_str room;
	} in = { .tells = -1 };
	json_t *root;
	if (!chatd_ask_body(ap, fields, &in, &root)) {
		return;
	}
	int32_t tells = in.tells;
	json_decref(root);
	if (tells < 0) {
		chatd_ask_problem(ap, 422, "VALIDATION", "readReceipts is missing: true or false");
		return;
	}
	const struct chatd_set_put p = {
		.key = chatd_ask_user(ap), .owner = chatd_ask_user(ap), .value = CHATD_LIT(""), .on = !tells
	};
	a->limit = tells;
	chatd_ask_asked(ap, chatd_set_change(&self->unread, ap->w, &p, on_saved, a));
}

/* ---- life -------------------------------------------------------------------------------- */

static const struct chatd_ask_route table[ROUTES] = {
	{ .method = CHATD_GET, .path = "/api/blocks", .run = run_list, .size = sizeof(struct ask) },
	{ .method = CHATD_PUT,
			.path = "/api/blocks/{user}",
			.run = run_put,
			.size = sizeof(struct ask) },
	{ .method = CHATD_DELETE,
			.path = "/api/blocks/{user}",
			.run = run_delete,
			.size = sizeof(struct ask) },
	{ .method = CHATD_GET,
			.path = "/api/chat/settings",
			.run = run_settings,
			.size = sizeof(struct ask) },
	{ .method = CHATD_PUT,
			.path = "/api/chat/settings",
			.run = run_save,
			.size = sizeof(struct ask) },
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.store = h->service(ctx, CHATD_STORE),
		.http = h->service(ctx, CHATD_HTTP) };
	*ret_self = self;
	self->watchers.plugins = h->service(ctx, CHATD_PLUGINS);
	self->unread = (struct chatd_set){ .h = h,
		.ctx = ctx,
		.store = self->store,
		.cluster = h->service(ctx, CHATD_CLUSTER),
		.space = "privacy.unread" };
	self->blocks = self->unread;
	self->blocks.space = "privacy.block";
	self->blocks.changed = on_changed;
	self->blocks.arg = self;
	self->routes[0] = (struct chatd_ask_route){ .self = self, .h = h, .http = self->http };
	chatd_status rc = chatd_set_init(&self->blocks);
	rc = rc < 0 ? rc : chatd_set_init(&self->unread);
	rc = rc < 0 ? rc : h->provide(ctx, CHATD_PRIVACY, &vt, self);
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_session_open, CHATD_ORDER_CHECK, on_open);
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_session_open, CHATD_ORDER_CHECK, on_open_too);
	return rc < 0 ? rc : chatd_ask_routes(ctx, self->routes, table, ROUTES);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	chatd_status rc = chatd_set_start(&self->blocks, w);
	return rc < 0 ? rc : chatd_set_start(&self->unread, w);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	chatd_set_stop(&self->blocks, w);
	chatd_set_stop(&self->unread, w);
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->blocks.open) ||
			chatd_open_busy(self->h, &self->unread.open) ||
			(self->h->stopping() == CHATD_SERVES && chatd_asks_open(self->routes, ROUTES) > 0);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	chatd_set_finish(&self->blocks);
	chatd_set_finish(&self->unread);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_PRIVACY, NULL };
static const char *const needs[] = { CHATD_STORE, CHATD_HTTP, NULL };
static const char *const wants[] = { CHATD_CLUSTER, CHATD_PLUGINS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "privacy",
	.version = "0.1",
	.summary = "whom users have blocked, and whether they tell what they have read",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
	.busy = busy,
};

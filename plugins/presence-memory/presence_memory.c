/* SPDX-License-Identifier: Apache-2.0 */
/* Who is online on this node: sessions counted per user, on one home worker. */
#include <chatd/plugin.h>
#include <chatd/presence.h>

#include <chatd-sdk/hash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { MAX_WATCHERS = 16 };

struct conf {
	int64_t linger;
};

struct self;

/* At the home worker alone. */
struct user {
	UT_hash_handle hh;
	struct self *self;
	uint32_t sessions;
	uint32_t known; /* its coming was told */
	struct chatd_timer linger;
	size_t n;
	char id[];
};

struct watcher {
	chatd_presence_event *fn;
	void *arg;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct watcher watchers[MAX_WATCHERS]; /* filled in init() of others, then read-only */
	size_t n_watchers;
	struct chatd_hash_key key;
	struct user **users; /* the home's table; the pointer is constant */
};

struct visit {
	struct self *self;
	chatd_token token;
	int32_t change;
	size_t n;
	char id[];
};

struct question {
	struct self *self;
	chatd_worker *from;
	chatd_presence_fn *fn;
	void *arg;
	size_t n;
	int32_t *online; /* behind users[] */
	struct chatd_str users[];
};

static const struct chatd_opt opts[] = {
	{ .key = "linger",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, linger),
			.fallback = "5s",
			.max = 600000,
			.doc = "How long a user stays online after the last session, so that a reload is no event." },
	{ 0 },
};

static chatd_worker *home(const struct self *self)
{
	return self->h->worker_at(0);
}

static void tell(struct self *self, const struct user *u, int32_t online)
{
	for (size_t i = 0; i < self->n_watchers; i++) {
		self->watchers[i].fn(self->watchers[i].arg, home(self), chatd_str_of(u->id, u->n), online);
	}
}

static unsigned hash(const struct self *self, const char *id, size_t n)
{
	return (unsigned)chatd_hash(&self->key, id, n);
}

static struct user *find(struct self *self, const char *id, size_t n)
{
	struct user *u = NULL;
	HASH_FIND_BYHASHVALUE(hh, *self->users, id, n, hash(self, id, n), u);
	return u;
}

static void user_free(struct user *u)
{
	u->self->h->timer_clear(&u->linger);
	HASH_DEL(*u->self->users, u);
	free(u);
}

static void on_lingered(void *arg)
{
	struct user *u = arg;
	tell(u->self, u, 0);
	user_free(u);
}

static void came(struct self *self, const char *id, size_t n)
{
	struct user *u = find(self, id, n);
	if (!u) {
		u = calloc(1, sizeof(*u) + n);
		if (!u) {
			return;
		}
		u->self = self;
		u->n = n;
		memcpy(u->id, id, n);
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, *self->users, u->id, n, hash(self, u->id, n), u);
		if (!u->hh.tbl) {
			free(u);
			return;
		}
	}
	self->h->timer_clear(&u->linger);
	u->sessions++;
	if (!u->known) {
		u->known = 1;
		tell(self, u, 1);
	}
}

static void went(struct self *self, const char *id, size_t n)
{
	struct user *u = find(self, id, n);
	if (u && u->sessions > 0 && --u->sessions == 0) {
		self->h->timer_set(home(self), &u->linger, self->conf->linger, on_lingered, u);
	}
}

static void on_visit(void *arg)
{
	struct visit *v = arg;
	if (v->change > 0) {
		came(v->self, v->id, v->n);
	} else {
		went(v->self, v->id, v->n);
	}
	if (v->token) {
		(void)v->self->h->resume(v->token, CHATD_NEXT, NULL, NULL);
	}
	v->self->h->mem_free(v);
}

static struct visit *visit_create(struct self *self, chatd_call *call, int32_t change)
{
	const chatd_ident *who = self->h->call_ident(call);
	struct chatd_str id = who ? self->h->ident_user(who) : chatd_str_of(NULL, 0);
	struct visit *v = id.p ? self->h->mem_alloc(sizeof(*v) + id.n) : NULL;
	if (v) {
		v->self = self;
		v->change = change;
		v->n = id.n;
		memcpy(v->id, id.p, id.n);
	}
	return v;
}

static chatd_verdict send_visit(struct visit *v)
{
	chatd_status rc = v->self->h->post(home(v->self), on_visit, v);
	if (rc < 0) {
		v->self->h->mem_free(v);
	}
	return rc;
}

/* The client hears of its login only after presence knows it. */
static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str id = h->ident_user(h->call_ident(call));
	(void)wself;
	if (h->call_worker(call) == home(self)) {
		came(self, id.p, id.n);
		return CHATD_NEXT;
	}
	struct visit *v = visit_create(self, call, 1);
	if (!v) {
		return -ENOMEM;
	}
	/* The answer of a call that is gone by then is harmless; the visit counts anyway,
	 * because session_close will take it back. */
	v->token = h->suspend(call, NULL, NULL);
	chatd_token token = v->token;
	chatd_verdict rc = send_visit(v);
	if (rc < 0) {
		return rc;
	}
	return token ? CHATD_WAIT : CHATD_NEXT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	struct chatd_str id = self->h->ident_user(self->h->call_ident(call));
	(void)wself;
	if (self->h->call_worker(call) == home(self)) {
		went(self, id.p, id.n);
		return CHATD_NEXT;
	}
	struct visit *v = visit_create(self, call, -1);
	return v ? send_visit(v) : -ENOMEM;
}

/* ---- the service --------------------------------------------------------- */

static void on_answer(void *arg)
{
	struct question *q = arg;
	q->fn(q->arg, 0, q->online, q->n);
	q->self->h->mem_free(q);
}

static void on_question(void *arg)
{
	struct question *q = arg;
	for (size_t i = 0; i < q->n; i++) {
		q->online[i] = find(q->self, q->users[i].p, q->users[i].n) != NULL;
	}
	if (q->self->h->post(q->from, on_answer, q) < 0) {
		q->self->h->mem_free(q);
	}
}

static chatd_status get(void *obj, chatd_worker *w, const struct chatd_str *users, size_t n,
		chatd_presence_fn *fn, void *arg)
{
	struct self *self = obj;
	size_t text = 0;
	for (size_t i = 0; i < n; i++) {
		text += users[i].n;
	}
	struct question *q =
			self->h->mem_alloc(sizeof(*q) + n * (sizeof(q->users[0]) + sizeof(int32_t)) + text);
	if (!q) {
		return -ENOMEM;
	}
	q->self = self;
	q->from = w;
	q->fn = fn;
	q->arg = arg;
	q->n = n;
	q->online = (int32_t *)(void *)(q->users + n);
	char *at = (char *)(q->online + n);
	for (size_t i = 0; i < n; i++) {
		if (users[i].n) {
			memcpy(at, users[i].p, users[i].n);
		}
		q->users[i] = chatd_str_of(at, users[i].n);
		at += users[i].n;
	}
	chatd_status rc = self->h->post(home(self), on_question, q);
	if (rc < 0) {
		self->h->mem_free(q);
	}
	return rc;
}

static chatd_status watch(void *obj, chatd_presence_event *fn, void *arg)
{
	struct self *self = obj;
	if (self->n_watchers == MAX_WATCHERS) {
		return -ENOSPC;
	}
	self->watchers[self->n_watchers++] = (struct watcher){ fn, arg };
	return 0;
}

static const struct chatd_presence vt = {
	.struct_size = sizeof(vt),
	.get = get,
	.watch = watch,
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	h->random(&self->key, sizeof(self->key));
	self->users = h->mem_alloc(sizeof(*self->users));
	if (!self->users) {
		return -ENOMEM;
	}
	chatd_status rc = h->provide(ctx, CHATD_PRESENCE, &vt, self);
	if (rc == 0) {
		rc = h->hook(ctx, chatd_hook_session_open, CHATD_ORDER_STORE, on_open);
	}
	if (rc == 0) {
		rc = h->hook(ctx, chatd_hook_session_close, CHATD_ORDER_STORE, on_close);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct user *u, *next;
	(void)wself;
	if (w != home(self)) {
		return;
	}
	HASH_ITER(hh, *self->users, u, next)
	{
		user_free(u);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->users);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_PRESENCE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "presence-memory",
	.version = "0.1",
	.summary = "who is online, on one node",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.worker_stop = worker_stop,
	.fini = fini,
};

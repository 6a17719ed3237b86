/* SPDX-License-Identifier: Apache-2.0 */
/* Who is online in a cluster: options, hooks, life of the plugin. */
#include "presence.h"
#include "scripts.h"

#include <chatd/stats.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 1000 };

static const struct chatd_opt opts[] = {
	{ .key = "linger",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, linger),
			.fallback = "5s",
			.max = 10000,
			.doc = "How long a user stays online after the last session, so that a reload is no event." },
	{ .key = "lease",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, lease),
			.fallback = "15s",
			.min = 3000,
			.max = 120000,
			.doc = "So long a node that is silent counts as alive; renewed at a third of it." },
	{ .key = "last_seen",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, last_seen),
			.fallback = "true",
			.doc = "Tell when somebody who is offline was online last." },
	{ 0 },
};

chatd_worker *home_of(const struct self *self)
{
	return self->h->worker_at(0);
}

struct chatd_str text_of(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

struct chatd_str key_of(
		const struct self *self, const char *kind, struct chatd_str id, char room[KEY_MAX])
{
	int n = snprintf(room, KEY_MAX, "%s%s%.*s", self->prefix, kind, (int)id.n, id.p);
	return chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
}

struct chatd_str number_of(int64_t v, char room[24])
{
	int n = snprintf(room, 24, "%" PRId64, v);
	return chatd_str_of(room, (size_t)n);
}

void count(const struct self *self, uint32_t id, int64_t n)
{
	if (self->stats) {
		const struct chatd_stats *stats = self->stats->vt;
		stats->add(self->stats->obj, home_of(self), id, n);
	}
}

/* ---- hooks -------------------------------------------------------------------------------------- */

struct visit {
	struct self *self;
	chatd_token token;
	int32_t comes;
	struct place place;
	size_t n;
	char id[];
};

static void meet(struct self *self, const struct visit *v)
{
	struct chatd_str id = chatd_str_of(v->id, v->n);
	if (v->comes) {
		user_came(self, id, &v->place, v->token);
	} else {
		user_went(self, id, v->place.sid);
	}
}

static void on_visit(void *arg)
{
	struct visit *v = arg;
	meet(v->self, v);
	v->self->h->mem_free(v);
}

/* One word, of characters that need no care. */
static void set_device(struct place *p, struct chatd_str login)
{
	size_t n = login.n < DEVICE_MAX ? login.n : DEVICE_MAX;
	for (size_t i = 0; i < n; i++) {
		p->device[i] = (char)(login.p[i] > ' ' && login.p[i] <= '~' ? login.p[i] : '_');
	}
	if (n == 0) {
		p->device[n++] = '-';
	}
	p->device[n] = '\0';
}

static struct visit *visit_create(struct self *self, chatd_call *call, int32_t comes)
{
	const struct chatd_host *h = self->h;
	const chatd_ident *who = h->call_ident(call);
	struct chatd_str id = who ? h->ident_user(who) : chatd_str_of(NULL, 0);
	struct visit *v = id.p && id.n <= USER_MAX ? h->mem_alloc(sizeof(*v) + id.n) : NULL;
	if (v) {
		v->self = self;
		v->comes = comes;
		v->place.sid = h->session_sid(h->call_session(call));
		v->place.since = h->wall_ms();
		v->place.status = CHATD_PRESENCE_ONLINE;
		set_device(&v->place, h->ident_login(who));
		v->n = id.n;
		memcpy(v->id, id.p, id.n);
	}
	return v;
}

static chatd_verdict send_visit(struct self *self, struct visit *v, chatd_worker *from)
{
	if (from == home_of(self)) {
		on_visit(v);
		return 0;
	}
	chatd_status rc = self->h->post(home_of(self), on_visit, v);
	if (rc < 0) {
		self->h->mem_free(v);
	}
	return rc;
}

/* The client hears of its login only after presence knows it, or cannot know it now. */
static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	struct visit *v = visit_create(self, call, 1);
	if (!v) {
		return -ENOMEM;
	}
	/* The answer of a call that is gone by then is harmless; the visit counts anyway,
	 * because session_close will take it back. */
	chatd_token token = v->token = self->h->suspend(call, NULL, NULL);
	chatd_verdict rc = send_visit(self, v, self->h->call_worker(call));
	if (rc < 0) {
		return rc;
	}
	return token ? CHATD_WAIT : CHATD_NEXT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	struct visit *v = visit_create(self, call, 0);
	return v ? send_visit(self, v, self->h->call_worker(call)) : -ENOMEM;
}

/* ---- life --------------------------------------------------------------------------------------- */

static chatd_status add_scripts(struct self *self)
{
	const struct {
		const char *text;
		uint32_t *id;
	} all[] = {
		{ script_claim, &self->claim },
		{ script_was_swept, &self->was_swept },
		{ script_sync, &self->sync },
		{ script_sweep, &self->sweep },
		{ script_get, &self->get },
		{ script_nodes, &self->nodes },
		{ script_look, &self->look },
	};
	chatd_status rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(all) / sizeof(all[0]); i++) {
		rc = self->redis->script(self->redis_service->obj, all[i].text, all[i].id);
	}
	return rc < 0 ? rc : self->redis->watch(self->redis_service->obj, lease_up, self);
}

static chatd_status define_numbers(struct self *self)
{
	const struct chatd_stats *stats = self->stats ? self->stats->vt : NULL;
	struct chatd_stat_def def = { .struct_size = sizeof(def),
		.kind = CHATD_STAT_COUNTER,
		.name = "chatd_presence_fenced_total",
		.help = "Times that this node could not renew its lease in time." };
	chatd_status rc =
			stats ? stats->define(self->stats->obj, self->ctx, &def, &self->count_fenced) : 0;
	def.name = "chatd_presence_events_total";
	def.help = "Users who came or went, in the whole cluster, as this node heard.";
	return rc < 0 || !stats ? rc
							: stats->define(self->stats->obj, self->ctx, &def, &self->count_events);
}

static chatd_status hook_all(struct self *self)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = h->hook(self->ctx, chatd_hook_session_open, CHATD_ORDER_STORE, on_open);
	rc = rc < 0 ? rc : h->hook(self->ctx, chatd_hook_session_close, CHATD_ORDER_STORE, on_close);
	return rc < 0 ? rc : h->provide(self->ctx, CHATD_PRESENCE, &presence_vt, self);
}

/* Its file is its own; of what goes with the process anyway each node may have some. */
static int32_t is_alone(const struct self *self)
{
	const struct chatd_store *store = self->store ? self->store->vt : NULL;
	void *obj = store ? self->store->obj : NULL;
	return store && !(CHATD_HAS(store, is_shared) && store->is_shared(obj)) &&
			!(CHATD_HAS(store, lasts) && !store->lasts(obj));
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	unsigned char bytes[INSTANCE_HEX / 2];
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.redis_service = h->service(ctx, CHATD_REDIS),
		.store = h->service(ctx, CHATD_STORE),
		.stats = h->service(ctx, CHATD_STATS) };
	*ret_self = self;
	self->watching.plugins = self->following.plugins = h->service(ctx, CHATD_PLUGINS);
	self->redis = self->redis_service->vt;
	h->random(&self->key, sizeof(self->key));
	h->random(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		snprintf(self->instance + 2 * i, 3, "%02x", bytes[i]);
	}
	struct chatd_str prefix = self->redis->prefix(self->redis_service->obj);
	snprintf(self->prefix, sizeof(self->prefix), "%.*s", (int)prefix.n, prefix.p);
	snprintf(self->node, sizeof(self->node), "%s", h->server_id());
	who_am_i(self->who);
	self->alone = is_alone(self);
	self->home = h->mem_alloc(sizeof(*self->home));
	if (!self->home) {
		return -ENOMEM;
	}
	chatd_status rc = add_scripts(self);
	rc = rc < 0 ? rc : define_numbers(self);
	return rc < 0 ? rc : hook_all(self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct asker *a = wself;
	char room[KEY_MAX];
	a->end = &a->first;
	if (w != home_of(self)) {
		return 0;
	}
	chatd_status rc = begin(self);
	void *redis = self->redis_service->obj;
	rc = rc < 0 ? rc
				: self->redis->subscribe(redis, key_of(self, "node:", text_of(self->node), room),
						  lease_heard, self);
	rc = rc == 0 && events_any(self) ? events_begin(self) : rc;
	self->home->tick = rc < 0 ? NULL : self->h->watch_time(w, TICK_MS, 1, lease_tick, self);
	rc = rc < 0 || self->home->tick ? rc : -ENOMEM;
	if (rc == 0) {
		self->home->begun = 1;
		atomic_store(&self->serves, 1);
		lease_up(self, self->home->up);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	if (w == home_of(self)) {
		self->h->unwatch(self->home->tick);
		users_stop(self);
		lease_leave(self);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->home);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_PRESENCE, NULL };
static const char *const needs[] = { CHATD_REDIS, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_STATS, CHATD_PLUGINS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_WAITS,
	.name = "presence-redis",
	.version = "0.1",
	.summary = "who is online, in a cluster, by Redis",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct asker),
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

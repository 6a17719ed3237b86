/* SPDX-License-Identifier: Apache-2.0 */
/* Entries come in from any worker, go to the log, and to worker 0 to be stored. */
#include "audit.h"

#include <chatd-sdk/text.h>

#include <sodium.h>

const char *const field_names[FIELDS] = { "time", "action", "actor", "target", "room", "result",
	"until", "detail", "address", "requestId" };

static const struct chatd_opt opts[] = {
	{ .key = "retention",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, retention),
			.fallback = "365d",
			.max = INT64_C(36600) * 86400000,
			.doc = "How long entries are kept; 0: for ever." },
	{ .key = "readers",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, readers),
			.fallback = "[auditor]",
			.doc = "Roles of accounts that may read the entries, beside administrators." },
	{ 0 },
};

/* ---- an entry ------------------------------------------------------------------------ */

/* A line of the hashed text is one field: no text has a line break. */
static struct chatd_str put(char **at, struct chatd_str s)
{
	char *p = *at;
	size_t n = chatd_text_cut(s, TEXT_MAX).n;
	if (!s.p) {
		return s;
	}
	for (size_t i = 0; i < n; i++) {
		p[i] = (char)((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f ? ' ' : s.p[i]);
	}
	*at = p + n;
	return chatd_str_of(p, n);
}

/* Without the quotes that a JSON value has. */
static struct chatd_str time_text(char room[64], int64_t ms)
{
	struct chatd_json j;
	chatd_json_init(&j, room, 64);
	chatd_json_time(&j, "t", ms);
	return chatd_str_of(room + sizeof("\"t\":\"") - 1, 24);
}

static struct item *item_create(struct self *self, const struct chatd_audit_entry *e)
{
	char now[64], until[64];
	int64_t wall = self->h->wall_ms();
	const struct chatd_str field[FIELDS] = { [TIME] = time_text(now, wall),
		[ACTION] = e->action,
		[ACTOR] = e->actor,
		[TARGET] = e->target,
		[ROOM] = e->room,
		[RESULT] = e->result.p ? e->result : CHATD_LIT("done"),
		[UNTIL] = e->until == INT64_MAX ? CHATD_LIT("forever")
				: e->until              ? time_text(until, e->until)
										: chatd_str_of(NULL, 0),
		[DETAIL] = e->detail,
		[ADDRESS] = e->address,
		[REQUEST] = e->request };
	size_t n = 0;
	for (int i = 0; i < FIELDS; i++) {
		n += field[i].n < TEXT_MAX ? field[i].n : TEXT_MAX;
	}
	struct item *item = self->h->mem_alloc(sizeof(*item) + n);
	if (!item) {
		return NULL;
	}
	char *at = item->text;
	item->chain = &self->chain;
	item->wall = wall;
	for (int i = 0; i < FIELDS; i++) {
		item->field[i] = put(&at, field[i]);
	}
	return item;
}

/* One line of JSON behind the word "audit": for people and for programs. */
static void write_log(struct self *self, const struct item *i)
{
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	for (int k = 0; k < FIELDS; k++) {
		chatd_json_member(&j, field_names[k], i->field[k]);
	}
	chatd_json_lit(&j, "}");
	self->h->log(self->ctx, CHATD_LOG_INFO, "audit %.*s", (int)j.n, j.p);
	chatd_json_free(&j);
}

static void on_item(void *arg)
{
	struct item *i = arg;
	chain_add(i->chain, i);
}

static void note(void *obj, chatd_worker *w, const struct chatd_audit_entry *e)
{
	struct self *self = obj;
	struct item *i = item_create(self, e);
	(void)w;
	if (!i) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "no memory for an entry: %.*s by %.*s on %.*s",
				(int)e->action.n, e->action.p, (int)e->actor.n, e->actor.n ? e->actor.p : "",
				(int)e->target.n, e->target.n ? e->target.p : "");
		return;
	}
	write_log(self, i);
	__atomic_add_fetch(&self->busy, 1, __ATOMIC_RELAXED);
	if (self->h->post(self->h->worker_at(0), on_item, i) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"no memory: the entry of the line before is in the log alone");
		item_free(self, i);
	}
}

static const struct chatd_audit vt = { .struct_size = sizeof(vt), .note = note };

/* ---- life -------------------------------------------------------------------------------- */

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
	if (sodium_init() < 0) {
		return h->fail(ctx, -ENOSYS, "libsodium cannot be initialised");
	}
	chatd_status rc = h->provide(ctx, CHATD_AUDIT, &vt, self);
	return rc < 0 || !self->http ? rc : list_init(self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	if (self->h->worker_index(w) == 0) {
		chain_start(self, w);
	}
	return 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	if (self->h->worker_index(w) == 0) {
		chain_stop(self);
	}
}

/* What was noted while the server drains, or until this is turned off, is stored before it ends. */
static int32_t busy(void *selfp)
{
	struct self *self = selfp;
	return __atomic_load_n(&self->busy, __ATOMIC_RELAXED) > 0 ||
			chatd_open_busy(self->h, &self->open) ||
			(self->h->stopping() == CHATD_SERVES && chatd_asks_open(self->routes, ROUTES) > 0);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_AUDIT, NULL };
static const char *const needs[] = { CHATD_STORE, NULL };
static const char *const wants[] = { CHATD_HTTP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "audit",
	.version = "0.1",
	.summary = "keeps who has moderated or administered what",
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Rooms: who is in them and what they may do there.  Options and life; see rooms.h for the
 * parts. */
#include "rooms.h"

static const struct chatd_opt preset_opts[] = {
	{ .key = "id",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct preset, id),
			.doc = "1 to 64 letters, digits, _ and -." },
	{ .key = "name",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct preset, name),
			.doc = "What people see; the id if absent." },
	{ .key = "public",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct preset, is_public),
			.fallback = "true",
			.doc = "Anybody may find, read and join it." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "preset",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, preset),
			.sub = preset_opts,
			.sub_size = sizeof(struct preset),
			.doc = "Rooms that are there from the start and stay when they are empty." },
	{ .key = "max_rooms",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_rooms),
			.fallback = "10000",
			.min = 1,
			.max = 10000000,
			.doc = "Rooms on this server; making another one is refused." },
	{ .key = "max_members",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_members),
			.fallback = "10000",
			.min = 1,
			.max = 10000000,
			.doc = "Members of one room; joining beyond is refused." },
	{ .key = "rooms_per_user",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, rooms_per_user),
			.fallback = "200",
			.min = 1,
			.max = 100000,
			.doc = "Rooms that one user may be in." },
	{ .key = "guest_linger",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, guest_linger),
			.fallback = "1h",
			.max = INT64_C(366) * 86400000,
			.doc = "A guest who is offline this long leaves all rooms; 0: never." },
	{ .key = "max_refused",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_refused),
			.fallback = "20",
			.max = 1000000,
			.doc = "SUBSCRIBEs to rooms refused within a minute that end a session (1008); 0: never." },
	{ .key = "announce",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, announce),
			.fallback = "false",
			.doc = "Tell /topic/public who comes and goes: it costs users times users." },
	{ 0 },
};

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct preset *p = conf->preset.items;
	for (size_t i = 0; i < conf->preset.n; i++) {
		if (!chatd_id_ok(text(p[i].id))) {
			return h->conf_error(ctx, "preset",
					"\"%s\" cannot be a room's id; use 1 to 64 letters, digits, _ and -", p[i].id);
		}
		char name[NAME_MAX_BYTES + 1];
		const char *fault = name_take(text(p[i].name ? p[i].name : p[i].id), name);
		if (fault) {
			return h->conf_error(ctx, "preset", "room \"%s\": %s", p[i].id, fault);
		}
		for (size_t k = 0; k < i; k++) {
			if (strcmp(p[i].id, p[k].id) == 0) {
				return h->conf_error(
						ctx, "preset", "room \"%s\" is there twice; keep one", p[i].id);
			}
		}
	}
	if ((int64_t)conf->preset.n > conf->max_rooms) {
		return h->conf_error(
				ctx, "max_rooms", "%zu rooms are preset; allow at least as many", conf->preset.n);
	}
	return 0;
}

/* Presence tells each coming and going once, on whichever worker. */
static void on_presence(void *arg, chatd_worker *w, struct chatd_str user, int32_t online)
{
	say_public(arg, w, user, online);
}

static chatd_status announce(struct self *self)
{
	if (!self->presence) {
		return self->h->fail(self->ctx, -ENOENT,
				"announce: needs a plugin that knows who is online, such as presence-memory");
	}
	const struct chatd_presence *presence = self->presence->vt;
	return presence->watch(self->presence->obj, on_presence, self);
}

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
		.http = h->service(ctx, CHATD_HTTP),
		.presence = h->service(ctx, CHATD_PRESENCE),
		.accounts = h->service(ctx, CHATD_ACCOUNTS),
		.log = h->service(ctx, CHATD_LOG),
		.audit = h->service(ctx, CHATD_AUDIT),
		.privacy = h->service(ctx, CHATD_PRIVACY) };
	*ret_self = self;
	self->watching.plugins = h->service(ctx, CHATD_PLUGINS);
	chatd_status rc = stomp_init(self);
	rc = rc < 0 ? rc : say_init(self);
	if (rc == 0 && self->http) {
		rc = rest_init(self);
	}
	if (rc == 0 && self->conf->announce) {
		rc = announce(self);
	}
	return rc;
}

static void preset_done(struct op *op)
{
	op_free(op);
}

/* The rooms of the configuration are made by their homes, before anything else there. */
static chatd_status make_preset(struct self *self, chatd_worker *w, struct home *at, size_t i)
{
	const struct preset *p = (const struct preset *)self->conf->preset.items + i;
	struct op *op = op_create(self, w, OP_PRESET);
	if (!op) {
		return -ENOMEM;
	}
	chatd_str_copy(op->room, sizeof(op->room), text(p->id));
	(void)name_take(text(p->name ? p->name : p->id), op->name); /* checked */
	op->is_public = p->is_public;
	op->done = preset_done;
	op->home = op_home_of(op);
	if (op->home != w) {
		op_free(op);
		return 0;
	}
	at->presets++;
	home_run(op);
	return 0;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct home *at = wself;
	chatd_status rc = 0;
	TAILQ_INIT(&at->early);
	TAILQ_INIT(&at->asking);
	TAILQ_INIT(&at->doubts);
	if (w == self->h->worker_at(0) && self->presence && self->conf->guest_linger) {
		at->sweep = guests_create(self, w);
		rc = at->sweep ? 0 : -ENOMEM;
	}
	for (size_t i = 0; rc == 0 && i < self->conf->preset.n; i++) {
		rc = make_preset(self, w, at, i);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct home *at = wself;
	(void)selfp;
	(void)w;
	guests_destroy(at->sweep);
	at->sweep = NULL;
	doubt_stop(at);
	home_early(at); /* whoever still waits hears that the store is closing */
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->rest);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_ROOMS, NULL };
static const char *const needs[] = { CHATD_STORE, NULL };
static const char *const wants[] = { CHATD_HTTP, CHATD_PRESENCE, CHATD_ACCOUNTS, CHATD_LOG,
	CHATD_AUDIT, CHATD_PRIVACY, CHATD_PLUGINS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "rooms",
	.version = "0.1",
	.summary = "rooms and who is in them, over STOMP and REST",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct home),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

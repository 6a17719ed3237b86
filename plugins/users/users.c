/* SPDX-License-Identifier: Apache-2.0 */
/* People: profiles, finding them, their server-wide roles and bans, and their leaving. */
#include "users.h"

#include <sodium.h>

static const struct chatd_opt opts[] = {
	{ .key = "first_admin",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, first_admin),
			.fallback = "true",
			.doc = "As long as no account is an administrator: a one-time code in the log and in "
				   "data_dir/admin.code makes one." },
	{ .key = "fresh_login",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, fresh_login),
			.fallback = "5m",
			.min = 10000,
			.max = 3600000,
			.doc = "Who has a password deletes the account with a login that is no older." },
	{ .key = "reserved_names",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, reserved_names),
			.fallback = "[admin, administrator, moderator, root, server, support, system]",
			.doc = "Nicknames that only moderators and administrators may take, in lower case." },
	{ 0 },
};

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	for (const char *const *name = conf->reserved_names; *name; name++) {
		for (const char *p = *name; *p; p++) {
			if ((*p >= 'A' && *p <= 'Z') || *p == ' ' || *p == '_' || *p == '-' || *p == '.') {
				return h->conf_error(ctx, "reserved_names",
						"\"%s\" would fit no nickname; write it in lower case, without spaces, "
						"dots, _ and -",
						*name);
			}
		}
	}
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->store = h->service(ctx, CHATD_STORE);
	self->http = h->service(ctx, CHATD_HTTP);
	self->rooms = h->service(ctx, CHATD_ROOMS);
	self->cluster = h->service(ctx, CHATD_CLUSTER);
	self->audit = h->service(ctx, CHATD_AUDIT);
	*ret_self = self;
	if (sodium_init() < 0) {
		return h->fail(ctx, -ENOSYS, "libsodium cannot be initialised");
	}
	chatd_status rc = h->hook(ctx, chatd_hook_session_auth, CHATD_ORDER_OBSERVE, gate_auth);
	rc = rc < 0 ? rc : live_init(self);
	rc = rc < 0 ? rc : power_init(self);
	return rc < 0 ? rc : routes_init(self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct local *l = wself;
	if (self->conf->first_admin && self->h->worker_index(w) == 0) {
		l->boot = boot_create(self, w);
		if (!l->boot) {
			return -ENOMEM;
		}
	}
	return chatd_touched_start(&self->touched, w);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct local *l = wself;
	chatd_touched_stop(&self->touched, w);
	boot_destroy(l->boot);
	l->boot = NULL;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->routes);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_USERS, NULL };
static const char *const needs[] = { CHATD_STORE, CHATD_HTTP, NULL };
static const char *const wants[] = { CHATD_ROOMS, CHATD_CLUSTER, CHATD_AUDIT, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS,
	.name = "users",
	.version = "0.1",
	.summary = "profiles, finding people, server-wide roles and bans, deleting one's account",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct local),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of messages, and what moderators do about them: options and life. */
#include "moderation.h"

static const struct chatd_opt opts[] = {
	{ .key = "reasons",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, reasons),
			.fallback = "[spam, harassment, hate, sexual, violence, illegal, other]",
			.doc = "What a report may give as its reason." },
	{ .key = "retention",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, retention),
			.fallback = "180d",
			.max = INT64_C(3660) * 86400000,
			.doc = "How long a report is kept, with its copy of the message, from when it was made, and "
				   "again from when it was closed; 0: for ever." },
	{ .key = "per_minute",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, per_minute),
			.fallback = "5",
			.min = 1,
			.max = 6000,
			.doc = "Reports that one user may make in a minute; one address four times as many. Needs "
				   "limit-rate." },
	{ .key = "burst",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, burst),
			.fallback = "10",
			.min = 1,
			.max = 6000,
			.doc = "Reports that one user may make at once." },
	{ .key = "max_open",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_open),
			.fallback = "100",
			.min = 1,
			.max = 100000,
			.doc = "Reports of one user that may wait for a moderator." },
	{ 0 },
};

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	for (const char *const *r = conf->reasons; *r; r++) {
		if (!chatd_id_ok(text(*r)) || strlen(*r) > REASON_MAX) {
			return h->conf_error(ctx, "reasons",
					"\"%s\" is no reason: write 1 to %d letters, digits, _ and -", *r, REASON_MAX);
		}
	}
	if (!conf->reasons[0]) {
		return h->conf_error(ctx, "reasons", "name at least one, such as other");
	}
	return 0;
}

/* ---- how calls end -------------------------------------------------------------------- */

void ask_problem(struct ask *a, int32_t status, const char *code, const char *why)
{
	chatd_json_free(&a->value);
	chatd_ask_problem(&a->a, status, code, why);
}

void ask_refused(struct ask *a, chatd_status rc)
{
	chatd_json_free(&a->value);
	chatd_ask_refused(&a->a, rc);
}

void ask_answer(struct ask *a, int32_t status)
{
	chatd_json_free(&a->value);
	chatd_ask_answer(&a->a, status);
}

/* ---- life ------------------------------------------------------------------------------ */

static const struct chatd_ask_route table[ROUTES] = {
	{ .method = CHATD_POST, .path = "/api/reports", .run = run_report, .size = sizeof(struct ask) },
	{ .method = CHATD_GET, .path = "/api/reports", .run = run_list, .size = sizeof(struct ask) },
	{ .method = CHATD_POST,
			.path = "/api/reports/{id}/resolve",
			.run = run_resolve,
			.size = sizeof(struct ask) },
	{ .method = CHATD_POST,
			.path = "/api/reports/{id}/dismiss",
			.run = run_dismiss,
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
		.http = h->service(ctx, CHATD_HTTP),
		.rooms = h->service(ctx, CHATD_ROOMS),
		.log = h->service(ctx, CHATD_LOG),
		.users = h->service(ctx, CHATD_USERS),
		.audit = h->service(ctx, CHATD_AUDIT),
		.limiter = h->service(ctx, CHATD_LIMITER) };
	*ret_self = self;
	self->routes[0] = (struct chatd_ask_route){ .self = self, .h = h, .http = self->http };
	chatd_status rc = h->provide(ctx, CHATD_REPORTS, &reports_vt, self);
	return rc < 0 ? rc : chatd_ask_routes(ctx, self->routes, table, ROUTES);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

/* Answers of the store to clients that have left, too. */
static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_asks_open(self->routes, ROUTES) > 0 || atomic_load(&self->found) > 0;
}

static const char *const provides[] = { CHATD_REPORTS, NULL };
static const char *const needs[] = { CHATD_STORE, CHATD_HTTP, NULL };
static const char *const wants[] = { CHATD_ROOMS, CHATD_LOG, CHATD_USERS, CHATD_AUDIT,
	CHATD_LIMITER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "moderation",
	.version = "0.1",
	.summary = "users report messages, moderators act on that",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
	.busy = busy,
};

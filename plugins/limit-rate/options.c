/* SPDX-License-Identifier: Apache-2.0 */
/* The options, what can be wrong with them, and what they are compiled to. */
#include "limit.h"

#include <errno.h>
#include <string.h>

static const char *const bys[] = { "address", "user", NULL };
static const char *const shareds[] = { "auto", "never", NULL };

#define TEXT(struct_, field_, doc_)                                        \
	{                                                                      \
		.key = #field_, .type = CHATD_T_STRING, .flags = CHATD_O_REQUIRED, \
		.offset = offsetof(struct struct_, field_), .doc = doc_            \
	}
#define NUMBER(struct_, field_, default_, min_, max_, doc_)                              \
	{                                                                                    \
		.key = #field_, .type = CHATD_T_INT, .offset = offsetof(struct struct_, field_), \
		.fallback = default_, .min = min_, .max = max_, .doc = doc_                      \
	}
#define PER_MINUTE(field_, default_, doc_) NUMBER(conf, field_, default_, 0, RATE_MINUTE_MAX, doc_)
#define BURST(field_, default_, doc_)      NUMBER(conf, field_, default_, 1, RATE_BURST_MAX, doc_)

static const struct chatd_opt cost_opts[] = {
	TEXT(cost_conf, prefix, "Destinations that begin so; the longest one that fits counts."),
	NUMBER(cost_conf, cost, "1", 0, RATE_BURST_MAX, "Tokens that a SEND there draws; 0: none."),
	{ 0 },
};

static const struct chatd_opt separate_opts[] = {
	TEXT(separate_conf, prefix, "SENDs to destinations that begin so have a bucket of their own."),
	NUMBER(separate_conf, per_minute, NULL, 1, RATE_MINUTE_MAX, "How many flow in a minute."),
	NUMBER(separate_conf, burst, NULL, 1, RATE_BURST_MAX, "How many at once."),
	{ 0 },
};

static const struct chatd_opt rest_opts[] = {
	TEXT(rest_conf, prefix,
			"Calls there and below, as in /api/files or /api/chat/rooms/{id}/join."),
	{ .key = "methods",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct rest_conf, methods),
			.doc = "GET, POST, PUT, PATCH, DELETE; none named: all." },
	{ .key = "by",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rest_conf, by),
			.fallback = "address",
			.choices = bys,
			.doc = "Whom it counts: the client's address, or the user where the route asks who." },
	NUMBER(rest_conf, per_minute, NULL, 1, RATE_MINUTE_MAX, "How many a minute."),
	NUMBER(rest_conf, burst, NULL, 1, RATE_BURST_MAX, "How many at once."),
	{ 0 },
};

const struct chatd_opt limit_opts[] = {
	PER_MINUTE(
			anonymous_per_minute, "200", "Messages of a guest (by clientIdentifier); 0: no limit."),
	BURST(anonymous_burst, "100", "Messages of a guest at once."),
	PER_MINUTE(authenticated_per_minute, "500", "Messages of a user; 0: no limit."),
	BURST(authenticated_burst, "100", "Messages of a user at once."),
	{ .key = "costs",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, costs),
			.sub = cost_opts,
			.sub_size = sizeof(struct cost_conf),
			.doc = "What a SEND draws, where it is not one token." },
	{ .key = "separate",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, separate),
			.fallback = "[{prefix: /app/chat.typing, per_minute: 120, burst: 30},"
						" {prefix: /app/chat.read, per_minute: 600, burst: 100}]",
			.sub = separate_opts,
			.sub_size = sizeof(struct separate_conf),
			.doc = "SENDs that have a bucket of their own." },
	{ .key = "exempt_roles",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, exempt_roles),
			.doc = "Who meets no limit: moderator, admin or roles of accounts." },
	NUMBER(conf, warn_at, "80", 0, 100,
			"Percent of what is allowed at once from which a notice is sent; 0: never."),
	{ .key = "window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, window_ms),
			.fallback = "10s",
			.min = 1000,
			.max = 3600000,
			.doc = "Of one notice at most, and of close_after." },
	NUMBER(conf, close_after, "500", 0, RATE_BURST_MAX,
			"Refusals within a window that end a connection (4429); 0: none do."),
	PER_MINUTE(subscriptions_per_minute, "300", "SUBSCRIBEs of a user; 0: no limit."),
	BURST(subscriptions_burst, "200", "SUBSCRIBEs of a user at once."),
	NUMBER(conf, user_connections, "20", 0, 1000000, "Sessions of a user at a time; 0: no limit."),
	NUMBER(conf, address_connections, "200", 0, 1000000,
			"Sessions of an address at a time; 0: no limit."),
	PER_MINUTE(connects_per_minute, "3000", "CONNECTs of an address; 0: no limit."),
	BURST(connects_burst, "100", "CONNECTs of an address at once."),
	PER_MINUTE(logins_per_minute, "60", "CONNECTs of an address with a password; 0: no limit."),
	BURST(logins_burst, "30", "CONNECTs of an address with a password at once."),
	PER_MINUTE(calls_per_minute, "1200", "REST calls of an address; 0: no limit."),
	BURST(calls_burst, "300", "REST calls of an address at once."),
	PER_MINUTE(user_calls_per_minute, "600", "REST calls of a user; 0: no limit."),
	BURST(user_calls_burst, "200", "REST calls of a user at once."),
	{ .key = "rest",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, rest),
			.sub = rest_opts,
			.sub_size = sizeof(struct rest_conf),
			.doc = "REST calls that have limits of their own, beside those for all." },
	{ .key = "exempt",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, exempt),
			.fallback = "[\"127.0.0.0/8\", \"::1\"]",
			.doc = "Addresses and nets without limits on connections, logins and REST calls." },
	NUMBER(conf, max_buckets, "262144", 64, 100000000,
			"Buckets kept in memory, 48 bytes each, beyond those of open sessions."),
	{ .key = "shared",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, shared),
			.fallback = "auto",
			.choices = shareds,
			.doc = "auto: limits hold over all nodes, if the plugin redis is there." },
	{ 0 },
};

/* ---- mistakes ------------------------------------------------------------------------- */

static chatd_status check_sends(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const struct cost_conf *c = conf->costs.items;
	const struct separate_conf *s = conf->separate.items;
	int64_t most = conf->anonymous_burst < conf->authenticated_burst ? conf->anonymous_burst
																	 : conf->authenticated_burst;
	for (size_t i = 0; i < conf->costs.n; i++) {
		if (c[i].prefix[0] != '/') {
			return h->conf_error(ctx, "costs",
					"prefix \"%s\" must begin with a slash, for example /app/chat.", c[i].prefix);
		}
		if (c[i].cost > most) {
			return h->conf_error(ctx, "costs",
					"%s costs %lld, which is never granted; write at most %lld, the smaller burst, or "
					"deny it in rules",
					c[i].prefix, (long long)c[i].cost, (long long)most);
		}
	}
	if (conf->separate.n > SEPARATE_MAX) {
		return h->conf_error(ctx, "separate", "%zu are named; at most %d are allowed",
				conf->separate.n, SEPARATE_MAX);
	}
	for (size_t i = 0; i < conf->separate.n; i++) {
		if (s[i].prefix[0] != '/') {
			return h->conf_error(ctx, "separate",
					"prefix \"%s\" must begin with a slash, for example /app/chat.typing",
					s[i].prefix);
		}
		if (s[i].burst < 1 || s[i].per_minute < 1) {
			return h->conf_error(ctx, "separate",
					"%s needs per_minute and burst, for example 60 and 10", s[i].prefix);
		}
	}
	return 0;
}

static chatd_status check_rest(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const struct rest_conf *r = conf->rest.items;
	const char *bad;
	for (size_t i = 0; i < conf->rest.n; i++) {
		if (!chatd_path_ok(r[i].prefix)) {
			return h->conf_error(ctx, "rest",
					"prefix \"%s\" must consist of plain words and of {parameters}, for example "
					"/api/auth/register",
					r[i].prefix);
		}
		if (!chatd_call_methods(r[i].methods, &bad)) {
			return h->conf_error(
					ctx, "rest", "method \"%s\" must be one of GET, POST, PUT, PATCH, DELETE", bad);
		}
		if (r[i].burst < 1 || r[i].per_minute < 1) {
			return h->conf_error(
					ctx, "rest", "%s needs per_minute and burst, for example 5 and 5", r[i].prefix);
		}
	}
	return 0;
}

chatd_status limit_check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	struct chatd_roles roles = { .n = 0 };
	struct net net;
	for (const char *const *e = conf->exempt; *e; e++) {
		if (!net_parse(*e, &net)) {
			return h->conf_error(ctx, "exempt",
					"\"%s\" must be an address or a net, for example 10.0.0.0/8 or ::1", *e);
		}
	}
	for (const char *const *w = conf->exempt_roles; *w; w++) {
		if (!chatd_role_ok(*w) || !chatd_role_bit(&roles, *w)) {
			return h->conf_error(ctx, "exempt_roles",
					"\"%s\" must be moderator, admin or a role word of accounts, of letters, digits, _ "
					"and -, and at most %d of them",
					*w, CHATD_ROLES_MAX);
		}
	}
	chatd_status rc = check_sends(h, ctx, conf);
	return rc < 0 ? rc : check_rest(h, ctx, conf);
}

/* ---- compiling ------------------------------------------------------------------------- */

static struct limit limit_of(
		const struct conf *conf, int64_t burst, int64_t per_minute, const char *what)
{
	struct limit l = { .burst = burst, .per_minute = per_minute, .what = what };
	l.rate = rate_of(burst, per_minute);
	l.warn = l.rate.depth / 100 * conf->warn_at;
	return l;
}

/* Stable, so that of equal ones the first in the file counts. */
static void insert(struct self *self, const struct charge *c)
{
	size_t at = self->n_charges++;
	while (at > 0 && self->charge[at - 1].n < c->n) {
		self->charge[at] = self->charge[at - 1];
		at--;
	}
	self->charge[at] = *c;
}

static chatd_status compile_sends(struct self *self)
{
	const struct conf *conf = self->conf;
	const struct separate_conf *s = conf->separate.items;
	const struct cost_conf *c = conf->costs.items;
	size_t n = conf->costs.n + conf->separate.n;
	self->n_lanes = LANE_SEPARATE + (uint32_t)conf->separate.n;
	self->charge = self->h->mem_alloc((n + 1) * sizeof(*self->charge));
	self->separate = self->h->mem_alloc((conf->separate.n + 1) * sizeof(*self->separate));
	if (!self->charge || !self->separate) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < conf->separate.n; i++) {
		self->separate[i] = limit_of(conf, s[i].burst, s[i].per_minute, s[i].prefix);
		insert(self,
				&(struct charge){
						s[i].prefix, strlen(s[i].prefix), LANE_SEPARATE + (uint32_t)i, 1 });
	}
	for (size_t i = 0; i < conf->costs.n; i++) {
		insert(self, &(struct charge){ c[i].prefix, strlen(c[i].prefix), LANE_MAIN, c[i].cost });
	}
	return 0;
}

static chatd_status compile_rest(struct self *self)
{
	const struct conf *conf = self->conf;
	const struct rest_conf *r = conf->rest.items;
	const char *bad;
	self->rest = self->h->mem_alloc((conf->rest.n + 1) * sizeof(*self->rest));
	if (!self->rest) {
		return -ENOMEM;
	}
	self->n_rest = conf->rest.n;
	for (size_t i = 0; i < conf->rest.n; i++) {
		self->rest[i] = (struct rest_limit){ .prefix = r[i].prefix,
			.methods = chatd_call_methods(r[i].methods, &bad),
			.by = r[i].by,
			.number = (uint32_t)i + 1,
			.limit = limit_of(conf, r[i].burst, r[i].per_minute, "calls of this kind") };
	}
	return 0;
}

static chatd_status compile_exempt(struct self *self)
{
	const struct conf *conf = self->conf;
	size_t n = 0;
	while (conf->exempt[n]) {
		n++;
	}
	self->net = self->h->mem_alloc((n + 1) * sizeof(*self->net));
	if (!self->net) {
		return -ENOMEM;
	}
	for (; self->n_nets < n; self->n_nets++) {
		net_parse(conf->exempt[self->n_nets], &self->net[self->n_nets]);
	}
	for (const char *const *w = conf->exempt_roles; *w; w++) {
		self->exempt |= chatd_role_bit(&self->roles, *w);
	}
	return 0;
}

chatd_status limit_compile(struct self *self)
{
	const struct conf *c = self->conf;
	self->anonymous = limit_of(c, c->anonymous_burst, c->anonymous_per_minute, "messages");
	self->authenticated =
			limit_of(c, c->authenticated_burst, c->authenticated_per_minute, "messages");
	self->subscribe =
			limit_of(c, c->subscriptions_burst, c->subscriptions_per_minute, "subscriptions");
	self->connects = limit_of(c, c->connects_burst, c->connects_per_minute, "connections");
	self->logins = limit_of(c, c->logins_burst, c->logins_per_minute, "logins");
	self->calls = limit_of(c, c->calls_burst, c->calls_per_minute, "calls");
	self->user_calls = limit_of(c, c->user_calls_burst, c->user_calls_per_minute, "calls");
	chatd_status rc = compile_sends(self);
	rc = rc < 0 ? rc : compile_rest(self);
	return rc < 0 ? rc : compile_exempt(self);
}

void limit_finish(struct self *self)
{
	const struct chatd_host *h = self->h;
	h->mem_free(self->charge);
	h->mem_free(self->separate);
	h->mem_free(self->rest);
	h->mem_free(self->net);
	h->mem_free(self->away);
}

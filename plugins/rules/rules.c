/* SPDX-License-Identifier: Apache-2.0 */
/* Who may SEND, SUBSCRIBE and call what: the first rule that fits decides. */
#include "table.h"

#include <errno.h>
#include <string.h>

struct conf {
	struct chatd_list rules;
	int32_t fallback, fallback_call;
};

struct self {
	const struct chatd_host *h;
	const struct conf *conf;
	struct table table;
	uint32_t slot;
};

/** What a session's identity comes to.  The reference keeps the address from being used for
 *  another identity, so comparing pointers tells whether it is still the same one. */
struct known {
	const struct chatd_host *h;
	const chatd_ident *who;
	uint64_t mask;
};

static const char *const fallbacks[] = { "deny", "allow", NULL };

static const struct chatd_opt rule_opts[] = {
	{ .key = "allow",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rule_conf, allow),
			.fallback = "none",
			.choices = table_verbs,
			.doc = "What this rule allows; one of allow and deny is given." },
	{ .key = "deny",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rule_conf, deny),
			.fallback = "none",
			.choices = table_verbs,
			.doc = "What this rule denies." },
	{ .key = "prefix",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct rule_conf, prefix),
			.doc = "What it is about: /topic/ or /app/chat. or, of calls, /api/chat/rooms/{id}/join." },
	{ .key = "methods",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct rule_conf, methods),
			.doc = "Of calls: GET, POST, PUT, PATCH, DELETE; none named: all." },
	{ .key = "who",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct rule_conf, who),
			.fallback = "[anyone]",
			.doc = "Whom it is about: anyone, anonymous, authenticated, moderator, admin or a role." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "rules",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, rules),
			.sub = rule_opts,
			.sub_size = sizeof(struct rule_conf),
			.doc = "Read from the top; the first rule that fits decides." },
	{ .key = "fallback",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, fallback),
			.fallback = "deny",
			.choices = fallbacks,
			.doc = "What happens to a SEND or SUBSCRIBE when no rule fits." },
	{ .key = "fallback_call",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, fallback_call),
			.fallback = "allow",
			.choices = fallbacks,
			.doc = "What happens to a REST call of somebody when no rule fits." },
	{ 0 },
};

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct rule_conf *r = conf->rules.items;
	struct chatd_roles roles = { .n = 0 };
	char room[256];
	for (size_t i = 0; i < conf->rules.n; i++) {
		const char *why = table_fault(&r[i], room);
		if (why) {
			return h->conf_error(ctx, "rules", "rule %zu (prefix %s): %s", i + 1, r[i].prefix, why);
		}
		for (const char *const *w = r[i].who; *w; w++) {
			if (!chatd_role_bit(&roles, *w)) {
				return h->conf_error(ctx, "rules",
						"rule %zu (prefix %s): \"%s\" is one role too many; %d different ones are allowed",
						i + 1, r[i].prefix, *w, CHATD_ROLES_MAX);
			}
		}
	}
	return 0;
}

/* ---- who ------------------------------------------------------------------------------- */

static void forget(void *slot)
{
	struct known *known = slot;
	if (known->h) {
		known->h->ident_unref(known->who);
	}
}

static uint64_t mask_of(const struct self *self, const chatd_ident *who)
{
	const struct chatd_host *h = self->h;
	if (!who) {
		return CHATD_ROLE_ANYONE | CHATD_ROLE_ANONYMOUS;
	}
	return chatd_role_mask(&self->table.roles, h->ident_flags(who), h->ident_roles(who));
}

static uint64_t who_calls(const struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	const chatd_ident *who = h->call_ident(call);
	chatd_session *s = h->call_session(call);
	if (!s || !who) {
		return mask_of(self, who);
	}
	struct known *known = h->slot(s, self->slot);
	if (known->who != who) {
		forget(known);
		*known = (struct known){ h, h->ident_ref(who), mask_of(self, who) };
	}
	return known->mask;
}

/* ---- what ------------------------------------------------------------------------------ */

struct question {
	enum verb verb;
	uint64_t who;
	uint32_t method;
	struct chatd_str what;
};

static int32_t ask(const struct self *self, const struct question *q)
{
	int32_t says = q->verb == VERB_CALL ? table_call(&self->table, q->who, q->method, q->what)
										: table_dest(&self->table, q->verb, q->who, q->what);
	if (says != RULE_NONE) {
		return says;
	}
	return q->verb == VERB_CALL ? self->conf->fallback_call : self->conf->fallback;
}

/* Whoever would be let through with an account is told so. */
static chatd_verdict refuse(const struct self *self, chatd_call *call, const struct question *q)
{
	static const char *const verbs[VERBS] = { "send to", "subscribe to", "call" };
	struct question with_account = *q;
	with_account.who = chatd_role_flags(0);
	int hint = (q->who & CHATD_ROLE_ANONYMOUS) && ask(self, &with_account) == RULE_ALLOW;
	int n = q->what.n < 200 ? (int)q->what.n : 200;
	return self->h->reject(call, "FORBIDDEN", "you may not %s %.*s%s", verbs[q->verb], n, q->what.p,
			hint ? " as a guest; log in with an account" : "");
}

static chatd_verdict decide(const struct self *self, chatd_call *call, enum verb verb)
{
	const struct question q = { .verb = verb,
		.who = who_calls(self, call),
		.what = self->h->msg_dest(self->h->call_msg(call)) };
	return ask(self, &q) == RULE_ALLOW ? CHATD_NEXT : refuse(self, call, &q);
}

static chatd_verdict on_message_in(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, VERB_SEND);
}

static chatd_verdict on_subscribe(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, VERB_SUBSCRIBE);
}

static struct question call_question(const struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	struct question q = { .verb = VERB_CALL, .what = h->msg_dest(m) };
	q.method = chatd_call_method(h->msg_get(m, "method"));
	return q;
}

/* Nobody is known yet: only what holds for anyone can be said, and what is not said is open,
 * as the calls that make somebody known must be. */
static chatd_verdict on_request(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct question q = call_question(self, call);
	(void)wself;
	return table_call(&self->table, 0, q.method, q.what) == RULE_DENY ? refuse(self, call, &q)
																	  : CHATD_NEXT;
}

static chatd_verdict on_request_as(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct question q = call_question(self, call);
	(void)wself;
	q.who = mask_of(self, self->h->call_ident(call));
	return ask(self, &q) == RULE_ALLOW ? CHATD_NEXT : refuse(self, call, &q);
}

/* ---- life ------------------------------------------------------------------------------ */

static chatd_status hook_all(struct self *self, chatd_ctx *ctx)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = h->session_slot(ctx, sizeof(struct known), forget, &self->slot);
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_subscribe, CHATD_ORDER_CHECK, on_subscribe);
	if (self->table.n[VERB_CALL]) {
		rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_request, CHATD_ORDER_CHECK, on_request);
	}
	if (self->table.n[VERB_CALL] || self->conf->fallback_call == RULE_DENY) {
		rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_request_as, CHATD_ORDER_CHECK, on_request_as);
	}
	return rc;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .conf = conf };
	*ret_self = self;
	chatd_status rc = table_compile(&self->table, h, conf->rules.items, conf->rules.n);
	return rc < 0 ? rc : hook_all(self, ctx);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	table_finish(&self->table, self->h);
	self->h->mem_free(self);
}

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_GUARDS | CHATD_PLUGIN_LIVE,
	.name = "rules",
	.version = "0.2",
	.summary = "who may send, subscribe and call what",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
};

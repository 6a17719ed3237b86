/* SPDX-License-Identifier: Apache-2.0 */
/* Who may SEND and SUBSCRIBE where: the first rule that fits decides. */
#include <chatd/plugin.h>

#include <errno.h>
#include <string.h>

enum { WHAT_NONE, WHAT_SEND, WHAT_SUBSCRIBE, WHAT_ALL };
enum { WHO_ANYONE, WHO_ANONYMOUS, WHO_AUTHENTICATED, WHO_ADMIN };

struct rule {
	int32_t allow, deny, who;
	const char *prefix;
};

struct conf {
	struct chatd_list rules;
	int32_t fallback;
};

struct self {
	const struct chatd_host *h;
	const struct conf *conf;
};

static const char *const whats[] = { "none", "send", "subscribe", "all", NULL };
static const char *const whos[] = { "anyone", "anonymous", "authenticated", "admin", NULL };
static const char *const fallbacks[] = { "deny", "allow", NULL };

static const struct chatd_opt rule_opts[] = {
	{ .key = "allow",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rule, allow),
			.fallback = "none",
			.choices = whats,
			.doc = "What this rule allows; one of allow and deny is given." },
	{ .key = "deny",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rule, deny),
			.fallback = "none",
			.choices = whats,
			.doc = "What this rule denies." },
	{ .key = "prefix",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct rule, prefix),
			.doc = "Destinations that begin so: /topic/ or /app/chat." },
	{ .key = "who",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct rule, who),
			.fallback = "anyone",
			.choices = whos,
			.doc = "Whom the rule is about." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "rules",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, rules),
			.sub = rule_opts,
			.sub_size = sizeof(struct rule),
			.doc = "Read from the top; the first rule that fits decides." },
	{ .key = "fallback",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, fallback),
			.fallback = "deny",
			.choices = fallbacks,
			.doc = "What happens when no rule fits." },
	{ 0 },
};

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct rule *r = conf->rules.items;
	for (size_t i = 0; i < conf->rules.n; i++) {
		if ((r[i].allow != WHAT_NONE) == (r[i].deny != WHAT_NONE)) {
			return h->conf_error(ctx, "rules",
					"rule %zu (prefix %s) must have one of allow and deny: send, subscribe or all",
					i + 1, r[i].prefix);
		}
		if (r[i].prefix[0] != '/') {
			return h->conf_error(ctx, "rules",
					"rule %zu: prefix \"%s\" must begin with a slash, for example /topic/", i + 1,
					r[i].prefix);
		}
	}
	return 0;
}

static int about(const struct rule *r, const struct chatd_host *h, const chatd_ident *who)
{
	uint32_t flags = who ? h->ident_flags(who) : CHATD_ID_ANONYMOUS;
	switch (r->who) {
	case WHO_ANONYMOUS:
		return (flags & CHATD_ID_ANONYMOUS) != 0;
	case WHO_AUTHENTICATED:
		return !(flags & CHATD_ID_ANONYMOUS);
	case WHO_ADMIN:
		return (flags & CHATD_ID_ADMIN) != 0;
	default:
		return 1;
	}
}

static int allowed(const struct self *self, chatd_call *call, int32_t what)
{
	const struct chatd_host *h = self->h;
	const struct rule *r = self->conf->rules.items;
	struct chatd_str dest = h->msg_dest(h->call_msg(call));
	for (size_t i = 0; i < self->conf->rules.n; i++) {
		int32_t names = r[i].allow | r[i].deny;
		size_t n = strlen(r[i].prefix);
		if ((names & what) && dest.n >= n && memcmp(dest.p, r[i].prefix, n) == 0 &&
				about(&r[i], h, h->call_ident(call))) {
			return r[i].allow != WHAT_NONE;
		}
	}
	return self->conf->fallback;
}

static chatd_verdict decide(const struct self *self, chatd_call *call, int32_t what)
{
	if (allowed(self, call, what)) {
		return CHATD_NEXT;
	}
	struct chatd_str dest = self->h->msg_dest(self->h->call_msg(call));
	return self->h->reject(call, "FORBIDDEN", "you may not %s %.*s",
			what == WHAT_SEND ? "send to" : "subscribe to", (int)dest.n, dest.p);
}

static chatd_verdict on_message_in(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, WHAT_SEND);
}

static chatd_verdict on_subscribe(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return decide(self, call, WHAT_SUBSCRIBE);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .conf = conf };
	*ret_self = self;
	chatd_status rc = h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_subscribe, CHATD_ORDER_CHECK, on_subscribe);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "rules",
	.version = "0.1",
	.summary = "who may send and subscribe where",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
};

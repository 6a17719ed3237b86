/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to a back end: may this one come in, subscribe, say that?  The call is parked while the
 * other server thinks, for so long as its deadline; one that does not answer is not asked for a
 * while (the breaker), so that it does not add its deadline to every message. */
#include "webhooks.h"

#include <chatd-sdk/text.h>
#include <errno.h>

enum { ANSWER_MAX = 64 * 1024, WHY_MAX = 200 };

/* One walk through the deciders of a hook. */
struct asking {
	struct worker *at;
	chatd_token token;
	int32_t on, gone;
	size_t next; /* the decider after the one that is asked */
	const struct decider *d;
};

static const struct chatd_host *host(const struct worker *at)
{
	return at->self->h;
}

/* ---- the breaker ------------------------------------------------------------------------ */

static struct breaker *breaker_of(struct worker *at, const struct decider *d)
{
	return &at->breakers[d - at->self->deciders];
}

/* 1: it may be asked. */
static int closed(struct worker *at, const struct decider *d)
{
	struct breaker *b = breaker_of(at, d);
	if (!b->until) {
		return 1;
	}
	if (b->probing || host(at)->now_ms(at->w) < b->until) {
		return 0;
	}
	b->probing = 1; /* one question shows whether it is back */
	return 1;
}

static void note(struct worker *at, const struct decider *d, int good)
{
	struct breaker *b = breaker_of(at, d);
	const struct self *self = at->self;
	b->probing = 0;
	if (good) {
		if (b->until) {
			self->h->log(self->ctx, CHATD_LOG_INFO, "%s decides again", d->conf->url);
		}
		b->fails = b->until = 0;
		return;
	}
	if (++b->fails >= self->conf->breaker) {
		if (!b->until) {
			self->h->log(self->ctx, CHATD_LOG_WARN,
					"%s does not answer: it is not asked for %lld ms at a time, and what it would "
					"decide is %s",
					d->conf->url, (long long)self->conf->breaker_pause,
					d->conf->on_error == ERROR_ALLOW ? "allowed" : "refused");
		}
		b->until = self->h->now_ms(at->w) + self->conf->breaker_pause;
	}
}

/* ---- the question ------------------------------------------------------------------------- */

static void write_user(struct chatd_json *j, const struct chatd_host *h, const chatd_ident *who)
{
	if (!who) {
		return;
	}
	struct chatd_str roles = h->ident_roles(who);
	chatd_json_key(j, "user");
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", h->ident_user(who));
	chatd_json_member(j, "name", h->ident_name(who));
	chatd_json_member(j, "roles", roles);
	chatd_json_flag(j, "guest", (h->ident_flags(who) & CHATD_ID_ANONYMOUS) != 0);
	chatd_json_flag(j, "admin", (h->ident_flags(who) & CHATD_ID_ADMIN) != 0);
	chatd_json_flag(j, "bot", (h->ident_flags(who) & CHATD_ID_BOT) != 0);
	chatd_json_lit(j, "}");
}

static void write_connect(
		struct chatd_json *j, const struct chatd_host *h, chatd_call *call, const struct decider *d)
{
	const chatd_msg *m = h->call_msg(call);
	chatd_json_member(j, "peer", h->msg_get(m, CHATD_CRED_PEER));
	chatd_json_member(j, "userAgent", h->msg_get(m, CHATD_CRED_AGENT));
	chatd_json_member(j, "host", h->msg_get(m, CHATD_CRED_HOST));
	if (d->conf->credentials && !h->call_ident(call)) {
		chatd_json_member(j, "bearer", h->msg_get(m, CHATD_CRED_BEARER));
		chatd_json_member(j, "login", h->msg_get(m, CHATD_CRED_LOGIN));
		chatd_json_member(j, "passcode", h->msg_get(m, CHATD_CRED_PASSCODE));
	}
}

static void write_question(struct chatd_json *j, struct asking *a, chatd_call *call, const char *id)
{
	static const char *const names[ON_COUNT] = { "connect", "subscribe", "message" };
	const struct chatd_host *h = host(a->at);
	const chatd_msg *m = h->call_msg(call);
	json_t *body = NULL;
	char why[CHATD_JSON_WHY];
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(id));
	chatd_json_member(j, "event", text(names[a->on]));
	chatd_json_time(j, "timestamp", h->wall_ms());
	write_user(j, h, h->call_ident(call));
	if (a->on == ON_CONNECT) {
		write_connect(j, h, call, a->d);
	} else {
		chatd_json_member(j, "destination", h->msg_dest(m));
	}
	if (a->on == ON_MESSAGE) {
		body = chatd_json_parse(h->msg_body(m), why);
		if (body) {
			chatd_json_key(j, "message");
			chatd_json_value(j, body);
		} else if (chatd_text_ok(h->msg_body(m))) {
			chatd_json_member(j, "text", h->msg_body(m));
		}
		json_decref(body);
	}
	chatd_json_lit(j, "}");
}

/* ---- the answer -------------------------------------------------------------------------------- */

struct word {
	int32_t allow; /* -1: not said */
	struct chatd_str reason, content, user, name, roles;
	int64_t expires;
};
static const struct chatd_json_field word_fields[] = {
	{ "allow", CHATD_J_BOOL, offsetof(struct word, allow) },
	{ "reason", CHATD_J_TEXT, offsetof(struct word, reason) },
	{ "content", CHATD_J_TEXT, offsetof(struct word, content) },
	{ "user", CHATD_J_TEXT, offsetof(struct word, user) },
	{ "name", CHATD_J_TEXT, offsetof(struct word, name) },
	{ "roles", CHATD_J_TEXT, offsetof(struct word, roles) },
	{ "expiresIn", CHATD_J_INT, offsetof(struct word, expires) },
	{ NULL, 0, 0 },
};

/* What was said becomes what the decider says. */
static chatd_status rewrite(struct asking *a, chatd_call *call, struct chatd_str content)
{
	const struct chatd_host *h = host(a->at);
	char why[CHATD_JSON_WHY];
	json_t *body = chatd_json_parse(h->msg_body(h->call_msg(call)), why);
	struct chatd_json out;
	/* What is encrypted from end to end must not become something that everybody can read. */
	if (!body || json_is_true(json_object_get(body, "encrypted"))) {
		json_decref(body);
		return 0;
	}
	(void)json_object_del(body, "message"); /* the other name of it */
	(void)json_object_set_new(body, "content", json_stringn(content.p, content.n));
	chatd_json_init(&out, NULL, 0);
	chatd_json_value(&out, body);
	chatd_msg *own = out.failed ? NULL : h->call_edit(call);
	chatd_status rc = own ? h->msg_body_set(own, chatd_json_str(&out)) : -ENOMEM;
	chatd_json_free(&out);
	json_decref(body);
	return rc;
}

/* Who has presented something that no plugin of this server knows. */
static chatd_verdict name_user(struct asking *a, chatd_call *call, const struct word *w)
{
	const struct chatd_host *h = host(a->at);
	const chatd_msg *m = h->call_msg(call);
	if (!a->d->conf->credentials || h->call_ident(call) || !chatd_id_ok(w->user)) {
		return CHATD_NEXT;
	}
	int64_t left = w->expires < INT32_MAX ? w->expires : INT32_MAX;
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.user = w->user,
		.name = w->name.n ? w->name : w->user,
		.roles = w->roles,
		.expires = left > 0 ? h->wall_ms() + left * 1000 : 0 };
	return h->identify_as(call,
			h->msg_get(m, CHATD_CRED_BEARER).p ? CHATD_CRED_BEARER : CHATD_CRED_PASSCODE, &who);
}

static chatd_verdict heed(
		struct asking *a, chatd_call *call, const struct word *w, char why[WHY_MAX])
{
	if (!w->allow) {
		struct chatd_str reason = w->reason.n ? w->reason : CHATD_LIT("refused");
		chatd_str_copy(why, WHY_MAX, chatd_text_cut(reason, WHY_MAX - 1));
		return CHATD_REJECT;
	}
	if (a->on == ON_MESSAGE && w->content.p && rewrite(a, call, w->content) < 0) {
		return -ENOMEM;
	}
	return a->on == ON_CONNECT && w->user.p ? name_user(a, call, w) : CHATD_NEXT;
}

/* ---- the way -------------------------------------------------------------------------------------- */

static void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *ans);

static int fits(const struct worker *at, chatd_call *call, const struct decider *d, int32_t on)
{
	struct chatd_str dest = host(at)->msg_dest(host(at)->call_msg(call));
	size_t n = d->conf->prefix ? strlen(d->conf->prefix) : 0;
	return d->conf->on == on &&
			(on == ON_CONNECT || n == 0 ||
					(dest.n >= n && memcmp(dest.p, d->conf->prefix, n) == 0));
}

static chatd_status ask(struct asking *a, chatd_call *call)
{
	const struct self *self = a->at->self;
	const struct chatd_fetch *fetch = self->fetch->vt;
	const struct chatd_webhook_key none = { .n = 0 };
	struct chatd_webhook_lines l;
	struct chatd_json body;
	char id[37];
	self->h->new_id(id);
	chatd_json_init(&body, NULL, 0);
	write_question(&body, a, call, id);
	if (body.failed) {
		chatd_json_free(&body);
		return -ENOMEM;
	}
	chatd_webhook_lines(&l, &a->d->key, &none, id, self->h->wall_ms(), chatd_json_str(&body));
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("POST"),
		.url = text(a->d->conf->url),
		.body = chatd_json_str(&body),
		.headers = l.line,
		.n_headers = 4,
		.timeout = a->d->conf->timeout,
		.max_answer = ANSWER_MAX };
	chatd_status rc = fetch->fetch(self->fetch->obj, a->at->w, &r, on_answer, a);
	chatd_json_free(&body);
	return rc;
}

/* The next decider that has a say is asked: CHATD_WAIT, its answer will come; else the verdict of
 * those that cannot be asked. */
static chatd_verdict go_on(struct asking *a, chatd_call *call)
{
	const struct self *self = a->at->self;
	while (a->next < self->n_deciders) {
		a->d = &self->deciders[a->next++];
		if (!fits(a->at, call, a->d, a->on)) {
			continue;
		}
		if (closed(a->at, a->d)) {
			chatd_status rc = ask(a, call);
			if (rc == 0) {
				return CHATD_WAIT;
			}
			note(a->at, a->d, 0);
		}
		if (a->d->conf->on_error == ERROR_DENY) {
			return CHATD_REJECT;
		}
	}
	return CHATD_NEXT;
}

static void asking_free(struct asking *a)
{
	struct self *self = a->at->self;
	chatd_open_free(self->h, &self->open, a);
}

static void finish(struct asking *a, chatd_verdict v, int down, const char *why)
{
	(void)host(a->at)->resume(a->token, v, down ? "UNAVAILABLE" : "FORBIDDEN", why);
	asking_free(a);
}

static const char down_text[] = "what decides about this does not answer now; try again";

static int read_word(const struct chatd_fetch_answer *ans, struct word *w, json_t **ret_root)
{
	char why[CHATD_JSON_WHY];
	*w = (struct word){ .allow = -1 };
	*ret_root = NULL;
	return ans->status == 200 && chatd_json_read(ans->body, word_fields, w, ret_root, why) == 0 &&
			w->allow >= 0;
}

static void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *ans)
{
	struct asking *a = arg;
	const struct chatd_host *h = host(a->at);
	chatd_call *call = a->gone ? NULL : h->call_of(a->at->w, a->token);
	struct word w;
	json_t *root = NULL;
	char why[WHY_MAX] = "";
	int good = rc == 0 && read_word(ans, &w, &root);
	note(a->at, a->d, good);
	if (!call) {
		json_decref(root);
		asking_free(a);
		return;
	}
	chatd_verdict v = good                        ? heed(a, call, &w, why)
			: a->d->conf->on_error == ERROR_ALLOW ? CHATD_NEXT
												  : CHATD_REJECT;
	int down = !good;
	json_decref(root);
	if (v == CHATD_NEXT) {
		v = go_on(a, call);
		down = v == CHATD_REJECT;
	}
	if (v != CHATD_WAIT) {
		finish(a, v, down, down ? down_text : why);
	}
}

static void on_cancel(void *arg)
{
	struct asking *a = arg;
	a->gone = 1;
}

static chatd_verdict decide(struct worker *at, chatd_call *call, int32_t on)
{
	const struct chatd_host *h = host(at);
	struct asking *a = chatd_open_alloc(h, &at->self->open, sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->at = at;
	a->on = on;
	chatd_verdict v = go_on(a, call);
	if (v != CHATD_WAIT) {
		asking_free(a);
		return v == CHATD_REJECT ? h->reject(call, "UNAVAILABLE", "%s", down_text) : v;
	}
	a->token = h->suspend(call, on_cancel, a);
	if (!a->token) {
		a->gone = 1; /* the answer comes all the same, and frees it */
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	return CHATD_WAIT;
}

/* A session is asked about once, when it comes; calls of REST are not. */
static chatd_verdict on_connect(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	return self->h->call_session(call) ? decide(wself, call, ON_CONNECT) : CHATD_NEXT;
}

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	(void)selfp;
	return decide(wself, call, ON_SUBSCRIBE);
}

static chatd_verdict on_message(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	/* A back end need not be asked whether it may say what it says. */
	if (h->ident_flags(h->call_ident(call)) & CHATD_ID_SYSTEM) {
		return CHATD_NEXT;
	}
	return decide(wself, call, ON_MESSAGE);
}

chatd_status decide_init(struct self *self)
{
	static const struct {
		uint32_t hook;
		int32_t order;
		chatd_hook_fn *fn;
	} hooks[ON_COUNT] = {
		{ chatd_hook_session_auth, CHATD_ORDER_CHECK + 90, on_connect },
		{ chatd_hook_subscribe, CHATD_ORDER_CHECK + 50, on_subscribe },
		{ chatd_hook_message_in, CHATD_ORDER_CHECK + 50, on_message },
	};
	size_t n = (size_t)self->h->worker_count() * self->n_deciders;
	chatd_status rc = 0;
	self->breakers = self->h->mem_alloc((n + 1) * sizeof(*self->breakers));
	if (!self->breakers) {
		return -ENOMEM;
	}
	for (int32_t on = 0; on < ON_COUNT; on++) {
		size_t i = 0;
		while (i < self->n_deciders && self->deciders[i].conf->on != on) {
			i++;
		}
		if (rc == 0 && i < self->n_deciders) {
			rc = self->h->hook(self->ctx, hooks[on].hook, hooks[on].order, hooks[on].fn);
		}
	}
	return rc;
}

void decide_start(struct worker *at)
{
	const struct self *self = at->self;
	at->breakers = self->breakers + (size_t)self->h->worker_index(at->w) * self->n_deciders;
}

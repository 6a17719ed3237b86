/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: "/me waves" in what is said becomes something else, for everybody or for oneself. */
#include "slash.h"

#include <chatd-sdk/chat.h>
#include <errno.h>

static const struct chatd_opt command_opts[] = {
	{ .key = "name",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf_command, name),
			.doc = "1 to 32 of a-z, 0-9 and -, as it is typed after the slash." },
	{ .key = "help",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf_command, help),
			.fallback = "",
			.doc = "What it does, for /help and the page." },
	{ .key = "url",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf_command, url),
			.doc = "Who answers it." },
	{ .key = "secret",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_SECRET,
			.offset = offsetof(struct conf_command, secret),
			.doc = "Signs the questions: whsec_BASE64, or 16 characters and more; env:NAME, "
				   "file:PATH." },
	{ .key = "bot",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf_command, bot),
			.doc = "Under which name answers to a room are said; left out: the command's." },
	{ .key = "timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf_command, timeout),
			.fallback = "3s",
			.min = 100,
			.max = 4500,
			.doc = "How long an answer is waited for." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "built_in",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, built_in),
			.fallback = "true",
			.doc = "/me, /shrug, /tableflip and /unflip; /help is there always." },
	{ .key = "commands",
			.type = CHATD_T_LIST,
			.offset = offsetof(struct conf, commands),
			.sub = command_opts,
			.sub_size = sizeof(struct conf_command),
			.doc = "Commands that other servers answer." },
	{ 0 },
};

/* ---- /help --------------------------------------------------------------------------------- */

static void list(const struct self *self,
		void (*add)(struct chatd_json *, const char *, const char *), struct chatd_json *out)
{
	const char *help = NULL, *name;
	add(out, "help", "which commands there are");
	for (size_t i = 0; self->conf->built_in && (name = words_name(i, &help)) != NULL; i++) {
		add(out, name, help);
	}
	for (size_t i = 0; i < self->n_commands; i++) {
		add(out, self->commands[i].conf->name, self->commands[i].conf->help);
	}
}

static void add_line(struct chatd_json *out, const char *name, const char *help)
{
	if (out->n) {
		chatd_json_lit(out, "\n");
	}
	chatd_json_lit(out, "/");
	chatd_json_raw(out, name, strlen(name));
	if (*help) {
		chatd_json_lit(out, " ");
		chatd_json_raw(out, help, strlen(help));
	}
}

static void add_object(struct chatd_json *out, const char *name, const char *help)
{
	chatd_json_next(out);
	chatd_json_lit(out, "{");
	chatd_json_member(out, "name", text(name));
	chatd_json_member(out, "help", text(help));
	chatd_json_lit(out, "}");
}

/* ---- what is said -------------------------------------------------------------------------- */

static chatd_verdict change(
		struct self *self, chatd_call *call, json_t *body, struct chatd_str says)
{
	struct chatd_json out;
	(void)json_object_del(body, "message"); /* the other name of it */
	(void)json_object_set_new(body, "content", json_stringn(says.p, says.n));
	chatd_json_init(&out, NULL, 0);
	chatd_json_value(&out, body);
	chatd_msg *own = out.failed ? NULL : self->h->call_edit(call);
	chatd_status rc = own ? self->h->msg_body_set(own, chatd_json_str(&out)) : -ENOMEM;
	chatd_json_free(&out);
	return rc < 0 ? rc : CHATD_NEXT;
}

/* 1: a built-in one, with the verdict. */
static int built_in(
		struct self *self, chatd_call *call, json_t *body, const struct said *s, chatd_verdict *ret)
{
	const struct chatd_host *h = self->h;
	struct chatd_json out;
	chatd_json_init(&out, NULL, 0);
	int known = self->conf->built_in &&
			words_say(&out, s->name, s->rest, h->ident_name(h->call_ident(call)));
	if (known && out.failed) {
		*ret = -ENOMEM;
	} else if (known && !out.n) {
		*ret = h->reject(
				call, "VALIDATION", "write something after /%.*s", (int)s->name.n, s->name.p);
	} else if (known) {
		*ret = change(self, call, body, chatd_json_str(&out));
	}
	chatd_json_free(&out);
	return known;
}

static chatd_verdict run(struct self *self, chatd_call *call, json_t *body, const struct said *s)
{
	const struct chatd_host *h = self->h;
	chatd_verdict v = CHATD_NEXT;
	if (chatd_str_same(s->name, CHATD_LIT("help"))) {
		struct chatd_json out;
		chatd_json_init(&out, NULL, 0);
		list(self, add_line, &out);
		tell(self, h->call_session(call), s, chatd_json_str(&out));
		chatd_json_free(&out);
		return CHATD_DROP;
	}
	if (built_in(self, call, body, s, &v)) {
		return v;
	}
	for (size_t i = 0; i < self->n_commands; i++) {
		if (chatd_str_same(s->name, text(self->commands[i].conf->name))) {
			return ask(self, call, &self->commands[i], s);
		}
	}
	return h->reject(call, "UNKNOWN_COMMAND",
			"there is no command /%.*s; /help lists those there are, "
			"and // at the beginning says a slash",
			(int)s->name.n, s->name.p);
}

static struct chatd_str content_of(const json_t *body)
{
	struct chatd_str content = chatd_json_text(json_object_get(body, "content"));
	return content.p ? content : chatd_json_text(json_object_get(body, "message"));
}

/* Most messages have none and are not parsed here; what is wrong with one says chat. */
static int may_be(const struct chatd_host *h, chatd_call *call)
{
	struct chatd_str dest = h->msg_dest(h->call_msg(call)), body = h->msg_body(h->call_msg(call));
	return chatd_chat_dest(dest) == CHATD_CHAT_USER &&
			(memmem(body.p, body.n, "\"/", 2) || memmem(body.p, body.n, "\"\\", 2));
}

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	char why[CHATD_JSON_WHY];
	(void)wself;
	/* What a program says is said: two of them could go on for ever. */
	if (!may_be(h, call) ||
			(h->ident_flags(h->call_ident(call)) & (CHATD_ID_SYSTEM | CHATD_ID_BOT))) {
		return CHATD_NEXT;
	}
	json_t *body = chatd_json_parse(h->msg_body(h->call_msg(call)), why);
	struct chatd_str content = body ? content_of(body) : chatd_str_of(NULL, 0);
	struct said s = { .client_id = chatd_json_text(json_object_get(body, "clientId")) };
	(void)chatd_chat_target_of(body, &s.to, &s.room); /* what is wrong with them says chat */
	chatd_verdict v = CHATD_NEXT;
	if (s.client_id.n && s.client_id.n <= 128) {
		h->reply(call, "clientId", s.client_id);
	}
	if (json_is_true(json_object_get(body, "encrypted"))) {
		v = CHATD_NEXT; /* nobody here can read it */
	} else if (content.n > 1 && memcmp(content.p, "//", 2) == 0) {
		char *says = strndup(content.p + 1, content.n - 1); /* change() frees what content is */
		v = says ? change(self, call, body, chatd_str_of(says, content.n - 1)) : -ENOMEM;
		free(says);
	} else if (words_split(content, &s.name, &s.rest)) {
		v = run(self, call, body, &s);
	}
	json_decref(body);
	return v;
}

/* ---- REST -------------------------------------------------------------------------------------- */

struct waiting {
	struct self *self;
	chatd_req *req;
};

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct waiting *w = arg;
	const struct chatd_http *http = w->self->http->vt;
	struct chatd_json out;
	(void)who;
	if (rc < 0) {
		http->problem(w->req, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_json_init(&out, NULL, 0);
	chatd_json_lit(&out, "{\"commands\":[");
	list(w->self, add_object, &out);
	chatd_json_lit(&out, "]}");
	if (out.failed) {
		http->problem(w->req, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		http->respond(w->req, 200, "application/json", chatd_json_str(&out));
	}
	chatd_json_free(&out);
}

static void on_request(void *arg, chatd_req *req)
{
	struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	struct waiting *w = http->req_alloc(req, sizeof(*w));
	if (!w) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	*w = (struct waiting){ self, req };
	http->identify(req, on_identified, w);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	const struct conf_command *c = conf->commands.items;
	struct chatd_webhook_key key;
	chatd_status rc = 0;
	if (conf->commands.n && !h->service(ctx, CHATD_FETCH)) {
		rc = h->conf_error(ctx, "commands",
				"commands of other servers need the plugin fetch: put \"fetch: {}\" into the "
				"configuration");
	}
	for (size_t i = 0; i < conf->commands.n; i++) {
		const char *help = NULL, *name = NULL;
		for (size_t k = 0; conf->built_in && (name = words_name(k, &help)) != NULL; k++) {
			if (strcmp(name, c[i].name) == 0) {
				break;
			}
		}
		for (size_t k = 0; k < i && !name; k++) {
			name = strcmp(c[k].name, c[i].name) == 0 ? c[k].name : NULL;
		}
		if (!words_name_ok(text(c[i].name))) {
			rc = h->conf_error(ctx, "commands",
					"\"%s\" cannot be a command; use 1 to 32 of a-z, 0-9 and -, a letter first",
					c[i].name);
		} else if (name || strcmp(c[i].name, "help") == 0) {
			rc = h->conf_error(ctx, "commands",
					"there is a command \"%s\" already; choose another name", c[i].name);
		} else if (strncmp(c[i].url, "https://", 8) != 0 && strncmp(c[i].url, "http://", 7) != 0) {
			rc = h->conf_error(ctx, "commands", "\"%s\" is no http:// or https:// URL", c[i].url);
		} else if (!chatd_webhook_key(&key, c[i].secret)) {
			rc = h->conf_error(ctx, "commands",
					"the secret of /%s is too short or no BASE64: echo whsec_$(openssl rand -base64 32)",
					c[i].name);
		}
	}
	return rc;
}

static chatd_status compile(struct self *self)
{
	const struct conf_command *c = self->conf->commands.items;
	self->commands = self->h->mem_alloc((self->conf->commands.n + 1) * sizeof(*self->commands));
	if (!self->commands || sodium_init() < 0) {
		return -ENOMEM;
	}
	self->n_commands = self->conf->commands.n;
	for (size_t i = 0; i < self->n_commands; i++) {
		self->commands[i].conf = &c[i];
		(void)chatd_webhook_key(&self->commands[i].key, c[i].secret);
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
	*ret_self = self;
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->http = h->service(ctx, CHATD_HTTP);
	self->fetch = h->service(ctx, CHATD_FETCH);
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	self->rooms = h->service(ctx, CHATD_ROOMS);
	chatd_status rc = compile(self);
	/* Before the filters: they judge what will be seen. */
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK + 20, on_message_in);
	if (rc < 0 || !self->http) {
		return rc;
	}
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route r = { .struct_size = sizeof(r),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/chat/commands",
		.handle = on_request,
		.arg = self };
	return http->route(self->http->obj, ctx, &r);
}

static int32_t busy(void *selfp)
{
	return atomic_load(&((struct self *)selfp)->asks) > 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->commands);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_HTTP, CHATD_FETCH, CHATD_ROOMS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE,
	.name = "slash",
	.version = "0.1.0",
	.summary = "Commands in what is said: /me, /shrug, /help, and those of other servers",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
	.busy = busy,
};

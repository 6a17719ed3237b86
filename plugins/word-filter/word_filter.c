/* SPDX-License-Identifier: Apache-2.0 */
/* Messages are looked through for words of lists: masked, refused, or reported to moderators. */
#include "lists.h"

#include <chatd-sdk/chat.h>
#include <chatd/plugin.h>
#include <chatd/reports.h>

#define FLAG_HEADER "chatd-flagged"

enum { CLIENT_ID_MAX = 128, COMPLAIN_MS = 60000 };

struct conf {
	struct chatd_list lists;
	int32_t confusables;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *reports; /* NULL: nobody takes them */
	struct lists *first; /* as they were at the start; until the workers have them */
};

struct worker { /* wself */
	struct eye *eye;
	int64_t complained;
};

static const char *const actions[] = { "mask", "refuse", "flag", NULL };

static const struct chatd_opt list_opts[] = {
	{ .key = "file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED | CHATD_O_PATH,
			.offset = offsetof(struct list_conf, file),
			.doc = "One word or /pattern/ a line." },
	{ .key = "action",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct list_conf, action),
			.fallback = "mask",
			.choices = actions,
			.doc = "What becomes of a message: mask: with stars in their place; refuse: it is not "
				   "sent; flag: it is, and moderators are told." },
	{ 0 },
};

static const struct chatd_opt opts[] = {
	{ .key = "lists",
			.type = CHATD_T_LIST,
			.flags = CHATD_O_REQUIRED | CHATD_O_LIVE,
			.offset = offsetof(struct conf, lists),
			.doc = "Files of words, which SIGHUP reads again.",
			.sub = list_opts,
			.sub_size = sizeof(struct list_conf) },
	{ .key = "confusables",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, confusables),
			.fallback = "true",
			.doc = "Letters of other scripts count as the Latin ones that they look like." },
	{ 0 },
};

/* ---- the hook ------------------------------------------------------------------------ */

/* The member that holds what is said, as chat reads it; NULL: none.  What is encrypted cannot be
 * looked through. */
static const char *text_of(const json_t *root)
{
	if (json_is_true(json_object_get(root, "encrypted"))) {
		return NULL;
	}
	return json_string_length(json_object_get(root, "content")) ? "content"
			: json_is_string(json_object_get(root, "message"))  ? "message"
																: NULL;
}

static chatd_status replace(struct self *self, chatd_call *call, json_t *root, const char *member,
		const struct sight *s)
{
	const struct chatd_host *h = self->h;
	size_t n = 0;
	char *text = sight_masked(s, &n);
	json_t *value = text ? json_stringn(text, n) : NULL;
	free(text);
	if (!value || json_object_set_new(root, member, value) < 0) {
		return -ENOMEM;
	}
	if (strcmp(member, "content") == 0) {
		(void)json_object_del(root, "message"); /* the other name of it, which said the same */
	}
	char *body = json_dumps(root, JSON_COMPACT);
	chatd_msg *m = body ? h->call_edit(call) : NULL;
	chatd_status rc = m ? h->msg_body_set(m, chatd_str_of(body, strlen(body))) : -ENOMEM;
	free(body);
	return rc;
}

/* The header is this plugin's own: whoever sets it gets no report made. */
static chatd_status mark(struct self *self, chatd_call *call, int32_t list)
{
	const struct chatd_host *h = self->h;
	char number[16];
	if (!list && !h->msg_get(h->call_msg(call), FLAG_HEADER).p) {
		return 0;
	}
	chatd_msg *m = h->call_edit(call);
	int n = snprintf(number, sizeof(number), "%d", (int)list);
	return m ? h->msg_set(m, FLAG_HEADER, chatd_str_of(list ? number : NULL, (size_t)n)) : -ENOMEM;
}

static chatd_verdict refuse(struct self *self, chatd_call *call, const json_t *root)
{
	const json_t *id = json_object_get(root, "clientId");
	size_t n = json_string_length(id);
	if (n && n <= CLIENT_ID_MAX) {
		self->h->reply(call, "clientId", chatd_str_of(json_string_value(id), n));
	}
	return self->h->reject(call, "VALIDATION",
			"content: there is a word in it that is not allowed here; say it in another way");
}

static void complain(struct self *self, chatd_call *call, struct worker *at)
{
	int64_t now = self->h->now_ms(self->h->call_worker(call));
	if (!at->complained || now - at->complained >= COMPLAIN_MS) {
		at->complained = now;
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"a pattern takes too long for some texts and does not find anything in them; write "
				"it without repetitions inside of repetitions");
	}
}

static chatd_verdict judge(struct self *self, chatd_call *call, struct worker *at, json_t *root)
{
	struct sight s;
	const char *member = text_of(root);
	const json_t *value = member ? json_object_get(root, member) : NULL;
	if (!value) {
		chatd_status rc = mark(self, call, 0);
		return rc < 0 ? rc : CHATD_NEXT;
	}
	chatd_status rc = eye_look(
			at->eye, chatd_str_of(json_string_value(value), json_string_length(value)), &s);
	if (rc < 0) {
		return rc;
	}
	if (s.gave_up) {
		complain(self, call, at);
	}
	chatd_verdict v = s.refused ? refuse(self, call, root) : CHATD_NEXT;
	if (!s.refused) {
		rc = s.masks ? replace(self, call, root, member, &s) : 0;
		rc = rc < 0 ? rc : mark(self, call, s.flagged);
	}
	sight_free(&s);
	return rc < 0 ? rc : v;
}

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	char why[CHATD_JSON_WHY];
	if (!chatd_chat_dest(h->msg_dest(m))) {
		return CHATD_NEXT;
	}
	json_t *root = chatd_json_parse(h->msg_body(m), why);
	if (!root) {
		return CHATD_NEXT; /* chat says what is wrong */
	}
	chatd_verdict v = judge(self, call, wself, root);
	json_decref(root);
	return v;
}

/* It has its id only now. */
static chatd_verdict on_sent(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	(void)wself;
	const chatd_msg *m = h->call_msg(call);
	if (!chatd_chat_dest(h->msg_dest(m)) || !h->msg_get(m, FLAG_HEADER).p) {
		return CHATD_NEXT;
	}
	struct chatd_str id = h->replied(call, "message-id");
	const struct chatd_reports *reports = self->reports ? self->reports->vt : NULL;
	if (reports && id.n && chatd_chat_dest(h->msg_dest(m)) != CHATD_CHAT_EDIT) {
		const struct chatd_report r = { .struct_size = sizeof(r),
			.message = id,
			.by = CHATD_LIT("word-filter"),
			.reason = CHATD_LIT("words"),
			.note = h->msg_get(m, FLAG_HEADER) };
		reports->report(self->reports->obj, h->call_worker(call), &r);
	}
	return CHATD_NEXT;
}

/* ---- life -------------------------------------------------------------------------------- */

static int flags_any(const struct conf *conf)
{
	const struct list_conf *l = conf->lists.items;
	size_t i = 0;
	while (i < conf->lists.n && l[i].action != ACTION_FLAG) {
		i++;
	}
	return i < conf->lists.n;
}

static struct lists *read_lists(const struct conf *conf, char why[LISTS_WHY])
{
	return lists_read(conf->lists.items, conf->lists.n, conf->confusables, why);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf)
{
	char why[LISTS_WHY];
	struct lists *l = read_lists(conf, why);
	if (!l) {
		return h->conf_error(ctx, "lists", "%s", why);
	}
	lists_unref(l);
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	char why[LISTS_WHY];
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){
		.h = h, .ctx = ctx, .conf = conf, .reports = h->service(ctx, CHATD_REPORTS)
	};
	*ret_self = self;
	self->first = read_lists(conf, why);
	if (!self->first) {
		return h->fail(ctx, -EINVAL, "%s", why);
	}
	h->log(ctx, CHATD_LOG_INFO, "%zu words and patterns", lists_count(self->first));
	if (!self->reports && flags_any(conf)) {
		h->log(ctx, CHATD_LOG_WARN,
				"a list has the action flag, and nobody takes reports: put \"moderation: {}\" into "
				"the configuration, or choose mask or refuse");
	}
	chatd_status rc = h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHANGE, on_message_in);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_sent, CHATD_ORDER_OBSERVE, on_sent);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	struct worker *at = wself;
	(void)w;
	at->eye = eye_create(self->first, self->conf->confusables);
	return at->eye ? 0 : -ENOMEM;
}

struct change {
	struct self *self;
	chatd_worker *w;
	struct lists *lists;
};

static void on_change(void *arg)
{
	struct change *c = arg;
	const struct chatd_host *h = c->self->h;
	struct worker *at = h->worker_self(c->self->ctx, c->w);
	struct eye *eye = at->eye ? eye_create(c->lists, c->self->conf->confusables) : NULL;
	if (eye) {
		eye_destroy(at->eye);
		at->eye = eye;
	}
	lists_unref(c->lists);
	h->mem_free(c);
}

static chatd_status reload(void *selfp, const void *conf)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	char why[LISTS_WHY];
	struct lists *l = read_lists(conf, why);
	if (!l) {
		return h->fail(self->ctx, -EINVAL, "%s", why);
	}
	h->log(self->ctx, CHATD_LOG_INFO, "%zu words and patterns", lists_count(l));
	for (int32_t i = 0; i < h->worker_count(); i++) {
		struct change *c = h->mem_alloc(sizeof(*c));
		if (!c) {
			continue;
		}
		*c = (struct change){ self, h->worker_at(i), lists_ref(l) };
		if (h->post(c->w, on_change, c) < 0) {
			lists_unref(l);
			h->mem_free(c);
		}
	}
	lists_unref(l);
	return 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct worker *at = wself;
	(void)selfp;
	(void)w;
	eye_destroy(at->eye);
	at->eye = NULL;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	lists_unref(self->first);
	self->h->mem_free(self);
}

static const char *const wants[] = { CHATD_REPORTS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "word-filter",
	.version = "0.1",
	.summary = "looks messages through for words of lists: masks, refuses, reports",
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.reload = reload,
	.worker_stop = worker_stop,
	.fini = fini,
};

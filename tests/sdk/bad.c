/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that does one thing wrong: -DBAD=NAME says which.  See tests/sdk/tool.py. */
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/store.h>
#include <chatd/stream.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum bad {
	GOOD,
	EXPORTS,
	UNDEFINED,
	NO_SYMBOL,
	STACK,
	CONSTRUCTOR,
	NAME,
	INTERFACE,
	ITS_OWN,
	FLAGS,
	NO_VERSION,
	KEY,
	NO_DOC,
	SECRET_NUMBER,
	CHOICE,
	LIVE,
	LIVE_TIED,
	DEFAULT,
	INIT_FAILS,
	CRASH,
	EXITS,
	HANGS,
	MEM,
	MSG,
	MALLOC,
	FD,
	THREAD,
	TIMER,
	FOREIGN,
	LATE,
	UNLISTED,
	NO_ANSWER,
	FORGETS,
	RIVALS,
	NEEDS_TRUTH,
	PICKY,
	SWEEP,
	DEPARTED,
	TWICE_FREED,
	FUZZ,
	SILENT
};

struct conf {
	int64_t number;
	int32_t choice;
	const char *text;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *presence, *store;
	struct chatd_timer timer;
};

struct ask {
	struct self *self;
	chatd_worker *worker;
	chatd_token token;
};

/* The wrong deed is one of many branches, so that nothing else is different. */
static int is(enum bad b)
{
	return b == BAD;
}

#if BAD_EXPORTS
CHATD_EXPORT int exported_too(void);
CHATD_EXPORT int exported_too(void)
{
	return 1;
}
#endif
#if BAD_UNDEFINED
extern int nobody_has_this(int);
#endif
#if BAD_CONSTRUCTOR
__attribute__((constructor)) static void on_load(void)
{
	abort();
}
#endif

static void nothing(void *arg)
{
	(void)arg;
}

static void *idle(void *arg)
{
	(void)arg;
	pause();
	return NULL;
}

static void on_cancel(void *arg)
{
	struct ask *a = arg;
	if (is(TWICE_FREED)) {
		a->self->h->mem_free(a); /* and on_answer() will, too */
	}
}

static void on_answer(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	(void)rc;
	(void)online;
	(void)n;
	if (is(DEPARTED)) { /* whoever asked may have gone: call_of() is NULL then */
		h->reply(h->call_of(a->worker, a->token), "a", CHATD_LIT("b"));
	}
	(void)h->resume(a->token, CHATD_NEXT, NULL, NULL);
	h->mem_free(a);
}

static chatd_verdict ask(struct self *self, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	const struct chatd_presence *p = self->presence->vt;
	const struct chatd_str who = CHATD_LIT("bob");
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->worker = h->call_worker(call);
	a->token = h->suspend(call, on_cancel, a);
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	chatd_status rc = p->get(self->presence->obj, a->worker, &who, 1, on_answer, a);
	if (rc < 0) {
		(void)h->resume(a->token, rc, NULL, NULL);
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

/* Not wrong, but hard to please: one word alone, and only if a record has it. */
static void on_found(void *arg, chatd_status rc, const struct chatd_store_answer *answer)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	struct chatd_str word = rc == 0 ? answer->records[0].value : CHATD_LIT("");
	int good = word.n == 5 && memcmp(word.p, "xyzzy", 5) == 0;
	(void)h->resume(a->token, good ? CHATD_ACCEPT : CHATD_REJECT, good ? NULL : "VALIDATION",
			good ? NULL : "no such word");
	h->mem_free(a);
}

static chatd_verdict on_word(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const struct chatd_store *store = self->store->vt;
	struct chatd_str word = h->msg_body(h->call_msg(call));
	const struct chatd_store_record_key key = { .struct_size = sizeof(key),
		.space = CHATD_LIT("bad"),
		.key = CHATD_LIT("key"),
		.wall = h->wall_ms() };
	(void)wself;
	if (word.n != 5 || memcmp(word.p, "xyzzy", 5) != 0) {
		return h->reject(call, "VALIDATION", "no such word");
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->token = h->suspend(call, NULL, NULL);
	chatd_status rc = a->token
			? store->record_get(self->store->obj, h->call_worker(call), &key, on_found, a)
			: -EBUSY;
	if (rc < 0) {
		if (a->token) {
			(void)h->resume(a->token, rc, NULL, NULL);
		}
		chatd_verdict verdict = a->token ? CHATD_WAIT : rc;
		h->mem_free(a);
		return verdict;
	}
	return CHATD_WAIT;
}

static void start_thread(void)
{
	pthread_t t;
	if (pthread_create(&t, NULL, idle, NULL) == 0) {
		pthread_detach(t);
	}
}

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	char *volatile nowhere = NULL;
	(void)wself;
	switch ((enum bad)BAD) {
	case CRASH:
		*nowhere = 1;
		break;
	case EXITS:
		exit(3);
	case HANGS:
		pause();
		break;
	case MEM:
		return h->mem_alloc(7) ? CHATD_NEXT : -ENOMEM;
	case MSG:
		(void)h->msg_ref(h->call_msg(call));
		break;
	case MALLOC:
		return malloc(1000) ? CHATD_NEXT : -ENOMEM;
	case FD:
		return open("/dev/null", O_RDONLY) >= 0 ? CHATD_NEXT : -EIO;
	case THREAD:
		start_thread();
		break;
	case TIMER:
		h->timer_set(h->call_worker(call), &self->timer, 1000000000, nothing, NULL);
		break;
	case FOREIGN:
		(void)h->now_ms(h->worker_at(h->worker_index(h->call_worker(call)) ? 0 : 1));
		break;
	case LATE:
		return h->hook(self->ctx, chatd_hook_message_in, 1, on_message_in);
	case UNLISTED:
		(void)h->service(self->ctx, "chatd.rooms/1");
		break;
	case FORGETS:
		return h->suspend(call, NULL, NULL) ? CHATD_WAIT : -EBUSY;
	case SWEEP:
		nowhere = h->call_alloc(call, 10);
		nowhere[0] = 1;
		break;
	case DEPARTED:
	case TWICE_FREED:
		return ask(self, call);
	default:
		break;
	}
	return CHATD_NEXT;
}

static void on_get(void *arg, chatd_req *req)
{
	const struct chatd_http *http = arg;
	if (!is(NO_ANSWER)) {
		http->respond(req, 200, "text/plain", CHATD_LIT("x"));
	}
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	if (is(NEEDS_TRUTH) && strcmp(conf->text, "truth") != 0) {
		return h->conf_error(ctx, "text", "the truth is needed");
	}
	if (is(FUZZ) && conf->text && !*conf->text) {
		abort();
	}
	return is(SILENT) && conf->number == 0 ? -EINVAL : 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *http = h->service(ctx, CHATD_HTTP);
	const struct chatd_http *vt = http->vt;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->presence = h->service(ctx, CHATD_PRESENCE);
	*ret_self = self;
	if (is(INIT_FAILS)) {
		return h->fail(ctx, -EADDRINUSE, "the address is taken");
	}
#if BAD_UNDEFINED
	(void)nobody_has_this(1);
#endif
	const struct chatd_route route = { .struct_size = sizeof(route),
		.methods = CHATD_GET,
		.path = "/api/bad/{id}",
		.handle = on_get,
		.arg = (void *)(uintptr_t)vt };
	chatd_status rc = vt->route(http->obj, ctx, &route);
	self->store = is(PICKY) ? h->service(ctx, CHATD_STORE) : NULL;
	if (rc == 0 && is(PICKY)) {
		rc = h->app(ctx, "bad.word", on_word);
	}
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const choices[] = { "red", "green", NULL };

static const struct chatd_opt opts[] = {
	{ .key = BAD == KEY ? "Number!" : "number",
			.type = CHATD_T_INT,
			.flags = BAD == SECRET_NUMBER ? CHATD_O_SECRET
					: BAD == LIVE         ? CHATD_O_LIVE
										  : 0,
			.offset = offsetof(struct conf, number),
			.fallback = BAD == DEFAULT ? "many" : "1",
			.doc = BAD == NO_DOC ? NULL : "A number." },
	{ .key = "choice",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, choice),
			.fallback = BAD == CHOICE ? "blue" : "red",
			.choices = choices,
			.doc = "A colour." },
	{ .key = "text",
			.type = CHATD_T_STRING,
			.flags = BAD == NEEDS_TRUTH ? CHATD_O_REQUIRED : 0,
			.offset = offsetof(struct conf, text),
			.doc = "A text." },
	{ 0 },
};

static const char *const needs[] = { CHATD_HTTP, CHATD_PRESENCE,
	BAD == PICKY               ? CHATD_STORE
			: BAD == LIVE_TIED ? CHATD_NET
							   : NULL,
	NULL };
static const char *const provides[] = { BAD == INTERFACE ? "presence"
			: BAD == ITS_OWN                             ? CHATD_HTTP
														 : "bad.x/1",
	NULL };

#if !BAD_NO_SYMBOL
CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = BAD == NAME ? "worse" : "bad",
	.version = BAD == NO_VERSION ? NULL : "1",
	.summary = "does one thing wrong",
	.flags = BAD == FLAGS      ? 1 << 20
			: BAD == LIVE_TIED ? CHATD_PLUGIN_LIVE
			: BAD == RIVALS    ? 0
							   : CHATD_PLUGIN_ONCE,
	.provides = BAD == INTERFACE || BAD == ITS_OWN ? provides : NULL,
	.needs = needs,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.fini = fini,
};
#endif

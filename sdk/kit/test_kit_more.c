/* SPDX-License-Identifier: Apache-2.0 */
/* Does the kit find what it promises to find about answers and connections?  As test_kit.c. */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/kit_net.h>
#include <chatd/store.h>
#include <chatd/stream.h>
#include <chatd/transport.h>

#include "deeds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum deed {
	GOOD,
	/* of an answer that it waits for */
	FORGETS_DEPARTURE, /* whoever asked may have gone */
	FORGETS_FAILURE,   /* the answer may be an error, without values */
	FORGETS_LATE,      /* the deadline's cancel() and the answer both free */
	FREES_AT_ONCE,     /* an answer that comes twice */
	/* as a provider */
	ANSWERS_TWICE,
	ANSWERS_INSIDE,
	ANSWERS_ELSEWHERE,
	ANSWERS_NEVER,
	/* with a stream */
	SENDS_AFTER_CLOSE,
	TAKES_TOO_MUCH,
	NEITHER_TAKES_NOR_CLOSES,
	FREES_BEFORE_DONE, /* done() may come after the call that asks */
	/* with others */
	ASKS_NOBODY,
	HOLDS_THE_STORE
};

static enum deed the_deed; /* of this child: a sweep's function has no argument */

struct self {
	const struct chatd_host *h;
	const struct chatd_service *presence, *net, *fetch, *sessions;
};

struct ask {
	struct self *self;
	chatd_worker *w;
	chatd_token token;
	int cancelled;
};

/* ---- asking ----------------------------------------------------------------- */

static void on_cancel(void *arg)
{
	struct ask *a = arg;
	if (the_deed == FORGETS_LATE) {
		a->self->h->mem_free(a);
		return;
	}
	a->cancelled = 1;
}

static void on_online(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	(void)n;
	if (the_deed == FORGETS_DEPARTURE) {
		h->reply(h->call_of(a->w, a->token), "x", CHATD_LIT("y"));
	}
	int there = rc == 0 || the_deed == FORGETS_FAILURE ? online[0] : 0;
	if (!a->cancelled) {
		(void)h->resume(a->token, there ? CHATD_NEXT : CHATD_DROP, NULL, NULL);
	}
	h->mem_free(a);
}

static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const struct chatd_presence *p = self->presence->vt;
	const struct chatd_str who = CHATD_LIT("bob");
	struct ask *a = h->mem_alloc(sizeof(*a));
	(void)wself;
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->w = h->call_worker(c);
	a->token = h->suspend(c, on_cancel, a);
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	chatd_status rc = p->get(self->presence->obj, a->w, &who, 1, on_online, a);
	if (rc < 0) {
		(void)h->resume(a->token, rc, NULL, NULL);
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

/* ---- answering ----------------------------------------------------------------- */

typedef void answer_fn(void *arg);
struct service {
	chatd_status (*ask)(void *obj, chatd_worker *, answer_fn *fn, void *arg);
};

static chatd_status service_ask(void *obj, chatd_worker *w, answer_fn *fn, void *arg)
{
	const struct self *self = obj;
	const struct chatd_host *h = self->h;
	switch (the_deed) {
	case ANSWERS_INSIDE:
		fn(arg);
		return 0;
	case ANSWERS_NEVER:
		return 0;
	case ANSWERS_ELSEWHERE:
		return h->post(h->worker_at(1), fn, arg);
	case ANSWERS_TWICE: {
		chatd_status rc = h->post(w, fn, arg);
		return rc < 0 ? rc : h->post(w, fn, arg);
	}
	default:
		return h->post(w, fn, arg);
	}
}

static const struct service service = { .ask = service_ask };

/* ---- streams ------------------------------------------------------------------- */

static const struct self *the_self;
static int inside;

static void on_identified(void *arg, const struct chatd_outcome *o, const chatd_ident *ident)
{
	(void)o;
	(void)ident;
	if (the_deed != FREES_BEFORE_DONE || !inside) {
		the_self->h->mem_free(arg);
	}
}

static void identify(const struct self *self)
{
	const struct chatd_sessions *sessions = self->sessions->vt;
	void *asked = self->h->mem_alloc(1);
	chatd_msg *creds = asked ? self->h->msg_new(CHATD_LIT(""), CHATD_LIT("")) : NULL;
	if (!creds) {
		self->h->mem_free(asked);
		return;
	}
	inside = 1;
	sessions->identify(self->sessions->obj, self->h->worker_at(0), creds, on_identified, asked);
	inside = 0;
	self->h->msg_unref(creds);
	if (the_deed == FREES_BEFORE_DONE) {
		self->h->mem_free(asked);
	}
}

static size_t on_data(void *arg, const char *p, size_t n)
{
	chatd_stream *s = arg;
	(void)p;
	s->ops->close(s);
	identify(the_self);
	if (the_deed == SENDS_AFTER_CLOSE) {
		(void)s->ops->queued(s);
	}
	return the_deed == TAKES_TOO_MUCH ? n + 1 : n;
}

static void on_gone(void *arg, int32_t why)
{
	(void)arg;
	(void)why;
}

static const struct chatd_stream_user user = {
	.struct_size = sizeof(user), .data = on_data, .gone = on_gone
};

static void on_accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	(void)arg;
	(void)w;
	if (the_deed != NEITHER_TAKES_NOR_CLOSES) {
		s->ops->attach(s, &user, s);
	}
}

/* It may ask here whether a service will be there, and no more. */
static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf)
{
	const struct chatd_service *p = h->service(ctx, CHATD_PRESENCE);
	(void)conf;
	return p && !p->vt ? 0 : -EINVAL;
}

/* ---- life ------------------------------------------------------------------------ */

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->presence = h->service(ctx, CHATD_PRESENCE);
	self->net = h->service(ctx, CHATD_NET);
	self->fetch = h->service(ctx, CHATD_FETCH);
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	*ret_self = self;
	the_self = self;
	const struct chatd_net *net = self->net->vt;
	const struct chatd_listen l = {
		.struct_size = sizeof(l), .address = "127.0.0.1:0", .kind = "x", .accepted = on_accepted
	};
	chatd_status rc = net->listen(self->net->obj, ctx, &l);
	rc = rc < 0 ? rc : h->provide(ctx, "villain.x/1", &service, self);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_in);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_PRESENCE, CHATD_NET, CHATD_FETCH, CHATD_SESSIONS, NULL };
static const char *const provides[] = { "villain.x/1", NULL };
static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "villain", .version = "1",
	.summary = "does one wrong thing", .needs = needs, .provides = provides, .check = check,
	.init = init, .fini = fini };

/* ---- the children ------------------------------------------------------------------- */

struct asked {
	struct kit *k;
	struct kit_question *question;
};

static void on_answer(void *arg)
{
	struct asked *a = arg;
	kit_answered(a->question);
}

static void ask(void *arg)
{
	struct asked *a = arg;
	struct chatd_service s = kit_provided(a->k, "villain.x/1");
	const struct service *vt = s.vt;
	a->question = kit_ask(a->k, "how much");
	kit_asked(a->question, vt->ask(s.obj, kit_worker(a->k, 0), on_answer, a));
}

static struct kit *fresh(void)
{
	static const struct kit_conf conf = { .workers = 2 };
	return kit_new_with(&plugin, "", &conf);
}

static void messages(void)
{
	struct kit *k = fresh();
	kit_presence(k, "bob", 1);
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_accept(k);
	kit_in(k, "ann", "/app/chat.send", "hi");
	kit_expect_reject(k, "NOT_FOUND", "there is no destination /app/chat.send");
	kit_app(k, "chat.send");
	kit_app(k, "chat.send");
	kit_in(k, "ann", "/app/chat.send", "hi");
	kit_expect_accept(k);
	kit_presence(k, "bob", 0);
	kit_in(k, "ann", "/app/chat.send", "hi");
	kit_expect_drop(k); /* the hook is asked before */
	kit_free(k);
}

static void connection(void)
{
	struct kit *k = fresh();
	kit_feed(kit_connect(k), "hello");
	kit_free(k);
}

static void request_waits(void)
{
	struct kit *k = fresh();
	kit_presence(k, "bob", 1);
	kit_late(k, 1);
	kit_manual(k, 1);
	struct kit_client *ann = kit_open(k, "ann");
	kit_expect_waiting(k, 1);
	kit_run(k);
	kit_expect_accept(k);
	kit_subscribe(ann, "/topic/x");
	kit_expect_waiting(k, 1);
	kit_run(k);
	kit_send(ann, "/topic/x", "hi", (char *)NULL);
	kit_expect_waiting(k, 1);
	kit_cut(ann); /* before any hook was asked */
	kit_manual(k, 0);
	kit_expect_waiting(k, 0);
	kit_late(k, 0);
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

static void commit(void)
{
	if (the_deed == GOOD) {
		kit_sweep(messages);
		kit_trouble(connection);
		request_waits();
	}
	if (the_deed == FREES_BEFORE_DONE) {
		kit_trouble(connection);
	}
	if (the_deed <= FORGETS_LATE) {
		kit_trouble(messages);
	}
	struct kit *k = fresh();
	struct asked a = { .k = k };
	if (the_deed == FREES_AT_ONCE) {
		kit_hold(k, CHATD_PRESENCE, 1);
		kit_in(k, "ann", "/topic/x", "hi");
		kit_answer_twice(k, CHATD_PRESENCE);
	}
	if (the_deed == ASKS_NOBODY) {
		kit_expect_fetched(k, "POST", "https://example.org/", "x");
	}
	if (the_deed == HOLDS_THE_STORE) {
		kit_hold(k, CHATD_STORE, 1);
	}
	kit_on(k, 0, ask, &a);
	struct kit_peer *p = kit_connect(k);
	kit_feed(p, "hello");
	kit_expect_hung_up(p);
	kit_free(k);
}

static void do_deed(int deed)
{
	the_deed = deed;
	commit();
}

/* AddressSanitizer finds it before the kit does, and where it writes to is its user's choice. */
#define FREED_ALREADY "mem_free() of what mem_alloc() did not give"
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#undef FREED_ALREADY
#define FREED_ALREADY ""
#endif
#endif

int main(void)
{
	static const struct deed_row rows[] = {
		{ GOOD, "a good plugin passes, whatever comes", NULL },
		{ FORGETS_DEPARTURE, "an answer to who has left is found", "" },
		{ FORGETS_FAILURE, "an answer that is not looked at is found", "" },
		{ FORGETS_LATE, "an answer after the deadline is found", "" },
		{ FREES_AT_ONCE, "an answer that comes twice is found", "" },
		{ ANSWERS_TWICE, "a provider that answers twice is found", "was answered twice" },
		{ ANSWERS_INSIDE, "a provider that answers at once is found",
				"was answered inside the call that asked" },
		{ ANSWERS_ELSEWHERE, "a provider that answers elsewhere is found",
				"was answered on another thread" },
		{ ANSWERS_NEVER, "a provider that never answers is found", "was never answered" },
		{ SENDS_AFTER_CLOSE, "a stream that is used when closed is found",
				"a stream was used after it was closed" },
		{ TAKES_TOO_MUCH, "data() that takes too much is found", "data() took 6 bytes of 5" },
		{ NEITHER_TAKES_NOR_CLOSES, "a stream that nobody wants is found",
				"neither attached to the stream nor closed it" },
		{ FREES_BEFORE_DONE, "who takes done() to come inside the call is found", FREED_ALREADY },
		{ ASKS_NOBODY, "a request that was not made is found", "sent: nothing" },
		{ HOLDS_THE_STORE, "who holds the store is told how", "kit_store_hold()" },
	};
	return deeds_run(do_deed, rows, (int)(sizeof(rows) / sizeof(rows[0])));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that speaks in a name of its own, asks a server that may not answer, and has an option for which
 * another plugin must be there: what the kit shows a test of that. */
#include <chatd/fetch.h>
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/rooms.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct conf {
	int32_t rooms;
};

struct self {
	const struct chatd_host *h;
	const struct chatd_service *fetch, *sessions;
	const chatd_ident *herald;
};

struct ask {
	struct self *self;
	chatd_token token; /* 0: cancelled */
};

static void on_cancel(void *arg)
{
	struct ask *a = arg;
	a->token = (chatd_token){ 0 };
}

static void on_fetched(void *arg, chatd_status rc, const struct chatd_fetch_answer *answer)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	(void)answer;
	if (a->token) {
		(void)h->resume(a->token, rc < 0 ? CHATD_DROP : CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(a);
}

static chatd_verdict ask_first(struct self *self, chatd_call *c)
{
	const struct chatd_host *h = self->h;
	const struct chatd_fetch *fetch = self->fetch->vt;
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("GET"),
		.url = CHATD_LIT("https://example.org/x"),
		.timeout = 500 };
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->token = h->suspend(c, on_cancel, a);
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	chatd_status rc = fetch->fetch(self->fetch->obj, h->call_worker(c), &r, on_fetched, a);
	if (rc < 0) {
		(void)h->resume(a->token, rc, NULL, NULL);
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

static void on_said(void *arg, const struct chatd_outcome *o)
{
	(void)arg;
	(void)o;
}

static chatd_verdict say(const struct self *self, chatd_call *c)
{
	const struct chatd_host *h = self->h;
	const struct chatd_sessions *sessions = self->sessions->vt;
	chatd_msg *m = h->msg_new(
			CHATD_LIT("/app/chat.send"), CHATD_LIT("{\"to\":\"bob\",\"content\":\"hear\"}"));
	if (!m) {
		return -ENOMEM;
	}
	sessions->input_as(self->sessions->obj, h->call_worker(c), self->herald, m, on_said, NULL);
	h->msg_unref(m);
	return CHATD_NEXT;
}

static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	struct self *self = selfp;
	struct chatd_str body = self->h->msg_body(self->h->call_msg(c));
	(void)wself;
	if (!self->h->call_session(c)) {
		return CHATD_NEXT; /* its own */
	}
	return body.n == 3 && memcmp(body.p, "ask", 3) == 0 ? ask_first(self, c) : say(self, c);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	return conf->rooms && !h->service(ctx, CHATD_ROOMS)
			? h->conf_error(ctx, "rooms", "there is no plugin \"rooms\"")
			: 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.user = CHATD_LIT("herald"),
		.name = CHATD_LIT("Herald"),
		.flags = CHATD_ID_BOT };
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	self->h = h;
	self->fetch = h->service(ctx, CHATD_FETCH);
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	const struct chatd_sessions *sessions = self->sessions->vt;
	self->herald = sessions->make_ident(self->sessions->obj, &who);
	return self->herald ? h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_in) : -ENOMEM;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->ident_unref(self->herald);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_FETCH, CHATD_SESSIONS, NULL };
static const char *const wants[] = { CHATD_ROOMS, NULL };
static const struct chatd_opt opts[] = {
	{ .key = "rooms",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, rooms),
			.fallback = "false",
			.doc = "Whether it is of use in rooms alone." },
	{ 0 },
};
static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "herald", .version = "1",
	.summary = "speaks in a name of its own", .needs = needs, .wants = wants, .opts = opts,
	.conf_size = sizeof(struct conf), .check = check, .init = init, .fini = fini };

/* ---- the tests -------------------------------------------------------------------------------- */

static void what_it_says_in_a_name_is_seen(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_app(k, "chat.send");
	kit_expect_nothing_said(k);
	kit_in(k, "ann", "/topic/x", "hello");
	kit_expect_said(k, "herald", "/app/chat.send", "\"to\":\"bob\"");
	kit_expect_nothing_said(k);
	kit_free(k);
}

static void what_is_not_answered_in_its_time_has_failed(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_fetch_gives(k, 200, "yes");
	kit_in(k, "ann", "/topic/x", "ask");
	kit_expect_accept(k);
	kit_hold(k, CHATD_FETCH, 1);
	kit_in(k, "ann", "/topic/x", "ask");
	kit_advance(k, 499);
	kit_expect_waiting(k, 1);
	kit_advance(k, 1);
	kit_expect_waiting(k, 0);
	kit_expect_drop(k);
	kit_in(k, "ann", "/topic/x", "ask");
	kit_advance(k, 499);
	kit_answer(k, CHATD_FETCH);
	kit_expect_accept(k);
	kit_free(k);
}

static void what_it_merely_wants_may_be_there_or_not(void)
{
	char *alone = kit_complaints(&plugin, "rooms: true"),
		 *beside = kit_complaints_beside(&plugin, "rooms: true");
	int is = alone && strstr(alone, "there is no plugin \"rooms\"") && beside && !*beside;
	free(alone);
	free(beside);
	struct kit *k = kit_new(&plugin, "rooms: true");
	kit_expect(k, is);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(what_it_says_in_a_name_is_seen),
		KIT_TEST(what_is_not_answered_in_its_time_has_failed),
		KIT_TEST(what_it_merely_wants_may_be_there_or_not))

/* SPDX-License-Identifier: Apache-2.0 */
/* Clients as the kit plays them: how they log in, and what becomes of those who do not read. */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/kit_net.h>
#include <chatd/stream.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 600, MAX_QUEUE = 1000, STALL_MS = 5000, BODY = 100 << 10 };

struct self {
	const struct chatd_host *h;
};

static struct {
	const struct self *self;
	int drained, gone;
} seen; /* of the test at hand */

/* ---- a plugin that answers each piece with PIECE bytes ------------------------------------------ */

static size_t on_data(void *arg, const char *p, size_t n)
{
	chatd_stream *s = arg;
	const struct chatd_host *h = seen.self->h;
	chatd_buf *b = h->buf_new(0, PIECE);
	(void)p;
	if (b) {
		memset(h->buf_data(b), '.', PIECE);
		(void)s->ops->send(s, b);
		h->buf_unref(b);
	}
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	(void)arg;
	seen.gone = why;
}

static void on_drained(void *arg)
{
	const chatd_stream *s = arg;
	seen.drained += s->ops->queued(s) == 0;
}

static const struct chatd_stream_user user = {
	.struct_size = sizeof(user), .data = on_data, .gone = on_gone, .drained = on_drained
};

static void on_accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	(void)arg;
	(void)w;
	s->ops->limits(s, MAX_QUEUE, STALL_MS);
	s->ops->attach(s, &user, s);
}

/* What nobody needs who is behind. */
static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	const struct chatd_host *h = ((const struct self *)selfp)->h;
	struct chatd_str body = h->msg_body(h->call_msg(c));
	(void)wself;
	if (body.n && body.p[0] == 'e') {
		chatd_msg *m = h->call_edit(c);
		if (!m) {
			return -ENOMEM;
		}
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
	}
	return CHATD_NEXT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *net = h->service(ctx, CHATD_NET);
	const struct chatd_net *vt = net->vt;
	struct self *self = h->mem_alloc(sizeof(*self));
	const struct chatd_listen l = {
		.struct_size = sizeof(l), .address = "127.0.0.1:0", .kind = "x", .accepted = on_accepted
	};
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	*ret_self = self;
	memset(&seen, 0, sizeof(seen));
	seen.self = self;
	chatd_status rc = vt->listen(net->obj, ctx, &l);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHANGE, on_in);
}

static void fini(void *selfp)
{
	((struct self *)selfp)->h->mem_free(selfp);
}

static const char *const needs[] = { CHATD_NET, CHATD_TOKENS, NULL };
static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "echo", .version = "1",
	.summary = "answers", .needs = needs, .init = init, .fini = fini };

/* ---- logins -------------------------------------------------------------------------------------- */

static void nobody_is_let_in_unasked(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_login(k, 0, (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_let_in(k, KIT_LET_LOGINS | KIT_LET_TOKENS);
	kit_login(k, 0, (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_login(k, 0, CHATD_CRED_LOGIN, "ann", CHATD_CRED_PASSCODE, "any", (char *)NULL);
	kit_expect_user(k, "ann", 0);
	kit_free(k);
}

static void who_shows_nothing_is_a_guest(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_let_in(k, KIT_LET_GUESTS);
	kit_login(k, 0, CHATD_CRED_NICKNAME, "Ann", (char *)NULL);
	kit_expect_user(k, "guest-1", CHATD_ID_ANONYMOUS);
	kit_identify(k, 0, (char *)NULL);
	kit_expect_user(k, "guest-2", CHATD_ID_ANONYMOUS);
	kit_login(k, 0, CHATD_CRED_LOGIN, "ann", CHATD_CRED_PASSCODE, "any", (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_free(k);
}

static void a_token_is_good_until_it_expires(void)
{
	static const char *const creds[] = { CHATD_CRED_BEARER, CHATD_CRED_PASSCODE, CHATD_CRED_TOKEN };
	const struct chatd_claims claims = {
		.struct_size = sizeof(claims), .type = CHATD_TOKEN_ACCESS, .user = CHATD_LIT("ann")
	};
	struct kit *k = kit_new(&plugin, "");
	const char *token = kit_token(k, &claims);
	kit_login(k, 0, CHATD_CRED_BEARER, token, (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL); /* the kit was not asked to */
	kit_let_in(k, KIT_LET_TOKENS | KIT_LET_GUESTS);
	for (size_t i = 0; i < 3; i++) {
		kit_login(k, 0, creds[i], token, (char *)NULL);
		kit_expect_user(k, "ann", 0);
	}
	kit_login(k, 0, CHATD_CRED_BEARER, "another", (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	struct kit_client *ann = kit_login(k, 0, CHATD_CRED_BEARER, token, (char *)NULL);
	kit_advance(k, KIT_TOKEN_MS + 1000);
	kit_expect(k, !kit_is_open(ann));
	kit_login(k, 0, CHATD_CRED_BEARER, token, (char *)NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_free(k);
}

/* ---- who does not read ----------------------------------------------------------------------------- */

static void a_peer_that_does_not_read_is_behind(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_peer *p = kit_connect(k);
	kit_peer_slow(p, 1);
	kit_feed(p, "x");
	kit_expect_nothing_got(p);
	kit_expect(k, kit_peer_queued(p) == PIECE);
	kit_advance(k, STALL_MS - 1);
	kit_peer_slow(p, 0);
	kit_expect_got(p, "...");
	kit_expect(k, seen.drained == 1 && kit_peer_queued(p) == 0);
	kit_advance(k, STALL_MS); /* it was not slow for long */
	kit_expect(k, seen.gone == 0);
	kit_free(k);
}

static void a_peer_too_far_behind_is_ended(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_peer *p = kit_connect(k);
	kit_peer_slow(p, 1);
	kit_feed(p, "x");
	kit_expect(k, seen.gone == 0);
	kit_feed(p, "x");
	kit_expect(k, seen.gone == CHATD_END_SLOW);
	kit_expect_too_slow(p);
	kit_free(k);
}

static void a_peer_that_stalls_is_ended(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_peer *p = kit_connect(k);
	kit_peer_slow(p, 1);
	kit_feed(p, "x");
	kit_advance(k, STALL_MS);
	kit_expect(k, seen.gone == CHATD_END_SLOW);
	kit_expect_too_slow(p);
	kit_free(k);
}

static void send_much(struct kit *k, char first, int n)
{
	char *body = calloc(1, BODY + 1);
	memset(body, first, BODY);
	for (int i = 0; i < n; i++) {
		kit_in(k, "ann", "/topic/x", body);
	}
	free(body);
}

static void a_client_that_does_not_read_gets_it_later(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_client *bob = kit_open(k, "bob");
	if (!kit_is_open(bob)) {
		kit_free(k);
		return;
	}
	kit_subscribe(bob, "/topic/x");
	kit_slow(bob, 1);
	send_much(k, 'm', 2); /* over KIT_QUEUE_SOFT */
	send_much(k, 'e', 1);
	kit_expect_quiet(bob);
	kit_slow(bob, 0);
	kit_expect_delivery(bob, "/topic/x", "mm");
	kit_expect_delivery(bob, "/topic/x", "mm");
	kit_expect_quiet(bob); /* the last one was left out */
	send_much(k, 'e', 1);
	kit_expect_delivery(bob, "/topic/x", "ee");
	kit_free(k);
}

static void a_client_too_far_behind_is_closed(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_client *bob = kit_open(k, "bob");
	if (!kit_is_open(bob)) {
		kit_free(k);
		return;
	}
	kit_subscribe(bob, "/topic/x");
	kit_slow(bob, 1);
	send_much(k, 'm', KIT_QUEUE_MAX / BODY);
	kit_expect(k, kit_is_open(bob));
	send_much(k, 'm', 1);
	kit_expect_closed(bob, KIT_TOO_SLOW);
	kit_free(k);
}

KIT_MAIN(KIT_TEST(nobody_is_let_in_unasked), KIT_TEST(who_shows_nothing_is_a_guest),
		KIT_TEST(a_token_is_good_until_it_expires), KIT_TEST(a_peer_that_does_not_read_is_behind),
		KIT_TEST(a_peer_too_far_behind_is_ended), KIT_TEST(a_peer_that_stalls_is_ended),
		KIT_TEST(a_client_that_does_not_read_gets_it_later),
		KIT_TEST(a_client_too_far_behind_is_closed))

/* SPDX-License-Identifier: Apache-2.0 */
/* A whole plugin: one option, one handler.  Copy it, rename it, change what it does.
 *
 * SEND {"anything"} to /app/hello, and a greeting arrives on /user/queue/hello. */
#include <chatd/plugin.h>

#include <errno.h>
#include <stdio.h>

struct conf {
	const char *greeting;
};

struct self { /* read-only after init(): all workers share it */
	const struct chatd_host *h;
	const struct conf *conf;
};

static const struct chatd_opt opts[] = {
	{ .key = "greeting",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, greeting),
			.fallback = "Hello",
			.doc = "What everyone is greeted with." },
	{ 0 },
};

static chatd_verdict on_hello(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str name = h->ident_name(h->call_ident(call));
	char text[256];
	(void)wself;
	if (h->msg_body(h->call_msg(call)).n > 1024) {
		return h->reject(call, "TOO_LARGE", "a hello has at most 1024 bytes");
	}
	int n = snprintf(text, sizeof(text), "%s, %.*s", self->conf->greeting, (int)name.n, name.p);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	chatd_msg *m = h->msg_new(CHATD_LIT("/user/queue/hello"), chatd_str_of(text, len));
	if (!m) {
		return -ENOMEM;
	}
	chatd_status rc = h->msg_set(m, "content-type", CHATD_LIT("text/plain"));
	if (rc == 0) {
		rc = h->publish_user(h->call_worker(call), h->ident_user(h->call_ident(call)), m);
	}
	h->msg_unref(m);
	return rc < 0 ? rc : CHATD_ACCEPT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->conf = conf;
	*ret_self = self;
	return h->app(ctx, "hello", on_hello);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "hello",
	.version = "0.1",
	.summary = "greets whoever says hello",
	.flags = CHATD_PLUGIN_ONCE, /* there is one /app/hello */
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};

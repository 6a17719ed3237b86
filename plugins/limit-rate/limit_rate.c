/* SPDX-License-Identifier: Apache-2.0 */
/* How much anybody may send, subscribe, connect and call: life of the plugin. */
#include "limit.h"

#include <errno.h>

enum { TIDY_MS = 250 };

/** wself: the one worker that looks after what is idle. */
struct tidy {
	const struct self *self;
	chatd_worker *w;
	chatd_watch *watch;
};

static void on_tidy(void *arg)
{
	struct tidy *t = arg;
	t->self->backend->tidy(t->self->store, limit_now(t->self, t->w));
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	struct tidy *t = wself;
	*t = (struct tidy){ .self = self, .w = w };
	if (self->h->worker_index(w) == 0) {
		t->watch = self->h->watch_time(w, TIDY_MS, 1, on_tidy, t);
		return t->watch ? 0 : -ENOMEM;
	}
	return 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	struct tidy *t = wself;
	(void)w;
	self->h->unwatch(t->watch);
	t->watch = NULL;
}

static chatd_status hook_all(struct self *self, chatd_ctx *ctx)
{
	static const struct {
		uint32_t hook;
		int32_t order;
		chatd_hook_fn *fn;
	} hooks[] = {
		{ chatd_hook_session_auth, CHATD_ORDER_GUARD, on_arrival },
		{ chatd_hook_session_auth, CHATD_ORDER_GUARD + 1, on_admitted },
		/* Whoever somebody turned out to be is known behind those who find out. */
		{ chatd_hook_session_auth, CHATD_ORDER_OBSERVE, on_identified },
		{ chatd_hook_message_in, CHATD_ORDER_GUARD, on_message_in },
		{ chatd_hook_subscribe, CHATD_ORDER_GUARD, on_subscribe },
		{ chatd_hook_request, CHATD_ORDER_GUARD, on_request },
		{ chatd_hook_request_as, CHATD_ORDER_GUARD, on_request_as },
	};
	const struct chatd_host *h = self->h;
	chatd_status rc = h->session_slot(ctx, seat_size(self), seat_drop, &self->slot);
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && rc == 0; i++) {
		rc = h->hook(ctx, hooks[i].hook, hooks[i].order, hooks[i].fn);
	}
	return rc < 0 ? rc : h->provide(ctx, CHATD_LIMITER, &take_service, self);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf, .backend = &memory_backend };
	*ret_self = self;
	self->store = memory_create(h, self->conf->max_buckets);
	chatd_status rc = self->store ? limit_compile(self) : -ENOMEM;
	rc = rc < 0 ? rc : shared_init(self);
	return rc < 0 ? rc : hook_all(self, ctx);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->backend->destroy(self->store);
	limit_finish(self);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_LIMITER, NULL };
static const char *const wants[] = { CHATD_REDIS, CHATD_PRESENCE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "limit-rate",
	.version = "0.1",
	.summary = "how much anybody may send, subscribe, connect and call",
	.provides = provides,
	.wants = wants,
	.opts = limit_opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct tidy),
	.check = limit_check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};

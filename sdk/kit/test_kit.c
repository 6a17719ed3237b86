/* SPDX-License-Identifier: Apache-2.0 */
/* Does the kit find what it promises to find?  Each wrong deed is done in a child. */
#include <chatd/kit.h>

#include "deeds.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum deed {
	GOOD,
	LEAK_MEMORY,
	LEAK_MESSAGE,
	LEAK_IDENT,
	LEAK_BUFFER,
	LEAK_TIMER,
	LEAK_WATCH,
	NEVER_ANSWER,
	FOREIGN_WORKER,
	LATE_HOOK,
	CHANGE_PUBLISHED,
	UNLISTED_SERVICE,
	FREE_TWICE,
	STAYS_BUSY,
	SWALLOW_FAILURE
};

struct conf {
	int64_t deed;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct chatd_timer timer;
};

static void nothing(void *arg)
{
	(void)arg;
}

static chatd_verdict publish_twice(const struct chatd_host *h, chatd_call *c)
{
	chatd_msg *m = h->msg_new(CHATD_LIT("/topic/y"), CHATD_LIT("x"));
	if (!m) {
		return -ENOMEM;
	}
	chatd_status rc = h->publish(h->call_worker(c), m);
	if (rc == 0) {
		rc = h->msg_set(m, "a", CHATD_LIT("b"));
	}
	h->msg_unref(m);
	return rc;
}

static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	void *p;
	(void)wself;
	switch ((enum deed)self->conf->deed) {
	case LEAK_MEMORY:
		return h->mem_alloc(7) ? CHATD_NEXT : -ENOMEM;
	case LEAK_MESSAGE:
		(void)h->msg_ref(h->call_msg(c));
		return CHATD_NEXT;
	case LEAK_IDENT:
		(void)h->ident_ref(h->call_ident(c));
		return CHATD_NEXT;
	case LEAK_BUFFER:
		return h->buf_new(0, 1) ? CHATD_NEXT : -ENOMEM;
	case LEAK_TIMER:
		h->timer_set(h->call_worker(c), &self->timer, 1000, nothing, NULL);
		return CHATD_NEXT;
	case LEAK_WATCH:
		return h->watch_time(h->call_worker(c), 1000, 1, nothing, NULL) ? CHATD_NEXT : -ENOMEM;
	case NEVER_ANSWER:
		return h->suspend(c, NULL, NULL) ? CHATD_WAIT : -EBUSY;
	case FOREIGN_WORKER:
		(void)h->now_ms(h->worker_at(1));
		return CHATD_NEXT;
	case LATE_HOOK:
		return h->hook(self->ctx, chatd_hook_message_in, 1, on_in);
	case CHANGE_PUBLISHED:
		return publish_twice(h, c);
	case UNLISTED_SERVICE:
		(void)h->service(self->ctx, CHATD_PRESENCE);
		return CHATD_NEXT;
	case FREE_TWICE:
		p = malloc(100); /* not mem_alloc() */
		if (p) {
			memset(p, 0, 100);
			h->mem_free((char *)p + 50);
		}
		return CHATD_NEXT;
	case SWALLOW_FAILURE:
		p = h->mem_alloc(7);
		((char *)p)[0] = 1; /* the sweep finds that nobody looked */
		h->mem_free(p);
		return CHATD_NEXT;
	default:
		return CHATD_NEXT;
	}
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	*ret_self = self;
	return h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_in);
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return self->conf->deed == STAYS_BUSY;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const struct chatd_opt opts[] = {
	{ .key = "deed",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, deed),
			.fallback = "0",
			.doc = "What it does." },
	{ 0 },
};

static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "villain", .version = "1",
	.summary = "does one wrong thing", .opts = opts, .conf_size = sizeof(struct conf), .init = init,
	.busy = busy, .fini = fini };

static enum deed the_deed; /* of this child: a sweep's function has no argument */

static void commit(void)
{
	static const struct kit_conf conf = { .workers = 2 };
	char yaml[32];
	snprintf(yaml, sizeof(yaml), "deed: %d", (int)the_deed);
	struct kit *k = kit_new_with(&plugin, yaml, &conf);
	struct kit_client *c = kit_open(k, "ann");
	if (kit_is_open(c)) {
		kit_send(c, "/topic/x", "hi", (char *)NULL);
	}
	if (the_deed != NEVER_ANSWER) {
		kit_expect_accept(k);
	}
	kit_free(k);
}

/* What a child writes before it ends; its status in *ret_status. */
static void do_deed(int deed)
{
	the_deed = deed;
	if (deed == SWALLOW_FAILURE) {
		kit_sweep(commit);
	} else {
		commit();
	}
}

int main(void)
{
	static const struct deed_row rows[] = {
		{ GOOD, "a good plugin passes", NULL },
		{ LEAK_MEMORY, "memory that is left is found",
				"1 pieces of mem_alloc() are left, 7 bytes\n  1 pieces of mem_alloc() at on_in (" },
		{ LEAK_MESSAGE, "a message that is kept is found",
				"references are left: 1 to messages, 0 to identities, 0 to buffers\n"
				"  1 references to messages at on_in (" },
		{ LEAK_IDENT, "an identity that is kept is found", "1 to identities" },
		{ LEAK_BUFFER, "a buffer that is kept is found", "1 to buffers" },
		{ LEAK_TIMER, "a timer that is set is found",
				"0 watches and 1 timers are left\n  1 timers, of nothing (" },
		{ LEAK_WATCH, "a watch that goes on is found", "1 watches and 0 timers are left" },
		{ NEVER_ANSWER, "a token that is forgotten is found", "1 requests were never answered" },
		{ FOREIGN_WORKER, "a foreign worker is found",
				"now_ms() for worker 1 was called on another worker\n  at on_in (" },
		{ LATE_HOOK, "a late registration is found", "hook() is for init() only" },
		{ CHANGE_PUBLISHED, "a change after publishing is found",
				"msg_set() of a message that was published already" },
		{ UNLISTED_SERVICE, "an unlisted service is found", "neither in .needs nor in .wants" },
		{ FREE_TWICE, "freeing what is not the host's is found",
				"mem_free() of what mem_alloc() did not give" },
		{ STAYS_BUSY, "one that would never be done is found", "busy() says 1 when all is over" },
		{ SWALLOW_FAILURE, "a failure that nobody looks at is found", "" },
	};
	return deeds_run(do_deed, rows, (int)(sizeof(rows) / sizeof(rows[0])));
}

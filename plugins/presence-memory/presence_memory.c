/* SPDX-License-Identifier: Apache-2.0 */
/* Who is online on this node: sessions counted per user, on one home worker. */
#include "presence_memory.h"

#include <errno.h>
#include <string.h>

struct visit {
	struct self *self;
	chatd_token token;
	chatd_sid sid;
	int32_t comes;
	size_t n;
	char id[];
};

static const struct chatd_opt opts[] = {
	{ .key = "linger",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, linger),
			.fallback = "5s",
			.max = 600000,
			.doc = "How long a user stays online after the last session, so that a reload is no event." },
	{ .key = "last_seen",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, last_seen),
			.fallback = "true",
			.doc = "Tell when somebody who is offline was online last; of the last 10,000 who went." },
	{ 0 },
};

chatd_worker *home_of(const struct self *self)
{
	return self->h->worker_at(0);
}

static void meet(struct self *self, struct chatd_str id, chatd_sid sid, int32_t comes)
{
	if (comes) {
		user_came(self, id);
	} else {
		user_went(self, id, sid);
	}
}

static void on_visit(void *arg)
{
	struct visit *v = arg;
	meet(v->self, chatd_str_of(v->id, v->n), v->sid, v->comes);
	if (v->token) {
		(void)v->self->h->resume(v->token, CHATD_NEXT, NULL, NULL);
	}
	v->self->h->mem_free(v);
}

static struct visit *visit_create(struct self *self, chatd_call *call, int32_t comes)
{
	const chatd_ident *who = self->h->call_ident(call);
	struct chatd_str id = who ? self->h->ident_user(who) : chatd_str_of(NULL, 0);
	struct visit *v = id.p ? self->h->mem_alloc(sizeof(*v) + id.n) : NULL;
	if (v) {
		v->self = self;
		v->comes = comes;
		v->sid = self->h->session_sid(self->h->call_session(call));
		v->n = id.n;
		memcpy(v->id, id.p, id.n);
	}
	return v;
}

static chatd_verdict send_visit(struct visit *v)
{
	chatd_status rc = v->self->h->post(home_of(v->self), on_visit, v);
	if (rc < 0) {
		v->self->h->mem_free(v);
	}
	return rc;
}

/* The client hears of its login only after presence knows it. */
static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str id = h->ident_user(h->call_ident(call));
	(void)wself;
	if (h->call_worker(call) == home_of(self)) {
		user_came(self, id);
		return CHATD_NEXT;
	}
	struct visit *v = visit_create(self, call, 1);
	if (!v) {
		return -ENOMEM;
	}
	/* The answer of a call that is gone by then is harmless; the visit counts anyway,
	 * because session_close will take it back. */
	v->token = h->suspend(call, NULL, NULL);
	chatd_token token = v->token;
	chatd_verdict rc = send_visit(v);
	if (rc < 0) {
		return rc;
	}
	return token ? CHATD_WAIT : CHATD_NEXT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	struct chatd_str id = self->h->ident_user(self->h->call_ident(call));
	(void)wself;
	if (self->h->call_worker(call) == home_of(self)) {
		user_went(self, id, self->h->session_sid(self->h->call_session(call)));
		return CHATD_NEXT;
	}
	struct visit *v = visit_create(self, call, 0);
	return v ? send_visit(v) : -ENOMEM;
}

/* ---- life -------------------------------------------------------------------------------------- */

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	self->watching.plugins = self->following.plugins = h->service(ctx, CHATD_PLUGINS);
	h->random(&self->key, sizeof(self->key));
	self->home = h->mem_alloc(sizeof(*self->home));
	if (!self->home) {
		return -ENOMEM;
	}
	chatd_status rc = h->provide(ctx, CHATD_PRESENCE, &presence_vt, self);
	if (rc == 0) {
		rc = h->hook(ctx, chatd_hook_session_open, CHATD_ORDER_STORE, on_open);
	}
	if (rc == 0) {
		rc = h->hook(ctx, chatd_hook_session_close, CHATD_ORDER_STORE, on_close);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	(void)wself;
	if (w == home_of(self)) {
		users_stop(self);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->home);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_PRESENCE, NULL };
static const char *const wants[] = { CHATD_PLUGINS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "presence-memory",
	.version = "0.1",
	.summary = "who is online, on one node",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.worker_stop = worker_stop,
	.fini = fini,
};

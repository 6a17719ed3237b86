/* SPDX-License-Identifier: Apache-2.0 */
/* A knock at somebody's door: SEND to /app/knock with a user's id as the body.
 *
 * Whether that user is there is known by another plugin, which answers later.  So the handler
 * parks the call, and returns; the answer resumes it.  Nothing blocks meanwhile. */
#include <chatd/plugin.h>
#include <chatd/presence.h>

#include <errno.h>
#include <string.h>

enum { USER_BYTES = 64 };

struct self { /* read-only after init(): all workers share it */
	const struct chatd_host *h;
	const struct chatd_presence *presence;
	void *presence_obj;
};

/* One question on its way.  It belongs to the answer, which comes in any case: so the answer
 * frees it, and nobody else.  The session may end before; then the token is stale, and resume()
 * of a stale token does nothing. */
struct ask {
	const struct self *self;
	chatd_worker *worker;
	chatd_token token;
	size_t n;
	char user[USER_BYTES];
};

static chatd_verdict knock(const struct ask *a)
{
	const struct chatd_host *h = a->self->h;
	chatd_msg *m = h->msg_new(CHATD_LIT("/user/queue/knock"), CHATD_LIT("somebody is at the door"));
	if (!m) {
		return -ENOMEM;
	}
	chatd_status rc = h->publish_user(a->worker, chatd_str_of(a->user, a->n), m);
	h->msg_unref(m);
	return rc < 0 ? rc : CHATD_ACCEPT;
}

static void on_presence(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	if (rc < 0 || n != 1) {
		(void)h->resume(a->token, rc < 0 ? rc : -EIO, NULL, NULL);
	} else if (!online[0]) {
		(void)h->resume(a->token, CHATD_REJECT, "NOT_FOUND", "nobody is there");
	} else if (h->call_of(a->worker, a->token)) { /* whoever knocked is still there */
		(void)h->resume(a->token, knock(a), NULL, NULL);
	}
	h->mem_free(a);
}

static chatd_verdict on_knock(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str user = h->msg_body(h->call_msg(call));
	(void)wself;
	if (user.n == 0 || user.n > USER_BYTES) {
		return h->reject(call, "VALIDATION", "the body is a user's id, 1 to %d bytes", USER_BYTES);
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->self = self;
	a->worker = h->call_worker(call);
	memcpy(a->user, user.p, user.n);
	a->n = user.n;
	a->token = h->suspend(call, NULL, NULL);
	if (!a->token) { /* the server is full of calls that wait */
		h->mem_free(a);
		return -EBUSY;
	}
	struct chatd_str who = chatd_str_of(a->user, a->n);
	chatd_status rc = self->presence->get(self->presence_obj, a->worker, &who, 1, on_presence, a);
	if (rc < 0) { /* refused at once: on_presence() will not run */
		(void)h->resume(a->token, rc, NULL, NULL);
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *presence = h->service(ctx, CHATD_PRESENCE);
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->presence = presence->vt;
	self->presence_obj = presence->obj;
	*ret_self = self;
	return h->app(ctx, "knock", on_knock);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_PRESENCE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "lookup",
	.version = "0.1",
	.summary = "knocks at the door of who is there",
	.flags = CHATD_PLUGIN_ONCE, /* there is one /app/knock */
	.needs = needs,
	.init = init,
	.fini = fini,
};

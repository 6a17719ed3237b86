/* SPDX-License-Identifier: Apache-2.0 */
/* At most so many messages of one session in so much time.
 *
 * What it must remember of a session is in a slot: room that the server keeps in every session, so
 * there is no table, no lock, and nothing to free. */
#include <chatd/plugin.h>

#include <errno.h>
#include <inttypes.h>

struct conf {
	int64_t messages, window;
};

struct self { /* read-only after init(): all workers share it */
	const struct chatd_host *h;
	const struct conf *conf;
	uint32_t slot;
};

struct seen { /* of one session; zeroed at first */
	int64_t since, count;
};

static const struct chatd_opt opts[] = {
	{ .key = "messages",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, messages),
			.fallback = "10",
			.min = 1,
			.max = 1000,
			.doc = "How many messages a session may send in a window." },
	{ .key = "window",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, window),
			.fallback = "5s",
			.min = 100,
			.max = 3600000,
			.doc = "How long a window is." },
	{ 0 },
};

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	chatd_session *session = h->call_session(call);
	(void)wself;
	if (!session) { /* a program speaks, through the REST API say: no session, no limit */
		return CHATD_NEXT;
	}
	struct seen *seen = h->slot(session, self->slot);
	int64_t now = h->now_ms(h->call_worker(call));
	if (!seen->count || now - seen->since >= self->conf->window) {
		seen->since = now;
		seen->count = 0;
	}
	if (seen->count >= self->conf->messages) {
		return h->reject(call, "RATE_LIMITED", "wait %" PRId64 " ms",
				seen->since + self->conf->window - now);
	}
	seen->count++;
	return CHATD_NEXT;
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
	chatd_status rc = h->session_slot(ctx, sizeof(struct seen), NULL, &self->slot);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_GUARD, on_message_in);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "guard",
	.version = "0.1",
	.summary = "limits how fast a session may talk",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};

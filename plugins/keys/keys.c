/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys for end-to-end encryption: options and life. */
#include "keys.h"

#include <sodium.h>

static const struct chatd_opt opts[] = {
	{ .key = "guests",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, guests),
			.fallback = "true",
			.doc = "Whether anonymous accounts may have keys, for one device each." },
	{ .key = "max_devices",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_devices),
			.fallback = "10",
			.min = 1,
			.max = DEVICES_MAX,
			.doc = "Devices with keys that a registered account may have; each message is "
				   "encrypted for all of both sides." },
	{ .key = "max_prekeys",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max_prekeys),
			.fallback = "100",
			.min = 10,
			.max = 500,
			.doc = "One-time prekeys of a device that wait to be handed out." },
	{ .key = "low_water",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, low_water),
			.fallback = "10",
			.max = 100,
			.doc = "A device that has no more one-time prekeys than this is told to send more." },
	{ .key = "device_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, device_ttl),
			.fallback = "90d",
			.min = 86400000,
			.max = INT64_C(3660) * 86400000,
			.doc = "A device that was not seen for so long is forgotten; clients send their keys "
				   "again once a day." },
	{ .key = "takes_per_minute",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, takes_per_minute),
			.fallback = "60",
			.min = DEVICES_MAX,
			.max = 100000,
			.doc = "One-time prekeys that a user may take a minute, so that nobody can use up "
				   "everybody's. Needs limit-rate." },
	{ 0 },
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.store = h->service(ctx, CHATD_STORE),
		.http = h->service(ctx, CHATD_HTTP),
		.limiter = h->service(ctx, CHATD_LIMITER) };
	*ret_self = self;
	if (sodium_init() < 0) {
		return h->fail(ctx, -ENOSYS, "libsodium cannot be initialised");
	}
	return routes_init(self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

/* Answers of the store to clients that have left. */
static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_asks_open(self->routes, ROUTES) > 0;
}

static const char *const needs[] = { CHATD_STORE, CHATD_HTTP, NULL };
static const char *const wants[] = { CHATD_LIMITER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE,
	.name = "keys",
	.version = "0.1",
	.summary = "public keys of devices, for end-to-end encryption",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
	.busy = busy,
};

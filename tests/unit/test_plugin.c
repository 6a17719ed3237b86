/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that does nothing, as the build wants it: good, or broken in one way. */
#include <chatd/plugin.h>

#ifndef MINOR
#define MINOR CHATD_ABI_MINOR
#endif
#ifndef SIZE
#define SIZE sizeof(struct chatd_plugin)
#endif
#ifndef PROVIDES
#define PROVIDES NULL
#endif
#ifndef NEEDS
#define NEEDS NULL
#endif
#ifndef WANTS
#define WANTS NULL
#endif

static const char *const provides[] = { PROVIDES, NULL };
static const char *const needs[] = { NEEDS, NULL };
static const char *const wants[] = { WANTS, NULL };

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	(void)h;
	(void)ctx;
	(void)conf;
	(void)ret_self;
	return 0;
}

CHATD_PLUGIN = {
	.struct_size = SIZE,
	.abi_minor = MINOR,
	.opt_size = sizeof(struct chatd_opt),
	.name = NAME,
	.version = "1",
	.summary = "a test",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.init = init,
};

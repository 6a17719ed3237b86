/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that is wrong in one way, as the build says (meson.build). */
#ifdef FUNCTION
#define CHATD_PLUGIN_SYMBOL not_the_descriptor
#endif
#include <chatd/plugin.h>

#ifndef NAME
#define NAME FILE_NAME
#endif
#ifndef SIZE
#define SIZE sizeof(struct chatd_plugin)
#endif
#ifndef MINOR
#define MINOR CHATD_ABI_MINOR
#endif
#ifndef MIN_HOST
#define MIN_HOST 0
#endif
#ifndef OPT_SIZE
#define OPT_SIZE sizeof(struct chatd_opt)
#endif
#ifndef WORKER_SIZE
#define WORKER_SIZE 0
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef PROVIDES
#define PROVIDES NULL
#endif
#ifndef NEEDS
#define NEEDS NULL
#endif

#ifdef UNDEFINED
extern int nobody_has_this(void);
#endif
#ifdef GONE
extern int chatd_test_gone(void);
#endif

#ifndef TINY
static const char *const provides[] = { PROVIDES, NULL };
static const char *const needs[] = { NEEDS, NULL };
#ifdef OPTION
static const struct chatd_opt opts[] = { OPTION, { 0 } };
#endif

static chatd_verdict on_hook(chatd_call *call, void *self, void *wself)
{
	(void)call;
	(void)self;
	(void)wself;
	return CHATD_NEXT;
}

__attribute__((unused)) static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	(void)conf;
	(void)ret_self;
#ifdef UNDEFINED
	(void)nobody_has_this();
#endif
#ifdef GONE
	(void)chatd_test_gone();
#endif
#ifdef HOOK
	return h->hook(ctx, HOOK, CHATD_ORDER_CHECK, on_hook);
#else
	return h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_hook);
#endif
}

#endif

#ifdef TINY
/* As if the symbol were something else: shorter than any descriptor. */
CHATD_EXPORT extern const uint32_t CHATD_PLUGIN_SYMBOL[2];
const uint32_t CHATD_PLUGIN_SYMBOL[2] = { sizeof(struct chatd_plugin), CHATD_ABI_MINOR };

#else
CHATD_PLUGIN = {
	.struct_size = SIZE,
	.abi_minor = MINOR,
	.min_host = MIN_HOST,
	.flags = FLAGS,
	.name = NAME,
	.version = "1",
	.summary = "a test",
	.provides = provides,
	.needs = needs,
#ifdef OPTION
	.opts = opts,
	.conf_size = 64,
#endif
	.opt_size = OPT_SIZE,
	.worker_size = WORKER_SIZE,
#ifndef NO_INIT
	.init = init,
#endif
};
#endif

#ifdef FUNCTION
#undef CHATD_PLUGIN_SYMBOL
#define CHATD_PLUGIN_SYMBOL chatd_plugin_v1
CHATD_EXPORT int CHATD_PLUGIN_SYMBOL(void);
int CHATD_PLUGIN_SYMBOL(void)
{
	return 0;
}
#endif

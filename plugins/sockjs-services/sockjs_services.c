/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/sockjs.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The services that the SockJS protocol's tests and clients' tests expect to find. */

#define TEST_LIMIT  4096      /* the tests want streamed answers to end early */
#define MESSAGE_MAX (1 << 20) /* generous: clients test with large ones */
#define AMPLIFY_MAX 18        /* 2 to the power of this is the longest answer */

struct services {
	const struct chatd_host *host;
	const struct chatd_sockjs *sockjs;
};

struct client {
	const struct services *self;
	chatd_sockjs_conn *conn;
};

static void *on_open(void *arg, chatd_worker *w, chatd_sockjs_conn *conn)
{
	const struct services *self = arg;
	struct client *c = self->host->mem_alloc(sizeof(*c));
	(void)w;
	if (c)
		*c = (struct client){ self, conn };
	return c;
}

static void on_gone(void *arg)
{
	struct client *c = arg;
	c->self->host->mem_free(c);
}

static void on_echo(void *arg, struct chatd_str text, int32_t binary)
{
	struct client *c = arg;
	c->self->sockjs->send(c->conn, text, binary);
}

static void *on_open_close(void *arg, chatd_worker *w, chatd_sockjs_conn *conn)
{
	const struct services *self = arg;
	(void)w;
	self->sockjs->close(conn, 3000, "Go away!");
	return NULL;
}

/* Message N, as decimal text, gives 2 to the power of N times x; others count as 1. */
static void on_amplify(void *arg, struct chatd_str text, int32_t binary)
{
	struct client *c = arg;
	const struct chatd_host *host = c->self->host;
	size_t power = 0;
	(void)binary;
	for (size_t i = 0; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++) {
		power = power * 10 + (size_t)(text.p[i] - '0');
		if (power > AMPLIFY_MAX)
			break;
	}
	if (power < 1 || power > AMPLIFY_MAX)
		power = 1;
	size_t n = (size_t)1 << power;
	char *x = host->mem_alloc(n);
	if (!x)
		return;
	memset(x, 'x', n);
	c->self->sockjs->send(c->conn, chatd_str_of(x, n), 0);
	host->mem_free(x);
}

static void services_fini(void *self)
{
	free(self);
}

static chatd_status services_init(
		const struct chatd_host *host, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	(void)conf;
	struct services *self = calloc(1, sizeof(*self));
	if (!self)
		return host->fail(ctx, -ENOMEM, "out of memory");
	*ret_self = self;
	const struct chatd_service *service = host->service(ctx, CHATD_SOCKJS);
	self->host = host;
	self->sockjs = service->vt;
	const struct chatd_sockjs_app apps[] = {
		{ .prefix = "/echo", .websocket = 1, .open = on_open, .message = on_echo },
		{ .prefix = "/disabled_websocket_echo", .open = on_open, .message = on_echo },
		{ .prefix = "/cookie_needed_echo",
				.websocket = 1,
				.cookie = 1,
				.open = on_open,
				.message = on_echo },
		{ .prefix = "/close", .websocket = 1, .open = on_open_close, .message = on_echo },
		{ .prefix = "/amplify", .websocket = 1, .open = on_open, .message = on_amplify },
	};
	for (size_t i = 0; i < sizeof(apps) / sizeof(*apps); i++) {
		struct chatd_sockjs_app app = apps[i];
		app.struct_size = sizeof(app);
		app.response_limit = TEST_LIMIT;
		app.max_message = MESSAGE_MAX;
		app.gone = on_gone;
		app.arg = self;
		chatd_status rc = self->sockjs->endpoint(service->obj, ctx, &app);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static const char *const needs[] = { CHATD_SOCKJS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "sockjs-services",
	.version = "0.1.0",
	.summary = "The test services of the SockJS protocol: /echo, /close, /amplify and more",
	.needs = needs,
	.init = services_init,
	.fini = services_fini,
};

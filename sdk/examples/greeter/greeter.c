/* SPDX-License-Identifier: Apache-2.0 */
/* Who joins a room gets a direct message, from a name of the plugin's own.
 *
 * The plugin "rooms" tells who joins.  The message goes to /app/chat.send as if the greeter had a session:
 * through every hook and limit, into the history, to each of the newcomer's devices.  The greeter needs
 * no account.  Nobody else must have its id: the server gives accounts and guests random ones, so that can
 * only be a login of auth-static, or of a token that somebody else signs. */
#include <chatd-sdk/open.h>
#include <chatd/plugin.h>
#include <chatd/rooms.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { GREETING_MAX = 1000 };

struct conf {
	const char *name, *greeting;
};

struct self { /* but for .open read-only after init(): all workers share it */
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *sessions;
	const chatd_ident *greeter;
	struct chatd_open open; /* what was said and not answered yet: it is turned off after that */
};

static const struct chatd_opt opts[] = {
	{ .key = "name",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, name),
			.fallback = "Greeter",
			.doc = "What the one who greets is called." },
	{ .key = "greeting",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf, greeting),
			.doc = "What newcomers are told." },
	{ 0 },
};

static void on_said(void *arg, const struct chatd_outcome *o)
{
	struct self *self = arg;
	if (o->verdict == CHATD_REJECT) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "a newcomer was not greeted: %s: %.*s", o->code,
				(int)o->why.n, o->why.p);
	}
	chatd_open_end(&self->open);
}

/* On the worker that keeps the room's order.  input_as() may be called from any callback on a worker. */
static void on_room(void *arg, chatd_worker *w, const struct chatd_room_event *e)
{
	struct self *self = arg;
	const struct chatd_host *h = self->h;
	const struct chatd_sessions *sessions = self->sessions->vt;
	char body[GREETING_MAX + 300];
	if (e->what != CHATD_ROOM_JOINED) {
		return;
	}
	/* Ids are letters, digits, "-" and "_"; the greeting is as check() wants it.  The clientId makes sure
	 * that who joins, leaves and joins again is told once. */
	int n = snprintf(body, sizeof(body),
			"{\"to\":\"%.*s\",\"content\":\"%s\",\"clientId\":\"%.*s-%.*s\"}", (int)e->user.n,
			e->user.p, self->conf->greeting, (int)e->room.n, e->room.p, (int)e->user.n, e->user.p);
	chatd_msg *m = h->msg_new(CHATD_LIT("/app/chat.send"), chatd_str_of(body, (size_t)n));
	if (!m) {
		h->log(self->ctx, CHATD_LOG_ERROR, "a newcomer was not greeted: no memory");
		return;
	}
	chatd_open_begin(&self->open); /* on_said() may come inside the call */
	sessions->input_as(self->sessions->obj, w, self->greeter, m, on_said, self);
	h->msg_unref(m);
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	if (strlen(conf->greeting) > GREETING_MAX) {
		return h->conf_error(ctx, "greeting", "at most %d bytes", GREETING_MAX);
	}
	for (const char *p = conf->greeting; *p; p++) {
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') {
			return h->conf_error(ctx, "greeting", "no quotes, backslashes and line ends");
		}
	}
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	const struct chatd_service *rooms = h->service(ctx, CHATD_ROOMS);
	const struct chatd_rooms *vt = rooms->vt;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->sessions = h->service(ctx, CHATD_SESSIONS);
	*ret_self = self; /* from here on fini() runs, also when init() fails */
	const struct chatd_sessions *sessions = self->sessions->vt;
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = CHATD_ID_BOT, /* clients see "bot":true */
		.user = CHATD_LIT("bot-greeter"),
		.name = chatd_str_of(conf->name, strlen(conf->name)) };
	if (!CHATD_HAS(vt, watch)) {
		return h->fail(
				ctx, -ENOTSUP, "the plugin \"rooms\" is too old: take one that tells of events");
	}
	self->greeter = sessions->make_ident(self->sessions->obj, &who);
	return self->greeter ? vt->watch(rooms->obj, on_room, self) : -ENOMEM;
}

static int32_t busy(void *selfp)
{
	const struct self *self = selfp;
	return chatd_open_busy(self->h, &self->open);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->ident_unref(self->greeter);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_ROOMS, CHATD_SESSIONS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "greeter",
	.version = "0.1",
	.summary = "greets who joins a room",
	.flags = CHATD_PLUGIN_LIVE, /* "rooms" forgets it when it is turned off */
	.needs = needs,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.busy = busy,
	.fini = fini,
};

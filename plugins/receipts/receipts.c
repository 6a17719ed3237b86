/* SPDX-License-Identifier: Apache-2.0 */
/* Read up to here: what clients say of it, the options, and life. */
#include "receipts.h"

static const struct chatd_opt opts[] = {
	{ .key = "interval",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, interval),
			.fallback = "1s",
			.max = 3600000,
			.doc = "READ of one reader and conversation is passed on this often at most." },
	{ .key = "room_max",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, room_max),
			.fallback = "100",
			.max = 1000000,
			.doc = "Rooms with more members than this are not told who has read; 0: any." },
	{ .key = "legacy_queues",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, legacy_queues),
			.fallback = "false",
			.doc = "Send the events for people to /user/queue/messages as well." },
	{ 0 },
};

/* ---- /app/chat.read ------------------------------------------------------------------------ */

struct input {
	struct chatd_str with, to, receiver, receiver_id, room, message, status;
	int64_t seq;
};

static const struct chatd_json_field fields[] = {
	{ "with", CHATD_J_TEXT, offsetof(struct input, with) },
	{ "to", CHATD_J_TEXT, offsetof(struct input, to) },
	{ "receiver", CHATD_J_TEXT, offsetof(struct input, receiver) },
	{ "receiverId", CHATD_J_TEXT, offsetof(struct input, receiver_id) },
	{ "roomId", CHATD_J_TEXT, offsetof(struct input, room) },
	{ "messageId", CHATD_J_TEXT, offsetof(struct input, message) },
	{ "status", CHATD_J_TEXT, offsetof(struct input, status) },
	{ "seq", CHATD_J_INT, offsetof(struct input, seq) },
	{ NULL, 0, 0 },
};

/* NULL, or what is wrong.  An id that cannot be one becomes the empty one. */
static const char *take_mark(const struct self *self, const struct input *in, struct mark *ret)
{
	struct chatd_str user = in->with.n ? in->with
			: in->to.n                 ? in->to
			: in->receiver.n           ? in->receiver
									   : in->receiver_id;
	if (user.n && in->room.n) {
		return "with and roomId exclude each other";
	}
	if (!user.n && !in->room.n && !(in->message.p && self->store)) {
		return "with (a user) or roomId is missing";
	}
	if (!in->message.p && in->seq == INT64_MIN) {
		return "messageId or seq is missing";
	}
	if (in->message.p && !chatd_id_ok(in->message)) {
		return "messageId must be the id of a message";
	}
	if (in->seq != INT64_MIN && in->seq < 1) {
		return "seq must be 1 or more";
	}
	int delivered = chatd_str_same(in->status, CHATD_LIT("DELIVERED"));
	if (in->status.n && !delivered && !chatd_str_same(in->status, CHATD_LIT("READ"))) {
		return "status must be READ or DELIVERED";
	}
	struct chatd_str where = user.n ? user : in->room;
	*ret = (struct mark){
		.is_room = in->room.n > 0, .delivered = delivered, .seq = in->seq > 0 ? in->seq : 0
	};
	ret->named = where.n > 0;
	chatd_str_copy(ret->where, sizeof(ret->where), chatd_id_ok(where) ? where : CHATD_LIT(""));
	chatd_str_copy(ret->message, sizeof(ret->message), in->message);
	return NULL;
}

static chatd_verdict on_read(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct input in = { .seq = INT64_MIN };
	struct mark m;
	json_t *root;
	char why[CHATD_JSON_WHY];
	(void)wself;
	if (!h->call_session(call)) {
		return h->reject(call, "FORBIDDEN", "nobody reads here: a session says so, no program");
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	const char *fault = take_mark(self, &in, &m);
	json_decref(root);
	if (fault) {
		return h->reject(call, "VALIDATION", "%s", fault);
	}
	if (m.named && !m.where[0]) {
		return m.is_room ? h->reject(call, "NOT_MEMBER",
								   "you are not a member of this room, or there is no such room")
						 : h->reject(call, "NOT_FOUND", "there is no such user");
	}
	return marks_take(self, call, &m);
}

/* ---- life ------------------------------------------------------------------------------------ */

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
		.rooms = h->service(ctx, CHATD_ROOMS),
		.store = h->service(ctx, CHATD_STORE),
		.http = h->service(ctx, CHATD_HTTP),
		.privacy = h->service(ctx, CHATD_PRIVACY) };
	*ret_self = self;
	chatd_status rc = tell_init(self);
	rc = rc < 0 ? rc : h->app(ctx, "chat.read", on_read);
	return rc < 0 || !self->store || !self->http ? rc : reads_init(self);
}

static int32_t busy(void *selfp)
{
	return atomic_load(&((struct self *)selfp)->asks) > 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const wants[] = { CHATD_ROOMS, CHATD_STORE, CHATD_HTTP, CHATD_PRIVACY, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE,
	.name = "receipts",
	.version = "0.1",
	.summary = "keeps and tells who has read up to where",
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
	.busy = busy,
};

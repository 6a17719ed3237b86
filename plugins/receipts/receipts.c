/* SPDX-License-Identifier: Apache-2.0 */
/* Read up to here: told to the other person or to the room, coalesced, not stored. */
#include <chatd-sdk/json.h>
#include <chatd/plugin.h>
#include <chatd/rooms.h>

#include <sys/queue.h>

enum { CONVERSATIONS_MAX = 16 }; /* that one session's marks are remembered of */

struct conf {
	int64_t interval;
	int32_t legacy_queues;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *rooms; /* NULL: there are none */
	uint32_t slot;
};

/* What was read, where: up to a message, a number, or both. */
struct mark {
	int32_t is_room;
	int64_t seq; /* 0: not said */
	char where[CHATD_ID_MAX + 1];
	char message[CHATD_ID_MAX + 1]; /* "": not said */
};

/* How far a session has read in one conversation. */
struct reader {
	TAILQ_ENTRY(reader) link;
	struct self *self;
	chatd_worker *w;
	struct slot *slot;
	const chatd_ident *who;
	struct chatd_timer timer; /* set: what is in .at is told when it fires */
	int32_t waiting;
	int64_t told;
	struct mark at;
};
TAILQ_HEAD(readers, reader);

struct slot { /* of a session, zeroed; the longest unused reader first */
	struct readers all;
	int32_t n;
};

static const struct chatd_opt opts[] = {
	{ .key = "interval",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, interval),
			.fallback = "1s",
			.max = 3600000,
			.doc = "READ of one reader and conversation is passed on this often at most." },
	{ .key = "legacy_queues",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, legacy_queues),
			.fallback = "false",
			.doc = "Send the events for people to /user/queue/messages as well." },
	{ 0 },
};

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- telling --------------------------------------------------------------------------- */

static void write_event(struct chatd_json *j, const struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	struct chatd_str name = h->ident_name(r->who);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "type", CHATD_LIT("READ"));
	chatd_json_member(j, "sender", h->ident_user(r->who));
	chatd_json_member(j, "senderId", h->ident_user(r->who));
	chatd_json_member(j, "senderName", name.n ? name : chatd_str_of(NULL, 0));
	if (r->at.is_room) {
		chatd_json_member(j, "roomId", text(r->at.where));
	} else {
		chatd_json_member(j, "receiver", text(r->at.where));
		chatd_json_member(j, "receiverId", text(r->at.where));
	}
	if (r->at.message[0]) {
		chatd_json_member(j, "messageId", text(r->at.message));
	}
	if (r->at.seq) {
		chatd_json_int(j, "seq", r->at.seq);
	}
	chatd_json_member(j, "status", CHATD_LIT("READ"));
	chatd_json_time(j, "timestamp", h->wall_ms());
	chatd_json_lit(j, "}");
}

static void publish(const struct reader *r, const char *dest, struct chatd_str body)
{
	const struct chatd_host *h = r->self->h;
	chatd_msg *m = h->msg_new(text(dest), body);
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
		(void)(r->at.is_room ? h->publish(r->w, m) : h->publish_user(r->w, text(r->at.where), m));
	}
	h->msg_unref(m);
}

static void tell(struct reader *r)
{
	char room[1024], dest[sizeof("/topic/room/") + CHATD_ID_MAX] = "/user/queue/read";
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	write_event(&j, r);
	if (r->at.is_room) {
		snprintf(dest, sizeof(dest), "/topic/room/%s", r->at.where);
	}
	if (!j.failed) {
		publish(r, dest, chatd_json_str(&j));
	}
	if (!j.failed && r->self->conf->legacy_queues && !r->at.is_room) {
		publish(r, "/user/queue/messages", chatd_json_str(&j));
	}
	chatd_json_free(&j);
	r->told = r->self->h->now_ms(r->w);
	r->waiting = 0;
}

/* ---- how far a session has read ----------------------------------------------------------- */

static void forget(struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	h->timer_clear(&r->timer);
	TAILQ_REMOVE(&r->slot->all, r, link);
	r->slot->n--;
	h->ident_unref(r->who);
	h->mem_free(r);
}

static void flush(struct reader *r)
{
	if (r->waiting) {
		tell(r);
	}
	forget(r);
}

static void drop_slot(void *slotp)
{
	struct slot *slot = slotp;
	while (slot->n > 0) {
		forget(TAILQ_FIRST(&slot->all));
	}
}

static void on_due(void *arg)
{
	tell(arg);
}

static struct reader *find(struct slot *slot, const struct mark *m)
{
	struct reader *r = slot->n > 0 ? TAILQ_FIRST(&slot->all) : NULL;
	while (r && (r->at.is_room != m->is_room || strcmp(r->at.where, m->where) != 0)) {
		r = TAILQ_NEXT(r, link);
	}
	return r;
}

static struct reader *add(struct self *self, chatd_session *session, const struct mark *m)
{
	const struct chatd_host *h = self->h;
	struct slot *slot = h->slot(session, self->slot);
	struct reader *r = h->mem_alloc(sizeof(*r));
	if (!r) {
		return NULL;
	}
	if (slot->n == 0) {
		TAILQ_INIT(&slot->all);
	} else if (slot->n == CONVERSATIONS_MAX) {
		flush(TAILQ_FIRST(&slot->all));
	}
	r->self = self;
	r->w = h->session_worker(session);
	r->slot = slot;
	r->who = h->ident_ref(h->session_ident(session));
	r->at = *m;
	TAILQ_INSERT_TAIL(&slot->all, r, link);
	slot->n++;
	return r;
}

/* Reading goes forward only.  The server's ids of equal length sort by time. */
static int is_news(const struct reader *r, const struct mark *m)
{
	int further_seq = m->seq > r->at.seq;
	int further_id = m->message[0] &&
			(strlen(m->message) != strlen(r->at.message) || strcmp(m->message, r->at.message) > 0);
	return further_seq || further_id;
}

static void advance(struct reader *r, const struct mark *m)
{
	if (m->message[0]) {
		memcpy(r->at.message, m->message, sizeof(r->at.message));
	}
	if (m->seq > r->at.seq) {
		r->at.seq = m->seq;
	}
	TAILQ_REMOVE(&r->slot->all, r, link);
	TAILQ_INSERT_TAIL(&r->slot->all, r, link);
}

/* What comes too soon after the last is told later, as one. */
static void wait_or_tell(struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	int64_t left = r->told + r->self->conf->interval - h->now_ms(r->w);
	if (r->waiting) {
		return;
	}
	if (left <= 0) {
		tell(r);
		return;
	}
	r->waiting = 1;
	h->timer_set(r->w, &r->timer, left, on_due, r);
}

/* The reader may speak there. */
static void go_on(struct self *self, chatd_session *session, const struct mark *m)
{
	struct reader *r = find(self->h->slot(session, self->slot), m);
	if (!r) {
		r = add(self, session, m);
		if (r) {
			tell(r);
		}
	} else if (is_news(r, m)) {
		advance(r, m);
		wait_or_tell(r);
	}
}

/* ---- rooms: members only ------------------------------------------------------------------ */

struct ask {
	struct self *self;
	chatd_worker *w;
	chatd_token token;
	chatd_sid session;
	struct mark mark;
};

static void room_done(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	chatd_session *session = h->session_find(a->w, a->session);
	if (rc == 0 && v->role != CHATD_ROLE_NONE) {
		if (session) {
			go_on(a->self, session, &a->mark);
		}
		(void)h->resume(a->token, CHATD_ACCEPT, NULL, NULL);
	} else {
		(void)h->resume(a->token, CHATD_REJECT, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	}
	h->mem_free(a);
}

static chatd_verdict ask_room(struct self *self, chatd_call *call, const struct mark *m)
{
	const struct chatd_host *h = self->h;
	const struct chatd_rooms *rooms = self->rooms ? self->rooms->vt : NULL;
	if (!rooms || !m->where[0]) {
		return h->reject(
				call, "NOT_MEMBER", "you are not a member of this room, or there is no such room");
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	*a = (struct ask){ .self = self,
		.w = h->call_worker(call),
		.token = h->suspend(call, NULL, NULL),
		.session = h->session_sid(h->call_session(call)),
		.mark = *m };
	if (!a->token) {
		h->mem_free(a);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	if (rooms->look(self->rooms->obj, a->w, text(a->mark.where), h->ident_user(h->call_ident(call)),
				room_done, a) < 0) {
		(void)h->resume(a->token, CHATD_REJECT, "UNAVAILABLE", "rooms cannot be looked up now");
		h->mem_free(a);
	}
	return CHATD_WAIT;
}

/* ---- /app/chat.read ------------------------------------------------------------------------ */

struct input {
	struct chatd_str with, to, receiver, receiver_id, room, message;
	int64_t seq;
};

static const struct chatd_json_field fields[] = {
	{ "with", CHATD_J_TEXT, offsetof(struct input, with) },
	{ "to", CHATD_J_TEXT, offsetof(struct input, to) },
	{ "receiver", CHATD_J_TEXT, offsetof(struct input, receiver) },
	{ "receiverId", CHATD_J_TEXT, offsetof(struct input, receiver_id) },
	{ "roomId", CHATD_J_TEXT, offsetof(struct input, room) },
	{ "messageId", CHATD_J_TEXT, offsetof(struct input, message) },
	{ "seq", CHATD_J_INT, offsetof(struct input, seq) },
	{ NULL, 0, 0 },
};

/* NULL, or what is wrong.  An id that cannot be one becomes the empty one. */
static const char *take_mark(const struct input *in, struct mark *ret)
{
	struct chatd_str user = in->with.n ? in->with
			: in->to.n                 ? in->to
			: in->receiver.n           ? in->receiver
									   : in->receiver_id;
	if (user.n && in->room.n) {
		return "with and roomId exclude each other";
	}
	if (!user.n && !in->room.n) {
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
	struct chatd_str where = user.n ? user : in->room;
	*ret = (struct mark){ .is_room = !user.n, .seq = in->seq > 0 ? in->seq : 0 };
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
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	const char *fault = take_mark(&in, &m);
	json_decref(root);
	if (fault) {
		return h->reject(call, "VALIDATION", "%s", fault);
	}
	if (m.is_room) {
		return ask_room(self, call, &m);
	}
	if (!m.where[0]) {
		return h->reject(call, "NOT_FOUND", "there is no such user");
	}
	if (!chatd_str_same(text(m.where), h->ident_user(h->call_ident(call)))) {
		go_on(self, h->call_session(call), &m);
	}
	return CHATD_ACCEPT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct slot *slot = self->h->slot(self->h->call_session(call), self->slot);
	(void)wself;
	while (slot->n > 0) {
		flush(TAILQ_FIRST(&slot->all));
	}
	return CHATD_NEXT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){
		.h = h, .ctx = ctx, .conf = conf, .rooms = h->service(ctx, CHATD_ROOMS)
	};
	*ret_self = self;
	chatd_status rc = h->session_slot(ctx, sizeof(struct slot), drop_slot, &self->slot);
	rc = rc < 0 ? rc : h->app(ctx, "chat.read", on_read);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_session_close, CHATD_ORDER_CHECK, on_close);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const wants[] = { CHATD_ROOMS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "receipts",
	.version = "0.1",
	.summary = "tells people and rooms who has read up to where",
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};

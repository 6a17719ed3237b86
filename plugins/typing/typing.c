/* SPDX-License-Identifier: Apache-2.0 */
/* "... is typing": told to a person or a room, never stored, seldom repeated, and ended by
 * itself, by a message, or with the session. */
#include <chatd-sdk/chat.h>
#include <chatd/plugin.h>
#include <chatd/privacy.h>
#include <chatd/rooms.h>

#include <stdatomic.h>
#include <sys/queue.h>

#define QUEUE "/user/queue/typing"

enum { CONVERSATIONS_MAX = 8 }; /* that one session types in at once; the oldest ends */

struct conf {
	int64_t repeat, expire;
	int32_t legacy_queues;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *rooms;   /* NULL: there are none */
	const struct chatd_service *privacy; /* NULL: nobody can block anybody */
	uint32_t slot;
	atomic_int asks; /* rooms that have not answered yet */
};

struct target {
	int32_t is_room;
	char id[CHATD_ID_MAX + 1];
};

/* One conversation in which a session is typing. */
struct typist {
	TAILQ_ENTRY(typist) link;
	struct self *self;
	chatd_worker *w;
	struct slot *slot;
	const chatd_ident *who;
	struct chatd_timer timer; /* when it ends by itself */
	int64_t told;             /* when "is typing" was passed on last */
	struct target to;
};
TAILQ_HEAD(typists, typist);

struct slot { /* of a session, zeroed */
	struct typists all;
	int32_t n;
};

static const struct chatd_opt opts[] = {
	{ .key = "repeat",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, repeat),
			.fallback = "3s",
			.max = 3600000,
			.doc = "A repeated \"is typing\" is passed on this often at most." },
	{ .key = "expire",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, expire),
			.fallback = "6s",
			.min = 100,
			.max = 3600000,
			.doc = "Without a repetition, \"is typing\" ends after this time." },
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

static void write_event(struct chatd_json *j, const struct typist *t, int32_t typing)
{
	const struct chatd_host *h = t->self->h;
	struct chatd_str name = h->ident_name(t->who);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "type", CHATD_LIT("TYPING"));
	chatd_json_member(j, "sender", h->ident_user(t->who));
	chatd_json_member(j, "senderId", h->ident_user(t->who));
	chatd_json_member(j, "senderName", name.n ? name : chatd_str_of(NULL, 0));
	if (t->to.is_room) {
		chatd_json_member(j, "roomId", text(t->to.id));
	} else {
		chatd_json_member(j, "receiver", text(t->to.id));
		chatd_json_member(j, "receiverId", text(t->to.id));
	}
	chatd_json_flag(j, "typing", typing);
	chatd_json_time(j, "timestamp", h->wall_ms());
	chatd_json_lit(j, "}");
}

/* So that a client can subscribe `only` to the typing of the conversation that it shows. */
static chatd_status say_about(const struct typist *t, chatd_msg *m, const char *dest)
{
	const struct chatd_host *h = t->self->h;
	int own = strcmp(dest, QUEUE) == 0;
	return h->msg_set(m, "about", own ? h->ident_user(t->who) : CHATD_LIT("typing"));
}

/* Nobody is told when there is no memory: that is what ephemeral means. */
static void publish(const struct typist *t, const char *dest, struct chatd_str body)
{
	const struct chatd_host *h = t->self->h;
	if (!t->to.is_room &&
			chatd_privacy_between(t->self->privacy, t->w, h->ident_user(t->who), text(t->to.id))) {
		return;
	}
	chatd_msg *m = h->msg_new(text(dest), body);
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0 &&
			say_about(t, m, dest) == 0) {
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
		(void)(t->to.is_room ? h->publish(t->w, m) : h->publish_user(t->w, text(t->to.id), m));
	}
	h->msg_unref(m);
}

static void tell(struct typist *t, int32_t typing)
{
	char room[1024], dest[sizeof("/topic/room/") + CHATD_ID_MAX] = QUEUE;
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	write_event(&j, t, typing);
	if (t->to.is_room) {
		snprintf(dest, sizeof(dest), "/topic/room/%s", t->to.id);
	}
	if (!j.failed) {
		publish(t, dest, chatd_json_str(&j));
	}
	if (!j.failed && t->self->conf->legacy_queues && !t->to.is_room) {
		publish(t, "/user/queue/messages", chatd_json_str(&j));
	}
	chatd_json_free(&j);
	t->told = t->self->h->now_ms(t->w);
}

/* ---- who is typing where ----------------------------------------------------------------- */

static void forget(struct typist *t)
{
	const struct chatd_host *h = t->self->h;
	h->timer_clear(&t->timer);
	TAILQ_REMOVE(&t->slot->all, t, link);
	t->slot->n--;
	h->ident_unref(t->who);
	h->mem_free(t);
}

static void stop(struct typist *t)
{
	tell(t, 0);
	forget(t);
}

static void on_expired(void *arg)
{
	stop(arg);
}

static void stop_all(struct slot *slot)
{
	while (slot->n > 0) {
		stop(TAILQ_FIRST(&slot->all));
	}
}

/* Other plugins' session_close may come before this one's: here nobody is told any more. */
static void drop_slot(void *slotp)
{
	struct slot *slot = slotp;
	while (slot->n > 0) {
		forget(TAILQ_FIRST(&slot->all));
	}
}

static struct typist *find(struct slot *slot, const struct target *to)
{
	struct typist *t = slot->n > 0 ? TAILQ_FIRST(&slot->all) : NULL;
	while (t && (t->to.is_room != to->is_room || strcmp(t->to.id, to->id) != 0)) {
		t = TAILQ_NEXT(t, link);
	}
	return t;
}

static struct typist *add(struct self *self, chatd_session *session, const struct target *to)
{
	const struct chatd_host *h = self->h;
	struct slot *slot = h->slot(session, self->slot);
	struct typist *t = h->mem_alloc(sizeof(*t));
	if (!t) {
		return NULL;
	}
	if (slot->n == 0) {
		TAILQ_INIT(&slot->all);
	} else if (slot->n == CONVERSATIONS_MAX) {
		stop(TAILQ_FIRST(&slot->all));
	}
	t->self = self;
	t->w = h->session_worker(session);
	t->slot = slot;
	t->who = h->ident_ref(h->session_ident(session));
	t->to = *to;
	TAILQ_INSERT_TAIL(&slot->all, t, link);
	slot->n++;
	return t;
}

static void keep_alive(struct typist *t)
{
	t->self->h->timer_set(t->w, &t->timer, t->self->conf->expire, on_expired, t);
}

/* What was asked for may be done: begin, or say it again. */
static void go_on(struct self *self, chatd_session *session, const struct target *to)
{
	struct typist *t = find(self->h->slot(session, self->slot), to);
	if (!t) {
		t = add(self, session, to);
	}
	if (t) {
		tell(t, 1);
		keep_alive(t);
	}
}

/* ---- rooms: members only ------------------------------------------------------------------ */

struct ask {
	struct self *self;
	chatd_worker *w;
	chatd_token token;
	chatd_sid session;
	struct target to;
};

static void ask_free(struct ask *a)
{
	atomic_fetch_sub(&a->self->asks, 1);
	a->self->h->mem_free(a);
}

static void room_done(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct ask *a = arg;
	const struct chatd_host *h = a->self->h;
	chatd_session *session = h->session_find(a->w, a->session);
	const char *silent = rc == 0 && CHATD_HAS(v, silent) ? v->silent : NULL;
	if (silent) {
		(void)h->resume(a->token, CHATD_REJECT, silent, "you may not speak in this room now");
	} else if (rc == 0 && v->role != CHATD_ROLE_NONE) {
		if (session) {
			go_on(a->self, session, &a->to);
		}
		(void)h->resume(a->token, CHATD_ACCEPT, NULL, NULL);
	} else {
		(void)h->resume(a->token, CHATD_REJECT, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	}
	ask_free(a);
}

static chatd_verdict ask_room(struct self *self, chatd_call *call, const struct target *to)
{
	const struct chatd_host *h = self->h;
	const struct chatd_rooms *rooms = self->rooms ? self->rooms->vt : NULL;
	if (!rooms || !chatd_id_ok(text(to->id))) {
		return h->reject(
				call, "NOT_MEMBER", "you are not a member of this room, or there is no such room");
	}
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	atomic_fetch_add(&self->asks, 1);
	*a = (struct ask){ .self = self,
		.w = h->call_worker(call),
		.token = h->suspend(call, NULL, NULL),
		.session = h->session_sid(h->call_session(call)),
		.to = *to };
	if (!a->token) {
		ask_free(a);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	if (rooms->look(self->rooms->obj, a->w, text(a->to.id), h->ident_user(h->call_ident(call)),
				room_done, a) < 0) {
		(void)h->resume(a->token, CHATD_REJECT, "UNAVAILABLE", "rooms cannot be looked up now");
		ask_free(a);
	}
	return CHATD_WAIT;
}

/* ---- /app/chat.typing ---------------------------------------------------------------------- */

struct input {
	struct chatd_chat_names names;
	int32_t typing;
};

static const struct chatd_json_field fields[] = {
	{ "to", CHATD_J_TEXT, offsetof(struct input, names.to) },
	{ "receiver", CHATD_J_TEXT, offsetof(struct input, names.receiver) },
	{ "receiverId", CHATD_J_TEXT, offsetof(struct input, names.receiver_id) },
	{ "roomId", CHATD_J_TEXT, offsetof(struct input, names.room) },
	{ "typing", CHATD_J_BOOL, offsetof(struct input, typing) },
	{ NULL, 0, 0 },
};

/* NULL, or what is wrong.  An id that cannot be one becomes the empty one. */
static const char *take_target(const struct input *in, struct target *ret)
{
	struct chatd_str user, room;
	const char *why = chatd_chat_target(&in->names, &user, &room);
	if (why) {
		return why;
	}
	struct chatd_str id = user.n ? user : room;
	ret->is_room = !user.n;
	chatd_str_copy(ret->id, sizeof(ret->id), chatd_id_ok(id) ? id : CHATD_LIT(""));
	return NULL;
}

static chatd_verdict begin(struct self *self, chatd_call *call, const struct target *to)
{
	const struct chatd_host *h = self->h;
	chatd_session *session = h->call_session(call);
	struct typist *t = find(h->slot(session, self->slot), to);
	if (t && h->now_ms(t->w) - t->told < self->conf->repeat) {
		keep_alive(t);
		return CHATD_ACCEPT;
	}
	if (to->is_room) {
		return ask_room(self, call, to);
	}
	if (!to->id[0]) {
		return h->reject(call, "NOT_FOUND", "there is no such user");
	}
	if (!chatd_str_same(text(to->id), h->ident_user(h->call_ident(call)))) {
		go_on(self, session, to);
	}
	return CHATD_ACCEPT;
}

static chatd_verdict on_typing(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct input in = { .typing = 1 };
	struct target to;
	json_t *root;
	char why[CHATD_JSON_WHY];
	(void)wself;
	if (!h->call_session(call)) {
		return h->reject(call, "FORBIDDEN", "nobody types here: a session says so, no program");
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	const char *fault = take_target(&in, &to);
	json_decref(root);
	if (fault) {
		return h->reject(call, "VALIDATION", "%s", fault);
	}
	if (in.typing) {
		return begin(self, call, &to);
	}
	struct typist *t = find(h->slot(h->call_session(call), self->slot), &to);
	if (t) {
		stop(t);
	}
	return CHATD_ACCEPT;
}

/* Whoever has sent a message is not typing it any more. */
static chatd_verdict on_sent(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	(void)wself;
	if (h->call_session(call) &&
			chatd_chat_dest(h->msg_dest(h->call_msg(call))) == CHATD_CHAT_USER) {
		stop_all(h->slot(h->call_session(call), self->slot));
	}
	return CHATD_NEXT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	(void)wself;
	stop_all(self->h->slot(self->h->call_session(call), self->slot));
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
		.h = h,
		.ctx = ctx,
		.conf = conf,
		.rooms = h->service(ctx, CHATD_ROOMS),
		.privacy = h->service(ctx, CHATD_PRIVACY),
	};
	*ret_self = self;
	chatd_status rc = h->session_slot(ctx, sizeof(struct slot), drop_slot, &self->slot);
	rc = rc < 0 ? rc : h->app(ctx, "chat.typing", on_typing);
	rc = rc < 0 ? rc : h->hook(ctx, chatd_hook_message_sent, CHATD_ORDER_OBSERVE, on_sent);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_session_close, CHATD_ORDER_CHECK, on_close);
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

static const char *const wants[] = { CHATD_ROOMS, CHATD_PRIVACY, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE,
	.name = "typing",
	.version = "0.1",
	.summary = "tells people and rooms who is typing",
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
	.busy = busy,
};

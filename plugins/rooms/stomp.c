/* SPDX-License-Identifier: Apache-2.0 */
/* The rooms as STOMP clients and other plugins see them. */
#include "rooms.h"

/* ---- /app/chat.join, /app/chat.leave ---------------------------------------------- */

struct request {
	struct chatd_str room, client_id;
};

static const struct chatd_json_field request_fields[] = {
	{ "roomId", CHATD_J_TEXT, offsetof(struct request, room) },
	{ "clientId", CHATD_J_TEXT, offsetof(struct request, client_id) },
	{ NULL, 0, 0 },
};

static void request_done(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	(void)h->resume(op->token, op->code ? CHATD_REJECT : CHATD_ACCEPT, op->code, op->why);
	op_free(op);
}

/* Whether the client stays or not: what was asked for is done. */
static chatd_verdict park(chatd_call *call, struct op *op, void (*done)(struct op *))
{
	const struct chatd_host *h = op->self->h;
	op->who = h->ident_ref(h->call_ident(call));
	op->done = done;
	op->token = h->suspend(call, NULL, NULL);
	if (!op->token || op_submit(op) < 0) {
		op_free(op);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	return CHATD_WAIT;
}

static chatd_verdict on_request(struct self *self, chatd_call *call, enum op_kind kind)
{
	const struct chatd_host *h = self->h;
	struct request r = { { NULL, 0 }, { NULL, 0 } };
	json_t *root;
	char why[CHATD_JSON_WHY];
	if (chatd_json_read(h->msg_body(h->call_msg(call)), request_fields, &r, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	if (r.client_id.p && r.client_id.n <= 128) {
		h->reply(call, "clientId", r.client_id);
	}
	struct op *op = NULL;
	chatd_verdict v;
	if (!r.room.p) {
		v = h->reject(call, "VALIDATION", "roomId is missing");
	} else if (!chatd_id_ok(r.room)) {
		v = h->reject(call, "NOT_FOUND", "there is no such room");
	} else if (!(op = op_create(self, h->call_worker(call), kind))) {
		v = -ENOMEM;
	} else {
		chatd_str_copy(op->room, sizeof(op->room), r.room);
		v = park(call, op, request_done);
	}
	json_decref(root);
	return v;
}

static chatd_verdict on_join(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_request(self, call, OP_JOIN);
}

static chatd_verdict on_leave(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_request(self, call, OP_LEAVE);
}

/* ---- /topic/room/... -------------------------------------------------------------- */

/* .p NULL: not a room's topic. */
static struct chatd_str room_of(struct chatd_str dest)
{
	size_t n = sizeof(ROOM_TOPIC) - 1;
	if (dest.n < n || memcmp(dest.p, ROOM_TOPIC, n) != 0) {
		return chatd_str_of(NULL, 0);
	}
	return chatd_str_of(dest.p + n, dest.n - n);
}

/* Who asks for room after room that is not theirs is looking for some. */
enum { REFUSED_MS = 60000 };
struct refusals {
	int64_t since, n;
};

static void note_refused(const struct self *self, chatd_worker *w, chatd_session *s)
{
	const struct chatd_host *h = self->h;
	struct refusals *r = s ? h->slot(s, self->slot) : NULL;
	int64_t now = h->now_ms(w);
	if (!r) {
		return;
	}
	if (!r->n || now - r->since >= REFUSED_MS) {
		r->since = now;
		r->n = 0;
	}
	if (++r->n == self->conf->max_refused) {
		h->session_close(s, 1008, "too many rooms asked for that are not yours");
	}
}

static void subscribe_done(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	(void)h->resume(op->token, op->code ? CHATD_REJECT : CHATD_NEXT, op->code, op->why);
	if (op->code && op->status < 500) {
		note_refused(op->self, op->from, h->session_find(op->from, op->session));
	}
	op_free(op);
}

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str room = room_of(h->msg_dest(h->call_msg(call)));
	(void)wself;
	if (!room.p) {
		return CHATD_NEXT;
	}
	if (!chatd_id_ok(room)) {
		note_refused(self, h->call_worker(call), h->call_session(call));
		return h->reject(call, "NOT_FOUND", "there is no such room");
	}
	struct op *op = op_create(self, h->call_worker(call), OP_SUBSCRIBE);
	if (!op) {
		return -ENOMEM;
	}
	op->session = h->session_sid(h->call_session(call));
	chatd_str_copy(op->room, sizeof(op->room), room);
	return park(call, op, subscribe_done);
}

/* What is in a room is said by plugins alone: a client could forge anything. */
static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	(void)wself;
	if (!room_of(h->msg_dest(h->call_msg(call))).p) {
		return CHATD_NEXT;
	}
	return h->reject(call, "FORBIDDEN", "send to /app/chat.send with the roomId instead");
}

/* ---- the service ------------------------------------------------------------------- */

static void look_done(struct op *op)
{
	struct chatd_room_view v = { .struct_size = sizeof(v),
		.id = text(op->room),
		.name = text(op->name),
		.is_public = op->is_public,
		.role = op->role,
		.members = op->members,
		.silent = op->role == CHATD_ROLE_NONE ? NULL : op->silent };
	op->look_fn(op->arg, op->code ? -ENOENT : 0, op->code ? NULL : &v);
	op_free(op);
}

static chatd_status submit(struct op *op)
{
	chatd_status rc = op_submit(op);
	if (rc < 0) {
		op_free(op);
	}
	return rc;
}

static chatd_status svc_look(void *obj, chatd_worker *w, struct chatd_str room,
		struct chatd_str user, chatd_room_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_LOOK);
	if (!op) {
		return -ENOMEM;
	}
	chatd_str_copy(op->room, sizeof(op->room), chatd_id_ok(room) ? room : CHATD_LIT(""));
	chatd_str_copy(op->target, sizeof(op->target), chatd_id_ok(user) ? user : CHATD_LIT(""));
	op->look_fn = fn;
	op->arg = arg;
	op->done = look_done;
	return submit(op);
}

static void members_done(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	struct chatd_str *ids = h->mem_alloc(op->n_people * sizeof(*ids));
	chatd_status rc = op->code ? -ENOENT : ids ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < op->n_people; i++) {
		ids[i] = text(op->people[i].id);
	}
	op->members_fn(op->arg, rc, rc == 0 ? ids : NULL, rc == 0 ? op->n_people : 0);
	h->mem_free(ids);
	op_free(op);
}

static chatd_status svc_members(
		void *obj, chatd_worker *w, struct chatd_str room, chatd_members_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_MEMBERS);
	if (!op) {
		return -ENOMEM;
	}
	chatd_str_copy(op->room, sizeof(op->room), chatd_id_ok(room) ? room : CHATD_LIT(""));
	op->members_fn = fn;
	op->arg = arg;
	op->done = members_done;
	return submit(op);
}

static void left_done(struct op *op)
{
	op->left_fn(op->arg, op->code ? -EIO : 0);
	op_free(op);
}

static chatd_status svc_leave_all(void *obj, chatd_worker *w, struct chatd_str user,
		struct chatd_str nick, chatd_left_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_GONE);
	if (!op) {
		return -ENOMEM;
	}
	chatd_str_copy(op->target, sizeof(op->target), chatd_id_ok(user) ? user : CHATD_LIT(""));
	chatd_str_copy(op->nick, sizeof(op->nick), nick);
	op->left_fn = fn;
	op->arg = arg;
	op->done = left_done;
	return submit(op);
}

static void act_done(struct op *op)
{
	op->done_fn(op->arg, op->code, op->why);
	op_free(op);
}

static chatd_status svc_act(void *obj, chatd_worker *w, const struct chatd_rooms_act *a,
		chatd_rooms_done *fn, void *arg)
{
	static const enum op_kind kinds[] = {
		[CHATD_ROOMS_KICK] = OP_REMOVE, [CHATD_ROOMS_BAN] = OP_BAN, [CHATD_ROOMS_MUTE] = OP_MUTE
	};
	const struct self *self = obj;
	int known = a->what >= CHATD_ROOMS_KICK && a->what <= CHATD_ROOMS_MUTE;
	struct op *op = known && a->by ? op_create(obj, w, kinds[a->what]) : NULL;
	if (!op) {
		return known && a->by ? -ENOMEM : -EINVAL;
	}
	op->who = self->h->ident_ref(a->by);
	chatd_str_copy(op->room, sizeof(op->room), chatd_id_ok(a->room) ? a->room : CHATD_LIT(""));
	chatd_str_copy(op->target, sizeof(op->target), chatd_id_ok(a->user) ? a->user : CHATD_LIT(""));
	chatd_str_copy(op->peer, sizeof(op->peer), a->address);
	chatd_str_copy(op->request, sizeof(op->request), a->request);
	op->over = a->over;
	op->seconds = a->seconds;
	op->done_fn = fn;
	op->arg = arg;
	op->done = act_done;
	return submit(op);
}

static const struct chatd_rooms vt = {
	.struct_size = sizeof(vt),
	.look = svc_look,
	.members = svc_members,
	.leave_all = svc_leave_all,
	.act = svc_act,
	.watch = watch_add,
};

chatd_status stomp_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	const struct chatd_dest_conf topic = { .struct_size = sizeof(topic), .kind = CHATD_DEST_TOPIC };
	chatd_status rc = h->provide(self->ctx, CHATD_ROOMS, &vt, self);
	rc = rc < 0 ? rc : h->prefix(self->ctx, ROOM_TOPIC, &topic);
	rc = rc < 0 ? rc : h->session_slot(self->ctx, sizeof(struct refusals), NULL, &self->slot);
	rc = rc < 0 ? rc : h->app(self->ctx, "chat.join", on_join);
	rc = rc < 0 ? rc : h->app(self->ctx, "chat.leave", on_leave);
	rc = rc < 0 ? rc : h->hook(self->ctx, chatd_hook_subscribe, CHATD_ORDER_CHECK, on_subscribe);
	return rc < 0 ? rc
				  : h->hook(self->ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
}

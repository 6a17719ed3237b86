/* SPDX-License-Identifier: Apache-2.0 */
#include "rooms.h"

#include <errno.h>

enum { POSTS = 3 }; /* that are tried when there is no memory for one */

/* ---- life -------------------------------------------------------------------------- */

/* 128 random bits: knowing the id of a private room must not be guessing it. */
static void random_id(const struct chatd_host *h, char ret[CHATD_ID_MAX + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char raw[16];
	h->random(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++) {
		ret[2 * i] = hex[raw[i] >> 4];
		ret[2 * i + 1] = hex[raw[i] & 15];
	}
	ret[2 * sizeof(raw)] = '\0';
}

struct op *op_create(struct self *self, chatd_worker *from, enum op_kind kind)
{
	struct op *op = self->h->mem_alloc(sizeof(*op));
	if (op) {
		op->self = self;
		op->from = from;
		op->kind = kind;
		op->status = 200;
		op->is_public = op->read_only = -1;
		op->seconds = -1;
		chatd_json_init(&op->out, NULL, 0);
		chatd_json_init(&op->says, NULL, 0);
		if (kind == OP_CREATE) {
			random_id(self->h, op->room);
		}
	}
	return op;
}

void op_free(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	h->ident_unref(op->who);
	chatd_json_free(&op->out);
	chatd_json_free(&op->says);
	h->mem_free(op->people);
	h->mem_free(op);
}

void op_fail(struct op *op, int32_t status, const char *code, const char *why)
{
	op->status = status;
	op->code = code;
	op->why = why;
}

struct chatd_str op_user(const struct op *op)
{
	return op->who ? op->self->h->ident_user(op->who) : text(op->target);
}

int op_is_guest(const struct op *op)
{
	return op->who ? (op->self->h->ident_flags(op->who) & CHATD_ID_ANONYMOUS) != 0 : op->guest;
}

int op_is_admin(const struct op *op)
{
	return op->over || (op->who && (op->self->h->ident_flags(op->who) & CHATD_ID_ADMIN));
}

/* ---- to the home and back ------------------------------------------------------------- */

struct home *op_home(const struct op *op)
{
	return op->self->h->worker_self(op->self->ctx, op->home);
}

static void on_answer(void *arg)
{
	struct op *op = arg;
	op->done(op);
}

/* What moderators, owners and administrators do is noted, whatever became of it. */
static void note(const struct op *op)
{
	static const char *const names[OP_KINDS] = { [OP_PATCH] = "room.change",
		[OP_DELETE] = "room.delete",
		[OP_ADD] = "room.add",
		[OP_REMOVE] = "room.kick",
		[OP_ROLE] = "room.role",
		[OP_BAN] = "room.ban",
		[OP_UNBAN] = "room.unban",
		[OP_MUTE] = "room.mute" };
	int self_out = op->kind == OP_REMOVE && chatd_str_same(op_user(op), text(op->target));
	int timed = op->kind == OP_BAN || op->kind == OP_MUTE;
	if (!names[op->kind] || !op->who || self_out) {
		return;
	}
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = text(names[op->kind]),
		.actor = op_user(op),
		.target = op->target[0] ? text(op->target) : chatd_str_of(NULL, 0),
		.room = text(op->room),
		.result = op->code ? text(op->code) : chatd_str_of(NULL, 0),
		.detail = op->kind == OP_ROLE ? text(role_name(op->role)) : chatd_str_of(NULL, 0),
		.address = op->peer[0] ? text(op->peer) : chatd_str_of(NULL, 0),
		.request = op->request[0] ? text(op->request) : chatd_str_of(NULL, 0),
		.until = !timed           ? 0
				: op->seconds < 0 ? INT64_MAX
				: op->seconds     ? op->self->h->wall_ms() + op->seconds * 1000
								  : 0 };
	chatd_audit_note(op->self->audit, op->home, &e);
}

void op_answer(struct op *op)
{
	note(op);
	if (op->out.failed) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
	}
	chatd_status rc = -ENOMEM;
	for (int i = 0; i < POSTS && rc == -ENOMEM; i++) {
		rc = op->self->h->post(op->from, on_answer, op);
	}
	/* Else it is on its way; or it stays, as what waits there still knows it. */
	if (rc == -ENOMEM && op->from == op->home) {
		op->done(op);
	} else if (rc == -ESHUTDOWN) {
		op_free(op); /* that worker has ended, and with it whoever waits */
	}
}

static void on_question(void *arg)
{
	home_run(arg);
}

chatd_worker *op_home_of(const struct op *op)
{
	const struct self *self = op->self;
	if (op->kind == OP_LIST || op->kind == OP_MINE || op->kind == OP_GONE) {
		return op->from; /* of no one room */
	}
	if (!self->log) {
		return self->h->worker_at(0);
	}
	const struct chatd_log *log = self->log->vt;
	struct chatd_store_conv conv = { .room = text(op->room) };
	return log->home(self->log->obj, &conv);
}

chatd_status op_submit(struct op *op)
{
	op->home = op_home_of(op);
	return op->self->h->post(op->home, on_question, op);
}

/* ---- asking the store ------------------------------------------------------------------ */

void op_on_store(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	op_store_fn *next = op->next;
	op->next = NULL;
	next(op, rc, a);
	if (!op->next && !op->leaving) {
		op_answer(op);
	}
}

void op_wait(struct op *op, chatd_status rc, op_store_fn *next)
{
	if (rc < 0) {
		op_refused(op, rc, NULL);
	} else {
		op->next = next;
	}
}

static void refused_by_rules(struct op *op, int32_t why)
{
	switch (why) {
	case CHATD_STORE_BANNED:
		op_fail(op, 403, "BANNED",
				op->kind == OP_JOIN ? "you are banned from this room"
									: "this user is banned from the room; lift the ban first");
		break;
	case CHATD_STORE_ROOM_FULL:
		op_fail(op, 409, "ROOM_FULL", "this room is full");
		break;
	case CHATD_STORE_TOO_MANY:
		op_fail(op, 409, "TOO_MANY_ROOMS", "that is one room more than a user may be in");
		break;
	case CHATD_STORE_NO_PLACE:
		op_fail(op, 409, "TOO_MANY_ROOMS", "this server has no place for another room");
		break;
	case CHATD_STORE_LAST:
		op_fail(op, 403, "FORBIDDEN", "a room needs an owner; make somebody else the owner first");
		break;
	default:
		op_fail(op, 403, "FORBIDDEN", "your role in this room does not allow that");
		break;
	}
}

void op_refused(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	int32_t why = a ? a->why : CHATD_STORE_WHY_NONE;
	if (rc == -ENOENT && why == CHATD_STORE_NOT_MEMBER) {
		op_fail(op, 404, "NOT_FOUND", "the room has no such member");
	} else if (rc == -ENOENT || why == CHATD_STORE_NOT_INVITED) {
		op_fail(op, 404, "NOT_FOUND", "there is no such room");
	} else if (rc == -EACCES || rc == -EDQUOT) {
		refused_by_rules(op, why);
	} else if (rc == -EINVAL) {
		op_fail(op, 422, "VALIDATION",
				op->kind == OP_ROLE ? "role: a guest can be a member only"
									: "the store cannot keep that");
	} else if (rc == -EAGAIN || rc == -EBUSY) {
		op_fail(op, 503, "STORE_BUSY", "changes cannot be stored fast enough now; try again");
	} else if (rc == -ENOSPC) {
		op_fail(op, 503, "STORE_FULL", "the server's disk is full");
	} else {
		op_fail(op, 503, "UNAVAILABLE", "rooms cannot be looked up now");
	}
}

static void on_room(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == -ENOENT && op_is_admin(op) && !op->as_admin) {
		op->as_admin = 1;
		op_look(op, op->then);
	} else if (rc < 0) {
		op_refused(op, rc, a);
	} else {
		op->then(op, &a->rooms[0]);
	}
}

void op_look(struct op *op, op_room_fn *then)
{
	struct chatd_store_room_key r = { .struct_size = sizeof(r), .room = text(op->room) };
	if (!op->as_admin) {
		r.user = op_user(op);
	}
	op->then = then;
	op_wait(op, op_store(op)->room_get(op->self->store->obj, op->home, &r, op_on_store, op),
			on_room);
}

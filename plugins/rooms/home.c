/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at rooms, coming and going.  Everything here runs on the room's home. */
#include "rooms.h"

static void no_room(struct op *op)
{
	op_fail(op, 404, "NOT_FOUND", "there is no such room");
}

static void not_member(struct op *op)
{
	op_fail(op, 403, "NOT_MEMBER", "you are not a member of this room");
}

/* ---- looking -------------------------------------------------------------------------- */

void home_write_room(struct op *op, const struct chatd_store_room *r)
{
	struct chatd_json *j = &op->out;
	int64_t now = op->self->h->wall_ms();
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", r->id);
	chatd_json_member(j, "name", r->name);
	chatd_json_flag(j, "public", (r->flags & CHATD_STORE_ROOM_PUBLIC) != 0);
	chatd_json_int(j, "members", r->members);
	chatd_json_flag(j, "joined", r->role != CHATD_ROLE_NONE);
	if (r->role != CHATD_ROLE_NONE) {
		chatd_json_member(j, "role", text(role_name(r->role)));
	} else if (r->invited) {
		chatd_json_flag(j, "invited", 1);
	}
	if (r->about.n) {
		chatd_json_member(j, "about", r->about);
	}
	if (r->flags & CHATD_STORE_ROOM_READ_ONLY) {
		chatd_json_flag(j, "readOnly", 1);
	}
	if (r->slow_ms) {
		chatd_json_int(j, "slowMode", r->slow_ms / 1000);
	}
	if (r->role >= CHATD_ROLE_MODERATOR && r->retention_ms) {
		chatd_json_int(j, "retention", r->retention_ms / 1000);
	}
	if (r->role >= CHATD_ROLE_MODERATOR) {
		chatd_json_int(j, "maxMembers", r->max_members);
	}
	if (r->muted_until > now) {
		chatd_json_time(j, "mutedUntil", r->muted_until);
	}
	chatd_json_lit(j, "}");
}

static void look_room(struct op *op, const struct chatd_store_room *r)
{
	chatd_str_copy(op->name, sizeof(op->name), r->name);
	op->is_public = (r->flags & CHATD_STORE_ROOM_PUBLIC) != 0;
	op->members = r->members;
	op->role = r->role;
	op->silent = NULL;
	if (r->muted_until > op->self->h->wall_ms()) {
		op->silent = "MUTED";
	} else if (r->flags & CHATD_STORE_ROOM_READ_ONLY && r->role < CHATD_ROLE_MODERATOR) {
		op->silent = "READ_ONLY";
	}
}

/* ---- may they listen? ------------------------------------------------------------------- */

static void ask_subscribe(struct op *op);

static void on_subscribe(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	TAILQ_REMOVE(&op_home(op)->asking, op, link);
	if (op->stale || (rc == -ENOENT && op_is_admin(op) && !op->as_admin)) {
		op->as_admin |= !op->stale;
		op->stale = 0;
		ask_subscribe(op);
	} else if (rc == -ENOENT ||
			(rc == 0 && a->rooms[0].role == CHATD_ROLE_NONE &&
					!(a->rooms[0].flags & CHATD_STORE_ROOM_PUBLIC) && !op->as_admin)) {
		op_fail(op, 403, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	} else if (rc < 0) {
		op_refused(op, rc, a);
	} else if (a->rooms[0].banned_until > op->self->h->wall_ms()) {
		op_fail(op, 403, "BANNED", "you are banned from this room");
	}
}

static void ask_subscribe(struct op *op)
{
	struct chatd_store_room_key r = { .struct_size = sizeof(r), .room = text(op->room) };
	if (!op->as_admin) {
		r.user = op_user(op);
	}
	op_wait(op, op_store(op)->room_get(op->self->store->obj, op->home, &r, op_on_store, op),
			on_subscribe);
	if (op->next) {
		TAILQ_INSERT_TAIL(&op_home(op)->asking, op, link);
	}
}

/* ---- lists ------------------------------------------------------------------------------ */

static void ask_list(struct op *op, int32_t scope, op_store_fn *next)
{
	struct chatd_store_room_list r = {
		.struct_size = sizeof(r), .scope = scope, .user = op_user(op), .limit = LIST_MAX
	};
	op_wait(op, op_store(op)->room_list(op->self->store->obj, op->home, &r, op_on_store, op), next);
}

static void on_invited(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	for (size_t i = 0; rc == 0 && i < a->n_rooms; i++) {
		if (!(a->rooms[i].flags & CHATD_STORE_ROOM_PUBLIC) || op->kind == OP_MINE) {
			home_write_room(op, &a->rooms[i]);
		}
	}
	chatd_json_lit(&op->out, "]}");
	if (rc < 0) {
		op_refused(op, rc, a);
	}
}

static void on_mine(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	for (size_t i = 0; i < a->n_rooms; i++) {
		home_write_room(op, &a->rooms[i]);
	}
	if (op->kind == OP_LIST) {
		ask_list(op, CHATD_STORE_INVITED_TO, on_invited);
	} else {
		chatd_json_lit(&op->out, "]}");
	}
}

static void on_public(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
		return;
	}
	for (size_t i = 0; i < a->n_rooms; i++) {
		if (a->rooms[i].role == CHATD_ROLE_NONE) {
			home_write_room(op, &a->rooms[i]);
		}
	}
	ask_list(op, CHATD_STORE_MINE, on_mine);
}

static void run_list(struct op *op)
{
	chatd_json_lit(&op->out, "{\"rooms\":[");
	if (op->kind == OP_LIST) {
		ask_list(op, CHATD_STORE_PUBLIC, on_public);
	} else {
		ask_list(op, CHATD_STORE_MINE, on_mine);
	}
}

static int keep_people(struct op *op, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = op->self->h;
	size_t n = op->n_people + a->n_members;
	struct op_person *p = h->mem_alloc((n ? n : 1) * sizeof(*p));
	if (!p) {
		op_fail(op, 503, "UNAVAILABLE", "the server has no memory left");
		return 0;
	}
	if (op->n_people) {
		memcpy(p, op->people, op->n_people * sizeof(*p));
	}
	h->mem_free(op->people);
	op->people = p;
	for (size_t i = 0; i < a->n_members; i++) {
		const struct chatd_store_member *m = &a->members[i];
		struct op_person *to = &p[op->n_people++];
		chatd_str_copy(to->id, sizeof(to->id), m->user);
		chatd_str_copy(to->nick, sizeof(to->nick), m->nick);
		to->role = m->role;
		to->until = op->kind == OP_BANS ? m->banned_until : m->muted_until;
	}
	op->members = op->kind == OP_BANS ? (int64_t)op->n_people : a->n;
	return 1;
}

/* Plugins, and who deletes the room, get all of them; requests one page. */
static void on_people(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
	} else if (!keep_people(op, a)) {
		return;
	} else if (!op->limit && a->n_members == LIST_MAX) {
		home_people(op);
	} else if (op->kind == OP_DELETE) {
		manage_delete(op);
	}
}

void home_people(struct op *op)
{
	struct chatd_store_members r = { .struct_size = sizeof(r),
		.which = op->kind == OP_BANS ? CHATD_STORE_BANS : CHATD_STORE_MEMBERS,
		.room = text(op->room),
		.after = text(op->n_people ? op->people[op->n_people - 1].id : op->after),
		.limit = op->limit ? op->limit : LIST_MAX };
	op_wait(op, op_store(op)->members(op->self->store->obj, op->home, &r, op_on_store, op),
			on_people);
}

static void people_room(struct op *op, const struct chatd_store_room *r)
{
	if (!op_is_admin(op) && r->role == CHATD_ROLE_NONE) {
		not_member(op);
	} else if (op->kind == OP_BANS && !op_is_admin(op) && r->role < CHATD_ROLE_MODERATOR) {
		op_fail(op, 403, "FORBIDDEN", "only moderators of the room may do that");
	} else {
		home_people(op);
	}
}

static void run_people(struct op *op)
{
	if (op->who) {
		op_look(op, people_room);
	} else {
		home_people(op);
	}
}

/* ---- making ------------------------------------------------------------------------------ */

static void on_created(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc < 0) {
		op_refused(op, rc, a);
	} else {
		const struct say s = {
			.type = "JOIN", .user = op_user(op), .nick = op->self->h->ident_name(op->who)
		};
		op->status = 201;
		watch_tell(op, CHATD_ROOM_MADE, op_user(op));
		home_write_room(op, &a->rooms[0]);
		say_prepare(op, &s); /* no row: for the owner's other devices */
		say_user(op, s.user);
	}
}

static void run_create(struct op *op)
{
	const struct conf *conf = op->self->conf;
	const struct chatd_host *h = op->self->h;
	if (op_is_guest(op)) {
		op_fail(op, 403, "FORBIDDEN", "guests cannot make rooms");
		return;
	}
	struct chatd_store_room r = { .struct_size = sizeof(r),
		.flags = op->is_public ? CHATD_STORE_ROOM_PUBLIC : 0,
		.id = text(op->room),
		.name = text(op->name),
		.about = text(op->about),
		.max_members = conf->max_members,
		.max_total = conf->max_rooms,
		.max_rooms = conf->rooms_per_user,
		.created = h->wall_ms(),
		.user = op_user(op),
		.nick = h->ident_name(op->who) };
	op_wait(op, op_store(op)->room_create(op->self->store->obj, op->home, &r, op_on_store, op),
			on_created);
}

static void on_preset(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	struct home *at = op_home(op);
	if (rc < 0 && rc != -EEXIST) {
		op_refused(op, rc, a);
		op->self->h->log(op->self->ctx, CHATD_LOG_ERROR, "the room %s cannot be made: %s (%d)",
				op->room, op->why, (int)-rc);
	}
	if (rc == 0) {
		watch_tell(op, CHATD_ROOM_MADE, chatd_str_of(NULL, 0));
	}
	if (--at->presets == 0) {
		home_early(at);
	}
}

static void run_preset(struct op *op)
{
	struct chatd_store_room r = { .struct_size = sizeof(r),
		.flags = CHATD_STORE_ROOM_PRESET | (op->is_public ? CHATD_STORE_ROOM_PUBLIC : 0),
		.id = text(op->room),
		.name = text(op->name),
		.max_members = op->self->conf->max_members,
		.created = op->self->h->wall_ms() };
	op_wait(op, op_store(op)->room_create(op->self->store->obj, op->home, &r, op_on_store, op),
			on_preset);
	if (!op->next) {
		on_preset(op, -EAGAIN, NULL);
	}
}

/* ---- the way in ----------------------------------------------------------------------------- */

static void run_look(struct op *op)
{
	op_look(op, look_room);
}

static void run_get(struct op *op)
{
	op_look(op, home_write_room);
}

static int needs_room(enum op_kind kind)
{
	return kind != OP_LIST && kind != OP_MINE && kind != OP_GONE;
}

static void start(struct op *op)
{
	static void (*const run[OP_KINDS])(struct op *) = {
		[OP_LOOK] = run_look,
		[OP_SUBSCRIBE] = ask_subscribe,
		[OP_LIST] = run_list,
		[OP_MINE] = run_list,
		[OP_GET] = run_get,
		[OP_CREATE] = run_create,
		[OP_MEMBERS] = run_people,
		[OP_BANS] = run_people,
		[OP_PRESET] = run_preset,
	};
	if (needs_room(op->kind) && !op->room[0]) {
		no_room(op);
	} else if (run[op->kind]) {
		run[op->kind](op);
	} else {
		manage_run(op);
	}
	if (!op->next) {
		op_answer(op);
	}
}

void home_run(struct op *op)
{
	struct home *at = op_home(op);
	if (at->presets && op->kind != OP_PRESET) {
		TAILQ_INSERT_TAIL(&at->early, op, link);
	} else {
		start(op);
	}
}

void home_early(struct home *at)
{
	struct op *op;
	while ((op = TAILQ_FIRST(&at->early))) {
		TAILQ_REMOVE(&at->early, op, link);
		start(op);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody came, got another role or was shown out, and the store said -EBUSY while the commit was
 * under way: it may have happened, and then the room must hear of it, and who was shown out must
 * hear nothing more, although nobody asks again.
 *
 * The store carries out a worker's writes in order, so when a later one has been answered the
 * change has happened or never will; the later one here writes nothing.  Then the row of the
 * event tells which. */
#include "rooms.h"

enum { AGAIN_MS = 500 };

static void settle(void *arg);

static void end(struct op *d)
{
	if (!d->stale) {
		TAILQ_REMOVE(&op_home(d)->doubts, d, link);
	}
	op_free(d);
}

/* 0: the worker has ended meanwhile, and so has this. */
static int answered(struct op *d)
{
	d->under_way = 0;
	if (d->stale) {
		end(d);
		return 0;
	}
	return 1;
}

static void again(struct op *d)
{
	d->self->h->timer_set(d->home, &d->timer, AGAIN_MS, settle, d);
}

static int shows_out(enum op_kind kind)
{
	return kind == OP_LEAVE || kind == OP_REMOVE || kind == OP_BAN;
}

/* Whoever came back meanwhile keeps what they hear; who left a public room, or was banned in vain
 * without being in it, too. */
static int may_hear(const struct op *d, const struct chatd_store_room *r)
{
	if (r->role != CHATD_ROLE_NONE) {
		return 1;
	}
	return (r->flags & CHATD_STORE_ROOM_PUBLIC) &&
			(d->kind == OP_LEAVE ||
					(d->kind == OP_BAN && r->banned_until <= d->self->h->wall_ms()));
}

static void on_state(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *d = arg;
	if (!answered(d)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		again(d);
		return;
	}
	if (rc < 0 || !may_hear(d, &a->rooms[0])) {
		say_cut(d, text(d->target));
	}
	end(d);
}

static void look(struct op *d)
{
	const struct chatd_store_room_key r = {
		.struct_size = sizeof(r), .room = text(d->room), .user = text(d->target)
	};
	d->under_way = 1;
	chatd_status rc = op_store(d)->room_get(d->self->store->obj, d->home, &r, on_state, d);
	if (rc < 0) {
		on_state(d, rc, NULL);
	}
}

static void tell(struct op *d, const struct chatd_store_answer *a)
{
	const struct chatd_store_answer row = { .struct_size = sizeof(row),
		.seq = a->messages[0].seq,
		.pos = a->messages[0].pos,
		.epoch = a->epoch };
	say_publish(d, &row);
	say_user(d, text(d->target));
	d->told = 1;
}

static void on_event(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *d = arg;
	if (!answered(d)) {
		return;
	}
	if (rc == -ENOENT && d->kind != OP_BAN) { /* a ban of somebody who is not in there has no row */
		end(d);
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		again(d);
		return;
	}
	if (rc == 0 && !d->told) {
		tell(d, a);
	}
	if (shows_out(d->kind)) {
		look(d);
	} else {
		end(d);
	}
}

static void on_settled(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *d = arg;
	(void)a;
	if (!answered(d)) {
		return;
	}
	if (rc < 0) {
		again(d);
		return;
	}
	const struct chatd_store_message_key key = { .struct_size = sizeof(key),
		.id = text(d->says_id) };
	d->under_way = 1;
	rc = op_store(d)->message(d->self->store->obj, d->home, &key, on_event, d);
	if (rc < 0) {
		on_event(d, rc, NULL);
	}
}

static void settle(void *arg)
{
	struct op *d = arg;
	const struct chatd_store_outbox_done nothing = { .struct_size = sizeof(nothing) };
	d->under_way = 1;
	chatd_status rc =
			op_store(d)->outbox_done(d->self->store->obj, d->home, &nothing, on_settled, d);
	if (rc < 0) {
		on_settled(d, rc, NULL);
	}
}

void doubt_begin(struct op *op, struct chatd_str user)
{
	struct op *d = op_create(op->self, op->home, op->kind);
	if (!d) {
		op->self->h->log(op->self->ctx, CHATD_LOG_ERROR,
				"no memory to see what became of %.*s in room %s", (int)user.n, user.p, op->room);
		return;
	}
	d->home = op->home;
	if (op->who) {
		d->who = op->self->h->ident_ref(op->who);
	}
	memcpy(d->room, op->room, sizeof(d->room));
	memcpy(d->says_id, op->says_id, sizeof(d->says_id));
	chatd_str_copy(d->target, sizeof(d->target), user);
	memcpy(d->about_user, op->about_user, sizeof(d->about_user));
	d->event = op->event;
	chatd_json_raw(&d->says, op->says.p, op->says.n);
	TAILQ_INSERT_TAIL(&op_home(d)->doubts, d, link);
	settle(d);
}

void doubt_stop(struct home *at)
{
	struct op *d;
	while ((d = TAILQ_FIRST(&at->doubts))) {
		TAILQ_REMOVE(&at->doubts, d, link);
		d->self->h->timer_clear(&d->timer);
		d->stale = 1;
		if (!d->under_way) {
			op_free(d);
		}
	}
}

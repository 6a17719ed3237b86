/* SPDX-License-Identifier: Apache-2.0 */
/* The node's lease: taken, renewed, lost, taken again with a new epoch; and what dead nodes
 * leave behind. */
#include "presence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STOOD_STILL_MS = 5000,
	SWEEP_AFTER_MS = 5000, /* others must have had the time to come back with Redis */
	SETTLE_UP_MS = 5000,   /* after a loss of the connection others write again what they have */
	SETTLE_LOST_MS =
			5000,      /* and when Redis has forgotten everything, too: they see it within 1 s */
	SWEEP_USERS = 200, /* in one call */
	READ_MS = 5000,    /* events are read, even if nothing calls for it */
	LEAVE_MS = 1000,
	SWEEP_WORDS = 9,
	BESIDE_MS = 60000, /* what is wrong for long is said so often */
};

static int64_t now_of(const struct self *self)
{
	return self->h->now_ms(home_of(self));
}

static void settle(struct self *self, int64_t ms)
{
	int64_t until = now_of(self) + ms;
	if (until > atomic_load(&self->settled_at)) {
		atomic_store(&self->settled_at, until);
	}
}

/* ---- fencing ------------------------------------------------------------------------------------ */

/* Others may have told that our users have gone, and another process may have our name: nothing
 * is written any more with this epoch. */
static void fence(struct self *self, const char *why)
{
	struct home *home = self->home;
	home->state = LEASE_NONE;
	home->need_epoch = 1;
	if (!atomic_exchange(&self->unknown, 1)) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"%s: who is online elsewhere is not known until the lease is taken again", why);
		count(self, self->count_fenced, 1);
	}
}

static void look_at_clock(struct self *self)
{
	struct home *home = self->home;
	int64_t now = now_of(self), still = now - home->ticked_at;
	if (home->ticked_at && still >= STOOD_STILL_MS) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "this process stood still for %lld s",
				(long long)still / 1000);
	}
	home->ticked_at = now;
	if (home->state == LEASE_HELD && now - home->held_at >= self->conf->lease) {
		fence(self, "the lease of this node could not be renewed in time");
	}
}

/* ---- epochs --------------------------------------------------------------------------------------- */

static void new_epoch(struct self *self, int64_t epoch)
{
	struct home *home = self->home;
	if (home->epoch > 0 && home->doubt == 0) {
		home->doubt = home->epoch;
	}
	home->epoch = epoch > home->epoch ? epoch : home->epoch + 1;
	home->need_epoch = 0;
	lease_claim(self);
}

static void on_epoch(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct self *self = arg;
	self->home->asking_epoch = 0;
	if (rc == 0 && self->home->need_epoch) {
		new_epoch(self, (int64_t)a->n);
	}
}

/* The store's are higher than all that this node ever had, also when Redis has forgotten them.
 * Without a store the clock has to do. */
static void ask_epoch(struct self *self)
{
	struct home *home = self->home;
	const struct chatd_store *store = self->store ? self->store->vt : NULL;
	if (home->asking_epoch) {
		return;
	}
	if (!store || !CHATD_HAS(store, node_start)) {
		new_epoch(self, self->h->wall_ms());
		return;
	}
	const struct chatd_store_node node = { .struct_size = sizeof(node),
		.node = text_of(self->node),
		.who = text_of(self->who),
		.wall = self->h->wall_ms() };
	home->asking_epoch = 1;
	if (store->node_start(self->store->obj, home_of(self), &node, on_epoch, self) < 0) {
		home->asking_epoch = 0; /* the tick tries again */
	}
}

/* ---- claiming --------------------------------------------------------------------------------------- */

/* The lease is ours, and what Redis has of this node is known. */
static void registered(struct self *self)
{
	struct home *home = self->home;
	home->state = LEASE_HELD;
	home->checking = 0;
	atomic_store(&self->unknown, 0);
	users_pump(self);
}

struct check {
	struct self *self;
	int64_t epoch;
};

/* Redis does not know the lease any more.  Was it swept, or was Redis wiped? */
static void on_was_swept(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct check *c = arg;
	struct self *self = c->self;
	struct home *home = self->home;
	int same = c->epoch == home->epoch;
	self->h->mem_free(c);
	home->checking = 0;
	if (rc < 0) {
		home->state = LEASE_NONE; /* once more, from the claim on */
		return;
	}
	home->doubt = 0;
	int swept = r->type == CHATD_REDIS_INTEGER && r->integer == 1;
	settle(self, SETTLE_LOST_MS);
	if (swept && same) {
		users_again(self, 0, 1);
		fence(self, "others took this node for dead");
		ask_epoch(self);
		return;
	}
	registered(self);
	users_again(self, !swept, swept);
}

static void check_swept(struct self *self, int64_t epoch)
{
	char key[KEY_MAX], number[24];
	struct check *c = self->h->mem_alloc(sizeof(*c));
	const struct chatd_str argv[] = { key_of(self, "active:swept", text_of(""), key),
		text_of(self->node), number_of(epoch, number) };
	const struct chatd_redis_command cmd = command_of(self->was_swept, 1, argv, 3);
	self->home->checking = 1;
	if (c) {
		*c = (struct check){ self, epoch };
	}
	if (!c ||
			self->redis->call(self->redis_service->obj, home_of(self), &cmd, on_was_swept, c) < 0) {
		self->h->mem_free(c);
		self->home->checking = 0;
		self->home->state = LEASE_NONE;
	}
}

static void won(struct self *self, int64_t since, int had)
{
	struct home *home = self->home;
	int was = home->state == LEASE_HELD;
	home->since = since;
	home->held_at = home->claimed_at;
	home->foreign_at = 0;
	if (home->epoch == 0) {
		home->need_epoch = 1; /* a candidate: nothing can be written yet */
		ask_epoch(self);
		return;
	}
	if (was && !had && home->doubt == 0) {
		home->doubt = home->epoch;
	}
	if (home->doubt) {
		check_swept(self, home->doubt);
	} else {
		registered(self);
	}
}

/* One that begin() did not meet, since Redis had no time to answer then.  1: it is no more. */
static int takes_over(struct self *self, struct chatd_str lease, struct chatd_str node)
{
	struct home *home = self->home;
	struct lease l;
	if (!lease_parse(lease, &l) || !lease_is_dead(&l) || strcmp(home->dead, l.instance) == 0) {
		return 0;
	}
	snprintf(home->dead, sizeof(home->dead), "%s", l.instance);
	self->h->log(self->ctx, CHATD_LOG_INFO,
			"process %lld of this host, which had node id \"%.*s\", is no more: taken over",
			(long long)l.pid, (int)node.n, node.p);
	home->claim_again = 1;
	return 1;
}

static void met_other(struct self *self, struct chatd_str lease, struct chatd_str node)
{
	struct home *home = self->home;
	int64_t now = now_of(self);
	holder_text(self, lease, node, home->foreign, sizeof(home->foreign));
	if (home->foreign_at == 0) {
		home->foreign_at = now;
		fence(self, home->foreign);
	} else if (now - home->foreign_at >= self->conf->lease) {
		home->foreign_at = now;
		(void)self->h->fail(self->ctx, -ENOTUNIQ, "%s", home->foreign);
		self->h->give_up(self->ctx);
	}
	home->state = LEASE_FOREIGN;
}

static int64_t integer_at(const struct chatd_redis_reply *r, size_t i)
{
	/* Numbers that Lua formats come as text. */
	char room[24];
	const struct chatd_redis_reply *item = i < r->n ? &r->items[i] : NULL;
	if (!item) {
		return 0;
	}
	if (item->type == CHATD_REDIS_TEXT && item->text.n < sizeof(room)) {
		memcpy(room, item->text.p, item->text.n);
		room[item->text.n] = '\0';
		return strtoll(room, NULL, 10);
	}
	return item->type == CHATD_REDIS_INTEGER ? item->integer : 0;
}

static void take_claim(struct self *self, chatd_status rc, const struct chatd_redis_reply *r)
{
	if (rc == -EPROTO) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "Redis cannot keep the lease of this node: %.*s",
				(int)r->text.n, r->text.p);
	}
	if (rc < 0 || r->type != CHATD_REDIS_ARRAY || r->n < 2) {
		return;
	}
	struct chatd_str node = text_of(self->node);
	switch (integer_at(r, 0)) {
	case 1:
		won(self, integer_at(r, 1), integer_at(r, 2) == 1);
		return;
	case 0:
		node = r->n > 2 && r->items[2].type == CHATD_REDIS_TEXT ? r->items[2].text : node;
		if (!takes_over(self, r->items[1].text, node)) {
			met_other(self, r->items[1].text, node);
		}
		return;
	default: /* of a store that is younger than what Redis remembers */
		new_epoch(self, integer_at(r, 1) + 1);
	}
}

static void on_claimed(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct self *self = arg;
	self->home->claiming = 0;
	take_claim(self, rc, r);
	/* What was asked for while this one was on its way must be newer than it. */
	if (rc == 0 && self->home->claim_again) {
		lease_claim(self);
	}
}

void lease_claim(struct self *self)
{
	struct home *home = self->home;
	look_at_clock(self);
	if (home->claiming || !home->up) {
		home->claim_again = home->claiming;
		return;
	}
	home->claim_again = 0;
	if (home->need_epoch && home->epoch > 0) {
		ask_epoch(self);
		return;
	}
	struct claim_words words;
	claim_words(self, home->epoch, home->since, home->dead, &words);
	const struct chatd_redis_command c = command_of(self->claim, 3, words.argv, CLAIM_WORDS);
	home->claimed_at = now_of(self);
	home->claiming =
			self->redis->call(self->redis_service->obj, home_of(self), &c, on_claimed, self) == 0;
}

void lease_doubted(struct self *self)
{
	lease_claim(self);
}

/* Another process says that it wants our node id: show that it is ours. */
void lease_heard(void *arg, chatd_worker *w, struct chatd_str payload)
{
	struct self *self = arg;
	(void)w;
	if (payload.p &&
			(payload.n != strlen(self->instance) ||
					memcmp(payload.p, self->instance, payload.n) != 0)) {
		lease_claim(self);
	}
}

/* ---- sweeping ---------------------------------------------------------------------------------------- */

struct sweep_words {
	char keys[4][KEY_MAX], budget[24], leaving[NODE_MAX + INSTANCE_HEX + 32];
	struct chatd_str argv[SWEEP_WORDS];
};

static void sweep_words(struct self *self, int judge, int leaves, struct sweep_words *s)
{
	char epoch[24];
	number_of(self->home->epoch, epoch);
	s->leaving[0] = '\0';
	if (leaves) {
		snprintf(s->leaving, sizeof(s->leaving), "%s %s %s", self->node, epoch, self->instance);
	}
	const struct chatd_str argv[SWEEP_WORDS] = {
		key_of(self, "active:servers", text_of(""), s->keys[0]),
		key_of(self, "active:retired", text_of(""), s->keys[1]),
		key_of(self, "active:swept", text_of(""), s->keys[2]),
		key_of(self, "events:presence", text_of(""), s->keys[3]),
		text_of(self->prefix),
		text_of(s->keys[3]),
		number_of(SWEEP_USERS, s->budget),
		text_of(judge ? "1" : "0"),
		text_of(s->leaving),
	};
	memcpy(s->argv, argv, sizeof(argv));
}

static void sweep(struct self *self);

static int is_us(const struct self *self, struct chatd_str node)
{
	return node.n == strlen(self->node) && memcmp(node.p, self->node, node.n) == 0;
}

/* Each second it is seen whether Redis has forgotten us: all others will have been, too. */
static int knows_us(const struct self *self, const struct chatd_redis_reply *live)
{
	size_t i = 0;
	while (i < live->n && !is_us(self, live->items[i].text)) {
		i++;
	}
	return i < live->n;
}

/* Beside a node that must be alone no other takes a lease, unless it does not know of that. */
static void look_beside(struct self *self, const struct chatd_redis_reply *live)
{
	struct home *home = self->home;
	int64_t now = now_of(self);
	if (!self->alone || (home->beside_at && now - home->beside_at < BESIDE_MS)) {
		return;
	}
	for (size_t i = 0; i < live->n; i++) {
		struct chatd_str node = live->items[i].text;
		if (!is_us(self, node)) {
			home->beside_at = now;
			self->h->log(self->ctx, CHATD_LOG_ERROR,
					"node \"%.*s\" is on this Redis, of an older release, which does not look: sqlite "
					"files cannot be shared between nodes; use store-postgres on all nodes, or give "
					"each server a redis.prefix of its own",
					(int)node.n, node.p);
			return;
		}
	}
}

static void on_swept(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct self *self = arg;
	self->home->sweeping = 0;
	if (rc == -EPROTO) {
		self->h->log(
				self->ctx, CHATD_LOG_ERROR, "Redis cannot sweep: %.*s", (int)r->text.n, r->text.p);
	}
	if (rc < 0 || r->type != CHATD_REDIS_ARRAY || r->n < 2) {
		return;
	}
	if (r->items[1].type == CHATD_REDIS_ARRAY) {
		atomic_store(&self->live, (int32_t)r->items[1].n);
		if (self->home->state == LEASE_HELD && knows_us(self, &r->items[1])) {
			look_beside(self, &r->items[1]);
		} else if (self->home->state == LEASE_HELD) {
			lease_claim(self);
		}
	}
	if (integer_at(r, 0) > 0) {
		sweep(self);
	}
}

static void sweep(struct self *self)
{
	struct home *home = self->home;
	struct sweep_words words;
	if (home->sweeping || !home->up) {
		return;
	}
	sweep_words(self, now_of(self) - home->up_at >= SWEEP_AFTER_MS, 0, &words);
	const struct chatd_redis_command c = command_of(self->sweep, 4, words.argv, SWEEP_WORDS);
	home->sweeping =
			self->redis->call(self->redis_service->obj, home_of(self), &c, on_swept, self) == 0;
}

static void on_left(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	int64_t *left = arg;
	*left = rc == 0 && r->type == CHATD_REDIS_ARRAY ? integer_at(r, 0) : 0;
}

/* A stop tells at once that our users have gone. */
void lease_leave(struct self *self)
{
	struct sweep_words words;
	int64_t left = 1, end = self->h->wall_ms() + LEAVE_MS;
	if (self->home->epoch == 0 || self->home->state == LEASE_FOREIGN) {
		return;
	}
	sweep_words(self, 0, 1, &words);
	const struct chatd_redis_command c = command_of(self->sweep, 4, words.argv, SWEEP_WORDS);
	while (left > 0 && self->h->wall_ms() < end &&
			self->redis->ask(self->redis_service->obj, &c, on_left, &left) == 0) {
	}
}

/* ---- time and the link ---------------------------------------------------------------------------------- */

void lease_up(void *arg, int32_t up)
{
	struct self *self = arg;
	struct home *home = self->home;
	home->up = up;
	if (!up || !home->begun) {
		events_known(self);
		return;
	}
	if (home->up_at) {
		settle(self, SETTLE_UP_MS);
	}
	home->up_at = now_of(self);
	home->claiming = home->sweeping = 0;
	/* What was written last may be lost: a failover loses what was not replicated yet. */
	if (home->state == LEASE_HELD) {
		users_again(self, 0, 0);
	}
	lease_claim(self);
	events_known(self);
}

void lease_tick(void *arg)
{
	struct self *self = arg;
	struct home *home = self->home;
	int64_t now = now_of(self);
	look_at_clock(self);
	events_known(self);
	if (!home->up) {
		return;
	}
	if (home->state != LEASE_HELD || now - home->claimed_at >= self->conf->lease / 3) {
		lease_claim(self);
	}
	sweep(self);
	users_pump(self);
	if (now - home->read_at >= READ_MS) {
		events_read(self);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The users that are here, and their way into Redis: one script states all sessions of one user,
 * at most one such statement of a user is under way, and what changes meanwhile is stated next. */
#include "presence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { FIELD_MAX = 40, VALUE_MAX = NODE_MAX + DEVICE_MAX + 64, SYNC_KEYS = 5, SYNC_WORDS = 11 };

static unsigned hash(const struct self *self, struct chatd_str id)
{
	return (unsigned)chatd_hash(&self->key, id.p, id.n);
}

struct user *user_find(const struct self *self, struct chatd_str id)
{
	struct user *u = NULL;
	HASH_FIND_BYHASHVALUE(hh, self->home->users, id.p, id.n, hash(self, id), u);
	return u;
}

static void resume_all(struct user *u, chatd_status rc)
{
	while (u->waiting) {
		struct waiting *w = u->waiting;
		u->waiting = w->next;
		if (w->saying) {
			saying_answer(w->saying, rc);
		} else {
			(void)u->self->h->resume(w->token, CHATD_NEXT, NULL, NULL);
		}
		free(w);
	}
}

static void place_free(struct user *u, struct place *p)
{
	LL_DELETE(u->places, p);
	free(p->text);
	free(p);
}

static void user_free(struct user *u)
{
	struct home *home = u->self->home;
	resume_all(u, -EAGAIN);
	u->self->h->timer_clear(&u->linger);
	while (u->places) {
		place_free(u, u->places);
	}
	if (u->queued) {
		DL_DELETE(home->queue, u);
	}
	HASH_DEL(home->users, u);
	free(u);
}

void users_stop(struct self *self)
{
	struct user *u, *next;
	self->home->stopped = 1;
	HASH_ITER(hh, self->home->users, u, next)
	{
		if (u->flying) {
			self->h->timer_clear(&u->linger);
			resume_all(u, -EAGAIN);
		} else {
			user_free(u);
		}
	}
}

/* Those whose login waits go first. */
static void enqueue(struct user *u)
{
	struct home *home = u->self->home;
	if (u->queued) {
		DL_DELETE(home->queue, u);
	}
	u->queued = 1;
	if (u->waiting) {
		DL_PREPEND(home->queue, u);
	} else {
		DL_APPEND(home->queue, u);
	}
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void flew(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct user *u = arg;
	struct self *self = u->self;
	struct home *home = self->home;
	int written = rc == 0 && r->type == CHATD_REDIS_INTEGER && r->integer >= 0;
	int refused = rc == 0 && !written;
	u->flying = 0;
	home->flying--;
	if (home->stopped) {
		user_free(u);
		return;
	}
	if (written) {
		u->told = !u->flew_empty;
		u->lost = 0;
	} else if (!u->queued) {
		enqueue(u);
	}
	if (rc == -EPROTO) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "Redis cannot write who is online: %.*s",
				(int)r->text.n, r->text.p);
	}
	/* Those that came in meanwhile wait for the next one, unless Redis is in trouble. */
	if (!u->queued || !written) {
		resume_all(u, written ? 0 : -EAGAIN);
	}
	if (!u->places && !u->queued && !u->told) {
		user_free(u);
	}
	if (refused) {
		lease_doubted(self);
	}
	if (written) {
		users_pump(self);
	}
}

struct sync {
	char keys[SYNC_KEYS][KEY_MAX], epoch[24];
	struct chatd_str *argv; /* behind, as is the text */
	size_t n;
	char *at, *end;
};

static struct sync *sync_create(const struct user *u)
{
	size_t n = 0, text = 0;
	for (const struct place *p = u->places; p && n < USER_SESSIONS_MAX; p = p->next) {
		text += FIELD_MAX + VALUE_MAX + p->n;
		n++;
	}
	size_t words = SYNC_WORDS + 2 * n;
	struct sync *s = malloc(sizeof(*s) + words * sizeof(s->argv[0]) + text);
	if (s) {
		s->argv = (struct chatd_str *)(void *)(s + 1);
		s->at = (char *)(s->argv + words);
		s->end = s->at + text;
		s->n = 0;
	}
	return s;
}

static const char *word_of(int32_t status)
{
	return status == CHATD_PRESENCE_BUSY    ? "busy"
			: status == CHATD_PRESENCE_AWAY ? "away"
											: "online";
}

static void add_place(const struct self *self, struct sync *s, const struct place *p)
{
	int n = snprintf(s->at, FIELD_MAX, "%.8s.%llx", self->instance, (unsigned long long)p->sid);
	s->argv[s->n++] = chatd_str_of(s->at, (size_t)n);
	s->at += n;
	char *value = s->at;
	s->at += snprintf(s->at, VALUE_MAX, "%s %s %s %lld", self->node, s->epoch, p->device,
			(long long)p->since);
	if (p->status != CHATD_PRESENCE_ONLINE || p->n) {
		s->at += snprintf(
				s->at, (size_t)(s->end - s->at), " %s %lld ", word_of(p->status), (long long)p->at);
	}
	if (p->n) {
		memcpy(s->at, p->text, p->n);
		s->at += p->n;
	}
	s->argv[s->n++] = chatd_str_of(value, (size_t)(s->at - value));
}

static chatd_status fly(struct self *self, struct user *u)
{
	struct sync *s = sync_create(u);
	char index[NODE_MAX + 32];
	struct chatd_str id = chatd_str_of(u->id, u->n);
	if (!s) {
		return -ENOMEM;
	}
	struct chatd_str epoch = number_of(self->home->epoch, s->epoch);
	snprintf(index, sizeof(index), "%s:%s", self->node, s->epoch);
	const struct chatd_str head[SYNC_WORDS] = {
		key_of(self, "connection:", id, s->keys[0]),
		key_of(self, "active:servers", text_of(""), s->keys[1]),
		key_of(self, "active:users:", text_of(index), s->keys[2]),
		key_of(self, "events:presence", text_of(""), s->keys[3]),
		key_of(self, "presence:", id, s->keys[4]), text_of(self->node), epoch, id,
		text_of(u->told ? "1" : "0"), text_of(u->lost ? "1" : "0"),
		text_of(s->keys[3]), /* the channel is called as the log is */
	};
	memcpy(s->argv, head, sizeof(head));
	s->n = SYNC_WORDS;
	size_t i = 0;
	for (const struct place *p = u->places; p && i < USER_SESSIONS_MAX; p = p->next) {
		add_place(self, s, p);
		i++;
	}
	const struct chatd_redis_command c = command_of(self->sync, SYNC_KEYS, s->argv, s->n);
	chatd_status rc = self->redis->call(self->redis_service->obj, home_of(self), &c, flew, u);
	u->flew_empty = i == 0;
	free(s);
	return rc;
}

void users_pump(struct self *self)
{
	struct home *home = self->home;
	struct user *u, *next;
	if (home->state != LEASE_HELD || home->checking || !home->up || home->stopped) {
		return;
	}
	DL_FOREACH_SAFE(home->queue, u, next)
	{
		if (home->flying >= IN_FLIGHT) {
			return;
		}
		if (u->flying) {
			continue;
		}
		if (fly(self, u) < 0) {
			return; /* the tick tries again */
		}
		DL_DELETE(home->queue, u);
		u->queued = 0;
		u->flying = 1;
		home->flying++;
	}
}

/* A login must not wait for what cannot be done now. */
static void write_soon(struct self *self, struct user *u)
{
	enqueue(u);
	users_pump(self);
	if (u->queued && !u->flying) {
		resume_all(u, -EAGAIN);
	}
}

void users_again(struct self *self, int lost, int swept)
{
	struct user *u, *next;
	HASH_ITER(hh, self->home->users, u, next)
	{
		if (swept) {
			u->told = u->lost = 0;
		} else if (lost && u->told) {
			u->lost = 1;
		}
		if (!u->places && !u->told && !u->flying) {
			user_free(u); /* gone, and nobody knows otherwise */
		} else if (!u->queued) {
			enqueue(u);
		}
	}
	users_pump(self);
}

/* ---- coming and going -------------------------------------------------------------------------- */

static struct user *user_create(struct self *self, struct chatd_str id)
{
	struct user *u = calloc(1, sizeof(*u) + id.n);
	if (!u) {
		return NULL;
	}
	u->self = self;
	u->n = id.n;
	memcpy(u->id, id.p, id.n);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, self->home->users, u->id, u->n, hash(self, id), u);
	if (!u->hh.tbl) {
		free(u);
		return NULL;
	}
	return u;
}

static void drop_gone(struct user *u)
{
	struct place *p, *next;
	LL_FOREACH_SAFE(u->places, p, next)
	{
		if (p->gone) {
			place_free(u, p);
		}
	}
}

static int says_something(const struct place *p)
{
	return p->status != CHATD_PRESENCE_ONLINE || p->n > 0;
}

/* What the last device said lingers, as it does when its user comes back to another node. */
static void come_back(struct user *u)
{
	struct place *p = u->places;
	if (p && p->gone && !says_something(p)) {
		place_free(u, p);
	}
	if (!u->places) {
		u->self->h->timer_clear(&u->linger);
	}
}

void user_came(struct self *self, struct chatd_str id, const struct place *p, chatd_token token)
{
	const struct chatd_host *h = self->h;
	struct user *u = self->home->stopped ? NULL : user_find(self, id);
	u = u || self->home->stopped ? u : user_create(self, id);
	struct place *mine = u ? malloc(sizeof(*mine)) : NULL;
	struct waiting *w = mine && token ? malloc(sizeof(*w)) : NULL;
	if (!mine || (token && !w)) {
		free(mine);
		if (u && !u->places && !u->queued && !u->flying) {
			user_free(u);
		}
		(void)h->resume(token, CHATD_NEXT, NULL, NULL);
		return;
	}
	*mine = *p;
	come_back(u);
	LL_PREPEND(u->places, mine);
	if (w) {
		*w = (struct waiting){ .next = u->waiting, .token = token };
		u->waiting = w;
	}
	write_soon(self, u);
}

static void on_lingered(void *arg)
{
	struct user *u = arg;
	drop_gone(u);
	write_soon(u->self, u);
}

static size_t count_here(const struct user *u)
{
	size_t n = 0;
	for (const struct place *p = u->places; p; p = p->next) {
		n += !p->gone;
	}
	return n;
}

static struct place *place_find(const struct user *u, chatd_sid sid)
{
	struct place *p = u ? u->places : NULL;
	while (p && (p->sid != sid || p->gone)) {
		p = p->next;
	}
	return p;
}

void user_went(struct self *self, struct chatd_str id, chatd_sid sid)
{
	struct user *u = self->home->stopped ? NULL : user_find(self, id);
	struct place *p = place_find(u, sid);
	if (!p) {
		return;
	}
	if (count_here(u) == 1) {
		int others = p != u->places || p->next;
		drop_gone(u);
		p->gone = 1;
		self->h->timer_set(home_of(self), &u->linger, self->conf->linger, on_lingered, u);
		if (others) {
			write_soon(self, u);
		}
		return;
	}
	place_free(u, p);
	write_soon(self, u);
}

/* ---- what they say ------------------------------------------------------------------------------ */

static int rank(const struct place *p)
{
	return p->status == CHATD_PRESENCE_BUSY ? 3 : p->status == CHATD_PRESENCE_ONLINE ? 2 : 1;
}

void user_state(const struct user *u, struct chatd_presence_state *ret)
{
	const struct place *best = NULL;
	for (const struct place *p = u->places; p; p = p->next) {
		if (!best || rank(p) > rank(best) || (rank(p) == rank(best) && p->at > best->at)) {
			best = p;
		}
	}
	*ret = (struct chatd_presence_state){ .struct_size = sizeof(*ret),
		.status = best ? best->status : CHATD_PRESENCE_OFFLINE,
		.since = best ? best->at ? best->at : best->since : 0 };
	if (best && best->n) {
		ret->text = chatd_str_of(best->text, best->n);
	}
}

/* -ENOMEM: nothing has changed. */
static chatd_status place_says(struct place *p, const struct chatd_presence_word *word, int64_t at)
{
	char *text = word->text.n ? malloc(word->text.n) : NULL;
	if (word->text.n) {
		if (!text) {
			return -ENOMEM;
		}
		memcpy(text, word->text.p, word->text.n);
	}
	free(p->text);
	p->text = text;
	p->n = word->text.n;
	p->status = word->status;
	p->at = at;
	return 0;
}

void user_says(struct self *self, struct saying *s)
{
	struct user *u = self->home->stopped ? NULL : user_find(self, s->word.user);
	struct place *p = place_find(u, s->word.session);
	struct waiting *w = p ? malloc(sizeof(*w)) : NULL;
	chatd_status rc = !p ? -ENOENT : !w ? -ENOMEM : place_says(p, &s->word, self->h->wall_ms());
	if (rc < 0) {
		free(w);
		saying_answer(s, rc);
		return;
	}
	drop_gone(u);
	self->h->timer_clear(&u->linger);
	*w = (struct waiting){ .next = u->waiting, .saying = s };
	u->waiting = w;
	write_soon(self, u);
}

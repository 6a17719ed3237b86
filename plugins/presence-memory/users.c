/* SPDX-License-Identifier: Apache-2.0 */
/* The users that are here, what their devices say, and who was here before. */
#include "presence_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

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

/* ---- who was here --------------------------------------------------------------------------- */

static struct seen *seen_find(const struct self *self, struct chatd_str id)
{
	struct seen *s = NULL;
	HASH_FIND_BYHASHVALUE(hh, self->home->seen, id.p, id.n, hash(self, id), s);
	return s;
}

static void seen_free(struct self *self, struct seen *s)
{
	if (s) {
		HASH_DEL(self->home->seen, s);
		free(s);
	}
}

/* The table keeps the order in which they went: who went first is forgotten first. */
static void seen_put(struct self *self, const struct user *u)
{
	struct home *home = self->home;
	struct chatd_str id = chatd_str_of(u->id, u->n);
	seen_free(self, seen_find(self, id));
	if (HASH_COUNT(home->seen) >= SEEN_MAX) {
		seen_free(self, home->seen);
	}
	struct seen *s = self->conf->last_seen ? calloc(1, sizeof(*s) + u->n) : NULL;
	if (!s) {
		return;
	}
	s->at = u->since;
	s->version = u->version;
	s->n = u->n;
	memcpy(s->id, u->id, u->n);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, home->seen, s->id, s->n, hash(self, id), s);
	if (!s->hh.tbl) {
		free(s);
	}
}

/* ---- what is told --------------------------------------------------------------------------- */

static int rank(int32_t status)
{
	return status == CHATD_PRESENCE_BUSY ? 3 : status == CHATD_PRESENCE_ONLINE ? 2 : 1;
}

/* The newest word comes first.  NULL: a device that has said nothing decides, and the user is online. */
static const struct device *spokesman(const struct user *u)
{
	const struct device *d, *best = NULL;
	uint32_t here = 0;
	LL_FOREACH(u->devices, d)
	{
		here += !d->gone;
		if (!best || rank(d->status) > rank(best->status)) {
			best = d;
		}
	}
	int silent = u->sessions > here;
	return silent && best && rank(best->status) < rank(CHATD_PRESENCE_ONLINE) ? NULL : best;
}

static void state_of(const struct user *u, struct chatd_presence_state *ret)
{
	const struct device *d = spokesman(u);
	*ret = (struct chatd_presence_state){ .struct_size = sizeof(*ret),
		.status = d ? d->status : CHATD_PRESENCE_ONLINE,
		.since = u->since,
		.version = u->version };
	if (d && d->n) {
		ret->text = chatd_str_of(d->text, d->n);
	}
}

static void tell(struct self *self, const struct user *u, const struct chatd_presence_state *s)
{
	for (int32_t i = 0; i < chatd_hearers_count(&self->following); i++) {
		const struct chatd_presence_follower *f = &self->followers[i];
		if (chatd_hearers_hears(&self->following, i)) {
			f->changed(f->arg, home_of(self), chatd_str_of(u->id, u->n), s);
		}
	}
}

static void tell_online(struct self *self, const struct user *u, int32_t online)
{
	for (int32_t i = 0; i < chatd_hearers_count(&self->watching); i++) {
		const struct watcher *at = &self->watchers[i];
		if (chatd_hearers_hears(&self->watching, i)) {
			at->fn(at->arg, home_of(self), chatd_str_of(u->id, u->n), online);
		}
	}
}

/* Tells what has become of the user, if it is anything new. */
static void settle(struct user *u)
{
	struct self *self = u->self;
	struct chatd_presence_state s;
	int comes = u->status == CHATD_PRESENCE_OFFLINE;
	state_of(u, &s);
	uint64_t text = s.text.n ? chatd_hash(&self->key, s.text.p, s.text.n) : 0;
	if (s.status == u->status && text == u->text) {
		return;
	}
	u->status = s.status;
	u->text = text;
	s.since = u->since = self->h->wall_ms();
	s.version = u->version = ++self->home->version;
	if (comes) {
		tell_online(self, u, 1);
	}
	tell(self, u, &s);
}

void user_state(const struct self *self, struct chatd_str id, struct chatd_presence_state *ret)
{
	const struct user *u = user_find(self, id);
	if (u) {
		state_of(u, ret);
		return;
	}
	const struct seen *s = seen_find(self, id);
	*ret = (struct chatd_presence_state){ .struct_size = sizeof(*ret),
		.status = CHATD_PRESENCE_OFFLINE,
		.since = s ? s->at : 0,
		.last_seen = s ? s->at : 0,
		.version = s ? s->version : 0 };
}

/* ---- coming and going --------------------------------------------------------------------------- */

static void drop_gone(struct user *u)
{
	struct device *d, *next;
	LL_FOREACH_SAFE(u->devices, d, next)
	{
		if (d->gone) {
			LL_DELETE(u->devices, d);
			free(d);
		}
	}
}

static void user_free(struct user *u)
{
	u->self->h->timer_clear(&u->linger);
	while (u->devices) {
		struct device *next = u->devices->next;
		free(u->devices);
		u->devices = next;
	}
	HASH_DEL(u->self->home->users, u);
	free(u);
}

void users_stop(struct self *self)
{
	struct user *u, *next;
	struct seen *s, *next_seen;
	HASH_ITER(hh, self->home->users, u, next)
	{
		user_free(u);
	}
	HASH_ITER(hh, self->home->seen, s, next_seen)
	{
		seen_free(self, s);
	}
}

static void leave(struct user *u)
{
	struct self *self = u->self;
	struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = CHATD_PRESENCE_OFFLINE,
		.since = self->h->wall_ms(),
		.version = ++self->home->version };
	u->since = s.since;
	u->version = s.version;
	s.last_seen = self->conf->last_seen ? s.since : 0;
	seen_put(self, u);
	tell_online(self, u, 0);
	tell(self, u, &s);
	user_free(u);
}

static void on_lingered(void *arg)
{
	struct user *u = arg;
	if (u->sessions == 0) {
		leave(u);
		return;
	}
	drop_gone(u);
	settle(u);
}

static struct user *user_create(struct self *self, struct chatd_str id)
{
	struct user *u = calloc(1, sizeof(*u) + id.n);
	if (!u) {
		return NULL;
	}
	u->self = self;
	u->status = CHATD_PRESENCE_OFFLINE;
	u->n = id.n;
	memcpy(u->id, id.p, id.n);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, self->home->users, u->id, u->n, hash(self, id), u);
	if (!u->hh.tbl) {
		free(u);
		return NULL;
	}
	return u;
}

void user_came(struct self *self, struct chatd_str id)
{
	struct user *u = user_find(self, id);
	u = u ? u : user_create(self, id);
	if (!u) {
		return;
	}
	/* What the last device said lingers as it would on another node. */
	if (!u->devices || !u->devices->gone) {
		self->h->timer_clear(&u->linger);
	}
	u->sessions++;
	seen_free(self, seen_find(self, id));
	settle(u);
}

static struct device *device_find(const struct user *u, chatd_sid sid)
{
	struct device *d;
	LL_FOREACH(u->devices, d)
	{
		if (d->sid == sid && !d->gone) {
			break;
		}
	}
	return d;
}

static void device_free(struct user *u, struct device *d)
{
	if (d) {
		LL_DELETE(u->devices, d);
		free(d);
	}
}

void user_went(struct self *self, struct chatd_str id, chatd_sid sid)
{
	struct user *u = user_find(self, id);
	if (!u || u->sessions == 0) {
		return;
	}
	struct device *d = device_find(u, sid);
	if (--u->sessions == 0) {
		drop_gone(u);
		if (d) {
			d->gone = 1;
		}
		self->h->timer_set(home_of(self), &u->linger, self->conf->linger, on_lingered, u);
	} else {
		device_free(u, d);
	}
	settle(u);
}

chatd_status user_says(struct self *self, const struct chatd_presence_word *word)
{
	struct user *u = user_find(self, word->user);
	int says_nothing = word->status == CHATD_PRESENCE_ONLINE && !word->text.n;
	if (!u || u->sessions == 0) {
		return -ENOENT;
	}
	struct device *d = says_nothing ? NULL : calloc(1, sizeof(*d) + word->text.n);
	if (!d && !says_nothing) {
		return -ENOMEM;
	}
	drop_gone(u);
	device_free(u, device_find(u, word->session));
	if (d) {
		d->sid = word->session;
		d->status = word->status;
		d->n = word->text.n;
		if (d->n) {
			memcpy(d->text, word->text.p, d->n);
		}
		LL_PREPEND(u->devices, d);
	}
	settle(u);
	return 0;
}

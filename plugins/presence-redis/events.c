/* SPDX-License-Identifier: Apache-2.0 */
/* Who has come and gone, in the whole cluster.  The scripts write it to a log; a channel says
 * that there is something new; and each node reads on from where it was.  So what a broken
 * connection has missed is read later, and nothing comes twice. */
#include "presence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 500, CLOCK_MS = 60000 };

static int id_ok(struct chatd_str id)
{
	return id.p && id.n > 2 && id.n < ID_MAX;
}

static int user_ok(struct chatd_str user)
{
	if (!user.p || user.n == 0 || user.n > USER_MAX) {
		return 0;
	}
	for (size_t i = 0; i < user.n; i++) {
		char c = user.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
					c == '_' || c == '-')) {
			return 0;
		}
	}
	return 1;
}

static void keep_id(struct home *home, struct chatd_str id)
{
	memcpy(home->last, id.p, id.n);
	home->last[id.n] = '\0';
}

static void tell(struct self *self, struct chatd_str user, int32_t online)
{
	count(self, self->count_events, 1);
	for (int32_t i = 0; i < chatd_hearers_count(&self->watching); i++) {
		if (chatd_hearers_hears(&self->watching, i)) {
			self->watchers[i].fn(self->watchers[i].arg, home_of(self), user, online);
		}
	}
}

static void tell_state(
		struct self *self, struct chatd_str user, const struct chatd_presence_state *s)
{
	for (int32_t i = 0; i < chatd_hearers_count(&self->following); i++) {
		const struct chatd_presence_follower *f = &self->followers[i];
		if (chatd_hearers_hears(&self->following, i)) {
			f->changed(f->arg, home_of(self), user, s);
		}
	}
}

/* The fields of an entry; what is not there is .p NULL. */
struct event {
	struct chatd_str user, online, status, text;
};

static struct event event_take(const struct chatd_redis_reply *f)
{
	struct event e = { .user = { NULL, 0 } };
	const struct {
		char name;
		struct chatd_str *to;
	} fields[] = { { 'u', &e.user }, { 'o', &e.online }, { 's', &e.status }, { 't', &e.text } };
	for (size_t i = 0; i + 1 < f->n; i += 2) {
		for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
			if (f->items[i].text.n == 1 && f->items[i].text.p[0] == fields[k].name) {
				*fields[k].to = f->items[i + 1].text;
			}
		}
	}
	return e;
}

static void hear(struct self *self, struct chatd_str id, const struct event *e)
{
	int32_t online = !e->online.n ? -1 : e->online.n == 1 && e->online.p[0] == '1';
	struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = online == 0 ? CHATD_PRESENCE_OFFLINE : status_take(e->status),
		.since = event_time(id),
		.version = event_version(id) };
	if (online == 0) {
		s.last_seen = self->conf->last_seen ? s.since : 0;
	} else {
		s.text = text_take(e->text);
	}
	if (online >= 0) {
		tell(self, e->user, online);
	}
	if (online >= 0 || e->status.n) {
		tell_state(self, e->user, &s);
	}
}

/* An entry is [id, [field, value, ...]]: u, the user; o, 1 if it came, 0 if it went; s and t, its
 * status and text, if they are not what they are of anybody who comes. */
static void take(struct self *self, const struct chatd_redis_reply *entry)
{
	const struct chatd_redis_reply *f = entry->n == 2 ? &entry->items[1] : NULL;
	if (!f || !id_ok(entry->items[0].text)) {
		return;
	}
	struct event e = event_take(f);
	keep_id(self->home, entry->items[0].text);
	if (user_ok(e.user)) {
		hear(self, entry->items[0].text, &e);
	}
}

void events_known(struct self *self)
{
	struct home *home = self->home;
	int32_t deaf = !home->up || is_unknown(self, home_of(self));
	if (deaf == home->deaf) {
		return;
	}
	home->deaf = deaf;
	for (int32_t i = 0; i < chatd_hearers_count(&self->following); i++) {
		if (self->followers[i].known && chatd_hearers_hears(&self->following, i)) {
			self->followers[i].known(self->followers[i].arg, home_of(self), !deaf);
		}
	}
}

/* [[log, [entry, ...]]], or nil. */
static void on_read(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct self *self = arg;
	struct home *home = self->home;
	size_t n = 0;
	home->reading = 0;
	if (rc == 0 && r->n == 1 && r->items[0].n == 2) {
		const struct chatd_redis_reply *entries = &r->items[0].items[1];
		n = entries->n;
		for (size_t i = 0; i < n; i++) {
			take(self, &entries->items[i]);
		}
	}
	if (rc == 0 && (home->again || n == EVENTS)) {
		events_read(self);
	}
}

/* The newest entry of all: from there on. */
static void on_newest(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct self *self = arg;
	struct home *home = self->home;
	home->reading = 0;
	if (rc < 0) {
		return;
	}
	if (r->n == 1 && r->items[0].n == 2 && id_ok(r->items[0].items[0].text)) {
		keep_id(home, r->items[0].items[0].text);
	} else {
		keep_id(home, CHATD_LIT("0-0"));
	}
	if (home->again) {
		events_read(self);
	}
}

static void ask(struct self *self, const struct chatd_str *argv, size_t n, chatd_redis_fn *fn)
{
	struct home *home = self->home;
	const struct chatd_redis_command c = command_of(0, 0, argv, n);
	home->again = 0;
	home->read_at = self->h->now_ms(home_of(self));
	home->reading = self->redis->call(self->redis_service->obj, home_of(self), &c, fn, self) == 0;
}

void events_read(struct self *self)
{
	struct home *home = self->home;
	char log[KEY_MAX], number[24];
	if (!home->subscribed) {
		return;
	}
	if (home->reading) {
		home->again = 1;
		return;
	}
	struct chatd_str key = key_of(self, "events:presence", text_of(""), log);
	if (!home->last[0]) {
		const struct chatd_str argv[] = { CHATD_LIT("XREVRANGE"), key, CHATD_LIT("+"),
			CHATD_LIT("-"), CHATD_LIT("COUNT"), CHATD_LIT("1") };
		ask(self, argv, 6, on_newest);
		return;
	}
	const struct chatd_str argv[] = { CHATD_LIT("XREAD"), CHATD_LIT("COUNT"),
		number_of(EVENTS, number), CHATD_LIT("STREAMS"), key, text_of(home->last) };
	ask(self, argv, 6, on_read);
}

/* Entries are named by time: one that is much older than what was read is of a Redis whose clock
 * is behind, and which has lost the log.  (A little older: it was read before its call came.) */
void events_heard(void *arg, chatd_worker *w, struct chatd_str payload)
{
	struct self *self = arg;
	struct home *home = self->home;
	char room[ID_MAX];
	(void)w;
	if (id_ok(payload) && home->last[0]) {
		memcpy(room, payload.p, payload.n);
		room[payload.n] = '\0';
		long long ms = strtoll(room, NULL, 10);
		if (ms > 0 && ms + CLOCK_MS < strtoll(home->last, NULL, 10)) {
			snprintf(home->last, sizeof(home->last), "%lld-0", ms - 1);
		}
	}
	events_read(self);
}

/* ---- life ------------------------------------------------------------------------------------------ */

int events_any(const struct self *self)
{
	return chatd_hearers_count(&self->watching) + chatd_hearers_count(&self->following) > 0;
}

chatd_status events_begin(struct self *self)
{
	char room[KEY_MAX];
	chatd_status rc = self->redis->subscribe(self->redis_service->obj,
			key_of(self, "events:presence", text_of(""), room), events_heard, self);
	self->home->subscribed = rc == 0;
	return rc;
}

static void on_wanted(void *arg)
{
	struct self *self = arg;
	if (self->home->begun && !self->home->subscribed && events_begin(self) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"no memory to hear who comes and goes on other nodes; restart the server");
	}
}

void events_wanted(struct self *self)
{
	if (atomic_load(&self->serves)) {
		(void)self->h->post(home_of(self), on_wanted, self);
	}
}

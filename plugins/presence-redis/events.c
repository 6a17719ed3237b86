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
	for (size_t i = 0; i < self->n_watchers; i++) {
		self->watchers[i].fn(self->watchers[i].arg, home_of(self), user, online);
	}
}

/* An entry is [id, [u, USER, o, 0 or 1]]. */
static void take(struct self *self, const struct chatd_redis_reply *entry)
{
	const struct chatd_redis_reply *f = entry->n == 2 ? &entry->items[1] : NULL;
	if (!f || !id_ok(entry->items[0].text)) {
		return;
	}
	keep_id(self->home, entry->items[0].text);
	if (f->n == 4 && user_ok(f->items[1].text) && f->items[3].text.n == 1) {
		tell(self, f->items[1].text, f->items[3].text.p[0] == '1');
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
	if (self->n_watchers == 0) {
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Every guest's session has a number, in the order in which they opened.  Worker 0 keeps the
 * numbers of those that are open; who has too many loses those with the smallest.  A guest who may
 * have one session loses it also when another node of the cluster says that one was opened there. */
#include "devices.h"

#include <chatd-sdk/events.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  malloc(n)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct guest_sessions {
	UT_hash_handle hh;
	uint64_t *number; /* of open ones, ascending but for races */
	size_t n, size;
	size_t user_n;
	char user[64];
};

/* In each session. */
struct place {
	uint64_t number; /* 0: not counted */
	int64_t since;   /* wall clock: nodes have no other in common */
};

#define OPENED "guest.opened"

struct devices {
	_Atomic uint64_t last;
	uint32_t slot;
	struct guest_sessions *guests; /* of worker 0 */
};

/* A session that has opened, or closed. */
struct note {
	struct self *self;
	uint64_t number;
	int opened;
	size_t user_n;
	char user[64];
};

/* What each_session() carries to the guest's sessions. */
struct order {
	const struct self *self;
	uint64_t up_to;
};

/* ---- on the worker of a session --------------------------------------------------- */

static void end_session(const struct self *self, chatd_session *s)
{
	const struct chatd_sessions *sessions = self->sessions->vt;
	static const char why[] = "this account was opened on another device or in another window";
	const struct chatd_outcome outcome = { .struct_size = sizeof(outcome),
		.verdict = CHATD_REJECT,
		.code = "TAKEN_OVER",
		.why = chatd_str_of(why, sizeof(why) - 1) };
	sessions->soft_error(s, &outcome, NULL);
	self->h->session_close(s, 4409, why);
}

static void take_over(const void *data, chatd_session *s)
{
	const struct order *o = data;
	const struct place *p = o->self->h->slot(s, o->self->devices->slot);
	if (p->number && p->number <= o->up_to) { /* else newer, or still opening and so newer */
		end_session(o->self, s);
	}
}

/* ---- between nodes ------------------------------------------------------------------ */

struct elsewhere {
	const struct self *self;
	int64_t since;
	int32_t wins; /* of two that opened in the same millisecond one must go */
};

static void give_way(const void *data, chatd_session *s)
{
	const struct elsewhere *e = data;
	const struct place *p = e->self->h->slot(s, e->self->devices->slot);
	if (p->number && (p->since < e->since || (p->since == e->since && e->wins))) {
		end_session(e->self, s);
	}
}

static void on_opened(void *arg, chatd_worker *w, const struct chatd_cluster_event *event)
{
	struct self *self = arg;
	struct elsewhere e = { .self = self };
	struct chatd_str user = chatd_event_get(event, "user"), me;
	(void)w;
	if (!user.n || !chatd_event_int(event, "at", &e.since)) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "node %.*s sent an \"" OPENED "\" that is none",
				(int)event->from.n, event->from.p);
		return;
	}
	me = chatd_str_of(self->h->server_id(), strlen(self->h->server_id()));
	size_t n = me.n < event->from.n ? me.n : event->from.n;
	int c = memcmp(event->from.p, me.p, n);
	e.wins = c > 0 || (c == 0 && event->from.n > me.n);
	const struct chatd_each each = {
		.struct_size = sizeof(each), .user = user, .fn = give_way, .data = &e, .n = sizeof(e)
	};
	(void)self->h->each_session(&each);
}

static void tell_nodes(struct self *self, chatd_session *s, const struct place *p)
{
	const struct chatd_cluster *cluster = self->cluster ? self->cluster->vt : NULL;
	struct chatd_str user = self->h->ident_user(self->h->session_ident(s));
	struct chatd_sheet sheet = { .n = 0 };
	if (!cluster || self->conf->devices != 1) {
		return;
	}
	chatd_sheet_put(&sheet, "user", user);
	chatd_sheet_int(&sheet, "at", p->since);
	struct chatd_cluster_event e = chatd_sheet_event(&sheet, OPENED, user);
	e.to = CHATD_CLUSTER_USERS;
	e.users = &user;
	e.n_users = 1;
	(void)cluster->send(self->cluster->obj, self->h->session_worker(s), &e, NULL, NULL);
}

/* ---- on worker 0 --------------------------------------------------------------------- */

static void drop_guest(struct devices *d, struct guest_sessions *g)
{
	HASH_DEL(d->guests, g);
	free(g->number);
	free(g);
}

static struct guest_sessions *guest_of(struct devices *d, const struct note *note)
{
	struct guest_sessions *g;
	HASH_FIND(hh, d->guests, note->user, note->user_n, g);
	if (g || !note->opened) {
		return g;
	}
	g = calloc(1, sizeof(*g));
	if (g) {
		memcpy(g->user, note->user, note->user_n);
		g->user_n = note->user_n;
		HASH_ADD(hh, d->guests, user, g->user_n, g);
		if (!g->hh.tbl) {
			free(g);
			g = NULL;
		}
	}
	return g;
}

/* Numbers may come out of their order from two workers: each finds its place. */
static int add_number(struct guest_sessions *g, uint64_t number)
{
	if (g->n == g->size) {
		size_t size = g->size ? g->size * 2 : 2;
		uint64_t *more = realloc(g->number, size * sizeof(*more));
		if (!more) {
			return -ENOMEM;
		}
		g->number = more;
		g->size = size;
	}
	size_t at = g->n++;
	for (; at > 0 && g->number[at - 1] > number; at--) {
		g->number[at] = g->number[at - 1];
	}
	g->number[at] = number;
	return 0;
}

static void remove_number(struct guest_sessions *g, uint64_t number)
{
	for (size_t i = 0; i < g->n; i++) {
		if (g->number[i] == number) {
			memmove(&g->number[i], &g->number[i + 1], (g->n - i - 1) * sizeof(number));
			g->n--;
			return;
		}
	}
}

/* The oldest beyond the limit are told to go, and are not counted any more. */
static void keep_newest(struct self *self, struct guest_sessions *g)
{
	size_t most = (size_t)self->conf->devices, gone = g->n - most;
	const struct order order = { .self = self, .up_to = g->number[gone - 1] };
	const struct chatd_each each = { .struct_size = sizeof(each),
		.user = chatd_str_of(g->user, g->user_n),
		.fn = take_over,
		.data = &order,
		.n = sizeof(order) };
	(void)self->h->each_session(&each);
	memmove(g->number, g->number + gone, most * sizeof(*g->number));
	g->n = most;
}

static void on_note(void *arg)
{
	struct note *note = arg;
	struct self *self = note->self;
	struct guest_sessions *g = guest_of(self->devices, note);
	if (g && note->opened) {
		if (add_number(g, note->number) == 0 && g->n > (size_t)self->conf->devices) {
			keep_newest(self, g);
		}
	} else if (g) {
		remove_number(g, note->number);
	}
	if (g && !g->n) {
		drop_guest(self->devices, g);
	}
	self->h->mem_free(note);
}

/* ---- hooks ------------------------------------------------------------------------------ */

/* 0, or what kept worker 0 from hearing of it. */
static chatd_status tell(struct self *self, chatd_session *s, uint64_t number, int opened)
{
	struct chatd_str user = self->h->ident_user(self->h->session_ident(s));
	struct note *note = user.n <= sizeof(note->user) ? self->h->mem_alloc(sizeof(*note)) : NULL;
	if (!note) {
		return -ENOMEM;
	}
	*note = (struct note){ .self = self, .number = number, .opened = opened, .user_n = user.n };
	memcpy(note->user, user.p, user.n);
	chatd_status rc = self->h->post(self->h->worker_at(0), on_note, note);
	if (rc < 0) {
		self->h->mem_free(note);
	}
	return rc;
}

static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	chatd_session *s = self->h->call_session(call);
	(void)wself;
	if (self->h->ident_flags(self->h->call_ident(call)) & CHATD_ID_ANONYMOUS) {
		struct place *p = self->h->slot(s, self->devices->slot);
		p->number = atomic_fetch_add(&self->devices->last, 1) + 1;
		p->since = self->h->wall_ms();
		if (tell(self, s, p->number, 1) < 0) {
			p->number = 0; /* it is not counted: better one too many than a guest shut out */
		}
		tell_nodes(self, s, p);
	}
	return CHATD_NEXT;
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	chatd_session *s = self->h->call_session(call);
	const struct place *p = self->h->slot(s, self->devices->slot);
	(void)wself;
	if (p->number) {
		(void)tell(self, s, p->number, 0);
	}
	return CHATD_NEXT;
}

static chatd_status listen_to_nodes(struct self *self)
{
	const struct chatd_cluster *cluster = self->cluster ? self->cluster->vt : NULL;
	const struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = OPENED, .fn = on_opened, .arg = self
	};
	return cluster ? cluster->receive(self->cluster->obj, &r) : 0;
}

chatd_status devices_start(struct self *self)
{
	const struct chatd_host *h = self->h;
	self->devices = calloc(1, sizeof(*self->devices));
	if (!self->devices) {
		return -ENOMEM;
	}
	chatd_status rc = h->session_slot(self->ctx, sizeof(struct place), NULL, &self->devices->slot);
	rc = rc < 0 ? rc : h->hook(self->ctx, chatd_hook_session_open, CHATD_ORDER_GUARD, on_open);
	rc = rc < 0 ? rc : listen_to_nodes(self);
	return rc < 0 ? rc
				  : h->hook(self->ctx, chatd_hook_session_close, CHATD_ORDER_OBSERVE, on_close);
}

void devices_stop(struct self *self)
{
	struct guest_sessions *g, *next;
	if (!self->devices) {
		return;
	}
	HASH_ITER(hh, self->devices->guests, g, next)
	{
		drop_guest(self->devices, g);
	}
	free(self->devices);
}

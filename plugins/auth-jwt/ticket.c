/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: good for one session, once, for 30 s.  A ticket lies with the worker that made it,
 * whose number is part of it; so it is spent once, whoever presents it where.  In a cluster it
 * lies in the store: ticket_store.c. */
#include "ticket.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  malloc(n)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	PER_WORKER = 4096,
	PER_USER = 16,
	HASH_LEN = 16,
	SECRET_LEN = 32,
};

struct ticket {
	UT_hash_handle hh;
	struct ticket *older, *newer;
	unsigned char hash[HASH_LEN]; /* finds it: the ticket itself is not kept */
	const chatd_ident *ident;
	int64_t until;
};

int ticket_like(struct chatd_str s)
{
	return s.n >= sizeof(TICKET_PREFIX) - 1 &&
			memcmp(s.p, TICKET_PREFIX, sizeof(TICKET_PREFIX) - 1) == 0;
}

static void hash_of(const char *ticket, unsigned char ret[HASH_LEN])
{
	crypto_generichash(ret, HASH_LEN, (const unsigned char *)ticket, TICKET_LEN, NULL, 0);
}

/* ---- where they lie ---------------------------------------------------------------- */

static const chatd_ident *unlink_ticket(struct worker_state *ws, struct ticket *t)
{
	const chatd_ident *ident = t->ident;
	HASH_DEL(ws->tickets, t);
	*(t->older ? &t->older->newer : &ws->oldest) = t->newer;
	*(t->newer ? &t->newer->older : &ws->newest) = t->older;
	ws->n_tickets--;
	ws->self->h->mem_free(t);
	return ident;
}

static void drop(struct worker_state *ws, struct ticket *t)
{
	ws->self->h->ident_unref(unlink_ticket(ws, t));
}

static void expire(void *arg)
{
	struct worker_state *ws = arg;
	const struct chatd_host *h = ws->self->h;
	int64_t now = h->now_ms(ws->w);
	while (ws->oldest && ws->oldest->until <= now) {
		drop(ws, ws->oldest);
	}
	if (ws->oldest) {
		h->timer_set(ws->w, &ws->ticket_timer, ws->oldest->until - now, expire, ws);
	}
}

/* A user's oldest ones make room for new ones. */
static void limit_user(struct worker_state *ws, const chatd_ident *ident)
{
	const struct chatd_host *h = ws->self->h;
	struct chatd_str user = h->ident_user(ident);
	size_t n = 1;
	for (struct ticket *t = ws->newest, *older; t; t = older) {
		older = t->older;
		if (chatd_str_same(h->ident_user(t->ident), user) && ++n > PER_USER) {
			drop(ws, t);
		}
	}
}

static chatd_status put(struct worker_state *ws, const chatd_ident *ident, const char *ticket)
{
	const struct chatd_host *h = ws->self->h;
	limit_user(ws, ident);
	struct ticket *t = ws->n_tickets < PER_WORKER ? h->mem_alloc(sizeof(*t)) : NULL;
	if (!t) {
		return -ENOMEM;
	}
	hash_of(ticket, t->hash);
	HASH_ADD(hh, ws->tickets, hash, HASH_LEN, t);
	if (!t->hh.tbl) {
		h->mem_free(t);
		return -ENOMEM;
	}
	t->ident = h->ident_ref(ident);
	t->until = h->now_ms(ws->w) + TICKET_TTL_MS;
	t->older = ws->newest;
	*(t->older ? &t->older->newer : &ws->oldest) = t;
	ws->newest = t;
	ws->n_tickets++;
	if (!t->older) {
		h->timer_set(ws->w, &ws->ticket_timer, TICKET_TTL_MS, expire, ws);
	}
	return 0;
}

static const chatd_ident *take(struct worker_state *ws, const unsigned char hash[HASH_LEN])
{
	struct ticket *t;
	HASH_FIND(hh, ws->tickets, hash, HASH_LEN, t);
	if (!t || t->until <= ws->self->h->now_ms(ws->w)) {
		return NULL;
	}
	return unlink_ticket(ws, t);
}

void ticket_stop(struct worker_state *ws)
{
	ws->self->h->timer_clear(&ws->ticket_timer);
	while (ws->oldest) {
		drop(ws, ws->oldest);
	}
}

/* ---- spending one -------------------------------------------------------------------- */

/* There, to its worker, and back. */
struct trip {
	const struct self *self;
	chatd_worker *home, *from;
	chatd_token parked;
	unsigned char hash[HASH_LEN];
	const chatd_ident *ident;
};

static void copy_ident(const struct chatd_host *h, const chatd_ident *i, struct who *ret)
{
	chatd_str_copy(ret->user, sizeof(ret->user), h->ident_user(i));
	chatd_str_copy(ret->name, sizeof(ret->name), h->ident_name(i));
	chatd_str_copy(ret->roles, sizeof(ret->roles), h->ident_roles(i));
	chatd_str_copy(ret->login, sizeof(ret->login), h->ident_login(i));
	chatd_str_copy(ret->client, sizeof(ret->client), h->ident_client(i));
	ret->flags = h->ident_flags(i);
	ret->expires = h->ident_expires(i);
}

static void at_asker(void *arg)
{
	struct trip *trip = arg;
	const struct self *self = trip->self;
	const struct chatd_host *h = self->h;
	chatd_call *call = h->call_of(trip->from, trip->parked);
	if (call && trip->ident) {
		struct who who;
		const struct admission ad = { .by = ADMIT_TICKET, .cred = CHATD_CRED_TOKEN, .who = &who };
		copy_ident(h, trip->ident, &who);
		admit_parked(self, trip->from, trip->parked, &ad);
	} else {
		enter_refuse_parked(self, trip->parked, -EKEYREJECTED);
	}
	h->ident_unref(trip->ident);
	h->mem_free(trip);
}

static void at_home(void *arg)
{
	struct trip *trip = arg;
	const struct chatd_host *h = trip->self->h;
	trip->ident = take(state_of(trip->self, trip->home), trip->hash);
	if (h->post(trip->from, at_asker, trip) < 0) {
		h->ident_unref(trip->ident); /* refused at the call's deadline */
		h->mem_free(trip);
	}
}

static int has_place(struct chatd_str ticket)
{
	return ticket.n == TICKET_LEN && ticket.p[sizeof(TICKET_PREFIX) - 1 + TICKET_PLACE] == '_';
}

static int is_of_all(struct chatd_str ticket)
{
	return has_place(ticket) &&
			memcmp(ticket.p, TICKET_PREFIX "all_", sizeof(TICKET_PREFIX) + 3) == 0;
}

/* NULL: no such worker. */
static chatd_worker *home_of(const struct self *self, struct chatd_str ticket)
{
	char digits[TICKET_PLACE + 1], *end;
	if (!has_place(ticket)) {
		return NULL;
	}
	memcpy(digits, ticket.p + sizeof(TICKET_PREFIX) - 1, TICKET_PLACE);
	digits[TICKET_PLACE] = '\0';
	long i = strtol(digits, &end, 10);
	return !*end && i >= 0 && i < self->h->worker_count() ? self->h->worker_at((int32_t)i) : NULL;
}

chatd_verdict ticket_take(const struct self *self, chatd_call *call, struct chatd_str ticket)
{
	const struct chatd_host *h = self->h;
	chatd_worker *home = home_of(self, ticket);
	if (!h->call_session(call)) {
		return h->reject(call, "TOKEN_IN_URL",
				"a ticket opens a session; for a request put the token into Authorization");
	}
	if (is_of_all(ticket) && ticket_is_shared(self)) {
		return ticket_spend(self, call, ticket);
	}
	if (!home) {
		return enter_refuse(self, call, -EKEYREJECTED);
	}
	struct trip *trip = h->mem_alloc(sizeof(*trip));
	if (!trip) {
		return -ENOMEM;
	}
	*trip = (struct trip){ .self = self, .home = home, .from = h->call_worker(call) };
	hash_of(ticket.p, trip->hash);
	trip->parked = h->suspend(call, NULL, NULL);
	if (!trip->parked) {
		h->mem_free(trip);
		return -EBUSY;
	}
	if (h->post(home, at_home, trip) < 0) {
		(void)h->resume(trip->parked, -ENOMEM, NULL, NULL);
		h->mem_free(trip);
	}
	return CHATD_WAIT;
}

/* ---- POST /api/auth/ws-ticket --------------------------------------------------------------- */

struct request {
	const struct self *self;
	chatd_req *req;
};

void ticket_make(const struct self *self, const char *place, char ret[TICKET_LEN + 1])
{
	unsigned char raw[SECRET_LEN];
	int n = snprintf(ret, TICKET_LEN + 1, TICKET_PREFIX "%s_", place);
	self->h->random(raw, sizeof(raw));
	sodium_bin2base64(ret + n, (size_t)(TICKET_LEN + 1 - n), raw, sizeof(raw),
			sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void ticket_answer(const struct self *self, chatd_req *req, const char *ticket)
{
	const struct chatd_http *http = self->http->vt;
	char body[TICKET_LEN + 48];
	if (!ticket) {
		(void)http->header(req, "Retry-After", CHATD_LIT("5"));
		http->problem(req, 503, "UNAVAILABLE", "no ticket can be kept just now; try again");
		return;
	}
	int n = snprintf(body, sizeof(body), "{\"ticket\":\"%s\",\"expiresIn\":%d}", ticket,
			TICKET_TTL_MS / 1000);
	(void)http->header(req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(req, 200, "application/json", chatd_str_of(body, (size_t)n));
	sodium_memzero(body, sizeof(body));
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *ident, const char *code, const char *why)
{
	struct request *r = arg;
	const struct self *self = r->self;
	const struct chatd_http *http = self->http->vt;
	char place[16], ticket[TICKET_LEN + 1];
	if (rc < 0) {
		int busy = rc == -ENOMEM || (code && strcmp(code, "UNAVAILABLE") == 0);
		http->problem(r->req, busy ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	if (ticket_is_shared(self)) {
		struct who who;
		copy_ident(self->h, ident, &who);
		ticket_keep(self, r->req, &who);
		return;
	}
	chatd_worker *w = http->req_worker(r->req);
	snprintf(place, sizeof(place), "%0*d", TICKET_PLACE, (int)self->h->worker_index(w));
	ticket_make(self, place, ticket);
	ticket_answer(self, r->req, put(state_of(self, w), ident, ticket) < 0 ? NULL : ticket);
	sodium_memzero(ticket, sizeof(ticket));
}

static void on_request(void *arg, chatd_req *req)
{
	const struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	struct request *r = http->req_alloc(req, sizeof(*r));
	if (!r) {
		http->problem(req, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	r->self = self;
	r->req = req;
	http->identify(req, on_identified, r);
}

chatd_status ticket_route(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route route = { .struct_size = sizeof(route),
		.methods = CHATD_POST,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/auth/ws-ticket",
		.max_body = 1024,
		.handle = on_request,
		.arg = self };
	return http->route(self->http->obj, self->ctx, &route);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Logins of sessions: how often an address may come, and how many may be there at a time.  Also
 * REST walks session_auth; its calls are counted in rest.c. */
#include "limit.h"

#include <errno.h>
#include <stdio.h>

static struct seat *seat_of(const struct self *self, chatd_call *call)
{
	struct seat *seat = self->h->slot(self->h->call_session(call), self->slot);
	seat->self = self;
	return seat;
}

/* Takes a place among those of @p key; the session's end gives it back. */
static chatd_verdict take_place(const struct self *self, chatd_call *call, struct bucket **place,
		struct chatd_str key, int64_t max)
{
	nanos now = limit_now(self, self->h->call_worker(call));
	self->backend->release(*place); /* of an attempt before this one */
	*place = NULL;
	chatd_status rc = max ? self->backend->hold_one_of(self->store, key, max, now, place) : 0;
	if (rc == -EDQUOT) {
		self->h->reply(call, "retryAfterSeconds", CHATD_LIT("30"));
		return self->h->reject(call, "RATE_LIMIT_EXCEEDED",
				"too many connections: %lld at a time are allowed; close one of them first",
				(long long)max);
	}
	return rc;
}

static struct chatd_str key_of(const char *what, const struct address *a, char room[KEY_MAX])
{
	char text[ADDRESS_KEY];
	struct chatd_str who = address_key(a, text);
	int n = snprintf(room, KEY_MAX, "%s%.*s", what, (int)who.n, who.p);
	return chatd_str_of(room, (size_t)n);
}

#define BY_PEER(what, limit_, peer, room)                                           \
	{                                                                               \
		.limit = limit_, .key = key_of(what, peer, room), .shown = sizeof(what) - 1 \
	}

chatd_verdict on_arrival(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *creds = h->call_msg(call);
	struct address peer;
	char room[2][KEY_MAX];
	(void)wself;
	if (!h->call_session(call)) {
		return CHATD_NEXT;
	}
	struct seat *seat = seat_of(self, call);
	seat->local = (uint8_t)limit_is_exempt(self, h->msg_get(creds, CHATD_CRED_PEER), &peer);
	if (seat->local) {
		return CHATD_NEXT;
	}
	struct draw draws[2] = { BY_PEER("connect:", &self->connects, &peer, room[0]),
		/* A password can be guessed, which costs the server a hash each time; a token cannot. */
		BY_PEER("login:", &self->logins, &peer, room[1]) };
	return draws_charge(self, call, draws, h->msg_get(creds, CHATD_CRED_LOGIN).p ? 2 : 1);
}

/* Behind on_arrival(), which may have parked the call. */
chatd_verdict on_admitted(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct address peer;
	char room[KEY_MAX];
	(void)wself;
	if (!h->call_session(call) || seat_of(self, call)->local ||
			!address_parse(h->msg_get(h->call_msg(call), CHATD_CRED_PEER), &peer)) {
		return CHATD_NEXT;
	}
	return take_place(self, call, &seat_of(self, call)->of_address, key_of("open:", &peer, room),
			self->conf->address_connections);
}

chatd_verdict on_identified(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_ident *who = h->call_ident(call);
	char room[KEY_MAX];
	(void)wself;
	if (!h->call_session(call) || !who || seat_of(self, call)->local) {
		return CHATD_NEXT;
	}
	struct chatd_str user = h->ident_user(who);
	int n = snprintf(room, sizeof(room), "open-user:%.*s", (int)user.n, user.p);
	struct chatd_str key = chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
	return take_place(self, call, &seat_of(self, call)->of_user, key, self->conf->user_connections);
}

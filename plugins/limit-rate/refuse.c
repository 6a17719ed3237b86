/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a limit is about, and how one is refused. */
#include "limit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECOND ((nanos)1000000000)

nanos limit_now(const struct self *self, chatd_worker *w)
{
	return self->h->now_ms(w) * 1000000;
}

/* Who has no account can have another identity at will: the clientIdentifier is what stays. */
struct chatd_str limit_key_of(
		const struct self *self, const char *what, const chatd_ident *who, char room[KEY_MAX])
{
	const struct chatd_host *h = self->h;
	int guest = (h->ident_flags(who) & CHATD_ID_ANONYMOUS) != 0;
	struct chatd_str client = h->ident_client(who);
	struct chatd_str id = guest && client.n ? client : h->ident_user(who);
	int n = snprintf(room, KEY_MAX, "%s%s%.*s", what, guest ? "anon:" : "auth:", (int)id.n, id.p);
	return chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
}

void limit_why(
		const struct limit *l, const struct drawn *drawn, char why[WHY_MAX], char seconds[24])
{
	long long s = (long long)((drawn->wait + SECOND - 1) / SECOND);
	snprintf(seconds, 24, "%lld", s > 0 ? s : 1);
	snprintf(why, WHY_MAX,
			"too many %s: %lld at once and %lld a minute are allowed; try again in %s s", l->what,
			(long long)l->burst, (long long)l->per_minute, seconds);
}

chatd_verdict limit_verdict(
		const struct self *self, chatd_call *call, const struct draws *d, const struct outcome *o)
{
	char seconds[24], why[WHY_MAX];
	if (o->rc != -EDQUOT) {
		return o->rc;
	}
	limit_why(d->at[o->which].limit, &o->drawn, why, seconds);
	self->h->reply(call, "retryAfterSeconds", chatd_str_of(seconds, strlen(seconds)));
	return self->h->reject(call, "RATE_LIMIT_EXCEEDED", "%s", why);
}

/* A peer without a numeric address comes by a unix socket, from this machine. */
int limit_is_exempt(const struct self *self, struct chatd_str peer, struct address *ret)
{
	if (!address_parse(peer, ret)) {
		return 1;
	}
	for (size_t i = 0; i < self->n_nets; i++) {
		if (net_has(&self->net[i], ret)) {
			return 1;
		}
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* REST: by address before anyone knows who calls, by user once that is known. */
#include "limit.h"

#include <errno.h>
#include <stdio.h>

struct caller {
	int32_t by;
	struct chatd_str key;
};

static int concerns(
		const struct self *self, const struct rest_limit *r, int32_t by, chatd_call *call)
{
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	return r->by == by && (r->methods & chatd_call_method(h->msg_get(m, "method"))) &&
			chatd_path_fits(r->prefix, h->msg_dest(m));
}

/* The bucket that @p number of `rest` has for @p whom; 0: that of all calls. */
static void name(struct draw *d, char room[KEY_MAX], uint32_t number, const struct caller *who)
{
	int n = number ? snprintf(room, KEY_MAX, "rest%u:", number) : snprintf(room, KEY_MAX, "rest:");
	size_t head = (size_t)n;
	n += snprintf(room + n, KEY_MAX - (size_t)n, "%.*s", (int)who->key.n, who->key.p);
	d->key = chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
	d->shown = who->by == BY_ADDRESS ? head : d->key.n;
}

/* All limits for @p who that this call comes under. */
static chatd_verdict judge(const struct self *self, chatd_call *call, const struct caller *who)
{
	size_t n = 1;
	for (size_t i = 0; i < self->n_rest; i++) {
		n += (size_t)concerns(self, &self->rest[i], who->by, call);
	}
	struct draw *draws = self->h->call_alloc(call, n * (sizeof(*draws) + KEY_MAX));
	if (!draws) {
		return -ENOMEM;
	}
	char(*room)[KEY_MAX] = (void *)(draws + n);
	draws[0].limit = who->by == BY_USER ? &self->user_calls : &self->calls;
	name(&draws[0], room[0], 0, who);
	n = 1;
	for (size_t i = 0; i < self->n_rest; i++) {
		const struct rest_limit *r = &self->rest[i];
		if (concerns(self, r, who->by, call)) {
			draws[n].limit = &r->limit;
			name(&draws[n], room[n], r->number, who);
			n++;
		}
	}
	return draws_charge(self, call, draws, n);
}

chatd_verdict on_request(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct address peer;
	char text[ADDRESS_KEY];
	(void)wself;
	struct chatd_str from = self->h->msg_get(self->h->call_msg(call), CHATD_CRED_PEER);
	if (limit_is_exempt(self, from, &peer)) {
		return CHATD_NEXT;
	}
	return judge(self, call, &(struct caller){ BY_ADDRESS, address_key(&peer, text) });
}

chatd_verdict on_request_as(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_ident *who = h->call_ident(call);
	struct address peer;
	char room[KEY_MAX];
	(void)wself;
	uint64_t mask = chatd_role_mask(&self->roles, h->ident_flags(who), h->ident_roles(who));
	if ((mask & self->exempt) ||
			limit_is_exempt(self, h->msg_get(h->call_msg(call), CHATD_CRED_PEER), &peer)) {
		return CHATD_NEXT;
	}
	return judge(self, call, &(struct caller){ BY_USER, limit_key_of(self, "", who, room) });
}

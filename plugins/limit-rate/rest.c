/* SPDX-License-Identifier: Apache-2.0 */
/* REST: by address before anyone knows who calls, by user once that is known. */
#include "limit.h"

#include <stdio.h>

/* All limits for @p by that this call comes under. */
static chatd_verdict judge(
		const struct self *self, chatd_call *call, int32_t by, struct chatd_str whom)
{
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	uint32_t method = chatd_call_method(h->msg_get(m, "method"));
	char room[KEY_MAX];
	for (size_t i = 0; i < self->n_rest; i++) {
		const struct rest_limit *r = &self->rest[i];
		if (r->by != by || !(r->methods & method) || !chatd_path_fits(r->prefix, h->msg_dest(m))) {
			continue;
		}
		int n = snprintf(room, sizeof(room), "rest%u:%.*s", r->number, (int)whom.n, whom.p);
		struct chatd_str key = chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
		chatd_verdict v = limit_draw(self, call, &r->limit, key);
		if (v != CHATD_NEXT) {
			return v;
		}
	}
	int n = snprintf(room, sizeof(room), "rest:%.*s", (int)whom.n, whom.p);
	return limit_draw(self, call, by == BY_USER ? &self->user_calls : &self->calls,
			chatd_str_of(room, n < KEY_MAX ? (size_t)n : KEY_MAX - 1));
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
	return judge(self, call, BY_ADDRESS, address_key(&peer, text));
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
	return judge(self, call, BY_USER, limit_key_of(self, "", who, room));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever is banned does not come in again.  Logins that the store keeps are judged where they
 * are looked up; guests, and users of the configuration, are asked about here. */
#include "users.h"

struct gate {
	struct self *self;
	chatd_token token;
	int32_t gone; /* the client, or its time */
};

static void on_cancel(void *arg)
{
	struct gate *g = arg;
	g->gone = 1;
}

static void on_account(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct gate *g = arg;
	const struct chatd_host *h = g->self->h;
	if (g->gone) {
		h->mem_free(g);
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		(void)h->resume(g->token, CHATD_REJECT, "UNAVAILABLE", "accounts cannot be looked up now");
	} else if (rc == 0 && s->accounts[0].banned_until > h->wall_ms()) {
		(void)h->resume(g->token, CHATD_REJECT, "BANNED", "this account is banned");
	} else {
		(void)h->resume(g->token, CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(g);
}

chatd_verdict gate_auth(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const struct chatd_store *store = self->store->vt;
	const chatd_ident *who = h->call_ident(call);
	(void)wself;
	if (!who || h->ident_login(who).n) {
		return CHATD_NEXT;
	}
	struct gate *g = h->mem_alloc(sizeof(*g));
	if (!g) {
		return -ENOMEM;
	}
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = h->ident_user(who)
	};
	g->self = self;
	chatd_status rc =
			store->account_get(self->store->obj, h->call_worker(call), &key, on_account, g);
	if (rc < 0) {
		h->mem_free(g);
		return h->reject(call, "UNAVAILABLE", "accounts cannot be looked up now");
	}
	g->token = h->suspend(call, on_cancel, g);
	if (!g->token) {
		g->gone = 1; /* the answer comes all the same, and frees it */
		return h->reject(call, "UNAVAILABLE", "the server is full of logins; try again");
	}
	return CHATD_WAIT;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait.  The core answers within the call unless a hook waits, and in a kit no other
 * plugin has one: so the kit has, in front of each chain that may wait, and makes it wait at will. */
#include "kit_impl.h"

#include <stdlib.h>

struct wait {
	chatd_token token;
	int over; /* the session has gone */
};

static void on_turn(void *arg)
{
	struct wait *w = arg;
	if (!w->over) {
		(void)call_resume(w->token, CHATD_NEXT, NULL, NULL);
	}
	free(w);
}

static void on_cancel(void *arg)
{
	struct wait *w = arg;
	w->over = 1;
}

static chatd_verdict on_request(chatd_call *c, void *self, void *wself)
{
	struct kit *k = kit_the();
	(void)self;
	(void)wself;
	struct wait *w = k->late ? calloc(1, sizeof(*w)) : NULL;
	if (!w) {
		return CHATD_NEXT;
	}
	w->token = call_suspend(c, on_cancel, w);
	if (!w->token || worker_post(call_worker(c), on_turn, w) < 0) {
		kit_broken(k, "no memory for the test itself");
	}
	return CHATD_WAIT;
}

void kit_late_init(struct kit *k)
{
#define CHATD_X(num, name, kind, may_wait, at_end)                   \
	if (may_wait) {                                                  \
		(void)kit_table.hook(&k->ctx, (num), INT32_MIN, on_request); \
	}
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
}

void kit_late(struct kit *k, int on)
{
	k->late = on != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Ending the subscriptions of one user to one destination, on every worker. */
#include "chat/dest_impl.h"

#include "base/str.h"
#include "chat/ident.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PASSES = 3 };

struct cut {
	struct chat_worker *at;
	int pass;
	size_t user, dest; /* lengths of what stands in text[] */
	char text[];
};

static void cut_here(const struct cut *c)
{
	struct chatd_str user = chatd_str_of(c->text, c->user);
	struct dest *d = dest_find(c->at, chatd_str_of(c->text + c->user, c->dest));
	for (uint32_t i = d ? d->n : 0; i-- > 0;) {
		struct sub *s = d->subs[i];
		int last = d->n == 1;
		if (str_eq(ident_user(session_ident(s->session)), user)) {
			session_cut_sub(s);
		}
		if (last) {
			return; /* d may be gone */
		}
	}
}

/* A subscription that was allowed just before may be in the making: its permission is in this worker's
 * mailbox, or resumed here and in the mailbox again.  So the cut goes twice through the mailbox behind
 * it.  Each worker by itself: one that has no processor for a while cuts nobody elsewhere who has come
 * back meanwhile. */
static void on_cut(void *arg)
{
	struct cut *c = arg;
	cut_here(c);
	if (++c->pass == PASSES || worker_post(c->at->w, on_cut, c) < 0) {
		free(c);
	}
}

/* What is published here next must not reach who was just cut off, so it does not wait in our
 * own mailbox; but inside a hook or a fan-out subscriptions may not end under somebody's feet. */
static int may_cut_now(const struct chat_worker *cw)
{
	return worker_current() == cw->w && !cw->dests->fanning && !cw->in_hooks;
}

chatd_status dest_cut(struct chat *chat, struct chatd_str user, struct chatd_str dest)
{
	chatd_status rc = 0;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		struct cut *c = malloc(sizeof(*c) + user.n + dest.n);
		if (!c) {
			rc = -ENOMEM;
			continue;
		}
		c->at = &chat->workers[i];
		c->pass = 0;
		c->user = user.n;
		c->dest = dest.n;
		memcpy(c->text, user.p, user.n);
		memcpy(c->text + user.n, dest.p, dest.n);
		if (may_cut_now(c->at)) {
			on_cut(c);
		} else if (worker_post(c->at->w, on_cut, c) < 0) {
			free(c);
			rc = -ENOMEM;
		}
	}
	return rc;
}

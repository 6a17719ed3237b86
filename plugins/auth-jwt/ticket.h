/* SPDX-License-Identifier: Apache-2.0 */
/* What the two places share where tickets lie: a worker's memory, and the store of a cluster. */
#ifndef TICKET_H
#define TICKET_H

#include "auth.h"

#define TICKET_PREFIX "wst_"

enum {
	TICKET_TTL_MS = 30000,
	TICKET_PLACE = 3, /* a worker's number, or "all" */
	TICKET_LEN = 4 + TICKET_PLACE + 1 + 43,
};

/* ---- ticket.c -------------------------------------------------------------------------- */

void ticket_make(const struct self *, const char *place, char ret[TICKET_LEN + 1]);
/* NULL: it could not be kept. */
void ticket_answer(const struct self *, chatd_req *, const char *ticket);

/* ---- ticket_store.c ---------------------------------------------------------------------- */

/* [any] 1: there is a store that all nodes share. */
int ticket_is_shared(const struct self *);
/* Makes one and answers the request, once the store has it. */
void ticket_keep(const struct self *, chatd_req *, const struct who *);
/* For a hook. */
chatd_verdict ticket_spend(const struct self *, chatd_call *, struct chatd_str ticket);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file auth.h
 * @brief What the parts of the plugin share: its options, its state, who may enter.
 *
 * auth_jwt.c starts and stops; enter.c has the hooks of session_auth, admit.c asks the store
 * about whoever has proved to be somebody, jwks.c keeps foreign keys, ticket.c the tickets.
 */
#ifndef AUTH_H
#define AUTH_H

#include "issuer.h"
#include "own.h"

#include <chatd/accounts.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/store.h>

enum { URL_TICKET, URL_LEGACY };
enum { KEYS_MAX = 16, ISSUERS_MAX = 8 };

struct conf_key {
	const char *kid, *key;
	int32_t alg, base64;
};

struct conf {
	int64_t access_ttl, refresh_ttl;
	const char *issuer, *audience;
	struct chatd_list keys, issuers; /* struct conf_key, struct issuer */
	int32_t url_token;
	int64_t jwks_refresh, jwks_min_refresh;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *accounts, *http; /* NULL: not there */
	struct own own;
	struct key keys[KEYS_MAX];
};

struct ticket;
struct waiter;

/** Of one worker. */
struct worker_state {
	const struct self *self;
	chatd_worker *w;
	jose_cfg_t *jose;
	struct foreign {
		json_t *keys; /* NULL: none yet */
		struct waiter *waiting;
		size_t n_waiting;
	} foreign[ISSUERS_MAX];
	/* On worker 0 alone: */
	struct fetching {
		int64_t next; /* monotonic: not again before */
		int busy;
		struct chatd_timer timer;
		struct worker_state *home;
	} fetching[ISSUERS_MAX];
	struct ticket *tickets, *oldest, *newest;
	size_t n_tickets;
	struct chatd_timer ticket_timer;
};

struct worker_state *state_of(const struct self *, chatd_worker *);

static inline const struct issuer *issuer_at(const struct self *self, size_t i)
{
	return (const struct issuer *)self->conf->issuers.items + i;
}

/* ---- enter.c --------------------------------------------------------------------- */

chatd_status enter_hooks(const struct self *);
/** All refusals of tokens read alike, whatever was wrong, but for those that were good once. */
chatd_verdict enter_refuse(const struct self *, chatd_call *, chatd_status rc);
void enter_refuse_parked(const struct self *, chatd_token, chatd_status rc);
/** A foreign token again, now that keys have come, or could not: it gets its answer. */
void enter_again(struct worker_state *, chatd_token, const char *cred);

/* ---- admit.c ----------------------------------------------------------------------- */

enum admit_by {
	ADMIT_OWN,     /* the account is the truth; it must be there where accounts are kept */
	ADMIT_FOREIGN, /* the claims are; an account is made so that others can write to it */
	ADMIT_TICKET,  /* the identity is as it was when the ticket was made */
};
struct admission {
	enum admit_by by;
	const char *cred;            /* a literal */
	const struct issuer *issuer; /* of ADMIT_FOREIGN */
	const struct who *who;       /* copied */
};
/** For a hook: asks whether the login lives and the account may enter, then identifies. */
chatd_verdict admit(const struct self *, chatd_call *, const struct admission *);
/** The same for a call that is parked already: ends with its resume(). */
void admit_parked(const struct self *, chatd_worker *, chatd_token, const struct admission *);

/* ---- jwks.c ------------------------------------------------------------------------- */

chatd_status jwks_start(struct worker_state *);
void jwks_stop(struct worker_state *);
/** Parks the call until newer keys of that issuer have come, or cannot. */
chatd_verdict jwks_wait(struct worker_state *, chatd_call *, const char *cred, size_t issuer);

/* ---- ticket.c ----------------------------------------------------------------------- */

chatd_status ticket_route(struct self *);
int ticket_like(struct chatd_str);
/** For a hook: the ticket is spent, wherever it is kept. */
chatd_verdict ticket_take(const struct self *, chatd_call *, struct chatd_str ticket);
void ticket_stop(struct worker_state *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file webhooks.h
 * @brief What the parts of this plugin share.
 *
 * Outgoing (out.c): each target has a place in the log of all rows, kept as a record.  What comes
 * after it is read, sent, and the place moves on once the target has said yes.  So nothing is
 * queued, and nothing that was acknowledged to a client can be missed.
 */
#ifndef WEBHOOKS_H
#define WEBHOOKS_H

#include <chatd-sdk/ask.h>
#include <chatd-sdk/open.h>
#include <chatd-sdk/webhook.h>
#include <chatd/audit.h>
#include <chatd/fetch.h>
#include <chatd/http.h>
#include <chatd/limiter.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/rooms.h>
#include <chatd/store.h>
#include <chatd/transport.h>

#include <stdatomic.h>

enum {
	IN_ROUTES = 5,
	HOOK_HEX = 16,
	SECRET_MAX = 43,
	HOOK_NAME_MAX = 64, /* bytes */
	TARGET_NAME_MAX = 32,
	POLL_MS = 1000,   /* what other nodes wrote is looked for this often */
	WAKE_MS = 20,     /* what comes together is sent together */
	PARKED_MS = 4500, /* all deciders of a call together */
};

enum { EVENT_MESSAGE = 1, EVENT_CHANGE = 2, EVENT_ROOM = 4, EVENT_PRESENCE = 8 };

struct conf_out {
	const char *name, *url, *secret, *old_secret;
	const char *const *events;
	const char *const *rooms;
	int32_t direct;
	int64_t batch, timeout;
};

enum { ON_CONNECT, ON_SUBSCRIBE, ON_MESSAGE, ON_COUNT };
enum { ERROR_DENY, ERROR_ALLOW };
struct conf_decider {
	const char *url, *secret, *prefix;
	int32_t on, on_error, credentials;
	int64_t timeout;
};

struct conf {
	struct chatd_list outgoing, deciders;
	int64_t lease, retry_min, retry_max;
	int64_t breaker, breaker_pause;
	int64_t per_room, per_minute, max_bytes;
};

/* What is compiled of the options. */
struct target {
	const struct conf_out *conf;
	struct chatd_webhook_key key, old;
	uint32_t events;
	int32_t home; /* index of the worker that sends */
	atomic_int woken;
};
struct decider {
	const struct conf_decider *conf;
	struct chatd_webhook_key key;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *fetch, *sessions;
	const struct chatd_service *http, *rooms, *presence, *limiter, *audit; /* NULL: not there */
	struct target *targets;
	size_t n_targets;
	struct decider *deciders;
	size_t n_deciders;
	struct chatd_ask_route routes[IN_ROUTES];
	struct breaker *breakers; /* n_deciders for each worker */
	struct flow *flows;       /* n_targets of them, each its target's home worker's */
	int32_t shared;           /* other nodes use the store too */
	struct chatd_open open;   /* flows that are at something, deciders that were asked */
};

struct flow;
struct breaker {
	int64_t fails, until; /* until: now_ms; 0: closed */
	int32_t probing;
};
struct worker { /* wself */
	struct self *self;
	chatd_worker *w;
	struct breaker *breakers; /* this worker's */
};

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}
static inline const struct chatd_store *store_of(const struct self *self)
{
	return self->store->vt;
}

/* events.c: pure */
/* Which of EVENT_* it is; 0: none of them. */
uint32_t event_of_row(const struct chatd_store_message *);
/* 1: the target wants it. */
int event_wanted(const struct target *, const struct chatd_store_message *);
void event_write(struct chatd_json *, const struct chatd_store_message *, struct chatd_str epoch);
void event_write_presence(struct chatd_json *, const char *id, struct chatd_str user,
		const struct chatd_presence_state *, int64_t wall);

/* out.c */
chatd_status out_init(struct self *); /* [main] */
chatd_status out_start(struct worker *);
void out_drain(struct worker *);
void out_stop(struct worker *);
void out_fini(struct self *); /* [main] */
/* decide.c */
chatd_status decide_init(struct self *); /* [main] */
void decide_start(struct worker *);
/* incoming.c */
chatd_status incoming_init(struct self *); /* [main] */

#endif

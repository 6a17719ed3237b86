/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file limit.h
 * @brief What the parts of the plugin share: options, limits, what a session is known by.
 */
#ifndef LIMIT_RATE_LIMIT_H
#define LIMIT_RATE_LIMIT_H

#include "address.h"
#include "backend.h"

#include <chatd-sdk/paths.h>
#include <chatd-sdk/roles.h>
#include <chatd/limiter.h>
#include <chatd/presence.h>
#include <chatd/redis.h>

struct cost_conf {
	const char *prefix;
	int64_t cost;
};

struct separate_conf {
	const char *prefix;
	int64_t per_minute, burst;
};

enum { BY_ADDRESS, BY_USER };

struct rest_conf {
	const char *prefix;
	const char *const *methods;
	int32_t by;
	int64_t per_minute, burst;
};

struct conf {
	int64_t anonymous_per_minute, anonymous_burst;
	int64_t authenticated_per_minute, authenticated_burst;
	struct chatd_list costs, separate, rest;
	const char *const *exempt_roles, *const *exempt;
	int64_t warn_at, window_ms, close_after;
	int64_t subscriptions_per_minute, subscriptions_burst;
	int64_t user_connections, address_connections;
	int64_t connects_per_minute, connects_burst;
	int64_t logins_per_minute, logins_burst;
	int64_t calls_per_minute, calls_burst;
	int64_t user_calls_per_minute, user_calls_burst;
	int64_t max_buckets;
	int32_t shared;
};

enum { SHARED_AUTO, SHARED_NEVER };

/** A limit as it was configured, compiled, and the words for who meets it. */
struct limit {
	struct rate rate;
	int64_t burst, per_minute;
	nanos warn; /**< used so far: time for a notice; 0: never */
	const char *what;
};

/** What a SEND to a destination draws, and from which of the session's buckets. */
struct charge {
	const char *prefix;
	size_t n;
	uint32_t lane;
	int64_t cost;
};

struct rest_limit {
	const char *prefix;
	uint32_t methods;
	int32_t by;
	uint32_t number; /**< tells its buckets from those of others */
	struct limit limit;
};

enum { LANE_MAIN, LANE_SUBSCRIBE, LANE_SEPARATE }; /**< separate ones from here on */
enum { SEPARATE_MAX = 16 };

/** Read-only once init() is over; what changes is behind .store. */
struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct backend *backend;
	void *store;
	uint32_t slot;
	struct chatd_roles roles;
	uint64_t exempt; /**< roles */
	struct net *net; /**< exempt ones */
	size_t n_nets;
	struct limit anonymous, authenticated, subscribe, connects, logins, calls, user_calls;
	struct limit *separate; /**< of LANE_SEPARATE and on */
	uint32_t n_lanes;
	struct charge *charge; /**< the longest prefix first */
	size_t n_charges;
	struct rest_limit *rest;
	size_t n_rest;
	const struct chatd_service *redis, *presence; /**< .redis NULL: every node for itself */
	uint32_t script;
	struct away *away;
};

/** When something was granted here last that all nodes share; 0: never.  On all workers. */
struct away {
	_Atomic nanos at;
};

/** What limits know of a session; zeroed at first.  The reference on .who keeps its address
 *  from being used for another identity: while the pointers are the same, so is the one. */
struct seat {
	const struct self *self;
	const chatd_ident *who;
	struct bucket *of_address, *of_user; /**< held to be counted */
	nanos window_at, warned_at;
	uint32_t refused; /**< in this window */
	uint8_t exempt, anonymous, local;
	struct bucket *lane[]; /**< found when first needed */
};

/* messages.c */
size_t seat_size(const struct self *);
void seat_drop(void *slot);
chatd_verdict on_message_in(chatd_call *, void *self, void *wself);
chatd_verdict on_subscribe(chatd_call *, void *self, void *wself);

/* connects.c */
chatd_verdict on_arrival(chatd_call *, void *self, void *wself);
chatd_verdict on_admitted(chatd_call *, void *self, void *wself);
chatd_verdict on_identified(chatd_call *, void *self, void *wself);

/* rest.c */
chatd_verdict on_request(chatd_call *, void *self, void *wself);
chatd_verdict on_request_as(chatd_call *, void *self, void *wself);

/* refuse.c */
enum { KEY_MAX = 256 };
nanos limit_now(const struct self *, chatd_worker *);
/** "anon:CLIENT" or "auth:USER", or "what:" before it. */
struct chatd_str limit_key_of(
		const struct self *, const char *what, const chatd_ident *, char room[KEY_MAX]);
/** 1: limits by address do not concern this peer. */
int limit_is_exempt(const struct self *, struct chatd_str peer, struct address *ret);

/** What a call takes from one bucket. */
struct draw {
	const struct limit *limit;
	struct rate rate;
	int64_t cost;
	struct bucket *bucket; /**< its mirror, where it is in Redis */
	struct chatd_str key;
	size_t shown; /**< of the key; the rest is somebody's address: Redis gets a hash of it */
};

/** Some of them, all or none. */
struct draws {
	const struct draw *at;
	size_t n;
	int exact; /**< draws_look() as Redis would: without what bucket_draw() lets clocks differ by */
};

struct outcome {
	chatd_status rc;    /**< 0: all are drawn; -EDQUOT: none is */
	size_t which;       /**< -EDQUOT: the one that would have to wait longest */
	struct drawn drawn; /**< of that one; of the first, if all are drawn */
};

/** The text of a refusal, and retryAfterSeconds. */
enum { WHY_MAX = 200 };
void limit_why(const struct limit *, const struct drawn *, char why[WHY_MAX], char seconds[24]);
/** The verdict of a call that is not parked: a refusal has retryAfterSeconds. */
chatd_verdict limit_verdict(
		const struct self *, chatd_call *, const struct draws *, const struct outcome *);

/* draws.c */
/** Draws one each from the buckets of @p at, of which .limit, .key and .shown are set; those
 *  whose limits are off are left out.  The call may be parked. */
chatd_verdict draws_charge(const struct self *, chatd_call *, struct draw *at, size_t n);
/** From what is in memory here. */
void draws_look(const struct self *, const struct draws *, nanos now, struct outcome *ret);
void draws_take(const struct self *, const struct draws *, nanos now, struct outcome *ret);
/** Likewise, what a node may grant by itself while Redis is away. */
void draws_take_part(const struct self *, const struct draws *, nanos now, struct outcome *ret);

/* messages.c, for shared.c: what a draw has come to, [worker] */
void messages_drawn(
		const struct self *, chatd_call *, const struct limit *, const struct outcome *);

/* shared.c */
typedef void shared_fn(void *arg, const struct outcome *);
struct asker {
	chatd_worker *w;
	shared_fn *fn;
	void *arg;
};
/** [main] In init(): with Redis, if it is there and wanted. */
chatd_status shared_init(struct self *);
/** Draws in Redis: fn(arg, outcome) later, on this worker; when Redis does not answer, by this
 *  node's part.  -EAGAIN: it cannot be asked, use draws_take_part(). */
chatd_status shared_ask(const struct self *, const struct draws *, const struct asker *);
/** Over how many nodes a limit is split while Redis is away. */
int64_t shared_nodes(const struct self *);
/** Parks the call.  Where there is nothing shared, or it cannot be asked, draws here. */
chatd_verdict shared_charge(const struct self *, chatd_call *, const struct draws *);

/* take.c */
extern const struct chatd_limiter take_service;

/* options.c */
extern const struct chatd_opt limit_opts[];
chatd_status limit_check(const struct chatd_host *, chatd_ctx *, const void *conf);
/** Fills what is compiled from .conf.  -ENOMEM. */
chatd_status limit_compile(struct self *);
void limit_finish(struct self *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file keys.h
 * @brief What the parts of this plugin share.
 */
#ifndef KEYS_H
#define KEYS_H

#include "bundle.h"

#include <chatd-sdk/ask.h>
#include <chatd/http.h>
#include <chatd/limiter.h>
#include <chatd/plugin.h>
#include <chatd/store.h>

enum {
	ROUTES = 5,
	DEVICES_MAX = 20,
	KEY_ROOM = CHATD_ID_MAX + DEVICE_ID_CHARS + 24, /* "user/device/0000000001" */
	PEERS_MAX = 200, /* of the newest conversations, whose people hear of other devices */
};

/* Spaces of records.  Their keys begin with "user/device". */
#define SPACE_DEVICES CHATD_LIT("keys.device")  /* two lines: what is public, what is its owner's */
#define SPACE_PREKEYS CHATD_LIT("keys.onetime") /* .../id: the one-time prekey */
#define SPACE_REMOVED CHATD_LIT("keys.removed") /* so that a lost device does not come back */

struct conf {
	int32_t guests;
	int64_t max_devices, max_prekeys, low_water, device_ttl, takes_per_minute;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http;
	const struct chatd_service *limiter; /* NULL: not there */
	struct chatd_ask_route routes[ROUTES];
};

struct ask;
typedef void ask_fn(struct ask *);

/* A request: who calls is found out, then the store is asked, perhaps several things at a time, and
 * it ends with ask_answer() or ask_problem().  What was committed takes its effect also when the
 * client has left meanwhile. */
struct ask {
	struct chatd_ask a;
	ask_fn *next;
	int32_t waits;                 /* so many answers are still to come */
	chatd_status rc;               /* of the first of them that failed */
	char target[CHATD_ID_MAX + 1]; /* the user or the device in the path; "": it is no id */
	char device[DEVICE_ID_CHARS + 1];
	struct bundle bundle;
	int64_t now, prekeys;
	int32_t is_new;   /* PUT: the device */
	char created[25]; /* when it came */
};

/* ask.c */
chatd_status routes_init(struct self *); /* [main] */
struct ask *ask_begin(struct chatd_ask *);
/* End the request, if there still is one, and free the ask. */
void ask_problem(struct ask *, int32_t status, const char *code, const char *why);
void ask_answer(struct ask *, int32_t status); /* with .a.out, if that holds anything */
/* The store was asked: with an error at once its callback will not run. */
void ask_asked(struct ask *, chatd_status rc);
/* In a callback: 1 when it was the last one that was waited for, and none has failed; when one
 * has, the request has been ended. */
int ask_heard(struct ask *, chatd_status rc);
void ask_more(struct ask *); /* one more answer is waited for */
void ask_less(struct ask *);
struct chatd_str ask_user(const struct ask *);
/* @p next runs if the caller has not done so @p much too often; else the request is ended. */
struct budget {
	const char *what; /* a literal */
	int64_t burst, per_minute, cost;
};
void ask_limited(struct ask *, const struct budget *, ask_fn *next);

/* "user/device", or "user/" when @p device is empty. */
struct record_name {
	char text[KEY_ROOM];
	struct chatd_str str;
};
void record_name(struct record_name *, struct chatd_str user, const char *device);
void record_list(
		struct ask *, struct chatd_str space, const struct record_name *prefix, chatd_store_fn *fn);
/* How many one-time prekeys .device of @p user has, up to one more than are looked for. */
void record_count(struct ask *, struct chatd_str user, int64_t up_to, chatd_store_fn *fn);

static inline struct self *self_of(const struct ask *a)
{
	return a->a.self;
}
static inline const struct chatd_store *store_of(const struct ask *a)
{
	return self_of(a)->store->vt;
}
static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* look.c: of a device's record the line 0 that everybody gets, or 1, its owner's */
struct chatd_str device_line(struct chatd_str value, int which);

/* put.c, look.c, take.c, remove.c */
void run_put(struct chatd_ask *);
void run_own(struct chatd_ask *);
void run_get(struct chatd_ask *);
void run_take(struct chatd_ask *);
void run_remove(struct chatd_ask *);

/* tell.c: [worker] later, on its own */
void tell_changed(struct self *, chatd_worker *, struct chatd_str user);
void tell_low(const struct ask *, struct chatd_str user, int64_t left);

#endif

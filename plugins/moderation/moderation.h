/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file moderation.h
 * @brief What the parts of this plugin share.
 *
 * A report is a record whose key is ROOM.MESSAGE.REPORTER (ROOM empty: of a direct message), in
 * the space of the open ones or of those that are closed.  report.c makes them, desk.c shows and
 * closes them, act.c does what a moderator has decided.
 */
#ifndef MODERATION_H
#define MODERATION_H

#include <chatd-sdk/ask.h>
#include <chatd/audit.h>
#include <chatd/limiter.h>
#include <chatd/log.h>
#include <chatd/plugin.h>
#include <chatd/reports.h>
#include <chatd/rooms.h>
#include <chatd/store.h>
#include <chatd/users.h>

#include <stdatomic.h>

#define OPEN   "moderation.open"
#define CLOSED "moderation.closed"

enum {
	ROUTES = 4,
	KEY_MAX = 3 * (CHATD_ID_MAX + 1),
	NOTE_MAX = 2000, /* bytes */
	REASON_MAX = 32,
	COPY_MAX = 8192,   /* of a message that is too large to be kept whole */
	VALUE_MAX = 60000, /* a record may have 64 KiB, and closing adds to it */
};

enum { /* what may be done with a report, in this order */
	ACT_DELETE = 1 << 0,
	ACT_MUTE = 1 << 1,
	ACT_KICK = 1 << 2,
	ACT_BAN = 1 << 3,
	ACT_BAN_ACCOUNT = 1 << 4,
	ACTS = 5,
};

struct conf {
	int64_t retention, per_minute, burst, max_open;
	const char *const *reasons;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http;
	const struct chatd_service *rooms, *log, *users, *audit, *limiter; /* NULL: not there */
	struct chatd_ask_route routes[ROUTES];
	atomic_int found; /* what others have reported, and is not stored yet */
};

/* A call, of whatever kind. */
struct ask {
	struct chatd_ask a;
	/* POST /api/reports */
	char message[CHATD_ID_MAX + 1], reason[REASON_MAX + 1], note[NOTE_MAX + 1];
	/* the report at hand */
	char key[KEY_MAX + 1], room[CHATD_ID_MAX + 1];
	struct chatd_json value;
	/* the desk */
	int32_t closed, limit, powerful; /* powerful: a moderator of the server */
	void (*then)(struct ask *);      /* once the right is beyond doubt */
	/* closing */
	int32_t dismissed, acts, left; /* ACT_*: asked for; not done yet */
	int64_t seconds;
	char sender[CHATD_ID_MAX + 1];
};

extern const char *const act_names[ACTS];

/* report.c */
void run_report(struct chatd_ask *);
struct chatd_reports;
extern const struct chatd_reports reports_vt;

/* desk.c */
void run_list(struct chatd_ask *);
void run_resolve(struct chatd_ask *);
void run_dismiss(struct chatd_ask *);
void desk_close(struct ask *); /* what was to be done is done */

/* act.c: does what is in .left, then desk_close(), or ends the call. */
void act_go_on(struct ask *);

void ask_problem(struct ask *, int32_t status, const char *code, const char *why);
void ask_refused(struct ask *, chatd_status rc);
void ask_answer(struct ask *, int32_t status);

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}
static inline struct self *self_of(const struct ask *a)
{
	return a->a.self;
}
static inline const struct chatd_store *store_of(const struct ask *a)
{
	return self_of(a)->store->vt;
}

#endif

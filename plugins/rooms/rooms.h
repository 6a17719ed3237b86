/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file rooms.h
 * @brief What the parts of this plugin share.
 *
 * The store has the rooms and checks every right inside the commit.  A request, from REST
 * or STOMP, becomes a struct op that is posted to the home of its room, asks the store from
 * there (home.c), and is posted back to its own worker, where done() answers.  The home is
 * the worker that publishes what is said in the room: so events take their place among the
 * messages, and whoever is cut off is cut after the last thing that was for them.
 */
#ifndef ROOMS_H
#define ROOMS_H

#include "name.h"

#include <chatd-sdk/hash.h>
#include <chatd-sdk/hearers.h>
#include <chatd-sdk/json.h>
#include <chatd/accounts.h>
#include <chatd/audit.h>
#include <chatd/http.h>
#include <chatd/log.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/privacy.h>
#include <chatd/rooms.h>
#include <chatd/store.h>

#include <sys/queue.h>

#define ROOM_TOPIC "/topic/room/"
#define NOTICES    "/user/queue/rooms"

enum { LIST_MAX = 1000, NICK_MAX = 512 }; /* rooms or members in one answer; bytes */

struct preset {
	const char *id, *name;
	int32_t is_public;
};

struct conf {
	struct chatd_list preset;
	int64_t max_rooms, max_members, rooms_per_user, guest_linger, max_refused;
	int32_t announce;
};

struct watcher {
	chatd_room_event_fn *fn;
	void *arg;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store;
	const struct chatd_service *http, *presence, *accounts, *log; /* NULL: not there */
	const struct chatd_service *audit, *privacy;                  /* likewise */
	struct rest_arg *rest;                                        /* what the routes are told */
	uint32_t slot;                                                /* struct refusals */
	struct watcher watchers[CHATD_HEARERS_MAX];
	struct chatd_hearers watching; /* who of these is there */
};

enum op_kind {
	OP_LOOK,      /* what a room is to a user */
	OP_SUBSCRIBE, /* may the caller hear it? */
	OP_LIST,
	OP_MINE,
	OP_GET,
	OP_CREATE,
	OP_PATCH,
	OP_DELETE,
	OP_JOIN,
	OP_LEAVE,
	OP_MEMBERS,
	OP_BANS,
	OP_ADD,
	OP_REMOVE,
	OP_ROLE,
	OP_INVITE,
	OP_BAN,
	OP_UNBAN,
	OP_MUTE,
	OP_PRESET, /* make sure that it is there */
	OP_GONE,   /* target leaves all rooms */
	OP_KINDS,
};

struct op_person {
	char id[CHATD_ID_MAX + 1], nick[NICK_MAX + 1];
	int32_t role;
	int64_t until;
};

struct op;
typedef void op_store_fn(struct op *, chatd_status rc, const struct chatd_store_answer *);
typedef void op_room_fn(struct op *, const struct chatd_store_room *);

struct op {
	TAILQ_ENTRY(op) link; /* in home->early, home->asking or home->doubts */
	struct self *self;
	chatd_worker *from, *home;
	enum op_kind kind;
	const chatd_ident *who; /* the caller; NULL: a plugin asks about target */

	/* the question */
	char room[CHATD_ID_MAX + 1], target[CHATD_ID_MAX + 1];
	char nick[NICK_MAX + 1]; /* of target */
	char name[NAME_MAX_BYTES + 1], about[ABOUT_MAX + 1];
	uint32_t set;      /* OP_PATCH: CHATD_STORE_SET_* */
	int32_t is_public; /* of these two -1: not said */
	int32_t read_only;
	const char *silent;                         /* chatd_room_view's */
	int32_t role, guest;                        /* guest: target is one */
	int64_t slow_ms, max_members, retention_ms; /* OP_PATCH */
	int64_t seconds;                            /* OP_BAN, OP_MUTE; -1: for ever */
	int32_t over;                               /* whoever asks has seen to the right itself */
	char peer[64], request[32];                 /* of who asks, for the record; "": not known */

	/* under way, at the home */
	op_store_fn *next;        /* what the store's answer is for; NULL: nothing is asked */
	op_room_fn *then;         /* the same once the room was looked up */
	int32_t as_admin;         /* the room was hidden from the caller, who may look all the same */
	int32_t stale;            /* OP_SUBSCRIBE: somebody was cut off while it was being checked */
	size_t leaving;           /* OP_GONE: rooms that are not left yet */
	struct op *parent;        /* OP_LEAVE: of an OP_GONE, which ends after it */
	struct chatd_timer timer; /* doubt.c */
	int32_t told;             /* doubt.c */
	int64_t until;
	struct chatd_json says; /* the event's body */
	char says_id[37];
	int32_t event; /* CHATD_ROOM_* that says tells of; 0: of none */
	char about_user[CHATD_ID_MAX + 1];

	/* the answer: a status, and either what went wrong or what to say */
	int32_t status;
	const char *code, *why; /* literals; code NULL: it went well */
	struct chatd_json out;
	char after[CHATD_ID_MAX + 1]; /* OP_MEMBERS, OP_BANS: the last one seen */
	int32_t limit;                /* likewise; 0: all of them */
	struct op_person *people;
	size_t n_people, people_room;
	int64_t members;

	/* [worker from] once, when the answer is there; frees the op */
	void (*done)(struct op *);

	/* who waits, each for its own done() */
	chatd_token token;
	chatd_sid session; /* OP_SUBSCRIBE */
	chatd_req *req;    /* NULL: the client has gone */
	int32_t under_way; /* somebody will call back: gone() must not free */
	chatd_room_fn *look_fn;
	chatd_members_fn *members_fn;
	chatd_left_fn *left_fn;
	chatd_rooms_done *done_fn;
	void *arg;
};
TAILQ_HEAD(ops, op);

/* What a worker knows as a home: wself. */
struct home {
	struct ops early;  /* came before the rooms of the configuration were there */
	struct ops asking; /* subscriptions that are being checked */
	struct ops doubts; /* changes of which nobody knows yet whether they were made */
	int32_t presets;   /* not there yet */
	struct sweep *sweep;
};

/* op.c */
struct op *op_create(struct self *, chatd_worker *, enum op_kind); /* NULL: no memory */
void op_free(struct op *);
void op_fail(struct op *, int32_t status, const char *code, const char *why);
struct chatd_str op_user(const struct op *); /* the caller, or whom it is about */
int op_is_guest(const struct op *);
int op_is_admin(const struct op *); /* or somebody who may do the same here */
/* [worker] To the home and back.  On error done() does not run; the op is still yours. */
chatd_status op_submit(struct op *);
void op_answer(struct op *);                 /* [home] the op is over */
chatd_worker *op_home_of(const struct op *); /* where its room is at home */
struct home *op_home(const struct op *);     /* [home] */
/* [home] The store was asked with op_on_store(), and the call gave @p rc: next() runs with
 * the answer, or the op has failed. */
void op_wait(struct op *, chatd_status rc, op_store_fn *next);
void op_on_store(void *op, chatd_status rc, const struct chatd_store_answer *);
/* [home] What the store refused, as the caller hears it. */
void op_refused(struct op *, chatd_status rc, const struct chatd_store_answer *);
/* [home] then() runs with the room as the caller may see it; if there is none, the op has
 * failed with NOT_FOUND. */
void op_look(struct op *, op_room_fn *then);

static inline const struct chatd_store *op_store(const struct op *op)
{
	return op->self->store->vt;
}

/* home.c, manage.c: [home] */
void home_run(struct op *);
void home_early(struct home *); /* what came before the presets */
void home_write_room(struct op *, const struct chatd_store_room *);
void home_people(struct op *); /* op->people; a deletion goes on with manage_delete() */
void manage_run(struct op *);
void manage_delete(struct op *);

/* doubt.c: [home] The change that op asked for, by which user is out, may still happen. */
void doubt_begin(struct op *, struct chatd_str user);
void doubt_stop(struct home *);

/* say.c: what subscribers and users are told */
struct say {
	const char *type, *code;     /* code NULL: none */
	struct chatd_str user, nick; /* whom it is about */
	struct chatd_str actor;      /* .p NULL: nobody else */
	const char *role;            /* NULL: no matter */
	int64_t until;               /* 0: no matter, INT64_MAX: for ever */
};
/* [home] Renders op->says. */
void say_prepare(struct op *, const struct say *);
void say_room_changed(struct op *, const char *code, const struct chatd_store_room *);
/* op->says as a row for the store; .body.p NULL if there is nothing to say. */
struct chatd_store_append say_row(const struct op *);
void say_publish(struct op *, const struct chatd_store_answer *); /* the row was committed */
void say_topic(struct op *);                                      /* not a row */
void say_user(struct op *, struct chatd_str user);                /* to NOTICES */
/* [worker] JOIN or LEAVE on /topic/public. */
void say_public(struct self *, chatd_worker *, struct chatd_str user, int32_t online);
/* [home] Ends what target hears of the room. */
chatd_status say_init(struct self *); /* [main] */
void say_cut(struct op *, struct chatd_str user);

/* watch.c */
chatd_status watch_add(void *self, chatd_room_event_fn *fn, void *arg);  /* [main] in init() */
void watch_tell(const struct op *, int32_t what, struct chatd_str user); /* [home] */

/* guests.c */
struct sweep *guests_create(struct self *, chatd_worker *); /* NULL: no memory */
void guests_destroy(struct sweep *);

/* stomp.c, rest.c: [main] in init() */
chatd_status stomp_init(struct self *);
chatd_status rest_init(struct self *);

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static inline const char *role_name(int32_t role)
{
	static const char *const names[] = { "none", "member", "moderator", "owner" };
	return names[role >= 0 && role <= CHATD_ROLE_OWNER ? role : 0];
}

#endif

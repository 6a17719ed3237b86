/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file rooms.h
 * @brief What the parts of this plugin share.
 *
 * All rooms live on one worker, the home, and nothing is locked: a request, from REST or
 * STOMP, becomes a struct op that is posted to the home, runs there to its end (home.c),
 * and is posted back to its own worker, where done() answers.  A store behind the home
 * would change home.c and nothing else.
 */
#ifndef ROOMS_H
#define ROOMS_H

#include "table.h"

#include <chatd-sdk/json.h>
#include <chatd/accounts.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/rooms.h>

#define ROOM_TOPIC "/topic/room/"

enum { LIST_MAX = 1000 }; /* public rooms or members in one answer */

struct preset {
	const char *id, *name;
	int32_t is_public;
};

struct conf {
	struct chatd_list preset;
	int64_t max_rooms, max_members, rooms_per_user, guest_linger;
	int32_t announce;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *http, *presence, *accounts; /* NULL: not there */
	struct table *table;                                    /* the home's */
	struct sweep *sweep;                                    /* the home's */
	struct rest_arg *rest;                                  /* what the routes are told */
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
	OP_ADD,
	OP_REMOVE,
	OP_ROLE,
};

struct op_person {
	char id[CHATD_ID_MAX + 1], nick[NICK_MAX + 1];
	int32_t role;
};

struct op {
	struct self *self;
	chatd_worker *from;
	enum op_kind kind;
	const chatd_ident *who; /* the caller; NULL: a plugin asks about target */

	/* the question */
	char room[CHATD_ID_MAX + 1], target[CHATD_ID_MAX + 1];
	char nick[NICK_MAX + 1]; /* of target */
	char name[ROOM_NAME_MAX + 1];
	int32_t has_name, has_public, is_public, role, guest; /* guest: target is one */

	/* the answer: a status, and either what went wrong or what to say */
	int32_t status;
	const char *code, *why; /* literals; code NULL: it went well */
	struct chatd_json out;
	struct op_person *people; /* of OP_MEMBERS */
	size_t n_people;
	int64_t members;

	/* [worker from] once, when the answer is there; frees the op */
	void (*done)(struct op *);

	/* who waits, each for its own done() */
	chatd_token token;
	chatd_req *req;    /* NULL: the client has gone */
	int32_t under_way; /* somebody will call back: gone() must not free */
	chatd_room_fn *look_fn;
	chatd_members_fn *members_fn;
	void *arg;
};

/* op.c */
struct op *op_create(struct self *, chatd_worker *, enum op_kind); /* NULL: no memory */
void op_free(struct op *);
void op_fail(struct op *, int32_t status, const char *code, const char *why);
struct chatd_str op_user(const struct op *); /* the caller, or whom it is about */
/* [worker] To the home and back.  On error done() does not run; the op is still yours. */
chatd_status op_submit(struct op *);

/* home.c, [home]; home_tell(): any worker */
void home_run(struct op *);
/* Ends a membership, tells the room, and cuts what must not be heard any more. */
void home_leave(struct self *, struct member *);
/* JOIN or LEAVE of a user on @p dest; @p room .p NULL: of the server. */
struct home_event {
	chatd_worker *w; /* on which this runs */
	const char *type;
	struct chatd_str dest, user, nick, room;
};
void home_tell(struct self *, const struct home_event *);

/* guests.c */
struct sweep *guests_create(struct self *); /* [main] NULL: no memory; mem_free() it */
chatd_status guests_start(struct self *, chatd_worker *); /* [home] */
void guests_stop(struct self *);                          /* [home] */

/* stomp.c, rest.c: [main] in init() */
chatd_status stomp_init(struct self *);
chatd_status rest_init(struct self *);

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

#endif

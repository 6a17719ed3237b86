/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/rooms.h
 * @brief Rooms and membership, for plugins that act on behalf of a member.
 *
 * Answers come later, once, on the worker that asked, unless the call returns an
 * error at once, and then never.
 */
#ifndef CHATD_ROOMS_H
#define CHATD_ROOMS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_ROOMS "chatd.rooms/1"

enum { CHATD_ROLE_NONE, CHATD_ROLE_MEMBER, CHATD_ROLE_MODERATOR, CHATD_ROLE_OWNER };

struct chatd_room_view { /**< borrowed for the callback */
	uint32_t struct_size;
	struct chatd_str id, name;
	int32_t is_public;
	int32_t role; /**< CHATD_ROLE_* of the user asked about */
	int64_t members;
	/** Why a message of the user's would be refused now, as its sender would be told: "MUTED",
	 *  "READ_ONLY"; NULL: for no reason of the room's rules.  Of members. */
	const char *silent;
};

/** rc 0; -ENOENT: no such room, or a private one that the user may not know of. */
typedef void chatd_room_fn(void *arg, chatd_status rc, const struct chatd_room_view *);
typedef void chatd_members_fn(void *arg, chatd_status rc, const struct chatd_str *users, size_t n);
typedef void chatd_left_fn(void *arg, chatd_status rc);
/** @p code NULL: it is done; else a constant as in a refused request, and why. */
typedef void chatd_rooms_done(void *arg, const char *code, const char *why);

enum { CHATD_ROOMS_KICK = 1, CHATD_ROOMS_BAN = 2, CHATD_ROOMS_MUTE = 3 };
struct chatd_rooms_act {
	uint32_t struct_size;
	int32_t what; /**< CHATD_ROOMS_* */
	struct chatd_str room, user;
	const chatd_ident *by;             /**< whose right it is, unless .over */
	int32_t over;                      /**< 1: its right comes from elsewhere, and was checked */
	int64_t seconds;                   /**< BAN, MUTE; -1: for ever; MUTE 0: may speak again */
	struct chatd_str address, request; /**< for the record, see audit.h */
};

/** What has happened in a room, once, on the node where it was asked for; joining and leaving whoever
 *  has done it or had it done. */
enum {
	CHATD_ROOM_MADE =
			1, /**< .user is its owner and in it already, no JOINED follows; .p NULL: of the configuration */
	CHATD_ROOM_DELETED = 2, /**< .user has done it; no member is told to have left */
	CHATD_ROOM_JOINED = 3,
	CHATD_ROOM_LEFT = 4 /**< or was shown out */
};
struct chatd_room_event { /**< borrowed for the callback */
	uint32_t struct_size;
	int32_t what; /**< CHATD_ROOM_*; others may come */
	struct chatd_str room, user;
};
/** [worker] In the order of the room's events. */
typedef void chatd_room_event_fn(void *arg, chatd_worker *, const struct chatd_room_event *);

struct chatd_rooms {
	uint32_t struct_size;
	/** What @p room is to @p user; .p NULL: to a stranger, who knows of public rooms. */
	chatd_status (*look)(void *obj, chatd_worker *, struct chatd_str room, struct chatd_str user,
			chatd_room_fn *fn, void *arg);
	/** All of them. */
	chatd_status (*members)(
			void *obj, chatd_worker *, struct chatd_str room, chatd_members_fn *fn, void *arg);
	/** @p user leaves every room, and members hear it; @p nick is what they call it.  rc < 0:
	 *  not every room could be told. */
	chatd_status (*leave_all)(void *obj, chatd_worker *, struct chatd_str user,
			struct chatd_str nick, chatd_left_fn *fn, void *arg);
	/** As if .by had asked for it over REST. */
	chatd_status (*act)(void *obj, chatd_worker *, const struct chatd_rooms_act *,
			chatd_rooms_done *fn, void *arg);
	/** [main] In init(): hear of every event.  -ENOSPC: too many do. */
	chatd_status (*watch)(void *obj, chatd_room_event_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

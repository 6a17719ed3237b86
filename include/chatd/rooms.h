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
};

/** rc 0; -ENOENT: no such room, or a private one that the user may not know of. */
typedef void chatd_room_fn(void *arg, chatd_status rc, const struct chatd_room_view *);
typedef void chatd_members_fn(void *arg, chatd_status rc, const struct chatd_str *users, size_t n);
typedef void chatd_left_fn(void *arg, chatd_status rc);

struct chatd_rooms {
	uint32_t struct_size;
	/** What @p room is to @p user. */
	chatd_status (*look)(void *obj, chatd_worker *, struct chatd_str room, struct chatd_str user,
			chatd_room_fn *fn, void *arg);
	chatd_status (*members)(
			void *obj, chatd_worker *, struct chatd_str room, chatd_members_fn *fn, void *arg);
	/** @p user leaves every room, and members hear it; @p nick is what they call it.  rc < 0:
	 *  not every room could be told. */
	chatd_status (*leave_all)(void *obj, chatd_worker *, struct chatd_str user,
			struct chatd_str nick, chatd_left_fn *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif

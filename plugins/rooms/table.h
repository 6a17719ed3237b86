/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file table.h
 * @brief Rooms, users and who is in what.  Pure: no server, no thread, no clock.
 *
 * Owned by the home worker.  Users are known here only as members: the last membership
 * that ends takes the user along.  Texts given in are copied.
 */
#ifndef ROOMS_TABLE_H
#define ROOMS_TABLE_H

#include <chatd-sdk/hash.h>
#include <chatd-sdk/json.h>
#include <chatd/rooms.h>

#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { ROOM_NAME_CHARS = 100, ROOM_NAME_MAX = 400, NICK_MAX = 256 };

struct member {
	UT_hash_handle hh; /* in room->by_user */
	TAILQ_ENTRY(member) in_room, in_user;
	struct room *room;
	struct user *user;
	int32_t role; /* CHATD_ROLE_* */
};
TAILQ_HEAD(members, member);

struct room {
	UT_hash_handle hh;
	struct member *by_user;
	struct members members; /* in the order of joining */
	int64_t n;
	int32_t is_public, preset;
	char id[CHATD_ID_MAX + 1];
	char name[ROOM_NAME_MAX + 1];
};

struct user {
	UT_hash_handle hh;
	TAILQ_ENTRY(user) guest_link; /* in table->guests, least recently checked first */
	struct members in;
	int64_t n;
	int64_t seen; /* when last known to be online; the caller's clock */
	int32_t guest;
	char id[CHATD_ID_MAX + 1];
	char nick[NICK_MAX + 1];
};
TAILQ_HEAD(guests, user);

struct table {
	struct chatd_hash_key key;
	struct room *rooms; /* uthash keeps the order of making */
	struct user *users;
	struct guests guests;
	int64_t n_rooms;
};

struct person { /* who joins */
	struct chatd_str id, nick;
	int32_t guest;
	int64_t now;
};

void table_init(struct table *, const struct chatd_hash_key *);
void table_finish(struct table *);

struct room *table_room(const struct table *, struct chatd_str id); /* NULL: none */
struct user *table_user(const struct table *, struct chatd_str id); /* NULL: in no room */
struct member *table_member(
		const struct table *, const struct room *, struct chatd_str user); /* NULL: none */
int32_t table_role(const struct table *, const struct room *, struct chatd_str user);

/* NULL: no memory, or the id is taken. */
struct room *table_add_room(
		struct table *, struct chatd_str id, struct chatd_str name, int32_t is_public);
/* NULL: no memory. The user must not be a member yet. */
struct member *table_join(struct table *, struct room *, const struct person *, int32_t role);
/* Ends a membership.  An owner who leaves is followed by the moderator, else the member,
 * who has been there longest and is no guest.  Returns 1 when the room, being no preset,
 * is empty now: then the caller deletes it. */
int table_leave(struct table *, struct member *);
void table_delete_room(struct table *, struct room *);

/* NULL: @p name may be a room's name; else what is wrong with it. */
const char *table_name_fault(struct chatd_str name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/store.h
 * @brief What lasts: accounts, rooms, conversations, cursors, the outbox.
 *
 * Rules of every call:
 *  - [worker] It names the worker that asks.  The answer comes once, later, by fn(arg, rc,
 *    answer) on that worker, never inside the call; unless the call returns an error: then
 *    fn never runs.  Calls are queued; those that write share a commit with what is queued
 *    beside them, and rc 0 means committed (and synced, as the provider is configured).
 *  - Calls of one worker that write are carried out in the order in which they were made.
 *    A read sees every write that was answered before the read was asked.
 *  - What is given in is copied.  What is given back is borrowed until fn returns.
 *  - The caller sets struct_size in every request; what an older caller's struct lacks is 0.
 *  - Times are wall-clock ms since 1970.  Ids of users and rooms: [A-Za-z0-9_-]{1,64}.
 *  - A `user` that asks (not .p NULL) gets only what it may read at that moment: rooms that
 *    are public or that it is a member of, its own direct conversations.  Else -EACCES.
 *    .p NULL is the server itself.
 *
 * Errors, of the call or the answer: -EINVAL a bad request; -ENOENT nothing of that name;
 * -EEXIST taken; -ERANGE more than there is; -EACCES refused, see .why; -EDQUOT a limit, see
 * .why; -EAGAIN too much is queued and -EBUSY the commit took longer than the provider's
 * commit_timeout (both: say STORE_BUSY; after -EBUSY with .in_doubt the write may still happen,
 * a repeat with the same clientId finds out; it has happened or never will once a later write is
 * answered); -ENOSPC the disk is full, nothing is written until there is space (STORE_FULL);
 * -EIO the store has failed and is checking itself; -ETIMEDOUT a read took too long; -ENOMEM;
 * -ESHUTDOWN.
 *
 * Order.  A conversation is a log.  Whatever a subscriber must see in order is a row of it
 * with its own seq, 1, 2, 3 ... without holes, given inside the commit: messages, edits,
 * deletions, reactions, pins and room events alike.  An edit, deletion or reaction is a row
 * (the event, for those who were there and for replay) and also changes the message that it
 * names (for those who read the history later).  What a deletion takes away is taken from the
 * message and from its earlier edits, which stay as rows with the flag
 * ::CHATD_STORE_ERASED and an empty body; so do messages that expire.  The sweep removes rows
 * only at the old end of a conversation, so what is there is whole from .first to .seq.
 *
 * The epoch is one for the whole store.  It changes when a backup is put in its place.  A
 * room that was deleted and made again goes on counting where it stopped.
 *
 * .body is the JSON as rendered by the caller, without seq, which it does not know; the store
 * does not look into it.  .text is what search shall find, .p NULL: nothing.
 */
#ifndef CHATD_STORE_H
#define CHATD_STORE_H

#include <chatd/accounts.h>
#include <chatd/plugin.h>
#include <chatd/rooms.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_STORE "chatd.store/1"

/** .room set: a room's; else of two users, whichever way round (one may be both). */
struct chatd_store_conv {
	struct chatd_str room, a, b;
};

/** Rows of a conversation. */
enum {
	CHATD_STORE_MESSAGE = 1,
	CHATD_STORE_EDIT = 2,
	CHATD_STORE_DELETE = 3,
	CHATD_STORE_REACTION = 4,
	CHATD_STORE_EVENT = 5, /**< of a room: joined, renamed, pinned ... */
};
/** Flags of rows.  The first two are the caller's to give, the others the store's. */
enum {
	CHATD_STORE_GUEST = 1 << 0, /**< the sender is anonymous: kept only for anonymous_retention */
	CHATD_STORE_ENCRYPTED = 1 << 1,
	CHATD_STORE_EDITED = 1 << 2,
	CHATD_STORE_DELETED = 1 << 3,
	CHATD_STORE_ERASED = 1 << 4, /**< the body is gone (expired, or edited and then deleted) */
	CHATD_STORE_PINNED = 1 << 5,
	CHATD_STORE_REACTED = 1 << 6,
	/** Its body cannot be decrypted (chatd/cipher.h) and is empty: say DECRYPT_FAILED. */
	CHATD_STORE_UNREADABLE = 1 << 7,
};
/** Why a call was refused: with -EACCES, -EDQUOT, -EEXIST and -ENOENT. */
enum {
	CHATD_STORE_WHY_NONE = 0,
	CHATD_STORE_NOT_MEMBER = 1,
	CHATD_STORE_BANNED = 2,      /**< .until; INT64_MAX: for ever */
	CHATD_STORE_MUTED = 3,       /**< .until */
	CHATD_STORE_SLOW = 4,        /**< .until: the next message may come then */
	CHATD_STORE_READ_ONLY = 5,   /**< only moderators may speak */
	CHATD_STORE_NOT_INVITED = 6, /**< a private room */
	CHATD_STORE_ROOM_FULL = 7,
	CHATD_STORE_TOO_MANY = 8,   /**< rooms of this user, reactions of this message ... */
	CHATD_STORE_MISMATCH = 9,   /**< -EEXIST: that clientId was another message's */
	CHATD_STORE_NO_ROOM = 10,   /**< -ENOENT */
	CHATD_STORE_LAST = 11,      /**< -EACCES: the only owner cannot become less than that */
	CHATD_STORE_NO_RIGHT = 12,  /**< the actor's role does not allow it */
	CHATD_STORE_NO_PLACE = 13,  /**< -EDQUOT: the server has as many rooms as it may have */
	CHATD_STORE_NO_THREAD = 14, /**< -ENOENT: .thread is no message of the conversation */
	CHATD_STORE_ID_TAKEN = 15,  /**< -EEXIST, of accounts: id or secret */
	CHATD_STORE_EMAIL_TAKEN = 16,
	CHATD_STORE_NICK_TAKEN = 17,
	CHATD_STORE_REUSED = 18,  /**< -EACCES: a refresh token that was spent; the login has ended */
	CHATD_STORE_NO_FILE = 19, /**< -ENOENT: one of .files is none that the sender may pass on */
	CHATD_STORE_TODAY = 20,   /**< -EDQUOT: so much was stored today; .until: the next day */
	CHATD_STORE_FILES = 21,   /**< -EDQUOT: the owner has as many files as one may have */
};

/* ---- accounts -------------------------------------------------------------- */

/* E-mail addresses, and nicknames of registered accounts, are unique (A-Z like a-z).  An
 * account is registered when its flags lack CHATD_ID_ANONYMOUS and it has a password or an
 * e-mail address. */
enum {
	CHATD_STORE_BY_ID = 1,
	CHATD_STORE_BY_SECRET = 2,
	CHATD_STORE_BY_CLIENT = 3, /**< the most recent one */
	CHATD_STORE_BY_EMAIL = 4,
	CHATD_STORE_BY_NICKNAME = 5, /**< registered ones */
	CHATD_STORE_BY_ROLE = 6,     /**< the oldest one whose roles have this word */
};
struct chatd_store_account_key {
	uint32_t struct_size;
	int32_t by;
	struct chatd_str key;
};
enum { /* what account_update() changes */
	CHATD_STORE_ACCOUNT_NICKNAME = 1 << 0,
	CHATD_STORE_ACCOUNT_EMAIL = 1 << 1,
	CHATD_STORE_ACCOUNT_PASSWORD = 1 << 2,
	CHATD_STORE_ACCOUNT_ROLES = 1 << 3,
	CHATD_STORE_ACCOUNT_AVATAR = 1 << 4,
	CHATD_STORE_ACCOUNT_BANNED = 1 << 5,
	CHATD_STORE_ACCOUNT_BITS = 1 << 6,
	/** A guest becomes a registered account: CHATD_ID_ANONYMOUS goes from the flags, the
	 *  secret stops finding it, its memberships are no guest's any more, and its messages
	 *  lose CHATD_STORE_GUEST and live as long as the room says.  -ESTALE: it is no guest
	 *  (any more). */
	CHATD_STORE_ACCOUNT_REGISTER = 1 << 7,
};
struct chatd_store_account_update {
	uint32_t struct_size;
	uint32_t set;                                                  /**< CHATD_STORE_ACCOUNT_* */
	struct chatd_str id, nickname, email, password, roles, avatar; /**< .p NULL: none */
	int64_t banned_until;
	uint32_t bits_on, bits_off;
	/** In the same commit, logins of the account end: 0 none, 1 all, 2 all but .keep. */
	int32_t end_logins;
	struct chatd_str keep;
	/** PASSWORD: refused with -ESTALE unless the hash is still this one; .p NULL: not asked. */
	struct chatd_str was;
	/** ROLES: a word that some account must keep: taking it from the only one that has it is
	 *  refused with -EACCES, CHATD_STORE_LAST; .p NULL: not asked. */
	struct chatd_str needed;
};
/** The account, its logins, secrets, cursors, invitations and memberships are gone, and so is
 *  what its messages said; they stay as rows with CHATD_STORE_ERASED.  Of very many messages
 *  the newest are erased at once and the others within seconds, also over a restart. */
struct chatd_store_account_delete {
	uint32_t struct_size;
	struct chatd_str id;
	int64_t wall;
	struct chatd_str needed; /**< as in account_update */
};
/** Messages that a user sent and that have a body, newest first; before: .pos of the last one
 *  seen, or 0. */
struct chatd_store_sent {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str user;
	int64_t before;
};

/** One device of a user, logged in: a family of refresh tokens, of which the newest is good. */
struct chatd_store_login {
	uint32_t struct_size;
	struct chatd_str id;      /**< [A-Za-z0-9_-]{1,64}, random, the caller's choice */
	struct chatd_str user;    /**< must exist: else -ENOENT */
	struct chatd_str device;  /**< for people to read */
	struct chatd_str refresh; /**< SHA-256 (hex, 64) of the refresh token that is good */
	int64_t created, used;    /**< used: when it was made or rotated last */
	int64_t idle_ms;          /**< it ends when it is not rotated for so long; 0: however long */
	int64_t expires;          /**< and at this time in any case; 0: never */
	int32_t max;              /**< of one user: beyond it the one not used longest ends; 0: any */
};
struct chatd_store_login_key {
	uint32_t struct_size;
	struct chatd_str id;
	int64_t wall; /**< one that is over at this time is not there */
};
struct chatd_store_login_list {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str user;
	int64_t wall;
};
/** The token that is good, and it alone, is exchanged for another.  The one before it is
 *  forgiven for grace_ms after it was exchanged, as long as its successor was not presented
 *  (the answer may have been lost): .repeated 1, and the successor is replaced.  Any other
 *  ends the login: -EACCES, CHATD_STORE_REUSED, .logins[0] is the one that ended.  -ENOENT: no
 *  such login (any more). */
struct chatd_store_login_rotate {
	uint32_t struct_size;
	struct chatd_str id, refresh, next; /**< hashes as in chatd_store_login */
	int64_t wall, grace_ms;
};
/** .id .p NULL: all logins of the user but .keep; else that one, if it is the user's. */
struct chatd_store_login_end {
	uint32_t struct_size;
	struct chatd_str user, id, keep;
};

/** Something that can be presented once: a mailed code, an invitation ... */
struct chatd_store_secret {
	uint32_t struct_size;
	int32_t kind;          /**< the caller's numbering, 1 and up */
	struct chatd_str hash; /**< SHA-256 (hex, 64) of what is presented */
	struct chatd_str user; /**< whose; putting one replaces those of the same kind and user;
	                            .p NULL: nobody's, and replaces none */
	struct chatd_str data; /**< the caller's, up to 4 KiB */
	int64_t expires, wall; /**< take: wall alone counts, what expired before it is not there */
};
struct chatd_store_account_name {
	uint32_t struct_size;
	struct chatd_str id, nickname;
};
/** Accounts whose id or nickname begins with prefix (A-Z like a-z), by nickname. */
struct chatd_store_account_search {
	uint32_t struct_size;
	struct chatd_str prefix;
	int32_t limit;  /**< 1 to 100 */
	int32_t people; /**< 1: no guests, and nobody who is CHATD_ACCOUNT_HIDDEN */
};

/* ---- rooms ------------------------------------------------------------------ */

enum { /* flags of a room */
	CHATD_STORE_ROOM_PUBLIC = 1 << 0,
	CHATD_STORE_ROOM_READ_ONLY = 1 << 1,
	CHATD_STORE_ROOM_PRESET = 1 << 2, /**< stays when the last member leaves */
};
enum { /* what room_update() changes */
	CHATD_STORE_SET_NAME = 1 << 0,
	CHATD_STORE_SET_ABOUT = 1 << 1,
	CHATD_STORE_SET_FLAGS = 1 << 2,
	CHATD_STORE_SET_SLOW = 1 << 3,
	CHATD_STORE_SET_MAX = 1 << 4,
	CHATD_STORE_SET_RETENTION = 1 << 5,
};
struct chatd_store_room {
	uint32_t struct_size;
	uint32_t flags;
	struct chatd_str id, name, about;
	int64_t slow_ms, max_members, retention_ms; /**< 0: none */
	int64_t created;
	/** In room_create(): who becomes its owner (.p NULL: nobody), and how many rooms that user
	 *  may be in (0: any number).  In room_update() and room_delete() of a user: it must be an
	 *  owner, to update also a moderator. */
	struct chatd_str user, nick;
	int64_t max_rooms;
	uint32_t set; /**< room_update(): CHATD_STORE_SET_* */
	/* In answers only: */
	int32_t role;             /**< CHATD_ROLE_* of the user that asks */
	int64_t members, version; /**< version: grows with each change of room or membership */
	int64_t muted_until;      /**< of the user that asks */
	int64_t banned_until;     /**< likewise; to know of a ban, room_get() does not refuse it */
	int32_t invited;          /**< likewise */
	/** In room_create(): how many rooms there may be on the server (0: any number). */
	int64_t max_total;
};
struct chatd_store_room_key {
	uint32_t struct_size;
	struct chatd_str room, user;
};
/* PUBLIC and MINE may be or-ed; INVITED: private ones that the user may join. */
enum { CHATD_STORE_PUBLIC = 1, CHATD_STORE_MINE = 2, CHATD_STORE_INVITED_TO = 4 };
struct chatd_store_room_list {
	uint32_t struct_size;
	int32_t scope;
	struct chatd_str user;  /**< with MINE and INVITED_TO: whose */
	struct chatd_str after; /**< the id of the last one seen; .p NULL: from the first */
	int32_t limit;          /**< 1 to 1000 */
};
enum {
	CHATD_STORE_MEMBERS = 0,
	CHATD_STORE_BANS = 1,
	CHATD_STORE_INVITED = 2,
	CHATD_STORE_GUESTS = 3, /**< who is a guest and a member of any room: .room .p NULL */
};
struct chatd_store_members {
	uint32_t struct_size;
	int32_t which;
	struct chatd_str room, user;
	struct chatd_str after; /**< the user id of the last one seen */
	int32_t limit;          /**< 1 to 10000 */
};
struct chatd_store_member {
	uint32_t struct_size;
	int32_t role, guest;
	struct chatd_str user, nick;
	int64_t joined, muted_until, banned_until;
};

struct chatd_store_append;
enum {
	CHATD_STORE_JOIN = 1,   /**< public room or invited; not banned; room and user have room */
	CHATD_STORE_LEAVE = 2,  /**< the last owner is followed by the one who is there longest,
	                             moderators first, guests never; an empty room that is no preset
	                             is deleted: .n is 1 then */
	CHATD_STORE_INVITE = 3, /**< may join although it is private; actor: any member */
	CHATD_STORE_ROLE = 4,   /**< .role, of a guest only MEMBER (-EINVAL); actor: an owner */
	CHATD_STORE_KICK = 5,   /**< actor: a moderator, over someone of a lower role */
	CHATD_STORE_BAN = 6,    /**< kick, and no way back before .until; likewise.  The event is
	                             written only if there was a membership to end */
	CHATD_STORE_UNBAN = 7,
	CHATD_STORE_MUTE = 8, /**< may not speak before .until (0: may again); likewise */
	CHATD_STORE_ADD = 9,  /**< joins without asking the room's rules; actor: a moderator */
};
struct chatd_store_member_change {
	uint32_t struct_size;
	int32_t what;
	struct chatd_str room, user, nick;
	struct chatd_str actor; /**< whose right is checked; .p NULL: nobody's */
	int32_t role, guest;
	int64_t until, wall;
	int64_t max_rooms; /**< JOIN, ADD: rooms the user may be in; 0: any number */
	/** A row for the room's conversation in the same commit, if the change takes place; may be
	 *  NULL.  Its rights are not checked. */
	const struct chatd_store_append *event;
};

/* ---- conversations ----------------------------------------------------------- */

/** Something to be handed to other nodes, written with the message. */
struct chatd_store_out {
	struct chatd_str route, headers;
	struct chatd_str body; /**< .p NULL: the message's */
};

struct chatd_store_append {
	uint32_t struct_size;
	int32_t kind; /**< MESSAGE or EVENT; 0 is MESSAGE */
	struct chatd_store_conv conv;
	struct chatd_str id; /**< UUID text, the caller's choice; -EEXIST when taken */
	struct chatd_str sender, nick;
	struct chatd_str client_id; /**< .p NULL: none, no de-duplication */
	/** What tells this message from another with the same clientId: 1 to 32 bytes of a hash
	 *  that comes out the same after a restart. */
	struct chatd_str hash;
	struct chatd_str body, text;
	/** Ids; .p NULL: none.  With .check, the thread's first message must be in the conversation. */
	struct chatd_str reply_to, thread;
	const struct chatd_str *mentions; /**< users */
	size_t n_mentions;                /**< at most 100 */
	const struct chatd_store_out *out;
	size_t n_out;
	int64_t wall; /**< the answer's .wall is this, or later: time never goes back in a conv. */
	/** 0: when the room's retention or the sender's being a guest says; of a guest never later. */
	int64_t expires;
	uint32_t flags; /**< CHATD_STORE_GUEST, _ENCRYPTED */
	/** 1: a room's rules are applied inside the commit: member, ban, mute, slow mode,
	 *  read-only.  0: the room need not even exist. */
	int32_t check;
	/** Ids of files that come with the message, one space between them, at most 32; .p NULL: none.
	 *  The sender must be able to read each of them.  Whoever may read the message may read them,
	 *  and as long as it is there they are. */
	struct chatd_str files;
};

struct chatd_store_change {
	uint32_t struct_size;
	int32_t kind;            /**< EDIT, DELETE or REACTION */
	struct chatd_str target; /**< id of the message */
	struct chatd_str id;     /**< of the new row */
	/** Who does it: the sender alone may edit; the sender and a room's moderators may delete;
	 *  who may speak there may react.  .p NULL: not checked. */
	struct chatd_str actor;
	struct chatd_str client_id, hash;    /**< as in append */
	struct chatd_str body;               /**< of the new row */
	struct chatd_str new_body, new_text; /**< EDIT, DELETE: the message from now on */
	struct chatd_str emoji;              /**< REACTION */
	int32_t remove;                      /**< REACTION: 1 takes it back */
	const struct chatd_store_out *out;
	size_t n_out;
	int64_t wall;
};

/** One row.  Borrowed like all of an answer. */
struct chatd_store_message {
	uint32_t struct_size;
	int32_t kind;
	struct chatd_store_conv conv;
	int64_t seq, wall, expires;
	int64_t pos; /**< place among all rows of the store; only compare it */
	struct chatd_str id, sender, client_id, target, reply_to, thread, body;
	struct chatd_str reactions; /**< JSON: {"emoji":["user",...],...}; .p NULL: none */
	uint32_t flags;
};

/** Messages (kind MESSAGE, and EVENT if wanted) that have a body, newest page first: those
 *  before a seq (0: the end), or those after a seq; ascending in the answer either way. */
struct chatd_store_page {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_store_conv conv;
	struct chatd_str user;
	struct chatd_str thread; /**< .p NULL: all; else that message and what belongs to it */
	int64_t before, after;   /**< give one; after: -1 when not meant */
	int32_t events;          /**< 1: room events too */
};
struct chatd_store_message_key {
	uint32_t struct_size;
	struct chatd_str id, user;
};
struct chatd_store_conv_key {
	uint32_t struct_size;
	struct chatd_store_conv conv;
	struct chatd_str user;
};
/** Every row after since, in order, or none: .whole 0 and .first, .seq, .epoch when the
 *  epoch is another, rows are gone, or there are more than max. */
struct chatd_store_replay {
	uint32_t struct_size;
	int32_t max; /**< 1 to 10000 */
	struct chatd_store_conv conv;
	struct chatd_str user, epoch; /**< epoch .p NULL: not compared */
	int64_t since;                /**< -1: it is said by .after_pos instead */
	int64_t after_pos;            /**< rows whose .pos is above it */
};
/** The same over all direct conversations of a user; since and .pos are row places, .pos that of
 *  the newest row: a since above it is of the future, and not whole. */
struct chatd_store_inbox {
	uint32_t struct_size;
	int32_t max;
	struct chatd_str user, epoch;
	int64_t since;
};

enum { CHATD_STORE_READ = 1, CHATD_STORE_DELIVERED = 2 };
/** Moves forward only; beyond the top: -ERANGE.  Each device of the user, which is a login, has
 *  its own; a device that is no login of the user's counts as none.  When a login ends, what it
 *  has read stays read.  .seq of the answer is the user's furthest now, .n is 1 if that moved. */
struct chatd_store_cursor {
	uint32_t struct_size;
	int32_t kind;
	struct chatd_store_conv conv;
	struct chatd_str user, device; /**< device may be empty */
	int64_t seq;
};
/** The furthest cursor of each user in a conversation (or of one: .of). */
struct chatd_store_cursor_list {
	uint32_t struct_size;
	int32_t kind, limit; /**< kind 0: of both kinds; limit: 1 to 10000 */
	struct chatd_store_conv conv;
	struct chatd_str user, of;
};

/** Conversations of a user, the one with the newest message first. */
struct chatd_store_conversations {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str user;
	int64_t before; /**< .pos of the last one seen; 0: from the newest */
};
struct chatd_store_conversation {
	uint32_t struct_size;
	int32_t role; /**< rooms: CHATD_ROLE_* */
	struct chatd_store_conv conv;
	struct chatd_str name; /**< of the room */
	int64_t first, seq, read;
	int64_t unread; /**< messages of others after what was read; 1000 means 1000 or more */
	int64_t pos;
	struct chatd_store_message last; /**< the newest message with a body; .kind 0: none */
};

/** Messages that mention a user, newest first; before: .pos of the last one seen, or 0. */
struct chatd_store_mentions {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str user;
	int64_t before;
};
struct chatd_store_pin {
	uint32_t struct_size;
	int32_t remove;
	struct chatd_str id;    /**< of the message */
	struct chatd_str actor; /**< rooms: a moderator; direct: one of the two; .p NULL: unchecked */
	int64_t wall;
	const struct chatd_store_append *event; /**< as in member_change */
};
/** Words, all of which must occur; the last one, from three bytes on, may be a beginning.
 *  Newest first. */
struct chatd_store_search {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 200 */
	struct chatd_str user, query;
	struct chatd_store_conv conv; /**< all .p NULL: everywhere */
	int64_t before;               /**< .pos of the last one seen, or 0 */
};

/* ---- files ----------------------------------------------------------------------- */

/* Bytes lie elsewhere, as objects that whoever puts them there names; here is what they are, whose,
 * and which messages they came with.  Files with the same content share the object that was there
 * first.  A file that comes with no message (any more) goes by the sweep, once .expires is over; and
 * with the last file of an object the object's name goes to a list, from where whoever keeps the
 * bytes takes it.  A name is never used twice: what is not known here is nobody's. */
enum { /* of an object, as who looks into it has said */
	CHATD_STORE_FILE_GOOD = 0,
	CHATD_STORE_FILE_WAITS = 1, /**< nobody has looked yet: its owner alone may read it */
	CHATD_STORE_FILE_BAD = 2,   /**< nobody gets it */
};
struct chatd_store_file {
	uint32_t struct_size;
	int32_t state;           /**< CHATD_STORE_FILE_* */
	struct chatd_str id;     /**< [A-Za-z0-9_-]{1,64}, random, the caller's choice */
	struct chatd_str owner;  /**< a user */
	struct chatd_str name;   /**< as people see it, up to 255 bytes */
	struct chatd_str hash;   /**< SHA-256 of the content (hex, 64) */
	struct chatd_str object; /**< up to 128 bytes of [A-Za-z0-9._/-] */
	struct chatd_str type;   /**< "image/png", up to 128 bytes */
	struct chatd_str info;   /**< the caller's, up to 1 KiB */
	int64_t size, wall, expires;
	/** In file_put(): what the owner may have stored in all and by this day (UTC); 0: any. */
	int64_t max_bytes, max_day;
	/** In answers: of how many messages it is a part.  In file_put(): how many files the owner may
	 *  have, 0: any; above it .why is CHATD_STORE_FILES.  (Answers hold arrays of these: it cannot
	 *  grow.) */
	int64_t uses;
};
struct chatd_store_file_key {
	uint32_t struct_size;
	struct chatd_str id;
	/** file_get(): who asks: its owner, or who may read now what it came with, else -ENOENT.
	 *  file_drop(): its owner, else -ENOENT.  .p NULL: the server.  file_space(): whose. */
	struct chatd_str user;
};
/** What an object was found to be. */
struct chatd_store_file_mark {
	uint32_t struct_size;
	int32_t state;
	struct chatd_str object;
	struct chatd_str info; /**< .p NULL: as it was */
};
enum { CHATD_STORE_OBJECTS = 0, CHATD_STORE_OBJECTS_GONE = 1, CHATD_STORE_OBJECTS_WAIT = 2 };
/** Objects by their names, after one; GONE: those whose bytes nobody needs any more; WAIT: those
 *  nobody has looked into. */
struct chatd_store_objects {
	uint32_t struct_size;
	int32_t which, limit; /**< limit: 1 to 10000 */
	struct chatd_str after;
};
/** Its bytes are gone: it leaves the list. */
struct chatd_store_object {
	uint32_t struct_size;
	struct chatd_str object;
};
/** The same content lies as another object now: the old name goes to the list of those GONE. */
struct chatd_store_object_move {
	uint32_t struct_size;
	struct chatd_str object, to;
};

/* ---- the outbox ---------------------------------------------------------------- */

/** Rows that nobody holds, in order; they are held for .owner until wall + lease_ms. */
struct chatd_store_outbox_fetch {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str owner;
	int64_t wall, lease_ms;
};
/** They were handed over and are deleted; release 1: they were not, anyone may have them. */
struct chatd_store_outbox_done {
	uint32_t struct_size;
	int32_t release;
	const int64_t *rows;
	size_t n;
};
struct chatd_store_out_row {
	uint32_t struct_size;
	int64_t row;
	struct chatd_str route, headers, body;
	struct chatd_store_message message; /**< .kind 0: it is gone */
};

/* ---- nodes of a cluster ------------------------------------------------------------ */

/* Places (.pos) grow in the order of the commits, over all nodes that share a store: who has seen
 * one has seen, or can read, all that are below it. */

/** This process begins to work as that node: .n is its boot epoch, higher than any it had. */
struct chatd_store_node {
	uint32_t struct_size;
	struct chatd_str node; /**< [A-Za-z0-9_.-]{1,64} */
	struct chatd_str who;  /**< host, pid and the like, for people to read; up to 256 bytes */
	int64_t wall;
};
/** Conversations with rows above a place, by the place of their newest row. */
struct chatd_store_changed {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 10000 */
	int64_t after_pos;
};
struct chatd_store_changed_conv {
	uint32_t struct_size;
	struct chatd_store_conv conv;
	int64_t seq, pos; /**< of its newest row */
};
/** Users whose account or whose logins were changed or ended, each with the place of the last such
 *  change, by it: so that a node that heard of none of it finds out.  .changed: .conv.a is the
 *  user, .pos the place, .seq when (wall-clock ms) all logins of that user ended last, but for one
 *  that was kept; 0: never. */
struct chatd_store_touched {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 10000 */
	int64_t after_pos;
};
/** How far what a node has written was handed to the other nodes: only forward. */
struct chatd_store_handed {
	uint32_t struct_size;
	struct chatd_str node;
	int64_t pos;
};
/** Rows of every kind that were written through a node, above a place, in order.  pos -1: above
 *  the place that was noted last. */
struct chatd_store_written {
	uint32_t struct_size;
	int32_t limit;         /**< 1 to 1000 */
	struct chatd_str node; /**< .p NULL: any node; then .after_pos is 0 or more */
	int64_t after_pos;
};

/* ---- upkeep ----------------------------------------------------------------------- */

/** Removes what is over at .wall.  The provider does so by itself every minute. */
struct chatd_store_sweep {
	uint32_t struct_size;
	int64_t wall;
};
/** A whole copy, made while the store is in use.  -EEXIST: there is such a file already.
 *  -ENOTSUP: the database behind the provider has tools of its own for it.
 *  A store that is opened on it has a new epoch. */
struct chatd_store_backup {
	uint32_t struct_size;
	struct chatd_str path;
};

/* ---- answers ------------------------------------------------------------------------ */

struct chatd_store_cursor_row {
	uint32_t struct_size;
	int32_t kind;
	struct chatd_str user;
	int64_t seq;
};

/* ---- records ---------------------------------------------------------------------- */

/* What a plugin keeps that is no chat: a document of its own, found by (space, key).  A space
 * belongs to one plugin, whose name it begins with ("push.sub"); no other writes there. */
enum { /* .how of record_put() */
	CHATD_STORE_RECORD_ANY = 0,
	CHATD_STORE_RECORD_NEW = 1,     /**< -EEXIST when it is there */
	CHATD_STORE_RECORD_VERSION = 2, /**< only while .version is that: else -ESTALE; -ENOENT */
};
struct chatd_store_record {
	uint32_t struct_size;
	int32_t how;
	struct chatd_str space; /**< [a-z0-9.-]{1,32} */
	struct chatd_str key;   /**< 1 to 256 printable ASCII characters, no blank; compared bytewise */
	struct chatd_str value; /**< any bytes, at most 64 KiB */
	/** .p NULL: nobody's.  A user id, which need not be that of an account: a record goes with its
	 *  owner's account, if there is one; can be listed by it. */
	struct chatd_str owner;
	int64_t at;      /**< when it is due, for record_claim(); 0: never */
	int64_t expires; /**< 0: never.  From then on no call finds it */
	int64_t version; /**< 1, and one more with every put and claim */
	/** record_put: -EDQUOT when the owner would have more of them in the space; 0: any number */
	int64_t max;
	int64_t wall; /**< now; given back: when it was put */
};
struct chatd_store_record_key { /* record_get, record_take, record_end */
	uint32_t struct_size;
	int32_t prefix; /**< 1: all whose keys begin with .key, which may be empty */
	struct chatd_str space, key;
	struct chatd_str owner; /**< .p NULL: whoever's */
	int64_t wall;
};
struct chatd_store_record_list {
	uint32_t struct_size;
	int32_t limit;                  /**< 1 to 1000 */
	struct chatd_str space, prefix; /**< empty: all of the space */
	struct chatd_str after;         /**< the last key of the page before; .p NULL: the first page */
	struct chatd_str owner;         /**< .p NULL: whoever's */
	int32_t down;                   /**< 1: from the highest key down */
	int32_t reserved;
	int64_t wall;
};
/** Work that several nodes share: those that are due, the earliest first, are given to one and
 *  are due again at .until, unless it ends them or puts them anew before. */
struct chatd_store_record_claim {
	uint32_t struct_size;
	int32_t limit; /**< 1 to 1000 */
	struct chatd_str space;
	int64_t wall;
	int64_t until; /**< after .wall */
};

/** What a call does not mention is 0. */
struct chatd_store_answer {
	uint32_t struct_size;
	int32_t why;      /**< CHATD_STORE_WHY_*, when rc < 0 */
	int32_t repeated; /**< append, change: it was there; .id, .seq are the first one's */
	int32_t whole;    /**< replays */
	int64_t seq;      /**< of the row written; of reads: the top */
	int64_t first;    /**< the oldest row that is there; .seq + 1: none */
	int64_t pos, wall, until, n, version;
	struct chatd_str id, epoch;
	struct chatd_str successor; /**< LEAVE, KICK, BAN: who became owner; .p NULL: nobody */
	struct chatd_store_conv conv;
	const struct chatd_account *accounts;
	size_t n_accounts;
	const struct chatd_store_room *rooms;
	size_t n_rooms;
	const struct chatd_store_member *members;
	size_t n_members;
	const struct chatd_store_message *messages;
	size_t n_messages;
	const struct chatd_store_conversation *conversations;
	size_t n_conversations;
	const struct chatd_store_cursor_row *cursors;
	size_t n_cursors;
	const struct chatd_store_out_row *outbox;
	size_t n_outbox;
	const struct chatd_store_login *logins;
	size_t n_logins;
	const struct chatd_store_secret *secrets;
	size_t n_secrets;
	int32_t in_doubt; /**< with -EBUSY: its commit was under way; 0: it will not happen */
	/** Of a row written to a direct conversation: the place of the newest row before it in any
	 *  direct conversation of .conv.a, and of .conv.b; 0: none.  -1: the provider is for one
	 *  node and does not say. */
	int64_t before_a, before_b;
	const struct chatd_store_changed_conv *changed;
	size_t n_changed;
	const struct chatd_store_file *files;
	size_t n_files;
	int64_t today; /**< file_space: bytes stored by this day */
	const struct chatd_store_record *records;
	size_t n_records;
	int64_t owned; /**< file_space: how many files they are */
};

/** [worker] @p a is never NULL. */
typedef void chatd_store_fn(void *arg, chatd_status rc, const struct chatd_store_answer *a);

/** X(call, request, writes), in the order of struct chatd_store.  What the answers hold:
 *  account_create        nothing; -EEXIST: id or secret taken
 *  account_get, _rename  .accounts[0]; -ENOENT
 *  account_search        .accounts
 *  room_create           .rooms[0]; -EEXIST
 *  room_update, _get     .rooms[0] with the role of .user; -ENOENT, also for a private room
 *                        that .user is neither member of nor invited to
 *  room_delete           nothing; its members, messages, pins and cursors are gone
 *  room_list             .rooms, by id
 *  members               .members by user id, .version, .n: how many there are
 *  member_change         .members[0], .version, .n, .until, .successor; of the event: .seq, .id,
 *                        .pos, .wall, .epoch; nothing changed: .repeated 1 and no event
 *  append, change        .id, .seq, .pos, .wall, .epoch, .conv, .repeated; change also
 *                        .messages[0]: the message as it is now; a reaction that was there (or
 *                        not there) already: .repeated 1, no row
 *  page                  .messages, .first, .seq, .epoch
 *  message               .messages[0]; -ENOENT, -EACCES
 *  top                   .first, .seq, .epoch, .n: unread of .user
 *  replay, replay_inbox  .messages, .whole, .first, .seq or .pos, .epoch
 *  cursor_set, cursors   .seq, .n; .cursors
 *  record_get, record_take also -EBADMSG: its value cannot be decrypted; in lists and claims it is
 *                        left out, or, if it is all there is, the answer is -EBADMSG
 *  conversations, mentions, search    .conversations; .messages; search also -ENOTSUP: what is
 *                        stored is encrypted, and no words of it are kept
 *  pin, pins             .n: 1 if it changed, and the event's as above; .messages
 *  outbox_fetch, _done   .outbox; .n: how many
 *  sweep                 .n: rows erased or removed
 *  backup                .n: bytes
 *  account_update        .accounts[0] as it is now, .n: logins that ended; -ENOENT, -EEXIST
 *  account_delete        .n: rows erased; -ENOENT
 *  sent                  .messages
 *  login_create          .logins[0], .n: logins that ended because of .max
 *  login_get             .logins[0] and .accounts[0]; -ENOENT
 *  login_list            .logins, the one used last first
 *  login_rotate          .logins[0] and .accounts[0]
 *  login_end             .n
 *  secret_put            nothing
 *  secret_take           .secrets[0], and .accounts[0] if its user is an account; -ENOENT
 *  node_start            .n: the boot epoch
 *  changed               .changed, .pos: of the newest row of all, .epoch
 *  handed                .pos: where it stands now
 *  written               .messages, .pos: the place noted last
 *  file_put              .files[0] with the object that counts; .repeated 1: it was there before,
 *                        and the one that was named is nobody's
 *  file_get              .files[0]; -ENOENT
 *  file_drop             nothing; -ENOENT.  It is part of no message any more
 *  file_space            .n: bytes that .user has stored, .owned, .today
 *  file_mark             .n: how many files it concerns; -ENOENT
 *  objects               .files, only .object, .size, .type, .state, .wall
 *  object_end            nothing
 *  object_move           nothing; -ENOENT: no file has it (any more); -EEXIST: .to is another's
 *  touched               .changed, .pos: the highest place there is
 *  record_put            .records[0] without its value, .version
 *  record_get            .records[0], its version in it; -ENOENT.  By prefix: the first by key
 *  record_take           the same, and it is gone: no two get the same one
 *  record_list           .records, by key; at most 4 MiB of them: none, not few, is the end
 *  record_claim          .records as they are now; as many as record_list
 *  record_end            .n: how many went */
#define CHATD_STORE_MAP(X)                                  \
	X(account_create, struct chatd_account, 1)              \
	X(account_get, struct chatd_store_account_key, 0)       \
	X(account_rename, struct chatd_store_account_name, 1)   \
	X(account_search, struct chatd_store_account_search, 0) \
	X(room_create, struct chatd_store_room, 1)              \
	X(room_update, struct chatd_store_room, 1)              \
	X(room_delete, struct chatd_store_room_key, 1)          \
	X(room_get, struct chatd_store_room_key, 0)             \
	X(room_list, struct chatd_store_room_list, 0)           \
	X(members, struct chatd_store_members, 0)               \
	X(member_change, struct chatd_store_member_change, 1)   \
	X(append, struct chatd_store_append, 1)                 \
	X(change, struct chatd_store_change, 1)                 \
	X(page, struct chatd_store_page, 0)                     \
	X(message, struct chatd_store_message_key, 0)           \
	X(top, struct chatd_store_conv_key, 0)                  \
	X(replay, struct chatd_store_replay, 0)                 \
	X(replay_inbox, struct chatd_store_inbox, 0)            \
	X(cursor_set, struct chatd_store_cursor, 1)             \
	X(cursors, struct chatd_store_cursor_list, 0)           \
	X(conversations, struct chatd_store_conversations, 0)   \
	X(mentions, struct chatd_store_mentions, 0)             \
	X(pin, struct chatd_store_pin, 1)                       \
	X(pins, struct chatd_store_conv_key, 0)                 \
	X(search, struct chatd_store_search, 0)                 \
	X(outbox_fetch, struct chatd_store_outbox_fetch, 1)     \
	X(outbox_done, struct chatd_store_outbox_done, 1)       \
	X(sweep, struct chatd_store_sweep, 1)                   \
	X(backup, struct chatd_store_backup, 1)                 \
	X(account_update, struct chatd_store_account_update, 1) \
	X(account_delete, struct chatd_store_account_delete, 1) \
	X(sent, struct chatd_store_sent, 0)                     \
	X(login_create, struct chatd_store_login, 1)            \
	X(login_get, struct chatd_store_login_key, 0)           \
	X(login_list, struct chatd_store_login_list, 0)         \
	X(login_rotate, struct chatd_store_login_rotate, 1)     \
	X(login_end, struct chatd_store_login_end, 1)           \
	X(secret_put, struct chatd_store_secret, 1)             \
	X(secret_take, struct chatd_store_secret, 1)            \
	X(node_start, struct chatd_store_node, 1)               \
	X(changed, struct chatd_store_changed, 0)               \
	X(handed, struct chatd_store_handed, 1)                 \
	X(written, struct chatd_store_written, 0)               \
	X(touched, struct chatd_store_touched, 0)               \
	X(file_put, struct chatd_store_file, 1)                 \
	X(file_get, struct chatd_store_file_key, 0)             \
	X(file_drop, struct chatd_store_file_key, 1)            \
	X(file_space, struct chatd_store_file_key, 0)           \
	X(file_mark, struct chatd_store_file_mark, 1)           \
	X(objects, struct chatd_store_objects, 0)               \
	X(object_end, struct chatd_store_object, 1)             \
	X(record_put, struct chatd_store_record, 1)             \
	X(record_get, struct chatd_store_record_key, 0)         \
	X(record_list, struct chatd_store_record_list, 0)       \
	X(record_claim, struct chatd_store_record_claim, 1)     \
	X(record_take, struct chatd_store_record_key, 1)        \
	X(record_end, struct chatd_store_record_key, 1)

/** What is newer than 1.0: ask with CHATD_HAS. */
#define CHATD_STORE_NEWER(X) X(object_move, struct chatd_store_object_move, 1)

enum { /* state() */
	CHATD_STORE_OK = 0,
	CHATD_STORE_FULL = 1,    /**< reads only: no space; goes away by itself */
	CHATD_STORE_FAILED = 2,  /**< reads only: an I/O error; it is checking itself */
	CHATD_STORE_STALLED = 3, /**< a commit has not come back within commit_timeout */
};

struct chatd_store {
	uint32_t struct_size;
	int32_t (*state)(void *obj); /**< [any] CHATD_STORE_OK ...: for /readyz */
#define CHATD_X(call, request, writes) \
	chatd_status (*call)(void *obj, chatd_worker *, const request *, chatd_store_fn *fn, void *arg);
	CHATD_STORE_MAP(CHATD_X)
#undef CHATD_X
	/** [any] 1: nodes of a cluster may share it; else each needs one of its own, and there can be
	 *  only one node. */
	int32_t (*is_shared)(void *obj);
#define CHATD_X(call, request, writes) \
	chatd_status (*call)(void *obj, chatd_worker *, const request *, chatd_store_fn *fn, void *arg);
	CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
	/** [any] 1: what is in it is there after a restart; 0: it goes with the process. */
	int32_t (*lasts)(void *obj);
};

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/chat.h
 * @brief Whom a message of the plugin chat is for, and what it says.
 *
 * For hooks of message_in.  The receiver has three names ("to", "receiver", "receiverId"), the
 * text two ("content", "message"), and a text comes with two destinations, or as the edit of one
 * that is there: whoever looks at one name only is gone round by another.  See hooks.md.
 *
 * Header only and no part of the contract; needs jansson, as json.h does.  [any]
 */
#ifndef CHATD_SDK_CHAT_H
#define CHATD_SDK_CHAT_H

#include <chatd-sdk/json.h>

/** The names of a target as they stand in a body; what is not there has .p NULL. */
struct chatd_chat_names {
	struct chatd_str to, receiver, receiver_id, room;
};

enum {
	CHATD_CHAT_NONE = 0, /**< no text of a user, or one that the plugin chat will refuse */
	CHATD_CHAT_USER = 1, /**< a direct message, to .user */
	CHATD_CHAT_ROOM = 2, /**< to everybody in .room */
	CHATD_CHAT_EDIT = 3, /**< a new text for the message .message_id, wherever that is */
};

/** What a SEND to the plugin chat says.  The texts are borrowed from .body. */
struct chatd_chat {
	struct chatd_str user, room, message_id; /**< one of them; the others have .p NULL */
	struct chatd_str content, client_id;     /**< .p NULL: none */
	int32_t encrypted;                       /**< 1: only the receivers can read .content */
	json_t *body;                            /**< json_decref() it; NULL: CHATD_CHAT_NONE */
};

static inline void chatd_chat_name(struct chatd_str *into, struct chatd_str other)
{
	if (!into->n) {
		*into = other.n ? other : chatd_str_of(NULL, 0);
	}
}

/** Which user or room is named; an empty name is none.  NULL, or what is wrong with the names; then
 *  *ret_user and *ret_room are what is there nonetheless.  Neither need be a valid id. */
static inline const char *chatd_chat_target(const struct chatd_chat_names *names,
		struct chatd_str *ret_user, struct chatd_str *ret_room)
{
	struct chatd_str user = chatd_str_of(NULL, 0), room = user;
	chatd_chat_name(&user, names->to);
	chatd_chat_name(&user, names->receiver);
	chatd_chat_name(&user, names->receiver_id);
	chatd_chat_name(&room, names->room);
	*ret_user = user;
	*ret_room = room;
	if ((names->to.n && !chatd_str_same(user, names->to)) ||
			(names->receiver.n && !chatd_str_same(user, names->receiver)) ||
			(names->receiver_id.n && !chatd_str_same(user, names->receiver_id))) {
		return "to, receiver and receiverId name different users";
	}
	if (!user.p && !room.p) {
		return "to (a user) or roomId is missing";
	}
	return user.p && room.p ? "to and roomId exclude each other" : NULL;
}

/** Is @p dest where texts of users come in?  CHATD_CHAT_USER: a new one, to a user or a room;
 *  CHATD_CHAT_EDIT; else CHATD_CHAT_NONE. */
static inline int32_t chatd_chat_dest(struct chatd_str dest)
{
	if (chatd_str_same(dest, CHATD_LIT("/app/chat.send")) ||
			chatd_str_same(dest, CHATD_LIT("/app/chat.sendMessage"))) {
		return CHATD_CHAT_USER;
	}
	return chatd_str_same(dest, CHATD_LIT("/app/chat.edit")) ? CHATD_CHAT_EDIT : CHATD_CHAT_NONE;
}

/** The target that @p body names, as chatd_chat_target() says. */
static inline const char *chatd_chat_target_of(
		const json_t *body, struct chatd_str *ret_user, struct chatd_str *ret_room)
{
	struct chatd_chat_names names;
	names.to = chatd_json_text(json_object_get(body, "to"));
	names.receiver = chatd_json_text(json_object_get(body, "receiver"));
	names.receiver_id = chatd_json_text(json_object_get(body, "receiverId"));
	names.room = chatd_json_text(json_object_get(body, "roomId"));
	return chatd_chat_target(&names, ret_user, ret_room);
}

/** Reads a SEND of @p body to @p dest, of call_msg() in message_in.  Returns CHATD_CHAT_...;
 *  then json_decref(ret->body), also after CHATD_CHAT_NONE. */
static inline int32_t chatd_chat_read(
		struct chatd_str dest, struct chatd_str body, struct chatd_chat *ret)
{
	char why[CHATD_JSON_WHY];
	int32_t kind = chatd_chat_dest(dest);
	memset(ret, 0, sizeof(*ret));
	ret->body = kind ? chatd_json_parse(body, why) : NULL;
	if (!ret->body) {
		return CHATD_CHAT_NONE;
	}
	ret->content = chatd_json_text(json_object_get(ret->body, "content"));
	if (!ret->content.p) {
		ret->content = chatd_json_text(json_object_get(ret->body, "message"));
	}
	ret->client_id = chatd_json_text(json_object_get(ret->body, "clientId"));
	ret->encrypted = json_is_true(json_object_get(ret->body, "encrypted"));
	if (kind == CHATD_CHAT_EDIT) {
		ret->message_id = chatd_json_text(json_object_get(ret->body, "messageId"));
		return ret->message_id.p ? kind : CHATD_CHAT_NONE;
	}
	if (chatd_chat_target_of(ret->body, &ret->user, &ret->room)) {
		return CHATD_CHAT_NONE;
	}
	return ret->user.p ? CHATD_CHAT_USER : CHATD_CHAT_ROOM;
}

#endif

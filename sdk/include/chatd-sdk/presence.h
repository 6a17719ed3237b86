/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/presence.h
 * @brief A user's presence as people and programs are told of it.
 *
 * Header only and no part of the contract; needs jansson, as json.h does.  [any]
 */
#ifndef CHATD_SDK_PRESENCE_H
#define CHATD_SDK_PRESENCE_H

#include <chatd-sdk/json.h>
#include <chatd/presence.h>

/** The word for a status; NULL: it is none that can be told. */
static inline const char *chatd_presence_name(int32_t status)
{
	switch (status) {
	case CHATD_PRESENCE_OFFLINE:
		return "offline";
	case CHATD_PRESENCE_ONLINE:
		return "online";
	case CHATD_PRESENCE_AWAY:
		return "away";
	case CHATD_PRESENCE_BUSY:
		return "busy";
	default:
		return NULL;
	}
}

/** The status of that name; CHATD_PRESENCE_UNKNOWN: there is none. */
static inline int32_t chatd_presence_of(struct chatd_str name)
{
	for (int32_t s = CHATD_PRESENCE_OFFLINE; s <= CHATD_PRESENCE_BUSY; s++) {
		const char *word = chatd_presence_name(s);
		if (chatd_str_same(name, chatd_str_of(word, strlen(word)))) {
			return s;
		}
	}
	return CHATD_PRESENCE_UNKNOWN;
}

/** The members of an object that is open: userId, online, status, since, lastSeen, text; of what
 *  is not known `"online":null,"stale":true`. */
static inline void chatd_presence_write(
		struct chatd_json *j, struct chatd_str user, const struct chatd_presence_state *s)
{
	const char *name = chatd_presence_name(s->status);
	chatd_json_member(j, "userId", user);
	if (!name) {
		chatd_json_key(j, "online");
		chatd_json_lit(j, "null");
		chatd_json_flag(j, "stale", 1);
		return;
	}
	chatd_json_flag(j, "online", s->status != CHATD_PRESENCE_OFFLINE);
	chatd_json_member(j, "status", chatd_str_of(name, strlen(name)));
	if (s->since > 0) {
		chatd_json_time(j, "since", s->since);
	}
	if (s->status == CHATD_PRESENCE_OFFLINE && s->last_seen > 0) {
		chatd_json_time(j, "lastSeen", s->last_seen);
	}
	if (s->text.n) {
		chatd_json_member(j, "text", s->text);
	}
}

#endif

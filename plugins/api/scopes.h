/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file scopes.h
 * @brief What a key may do: names, bits, and which calls need which.  Pure.
 */
#ifndef API_SCOPES_H
#define API_SCOPES_H

#include <chatd-sdk/json.h>

enum {
	SCOPE_PUBLISH = 1 << 0,
	SCOPE_BROADCAST = 1 << 1,
	SCOPE_HISTORY = 1 << 2,
	SCOPE_PRESENCE = 1 << 3,
	SCOPE_ROOMS = 1 << 4,
	SCOPE_USERS = 1 << 5,
	SCOPE_DISCONNECT = 1 << 6,
	SCOPE_KEYS = 1 << 7,
	SCOPE_AS = 1 << 8,
	SCOPE_FILES = 1 << 9,
	SCOPE_ALL = (1 << 10) - 1,
};

/** 0: there is no such scope. */
uint32_t scope_of(struct chatd_str name);
const char *scope_name(uint32_t bit);
/** NULL, and the bits; else what is wrong, a literal. */
const char *scopes_read(const json_t *list, uint32_t *ret);
void scopes_write(struct chatd_json *, const char *key, uint32_t scopes);
/** What a call of the API outside /api/server needs; 0: no key may make it. */
uint32_t scope_of_call(struct chatd_str method, struct chatd_str path);
/** Of what follows /api/chat/rooms/: it is about the webhooks of a room. */
int scope_makes_hook(struct chatd_str rest);
/** What a SEND (1) or SUBSCRIBE (0) of a bot needs; 0: nothing. */
uint32_t scope_of_frame(struct chatd_str dest, int send);

#endif

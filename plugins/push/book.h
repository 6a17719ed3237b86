/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file book.h
 * @brief What is kept of a user: subscriptions, and what the user wants to be told.  Pure.
 *
 * One document per user, {"subs":[...],"settings":{...}}, as a record of the store.
 */
#ifndef BOOK_H
#define BOOK_H

#include <chatd-sdk/json.h>
#include <chatd/plugin.h>
#include <jansson.h>
#include <stdint.h>

enum {
	SUBS_MAX = 20,           /**< of one user */
	SUB_ID = 32,             /**< hex digits */
	CONVERSATIONS_MAX = 200, /**< with settings of their own */
	ENDPOINT_MAX = 1024,     /**< bytes, of a token too */
};

/** A conversation as one user sees it: a room, or the other user. */
struct place {
	char room[CHATD_ID_MAX + 1], with[CHATD_ID_MAX + 1]; /**< one is empty */
};

/** Never NULL but without memory; what cannot be read is an empty book. */
json_t *book_read(struct chatd_str value);
/** To free(); NULL: no memory. */
char *book_write(const json_t *book);

/** May the user be told of this at all (now: wall-clock ms)?  What mentions the user, and direct
 *  messages, are @p called for. */
int book_wants(const json_t *book, const struct place *, int called, int64_t now);
/** When the quiet hours end in which @p now is; 0: it is in none. */
int64_t book_quiet_until(const json_t *book, int64_t now);

/** Settings of a client: NULL and *ret (a new reference), or what is wrong with them. */
const char *settings_take(const json_t *in, json_t **ret);

/** SHA-256 of an endpoint, or of a kind and a token: half of it, in hex. */
void sub_id(struct chatd_str kind, struct chatd_str endpoint, char ret[SUB_ID + 1]);
/** NULL: there is none.  Borrowed. */
json_t *book_sub(const json_t *book, const char *id);
/** 1: it was there. */
int book_drop(json_t *book, const char *id);
/** Steals @p sub, which has an "id".  0: it is new, 1: it was there, -EDQUOT, -ENOMEM. */
int book_add(json_t *book, json_t *sub);
size_t book_count(const json_t *book);

static inline const char *json_text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file inbox.h
 * @brief What a client sends: a JSON array of strings, decoded.
 *
 * Strict: nothing but strings in one array, valid UTF-8, no raw control character,
 * no lone surrogate.  An inbox may be read in steps, so that a session that is
 * paused keeps the rest.  Pure; any thread, one at a time.
 */
#ifndef SOCKJS_INBOX_H
#define SOCKJS_INBOX_H

#include <chatd/plugin.h>

/** More messages than this in one array are refused. */
#define INBOX_MAX 1024

struct exch;

struct inbox {
	struct inbox *next;
	struct exch *sender; /**< the request that is answered once all is taken; NULL: none */
	size_t bytes;        /**< of memory that it takes, all in all */
	size_t count;
	size_t at;   /**< the message that comes next ... */
	size_t from; /**< ... and how much of it was taken already */
	struct chatd_str items[];
};

/** 0, -EBADMSG (not such an array), -E2BIG (over INBOX_MAX) or -ENOMEM.  free() it. */
int inbox_parse(const char *p, size_t n, struct inbox **ret);

#endif

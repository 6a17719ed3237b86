/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dedupe.h
 * @brief Which messages a sender has sent already, by their clientId.  Pure.
 *
 * One table per worker; a sender's entries are all on one worker, so nothing is locked.
 * Bounded three ways: by time, by entries, and by entries of one sender, so that nobody
 * can push out what others have sent.
 */
#ifndef CHAT_DEDUPE_H
#define CHAT_DEDUPE_H

#include <chatd-sdk/hash.h>
#include <chatd-sdk/json.h>

struct dedupe;

struct dedupe_conf {
	int64_t window_ms, max, per_user;
	struct chatd_hash_key key;
};

enum dedupe_verdict {
	DEDUPE_NEW,   /* noted now: deliver it */
	DEDUPE_SAME,  /* delivered before; *ret_first is its id */
	DEDUPE_OTHER, /* that clientId was another message's */
	DEDUPE_FAIL,  /* no memory */
};

struct dedupe_item {
	struct chatd_str user, client_id;
	uint64_t content; /* a hash of what the sender wrote */
	int64_t now;      /* ms, monotonic */
	char id[37];      /* given to it if it is new */
};

struct dedupe *dedupe_create(const struct dedupe_conf *); /* NULL: no memory */
void dedupe_destroy(struct dedupe *);                     /* NULL is fine */
enum dedupe_verdict dedupe_take(struct dedupe *, const struct dedupe_item *, char ret_first[37]);
/* It was new, but could not be delivered: as if it had never come. */
void dedupe_drop(struct dedupe *, const struct dedupe_item *);
void dedupe_expire(struct dedupe *, int64_t now);
int64_t dedupe_count(const struct dedupe *);

#endif

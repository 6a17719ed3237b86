/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file presence_memory.h
 * @brief What the parts of the plugin share.
 *
 * Everything about users is on the home, worker 0; the other workers reach it by post.
 */
#ifndef PRESENCE_MEMORY_H
#define PRESENCE_MEMORY_H

#include <chatd-sdk/hash.h>
#include <chatd-sdk/hearers.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	USERS_MAX = 1000, /* in one question */
	SEEN_MAX = 10000, /* users whose last time online is kept */
};

struct conf {
	int64_t linger;
	int32_t last_seen;
};

/** A session that said something else than that its user is online. */
struct device {
	struct device *next;
	chatd_sid sid;
	int32_t status;
	int32_t gone; /**< it has ended and lingers */
	size_t n;
	char text[];
};

struct user {
	UT_hash_handle hh;
	struct self *self;
	uint32_t sessions;
	int32_t status; /**< as it was told last; CHATD_PRESENCE_OFFLINE: not at all */
	uint64_t text;  /**< a hash of the text that was told */
	int64_t since, version;
	struct device *devices; /**< who said something last comes first */
	struct chatd_timer linger;
	size_t n;
	char id[];
};

/** When somebody who has gone was here last. */
struct seen {
	UT_hash_handle hh;
	int64_t at, version;
	size_t n;
	char id[];
};

struct watcher {
	chatd_presence_event *fn;
	void *arg;
};

struct home {
	struct user *users;
	struct seen *seen; /**< the oldest first */
	int64_t version;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct watcher watchers[CHATD_HEARERS_MAX];
	struct chatd_presence_follower followers[CHATD_HEARERS_MAX];
	struct chatd_hearers watching, following; /**< who of these is there */
	struct chatd_hash_key key;
	struct home *home; /**< the home's; the pointer is constant */
};

/* ---- presence_memory.c */
chatd_worker *home_of(const struct self *);

/* ---- users.c: all [home] */
struct user *user_find(const struct self *, struct chatd_str id);
void user_came(struct self *, struct chatd_str id);
void user_went(struct self *, struct chatd_str id, chatd_sid);
/** -ENOENT: nobody of that name is here. */
chatd_status user_says(struct self *, const struct chatd_presence_word *);
/** What others see; the text is borrowed until the user's next change. */
void user_state(const struct self *, struct chatd_str id, struct chatd_presence_state *ret);
void users_stop(struct self *);

/* ---- asks.c */
extern const struct chatd_presence presence_vt;

#endif

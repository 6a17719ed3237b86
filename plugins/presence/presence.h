/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file presence.h
 * @brief What the parts of the plugin share.
 *
 * Each worker knows whom its sessions watch, and what they were told of them last.  The home,
 * worker 0, hears of every change in the cluster and hands it to the workers whose sessions may
 * care; it knows them by a few counters per worker, so that a change nobody watches costs no post.
 */
#ifndef PRESENCE_PRESENCE_H
#define PRESENCE_PRESENCE_H

#include <chatd-sdk/ask.h>
#include <chatd-sdk/hash.h>
#include <chatd-sdk/json.h>
#include <chatd-sdk/open.h>
#include <chatd-sdk/presence.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/privacy.h>
#include <chatd/stats.h>
#include <chatd/store.h>

#include <stdatomic.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	BUCKETS = 1024,   /* counters per worker: who is watched, by hash */
	USERS_MAX = 1000, /* in one request, whatever the options say */
};

#define DEST "/user/queue/presence"
/* input_as() has none; watches and states end with theirs. */
#define NO_SESSION "nobody is here: a session watches and sets a status, no program"

enum { VISIBLE_TO_EVERYONE = 0, VISIBLE_TO_CONTACTS = 1 };

struct conf {
	int64_t max_watched, max_watches, max_text, sets_per_minute;
	int32_t visible_to;
};

struct self;
struct at;
struct watcher;

/** Somebody whom sessions of this worker watch, as they were told last. */
struct watched {
	UT_hash_handle hh;
	TAILQ_ENTRY(watched) order; /**< the next one to be asked about again comes first */
	LIST_HEAD(, entry) watchers;
	struct chatd_presence_state state; /**< UNKNOWN: nothing was told; its text is ours */
	uint32_t round;                    /**< of asking again, in which it was asked about */
	size_t n;
	char id[];
};

/** One session watches one user. */
struct entry {
	LIST_ENTRY(entry) by_user, by_session;
	struct watched *watched;
	struct watcher *watcher;
	const void *op;  /**< of watch.c: the first answer is on its way; NULL: it has come */
	int32_t unknown; /**< was told last that it is not known */
};

/** In each session; zeroed until it watches somebody. */
struct watcher {
	struct at *at; /**< NULL: it watches nobody */
	chatd_session *session;
	LIST_ENTRY(watcher) all;
	LIST_HEAD(, entry) entries;
	int64_t n;
	int64_t said; /**< set.c: when what it has said will be forgotten */
};

/** What a worker has. */
struct at {
	struct self *self;
	chatd_worker *w;
	struct watched *users;
	TAILQ_HEAD(, watched) order;
	LIST_HEAD(, watcher) watchers;
	uint32_t round;
	int32_t stale;    /**< the sessions were told that changes elsewhere are not known */
	int32_t asking;   /**< a look() of sync.c is under way */
	int32_t again;    /**< another round must follow */
	int32_t knowable; /**< changes elsewhere are heard of */
	int32_t dead;     /**< its worker_stop() has been called */
	struct chatd_timer retry;
	uint32_t *interest; /**< BUCKETS counters, of the home */
	int32_t missed;     /**< of the home: a change could not be handed over */
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *service, *http, *stats, *store, *privacy;
	const struct chatd_presence *presence;
	struct chatd_hash_key key;
	struct at *at; /**< of each worker */
	int32_t workers;
	uint32_t *interest;
	chatd_watch *tick; /**< the home's */
	uint32_t slot;
	uint32_t count_watches, count_told, count_set;
	_Atomic int64_t watches; /**< in all sessions of this server */
	struct chatd_ask_route route;
	struct chatd_open open; /**< what waits for an answer */
};

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- presence.c: [worker] */
void count(const struct at *, uint32_t id, int64_t n);

/* ---- set.c */
chatd_verdict on_set(chatd_call *, void *self, void *wself);

/* ---- watch.c */
chatd_verdict on_watch(chatd_call *, void *self, void *wself);
chatd_verdict on_unwatch(chatd_call *, void *self, void *wself);

/** User ids of a list; a fault is said in why.  The texts are the list's. */
size_t users_take(json_t *list, int64_t max, struct chatd_str *ret, char why[CHATD_JSON_WHY]);

/* ---- table.c: all [worker] */
chatd_worker *worker_of(const struct at *); /**< [any] */
struct watched *watched_find(const struct at *, struct chatd_str user);
/** The entry of this session; NULL: it does not watch that user. */
struct entry *entry_find(const struct watcher *, const struct watched *);
/** With .op not set; NULL: no memory. */
struct entry *entry_add(struct at *, struct watcher *, struct chatd_str user);
void entry_free(struct entry *);
void watcher_drop(void *slot);

/* ---- tell.c */
/** [worker] What is known of a user now; whoever watches it hears of it if it is new. */
void watched_update(struct at *, struct watched *, const struct chatd_presence_state *);
/** [worker] @p body to one session. */
chatd_status tell_session(struct at *, chatd_session *, struct chatd_str body);
/** Whom one has blocked, or is blocked by, is offline. */
extern const struct chatd_presence_state tell_offline;
/** [worker] 1: the session must not know what that user is. */
int tell_hides(const struct at *, chatd_session *, struct chatd_str user);
/** [worker] Of the service chatd.privacy/1. */
chatd_privacy_event on_blocked;
/** [home] Of chatd_presence_follower. */
void on_changed(
		void *self, chatd_worker *, struct chatd_str user, const struct chatd_presence_state *);
void on_known(void *self, chatd_worker *, int32_t known);
/** [home] Hands over again what could not be handed over. */
void on_tick(void *self);

/* ---- sync.c: [worker] */
/** Everybody who is watched here is asked about again. */
void sync_begin(struct at *);
/** From on_known(): changes elsewhere are heard of, or not. */
void sync_known(struct at *, int32_t known);

/* ---- allow.c */
#define ALLOW_NOT     "you have no conversation and no room with this user"
#define ALLOW_UNKNOWN "whom you may ask about cannot be looked up now; try again"
/** [worker] rc 0: all of them; -EACCES: not the one number @p at; -EAGAIN: not known now.  Runs
 *  once, on the worker that asked, later. */
typedef void allow_fn(void *arg, chatd_status rc, size_t at);
struct allow_question {
	struct self *self;
	const chatd_ident *who;
	const struct chatd_str *users; /**< copied */
	size_t n;
	allow_fn *fn;
	void *arg;
};
/** [any] 0: this one need not ask. */
int allow_asks(const struct self *, const chatd_ident *who);
chatd_status allow_ask(chatd_worker *, const struct allow_question *);
chatd_verdict on_request_as(chatd_call *, void *self, void *wself);

/* ---- rest.c */
chatd_status rest_init(struct self *);

#endif

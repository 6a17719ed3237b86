/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file presence.h
 * @brief What the parts of the plugin share.
 *
 * All state of the node is on its home, worker 0: the users that are here, the lease, the
 * events.  What Redis holds is a copy of it, written by one script per user that states the
 * whole truth about them; whatever goes wrong on the way, it is stated again.
 */
#ifndef PRESENCE_REDIS_PRESENCE_H
#define PRESENCE_REDIS_PRESENCE_H

#include <chatd-sdk/hash.h>
#include <chatd-sdk/hearers.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/redis.h>
#include <chatd/store.h>

#include <stdatomic.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	INSTANCE_HEX = 16,
	USER_MAX = 64,
	NODE_MAX = 64,
	DEVICE_MAX = 64,
	PREFIX_MAX = 64,
	KEY_MAX = PREFIX_MAX + USER_MAX + 40,
	WHO_MAX = 256,
	HOLDER_MAX = 768, /* holder_text() */
	ID_MAX = 48,      /* of an entry of the log */
	IN_FLIGHT = 64,   /* users whose state is on its way */
	USER_SESSIONS_MAX = 256,
};

struct conf {
	int64_t linger, lease;
	int32_t last_seen;
};

/** One session of a user here. */
struct place {
	struct place *next;
	chatd_sid sid;
	int64_t since;
	int32_t gone;   /**< it has ended and lingers, as the last one */
	int32_t status; /**< what it says; CHATD_PRESENCE_ONLINE and no text: nothing */
	int64_t at;     /**< when it said so */
	char *text;     /**< n bytes; NULL: none */
	size_t n;
	char device[DEVICE_MAX + 1];
};

/** A word on its way from a session to the home, and the answer back. */
struct saying {
	struct self *self;
	chatd_worker *from;
	chatd_presence_set_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_presence_word word; /**< its texts are behind */
	char texts[];
};

/** Who goes on when the user's state is written: a login, or a word. */
struct waiting {
	struct waiting *next;
	chatd_token token;
	struct saying *saying;
};

struct user {
	UT_hash_handle hh;
	struct self *self;
	struct user *prev, *next; /**< of the queue of those whose state is to be written */
	struct place *places;
	struct waiting *waiting;
	struct chatd_timer linger;
	uint8_t queued, flying;
	uint8_t flew_empty; /**< what is on its way says that nobody is here */
	uint8_t told;       /**< the cluster was told of the coming */
	uint8_t lost;       /**< Redis may have forgotten */
	size_t n;
	char id[];
};

struct watcher {
	chatd_presence_event *fn;
	void *arg;
};

enum lease_state {
	LEASE_NONE,    /**< not registered: nothing may be written */
	LEASE_HELD,    /**< registered, with an epoch */
	LEASE_FOREIGN, /**< another process has it */
};

/** At the home alone. */
struct home {
	struct user *users, *queue;
	size_t flying;
	enum lease_state state;
	int32_t begun; /**< the node id is free: what comes now counts */
	int32_t stopped, up, claiming, claim_again, sweeping, asking_epoch, need_epoch, checking;
	int64_t epoch, since;
	int64_t doubt;      /**< an epoch whose records others may have swept; 0: none */
	int64_t held_at;    /**< when the claim that succeeded last was sent */
	int64_t claimed_at; /**< when one was sent last */
	int64_t up_at, foreign_at, ticked_at, read_at, beside_at;
	char foreign[HOLDER_MAX];
	char dead[64];     /**< whose lease is taken over, as its process is no more; "": none */
	char last[ID_MAX]; /**< the event that was read last; "": none yet */
	int32_t reading, again, subscribed;
	int32_t deaf; /**< followers were told that changes elsewhere are not heard of */
	chatd_watch *tick;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *redis_service, *store, *stats;
	const struct chatd_redis *redis;
	struct watcher watchers[CHATD_HEARERS_MAX];
	struct chatd_presence_follower followers[CHATD_HEARERS_MAX];
	struct chatd_hearers watching, following; /**< who of these is there */
	struct chatd_hash_key key;
	struct home *home;
	atomic_int serves; /**< worker_start() has run at the home */
	char prefix[PREFIX_MAX + 1], node[NODE_MAX + 1], who[WHO_MAX];
	char instance[INSTANCE_HEX + 1];
	uint32_t claim, was_swept, sync, sweep, get, look, nodes; /**< scripts */
	uint32_t count_fenced, count_events;
	int32_t alone; /**< what the store keeps no other node has: there can be only this one */
	_Atomic int32_t unknown;    /**< 1: fenced; what others have is not known */
	_Atomic int64_t settled_at; /**< before that Redis may not know everybody yet */
	_Atomic int32_t live;       /**< nodes whose leases hold, as seen last */
};

/** wself: the questions about nodes, answered in their order. */
struct asker {
	struct where *first, **end;
};

/* ---- presence_redis.c */
chatd_worker *home_of(const struct self *);
struct chatd_str text_of(const char *);
/** A key: @p kind, then @p id (may be empty). */
struct chatd_str key_of(
		const struct self *, const char *kind, struct chatd_str id, char room[KEY_MAX]);
/** A whole number as text. */
struct chatd_str number_of(int64_t, char room[24]);
void count(const struct self *, uint32_t id, int64_t n); /**< [home] */

/* ---- users.c: all [home] */
struct user *user_find(const struct self *, struct chatd_str id);
void user_came(struct self *, struct chatd_str id, const struct place *, chatd_token);
void user_went(struct self *, struct chatd_str id, chatd_sid);
/** The session says something; the saying is answered when it is written, or cannot be now. */
void user_says(struct self *, struct saying *);
/** By what is known here alone; the text is borrowed until the user's next change. */
void user_state(const struct user *, struct chatd_presence_state *ret);
void users_pump(struct self *); /**< writes what is to be written */
/** All are to be written again.  @p lost: Redis may have forgotten them; @p swept: others were
 *  told that they have gone. */
void users_again(struct self *, int lost, int swept);
/** Nothing is written any more.  What is on its way is freed when it comes back. */
void users_stop(struct self *);

/* ---- lease.c: all [home] */
void lease_up(void *self, int32_t up);
void lease_tick(void *self);
void lease_claim(struct self *);
/** A write was refused: the lease is not ours, or not there. */
void lease_doubted(struct self *);
void lease_heard(void *self, chatd_worker *, struct chatd_str payload);
void lease_leave(struct self *);

/* ---- begin.c */
/** [worker 0] In worker_start(): waits for a holder of our node id to vanish.  -ENOTUNIQ. */
chatd_status begin(struct self *);
struct chatd_redis_command command_of(
		uint32_t script, size_t n_keys, const struct chatd_str *, size_t n);
/** The words of script_claim into @p argv, CLAIM_WORDS of them. */
enum { CLAIM_WORDS = 11 };
struct claim_words {
	char keys[3][KEY_MAX], numbers[3][24];
	struct chatd_str argv[CLAIM_WORDS];
};
void claim_words(const struct self *, int64_t epoch, int64_t since, const char *dead,
		struct claim_words *ret);
/** Why the lease is not ours, of that of @p node as it stands in Redis: `node id "..." is held by
 *  ...`, or that another node is there while one of the two cannot share its store. */
void holder_text(
		const struct self *, struct chatd_str lease, struct chatd_str node, char *room, size_t n);

/* ---- who.c: pure */
/** "HOST BOOT PID START" of this process. */
void who_am_i(char room[WHO_MAX]);
struct lease {
	int64_t until, epoch, since, pid;
	char instance[64], host[128], boot[80], start[24];
};
int lease_parse(struct chatd_str text, struct lease *ret); /**< 0: it is none */
/** 1: its process was on this machine and is no more. */
int lease_is_dead(const struct lease *);

/* ---- asks.c */
extern const struct chatd_presence presence_vt;
/** [worker] What others have in Redis is not known now. */
int is_unknown(const struct self *, chatd_worker *);
void saying_answer(struct saying *, chatd_status rc); /**< [home] */

/* ---- state.c: pure; what Redis holds was written by another program */
/** [online, status, text, since, lastSeen, event] */
void state_take(const struct chatd_redis_reply *, struct chatd_presence_state *ret);
/** Of an entry's name, "MS-SEQ"; 0: it is none. */
int64_t event_version(struct chatd_str id);
int64_t event_time(struct chatd_str id);
int32_t status_take(struct chatd_str); /**< CHATD_PRESENCE_ONLINE, whatever else it may be */
/** .p NULL: it cannot be shown. */
struct chatd_str text_take(struct chatd_str);

/* ---- events.c: all [home] */
void events_heard(void *self, chatd_worker *, struct chatd_str payload);
void events_read(struct self *);
void events_known(struct self *);    /**< tells followers if that has changed */
int events_any(const struct self *); /**< [any] 1: somebody hears of them, or did */
chatd_status events_begin(struct self *);
void events_wanted(struct self *); /**< [main] somebody has come who is to hear of them */

#endif

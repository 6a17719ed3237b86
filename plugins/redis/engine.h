/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file engine.h
 * @brief The thread that talks to Redis, and what its parts share.
 *
 * Functions are [thread] unless said otherwise: the one thread of the engine, with an event base
 * of its own.  Workers hand over ops under the lock, and get them back in their seat's list,
 * which an eventfd tells.
 */
#ifndef REDIS_ENGINE_H
#define REDIS_ENGINE_H

#include "address.h"

#include <chatd/redis.h>

#include <event2/dns.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

struct conf {
	const char *const *addresses, *const *sentinels;
	const char *master, *sentinel_user, *sentinel_password;
	const char *user, *password, *prefix, *names_key, *ca_file, *cert_file, *key_file;
	int32_t tls;
	int64_t db, command_timeout, connect_timeout, max_pending, failures, retry;
};

enum { SCRIPTS_MAX = 16, WATCHERS_MAX = 8, CHANNEL_MAX = 160, SHA_HEX = 40 };

struct script {
	const char *text;
	char sha[SHA_HEX + 1];
};

struct watcher {
	void (*fn)(void *arg, int32_t up);
	void *arg;
};

struct engine;
struct heard;
struct link;
struct listen;
struct op;
struct pubsub;
struct sentinel;

/** What a worker has of its own: where its answers come in.  Guarded by the engine's lock, but
 *  for what is set once. */
struct seat {
	struct engine *e;
	chatd_worker *w;
	chatd_watch *watch;
	int fd;
	int stopping;
	size_t out; /**< ops that are on their way */
	struct op *done, **done_end;
	struct heard *heard, **heard_end; /**< of worker 0: what came in on channels */
	int64_t told;                     /**< of worker 0: what the watchers know, see .turns */
};

/** One payload for one listener.  @p n 0 with .payload NULL: listening (again). */
struct heard {
	struct heard *next;
	chatd_redis_heard *fn;
	void *arg;
	struct chatd_str payload;
	char text[];
};

/** The numbers that /metrics shows. */
struct counts {
	_Atomic int64_t commands, failures, timeouts, connects, refused;
};

struct engine {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	_Atomic(const char *) password, sentinel_password; /**< reload() changes them */
	struct address *addresses, *sentinels;
	size_t n_addresses, n_sentinels;
	struct script scripts[SCRIPTS_MAX];
	uint32_t n_scripts;
	struct watcher watchers[WATCHERS_MAX];
	size_t n_watchers;
	SSL_CTX *tls;
	struct counts counts;
	_Atomic int64_t up;
	_Atomic int64_t turns; /**< grows at each change of .up: odd is up */
	_Atomic int64_t pending;

	pthread_mutex_t lock;
	pthread_cond_t changed; /**< an op is done, the state has settled */
	int started, stopping, wake_fd;
	int settled;                /**< the first attempt to connect is over */
	struct op *inbox, **in_end; /**< from workers */
	struct listen *wanted;      /**< channels to listen to, likewise */
	struct seat *notices;       /**< of worker 0 */

	/* Of the thread alone. */
	pthread_t thread;
	struct event_base *base;
	struct evdns_base *dns;
	struct event *wake;
	struct link *link;
	struct pubsub *pubsub;
	struct sentinel *sentinel;
};

/* engine.c */
struct engine *engine_create(
		const struct chatd_host *, chatd_ctx *, const struct conf *); /**< [main] */
void engine_destroy(struct engine *);                                 /**< [main] NULL is fine */
/** [worker 0] before the other workers do anything. */
chatd_status engine_start(struct engine *);
chatd_status engine_sit(struct engine *, chatd_worker *, struct seat *); /**< [worker] */
/** [worker] What is under way is answered first. */
void engine_rise(struct seat *);
/** [worker] @p seat NULL: waits, as ask() does. */
chatd_status engine_submit(struct engine *, struct seat *, const struct chatd_redis_command *,
		chatd_redis_fn *fn, void *arg);
/** [worker] */
chatd_status engine_subscribe(
		struct engine *, struct chatd_str channel, chatd_redis_heard *fn, void *arg);
/** Commands can go out (1) or cannot (0): the workers hear of it. */
void engine_set_up(struct engine *, int32_t up);
/** The first attempt to connect is over: whoever waits for it goes on. */
void engine_settle(struct engine *);
/** The answer of @p op, which is the worker's now. */
void engine_done(struct engine *, struct op *);
/** To worker 0; @p payload NULL: listening. */
void engine_hear(struct engine *, chatd_redis_heard *fn, void *arg, struct chatd_str payload);
int64_t engine_now(void); /**< [any] monotonic ms */
/** An event in @p ms. */
void engine_in(struct event *, int64_t ms);

/* link.c: the connection that commands go by */
struct link *link_create(struct engine *); /**< NULL: no memory */
void link_destroy(struct link *);          /**< answers what is under way; NULL is fine */
void link_begin(struct link *);            /**< connects, now */
void link_take(struct link *, struct op *list);
/** A sentinel says where the master is.  @p at NULL: none knows one, @p why says more. */
void link_resolved(struct link *, const struct address *at, const char *why);

/* pubsub.c */
struct listen {
	struct listen *next;
	chatd_redis_heard *fn;
	void *arg;
	char channel[CHANNEL_MAX];
};
struct pubsub *pubsub_create(struct engine *);
void pubsub_destroy(struct pubsub *);
void pubsub_add(struct pubsub *, struct listen *); /**< takes it */
/** The link is up, at this address: follow it. */
void pubsub_follow(struct pubsub *, const struct address *);

/* sentinel.c */
struct sentinel *sentinel_create(struct engine *);
void sentinel_destroy(struct sentinel *);
/** Asks them, one after the other; link_resolved() comes later. */
void sentinel_ask(struct sentinel *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file kit_impl.h
 * @brief What the kit's files share.  Everything runs on the test's thread.
 *
 * kit_loop.c stands in for core/loop: it defines the functions of loop/worker.h that
 * core/chat uses.  kit_table.c is the chatd_host that the plugin sees.
 */
#ifndef KIT_IMPL_H
#define KIT_IMPL_H

#include "base/diag.h"
#include "chat/chat.h"
#include "conf/conf.h"
#include "kit_place.h"
#include "loop/worker.h"

#include <chatd/audit.h>
#include <chatd/cipher.h>
#include <chatd/cluster.h>
#include <chatd/fetch.h>
#include <chatd/http.h>
#include <chatd/kit.h>
#include <chatd/limiter.h>
#include <chatd/log.h>
#include <chatd/mailer.h>
#include <chatd/plugins.h>
#include <chatd/privacy.h>
#include <chatd/redis.h>
#include <chatd/reports.h>
#include <chatd/sockjs.h>
#include <chatd/stats.h>
#include <chatd/stream.h>
#include <chatd/tokens.h>
#include <chatd/transport.h>
#include <chatd/users.h>
#include <chatd/websocket.h>

#include <stdarg.h>

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct chatd_worker {
	struct kit *k;
	int32_t index;
	void *data[WORKER_DATA_MAX];
	struct post *head, **tail;
};

struct loop {
	struct kit *k;
};

struct chatd_watch {
	struct chatd_watch *next, **link;
	chatd_worker *w;
	struct chatd_timer timer;
	int64_t ms;
	int32_t repeat;
	int fd;
	uint32_t mask;
	void (*on_time)(void *arg);
	void (*on_fd)(void *arg, uint32_t ready);
	void *arg;
};

struct kit_job {
	struct kit_job *next;
	chatd_worker *w;
	void (*work)(void *arg), (*done)(void *arg);
	void *arg;
};

/* A request of a client that has no answer yet. */
struct kit_ticket {
	struct kit_ticket *next, **link;
	struct kit *k;
	struct kit_client *client; /* NULL: identify() */
	int went_on;               /* go_on() was called: the session is read all the same */
};

struct kit_outcome {
	int answered;
	chatd_verdict verdict;
	char *code, *why;
	chatd_msg *reply;
	const chatd_ident *ident;
};

struct kit_delivery {
	struct kit_delivery *next;
	char *dest;
	char *body; /* NUL-terminated */
};

struct kit_client {
	struct kit_client *next;
	struct kit *k;
	chatd_worker *w;
	chatd_session *s;
	char *user;
	int open, leaving; /* it has gone, and a request of it still waits */
	int32_t code;
	struct kit_delivery *got, **got_tail;
	struct kit_delivery *waits, **waits_tail; /* sent to one who does not read */
	size_t queued;                            /* bytes of these */
	int slow;
};

struct kit_published {
	struct kit_published *next;
	char *user; /* NULL: to everybody */
	chatd_msg *msg;
	int taken;
};

struct kit_offered {
	struct kit_offered *next;
	char *name;
	struct chatd_service service;
};

struct kit_route {
	struct kit_route *next;
	struct chatd_route r;
	char *path;
};

/* The services that the kit has fakes of; the first KIT_ASKED are asked, and answer later. */
enum {
	KIT_PRESENCE,
	KIT_ACCOUNTS,
	KIT_ROOMS,
	KIT_FETCH,
	KIT_MAILER,
	KIT_LIMITER,
	KIT_USERS,
	KIT_LOG,
	KIT_CLUSTER,
	KIT_STATS,
	KIT_REDIS,
	KIT_PLUGINS,
	KIT_ASKED,
	KIT_HTTP = KIT_ASKED,
	KIT_NET,
	KIT_AUDIT,
	KIT_REPORTS,
	KIT_PRIVACY,
	KIT_TOKENS,
	KIT_CIPHER,
	KIT_WEBSOCKET,
	KIT_SOCKJS,
	KIT_SERVICES
};
extern const char *const kit_service_names[KIT_SERVICES];

/* The beginning of every answer that is on its way. */
struct kit_answer {
	struct kit_answer *next;
	struct kit *k;
	chatd_worker *w;
	int of; /* KIT_PRESENCE ... */
	int again;
	int64_t due;      /* it fails by itself then, if nobody answers before; 0: never */
	chatd_status rc;  /* the error to answer with */
	const char *code; /* likewise, of those that answer with words: a literal */
	void (*give)(struct kit_answer *);
	void (*free)(struct kit_answer *);
};

/* What kit_trouble() does to one answer. */
enum { KIT_FAILED = 1, KIT_LATE, KIT_DEPARTED, KIT_NEVER };

/* What a plugin takes and has to give back. */
enum kit_kind { KIT_MEMORY, KIT_MESSAGE, KIT_IDENT, KIT_BUFFER, KIT_WATCH, KIT_TIMER };

struct kit_taken;
struct kit_fakes;
struct kit_armed;
struct kit_listener;
struct kit_deeds;
struct kit_more;
struct kit_cipher;
struct kit_redis;
struct kit_plugins;
struct kit_sockets;

/* The plugin instance, as plugins see it. */
struct chatd_ctx {
	struct kit *k;
	const struct conf_plugin *conf;
};

struct kit {
	const struct chatd_plugin *plugin;
	struct chatd_ctx ctx;
	struct conf *conf;
	struct diag diag;
	void *options, *self;
	void **wself; /* by worker */
	int checking, registering, inited;
	int32_t started;
	int32_t stopping, stops; /* what stopping() tells; how often stop() was called */
	int64_t drain_spread;
	int dead;                             /* it did not start, because of an injected failure */
	const struct chatd_identity *open_as; /* of the client that kit_open_as() is opening */

	struct loop loop;
	int32_t n_workers;
	chatd_worker *workers;
	chatd_worker *here; /* whose callback runs; NULL: main or the pool */
	int64_t now;
	int manual, hold_offload, refuse_suspend, running;
	int late;                 /* no request is answered in the turn in which it is made */
	struct kit_armed *timers; /* by due time */
	struct chatd_watch *watches;
	struct kit_job *jobs;

	struct chat *chat;
	const struct chatd_sessions *sessions;
	struct kit_client *clients;
	struct kit_ticket *tickets;
	size_t n_tickets;
	struct kit_outcome last;
	const struct kit_route *routed; /* by whom the last request was taken */
	struct kit_published *published, **published_tail;
	struct kit_published *said, **said_tail; /* by input_as() */
	struct kit_offered *offered, *given;     /* by the test; by the plugin */
	struct kit_route *routes;
	struct kit_req *reqs;
	struct chatd_service service[KIT_SERVICES], own_sessions;
	struct kit_fakes *fakes;
	int hold[KIT_ASKED];
	chatd_status refuse[KIT_ASKED];
	struct kit_answer *held[KIT_ASKED];
	struct kit_question *questions;
	struct kit_listener *listeners;
	struct kit_peer *peers;
	struct kit_deeds *deeds; /* what was fetched and mailed */
	struct kit_more *more;
	struct kit_cipher *cipher;
	struct kit_redis *redis;
	struct kit_plugins *plugins;
	struct kit_sockets *sockets;
	int let_in;                         /* KIT_LET_* */
	unsigned guests;                    /* who have come */
	const struct chatd_conn_ops *codec; /* the plugin's, and what the core has in its place */
	struct chatd_conn_ops codec_ops;
	char *log;
	size_t log_n, log_cap;
	char *dir;

	long failed_at, calls; /* the sweep */
	int injected, trouble;
	uint32_t hooks_waited; /* a bit each, by number: suspend() was called there */
	size_t app_waits;      /* likewise, in handlers of /app/ */
	size_t allocs, bytes;
	long msgs, idents, bufs;
	struct kit_taken *taken;
};

/* kit.c */
struct kit *kit_the(void); /* of functions that are given no instance */
void kit_die(struct kit *, const char *file, int line, const char *fmt, ...) CHATD_PRINTF(4, 5);
/* A rule of the contract was broken by the plugin: where, says the stack. */
#define kit_broken(k, ...) kit_die(k, NULL, 0, __VA_ARGS__)
int kit_fault(struct kit *); /* 1: this call of the host is the one that fails */
int kit_muted(const struct kit *);
int kit_trouble_now(struct kit *); /* KIT_LATE ...: this answer is the one; 0: it is not */
/* Whoever hears of a broken rule in the place of the test: it must not return. */
void kit_on_death(void (*fn)(const char *text));
/* What the plugin is about to be asked for: "message_in", "worker_stop()" ... */
void kit_on_step(void (*fn)(const char *who, const char *what));
/* Notes where the plugin waits; returns @p token, 0 if it does not. */
chatd_token kit_waits(struct kit *, const chatd_call *, chatd_token token);
void kit_step_is(const char *who, const char *what);
/* As kit_sweep(), one step of it; 0: there were fewer calls, all have failed. */
int kit_sweep_at(void (*test)(void), long at);
/* The name of the instance in what is started from now on; NULL: the plugin's. */
void kit_instance_name(const char *name);
/* The start failed: @p on, that is no broken rule. */
void kit_may_fail(int on);
char *kit_dup(struct chatd_str);
int kit_listed(const char *const *list, const char *what);

/* kit_left.c */
void kit_took(struct kit *, enum kit_kind, const void *what, size_t n, const void *from);
void kit_gave(struct kit *, enum kit_kind, const void *what);
/* That is a broken rule: @p what, and where it was taken. */
void kit_left(struct kit *, const char *what);
void kit_left_finish(struct kit *);
void *kit_mem_alloc(size_t n);
void kit_mem_free(void *p);
#define KIT_CALLER __builtin_return_address(0)

/* kit_loop.c */
void kit_settle(struct kit *); /* run what is posted, unless kit_manual() */
void kit_loop_finish(struct kit *);
/* How many are set; each is noted as taken, by its function. */
size_t kit_timers_left(struct kit *);

/* kit_table.c */
extern const struct chatd_host kit_table;

/* kit_client.c */
void kit_clients_close(struct kit *);
void kit_clients_finish(struct kit *);
void kit_outcome_set(struct kit *, const struct chatd_outcome *, const chatd_ident *);
void kit_identify_with(struct kit *, int32_t worker, chatd_msg *creds);
chatd_verdict kit_auth(chatd_call *, void *self, void *wself);
chatd_verdict kit_auth_guest(chatd_call *, void *self, void *wself);

/* kit_late.c */
void kit_late_init(struct kit *);

/* kit_answers.c */
chatd_status kit_answers_send(struct kit_answer *, int of);
int64_t kit_answers_due(const struct kit *); /* when the next one of those held fails by itself */
void kit_answers_expire(struct kit *);
int kit_beside(void);
/* At the end of a list: it was published, or said. */
void kit_remember(struct kit_published ***tail, struct chatd_str user, chatd_msg *);
void kit_answers_late(struct kit *);
void kit_answers_flush(struct kit *); /* answer what is still held: the services stop */
void kit_questions_finish(struct kit *);
void kit_depart(struct kit *); /* every client, request and peer goes */

/* kit_store.c */
void kit_store_release(chatd_status rc); /* what is held is answered; @p rc < 0: with that */

/* kit_fakes.c, kit_services.c, kit_deeds.c, kit_more.c, kit_http.c, kit_net.c */
int kit_fakes_init(struct kit *);
void kit_services_init(struct kit *);
const struct chatd_service *kit_fake(struct kit *, const char *interface); /* NULL: none */
/* Of KIT_FAKE: it must be there. */
struct chatd_service kit_fake_of(struct kit *, const char *interface);
const struct chatd_service *kit_in_check(const struct kit *, const struct chatd_service *);
void kit_fakes_finish(struct kit *);
extern const struct chatd_presence kit_presence_vt;
extern const struct chatd_accounts kit_accounts_vt;
extern const struct chatd_rooms kit_rooms_vt;
extern const struct chatd_fetch kit_fetch_vt;
extern const struct chatd_mailer kit_mailer_vt;
extern const struct chatd_limiter kit_limiter_vt;
void kit_deeds_finish(struct kit *);
extern const struct chatd_audit kit_audit_vt;
extern const struct chatd_reports kit_reports_vt;
extern const struct chatd_users kit_users_vt;
extern const struct chatd_log kit_log_vt;
extern const struct chatd_privacy kit_privacy_vt;
extern const struct chatd_tokens kit_tokens_vt;
extern const struct chatd_cluster kit_cluster_vt;
extern const struct chatd_stats kit_stats_vt;
/* What kit_expect_told() will see; @p text is to free(), NULL: none. */
void kit_note(struct kit *, const char *service, struct chatd_str what, char *text);
char *kit_words(struct chatd_str a, struct chatd_str b); /* "a (b)": to free() */
void kit_more_finish(struct kit *);
extern const struct chatd_redis kit_redis_vt;
void kit_redis_finish(struct kit *);
void kit_cipher_finish(struct kit *);
extern const struct chatd_plugins kit_plugins_vt;
void kit_plugins_finish(struct kit *);
extern const struct chatd_websocket kit_websocket_vt;
extern const struct chatd_sockjs kit_sockjs_vt;
void kit_sockets_leave(struct kit *, int32_t why); /* clients go */
void kit_sockets_finish(struct kit *);
extern const struct chatd_http kit_http_vt;
int kit_http_switch(chatd_req *);   /* it goes on as something else: 1 */
void kit_http_leave(struct kit *);  /* clients go; fails if one was never answered */
void kit_http_depart(struct kit *); /* clients go */
void kit_http_finish(struct kit *);
extern const struct chatd_net kit_net_vt;
int kit_peer_is_open(const struct kit_peer *);
void kit_net_leave(struct kit *, int32_t why); /* peers go */
void kit_net_finish(struct kit *);

#endif

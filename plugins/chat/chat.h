/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat.h
 * @brief What the parts of this plugin share.
 */
#ifndef CHAT_H
#define CHAT_H

#include "dedupe.h"
#include "message.h"

#include <chatd-sdk/ask.h>
#include <chatd-sdk/hearers.h>
#include <chatd/accounts.h>
#include <chatd/audit.h>
#include <chatd/http.h>
#include <chatd/log.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/privacy.h>
#include <chatd/stats.h>
#include <chatd/store.h>

#include <sys/queue.h>

struct conf {
	int64_t max_content, max_bytes, max_encrypted;
	int64_t dedupe_window, dedupe_max, dedupe_per_user;
	int64_t resume_max, notice_interval, sync_interval, isolated_after;
};

enum { EPOCH_MAX = 64 };

/* Plugins that want to hear of rows. */
struct tellers {
	chatd_log_event *fn[CHATD_HEARERS_MAX];
	void *arg[CHATD_HEARERS_MAX];
	struct chatd_hearers hear;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *accounts, *presence, *http, *store; /* NULL: not there */
	/* With a store alone, see cluster.h: */
	const struct chatd_service *cluster, *redis;
	struct sync *sync;
	struct alone *alone;
	uint32_t inbox_slot;
	struct tellers others, own;          /* of other nodes' events, and of what is written here */
	void *listening;                     /* atomic_llong, see notice.h */
	const struct chatd_service *audit;   /* NULL: nobody keeps such things */
	const struct chatd_service *privacy; /* NULL: nobody can block anybody */
	uint32_t slot;
	struct chatd_ask_route status;
	struct chatd_hash_key key; /* the same on every worker: it also chooses a sender's home */
};

/* Receivers that were found to exist a moment ago: most messages go to few people. */
enum { KNOWN_MAX = 1024, KNOWN_MS = 60000, SWEEP_MS = 60000 };
struct known {
	int64_t until;
	char id[CHATD_ID_MAX + 1];
};

/* What waits for the store or the clock, and must end with its worker. */
struct later {
	TAILQ_ENTRY(later) link;
	struct self *self;
	chatd_worker *w;
	struct chatd_timer timer;
	int32_t tries, asking, dead;
};

struct worker { /* wself */
	struct self *self;
	chatd_worker *w;
	struct dedupe *dedupe; /* of the senders whose home this worker is */
	struct known *known;   /* KNOWN_MAX, made when first needed */
	chatd_watch *sweep;
	/* log.c, with a store: */
	struct order *order;
	TAILQ_HEAD(laters, later) later;
	struct replay *replays; /* resume.c */
	/* late.c: */
	struct late *late; /* NULL: nothing is in doubt */
	TAILQ_HEAD(turns, turn) turns;
	int32_t n_turns, n_known;
	/* With a cluster: */
	struct path *paths;    /* lanes.c */
	struct handed *handed; /* sync.c */
	char epoch[EPOCH_MAX + 1];
	/* notice.c, listen.c, with a store: */
	struct news *news;
	struct listeners *listeners;
};

/* send.c: /app/chat.send */
chatd_verdict on_send(chatd_call *, void *self, void *wself);
/* stored.c: the way of a message through the store, on its conversation's worker. */
struct send;
void stored_append(struct send *, chatd_worker *home);
/* The message as everybody gets it, and with its headers; NULL: no memory. */
void stored_write(struct chatd_json *, const struct chatd_store_message *, struct chatd_str epoch);
/* status: what has become of it since; NULL: as it was. */
/* What is known of a row without its body; the object stays open. */
void stored_write_known(struct chatd_json *, const struct chatd_store_message *);
void stored_write_as(struct chatd_json *, const struct chatd_store_message *,
		struct chatd_str epoch, const char *status);
chatd_msg *stored_msg(struct self *, struct chatd_str dest, const struct chatd_store_message *,
		struct chatd_str epoch);
struct refusal {
	const char *code, *why; /* literals */
	int64_t until;          /* when it may be tried again; 0 or INT64_MAX: not said */
};
/* What the store's no means to whoever asked; the answer may be NULL. */
struct refusal stored_refusal(chatd_status, const struct chatd_store_answer *);
/* blocked.c: [worker] between these two nothing is passed on: .code NULL, or why. */
struct refusal blocked(
		const struct self *, const chatd_worker *, struct chatd_str me, struct chatd_str other);
void stored_until(const struct self *, chatd_call *, int64_t until); /* retryAfterSeconds */
/* log.c: where a conversation's rows are written and published, "" being the direct ones'. */
struct log_row {
	const struct chatd_store_message *row;
	struct chatd_str epoch, trace; /* trace: .p NULL if there is none */
	int64_t before_a, before_b;    /* as in the store's answer; -1: not known */
	int32_t remote;                /* another node wrote it */
};
/* kept.c: a copy whose texts are in @p texts, row_bytes() long. */
size_t row_bytes(const struct log_row *);
void row_copy(struct log_row *to, struct chatd_store_message *message, char *texts,
		const struct log_row *from);
chatd_worker *log_home(const struct self *, struct chatd_str room);
chatd_status log_publish(struct self *, chatd_worker *home, const struct log_row *);
/* At once, whatever waits: late.c alone may. */
chatd_status log_publish_now(struct self *, chatd_worker *home, const struct log_row *);
/* Another node's event of a room. */
void log_tell(const struct self *, chatd_worker *, const struct chatd_store_message *);
chatd_status log_init(struct self *);
chatd_status log_start(struct worker *);
void log_stop(struct worker *);
void later_begin(struct later *, struct self *, chatd_worker *);
void later_end(struct later *);
/* 0: the worker has ended meanwhile, and so has this. */
int later_answered(struct later *);
/* late.c: [worker home] a commit did not come back in time: the row of that id may be there. */
void late_doubt(struct self *, chatd_worker *home, const char *id);
/* A row that is there, behind those in doubt. */
chatd_status late_queue(struct self *, chatd_worker *home, const struct log_row *);
void late_start(struct worker *);
void late_stop(struct worker *);
/* notice.c: [worker home] something was said in a room */
void notice_row(struct self *, chatd_worker *home, struct chatd_str room);
void notice_stop(struct worker *);
/* notice.c, change.c, resume.c, history.c, status.c: [main] in init() */
chatd_status notice_init(struct self *);
chatd_status change_init(struct self *);
/* change.c: [worker] of chatd.log/1 */
chatd_status change_remove(void *self, chatd_worker *, const struct chatd_log_remove *,
		chatd_log_removed *fn, void *arg);
chatd_status resume_init(struct self *);
void resume_stop(struct worker *);
chatd_status history_init(struct self *);
chatd_status status_init(struct self *);

#define ROOM_TOPIC "/topic/room/"
#define INBOX      "/user/queue/messages"

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

#endif

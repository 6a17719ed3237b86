/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file push.h
 * @brief Who is not here is told that something was said.
 *
 * news.c hears of what was stored on this node, once, and finds out who of the conversation is
 * absent and wants to know; leave.c makes up for who was only thought to be here.  queue.c keeps what is to be told as records of the store, one per
 * user and conversation, and hands out those that are due to one node.  job.c looks again whether
 * the user has come back or has read it, and sends.  keys.c has the key that push services know
 * this server by.  book.c, crypto.c are pure.
 */
#ifndef PUSH_H
#define PUSH_H

#include "book.h"
#include "crypto.h"

#include <chatd-sdk/open.h>
#include <chatd/fetch.h>
#include <chatd/http.h>
#include <chatd/log.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/privacy.h>
#include <chatd/stats.h>
#include <chatd/store.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define SPACE_USER "push.user" /* a book per user */
#define SPACE_JOB  "push.job"  /* "USER/r:ROOM" or "USER/u:OTHER" */
#define SPACE_SUB  "push.sub"  /* whose a subscription is */
#define SPACE_KEY  "push.key"

enum {
	MEMBERS_PAGE = 256,
	MENTIONS_MAX = 100,
	JOBS_PER_USER = 500,
	AUDIENCES = 8,
	EXCERPT_CHARS = 200,
	JOB_KEY = 2 * CHATD_ID_MAX + 8,
};

enum result {
	DELIVERED,
	GONE,      /* the subscription is no more */
	REFUSED,   /* for good */
	RETRIED,   /* it will be tried again */
	GIVEN_UP,  /* after the last try */
	CAME_BACK, /* nothing to tell any more: present, or read */
	QUIET,     /* later: quiet hours */
	FULL,      /* too many wait */
	RESULTS,
};

struct conf {
	const char *vapid_key, *subject, *webhook_url, *webhook_secret;
	const char *const *hosts;
	int64_t grace, recent, interval, ttl, queue, concurrency, tries, retry;
	int32_t text;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *fetch, *http, *presence, *log, *stats, *privacy;
	uint32_t counters[RESULTS];
	atomic_llong waiting; /* jobs that this node has put and not seen end */
	atomic_int hinted;
	struct chatd_open open; /* what waits for an answer */
};

struct token {
	char audience[300], text[TOKEN_MAX];
	int64_t expires; /* wall-clock ms */
};

struct sender;

struct wself {
	struct self *self;
	chatd_worker *w;
	int32_t drains; /* nothing more is begun */
	int32_t stopped;
	struct vapid vapid;
	struct chatd_timer key_timer;
	struct token tokens[AUDIENCES];
	size_t next_token;
	struct news *news;
	struct sender *sender; /* on one worker */
};

static inline const struct chatd_store *store_of(const struct self *self)
{
	return self->store->vt;
}

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static inline struct chatd_store_record_key key_of_record(
		const struct self *self, const char *space, const char *key)
{
	return (struct chatd_store_record_key){ .struct_size = sizeof(struct chatd_store_record_key),
		.space = text(space),
		.key = text(key),
		.wall = self->h->wall_ms() };
}

/* push.c */
void count(struct wself *, enum result);
void job_key(const char *user, const struct place *, char ret[JOB_KEY]);
/** It is in the user's book no more: nobody's, unless it is somebody else's by now. */
void sub_release(const struct self *, chatd_worker *, const char *user, const char *id);

/* keys.c: [worker] */
void keys_start(struct wself *);
void keys_stop(struct wself *);
/** The Authorization of a request there; NULL: it cannot be made now. */
const char *keys_token(struct wself *, const char *audience);

/* news.c */
void news_row(void *self, chatd_worker *, const struct chatd_store_message *);
void news_stop(struct wself *);

/* leave.c */
void leave_event(void *self, chatd_worker *, struct chatd_str user, int32_t online);

/* queue.c */
/** The user, who is absent, is told later, once. */
void queue_put(struct wself *, const char *user, const struct place *);
chatd_status queue_start(struct wself *);
void queue_drain(struct wself *);
void queue_stop(struct wself *);
void queue_due(struct wself *, int64_t at); /**< a job was put off until then */
void queue_freed(struct wself *);           /**< a job has ended: there is room for another */

/* job.c */
struct job;
TAILQ_HEAD(jobs, job);
/** [worker: the sender] Of a claimed record. */
void job_start(struct wself *, struct jobs *, const struct chatd_store_record *);
void jobs_stop(struct jobs *);

/* send.c: [worker: the sender] one push to one subscription */
struct push {
	struct wself *ws;
	const json_t *sub;
	struct chatd_str plain; /* JSON */
	const char *topic;
	int32_t urgent;
};
/** An error at once means: never fn.  -EINVAL: it can never be sent. */
chatd_status send_push(const struct push *, chatd_fetch_fn *fn, void *arg);

/* rest.c */
chatd_status rest_init(struct self *);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat_rig.h
 * @brief core/chat on real workers, with clients in the place of codecs.
 *
 * Everything here is called on the test's thread and waits at most RIG_PATIENCE for the
 * workers; whoever waits in vain fails the test.
 */
#ifndef CHAT_RIG_H
#define CHAT_RIG_H

#include "chat/chat.h"
#include "chat/dest.h"
#include "loop/worker.h"

#include <pthread.h>

enum { RIG_PATIENCE = 20, RIG_BODY = 32, RIG_WORKERS = 8 };

struct rig {
	struct loop *loop;
	struct chat *chat;
	int32_t n;
	int64_t timeout_ms; /**< of hooks that are registered from now on; at first 10 s */
	void *wself[RIG_WORKERS];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct rig_client *clients;
};

struct rig_got {
	char sub[RIG_BODY], body[RIG_BODY], ack[RIG_BODY], id[37], redelivered;
};

struct rig_client {
	struct rig *r;
	struct rig_client *next;
	chatd_worker *w;
	chatd_session *s; /* of the worker */
	int32_t leaves;   /* it unsubscribes inside send(), from whatever it is sent next */
	/* under r->lock */
	int done, closed, code;
	chatd_verdict verdict;
	char err[64], why[512], reply[64];
	struct rig_got *got;
	size_t n_got, cap;
};

struct rig *rig_create(int workers);
/** @p on_error 0 reject, 1 continue. */
void rig_hook(struct rig *, uint32_t hook, chatd_hook_fn *fn, void *self, int32_t on_error);
void rig_app(struct rig *, const char *name, chatd_hook_fn *fn, void *self);
void rig_prefix(struct rig *, const char *prefix, int32_t kind, int64_t max);
void rig_start(struct rig *);
void rig_destroy(struct rig *); /**< closes the sessions that are left */

/** Run @p fn on a worker and wait for its end. */
void rig_on(struct rig *, int32_t worker, void (*fn)(void *arg), void *arg);
/** Everything that has been posted so far, and what that posted, has run. */
void rig_settle(struct rig *);

struct rig_client *rig_open(struct rig *, int32_t worker, const char *user);
void rig_login(struct rig_client *, const char *header, const char *value);
struct rig_client *rig_connect(struct rig *, int32_t worker);           /**< not logged in yet */
void rig_send(struct rig_client *, const char *dest, const char *body); /**< does not wait */
void rig_subscribe(struct rig_client *, const char *dest, int32_t ack); /**< id = dest; waits */
void rig_subscribe_later(struct rig_client *, const char *dest);        /**< does not wait */
int rig_unsubscribe(struct rig_client *, const char *dest);
int rig_ack(struct rig_client *, const char *id, const char *sub, int ack1_nack0);
void rig_close(struct rig_client *); /**< the codec's close() */
/** Wait for the @p n-th answer since the client was opened. */
void rig_answer(struct rig_client *, int n);
void rig_got(struct rig_client *, size_t n); /**< wait until @p n messages have come */
void rig_closed(struct rig_client *, int code);
size_t rig_count(struct rig_client *);

#endif

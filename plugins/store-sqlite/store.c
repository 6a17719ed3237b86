/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life and its queues; the service that puts calls into them. */
#include "store.h"

#include <chatd-sdk/thread.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void queue_init(struct queue *q)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->more, &attr);
	pthread_condattr_destroy(&attr);
	STAILQ_INIT(&q->ops);
	q->wanted = 1;
}

static void queue_finish(struct queue *q)
{
	struct op *op;
	while ((op = STAILQ_FIRST(&q->ops))) {
		STAILQ_REMOVE_HEAD(&q->ops, link);
		op_destroy(op);
	}
	pthread_cond_destroy(&q->more);
	pthread_mutex_destroy(&q->lock);
}

/* ---- the service ------------------------------------------------------------- */

static struct asker *asker_of(struct engine *e, chatd_worker *w)
{
	return &e->askers[e->h->worker_index(w)];
}

static chatd_status enqueue(struct engine *e, struct op *op)
{
	struct asker *from = asker_of(e, op->w);
	int writes = op_writes(op) || e->n_readers == 0;
	struct queue *q = writes ? &e->writes : &e->reads;
	chatd_status rc = 0;
	int wake = 0;
	pthread_mutex_lock(&q->lock);
	if (e->stopping || atomic_load(&from->left)) {
		rc = -ESHUTDOWN;
	} else if (q->bytes + op->size > QUEUE_MAX) {
		rc = -EAGAIN;
	} else {
		STAILQ_INSERT_TAIL(&q->ops, op, link);
		atomic_fetch_add(&from->open, 1);
		q->bytes += op->size;
		wake = ++q->n >= q->wanted;
		if (writes) {
			TAILQ_INSERT_TAIL(&e->waiting, op, wait);
		}
	}
	if (wake) {
		pthread_cond_signal(&q->more);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static chatd_status submit(
		struct engine *e, enum call call, const void *req, const struct op_from *from)
{
	struct op *op;
	chatd_status rc = req && from->fn ? op_create(e, call, req, from, &op) : -EINVAL;
	if (rc < 0) {
		return rc;
	}
	rc = enqueue(e, op);
	if (rc < 0) {
		op_destroy(op);
	}
	return rc;
}

#define CHATD_X(name, request, writes)                                                     \
	static chatd_status svc_##name(                                                        \
			void *obj, chatd_worker *w, const request *req, chatd_store_fn *fn, void *arg) \
	{                                                                                      \
		struct op_from from = { w, fn, arg };                                              \
		return submit(obj, CALL_##name, req, &from);                                       \
	}
CHATD_STORE_MAP(CHATD_X)
CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X

static int32_t svc_state(void *obj)
{
	struct engine *e = obj;
	int state = atomic_load(&e->state);
	return state == CHATD_STORE_OK && atomic_load(&e->stalled) ? CHATD_STORE_STALLED : state;
}

static int32_t svc_is_shared(void *obj)
{
	(void)obj;
	return BACK_IS_SHARED;
}

static int32_t svc_lasts(void *obj)
{
	const struct engine *e = obj;
	return back_lasts(&e->conf.back);
}

static const struct chatd_store vt = { .struct_size = sizeof(vt),
	.state = svc_state,
#define CHATD_X(name, request, writes) .name = svc_##name,
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
			.is_shared = svc_is_shared,
	.lasts = svc_lasts };

chatd_status engine_provide(struct engine *e)
{
	return e->h->provide(e->ctx, CHATD_STORE, &vt, e);
}

/* ---- life ------------------------------------------------------------------------ */

static chatd_status start_threads(struct engine *e)
{
	int rc = chatd_thread(&e->writer, "chatd-writer", writer_main, e);
	e->has_writer = rc == 0;
	if (rc == 0) {
		rc = chatd_thread(&e->watch, "chatd-late", watch_main, e);
		e->has_watch = rc == 0;
	}
	int n = (int)e->conf.readers;
	e->readers = n ? calloc((size_t)n, sizeof(*e->readers)) : NULL;
	if (n && !e->readers) {
		rc = -ENOMEM;
	}
	while (rc == 0 && e->n_readers < n) {
		rc = chatd_thread(&e->readers[e->n_readers], "chatd-reader", reader_main, e);
		e->n_readers += rc == 0;
	}
	return rc < 0 ? e->h->fail(e->ctx, rc, "no thread: %s", strerror(-rc)) : 0;
}

chatd_status engine_start(const struct chatd_host *h, chatd_ctx *ctx, const struct store_conf *conf,
		struct engine **ret)
{
	struct engine *e = h->mem_alloc(sizeof(*e));
	if (!e) {
		return -ENOMEM;
	}
	e->h = h;
	e->ctx = ctx;
	e->conf = *conf;
	e->askers = h->mem_alloc((size_t)h->worker_count() * sizeof(*e->askers));
	if (!e->askers) {
		h->mem_free(e);
		return -ENOMEM;
	}
	queue_init(&e->writes);
	queue_init(&e->reads);
	pthread_cond_init(&e->told, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->quit, &attr);
	pthread_condattr_destroy(&attr);
	TAILQ_INIT(&e->waiting);
	e->next_sweep = clock_ms();
	const struct chatd_service *cipher = h->service ? h->service(ctx, CHATD_CIPHER) : NULL;
	if (cipher) {
		e->cipher = cipher->vt;
		e->cipher_obj = cipher->obj;
		e->cipher->conf(cipher->obj, &e->cipher_conf);
	}
	chatd_status rc = reseal_start(e);
	rc = rc < 0 ? rc : back_start(e);
	rc = rc < 0 ? rc : start_threads(e);
	if (rc < 0) {
		engine_stop(e);
		return rc;
	}
	*ret = e;
	return 0;
}

void engine_leave(struct engine *e, chatd_worker *w)
{
	struct asker *a = asker_of(e, w);
	atomic_store(&a->left, 1);
	atomic_fetch_add(&e->leaving, 1);
	pthread_mutex_lock(&e->reads.lock);
	while (atomic_load(&a->open) > 0) {
		pthread_cond_wait(&e->told, &e->reads.lock);
	}
	pthread_mutex_unlock(&e->reads.lock);
}

void asker_told(struct engine *e, chatd_worker *w, long n)
{
	struct asker *a = asker_of(e, w);
	atomic_fetch_sub(&a->open, n);
	if (atomic_load(&a->left)) {
		pthread_mutex_lock(&e->reads.lock);
		pthread_cond_broadcast(&e->told);
		pthread_mutex_unlock(&e->reads.lock);
	}
}

static void say_stop(struct engine *e)
{
	pthread_mutex_lock(&e->reads.lock);
	pthread_mutex_lock(&e->writes.lock);
	e->stopping = 1;
	pthread_cond_broadcast(&e->reads.more);
	pthread_cond_broadcast(&e->writes.more);
	pthread_cond_broadcast(&e->quit);
	pthread_mutex_unlock(&e->writes.lock);
	pthread_mutex_unlock(&e->reads.lock);
}

void engine_stop(struct engine *e)
{
	if (!e) {
		return;
	}
	say_stop(e);
	for (int i = 0; i < e->n_readers; i++) {
		pthread_join(e->readers[i], NULL);
	}
	if (e->has_watch) {
		pthread_join(e->watch, NULL);
	}
	if (e->has_writer) {
		pthread_join(e->writer, NULL);
	}
	back_stop(e);
	reseal_stop(e);
	queue_finish(&e->writes);
	queue_finish(&e->reads);
	pthread_cond_destroy(&e->quit);
	pthread_cond_destroy(&e->told);
	e->h->mem_free(e->askers);
	free(e->readers);
	e->h->mem_free(e);
}

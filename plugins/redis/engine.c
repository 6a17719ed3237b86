/* SPDX-License-Identifier: Apache-2.0 */
/* The thread, and how workers hand over commands and get answers back. */
#include "engine.h"
#include "op.h"

#include <chatd-sdk/thread.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Somebody in worker_start() or worker_stop() who waits for the answer. */
struct waiter {
	int done;
};

int64_t engine_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void engine_in(struct event *ev, int64_t ms)
{
	const struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	(void)evtimer_add(ev, &tv);
}

static void ring(int fd)
{
	const uint64_t one = 1;
	(void)!write(fd, &one, sizeof(one));
}

static void silence(int fd)
{
	uint64_t n;
	(void)!read(fd, &n, sizeof(n));
}

/* ---- to the workers ------------------------------------------------------------------------- */

void engine_done(struct engine *e, struct op *op)
{
	struct counts *c = &e->counts;
	if (op->rc < 0) {
		atomic_fetch_add_explicit(&c->failures, 1, memory_order_relaxed);
	}
	if (op->rc == -ETIMEDOUT) {
		atomic_fetch_add_explicit(&c->timeouts, 1, memory_order_relaxed);
	}
	atomic_fetch_sub(&e->pending, 1);
	pthread_mutex_lock(&e->lock);
	struct seat *seat = op->seat;
	if (op->waiter) {
		op->waiter->done = 1;
	} else {
		/* Others that are there have rung already. */
		int first = !seat->done;
		*seat->done_end = op;
		seat->done_end = &op->next;
		op->next = NULL;
		if (first) {
			ring(seat->fd);
		}
	}
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

void engine_set_up(struct engine *e, int32_t up)
{
	if (atomic_exchange(&e->up, up) == up) {
		return;
	}
	pthread_mutex_lock(&e->lock);
	atomic_fetch_add(&e->turns, 1);
	if (e->notices) {
		ring(e->notices->fd);
	}
	pthread_mutex_unlock(&e->lock);
}

void engine_settle(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->settled = 1;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

void engine_hear(struct engine *e, chatd_redis_heard *fn, void *arg, struct chatd_str payload)
{
	struct heard *h = calloc(1, sizeof(*h) + payload.n);
	if (!h) {
		return; /* as good as lost on its way; listeners look by themselves from time to time */
	}
	h->fn = fn;
	h->arg = arg;
	if (payload.p) {
		memcpy(h->text, payload.p, payload.n);
		h->payload = chatd_str_of(h->text, payload.n);
	}
	pthread_mutex_lock(&e->lock);
	if (e->notices) {
		*e->notices->heard_end = h;
		e->notices->heard_end = &h->next;
		ring(e->notices->fd);
		h = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	free(h);
}

/* ---- on a worker ---------------------------------------------------------------------------- */

/* What has changed since the watchers heard of it last, as 0, 1 or both. */
static void tell_watchers(struct seat *seat)
{
	struct engine *e = seat->e;
	int64_t turns = atomic_load(&e->turns);
	if (turns == seat->told) {
		return;
	}
	int was = (int)(seat->told & 1), is = (int)(turns & 1);
	seat->told = turns;
	for (size_t i = 0; i < e->n_watchers; i++) {
		const struct watcher *w = &e->watchers[i];
		if (was) {
			w->fn(w->arg, 0);
		}
		if (is) {
			w->fn(w->arg, 1);
		}
	}
}

static void hand_out(struct seat *seat, chatd_worker *w)
{
	struct engine *e = seat->e;
	pthread_mutex_lock(&e->lock);
	struct op *op = seat->done;
	struct heard *heard = seat->heard;
	for (const struct op *o = op; o; o = o->next) {
		seat->out--;
	}
	seat->done = NULL;
	seat->done_end = &seat->done;
	seat->heard = NULL;
	seat->heard_end = &seat->heard;
	pthread_mutex_unlock(&e->lock);
	while (op) {
		struct op *next = op->next;
		op->fn(op->arg, op->rc, op->raw && (op->rc == 0 || op->rc == -EPROTO) ? &op->reply : NULL);
		op_destroy(op);
		op = next;
	}
	while (heard) {
		struct heard *next = heard->next;
		if (w) {
			heard->fn(heard->arg, w, heard->payload);
		}
		free(heard);
		heard = next;
	}
}

static void on_rung(void *arg, uint32_t ready)
{
	struct seat *seat = arg;
	(void)ready;
	silence(seat->fd);
	hand_out(seat, seat->w);
	if (seat->e->notices == seat) {
		tell_watchers(seat);
	}
}

chatd_status engine_sit(struct engine *e, chatd_worker *w, struct seat *seat)
{
	*seat = (struct seat){ .e = e, .w = w, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	seat->done_end = &seat->done;
	seat->heard_end = &seat->heard;
	if (seat->fd < 0) {
		chatd_status rc = -errno;
		seat->e = NULL;
		return rc;
	}
	seat->watch = e->h->watch_fd(w, seat->fd, 1, on_rung, seat);
	if (!seat->watch) {
		return -ENOMEM;
	}
	if (e->h->worker_index(w) == 0) {
		pthread_mutex_lock(&e->lock);
		e->notices = seat;
		pthread_mutex_unlock(&e->lock);
		ring(seat->fd);
	}
	return 0;
}

void engine_rise(struct seat *seat)
{
	struct engine *e = seat->e;
	if (!e) {
		return;
	}
	pthread_mutex_lock(&e->lock);
	seat->stopping = 1;
	if (e->notices == seat) {
		e->notices = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	for (;;) {
		hand_out(seat, NULL);
		pthread_mutex_lock(&e->lock);
		/* No longer than the deadlines of what is under way. */
		while (seat->out > 0 && !seat->done) {
			pthread_cond_wait(&e->changed, &e->lock);
		}
		size_t left = seat->out;
		pthread_mutex_unlock(&e->lock);
		if (left == 0) {
			break;
		}
	}
	e->h->unwatch(seat->watch);
	close(seat->fd);
	seat->e = NULL;
}

static struct op *make_op(struct engine *e, const struct chatd_redis_command *c)
{
	const char *sha = c->script ? e->scripts[c->script - 1].sha : NULL;
	struct op *op = op_create(c, sha);
	if (op) {
		op->deadline = engine_now() + e->conf->command_timeout;
	}
	return op;
}

static void put(struct engine *e, struct op *op)
{
	int first = e->inbox == NULL;
	op->next = NULL;
	*e->in_end = op;
	e->in_end = &op->next;
	if (first) {
		ring(e->wake_fd);
	}
}

/* A place among those that may wait; 0: there is none. */
static int reserve(struct engine *e)
{
	if (atomic_load(&e->up)) {
		if (atomic_fetch_add(&e->pending, 1) < e->conf->max_pending) {
			return 1;
		}
		atomic_fetch_sub(&e->pending, 1);
	}
	atomic_fetch_add_explicit(&e->counts.refused, 1, memory_order_relaxed);
	return 0;
}

static chatd_status wait_for(
		struct engine *e, const struct chatd_redis_command *c, chatd_redis_fn *fn, void *arg)
{
	struct waiter waiter = { 0 };
	pthread_mutex_lock(&e->lock);
	while (!e->settled) {
		pthread_cond_wait(&e->changed, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	if (!reserve(e)) {
		return -EAGAIN;
	}
	struct op *op = make_op(e, c);
	if (!op) {
		atomic_fetch_sub(&e->pending, 1);
		return -ENOMEM;
	}
	op->waiter = &waiter;
	pthread_mutex_lock(&e->lock);
	put(e, op);
	while (!waiter.done) {
		pthread_cond_wait(&e->changed, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	fn(arg, op->rc, op->raw && (op->rc == 0 || op->rc == -EPROTO) ? &op->reply : NULL);
	op_destroy(op);
	return 0;
}

chatd_status engine_submit(struct engine *e, struct seat *seat, const struct chatd_redis_command *c,
		chatd_redis_fn *fn, void *arg)
{
	if (c->n + c->script == 0 || c->script > e->n_scripts || c->n_keys > c->n) {
		return -EINVAL;
	}
	if (!seat) {
		return wait_for(e, c, fn, arg);
	}
	if (!seat->e || !reserve(e)) {
		return -EAGAIN;
	}
	struct op *op = make_op(e, c);
	if (!op) {
		atomic_fetch_sub(&e->pending, 1);
		return -ENOMEM;
	}
	op->seat = seat;
	op->fn = fn;
	op->arg = arg;
	pthread_mutex_lock(&e->lock);
	if (seat->stopping) {
		pthread_mutex_unlock(&e->lock);
		atomic_fetch_sub(&e->pending, 1);
		op_destroy(op);
		return -EAGAIN;
	}
	seat->out++;
	put(e, op);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

chatd_status engine_subscribe(
		struct engine *e, struct chatd_str channel, chatd_redis_heard *fn, void *arg)
{
	struct listen *l = channel.n < CHANNEL_MAX ? calloc(1, sizeof(*l)) : NULL;
	if (!l) {
		return channel.n < CHANNEL_MAX ? -ENOMEM : -EINVAL;
	}
	memcpy(l->channel, channel.p, channel.n);
	l->fn = fn;
	l->arg = arg;
	pthread_mutex_lock(&e->lock);
	l->next = e->wanted;
	e->wanted = l;
	pthread_mutex_unlock(&e->lock);
	ring(e->wake_fd);
	return 0;
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct engine *e = arg;
	(void)what;
	silence(fd);
	pthread_mutex_lock(&e->lock);
	struct op *list = e->inbox;
	struct listen *wanted = e->wanted;
	int stopping = e->stopping;
	e->inbox = NULL;
	e->in_end = &e->inbox;
	e->wanted = NULL;
	pthread_mutex_unlock(&e->lock);
	while (wanted) {
		struct listen *next = wanted->next;
		pubsub_add(e->pubsub, wanted);
		wanted = next;
	}
	link_take(e->link, list);
	if (stopping) {
		event_base_loopbreak(e->base);
	}
}

static void *run(void *arg)
{
	struct engine *e = arg;
	link_begin(e->link);
	event_base_dispatch(e->base);
	return NULL;
}

static chatd_status make_parts(struct engine *e)
{
	e->base = event_base_new();
	if (!e->base) {
		return -ENOMEM;
	}
	/* Without a resolver names are looked up by the C library, on this thread alone. */
	e->dns = evdns_base_new(
			e->base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->wake = event_new(e->base, e->wake_fd, EV_READ | EV_PERSIST, on_wake, e);
	e->link = link_create(e);
	e->pubsub = pubsub_create(e);
	e->sentinel = sentinel_create(e);
	if (e->wake_fd < 0 || !e->wake || event_add(e->wake, NULL) != 0 || !e->link || !e->pubsub ||
			!e->sentinel) {
		return -ENOMEM;
	}
	return 0;
}

chatd_status engine_start(struct engine *e)
{
	chatd_status rc = make_parts(e);
	if (rc < 0) {
		return e->h->fail(e->ctx, rc, "the thread that talks to Redis has no memory");
	}
	rc = chatd_thread(&e->thread, "chatd-redis", run, e);
	if (rc < 0) {
		return e->h->fail(
				e->ctx, rc, "the thread that talks to Redis cannot be started: %s", strerror(-rc));
	}
	e->started = 1;
	return 0;
}

struct engine *engine_create(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	struct engine *e = h->mem_alloc(sizeof(*e));
	if (e) {
		e->h = h;
		e->ctx = ctx;
		e->conf = conf;
		atomic_init(&e->password, conf->password);
		atomic_init(&e->sentinel_password, conf->sentinel_password);
		e->wake_fd = -1;
		e->in_end = &e->inbox;
		pthread_mutex_init(&e->lock, NULL);
		pthread_cond_init(&e->changed, NULL);
	}
	return e;
}

void engine_destroy(struct engine *e)
{
	if (!e) {
		return;
	}
	if (e->started) {
		pthread_mutex_lock(&e->lock);
		e->stopping = 1;
		pthread_mutex_unlock(&e->lock);
		ring(e->wake_fd);
		pthread_join(e->thread, NULL);
	}
	sentinel_destroy(e->sentinel);
	pubsub_destroy(e->pubsub);
	link_destroy(e->link);
	if (e->wake) {
		event_free(e->wake);
	}
	if (e->wake_fd >= 0) {
		close(e->wake_fd);
	}
	if (e->dns) {
		evdns_base_free(e->dns, 0);
	}
	if (e->base) {
		event_base_free(e->base);
	}
	SSL_CTX_free(e->tls);
	e->h->mem_free(e->addresses);
	e->h->mem_free(e->sentinels);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	e->h->mem_free(e);
}

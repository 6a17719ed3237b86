/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_lws.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEPT_MAX = 1024 * 1024, /* a user that leaves more unread is ended */
	SWEEP_MS = 1000,
	FLUSH_MS = 30000, /* for what is left when the user is done */
};

static const struct chatd_host *host_of(const struct exchange *x)
{
	return x->w->http.http->host;
}

static struct exchange *own(const chatd_stream *s)
{
	return (struct exchange *)(void *)(uintptr_t)s; /* base is its first member */
}

/* ---- life ------------------------------------------------------------------------------ */

struct exchange *exchange_create(struct link *l, struct lws *wsi)
{
	struct exchange *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->base.ops = &exchange_ops;
	x->w = l->w;
	x->link = l;
	x->wsi = wsi;
	x->flowing = true;
	link_unwatch(l);
	link_busy(l);
	return x;
}

static void unlist(struct exchange *x)
{
	struct exchange **at = &x->w->dirty;
	while (x->is_dirty && *at != x)
		at = &(*at)->dirty_next;
	if (x->is_dirty)
		*at = x->dirty_next;
	at = &x->w->slow;
	while (x->is_slow && *at != x)
		at = &(*at)->slow_next;
	if (x->is_slow)
		*at = x->slow_next;
	x->is_dirty = x->is_slow = false;
}

static void free_if_over(struct exchange *x)
{
	if (x->busy > 0 || !x->closed || x->wsi)
		return;
	const struct chatd_host *h = host_of(x);
	unlist(x);
	queue_clear(h, &x->queue);
	h->buf_unref(x->head);
	h->buf_unref(x->writing);
	free(x->kept);
	free(x);
}

/* Neither side may come back to the other. */
static void part(struct exchange *x)
{
	struct link *l = x->link;
	if (!x->wsi)
		return;
	if (x->h2)
		lws_set_opaque_user_data(x->wsi, NULL);
	else if (l->x == x)
		l->x = NULL;
	x->wsi = NULL;
	link_idle(l);
}

void exchange_detach(struct exchange *x)
{
	part(x);
	free_if_over(x);
}

void exchange_gone(struct exchange *x, int32_t why)
{
	const struct chatd_stream_user *user = x->user;
	x->busy++;
	part(x);
	x->user = NULL;
	x->closed = true;
	if (user)
		user->gone(x->arg, why);
	x->busy--;
	free_if_over(x);
}

/* Ends it with a reset; the user knows. */
static void cut(struct exchange *x)
{
	struct link *l = x->link;
	struct lws_worker *w = x->w;
	struct lws *wsi = x->wsi;
	bool h2 = x->h2;
	x->closed = true;
	x->user = NULL;
	exchange_detach(x);
	if (!wsi)
		return;
	if (h2) {
		lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
		pump_kick(&w->pump);
	} else {
		link_kill(l);
	}
}

static void end(struct exchange *x, int32_t why)
{
	const struct chatd_stream_user *user = x->user;
	void *arg = x->arg;
	cut(x);
	if (user)
		user->gone(arg, why);
}

/* ---- later ------------------------------------------------------------------------------ */

static void show(struct exchange *x)
{
	char *kept = x->kept;
	size_t n = x->kept_n;
	x->show = false;
	if (x->paused || !x->user || n == 0)
		return;
	x->kept = NULL;
	x->kept_n = 0;
	exchange_feed(x, kept, n);
	free(kept);
}

/* Writing at once saves a turn through the kernel, but only libwebsockets' own callback may
 * end what it has. */
static void look_after(struct exchange *x)
{
	x->busy++;
	if (x->show)
		show(x);
	if (x->wsi && out_direct(x) && x->queue.bytes > 0 && out_flush(x) < 0)
		end(x, CHATD_END_ERROR);
	if (x->wsi && (x->failed || (x->max_queue && x->queue.bytes > x->max_queue)))
		end(x, CHATD_END_SLOW);
	if (x->wsi) {
		exchange_flow(x);
		if (x->closed || x->queue.bytes > 0 || x->head)
			lws_callback_on_writable(x->wsi);
		else if (x->user && CHATD_HAS(x->user, drained) && out_direct(x))
			x->user->drained(x->arg);
	}
	x->busy--;
	free_if_over(x);
}

void exchange_look_after_all(struct lws_worker *w)
{
	struct exchange *list = w->dirty;
	/* What becomes dirty meanwhile has its turn in the next one. */
	w->dirty = NULL;
	for (struct exchange *x = list; x; x = x->dirty_next)
		x->busy++;
	while (list) {
		struct exchange *x = list;
		list = x->dirty_next;
		x->is_dirty = false;
		x->busy--;
		look_after(x);
	}
	if (w->pumping)
		pump_run(&w->pump);
}

static void on_dirty(void *arg)
{
	exchange_look_after_all(arg);
}

void exchange_touch(struct exchange *x)
{
	if (x->is_dirty)
		return;
	x->is_dirty = true;
	x->dirty_next = x->w->dirty;
	x->w->dirty = x;
	host_of(x)->timer_set(x->w->http.worker, &x->w->dirty_timer, 0, on_dirty, x->w);
}

static void on_sweep(void *arg)
{
	struct lws_worker *w = arg;
	int64_t now = w->http.http->host->now_ms(w->http.worker);
	struct exchange *list = w->slow;
	w->slow = NULL;
	for (struct exchange *x = list; x; x = x->slow_next)
		x->busy++;
	while (list) {
		struct exchange *x = list;
		list = x->slow_next;
		x->is_slow = false;
		x->busy--;
		int64_t limit = x->closed && x->stall_ms == 0 ? FLUSH_MS : x->stall_ms;
		if (!x->wsi || out_empty(x)) {
			free_if_over(x);
			continue;
		}
		if (limit > 0 && now - x->progress >= limit) {
			end(x, CHATD_END_SLOW);
			continue;
		}
		x->is_slow = true;
		x->slow_next = w->slow;
		w->slow = x;
	}
	if (w->slow)
		w->http.http->host->timer_set(w->http.worker, &w->slow_timer, SWEEP_MS, on_sweep, w);
}

static void watch_progress(struct exchange *x)
{
	if (x->is_slow || !x->wsi || out_empty(x))
		return;
	x->progress = host_of(x)->now_ms(x->w->http.worker);
	if (!x->w->slow)
		host_of(x)->timer_set(x->w->http.worker, &x->w->slow_timer, SWEEP_MS, on_sweep, x->w);
	x->is_slow = true;
	x->slow_next = x->w->slow;
	x->w->slow = x;
}

/* ---- what comes in ---------------------------------------------------------------------- */

static void keep(struct exchange *x, const char *p, size_t n)
{
	char *kept = x->kept_n + n <= KEPT_MAX ? realloc(x->kept, x->kept_n + n) : NULL;
	if (!kept) {
		end(x, CHATD_END_ERROR);
		return;
	}
	memcpy(kept + x->kept_n, p, n);
	x->kept = kept;
	x->kept_n += n;
}

void exchange_feed(struct exchange *x, const char *p, size_t n)
{
	size_t used = 0;
	x->busy++;
	if (x->user && !x->paused && x->kept_n == 0)
		used = x->user->data(x->arg, p, n);
	if (x->user && used < n)
		keep(x, p + used, n - used);
	x->busy--;
	if (x->wsi)
		exchange_flow(x);
}

void exchange_ask(struct exchange *x, const char *text, size_t n)
{
	struct http *http = x->w->http.http;
	conn_accepted(http, x->w->http.worker, &x->base);
	exchange_feed(x, text, n);
}

/* Nothing is read while the user does not want it, nor between a request and its answer, where
 * libwebsockets would be told of readable bytes over and over and leave them.  But in HTTP/1.1 it
 * does not write either what is stopped so: what waits to be written comes first. */
void exchange_flow(struct exchange *x)
{
	bool reads = !x->paused && x->kept_n == 0 && !x->closed && (x->upgraded || !x->body_whole);
	bool writes = x->closed || x->queue.bytes > 0 || lws_partial_buffered(x->wsi);
	bool flows = reads || (writes && !x->upgraded);
	if (flows == x->flowing || x->h2)
		return;
	x->flowing = flows;
	lws_rx_flow_control(x->wsi, flows);
}

/* ---- the end of an answer --------------------------------------------------------------- */

static int finish(struct exchange *x)
{
	struct link *l = x->link;
	struct lws *wsi = x->wsi;
	bool h2 = x->h2;
	bool goes_on = x->keep && x->body_whole && !x->upgraded && !l->w->http.draining;
	exchange_detach(x);
	if (h2)
		return lws_http_transaction_completed(wsi) ? -1 : 0;
	if (!goes_on) {
		link_linger(l);
		return 0;
	}
	lws_rx_flow_control(wsi, 1);
	return lws_http_transaction_completed(wsi) ? -1 : 0;
}

int exchange_run(struct exchange *x)
{
	struct link *l = x->link;
	if (!x->wsi) {
		int rc = !x->h2 && l->state == LINK_LINGER ? 0 : -1;
		free_if_over(x);
		return rc;
	}
	x->busy++;
	bool waited = !out_empty(x);
	int rc = out_flush(x);
	if (rc == 0 && waited && out_empty(x) && x->user && CHATD_HAS(x->user, drained)) {
		x->user->drained(x->arg);
		rc = x->wsi ? out_flush(x) : 0;
	}
	x->busy--;
	if (!x->wsi) {
		free_if_over(x);
		return -1;
	}
	if (rc < 0) {
		end(x, CHATD_END_ERROR);
		return -1;
	}
	if (x->closed && out_empty(x) && x->left == 0 && !x->body_whole)
		return 0; /* the end of the body is told next */
	if (x->closed && out_empty(x))
		return finish(x);
	exchange_flow(x);
	watch_progress(x);
	if (x->queue.bytes > 0 || x->head || (x->closed && !lws_partial_buffered(x->wsi)))
		lws_callback_on_writable(x->wsi);
	if (!x->h2 && !x->upgraded && x->body_whole && !x->closed)
		link_watch(l);
	return 0;
}

/* ---- operations --------------------------------------------------------------------------- */

bool exchange_may_upgrade(const chatd_stream *s)
{
	return s->ops == &exchange_ops && own(s)->offered;
}

static void s_attach(chatd_stream *s, const struct chatd_stream_user *user, void *arg)
{
	struct exchange *x = own(s);
	if (x->closed)
		return;
	x->user = user;
	x->arg = arg;
	if (x->kept_n) {
		x->show = true;
		exchange_touch(x);
	}
}

/* libwebsockets 4.1.6 keeps pongs without a payload to itself, so a ping that is answered by
 * one would seem unanswered: it gets a payload. */
static chatd_buf *heard_ping(struct exchange *x, chatd_buf *buf)
{
	static const char empty[] = { '\x89', 0 }, full[] = { '\x89', 1, 'p' };
	const struct chatd_host *h = host_of(x);
	struct lws_worker *w = x->w;
	if (!x->upgraded || h->buf_len(buf) != 2 || memcmp(h->buf_data(buf), empty, 2) != 0)
		return buf;
	if (!w->ping && (w->ping = h->buf_new(0, sizeof(full))))
		memcpy(h->buf_data(w->ping), full, sizeof(full));
	return w->ping ? w->ping : buf;
}

static size_t s_send(chatd_stream *s, chatd_buf *buf)
{
	struct exchange *x = own(s);
	if (x->closed || !x->wsi)
		return 0;
	buf = heard_ping(x, buf);
	if (!x->upgraded && !x->head_seen)
		out_head(x, buf);
	else
		out_push(x, buf, 0);
	exchange_touch(x);
	return x->queue.bytes;
}

static void s_pause(chatd_stream *s, int32_t on)
{
	struct exchange *x = own(s);
	if (x->closed || x->paused == (on != 0))
		return;
	x->paused = on != 0;
	x->show = !x->paused && x->kept_n > 0;
	exchange_touch(x);
}

static void s_close(chatd_stream *s)
{
	struct exchange *x = own(s);
	x->user = NULL;
	x->closed = true;
	x->show = false;
	exchange_touch(x);
}

static void s_reset(chatd_stream *s)
{
	cut(own(s));
}

static size_t s_queued(const chatd_stream *s)
{
	return own(s)->queue.bytes;
}

static void s_limits(chatd_stream *s, size_t max_queue, int64_t stall_ms)
{
	own(s)->max_queue = max_queue;
	own(s)->stall_ms = stall_ms;
}

static struct chatd_str s_peer(const chatd_stream *s)
{
	return link_peer(own(s)->link);
}

static int32_t s_is_tls(const chatd_stream *s)
{
	return own(s)->link->tls;
}

static chatd_status s_cred(const chatd_stream *s, uint32_t *uid, int32_t *pid)
{
	(void)s;
	(void)uid;
	(void)pid;
	return -ENOTSUP;
}

const struct chatd_stream_ops exchange_ops = {
	.struct_size = sizeof(exchange_ops),
	.attach = s_attach,
	.send = s_send,
	.pause = s_pause,
	.close = s_close,
	.reset = s_reset,
	.queued = s_queued,
	.limits = s_limits,
	.peer = s_peer,
	.is_tls = s_is_tls,
	.peer_cred = s_cred,
};

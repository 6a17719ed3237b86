/* SPDX-License-Identifier: Apache-2.0 */
/* A request on its way through the helper. */
#include "fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The helper keeps the time; if it does not, this much later it is thought to hang. */
enum { LATE_MS = 2000 };

static int header_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < ' ' && c != '\t') || c == 0x7f) {
			return 0;
		}
	}
	return s.n > 0 && s.n < WIRE_HEADER_MAX && memchr(s.p, ':', s.n) && s.p[0] != ':';
}

static int method_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 'A' || s.p[i] > 'Z') {
			return 0;
		}
	}
	return s.n > 0 && s.n < 16;
}

static int request_ok(const struct chatd_fetch_request *q)
{
	for (size_t i = 0; i < q->n_headers; i++) {
		if (i == CHATD_FETCH_HEADERS_MAX || !header_ok(q->headers[i])) {
			return 0;
		}
	}
	return method_ok(q->method) && q->body.n <= CHATD_FETCH_BODY_MAX &&
			q->max_answer <= WIRE_ANSWER_BODY_MAX && q->timeout <= INT32_MAX;
}

static struct chatd_str frame_of(const struct call *c, const struct chatd_fetch_request *q)
{
	struct wire_ask a = { .id = c->id,
		.flags = q->flags,
		.timeout = (uint32_t)c->timeout,
		.max_answer = (uint32_t)c->max,
		.method = q->method,
		.url = q->url,
		.body = q->body,
		.n_headers = q->n_headers };
	if (q->n_headers) {
		memcpy(a.headers, q->headers, q->n_headers * sizeof(a.headers[0]));
	}
	return wire_ask_make(&a);
}

/* ---- ending one ---------------------------------------------------------------------------- */

static void finish(struct call *c, chatd_status rc, const struct chatd_fetch_answer *a)
{
	struct wself *ws = c->ws;
	const struct chatd_host *h = ws->self->h;
	HASH_DEL(ws->by_id, c);
	if (c->is_sent) {
		TAILQ_REMOVE(&ws->sent, c, link);
	} else {
		TAILQ_REMOVE(&ws->waiting, c, link);
	}
	h->timer_clear(&c->timer);
	ws->n--;
	atomic_fetch_sub(&ws->self->under_way, 1);
	count(ws, rc);
	c->fn(c->arg, rc, a);
	free((void *)(uintptr_t)c->frame.p);
	h->mem_free(c);
}

void call_fail(struct call *c, chatd_status rc, const char *why)
{
	const struct chatd_fetch_answer a = { .struct_size = sizeof(a),
		.why = chatd_str_of(why, strlen(why)) };
	finish(c, rc, &a);
}

void call_answer(struct call *c, const struct wire_answer *w, const char *texts)
{
	const char *why = texts + w->n_type;
	const struct chatd_fetch_answer a = { .struct_size = sizeof(a),
		.status = w->status,
		.type = { texts, w->n_type },
		.retry_after = w->retry_after,
		.why = { why, w->n_why },
		.body = { why + w->n_why, w->n_body } };
	finish(c, w->rc, &a);
}

struct call *call_find(struct wself *ws, uint64_t id)
{
	struct call *c;
	HASH_FIND(hh, ws->by_id, &id, sizeof(id), c);
	return c;
}

/* Whoever is answered may ask again, so each is taken from the front of what there was. */
void calls_end(struct wself *ws, chatd_status rc, const char *why)
{
	struct call *c;
	while ((c = TAILQ_FIRST(&ws->sent)) || (c = TAILQ_FIRST(&ws->waiting))) {
		call_fail(c, rc, why);
	}
}

size_t calls_lost(struct wself *ws)
{
	struct call *c = TAILQ_FIRST(&ws->waiting);
	size_t n = 0;
	if (c && c->at > 0) {
		call_is_sent(c);
	}
	for (; (c = TAILQ_FIRST(&ws->sent)); n++) {
		call_fail(c, -ECONNRESET, "the process that asks for the server has ended; try again");
	}
	return n;
}

/* ---- its time -------------------------------------------------------------------------------- */

/* Its answer may be here already, when it is this worker that was late. */
static void on_late(void *arg)
{
	struct call *c = arg;
	struct wself *ws = c->ws;
	uint64_t id = c->id;
	channel_read(ws);
	c = call_find(ws, id);
	if (!c) {
		return;
	}
	int begun = c->at > 0;
	call_fail(c, -ETIMEDOUT,
			begun ? "the process that asks for the server does not answer"
				  : "the process that asks for the server does not run");
	if (begun && ws->state != DOWN) {
		keeper_end(ws, "it did not answer in time");
	}
}

void call_on_its_way(struct call *c)
{
	c->ws->self->h->timer_set(c->ws->w, &c->timer, c->timeout + LATE_MS, on_late, c);
}

void call_is_sent(struct call *c)
{
	TAILQ_REMOVE(&c->ws->waiting, c, link);
	TAILQ_INSERT_TAIL(&c->ws->sent, c, link);
	c->is_sent = 1;
	free((void *)(uintptr_t)c->frame.p);
	c->frame.p = NULL;
}

chatd_status call_start(
		struct wself *ws, const struct chatd_fetch_request *q, chatd_fetch_fn *fn, void *arg)
{
	const struct chatd_host *h = ws->self->h;
	struct call *c = request_ok(q) ? h->mem_alloc(sizeof(*c)) : NULL;
	if (!c) {
		return request_ok(q) ? -ENOMEM : -EINVAL;
	}
	c->ws = ws;
	c->id = ++ws->last_id;
	c->fn = fn;
	c->arg = arg;
	c->max = q->max_answer > 0 ? (size_t)q->max_answer : CHATD_FETCH_ANSWER;
	c->timeout = q->timeout > 0 ? q->timeout : ws->self->conf->request_timeout;
	c->frame = frame_of(c, q);
	if (!c->frame.p) {
		h->mem_free(c);
		return -ENOMEM;
	}
	HASH_ADD(hh, ws->by_id, id, sizeof(c->id), c);
	TAILQ_INSERT_TAIL(&ws->waiting, c, link);
	h->timer_set(ws->w, &c->timer, c->timeout, on_late, c);
	ws->n++;
	atomic_fetch_add(&ws->self->under_way, 1);
	if (ws->state == DOWN) {
		keeper_need(ws);
	} else {
		channel_send(ws);
	}
	return 0;
}

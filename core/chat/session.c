/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/session.h"

#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "chat/dest.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/session_impl.h"
#include "chat/slots.h"
#include "chat/stats.h"
#include "chat/users.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Sessions by index; the generation makes an old sid stale. */
struct place {
	chatd_session *session;
	uint32_t gen, next_free;
};

struct session_table {
	struct place *place;
	uint32_t n, free;
	struct wire_table *wires;
};

#define NO_PLACE UINT32_MAX /* no enum: those are ints */

enum { MAX_PLACES = 1 << 24 };

struct session_table *session_table_create(void)
{
	struct session_table *t = calloc(1, sizeof(*t));
	if (!t) {
		return NULL;
	}
	t->free = NO_PLACE;
	t->wires = wire_table_create();
	if (!t->wires) {
		free(t);
		return NULL;
	}
	return t;
}

void session_table_destroy(struct session_table *t)
{
	if (t) {
		wire_table_destroy(t->wires);
		free(t->place);
		free(t);
	}
}

struct wire_table *session_wires(struct chat_worker *cw)
{
	return cw->sessions->wires;
}

static int more_places(struct session_table *t)
{
	uint32_t n = t->n ? t->n * 2 : 64;
	if (n > MAX_PLACES) {
		return -ENOMEM;
	}
	struct place *more = realloc(t->place, n * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	t->place = more;
	for (uint32_t i = n; i-- > t->n;) {
		more[i] = (struct place){ .gen = 1, .next_free = t->free };
		t->free = i;
	}
	t->n = n;
	return 0;
}

static int enlist(struct chat_worker *cw, chatd_session *s)
{
	struct session_table *t = cw->sessions;
	if (t->free == NO_PLACE && more_places(t) < 0) {
		return -ENOMEM;
	}
	uint32_t i = t->free;
	t->free = t->place[i].next_free;
	t->place[i].session = s;
	s->sid = (uint64_t)(uint32_t)cw->index << 56 | (uint64_t)i << 32 | t->place[i].gen;
	atomic_fetch_add_explicit(&cw->n_sessions, 1, memory_order_relaxed);
	s->view = atomic_load_explicit(&cw->chat->view, memory_order_acquire);
	atomic_fetch_add_explicit(&s->view->sessions, 1, memory_order_relaxed);
	return 0;
}

int sessions_each(struct chat_worker *cw, int (*fn)(chatd_session *, void *arg), void *arg)
{
	int rc = 0;
	for (uint32_t i = 0; rc >= 0 && i < cw->sessions->n; i++) {
		chatd_session *s = cw->sessions->place[i].session;
		rc = s ? fn(s, arg) : 0;
	}
	return rc;
}

static void strike_off(struct chat_worker *cw, chatd_session *s)
{
	struct session_table *t = cw->sessions;
	uint32_t i = (uint32_t)(s->sid >> 32) & (MAX_PLACES - 1);
	t->place[i].session = NULL;
	t->place[i].gen = t->place[i].gen == UINT32_MAX ? 1 : t->place[i].gen + 1;
	t->place[i].next_free = t->free;
	t->free = i;
	atomic_fetch_sub_explicit(&cw->n_sessions, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&s->view->sessions, 1, memory_order_release);
}

chatd_session *session_find(chatd_worker *w, chatd_sid sid)
{
	struct chat_worker *cw = chat_at(w);
	uint32_t i = (uint32_t)(sid >> 32) & (MAX_PLACES - 1);
	if ((int32_t)(sid >> 56) != cw->index || i >= cw->sessions->n ||
			cw->sessions->place[i].gen != (uint32_t)sid) {
		return NULL;
	}
	return cw->sessions->place[i].session;
}

chatd_session *session_create(struct chat_worker *cw, const struct chatd_conn_ops *ops, void *conn,
		const struct chatd_layer *layer)
{
	chatd_session *s = calloc(1, sizeof(*s) + cw->chat->slot_bytes);
	unsigned char raw[SESSION_ID_LEN / 2];
	if (!s) {
		return NULL;
	}
	s->magic = SESSION_MAGIC;
	s->cw = cw;
	s->ops = ops;
	s->conn = conn;
	s->layer = layer;
	if (slots_begin(s) < 0 || enlist(cw, s) < 0) {
		slots_end(s);
		free(s);
		return NULL;
	}
	id_random(raw, sizeof(raw));
	id_hex(s->id, raw, sizeof(raw));
	return s;
}

/* ---- unacknowledged deliveries ----------------------------------------- */

uint64_t session_pend(chatd_session *s, struct sub *sub, chatd_msg *msg, uint64_t place)
{
	struct pending *p = malloc(sizeof(*p));
	if (!p) {
		return 0;
	}
	if (!s->pending_tail) {
		s->pending_tail = &s->pending;
	}
	*p = (struct pending){
		.number = ++s->deliveries, .sub = sub->serial, .place = place, .msg = msg_ref(msg)
	};
	*s->pending_tail = p;
	s->pending_tail = &p->next;
	s->n_pending++;
	if (s->n_pending > PENDING_MAX && s->pending->place) {
		/* Its queue gets everything back; others will take it. */
		if (s->n_pending == PENDING_MAX + 1) {
			session_close(s, 1008, "too many unacknowledged messages");
		}
	} else if (s->n_pending > PENDING_MAX) {
		/* A topic's deliveries need no ack: forget the oldest rather than grow. */
		struct pending *old = s->pending;
		s->pending = old->next;
		s->n_pending--;
		msg_unref(old->msg);
		free(old);
	}
	return p->number;
}

void session_settle(const chatd_session *s, const struct pending *p, int done)
{
	const struct dest_given g = {
		.msg = p->msg, .place = p->place, .session = s->sid, .serial = p->sub
	};
	dest_settle(s->cw, &g, done);
}

/* Takes the deliveries of one subscription (0: of all) back to their queues. */
static void give_back(chatd_session *s, uint32_t serial)
{
	struct pending **at = &s->pending;
	while (*at) {
		struct pending *p = *at;
		if (serial && p->sub != serial) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		s->n_pending--;
		session_settle(s, p, 0);
		msg_unref(p->msg);
		free(p);
	}
	s->pending_tail = at;
}

/* ---- subscriptions ----------------------------------------------------- */

struct sub *session_sub(chatd_session *s, uint32_t serial)
{
	struct sub *sub = s->subs;
	while (sub && (sub->serial != serial || sub->ack == SUB_ENDING)) {
		sub = sub->next;
	}
	return sub;
}

struct sub *session_sub_by_id(chatd_session *s, struct chatd_str id)
{
	struct sub *sub = s->subs;
	while (sub && (sub->ack == SUB_ENDING || !str_eq(sub->wire->id, id))) {
		sub = sub->next;
	}
	return sub;
}

void session_end_sub(struct sub *sub)
{
	chatd_session *s = sub->session;
	*sub->link = sub->next;
	if (sub->next) {
		sub->next->link = sub->link;
	}
	s->n_subs--;
	stat_add(s->cw, STAT_SUBSCRIPTIONS, -1);
	dest_unsubscribe(sub);
	if (s->pending) {
		give_back(s, sub->serial);
	}
	wire_put(session_wires(s->cw), sub->wire);
	if (sub->hold && session_is_open(s)) {
		hold_end(sub);
	} else {
		hold_destroy(sub->hold);
	}
	free(sub);
}

struct ending {
	chatd_worker *w;
	chatd_sid session;
	uint32_t serial;
};

static void end_now(void *arg)
{
	const struct ending *e = arg;
	chatd_session *s = session_find(e->w, e->session);
	struct sub *sub = s ? s->subs : NULL;
	while (sub && sub->serial != e->serial) {
		sub = sub->next;
	}
	if (sub) {
		session_end_sub(sub);
	}
	free(arg);
}

/* A transport may unsubscribe inside send(), under the feet of who goes through the subscribers. */
void session_end_sub_later(struct sub *sub)
{
	chatd_session *s = sub->session;
	struct ending *e = malloc(sizeof(*e));
	sub->ack = SUB_ENDING;
	if (!e) {
		return; /* it ends with the session */
	}
	*e = (struct ending){ session_worker(s), session_sid(s), sub->serial };
	if (worker_post(e->w, end_now, e) < 0) {
		free(e);
	}
}

void session_cut_sub(struct sub *sub)
{
	lost_note(&sub->session->lost, sub->wire->id);
	session_end_sub(sub);
}

/* ---- the end ----------------------------------------------------------- */

static void notified(chatd_call *c, void *arg)
{
	(void)c;
	(void)arg;
}

const struct chat_table *session_table(const chatd_session *s)
{
	return atomic_load_explicit(&s->view->table, memory_order_acquire);
}

const struct chain *session_chain(const chatd_session *s, int hook)
{
	return &session_table(s)->chains[hook];
}

static void announce_close(chatd_session *s)
{
	int heard = s->announced && chat_has(s->cw, chatd_hook_session_close);
	chatd_call *c = heard ? call_create(s->cw, s, s->ident, NULL) : NULL;
	if (c) {
		call_walk(c, session_chain(s, chatd_hook_session_close), NULL, notified, NULL);
	}
}

void session_destroy(chatd_session *s)
{
	if (s->state >= SESSION_OPEN) {
		stat_add(s->cw, STAT_SESSIONS, -1);
	}
	s->state = SESSION_NEW;
	while (s->calls) {
		call_abandon(s->calls);
	}
	announce_close(s);
	users_remove(s);
	renew_disarm(s);
	while (s->subs) {
		session_end_sub(s->subs);
	}
	give_back(s, 0);
	slots_end(s);
	lost_free(&s->lost);
	strike_off(s->cw, s);
	ident_unref(s->ident);
	s->magic = 0;
	free(s);
}

struct closing {
	chatd_worker *w;
	chatd_sid sid;
	int32_t code;
	char *why;
};

static void on_close(void *arg)
{
	struct closing *c = arg;
	chatd_session *s = session_find(c->w, c->sid);
	if (s) {
		const struct chatd_conn_ops *ops = s->ops;
		void *conn = s->conn;
		session_destroy(s);
		ops->close(conn, c->code, c->why ? c->why : "");
	}
	free(c->why);
	free(c);
}

void session_close(chatd_session *s, int32_t code, const char *why)
{
	struct closing *c = malloc(sizeof(*c));
	if (c) {
		*c = (struct closing){
			.w = s->cw->w, .sid = s->sid, .code = code, .why = why ? strdup(why) : NULL
		};
	}
	if (!c || worker_post(s->cw->w, on_close, c) < 0) {
		log_limited(CHATD_LOG_ERROR, "core", "memory", "no memory to close a session");
		if (c) {
			free(c->why);
			free(c);
		}
		return;
	}
	/* Something did not get there, so nothing may that comes after it; who is closed for another
	 * reason still hears why. */
	if (s->state == SESSION_OPEN && (code == 4010 || code == 1011)) {
		s->state = SESSION_CLOSING;
	}
}

void session_close_all(struct chat_worker *cw)
{
	for (uint32_t i = 0; i < cw->sessions->n; i++) {
		chatd_session *s = cw->sessions->place[i].session;
		if (s) {
			const struct chatd_conn_ops *ops = s->ops;
			void *conn = s->conn;
			session_destroy(s);
			ops->close(conn, 1012, "the server is shutting down");
		}
	}
}

/* ---- accessors --------------------------------------------------------- */

chatd_call **session_calls(chatd_session *s)
{
	return &s->calls;
}

struct sub *session_subs(chatd_session *s)
{
	return s->subs;
}

const struct chatd_conn_ops *session_ops(chatd_session *s)
{
	return s->ops;
}

void *session_conn(chatd_session *s)
{
	return s->conn;
}

int session_is_open(const chatd_session *s)
{
	return s->state == SESSION_OPEN;
}

const chatd_ident *session_ident(chatd_session *s)
{
	return s->ident;
}

chatd_sid session_sid(chatd_session *s)
{
	return s->sid;
}

chatd_worker *session_worker(chatd_session *s)
{
	return s->cw->w;
}

chatd_status session_send(chatd_session *s, chatd_msg *msg)
{
	chatd_status rc = -ENOENT;
	for (struct sub *sub = s->subs; sub; sub = sub->next) {
		if (str_eq(dest_text(sub), msg_dest(msg))) {
			dest_deliver_one(sub, msg, 0);
			rc = 0;
		}
	}
	return rc;
}

void session_facts(chatd_session *s, struct chatd_session_facts *ret)
{
	const char *layer = s->layer->name;
	struct chatd_session_facts f = { .struct_size = ret->struct_size,
		.subscriptions = s->n_subs,
		.id = chatd_str_of(s->id, SESSION_ID_LEN),
		.transport = chatd_str_of(layer, strlen(layer)),
		.queued = s->ops->queued(s->conn),
		.unacked = s->n_pending };
	memcpy(ret, &f, ret->struct_size < sizeof(f) ? ret->struct_size : sizeof(f));
}

int32_t session_hears(chatd_session *s, struct chatd_str dest)
{
	for (struct sub *sub = s->subs; sub; sub = sub->next) {
		if (!sub->only && str_eq(dest_text(sub), dest)) {
			return 1;
		}
	}
	return 0;
}

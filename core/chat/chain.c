/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chain.h"

#include "base/log.h"
#include "chat/chat.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/session.h"
#include "chat/stats.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	CALL_MAGIC = 0x63616c6c,
	WHY_MAX = 512,
};

#define SLOT_NONE UINT32_MAX /* no enum: those are ints */

/* A slot's state word: generation above, status in the two low bits. */
enum { FREE = 0, PARKED = 1, CLAIMED = 2, STATUS = 3 };

struct slot {
	_Atomic uint64_t state;
	chatd_call *call;
	uint32_t next_free;
};

struct call_slots {
	uint32_t n, free, used;
	struct slot slot[];
};

struct piece {
	struct piece *next;
	_Alignas(16) char data[];
};

struct chatd_call {
	uint32_t magic;
	uint32_t slot; /* SLOT_NONE unless parked */
	struct chat_worker *cw;
	chatd_session *session;
	chatd_call *next, **link; /* the session's calls */
	const chatd_ident *ident;
	chatd_msg *msg, *reply;
	const struct chain *chain;
	const struct chain_hook *tail, *at;
	size_t cursor;
	call_end *end;
	void *arg;
	struct piece *pieces;
	struct chat_epoch *epoch;
	chatd_verdict verdict;
	const char *code;
	struct chatd_str why;
	uint32_t verified;
	int conflict, own_msg, abandoned, in_tail, walking, again;
	void (*cancel)(void *arg);
	void *cancel_arg;
	struct hold_wish hold;
	struct chatd_timer deadline;
	/* Written by whoever claimed the slot, read after the post. */
	chatd_verdict late_verdict;
	const char *late_code;
	char *late_why;
};

static struct chat *the_chat; /* resume() has only a number; set once before the threads start */

void call_set_chat(struct chat *chat)
{
	the_chat = chat;
}

struct call_slots *call_slots_create(uint32_t n)
{
	struct call_slots *t = calloc(1, sizeof(*t) + n * sizeof(t->slot[0]));
	if (!t) {
		return NULL;
	}
	t->n = n;
	for (uint32_t i = 0; i < n; i++) {
		atomic_init(&t->slot[i].state, (uint64_t)1 << 2);
		t->slot[i].next_free = i + 1 < n ? i + 1 : SLOT_NONE;
	}
	t->free = n ? 0 : SLOT_NONE;
	return t;
}

int call_slots_are_short(const struct call_slots *t)
{
	return t->used > t->n / 2;
}

void call_slots_destroy(struct call_slots *t)
{
	free(t);
}

chatd_call *call_create(
		struct chat_worker *cw, chatd_session *s, const chatd_ident *ident, chatd_msg *msg)
{
	chatd_call *c = calloc(1, sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->magic = CALL_MAGIC;
	c->slot = SLOT_NONE;
	c->cw = cw;
	c->session = s;
	c->ident = ident ? ident_ref(ident) : NULL;
	c->msg = msg ? msg_ref(msg) : NULL;
	if (s) {
		chatd_call **head = session_calls(s);
		c->next = *head;
		if (c->next) {
			c->next->link = &c->next;
		}
		c->link = head;
		*head = c;
	}
	return c;
}

static void unlink_call(chatd_call *c)
{
	if (c->link) {
		*c->link = c->next;
		if (c->next) {
			c->next->link = c->link;
		}
		c->link = NULL;
		c->next = NULL;
	}
}

static void call_destroy(chatd_call *c)
{
	unlink_call(c);
	if (c->epoch) {
		c->epoch->walks--;
	}
	while (c->pieces) {
		struct piece *next = c->pieces->next;
		free(c->pieces);
		c->pieces = next;
	}
	if (c->hold.live && c->hold.drop) {
		c->hold.drop(c->hold.arg);
	}
	ident_unref(c->ident);
	msg_unref(c->msg);
	msg_unref(c->reply);
	free(c->late_why);
	c->magic = 0;
	free(c);
}

/* ---- parking ----------------------------------------------------------- */

static chatd_token token_make(int32_t worker, uint32_t slot, uint64_t gen)
{
	return ((uint64_t)(uint32_t)worker << 56) | ((uint64_t)slot << 32) | (gen & UINT32_MAX);
}

static struct slot *token_slot(chatd_token t, uint64_t *ret_state)
{
	uint64_t worker = t >> 56, index = (t >> 32) & 0xffffff;
	if (!the_chat || worker >= (uint64_t)the_chat->n_workers) {
		return NULL;
	}
	struct call_slots *slots = the_chat->workers[worker].slots;
	if (index >= slots->n) {
		return NULL;
	}
	*ret_state = (t & UINT32_MAX) << 2 | PARKED;
	return &slots->slot[index];
}

static int claim(struct slot *s, uint64_t parked)
{
	uint64_t expected = parked;
	return atomic_compare_exchange_strong(
			&s->state, &expected, (parked & ~(uint64_t)STATUS) | CLAIMED);
}

static int claim_own(struct slot *s)
{
	uint64_t state = atomic_load(&s->state);
	return (state & STATUS) == PARKED && claim(s, state);
}

/* The generation moves on, so every token of the old one is stale from here. */
static void slot_release(chatd_call *c)
{
	struct call_slots *t = c->cw->slots;
	struct slot *s = &t->slot[c->slot];
	uint64_t gen = atomic_load(&s->state) >> 2;
	gen = (gen + 1) & UINT32_MAX;
	s->call = NULL;
	s->next_free = t->free;
	t->free = c->slot;
	t->used--;
	atomic_store(&s->state, (gen ? gen : 1) << 2 | FREE);
	c->slot = SLOT_NONE;
	worker_timer_clear(&c->deadline);
}

static void walk(chatd_call *c);
static chatd_verdict failed(chatd_call *c, const struct chain_hook *h, chatd_verdict v);

static void on_deadline(void *arg)
{
	chatd_call *c = arg;
	struct slot *s = &c->cw->slots->slot[c->slot];
	if (!claim_own(s)) {
		return; /* the answer is on its way */
	}
	const struct chain_hook *h = c->at;
	stat_add(c->cw, STAT_TIMEOUTS, 1);
	if (c->cw->counts) {
		c->cw->counts[h->inst].timeouts++;
	}
	if (c->cancel) {
		c->cancel(c->cancel_arg);
	}
	slot_release(c);
	log_limited(CHATD_LOG_WARN, h->who, "deadline", "no answer within %lld ms in %s",
			(long long)h->timeout_ms, c->chain->name);
	if (!c->chain->notify && (h->on_error == 0 || c->in_tail)) {
		c->verdict = call_reject(c, "UNAVAILABLE", "%s did not answer in time", h->who);
		c->cursor = SIZE_MAX;
	}
	walk(c);
}

chatd_token call_suspend(chatd_call *c, void (*cancel)(void *arg), void *arg)
{
	struct call_slots *t = c->cw->slots;
	if (c->slot != SLOT_NONE || !c->chain->may_wait || t->free == SLOT_NONE) {
		return 0;
	}
	c->slot = t->free;
	struct slot *s = &t->slot[c->slot];
	t->free = s->next_free;
	t->used++;
	s->call = c;
	c->cancel = cancel;
	c->cancel_arg = arg;
	worker_timer_set(c->cw->w, &c->deadline, c->at->timeout_ms, on_deadline, c);
	uint64_t gen = atomic_load(&s->state) >> 2;
	atomic_store(&s->state, gen << 2 | PARKED);
	return token_make(c->cw->index, c->slot, gen);
}

/* Back on the worker, with the answer of whoever claimed the slot. */
static void on_resumed(void *arg)
{
	chatd_call *c = arg;
	slot_release(c);
	if (c->abandoned) {
		call_destroy(c);
		return;
	}
	c->verdict = c->late_verdict;
	if (c->verdict < 0 || c->verdict >= CHATD_WAIT) {
		c->verdict = failed(c, c->at, c->verdict < 0 ? c->verdict : -EPROTO);
	} else if (c->chain->notify) {
		c->verdict = CHATD_NEXT;
	} else if (c->verdict == CHATD_REJECT) {
		const char *why = c->late_why ? c->late_why : "refused";
		call_refuse(c, c->late_code ? c->late_code : "FORBIDDEN", chatd_str_of(why, strlen(why)));
	}
	free(c->late_why); /* the walk may wait once more */
	c->late_why = NULL;
	walk(c);
}

chatd_status call_resume(chatd_token t, chatd_verdict verdict, const char *code, const char *why)
{
	uint64_t parked;
	struct slot *s = token_slot(t, &parked);
	if (!t || !s) {
		return -ESTALE;
	}
	char *copy = why ? strndup(why, WHY_MAX) : NULL;
	if (!claim(s, parked)) {
		free(copy);
		return -ESTALE;
	}
	chatd_call *c = s->call;
	c->late_verdict = verdict;
	c->late_code = code;
	c->late_why = copy;
	int rc = worker_post(c->cw->w, on_resumed, c);
	if (rc < 0) { /* as if nobody had answered: the deadline ends the call */
		c->late_why = NULL;
		free(copy);
		atomic_store(&s->state, parked);
	}
	return rc;
}

chatd_call *call_of(chatd_worker *w, chatd_token t)
{
	uint64_t parked;
	struct slot *s = token_slot(t, &parked);
	/* Another worker's slot may change hands at any moment: not even a look at its call. */
	if (!t || !s || t >> 56 != (uint64_t)worker_index(w) || atomic_load(&s->state) != parked) {
		return NULL;
	}
	return s->call;
}

void call_abandon(chatd_call *c)
{
	unlink_call(c);
	c->session = NULL;
	c->abandoned = 1;
	if (c->slot == SLOT_NONE) {
		if (!c->walking) {
			call_destroy(c);
		}
		return; /* inside its own walk, which will see the flag */
	}
	struct slot *s = &c->cw->slots->slot[c->slot];
	if (claim_own(s)) {
		if (c->cancel) {
			c->cancel(c->cancel_arg);
		}
		slot_release(c);
		call_destroy(c);
	} /* else the answer is on its way, and on_resumed() frees it */
}

/* Whoever gave in a message for nobody's session, say, has been promised an answer. */
void call_slots_end(struct call_slots *t)
{
	t->free = SLOT_NONE; /* what an answer brings about must not be parked again */
	for (uint32_t i = 0; i < t->n; i++) {
		chatd_call *c = t->slot[i].call;
		if (!claim_own(&t->slot[i])) {
			continue; /* free, or its answer is on its way */
		}
		if (c->cancel) {
			c->cancel(c->cancel_arg);
		}
		slot_release(c);
		t->free = SLOT_NONE;
		c->verdict = call_reject(c, "UNAVAILABLE", "the server stops");
		c->cursor = SIZE_MAX;
		walk(c);
	}
}

/* ---- walking ----------------------------------------------------------- */

static void finish(chatd_call *c)
{
	if (!c->abandoned) {
		c->end(c, c->arg);
	}
	call_destroy(c);
}

/* What may be over when it is tried again: so the client hears, and clients repeat by themselves. */
static int passes(chatd_status rc)
{
	static const chatd_status all[] = { -EBUSY, -EAGAIN, -ENOMEM, -ETIMEDOUT, -ECONNREFUSED,
		-ECONNRESET, -EHOSTUNREACH, -ENETUNREACH, -EPIPE, -ESHUTDOWN };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (rc == all[i]) {
			return 1;
		}
	}
	return 0;
}

/* A hook that failed: its instance's on_error decides. */
static chatd_verdict failed(chatd_call *c, const struct chain_hook *h, chatd_verdict v)
{
	if (c->cw->counts) {
		c->cw->counts[h->inst].errors++;
	}
	log_limited(CHATD_LOG_ERROR, h->who, "failed", "%s failed: %s", c->chain->name, strerror(-v));
	if (c->chain->notify || (h->on_error == 1 && !c->in_tail)) {
		return CHATD_NEXT;
	}
	if (passes(v)) {
		return call_reject(c, "UNAVAILABLE", "the server is busy; try again");
	}
	return call_reject(c, "INTERNAL", "the server could not do that");
}

int64_t chat_clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static chatd_verdict run_counted(
		chatd_call *c, const struct chain_hook *h, void *wself, struct chat_count *n)
{
	int64_t stands_for = chat_count_begin(n);
	if (!stands_for) {
		return h->fn(c, h->self, wself);
	}
	int64_t begin = chat_clock_ns();
	chatd_verdict v = h->fn(c, h->self, wself);
	chat_count_end(n, stands_for, chat_clock_ns() - begin);
	return v;
}

/* Of one stretch of a walk, so that the watchdog's clock is read once a hook. */
struct stretch {
	struct worker_mark mark;
	int inside;
};

/* What comes of a hook that did not just say NEXT. */
static chatd_verdict judged(chatd_call *c, const struct chain_hook *h, chatd_verdict v)
{
	if (v == CHATD_WAIT && c->slot == SLOT_NONE) {
		log_limited(CHATD_LOG_ERROR, h->who, "wait", "answered WAIT in %s without suspend()",
				c->chain->name);
		v = -EPROTO;
	} else if (v != CHATD_WAIT && c->slot != SLOT_NONE) {
		/* It suspended and then answered: its answer counts, the token is void. */
		struct slot *s = &c->cw->slots->slot[c->slot];
		if (claim_own(s)) {
			slot_release(c);
		} else {
			return CHATD_WAIT;
		}
	}
	if (v < 0 || v > CHATD_WAIT) {
		return failed(c, h, v < 0 ? v : -EPROTO);
	}
	if (c->chain->notify && v != CHATD_WAIT) {
		return CHATD_NEXT;
	}
	if (v == CHATD_REJECT && !c->code) { /* told from the end of session_auth by its code */
		return call_refuse(c, "FORBIDDEN", CHATD_LIT("refused"));
	}
	return v;
}

static inline chatd_verdict run_hook(chatd_call *c, const struct chain_hook *h, struct stretch *at)
{
	c->at = h;
	struct chat_worker *cw = c->cw;
	if (at->inside) {
		worker_next(cw->w, h->who);
	} else {
		worker_enter(cw->w, &at->mark, h->who, c->chain->name);
		at->inside = 1;
		cw->in_hooks++;
	}
	void *wself = cw->wself ? cw->wself[h->inst] : NULL;
	struct chat_count *n = cw->counts ? &cw->counts[h->inst] : NULL;
	chatd_verdict v = n ? run_counted(c, h, wself, n) : h->fn(c, h->self, wself);
	return v == CHATD_NEXT && c->slot == SLOT_NONE ? v : judged(c, h, v);
}

/* 1: it has come to its end; 0: it waits. */
static int walk_on(chatd_call *c, struct stretch *at)
{
	const struct chain *chain = c->chain;
	while (!c->abandoned && c->verdict == CHATD_NEXT && c->cursor < chain->n) {
		c->verdict = run_hook(c, &chain->hooks[c->cursor++], at);
		if (c->verdict == CHATD_WAIT) {
			c->verdict = CHATD_NEXT;
			return 0;
		}
	}
	if (c->verdict == CHATD_NEXT && c->cursor <= chain->n) {
		c->verdict = chain->at_end;
	}
	if (!c->abandoned && c->verdict == CHATD_ACCEPT && c->tail) {
		const struct chain_hook *tail = c->tail;
		c->tail = NULL;
		c->cursor = SIZE_MAX; /* what follows is the handler's verdict, not the chain's */
		c->in_tail = 1;
		c->verdict = run_hook(c, tail, at);
		if (c->verdict == CHATD_WAIT) {
			c->verdict = CHATD_NEXT;
			return 0;
		}
	}
	if (c->verdict == CHATD_NEXT) {
		c->verdict = CHATD_ACCEPT;
	}
	return 1;
}

static void walk(chatd_call *c)
{
	struct stretch at = { .inside = 0 };
	struct chat_worker *cw = c->cw;
	int ended = walk_on(c, &at);
	if (at.inside) {
		cw->in_hooks--;
		worker_leave(cw->w, &at.mark);
	}
	if (ended) {
		finish(c);
	}
}

void call_walk(chatd_call *c, const struct chain *chain, const struct chain_hook *tail,
		call_end *end, void *arg)
{
	c->chain = chain;
	c->epoch = c->cw->epoch;
	c->epoch->walks++;
	c->walking = 1;
	c->tail = tail;
	c->cursor = 0;
	c->verdict = CHATD_NEXT;
	c->end = end;
	c->arg = arg;
	walk(c);
}

/* ---- accessors --------------------------------------------------------- */

chatd_status call_hold(chatd_call *c, chatd_hold_fn *live, void (*drop)(void *arg), void *arg)
{
	if (c->hold.live) {
		return -EBUSY;
	}
	c->hold = (struct hold_wish){ .live = live, .drop = drop, .arg = arg };
	return 0;
}

int call_take_hold(chatd_call *c, struct hold_wish *ret)
{
	if (!c->hold.live) {
		return 0;
	}
	*ret = c->hold;
	c->hold.live = NULL;
	return 1;
}

void *call_arg(const chatd_call *c, call_end *end)
{
	return c->in_tail && c->end == end ? c->arg : NULL;
}

void call_set_again(chatd_call *c)
{
	c->again = 1;
}

int32_t call_again(chatd_call *c)
{
	return c->again;
}

chatd_verdict call_verdict(const chatd_call *c)
{
	return c->verdict;
}

const char *call_event(const chatd_call *c)
{
	return c->in_tail ? NULL : c->chain->name;
}

const char *call_code(const chatd_call *c)
{
	return c->code;
}

struct chatd_str call_why(const chatd_call *c)
{
	return c->why;
}

chatd_msg *call_replies(const chatd_call *c)
{
	return c->reply;
}

struct chatd_str call_replied(chatd_call *c, const char *header)
{
	return c->reply ? msg_get(c->reply, header) : chatd_str_of(NULL, 0);
}

struct chat_worker *call_at(const chatd_call *c)
{
	return c->cw;
}

chatd_worker *call_worker(chatd_call *c)
{
	return c->cw->w;
}

chatd_session *call_session(chatd_call *c)
{
	return c->session;
}

const chatd_ident *call_ident(chatd_call *c)
{
	return c->ident;
}

chatd_msg *call_msg(chatd_call *c)
{
	return c->msg;
}

chatd_msg *call_edit(chatd_call *c)
{
	if (!c->own_msg) {
		chatd_msg *own = msg_clone(c->msg);
		if (!own) {
			return NULL;
		}
		msg_unref(c->msg);
		c->msg = own;
		c->own_msg = 1;
	}
	return c->msg;
}

void *call_alloc(chatd_call *c, size_t n)
{
	struct piece *p = calloc(1, sizeof(*p) + n);
	if (!p) {
		return NULL;
	}
	p->next = c->pieces;
	c->pieces = p;
	return p->data;
}

chatd_verdict call_refuse(chatd_call *c, const char *code, struct chatd_str why)
{
	size_t n = why.n < WHY_MAX ? why.n : WHY_MAX;
	char *copy = call_alloc(c, n + 1);
	c->code = code;
	if (copy) {
		memcpy(copy, why.p, n);
		c->why = chatd_str_of(copy, n);
	} else {
		c->why = CHATD_LIT("refused");
	}
	return CHATD_REJECT;
}

chatd_verdict call_reject(chatd_call *c, const char *code, const char *fmt, ...)
{
	char text[WHY_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0) {
		n = 0;
	} else if ((size_t)n >= sizeof(text)) {
		n = sizeof(text) - 1;
	}
	return call_refuse(c, code, chatd_str_of(text, (size_t)n));
}

void call_reply(chatd_call *c, const char *header, struct chatd_str value)
{
	if (!c->reply) {
		c->reply = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	}
	if (!c->reply || msg_set(c->reply, header, value) < 0) {
		log_limited(CHATD_LOG_ERROR, c->at ? c->at->who : "core", "memory",
				"no memory for a reply header");
	}
}

static uint32_t cred_bit(const char *cred)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} known[] = {
		{ CHATD_CRED_LOGIN, CRED_LOGIN },
		{ CHATD_CRED_PASSCODE, CRED_PASSCODE },
		{ CHATD_CRED_BEARER, CRED_BEARER },
		{ CHATD_CRED_TOKEN, CRED_TOKEN },
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].name, cred) == 0) {
			return known[i].bit;
		}
	}
	return 0;
}

chatd_verdict call_identify_as(chatd_call *c, const char *cred, const struct chatd_identity *given)
{
	struct chatd_identity who = { 0 };
	memcpy(&who, given, given->struct_size < sizeof(who) ? given->struct_size : sizeof(who));
	c->verified |= cred_bit(cred);
	if (c->ident) {
		struct chatd_str was = ident_user(c->ident);
		if (was.n != who.user.n || memcmp(was.p, who.user.p, was.n) != 0) {
			c->conflict = 1;
		}
		return CHATD_NEXT;
	}
	if (!who.name.p) {
		who.name = who.user;
	}
	c->ident = ident_create_as(&who);
	return c->ident ? CHATD_NEXT : -ENOMEM;
}

chatd_verdict call_identify(chatd_call *c, const char *cred, struct chatd_str user,
		struct chatd_str name, uint32_t flags)
{
	const struct chatd_identity who = {
		.struct_size = sizeof(who), .user = user, .name = name, .flags = flags
	};
	return call_identify_as(c, cred, &who);
}

uint32_t call_verified(const chatd_call *c)
{
	return c->verified;
}

int call_conflict(const chatd_call *c)
{
	return c->conflict;
}

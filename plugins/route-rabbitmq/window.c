/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

void window_init(struct window *w)
{
	STAILQ_INIT(&w->waiting);
	STAILQ_INIT(&w->flying);
	w->n_waiting = w->n_flying = w->n_messages = 0;
	w->last_tag = 0;
}

void window_push(struct window *w, struct leg *l)
{
	STAILQ_INSERT_TAIL(&w->waiting, l, link);
	w->n_waiting++;
}

static struct leg *fly(struct window *w, struct leg *after, int64_t now)
{
	struct leg *l = after ? STAILQ_NEXT(after, link) : STAILQ_FIRST(&w->waiting);
	if (!l) {
		return NULL;
	}
	if (!after) {
		STAILQ_REMOVE_HEAD(&w->waiting, link);
	} else if (!(STAILQ_NEXT(after, link) = STAILQ_NEXT(l, link))) {
		w->waiting.stqh_last = &STAILQ_NEXT(after, link);
	}
	w->n_waiting--;
	l->tag = w->last_tag;
	l->sent = now;
	l->returned = l->confirmed = l->refused = 0;
	STAILQ_INSERT_TAIL(&w->flying, l, link);
	w->n_flying++;
	return l;
}

struct leg *window_send(struct window *w, struct leg *after, int64_t now)
{
	w->last_tag++;
	struct leg *l = fly(w, after, now);
	if (!l) {
		w->last_tag--;
		return NULL;
	}
	l->joined = 0;
	w->n_messages++;
	return l;
}

struct leg *window_join(struct window *w, struct leg *after, int64_t now)
{
	struct leg *l = fly(w, after, now);
	if (l) {
		l->joined = 1;
	}
	return l;
}

void window_return(struct window *w, uint64_t tag)
{
	struct leg *l;
	STAILQ_FOREACH (l, &w->flying, link) {
		if (l->tag > tag) {
			return;
		}
		l->returned |= l->tag == tag;
	}
}

int window_answer(struct window *w, uint64_t tag, int multiple, int refused)
{
	struct leg *l;
	/* 0 with multiple: all that there are. */
	if (tag > w->last_tag || (tag == 0 && !multiple)) {
		return 0;
	}
	STAILQ_FOREACH (l, &w->flying, link) {
		if (tag && l->tag > tag) {
			break;
		}
		if ((multiple || l->tag == tag) && !l->confirmed) {
			l->confirmed = 1;
			l->refused = !!refused;
		}
	}
	return 1;
}

struct leg *window_settle(struct window *w)
{
	struct leg *l = STAILQ_FIRST(&w->flying);
	if (!l || !l->confirmed) {
		return NULL;
	}
	STAILQ_REMOVE_HEAD(&w->flying, link);
	w->n_flying--;
	w->n_messages -= !l->joined;
	return l;
}

void window_put_back(struct window *w, struct legs *legs)
{
	struct leg *l;
	STAILQ_FOREACH (l, legs, link) {
		w->n_waiting++;
	}
	STAILQ_CONCAT(legs, &w->waiting);
	STAILQ_CONCAT(&w->waiting, legs);
}

void window_reset(struct window *w)
{
	STAILQ_CONCAT(&w->flying, &w->waiting);
	STAILQ_CONCAT(&w->waiting, &w->flying);
	w->n_waiting += w->n_flying;
	w->n_flying = w->n_messages = 0;
	w->last_tag = 0;
}

int64_t window_oldest(const struct window *w)
{
	struct leg *l;
	STAILQ_FOREACH (l, &w->flying, link) {
		if (!l->confirmed) {
			return l->sent;
		}
	}
	return -1;
}

void window_forgive(struct window *w, int64_t now)
{
	struct leg *l;
	STAILQ_FOREACH (l, &w->flying, link) {
		l->sent = now;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "host/lent.h"

#include "host/memory.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int state_of(const chatd_ctx *c)
{
	return atomic_load_explicit(&c->state, memory_order_acquire);
}

/* ---- services -------------------------------------------------------------------------- */

static int lists(const char *const *list, const char *interface)
{
	for (size_t i = 0; list && list[i]; i++) {
		if (strcmp(list[i], interface) == 0) {
			return 1;
		}
	}
	return 0;
}

void lent_note_use(chatd_ctx *c, const struct host_service *s)
{
	if (!s->by) {
		return;
	}
	if (!c->host->registering) {
		atomic_store(&c->asks_late, 1);
		return;
	}
	const chatd_ctx **more = realloc(c->uses, (c->n_uses + 1) * sizeof(*more));
	if (more) {
		c->uses = more;
		more[c->n_uses++] = s->by;
	} else {
		atomic_store(&c->asks_late, 1);
	}
}

/* 0: it began when that was not there, or has another's of the same kind. */
static int may_have(const chatd_ctx *user, const chatd_ctx *c)
{
	size_t i = 0;
	while (i < user->n_uses && user->uses[i] != c) {
		i++;
	}
	return i < user->n_uses || atomic_load(&user->asks_late);
}

/* 1: it wants something that @p c provides; 2: it needs it. */
static int uses(const chatd_ctx *user, const chatd_ctx *c)
{
	int how = 0;
	for (size_t i = 0; c->plugin->provides && c->plugin->provides[i]; i++) {
		const char *interface = c->plugin->provides[i];
		if (lists(user->plugin->needs, interface)) {
			return 2;
		}
		how = lists(user->plugin->wants, interface) && may_have(user, c) ? 1 : how;
	}
	return how;
}

const chatd_ctx *lent_user(const struct host *h, const chatd_ctx *c,
		int (*goes)(const void *arg, const chatd_ctx *), const void *arg, int *ret_needs)
{
	const chatd_ctx *found = NULL;
	*ret_needs = 0;
	for (size_t i = 0; i < h->n && !*ret_needs; i++) {
		const chatd_ctx *user = h->inst[i];
		int how = user != c && state_of(user) != CHATD_PLUGIN_OFF ? uses(user, c) : 0;
		if (how && (!goes || !goes(arg, user)) && (how == 2 || !found)) {
			found = user;
			*ret_needs = how == 2;
		}
	}
	return found;
}

void lent_withdraw(struct host *h, const chatd_ctx *c)
{
	for (struct host_service **at = &h->services; *at;) {
		struct host_service *s = *at;
		if (s->by == c) {
			*at = s->next;
			host_keep(h, s); /* whoever has found it has gone before, but may look at it still */
		} else {
			at = &s->next;
		}
	}
}

/* ---- what is under way at other plugins for it ------------------------------------------------ */

int32_t lent_takes_part(void *obj, const chatd_ctx *c)
{
	(void)obj;
	return state_of(c) == CHATD_PLUGIN_RUNS;
}

int32_t lent_stays(void *obj, const chatd_ctx *c, const chatd_ctx *beside)
{
	int state = state_of(c);
	(void)obj;
	return state == CHATD_PLUGIN_RUNS && !c->leaves &&
			(c == beside || strcmp(c->name, beside->name) != 0);
}

void lent_hold(void *obj, chatd_worker *w, const chatd_ctx *c, int32_t n)
{
	(void)obj;
	chat_at(w)->counts[c->index].holds += n;
}

int64_t lent_open(const struct host *h, chatd_worker *w)
{
	const struct chat_worker *cw = chat_at(w);
	int64_t n = 0;
	for (uint32_t i = 0; i < cw->n_counts && i < h->n; i++) {
		n += state_of(h->inst[i]) == CHATD_PLUGIN_DRAINS ? cw->counts[i].holds : 0;
	}
	return n;
}

chatd_status lent_on_cut(
		void *obj, void (*fn)(void *arg, chatd_worker *, const chatd_ctx *), void *arg)
{
	struct host *h = obj;
	if (!h->registering) {
		return -EINVAL;
	}
	if (h->n_cuts == sizeof(h->cuts) / sizeof(h->cuts[0])) {
		return -ENOSPC;
	}
	h->cuts[h->n_cuts].fn = fn;
	h->cuts[h->n_cuts++].arg = arg;
	return 0;
}

void lent_cut(struct host *h, chatd_worker *w)
{
	for (size_t i = 0; i < h->n; i++) {
		for (size_t k = 0; k < h->n_cuts && state_of(h->inst[i]) == CHATD_PLUGIN_DRAINS; k++) {
			h->cuts[k].fn(h->cuts[k].arg, w, h->inst[i]);
		}
	}
}

const chatd_ctx *lent_beginning(void *obj)
{
	return ((struct host *)obj)->beginning;
}

const chatd_ctx *lent_hearer(void *obj)
{
	struct host *h = obj;
	chatd_ctx *c = h->beginning;
	if (c) {
		c->hears = 1;
	}
	return c;
}

int32_t lent_ended(void *obj, const chatd_ctx *c)
{
	const struct host *h = obj;
	return state_of(c) == CHATD_PLUGIN_OFF && !c->inited && c != h->beginning;
}

static int counts(const chatd_ctx *c)
{
	int state = state_of(c);
	return state == CHATD_PLUGIN_RUNS ? 2 : state == CHATD_PLUGIN_OLD;
}

static int stays_beside(const chatd_ctx *c, const chatd_ctx *beside)
{
	return lent_stays(NULL, c, beside);
}

static int has_ended(const chatd_ctx *c)
{
	return lent_ended(c->host, c);
}

static int begins(const chatd_ctx *c)
{
	return c->host->beginning == c;
}

const struct chat_owners lent_owners = {
	.counts = counts, .stays = stays_beside, .ended = has_ended, .begins = begins
};

/* ---- figures ------------------------------------------------------------------------------------ */

void lent_enter(void *obj, chatd_worker *w, const chatd_ctx *c, struct chatd_plugins_call *call)
{
	(void)obj;
	_Static_assert(sizeof(call->room) >= sizeof(struct worker_mark), "it holds the mark");
	worker_enter(w, (struct worker_mark *)(void *)call->room, c->name, call->what);
	call->of = c;
	struct chat_count *n = &chat_at(w)->counts[c->index];
	call->stands_for = chat_count_begin(n);
	call->began = call->stands_for ? chat_clock_ns() : 0;
}

void lent_erred(void *obj, chatd_worker *w, const chatd_ctx *c)
{
	(void)obj;
	chat_at(w)->counts[c->index].errors++;
}

void lent_leave(void *obj, chatd_worker *w, struct chatd_plugins_call *call)
{
	(void)obj;
	struct chat_count *n = &chat_at(w)->counts[call->of->index];
	if (call->stands_for) {
		chat_count_end(n, call->stands_for, chat_clock_ns() - call->began);
	}
	worker_leave(w, (struct worker_mark *)(void *)call->room);
}

/* A timer does not say whose it is; its code does.  Of several instances of a file it is the one that
 * began last. */
void lent_timers_of(struct host *h, chatd_ctx *c)
{
	if (c->module->index < HOST_MODULES) {
		atomic_store_explicit(&h->by_module[c->module->index], c, memory_order_release);
	}
}

void lent_timer(chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	struct host *h = worker_data(w, WORKER_DATA_HOST);
	int owner = memory_owner((const void *)(uintptr_t)fn);
	const chatd_ctx *c = owner >= 0 && h
			? atomic_load_explicit(&h->by_module[owner], memory_order_acquire)
			: NULL;
	if (!c || c->index >= chat_at(w)->n_counts) {
		fn(arg);
		return;
	}
	struct chatd_plugins_call call = { .what = "a timer" };
	lent_enter(h, w, c, &call);
	fn(arg);
	lent_leave(h, w, &call);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chat.h"

#include "chat/dest.h"
#include "chat/slots.h"
#include "chat/stats.h"
#include "chat/users.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct chat_worker *chat_at(chatd_worker *w)
{
	return worker_data(w, WORKER_DATA_CHAT);
}

static int worker_init(struct chat *chat, int32_t i, struct loop *loop)
{
	struct chat_worker *cw = &chat->workers[i];
	cw->chat = chat;
	cw->w = loop_worker(loop, i);
	cw->index = i;
	cw->slots = call_slots_create((uint32_t)chat->conf.max_suspended);
	cw->dests = dest_table_create();
	cw->sessions = session_table_create();
	cw->users = user_table_create();
	cw->stats = calloc(STAT_COUNT, sizeof(*cw->stats));
	cw->epoch = &cw->first_epoch;
	worker_set_data(cw->w, WORKER_DATA_CHAT, cw);
	return cw->slots && cw->dests && cw->sessions && cw->users && cw->stats ? 0 : -ENOMEM;
}

static void name_chains(struct chat *chat)
{
	enum { DECIDE, NOTIFY };
#define CHATD_X(num, hook, kind, wait, end)    \
	chat->chains[num].name = #hook;            \
	chat->chains[num].may_wait = wait;         \
	chat->chains[num].notify = kind == NOTIFY; \
	chat->chains[num].at_end = end;
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
}

struct chat *chat_create(const struct chat_conf *conf, struct loop *loop)
{
	struct chat *chat = calloc(1, sizeof(*chat));
	if (!chat) {
		return NULL;
	}
	chat->conf = *conf;
	name_chains(chat);
	chat->n_workers = loop_count(loop);
	chat->workers = calloc((size_t)chat->n_workers, sizeof(*chat->workers));
	chat->stats = stat_table_create();
	atomic_init(&chat->view, calloc(1, sizeof(struct chat_view)));
	if (!chat->workers || !chat->stats || !atomic_load(&chat->view)) {
		stat_table_destroy(chat->stats);
		free(atomic_load(&chat->view));
		free(chat->workers);
		free(chat);
		return NULL;
	}
	for (int32_t i = 0; i < chat->n_workers; i++) {
		if (worker_init(chat, i, loop) < 0) {
			chat_destroy(chat);
			return NULL;
		}
	}
	call_set_chat(chat);
	return chat;
}

static int longer_first(const void *a, const void *b)
{
	const struct chat_prefix *x = a, *y = b;
	return x->n < y->n ? 1 : x->n > y->n ? -1 : strcmp(x->prefix, y->prefix);
}

static void sort_chain(struct chain *c)
{
	/* Insertion, because equal orders must stay in configuration order. */
	for (size_t i = 1; i < c->n; i++) {
		struct chain_hook h = c->hooks[i];
		size_t j = i;
		for (; j > 0 && c->hooks[j - 1].order > h.order; j--) {
			c->hooks[j] = c->hooks[j - 1];
		}
		c->hooks[j] = h;
	}
}

static int by_app(const void *a, const void *b)
{
	const struct chat_app *x = a, *y = b;
	return strcmp(x->name, y->name);
}

/* Until then a worker leaves out the chains that were empty. */
static void hear(struct chat_worker *cw)
{
	const struct chat_view *v = atomic_load_explicit(&cw->chat->view, memory_order_acquire);
	cw->hooked = 0;
	for (; v; v = atomic_load(&v->older)) {
		const struct chat_table *t = atomic_load_explicit(&v->table, memory_order_acquire);
		for (int i = 0; i < chatd_hook_count; i++) {
			cw->hooked |= (uint64_t)(t->chains[i].n > 0) << i;
		}
	}
}
_Static_assert(chatd_hook_count <= 64, "a bit for each hook");

/* The arrays become the table's. */
static chatd_status first_table(struct chat *chat)
{
	struct chat_table *t = calloc(1, sizeof(*t));
	if (!t) {
		return -ENOMEM;
	}
	memcpy(t->chains, chat->chains, sizeof(t->chains));
	t->apps = chat->apps;
	t->n_apps = chat->n_apps;
	chat_change(chat, t);
	for (int32_t i = 0; i < chat->n_workers; i++) {
		hear(&chat->workers[i]);
	}
	return 0;
}

chatd_status chat_start(struct chat *chat)
{
	if (chat->n_prefixes) {
		qsort(chat->prefixes, chat->n_prefixes, sizeof(*chat->prefixes), longer_first);
	}
	slots_freeze(chat);
	int rc = first_table(chat);
	return rc < 0 ? rc : stat_table_freeze(chat);
}

static void sort_table(struct chat_table *t)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		sort_chain(&t->chains[i]);
	}
	if (t->n_apps) {
		qsort(t->apps, t->n_apps, sizeof(*t->apps), by_app);
	}
}

void chat_view_change(struct chat *chat, struct chat_view *v, struct chat_table *t)
{
	sort_table(t);
	t->before = atomic_load(&v->table);
	atomic_store_explicit(&v->table, t, memory_order_release);
	if (v == atomic_load(&chat->view)) {
		atomic_store_explicit(&chat->table, t, memory_order_release);
	}
}

void chat_change(struct chat *chat, struct chat_table *t)
{
	chat_view_change(chat, atomic_load(&chat->view), t);
}

void chat_view_begin(struct chat *chat, struct chat_view *fresh, struct chat_table *t)
{
	sort_table(t);
	atomic_store(&fresh->older, atomic_load(&chat->view));
	atomic_store(&fresh->table, t);
	atomic_store_explicit(&chat->table, t, memory_order_release);
	atomic_store_explicit(&chat->view, fresh, memory_order_release);
}

int chat_views_tidy(struct chat *chat)
{
	int n = 1;
	struct chat_view *last = atomic_load(&chat->view), *v = atomic_load(&last->older);
	while (v) {
		struct chat_view *next = atomic_load(&v->older);
		if (atomic_load_explicit(&v->sessions, memory_order_acquire) > 0) {
			last = v;
			n++;
		} else {
			atomic_store(&last->older, next);
			atomic_store(&v->older, chat->views_gone);
			chat->views_gone = v;
		}
		v = next;
	}
	return n;
}

void chat_table_free(struct chat_table *t)
{
	for (int i = 0; t && i < chatd_hook_count; i++) {
		free(t->chains[i].hooks);
	}
	if (t) {
		free(t->apps);
		free(t);
	}
}

static void *copy_of(const void *p, size_t n)
{
	void *to = malloc(n ? n : 1);
	if (to && n) {
		memcpy(to, p, n);
	}
	return to;
}

struct chat_table *chat_table_copy(const struct chat *chat)
{
	return chat_table_copy_of(atomic_load(&chat->table));
}

struct chat_table *chat_table_copy_of(const struct chat_table *now)
{
	struct chat_table *t = calloc(1, sizeof(*t));
	int failed = !t;
	for (int i = 0; t && i < chatd_hook_count; i++) {
		t->chains[i] = now->chains[i];
		t->chains[i].hooks =
				copy_of(now->chains[i].hooks, now->chains[i].n * sizeof(struct chain_hook));
		failed |= !t->chains[i].hooks;
	}
	if (t) {
		t->apps = copy_of(now->apps, now->n_apps * sizeof(*t->apps));
		t->n_apps = now->n_apps;
		failed |= !t->apps;
	}
	if (failed) {
		chat_table_free(t);
		return NULL;
	}
	return t;
}

void chat_epoch_begin(struct chat_worker *cw, struct chat_epoch *e)
{
	e->before = cw->epoch;
	cw->epoch = e;
	hear(cw);
}

int64_t chat_epoch_left(const struct chat_worker *cw)
{
	int64_t n = 0;
	for (const struct chat_epoch *e = cw->epoch->before; e; e = e->before) {
		n += e->walks;
	}
	return n;
}

void chat_worker_finish(struct chat_worker *cw)
{
	session_close_all(cw);
	call_slots_end(cw->slots);
	dest_stop(cw);
}

static void free_epochs(struct chat_worker *cw)
{
	while (cw->epoch && cw->epoch != &cw->first_epoch) {
		struct chat_epoch *before = cw->epoch->before;
		free(cw->epoch);
		cw->epoch = before;
	}
}

static void free_views(struct chat_view *v)
{
	while (v) {
		struct chat_view *older = atomic_load(&v->older);
		for (struct chat_table *t = atomic_load(&v->table); t;) {
			struct chat_table *before = t->before;
			chat_table_free(t);
			t = before;
		}
		free(v);
		v = older;
	}
}

void chat_destroy(struct chat *chat)
{
	if (!chat) {
		return;
	}
	for (int32_t i = 0; i < chat->n_workers; i++) {
		dest_table_destroy(chat->workers[i].dests);
		session_table_destroy(chat->workers[i].sessions);
		user_table_destroy(chat->workers[i].users);
		free(chat->workers[i].stats);
		free_epochs(&chat->workers[i]);
		call_slots_destroy(chat->workers[i].slots);
	}
	int begun = atomic_load(&chat->table) != NULL;
	for (int i = 0; !begun && i < chatd_hook_count; i++) {
		free(chat->chains[i].hooks);
	}
	if (!begun) {
		free(chat->apps);
	}
	free_views(atomic_load(&chat->view));
	free_views(chat->views_gone);
	call_set_chat(NULL);
	free(chat->prefixes);
	stat_table_destroy(chat->stats);
	free(chat->workers);
	free(chat);
}

long chat_session_count(const struct chat *chat)
{
	long n = 0;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		n += atomic_load_explicit(&chat->workers[i].n_sessions, memory_order_relaxed);
	}
	return n;
}

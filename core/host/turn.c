/* SPDX-License-Identifier: Apache-2.0 */
#include "host/turn.h"

#include "base/log.h"
#include "chat/slots.h"
#include "host/end.h"
#include "host/lent.h"
#include "host/patience.h"
#include "loop/worker.h"

#include <chatd/cluster.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One that comes, and whose place it takes for new sessions alone; NULL: it is there for all. */
struct entry {
	chatd_ctx *c, *old;
};

struct turn {
	struct host *h;
	struct entry *in;
	chatd_ctx **out;
	size_t n_in, n_out, n_old;
	size_t begun; /* of those who come */
	const struct conf *tuned;
	struct chat_table *newest;  /* where those who come register */
	struct chat_table **tables; /* of the views that are there, the newest first; NULL: as it is */
	struct chat_view *fresh;    /* NULL: no view more */
	struct chat_epoch **epochs;
};

struct turn *turn_create(struct host *h, size_t most)
{
	struct turn *t = calloc(1, sizeof(*t));
	if (t) {
		t->h = h;
		t->in = calloc(most + 1, sizeof(*t->in));
		t->out = calloc(h->n + 1, sizeof(chatd_ctx *));
	}
	if (!t || !t->in || !t->out) {
		turn_undo(t);
		return NULL;
	}
	return t;
}

void turn_in(struct turn *t, chatd_ctx *c)
{
	atomic_store(&c->state, CHATD_PLUGIN_OFF);
	t->in[t->n_in++].c = c;
}

void turn_replace(struct turn *t, chatd_ctx *old, chatd_ctx *by)
{
	atomic_store(&by->state, CHATD_PLUGIN_OFF);
	t->in[t->n_in++] = (struct entry){ .c = by, .old = old };
	t->n_old++;
}

void turn_out(struct turn *t, chatd_ctx *c)
{
	t->out[t->n_out++] = c;
}

void turn_out_all(struct turn *t, const char *name)
{
	for (size_t i = 0; i < t->h->n; i++) {
		chatd_ctx *c = t->h->inst[i];
		int state = atomic_load(&c->state);
		if (strcmp(c->name, name) == 0 && c->started &&
				(state == CHATD_PLUGIN_RUNS || state == CHATD_PLUGIN_OLD)) {
			turn_out(t, c);
		}
	}
}

void turn_tune(struct turn *t, const struct conf *conf)
{
	t->tuned = conf;
}

/* ---- who may ------------------------------------------------------------------------ */

/* What it registers with another plugin that cannot take it back; NULL: nothing. */
static const char *tie_of(const struct host *h, const struct chatd_plugin *p)
{
	static const char *const cluster[] = { CHATD_CLUSTER, NULL };
	const char *tie = module_tied_by(p);
	for (size_t i = 0; !tie && p->wants && p->wants[i]; i++) {
		int is = strcmp(p->wants[i], CHATD_CLUSTER) == 0 && !turn_lacks(h, cluster);
		tie = is ? CHATD_CLUSTER : NULL;
	}
	return tie;
}

int turn_is_live(const struct host *h, const struct chatd_plugin *p)
{
	return p->flags & CHATD_PLUGIN_LIVE && !tie_of(h, p);
}

int turn_may(const struct host *h, const struct chatd_plugin *p, char *why, size_t room)
{
	const char *tie = tie_of(h, p);
	if (!(p->flags & CHATD_PLUGIN_LIVE)) {
		snprintf(why, room, "it is not made for that (CHATD_PLUGIN_LIVE)");
	} else if (tie) {
		snprintf(why, room, "what it registers with %s stays", tie);
	} else {
		return 1;
	}
	return 0;
}

const char *turn_lacks(const struct host *h, const char *const *interfaces)
{
	for (size_t i = 0; interfaces && interfaces[i]; i++) {
		const struct host_service *s = h->services;
		while (s && strcmp(s->interface, interfaces[i]) != 0) {
			s = s->next;
		}
		if (!s) {
			return interfaces[i];
		}
	}
	return NULL;
}

/* ---- a place for one more -------------------------------------------------------------- */

/* Room for one instance more on a worker; made by main, used by the worker. */
struct room {
	void **wself;
	struct chat_count *counts;
	void *state;
};

struct growth {
	struct room *room; /* by worker */
	uint32_t n;        /* instances before */
};

static void grow(chatd_worker *w, void *arg)
{
	struct growth *g = arg;
	struct chat_worker *cw = chat_at(w);
	struct room *r = &g->room[cw->index];
	memcpy(r->wself, cw->wself, g->n * sizeof(*r->wself));
	memcpy(r->counts, cw->counts, g->n * sizeof(*r->counts));
	r->wself[g->n] = r->state;
	void **old = cw->wself;
	struct chat_count *counts = cw->counts;
	cw->wself = r->wself;
	cw->counts = r->counts;
	cw->n_counts = g->n + 1;
	free(old);
	free(counts);
}

static int make_room(struct host *h, const chatd_ctx *c)
{
	size_t workers = (size_t)h->chat->n_workers, n = h->n;
	struct growth g = { .room = calloc(workers, sizeof(*g.room)), .n = (uint32_t)n };
	int failed = !g.room;
	for (size_t i = 0; g.room && i < workers; i++) {
		size_t size = c->plugin->worker_size;
		g.room[i] = (struct room){ .wself = calloc(n + 2, sizeof(void *)),
			.counts = calloc(n + 1, sizeof(struct chat_count)),
			.state = calloc(1, size ? size : 1) };
		failed |= !g.room[i].wself || !g.room[i].counts || !g.room[i].state;
	}
	if (!failed) {
		loop_run_all(h->loop, grow, &g);
	}
	for (size_t i = 0; failed && g.room && i < workers; i++) {
		free(g.room[i].wself);
		free(g.room[i].counts);
		free(g.room[i].state);
	}
	free(g.room);
	return failed ? -ENOMEM : 0;
}

static int add_instance(struct host *h, chatd_ctx *c)
{
	chatd_ctx **inst = calloc(h->n + 2, sizeof(*inst)), **order = calloc(h->n + 2, sizeof(*order));
	if (!inst || !order || make_room(h, c) < 0) {
		free(inst);
		free(order);
		return -ENOMEM;
	}
	memcpy(inst, h->inst, h->n * sizeof(*inst));
	memcpy(order, h->order, h->n * sizeof(*order));
	pthread_mutex_lock(&h->lock);
	c->index = (uint32_t)h->n;
	inst[h->n] = order[h->n] = c;
	chatd_ctx **old[] = { h->inst, h->order };
	h->inst = inst;
	h->order = order;
	h->n++;
	pthread_mutex_unlock(&h->lock);
	host_keep(h, old[0]);
	host_keep(h, old[1]);
	return 0;
}

/* ---- one begins, one ends ------------------------------------------------------------------ */

static void drain_on_worker(chatd_worker *w, void *arg)
{
	chatd_ctx *c = arg;
	struct worker_mark mark;
	worker_enter(w, &mark, c->name, "drain");
	c->plugin->drain(c->self, w, chat_at(w)->wself[c->index]);
	worker_leave(w, &mark);
}

/* Each session has the memory that it asked for. */
struct extending {
	atomic_int rc;
};

static void extend_on_worker(chatd_worker *w, void *arg)
{
	struct extending *e = arg;
	if (slots_extend(chat_at(w)) < 0) {
		atomic_store(&e->rc, -ENOMEM);
	}
}

static int extend_sessions(struct host *h)
{
	struct extending e = { .rc = 0 };
	loop_run_all(h->loop, extend_on_worker, &e);
	return atomic_load(&e.rc);
}

static int begin_instance(struct host *h, chatd_ctx *c, struct chat_table *t)
{
	h->building = t;
	h->beginning = c;
	h->registering = 1;
	patience_begin(h->patience, c->name, "init()", c->plugin->flags & CHATD_PLUGIN_WAITS);
	int rc = c->plugin->init(table_for(h), c, c->options, &c->self);
	patience_end(h->patience);
	c->inited = 1;
	h->registering = 0;
	h->beginning = NULL;
	h->building = NULL;
	for (int i = 0; rc == 0 && i < chatd_hook_count; i++) {
		for (size_t k = 0; k < t->chains[i].n; k++) {
			if (t->chains[i].hooks[k].inst == c->index) {
				t->chains[i].hooks[k].self = c->self;
			}
		}
	}
	for (size_t i = 0; rc == 0 && i < t->n_apps; i++) {
		if (t->apps[i].hook.inst == c->index) {
			t->apps[i].hook.self = c->self;
		}
	}
	lent_timers_of(h, c);
	rc = rc == 0 ? extend_sessions(h) : rc;
	return rc == 0 ? host_start_on_workers(h, c) : rc;
}

/* ---- tables ------------------------------------------------------------------------------ */

static void remove_hooks(struct chat_table *t, uint32_t inst)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		struct chain *c = &t->chains[i];
		size_t kept = 0;
		for (size_t k = 0; k < c->n; k++) {
			if (c->hooks[k].inst != inst) {
				c->hooks[kept++] = c->hooks[k];
			}
		}
		c->n = kept;
	}
	size_t kept = 0;
	for (size_t i = 0; i < t->n_apps; i++) {
		if (t->apps[i].hook.inst != inst) {
			t->apps[kept++] = t->apps[i];
		}
	}
	t->n_apps = kept;
}

static int table_has(const struct chat_table *t, uint32_t inst)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		for (size_t k = 0; k < t->chains[i].n; k++) {
			if (t->chains[i].hooks[k].inst == inst) {
				return 1;
			}
		}
	}
	for (size_t i = 0; i < t->n_apps; i++) {
		if (t->apps[i].hook.inst == inst) {
			return 1;
		}
	}
	return 0;
}

static int add_hook(struct chain *to, const struct chain_hook *hook)
{
	struct chain_hook *more = realloc(to->hooks, (to->n + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	to->hooks = more;
	more[to->n++] = *hook;
	return 0;
}

/* A name that an older version of another plugin still has stays its own for its sessions. */
static int add_app(struct chat_table *to, const struct chat_app *app)
{
	for (size_t i = 0; i < to->n_apps; i++) {
		if (strcmp(to->apps[i].name, app->name) == 0) {
			return 0;
		}
	}
	struct chat_app *more = realloc(to->apps, (to->n_apps + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	to->apps = more;
	more[to->n_apps++] = *app;
	return 0;
}

static int adopt_hooks(struct chat_table *to, const struct chat_table *from, uint32_t inst)
{
	int rc = 0;
	for (int i = 0; i < chatd_hook_count; i++) {
		for (size_t k = 0; rc == 0 && k < from->chains[i].n; k++) {
			const struct chain_hook *hook = &from->chains[i].hooks[k];
			rc = hook->inst == inst ? add_hook(&to->chains[i], hook) : 0;
		}
	}
	for (size_t i = 0; rc == 0 && i < from->n_apps; i++) {
		rc = from->apps[i].hook.inst == inst ? add_app(to, &from->apps[i]) : 0;
	}
	return rc;
}

static void tune_hook(const struct turn *t, struct chain_hook *hook)
{
	const struct conf_plugin *cp = conf_plugin_named(t->tuned, t->h->inst[hook->inst]->name);
	if (cp) {
		hook->timeout_ms = cp->timeout_ms;
		hook->on_error = cp->on_error;
	}
}

static void tune(const struct turn *t, struct chat_table *table)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		for (size_t k = 0; k < table->chains[i].n; k++) {
			tune_hook(t, &table->chains[i].hooks[k]);
		}
	}
	for (size_t i = 0; i < table->n_apps; i++) {
		tune_hook(t, &table->apps[i].hook);
	}
}

/* What the sessions of a view that is there go by from now on. */
static struct chat_table *table_of_view(const struct turn *t, const struct chat_view *v)
{
	struct chat_table *table = chat_table_copy_of(atomic_load(&v->table));
	int rc = table ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < t->n_out; i++) {
		remove_hooks(table, t->out[i]->index);
	}
	for (size_t i = 0; rc == 0 && i < t->n_in; i++) {
		rc = t->in[i].old ? 0 : adopt_hooks(table, t->newest, t->in[i].c->index);
	}
	if (rc == 0 && t->tuned) {
		tune(t, table);
	}
	if (rc < 0) {
		chat_table_free(table);
		return NULL;
	}
	return table;
}

static size_t count_views(const struct chat *chat)
{
	size_t n = 0;
	for (const struct chat_view *v = atomic_load(&chat->view); v; v = atomic_load(&v->older)) {
		n++;
	}
	return n;
}

static struct chat_epoch **make_epochs(size_t n)
{
	struct chat_epoch **e = calloc(n, sizeof(struct chat_epoch *));
	int failed = !e;
	for (size_t i = 0; e && i < n; i++) {
		e[i] = calloc(1, sizeof(struct chat_epoch));
		failed |= !e[i];
	}
	for (size_t i = 0; failed && e && i < n; i++) {
		free(e[i]);
	}
	if (failed) {
		free(e);
	}
	return failed ? NULL : e;
}

/* All memory that the switch takes. */
static int prepare(struct turn *t)
{
	struct chat *chat = t->h->chat;
	t->epochs = make_epochs((size_t)chat->n_workers);
	t->tables = calloc(count_views(chat) + 1, sizeof(struct chat_table *));
	t->fresh = t->n_old ? calloc(1, sizeof(*t->fresh)) : NULL;
	if (!t->epochs || !t->tables || (t->n_old && !t->fresh)) {
		return -ENOMEM;
	}
	if (t->tuned) {
		tune(t, t->newest);
	}
	size_t i = 0;
	for (const struct chat_view *v = atomic_load(&chat->view); v; v = atomic_load(&v->older), i++) {
		int changes = t->n_out || t->n_in > t->n_old || t->tuned;
		if (!changes || (i == 0 && !t->fresh)) {
			continue; /* for the newest one there is t->newest */
		}
		t->tables[i] = table_of_view(t, v);
		if (!t->tables[i]) {
			return -ENOMEM;
		}
	}
	return 0;
}

/* ---- the turn ------------------------------------------------------------------------------ */

static void free_turn(struct turn *t)
{
	for (size_t i = 0; t->epochs && i < (size_t)t->h->chat->n_workers; i++) {
		free(t->epochs[i]);
	}
	for (size_t i = 0; t->tables && i < count_views(t->h->chat); i++) {
		chat_table_free(t->tables[i]);
	}
	chat_table_free(t->newest);
	free(t->epochs);
	free(t->tables);
	free(t->fresh);
	free(t->in);
	free(t->out);
	free(t);
}

static void mark_leaving(struct turn *t, int leaves)
{
	for (size_t i = 0; i < t->n_out; i++) {
		t->out[i]->leaves = leaves;
	}
	for (size_t i = 0; i < t->n_in; i++) {
		if (t->in[i].old) {
			t->in[i].old->leaves = leaves;
		}
	}
}

void turn_undo(struct turn *t)
{
	if (!t) {
		return;
	}
	mark_leaving(t, 0);
	for (size_t i = t->n_in; i-- > 0;) {
		chatd_ctx *c = t->in[i].c;
		if (i < t->begun) {
			c->failed = 1;
			t->h->drains_since = worker_clock_ms();
			end_begin(t->h, c);
		} else {
			free(c->options);
			free(c);
		}
	}
	if (t->begun) {
		end_wait(t->h);
	}
	free_turn(t);
}

static int fail(struct turn *t, const char *who, int rc, struct change_text *text)
{
	snprintf(text->p, sizeof(text->p), "plugin \"%s\" could not start: %s; the log has more", who,
			rc == -ENOMEM ? "no memory" : strerror(-rc));
	turn_undo(t);
	return rc;
}

int turn_start(struct turn *t, struct change_text *text)
{
	struct host *h = t->h;
	mark_leaving(t, 1);
	t->newest = chat_table_copy(h->chat);
	for (size_t i = 0; t->newest && i < t->n_out; i++) {
		remove_hooks(t->newest, t->out[i]->index);
	}
	for (size_t i = 0; t->newest && i < t->n_in; i++) {
		if (t->in[i].old) {
			remove_hooks(t->newest, t->in[i].old->index);
		}
	}
	for (size_t i = 0; t->newest && i < t->n_in; i++) {
		chatd_ctx *c = t->in[i].c;
		if (add_instance(h, c) < 0) {
			return fail(t, c->name, -ENOMEM, text);
		}
		t->begun++;
		(void)host_know_code(h);
		int rc = begin_instance(h, c, t->newest);
		if (rc < 0) {
			return fail(t, c->name, rc, text);
		}
	}
	if (!t->newest || prepare(t) < 0) {
		return fail(t, t->n_in ? t->in[0].c->name : "core", -ENOMEM, text);
	}
	return 0;
}

static void next_epoch(chatd_worker *w, void *arg)
{
	struct chat_epoch **made = arg;
	struct chat_worker *cw = chat_at(w);
	chat_epoch_begin(cw, made[cw->index]);
}

static void switch_tables(struct turn *t)
{
	struct chat *chat = t->h->chat;
	size_t i = 0;
	for (struct chat_view *v = atomic_load(&chat->view); v; v = atomic_load(&v->older), i++) {
		if (t->tables[i]) {
			chat_view_change(chat, v, t->tables[i]);
			t->tables[i] = NULL;
		}
	}
	if (t->fresh) {
		chat_view_begin(chat, t->fresh, t->newest);
	} else {
		chat_change(chat, t->newest);
	}
	t->fresh = NULL;
	t->newest = NULL;
	loop_run_all(t->h->loop, next_epoch, t->epochs);
	free(t->epochs);
	t->epochs = NULL;
}

void turn_commit(struct turn *t)
{
	struct host *h = t->h;
	switch_tables(t);
	mark_leaving(t, 0);
	/* Those who come first: whoever asks in between finds one of the two. */
	for (size_t i = 0; i < t->n_in; i++) {
		struct entry *e = &t->in[i];
		if (e->old) {
			atomic_store(&e->old->state, CHATD_PLUGIN_OLD);
		}
		atomic_store(&e->c->state, CHATD_PLUGIN_RUNS);
		module_use(h->modules, e->c->module);
		host_take_back(h, e->c->name);
	}
	for (size_t i = 0; i < t->n_out; i++) {
		atomic_store(&t->out[i]->state, CHATD_PLUGIN_DRAINS);
		lent_withdraw(h, t->out[i]);
		h->drains_since = worker_clock_ms();
	}
	for (size_t i = 0; i < t->n_out; i++) {
		if (t->out[i]->plugin->drain) {
			loop_run_all(h->loop, drain_on_worker, t->out[i]);
		}
	}
	free_turn(t);
}

/* ---- afterwards ---------------------------------------------------------------------------- */

struct left {
	const struct host *h;
	atomic_long n;
	int cut; /* what is under way at other plugins ends now */
};

static void count_left(chatd_worker *w, void *arg)
{
	struct left *left = arg;
	if (left->cut) {
		lent_cut((struct host *)(uintptr_t)left->h, w);
	}
	atomic_fetch_add(&left->n, (long)(chat_epoch_left(chat_at(w)) + lent_open(left->h, w)));
}

static int is_busy(const chatd_ctx *c)
{
	return atomic_load(&c->state) == CHATD_PLUGIN_DRAINS && c->started &&
			CHATD_HAS(c->plugin, busy) && c->plugin->busy(c->self);
}

int turn_is_late(const struct host *h)
{
	return worker_clock_ms() - h->drains_since >= h->server->drain_timeout;
}

static int count_state(const struct host *h, int state)
{
	int n = 0;
	for (size_t i = 0; i < h->n; i++) {
		n += atomic_load(&h->inst[i]->state) == state;
	}
	return n;
}

int turn_settle(struct host *h)
{
	struct left left = { .h = h, .cut = turn_is_late(h) };
	int n = count_state(h, CHATD_PLUGIN_DRAINS);
	if (n == 0) {
		return 0;
	}
	loop_run_all(h->loop, count_left, &left);
	int wait = atomic_load(&left.n) > 0;
	for (size_t i = 0; i < h->n && !wait; i++) {
		wait = is_busy(h->inst[i]);
	}
	if (wait) {
		return n;
	}
	for (size_t i = h->n; i-- > 0;) { /* users before those whose services they use */
		if (atomic_load(&h->order[i]->state) == CHATD_PLUGIN_DRAINS && h->order[i]->started) {
			end_begin(h, h->order[i]);
		}
	}
	return end_settle(h);
}

static int is_seen(const struct host *h, uint32_t inst)
{
	const struct chat_view *v = atomic_load(&h->chat->view);
	while (v && !table_has(atomic_load(&v->table), inst)) {
		v = atomic_load(&v->older);
	}
	return v != NULL;
}

int64_t turn_sessions(const struct host *h, const chatd_ctx *c)
{
	int64_t n = 0;
	for (const struct chat_view *v = atomic_load(&h->chat->view); v; v = atomic_load(&v->older)) {
		if (table_has(atomic_load(&v->table), c->index)) {
			n += atomic_load_explicit(&v->sessions, memory_order_relaxed);
		}
	}
	return n;
}

int turn_tend(struct host *h)
{
	if (count_state(h, CHATD_PLUGIN_OLD) == 0) {
		return turn_settle(h) > 0;
	}
	pthread_mutex_lock(&h->lock);
	(void)chat_views_tidy(h->chat);
	pthread_mutex_unlock(&h->lock);
	struct chat_epoch **epochs = NULL;
	for (size_t i = 0; i < h->n; i++) {
		chatd_ctx *c = h->inst[i];
		if (atomic_load(&c->state) != CHATD_PLUGIN_OLD || is_seen(h, c->index)) {
			continue;
		}
		if (!epochs) {
			epochs = make_epochs((size_t)h->chat->n_workers);
			if (!epochs) {
				return 1; /* another time */
			}
			loop_run_all(h->loop, next_epoch, epochs);
			free(epochs);
		}
		atomic_store(&c->state, CHATD_PLUGIN_DRAINS);
		h->drains_since = worker_clock_ms();
		log_write(CHATD_LOG_INFO, "core",
				"plugin \"%s\": no session is left that began with version %s, which ends", c->name,
				c->plugin->version ? c->plugin->version : "?");
	}
	(void)turn_settle(h);
	return count_state(h, CHATD_PLUGIN_OLD) + count_state(h, CHATD_PLUGIN_DRAINS) > 0;
}

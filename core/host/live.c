/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that is turned on or off while the server runs. */
#include "base/diag.h"
#include "base/log.h"
#include "base/str.h"
#include "host/change.h"
#include "host/crashes.h"
#include "host/memory.h"
#include "host/patience.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int say(struct change_text *t, int rc, const char *fmt, ...) CHATD_PRINTF(3, 4);
static int say(struct change_text *t, int rc, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(t->p, sizeof(t->p), fmt, ap);
	va_end(ap);
	return rc;
}

static const struct conf_plugin *configured(const struct host *h, const char *name)
{
	for (size_t i = 0; i < conf_plugin_count(h->conf); i++) {
		if (strcmp(conf_plugin_at(h->conf, i)->name, name) == 0) {
			return conf_plugin_at(h->conf, i);
		}
	}
	return NULL;
}

/* ---- the parts of turning one on ------------------------------------------------ */

static int refuse_still(const struct conf_plugin *cp, const char *why, struct change_text *t)
{
	return say(t, -ENOTSUP,
			"plugin \"%s\" cannot be turned on or off while the server runs: %s; set enabled: in the "
			"configuration and restart",
			cp->name, why);
}

static int may_live(struct host *h, const struct conf_plugin *cp, const struct chatd_plugin *p,
		struct change_text *t)
{
	if (p->provides && p->provides[0]) {
		return refuse_still(cp, "others use its service", t);
	}
	if (!(p->flags & CHATD_PLUGIN_LIVE)) {
		return refuse_still(cp, "it is not made for that (CHATD_PLUGIN_LIVE)", t);
	}
	if (module_tied_by(p)) {
		char why[160];
		snprintf(why, sizeof(why), "what it opens with %s stays", module_tied_by(p));
		return refuse_still(cp, why, t);
	}
	for (size_t i = 0; p->needs && p->needs[i]; i++) {
		const struct host_service *s = h->services;
		while (s && strcmp(s->interface, p->needs[i]) != 0) {
			s = s->next;
		}
		if (!s) {
			return say(t, -ENOENT,
					"plugin \"%s\" needs the service \"%s\", which no plugin that is turned on provides",
					cp->name, p->needs[i]);
		}
	}
	return 0;
}

static chatd_ctx *make(
		struct host *h, const struct conf_plugin *cp, const struct module *m, struct change_text *t)
{
	struct diag d = { 0 };
	chatd_ctx *c = host_make(h, cp, m, &d);
	if (c) {
		h->diag = &d;
		int rc = c->plugin->check ? c->plugin->check(table_for(h), c, c->options) : 0;
		h->diag = NULL;
		if (rc < 0 || diag_count(&d)) {
			free(c->options);
			free(c);
			c = NULL;
		}
	}
	if (!c) {
		say(t, -EINVAL, "plugin \"%s\": its configuration is not good: %s", cp->name,
				d.items ? d.items->text : "no memory");
	}
	diag_finish(&d);
	return c;
}

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

static void end_on_worker(chatd_worker *w, void *arg)
{
	chatd_ctx *c = arg;
	struct worker_mark mark;
	worker_enter(w, &mark, c->name, "worker_stop");
	c->plugin->worker_stop(c->self, w, chat_at(w)->wself[c->index]);
	worker_leave(w, &mark);
}

static void put_off(struct host *h, chatd_ctx *c)
{
	if (c->started && c->plugin->worker_stop) {
		loop_run_all(h->loop, end_on_worker, c);
	}
	c->started = 0;
	if (c->inited && c->self && c->plugin->fini) {
		c->plugin->fini(c->self);
	}
	c->inited = 0;
	atomic_store(&c->state, CHATD_PLUGIN_OFF);
}

static int begin_instance(struct host *h, chatd_ctx *c, struct chat_table *t)
{
	h->building = t;
	h->registering = 1;
	patience_begin(h->patience, c->name, "init()", c->plugin->flags & CHATD_PLUGIN_WAITS);
	int rc = c->plugin->init(table_for(h), c, c->options, &c->self);
	patience_end(h->patience);
	c->inited = 1;
	h->registering = 0;
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
	return rc == 0 ? host_start_on_workers(h, c) : rc;
}

static void forget_left_out(struct host *h, const char *name)
{
	pthread_mutex_lock(&h->lock);
	for (struct host_off **at = &h->off; *at;) {
		struct host_off *o = *at;
		if (strcmp(o->name, name) == 0) {
			*at = o->next;
			free(o);
		} else {
			at = &o->next;
		}
	}
	pthread_mutex_unlock(&h->lock);
}

static void hear(chatd_worker *w, void *arg)
{
	(void)arg;
	chat_hear(chat_at(w));
}

static int turn_on(struct host *h, const struct conf_plugin *cp, const struct module *m,
		struct change_text *text)
{
	chatd_ctx *c = make(h, cp, m, text);
	struct chat_table *t = c ? chat_table_copy(h->chat) : NULL;
	if (!c) {
		return -EINVAL;
	}
	atomic_store(&c->state, CHATD_PLUGIN_OFF);
	if (!t || add_instance(h, c) < 0) {
		chat_table_free(t);
		free(c->options);
		free(c);
		return say(text, -ENOMEM, "plugin \"%s\": no memory", cp->name);
	}
	(void)host_know_code(h);
	int rc = begin_instance(h, c, t);
	if (rc < 0) {
		put_off(h, c);
		chat_table_free(t);
		return say(text, rc, "plugin \"%s\" could not start: %s; the log has more", cp->name,
				strerror(-rc));
	}
	chat_change(h->chat, t);
	loop_run_all(h->loop, hear, NULL);
	atomic_store(&c->state, CHATD_PLUGIN_RUNS);
	forget_left_out(h, cp->name);
	return say(text, 0, "plugin \"%s\" is on; to keep it so, say it in the configuration too",
			cp->name);
}

int live_enable(struct host *h, const char *name, struct change_text *text)
{
	const struct conf_plugin *cp = configured(h, name);
	struct load_error e = { "" };
	if (!cp) {
		return say(text, -ENOENT,
				"no plugin \"%.64s\" is in the configuration; add it there, with enabled: false if you "
				"like, and restart",
				name);
	}
	chatd_ctx *have = figures_latest(h, name);
	if (have && atomic_load(&have->state) != CHATD_PLUGIN_OFF) {
		return say(text, 0, "plugin \"%s\" is on already", name);
	}
	int rc = crashes_forget(h->server->data_dir, name);
	if (rc < 0) {
		return say(text, rc, "%s/crashes/%s cannot be removed: %s", h->server->data_dir, name,
				strerror(-rc));
	}
	const struct module *m = module_load(h->modules, cp->module, &e);
	if (!m) {
		return say(text, -ENOENT, "%s", e.text);
	}
	rc = may_live(h, cp, &m->plugin, text);
	if (rc == -ENOTSUP && cp->enabled) { /* it was left out: what it did is forgotten now */
		return say(text, 0,
				"plugin \"%s\" takes part again from the next start on; while the server runs it cannot be "
				"turned on",
				name);
	}
	return rc < 0 ? rc : turn_on(h, cp, m, text);
}

/* ---- off ---------------------------------------------------------------------------- */

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

static void next_epoch(chatd_worker *w, void *arg)
{
	struct chat_epoch **made = arg;
	struct chat_worker *cw = chat_at(w);
	chat_epoch_begin(cw, made[cw->index]);
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

int live_disable(struct host *h, const char *name, struct change_text *text)
{
	const struct conf_plugin *cp = configured(h, name);
	chatd_ctx *c = figures_latest(h, name);
	if (!cp) {
		return say(text, -ENOENT, "no plugin \"%.64s\" is in the configuration", name);
	}
	if (!c || atomic_load(&c->state) != CHATD_PLUGIN_RUNS) {
		return say(text, 0, "plugin \"%s\" is off already", name);
	}
	int rc = may_live(h, cp, c->plugin, text);
	if (rc < 0) {
		return rc;
	}
	struct chat_table *t = chat_table_copy(h->chat);
	struct chat_epoch **epochs = make_epochs((size_t)h->chat->n_workers);
	if (!t || !epochs) {
		chat_table_free(t);
		return say(text, -ENOMEM, "plugin \"%s\": no memory", name);
	}
	remove_hooks(t, c->index);
	chat_change(h->chat, t);
	loop_run_all(h->loop, next_epoch, epochs);
	free(epochs);
	atomic_store(&c->state, CHATD_PLUGIN_DRAINS);
	return -EINPROGRESS;
}

static void count_left(chatd_worker *w, void *arg)
{
	atomic_fetch_add((atomic_long *)arg, (long)chat_epoch_left(chat_at(w)));
}

int live_drained(struct host *h, const char *name, struct change_text *text)
{
	chatd_ctx *c = figures_latest(h, name);
	atomic_long left = 0;
	loop_run_all(h->loop, count_left, &left);
	if (atomic_load(&left) > 0) {
		return 0;
	}
	put_off(h, c);
	say(text, 0, "plugin \"%s\" is off; to keep it so, say it in the configuration too", name);
	return 1;
}

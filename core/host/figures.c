/* SPDX-License-Identifier: Apache-2.0 */
/* What each plugin does: chatd.plugins/1, its reading half. */
#include "host/change.h"
#include "host/instance.h"
#include "host/lent.h"
#include "host/memory.h"
#include "host/turn.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Goes from worker to worker and adds up, so that it belongs to one of them at a time. */
struct round {
	struct host *h;
	chatd_worker *home;
	int32_t next;
	uint32_t n;
	chatd_plugins_fn *fn;
	void *arg;
	struct chat_count sum[];
};

static void add_worker(struct round *r, const struct chat_worker *cw)
{
	for (uint32_t i = 0; i < r->n && i < cw->n_counts; i++) {
		const struct chat_count *c = &cw->counts[i];
		r->sum[i].calls += chat_count_calls(c);
		r->sum[i].errors += c->errors;
		r->sum[i].timeouts += c->timeouts;
		r->sum[i].slow += c->slow;
		r->sum[i].busy_ns += c->busy_ns;
	}
}

static chatd_ctx *latest(const struct host *h, const char *name)
{
	for (size_t i = h->n; i-- > 0;) {
		if (!h->inst[i]->failed && strcmp(h->inst[i]->name, name) == 0) {
			return h->inst[i];
		}
	}
	return NULL;
}

chatd_ctx *figures_latest(const struct host *h, const char *name)
{
	return latest(h, name);
}

static const char *why_off(const struct host *h, const char *name)
{
	for (const struct host_off *o = h->off; o; o = o->next) {
		if (strcmp(o->name, name) == 0) {
			return o->why;
		}
	}
	return NULL;
}

static void add_counts(struct chatd_plugin_facts *f, const struct chat_count *n)
{
	f->calls += n->calls;
	f->errors += n->errors;
	f->timeouts += n->timeouts;
	f->slow += n->slow;
	f->busy_us += n->busy_ns / 1000;
}

static void describe(const struct host *h, struct chatd_plugin_facts *f, const chatd_ctx *c)
{
	f->state = atomic_load(&c->state);
	f->version = c->plugin->version;
	f->live = turn_is_live(h, c->plugin);
	f->bytes = memory_of(c->module->index);
}

static int is_old(const struct round *r, size_t i)
{
	return i < r->n && atomic_load(&r->h->inst[i]->state) == CHATD_PLUGIN_OLD;
}

static struct chatd_plugin_facts facts_of(const struct round *r, const struct conf_plugin *cp)
{
	const struct host *h = r->h;
	const chatd_ctx *c = latest(h, cp->name);
	struct chatd_plugin_facts f = { .struct_size = sizeof(f),
		.state = CHATD_PLUGIN_OFF,
		.name = cp->name,
		.module = cp->module,
		.optional = cp->optional,
		.sessions = -1 };
	if (!c) {
		f.why = why_off(h, cp->name);
		f.state = f.why ? CHATD_PLUGIN_LEFT_OUT : CHATD_PLUGIN_OFF;
		return f;
	}
	describe(h, &f, c);
	for (size_t i = 0; i < h->n && i < r->n; i++) { /* also what it did before it was off and on */
		if (strcmp(h->inst[i]->name, cp->name) == 0 && !is_old(r, i)) {
			add_counts(&f, &r->sum[i]);
		}
	}
	return f;
}

/* With what is said of the plugin as a whole from @p now. */
static struct chatd_plugin_facts facts_of_old(
		const struct round *r, size_t i, const struct chatd_plugin_facts *now)
{
	struct chatd_plugin_facts f = { .struct_size = sizeof(f),
		.name = now->name,
		.module = now->module,
		.optional = now->optional,
		.sessions = turn_sessions(r->h, r->h->inst[i]) };
	describe(r->h, &f, r->h->inst[i]);
	add_counts(&f, &r->sum[i]);
	return f;
}

/* 1: it runs and was in the configuration when it began; that has been read again since. */
static int is_stray(const struct host *h, const chatd_ctx *c)
{
	return latest(h, c->name) == c && !conf_plugin_named(h->conf, c->name) &&
			atomic_load(&c->state) != CHATD_PLUGIN_OFF;
}

static size_t add_rows(const struct round *r, struct chatd_plugin_facts *to, size_t at,
		const struct conf_plugin *cp)
{
	size_t first = at;
	to[at++] = facts_of(r, cp);
	for (size_t i = r->h->n; i-- > 0;) {
		if (is_old(r, i) && strcmp(r->h->inst[i]->name, cp->name) == 0) {
			to[at++] = facts_of_old(r, i, &to[first]);
		}
	}
	return at;
}

static void report(struct round *r)
{
	struct host *h = r->h;
	pthread_mutex_lock(&h->lock);
	size_t n = 0, in_conf = conf_plugin_count(h->conf);
	struct chatd_plugin_facts *facts = calloc(in_conf + h->n + 1, sizeof(*facts));
	for (size_t i = 0; facts && i < in_conf; i++) {
		n = add_rows(r, facts, n, conf_plugin_at(h->conf, i));
	}
	for (size_t i = 0; facts && i < h->n; i++) {
		if (is_stray(h, h->inst[i])) {
			n = add_rows(r, facts, n, h->inst[i]->conf);
		}
	}
	r->fn(r->arg, facts, n);
	pthread_mutex_unlock(&h->lock);
	free(facts);
}

static void on_round(void *arg)
{
	struct round *r = arg;
	int32_t n = loop_count(r->h->loop);
	if (r->next > n) {
		report(r);
		free(r);
		return;
	}
	add_worker(r, chat_at(loop_worker(r->h->loop, r->next - 1)));
	chatd_worker *to = r->next < n ? loop_worker(r->h->loop, r->next) : r->home;
	r->next++;
	if (worker_post(to, on_round, r) < 0) {
		free(r); /* the server ends: nobody waits any more */
	}
}

static chatd_status collect(void *obj, chatd_worker *w, chatd_plugins_fn *fn, void *arg)
{
	struct host *h = obj;
	pthread_mutex_lock(&h->lock);
	uint32_t n = (uint32_t)h->n;
	pthread_mutex_unlock(&h->lock);
	struct round *r = calloc(1, sizeof(*r) + n * sizeof(r->sum[0]));
	if (!r) {
		return -ENOMEM;
	}
	*r = (struct round){ .h = h, .home = w, .next = 1, .n = n, .fn = fn, .arg = arg };
	int rc = worker_post(loop_worker(h->loop, 0), on_round, r);
	if (rc < 0) {
		free(r);
	}
	return rc;
}

static int32_t left_out(void *obj, char *names, size_t room)
{
	struct host *h = obj;
	int32_t n = 0;
	size_t at = 0;
	if (room) {
		names[0] = '\0';
	}
	pthread_mutex_lock(&h->lock);
	for (const struct host_off *o = h->off; o; o = o->next, n++) {
		if (at < room) {
			at += (size_t)snprintf(names + at, room - at, "%s%s", n ? " " : "", o->name);
		}
	}
	pthread_mutex_unlock(&h->lock);
	return n;
}

const struct chatd_plugins figures_vt = {
	.struct_size = sizeof(struct chatd_plugins),
	.collect = collect,
	.change = change_ask,
	.left_out = left_out,
	.takes_part = lent_takes_part,
	.stays = lent_stays,
	.beginning = lent_beginning,
	.hearer = lent_hearer,
	.ended = lent_ended,
	.hold = lent_hold,
	.on_cut = lent_on_cut,
	.enter = lent_enter,
	.erred = lent_erred,
	.leave = lent_leave,
};

void figures_stalled(chatd_worker *w, const char *who, int64_t ms)
{
	struct chat_worker *cw = chat_at(w);
	struct host *h = worker_data(w, WORKER_DATA_HOST);
	pthread_mutex_lock(&h->lock);
	/* Of one that is being turned on the worker hears before h->inst has it. */
	for (uint32_t i = 0; who && cw && i < cw->n_counts && i < h->n; i++) {
		struct chat_count *n = &cw->counts[i];
		if (strcmp(h->inst[i]->name, who) == 0) {
			n->slow++;
			/* Of those that were not measured one by one it is known now how long it took. */
			n->busy_ns += n->batch > n->left ? ms * 1000000 : 0;
		}
	}
	pthread_mutex_unlock(&h->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "host/plan.h"

#include "host/lent.h"
#include "host/turn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plan_say(struct plan *p, const char *fmt, ...)
{
	va_list ap;
	size_t room = sizeof(p->lines.p) - p->n_lines;
	va_start(ap, fmt);
	int n = room > 1 ? vsnprintf(p->lines.p + p->n_lines, room - 1, fmt, ap) : 0;
	va_end(ap);
	if (n > 0 && (size_t)n < room - 1) {
		p->n_lines += (size_t)n;
		p->lines.p[p->n_lines++] = '\n';
	}
	p->lines.p[p->n_lines] = '\0';
}

static void changes(struct plan *p, const char *name, const char *key, const char *how)
{
	p->changes++;
	p->keeps = 1;
	plan_say(p, "%s%s%s: %s", name, key ? "." : "", key ? key : "", how);
}

static void waits(struct plan *p, const char *name, const char *key, const char *why)
{
	p->waits++;
	plan_say(p, "%s%s%s: needs a restart%s%s%s", name, key ? "." : "", key ? key : "",
			why ? " (" : "", why ? why : "", why ? ")" : "");
}

/* ---- the server section -------------------------------------------------------------- */

static void compare_server(struct plan *p)
{
	const struct conf_about *about = conf_server_about();
	const struct conf_server *now = conf_server(p->conf);
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(about->opts, about->opt_size, i, &o); i++) {
		/* What can be changed has perhaps been changed; the rest is as it was at the start. */
		int live = (o.flags & CHATD_O_LIVE) != 0;
		const struct conf_server *runs = live ? conf_server(p->h->conf) : p->h->server;
		if (same_value(&o, about->opt_size, runs, now)) {
			continue;
		}
		if (live) {
			p->logs = 1;
			changes(p, "server", o.key, "changed");
		} else {
			waits(p, "server", o.key, NULL);
		}
	}
}

/* ---- one plugin ------------------------------------------------------------------------- */

static int shadow_has(const struct plan *p, const char *name)
{
	for (size_t i = 0; i < p->n_in; i++) {
		if (strcmp(p->in[i]->name, name) == 0) {
			return 1;
		}
	}
	for (size_t i = 0; i < p->shadow.n; i++) {
		if (p->shadow.inst[i] && strcmp(p->shadow.inst[i]->name, name) == 0) {
			return 1;
		}
	}
	return 0;
}

static int can_go(const struct plan *p, const chatd_ctx *c, char *why, size_t room);

static int goes_too(const void *arg, const chatd_ctx *c)
{
	char why[160];
	const struct plan *p = arg;
	return !shadow_has(p, c->name) && can_go(p, c, why, sizeof(why));
}

/* 1: somebody who stays has its service, and would go on calling it. */
static int is_held(const struct plan *p, const chatd_ctx *c, char *why, size_t room)
{
	int needs;
	const chatd_ctx *user = lent_user(p->h, c, goes_too, p, &needs);
	if (user) {
		snprintf(
				why, room, "plugin \"%.64s\" %s its service", user->name, needs ? "needs" : "uses");
	}
	return user != NULL;
}

/* Nobody uses a service of somebody who uses theirs: graph.c refuses that. */
static int can_go(const struct plan *p, const chatd_ctx *c, char *why, size_t room)
{
	return turn_may(p->h, c->plugin, why, room) && !is_held(p, c, why, room);
}

static int comes_with(const struct plan *p, const char *interface)
{
	for (size_t i = 0; i < p->n_in; i++) {
		const char *const *given = p->in[i]->plugin->provides;
		for (size_t k = 0; given && given[k]; k++) {
			if (strcmp(given[k], interface) == 0) {
				return 1;
			}
		}
	}
	return 0;
}

/* As turn_lacks(); who begins before it in this turn is there. */
static const char *lacks_of(const struct plan *p, const char *const *interfaces)
{
	for (size_t i = 0; interfaces && interfaces[i]; i++) {
		const char *const one[] = { interfaces[i], NULL };
		if (turn_lacks(p->h, one) && !comes_with(p, interfaces[i])) {
			return interfaces[i];
		}
	}
	return NULL;
}

/* NULL, or why it can be neither turned on nor off. */
static const char *why_not(const struct plan *p, const chatd_ctx *c, char *why, size_t room)
{
	if (!turn_may(p->h, c->plugin, why, room)) {
		return why;
	}
	if (c->host == p->h && is_held(p, c, why, room)) {
		return why;
	}
	const char *lacks = lacks_of(p, c->plugin->needs);
	if (lacks) {
		snprintf(why, room, "it needs %s, which no running plugin provides", lacks);
		return why;
	}
	/* It can do without; but a start would give it what is in the configuration. */
	lacks = lacks_of(p, c->plugin->wants);
	if (lacks && c->host == &p->shadow && graph_will_provide(c->host, lacks)) {
		snprintf(why, room, "it wants %s, whose plugin needs one", lacks);
		return why;
	}
	return NULL;
}

static void comes(struct plan *p, size_t i)
{
	chatd_ctx *c = p->shadow.inst[i];
	p->in[p->n_in++] = c;
	p->shadow.inst[i] = NULL;
	p->keeps = 1;
}

static void goes(struct plan *p, const char *name)
{
	p->out[p->n_out++] = name;
	p->keeps = 1;
}

static void consider_on(struct plan *p, size_t i)
{
	chatd_ctx *c = p->shadow.inst[i];
	char room[160];
	const char *why = why_not(p, c, room, sizeof(room));
	int known = conf_plugin_named(p->h->conf, c->name) != NULL;
	if (why) {
		waits(p, c->name, known ? "enabled" : NULL, why);
	} else {
		changes(p, c->name, NULL, "turned on");
		comes(p, i);
	}
}

static void consider_off(struct plan *p, const chatd_ctx *c)
{
	char why[160];
	int known = conf_plugin_named(p->conf, c->name) != NULL;
	if (can_go(p, c, why, sizeof(why))) {
		changes(p, c->name, NULL, "turned off");
		goes(p, c->name);
	} else {
		waits(p, c->name, known ? "enabled" : NULL, why);
	}
}

static int same_order(const struct conf_plugin *a, const struct conf_plugin *b)
{
	return a->order_count == b->order_count &&
			(!a->order_count ||
					memcmp(a->order, b->order, a->order_count * sizeof(*a->order)) == 0);
}

static void compare_common(struct plan *p, const chatd_ctx *c, const chatd_ctx *fresh)
{
	if (c->conf->timeout_ms != fresh->conf->timeout_ms) {
		p->tunes = 1;
		changes(p, c->name, "timeout", "changed");
	}
	if (c->conf->on_error != fresh->conf->on_error) {
		p->tunes = 1;
		changes(p, c->name, "on_error", "changed");
	}
}

/* Who can be turned off and on goes on with new values as another instance. */
struct compared {
	int live, fixed; /* how many differ */
	int files;       /* a live option names files, perhaps, which may have changed */
	const char *why; /* the fixed ones need a restart; NULL: another instance will do */
};

static void differs(struct plan *p, const chatd_ctx *c, struct compared *r, const char *key)
{
	r->fixed++;
	if (r->why) {
		waits(p, c->name, key, NULL);
	} else {
		changes(p, c->name, key, "changed, by a new instance of the plugin");
	}
}

static void compare_options(
		struct plan *p, const chatd_ctx *c, const chatd_ctx *fresh, struct compared *r)
{
	const struct chatd_plugin *pl = c->plugin;
	struct chatd_opt o;
	for (size_t i = 0; pl->opts && fill_opt_at(pl->opts, pl->opt_size, i, &o); i++) {
		int live = pl->reload && o.flags & CHATD_O_LIVE;
		const void *runs = live && c->reloaded ? c->reloaded : c->options;
		r->files |= live && !(o.flags & CHATD_O_SECRET);
		if (same_value(&o, pl->opt_size, runs, fresh->options)) {
			continue;
		}
		if (live) {
			r->live++;
			changes(p, c->name, o.key, "changed");
		} else {
			differs(p, c, r, o.key);
		}
	}
}

static void compare(struct plan *p, chatd_ctx *c, size_t i)
{
	chatd_ctx *fresh = p->shadow.inst[i];
	char room[160];
	struct compared r = { .why = why_not(p, c, room, sizeof(room)) };
	compare_common(p, c, fresh);
	if (fresh->module != c->module) {
		differs(p, c, &r, "plugin");
	} else {
		compare_options(p, c, fresh, &r);
	}
	if (!same_order(c->began, fresh->conf)) {
		differs(p, c, &r, "order");
	}
	if (r.fixed && !r.why) {
		goes(p, c->name);
		comes(p, i);
	} else if (r.live) {
		p->reloads[p->n_reloads++] = (struct plan_reload){ .c = c, .options = fresh->options };
		fresh->options = NULL;
	} else if (r.files) {
		p->reloads[p->n_reloads++].c = c;
	}
}

/* ---- all of them ---------------------------------------------------------------------------- */

static int runs(const chatd_ctx *c)
{
	return c && atomic_load(&c->state) == CHATD_PLUGIN_RUNS;
}

/* Of those who are off: that they are in the file, and how. */
static int names_differ(const struct conf *a, const struct conf *b)
{
	for (size_t i = 0; i < conf_plugin_count(a); i++) {
		const struct conf_plugin *x = conf_plugin_at(a, i), *y = conf_plugin_named(b, x->name);
		if (!y || x->enabled != y->enabled || x->optional != y->optional ||
				strcmp(x->module, y->module) != 0) {
			return 1;
		}
	}
	return 0;
}

static void compare_all(struct plan *p)
{
	struct host *h = p->h;
	compare_server(p);
	for (size_t i = 0; i < h->n; i++) {
		chatd_ctx *c = h->inst[i];
		if (runs(c) && !shadow_has(p, c->name)) {
			consider_off(p, c);
		}
	}
	for (size_t k = 0; k < p->shadow.n; k++) { /* those whose services others use first */
		size_t i = 0;
		while (p->shadow.inst[i] != p->shadow.order[k]) {
			i++;
		}
		chatd_ctx *c = figures_latest(h, p->shadow.order[k]->name);
		if (runs(c)) {
			compare(p, c, i);
		} else {
			consider_on(p, i);
		}
	}
	p->keeps |= names_differ(h->conf, p->conf) || names_differ(p->conf, h->conf);
}

/* ---- reading --------------------------------------------------------------------------- */

static int refuse(const struct diag *d, struct change_text *text)
{
	size_t n = 0;
	for (const struct diag_item *it = d->items; it && n < sizeof(text->p) - 1; it = it->next) {
		char at[64] = "";
		if (it->at.file && it->at.line) {
			snprintf(at, sizeof(at), ":%u:%u", it->at.line, it->at.col);
		}
		int k = snprintf(text->p + n, sizeof(text->p) - n, "reload rejected: %s%s%s%s\n",
				it->at.file ? it->at.file : "", at, it->at.file ? ": " : "", it->text);
		n += k > 0 ? (size_t)k : 0;
	}
	if (!d->items) {
		n = (size_t)snprintf(text->p, sizeof(text->p), "reload rejected: no memory\n");
	}
	if (n < sizeof(text->p)) {
		snprintf(text->p + n, sizeof(text->p) - n, "all goes on as before");
	}
	return -EINVAL;
}

static int check_whole(struct plan *p, struct change_text *text)
{
	struct diag d = { 0 };
	struct host *h = p->h, *s = &p->shadow;
	int rc = -EINVAL;
	p->conf = h->read_again(h->read_arg, &d);
	if (p->conf) {
		*s = (struct host){ .shadow_of = h,
			.conf = p->conf,
			.server = conf_server(p->conf),
			.modules = h->modules,
			.wake_fd = -1 };
		rc = host_load(s, &d);
	}
	if (rc < 0) {
		rc = refuse(&d, text);
	}
	diag_finish(&d);
	return rc;
}

struct plan *plan_make(struct host *h, struct change_text *text)
{
	struct plan *p = calloc(1, sizeof(*p));
	if (!p || !h->read_again) {
		snprintf(text->p, sizeof(text->p), "reload rejected: no memory\nall goes on as before");
		free(p);
		return NULL;
	}
	p->h = h;
	if (check_whole(p, text) < 0) {
		plan_free(p);
		return NULL;
	}
	p->in = calloc(p->shadow.n + 1, sizeof(chatd_ctx *));
	p->out = calloc(h->n + p->shadow.n + 1, sizeof(char *));
	p->reloads = calloc(p->shadow.n + 1, sizeof(*p->reloads));
	if (!p->in || !p->out || !p->reloads) {
		snprintf(text->p, sizeof(text->p), "reload rejected: no memory\nall goes on as before");
		plan_free(p);
		return NULL;
	}
	compare_all(p);
	return p;
}

static void free_instances(chatd_ctx **all, size_t n)
{
	for (size_t i = 0; all && i < n; i++) {
		if (all[i]) {
			free(all[i]->options);
			free(all[i]);
		}
	}
	free(all);
}

void plan_free(struct plan *p)
{
	if (!p) {
		return;
	}
	free_instances(p->in, p->n_in);
	free_instances(p->shadow.inst, p->shadow.n);
	free(p->shadow.order);
	while (p->shadow.off) {
		struct host_off *next = p->shadow.off->next;
		free(p->shadow.off);
		p->shadow.off = next;
	}
	for (size_t i = 0; i < p->n_reloads; i++) {
		free(p->reloads[i].options);
	}
	free(p->reloads);
	free(p->out);
	conf_free(p->conf);
	free(p);
}

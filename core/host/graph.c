/* SPDX-License-Identifier: Apache-2.0 */
/* Start order: a plugin comes after those that provide what it needs or wants. */
#include "host/instance.h"

#include <chatd/plugins.h>
#include <chatd/stats.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int graph_core_provides(const char *interface)
{
	return strcmp(interface, CHATD_SESSIONS) == 0 || strcmp(interface, CHATD_NET) == 0 ||
			strcmp(interface, CHATD_STATS) == 0 || strcmp(interface, CHATD_PLUGINS) == 0;
}

static int provides(const struct chatd_plugin *p, const char *interface)
{
	for (size_t i = 0; p->provides && p->provides[i]; i++) {
		if (strcmp(p->provides[i], interface) == 0) {
			return 1;
		}
	}
	return 0;
}

static chatd_ctx *provider(struct host *h, const char *interface)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->inst[i] && provides(h->inst[i]->plugin, interface)) { /* NULL: taken by plan.c */
			return h->inst[i];
		}
	}
	return NULL;
}

int graph_will_provide(struct host *h, const char *interface)
{
	return graph_core_provides(interface) || provider(h, interface) != NULL;
}

int graph_is_needed(const struct host *h, const chatd_ctx *c)
{
	for (size_t i = 0; i < h->n; i++) {
		const chatd_ctx *other = h->inst[i];
		const char *const *list = other->plugin->needs;
		for (size_t k = 0; !other->conf->optional && list && list[k]; k++) {
			if (other != c && provides(c->plugin, list[k])) {
				return 1;
			}
		}
	}
	return 0;
}

/* The modules on disk that would do; to name them costs loading all, so only for an error. */
static void known_providers(struct host *h, const char *interface, char *ret, size_t room)
{
	size_t n = 0, at = 0;
	char **names = modules_list(h->modules, &n);
	ret[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		struct load_error e;
		const struct module *m = module_load(h->modules, names[i], &e);
		if (m && provides(&m->plugin, interface) && at < room) {
			at += (size_t)snprintf(ret + at, room - at, "%s%s", at ? ", " : "", names[i]);
		}
		free(names[i]);
	}
	free(names);
}

/* One pass over all instances.  Without .d it only finds those that are optional and cannot be
 * had; what it finds wrong with the others is for the pass that complains. */
struct pass {
	struct host *h;
	struct diag *d;
	size_t at;
};

static void skip(chatd_ctx *c, const char *why)
{
	if (!c->skipped) {
		host_leave_out(c->host, c, "%s", why);
	}
}

static int refuse_missing(struct pass *p, chatd_ctx *c, const char *interface)
{
	char known[512], why[256];
	if (c->conf->optional) {
		snprintf(why, sizeof(why),
				"it needs the service \"%.80s\", which no plugin that is turned on provides",
				interface);
		skip(c, why);
	} else if (p->d) {
		known[0] = '\0';
		if (!p->h->shadow_of) { /* a server that runs does not map files for that */
			known_providers(p->h, interface, known, sizeof(known));
		}
		conf_complain(p->h->conf, c->conf->node, NULL, p->d,
				"it needs the service \"%s\", which no plugin that is turned on provides\n%s%s",
				interface,
				known[0]                  ? "add one that does, or turn it on: "
						: p->h->shadow_of ? "chatd --check names those that do"
										  : "nor does any installed plugin",
				known);
	}
	return -EINVAL;
}

static int refuse_circle(struct pass *p, chatd_ctx *c, chatd_ctx *other, const char *interface)
{
	char why[256];
	snprintf(why, sizeof(why),
			"plugins \"%.64s\" and \"%.64s\" need each other (through \"%.64s\")", c->name,
			other->name, interface);
	if (c->conf->optional || other->conf->optional) {
		skip(c->conf->optional ? c : other, why);
	} else if (p->d) {
		conf_complain(
				p->h->conf, c->conf->node, NULL, p->d, "%s: one of them must do without", why);
	}
	return -EINVAL;
}

static int place(struct pass *p, chatd_ctx *c);

static int place_providers(struct pass *p, chatd_ctx *c, const char *const *list, int must)
{
	int rc = 0;
	for (size_t i = 0; list && list[i]; i++) {
		if (graph_core_provides(list[i])) {
			continue;
		}
		chatd_ctx *by = provider(p->h, list[i]);
		if (!by && must) {
			rc = refuse_missing(p, c, list[i]);
		}
		if (!by || by == c) {
			continue;
		}
		if (by->placed == 1) {
			return refuse_circle(p, c, by, list[i]);
		}
		if (place(p, by) < 0) {
			rc = -EINVAL;
		}
	}
	return rc;
}

static int place(struct pass *p, chatd_ctx *c)
{
	if (c->placed) {
		return 0;
	}
	c->placed = 1;
	int rc = place_providers(p, c, c->plugin->needs, 1);
	if (place_providers(p, c, c->plugin->wants, 0) < 0) {
		rc = -EINVAL;
	}
	c->placed = 2;
	p->h->order[p->at++] = c;
	return rc;
}

static int refuse_second(struct pass *p, chatd_ctx *first, chatd_ctx *c, const char *interface)
{
	char why[256];
	snprintf(why, sizeof(why), "plugins \"%.64s\" and \"%.64s\" both provide \"%.64s\"",
			first->name, c->name, interface);
	if (c->conf->optional || first->conf->optional) {
		skip(c->conf->optional ? c : first, why);
	} else if (p->d) {
		conf_complain(p->h->conf, c->conf->node, NULL, p->d,
				"%s: keep one, or set enabled: false on the other", why);
	}
	return -EINVAL;
}

static int check_unique(struct pass *pass)
{
	struct host *h = pass->h;
	int rc = 0;
	for (size_t i = 0; i < h->n; i++) {
		const char *const *p = h->inst[i]->plugin->provides;
		for (size_t k = 0; p && p[k]; k++) {
			chatd_ctx *first = provider(h, p[k]);
			if (first != h->inst[i] && first->plugin != h->inst[i]->plugin) {
				rc = refuse_second(pass, first, h->inst[i], p[k]);
			}
		}
	}
	return rc;
}

static int run(struct host *h, struct diag *d)
{
	struct pass p = { .h = h, .d = d };
	for (size_t i = 0; i < h->n; i++) {
		h->inst[i]->placed = 0;
	}
	int rc = check_unique(&p);
	for (size_t i = 0; i < h->n; i++) {
		if (place(&p, h->inst[i]) < 0) {
			rc = -EINVAL;
		}
	}
	return rc;
}

/* 1: somebody has gone, and whoever needs them must be looked at again. */
static int drop_skipped(struct host *h)
{
	size_t kept = 0, before = h->n;
	for (size_t i = 0; i < before; i++) {
		chatd_ctx *c = h->inst[i];
		if (c->skipped) {
			free(c->options);
			free(c);
			continue;
		}
		c->index = (uint32_t)kept;
		h->inst[kept++] = c;
	}
	h->n = kept;
	return kept < before;
}

int graph_order(struct host *h, struct diag *d)
{
	h->order = calloc(h->n + 1, sizeof(*h->order));
	if (!h->order) {
		return -ENOMEM;
	}
	do {
		(void)run(h, NULL);
	} while (drop_skipped(h));
	return run(h, d);
}

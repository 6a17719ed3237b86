/* SPDX-License-Identifier: Apache-2.0 */
/* Start order: a plugin comes after those that provide what it needs or wants. */
#include "host/instance.h"

#include <chatd/stats.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int graph_core_provides(const char *interface)
{
	return strcmp(interface, CHATD_SESSIONS) == 0 || strcmp(interface, CHATD_NET) == 0 ||
			strcmp(interface, CHATD_STATS) == 0;
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
		if (provides(h->inst[i]->plugin, interface)) {
			return h->inst[i];
		}
	}
	return NULL;
}

int graph_will_provide(struct host *h, const char *interface)
{
	return graph_core_provides(interface) || provider(h, interface) != NULL;
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

static int complain_missing(struct host *h, chatd_ctx *c, const char *interface, struct diag *d)
{
	char known[512];
	known_providers(h, interface, known, sizeof(known));
	conf_complain(h->conf, c->conf->node, NULL, d,
			"it needs the service \"%s\", which no plugin that is turned on provides\n%s%s",
			interface,
			known[0] ? "add one that does, or turn it on: " : "nor does any installed plugin",
			known);
	return -EINVAL;
}

static int place(struct host *h, chatd_ctx *c, size_t *at, struct diag *d);

static int place_providers(
		struct host *h, chatd_ctx *c, const char *const *list, int must, size_t *at, struct diag *d)
{
	int rc = 0;
	for (size_t i = 0; list && list[i]; i++) {
		if (graph_core_provides(list[i])) {
			continue;
		}
		chatd_ctx *p = provider(h, list[i]);
		if (!p && must) {
			rc = complain_missing(h, c, list[i], d);
		}
		if (!p || p == c) {
			continue;
		}
		if (p->placed == 1) {
			conf_complain(h->conf, c->conf->node, NULL, d,
					"plugins \"%s\" and \"%s\" need each other (through \"%s\"): one of them must do "
					"without",
					c->name, p->name, list[i]);
			return -EINVAL;
		}
		if (place(h, p, at, d) < 0) {
			rc = -EINVAL;
		}
	}
	return rc;
}

static int place(struct host *h, chatd_ctx *c, size_t *at, struct diag *d)
{
	if (c->placed) {
		return 0;
	}
	c->placed = 1;
	int rc = place_providers(h, c, c->plugin->needs, 1, at, d);
	if (place_providers(h, c, c->plugin->wants, 0, at, d) < 0) {
		rc = -EINVAL;
	}
	c->placed = 2;
	h->order[(*at)++] = c;
	return rc;
}

static int check_unique(struct host *h, struct diag *d)
{
	int rc = 0;
	for (size_t i = 0; i < h->n; i++) {
		const char *const *p = h->inst[i]->plugin->provides;
		for (size_t k = 0; p && p[k]; k++) {
			chatd_ctx *first = provider(h, p[k]);
			if (first != h->inst[i] && first->plugin != h->inst[i]->plugin) {
				conf_complain(h->conf, h->inst[i]->conf->node, NULL, d,
						"plugins \"%s\" and \"%s\" both provide \"%s\": keep one, or set enabled: false "
						"on the other",
						first->name, h->inst[i]->name, p[k]);
				rc = -EINVAL;
			}
		}
	}
	return rc;
}

int graph_order(struct host *h, struct diag *d)
{
	size_t at = 0;
	int rc = check_unique(h, d);
	h->order = calloc(h->n + 1, sizeof(*h->order));
	if (!h->order) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < h->n; i++) {
		if (place(h, h->inst[i], &at, d) < 0) {
			rc = -EINVAL;
		}
	}
	return rc;
}

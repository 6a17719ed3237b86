/* SPDX-License-Identifier: Apache-2.0 */
/* One live option of a running plugin is given another value. */
#include "base/diag.h"
#include "host/change.h"
#include "host/turn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_option(const chatd_ctx *c, const char *key, struct chatd_opt *ret)
{
	const struct chatd_plugin *p = c->plugin;
	for (size_t i = 0; fill_opt_at(p->opts, p->opt_size, i, ret); i++) {
		if (strcmp(ret->key, key) == 0) {
			return 1;
		}
	}
	return 0;
}

static int may_set(const struct host *h, const chatd_ctx *c, const char *key, struct change_text *t)
{
	struct chatd_opt o;
	if (!find_option(c, key, &o)) {
		snprintf(t->p, sizeof(t->p),
				"plugin \"%s\" has no option \"%.64s\"; chatd --describe %s lists them", c->name,
				key, c->module->name);
		return -ENOENT;
	}
	if (!c->plugin->reload || !(o.flags & CHATD_O_LIVE)) {
		snprintf(t->p, sizeof(t->p),
				"%s.%s is read at the start only; change it in the configuration and %s", c->name,
				key,
				turn_is_live(h, c->plugin) ? "reload: the plugin begins anew with it" : "restart");
		return -ENOTSUP;
	}
	return 0;
}

static int take(struct host *h, chatd_ctx *c, struct diag *d)
{
	const struct chatd_plugin *p = c->plugin;
	void *options = calloc(1, p->conf_size ? p->conf_size : 1);
	int rc = options ? conf_fill(h->conf, c->conf->node, c->name, p->opts, p->opt_size, options, d)
					 : -ENOMEM;
	if (rc == 0) {
		rc = p->reload(c->self, options);
	}
	if (rc < 0) {
		free(options);
		return rc;
	}
	free(c->reloaded);
	c->reloaded = options;
	return 0;
}

int live_set(struct host *h, const char *name, const char *assignment, struct change_text *t)
{
	chatd_ctx *c = figures_latest(h, name);
	const char *from = assignment + strlen("plugins.") + strlen(name) + 1;
	char key[64];
	snprintf(key, sizeof(key), "%.*s", (int)strcspn(from, "="), from);
	if (!c || atomic_load(&c->state) != CHATD_PLUGIN_RUNS) {
		snprintf(t->p, sizeof(t->p), "plugin \"%.64s\" does not run", name);
		return -ENOENT;
	}
	struct load_error e = { "" };
	if (module_is_damaged(c->module, &e)) {
		snprintf(t->p, sizeof(t->p), "%s", e.text);
		return -EIO;
	}
	int rc = may_set(h, c, key, t);
	if (rc < 0) {
		return rc;
	}
	struct diag d = { 0 };
	struct conf_undo undo;
	rc = conf_exchange(h->conf, c->conf->node, key, strchr(from, '=') + 1, &undo, &d);
	if (rc == 0) {
		rc = take(h, c, &d);
		if (rc < 0) {
			conf_undo(&undo);
		}
	}
	if (rc < 0) {
		snprintf(t->p, sizeof(t->p), "%s.%s stays as it was: %s", name, key,
				d.items ? d.items->text : strerror(-rc));
	} else {
		snprintf(t->p, sizeof(t->p),
				"%s.%s is set; to keep it so, write it into the configuration too", name, key);
	}
	diag_finish(&d);
	return rc;
}

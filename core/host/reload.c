/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: secrets that are in files (`file:PATH`) are read again, and plugins told of new ones; and
 * plugins whose live options name files are told to read those again. */
#include "base/diag.h"
#include "base/log.h"
#include "conf/conf.h"
#include "host/host.h"
#include "host/instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_at(const void *options, const struct chatd_opt *o)
{
	const char *text;
	memcpy(&text, (const char *)options + o->offset, sizeof(text));
	return text ? text : "";
}

static int is_secret(const struct chatd_opt *o)
{
	return o->flags & CHATD_O_SECRET && o->flags & CHATD_O_LIVE && o->type == CHATD_T_STRING;
}

static int is_live(const struct chatd_opt *o)
{
	return o->flags & CHATD_O_LIVE && !(o->flags & CHATD_O_SECRET);
}

static int can_reload(const chatd_ctx *c)
{
	struct chatd_opt o;
	const struct chatd_plugin *p = c->plugin;
	for (size_t i = 0;
			c->inited && p->reload && p->opts && fill_opt_at(p->opts, p->opt_size, i, &o); i++) {
		if (is_secret(&o) || is_live(&o)) {
			return 1;
		}
	}
	return 0;
}

/* What is in the files that it names only the plugin can tell. */
static int is_new(const chatd_ctx *c, const void *options)
{
	struct chatd_opt o;
	const void *before = c->reloaded ? c->reloaded : c->options;
	for (size_t i = 0; fill_opt_at(c->plugin->opts, c->plugin->opt_size, i, &o); i++) {
		if (is_live(&o)) {
			return 1;
		}
		if (is_secret(&o) && strcmp(text_at(before, &o), text_at(options, &o)) != 0) {
			return 1;
		}
	}
	return 0;
}

static void *fill_again(struct host *h, const chatd_ctx *c, struct diag *d)
{
	const struct chatd_plugin *p = c->plugin;
	void *options = calloc(1, p->conf_size);
	int rc = options ? conf_fill(h->conf, c->conf->node, c->name, p->opts, p->opt_size, options, d)
					 : -ENOMEM;
	if (rc < 0) {
		free(options);
		return NULL;
	}
	return options;
}

/* 1: it has a new secret and goes on with it. */
static int take(chatd_ctx *c, void *options)
{
	chatd_status rc = is_new(c, options) ? c->plugin->reload(c->self, options) : -EALREADY;
	if (rc < 0) {
		free(options);
		if (rc != -EALREADY) {
			log_write(CHATD_LOG_ERROR, c->name,
					"what was read again is refused, all goes on as before: %s", strerror(-rc));
		}
		return 0;
	}
	free(c->reloaded);
	c->reloaded = options;
	log_write(CHATD_LOG_INFO, c->name, "goes on with what was read again");
	return 1;
}

/* All or nothing: one file that cannot be read leaves everything as it is. */
void host_reload_secrets(struct host *h)
{
	struct diag d = { 0 };
	void **options = calloc(h->n + 1, sizeof(*options));
	int failed = !options, taken = 0;
	for (size_t i = 0; options && i < h->n; i++) {
		options[i] = can_reload(h->inst[i]) ? fill_again(h, h->inst[i], &d) : NULL;
		failed |= can_reload(h->inst[i]) && !options[i];
	}
	for (size_t i = 0; options && i < h->n; i++) {
		if (failed) {
			free(options[i]);
		} else if (options[i]) {
			taken += take(h->inst[i], options[i]);
		}
	}
	free(options);
	if (failed) {
		diag_print(&d, stderr);
		log_write(CHATD_LOG_ERROR, "core",
				"SIGHUP: reload rejected, see above: all goes on with the secrets that it has");
	} else {
		log_write(CHATD_LOG_INFO, "core",
				"SIGHUP: files with secrets and lists were read again, %d plugins go on with what "
				"they hold; other options change with a restart",
				taken);
	}
	diag_finish(&d);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that is turned on or off, or replaced by a newer version, while the server runs. */
#include "base/diag.h"
#include "host/change.h"
#include "host/crashes.h"
#include "host/lent.h"
#include "host/turn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSIONS_MAX = 8 }; /* of which sessions may go by at once, of all plugins together */

static int say(struct change_text *t, int rc, const char *fmt, ...) CHATD_PRINTF(3, 4);
static int say(struct change_text *t, int rc, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(t->p, sizeof(t->p), fmt, ap);
	va_end(ap);
	return rc;
}

static int is_on(const chatd_ctx *c)
{
	return c && atomic_load(&c->state) == CHATD_PLUGIN_RUNS;
}

static int may(struct host *h, const struct conf_plugin *cp, const struct chatd_plugin *p,
		struct change_text *t)
{
	char why[160];
	if (!turn_may(h, p, why, sizeof(why))) {
		return say(t, -ENOTSUP,
				"plugin \"%s\" cannot be turned on or off while the server runs: %s; set enabled: in the "
				"configuration and restart%s",
				cp->name, why, p->flags & CHATD_PLUGIN_LIVE ? "" : "; its README may say why");
	}
	const char *lacks = turn_lacks(h, p->needs);
	if (lacks) {
		return say(t, -ENOENT,
				"plugin \"%s\" needs the service \"%s\", which no plugin that is turned on provides",
				cp->name, lacks);
	}
	return 0;
}

static void drop(chatd_ctx *c)
{
	if (c) {
		free(c->options);
		free(c);
	}
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
			drop(c);
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

/* ---- on ---------------------------------------------------------------------------- */

static int turn_on(struct host *h, const struct conf_plugin *cp, const struct module *m,
		struct change_text *text)
{
	chatd_ctx *c = make(h, cp, m, text);
	if (!c) {
		return -EINVAL;
	}
	struct turn *t = turn_create(h, 1);
	if (!t) {
		drop(c);
		return say(text, -ENOMEM, "plugin \"%s\": no memory", cp->name);
	}
	turn_in(t, c);
	int rc = turn_start(t, text);
	if (rc < 0) {
		return rc;
	}
	turn_commit(t);
	return say(text, 0, "plugin \"%s\" is on; to keep it so, say it in the configuration too",
			cp->name);
}

int live_enable(struct host *h, const char *name, struct change_text *text)
{
	const struct conf_plugin *cp = conf_plugin_named(h->conf, name);
	struct load_error e = { "" };
	if (!cp) {
		return say(text, -ENOENT,
				"no plugin \"%.64s\" is in the configuration; add it there, with enabled: false if you "
				"like, and restart or reload",
				name);
	}
	chatd_ctx *have = figures_latest(h, name);
	if (have && atomic_load(&have->state) == CHATD_PLUGIN_DRAINS) {
		return say(text, -EAGAIN, "plugin \"%s\" is about to end: try again when it is off", name);
	}
	if (have && atomic_load(&have->state) != CHATD_PLUGIN_OFF) {
		return say(text, 0, "plugin \"%s\" is on already", name);
	}
	int rc = crashes_forget(h->server->data_dir, name);
	if (rc < 0) {
		return say(text, rc, "%s/crashes/%s cannot be removed: %s", h->server->data_dir, name,
				strerror(-rc));
	}
	const struct module *m = module_newest(h->modules, cp->module, &e);
	if (!m) {
		return say(text, -ENOENT, "%s", e.text);
	}
	rc = may(h, cp, &m->plugin, text);
	if (rc == -ENOTSUP && cp->enabled) { /* it was left out: what it did is forgotten now */
		return say(text, 0,
				"plugin \"%s\" takes part again from the next start on; while the server runs it cannot be "
				"turned on",
				name);
	}
	return rc < 0 ? rc : turn_on(h, cp, m, text);
}

/* ---- off ---------------------------------------------------------------------------- */

/* Whoever has its service would go on calling it. */
static int may_go(struct host *h, const chatd_ctx *c, struct change_text *text)
{
	char why[160];
	int needs;
	const chatd_ctx *user = lent_user(h, c, NULL, NULL, &needs);
	if (!user) {
		return 0;
	}
	if (turn_may(h, user->plugin, why, sizeof(why))) {
		snprintf(why, sizeof(why), "turn that off first: chatctl plugin disable %.64s", user->name);
	} else {
		snprintf(why, sizeof(why),
				"that stays on while the server runs: set enabled: in the configuration and restart");
	}
	return say(text, -EBUSY, "plugin \"%s\" stays on: plugin \"%s\" %s its service; %s", c->name,
			user->name, needs ? "needs" : "uses", why);
}

int live_disable(struct host *h, const char *name, struct change_text *text)
{
	chatd_ctx *c = figures_latest(h, name);
	if (!c && !conf_plugin_named(h->conf, name)) {
		return say(text, -ENOENT, "no plugin \"%.64s\" is in the configuration", name);
	}
	if (!is_on(c)) {
		return say(text, 0, "plugin \"%s\" is off already", name);
	}
	struct load_error e = { "" };
	if (module_is_damaged(c->module, &e)) {
		return say(text, -EIO, "%s", e.text);
	}
	int rc = may(h, c->conf, c->plugin, text);
	rc = rc < 0 ? rc : may_go(h, c, text);
	struct turn *t = rc < 0 ? NULL : turn_create(h, 0);
	if (rc == 0 && !t) {
		return say(text, -ENOMEM, "plugin \"%s\": no memory", name);
	}
	if (t) {
		turn_out_all(t, name);
		rc = turn_start(t, text);
	}
	if (rc < 0) {
		return rc;
	}
	turn_commit(t);
	return say(text, -EINPROGRESS,
			"plugin \"%s\" is off; to keep it so, say it in the configuration too", name);
}

/* ---- a newer version ------------------------------------------------------------------ */

static const char *version_of(const chatd_ctx *c)
{
	return c->plugin->version && *c->plugin->version ? c->plugin->version : "without a number";
}

static int older_views(const struct host *h)
{
	int n = 0;
	const struct chat_view *v = atomic_load(&h->chat->view);
	while ((v = atomic_load(&v->older))) {
		n++;
	}
	return n;
}

/* What is there is looked at first, so that nothing is mapped in vain. */
static int may_load(
		struct host *h, const char *name, const chatd_ctx *c, int at_once, struct change_text *text)
{
	char why[160];
	if (!c && !conf_plugin_named(h->conf, name)) {
		return say(text, -ENOENT, "no plugin \"%.64s\" is in the configuration", name);
	}
	if (!is_on(c)) {
		return say(text, -ENOENT,
				"plugin \"%.64s\" is off: chatctl plugin enable begins with the file that is there",
				name);
	}
	if (!turn_may(h, c->plugin, why, sizeof(why))) {
		return say(text, -ENOTSUP,
				"plugin \"%s\" cannot be replaced while the server runs: %s; restart the server",
				name, why);
	}
	if (c->hears && !at_once) {
		return say(text, -ENOTSUP,
				"plugin \"%s\" is told by others what happens, and two versions would both act on it; "
				"let the new one take its place: chatctl plugin load %s --at-once",
				name, name);
	}
	return may_go(h, c, text);
}

static int replace(
		struct host *h, chatd_ctx *old, chatd_ctx *by, int at_once, struct change_text *text)
{
	char from[64], to[64];
	long sessions = chat_session_count(h->chat);
	struct turn *t = turn_create(h, 1);
	if (!t) {
		drop(by);
		return say(text, -ENOMEM, "plugin \"%s\": no memory", old->name);
	}
	snprintf(from, sizeof(from), "%.60s", version_of(old));
	snprintf(to, sizeof(to), "%.60s", version_of(by));
	if (at_once) {
		turn_out_all(t, old->name);
		turn_in(t, by);
	} else {
		turn_replace(t, old, by);
	}
	int rc = turn_start(t, text);
	if (rc < 0) {
		return rc;
	}
	turn_commit(t);
	if (at_once) {
		return say(text, -EINPROGRESS,
				"plugin \"%s\": version %s has taken the place of version %s, for all sessions",
				old->name, to, from);
	}
	(void)turn_tend(h);
	return say(text, 0,
			"plugin \"%s\": version %s is there for sessions that begin from now on; version %s stays "
			"for the %ld that are there, and stops when the last of them has ended",
			old->name, to, from, sessions);
}

int live_load(struct host *h, const char *name, int at_once, struct change_text *text)
{
	chatd_ctx *old = figures_latest(h, name);
	struct load_error e = { "" };
	int rc = may_load(h, name, old, at_once, text);
	if (rc < 0) {
		return rc;
	}
	if (!at_once && older_views(h) >= VERSIONS_MAX) {
		return say(text, -EBUSY,
				"plugin \"%s\": sessions go by %d older versions already (chatctl plugin list); wait for "
				"their end, or let the new one take their place: chatctl plugin load %s --at-once",
				name, VERSIONS_MAX, name);
	}
	const struct module *m = module_newest(h->modules, old->module->name, &e);
	if (!m) {
		return say(text, -ENOENT, "%s; version %s goes on", e.text, version_of(old));
	}
	if (m == old->module) {
		return say(text, -EEXIST,
				"plugin \"%s\": %s is what runs (version %s); put the new file in its place, as install(1) "
				"and mv do, and say this again",
				name, m->real, version_of(old));
	}
	const struct conf_plugin *cp = conf_plugin_named(h->conf, name);
	rc = may(h, cp ? cp : old->conf, &m->plugin, text);
	chatd_ctx *by = rc < 0 ? NULL : make(h, cp ? cp : old->conf, m, text);
	if (!by) {
		return rc < 0 ? rc : -EINVAL;
	}
	return replace(h, old, by, at_once, text);
}

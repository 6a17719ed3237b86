/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP and "chatctl reload": all that can be changed of what was read again, or nothing. */
#include "base/log.h"
#include "host/patience.h"
#include "host/plan.h"
#include "host/turn.h"
#include "loop/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int reject(struct change_text *text, int rc, const char *why)
{
	char line[600];
	snprintf(line, sizeof(line), "%.590s", why);
	snprintf(text->p, sizeof(text->p), "reload rejected: %s\nall goes on as before", line);
	return rc;
}

/* ---- on_error: ----------------------------------------------------------------------- */

/* As at the start: whoever is asked who may come in lets nobody through when it fails. */
static const char *opens_doors(const struct plan *p)
{
	const struct chain *c = chat_chain(p->h->chat, chatd_hook_session_auth);
	for (size_t i = 0; i < c->n; i++) {
		const char *name = p->h->inst[c->hooks[i].inst]->name;
		const struct conf_plugin *cp = conf_plugin_named(p->conf, name);
		if (cp && cp->on_error == 1) {
			return name;
		}
	}
	return NULL;
}

/* ---- reload() ---------------------------------------------------------------------------- */

static const void *present(const chatd_ctx *c)
{
	return c->reloaded ? c->reloaded : c->options;
}

static int call_reload(struct host *h, const chatd_ctx *c, const void *options)
{
	patience_begin(h->patience, c->name, "reload()", 1);
	int rc = c->plugin->reload(c->self, options);
	patience_end(h->patience);
	return rc < 0 ? rc : 0;
}

/* Those before number @p n have taken other values, and go back to what they had. */
static void take_back(const struct plan *p, size_t n)
{
	for (size_t i = n; i-- > 0;) {
		const chatd_ctx *c = p->reloads[i].c;
		int rc = call_reload(p->h, c, present(c));
		if (rc < 0) {
			log_write(CHATD_LOG_ERROR, "core",
					"plugin \"%s\" does not go back to what it had: %s; restart the server",
					c->name, strerror(-rc));
		}
	}
}

static int reload_all(struct plan *p, struct change_text *text)
{
	for (size_t i = 0; i < p->n_reloads; i++) {
		struct plan_reload *r = &p->reloads[i];
		int rc = call_reload(p->h, r->c, r->options ? r->options : present(r->c));
		if (rc < 0) {
			char why[256];
			snprintf(why, sizeof(why), "plugin \"%s\" refuses what was read: %s; the log has more",
					r->c->name, strerror(-rc));
			take_back(p, i);
			return reject(text, rc, why);
		}
	}
	return 0;
}

/* ---- certificates ------------------------------------------------------------------------- */

static int read_certificates(struct host *h, struct change_text *text)
{
	struct net_error e;
	int rc = net_tls_reread(h->net, &e);
	return rc < 0 ? reject(text, rc, e.text) : 0;
}

/* ---- all at once ---------------------------------------------------------------------------- */

static int start_turn(struct plan *p, struct turn **ret_turn, struct change_text *text)
{
	*ret_turn = NULL;
	if (!p->n_in && !p->n_out && !p->tunes) {
		return 0;
	}
	struct turn *t = turn_create(p->h, p->n_in);
	if (!t) {
		return reject(text, -ENOMEM, "no memory");
	}
	for (size_t i = 0; i < p->n_out; i++) {
		turn_out_all(t, p->out[i]);
	}
	for (size_t i = 0; i < p->n_in; i++) {
		p->in[i]->host = p->h;
		turn_in(t, p->in[i]);
		p->in[i] = NULL;
	}
	if (p->tunes) {
		turn_tune(t, p->conf);
	}
	int rc = turn_start(t, text);
	if (rc < 0) {
		return reject(text, rc, text->p);
	}
	*ret_turn = t;
	return 0;
}

/* Room for one configuration more: once it is in use it stays, as its texts may be anywhere. */
static int make_room(struct host *h)
{
	struct conf **more = realloc(h->confs, (h->n_confs + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	h->confs = more;
	return 0;
}

/* Those that were made for it and could not go on stay known, by the names that it has. */
static void keep_names(struct plan *p)
{
	if (p->n_in) {
		p->h->confs[p->h->n_confs++] = p->conf;
		p->conf = NULL;
	}
}

static void adopt(struct plan *p)
{
	struct host *h = p->h;
	for (size_t i = 0; i < p->n_reloads; i++) {
		struct plan_reload *r = &p->reloads[i];
		if (r->options) {
			free(r->c->reloaded);
			r->c->reloaded = r->options;
			r->options = NULL;
		}
	}
	if (!p->keeps) {
		return;
	}
	pthread_mutex_lock(&h->lock);
	h->confs[h->n_confs++] = p->conf;
	h->conf = p->conf;
	for (size_t i = 0; i < h->n; i++) {
		const struct conf_plugin *cp = conf_plugin_named(p->conf, h->inst[i]->name);
		h->inst[i]->conf = cp ? cp : h->inst[i]->conf;
	}
	pthread_mutex_unlock(&h->lock);
	if (p->logs) {
		log_open(conf_server(p->conf)->log_level, conf_server(p->conf)->log_format);
	}
	p->conf = NULL;
}

static int carry_out(struct plan *p, struct change_text *text)
{
	struct turn *t = NULL;
	const char *open = p->tunes ? opens_doors(p) : NULL;
	if (open) {
		char why[256];
		snprintf(why, sizeof(why),
				"%s.on_error: continue is not for a plugin that is asked who may come in; remove it, or "
				"write reject",
				open);
		return reject(text, -EINVAL, why);
	}
	if (make_room(p->h) < 0) {
		return reject(text, -ENOMEM, "no memory");
	}
	int rc = read_certificates(p->h, text);
	if (rc == 0) {
		rc = start_turn(p, &t, text);
	}
	if (rc == 0) {
		rc = reload_all(p, text);
		if (rc < 0) {
			turn_undo(t);
		}
	}
	net_tls_renew(p->h->net, rc == 0);
	if (rc < 0) {
		keep_names(p);
		return rc;
	}
	if (t) {
		turn_commit(t);
	}
	adopt(p);
	return 0;
}

static void report(const struct plan *p, int rehearse, struct change_text *text)
{
	char of_it[128] = "the configuration is as it was";
	int waits = 0, fits = (int)sizeof(text->p) - 400;
	if (p->changes || p->waits) {
		snprintf(of_it, sizeof(of_it), "of the configuration %d changes %s, %d wait for a restart",
				p->changes, rehearse ? "would be in force" : "are in force", p->waits);
	}
	if (rehearse) {
		waits = snprintf(text->p, sizeof(text->p), "good; %s\n", of_it);
	} else {
		waits = snprintf(text->p, sizeof(text->p),
				"files with certificates, secrets and lists were read again, %zu plugins go on with what they hold; "
				"%s\n",
				p->n_reloads, of_it);
	}
	snprintf(text->p + waits, sizeof(text->p) - (size_t)waits, "%.*s", fits, p->lines.p);
	size_t n = strlen(text->p);
	while (n > 0 && text->p[n - 1] == '\n') {
		text->p[--n] = '\0';
	}
}

int live_reread(struct host *h, int rehearse, struct change_text *text)
{
	struct plan *p = plan_make(h, text);
	if (!p) {
		return -EINVAL;
	}
	int ends = p->n_out > 0;
	int rc = rehearse ? read_certificates(h, text) : carry_out(p, text);
	if (rehearse) {
		net_tls_renew(h->net, false);
	}
	if (rc == 0) {
		report(p, rehearse, text);
	}
	plan_free(p);
	return rc == 0 && ends && !rehearse ? -EINPROGRESS : rc;
}

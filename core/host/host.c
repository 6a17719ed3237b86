/* SPDX-License-Identifier: Apache-2.0 */
#include "host/host.h"

#include "base/log.h"
#include "base/str.h"
#include "chat/stats.h"
#include "host/change.h"
#include "host/crashes.h"
#include "host/instance.h"
#include "host/lent.h"
#include "host/memory.h"
#include "host/notify.h"
#include "host/patience.h"
#include "loop/net.h"
#include "loop/worker.h"

#include <chatd/transport.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STALL_ABORT_MS = 2000 };

struct host *host_create(struct conf *conf, const char *exe_dir)
{
	struct host *h = calloc(1, sizeof(*h));
	if (!h) {
		return NULL;
	}
	h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (h->wake_fd < 0) {
		free(h);
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	h->here = (struct crash_here){ .thread = "main", .index = -1 };
	h->conf = conf;
	h->server = conf ? conf_server(conf) : NULL;
	/* Beside the folder of the program: this is how an uninstalled build finds them. */
	const char *up = strrchr(exe_dir, '/');
	if (asprintf(&h->plugin_dir, "%.*s/plugins", up ? (int)(up - exe_dir) : 0, exe_dir) < 0) {
		close(h->wake_fd);
		free(h);
		return NULL;
	}
	if (access(h->plugin_dir, R_OK) != 0) {
		free(h->plugin_dir);
		h->plugin_dir = NULL;
	}
	const char *dirs[64];
	size_t n = 0;
	for (size_t i = 0; h->server && h->server->plugin_path[i] && n < 60; i++) {
		dirs[n++] = h->server->plugin_path[i];
	}
	if (h->plugin_dir) {
		dirs[n++] = h->plugin_dir;
	}
	dirs[n++] = CHATD_PLUGIN_DIR;
	dirs[n] = NULL;
	h->modules = modules_create(dirs);
	if (!h->modules) {
		host_destroy(h);
		return NULL;
	}
	return h;
}

void host_can_read_again(struct host *h, host_read_fn *fn, void *arg)
{
	h->read_again = fn;
	h->read_arg = arg;
}

/* ---- loading ----------------------------------------------------------- */

static int fill_options(struct host *h, chatd_ctx *c, struct diag *d)
{
	const struct chatd_plugin *p = c->plugin;
	c->options = calloc(1, p->conf_size ? p->conf_size : 1);
	if (!c->options) {
		return -ENOMEM;
	}
	static const struct chatd_opt none[] = { { 0 } };
	return conf_fill(
			h->conf, c->conf->node, c->name, p->opts ? p->opts : none, p->opt_size, c->options, d);
}

static struct host_off *note_off(struct host *h, const char *name)
{
	struct host_off *off = calloc(1, sizeof(*off));
	if (off) {
		off->name = name;
		off->next = h->off;
		h->off = off;
	}
	return off;
}

static int note_was_off(const struct host *h, const char *name)
{
	const struct host_off *o = h->off;
	while (o && strcmp(o->name, name) != 0) {
		o = o->next;
	}
	return o != NULL;
}

void host_take_back(struct host *h, const char *name)
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

void host_leave_out(struct host *h, chatd_ctx *c, const char *fmt, ...)
{
	char why[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	struct host_off *off = note_off(h, c->name);
	if (off) {
		snprintf(off->why, sizeof(off->why), "%.190s", why);
	}
	c->skipped = 1;
	if (h->shadow_of && note_was_off(h->shadow_of, c->name)) {
		return; /* that was said when it was left out */
	}
	log_write(CHATD_LOG_WARN, "core", "plugin \"%s\": %s; going on without it (optional: true)",
			c->name, why);
}

/* Who has brought the server down again and again is left out, if anybody can do without. */
static void leave_out_crashed(struct host *h)
{
	char last[128];
	for (size_t i = 0; i < h->n; i++) {
		chatd_ctx *c = h->inst[i];
		if (!crashes_too_many(h->server->data_dir, c->name, c->module->path, last, sizeof(last))) {
			continue;
		}
		if (c->conf->optional && !graph_is_needed(h, c)) {
			host_leave_out(h, c,
					"it crashed the server %d times within %d s (%s); mend or replace it, then: "
					"chatctl plugin enable %s, or remove %s/crashes/%s and restart",
					CRASHES_OFF, CRASHES_WITHIN_S, last, c->name, h->server->data_dir, c->name);
		} else {
			log_write(CHATD_LOG_ERROR, "core",
					"plugin \"%s\" crashed the server %d times within %d s (%s); the server is tried with "
					"it again, because %s; mend or replace it, or set enabled: false",
					c->name, CRASHES_OFF, CRASHES_WITHIN_S, last,
					c->conf->optional ? "others need it" : "it is not optional");
		}
	}
}

/* A guard that fails must not let anybody through. */
static int check_on_error(struct host *h, const chatd_ctx *c, struct diag *d)
{
	if (c->conf->on_error == 1 && c->plugin->flags & CHATD_PLUGIN_GUARDS) {
		conf_complain(h->conf, c->conf->node, "on_error", d,
				"\"continue\" is not for this plugin: it decides who somebody is or who may what, and "
				"when it fails nobody may get through; remove on_error, or write reject");
		return -EINVAL;
	}
	return 0;
}

/* A second one would register the same names in its init(), which --check does not run. */
static int check_once(struct host *h, const chatd_ctx *c, struct diag *d)
{
	for (size_t i = 0; c->plugin->flags & CHATD_PLUGIN_ONCE && i < h->n; i++) {
		if (h->inst[i]->module == c->module && strcmp(h->inst[i]->name, c->name) != 0) {
			conf_complain(h->conf, c->conf->node, "plugin", d,
					"\"%s\" is there already, as \"%s\", and can be there once: both would register "
					"the same names; leave one out",
					c->conf->module, h->inst[i]->name);
			return -EINVAL;
		}
	}
	return 0;
}

/* With options that may be wrong: *ret_rc says so. */
static chatd_ctx *instance_of(struct host *h, const struct conf_plugin *cp, const struct module *m,
		struct diag *d, int *ret_rc)
{
	chatd_ctx *c = calloc(1, sizeof(*c));
	if (!c) {
		*ret_rc = -ENOMEM;
		return NULL;
	}
	c->host = h;
	c->conf = c->began = cp;
	c->name = cp->name;
	c->module = m;
	c->plugin = &m->plugin;
	atomic_init(&c->state, CHATD_PLUGIN_RUNS);
	*ret_rc = fill_options(h, c, d);
	return c;
}

chatd_ctx *host_make(
		struct host *h, const struct conf_plugin *cp, const struct module *m, struct diag *d)
{
	int rc = 0;
	chatd_ctx *c = instance_of(h, cp, m, d, &rc);
	if (c && (rc < 0 || check_on_error(h, c, d) < 0 || check_once(h, c, d) < 0)) {
		free(c->options);
		free(c);
		c = NULL;
	}
	return c;
}

/* Who runs goes on with the file that it began with; who does not, begins with the one there is. */
static const struct module *module_for(
		const struct host *h, const struct conf_plugin *cp, struct load_error *e)
{
	const chatd_ctx *c = h->shadow_of ? figures_latest(h->shadow_of, cp->name) : NULL;
	int runs = c && atomic_load(&c->state) == CHATD_PLUGIN_RUNS;
	if (runs && strcmp(c->module->name, cp->module) == 0) {
		return module_is_damaged(c->module, e) ? NULL : c->module;
	}
	return h->shadow_of && !runs ? module_newest(h->modules, cp->module, e)
								 : module_load(h->modules, cp->module, e);
}

static int load_instance(struct host *h, const struct conf_plugin *cp, struct diag *d)
{
	struct load_error e = { .text = "" };
	const struct module *m = module_for(h, cp, &e);
	if (!m) {
		if (!cp->enabled) {
			return 0; /* switched off, and not there: nothing to complain about */
		}
		if (cp->optional && !e.damaged) { /* nor can it be turned off, then */
			struct host_off *off = note_off(h, cp->name);
			log_write(CHATD_LOG_WARN, "core", "%s; going on without it (optional: true)", e.text);
			if (off) {
				snprintf(off->why, sizeof(off->why), "it cannot be loaded; see the log");
			}
			return 0;
		}
		conf_complain(h->conf, cp->node, NULL, d, "%s", e.text);
		return -EINVAL;
	}
	int rc = 0;
	chatd_ctx *c = instance_of(h, cp, m, d, &rc);
	if (!c) {
		return rc;
	}
	if (!cp->enabled) { /* its options were looked at; it takes no part */
		free(c->options);
		free(c);
		return rc;
	}
	rc = check_once(h, c, d) < 0 ? -EINVAL : rc;
	c->index = (uint32_t)h->n;
	h->inst[h->n++] = c;
	return check_on_error(h, c, d) < 0 ? -EINVAL : rc;
}

int host_load(struct host *h, struct diag *d)
{
	size_t n = conf_plugin_count(h->conf);
	int rc = 0;
	h->inst = calloc(n + 1, sizeof(*h->inst));
	if (!h->inst) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		if (load_instance(h, conf_plugin_at(h->conf, i), d) < 0) {
			rc = -EINVAL;
		}
	}
	leave_out_crashed(h);
	if (rc == 0) { /* an instance that is missing would only bring more complaints */
		rc = graph_order(h, d);
	}
	/* check() may rely on its options, so it runs only when all of them are right. */
	h->diag = d;
	for (size_t i = 0; i < h->n && diag_count(d) == 0; i++) {
		chatd_ctx *c = h->inst[i];
		if (c->plugin->check && c->plugin->check(table_for(h), c, c->options) < 0) {
			rc = -EINVAL;
		}
	}
	h->diag = NULL;
	return rc < 0 || diag_count(d) ? -EINVAL : 0;
}

/* ---- starting ---------------------------------------------------------- */

chatd_status host_provide(struct host *h, const struct host_service *s)
{
	struct host_service **at = &h->services, *node = malloc(sizeof(*node));
	if (!node) {
		return -ENOMEM;
	}
	*node = *s;
	node->next = NULL;
	while (*at) {
		at = &(*at)->next;
	}
	*at = node;
	return 0;
}

static void on_worker_stop(void *arg);

/* Another file of the same plugin is mapped: the name alone does not say which it was. */
static int has_versions(const struct host *h, const chatd_ctx *c)
{
	for (size_t i = 0; i < h->n; i++) {
		if (strcmp(h->inst[i]->module->name, c->module->name) == 0 &&
				h->inst[i]->module != c->module) {
			return 1;
		}
	}
	return 0;
}

int host_know_code(struct host *h)
{
	size_t modules = 0;
	const struct module **all = modules_all(h->modules, &modules);
	struct crash_plugin *list = calloc(h->n + 1, sizeof(*list));
	if (!list || !all) {
		free(list);
		free(all);
		return -ENOMEM;
	}
	memory_know(all, modules);
	free(all);
	for (size_t i = 0; i < h->n; i++) {
		list[i] = (struct crash_plugin){ .name = h->inst[i]->name,
			.path = h->inst[i]->module->path,
			.version = has_versions(h, h->inst[i]) ? h->inst[i]->plugin->version : NULL };
	}
	int rc = crash_plugins(list, h->n);
	free(list);
	return rc;
}

static int make_core(struct host *h)
{
	const struct conf_server *s = h->server;
	int aborts =
			s->on_stall == CONF_STALL_ABORT || (s->on_stall == CONF_STALL_AUTO && notify_is_open());
	struct loop_conf lc = { .workers = (int)s->workers,
		.offload_threads = (int)s->offload_threads,
		.stalled = figures_stalled,
		.timer = lent_timer,
		.stall_abort_ms = aborts ? STALL_ABORT_MS : 0 };
	struct chat_conf cc = { .max_subscriptions = s->max_subscriptions,
		.max_suspended = s->max_suspended,
		.soft_queue = s->slow_queue / 4 };
	h->loop = loop_create(&lc);
	if (!h->loop) {
		return -ENOMEM;
	}
	for (int32_t i = 0; i < loop_count(h->loop); i++) {
		/* Before net_create(), so that it runs after the streams have been ended. */
		worker_set_data(loop_worker(h->loop, i), WORKER_DATA_HOST, h);
		if (worker_on_stop(loop_worker(h->loop, i), on_worker_stop, loop_worker(h->loop, i)) < 0) {
			return -ENOMEM;
		}
	}
	if (crash_thread(&h->here) < 0 || host_know_code(h) < 0) {
		return -ENOMEM;
	}
	h->patience = patience_create(&h->here);
	if (!h->patience) {
		return -ENOMEM;
	}
	h->net = net_create(h->loop);
	h->chat = chat_create(&cc, h->loop);
	if (!h->net || !h->chat) {
		return -ENOMEM;
	}
	struct host_service sessions = { .interface = CHATD_SESSIONS,
		.service = { &chat_sessions_vt, h->chat } };
	struct host_service net = { .interface = CHATD_NET, .service = { &table_net_vt, h } };
	struct host_service plugins = { .interface = CHATD_PLUGINS, .service = { &figures_vt, h } };
	struct host_service stats = { .interface = CHATD_STATS,
		.service = { &chat_stats_vt, h->chat } };
	h->chat->owners = &lent_owners;
	if (numbers_define(h->chat) < 0 || host_provide(h, &sessions) < 0 ||
			host_provide(h, &net) < 0 || host_provide(h, &stats) < 0 ||
			host_provide(h, &plugins) < 0) {
		return -ENOMEM;
	}
	return 0;
}

/* Hooks were registered inside init(), before it had given its self. */
static void bind_self(struct host *h, const chatd_ctx *c)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		struct chain *chain = &h->chat->chains[i];
		for (size_t k = 0; k < chain->n; k++) {
			if (chain->hooks[k].inst == c->index) {
				chain->hooks[k].self = c->self;
			}
		}
	}
	for (size_t i = 0; i < h->chat->n_apps; i++) {
		if (h->chat->apps[i].hook.inst == c->index) {
			h->chat->apps[i].hook.self = c->self;
		}
	}
}

static int init_all(struct host *h)
{
	const struct chatd_host *table = table_for(h);
	int rc = 0;
	h->registering = 1;
	for (size_t i = 0; i < h->n && rc == 0; i++) {
		chatd_ctx *c = h->order[i];
		h->beginning = c;
		patience_begin(h->patience, c->name, "init()", c->plugin->flags & CHATD_PLUGIN_WAITS);
		rc = c->plugin->init(table, c, c->options, &c->self);
		patience_end(h->patience);
		c->inited = 1;
		if (rc < 0) {
			log_write(CHATD_LOG_ERROR, "core", "plugin \"%s\" could not start: %s", c->name,
					strerror(-rc));
		}
	}
	h->registering = 0;
	h->beginning = NULL;
	if (rc == 0) {
		for (size_t i = 0; i < h->n; i++) {
			bind_self(h, h->order[i]);
		}
		rc = chat_start(h->chat);
	}
	return rc;
}

int host_gave_up(const struct host *h)
{
	return atomic_load(&h->gave_up);
}

int host_rehearse(struct host *h)
{
	h->rehearsal = 1;
	int rc = make_core(h);
	return rc < 0 ? rc : init_all(h);
}

static int make_worker_states(struct host *h)
{
	for (int32_t w = 0; w < h->chat->n_workers; w++) {
		void **states = calloc(h->n + 1, sizeof(*states));
		if (!states) {
			return -ENOMEM;
		}
		h->chat->workers[w].wself = states;
		h->chat->workers[w].counts = calloc(h->n + 1, sizeof(struct chat_count));
		if (!h->chat->workers[w].counts) {
			return -ENOMEM;
		}
		h->chat->workers[w].n_counts = (uint32_t)h->n;
		for (size_t i = 0; i < h->n; i++) {
			size_t n = h->inst[i]->plugin->worker_size;
			states[i] = calloc(1, n ? n : 1);
			if (!states[i]) {
				return -ENOMEM;
			}
		}
	}
	return 0;
}

struct starting {
	struct host *h;
	chatd_ctx *c;
	atomic_int rc;
};

static void start_on_worker(chatd_worker *w, void *arg)
{
	struct starting *s = arg;
	struct worker_mark mark;
	worker_enter(w, &mark, s->c->name, "worker_start");
	chatd_status rc = s->c->plugin->worker_start(s->c->self, w, chat_at(w)->wself[s->c->index]);
	worker_leave(w, &mark);
	if (rc < 0) {
		atomic_store(&s->rc, rc);
	}
}

int host_start_on_workers(struct host *h, chatd_ctx *c)
{
	struct starting s = { .h = h, .c = c };
	c->started = 1;
	if (c->plugin->worker_start) {
		patience_begin(
				h->patience, c->name, "worker_start()", c->plugin->flags & CHATD_PLUGIN_WAITS);
		loop_run_all(h->loop, start_on_worker, &s);
		patience_end(h->patience);
	}
	int rc = atomic_load(&s.rc);
	if (rc < 0) {
		log_write(CHATD_LOG_ERROR, "core", "plugin \"%s\" could not start on a worker: %s", c->name,
				strerror(-rc));
	}
	return rc;
}

static int start_workers(struct host *h)
{
	int rc = 0;
	for (size_t i = 0; i < h->n && rc == 0; i++) {
		lent_timers_of(h, h->order[i]);
		rc = host_start_on_workers(h, h->order[i]);
	}
	return rc;
}

int host_start(struct host *h)
{
	int rc = make_core(h);
	if (rc == 0 && crash_record_in(h->server->data_dir) < 0) {
		log_write(CHATD_LOG_WARN, "core",
				"cannot make %s/crashes: %s; a plugin that crashes the server again and again will not "
				"be left out",
				h->server->data_dir, strerror(errno));
	}
	if (rc < 0) {
		log_write(CHATD_LOG_ERROR, "core", "cannot set up the workers: %s", strerror(errno));
		return rc;
	}
	rc = init_all(h);
	if (rc == 0) {
		rc = make_worker_states(h);
	}
	if (rc == 0) {
		rc = loop_start(h->loop);
	}
	if (rc == 0) {
		rc = start_workers(h);
	}
	if (rc == 0) {
		rc = net_accept_start(h->net);
	}
	return rc;
}

/* ---- stopping ---------------------------------------------------------- */

static void drain_on_worker(chatd_worker *w, void *arg)
{
	struct host *h = arg;
	for (size_t i = h->n; i-- > 0;) {
		chatd_ctx *c = h->order[i];
		if (c->started && c->plugin->drain) {
			c->plugin->drain(c->self, w, chat_at(w)->wself[c->index]);
		}
	}
}

void host_warn(struct host *h)
{
	atomic_store(&h->stopping, CHATD_WARNS);
}

void host_ask_to_stop(struct host *h)
{
	atomic_store(&h->asked, 1);
	(void)eventfd_write(h->wake_fd, 1);
}

int host_wake_fd(const struct host *h)
{
	return h->wake_fd;
}

int host_asked_to_stop(const struct host *h)
{
	return atomic_load(&h->asked);
}

static void on_beat(void *arg)
{
	struct host *h = arg;
	atomic_fetch_sub(&h->beats, 1);
}

int host_beat(struct host *h)
{
	if (atomic_load(&h->beats) > 0) {
		return 0;
	}
	for (int32_t i = 0; i < loop_count(h->loop); i++) {
		atomic_fetch_add(&h->beats, 1);
		if (worker_post(loop_worker(h->loop, i), on_beat, h) < 0) {
			atomic_fetch_sub(&h->beats, 1);
		}
	}
	return 1;
}

void host_drain(struct host *h)
{
	atomic_store(&h->stopping, CHATD_DRAINS);
	loop_run_all(h->loop, drain_on_worker, h);
	net_accept_stop(h->net);
}

static void count_streams(chatd_worker *w, void *arg)
{
	atomic_long *n = arg;
	atomic_fetch_add(n, (long)net_stats(w)->open);
}

long host_busy(const struct host *h)
{
	atomic_long n = 0;
	loop_run_all(h->loop, count_streams, &n);
	for (size_t i = 0; i < h->n; i++) {
		const chatd_ctx *c = h->order[i];
		if (c->inited && CHATD_HAS(c->plugin, busy) && c->plugin->busy(c->self)) {
			atomic_fetch_add(&n, 1);
		}
	}
	return atomic_load(&n) + chat_session_count(h->chat);
}

/* The worker's last act, after its streams were ended: plugins still have each other
 * while the sessions that are left (SockJS over HTTP) are closed. */
static void on_worker_stop(void *arg)
{
	chatd_worker *w = arg;
	struct host *h = worker_data(w, WORKER_DATA_HOST);
	if (!h->chat) {
		return;
	}
	chat_worker_finish(chat_at(w));
	for (size_t i = h->n; i-- > 0;) {
		chatd_ctx *c = h->order[i];
		if (c->started && c->plugin->worker_stop) {
			c->plugin->worker_stop(c->self, w, chat_at(w)->wself[c->index]);
		}
	}
}

void host_keep(struct host *h, void *p)
{
	void **more = realloc(h->kept, (h->n_kept + 1) * sizeof(void *));
	if (more) { /* else it is lost, which is better than freed too early */
		h->kept = more;
		more[h->n_kept++] = p;
	}
}

static void free_worker_states(struct host *h)
{
	for (int32_t w = 0; h->chat && w < h->chat->n_workers; w++) {
		void **states = h->chat->workers[w].wself;
		for (size_t i = 0; states && i < h->n; i++) {
			free(states[i]);
		}
		free(states);
		free(h->chat->workers[w].counts);
	}
}

static void set_mark(struct host *h, const char *who, const char *what)
{
	atomic_store(&h->here.mark.who, who);
	atomic_store(&h->here.mark.what, what);
}

void host_stop(struct host *h)
{
	if (h->stopped || !h->loop) {
		return;
	}
	h->stopped = 1;
	patience_destroy(h->patience);
	loop_stop(h->loop);
	loop_join(h->loop);
	for (size_t i = h->n; h->order && i-- > 0;) {
		chatd_ctx *c = h->order[i];
		if (c->inited && c->self && c->plugin->fini) {
			set_mark(h, c->name, "fini()");
			c->plugin->fini(c->self);
		}
	}
	set_mark(h, NULL, NULL);
	net_destroy(h->net);
	free_worker_states(h);
	chat_destroy(h->chat);
	loop_destroy(h->loop);
	crash_thread_end(&h->here);
	h->net = NULL;
	h->chat = NULL;
}

void host_destroy(struct host *h)
{
	if (!h) {
		return;
	}
	host_stop(h);
	while (h->services) {
		struct host_service *next = h->services->next;
		free(h->services);
		h->services = next;
	}
	change_forget(h);
	for (size_t i = 0; i < h->n_kept; i++) {
		free(h->kept[i]);
	}
	free(h->kept);
	pthread_mutex_destroy(&h->lock);
	while (h->off) {
		struct host_off *next = h->off->next;
		free(h->off);
		h->off = next;
	}
	for (size_t i = 0; i < h->n; i++) {
		free(h->inst[i]->options);
		free(h->inst[i]->reloaded);
		free(h->inst[i]->uses);
		free(h->inst[i]);
	}
	for (size_t i = 0; i < h->n_bound; i++) {
		free(h->bound[i].address);
	}
	free(h->bound);
	for (size_t i = 0; i < h->n_confs; i++) {
		conf_free(h->confs[i]);
	}
	free(h->confs);
	free(h->inst);
	free(h->order);
	modules_destroy(h->modules);
	if (h->wake_fd >= 0) {
		close(h->wake_fd);
	}
	free(h->plugin_dir);
	free(h);
}

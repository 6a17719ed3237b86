/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of struct chatd_host, and the core's service chatd.net/1. */
#include "base/buf.h"
#include "base/id.h"
#include "base/log.h"
#include "chat/dest.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/slots.h"
#include "chat/users.h"
#include "host/instance.h"
#include "host/lent.h"
#include "host/memory.h"
#include "loop/net.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Functions such as server_id() are given no instance, and there is one host a process. */
static struct host *the_host;

/* ---- reports ----------------------------------------------------------- */

static void t_log(chatd_ctx *c, int32_t level, const char *fmt, ...) CHATD_PRINTF(3, 4);
static void t_log(chatd_ctx *c, int32_t level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_vwrite(level, c->name, fmt, ap);
	va_end(ap);
}

static chatd_status t_fail(chatd_ctx *c, chatd_status err, const char *fmt, ...) CHATD_PRINTF(3, 4);
static chatd_status t_fail(chatd_ctx *c, chatd_status err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_vwrite(CHATD_LOG_ERROR, c->name, fmt, ap);
	va_end(ap);
	return err;
}

static chatd_status t_conf_error(chatd_ctx *c, const char *key, const char *fmt, ...)
		CHATD_PRINTF(3, 4);
static chatd_status t_conf_error(chatd_ctx *c, const char *key, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (c->host->diag) {
		conf_vcomplain(c->host->conf, c->conf->node, key, c->host->diag, fmt, ap);
	} else {
		log_vwrite(CHATD_LOG_ERROR, c->name, fmt, ap);
	}
	va_end(ap);
	return -EINVAL;
}

/* ---- registration ------------------------------------------------------ */

static int too_late(chatd_ctx *c, const char *what)
{
	if (c->host->registering) {
		return 0;
	}
	log_write(CHATD_LOG_ERROR, c->name, "%s is for init() only: the tables are frozen", what);
	return 1;
}

/* What goes again when the plugin does: it may come later too. */
static int not_now(chatd_ctx *c, const char *what)
{
	if (!c->host->building || c->plugin->flags & CHATD_PLUGIN_LIVE) {
		return too_late(c, what);
	}
	log_write(CHATD_LOG_ERROR, c->name,
			"%s is for the start of the server: this plugin cannot be turned on while it runs",
			what);
	return 1;
}

/* What destinations and other nodes hold on to is made at the start only. */
static int only_at_start(chatd_ctx *c, const char *what)
{
	if (!c->host->building && !(c->plugin->flags & CHATD_PLUGIN_LIVE)) {
		return too_late(c, what);
	}
	if (c->plugin->flags & CHATD_PLUGIN_LIVE) {
		log_write(CHATD_LOG_ERROR, c->name,
				"%s is not for plugins with CHATD_PLUGIN_LIVE: it stays when they are turned off",
				what);
		return 1;
	}
	log_write(CHATD_LOG_ERROR, c->name,
			"%s is for the start of the server: this plugin cannot be turned on while it runs",
			what);
	return 1;
}

static int32_t order_of(const chatd_ctx *c, uint32_t hook, int32_t fallback)
{
	for (size_t i = 0; i < c->conf->order_count; i++) {
		if (c->conf->order[i].hook == hook) {
			return c->conf->order[i].order;
		}
	}
	return fallback;
}

static struct chain_hook hook_for(const chatd_ctx *c, chatd_hook_fn *fn, int32_t order)
{
	return (struct chain_hook){ .fn = fn,
		.inst = c->index,
		.order = order,
		.on_error = c->conf->on_error,
		.timeout_ms = c->conf->timeout_ms,
		.who = c->name };
}

static chatd_status t_hook(chatd_ctx *c, uint32_t hook, int32_t order, chatd_hook_fn *fn)
{
	if (too_late(c, "hook()") || !fn) {
		return -EINVAL;
	}
	if (hook == chatd_hook_session_auth && c->conf->on_error == 1) {
		return t_fail(c, -EINVAL,
				"on_error: continue is not for a plugin that is asked who may come in: when it fails "
				"nobody may get through; remove on_error, or write reject");
	}
	if (hook == 0 || hook >= chatd_hook_count) {
		return t_fail(c, -ENOTSUP, "hook %u does not exist in this server", hook);
	}
	struct chat_table *t = c->host->building;
	struct chain *chain = t ? &t->chains[hook] : &c->host->chat->chains[hook];
	struct chain_hook *more = realloc(chain->hooks, (chain->n + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	chain->hooks = more;
	more[chain->n++] = hook_for(c, fn, order_of(c, hook, order));
	return 0;
}

static chatd_status t_provide(chatd_ctx *c, const char *interface, const void *vt, void *obj)
{
	struct host_service s = { .interface = interface, .service = { vt, obj }, .by = c };
	if (not_now(c, "provide()")) {
		return -EINVAL;
	}
	return host_provide(c->host, &s);
}

static int listed(const char *const *list, const char *what)
{
	for (size_t i = 0; list && list[i]; i++) {
		if (strcmp(list[i], what) == 0) {
			return 1;
		}
	}
	return 0;
}

static const struct chatd_service *t_service(chatd_ctx *c, const char *interface)
{
	static const struct chatd_service announced = { NULL, NULL };
	struct host *h = c->host;
	if (!listed(c->plugin->needs, interface) && !listed(c->plugin->wants, interface)) {
		log_write(CHATD_LOG_ERROR, c->name,
				"asks for \"%s\", which is neither in its needs nor in its wants", interface);
		return NULL;
	}
	if (h->diag) { /* in check() nothing is there yet */
		return graph_will_provide(h, interface) ? &announced : NULL;
	}
	for (const struct host_service *s = h->services; s; s = s->next) {
		if (strcmp(s->interface, interface) == 0 && !(s->by && s->by->leaves)) {
			lent_note_use(c, s);
			return &s->service;
		}
	}
	return NULL;
}

static chatd_status t_session_slot(
		chatd_ctx *c, size_t size, void (*drop)(void *slot), uint32_t *ret_slot)
{
	if (not_now(c, "session_slot()")) {
		return -EINVAL;
	}
	chatd_status rc = slots_add(c->host->chat, c->index, size, drop, ret_slot);
	return rc == -ENOSPC
			? t_fail(c, rc,
					  "session_slot(): plugins have memory of %d kinds in each session "
					  "already; restart the server, or leave a plugin out",
					  SLOTS_MAX)
			: rc;
}

static chatd_status t_app(chatd_ctx *c, const char *name, chatd_hook_fn *fn)
{
	struct chat_table *t = c->host->building;
	struct chat_app **apps = t ? &t->apps : &c->host->chat->apps;
	size_t *n = t ? &t->n_apps : &c->host->chat->n_apps;
	if (too_late(c, "app()")) {
		return -EINVAL;
	}
	for (size_t i = 0; i < *n; i++) {
		if (strcmp((*apps)[i].name, name) == 0) {
			return t_fail(c, -EEXIST, "/app/%s is handled by plugin \"%s\" already", name,
					(*apps)[i].hook.who);
		}
	}
	struct chat_app *more = realloc(*apps, (*n + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	*apps = more;
	more[(*n)++] = (struct chat_app){ .name = name, .hook = hook_for(c, fn, 0) };
	return 0;
}

static chatd_status t_prefix(chatd_ctx *c, const char *prefix, const struct chatd_dest_conf *conf)
{
	struct chat *chat = c->host->chat;
	size_t n = strlen(prefix);
	if (only_at_start(c, "prefix()")) {
		return -EINVAL;
	}
	if (n < 3 || prefix[0] != '/' || prefix[n - 1] != '/' || strncmp(prefix, "/app/", 5) == 0 ||
			strncmp(prefix, "/user/", 6) == 0) {
		return t_fail(c, -EINVAL, "\"%s\" cannot be a destination prefix", prefix);
	}
	for (size_t i = 0; i < chat->n_prefixes; i++) {
		if (strcmp(chat->prefixes[i].prefix, prefix) == 0) {
			return t_fail(c, -EEXIST, "%s belongs to plugin \"%s\" already", prefix,
					chat->prefixes[i].who);
		}
	}
	struct chat_prefix *more = realloc(chat->prefixes, (chat->n_prefixes + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	chat->prefixes = more;
	struct chat_prefix *p = &more[chat->n_prefixes++];
	*p = (struct chat_prefix){ .prefix = prefix, .n = n, .who = c->name };
	memcpy(&p->conf, conf,
			conf->struct_size < sizeof(p->conf) ? conf->struct_size : sizeof(p->conf));
	return 0;
}

static void t_bound(chatd_ctx *c, const char *kind, const char *address)
{
	struct host *h = c->host;
	struct host_bound *more = realloc(h->bound, (h->n_bound + 1) * sizeof(*more));
	if (more) {
		h->bound = more;
		more[h->n_bound].kind = kind;
		more[h->n_bound].address = strdup(address);
		h->n_bound += more[h->n_bound].address != NULL;
	}
}

/* ---- the server -------------------------------------------------------- */

static const char *t_server_id(void)
{
	return the_host->server->server_id;
}

static const char *t_data_dir(void)
{
	return the_host->server->data_dir;
}

static int32_t t_worker_count(void)
{
	return loop_count(the_host->loop);
}

static chatd_worker *t_worker_at(int32_t i)
{
	return loop_worker(the_host->loop, i);
}

static void *t_worker_self(chatd_ctx *c, chatd_worker *w)
{
	return chat_at(w)->wself[c->index];
}

static void t_instance(chatd_ctx *c, struct chatd_instance *ret)
{
	const struct chatd_instance all = { .struct_size = ret->struct_size,
		.on_error = c->conf->on_error,
		.name = c->name,
		.timeout = c->conf->timeout_ms };
	memcpy(ret, &all, ret->struct_size < sizeof(all) ? ret->struct_size : sizeof(all));
}

/* ---- waiting ----------------------------------------------------------- */

static chatd_status t_cut(struct chatd_str user, struct chatd_str dest)
{
	return dest_cut(the_host->chat, user, dest);
}

static chatd_status t_each_session(const struct chatd_each *given)
{
	struct chatd_each e = { 0 };
	memcpy(&e, given, given->struct_size < sizeof(e) ? given->struct_size : sizeof(e));
	return users_each(the_host->chat, &e);
}

static chatd_status t_router(chatd_ctx *c, const struct chatd_router *r, void *self)
{
	struct chat *chat = c->host->chat;
	if (only_at_start(c, "router()")) {
		return -EINVAL;
	}
	if (chat->router.struct_size) {
		return t_fail(c, -EEXIST,
				"plugin \"%s\" carries messages to other nodes already; leave one out",
				chat->router_who);
	}
	memcpy(&chat->router, r,
			r->struct_size < sizeof(chat->router) ? r->struct_size : sizeof(chat->router));
	chat->router_self = self;
	chat->router_who = c->name;
	return 0;
}

static chatd_status t_queue_give(chatd_worker *w, chatd_msg *m, uint64_t handle)
{
	return dest_bring(chat_at(w), m, handle);
}

static chatd_status t_publish_here(chatd_worker *w, chatd_msg *m)
{
	return dest_publish_here(chat_at(w), m);
}

static chatd_status t_publish_user_here(chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	return dest_publish_user_here(chat_at(w), user, m);
}

static chatd_worker *t_dest_home(struct chatd_str dest)
{
	struct chat *chat = the_host->chat;
	return chat->workers[dest_home(chat, dest)].w;
}

static int32_t t_dest_heard(chatd_worker *w, struct chatd_str dest)
{
	return dest_heard(chat_at(w), dest);
}

static void t_dest_lost(chatd_worker *w, struct chatd_str dest)
{
	dest_lost(chat_at(w), dest);
}

static chatd_status t_publish(chatd_worker *w, chatd_msg *m)
{
	return dest_publish(chat_at(w), m);
}

static chatd_status t_publish_user(chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	return dest_publish_user(chat_at(w), user, m);
}

static int32_t t_stopping(void)
{
	return atomic_load_explicit(&the_host->stopping, memory_order_relaxed);
}

static int64_t t_drain_spread(void)
{
	return the_host->server->drain_spread;
}

static void t_stop(void)
{
	host_ask_to_stop(the_host);
}

static char *t_buf_data(chatd_buf *b)
{
	return buf_data(b);
}

static size_t t_buf_len(const chatd_buf *b)
{
	return buf_len(b);
}

static chatd_buf *t_buf_ref(chatd_buf *b)
{
	return buf_ref(b);
}

static void t_give_up(chatd_ctx *c)
{
	atomic_store(&c->host->gave_up, 1);
	host_ask_to_stop(c->host);
}

static const struct chatd_host the_table = {
	.struct_size = sizeof(struct chatd_host),
	.abi_minor = CHATD_ABI_MINOR,
	.log = t_log,
	.fail = t_fail,
	.conf_error = t_conf_error,
	.mem_alloc = memory_alloc,
	.mem_free = memory_free,
	.hook = t_hook,
	.provide = t_provide,
	.service = t_service,
	.session_slot = t_session_slot,
	.app = t_app,
	.prefix = t_prefix,
	.bound = t_bound,
	.server_id = t_server_id,
	.data_dir = t_data_dir,
	.worker_count = t_worker_count,
	.worker_at = t_worker_at,
	.worker_index = worker_index,
	.worker_self = t_worker_self,
	.call_worker = call_worker,
	.call_session = call_session,
	.call_ident = call_ident,
	.call_msg = call_msg,
	.call_edit = call_edit,
	.call_alloc = call_alloc,
	.reject = call_reject,
	.reply = call_reply,
	.identify = call_identify,
	.suspend = call_suspend,
	.resume = call_resume,
	.call_of = call_of,
	.watch_fd = worker_watch_fd,
	.watch_time = worker_watch_time,
	.unwatch = worker_unwatch,
	.timer_set = worker_timer_set,
	.timer_clear = worker_timer_clear,
	.now_ms = worker_now_ms,
	.wall_ms = wall_ms,
	.post = worker_post,
	.offload = worker_offload,
	.ident_user = ident_user,
	.ident_name = ident_name,
	.ident_flags = ident_flags,
	.ident_ref = ident_ref,
	.ident_unref = ident_unref,
	.slot = session_slot,
	.session_ident = session_ident,
	.session_sid = session_sid,
	.session_worker = session_worker,
	.session_find = session_find,
	.session_send = session_send,
	.session_close = session_close,
	.cut = t_cut,
	.session_hears = session_hears,
	.msg_new = msg_new,
	.msg_ref = msg_ref,
	.msg_unref = msg_unref,
	.msg_dest = msg_dest,
	.msg_body = msg_body,
	.msg_get = msg_get,
	.msg_header = msg_header,
	.msg_set = msg_set,
	.msg_flags = msg_flags,
	.msg_id = msg_id,
	.publish = t_publish,
	.publish_user = t_publish_user,
	.buf_new = buf_new,
	.buf_ref = t_buf_ref,
	.buf_unref = buf_unref,
	.buf_data = t_buf_data,
	.buf_len = t_buf_len,
	.buf_push = buf_push,
	.buf_trim = buf_trim,
	.random = id_random,
	.new_id = id_new,
	.go_on = session_go_on,
	.hold = call_hold,
	.hold_send = hold_send,
	.hold_reply = hold_reply,
	.hold_release = hold_release,
	.hold_release_by = hold_release_by,
	.msg_with_id = msg_with_id,
	.identify_as = call_identify_as,
	.ident_roles = ident_roles,
	.ident_login = ident_login,
	.ident_client = ident_client,
	.ident_expires = ident_expires,
	.each_session = t_each_session,
	.session_renew = session_renew,
	.router = t_router,
	.publish_here = t_publish_here,
	.publish_user_here = t_publish_user_here,
	.call_again = call_again,
	.dest_home = t_dest_home,
	.dest_heard = t_dest_heard,
	.dest_lost = t_dest_lost,
	.give_up = t_give_up,
	.msg_flags_of = msg_flags_get,
	.stopping = t_stopping,
	.drain_spread = t_drain_spread,
	.session_facts = session_facts,
	.stop = t_stop,
	.queue_give = t_queue_give,
	.msg_body_set = msg_body_set,
	.replied = call_replied,
	.instance = t_instance,
};

const struct chatd_host *table_for(struct host *h)
{
	/* Whoever only checks another configuration is not asked for anything but that.  In a server that
	 * runs it is not written again: workers read it. */
	if (!h->shadow_of && the_host != h) {
		the_host = h;
	}
	return &the_table;
}

/* ---- chatd.net/1 ------------------------------------------------------- */

static chatd_status net_vt_listen(void *obj, chatd_ctx *c, const struct chatd_listen *conf)
{
	struct host *h = obj;
	struct net_listener *l;
	struct net_error e = { "" };
	if (h->rehearsal) {
		return 0;
	}
	if (only_at_start(c, "listen()")) {
		return -EINVAL;
	}
	int rc = net_listen(h->net, conf, &l, &e);
	if (rc < 0) {
		return t_fail(c, rc, "%s", e.text);
	}
	t_bound(c, conf->kind, net_bound(l));
	return 0;
}

static int32_t net_vt_address_in(void *obj, struct chatd_str peer, const char *const *nets)
{
	(void)obj;
	return net_address_in(peer, nets);
}

const struct chatd_net table_net_vt = {
	.struct_size = sizeof(struct chatd_net),
	.listen = net_vt_listen,
	.address_in = net_vt_address_in,
};

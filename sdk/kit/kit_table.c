/* SPDX-License-Identifier: Apache-2.0 */
/* The chatd_host of the kit: the core's own functions, behind the checks of the contract. */
#include "base/buf.h"
#include "base/id.h"
#include "base/str.h"
#include "chat/dest.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/slots.h"
#include "chat/users.h"
#include "kit_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- checks ------------------------------------------------------------------ */

static void on_worker(const chatd_worker *w, const char *what)
{
	struct kit *k = kit_the();
	if (k->here != w) {
		kit_broken(k, "%s for worker %d was called on %s", what, w->index,
				k->here ? "another worker" : "the main thread or the pool");
	}
}

static void in_init(struct kit *k, const char *what)
{
	if (!k->registering) {
		kit_broken(k, "%s is for init() only", what);
	}
}

static chatd_call *checked(chatd_call *c, const char *what)
{
	on_worker(call_worker(c), what);
	return c;
}

static chatd_session *on_its_worker(chatd_session *s, const char *what)
{
	on_worker(session_worker(s), what);
	return s;
}

/* ---- reports ------------------------------------------------------------------ */

CHATD_PRINTF(2, 0) static void logged(struct kit *k, const char *fmt, va_list ap)
{
	char *line = NULL;
	int n = vasprintf(&line, fmt, ap);
	size_t need = k->log_n + (size_t)(n < 0 ? 0 : n) + 2;
	char *all = need > k->log_cap ? realloc(k->log, need * 2) : k->log;
	if (all) {
		k->log_cap = need > k->log_cap ? need * 2 : k->log_cap;
		k->log = all;
		k->log_n += (size_t)snprintf(all + k->log_n, need - k->log_n, "%s\n", n < 0 ? "" : line);
	}
	free(n < 0 ? NULL : line);
}

CHATD_PRINTF(3, 4) static void t_log(chatd_ctx *c, int32_t level, const char *fmt, ...)
{
	va_list ap;
	(void)level;
	va_start(ap, fmt);
	logged(c->k, fmt, ap);
	va_end(ap);
}

CHATD_PRINTF(3, 4) static chatd_status t_fail(chatd_ctx *c, chatd_status err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	logged(c->k, fmt, ap);
	va_end(ap);
	return err;
}

CHATD_PRINTF(3, 4)
static chatd_status t_conf_error(chatd_ctx *c, const char *key, const char *fmt, ...)
{
	va_list ap;
	if (!c->k->checking) {
		kit_broken(c->k, "conf_error() is for check() only");
	}
	va_start(ap, fmt);
	conf_vcomplain(c->k->conf, c->conf->node, key, &c->k->diag, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- registration ---------------------------------------------------------------- */

static struct chain_hook hook_for(const chatd_ctx *c, chatd_hook_fn *fn, int32_t order)
{
	return (struct chain_hook){ .fn = fn,
		.self = c->k->self,
		.order = order,
		.on_error = c->conf->on_error,
		.timeout_ms = c->conf->timeout_ms,
		.who = c->k->plugin->name };
}

static chatd_status t_hook(chatd_ctx *c, uint32_t hook, int32_t order, chatd_hook_fn *fn)
{
	in_init(c->k, "hook()");
	if (hook == 0 || hook >= chatd_hook_count || !fn) {
		kit_broken(c->k, "hook %u does not exist", hook);
	}
	if (kit_fault(c->k)) {
		return -ENOMEM;
	}
	struct chain *chain = &c->k->chat->chains[hook];
	struct chain_hook *more = realloc(chain->hooks, (chain->n + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	chain->hooks = more;
	more[chain->n++] = hook_for(c, fn, order);
	return 0;
}

static chatd_status t_provide(chatd_ctx *c, const char *interface, const void *vt, void *obj)
{
	struct kit *k = c->k;
	in_init(k, "provide()");
	if (!kit_listed(k->plugin->provides, interface)) {
		kit_broken(k, "provides %s, which is not in its .provides", interface);
	}
	struct kit_offered *o = kit_fault(k) ? NULL : calloc(1, sizeof(*o));
	if (!o) {
		return -ENOMEM;
	}
	o->name = kit_dup(str_of(interface));
	o->service = (struct chatd_service){ vt, obj };
	o->next = k->given;
	k->given = o;
	return 0;
}

static const struct chatd_service *t_service(chatd_ctx *c, const char *interface)
{
	struct kit *k = c->k;
	if (!kit_listed(k->plugin->needs, interface) && !kit_listed(k->plugin->wants, interface)) {
		kit_broken(k, "asks for %s, which is neither in .needs nor in .wants", interface);
	}
	for (const struct kit_offered *o = k->offered; o; o = o->next) {
		if (strcmp(o->name, interface) == 0) {
			return kit_in_check(k, o->service.vt ? &o->service : NULL);
		}
	}
	return kit_in_check(k, kit_fake(k, interface));
}

static chatd_status t_session_slot(
		chatd_ctx *c, size_t size, void (*drop)(void *slot), uint32_t *ret_slot)
{
	in_init(c->k, "session_slot()");
	return kit_fault(c->k) ? -ENOMEM : slots_add(c->k->chat, 0, size, drop, ret_slot);
}

static chatd_status t_app(chatd_ctx *c, const char *name, chatd_hook_fn *fn)
{
	struct chat *chat = c->k->chat;
	in_init(c->k, "app()");
	struct chat_app *more =
			kit_fault(c->k) ? NULL : realloc(chat->apps, (chat->n_apps + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	chat->apps = more;
	more[chat->n_apps++] = (struct chat_app){ .name = name, .hook = hook_for(c, fn, 0) };
	return 0;
}

static chatd_status t_prefix(chatd_ctx *c, const char *prefix, const struct chatd_dest_conf *conf)
{
	struct chat *chat = c->k->chat;
	in_init(c->k, "prefix()");
	for (size_t i = 0; i < chat->n_prefixes; i++) {
		if (strcmp(chat->prefixes[i].prefix, prefix) == 0) {
			return -EEXIST;
		}
	}
	struct chat_prefix *more = kit_fault(c->k)
			? NULL
			: realloc(chat->prefixes, (chat->n_prefixes + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	chat->prefixes = more;
	more[chat->n_prefixes++] = (struct chat_prefix){
		.prefix = prefix, .n = strlen(prefix), .conf = *conf, .who = c->k->plugin->name
	};
	return 0;
}

static void t_bound(chatd_ctx *c, const char *kind, const char *address)
{
	t_log(c, CHATD_LOG_INFO, "bound %s %s", kind, address);
}

/* ---- the server ------------------------------------------------------------------- */

static const char *t_server_id(void)
{
	return "kit";
}

static const char *t_data_dir(void)
{
	return kit_data_dir(kit_the());
}

static int32_t t_worker_count(void)
{
	return kit_the()->n_workers;
}

static chatd_worker *t_worker_at(int32_t i)
{
	return loop_worker(&kit_the()->loop, i);
}

static void *t_worker_self(chatd_ctx *c, chatd_worker *w)
{
	on_worker(w, "worker_self()");
	return c->k->wself[w->index];
}

static void t_instance(chatd_ctx *c, struct chatd_instance *ret)
{
	const struct chatd_instance all = { .struct_size = ret->struct_size,
		.on_error = c->conf->on_error,
		.name = c->conf->name,
		.timeout = c->conf->timeout_ms };
	memcpy(ret, &all, ret->struct_size < sizeof(all) ? ret->struct_size : sizeof(all));
}

/* ---- calls --------------------------------------------------------------------------- */

static chatd_worker *t_call_worker(chatd_call *c)
{
	return call_worker(checked(c, "call_worker()"));
}

static chatd_session *t_call_session(chatd_call *c)
{
	return call_session(checked(c, "call_session()"));
}

static void t_give_up(chatd_ctx *c)
{
	t_log(c, CHATD_LOG_ERROR, "the plugin gives up");
}

static const chatd_ident *t_call_ident(chatd_call *c)
{
	return call_ident(checked(c, "call_ident()"));
}

static chatd_msg *t_call_msg(chatd_call *c)
{
	return call_msg(checked(c, "call_msg()"));
}

static chatd_msg *t_call_edit(chatd_call *c)
{
	return kit_fault(kit_the()) ? NULL : call_edit(checked(c, "call_edit()"));
}

static void *t_call_alloc(chatd_call *c, size_t n)
{
	return kit_fault(kit_the()) ? NULL : call_alloc(checked(c, "call_alloc()"), n);
}

CHATD_PRINTF(3, 4)
static chatd_verdict t_reject(chatd_call *c, const char *code, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return call_refuse(checked(c, "reject()"), code, str_of(text));
}

static void t_reply(chatd_call *c, const char *header, struct chatd_str value)
{
	call_reply(checked(c, "reply()"), header, value);
}

static chatd_verdict t_identify(chatd_call *c, const char *cred, struct chatd_str user,
		struct chatd_str name, uint32_t flags)
{
	return kit_fault(kit_the()) ? -ENOMEM
								: call_identify(checked(c, "identify()"), cred, user, name, flags);
}

static chatd_verdict t_identify_as(
		chatd_call *c, const char *cred, const struct chatd_identity *who)
{
	return kit_fault(kit_the()) ? -ENOMEM
								: call_identify_as(checked(c, "identify_as()"), cred, who);
}

static chatd_token t_suspend(chatd_call *c, void (*cancel)(void *arg), void *arg)
{
	struct kit *k = kit_the();
	(void)checked(c, "suspend()");
	return k->refuse_suspend || kit_fault(k) ? 0 : kit_waits(k, c, call_suspend(c, cancel, arg));
}

static chatd_status t_resume(chatd_token t, chatd_verdict v, const char *code, const char *why)
{
	chatd_status rc = call_resume(t, v, code, why);
	if (rc == 0 && call_resume(t, v, code, why) != -ESTALE) {
		kit_broken(kit_the(), "a token could be resumed twice");
	}
	return rc;
}

static chatd_call *t_call_of(chatd_worker *w, chatd_token t)
{
	on_worker(w, "call_of()");
	return call_of(w, t);
}

void kit_refuse_suspend(struct kit *k, int on)
{
	k->refuse_suspend = on;
}

/* ---- waiting -------------------------------------------------------------------------- */

static chatd_watch *t_watch_fd(
		chatd_worker *w, int fd, uint32_t mask, void (*fn)(void *arg, uint32_t ready), void *arg)
{
	on_worker(w, "watch_fd()");
	chatd_watch *x = kit_fault(w->k) ? NULL : worker_watch_fd(w, fd, mask, fn, arg);
	kit_took(w->k, KIT_WATCH, x, 1, KIT_CALLER);
	return x;
}

static chatd_watch *t_watch_time(
		chatd_worker *w, int64_t ms, int32_t repeat, void (*fn)(void *arg), void *arg)
{
	on_worker(w, "watch_time()");
	chatd_watch *x = kit_fault(w->k) ? NULL : worker_watch_time(w, ms, repeat, fn, arg);
	kit_took(w->k, KIT_WATCH, x, 1, KIT_CALLER);
	return x;
}

static void t_unwatch(chatd_watch *x)
{
	if (x) {
		on_worker(x->w, "unwatch()");
		kit_gave(x->w->k, KIT_WATCH, x);
	}
	worker_unwatch(x);
}

static void t_timer_set(
		chatd_worker *w, struct chatd_timer *t, int64_t ms, void (*fn)(void *arg), void *arg)
{
	on_worker(w, "timer_set()");
	worker_timer_set(w, t, ms, fn, arg);
}

static int64_t t_now_ms(chatd_worker *w)
{
	on_worker(w, "now_ms()");
	return worker_now_ms(w);
}

static chatd_status t_post(chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	return kit_fault(w->k) ? -ENOMEM : worker_post(w, fn, arg);
}

static chatd_status t_offload(
		chatd_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	on_worker(w, "offload()");
	return kit_fault(w->k) ? -EBUSY : worker_offload(w, work, done, arg);
}

/* ---- identities, sessions -------------------------------------------------------------- */

static const chatd_ident *t_ident_ref(const chatd_ident *i)
{
	kit_the()->idents++;
	kit_took(kit_the(), KIT_IDENT, i, 1, KIT_CALLER);
	return ident_ref(i);
}

static void t_ident_unref(const chatd_ident *i)
{
	kit_the()->idents -= i != NULL;
	kit_gave(kit_the(), KIT_IDENT, i);
	ident_unref(i);
}

static void *t_slot(chatd_session *s, uint32_t slot)
{
	return session_slot(on_its_worker(s, "slot()"), slot);
}

static const chatd_ident *t_session_ident(chatd_session *s)
{
	return session_ident(on_its_worker(s, "session_ident()"));
}

static chatd_sid t_session_sid(chatd_session *s)
{
	return session_sid(on_its_worker(s, "session_sid()"));
}

static chatd_session *t_session_find(chatd_worker *w, chatd_sid sid)
{
	on_worker(w, "session_find()");
	return session_find(w, sid);
}

static chatd_status t_session_send(chatd_session *s, chatd_msg *m)
{
	return session_send(on_its_worker(s, "session_send()"), m);
}

static int32_t t_session_hears(chatd_session *s, struct chatd_str dest)
{
	return session_hears(on_its_worker(s, "session_hears()"), dest);
}

static void t_session_close(chatd_session *s, int32_t code, const char *why)
{
	session_close(on_its_worker(s, "session_close()"), code, why);
}

static chatd_status t_cut(struct chatd_str user, struct chatd_str dest)
{
	return dest_cut(kit_the()->chat, user, dest);
}

static chatd_status t_each_session(const struct chatd_each *e)
{
	return kit_fault(kit_the()) ? -ENOMEM : users_each(kit_the()->chat, e);
}

static chatd_status t_session_renew(chatd_session *s, const struct chatd_identity *who)
{
	(void)on_its_worker(s, "session_renew()");
	return kit_fault(kit_the()) ? -ENOMEM : session_renew(s, who);
}

/* ---- messages ---------------------------------------------------------------------------- */

static chatd_msg *t_msg_new(struct chatd_str dest, struct chatd_str body)
{
	struct kit *k = kit_the();
	chatd_msg *m = kit_fault(k) ? NULL : msg_new(dest, body);
	k->msgs += m != NULL;
	kit_took(k, KIT_MESSAGE, m, 1, KIT_CALLER);
	return m;
}

static chatd_msg *t_msg_with_id(const char id[37], struct chatd_str dest, struct chatd_str body)
{
	struct kit *k = kit_the();
	chatd_msg *m = kit_fault(k) ? NULL : msg_with_id(id, dest, body);
	k->msgs += m != NULL;
	kit_took(k, KIT_MESSAGE, m, 1, KIT_CALLER);
	return m;
}

static chatd_msg *t_msg_ref(chatd_msg *m)
{
	kit_the()->msgs++;
	kit_took(kit_the(), KIT_MESSAGE, m, 1, KIT_CALLER);
	return msg_ref(m);
}

static void t_msg_unref(chatd_msg *m)
{
	kit_the()->msgs -= m != NULL;
	kit_gave(kit_the(), KIT_MESSAGE, m);
	msg_unref(m);
}

static void expect_unpublished(const chatd_msg *m, const char *what)
{
	for (const struct kit_published *p = kit_the()->published; p; p = p->next) {
		if (p->msg == m) {
			kit_broken(kit_the(), "%s of a message that was published already", what);
		}
	}
}

static chatd_status t_msg_set(chatd_msg *m, const char *header, struct chatd_str value)
{
	expect_unpublished(m, "msg_set()");
	return kit_fault(kit_the()) ? -ENOMEM : msg_set(m, header, value);
}

static chatd_status t_msg_flags(chatd_msg *m, uint32_t flags)
{
	expect_unpublished(m, "msg_flags()");
	return msg_flags(m, flags);
}

void kit_remember(struct kit_published ***tail, struct chatd_str user, chatd_msg *m)
{
	struct kit_published *p = calloc(1, sizeof(*p));
	if (p) {
		p->user = kit_dup(user);
		p->msg = msg_ref(m);
		**tail = p;
		*tail = &p->next;
	}
}

static chatd_status t_publish(chatd_worker *w, chatd_msg *m)
{
	on_worker(w, "publish()");
	chatd_status rc = kit_fault(w->k) ? -ENOMEM : dest_publish(chat_at(w), m);
	if (rc == 0) {
		kit_remember(&w->k->published_tail, chatd_str_of(NULL, 0), m);
	}
	return rc;
}

static chatd_status t_publish_user(chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	on_worker(w, "publish_user()");
	chatd_status rc = kit_fault(w->k) ? -ENOMEM : dest_publish_user(chat_at(w), user, m);
	if (rc == 0) {
		kit_remember(&w->k->published_tail, user, m);
	}
	return rc;
}

static chatd_status t_msg_body_set(chatd_msg *m, struct chatd_str body)
{
	expect_unpublished(m, "msg_body_set()");
	return kit_fault(kit_the()) ? -ENOMEM : msg_body_set(m, body);
}

static chatd_status t_queue_give(chatd_worker *w, chatd_msg *m, uint64_t handle)
{
	on_worker(w, "queue_give()");
	return kit_fault(w->k) ? -ENOMEM : dest_bring(chat_at(w), m, handle);
}

static chatd_status t_publish_here(chatd_worker *w, chatd_msg *m)
{
	on_worker(w, "publish_here()");
	chatd_status rc = kit_fault(w->k) ? -ENOMEM : dest_publish_here(chat_at(w), m);
	if (rc == 0) {
		kit_remember(&w->k->published_tail, chatd_str_of(NULL, 0), m);
	}
	return rc;
}

static chatd_worker *t_dest_home(struct chatd_str dest)
{
	struct chat *chat = kit_the()->chat;
	return chat->workers[dest_home(chat, dest)].w;
}

static int32_t t_dest_heard(chatd_worker *w, struct chatd_str dest)
{
	on_worker(w, "dest_heard()");
	return dest_heard(chat_at(w), dest);
}

static void t_dest_lost(chatd_worker *w, struct chatd_str dest)
{
	on_worker(w, "dest_lost()");
	dest_lost(chat_at(w), dest);
}

static chatd_status t_publish_user_here(chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	on_worker(w, "publish_user_here()");
	chatd_status rc = kit_fault(w->k) ? -ENOMEM : dest_publish_user_here(chat_at(w), user, m);
	if (rc == 0) {
		kit_remember(&w->k->published_tail, user, m);
	}
	return rc;
}

static chatd_status t_router(chatd_ctx *c, const struct chatd_router *r, void *self)
{
	struct kit *k = kit_the();
	(void)c;
	in_init(k, "router()");
	if (k->chat->router.struct_size) {
		return -EEXIST;
	}
	k->chat->router = *r;
	k->chat->router_self = self;
	return 0;
}

static int32_t t_stopping(void)
{
	return kit_the()->stopping;
}

static int64_t t_drain_spread(void)
{
	return kit_the()->drain_spread;
}

static void t_stop(void)
{
	kit_the()->stops++;
}

/* ---- buffers ---------------------------------------------------------------------------- */

static chatd_buf *t_buf_new(size_t room, size_t n)
{
	struct kit *k = kit_the();
	chatd_buf *b = kit_fault(k) ? NULL : buf_new(room, n);
	k->bufs += b != NULL;
	kit_took(k, KIT_BUFFER, b, 1, KIT_CALLER);
	return b;
}

static chatd_buf *t_buf_ref(chatd_buf *b)
{
	kit_the()->bufs++;
	kit_took(kit_the(), KIT_BUFFER, b, 1, KIT_CALLER);
	return buf_ref(b);
}

static void t_buf_unref(chatd_buf *b)
{
	kit_the()->bufs -= b != NULL;
	kit_gave(kit_the(), KIT_BUFFER, b);
	buf_unref(b);
}

static char *t_buf_data(chatd_buf *b)
{
	return buf_data(b);
}

static size_t t_buf_len(const chatd_buf *b)
{
	return buf_len(b);
}

const struct chatd_host kit_table = {
	.struct_size = sizeof(struct chatd_host),
	.abi_minor = CHATD_ABI_MINOR,
	.log = t_log,
	.fail = t_fail,
	.conf_error = t_conf_error,
	.mem_alloc = kit_mem_alloc,
	.mem_free = kit_mem_free,
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
	.call_worker = t_call_worker,
	.call_session = t_call_session,
	.call_ident = t_call_ident,
	.call_msg = t_call_msg,
	.call_edit = t_call_edit,
	.call_alloc = t_call_alloc,
	.reject = t_reject,
	.reply = t_reply,
	.identify = t_identify,
	.suspend = t_suspend,
	.resume = t_resume,
	.call_of = t_call_of,
	.watch_fd = t_watch_fd,
	.watch_time = t_watch_time,
	.unwatch = t_unwatch,
	.timer_set = t_timer_set,
	.timer_clear = worker_timer_clear,
	.now_ms = t_now_ms,
	.wall_ms = wall_ms,
	.post = t_post,
	.offload = t_offload,
	.ident_user = ident_user,
	.ident_name = ident_name,
	.ident_flags = ident_flags,
	.ident_ref = t_ident_ref,
	.ident_unref = t_ident_unref,
	.slot = t_slot,
	.session_ident = t_session_ident,
	.session_sid = t_session_sid,
	.session_worker = session_worker,
	.session_find = t_session_find,
	.session_send = t_session_send,
	.session_close = t_session_close,
	.cut = t_cut,
	.msg_new = t_msg_new,
	.msg_ref = t_msg_ref,
	.msg_unref = t_msg_unref,
	.msg_dest = msg_dest,
	.msg_body = msg_body,
	.msg_get = msg_get,
	.msg_header = msg_header,
	.msg_set = t_msg_set,
	.msg_flags = t_msg_flags,
	.msg_id = msg_id,
	.publish = t_publish,
	.publish_user = t_publish_user,
	.buf_new = t_buf_new,
	.buf_ref = t_buf_ref,
	.buf_unref = t_buf_unref,
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
	.session_hears = t_session_hears,
	.msg_with_id = t_msg_with_id,
	.identify_as = t_identify_as,
	.ident_roles = ident_roles,
	.ident_login = ident_login,
	.ident_client = ident_client,
	.ident_expires = ident_expires,
	.each_session = t_each_session,
	.session_renew = t_session_renew,
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
	.msg_body_set = t_msg_body_set,
	.replied = call_replied,
	.instance = t_instance,
};

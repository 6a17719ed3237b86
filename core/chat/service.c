/* SPDX-License-Identifier: Apache-2.0 */
/* The service chatd.sessions/1: what codecs ask of the core. */
#include "base/log.h"
#include "base/str.h"
#include "chat/dest_impl.h"
#include "chat/error.h"
#include "chat/hold.h"
#include "chat/ident.h"
#include "chat/renew.h"
#include "chat/session_impl.h"
#include "chat/stats.h"
#include "chat/users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Lives in the call's arena: who wants to hear of the end. */
struct request {
	chatd_session *session;
	chatd_done *done;
	void *arg;
	int went_on;
	struct chatd_subscribe sub;
	chatd_msg *frame;
};

static void tell(chatd_done *done, void *arg, chatd_call *c)
{
	struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = call_verdict(c),
		.code = call_code(c),
		.why = call_why(c),
		.reply = call_replies(c) };
	if (o.verdict == CHATD_REJECT && !o.code) {
		o.code = "FORBIDDEN";
		o.why = CHATD_LIT("refused");
	}
	done(arg, &o);
}

static void refuse_now(chatd_done *done, void *arg, const char *code, const char *why)
{
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_REJECT, .code = code, .why = str_of(why)
	};
	done(arg, &o);
}

static struct request *request_create(chatd_call *c, chatd_session *s, chatd_done *done, void *arg)
{
	struct request *r = c ? call_alloc(c, sizeof(*r)) : NULL;
	if (r) {
		*r = (struct request){ .session = s, .done = done, .arg = arg };
	}
	return r;
}

static chatd_session *svc_open(void *obj, chatd_worker *w, const struct chatd_conn_ops *ops,
		void *conn, const struct chatd_layer *layer)
{
	(void)obj;
	return session_create(chat_at(w), ops, conn, layer);
}

static void svc_set_form(chatd_session *s, uint32_t form)
{
	s->form = form;
}

/* ---- login ------------------------------------------------------------- */

static uint32_t presented(const chatd_msg *creds)
{
	uint32_t bits = 0;
	/* login and passcode are one credential: whoever proves one has seen the other. */
	if (msg_get(creds, CHATD_CRED_LOGIN).p || msg_get(creds, CHATD_CRED_PASSCODE).p) {
		bits |= CRED_PASSCODE;
	}
	if (msg_get(creds, CHATD_CRED_BEARER).p) {
		bits |= CRED_BEARER;
	}
	if (msg_get(creds, CHATD_CRED_TOKEN).p) {
		bits |= CRED_TOKEN;
	}
	return bits;
}

/* NULL: this walk of session_auth ends in a login. */
static const char *auth_fault(chatd_call *c)
{
	uint32_t verified = call_verified(c);
	if (call_conflict(c)) {
		return "conflicting credentials";
	}
	if (verified & CRED_LOGIN) {
		verified |= CRED_PASSCODE;
	}
	if (!call_ident(c) || (presented(call_msg(c)) & ~verified)) {
		return "Access refused";
	}
	return NULL;
}

static void open_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	chatd_session *s = r->session;
	s->state = SESSION_OPEN;
	stat_add(s->cw, STAT_SESSIONS, 1);
	stat_add(s->cw, STAT_LOGINS, 1);
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_ACCEPT, .reply = call_replies(c)
	};
	r->done(r->arg, &o);
}

static void copy_replies(chatd_call *to, const chatd_msg *from)
{
	struct chatd_str name, value;
	for (size_t i = 0; from && msg_header(from, i, &name, &value); i++) {
		char *z = str_dup(name);
		if (z) {
			call_reply(to, z, value);
			free(z);
		}
	}
}

static void auth_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	chatd_session *s = r->session;
	if (call_verdict(c) == CHATD_REJECT && call_code(c)) {
		s->state = SESSION_NEW;
		stat_add(s->cw, STAT_LOGINS_REFUSED, 1);
		tell(r->done, r->arg, c);
		return;
	}
	const char *fault = call_verdict(c) == CHATD_DROP ? "Access refused" : auth_fault(c);
	if (fault) {
		s->state = SESSION_NEW;
		stat_add(s->cw, STAT_LOGINS_REFUSED, 1);
		refuse_now(r->done, r->arg, "UNAUTHORIZED", fault);
		return;
	}
	s->ident = ident_ref(call_ident(c));
	if (users_add(s) < 0 || renew_arm(s) < 0) {
		session_close(s, 1011, "out of memory");
		return;
	}
	chatd_call *next = call_create(s->cw, s, s->ident, call_msg(c));
	struct request *n = request_create(next, s, r->done, r->arg);
	if (!n) {
		session_close(s, 1011, "out of memory");
		return;
	}
	copy_replies(next, call_replies(c));
	s->announced = 1;
	call_walk(next, session_chain(s, chatd_hook_session_open), NULL, open_end, n);
}

static void svc_login(chatd_session *s, chatd_msg *creds, chatd_done *done, void *arg)
{
	chatd_call *c = call_create(s->cw, s, NULL, creds);
	struct request *r = request_create(c, s, done, arg);
	if (!r) {
		session_close(s, 1011, "out of memory");
		return;
	}
	s->state = SESSION_LOGIN;
	call_walk(c, session_chain(s, chatd_hook_session_auth), NULL, auth_end, r);
}

struct lookup {
	void (*fn)(void *arg, const struct chatd_outcome *, const chatd_ident *);
	void *arg;
};

static void identify_end(chatd_call *c, void *arg)
{
	struct lookup *l = arg;
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_ACCEPT, .reply = call_replies(c)
	};
	if (call_verdict(c) == CHATD_REJECT && call_code(c)) {
		o.verdict = CHATD_REJECT;
		o.code = call_code(c);
		o.why = call_why(c);
	} else {
		const char *fault = call_verdict(c) == CHATD_DROP ? "Access refused" : auth_fault(c);
		if (fault) {
			o.verdict = CHATD_REJECT;
			o.code = "UNAUTHORIZED";
			o.why = str_of(fault);
		}
	}
	l->fn(l->arg, &o, o.verdict == CHATD_ACCEPT ? call_ident(c) : NULL);
}

static void svc_identify(void *obj, chatd_worker *w, chatd_msg *creds,
		void (*fn)(void *arg, const struct chatd_outcome *, const chatd_ident *), void *arg)
{
	(void)obj;
	struct chat_worker *cw = chat_at(w);
	chatd_call *c = call_create(cw, NULL, NULL, creds);
	struct lookup *l = c ? call_alloc(c, sizeof(*l)) : NULL;
	if (!l) {
		struct chatd_outcome o = { .struct_size = sizeof(o),
			.verdict = CHATD_REJECT,
			.code = "UNAVAILABLE",
			.why = CHATD_LIT("the server has no memory left") };
		if (c) {
			call_abandon(c);
		}
		fn(arg, &o, NULL);
		return;
	}
	*l = (struct lookup){ .fn = fn, .arg = arg };
	call_walk(c, chat_chain(cw->chat, chatd_hook_session_auth), NULL, identify_end, l);
}

/* ---- HTTP requests ------------------------------------------------------- */

static void request_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	tell(r->done, r->arg, c);
}

static void svc_request(void *obj, chatd_worker *w, const chatd_ident *ident, chatd_msg *msg,
		chatd_done *done, void *arg)
{
	struct chat_worker *cw = chat_at(w);
	int hook = ident ? chatd_hook_request_as : chatd_hook_request;
	(void)obj;
	if (!chat_has(cw, hook)) {
		struct chatd_outcome o = { .struct_size = sizeof(o), .verdict = CHATD_ACCEPT };
		done(arg, &o);
		return;
	}
	chatd_call *c = call_create(cw, NULL, ident, msg);
	struct request *r = request_create(c, NULL, done, arg);
	if (!r) {
		if (c) {
			call_abandon(c);
		}
		refuse_now(done, arg, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	call_walk(c, chat_chain(cw->chat, hook), NULL, request_end, r);
}

/* ---- subscribe --------------------------------------------------------- */

/* Between the subscription's being made and its counting everywhere. */
struct subscribing {
	chatd_done *done;
	void *arg;
	chatd_msg *reply;
};

static void subscribed(struct chat_worker *cw, const struct dest_joined *joined, void *arg)
{
	struct subscribing *p = arg;
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_ACCEPT, .reply = p->reply
	};
	chatd_session *s = session_find(cw->w, joined->session);
	struct sub *sub = s ? session_sub(s, joined->serial) : NULL;
	if (joined->rc < 0) {
		if (sub) {
			session_end_sub(sub);
		}
		if (s) {
			refuse_now(p->done, p->arg, "UNAVAILABLE", "the server has no memory left");
		}
	} else if (sub && sub->hold) {
		hold_begin(sub, p->done, p->arg, p->reply);
	} else if (s) {
		p->done(p->arg, &o);
	}
	msg_unref(p->reply);
	free(p);
}

static struct sub *sub_create(
		chatd_session *s, const struct chatd_subscribe *want, const chatd_msg *frame)
{
	struct wire like = { .ops = s->ops, .layer = s->layer, .form = s->form, .id = want->id };
	struct chatd_str only = msg_get(frame, "only");
	struct chatd_str about = only.n ? only : msg_get(frame, "except");
	struct sub *sub = calloc(1, sizeof(*sub) + about.n + 1);
	if (!sub) {
		return NULL;
	}
	sub->only = only.n > 0;
	if (about.n) {
		memcpy(sub->about, about.p, about.n);
	}
	sub->wire = wire_get(session_wires(s->cw), &like);
	if (!sub->wire) {
		free(sub);
		return NULL;
	}
	sub->session = s;
	sub->ack = want->ack;
	sub->serial = ++s->serials;
	sub->next = s->subs;
	sub->link = &s->subs;
	if (sub->next) {
		sub->next->link = &sub->next;
	}
	s->subs = sub;
	s->n_subs++;
	stat_add(s->cw, STAT_SUBSCRIPTIONS, 1);
	(void)lost_take(&s->lost, want->id);
	return sub;
}

static void subscribe_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	if (call_verdict(c) != CHATD_ACCEPT) {
		lost_note(&r->session->lost, r->sub.id);
		tell(r->done, r->arg, c);
		return;
	}
	struct subscribing *p = malloc(sizeof(*p));
	struct sub *sub = p ? sub_create(r->session, &r->sub, call_msg(c)) : NULL;
	if (!sub) {
		free(p);
		refuse_now(r->done, r->arg, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	struct hold_wish wish;
	if (call_take_hold(c, &wish) && !(sub->hold = hold_create(&wish)) && wish.drop) {
		wish.drop(wish.arg); /* then it is live at once, without what is older */
	}
	chatd_msg *reply = call_replies(c);
	*p = (struct subscribing){
		.done = r->done, .arg = r->arg, .reply = reply ? msg_ref(reply) : NULL
	};
	if (dest_subscribe(sub, msg_dest(call_msg(c)), subscribed, p) < 0) {
		session_end_sub(sub);
		msg_unref(p->reply);
		free(p);
		refuse_now(r->done, r->arg, "UNAVAILABLE", "the server has no memory left");
	}
}

static chatd_verdict refuse_unknown(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	struct chatd_str d = msg_dest(call_msg(c));
	return call_reject(c, "NOT_FOUND", "there is no destination %.*s", (int)d.n, d.p);
}

static chatd_verdict refuse_other(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	return call_reject(c, "FORBIDDEN",
			"/user/... of others is out of reach; subscribe to /user/queue/NAME, send to /app/...");
}

static const struct chain_hook unknown_hook = {
	.fn = refuse_unknown, .who = "core", .timeout_ms = 5000
};
static const struct chain_hook other_hook = {
	.fn = refuse_other, .who = "core", .timeout_ms = 5000
};

static chatd_status svc_subscribe(
		chatd_session *s, const struct chatd_subscribe *want, chatd_done *done, void *arg)
{
	if (session_sub_by_id(s, want->id)) {
		return -EEXIST;
	}
	if (s->n_subs >= s->cw->chat->conf.max_subscriptions) {
		return -E2BIG;
	}
	chatd_call *c = call_create(s->cw, s, s->ident, want->frame);
	struct request *r = request_create(c, s, done, arg);
	char *id = r ? call_alloc(c, want->id.n + 1) : NULL;
	if (!id) {
		session_close(s, 1011, "out of memory");
		return 0;
	}
	memcpy(id, want->id.p, want->id.n);
	r->sub = *want;
	r->sub.id = chatd_str_of(id, want->id.n);
	struct dest_name n = dest_parse(s->cw->chat, msg_dest(want->frame));
	const struct chain_hook *tail = NULL;
	if (n.kind == DEST_OTHER) {
		tail = &other_hook;
	} else if (n.kind == DEST_UNKNOWN || n.kind == DEST_APP) {
		tail = &unknown_hook;
	}
	call_walk(c, session_chain(s, chatd_hook_subscribe), tail, subscribe_end, r);
	return 0;
}

static void ignore_end(chatd_call *c, void *arg)
{
	(void)c;
	(void)arg;
}

static chatd_status svc_unsubscribe(chatd_session *s, struct chatd_str id)
{
	struct sub *sub = session_sub_by_id(s, id);
	if (!sub) {
		return lost_take(&s->lost, id) ? 0 : -ENOENT;
	}
	if (chat_has(s->cw, chatd_hook_unsubscribe)) {
		chatd_msg *m = msg_new(dest_text(sub), CHATD_LIT(""));
		chatd_call *c = m ? call_create(s->cw, s, s->ident, m) : NULL;
		if (c) {
			call_walk(c, session_chain(s, chatd_hook_unsubscribe), NULL, ignore_end, NULL);
		}
		msg_unref(m);
	}
	if (s->cw->dests->delivering) {
		session_end_sub_later(sub);
	} else {
		session_end_sub(sub);
	}
	return 0;
}

static struct chatd_str svc_find_dest(chatd_session *s, struct chatd_str dest)
{
	struct chatd_str first = { NULL, 0 };
	for (struct sub *sub = s->subs; sub; sub = sub->next) { /* newest first */
		if (sub->ack != SUB_ENDING && str_eq(dest_text(sub), dest)) {
			first = sub->wire->id;
		}
	}
	return first;
}

/* ---- input ------------------------------------------------------------- */

static chatd_verdict publish_tail(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	chatd_status rc = dest_publish(call_at(c), call_msg(c));
	if (rc < 0) {
		return rc;
	}
	call_reply(c, "message-id", msg_id(call_msg(c)));
	return CHATD_ACCEPT;
}

static chatd_verdict enqueue_tail(chatd_call *c, void *self, void *wself)
{
	(void)self;
	(void)wself;
	struct chat_worker *cw = call_at(c);
	struct dest_name n = dest_parse(cw->chat, msg_dest(call_msg(c)));
	chatd_token t = call_suspend(c, NULL, NULL);
	if (!t) {
		return -EBUSY;
	}
	call_reply(c, "message-id", msg_id(call_msg(c)));
	chatd_status rc = dest_enqueue(cw, call_msg(c), n.prefix, t);
	if (rc == 0 && work_is_shared(cw->chat)) {
		session_go_on(c); /* its place is taken; that it is safe takes a while */
	}
	return rc < 0 ? rc : CHATD_WAIT;
}

static const struct chain_hook publish_hook = {
	.fn = publish_tail, .who = "core", .timeout_ms = 5000
};
static const struct chain_hook enqueue_hook = {
	.fn = enqueue_tail, .who = "core", .timeout_ms = 5000
};

static const struct chain_hook *tail_for(const struct dest_name *n)
{
	switch (n->kind) {
	case DEST_APP:
		return n->app ? &n->app->hook : &unknown_hook;
	case DEST_USER:
	case DEST_OTHER:
		return &other_hook;
	case DEST_PREFIX:
		return n->prefix->conf.kind == CHATD_DEST_QUEUE ? &enqueue_hook : &publish_hook;
	case DEST_UNKNOWN:
		break;
	}
	return &unknown_hook;
}

/* Ends the way of a message, of a session or (NULL) of nobody's. */
static void came(chatd_call *c, chatd_session *s)
{
	struct chat_worker *cw = call_at(c);
	if (call_verdict(c) == CHATD_REJECT) {
		stat_add(cw, STAT_REFUSED, 1);
	}
	if (chat_has(cw, chatd_hook_message_sent) && call_verdict(c) == CHATD_ACCEPT) {
		chatd_call *after = call_create(cw, s, s ? s->ident : call_ident(c), call_msg(c));
		if (after) {
			copy_replies(after, call_replies(c));
			const struct chain *sent = s ? session_chain(s, chatd_hook_message_sent)
										 : chat_chain(cw->chat, chatd_hook_message_sent);
			call_walk(after, sent, NULL, ignore_end, NULL);
		}
	}
}

static void input_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	came(c, r->session);
	tell(r->done, r->arg, c);
}

/* The handler keeps the order from here: the codec may give in what comes next.  Unless many wait
 * already: those who send as fast as they can would take the places of all others. */
void session_go_on(chatd_call *c)
{
	struct request *r = call_arg(c, input_end);
	const struct chatd_conn_ops *ops = r ? r->session->ops : NULL;
	if (r && !r->went_on && CHATD_HAS(ops, proceed) &&
			!call_slots_are_short(r->session->cw->slots)) {
		r->went_on = ops->proceed(r->session->conn, &r->done, &r->arg);
	}
}

static void svc_input(chatd_session *s, chatd_msg *msg, chatd_done *done, void *arg)
{
	struct dest_name n = dest_parse_for(s->cw->chat, session_table(s), msg_dest(msg));
	chatd_call *c = call_create(s->cw, s, s->ident, msg);
	struct request *r = request_create(c, s, done, arg);
	stat_add(s->cw, STAT_RECEIVED, 1);
	if (!r) {
		session_close(s, 1011, "out of memory");
		return;
	}
	call_walk(c, session_chain(s, chatd_hook_message_in), tail_for(&n), input_end, r);
}

/* No session, and so nobody whose next frame could be read meanwhile: go_on() finds another end. */
static void input_as_end(chatd_call *c, void *arg)
{
	struct request *r = arg;
	came(c, NULL);
	tell(r->done, r->arg, c);
}

static void svc_input_as(void *obj, chatd_worker *w, const chatd_ident *ident, chatd_msg *msg,
		chatd_done *done, void *arg)
{
	const struct chat *chat = obj;
	struct chat_worker *cw = chat_at(w);
	struct dest_name n = dest_parse(chat, msg_dest(msg));
	chatd_call *c = call_create(cw, NULL, ident, msg);
	struct request *r = request_create(c, NULL, done, arg);
	stat_add(cw, STAT_RECEIVED, 1);
	if (!r) {
		if (c) {
			call_abandon(c);
		}
		refuse_now(done, arg, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	call_walk(c, chat_chain(chat, chatd_hook_message_in), tail_for(&n), input_as_end, r);
}

static const chatd_ident *svc_make_ident(void *obj, const struct chatd_identity *given)
{
	struct chatd_identity who = { 0 };
	(void)obj;
	memcpy(&who, given, given->struct_size < sizeof(who) ? given->struct_size : sizeof(who));
	if (!who.name.p) {
		who.name = who.user;
	}
	return ident_create_as(&who);
}

/* ---- acknowledgements --------------------------------------------------- */

static int is_delivery(const struct pending *p, struct chatd_str id, const struct sub *of)
{
	uint64_t number;
	if (of && p->sub != of->serial) {
		return 0;
	}
	if (!of && str_u64(id, &number) == 0 && p->number == number) {
		return 1;
	}
	return str_eq(msg_id(p->msg), id);
}

static chatd_status svc_ack(
		chatd_session *s, struct chatd_str id, struct chatd_str sub_id, int32_t ack1_nack0)
{
	struct sub *of = sub_id.p ? session_sub_by_id(s, sub_id) : NULL;
	struct pending *hit = s->pending;
	if (sub_id.p && !of) {
		return -ENOENT;
	}
	while (hit && !is_delivery(hit, id, of)) {
		hit = hit->next;
	}
	if (!hit) {
		return -ENOENT;
	}
	uint64_t number = hit->number;
	uint32_t serial = hit->sub;
	struct sub *sub = session_sub(s, serial);
	int cumulative = sub && sub->ack == CHATD_ACK_CLIENT;
	struct pending **at = &s->pending;
	while (*at && (*at)->number <= number) {
		struct pending *p = *at;
		if (p->sub != serial || (!cumulative && p->number != number)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		s->n_pending--;
		session_settle(s, p, ack1_nack0);
		msg_unref(p->msg);
		free(p);
	}
	if (!*at) {
		s->pending_tail = at;
	}
	return 0;
}

/* ---- the rest ---------------------------------------------------------- */

static void svc_soft_error(chatd_session *s, const struct chatd_outcome *o, const chatd_msg *frame)
{
	chatd_msg *m = error_message(o, frame);
	stat_add(s->cw, stat_of_rejection(o->code), 1);
	if (m) {
		(void)session_send(s, m);
	}
	msg_unref(m);
}

static void svc_close(chatd_session *s)
{
	session_destroy(s);
}

static struct chatd_str svc_id(chatd_session *s)
{
	return chatd_str_of(s->id, SESSION_ID_LEN);
}

const struct chatd_sessions chat_sessions_vt = {
	.struct_size = sizeof(struct chatd_sessions),
	.open = svc_open,
	.set_form = svc_set_form,
	.login = svc_login,
	.subscribe = svc_subscribe,
	.unsubscribe = svc_unsubscribe,
	.find_dest = svc_find_dest,
	.input = svc_input,
	.ack = svc_ack,
	.soft_error = svc_soft_error,
	.close = svc_close,
	.id = svc_id,
	.identify = svc_identify,
	.request = svc_request,
	.make_ident = svc_make_ident,
	.input_as = svc_input_as,
};

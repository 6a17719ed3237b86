/* SPDX-License-Identifier: Apache-2.0 */
/* Who is connected: a list on each worker, whose entries are slots in the sessions. */
#include "admin.h"

#include <string.h>

enum { CODE_KICKED = 1008 };

/* Hooks are told their self, drop() is not: entries unlink themselves. */
static void on_drop(void *slot)
{
	struct entry *e = slot;
	if (e->link) {
		*e->link = e->next;
		if (e->next) {
			e->next->link = e->link;
		}
		e->link = NULL;
	}
}

static chatd_verdict on_open(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct worker *w = wself;
	chatd_session *s = self->h->call_session(call);
	struct entry *e = self->h->slot(s, self->slot);
	e->session = s;
	e->since = self->h->wall_ms();
	struct chatd_str peer = self->h->msg_get(self->h->call_msg(call), CHATD_CRED_PEER);
	chatd_str_copy(e->peer, sizeof(e->peer), peer);
	e->next = w->roster;
	e->link = &w->roster;
	if (e->next) {
		e->next->link = &e->next;
	}
	w->roster = e;
	return CHATD_NEXT;
}

chatd_status roster_init(struct self *self)
{
	chatd_status rc = self->h->session_slot(self->ctx, sizeof(struct entry), on_drop, &self->slot);
	return rc < 0 ? rc
				  : self->h->hook(self->ctx, chatd_hook_session_open, CHATD_ORDER_OBSERVE, on_open);
}

static void write_entry(struct job *job, const struct entry *e, chatd_worker *w)
{
	const struct chatd_host *h = job->self->h;
	struct chatd_json *j = &job->out;
	const chatd_ident *who = h->session_ident(e->session);
	struct chatd_session_facts f = { .struct_size = sizeof(f) };
	h->session_facts(e->session, &f);
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "session", f.id);
	chatd_json_member(j, "user", h->ident_user(who));
	chatd_json_member(j, "name", h->ident_name(who));
	chatd_json_flag(j, "guest", (h->ident_flags(who) & CHATD_ID_ANONYMOUS) != 0);
	chatd_json_member(j, "transport", f.transport);
	chatd_json_member(j, "peer", chatd_str_of(e->peer, strlen(e->peer)));
	chatd_json_time(j, "since", e->since);
	chatd_json_int(j, "subscriptions", f.subscriptions);
	chatd_json_int(j, "queuedBytes", (int64_t)f.queued);
	chatd_json_int(j, "unacked", f.unacked);
	chatd_json_int(j, "worker", h->worker_index(w));
	chatd_json_lit(j, "}");
}

static int is_meant(const struct job *job, const struct entry *e)
{
	const struct chatd_host *h = job->self->h;
	const struct wish *wish = &job->wish;
	const chatd_ident *who = h->session_ident(e->session);
	struct chatd_session_facts f = { .struct_size = sizeof(f) };
	if (!who) {
		return 0;
	}
	if (wish->user.p && !chatd_str_same(h->ident_user(who), wish->user)) {
		return 0;
	}
	h->session_facts(e->session, &f);
	return !wish->session.p || chatd_str_same(f.id, wish->session);
}

void roster_list(struct job *job, chatd_worker *w)
{
	const struct worker *aw = job->self->h->worker_self(job->self->ctx, w);
	for (const struct entry *e = aw->roster; e; e = e->next) {
		if (!is_meant(job, e)) {
			continue;
		}
		if (job->total++ < job->wish.limit) {
			write_entry(job, e, w);
		}
	}
}

void roster_kick(struct job *job, chatd_worker *w)
{
	const struct worker *aw = job->self->h->worker_self(job->self->ctx, w);
	char why[REASON_MAX + 1];
	chatd_str_copy(why, sizeof(why),
			job->wish.reason.n ? job->wish.reason : CHATD_LIT("closed by the operator"));
	for (const struct entry *e = aw->roster; e; e = e->next) {
		if (is_meant(job, e)) {
			job->n++;
			job->self->h->session_close(e->session, CODE_KICKED, why);
		}
	}
}

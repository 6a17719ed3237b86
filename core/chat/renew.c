/* SPDX-License-Identifier: Apache-2.0 */
/* An open session's identity ends, or goes on as another. */
#include "chat/renew.h"

#include "base/str.h"
#include "chat/dest.h"
#include "chat/error.h"
#include "chat/ident.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTICE_MS = 60000 };

/* Only sessions whose identity ends have one: a timer in each would be 40 bytes for nothing. */
struct expiry {
	struct chatd_timer timer;
	chatd_session *session;
	int told;
};

static void notify(chatd_session *s, const char *code, const char *why)
{
	const struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = CHATD_REJECT,
		.code = code,
		.why = chatd_str_of(why, strlen(why)) };
	chatd_msg *m = error_message(&o, NULL);
	if (m) {
		(void)session_send(s, m);
	}
	msg_unref(m);
}

/* Looks at the wall clock each time: it may have been set meanwhile. */
static void on_time(void *arg)
{
	struct expiry *e = arg;
	chatd_session *s = e->session;
	int64_t left = ident_expires(s->ident) - wall_ms();
	if (left <= 0) {
		session_close(s, 4401, "the token has expired");
		return;
	}
	if (left <= NOTICE_MS && !e->told) {
		char why[96];
		e->told = 1;
		snprintf(why, sizeof(why),
				"the token expires in %lld s; send a new one to /app/auth.refresh",
				(long long)((left + 999) / 1000));
		notify(s, "AUTH_EXPIRING", why);
	}
	worker_timer_set(s->cw->w, &e->timer, e->told ? left : left - NOTICE_MS, on_time, e);
}

int renew_arm(chatd_session *s)
{
	int64_t until = ident_expires(s->ident);
	if (!until) {
		renew_disarm(s);
		return 0;
	}
	if (!s->expiry) {
		s->expiry = calloc(1, sizeof(*s->expiry));
		if (!s->expiry) {
			return -ENOMEM;
		}
		s->expiry->session = s;
	}
	int64_t left = until - wall_ms();
	/* Short lives are told of their end when a quarter is left. */
	int64_t notice = left / 4 < NOTICE_MS ? left / 4 : NOTICE_MS;
	s->expiry->told = 0;
	worker_timer_set(s->cw->w, &s->expiry->timer, left > 0 ? left - notice : 0, on_time, s->expiry);
	return 0;
}

void renew_disarm(chatd_session *s)
{
	if (s->expiry) {
		worker_timer_clear(&s->expiry->timer);
		free(s->expiry);
		s->expiry = NULL;
	}
}

/* ---- another identity ------------------------------------------------------------ */

struct recheck {
	chatd_session *session;
	uint32_t serial;
};

static void rechecked(chatd_call *c, void *arg)
{
	const struct recheck *r = arg;
	struct sub *sub = session_sub(r->session, r->serial);
	if (!sub || call_verdict(c) == CHATD_ACCEPT) {
		return;
	}
	const char *code = call_code(c);
	struct chatd_str why = call_why(c);
	const struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = CHATD_REJECT,
		.code = code ? code : "FORBIDDEN",
		.why = why.p ? why : CHATD_LIT("this subscription has ended") };
	chatd_msg *m = error_message(&o, call_msg(c));
	session_cut_sub(sub);
	if (m) {
		(void)session_send(r->session, m);
	}
	msg_unref(m);
}

static chatd_status ask_again(chatd_session *s, uint32_t serial)
{
	struct sub *sub = session_sub(s, serial);
	if (!sub) {
		return 0; /* ended meanwhile */
	}
	chatd_msg *m = msg_new(dest_text(sub), CHATD_LIT(""));
	chatd_call *c = m ? call_create(s->cw, s, s->ident, m) : NULL;
	struct recheck *r = c ? call_alloc(c, sizeof(*r)) : NULL;
	msg_unref(m);
	if (!r) {
		if (c) {
			call_abandon(c);
		}
		return -ENOMEM;
	}
	*r = (struct recheck){ .session = s, .serial = serial };
	call_set_again(c);
	call_walk(c, session_chain(s, chatd_hook_subscribe), NULL, rechecked, r);
	return 0;
}

/* The hooks may end subscriptions while we go through them: by number, not by pointer. */
static chatd_status ask_again_all(chatd_session *s)
{
	uint32_t n = 0;
	uint32_t *serial = malloc((s->n_subs + 1) * sizeof(*serial));
	chatd_status rc = serial ? 0 : -ENOMEM;
	for (struct sub *sub = s->subs; serial && sub; sub = sub->next) {
		serial[n++] = sub->serial;
	}
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		rc = ask_again(s, serial[i]);
	}
	free(serial);
	return rc;
}

chatd_status session_renew(chatd_session *s, const struct chatd_identity *given)
{
	struct chatd_identity who = { 0 };
	memcpy(&who, given, given->struct_size < sizeof(who) ? given->struct_size : sizeof(who));
	if (!s->ident || !str_eq(ident_user(s->ident), who.user)) {
		return -EPERM;
	}
	if (!who.name.p) {
		who.name = ident_name(s->ident);
	}
	const chatd_ident *next = ident_create_as(&who), *was = s->ident;
	if (!next) {
		return -ENOMEM;
	}
	int same = ident_flags(was) == who.flags && str_eq(ident_roles(was), ident_roles(next));
	s->ident = next;
	ident_unref(was);
	chatd_status rc = renew_arm(s);
	if (rc == 0 && !same && session_is_open(s)) {
		rc = ask_again_all(s);
	}
	if (rc < 0) {
		/* It must not go on with rights that nobody has looked at. */
		session_close(s, 1011, "out of memory");
	}
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Changes: from the home to the workers, and there to the sessions that watch. */
#include "presence.h"

/* A change that is so much older than what was told is no old one: the clock of Redis went back,
 * or another Redis took over.  In units of chatd_presence_state.version of presence-redis. */
static const int64_t long_ago = INT64_C(60000) << 20;

/* ---- to sessions ------------------------------------------------------------------------------ */

static chatd_msg *message(struct at *at, struct chatd_str body)
{
	const struct chatd_host *h = at->self->h;
	chatd_msg *m = h->msg_new(CHATD_LIT(DEST), body);
	if (m &&
			(h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0 ||
					h->msg_flags(m, CHATD_MSG_EPHEMERAL) < 0)) {
		h->msg_unref(m);
		return NULL;
	}
	return m;
}

chatd_status tell_session(struct at *at, chatd_session *session, struct chatd_str body)
{
	chatd_msg *m = message(at, body);
	if (!m) {
		return -ENOMEM;
	}
	/* Whoever has ended the subscription since does not want to hear it. */
	(void)at->self->h->session_send(session, m);
	at->self->h->msg_unref(m);
	return 0;
}

static chatd_msg *event(
		struct at *at, const struct watched *v, const struct chatd_presence_state *s)
{
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "type", CHATD_LIT("PRESENCE"));
	chatd_presence_write(&j, chatd_str_of(v->id, v->n), s);
	chatd_json_time(&j, "timestamp", at->self->h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m = j.failed ? NULL : message(at, chatd_json_str(&j));
	chatd_json_free(&j);
	return m;
}

/* ---- who must not know ------------------------------------------------------------------------- */

const struct chatd_presence_state tell_offline = { .struct_size = sizeof(tell_offline),
	.status = CHATD_PRESENCE_OFFLINE };

int tell_hides(const struct at *at, chatd_session *session, struct chatd_str user)
{
	const struct chatd_host *h = at->self->h;
	return at->self->privacy &&
			chatd_privacy_between(
					at->self->privacy, at->w, h->ident_user(h->session_ident(session)), user);
}

/* Sessions of @p who that watch @p whom hear that it is offline, or what it is. */
static void tell_turn(struct at *at, struct chatd_str who, struct chatd_str whom)
{
	const struct chatd_host *h = at->self->h;
	const struct watched *v = watched_find(at, whom);
	struct entry *e;
	int hidden = chatd_privacy_between(at->self->privacy, at->w, who, whom);
	if (!v || (!hidden && v->state.status == CHATD_PRESENCE_UNKNOWN)) {
		return;
	}
	chatd_msg *m = event(at, v, hidden ? &tell_offline : &v->state);
	LIST_FOREACH (e, &v->watchers, by_user) {
		chatd_session *s = e->watcher->session;
		if (m && !e->op && chatd_str_same(h->ident_user(h->session_ident(s)), who)) {
			(void)h->session_send(s, m);
		}
	}
	h->msg_unref(m);
}

void on_blocked(void *arg, chatd_worker *w, struct chatd_str who, struct chatd_str whom, int32_t on)
{
	struct self *self = arg;
	struct at *at = &self->at[self->h->worker_index(w)];
	(void)on;
	tell_turn(at, who, whom);
	tell_turn(at, whom, who);
}

/* same: only those who were told last that it is not known. */
static void tell_all(struct at *at, const struct watched *v, chatd_msg *m, int same)
{
	struct entry *e;
	int64_t n = 0;
	LIST_FOREACH (e, &v->watchers, by_user) {
		if (!e->op && (!same || e->unknown) &&
				!tell_hides(at, e->watcher->session, chatd_str_of(v->id, v->n))) {
			e->unknown = 0;
			n += at->self->h->session_send(e->watcher->session, m) == 0;
		}
	}
	count(at, at->self->count_told, n);
}

/* ---- what is known ----------------------------------------------------------------------------- */

static int is_old(const struct watched *v, const struct chatd_presence_state *s)
{
	int64_t had = v->state.version;
	return s->version && s->version < had && had - s->version < long_ago;
}

/* 0: no memory for its text. */
static int keep(struct watched *v, const struct chatd_presence_state *s)
{
	char *said = s->text.n ? malloc(s->text.n) : NULL;
	if (s->text.n && !said) {
		return 0;
	}
	int64_t version = s->version ? s->version : v->state.version;
	if (said) {
		memcpy(said, s->text.p, s->text.n);
	}
	free((void *)(uintptr_t)v->state.text.p);
	v->state = *s;
	v->state.version = version;
	v->state.text = chatd_str_of(said, s->text.n);
	return 1;
}

static int is_any_unknown(const struct watched *v)
{
	const struct entry *e;
	LIST_FOREACH (e, &v->watchers, by_user) {
		if (e->unknown && !e->op) {
			return 1;
		}
	}
	return 0;
}

void watched_update(struct at *at, struct watched *v, const struct chatd_presence_state *s)
{
	if (s->status == CHATD_PRESENCE_UNKNOWN || is_old(v, s)) {
		return;
	}
	int same = v->state.status == s->status && chatd_str_same(v->state.text, s->text);
	int tells = !same || is_any_unknown(v);
	chatd_msg *m = tells ? event(at, v, s) : NULL;
	if ((tells && !m) || !keep(v, s)) {
		at->self->h->msg_unref(m);
		sync_begin(at); /* it will be asked about again when there is memory */
		return;
	}
	if (m) {
		tell_all(at, v, m, same);
	}
	at->self->h->msg_unref(m);
}

/* ---- from the home ------------------------------------------------------------------------------- */

struct change {
	struct at *at;
	struct chatd_presence_state state;
	size_t n;
	char id[]; /* and the text */
};

static void on_change(void *arg)
{
	struct change *c = arg;
	struct at *at = c->at;
	struct watched *v = watched_find(at, chatd_str_of(c->id, c->n));
	if (v) {
		watched_update(at, v, &c->state);
	}
	at->self->h->mem_free(c);
}

static int hand_over(struct at *at, struct chatd_str user, const struct chatd_presence_state *s)
{
	const struct chatd_host *h = at->self->h;
	struct change *c = h->mem_alloc(sizeof(*c) + user.n + s->text.n);
	if (!c) {
		return 0;
	}
	*c = (struct change){ .at = at, .state = *s, .n = user.n };
	memcpy(c->id, user.p, user.n);
	if (s->text.n) {
		memcpy(c->id + user.n, s->text.p, s->text.n);
		c->state.text.p = c->id + user.n;
	}
	if (h->post(worker_of(at), on_change, c) < 0) {
		h->mem_free(c);
		return 0;
	}
	return 1;
}

void on_changed(
		void *arg, chatd_worker *w, struct chatd_str user, const struct chatd_presence_state *s)
{
	struct self *self = arg;
	unsigned bucket = (unsigned)chatd_hash(&self->key, user.p, user.n) % BUCKETS;
	(void)w;
	for (int32_t i = 0; i < self->workers; i++) {
		struct at *at = &self->at[i];
		if (at->interest[bucket] && !hand_over(at, user, s)) {
			at->missed = 1;
		}
	}
}

static void on_missed(void *arg)
{
	sync_begin(arg);
}

void on_tick(void *arg)
{
	struct self *self = arg;
	for (int32_t i = 0; i < self->workers; i++) {
		struct at *at = &self->at[i];
		if (at->missed && self->h->post(worker_of(at), on_missed, at) == 0) {
			at->missed = 0;
		}
	}
}

static void on_heard_of(void *arg)
{
	sync_known(arg, 1);
}

static void on_deaf(void *arg)
{
	sync_known(arg, 0);
}

void on_known(void *arg, chatd_worker *w, int32_t known)
{
	struct self *self = arg;
	(void)w;
	for (int32_t i = 0; i < self->workers; i++) {
		(void)self->h->post(worker_of(&self->at[i]), known ? on_heard_of : on_deaf, &self->at[i]);
	}
}

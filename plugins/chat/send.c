/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a message: read it, ask whether the target may be written to, look whether it
 * was sent before, publish it, answer.  Whatever needs no other worker is done at once. */
#include "send.h"

static void send_free(struct send *s)
{
	message_free(&s->draft);
	s->self->h->msg_unref(s->msg);
	s->self->h->mem_free(s->files);
	s->self->h->mem_free(s);
}

void send_refuse(struct send *s, const char *code, const char *why)
{
	s->code = code;
	s->why = why;
}

/* ---- the answer ---------------------------------------------------------------------- */

static void reply(struct send *s, chatd_call *call)
{
	const struct chatd_host *h = s->self->h;
	char seq[24];
	h->reply(call, "message-id", text(s->id));
	if (s->epoch[0]) {
		snprintf(seq, sizeof(seq), "%lld", (long long)s->seq);
		h->reply(call, "seq", text(seq));
		h->reply(call, "epoch", text(s->epoch));
	}
}

static chatd_verdict finish_now(struct send *s, chatd_call *call)
{
	const struct chatd_host *h = s->self->h;
	chatd_verdict v = CHATD_ACCEPT;
	if (s->code) {
		v = h->reject(call, s->code, "%s", s->why);
	} else {
		reply(s, call);
	}
	send_free(s);
	return v;
}

static void finish_later(struct send *s)
{
	const struct chatd_host *h = s->self->h;
	chatd_call *call = h->call_of(s->from, s->token);
	if (call && !s->code) {
		reply(s, call);
	} else if (call) {
		stored_until(s->self, call, s->until);
	}
	(void)h->resume(s->token, s->code ? CHATD_REJECT : CHATD_ACCEPT, s->code, s->why);
	send_free(s);
}

/* ---- delivery ------------------------------------------------------------------------ */

static chatd_status publish(struct send *s, chatd_worker *w)
{
	const struct chatd_host *h = s->self->h;
	if (s->room[0]) {
		return h->publish(w, s->msg);
	}
	chatd_status rc = h->publish_user(w, text(s->to), s->msg);
	if (rc == 0 && strcmp(s->to, s->user) != 0) {
		rc = h->publish_user(w, text(s->user), s->msg); /* the echo on one's own devices */
	}
	return rc;
}

static void deliver_new(struct send *s, chatd_worker *w, const struct dedupe_item *noted)
{
	struct worker *at = s->self->h->worker_self(s->self->ctx, w);
	if (publish(s, w) < 0) {
		if (noted) {
			dedupe_drop(at->dedupe, noted);
		}
		send_refuse(s, "UNAVAILABLE", "the server has no memory left");
	}
}

/* On @p w: the sender's home, or any worker when there is nothing to compare. */
static void deliver(struct send *s, chatd_worker *w)
{
	const struct chatd_host *h = s->self->h;
	struct worker *at = h->worker_self(s->self->ctx, w);
	if (!s->client_id.n || !at->dedupe) {
		deliver_new(s, w, NULL);
		return;
	}
	struct dedupe_item item = {
		.user = text(s->user), .client_id = s->client_id, .content = s->content, .now = h->now_ms(w)
	};
	memcpy(item.id, s->id, sizeof(item.id));
	switch (dedupe_take(at->dedupe, &item, s->id)) {
	case DEDUPE_NEW:
		deliver_new(s, w, &item);
		break;
	case DEDUPE_SAME:
		break;
	case DEDUPE_OTHER:
		send_refuse(s, "DUPLICATE_ID_MISMATCH", "this clientId was used for another message");
		break;
	case DEDUPE_FAIL:
		send_refuse(s, "UNAVAILABLE", "the server has no memory left");
		break;
	}
}

/* With a store the conversation's worker, which gives the order; else the sender's. */
static chatd_worker *home_of(const struct send *s)
{
	if (s->self->store) {
		return log_home(s->self, text(s->room));
	}
	return s->client_id.n ? log_home(s->self, text(s->user)) : s->from;
}

static void on_back(void *arg)
{
	finish_later(arg);
}

void send_settle(struct send *s, chatd_worker *home)
{
	if (home == s->from) {
		finish_later(s);
	} else if (s->self->h->post(s->from, on_back, s) < 0) {
		send_free(s);
	}
}

static void at_home(struct send *s, chatd_worker *home)
{
	if (s->self->store) {
		stored_append(s, home);
		return;
	}
	deliver(s, home);
	send_settle(s, home);
}

static void on_home(void *arg)
{
	struct send *s = arg;
	at_home(s, home_of(s));
}

/* The target may be written to; the call is parked. */
static void go_on(struct send *s)
{
	chatd_worker *home = home_of(s);
	if (home == s->from) {
		at_home(s, home);
	} else if (s->self->h->post(home, on_home, s) < 0) {
		send_refuse(s, "UNAVAILABLE", "the server is stopping");
		finish_later(s);
	}
}

/* ---- may the target be written to? ---------------------------------------------------- */

static struct known *known_place(struct worker *at, struct chatd_str id)
{
	if (!at->known) {
		at->known = at->self->h->mem_alloc(KNOWN_MAX * sizeof(*at->known));
	}
	uint64_t hash = chatd_hash(&at->self->key, id.p, id.n);
	return at->known ? &at->known[hash % KNOWN_MAX] : NULL;
}

static int is_known(struct worker *at, struct chatd_str id)
{
	const struct known *k = known_place(at, id);
	return k && k->until > at->self->h->now_ms(at->w) && chatd_str_same(text(k->id), id);
}

static void note_known(struct worker *at, struct chatd_str id)
{
	struct known *k = known_place(at, id);
	if (k) {
		chatd_str_copy(k->id, sizeof(k->id), id);
		k->until = at->self->h->now_ms(at->w) + KNOWN_MS;
	}
}

static void account_done(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct send *s = arg;
	(void)a;
	if (rc == 0) {
		note_known(s->self->h->worker_self(s->self->ctx, s->from), text(s->to));
		go_on(s);
		return;
	}
	if (rc == -ENOENT) {
		send_refuse(s, "NOT_FOUND", "there is no such user");
	} else if (rc == -ENOMEM || !s->self->store) {
		send_refuse(s, "UNAVAILABLE", "accounts cannot be looked up now");
	} else {
		send_refuse(s, "STORE_BUSY", "accounts cannot be looked up now; try again");
	}
	finish_later(s);
}

static int needs_lookup(const struct send *s, struct worker *at)
{
	return !s->room[0] && s->self->accounts && strcmp(s->to, s->user) != 0 &&
			!is_known(at, text(s->to));
}

static chatd_status start_lookup(struct send *s)
{
	const struct chatd_accounts *accounts = s->self->accounts->vt;
	return accounts->by_id(s->self->accounts->obj, s->from, text(s->to), account_done, s);
}

/* ---- the beginning -------------------------------------------------------------------- */

/* Of what is compared after a restart; who finds two messages alike fools only himself. */
static const struct chatd_hash_key lasting[2] = { { { 1, 2 } }, { { 3, 4 } } };

static chatd_msg *make_message(struct send *s, const struct message_draft *d, chatd_call *call)
{
	const struct chatd_host *h = s->self->h;
	const chatd_ident *who = h->call_ident(call);
	struct chatd_str facts = h->msg_get(h->call_msg(call), FACTS_HEADER);
	char room[2048], dest[sizeof(ROOM_TOPIC) + CHATD_ID_MAX] = INBOX;
	struct chatd_json j;
	struct chatd_str name = h->ident_name(who);
	h->new_id(s->id);
	s->wall = h->wall_ms();
	s->flags = h->ident_flags(who) & CHATD_ID_ANONYMOUS ? CHATD_STORE_GUEST : 0;
	s->unchecked = (h->ident_flags(who) & CHATD_ID_SYSTEM) != 0;
	struct message_stamp stamp = { .id = text(s->id),
		.sender = text(s->user),
		.sender_name = name.n ? name : chatd_str_of(NULL, 0),
		.now = s->wall,
		.bot = (h->ident_flags(who) & CHATD_ID_BOT) != 0 };
	chatd_json_init(&j, room, sizeof(room));
	size_t own = message_write(&j, d, &stamp);
	if (!j.failed) {
		s->content = chatd_hash(&s->self->key, j.p + own, j.n - own);
		s->hash[0] = chatd_hash(&lasting[0], j.p + own, j.n - own);
		s->hash[1] = chatd_hash(&lasting[1], j.p + own, j.n - own);
	}
	/* Not compared: a repeat is one also when a file has gone since, and nothing is known of it. */
	if (facts.n && d->attachments && !j.failed) {
		message_add_facts(&j, own, d, facts);
	}
	if (s->room[0]) {
		snprintf(dest, sizeof(dest), ROOM_TOPIC "%s", s->room);
	}
	chatd_msg *m = j.failed ? NULL : h->msg_with_id(s->id, text(dest), chatd_json_str(&j));
	chatd_json_free(&j);
	return m;
}

static chatd_status set_headers(const struct chatd_host *h, chatd_msg *m, const chatd_msg *from)
{
	struct chatd_str trace = h->msg_get(from, "traceparent");
	chatd_status rc = h->msg_set(m, "content-type", CHATD_LIT("application/json"));
	return rc == 0 && trace.p ? h->msg_set(m, "traceparent", trace) : rc;
}

/* What a hook has found among the attachments; the store asks whether the sender may pass them
 * on, so that nobody gains by setting this header himself. */
static chatd_status take_files(struct send *s, const chatd_msg *from)
{
	const struct chatd_host *h = s->self->h;
	struct chatd_str files = h->msg_get(from, FILES_HEADER);
	if (!files.n || !s->self->store) {
		return 0;
	}
	s->files = h->mem_alloc(files.n + 1);
	if (!s->files) {
		return -ENOMEM;
	}
	memcpy(s->files, files.p, files.n);
	return 0;
}

static struct send *send_create(struct self *self, chatd_call *call, struct message_draft *d)
{
	const struct chatd_host *h = self->h;
	struct send *s = h->mem_alloc(sizeof(*s));
	if (!s) {
		message_free(d);
		return NULL;
	}
	s->self = self;
	s->draft = *d; /* and its texts */
	s->from = h->call_worker(call);
	chatd_str_copy(s->user, sizeof(s->user), h->ident_user(h->call_ident(call)));
	chatd_str_copy(s->to, sizeof(s->to), d->to);
	chatd_str_copy(s->room, sizeof(s->room), d->room);
	if (d->client_id.n) {
		memcpy(s->text, d->client_id.p, d->client_id.n);
		s->client_id = chatd_str_of(s->text, d->client_id.n);
	}
	s->msg = make_message(s, d, call);
	if (!s->msg || set_headers(h, s->msg, h->call_msg(call)) < 0 ||
			take_files(s, h->call_msg(call)) < 0) {
		send_free(s);
		return NULL;
	}
	return s;
}

static chatd_verdict start(struct send *s, chatd_call *call, struct worker *at)
{
	const struct chatd_host *h = s->self->h;
	int lookup = needs_lookup(s, at);
	chatd_worker *home = home_of(s);
	if (!lookup && home == s->from && !s->self->store) {
		deliver(s, home);
		return finish_now(s, call);
	}
	s->token = h->suspend(call, NULL, NULL);
	if (!s->token) {
		send_free(s);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	/* The store keeps the order in which it is asked; accounts need not. */
	if (s->self->store && !lookup) {
		h->go_on(call);
	}
	if (!lookup) {
		go_on(s);
	} else if (start_lookup(s) < 0) {
		send_refuse(s, "UNAVAILABLE", "the server has no memory left");
		finish_later(s);
	}
	return CHATD_WAIT;
}

static chatd_verdict refuse_target(struct self *self, chatd_call *call, int is_room)
{
	return is_room ? self->h->reject(call, "NOT_MEMBER",
							 "you are not a member of this room, or there is no such room")
				   : self->h->reject(call, "NOT_FOUND", "there is no such user");
}

chatd_verdict on_send(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const struct message_limits limits = { self->conf->max_content, self->conf->max_bytes,
		self->conf->max_encrypted };
	struct message_draft d;
	struct message_fault f;
	chatd_status rc = message_read(h->msg_body(h->call_msg(call)), &limits, &d, &f);
	if (f.client_id[0]) {
		h->reply(call, "clientId", text(f.client_id));
	}
	if (rc < 0) {
		return h->reject(call, f.code, "%s", f.why);
	}
	chatd_verdict v;
	struct refusal no =
			blocked(self, h->call_worker(call), h->ident_user(h->call_ident(call)), d.to);
	if (no.code) {
		v = h->reject(call, no.code, "%s", no.why);
	} else if (d.bad_target || (d.room.p && !self->store)) {
		v = refuse_target(self, call, d.room.p != NULL);
	} else {
		struct send *s = send_create(self, call, &d);
		v = s ? start(s, call, wself) : -ENOMEM;
		return v;
	}
	message_free(&d);
	return v;
}
